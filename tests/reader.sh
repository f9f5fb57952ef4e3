#!/usr/bin/env bash
# The independent reader restores what the program backed up, with nothing but docs/format.md in common, and refuses
# what was damaged. Needs: rsync attr acl, and PYTHON with what docs/reader/requirements.txt names.
. "$(dirname "$0")/lib.sh"

reader() {
  "$PYTHON" "$ROOT/docs/reader/restore.py" "$R" --key-file "$BACKSTAY_KEY_FILE" "$@" >"$WORK/reader.out" 2>"$WORK/reader.err"
}

# Everything that makes a tree hard to store.
difficult_tree() {
  "$PYTHON" - "$S" <<'PY'
import os, random, stat, sys
root = os.fsencode(sys.argv[1])
rnd = random.Random(20)
WHEN = 1_650_000_000_987_654_321

def put(name, data, mode=0o644, when=WHEN):
    path = os.path.join(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)
    os.utime(path, ns=(when, when))
    return path

put(b"empty", b"")
put(b"byte", b"1")
put(b"odd/new\nline", b"n")
put(b"odd/ lead and trail ", b"s")
put(b"odd/\x1b[31mred", b"e")
put(b"odd/\xff\xfe\x80", b"not UTF-8")
put(b"odd/e\xcc\x81 and \xc3\xa9", b"two ways to write it")
put(b"odd/--target", b"an option?")
put(b"odd/" + b"n" * 255, b"long")
put(b"time/before", b"b", when=-1_000_000_001)
put(b"time/far", b"f", when=7_258_118_400_000_000_007)
put(b"mode/setgid", b"g", 0o2755)
put(b"mode/none", b"0", 0o000)
os.makedirs(os.path.join(root, b"mode/sticky"))
os.chmod(os.path.join(root, b"mode/sticky"), 0o1777)
first = put(b"link/first", rnd.randbytes(300_000))
os.link(first, os.path.join(root, b"link/second"))
os.link(first, os.path.join(root, b"third"))
os.symlink(b"../byte", os.path.join(root, b"link/relative"))
os.symlink(b"/nowhere/\xfe", os.path.join(root, b"link/dangling"))
os.mkfifo(os.path.join(root, b"fifo"))
with open(os.path.join(root, b"holes"), "wb") as f:
    f.truncate(200 << 20)
    f.seek(100 << 20)
    f.write(rnd.randbytes(5000))
with open(os.path.join(root, b"all hole"), "wb") as f:
    f.truncate(10 << 20)
put(b"zeros", bytes(3 << 20))
put(b"text", b"".join(b"line %d of a text that compresses\n" % i for i in range(200_000)))
put(b"big", rnd.randbytes(40 << 20))
for i in range(3000):
    put(b"many/%02d/%04d" % (i % 30, i), rnd.randbytes(rnd.randrange(0, 4000)))
if os.geteuid() == 0:
    os.mknod(os.path.join(root, b"char"), 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(os.path.join(root, b"block"), 0o600 | stat.S_IFBLK, os.makedev(7, 200))
    os.chown(os.path.join(root, b"byte"), 4_000_000_001, 65_000)
    os.chown(os.path.join(root, b"link/relative"), 7, 8, follow_symlinks=False)
PY
  setfattr -n user.note -v "hello" "$S/byte"
  setfattr -n user.raw -v 0x00ff0a22 "$S/many"
  setfacl -m u:nobody:rw "$S/byte"
  setfacl -d -m g:daemon:rx "$S/mode"
  touch -d '1999-12-31 23:59:59.999999999 UTC' "$S/many" "$S"
}

prepare() {
  need_program rsync setfattr setfacl
  "$PYTHON" -c 'import pyrage, zstandard, blake3, cryptography' || fail "$PYTHON lacks what docs/reader/requirements.txt names"
  bs init -r "$R"
}

case_a_difficult_tree_comes_back() {
  prepare
  difficult_tree
  bs backup -r "$R" --json "$S"
  reader --target "$WORK/back" --check || { tail "$WORK/reader.err"; fail "the reader ended with a problem"; }
  same "$S" "$WORK/back$S"
  [ "$(du -s --block-size=1M "$WORK/back$S/holes" | cut -f1)" -lt 4 ] || fail "the reader filled the holes"
}

case_older_snapshots_and_repacked_data_come_back() {
  prepare
  noise "$S/a" 300 90000 1
  bs backup -r "$R" "$S"
  noise "$S/b" 300 90000 2
  rm "$S"/a/f000*
  bs backup -r "$R" --json "$S"
  local middle
  middle=$(summary_of snapshot_id)
  cp -a "$S" "$WORK/middle"
  rm "$S"/b/f001* "$S"/a/f002*
  noise "$S/c" 50 900000 3
  bs backup -r "$R" "$S"
  bs forget -r "$R" --keep-last 2 --prune --max-unused 0
  reader --target "$WORK/back" --check || { tail "$WORK/reader.err"; fail "the reader ended with a problem"; }
  same "$S" "$WORK/back$S"
  reader --target "$WORK/back2" --snapshot "$middle" || fail "the reader does not find the older one"
  same "$WORK/middle" "$WORK/back2$S"
  reader --list
  [ "$(grep -c . "$WORK/reader.out")" -ge 2 ] || fail "the reader does not list both"
}

case_what_a_revoked_key_wrote_comes_back_and_what_it_writes_then_does_not() {
  prepare
  noise "$S" 5 90000 1
  bs key add -r "$R" --role writer --label host --out "$WORK/host.key"
  BACKSTAY_KEY_FILE="$WORK/host.key" bs backup -r "$R" "$S"
  cp -a "$S" "$WORK/before"
  cp -a "$R" "$WORK/unaware"
  bs key revoke -r "$R" host
  # Somebody who does not know of it yet, or does not care, writes on.
  noise "$S/late" 5 90000 2
  BACKSTAY_KEY_FILE="$WORK/host.key" bs backup -r "$WORK/unaware" "$S"
  cp -an "$WORK/unaware/." "$R/"
  reader --target "$WORK/back" --check || { tail "$WORK/reader.err"; fail "the reader ended with a problem"; }
  same "$WORK/before" "$WORK/back$S"
  bs restore -r "$R" latest --target "$WORK/own"
  same "$WORK/before" "$WORK/own$S"
}

case_a_wrong_passphrase_opens_nothing() {
  prepare
  noise "$S" 3 1000 1
  bs backup -r "$R" "$S"
  echo "correct horse battery stable" >"$BACKSTAY_KEY_FILE"
  ! reader --target "$WORK/back" || fail "a wrong passphrase was taken"
  [ ! -e "$WORK/back$S" ] || fail "something was restored"
}

# Every object in turn loses a bit, its end, or itself: the reader says so or does not need it, and what it leaves is
# right. It is never to say that all is well with wrong bytes.
case_damage_is_refused() {
  prepare
  noise "$S" 60 90000 4
  bs backup -r "$R" "$S"
  # No file changes: where the newest head is lost, the older snapshot comes back, and that is not wrong.
  noise "$S/more" 30 90000 5
  bs backup -r "$R" "$S"
  cp -a "$R" "$WORK/good"
  local n=0 refused=0 what
  for n in $(seq "${DAMAGES:-24}"); do
    rm -rf "$R" "$WORK/back"
    cp -a "$WORK/good" "$R"
    what=$("$PYTHON" - "$R" "$n" <<'PY'
import os, random, sys
root, n = sys.argv[1], int(sys.argv[2])
r = random.Random(n)
# Packs and heads in turn, then anything the reader needs.
kinds = ["packs", "heads", "packs", "runs"]
base = os.path.join(root, kinds[n % 4])
files = sorted(os.path.join(d, f) for d, _, fs in os.walk(base) for f in fs if os.path.getsize(os.path.join(d, f)))
path = r.choice(files)
size = os.path.getsize(path)
os.chmod(path, 0o600)
how = ["flip", "cut", "remove"][n // 4 % 3]
if how == "flip":
    with open(path, "r+b") as f:
        at = r.randrange(size)
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1 << r.randrange(8)]))
elif how == "cut":
    os.truncate(path, r.randrange(size))
else:
    os.remove(path)
print(how, os.path.relpath(path, root))
PY
    )
    if timeout 120 "$PYTHON" "$ROOT/docs/reader/restore.py" "$R" --key-file "$BACKSTAY_KEY_FILE" --target "$WORK/back" --check >"$WORK/reader.out" 2>"$WORK/reader.err"; then
      case $what in
        # The newest head taken away whole leaves an older state, which only who remembers a newer one can tell.
        "remove heads/"*) nothing_wrong_in "$WORK/back$S" "$S" ;;
        "flip packs/"* | "cut packs/"*) fail "$what: not seen by --check" ;;
        *) diff -rq "$S" "$WORK/back$S" >/dev/null || fail "$what: the reader said all is well, and restored something else" ;;
      esac
    else
      refused=$((refused + 1))
      grep -q '^restore.py: ' "$WORK/reader.err" || { cat "$WORK/reader.err"; fail "$what: no clear line"; }
      ! grep -q Traceback "$WORK/reader.err" || { cat "$WORK/reader.err"; fail "$what: a traceback"; }
      nothing_wrong_in "$WORK/back$S" "$S"
    fi
  done
  echo "measured: $refused of $n damages refused, the others were not needed"
  [ "$refused" -ge $((n / 2)) ] || fail "the damages did not hit anything"
}

run_cases "$@"
