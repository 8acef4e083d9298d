# SPDX-License-Identifier: BSD-2-Clause
"""Specific TEE drivers, a folder each, with the same file names in each (drivers/tee/*).

``core.py`` probes and describes the devices, ``call.py`` opens, invokes, cancels and closes,
``shm.py`` is about shared memory and ``supp.py`` about the supplicant. gentee.core knows none of
them; it loads one by name (gentee.core.registry).
"""
