#!/usr/bin/env bash
# Real PostgreSQL servers at the other end of a connection: their log as it is written, and backups without their files.
# Receivers and servers are killed, slots and log lost, repositories away, roles not let in. Each case says what must hold. Run
# one with: tests/postgres-remote.sh NAME…
#
# Needs: root, setpriv, python3, the user postgres and PostgreSQL 14 to 18 in PGBIN, or in /usr/lib/postgresql. What is
# missing is skipped and counted.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/postgres-stage.sh"

# The configuration of a source whose log is received: `connect` with what is given here in its place.
receiving() {
  configure "${1:-port = 5432, user = \"postgres\"}" continuous "${2:-$WORK/backstay.toml}"
  sed -i 's/^physical = .*/physical = { wal = "continuous", receive = { interval = "1s" } }/' "${2:-$WORK/backstay.toml}"
}

# A shop whose server archives nothing by itself.
quiet_shop() {
  stage
  receiving
  new_cluster data "$@"
  echo "archive_mode = off" >>"$WORK/pg/data/postgresql.conf"
  start data
  D=postgres q "create database shop"
  q "create table mark(n int primary key)"
}

# Receives in the background, until the server sends.
receive() {
  : >"$WORK/received"
  "$BACKSTAY" wal receive shop/db --json "$@" >"$WORK/received" 2>"$WORK/received.err" &
  RECEIVER=$!
  wait_for_event receiving
}

wait_for_event() {
  local n
  for n in $(seq 300); do
    ! grep -q "\"message_type\":\"$1\"" "$WORK/received" || return 0
    [ -e "/proc/$RECEIVER" ] || break
    sleep 0.1
  done
  cat "$WORK/received" "$WORK/received.err"
  fail "the receiver does not say $1"
}

# A warning with these words.
wait_for_warning() {
  local n
  for n in $(seq 300); do
    ! grep -q "$1" "$WORK/received.err" || return 0
    sleep 0.1
  done
  cat "$WORK/received" "$WORK/received.err"
  fail "the receiver does not warn: $1"
}

# Ends the receiver as a service manager does.
end_receiver() {
  local rc=0
  kill -TERM "$RECEIVER"
  wait "$RECEIVER" || rc=$?
  [ "$rc" = 0 ] || { cat "$WORK/received.err"; fail "exit $rc of a receiver that was told to end"; }
}

kill_receiver() {
  kill -9 "$RECEIVER"
  wait "$RECEIVER" 2>/dev/null || true
}

# Everything that was written so far, on the server of port $1, was stored.
received() {
  local port=${1:-5432} want at n
  want=$(P=$port q "select case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_flush_lsn() end")
  for n in $(seq 300); do
    at=$(grep -E '"message_type":"(part|segment|receiving)"' "$WORK/received" | tail -n 1 | sed 's/.*"lsn":"\([^"]*\)".*/\1/')
    [ -z "$at" ] || [ "$(P=$port q "select '$at'::pg_lsn >= '$want'::pg_lsn")" != t ] || return 0
    sleep 0.1
  done
  cat "$WORK/received" "$WORK/received.err"
  fail "the log up to $want is not stored"
}

# Every part of the log is of this many gaps.
gaps_are() {
  local found
  bs wal status shop/db --json
  found=$("$PYTHON" -c 'import json,sys; print(len(json.load(open(sys.argv[1]))["gaps"]))' "$WORK/out")
  [ "$found" = "$1" ] || { cat "$WORK/out"; fail "$found gaps, wanted $1"; }
}

# Lets the server of port 5432 remove all log that nobody asked it to keep.
forget_log() {
  local n
  for n in 1 2 3 4; do
    q "create table forget_$n as select repeat('x', 500) from generate_series(1, 4000); drop table forget_$n; select pg_switch_wal(); checkpoint" >/dev/null
  done
}

slots() {
  q "select count(*) from pg_replication_slots"
}

# ---- receiving ----

case_what_was_committed_seconds_before_a_crash_comes_back() {
  quiet_shop --wal-segsize=1
  receive
  q "insert into mark values (1)"
  bs backup shop/db
  q "insert into mark select generate_series(2, 20)"
  received
  local moment
  moment=$(q "select clock_timestamp()")
  sleep 0.2
  q "insert into mark values (21)"
  local began
  began=$(date +%s.%N)
  received
  echo "measured: with an interval of 1 s, a commit was stored after $("$PYTHON" -c "import time; print(round(time.time() - $began, 1))") s"
  # Nothing was shut down, and no segment is complete that has the last row.
  crash data
  end_receiver
  comes_back_as r1 "$(seq -s, 1 21)"
  comes_back_as r2 "$(seq -s, 1 20)" --at "$moment"
  bs wal status shop/db
  grep -q 'in part' "$WORK/out" || { cat "$WORK/out"; fail "no word of the segment that is being written"; }
  bs pitr windows shop/db
  gaps_are 0
}

case_a_receiver_that_is_killed_again_and_again_loses_nothing() {
  quiet_shop --wal-segsize=1
  pg pgbench -q -i -s 1 -h "$WORK/pg/socket" -U postgres shop >/dev/null 2>&1
  receive
  bs backup shop/db
  local n load
  pg pgbench -n -c 2 -R 300 -T 60 -h "$WORK/pg/socket" -U postgres shop >/dev/null 2>&1 &
  load=$!
  for n in 1 2 3 4 5; do
    q "insert into mark values ($n)"
    sleep 0.$((n * 37 % 90 + 10))
    kill_receiver
    receive
  done
  kill $load
  wait $load 2>/dev/null || true
  q "insert into mark values (6)"
  received
  crash data
  end_receiver
  gaps_are 0
  bs restore shop/db --target "$WORK/pg/r1"
  start r1 5433
  [ "$(rows)" = 1,2,3,4,5,6 ] || fail "rows $(rows)"
  [ "$(P=5433 q 'select sum(abalance) = (select sum(delta) from pgbench_history) from pgbench_accounts')" = t ] || fail "half a transaction"
  sound
}

case_a_server_that_is_restarted_is_waited_for() {
  quiet_shop --wal-segsize=1
  receive
  q "insert into mark values (1)"
  bs backup shop/db
  stop data
  wait_for_warning 'tried again'
  start data
  q "insert into mark values (2)"
  for _ in $(seq 300); do
    [ "$(grep -c '"message_type":"receiving"' "$WORK/received")" -lt 2 ] || break
    sleep 0.1
  done
  received
  crash data
  start data
  q "insert into mark values (3)"
  received
  crash data
  end_receiver
  gaps_are 0
  comes_back_as r1 1,2,3
}

case_a_slot_that_is_gone_is_made_again_only_where_nothing_is_lost() {
  quiet_shop --wal-segsize=1
  receive
  q "insert into mark values (1)"
  bs backup shop/db
  received
  end_receiver
  # The slot is gone, the log is not.
  q "select pg_drop_replication_slot('backstay_shop_db')" >/dev/null
  q "insert into mark values (2)"
  receive
  grep -q '"slot_made":true' "$WORK/received" || { cat "$WORK/received"; fail "not said that the slot was made"; }
  received
  gaps_are 0
  comes_back_as r1 1,2
  end_receiver
  # Both are gone.
  q "select pg_drop_replication_slot('backstay_shop_db')" >/dev/null
  forget_log
  expect 20 wal receive shop/db
  told_in_one_line
  grep -q -- --new-slot "$WORK/err" || { cat "$WORK/err"; fail "not said what to do"; }
  [ "$(slots)" = 0 ] || fail "a slot was left that nobody uses"
  receive --new-slot
  grep -q '"message_type":"gap"' "$WORK/received" || { cat "$WORK/received"; fail "no word of the gap"; }
  q "insert into mark values (3)"
  received
  gaps_are 1
  # A gap that was accepted once is not in the way of the next one who receives.
  kill_receiver
  receive
  gaps_are 1
  # To the end leads no way any more, and before the gap nothing changed.
  expect 1 restore shop/db --target "$WORK/pg/r2"
  told_in_one_line
  [ ! -e "$WORK/pg/r2" ] || fail "something was made though the log has a gap"
  comes_back_as r3 1 --at immediate
  bs backup shop/db
  comes_back_as r4 1,2,3
  end_receiver
}

case_a_slot_that_the_server_gave_up_is_named() {
  quiet_shop --wal-segsize=1
  receive
  q "insert into mark values (1)"
  bs backup shop/db
  received
  end_receiver
  q "alter system set max_slot_wal_keep_size = '2MB'; "
  q "select pg_reload_conf()" >/dev/null
  forget_log
  forget_log
  [ "$(q "select wal_status from pg_replication_slots")" = lost ] || fail "the slot is not lost"
  expect 20 wal receive shop/db
  told_in_one_line
  grep -q backstay_shop_db "$WORK/err" && grep -q -- --new-slot "$WORK/err" || { cat "$WORK/err"; fail "not said which slot, and what to do"; }
  receive --new-slot
  q "insert into mark values (2)"
  received
  gaps_are 1
  end_receiver
}

case_a_repository_that_is_away_for_a_while_costs_nothing() {
  quiet_shop --wal-segsize=1
  sed -i 's/interval = "1s"/interval = "1s", held_warn = "1M"/' "$WORK/backstay.toml"
  receive
  q "insert into mark values (1)"
  bs backup shop/db
  received
  chmod 000 "$R/ledger"
  q "insert into mark values (2)"
  wait_for_warning 'tried again'
  local n
  for n in 1 2 3; do
    q "create table t$n as select repeat('x', 500) from generate_series(1, 4000)"
    q "select pg_switch_wal()" >/dev/null
  done
  wait_for_warning 'the server keeps'
  [ -e "/proc/$RECEIVER" ] || { cat "$WORK/received.err"; fail "the receiver gave up"; }
  [ "$(q "select pg_current_wal_lsn() - restart_lsn > 2000000 from pg_replication_slots")" = t ] || fail "the server does not keep what is not stored"
  chmod 700 "$R/ledger"
  bs wal status shop/db --server
  grep -q 'slot backstay_shop_db: in use, .* MiB of log' "$WORK/out" || { cat "$WORK/out"; fail "not said what the server keeps"; }
  received
  bs wal status shop/db --server --json
  "$PYTHON" -c 'import json,sys; assert json.load(open(sys.argv[1]))["server"]["behind_bytes"] < 10000' "$WORK/out" || { cat "$WORK/out"; fail "not said that the archive has caught up"; }
  gaps_are 0
  crash data
  end_receiver
  comes_back_as r1 1,2
}

case_a_promotion_is_followed_while_receiving() {
  quiet_shop --wal-segsize=1
  q "insert into mark values (1)"
  pg pg_basebackup -h "$WORK/pg/socket" -U postgres -D "$WORK/pg/standby" -R -c fast -X stream
  # In words that servers of all versions know.
  echo "primary_conninfo = 'host=$WORK/pg/socket port=5432 user=postgres'" >>"$WORK/pg/standby/postgresql.auto.conf"
  pg pg_ctl -D "$WORK/pg/standby" -l "$WORK/pg/standby.log" -o "-p 5434" -w start >/dev/null
  receiving 'port = 5434, user = "postgres"'
  sed -i 's/^physical = { /physical = { method = "remote", /' "$WORK/backstay.toml"
  receive
  # What a standby needs to be backed up comes from its primary.
  (while sleep 0.5; do q "select txid_current(); select pg_switch_wal()" >/dev/null 2>&1 || exit 0; done) &
  local nudge=$!
  bs backup shop/db
  kill $nudge
  q "insert into mark values (2)"
  for _ in $(seq 100); do [ "$(rows 5434 2>/dev/null)" != 1,2 ] || break; sleep 0.1; done
  [ "$(rows 5434)" = 1,2 ] || { tail -n 5 "$WORK/pg/standby.log"; fail "the standby does not follow"; }
  received 5434
  crash data
  pg pg_ctl -D "$WORK/pg/standby" -w promote >/dev/null
  P=5434 q "insert into mark values (3)"
  for _ in $(seq 300); do
    ! grep -q '"message_type":"receiving".*"timeline":2' "$WORK/received" || break
    sleep 0.1
  done
  received 5434
  crash standby
  end_receiver
  gaps_are 0
  comes_back_as r1 1,2,3
  comes_back_as r2 1,2 --timeline 1
}

case_receiving_and_archive_command_live_side_by_side() {
  stage
  receiving
  shop --wal-segsize=1
  receive
  q "insert into mark values (1)"
  bs backup shop/db
  local n
  for n in 2 3 4; do
    q "insert into mark values ($n)"
    archived
  done
  received
  [ "$(q "select failed_count from pg_stat_archiver")" = 0 ] || fail "archive_command failed beside the receiver"
  gaps_are 0
  end_receiver
  # What the other one archived meanwhile is not fetched again.
  q "insert into mark values (5)"
  archived
  receive
  q "insert into mark values (6)"
  received
  crash data
  end_receiver
  gaps_are 0
  comes_back_as r1 1,2,3,4,5,6
}

case_parts_of_segments_that_are_complete_go_with_a_prune() {
  quiet_shop --wal-segsize=1
  receive
  q "insert into mark values (1)"
  bs backup shop/db
  local n before
  for n in 2 3 4; do
    q "insert into mark values ($n)"
    received
    q "select pg_switch_wal()" >/dev/null
    received
  done
  q "insert into mark values (5)"
  received
  before=$(in_ledger)
  bs prune -r "$R"
  [ "$(in_ledger)" -lt "$before" ] || fail "a prune left all $before objects"
  crash data
  end_receiver
  gaps_are 0
  comes_back_as r1 1,2,3,4,5
}

case_who_may_not_receive_is_told_which_line_is_missing() {
  quiet_shop
  q "create role watcher login password 'sesame-7731'; create role plain login password 'sesame-7731'; alter role watcher replication"
  printf '%s\n' 'local all watcher,plain scram-sha-256' 'local replication plain scram-sha-256' 'local replication watcher reject' |
    cat - "$WORK/pg/data/pg_hba.conf" >"$WORK/hba"
  cat "$WORK/hba" >"$WORK/pg/data/pg_hba.conf"
  q "select pg_reload_conf()" >/dev/null
  echo "sesame-7731" >"$WORK/right"
  echo "sesame-7732" >"$WORK/wrong"
  chown postgres "$WORK/right" "$WORK/wrong"
  chmod 600 "$WORK/right" "$WORK/wrong"
  not_let_in() {
    expect 20 wal receive shop/db
    told_in_one_line
    ! grep -r 'sesame-773' "$WORK/out" "$WORK/err" || fail "there is the password"
  }
  receiving "port = 5432, user = \"watcher\", password = \"file:$WORK/wrong\""
  not_let_in
  grep -q 'password authentication failed' "$WORK/err" || { cat "$WORK/err"; fail "not said why"; }
  local user
  for user in plain watcher; do
    receiving "port = 5432, user = \"$user\", password = \"file:$WORK/right\""
    not_let_in
    grep -q "local replication $user" "$WORK/err" && grep -q "alter role $user replication" "$WORK/err" || { cat "$WORK/err"; fail "not said what $user needs"; }
  done
  [ "$(slots)" = 0 ] || fail "a slot was left"
  sed -i 's/^local replication watcher .*/local replication watcher scram-sha-256/' "$WORK/pg/data/pg_hba.conf"
  q "select pg_reload_conf()" >/dev/null
  receive
  q "insert into mark values (1)"
  received
  # Another one does not disturb it.
  local rc=0
  timeout 3 "$BACKSTAY" wal receive shop/db >"$WORK/out" 2>"$WORK/err" || rc=$?
  grep -q 'is active' "$WORK/err" || { cat "$WORK/err"; fail "not said that somebody else receives (exit $rc)"; }
  end_receiver
  # A cluster that was made anew is not taken for the old one.
  stop data
  new_cluster other
  echo "archive_mode = off" >>"$WORK/pg/other/postgresql.conf"
  start other
  D=postgres q "create database shop"
  receiving
  expect 1 wal receive shop/db
  told_in_one_line
  [ "$(slots)" = 0 ] || fail "a slot was left on a stranger"
}

# ---- backups through the server ----

# The configuration of a source whose files the server sends, as a role with nothing but REPLICATION.
from_server() {
  configure "${1:-port = 5432, user = \"taker\"}" "${2:-continuous}"
  sed -i "s/^physical = .*/physical = { method = \"remote\", wal = \"${2:-continuous}\" }/" "$WORK/backstay.toml"
}

# A shop with a tablespace, unlogged tables and some data, and a role that may take it.
remote_shop() {
  stage
  shop "$@"
  pg pgbench -q -i -s 3 -h "$WORK/pg/socket" -U postgres shop >/dev/null 2>&1
  pg mkdir "$WORK/pg/ts"
  q "create tablespace fast location '$WORK/pg/ts'"
  q "create table outside tablespace fast as select generate_series(1, 1000) n"
  q "create unlogged table fleeting as select generate_series(1, 1000) n"
  q "create role taker login replication"
  from_server
}

way_was() {
  head -n 1 "$WORK/out" | grep -q "\"method\":\"$1\"" || { cat "$WORK/out"; fail "not said that the way was $1"; }
}

case_a_cluster_comes_through_its_server_and_back_byte_for_byte() {
  remote_shop --wal-segsize=1
  q "insert into mark values (1)"
  q "checkpoint"
  local load first read added whole moment
  bs backup shop/db --json
  way_was remote
  whole=$(summary_of data_added)
  first=$(summary_of snapshot_id)
  q "insert into mark values (2)"
  bs backup shop/db --json
  read=$(summary_of bytes_read)
  added=$(summary_of data_added)
  echo "measured: $read bytes came, the first time $whole and the second time $added of them were new"
  [ "$added" -lt $((whole / 10)) ] || fail "the second backup added $added bytes, the first one $whole"
  # And one while it is written to: pages that are torn on the way are asked for again.
  q "grant pg_read_server_files to taker; grant execute on function pg_read_binary_file(text, bigint, bigint, boolean) to taker"
  pg pgbench -n -c 2 -R 100 -T 20 -h "$WORK/pg/socket" -U postgres shop >/dev/null 2>&1 &
  load=$!
  bs backup shop/db
  wait $load || true
  q "insert into mark values (3)"
  moment=$(q "select clock_timestamp()")
  sleep 0.1
  q "insert into mark values (4)"
  archived
  bs restore shop/db --target "$WORK/pg/r1"
  start r1 5433
  [ "$(rows)" = 1,2,3,4 ] || fail "rows $(rows)"
  [ "$(P=5433 q 'select sum(abalance) = (select sum(delta) from pgbench_history) from pgbench_accounts')" = t ] || fail "half a transaction"
  [ "$(P=5433 q "select count(*) from outside")" = 1000 ] || fail "the tablespace"
  [ "$(P=5433 q "select count(*) from fleeting")" = 0 ] || fail "the unlogged table is not empty"
  P=5433 q "insert into fleeting values (1)"
  [ "$(P=5433 q "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'")" = "$WORK/pg/r1-tablespaces/fast" ] || fail "the tablespace is elsewhere"
  stop r1
  # It reads its own version's files only.
  ! pg_checksums --version | grep -q " $MAJOR\." || pg pg_checksums -D "$WORK/pg/r1" --check >"$WORK/out" 2>&1 || { tail -n 5 "$WORK/out"; fail "pg_checksums"; }
  rm -rf "$WORK"/pg/r1*
  bs restore shop/db --base "$first" --at immediate --target "$WORK/pg/r2"
  start r2 5433
  [ "$(rows)" = 1 ] || fail "rows $(rows) at the end of the first backup"
  stop r2
  # Over what is there, to a moment.
  bs restore shop/db --at "$moment" --target "$WORK/pg/r2" --delta --confirm "$WORK/pg/r2" --tablespace "fast=$WORK/pg/r2-tablespaces/fast"
  start r2 5433
  [ "$(rows)" = 1,2,3 ] || fail "rows $(rows) after a delta restore"
  stop r2
  # One table of it.
  bs restore shop/db --at "$moment" --table public.mark --to "$WORK/pg/mark.dump"
  pg pg_restore -l "$WORK/pg/mark.dump" | grep 'TABLE DATA public mark' >/dev/null || fail "the table in the file"
  no_server_of_its_own_is_left
  sound
}

case_both_ways_store_the_same_files() {
  remote_shop
  q "grant pg_read_all_settings to taker"
  q "vacuum freeze"
  q "checkpoint"
  bs backup shop/db --json
  way_was remote
  bs ls -r "$R" latest
  grep -v '/$' "$WORK/out" | sed 's/.* \//\//' | grep -v -e pg_xact -e pg_wal | LC_ALL=C sort >"$WORK/remote.list"
  sed -i 's/method = "remote"/method = "local"/; s/user = "taker"/user = "postgres"/' "$WORK/backstay.toml"
  bs backup shop/db --json
  way_was local
  local added whole
  added=$(summary_of data_added)
  whole=$(summary_of total_bytes_processed)
  echo "measured: of $whole bytes, $added were new to the local backup after the remote one"
  [ "$added" -lt $((whole / 10)) ] || fail "a local backup added $added of $whole bytes to the remote one"
  bs ls -r "$R" latest
  grep -v '/$' "$WORK/out" | sed 's/.* \//\//' | grep -v -e pg_xact -e pg_wal | LC_ALL=C sort >"$WORK/local.list"
  diff "$WORK/remote.list" "$WORK/local.list" >"$WORK/diff" || { head -n 20 "$WORK/diff"; fail "the two ways store different files"; }
  # Where the data directory is out of reach, as on another machine, the way is found by itself, and said.
  sed -i 's/method = "local"/method = "auto"/' "$WORK/backstay.toml"
  bs backup shop/db --json
  way_was local
  cat >"$WORK/elsewhere" <<SCRIPT
#!/bin/sh
exec unshare -m sh -c 'mount -t tmpfs tmpfs "\$0" && exec "\$@"' "$WORK/pg/data" "$BACKSTAY" "\$@"
SCRIPT
  chmod 755 "$WORK/elsewhere"
  BACKSTAY=$WORK/elsewhere
  bs backup shop/db
  grep -q "taking the files from the server: .*$WORK/pg/data" "$WORK/err" || { cat "$WORK/err"; fail "not said which way and why"; }
}

case_without_an_archive_the_server_sends_its_log_along() {
  stage
  new_cluster data --wal-segsize=1
  echo "archive_mode = off" >>"$WORK/pg/data/postgresql.conf"
  start data
  D=postgres q "create database shop"
  q "create table mark(n int primary key); insert into mark values (1); create role taker login replication"
  from_server 'port = 5432, user = "taker"' off
  bs backup shop/db --json
  way_was remote
  q "insert into mark values (2)"
  comes_back_as r1 1 --at immediate
}

case_a_remote_backup_that_is_killed_or_whose_server_dies_leaves_nothing() {
  remote_shop
  local delay pid rc
  for delay in 0.3 0.8; do
    "$BACKSTAY" backup shop/db --compression zstd:19 >"$WORK/out" 2>"$WORK/err" &
    pid=$!
    sleep $delay
    [ -e "/proc/$pid/exe" ] || { cat "$WORK/err"; fail "it ended before it could be killed"; }
    kill -9 $pid
    wait $pid 2>/dev/null || true
  done
  "$BACKSTAY" backup shop/db --compression zstd:19 >"$WORK/out" 2>"$WORK/err" &
  pid=$! rc=0
  for _ in $(seq 200); do
    [ "$(q "select count(*) from pg_stat_progress_basebackup where phase = 'streaming database files'")" = 0 ] || break
    sleep 0.02
  done
  crash data
  wait $pid || rc=$?
  [ $rc = 20 ] || { cat "$WORK/err"; fail "exit $rc of a backup whose server died, wanted 20"; }
  told_in_one_line
  [ -z "$(snapshot_ids)" ] || fail "there is a snapshot of a backup that did not end"
  [ -z "$(find "$WORK/cache" -path '*/scratch/*' -type f)" ] || fail "something was left on the disk"
  start data
  q "insert into mark values (1)"
  bs backup shop/db
  comes_back_as r1 1
  sound
}

case_a_damaged_page_is_named_by_a_remote_backup() {
  remote_shop
  local file
  file=$(q "select pg_relation_filepath('pgbench_accounts')")
  stop data
  printf x | dd of="$WORK/pg/data/$file" bs=1 seek=$((3 * 8192 + 4000)) conv=notrunc status=none
  printf x | dd of="$WORK/pg/data/$file" bs=1 seek=$((700 * 8192 + 4000)) conv=notrunc status=none
  start data
  # Who may not ask for the page again says so.
  expect 3 backup shop/db
  grep "$file" "$WORK/err" | grep 'block 3, 700' | grep -q pg_read_server_files || { cat "$WORK/err"; fail "not said which pages, and what is not known"; }
  q "grant pg_read_server_files to taker; grant execute on function pg_read_binary_file(text, bigint, bigint, boolean) to taker"
  expect 3 backup shop/db
  grep "$file" "$WORK/err" | grep 'block 3, 700' | grep -q 'is damaged there' || { cat "$WORK/err"; fail "not said that they are damaged"; }
}

case_who_may_not_be_taken_is_told_what_is_missing() {
  remote_shop
  q "alter role taker noreplication"
  expect 20 backup shop/db
  told_in_one_line
  grep -q 'alter role taker replication' "$WORK/err" && grep -q 'pg_hba.conf' "$WORK/err" || { cat "$WORK/err"; fail "not said what is missing"; }
  q "alter role taker replication"
  sed -i '1i local replication all reject' "$WORK/pg/data/pg_hba.conf"
  q "select pg_reload_conf()" >/dev/null
  expect 20 backup shop/db
  told_in_one_line
  grep -q 'local replication taker' "$WORK/err" || { cat "$WORK/err"; fail "not said which line is missing"; }
  [ -z "$(snapshot_ids)" ] || fail "there is a snapshot of a backup that was refused"
}

# ---- encryption ----

# A shop that is reached by TCP on port NETPORT and takes passwords there, with certificates in WORK/pg: ca (which vouches for
# `server`, of the name localhost, and for `client`, of the role taker), and another, which vouches for nobody.
network_shop() {
  need_program openssl
  stage
  NETPORT=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  local who tls=$WORK/pg
  for who in ca another; do
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$who" -keyout "$tls/$who.key" -out "$tls/$who.pem" 2>"$WORK/openssl" || fail "openssl: $(cat "$WORK/openssl")"
  done
  for who in server:localhost client:taker; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=${who#*:}" -keyout "$tls/${who%:*}.key" -out "$tls/${who%:*}.csr" 2>"$WORK/openssl" || fail "openssl: $(cat "$WORK/openssl")"
    printf 'subjectAltName = DNS:%s\n' "${who#*:}" >"$WORK/san"
    openssl x509 -req -in "$tls/${who%:*}.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial -days 2 -extfile "$WORK/san" -out "$tls/${who%:*}.pem" 2>"$WORK/openssl" || fail "openssl: $(cat "$WORK/openssl")"
  done
  chown postgres "$tls"/*.key "$tls"/*.pem
  chmod 600 "$tls"/*.key
  new_cluster data
  cat >>"$WORK/pg/data/postgresql.conf" <<CONF
archive_mode = off
listen_addresses = '127.0.0.1'
ssl_cert_file = '$tls/server.pem'
ssl_key_file = '$tls/server.key'
ssl_ca_file = '$tls/ca.pem'
CONF
  echo "host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256" | cat - "$WORK/pg/data/pg_hba.conf" >"$WORK/hba"
  cat "$WORK/hba" >"$WORK/pg/data/pg_hba.conf"
  start data "$NETPORT"
  export P=$NETPORT
  D=postgres q "create database shop"
  q "create table mark(n int primary key); create role taker login replication password 'sesame-7731'"
  echo "sesame-7731" >"$WORK/pg/password"
  chown postgres "$WORK/pg/password"
  chmod 600 "$WORK/pg/password"
}

encrypt() {
  q "alter system set ssl = $1" 2>"$WORK/err" || { ! grep -q 'not supported' "$WORK/err" || skip "PostgreSQL in $PGBIN cannot encrypt"; fail "$(cat "$WORK/err")"; }
  q "select pg_reload_conf()" >/dev/null
  local n
  for n in $(seq 50); do
    [ "$(q "show ssl")" != "$1" ] || return 0
    sleep 0.1
  done
  tail -n 5 "$WORK/pg/data.log"
  fail "the server does not encrypt"
}

# The source by TCP: host, and what else `connect` says.
over_network() {
  receiving
  sed -i "s|^connect = .*|connect = { host = \"$1\", port = $NETPORT, user = \"taker\", database = \"shop\", password = \"file:$WORK/pg/password\"${2:+, $2} }|" "$WORK/backstay.toml"
}

# The receiver gets through, and this ("t" or "f") is whether its connections are encrypted.
gets_through() {
  local found
  receive
  found=$(q "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'backstay'")
  [ "$found" = "$1" ] || fail "encrypted: $found, wanted $1: $(grep ^connect "$WORK/backstay.toml")"
  end_receiver
}

is_refused() {
  expect 20 wal receive shop/db
  told_in_one_line
  grep -q "$1" "$WORK/err" || { cat "$WORK/err"; fail "not said: $1"; }
}

case_connections_are_encrypted_and_servers_known_as_sslmode_says() {
  network_shop
  local ca="sslrootcert = \"$WORK/pg/ca.pem\""
  over_network localhost 'sslmode = "require"'
  is_refused 'does not encrypt connections'
  for mode in disable allow prefer; do
    over_network localhost "sslmode = \"$mode\""
    gets_through f
  done
  encrypt on
  over_network localhost
  gets_through t
  over_network localhost 'sslmode = "allow"'
  gets_through f
  for mode in require verify-ca verify-full; do
    over_network localhost "sslmode = \"$mode\", $ca"
    gets_through t
  done
  # Another name, which is only compared by one of them.
  over_network 127.0.0.1 "sslmode = \"verify-ca\", $ca"
  gets_through t
  over_network 127.0.0.1 "sslmode = \"verify-full\", $ca"
  is_refused 'its certificate is not that of 127.0.0.1'
  # Nobody vouches for it.
  over_network localhost "sslmode = \"verify-full\", sslrootcert = \"$WORK/pg/another.pem\""
  is_refused 'another.pem vouches for its certificate'
  over_network localhost "sslmode = \"verify-ca\", sslrootcert = \"$WORK/pg/client.key\""
  is_refused 'client.key'
  over_network localhost 'sslmode = "verify-full"'
  expect 2 config check
  grep -q sslrootcert "$WORK/out" "$WORK/err" || { cat "$WORK/out" "$WORK/err"; fail "not said what is missing"; }
  # The server's own certificate, as most are made, is one to be known by.
  over_network localhost "sslmode = \"verify-full\", sslrootcert = \"$WORK/pg/server.pem\""
  gets_through t
}

case_a_certificate_lets_a_role_in_and_a_server_may_insist_on_encryption() {
  network_shop
  encrypt on
  sed -i 's/^host /hostssl /; s/^hostssl replication all .*/hostssl replication all 127.0.0.1\/32 cert/' "$WORK/pg/data/pg_hba.conf"
  q "select pg_reload_conf()" >/dev/null
  local own="sslcert = \"$WORK/pg/client.pem\", sslkey = \"$WORK/pg/client.key\""
  over_network localhost "sslmode = \"verify-full\", sslrootcert = \"$WORK/pg/ca.pem\", $own"
  gets_through t
  over_network localhost "sslmode = \"allow\", $own"
  gets_through t
  over_network localhost "sslmode = \"disable\""
  is_refused 'no encryption'
  over_network localhost "sslmode = \"require\""
  is_refused 'certificate'
  # A backup comes the same way.
  over_network localhost "sslmode = \"require\", $own"
  sed -i 's/^physical = .*/physical = { wal = "off", method = "remote" }/' "$WORK/backstay.toml"
  q "insert into mark values (1)"
  bs backup shop/db --json
  way_was remote
  unset P
  comes_back_as r1 1 --at immediate
}

case_somebody_between_cannot_pass_a_log_in_on() {
  network_shop
  encrypt on
  cat >"$WORK/between.py" <<'PY'
import socket, ssl, sys, threading
port, certificate, key, ready = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
to_client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
to_client.load_cert_chain(certificate, key)
to_server = ssl.create_default_context()
to_server.check_hostname, to_server.verify_mode = False, ssl.CERT_NONE

def hand_on(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    target.close()

def serve(client):
    server = socket.create_connection(("127.0.0.1", port))
    question = client.recv(8)
    client.sendall(b"S")
    server.sendall(question)
    server.recv(1)
    client, server = to_client.wrap_socket(client, server_side=True), to_server.wrap_socket(server)
    threading.Thread(target=hand_on, args=(client, server), daemon=True).start()
    hand_on(server, client)

with open(ready, "w") as f:
    f.write(str(listener.getsockname()[1]))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
PY
  local between=$WORK/pg/between n
  "$PYTHON" "$WORK/between.py" "$NETPORT" "$WORK/pg/another.pem" "$WORK/pg/another.key" "$between" 2>"$WORK/between.err" &
  for n in $(seq 100); do
    [ ! -s "$between" ] || break
    sleep 0.1
  done
  over_network localhost 'sslmode = "require"'
  gets_through t
  # It has the password handed on as it is, and its own certificate.
  sed -i "s/port = $NETPORT/port = $(cat "$between")/" "$WORK/backstay.toml"
  is_refused 'channel binding'
}

run_cases "$@"
