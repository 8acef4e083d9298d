# SPDX-License-Identifier: BSD-2-Clause
"""A warm parent whose processes are those of OP-TEE's TAs until a command says which attack to run.

Everything before that is as it is: the same warm parent, the same steps of confinement, the same
loader and engine. From the attack on the process does what native code of somebody who got out of
the engine could do in its one thread: any system call, any word in the mailbox, any byte in the
log. An attack returns what the command's value is to be.
"""

import ctypes
import mmap
import os
import random
from collections.abc import Callable

from gentee.abi import ta_channel as ch
from gentee.ta import arm_parent, user_process
from gentee.ta.requests import CHANNEL

ANY = (1 << 64) - 1
WORDS = (
    0, 1, 2, 5, 7, 16, 0x65, 0x7777, 0xFFFF, 0x10000, 1 << 26, 1 << 31, (1 << 32) - 1, 1 << 32,
    1 << 63, ANY - 4095, ANY - 1, ANY,
)  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)
_LONGS = [ctypes.c_long] * 7
_libc.syscall.argtypes = _LONGS
_libc.syscall.restype = ctypes.c_long

Attack = Callable[[memoryview, int, int], int]
ATTACKS: list[Attack] = []


def attack(function: Attack) -> Attack:
    """Give an attack the next number, from 1 on."""
    ATTACKS.append(function)
    return function


def number_of(name: str) -> int:
    """The command that runs an attack."""
    return [function.__name__ for function in ATTACKS].index(name) + 1


# Of x86-64 and of aarch64.
NUMBERS = {
    "bpf": (321, 280),
    "clone": (56, 220),
    "execve": (59, 221),
    "fcntl": (72, 25),
    "io_uring_setup": (425, 425),
    "kill": (62, 129),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "openat": (257, 56),
    "perf_event_open": (298, 241),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "ptrace": (101, 117),
    "read": (0, 63),
    "recvfrom": (45, 207),
    "rt_sigaction": (13, 134),
    "seccomp": (317, 277),
    "sendto": (44, 206),
    "socket": (41, 198),
    "statx": (332, 291),
    "userfaultfd": (323, 282),
}
IS_X86_64 = os.uname().machine == "x86_64"


def native(call: str | int, *arguments: int) -> int:
    """A system call by its name or number: its value, or -errno."""
    number = call if isinstance(call, int) else NUMBERS[call][0 if IS_X86_64 else 1]
    words = [ctypes.c_long(word & ANY).value for word in (*arguments, *(0,) * 6)[:6]]
    result: int = _libc.syscall(number, *words)
    return -ctypes.get_errno() if result < 0 else result


_libc.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong)


def raw(request: int, argument: int = 0, fd: int = 0) -> int:
    """A trapped call with all 64 bits: its value, or -errno."""
    result: int = _libc.ioctl(fd, request, argument & ANY)
    return -ctypes.get_errno() if result < 0 else result


def ask(words: memoryview, code: int, **block: int) -> int:
    """A request with these words in its block; the result, or -errno."""
    for name, value in block.items():
        words[getattr(ch, name)] = value & ANY
    error = raw(ch.TA_IOC_REQUEST, code)
    return error if error < 0 else words[ch.Q_RET]


def name_uuid(words: memoryview, text: str) -> None:
    uuid = bytes.fromhex(text.replace("-", ""))
    words[ch.Q_UUID] = int.from_bytes(uuid[:8], "little")
    words[ch.Q_UUID + 1] = int.from_bytes(uuid[8:], "little")


def uuid_at(words: memoryview) -> str:
    """The UUID that a test puts into its second parameter: values a, b and of the third one."""
    values = [words[ch.M_PARAMS + 3 * index + half] for index in (1, 2) for half in (0, 1)]
    return b"".join(value.to_bytes(4, "big") for value in values).hex()


# The attacks


@attack
def every_call_of_many(words: memoryview, a: int, b: int) -> int:
    """Those of numbers a to b that are let through, as a line, with two kinds of arguments."""
    through = set()
    for number in range(a, b):
        if number not in NOT_TRIED:
            for word in (0, ANY):
                if native(number, *6 * [word]) != -1:
                    through.add(number)
    os.write(1, f"{sorted(through)}\n".encode())
    return len(through)


@attack
def reaches(words: memoryview, a: int, b: int) -> int:
    """What the one or the other try of a list reaches, as a line; how many did."""
    libc = _libc
    path = ctypes.create_string_buffer(b"/etc/passwd")
    buffer = ctypes.create_string_buffer(4096)
    word = ctypes.addressof
    tries: dict[str, Callable[[], int]] = {
        "open": lambda: native("openat", -100, word(path), 0),
        "memory of others": lambda: int(libc.process_vm_readv(os.getppid(), 0, 0, 0, 0, 0)),
        "fork": lambda: native("clone", 17),
        "a thread": lambda: native("clone", 0x10F00),
        "vfork": lambda: native("clone", 0x4111),
        "socket": lambda: native("socket", 1, 1, 0),
        "pipe": lambda: int(libc.pipe(buffer)),
        "memfd": lambda: int(libc.memfd_create(path, 0)),
        "userfaultfd": lambda: native("userfaultfd", 0),
        "io_uring": lambda: native("io_uring_setup", 8, word(buffer)),
        "bpf": lambda: native("bpf", 0, word(buffer), 64),
        "perf": lambda: native("perf_event_open", word(buffer), 0, -1, -1, 0),
        "ptrace": lambda: native("ptrace", 16, os.getppid(), 0, 0),
        "kill": lambda: native("kill", os.getppid(), 0),
        "executable memory": lambda: _mapped(7, 0x22),
        "executable memory that is shared": lambda: _mapped(7, 0x21),
        "memory that nobody counts": lambda: _mapped(3, 0x21),
        "a place that grows down": lambda: _mapped(3, 0x122),
        "huge pages": lambda: _mapped(3, 0x40022),
        "locked pages": lambda: _mapped(3, 0x2022),
        "mprotect": lambda: native("mprotect", word(buffer) & -4096, 4096, 3),
        "mremap": lambda: native("mremap", word(buffer) & -4096, 4096, 8192, 1),
        "another descriptor": lambda: raw(ch.TA_IOC_WAIT, 0, 1),
        "an ioctl of a client's": lambda: raw(0x800CA400, word(buffer)),
        "a terminal's ioctl": lambda: raw(0x5412, word(buffer)),
        "seccomp": lambda: native("seccomp", 0, 0, 0),
        "a handler": lambda: native("rt_sigaction", 11, 0, word(buffer), 8),
        "a name": lambda: native("prctl", 15, word(path)),
        "to be dumpable": lambda: native("prctl", 4, 1),
        "raise a limit": lambda: native("prlimit64", 0, 2, word(buffer), 0),
        "seals": lambda: native("fcntl", 0, 1033, 0x1F),
        "a signal of a descriptor": lambda: native("fcntl", 1, 8, 1),
        "read its log": lambda: native("read", 1, word(buffer), 1),
        "read its channel": lambda: native("read", 0, word(buffer), 1),
    }
    found = [what for what, call in tries.items() if call() >= 0]
    os.write(1, f"{found}\n".encode())
    return len(found)


def _mapped(prot: int, flags: int) -> int:
    return native("mmap", 0, 1 << 16, prot, flags, -1, 0)


@attack
def any_mailbox(words: memoryview, a: int, b: int) -> int:
    """Random words everywhere, and the next command before this one was looked at, a times."""
    chooser = random.Random(b)
    for _ in range(a):
        for index in range(512):
            words[index] = chooser.choice((*WORDS, chooser.getrandbits(64)))
        if raw(ch.TA_IOC_NEXT) == ch.TA_DESTROY:
            os._exit(0)
    return 0


@attack
def any_request(words: memoryview, a: int, b: int) -> int:
    """Requests of all kinds with hostile words; those that open are used, a times."""
    chooser = random.Random(b)
    uuids = [uuid_at(words), PTA_SYSTEM, PTA_STATS, PTA_DEVICE, PTA_TESTS, 32 * "7"]
    codes = [value for name, value in vars(ch).items() if name.startswith("RQ_")]
    codes += [0, max(codes) + 1, ANY, 1 << 32 | ch.RQ_OPEN_BIN]
    for turn in range(a):
        name_uuid(words, chooser.choice(uuids))
        words[ch.Q_TIMEOUT] = 20
        words[ch.Q_PARAM_TYPES] = chooser.choice((0, 1, 3, 5, 6, 7, 0x131, 0x3333, 0x5555, 0x7777))
        words[ch.Q_SESSION] = chooser.choice((1, 2, 3, turn))
        words[ch.Q_FUNC] = chooser.choice((0, 1, 2, 3, 10, 11, 12, 13, 65536, 99))
        for index in range(12):
            words[ch.Q_PARAMS + index] = chooser.choice((0, 1, 16, 64, 4096, chooser.choice(WORDS)))
        for _ in range(chooser.randrange(3)):
            words[ch.Q_BLOCK + chooser.randrange(ch.Q_WORDS)] = chooser.choice(WORDS)
        raw(ch.TA_IOC_REQUEST, chooser.choice(codes))
        if words[ch.Q_FUNC] > 3:  # a descriptor, perhaps
            _libc.close(ctypes.c_int(words[ch.Q_FUNC] & 0xFFFF))
    return a


@attack
def pseudo_tas(words: memoryview, a: int, b: int) -> int:
    """A session with each pseudo TA, and every command with every type of parameters."""
    assert ask(words, ch.RQ_CALL_WINDOW, Q_FUNC=65536) == 0
    chooser = random.Random(b)
    results = set()
    for uuid in (PTA_SYSTEM, PTA_STATS, PTA_DEVICE, PTA_TESTS):
        name_uuid(words, uuid)
        result = ask(words, ch.RQ_OPEN_TA_SESSION, Q_PARAM_TYPES=0, Q_TIMEOUT=20)
        assert result == 0, (uuid, hex(result))
        session = words[ch.Q_SESSION]
        for _ in range(a):
            for index in range(4):
                base = ch.Q_PARAMS + 3 * index
                value = chooser.choice(((0, 1), (0, 16), (60, 32), (4096, 64), (65535, 1), (0, 0)))
                if chooser.random() < 0.2:
                    value = chooser.choice(WORDS), chooser.choice(WORDS)
                words[base], words[base + 1] = value
                words[base + 2] = chooser.choice((1, 1, 1, 1, 0))
            types = chooser.choice((0, 1, 3, 5, 0x61, 0x63, 0x131, 0x65, 0x665, 0x7777, 0x2255))
            result = ask(
                words, ch.RQ_INVOKE_TA_COMMAND,
                Q_SESSION=session, Q_FUNC=chooser.randrange(16), Q_PARAM_TYPES=types, Q_TIMEOUT=20,
            )  # fmt: skip
            results.add((result, words[ch.Q_ORIGIN]))
        ask(words, ch.RQ_CLOSE_TA_SESSION, Q_SESSION=session)
    os.write(1, f"{sorted(results)}\n".encode())
    return len(results)


@attack
def open_bin(words: memoryview, a: int, b: int) -> int:
    """The binary of a UUID: the result, and its size in a line."""
    name_uuid(words, uuid_at(words))
    result = ask(words, ch.RQ_OPEN_BIN)
    if not result:
        with mmap.mmap(words[ch.Q_FUNC], words[ch.Q_SIZE], prot=mmap.PROT_READ) as content:
            os.write(1, b"%r\n" % content[:4])
        try:
            mmap.mmap(words[ch.Q_FUNC], words[ch.Q_SIZE])
        except PermissionError:
            os.write(1, b"and it cannot be written\n")
    return result


@attack
def hoard_binaries(words: memoryview, a: int, b: int) -> int:
    """Open the same binary again and again and keep its pages: KiB that it got."""
    got = 0
    uuid = uuid_at(words)
    for _ in range(a):
        name_uuid(words, uuid)
        if ask(words, ch.RQ_OPEN_BIN):
            break
        fd, size = words[ch.Q_FUNC], words[ch.Q_SIZE]
        if _libc.mmap(None, ctypes.c_size_t(size), 1, 1, fd, 0) == -1:
            break
        os.close(fd)
        got += size
    return got >> 10


@attack
def flood_of_binaries(words: memoryview, a: int, b: int) -> int:
    """Requests for what there is not, until the client asks to end it."""
    while not words[ch.M_CANCEL]:
        name_uuid(words, 32 * "7")
        ask(words, ch.RQ_OPEN_BIN)
    return 0


@attack
def log(words: memoryview, a: int, b: int) -> int:
    """Write to the log what LINES has under a, and end if b says so."""
    words[ch.M_FLAGS] = ch.R_LOGGED
    for data in LINES[a]:
        while data:
            data = data[os.write(1, data) :]
    if b:
        os._exit(1)
    return 0


@attack
def flood_of_reports(words: memoryview, a: int, b: int) -> int:
    while not words[ch.M_CANCEL]:
        os.write(1, 16 * (b"\x02" + b'{"arch": "aarch64"}'.ljust(256) + b"\n"))
    return 0


@attack
def destroyed(words: memoryview, a: int, b: int) -> int:
    """The command is over; told to end, it asks for more."""
    while True:
        words[ch.M_RET] = 0
        raw(ch.TA_IOC_NEXT)
        ask(words, ch.RQ_CALL_WINDOW, Q_FUNC=1)


@attack
def requests_at_rest(words: memoryview, a: int, b: int) -> int:
    """Its command is over, and it is to rest: it makes a request instead."""
    words[ch.M_RET] = 0
    while raw(ch.TA_IOC_NEXT) != ch.TA_REST:
        words[ch.M_RET] = 0
    ask(words, ch.RQ_CALL_WINDOW, Q_FUNC=1)
    return 0


@attack
def wakes_by_itself(words: memoryview, a: int, b: int) -> int:
    """The same, and it comes for a command that it was not called for."""
    words[ch.M_RET] = 0
    while raw(ch.TA_IOC_NEXT) != ch.TA_REST:
        words[ch.M_RET] = 0
    raw(ch.TA_IOC_NEXT)
    return 0


@attack
def another_token(words: memoryview, a: int, b: int) -> int:
    """It introduces itself again, as anybody: 0 if each is refused."""
    results = {raw(ch.TA_IOC_HELLO, random.getrandbits(62)) for _ in range(200)}
    results |= {raw(ch.TA_IOC_HELLO & ~0xF | number) for number in range(4, 16)}
    return len([result for result in results if result >= 0])


@attack
def forks_for_others(words: memoryview, a: int, b: int) -> int:
    """It answers as a template would: with a process that it forked, which is none of its."""
    words[ch.M_RET] = 0
    words[ch.M_SESSION] = a
    raw(ch.TA_IOC_NEXT)
    return 0


@attack
def hog(words: memoryview, a: int, b: int) -> int:
    """Private pages until there are no more: MiB."""
    got = 0
    while True:
        place = native("mmap", 0, 1 << 20, 3, 0x22, -1, 0)
        if place < 0:
            return got
        ctypes.memset(place, 1, 1 << 20)
        got += 1


@attack
def scribble(words: memoryview, a: int, b: int) -> int:
    """Its own memory: what the engine keeps is gone, and with it this process."""
    for size in (1 << 12, 1 << 16, 1 << 20):
        ctypes.memset(id(words) & -4096, 0xFF, size)
    return 0


_MAX = ch.REPORT_MAX
LINES: list[list[bytes]] = [
    [b"\x02" + b"x" * (4 << 20) + b"\n"],
    [b"\x02" + b"[" * (_MAX - 1) + b"\n"],
    [b"\x02" + b"{" * 100 + b"\n", b"\x02\n", b"\x02{}\n", b"\x02null\n", b"\x021e999999\n"],
    [b"\x02" + b'{"arch": "aarch64", "arch": "arm"}\n'],
    [b"\x02" + b"9" * (_MAX - 1) + b"\n"],
    [b"\x02" + b'"\\ud800' + b"\xff\xfe" + b'"\n'],
    [b"\x02no end"],
    [b"\x01\n", b"\x01", b"\x00\x01\x02\x03\n", bytes(range(256)) + b"\n", b"\x1b[2J\x07\n"],
    [b"\n" * (1 << 18)],
    [b"\x02" + b" " * (_MAX - 2) + b"0\n"],
]  # fmt: skip

PTA_SYSTEM = "3a2f8978-5dc0-11e8-9c2d-fa7ae01bbebc"
PTA_STATS = "d96a5b40-e2c7-b1af-8794-1002a5d5c61b"
PTA_DEVICE = "7011a688-ddde-4053-a5a9-7b3c4ddf13b8"
PTA_TESTS = "d96a5b40-c3e5-21e3-8794-1002a5d5c61b"
# Numbers that would end the process, take its channel away or wait for ever, of x86-64 and aarch64:
# exit_group close ioctl restart_syscall futex, and uretprobe uprobe, which no filter sees.
NOT_TRIED = {231, 3, 16, 219, 202, 335, 336} if IS_X86_64 else {94, 57, 29, 128, 98}


class Escaped(user_process.UserProcess):
    """A TA's process, up to the first command that is an attack."""

    def invoke(self) -> int:
        command = self._words[ch.M_FUNC] & 0xFFFF_FFFF
        if not command:
            return super().invoke()
        base = ch.M_PARAMS
        a, b = self._words[base], self._words[base + 1]
        result = ATTACKS[command - 1](CHANNEL._words, a, b)  # type: ignore[arg-type]
        self._words[base], self._words[base + 1] = result & 0xFFFF_FFFF, 0
        self._words[ch.M_FLAGS] = ch.R_LOGGED
        return 0


def main(socket_fd: int) -> None:
    """Serve the socket to its end."""
    user_process.UserProcess = Escaped  # type: ignore[misc]
    arm_parent.main(socket_fd)
