/* SPDX-License-Identifier: BSD-2-Clause */
/* Services that call services: tests/services/relay.py, the example echo, and the waiter. */
#include "tee_client.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#define RELAY "7e1a4000-5b6c-4d7e-8f90-a1b2c3d4e505"

enum { RELAY_ECHO, RELAY_DEEPER, RELAY_WAIT, RELAY_DEADLINE, RELAY_PANIC, RELAY_DIE };
enum { ENTERED = 1, CANCELLED, DONE }; /* what the waiter says in the first byte */

#define TEEC_ERROR_OUT_OF_MEMORY 0xFFFF000Cu

CASE(memory_goes_through_two_services)
{
    int fd = must_open(TEE0, O_RDWR);
    struct memory memory = must_alloc(fd, 16 * PAGE);
    __u32 session = must_open_session(fd, RELAY);

    for (size_t i = 0; i < 8 * PAGE; i++)
        memory.bytes[i] = (unsigned char)(i * 7 + i / 251);
    for (size_t size = 1; size <= 7 * PAGE; size = size * 5 + 1) {
        memset(memory.bytes + 8 * PAGE, 0, 8 * PAGE);
        param_t params[2] = {memref_in(memory.id, 3, size),
                             memref_out(memory.id, 8 * PAGE, 8 * PAGE)};
        CHECK_ANSWER(invoke(fd, session, RELAY_ECHO, 2, params), TEEC_SUCCESS);
        CHECK_EQ(params[1].b, size);
        CHECK(memcmp(memory.bytes + 3, memory.bytes + 8 * PAGE, size) == 0);
        CHECK_EQ(memory.bytes[8 * PAGE + size], 0);
    }
}

CASE(a_short_buffer_comes_back_through_two_services)
{
    int fd = must_open(TEE0, O_RDWR);
    struct memory memory = must_alloc(fd, PAGE);
    __u32 session = must_open_session(fd, RELAY);
    param_t params[2] = {memref_in(memory.id, 0, 100), memref_out(memory.id, 200, 10)};
    struct answer answer = invoke(fd, session, RELAY_ECHO, 2, params);

    CHECK_ANSWER(answer, TEEC_ERROR_SHORT_BUFFER);
    CHECK_EQ(answer.origin, TEEC_ORIGIN_TRUSTED_APP);
    CHECK_EQ(params[1].b, 100);
}

CASE(recursion_ends_at_four)
{
    int fd = must_open(TEE0, O_RDWR);
    param_t value = value_out();

    CHECK_ANSWER(invoke(fd, must_open_session(fd, RELAY), RELAY_DEEPER, 1, &value), TEEC_SUCCESS);
    CHECK_EQ(value.a, 4);
    CHECK_EQ(value.b, TEEC_ERROR_OUT_OF_MEMORY);
}

CASE(a_panic_of_the_called_is_no_panic_of_the_caller)
{
    int fd = must_open(TEE0, O_RDWR);
    __u32 session = must_open_session(fd, RELAY);

    for (int i = 0; i < 2; i++) {
        param_t value = value_out();

        CHECK_ANSWER(invoke(fd, session, RELAY_PANIC, 1, &value), TEEC_SUCCESS);
        CHECK_EQ(value.a, TEEC_ERROR_TARGET_DEAD);
        CHECK_EQ(value.b, TEEC_ORIGIN_TEE);
    }
    struct answer answer = invoke(fd, session, RELAY_DIE, 0, NULL);
    CHECK_ANSWER(answer, TEEC_ERROR_TARGET_DEAD);
    CHECK_EQ(answer.origin, TEEC_ORIGIN_TEE);
    must_open_session(fd, RELAY);
}

CASE(a_deadline_ends_the_called)
{
    int fd = must_open(TEE0, O_RDWR);
    struct memory memory = must_alloc(fd, PAGE);
    param_t state = memref_inout(memory.id, 0, 16);
    struct answer answer = invoke(fd, must_open_session(fd, RELAY), RELAY_DEADLINE, 1, &state);

    CHECK_ANSWER(answer, TEEC_ERROR_CANCEL);
    CHECK_EQ(answer.origin, TEEC_ORIGIN_TRUSTED_APP);
    CHECK_EQ(memory.bytes[0], CANCELLED);
}

struct call {
    int fd;
    __u32 session;
    param_t state;
    struct answer answer;
    _Atomic bool done;
};

static void *run_call(void *data)
{
    struct call *call = data;

    call->answer = invoke_id(call->fd, call->session, RELAY_WAIT, 9, 1, &call->state);
    call->done = true;
    return NULL;
}

CASE(a_cancellation_goes_through_two_services)
{
    int fd = must_open(TEE0, O_RDWR);
    struct memory memory = must_alloc(fd, PAGE);
    struct call call = {.fd = fd, .session = must_open_session(fd, RELAY),
                        .state = memref_inout(memory.id, 0, 16)};
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, run_call, &call) == 0);
    WAIT_UNTIL(((volatile unsigned char *)memory.bytes)[1]);
    WAIT_UNTIL((cancel(fd, call.session, 9), call.done));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_ANSWER(call.answer, TEEC_ERROR_CANCEL);
    CHECK_EQ(memory.bytes[0], CANCELLED);
}

CASE(a_client_that_dies_leaves_nobody_waiting)
{
    int fd = must_open(TEE0, O_RDWR);
    struct memory memory = must_alloc(fd, PAGE);
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        int own = open(TEE0, O_RDWR | O_CLOEXEC);
        struct memory mine = must_alloc(own, PAGE);
        param_t state = memref_inout(mine.id, 0, 16);
        __u32 session = must_open_session(own, RELAY);

        memory.bytes[0] = 1;
        invoke(own, session, RELAY_WAIT, 1, &state);
        _exit(1);
    }
    WAIT_UNTIL(((volatile unsigned char *)memory.bytes)[0]);
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK(waitpid(child, NULL, 0) == child);
    /* The services go on for others. */
    param_t value = value_out();
    CHECK_ANSWER(invoke(fd, must_open_session(fd, RELAY), RELAY_DEEPER, 1, &value), TEEC_SUCCESS);
    CHECK_EQ(value.a, 4);
}
