#!/usr/bin/env bash
# Several machines and one repository, again and again: two back up while a third forgets and prunes. And places that are no
# disks of this machine. A machine here is a host name, a machine id, a process table, a network and a state of its own
# (namespaces), so that none of them can tell whether another's processes live.
#
# ROUNDS says how often. Needs root, unshare; bindfs for one, a kernel with NFS for another.
. "$(dirname "$0")/../lib.sh"

# The program on a machine of that name.
on() {
  local name=$1
  shift
  mkdir -p "$WORK/$name"
  [ -e "$WORK/$name/machine-id" ] || echo "$name" | b2sum -l 128 | cut -c 1-32 >"$WORK/$name/machine-id"
  BACKSTAY_CACHE_DIR=$WORK/$name/cache BACKSTAY_STATE_DIR=$WORK/$name/state unshare --uts --net --pid --mount --fork --mount-proc \
    sh -c 'hostname "$1" && mount --bind "$2" /etc/machine-id && shift 2 && exec "$@"' sh "$name" "$WORK/$name/machine-id" "$BACKSTAY" "$@"
}

case_two_hosts_write_while_a_third_prunes() {
  need_root
  [ -e /etc/machine-id ] || skip "needs /etc/machine-id"
  unshare --uts --net --pid --mount --fork --mount-proc true 2>/dev/null || skip "cannot make namespaces"
  bs init -r "$R"
  local n who a b c rc
  mkdir "$S/one" "$S/two"
  for n in $(seq "${ROUNDS:-12}"); do
    # What was thrown away comes back, so that a backup meets chunks that are being condemned.
    for who in one two; do noise "$S/$who/d$((n % 3))" 12 120000 "$((n % 5))"; done
    on one backup -r "$R" "$S/one" >"$WORK/out.a" 2>&1 &
    a=$!
    on two backup -r "$R" "$S/two" >"$WORK/out.b" 2>&1 &
    b=$!
    on three forget -r "$R" --keep-last 2 --prune --max-unused 0 >"$WORK/out.c" 2>&1 &
    c=$!
    for who in $a $b $c; do
      rc=0
      wait "$who" || rc=$?
      [ $rc = 0 ] || { cat "$WORK"/out.[abc]; fail "round $n: one of three failed with $rc"; }
    done
    for who in one two; do
      on three restore -r "$R" latest --host "$who" --target "$WORK/o" >"$WORK/out" 2>&1 || { cat "$WORK/out"; fail "round $n: $who does not restore"; }
      same "$S/$who" "$WORK/o$S/$who"
      rm -rf "$WORK/o"
    done
  done
  sound
  on three prune -r "$R" --max-unused 0 >"$WORK/out" 2>&1 || { cat "$WORK/out"; fail "the last prune failed"; }
  sound
  echo "measured: ${ROUNDS:-12} rounds of two backups beside a prune"
}

# A host that dies at work elsewhere is waited for, and what it was doing harms nothing.
case_a_host_that_dies_is_waited_for_by_the_others() {
  need_root
  unshare --uts --net --pid --mount --fork --mount-proc true 2>/dev/null || skip "cannot make namespaces"
  bs init -r "$R"
  noise "$S" 20 90000 1
  on one backup -r "$R" "$S" >"$WORK/out" 2>&1 || fail "backup"
  local n pid
  for n in 1 2 3 4; do
    noise "$S/n$n" 40 400000 $((n + 1))
    on one backup -r "$R" "$S" >/dev/null 2>&1 &
    pid=$!
    sleep "0.$((n * 4))"
    # The first process of a machine takes all others of it along.
    kill -9 "$(cat /proc/$pid/task/$pid/children 2>/dev/null || echo $pid)" 2>/dev/null || true
    wait $pid 2>/dev/null || true
    on three forget -r "$R" --keep-last 1 --prune --max-unused 0 >"$WORK/out" 2>&1 || { cat "$WORK/out"; fail "a prune beside a dead host failed"; }
    sound
  done
  on two backup -r "$R" "$S" >"$WORK/out" 2>&1 || fail "backup after it"
  restores_to latest
}

network_place_is_refused() {
  expect 21 init -r "$1/repo"
  told_in_one_line
  grep -q 'network file system' "$WORK/err" || { cat "$WORK/err"; fail "refused for another reason"; }
  [ -z "$(ls -A "$1")" ] || fail "something was left where init refused: $(ls -A "$1")"
  bs init -r "$1/repo" --allow-network-filesystem
  grep -q '^warning: .*network file system' "$WORK/err" "$WORK/out" || { cat "$WORK/out" "$WORK/err"; fail "no warning of the network"; }
  R=$1/repo
  noise "$S" 5 9000 1
  bs backup -r "$R" "$S"
  restores_to latest
  sound
}

case_a_place_behind_another_program_is_refused_unless_it_is_wanted() {
  need_root
  need_program bindfs
  mkdir "$WORK/behind" "$WORK/mnt"
  bindfs --multithreaded --enable-lock-forwarding "$WORK/behind" "$WORK/mnt" || skip "cannot mount with FUSE"
  network_place_is_refused "$WORK/mnt"
}

case_an_nfs_mount_is_refused_unless_it_is_wanted() {
  need_root
  grep -qw nfs /proc/filesystems || grep -qw nfs4 /proc/filesystems || skip "this kernel has no NFS"
  need_program exportfs rpc.nfsd mount.nfs
  mkdir "$WORK/exported" "$WORK/mnt"
  exportfs -o rw,no_root_squash,insecure,fsid=4711 "127.0.0.1:$WORK/exported" && rpc.nfsd 2 && rpc.mountd || skip "cannot start an NFS server"
  mount -t nfs -o nolock "127.0.0.1:$WORK/exported" "$WORK/mnt" || skip "cannot mount NFS"
  network_place_is_refused "$WORK/mnt"
}

run_cases "$@"
