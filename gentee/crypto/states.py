# SPDX-License-Identifier: BSD-2-Clause
"""States of operations: ``struct tee_cryp_state`` of OP-TEE's ``core/tee/tee_svc_cryp.c``.

A state has an algorithm, a mode, its keys and, once it was initialised, a context: the primitive
that does the work. Checks and their order are those of OP-TEE. Where OP-TEE goes on to compute with
a context that has given its result, which makes meaningless bytes, a state here answers BAD_STATE.
"""

from gentee.abi import gp_crypto as gp
from gentee.crypto.authenc import AuthEnc, check_authenc, new_authenc
from gentee.crypto.ciphers import Cipher, check_cipher, new_cipher
from gentee.crypto.digests import Digest, Xof, check_digest, new_digest
from gentee.crypto.macs import Mac, check_mac, new_mac
from gentee.crypto.own.cbc_mac import CbcMac
from gentee.errors import BadParameters, BadState, NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.crypto.objects import CryptObject

_Bytes = bytes | memoryview

_COMPAT = {
    gp.OPTEE_ALG_ECDSA_P192: gp.TEE_ALG_ECDSA_SHA1,
    gp.OPTEE_ALG_ECDSA_P224: gp.TEE_ALG_ECDSA_SHA224,
    gp.OPTEE_ALG_ECDSA_P256: gp.TEE_ALG_ECDSA_SHA256,
    gp.OPTEE_ALG_ECDSA_P384: gp.TEE_ALG_ECDSA_SHA384,
    gp.OPTEE_ALG_ECDSA_P521: gp.TEE_ALG_ECDSA_SHA512,
    gp.OPTEE_ALG_ECDH_P192: gp.TEE_ALG_ECDH_DERIVE_SHARED_SECRET,
    gp.OPTEE_ALG_ECDH_P224: gp.TEE_ALG_ECDH_DERIVE_SHARED_SECRET,
    gp.OPTEE_ALG_ECDH_P256: gp.TEE_ALG_ECDH_DERIVE_SHARED_SECRET,
    gp.OPTEE_ALG_ECDH_P384: gp.TEE_ALG_ECDH_DERIVE_SHARED_SECRET,
    gp.OPTEE_ALG_ECDH_P521: gp.TEE_ALG_ECDH_DERIVE_SHARED_SECRET,
}

# Which type of key a main algorithm takes in any mode.
_KEY_TYPE = {
    gp.TEE_MAIN_ALGO_MD5: gp.TEE_TYPE_HMAC_MD5,
    gp.TEE_MAIN_ALGO_SHA1: gp.TEE_TYPE_HMAC_SHA1,
    gp.TEE_MAIN_ALGO_SHA224: gp.TEE_TYPE_HMAC_SHA224,
    gp.TEE_MAIN_ALGO_SHA256: gp.TEE_TYPE_HMAC_SHA256,
    gp.TEE_MAIN_ALGO_SHA384: gp.TEE_TYPE_HMAC_SHA384,
    gp.TEE_MAIN_ALGO_SHA512: gp.TEE_TYPE_HMAC_SHA512,
    gp.TEE_MAIN_ALGO_SHA3_224: gp.TEE_TYPE_HMAC_SHA3_224,
    gp.TEE_MAIN_ALGO_SHA3_256: gp.TEE_TYPE_HMAC_SHA3_256,
    gp.TEE_MAIN_ALGO_SHA3_384: gp.TEE_TYPE_HMAC_SHA3_384,
    gp.TEE_MAIN_ALGO_SHA3_512: gp.TEE_TYPE_HMAC_SHA3_512,
    gp.TEE_MAIN_ALGO_SM3: gp.TEE_TYPE_HMAC_SM3,
    gp.TEE_MAIN_ALGO_AES: gp.TEE_TYPE_AES,
    gp.TEE_MAIN_ALGO_DES: gp.TEE_TYPE_DES,
    gp.TEE_MAIN_ALGO_DES3: gp.TEE_TYPE_DES3,
    gp.TEE_MAIN_ALGO_SM4: gp.TEE_TYPE_SM4,
    gp.TEE_MAIN_ALGO_RSA: gp.TEE_TYPE_RSA_KEYPAIR,
    gp.TEE_MAIN_ALGO_DSA: gp.TEE_TYPE_DSA_KEYPAIR,
    gp.TEE_MAIN_ALGO_DH: gp.TEE_TYPE_DH_KEYPAIR,
    gp.TEE_MAIN_ALGO_ECDSA: gp.TEE_TYPE_ECDSA_KEYPAIR,
    gp.TEE_MAIN_ALGO_ECDH: gp.TEE_TYPE_ECDH_KEYPAIR,
    gp.TEE_MAIN_ALGO_ED25519: gp.TEE_TYPE_ED25519_KEYPAIR,
    gp.TEE_MAIN_ALGO_SM2_PKE: gp.TEE_TYPE_SM2_PKE_KEYPAIR,
    gp.TEE_MAIN_ALGO_SM2_DSA_SM3: gp.TEE_TYPE_SM2_DSA_KEYPAIR,
    gp.TEE_MAIN_ALGO_SM2_KEP: gp.TEE_TYPE_SM2_KEP_KEYPAIR,
    gp.TEE_MAIN_ALGO_HKDF: gp.TEE_TYPE_HKDF_IKM,
    gp.TEE_MAIN_ALGO_CONCAT_KDF: gp.TEE_TYPE_CONCAT_KDF_Z,
    gp.TEE_MAIN_ALGO_PBKDF2: gp.TEE_TYPE_PBKDF2_PASSWORD,
    gp.TEE_MAIN_ALGO_X25519: gp.TEE_TYPE_X25519_KEYPAIR,
    gp.TEE_MAIN_ALGO_X448: gp.TEE_TYPE_X448_KEYPAIR,
}
_ENCRYPT_VERIFY = (gp.TEE_MODE_ENCRYPT, gp.TEE_MODE_VERIFY)
_VERIFY = (gp.TEE_MODE_VERIFY,)
# Which it also takes, in some modes.
_SECOND_KEY_TYPE = {
    gp.TEE_MAIN_ALGO_RSA: (gp.TEE_TYPE_RSA_PUBLIC_KEY, _ENCRYPT_VERIFY),
    gp.TEE_MAIN_ALGO_DSA: (gp.TEE_TYPE_DSA_PUBLIC_KEY, _ENCRYPT_VERIFY),
    gp.TEE_MAIN_ALGO_ECDSA: (gp.TEE_TYPE_ECDSA_PUBLIC_KEY, _VERIFY),
    gp.TEE_MAIN_ALGO_ED25519: (gp.TEE_TYPE_ED25519_PUBLIC_KEY, _VERIFY),
}
# Which it takes instead, in some modes.
_OTHER_KEY_TYPE = {
    (gp.TEE_MAIN_ALGO_SM2_PKE, gp.TEE_MODE_ENCRYPT): gp.TEE_TYPE_SM2_PKE_PUBLIC_KEY,
    (gp.TEE_MAIN_ALGO_SM2_DSA_SM3, gp.TEE_MODE_VERIFY): gp.TEE_TYPE_SM2_DSA_PUBLIC_KEY,
}


def check_key(key: "CryptObject", algo: int, mode: int) -> None:
    """Whether an object may be a key of a new operation; raises BadParameters."""
    if key.busy:
        raise BadParameters("the key belongs to another operation")
    check_key_type(key, _COMPAT.get(algo, algo), mode)


def check_key_type(key: "CryptObject", algo: int, mode: int) -> None:
    """``tee_svc_cryp_check_key_type()``: raises BadParameters where a key is of another type."""
    main = gp.TEE_ALG_GET_MAIN_ALG(algo)
    wanted = _OTHER_KEY_TYPE.get((main, mode), _KEY_TYPE.get(main))
    if wanted is None:
        raise BadParameters(f"algorithm {algo:#x} has no keys")
    if key.obj_type == wanted:
        return
    if main == gp.TEE_MAIN_ALGO_SM2_KEP and key.obj_type == gp.TEE_TYPE_SM2_KEP_PUBLIC_KEY:
        return
    second, modes = _SECOND_KEY_TYPE.get(main, (0, ()))
    # A type that is not wanted is 0 in OP-TEE, and no object has type 0.
    if key.obj_type != second or mode not in modes:
        raise BadParameters(f"a key of type {key.obj_type:#x} for algorithm {algo:#x}")


class CryptState:
    """An operation.

    :ivar algo: TEE_ALG_*.
    :ivar mode: TEE_MODE_*, or any number that the TA gave: OP-TEE looks at it when it is used.
    :ivar key1: the key, an object that belongs to the state alone; None for digests.
    :ivar key2: the second key, of XTS and SM2 KEP.
    :ivar key_handles: those of the keys, for whoever gives handles; 0 where there is none.
    :ivar algo_class: TEE_OPERATION_*.
    :ivar initialized: CRYP_STATE_INITIALIZED.
    :ivar digest_size: bytes of a digest or MAC; 0 for other classes, SHAKE among them.
    """

    __slots__ = (
        "_ends",
        "algo",
        "algo_class",
        "authenc",
        "cipher",
        "digest_size",
        "hash",
        "initialized",
        "key1",
        "key2",
        "key_handles",
        "mode",
    )

    def __init__(
        self,
        algo: int,
        mode: int,
        key1: "CryptObject | None" = None,
        key2: "CryptObject | None" = None,
    ) -> None:
        """``syscall_cryp_state_alloc()``, without the object handles.

        :raises BadParameters: keys are missing, busy, too many or of another type.
        :raises NotSupported: there is no such class of algorithms, or no such MAC.
        :raises NotImplementedByTee: there is no such digest, cipher or authenticated encryption.
        """
        algo &= 0xFFFFFFFF
        algo = _COMPAT.get(algo, algo)
        mode &= 0xFFFFFFFF
        for key in (key1, key2):
            if key is not None:
                check_key(key, algo, mode)
        self.algo = algo
        self.mode = mode
        self.key1 = key1
        self.key2 = key2
        self.key_handles = (0, 0)
        self.algo_class = gp.TEE_ALG_GET_CLASS(algo)
        self.initialized = False
        # OP-TEE's SM4 forgets its key after the last data.
        self._ends = gp.TEE_ALG_GET_MAIN_ALG(algo) == gp.TEE_MAIN_ALGO_SM4
        self.digest_size = gp.TEE_ALG_GET_DIGEST_SIZE(algo)
        # The context, under the name of its class. None before it is initialised and after the end.
        self.hash: Digest | Xof | Mac | CbcMac | None = None
        self.cipher: Cipher | None = None
        self.authenc: AuthEnc | None = None
        _CHECKS.get(self.algo_class, _check_other)(self)
        for key in (key1, key2):
            if key is not None:
                key.busy = True

    def give_back_keys(self) -> None:
        """The operation does not come to be: its keys are as they were."""
        for key in (self.key1, self.key2):
            if key is not None:
                key.busy = False

    def end(self) -> None:
        """Let go of what depends on a key."""
        self.hash = self.cipher = self.authenc = self.key1 = self.key2 = None
        self.initialized = False

    def copy_from(self, other: "CryptState") -> None:
        """``syscall_cryp_state_copy()``: be in the state of another operation. Keys stay."""
        if self.algo != other.algo or self.mode != other.mode:
            raise BadParameters("operations of different algorithms or modes")
        if self.algo_class not in _CHECKS:
            raise BadState("an operation without a state")
        if self is other:
            return
        self.hash = None if other.hash is None else other.hash.copy()
        self.cipher = None if other.cipher is None else other.cipher.copy()
        self.authenc = None if other.authenc is None else other.authenc.copy()
        self.initialized = other.initialized

    # Digests and MACs.

    def hash_init(self) -> None:
        """``syscall_hash_init()``: start a digest or a MAC."""
        if self.algo_class == gp.TEE_OPERATION_DIGEST:
            self.hash = new_digest(self.algo)
        elif self.algo_class == gp.TEE_OPERATION_MAC:
            self.hash = new_mac(self.algo, self._secret(self.key1))
        else:
            raise BadParameters("not a digest or a MAC")
        self.initialized = True

    def hash_update(self, data: _Bytes) -> None:
        """``syscall_hash_update()``: digest ``data``, which is not empty."""
        context = self.hash
        if context is None:
            raise self._no_hash()
        context.update(data)

    def hash_final_size(self, size: int) -> int:
        """How many bytes :meth:`hash_final_into` puts out where there is room for ``size``.

        More than ``size`` means TEE_ERROR_SHORT_BUFFER.
        """
        if self.hash is None:
            raise self._no_hash()
        return self.digest_size or size

    def hash_final_into(self, data: _Bytes, out: memoryview) -> None:
        """``syscall_hash_final()``: digest ``data`` and put out a digest, a MAC, or what follows of
        an extendable output. ``out`` has the bytes that :meth:`hash_final_size` says.
        """
        context = self.hash
        if context is None:
            raise self._no_hash()
        if len(data):
            context.update(data)
        if isinstance(context, Xof):
            context.extract_into(out)
        else:
            out[:] = context.final()
            self.hash = None

    def _no_hash(self) -> BadState | BadParameters:
        if not self.initialized:
            return BadState("not initialised")
        if self.algo_class not in (gp.TEE_OPERATION_DIGEST, gp.TEE_OPERATION_MAC):
            return BadParameters("not a digest or a MAC")
        return BadState("the result was put out")

    # Ciphers.

    def check_cipher_init(self) -> None:
        """What :meth:`cipher_init` checks before it looks at the initialisation vector."""
        if self.algo_class != gp.TEE_OPERATION_CIPHER:
            raise BadState("not a cipher")
        self._check_key(self.key1)

    def cipher_init(self, iv: bytes) -> None:
        """``syscall_cipher_init()``: start to encrypt or decrypt.

        :param iv: initialisation vector, counter or tweak; ECB takes any.
        """
        self.check_cipher_init()
        self.start_cipher(iv)

    def start_cipher(self, iv: bytes) -> None:
        """:meth:`cipher_init` of who has checked."""
        key2 = b"" if self.key2 is None else self._secret(self.key2)
        key1 = self._secret(self.key1)
        self.cipher = new_cipher(self.algo, self.mode, key1, key2, iv, self.cipher)
        self.initialized = True

    def cipher_update_into(self, src: _Bytes, dst: memoryview, last: bool) -> None:
        """``tee_svc_cipher_update_helper()``: encrypt or decrypt.

        AES and DES go on after the last data as if it had not been, which OP-TEE's do, too.

        :param dst: at least as long as ``src``, and the same memory or apart from it.
        :param last: some modes take blocks then that are not whole.
        """
        if len(src):
            cipher = self.cipher
            if cipher is None:
                raise self._no_cipher()
            cipher.update_into(src, dst, last)
        elif not self.initialized:
            raise self._no_cipher()
        if last and self._ends:
            self.cipher = None

    def _no_cipher(self) -> BadState | BadParameters:
        if not self.initialized:
            return BadState("not initialised")
        if self.algo_class != gp.TEE_OPERATION_CIPHER:
            return BadParameters("not a cipher")
        return BadState("the cipher was ended")

    # Authenticated encryption.

    def check_authenc_init(self) -> None:
        """What :meth:`authenc_init` checks before it looks at the nonce."""
        if self.algo_class != gp.TEE_OPERATION_AE:
            raise BadState("not an authenticated encryption")
        self._check_key(self.key1)

    def authenc_init(self, nonce: bytes, tag_size: int, aad_size: int, payload_size: int) -> None:
        """``syscall_authenc_init()``: start an authenticated encryption or decryption.

        :param aad_size: bytes of additional data that will come; and of payload.
        """
        self.check_authenc_init()
        self.start_authenc(nonce, tag_size, aad_size, payload_size)

    def start_authenc(self, nonce: bytes, tag_size: int, aad_size: int, payload_size: int) -> None:
        """:meth:`authenc_init` of who has checked."""
        key = self._secret(self.key1)
        self.authenc = new_authenc(
            self.algo, self.mode, key, nonce, tag_size, aad_size, payload_size, self.authenc
        )
        self.initialized = True

    def check_authenc(self, mode: int | None = None) -> AuthEnc:
        """The context of a started authenticated encryption.

        :param mode: TEE_MODE_* that it must have.
        :raises BadState: it is none, or was not started.
        :raises BadParameters: the mode is another one.
        """
        if not self.initialized:
            raise BadState("not initialised")
        if mode is not None and self.mode != mode:
            raise BadParameters(f"mode {self.mode:#x}")
        if self.authenc is None:
            raise BadState("not an authenticated encryption")
        return self.authenc

    def _check_key(self, key: "CryptObject | None") -> "CryptObject":
        if key is None:
            raise BadState("no key")
        if not key.handle_flags & gp.TEE_HANDLE_FLAG_INITIALIZED:
            raise BadParameters("the key has no value")
        return key

    def _secret(self, key: "CryptObject | None") -> bytes:
        return self._check_key(key).secret()


def _check_digest(state: CryptState) -> None:
    if state.key1 is not None or state.key2 is not None:
        raise BadParameters("a digest with a key")
    check_digest(state.algo)


def _check_other(state: CryptState) -> None:
    if state.algo_class == gp.TEE_OPERATION_KEY_DERIVATION and state.algo == gp.TEE_ALG_SM2_KEP:
        if state.key1 is None or state.key2 is None:
            raise BadParameters("SM2 KEP takes two keys")
    elif state.algo_class in (
        gp.TEE_OPERATION_ASYMMETRIC_CIPHER,
        gp.TEE_OPERATION_ASYMMETRIC_SIGNATURE,
        gp.TEE_OPERATION_KEY_DERIVATION,
    ):
        _one_key(state)
    else:
        raise NotSupported(f"algorithm {state.algo:#x}")


def _check_cipher(state: CryptState) -> None:
    two = gp.TEE_ALG_GET_CHAIN_MODE(state.algo) == gp.TEE_CHAIN_MODE_XTS
    if state.key1 is None or (state.key2 is not None) is not two:
        raise BadParameters(f"algorithm {state.algo:#x} takes {1 + two} keys")
    check_cipher(state.algo)


def _check_mac(state: CryptState) -> None:
    _one_key(state)
    check_mac(state.algo)


def _check_authenc(state: CryptState) -> None:
    _one_key(state)
    check_authenc(state.algo)


def _one_key(state: CryptState) -> None:
    if state.key1 is None or state.key2 is not None:
        raise BadParameters(f"algorithm {state.algo:#x} takes one key")


_CHECKS = {
    gp.TEE_OPERATION_CIPHER: _check_cipher,
    gp.TEE_OPERATION_MAC: _check_mac,
    gp.TEE_OPERATION_AE: _check_authenc,
    gp.TEE_OPERATION_DIGEST: _check_digest,
}
