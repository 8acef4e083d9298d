# SPDX-License-Identifier: BSD-2-Clause
"""The probes of ``gentee doctor``: how they try, and what they make of this and other machines."""

import errno
import os
import signal

import pytest

from gentee.cli import doctor, probes
from gentee.cli.probes import LIMITED, MISSING, OK, Check


def test_in_child_returns_what_the_probe_says() -> None:
    assert probes.in_child(lambda: f"{os.getppid()} ä") == f"{os.getpid()} ä"


def test_in_child_raises_its_oserror() -> None:
    def probe() -> str:
        raise OSError(errno.EBUSY, "sit down")

    with pytest.raises(OSError, match="sit down") as error:
        probes.in_child(probe)
    assert error.value.errno == errno.EBUSY


def test_in_child_survives_a_bug() -> None:
    with pytest.raises(OSError, match="ZeroDivisionError"):
        probes.in_child(lambda: str(1 // 0))


def test_in_child_that_the_kernel_ends() -> None:
    def probe() -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    with pytest.raises(OSError, match="SIGKILL"):
        probes.in_child(probe)


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.1.0-28-amd64", (6, 1, 0)),
        ("6.18.44-fc-v657", (6, 18, 44)),
        ("6.8.0-1021-azure", (6, 8, 0)),
        ("6.18-rc1", (6, 18)),
        ("5.15.167.4-microsoft-standard-WSL2", (5, 15, 167, 4)),
        ("6.12.0+", (6, 12, 0)),
        ("next", ()),
    ],
)
def test_kernel_version(release: str, version: tuple[int, ...]) -> None:
    assert probes.kernel_version(release) == version


@pytest.mark.parametrize(
    ("release", "fixed"),
    [
        ("6.18", True),
        ("6.18.44", True),
        ("7.0", True),
        ("6.17.2", False),
        ("6.17.3", True),
        ("6.16.12", False),
        ("6.12.52", False),
        ("6.12.53", True),
        ("6.12.100", True),
        ("6.6.112", True),
        ("6.6.9", False),
        ("6.1.155", False),
        ("6.1.156", True),
        ("5.19", False),
    ],
)
def test_race_fix(release: str, fixed: bool) -> None:
    assert probes.has_race_fix(probes.kernel_version(release)) is fixed


def test_why_prefers_the_cause() -> None:
    error = OSError(errno.ENOMEM, "shared memory")
    assert probes.why(error) == "shared memory"
    error.__cause__ = OSError(errno.EPERM, "sealed")
    assert probes.why(error) == "sealed"
    assert probes.why(OSError("odd")) == "odd"


def test_a_setting_that_is_not_there() -> None:
    assert probes.setting("kernel/no_such_setting") == ""
    assert probes.setting("kernel/ostype") == "Linux"


def test_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gentee.linux.arch.ARCHES", ())
    monkeypatch.setattr("gentee.linux.arch.MACHINE", "vax")
    found = probes.machine()
    assert found.result == MISSING
    assert "vax" in found.meaning
    assert "x86_64" in found.advice
    way, checks = doctor.examine()
    assert way == ""
    assert [check.name for check in checks] == ["kernel", "machine", "user"]


def fake_settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    by_path = {path.replace("__", "/"): value for path, value in values.items()}
    monkeypatch.setattr(probes, "setting", lambda path: by_path.get(path, ""))


def test_listener_of_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object, **__: object) -> int:
        raise OSError(errno.EBUSY, "seccomp: Device or resource busy")

    monkeypatch.setattr(probes, "install_filter", busy)
    notification, _wake_up = probes.notification()
    assert notification.result == MISSING
    assert "another program" in notification.meaning
    assert "gentee run" in notification.advice


def test_no_notification(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> int:
        raise OSError(errno.EPERM, "seccomp: Operation not permitted")

    monkeypatch.setattr(probes, "install_filter", forbidden)
    notification, wake_up = probes.notification()
    assert notification.result == wake_up.result == MISSING
    assert os.strerror(errno.EPERM) in notification.meaning


def test_old_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "set_sync_wake_up", lambda _listener: False)
    _notification, wake_up = probes.notification()
    assert wake_up.result == LIMITED

    def einval(*_: object) -> int:
        raise OSError(errno.EINVAL, "seccomp")

    monkeypatch.setattr(probes, "syscall", einval)
    (signals,) = probes.interruptions()
    assert signals.result == LIMITED


def test_namespaces_that_are_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> None:
        raise OSError(errno.EPERM, "unshare: Operation not permitted")

    monkeypatch.setattr(probes, "enter_mount_namespace", forbidden)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    fake_settings(monkeypatch, kernel__apparmor_restrict_unprivileged_userns="1")
    found = probes.namespace()
    assert found.result == LIMITED
    assert "unshare" in found.meaning
    assert "kernel.apparmor_restrict_unprivileged_userns=0" in found.advice


def test_mounts_that_are_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> None:
        raise OSError(errno.EPERM, "mount: Operation not permitted")

    monkeypatch.setattr(probes, "enter_mount_namespace", lambda: None)
    monkeypatch.setattr(probes, "cover_dev", forbidden)
    assert probes.namespace().result == LIMITED


def test_memory_that_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise OSError(errno.EPERM, "process_vm_readv: Operation not permitted")

    monkeypatch.setattr(probes, "read_memory_into", forbidden)
    fake_settings(monkeypatch, kernel__yama__ptrace_scope="3")
    found = probes.client_memory()
    assert found.result == MISSING
    assert "ptrace_scope 3" in found.meaning
    assert "kernel.yama.ptrace_scope" in found.advice


def test_leases_that_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(_fd: int) -> bool:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(probes, "only_open", off)
    monkeypatch.setattr(probes, "setting", lambda path: "0" if path == "fs/leases-enable" else "")
    found = probes.shared_memory()
    assert found.result == LIMITED
    assert "fs.leases-enable=1" in found.advice


def test_small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "setting", lambda _path: "8")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("resource.getrlimit", lambda _limit: (64, 4096))
    assert probes.watches().result == LIMITED
    assert probes.pipes().result == LIMITED
    descriptors = probes.descriptors()
    assert descriptors.result == LIMITED
    assert descriptors.advice == "ulimit -n 4096"


def test_watches_that_are_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, "inotify_init1: Too many open files")

    monkeypatch.setattr(probes, "CloseWatch", none_left)
    assert probes.watches().result == MISSING


@pytest.mark.parametrize(
    ("namespace", "ways", "way", "lines"),
    [
        (OK, (OK, OK), "namespace", [OK, OK, OK]),
        (OK, (OK, MISSING), "namespace", [OK, MISSING, OK]),
        (OK, (MISSING, OK), "", [MISSING, OK, MISSING]),
        (LIMITED, (MISSING, OK), "open", [LIMITED, OK, LIMITED]),
        (LIMITED, (MISSING, MISSING), "", [MISSING, MISSING, MISSING]),
    ],
)
def test_verdict(
    monkeypatch: pytest.MonkeyPatch,
    namespace: str,
    ways: tuple[str, str],
    way: str,
    lines: list[str],
) -> None:
    """What decides is whether a program got its answer, by the way that auto takes."""
    results = dict(zip(("namespace", "open"), ways, strict=True))
    monkeypatch.setattr(probes, "namespace", lambda: Check("namespace", namespace, ""))
    monkeypatch.setattr(probes, "run_by_way", lambda name: Check(f"run {name}", results[name], ""))
    found, checks = doctor.examine()
    assert found == way
    names = ["run namespace", "run open", "device way"]
    assert [check.result for check in checks if check.name in names] == lines
