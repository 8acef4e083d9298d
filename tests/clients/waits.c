/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Commands that last: how they end when they are cancelled, or when who called is gone. Some run on
 * a loopback device, those of tests/services/waiter.py on a software TEE: both are there.
 */
#include "tee_client.h"

#include <pthread.h>

#define SOFT "/dev/tee0"
#define LOOPBACK "/dev/tee1"

enum { WAITER_WAIT, WAITER_POLL, WAITER_MASKED, WAITER_ANSWER };
enum { ENTERED = 1, CANCELLED, DONE }; /* what the waiter says in the first byte */

/* A call in a thread of its own. */
struct call {
    pthread_t thread;
    int fd;
    __u32 session, func, cancel_id;
    size_t n;
    param_t params[4];
    struct answer answer;
    _Atomic pid_t tid;
    _Atomic bool done;
};

static void *run_call(void *data)
{
    struct call *call = data;

    call->tid = gettid();
    call->answer = invoke_id(call->fd, call->session, call->func, call->cancel_id, call->n,
                             call->params);
    call->done = true;
    return NULL;
}

static void start(struct call *call)
{
    CHECK(pthread_create(&call->thread, NULL, run_call, call) == 0);
}

static struct answer finish(struct call *call)
{
    WAIT_UNTIL(call->done);
    CHECK(pthread_join(call->thread, NULL) == 0);
    return call->answer;
}

/* Whether a task is inside TEE_IOC_INVOKE. */
static bool is_calling(pid_t task)
{
    char path[64], text[128] = "";
    int file;
    ssize_t got;

    snprintf(path, sizeof(path), "/proc/%d/syscall", task);
    file = open(path, O_RDONLY);
    got = file >= 0 ? read(file, text, sizeof(text) - 1) : 0;
    close(file);
    text[got > 0 ? got : 0] = 0;
    return strstr(text, " 0x8010a403 ") != NULL;
}

static volatile unsigned char *shared_state(int fd, int *id)
{
    struct memory memory = must_alloc(fd, PAGE);

    *id = memory.id;
    return memory.bytes;
}

/* Cancellation. */

CASE(a_cancellation_ends_a_command_of_another_thread)
{
    int fd = must_open(SOFT, O_RDWR), id;
    volatile unsigned char *state = shared_state(fd, &id);
    struct call call = {.fd = fd, .session = must_open_session(fd, WAITER), .func = WAITER_WAIT,
                        .cancel_id = 5, .n = 1, .params = {memref_inout(id, 0, 16)}};

    start(&call);
    WAIT_UNTIL(state[0] == ENTERED);
    CHECK_EQ(cancel(fd, call.session, 5), 0);
    struct answer answer = finish(&call);
    CHECK_EQ(answer.error, 0);
    CHECK_EQ(answer.ret, TEEC_ERROR_CANCEL);
    CHECK_EQ(answer.origin, TEEC_ORIGIN_TRUSTED_APP);
    CHECK_EQ(state[0], CANCELLED);
    /* The session is as good as before, and no cancellation is left over. */
    state[0] = 0;
    struct call again = call;
    again.done = false;
    start(&again);
    WAIT_UNTIL(state[0] == ENTERED);
    CHECK(!again.done);
    CHECK_EQ(cancel(fd, call.session, 5), 0);
    CHECK_ANSWER(finish(&again), TEEC_ERROR_CANCEL);
}

CASE(a_cancellation_reaches_a_driver_that_waits)
{
    int fd = must_open(LOOPBACK, O_RDWR);
    struct call call = {.fd = fd, .session = must_open_session(fd, ANY), .func = WAIT,
                        .cancel_id = 5};

    start(&call);
    WAIT_UNTIL((cancel(fd, call.session, 5), call.done));
    CHECK_ANSWER(finish(&call), TEEC_ERROR_CANCEL);
}

CASE(a_cancellation_means_one_id_of_one_session)
{
    int fd = must_open(SOFT, O_RDWR), id;
    volatile unsigned char *state = shared_state(fd, &id);
    struct call call = {.fd = fd, .session = must_open_session(fd, WAITER), .func = WAITER_ANSWER,
                        .cancel_id = 5, .n = 1, .params = {memref_inout(id, 0, 16)}};
    __u32 other = must_open_session(fd, WAITER);

    start(&call);
    WAIT_UNTIL(state[0] == ENTERED);
    CHECK_EQ(cancel(fd, call.session, 4), 0);
    CHECK_EQ(cancel(fd, other, 5), 0);
    CHECK_EQ(cancel(fd, 0, 5), 0);
    state[1] = 'n';
    CHECK_ANSWER(finish(&call), TEEC_SUCCESS);
    CHECK_EQ(state[2], 'n');
}

CASE(a_service_that_masks_cancellation_is_not_disturbed)
{
    int fd = must_open(SOFT, O_RDWR), id;
    volatile unsigned char *state = shared_state(fd, &id);
    struct call call = {.fd = fd, .session = must_open_session(fd, WAITER), .func = WAITER_MASKED,
                        .cancel_id = 1, .n = 1, .params = {memref_inout(id, 0, 16)}};

    start(&call);
    WAIT_UNTIL(state[0] == ENTERED);
    CHECK_EQ(cancel(fd, call.session, 1), 0);
    CHECK_ANSWER(finish(&call), TEEC_SUCCESS);
    CHECK_EQ(state[0], DONE);
}

CASE(a_service_sees_the_cancellation_flag)
{
    int fd = must_open(SOFT, O_RDWR), id;
    volatile unsigned char *state = shared_state(fd, &id);
    struct call call = {.fd = fd, .session = must_open_session(fd, WAITER), .func = WAITER_POLL,
                        .cancel_id = 1, .n = 1, .params = {memref_inout(id, 0, 16)}};

    start(&call);
    WAIT_UNTIL(state[0] == ENTERED);
    CHECK_EQ(cancel(fd, call.session, 1), 0);
    CHECK_ANSWER(finish(&call), TEEC_SUCCESS);
    CHECK_EQ(state[0], DONE);
}

CASE(a_command_that_waits_for_its_turn_is_cancelled_by_the_TEE)
{
    int fd = must_open(SOFT, O_RDWR), id;
    volatile unsigned char *state = shared_state(fd, &id);
    struct call first = {.fd = fd, .session = must_open_session(fd, WAITER), .func = WAITER_ANSWER,
                         .cancel_id = 1, .n = 1, .params = {memref_inout(id, 0, 16)}};
    struct call second = first;

    second.cancel_id = 2;
    start(&first);
    WAIT_UNTIL(state[0] == ENTERED);
    start(&second);
    WAIT_UNTIL((cancel(fd, second.session, 2), second.done));
    CHECK_EQ(finish(&second).origin, TEEC_ORIGIN_TEE);
    CHECK_EQ(second.answer.ret, TEEC_ERROR_CANCEL);
    CHECK(!first.done);
    state[1] = 1;
    CHECK_ANSWER(finish(&first), TEEC_SUCCESS);
}

struct open_call {
    pthread_t thread;
    int fd, id;
    struct answer answer;
    _Atomic bool done;
};

static void *run_open(void *data)
{
    struct open_call *call = data;
    struct open_options options = {.cancel_id = 77};
    param_t params[1] = {memref_inout(call->id, 0, 16)};

    call->answer = open_session_with(call->fd, WAITER, &options, 1, params);
    call->done = true;
    return NULL;
}

CASE(an_open_under_way_is_cancelled_with_session_0)
{
    struct open_call call = {.fd = must_open(SOFT, O_RDWR)};
    volatile unsigned char *state = shared_state(call.fd, &call.id);

    CHECK(pthread_create(&call.thread, NULL, run_open, &call) == 0);
    WAIT_UNTIL(state[0] == ENTERED);
    CHECK_EQ(cancel(call.fd, 0, 77), 0);
    WAIT_UNTIL(call.done);
    CHECK_ANSWER(call.answer, TEEC_ERROR_CANCEL);
}

/* Waiting without harm to others. */

CASE(a_command_that_waits_holds_up_nobody)
{
    int fd = must_open(SOFT, O_RDWR), id;
    volatile unsigned char *state = shared_state(fd, &id);
    struct call call = {.fd = fd, .session = must_open_session(fd, WAITER), .func = WAITER_ANSWER,
                        .n = 1, .params = {memref_inout(id, 0, 16)}};
    __u32 echo = must_open_session(fd, ECHO);
    struct tee_ioctl_version_data version;

    start(&call);
    WAIT_UNTIL(state[0] == ENTERED);
    for (int i = 0; i < 100; i++) {
        CHECK_ANSWER(invoke(fd, echo, 2, 0, NULL), TEEC_SUCCESS);
        CHECK_EQ(ioctl(fd, TEE_IOC_VERSION, &version), 0);
    }
    CHECK(!call.done);
    state[1] = 1;
    CHECK_ANSWER(finish(&call), TEEC_SUCCESS);
}

static void answered_live(int fd, int id, volatile unsigned char *state)
{
    struct call call = {.fd = fd, .session = must_open_session(fd, WAITER), .func = WAITER_ANSWER,
                        .n = 1, .params = {memref_inout(id, 0, 16)}};

    start(&call);
    WAIT_UNTIL(state[0] == ENTERED); /* the client sees what the service writes */
    state[1] = 'k';                  /* and the service what the client writes */
    CHECK_ANSWER(finish(&call), TEEC_SUCCESS);
    CHECK_EQ(state[2], 'k');
}

CASE(the_pages_of_allocated_memory_are_shared_while_a_call_runs)
{
    int fd = must_open(SOFT, O_RDWR), id;
    volatile unsigned char *state = shared_state(fd, &id);

    answered_live(fd, id, state);
}

CASE(the_pages_of_a_sealed_memfd_are_shared_while_a_call_runs)
{
    int fd = must_open(SOFT, O_RDWR), id, memory = memfd_create("client", MFD_ALLOW_SEALING);
    void *state;

    CHECK(ftruncate(memory, PAGE) == 0);
    CHECK(fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
    state = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    CHECK(state != MAP_FAILED);
    CHECK(shm_register_fd(fd, memory, &id) >= 0);
    close(memory);
    answered_live(fd, id, state);
}

/* Who called is gone. */

CASE(a_command_ends_with_its_caller)
{
    int fd = must_open(SOFT, O_RDWR), id;
    volatile unsigned char *state = shared_state(fd, &id);
    __u32 session = must_open_session(fd, WAITER);
    param_t params[1] = {memref_inout(id, 0, 16)};
    pid_t child = must_fork();

    if (!child) {
        invoke(fd, session, WAITER_WAIT, 1, params);
        FAIL("it returned");
    }
    WAIT_UNTIL(state[0] == ENTERED);
    must_kill(child);
    /* The context is the parent's too; the command was the child's. */
    WAIT_UNTIL(state[0] == CANCELLED);
    state[0] = 0;
    state[1] = 1;
    CHECK_ANSWER(invoke(fd, session, WAITER_ANSWER, 1, params), TEEC_SUCCESS);
}

CASE(a_command_ends_with_its_context)
{
    int sockets[2];
    pid_t child;

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    child = must_fork();
    if (!child) {
        int fd = must_open(SOFT, O_RDWR);
        struct memory memory = must_alloc(fd, PAGE);
        param_t params[1] = {memref_inout(memory.id, 0, 16)};

        send_fd(sockets[1], memory.fd); /* the memory is the parent's too, the context is not */
        invoke(fd, must_open_session(fd, WAITER), WAITER_WAIT, 1, params);
        FAIL("it returned");
    }
    int shm = receive_fd(sockets[0]);
    volatile unsigned char *state = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, shm, 0);
    CHECK(state != MAP_FAILED);
    WAIT_UNTIL(state[0] == ENTERED);
    must_kill(child);
    WAIT_UNTIL(state[0] == CANCELLED);
}

CASE(a_call_into_a_driver_that_waits_ends_with_its_caller)
{
    int fd = must_open(LOOPBACK, O_RDWR);

    for (int round = 0; round < 5; round++) {
        struct gate gate = new_gate();
        pid_t child = must_fork();

        if (!child) {
            int own = must_open(LOOPBACK, O_RDWR);
            __u32 session = must_open_session(own, ANY);

            gate_send(&gate, session);
            invoke(own, session, WAIT, 0, NULL);
            FAIL("it returned");
        }
        __u32 session = gate_receive(&gate);
        WAIT_UNTIL(is_calling(child));
        must_kill(child);
        /* Sessions get the lowest free number: its number is free when it has ended. */
        WAIT_UNTIL(({
            __u32 mine = must_open_session(fd, ANY);

            close_session(fd, mine);
            mine <= session;
        }));
        close(gate.fds[0]);
        close(gate.fds[1]);
    }
    /* And nothing waits there any more. */
    param_t params[1] = {value_out()};
    CHECK_ANSWER(invoke(fd, must_open_session(fd, ANY), RELEASE, 1, params), TEEC_SUCCESS);
    CHECK_EQ(params[0].a, 0);
}

CASE(a_killed_caller_is_killed_at_once)
{
    int fd = must_open(LOOPBACK, O_RDWR);
    __u32 session = must_open_session(fd, ANY);
    pid_t child = must_fork();

    if (!child) {
        invoke(fd, session, WAIT, 0, NULL);
        FAIL("it returned");
    }
    WAIT_UNTIL(is_calling(child));
    must_kill(child); /* waits for it */
}

static void *wait_in_a_thread(void *data)
{
    struct call *call = data;

    call->answer = invoke(call->fd, call->session, call->func, call->n, call->params);
    FAIL("it returned");
}

CASE(exit_of_the_process_ends_commands_of_its_threads)
{
    int fd = must_open(SOFT, O_RDWR), id;
    volatile unsigned char *state = shared_state(fd, &id);
    __u32 session = must_open_session(fd, WAITER);
    pid_t child = must_fork();

    if (!child) {
        struct call call = {.fd = fd, .session = session, .func = WAITER_WAIT, .n = 1,
                            .params = {memref_inout(id, 0, 16)}};

        CHECK(pthread_create(&call.thread, NULL, wait_in_a_thread, &call) == 0);
        WAIT_UNTIL(state[0] == ENTERED);
        _exit(0);
    }
    must_succeed(child);
    WAIT_UNTIL(state[0] == CANCELLED);
}

CASE(exec_ends_commands_of_other_threads_with_the_context)
{
    int sockets[2];
    pid_t child;

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    child = must_fork();
    if (!child) {
        int fd = must_open(SOFT, O_RDWR | O_CLOEXEC);
        struct memory memory = must_alloc(fd, PAGE);
        struct call call = {.fd = fd, .session = must_open_session(fd, WAITER),
                            .func = WAITER_WAIT, .n = 1,
                            .params = {memref_inout(memory.id, 0, 16)}};

        send_fd(sockets[1], memory.fd);
        CHECK(pthread_create(&call.thread, NULL, wait_in_a_thread, &call) == 0);
        WAIT_UNTIL(((volatile unsigned char *)memory.bytes)[0] == ENTERED);
        execl("/bin/sh", "sh", "-c", "kill -STOP $$", NULL);
        FAIL("exec");
    }
    int shm = receive_fd(sockets[0]), status;
    volatile unsigned char *state = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, shm, 0);
    CHECK(state != MAP_FAILED);
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    WAIT_UNTIL(state[0] == CANCELLED); /* while the process lives */
    must_kill(child);
}

CASE(closing_the_descriptor_under_a_call_lets_the_call_go_on)
{
    int fd = must_open(SOFT, O_RDWR), id;
    volatile unsigned char *state = shared_state(fd, &id);
    struct call call = {.fd = fd, .session = must_open_session(fd, WAITER), .func = WAITER_ANSWER,
                        .n = 1, .params = {memref_inout(id, 0, 16)}};

    start(&call);
    WAIT_UNTIL(state[0] == ENTERED);
    close(fd);
    CHECK(!call.done); /* a call holds the open file */
    state[1] = 'd';
    CHECK_ANSWER(finish(&call), TEEC_SUCCESS);
    CHECK_EQ(state[2], 'd');
}

CASE(closing_the_session_under_a_call_of_a_driver_ends_the_call)
{
    int fd = must_open(LOOPBACK, O_RDWR);
    struct call call = {.fd = fd, .session = must_open_session(fd, ANY), .func = WAIT};

    start(&call);
    WAIT_UNTIL(call.tid && is_calling(call.tid));
    CHECK_EQ(close_session(fd, call.session), 0);
    struct answer answer = finish(&call);
    CHECK(answer.error == EINVAL || answer.ret == TEEC_ERROR_TARGET_DEAD);
}

CASE(many_callers_killed_in_the_middle_of_their_calls)
{
    enum { CALLERS = 8 };
    int fd = must_open(SOFT, O_RDWR);
    __u32 session = must_open_session(fd, COUNTER);
    param_t params[1] = {value_out()};

    for (int round = 0; round < 5; round++) {
        pid_t children[CALLERS];
        struct gate gate = new_gate();

        for (int i = 0; i < CALLERS; i++) {
            children[i] = must_fork();
            if (!children[i]) {
                int own = must_open(SOFT, O_RDWR);
                __u32 mine = must_open_session(own, COUNTER);

                gate_send(&gate, 1);
                for (;;)
                    CHECK_ANSWER(invoke(own, mine, 0, 1, params), TEEC_SUCCESS);
            }
        }
        for (int i = 0; i < CALLERS; i++)
            gate_receive(&gate);
        for (int i = 0; i < CALLERS; i++)
            must_kill(children[i]);
        CHECK_ANSWER(invoke(fd, session, 0, 1, params), TEEC_SUCCESS);
        CHECK_EQ(params[0].a, round + 1);
        close(gate.fds[0]);
        close(gate.fds[1]);
    }
}
