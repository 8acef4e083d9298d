# SPDX-License-Identifier: BSD-2-Clause
"""Templates: later instances of a TA are forks of a process that has loaded it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gentee.linux.task import parent_of
from gentee.secure.service import parse_uuid
from gentee.secure.templates import Template
from tests import arm_tas
from tests.arm_tas import ALIVE, MULTI, SINGLE, uuid_of
from tests.functional.test_services import is_dead
from tests.helpers import ServiceHost, wait_until
from tests.ta_build import ARCHES
from tests.ta_clients import ArmTee, Do, Who


@pytest.fixture(scope="module")
def host() -> Iterator[ServiceHost]:
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture(params=ARCHES)
def tee(host: ServiceHost, request: pytest.FixtureRequest) -> Iterator[ArmTee]:
    tee = ArmTee(host, arm_tas.all_of(request.param), request.param)
    yield tee
    tee.close()
    assert not host.bugs


def template_of(tee: ArmTee, number: int) -> Template:
    (soft,) = tee.driver._tees
    return soft._templates._templates[parse_uuid(uuid_of(number))]


def pids(tee: ArmTee) -> set[int]:
    (soft,) = tee.driver._tees
    return {instance.pid for instance in soft.instances()}


def test_later_instances_are_its_children(tee: ArmTee) -> None:
    first = tee.actor(MULTI)
    tee.wait_template(MULTI)
    template = template_of(tee, MULTI).instance.pid
    (old,) = pids(tee)
    assert parent_of(old) != template
    sessions = [tee.actor(MULTI) for _ in range(3)]
    wait_until(lambda: all(pids(tee)))
    for pid in pids(tee) - {old}:
        assert parent_of(pid) == template
    # Each is an instance of its own, as new as the first was.
    assert [Who(session).sessions for session in (first, *sessions)] == [1, 1, 1, 1]
    assert [Who(session).created for session in (first, *sessions)] == [1, 1, 1, 1]


def test_it_takes_no_session_and_is_no_instance(tee: ArmTee) -> None:
    tee.actor(SINGLE)
    tee.wait_template(SINGLE)
    (soft,) = tee.driver._tees
    assert tee.instances() == 1
    (info,) = [info for info in soft.list_ts() if info.uuid == parse_uuid(uuid_of(SINGLE))]
    assert (info.instances, info.sessions) == (1, 1)


def test_its_children_end_with_it(tee: ArmTee) -> None:
    tee.actor(MULTI)
    tee.wait_template(MULTI)
    child = tee.actor(MULTI)
    template = template_of(tee, MULTI)
    os.kill(template.instance.pid, signal.SIGKILL)
    wait_until(lambda: template.instance.dead)
    wait_until(lambda: tee.instances() == 1)
    is_dead(lambda: child.invoke(Do.WHO))
    assert Who(tee.actor(MULTI)).sessions == 1  # the TA goes on


def test_another_process_is_not_taken_for_a_child(tee: ArmTee) -> None:
    tee.actor(ALIVE)
    tee.wait_template(ALIVE)
    template = template_of(tee, ALIVE)
    stranger = os.fork()
    if stranger == 0:
        signal.pause()
    try:
        template.forked(12345, stranger)  # what it says, with no such token
        wait_until(lambda: template.instance.dead)
        assert os.waitpid(stranger, os.WNOHANG) == (0, 0)
    finally:
        os.kill(stranger, signal.SIGKILL)
        os.waitpid(stranger, 0)
    assert Who(tee.actor(ALIVE)).sessions


def test_processes_that_ended_are_collected(tee: ArmTee) -> None:
    for _ in range(30):
        tee.actor(MULTI)
        tee.end()
    tee.wait_template(MULTI)
    template = template_of(tee, MULTI).instance.pid

    def zombies() -> list[int]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                text = (folder / "stat").read_text(encoding="utf-8")
            except OSError:
                continue
            state, parent = text.rpartition(") ")[2].split()[:2]
            if state == "Z" and int(parent) == template:
                found.append(int(folder.name))
        return found

    wait_until(lambda: not zombies())
