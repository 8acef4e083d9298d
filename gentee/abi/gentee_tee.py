# SPDX-License-Identifier: BSD-2-Clause
"""What <linux/tee.h> lacks of a TEE device: <gentee/tee.h>, order and names as there.

A struct carries the C struct's name in capitals and its fields in the comment. TEE_IOCTL_TASK_ARG
ends where C's ``params[]`` begins: num_params times TEE_IOCTL_PARAM follow.
"""

from struct import Struct

from gentee.abi.ioctl import _IOR, _IOW, _IOWR
from gentee.abi.linux_tee import TEE_IOC_MAGIC, TEE_IOCTL_BUF_DATA

TEE_IOC_EXT_BASE = 0x40

TEE_IOCTL_SHM_FREE_DATA = Struct("<iI")  # id flags

# What the TEE may do with mapped memory
TEE_MEM_MAP_READ = 1 << 0
TEE_MEM_MAP_WRITE = 1 << 1

TEE_IOCTL_MEM_MAP_DATA = Struct("<QQIi")  # addr length flags id
TEE_IOCTL_MEM_UNMAP_DATA = Struct("<iI")  # id flags

# uuid clnt_uuid clnt_login cancel_id func flags ret ret_origin num_params reserved
TEE_IOCTL_TASK_ARG = Struct("<16s16sIIIIIIII")

TEE_MAX_TS_IMAGE_SIZE = 16 * 1024 * 1024

# image_ptr image_len flags version uuid ret ret_origin
TEE_IOCTL_LOAD_TS_DATA = Struct("<QQII16sII")

# Sizes in struct tee_ts_info, in bytes
TEE_TS_NAME_SIZE = 64
TEE_TS_API_SIZE = 32
TEE_TS_MAX_APIS = 8

TEE_TS_STATE_READY = 0  # no instance is alive
TEE_TS_STATE_ACTIVE = 1  # an instance is alive
TEE_TS_STATE_BUSY = 2  # likewise, and it takes no further session now

TEE_TS_INSTALLED = 1 << 0  # came as a signed image

# uuid version state instances sessions flags num_apis name apis
TEE_TS_INFO = Struct("<16sIIIIII64s256s")

# buf_ptr buf_len flags entry_size count ret ret_origin reserved name api
TEE_IOCTL_GET_TS_LIST_DATA = Struct("<QQIIIIII64s32s")

# fmt: off
TEE_IOC_SHM_FREE    = _IOW( TEE_IOC_MAGIC, TEE_IOC_EXT_BASE + 0, TEE_IOCTL_SHM_FREE_DATA.size)
TEE_IOC_MEM_MAP     = _IOWR(TEE_IOC_MAGIC, TEE_IOC_EXT_BASE + 1, TEE_IOCTL_MEM_MAP_DATA.size)
TEE_IOC_MEM_UNMAP   = _IOW( TEE_IOC_MAGIC, TEE_IOC_EXT_BASE + 2, TEE_IOCTL_MEM_UNMAP_DATA.size)
TEE_IOC_TASK        = _IOR( TEE_IOC_MAGIC, TEE_IOC_EXT_BASE + 3, TEE_IOCTL_BUF_DATA.size)
TEE_IOC_LOAD_TS     = _IOWR(TEE_IOC_MAGIC, TEE_IOC_EXT_BASE + 4, TEE_IOCTL_LOAD_TS_DATA.size)
TEE_IOC_GET_TS_LIST = _IOWR(TEE_IOC_MAGIC, TEE_IOC_EXT_BASE + 5, TEE_IOCTL_GET_TS_LIST_DATA.size)
# fmt: on
