/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * This file describes operations of a TEE device that <linux/tee.h> does not have. They come from
 * the design of the generic TEE driver (tee-dev, March 2015) and are offered by the devices of
 * gentee, under Linux's magic and numbers from 0x40 up; Linux's own are untouched. A device that
 * does not have an operation fails with EINVAL, as for any ioctl that it does not know.
 *
 * All structs have the same layout for 32-bit and 64-bit programs, and no holes. What is called
 * reserved must be 0, and so must flags that have no meaning: otherwise EINVAL.
 */

#ifndef __GENTEE_TEE_H
#define __GENTEE_TEE_H

#include <linux/ioctl.h>
#include <linux/types.h>
#include <linux/tee.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The first number of these ioctls */
#define TEE_IOC_EXT_BASE	0x40

/**
 * struct tee_ioctl_shm_free_data - free shared memory
 * @id:		[in] Identifier of the shared memory object
 * @flags:	[in] Must be 0
 */
struct tee_ioctl_shm_free_data {
	__s32 id;
	__u32 flags;
};

/**
 * TEE_IOC_SHM_FREE - free shared memory
 *
 * For memory of TEE_IOC_SHM_ALLOC, TEE_IOC_SHM_REGISTER and TEE_IOC_SHM_REGISTER_FD. The identifier
 * is unknown from here on; a call under way that uses the memory keeps it until it ends. Then the
 * TEE lets go of it. Pages that were allocated stay the client's own, and count towards its limits,
 * until its descriptor is closed and its mapping is gone.
 *
 * Returns 0 on success or < 0 on error: EFAULT; EINVAL for flags and for an identifier that is not
 * known, or not any more, or that of a mapping (TEE_IOC_MEM_UNMAP).
 */
#define TEE_IOC_SHM_FREE	_IOW(TEE_IOC_MAGIC, TEE_IOC_EXT_BASE + 0, \
				     struct tee_ioctl_shm_free_data)

/* What the TEE may do with mapped memory, for struct tee_ioctl_mem_map_data */
#define TEE_MEM_MAP_READ	(1 << 0)
#define TEE_MEM_MAP_WRITE	(1 << 1)

/**
 * struct tee_ioctl_mem_map_data - map memory of the client for the TEE
 * @addr:	[in] Start address of the memory
 * @length:	[in/out] Length in bytes; the length that is mapped
 * @flags:	[in] TEE_MEM_MAP_READ, TEE_MEM_MAP_WRITE or both
 * @id:		[out] Identifier of the mapping, to be used as that of shared memory
 */
struct tee_ioctl_mem_map_data {
	__u64 addr;
	__u64 length;
	__u32 flags;
	__s32 id;
};

/**
 * TEE_IOC_MEM_MAP - map memory of the client for the TEE
 *
 * As TEE_IOC_SHM_REGISTER, but without a descriptor: the mapping ends with TEE_IOC_MEM_UNMAP, or
 * with the context. And with directions: a memref of a call that goes against @flags fails with
 * EACCES, that is an input without TEE_MEM_MAP_READ, an output without TEE_MEM_MAP_WRITE. Memory
 * that is only read by the TEE may be read-only. Of memory that is only written, the TEE sees zeros
 * where it has not written, and writes as many bytes as the memref has.
 *
 * Returns 0 on success or < 0 on error: EFAULT and ENOMEM as TEE_IOC_SHM_REGISTER, EINVAL for
 * flags and from a TEE that takes no memory of clients.
 */
#define TEE_IOC_MEM_MAP		_IOWR(TEE_IOC_MAGIC, TEE_IOC_EXT_BASE + 1, \
				      struct tee_ioctl_mem_map_data)

/**
 * struct tee_ioctl_mem_unmap_data - end a mapping
 * @id:		[in] Identifier of the mapping
 * @flags:	[in] Must be 0
 */
struct tee_ioctl_mem_unmap_data {
	__s32 id;
	__u32 flags;
};

/**
 * TEE_IOC_MEM_UNMAP - end a mapping
 *
 * The identifier is unknown from here on. A call under way that uses the mapping keeps it.
 *
 * Returns 0 on success or < 0 on error: EFAULT; EINVAL for flags and for what is not a mapping.
 */
#define TEE_IOC_MEM_UNMAP	_IOW(TEE_IOC_MAGIC, TEE_IOC_EXT_BASE + 2, \
				     struct tee_ioctl_mem_unmap_data)

/**
 * struct tee_ioctl_task_arg - open a session, invoke a function and close the session
 * @uuid:	[in] UUID of the trusted service
 * @clnt_uuid:	[in] UUID of the client, as in struct tee_ioctl_open_session_arg
 * @clnt_login:	[in] Login class of the client, TEE_IOCTL_LOGIN_* above
 * @cancel_id:	[in] Cancellation id, a unique value to identify this request
 * @func:	[in] Trusted service function, specific to the trusted service
 * @flags:	[in] Must be 0
 * @ret:	[out] Return value: of the open if that failed, else of the function
 * @ret_origin:	[out] Origin of the return value
 * @num_params:	[in] Number of &struct tee_ioctl_param entries in @params
 * @reserved:	[in] Must be 0
 * @params:	array of struct tee_ioctl_param
 */
struct tee_ioctl_task_arg {
	__u8 uuid[TEE_IOCTL_UUID_LEN];
	__u8 clnt_uuid[TEE_IOCTL_UUID_LEN];
	__u32 clnt_login;
	__u32 cancel_id;
	__u32 func;
	__u32 flags;
	__u32 ret;
	__u32 ret_origin;
	__u32 num_params;
	__u32 reserved;
	/* num_params tells the actual number of element in params */
	__extension__ struct tee_ioctl_param params[];
};

/**
 * TEE_IOC_TASK - open, invoke and close in one call
 *
 * Takes a struct tee_ioctl_buf_data which contains a struct tee_ioctl_task_arg followed by any
 * array of struct tee_ioctl_param. The parameters are those of the function: the session is opened
 * without any, and it is closed when the call returns. TEE_IOC_CANCEL with session 0 and @cancel_id
 * reaches the call in each of its phases; a function that has not started is not started any more.
 *
 * Returns 0 on success or < 0 on error: as TEE_IOC_OPEN_SESSION and TEE_IOC_INVOKE do.
 */
#define TEE_IOC_TASK		_IOR(TEE_IOC_MAGIC, TEE_IOC_EXT_BASE + 3, \
				     struct tee_ioctl_buf_data)

/* Maximum size of the image of a trusted service, in bytes */
#define TEE_MAX_TS_IMAGE_SIZE	(16 * 1024 * 1024)

/**
 * struct tee_ioctl_load_ts_data - load a trusted service
 * @image_ptr:	[in] Address of the signed image
 * @image_len:	[in] Its length in bytes, 1 to TEE_MAX_TS_IMAGE_SIZE
 * @flags:	[in] Must be 0
 * @version:	[out] Version of the service
 * @uuid:	[out] UUID of the service
 * @ret:	[out] Return value
 * @ret_origin:	[out] Origin of the return value
 */
struct tee_ioctl_load_ts_data {
	__u64 image_ptr;
	__u64 image_len;
	__u32 flags;
	__u32 version;
	__u8 uuid[TEE_IOCTL_UUID_LEN];
	__u32 ret;
	__u32 ret_origin;
};

/**
 * TEE_IOC_LOAD_TS - load a trusted service
 *
 * Installs the service of a signed image. The TEE reads the image once and verifies it before
 * anything of it runs. Common results besides TEE_SUCCESS: TEE_ERROR_SECURITY (signature, digest,
 * or not signed by a key that the TEE accepts), TEE_ERROR_BAD_FORMAT (no image of this TEE),
 * TEE_ERROR_ACCESS_CONFLICT (a higher version has been installed). The next session that is opened
 * is one with the new service; instances that run keep the version that they have.
 *
 * @version and @uuid are written with TEE_SUCCESS only, otherwise they are 0.
 *
 * Returns 0 on success or < 0 on error: EFAULT; EINVAL for flags and @image_len; ENOMEM.
 */
#define TEE_IOC_LOAD_TS		_IOWR(TEE_IOC_MAGIC, TEE_IOC_EXT_BASE + 4, \
				      struct tee_ioctl_load_ts_data)

/* Sizes in struct tee_ts_info, in bytes; strings of that many are cut, and end with a 0 */
#define TEE_TS_NAME_SIZE	64
#define TEE_TS_API_SIZE		32
#define TEE_TS_MAX_APIS		8

/* What struct tee_ts_info says of a service in @state */
#define TEE_TS_STATE_READY	0	/* no instance of it is alive */
#define TEE_TS_STATE_ACTIVE	1	/* an instance is alive */
#define TEE_TS_STATE_BUSY	2	/* likewise, and it takes no further session now */

/* And in @flags */
#define TEE_TS_INSTALLED	(1 << 0) /* came as a signed image, TEE_IOC_LOAD_TS */

/**
 * struct tee_ts_info - a trusted service
 * @uuid:	UUID of the service
 * @version:	Version of the service
 * @state:	TEE_TS_STATE_*
 * @instances:	Number of its instances that are alive
 * @sessions:	Number of its sessions that are open
 * @flags:	TEE_TS_*
 * @num_apis:	Number of APIs that it offers, also if these are more than @apis holds
 * @name:	Name of the service, UTF-8
 * @apis:	Names of the APIs that it offers, such as GP_TEEv1.3
 */
struct tee_ts_info {
	__u8 uuid[TEE_IOCTL_UUID_LEN];
	__u32 version;
	__u32 state;
	__u32 instances;
	__u32 sessions;
	__u32 flags;
	__u32 num_apis;
	char name[TEE_TS_NAME_SIZE];
	char apis[TEE_TS_MAX_APIS][TEE_TS_API_SIZE];
};

/**
 * struct tee_ioctl_get_ts_list_data - list trusted services
 * @buf_ptr:	[in] Address of an array of struct tee_ts_info
 * @buf_len:	[in/out] Its size in bytes; the size that is needed, or was written
 * @flags:	[in] Must be 0
 * @entry_size:	[in] sizeof(struct tee_ts_info); a later version may have more fields
 * @count:	[out] Number of services
 * @ret:	[out] Return value
 * @ret_origin:	[out] Origin of the return value
 * @reserved:	[in] Must be 0
 * @name:	[in] Only services of this name; all, if it is empty
 * @api:	[in] Only services that offer this API; all, if it is empty
 */
struct tee_ioctl_get_ts_list_data {
	__u64 buf_ptr;
	__u64 buf_len;
	__u32 flags;
	__u32 entry_size;
	__u32 count;
	__u32 ret;
	__u32 ret_origin;
	__u32 reserved;
	char name[TEE_TS_NAME_SIZE];
	char api[TEE_TS_API_SIZE];
};

/**
 * TEE_IOC_GET_TS_LIST - list trusted services
 *
 * Where @buf_len is too small nothing is written to the array, @ret is TEE_ERROR_SHORT_BUFFER and
 * @buf_len the size that would do: a first call with 0 asks for it. An entry larger than the TEE
 * knows is filled up with zeros, one that is smaller has the first @entry_size bytes.
 *
 * Returns 0 on success or < 0 on error: EFAULT; EINVAL for flags, @reserved, an @entry_size that is
 * smaller than the first version's or no multiple of 8 or more than 4096, and for a @name or @api
 * that does not end with a 0.
 */
#define TEE_IOC_GET_TS_LIST	_IOWR(TEE_IOC_MAGIC, TEE_IOC_EXT_BASE + 5, \
				      struct tee_ioctl_get_ts_list_data)

#ifdef __cplusplus
}
#endif

#endif /* __GENTEE_TEE_H */
