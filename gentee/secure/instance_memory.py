# SPDX-License-Identifier: BSD-2-Clause
"""What the process of an instance has mapped of the memory that is shared with clients.

A shared memory object goes over once, as a descriptor with a key that the process maps it under;
the calls that follow name the key only. It stays mapped until the object ends. Memory that can only
be copied is seen through the window (:mod:`gentee.secure.window`), which has a key as well.
"""

import os
import threading

from gentee.abi import ta_channel as ch
from gentee.abi.gp import TEE_ORIGIN_TEE
from gentee.abi.linux_tee import TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT
from gentee.abi.optee_ta import TA_FLAG_SECURE_DATA_PATH
from gentee.core.params import TeeParam
from gentee.core.shm import TEE_SHM_NOT_NORMAL, TEE_SHM_PROTECTED, TeeShm
from gentee.errors import BadParameters, TargetDead
from gentee.linux.shm import create_shm, reopen
from gentee.secure.window import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.linux.notify import Notifier
    from gentee.secure.instance import Instance


class InstanceMemory:
    """The memory of one instance's process.

    It is told each time whose it is, for an instance is to go with its last user, and not with the
    next look for cycles.
    """

    __slots__ = ("_lock", "_maps", "_next_key", "_notifier", "unmaps")

    def __init__(self, notifier: "Notifier") -> None:
        self._notifier = notifier
        self._lock = threading.Lock()  # protects _maps and unmaps
        self._maps: dict[TeeShm, int] = {}
        # Keys that the process is to drop with its next command; always this list.
        self.unmaps: list[int] = []
        self._next_key = ch.WINDOW_KEY

    def write_params(
        self, instance: "Instance", params: list[TeeParam], layout: Layout | None
    ) -> None:
        """Put parameters into the mailbox, and map what the process has not mapped yet."""
        words = instance.words
        types = 0
        new_maps = 0
        # Before anything is brought or mapped: it may not be this service's to see.
        marks = [_mark(instance, p.shm) if p.shm is not None else 0 for p in params]
        if layout is not None:
            window = instance.window
            window.fit(layout.size)
            window.copy_in(layout)  # may fail, so before anything is given to the process
            if window.fd >= 0:
                new_maps = self._map(instance, new_maps, ch.WINDOW_KEY, window.fd, window.size)
                window.mapped()
        for index, param in enumerate(params):
            kind = param.attr
            types |= kind << 4 * index
            base = ch.M_PARAMS + 3 * index
            words[base + 1] = param.b
            if kind < TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT:
                words[base] = param.a & 0xFFFF_FFFF
                words[base + 1] = param.b & 0xFFFF_FFFF
                continue
            shm = param.shm
            if shm is None:
                words[base], words[base + 2] = 0, ch.NULL_KEY
            elif shm.backing is not None:
                assert layout is not None
                words[base] = layout.place_of(param)
                words[base + 2] = ch.WINDOW_KEY | marks[index]
            else:
                key = self._maps.get(shm)
                if key is None:
                    self._next_key += 1
                    key = self._next_key
                    new_maps = self._map(instance, new_maps, key, shm.fd, shm.size)
                    self._maps[shm] = key
                    if shm.priv is None:
                        shm.priv = set()
                    assert isinstance(shm.priv, set)
                    shm.priv.add(instance)  # who is told when it ends
                words[base], words[base + 2] = param.a, key | marks[index]
        words[ch.M_NUM_MAPS] = new_maps
        words[ch.M_PARAM_TYPES] = types

    def _map(self, instance: "Instance", count: int, key: int, fd: int, size: int) -> int:
        number = self.install(instance.parked, fd)
        base = ch.M_MAPS + 3 * count
        words = instance.words
        words[base], words[base + 1], words[base + 2] = key, number, size
        return count + 1

    def write_unmaps(self, words: memoryview) -> None:
        """Put into the mailbox what the process is to drop, as much as there is room for."""
        with self._lock:
            keys = self.unmaps[: ch.MAX_UNMAPS]
            del self.unmaps[: ch.MAX_UNMAPS]
        words[ch.M_NUM_UNMAPS] = len(keys)
        for index, key in enumerate(keys):
            words[ch.M_UNMAPS + index] = key

    def forget(self, shm: TeeShm) -> bool:
        """``shm`` ended; whether the process has it mapped, and so has something to drop."""
        with self._lock:
            key = self._maps.pop(shm, None)
            if key is None:
                return False
            self.unmaps.append(key)
            return True

    def close(self, instance: "Instance") -> None:
        """The process is gone: nobody needs to tell ``instance`` of the end of memory."""
        with self._lock:
            maps, self._maps = self._maps, {}
        for shm in maps:
            assert isinstance(shm.priv, set)
            shm.priv.discard(instance)

    def install(self, notify_id: int, fd: int) -> int:
        """Hand a descriptor to the process, which waits in ``notify_id``; its number there.

        :raises TargetDead: it is gone.
        """
        number = self._notifier.install_fd(notify_id, fd, os.O_CLOEXEC)
        if number is None:
            raise TargetDead("the instance is gone", TEE_ORIGIN_TEE)
        return number

    def install_source(self, notify_id: int, source: bytes) -> int:
        """Hand the service's source over as a descriptor that can only be read; its number."""
        fd = create_shm(max(1, len(source)), "tee_service")
        try:
            os.pwrite(fd, source, 0)
            readonly = reopen(fd, os.O_RDONLY)
        finally:
            os.close(fd)
        try:
            return self.install(notify_id, readonly)
        finally:
            os.close(readonly)


def _mark(instance: "Instance", shm: TeeShm) -> int:
    """What goes with the key of ``shm``: KEY_*, which TAs of OP-TEE can ask for.

    As ``check_params()`` of core/kernel/tee_ta_manager.c, for all services: of a secure data path
    they have memory only with TA_FLAG_SECURE_DATA_PATH, which those in Python have not.

    :raises BadParameters: it is not this service's to see.
    """
    kind = shm.flags & TEE_SHM_NOT_NORMAL
    if not kind:
        return 0
    service = instance.service
    if kind & TEE_SHM_PROTECTED:
        if not service.ta_flags & TA_FLAG_SECURE_DATA_PATH:
            raise BadParameters("memory of a secure data path", TEE_ORIGIN_TEE)
        return ch.KEY_PROTECTED
    return ch.KEY_SECURE if service.is_elf else 0
