#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Has a trusted service sign files with a key that never leaves it, and checks signatures.

    gentee run -- python3 signer_client.py demo

    signer_client.py key OUTPUT                   writes the public key, as PEM
    signer_client.py sign FILE OUTPUT             writes the signature of a file, as ASN.1
    signer_client.py verify KEY FILE SIGNATURE    checks it, without the service

The files are also those of OpenSSL: openssl dgst -sha256 -verify KEY -signature SIGNATURE FILE
"""

import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from gentee.client import Context, Out, TeeError

SERVICE = "a3f7c9d1-5e42-4b86-9c0d-2f18e6b7d430"  # gentee/examples/signer.py
PUBLIC_KEY, SIGN = 0, 1
POINT_SIZE = 65
NUMBER_SIZE = 32


def public_key(context: Context) -> bytes:
    """The service's public key, as PEM."""
    point = Out(POINT_SIZE)
    context.task(SERVICE, PUBLIC_KEY, point)
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point.data)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign(context: Context, message: bytes) -> bytes:
    """The service's signature of a message: its two numbers, as ASN.1 has them."""
    signature = Out(2 * NUMBER_SIZE)
    context.task(SERVICE, SIGN, message, signature)
    r, s = signature.data[:NUMBER_SIZE], signature.data[NUMBER_SIZE:]
    return encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))


def verify(pem: bytes, message: bytes, signature: bytes) -> None:
    """Raises InvalidSignature: it is not that of the message; ValueError: this is no key."""
    key = load_pem_public_key(pem)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("not a key of this service")
    key.verify(signature, message, ec.ECDSA(SHA256()))


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ["verify", key, file, signature]:
                verify(*(Path(name).read_bytes() for name in (key, file, signature)))
                print(f"{file}: signed by this key")
            case ["key", output]:
                with Context() as context:
                    Path(output).write_bytes(public_key(context))
            case ["sign", file, output]:
                with Context() as context:
                    Path(output).write_bytes(sign(context, Path(file).read_bytes()))
            case ["demo"]:
                with Context() as context:
                    pem, made = public_key(context), sign(context, b"a message")
                print(pem.decode() + made.hex())
                verify(pem, b"a message", made)
                print("the signature is that of the message")
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except InvalidSignature:
        return say("not signed by this key")
    except (TeeError, OSError, ValueError) as error:
        return say(str(error))
    return 0


def say(text: str) -> int:
    print(f"signer_client: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
