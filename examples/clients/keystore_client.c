/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stores a key in a trusted service and uses it there (gentee/examples/keystore.py). The service
 * never gives the key back, and keeps the keys of each client identity apart. Each step is a task:
 * a session is opened, one command invoked, the session closed, in one ioctl of <gentee/tee.h>.
 *
 *     cc -I"$(gentee include-dir)" -o keystore_client keystore_client.c
 *     gentee run -- ./keystore_client demo
 *
 * `demo` does the steps below one after the other. They can also be called one by one, by programs
 * that use the same TEE: in the shell of `gentee run -- sh`, or under `gentee serve`.
 *
 *     keystore_client [-a] store NAME KEY        a key of 16 to 64 bytes
 *     keystore_client [-a] mac NAME MESSAGE      prints HMAC-SHA256 of the message
 *     keystore_client [-a] forget NAME
 *
 * Keys are this user's (TEE_IOCTL_LOGIN_USER); with -a they are this program's, by the path of its
 * file (TEE_IOCTL_LOGIN_APPLICATION).
 */
#include <errno.h>
#include <fcntl.h>
#include <gentee/tee.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* 5c1f2a7e-9f0a-4d8f-a1d6-70b6b1c0f2e3 */
static const uint8_t keystore_uuid[TEE_IOCTL_UUID_LEN] = {
    0x5c, 0x1f, 0x2a, 0x7e, 0x9f, 0x0a, 0x4d, 0x8f, 0xa1, 0xd6, 0x70, 0xb6, 0xb1, 0xc0, 0xf2, 0xe3,
};
#define KEYSTORE_STORE 0  /* memref in: name, memref in: key */
#define KEYSTORE_MAC 1    /* memref in: name, memref in: message, memref out: MAC */
#define KEYSTORE_FORGET 2 /* memref in: name */
#define MAC_SIZE 32

/* The results of this service, among those that GlobalPlatform defines. */
#define TEE_ERROR_ACCESS_CONFLICT 0xFFFF0003
#define TEE_ERROR_BAD_PARAMETERS 0xFFFF0006
#define TEE_ERROR_ITEM_NOT_FOUND 0xFFFF0008
#define TEE_ORIGIN_TRUSTED_APP 4 /* the service says it, not the TEE */

static uint32_t login = TEE_IOCTL_LOGIN_USER;

static void fail(const char *what)
{
    fprintf(stderr, "keystore_client: %s: %s\n", what, strerror(errno));
    exit(1);
}

static const char *meaning(uint32_t ret, uint32_t origin)
{
    if (origin != TEE_ORIGIN_TRUSTED_APP)
        return "the TEE did not do it";
    switch (ret) {
    case TEE_ERROR_ACCESS_CONFLICT:
        return "there is a key of this name, and a key is never replaced";
    case TEE_ERROR_BAD_PARAMETERS:
        return "a name has 1 to 64 bytes, a key 16 to 64";
    case TEE_ERROR_ITEM_NOT_FOUND:
        return "you have no key of this name";
    default:
        return "the service did not do it";
    }
}

/* Memory that this program and the TEE share, and how much of it is used. */
static struct {
    char *bytes;
    size_t size, used;
    int id, fd;
} shared;

static void share(int tee, size_t size)
{
    struct tee_ioctl_shm_alloc_data data = {.size = size};

    shared.fd = ioctl(tee, TEE_IOC_SHM_ALLOC, &data);
    if (shared.fd < 0)
        fail("TEE_IOC_SHM_ALLOC");
    shared.bytes = mmap(NULL, data.size, PROT_READ | PROT_WRITE, MAP_SHARED, shared.fd, 0);
    if (shared.bytes == MAP_FAILED)
        fail("mmap");
    shared.id = data.id;
    shared.size = data.size;
    shared.used = 0;
}

static void unshare(void)
{
    memset(shared.bytes, 0, shared.size); /* the key was there */
    munmap(shared.bytes, shared.size);
    close(shared.fd);
}

/* A parameter that refers to the next `size` bytes of the shared memory. */
static struct tee_ioctl_param memref(uint64_t type, const char *bytes, size_t size)
{
    struct tee_ioctl_param param = {
        .attr = type, .a = shared.used, .b = size, .c = (uint64_t)shared.id};

    if (bytes != NULL)
        memcpy(shared.bytes + shared.used, bytes, size);
    shared.used += size;
    return param;
}

/* One task. Returns its result; that it could not be made at all ends the program. */
static uint32_t task(int tee, uint32_t func, const struct tee_ioctl_param *params, uint32_t count)
{
    size_t params_size = count * sizeof(*params);
    struct tee_ioctl_task_arg *arg = calloc(1, sizeof(*arg) + params_size);
    struct tee_ioctl_buf_data buf;
    uint32_t ret;

    if (arg == NULL)
        fail("calloc");
    memcpy(arg->uuid, keystore_uuid, sizeof(arg->uuid));
    arg->clnt_login = login;
    arg->func = func;
    arg->num_params = count;
    memcpy(arg->params, params, params_size);
    buf.buf_ptr = (uintptr_t)arg;
    buf.buf_len = sizeof(*arg) + params_size; /* exactly: anything else is EINVAL */
    if (ioctl(tee, TEE_IOC_TASK, &buf) < 0)
        fail("TEE_IOC_TASK");
    ret = arg->ret;
    if (ret != 0)
        fprintf(stderr, "keystore_client: %s (result %#x, origin %u)\n", meaning(ret, arg->ret_origin),
                ret, arg->ret_origin);
    free(arg);
    return ret;
}

static int store(int tee, const char *name, const char *key)
{
    struct tee_ioctl_param params[2];
    uint32_t ret;

    share(tee, strlen(name) + strlen(key));
    params[0] = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, name, strlen(name));
    params[1] = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, key, strlen(key));
    ret = task(tee, KEYSTORE_STORE, params, 2);
    unshare();
    if (ret == 0)
        printf("stored %s\n", name);
    return ret != 0;
}

static int mac(int tee, const char *name, const char *message)
{
    struct tee_ioctl_param params[3];
    uint32_t ret;
    size_t i;

    share(tee, strlen(name) + strlen(message) + MAC_SIZE);
    params[0] = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, name, strlen(name));
    params[1] = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, message, strlen(message));
    params[2] = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT, NULL, MAC_SIZE);
    ret = task(tee, KEYSTORE_MAC, params, 3);
    if (ret == 0) {
        for (i = 0; i < MAC_SIZE; i++)
            printf("%02x", (uint8_t)shared.bytes[params[2].a + i]);
        printf("\n");
    }
    unshare();
    return ret != 0;
}

static int forget(int tee, const char *name)
{
    struct tee_ioctl_param param;
    uint32_t ret;

    share(tee, strlen(name));
    param = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, name, strlen(name));
    ret = task(tee, KEYSTORE_FORGET, &param, 1);
    unshare();
    if (ret == 0)
        printf("forgot %s\n", name);
    return ret != 0;
}

static int demo(int tee)
{
    return store(tee, "demo", "a key of 16 to 64 bytes") || mac(tee, "demo", "a message") ||
           forget(tee, "demo");
}

int main(int argc, char **argv)
{
    int tee;

    if (argc > 1 && strcmp(argv[1], "-a") == 0) {
        login = TEE_IOCTL_LOGIN_APPLICATION;
        argc--;
        argv++;
    }
    tee = open("/dev/tee0", O_RDWR | O_CLOEXEC);
    if (tee < 0)
        fail("/dev/tee0");
    if (argc == 4 && strcmp(argv[1], "store") == 0)
        return store(tee, argv[2], argv[3]);
    if (argc == 4 && strcmp(argv[1], "mac") == 0)
        return mac(tee, argv[2], argv[3]);
    if (argc == 3 && strcmp(argv[1], "forget") == 0)
        return forget(tee, argv[2]);
    if (argc == 2 && strcmp(argv[1], "demo") == 0)
        return demo(tee);
    fprintf(stderr,
            "usage: keystore_client [-a] demo | store NAME KEY | mac NAME MESSAGE | forget NAME\n");
    return 2;
}
