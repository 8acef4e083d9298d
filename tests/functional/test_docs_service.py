# SPDX-License-Identifier: BSD-2-Clause
"""The examples of docs/writing-a-service.md, run as it says: services and their client."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gentee.ta
import gentee.ta.crypto
from gentee.secure.store import TaStore

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "writing-a-service.md"
PATIENCE = 60  # seconds; an example that takes so long has failed


def blocks(kind: str) -> list[str]:
    text = DOCUMENT.read_text(encoding="utf-8")
    return re.findall(rf"^```python {kind}\n(.*?)^```$", text, re.M | re.S)


def write_services(folder: Path) -> None:
    for number, source in enumerate(blocks("service")):
        (folder / f"service{number}.py").write_text(source, encoding="utf-8")


def test_services_are_found(tmp_path: Path) -> None:
    write_services(tmp_path)
    store = TaStore([str(tmp_path)])
    assert len(store.all()) == len(blocks("service")) >= 7
    assert not store.problems()


def test_the_first_service_is_short() -> None:
    lines = [line for line in blocks("service")[0].splitlines() if line.strip()]
    assert len(lines) <= 15


def test_every_example_is_one_or_the_other() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.count("```python") == len(blocks("service")) + len(blocks("client"))


def test_the_reference_has_all_names() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").split("## Reference")[1]
    families = ["TEE_ERROR_", "TEE_ORIGIN_", "TEE_LOGIN_", "TEE_PARAM_", "TEE_PROPSET_"]
    families += ["TEE_MEMORY_ACCESS_", "TEE_NUM_", "TEE_TIMEOUT_"]
    for name in gentee.ta.__all__:
        value = getattr(gentee.ta, name)
        is_error = isinstance(value, type) and issubclass(value, Exception)
        if name.startswith(tuple(families)) or name == "Param":
            continue
        assert is_error or f"`{name}`" in text, name
    # Of cryptography, all but the constants and the macros of the headers.
    for name in gentee.ta.crypto.__all__:
        if re.fullmatch(r"TEE_[A-Z0-9_]+", name) is None:
            assert f"`{name}`" in text, name
    for name in re.findall(r"`(TEE_[A-Z]+[a-z]\w+)`", text.split("What is not there")[0]):
        assert name in gentee.ta.__all__ or name in gentee.ta.crypto.__all__


@pytest.mark.slow
def test_examples(tmp_path: Path) -> None:
    services = tmp_path / "services"
    services.mkdir()
    write_services(services)
    client = tmp_path / "client.py"
    client.write_text("\n".join(blocks("client")), encoding="utf-8")
    run = [sys.executable, "-m", "gentee", "run", "--ta-dir", str(services), "--"]
    done = subprocess.run(
        [*run, sys.executable, "-W", "error", str(client)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "3 attempts for TEE_LOGIN_PUBLIC 00000000-0000-0000-0000-000000000000" in done.stderr
    assert "gpd.tee.internalCore.version 16974080" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert "[notary] INFO: forged" in done.stderr
