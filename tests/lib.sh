# Common to the system tests; sourced, not run.
#
# Each program that sources this has functions `case_NAME`. `run_cases` runs each in a process of its own, with a
# directory of its own, a deadline, and whatever it mounted or started taken away afterwards.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BACKSTAY=$(readlink -f "${BACKSTAY:-$ROOT/target/release/backstay}")
[ -n "${PYTHON:-}" ] || { PYTHON=$ROOT/target/venv/bin/python && [ -x "$PYTHON" ]; } || PYTHON=python3
CASE_SECS_MAX=${CASE_SECS_MAX:-600}
SKIP=77

fail() {
  echo "FAIL: $*"
  exit 1
}

skip() {
  echo "skipped: $*"
  exit $SKIP
}

need_root() {
  [ "$(id -u)" = 0 ] || skip "needs root"
}

need_program() {
  local program
  for program in "$@"; do command -v "$program" >/dev/null || skip "needs $program"; done
}

# A directory, a key, and no memory of other repositories.
set_up() {
  [ -x "$BACKSTAY" ] || fail "no backstay binary at $BACKSTAY"
  WORK=$(mktemp -d)
  chmod 755 "$WORK"
  trap clean_up EXIT
  unset "${!BACKSTAY_@}" || true
  export BACKSTAY_CACHE_DIR=$WORK/cache BACKSTAY_STATE_DIR=$WORK/state BACKSTAY_KEY_FILE=$WORK/key TZ=UTC LC_ALL=C.UTF-8
  echo "correct horse battery staple" >"$BACKSTAY_KEY_FILE"
  chmod 600 "$BACKSTAY_KEY_FILE"
  R=$WORK/repo
  S=$WORK/src
  mkdir "$S"
}

clean_up() {
  local rc=$?
  # Everything this shell started, and nothing else.
  jobs -p | xargs -r kill -9 2>/dev/null || true
  wait 2>/dev/null || true
  awk -v w="$WORK/" 'index($2, w) == 1 { print $2 }' /proc/mounts | sort -r | while read -r at; do umount -l "$at" || true; done
  chmod -R u+rwX "$WORK" 2>/dev/null || true
  rm -rf "$WORK"
  exit $rc
}

# The program, quietly.
bs() {
  "$BACKSTAY" "$@" >"$WORK/out" 2>"$WORK/err" || {
    local rc=$?
    tail -n 20 "$WORK/out" "$WORK/err"
    fail "exit $rc: backstay $*"
  }
}

# The program is to end with this code.
expect() {
  local want=$1 rc=0
  shift
  "$BACKSTAY" "$@" >"$WORK/out" 2>"$WORK/err" || rc=$?
  [ "$rc" != 101 ] || fail "panic: backstay $*: $(cat "$WORK/err")"
  [ "$rc" = "$want" ] || {
    tail -n 20 "$WORK/out" "$WORK/err"
    fail "exit $rc, wanted $want: backstay $*"
  }
}

# The last failure was told in one line, and one line of help.
told_in_one_line() {
  local errors helps
  errors=$(grep -c '^error: ' "$WORK/err" || true)
  helps=$(grep -c '^help: ' "$WORK/err" || true)
  [ "$errors" = 1 ] && [ "$helps" -le 1 ] || {
    cat "$WORK/err"
    fail "$errors lines of error and $helps of help, wanted one of each"
  }
}

# The repository holds what it says.
sound() {
  bs verify -r "${1:-$R}" --read-data
}

snapshot_ids() {
  "$BACKSTAY" snapshots -r "${1:-$R}" --json | "$PYTHON" -c 'import json,sys; print(*(s["id"] for s in json.load(sys.stdin)), sep="\n")'
}

# A field of the summary that is the last line of what --json printed.
summary_of() {
  tail -n 1 "$WORK/out" | "$PYTHON" -c 'import json,sys; d=json.load(sys.stdin); assert d["message_type"]=="summary",d; print(d[sys.argv[1]])' "$1"
}

# Two trees are the same, by content and by everything that is known of a file.
same() {
  local told
  told=$(rsync -n -aHAXc --numeric-ids --devices --specials --delete -i "$1/" "$2/" 2>&1 | grep -v '^$' || true)
  [ -z "$told" ] || {
    head -n 20 <<<"$told" | cat -v
    fail "the trees differ: $1 $2"
  }
  (cd "$1" && find . -printf '%P\0%y\0%m\0%U:%G\0%T@\0%l\0%n\0\n' | LC_ALL=C sort) >"$WORK/list.a"
  (cd "$2" && find . -printf '%P\0%y\0%m\0%U:%G\0%T@\0%l\0%n\0\n' | LC_ALL=C sort) >"$WORK/list.b"
  cmp -s "$WORK/list.a" "$WORK/list.b" || {
    diff -a "$WORK/list.a" "$WORK/list.b" | head -n 20 | cat -v || true
    fail "metadata differs: $1 $2"
  }
}

# Snapshot $1 restores to what stands at $2. The copy is removed again.
restores_to() {
  local out
  out=$(mktemp -d "$WORK/restored.XXXXXX")
  bs restore -r "$R" "$1" --target "$out/tree"
  same "${2:-$S}" "$out/tree$S"
  rm -rf "$out"
}

# What was restored, though not completely, is right as far as it goes.
nothing_wrong_in() {
  local got=$1 good=$2 file
  [ -d "$got" ] || return 0
  while IFS= read -r -d '' file; do
    cmp -s "$got/$file" "$good/$file" || fail "wrong or half a file was left: $file"
  done < <(cd "$got" && find . -type f -print0)
}

# Files of random bytes: directory, how many, bytes at most, seed.
noise() {
  "$PYTHON" - "$@" <<'PY'
import os, random, sys
where, count, most, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
r = random.Random(seed)
os.makedirs(where, exist_ok=True)
for i in range(count):
    with open(os.path.join(where, f"f{i:05}"), "wb") as f:
        f.write(r.randbytes(r.randrange(1, most)))
PY
}

# Runs a command and prints its peak of memory in MiB; exits as it did.
peak_mib() {
  "$PYTHON" - "$@" <<'PY'
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
sys.exit(code)
PY
}

# Runs the cases that are named, or all. Prints one line for each, the output of those that fail, and a sum.
run_cases() {
  if [ "${1:-}" = --one ]; then
    set_up
    "case_$2"
    return
  fi
  local cases=("$@") name log rc began passed=0 failed=0 skipped=0
  [ ${#cases[@]} -gt 0 ] || mapfile -t cases < <(sed -n 's/^case_\([a-z_0-9]*\)() {$/\1/p' "$0")
  log=$(mktemp)
  for name in "${cases[@]}"; do
    began=$(date +%s)
    rc=0
    timeout -k 10 "$CASE_SECS_MAX" "$0" --one "$name" >"$log" 2>&1 </dev/null || rc=$?
    case $rc in
      0)
        passed=$((passed + 1))
        echo "ok       $name ($(($(date +%s) - began)) s)"
        sed -n 's/^measured: /         /p' "$log"
        ;;
      "$SKIP")
        skipped=$((skipped + 1))
        echo "skipped  $name: $(sed -n 's/^skipped: //p' "$log" | tail -n 1)"
        ;;
      *)
        failed=$((failed + 1))
        [ $rc != 124 ] || echo "past the deadline of $CASE_SECS_MAX s" >>"$log"
        echo "FAILED   $name (exit $rc, $(($(date +%s) - began)) s)"
        tail -n 40 "$log" | cat -v | sed 's/^/    /'
        ;;
    esac
  done
  rm -f "$log"
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" = 0 ]
}
