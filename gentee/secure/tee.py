# SPDX-License-Identifier: BSD-2-Clause
"""The software TEE: sessions of trusted services, and the instances that hold them.

GP TEE Internal Core API 1.3.1 section 2.1.3: a service is multi-instance (each session has an
instance of its own) or single-instance (one at a time), which may take several sessions at once
and may outlive the last of them.
"""

import threading
from errno import EIO

from gentee.abi import ta_channel as ch
from gentee.core.calls import InvokeArg, OpenSessionArg
from gentee.core.context import TeeSession
from gentee.core.driver import PENDING, OpResult
from gentee.core.host import Host
from gentee.core.shm import TeeShm
from gentee.core.workers import WORKERS
from gentee.errors import (
    Busy,
    CommunicationError,
    ItemNotFound,
    OutOfMemory,
    TaImageError,
    TargetDead,
    TeeError,
)
from gentee.linux import landlock
from gentee.secure.binaries import Binaries
from gentee.secure.clock import Clock
from gentee.secure.commands import Command, InvokeCommand, OpenCommand, check_gp_params
from gentee.secure.instance import Instance
from gentee.secure.nested import NestedCalls
from gentee.secure.normal_world import NormalWorld
from gentee.secure.parking import Parking
from gentee.secure.pta import PseudoTas
from gentee.secure.requests import Requests
from gentee.secure.service import Service, format_uuid
from gentee.secure.storage.door import StorageDoor
from gentee.secure.store import TaStore
from gentee.secure.templates import Templates
from gentee.secure.warm_parent import ARM_MODULE, ProcessParent, WarmParent
from gentee.secure.watchdog import Limits, Watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, BinaryIO

    from gentee.core.calls import CallArg
    from gentee.core.supp import Supplicant
    from gentee.core.trusted_services import TsInfo
    from gentee.secure.crash import CrashReports
    from gentee.secure.pta.instance import PseudoInstance


class ServiceSession:
    """A session as the software TEE knows it: the instance, and its number there."""

    __slots__ = ("id", "instance")

    def __init__(self, instance: "Instance | PseudoInstance", session_id: int) -> None:
        self.instance = instance
        self.id = session_id

    @property
    def is_pseudo(self) -> bool:
        """Whether it is with a pseudo TA, which works in its caller's memory."""
        return not isinstance(self.instance, Instance)


class SoftTee:
    """One software TEE.

    :param store: where its services are.
    :param max_instances: processes at once; more sessions are TEE_ERROR_OUT_OF_MEMORY.
    :param limits: of each service's process.
    :param supplicant: whom pseudo TAs may ask for what the normal world has.
    :param normal_world: who serves them as long as there is no supplicant.
    :param pseudo_tas: further ones, as ``"module:Class"``.
    :param huk: the hardware unique key (:mod:`gentee.secure.huk`).
    :param symbols: folders with unstripped ELF files of TAs, for crash reports.
    :param tpm_event_log: what firmware measured before this TEE started; None if nothing did.
    """

    def __init__(
        self,
        host: Host,
        store: TaStore,
        *,
        max_instances: int = 1024,
        limits: Limits | None = None,
        supplicant: "Supplicant | None" = None,
        normal_world: NormalWorld | None = None,
        pseudo_tas: "Iterable[str]" = (),
        huk: bytes = bytes(16),
        symbols: "Sequence[str]" = (),
        tpm_event_log: bytes | None = None,
    ) -> None:
        self.store = store
        self.tpm_event_log = tpm_event_log
        self._host = host
        self._warm_parent = WarmParent(host)
        self._arm_parent = WarmParent(host, ARM_MODULE)  # of OP-TEE's TAs
        self._max_instances = max_instances
        self._limits = limits or Limits()
        self._symbols = symbols
        self._crash_reports: CrashReports | None = None
        self._templates = Templates(host, self._arm_parent, self, self._limits.memory)
        self._watchdog = Watchdog(host, self._limits, self.instances)
        self._told = False
        # Protects the three below, and which sessions an instance has.
        self._lock = threading.Lock()
        self._instances: set[Instance] = set()
        self._single: dict[bytes, Instance] = {}  # single instances that take sessions
        self._ending: dict[bytes, Instance] = {}  # and those that are about to end
        self._next_session = 0
        self._all_gone = threading.Event()
        self._closing = False
        self._parking = Parking()
        self._nested = NestedCalls(self, host)
        self.supplicant = supplicant
        self.normal_world = normal_world or NormalWorld(host)
        self.huk = huk
        self.pseudo_tas = PseudoTas(self, host, pseudo_tas)
        self._clock = Clock(lambda: self.store.state)
        self._binaries = Binaries(store)
        self._storage = StorageDoor(host, lambda: self.store.state, self._nested)
        self._requests = Requests(
            host,
            {
                ch.RQ_OPEN_TA_SESSION: self._nested.open,
                ch.RQ_INVOKE_TA_COMMAND: self._nested.invoke,
                ch.RQ_CLOSE_TA_SESSION: self._nested.close,
                ch.RQ_CALL_WINDOW: self._nested.call_window,
                ch.RQ_GET_PERSISTENT_TIME: self._clock.get_persistent_time,
                ch.RQ_SET_PERSISTENT_TIME: self._clock.set_persistent_time,
                ch.RQ_OPEN_BIN: self._binaries.open_bin,
                **self._storage.handlers,
            },
        )

    def warm_up(self) -> None:
        """Somebody opened the device: start what the first session will need."""
        self._warm_parent.start()
        if not self.store.is_prepared:
            WORKERS.submit(self._prepare_store)

    def _prepare_store(self) -> None:
        tas = self.store.may_have_tas
        if tas:
            self._arm_parent.start()
        try:
            self.store.prepare()
        except TeeError:  # the person was told, and who opens a session gets it
            return
        if not tas and self.store.may_have_tas:
            self._arm_parent.start()

    def open_session(self, arg: OpenSessionArg) -> OpResult:
        """Open a session with the service that ``arg`` names.

        :raises ItemNotFound: no such service.
        :raises Busy: a single instance without multi_session has its session.
        """
        check_gp_params(arg)
        if self.store.known(arg.uuid) is None:
            # Files are to be read, perhaps verified: nothing for the receiving thread.
            WORKERS.submit(lambda: self._find_and_open(arg))
            return PENDING
        return self._open_session(arg)

    def _find_and_open(self, arg: OpenSessionArg) -> None:
        try:
            self._open_session(arg)
            return
        except TeeError as error:
            arg.fail(error)
        except OSError as error:
            arg.error = error.errno or EIO
        except Exception:
            arg.error = EIO
            arg.complete()
            raise
        arg.complete()

    def _open_session(self, arg: OpenSessionArg) -> OpResult:
        session = self.new_session(arg.uuid)
        instance = session.instance
        arg.priv = session
        command = OpenCommand(ch.TA_OPEN_SESSION, instance, session.id, arg)
        arg.cancel = command.cancel
        instance.submit(command)
        if arg.abandoned:  # before that: nobody else will cancel it
            command.cancel()
        return PENDING

    def new_session(self, uuid: bytes, depth: int = 1) -> ServiceSession:
        """A session with the service ``uuid``, which is still to be opened in its instance.

        :param depth: of the call that opens it (:mod:`gentee.secure.nested`).
        :raises ItemNotFound: no such service.
        :raises Busy: a single instance without multi_session has its session.
        """
        if uuid in self.pseudo_tas:
            return self._pseudo_session(self.pseudo_tas.instance(uuid))
        try:
            service = self.store.find(uuid)
        except TaImageError as error:
            raise TeeError.from_code(error.code, detail=str(error)) from error
        if service is None:
            raise ItemNotFound(f"no service {format_uuid(uuid)}")
        try:
            return self._new_session(service, depth)
        except Busy:
            # Who had its one session may have closed the device already.
            self._host.events.settle()
            return self._new_session(service, depth)

    def _new_session(self, service: Service, depth: int) -> ServiceSession:
        outdated = None
        try:
            with self._lock:
                outdated = self._outdated(service.uuid, service)
                instance = self._instance_for(service, depth)
                self._next_session += 1
                session = ServiceSession(instance, self._next_session)
                instance.sessions.add(session.id)
        finally:
            if outdated is not None:
                outdated.destroy()
        return session

    def _pseudo_session(self, instance: "PseudoInstance") -> ServiceSession:
        with self._lock:
            self._next_session += 1
            session = ServiceSession(instance, self._next_session)
            instance.sessions.add(session.id)
        return session

    def _outdated(self, uuid: bytes, service: Service | None) -> Instance | None:
        """A kept instance without sessions that is none of ``service``: it is to make room.

        As long as it has a session it is the one instance that there may be, and takes more.
        """
        instance = self._single.get(uuid)
        if instance is None or instance.service is service or instance.dead or instance.sessions:
            return None
        self._retire(instance)
        return instance

    def _instance_for(self, service: Service, depth: int) -> Instance:
        uuid = service.uuid
        if service.single_instance:
            instance = self._single.get(uuid)
            kept_crashed = instance is not None and self._is_kept_crashed(instance, service)
            if instance is not None and (kept_crashed or not instance.dead):
                if instance.sessions and not instance.service.multi_session:
                    raise Busy(f"{service.name} has its one session")
                if kept_crashed:
                    raise TargetDead(f"{service.name} panicked, and is kept so")
                return instance
        if self._closing:  # a service may ask for another one until its own end
            raise CommunicationError("the TEE ends")
        if len(self._instances) >= self._max_instances:
            raise OutOfMemory(f"{self._max_instances} instances are alive")
        source = service.read()
        parent: ProcessParent = self._warm_parent
        create = None
        if service.is_elf:
            parent, create = self._templates.parent_for(service, depth)
        after = self._ending.get(uuid) if service.single_instance else None
        instance = Instance(
            self._host,
            parent,
            service,
            source,
            self,
            after,
            depth,
            self._limits.memory,
            create,
        )
        self._instances.add(instance)
        self._watchdog.watch()
        if not self._told:
            self._told = True
            self._host.events.call_soon(self._tell_what_is_missing)
        if service.single_instance:
            self._single[uuid] = instance
        return instance

    @staticmethod
    def _is_kept_crashed(instance: Instance, service: Service) -> bool:
        return instance.dead and service.keep_crashed and instance.service is service

    def _tell_what_is_missing(self) -> None:
        """Of what holds services in, the one part that kernels may lack."""
        if not landlock.abi_version():
            self._host.warn(
                "services are confined without Landlock, which this kernel does not have or this "
                "container hides; 'gentee doctor' says more"
            )

    def instance_parked(self, instance: Instance) -> None:
        self._parking.enter(instance)

    def instance_noted(self, instance: Instance) -> None:
        self._templates.noted(instance)

    def instance_ended(self, instance: Instance) -> None:
        self._parking.leave(instance)
        uuid = instance.service.uuid
        with self._lock:
            self._instances.discard(instance)
            if self._ending.get(uuid) is instance:
                del self._ending[uuid]
            elif self._single.get(uuid) is instance and (
                # Nobody wanted its end. OP-TEE: maybe_release_ta_ctx()
                not instance.service.keep_crashed or instance.create_error
            ):
                del self._single[uuid]
            if self._closing and not self._instances:
                self._all_gone.set()
        self._nested.instance_ended(instance)
        self._storage.instance_ended(instance)

    def crashed(self, service: Service, report: bytes) -> None:
        if self._crash_reports is None:
            from gentee.secure.crash import CrashReports
            from gentee.secure.symbols import Symbols

            self._crash_reports = CrashReports(self._host, Symbols(self._symbols))
        self._crash_reports.submit(service.name, format_uuid(service.uuid), report)

    def template_ended(self, instance: Instance) -> None:
        """A template is gone, and with it all that were forked from it."""
        self._parking.leave(instance)

    def request(self, instance: Instance, notify_id: int, code: int) -> None:
        self._requests.handle(instance, notify_id, code)

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
        self.end_session(mine, Command(ch.TA_CLOSE_SESSION, mine.id))

    def end_session(self, mine: ServiceSession, command: Command) -> None:
        """Close a session by ``command``."""
        instance = mine.instance
        if not isinstance(instance, Instance):  # a pseudo TA's, which is always there
            instance.sessions.discard(mine.id)
            instance.submit(command)
            return
        with self._lock:
            instance.sessions.discard(mine.id)
            last = not instance.sessions and not instance.service.keep_alive
            if last:
                self._retire(instance)
        instance.submit(command)
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

    # Services, as things to load and to list. These may wait for a disk.

    def load_ts(self, image: bytes) -> Service:
        """Install the service of a signed image; the next instance is of this version.

        A single instance that has sessions takes more of them until its end, as in OP-TEE.

        :raises TeeError: SECURITY where signature, digest or header do not hold, ACCESS_CONFLICT
            for a version lower than one before, BAD_FORMAT for what the image has inside.
        """
        try:
            return self.store.install(image)
        except TaImageError as error:
            self._host.warn(f"image refused: {error}")
            raise TeeError.from_code(error.code, detail=str(error)) from error

    def unload_ts(self, uuid: bytes) -> None:
        """Forget an installed service, not its version. Instances with sessions go on.

        :raises ItemNotFound: it is not installed.
        """
        self.store.uninstall(uuid)
        with self._lock:
            kept = self._outdated(uuid, None)
        if kept is not None:
            kept.destroy()

    def administer_storage(
        self, request: object, file: "BinaryIO | None" = None
    ) -> "dict[str, Any]":
        """What the operator asks of stored objects (:mod:`gentee.secure.storage.admin`)."""
        from gentee.secure.storage.admin import RunningTurns, administer

        return administer(RunningTurns(self._storage), self.store, request, file)

    def list_ts(self) -> "list[TsInfo]":
        """All services, with what runs of them."""
        from gentee.abi.gentee_tee import (
            TEE_TS_INSTALLED,
            TEE_TS_STATE_ACTIVE,
            TEE_TS_STATE_BUSY,
            TEE_TS_STATE_READY,
        )
        from gentee.core.trusted_services import TsInfo

        services = self.store.all()
        alive: dict[bytes, tuple[int, int]] = {}
        with self._lock:
            for instance in self._instances:
                count, sessions = alive.get(instance.service.uuid, (0, 0))
                alive[instance.service.uuid] = (count + 1, sessions + len(instance.sessions))
        found = []
        for service in services:
            count, sessions = alive.get(service.uuid, (0, 0))
            state = TEE_TS_STATE_ACTIVE if count else TEE_TS_STATE_READY
            if sessions and service.single_instance and not service.multi_session:
                state = TEE_TS_STATE_BUSY
            flags = TEE_TS_INSTALLED if service.installed else 0
            info = TsInfo(service.uuid, service.name, service.version, state, count, sessions)
            info.apis, info.flags = service.apis, flags
            found.append(info)
        return found

    @property
    def memory_limit(self) -> int:
        """Bytes of private memory that the processes of all services may have together."""
        return self._max_instances * self._limits.memory << 20

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
        self._templates.close()
        self.normal_world.close()
        self._warm_parent.close()
        self._arm_parent.close()
        if self._crash_reports is not None:
            self._crash_reports.close()
        self.store.close()
