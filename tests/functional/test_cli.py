# SPDX-License-Identifier: BSD-2-Clause
"""The command as people meet it: statuses, messages, listings, and lines of services."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from gentee import __version__
from gentee.abi.linux_tee import TEE_GEN_CAP_REG_MEM, TEE_IMPL_ID_OPTEE, TEE_IOC_VERSION
from gentee.cli import doctor, load, ls, run, task, unload, version
from gentee.cli.main import COMMANDS, main
from gentee.cli.options import Command
from gentee.drivers.loopback.core import LOOPBACK_IMPL_ID
from gentee.errors import UserError

ROOT = Path(__file__).parents[2]
PATIENCE = 60  # seconds; a command that takes so long has failed
ESCAPE = "\x1b"

Finished = subprocess.CompletedProcess[str]


class GenteeRun(Protocol):
    def __call__(
        self, argv: Sequence[str | Path], *, options: Sequence[str | Path] = (), **more: Any
    ) -> Finished: ...


def environment() -> dict[str, str]:
    paths = [os.environ.get("PYTHONPATH", ""), str(ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def gentee(*arguments: str | Path) -> Finished:
    """A command other than ``gentee run``, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "gentee", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
    )


def lines_of(finished: Finished) -> list[str]:
    """Of standard error, which is all that there is."""
    assert finished.stdout == ""
    return finished.stderr.splitlines()


# The program and its status.


@pytest.mark.parametrize("status", [0, 1, 77, 255])
def test_status_is_the_programs(gentee_run: GenteeRun, status: int) -> None:
    assert gentee_run(["sh", "-c", f"exit {status}"]).returncode == status


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGSEGV", "SIGINT", "SIGPIPE"])
def test_status_of_a_signal(gentee_run: GenteeRun, name: str) -> None:
    number = signal.Signals[name]
    finished = gentee_run(["sh", "-c", f"ulimit -c 0; kill -{number.value} $$"])
    assert finished.returncode == 128 + number
    assert finished.stderr == ""


def test_input_and_output_are_the_programs(gentee_run: GenteeRun) -> None:
    finished = gentee_run(["cat"], input="one\ntwo\n")
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "one\ntwo\n", "")


def test_unknown_program(gentee_run: GenteeRun) -> None:
    finished = gentee_run(["no-such-program"])
    assert finished.returncode == 127
    line, hint = lines_of(finished)
    assert line == "gentee: cannot run 'no-such-program': No such file or directory"
    assert "PATH" in hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter any folder")
def test_unknown_program_and_a_closed_folder(gentee_run: GenteeRun, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0)
    finished = gentee_run(["no-such-program"], env={"PATH": f"{closed}:{os.environ['PATH']}"})
    assert finished.returncode == 127


@pytest.mark.parametrize("what", ["folder", "text"])
def test_program_that_is_none(gentee_run: GenteeRun, tmp_path: Path, what: str) -> None:
    path = tmp_path / "it"
    if what == "folder":
        path.mkdir()
    else:
        path.write_text("no program")
    finished = gentee_run([path])
    assert finished.returncode == 126
    line, hint = lines_of(finished)
    assert line.startswith(f"gentee: cannot run '{path}': ")
    assert "chmod +x" in hint


def test_no_program() -> None:
    for arguments in ([], ["--"], ["--verbose"]):
        finished = gentee("run", *arguments)
        assert finished.returncode == 2
        assert lines_of(finished) == [
            "gentee: run: no program to run",
            "        such as: gentee run -- ./client",
        ]


def test_options_end_at_the_program() -> None:
    for arguments in (["echo", "--verbose", "-q"], ["--", "echo", "--verbose", "-q"]):
        finished = gentee("run", *arguments)
        assert (finished.returncode, finished.stdout) == (0, "--verbose -q\n")
        assert finished.stderr == ""


def test_a_program_within_a_program(gentee_run: GenteeRun) -> None:
    """A second gentee says why it cannot work there, and doctor says so too."""
    inner = [sys.executable, "-m", "gentee"]
    finished = gentee_run([*inner, "run", "--", "true"])
    assert finished.returncode == 1
    assert "another program already listens" in lines_of(finished)[0]
    finished = gentee_run([*inner, "doctor", "--json"])
    report = json.loads(finished.stdout)
    assert finished.returncode == 1
    assert report["can_run"] is False
    by_name = {check["name"]: check for check in report["checks"]}
    assert by_name["notification"]["result"] == "missing"
    assert "another program" in by_name["notification"]["meaning"]


# Options of run.

SHOW_DEVICES = f"""\
import fcntl, os, struct
for name in ("tee0", "tee1", "tee2"):
    try:
        data = bytearray(12)
        fcntl.ioctl(os.open(f"/dev/{{name}}", os.O_RDWR), {TEE_IOC_VERSION:#x}, data)
        print(name, *struct.unpack("<III", data))
    except FileNotFoundError:
        print(name, "none")
"""


def devices(finished: Finished) -> dict[str, list[int]]:
    """What SHOW_DEVICES found: implementation and capabilities by name."""
    assert finished.returncode == 0, finished.stderr
    rows = [line.split() for line in finished.stdout.splitlines()]
    return {row[0]: [int(word) for word in row[1:]] for row in rows if row[1] != "none"}


def test_drivers_are_numbered_in_order(gentee_run: GenteeRun, way: str) -> None:
    drivers = ["--driver", "loopback", "--driver=soft"]
    finished = gentee_run([sys.executable, "-c", SHOW_DEVICES], options=drivers, way=way)
    found = devices(finished)
    assert found.keys() == {"tee0", "tee1"}
    assert found["tee0"][0] == LOOPBACK_IMPL_ID
    assert found["tee1"][0] == TEE_IMPL_ID_OPTEE


def test_one_soft_tee_by_default(gentee_run: GenteeRun) -> None:
    found = devices(gentee_run([sys.executable, "-c", SHOW_DEVICES]))
    assert found.keys() == {"tee0"}
    assert found["tee0"][0] == TEE_IMPL_ID_OPTEE
    assert not found["tee0"][2] & TEE_GEN_CAP_REG_MEM
    found = devices(gentee_run([sys.executable, "-c", SHOW_DEVICES], options=["--reg-mem"]))
    assert found["tee0"][2] & TEE_GEN_CAP_REG_MEM


def test_short_programs_are_quiet(gentee_run: GenteeRun, way: str) -> None:
    """The TEE may still be starting when they end: nothing of it is left to complain."""
    for _ in range(5):
        finished = gentee_run([sys.executable, "-c", SHOW_DEVICES], way=way)
        assert devices(finished).keys() == {"tee0"}
        assert finished.stderr == ""


def test_unknown_driver(gentee_run: GenteeRun) -> None:
    finished = gentee_run(["true"], options=["--driver", "softt"])
    assert finished.returncode == 1
    assert lines_of(finished)[0] == "gentee: no driver 'softt'"
    assert "soft, loopback" in lines_of(finished)[1]


def test_verbose(gentee_run: GenteeRun, way: str) -> None:
    finished = gentee_run(["true"], options=["-v"], way=way)
    assert lines_of(finished) == [f"gentee: devices tee0, teepriv0 by way of {way}"]


def test_without_namespaces() -> None:
    """Where a user may not have a namespace, auto takes the other way, and doctor says so."""
    # In there nobody has a user id, and without one there are no further namespaces.
    nobody = ["unshare", "--user"]
    try:
        subprocess.run([*nobody, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no user namespace to try it in")

    def there(*arguments: str) -> Finished:
        command = [*nobody, sys.executable, "-m", "gentee", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, env=environment()
        )

    finished = there("run", "--verbose", "--", sys.executable, "-c", SHOW_DEVICES)
    assert devices(finished).keys() == {"tee0"}
    why, way = finished.stderr.splitlines()
    assert why.startswith("gentee: no mount namespace: unshare: ")
    assert way == "gentee: devices tee0, teepriv0 by way of open"

    finished = there("run", "--device-way", "namespace", "--", "true")
    assert finished.returncode == 1
    assert lines_of(finished)[0].endswith(
        "refuses what gentee needs: unshare: Operation not permitted"
    )

    finished = there("doctor", "--json")
    assert finished.returncode == 0
    report = json.loads(finished.stdout)
    assert report["way"] == "open"
    by_name = {check["name"]: check for check in report["checks"]}
    assert by_name["namespace"]["result"] == by_name["device way"]["result"] == "limited"
    assert by_name["run, open way"]["result"] == "ok"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--drivr", "soft"], "gentee: run: unknown option '--drivr'"),
        (["--driver"], "gentee: run: --driver needs a value: NAME"),
        (["--device-way", "road"], "gentee: run: --device-way cannot be 'road'"),
        (["--log-level=all"], "gentee: run: --log-level cannot be 'all'"),
    ],
)
def test_wrong_options(arguments: list[str], message: str) -> None:
    finished = gentee("run", *arguments)
    assert finished.returncode == 2
    line, hint = lines_of(finished)
    assert line == message
    assert hint.startswith("        ")


def test_folder_of_services_that_is_none(gentee_run: GenteeRun, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder, reason in (
        (tmp_path / "nowhere", "No such file or directory"),
        (file, "Not a directory"),
    ):
        for finished in (
            gentee_run(["true"], options=["--ta-dir", folder]),
            gentee("ls", "--ta-dir", folder),
        ):
            assert finished.returncode == 1
            assert lines_of(finished)[0] == f"gentee: --ta-dir {folder}: {reason}"


# Services and their lines.

TALKER = str(uuid.UUID(int=0x74616C6B6572))
TALKER_SOURCE = f'''\
from gentee.ta import DMSG, EMSG, FMSG, IMSG, TrustedApplication


class Talker(TrustedApplication):
    uuid = "{TALKER}"
    name = "talker"
    version = 3
    description = "talks\\x1b[31m a lot"
    single_instance = True
    multi_session = True

    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        EMSG("the error")
        IMSG("the information")
        DMSG("the detail")
        FMSG("the flow")
        IMSG("colours \\x1b[31mand\\x07 bells, \\u00fcml\\u00e4uts")
        print("printed")
'''
TALK = f"""\
from gentee.client import Context
with Context() as context, context.open_session("{TALKER}") as session:
    session.invoke(0)
"""


@pytest.fixture
def services(tmp_path: Path) -> Path:
    """A folder with one service that logs at each level."""
    folder = tmp_path / "services"
    folder.mkdir()
    (folder / "talker.py").write_text(TALKER_SOURCE)
    return folder


def talk(gentee_run: GenteeRun, services: Path, *options: str) -> list[str]:
    finished = gentee_run([sys.executable, "-c", TALK], options=["--ta-dir", services, *options])
    assert finished.returncode == 0, finished.stderr
    return lines_of(finished)


def test_lines_of_services(gentee_run: GenteeRun, services: Path) -> None:
    """They appear by default, with name and level, and cannot drive the terminal."""
    assert talk(gentee_run, services) == [
        "[talker] ERROR: the error",
        "[talker] INFO: the information",
        "[talker] DEBUG: the detail",
        "[talker] INFO: colours \\x1b[31mand\\x07 bells, \u00fcml\u00e4uts",
        "[talker] INFO: printed",
    ]


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        (["--log-level", "error"], {"ERROR"}),
        (["--log-level", "info"], {"ERROR", "INFO"}),
        (["--log-level", "debug"], {"ERROR", "INFO", "DEBUG"}),
        (["--log-level", "flow"], {"ERROR", "INFO", "DEBUG", "FLOW"}),
        (["--quiet"], set()),
    ],
)
def test_log_level(
    gentee_run: GenteeRun, services: Path, options: list[str], levels: set[str]
) -> None:
    lines = talk(gentee_run, services, *options)
    assert {re.match(r"\[talker\] (\w+): ", line)[1] for line in lines} == levels  # type: ignore[index]


def test_files_that_are_no_services(gentee_run: GenteeRun, services: Path) -> None:
    (services / "broken.py").write_text("class Broken(TrustedApplication:\n")
    (services / "nameless.py").write_text("class Nameless(TrustedApplication):\n    pass\n")
    (services / "helper.py").write_text("import os\n")
    (services / "notes.txt").write_text("not looked at")
    warnings = [line for line in talk(gentee_run, services) if line.startswith("gentee: ")]
    assert len(warnings) == 2
    for name, line in zip(("broken", "nameless"), warnings, strict=True):
        assert line.startswith(f"gentee: not offered: {services}/{name}.py: ")


# Colour.


def on_a_terminal(command: Sequence[str | Path], **variables: str) -> tuple[int, str]:
    """Run with a terminal as standard output and error; the status, and what it showed."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
        env={**environment(), **variables},
    )
    os.close(slave)
    shown = b""
    try:
        while data := os.read(master, 4096):
            shown += data
    except OSError:  # EIO: the last one has closed it
        pass
    os.close(master)
    return process.wait(PATIENCE), shown.decode()


@pytest.mark.parametrize("forbidden", [False, True])
def test_colour_is_for_terminals(services: Path, forbidden: bool) -> None:
    environ = {"NO_COLOR": "1"} if forbidden else {}
    command = [sys.executable, "-m", "gentee"]
    for arguments in (
        ["ls"],
        ["doctor"],
        ["run", "--ta-dir", str(services), "--", sys.executable, "-c", TALK],
    ):
        _status, shown = on_a_terminal([*command, *arguments], **environ)
        assert (ESCAPE in shown) is not forbidden
    # Even there, what a service says stays text.
    assert "\\x1b[31mand\\x07" in shown


def test_no_colour_elsewhere() -> None:
    for arguments in (["ls"], ["doctor"], ["--help"], ["run", "--help"], ["version"]):
        finished = gentee(*arguments)
        assert finished.returncode == 0
        assert ESCAPE not in finished.stdout + finished.stderr


# ls, doctor, version.


def test_ls(services: Path) -> None:
    finished = gentee("ls", "--ta-dir", services)
    assert (finished.returncode, finished.stderr) == (0, "")
    head, *rows = finished.stdout.splitlines()
    assert head.split() == ["UUID", "NAME", "VERSION", "FLAGS", "DESCRIPTION", "FILE"]
    talker, counter, echo, integrity, keystore, signer, empty, drivers = rows
    assert talker.split() == [
        *[TALKER, "talker", "3", "single,multi"],
        *["talks\\x1b[31m", "a", "lot", str(services / "talker.py")],
    ]
    names = [row.split()[1] for row in (counter, echo, integrity, keystore, signer)]
    assert names == ["counter", "echo", "integrity", "keystore", "signer"]
    assert empty == ""
    assert drivers.startswith("drivers: soft, loopback")
    # The columns are aligned.
    for name in ("NAME", "VERSION", "FLAGS", "FILE"):
        at = head.index(name)
        assert all(row[at - 1] == " " != row[at] for row in rows[:5])


@pytest.mark.parametrize("arguments", [["ls"], ["ls", "--json"], ["run", "--help"], ["version"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_to_a_full_disk(arguments: list[str], unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        finished = subprocess.run(
            [sys.executable, "-m", "gentee", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
        )
    assert finished.returncode == 1
    assert finished.stderr == "gentee: output: No space left on device\n"


@pytest.mark.parametrize(
    "arguments",
    [["ls"], ["ls", "--json"], ["run", "--help"], ["version"], ["doctor"], ["abi", "types"]],
)
@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_output_to_nowhere(arguments: list[str], closed: str) -> None:
    command = shlex.join([sys.executable, "-m", "gentee", *arguments])
    finished = subprocess.run(
        ["sh", "-c", f"exec {command} {closed}"], capture_output=True, env=environment()
    )
    assert (finished.returncode, finished.stderr) == (0, b"")


@pytest.mark.parametrize(
    "option", [("--memory-limit", "8"), ("--memory-limit", "much"), ("--cpu-limit", "-1")]
)
def test_limits_that_are_none(option: tuple[str, str]) -> None:
    finished = gentee("run", *option, "--", "true")
    line, hint = finished.stderr.splitlines()
    assert finished.returncode == 2
    assert line.startswith(f"gentee: {option[0]} {option[1]}: not a number of ")
    assert hint.strip().startswith(f"such as: {option[0]} ")


def test_ls_json(services: Path) -> None:
    (services / "broken.py").write_text("class Broken(TrustedApplication): pass\n")
    finished = gentee("ls", "--json", "--ta-dir", services)
    assert (finished.returncode, finished.stderr) == (0, "")
    found = json.loads(finished.stdout)
    assert found.keys() == {"services", "drivers", "problems"}
    assert found["services"][0] == {
        "uuid": TALKER,
        "name": "talker",
        "version": 3,
        "flags": ["single", "multi"],
        "description": "talks\x1b[31m a lot",
        "file": str(services / "talker.py"),
        "apis": ["GP_TEEv1.3"],
        "installed": False,
        "signer": "",
        "state": "",
        "sessions": 0,
    }
    names = [service["name"] for service in found["services"]]
    assert names == ["talker", "counter", "echo", "integrity", "keystore", "signer"]
    assert found["drivers"][:2] == ["soft", "loopback"]
    (problem,) = found["problems"]
    assert problem.startswith(str(services / "broken.py"))


def test_ls_tells_problems(services: Path) -> None:
    (services / "bro\x1bken.py").write_text("class Broken(TrustedApplication): pass\n")
    finished = gentee("ls", "--ta-dir", services)
    assert finished.returncode == 0
    (line,) = finished.stderr.splitlines()
    assert line.startswith(f"gentee: not offered: {services}/bro\\x1bken.py: ")


def test_doctor() -> None:
    """This machine passes: these tests run programs all the time."""
    finished = gentee("doctor")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.endswith("\n\n'gentee run' can work here.\n")
    name = max(("run, namespace way", "setuid programs"), key=len)
    assert re.search(rf"^{name} +(ok|limited|missing) +\w", finished.stdout, re.MULTILINE)


def test_doctor_json() -> None:
    finished = gentee("doctor", "--json")
    report = json.loads(finished.stdout)
    assert report.keys() == {"can_run", "way", "checks"}
    assert finished.returncode == (0 if report["can_run"] else 1)
    assert report["way"] in ("namespace", "open")
    names = [check["name"] for check in report["checks"]]
    assert len(names) == len(set(names)) >= 15
    for check in report["checks"]:
        assert check.keys() == {"name", "result", "meaning", "advice"}
        assert check["result"] in ("ok", "limited", "missing")
        assert check["meaning"]
        assert not check["advice"] or check["result"] != "ok"


def test_version() -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    for arguments in (["version"], ["--version"], ["-V"]):
        finished = gentee(*arguments)
        assert finished.returncode == 0
        assert finished.stdout.startswith(f"gentee {__version__} (Python {python}, Linux ")
    assert json.loads(gentee("version", "--json").stdout) == {
        "gentee": __version__,
        "python": python,
        "kernel": os.uname().release,
        "machine": os.uname().machine,
    }


# Help, and what goes wrong.


@pytest.mark.parametrize(
    "command",
    [
        *[run.COMMAND, ls.COMMAND, load.COMMAND, unload.COMMAND, task.COMMAND],
        *[doctor.COMMAND, version.COMMAND],
    ],
    ids=lambda c: c.name,
)
def test_help_of_a_command(command: Command) -> None:
    finished = gentee(command.name, "--help")
    assert (finished.returncode, finished.stderr) == (0, "")
    for option in command.options:
        assert re.search(rf"^ .*{re.escape(option.name)}\b", finished.stdout, re.MULTILINE)
    assert gentee("help", command.name).stdout == finished.stdout
    assert gentee(command.name, "-h").stdout == finished.stdout


def test_help() -> None:
    finished = gentee("--help")
    assert (finished.returncode, finished.stderr) == (0, "")
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", finished.stdout, re.MULTILINE)
    without_command = gentee()
    assert (without_command.returncode, without_command.stderr) == (2, finished.stdout)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("docter", "did you mean 'gentee doctor'?"),
        ("true", "to run it: gentee run -- true"),
        ("xyzzy", f"the commands are {', '.join(COMMANDS)}"),
    ],
)
def test_unknown_command(word: str, hint: str) -> None:
    finished = gentee(word)
    assert finished.returncode == 2
    assert lines_of(finished) == [f"gentee: no command {word!r}", f"        {hint}"]


def in_process(monkeypatch: pytest.MonkeyPatch, what: Callable[[], int]) -> int:
    monkeypatch.setattr("gentee.cli.version.main", lambda _arguments: what())
    return main(["version"])


def test_error_without_a_hint(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise UserError("it is \x1b[31mred\nand long", status=9)

    assert in_process(monkeypatch, fail) == 9
    assert capfd.readouterr().err == "gentee: it is \\x1b[31mred\\x0aand long\n"


def test_interrupt_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> int:
        raise KeyboardInterrupt

    assert in_process(monkeypatch, interrupt) == 130
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("command", ["ls", "doctor", "version", "--help"])
def test_reader_that_has_enough(command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-m", "gentee", command],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    os.close(writer)
    _none, messages = process.communicate(timeout=PATIENCE)
    assert (process.returncode, messages) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]])
def test_closed_standard_streams(services: Path, closed: list[int]) -> None:
    """The program finds them closed too, and nothing of gentee's own takes their numbers."""
    looks = " && ".join(f"! [ -e /proc/self/fd/{fd} ]" for fd in closed)
    client = [sys.executable, "-c", TALK]
    command = [sys.executable, "-m", "gentee", "run", "--ta-dir", str(services), "--"]
    command += ["sh", "-c", f"{shlex.join(client)} && {looks} && exit 5"]
    closes = " ".join(f"{fd}>&-" for fd in closed)
    finished = subprocess.run(
        ["sh", "-c", f"exec {shlex.join(command)} {closes}"],
        capture_output=True,
        timeout=PATIENCE,
        env=environment(),
    )
    assert finished.returncode == 5, finished.stderr


# Start.

HEAVY = {
    "argparse", "ast", "asyncio", "dataclasses", "hashlib", "importlib.metadata", "inspect",
    "json", "logging", "platform", "re", "subprocess", "tempfile", "traceback", "typing",
}  # fmt: skip


def test_start_imports_little() -> None:
    """Each of these costs a good part of an interpreter's own start (``-X importtime``)."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
        "import gentee.cli.main, gentee.cli.run, gentee.device.run, gentee.drivers.soft; "
        "print(*sys.modules)"
    )
    finished = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=PATIENCE
    )
    assert finished.returncode == 0, finished.stderr
    assert not HEAVY.intersection(finished.stdout.split())
