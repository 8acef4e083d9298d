/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ids of others: sessions, shared memory and calls of another context or another process. To the
 * caller they are as unknown as ids that never were.
 */
#include "tee_client.h"

#define MOST 300 /* ids tried; numbers are the lowest that are free, so the victim's are among them */

/* What a victim has. */
struct victim {
    int fd;
    __u32 session;
    struct memory memory;
};

static struct victim new_victim(void)
{
    struct victim victim = {.fd = tee_open()};

    /* Not the first numbers: a fresh context would have them too. */
    for (int i = 0; i < 20; i++)
        victim.session = must_open_session(victim.fd, ANY);
    for (int i = 0; i < 20; i++)
        victim.memory = must_alloc(victim.fd, PAGE);
    memset(victim.memory.bytes, 0x11, PAGE);
    return victim;
}

static void victim_still_works(const struct victim *victim)
{
    param_t params[] = {value_in(0x22, 0), memref_out(victim->memory.id, 0, 16)};

    CHECK_EQ(victim->memory.bytes[0], 0x11);
    CHECK_ANSWER(invoke(victim->fd, victim->session, FILL, 2, params), TEEC_SUCCESS);
    CHECK_EQ(victim->memory.bytes[15], 0x22);
    CHECK_EQ(victim->memory.bytes[16], 0x11);
    CHECK(close_session(victim->fd, victim->session) == 0);
}

static void attack(int fd)
{
    struct answer answer;
    __u32 mine = must_open_session(fd, ANY);
    struct memory memory = must_alloc(fd, PAGE);

    for (__u32 id = 0; id < MOST; id++) {
        if (id != mine) {
            answer = invoke(fd, id, NOP, 0, NULL);
            CHECK_EQ(answer.error, EINVAL);
            if (id) /* 0 means an open that is under way */
                CHECK_ERRNO(cancel(fd, id, 0), EINVAL);
            CHECK_ERRNO(close_session(fd, id), EINVAL);
        }
        if ((int)id != memory.id) {
            param_t params[] = {value_in(0x33, 0), memref_out((int)id, 0, 16)};

            answer = invoke(fd, mine, FILL, 2, params);
            CHECK_EQ(answer.error, EINVAL);
            answer = open_session(fd, ANY, 2, params);
            CHECK_EQ(answer.error, EINVAL);
        }
    }
    CHECK_ANSWER(invoke(fd, mine, NOP, 0, NULL), TEEC_SUCCESS);
}

CASE(other_context)
{
    struct victim victim = new_victim();

    attack(tee_open());
    victim_still_works(&victim);
}

CASE(other_process)
{
    struct victim victim = new_victim();
    pid_t child = must_fork();

    if (child == 0) {
        close(victim.fd);
        attack(tee_open());
        _exit(0);
    }
    must_succeed(child);
    victim_still_works(&victim);
}

/* The session is asked for by its id, and by what its 32 bits could be taken for. */
CASE(strange_ids)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    struct memory memory = must_alloc(fd, PAGE);
    static const __u64 high[] = {1ull << 31, 1ull << 32, 1ull << 63, ~0ull << 32};
    static const __u32 wrong[] = {0, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};

    for (size_t i = 0; i < 5; i++) {
        struct answer answer = invoke(fd, wrong[i], NOP, 0, NULL);

        CHECK_EQ(answer.error, EINVAL);
        CHECK_ERRNO(close_session(fd, wrong[i]), EINVAL);
    }
    for (size_t i = 0; i < 4; i++) {
        param_t params[] = {value_in(1, 0), memref_out(memory.id, 0, 16)};

        /* The kernel looks at the low 32 bits of a memref's id, an int, and at all for NULL. */
        params[1].c |= high[i];
        struct answer answer = invoke(fd, session, FILL, 2, params);
        CHECK_EQ(answer.error, high[i] == 1ull << 31 ? EINVAL : 0);
    }
    for (__u64 op = 1; op; op <<= 1) {
        struct tee_ioctl_object_invoke_arg arg = {.id = op};
        int ret = buf_ioctl(fd, TEE_IOC_OBJECT_INVOKE, &arg, sizeof(arg));

        CHECK_EQ(ret, op >> 32 ? -1 : 0);
    }
}

/* After its end an id is nobody's, and then somebody else's. */
CASE(used_again)
{
    int first = tee_open(), second = tee_open();
    __u32 old = must_open_session(first, ANY);

    CHECK(close_session(first, old) == 0);
    __u32 young;
    do
        young = must_open_session(second, ANY);
    while (young < old); /* numbers are the lowest that are free */
    CHECK_EQ(young, old);
    struct answer answer = invoke(first, old, NOP, 0, NULL);
    CHECK_EQ(answer.error, EINVAL);
    CHECK_ERRNO(close_session(first, young), EINVAL);
    CHECK_ANSWER(invoke(second, young, NOP, 0, NULL), TEEC_SUCCESS);

    struct memory memory = must_alloc(first, PAGE);
    CHECK(munmap(memory.bytes, PAGE) == 0);
    CHECK(close(memory.fd) == 0);
    /* Its end is noticed in its own time. */
    param_t params[] = {value_in(0x44, 0), memref_out(memory.id, 0, 16)};
    __u32 session = must_open_session(first, ANY);
    WAIT_UNTIL(invoke(first, session, FILL, 2, params).error == EINVAL);
    struct memory other;
    do
        other = must_alloc(second, PAGE);
    while (other.id < memory.id); /* numbers are the lowest that are free */
    CHECK_EQ(other.id, memory.id);
    params[1] = memref_out(memory.id, 0, 16);
    answer = invoke(first, session, FILL, 2, params);
    CHECK_EQ(answer.error, EINVAL);
    CHECK_EQ(other.bytes[0], 0);
}

/* A call that waits can be cancelled by its own context only. */
CASE(cancel_of_another)
{
    int fd = tee_open(), attacker = tee_open();
    __u32 session = must_open_session(fd, ANY);
    pid_t child = must_fork();

    if (child == 0) {
        struct answer answer = invoke_id(fd, session, WAIT, 77, 0, NULL);

        CHECK_EQ(answer.error, 0);
        CHECK_EQ(answer.ret, TEEC_SUCCESS); /* released, and not cancelled */
        _exit(0);
    }
    __u32 mine = must_open_session(attacker, ANY);
    param_t released = value_out();
    do {
        for (__u32 id = 1; id < MOST; id++)
            if (id != mine)
                CHECK_ERRNO(cancel(attacker, id, 77), EINVAL);
        CHECK(cancel(attacker, mine, 77) == 0);
        CHECK(cancel(attacker, 0, 77) == 0);
        /* RELEASE ends the waits of all contexts, which is this driver's own way. */
        CHECK_ANSWER(invoke(attacker, mine, RELEASE, 1, &released), TEEC_SUCCESS);
    } while (!released.a);
    must_succeed(child);
}
