# SPDX-License-Identifier: BSD-2-Clause
"""What ``gentee doctor`` tries. Each probe does the thing, in a child process, and looks.

Version numbers decide nothing: distributions carry new features in old kernels, and containers
forbid what their kernel can do.
"""

import errno
import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

from gentee.abi.linux_tee import TEE_IOC_VERSION
from gentee.device.trapped_root import WAY_NAMESPACE, WAY_OPEN, tee_filter
from gentee.linux import arch, seccomp
from gentee.linux.libc import prctl, syscall
from gentee.linux.namespaces import cover_dev, enter_mount_namespace, make_device_files
from gentee.linux.notify import Notifier
from gentee.linux.process_memory import read_memory_into, write_memory
from gentee.linux.seccomp import install_filter, set_sync_wake_up
from gentee.linux.shm import CloseWatch, create_shm, only_open, reopen
from gentee.linux.task import pidfd_getfd

OK = "ok"
LIMITED = "limited"  # gentee works, but something is slower, smaller or different
MISSING = "missing"

_PR_GET_NO_NEW_PRIVS = 39

_PATIENCE = 20  # seconds until a program that should take a fraction of one is given up


class Check:
    """A line of the report: what was looked at, how it stands, what that means, what to do."""

    def __init__(self, name: str, result: str, meaning: str, advice: str = "") -> None:
        self.name = name
        self.result = result
        self.meaning = meaning
        self.advice = advice


def in_child(probe: Callable[[], str]) -> str:
    """What ``probe`` returns in a child process; its OSError is raised here."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = "bug"
        try:
            answer = "+" + probe()
        except OSError as error:
            answer = f"{error.errno or 0} {error.strerror or error}"
        except BaseException as error:  # nothing may unwind into the parent's own stack
            answer = f"0 {error!r}"
        finally:
            os.write(writer, answer.encode("utf-8", "backslashreplace")[:4000])
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answers:
        answer = answers.read().decode()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        # A filter of a container can answer with a signal.
        raise OSError(0, f"the kernel ended it with {signal.Signals(os.WTERMSIG(status)).name}")
    if answer.startswith("+"):
        return answer[1:]
    number, _, text = answer.partition(" ")
    raise OSError(int(number), text)


def setting(path: str) -> str:
    """A setting of the kernel below /proc/sys; empty if there is none or it is hidden."""
    try:
        with open(f"/proc/sys/{path}", encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def why(error: OSError) -> str:
    """A few words for an error, or for the one that led to it."""
    if isinstance(error.__cause__, OSError):
        error = error.__cause__
    return error.strerror or str(error)


def kernel() -> Check:
    name = os.uname()
    text = f"{name.sysname} {name.release}; what it can do is below, whatever its number says"
    return Check("kernel", OK, text)


def machine() -> Check:
    if not arch.ARCHES:
        return Check(
            "machine",
            MISSING,
            f"gentee does not know the system calls of {arch.MACHINE}",
            "use a machine with x86_64 or aarch64",
        )
    if sys.maxsize < 1 << 32:
        return Check(
            "machine",
            MISSING,
            "this Python is a 32-bit program, and serves no 64-bit ones",
            "use a 64-bit Python",
        )
    return Check("machine", OK, f"{arch.MACHINE}, and its 32-bit programs")


def user() -> Check:
    if os.geteuid() == 0:
        return Check("user", OK, "root")
    return Check("user", OK, f"ordinary user {os.geteuid()}; gentee needs no more")


def notification() -> tuple[Check, Check]:
    """seccomp user notification as a whole: trap a call, answer it with a descriptor."""
    fast = Check("wake-up", MISSING, "not looked at: there is no notification")
    try:
        wakes_in_place = _trap_and_answer()
    except OSError as error:
        if error.errno == errno.EBUSY:
            return Check(
                "notification",
                MISSING,
                "another program already answers system calls of this one, and there can be one",
                "leave the other 'gentee run'; or run outside of this container, whose runtime "
                "listens",
            ), fast
        return Check(
            "notification",
            MISSING,
            f"seccomp user notification does not work: {why(error)}",
            "use Linux 5.14 or later; in a container, let its seccomp profile permit seccomp(2)",
        ), fast
    if wakes_in_place:
        fast = Check("wake-up", OK, "a call stays on the CPU of its program (SYNC_WAKE_UP)")
    else:
        fast = Check(
            "wake-up",
            LIMITED,
            "each call wakes another CPU, which takes about ten times as long",
            "Linux 6.6 and later do without",
        )
    text = "system calls of a program can be answered, with descriptors too"
    return Check("notification", OK, text), fast


def _trap_and_answer() -> bool:
    """Answer a child's ioctl with a descriptor; whether the kernel has SYNC_WAKE_UP."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with mine, theirs:
        pid = os.fork()
        if pid == 0:
            _call_trapped(theirs)
        theirs.close()
        try:
            message, fds, _flags, _address = socket.recv_fds(mine, 64, 1)
            if not fds:
                number = int(message or b"0")
                raise OSError(number, os.strerror(number) if number else "the child ended early")
            has_sync_wake_up = set_sync_wake_up(fds[0])
            bugs: list[BaseException] = []
            notifier = Notifier(fds[0], bugs.append)
            notifier.calls = lambda notify_id, *_call: _answer_fd(notifier, notify_id)
            notifier.start()
            mine.settimeout(_PATIENCE)
            mine.recv(1)  # nothing, when the child has ended
            notifier.stop()
        finally:
            os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
    if bugs:
        raise bugs[0] if isinstance(bugs[0], OSError) else OSError(0, repr(bugs[0]))
    if os.WIFSIGNALED(status) or os.WEXITSTATUS(status):
        raise OSError(0, "a trapped call did not get its answer")
    return has_sync_wake_up


def _call_trapped(sock: socket.socket) -> None:
    """The child: install the filter, send the listener, call, tell. Does not return."""
    status = 1
    try:
        listener = install_filter(tee_filter(trap_open=False))
        socket.send_fds(sock, [b"L"], [listener])
        os.close(listener)
        os.fstat(fcntl.ioctl(0, TEE_IOC_VERSION))  # the answer is a descriptor
        status = 0
    except OSError as error:
        sock.send(str(error.errno).encode())
    finally:
        os._exit(status)


def _answer_fd(notifier: Notifier, notify_id: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        notifier.answer_fd(notify_id, null)
    finally:
        os.close(null)


def interruptions() -> list[Check]:
    """WAIT_KILLABLE_RECV, and the fix of its race, which alone cannot be tried."""
    flags = (
        seccomp.SECCOMP_FILTER_FLAG_NEW_LISTENER | seccomp.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
    )
    try:
        # Without a filter: EFAULT means that the flags were fine.
        syscall("seccomp", arch.NATIVE["seccomp"], seccomp.SECCOMP_SET_MODE_FILTER, flags, 0)
        known = True
    except OSError as error:
        known = error.errno == errno.EFAULT
    if not known:
        return [
            Check(
                "signals",
                LIMITED,
                "a signal with a handler makes a call start again, which then happens twice",
                "Linux 5.19 and later do without (WAIT_KILLABLE_RECV)",
            )
        ]
    checks = [Check("signals", OK, "a signal does not interrupt a call (WAIT_KILLABLE_RECV)")]
    version = kernel_version(os.uname().release)
    if has_race_fix(version):
        checks.append(Check("signals, race", OK, "this version has the fix of a rare race"))
    else:
        checks.append(
            Check(
                "signals, race",
                LIMITED,
                "by its version this kernel may still let a signal interrupt a call, rarely; some "
                "distributions fixed it earlier",
                f"Linux {' and '.join(RACE_FIXED_IN)} have the fix, commit cce436aafc2a",
            )
        )
    return checks


# Linux kernel commit cce436aafc2a ("seccomp: Fix a race with WAIT_KILLABLE_RECV if the tracer
# replies too fast") (in v6.18), and where stable kernels got it. A program that is slow to lose the
# race would be taken for one that cannot, so the version is all that there is to look at.
RACE_FIXED_IN = ("6.1.156", "6.6.112", "6.12.53", "6.17.3", "6.18")


def kernel_version(release: str) -> tuple[int, ...]:
    """The numbers that a release begins with: ``6.1.0-28-amd64`` is (6, 1, 0)."""
    numbers = []
    for part in release.split("-")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def has_race_fix(version: tuple[int, ...]) -> bool:
    """Whether kernel.org's kernel of this version has it."""
    fixed = [kernel_version(text) for text in RACE_FIXED_IN]
    if version >= fixed[-1]:
        return True
    return any(version[:2] == stable[:2] and version >= stable for stable in fixed)


def namespace() -> Check:
    """A mount namespace with a /dev of our own, as the program of ``gentee run`` gets it."""
    root = os.geteuid() == 0
    kind = "mount namespace" if root else "user and mount namespace"
    try:
        in_child(_enter)
    except OSError as error:
        advice = "none needed: devices come by way of open instead"
        limit = _userns_limit()
        if limit and not root:
            advice = f"{limit}; {advice}"
        return Check("namespace", LIMITED, f"no {kind}: {why(error)}", advice)
    try:
        in_child(_enter_and_cover)
    except OSError as error:
        return Check(
            "namespace",
            LIMITED,
            f"a {kind}, but no /dev in it: {why(error)}",
            "none needed: devices come by way of open instead",
        )
    return Check("namespace", OK, f"a {kind} with a /dev of its own")


def _enter() -> str:
    enter_mount_namespace()
    return ""


def _enter_and_cover() -> str:
    enter_mount_namespace()
    cover_dev()
    make_device_files(["tee0"])
    return ""


def _userns_limit() -> str:
    """The setting that forbids user namespaces, as far as it is known."""
    if setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "root can set kernel.apparmor_restrict_unprivileged_userns=0"
    if setting("kernel/unprivileged_userns_clone") == "0":
        return "root can set kernel.unprivileged_userns_clone=1"
    if setting("user/max_user_namespaces") == "0":
        return "root can raise user.max_user_namespaces"
    return ""


_CLIENT = f"""\
import fcntl, os
fcntl.ioctl(os.open("/dev/tee0", os.O_RDWR), {TEE_IOC_VERSION:#x}, bytearray(12))"""


def run_by_way(way: str) -> Check:
    """``gentee run`` itself, with a client that opens /dev/tee0 and asks for the version."""
    name = f"run, {way} way"
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    command = (
        "import sys; sys.path.append(sys.argv.pop(1)); "
        "from gentee.cli.main import main; sys.exit(main())"
    )
    python = [sys.executable, "-I", "-c"]
    gentee = [*python, command, package_parent, "run", "--driver", "loopback"]
    try:
        done = subprocess.run(
            [*gentee, "--device-way", way, "--", *python, _CLIENT],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Check(name, MISSING, f"a program did not end in {_PATIENCE} seconds")
    if done.returncode == 0:
        return Check(name, OK, "a program opened /dev/tee0 and got its answer")
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    said = lines[-1] if lines and not lines[0].startswith("gentee: ") else "".join(lines[:1])
    said = said.removeprefix("gentee: ")
    return Check(name, MISSING, said or f"a program ended with status {done.returncode}")


def client_memory() -> Check:
    """Read, write and duplicate from a child, as from a program of ``gentee run``."""
    scope = setting("kernel/yama/ptrace_scope")
    said = f" (ptrace_scope {scope})" if scope else ""
    data = bytearray(b"before")
    reader, writer = os.pipe()
    ready, is_ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        # Its data is where the parent's is. It waits for the end of the pipe.
        os.close(writer)
        os.write(is_ready, b"1")
        os.read(reader, 1)
        os._exit(0)
    try:
        os.read(ready, 1)
        _touch(pid, data, reader)
    except OSError as error:
        return Check(
            "client memory",
            MISSING,
            f"gentee cannot look into a program that it runs: {why(error)}{said}",
            "set kernel.yama.ptrace_scope to 0 or 1; in a container, permit process_vm_readv, "
            "process_vm_writev and pidfd_getfd",
        )
    finally:
        for fd in (reader, writer, ready, is_ready):
            os.close(fd)
        os.waitpid(pid, 0)
    return Check("client memory", OK, f"gentee can look into the programs that it runs{said}")


def _touch(pid: int, data: bytearray, fd: int) -> None:
    from gentee.linux.buffers import PinnedBuffer

    pinned = PinnedBuffer(data)
    write_memory(pid, [(pinned.address, b"after.")])
    found = bytearray(len(data))
    read_memory_into(pid, pinned.address, memoryview(found))
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        also_found = os.pread(memory, len(data), pinned.address)
    finally:
        os.close(memory)
        pinned.release()
    if not bytes(found) == also_found == b"after.":
        raise OSError(0, "what was written did not arrive")
    pidfd = os.pidfd_open(pid)
    try:
        os.close(pidfd_getfd(pidfd, fd))
    finally:
        os.close(pidfd)


def shared_memory() -> Check:
    """A sealed memfd, and noticing that nobody has it open any more."""
    try:
        fd = create_shm(4096)
    except OSError as error:
        return Check(
            "shared memory",
            MISSING,
            f"no sealed memory files: {why(error)}",
            "vm.memfd_noexec must not be 2" if setting("vm/memfd_noexec") == "2" else "",
        )
    try:
        other = reopen(fd, os.O_RDWR)
        shared = only_open(fd)
        os.close(other)
        alone = only_open(fd)
    except OSError as error:
        advice = "root can set fs.leases-enable=1" if setting("fs/leases-enable") == "0" else ""
        text = f"its end cannot be noticed: {why(error)}; it stays until its context closes"
        return Check("shared memory", LIMITED, text, advice)
    finally:
        os.close(fd)
    if shared or not alone:
        return Check(
            "shared memory", LIMITED, "its end is not noticed; it stays until its context closes"
        )
    return Check("shared memory", OK, "sealed memory files, whose end is noticed")


def watches() -> Check:
    """inotify: one watch for each shared buffer, two instances for each ``gentee run``."""
    instances = setting("fs/inotify/max_user_instances")
    number = setting("fs/inotify/max_user_watches")
    limits = f"{number or '?'} shared buffers, {instances or '?'} / 2 runs at once for this user"
    try:
        CloseWatch().close()
    except OSError as error:
        return Check(
            "watches",
            MISSING,
            f"no inotify: {why(error)} ({limits})",
            "end other programs that watch files, or let root raise fs.inotify.max_user_instances",
        )
    if number.isdigit() and int(number) < 1024:
        return Check(
            "watches",
            LIMITED,
            f"{limits}; those beyond take longer to be given back",
            "root can raise fs.inotify.max_user_watches",
        )
    return Check("watches", OK, limits)


def descriptors() -> Check:
    """RLIMIT_NOFILE: what this program may hold for its clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = "no limit" if soft == resource.RLIM_INFINITY else f"{soft} at once"
    text = f"{limit}; an open device takes one, a shared buffer two, a thread up to ten"
    if soft == resource.RLIM_INFINITY or soft >= 1024:
        return Check("descriptors", OK, text)
    more = hard if hard != resource.RLIM_INFINITY else 4096
    return Check("descriptors", LIMITED, text, f"ulimit -n {more}" if more > soft else "")


def pipes() -> Check:
    """An open device is a pipe, of one page."""
    hard = setting("fs/pipe-user-pages-hard")
    if os.geteuid() == 0 or hard in ("", "0"):
        return Check("pipes", OK, "no limit to open devices but descriptors")
    text = f"this user can have {hard} devices open at once"
    if int(hard) >= 1024:
        return Check("pipes", OK, text)
    return Check("pipes", LIMITED, text, "root can raise fs.pipe-user-pages-hard")


def setuid_programs(way: str) -> Check:
    """What sudo, ping and the like lose under ``gentee run``."""
    before = _no_new_privs()
    try:
        after = in_child(lambda: _restricted(way)) == "1"
    except OSError as error:
        return Check("setuid programs", LIMITED, f"not known: {why(error)}")
    if before:
        return Check(
            "setuid programs",
            OK,
            "no_new_privs was set before gentee came: sudo, ping and the like gain nothing anyway",
        )
    if not after and os.geteuid() == 0:
        return Check("setuid programs", OK, "run as ever (no_new_privs is not set)")
    reason = "no_new_privs" if after else "its user namespace knows no other user"
    return Check(
        "setuid programs",
        LIMITED,
        f"sudo, ping and the like gain no rights below 'gentee run' ({reason})",
        "start them outside, or start gentee as root",
    )


def _restricted(way: str) -> str:
    if way == WAY_NAMESPACE:
        enter_mount_namespace()
    os.close(install_filter(tee_filter(trap_open=way == WAY_OPEN)))
    return "1" if _no_new_privs() else "0"


def _no_new_privs() -> bool:
    return bool(prctl(_PR_GET_NO_NEW_PRIVS))


def real_devices() -> Check:
    """TEE devices that the machine has of its own."""
    names = [name for name in sorted(os.listdir("/dev")) if _is_device(name)]
    if not names:
        return Check("real devices", OK, "this machine shows no TEE of its own")
    openable = [name for name in names if os.access(f"/dev/{name}", os.R_OK | os.W_OK)]
    text = f"{', '.join(names)}; below 'gentee run' these names are gentee's"
    if openable != names:
        text += f"; this user may open {', '.join(openable) or 'none of them'}"
    return Check("real devices", OK, text)


def _is_device(name: str) -> bool:
    number = name.removeprefix("tee").removeprefix("priv")
    return name.startswith("tee") and number.isdigit()
