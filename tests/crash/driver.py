# SPDX-License-Identifier: BSD-2-Clause
"""Runs the script with faults: a process with fault.c preloaded, which forks one for each run.

A line of JSON on its standard input is a run: its folder, how many operations, at which system call
what happens. The answer is a line: how it ended, how many operations were reported as done, and
what was wrong.
"""

import ctypes
import json
import os
import sqlite3  # noqa: F401  # here, and not in each run
import sys
import traceback
from functools import cache
from pathlib import Path
from typing import Any

import cryptography.hazmat.primitives.ciphers.aead  # noqa: F401

from gentee.abi import gp
from gentee.errors import TeeError
from tests.crash.script import (
    Kept,
    Key,
    Step,
    Store,
    findings,
    found_in,
    models,
    names_of,
    steps,
)

MODES = {"count": 0, "kill": 1, "no space": 2, "io error": 3, "disk full": 4}

shim = ctypes.CDLL(None)


def main() -> None:
    for line in sys.stdin:
        run = json.loads(line)
        _script(run["steps"])
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                _run(run, writer)
            except BaseException:
                os.write(writer, b"!" + traceback.format_exc().encode())
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as pipe:
            said = pipe.read()
        _pid, status = os.waitpid(child, 0)
        done, _, problem = said.partition(b"!")
        done, _, events = done.partition(b"=")
        answer = {
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            "done": done.count(b"."),
            "events": int(events or 0),
            "problem": problem.decode(),
        }
        print(json.dumps(answer), flush=True)


@cache
def _script(count: int) -> tuple[list[Step], set[Key]]:
    script = steps(count)
    return script, names_of(models(script))


def _run(run: dict[str, Any], writer: int) -> None:
    folder = Path(run["folder"])
    script, names = _script(run["steps"])
    if run.get("log"):
        fd = os.open(run["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        ctypes.c_int.in_dll(shim, "fault_log").value = fd
    shim.fault_arm(os.fsencode(folder), ctypes.c_long(run["at"]), MODES[run["mode"]])
    store = Store(folder, counter=run.get("counter", False))
    now = Kept()
    for number, (name, do, expect) in enumerate(script):
        after = now.copy()
        try:
            expect(after)
        except KeyError:  # of an object that could not be made
            continue
        try:
            do(store)
        except TeeError as error:
            if run["mode"] in ("count", "kill"):
                raise
            if not _is_of_the_fault(error):
                raise
            shim.fault_disarm()
            try:
                found = found_in(store, names)
                told = f"{number}, {name}:\n{found}\nfrom\n{now}\nto\n{after}"
                assert found in (now, after), told
                now = found
            finally:
                if run["mode"] == "disk full" and number % 7:  # it stays so for a while
                    shim.fault_arm(os.fsencode(folder), ctypes.c_long(0), MODES[run["mode"]])
        else:
            now = after
            shim.fault_mark(ctypes.c_long(number + 1))
            os.write(writer, b".")
    os.write(writer, b"=%d" % shim.fault_events())
    shim.fault_disarm()
    assert found_in(store, names) == now
    assert findings(store) == []
    store.close()
    store = Store(folder, counter=run.get("counter", False))
    assert found_in(store, names) == now
    assert findings(store) == []
    store.close()


def _is_of_the_fault(error: TeeError) -> bool:
    """Whether it is what a TA should get. Later operations may find less than they would have."""
    return error.code in (
        gp.TEE_ERROR_STORAGE_NO_SPACE,
        gp.TEE_ERROR_STORAGE_NOT_AVAILABLE,
        gp.TEE_ERROR_GENERIC,  # of a service that was to be installed
        gp.TEE_ERROR_ITEM_NOT_FOUND,
        gp.TEE_ERROR_ACCESS_CONFLICT,
    )


if __name__ == "__main__":
    main()
