# SPDX-License-Identifier: BSD-2-Clause
"""Templates: processes that have loaded an OP-TEE TA, never run it, and are forked for others.

The first instance of a TA is forked from the warm parent: it loads the TA, and most of what it runs
must be translated first. What it ran is noted. From that a template is made, beside, and every
later instance is a fork of it: loaded, and translated.

So the instances of a TA have the same addresses, as long as the TEE runs; those of another TA, or
of another run, have others. Keys of pointer authentication are new in each.

A template is an instance with no session (:mod:`gentee.secure.instance`): it is locked in, but for
forking (:func:`gentee.ta.confine.lock_template`), waits for commands as all do, and what it answers
is not trusted.
"""

import os
import threading
from functools import partial

from gentee.abi import ta_channel as ch
from gentee.core.host import Host
from gentee.errors import TaImageError, TeeError
from gentee.linux.shm import create_shm
from gentee.linux.task import parent_of
from gentee.secure.commands import Command, CreateCommand
from gentee.secure.instance import Instance
from gentee.secure.service import Service
from gentee.secure.warm_parent import Birth, ProcessParent, WarmParent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.linux.notify import Notifier
    from gentee.secure.tee import SoftTee

MOST = 16  # templates at a time; each has some megabytes
BLOCKS_SIZE = 1 << 16  # bytes: gentee.ta.hot_blocks.SIZE

_LATER = 0.02  # seconds after which is looked whether the first instance has run


class _Fork(Command):
    """Fork a process that introduces itself with a token."""

    __slots__ = ("template", "token")

    def __init__(self, template: "Template", token: int) -> None:
        super().__init__(ch.TA_FORK)
        self.template = template
        self.token = token

    def write(self, instance: Instance) -> int:
        super().write(instance)
        instance.words[ch.M_FUNC] = self.token
        return self.op

    def is_wanted(self) -> bool:
        return True

    def done(self, instance: Instance) -> None:
        words = instance.words
        pid = -1 if words[ch.M_RET] else words[ch.M_SESSION] & 0x7FFF_FFFF
        self.template.forked(self.token, pid)

    def failed(self, instance: Instance, error: OSError | TeeError) -> None:
        self.template.forked(self.token, -1)

    def died(self, instance: Instance) -> None:
        self.template.forked(self.token, -1)


class _Reap(Command):
    """A forked process has ended, and is known to have."""

    __slots__ = ("pid",)

    def __init__(self, pid: int) -> None:
        super().__init__(ch.TA_REAP)
        self.pid = pid

    def write(self, instance: Instance) -> int:
        super().write(instance)
        instance.words[ch.M_FUNC] = self.pid
        return self.op


class Template(ProcessParent):
    """The template of one TA; to its instances, what the warm parent is to others."""

    def __init__(self, host: Host, instance: Instance, notifier: "Notifier") -> None:
        super().__init__(host)
        self.instance = instance
        self._notifier = notifier
        # Protected by the same lock:
        self._children = 0  # they end when it ends
        self._retired = False

    @property
    def notifier(self) -> "Notifier":
        return self._notifier

    @property
    def is_used(self) -> bool:
        """Whether it has children, besides the one ahead."""
        return self._children > 0

    def reserve(self) -> bool:
        """There will be a child; False if it is too late for that."""
        with self._lock:
            if self._retired:
                return False
            self._children += 1
            return True

    def _release(self) -> None:
        """A child is gone, or will not come."""
        with self._lock:
            self._children -= 1
            last = self._retired and not self._children
        if last:
            self.instance.destroy()

    def retire(self) -> None:
        """It ends when its last child has."""
        with self._lock:
            last, self._retired = not self._retired and not self._children, True
        if last:
            self.instance.destroy()

    def loaded(self) -> None:
        """It is ready: have one process ahead."""
        self._request(None)

    def _fork(self, token: int) -> None:
        self.instance.submit(_Fork(self, token))

    def forked(self, token: int, pid: int) -> None:
        """It says that it has forked ``pid``; below 0: that it could not. Any thread."""
        self._host.events.call_soon(partial(self._checked, token, pid))

    def _checked(self, token: int, pid: int) -> None:
        # It may say anything: another process must neither be watched nor killed for it.
        if pid >= 0 and not self._is_child(pid):
            self.instance.kill()
            pid = -1
        self._forked(token, pid)

    def _is_child(self, pid: int) -> bool:
        try:
            return parent_of(pid) == self.instance.pid
        except OSError:
            return False

    def _failed(self, birth: Birth) -> None:
        super()._failed(birth)
        self._release()

    def reap(self, pid: int) -> None:
        self.instance.submit(_Reap(pid))
        self._release()


class Templates:
    """The templates of one TEE, by the UUID of the TA."""

    def __init__(
        self, host: Host, arm_parent: WarmParent, owner: "SoftTee", memory_limit: int
    ) -> None:
        self._host = host
        self._arm_parent = arm_parent
        self._owner = owner
        self._memory_limit = memory_limit
        self._lock = threading.Lock()  # protects the three below
        self._closed = False
        self._templates: dict[bytes, Template] = {}  # the least recently used first
        self._blocks: dict[bytes, int] = {}  # descriptors: of those that will have a template

    def parent_for(self, service: Service, depth: int) -> tuple[ProcessParent, CreateCommand]:
        """Whom to fork an instance from, and how it comes to be loaded."""
        parent = self._template_of(service)
        if parent is not None:
            return parent, CreateCommand(depth, ch.CREATE_FORKED)
        blocks = self._note_blocks(service)
        kind = ch.CREATE_PLAIN if blocks < 0 else ch.CREATE_RECORDED
        return self._arm_parent, CreateCommand(depth, kind, blocks)

    def _template_of(self, service: Service) -> Template | None:
        with self._lock:
            template = self._templates.pop(service.uuid, None)
            if template is None:
                return None
            instance = template.instance
            if not self._is_current(instance, service) or instance.dead:
                template.retire()
                return None
            self._templates[service.uuid] = template  # the last one now
            return template if instance.is_ready and template.reserve() else None

    def _is_current(self, instance: Instance, service: Service) -> bool:
        """Whether a template is of this image, and its libraries are still those that there are."""
        is_current = self._owner.store.is_current
        return instance.service is service and all(map(is_current, instance.binaries))

    def _note_blocks(self, service: Service) -> int:
        """A descriptor for what the first instance runs; -1 for others."""
        with self._lock:
            if self._closed or service.uuid in self._blocks or service.uuid in self._templates:
                return -1
            try:
                blocks = create_shm(BLOCKS_SIZE, "tee_hot_blocks")
            except OSError:  # then without
                return -1
            self._blocks[service.uuid] = blocks
        return os.dup(blocks)

    def noted(self, instance: Instance) -> None:
        """The first instance of a TA is loaded, and about to run for the first time."""
        self._host.events.call_later(_LATER, partial(self._after, instance))

    def _after(self, instance: Instance) -> None:
        """Events thread: has it run?"""
        if instance.create_error or not instance.is_ready:
            self._forget(instance.service)
        elif instance.current is None or instance.dead:
            self._make(instance.service)
        else:
            self._host.events.call_later(_LATER, partial(self._after, instance))

    def _forget(self, service: Service) -> None:
        with self._lock:
            blocks = self._blocks.pop(service.uuid, -1)
        if blocks >= 0:
            os.close(blocks)

    def _make(self, service: Service) -> None:
        """Events thread: make the template, from what was noted so far."""
        with self._lock:
            blocks = self._blocks.pop(service.uuid, -1)
            if blocks < 0:  # it was made already, or the TEE ends
                return
            oldest = [found for found in self._templates.values() if not found.is_used]
            if len(self._templates) >= MOST and oldest:
                self._templates = {
                    uuid: found for uuid, found in self._templates.items() if found is not oldest[0]
                }
                oldest[0].retire()
            is_full = len(self._templates) >= MOST
        try:
            if not is_full:
                self._start(service, blocks)
        except (OSError, TaImageError):  # no descriptors, no image any more: then without
            pass
        finally:
            os.close(blocks)

    def _start(self, service: Service, blocks: int) -> None:
        create = CreateCommand(1, ch.CREATE_TEMPLATE, os.dup(blocks))
        instance = Instance(
            self._host,
            self._arm_parent,
            service,
            service.read(),
            self,
            memory_limit=self._memory_limit,
            create=create,
        )
        with self._lock:
            self._templates[service.uuid] = Template(
                self._host, instance, self._arm_parent.notifier
            )

    def close(self) -> None:
        """The TEE ends: there will be no more. Those that there are end with their parent."""
        with self._lock:
            self._closed = True
            blocks, self._blocks = self._blocks, {}
        for fd in blocks.values():
            os.close(fd)

    # What the template's own instance tells.

    def instance_parked(self, instance: Instance) -> None:
        self._owner.instance_parked(instance)

    def instance_noted(self, instance: Instance) -> None:
        with self._lock:
            template = self._templates.get(instance.service.uuid)
        if template is not None and template.instance is instance:
            template.loaded()

    def instance_ended(self, instance: Instance) -> None:
        with self._lock:
            uuid = instance.service.uuid
            template = self._templates.get(uuid)
            if template is not None and template.instance is instance:
                del self._templates[uuid]
        self._owner.template_ended(instance)

    def session_refused(self, instance: Instance) -> None:
        """It has none."""

    def crashed(self, service: Service, report: bytes) -> None:
        self._owner.crashed(service, report)

    def request(self, instance: Instance, notify_id: int, code: int) -> None:
        self._owner.request(instance, notify_id, code)
