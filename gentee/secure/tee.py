# SPDX-License-Identifier: BSD-2-Clause
"""The software TEE: sessions of trusted services, and the instances that hold them.

GP TEE Internal Core API 1.3.1 section 2.1.3: a service is multi-instance (each session has an
instance of its own) or single-instance (one at a time), which may take several sessions at once
and may outlive the last of them.
"""

import threading

from gentee.abi import ta_channel as ch
from gentee.core.calls import InvokeArg, OpenSessionArg
from gentee.core.context import TeeSession
from gentee.core.driver import PENDING, OpResult
from gentee.core.host import Host
from gentee.core.shm import TeeShm
from gentee.errors import Busy, ItemNotFound, OutOfMemory
from gentee.secure.commands import Command, InvokeCommand, OpenCommand, check_gp_params
from gentee.secure.instance import Instance
from gentee.secure.store import Service, TaStore, format_uuid
from gentee.secure.warm_parent import WarmParent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.calls import CallArg


class ServiceSession:
    """A session as the software TEE knows it: the instance, and its number there."""

    __slots__ = ("id", "instance")

    def __init__(self, instance: Instance, session_id: int) -> None:
        self.instance = instance
        self.id = session_id


class SoftTee:
    """One software TEE.

    :param store: where its services are.
    :param max_instances: processes at once; more sessions are TEE_ERROR_OUT_OF_MEMORY.
    """

    def __init__(self, host: Host, store: TaStore, *, max_instances: int = 1024) -> None:
        self.store = store
        self._host = host
        self._warm_parent = WarmParent(host)
        self._max_instances = max_instances
        # Protects the three below, and which sessions an instance has.
        self._lock = threading.Lock()
        self._instances: set[Instance] = set()
        self._single: dict[bytes, Instance] = {}  # single instances that take sessions
        self._ending: dict[bytes, Instance] = {}  # and those that are about to end
        self._next_session = 0
        self._all_gone = threading.Event()
        self._closing = False

    def warm_up(self) -> None:
        """Somebody opened the device: start what the first session will need."""
        self._warm_parent.start()

    def open_session(self, arg: OpenSessionArg) -> OpResult:
        """Open a session with the service that ``arg`` names.

        :raises ItemNotFound: no such service.
        :raises Busy: a single instance without multi_session has its session.
        """
        check_gp_params(arg)
        service = self.store.find(arg.uuid)
        if service is None:
            raise ItemNotFound(f"no service {format_uuid(arg.uuid)}")
        try:
            session = self._new_session(service)
        except Busy:
            # Who had its one session may have closed the device already.
            self._host.events.settle()
            session = self._new_session(service)
        instance = session.instance
        arg.priv = session
        command = OpenCommand(ch.TA_OPEN_SESSION, instance, session.id, arg)
        arg.cancel = command.cancel
        instance.submit(command)
        if arg.abandoned:  # before that: nobody else will cancel it
            command.cancel()
        return PENDING

    def _new_session(self, service: Service) -> ServiceSession:
        with self._lock:
            instance = self._instance_for(service)
            self._next_session += 1
            session = ServiceSession(instance, self._next_session)
            instance.sessions.add(session.id)
        return session

    def _instance_for(self, service: Service) -> Instance:
        uuid = service.uuid
        if service.single_instance:
            instance = self._single.get(uuid)
            if instance is not None and not instance.dead:
                if instance.sessions and not instance.service.multi_session:
                    raise Busy(f"{service.name} has its one session")
                return instance
        if len(self._instances) >= self._max_instances:
            raise OutOfMemory(f"{self._max_instances} instances are alive")
        source = service.read()
        after = self._ending.get(uuid) if service.single_instance else None
        instance = Instance(self._host, self._warm_parent, service, source, self, after)
        self._instances.add(instance)
        if service.single_instance:
            self._single[uuid] = instance
        return instance

    def instance_ended(self, instance: Instance) -> None:
        uuid = instance.service.uuid
        with self._lock:
            self._instances.discard(instance)
            for table in (self._single, self._ending):
                if table.get(uuid) is instance:
                    del table[uuid]
            if self._closing and not self._instances:
                self._all_gone.set()

    def invoke(self, arg: InvokeArg) -> OpResult:
        """Invoke a command in the session of ``arg``."""
        if arg.params:
            check_gp_params(arg)
        session: ServiceSession = arg.priv
        instance = session.instance
        command = InvokeCommand(ch.TA_INVOKE, instance, session.id, arg)
        arg.cancel = command.cancel
        instance.submit(command)
        if arg.abandoned:  # before that: nobody else will cancel it
            command.cancel()
        return PENDING

    def close_session(self, session: TeeSession) -> None:
        """Close a session; with the last one the instance ends, unless it is kept alive."""
        mine: ServiceSession = session.priv
        instance = mine.instance
        with self._lock:
            instance.sessions.discard(mine.id)
            last = not instance.sessions and not instance.service.keep_alive
            if last:
                self._retire(instance)
        instance.submit(Command(ch.TA_CLOSE_SESSION, mine.id))
        if last:
            instance.destroy()

    def _retire(self, instance: Instance) -> None:
        uuid = instance.service.uuid
        if self._single.get(uuid) is instance:
            del self._single[uuid]
            if not instance.dead:
                self._ending[uuid] = instance

    def session_refused(self, instance: Instance) -> None:
        """A session was not opened after all; was it the only one?"""
        with self._lock:
            last = not instance.sessions and not instance.service.keep_alive
            if last:
                self._retire(instance)
        if last:
            instance.destroy()

    def cancel(self, arg: "CallArg") -> None:
        """Ask the service to end a call early."""
        cancel = arg.cancel
        if cancel is not None:
            cancel()

    def forget_shm(self, shm: TeeShm) -> None:
        """Shared memory ended: whoever mapped it lets go."""
        if isinstance(shm.priv, set):
            for instance in tuple(shm.priv):
                instance.forget_shm(shm)

    def instances(self) -> list[Instance]:
        """Those that are alive now."""
        with self._lock:
            return list(self._instances)

    def close(self, timeout: float = 2.0) -> None:
        """End all instances: by their destroy entry point, then by force."""
        with self._lock:
            self._closing = True
            instances = list(self._instances)
            if not instances:
                self._all_gone.set()
        for instance in instances:
            instance.destroy()
        if not self._all_gone.wait(timeout):
            for instance in self.instances():
                instance.kill()
            self._all_gone.wait(timeout)
        self._warm_parent.close()
