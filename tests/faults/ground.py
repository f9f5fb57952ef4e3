"""A small repository, the program, and what must hold of them after a fault. Imported by the programs beside it."""
import contextlib, filecmp, json, os, random, shutil, subprocess, sys, tempfile

import inject

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.realpath(os.environ.get("BACKSTAY") or os.path.join(ROOT, "target/release/backstay"))
RUN_SECS_MAX = 120


class Broken(Exception):
    """Something that must hold does not."""


def need(holds, text):
    if not holds:
        raise Broken(text)


class Said:
    """How a run of the program ended, and what it said."""

    def __init__(self, args, code, out, err):
        self.args, self.code, self.out, self.err = args, code, out, err

    def ended(self, *codes):
        need(self.code in codes, f"exit {self.code}, wanted {codes}: backstay {' '.join(self.args)}\n{self.out[-1500:]}\n{self.err[-1500:]}")
        return self

    def told_in_one_line(self):
        errors = sum(line.startswith("error: ") for line in self.err.splitlines())
        helps = sum(line.startswith("help: ") for line in self.err.splitlines())
        need(errors == 1 and helps <= 1 and "panic" not in self.err, f"{errors} lines of error and {helps} of help: {self.err}")


class Ground:
    """A tree `src`, a repository `repo` with a key file that needs no passphrase, and a cache, all in one directory. The state
    that remembers heads lies outside of it: it must not know more than the repository after a power cut."""

    def __init__(self, where):
        self.where = where
        self.src, self.repo, self.copy = (os.path.join(where, name) for name in ("src", "repo", "copy"))
        self.state = os.path.join(os.path.dirname(where), "state")
        self.key = os.path.join(os.path.dirname(where), "key")

    def environment(self):
        return {"PATH": os.environ["PATH"], "HOME": self.where, "TZ": "UTC", "LC_ALL": "C.UTF-8", "BACKSTAY_KEY_FILE": self.key,
                "BACKSTAY_CACHE_DIR": os.path.join(self.where, "cache"), "BACKSTAY_STATE_DIR": self.state}

    def run(self, *args):
        done = subprocess.run([PROGRAM, *args], env=self.environment(), capture_output=True, stdin=subprocess.DEVNULL, timeout=RUN_SECS_MAX)
        return Said(args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def ok(self, *args):
        return self.run(*args).ended(0)

    def under_fault(self, args, at, names=inject.CHANGING, under=None):
        """Runs the program with `at` called before every system call that touches the ground; the number of them."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            status, count = inject.run([PROGRAM, *args], self.environment(), under or [self.where, self.state], at, out.fileno(), err.fileno(), names)
            code = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            return Said(args, code, out.read().decode(errors="replace"), err.read().decode(errors="replace")), count

    # ---- making it ----

    def write(self, name, seed, size):
        path = os.path.join(self.src, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(random.Random(seed).randbytes(size))

    def make(self):
        """Two snapshots, of which the first shares half with the second, and a tree that has changed since."""
        os.makedirs(self.where, exist_ok=True)
        self.ok("init", "-r", self.repo, "--generate-key", self.key, "--pack-size", "64K")
        for n in range(6):
            self.write(f"a/f{n}", n, 20_000)
        self.snapshot()
        for n in range(3):
            self.write(f"a/f{n}", 100 + n, 20_000)
        self.snapshot()
        self.write("b/new", 200, 70_000)
        self.write("a/f5", 201, 500)

    def snapshot(self):
        return json.loads(self.ok("backup", "-r", self.repo, "--json", self.src).out.splitlines()[-1])["snapshot_id"]

    def snapshots(self, repo=None):
        return [s["id"] for s in json.loads(self.ok("snapshots", "-r", repo or self.repo, "--json").out)]

    def tree(self, snapshot, repo=None):
        """What a snapshot restores to: paths and contents."""
        with tempfile.TemporaryDirectory(dir=os.path.dirname(self.where)) as target:
            self.ok("restore", "-r", repo or self.repo, snapshot, "--target", os.path.join(target, "o"))
            return contents(os.path.join(target, "o" + self.src))

    # ---- what must hold ----

    def recovers(self, known, full=True, partial=False):
        """Snapshots in `known` (id to tree) are there and restore exactly, every other one restores to the tree as it is (or to a
        part of it, where that is what was said), a new backup and a prune work, and then nothing is wrong and nothing half is
        left."""
        there = self.snapshots()
        now = contents(self.src)
        for snapshot in there:
            tree = self.tree(snapshot)
            part = partial and snapshot not in known and tree.items() <= now.items()
            need(part or tree == known.get(snapshot, now), f"snapshot {snapshot[:8]} restores to something else")
        missing = [snapshot for snapshot in known if snapshot not in there]
        need(not missing, f"snapshots are gone: {missing}")
        sound(self.ok("verify", "-r", self.repo, "--read-data"))
        if not full:
            return
        made = self.snapshot()
        self.ok("prune", "-r", self.repo, "--max-unused", "0")
        need(self.tree(made) == now, "a new backup does not restore")
        for snapshot, tree in known.items():
            need(self.tree(snapshot) == tree, f"snapshot {snapshot[:8]} does not survive the prune")
        sound(self.ok("verify", "-r", self.repo, "--read-data"))
        left = [os.path.join(at, f) for at, _, fs in os.walk(self.repo) for f in fs if os.path.basename(at) in ("tmp", "condemned")]
        need(not left, f"this is left after a prune: {left}")
        half = [os.path.join(at, f) for at, _, fs in os.walk(self.repo) for f in fs if not os.path.getsize(os.path.join(at, f))]
        need(not half, f"empty objects: {half}")


def sound(said):
    need("FAILED" not in said.out, said.out)


def contents(top):
    found = {}
    for at, _, files in os.walk(top):
        for name in files:
            path = os.path.join(at, name)
            with open(path, "rb") as f:
                found[os.path.relpath(path, top)] = f.read()
    return found


def clone(source, target):
    """The whole ground as it was: objects, cache, tree, state and key."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", source, target], check=True)


@contextlib.contextmanager
def workplace():
    base = tempfile.mkdtemp(prefix="faults.")
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)


class Tally:
    """Counts cases and prints the failures and the sum, as the other tests do."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def case(self, name, work):
        try:
            work()
            self.passed += 1
            return True
        except Broken as e:
            self.failed += 1
            if self.failed <= 20:
                print(f"FAILED   {name}\n    " + str(e).replace("\n", "\n    "), flush=True)
            return False

    def skip(self, name, why):
        self.skipped += 1
        print(f"skipped  {name}: {why}", flush=True)

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        sys.exit(1 if self.failed else 0)
