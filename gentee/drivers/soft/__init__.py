# SPDX-License-Identifier: BSD-2-Clause
"""The software TEE's driver: to a client it looks like OP-TEE on a board."""

from gentee.drivers.soft.core import SoftDriver

driver = SoftDriver()
