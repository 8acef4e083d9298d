/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A client that may trace another one: it takes a duplicate of a descriptor, as in Linux with all that
 * belongs to it, and stops the other one in the middle of calls.
 */
#include "tee_client.h"

#include <sys/ptrace.h>

#define PIDFD_OPEN 434
#define PIDFD_GETFD 438

struct stolen {
    int fd;
    __u32 session;
};

/* A victim, waiting; its context and a session of it. */
static pid_t new_victim(struct gate *gate, struct gate *go_on)
{
    pid_t child = must_fork();

    if (child == 0) {
        int fd = tee_open();
        __u32 session = must_open_session(fd, ANY);

        prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
        gate_send(gate, (__u32)fd);
        gate_send(gate, session);
        gate_receive(go_on);
        CHECK_ANSWER(invoke(fd, session, NOP, 0, NULL), TEEC_SUCCESS);
        _exit(0);
    }
    return child;
}

static struct stolen steal(pid_t victim, struct gate *gate)
{
    int pidfd = (int)syscall(PIDFD_OPEN, victim, 0);
    int number = (int)gate_receive(gate);
    struct stolen stolen = {.session = gate_receive(gate)};

    stolen.fd = (int)syscall(PIDFD_GETFD, pidfd, number, 0);
    if (stolen.fd < 0)
        SKIP("no descriptors of others here: %s", strerror(errno));
    close(pidfd);
    return stolen;
}

CASE(stolen_context)
{
    struct gate gate = new_gate(), go_on = new_gate();
    pid_t victim = new_victim(&gate, &go_on);
    struct stolen stolen = steal(victim, &gate);

    CHECK_ANSWER(invoke(stolen.fd, stolen.session, NOP, 0, NULL), TEEC_SUCCESS);
    gate_send(&go_on, 1);
    must_succeed(victim);
    /* Its last descriptor is here. */
    CHECK_ANSWER(invoke(stolen.fd, stolen.session, NOP, 0, NULL), TEEC_SUCCESS);
}

CASE(stolen_from_the_dead)
{
    struct gate gate = new_gate(), go_on = new_gate();
    pid_t victim = new_victim(&gate, &go_on);
    struct stolen stolen = steal(victim, &gate);

    must_kill(victim);
    CHECK_ANSWER(invoke(stolen.fd, stolen.session, NOP, 0, NULL), TEEC_SUCCESS);
    CHECK(close_session(stolen.fd, stolen.session) == 0);
}

/* Stopped and let go on, at any point of its calls. */
CASE(traced)
{
    struct gate gate = new_gate();
    pid_t victim = must_fork();

    if (victim == 0) {
        int fd = tee_open();
        __u32 session = must_open_session(fd, ANY);

        prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
        gate_send(&gate, 1);
        for (int i = 0; i < 200; i++) {
            param_t value = value_inout((__u64)i, 0);

            CHECK_ANSWER(invoke(fd, session, INCREMENT, 1, &value), TEEC_SUCCESS);
            CHECK_EQ(value.a, i + 1);
            struct memory memory = must_alloc(fd, PAGE);
            CHECK(munmap(memory.bytes, PAGE) == 0);
            CHECK(close(memory.fd) == 0);
        }
        _exit(0);
    }
    gate_receive(&gate);
    if (ptrace(PTRACE_SEIZE, victim, 0, 0))
        SKIP("no tracing here: %s", strerror(errno));
    for (int i = 0; i < 400; i++) {
        int status;

        ptrace(PTRACE_INTERRUPT, victim, 0, 0);
        CHECK(waitpid(victim, &status, 0) == victim);
        if (!WIFSTOPPED(status)) {
            CHECK_EQ(status, 0);
            return;
        }
        ptrace(i % 2 ? PTRACE_CONT : PTRACE_SYSCALL, victim, 0, 0);
    }
    ptrace(PTRACE_INTERRUPT, victim, 0, 0);
    CHECK(waitpid(victim, NULL, 0) == victim);
    ptrace(PTRACE_DETACH, victim, 0, 0);
    must_succeed(victim);
}

/* Signals with a handler, at any point of its calls: each call is repeated or done, never half done. */
static volatile sig_atomic_t signals;

static void count_signal(int number)
{
    (void)number;
    signals++;
}

CASE(interrupted)
{
    struct gate gate = new_gate(), over = new_gate();
    pid_t victim = must_fork();

    if (victim == 0) {
        struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
        int fd = tee_open();
        __u32 session = must_open_session(fd, ANY), first;

        CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
        gate_send(&gate, 1);
        do
            first = must_open_session(fd, ANY);
        while (first < session); /* numbers are the lowest that are free */
        for (int i = 0; i < 500 || !signals; i++) {
            param_t value = value_inout((__u64)i, 0);

            CHECK_ANSWER(invoke(fd, session, INCREMENT, 1, &value), TEEC_SUCCESS);
            CHECK_EQ(value.a, i + 1);
            __u32 other = must_open_session(fd, ANY);
            CHECK(other <= first + 1);
            CHECK(close_session(fd, other) == 0);
        }
        gate_send(&over, 1);
        _exit(0);
    }
    gate_receive(&gate);
    struct pollfd done = {.fd = over.fds[0], .events = POLLIN};
    for (int i = 0; i < 5000 && !poll(&done, 1, 0); i++)
        kill(victim, SIGUSR1);
    must_succeed(victim);
}
