# SPDX-License-Identifier: BSD-2-Clause
"""Each source file says its licence in its first line (its second, after a #! line)."""

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPDX = "SPDX-License-Identifier: BSD-2-Clause"
LINES = {
    ".py": {f"# {SPDX}"},
    ".c": {f"// {SPDX}", f"/* {SPDX} */"},
    ".h": {f"// {SPDX}", f"/* {SPDX} */"},
}


def sources() -> Iterator[Path]:
    """The .py, .c and .h files of the checkout; hidden and built folders are not part of it."""
    for folder, subfolders, files in os.walk(ROOT):
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".")
            and name not in ("build", "dist", "__pycache__")
            and not (Path(folder) / name / "pyvenv.cfg").exists()
        )
        yield from (Path(folder) / name for name in sorted(files) if Path(name).suffix in LINES)


def test_spdx_line() -> None:
    wrong = []
    for path in sources():
        lines = path.read_text(encoding="utf-8").splitlines()
        if lines and lines[0].startswith("#!"):
            del lines[0]
        if not lines or lines[0] not in LINES[path.suffix]:
            wrong.append(f"{path.relative_to(ROOT)}:1: the first line is not {SPDX}")
    assert not wrong, "\n" + "\n".join(wrong)
