/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A client of trusted services, written against <linux/tee.h> alone: no library, nothing of gentee.
 * It runs on any Linux that has /dev/tee0 and these two services, and under `gentee run` elsewhere:
 *
 *     cc -o echo_client echo_client.c
 *     gentee run -- ./echo_client "some text"
 *
 * It shows, in this order:
 *   1. opening a TEE and asking what it is         TEE_IOC_VERSION
 *   2. memory that client and service share        TEE_IOC_SHM_ALLOC, mmap
 *   3. a session with a service, and its commands  TEE_IOC_OPEN_SESSION, TEE_IOC_INVOKE
 *   4. two sessions with one service at a time     TEE_IOC_CLOSE_SESSION
 *   5. giving everything back                      munmap, close
 *
 * Each call has two results. ioctl() itself fails, with errno, when the call makes no sense or the
 * driver cannot pass it on. Otherwise it succeeds, and `ret` in its argument says how the operation
 * ended: 0, or a code that GlobalPlatform defines; `ret_origin` says who set it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/tee.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* 3f1b8f5e-6a3d-4c0e-8f0b-2d9c1a7e5b10: gives back what it gets (gentee/examples/echo.py). */
static const uint8_t echo_uuid[TEE_IOCTL_UUID_LEN] = {
    0x3f, 0x1b, 0x8f, 0x5e, 0x6a, 0x3d, 0x4c, 0x0e, 0x8f, 0x0b, 0x2d, 0x9c, 0x1a, 0x7e, 0x5b, 0x10,
};
#define ECHO_COPY 0  /* memref in, memref out: the output gets the bytes of the input */
#define ECHO_UPPER 1 /* memref in and out: letters become capitals, in place */

/* b5c6c8f4-8c5f-4b7e-9d35-61b7a3d6f2a4: counts its calls (gentee/examples/counter.py). */
static const uint8_t counter_uuid[TEE_IOCTL_UUID_LEN] = {
    0xb5, 0xc6, 0xc8, 0xf4, 0x8c, 0x5f, 0x4b, 0x7e, 0x9d, 0x35, 0x61, 0xb7, 0xa3, 0xd6, 0xf2, 0xa4,
};
#define COUNTER_NEXT 0 /* value out: calls of this session, calls of all sessions */

static void fail(const char *what)
{
    fprintf(stderr, "echo_client: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void check_ret(const char *what, uint32_t ret, uint32_t ret_origin)
{
    if (ret != 0) {
        fprintf(stderr, "echo_client: %s: result %#x, origin %u\n", what, ret, ret_origin);
        exit(1);
    }
}

/*
 * Opens a session with a service and returns its number, which means something for this descriptor
 * only.
 *
 * The arguments of this call and of the next have a variable length: a fixed part, then num_params
 * parameters. So the ioctl itself takes a small struct that says where they are and how long.
 */
static uint32_t open_session(int tee, const uint8_t uuid[TEE_IOCTL_UUID_LEN])
{
    struct tee_ioctl_open_session_arg arg;
    struct tee_ioctl_buf_data buf = {.buf_ptr = (uintptr_t)&arg, .buf_len = sizeof(arg)};

    memset(&arg, 0, sizeof(arg)); /* no parameters, and TEE_IOCTL_LOGIN_PUBLIC: as anybody */
    memcpy(arg.uuid, uuid, sizeof(arg.uuid));
    if (ioctl(tee, TEE_IOC_OPEN_SESSION, &buf) < 0)
        fail("TEE_IOC_OPEN_SESSION");
    check_ret("open session", arg.ret, arg.ret_origin);
    return arg.session;
}

/* Invokes command `func` in a session. What the service changed is in `params` afterwards. */
static void invoke(int tee, uint32_t session, uint32_t func, struct tee_ioctl_param *params,
                   uint32_t num_params)
{
    size_t params_size = num_params * sizeof(*params);
    struct tee_ioctl_invoke_arg *arg = calloc(1, sizeof(*arg) + params_size);
    struct tee_ioctl_buf_data buf;

    if (arg == NULL)
        fail("calloc");
    arg->func = func;
    arg->session = session;
    arg->num_params = num_params;
    memcpy(arg->params, params, params_size);
    buf.buf_ptr = (uintptr_t)arg;
    buf.buf_len = sizeof(*arg) + params_size; /* exactly: anything else is EINVAL */
    if (ioctl(tee, TEE_IOC_INVOKE, &buf) < 0)
        fail("TEE_IOC_INVOKE");
    check_ret("invoke", arg->ret, arg->ret_origin);
    memcpy(params, arg->params, params_size);
    free(arg);
}

static void close_session(int tee, uint32_t session)
{
    struct tee_ioctl_close_session_arg arg = {.session = session};

    if (ioctl(tee, TEE_IOC_CLOSE_SESSION, &arg) < 0)
        fail("TEE_IOC_CLOSE_SESSION");
}

/* A parameter that refers to `size` bytes of shared memory, from `offset` on. */
static struct tee_ioctl_param memref(uint64_t type, int shm_id, size_t offset, size_t size)
{
    struct tee_ioctl_param param = {.attr = type, .a = offset, .b = size, .c = (uint64_t)shm_id};

    return param;
}

/* Sends `text` to the echo service and takes back what it made of it. */
static void echo(int tee, const char *text)
{
    struct tee_ioctl_shm_alloc_data shm = {.size = 2 * (strlen(text) + 1)};
    size_t size = strlen(text), half = strlen(text) + 1;
    struct tee_ioctl_param params[2];
    uint32_t session;
    char *memory;
    int shm_fd;

    /*
     * The ioctl returns a descriptor of the memory. `id` is how parameters name it, `size` how much
     * it really is: whole pages. mmap gives us the very pages that the service will see.
     */
    shm_fd = ioctl(tee, TEE_IOC_SHM_ALLOC, &shm);
    if (shm_fd < 0)
        fail("TEE_IOC_SHM_ALLOC");
    memory = mmap(NULL, shm.size, PROT_READ | PROT_WRITE, MAP_SHARED, shm_fd, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    printf("shared memory of %llu bytes\n", (unsigned long long)shm.size);

    session = open_session(tee, echo_uuid);
    memcpy(memory, text, size);
    params[0] = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, shm.id, 0, size);
    params[1] = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT, shm.id, half, size);
    invoke(tee, session, ECHO_COPY, params, 2);
    /* The size of an output is what the service wrote. */
    printf("echo: sent \"%s\", got \"%.*s\" back\n", text, (int)params[1].b, memory + half);

    params[0] = memref(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT, shm.id, 0, size);
    invoke(tee, session, ECHO_UPPER, params, 1);
    printf("echo: in capitals, in place: \"%.*s\"\n", (int)size, memory);
    close_session(tee, session);

    /* The memory is given back when it is neither mapped nor open any more. */
    munmap(memory, shm.size);
    close(shm_fd);
}

/* One call of the counter; returns the calls of this session, and in `*all` those of all. */
static unsigned count(int tee, uint32_t session, unsigned *all)
{
    struct tee_ioctl_param param = {.attr = TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT};

    invoke(tee, session, COUNTER_NEXT, &param, 1);
    *all = (unsigned)param.b;
    return (unsigned)param.a;
}

int main(int argc, char **argv)
{
    struct tee_ioctl_version_data version;
    uint32_t first, second;
    unsigned mine, all;
    int tee;

    setvbuf(stdout, NULL, _IOLBF, 0); /* so that our lines and the services' come in order */

    /* An open descriptor is a context: sessions and memory belong to it, and end with it. */
    tee = open("/dev/tee0", O_RDWR | O_CLOEXEC);
    if (tee < 0)
        fail("/dev/tee0");
    if (ioctl(tee, TEE_IOC_VERSION, &version) < 0)
        fail("TEE_IOC_VERSION");
    if (!(version.gen_caps & TEE_GEN_CAP_GP)) {
        fprintf(stderr, "echo_client: /dev/tee0 does not follow GlobalPlatform\n");
        return 1;
    }
    printf("/dev/tee0: a GlobalPlatform TEE, implementation %u%s\n", version.impl_id,
           version.impl_id == TEE_IMPL_ID_OPTEE ? " (OP-TEE)" : "");

    echo(tee, argc > 1 ? argv[1] : "Hello, TEE");

    /* Sessions of one service keep their own state, beside what they share. */
    first = open_session(tee, counter_uuid);
    second = open_session(tee, counter_uuid);
    count(tee, first, &all);
    mine = count(tee, first, &all);
    printf("counter: the first session has %u calls of %u in all\n", mine, all);
    mine = count(tee, second, &all);
    printf("counter: the second session has %u call of %u in all\n", mine, all);
    close_session(tee, first);
    close_session(tee, second);

    close(tee);
    return 0;
}
