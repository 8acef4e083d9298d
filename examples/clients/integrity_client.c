/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Has a trusted service remember what a file looks like, and say later whether it still does
 * (gentee/examples/integrity.py). The file is mapped, and shown to the TEE where it lies by
 * TEE_IOC_MEM_MAP of <gentee/tee.h>, for reading only: no copy is made here, whatever its size.
 *
 *     cc -I"$(gentee include-dir)" -o integrity_client integrity_client.c
 *     gentee run -- sh -c './integrity_client enrol it FILE; ./integrity_client check it FILE'
 *
 *     integrity_client enrol NAME FILE     the first one of a name is its reference, and stays it
 *     integrity_client check NAME FILE     exit status 0: unchanged, 3: changed, 1: no answer
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
#include <sys/stat.h>
#include <unistd.h>

/* d2a0c7b4-1d0e-4f53-8f3b-2b8c3c5d9e71 */
static const uint8_t integrity_uuid[TEE_IOCTL_UUID_LEN] = {
    0xd2, 0xa0, 0xc7, 0xb4, 0x1d, 0x0e, 0x4f, 0x53, 0x8f, 0x3b, 0x2b, 0x8c, 0x3c, 0x5d, 0x9e, 0x71,
};
#define INTEGRITY_ENROL 0 /* memref in: name, memref in: content */
#define INTEGRITY_CHECK 1 /* the same */

/* The results of this service, among those that GlobalPlatform defines. */
#define TEE_ERROR_ACCESS_CONFLICT 0xFFFF0003
#define TEE_ERROR_ITEM_NOT_FOUND 0xFFFF0008
#define TEE_ERROR_SECURITY 0xFFFF000F
#define TEE_ORIGIN_TRUSTED_APP 4 /* the service says it, not the TEE */

#define STATUS_CHANGED 3

static void fail(const char *what)
{
    fprintf(stderr, "integrity_client: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Shows the TEE memory of this program, for reading. The kernel's name for it is `id`. */
static struct tee_ioctl_mem_map_data map(int tee, const void *bytes, size_t size)
{
    struct tee_ioctl_mem_map_data data = {
        .addr = (uintptr_t)bytes, .length = size, .flags = TEE_MEM_MAP_READ};

    if (ioctl(tee, TEE_IOC_MEM_MAP, &data) < 0)
        fail("TEE_IOC_MEM_MAP");
    return data;
}

static void unmap(int tee, const struct tee_ioctl_mem_map_data *mapping)
{
    struct tee_ioctl_mem_unmap_data data = {.id = mapping->id};

    if (ioctl(tee, TEE_IOC_MEM_UNMAP, &data) < 0)
        fail("TEE_IOC_MEM_UNMAP");
}

/*
 * Opens a session, invokes `func` with name and content, closes the session: one ioctl. Returns the
 * result, which ends a session that could not be opened as well as a command.
 */
static uint32_t task(int tee, uint32_t func, const char *name, const void *content, size_t size,
                     uint32_t *origin)
{
    struct {
        struct tee_ioctl_task_arg arg;
        struct tee_ioctl_param params[2];
    } call;
    struct tee_ioctl_buf_data buf = {.buf_ptr = (uintptr_t)&call, .buf_len = sizeof(call)};
    struct tee_ioctl_mem_map_data maps[2];
    int i;

    maps[0] = map(tee, name, strlen(name));
    maps[1] = map(tee, content, size);
    memset(&call, 0, sizeof(call));
    memcpy(call.arg.uuid, integrity_uuid, sizeof(call.arg.uuid));
    call.arg.clnt_login = TEE_IOCTL_LOGIN_PUBLIC;
    call.arg.func = func;
    call.arg.num_params = 2;
    for (i = 0; i < 2; i++) {
        call.params[i].attr = TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT;
        call.params[i].a = 0; /* the offset */
        call.params[i].b = maps[i].length;
        call.params[i].c = (uint64_t)maps[i].id;
    }
    if (ioctl(tee, TEE_IOC_TASK, &buf) < 0)
        fail("TEE_IOC_TASK");
    for (i = 0; i < 2; i++)
        unmap(tee, &maps[i]);
    *origin = call.arg.ret_origin;
    return call.arg.ret;
}

/* Says what came of it, and returns the exit status. */
static int report(uint32_t func, const char *name, uint32_t ret, uint32_t origin)
{
    if (ret == 0) {
        printf("%s: %s\n", name, func == INTEGRITY_ENROL ? "enrolled" : "unchanged");
        return 0;
    }
    if (origin == TEE_ORIGIN_TRUSTED_APP && ret == TEE_ERROR_SECURITY) {
        printf("%s: CHANGED\n", name);
        return STATUS_CHANGED;
    }
    if (origin == TEE_ORIGIN_TRUSTED_APP && ret == TEE_ERROR_ITEM_NOT_FOUND)
        fprintf(stderr, "integrity_client: %s: not enrolled\n", name);
    else if (origin == TEE_ORIGIN_TRUSTED_APP && ret == TEE_ERROR_ACCESS_CONFLICT)
        fprintf(stderr, "integrity_client: %s: enrolled with other bytes\n", name);
    else
        fprintf(stderr, "integrity_client: %s: result %#x, origin %u\n", name, ret, origin);
    return 1;
}

int main(int argc, char **argv)
{
    uint32_t func, ret, origin;
    struct stat status;
    void *content;
    int tee, file;

    if (argc != 4 || (strcmp(argv[1], "enrol") != 0 && strcmp(argv[1], "check") != 0) ||
        argv[2][0] == '\0') {
        fprintf(stderr, "usage: integrity_client enrol|check NAME FILE\n");
        return 2;
    }
    func = strcmp(argv[1], "enrol") == 0 ? INTEGRITY_ENROL : INTEGRITY_CHECK;

    file = open(argv[3], O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &status) < 0)
        fail(argv[3]);
    if (!S_ISREG(status.st_mode) || status.st_size == 0) {
        fprintf(stderr, "integrity_client: %s: not a file with anything in it\n", argv[3]);
        return 1;
    }
    content = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (content == MAP_FAILED)
        fail("mmap");

    tee = open("/dev/tee0", O_RDWR | O_CLOEXEC);
    if (tee < 0)
        fail("/dev/tee0");
    ret = task(tee, func, argv[2], content, (size_t)status.st_size, &origin);
    close(tee);
    munmap(content, (size_t)status.st_size);
    close(file);
    return report(func, argv[2], ret, origin);
}
