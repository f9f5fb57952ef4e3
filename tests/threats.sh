#!/usr/bin/env bash
# What attackers try, and what must hold: a host with a writer's key that can put any object into the store, the store
# itself, and whoever looks for keys and plaintext where they do not belong. docs/threat-model.md says which case stands
# behind which claim. Run one with: tests/threats.sh NAME…
#
# Needs: python3 with what docs/reader/requirements.txt names, rsync; setpriv for one.
. "$(dirname "$0")/lib.sh"

# ---- the cast ----

# A repository with an owner, two writers on two hosts, a keeper, a reader and root, each with a key of its own.
cast() {
  local name
  bs init -r "$R"
  for name in victim evil; do bs key add -r "$R" --role writer --label $name --out "$WORK/$name.key"; done
  for name in keeper reader root; do bs key add -r "$R" --role $name --label $name --out "$WORK/$name.key"; done
  bs key kit -r "$R" --out "$WORK/kit"
  V=$S/victim
  E=$S/evil
  noise "$V" 12 90000 1
  noise "$E" 5 90000 2
  as victim backup -r "$R" --host victim --json "$V"
  FIRST=$(summary_of snapshot_id)
  cp -a "$V" "$WORK/first"
  noise "$V/more" 6 90000 3
  as victim backup -r "$R" --host victim "$V"
  as evil backup -r "$R" --host evil "$E"
}

# The program with somebody's key, on a machine of theirs.
as() {
  local who=$1
  shift
  BACKSTAY_KEY_FILE=$WORK/$who.key BACKSTAY_CACHE_DIR=$WORK/cache.$who BACKSTAY_STATE_DIR=$WORK/state.$who bs "$@"
}

# The same, and how it is to end.
refused() {
  local who=$1 want=$2
  shift 2
  BACKSTAY_KEY_FILE=$WORK/$who.key BACKSTAY_CACHE_DIR=$WORK/cache.$who BACKSTAY_STATE_DIR=$WORK/state.$who expect "$want" "$@"
  told_in_one_line
}

forge() {
  "$PYTHON" "$ROOT/tests/forge.py" "$R" "$WORK/evil.key" "$@" >"$WORK/forged" || fail "cannot forge: $*"
}

# All objects but announcements, with their digests.
objects() {
  (cd "$R" && find . -type f -not -path './intents/*' -not -path './tmp/*' -print0 | sort -z | xargs -0 b2sum)
}

# The victim's history, whole, for the owner and for who has nothing but the kit.
victim_is_unharmed() {
  local key out
  # A key that saw nothing before: what is judged is the store as it is now.
  for key in "$BACKSTAY_KEY_FILE" "$WORK/kit" "$WORK/reader.key"; do
    out=$(mktemp -d "$WORK/out.XXXXXX")
    BACKSTAY_STATE_DIR=$out/state BACKSTAY_KEY_FILE=$key bs snapshots -r "$R" --host victim --json
    [ "$(grep -o '"id":"[0-9a-f]*"' "$WORK/out" | sort -u | wc -l)" -ge 2 ] || fail "$1: a snapshot of the victim is not listed with $key"
    BACKSTAY_STATE_DIR=$out/state BACKSTAY_KEY_FILE=$key bs restore -r "$R" "$FIRST" --target "$out/a"
    same "$WORK/first" "$out/a$V"
    BACKSTAY_STATE_DIR=$out/state BACKSTAY_KEY_FILE=$key bs restore -r "$R" "$LATEST" --target "$out/b"
    same "$V" "$out/b$V"
    rm -rf "$out"
  done
}

latest_of_victim() {
  LATEST=$("$BACKSTAY" snapshots -r "$R" --host victim --json | "$PYTHON" -c 'import json,sys; print(json.load(sys.stdin)[-1]["id"])')
}

# ---- a writer's key and nothing else ----

case_a_writer_reads_nothing_not_even_its_own() {
  cast
  local id
  id=$("$BACKSTAY" snapshots -r "$R" --host evil --json | "$PYTHON" -c 'import json,sys; print(json.load(sys.stdin)[-1]["id"])')
  refused evil 13 restore -r "$R" "$id" --target "$WORK/o"
  refused evil 13 dump -r "$R" "$id" "$E/f00000"
  refused evil 13 ls -r "$R" "$id"
  refused evil 13 find -r "$R" 'f*'
  refused evil 13 diff -r "$R" "$id" "$id"
  refused evil 13 verify -r "$R" --read-data
  refused evil 13 key kit -r "$R" --out "$WORK/evil.kit"
  [ ! -e "$WORK/o" ] || [ -z "$(find "$WORK/o" -type f)" ] || fail "a writer restored something"
  # What belongs to others is not there for it.
  for id in "$FIRST" latest; do
    BACKSTAY_KEY_FILE=$WORK/evil.key BACKSTAY_STATE_DIR=$WORK/state.evil "$BACKSTAY" restore -r "$R" "$id" --host victim --target "$WORK/o" >"$WORK/out" 2>"$WORK/err" &&
      fail "a writer restored another's snapshot"
    told_in_one_line
  done
  as evil snapshots -r "$R" --json
  ! grep -q '"victim"' "$WORK/out" || fail "a writer sees the snapshots of another host"
  # A copy of everything is ciphertext: neither there nor here does its key open anything.
  as evil copy -r "$R" --to "$WORK/stolen"
  refused evil 13 restore -r "$WORK/stolen" "$("$BACKSTAY" snapshots -r "$R" --host evil --json | "$PYTHON" -c 'import json,sys; print(json.load(sys.stdin)[-1]["id"])')" --target "$WORK/o"
  ! "$PYTHON" "$ROOT/docs/reader/restore.py" "$WORK/stolen" --key-file "$WORK/evil.key" --target "$WORK/o" >"$WORK/out" 2>&1 || fail "the reader opened it with a writer's key"
  grep -q 'cannot restore' "$WORK/out" || { cat "$WORK/out"; fail "refused for another reason"; }
}

case_a_writer_removes_and_shortens_nothing() {
  cast
  latest_of_victim
  as evil backup -r "$R" --host evil "$E"
  local id before
  echo "another correct horse battery staple" >"$WORK/second"
  bs key add -r "$R" --new-key-file "$WORK/second"
  id=$("$BACKSTAY" snapshots -r "$R" --host evil --json | "$PYTHON" -c 'import json,sys; print(json.load(sys.stdin)[-1]["id"])')
  before=$(objects)
  refused evil 13 forget -r "$R" --keep-last 1 --allow-empty
  refused evil 13 forget -r "$R" "$id" --allow-empty
  refused evil 13 prune -r "$R"
  refused evil 13 tag -r "$R" "$id" --add x
  refused evil 13 tag -r "$R" "$id" --hold x
  refused evil 13 verify -r "$R" --repair
  refused evil 13 verify -r "$R" --repair-from "$R"
  refused evil 13 verify -r "$R" --accept-loss
  refused evil 13 key add -r "$R" --role keeper --label x --out "$WORK/x"
  refused evil 13 key add -r "$R" --new-key-file "$BACKSTAY_KEY_FILE"
  local owner
  owner=$("$BACKSTAY" key list -r "$R" | grep -o 'owner-[0-9a-f]*' | sed -n 1p)
  refused evil 13 key passwd -r "$R" "$owner" --new-key-file "$BACKSTAY_KEY_FILE"
  refused evil 13 key remove -r "$R" "$owner"
  [ "$(objects)" = "$before" ] || fail "a refused command changed the repository"
  victim_is_unharmed "after refusals"
  sound
}

# Who may do what, for every role: 0 is done, 13 is refused.
case_each_role_may_do_its_part_and_no_more() {
  cast
  local who row want verb codes
  # ls restore dump find verify-data | backup | forget tag prune repair | enrol passphrase kit
  while read -r who row; do
    read -r -a codes <<<"$row"
    as victim backup -r "$R" --host victim "$V"
    for verb in "ls latest" "restore latest --host victim --target $WORK/o.$who" "dump latest --host victim $V/f00000" "find f00000" "verify --read-data" \
      "backup --host victim $V" "tag latest --add $who" "forget --host victim --keep-last 2" "prune" "verify --repair" \
      "key add --role writer --label $who-x --out $WORK/$who-x" "key kit --out $WORK/$who-kit"; do
      want=${codes[0]}
      codes=("${codes[@]:1}")
      # shellcheck disable=SC2086
      if [ "$want" = 0 ]; then as "$who" $verb -r "$R"; else refused "$who" "$want" $verb -r "$R"; fi
    done
  done <<'TABLE'
reader 0 0 0 0 0 13 13 13 13 13 13 0
keeper 13 13 13 13 13 13 0 0 0 0 13 13
root 13 13 13 13 13 13 0 0 0 0 0 13
victim 13 13 13 13 13 0 13 13 13 13 13 13
TABLE
  same "$V" "$WORK/o.reader$V"
  sound
}

# ---- a writer's key, and the right to put any object ----

# After each forgery the victim's history is whole with every key, nothing was deleted by it, a prune does nothing wrong,
# and the victim's next backup is possible or says in one line what is in the way; then the way out leads out.
case_no_forged_object_disturbs_another_host() {
  cast
  latest_of_victim
  cp -a "$R" "$WORK/good"
  mkdir "$WORK/old"
  cp "$R"/heads/* "$WORK/old"
  local what rc before way stopped=() named=() silent=()
  while read -r way what; do
    rm -rf "$R" "$WORK"/state*
    cp -a "$WORK/good" "$R"
    # shellcheck disable=SC2086
    forge $what
    [ -s "$WORK/forged" ] || fail "$what: nothing was forged"
    victim_is_unharmed "$what"
    before=$(cd "$R" && find packs runs heads -type f | sort)
    rc=0
    "$BACKSTAY" prune -r "$R" --max-unused 0 >"$WORK/out" 2>"$WORK/err" || rc=$?
    [ $rc = 0 ] || told_in_one_line
    [ $rc = 0 ] || [ "$(cd "$R" && find packs runs heads -type f | sort)" = "$before" ] || fail "$what: a prune that refused deleted something"
    victim_is_unharmed "$what, and a prune"
    rc=0
    "$BACKSTAY" verify -r "$R" --read-data >"$WORK/out" 2>"$WORK/err" || rc=$?
    [ $rc = 0 ] || [ $rc = 4 ] || fail "$what: verify ends with $rc"
    if [ $rc = 4 ]; then named+=("${what%% *}"); else silent+=("${what%% *}"); fi
    rc=0
    BACKSTAY_KEY_FILE=$WORK/victim.key "$BACKSTAY" backup -r "$R" --host victim "$V" >"$WORK/out" 2>"$WORK/err" || rc=$?
    [ $rc = 0 ] || { told_in_one_line; stopped+=("${what%% *}"); }
    [ $rc = 0 ] || [ "$way" = repair ] || fail "$what: the victim cannot back up: $(cat "$WORK/err")"
    case $way in
      none) ;;
      # Each of these is named, and what `help` says ends it.
      accept) bs verify -r "$R" --accept-loss ;;
      repair) bs verify -r "$R" --repair --read-data ;;
      remove) (cd "$R" && rm -f $(cat "$WORK/forged")) ;;
      passwd)
        echo "another correct horse" >"$WORK/new"
        bs key passwd -r "$R" --new-key-file "$WORK/new"
        cp "$WORK/new" "$BACKSTAY_KEY_FILE"
        ;;
    esac
    as victim backup -r "$R" --host victim "$V"
    bs prune -r "$R"
    victim_is_unharmed "$what, and the way out"
    echo "correct horse battery staple" >"$BACKSTAY_KEY_FILE"
  done <<TABLE
accept removes $FIRST
accept removes $LATEST
accept covers
accept edits $FIRST
accept fences
none orders $FIRST
accept orphan
none adds_again $WORK/old
accept in_anothers_domain
accept unheard_parent
repair condemns
none ends_work
none keeps
none runs
remove masters
remove masters 1111111111111111111111111111111111111111111111111111111111111111
passwd owners
remove certifies keeper
remove configures
none packs
repair tables
remove garbage
TABLE
  echo "measured: verify names ${named[*]}; not worth a word: ${silent[*]}; another's backup stops until a repair at: ${stopped[*]:-none}"
}

# Old objects put back do not bring back what was forgotten, and do not take away what came since.
case_old_state_put_back_by_a_writer_changes_nothing() {
  cast
  latest_of_victim
  cp -a "$R" "$WORK/before"
  bs forget -r "$R" "$FIRST"
  bs prune -r "$R" --max-unused 0
  local n
  # Enough heads for a checkpoint to take their place.
  for n in $(seq 66); do as victim backup -r "$R" --host victim "$V"; done
  bs prune -r "$R"
  latest_of_victim
  local listed
  listed=$(snapshot_ids)
  cp -an "$WORK/before/." "$R/"
  [ "$(snapshot_ids)" = "$listed" ] || fail "old objects that were put back changed what there is"
  rm -rf "$WORK"/state*
  [ "$(snapshot_ids)" = "$listed" ] || fail "old objects that were put back changed what there is, for who never saw it"
  bs restore -r "$R" "$LATEST" --target "$WORK/o"
  same "$V" "$WORK/o$V"
  bs prune -r "$R"
  bs verify -r "$R" --read-data
}

# Snapshots of a writer, dated ten years off, evict none of another's; a policy keeps what it kept without them.
case_snapshots_with_wrong_times_evict_none_of_another() {
  cast
  latest_of_victim
  local when want
  bs forget -r "$R" --host victim --keep-daily 3 --group-by "" --dry-run
  for when in 2014 2036; do
    for n in 1 2 3 4 5 6; do as evil backup -r "$R" --host victim --time "$when-06-0${n}T10:00:00Z" "$E"; done
  done
  want="$LATEST"
  bs forget -r "$R" --keep-daily 3 --prune
  [[ $(snapshot_ids) == *$want* ]] || fail "snapshots with wrong times evicted a real one"
  bs restore -r "$R" "$want" --target "$WORK/o"
  same "$V" "$WORK/o$V"
}

# ---- the store ----

case_a_rollback_is_named() {
  cast
  cp -a "$R" "$WORK/old"
  noise "$V/new" 3 9000 4
  bs snapshots -r "$R"
  as victim backup -r "$R" --host victim "$V"
  bs snapshots -r "$R"
  rm -rf "$R"
  cp -a "$WORK/old" "$R"
  local verb
  for verb in snapshots "restore $FIRST --target $WORK/o" "prune" "forget --keep-last 1" "verify" "stats"; do
    # shellcheck disable=SC2086
    expect 1 $verb -r "$R"
    told_in_one_line
    grep -q 'lost history: head .* was seen here before, is gone' "$WORK/err" || { cat "$WORK/err"; fail "$verb does not name the rollback"; }
  done
  refused victim 1 backup -r "$R" --host victim "$V"
  [ ! -e "$WORK/o" ] || fail "something was restored from a store that was rolled back"
}

# Each thing the store can leave out, and the command that says so, with its code.
case_an_omission_is_named() {
  cast
  latest_of_victim
  cp -a "$R" "$WORK/good"
  local shelf code object
  while read -r shelf code; do
    for object in $(cd "$WORK/good" && find $shelf -type f | sort); do
      rm -rf "$R" "$WORK"/state* "$WORK/o"
      cp -a "$WORK/good" "$R"
      bs snapshots -r "$R"
      rm -f "$R/$object"
      rc=0
      "$BACKSTAY" verify -r "$R" --read-data >"$WORK/out" 2>"$WORK/err" || rc=$?
      case $rc:$code in
        4:4) ;;
        # The newest of all is missed by who saw it.
        1:4) grep -q 'lost history' "$WORK/err" || { cat "$WORK/err"; fail "$object is gone: exit 1 and no word of history"; } ;;
        # What nothing needs any more may go: the whole history must come back then.
        0:0) bs restore -r "$R" "$LATEST" --target "$WORK/o"; same "$V" "$WORK/o$V" ;;
        4:0) ;;
        *) cat "$WORK/err"; fail "$object is gone: verify ends with $rc, wanted $code" ;;
      esac
    done
  done <<'TABLE'
heads 4
packs 4
runs 4
keys 4
index 0
intents 0
TABLE
  rm -rf "$R" "$WORK"/state*
  cp -a "$WORK/good" "$R"
  rm "$R/backstay.json"
  expect 4 verify -r "$R"
}

# Two clients are shown different histories. Whoever looks at both, and each of them once it is shown the other, says so.
case_a_fork_is_named() {
  cast
  cp -a "$R" "$WORK/fork"
  as victim backup -r "$R" --host victim "$V"
  as evil backup -r "$WORK/fork" --host evil "$E"
  # The store answers each from its own branch, in the same place.
  mv "$R" "$WORK/branch"
  mv "$WORK/fork" "$R"
  refused victim 1 backup -r "$R" --host victim "$V"
  grep -q 'lost history' "$WORK/err" || { cat "$WORK/err"; fail "the fork is not named"; }
  # Both branches together are a history again: nobody's commit is lost.
  cp -an "$WORK/branch/." "$R/"
  as victim backup -r "$R" --host victim "$V"
  [ "$(snapshot_ids | wc -l)" = 6 ] || fail "not all of both branches is there: $(snapshot_ids | wc -l)"
  sound
}

# Heads, lists and packs that are put back after their time.
case_a_replay_is_named_or_changes_nothing() {
  cast
  latest_of_victim
  cp -a "$R" "$WORK/before"
  bs forget -r "$R" "$FIRST"
  # A list of condemned packs that was swept long ago.
  "$BACKSTAY" prune -r "$R" --max-unused 0 --grace 1h >/dev/null
  cp -a "$R/condemned" "$WORK/condemned"
  [ -n "$(ls "$WORK/condemned")" ] || fail "nothing was condemned"
  bs prune -r "$R" --max-unused 0 --grace 0s
  noise "$V/f9" 4 90000 9
  as victim backup -r "$R" --host victim "$V"
  latest_of_victim
  cp -an "$WORK/condemned/." "$R/condemned/"
  cp -an "$WORK/before/intents/." "$R/intents/"
  cp -an "$WORK/before/heads/." "$R/heads/"
  as victim backup -r "$R" --host victim "$V"
  bs prune -r "$R" --max-unused 0
  bs prune -r "$R" --max-unused 0
  bs restore -r "$R" "$LATEST" --target "$WORK/o"
  same "$V" "$WORK/o$V"
  [[ $(snapshot_ids) != *$FIRST* ]] || fail "what was forgotten is back"
  sound
}

# Any object under the name of another of its kind, and one repository in the place of another.
case_a_swap_is_named() {
  cast
  latest_of_victim
  cp -a "$R" "$WORK/good"
  local shelf one two
  for shelf in packs heads runs index keys; do
    rm -rf "$R" "$WORK"/state* "$WORK/o"
    cp -a "$WORK/good" "$R"
    mapfile -t pair < <(find "$R/$shelf" -type f | sort | sed -n '1p;$p')
    one=${pair[0]} two=${pair[1]}
    mv "$one" "$WORK/one"
    mv "$two" "$one"
    mv "$WORK/one" "$two"
    rc=0
    "$BACKSTAY" verify -r "$R" --read-data >"$WORK/out" 2>"$WORK/err" || rc=$?
    [ $rc = 4 ] || { cat "$WORK/err"; fail "swapped objects of $shelf: verify ends with $rc"; }
    "$BACKSTAY" restore -r "$R" "$LATEST" --target "$WORK/o" >"$WORK/out" 2>"$WORK/err" || [ -s "$WORK/err" ] || fail "refused without a word"
    nothing_wrong_in "$WORK/o$V" "$V"
  done
  # Another repository with the same passphrase, in the same place, and one whose objects stand among ours.
  rm -rf "$R" "$WORK"/state*
  cp -a "$WORK/good" "$R"
  as victim snapshots -r "$R"
  bs init -r "$WORK/other"
  bs backup -r "$WORK/other" "$E"
  mv "$R" "$WORK/ours"
  cp -a "$WORK/other" "$R"
  local key
  for key in victim keeper reader root; do refused $key 12 snapshots -r "$R"; done
  expect 12 snapshots -r "$R" --key-file "$WORK/kit"
  rm -rf "$R"
  mv "$WORK/ours" "$R"
  for shelf in heads packs index runs intents; do cp -an "$WORK/other/$shelf/." "$R/$shelf/"; done
  expect 4 verify -r "$R"
  rm -rf "$WORK/o"
  bs restore -r "$R" "$LATEST" --target "$WORK/o"
  same "$V" "$WORK/o$V"
}

# While a head is damaged or gone every command says that snapshots may be missing, and none takes an older one for the latest.
case_damaged_heads_are_told_and_latest_is_refused() {
  local first second head how verb rc
  bs init -r "$R"
  noise "$S" 5 9000 1
  bs backup -r "$R" --json "$S"
  first=$(summary_of snapshot_id)
  ls "$R/heads" >"$WORK/before"
  noise "$S/more" 5 9000 2
  bs backup -r "$R" --json "$S"
  second=$(summary_of snapshot_id)
  head=$(ls "$R/heads" | grep -vxFf "$WORK/before")
  bs backup -r "$R" "$S"
  cp -a "$R" "$WORK/good"
  for how in damaged gone; do
    rm -rf "$R" "$WORK"/state*
    cp -a "$WORK/good" "$R"
    chmod u+w "$R/heads/$head"
    if [ $how = damaged ]; then printf x | dd of="$R/heads/$head" bs=1 seek=50 conv=notrunc status=none; else rm "$R/heads/$head"; fi
    for verb in snapshots stats "ls $first" "restore $first --target $WORK/o"; do
      # shellcheck disable=SC2086
      bs $verb -r "$R"
      [ "$(grep -c '^warning: snapshots may be missing: ' "$WORK/err")" = 1 ] || { cat "$WORK/err"; fail "$verb says nothing of a head that is $how"; }
    done
    rm -rf "$WORK/o"
    for verb in latest "latest@now" "latest:$S"; do
      expect 1 restore -r "$R" "$verb" --target "$WORK/o"
      told_in_one_line
      grep -q '^error: cannot tell which snapshot is the latest: ' "$WORK/err" || { cat "$WORK/err"; fail "restore $verb is refused for another reason"; }
      [ ! -e "$WORK/o" ] || fail "restore $verb was refused and made its target"
    done
    expect 1 prune -r "$R"
    told_in_one_line
    expect 4 verify -r "$R"
    bs backup -r "$R" "$S"
    # The way out.
    bs verify -r "$R" --repair-from "$WORK/good"
    bs restore -r "$R" latest --target "$WORK/o"
    same "$S" "$WORK/o$S"
    rm -rf "$WORK/o"
    bs restore -r "$R" "$second" --target "$WORK/o"
    rm -rf "$WORK/o"
  done
}

# ---- plaintext, paths and keys where they do not belong ----

# Every secret there is, as text and as bytes, one a line in hex: passphrase, key files, kit, master keys, data keys.
secrets() {
  "$PYTHON" - "$R" "$WORK" <<'PY'
import json, os, sys
sys.path.insert(0, os.path.join(os.environ["ROOT"], "docs", "reader"))
import restore
path, work = sys.argv[1:]
secrets = set()
def add(name, value):
    secrets.add((name, value))
def bundle(name, b):
    for field in ("root_seed", "sign_seed", "id_master", "keep_master", "id_key", "keep_key"):
        if field in b:
            add(name + " " + field, b[field].encode())
            add(name + " " + field, bytes.fromhex(b[field]))
    if "identity" in b:
        add(name + " identity", b["identity"].encode())
        add(name + " identity", b["identity"][16:40].encode())
phrase = open(os.path.join(work, "key")).read().strip()
add("passphrase", phrase.encode())
for who in ("victim", "evil", "keeper", "reader", "root"):
    bundle(who, json.load(open(os.path.join(work, who + ".key"))))
repo = restore.Repository(path, phrase)
add("id master", repo.id_master)
add("keep master", repo.keep_master)
for name in os.listdir(os.path.join(path, "runs")):
    for key in repo.data_keys(bytes.fromhex(name.split(".")[0])):
        add("data key", key)
for name, value in sorted(secrets):
    print(name.replace(" ", "_"), value.hex())
PY
}

# Whether a needle of the file $1 (name and hex a line) is in any file below the other arguments.
none_of() {
  "$PYTHON" - "$@" <<'PY'
import os, sys
needles = [(line.split()[0], bytes.fromhex(line.split()[1])) for line in open(sys.argv[1]) if line.strip()]
assert needles and all(len(value) >= 8 for _, value in needles), needles
looked = 0
for top in sys.argv[2:]:
    files = [top] if os.path.isfile(top) else [os.path.join(at, f) for at, _, fs in os.walk(top) for f in fs]
    for path in files:
        data = open(path, "rb").read()
        looked += len(data)
        for name, value in needles:
            if value in data or value in os.fsencode(path):
                sys.exit(f"{path} holds {name}")
assert looked, "nothing was looked at"
PY
}

case_canaries_are_in_no_object_output_error_or_cache() {
  export ROOT
  BACKSTAY_STATE_DIR=$WORK/state
  echo "CanaryPassphrase-4711 correct horse" >"$BACKSTAY_KEY_FILE"
  mkdir -p "$S/victim/CanaryPath-0815"
  "$PYTHON" - "$S/victim/CanaryPath-0815" <<'PY'
import os, sys
for i in range(8):
    with open(os.path.join(sys.argv[1], "CanaryName-%d" % i), "wb") as f:
        f.write(b"CanaryContent-%d " % i * 3000)
os.setxattr(os.path.join(sys.argv[1], "CanaryName-0"), "user.canary", b"CanaryAttribute")
os.symlink("/CanaryTarget/of-a-link", os.path.join(sys.argv[1], "CanaryLink"))
PY
  cast
  mkdir "$WORK/said"
  local n=0 who verb
  # Whoever has no right to paths must not be told one, whatever is asked and however much is said.
  for who in victim evil keeper root; do
    for verb in snapshots stats prune verify "verify --digests" "ls latest" "restore latest --target $WORK/o" "find CanaryName" \
      "dump latest $S/victim/CanaryPath-0815/CanaryName-0" "diff latest latest" "key list" "key test" "copy --to $WORK/copy.$who"; do
      n=$((n + 1))
      # shellcheck disable=SC2086
      BACKSTAY_KEY_FILE=$WORK/$who.key "$BACKSTAY" -v -v -r "$R" $verb >"$WORK/said/$n.out" 2>"$WORK/said/$n.err" || true
      sed -i '/CanaryName/{/cannot\|no \|not /d}' "$WORK/said/$n.err"
    done
  done
  local canary
  for canary in CanaryContent CanaryPath-0815 CanaryName CanaryAttribute CanaryTarget; do
    echo "$canary $(printf %s "$canary" | od -An -tx1 | tr -d ' \n')"
  done >"$WORK/canaries"
  none_of "$WORK/canaries" "$R" "$WORK/copy.keeper" "$WORK/said" "$WORK/state" || fail "plaintext got out"
  # Keys are told to nobody: not by those who hold them, not in errors, not in caches.
  for verb in snapshots stats "ls latest" "find CanaryName" "verify --read-data" "key list" "key test" "backup $S/victim" "backup $S/nothing" \
    "restore latest --target $WORK/o" "restore latest --target $WORK/o" "restore ffff --target $WORK/o" "forget --keep-last 1 --dry-run" "prune"; do
    for who in key reader.key kit; do
      n=$((n + 1))
      # shellcheck disable=SC2086
      BACKSTAY_KEY_FILE=$WORK/$who "$BACKSTAY" -v -v -r "$R" $verb >"$WORK/said/$n.out" 2>"$WORK/said/$n.err" || true
    done
  done
  # Keys that are wrong in every way, and arguments in the wrong place.
  sed 's/"v":1/"v":9/' "$WORK/reader.key" >"$WORK/bad.1"
  sed 's/"identity":"AGE-SECRET-KEY-1/"identity":"AGE-SECRET-KEY-1Q/' "$WORK/reader.key" >"$WORK/bad.2"
  sed 's/,"label".*/,/' "$WORK/reader.key" >"$WORK/bad.3"
  sed 's/AGE-SECRET-KEY-1./AGE-SECRET-KEY-1QQ/' "$WORK/kit" >"$WORK/bad.4"
  { cat "$BACKSTAY_KEY_FILE"; echo more; } >"$WORK/bad.5"
  tr -d '}' <"$WORK/root.key" >"$WORK/bad.6"
  for who in 1 2 3 4 5 6; do
    n=$((n + 1))
    BACKSTAY_KEY_FILE=$WORK/bad.$who "$BACKSTAY" -v -v -r "$R" snapshots >"$WORK/said/$n.out" 2>"$WORK/said/$n.err" && fail "bad key $who opens"
    n=$((n + 1))
    BACKSTAY_KEY_FILE='' BACKSTAY_KEY=$(cat "$WORK/bad.$who") "$BACKSTAY" -v -v -r "$R" snapshots >"$WORK/said/$n.out" 2>"$WORK/said/$n.err" || true
  done
  secrets >"$WORK/secrets"
  [ "$(wc -l <"$WORK/secrets")" -ge 20 ] || fail "too few secrets to look for"
  none_of "$WORK/secrets" "$R" "$WORK/said" "$WORK/state" "$WORK/cache" "$WORK/copy.keeper" || fail "a key got out"
  echo "measured: $(wc -l <"$WORK/secrets") secrets and 5 canaries in none of $n outputs and $(find "$R" -type f | wc -l) objects"
}

# While it holds all its keys in memory it is made to die as for a debugger. Where the kernel writes cores to files, another
# program leaves one, which shows that this could have.
case_a_crash_leaves_no_core() {
  bs init -r "$R"
  case $(cat /proc/sys/kernel/core_pattern) in '|'*) skip "cores go to a program here" ;; esac
  ulimit -S -c "$(ulimit -H -c)"
  [ "$(ulimit -c)" != 0 ] || ulimit -c unlimited 2>/dev/null || skip "no process may leave a core here"
  mkdir "$WORK/crash"
  chmod 777 "$WORK/crash"
  "$PYTHON" - "$WORK/crash" "$BACKSTAY" "$R" <<'PY' || { [ $? = $SKIP ] && skip "a crash leaves no core here"; fail "see above"; }
import os, signal, subprocess, sys, time
where, program, repository = sys.argv[1:]

def die(signal_number, *command, wait=lambda pid: True):
    child = subprocess.Popen(command, cwd=where, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not wait(child.pid):
        assert child.poll() is None and time.monotonic() < deadline, "it does not get that far"
        time.sleep(0.02)
    os.kill(child.pid, signal_number)
    status = os.waitpid(child.pid, 0)[1]
    child.returncode = status
    return status

status = die(signal.SIGABRT, "sleep", "60", wait=lambda pid: os.readlink(f"/proc/{pid}/exe").endswith("sleep"))
if not os.WCOREDUMP(status):
    sys.exit(77)
for name in os.listdir(where):
    os.remove(os.path.join(where, name))

def holds_keys(pid):
    # The key of its run is stored: it waits for what it is to back up.
    return bool(os.listdir(repository + "/runs"))

for number in (signal.SIGABRT, signal.SIGTRAP, signal.SIGFPE):
    for name in os.listdir(repository + "/runs"):
        os.remove(f"{repository}/runs/{name}")
    status = die(number, program, "backup", "-r", repository, "--stdin", wait=holds_keys)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == number, f"it ended with {status:#x}"
    assert not os.WCOREDUMP(status), f"signal {number}: a core was dumped"
    assert not os.listdir(where), os.listdir(where)
PY
}

case_nobody_of_the_same_user_looks_in() {
  need_root
  need_program setpriv
  # The same user, another process: neither its memory nor a debugger's foot in the door.
  cp "$BACKSTAY" "$WORK/backstay"
  mkdir "$WORK/theirs"
  cp "$BACKSTAY_KEY_FILE" "$WORK/theirs/key"
  chown -R 65534:65534 "$WORK/theirs"
  cat >"$WORK/look.py" <<'PY'
import ctypes, errno, os, subprocess, sys, time
program, where = sys.argv[1:]
env = {"BACKSTAY_KEY_FILE": where + "/key", "BACKSTAY_CACHE_DIR": where + "/c", "BACKSTAY_STATE_DIR": where + "/s", "PATH": "/bin:/usr/bin"}
subprocess.run([program, "init", "-r", where + "/r"], env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
def look(pid):
    try:
        open(f"/proc/{pid}/mem", "rb").close()
        return "its memory can be read"
    except PermissionError:
        pass
    try:
        open(f"/proc/{pid}/environ", "rb").close()
        return "its environment can be read"
    except PermissionError:
        pass
    if ptrace(16, pid, 0, 0) == 0:
        return "a debugger can attach"
    assert ctypes.get_errno() == errno.EPERM
ours = subprocess.Popen([program, "backup", "-r", where + "/r", "--stdin"], env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
other = subprocess.Popen(["sleep", "60"])
while not os.listdir(where + "/r/runs"):
    assert ours.poll() is None
    time.sleep(0.02)
said = look(ours.pid)
control = look(other.pid)
for child in (ours, other):
    child.kill()
assert said is None, said
sys.exit(0 if control else 77)
PY
  chmod 755 "$WORK/backstay"
  chmod 644 "$WORK/look.py"
  setpriv --reuid=65534 --regid=65534 --clear-groups "$(PATH=/usr/bin:/bin command -v python3)" "$WORK/look.py" "$WORK/backstay" "$WORK/theirs" ||
    { [ $? = $SKIP ] && skip "no process may be looked into here"; fail "see above"; }
}

run_cases "$@"
