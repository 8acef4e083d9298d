# SPDX-License-Identifier: BSD-2-Clause
"""Who connects to a TEE's control socket and attacks it costs nobody anything."""

import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gentee.device import control
from gentee.device.state_dir import SOCKET
from gentee.device.trapped_root import tee_filter
from gentee.linux.seccomp import install_filter
from tests.helpers import Child
from tests.outside import wait_until
from tests.serving import Served

NOBODY = 12345

OPEN_WAY = control.WAY.pack(control.WAY_CODES["open"])
NAMESPACE_WAY = control.WAY.pack(control.WAY_CODES["namespace"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One TEE for all attacks: what one leaves behind would show in the next."""
    folder = tmp_path_factory.mktemp("control")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        served = Served(folder / "messages", options=["--driver", "loopback"])
    with served:
        yield served


@pytest.fixture
def served(shared: Served) -> Iterator[Served]:
    """After the test it must answer, and have as many descriptors and threads as before."""
    shared.status()  # what is needed for that once is there from now on
    before = shared.descriptors()
    yield shared
    assert shared.process.poll() is None, shared.messages()
    assert shared.status()["programs"] == []
    wait_until(lambda: shared.descriptors() <= before, "descriptors that are closed again")
    assert "bug" not in shared.messages()


def refusal(sock: socket.socket) -> str | None:
    """The text of a refusal; None at the end of the connection."""
    try:
        data, fds = control.receive(sock)
    except ConnectionResetError:
        return None
    control.close_all(fds)
    if not data:
        return None
    code, text = control.decode(data)
    assert code == control.REFUSED, data
    return text.decode()


def join(sock: socket.socket) -> list[str]:
    """The first step; names of the devices."""
    names, _fds = control.Connection(sock).ask(control.JOIN, control.pid_namespace())
    return names.decode().split()


def random_messages() -> list[bytes]:
    dice = random.Random(3)
    found = []
    for _ in range(200):
        version = dice.choice([1, 1, 1, 2, 0xFFFF])
        magic = dice.choice([control.MAGIC, control.MAGIC, b"GTEF"])
        code = dice.choice([0, 1, 2, 3, 6, 7, 9, 0x100, 0x102, 0xFFFF])
        size = dice.choice([0, 1, 2, 15, 16, 17, 64])
        data = control.HEADER.pack(magic, version, code) + dice.randbytes(size)
        found.append(data[: dice.randrange(1, len(data) + 1)])
    return found


def test_garbage(served: Served) -> None:
    for message in random_messages():
        with served.socket() as sock:
            sock.send(message)
            assert refusal(sock)
    assert served.status()["programs"] == []


def test_half_messages(served: Served) -> None:
    whole = control.encode(control.JOIN, control.pid_namespace())
    for size in range(1, len(whole)):
        with served.socket() as sock:
            sock.send(whole[:size])
            assert refusal(sock)
            assert refusal(sock) is None  # and it ends


def test_too_long(served: Served) -> None:
    with served.socket() as sock:
        sock.send(bytes(control.MAX_MESSAGE + 1))
        assert "too long" in (refusal(sock) or "")


@pytest.mark.parametrize("count", [1, control.MAX_FDS, control.MAX_FDS + 1, 253])
def test_descriptors_that_do_not_belong(served: Served, count: int) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    try:
        with served.socket() as sock:
            socket.send_fds(sock, [control.encode(control.STATUS)], [null] * count)
            assert refusal(sock)
    finally:
        os.close(null)


def pipe() -> int:
    reader, writer = os.pipe()
    os.close(writer)
    return reader


def memory_file() -> int:
    return os.memfd_create("file", 0)


NO_LISTENERS: dict[str, Callable[[], int]] = {
    "pipe": pipe,
    "null": lambda: os.open("/dev/null", os.O_RDWR),
    "memory": memory_file,
    "folder": lambda: os.open("/", os.O_RDONLY),
    "path": lambda: os.open("/dev/null", os.O_PATH),
    "socket": lambda: socket.socket(socket.AF_UNIX).detach(),
    "eventfd": lambda: os.eventfd(0),
    "pidfd": lambda: os.pidfd_open(os.getpid()),
}


@pytest.mark.parametrize("kind", NO_LISTENERS)
def test_no_listener(served: Served, kind: str) -> None:
    fd = NO_LISTENERS[kind]()
    try:
        with served.socket() as sock:
            join(sock)
            socket.send_fds(sock, [control.encode(control.LISTEN, OPEN_WAY)], [fd])
            assert "no listener" in (refusal(sock) or "")
            assert refusal(sock) is None
    finally:
        os.close(fd)


def with_listener(act: Callable[[int], object]) -> None:
    """Have ``act`` do something with a real listener, whose only task is a child that waits."""

    def job(sock: socket.socket) -> None:
        listener = install_filter(tee_filter(trap_open=False))
        socket.send_fds(sock, [b"L"], [listener])
        os.close(listener)
        sock.recv(1)

    with Child(job) as child:
        _data, fds, _flags, _address = socket.recv_fds(child.socket, 1, 1)
        try:
            act(fds[0])
        finally:
            os.close(fds[0])


def test_device_files_that_are_none(served: Served) -> None:
    def act(listener: int) -> None:
        for make in (pipe, NO_LISTENERS["null"], NO_LISTENERS["folder"], NO_LISTENERS["path"]):
            fd = make()
            try:
                with served.socket() as sock:
                    names = join(sock)
                    request = control.encode(control.LISTEN, NAMESPACE_WAY)
                    socket.send_fds(sock, [request], [listener, *[fd] * len(names)])
                    assert "no device file" in (refusal(sock) or "")
            finally:
                os.close(fd)

    with_listener(act)


@pytest.mark.parametrize("way", [NAMESPACE_WAY, OPEN_WAY, b"\0", b"\xff"])
def test_a_wrong_number_of_device_files(served: Served, way: bytes) -> None:
    def act(listener: int) -> None:
        fd = memory_file()
        try:
            with served.socket() as sock:
                join(sock)
                socket.send_fds(sock, [control.encode(control.LISTEN, way)], [listener, fd])
                assert refusal(sock)
        finally:
            os.close(fd)

    with_listener(act)


def test_listen_without_join(served: Served) -> None:
    def act(listener: int) -> None:
        with served.socket() as sock:
            socket.send_fds(sock, [control.encode(control.LISTEN, OPEN_WAY)], [listener])
            assert "out of turn" in (refusal(sock) or "")

    with_listener(act)


def test_leave_without_join(served: Served) -> None:
    with served.socket() as sock:
        sock.send(control.encode(control.LEAVE))
        assert refusal(sock)
        assert refusal(sock) is None


def test_another_pid_namespace(served: Served) -> None:
    with served.socket() as sock:
        sock.send(control.encode(control.JOIN, control.PID_NAMESPACE.pack(4, 1)))
        assert "PID namespace" in (refusal(sock) or "")


@pytest.mark.parametrize("code", [control.JOIN, control.STATUS, control.STOP, control.LOAD])
def test_a_program_may_only_leave(served: Served, code: int) -> None:
    """On its connection; what a program is and what a person asks are apart."""

    def act(listener: int) -> None:
        with served.socket() as sock:
            join(sock)
            control.Connection(sock).ask(control.LISTEN, OPEN_WAY, (listener,))
            assert len(served.status()["programs"]) == 1
            size, fds = {control.JOIN: (16, []), control.LOAD: (0, [0])}.get(code, (0, []))
            socket.send_fds(sock, [control.encode(code, bytes(size))], fds)
            assert refusal(sock)
            assert refusal(sock) is None
        wait_until(lambda: not served.status()["programs"], "the end of the program")

    with_listener(act)


def test_joining_again_and_again(served: Served) -> None:
    def act(listener: int) -> None:
        for _ in range(20):
            with served.socket() as sock:
                join(sock)
                control.Connection(sock).ask(control.LISTEN, OPEN_WAY, (listener,))
                control.Connection(sock).ask(control.LEAVE)

    with_listener(act)
    assert served.status()["programs"] == []


def test_a_flood_of_connections(served: Served) -> None:
    socks = []
    try:
        for _ in range(400):
            socks.append(served.socket())
        assert "too many" in (refusal(socks[-1]) or "")
    finally:
        for sock in socks:
            sock.close()

    def answers() -> bool:
        try:
            return bool(served.status())
        except control.Refused:
            return False

    wait_until(answers, "an answer after the flood")


def test_who_reads_no_answer(served: Served) -> None:
    with served.socket() as sock:
        sock.setblocking(False)
        sent = 0
        try:
            for _ in range(5000):
                sock.send(control.encode(control.STATUS))
                sent += 1
                if sent % 100 == 0:
                    assert served.status()["programs"] == []
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass
        assert sent
        assert served.status()["programs"] == []


def sparse() -> int:
    fd = memory_file()
    os.truncate(fd, 1 << 40)
    return fd


def write_only() -> int:
    fd = memory_file()
    os.truncate(fd, 4096)
    again = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
    os.close(fd)
    return again


NO_IMAGES: dict[str, Callable[[], int]] = {
    **NO_LISTENERS,
    "sparse": sparse,
    "write-only": write_only,
}


@pytest.mark.parametrize("kind", NO_IMAGES)
def test_no_image(served: Served, kind: str) -> None:
    fd = NO_IMAGES[kind]()
    try:
        with pytest.raises(control.Refused):
            served.ask(control.LOAD, fds=(fd,))
    finally:
        os.close(fd)


@pytest.mark.root
def test_another_user(served: Served) -> None:
    """The folder alone keeps others out; where it was opened, the kernel says who asks."""
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv")
    folder = served.folder
    script = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "s.connect(sys.argv[1])\n"
        "s.send(bytes.fromhex(sys.argv[2]))\n"
        "print(s.recv(4096)[8:].decode())\n"
    )
    message = control.encode(control.STOP).hex()
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    command += [sys.executable, "-I", "-S", "-c", script]

    def ask(path: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, path, message], capture_output=True, text=True, timeout=60, cwd="/"
        )

    assert "PermissionError" in ask(str(folder / SOCKET)).stderr
    parents = [folder, *list(folder.parents)[:6]]
    modes = [(path, path.stat().st_mode) for path in [folder / SOCKET, *parents]]
    try:
        for path, mode in modes:
            if path != Path("/tmp") and path != Path("/"):
                path.chmod(mode | 0o667 if path.name == SOCKET else mode | 0o011)
        finished = ask(str(folder / SOCKET))
        assert "only its owner" in finished.stdout, finished
    finally:
        for path, mode in modes:
            path.chmod(mode & 0o7777)
    assert served.process.poll() is None


@pytest.mark.root
def test_a_group(tmp_path: Path) -> None:
    """Its members may join and look; what is there remains the owner's business."""
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv")
    group = 54321
    script = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "s.connect(sys.argv[1])\n"
        "for message in sys.argv[2:]:\n"
        "    s.send(bytes.fromhex(message))\n"
        "    print(s.recv(4096).hex())\n"
    )
    requests = [
        control.encode(control.JOIN, control.pid_namespace()),
        control.encode(control.STOP),
        control.encode(control.UNLOAD, bytes(16)),
        control.encode(control.LIST),
    ]
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={group}", "--clear-groups"]
    command += [sys.executable, "-I", "-S", "-c", script]
    with Served(tmp_path / "messages", options=["--group", str(group)]) as served:
        path = served.folder / SOCKET
        parents = [one for one in list(served.folder.parents)[:6] if one != Path("/tmp")]
        modes = [(one, one.stat().st_mode) for one in parents if one != Path("/")]
        try:
            for one, mode in modes:
                one.chmod(mode | 0o011)
            finished = subprocess.run(
                [*command, path, *[request.hex() for request in requests]],
                capture_output=True,
                text=True,
                timeout=60,
                cwd="/",
            )
        finally:
            for one, mode in modes:
                one.chmod(mode & 0o7777)
        answers = [control.decode(bytes.fromhex(line)) for line in finished.stdout.split()]
        assert [code for code, _ in answers] == [
            control.OK,
            control.REFUSED,
            control.REFUSED,
            control.OK,
        ], finished
        assert b"only the owner" in answers[1][1]
        assert served.process.poll() is None
