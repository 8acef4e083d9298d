# SPDX-License-Identifier: BSD-2-Clause
"""The examples of docs/writing-a-pseudo-ta.md, run as it says: pseudo TAs, a service, clients."""

import os
import re
import subprocess
import sys
from pathlib import Path

from gentee.secure.pta import PSEUDO_TAS, PseudoTas

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "writing-a-pseudo-ta.md"
PATIENCE = 60  # seconds; an example that takes so long has failed


def blocks(kind: str) -> list[str]:
    text = DOCUMENT.read_text(encoding="utf-8")
    return re.findall(rf"^```python {kind}\n(.*?)^```$", text, re.M | re.S)


def test_every_example_is_one_of_them() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    kinds = ("pta", "service", "client")
    assert text.count("```python") == sum(len(blocks(kind)) for kind in kinds) == 5


def test_all_that_come_with_gentee_are_listed() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for pta in PseudoTas(None, None).all():  # type: ignore[arg-type]
        assert f"| `{pta.name}` | {pta.uuid} |" in text
    assert len(PSEUDO_TAS) == text.count("| `", text.index("## Those that come with gentee"))


def run_examples(folder: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    services = folder / "services"
    services.mkdir()
    (services / "asker.py").write_text(blocks("service")[0], encoding="utf-8")
    for name, source in zip(("serial", "alarm"), blocks("pta"), strict=True):
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    client = folder / "client.py"
    client.write_text("\n".join(blocks("client")), encoding="utf-8")
    (folder / "number").write_text("17-4711\n")
    run = [sys.executable, "-m", "gentee", "run", "--ephemeral", "--ta-dir", str(services)]
    return subprocess.run(
        [*run, *map(str, options), "--", sys.executable, "-W", "error", str(client)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
            "SERIAL_FILE": str(folder / "number"),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


SAID = [
    "serial number 17-4711",
    "not for clients: TEE_ERROR_ACCESS_DENIED (origin TEE_ORIGIN_TRUSTED_APP)",
    "rang after 20 ms",
]


def test_examples(tmp_path: Path) -> None:
    options = ("--pseudo-ta", "serial:SerialNumber", "--pseudo-ta", "alarm:Alarm")
    done = run_examples(tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == SAID


def test_by_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "huk").write_text("00" * 16)
    manifest = tmp_path / "tee.toml"
    manifest.write_text('pseudo-tas = ["serial:SerialNumber", "alarm:Alarm"]\nhuk = "huk"\n')
    done = run_examples(tmp_path, "--manifest", manifest)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == SAID


def test_a_key_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "huk").write_text("00" * 15)
    done = run_examples(tmp_path, "--huk", tmp_path / "huk")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].endswith("huk: no hardware unique key")


def test_what_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from gentee.secure.pta.stats import StatsPta\nclass Other: pass\n"
        "class Stats(StatsPta):\n    name = 'mine'\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    for name, what in (
        ("nothing:At", "No module named 'nothing'"),
        ("mine:Missing", "no attribute 'Missing'"),
        ("mine", "mine"),
        ("mine:Other", "Other is no PseudoTa"),
        ("mine:Stats", "has the UUID of another one"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "gentee", "run", "--pseudo-ta", name, "--", "true"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 1
        assert what in done.stderr.splitlines()[0], done.stderr
        assert "Traceback" not in done.stderr
