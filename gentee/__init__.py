# SPDX-License-Identifier: BSD-2-Clause
"""gentee: the generic TEE driver in user space.

Any program written for a Trusted Execution Environment opens /dev/teeN, unmodified, and reaches
trusted services that gentee hosts, or a real TEE. docs/design.md is the map of this package.

Nothing is imported here: each start of the program pays for what this file does. For the same
reason modules on the road of ``gentee run`` do without :mod:`typing`, which costs half as much as
an interpreter's own start: ``TYPE_CHECKING = False`` means the same to type checkers.
"""

__version__ = "0.1.0"
