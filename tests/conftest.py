# SPDX-License-Identifier: BSD-2-Clause
"""What holds for all tests: how much Hypothesis tries, what only root can run, where state is."""

import itertools
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# The same examples each time, so that a change fails for what it changed. No deadline: machines are
# busy, and time is never a verdict.
settings.register_profile("ci", derandomize=True, deadline=None, database=None)
# HYPOTHESIS_PROFILE=long, as make fuzz sets it: many examples, others each time, failures kept.
settings.register_profile("long", max_examples=5_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs to run as root")
    for item in items:
        if item.get_closest_marker("root") is not None:
            item.add_marker(skip)


_numbers = itertools.count()


@pytest.fixture(autouse=True, scope="session")
def shared_state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Likewise for what fixtures start for several tests. Never those of who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state" / "shared"))
        yield


@pytest.fixture(autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """State folders of TEEs are below a folder of this test's own, made by who needs it."""
    folder = tmp_path_factory.getbasetemp() / "state" / str(next(_numbers))
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
