# SPDX-License-Identifier: BSD-2-Clause
"""The generic TEE driver, in the terms of Linux's drivers/tee: what all TEEs have in common."""
