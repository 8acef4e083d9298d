/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random calls, from a seed: commands, arguments, pointers, ids, descriptors, several threads at once.
 * Whatever they are answered, the errno is one that Linux has for it; the rest a test sees outside.
 */
#include "tee_client.h"

#include <gentee/tee.h>

#include <pthread.h>

#define THREADS 3
#define CONTEXTS 4

struct fuzzer {
    uint64_t state;
    int fds[CONTEXTS]; /* shared by the threads, also while one of them replaces them */
};

static char *arena; /* two pages, behind which nothing is mapped */
static const char *service;
static unsigned long calls_each;

static uint64_t draw(struct fuzzer *fuzzer)
{
    fuzzer->state ^= fuzzer->state << 13;
    fuzzer->state ^= fuzzer->state >> 7;
    fuzzer->state ^= fuzzer->state << 17;
    return fuzzer->state * 0x2545F4914F6CDD1Dull;
}

static uint64_t below(struct fuzzer *fuzzer, uint64_t limit)
{
    return (draw(fuzzer) >> 16) % limit;
}

/* A number: small, at an edge, or any. */
static uint64_t number(struct fuzzer *fuzzer)
{
    static const uint64_t edges[] = {
        0, 16, 24, 56, 88, 4095, 4096, 4097, 8192, 1ull << 31, (1ull << 32) - 1, 1ull << 32,
        1ull << 47, 1ull << 62, (1ull << 63) - 1, 1ull << 63, UINT64_MAX - 4095, UINT64_MAX,
    };

    switch (below(fuzzer, 4)) {
    case 0:
    case 1:
        return below(fuzzer, 12);
    case 2:
        return edges[below(fuzzer, sizeof(edges) / sizeof(edges[0]))];
    default:
        return draw(fuzzer) >> below(fuzzer, 64);
    }
}

static uint64_t address(struct fuzzer *fuzzer)
{
    return below(fuzzer, 8) ? (uintptr_t)arena + below(fuzzer, 2 * PAGE + 64) : number(fuzzer);
}

static void draw_params(struct fuzzer *fuzzer, param_t *params, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        params[i].attr = below(fuzzer, 16) ? below(fuzzer, 14) : number(fuzzer);
        params[i].a = below(fuzzer, 4) ? below(fuzzer, 4096) : address(fuzzer);
        params[i].b = below(fuzzer, 4) ? below(fuzzer, 4096) : number(fuzzer);
        params[i].c = below(fuzzer, 4) ? 1 + below(fuzzer, 20) : number(fuzzer);
    }
}

/* An argument that is right in most of its words. */
static void *draw_argument(struct fuzzer *fuzzer, unsigned long command, char *space)
{
    struct tee_ioctl_buf_data *data = (void *)space;
    uint64_t count = below(fuzzer, 6);
    size_t fixed = 0;

    if (command == TEE_IOC_OPEN_SESSION) {
        struct tee_ioctl_open_session_arg *arg = (void *)(space + 64);

        *arg = (struct tee_ioctl_open_session_arg){
            .clnt_login = below(fuzzer, 4) ? 0 : (__u32)number(fuzzer),
            .num_params = below(fuzzer, 16) ? (__u32)count : (__u32)number(fuzzer),
        };
        parse_uuid(below(fuzzer, 8) ? service : "", arg->uuid);
        draw_params(fuzzer, arg->params, count);
        fixed = sizeof(*arg);
    } else if (command == TEE_IOC_INVOKE) {
        struct tee_ioctl_invoke_arg *arg = (void *)(space + 64);
        /* Not 5 and 7 of loopback, which wait; nor 8, which answers any errno. */
        static const __u32 functions[] = {0, 1, 2, 3, 4, 6, 9, 100};

        *arg = (struct tee_ioctl_invoke_arg){
            .func = functions[below(fuzzer, 8)],
            .session = below(fuzzer, 4) ? 1 + (__u32)below(fuzzer, 12) : (__u32)number(fuzzer),
            .num_params = below(fuzzer, 16) ? (__u32)count : (__u32)number(fuzzer),
        };
        draw_params(fuzzer, arg->params, count);
        fixed = sizeof(*arg);
    } else if (command == TEE_IOC_TASK) {
        struct tee_ioctl_task_arg *arg = (void *)(space + 64);
        static const __u32 functions[] = {0, 1, 2, 3, 4, 6, 9, 100};

        *arg = (struct tee_ioctl_task_arg){
            .clnt_login = below(fuzzer, 4) ? 0 : (__u32)number(fuzzer),
            .func = functions[below(fuzzer, 8)],
            .flags = !below(fuzzer, 32),
            .num_params = below(fuzzer, 16) ? (__u32)count : (__u32)number(fuzzer),
        };
        parse_uuid(service, arg->uuid);
        draw_params(fuzzer, arg->params, count);
        fixed = sizeof(*arg);
    } else if (command == TEE_IOC_MEM_MAP) {
        struct tee_ioctl_mem_map_data *arg = (void *)space;

        *arg = (struct tee_ioctl_mem_map_data){.addr = address(fuzzer),
                                               .length = below(fuzzer, 2) ? 4096 : number(fuzzer),
                                               .flags = (__u32)below(fuzzer, 5)};
        return arg;
    } else if (command == TEE_IOC_SHM_FREE || command == TEE_IOC_MEM_UNMAP) {
        struct tee_ioctl_shm_free_data *arg = (void *)space;

        *arg = (struct tee_ioctl_shm_free_data){.id = 1 + (__s32)below(fuzzer, 40)};
        return arg;
    } else if (command == TEE_IOC_LOAD_TS) {
        struct tee_ioctl_load_ts_data *arg = (void *)space;

        *arg = (struct tee_ioctl_load_ts_data){.image_ptr = address(fuzzer),
                                               .image_len = 1 + below(fuzzer, 8192)};
        return arg;
    } else if (command == TEE_IOC_GET_TS_LIST) {
        struct tee_ioctl_get_ts_list_data *arg = (void *)space;

        *arg = (struct tee_ioctl_get_ts_list_data){
            .buf_ptr = address(fuzzer),
            .buf_len = below(fuzzer, 2) ? 4096 : number(fuzzer),
            .entry_size = below(fuzzer, 8) ? 360 : (__u32)number(fuzzer)};
        return arg;
    } else if (command == TEE_IOC_OBJECT_INVOKE) {
        struct tee_ioctl_object_invoke_arg *arg = (void *)(space + 64);

        *arg = (struct tee_ioctl_object_invoke_arg){
            .id = number(fuzzer), .op = (__u32)below(fuzzer, 3), .num_params = (__u32)count};
        draw_params(fuzzer, arg->params, count);
        fixed = sizeof(*arg);
    } else if (command == TEE_IOC_SHM_REGISTER) {
        struct tee_ioctl_shm_register_data *arg = (void *)space;

        *arg = (struct tee_ioctl_shm_register_data){
            .addr = address(fuzzer), .length = below(fuzzer, 2) ? 4096 : number(fuzzer)};
        return arg;
    } else if (command == TEE_IOC_SHM_ALLOC) {
        struct tee_ioctl_shm_alloc_data *arg = (void *)space;

        *arg = (struct tee_ioctl_shm_alloc_data){.size = below(fuzzer, 2) ? 4096 : number(fuzzer)};
        return arg;
    } else {
        for (int i = 0; i < 8; i++)
            ((uint64_t *)(void *)space)[i] = number(fuzzer);
        return space;
    }
    data->buf_ptr = below(fuzzer, 16) ? (uintptr_t)space + 64 : address(fuzzer);
    data->buf_len = below(fuzzer, 16) ? fixed + count * sizeof(param_t) : number(fuzzer);
    return data;
}

static void check_error(unsigned long command)
{
    static const int errors[] = {EINVAL, EFAULT, ENOMEM, EPERM,  EBADF,  ENOTTY,
                                 EMFILE, EBUSY,  EINTR,  ENOENT, ENOTSUPP, EACCES};

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        if (errno == errors[i])
            return;
    FAIL("command %#lx: %s", command, strerror(errno));
}

static const unsigned long commands[] = {
    TEE_IOC_VERSION, TEE_IOC_SHM_ALLOC,     TEE_IOC_OPEN_SESSION, TEE_IOC_INVOKE,
    TEE_IOC_INVOKE,  TEE_IOC_CANCEL,        TEE_IOC_SHM_REGISTER, TEE_IOC_CLOSE_SESSION,
    TEE_IOC_INVOKE,  TEE_IOC_OBJECT_INVOKE, TEE_IOC_SHM_REGISTER_FD,
    TEE_IOC_TASK,    TEE_IOC_SHM_FREE,      TEE_IOC_MEM_MAP,      TEE_IOC_MEM_UNMAP,
    TEE_IOC_LOAD_TS, TEE_IOC_GET_TS_LIST,
};

static void *fuzz(void *context)
{
    struct fuzzer fuzzer = *(struct fuzzer *)context;
    const int *fds = ((struct fuzzer *)context)->fds;
    static _Thread_local char own[2048];
    int shms[64];
    unsigned count = 0;

    for (unsigned long i = 0; i < calls_each; i++) {
        int fd = fds[below(&fuzzer, CONTEXTS)];
        unsigned long command = commands[below(&fuzzer, sizeof(commands) / sizeof(commands[0]))];
        /* Usually a place of one's own; else one that other threads write to as well. */
        char *space = below(&fuzzer, 4) ? own : arena + 64 * below(&fuzzer, 64);
        void *argument = draw_argument(&fuzzer, command, space);
        int ret;

        if (!below(&fuzzer, 16))
            argument = (void *)(uintptr_t)address(&fuzzer);
        if (!below(&fuzzer, 32))
            command = _IOC(below(&fuzzer, 4), TEE_IOC_MAGIC, below(&fuzzer, 256), below(&fuzzer, 64));
        ret = ioctl(fd, command, argument);
        if (ret < 0) {
            check_error(command);
        } else if (ret > 2 && (command == TEE_IOC_SHM_ALLOC || command == TEE_IOC_SHM_REGISTER ||
                               command == TEE_IOC_SHM_REGISTER_FD)) {
            shms[count++] = ret;
            while (count > 40)
                close(shms[--count]);
        }
        if (!below(&fuzzer, 200)) { /* another open file under the same number */
            int other = open(TEE0, O_RDWR);

            dup2(other, fd);
            close(other);
        }
    }
    return NULL;
}

CASE(random_calls)
{
    const char *text = getenv("TEE_CLIENT_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : 1;
    struct fuzzer fuzzers[THREADS];
    pthread_t threads[THREADS];

    text = getenv("TEE_CLIENT_COUNT");
    calls_each = text ? strtoul(text, NULL, 10) : 2000;
    service = getenv("TEE_CLIENT_SERVICE") ? getenv("TEE_CLIENT_SERVICE") : ANY;
    arena = new_pages(3);
    CHECK(munmap(arena + 2 * PAGE, PAGE) == 0);
    for (int i = 0; i < CONTEXTS; i++)
        fuzzers[0].fds[i] = tee_open();
    for (int i = 0; i < THREADS; i++) {
        memcpy(fuzzers[i].fds, fuzzers[0].fds, sizeof(fuzzers[0].fds));
        fuzzers[i].state = (seed * THREADS + (uint64_t)i + 1) * 0x9E3779B97F4A7C15ull;
        CHECK(pthread_create(&threads[i], NULL, fuzz, &fuzzers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}
