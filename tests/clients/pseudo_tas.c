/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pseudo TAs, by a client in C: what OP-TEE's test program does with them, and what none should.
 */
#include "tee_client.h"

#define SYSTEM_PTA "3a2f8978-5dc0-11e8-9c2d-fa7ae01bbebc"
#define DEVICE_PTA "7011a688-ddde-4053-a5a9-7b3c4ddf13b8"
#define STATS_PTA "d96a5b40-e2c7-b1af-8794-1002a5d5c61b"
#define TESTS_PTA "d96a5b40-c3e5-21e3-8794-1002a5d5c61b"

#define TEEC_ERROR_ACCESS_DENIED 0xFFFF0001u

enum { CMD_TRACE, CMD_PARAMS, CMD_SELF_TESTS, CMD_MUTEX = 7, CMD_MEMREF_NULL = 10 };
enum { WRITER, READER };

static param_t null_inout(void)
{
    return param(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT, 0, 0, TEE_MEMREF_NULL);
}

static void check_answer(struct answer answer, __u32 ret, __u32 origin)
{
    CHECK_EQ(answer.error, 0);
    CHECK_EQ(answer.ret, ret);
    CHECK_EQ(answer.origin, origin);
}

CASE(the_sum_of_its_bytes)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, TESTS_PTA);
    struct memory memory = must_alloc(fd, 4 * PAGE);
    param_t reference = memref_inout(memory.id, 0, 4 * PAGE);
    unsigned char sum = 0;

    for (unsigned i = 0; i < 4 * PAGE; i++)
        sum += memory.bytes[i] = i + 1;
    check_answer(invoke(fd, session, CMD_PARAMS, 1, &reference), TEEC_SUCCESS, 4);
    CHECK_EQ(memory.bytes[0], sum);
    CHECK_EQ(memory.bytes[1], 2);
}

CASE(the_sum_of_registered_bytes)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, TESTS_PTA);
    unsigned char *pages = new_pages(3);
    struct memory memory = must_register(fd, pages, 3 * PAGE);
    /* From within one page to within another one. */
    param_t reference = memref_inout(memory.id, 100, 2 * PAGE);

    memset(pages, 1, 3 * PAGE);
    check_answer(invoke(fd, session, CMD_PARAMS, 1, &reference), TEEC_SUCCESS, 4);
    CHECK_EQ(pages[100], 2 * PAGE & 0xff);
    CHECK_EQ(pages[99], 1);
    CHECK_EQ(pages[101], 1);
}

CASE(memory_made_readonly_is_EFAULT_for_an_output)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, TESTS_PTA);
    unsigned char *pages = new_pages(1);
    struct memory memory;
    param_t reference;

    memset(pages, 1, PAGE);
    memory = must_register(fd, pages, PAGE);
    make_readonly(pages, 1);
    reference = memref_inout(memory.id, 0, PAGE);
    CHECK_EQ(invoke(fd, session, CMD_PARAMS, 1, &reference).error, EFAULT);
    CHECK_EQ(pages[0], 1);
    /* The session is as good as before. */
    check_answer(invoke(fd, session, CMD_TRACE, 0, NULL), TEEC_SUCCESS, 4);
}

CASE(a_null_reference)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, TESTS_PTA);
    param_t reference = null_inout();

    check_answer(invoke(fd, session, CMD_MEMREF_NULL, 1, &reference), TEEC_SUCCESS, 4);
    check_answer(invoke(fd, session, CMD_PARAMS, 1, &reference), TEEC_ERROR_BAD_PARAMETERS, 4);
}

CASE(self_tests)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, TESTS_PTA);

    check_answer(invoke(fd, session, CMD_SELF_TESTS, 0, NULL), TEEC_SUCCESS, 4);
}

CASE(only_tas_may_use_the_system_pseudo_ta)
{
    int fd = tee_open();

    for (int i = 0; i < 3; i++)
        check_answer(open_session(fd, SYSTEM_PTA, 0, NULL), TEEC_ERROR_ACCESS_DENIED, 4);
}

CASE(a_client_cannot_say_that_it_is_a_ta)
{
    int fd = tee_open();
    struct open_options options = {.login = 0xF0000000}; /* TEE_LOGIN_TRUSTED_APP */
    struct answer answer = open_session_with(fd, SYSTEM_PTA, &options, 0, NULL);

    CHECK(answer.error || answer.ret == TEEC_ERROR_ACCESS_DENIED || answer.origin != 4);
    CHECK(answer.error || answer.ret != TEEC_SUCCESS);
}

CASE(sessions_of_another_context)
{
    int fd = tee_open(), other = tee_open();
    __u32 session = must_open_session(fd, TESTS_PTA);

    CHECK_EQ(invoke(other, session, CMD_TRACE, 0, NULL).error, EINVAL);
    CHECK_ERRNO(close_session(other, session), EINVAL);
    check_answer(invoke(fd, session, CMD_TRACE, 0, NULL), TEEC_SUCCESS, 4);
    CHECK_EQ(close_session(fd, session), 0);
    CHECK_EQ(invoke(fd, session, CMD_TRACE, 0, NULL).error, EINVAL);
}

CASE(all_types_of_parameters)
{
    int fd = tee_open();
    struct memory memory = must_alloc(fd, PAGE);
    const char *const uuids[] = {TESTS_PTA, STATS_PTA, DEVICE_PTA};

    for (size_t pta = 0; pta < 3; pta++) {
        __u32 session = must_open_session(fd, uuids[pta]);

        for (__u32 command = 0; command < 16; command++)
            for (unsigned types = 0; types < 64; types++) {
                param_t params[2];

                for (unsigned i = 0; i < 2; i++) {
                    __u64 attr = types >> 3 * i & 7;

                    params[i] = param(attr, 0, 0, 0);
                    if (attr == 4)
                        params[i].attr = 0;
                    else if (attr > 4)
                        params[i] = param(attr, 64 * i, 64, memory.id);
                }
                CHECK_EQ(invoke(fd, session, command, 2, params).error, 0);
            }
        check_answer(invoke(fd, session, 0x7fffffff, 0, NULL),
                     pta == 2 ? 0xFFFF0009u : TEEC_ERROR_BAD_PARAMETERS, 4);
    }
}

CASE(one_writer_at_a_time)
{
    pid_t children[4];

    for (int i = 0; i < 4; i++) {
        children[i] = must_fork();
        if (!children[i]) {
            int fd = tee_open();
            __u32 session = must_open_session(fd, TESTS_PTA);

            for (int n = 0; n < 10; n++) {
                param_t params[2] = {value_in(i % 2 ? WRITER : READER, 2000), value_out()};

                check_answer(invoke(fd, session, CMD_MUTEX, 2, params), TEEC_SUCCESS, 4);
                if (i % 2)
                    CHECK_EQ(params[1].b, 1);
                else
                    CHECK(params[1].b == 1 || params[1].b == 2);
            }
            exit(0);
        }
    }
    for (int i = 0; i < 4; i++)
        must_succeed(children[i]);
}

CASE(who_dies_in_the_middle)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, TESTS_PTA);
    struct gate gate = new_gate();

    for (int n = 0; n < 5; n++) {
        pid_t child = must_fork();

        if (!child) {
            int mine = tee_open();
            __u32 other = must_open_session(mine, TESTS_PTA);
            param_t params[2] = {value_in(WRITER, 1 << 18), value_out()};

            gate_send(&gate, 1);
            invoke(mine, other, CMD_MUTEX, 2, params);
            pause();
        }
        gate_receive(&gate);
        must_kill(child);
    }
    /* Whoever has the lock lets go of it. */
    param_t params[2] = {value_in(WRITER, 10), value_out()};

    check_answer(invoke(fd, session, CMD_MUTEX, 2, params), TEEC_SUCCESS, 4);
    CHECK_EQ(params[1].b, 1);
}
