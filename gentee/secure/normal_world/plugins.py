# SPDX-License-Identifier: BSD-2-Clause
"""Plugins: code of the normal world that services call by UUID (tee_invoke_supp_plugin()).

Those in C are as OP-TEE's tee-supplicant has them, shared libraries in a folder. Those in Python
are found by the entry-point group ``gentee.plugins`` of installed distributions. Each has a process
of its own, so what it does to itself costs the calls that are under way in it; the next call starts
it again. All are loaded at the first call of any, as only then their UUIDs are known.

A call is a socket on which the result comes, and memory that is shared with the plugin: nothing
here waits for a plugin but a thread that starts one.
"""

import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable

from gentee.core.workers import WORKERS, Workers
from gentee.errors import CommunicationError, ItemNotFound, OutOfMemory, TeeError
from gentee.secure.normal_world.plugin_process import CALL, MAX_HELLO, RESULT
from gentee.secure.service import parse_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.core.host import Host

GROUP = "gentee.plugins"
MAX_CALLS = 64  # under way at a time
_LOAD_SECONDS = 30.0

# A call may wait for plugins that are loaded, and so not with what the TEE has its threads for.
_CALLERS = Workers(16)

# TEEC_Result, what is in the memory now, and how many bytes of it count; or an error.
Answered = Callable[[int, bytes, int], None]
Failed = Callable[[TeeError], None]


class _Process:
    """A process that has one plugin loaded.

    :param wanted: what to load, as :mod:`.plugin_process` reads it.
    :raises OSError: it cannot be started.
    :raises ValueError: the plugin cannot be loaded, with the reason.
    """

    def __init__(self, wanted: dict[str, object]) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()  # protects the pidfd
        self._pidfd = -1
        self._started = threading.Event()
        self._start_error: OSError | None = None
        with theirs:
            # A thread for its life: it ends with the thread that started it.
            threading.Thread(
                target=self._live, args=(theirs.fileno(),), name="gentee-plugin", daemon=True
            ).start()
            self._started.wait()
        try:
            if self._start_error is not None:
                raise self._start_error
            self._sock.send(json.dumps(wanted).encode())
            self._sock.settimeout(_LOAD_SECONDS)
            hello = self._sock.recv(MAX_HELLO)
            self._sock.settimeout(None)
            answer = json.loads(hello) if hello else {"error": "it ended while it was loaded"}
            if "error" in answer:
                raise ValueError(str(answer["error"]))
            self.name = str(answer["name"])
            self.uuid = parse_uuid(str(answer["uuid"]))
        except TimeoutError:
            self.close()
            raise ValueError(f"it is not loaded after {_LOAD_SECONDS:.0f} s") from None
        except BaseException:
            self.close()
            raise

    def _live(self, socket_fd: int) -> None:
        try:
            pid = _spawn(socket_fd)
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended, and whoever waits for any child was first
            return
        except OSError as error:
            self._start_error = error
            return
        finally:
            self._started.set()
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:  # the same
            pass
        with self._lock:
            os.close(self._pidfd)
            self._pidfd = -1

    def call(self, command: int, sub_command: int, size: int, reply: int, memory: int) -> None:
        """Begin a call; OSError where the process is gone."""
        packet = CALL.pack(command, sub_command, size)
        socket.send_fds(self._sock, [packet], [reply, memory], socket.MSG_NOSIGNAL)

    def close(self) -> None:
        """End it, whatever it does. Twice is once."""
        self._sock.close()
        with self._lock:
            if self._pidfd >= 0:
                try:
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                except ProcessLookupError:
                    pass


def _spawn(socket_fd: int) -> int:
    """Start a process with nothing but its socket and a place for messages."""
    if not sys.executable:
        raise OSError(0, "no Python interpreter is known")
    package_parent = os.path.normpath(os.path.join(os.path.abspath(__file__), *("..",) * 4))
    code = (
        "import sys; sys.path.append(sys.argv[1]); "
        "from gentee.secure.normal_world.plugin_process import main; "
        "main(3, int(sys.argv[2]))"
    )
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, 2, 1),
        (os.POSIX_SPAWN_DUP2, socket_fd, 3),
    ]
    argv = [sys.executable, "-I", "-c", code, package_parent, str(os.getpid())]
    return os.posix_spawn(sys.executable, argv, {}, file_actions=actions, setpgroup=0)


class _Plugin:
    """A plugin that could be loaded, and its process unless that has ended."""

    def __init__(self, source: str, wanted: dict[str, object], process: _Process) -> None:
        self.source = source
        self.wanted = wanted
        self.name = process.name
        self.process: _Process | None = process
        self.lock = threading.Lock()  # held while it is started again


class _Call:
    """A call under way. ``done`` is called once."""

    def __init__(self, plugins: "Plugins", answered: Answered, failed: Failed) -> None:
        self._plugins = plugins
        self._answered = answered
        self._failed = failed
        self._lock = threading.Lock()
        self._over = False
        self._reply = -1
        self._memory = -1
        self._size = 0

    def begin(self, plugin: _Plugin, command: int, sub_command: int, data: bytes) -> None:
        """Have ``plugin`` do it; in a thread that may wait."""
        process = self._plugins.process_of(plugin)
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            memory = os.memfd_create("gentee-plugin", os.MFD_CLOEXEC)
            try:
                os.ftruncate(memory, len(data))
                os.pwrite(memory, data, 0)
                process.call(command, sub_command, len(data), theirs.fileno(), memory)
            except BaseException as error:
                os.close(memory)
                mine.close()
                if isinstance(error, BrokenPipeError | ConnectionResetError):
                    self._plugins.ended(plugin, process)
                    raise CommunicationError(f"plugin {plugin.name} has ended") from error
                raise

        def ready() -> None:
            try:
                WORKERS.submit(lambda: self._finish(plugin, process))
            except OSError:  # no thread can be had; what is there is read without waiting
                self._finish(plugin, process)

        with self._lock:
            if not self._over:
                self._reply, self._memory, self._size = mine.detach(), memory, len(data)
                mask = select.EPOLLIN | select.EPOLLONESHOT
                self._plugins.host.events.add(self._reply, ready, mask)
                return
        mine.close()
        os.close(memory)

    def _finish(self, plugin: _Plugin, process: _Process) -> None:
        with self._lock:
            if self._over:
                return
            try:
                packet = os.read(self._reply, RESULT.size)
            except OSError:  # it ended with the call unread
                packet = b""
            ret, length = RESULT.unpack(packet) if len(packet) == RESULT.size else (0, 0)
            data = os.pread(self._memory, min(self._size, length), 0) if length else b""
            self._end()
        if not packet:
            self._plugins.ended(plugin, process)
            self._failed(CommunicationError(f"plugin {plugin.name} has ended"))
            return
        self._answered(ret, data, length)

    def fail(self, error: TeeError) -> None:
        """It ends with ``error``, unless it is over. What the plugin still says nobody hears."""
        with self._lock:
            if self._over:
                return
            self._end()
        self._failed(error)

    def cancel(self) -> None:
        """Nobody waits for it any more. Any thread."""
        self.fail(CommunicationError("nobody waits for it"))

    def _end(self) -> None:
        """With the lock held."""
        self._over = True
        if self._reply >= 0:
            self._plugins.host.events.remove(self._reply)
            os.close(self._reply)
            os.close(self._memory)
        self._plugins.left(self)


class Plugins:
    """The plugins of one TEE.

    :param folders: with plugins in C; a UUID of an earlier one wins.
    """

    def __init__(self, host: "Host", folders: Iterable[str]) -> None:
        self.host = host
        self._folders = tuple(folders)
        self._loading = threading.Lock()  # held while they are loaded
        self._lock = threading.Lock()  # protects all below
        self._plugins: dict[bytes, _Plugin] | None = None
        self._calls: set[_Call] = set()
        self._beginning = 0  # calls that a thread begins, or will; some may be over
        self._closed = False

    def invoke(
        self, uuid: bytes, command: int, sub_command: int, data: bytes, answered: Answered,
        failed: Failed,
    ) -> Callable[[], None]:  # fmt: skip
        """Call a plugin. ``answered`` or ``failed`` comes from any thread, perhaps at once.

        :param uuid: 16 bytes in the order of the text.
        :returns: what ends the call when nobody waits for it any more.
        """
        call = _Call(self, answered, failed)
        with self._lock:
            full = len(self._calls) >= MAX_CALLS or self._beginning >= MAX_CALLS
            if not full:
                self._calls.add(call)
                self._beginning += 1
        if full:
            call.fail(OutOfMemory(f"{MAX_CALLS} calls of plugins are under way"))
            return call.cancel

        def begin() -> None:
            try:
                plugin = self._loaded().get(uuid)
                if plugin is None:
                    raise ItemNotFound("no such plugin")
                call.begin(plugin, command, sub_command, data)
            except TeeError as error:
                call.fail(error)
            except OSError as error:
                call.fail(CommunicationError(str(error)))
            except BaseException as bug:  # ours; nobody is to wait for ever
                call.fail(CommunicationError("a bug"))
                self.host.bug(bug)
            finally:
                self._begun()

        try:
            _CALLERS.submit(begin)
        except OSError as error:  # no thread can be had
            self._begun()
            call.fail(OutOfMemory(str(error)))
        return call.cancel

    def _begun(self) -> None:
        with self._lock:
            self._beginning -= 1

    def _loaded(self) -> dict[bytes, _Plugin]:
        """All plugins, loaded now if they are not."""
        with self._loading:
            if self._plugins is not None:
                return self._plugins
            found: dict[bytes, _Plugin] = {}
            for source, wanted in self._sources():
                process = self._start(source, wanted)
                if process is None:
                    continue
                if process.uuid in found:
                    first = found[process.uuid]
                    self.host.warn(f"plugin {source!a} has the UUID of {first.source!a}: not used")
                    process.close()
                    continue
                found[process.uuid] = _Plugin(source, wanted, process)
            with self._lock:
                self._plugins = found
                closed = self._closed
            if closed:
                self.close()
            return found

    def _sources(self) -> Iterable[tuple[str, dict[str, object]]]:
        """What there is to load: its name for a person, and how."""
        for folder in self._folders:
            try:
                names = sorted(os.listdir(folder))
            except OSError as error:
                self.host.warn(f"no plugins of {folder!a}: {error.strerror}")
                continue
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path):
                    yield path, {"language": "c", "what": os.path.abspath(path)}
        from importlib.metadata import entry_points

        # The same distribution can be found twice, in two folders of sys.path.
        values = {entry.value: entry.name for entry in entry_points(group=GROUP)}
        for value, name in values.items():
            path_ = [os.path.abspath(folder) for folder in sys.path]
            yield f"{name} = {value}", {"language": "python", "what": value, "path": path_}

    def _start(self, source: str, wanted: dict[str, object]) -> _Process | None:
        try:
            return _Process(wanted)
        except (OSError, ValueError) as error:
            self.host.warn(f"plugin {source!a} cannot be used: {ascii(str(error))[1:-1]}")
            return None

    # Of calls.

    def process_of(self, plugin: _Plugin) -> _Process:
        """The process of a plugin, which is started again if it has ended; this may wait.

        :raises CommunicationError: it does not start again.
        """
        with plugin.lock:
            if plugin.process is None:
                with self._lock:
                    closed = self._closed
                process = None if closed else self._start(plugin.source, plugin.wanted)
                if process is None:
                    raise CommunicationError(f"plugin {plugin.name} does not start again")
                plugin.process = process
            return plugin.process

    def ended(self, plugin: _Plugin, process: _Process) -> None:
        """The process of a plugin is gone, or says so."""
        if plugin.process is not process:  # looked at once more: it may be started just now
            return
        with plugin.lock:
            if plugin.process is not process:
                return
            plugin.process = None
        process.close()
        with self._lock:
            closed = self._closed
        if not closed:
            self.host.warn(
                f"plugin {plugin.name!a} ended in the middle of a call; the next starts it again"
            )

    def left(self, call: _Call) -> None:
        """A call is over."""
        with self._lock:
            self._calls.discard(call)

    def close(self) -> None:
        """End all calls and processes. Twice is once."""
        with self._lock:
            self._closed = True
            calls = list(self._calls)
            plugins = list((self._plugins or {}).values())
        for call in calls:
            call.cancel()
        for plugin in plugins:
            process = plugin.process
            if process is not None:
                process.close()
