# SPDX-License-Identifier: BSD-2-Clause
"""One TEE, several programs: ``gentee serve`` and ``gentee run --tee``."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gentee.device import control
from tests.functional.conftest import WAYS, CompileClient
from tests.outside import PATIENCE, wait_until
from tests.serving import Joined, Served, environment

SERVICES = Path(__file__).parents[1] / "services"
NOBODY = 12345

# ENOSYS where nobody listens any more, ENOTTY where somebody lets calls go on to the kernel, ENODEV
# from a TEE that ends in order.
GONE = ("errno 38", "errno 25", "errno 19")

Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """``serve(name, *options)``: a TEE that ends with the test."""
    started: list[Served] = []

    def start(name: str = "test", *options: str | Path, look: bool = True) -> Served:
        messages = tmp_path / f"messages-{len(started)}"
        served = Served(messages, name, ["--quiet", *options], look=look)
        started.append(served)
        return served

    yield start
    for served in started:
        with served:
            pass


@pytest.fixture(scope="session")
def client(compile_client: CompileClient) -> Path:
    return compile_client("joined.c")


def finished(
    name: str, argv: Sequence[str | Path], *, way: str = "auto", status: int = 0
) -> list[str]:
    """Lines of a program that was run in the TEE and ended with ``status``."""
    joined = Joined(name, argv, way=way)
    out, messages = joined.finish()
    assert joined.returncode == status, out + messages
    return out.splitlines()


def gentee(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gentee", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
    )


def check_refused(result: subprocess.CompletedProcess[str], *texts: str, status: int = 1) -> None:
    """It ended with one plain message."""
    assert result.returncode == status, result
    assert result.stderr.startswith("gentee: ")
    assert result.stderr.count("\n") <= 2, result.stderr
    for text in texts:
        assert text in result.stderr


# Sharing


def test_one_counter(serve: Serve, client: Path, way: str) -> None:
    served = serve()
    assert finished("test", [client, "count", "2"], way=way) == ["1", "2"]
    assert finished("test", [client, "count", "2"], way=way) == ["3", "4"]
    served.wait_left()


def test_ways_side_by_side(serve: Serve, client: Path) -> None:
    serve()
    running = [Joined("test", [client, "hold"], way=way) for way in WAYS]
    for joined in running:
        assert joined.line() == "open"
    assert finished("test", [client, "count", "1"]) == ["3"]
    for joined in running:
        out, messages = joined.finish()
        assert out == "errno 0\nfiles open\n", messages
        assert joined.returncode == 0


def test_many_at_once(serve: Serve, client: Path) -> None:
    served = serve()
    before = served.descriptors()
    programs, calls = 6, 200
    running = [
        Joined("test", [client, "count", str(calls)], way=WAYS[number % 2])
        for number in range(programs)
    ]
    seen: list[int] = []
    for joined in running:
        out, messages = joined.finish()
        assert joined.returncode == 0, messages
        lines = [int(line) for line in out.splitlines()]
        assert len(lines) == calls
        assert lines == sorted(lines)
        seen += lines
    assert sorted(seen) == list(range(1, programs * calls + 1))  # none lost, none done twice
    served.wait_left()
    # Its services have some that it had not before.
    assert served.descriptors() <= before + 8


def test_nothing_of_a_program_is_left(serve: Serve, client: Path, way: str) -> None:
    served = serve()
    finished("test", [client, "count", "1"], way=way)
    served.wait_left()
    fds, threads = served.descriptors(), served.threads()
    for _ in range(8):
        finished("test", [client, "count", "1"], way=way)
    served.wait_left()
    wait_until(lambda: served.descriptors() <= fds, "closed descriptors")
    wait_until(lambda: served.threads() <= threads + 2, "ended threads")  # workers end later


def test_status(serve: Serve, client: Path, way: str) -> None:
    served = serve()
    joined = Joined("test", [client, "hold"], way=way)
    assert joined.line() == "open"
    status = served.status()
    assert status["pid"] == served.pid
    assert [device["name"] for device in status["devices"]] == ["tee0", "teepriv0"]
    assert status["sessions"] == 1
    (program,) = status["programs"]
    assert (program["pid"], program["uid"], program["way"]) == (joined.pid, os.getuid(), way)
    joined.finish()
    served.wait_left()


@pytest.mark.parametrize("look", [True, False], ids=["looks", "asks"])
def test_all_of_the_device(
    serve: Serve, compile_client: CompileClient, way: str, look: bool
) -> None:
    """Whole collections, joined instead of run; also where the TEE must ask the joiner."""
    soft, loopback = ("--driver", "soft"), ("--driver", "loopback")
    serve("one", *loopback, look=look)
    serve("two", *loopback, *soft, "--ta-dir", SERVICES, look=look)
    serve("three", *soft, *loopback, "--ta-dir", SERVICES, look=look)
    sources = {
        "one": ["shm.c", "ioctls.c"],
        "two": ["shm_lifetime.c", "supplicant.c"],
        "three": ["waits.c", "contexts.c", "processes.c", "registered.c"],
    }
    for name, clients in sources.items():
        for source in clients:
            lines = finished(name, [compile_client(source)], way=way)
            results = [line for line in lines if line.startswith(("ok ", "not ok "))]
            assert results, source
            assert not [line for line in results if line.startswith("not ok ")], source


# Ends


@pytest.mark.parametrize(
    ("script", "status"), [("exit 7", 7), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
)
def test_exit_status(serve: Serve, way: str, script: str, status: int) -> None:
    serve()
    assert finished("test", ["sh", "-c", script], way=way, status=status) == []


def test_no_such_program(serve: Serve) -> None:
    served = serve()
    check_refused(gentee("run", "--tee", "test", "--", "./nothing-here"), "cannot run", status=127)
    served.wait_left()


def test_signals_are_the_programs(serve: Serve, way: str) -> None:
    serve()
    script = "trap 'echo got; exit 5' TERM; echo ready; while :; do read line; done"
    joined = Joined("test", ["sh", "-c", script], way=way)
    assert joined.line() == "ready"
    joined.send_signal(signal.SIGTERM)
    assert joined.line() == "got"
    joined.finish()
    assert joined.returncode == 5


def test_the_program_is_killed(serve: Serve, client: Path, way: str) -> None:
    served = serve("test", "--ta-dir", SERVICES)
    joined = Joined("test", ["sh", "-c", f"echo $$; exec {client} wait"], way=way)
    pid = int(joined.line())
    assert joined.line() == "waiting"
    os.kill(pid, signal.SIGKILL)
    joined.finish()
    assert joined.returncode == 137
    served.wait_left()
    assert finished("test", [client, "count", "1"]) == ["1"]


def test_the_joiner_is_killed(serve: Serve, client: Path, way: str) -> None:
    served = serve("test", "--ta-dir", SERVICES)
    joined = Joined("test", [client, "wait"], way=way)
    assert joined.line() == "waiting"
    joined.kill()  # the program's calls end, whatever becomes of it
    out, _messages = joined.finish()
    assert out.strip() in ("", *GONE)
    served.wait_left()
    assert finished("test", [client, "count", "1"]) == ["1"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("doing", ["hold", "wait"])
def test_the_tee_ends_first(serve: Serve, client: Path, way: str, number: int, doing: str) -> None:
    """Calls fail, none hangs, and the program goes on to its end."""
    served = serve("test", "--ta-dir", SERVICES)
    joined = Joined("test", [client, doing], way=way)
    assert joined.line() == ("open" if doing == "hold" else "waiting")
    status = served.end(number)
    assert status == (0 if number == signal.SIGTERM else -number)
    assert joined.stderr is not None
    line = joined.stderr.readline()
    out, messages = joined.finish()
    assert joined.returncode == 0, messages
    assert out.splitlines()[0] in GONE
    if doing == "hold":
        assert out.splitlines()[1] == "files open"
    assert line.startswith("gentee: ")
    assert "has ended" in line
    assert messages == ""


def test_what_a_program_leaves_behind(serve: Serve, way: str, tmp_path: Path) -> None:
    """A daemon of a program that has ended can open files, also after the TEE's end."""
    served = serve()
    go, done = tmp_path / "go", tmp_path / "done"
    for fifo in (go, done):
        os.mkfifo(fifo)
    script = 'exec </dev/null >/dev/null 2>&1; (read line <"$1"; echo "$line" >"$2") &'
    finished("test", ["sh", "-c", script, "sh", go, done], way=way)
    served.wait_left()
    assert served.end() == 0
    echo = 'echo "go on" >"$1"; cat "$2"'
    result = subprocess.run(
        ["sh", "-c", echo, "sh", go, done], capture_output=True, text=True, timeout=PATIENCE
    )
    assert result.stdout == "go on\n"


def test_asked_to_stop(serve: Serve, client: Path) -> None:
    served = serve()
    joined = Joined("test", [client, "hold"])
    assert joined.line() == "open"
    served.ask(control.STOP)
    assert served.process.wait(PATIENCE) == 0
    out, messages = joined.finish()
    assert joined.returncode == 0, messages
    assert out.splitlines()[0] in GONE
    assert not (served.folder / "socket").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it(serve: Serve, number: int) -> None:
    served = serve()
    assert served.end(number) == 0
    assert "Traceback" not in served.messages()
    check_refused(gentee("run", "--tee", "test", "--", "true"), "gentee serve test")


# Names and users


def test_no_such_tee() -> None:
    check_refused(gentee("run", "--tee", "nobody", "--", "true"), "'nobody'", "gentee serve nobody")


def test_no_name() -> None:
    check_refused(gentee("run", "--tee", "../x y", "--", "true"))
    check_refused(gentee("serve", ".."), "cannot be the name")


def test_a_socket_that_was_left(serve: Serve, client: Path) -> None:
    killed = serve()
    killed.end(signal.SIGKILL)
    assert (killed.folder / "socket").exists()
    check_refused(gentee("run", "--tee", "test", "--", "true"), "gentee serve test")
    serve()
    assert finished("test", [client, "count", "1"]) == ["1"]


def test_two_of_one_name(serve: Serve, client: Path) -> None:
    first = serve()
    second = gentee("serve", "test")
    check_refused(second, str(first.pid), "gentee run --tee")
    assert finished("test", [client, "count", "1"]) == ["1"]


def test_two_of_two_names(serve: Serve, client: Path) -> None:
    serve("one")
    serve("two")
    assert finished("one", [client, "count", "1"]) == ["1"]
    assert finished("two", [client, "count", "2"]) == ["1", "2"]


@pytest.mark.parametrize(
    "option", [["--driver", "soft"], ["--ta-dir", "."], ["--reg-mem"], ["--ephemeral"]]
)
def test_the_tee_is_made_elsewhere(option: list[str]) -> None:
    """What a TEE is made of is no business of who joins it."""
    result = gentee("run", "--tee", "test", *option, "--", "true")
    check_refused(result, option[0], status=2)


@pytest.mark.root
def test_another_user(serve: Serve, tmp_path: Path) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv")
    served = serve()
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    result = subprocess.run(
        [
            *command,
            sys.executable,
            "-m",
            "gentee",
            "run",
            "--tee",
            str(served.folder),
            "--",
            "true",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
        cwd="/",
    )
    check_refused(result, "somebody else")
    assert served.process.poll() is None
