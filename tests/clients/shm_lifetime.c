/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shared memory ends with its last descriptor and mapping, and not before. What is watched is the
 * room that a context has: it takes a few buffers of a GiB, which cost nothing until they are
 * touched, and when it is full another one fits exactly when one of them has ended.
 */
#include "tee_client.h"

static bool fits(int fd)
{
    int shm = shm_alloc(fd, GIB, NULL, NULL);

    if (shm < 0)
        CHECK_EQ(errno, ENOMEM);
    else
        close(shm);
    return shm >= 0;
}

/* Fill a context to its limit; the descriptors stay open. How many buffers it took. */
static int fill_up(int fd)
{
    int count = 0;

    while (shm_alloc(fd, GIB, NULL, NULL) >= 0)
        CHECK(++count < 1000);
    CHECK_EQ(errno, ENOMEM);
    return count;
}

/* Ends are noticed in their order: see contexts.c. */
static void check_not_ended(int fd)
{
    int other = tee_open();
    int shm = shm_alloc(other, GIB, NULL, NULL);

    CHECK(shm >= 0);
    fill_up(other);
    close(shm);
    WAIT_UNTIL(fits(other));
    close(other);
    CHECK(!fits(fd));
}

struct subject {
    int fd; /* a context that has no room beside it */
    struct memory memory;
};

static struct subject new_subject(void)
{
    struct subject subject = {.fd = tee_open()};

    subject.memory = must_alloc(subject.fd, GIB);
    fill_up(subject.fd);
    CHECK(!fits(subject.fd));
    return subject;
}

static void unmap(const struct memory *memory)
{
    CHECK(munmap(memory->bytes, memory->size) == 0);
}

CASE(it_ends_with_close_and_munmap)
{
    struct subject s = new_subject();

    unmap(&s.memory);
    check_not_ended(s.fd);
    close(s.memory.fd);
    WAIT_UNTIL(fits(s.fd));
}

CASE(it_ends_with_munmap_after_close)
{
    struct subject s = new_subject();

    close(s.memory.fd);
    check_not_ended(s.fd);
    s.memory.bytes[0] = 1;
    unmap(&s.memory);
    WAIT_UNTIL(fits(s.fd));
}

CASE(it_is_used_by_id_after_close)
{
    struct subject s = new_subject();
    __u32 session = must_open_session(s.fd, ANY);
    param_t params[2] = {value_in('m', 0), memref_out(s.memory.id, 0, 100)};

    close(s.memory.fd);
    CHECK_ANSWER(invoke(s.fd, session, FILL, 2, params), TEEC_SUCCESS);
    CHECK_EQ(s.memory.bytes[99], 'm');
    unmap(&s.memory);
    WAIT_UNTIL(fits(s.fd));
    WAIT_UNTIL(invoke(s.fd, session, FILL, 2, params).error == EINVAL);
}

CASE(the_last_page_that_is_mapped_keeps_it)
{
    struct subject s = new_subject();

    close(s.memory.fd);
    CHECK(munmap(s.memory.bytes, GIB / 2) == 0);
    CHECK(munmap(s.memory.bytes + GIB / 2 + PAGE, GIB / 2 - PAGE) == 0);
    check_not_ended(s.fd);
    s.memory.bytes[GIB / 2] = 1;
    CHECK(munmap(s.memory.bytes + GIB / 2, PAGE) == 0);
    WAIT_UNTIL(fits(s.fd));
}

CASE(a_mapping_over_it_ends_it)
{
    struct subject s = new_subject();

    close(s.memory.fd);
    CHECK(mmap(s.memory.bytes, GIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
          MAP_FAILED);
    WAIT_UNTIL(fits(s.fd));
}

CASE(a_duplicate_keeps_it)
{
    struct subject s = new_subject();
    int other = dup(s.memory.fd);

    unmap(&s.memory);
    close(s.memory.fd);
    check_not_ended(s.fd);
    close(other);
    WAIT_UNTIL(fits(s.fd));
}

static int open_again(int shm, int flags)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", shm);
    return must_open(path, flags);
}

static void opened_again_keeps_it(int flags)
{
    struct subject s = new_subject();
    int other = open_again(s.memory.fd, flags);

    unmap(&s.memory);
    close(s.memory.fd);
    check_not_ended(s.fd);
    close(other);
    WAIT_UNTIL(fits(s.fd));
}

CASE(opened_again_for_reading_and_writing_keeps_it)
{
    opened_again_keeps_it(O_RDWR);
}

CASE(opened_again_for_reading_keeps_it)
{
    opened_again_keeps_it(O_RDONLY);
}

CASE(opened_again_for_writing_keeps_it)
{
    opened_again_keeps_it(O_WRONLY);
}

static void mapping_keeps_it(int flags, int kind)
{
    struct subject s = new_subject();
    int other = open_again(s.memory.fd, flags);
    volatile char *bytes = mmap(NULL, PAGE, PROT_READ, kind, other, 0);

    CHECK(bytes != MAP_FAILED);
    s.memory.bytes[0] = 42;
    unmap(&s.memory);
    close(s.memory.fd);
    close(other);
    check_not_ended(s.fd);
    CHECK_EQ(bytes[0], 42);
    CHECK(munmap((void *)bytes, PAGE) == 0);
    WAIT_UNTIL(fits(s.fd));
}

CASE(a_readonly_mapping_keeps_it)
{
    mapping_keeps_it(O_RDWR, MAP_SHARED);
}

CASE(a_mapping_of_it_opened_for_reading_keeps_it)
{
    mapping_keeps_it(O_RDONLY, MAP_SHARED);
}

CASE(a_private_mapping_keeps_it)
{
    mapping_keeps_it(O_RDONLY, MAP_PRIVATE);
}

CASE(a_childs_mapping_keeps_it)
{
    struct subject s = new_subject();
    struct gate gate = new_gate();
    pid_t child = must_fork();

    if (!child) {
        close(s.memory.fd);
        gate_receive(&gate);
        s.memory.bytes[0] = 1;
        _exit(0);
    }
    unmap(&s.memory);
    close(s.memory.fd);
    check_not_ended(s.fd);
    gate_send(&gate, 1);
    must_succeed(child);
    WAIT_UNTIL(fits(s.fd));
}

CASE(a_childs_descriptor_keeps_it_until_it_is_killed)
{
    struct subject s = new_subject();
    pid_t child = must_fork();

    if (!child)
        for (;;)
            pause();
    unmap(&s.memory);
    close(s.memory.fd);
    check_not_ended(s.fd);
    must_kill(child);
    WAIT_UNTIL(fits(s.fd));
}

CASE(a_message_in_flight_keeps_it)
{
    struct subject s = new_subject();
    int sockets[2], received;

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    send_fd(sockets[0], s.memory.fd);
    unmap(&s.memory);
    close(s.memory.fd);
    check_not_ended(s.fd);
    received = receive_fd(sockets[1]);
    check_not_ended(s.fd);
    close(received);
    WAIT_UNTIL(fits(s.fd));
}

CASE(a_parked_descriptor_leaks_nothing)
{
    struct subject s = new_subject();
    int sockets[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    send_fd(sockets[0], s.memory.fd);
    unmap(&s.memory);
    close(s.memory.fd);
    check_not_ended(s.fd);
    close(sockets[0]);
    close(sockets[1]);
    WAIT_UNTIL(fits(s.fd));
}

CASE(exec_ends_the_mapping_but_not_the_descriptor)
{
    struct subject s = new_subject();
    struct gate gate = new_gate();
    pid_t child = must_fork();

    if (!child) {
        close(gate.fds[1]);
        CHECK(dup2(gate.fds[0], 0) == 0);
        execl("/bin/sh", "sh", "-c", "read line || true", NULL);
        FAIL("exec");
    }
    unmap(&s.memory);
    close(s.memory.fd);
    check_not_ended(s.fd);
    close(gate.fds[1]); /* the end of the shell's input, and of the shell */
    must_succeed(child);
    WAIT_UNTIL(fits(s.fd));
}

enum { WAITER_WAIT };

CASE(a_call_that_uses_it_keeps_it)
{
    int fd = must_open("/dev/tee1", O_RDWR); /* the software TEE: its service says when it waits */
    struct memory memory = must_alloc(fd, GIB);
    volatile unsigned char *state = memory.bytes;
    __u32 session = must_open_session(fd, WAITER);
    struct gate gate = new_gate();
    pid_t child;

    fill_up(fd);
    child = must_fork();
    if (!child) {
        param_t params[1] = {memref_inout(memory.id, 0, 8)};

        unmap(&memory);
        close(memory.fd);
        CHECK_ANSWER(invoke_id(fd, session, WAITER_WAIT, 7, 1, params), TEEC_ERROR_CANCEL);
        gate_send(&gate, 1);
        _exit(0);
    }
    WAIT_UNTIL(state[0] == 1);
    unmap(&memory);
    close(memory.fd);
    check_not_ended(fd);
    CHECK_EQ(cancel(fd, session, 7), 0);
    gate_receive(&gate);
    must_succeed(child);
    WAIT_UNTIL(fits(fd));
}

CASE(a_failed_call_does_not_keep_it)
{
    struct subject s = new_subject();
    __u32 session = must_open_session(s.fd, ANY);

    for (int i = 0; i < 10; i++) {
        param_t wrong[3] = {memref_in(s.memory.id, 0, 8), memref_out(s.memory.id, 0, 8),
                            memref_out(s.memory.id, GIB, 1)};
        param_t error[2] = {value_in(EBUSY, 0), memref_out(s.memory.id, 0, 8)};
        param_t unknown[1] = {memref_in(s.memory.id, 0, 8)};

        CHECK_EQ(invoke(s.fd, session, COPY, 3, wrong).error, EINVAL);
        CHECK_EQ(invoke(s.fd, session, ERRNO, 2, error).error, EBUSY);
        CHECK_EQ(invoke(s.fd, 99999, NOP, 1, unknown).error, EINVAL);
        CHECK_EQ(open_session(s.fd, ANY, 3, wrong).error, EINVAL);
        struct open_options kernel = {.login = TEE_IOCTL_LOGIN_REE_KERNEL_MIN};
        CHECK_EQ(open_session_with(s.fd, ANY, &kernel, 1, unknown).error, EPERM);
    }
    unmap(&s.memory);
    close(s.memory.fd);
    WAIT_UNTIL(fits(s.fd));
}

CASE(it_outlives_its_context)
{
    struct subject s = new_subject();
    int other = tee_open(), id;

    strcpy((char *)s.memory.bytes, "still here");
    close(s.fd);
    CHECK(strcmp((char *)s.memory.bytes, "still here") == 0);
    /* And another context can take it in. */
    __u32 session = must_open_session(other, ANY);
    CHECK(shm_register_fd(other, s.memory.fd, &id) >= 0);
    param_t params[2] = {value_in('o', 0), memref_out(id, 0, 5)};
    CHECK_ANSWER(invoke(other, session, FILL, 2, params), TEEC_SUCCESS);
    CHECK(strcmp((char *)s.memory.bytes, "ooooo here") == 0);
}

/* All contexts together have a limit as well; it holds for what outlived its context. */
static int fill_device(void)
{
    int contexts = 0;

    for (;;) {
        int fd = tee_open();

        if (!fill_up(fd))
            return contexts;
        close(fd);
        CHECK(++contexts < 1000);
    }
}

CASE(what_outlives_its_context_counts_for_the_device)
{
    pid_t child = must_fork();

    if (!child) {
        int fd;

        CHECK(fill_device() > 0);
        fd = tee_open();
        CHECK_ERRNO(shm_alloc(fd, PAGE, NULL, NULL), ENOMEM);
        _exit(0);
    }
    must_succeed(child);
    /* The child's end is the end of all of it. */
    int fd = tee_open();
    WAIT_UNTIL(fits(fd));
    CHECK(fill_up(fd) > 0);
}

static unsigned char *untouched_gib(void)
{
    static void *bytes;

    if (!bytes)
        bytes = mmap(NULL, GIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                     -1, 0);
    CHECK(bytes != MAP_FAILED);
    return bytes;
}

CASE(ids_are_used_again)
{
    int fd = tee_open();
    struct memory memory = must_alloc(fd, PAGE);

    for (int i = 0; i < 50; i++) {
        int shm = -1, id;

        unmap(&memory);
        close(memory.fd);
        /* The lowest free number, as the kernel gives. */
        WAIT_UNTIL(({
            close(shm);
            shm = shm_alloc(fd, PAGE, &id, NULL);
            id <= memory.id;
        }));
        close(shm);
        memory = must_alloc(fd, PAGE);
    }
}

CASE(many_buffers_come_and_go)
{
    int fd = tee_open();

    /* Many times what a context may have in all: each is released when close() returns. */
    for (int i = 0; i < 100; i++) {
        struct memory memory = must_alloc(fd, GIB);

        close(memory.fd);
        unmap(&memory);
        close(must_register(fd, untouched_gib(), GIB).fd);
    }
    WAIT_UNTIL(fits(fd));
}

/* Registered memory: its descriptor is all that it has. */

CASE(registered_memory_ends_with_its_last_descriptor)
{
    int fd = tee_open(), id, sockets[2], received;
    int shm = shm_register(fd, untouched_gib(), GIB, &id), other;

    CHECK(shm >= 0);
    fill_up(fd);
    other = dup(shm);
    close(shm);
    check_not_ended(fd);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    send_fd(sockets[0], other);
    close(other);
    check_not_ended(fd);
    received = receive_fd(sockets[1]);
    check_not_ended(fd);
    close(received);
    WAIT_UNTIL(fits(fd));
}

CASE(registered_memory_ends_with_its_last_process)
{
    int fd = tee_open(), id;
    int shm = shm_register(fd, untouched_gib(), GIB, &id);
    pid_t child;

    CHECK(shm >= 0);
    fill_up(fd);
    child = must_fork();
    if (!child)
        for (;;)
            pause();
    close(shm);
    check_not_ended(fd);
    must_kill(child);
    WAIT_UNTIL(fits(fd));
}

CASE(a_registered_file_ends_with_the_descriptor_of_its_registration)
{
    int fd = tee_open(), id, shm, memory = memfd_create("client", MFD_ALLOW_SEALING);

    CHECK(ftruncate(memory, GIB) == 0);
    CHECK(fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
    CHECK((shm = shm_register_fd(fd, memory, &id)) >= 0);
    fill_up(fd);
    close(memory);
    check_not_ended(fd);
    close(shm);
    WAIT_UNTIL(fits(fd));
}
