#!/usr/bin/env bash
# The program in bad places: full disks, read-only disks, kill -9, several at once, clocks years off, odd trees,
# hostile targets. Each case says what must hold. Run one with: tests/system.sh NAME…
#
# Needs: python3 rsync attr acl, faketime and setpriv for some, root for those that mount. What is missing is skipped
# and counted. DAMAGES and ROUNDS say how often.
. "$(dirname "$0")/lib.sh"

# ---- places that fail ----

small_disk() {
  mkdir -p "$WORK/disk"
  mount -t tmpfs -o size=64m tmpfs "$WORK/disk" || skip "cannot mount a tmpfs"
  R=$WORK/disk/repo
}

case_a_full_disk_ends_a_backup_and_harms_nothing() {
  need_root
  small_disk
  noise "$S" 40 500000 1
  bs init -r "$R"
  bs backup -r "$R" --json "$S"
  local first
  first=$(summary_of snapshot_id)
  cp -a "$S" "$WORK/first"
  noise "$WORK/src/more" 60 4000000 2
  expect 21 backup -r "$R" "$S"
  told_in_one_line
  [ "$(snapshot_ids)" = "$first" ] || fail "there is a snapshot of a backup that failed"
  sound
  bs restore -r "$R" "$first" --target "$WORK/o"
  same "$WORK/first" "$WORK/o$S"
  # What the failed backup left is given back, on the disk that it filled.
  bs prune -r "$R"
  rm -rf "$S/more"
  echo small >"$S/small"
  bs backup -r "$R" "$S"
  sound
}

case_a_disk_full_to_the_last_byte_still_restores_and_prunes() {
  need_root
  small_disk
  noise "$S" 30 900000 1
  bs init -r "$R"
  bs backup -r "$R" --json "$S"
  rm "$S"/f0000*
  noise "$S/new" 10 900000 2
  bs backup -r "$R" "$S"
  dd if=/dev/zero of="$WORK/disk/filler" bs=64K status=none 2>/dev/null || true
  dd if=/dev/zero of="$WORK/disk/filler2" bs=1 count=65536 status=none 2>/dev/null || true
  cp -a "$S" "$WORK/before"
  noise "$S/newer" 5 900000 3
  expect 21 backup -r "$R" "$S"
  told_in_one_line
  rm -rf "$S"
  cp -a "$WORK/before" "$S"
  restores_to latest
  bs snapshots -r "$R"
  # Forgetting writes a little. Either it can, or it says so and changes nothing.
  local before rc=0
  before=$(snapshot_ids)
  "$BACKSTAY" forget -r "$R" --keep-last 1 --prune >"$WORK/out" 2>"$WORK/err" || rc=$?
  case $rc in
    0) ;;
    21)
      told_in_one_line
      [ "$(snapshot_ids)" = "$before" ] || fail "forget failed and forgot"
      rm "$WORK/disk/filler2"
      dd if=/dev/null of="$WORK/disk/filler" bs=1 seek=1M 2>/dev/null
      bs forget -r "$R" --keep-last 1 --prune
      ;;
    *) cat "$WORK/err" && fail "exit $rc of forget on a full disk" ;;
  esac
  sound
  restores_to latest
}

case_a_full_target_ends_a_restore_without_half_files() {
  need_root
  noise "$S" 60 4000000 3
  bs init -r "$R"
  bs backup -r "$R" "$S"
  mkdir "$WORK/disk"
  mount -t tmpfs -o size=32m tmpfs "$WORK/disk" || skip "cannot mount a tmpfs"
  expect 21 restore -r "$R" latest --target "$WORK/disk/o"
  told_in_one_line
  nothing_wrong_in "$WORK/disk/o$S" "$S"
  # A disk that fills up on the way, when there was room at the start.
  umount "$WORK/disk"
  mount -t tmpfs -o size=160m tmpfs "$WORK/disk"
  "$BACKSTAY" restore -r "$R" latest --target "$WORK/disk/o" >"$WORK/out" 2>"$WORK/err" &
  local pid=$! rc=0
  dd if=/dev/zero of="$WORK/disk/filler" bs=1M status=none 2>/dev/null || true
  wait $pid || rc=$?
  [ $rc = 21 ] || [ $rc = 0 ] || { cat "$WORK/err"; fail "exit $rc of a restore whose target filled up"; }
  [ $rc = 0 ] || told_in_one_line
  nothing_wrong_in "$WORK/disk/o$S" "$S"
}

case_a_read_only_repository_can_be_read() {
  need_root
  noise "$S" 40 90000 4
  bs init -r "$R"
  bs backup -r "$R" "$S"
  bs backup -r "$R" "$S"
  mkdir "$WORK/ro"
  mount --bind "$R" "$WORK/ro" && mount -o remount,ro,bind "$WORK/ro" || skip "cannot mount read-only"
  R=$WORK/ro
  bs snapshots -r "$R"
  bs ls -r "$R" latest
  bs stats -r "$R"
  restores_to latest
  sound
  # Also by one who has no memory of it.
  rm -rf "$BACKSTAY_CACHE_DIR" "$BACKSTAY_STATE_DIR"
  restores_to latest
  expect 21 backup -r "$R" "$S"
  told_in_one_line
  expect 21 forget -r "$R" --keep-last 1
  told_in_one_line
  expect 21 prune -r "$R"
  told_in_one_line
}

case_a_repository_of_another_user_is_refused_in_one_line() {
  need_root
  need_program setpriv
  noise "$S" 5 9000 4
  bs init -r "$R"
  bs backup -r "$R" "$S"
  chmod 700 "$R"
  as_nobody
  expect 21 snapshots -r "$R"
  told_in_one_line
}

# From here on the program runs as nobody, with a key, a cache and a state of its own.
as_nobody() {
  cp "$BACKSTAY" "$WORK/backstay"
  mkdir "$WORK/nobody"
  cp "$BACKSTAY_KEY_FILE" "$WORK/nobody/key"
  chmod 600 "$WORK/nobody/key"
  chown -R 65534:65534 "$WORK/nobody"
  export BACKSTAY_KEY_FILE=$WORK/nobody/key BACKSTAY_CACHE_DIR=$WORK/nobody/cache BACKSTAY_STATE_DIR=$WORK/nobody/state
  cat >"$WORK/as-nobody" <<SCRIPT
#!/bin/sh
exec setpriv --reuid=65534 --regid=65534 --clear-groups "$WORK/backstay" "\$@"
SCRIPT
  chmod 755 "$WORK/as-nobody"
  BACKSTAY=$WORK/as-nobody
}

case_an_unreadable_file_is_named_and_the_rest_is_stored() {
  need_root
  need_program setpriv
  noise "$S" 10 9000 5
  mkdir "$S/closed"
  echo secret >"$S/closed/inside"
  chmod 000 "$S/closed" "$S/f00003"
  chown -R 65534:65534 "$S/f00001"
  as_nobody
  mkdir "$WORK/theirs"
  chown 65534:65534 "$WORK/theirs"
  R=$WORK/theirs/repo
  bs init -r "$R"
  expect 3 backup -r "$R" "$S"
  grep -q f00003 "$WORK/err" && grep -q closed "$WORK/err" || { cat "$WORK/err"; fail "what could not be read is not named"; }
  bs restore -r "$R" latest --target "$WORK/theirs/o"
  [ "$(find "$WORK/theirs/o$S" -name 'f0*' | wc -l)" = 9 ] || fail "not all others were stored"
  nothing_wrong_in "$WORK/theirs/o$S" "$S"
  "$BACKSTAY" snapshots -r "$R" --json | grep '"partial"\|"incomplete"' >/dev/null || fail "the snapshot is not marked incomplete"
}

# ---- several at once, and interrupted ones ----

# Changes a part of the tree: the number says which.
churn() {
  noise "$S/d$(($1 % 7))" 25 120000 "$1"
}

case_kill_9_at_any_moment_loses_nothing() {
  local n pid first
  churn 0
  bs init -r "$R"
  bs backup -r "$R" --json "$S"
  first=$(summary_of snapshot_id)
  cp -a "$S" "$WORK/first"
  for n in $(seq "${ROUNDS:-24}"); do
    churn "$n"
    case $((n % 4)) in
      0) set -- prune -r "$R" ;;
      1) set -- forget -r "$R" --keep-last 3 --keep-within 100y --prune ;;
      *) set -- backup -r "$R" "$S" ;;
    esac
    "$BACKSTAY" "$@" >/dev/null 2>&1 &
    pid=$!
    sleep "0.$(printf %03d $((n * 53 % 300 + 5)))"
    kill -9 $pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
  done
  sound
  bs backup -r "$R" "$S"
  restores_to latest
  bs restore -r "$R" "$first" --target "$WORK/o"
  same "$WORK/first" "$WORK/o$S"
  bs prune -r "$R"
  sound
  local left
  left=$(cd "$R" && find . -type f \( -path './tmp/*' -o -name '*.tmp' -o -path './condemned/*' \) | sed -n 1,3p)
  [ -z "$left" ] || fail "this stays after a prune: $left"
}

case_an_interrupt_ends_a_backup_cleanly() {
  bs init -r "$R"
  # Text that takes long to compress.
  "$PYTHON" - "$S/text" <<'PY'
import random, sys
r = random.Random(6)
words = ["".join(r.choices("abcdefghijklmnopqrstuvwxyz", k=r.randrange(2, 12))) for _ in range(4000)]
with open(sys.argv[1], "w") as f:
    for _ in range(50):
        f.write(" ".join(r.choices(words, k=200_000)))
PY
  local signal want
  for signal in INT:130 TERM:143; do
    want=${signal#*:}
    # Python sends the signals: a shell starts what runs beside it with SIGINT ignored.
    "$PYTHON" - "${signal%:*}" "$want" "$BACKSTAY" backup -r "$R" --compression zstd:19 "$S" <<'PY'
import signal, subprocess, sys, time
name, want, *command = sys.argv[1:]
child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
time.sleep(0.4)
child.send_signal(getattr(signal, "SIG" + name))
began = time.monotonic()
said = child.communicate(timeout=60)[1].decode()
took = time.monotonic() - began
assert child.returncode == int(want), f"exit {child.returncode} after SIG{name}: {said}"
assert took < 10, f"it took {took:.1f} s to stop"
assert said.count("error: ") <= 1 and "panic" not in said, said
PY
  done
  [ -z "$(snapshot_ids)" ] || fail "an interrupted backup left a snapshot"
  bs backup -r "$R" "$S"
  restores_to latest
  sound
}

case_two_writers_at_once_both_succeed() {
  bs init -r "$R"
  noise "$WORK/src/shared" 100 90000 7
  cp -a "$S/shared" "$WORK/other"
  noise "$WORK/other" 60 90000 8
  local n a b
  for n in 1 2 3 4; do
    noise "$S/s$n" 20 200000 $((n + 10))
    noise "$WORK/other/o$n" 20 200000 $((n + 20))
    "$BACKSTAY" backup -r "$R" "$S" >"$WORK/out.a" 2>&1 &
    a=$!
    BACKSTAY_CACHE_DIR=$WORK/cache.b BACKSTAY_STATE_DIR=$WORK/state.b "$BACKSTAY" backup -r "$R" --host other "$WORK/other" >"$WORK/out.b" 2>&1 &
    b=$!
    wait $a || { cat "$WORK/out.a"; fail "the first writer failed"; }
    wait $b || { cat "$WORK/out.b"; fail "the second writer failed"; }
  done
  [ "$(snapshot_ids | wc -l)" = 8 ] || fail "$(snapshot_ids | wc -l) snapshots of 8"
  sound
  bs restore -r "$R" latest --path "$S" --target "$WORK/oa"
  same "$S" "$WORK/oa$S"
  bs restore -r "$R" latest --host other --target "$WORK/ob"
  same "$WORK/other" "$WORK/ob$WORK/other"
}

case_prune_beside_backup_and_restore_harms_neither() {
  bs init -r "$R"
  churn 0
  bs backup -r "$R" "$S"
  (
    n=0
    while [ ! -e "$WORK/stop" ]; do
      n=$((n + 1))
      "$BACKSTAY" forget -r "$R" --keep-last 2 --prune --max-unused 0 >"$WORK/prune.log" 2>&1 || { cp "$WORK/prune.log" "$WORK/prune.failed"; break; }
    done
    echo "$n" >"$WORK/prunes"
  ) &
  local pruner=$! n
  for n in $(seq 12); do
    # What was thrown away comes back, so that a backup meets chunks that are being condemned.
    churn $((n % 4))
    bs backup -r "$R" "$S"
    restores_to latest
  done
  touch "$WORK/stop"
  wait $pruner
  [ ! -e "$WORK/prune.failed" ] || { cat "$WORK/prune.failed"; fail "a prune beside a backup failed"; }
  bs prune -r "$R"
  sound
  restores_to latest
  echo "measured: $(cat "$WORK/prunes") prunes beside 12 backups and restores"
}

case_two_prunes_at_once_harm_nothing() {
  bs init -r "$R"
  local n a b ended
  for n in 1 2 3 4 5 6; do
    churn "$n"
    bs backup -r "$R" "$S"
    [ $((n % 2)) = 0 ] || continue
    "$BACKSTAY" forget -r "$R" --keep-last 1 --prune --max-unused 0 >"$WORK/out.a" 2>&1 &
    a=$!
    "$BACKSTAY" prune -r "$R" --max-unused 0 >"$WORK/out.b" 2>&1 &
    b=$!
    ended=()
    wait $a && ended+=(0) || ended+=($?)
    wait $b && ended+=(0) || ended+=($?)
    # Each has done its work, or saw the other and said so. Where both begin at once both may step back: that is safe.
    case "${ended[*]}" in
      "0 0" | "0 11" | "11 0" | "11 11") ;;
      *) cat "$WORK/out.a" "$WORK/out.b" && fail "two prunes ended with ${ended[*]}" ;;
    esac
    sound
    restores_to latest
  done
  bs forget -r "$R" --keep-last 1 --prune --max-unused 0
  [ "$(snapshot_ids | wc -l)" = 1 ] || fail "not all was forgotten in the end"
}

# ---- clocks ----

# The program at another time.
at() {
  local when=$1
  shift
  FAKETIME_DONT_FAKE_MONOTONIC=1 faketime -f "@$when" "$BACKSTAY" "$@" >"$WORK/out" 2>"$WORK/err" || {
    local rc=$?
    cat "$WORK/err"
    fail "exit $rc at $when: backstay $*"
  }
}

case_a_clock_years_off_does_not_push_history_out() {
  need_program faketime
  local today day n ids=()
  at "2005-01-01 10:00:00" init -r "$R"
  today=$(date +%s)
  for n in 3 2 1; do
    day=$(date -d "@$((today - n * 86400))" '+%F %T')
    churn "$n"
    at "$day" backup -r "$R" --json "$S"
    ids+=("$(summary_of snapshot_id)")
  done
  churn 4
  at "2005-06-07 08:00:00" backup -r "$R" "$S"
  churn 5
  at "2050-06-07 08:00:00" backup -r "$R" "$S"
  # With the right clock again: what is from 2005 and 2050 takes no day from the real ones.
  bs forget -r "$R" --keep-daily 2 --prune
  local left
  left=$(snapshot_ids)
  [[ $left == *${ids[1]}* && $left == *${ids[2]}* ]] || { cat "$WORK/out"; fail "a wrong clock pushed a real snapshot out"; }
  restores_to latest
  # With the clock in 2005 at the keeper: everything seems to be in the future.
  at "2005-06-08 08:00:00" forget -r "$R" --keep-daily 1 --prune
  left=$(snapshot_ids)
  [[ $left == *${ids[1]}* && $left == *${ids[2]}* ]] || { cat "$WORK/out"; fail "a wrong clock at the keeper removed a real snapshot"; }
  sound
  bs restore -r "$R" "${ids[2]}" --target "$WORK/o"
}

case_a_writer_with_a_wrong_clock_is_safe_beside_prune() {
  need_program faketime
  bs init -r "$R"
  churn 0
  bs backup -r "$R" "$S"
  local when n pid
  for when in "2005-01-01 00:00:00" "2050-01-01 00:00:00"; do
    for n in 1 2 3; do
      churn "$n"
      FAKETIME_DONT_FAKE_MONOTONIC=1 faketime -f "@$when" "$BACKSTAY" backup -r "$R" "$S" >"$WORK/out.a" 2>&1 &
      pid=$!
      bs forget -r "$R" --keep-last 1 --allow-empty --prune --max-unused 0
      bs prune -r "$R" --max-unused 0
      wait $pid || { cat "$WORK/out.a"; fail "the backup with a clock at $when failed"; }
      sound
    done
  done
  bs backup -r "$R" "$S"
  restores_to latest
}

# ---- odd trees ----

case_a_thousand_levels_come_back() {
  bs init -r "$R"
  "$PYTHON" - "$S" d 1000 <<'PY'
import os, sys
where, name, depth = sys.argv[1], sys.argv[2], int(sys.argv[3])
at = os.open(where, os.O_RDONLY)
for level in range(depth):
    os.mkdir(name, dir_fd=at)
    below = os.open(name, os.O_RDONLY, dir_fd=at)
    os.close(at)
    at = below
with open(os.open("bottom", os.O_WRONLY | os.O_CREAT, dir_fd=at), "w") as f:
    f.write("here\n")
PY
  bs backup -r "$R" "$S"
  restores_to latest
  sound
  bs ls -r "$R" latest
  [ "$(grep -c . "$WORK/out")" -gt 1000 ] || fail "ls shows only $(grep -c . "$WORK/out") lines"
}

# Longer than any path the system takes in one piece.
case_paths_longer_than_the_system_allows_come_back() {
  bs init -r "$R"
  "$PYTHON" - make "$S" <<'PY' || fail "cannot make the tree"
import os, sys
at = os.open(sys.argv[2], os.O_RDONLY)
for level in range(1000):
    name = "level-%04d-" % level + "x" * 30
    os.mkdir(name, dir_fd=at)
    below = os.open(name, os.O_RDONLY, dir_fd=at)
    os.close(at)
    at = below
    with open(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=at), "w") as f:
        f.write("level %d\n" % level)
PY
  local rc=0
  "$BACKSTAY" backup -r "$R" "$S" >"$WORK/out" 2>"$WORK/err" || rc=$?
  [ $rc = 0 ] || { head -n 5 "$WORK/err" | cut -c 1-300; fail "exit $rc of a backup of long paths"; }
  rc=0
  "$BACKSTAY" restore -r "$R" latest --target "$WORK/o" >"$WORK/out" 2>"$WORK/err" || rc=$?
  [ $rc = 0 ] || { head -n 5 "$WORK/err" | cut -c 1-300; fail "exit $rc of a restore of long paths"; }
  "$PYTHON" - "$WORK/o$S" <<'PY' || fail "long paths did not come back"
import os, sys
at = os.open(sys.argv[1], os.O_RDONLY)
for level in range(1000):
    below = os.open("level-%04d-" % level + "x" * 30, os.O_RDONLY, dir_fd=at)
    os.close(at)
    at = below
    with open(os.open("file", os.O_RDONLY, dir_fd=at)) as f:
        assert f.read() == "level %d\n" % level
PY
}

case_many_files_in_one_directory_come_back_in_bounded_memory() {
  local count=1000000 peak
  # In memory where that may be: making and removing so many files on a disk takes longer than everything else here.
  mkdir "$WORK/many"
  mount -t tmpfs -o size=2g,nr_inodes=3m tmpfs "$WORK/many" 2>/dev/null || count=100000
  S=$WORK/many/src
  mkdir "$S"
  "$PYTHON" - "$S" "$count" <<'PY'
import os, sys
os.chdir(sys.argv[1])
for i in range(int(sys.argv[2])):
    with open("file-%07d-with-a-name-of-some-length" % i, "w") as f:
        f.write("" if i % 20 else "%d\n" % i)
PY
  bs init -r "$R"
  peak=$(peak_mib "$BACKSTAY" backup -r "$R" "$S") || fail "backup"
  echo "measured: first backup of $count files within $peak MiB"
  [ "$peak" -le 200 ] || fail "the backup took $peak MiB, at most 200"
  peak=$(peak_mib "$BACKSTAY" backup -r "$R" "$S") || fail "second backup"
  echo "measured: second backup within $peak MiB"
  [ "$peak" -le 200 ] || fail "the second backup took $peak MiB, at most 200"
  peak=$(peak_mib "$BACKSTAY" restore -r "$R" latest --target "$WORK/many/o") || fail "restore"
  echo "measured: restore within $peak MiB"
  [ "$peak" -le 200 ] || fail "the restore took $peak MiB, at most 200"
  peak=$(peak_mib "$BACKSTAY" verify -r "$R" --read-data) || fail "verify"
  echo "measured: verify within $peak MiB"
  [ "$peak" -le 200 ] || fail "the verification took $peak MiB, at most 200"
  diff -rq "$S" "$WORK/many/o$S" >/dev/null || fail "not all came back"
  bs ls -r "$R" "latest:$S/file-0123456-with-a-name-of-some-length"
  bs prune -r "$R"
}

case_odd_names_come_back_and_never_reach_the_terminal_raw() {
  "$PYTHON" - "$S" <<'PY'
import os, sys
root = os.fsencode(sys.argv[1])
names = [b"new\nline", b"\n", b" ", b"tab\there", b"back\\slash", b"quote'\"", b"$(touch hit)", b"`touch hit`", b"-rf", b"--help",
         b"*", b"?", b"[a]", b"~", b"#", b"%0A", b"\x01\x02", b"\x1b]0;title\x07", b"\x1b[2J", b"\xff\xfe", b"\xc3\x28",
         b"a\xcc\x8a", b"\xc3\xa5", "\u202egnp.exe".encode(), b"nul\xc0\x80", b"x" * 255, b"...", b"CON", b"a:b", b"\r"]
for i, name in enumerate(names):
    with open(os.path.join(root, name), "wb") as f:
        f.write(b"%d" % i)
    os.makedirs(os.path.join(root, b"dirs", name))
    os.symlink(name, os.path.join(root, b"link to %d" % i))
PY
  bs init -r "$R"
  bs backup -r "$R" "$S"
  restores_to latest
  sound
  bs ls -r "$R" latest
  ! LC_ALL=C grep -q "$(printf '[\001-\010\013-\037]')" "$WORK/out" || fail "ls printed control characters"
  bs ls -r "$R" latest --json
  "$PYTHON" - "$WORK/out" <<'PY' || fail "ls --json cannot be read"
import json, sys
[json.loads(line) for line in open(sys.argv[1], encoding="utf-8") if line.strip()]
PY
  # Chosen by a name with a line end in it.
  bs restore -r "$R" latest --include "$S/new
line" --target "$WORK/part"
  [ "$(cat "$WORK/part$S/new
line")" = 0 ] || fail "a name with a line end cannot be chosen"
}

case_an_empty_tree_and_an_empty_file_come_back() {
  bs init -r "$R"
  bs backup -r "$R" "$S"
  restores_to latest
  : >"$S/empty"
  bs backup -r "$R" "$S"
  restores_to latest
  bs backup -r "$R" "$S/empty"
  sound
}

# A tree that is being changed is stored as far as it can be, and what is stored is what some moment showed.
case_a_changing_tree_is_stored_and_said_to_be_changing() {
  bs init -r "$R"
  noise "$S" 300 50000 9
  "$PYTHON" - "$S" "$WORK/stop" <<'PY' &
import os, random, sys
where, stop = sys.argv[1], sys.argv[2]
r = random.Random(1)
while not os.path.exists(stop):
    name = os.path.join(where, "f%05d" % r.randrange(300))
    how = r.randrange(4)
    try:
        if how == 0:
            os.remove(name)
        elif how == 1:
            with open(name, "ab") as f:
                f.write(r.randbytes(5000))
        elif how == 2:
            with open(name, "wb") as f:
                f.write(r.randbytes(r.randrange(50000)))
        else:
            os.rename(name, name + "x")
            os.rename(name + "x", name)
    except FileNotFoundError:
        pass
PY
  local pid=$! n rc
  for n in 1 2 3 4 5; do
    rc=0
    "$BACKSTAY" backup -r "$R" "$S" >"$WORK/out" 2>"$WORK/err" || rc=$?
    [ $rc = 0 ] || [ $rc = 3 ] || { tail "$WORK/err"; fail "exit $rc of a backup of a changing tree"; }
  done
  touch "$WORK/stop"
  wait $pid
  sound
  bs backup -r "$R" "$S"
  restores_to latest
}

case_a_live_sqlite_database_comes_back_whole() {
  "$PYTHON" -c 'import sqlite3' || skip "needs sqlite3 in python"
  bs init -r "$R"
  "$PYTHON" - "$S/live.db" "$WORK/stop" <<'PY' &
import os, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("pragma journal_mode=wal")
db.execute("create table a (n integer primary key, twin integer, fill blob)")
n = 0
while not os.path.exists(sys.argv[2]):
    db.execute("begin")
    for _ in range(10):
        n += 1
        db.execute("insert into a values (?, ?, randomblob(3000))", (n, n))
    db.execute("commit")
    time.sleep(0.001)
PY
  local pid=$! n
  until [ -s "$S/live.db" ] && [ -s "$S/live.db-wal" ]; do sleep 0.05; done
  for n in 1 2 3; do
    bs backup -r "$R" "$S"
    bs restore -r "$R" latest --target "$WORK/o$n"
    "$PYTHON" - "$WORK/o$n$S/live.db" <<'PY' || fail "the database did not come back whole"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
assert db.execute("pragma integrity_check").fetchone() == ("ok",)
count, last = db.execute("select count(*), coalesce(max(n), 0) from a where n = twin").fetchone()
assert count == last and count % 10 == 0, (count, last)
PY
  done
  touch "$WORK/stop"
  wait $pid
}

# ---- hostile places ----

case_links_planted_in_the_target_lead_nowhere() {
  mkdir -p "$S/a/b" "$WORK/outside"
  echo inside >"$S/a/b/file"
  echo inside >"$S/a/plain"
  bs init -r "$R"
  bs backup -r "$R" "$S"
  # A link where a directory belongs, one where a file belongs, and a hard link to a file outside.
  mkdir -p "$WORK/o$S"
  ln -s "$WORK/outside" "$WORK/o$S/a"
  echo keep >"$WORK/outside/keep"
  "$BACKSTAY" restore -r "$R" latest --target "$WORK/o" --delta --confirm "$WORK/o" >"$WORK/out" 2>"$WORK/err" || true
  [ "$(ls "$WORK/outside")" = keep ] || fail "written through a link: $(ls "$WORK/outside")"
  rm -rf "$WORK/o"
  mkdir -p "$WORK/o$S/a/b"
  ln -s "$WORK/outside/keep" "$WORK/o$S/a/plain"
  ln "$WORK/outside/keep" "$WORK/o$S/a/b/file"
  bs restore -r "$R" latest --target "$WORK/o" --delta --confirm "$WORK/o"
  [ "$(cat "$WORK/outside/keep")" = keep ] || fail "a file outside was overwritten through a link"
  same "$S" "$WORK/o$S"
}

case_links_that_appear_during_a_restore_lead_nowhere() {
  mkdir -p "$WORK/outside"
  local n pid
  for n in $(seq 40); do noise "$S/dir/sub$n" 20 3000 "$n"; done
  bs init -r "$R"
  bs backup -r "$R" "$S"
  "$PYTHON" - "$WORK/o$S/dir" "$WORK/outside" "$WORK/stop" <<'PY' &
import os, sys
where, outside, stop = sys.argv[1:]
while not os.path.exists(stop):
    try:
        names = os.listdir(where)
    except OSError:
        continue
    for name in names:
        path = os.path.join(where, name)
        try:
            os.rename(path, path + ".away")
            os.symlink(outside, path)
            os.remove(path)
            os.rename(path + ".away", path)
        except OSError:
            pass
PY
  pid=$!
  for n in 1 2 3 4; do
    "$BACKSTAY" restore -r "$R" latest --target "$WORK/o" >"$WORK/out" 2>"$WORK/err" || [ $? != 101 ] || fail "panic"
    rm -rf "$WORK/o" 2>/dev/null || true
  done
  touch "$WORK/stop"
  wait $pid
  [ -z "$(ls -A "$WORK/outside")" ] || fail "written through a link: $(ls -A "$WORK/outside" | sed -n 1,3p)"
}

case_a_store_put_back_to_an_older_state_is_noticed() {
  bs init -r "$R"
  churn 1
  bs backup -r "$R" "$S"
  cp -a "$R" "$WORK/old"
  churn 2
  bs backup -r "$R" "$S"
  rm -rf "$R"
  cp -a "$WORK/old" "$R"
  local rc=0
  "$BACKSTAY" snapshots -r "$R" >"$WORK/out" 2>"$WORK/err" || rc=$?
  grep -qiE 'history|older|roll|lost|missing' "$WORK/err" || { cat "$WORK/err"; fail "exit $rc, and no word of the rollback"; }
  "$BACKSTAY" backup -r "$R" "$S" >"$WORK/out" 2>"$WORK/err" || rc=$?
  [ $rc != 0 ] || fail "a backup onto a rolled back repository succeeded without a word"
}

case_losing_cache_and_state_loses_nothing() {
  bs init -r "$R"
  churn 1
  bs backup -r "$R" "$S"
  rm -rf "$BACKSTAY_CACHE_DIR" "$BACKSTAY_STATE_DIR"
  restores_to latest
  rm -rf "$BACKSTAY_CACHE_DIR"
  head -c 4096 /dev/urandom >"$WORK/junk"
  bs backup -r "$R" "$S"
  # A cache full of nonsense is no worse than none.
  find "$BACKSTAY_CACHE_DIR" -type f -exec cp "$WORK/junk" {} \;
  bs backup -r "$R" "$S"
  restores_to latest
  sound
  # One that cannot be written is no worse either.
  rm -rf "$BACKSTAY_CACHE_DIR"
  : >"$BACKSTAY_CACHE_DIR"
  "$BACKSTAY" backup -r "$R" "$S" >"$WORK/out" 2>"$WORK/err" || { cat "$WORK/err"; fail "no backup without a cache"; }
  restores_to latest
}

# ---- bad input ----

case_bad_input_has_its_code_and_one_line() {
  bs init -r "$R"
  churn 1
  bs backup -r "$R" "$S"
  check() {
    expect "$@"
    told_in_one_line
  }
  check 10 snapshots -r "$WORK/nothing"
  check 10 snapshots -r "$S"
  check 1 init -r "$R"
  check 1 restore -r "$R" ffffffff --target "$WORK/o"
  check 2 restore -r "$R" latest
  check 2 backup -r "$R"
  check 2 snapshots -r ""
  expect 2 snapshots -r "$R" --no-such-option
  expect 2 nonsense
  : >"$WORK/file"
  check 21 restore -r "$R" latest --target "$WORK/file"
  mkdir "$WORK/full"
  : >"$WORK/full/something"
  check 6 restore -r "$R" latest --target "$WORK/full"
  [ "$(ls -A "$WORK/full")" = something ] || fail "something was left in a target that was refused"
  echo "another passphrase entirely" >"$WORK/wrong"
  chmod 600 "$WORK/wrong"
  check 12 snapshots -r "$R" --key-file "$WORK/wrong"
  : >"$WORK/empty"
  chmod 600 "$WORK/empty"
  check 12 snapshots -r "$R" --key-file "$WORK/empty"
  check 12 snapshots -r "$R" --key-file "$WORK/not-there"
  rc=0
  "$BACKSTAY" backup -r "$R" "$WORK/not-there" >"$WORK/out" 2>"$WORK/err" || rc=$?
  [ $rc = 1 ] || [ $rc = 20 ] || [ $rc = 2 ] || fail "exit $rc of a backup of nothing"
  told_in_one_line
  expect 3 backup -r "$R" "$S" "$WORK/not-there"
  grep -q not-there "$WORK/err" || fail "the missing path is not named"
  # Of a later format.
  cp -a "$R" "$WORK/later"
  chmod u+w "$WORK/later/backstay.json"
  sed -i 's/"format":1,/"format":99,/' "$WORK/later/backstay.json"
  check 1 snapshots -r "$WORK/later"
  grep -q 'later\|newer\|99' "$WORK/err" || { cat "$WORK/err"; fail "no word of the later format"; }
  sound
}

# Any object missing or damaged: an exit code that is not 0, no panic, no hang, and nothing wrong restored.
case_any_damage_is_an_error_and_never_a_panic() {
  bs init -r "$R"
  churn 1
  bs backup -r "$R" "$S"
  churn 2
  bs backup -r "$R" "$S"
  cp -a "$R" "$WORK/good"
  local n what verb rc
  for n in $(seq "${DAMAGES:-40}"); do
    rm -rf "$R" "$WORK/o" "$WORK/cache" "$WORK/state"
    cp -a "$WORK/good" "$R"
    what=$("$PYTHON" - "$R" "$n" <<'PY'
import os, random, sys
root, n = sys.argv[1], int(sys.argv[2])
r = random.Random(1000 + n)
dirs = ["packs", "index", "heads", "runs", "keys", "intents", "."]
base = os.path.join(root, dirs[n % len(dirs)])
files = sorted(os.path.join(d, f) for d, _, fs in os.walk(base) for f in fs)
path = r.choice(files)
os.chmod(path, 0o600)
how = ["nothing", "huge", "other", "dir"][n % 4]
if how == "nothing":
    os.truncate(path, 0)
elif how == "huge":
    os.truncate(path, 40 << 30)
elif how == "other":
    other = r.choice(files)
    open(path, "wb").write(open(other, "rb").read() if other != path else b"{}")
else:
    os.remove(path)
    os.mkdir(path)
print(how, os.path.relpath(path, root))
PY
    )
    for verb in "snapshots" "verify --read-data" "restore latest --target $WORK/o" "prune --dry-run" "backup $S"; do
      rc=0
      # shellcheck disable=SC2086
      (ulimit -v 6000000; timeout 60 "$BACKSTAY" $verb -r "$R" >"$WORK/out" 2>"$WORK/err") || rc=$?
      [ $rc != 101 ] && [ $rc != 134 ] || { head -n 5 "$WORK/err"; fail "$n ($what): $verb panicked"; }
      [ $rc != 124 ] && [ $rc != 137 ] || fail "$n ($what): $verb hangs"
      [ $rc = 0 ] || [ -s "$WORK/err" ] || [ -s "$WORK/out" ] || fail "$n ($what): $verb failed without a word"
    done
    nothing_wrong_in "$WORK/o$S" "$S"
  done
}

run_cases "$@"
