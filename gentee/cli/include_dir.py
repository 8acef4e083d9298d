# SPDX-License-Identifier: BSD-2-Clause
"""``gentee include-dir``: where a C compiler finds <gentee/tee.h>."""

import os
import sys
from collections.abc import Sequence

import gentee
from gentee.cli.options import Command

COMMAND = Command(
    "include-dir",
    "Print the folder for a C compiler's -I, in which gentee/tee.h is.",
    [],
)


def main(arguments: Sequence[str]) -> int:
    given = COMMAND.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(COMMAND.help())
        return 0
    print(include_dir())
    return 0


def include_dir() -> str:
    """The folder, as an absolute path."""
    return os.path.join(os.path.dirname(os.path.abspath(gentee.__file__)), "include")
