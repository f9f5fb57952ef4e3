#!/usr/bin/env bash
# Real PostgreSQL servers on mounted backups: all rows of a moment, writes that go again, tables taken out at their own cost, and
# what is left when the program is killed. Each case says what must hold. Run one with: tests/instant.sh NAME…
#
# Needs: root, /dev/fuse, fusermount3, unshare, setpriv, python3, the user postgres and PostgreSQL 14 to 18 in PGBIN, or in
# /usr/lib/postgresql. What is missing is skipped and counted.

# In a namespace of its own, with the device as udev makes it, whatever it is like here: the program runs as postgres.
if [ "$(id -u)" = 0 ] && [ -z "${OWN_MOUNTS:-}" ] && [ -c /dev/fuse ] && command -v unshare >/dev/null; then
  exec env OWN_MOUNTS=1 unshare -m --propagation private "$0" "$@"
fi
if [ -n "${OWN_MOUNTS:-}" ] && [ "$(stat -c %a /dev/fuse)" != 666 ]; then
  node=$(mktemp -d)
  mknod -m 666 "$node/fuse" c 10 229
  mount --bind "$node/fuse" /dev/fuse
  rm -r "$node"
fi
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/postgres-stage.sh"

# ---- the stage ----

instant_stage() {
  need_program unshare fusermount3
  [ -c /dev/fuse ] || skip "needs /dev/fuse"
  stage
}

# Starts a server on a backup, with these arguments, and waits until it can be written to, or until it answers when READY=ready.
# Its socket is in $HOST then.
instant() {
  : >"$WORK/instant.out"
  "$BACKSTAY" --json instant shop/db "$@" >"$WORK/instant.out" 2>"$WORK/instant.err" &
  INSTANT=$!
  for _ in $(seq 1200); do
    HOST=$("$PYTHON" - "$WORK/instant.out" "${READY:-writable}" <<'PY'
import json, sys
events = [json.loads(line) for line in open(sys.argv[1]) if line.endswith("\n")]
ready = [e for e in events if e["message_type"] == "ready"]
if ready and (sys.argv[2] == "ready" or not ready[0]["recovering"] or any(e["message_type"] == "writable" for e in events)):
    print(ready[0]["host"])
PY
    )
    [ -z "$HOST" ] || return 0
    [ -e "/proc/$INSTANT" ] || break
    sleep 0.1
  done
  cat "$WORK/instant.out" "$WORK/instant.err"
  fail "no server on the backup: $*"
}

ended() {
  local rc=0
  kill -"${1:-INT}" "$INSTANT"
  wait "$INSTANT" || rc=$?
  [ $rc = 0 ] || { cat "$WORK/instant.err"; fail "exit $rc of instant"; }
  nothing_is_left
}

nothing_is_left() {
  ! grep -q " $WORK/.*fuse" /proc/mounts || fail "it is still mounted: $(grep "$WORK" /proc/mounts)"
  [ -z "$(ls -A "$WORK/cache/scratch" 2>/dev/null)" ] || fail "this is left: $(find "$WORK/cache/scratch" | head -n 5)"
}

# A statement for the server on the backup, in database D.
iq() {
  pg psql -XAtq -h "$HOST" -p 5432 -U postgres -d "${D:-shop}" -v ON_ERROR_STOP=1 -c "$1"
}

marks() {
  iq "select coalesce(string_agg(n::text, ',' order by n), 'none') from mark"
}

# ---- cases ----

case_a_server_on_a_backup_has_every_row_and_what_it_writes_goes_again() {
  instant_stage
  shop
  mkdir "$WORK/pg/fast" && chown postgres "$WORK/pg/fast"
  q "create tablespace fast location '$WORK/pg/fast'"
  q "create table wide(n int primary key, v text) tablespace fast"
  q "insert into wide select n, md5(n::text) from generate_series(1, 20000) n"
  q "create table big as select n, repeat(md5(n::text), 4) v from generate_series(1, 60000) n"
  q "insert into mark values (1)"
  bs backup shop/db
  q "insert into mark values (2)"
  q "update big set v = 'changed' where n % 100 = 0"
  archived
  local want
  want=$(q "select sum(hashtext(v)::bigint) from big")
  instant
  [ "$(marks)" = 1,2 ] || fail "rows $(marks)"
  [ "$(iq "select count(*), sum(hashtext(v)::bigint) from big")" = "60000|$want" ] || fail "big differs"
  [ "$(iq "select count(*) from wide where v = md5(n::text)")" = 20000 ] || fail "the tablespace is not all there"
  [ "$(iq "show archive_mode")/$(iq "show max_logical_replication_workers")/$(iq "show listen_addresses")" = off/0/ ] || fail "it is not kept to itself"
  # Everything that a server does to files.
  iq "insert into mark select generate_series(100, 5000)"
  iq "delete from big where n > 30000"
  iq "vacuum full big"
  iq "create index on big(n); truncate wide"
  D=postgres iq "create database other template shop"
  [ "$(D=other iq "select count(*) from big")" = 30000 ] || fail "a copy of the database differs"
  D=postgres iq "drop database other"
  iq "create table made(n int); insert into made select generate_series(1, 50000); checkpoint; drop table made"
  iq "select pg_switch_wal()" >/dev/null
  # Its processes are lost and it recovers by itself, on the same mount.
  local process now checkpointer="select pid from pg_stat_activity where backend_type = 'checkpointer'"
  process=$(iq "$checkpointer")
  kill -9 "$process"
  for _ in $(seq 300); do
    now=$(iq "$checkpointer" 2>/dev/null || true)
    [ -z "$now" ] || [ "$now" = "$process" ] || break
    sleep 0.1
  done
  [ "$(iq "select count(*) from mark")" = 4903 ] || fail "committed rows are lost"
  if command -v pg_amcheck >/dev/null && [ "$(iq "select count(*) from pg_available_extensions where name = 'amcheck'")" = 1 ]; then
    iq "create extension amcheck"
    pg pg_amcheck -h "$HOST" -p 5432 -U postgres -d shop --heapallindexed >"$WORK/amcheck" 2>&1 || { cat "$WORK/amcheck"; fail "pg_amcheck"; }
  fi
  ended
  instant
  [ "$(marks)" = 1,2 ] && [ "$(iq "select count(*) from big")" = 60000 ] || fail "the backup was changed"
  ended TERM
  sound
}

case_a_server_on_a_backup_shows_the_moment_that_was_asked_for() {
  instant_stage
  shop
  q "insert into mark values (1)"
  bs backup shop/db
  local first
  first=$(snapshot_ids | tail -n 1)
  q "insert into mark values (2)"
  local lsn
  lsn=$(q "select pg_current_wal_insert_lsn()")
  sleep 1.1
  local moment
  moment=$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)
  sleep 1.1
  q "insert into mark values (3)"
  archived
  instant --at "$moment"
  [ "$(marks)" = 1,2 ] || fail "rows $(marks)"
  ended
  # By its port it asks for a password, and takes the right one.
  q "create role reader login password 'open sesame'"
  q "grant select on mark to reader"
  archived
  local port
  port=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  instant --port "$port"
  [ "$(PGPASSWORD='open sesame' psql -XAtw -h 127.0.0.1 -p "$port" -U reader -d shop -c "select count(*) from mark")" = 3 ] || fail "nobody gets in by the port"
  ! PGPASSWORD=wrong psql -XAtw -h 127.0.0.1 -p "$port" -U reader -d shop -c "select 1" 2>/dev/null || fail "everybody gets in by the port"
  ended
  READY=ready instant --at "lsn:$lsn" --read-only
  for _ in $(seq 300); do [ "$(iq "select pg_get_wal_replay_pause_state()")" != paused ] || break; sleep 0.1; done
  [ "$(marks)/$(iq "select pg_is_in_recovery()")" = 1,2/t ] || fail "rows $(marks)"
  ended
  "$BACKSTAY" instant "shop/db:${first:0:8}" >"$WORK/instant.out" 2>"$WORK/instant.err" &
  INSTANT=$!
  for _ in $(seq 600); do ! grep -q 'be written to' "$WORK/instant.out" || break; sleep 0.1; done
  HOST=$(sed -n 's/^psql -h \([^ ]*\) .*/\1/p' "$WORK/instant.out")
  for _ in $(seq 300); do [ "$(iq "select pg_is_in_recovery()")" = t ] || break; sleep 0.1; done
  [ "$(marks)" = 1 ] || fail "rows $(marks)"
  ended
}

case_a_table_is_taken_out_of_a_mounted_backup_and_out_of_a_restored_one() {
  instant_stage
  shop
  q "create table wanted as select n, md5(n::text) v from generate_series(1, 5000) n"
  q "create table other as select n, md5(n::text) v from generate_series(1, 50000) n"
  bs backup shop/db
  q "update wanted set v = 'later' where n = 7"
  archived
  bs restore shop/db --table wanted --to "$WORK/pg/mounted.dump" --json
  [ "$(summary_of mounted)" = True ] || fail "the cluster was restored for a table"
  nothing_is_left
  mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9 && mkdir /dev/shm && chmod 1777 /dev/shm
  bs restore shop/db --table wanted --to "$WORK/pg/restored.dump"
  grep -q 'no /dev/fuse' "$WORK/out" || { cat "$WORK/out"; fail "it does not say why it restored all"; }
  nothing_is_left
  expect 1 instant shop/db
  told_in_one_line
  umount /dev
  local dump
  for dump in mounted restored; do
    D=postgres q "create database $dump"
    pg pg_restore -h "$WORK/pg/socket" -U postgres -d $dump "$WORK/pg/$dump.dump"
    [ "$(D=$dump q "select count(*), sum(hashtext(v)::bigint) from wanted")" = "$(q "select count(*), sum(hashtext(v)::bigint) from wanted")" ] || fail "$dump differs"
  done
}

case_damage_is_an_error_of_who_reads_it_and_of_nobody_else() {
  instant_stage
  shop
  q "create table sound as select n, md5(n::text) v from generate_series(1, 5000) n"
  bs backup shop/db
  # Only this table is in the packs of the second backup.
  find "$R/packs" -type f | sort >"$WORK/packs"
  q "create table hurt as select n, md5(n::text) || md5((n * 3)::text) v from generate_series(1, 100000) n"
  q "checkpoint"
  bs backup shop/db
  archived
  "$PYTHON" - "$R/packs" "$WORK/packs" <<'PY'
import os, sys
old = set(open(sys.argv[2]).read().split("\n"))
new = [os.path.join(d, f) for d, _, files in os.walk(sys.argv[1]) for f in files]
largest = max((f for f in new if f not in old), key=os.path.getsize)
os.chmod(largest, 0o600)
with open(largest, "r+b") as f:
    size = os.path.getsize(largest)
    for at in range(size // 4, size * 3 // 4, size // 16):
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1]))
PY
  bs restore shop/db --at immediate --table sound --to "$WORK/pg/sound.dump"
  expect 1 restore shop/db --at immediate --table hurt --to "$WORK/pg/hurt.dump"
  grep -q 'could not read block' "$WORK/err" || { cat "$WORK/err"; fail "it does not say what cannot be read"; }
  [ ! -e "$WORK/pg/hurt.dump" ] || fail "half a dump is left"
  nothing_is_left
  instant --at immediate
  [ "$(iq "select count(*) from sound")" = 5000 ] || fail "the sound table suffers"
  ! iq "select count(v) from hurt" >/dev/null 2>"$WORK/psql" || fail "damage was read as data"
  grep -q 'Input/output error' "$WORK/psql" || { cat "$WORK/psql"; fail "another error than that of the damage"; }
  [ -s "$WORK/instant.err" ] || fail "the damage was not told"
  [ "$(iq "select 1")" = 1 ] || fail "the server went down with it"
  ended
}

case_what_a_killed_program_leaves_can_be_removed_and_harms_nothing() {
  instant_stage
  shop
  q "insert into mark values (1)"
  bs backup shop/db
  archived
  instant
  iq "insert into mark select generate_series(10, 20000)"
  # The program itself, which setpriv became.
  kill -9 "$INSTANT"
  wait "$INSTANT" 2>/dev/null || true
  for _ in $(seq 300); do
    [ -n "$(find /proc -maxdepth 2 -path '/proc/[0-9]*/cwd' -lname "$WORK/cache/*" 2>/dev/null)" ] || break
    sleep 0.1
  done
  local left
  left=$(awk -v w="$WORK/cache" 'index($2, w) == 1 { print $2 }' /proc/mounts)
  [ -n "$left" ] || fail "nothing is left of the mount"
  umount -l "$left"
  [ "$(du -s "$WORK/cache/scratch" | cut -f 1)" -lt 1000 ] || fail "changed pages are left on the disk"
  rm -rf "$WORK/cache/scratch"
  instant
  [ "$(marks)" = 1 ] || fail "rows $(marks)"
  ended
  no_server_of_its_own_is_left
}

case_root_starts_the_server_as_whoever_owns_it() {
  instant_stage
  shop
  q "insert into mark values (1)"
  bs backup shop/db
  archived
  chmod 755 "$WORK/cache"
  BACKSTAY=$PROGRAM instant
  [ "$(marks)" = 1 ] || fail "rows $(marks)"
  [ "$(ps -o user= -p "$(head -n 1 "$HOST/pid")")" = postgres ] || fail "the server runs as somebody else"
  ended
}

run_cases "$@"
