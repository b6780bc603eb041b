#!/usr/bin/env bash
# Sets up what a build needs: checks the tools, then finds or fetches libtorch 2.11.0 (CPU).
#
#   deploy/setup.sh            check and fetch; safe to run again, does nothing the second time
#   source deploy/setup.sh     the same, and exports LIBTORCH into this shell
#
# libtorch is taken from, in this order:
#   1. $LIBTORCH, a libtorch 2.11 folder or the `torch` folder of an installed PyTorch 2.11
#   2. the per-user cache ($CONCLAVE_CACHE, else $XDG_CACHE_HOME/conclave, else ~/.cache/conclave)
#   3. the `torch` wheel of the Python package index: 544 MB, once per user, checksums pinned below
# It also writes .cargo/config.toml (not tracked), so that a plain `cargo build` finds libtorch.

conclave_setup() {
    local here torch_version=2.11.0 missing=0
    here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)" || return 1
    say() { printf '  setup: %s\n' "$*" >&2; }
    lack() { printf '  setup: MISSING %s\n         %s\n' "$1" "$2" >&2; missing=1; }

    command -v cargo >/dev/null || lack "cargo (Rust 1.95 or newer)" "install Rust with rustup, then open a new shell"
    command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null ||
        lack "a C++ compiler" "on Debian or Ubuntu: apt-get install build-essential"
    command -v python3 >/dev/null || lack "python3" "on Debian or Ubuntu: apt-get install python3 python3-pip"
    command -v sha256sum >/dev/null || lack "sha256sum" "on Debian or Ubuntu: apt-get install coreutils"
    [ "$missing" = 0 ] || return 1

    local cache="${CONCLAVE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conclave}"
    local dir="$cache/libtorch-$torch_version-cpu"
    if [ -n "${LIBTORCH:-}" ] && [ "$LIBTORCH" != "$dir" ]; then
        conclave_adopt "$LIBTORCH" "$torch_version" "$cache" || return 1
    else
        [ -f "$dir/build-version" ] || conclave_fetch "$dir" "$torch_version" || return 1
        export LIBTORCH="$dir"
    fi
    say "libtorch $torch_version: $LIBTORCH"

    mkdir -p "$here/.cargo" || return 1
    local config="[env]
LIBTORCH = \"$LIBTORCH\""
    [ "$(cat "$here/.cargo/config.toml" 2>/dev/null)" = "$config" ] ||
        printf '%s\n' "$config" >"$here/.cargo/config.toml" || return 1
}

# $1 a folder that the user named: it must be libtorch 2.11, or the torch folder of PyTorch 2.11.
# A view of it without the CUDA libraries is linked, so that the binaries need only torch_cpu and
# c10; libtorch_cuda.so is opened from the real folder at run time.
conclave_adopt() {
    local from="$1" want="$2" cache="$3" got view
    got="$(cat "$from/build-version" 2>/dev/null)"
    [ -n "$got" ] || got="$(sed -n "s/^__version__ = '\(.*\)'/\1/p" "$from/version.py" 2>/dev/null)"
    if [ "${got%%+*}" != "$want" ]; then
        say "LIBTORCH=$from holds libtorch '${got:-of unknown version}', but $want is needed; unset LIBTORCH to fetch it"
        return 1
    fi
    [ -f "$from/lib/libtorch_cuda.so" ] || { export LIBTORCH="$from"; return 0; }
    view="$cache/view-$(printf %s "$from" | sha256sum | cut -c1-12)"
    rm -rf "$view" && mkdir -p "$view/lib" && ln -s "$from/include" "$view/include" || return 1
    for lib in libtorch_cpu.so libc10.so; do ln -s "$from/lib/$lib" "$view/lib/$lib" || return 1; done
    for lib in "$from"/lib/libgomp*; do
        [ -e "$lib" ] && { ln -s "$lib" "$view/lib/${lib##*/}"; ln -sf "$lib" "$view/lib/libgomp.so"; }
    done
    echo 'INPUT(libtorch_cpu.so)' >"$view/lib/libtorch.so"
    echo "$want" >"$view/build-version"
    export LIBTORCH="$view"
}

# Fetches the three wheels, verifies them, and lays out $1.
conclave_fetch() {
    local dir="$1" version="$2" tmp
    if [ "$(uname -sm)" != "Linux x86_64" ]; then
        say "libtorch is fetched for Linux x86_64 only, this is $(uname -sm); install PyTorch $version and set LIBTORCH to its folder"
        return 1
    fi
    python3 -m pip --version >/dev/null 2>&1 || {
        lack "pip for python3" "on Debian or Ubuntu: apt-get install python3-pip"
        return 1
    }
    mkdir -p "$(dirname "$dir")" || return 1
    tmp="$(mktemp -d "$dir.tmp.XXXXXX")" || return 1
    say "fetching libtorch $version (544 MB, once per user) into $dir"
    if conclave_fetch_into "$tmp" "$version" && mv -T "$tmp/libtorch" "$dir" 2>/dev/null || [ -f "$dir/build-version" ]; then
        rm -rf "$tmp"
    else
        rm -rf "$tmp"
        say "libtorch could not be set up; see the lines above. With a PyTorch $version at hand, set LIBTORCH to its folder instead"
        return 1
    fi
}

conclave_fetch_into() {
    local tmp="$1" version="$2"
    cat >"$tmp/sums" <<SUMS
7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a  $tmp/torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl
7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548  $tmp/nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl
4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8  $tmp/nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl
SUMS
    python3 -m pip download --no-deps --only-binary=:all: --no-cache-dir --disable-pip-version-check \
        --implementation cp --python-version 3.11 --abi cp311 --abi none \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux2014_x86_64 \
        -d "$tmp" torch==2.11.0 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85 >&2 || {
        say "download failed: is the Python package index reachable from here?"
        return 1
    }
    sha256sum --check --quiet "$tmp/sums" >&2 || {
        say "a checksum differs from the pinned one: the download is damaged or was altered; nothing was installed"
        return 1
    }
    say "checksums verified, unpacking"
    python3 - "$tmp" <<'PY' || return 1
import glob, os, shutil, sys, zipfile
tmp = sys.argv[1]
out = os.path.join(tmp, "libtorch")
libs = {"torch/lib/libtorch_cpu.so", "torch/lib/libc10.so", "torch/lib/libgomp.so.1",
        "nvidia/cu13/lib/libcudart.so.13", "nvidia/cu13/lib/libcupti.so.13"}
for wheel in glob.glob(os.path.join(tmp, "*.whl")):
    with zipfile.ZipFile(wheel) as z:
        for name in z.namelist():
            if name in libs:
                to = os.path.join(out, "lib", os.path.basename(name))
            elif name.startswith("torch/include/") and not name.endswith("/"):
                to = os.path.join(out, name[len("torch/"):])
            else:
                continue
            os.makedirs(os.path.dirname(to), exist_ok=True)
            with z.open(name) as src, open(to, "wb") as dst:
                shutil.copyfileobj(src, dst, 1 << 20)
have = set(os.listdir(os.path.join(out, "lib")))
lost = {os.path.basename(l) for l in libs} - have
if lost:
    sys.exit("  setup: the wheels do not hold " + ", ".join(sorted(lost)))
PY
    ln -s libgomp.so.1 "$tmp/libtorch/lib/libgomp.so"
    echo 'INPUT(libtorch_cpu.so)' >"$tmp/libtorch/lib/libtorch.so"
    echo "$version" >"$tmp/libtorch/build-version"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -u
    conclave_setup
else
    conclave_setup || return 1
fi
