#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Stores a key in a trusted service and uses it there, as keystore_client.c does.

    gentee run -- python3 keystore_client.py demo

    keystore_client.py [-a] store NAME KEY        a key of 16 to 64 bytes
    keystore_client.py [-a] mac NAME MESSAGE      prints HMAC-SHA256 of the message
    keystore_client.py [-a] forget NAME

Keys are this user's; with -a they are this program's, which is the Python interpreter.
"""

import sys

from gentee.client import TEEC_LOGIN_APPLICATION, TEEC_LOGIN_USER, Context, Out, TeeError
from gentee.errors import AccessConflict, BadParameters, ItemNotFound

SERVICE = "5c1f2a7e-9f0a-4d8f-a1d6-70b6b1c0f2e3"  # gentee/examples/keystore.py
STORE, MAC, FORGET = 0, 1, 2
MAC_SIZE = 32


class KeyStore:
    """The service, for the identity that ``login`` says. Each method is a task: a single call."""

    def __init__(self, context: Context, login: int) -> None:
        self.context = context
        self.login = login

    def store(self, name: str, key: str) -> None:
        self.context.task(SERVICE, STORE, name.encode(), key.encode(), login=self.login)
        print(f"stored {name}")

    def mac(self, name: str, message: str) -> None:
        mac = Out(MAC_SIZE)
        self.context.task(SERVICE, MAC, name.encode(), message.encode(), mac, login=self.login)
        print(mac.data.hex())

    def forget(self, name: str) -> None:
        self.context.task(SERVICE, FORGET, name.encode(), login=self.login)
        print(f"forgot {name}")


def main(arguments: list[str]) -> int:
    login = TEEC_LOGIN_USER
    if arguments[:1] == ["-a"]:
        login = TEEC_LOGIN_APPLICATION
        del arguments[0]
    try:
        with Context() as context:
            keys = KeyStore(context, login)
            match arguments:
                case ["store", name, key]:
                    keys.store(name, key)
                case ["mac", name, message]:
                    keys.mac(name, message)
                case ["forget", name]:
                    keys.forget(name)
                case ["demo"]:
                    keys.store("demo", "a key of 16 to 64 bytes")
                    keys.mac("demo", "a message")
                    keys.forget("demo")
                case _:
                    print(__doc__, file=sys.stderr)
                    return 2
    except AccessConflict:
        return say("there is a key of this name, and a key is never replaced")
    except ItemNotFound as error:
        return say(f"you have no key of this name, or there is no service: {error}")
    except BadParameters:
        return say("a name has 1 to 64 bytes, a key 16 to 64")
    except TeeError as error:
        return say(str(error))
    return 0


def say(text: str) -> int:
    print(f"keystore_client: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
