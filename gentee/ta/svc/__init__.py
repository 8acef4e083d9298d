# SPDX-License-Identifier: BSD-2-Clause
"""System calls of Arm TAs: what OP-TEE's core does when a TA executes ``svc``.

A module for each family, with the names, the order of checks and the result codes of OP-TEE
(``core/tee/tee_svc.c`` and neighbours); :mod:`~gentee.ta.svc.table` puts them in order. A handler
takes the TA and the argument registers. It returns a TEE_Result, or None for TEE_SUCCESS; a
:class:`~gentee.errors.TeeError` is the answer's code. The TA is hostile: whatever it passes, a
handler answers, and touches no memory but the TA's.

In 64-bit TAs argument registers have 64 bits also where the parameter has 32 (``uint32_t``): a
handler takes as many bits as OP-TEE does. Those of 32-bit TAs have 32.
"""
