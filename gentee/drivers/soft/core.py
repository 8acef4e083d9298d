# SPDX-License-Identifier: BSD-2-Clause
"""Probe and description of the software TEE's devices."""

from collections.abc import Iterable, Mapping

from gentee.abi.linux_tee import (
    TEE_GEN_CAP_GP,
    TEE_GEN_CAP_MEMREF_NULL,
    TEE_GEN_CAP_REG_MEM,
    TEE_IMPL_ID_OPTEE,
    TEE_OPTEE_CAP_TZ,
)
from gentee.core.driver import ShmNeeds, TeeDesc, TeeDriver
from gentee.core.host import Host
from gentee.core.supp import Supplicant
from gentee.drivers.soft.call import SoftOps
from gentee.drivers.soft.shm import SoftShmPool
from gentee.drivers.soft.supp import SoftSuppOps
from gentee.errors import UserError
from gentee.secure.normal_world import NormalWorld
from gentee.secure.store import TaStore
from gentee.secure.tee import SoftTee
from gentee.secure.watchdog import CPU_LIMIT, MEMORY_LIMIT, Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gentee.core.protected_memory import ProtectedHeap


_MOST_LOG = 1 << 20  # bytes of a TPM event log


class SoftDriver(TeeDriver):
    """One software TEE a ``probe``.

    Options: ``ta_dirs`` (folders of services, the earlier wins), ``reg_mem`` (advertise
    TEE_GEN_CAP_REG_MEM, so that libteec registers its memory instead of sharing pages),
    ``max_instances``; ``state`` (the TEE's state folder; None keeps nothing), ``counter`` (a file
    elsewhere, which tells an older copy of the state), ``keys`` (PEM files of keys that images may
    be signed with), ``strict`` (these keys only), ``ta_enc_key`` and ``ta_class_key`` (files of
    keys that images may be encrypted with), ``allow_unsigned`` (take ELF files without a
    signature); ``memory_limit`` (MiB of private memory for a service's process), ``cpu_limit``
    (seconds of CPU time for a command); ``symbols`` (folders with unstripped ELF files of TAs,
    besides ``ta_dirs``); ``huk`` (a file with the hardware unique key; OP-TEE's for development is
    zeros); ``pseudo_tas`` (further pseudo TAs, as ``"module:Class"``: code that is trusted as
    gentee is); ``allow_net`` (what services' sockets may reach: ``"loopback"`` or ``"HOST:PORT"``,
    by default nothing) and ``plugin_dirs`` (folders with a supplicant's plugins), both for as long
    as no supplicant serves; ``protected_memory`` (MiB of it, for the secure data path: a DMA heap
    is one more device, and all TEEs take what comes from it), ``tpm_event_log`` (a file with what
    the firmware before the TEE measured).
    """

    name = "soft"

    def __init__(self) -> None:
        self._tees: list[SoftTee] = []
        self._heap: ProtectedHeap | None = None

    def probe(self, host: Host, options: "Mapping[str, Any]") -> Iterable[TeeDesc]:
        store = self._store(host, options)
        limits = Limits(
            int(options.get("memory_limit", MEMORY_LIMIT)),
            float(options.get("cpu_limit", CPU_LIMIT)),
        )
        max_instances = int(options.get("max_instances", 1024))
        supplicant = Supplicant()
        tee = SoftTee(
            host,
            store,
            max_instances=max_instances,
            limits=limits,
            supplicant=supplicant,
            normal_world=self._normal_world(host, options),
            pseudo_tas=options.get("pseudo_tas", ()),
            huk=self._huk(options.get("huk")),
            symbols=(*options.get("symbols", ()), *options.get("ta_dirs", ())),
            tpm_event_log=self._tpm_event_log(options.get("tpm_event_log")),
        )
        self._tees.append(tee)
        gen_caps = TEE_GEN_CAP_GP | TEE_GEN_CAP_MEMREF_NULL
        if options.get("reg_mem"):
            gen_caps |= TEE_GEN_CAP_REG_MEM
        size = int(options.get("protected_memory", 0))
        if size and self._heap is None:
            from gentee.core.protected_memory import HeapOps, ProtectedHeap

            self._heap = heap = ProtectedHeap(size << 20)
            yield TeeDesc("protected memory", HeapOps(), impl_id=0, heap=heap, is_heap=True)
        yield TeeDesc(
            "soft",
            SoftOps(tee, gen_caps),
            impl_id=TEE_IMPL_ID_OPTEE,
            impl_caps=TEE_OPTEE_CAP_TZ,
            gen_caps=gen_caps,
            shm=ShmNeeds(),
            pool=SoftShmPool(tee),
            heap=self._heap,
        )
        yield TeeDesc(
            "soft",
            SoftSuppOps(supplicant, gen_caps),
            impl_id=TEE_IMPL_ID_OPTEE,
            impl_caps=TEE_OPTEE_CAP_TZ,
            gen_caps=gen_caps,
            privileged=True,
        )

    @staticmethod
    def _store(host: Host, options: "Mapping[str, Any]") -> TaStore:
        folder = options.get("state")
        files = options.get("keys", ())
        strict = bool(options.get("strict"))
        state = keys = None
        # What nobody needs is not imported either.
        counter = options.get("counter")
        if counter is not None:
            from gentee.secure.counter import Counter

            counter = Counter(counter, host.warn)
            counter.check()
        if folder is not None:
            from gentee.secure.state import State

            state = State(folder, counter)
            state.check()
        elif counter is not None:
            raise UserError(
                f"counter {counter.path}: this TEE keeps nothing", "a counter is of a state folder"
            )
        enc_files = str(options.get("ta_enc_key", "")), str(options.get("ta_class_key", ""))
        if files or strict or any(enc_files):
            from gentee.secure.keys import AcceptedKeys
            from gentee.secure.ta_encryption import EncryptionKeys

            keys = AcceptedKeys(files, strict=strict, encryption=EncryptionKeys(*enc_files))
            keys.check_files()
        return TaStore(
            options.get("ta_dirs", ()),
            state=state,
            keys=keys,
            allow_unsigned=bool(options.get("allow_unsigned")),
            warn=host.warn,
        )

    @staticmethod
    def _normal_world(host: Host, options: "Mapping[str, Any]") -> NormalWorld:
        rules = options.get("allow_net", ())
        if rules:
            from gentee.secure.normal_world.network import parse_rule

            for rule in rules:
                parse_rule(rule)
        return NormalWorld(host, rules, options.get("plugin_dirs", ()))

    @staticmethod
    def _tpm_event_log(path: str | None) -> bytes | None:
        if path is None:
            return None
        try:
            with open(path, "rb") as file:
                log = file.read(_MOST_LOG + 1)
        except OSError as error:
            raise UserError(f"TPM event log {path}: {error.strerror}") from error
        if len(log) > _MOST_LOG:
            raise UserError(f"TPM event log {path}: more than {_MOST_LOG} bytes")
        return log

    @staticmethod
    def _huk(path: str | None) -> bytes:
        if path is None:
            return bytes(16)
        from gentee.secure.huk import load_huk

        return load_huk(path)

    @property
    def tees(self) -> tuple[SoftTee, ...]:
        """Those that were made by ``probe``."""
        return tuple(self._tees)

    def remove(self) -> None:
        for tee in self._tees:
            tee.close()
        self._tees.clear()
        if self._heap is not None:
            self._heap.close()
            self._heap = None
