# SPDX-License-Identifier: BSD-2-Clause
"""Comparison of secrets in a time that says nothing of where they differ."""

# What hmac has too: but importing that brings hashlib, and with it a second OpenSSL.
from _operator import _compare_digest as compare_digest

__all__ = ["compare_digest"]
