#!/usr/bin/env bash
# Shows that pulled weights load in plain PyTorch and predict what the coordinator predicts.
#
#   deploy/check-pytorch.sh DIR ANSWERS.json     see deploy/check_pytorch.py for both
#   deploy/check-pytorch.sh --setup              only find or install PyTorch
#
# Any python3 that imports torch and safetensors will do ($PYTHON is tried first). Where there is none,
# a root user on Debian or Ubuntu gets the distribution's python3-torch, and safetensors goes into
# the per-user cache; elsewhere the script fails and says what to install. It never skips.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${CONCLAVE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conclave}"
# Works with the PyTorch 1.13 of Debian 12 and with later ones.
safetensors=0.5.3
extra="$cache/python-safetensors-$safetensors"

say() { printf '  pytorch: %s\n' "$*" >&2; }

# Prints the first python that can load weights.
find_python() {
    local python
    for python in "${PYTHON:-}" python3 /usr/bin/python3; do
        if [ -n "$python" ] && PYTHONPATH="$extra${PYTHONPATH:+:$PYTHONPATH}" "$python" -W ignore \
            -c 'import torch, safetensors.torch' 2>/dev/null; then
            printf '%s\n' "$python"
            return 0
        fi
    done
    return 1
}

has_torch() { "$1" -W ignore -c 'import torch' 2>/dev/null; }

install() {
    if ! has_torch python3 && ! has_torch /usr/bin/python3; then
        if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
            say "no python3 here imports torch; install PyTorch (Debian, Ubuntu: apt-get install python3-torch;"
            say "elsewhere: python3 -m pip install torch safetensors), or name a python that has it in PYTHON"
            return 1
        fi
        say "installing the distribution's python3-torch, once"
        apt-get install -y -qq --no-install-recommends python3-torch >/dev/null 2>&1 ||
            { apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends python3-torch >/dev/null; } ||
            { say "apt-get could not install python3-torch"; return 1; }
    fi
    find_python >/dev/null && return 0
    say "fetching safetensors $safetensors into $extra, once"
    rm -rf "$extra.tmp"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
        --only-binary=:all: --target "$extra.tmp" "safetensors==$safetensors" >&2 ||
        { say "pip could not fetch safetensors: is the Python package index reachable?"; return 1; }
    rm -rf "$extra" && mv "$extra.tmp" "$extra"
}

python="$(find_python)" || { install && python="$(find_python)"; } || {
    say "FAILED: there is no python with torch and safetensors; see the lines above"
    exit 1
}
say "using $python"
[ "${1:-}" = --setup ] && exit 0
[ $# = 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
PYTHONPATH="$extra${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -W ignore "$here/check_pytorch.py" "$1" "$2"
