# SPDX-License-Identifier: BSD-2-Clause
"""Programs under ``gentee run``: compiled clients, both ways to a device, and cases written in C.

A client in ``tests/clients`` is either a plain program or a collection of cases (``CASE(name)``,
see ``tee_client.h``). A test of a collection is marked with it and has the fixture ``run_case``::

    @pytest.mark.client("ioctls.c", "--driver", "loopback")
    def test_ioctls(run_case: Callable[[], None]) -> None:
        run_case()

It becomes one test for each case and way. The collection itself runs once for each way, under one
gentee, so that what one case leaves behind would show in the next.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import pytest

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "tests" / "clients"
SERVICES = ROOT / "tests" / "services"
EXAMPLES = ROOT / "gentee" / "examples"

WAYS = ("namespace", "open")
PATIENCE = 120.0  # seconds for a whole run; one that takes so long has failed

_CASE = re.compile(r"^CASE\((\w+)\)", re.MULTILINE)
_LINE = re.compile(r"(ok|not ok) (\w+)(?:: (.*))?(?: # SKIP (.*))?")


class GenteeRun(Protocol):
    """The type of :func:`gentee_run`."""

    def __call__(
        self,
        argv: Sequence[str | Path],
        *,
        options: Sequence[str | Path] = (),
        way: str | None = None,
        timeout: float = PATIENCE,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]: ...


class CompileClient(Protocol):
    """The type of :func:`compile_client`."""

    def __call__(self, source_name: str, *, flags: Sequence[str] = ()) -> Path: ...


@cache
def _why_no_namespace() -> str:
    """Why this user cannot have a ``/dev`` of its own; empty if it can."""
    from gentee.linux.namespaces import enter_mount_namespace

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            enter_mount_namespace()
        except BaseException as error:
            os.write(writer, (str(error) or repr(error)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        why = pipe.read()
    os.waitpid(child, 0)
    return why


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Each of the two ways in which a program can find its device."""
    chosen: str = request.param
    if chosen == "namespace" and (why := _why_no_namespace()):
        pytest.skip(f"no mount namespace here: {why}")
    return chosen


def _gentee_run(
    argv: Sequence[str | Path],
    *,
    options: Sequence[str | Path] = (),
    way: str | None = None,
    timeout: float = PATIENCE,
    env: Mapping[str, str] | None = None,
    input: str | None = None,
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gentee", "run", *map(str, options)]
    if way is not None:
        command += ["--device-way", way]
    command += ["--", *map(str, argv)]
    environment = {**os.environ, **(env or {})}
    # A checkout that is not installed works too; what the test asks for comes first.
    paths = [environment.get("PYTHONPATH", ""), str(ROOT)]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        process_group=0,
    )
    try:
        stdout, stderr = process.communicate(input, timeout)
    except BaseException as error:
        # The client and its children are in the group; gentee's own processes end with gentee.
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            pytest.fail(f"{command} took {timeout} s\n--- out\n{stdout}\n--- err\n{stderr}")
        raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


@pytest.fixture(scope="session")
def gentee_run() -> GenteeRun:
    """``gentee_run(argv)``: run a program under gentee; its status, output and messages."""
    return _gentee_run


@pytest.fixture(scope="session")
def compile_client(tmp_path_factory: pytest.TempPathFactory) -> CompileClient:
    """``compile_client("name.c")``: the program, compiled once a session with strict warnings.

    The program of a source that was compiled with other flags is another one. A compiler that
    fails fails the test; what may be missing on a machine is for the test to find out before.
    """
    built: dict[tuple[str, tuple[str, ...]], Path] = {}
    folder = tmp_path_factory.mktemp("clients")

    def compile_(source_name: str, *, flags: Sequence[str] = ()) -> Path:
        key = (source_name, tuple(flags))
        if key not in built:
            compiler = shutil.which("gcc") or pytest.skip("there is no gcc")
            program = folder / f"{Path(source_name).stem}-{len(built)}"
            strict = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]
            strict += ["-I", str(ROOT / "gentee" / "include")]
            source = str(CLIENTS / source_name)
            finished = subprocess.run(
                [compiler, *strict, source, "-o", str(program), *flags],
                capture_output=True,
                text=True,
            )
            if finished.returncode:
                pytest.fail(finished.stderr, pytrace=False)
            built[key] = program
        return built[key]

    return compile_


# Collections of cases.


class Collection:
    """The results of one run of a collection."""

    def __init__(self, finished: subprocess.CompletedProcess[str]) -> None:
        self.finished = finished
        self.results: dict[str, tuple[str, str, str]] = {}
        for line in finished.stdout.splitlines():
            match = _LINE.fullmatch(line)
            if match is not None:
                result, name, reason, skipped = match.groups(default="")
                self.results[name] = (result, reason, skipped)

    def check(self, case: str) -> None:
        """Pass, skip or fail as ``case`` did."""
        result, reason, skipped = self.results.get(case, ("not ok", "it did not run", ""))
        if skipped:
            pytest.skip(skipped)
        if result != "ok":
            finished = self.finished
            pytest.fail(
                f"{case}: {reason}\n--- status {finished.returncode}, messages:\n{finished.stderr}",
                pytrace=False,
            )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "client(source, *options): the cases of a C program, under gentee with options"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case_name" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("client")
        assert mark is not None, "run_case needs @pytest.mark.client"
        source = (CLIENTS / mark.args[0]).read_text(encoding="utf-8")
        metafunc.parametrize("case_name", _CASE.findall(source))


@pytest.fixture(scope="session")
def collections() -> dict[tuple[object, ...], Collection]:
    """The runs so far."""
    return {}


@pytest.fixture
def run_case(
    request: pytest.FixtureRequest,
    way: str,
    case_name: str,
    collections: dict[tuple[object, ...], Collection],
    compile_client: CompileClient,
) -> Callable[[], None]:
    """Look at one case of the collection that the test is marked with."""

    def check() -> None:
        mark = request.node.get_closest_marker("client")
        source, *options = mark.args
        key = (way, source, *options)
        if key not in collections:
            program = compile_client(source)
            collections[key] = Collection(_gentee_run([program], options=options, way=way))
        collections[key].check(case_name)

    return check
