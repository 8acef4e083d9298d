/* SPDX-License-Identifier: BSD-2-Clause */
/* The calls of <gentee/tee.h>, in the manner of tee_client.h. */
#ifndef EXTENSION_H
#define EXTENSION_H

#include "tee_client.h"

#include <gentee/tee.h>

#define TEEC_ERROR_ACCESS_CONFLICT 0xFFFF0003u
#define TEEC_ERROR_BAD_FORMAT 0xFFFF0005u
#define TEEC_ERROR_SECURITY 0xFFFF000Fu

struct task_options {
    __u32 login;
    __u32 cancel_id;
    __u32 flags;
    __u32 reserved;
};

static inline struct answer task_with(int fd, const char *uuid, __u32 func,
                                      const struct task_options *options, size_t n, param_t *params)
{
    size_t size = sizeof(struct tee_ioctl_task_arg) + n * sizeof(*params);
    struct tee_ioctl_task_arg *arg = calloc(1, size);
    struct answer answer = {0};

    parse_uuid(uuid, arg->uuid);
    if (options) {
        arg->clnt_login = options->login;
        arg->cancel_id = options->cancel_id;
        arg->flags = options->flags;
        arg->reserved = options->reserved;
    }
    arg->func = func;
    arg->num_params = (__u32)n;
    for (size_t i = 0; i < n; i++)
        arg->params[i] = params[i];
    if (buf_ioctl(fd, TEE_IOC_TASK, arg, size))
        answer.error = errno;
    answer.ret = arg->ret;
    answer.origin = arg->ret_origin;
    for (size_t i = 0; i < n; i++)
        params[i] = arg->params[i];
    free(arg);
    return answer;
}

static inline struct answer task(int fd, const char *uuid, __u32 func, size_t n, param_t *params)
{
    return task_with(fd, uuid, func, NULL, n, params);
}

static inline int shm_free(int fd, int id)
{
    struct tee_ioctl_shm_free_data data = {.id = id};

    return ioctl(fd, TEE_IOC_SHM_FREE, &data);
}

static inline int mem_map(int fd, const void *address, __u64 length, __u32 flags, int *id)
{
    struct tee_ioctl_mem_map_data data = {
        .addr = (__u64)(uintptr_t)address,
        .length = length,
        .flags = flags,
    };
    int ret = ioctl(fd, TEE_IOC_MEM_MAP, &data);

    if (id)
        *id = data.id;
    return ret;
}

static inline int mem_unmap(int fd, int id)
{
    struct tee_ioctl_mem_unmap_data data = {.id = id};

    return ioctl(fd, TEE_IOC_MEM_UNMAP, &data);
}

static inline int load_ts(int fd, const void *image, __u64 length,
                          struct tee_ioctl_load_ts_data *data)
{
    memset(data, 0, sizeof(*data));
    data->image_ptr = (__u64)(uintptr_t)image;
    data->image_len = length;
    return ioctl(fd, TEE_IOC_LOAD_TS, data);
}

/* ``entries`` has room for ``room``; the answer is in *data. */
static inline int get_ts_list(int fd, struct tee_ts_info *entries, size_t room, const char *name,
                              const char *api, struct tee_ioctl_get_ts_list_data *data)
{
    memset(data, 0, sizeof(*data));
    data->buf_ptr = (__u64)(uintptr_t)entries;
    data->buf_len = room * sizeof(*entries);
    data->entry_size = sizeof(*entries);
    snprintf(data->name, sizeof(data->name), "%s", name ? name : "");
    snprintf(data->api, sizeof(data->api), "%s", api ? api : "");
    return ioctl(fd, TEE_IOC_GET_TS_LIST, data);
}

#endif
