# SPDX-License-Identifier: BSD-2-Clause
"""A process that is killed at any system call that writes leaves what was before an operation, or
what is after it; and what it had reported as done is there.
"""

import shutil
import signal

import pytest

from tests.crash.conftest import STEPS, Driver, points
from tests.crash.script import Store, findings, found_in, models, names_of, steps


@pytest.mark.parametrize("counter", [False, True], ids=["", "counter"])
def test_killed(driver: Driver, counter: bool) -> None:
    script = steps(STEPS)
    kept = models(script)
    names = names_of(kept)
    answer, folder = driver.run("count", counter=counter)
    assert (answer["done"], answer["problem"]) == (STEPS, "")
    assert answer["events"] > 5 * STEPS
    shutil.rmtree(folder)
    for at in points(answer["events"], 15 if counter else 50, f"killed {counter}"):
        answer, folder = driver.run("kill", at, counter=counter)
        assert (answer["signal"], answer["problem"]) == (signal.SIGKILL, ""), at
        done = answer["done"]
        store = Store(folder, counter=counter)
        found = found_in(store, names)
        assert found in kept[done : done + 2], f"at {at}:\n{found}\ninstead of\n{kept[done]}"
        assert findings(store) == [], at
        store.close()
        shutil.rmtree(folder)


@pytest.mark.parametrize("mode", ["no space", "io error", "disk full"])
def test_failing(driver: Driver, mode: str) -> None:
    """The operation fails or happens, nothing in between, and the store goes on, now and later."""
    answer, folder = driver.run("count")
    shutil.rmtree(folder)
    failed = 0
    for at in points(answer["events"], 25, mode):
        answer, folder = driver.run(mode, at)
        assert (answer["signal"], answer["problem"]) == (0, ""), f"{mode} at {at}"
        failed += answer["done"] < STEPS
        shutil.rmtree(folder)
    assert failed
