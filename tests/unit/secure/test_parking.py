# SPDX-License-Identifier: BSD-2-Clause
"""Which instances stay in a trapped call."""

from typing import cast

from gentee.secure.instance import Instance
from gentee.secure.parking import Parking


class _Instance:
    def __init__(self, parking: Parking, busy: bool = False, dead: bool = False) -> None:
        self.dead = dead
        self.touched = False
        self.busy = busy
        self.rests = 0
        parking.enter(cast(Instance, self))

    def rest(self) -> bool:
        if not self.busy:
            self.rests += 1
        return not self.busy


def test_the_first_unused_one_leaves() -> None:
    parking = Parking(3)
    first, second, third = (_Instance(parking) for _ in range(3))
    first.touched = True
    fourth = _Instance(parking)
    assert [one.rests for one in (first, second, third, fourth)] == [0, 1, 0, 0]
    assert not first.touched


def test_where_all_were_used_the_one_that_came_first_leaves() -> None:
    parking = Parking(2)
    first, second = (_Instance(parking) for _ in range(2))
    first.touched = second.touched = True
    _Instance(parking)
    assert (first.rests, second.rests) == (1, 0)


def test_who_is_at_work_stays() -> None:
    parking = Parking(2)
    busy = [_Instance(parking, busy=True) for _ in range(4)]
    idle = _Instance(parking)
    assert idle.rests == 0  # it came last
    busy[2].busy = False
    _Instance(parking)
    assert [one.rests for one in busy] == [0, 0, 1, 0]
    assert idle.rests == 1


def test_who_ended_takes_no_place() -> None:
    parking = Parking(2)
    _Instance(parking, dead=True)
    first, second = (_Instance(parking) for _ in range(2))
    parking.leave(cast(Instance, first))
    parking.leave(cast(Instance, first))
    third = _Instance(parking)
    assert (first.rests, second.rests, third.rests) == (0, 0, 0)
