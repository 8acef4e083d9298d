# SPDX-License-Identifier: BSD-2-Clause
"""Test vectors of others: NIST's, from the PyPI package cryptography_vectors, and Wycheproof's.

Of long files some vectors are chosen, always the same ones. GENTEE_ALL_VECTORS=1 takes all.
"""

import functools
import json
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import pytest

_T = TypeVar("_T")

ALL = os.environ.get("GENTEE_ALL_VECTORS", "") not in ("", "0")
WYCHEPROOF = Path(
    os.environ.get("GENTEE_WYCHEPROOF")
    or Path(__file__).resolve().parents[2] / "shared" / "vectors" / "wycheproof"
)


def chosen(vectors: Sequence[_T], most: int) -> Sequence[_T]:
    """At most that many vectors, from all over the file."""
    count = len(vectors)
    if ALL or count <= most:
        return vectors
    return [vectors[n * count // most] for n in range(most)]


def nist_path(name: str) -> Path:
    """A file of the package; skips where that is not installed."""
    spec = find_spec("cryptography_vectors")
    if spec is None or spec.origin is None:
        pytest.skip("needs the PyPI package cryptography_vectors")
    return Path(spec.origin).parent / name


@functools.cache
def nist(name: str) -> list[dict[str, str]]:
    """The vectors of a file of NIST's form, with names in lower case.

    ``[Alen = 0, Plen = 0]`` holds for those that follow, ``[ENCRYPT]`` is their ``section``, and so
    does a line that stands alone between empty ones. A vector begins with its ``count``, or with
    the first name that it has already.
    """
    return list(_parse(nist_path(name).read_text().splitlines()))


def _parse(lines: Sequence[str]) -> Iterator[dict[str, str]]:
    common: dict[str, str] = {}
    block: dict[str, str] = {}
    for line in [*lines, ""]:
        line = line.strip()
        if line.startswith("#"):
            continue
        if line.startswith("["):
            for part in line.strip("[]").split(","):
                name, equals, value = part.partition("=")
                common["section" if not equals else name.strip().lower()] = value.strip() or name
        elif line:
            name, _, value = line.partition("=")
            block[name.strip().lower()] = value.strip()
        elif block:
            # What comes before the vectors, such as "Key = ..." or "L = 20", stands by itself.
            if block.keys() & RESULTS:
                yield common | block
            else:
                common |= block
            block = {}


# One of these tells a vector from what is common to several.
RESULTS = {"md", "output", "ct", "pt", "ciphertext", "plaintext", "tag", "payload"} | {
    "s",
    "z",
    "okm",
    "derived_key",
    "output_u",
}


def wycheproof(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The tests of a file of Wycheproof's, each with its group. Skips where there is no folder."""
    path = WYCHEPROOF / f"{name}_test.json"
    if not WYCHEPROOF.is_dir():
        pytest.skip(
            f"there are no Wycheproof vectors in {WYCHEPROOF}; GENTEE_WYCHEPROOF says where"
        )
    content = json.loads(path.read_text())
    return [(group, test) for group in content["testGroups"] for test in group["tests"]]
