#!/usr/bin/env bash
# Repositories in buckets, on real services: moto, and a Ceph RADOS gateway where Debian's packages are installed. Each is
# started on a port of its own, in a directory of its own, and stopped again. Run some cases with: tests/s3.sh NAME…
#
# Needs: python3 with venv, openssl, cargo; ceph-mon, ceph-osd and radosgw for the gateway. What is missing is skipped and counted.
. "$(dirname "$0")/lib.sh"

ACCEPTANCE=$ROOT/../shared/acceptance
VENV=$ROOT/target/s3-venv
MEMORY_MIB_MAX=160
unset "${!AWS_@}" || true
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=testtest AWS_EC2_METADATA_DISABLED=true

# ---- services ----

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

install_moto() {
  [ -x "$VENV/bin/moto_server" ] && return
  rm -rf "$VENV"
  python3 -m venv "$VENV" && "$VENV/bin/pip" install -q --disable-pip-version-check 'moto[server]==5.2.*'
}

# Waits until something listens at a port of this machine.
listens() {
  local n
  for n in $(seq 300); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi
    sleep 0.1
  done
  return 1
}

start_moto() {
  install_moto >&2 || return 1
  local port
  port=$(free_port)
  "$VENV/bin/moto_server" -H 127.0.0.1 -p "$port" "$@" >"$SERVICES/moto.$port.log" 2>&1 &
  echo $! >"$SERVICES/moto.$port.pid"
  listens "$port" || return 1
  echo "127.0.0.1:$port"
}

# One monitor, one OSD in memory, one gateway; see the comments for what a gateway without authentication of its own needs.
start_rgw() {
  local program
  for program in ceph-mon ceph-osd radosgw radosgw-admin; do
    command -v "$program" >/dev/null || return 1
  done
  local at=$SERVICES/ceph port mon1 mon2
  port=$(free_port) mon1=$(free_port) mon2=$(free_port)
  mkdir -p "$at"/{run,log,mon/a,osd/0}
  export CEPH_CONF=$at/ceph.conf
  cat >"$CEPH_CONF" <<CONF
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon host = [v2:127.0.0.1:$mon1/0,v1:127.0.0.1:$mon2/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
# The gateway insists on encryption otherwise, which does not go without authentication.
ms mon client mode = crc
ms mon service mode = crc
ms mon cluster mode = crc
keyring = $at/keyring
run dir = $at/run
pid file = $at/run/\$name.pid
admin socket = $at/run/\$name.asok
log file = $at/log/\$name.log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data = $at/mon/\$id
osd data = $at/osd/\$id
osd objectstore = memstore
memstore device bytes = 4294967296
osd class load list = *
osd class default list = *
rgw frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
rgw enable apis = s3
CONF
  {
    ceph-authtool --create-keyring "$at/keyring" --gen-key -n mon. --cap mon 'allow *'
    ceph-authtool "$at/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
    monmaptool --create --clobber --addv a "[v2:127.0.0.1:$mon1,v1:127.0.0.1:$mon2]" --fsid "$(sed -n 's/^fsid = //p' "$CEPH_CONF")" "$at/monmap"
    ceph-mon --mkfs -i a --monmap "$at/monmap" --keyring "$at/keyring"
    ceph-mon -i a
    local osd
    osd=$(cat /proc/sys/kernel/random/uuid)
    ceph osd new "$osd" 0
    ceph-osd -i 0 --mkfs --osd-uuid "$osd"
    ceph-osd -i 0
    radosgw -n client.admin
    listens "$port"
    radosgw-admin user create --uid=test --display-name=test --access-key=test --secret-key=testtest
    radosgw-admin user create --uid=host --display-name=host --access-key=host --secret-key=hosthost
  } >"$at/log/start" 2>&1 || return 1
  echo "127.0.0.1:$port"
}

stop_services() {
  local rc=$? pids
  pids=$(cat "$SERVICES"/*.pid "$SERVICES"/ceph/run/*.pid 2>/dev/null || true)
  # An OSD in memory takes long to end by itself, and nothing of it is needed.
  [ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
  rm -rf "$SERVICES"
  exit $rc
}

# ---- what cases share ----

py() {
  "$VENV/bin/python" - "$@"
}

# A new bucket, and the address of an empty prefix in it. Options as of boto3's create_bucket.
new_bucket() {
  BUCKET=b-$RANDOM$RANDOM
  py "http://$S3_HOST" "$BUCKET" "$@" <<'PY'
import boto3, sys
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
s3.create_bucket(Bucket=sys.argv[2], **({"ObjectLockEnabledForBucket": True} if "locked" in sys.argv[3:] else {}))
if "versioned" in sys.argv[3:]:
    s3.put_bucket_versioning(Bucket=sys.argv[2], VersioningConfiguration={"Status": "Enabled"})
PY
  R=s3:http://$S3_HOST/$BUCKET/some/prefix
}

accept() {
  [ -x "$ACCEPTANCE/$1" ] || skip "there are no acceptance programs beside this directory"
  [ -x "$VENV/bin/python" ] || skip "needs the Python of moto"
  new_bucket
  mkdir "$WORK/bin"
  printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$VENV/bin/python" "$ROOT/tests/in-bucket.py" >"$WORK/bin/backstay"
  chmod +x "$WORK/bin/backstay"
  (cd "$ROOT" && IN_BUCKET=$R IN_BUCKET_RUNS=$BACKSTAY BACKSTAY=$WORK/bin/backstay "$ACCEPTANCE/$1")
}

# ---- cases: each runs on every service ----

case_the_store_does_what_every_store_must() {
  new_bucket
  (cd "$ROOT" && BACKSTAY_TEST_S3=$R cargo test -q --locked -p store --test s3_service -- --ignored)
}

case_a_difficult_tree_comes_back_exactly() {
  need_root
  need_program rsync setfacl setfattr
  accept files-roundtrip.sh
}

case_damage_in_a_bucket_is_found_and_never_restored() {
  TRIES=${TRIES:-16} accept files-corruption.sh
}

case_kills_at_any_moment_lose_nothing() {
  IN_BUCKET_CARRY=no ROUNDS=${ROUNDS:-12} accept files-crash.sh
}

case_a_bucket_without_a_repository_and_no_bucket_are_told_apart_from_failures() {
  new_bucket
  expect 10 snapshots -r "$R"
  told_in_one_line
  expect 10 snapshots -r "s3:http://$S3_HOST/no-such-bucket/x"
  expect 21 init -r "s3:http://$S3_HOST/no-such-bucket/x"
  told_in_one_line
  # Nobody listens there, and somebody asks to stop.
  "$BACKSTAY" snapshots -r "s3:http://127.0.0.1:9/$BUCKET/x" >"$WORK/out" 2>"$WORK/err" &
  local pid=$! rc=0
  sleep 1
  kill -TERM $pid
  wait $pid || rc=$?
  [ $rc = 21 ] || [ $rc = 143 ] || fail "exit $rc when asked to stop waiting"
  bs init -r "$R"
  expect 1 init -r "$R"
  # Other things in a bucket keep a repository out, but for those behind another prefix.
  expect 21 init -r "s3:http://$S3_HOST/$BUCKET"
  bs init -r "s3:http://$S3_HOST/$BUCKET/another"
}

case_credentials_come_as_the_aws_tools_have_them_and_are_told_to_nobody() {
  new_bucket
  noise "$S" 5 9000 1
  bs init -r "$R"
  mkdir "$WORK/aws"
  printf '[default]\naws_access_key_id = nobody\naws_secret_access_key = nothing-at-all\n[ours]\naws_access_key_id = test\naws_secret_access_key = testtest\n' >"$WORK/aws/credentials"
  unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
  export AWS_SHARED_CREDENTIALS_FILE=$WORK/aws/credentials AWS_CONFIG_FILE=$WORK/aws/none
  AWS_PROFILE=ours bs backup -r "$R" "$S"
  AWS_PROFILE=ours bs snapshots -r "$R"
  if [ "$S3_SERVICE" = rgw ]; then # moto lets everybody in
    expect 21 snapshots -r "$R"
    told_in_one_line
    ! grep -q "nothing-at-all" "$WORK/err" "$WORK/out" || fail "a secret in a message"
    AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=wrong-secret expect 21 snapshots -r "$R"
    ! grep -q "wrong-secret" "$WORK/err" "$WORK/out" || fail "a secret in a message"
  fi
  expect 2 snapshots -r "s3://test:testtest@$S3_HOST/$BUCKET/x"
  ! grep -q "testtest" "$WORK/err" || fail "a secret in a message"
}

case_what_was_seen_is_remembered_and_a_bucket_set_back_is_an_alarm() {
  new_bucket
  noise "$S" 5 9000 1
  bs init -r "$R"
  bs backup -r "$R" "$S"
  py "http://$S3_HOST" "$BUCKET" "$WORK/old" save <"$ROOT/tests/bucket.py"
  bs backup -r "$R" "$S"
  py "http://$S3_HOST" "$BUCKET" "$WORK/old" load <"$ROOT/tests/bucket.py"
  expect 1 snapshots -r "$R"
  grep -q "history" "$WORK/err" || fail "not told as lost history: $(cat "$WORK/err")"
  BACKSTAY_STATE_DIR=$WORK/other bs snapshots -r "$R"
}

case_the_cache_is_only_a_cache() {
  new_bucket
  noise "$S" 40 90000 1
  bs init -r "$R"
  bs backup -r "$R" "$S"
  bs backup -r "$R" "$S"
  local kept
  kept=$(find "$BACKSTAY_CACHE_DIR/objects" -path '*/index/*' -type f | wc -l)
  [ "$kept" -gt 0 ] || fail "no index table is kept"
  # Damaged, cut off, gone: nobody notices.
  find "$BACKSTAY_CACHE_DIR/objects" -path '*/index/*' -type f -exec sh -c 'printf x | dd of="$1" bs=1 seek=700 conv=notrunc status=none' _ {} \;
  find "$BACKSTAY_CACHE_DIR/objects" -path '*/heads/*' -type f -exec truncate -s 3 {} +
  restores_to latest
  rm -rf "$BACKSTAY_CACHE_DIR/objects"
  restores_to latest
  # What the bucket has lost is lost, whatever is kept here.
  py "http://$S3_HOST" "$BUCKET" heads/ drop <"$ROOT/tests/bucket.py"
  expect 1 verify -r "$R"
  grep -q "lost history" "$WORK/err" || fail "not told as lost history: $(cat "$WORK/err")"
  BACKSTAY_STATE_DIR=$WORK/other expect 4 verify -r "$R"
}

case_verify_reads_the_bucket_and_not_the_cache() {
  new_bucket
  noise "$S" 40 90000 1
  bs init -r "$R"
  bs backup -r "$R" "$S"
  sound
  py "http://$S3_HOST" "$BUCKET" index/ damage <"$ROOT/tests/bucket.py"
  restores_to latest
  expect 4 verify -r "$R" --read-data
}

case_copies_go_into_buckets_and_out_of_them() {
  new_bucket
  noise "$S" 60 90000 1
  local bucket=$R
  bs init -r "$WORK/first"
  bs backup -r "$WORK/first" "$S"
  bs copy -r "$WORK/first" --to "$bucket"
  bs copy -r "$bucket" --to "$WORK/third"
  R=$bucket restores_to latest
  R=$WORK/third restores_to latest
  bs forget -r "$bucket" --keep-last 1 --prune
  sound "$bucket"
}

case_old_data_goes_and_the_rest_stays_whole() {
  new_bucket
  bs init -r "$R" --pack-size 64K
  local n
  for n in 1 2 3; do
    rm -rf "$S"/*
    noise "$S" 150 90000 $n
    bs backup -r "$R" "$S"
  done
  bs forget -r "$R" --keep-last 1 --prune --json
  restores_to latest
  sound
  local left
  left=$(py "http://$S3_HOST" "$BUCKET" packs/ count <"$ROOT/tests/bucket.py")
  [ "$left" -lt 200 ] || fail "$left packs are left of one snapshot of three"
}

case_what_was_deleted_or_replaced_is_read_as_it_was() {
  new_bucket versioned
  noise "$S" 30 90000 1
  bs init -r "$R"
  bs backup -r "$R" "$S"
  cp -a "$S" "$WORK/then"
  local ids then
  ids=$(snapshot_ids)
  sleep 1.1 # services count whole seconds
  then=$(date -u +%FT%TZ)
  sleep 1.1
  noise "$S" 30 90000 2
  bs backup -r "$R" "$S"
  bs forget -r "$R" --keep-last 1 --prune
  # Whoever holds credentials that may write puts delete markers over everything, and rubbish over some.
  py "http://$S3_HOST" "$BUCKET" heads/ damage <"$ROOT/tests/bucket.py"
  py "http://$S3_HOST" "$BUCKET" prefix/ drop <"$ROOT/tests/bucket.py"
  expect 10 snapshots -r "$R"
  [ "$("$BACKSTAY" snapshots -r "$R" --as-of "$then" --json | "$PYTHON" -c 'import json,sys; print(*(s["id"] for s in json.load(sys.stdin)))')" = "$ids" ] ||
    fail "not the snapshots of then"
  bs ls -r "$R" --as-of "$then" latest
  bs verify -r "$R" --as-of "$then" --read-data
  bs restore -r "$R" --as-of "$then" latest --target "$WORK/o"
  same "$WORK/then" "$WORK/o$S"
  # Out of the past into a place of its own.
  bs copy -r "$R" --as-of "$then" --to "$WORK/rescued"
  sound "$WORK/rescued"
  expect 2 backup -r "$R" --as-of "$then" "$S"
  expect 2 snapshots -r "$WORK/rescued" --as-of "$then"
  expect 10 snapshots -r "$R" --as-of 2001-01-01
}

case_what_the_bucket_locks_survives_whoever_may_delete() {
  [ "$S3_SERVICE" = rgw ] || skip "moto answers 500 to writes under a default retention"
  new_bucket locked
  py "http://$S3_HOST" "$BUCKET" <<'PY'
import boto3, sys
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
s3.put_object_lock_configuration(Bucket=sys.argv[2], ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule})
PY
  noise "$S" 30 90000 1
  bs init -r "$R"
  grep -q "overwrites although asked not to" "$WORK/err" || fail "not told that conditions are ignored"
  bs backup -r "$R" "$S"
  cp -a "$S" "$WORK/then"
  sleep 1.1 # services count whole seconds
  local then
  then=$(date -u +%FT%TZ)
  sleep 1.1
  rm -rf "$S"/*
  noise "$S" 30 90000 2
  bs backup -r "$R" "$S"
  bs forget -r "$R" --keep-last 1 --prune
  sound
  # Every version and every marker, by somebody with all rights in the bucket.
  py "http://$S3_HOST" "$BUCKET" <<'PY'
import boto3, sys
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
refused = 0
for page in s3.get_paginator("list_object_versions").paginate(Bucket=sys.argv[2]):
    for version in page.get("Versions", []):
        try:
            s3.delete_object(Bucket=sys.argv[2], Key=version["Key"], VersionId=version["VersionId"])
        except s3.exceptions.ClientError:
            refused += 1
        s3.delete_object(Bucket=sys.argv[2], Key=version["Key"])
assert refused, "no lock held"
PY
  expect 10 snapshots -r "$R"
  bs verify -r "$R" --as-of "$then" --read-data
  bs restore -r "$R" --as-of "$then" latest --target "$WORK/o"
  same "$WORK/then" "$WORK/o$S"
}

# How many objects below a part of the prefix are locked for at least so many days; and how many are not, with any second word.
locked_for() {
  py "http://$S3_HOST" "$BUCKET" "$@" <<'PY'
import boto3, datetime, sys
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=float(sys.argv[4]))
pages = s3.get_paginator("list_objects_v2").paginate(Bucket=sys.argv[2], Prefix="some/prefix/" + sys.argv[3])
ends = [s3.head_object(Bucket=sys.argv[2], Key=o["Key"]).get("ObjectLockRetainUntilDate") for p in pages for o in p.get("Contents", [])]
held = sum(e is not None and e >= end for e in ends)
print(held if len(sys.argv) == 5 else len(ends) - held)
PY
}

case_what_a_snapshot_needs_is_locked_by_us_and_extended_by_prune() {
  new_bucket
  expect 21 init -r "$R" --lock-days 10
  told_in_one_line
  grep -q "no object lock" "$WORK/err" || fail "not told that the bucket has no object lock: $(cat "$WORK/err")"
  expect 10 snapshots -r "$R"
  new_bucket locked
  noise "$S" 30 90000 1
  bs init -r "$R" --lock-days 10 --pack-size 256K
  bs backup -r "$R" "$S"
  local shelf
  for shelf in packs/ index/ heads/ runs/ keys/ backstay.json RECOVERY.txt; do
    [ "$(locked_for $shelf 9.9)" -gt 0 ] || fail "nothing of $shelf is locked for ten days"
    [ "$(locked_for $shelf 9.9 not)" = 0 ] || fail "something of $shelf is not locked for ten days"
  done
  [ "$(locked_for intents/ 0)" = 0 ] || fail "announcements are locked"
  # A second snapshot that goes again, and a prune that cannot get rid of it yet.
  rm -rf "$S"/*
  noise "$S" 30 90000 2
  bs backup -r "$R" "$S"
  bs forget -r "$R" --keep-last 1 --prune
  grep -q "until its lock has run out" "$WORK/out" || fail "not told that what was deleted is still locked: $(cat "$WORK/out")"
  sound
  # What was written with too short a lock, or by somebody with none, is noticed and locked; what is locked long enough is
  # not touched, and is not even asked for twice.
  py "http://$S3_HOST" "$BUCKET" <<'PY'
import boto3, sys
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
for page in s3.get_paginator("list_objects_v2").paginate(Bucket=sys.argv[2], Prefix="some/prefix/packs/"):
    for o in page["Contents"]:
        body = s3.get_object(Bucket=sys.argv[2], Key=o["Key"])["Body"].read()
        s3.put_object(Bucket=sys.argv[2], Key=o["Key"], Body=body)
PY
  local unlocked
  unlocked=$(locked_for packs/ 9.9 not)
  [ "$unlocked" -gt 0 ] || fail "no pack is without a lock"
  rm -rf "$BACKSTAY_CACHE_DIR/objects"
  bs prune -r "$R" --json
  [ "$(summary_of locks_extended)" = "$unlocked" ] || fail "$(summary_of locks_extended) locks were extended, and $unlocked were to be"
  [ "$(locked_for packs/ 9.9 not)" = 0 ] || fail "a pack is still not locked"
  bs prune -r "$R" --json
  [ "$(summary_of locks_extended)" = 0 ] || fail "locks were extended twice"
  # With all rights there are, versions of what is needed stay.
  py "http://$S3_HOST" "$BUCKET" <<'PY'
import boto3, sys
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
for page in s3.get_paginator("list_object_versions").paginate(Bucket=sys.argv[2], Prefix="some/prefix/packs/"):
    for version in page.get("Versions", []):
        if version["IsLatest"]:
            try:
                s3.delete_object(Bucket=sys.argv[2], Key=version["Key"], VersionId=version["VersionId"])
            except s3.exceptions.ClientError:
                continue
            raise SystemExit("a pack that is needed could be deleted")
PY
  sound
  restores_to latest
  # A copy on a disk, where nothing can be locked, is a copy: for us, for who prunes it, and for the reader that is not ours.
  bs copy -r "$R" --to "$WORK/copy"
  R=$WORK/copy restores_to latest
  bs backup -r "$WORK/copy" "$S"
  bs prune -r "$WORK/copy"
  if "$PYTHON" -c 'import pyrage, zstandard, blake3, cryptography' 2>/dev/null; then
    "$PYTHON" "$ROOT/docs/reader/restore.py" "$WORK/copy" --key-file "$BACKSTAY_KEY_FILE" --target "$WORK/read" >"$WORK/out" 2>"$WORK/err" ||
      fail "the independent reader: $(cat "$WORK/err")"
    same "$S" "$WORK/read$S"
  fi
}

# What doctor says of this: state by state.
doctor_on() {
  "$PYTHON" -c 'import json,sys; print(*(c["state"] for c in json.load(open(sys.argv[1]))["checks"] if c["name"] == sys.argv[2]))' \
    "$WORK/doctor" "$1"
}

doctor_says() {
  local rc=0 want=$1 pair
  shift
  timeout 120 "$BACKSTAY" doctor -r "$R" --json >"$WORK/doctor" 2>"$WORK/err" || rc=$?
  [ $rc = "$want" ] || fail "doctor ends with $rc: $(cat "$WORK/doctor" "$WORK/err")"
  for pair; do
    [ "$(doctor_on "${pair%=*}")" = "${pair#*=}" ] || fail "not $pair: $(cat "$WORK/doctor")"
  done
}

# Lifecycle rules, in the form of boto3.
set_rules() {
  py "http://$S3_HOST" "$BUCKET" "$1" <<'PY'
import boto3, json, sys
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
s3.put_bucket_lifecycle_configuration(Bucket=sys.argv[2], LifecycleConfiguration={"Rules": json.loads(sys.argv[3])})
PY
}

case_doctor_says_what_the_bucket_will_do() {
  new_bucket
  doctor_says 10 repository=problem versioning=warning conditional-writes=unknown
  bs init -r "$R"
  doctor_says 3 repository=ok clock=ok versioning=warning lifecycle=ok conditional-writes=ok key=ok history=ok locks=ok
  new_bucket versioned
  bs init -r "$R"
  doctor_says 3 versioning=ok lifecycle=warning
  set_rules '[{"ID":"old","Status":"Enabled","Filter":{"Prefix":""},"NoncurrentVersionExpiration":{"NoncurrentDays":30}}]'
  doctor_says 0 versioning=ok lifecycle=ok
  set_rules '[{"ID":"all","Status":"Enabled","Filter":{"Prefix":"some/"},"Expiration":{"Days":3}}]'
  doctor_says 4 "lifecycle=problem warning"
  set_rules '[{"ID":"others","Status":"Enabled","Filter":{"Prefix":"elsewhere/"},"Expiration":{"Days":3}}]'
  doctor_says 3 lifecycle=warning
  # A clock that is an hour off is named, whether or not the service still answers then.
  if command -v faketime >/dev/null; then
    local rc=0
    faketime -f -10m "$BACKSTAY" doctor -r "$R" --json >"$WORK/doctor" 2>"$WORK/err" || rc=$?
    [ "$(doctor_on clock)" = warning ] || fail "a clock ten minutes behind is no warning: exit $rc, $(cat "$WORK/doctor")"
  fi
  new_bucket locked
  bs init -r "$R" --lock-days 3
  doctor_says 3 locks=ok versioning=ok lifecycle=warning
  grep -q "locked for 3 days" "$WORK/doctor" || fail "the period is not told"
  if [ "$S3_SERVICE" = rgw ]; then # moto lets everybody in
    allow_host s3:ListBucket s3:GetObject
    AWS_ACCESS_KEY_ID=host AWS_SECRET_ACCESS_KEY=hosthost doctor_says 0 repository=ok versioning=unknown lifecycle=unknown conditional-writes=unknown
    AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=wrong doctor_says 21 repository=problem
  fi
  R=s3:http://127.0.0.1:9/$BUCKET/x
  timeout 200 "$BACKSTAY" doctor -r "$R" --json >"$WORK/doctor" 2>"$WORK/err" && fail "nobody listens there"
  [ "$(doctor_on repository)" = problem ] || fail "not told that nobody answers"
}

# What a host may do in the bucket: a list of rights.
allow_host() {
  py "http://$S3_HOST" "$BUCKET" "$@" <<'PY'
import boto3, json, sys
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
at = "arn:aws:s3:::" + sys.argv[2]
allow = {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/host"]}, "Action": sys.argv[3:], "Resource": [at, at + "/*"]}
s3.put_bucket_policy(Bucket=sys.argv[2], Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
PY
}

case_each_role_works_with_the_rights_that_operations_names_and_no_more() {
  [ "$S3_SERVICE" = rgw ] || skip "moto lets everybody in"
  new_bucket versioned
  noise "$S" 30 90000 1
  bs init -r "$R"
  local then
  allow_host s3:ListBucket s3:GetObject s3:PutObject
  AWS_ACCESS_KEY_ID=host AWS_SECRET_ACCESS_KEY=hosthost bs backup -r "$R" "$S"
  AWS_ACCESS_KEY_ID=host AWS_SECRET_ACCESS_KEY=hosthost bs backup -r "$R" "$S"
  AWS_ACCESS_KEY_ID=host AWS_SECRET_ACCESS_KEY=hosthost expect 21 forget -r "$R" --keep-last 1 --prune
  told_in_one_line
  sleep 1.1
  then=$(date -u +%FT%TZ)
  sleep 1.1
  allow_host s3:ListBucket s3:GetObject
  AWS_ACCESS_KEY_ID=host AWS_SECRET_ACCESS_KEY=hosthost bs restore -r "$R" latest --target "$WORK/o"
  same "$S" "$WORK/o$S"
  AWS_ACCESS_KEY_ID=host AWS_SECRET_ACCESS_KEY=hosthost expect 21 backup -r "$R" "$S"
  allow_host s3:ListBucket s3:GetObject s3:PutObject s3:DeleteObject
  AWS_ACCESS_KEY_ID=host AWS_SECRET_ACCESS_KEY=hosthost bs forget -r "$R" --keep-last 1 --prune
  allow_host s3:ListBucketVersions s3:GetObject s3:GetObjectVersion
  AWS_ACCESS_KEY_ID=host AWS_SECRET_ACCESS_KEY=hosthost bs verify -r "$R" --as-of "$then" --read-data
}

case_memory_stays_bounded() {
  new_bucket
  local n peak
  for n in 1 2 3 4; do head -c 120M /dev/urandom >"$S/f$n"; done
  bs init -r "$R"
  for n in backup restore verify; do
    case $n in
      backup) set -- backup -r "$R" "$S" ;;
      restore) set -- restore -r "$R" latest --target "$WORK/o" ;;
      verify) set -- verify -r "$R" --read-data ;;
    esac
    peak=$(peak_mib "$BACKSTAY" "$@") || fail "$n failed"
    echo "measured: $n of 480 MiB in a bucket: peak of $peak MiB"
    [ "$peak" -le "$MEMORY_MIB_MAX" ] || fail "$n took $peak MiB"
  done
  same "$S" "$WORK/o$S"
}

case_tls_by_certificates_of_the_system() {
  [ "$S3_SERVICE" = moto ] || skip "once is enough"
  need_program openssl
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -addext basicConstraints=critical,CA:false -keyout "$WORK/tls.key" -out "$WORK/tls.crt" 2>/dev/null
  SERVICES=$WORK
  local host plain=$S3_HOST
  host=$(start_moto -c "$WORK/tls.crt" -k "$WORK/tls.key") || fail "no service with TLS"
  local address=s3://localhost:${host#*:}/tls-bucket/x
  # Through the same program without TLS, which has the buckets of its own process only.
  SSL_CERT_FILE=$WORK/tls.crt py "https://localhost:${host#*:}" "$WORK/tls.crt" <<'PY'
import boto3, sys
boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1", verify=sys.argv[2]).create_bucket(Bucket="tls-bucket")
PY
  noise "$S" 5 90000 1
  SSL_CERT_FILE=$WORK/tls.crt bs init -r "$address"
  SSL_CERT_FILE=$WORK/tls.crt bs backup -r "$address" "$S"
  SSL_CERT_FILE=$WORK/tls.crt bs verify -r "$address" --read-data
  [ -n "$plain" ] || fail "no other service"
  # Nobody vouches for that certificate otherwise.
  timeout 120 "$BACKSTAY" snapshots -r "$address" >"$WORK/out" 2>"$WORK/err" && fail "a certificate of nobody was believed"
  kill -9 "$(cat "$WORK"/moto.*.pid)"
}

# ---- both services ----

# A service alone, for measurements: tests/s3.sh --serve rgw
if [ "${1:-}" = --serve ]; then
  SERVICES=$(mktemp -d)
  trap stop_services EXIT
  trap 'exit 143' HUP INT TERM
  S3_HOST=$("start_$2") || fail "$2 cannot be started here"
  echo "http://$S3_HOST, with the key $AWS_ACCESS_KEY_ID and the secret $AWS_SECRET_ACCESS_KEY, until somebody interrupts this"
  while sleep 1; do :; done
fi

if [ "${1:-}" = --one ]; then
  run_cases "$@"
  exit
fi
SERVICES=$(mktemp -d)
trap stop_services EXIT
trap 'exit 143' HUP INT TERM
total_passed=0 total_failed=0 total_skipped=0
for S3_SERVICE in moto rgw; do
  export S3_SERVICE
  if ! S3_HOST=$("start_$S3_SERVICE"); then
    echo "skipped  $S3_SERVICE: cannot be started here"
    total_skipped=$((total_skipped + 1))
    continue
  fi
  export S3_HOST
  echo "on $S3_SERVICE"
  run_cases "$@" >"$SERVICES/told" 2>&1 || true
  sed '$d' "$SERVICES/told"
  read -r p _ f _ s _ < <(tail -n 1 "$SERVICES/told" | tr -d ,)
  total_passed=$((total_passed + p)) total_failed=$((total_failed + f)) total_skipped=$((total_skipped + s))
done
echo "$total_passed passed, $total_failed failed, $total_skipped skipped"
[ $total_failed = 0 ]
