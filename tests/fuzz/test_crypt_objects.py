# SPDX-License-Identifier: BSD-2-Clause
"""A hostile TA and its cryptographic objects: any calls, in any order, with anything.

Whatever it does, a call ends with a result that OP-TEE has. An exception would end the TA.
"""

from contextlib import closing
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from gentee.abi import gp_crypto as gp
from gentee.abi import optee_ta as abi
from gentee.abi.gp import result_name
from gentee.crypto import object_types as types
from tests.svc_ta import CODE, DATA, LENT, NOWHERE, STACK, TestedTa

CALLS = (
    abi.TEE_SCN_CRYP_OBJ_GET_INFO,
    abi.TEE_SCN_CRYP_OBJ_RESTRICT_USAGE,
    abi.TEE_SCN_CRYP_OBJ_GET_ATTR,
    abi.TEE_SCN_CRYP_OBJ_ALLOC,
    abi.TEE_SCN_CRYP_OBJ_CLOSE,
    abi.TEE_SCN_CRYP_OBJ_RESET,
    abi.TEE_SCN_CRYP_OBJ_POPULATE,
    abi.TEE_SCN_CRYP_OBJ_COPY,
    abi.TEE_SCN_CRYP_OBJ_GENERATE_KEY,
)
ATTRIBUTES = sorted({attr.id for props in types.TYPES.values() for attr in props.attrs})
ARRAY = DATA + 4096
BYTES = STACK

HANDLES = st.one_of(st.integers(1, 3), st.sampled_from([4, 5, 0, 1 << 32 | 1, 0xFFFFFFFF]))
ADDRESSES = st.sampled_from([DATA, DATA + 1, LENT, CODE, STACK, NOWHERE, 0, (1 << 64) - 4])
SIZES = st.sampled_from([0, 8, 56, 64, 128, 168, 192, 224, 256, 384, 448, 512, 521, 528, 576, 768])
NUMBERS = st.one_of(SIZES, st.integers(0, (1 << 64) - 1))
TYPES = st.sampled_from([*types.TYPES, gp.TEE_TYPE_DATA, 0])
CONTENT = st.one_of(
    st.sampled_from([8, 16, 24, 32, 56, 64, 66]).flatmap(
        lambda size: st.binary(min_size=size, max_size=size)
    ),
    st.binary(max_size=70),
    st.sampled_from([0, 1, 3, 65537, (1 << 89) - 1, (1 << 521) - 1, (1 << 576) - 1, 1 << 700]).map(
        lambda value: value.to_bytes((value.bit_length() + 7) // 8, "big")
    ),
)


def fitting(props: types.TypeProps, required: int, optional: int) -> list[int]:
    """The attributes of a type that are required, and the optional ones of this kind."""
    return [attr.id for attr in props.attrs if attr.flags & (required | optional)]


def attributes(data: st.DataObject, ta: TestedTa, handle: int, generate: bool) -> int:
    """Write an array of attributes, mostly those that an object wants; how many there are."""
    chosen = data.draw(st.lists(st.sampled_from(ATTRIBUTES), max_size=4))
    found = ta.objects.get(handle)
    if found is not None and found.props is not None and data.draw(st.integers(0, 7)):
        required = types.GEN_KEY_REQ if generate else types.REQUIRED
        optional = types.GEN_KEY_OPT if generate else types.OPTIONAL_GROUP
        chosen = fitting(found.props, required, optional if data.draw(st.booleans()) else 0)
    array = b""
    at = BYTES
    for attr in data.draw(st.permutations(chosen)):
        if attr & gp.TEE_ATTR_FLAG_VALUE:
            value = data.draw(st.one_of(st.integers(0, 6), NUMBERS))
            array += abi.UTEE_ATTRIBUTE.pack(value, 0, attr)
            continue
        content = data.draw(CONTENT)
        ta.write(at, content)
        array += abi.UTEE_ATTRIBUTE.pack(at, len(content), attr)
        at += len(content)
    ta.write(ARRAY, array)
    return len(chosen)


@given(data=st.data())
@settings(deadline=None)
def test_any_calls(data: st.DataObject) -> None:
    ta = TestedTa(data.draw(st.sampled_from(["aarch64", "arm"])))
    args: tuple[int, ...]
    with closing(SimpleNamespace(close=ta.end)):
        for obj_type in data.draw(
            st.lists(st.sampled_from(list(types.TYPES)), min_size=3, max_size=3)
        ):
            props = types.TYPES[obj_type]
            size = data.draw(st.sampled_from([props.min_size, props.max_size]))
            assert not ta.call(abi.TEE_SCN_CRYP_OBJ_ALLOC, obj_type, size, DATA)
        for _ in range(data.draw(st.integers(1, 12))):
            number = data.draw(st.sampled_from(CALLS))
            handle = data.draw(HANDLES)
            if number == abi.TEE_SCN_CRYP_OBJ_ALLOC:
                args = (data.draw(TYPES), data.draw(NUMBERS), data.draw(ADDRESSES))
            elif number == abi.TEE_SCN_CRYP_OBJ_POPULATE:
                args = (handle, ARRAY, attributes(data, ta, handle, generate=False))
            elif number == abi.TEE_SCN_CRYP_OBJ_GENERATE_KEY:
                # Long keys take long, and are no other.
                size = data.draw(NUMBERS.filter(lambda size: not 800 < size <= 4096))
                args = (handle, size, ARRAY, attributes(data, ta, handle, generate=True))
            elif number == abi.TEE_SCN_CRYP_OBJ_COPY:
                args = (handle, data.draw(HANDLES))
            elif number == abi.TEE_SCN_CRYP_OBJ_GET_ATTR:
                attr = data.draw(st.sampled_from(ATTRIBUTES))
                args = (handle, attr, data.draw(ADDRESSES), data.draw(ADDRESSES))
            else:
                args = (handle, data.draw(ADDRESSES))
            result = ta.call(number, *args)
            assert result_name(result).startswith("TEE_"), hex(result)
