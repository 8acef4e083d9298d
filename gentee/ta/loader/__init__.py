# SPDX-License-Identifier: BSD-2-Clause
"""The loader: from an ELF file to a TA that can be entered, as OP-TEE's ldelf does it.

- :mod:`~gentee.ta.loader.image` reads one file and checks it: no addresses yet, so that the result
  can be kept and used for every instance of the TA.
- :mod:`~gentee.ta.loader.segments` turns program headers into what is mapped.
- :mod:`~gentee.ta.loader.symbols` looks names up.
- :mod:`~gentee.ta.loader.relocations` prepares a file's relocations.
- :mod:`~gentee.ta.loader.link` places files, relocates them and fills in what libutee reads.

Whatever is wrong with a file is a ``TaImageError`` that says what. Work is bounded by the size of
the file; a file cannot make the loader allocate more than it was allowed.
"""
