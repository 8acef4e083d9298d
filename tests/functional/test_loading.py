# SPDX-License-Identifier: BSD-2-Clause
"""Services in locked processes: what they import, packages, and what they are told of errors."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from gentee.abi.gp import TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE
from gentee.client import Value
from gentee.errors import TeeError
from gentee.secure.package import write
from gentee.secure.service import Service, describe
from tests.functional.test_services import HEAD, UUID, Tee
from tests.helpers import ServiceHost


@pytest.fixture(scope="module")
def host() -> Iterator[ServiceHost]:
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture
def tee(host: ServiceHost, tmp_path: Path) -> Iterator[Tee]:
    tee = Tee(host, tmp_path)
    yield tee
    for line in tee.lines:
        print(line)
    tee.close()
    assert not host.bugs


_INVOKE = "\n    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):\n"

_USES = {
    "hashlib": "import hashlib; IMSG(hashlib.new('sha3_256', b'x').name)",
    "hmac": "import hmac; IMSG(hmac.new(b'k', b'm', 'sha256').hexdigest()[:8])",
    "json": "import json; IMSG(json.dumps(json.loads('{\"a\": [1, 2.5]}')))",
    "struct": "import struct; IMSG(struct.pack('<I', 7).hex())",
    "dataclasses": "from dataclasses import make_dataclass as m; IMSG(str(m('P', ['x'])(1)))",
    "logging": "import logging; logging.warning('said'); logging.getLogger('x').error('e')",
    "random": "import random, secrets; IMSG(secrets.token_hex() + str(random.random()))",
    "time": "import time; time.sleep(0.001); IMSG(time.strftime('%Y') + str(time.time() > 0))",
    "datetime": "from datetime import datetime; IMSG(str(datetime.strptime('2026', '%Y').year))",
    "regular expressions": "import re; IMSG(re.sub('a+', 'b', 'caat'))",
    "base64": "import base64, binascii, zlib; IMSG(str(zlib.crc32(base64.b64encode(b'x'))))",
    "decimal": "from decimal import Decimal; IMSG(str(Decimal(1) / 3))",
    "queue and locks": "import queue, threading; q = queue.Queue(); q.put(1); IMSG(str(q.get()))",
    "memory": "x = [bytes(1 << 16) for _ in range(99)]; del x; IMSG(str(len(bytearray(10 << 20))))",
    "uuid": "import uuid; IMSG(str(uuid.uuid4().version))",
    "io": "import io; IMSG(io.TextIOWrapper(io.BytesIO(b'x\\n')).read())",
    "enum": "import enum; IMSG(str(enum.Enum('E', 'A B').A))",
    "encodings": "IMSG('x\\xe4'.encode('latin-1').decode('utf-16', 'replace') + 'ok')",
    "garbage": "import gc; IMSG(str(gc.collect() >= 0))",
    "errors with lines": "import traceback; IMSG('x' + traceback.format_exc()[:4])",
}  # fmt: skip


@pytest.mark.parametrize("code", _USES.values(), ids=list(_USES))
def test_what_services_use(tee: Tee, code: str) -> None:
    tee.put(f"{_INVOKE}        {code}\n")
    tee.open().invoke(0)
    assert tee.lines


@pytest.mark.skipif(find_spec("cryptography") is None, reason="needs cryptography")
def test_cryptography(tee: Tee) -> None:
    tee.put(
        f"""{_INVOKE}
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        from cryptography.hazmat.primitives import hashes
        key = AESGCM(AESGCM.generate_key(128))
        assert key.decrypt(bytes(12), key.encrypt(bytes(12), b"x", None), None) == b"x"
        signer = ec.generate_private_key(ec.SECP256R1())
        signature = signer.sign(b"x", ec.ECDSA(hashes.SHA256()))
        signer.public_key().verify(signature, b"x", ec.ECDSA(hashes.SHA256()))
        IMSG("done")
"""
    )
    tee.open().invoke(0)
    assert tee.lines == ["done"]


def test_a_module_that_is_missing(tee: Tee) -> None:
    """A clear line, and no instance."""
    tee.put("\nimport no_such_module\n")
    with pytest.raises(TeeError) as raised:
        tee.open()
    assert (raised.value.code, raised.value.origin) == (TEE_ERROR_TARGET_DEAD, TEE_ORIGIN_TEE)
    assert "ModuleNotFoundError: No module named 'no_such_module'" in tee.lines
    assert "    import no_such_module" in tee.lines


def test_a_module_that_may_be_missing(tee: Tee) -> None:
    tee.put(
        f"""{_INVOKE}
        try:
            import no_such_module
        except ImportError as error:
            IMSG(error.name)
"""
    )
    tee.open().invoke(0)
    assert tee.lines == ["no_such_module"]


def test_an_import_that_is_no_statement(tee: Tee) -> None:
    tee.put(f"{_INVOKE}        __import__('wa' + 've')\n")
    with pytest.raises(TeeError):
        tee.open().invoke(0)
    assert any("must stand in import statements" in line for line in tee.lines)


def test_a_package(tee: Tee, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of its own, a folder of them, and files of data."""
    main = HEAD.format(uuid=UUID, name="packed", flags="") + (
        "    def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):\n"
        "        import shelf.books as books, lamp, shelf\n"
        "        params[0].a = books.NUMBER + lamp.light() + len(resource('data/notes.bin'))\n"
        "        IMSG(f'{books.__name__} {books.__file__} {lamp.json.__name__} {shelf.__name__}')\n"
    )
    service = describe("packed.py", main.encode())
    assert service is not None
    payload = write(
        "packed.py",
        service,
        {
            "packed.py": main.encode(),
            "lamp.py": b"import json\nfrom shelf import books\ndef light(): return books.NUMBER\n",
            "shelf/books.py": b"from . import more\nNUMBER = more.NUMBER\n",
            "shelf/more.py": b"NUMBER = 20\n",
            "data/notes.bin": bytes(2),
        },
    )
    tee.put("    pass\n")
    monkeypatch.setattr(Service, "read", lambda service: payload)
    value = Value()
    tee.open().invoke(0, value)
    assert value.a == 42
    assert tee.lines == ["shelf.books shelf/books.py json shelf"]
