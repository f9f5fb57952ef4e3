#!/usr/bin/env bash
# Real PostgreSQL servers on their bad days: killed, failed over, damaged, misconfigured; logs with gaps, duplicates and
# strangers; targets that must not be touched. Each case says what must hold. Run one with: tests/postgres.sh NAME…
#
# Needs: root, setpriv, python3, the user postgres and PostgreSQL 14 to 18 in PGBIN, or in /usr/lib/postgresql. What is
# missing is skipped and counted. SEED makes the random case go the same way again.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/postgres-stage.sh"

# ---- backups that must not be ----

case_a_backup_without_its_log_does_not_become_a_snapshot() {
  stage
  shop
  q "insert into mark values (1)"
  q "alter system set archive_command = 'false'"
  q "select pg_reload_conf()" >/dev/null
  local pid rc=0
  "$BACKSTAY" backup shop/db >"$WORK/out" 2>"$WORK/err" &
  pid=$!
  for _ in $(seq 300); do
    [ "$(q "select failed_count > 1 from pg_stat_archiver")" != t ] || break
    sleep 0.1
  done
  [ -e "/proc/$pid" ] || { cat "$WORK/err"; fail "the backup did not wait for its log"; }
  [ -z "$(snapshot_ids)" ] || fail "there is a snapshot whose log is not archived"
  kill -TERM $pid
  wait $pid || rc=$?
  [ $rc = 143 ] || { cat "$WORK/err"; fail "exit $rc of a backup that was told to end"; }
  [ -z "$(snapshot_ids)" ] || fail "there is a snapshot of a backup that was told to end"
  # Another one, and this time the archive is repaired while it waits.
  "$BACKSTAY" backup shop/db >"$WORK/out" 2>"$WORK/err" &
  pid=$!
  sleep 2
  q "alter system reset archive_command"
  q "select pg_reload_conf()" >/dev/null
  wait $pid || { cat "$WORK/err"; fail "the backup failed though its log was archived in the end"; }
  [ "$(snapshot_ids | wc -l)" = 1 ] || fail "no snapshot"
  comes_back_as r1 1 --at immediate
}

case_without_an_archive_a_backup_brings_its_own_log() {
  stage
  configure 'port = 5432, user = "postgres"' off
  new_cluster data
  echo "archive_mode = off" >>"$WORK/pg/data/postgresql.conf"
  start data
  D=postgres q "create database shop"
  q "create table mark(n int primary key); insert into mark values (1)"
  bs backup shop/db --json
  local first
  first=$(summary_of snapshot_id)
  q "insert into mark values (2)"
  q "select pg_switch_wal()" >/dev/null
  q "insert into mark values (3)"
  bs backup shop/db
  q "insert into mark values (4)"
  comes_back_as r1 1,2,3 --at immediate
  comes_back_as r2 1,2,3
  # Between the backups there is no log, and the older one comes back nevertheless.
  comes_back_as r3 1 --base "$first" --at immediate
  bs restore "$first" --target "$WORK/pg/r4"
  start r4 5433
  [ "$(rows)" = 1 ] || fail "rows $(rows) of a backup that was named, wanted 1"
  expect 1 restore shop/db --base "$first" --target "$WORK/pg/r5"
  told_in_one_line
  [ ! -e "$WORK/pg/r5" ] || fail "something was made for a restore that was refused"
}

case_kill_9_in_a_backup_leaves_neither_a_snapshot_nor_a_server_in_backup_mode() {
  stage
  shop
  pg pgbench -q -i -s 3 -h "$WORK/pg/socket" -U postgres shop >/dev/null 2>&1
  local delay pid
  for delay in 0.2 0.6 1.2; do
    "$BACKSTAY" backup shop/db --compression zstd:19 >"$WORK/out" 2>"$WORK/err" &
    pid=$!
    sleep $delay
    [ -e "/proc/$pid/exe" ] || { cat "$WORK/err"; fail "it ended before it could be killed"; }
    kill -9 $pid
    wait $pid 2>/dev/null || true
  done
  [ -z "$(snapshot_ids)" ] || fail "there is a snapshot of a backup that was killed"
  for _ in $(seq 100); do
    [ "$(q "select count(*) from pg_stat_activity where application_name = 'backstay'")" != 0 ] || break
    sleep 0.1
  done
  [ "$(q "select count(*) from pg_stat_activity where application_name = 'backstay'")" = 0 ] || fail "a session is left"
  [ ! -e "$WORK/pg/data/backup_label" ] || fail "the server is left in backup mode"
  q "insert into mark values (1)"
  bs backup shop/db
  comes_back_as r1 1
  sound
}

case_a_server_that_dies_in_a_backup_ends_it() {
  stage
  shop
  pg pgbench -q -i -s 3 -h "$WORK/pg/socket" -U postgres shop >/dev/null 2>&1
  q "insert into mark values (1)"
  q "checkpoint"
  local pid rc=0
  "$BACKSTAY" backup shop/db --compression zstd:19 >"$WORK/out" 2>"$WORK/err" &
  pid=$!
  for _ in $(seq 200); do
    [ "$(q "select count(*) from pg_stat_activity where application_name = 'backstay'")" = 0 ] || break
    sleep 0.02
  done
  crash data
  wait $pid || rc=$?
  [ $rc = 20 ] || { cat "$WORK/err"; fail "exit $rc of a backup whose server died, wanted 20"; }
  told_in_one_line
  [ -z "$(snapshot_ids)" ] || fail "there is a snapshot of a backup whose server died"
  # It comes up again by itself, without a label in its way.
  start data
  q "insert into mark values (2)"
  bs backup shop/db
  comes_back_as r1 1,2
}

case_a_damaged_page_is_named_in_every_backup_until_it_is_repaired() {
  stage
  shop
  pg pgbench -q -i -s 1 -h "$WORK/pg/socket" -U postgres shop >/dev/null 2>&1
  q "insert into mark values (1)"
  bs backup shop/db
  local file
  file=$(q "select pg_relation_filepath('pgbench_accounts')")
  stop data
  printf x | dd of="$WORK/pg/data/$file" bs=1 seek=$((3 * 8192 + 4000)) conv=notrunc status=none
  printf x | dd of="$WORK/pg/data/$file" bs=1 seek=$((700 * 8192 + 4000)) conv=notrunc status=none
  start data
  # A file that was written a moment ago is read again anyway.
  sleep 3
  local n
  for n in 1 2; do
    expect 3 backup shop/db
    grep -q "$file" "$WORK/err" && grep -q 'block 3, 700' "$WORK/err" || { cat "$WORK/err"; fail "backup $n after the damage does not name $file, blocks 3 and 700"; }
  done
  # Not chosen by itself; and there for who wants what can be saved.
  comes_back_as r1 1
  local damaged
  damaged=$(snapshot_ids | tail -n 1)
  bs restore shop/db --base "$damaged" --at immediate --target "$WORK/pg/r2"
  cmp -s "$WORK/pg/data/$file" "$WORK/pg/r2/$file" || fail "the damaged file is not stored as it is"
}

# ---- the log ----

# Segments of a cluster of its own, in WORK/pg/wal: SEGMENTS has their names, in order.
segments() {
  local name=${1:-data}
  new_cluster "$name" --wal-segsize=1
  echo "archive_mode = off
wal_keep_size = 64MB" >>"$WORK/pg/$name/postgresql.conf"
  start "$name"
  SEGMENTS=()
  local n
  for n in 1 2 3 4 5; do
    D=postgres q "create table t$n as select $n"
    SEGMENTS+=("$(D=postgres q "select pg_walfile_name(pg_current_wal_insert_lsn())")")
    D=postgres q "select pg_switch_wal()" >/dev/null
  done
  stop "$name"
  pg mkdir -p "$WORK/pg/wal"
  for n in "${SEGMENTS[@]}"; do pg cp "$WORK/pg/$name/pg_wal/$n" "$WORK/pg/wal/$n"; done
}

push() {
  bs wal push --source shop/db "$WORK/pg/wal/$1"
}

# The archive refuses this file of WORK/pg/odd in one line, and has nothing of it.
refuses() {
  local before
  before=$(in_ledger)
  expect 1 wal push --source shop/db "$WORK/pg/odd/$1"
  told_in_one_line
  [ "$(in_ledger)" = "$before" ] || fail "something was archived of $1, $2"
}

# `wal get` of $1 ends with $2, and leaves no file, no part of one, and nothing else.
get_fails() {
  rm -rf "$WORK/pg/got"
  pg mkdir "$WORK/pg/got"
  expect "$2" wal get --source shop/db "$1" "$WORK/pg/got/RECOVERYXLOG" "${@:3}"
  [ -z "$(ls -A "$WORK/pg/got")" ] || fail "wal get of $1 left $(ls -A "$WORK/pg/got")"
}

get_is() {
  pg mkdir -p "$WORK/pg/got"
  bs wal get --source shop/db "$1" "$WORK/pg/got/RECOVERYXLOG"
  cmp "$WORK/pg/got/RECOVERYXLOG" "$2" || fail "wal get of $1 gave something else"
  rm "$WORK/pg/got/RECOVERYXLOG"
}

case_the_same_segment_twice_is_success_and_another_of_its_name_is_kept_and_never_used() {
  stage
  segments
  local name=${SEGMENTS[1]}
  push "${SEGMENTS[0]}"
  push "$name"
  push "$name"
  [ "$(in_ledger)" = 2 ] || fail "$(in_ledger) objects of two segments"
  get_is "$name" "$WORK/pg/wal/$name"
  pg mkdir "$WORK/pg/odd"
  pg cp "$WORK/pg/wal/$name" "$WORK/pg/odd/$name"
  printf x | dd of="$WORK/pg/odd/$name" bs=1 seek=900000 conv=notrunc status=none
  expect 1 wal push --source shop/db "$WORK/pg/odd/$name"
  told_in_one_line
  [ "$(in_ledger)" = 3 ] || fail "not both are kept"
  get_fails "$name" 126
  told_in_one_line
  # Whoever comes with either of them again is told again.
  expect 1 wal push --source shop/db "$WORK/pg/odd/$name"
  expect 1 wal push --source shop/db "$WORK/pg/wal/$name"
  [ "$(in_ledger)" = 3 ] || fail "a refused segment was stored once more"
  get_is "${SEGMENTS[0]}" "$WORK/pg/wal/${SEGMENTS[0]}"
}

case_what_is_no_segment_of_this_cluster_is_refused() {
  stage
  segments
  local own=("${SEGMENTS[@]}") name
  push "${own[0]}"
  name=${own[1]}
  pg mkdir "$WORK/pg/odd"
  odd() { pg cp "$WORK/pg/wal/$1" "$WORK/pg/odd/$2"; }
  pg truncate -s 524288 "$WORK/pg/odd/$name" && pg dd if="$WORK/pg/wal/$name" of="$WORK/pg/odd/$name" bs=524288 count=1 conv=notrunc status=none
  refuses "$name" "half of it"
  pg truncate -s 0 "$WORK/pg/odd/$name"
  refuses "$name" "nothing of it"
  odd "$name" "$name"
  pg dd if=/dev/zero of="$WORK/pg/odd/$name" bs=64 count=1 conv=notrunc status=none
  refuses "$name" "without its header"
  rm "$WORK/pg/odd/$name"
  (cd "$WORK/pg/wal" && gzip -c "$name") >"$WORK/pg/odd/$name"
  refuses "$name" "compressed"
  odd "$name" "${own[2]}"
  refuses "${own[2]}" "under the name of the next one"
  for name in nonsense RECOVERYXLOG "${own[1]}.gz" "${own[1],,}x" "${own[1]:0:23}"; do
    odd "${own[1]}" "$name"
    refuses "$name" "by its name"
  done
  printf 'not a history\n' | pg tee "$WORK/pg/odd/00000002.history" >/dev/null
  refuses 00000002.history "that is none"
  # A second cluster whose archive_command names the wrong source.
  rm -rf "$WORK/pg/wal"
  segments other
  pg cp "$WORK/pg/wal/${SEGMENTS[2]}" "$WORK/pg/odd/${SEGMENTS[2]}"
  refuses "${SEGMENTS[2]}" "of another cluster"
  # A file that is not there, and an archive that is not there.
  expect 20 wal push --source shop/db "$WORK/pg/odd/0000000100000000000000F0"
  told_in_one_line
  expect 2 wal push --source shop/nothing "$WORK/pg/wal/${own[1]}"
  told_in_one_line
  mv "$R" "$R.away"
  expect 10 wal push --source shop/db "$WORK/pg/odd/${own[2]}"
  told_in_one_line
}

case_what_waits_is_archived_with_what_was_asked_for_and_answered_for_only_with_the_same_bytes() {
  stage
  segments
  pg mkdir "$WORK/pg/wal/archive_status"
  local name
  for name in "${SEGMENTS[@]:0:4}"; do pg touch "$WORK/pg/wal/archive_status/$name.ready"; done
  push "${SEGMENTS[0]}"
  [ "$(in_ledger)" = 4 ] || fail "$(in_ledger) objects of four segments that wait"
  # They are durable already: nothing is asked of the repository.
  mv "$R" "$R.away"
  push "${SEGMENTS[1]}"
  expect 10 wal push --source shop/db "$WORK/pg/wal/${SEGMENTS[4]}"
  grep -q '^warning: 4 files of the log wait' "$WORK/err" || fail "not said how much waits: $(cat "$WORK/err")"
  printf x | dd of="$WORK/pg/wal/${SEGMENTS[2]}" bs=1 seek=900000 conv=notrunc status=none
  expect 10 wal push --source shop/db "$WORK/pg/wal/${SEGMENTS[2]}"
  # What is remembered is not believed for long, nor for another repository.
  sed -i 's/"at":[0-9]*/"at":1700000000/' "$WORK"/state/wal-ahead-*.json
  expect 10 wal push --source shop/db "$WORK/pg/wal/${SEGMENTS[3]}"
  mv "$R.away" "$R"
  expect 1 wal push --source shop/db "$WORK/pg/wal/${SEGMENTS[2]}"
  told_in_one_line
  push "${SEGMENTS[3]}"
  # Somebody who archives by hand means one file.
  pg rm "$WORK/pg/wal/archive_status/${SEGMENTS[3]}.ready"
  pg touch "$WORK/pg/wal/archive_status/${SEGMENTS[4]}.ready"
  push "${SEGMENTS[3]}"
  [ "$(in_ledger)" = 5 ] || fail "$(in_ledger) objects: four segments and one in another version"
}

case_what_comes_next_is_fetched_with_what_was_asked_for_and_not_kept_for_long() {
  stage
  segments
  local name
  for name in "${SEGMENTS[@]}"; do push "$name"; done
  get_is "${SEGMENTS[0]}" "$WORK/pg/wal/${SEGMENTS[0]}"
  mv "$R" "$R.away"
  get_is "${SEGMENTS[1]}" "$WORK/pg/wal/${SEGMENTS[1]}"
  get_fails "${SEGMENTS[1]}" 126
  [ -z "$(find "$WORK/cache/wal-ahead" -mindepth 1 -perm /077)" ] || fail "others may read what was fetched ahead"
  find "$WORK/cache/wal-ahead" -type f -exec touch -d '10 minutes ago' {} +
  get_fails "${SEGMENTS[2]}" 126
  mv "$R.away" "$R"
  get_is "${SEGMENTS[2]}" "$WORK/pg/wal/${SEGMENTS[2]}"
  get_is "${SEGMENTS[3]}" "$WORK/pg/wal/${SEGMENTS[3]}"
  get_is "${SEGMENTS[4]}" "$WORK/pg/wal/${SEGMENTS[4]}"
  [ -z "$(find "$WORK/cache/wal-ahead" -type f)" ] || fail "left in the cache: $(find "$WORK/cache/wal-ahead" -type f)"
}

case_a_burst_behind_an_archive_that_was_away_drains_without_a_gap() {
  stage
  shop --wal-segsize=1
  q "insert into mark values (1)"
  bs backup shop/db
  mv "$R" "$R.away"
  q "create table big as select n, repeat(md5(n::text), 10) from generate_series(1, 100000) n"
  for _ in $(seq 100); do [ "$(q "select failed_count > 1 from pg_stat_archiver")" != t ] || break; sleep 0.1; done
  grep -q 'files of the log wait to be archived' "$WORK/pg/data.log" || { tail "$WORK/pg/data.log"; fail "the server's log does not say how much waits"; }
  [ "$(find "$WORK/pg/data/pg_wal/archive_status" -name '*.ready' | wc -l)" -gt 30 ] || fail "the burst is none"
  mv "$R.away" "$R"
  q "insert into mark values (2)"
  archived
  [ -z "$(find "$WORK/pg/data/pg_wal/archive_status" -name '*.ready')" ] || fail "some still wait"
  "$BACKSTAY" wal status shop/db --json | grep '"gaps":\[\]' >/dev/null || fail "the log has gaps: $("$BACKSTAY" wal status shop/db)"
  comes_back_as r0 1,2
}

case_files_beside_segments_come_back_byte_for_byte() {
  stage
  segments
  local name=${SEGMENTS[1]}
  printf '1\t0/300000\tno recovery target specified\n' | pg tee "$WORK/pg/wal/00000002.history" >/dev/null
  pg cp "$WORK/pg/wal/$name" "$WORK/pg/wal/$name.partial"
  printf 'START WAL LOCATION: 0/2000028\n' | pg tee "$WORK/pg/wal/$name.00000028.backup" >/dev/null
  push 00000002.history
  push 00000002.history
  push "$name.partial"
  push "$name.00000028.backup"
  get_is 00000002.history "$WORK/pg/wal/00000002.history"
  get_is "$name.partial" "$WORK/pg/wal/$name.partial"
  # The partial one does not stand for the whole one.
  get_fails "$name" 1
  get_fails 00000003.history 1
  printf '1\t0/400000\tanother one\n' | pg tee "$WORK/pg/wal/00000002.history" >/dev/null
  expect 1 wal push --source shop/db "$WORK/pg/wal/00000002.history"
  told_in_one_line
}

case_only_the_end_of_the_log_looks_like_its_end() {
  stage
  segments
  push "${SEGMENTS[0]}"
  push "${SEGMENTS[1]}"
  push "${SEGMENTS[3]}"
  get_is "${SEGMENTS[3]}" "$WORK/pg/wal/${SEGMENTS[3]}"
  get_fails "${SEGMENTS[4]}" 1
  get_fails 000000010000000000000001 1
  get_fails 00000002.history 1
  get_fails "${SEGMENTS[2]}" 126
  told_in_one_line
  echo "another passphrase entirely" >"$WORK/wrong"
  chown postgres "$WORK/wrong"
  chmod 600 "$WORK/wrong"
  get_fails "${SEGMENTS[4]}" 126 --key-file "$WORK/wrong"
  get_fails "${SEGMENTS[4]}" 126 --key-file "$WORK/not-there"
  get_fails "${SEGMENTS[4]}" 126 --config "$WORK/not-there"
  get_fails nonsense 126
  rm -rf "$WORK/pg/got"
  expect 126 wal get --source shop/nothing "${SEGMENTS[4]}" "$WORK/pg/got"
  expect 126 wal get --source shop/db "${SEGMENTS[1]}" "$WORK/pg/no-directory/RECOVERYXLOG"
  # A restore_command with a mistake in it is not the end of a log either.
  expect 126 wal get --source shop/db "${SEGMENTS[4]}"
  expect 126 wal get --sauce shop/db "${SEGMENTS[4]}" "$WORK/pg/got"
  mv "$R" "$R.away"
  get_fails "${SEGMENTS[4]}" 126
  get_fails "${SEGMENTS[0]}" 126
  mv "$R.away" "$R"
  # A disk that is too small for it.
  rm -rf "$WORK/pg/got"
  mkdir "$WORK/pg/got"
  mount -t tmpfs -o size=300k,uid=postgres,mode=700 tmpfs "$WORK/pg/got" || skip "cannot mount a tmpfs"
  expect 126 wal get --source shop/db "${SEGMENTS[1]}" "$WORK/pg/got/RECOVERYXLOG"
  [ -z "$(ls -A "$WORK/pg/got")" ] || fail "on a full disk this was left: $(ls -A "$WORK/pg/got")"
  umount "$WORK/pg/got"
  # A segment that is damaged in the store.
  local object
  object=$(find "$R/ledger" -type f -printf '%f %p\n' | sort | sed -n 1p | cut -d' ' -f2-)
  chmod u+w "$object"
  printf xyz | dd of="$object" bs=1 seek=300 conv=notrunc status=none
  get_fails "${SEGMENTS[0]}" 126
}

case_a_log_with_two_contents_or_a_gap_is_refused_before_anything_is_touched() {
  stage
  shop --wal-segsize=1
  q "insert into mark values (1)"
  bs backup shop/db
  q "insert into mark values (2)"
  local before segment
  before=$(q "select clock_timestamp()")
  sleep 0.1
  q "insert into mark values (3)"
  archived
  q "insert into mark values (4)"
  segment=$(q "select pg_walfile_name(pg_current_wal_insert_lsn())")
  archived
  q "insert into mark values (5)"
  archived
  cp "$WORK/pg/data/pg_wal/$segment" "$WORK/pg/$segment"
  printf x | dd of="$WORK/pg/$segment" bs=1 seek=900000 conv=notrunc status=none
  chown postgres "$WORK/pg/$segment"
  expect 1 wal push --source shop/db "$WORK/pg/$segment"
  expect 1 restore shop/db --target "$WORK/pg/r1"
  told_in_one_line
  [ ! -e "$WORK/pg/r1" ] || fail "something was made though $segment has two contents"
  comes_back_as r2 1,2 --at "$before"
  # The wrong one taken away, everything is well; both taken away, it is a gap.
  local number
  number=$(printf '%016x' $((16#${segment:8:8} * 4096 + 16#${segment:16:8})))
  find "$R/ledger" -type f -name "$number.*" -printf '%T@ %p\n' | sort | tail -n 1 | cut -d' ' -f2- | xargs rm -f
  comes_back_as r3 1,2,3,4,5
  find "$R/ledger" -type f -name "$number.*" -delete
  expect 1 restore shop/db --target "$WORK/pg/r4"
  told_in_one_line
  grep -q "$segment" "$WORK/err" || { cat "$WORK/err"; fail "the missing segment is not named"; }
  [ ! -e "$WORK/pg/r4" ] || fail "something was made though $segment is missing"
  comes_back_as r5 1,2 --at "$before"
}

# ---- a point in time ----

case_every_moment_shows_exactly_what_was_committed_before_it() {
  stage
  local seed=${SEED:-$RANDOM} amcheck=1 load writer
  echo "measured: SEED=$seed"
  RANDOM=$seed
  shop --wal-segsize=1
  q "create extension amcheck" 2>/dev/null || amcheck=0
  pg pgbench -q -i -s 1 -h "$WORK/pg/socket" -U postgres shop >/dev/null 2>&1
  pg pgbench -n -c 2 -R 150 -T 120 -h "$WORK/pg/socket" -U postgres shop >/dev/null 2>&1 &
  load=$!
  (
    n=0
    until [ -e "$WORK/enough" ]; do
      n=$((n + 1))
      at=$(q "insert into mark values ($n)" && q "select pg_current_wal_insert_lsn(), clock_timestamp()") || exit 0
      echo "$n|$at" >>"$WORK/moments"
      sleep 0.0$((n * 37 % 90 + 10))
    done
  ) 2>/dev/null &
  writer=$!
  sleep 1
  bs backup shop/db
  local from to n
  from=$(($(wc -l <"$WORK/moments") + 1))
  sleep 2
  bs backup shop/db
  sleep 2
  to=$(($(wc -l <"$WORK/moments") - 1))
  archived
  sleep 0.5
  # Nothing is shut down properly.
  crash data
  : >"$WORK/enough"
  wait $load $writer 2>/dev/null || true
  [ "$to" -gt $((from + 4)) ] || fail "only rows $from to $to were written between the backups and the end"
  local lsn time kind row found
  for n in 1 2 3 4; do
    row=$((from + RANDOM % (to - from)))
    IFS='|' read -r _ lsn time < <(sed -n "${row}p" "$WORK/moments")
    if [ $((n % 2)) = 0 ]; then kind=lsn:$lsn; else kind=$time; fi
    bs restore shop/db --at "$kind" --target "$WORK/pg/r$n"
    start "r$n" 5433
    found=$(P=5433 q "select count(*) || ' ' || max(n) from mark")
    [ "$found" = "$row $row" ] || fail "at $kind there are rows $found, wanted the first $row (SEED=$seed)"
    [ "$(P=5433 q 'select sum(abalance) = (select sum(delta) from pgbench_history) from pgbench_accounts')" = t ] || fail "half a transaction at $kind (SEED=$seed)"
    [ $amcheck = 0 ] || pg pg_amcheck -h "$WORK/pg/socket" -p 5433 -U postgres -d shop >"$WORK/out" 2>&1 || { tail -n 5 "$WORK/out"; fail "pg_amcheck at $kind (SEED=$seed)"; }
    stop "r$n"
    pg pg_checksums -D "$WORK/pg/r$n" --check >"$WORK/out" 2>&1 || { tail -n 5 "$WORK/out"; fail "pg_checksums at $kind (SEED=$seed)"; }
    rm -rf "$WORK/pg/r$n"
  done
}

case_a_failover_is_followed_and_both_sides_of_it_can_be_reached() {
  stage
  shop --wal-segsize=1
  q "insert into mark values (1)"
  bs backup shop/db
  q "insert into mark values (2)"
  local before after standby pid
  pg pg_basebackup -h "$WORK/pg/socket" -U postgres -D "$WORK/pg/standby" -R -c fast -X stream
  pg pg_ctl -D "$WORK/pg/standby" -l "$WORK/pg/standby.log" -o "-p 5434" -w start >/dev/null
  q "insert into mark values (3)"
  for _ in $(seq 100); do [ "$(rows 5434 2>/dev/null)" != 1,2,3 ] || break; sleep 0.1; done
  # The standby is backed up as well: its log comes from the primary.
  configure 'port = 5434, user = "postgres"' continuous "$WORK/standby.toml"
  (while sleep 0.5; do q "select txid_current(); select pg_switch_wal()" >/dev/null 2>&1 || exit 0; done) &
  pid=$!
  bs backup shop/db --config "$WORK/standby.toml" --json
  standby=$(summary_of snapshot_id)
  kill $pid
  comes_back_as r0 1,2,3 --base "$standby" --at immediate
  before=$(q "select clock_timestamp()")
  sleep 0.1
  # The primary goes on, unseen by the standby, which takes over.
  q "create table after_this()"
  for _ in $(seq 100); do [ "$(P=5434 q "select count(*) from pg_class where relname = 'after_this'")" != 1 ] || break; sleep 0.1; done
  pg pg_ctl -D "$WORK/pg/standby" -w promote >/dev/null
  q "insert into mark values (101)"
  P=5434 q "insert into mark values (4)"
  sleep 0.1
  after=$(P=5434 q "select clock_timestamp()")
  sleep 0.1
  P=5434 q "insert into mark values (5)"
  q "insert into mark values (102)"
  archived 5432
  archived 5434
  local first
  first=$(snapshot_ids | sed -n 1p)
  comes_back_as r1 1,2,3,4,5 --base "$first"
  comes_back_as r2 1,2,3,4 --at "$after"
  comes_back_as r4 1,2,3 --base "$first" --at "$before" --timeline 1
  comes_back_as r5 1,2,3,101,102 --base "$first" --timeline backup
  # With a backup of the new timeline, the old one can still be chosen.
  stop data
  bs backup shop/db --config "$WORK/standby.toml"
  P=5434 q "insert into mark values (6)"
  archived 5434
  comes_back_as r6 1,2,3,4,5,6
  comes_back_as r7 1,2,3,101,102 --timeline 1
  expect 1 restore shop/db --timeline 7 --target "$WORK/pg/r8"
  told_in_one_line
  [ ! -e "$WORK/pg/r8" ] || fail "something was made for a timeline that does not exist"
  # Without its first segment the new timeline cannot be followed, whatever the old one has of that number.
  local object number name
  object=$(find "$R/ledger" -path '*/00000002/*' ! -name '0000000000000000.*' -printf '%f %p\n' | sort | sed -n 1p | cut -d' ' -f2-)
  number=$((16#$(basename "$object" | cut -c1-16)))
  name=$(printf '00000002%08X%08X' $((number / 4096)) $((number % 4096)))
  rm -rf "$object" "$WORK/cache/wal-ahead"
  expect 1 restore shop/db --target "$WORK/pg/r9" --base "$first"
  told_in_one_line
  grep -q "$name is missing" "$WORK/err" || fail "not named: $name"
  get_fails "$name" 126
}

# ---- what is in a backup, and what is not ----

case_what_must_not_be_in_a_backup_is_not_and_a_server_starts_without_it() {
  stage
  new_cluster data --waldir="$WORK/pg/elsewhere" --allow-group-access
  local etc=$WORK/pg/etc name
  pg mkdir "$etc"
  mv "$WORK"/pg/data/*.conf "$etc"
  mv "$etc/postgresql.auto.conf" "$WORK/pg/data/"
  cat >>"$etc/postgresql.conf" <<CONF
data_directory = '$WORK/pg/data'
hba_file = '$etc/pg_hba.conf'
ident_file = '$etc/pg_ident.conf'
max_connections = 33
CONF
  start data 5432 "-c config_file=$etc/postgresql.conf"
  D=postgres q "create database shop"
  q "create table mark(n int primary key); insert into mark values (1)"
  q "create unlogged table fleeting(n serial primary key, t text); insert into fleeting(t) select repeat('x', 100) from generate_series(1, 5000)"
  q "select pg_create_physical_replication_slot('slot', true)" >/dev/null
  pg mkdir "$WORK/pg/ts"
  q "create tablespace fast location '$WORK/pg/ts'"
  q "create table outside tablespace fast as select generate_series(1, 1000) n; create unlogged table outside_fleeting tablespace fast as select 1"
  pg psql -XAtq -h "$WORK/pg/socket" -U postgres -d shop -c "create temp table gone as select generate_series(1, 10000); select pg_sleep(100)" >/dev/null 2>&1 &
  for _ in $(seq 100); do [ "$(q "select count(*) from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid()")" != 1 ] || break; sleep 0.1; done
  sleep 0.5
  pg mkdir -p "$WORK/pg/data/base/pgsql_tmp"
  echo sorted | pg tee "$WORK/pg/data/base/pgsql_tmp/pgsql_tmp123.0" >/dev/null
  echo stale | pg tee "$WORK/pg/data/backup_label.old" >/dev/null
  q "checkpoint"
  local fleeting temporary
  fleeting=$(basename "$(q "select pg_relation_filepath('fleeting')")")
  temporary=$(find "$WORK/pg/data/base" -name 't[0-9]*_*' -printf '%f\n' | sed -n 1p)
  [ -n "$temporary" ] || fail "there is no temporary table on the disk"
  bs backup shop/db
  bs ls -r "$R" latest
  for name in postmaster.pid postmaster.opts pgsql_tmp backup_label "$temporary" 'pg_wal/' 'pg_replslot/slot' "/$fleeting\$" 'pg_internal.init' 'global/pg_control'; do
    ! grep -qE "$name" "$WORK/out" || { grep -E "$name" "$WORK/out" | sed -n 1,3p; fail "$name is in the backup"; }
  done
  for name in "${fleeting}_init" etc/postgresql.conf etc/pg_hba.conf PG_VERSION pg_replslot; do
    grep -q "$name" "$WORK/out" || fail "$name is not in the backup"
  done
  # Restored by root, for postgres.
  BACKSTAY=$PROGRAM bs restore shop/db --at immediate --target "$WORK/pg/r1"
  chown -R postgres "$WORK/cache" "$WORK/state"
  [ "$(stat -c %U:%a "$WORK/pg/r1")" = postgres:750 ] || fail "the data directory is $(stat -c %U:%a "$WORK/pg/r1"), wanted postgres:750"
  local strange
  strange=$(find "$WORK/pg/r1" "$WORK/pg/r1-tablespaces/fast" ! -user postgres ! -type l | sed -n 1,3p)
  [ -z "$strange" ] || fail "not all is owned by postgres: $strange"
  start r1 5433 "-k $WORK/pg/socket"
  [ "$(rows)" = 1 ] || fail "rows $(rows), wanted 1"
  [ "$(P=5433 q "select count(*) from fleeting")" = 0 ] || fail "the unlogged table is not empty"
  P=5433 q "insert into fleeting(t) values ('new'); insert into outside_fleeting values (2)"
  [ "$(P=5433 q "select count(*) from outside")" = 1000 ] || fail "the tablespace"
  [ "$(P=5433 q "select count(*) from pg_replication_slots")" = 0 ] || fail "a slot came along"
  [ "$(P=5433 q "show max_connections")" = 33 ] || fail "what replay needs was not set"
  [ "$(P=5433 q "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'")" = "$WORK/pg/r1-tablespaces/fast" ] || fail "the tablespace is elsewhere"
}

case_a_backup_costs_what_changed() {
  stage
  shop
  pg pgbench -q -i -s 8 -h "$WORK/pg/socket" -U postgres shop >/dev/null 2>&1
  q "vacuum freeze"
  q "checkpoint"
  # A file that was written a moment ago is read again.
  sleep 2
  local whole total part nothing read
  bs backup shop/db --json
  whole=$(summary_of data_added)
  total=$(summary_of total_bytes_processed)
  q "update pgbench_accounts set abalance = 7 where aid <= 8000"
  q "checkpoint"
  sleep 2
  bs backup shop/db --json
  part=$(summary_of data_added)
  sleep 2
  bs backup shop/db --json
  nothing=$(summary_of data_added)
  read=$(summary_of bytes_read)
  echo "measured: of $total bytes the first backup added $whole, one after a change of 1 % $part, one after nothing $nothing, and read $read"
  [ "$part" -lt $((whole / 10)) ] || fail "a change of 1 % added $part bytes to $whole"
  [ "$nothing" -lt $((whole / 100)) ] || fail "no change added $nothing bytes to $whole"
  [ "$read" -lt $((total / 10)) ] || fail "no change, and $read bytes of $total were read"
  q "insert into mark values (1)"
  archived
  bs restore shop/db --target "$WORK/pg/r1"
  start r1 5433
  [ "$(P=5433 q "select sum(abalance) from pgbench_accounts")" = 56000 ] || fail "the change did not come back"
  stop r1
  pg pg_checksums -D "$WORK/pg/r1" --check >"$WORK/out" 2>&1 || { tail -n 5 "$WORK/out"; fail "pg_checksums"; }
}

# ---- targets ----

case_a_target_that_must_not_be_touched_is_not() {
  stage
  shop
  q "insert into mark values (1)"
  bs backup shop/db
  archived
  pg mkdir "$WORK/pg/full"
  : >"$WORK/pg/full/something"
  # By code, what it is, and the arguments.
  untouched() {
    local want=$1 dir=$2 before
    shift 2
    before=$(tree "$dir")
    expect "$want" restore shop/db --target "$dir" "$@"
    told_in_one_line
    [ "$(tree "$dir")" = "$before" ] || fail "$dir was changed by a restore that was refused"
  }
  untouched 6 "$WORK/pg/full"
  untouched 21 "$WORK/pg/full" --delta --confirm "$WORK/pg/full"
  mkdir "$WORK/pg/small"
  mount -t tmpfs -o size=20m,uid=postgres,mode=700 tmpfs "$WORK/pg/small" || skip "cannot mount a tmpfs"
  untouched 21 "$WORK/pg/small"
  untouched 6 "$WORK/pg/data"
  untouched 6 "$WORK/pg/data" --delta
  untouched 6 "$WORK/pg/data" --delta --confirm "$WORK/pg/full"
  q "checkpoint"
  untouched 21 "$WORK/pg/data" --delta --confirm "$WORK/pg/data"
  grep -q 'runs on' "$WORK/err" || { cat "$WORK/err"; fail "no word of the server that runs"; }
  [ "$(rows 5432)" = 1 ] || fail "the server was harmed"
  new_cluster other
  untouched 21 "$WORK/pg/other" --delta --confirm "$WORK/pg/other"
  cp -a "$WORK/pg/other" "$WORK/pg/elder"
  echo 9 >"$WORK/pg/elder/PG_VERSION"
  untouched 21 "$WORK/pg/elder" --delta --confirm "$WORK/pg/elder"
}

case_a_delta_restore_into_the_stopped_server_brings_back_the_state_and_writes_little() {
  stage
  shop
  pg pgbench -q -i -s 3 -h "$WORK/pg/socket" -U postgres shop >/dev/null 2>&1
  pg mkdir "$WORK/pg/ts"
  q "create tablespace fast location '$WORK/pg/ts'"
  q "create table outside tablespace fast as select generate_series(1, 1000) n"
  q "insert into mark values (1), (2)"
  q "checkpoint"
  bs backup shop/db
  local moment written total
  moment=$(q "select clock_timestamp()")
  sleep 0.1
  q "drop table pgbench_history; delete from mark; insert into mark values (9)"
  q "create table later as select generate_series(1, 10000)"
  archived
  stop data
  bs restore shop/db --at "$moment" --target "$WORK/pg/data" --delta --confirm "$WORK/pg/data" --tablespace "fast=$WORK/pg/ts" --json
  written=$(summary_of bytes_written)
  total=$(summary_of bytes)
  echo "measured: $written of $total bytes were written"
  [ "$written" -lt $((total / 4)) ] || fail "$written of $total bytes were written by a delta restore"
  start data
  [ "$(rows 5432)" = 1,2 ] || fail "rows $(rows 5432), wanted 1,2"
  q "select count(*) from pgbench_history" >/dev/null || fail "the table did not come back"
  [ "$(q "select count(*) from pg_class where relname = 'later'")" = 0 ] || fail "what came later is still there"
  [ "$(q "select count(*) from outside")" = 1000 ] || fail "the tablespace"
  stop data
  pg pg_checksums -D "$WORK/pg/data" --check >"$WORK/out" 2>&1 || { tail -n 5 "$WORK/out"; fail "pg_checksums"; }
}

case_one_table_comes_out_of_a_cluster_and_nothing_stays_behind() {
  stage
  shop
  q "create schema s; create table s.wanted as select generate_series(1, 500) n; create index on s.wanted(n)"
  bs backup shop/db
  local moment
  moment=$(q "select clock_timestamp()")
  sleep 0.1
  q "drop table s.wanted; insert into mark values (1)"
  archived
  D=postgres q "create database rescue"
  D=rescue q "create schema s"
  bs restore shop/db --at "$moment" --table s.wanted --to "postgresql:///rescue?host=$WORK/pg/socket&user=postgres"
  no_server_of_its_own_is_left
  [ "$(D=rescue q "select count(*) from s.wanted")" = 500 ] || fail "the table in the database"
  bs restore shop/db --at "$moment" --table s.wanted --to "$WORK/pg/table.dump"
  no_server_of_its_own_is_left
  pg pg_restore -l "$WORK/pg/table.dump" | grep 'TABLE DATA s wanted' >/dev/null || fail "the table in the file"
  local to
  for to in "$WORK/pg/none.dump" "postgresql:///rescue?host=$WORK/pg/socket&user=postgres"; do
    expect 1 restore shop/db --at "$moment" --table s.absent --to "$to"
    told_in_one_line
    grep -q 'no matching tables' "$WORK/err" || { cat "$WORK/err"; fail "not said that there is no such table"; }
    no_server_of_its_own_is_left
    [ ! -e "$WORK/pg/none.dump" ] || fail "a dump of nothing was left"
  done
  [ -z "$(find "$WORK/pg" -maxdepth 1 -name '*backstay-tmp*')" ] || fail "half a dump was left"
  # Where it is there already, nothing of it is changed; a file that exists is not overwritten.
  expect 1 restore shop/db --at "$moment" --table s.wanted --to "postgresql:///rescue?host=$WORK/pg/socket&user=postgres"
  grep -q 'already exists' "$WORK/err" || { cat "$WORK/err"; fail "not said that it exists"; }
  expect 6 restore shop/db --at "$moment" --table s.wanted --to "$WORK/pg/table.dump"
  no_server_of_its_own_is_left
  [ "$(D=rescue q "select count(*) from s.wanted")" = 500 ] || fail "the table was loaded twice"
}

# ---- the server says no ----

case_a_server_that_refuses_is_told_in_one_line_without_the_password() {
  stage
  shop
  q "create role weak login password 'sesame-7731'; create role strong login password 'sesame-7731'"
  q "grant pg_read_all_settings to strong"
  if [ "$MAJOR" -lt 15 ]; then
    q "grant execute on function pg_start_backup(text, boolean, boolean), pg_stop_backup(boolean, boolean) to strong"
  else
    q "grant execute on function pg_backup_start(text, boolean), pg_backup_stop(boolean) to strong"
  fi
  q "create table wanted as select 1 n; insert into mark values (1)"
  sed -i '1i local all weak,strong scram-sha-256' "$WORK/pg/data/pg_hba.conf"
  q "select pg_reload_conf()" >/dev/null
  echo "sesame-7731" >"$WORK/right"
  echo "sesame-7732" >"$WORK/wrong"
  chown postgres "$WORK/right" "$WORK/wrong"
  chmod 600 "$WORK/right" "$WORK/wrong"
  refused_by_server() {
    expect 20 backup shop/db "$@"
    told_in_one_line
    ! grep -r 'sesame-773' "$WORK/out" "$WORK/err" "$WORK/state" "$WORK/cache" || fail "there is the password"
  }
  configure "port = 5432, user = \"strong\", password = \"file:$WORK/wrong\""
  refused_by_server
  refused_by_server --json
  grep -q 'password authentication failed' "$WORK/err" "$WORK/out" || { cat "$WORK/err"; fail "not said why"; }
  configure 'port = 5432, user = "strong"'
  refused_by_server
  grep -q 'password' "$WORK/err" || { cat "$WORK/err"; fail "not said that a password is wanted"; }
  configure "port = 5432, user = \"weak\", password = \"file:$WORK/right\""
  refused_by_server
  grep -qE 'permission denied|may not' "$WORK/err" || { cat "$WORK/err"; fail "not said what is not allowed"; }
  configure 'port = 5999, user = "postgres"'
  refused_by_server
  [ -z "$(snapshot_ids)" ] || fail "there is a snapshot of a backup that was refused"
  # A role with the rights to back up, and with no others, is enough.
  configure "port = 5432, user = \"strong\", password = \"file:$WORK/right\""
  bs backup shop/db -v
  ! grep -r 'sesame-773' "$WORK/out" "$WORK/err" "$WORK/state" "$WORK/cache" || fail "there is the password"
  bs restore shop/db --at immediate --table wanted --to "$WORK/pg/wanted.dump"
  pg pg_restore -l "$WORK/pg/wanted.dump" | grep 'TABLE DATA public wanted' >/dev/null || fail "the table of another owner"
  stop data
  refused_by_server
}

run_cases "$@"
