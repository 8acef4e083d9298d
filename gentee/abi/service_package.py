# SPDX-License-Identifier: BSD-2-Clause
"""The package that a service in Python travels in: format 1 (docs/images.md).

A ZIP file whose entries are stored, not compressed: ``manifest.json``, modules, packages in folders
and files of data. The TEE reads it when its signature holds (:mod:`gentee.secure.package`), and the
service's process reads it again (:mod:`gentee.ta.loading`); both stay within these limits.
"""

FORMAT = 1
FORMAT_ELF = "elf"  # instead, in the description of an installed TA of OP-TEE
MANIFEST = "manifest.json"
MAGIC = b"PK\x03\x04"  # what a payload starts with that is a package

MAX_PACKAGE = 16 << 20  # bytes of the whole, as TEE_IOC_LOAD_TS takes
MAX_MANIFEST = 64 << 10  # bytes of manifest.json
MAX_FILES = 1024
MAX_NAME = 200  # bytes of a file's name with its folders
MAX_DEPTH = 8  # parts of a name

# What manifest.json has, each exactly once and nothing else.
MANIFEST_KEYS = (
    "format",
    "main",
    "uuid",
    "name",
    "version",
    "description",
    "single_instance",
    "multi_session",
    "keep_alive",
    "apis",
    "properties",
)


def name_problem(name: str) -> str:
    """What is wrong with the name of a file in a package; empty if nothing is."""
    parts = name.split("/")
    if not name or len(name.encode("utf-8", "replace")) > MAX_NAME or len(parts) > MAX_DEPTH:
        return "too long or empty"
    if not name.isprintable() or "\\" in name or ":" in name:
        return "characters that no file should have"
    if any(part in ("", ".", "..") for part in parts):
        return "a path that leads elsewhere"
    return ""
