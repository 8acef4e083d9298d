# SPDX-License-Identifier: BSD-2-Clause
"""What pyca/cryptography lacks, on integers and bytes.

Each module is small, does one thing and says where it comes from. Its tests have vectors from two
sources. Nothing here runs in constant time, for Python's integers do not.
"""
