# SPDX-License-Identifier: BSD-2-Clause
"""``gentee run --manifest``: a TEE as a file describes it, and docs/manifest.md."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from gentee.abi.linux_tee import TEE_GEN_CAP_REG_MEM
from tests.functional.conftest import GenteeRun
from tests.functional.test_state import CLIENT, install
from tests.signing import key, public_pem, source, uuid_of

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "manifest.md").read_text(encoding="utf-8")
COMPLETE, PLUG_IN = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)

SHOW = """\
import json, os
from gentee.client import Context
found = {}
for device in ("/dev/tee0", "/dev/tee1"):
    with Context(device) as context:
        found[device] = [context.version[2], [each.name for each in context.services()]]
print(json.dumps(found))
"""


@pytest.fixture
def complete(tmp_path: Path) -> Path:
    """The example of docs/manifest.md with all that it names."""
    folder = tmp_path / "tee"
    for name, number in (("services", 1), ("others", 2)):
        (folder / name).mkdir(parents=True)
        text = source(uuid_of(number), name=f"of-{name}")
        (folder / name / "service.py").write_text(text)
    (folder / "keys").mkdir()
    (folder / "keys" / "vendor.pem").write_bytes(public_pem(key()))
    (folder / "tee.toml").write_text(COMPLETE, encoding="utf-8")
    return folder / "tee.toml"


def test_the_example(gentee_run: GenteeRun, way: str, complete: Path, tmp_path: Path) -> None:
    """From another folder: paths are relative to the manifest."""
    assert Path.cwd() != complete.parent
    options: list[str | Path] = ["--manifest", complete]
    finished = gentee_run([sys.executable, "-c", SHOW], options=options, way=way)
    assert (finished.returncode, finished.stderr) == (0, "")
    found = json.loads(finished.stdout)
    (first_caps, first), (second_caps, second) = found["/dev/tee0"], found["/dev/tee1"]
    assert not first_caps & TEE_GEN_CAP_REG_MEM
    assert second_caps & TEE_GEN_CAP_REG_MEM
    assert "of-services" in first
    assert "of-services" not in second
    assert "of-others" in second
    assert "of-others" not in first
    assert "echo" in first
    assert "echo" in second
    # Its state is where it says, and nowhere else.
    assert (complete.parent / "state" / "lock").exists()
    assert not Path(os.environ["XDG_STATE_HOME"]).exists()


def test_its_keys_and_its_state(gentee_run: GenteeRun, complete: Path, tmp_path: Path) -> None:
    install(complete.parent / "state", tmp_path, number=9)
    client = [sys.executable, "-c", CLIENT, "/dev/tee0"]
    assert gentee_run(client, options=["--manifest", complete]).stdout == "9\n"
    finished = gentee_run(client, options=["--manifest", complete, "--ephemeral"])
    assert (finished.stdout, finished.stderr) == ("none\n", "")


def test_the_command_line_wins(gentee_run: GenteeRun, complete: Path) -> None:
    options: list[str | Path] = [
        "--manifest",
        complete,
        "--driver",
        "soft",
        "--driver",
        "loopback",
        "--verbose",
    ]
    finished = gentee_run(["true"], options=options)
    assert finished.returncode == 0
    assert finished.stderr.startswith("gentee: devices tee0, tee1, teepriv0, teepriv1 by way of")


def test_log_level(gentee_run: GenteeRun, complete: Path) -> None:
    uuid = uuid_of(1)
    (complete.parent / "services" / "service.py").write_text(
        "from gentee.ta import DMSG, IMSG, TrustedApplication\n"
        "class Talker(TrustedApplication):\n"
        f'    uuid = "{uuid}"\n'
        '    name = "talker"\n'
        "    def TA_OpenSessionEntryPoint(self, param_types, params):\n"
        '        IMSG("shown")\n'
        '        DMSG("not shown")\n'
    )
    code = f"from gentee.client import Context; Context().open_session('{uuid}')"
    finished = gentee_run([sys.executable, "-c", code], options=["--manifest", complete])
    assert finished.stderr == "[talker] INFO: shown\n"
    options: list[str | Path] = ["--manifest", complete, "--log-level", "debug"]
    finished = gentee_run([sys.executable, "-c", code], options=options)
    assert "[talker] DEBUG: not shown\n" in finished.stderr
    assert gentee_run([sys.executable, "-c", code], options=[*options, "-q"]).stderr == ""


def test_a_driver_of_somebody_elses(gentee_run: GenteeRun, tmp_path: Path) -> None:
    """It gets its options, whatever they are."""
    info = tmp_path / "gentee_acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gentee-acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gentee.drivers]\nacme = acme:Acme\n")
    (tmp_path / "acme.py").write_text(
        "import json\n"
        "from gentee.drivers.loopback.core import LoopbackDriver\n"
        "class Acme(LoopbackDriver):\n"
        '    name = "acme"\n'
        "    def probe(self, host, options):\n"
        "        host.warn(json.dumps(dict(options)))\n"
        "        return super().probe(host, options)\n"
    )
    path = tmp_path / "tee.toml"
    path.write_text(PLUG_IN, encoding="utf-8")
    environment = {"PYTHONPATH": str(tmp_path)}
    options: list[str | Path] = ["--manifest", path, "--reg-mem"]
    finished = gentee_run(["test", "-e", "/dev/tee0"], options=options, env=environment)
    line = finished.stderr.splitlines()[0].removeprefix("gentee: ")
    said = json.loads(line)
    assert (said["board"], said["retries"], said["reg_mem"]) == ("/dev/ttyUSB0", 3, True)
    assert "state" not in said


def test_what_is_wrong(gentee_run: GenteeRun, tmp_path: Path) -> None:
    """One plain line with file and line, and what was meant; the program does not run."""
    path = tmp_path / "tee.toml"
    path.write_text("# mine\n\n[limits]\nmemry = 64\n")
    finished = gentee_run(["echo", "ran"], options=["--manifest", path])
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr == (
        f"gentee: manifest {path}, line 4: unknown key 'memry'\n        did you mean memory?\n"
    )
    finished = gentee_run(["echo", "ran"], options=["--manifest", tmp_path / "none.toml"])
    assert finished.returncode == 1
    assert finished.stderr.startswith(
        f"gentee: manifest {tmp_path}/none.toml: No such file or directory\n"
    )


def test_colours_in_names_stay_text(gentee_run: GenteeRun, tmp_path: Path) -> None:
    path = tmp_path / "tee.toml"
    path.write_text('"\\u001b[31mred" = 1\n')
    finished = gentee_run(["true"], options=["--manifest", path])
    assert finished.returncode == 1
    assert "\x1b" not in finished.stderr
