/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A context is an open file: it ends with its last descriptor, wherever its duplicates went, and
 * not before. What is watched is a session in it, through tests/services/sessions.py; each case has
 * a tag of its own for its sessions.
 */
#include "tee_client.h"

#include <pthread.h>
#include <sched.h>

enum { SESSIONS_COUNT, SESSIONS_TAG };

static __u32 open_tagged(int fd, __u32 tag)
{
    param_t params[1] = {value_in(tag, 0)};
    struct answer answer = open_session(fd, SESSIONS, 1, params);

    CHECK_ANSWER(answer, TEEC_SUCCESS);
    return answer.session;
}

static __u32 my_tag(void)
{
    return (__u32)getpgrp(); /* a case has a process group of its own */
}

/* The context of ``fd`` is the one that ``session`` was opened in. */
static void check_alive(int fd, __u32 session)
{
    param_t params[1] = {value_inout(0, 0)};

    CHECK_ANSWER(invoke(fd, session, SESSIONS_TAG, 1, params), TEEC_SUCCESS);
    CHECK_EQ(params[0].a, my_tag());
}

/* Another client, which sees how many sessions are open. */

static struct {
    int fd;
    __u32 session;
} watcher = {.fd = -1};

static unsigned int count_sessions(__u32 tag)
{
    param_t params[1] = {value_inout(tag, 0)};

    if (watcher.fd < 0) {
        watcher.fd = tee_open();
        watcher.session = must_open_session(watcher.fd, SESSIONS);
    }
    CHECK_ANSWER(invoke(watcher.fd, watcher.session, SESSIONS_COUNT, 1, params), TEEC_SUCCESS);
    return (unsigned int)params[0].a;
}

static void wait_all_ended(void)
{
    WAIT_UNTIL(count_sessions(my_tag()) == 0);
}

/*
 * Ends are noticed in their order. So when the end of a context that was closed later is known, the
 * one before would be known as well, if it were one.
 */
static void check_not_ended(unsigned int sessions)
{
    const __u32 tag = my_tag() + (1u << 30);
    int fd = tee_open();

    open_tagged(fd, tag);
    close(fd);
    WAIT_UNTIL(count_sessions(tag) == 0);
    CHECK_EQ(count_sessions(my_tag()), sessions);
}

HELPER(use_context) /* FD SESSION TAG */
{
    param_t params[1] = {value_inout(0, 0)};

    CHECK_ANSWER(
        invoke(atoi(argv[1]), (__u32)strtoul(argv[2], NULL, 0), SESSIONS_TAG, 1, params),
        TEEC_SUCCESS);
    CHECK_EQ(params[0].a, strtoul(argv[3], NULL, 0));
}

HELPER(first_ioctl) /* FD TAG: this program is the first to use it */
{
    open_tagged(atoi(argv[1]), (__u32)strtoul(argv[2], NULL, 0));
}

HELPER(not_open) /* FD GATE-OUT GATE-IN: stay until told */
{
    struct gate out = {{-1, atoi(argv[2])}}, in = {{atoi(argv[3]), -1}};
    struct tee_ioctl_version_data data;

    CHECK_ERRNO(ioctl(atoi(argv[1]), TEE_IOC_VERSION, &data), EBADF);
    gate_send(&out, 1);
    gate_receive(&in);
}

static const char *number(char text[16], long value)
{
    snprintf(text, 16, "%ld", value);
    return text;
}

/* In one process. */

CASE(ends_with_close)
{
    int fd = tee_open();

    open_tagged(fd, my_tag());
    CHECK_EQ(count_sessions(my_tag()), 1);
    close(fd);
    wait_all_ended();
}

CASE(ends_with_all_its_sessions)
{
    int fd = tee_open();

    for (int i = 0; i < 50; i++)
        open_tagged(fd, my_tag());
    CHECK_EQ(count_sessions(my_tag()), 50);
    close(fd);
    wait_all_ended();
}

CASE(ends_without_ever_being_used)
{
    int fd = tee_open();

    close(fd);
    CHECK_EQ(tee_open(), fd);
}

CASE(each_open_is_a_context_of_its_own)
{
    int first = tee_open(), second = tee_open();
    __u32 session = open_tagged(first, my_tag());

    open_tagged(second, my_tag());
    CHECK_EQ(invoke(second, session, SESSIONS_TAG, 0, NULL).error, EINVAL);
    close(second);
    WAIT_UNTIL(count_sessions(my_tag()) == 1);
    check_alive(first, session);
}

CASE(many_contexts_end_together)
{
    enum { MANY = 200 };

    for (int i = 0; i < MANY; i++)
        open_tagged(tee_open(), my_tag());
    CHECK_EQ(count_sessions(my_tag()), MANY);
    for (int fd = 3; fd < MANY + 16; fd++)
        if (fd != watcher.fd && fd != REPORT_FD)
            close(fd);
    wait_all_ended();
}

static int duplicate_dup(int fd)
{
    return dup(fd);
}

static int duplicate_dup2(int fd)
{
    return dup2(fd, 200);
}

static int duplicate_fcntl(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 300);
}

static int (*const duplicate[])(int) = {duplicate_dup, duplicate_dup2, duplicate_fcntl};
#define N_DUPLICATE (sizeof(duplicate) / sizeof(duplicate[0]))

CASE(a_duplicate_keeps_it)
{
    for (size_t i = 0; i < N_DUPLICATE; i++) {
        int fd = tee_open();
        __u32 session = open_tagged(fd, my_tag());
        int other = duplicate[i](fd);

        CHECK(other >= 0);
        close(fd);
        check_not_ended(1);
        check_alive(other, session);
        close(other);
        wait_all_ended();
    }
}

CASE(a_duplicate_made_before_the_first_ioctl_is_the_same_context)
{
    for (size_t i = 0; i < N_DUPLICATE; i++) {
        int fd = tee_open();
        int other = duplicate[i](fd);
        __u32 session = open_tagged(fd, my_tag());

        check_alive(other, session);
        close(fd);
        check_alive(other, session);
        close(other);
        wait_all_ended();
    }
}

CASE(a_duplicate_made_before_the_first_ioctl_keeps_it_unused)
{
    for (size_t i = 0; i < N_DUPLICATE; i++) {
        int fd = tee_open();
        int other = duplicate[i](fd);

        open_tagged(fd, my_tag());
        close(fd);
        check_not_ended(1);
        close(other);
        wait_all_ended();
    }
}

CASE(a_duplicate_made_before_the_first_ioctl_and_used_at_the_end)
{
    int fd = tee_open();
    int other = dup(fd), third = dup(fd);
    __u32 session = open_tagged(fd, my_tag());

    close(fd);
    check_not_ended(1);
    check_alive(other, session);
    close(other);
    check_not_ended(1);
    check_alive(third, session);
    close(third);
    wait_all_ended();
}

CASE(the_used_one_outlives_its_duplicates)
{
    int fd = tee_open();
    int before = dup(fd);
    __u32 session = open_tagged(fd, my_tag());
    int after = dup(fd);

    close(before);
    close(after);
    check_not_ended(1);
    check_alive(fd, session);
    close(fd);
    wait_all_ended();
}

CASE(dup2_over_the_last_descriptor_ends_it)
{
    int fd = tee_open(), null = must_open("/dev/null", O_RDWR);
    struct tee_ioctl_version_data data;

    open_tagged(fd, my_tag());
    CHECK_EQ(dup2(null, fd), fd);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_VERSION, &data), ENOTTY);
    wait_all_ended();
    /* And the other way round: a number that meant something else is a context now. */
    int other = tee_open();
    CHECK_EQ(dup2(other, fd), fd);
    check_alive(fd, open_tagged(other, my_tag()));
}

CASE(a_number_used_again_is_another_context)
{
    for (int i = 0; i < 20; i++) {
        int fd = tee_open();
        __u32 session = open_tagged(fd, my_tag());
        int again;

        close(fd);
        again = tee_open();
        CHECK_EQ(again, fd);
        CHECK_EQ(invoke(again, session, SESSIONS_TAG, 0, NULL).error, EINVAL);
        close(again);
        wait_all_ended();
    }
}

static void *open_in_a_thread(void *fd)
{
    *(int *)fd = tee_open();
    open_tagged(*(int *)fd, my_tag());
    return NULL;
}

CASE(the_end_of_the_thread_that_opened_it_is_not_its_end)
{
    pthread_t thread;
    int fd;

    CHECK(pthread_create(&thread, NULL, open_in_a_thread, &fd) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    check_not_ended(1);
    close(fd);
    wait_all_ended();
}

static pthread_barrier_t barrier;
static int race_fd;

static void *race(void *session)
{
    pthread_barrier_wait(&barrier);
    *(__u32 *)session = open_tagged(race_fd, my_tag());
    return NULL;
}

CASE(threads_that_race_for_the_first_ioctl_share_the_context)
{
    enum { RACERS = 4 };

    for (int round = 0; round < 10; round++) {
        pthread_t threads[RACERS];
        __u32 sessions[RACERS];

        race_fd = tee_open();
        CHECK(pthread_barrier_init(&barrier, NULL, RACERS) == 0);
        for (int i = 0; i < RACERS; i++)
            CHECK(pthread_create(&threads[i], NULL, race, &sessions[i]) == 0);
        for (int i = 0; i < RACERS; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
        for (int i = 0; i < RACERS; i++)
            check_alive(race_fd, sessions[i]);
        close(race_fd);
        wait_all_ended();
    }
}

static void *own_table(void *unused)
{
    int fd;
    __u32 session;

    CHECK(unshare(CLONE_FILES) == 0);
    close(race_fd); /* here only */
    fd = tee_open();
    CHECK_EQ(fd, race_fd);
    session = open_tagged(fd, my_tag());
    check_alive(fd, session);
    return unused;
}

CASE(a_thread_may_have_descriptors_of_its_own)
{
    pthread_t thread;
    __u32 session;

    count_sessions(0);
    race_fd = tee_open();
    session = open_tagged(race_fd, my_tag());
    CHECK(pthread_create(&thread, NULL, own_table, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    WAIT_UNTIL(count_sessions(my_tag()) == 1);
    check_alive(race_fd, session);
    close(race_fd);
    wait_all_ended();
}

/* fork */

CASE(a_child_keeps_it)
{
    int fd = tee_open();
    __u32 session = open_tagged(fd, my_tag());
    struct gate gate = new_gate();
    pid_t child = must_fork();

    if (!child) {
        gate_receive(&gate);
        check_alive(fd, session);
        _exit(0);
    }
    close(fd);
    check_not_ended(1);
    gate_send(&gate, 1);
    must_succeed(child);
    wait_all_ended();
}

CASE(a_child_shares_what_the_parent_opens_before_its_own_first_ioctl)
{
    int fd = tee_open();
    struct gate gate = new_gate(), back = new_gate();
    pid_t child = must_fork();
    __u32 session;

    if (!child) {
        check_alive(fd, gate_receive(&gate));
        gate_send(&back, open_tagged(fd, my_tag()));
        _exit(0);
    }
    session = open_tagged(fd, my_tag());
    gate_send(&gate, session);
    check_alive(fd, gate_receive(&back));
    must_succeed(child);
    check_not_ended(2);
    close(fd);
    wait_all_ended();
}

CASE(the_parent_closes_before_the_childs_first_ioctl)
{
    int fd = tee_open();
    struct gate gate = new_gate(), back = new_gate();
    pid_t child = must_fork();

    if (!child) {
        gate_receive(&gate);
        gate_send(&back, open_tagged(fd, my_tag()));
        gate_receive(&gate);
        _exit(0);
    }
    close(fd);
    gate_send(&gate, 1);
    gate_receive(&back);
    check_not_ended(1);
    gate_send(&gate, 1);
    must_succeed(child);
    wait_all_ended();
}

CASE(the_parent_uses_and_closes_before_the_childs_first_ioctl)
{
    int fd = tee_open();
    struct gate gate = new_gate();
    pid_t child = must_fork();

    if (!child) {
        check_alive(fd, gate_receive(&gate));
        _exit(0);
    }
    __u32 session = open_tagged(fd, my_tag());
    close(fd);
    check_not_ended(1);
    gate_send(&gate, session);
    must_succeed(child);
    wait_all_ended();
}

CASE(exit_ends_it)
{
    pid_t child = must_fork();

    if (!child) {
        open_tagged(tee_open(), my_tag());
        _exit(0);
    }
    must_succeed(child);
    wait_all_ended();
}

CASE(a_crash_ends_it)
{
    pid_t child = must_fork();

    if (!child) {
        open_tagged(tee_open(), my_tag());
        prctl(PR_SET_DUMPABLE, 0); /* no core file */
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    }
    CHECK(WIFSIGNALED(wait_for(child)));
    wait_all_ended();
}

static void kill_all_holders(bool before_the_first_ioctl)
{
    enum { HOLDERS = 4 };
    struct gate ready = new_gate();
    pid_t children[HOLDERS];
    int fd = tee_open();
    int early = before_the_first_ioctl ? dup(fd) : -1;

    open_tagged(fd, my_tag());
    for (int i = 0; i < HOLDERS; i++) {
        children[i] = must_fork();
        if (!children[i]) {
            dup(fd);
            dup(early);
            gate_send(&ready, 1);
            pause();
        }
    }
    close(fd);
    close(early);
    for (int i = 0; i < HOLDERS; i++)
        gate_receive(&ready);
    for (int i = 0; i < HOLDERS; i++) {
        check_not_ended(1);
        must_kill(children[i]);
    }
    wait_all_ended();
}

CASE(sigkill_of_all_holders_ends_it)
{
    kill_all_holders(false);
}

CASE(sigkill_of_all_holders_of_early_duplicates_ends_it)
{
    kill_all_holders(true);
}

CASE(a_stopped_process_keeps_it)
{
    struct gate ready = new_gate();
    int status;
    pid_t child = must_fork();

    if (!child) {
        open_tagged(tee_open(), my_tag());
        gate_send(&ready, 1);
        raise(SIGSTOP);
        _exit(0);
    }
    gate_receive(&ready);
    CHECK(waitpid(child, &status, WUNTRACED) == child);
    CHECK(WIFSTOPPED(status));
    check_not_ended(1);
    CHECK(kill(child, SIGCONT) == 0);
    must_succeed(child);
    wait_all_ended();
}

CASE(a_zombie_does_not_keep_it)
{
    struct gate ready = new_gate();
    pid_t child = must_fork();

    if (!child) {
        open_tagged(tee_open(), my_tag());
        gate_send(&ready, 1);
        _exit(0);
    }
    gate_receive(&ready);
    wait_all_ended();
    must_succeed(child);
}

/* exec */

CASE(exec_keeps_it)
{
    char fd_text[16], session_text[16], tag_text[16];
    int fd = tee_open();
    __u32 session = open_tagged(fd, my_tag());
    pid_t child = must_fork();

    if (!child)
        exec_helper("use_context", number(fd_text, fd), number(session_text, session),
                    number(tag_text, my_tag()));
    must_succeed(child);
    check_not_ended(1);
    close(fd);
    wait_all_ended();
}

CASE(exec_keeps_it_before_the_first_ioctl)
{
    char fd_text[16], tag_text[16];
    int fd = tee_open();
    pid_t child = must_fork();

    if (!child)
        exec_helper("first_ioctl", number(fd_text, fd), number(tag_text, my_tag()));
    must_succeed(child);
    /* The session lives on in the context that the two share. */
    check_not_ended(1);
    close(fd);
    wait_all_ended();
}

CASE(the_only_process_execs)
{
    char fd_text[16], session_text[16], tag_text[16];
    pid_t child = must_fork();

    if (!child) {
        int fd = tee_open();

        exec_helper("use_context", number(fd_text, fd),
                    number(session_text, open_tagged(fd, my_tag())), number(tag_text, my_tag()));
    }
    must_succeed(child);
    wait_all_ended();
}

static void exec_closes(bool used, bool by_fcntl)
{
    char fd_text[16], out_text[16], in_text[16];
    struct gate out = new_gate(), in = new_gate();
    pid_t child = must_fork();

    if (!child) {
        int fd = must_open(TEE0, O_RDWR | (by_fcntl ? 0 : O_CLOEXEC));

        if (by_fcntl && !used)
            CHECK(fcntl(fd, F_SETFD, FD_CLOEXEC) == 0);
        if (used)
            open_tagged(fd, my_tag());
        if (by_fcntl && used)
            CHECK(fcntl(fd, F_SETFD, FD_CLOEXEC) == 0);
        CHECK(fcntl(out.fds[1], F_SETFD, 0) == 0 && fcntl(in.fds[0], F_SETFD, 0) == 0);
        exec_helper("not_open", number(fd_text, fd), number(out_text, out.fds[1]),
                    number(in_text, in.fds[0]));
    }
    gate_receive(&out);
    wait_all_ended(); /* while the process lives */
    gate_send(&in, 1);
    must_succeed(child);
}

CASE(exec_closes_it_with_O_CLOEXEC)
{
    exec_closes(true, false);
}

CASE(exec_closes_it_with_O_CLOEXEC_before_the_first_ioctl)
{
    exec_closes(false, false);
}

CASE(exec_closes_it_with_FD_CLOEXEC)
{
    exec_closes(true, true);
}

CASE(exec_closes_it_with_FD_CLOEXEC_before_the_first_ioctl)
{
    exec_closes(false, true);
}

/* Descriptors in messages. */

static void new_sockets(int sockets[2])
{
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
}

CASE(a_message_in_flight_keeps_it)
{
    int fd = tee_open(), sockets[2], received;
    __u32 session = open_tagged(fd, my_tag());

    new_sockets(sockets);
    send_fd(sockets[0], fd);
    close(fd);
    check_not_ended(1);
    received = receive_fd(sockets[1]);
    check_alive(received, session);
    close(received);
    wait_all_ended();
}

CASE(a_message_sent_before_the_first_ioctl_keeps_it)
{
    int fd = tee_open(), sockets[2], received;
    __u32 session;

    new_sockets(sockets);
    send_fd(sockets[0], fd);
    session = open_tagged(fd, my_tag());
    close(fd);
    check_not_ended(1);
    received = receive_fd(sockets[1]);
    check_alive(received, session);
    close(received);
    wait_all_ended();
}

CASE(a_message_to_another_process_carries_it)
{
    int sockets[2];
    struct gate gate = new_gate();
    pid_t child;

    new_sockets(sockets);
    child = must_fork();
    if (!child) {
        int received = receive_fd(sockets[1]);

        check_alive(received, gate_receive(&gate));
        _exit(0);
    }
    int fd = tee_open();
    __u32 session = open_tagged(fd, my_tag());
    send_fd(sockets[0], fd);
    close(fd);
    gate_send(&gate, session);
    must_succeed(child);
    wait_all_ended();
}

CASE(a_parked_descriptor_leaks_nothing)
{
    int fd = tee_open(), sockets[2];

    new_sockets(sockets);
    open_tagged(fd, my_tag());
    for (int i = 0; i < 20; i++)
        send_fd(sockets[0], fd);
    close(fd);
    close(sockets[0]);
    check_not_ended(1);
    close(sockets[1]);
    wait_all_ended();
}

CASE(a_descriptor_parked_before_the_first_ioctl_leaks_nothing)
{
    int fd = tee_open(), sockets[2];

    new_sockets(sockets);
    send_fd(sockets[0], fd);
    open_tagged(fd, my_tag());
    close(fd);
    check_not_ended(1);
    close(sockets[0]);
    close(sockets[1]);
    wait_all_ended();
}

CASE(a_descriptor_parked_in_its_own_socket_leaks_nothing)
{
    int fd = tee_open(), sockets[2];

    /* The socket is in flight inside itself: the kernel collects such cycles when a socket closes. */
    new_sockets(sockets);
    open_tagged(fd, my_tag());
    send_fd(sockets[0], fd);
    send_fd(sockets[0], sockets[1]);
    close(fd);
    close(sockets[1]);
    close(sockets[0]);
    for (int i = 0; i < 2; i++) { /* the collection runs with the next closes */
        new_sockets(sockets);
        close(sockets[0]);
        close(sockets[1]);
    }
    wait_all_ended();
}

/* Calls under way. */

static void *invoke_in_a_thread(void *session)
{
    param_t params[1] = {value_inout(0, 0)};
    int fd = race_fd;

    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 200; i++) {
        struct answer answer = invoke(fd, *(__u32 *)session, SESSIONS_TAG, 1, params);

        /* The other thread closed it, or it even is another context by now. */
        if (answer.error && answer.error != EBADF && answer.error != EINVAL &&
            answer.error != ENOTTY)
            FAIL("errno %d", answer.error);
    }
    return NULL;
}

CASE(closing_while_another_thread_calls)
{
    for (int round = 0; round < 10; round++) {
        pthread_t thread;
        __u32 session;

        race_fd = tee_open();
        session = open_tagged(race_fd, my_tag());
        CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
        CHECK(pthread_create(&thread, NULL, invoke_in_a_thread, &session) == 0);
        pthread_barrier_wait(&barrier);
        close(race_fd);
        CHECK(pthread_join(thread, NULL) == 0);
        wait_all_ended();
    }
}

/* In the kernel all has ended when close() returns: what was in use can be had at once. */

CASE(the_one_session_of_a_service_is_free_after_close)
{
    int holder = tee_open();
    __u32 session = must_open_session(holder, SINGLE);

    CHECK_EQ(open_session(tee_open(), SINGLE, 0, NULL).ret, TEEC_ERROR_BUSY);
    CHECK_EQ(close_session(holder, session), 0);
    for (int i = 0; i < 10; i++) {
        int fd = tee_open();

        must_open_session(fd, SINGLE);
        close(fd);
    }
}

CASE(the_one_session_of_a_service_is_free_after_the_end_of_its_client)
{
    for (int i = 0; i < 10; i++) {
        pid_t child = must_fork();

        if (!child) {
            must_open_session(tee_open(), SINGLE);
            if (i % 2)
                raise(SIGKILL);
            _exit(0);
        }
        wait_for(child);
    }
    must_open_session(tee_open(), SINGLE);
}

/* A result that cannot be delivered. */

CASE(a_session_that_the_client_cannot_learn_of_is_closed)
{
    int fd = tee_open();
    struct tee_ioctl_open_session_arg *arg = new_pages(1);

    parse_uuid(SESSIONS, arg->uuid);
    arg->num_params = 1;
    arg->params[0] = value_in(my_tag(), 0);
    make_readonly(arg, 1);
    for (int i = 1; i <= 3; i++) {
        param_t params[1] = {value_inout(my_tag(), 0)};

        CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_OPEN_SESSION, arg, sizeof(*arg) + sizeof(param_t)),
                    EFAULT);
        wait_all_ended();
        CHECK_ANSWER(invoke(watcher.fd, watcher.session, SESSIONS_COUNT, 1, params), TEEC_SUCCESS);
        CHECK_EQ(params[0].b, i); /* it had been open */
    }
    /* The same arg is good again once it can be written. */
    CHECK(mprotect(arg, PAGE, PROT_READ | PROT_WRITE) == 0);
    CHECK_EQ(buf_ioctl(fd, TEE_IOC_OPEN_SESSION, arg, sizeof(*arg) + sizeof(param_t)), 0);
    CHECK_EQ(count_sessions(my_tag()), 1);
}

CASE(a_client_killed_while_it_opens_sessions_leaves_none)
{
    for (int round = 0; round < 10; round++) {
        struct gate ready = new_gate();
        pid_t child = must_fork();

        if (!child) {
            int fd = tee_open();

            open_tagged(fd, my_tag());
            gate_send(&ready, 1);
            for (;;)
                open_tagged(fd, my_tag());
        }
        gate_receive(&ready);
        must_kill(child);
        wait_all_ended();
        close(ready.fds[0]);
        close(ready.fds[1]);
    }
}
