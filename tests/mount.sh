#!/usr/bin/env bash
# Snapshots as a file system: everything as it was, damage that stays where it is, a prune beside it, and what is left when the
# program is killed. Each case says what must hold. Run one with: tests/mount.sh NAME…
#
# Needs: root and /dev/fuse; python3 rsync attr acl; setpriv and fusermount3 for the case of somebody who is not root. What is
# missing is skipped and counted.
. "$(dirname "$0")/lib.sh"

# ---- the stage ----

stage() {
  need_root
  [ -c /dev/fuse ] || skip "needs /dev/fuse"
  M=$WORK/mnt
  mkdir "$M"
  bs init -r "$R"
}

# Mounts in the background, with these arguments, and waits until it stands. What it says goes to mount.out and mount.err.
mounted() {
  : >"$WORK/mount.out"
  "$BACKSTAY" mount -r "$R" "$@" >"$WORK/mount.out" 2>"$WORK/mount.err" &
  MOUNT=$!
  for _ in $(seq 600); do
    ! grep -q "ctrl-C unmounts" "$WORK/mount.out" || return 0
    [ -e "/proc/$MOUNT" ] || break
    sleep 0.1
  done
  cat "$WORK/mount.out" "$WORK/mount.err"
  fail "it is not mounted: $*"
}

# Ends it by a signal; it must say that all went well, and be gone.
unmounted() {
  local rc=0
  kill -"${1:-INT}" "$MOUNT"
  wait "$MOUNT" || rc=$?
  [ $rc = 0 ] || { cat "$WORK/mount.err"; fail "exit $rc of mount"; }
  ! grep -q " $M " /proc/mounts || fail "it is still mounted"
}

# Two trees are the same, by content and by everything that is known of a file. Directories' counts of links are nobody's.
looks_like() {
  local told
  told=$(rsync -n -aHAXc --numeric-ids --devices --specials --delete -i "$1/" "$2/" 2>&1 | grep -v '^$' || true)
  [ -z "$told" ] || { head -n 20 <<<"$told" | cat -v; fail "the trees differ: $1 $2"; }
  local tree
  for tree in "$1" "$2"; do
    (cd "$tree" && find . \( -type d -printf '%P\0%y\0%m\0%U:%G\0%T@\0\n' \) -o \
      \( -type f -printf '%P\0%y\0%m\0%U:%G\0%T@\0%s\0%n\0\n' \) -o -printf '%P\0%y\0%m\0%U:%G\0%T@\0%l\0%n\0\n' | LC_ALL=C sort)
  done >"$WORK/lists"
  # One list twice.
  "$PYTHON" - "$WORK/lists" <<'PY'
import sys
lines = open(sys.argv[1], "rb").read().split(b"\n")[:-1]
a, b = lines[: len(lines) // 2], lines[len(lines) // 2 :]
different = [(x, y) for x, y in zip(a, b) if x != y]
assert len(a) == len(b) and not different, different[:5]
PY
}

# What file systems are asked to keep: every kind of thing, and what is said of it.
odd_tree() {
  noise "$1/many" 300 300000 "${2:-1}"
  noise "$1/large" 3 9000000 "${3:-2}"
  mkdir -p "$1/deep/er/still" "$1/empty"
  echo one >"$1/first name"
  ln "$1/first name" "$1/deep/er/second name"
  ln "$1/first name" "$1/zz third"
  ln -s "../first name" "$1/deep/link"
  ln -s /etc/passwd "$1/absolute"
  ln -s /nowhere "$1/dangling"
  mkfifo "$1/fifo"
  mknod "$1/null" c 1 3
  mknod "$1/disk" b 259 300
  : >"$1/nothing"
  printf 'x' >"$1/$(printf 'n\303\244me\n\377')"
  printf 'a' >"$1/dir!" && mkdir "$1/dir" && echo b >"$1/dir/b" && echo c >"$1/dir.c"
  chmod 4755 "$1/nothing"
  chown 1234:4321 "$1/large/f00001"
  touch -h -d '1969-12-31 23:59:58.25' "$1/dangling"
  touch -d '2100-01-01 00:00:00.123456789' "$1/dir/b"
  setfattr -n user.colour -v blue "$1/nothing"
  setfacl -m u:1234:r "$1/dir/b"
  # Sparse, more than one hole, and a hole at the end.
  "$PYTHON" - "$1/sparse" <<'PY'
import os, sys
with open(sys.argv[1], "wb") as f:
    for at in (1 << 20, 3 << 20, 64 << 20):
        f.seek(at); f.write(os.urandom(100_000))
    f.truncate(200 << 20)
PY
  # In pages, as databases are: a multiple of pages that is no text.
  head -c $((24 << 20)) /dev/urandom >"$1/pages"
}

# ---- cases ----

case_what_is_mounted_is_what_was_backed_up() {
  stage
  odd_tree "$S"
  bs backup -r "$R" --tag daily,home "$S"
  local first second
  first=$(snapshot_ids | tail -n 1)
  cp -a "$S" "$WORK/before"
  rm -rf "$S/many" && echo changed >"$S/dir/b"
  bs backup -r "$R" --tag daily "$S"
  second=$(snapshot_ids | tail -n 1)
  mounted "$M"
  looks_like "$S" "$M/latest$S"
  looks_like "$WORK/before" "$M/ids/${first:0:8}$S"
  looks_like "$S" "$M/snapshots/latest$S"
  [ "$(ls "$M/tags/daily" | wc -l)" = 3 ] && [ "$(ls "$M/tags/home" | wc -l)" = 2 ] || fail "the tags are not all there"
  looks_like "$WORK/before" "$M/tags/home/latest$S"
  [ "$(stat -L -c %i "$M/hosts/$(hostname)/latest")" = "$(stat -L -c %i "$M/ids/${second:0:8}")" ] || fail "the latest of the host is another"
  ! touch "$M/latest$S/new" 2>/dev/null || fail "it can be written to"
  ! "$BACKSTAY" mount -r "$R" "$M" >/dev/null 2>"$WORK/err" || fail "it is mounted twice"
  told_in_one_line
  unmounted
  # One snapshot, and a directory of it.
  mounted "${second:0:8}:$S" "$M"
  looks_like "$S" "$M"
  unmounted TERM
  mounted --tag home "$M"
  [ "$(ls "$M/ids")" = "${first:0:8}" ] || fail "the filter lets others through"
  umount "$M"
  wait "$MOUNT" || fail "a mount that somebody unmounted is no failure"
}

case_files_can_be_read_from_anywhere_in_them() {
  stage
  odd_tree "$S"
  # Of many chunks, cut where the content says: beyond the first sums.
  head -c $((80 << 20)) /dev/urandom >"$S/stream" && printf 'x' >>"$S/stream"
  bs backup -r "$R" "$S"
  mounted --cache-size 8M latest "$M"
  "$PYTHON" - "$S" "$M$S" <<'PY'
import os, random, sys, threading
r = random.Random(7)
good, got = sys.argv[1:]
def compare(seed):
    r = random.Random(seed)
    for name in ("stream", "sparse", "pages", "large/f00000"):
        with open(f"{good}/{name}", "rb") as a, open(f"{got}/{name}", "rb") as b:
            size = os.fstat(a.fileno()).st_size
            for _ in range(60):
                at, n = r.randrange(size), r.randrange(1, 400_000)
                x, y = os.pread(a.fileno(), n, at), os.pread(b.fileno(), n, at)
                if x != y: failed.append((name, at, n)); return
failed = []
threads = [threading.Thread(target=compare, args=(s,)) for s in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
assert not failed, failed
def stretches(path):
    fd, at, out = os.open(path, os.O_RDONLY), 0, []
    size = os.fstat(fd).st_size
    while at < size:
        try: start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError: break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        out.append((start, at))
    return out
# Holes may be told smaller than they are, data never.
holes = stretches(f"{got}/sparse")
assert len(holes) == 3, holes
assert all(any(a <= x and y <= b for a, b in holes) for x, y in [(1 << 20, (1 << 20) + 100_000), (64 << 20, (64 << 20) + 100_000)])
assert os.stat(f"{got}/sparse").st_blocks * 512 < 2 << 20
PY
  unmounted
}

case_damage_stays_in_the_file_that_has_it_and_is_told_once() {
  stage
  noise "$S" 1 2 1
  head -c $((8 << 20)) /dev/urandom >"$S/victim"
  bs backup -r "$R" "$S"
  # Packs of the file that will be damaged, before others are there.
  find "$R/packs" -type f | sort >"$WORK/packs"
  noise "$S/sound" 40 400000 3
  bs backup -r "$R" "$S"
  "$PYTHON" - "$WORK/packs" <<'PY'
import os, sys
largest = max(open(sys.argv[1]).read().split("\n")[:-1], key=os.path.getsize)
os.chmod(largest, 0o600)
with open(largest, "r+b") as f:
    f.seek(os.path.getsize(largest) // 2)
    byte = f.read(1)[0]
    f.seek(-1, 1)
    f.write(bytes([byte ^ 1]))
PY
  mounted latest "$M"
  looks_like "$S/sound" "$M$S/sound"
  "$PYTHON" - "$S/victim" "$M$S/victim" <<'PY'
import errno, os, sys
good, got = open(sys.argv[1], "rb").read(), os.open(sys.argv[2], os.O_RDONLY)
bad = 0
for _ in range(2):
    for at in range(0, len(good), 65536):
        try:
            # Less than was asked for ends where the damage begins.
            some = os.pread(got, 65536, at)
            assert some and good.startswith(some, at), at
        except OSError as e:
            assert e.errno == errno.EIO, e
            bad += 1
assert 0 < bad < 2 * len(good) / 65536 / 2, bad
PY
  [ "$(grep -c victim "$WORK/mount.err")" = 1 ] || { cat "$WORK/mount.err"; fail "the damage was not told once"; }
  unmounted
}

case_a_prune_takes_nothing_away_from_a_mount() {
  stage
  noise "$S/a" 60 300000 1
  bs backup -r "$R" "$S"
  local first
  first=$(snapshot_ids | tail -n 1)
  cp -a "$S" "$WORK/before"
  rm -rf "$S/a" && noise "$S/b" 20 300000 2
  bs backup -r "$R" "$S"
  mounted "${first:0:8}" "$M"
  bs forget -r "$R" --keep-last 1 --prune
  bs prune -r "$R"
  looks_like "$WORK/before" "$M$S"
  unmounted
  local before
  before=$(du -s "$R/packs" | cut -f 1)
  # Who was at work has ended: now it goes.
  bs prune -r "$R"
  bs prune -r "$R"
  [ "$(du -s "$R/packs" | cut -f 1)" -lt "$before" ] || fail "the mount is over and nothing was given back"
  sound
}

case_what_a_killed_mount_leaves_is_named_and_can_be_removed() {
  stage
  noise "$S" 5 9000 1
  bs backup -r "$R" "$S"
  mounted "$M"
  kill -9 "$MOUNT"
  wait "$MOUNT" 2>/dev/null || true
  ! ls "$M" 2>/dev/null || fail "something answers for the dead"
  expect 1 mount -r "$R" "$M"
  told_in_one_line
  grep -q "umount -l $M" "$WORK/err" || { cat "$WORK/err"; fail "it does not say what to do"; }
  umount -l "$M"
  mounted "$M"
  looks_like "$S" "$M/latest$S"
  unmounted
  bs prune -r "$R"
}

case_ctrl_c_unmounts_even_while_somebody_reads() {
  stage
  noise "$S" 5 9000 1
  bs backup -r "$R" "$S"
  mounted latest "$M"
  exec 9<"$M$S/f00000"
  (cd "$M$S" && exec sleep 600) &
  unmounted
  ! head -c 1 <&9 >/dev/null 2>&1 || fail "an open file outlives its mount"
  exec 9<&-
}

case_refusals_are_told_in_one_line() {
  stage
  need_program unshare
  noise "$S" 5 9000 1
  bs backup -r "$R" "$S"
  mkdir "$WORK/full" && touch "$WORK/full/x"
  expect 1 mount -r "$R" "$WORK/full"
  told_in_one_line
  expect 1 mount -r "$R" "$WORK/missing"
  told_in_one_line
  expect 1 mount -r "$R" "latest:$S/f00000" "$M"
  told_in_one_line
  expect 1 mount -r "$R" "latest:/nothing/there" "$M"
  told_in_one_line
  expect 2 mount -r "$R" --cache-size much "$M"
  # A machine without the device: one where something else is in its place.
  rc=0
  unshare -m sh -c 'mount --make-rprivate / && mount -t tmpfs none /dev && exec "$@"' sh "$BACKSTAY" mount -r "$R" "$M" >"$WORK/out" 2>"$WORK/err" || rc=$?
  [ $rc = 1 ] || fail "exit $rc without the device"
  told_in_one_line
  grep -q '/dev/fuse' "$WORK/err" && grep -q 'backstay restore' "$WORK/err" || { cat "$WORK/err"; fail "no remedy"; }
}

case_a_directory_of_a_hundred_thousand_is_listed_in_bounded_memory() {
  stage
  "$PYTHON" - "$S" "${ENTRIES:-100000}" <<'PY'
import os, sys
where, count = sys.argv[1], int(sys.argv[2])
os.makedirs(f"{where}/wide")
for i in range(count):
    os.close(os.open(f"{where}/wide/{i:08}", os.O_CREAT | os.O_WRONLY))
PY
  bs backup -r "$R" "$S"
  mounted latest "$M"
  local began
  began=$(date +%s%N)
  [ "$(ls -f "$M$S/wide" | wc -l)" = $((${ENTRIES:-100000} + 2)) ] || fail "names are missing"
  echo "measured: listing ${ENTRIES:-100000} names: $((($(date +%s%N) - began) / 1000000)) ms"
  began=$(date +%s%N)
  (cd "$M$S/wide" && find . -type f -size 0 -links 1 | wc -l) >"$WORK/count"
  [ "$(cat "$WORK/count")" = "${ENTRIES:-100000}" ] || fail "metadata is missing"
  echo "measured: and their metadata: $((($(date +%s%N) - began) / 1000000)) ms; memory $(awk '/VmRSS/ { print int($2 / 1024) }' "/proc/$MOUNT/status") MiB"
  unmounted
}

case_somebody_who_is_not_root_mounts_by_fusermount3() {
  stage
  need_program setpriv fusermount3 unshare
  noise "$S" 20 90000 1
  bs backup -r "$R" "$S"
  chmod -R a+rX "$R"
  mkdir "$WORK/nobody" "$WORK/nobody/mnt"
  cp "$BACKSTAY" "$WORK/backstay" && cp "$BACKSTAY_KEY_FILE" "$WORK/nobody/key"
  chown -R 65534:65534 "$WORK/nobody"
  # The device as udev makes it, whatever it is like here.
  cat >"$WORK/look" <<'SCRIPT'
set -e
work=$1 source=$2 repo=$3
mount --make-rprivate /
mknod "$work/fuse" c 10 229 && chmod 666 "$work/fuse" && mount --bind "$work/fuse" /dev/fuse
export BACKSTAY_KEY_FILE=$work/nobody/key BACKSTAY_CACHE_DIR=$work/nobody/cache BACKSTAY_STATE_DIR=$work/nobody/state
setpriv --reuid=65534 --regid=65534 --clear-groups "$work/backstay" mount -r "$repo" latest "$work/nobody/mnt" >"$work/mount.out" 2>&1 &
for _ in $(seq 300); do ! grep -q ctrl-C "$work/mount.out" || break; sleep 0.1; done
setpriv --reuid=65534 --regid=65534 --clear-groups diff -r "$source" "$work/nobody/mnt$source"
kill -INT $!
wait $!
! grep -q " $work/nobody/mnt " /proc/mounts
SCRIPT
  unshare -m sh "$WORK/look" "$WORK" "$S" "$R" || { cat "$WORK/mount.out"; fail "nobody cannot mount"; }
}

run_cases "$@"
