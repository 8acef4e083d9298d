# SPDX-License-Identifier: BSD-2-Clause
"""The engine: what executes a TA's Arm instructions.

- :mod:`~gentee.ta.engine.base` is the interface, and what a fault is.
- :mod:`~gentee.ta.engine.space` is the address space that a TA sees, over any engine.
- :mod:`~gentee.ta.engine.native` runs TAs: Unicorn's C interface with everything prepared.
- :mod:`~gentee.ta.engine.public` is the same over Unicorn's Python package: slow, plain, and what
  the tests hold the other one against.

Unicorn is loaded in a TA's process only, and when the first Arm TA is opened: nothing here is
imported by its importing :mod:`gentee.ta`.
"""
