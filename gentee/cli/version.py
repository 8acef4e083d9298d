# SPDX-License-Identifier: BSD-2-Clause
"""``gentee version``: what to say in a report of a bug."""

import os
import sys
from collections.abc import Sequence

from gentee import __version__
from gentee.cli.options import Command, Option

COMMAND = Command(
    "version",
    "Print the versions of gentee, Python and the kernel.",
    [Option("--json", "for programs")],
)


def main(arguments: Sequence[str]) -> int:
    given = COMMAND.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(COMMAND.help())
        return 0
    kernel = os.uname()
    python = ".".join(map(str, sys.version_info[:3]))
    if given.has("--json"):
        import json

        versions = {
            "gentee": __version__,
            "python": python,
            "kernel": kernel.release,
            "machine": kernel.machine,
        }
        print(json.dumps(versions, indent=2))
    else:
        print(f"gentee {__version__} (Python {python}, Linux {kernel.release}, {kernel.machine})")
    return 0
