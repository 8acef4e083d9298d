# SPDX-License-Identifier: BSD-2-Clause
"""What sockets of services may reach: nothing, unless ``--allow-net`` says so.

``loopback`` is this machine's own addresses 127.0.0.0/8 and ::1, and the name ``localhost``, at any
port. 0.0.0.0 and :: are those too: Linux connects them to the machine itself. ``HOST:PORT`` is that
host, as the service writes it, at that port; an IPv6 address stands in brackets. A name is looked
up only where a rule has it: the look-up itself goes out to a network.
"""

import ipaddress
import shlex
from collections.abc import Iterable

from gentee.errors import UserError

LOOPBACK = "loopback"
_LOCALHOST = "localhost"
_LONGEST_HOST = 253
_PORTS = range(1, 1 << 16)
_LOOPBACK4 = ipaddress.IPv4Address("127.0.0.1")
_LOOPBACK6 = ipaddress.IPv6Address("::1")


def normal_host(text: str) -> str:
    """A host as rules are compared: an address in its usual form, a name in small letters."""
    address = address_of(text)
    if address is not None:
        return str(address)
    return text.lower().removesuffix(".")


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that is meant, None for a name. An IPv4 address inside IPv6 is that one."""
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_unspecified:
        return _LOOPBACK4 if address.version == 4 else _LOOPBACK6
    return address


def is_localhost(host: str) -> bool:
    """Whether a normal host is the name that is never looked up (RFC 6761 section 6.3)."""
    return host == _LOCALHOST


def parse_rule(text: str) -> tuple[str, int]:
    """A rule: (LOOPBACK, 0), or a normal host and its port.

    :raises UserError: it is none.
    """
    if text == LOOPBACK:
        return LOOPBACK, 0
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        is_host = isinstance(address_of(host), ipaddress.IPv6Address) or "." in host
    else:
        is_host = ":" not in host and "[" not in host and "]" not in host
    is_host = is_host and host.isascii() and host.isprintable() and " " not in host
    is_port = port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) in _PORTS
    if not colon or not host or len(host) > _LONGEST_HOST or not is_host or not is_port:
        raise UserError(
            f"--allow-net {text}: neither loopback nor HOST:PORT",
            "such as: --allow-net loopback --allow-net example.org:443",
        )
    return normal_host(host), int(port)


class NetworkPolicy:
    """The rules of one TEE."""

    def __init__(self, rules: Iterable[str]) -> None:
        parsed = {parse_rule(text) for text in rules}
        self._loopback = (LOOPBACK, 0) in parsed
        self._places = parsed - {(LOOPBACK, 0)}

    def allows(self, host: str, port: int) -> bool:
        """Whether a normal host may be reached at ``port``."""
        return (self._loopback and _is_loopback(host)) or (host, port) in self._places


def option_for(host: str, port: int) -> str:
    """The option that would allow it, as a shell takes it.

    The host is the service's own words, and who reads them may copy the line.
    """
    if _is_loopback(host):
        return f"--allow-net {LOOPBACK}"
    place = f"[{host}]" if ":" in host else host
    place = f"{place}:{port}"
    return f"--allow-net {place if shlex.quote(host) == host else shlex.quote(place)}"


def _is_loopback(host: str) -> bool:
    if is_localhost(host):
        return True
    address = address_of(host)
    return address is not None and address.is_loopback
