# SPDX-License-Identifier: BSD-2-Clause
"""Keys that images of trusted services may be signed with.

OP-TEE has one root key, compiled into its core; by default it is the development key, which its
source publishes with its private half: ``keys/default.pem`` since 4.7, ``keys/default_ta.pem``
before. gentee takes both, and says so, unless it is told to be strict; and it takes the keys that
it is given.

pyca/cryptography (docs/decisions/0004-cryptography.md) is imported when the first image is looked
at, never before.
"""

import hashlib
import os
import threading
from collections.abc import Sequence

from gentee.abi.shdr import Shdr, ShdrError, SignatureAlgorithm
from gentee.errors import TaImageError, UserError
from gentee.secure.ta_encryption import EncryptionKeys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

# optee_os: is_weak_key_size(), and CFG_CORE_BIGNUM_MAX_BITS.
MIN_BITS = 2048
MAX_BITS = 4096

_MAX_PEM = 64 << 10  # bytes; a key is not larger

DEVELOPMENT = "OP-TEE's public development key"
DEVELOPMENT_2048 = "OP-TEE's public development key of before 4.7"

# The public half of optee_os keys/default.pem: RSA, 4096 bits.
_DEVELOPMENT_EXPONENT = 65537
_DEVELOPMENT_MODULUS = int(
    "e9ee82639f0bcdded5c5bfc1f64e3b5fc7eebe4604f0ed697a8d549e611a7ae008f75cbac0548b92883bb8f6"
    "5c8b30f1caa037381b5b16a8bb9d1d1f4ecfa7af7ed6fb21521999636555f1b9d3288dc72c8073fda4c52396"
    "6baeff52122f2bc0e50f11e802eb4e63695107cda9c76920181fc120d4ac1514d0f22aea2894771a16b6e0bb"
    "d4e80a878360f0d5dd2101e2255c31da2fc90789627560cf258fe74cb2a7983cdb2adc8a59e41fcf81498038"
    "c30138595c049ea1a1295a68d10ef7db1ba23bce2536d2388003947c4fa86df43770a09f8220aa2fb1cba475"
    "e74f67d6fcfc87ac062654459bfba70a803162d56fddcf423d5adbc573c99396e0caffa1afbda98d3f775f40"
    "a41e58255ee17fa7d66399b03dd006b8ee05a578a77a60fe1cb5c65c0bbaf8f9737ed256f7b52dbc4e433339"
    "2b326f4362385ed5bd4010794360933b593a518bdcf80ae07299e7390ac2857d900909094a839aa33ca03bdc"
    "21f53c1b55cc02be37c92d6ec200228897d1a439c88b58f45cb1a9db92b7676dd2d3e3ae37e5bc7588d7edbb"
    "ce0632d2c58e96c496cb3f4d3281fdc75206574fee7cebe7b3de72dd7477a6d1c8ac1d6265d7d27410954c70"
    "2c71592c0fc156942d92fc415e76a61c0776634751696fd45e18ad82852554fc3c60f976b7033517a38173f2"
    "b35a277fc1bc1f0da610e18b7f75204a0fbbf6d14d59ba313fd81da1",
    16,
)

# The same of keys/default_ta.pem up to 4.6: RSA, 2048 bits.
_DEVELOPMENT_2048_MODULUS = int(
    "a65a18adc0b3cee30c902b7d409bacbb5a4988420ab1e092c08691e69eefa0e1f12f90f666ddea155ac028b4"
    "9ddf520c6ea5c61943ac69a8f25ffe6000a5d23acc1201f35bba0c511c2cf4b077b9d672351c0f73cd2f16f9"
    "ba8984a09bbf8b5b7fe88b8b9fc871ea1c6c1f00a0eeca3ebf188e579b4866eb8bd44051ae86a186f8d00bfa"
    "b62e252e05ff760146d73deb1f7cfcdf1e828b5eb0caa3ea16be2d6e54509cb841ef17c77f6054aaf970a0f8"
    "982e82f98c5ffb9c888e77b03272991ae0045ebf1daaf7f0053cb495dd4dba3a71a1f8728e1d98e313bacab0"
    "27bf87595427f8e8ecc68537d23a95e4a5099ad01fa386b092d8021e3375db26bf27fc35",
    16,
)


class PublicKey:
    """An accepted key.

    :param name: where it is from, for people.
    :param development: whether everybody has its private half.
    """

    __slots__ = ("bits", "development", "fingerprint", "key", "name")

    def __init__(self, name: str, key: "RSAPublicKey", development: bool = False) -> None:
        self.name = name
        self.key = key
        self.bits = key.key_size
        self.development = development
        self.fingerprint = fingerprint(key)

    @property
    def size(self) -> int:
        """Bytes of a signature."""
        return (self.bits + 7) // 8


def fingerprint(key: "RSAPublicKey") -> str:
    """SHA-256 of the key as openssl pkey -pubout -outform DER writes it, in hexadecimal."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


class AcceptedKeys:
    """The keys of a TEE. Files are read when the first image is looked at.

    :param files: PEM files with a public key, or with a private one, of which only the public half
        is used.
    :param strict: these keys only, and not the development keys.
    :param encryption: what images may be encrypted with; by default OP-TEE's default.
    """

    def __init__(
        self,
        files: Sequence[str] = (),
        *,
        strict: bool = False,
        encryption: EncryptionKeys | None = None,
    ) -> None:
        self.files = tuple(files)
        self.strict = strict
        self.encryption = encryption or EncryptionKeys()
        self._lock = threading.Lock()  # protects _keys
        self._keys: list[PublicKey] | None = None

    def check_files(self) -> None:
        """Look at the files as far as it costs nothing; UserError for what cannot be a key."""
        for path in self.files:
            if b"-----BEGIN " not in _read(path):
                raise UserError(f"{path}: not a PEM file", "'gentee ta keygen FILE' makes a key")
        self.encryption.check_files()

    def all(self) -> list[PublicKey]:
        """The keys.

        :raises UserError: a file holds no key that could sign an image.
        """
        with self._lock:
            if self._keys is None:
                keys = [PublicKey(path, load_public_key(path)) for path in self.files]
                if not self.strict:
                    keys += development_keys()
                self._keys = keys
            return self._keys

    def verify(self, shdr: Shdr) -> PublicKey:
        """The accepted key that signed ``shdr``: shdr_verify_signature().

        :raises TaImageError: none did, or a field of the header is wrong.
        """
        algorithm = _checked(shdr)
        try:
            keys = self.all()
        except UserError as error:
            raise TaImageError(error.message) from error
        fitting = [key for key in keys if key.size == len(shdr.sig)]
        if keys and not fitting:
            sizes = " or ".join(sorted({str(key.size) for key in keys}))
            raise TaImageError(f"sig_size {len(shdr.sig)} is not the {sizes} of an accepted key")
        for key in fitting:
            if signature_holds(key.key, algorithm, shdr):
                return key
        raise TaImageError("signed by no accepted key, or the signature is damaged")


def verify_by(key: PublicKey, shdr: Shdr) -> None:
    """Whether ``key`` signed ``shdr``: shdr_verify_signature2().

    :raises TaImageError: it did not, or a field of the header is wrong.
    """
    algorithm = _checked(shdr)
    if len(shdr.sig) != key.size:
        raise TaImageError(f"sig_size {len(shdr.sig)} is not the {key.size} of the {key.name}")
    if not signature_holds(key.key, algorithm, shdr):
        raise TaImageError(f"not signed by the {key.name}, or the signature is damaged")


def _checked(shdr: Shdr) -> SignatureAlgorithm:
    try:
        return shdr.check()
    except ShdrError as error:
        raise TaImageError(str(error)) from None


def development_keys() -> list[PublicKey]:
    """The public halves of OP-TEE's development keys, the one of today first."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    return [
        PublicKey(name, RSAPublicNumbers(_DEVELOPMENT_EXPONENT, modulus).public_key(), True)
        for name, modulus in (
            (DEVELOPMENT, _DEVELOPMENT_MODULUS),
            (DEVELOPMENT_2048, _DEVELOPMENT_2048_MODULUS),
        )
    ]


def rsa_public_key(modulus: bytes, exponent: bytes) -> "RSAPublicKey":
    """The key of these numbers, the first octet first; ValueError if there is none."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    if len(modulus) > MAX_BITS // 8 + 1 or len(exponent) > MAX_BITS // 8 + 1:
        raise ValueError(f"more than {MAX_BITS} bits")
    n = int.from_bytes(modulus, "big")
    if not MIN_BITS <= n.bit_length() <= MAX_BITS:
        raise ValueError(f"{n.bit_length()} bits; it takes {MIN_BITS} to {MAX_BITS}")
    return RSAPublicNumbers(int.from_bytes(exponent, "big"), n).public_key()


def signature_holds(key: "RSAPublicKey", algorithm: SignatureAlgorithm, shdr: Shdr) -> bool:
    """Whether ``shdr.sig`` is ``key``'s signature of ``shdr.hash``."""
    from cryptography.exceptions import InvalidSignature

    padding, digest = _padding(algorithm)
    try:
        key.verify(shdr.sig, shdr.hash, padding, digest)
    except InvalidSignature:
        return False
    return True


def sign_digest(key: "RSAPrivateKey", algorithm: SignatureAlgorithm, digest: bytes) -> bytes:
    """The signature of a digest, as scripts/sign_encrypt.py makes it."""
    padding, hashed = _padding(algorithm)
    return key.sign(digest, padding, hashed)


def _padding(algorithm: SignatureAlgorithm) -> "tuple[AsymmetricPadding, Prehashed]":
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, utils

    digest: hashes.HashAlgorithm = hashes.SHA256()
    if algorithm.digest == "sha384":
        digest = hashes.SHA384()
    elif algorithm.digest == "sha512":
        digest = hashes.SHA512()
    if not algorithm.pss:
        return padding.PKCS1v15(), utils.Prehashed(digest)
    # The salt has the digest's length, no other: crypto_acipher_rsassa_verify().
    pss = padding.PSS(mgf=padding.MGF1(digest), salt_length=algorithm.digest_size)
    return pss, utils.Prehashed(digest)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_PEM + 1)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "it should be a key, a PEM file") from error
    if len(data) > _MAX_PEM:
        raise UserError(f"{path}: too large for a key", "it should be a PEM file")
    return data


def load_public_key(path: str) -> "RSAPublicKey":
    """The public key of a PEM file, which may hold the private key as well; or UserError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _read(path)
    if b"PRIVATE KEY-----" in data:
        return load_private_key(path).public_key()
    try:
        key = load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(path) from error
    if not isinstance(key, RSAPublicKey):
        raise _not_rsa(path)
    _check_size(path, key.key_size)
    return key


def load_private_key(path: str) -> "RSAPrivateKey":
    """The private key of a PEM file without a passphrase; or UserError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(path)
    if b"PUBLIC KEY-----" in data and b"PRIVATE KEY-----" not in data:
        raise UserError(f"{path}: a public key cannot sign", "name the file with the private key")
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError as error:  # it asks for a passphrase
        raise UserError(
            f"{path}: the key is protected by a passphrase",
            f"openssl rsa -in {path} -out FILE writes it without one",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path) from error
    if not isinstance(key, RSAPrivateKey):
        raise _not_rsa(path)
    _check_size(path, key.key_size)
    return key


def _no_key(path: str) -> UserError:
    return UserError(f"{path}: no key that can be read", "'gentee ta keygen FILE' makes one")


def _not_rsa(path: str) -> UserError:
    return UserError(f"{path}: not an RSA key", "OP-TEE's images are signed with RSA")


def _check_size(path: str, bits: int) -> None:
    if not MIN_BITS <= bits <= MAX_BITS:
        raise UserError(
            f"{path}: an RSA key of {bits} bits",
            f"OP-TEE takes {MIN_BITS} to {MAX_BITS}; 'gentee ta keygen FILE' makes one",
        )


def generate_key(path: str, bits: int) -> "RSAPublicKey":
    """Make a private key in a new file of mode 0600; its public half.

    :raises UserError: the file exists, or cannot be made.
    """
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise UserError(f"{path}: is there already", "a key is never overwritten") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    try:
        with open(fd, "wb") as file:
            key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(fd)
    except BaseException:
        os.unlink(path)  # half a key helps nobody
        raise
    return key.public_key()
