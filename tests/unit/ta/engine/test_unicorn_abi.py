# SPDX-License-Identifier: BSD-2-Clause
"""The numbers written down are those of Unicorn's own package."""

from unicorn import arm64_const, arm_const, unicorn_const

from gentee.ta.engine import base, unicorn_abi


def test_numbers() -> None:
    compared = 0
    for name, value in vars(unicorn_abi).items():
        if not name.startswith("UC_"):
            continue
        for module in (unicorn_const, arm64_const, arm_const):
            if hasattr(module, name):
                assert getattr(module, name) == value, name
                compared += 1
                break
        else:
            # The queries are not in the Python package; enum uc_query_type of unicorn.h.
            assert name == "UC_QUERY_PAGE_SIZE"
    assert compared > 40


def test_registers_in_a_row() -> None:
    for number in range(29):
        name = f"UC_ARM64_REG_X{number}"
        assert getattr(arm64_const, name) == unicorn_abi.UC_ARM64_REG_X0 + number
    for number in range(32):
        assert arm64_const.UC_ARM64_REG_Q0 + number == getattr(
            arm64_const, f"UC_ARM64_REG_Q{number}"
        )
        assert arm_const.UC_ARM_REG_D0 + number == getattr(arm_const, f"UC_ARM_REG_D{number}")
    for number in range(13):
        assert arm_const.UC_ARM_REG_R0 + number == getattr(arm_const, f"UC_ARM_REG_R{number}")


def test_protections() -> None:
    assert base.PROT_READ == unicorn_const.UC_PROT_READ
    assert base.PROT_WRITE == unicorn_const.UC_PROT_WRITE
    assert base.PROT_EXEC == unicorn_const.UC_PROT_EXEC
