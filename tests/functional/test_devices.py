# SPDX-License-Identifier: BSD-2-Clause
"""Several devices at once, drivers of others, and what the generic driver does for a poor one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.conftest import CompileClient, GenteeRun

SERVICES = Path(__file__).parents[1] / "services"


@pytest.mark.client("devices.c", "--quiet", "--driver", "soft", "--driver", "loopback")
def test_devices(run_case: Callable[[], None]) -> None:
    run_case()


@pytest.fixture(scope="module")
def plug_in(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the driver of tests/services/limited.py is installed."""
    folder = tmp_path_factory.mktemp("plug-in")
    info = folder / "gentee_limited-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gentee-limited\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gentee.drivers]\nlimited = limited:driver\n")
    return {"PYTHONPATH": os.pathsep.join((str(folder), str(SERVICES)))}


def test_driver_with_little(
    gentee_run: "GenteeRun",
    compile_client: "CompileClient",
    way: str,
    plug_in: dict[str, str],
) -> None:
    """A third party's driver is found by its entry point; the generic driver keeps its limits."""
    finished = gentee_run(
        [compile_client("limited.c")], options=["--driver", "limited"], way=way, env=plug_in
    )
    assert "not ok" not in finished.stdout, finished.stdout
    assert finished.stdout.count("ok ") == 7, finished.stdout
    assert finished.returncode == 0, finished.stderr
