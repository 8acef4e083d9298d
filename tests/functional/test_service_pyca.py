# SPDX-License-Identifier: BSD-2-Clause
"""pyca/cryptography in a locked service: each part with the imports that its own code has, no more.

The package imports much of itself when it is first needed, which a service cannot do any more.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.test_services import Tee
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


PRIMITIVES = "cryptography.hazmat.primitives"

USES = {
    "AES-GCM": f"""
from {PRIMITIVES}.ciphers.aead import AESGCM
key = AESGCM(AESGCM.generate_key(256))
assert key.decrypt(bytes(12), key.encrypt(bytes(12), b"x", b"a"), b"a") == b"x"
try:
    key.decrypt(bytes(12), bytes(17), None)
except Exception as error:
    assert type(error).__name__ == "InvalidTag"
""",
    "other AEADs": f"""
from {PRIMITIVES}.ciphers import aead
for kind in (aead.AESCCM, aead.AESOCB3, aead.AESGCMSIV, aead.ChaCha20Poly1305):
    key = kind(bytes(32))
    assert key.decrypt(bytes(12), key.encrypt(bytes(12), b"x", b"a"), b"a") == b"x"
""",
    "ciphers": f"""
from {PRIMITIVES}.ciphers import Cipher, algorithms, modes
for mode in (modes.CBC(bytes(16)), modes.CTR(bytes(16)), modes.ECB(), modes.GCM(bytes(12))):
    encryptor = Cipher(algorithms.AES(bytes(32)), mode).encryptor()
    assert encryptor.update(bytes(16)) + encryptor.finalize()
try:
    decryptor = Cipher(algorithms.AES(bytes(32)), modes.CBC(bytes(16))).decryptor()
    decryptor.update(b"x")
    decryptor.finalize()
except ValueError:
    pass
""",
    "digests": f"""
from {PRIMITIVES} import hashes
for kind in (hashes.MD5(), hashes.SHA1(), hashes.SHA256(), hashes.SHA3_512(), hashes.SM3(),
             hashes.BLAKE2b(64), hashes.BLAKE2s(32), hashes.SHAKE128(10)):
    digest = hashes.Hash(kind)
    digest.update(b"x")
    assert len(digest.finalize()) == kind.digest_size
""",
    "MACs": f"""
from {PRIMITIVES} import cmac, hashes, hmac, poly1305
from {PRIMITIVES}.ciphers.algorithms import AES
for mac in (hmac.HMAC(bytes(16), hashes.SHA256()), cmac.CMAC(AES(bytes(16)))):
    mac.update(b"x")
    mac.copy().verify(mac.finalize())
poly1305.Poly1305.verify_tag(bytes(32), b"x", poly1305.Poly1305.generate_tag(bytes(32), b"x"))
""",
    "derivation": f"""
from {PRIMITIVES}.hashes import SHA256
from {PRIMITIVES}.kdf.argon2 import Argon2id
from {PRIMITIVES}.kdf.concatkdf import ConcatKDFHash
from {PRIMITIVES}.kdf.hkdf import HKDF
from {PRIMITIVES}.kdf.pbkdf2 import PBKDF2HMAC
from {PRIMITIVES}.kdf.scrypt import Scrypt
for kdf in (HKDF(SHA256(), 32, None, b"i"), PBKDF2HMAC(SHA256(), 32, b"salt", 10),
            ConcatKDFHash(SHA256(), 32, None), Scrypt(b"salt", 32, 1 << 10, 8, 1),
            Argon2id(salt=bytes(16), length=32, iterations=1, lanes=1, memory_cost=64)):
    assert len(kdf.derive(b"secret")) == 32
""",
    "RSA": f"""
from {PRIMITIVES}.asymmetric import padding, rsa
from {PRIMITIVES}.hashes import SHA256
key = rsa.generate_private_key(65537, 2048)
pss = padding.PSS(padding.MGF1(SHA256()), padding.PSS.MAX_LENGTH)
oaep = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)
for scheme in (pss, padding.PKCS1v15()):
    key.public_key().verify(key.sign(b"x", scheme, SHA256()), b"x", scheme, SHA256())
for scheme in (oaep, padding.PKCS1v15()):
    assert key.decrypt(key.public_key().encrypt(b"x", scheme), scheme) == b"x"
key.private_numbers().private_key()
try:
    key.public_key().verify(b"x", b"x", pss, SHA256())
except Exception as error:
    assert type(error).__name__ == "InvalidSignature"
""",
    "ECDSA and ECDH": f"""
from {PRIMITIVES}.asymmetric import ec
from {PRIMITIVES}.hashes import SHA256
for curve in (ec.SECP256R1(), ec.SECP521R1(), ec.BrainpoolP256R1()):
    key = ec.generate_private_key(curve)
    key.public_key().verify(key.sign(b"x", ec.ECDSA(SHA256())), b"x", ec.ECDSA(SHA256()))
    key.exchange(ec.ECDH(), key.private_numbers().private_key().public_key())
try:
    ec.EllipticCurvePublicNumbers(1, 1, curve).public_key()
except ValueError:
    pass
""",
    "Ed25519": f"""
from {PRIMITIVES}.asymmetric.ed25519 import Ed25519PrivateKey
key = Ed25519PrivateKey.generate()
key.public_key().verify(key.sign(b"x"), b"x")
Ed25519PrivateKey.from_private_bytes(key.private_bytes_raw())
""",
    "X25519": f"""
from {PRIMITIVES}.asymmetric.x25519 import X25519PrivateKey
one, two = X25519PrivateKey.generate(), X25519PrivateKey.generate()
assert one.exchange(two.public_key()) == two.exchange(one.public_key())
""",
    "PEM": f"""
from {PRIMITIVES}.serialization import load_pem_private_key, load_pem_public_key
key = load_pem_private_key(KEY, None)
key.public_key()
load_pem_public_key(PUBLIC)
try:
    load_pem_private_key(KEY[:80] + KEY[81:], None)
except ValueError:
    pass
""",
    "PEM with a password": f"""
from {PRIMITIVES} import serialization
key = serialization.load_pem_private_key(KEY, None)
text = key.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.BestAvailableEncryption(b"password"),
)
serialization.load_pem_private_key(text, b"password")
""",
    "a certificate": """
from cryptography.x509 import load_pem_x509_certificate
certificate = load_pem_x509_certificate(CERTIFICATE)
certificate.verify_directly_issued_by(certificate)
certificate.public_key().public_numbers()
assert certificate.subject.rfc4514_string() == "CN=gentee"
assert certificate.not_valid_after_utc > certificate.not_valid_before_utc
assert [extension.oid.dotted_string for extension in certificate.extensions]
assert certificate.signature_hash_algorithm.name == "sha256"
""",
    "a new certificate": f"""
from cryptography import x509
from {PRIMITIVES} import hashes
from {PRIMITIVES}.asymmetric import ec
from datetime import datetime
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gentee")])
x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
builder = builder.not_valid_before(datetime(2026, 1, 1)).not_valid_after(datetime(2027, 1, 1))
builder = builder.add_extension(x509.BasicConstraints(True, None), True)
builder.sign(key, hashes.SHA256()).extensions
""",
    "Fernet": """
from cryptography.fernet import Fernet
key = Fernet(Fernet.generate_key())
assert key.decrypt(key.encrypt(b"x")) == b"x"
""",
    "PKCS 12": f"""
from {PRIMITIVES} import serialization
from {PRIMITIVES}.serialization import pkcs12
key = serialization.load_pem_private_key(KEY, None)
encryption = serialization.BestAvailableEncryption(b"password")
data = pkcs12.serialize_key_and_certificates(b"n", key, None, None, encryption)
pkcs12.load_key_and_certificates(data, b"password")
""",
    "a chain of certificates": """
from datetime import datetime
from cryptography.x509 import load_pem_x509_certificate
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
certificate = load_pem_x509_certificate(CERTIFICATE)
policy = PolicyBuilder().store(Store([certificate])).time(datetime(2026, 6, 1))
try:
    policy.build_client_verifier().verify(certificate, [])
except VerificationError:
    pass
""",
}


@pytest.fixture(scope="module")
def constants() -> str:
    """A key and a certificate, as assignments."""
    from datetime import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = serialization.Encoding.PEM
    key = ec.generate_private_key(ec.SECP256R1())
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gentee")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1))
        .not_valid_after(datetime(2027, 1, 1))
        .add_extension(x509.BasicConstraints(True, None), True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]), False)
        .sign(key, hashes.SHA256())
    )
    return (
        f"KEY = {key.private_bytes(pem, pkcs8, plain)!r}\n"
        f"PUBLIC = {key.public_key().public_bytes(pem, public)!r}\n"
        f"CERTIFICATE = {certificate.public_bytes(pem)!r}\n"
    )


@pytest.mark.parametrize("code", USES.values(), ids=list(USES))
def test_what_services_use(tee: Tee, constants: str, code: str) -> None:
    imports = [line for line in code.splitlines() if line.startswith("from ")]
    rest = [line for line in code.splitlines() if not line.startswith("from ")]
    head = "\n    ".join(["", *constants.splitlines()])
    taken = "KEY, PUBLIC, CERTIFICATE = self.KEY, self.PUBLIC, self.CERTIFICATE"
    body = "\n        ".join([*imports, taken, *rest])
    entry = "def TA_InvokeCommandEntryPoint(self, session, command_id, param_types, params):"
    tee.put(f"{head}\n    {entry}\n        {body}\n        IMSG('done')\n")
    tee.open().invoke(0)
    assert tee.lines == ["done"]
