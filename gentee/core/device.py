# SPDX-License-Identifier: BSD-2-Clause
"""Devices (tee_core.c): ``tee0`` to ``tee15`` for clients, ``teepriv0`` to 15 for supplicants."""

import errno
import heapq
import threading

from gentee.abi.linux_tee import TEE_GEN_CAP_PRIVILEGED, TEE_IOCTL_VERSION_DATA
from gentee.core.driver import TeeDesc, TeeDriverOps
from gentee.core.shm import TeeShmPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.context import TeeContext

TEE_NUM_DEVICES = 32

_OPERATIONS = tuple(name for name, value in vars(TeeDriverOps).items() if callable(value))


class IdAllocator:
    """Gives the lowest free number from 1 on, as the kernel's idr does."""

    def __init__(self) -> None:
        self._next = 1
        self._free: list[int] = []
        self._lock = threading.Lock()  # protects both

    def alloc(self) -> int:
        with self._lock:
            if self._free:
                return heapq.heappop(self._free)
            self._next += 1
            return self._next - 1

    def free(self, number: int) -> None:
        with self._lock:
            heapq.heappush(self._free, number)


class TeeDevice:
    """One device (struct tee_device).

    ``mutex`` protects what its contexts share: ids, totals, reference counts and the sets of
    contexts and sessions. It is never held while a driver's operation runs.
    """

    def __init__(self, desc: TeeDesc) -> None:
        self.desc = desc
        self.ops = desc.ops
        self.pool: TeeShmPool = desc.pool if desc.pool is not None else TeeShmPool()
        self.operations = frozenset(name for name in _OPERATIONS if desc.ops.has(name))
        self.name = ""
        self.mutex = threading.Lock()
        self.contexts: set[TeeContext] = set()
        self.shm_ids = IdAllocator()
        self.session_ids = IdAllocator()
        self.shm_bytes = 0
        self._users = 0
        self._registered = False
        self._no_users = threading.Event()
        impl_id, impl_caps, gen_caps = desc.ops.get_version(self)
        if desc.privileged:
            gen_caps |= TEE_GEN_CAP_PRIVILEGED
        self.version = (impl_id, impl_caps, gen_caps)
        self.version_data = TEE_IOCTL_VERSION_DATA.pack(*self.version)

    def get(self) -> None:
        """A new user; ENODEV when the device is going away."""
        with self.mutex:
            if not self._registered:
                raise OSError(errno.ENODEV, self.name)
            self._users += 1

    def put(self) -> None:
        with self.mutex:
            self._users -= 1
            if not self._users and not self._registered:
                self._no_users.set()

    def registered(self, yes: bool) -> None:
        """Set by the registry. After False nothing can be opened."""
        with self.mutex:
            self._registered = yes
            if not yes and not self._users:
                self._no_users.set()

    def wait_no_users(self, timeout: float | None = None) -> bool:
        """Wait until the last context is closed, at most ``timeout`` seconds."""
        return self._no_users.wait(timeout)

    def __repr__(self) -> str:
        return f"<TeeDevice {self.name or '(unregistered)'} {self.desc.name}>"


class DeviceRegistry:
    """The devices of this program, by name."""

    def __init__(self) -> None:
        self._devices: dict[str, TeeDevice] = {}
        self._lock = threading.Lock()  # protects _devices

    def tee_device_register(self, desc: TeeDesc) -> TeeDevice:
        """Make a device of ``desc`` under the lowest free name; ENOMEM when all 16 are taken.

        That of a heap has the heap's name.
        """
        device = TeeDevice(desc)
        if desc.is_heap and desc.heap is not None:
            device.name = desc.heap.name
            with self._lock:
                self._devices[device.name] = device
            device.registered(True)
            return device
        prefix = "teepriv" if desc.privileged else "tee"
        with self._lock:
            for number in range(TEE_NUM_DEVICES // 2):
                name = f"{prefix}{number}"
                if name not in self._devices:
                    device.name = name
                    self._devices[name] = device
                    break
            else:
                raise OSError(errno.ENOMEM, f"all {TEE_NUM_DEVICES // 2} {prefix} devices in use")
        device.registered(True)
        return device

    def tee_device_unregister(self, device: TeeDevice) -> None:
        """Nothing can be opened any more; open contexts are closed."""
        from gentee.core.context import teedev_close_context

        device.registered(False)
        for ctx in tuple(device.contexts):
            teedev_close_context(ctx)
        with self._lock:
            self._devices.pop(device.name, None)

    def get(self, name: str) -> TeeDevice | None:
        return self._devices.get(name)

    def all(self) -> list[TeeDevice]:
        """Clients' devices first, each kind by number, heaps last."""
        return sorted(
            self._devices.values(),
            key=lambda d: (d.desc.is_heap, d.desc.privileged, len(d.name), d.name),
        )
