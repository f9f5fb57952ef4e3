#!/usr/bin/env bash
# Clocks that are years off, stand still, or step in the middle of a run, at each of those who take part. What must hold: no
# snapshot is lost or hidden, nothing that is needed is deleted, and everything restores.
#
# Needs: faketime.
. "$(dirname "$0")/../lib.sh"

# The program with this clock: a moment, a difference, or a file that says so and may change.
with_clock() {
  local clock=$1
  shift
  FAKETIME_DONT_FAKE_MONOTONIC=1 faketime -f "$clock" "$BACKSTAY" "$@" >"$WORK/out" 2>"$WORK/err" || {
    local rc=$?
    cat "$WORK/err"
    fail "exit $rc with the clock at $clock: backstay $*"
  }
}

case_every_verb_at_every_wrong_clock_loses_nothing() {
  need_program faketime
  bs init -r "$R"
  noise "$S" 20 60000 1
  bs backup -r "$R" --json "$S"
  local first clock verb n=0
  first=$(summary_of snapshot_id)
  cp -a "$S" "$WORK/first"
  for clock in "-1h" "+1h" "-1d" "+1d" "-10y" "+10y" "@1970-01-02 00:00:00" "@2037-12-31 23:59:59" "@2026-03-29 01:59:59" "+0 x0.001"; do
    for verb in "backup $S" "forget --keep-last 20" "prune --max-unused 0" "verify --read-data" "copy --to $WORK/copy" "tag latest --add t" \
      "restore latest --target $WORK/o" "snapshots"; do
      n=$((n + 1))
      [ "${verb%% *}" != backup ] || noise "$S/n" 4 40000 $((n + 10))
      # shellcheck disable=SC2086
      with_clock "$clock" $verb -r "$R"
    done
    same "$S" "$WORK/o$S"
    rm -rf "$WORK/o"
  done
  [[ $(snapshot_ids) == *$first* ]] || fail "the first snapshot is gone"
  bs restore -r "$R" "$first" --target "$WORK/o"
  same "$WORK/first" "$WORK/o$S"
  sound
  echo "measured: $n runs at 10 wrong clocks"
}

case_a_clock_that_steps_in_the_middle_of_a_run_harms_nothing() {
  need_program faketime
  bs init -r "$R"
  noise "$S" 60 200000 1
  bs backup -r "$R" "$S"
  local step n pid first
  first=$(snapshot_ids)
  cp -a "$S" "$WORK/first"
  n=0
  for step in "-10y" "+10y" "-1h" "+2d"; do
    for verb in "backup $S" "prune --max-unused 0" "forget --keep-last 30 --prune --max-unused 0"; do
      n=$((n + 1))
      noise "$S/n" 30 300000 $((n + 20))
      echo "+0" >"$WORK/clock"
      # shellcheck disable=SC2086
      FAKETIME_TIMESTAMP_FILE=$WORK/clock FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 LD_PRELOAD=$(faketime_library) \
        "$BACKSTAY" $verb -r "$R" >"$WORK/out.a" 2>&1 &
      pid=$!
      sleep 0.05
      echo "$step" >"$WORK/clock"
      wait $pid || { cat "$WORK/out.a"; fail "$verb failed when the clock went $step"; }
      sound
    done
  done
  [[ $(snapshot_ids) == *$first* ]] || fail "the first snapshot is gone"
  bs restore -r "$R" "$first" --target "$WORK/o"
  same "$WORK/first" "$WORK/o$S"
  bs backup -r "$R" "$S"
  restores_to latest
}

faketime_library() {
  local at
  at=$(find /usr/lib -name libfaketimeMT.so.1 2>/dev/null | head -n 1)
  [ -n "$at" ] || skip "needs libfaketimeMT"
  echo "$at"
}

run_cases "$@"
