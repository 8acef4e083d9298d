# SPDX-License-Identifier: BSD-2-Clause
"""A power cut at any moment: SQLite's settings are part of what is tested here."""

import random
import shutil
from pathlib import Path

import pytest

from tests.crash.conftest import STEPS, Driver, points
from tests.crash.power import Call, Disk, parse
from tests.crash.script import Store, findings, found_in, models, names_of, steps


@pytest.fixture(scope="module", params=[False, True], ids=["", "counter"])
def recorded(
    request: pytest.FixtureRequest, driver: Driver, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Call], bool]:
    """The system calls of a run, and whether its changes were counted."""
    log = tmp_path_factory.mktemp("log") / "log"
    answer, folder = driver.run("count", log=str(log), counter=request.param)
    assert answer["problem"] == ""
    shutil.rmtree(folder)
    calls = parse(log.read_bytes())
    # A call that failed, such as to unlink what is not there, is not among them.
    assert 0 <= answer["events"] + STEPS - len(calls) < 5
    log.unlink()
    return calls, request.param


@pytest.mark.parametrize("how", ["none", "some", "all"])
def test_power_cut(recorded: tuple[list[Call], bool], how: str, in_memory: Path) -> None:
    calls, counter = recorded
    kept = models(steps(STEPS))
    names = names_of(kept)
    disk = Disk()
    done = 0
    chosen = set(points(len(calls), 25 if counter else 60, f"power {how}"))
    draw = random.Random(how)
    for at, call in enumerate(calls):
        if call.what == "m":
            done = call.number
        else:
            disk.do(call)
        if at not in chosen:
            continue
        folder = in_memory / str(at)
        folder.mkdir(mode=0o700)
        disk.cut(folder, draw, how)
        store = Store(folder, counter=counter)
        found = found_in(store, names)
        assert found in kept[done : done + 2], f"after {at}:\n{found}\ninstead of\n{kept[done]}"
        assert findings(store) == [], at
        store.close()
        shutil.rmtree(folder)


def test_it_would_be_found(recorded: tuple[list[Call], bool], tmp_path: Path) -> None:
    """With a database that is never told to be on disk this would see it."""
    calls, _counter = recorded
    kept = models(steps(STEPS))
    disk = Disk()
    done = 0
    for call in calls[: len(calls) // 2]:
        if call.what == "m":
            done = call.number
        elif call.what != "s" or not call.name.startswith("tee.db"):
            disk.do(call)
    tmp_path.chmod(0o700)
    disk.cut(tmp_path, random.Random(1), "none")
    store = Store(tmp_path)
    assert found_in(store, names_of(kept)) not in kept[done : done + 2]
    store.close()
