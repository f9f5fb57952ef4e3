#!/usr/bin/env python3
"""Runs a program and does something to it at its N-th system call that touches the given directories.

Calls are counted over all threads and children, in the order in which they come, so that every N of a run is a point of
its own; strace counts for each thread, and would never meet the third flush of the second thread. A filter in the kernel
(seccomp) stops only at calls that may change or fail something, so a run is hardly slower than without.

`run` is for programs that import this. x86-64 Linux.
"""
import ctypes, errno, os, signal, struct

CALLS = {  # name: (number, where its paths or files are in the arguments: "f" descriptor, "p" path, "d" descriptor and path)
    "write": (1, "f"), "pwrite64": (18, "f"), "writev": (20, "f"), "fsync": (74, "f"), "fdatasync": (75, "f"), "ftruncate": (77, "f"),
    "fallocate": (285, "f"), "fchmod": (91, "f"), "flock": (73, "f"), "syncfs": (306, "f"), "copy_file_range": (326, "..f"),
    "rename": (82, "p"), "renameat": (264, "d"), "renameat2": (316, "d"), "link": (86, ".p"), "linkat": (265, "..d"),
    "unlink": (87, "p"), "unlinkat": (263, "d"), "mkdir": (83, "p"), "mkdirat": (258, "d"), "rmdir": (84, "p"),
    "symlinkat": (266, ".d"), "open": (2, "p"), "openat": (257, "d"), "openat2": (437, "d"), "utimensat": (280, "d"),
    "read": (0, "f"), "pread64": (17, "f"), "getdents64": (217, "f"),
}
READING = {"open", "openat", "openat2", "read", "pread64", "getdents64"}
CHANGING = set(CALLS) - READING
NAMES = {number: name for name, (number, _) in CALLS.items()}

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
TRACEME, CONT, GETREGS, SETREGS, SETOPTIONS = 0, 7, 12, 13, 0x4200
OPTIONS = 0x02 | 0x04 | 0x08 | 0x10 | 0x80 | 0x100000  # fork, vfork, clone, exec, seccomp; killed with the tracer
EVENT_SECCOMP = 7
REGISTERS = "27Q"
RAX, RDX, ORIG_RAX = 10, 12, 15
ARGUMENTS = (14, 13, 12, 7, 9, 8)  # rdi rsi rdx r10 r8 r9
WALL = 0x40000000


class Call:
    """One system call, before it is made."""

    def __init__(self, pid, registers):
        self.pid, self.registers = pid, registers
        self.name = NAMES[registers[ORIG_RAX]]
        self.path = self.find()

    def argument(self, n):
        return self.registers[ARGUMENTS[n]]

    def text(self, at):
        with open(f"/proc/{self.pid}/mem", "rb") as memory:
            memory.seek(at)
            try:
                data = memory.read(4096)
            except OSError:
                memory.seek(at)
                data = memory.read(4096 - at % 4096)
        return os.fsdecode(data.split(b"\0")[0])

    def descriptor(self, n):
        number = ctypes.c_int(self.argument(n) & 0xFFFFFFFF).value
        try:
            return os.readlink(f"/proc/{self.pid}/cwd" if number == -100 else f"/proc/{self.pid}/fd/{number}")
        except OSError:
            return ""

    def find(self):
        where = CALLS[self.name][1]
        n = len(where) - 1
        if where[-1] == "f":
            return self.descriptor(n)
        if where[-1] == "p":
            return os.path.join(self.descriptor_cwd(), self.text(self.argument(n)))
        at = self.argument(n + 1)
        return os.path.normpath(os.path.join(self.descriptor(n), self.text(at) if at else ""))

    def descriptor_cwd(self):
        return os.readlink(f"/proc/{self.pid}/cwd")

    def fail(self, number):
        """The call is not made and returns this error."""
        self.registers[ORIG_RAX] = 2**64 - 1
        self.registers[RAX] = 2**64 - number
        self.store()

    def pretend(self):
        """The call is not made and says that it was."""
        self.registers[ORIG_RAX] = 2**64 - 1
        self.registers[RAX] = 0
        self.store()

    def halve(self):
        """A write of half of it."""
        self.registers[RDX] //= 2
        self.store()

    def store(self):
        raw = struct.pack(REGISTERS, *self.registers)
        ptrace(SETREGS, self.pid, 0, raw)

    def __str__(self):
        return f"{self.name} {self.path}"


def ptrace(request, pid, address, data):
    if libc.ptrace(request, pid, address, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request}")


def bpf(names):
    """Stops at these calls, lets all others pass."""
    numbers = sorted(CALLS[name][0] for name in names)
    code = [struct.pack("HBBI", 0x20, 0, 0, 0)]
    for i, number in enumerate(numbers):
        code.append(struct.pack("HBBI", 0x15, len(numbers) - i, 0, number))
    code.append(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))
    code.append(struct.pack("HBBI", 0x06, 0, 0, 0x7FF00000))
    return b"".join(code)


def child(command, environment, names, stdout, stderr, stdin):
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    program = bpf(names)
    block = ctypes.create_string_buffer(program)
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(block))
    for source, target in ((stdin, 0), (stdout, 1), (stderr, 2)):
        os.dup2(source, target)
    libc.ptrace(TRACEME, 0, None, None)
    os.kill(os.getpid(), signal.SIGSTOP)
    libc.prctl(38, 1, 0, 0, 0)
    if libc.prctl(22, 2, ctypes.create_string_buffer(head), 0, 0) != 0:
        os._exit(126)
    os.execve(command[0], command, environment)


def run(command, environment, under, at, stdout, stderr, names=CHANGING, stdin=None):
    """Runs `command` to its end and returns its wait status and how many calls it made that touch a path below one of
    `under`. `at` is given each of them with its number, from 1, before it is made; it may raise `Kill`."""
    nothing = os.open("/dev/null", os.O_RDONLY) if stdin is None else stdin
    main = os.fork()
    if main == 0:
        try:
            child(command, environment, names, stdout, stderr, nothing)
        finally:
            os._exit(127)
    os.close(nothing)
    os.waitpid(main, 0)
    ptrace(SETOPTIONS, main, 0, OPTIONS)
    ptrace(CONT, main, 0, 0)
    count, alive, new, status = 0, {main}, set(), None
    below = tuple(os.path.join(path, "") for path in under)
    while alive:
        try:
            pid, said = os.waitpid(-1, WALL)
        except ChildProcessError:
            break
        if os.WIFEXITED(said) or os.WIFSIGNALED(said):
            alive.discard(pid)
            if pid == main:
                status = said
            continue
        alive.add(pid)
        stop, event = os.WSTOPSIG(said), said >> 16
        deliver = 0
        if stop == signal.SIGTRAP and event == EVENT_SECCOMP:
            raw = ctypes.create_string_buffer(struct.calcsize(REGISTERS))
            try:
                ptrace(GETREGS, pid, 0, raw)
                call = Call(pid, list(struct.unpack(REGISTERS, raw.raw)))
            except (OSError, KeyError):
                call = None
            if call and (call.path + "/").startswith(below):
                count += 1
                try:
                    at(count, call)
                except Kill:
                    os.kill(main, signal.SIGKILL)
                    continue
        elif event == 0 and not (stop == signal.SIGSTOP and pid not in new and pid != main):
            deliver = stop if stop != signal.SIGTRAP else 0
        new.add(pid)
        try:
            ptrace(CONT, pid, 0, deliver)
        except OSError as e:
            if e.errno != errno.ESRCH:
                raise
    return status, count


class Kill(Exception):
    """The program is to die here, before the call."""
