# SPDX-License-Identifier: BSD-2-Clause
"""A whole TEE without a secure world: what goes in comes back. For tests and first steps.

It implements every operation of the driver contract, so that clients, doors and the contract's
own tests have something real to talk to: ``gentee run --driver loopback -- client``. What its
trusted services do is in :mod:`gentee.drivers.loopback.call`.
"""

from gentee.drivers.loopback.core import driver

__all__ = ["driver"]
