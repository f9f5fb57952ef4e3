#!/usr/bin/env bash
# Dumps of real PostgreSQL databases, and back: odd names, large objects, changed and unchanged tables, programs that are too
# old, killed, or run out of disk. Each case says what must hold. Run one with: tests/postgres-logical.sh NAME…
#
# Needs: root, setpriv, python3, the user postgres and PostgreSQL 14 to 18 in PGBIN, or in /usr/lib/postgresql. What is
# missing is skipped and counted.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/postgres-stage.sh"

# The configuration of dumps: keys of the source, and what is added to `connect` or put in its place.
dumps() {
  local keys=${1:-'logical = { globals = true }'} connect=${2:-"port = 5432, user = \"postgres\", database = \"shop\""}
  cat >"$WORK/backstay.toml" <<TOML
version = 1
[repository.main]
url = "file://$R"
key = "file:$BACKSTAY_KEY_FILE"
[platform.shop]
repositories = ["main"]
[platform.shop.source.db]
kind = "postgres"
connect = { host = "$WORK/pg/socket", $connect }
$keys
TOML
  chmod 644 "$WORK/backstay.toml"
}

# A server without an archive, with the database shop.
server() {
  new_cluster data "$@"
  sed -i 's/^archive_mode = on/archive_mode = off/' "$WORK/pg/data/postgresql.conf"
  start data
  D=postgres q "create database shop"
}

# Programs of a later version than the server's dump, and do not restore into it.
same_tools() {
  [ "$(pg_restore --version | sed 's/.*(PostgreSQL) \([0-9]*\).*/\1/')" = "$MAJOR" ] || skip "needs pg_restore of PostgreSQL $MAJOR"
}

# Everything in the snapshot, as files in WORK/pg/tree.
as_files() {
  rm -rf "$WORK/pg/tree"
  bs restore "${1:-latest}" --target "$WORK/pg/tree"
}

no_snapshot() {
  [ -z "$(snapshot_ids)" ] || fail "there is a snapshot of a dump that failed"
}

# Nothing is left in the private directory of dumps, but for what a program that was killed left.
nothing_is_left() {
  local found
  found=$(find "$WORK/cache/scratch" -mindepth 1 2>/dev/null | sed -n 1,3p || true)
  [ -z "$found" ] || fail "this is left of a dump: $found"
}

# ---- dumping ----

case_a_dump_is_a_directory_that_pg_restore_takes_and_holds_everything() {
  stage
  same_tools
  server
  dumps 'logical = { globals = true }
dumps = [{ name = "small", exclude_tables = ["big"] }, { name = "definitions", schema_only = true }]
workers = 3
count_tables = ["public.mark"]'
  q "create table mark(n int primary key); insert into mark select generate_series(1, 1000)"
  q "create table big as select n, repeat(md5(n::text), 20) t from generate_series(1, 60000) n"
  q "select lo_from_bytea(0, decode(repeat(md5('x'), 40000), 'hex'))" >/dev/null
  q "create role clerk login password 'sesame-7731'; grant select on mark to clerk"
  bs backup shop/db --json
  [ "$(summary_of total_files_processed)" -gt 5 ] || fail "too few files"
  grep -q 'public.big' "$WORK/out" || grep -q message_type "$WORK/out" || fail "no progress"
  "$BACKSTAY" snapshots shop/db --json | grep -q '"kind": *"logical"' || fail "the kind is not shown"
  [ "$(snapshot_ids | wc -l)" = 1 ] || fail "not one snapshot"
  nothing_is_left
  as_files
  [ "$(find "$WORK/pg/tree" -maxdepth 2 -mindepth 1 -printf '%P\n' | sort | tr '\n' ' ')" = "databases databases/shop dumps dumps/definitions dumps/small globals.sql " ] || fail "the tree is $(find "$WORK/pg/tree" -maxdepth 2)"
  grep -q 'CREATE ROLE clerk' "$WORK/pg/tree/globals.sql" || fail "the role is not there"
  grep -q 'SCRAM-SHA-256' "$WORK/pg/tree/globals.sql" || fail "its password is not there"
  grep -q 'CREATE TABLE public.big' "$WORK/pg/tree/databases/shop/schema.sql" || fail "the definitions"
  ! ls "$WORK/pg/tree/dumps/definitions/dump" | grep -qE '^[0-9]+\.dat' || fail "rows among definitions"
  pg pg_restore -l "$WORK/pg/tree/dumps/small/dump" | grep -q 'TABLE DATA public mark' || fail "what was not excluded"
  ! pg pg_restore -l "$WORK/pg/tree/dumps/small/dump" | grep -q 'TABLE DATA public big' || fail "what was excluded"
  D=postgres q "create database copy"
  pg pg_restore --exit-on-error -j 2 -h "$WORK/pg/socket" -U postgres -d copy "$WORK/pg/tree/databases/shop/dump"
  [ "$(D=copy q "select md5(string_agg(b::text, '' order by n)) from big b")" = "$(q "select md5(string_agg(b::text, '' order by n)) from big b")" ] || fail "the table differs"
  local digest="select md5(string_agg(encode(data, 'hex'), '' order by loid, pageno)) from pg_largeobject"
  [ "$(D=copy q "$digest")" = "$(q "$digest")" ] || fail "the large object differs"
  sound
}

case_an_unchanged_database_costs_next_to_nothing_in_the_next_dump() {
  stage
  server
  dumps
  pg pgbench -q -i -s 6 -h "$WORK/pg/socket" -U postgres shop >/dev/null 2>&1
  q "create table texts as select n, md5(n::text) || md5((n * 7)::text) t from generate_series(1, 400000) n"
  local whole total nothing part
  bs backup shop/db --dry-run
  no_snapshot
  bs backup shop/db --json
  whole=$(summary_of data_added)
  total=$(summary_of total_bytes_processed)
  bs backup shop/db --json
  nothing=$(summary_of data_added)
  q "update texts set t = 'changed' where n between 200000 and 200100"
  bs backup shop/db --json
  part=$(summary_of data_added)
  echo "measured: of $total bytes the first dump added $whole, one after nothing $nothing, one after 101 rows $part"
  [ "$nothing" -lt 100000 ] || fail "an unchanged database added $nothing bytes"
  [ "$part" -lt $((whole / 20)) ] || fail "a change of 101 rows added $part bytes to $whole"
}

case_all_databases_of_odd_names_are_dumped() {
  stage
  server
  dumps 'logical = { databases = ["*"] }' 'port = 5432, user = "postgres"'
  local name
  for name in "it's" '-dash' 'a "b" c' 'Müller/..' '../up' 'dbname=postgres' '100%'; do
    pg psql -XAtq -h "$WORK/pg/socket" -U postgres -d postgres -v ON_ERROR_STOP=1 -v "n=$name" <<<'create database :"n"'
    pg psql -XAtq -h "$WORK/pg/socket" -U postgres -v ON_ERROR_STOP=1 -v "n=$name" -d "dbname='${name//\'/\\\'}'" <<<"create table \"odd 'table'\" as select :'n'::text name; create table \"-x\" (); create role \"role \"\"${name//\"/\"\"}\"\"\""
  done
  bs backup shop/db
  as_files
  for name in "it's" '-dash' 'a "b" c' 'Müller%2F..' '%2E.%2Fup' 'dbname=postgres' '100%25' postgres shop; do
    [ -f "$WORK/pg/tree/databases/$name/dump/toc.dat" ] || { ls "$WORK/pg/tree/databases"; fail "no dump of $name"; }
  done
  pg pg_restore -f - "$WORK/pg/tree/databases/it's/dump" | grep -qx "it's" || fail "the rows of it's"
}

case_who_may_not_read_passwords_gets_the_roles_without_them() {
  stage
  server
  q "create table t as select 1 n"
  D=postgres q "create role plain login; create role secret login password 'x'"
  q "grant select on t to plain"
  dumps 'logical = { globals = true }' 'port = 5432, user = "plain", database = "shop"'
  bs backup shop/db
  grep -q 'without passwords' "$WORK/err" || { cat "$WORK/err"; fail "not said that passwords are missing"; }
  as_files
  grep -q 'CREATE ROLE secret' "$WORK/pg/tree/globals.sql" || fail "the role is not there"
  ! grep -qE 'SCRAM|md5' "$WORK/pg/tree/globals.sql" || fail "a password is there"
}

case_plain_backup_takes_all_that_is_configured_and_types_take_one() {
  stage
  shop
  dumps 'physical = { wal = "continuous" }
logical = { globals = false }'
  q "insert into mark values (1)"
  bs backup shop/db
  bs backup shop/db --type logical
  bs backup shop/db --type physical
  [ "$("$BACKSTAY" snapshots shop/db --json | "$PYTHON" -c 'import json,sys; print(*(s["kind"] for s in json.load(sys.stdin)))')" = "postgres logical logical postgres" ] || fail "the kinds of snapshots"
  # Neither stands in for the other when snapshots are forgotten.
  bs forget --source shop/db --keep-last 1
  [ "$("$BACKSTAY" snapshots shop/db --json | "$PYTHON" -c 'import json,sys; print(*(s["kind"] for s in json.load(sys.stdin)))')" = "logical postgres" ] || fail "the kinds of snapshots that are kept"
  archived
  comes_back_as r1 1
  expect 2 backup "$S" --type logical
  dumps
  expect 2 backup shop/db --type physical
  told_in_one_line
}

case_a_table_that_is_locked_for_long_does_not_keep_a_physical_backup_waiting() {
  stage
  shop
  configure 'port = 5432, user = "postgres"' off
  q "insert into mark values (1)"
  pg psql -XAtq -h "$WORK/pg/socket" -U postgres -d shop -c "begin; lock table mark in access exclusive mode; select pg_sleep(300)" >/dev/null 2>&1 &
  for _ in $(seq 100); do [ "$(q "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted")" = 0 ] || break; sleep 0.1; done
  timeout 90 "$BACKSTAY" backup shop/db >"$WORK/out" 2>"$WORK/err" || { cat "$WORK/err"; fail "no backup beside a locked table"; }
  [ "$(snapshot_ids | wc -l)" = 1 ] || fail "no snapshot"
}

case_definitions_go_to_git_when_they_change() {
  stage
  need_program git
  server
  export GIT_CONFIG_GLOBAL=/dev/null
  pg git init -q --bare "$WORK/pg/schema.git"
  dumps "logical = { schema_git = \"$WORK/pg/schema.git\" }"
  q "create table t(n int)"
  commits() { pg git --git-dir="$WORK/pg/schema.git" rev-list --count --all; }
  bs backup shop/db
  [ "$(commits)" = 1 ] || fail "$(commits) commits after the first backup"
  q "insert into t values (1)"
  bs backup shop/db
  [ "$(commits)" = 1 ] || fail "$(commits) commits, and no definition changed"
  q "alter table t add column name text"
  bs backup shop/db
  [ "$(commits)" = 2 ] || fail "$(commits) commits after a change"
  pg git --git-dir="$WORK/pg/schema.git" show HEAD:shop/db/databases/shop.sql | grep -q 'name text' || fail "the definition"
  rm -rf "$WORK/pg/schema.git"
  expect 3 backup shop/db
  [ "$(snapshot_ids | wc -l)" = 4 ] || fail "the backup was not kept"
}

# ---- bad days ----

case_a_database_that_is_dropped_in_a_dump_ends_it() {
  stage
  server
  dumps 'logical = { databases = ["*"] }'
  pg pgbench -q -i -s 20 -h "$WORK/pg/socket" -U postgres shop >/dev/null 2>&1
  local pid rc=0
  "$BACKSTAY" backup shop/db >"$WORK/out" 2>"$WORK/err" &
  pid=$!
  for _ in $(seq 400); do [ "$(D=postgres q "select count(*) from pg_stat_activity where query like 'COPY %pgbench_accounts%' and pid <> pg_backend_pid()")" = 0 ] || break; sleep 0.02; done
  D=postgres q "drop database shop with (force)"
  wait $pid || rc=$?
  [ $rc = 20 ] || { cat "$WORK/err"; fail "exit $rc, wanted 20"; }
  told_in_one_line
  grep -q 'shop' "$WORK/err" || { cat "$WORK/err"; fail "not said which database"; }
  no_snapshot
  nothing_is_left
  # With the database away for good, one that is named is missed and all that are there are not.
  dumps 'logical = { databases = ["*"] }' 'port = 5432, user = "postgres"'
  bs backup shop/db
  dumps 'logical = { databases = ["shop"] }' 'port = 5432, user = "postgres"'
  expect 2 backup shop/db
  told_in_one_line
}

case_wrong_passwords_are_told_in_one_line_and_appear_nowhere() {
  stage
  server
  q "create role strong login superuser password 'sesame-7731'; create table t as select 1 n"
  sed -i '1i local all strong scram-sha-256' "$WORK/pg/data/pg_hba.conf"
  q "select pg_reload_conf()" >/dev/null
  echo "sesame-7731" >"$WORK/right"
  echo "sesame-7732" >"$WORK/wrong"
  chown postgres "$WORK/right" "$WORK/wrong"
  chmod 600 "$WORK/right" "$WORK/wrong"
  dumps 'logical = { globals = true }' "port = 5432, user = \"strong\", database = \"shop\", password = \"file:$WORK/wrong\""
  expect 20 backup shop/db
  told_in_one_line
  grep -q 'password authentication failed' "$WORK/err" || { cat "$WORK/err"; fail "not said why"; }
  no_snapshot
  dumps 'logical = { globals = true }' "port = 5432, user = \"strong\", database = \"shop\", password = \"file:$WORK/right\""
  # All arguments of all programs, while it runs.
  (while :; do cat /proc/[0-9]*/cmdline 2>/dev/null || true; done >"$WORK/arguments") &
  local watcher=$!
  bs backup shop/db -v
  kill $watcher
  wait $watcher 2>/dev/null || true
  grep -qa 'pg_dump' "$WORK/arguments" || fail "the watcher saw nothing"
  ! grep -qa 'sesame-773' "$WORK/arguments" || fail "there is the password among arguments"
  ! grep -r 'sesame-773' "$WORK/out" "$WORK/err" "$WORK/state" "$WORK/cache" || fail "there is the password"
}

case_a_pg_dump_that_is_too_old_or_missing_is_refused_before_anything() {
  stage
  server
  mkdir -p "$WORK/old" "$WORK/none"
  printf '#!/bin/sh\necho "pg_dump (PostgreSQL) 12.9"\n' >"$WORK/old/pg_dump"
  chmod 755 "$WORK/old" "$WORK/none" "$WORK/old/pg_dump"
  dumps "logical = { globals = true }
bin = \"$WORK/old\""
  expect 2 backup shop/db
  told_in_one_line
  grep -q "PostgreSQL 12, which is older than the server's $MAJOR" "$WORK/err" || { cat "$WORK/err"; fail "not said that it is too old"; }
  dumps "logical = { globals = true }
bin = \"$WORK/none\""
  expect 2 backup shop/db
  told_in_one_line
  no_snapshot
  # A real one, where there is one that is older.
  local older
  older=$(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | awk -v major="$MAJOR" '$1 < major' | sed -n 1p)
  [ -n "$older" ] || return 0
  dumps "logical = { globals = true }
bin = \"/usr/lib/postgresql/$older/bin\""
  expect 2 backup shop/db
  told_in_one_line
  grep -q "PostgreSQL $older, which is older" "$WORK/err" || { cat "$WORK/err"; fail "not said that it is too old"; }
  no_snapshot
}

case_a_killed_dump_leaves_neither_a_snapshot_nor_files() {
  stage
  server
  dumps
  pg pgbench -q -i -s 20 -h "$WORK/pg/socket" -U postgres shop >/dev/null 2>&1
  local pid victim rc=0
  # pg_dump, by whoever.
  "$BACKSTAY" backup shop/db >"$WORK/out" 2>"$WORK/err" &
  pid=$!
  for _ in $(seq 300); do victim=$(find_dump) && [ -n "$victim" ] && break; sleep 0.02; done
  [ -n "$victim" ] || fail "pg_dump was not seen"
  kill -9 "$victim"
  wait $pid || rc=$?
  [ $rc = 20 ] || { cat "$WORK/err"; fail "exit $rc of a backup whose pg_dump was killed, wanted 20"; }
  told_in_one_line
  no_snapshot
  nothing_is_left
  # The backup, asked to stop: what it started goes too.
  rc=0
  "$BACKSTAY" backup shop/db >"$WORK/out" 2>"$WORK/err" &
  pid=$!
  for _ in $(seq 300); do victim=$(find_dump) && [ -n "$victim" ] && break; sleep 0.02; done
  kill -TERM $pid
  wait $pid || rc=$?
  [ $rc = 143 ] || { cat "$WORK/err"; fail "exit $rc of a backup that was told to end"; }
  [ -z "$(find_dump)" ] || fail "pg_dump is left"
  nothing_is_left
  # The backup, killed: the next one removes what it left.
  "$BACKSTAY" backup shop/db >"$WORK/out" 2>"$WORK/err" &
  pid=$!
  for _ in $(seq 300); do victim=$(find_dump) && [ -n "$victim" ] && break; sleep 0.02; done
  kill -9 $pid
  wait $pid 2>/dev/null || true
  [ -n "$(ls "$WORK/cache/scratch")" ] || fail "nothing was left to be removed"
  find "$WORK/cache/scratch" -maxdepth 1 -name 'dump-*' -exec touch -d '2 minutes ago' {} +
  no_snapshot
  bs backup shop/db
  nothing_is_left
  [ "$(snapshot_ids | wc -l)" = 1 ] || fail "no snapshot"
}

# The process of pg_dump that writes beneath this case's directory.
find_dump() {
  local dir
  for dir in /proc/[0-9]*; do
    if tr '\0' ' ' <"$dir/cmdline" 2>/dev/null | grep -q "^[^ ]*pg_dump .*--file $WORK/cache"; then
      basename "$dir"
      return
    fi
  done
}

case_a_full_disk_on_the_way_is_told_and_leaves_no_snapshot() {
  stage
  server
  q "create table a as select n, repeat(md5(n::text), 40) t from generate_series(1, 30000) n"
  q "vacuum a"
  dumps
  mkdir -p "$WORK/cache/scratch"
  mount -t tmpfs -o size=20m,uid=postgres,mode=700 tmpfs "$WORK/cache/scratch" || skip "cannot mount a tmpfs"
  expect 21 backup shop/db
  told_in_one_line
  grep -q 'largest table' "$WORK/err" || { cat "$WORK/err"; fail "not said before it began"; }
  no_snapshot
  # Compressed in the server, and not in the dump: nobody could know before.
  q "drop table a; create table a as select repeat('x', 4000000) t from generate_series(1, 20)"
  expect 21 backup shop/db
  told_in_one_line
  no_snapshot
  [ -z "$(ls "$WORK/cache/scratch")" ] || fail "half a dump is left"
  # Many tables that fit one by one need not fit together.
  q "drop table a"
  local n
  for n in $(seq 30); do q "create table t$n as select n, repeat(md5(n::text), 20) t from generate_series($n, $n + 5000) n"; done
  # Storing takes longer than dumping.
  bs backup shop/db --json --compression zstd:19
  echo "measured: $(summary_of total_bytes_processed) bytes went through 20 MiB"
}

# ---- and back ----

# What is in a database that a restore could lose, as text.
shape() {
  pg psql -XAt -h "$WORK/pg/socket" -p 5432 -U postgres -d "$1" -v ON_ERROR_STOP=1 <<'SQL' | LC_ALL=C sort
set search_path to pg_catalog;
select n.nspname, c.relname, c.relkind, c.relispartition, pg_get_userbyid(c.relowner), c.relacl, c.relrowsecurity
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' order by 1, 2;
select conrelid::regclass, conname, pg_get_constraintdef(oid) from pg_constraint where conrelid <> 0 order by 1::text, 2;
select attrelid::regclass, attname, atttypid::regtype, attnotnull, attidentity, attgenerated, pg_get_expr(adbin, adrelid)
  from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum join pg_class c on c.oid = attrelid
  where attnum > 0 and relnamespace::regnamespace::text !~ '^(pg_|information_schema)' order by 1::text, attnum;
select indexrelid::regclass, pg_get_indexdef(indexrelid) from pg_index where indexrelid::regclass::text !~ '^pg_' order by 1::text;
select tgrelid::regclass, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal order by 1::text, 2;
select sequencename, last_value from pg_sequences order by 1;
select loid, md5(string_agg(data, ''::bytea order by pageno)) from pg_largeobject group by 1 order by 1;
SQL
}

# A database with everything that makes a restore hard.
rich() {
  D=postgres q "create role clerk; create role \"role \"\"x\"\"\" login password 'y'"
  pg psql -Xq -h "$WORK/pg/socket" -U postgres -d shop -v ON_ERROR_STOP=1 <<'SQL'
set client_min_messages = warning;
create schema "my sales"; create schema other;
create type public.mood as enum ('glad', 'sad');
create domain public.positive as int check (value > 0);
create function public.stamp() returns trigger language plpgsql as $$ begin new.at := now(); return new; end $$;
create table public.customers(id bigint generated always as identity primary key, name text unique not null, m public.mood);
create table "my sales".orders(id serial primary key, customer bigint references public.customers, n public.positive, at timestamptz,
  twice int generated always as (n * 2) stored);
create table other.orders(id int primary key, note text);
create index on "my sales".orders(at);
create trigger stamped before insert on "my sales".orders for each row execute function public.stamp();
create table public.events(day date not null, what text) partition by range (day);
create table public.events_2025 partition of public.events for values from ('2025-01-01') to ('2026-01-01');
create table public.events_2026 partition of public.events for values from ('2026-01-01') to ('2027-01-01');
create index on public.events(what);
create materialized view public.sums as select count(*) from public.customers;
create table "odd 'table' ""x"""("-dash" int, "ünicode" text);
insert into public.customers(name, m) select 'c' || n, 'glad' from generate_series(1, 500) n;
insert into "my sales".orders(customer, n) select n, n from generate_series(1, 500) n;
insert into other.orders values (1, 'the other one');
insert into public.events select date '2025-06-01' + n, 'e' || n from generate_series(1, 400) n;
insert into "odd 'table' ""x""" values (1, 'ü');
refresh materialized view public.sums;
alter table "my sales".orders owner to clerk; grant select on public.customers to "role ""x""";
alter table public.customers enable row level security; create policy mine on public.customers using (true);
comment on table "my sales".orders is 'those; that''s all';
select lo_from_bytea(4711, decode(repeat('00ff7f', 30000), 'hex')) \gset
alter database shop set search_path to "my sales", public;
alter database shop set work_mem to '5MB';
SQL
}

case_a_database_comes_back_whole_under_a_new_name() {
  stage
  same_tools
  server
  rich
  dumps
  bs backup shop/db
  shape shop >"$WORK/before"
  bs restore shop/db --type logical --dry-run
  [ "$(D=postgres q "select count(*) from pg_database where datname like 'shop%'")" = 1 ] || fail "a dry run made a database"
  bs restore shop/db --type logical --json
  local new
  new=$(summary_of new_database)
  [[ $new == shop_restored_* ]] || fail "it is called $new"
  shape "$new" >"$WORK/after"
  diff "$WORK/before" "$WORK/after" >"$WORK/diff" || { head -n 20 "$WORK/diff"; fail "the database differs"; }
  [ "$(D=$new q "show search_path")" = '"my sales", public' ] || fail "search_path is $(D=$new q "show search_path")"
  [ "$(D=$new q "show work_mem")" = 5MB ] || fail "work_mem is $(D=$new q "show work_mem")"
  nothing_is_left
  # By the id of the snapshot, and with a name.
  bs restore "$(snapshot_ids)" --into "it's \"new\"" --jobs 3
  shape "dbname='it\\'s \"new\"'" >"$WORK/after"
  cmp -s "$WORK/before" "$WORK/after" || fail "the database of an odd name differs"
}

case_what_exists_is_put_aside_only_when_it_is_named_twice() {
  stage
  same_tools
  server
  q "create table t as select 1 n"
  dumps
  bs backup shop/db
  q "update t set n = 2"
  expect 6 restore shop/db --type logical --into shop
  told_in_one_line
  expect 6 restore shop/db --type logical --into shop --confirm other
  [ "$(q "select n from t")" = 2 ] || fail "the database was changed by a restore that was refused"
  # Somebody is in it: it stays, and so does what was restored.
  pg psql -XAtq -h "$WORK/pg/socket" -U postgres -d shop -c "select pg_sleep(60)" >/dev/null 2>&1 &
  for _ in $(seq 100); do [ "$(D=postgres q "select count(*) from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid()")" != 1 ] || break; sleep 0.1; done
  expect 1 restore shop/db --type logical --into shop --confirm shop
  told_in_one_line
  [ "$(q "select n from t")" = 2 ] || fail "the database was changed while somebody was in it"
  [ "$(D=$(D=postgres q "select datname from pg_database where datname like 'shop_restored%'") q "select n from t")" = 1 ] || fail "what was restored is not kept"
  D=postgres q "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid()" >/dev/null
  for _ in $(seq 100); do [ "$(D=postgres q "select count(*) from pg_stat_activity where datname = 'shop'")" != 0 ] || break; sleep 0.1; done
  sleep 1.1
  bs restore shop/db --type logical --into shop --confirm shop --json
  [ "$(q "select n from t")" = 1 ] || fail "the database was not replaced"
  [ "$(D=$(summary_of replaced) q "select n from t")" = 2 ] || fail "the old database is gone"
}

case_tables_come_with_what_they_need_and_belongs_to_them() {
  stage
  same_tools
  server
  rich
  dumps
  bs backup shop/db
  bs restore shop/db --type logical --table '"my sales".orders' --into part
  grep -q 'orders_customer_fkey' "$WORK/err" || { cat "$WORK/err"; fail "not said that the foreign key is left out"; }
  [ "$(D=part q "select count(*), sum(n), sum(twice) from \"my sales\".orders")" = '500|125250|250500' ] || fail "the rows"
  [ "$(D=part q "select count(*) from pg_class where relkind = 'r' and relnamespace in ('public'::regnamespace, '\"my sales\"'::regnamespace)")" = 1 ] || fail "other tables came along"
  D=part q "insert into \"my sales\".orders(n) values (9)"
  [ "$(D=part q "select id, at is not null from \"my sales\".orders where n = 9 and id > 500")" = '501|t' ] || fail "the sequence or the trigger"
  [ "$(D=part q "select count(*) from pg_indexes where tablename = 'orders'")" = 2 ] || fail "the indexes"
  ! D=part q "insert into \"my sales\".orders(n) values (-1)" 2>/dev/null || fail "the domain"
  [ "$(D=part q "select tableowner from pg_tables where tablename = 'orders'")" = clerk ] || fail "the owner"
  [ "$(D=part q "select obj_description('\"my sales\".orders'::regclass)")" = "those; that's all" ] || fail "the comment"
  # With the table that it refers to, the key is there; partitions come with their table; two of the same name are two.
  bs restore shop/db --type logical --table '"my sales".orders' --table customers --table events --table other.orders --table "\"odd 'table' \"\"x\"\"\"" --into more
  [ "$(D=more q "select count(*) from pg_constraint where contype = 'f'")" = 1 ] || fail "the foreign key"
  [ "$(D=more q "select count(*) from events_2025")" = "$(q "select count(*) from public.events_2025")" ] || fail "a partition"
  [ "$(D=more q "select count(*) from events where what = 'e7'")" = 1 ] || fail "the table of partitions"
  [ "$(D=more q "select note from other.orders")" = 'the other one' ] || fail "the table of the same name"
  D=more q "insert into customers(name) values ('new')"
  [ "$(D=more q "select max(id) from customers")" = 501 ] || fail "the identity"
  [ "$(D=more q "select count(*) from pg_policies")" = 1 ] || fail "the policy"
  expect 2 restore shop/db --type logical --table public.absent
  told_in_one_line
  expect 2 restore shop/db --type logical --table orders
  told_in_one_line
  [ "$(D=postgres q "select count(*) from pg_database where datname like 'shop_restored%'")" = 0 ] || fail "a database was made for nothing"
  # Into a database that exists: all or nothing.
  D=postgres q "create database rescue"
  local url="postgresql:///rescue?host=$WORK/pg/socket&user=postgres"
  bs restore shop/db --table events --to "$url"
  [ "$(D=rescue q "select count(*) from events")" = 400 ] || fail "the table in the other database"
  expect 1 restore shop/db --table other.orders --table events --to "$url"
  told_in_one_line
  [ "$(D=rescue q "select count(*) from pg_namespace where nspname = 'other'")" = 0 ] || fail "half of it is left"
  # Into a directory, with a list.
  bs restore shop/db --table customers --to "$WORK/pg/some"
  pg createdb -h "$WORK/pg/socket" -U postgres some
  pg pg_restore --exit-on-error -h "$WORK/pg/socket" -U postgres -d some -L "$WORK/pg/some/restore.list" "$WORK/pg/some"
  [ "$(D=some q "select count(*) from customers")" = 500 ] || fail "the table by way of a directory"
  bs restore shop/db --type logical --to "$WORK/pg/whole"
  pg pg_restore -l "$WORK/pg/whole" | grep -q 'TABLE DATA other orders' || fail "the directory of the whole database"
  expect 6 restore shop/db --type logical --to "$WORK/pg/whole"
  nothing_is_left
}

case_roles_are_made_on_another_server_and_those_that_exist_are_left_alone() {
  stage
  same_tools
  server
  rich
  D=postgres q "create role \"group\"; grant \"group\" to \"role \"\"x\"\"\"; create role keeper login"
  dumps
  bs backup shop/db
  new_cluster second
  sed -i 's/^archive_mode = on/archive_mode = off/' "$WORK/pg/second/postgresql.conf"
  start second 5433
  P=5433 D=postgres q "create role keeper superuser"
  dumps 'logical = { globals = true }' 'port = 5433, user = "postgres", database = "shop"'
  expect 1 restore shop/db --type logical --into shop
  told_in_one_line
  grep -q -- '--roles' "$WORK/err" || { cat "$WORK/err"; fail "not said how roles are made"; }
  [ "$(P=5433 D=postgres q "select count(*) from pg_database where datname = 'shop'")" = 0 ] || fail "half a database is left"
  bs restore shop/db --type logical --into shop --roles
  [ "$(P=5433 q "select tableowner from pg_tables where tablename = 'orders' and schemaname = 'my sales'")" = clerk ] || fail "the owner"
  [ "$(P=5433 q "select count(*) from pg_auth_members m join pg_roles r on r.oid = roleid join pg_roles u on u.oid = member where r.rolname = 'group' and u.rolname = 'role \"x\"'")" = 1 ] || fail "the membership"
  [ "$(P=5433 q "select rolsuper and not rolcanlogin from pg_roles where rolname = 'keeper'")" = t ] || fail "a role that existed was changed"
  [ "$(P=5433 q "select rolpassword like 'SCRAM%' from pg_authid where rolname = 'role \"x\"'")" = t ] || fail "the password"
}

case_a_restore_that_fails_half_way_leaves_nothing() {
  stage
  same_tools
  server
  pg pgbench -q -i -s 8 -h "$WORK/pg/socket" -U postgres shop >/dev/null 2>&1
  dumps
  bs backup shop/db
  local pid victim='' rc=0
  "$BACKSTAY" restore shop/db --type logical --into broken >"$WORK/out" 2>"$WORK/err" &
  pid=$!
  for _ in $(seq 500); do
    victim=$(pgrep -f "pg_restore .*$WORK/cache" | sed -n 1p || true)
    [ -z "$victim" ] || break
    sleep 0.02
  done
  [ -n "$victim" ] || fail "pg_restore was not seen"
  kill -9 "$victim"
  wait $pid || rc=$?
  [ $rc = 1 ] || { cat "$WORK/err"; fail "exit $rc, wanted 1"; }
  told_in_one_line
  [ "$(D=postgres q "select count(*) from pg_database where datname = 'broken'")" = 0 ] || fail "half a database is left"
  nothing_is_left
  # Rows that are not what they were: damage is named, and no database is made.
  bs restore shop/db --type logical --into whole
  [ "$(D=whole q "select count(*) from pgbench_accounts")" = 800000 ] || fail "the rows"
}

case_log_is_not_for_dumps() {
  stage
  server
  q "create table t as select 1 n"
  dumps
  bs backup shop/db
  expect 2 restore shop/db --type logical --at 2026-01-01
  told_in_one_line
  grep -q 'log cannot be applied' "$WORK/err" || { cat "$WORK/err"; fail "not said why"; }
  expect 2 restore shop/db --at latest --target "$WORK/pg/r1"
  [ ! -e "$WORK/pg/r1" ] || fail "something was made"
  expect 2 restore "$(snapshot_ids)" --type physical --target "$WORK/pg/r1"
  told_in_one_line
}

# ---- a look at the server ----

# The state of a check in the last --json of doctor.
state_of() {
  "$PYTHON" -c 'import json,sys; d=json.load(sys.stdin); print(*(c["state"] for c in d["checks"] if c["name"]==sys.argv[1]))' "$1" <"$WORK/out"
}

case_doctor_says_what_a_server_lacks_and_changes_it_when_it_is_told_twice() {
  stage
  new_cluster data
  sed -i '/^wal_level/d; /^archive_/d' "$WORK/pg/data/postgresql.conf"
  echo "wal_level = minimal
max_wal_senders = 0" >>"$WORK/pg/data/postgresql.conf"
  start data
  D=postgres q "create database shop"
  configure
  expect 4 doctor shop/db --json
  local name
  for name in wal_level archive_mode archive_command; do
    [ "$(state_of $name)" = problem ] || { cat "$WORK/out"; fail "$name is $(state_of $name), wanted problem"; }
  done
  [ "$(state_of archive_timeout)" = warning ] || fail "archive_timeout"
  for name in connection clock rights files checksums slots; do
    [ "$(state_of $name)" = ok ] || { cat "$WORK/out"; fail "$name is $(state_of $name), wanted ok"; }
  done
  # Said, and not done; then done.
  expect 4 doctor shop/db --fix
  grep -q "would change: alter system set archive_mode = 'on' (holds after a restart)" "$WORK/out" || { cat "$WORK/out"; fail "not said what would be changed"; }
  expect 6 doctor shop/db --fix --confirm shop/other
  told_in_one_line
  [ "$(q "select count(*) from pg_file_settings where sourcefile like '%auto.conf'")" = 0 ] || fail "something was changed without consent"
  expect 4 doctor shop/db --fix --confirm shop/db
  echo "max_wal_senders = 5" >>"$WORK/pg/data/postgresql.conf"
  expect 4 doctor shop/db --json
  [ "$(state_of pending)" = warning ] || { cat "$WORK/out"; fail "not said that a restart is needed"; }
  stop data
  start data
  "$BACKSTAY" doctor shop/db --json >"$WORK/out" 2>"$WORK/err" || true
  [ "$(state_of archiving)" = warning ] || { cat "$WORK/out"; fail "archiving is $(state_of archiving) before anything was archived"; }
  # What was set works.
  q "create table mark(n int primary key); insert into mark values (1)"
  bs backup shop/db
  "$BACKSTAY" doctor shop/db --json >"$WORK/out" 2>"$WORK/err" || true
  [ "$(state_of archiving)" = ok ] && grep -q '"problems":0' "$WORK/out" || { cat "$WORK/out"; fail "archiving is $(state_of archiving)"; }
  comes_back_as r1 1
}

case_doctor_sees_archives_that_fail_slots_that_hold_and_roles_that_may_not() {
  stage
  shop --wal-segsize=1
  bs backup shop/db
  q "alter system set archive_command = '/bin/false wal push --source shop/db %p'"
  q "select pg_reload_conf()" >/dev/null
  q "create table x()"
  q "select pg_switch_wal()" >/dev/null
  for _ in $(seq 100); do [ "$(q "select failed_count > 0 from pg_stat_archiver")" != t ] || break; sleep 0.1; done
  expect 4 doctor shop/db --json
  [ "$(state_of archiving)" = problem ] || { cat "$WORK/out"; fail "an archive that fails"; }
  # A program that is not there is not even counted as a failure.
  q "alter system set archive_command = '/no/such/backstay wal push --source shop/db %p'"
  q "select pg_reload_conf()" >/dev/null
  touch -d '10 minutes ago' "$WORK"/pg/data/pg_wal/archive_status/*.ready
  q "select pg_stat_reset_shared('archiver')" >/dev/null
  expect 4 doctor shop/db --json
  [ "$(state_of archive_command)" = problem ] && [ "$(state_of archiving)" = problem ] || { cat "$WORK/out"; fail "a program that is not there"; }
  q "alter system set archive_command = 'cp %p /somewhere'"
  q "select pg_reload_conf()" >/dev/null
  expect 4 doctor shop/db --fix
  [ "$(state_of_text archive_command)" = problem ] || { cat "$WORK/out"; fail "another archive is not named"; }
  ! grep -q 'would change: alter system set archive_command' "$WORK/out" || fail "the command of somebody else would be changed"
  q "create role weak login"
  configure 'port = 5432, user = "weak"'
  expect 4 doctor shop/db --json
  [ "$(state_of rights)" = problem ] || { cat "$WORK/out"; fail "a role without rights"; }
  grep -q 'pg_read_all_settings to weak' "$WORK/out" || { cat "$WORK/out"; fail "not said what to grant"; }
  stop data
  expect 20 doctor shop/db
  grep -q '^problem  connection' "$WORK/out" || { cat "$WORK/out"; fail "not said that there is no server"; }
}

state_of_text() {
  sed -n "s/^\([a-z]*\) *$1: .*/\1/p" "$WORK/out"
}

run_cases "$@"
