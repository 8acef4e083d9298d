# SPDX-License-Identifier: BSD-2-Clause
"""Shared memory of the software TEE: memfds, and services that let go of them."""

from gentee.core.shm import TeeShm, TeeShmPool
from gentee.secure.tee import SoftTee


class SoftShmPool(TeeShmPool):
    """The default pool, whose ends are told to the services that mapped the pages."""

    def __init__(self, tee: SoftTee) -> None:
        self._tee = tee

    def withdraw(self, shm: TeeShm) -> None:
        self._tee.forget_shm(shm)

    def free(self, shm: TeeShm) -> None:
        self._tee.forget_shm(shm)
