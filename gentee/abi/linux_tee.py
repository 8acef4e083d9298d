# SPDX-License-Identifier: BSD-2-Clause
"""Linux TEE user ABI: <linux/tee.h>, v6.18. Order and names follow the header.

A struct carries the C struct's name in capitals and its fields in the comment. Those with a
parameter array end where C's ``params[]`` begins: num_params times TEE_IOCTL_PARAM follow.
"""

from struct import Struct

from gentee.abi.ioctl import _IOC_DIR, _IOC_NR, _IOC_SIZE, _IOC_TYPE, _IOR, _IOWR

TEE_IOC_MAGIC = 0xA4
TEE_IOC_BASE = 0

# Since Linux kernel commit bd5139306886 (in v6.18) it is 4096; before it was 1024.
TEE_MAX_ARG_SIZE = 4096

TEE_GEN_CAP_GP = 1 << 0  # GlobalPlatform compliant TEE
TEE_GEN_CAP_PRIVILEGED = 1 << 1  # Privileged device (for supplicant)
TEE_GEN_CAP_REG_MEM = 1 << 2  # Supports registering shared memory
TEE_GEN_CAP_MEMREF_NULL = 1 << 3  # A memref may be NULL
TEE_GEN_CAP_OBJREF = 1 << 4  # Object references, TEE_IOC_OBJECT_INVOKE

TEE_MEMREF_NULL = 0xFFFF_FFFF_FFFF_FFFF  # as the id of a memref: a NULL pointer
TEE_OBJREF_NULL = 0xFFFF_FFFF_FFFF_FFFF  # as the id of an objref: no object

# TEE implementation ids
TEE_IMPL_ID_OPTEE = 1
TEE_IMPL_ID_AMDTEE = 2
TEE_IMPL_ID_TSTEE = 3
TEE_IMPL_ID_QTEE = 4

# impl_caps where impl_id is TEE_IMPL_ID_OPTEE
TEE_OPTEE_CAP_TZ = 1 << 0

TEE_IOCTL_VERSION_DATA = Struct("<III")  # impl_id impl_caps gen_caps
TEE_IOCTL_SHM_ALLOC_DATA = Struct("<QIi")  # size flags id
TEE_IOCTL_BUF_DATA = Struct("<QQ")  # buf_ptr buf_len

# Attributes of a parameter. Below META, a type says what a, b and c mean:
#   value    three numbers of the client's own
#   memref   a: offset, b: size, c: id of the shared memory
#   ubuf     a: address in the client, b: size
#   objref   a: id of the object, b: flags
TEE_IOCTL_PARAM_ATTR_TYPE_NONE = 0

TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT = 1
TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT = 2
TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT = 3

TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT = 5
TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT = 6
TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT = 7

TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INPUT = 8
TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_OUTPUT = 9
TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INOUT = 10

TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INPUT = 11
TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_OUTPUT = 12
TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INOUT = 13

TEE_IOCTL_PARAM_ATTR_TYPE_MASK = 0xFF

# The parameter is about the message itself; the TA does not see it.
TEE_IOCTL_PARAM_ATTR_META = 0x100

# Any other bit is an error (EINVAL).
TEE_IOCTL_PARAM_ATTR_MASK = TEE_IOCTL_PARAM_ATTR_TYPE_MASK | TEE_IOCTL_PARAM_ATTR_META

# TEEC_LOGIN_* of the GP TEE Client API
TEE_IOCTL_LOGIN_PUBLIC = 0
TEE_IOCTL_LOGIN_USER = 1
TEE_IOCTL_LOGIN_GROUP = 2
TEE_IOCTL_LOGIN_APPLICATION = 4
TEE_IOCTL_LOGIN_USER_APPLICATION = 5
TEE_IOCTL_LOGIN_GROUP_APPLICATION = 6

# Logins in this range are the kernel's own; from user space they are EPERM.
TEE_IOCTL_LOGIN_REE_KERNEL_MIN = 0x80000000
TEE_IOCTL_LOGIN_REE_KERNEL_MAX = 0xBFFFFFFF
TEE_IOCTL_LOGIN_REE_KERNEL = 0x80000000

TEE_IOCTL_PARAM = Struct("<QQQQ")  # attr a b c

TEE_IOCTL_UUID_LEN = 16

# uuid clnt_uuid clnt_login cancel_id session ret ret_origin num_params
TEE_IOCTL_OPEN_SESSION_ARG = Struct("<16s16sIIIIII")
TEE_IOCTL_INVOKE_ARG = Struct("<IIIIII")  # func session cancel_id ret ret_origin num_params
TEE_IOCTL_CANCEL_ARG = Struct("<II")  # cancel_id session
TEE_IOCTL_CLOSE_SESSION_ARG = Struct("<I")  # session
TEE_IOCL_SUPP_RECV_ARG = Struct("<II")  # func num_params
TEE_IOCL_SUPP_SEND_ARG = Struct("<II")  # ret num_params
TEE_IOCTL_SHM_REGISTER_FD_DATA = Struct("<qQIi")  # fd size flags id
TEE_IOCTL_SHM_REGISTER_DATA = Struct("<QQIi")  # addr length flags id
TEE_IOCTL_OBJECT_INVOKE_ARG = Struct("<QIII4x")  # id op ret num_params :32

# The kernel says _IOR also where bytes flow both ways: match the whole number.
# fmt: off
TEE_IOC_VERSION         = _IOR( TEE_IOC_MAGIC, TEE_IOC_BASE + 0, TEE_IOCTL_VERSION_DATA.size)
TEE_IOC_SHM_ALLOC       = _IOWR(TEE_IOC_MAGIC, TEE_IOC_BASE + 1, TEE_IOCTL_SHM_ALLOC_DATA.size)
TEE_IOC_OPEN_SESSION    = _IOR( TEE_IOC_MAGIC, TEE_IOC_BASE + 2, TEE_IOCTL_BUF_DATA.size)
TEE_IOC_INVOKE          = _IOR( TEE_IOC_MAGIC, TEE_IOC_BASE + 3, TEE_IOCTL_BUF_DATA.size)
TEE_IOC_CANCEL          = _IOR( TEE_IOC_MAGIC, TEE_IOC_BASE + 4, TEE_IOCTL_CANCEL_ARG.size)
TEE_IOC_CLOSE_SESSION   = _IOR( TEE_IOC_MAGIC, TEE_IOC_BASE + 5, TEE_IOCTL_CLOSE_SESSION_ARG.size)
TEE_IOC_SUPPL_RECV      = _IOR( TEE_IOC_MAGIC, TEE_IOC_BASE + 6, TEE_IOCTL_BUF_DATA.size)
TEE_IOC_SUPPL_SEND      = _IOR( TEE_IOC_MAGIC, TEE_IOC_BASE + 7, TEE_IOCTL_BUF_DATA.size)
TEE_IOC_SHM_REGISTER_FD = _IOWR(TEE_IOC_MAGIC, TEE_IOC_BASE + 8, TEE_IOCTL_SHM_REGISTER_FD_DATA.size)  # noqa: E501
TEE_IOC_SHM_REGISTER    = _IOWR(TEE_IOC_MAGIC, TEE_IOC_BASE + 9, TEE_IOCTL_SHM_REGISTER_DATA.size)
TEE_IOC_OBJECT_INVOKE   = _IOR( TEE_IOC_MAGIC, TEE_IOC_BASE + 10, TEE_IOCTL_BUF_DATA.size)
# fmt: on

_ioctl_names: dict[int, str] = {}  # filled by the first ioctl_name()


def ioctl_name(cmd: int) -> str:
    """The header's name for an ioctl command, or its parts when it has none, for printing."""
    if not _ioctl_names:
        for name, value in globals().items():
            if name.startswith("TEE_IOC_") and name not in ("TEE_IOC_MAGIC", "TEE_IOC_BASE"):
                _ioctl_names[value] = name
    cmd &= 0xFFFFFFFF  # glibc's ioctl() sign-extends when the number passed through an int
    name = _ioctl_names.get(cmd, "")
    if name:
        return name
    macro = ("_IO", "_IOW", "_IOR", "_IOWR")[_IOC_DIR(cmd)]
    return f"{macro}({_IOC_TYPE(cmd):#x}, {_IOC_NR(cmd)}, {_IOC_SIZE(cmd)})"
