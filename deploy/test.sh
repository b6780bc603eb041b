#!/usr/bin/env bash
# Every check there is, cheapest first; stops at the first that fails and says why.
#
#   deploy/test.sh            everything, the demo last
#   deploy/test.sh --quick    without the demo
set -uo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

quick=0
for argument in "$@"; do
    case "$argument" in
        --quick) quick=1 ;;
        -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) printf 'error: %s is no option of this script, see --help\n' "$argument" >&2; exit 2 ;;
    esac
done

logs="$(mktemp -d "${TMPDIR:-/tmp}/conclave-test.XXXXXX")" || exit 1
trap 'rm -rf "$logs"' EXIT
table=""
began="$EPOCHREALTIME"

since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

# The table of steps, and the sum of what cargo's test programs reported.
closing() {
    printf '\n%s  %-44s %8s s\n' "$table" "all" "$(since "$began")"
    cat "$logs"/*.log 2>/dev/null | awk '/^test result: / {
        for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) passed += $(i - 1); if ($i ~ /^failed/) failed += $(i - 1) }
    } END { printf "%d passed, %d failed\n", passed, failed }'
}

# step NAME COMMAND...: runs it, shows its output, notes its time.
step() {
    local name="$1" start="$EPOCHREALTIME" log status
    shift
    log="$logs/$(printf %s "$name" | tr -c 'a-z0-9' '-').log"
    printf '\n== %s ==\n' "$name"
    "$@" 2>&1 | tee "$log"
    status="${PIPESTATUS[0]}"
    table+="$(printf '  %-44s %8s s  %s' "$name" "$(since "$start")" "$([ "$status" = 0 ] && echo ok || echo FAILED)")"$'\n'
    [ "$status" = 0 ] && return 0
    printf '\nFAILED: %s (exit %s)\n  command: %s\n' "$name" "$status" "$*"
    closing
    exit 1
}

scripts() {
    local script status=0
    for script in deploy/*.sh .ci/run; do
        bash -n "$script" || status=1
    done
    python3 - deploy/*.py <<'PY' || status=1
import ast, pathlib, sys
for name in sys.argv[1:]:
    ast.parse(pathlib.Path(name).read_text(), name)
PY
    return "$status"
}

docs() { RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked; }

step "scripts" scripts
step "setup" deploy/setup.sh
# Sourced as well: LIBTORCH is needed by everything below.
source deploy/setup.sh 2>/dev/null || exit 1
step "format" cargo fmt --all --check
step "lints" cargo clippy --workspace --all-targets --locked -- -D warnings
step "documentation" docs
step "tests without libtorch" cargo test --locked --no-fail-fast -p model -p coordinator -p worker --no-default-features
# Tests of real processes wait more than they compute: one more at a time than the two cores that are assumed.
step "tests" env RUST_TEST_THREADS="${RUST_TEST_THREADS:-3}" cargo test --workspace --locked --no-fail-fast
[ "$quick" = 1 ] || step "demo" deploy/demo.sh --profile dev --check-pytorch
closing
