# Common to the tests on real PostgreSQL servers; sourced after lib.sh, not run.

# A repository and a source shop/db whose server listens on a socket of its own. From here on the program, and everything
# called with `pg`, runs as postgres.
stage() {
  need_root
  need_program setpriv
  id postgres >/dev/null 2>&1 || skip "needs the user postgres"
  PGBIN=${PGBIN:-$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)}
  [ -n "$PGBIN" ] && [ -x "$PGBIN/postgres" ] || skip "needs PostgreSQL 14 to 18: name the directory of its programs as PGBIN"
  MAJOR=$("$PGBIN/postgres" --version | sed 's/.*(PostgreSQL) \([0-9]*\).*/\1/')
  [ "$MAJOR" -ge 14 ] && [ "$MAJOR" -le 18 ] || skip "needs PostgreSQL 14 to 18, and $PGBIN is $MAJOR"
  PROGRAM=$WORK/bin/backstay
  mkdir -p "$WORK/bin" "$WORK/cache" "$WORK/state" "$WORK/pg/socket" "$WORK/home"
  cp "$BACKSTAY" "$PROGRAM"
  chown -R postgres "$WORK/pg" "$WORK/cache" "$WORK/state" "$WORK/key" "$WORK/home"
  export PATH=$PGBIN:$PATH HOME=$WORK/home BACKSTAY_CONFIG=$WORK/backstay.toml
  cat >"$WORK/as-postgres" <<SCRIPT
#!/bin/sh
cd /
exec setpriv --reuid=postgres --regid=postgres --init-groups "$PROGRAM" "\$@"
SCRIPT
  chmod 755 "$WORK/as-postgres"
  BACKSTAY=$WORK/as-postgres
  trap stop_all EXIT
  R=$WORK/pg/repo
  configure
  bs init
}

stop_all() {
  local rc=$? dir pid
  set +e
  for dir in "$WORK"/pg/*/; do
    pid=$(head -n 1 "$dir/postmaster.pid" 2>/dev/null) || continue
    grep -qs postgres "/proc/$pid/comm" && pg pg_ctl -D "$dir" -m immediate stop >/dev/null 2>&1 || true
  done
  (exit $rc)
  clean_up
}

# The configuration: `connect` with what is given here added to it or put in its place, and how the log comes.
configure() {
  local connect=${1:-"port = 5432, user = \"postgres\""} wal=${2:-continuous} file=${3:-$WORK/backstay.toml}
  cat >"$file" <<TOML
version = 1
[repository.main]
url = "file://$R"
key = "file:$BACKSTAY_KEY_FILE"
[platform.shop]
repositories = ["main"]
[platform.shop.source.db]
kind = "postgres"
connect = { host = "$WORK/pg/socket", database = "shop", $connect }
physical = { wal = "$wal" }
TOML
  chmod 644 "$file"
}

pg() {
  (cd / && exec setpriv --reuid=postgres --regid=postgres --init-groups "$@")
}

# Makes a cluster in pg/$1, with more arguments for initdb. It archives to shop/db.
new_cluster() {
  local data=$WORK/pg/$1
  shift
  pg initdb -k --no-sync -A trust -U postgres -E UTF8 --locale=C "$@" -D "$data" >"$WORK/initdb" 2>&1 || { cat "$WORK/initdb"; fail "initdb"; }
  cat >>"$data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$WORK/pg/socket'
fsync = off
shared_buffers = 16MB
autovacuum = off
wal_level = replica
archive_mode = on
archive_command = '$PROGRAM wal push --source shop/db %p'
timezone = 'UTC'
CONF
}

# Starts the server of pg/$1 on port $2, with more arguments for it, and waits until it can be written to.
start() {
  local name=$1 port=${2:-5432}
  shift
  [ $# = 0 ] || shift
  pg pg_ctl -D "$WORK/pg/$name" -l "$WORK/pg/$name.log" -o "-p $port $*" -w -t 60 start >/dev/null || { tail -n 20 "$WORK/pg/$name.log"; fail "$name does not start"; }
  for _ in $(seq 300); do
    case $(P=$port D=postgres q "select pg_is_in_recovery()" 2>&1) in
      f) return ;;
    esac
    [ -e "$WORK/pg/$name/postmaster.pid" ] || break
    sleep 0.1
  done
  tail -n 20 "$WORK/pg/$name.log"
  fail "the recovery of $name does not end"
}

stop() {
  pg pg_ctl -D "$WORK/pg/$1" -m "${2:-fast}" -w stop >/dev/null
}

# kill -9 for the server of pg/$1. Its children see it and go.
crash() {
  local pid
  pid=$(head -n 1 "$WORK/pg/$1/postmaster.pid")
  kill -9 "$pid"
  for _ in $(seq 100); do
    [ -n "$(find /proc -maxdepth 2 -path '/proc/[0-9]*/cwd' -lname "$WORK/pg/$1" 2>/dev/null | sed -n 1p)" ] || break
    sleep 0.1
  done
  # Where nobody reaps it, its number stays in use.
  ! grep -qs '^State:.*zombie' "/proc/$pid/status" || rm -f "$WORK/pg/$1/postmaster.pid" $(grep -lsx "$pid" "$WORK"/pg/socket/.s.PGSQL.*.lock)
}

# A statement for the server on port P, in database D.
q() {
  pg psql -XAtq -h "$WORK/pg/socket" -p "${P:-5432}" -U postgres -d "${D:-shop}" -v ON_ERROR_STOP=1 -c "$1"
}

# A cluster that runs, with the database shop and a table of numbered rows.
shop() {
  new_cluster data "$@"
  start data
  D=postgres q "create database shop"
  q "create table mark(n int primary key)"
}

# Everything that was written so far is in the archive.
archived() {
  local port=${1:-5432} segment
  P=$port q "create table nudge(); drop table nudge" >/dev/null
  segment=$(P=$port q "select pg_walfile_name(pg_current_wal_insert_lsn())")
  P=$port q "select pg_switch_wal()" >/dev/null
  for _ in $(seq 300); do
    [ "$(P=$port q "select last_archived_wal >= '$segment' from pg_stat_archiver")" != t ] || return 0
    sleep 0.1
  done
  P=$port q "select * from pg_stat_archiver"
  fail "$segment is not archived"
}

rows() {
  P=${1:-5433} q "select coalesce(string_agg(n::text, ',' order by n), 'none') from mark"
}

# Restores to pg/$1 with more arguments, starts it on port 5433 and looks for these rows: $2.
comes_back_as() {
  local name=$1 want=$2 found
  shift 2
  bs restore shop/db --target "$WORK/pg/$name" "$@"
  start "$name" 5433
  found=$(rows)
  [ "$found" = "$want" ] || fail "rows $found after $*, wanted $want"
  stop "$name" immediate
  rm -rf "$WORK/pg/$name"
}

# How many objects the archive has.
in_ledger() {
  find "$R/ledger" -type f 2>/dev/null | wc -l
}

no_server_of_its_own_is_left() {
  local found
  found=$(find /proc -maxdepth 2 -path '/proc/[0-9]*/cwd' -lname "$WORK/cache/*" 2>/dev/null || true)
  [ -z "$found" ] || fail "a private server is left: $found"
  found=$(find "$WORK/cache" -path '*/scratch/*' | sed -n 1,3p)
  [ -z "$found" ] || fail "this is left of a private server: $found"
}

# What identifies a tree and everything in it.
tree() {
  (cd "$1" && find . -printf '%P %y %m %s %T@ %l\n' | LC_ALL=C sort && find . -type f -print0 | sort -z | xargs -0 b2sum)
}
