# SPDX-License-Identifier: BSD-2-Clause
"""The ``gentee`` command: a module for each of its commands, imported when that one is given."""
