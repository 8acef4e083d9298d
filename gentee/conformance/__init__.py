# SPDX-License-Identifier: BSD-2-Clause
"""Running other people's tests of a TEE under gentee, and reading what they say."""
