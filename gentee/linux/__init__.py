# SPDX-License-Identifier: BSD-2-Clause
"""The home of ctypes: system calls and what is made of them, in plain Python."""
