# SPDX-License-Identifier: BSD-2-Clause
"""Cryptography for trusted services in Python: objects, operations and random numbers of the TEE
Internal Core API 1.3.1 (chapters 5 and 6) under their own names, and its constants.

A service imports this with a statement of its own, ``from gentee.ta.crypto import ...``; one that
does not has nothing of it in its process. All that is ever needed is loaded at once, since nothing
can be loaded when the service runs.
"""

from gentee import crypto
from gentee.abi.gp_crypto import *  # noqa: F403
from gentee.ta.crypto.algorithms import TEE_IsAlgorithmSupported as TEE_IsAlgorithmSupported
from gentee.ta.crypto.asymmetric import *  # noqa: F403
from gentee.ta.crypto.objects import *  # noqa: F403
from gentee.ta.crypto.operations import *  # noqa: F403
from gentee.ta.crypto.symmetric import *  # noqa: F403
from gentee.ta.framework import TEE_GenerateRandom as TEE_GenerateRandom

# That of services is gentee.ta's, which is None.
del TEE_HANDLE_NULL  # noqa: F821

__all__ = [name for name in dir() if name.startswith("TEE_") or name.endswith("Handle")]

crypto.warm_up()
