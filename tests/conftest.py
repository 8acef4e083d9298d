# SPDX-License-Identifier: BSD-2-Clause
"""What holds for all tests: how much Hypothesis tries, and what only root can run."""

import os

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
