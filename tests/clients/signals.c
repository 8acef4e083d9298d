/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Signals while commands run: none is lost, none is done twice. The counter service says how many
 * were done.
 */
#include "tee_client.h"

#include <sys/time.h>

static volatile sig_atomic_t alarms;

static void on_alarm(int number)
{
    (void)number;
    alarms++;
}

static void start_alarms(int flags, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    struct itimerval timer = {.it_interval = {.tv_usec = 150}, .it_value = {.tv_usec = 150}};

    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static void stop_alarms(void)
{
    struct itimerval timer = {0};

    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static struct {
    int fd;
    __u32 session;
} counter;

static void open_counter(void)
{
    counter.fd = tee_open();
    counter.session = must_open_session(counter.fd, COUNTER);
}

/* The count that this command is, or 0 if it was interrupted before it began. */
static unsigned int count(void)
{
    param_t params[1] = {value_out()};
    struct answer answer = invoke(counter.fd, counter.session, 0, 1, params);

    if (answer.error == EINTR)
        return 0;
    CHECK_EQ(answer.error, 0);
    CHECK_EQ(answer.ret, TEEC_SUCCESS);
    return (unsigned int)params[0].a;
}

CASE(interval_timers_with_SA_RESTART)
{
    open_counter();
    start_alarms(SA_RESTART, on_alarm);
    for (unsigned int i = 1; i <= 3000 || alarms < 20; i++)
        CHECK_EQ(count(), i);
    stop_alarms();
}

CASE(interval_timers_without_SA_RESTART)
{
    unsigned int done = 0;

    open_counter();
    start_alarms(0, on_alarm);
    while (done < 3000 || alarms < 20) {
        unsigned int number = count();

        /* An interrupted one was not begun: the next has the next number. */
        if (number)
            CHECK_EQ(number, ++done);
    }
    stop_alarms();
    CHECK_EQ(count(), done + 1);
}

static __u32 handler_session;
static volatile sig_atomic_t handler_count;

static void count_in_handler(int number)
{
    param_t params[1] = {value_out()};

    (void)number;
    if (handler_count >= 200)
        return;
    CHECK_ANSWER(invoke(counter.fd, handler_session, 0, 1, params), TEEC_SUCCESS);
    handler_count = handler_count + 1;
    CHECK_EQ(params[0].a, handler_count);
}

CASE(a_handler_that_calls_too)
{
    open_counter();
    handler_session = must_open_session(counter.fd, COUNTER);
    start_alarms(SA_RESTART, count_in_handler);
    for (unsigned int i = 1; i <= 1000 || handler_count < 200; i++)
        CHECK_EQ(count(), i);
    stop_alarms();
}

CASE(sessions_opened_under_interval_timers)
{
    int fd = tee_open();

    start_alarms(SA_RESTART, on_alarm);
    for (int i = 0; i < 300 || alarms < 20; i++) {
        __u32 session = must_open_session(fd, COUNTER);

        CHECK_EQ(close_session(fd, session), 0);
    }
    stop_alarms();
}

CASE(memory_allocated_under_interval_timers)
{
    int fd = tee_open(), next = dup(fd);

    close(next);
    start_alarms(SA_RESTART, on_alarm);
    for (int i = 0; i < 300 || alarms < 20; i++) {
        int shm = shm_alloc(fd, GIB, NULL, NULL);

        if (shm < 0)
            FAIL("round %d: %s", i, strerror(errno));
        CHECK_EQ(shm, next); /* no descriptor came in twice, none was lost */
        close(shm);
    }
    stop_alarms();
}

CASE(devices_opened_under_interval_timers)
{
    int next = dup(0);

    close(next);
    start_alarms(SA_RESTART, on_alarm);
    for (int i = 0; i < 300 || alarms < 20; i++) {
        struct tee_ioctl_version_data version;
        int fd = tee_open();

        CHECK_EQ(fd, next);
        CHECK_EQ(ioctl(fd, TEE_IOC_VERSION, &version), 0);
        close(fd);
    }
    stop_alarms();
}

enum { WAITER_WAIT, WAITER_POLL, WAITER_MASKED, WAITER_ANSWER };

static void while_waiting(int flags)
{
    int fd = tee_open();
    struct memory memory = must_alloc(fd, PAGE);
    volatile unsigned char *state = memory.bytes;
    param_t params[1] = {memref_inout(memory.id, 0, 16)};
    __u32 session = must_open_session(fd, WAITER);
    pid_t caller = getpid(), child = must_fork();

    if (!child) {
        /* Signals to one that waits in a command, and only then what it waits for. */
        WAIT_UNTIL(state[0] == 1);
        for (int i = 0; i < 20; i++) {
            kill(caller, SIGALRM);
            poll(NULL, 0, 1);
        }
        kill(caller, SIGSTOP);
        kill(caller, SIGCONT);
        state[1] = 's';
        _exit(0);
    }
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = flags};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct answer answer = invoke(fd, session, WAITER_ANSWER, 1, params);
    CHECK_EQ(answer.error, 0);
    CHECK_EQ(answer.ret, TEEC_SUCCESS);
    CHECK_EQ(state[2], 's');
    CHECK(alarms > 0);
    must_succeed(child);
}

CASE(signals_to_a_client_that_waits)
{
    while_waiting(SA_RESTART);
}

CASE(signals_without_SA_RESTART_to_a_client_that_waits)
{
    while_waiting(0);
}

CASE(a_blocked_signal_waits_for_the_command)
{
    sigset_t set, old;

    open_counter();
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    CHECK(sigprocmask(SIG_BLOCK, &set, &old) == 0);
    start_alarms(0, on_alarm);
    for (unsigned int i = 1; i <= 500; i++)
        CHECK_EQ(count(), i);
    CHECK_EQ(alarms, 0);
    stop_alarms();
    CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
    CHECK_EQ(alarms, 1);
}

CASE(ignored_signals_are_nothing)
{
    open_counter();
    start_alarms(0, SIG_IGN);
    for (unsigned int i = 1; i <= 1000; i++)
        CHECK_EQ(count(), i);
    stop_alarms();
}
