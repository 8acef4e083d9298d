# SPDX-License-Identifier: BSD-2-Clause
"""The software TEE: its store of trusted services, their instances, and how these live."""
