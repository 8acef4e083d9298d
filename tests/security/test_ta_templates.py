# SPDX-License-Identifier: BSD-2-Clause
"""A template that was taken over: it may say anything when it is to fork an instance.

It has the one TA, which suffers; no other process is watched or killed for it.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gentee.client import Value
from gentee.errors import TeeError
from gentee.secure import tee as secure_tee
from gentee.secure.service import parse_uuid
from tests import arm_tas
from tests.functional.test_services import OTHER, is_alive
from tests.helpers import PATIENCE, ServiceHost, wait_until
from tests.security.arm_captive import ArmCaptive, ping, service_host
from tests.security.lying_parent import LIES
from tests.ta_run import ta_bytes

__all__ = ["service_host"]

MODULE = "tests.security.lying_parent"
FIRST = 13 * 4  # number of the TA with the first lie

_PYTHON = """
    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):
        params[0].a += 1
"""


@pytest.fixture(scope="module")
def liar(
    service_host: ServiceHost, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ArmCaptive]:
    assert FIRST % len(LIES) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secure_tee, "ARM_MODULE", MODULE)
        folder: Path = tmp_path_factory.mktemp("tas")
        captive = ArmCaptive(service_host, folder, "aarch64", cpu_limit=1)
        for number in range(len(LIES)):
            uuid = arm_tas.uuid_of(FIRST + number)
            arm_tas.sign_into(folder, uuid, ta_bytes("hostile", "aarch64"))
        captive.tee.put(_PYTHON, uuid=OTHER, name="python")
        yield captive
        captive.tee.close()
    assert not service_host.bugs


@pytest.mark.parametrize("number", range(len(LIES)))
def test_lies(liar: ArmCaptive, number: int) -> None:
    """Its TA has sessions or none, and its clients can go; all others are as they were."""
    (tee,) = liar.tee.driver.tees
    uuid = arm_tas.uuid_of(FIRST + number)
    python = liar.tee.open(OTHER)
    before = liar.instances()
    context = liar.tee.context()
    ping(context.open_session(uuid))

    def has_template() -> bool:
        template = tee._templates._templates.get(parse_uuid(uuid))
        return template is not None and (template.instance.is_ready or template.instance.dead)

    def open_one() -> None:
        try:
            ping(context.open_session(uuid))
        except TeeError:
            pass

    wait_until(has_template, "no template")
    opens = [threading.Thread(target=open_one, daemon=True) for _ in range(6)]
    for each in opens:
        each.start()
        value = Value(1)
        python.invoke(0, value)
        assert value.a == 2
        liar.honest()
        each.join(0.05)  # most are over by then; who names a process that never comes is not
    context.finalize()
    for each in opens:
        each.join(PATIENCE)
        assert not each.is_alive()
    wait_until(lambda: liar.instances() <= before)
    assert all(map(is_alive, {os.getpid(), os.getppid(), 1}))
    assert not any("a template reaches" in line and "[]" not in line for line in liar.lines)
    liar.honest()
    python.close()
