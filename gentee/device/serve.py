# SPDX-License-Identifier: BSD-2-Clause
"""A TEE without a program of its own: what ``gentee serve`` runs until it is told to end."""

import os
import select
import signal
import socket
from collections.abc import Callable, Sequence

from gentee.core.device import DeviceRegistry
from gentee.core.driver import TeeDriver
from gentee.device.host import LocalHost
from gentee.device.left_behind import let_calls_go_on
from gentee.device.manage import ServiceManager
from gentee.device.server import TeeServer
from gentee.device.state_dir import StateDir
from gentee.errors import UserError
from gentee.linux.libc import PR_SET_CHILD_SUBREAPER, prctl, raise_limit

_END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Serve:
    """One ``gentee serve``.

    :param state: the TEE's folder, locked: the control socket is there.
    :param drivers: the drivers whose devices there are, with the options for their ``probe``.
    :param group: the id of a group whose members may join, besides owner and root.
    :param look: as for :class:`gentee.device.server.TeeServer`.
    """

    def __init__(
        self,
        state: StateDir,
        drivers: Sequence[tuple[TeeDriver, dict[str, object]]],
        *,
        group: int | None = None,
        log_level: int = 3,
        look: bool = True,
    ) -> None:
        self._state = state
        self._drivers = list(drivers)
        self._group = group
        self._log_level = log_level
        self._look = look
        self._stopping = False
        self.registry = DeviceRegistry()

    def run(self, ready: Callable[[list[str]], None]) -> None:
        """Serve until SIGTERM, SIGINT, SIGHUP or somebody's request.

        :param ready: called, with the names of the devices, when programs can join.
        """
        raise_limit()
        # Services are our children then, not those of whoever is above us.
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # of leases (gentee.linux.shm)
        wake, self._wake = socket.socketpair()
        wake.setblocking(False)
        self._wake.setblocking(False)
        for number in _END_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._ask_to_stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # for the wake-up alone
        # A signal can come to any thread; its number comes to where the main thread waits.
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        host = LocalHost(log_level=self._log_level)
        server = None
        kept: list[int] = []
        try:
            host.notifier()  # before there is a call that would have to wait for it
            for driver, options in self._drivers:
                for desc in driver.probe(host, options):
                    self.registry.tee_device_register(desc)
            manager = ServiceManager.of_drivers([driver for driver, _options in self._drivers])
            server = TeeServer(
                host,
                self.registry,
                self._state,
                manager=manager,
                group=self._group,
                stop=self._ask_to_stop,
                look=self._look,
            )
            server.listen()
            ready([device.name for device in self.registry.all()])
            self._wait(wake)
        except OSError as error:
            if error.errno is None:
                raise
            raise UserError(
                f"this kernel or container refuses what gentee needs: {error.strerror}",
                "'gentee doctor' says what is missing",
            ) from error
        finally:
            signal.set_wakeup_fd(-1)
            if server is not None:
                kept = server.close()
            for device in self.registry.all():
                self.registry.tee_device_unregister(device)
            for driver, _options in self._drivers:
                driver.remove()
            host.close()
            wake.close()
            self._wake.close()
        for listener in kept:
            let_calls_go_on(listener)
            os.close(listener)

    def _ask_to_stop(self, *_signal: object) -> None:
        self._stopping = True
        try:
            self._wake.send(b"\0")
        except OSError:  # it is full, so it wakes anyway; or the end has come
            pass

    def _wait(self, wake: socket.socket) -> None:
        """Wait for the end, and collect children."""
        poller = select.poll()
        poller.register(wake, select.POLLIN)
        while not self._stopping:
            _collect()
            poller.poll()
            try:
                wake.recv(4096)
            except BlockingIOError:
                pass


def _collect() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
