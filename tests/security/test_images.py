# SPDX-License-Identifier: BSD-2-Clause
"""Images that are not what they say: over the whole road from LOAD_TS, nothing of them runs."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from gentee.abi import gp, shdr
from gentee.abi.shdr import Shdr, ShdrBootstrapTa
from gentee.cli.ta_report import report
from gentee.client import Value
from gentee.errors import TeeError
from gentee.secure import images, ta_encryption
from gentee.secure.keys import sign_digest
from gentee.secure.service import parse_uuid
from tests import signing
from tests.functional.conftest import CLIENTS, GenteeRun
from tests.functional.test_services import Tee
from tests.helpers import ServiceHost, wait_until
from tests.signing import UUID, UUID_BYTES
from tests.unit.secure.test_package import MAIN, manifest, plain, zipped

SECURITY, BAD_FORMAT = gp.TEE_ERROR_SECURITY, gp.TEE_ERROR_BAD_FORMAT
ACCESS_CONFLICT = gp.TEE_ERROR_ACCESS_CONFLICT
NOT_IMPLEMENTED = gp.TEE_ERROR_NOT_IMPLEMENTED

VERSION = 5  # of what is installed before
MARK = "this code ran"

# What an image says when any of it runs: at the import of its module, and later.
_MARKED = f'print("{MARK}")\n'


@cache
def payload(version: int = VERSION + 1) -> bytes:
    return signing.packed(_MARKED + signing.source(version=version, number=99))


def image(
    *,
    magic: int = shdr.SHDR_MAGIC,
    img_type: int = shdr.SHDR_BOOTSTRAP_TA,
    img_size: int | None = None,
    algo: int = shdr.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256,
    uuid: bytes = UUID_BYTES,
    version: int = VERSION + 1,
    content: bytes | None = None,
    bootstrap: bytes | None = None,
    hash_size: int = 32,
    sig_change: Callable[[bytes], bytes] = bytes,
    sign_other: bytes = b"",
) -> bytes:
    """An image with fields of any value, which its signer meant so: digest and signature hold."""
    content = payload() if content is None else content
    size = len(content) if img_size is None else img_size
    behind = ShdrBootstrapTa(uuid, version).build() if bootstrap is None else bootstrap
    known = shdr.SIGNATURE_ALGORITHMS.get(algo)
    signer = known or shdr.SIGNATURE_ALGORITHMS[shdr.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256]
    key = signing.key()
    hash_size = known.digest_size if known and hash_size == 32 else hash_size
    blank = Shdr(img_type, size, algo, bytes(hash_size), bytes(sig_size_of(sig_change)), magic)
    digest = hashlib.new(signer.digest, blank.fixed + behind + content).digest()
    signature = sign_change(sign_digest(key, signer, sign_other or digest), sig_change)
    digest = digest[:hash_size].ljust(hash_size, b"\0")
    return Shdr(img_type, size, algo, digest, signature, magic).build() + behind + content


def sign_change(signature: bytes, change: Callable[[bytes], bytes]) -> bytes:
    return change(signature)


def sig_size_of(change: Callable[[bytes], bytes]) -> int:
    return len(change(bytes(signing.key().key_size // 8)))


def flipped(at: int, bit: int = 1) -> bytes:
    damaged = bytearray(image())
    damaged[at] ^= bit
    return bytes(damaged)


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def encrypted(
    enc_algo: int = shdr.TEE_ALG_AES_GCM,
    iv: bytes | None = None,
    tag: bytes | None = None,
    version: int = VERSION + 1,
) -> bytes:
    """An encrypted image with fields of any value, rightly signed."""
    enc_key = ta_encryption.default_key(signing.key().public_key())
    header, content = ta_encryption.encrypt(payload(), enc_key)
    made = shdr.ShdrEncryptedTa(
        enc_algo, 0, header.iv if iv is None else iv, header.tag if tag is None else tag
    )
    behind = ShdrBootstrapTa(UUID_BYTES, version).build() + made.build()
    known = shdr.SIGNATURE_ALGORITHMS[shdr.TEE_ALG_RSASSA_PKCS1_PSS_MGF1_SHA256]
    blank = Shdr(shdr.SHDR_ENCRYPTED_TA, len(content), known.number, bytes(32), bytes(256))
    digest = hashlib.sha256(blank.fixed + behind + payload()).digest()
    signature = sign_digest(signing.key(), known, digest)
    signed = Shdr(shdr.SHDR_ENCRYPTED_TA, len(content), known.number, digest, signature)
    return signed.build() + behind + content


def chained(
    name: bytes = b"",
    root: rsa.RSAPrivateKey | None = None,
    signer: rsa.RSAPrivateKey | None = None,
    **changed: int,
) -> bytes:
    """An image behind one subkey, of its own UUID or of a namespace."""
    own = signing.key(2048, 2)
    before = signing.chain((UUID_BYTES, own, name, changed), root=root)
    return before + images.sign(payload(), signer or own, UUID_BYTES, VERSION + 1)


def zip_in_image(content: bytes) -> bytes:
    return image(content=content)


def with_code(*more: tuple[str, bytes], **changed: object) -> bytes:
    """A package whose code says that it ran."""
    changed = {"version": VERSION + 1, **changed}
    marked = _MARKED.encode() + MAIN
    files = (("manifest.json", manifest(**changed)), ("service.py", marked), *more)
    return zip_in_image(zipped(*files))


_HEADER = shdr.STRUCT_SHDR.size
_FIELDS = {"magic": 0, "img_type": 4, "img_size": 8, "algo": 12, "hash_size": 16, "sig_size": 18}

# By name: what makes it, and the code of the load.
WRONG: dict[str, tuple[Callable[[], bytes], int]] = {
    # Fields that were changed after it was signed.
    **{
        f"changed {name} bit {bit}": (partial(flipped, at, bit), SECURITY)
        for name, at in _FIELDS.items()
        for bit in (1, 2, 0x80)
    },
    "changed hash": (lambda: flipped(_HEADER), SECURITY),
    "changed signature": (lambda: flipped(_HEADER + 32), SECURITY),
    "changed uuid": (lambda: flipped(_HEADER + 32 + 256), SECURITY),
    "changed version": (lambda: flipped(_HEADER + 32 + 256 + 16), SECURITY),
    "changed first byte": (lambda: flipped(_HEADER + 32 + 256 + 20), SECURITY),
    "changed code": (lambda: flipped(image().index(MARK.encode())), SECURITY),
    "changed last byte": (lambda: flipped(-1), SECURITY),
    # Sizes.
    "nothing but a byte": (lambda: b"H", SECURITY),
    "only the struct": (lambda: image()[:_HEADER], SECURITY),
    "no package": (lambda: image()[: -len(payload())], SECURITY),
    "one byte less": (lambda: image()[:-1], SECURITY),
    "one byte more": (lambda: image() + b"\0", SECURITY),
    "twice": (lambda: image() + image(), SECURITY),
    "behind something": (lambda: b"\0" + image(), SECURITY),
    # Fields that its signer meant so.
    "signed magic": (lambda: image(magic=0x4F545349), SECURITY),
    "signed legacy type": (lambda: image(img_type=0, bootstrap=b""), SECURITY),
    "signed encrypted type": (lambda: image(img_type=2), SECURITY),
    "signed subkey type": (lambda: image(img_type=3), SECURITY),
    "signed type 4": (lambda: image(img_type=4), SECURITY),
    "signed type max": (lambda: image(img_type=0xFFFFFFFF), SECURITY),
    "signed size 0": (lambda: image(img_size=0), SECURITY),
    "signed size less": (lambda: image(img_size=len(payload()) - 1), SECURITY),
    "signed size more": (lambda: image(img_size=len(payload()) + 20), SECURITY),
    "signed size max": (lambda: image(img_size=0xFFFFFFFF), SECURITY),
    "signed weak algo": (lambda: image(algo=0x70002830), SECURITY),  # SHA-1
    "signed unknown algo": (lambda: image(algo=0x70414931), SECURITY),
    "signed algo 0": (lambda: image(algo=0), SECURITY),
    "signed hash_size 0": (lambda: image(hash_size=0), SECURITY),
    "signed hash_size 20": (lambda: image(hash_size=20), SECURITY),
    "signed hash_size 64": (lambda: image(hash_size=64), SECURITY),
    "signed hash of another": (lambda: image(sign_other=bytes(32)), SECURITY),
    "no signature": (lambda: image(sig_change=lambda _: b""), SECURITY),
    "short signature": (lambda: image(sig_change=lambda sig: sig[:-1]), SECURITY),
    "long signature": (lambda: image(sig_change=lambda sig: sig + b"\0"), SECURITY),
    "empty signature": (lambda: image(sig_change=lambda sig: bytes(len(sig))), SECURITY),
    "another key": (
        lambda: images.sign(payload(), signing.key(2048, 1), UUID_BYTES, VERSION + 1),
        SECURITY,
    ),
    "another uuid": (lambda: image(uuid=bytes(16)), SECURITY),
    "lower version": (lambda: image(version=VERSION - 1), ACCESS_CONFLICT),
    "version 0": (lambda: image(version=0), ACCESS_CONFLICT),
    # Packages that its signer meant so.
    "empty": (lambda: zip_in_image(b""), BAD_FORMAT),
    "source": (lambda: zip_in_image(_MARKED.encode()), BAD_FORMAT),
    "half an ELF file": (lambda: zip_in_image(b"\x7fELF" + bytes(60)), BAD_FORMAT),
    # The other forms.
    "legacy TA": (lambda: image(img_type=0, bootstrap=b"", content=signing.elf()), SECURITY),
    "encrypted with another key": (
        lambda: images.sign(payload(), signing.key(), UUID_BYTES, 6, enc_key=bytes(32)),
        SECURITY,
    ),
    "encrypted otherwise": (lambda: encrypted(enc_algo=0x40000710), NOT_IMPLEMENTED),
    "encrypted, iv_size 0": (lambda: encrypted(iv=b""), SECURITY),
    "encrypted, tag_size 0": (lambda: encrypted(tag=b""), SECURITY),
    "encrypted, older": (lambda: encrypted(version=VERSION - 1), ACCESS_CONFLICT),
    "subkey of another": (lambda: chained(root=signing.key(2048, 1)), SECURITY),
    "subkey, changed": (lambda: damaged(chained(), 320), SECURITY),
    "subkey, its own signature": (lambda: chained(signer=signing.key()), SECURITY),
    "subkey of another namespace": (lambda: chained(b"another".ljust(16, b"\0")), SECURITY),
    "subkey, nothing behind": (lambda: chained()[: 20 + 32 + 256 + 320], SECURITY),
    "subkeys too deep": (lambda: chained(max_depth=0xFFFF_FFFF), SECURITY),
    "bytes behind the zip": (lambda: zip_in_image(payload() + b"\0"), BAD_FORMAT),
    "bytes before the zip": (lambda: zip_in_image(b"\0" + payload()), BAD_FORMAT),
    "cut zip": (lambda: zip_in_image(payload()[:-1]), BAD_FORMAT),
    "zip in a zip": (lambda: zip_in_image(payload() + payload()), BAD_FORMAT),
    "huge count": (
        lambda: zip_in_image(payload()[:-14] + b"\xff\xff\xff\xff" + payload()[-10:]),
        BAD_FORMAT,
    ),
    "no manifest": (lambda: zip_in_image(zipped(("service.py", MAIN))), BAD_FORMAT),
    "bad manifest": (lambda: zip_in_image(plain(b"{")), BAD_FORMAT),
    "format 2": (lambda: with_code(format=2), BAD_FORMAT),
    "missing main": (lambda: with_code(main="other.py"), BAD_FORMAT),
    "main elsewhere": (lambda: with_code(main="../service.py"), BAD_FORMAT),
    "no uuid": (lambda: with_code(uuid="x"), BAD_FORMAT),
    "manifest of another": (lambda: with_code(uuid=signing.uuid_of(9)), SECURITY),
    "path": (lambda: with_code(("../../etc/x.py", b"")), BAD_FORMAT),
    "absolute path": (lambda: with_code(("/etc/x.py", b"")), BAD_FORMAT),
    "name twice": (
        lambda: zip_in_image(plain(None, ("servicf.py", b"")).replace(b"servicf", b"service")),
        BAD_FORMAT,
    ),
    "1,025 files": (
        lambda: with_code(*((f"f{number}", b"") for number in range(1023))),
        BAD_FORMAT,
    ),
    "compressed": (lambda: zip_in_image(zipped(("a", bytes(9000)), method=8)), BAD_FORMAT),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them, as files."""
    folder = tmp_path_factory.mktemp("images")
    for name, (make, _code) in WRONG.items():
        (folder / name).write_bytes(make())
    return folder


def test_the_helper_makes_good_images(tmp_path: Path) -> None:
    """Each of them is wrong for its own reason only."""
    keys = signing.accepted(tmp_path)
    assert images.verify(image(), keys).payload == payload()
    assert report("x.ta", image(), keys)["accepted"]
    assert report("x.ta", with_code(), keys)["accepted"]


def test_over_the_whole_road(gentee_run: GenteeRun, folder: Path, way: str, tmp_path: Path) -> None:
    """The code is the documented one, what was installed goes on, and nothing new ran."""
    services = tmp_path / "services"
    services.mkdir()
    (services / f"{UUID}.ta").write_bytes(
        signing.signed(signing.source(version=VERSION, number=42))
    )
    done = gentee_run(
        [sys.executable, CLIENTS / "hostile_images.py", folder, UUID, "42"],
        options=["--ephemeral", "--ta-dir", services, "--strict", "--key",
                 signing.key_file(tmp_path)],
        way=way,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {}
    for line in done.stdout.splitlines():
        name, code, origin, number = line.rsplit(" ", 3)
        found[name] = (int(code, 16), int(origin), int(number))
    expected = {name: (code, gp.TEE_ORIGIN_TEE, 42) for name, (_make, code) in WRONG.items()}
    assert found == expected
    assert MARK not in done.stderr
    assert "bug in gentee" not in done.stderr


def test_inspected(folder: Path, tmp_path: Path) -> None:
    """Who looks first hears the same; an old version is nothing that the image says by itself."""
    keys = signing.accepted(tmp_path)
    for name, (_make, code) in WRONG.items():
        verdict = report(name, (folder / name).read_bytes(), keys)["accepted"]
        assert verdict == (code == ACCESS_CONFLICT), name


# Signed, taken, and hostile all the same


@pytest.fixture(scope="module")
def host() -> Iterator[ServiceHost]:
    host = ServiceHost()
    yield host
    host.close()


@pytest.fixture
def tee(host: ServiceHost, tmp_path: Path) -> Iterator[Tee]:
    folder = tmp_path / "services"
    folder.mkdir()
    tee = Tee(host, folder, keys=[signing.key_file(tmp_path)], strict=True)
    yield tee
    tee.close()
    assert not host.bugs


@pytest.mark.parametrize(
    "code",
    [
        "this is no Python",
        "import no_such_module",
        "raise SystemExit",
        "import os; os._exit(0)",
        "open('FILE', 'w')",
        "import os; os.open('FILE', os.O_CREAT | os.O_WRONLY)",
        "import os; os.fork()",
        "import subprocess; subprocess.run(['touch', 'FILE'])",
        "import socket; socket.socket()",
        "import ctypes; ctypes.CDLL(None).creat(b'FILE', 0o600) >= 0 or 1 / 0",
        "import gentee.ta.runtime as r; r.confine.lock = None; open('FILE', 'w')",
    ],
)
def test_what_an_import_does(tee: Tee, tmp_path: Path, code: str) -> None:
    """It was signed, so it is taken; it is locked in before its first line, and harms nobody."""
    (soft,) = tee.driver._tees
    soft.load_ts(signing.signed(signing.source(number=42)))
    marked = tmp_path / "marked"
    bad = signing.uuid_of(7)
    main = code.replace("FILE", str(marked)).encode() + b"\n" + signing.source(bad).encode()
    content = zipped(("manifest.json", manifest(uuid=bad)), ("service.py", main))
    soft.load_ts(images.sign(content, signing.key(), parse_uuid(bad), 1))
    with pytest.raises(TeeError) as caught:
        tee.open(bad)
    assert caught.value.code == gp.TEE_ERROR_TARGET_DEAD
    assert not marked.exists()
    value = Value()
    tee.open(UUID).invoke(0, value)
    assert value.a == 42
    wait_until(lambda: tee.instances() == 1)
