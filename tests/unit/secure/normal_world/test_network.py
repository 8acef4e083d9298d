# SPDX-License-Identifier: BSD-2-Clause
"""gentee.secure.normal_world.network: which hosts a rule means."""

import shlex

import pytest

from gentee.errors import UserError
from gentee.secure.normal_world.network import (
    LOOPBACK,
    NetworkPolicy,
    normal_host,
    option_for,
    parse_rule,
)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("loopback", (LOOPBACK, 0)),
        ("Example.ORG.:443", ("example.org", 443)),
        ("192.0.2.1:1", ("192.0.2.1", 1)),
        ("[2001:DB8::0:1]:65535", ("2001:db8::1", 65535)),
        ("[::ffff:192.0.2.1]:80", ("192.0.2.1", 80)),
        ("0.0.0.0:80", ("127.0.0.1", 80)),
        ("[::]:80", ("::1", 80)),
    ],
)
def test_rules(text: str, rule: tuple[str, int]) -> None:
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    "text",
    [
        "", "Loopback", "loopback:", "example.org", ":80", "example.org:", "example.org:0",
        "example.org:65536", "example.org:-1", "example.org:80x", "example.org:\u0663",
        "2001:db8::1:80", "[::1]", "[::1:80", "::1]:80", "[example]:80", "a b:80", "a\x1b[2J:80",
        "a\0:80", "\u00e9.org:80", f"{'a' * 254}:80", "example.org:000080",
    ],
)  # fmt: skip
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(UserError, match="neither loopback nor HOST:PORT"):
        parse_rule(text)


THIS_MACHINE = ["127.0.0.1", "127.255.255.254", "::1", "localhost", "LOCALHOST.",
                "::ffff:127.0.0.9", "0.0.0.0", "::"]  # fmt: skip
OTHERS = ["192.0.2.1", "128.0.0.1", "::2", "localhost.example.org", "127.1", "0x7f.1",
          "017700000001", "", "fe80::1%lo", "10.0.0.1", "::ffff:10.0.0.1", "localhost\n",
          " 127.0.0.1"]  # fmt: skip


@pytest.mark.parametrize("host", THIS_MACHINE)
def test_loopback(host: str) -> None:
    assert NetworkPolicy([LOOPBACK]).allows(normal_host(host), 1)
    assert not NetworkPolicy([]).allows(normal_host(host), 1)


@pytest.mark.parametrize("host", OTHERS)
def test_not_loopback(host: str) -> None:
    assert not NetworkPolicy([LOOPBACK]).allows(normal_host(host), 1)


def test_a_place_is_a_host_and_a_port() -> None:
    policy = NetworkPolicy(["example.org:443", "[2001:db8::1]:80"])
    assert policy.allows(normal_host("EXAMPLE.org"), 443)
    assert policy.allows(normal_host("2001:0db8:0:0:0:0:0:1"), 80)
    for host, port in (
        ("example.org", 80), ("www.example.org", 443), ("2001:db8::1", 443), ("2001:db8::2", 80),
        ("localhost", 443), (LOOPBACK, 0),
    ):  # fmt: skip
        assert not policy.allows(normal_host(host), port)


@pytest.mark.parametrize(
    ("host", "option"),
    [
        ("localhost", "--allow-net loopback"),
        ("::1", "--allow-net loopback"),
        ("192.0.2.1", "--allow-net 192.0.2.1:80"),
        ("2001:db8::1", "--allow-net [2001:db8::1]:80"),
        ("example.org", "--allow-net example.org:80"),
    ],
)
def test_the_option_that_would_allow_it(host: str, option: str) -> None:
    assert option_for(host, 80) == option
    rule = option.removeprefix("--allow-net ")
    assert NetworkPolicy([rule]).allows(host, 80)


@pytest.mark.parametrize("host", ["a;b", "a b", "$(id)", "a --allow-net loopback", "fe80::1%`id`"])
def test_an_option_to_copy_is_one_word(host: str) -> None:
    """The host is a hostile service's own words."""
    option, place = shlex.split(option_for(host, 80), comments=True)
    assert (option, place) in (("--allow-net", f"{host}:80"), ("--allow-net", f"[{host}]:80"))
    assert "'" in option_for(host, 80)
