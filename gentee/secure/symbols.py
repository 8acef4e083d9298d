# SPDX-License-Identifier: BSD-2-Clause
"""Names, files and lines for addresses in TAs, where somebody has kept unstripped ELF files.

A process of its own reads them (:mod:`gentee.secure.symbol_reader`): parsing takes a good part of
a second that gentee's threads would miss, and a file may have been made to do harm. What it answers
is checked as anything that a stranger says.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SECONDS = 30.0  # that a reader may take
_MAX_ANSWER = 4 << 20  # bytes
_MAX_CACHED = 10_000  # addresses
_MAX_TEXT = 4096  # characters

NO_START = -1


class Place(NamedTuple):
    """A function and where in it; ``file`` is empty where that is not known."""

    function: str
    file: str
    line: int


class Named(NamedTuple):
    """What is known of an address: where its function starts, and places, inlined ones first."""

    start: int
    places: tuple[Place, ...]


class Wanted(NamedTuple):
    """A file of a TA, and addresses in it: each with whether it is a return address."""

    uuid: str
    build_id: str
    checksum: int
    addresses: tuple[tuple[int, bool], ...]


class Found(NamedTuple):
    """The answer: a file, or a problem, or neither.

    :ivar named: by address, with whether it is a return address.
    """

    file: str
    problem: str
    named: dict[tuple[int, bool], Named]


class Symbols:
    """Looks for symbols in folders.

    :param dirs: the folders, the first that has a file wins.
    """

    def __init__(self, dirs: Sequence[str] = ()) -> None:
        self._dirs = [os.path.abspath(folder) for folder in dirs]
        self._lock = threading.Lock()  # protects the three below
        self._cache: dict[tuple[object, ...], tuple[str, Named]] = {}
        self._reader: int | None = None  # a pidfd
        self._stopped = False

    def look_up(self, arch: str, modules: Sequence[Wanted]) -> list[Found]:
        """What is known of the addresses of each module. It takes as long as a file system does.

        Never raises: what goes wrong is the ``problem`` of each module.
        """
        answers = [self._from_cache(arch, module) for module in modules]
        missing = [n for n, answer in enumerate(answers) if answer is None]
        if missing and self._dirs:
            fresh = self._ask(arch, [modules[n] for n in missing])
            for n, found in zip(missing, fresh, strict=True):
                answers[n] = found
                self._remember(arch, modules[n], found)
        return [answer or Found("", "", {}) for answer in answers]

    def stop(self) -> None:
        """End what is being looked for; whoever waits for it gets nothing."""
        with self._lock:
            self._stopped = True
            if self._reader is not None:
                _kill(self._reader)

    @staticmethod
    def _key(arch: str, module: Wanted, address: tuple[int, bool]) -> tuple[object, ...]:
        return arch, module.uuid, module.build_id, module.checksum, address

    def _from_cache(self, arch: str, module: Wanted) -> Found | None:
        named = {}
        file = ""
        with self._lock:
            for address in module.addresses:
                cached = self._cache.get(self._key(arch, module, address))
                if cached is None:
                    return None
                file, named[address] = cached
        return Found(file, "", named)

    def _remember(self, arch: str, module: Wanted, found: Found) -> None:
        if not found.file:  # it may be put there until the next time
            return
        with self._lock:
            if len(self._cache) + len(module.addresses) > _MAX_CACHED:
                self._cache.clear()
            for address in module.addresses:
                named = found.named[address]
                self._cache[self._key(arch, module, address)] = (found.file, named)

    def _ask(self, arch: str, modules: Sequence[Wanted]) -> list[Found]:
        import json

        request = {
            "arch": arch,
            "dirs": self._dirs,
            "path": [os.path.abspath(entry) for entry in sys.path if entry],
            "modules": [module._asdict() for module in modules],
        }
        try:
            return _checked(json.loads(self._run(json.dumps(request).encode())), modules)
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            text = f"symbols could not be read: {reason}"
            return [Found("", text, {}) for _ in modules]

    def _run(self, request: bytes) -> bytes:
        """What a reader answers; OSError where it does not."""
        stdin = os.memfd_create("gentee-symbols")
        reading, writing = os.pipe()
        try:
            os.write(stdin, request)
            os.lseek(stdin, 0, os.SEEK_SET)
            pid = _spawn(stdin, writing)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(stdin)
            os.close(writing)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:  # it has ended, and whoever waits for any child has collected it
            os.close(reading)
            raise
        with self._lock:
            self._reader = pidfd
            if self._stopped:
                _kill(pidfd)
        try:
            return _read_all(reading, time.monotonic() + SECONDS)
        finally:
            with self._lock:
                self._reader = None
            _kill(pidfd)
            os.close(pidfd)
            os.close(reading)
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:  # gentee run waits for any child
                pass


def _kill(pidfd: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _spawn(stdin: int, stdout: int) -> int:
    """Start a reader. Its environment is empty, and it has no other descriptor."""
    if not sys.executable:
        raise OSError(0, "no Python interpreter is known")
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = (
        "import sys; sys.path.append(sys.argv[1]); "
        "from gentee.secure.symbol_reader import main; main()"
    )
    actions = [
        (os.POSIX_SPAWN_DUP2, stdin, 0),
        (os.POSIX_SPAWN_DUP2, stdout, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    argv = [sys.executable, "-I", "-c", code, package_parent]
    return os.posix_spawn(sys.executable, argv, {}, file_actions=actions)


def _read_all(fd: int, deadline: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poller.poll(left * 1000):
            raise OSError(0, f"it took more than {SECONDS:.0f} seconds")
        data = os.read(fd, 1 << 16)
        if not data:
            if not parts:
                raise OSError(0, "the reader ended early")
            return b"".join(parts)
        parts.append(data)
        size += len(data)
        if size > _MAX_ANSWER:
            raise OSError(0, "too many of them")


def _checked(answer: "Any", modules: Sequence[Wanted]) -> list[Found]:
    """The reader's answer; ValueError where it is none."""
    if not isinstance(answer, list) or len(answer) != len(modules):
        raise ValueError("the reader ended early")
    return [_module(one, module) for one, module in zip(answer, modules, strict=True)]


def _module(answer: "Any", module: Wanted) -> Found:
    _require(isinstance(answer, dict) and answer.keys() == {"file", "problem", "found"})
    file, problem, found = _text(answer["file"]), _text(answer["problem"]), answer["found"]
    _require(isinstance(found, list) and len(found) == (len(module.addresses) if file else 0))
    named: dict[tuple[int, bool], Named] = {}
    for address, one in zip(module.addresses, found, strict=bool(file)):
        _require(isinstance(one, list) and len(one) == 2 and isinstance(one[1], list))
        places = []
        for place in one[1]:
            _require(isinstance(place, list) and len(place) == 3)
            places.append(Place(_text(place[0]), _text(place[1]), _number(place[2])))
        named[address] = Named(_number(one[0]), tuple(places))
    return Found(file, problem, named)


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError("the reader answered something else")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("the reader answered something else")
    return value[:_MAX_TEXT]


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("the reader answered something else")
    return value


__all__ = ["Found", "Named", "Place", "Symbols", "Wanted"]
