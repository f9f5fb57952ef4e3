#!/usr/bin/env bash
# Counts the instructions of the engine's hot paths and compares them with those kept in benches/instructions.txt.
#
#   benches/instructions.sh          compares; exit 1 when a path needs over 3 % more than kept
#   benches/instructions.sh --keep   keeps the counts: once for each release, or when a change of them is meant
#
# Counts hardly depend on what else the machine does, so they show a change of one percent where times cannot. They depend
# on the compiler, the processor's features that valgrind knows, and the versions of what we depend on: compare on one machine.
# Needs valgrind.
set -euo pipefail
cd "$(dirname "$0")/.."

KEPT=benches/instructions.txt
LIMIT_PERCENT=3
case ${1-} in
  "" | --keep) ;;
  *) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
command -v valgrind >/dev/null || { echo "valgrind is not installed" >&2; exit 1; }

cargo build --quiet --locked --release -p engine
engine=${CARGO_TARGET_DIR:-target}/release/engine
counts=$(mktemp)
trap 'rm -f "$counts"' EXIT

# Only what the function `counted` does: not what prepares it.
for path in $("$engine"); do
  said=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null --collect-atstart=no --toggle-collect='*counted*' \
    "$engine" "$path" 2>&1) || { echo "$said" >&2; exit 1; }
  count=$(awk '/Collected :/ { print $NF }' <<<"$said")
  [ "${count:-0}" -gt 0 ] || { echo "nothing was counted of $path" >&2; exit 1; }
  printf '%-14s %s\n' "$path" "$count" >>"$counts"
done

if [ "${1-}" = --keep ]; then
  {
    echo "# Instructions of the engine's hot paths, by benches/instructions.sh --keep: $(rustc --version | cut -d' ' -f1,2)."
    cat "$counts"
  } >"$KEPT"
  cat "$KEPT"
  exit
fi

awk -v limit=$LIMIT_PERCENT '
  /^#/ { next }
  FNR == NR { kept[$1] = $2; next }
  !($1 in kept) { printf "%-14s %15d  new\n", $1, $2; next }
  {
    percent = ($2 - kept[$1]) * 100 / kept[$1]
    printf "%-14s %15d %15d  %+.2f %%%s\n", $1, kept[$1], $2, percent, (percent > limit ? "  more than it was" : "")
    worse += (percent > limit)
  }
  END { exit (worse > 0) }
' "$KEPT" "$counts"
