# SPDX-License-Identifier: BSD-2-Clause
"""``python -m gentee``: the same as the ``gentee`` command."""

from gentee.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
