# SPDX-License-Identifier: BSD-2-Clause
"""The doors to the generic driver: seccomp notification, and the client API inside a program."""
