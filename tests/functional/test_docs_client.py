# SPDX-License-Identifier: BSD-2-Clause
"""The examples of docs/client-api.md, run as the document says: one program on a loopback TEE."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "client-api.md"
PATIENCE = 60  # seconds; an example that takes so long has failed

needs_cli = pytest.mark.skipif(
    importlib.util.find_spec("gentee.cli.main") is None,
    reason="there is no 'gentee run' yet: gentee.cli.main cannot be imported",
)


def program() -> str:
    """All blocks of the document, each on the lines that it has there."""
    lines = []
    inside = False
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        fence = line.startswith("```")
        if fence:
            inside = line == "```python"
        lines.append(line if inside and not fence else "")
    return "\n".join(lines) + "\n"


def test_examples_are_programs() -> None:
    source = program()
    assert source.count("with Context(") >= 7
    compile(source, DOCUMENT.name, "exec")


def test_document_names_what_there_is() -> None:
    """Names in the text that look like the API's are the API's."""
    import gentee.client
    from gentee.device import kernel, kernel_ext

    text = DOCUMENT.read_text(encoding="utf-8")
    for name in set(re.findall(r"`(tee_(?:client|shm)_\w+)`", text)):
        assert name in kernel.__all__ or name in kernel_ext.__all__
    for name in set(re.findall(r"from gentee\.client import (.+)", text)):
        for one in name.split(", "):
            assert one in gentee.client.__all__


@needs_cli
@pytest.mark.slow
def test_examples(tmp_path: Path) -> None:
    client = tmp_path / "client.py"
    client.write_text(program(), encoding="utf-8")
    run = [sys.executable, "-m", "gentee", "run", "--driver", "loopback", "--"]
    done = subprocess.run(
        [*run, sys.executable, "-W", "error", str(client)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "TEE_ERROR_ITEM_NOT_FOUND (origin TEE_ORIGIN_TEE)" in done.stdout
    assert "TEE_ERROR_CANCEL (origin" in done.stdout
