# SPDX-License-Identifier: BSD-2-Clause
"""What a TEE calls the normal world back for, built in: sockets and plugins.

On a board a program serves that, OP-TEE's tee-supplicant. Where one has opened the privileged
device of a TEE it serves here too (:mod:`gentee.secure.rpc`); otherwise these do, and no second
program is needed.
"""

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from gentee.core.host import Host
    from gentee.secure.normal_world.plugins import Plugins
    from gentee.secure.normal_world.sockets import Sockets


class NormalWorld:
    """The built-in services of one TEE. What nobody asks for is not loaded.

    :param allow_net: what sockets of services may reach (:mod:`.network`); nothing by default.
    :param plugin_dirs: folders with plugins in C (:mod:`.plugins`).
    """

    def __init__(
        self, host: "Host", allow_net: "Sequence[str]" = (), plugin_dirs: "Sequence[str]" = ()
    ) -> None:
        self._host = host
        self._allow_net = tuple(allow_net)
        self._plugin_dirs = tuple(plugin_dirs)
        self._lock = threading.Lock()  # protects the three below
        self._sockets: Sockets | None = None
        self._plugins: Plugins | None = None
        self._closed = False

    @property
    def sockets(self) -> "Sockets":
        with self._lock:
            if self._sockets is None:
                from gentee.secure.normal_world.sockets import Sockets

                self._sockets = Sockets(self._host, self._allow_net)
            return self._sockets

    @property
    def plugins(self) -> "Plugins":
        with self._lock:
            if self._plugins is None:
                from gentee.secure.normal_world.plugins import Plugins

                self._plugins = Plugins(self._host, self._plugin_dirs)
                if self._closed:
                    self._plugins.close()
            return self._plugins

    def close(self) -> None:
        """End the processes of plugins. Sockets end with the services that have them."""
        with self._lock:
            self._closed = True
            plugins = self._plugins
        if plugins is not None:
            plugins.close()
