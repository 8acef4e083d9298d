# SPDX-License-Identifier: BSD-2-Clause
"""gentee: the generic TEE driver in user space.

Any program written for a Trusted Execution Environment opens /dev/teeN, unmodified, and reaches
trusted services that gentee hosts, or a real TEE. docs/design.md is the map of this package.

Nothing is imported here: each start of the program pays for what this file does.
"""

__version__ = "0.1.0"
