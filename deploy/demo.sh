#!/usr/bin/env bash
# The whole product, small, on this host: sets up libtorch, builds, starts a coordinator and three
# workers with mutual TLS, trains on iris, and asks the model for predictions in three ways.
#
#   deploy/demo.sh [--keep] [--profile dev|release] [--workers N] [--check-pytorch]
#
#   --keep            leave everything running and say how to use and stop it
#   --profile         which build, release by default
#   --workers N       1 to 26, 3 by default
#   --check-pytorch   load the pulled weights in plain PyTorch as well (may install PyTorch)
#
# Exits 0 only if all of it worked. Leaves nothing behind but the build and the per-user cache.
set -Eeuo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
repo="$PWD"

usage() { sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
wrong() { printf 'error: %s\n\n' "$1" >&2; usage >&2; exit 2; }

keep=0 profile=release workers=3 pytorch=0
while [ $# -gt 0 ]; do
    case "$1" in
        --keep) keep=1 ;;
        --check-pytorch) pytorch=1 ;;
        --profile) profile="${2:-}"; shift || true ;;
        --workers) workers="${2:-}"; shift || true ;;
        -h | --help) usage; exit 0 ;;
        *) wrong "$1 is no option of this script" ;;
    esac
    shift || wrong "the last option needs a value"
done
case "$profile" in dev | release) ;; *) wrong "--profile is dev or release, not '$profile'" ;; esac
[[ "$workers" =~ ^[0-9]+$ ]] && [ "$workers" -ge 1 ] && [ "$workers" -le 26 ] ||
    wrong "--workers is 1 to 26, not '$workers'"
for tool in curl python3 cargo; do
    command -v "$tool" >/dev/null || { printf 'error: this demo needs %s: install it and start again\n' "$tool" >&2; exit 1; }
done

# --- what is started, and how it ends --------------------------------------------------------------

home="" stage="start" stage_began="$EPOCHREALTIME" began="$EPOCHREALTIME"
pids=() times=()

since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

# Ends the stage before, notes its time, and opens the next.
stage() {
    [ "$stage" = start ] || times+=("$(printf '  %-34s %6s s' "$stage" "$(since "$stage_began")")")
    stage="$1" stage_began="$EPOCHREALTIME"
    [ -z "$1" ] || printf '\n== %s ==\n' "$1"
}

running() { kill -0 "$1" 2>/dev/null; }

stop_all() {
    local pid
    # Workers first: they say goodbye.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do kill -TERM "${pids[i]}" 2>/dev/null || true; done
    for _ in $(seq 300); do
        for pid in "${pids[@]}"; do running "$pid" && { sleep 0.05; continue 2; }; done
        break
    done
    for pid in "${pids[@]}"; do running "$pid" && kill -KILL "$pid" 2>/dev/null; done
    wait 2>/dev/null || true
}

finish() {
    local status=$?
    trap - EXIT ERR
    trap '' INT TERM
    if [ "$status" = 130 ] || [ "$status" = 143 ]; then
        printf '\ninterrupted in stage "%s"\n' "$stage" >&2
    elif [ "$status" != 0 ]; then
        printf '\nFAILED in stage "%s" (exit %s)\n' "$stage" "$status" >&2
        if [ -n "$home" ]; then
            for log in "$home"/log/*.log; do
                [ -s "$log" ] && { printf '\n--- last lines of %s ---\n' "${log##*/}"; tail -n 15 "$log"; } >&2
            done
        fi
        printf '\nWhat to do: read the lines above; run it again with --keep to look around afterwards;\n' >&2
        printf 'CONCLAVE_LOG=debug makes the logs longer.\n' >&2
    fi
    if [ "$keep" = 1 ] && [ -n "$home" ]; then
        printf '\nKept: %s\n' "$home"
        if [ ${#pids[@]} -gt 0 ]; then
            printf 'Still running: processes %s\n' "${pids[*]}"
            printf 'Stop and remove: kill %s; rm -rf %s\n' "${pids[*]}" "$home"
        fi
    else
        [ ${#pids[@]} -eq 0 ] || stop_all
        [ -z "$home" ] || rm -rf "$home"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# in_background NAME COMMAND...: output goes to log/NAME.log; the process id to $!.
in_background() {
    local name="$1"
    shift
    "$@" >"$home/log/$name.log" 2>&1 </dev/null &
    pids+=("$!")
}

# wait_for SECONDS WHAT PID COMMAND...: until the command works; fails when the process ends before.
wait_for() {
    local limit="$1" what="$2" pid="$3" start="$EPOCHREALTIME"
    shift 3
    until "$@" >/dev/null 2>&1; do
        running "$pid" || { printf 'error: the process ended before %s\n' "$what" >&2; return 1; }
        awk -v a="$start" -v b="$EPOCHREALTIME" -v l="$limit" 'BEGIN { exit !(b - a > l) }' &&
            { printf 'error: waited %s s for %s\n' "$limit" "$what" >&2; return 1; }
        sleep 0.05
    done
}

show() { printf '$ %s\n' "$*"; "$@"; }

# --- the demo --------------------------------------------------------------------------------------

stage "1/8 set up libtorch"
deploy/setup.sh
source deploy/setup.sh 2>/dev/null

stage "2/8 build ($profile)"
cargo build --locked --profile "$profile" -p coordinator -p worker -p cli --bins --example infer
bin="${CARGO_TARGET_DIR:-$repo/target}/$([ "$profile" = dev ] && echo debug || echo release)"
# Absolute, also when CARGO_TARGET_DIR is not.
export PATH="$(cd "$bin" && pwd):$PATH"

stage "3/8 coordinator: init and serve"
umask 077
home="$(mktemp -d "${TMPDIR:-/tmp}/conclave-demo.XXXXXX")"
mkdir "$home/log"
show conclave-coordinator init --home "$home/coordinator" --name localhost --name 127.0.0.1
in_background coordinator conclave-coordinator serve --home "$home/coordinator" --listen 127.0.0.1:0 --http 127.0.0.1:0
coordinator_pid="${pids[0]}"
addresses="$home/coordinator/addresses.json"
wait_for 30 "the coordinator wrote its addresses" "$coordinator_pid" test -s "$addresses"
address() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$addresses" "$1"; }
grpc="$(address grpc)" http="$(address http)"
wait_for 30 "the coordinator was ready" "$coordinator_pid" curl -fsS --max-time 5 "http://$http/readyz"
export CONCLAVE_HOME="$home/coordinator"
printf 'mTLS on %s, predictions over HTTP on %s\n' "$grpc" "$http"

stage "4/8 $workers workers join"
letters=abcdefghijklmnopqrstuvwxyz
for ((i = 0; i < workers; i++)); do
    name="hospital-${letters:i:1}"
    # The token stays out of the list of processes.
    printf '$ conclave invite worker %s | conclave-worker join\n' "$name"
    conclave invite worker "$name" >"$home/token" 2>"$home/log/invite.log"
    conclave-worker join --coordinator "$grpc" --token-file "$home/token" --home "$home/$name" --name "$name"
    rm "$home/token"
    in_background "$name" conclave-worker run --home "$home/$name"
done
for ((i = 0; i < workers; i++)); do
    name="hospital-${letters:i:1}"
    wait_for 60 "$name registered" "${pids[i + 1]}" grep -q registered "$home/log/$name.log"
done
show conclave worker ls

stage "5/8 one run of 20 rounds"
job="$repo/deploy/jobs/iris.toml"
if [ "$workers" != 3 ]; then
    # The shipped job is for three workers.
    sed "s/^cohort = .*/cohort = { min = $((workers < 2 ? 1 : 2)), max = $workers }/" "$job" >"$home/iris.toml"
    cp "$repo/deploy/jobs/iris.csv" "$home/"
    job="$home/iris.toml"
fi
cat "$job"
printf '\n'
show conclave run start "$job" --watch

stage "6/8 the model: pull and predict"
show conclave model ls
show conclave model pull iris --to "$home/pulled"
test -s "$home/pulled/model.safetensors" && test -s "$home/pulled/manifest.json"
# One flower of each species, measured by Fisher in 1936: setosa, versicolor, virginica.
printf '5.1,3.5,1.4,0.2\n7.0,3.2,4.7,1.4\n6.3,3.3,6.0,2.5\n' >"$home/flowers.csv"
show conclave predict iris --input "$home/flowers.csv"
conclave predict iris --input "$home/flowers.csv" --output json >"$home/grpc.json"
body='{"inputs":[{"name":"input","shape":[3,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2,7.0,3.2,4.7,1.4,6.3,3.3,6.0,2.5]}]}'
printf "$ curl -d '%s' http://%s/v2/models/iris/infer\n" "$body" "$http"
curl -fsS --max-time 30 -H 'Content-Type: application/json' -d "$body" "http://$http/v2/models/iris/infer" >"$home/http.json"
cat "$home/http.json"
printf '\n'

# gRPC, as any client of the Open Inference Protocol: a small program of one's own, cli/examples/infer.rs.
printf "$ cargo run -p cli --example infer -- %s iris\n" "$CONCLAVE_HOME"
"$bin/examples/infer" "$CONCLAVE_HOME" iris <"$home/flowers.csv" | tee "$home/own.json"

stage "7/8 compare the answers"
python3 - "$home" <<'PY'
import json, pathlib, sys

home = pathlib.Path(sys.argv[1])
grpc = json.loads((home / "grpc.json").read_text())
http = json.loads((home / "http.json").read_text())
outputs = {output["name"]: output for output in http["outputs"]}
labels = outputs["label"]["data"]
rows, classes = outputs["probabilities"]["shape"]
flat = outputs["probabilities"]["data"]
if len(flat) != rows * classes or len(labels) != rows or rows != 3:
    sys.exit(f"error: HTTP answered {rows} rows, {len(flat)} probabilities and {len(labels)} labels")
table = [flat[row * classes:(row + 1) * classes] for row in range(rows)]

truth = ["setosa", "versicolor", "virginica"]
predicted = [answer["label"] for answer in grpc["predictions"]]
print(f"  truth:            {', '.join(truth)}\n  conclave predict: {', '.join(predicted)}\n  HTTP:             {', '.join(labels)}")
if not (predicted == labels == truth):
    sys.exit("error: the labels are not the same, or not the right ones")
for answer, probabilities in zip(grpc["predictions"], table):
    for ours, theirs in zip(sorted(answer["probabilities"].values()), sorted(probabilities)):
        if not abs(ours - theirs) <= 1e-6:
            sys.exit(f"error: conclave predict says {ours}, HTTP says {theirs}")
own = json.loads((home / "own.json").read_text())
if own["version"] != http["model_version"] or len(own["probabilities"]) != rows:
    sys.exit(f"error: the gRPC client got {own}")
for ours, theirs in zip(sum(own["probabilities"], []), flat):
    if not abs(ours - theirs) <= 1e-6:
        sys.exit(f"error: the gRPC client got {ours}, HTTP says {theirs}")
if grpc["digest"] != http["parameters"]["digest"] or str(grpc["version"]) != http["model_version"]:
    sys.exit("error: conclave predict and HTTP answered from different versions")
print(f"  conclave predict, HTTP and the gRPC client agree: version {grpc['version']}, digest {grpc['digest'][:12]}")

flowers = [[float(cell) for cell in line.split(",")] for line in (home / "flowers.csv").read_text().split()]
(home / "answers.json").write_text(json.dumps({"rows": flowers, "probabilities": table}))
PY
[ "$pytorch" = 0 ] || deploy/check-pytorch.sh "$home/pulled" "$home/answers.json"

stage "8/8 kill -9 the coordinator in the middle of a run"
# The same job again, with more rounds: its first twenty must have the same bits, whatever happens.
sed 's/^count = 20$/count = 100/' "$job" >"$home/longer.toml"
cp "$repo/deploy/jobs/iris.csv" "$home/"
again="$(conclave run start "$home/longer.toml" --output json | sed -n 's/.*"run": *"\([^"]*\)".*/\1/p')"
rounds() { conclave run ls --output jsonl | sed -n "s/.*\"run\":\"$again\".*\"rounds_done\":\([0-9]*\).*/\1/p"; }
under_way() { [ "$(rounds)" -ge 3 ]; }
wait_for 60 "$again was under way" "$coordinator_pid" under_way
printf '$ kill -9 %s    # the coordinator, after %s of 100 rounds\n' "$coordinator_pid" "$(rounds)"
# The shell would tell of it, too.
{ kill -KILL "$coordinator_pid" && wait "$coordinator_pid"; } 2>/dev/null || true
pids=("${pids[@]:1}")
rm -f "$addresses"
in_background coordinator-2 conclave-coordinator serve --home "$home/coordinator" --listen "$grpc" --http "$http"
coordinator_pid="${pids[-1]}"
wait_for 30 "the coordinator was back" "$coordinator_pid" test -s "$addresses"
completed() { conclave run ls --output jsonl | grep -q "\"run\":\"$again\".*\"state\":\"completed\""; }
wait_for 120 "$again was completed" "$coordinator_pid" completed
conclave run show "$again" --events | grep -E 'EVENT|restarted|reopened|run-ended'
conclave run show "$again" --output json >"$home/again.json"
conclave run show "${again%-*}-1" --output json >"$home/first.json"
python3 - "$home" <<'PY'
import json, pathlib, sys

home = pathlib.Path(sys.argv[1])
first, again = (json.loads((home / name).read_text())["rounds"] for name in ("first.json", "again.json"))
if [r["round"] for r in again] != list(range(1, 101)):
    sys.exit(f"error: the rounds of the second run are {[r['round'] for r in again]}")
for a, b in zip(first, again):
    if a["digest"] != b["digest"]:
        sys.exit(f"error: round {a['round']} has digest {b['digest']}, undisturbed it had {a['digest']}")
print(f"  the first {len(first)} rounds have the same digests as those of the undisturbed run, bit for bit")
PY

stage ""
cat <<TEXT

What happened
  A coordinator made a certificate authority, cut iris.csv into $workers shards and handed one to each of
  $workers workers, which had joined with one-time tokens. For 20 rounds each worker trained on its shard and
  sent the change of its weights; the coordinator averaged them exactly and kept every round as a version.
  The last version was pulled as a safetensors file, and asked by gRPC over mTLS and by HTTP.
  Then the coordinator was killed in the middle of a second run, started again, and went on with the same bits.

Time
$(printf '%s\n' "${times[@]}")
  $(printf '%-34s %6s s' all "$(since "$began")")

What to try next
TEXT
if [ "$keep" = 1 ]; then
    cat <<TEXT
  export PATH=$(cd "$bin" && pwd):\$PATH CONCLAVE_HOME=$home/coordinator
  conclave run ls                                    all runs; show, watch, stop
  conclave round start \$(conclave run ls --output jsonl | sed -n '1s/.*"run":"\([^"]*\)".*/\1/p') --count 5
  conclave run start $repo/deploy/jobs/iris-gradient.toml --watch
  conclave model show iris
  conclave-worker check --home $home/hospital-a
$([ "$workers" -lt 3 ] || printf "  kill -9 %-42s a worker dies in the middle of a run: the run goes on" "${pids[1]}")
TEXT
else
    cat <<TEXT
  deploy/demo.sh --keep            leaves everything running, with commands to try
  deploy/jobs/iris-private.toml    every worker trains on a table of its own, which never leaves it
  README.md                        the same on several hosts
TEXT
fi
