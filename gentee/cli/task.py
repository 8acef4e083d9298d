# SPDX-License-Identifier: BSD-2-Clause
"""``gentee task``: one command of a service, in one call: open, invoke, close."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from gentee.cli.options import Command, Option
from gentee.cli.tee_options import TEE_OPTIONS, Settings
from gentee.errors import TeeError, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gentee.cli.options import Given
    from gentee.client import Context, Operation, Parameter
    from gentee.core.driver import TeeDriver

LOGINS = ("public", "user", "group", "application", "user-application", "group-application")

# Options of run that mean nothing to one call from this program.
_OF_DEVICES = ("--reg-mem", "--verbose")

COMMAND = Command(
    "task",
    "Have a service do one command: open a session, invoke, close, in one call.",
    [
        Option("--tee", "the running TEE of this name", metavar="NAME"),
        Option("--device", "the TEE behind this device, such as /dev/tee0", metavar="PATH"),
        *(option for option in TEE_OPTIONS if option.name not in _OF_DEVICES),
        Option(
            "--login",
            f"as who the service shall see you: {', '.join(LOGINS)}; by default public",
            metavar="LOGIN",
            choices=LOGINS,
        ),
        Option("--output", "a file for the first output of memory", short="-o", metavar="FILE"),
        Option("--json", "for programs"),
    ],
    "SERVICE COMMAND [PARAM...]",
    mixed=True,
)

_DETAILS = """\
SERVICE is a UUID, a name, or api:NAME for the first service that offers an API. COMMAND is a
number of the service's own. There are up to four parameters:

  value:A,B         two numbers          in:TEXT          memory that the service reads
  value-out         two it returns       in:@FILE         the bytes of a file
  value-inout:A,B   both                 in:hex:DIGITS    bytes in hexadecimal
  none              none in this place   out:SIZE         memory that it writes
                                         inout:...        both, of the forms of in:

Without --tee and --device it is the TEE of the 'gentee run' that this is in, elsewhere one in this
program that ends with it. Ctrl-C asks the service to end early.

The exit status is 0 for success, 1 for any other result, 130 if it was interrupted.

  gentee task echo 0 in:hello out:64
  gentee task --tee demo integrity 0 in:boot in:@boot.img"""

_OF_THE_ANSWER = ("--login", "--output", "--json", "--quiet", "--log-level")
_OF_A_TEE_INSIDE = tuple(
    option.name
    for option in COMMAND.options
    if option.name not in ("--tee", "--device", "--help", *_OF_THE_ANSWER)
)
_DEVICE = "/dev/tee0"
_CANCEL_INTERVAL = 0.1  # seconds: a request that overtakes its call is lost
_STATUS_INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    given = COMMAND.parse(arguments)
    if given.has("--help"):
        sys.stdout.write(COMMAND.help(_DETAILS))
        return 0
    _check(given)
    from gentee.cli.task_params import parse_number, parse_param

    service, number, *words = given.words
    command = parse_number(number, "COMMAND")
    # Parsed before another program is started: what is wrong is said once, and by this one.
    params = [parse_param(word) for word in words]
    if given.has("--tee"):
        _run_in_tee(given)
    context, end = _context(given)
    from gentee.client import Operation

    operation = Operation(*params)
    try:
        error, interrupted = _in_thread(
            operation, lambda: _task(context, given, service, command, operation)
        )
        context.finalize()
    except KeyboardInterrupt:  # the second one: the service does not heed the first
        return _STATUS_INTERRUPTED
    finally:
        end()
    return _report(given, operation.params, error, interrupted)


def _check(given: "Given") -> None:
    words = given.words
    if len(words) < 2:
        raise COMMAND.error(
            "no command to invoke" if words else "no service",
            "such as: gentee task echo 0 in:hello out:64",
        )
    if len(words) > 6:
        raise COMMAND.error(f"{len(words) - 2} parameters", "a command has up to four")
    where = [option for option in ("--tee", "--device") if given.has(option)]
    where += [option for option in _OF_A_TEE_INSIDE if given.has(option)][:1]
    if len(where) > 1:
        raise COMMAND.error(f"{where[0]} and {where[1]} mean different TEEs", "give one of them")


# Which TEE


def _run_in_tee(given: "Given") -> None:
    """Become ``gentee run --tee NAME``, which runs this command on the device that it gives it."""
    options = [
        f"{name}={given.value(name, '')}" for name in ("--login", "--output") if given.has(name)
    ]
    options += ["--json"] if given.has("--json") else []
    here = [sys.executable, "-m", "gentee"]
    outside = [*here, "run", "--tee", given.value("--tee", ""), "--"]
    inside = [*here, "task", "--device", _DEVICE, *options, "--", *given.words]
    sys.stdout.flush()
    os.execv(sys.executable, [*outside, *inside])


def _context(given: "Given") -> "tuple[Context, Callable[[], None]]":
    """A context of the TEE that is meant, and what ends what was begun for it."""
    from gentee.client import Context, DeviceDoor

    if given.has("--device"):
        path = given.value("--device", "")
        try:
            return Context(door=DeviceDoor(path)), _nothing
        except OSError as error:
            raise UserError(
                f"{path}: {error.strerror}", "'gentee run -- PROGRAM' gives a program /dev/tee0"
            ) from error
    if not any(given.has(option) for option in _OF_A_TEE_INSIDE):
        from gentee.cli.tee_access import device_tee

        tee = device_tee()
        if tee is not None:
            return tee.context, _nothing
    return _tee_inside(Settings(given))


def _nothing() -> None:
    pass


def _tee_inside(settings: Settings) -> "tuple[Context, Callable[[], None]]":
    """A software TEE in this program, as :class:`LocalHost` hosts it."""
    from gentee.cli.run import check_machine
    from gentee.client import Context
    from gentee.client.kernel_door import KernelDoor
    from gentee.core.device import DeviceRegistry
    from gentee.device.host import LocalHost, TerminalLog

    check_machine()
    warn = TerminalLog().warn
    settings.tell_problems(warn)
    state = settings.own_state(warn)
    drivers: list[TeeDriver] = []
    host = LocalHost(log_level=settings.log_level)

    def end() -> None:
        for driver in drivers:
            driver.remove()
        host.close()
        if state is not None:
            state.close()

    try:
        registry = DeviceRegistry()
        for driver, options in settings.drivers(state.path if state is not None else None):
            drivers.append(driver)
            for desc in driver.probe(host, options):
                registry.tee_device_register(desc)
        return Context(door=KernelDoor(registry)), end
    except BaseException:
        end()
        raise


# The call


def _task(
    context: "Context", given: "Given", service: str, command: int, operation: "Operation"
) -> None:
    import gentee.client as client
    from gentee.secure.service import parse_uuid

    name = given.value("--login", "public")
    login: int = getattr(client, "TEEC_LOGIN_" + name.upper().replace("-", "_"))
    group = os.getegid() if name.startswith("group") else None
    uuid: Any
    try:
        uuid = parse_uuid(service)
    except ValueError:
        if service.startswith("api:"):
            uuid = context.find(api=service[4:])
        else:
            uuid = context.find(name=service)
    context.task(uuid, command, login=login, group=group, operation=operation)


def _in_thread(
    operation: "Operation", call: "Callable[[], None]"
) -> "tuple[TeeError | None, bool]":
    """Make the call in another thread; its error, and whether somebody pressed Ctrl-C.

    The signal is this thread's alone: it would interrupt the call's ioctl instead of cancelling the
    call.
    """
    errors: list[BaseException] = []
    done = threading.Event()

    def job() -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    thread = threading.Thread(target=job, name="gentee-task", daemon=True)
    thread.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    interrupted = False
    try:
        done.wait()
    except KeyboardInterrupt:
        interrupted = True
    while not done.is_set():
        operation.cancel()
        done.wait(_CANCEL_INTERVAL)
    if errors and not isinstance(errors[0], TeeError):
        raise errors[0]
    return (errors[0] if errors else None), interrupted  # type: ignore[return-value]


# What came of it


def _report(
    given: "Given",
    params: "Sequence[Parameter | None]",
    error: TeeError | None,
    interrupted: bool,
) -> int:
    from gentee.cli import task_params

    status = 0
    if error is not None:
        status = _STATUS_INTERRUPTED if interrupted else 1
    if given.has("--json"):
        _print_json(params, error)
    elif error is not None:
        raise _failure(params, error, status)
    else:
        for number, param in enumerate(params):
            for line in task_params.lines_of(number, param):
                print(line)
    if error is None and given.has("--output"):
        _write(given.value("--output", ""), params)
    return status


def _print_json(params: "Sequence[Parameter | None]", error: TeeError | None) -> None:
    import json

    from gentee.abi.gp import TEE_ORIGIN_TRUSTED_APP, TEE_SUCCESS, origin_name, result_name
    from gentee.cli import task_params

    code = error.code if error is not None else TEE_SUCCESS
    origin = error.origin or 0 if error is not None else TEE_ORIGIN_TRUSTED_APP
    found = {
        "result": code,
        "result_name": result_name(code),
        "origin": origin,
        "origin_name": origin_name(origin),
        "params": [task_params.as_json(param) for param in params],
    }
    print(json.dumps(found, indent=2))


def _failure(params: "Sequence[Parameter | None]", error: TeeError, status: int) -> UserError:
    from gentee.abi import gp
    from gentee.cli.task_params import is_short

    origin = error.origin or 0
    line = f"{gp.result_name(error.code)} (0x{error.code:08x}) from {gp.origin_name(origin)}"
    line += f" ({origin})"
    if error.detail:
        line += f": {error.detail}"
    hint = None
    if error.code == gp.TEE_ERROR_SHORT_BUFFER:
        sizes = [
            f"parameter {number} wants {getattr(param, 'out_size', 0)} bytes"
            for number, param in enumerate(params)
            if is_short(param)
        ]
        hint = ", ".join(sizes) or None
    elif error.code == gp.TEE_ERROR_ITEM_NOT_FOUND and origin != gp.TEE_ORIGIN_TRUSTED_APP:
        hint = "'gentee ls' shows the services that there are"
    elif error.code == gp.TEE_ERROR_BAD_PARAMETERS and origin == gp.TEEC_ORIGIN_COMMS:
        hint = "a TEE other than gentee's has no tasks"
    return UserError(line, hint, status)


def _write(path: str, params: "Sequence[Parameter | None]") -> None:
    from gentee.cli.task_params import output_bytes

    data = next((data for data in map(output_bytes, params) if data is not None), None)
    if data is None:
        raise UserError(f"{path}: not written, there is no output of memory", "out:SIZE is one")
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
