# SPDX-License-Identifier: BSD-2-Clause
"""The fixtures of the security tests: compiled clients, and gentee seen from outside."""

from tests.functional.conftest import compile_client
from tests.security.conftest import start_gentee

__all__ = ["compile_client", "start_gentee"]
