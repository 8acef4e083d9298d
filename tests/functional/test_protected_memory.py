# SPDX-License-Identifier: BSD-2-Clause
"""Protected memory for the secure data path, as programs with a heap and their TAs see it."""

import pytest

from tests import arm_tas
from tests.functional.conftest import Collection, CompileClient, GenteeRun
from tests.ta_build import ARCHES

Runs = dict[tuple[str, str], Collection]


@pytest.fixture(scope="module")
def runs() -> Runs:
    """The runs of the collection so far, by architecture and way."""
    return {}


@pytest.mark.client("protected_memory.c")
@pytest.mark.parametrize("arch", ARCHES)
def test_protected_memory(
    runs: Runs,
    arch: str,
    way: str,
    case_name: str,
    compile_client: CompileClient,
    gentee_run: GenteeRun,
) -> None:
    if (arch, way) not in runs:
        options = ["--quiet", "--protected-memory", "1", *arm_tas.options(arm_tas.all_of(arch))]
        finished = gentee_run([compile_client("protected_memory.c")], options=options, way=way)
        runs[arch, way] = Collection(finished)
    runs[arch, way].check(case_name)
