# SPDX-License-Identifier: BSD-2-Clause
"""``gentee task``: its parameters, its results, and the TEEs that it asks."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gentee.cli.main import main
from gentee.cli.task_params import hexdump, lines_of, parse_param
from gentee.client import INOUT, INPUT, OUTPUT, Out, TempRef, Value
from gentee.errors import UserError
from tests.signing import UUID, key_file, signed, source

ROOT = Path(__file__).parents[2]
PATIENCE = 60  # seconds
ECHO = "3f1b8f5e-6a3d-4c0e-8f0b-2d9c1a7e5b10"

Finished = subprocess.CompletedProcess[str]

PROBE = """\
import time

from gentee.ta import (
    TEE_PROPSET_CURRENT_CLIENT, IMSG, Cancel, TEE_GetPropertyAsIdentity, TEE_UnmaskCancellation,
    TEE_Wait, TrustedApplication,
)


class Probe(TrustedApplication):
    uuid = "7c1d6d52-0a4e-4c37-9d5a-6d1b0c9f4e11"
    name = "probe"
    apis = ("com.example.PROBE",)

    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        if command_id == 0:  # what it was given
            params[3].a = param_types
            params[0].a, params[0].b = params[0].b, params[0].a
            params[1].write(bytes(params[1])[::-1])
        elif command_id == 1:  # who asks
            identity = TEE_GetPropertyAsIdentity(TEE_PROPSET_CURRENT_CLIENT, "gpd.client.identity")
            params[0].a = identity.login
        elif command_id == 2:  # waits until it is cancelled
            TEE_UnmaskCancellation()
            IMSG("waiting")
            TEE_Wait(0xFFFFFFFF)
        else:  # heeds nothing
            IMSG("waiting")
            while True:
                time.sleep(0.01)
"""


@pytest.fixture
def services(tmp_path: Path) -> Path:
    folder = tmp_path / "services"
    folder.mkdir()
    (folder / "probe.py").write_text(PROBE)
    return folder


def environment() -> dict[str, str]:
    paths = [os.environ.get("PYTHONPATH", ""), str(ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "gentee", "task", *map(str, arguments)]


def task(*arguments: str | Path) -> Finished:
    return subprocess.run(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
    )


# Parameters


def test_parameters(tmp_path: Path) -> None:
    value = parse_param("value:7,0x10")
    assert isinstance(value, Value)
    assert (value.a, value.b, value.direction) == (7, 16, INPUT)
    value = parse_param("value-inout:0xFFFFFFFF")
    assert isinstance(value, Value)
    assert (value.a, value.b, value.direction) == (0xFFFFFFFF, 0, INOUT)
    value = parse_param("value-out")
    assert isinstance(value, Value)
    assert value.direction == OUTPUT
    assert parse_param("none") is None
    out = parse_param("out:0x20")
    assert isinstance(out, Out)
    assert out.size == 32
    (tmp_path / "file").write_bytes(b"\0content")
    for word, content in (
        ("text", b"text"),
        ("", b""),
        ("a:b,c", b"a:b,c"),
        ("hex:00fF", b"\0\xff"),
        (f"@{tmp_path / 'file'}", b"\0content"),
    ):
        for kind, direction in (("in", INPUT), ("inout", INOUT)):
            param = parse_param(f"{kind}:{word}")
            assert isinstance(param, TempRef)
            assert param.buffer is not None
            assert (bytes(param.buffer), param.direction) == (content, direction)


@pytest.mark.parametrize(
    "word",
    ["", "value", "value:", "value:1,2,3", "value:-1", "value:4294967296", "value:1_0", "value:0x",
     "value:0xg", "out", "out:", "out:-1", "out:999999999999", "out:x", "in", "inout", "hex:00",
     "in:hex:0", "in:hex:xy", "none:", "value-out:1", "IN:x", "value:\u0661"],
)  # fmt: skip
def test_no_parameter(word: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_param(word)
    assert raised.value.status == 2
    assert raised.value.hint


def test_file_of_a_parameter_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        parse_param(f"in:@{tmp_path / 'nothing'}")


def test_what_is_shown() -> None:
    assert lines_of(2, Value(42, 0, OUTPUT)) == ["2: value 42 (0x2a), 0 (0x0)"]
    assert lines_of(0, Value(1, 2, INPUT)) == lines_of(0, None) == []
    assert lines_of(0, TempRef(b"input")) == []
    out = Out(64)
    for data, lines in (
        (b"", ["0: 0 bytes"]),
        (b"x", ["0: 1 byte: x"]),
        ("\u00fcber\n".encode(), ["0: 6 bytes: \u00fcber"]),
    ):
        out.data, out.out_size = data, len(data)
        assert lines_of(0, out) == lines
    out.data = b"two\nlines"
    assert lines_of(0, out)[1] == f"  00000000  {'74 77 6f 0a 6c 69 6e 65 73':<47}  two.lines"
    out.data = b"\x1b[31m"  # would drive a terminal
    assert "\x1b" not in "".join(lines_of(0, out))
    assert hexdump(bytes(range(20)))[1].startswith("  00000010  10 11 12 13 ")


# A TEE in this program


def test_results_of_all_kinds(services: Path) -> None:
    params = ["value-inout:1,0xff", "inout:abc", "none", "value-out"]
    finished = task("probe", "0", *params, "--ta-dir", services)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.splitlines() == [
        "0: value 255 (0xff), 1 (0x1)",
        "1: 3 bytes: cba",
        f"3: value {0x2073} (0x2073), 0 (0x0)",
    ]


@pytest.mark.parametrize("service", ["echo", ECHO, "api:GP_TEEv1.3"])
def test_ways_to_name_a_service(service: str) -> None:
    number = "0" if service != "api:GP_TEEv1.3" else "1"  # the first of all is the counter
    params = ["in:hello", "out:9"] if number == "0" else []
    finished = task(service, number, *params, "-q")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == ("1: 5 bytes: hello\n" if params else "")


def test_api_of_a_service(services: Path) -> None:
    finished = task("api:com.example.PROBE", "1", "value-out", "--ta-dir", services)
    assert finished.stdout == "0: value 0 (0x0), 0 (0x0)\n"


def test_login(services: Path) -> None:
    for login, number in (("user", 1), ("group", 2), ("application", 4)):
        finished = task("probe", "1", "value-out", "--ta-dir", services, "--login", login)
        assert finished.stdout == f"0: value {number} (0x{number:x}), 0 (0x0)\n"


def test_lines_of_the_service() -> None:
    assert task("echo", "0", "in:a", "out:1").stderr == "[echo] INFO: 1 bytes echoed\n"
    assert task("echo", "0", "in:a", "out:1", "--quiet").stderr == ""


def test_output_goes_to_a_file(tmp_path: Path) -> None:
    target, source_file = tmp_path / "out", tmp_path / "in"
    source_file.write_bytes(bytes(range(256)) * 300)
    finished = task("echo", "0", f"in:@{source_file}", "out:100000", "-o", target, "-q")
    assert finished.returncode == 0
    assert finished.stdout.startswith("1: 76800 bytes\n  00000000  00 01 02")
    assert target.read_bytes() == source_file.read_bytes()
    finished = task("echo", "2", "-o", tmp_path / "none")
    assert finished.returncode == 1
    assert "not written" in finished.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (
            ["echo", "9"],
            ["gentee: TEE_ERROR_BAD_PARAMETERS (0xffff0006) from TEE_ORIGIN_TRUSTED_APP (4)"],
        ),
        (
            ["echo", "0", "in:hello", "out:2"],
            [
                "gentee: TEE_ERROR_SHORT_BUFFER (0xffff0010) from TEE_ORIGIN_TRUSTED_APP (4)",
                "        parameter 1 wants 5 bytes",
            ],
        ),
        (
            ["12345678-1234-1234-1234-123456789abc", "0"],
            [
                "gentee: TEE_ERROR_ITEM_NOT_FOUND (0xffff0008) from TEE_ORIGIN_TEE (3)",
                "        'gentee ls' shows the services that there are",
            ],
        ),
        (
            ["nobody", "0"],
            [
                "gentee: TEE_ERROR_ITEM_NOT_FOUND (0xffff0008) from TEE_ORIGIN_API (1): "
                "no service nobody",
                "        'gentee ls' shows the services that there are",
            ],
        ),
    ],
)
def test_other_results(arguments: list[str], lines: list[str]) -> None:
    finished = task(*arguments)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr.splitlines() == lines


def test_json() -> None:
    finished = task("--json", "-q", "echo", "0", "in:hi", "out:9")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert json.loads(finished.stdout) == {
        "result": 0,
        "result_name": "TEE_SUCCESS",
        "origin": 4,
        "origin_name": "TEE_ORIGIN_TRUSTED_APP",
        "params": [None, {"size": 2, "hex": "6869"}],
    }
    finished = task("--json", "-q", "echo", "0", "in:hi", "out:1")
    assert finished.returncode == 1
    found = json.loads(finished.stdout)
    assert (found["result"], found["origin"]) == (0xFFFF0010, 4)
    assert found["params"][1]["size"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "task: no service"),
        (["echo"], "task: no command to invoke"),
        (["echo", "x"], "COMMAND: 'x' is no number from 0 to 4294967295"),
        (["echo", "0", *["none"] * 5], "task: 5 parameters"),
        (["echo", "0", "out"], "parameter 'out': of no form that is known"),
        (["echo", "0", "--tee", "a", "--key", "b"], "task: --tee and --key mean different TEEs"),
        (["echo", "0", "--device", "a", "--tee", "b"], "task: --tee and --device mean different"),
        (["echo", "0", "--state", "a", "--ephemeral"], "--state and --ephemeral"),
        (["echo", "0", "--strict"], "strict without a key accepts nothing"),
        (["echo", "0", "--login", "root"], "task: --login cannot be 'root'"),
    ],
)
def test_wrong_command_lines(
    capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["task", *arguments]) == 2
    assert capfd.readouterr().err.startswith(f"gentee: {message}")


def test_installed_services(tmp_path: Path) -> None:
    """It has the state of plain gentee run, or another one, or none."""
    path = tmp_path / "image"
    path.write_bytes(signed(source()))
    public = key_file(tmp_path)
    for options in ([], ["--state", str(tmp_path / "state")]):
        load = [sys.executable, "-m", "gentee", "load", str(path), "--key", public, *options]
        subprocess.run(load, check=True, stdout=subprocess.DEVNULL, env=environment())
        finished = task(UUID, "0", "value-out", "--key", public, "--strict", *options)
        assert (finished.stdout, finished.stderr) == ("0: value 1 (0x1), 0 (0x0)\n", "")
    # By the keys of this call.
    finished = task(UUID, "0", "value-out")
    assert "TEE_ERROR_SECURITY" in finished.stderr
    finished = task("signed", "0", "value-out", "--ephemeral", "--key", public)
    assert "no service signed" in finished.stderr


def test_the_state_is_taken(tmp_path: Path) -> None:
    from gentee.device.state_dir import folder_of, own_state

    state = own_state(folder_of("default"))
    finished = task("echo", "2")
    assert finished.returncode == 0
    assert finished.stderr.startswith(f"gentee: state folder {state.path}: a TEE has it already")
    assert finished.stderr.endswith("; this run keeps nothing\n")
    assert task("echo", "2", "--state", state.path).returncode == 1
    state.close()


# Ctrl-C


def begin(*arguments: str | Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line == "[probe] INFO: waiting\n":
            return process
    pytest.fail("the service did not start to wait")


def test_interrupted(services: Path) -> None:
    process = begin("probe", "2", "--ta-dir", services)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert err == "gentee: TEE_ERROR_CANCEL (0xffff0002) from TEE_ORIGIN_TRUSTED_APP (4)\n"


def test_interrupted_twice(services: Path) -> None:
    """A service that heeds nothing does not keep the command."""
    process = begin("probe", "3", "--ta-dir", services)
    while process.poll() is None:  # at which of them it ends is not known: two may be one
        process.send_signal(signal.SIGINT)
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            pass
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130


# Other TEEs


def test_inside_a_run(gentee_run: Any, way: str, services: Path) -> None:
    script = " && ".join(
        [sys.executable + " -m gentee task counter 0 value-out"] * 2
        + [sys.executable + " -m gentee task --device /dev/tee0 probe 1 value-out --login user"]
    )
    finished = gentee_run(["sh", "-c", script], way=way, options=["-q", "--ta-dir", services])
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.splitlines() == [
        "0: value 1 (0x1), 1 (0x1)",
        "0: value 1 (0x1), 2 (0x2)",  # the same TEE, which kept its instance
        "0: value 1 (0x1), 0 (0x0)",
    ]


def test_a_device_that_is_none(tmp_path: Path) -> None:
    finished = task("echo", "2", "--device", tmp_path / "tee0")
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"gentee: {tmp_path / 'tee0'}: No such file or directory\n")
    assert task("echo", "2", "--device", "/dev/null").returncode == 1


def test_the_loopback_driver(gentee_run: Any) -> None:
    """Any device that can do tasks, not only that of the software TEE."""
    argv = [sys.executable, "-m", "gentee", "task", "loopback", "2", "value-inout:41"]
    finished = gentee_run(argv, options=["--driver", "loopback"])
    assert (finished.returncode, finished.stdout) == (0, "0: value 42 (0x2a), 1 (0x1)\n")
