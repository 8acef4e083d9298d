# SPDX-License-Identifier: BSD-2-Clause
"""Example services: a folder for ``--ta-dir``, and what ``gentee run`` offers by default."""
