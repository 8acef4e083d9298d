#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Has a trusted service remember what a file looks like, and check it, as integrity_client.c does.

    gentee run -- sh -c './integrity_client.py enrol it FILE; ./integrity_client.py check it FILE'

    integrity_client.py enrol NAME FILE     the first one of a name is its reference, and stays it
    integrity_client.py check NAME FILE     exit status 0: unchanged, 3: changed, 1: no answer

NAME is what the service knows the file by; the file may lie elsewhere the next time.
"""

import mmap
import sys

from gentee.client import INPUT, Context, TeeError
from gentee.errors import AccessConflict, ItemNotFound, SecurityError

SERVICE = "d2a0c7b4-1d0e-4f53-8f3b-2b8c3c5d9e71"  # gentee/examples/integrity.py
COMMANDS = {"enrol": 0, "check": 1}
STATUS_CHANGED = 3


def measure(command: int, name: str, path: str) -> None:
    """Show the file to the service, for reading: memory that is mapped, in one direction."""
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        Context() as context,
        context.map(content, INPUT) as mapping,
    ):
        context.task(SERVICE, command, name.encode(), mapping)


def main(arguments: list[str]) -> int:
    if len(arguments) != 3 or arguments[0] not in COMMANDS:
        print(__doc__, file=sys.stderr)
        return 2
    command, name, path = arguments
    try:
        measure(COMMANDS[command], name, path)
    except SecurityError:
        print(f"{name}: CHANGED")
        return STATUS_CHANGED
    except AccessConflict:
        return say(f"{name}: enrolled with other bytes")
    except ItemNotFound as error:
        return say(f"{name}: not enrolled, or there is no service: {error}")
    except TeeError as error:
        return say(f"{name}: {error}")
    except OSError as error:
        return say(f"{path}: {error.strerror}")
    except ValueError:  # mmap: there is nothing to map
        return say(f"{path}: not a file with anything in it")
    print(f"{name}: {'enrolled' if command == 'enrol' else 'unchanged'}")
    return 0


def say(text: str) -> int:
    print(f"integrity_client: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
