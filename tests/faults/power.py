#!/usr/bin/env python3
"""The power goes at every call that changes the disk, and the disk turns read-only or dies there, during a small backup,
forget with prune, and copy, on ext4 and xfs.

The repository lies on a file system in an image, behind a loop device that keeps nothing back (direct I/O). A power cut is a
copy of the image at that moment, by reflink and so of one instant, without unmounting: what had not reached the image by then is
not in it. The copy is mounted, which replays its journal, and judged as in `Ground.recovers`. What a disk with a cache of its
own may lose beyond that needs device-mapper (log-writes), and is not shown by this.

Usage: power.py [--all | --sample N] [--seed N] [FILE-SYSTEM…] [VERB…] [cut|error…]. Needs root, loop devices, ext4 and xfs.
"""
import os, platform, random, shutil, subprocess, sys, tempfile

import inject
from ground import Broken, Ground, Tally, need

# Blocks and sectors that a loop device with direct I/O can serve whatever it lies on.
MKFS = {"ext4": ["mkfs.ext4", "-q", "-b", "4096"], "xfs": ["mkfs.xfs", "-q", "-s", "size=4096"]}
# Two disks may not have one name: xfs refuses a second mount of the same.
OPTIONS = {"ext4": "errors=remount-ro", "xfs": "nouuid"}
VERBS = ("backup", "prune", "copy")
IMAGE_MIB = 320


def sh(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Disk:
    """An image on a file system that can copy it in an instant, and the file system in it."""

    def __init__(self, base, kind):
        self.base, self.kind, self.device = base, kind, None
        self.outer, self.at = os.path.join(base, "outer"), os.path.join(base, "m")
        os.makedirs(self.outer)
        os.makedirs(self.at)
        holder = os.path.join(base, "holder")
        with open(holder, "w") as f:
            f.truncate(8 << 30)
        sh(*MKFS["xfs"], "-m", "reflink=1", holder)
        sh("mount", "-o", "loop", holder, self.outer)
        self.image = os.path.join(self.outer, "image")
        with open(self.image, "w") as f:
            f.truncate(IMAGE_MIB << 20)
        sh(*MKFS[kind], self.image)

    def mount(self, image=None):
        self.device = sh("losetup", "--direct-io=on", "--show", "-f", image or self.image)
        sh("mount", "-o", OPTIONS[self.kind], self.device, self.at)

    def unmount(self):
        if self.device:
            subprocess.run(["umount", self.at], check=True)
            sh("losetup", "-d", self.device)
            self.device = None

    def copy(self, name):
        sh("cp", "--reflink=always", self.image, os.path.join(self.outer, name))

    def break_down(self):
        """From now on the file system takes nothing more."""
        if self.kind == "ext4":
            with open(f"/sys/fs/ext4/{os.path.basename(self.device)}/trigger_fs_error", "w") as f:
                f.write("a test wants it so")
        else:
            sh("xfs_io", "-x", "-c", "shutdown", self.at)

    def end(self):
        for at in (self.at, self.outer):
            subprocess.run(["umount", "-l", at], stderr=subprocess.DEVNULL)
        if self.device:
            subprocess.run(["losetup", "-d", self.device], stderr=subprocess.DEVNULL)


class Scene:
    """One verb on one kind of disk."""

    def __init__(self, disk, verb):
        self.disk, self.verb = disk, verb
        self.ground = Ground(os.path.join(disk.at, "g"))
        self.ground.state, self.ground.key = (os.path.join(disk.base, name) for name in ("state", "key"))
        disk.mount()
        self.ground.make()
        self.known = {id: self.ground.tree(id) for id in self.ground.snapshots()}
        self.goes = self.ground.snapshots()[0]
        disk.unmount()
        self.good = os.path.join(disk.outer, "good")
        os.rename(disk.image, self.good)
        shutil.copytree(self.ground.state, self.ground.state + ".good")

    def begin(self):
        sh("cp", "--reflink=always", self.good, self.disk.image)
        self.remember("good")
        self.disk.mount()

    def remember(self, name):
        shutil.rmtree(self.ground.state, ignore_errors=True)
        shutil.copytree(f"{self.ground.state}.{name}", self.ground.state)

    def args(self):
        g = self.ground
        return {
            "backup": ["backup", "-r", g.repo, g.src],
            "prune": ["forget", "-r", g.repo, "--keep-last", "1", "--prune", "--max-unused", "0"],
            "copy": ["copy", "-r", g.repo, "--to", g.copy],
        }[self.verb]

    def points(self):
        self.begin()
        said, count = self.ground.under_fault(self.args(), lambda n, call: None, under=[self.ground.where])
        said.ended(0)
        self.disk.unmount()
        return count

    def cut(self, points, flushes=True):
        """Runs the verb once, copies the disk before each of these calls and when it has ended, and yields what each copy is
        called and before which call it was made."""
        self.begin()
        calls = {}

        def at(n, call):
            if call.name == "fsync" and not flushes:
                call.pretend()
            if n in points:
                calls[n] = str(call)
                # First what is remembered: it may know less than the disk, and never more.
                shutil.copytree(self.ground.state, f"{self.ground.state}.{n}")
                self.disk.copy(f"cut.{n}")

        said, _ = self.ground.under_fault(self.args(), at, under=[self.ground.where])
        shutil.copytree(self.ground.state, f"{self.ground.state}.end")
        self.disk.copy("cut.end")
        said.ended(0)
        self.disk.unmount()
        for n in [*calls, "end"]:
            yield n, calls.get(n, "the end")

    def control(self):
        """A kernel that only pretends to flush loses what was reported as stored, and this sees it."""
        for n, call in self.cut([], flushes=False):
            try:
                self.judge_cut(n, call)
            except Exception:
                return
            raise Broken(f"{self.disk.kind}: flushes were left out, and nothing was lost: this shows nothing")

    def judge_cut(self, n, call):
        image = os.path.join(self.disk.outer, f"cut.{n}")
        self.remember(n)
        self.disk.mount(image)
        try:
            self.judge(finished=n == "end")
        except Exception as e:
            e.args = (f"{self.disk.kind} {self.verb}: power cut before call {n}, {call}\n{e}",)
            raise
        finally:
            self.disk.unmount()
            os.remove(image)
            shutil.rmtree(f"{self.ground.state}.{n}")

    def judge(self, finished):
        g = self.ground
        there = g.snapshots()
        if self.verb == "backup" and finished:
            need(len(there) == len(self.known) + 1, "success was reported, and the snapshot is gone with the power")
        if self.verb == "prune" and finished:
            need(self.goes not in there, "success was reported, and what was forgotten is back")
        if self.verb == "copy":
            if not finished:
                g.ok("copy", "-r", g.repo, "--to", g.copy, "--verify")
            for id, tree in self.known.items():
                need(g.tree(id, g.copy) == tree, "the copy does not restore")
            g.ok("verify", "-r", g.copy, "--read-data")
        g.recovers({id: tree for id, tree in self.known.items() if id in there or id != self.goes or self.verb != "prune"})

    def error(self, n):
        """The disk breaks down before call `n`."""
        self.begin()
        met = []

        def at(number, call):
            if number == n:
                met.append(str(call))
                self.disk.break_down()

        try:
            said, _ = self.ground.under_fault(self.args(), at, under=[self.ground.where])
            if met:
                need(said.code in (0, 21), f"exit {said.code}: {said.err}")
                if said.code:
                    said.told_in_one_line()
            self.disk.unmount()
            self.disk.mount()
            self.judge(finished=said.code == 0)
        except Exception as e:
            e.args = (f"{self.disk.kind} {self.verb}: the disk turns read-only before call {n}, {met}\n{e}",)
            raise
        finally:
            self.disk.unmount()


def main():
    words = sys.argv[1:]
    whole = "--all" in words
    sample = int(words[words.index("--sample") + 1]) if "--sample" in words else 8
    seed = int(words[words.index("--seed") + 1]) if "--seed" in words else 1
    kinds = [w for w in words if w in MKFS] or list(MKFS)
    verbs = [w for w in words if w in VERBS] or VERBS
    faults = [w for w in words if w in ("cut", "error")] or ["cut", "error"]
    tally = Tally()
    filesystems = open("/proc/filesystems").read().split()
    for kind in kinds:
        why = next((text for missing, text in [
            (platform.machine() != "x86_64", "needs x86-64"), (os.geteuid() != 0, "needs root"),
            (not os.path.exists("/dev/loop-control"), "no loop devices"), (kind not in filesystems or "xfs" not in filesystems, "not in this kernel"),
            (not shutil.which(MKFS[kind][0]) or not shutil.which("mkfs.xfs"), "no mkfs"),
        ] if missing), None)
        if why:
            tally.skip(f"power cuts on {kind}", why)
            continue
        for verb in verbs:
            base = tempfile.mkdtemp(prefix="power.")
            disk = Disk(base, kind)
            try:
                scene = Scene(disk, verb)
                count = scene.points()
                points = list(range(1, count + 1))
                if not whole:
                    points = sorted(random.Random(f"{seed} {kind} {verb}").sample(points, min(sample, count)))
                if "cut" in faults and verb == "backup":
                    tally.case("control", scene.control)
                if "cut" in faults:
                    bad = sum(not tally.case("cut", lambda: scene.judge_cut(n, call)) for n, call in list(scene.cut(points)))
                    print(f"{'ok      ' if not bad else 'FAILED  '} {kind} {verb}: power cut at {len(points) + 1} of {count} calls, {bad} bad", flush=True)
                if "error" in faults:
                    few = points if whole else points[:: max(1, len(points) // 4)]
                    bad = sum(not tally.case("error", lambda: scene.error(n)) for n in few)
                    print(f"{'ok      ' if not bad else 'FAILED  '} {kind} {verb}: read-only at {len(few)} of {count} calls, {bad} bad", flush=True)
            finally:
                disk.end()
                shutil.rmtree(base, ignore_errors=True)
    tally.end()


if __name__ == "__main__":
    main()
