# SPDX-License-Identifier: BSD-2-Clause
"""What an instance tells the TEE about itself. Only type checkers import it."""

from typing import Protocol

from gentee.secure.instance import Instance
from gentee.secure.service import Service


class InstanceOwner(Protocol):
    """Who makes instances: :class:`gentee.secure.tee.SoftTee`."""

    def instance_parked(self, instance: Instance) -> None:
        """Its process is one of those that wait in a trapped call now."""

    def instance_noted(self, instance: Instance) -> None:
        """Its TA is loaded, and what it runs is noted."""

    def instance_ended(self, instance: Instance) -> None:
        """Its process is gone."""

    def session_refused(self, instance: Instance) -> None:
        """A session that it was to have was not opened."""

    def crashed(self, service: Service, report: bytes) -> None:
        """Events thread: its TA died, and has left a crash report: any bytes."""

    def request(self, instance: Instance, notify_id: int, code: int) -> None:
        """Receiving thread: its service asks for something and waits for the reply."""
