#!/usr/bin/env python3
"""The program is killed at, and given an error by, every system call of a small init, backup, forget with prune, copy and
restore that touches its files; what must hold afterwards is checked each time (`Ground.recovers`).

Usage: calls.py [--all | --sample N] [--seed N] [VERB…] [FAULT…]. Without --all, N points of each verb and fault, drawn by the
seed. VERB: init backup prune copy restore. FAULT: kill torn ENOSPC EIO EDQUOT EROFS short.

Needs: x86-64 Linux.
"""
import errno, os, platform, random, re, signal, sys

import inject
from ground import Ground, Tally, clone, contents, need, workplace

ERRORS = {name: getattr(errno, name) for name in ("ENOSPC", "EIO", "EDQUOT", "EROFS")}
# Errors that calls of these names can meet; the others would be no fault but an impossible kernel.
WRITES = {"write", "pwrite64", "ftruncate", "fallocate", "mkdirat", "mkdir", "renameat2", "renameat", "rename", "linkat", "link", "symlinkat"}
MEETS = {
    "ENOSPC": WRITES | {"fsync", "openat"},
    "EDQUOT": WRITES | {"fsync", "openat"},
    "EIO": inject.CHANGING | {"read", "pread64", "getdents64", "openat"} - {"flock"},
    "EROFS": WRITES - {"write", "pwrite64"} | {"unlinkat", "unlink", "fchmod", "openat", "utimensat"},
    "short": {"write", "pwrite64"},
    "kill": inject.CHANGING | {"openat"},
    "torn": {"write", "pwrite64"},
}
VERBS = ("init", "backup", "prune", "copy", "restore")


class Scene:
    """One verb from one beginning, repeated for each point."""

    def __init__(self, base, verb):
        self.base, self.verb = base, verb
        self.place = os.path.join(base, "place")
        self.ground = Ground(os.path.join(self.place, "g"))
        os.makedirs(self.place)
        if verb == "init":
            os.makedirs(self.ground.where)
            self.ground.write("a/f", 1, 30_000)
            self.known = {}
        else:
            self.ground.make()
            self.known = {id: self.ground.tree(id) for id in self.ground.snapshots()}
        if verb == "prune":
            # The first snapshot goes; it shares half with the second.
            self.goes = self.ground.snapshots()[0]
        self.good = os.path.join(base, "good")
        clone(self.place, self.good)

    def args(self):
        g = self.ground
        return {
            "init": ["init", "-r", g.repo, "--generate-key", g.key + ".new"],
            "backup": ["backup", "-r", g.repo, g.src],
            "prune": ["forget", "-r", g.repo, "--keep-last", "1", "--prune", "--max-unused", "0"],
            "copy": ["copy", "-r", g.repo, "--to", g.copy],
            "restore": ["restore", "-r", g.repo, "latest", "--target", os.path.join(g.where, "o")],
        }[self.verb]

    def points(self, fault):
        """Every call that the fault can meet, by number."""
        clone(self.good, self.place)
        seen = []
        said, _ = self.ground.under_fault(self.args(), lambda n, call: seen.append((n, str(call))), MEETS[fault])
        said.ended(0)
        return len(seen)

    def run(self, fault, at):
        """The verb with the fault at the call of this number; what it said and which call that was."""
        clone(self.good, self.place)
        met, count = [], [0]

        def meet(_, call):
            if met and fault == "torn":
                raise inject.Kill
            if call.name not in MEETS[fault]:
                return
            count[0] += 1
            if count[0] != at:
                return
            met.append(str(call).replace(self.place, ""))
            if fault == "kill":
                raise inject.Kill
            if fault in ("short", "torn"):
                call.halve()
            else:
                call.fail(ERRORS[fault])

        # One that dies with half a write done dies at whatever it does next.
        said, _ = self.ground.under_fault(self.args(), meet, MEETS[fault] | (inject.CHANGING if fault == "torn" else set()))
        return said, met[0] if met else None

    def check(self, fault, at):
        said, call = self.run(fault, at)
        if call is None:
            # Threads take turns differently each time, and this run made fewer calls.
            return said.ended(0)
        try:
            self.judge(fault, said, call)
        except Exception as e:
            e.args = (f"{self.verb}: {fault} at call {at}, {call}\n{e}\nit ended with {said.code}: {said.err[:600]}",)
            raise

    def judge(self, fault, said, call):
        g = self.ground
        if fault == "kill" or (fault == "torn" and said.code != 0):
            need(said.code == -signal.SIGKILL, f"not killed but {said.code}")
        elif fault in ("short", "torn"):
            need(said.code == 0, "a short write is no error")
        else:
            need(said.code in (0, 3, 1, 20, 21), f"exit {said.code}")
            if said.code not in (0, 3):
                self.told(fault, said, call)
        finished = said.code in (0, 3)
        getattr(self, "after_" + self.verb)(finished, said)

    def told(self, fault, said, call):
        """A failure in the repository or the target is one line with its reason, and the code that says where."""
        if self.verb != "restore" or said.code != 1:
            said.told_in_one_line()
        name, path = call.split(" ", 1)
        reading = name in ("read", "pread64", "getdents64") or (name == "openat" and fault == "EIO")
        if re.match(r"/g/(repo|copy)\b", path) and not reading:
            need(said.code == 21, f"exit {said.code} where data is to go cannot be written")
        need(os.strerror(ERRORS[fault]).lower() in said.err.lower() or "full" in said.err or "room" in said.err or "read-only" in said.err.lower(), "the reason is not told")

    # ---- what must hold after each verb ----

    def after_init(self, finished, said):
        g = self.ground
        if finished:
            os.replace(g.key + ".new", g.key)
        else:
            # It can be repeated, with another key, unless the repository was there already.
            again = g.run("init", "-r", g.repo, "--generate-key", g.key)
            if again.code != 0:
                again.ended(1)
                need(os.path.exists(g.key + ".new"), "the repository is there and its key is not")
                os.replace(g.key + ".new", g.key)
        made = g.snapshot()
        need(g.tree(made) == contents(g.src), "a backup after it does not restore")
        said = g.run("verify", "-r", g.repo, "--read-data")
        if said.code == 4:
            g.ok("verify", "-r", g.repo, "--repair", "--read-data")

    def after_backup(self, finished, said):
        g = self.ground
        before = len(self.known)
        there = g.snapshots()
        if finished and said.code == 0:
            need(len(there) == before + 1, "it said success, and there is no snapshot")
        g.recovers(self.known, partial=said.code == 3)

    def after_prune(self, finished, said):
        g = self.ground
        there = g.snapshots()
        if finished:
            need(self.goes not in there, "it said success, and nothing was forgotten")
        g.recovers({id: tree for id, tree in self.known.items() if id != self.goes or id in there})

    def after_copy(self, finished, said):
        g = self.ground
        if not finished:
            g.ok("copy", "-r", g.repo, "--to", g.copy, "--verify")
        for id, tree in self.known.items():
            need(g.tree(id, g.copy) == tree, f"snapshot {id[:8]} does not restore from the copy")
        g.ok("verify", "-r", g.copy, "--read-data")
        g.recovers(self.known, full=False)

    def after_restore(self, finished, said):
        g = self.ground
        wanted = list(self.known.values())[-1]
        got = contents(os.path.join(g.where, "o" + g.src))
        if said.code == 0:
            need(got == wanted, "it said success, and something is missing or wrong")
        for name, data in got.items():
            # One that was killed may leave the beginning of a file, and nothing wrong in it.
            begun = said.code == -signal.SIGKILL and wanted.get(name, b"").startswith(data)
            need(wanted.get(name) == data or begun or ".backstay-" in name, f"a wrong or half file was left: {name}")
        g.recovers(self.known, full=False)


def main():
    words = sys.argv[1:]
    whole = "--all" in words
    sample = int(words[words.index("--sample") + 1]) if "--sample" in words else 6
    seed = int(words[words.index("--seed") + 1]) if "--seed" in words else 1
    verbs = [w for w in words if w in VERBS] or VERBS
    faults = [w for w in words if w in MEETS] or list(MEETS)
    tally = Tally()
    if platform.machine() != "x86_64":
        tally.skip("system calls", "needs x86-64")
        tally.end()
    for verb in verbs:
        with workplace() as base:
            scene = Scene(base, verb)
            for fault in faults:
                points = list(range(1, scene.points(fault) + 1))
                if not whole:
                    points = sorted(random.Random(f"{seed} {verb} {fault}").sample(points, min(sample, len(points))))
                bad = sum(not tally.case(f"{verb} {fault} {n}", lambda: scene.check(fault, n)) for n in points)
                print(f"{'ok      ' if not bad else 'FAILED  '} {verb}: {fault} at {len(points)} calls, {bad} bad", flush=True)
    tally.end()


if __name__ == "__main__":
    main()
