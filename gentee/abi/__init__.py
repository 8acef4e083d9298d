# SPDX-License-Identifier: BSD-2-Clause
"""Contracts that others published, as data: headers and specifications, one module each.

Nothing here decides or does anything. Order and names follow the document that a module names in
its first line, so that the two can be read side by side.
"""
