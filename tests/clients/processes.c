/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs of all shapes: threads, children by fork, vfork, posix_spawn and clone, exec from
 * anywhere, orphans. Each of them is a client like any other, and reads and writes its own memory.
 */
#include "tee_client.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>

extern char **environ;

enum { ECHO_COPY, ECHO_UPPER, ECHO_NOTHING };

/* A whole client on a descriptor: session, shared memory, a command that changes it. */
static void use(int fd)
{
    struct tee_ioctl_version_data version = {0};
    __u32 session;
    struct memory memory;
    param_t params[1];

    CHECK_EQ(ioctl(fd, TEE_IOC_VERSION, &version), 0);
    CHECK_EQ(version.impl_id, TEE_IMPL_ID_OPTEE);
    session = must_open_session(fd, ECHO);
    memory = must_alloc(fd, PAGE);
    strcpy((char *)memory.bytes, "small letters");
    params[0] = memref_inout(memory.id, 0, 32);
    CHECK_ANSWER(invoke(fd, session, ECHO_UPPER, 1, params), TEEC_SUCCESS);
    CHECK(!strcmp((char *)memory.bytes, "SMALL LETTERS"));
    CHECK_EQ(close_session(fd, session), 0);
    munmap(memory.bytes, memory.size);
    close(memory.fd);
}

static void open_and_use(void)
{
    int fd = tee_open();

    use(fd);
    close(fd);
}

HELPER(client)
{
    if (argc > 1)
        use(atoi(argv[1]));
    open_and_use();
}

/* Threads */

static void *client_thread(void *fd)
{
    for (int i = 0; i < 5; i++)
        fd ? use(*(int *)fd) : open_and_use();
    return NULL;
}

static void run_threads(int count, int *fd)
{
    pthread_t threads[16];

    for (int i = 0; i < count; i++)
        CHECK(pthread_create(&threads[i], NULL, client_thread, fd) == 0);
    for (int i = 0; i < count; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

CASE(threads_with_a_context_each)
{
    run_threads(8, NULL);
}

CASE(threads_with_one_context)
{
    int fd = tee_open();

    run_threads(8, &fd);
}

static void *one_ioctl(void *fd)
{
    struct tee_ioctl_version_data version;

    CHECK_EQ(ioctl(*(int *)fd, TEE_IOC_VERSION, &version), 0);
    return NULL;
}

CASE(more_threads_than_are_remembered)
{
    int fd = tee_open();

    for (int i = 0; i < 1500; i++) {
        pthread_t thread;

        CHECK(pthread_create(&thread, NULL, one_ioctl, &fd) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
}

static _Atomic int counted;

static void *count_up(void *fd)
{
    __u32 session = must_open_session(*(int *)fd, COUNTER);

    for (__u32 i = 1; i <= 50; i++) {
        param_t params[1] = {value_out()};

        CHECK_ANSWER(invoke(*(int *)fd, session, 0, 1, params), TEEC_SUCCESS);
        CHECK_EQ(params[0].a, i);
        counted++;
    }
    return NULL;
}

CASE(commands_of_many_threads_are_each_done_once)
{
    pthread_t threads[8];
    int fd = tee_open();
    __u32 session = must_open_session(fd, COUNTER);
    param_t before[1] = {value_out()}, after[1] = {value_out()};

    CHECK_ANSWER(invoke(fd, session, 0, 1, before), TEEC_SUCCESS);
    for (int i = 0; i < 8; i++)
        CHECK(pthread_create(&threads[i], NULL, count_up, &fd) == 0);
    for (int i = 0; i < 8; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK_ANSWER(invoke(fd, session, 0, 1, after), TEEC_SUCCESS);
    CHECK_EQ(counted, 400);
    CHECK_EQ(after[0].b - before[0].b, 401);
}

/* Children */

CASE(many_children_one_after_the_other)
{
    for (int i = 0; i < 50; i++) {
        pid_t child = must_fork();

        if (!child) {
            open_and_use();
            _exit(0);
        }
        must_succeed(child);
    }
}

CASE(many_children_at_once)
{
    pid_t children[8];

    for (int i = 0; i < 8; i++) {
        children[i] = must_fork();
        if (!children[i]) {
            for (int j = 0; j < 5; j++)
                open_and_use();
            _exit(0);
        }
    }
    for (int i = 0; i < 8; i++)
        must_succeed(children[i]);
}

CASE(a_chain_of_children)
{
    int fd = tee_open();

    for (int depth = 0; depth < 8; depth++) {
        pid_t child;

        use(fd);
        child = must_fork();
        if (child) {
            must_succeed(child);
            _exit(0);
        }
    }
}

CASE(an_orphan_goes_on)
{
    struct gate gate = new_gate(), done = new_gate();
    pid_t parent = must_fork();

    if (!parent) {
        pid_t middle = getpid();

        if (!must_fork()) {
            gate_receive(&gate); /* its parent has ended */
            WAIT_UNTIL(getppid() != middle);
            open_and_use();
            gate_send(&done, 1);
        }
        _exit(0);
    }
    must_succeed(parent);
    gate_send(&gate, 1);
    gate_receive(&done);
}

CASE(a_daemon_goes_on)
{
    struct gate done = new_gate();
    pid_t parent = must_fork();

    if (!parent) {
        CHECK(setsid() > 0);
        if (!must_fork()) {
            CHECK(chdir("/") == 0);
            open_and_use();
            gate_send(&done, 1);
        }
        _exit(0);
    }
    must_succeed(parent);
    gate_receive(&done);
}

/* exec */

CASE(a_program_that_execs_another)
{
    open_and_use();
    exec_helper("client");
}

CASE(a_program_that_execs_with_its_context)
{
    char text[16];
    int fd = tee_open();

    use(fd);
    snprintf(text, sizeof(text), "%d", fd);
    exec_helper("client", text);
}

static void *exec_in_a_thread(void *unused)
{
    (void)unused;
    open_and_use();
    exec_helper("client");
}

CASE(a_thread_that_execs_another_program)
{
    pthread_t threads[3];

    open_and_use();
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, (void *(*)(void *))(void *)pause, NULL) == 0);
    CHECK(pthread_create(&threads[2], NULL, exec_in_a_thread, NULL) == 0);
    pause();
}

CASE(a_shell_in_between)
{
    char command[128];
    int fd = tee_open();

    use(fd);
    snprintf(command, sizeof(command), "exec /proc/%d/exe --helper " TEXT(REPORT_FD) " client %d",
             getpid(), fd);
    CHECK_EQ(system(command), 0);
}

/* Children that share their parent's memory until they exec, or for good. */

static void same_addresses(void)
{
    /* From the next exec on. Then what one program has at an address another one has there too. */
    CHECK(syscall(SYS_personality, 0x0040000 /* ADDR_NO_RANDOMIZE */) >= 0);
}

static void vfork_and_use(bool call_before_exec)
{
    char fd_text[16];
    int fd = tee_open();
    pid_t child;

    use(fd);
    snprintf(fd_text, sizeof(fd_text), "%d", fd);
    child = vfork();
    if (!child) {
        if (call_before_exec) {
            struct tee_ioctl_version_data version;
            int own = open(TEE0, O_RDWR);

            if (own < 0 || ioctl(own, TEE_IOC_VERSION, &version) ||
                ioctl(fd, TEE_IOC_VERSION, &version))
                _exit(1);
            close(own);
        }
        exec_helper("client", fd_text);
    }
    must_succeed(child);
    use(fd);
}

HELPER(vfork_quiet)
{
    vfork_and_use(false);
}

HELPER(vfork_busy)
{
    vfork_and_use(true);
}

CASE(vfork_and_exec)
{
    vfork_and_use(false);
}

CASE(vfork_and_exec_at_the_same_addresses)
{
    same_addresses();
    exec_helper("vfork_quiet");
}

CASE(vfork_that_calls_before_it_execs)
{
    vfork_and_use(true);
}

CASE(vfork_that_calls_before_it_execs_at_the_same_addresses)
{
    same_addresses();
    exec_helper("vfork_busy");
}

HELPER(spawn)
{
    char *arguments[] = {"client", "--helper", TEXT(REPORT_FD), "client", "150", NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;

    open_and_use();
    CHECK(posix_spawn_file_actions_init(&actions) == 0);
    CHECK(posix_spawn_file_actions_addopen(&actions, 150, TEE0, O_RDWR, 0) == 0);
    CHECK(posix_spawn(&child, "/proc/self/exe", &actions, NULL, arguments, environ) == 0);
    must_succeed(child);
    open_and_use();
}

CASE(posix_spawn_that_opens_the_device)
{
    exec_helper("spawn");
}

CASE(posix_spawn_that_opens_the_device_at_the_same_addresses)
{
    same_addresses();
    exec_helper("spawn");
}

static int cloned(void *shared_fd)
{
    use(*(int *)shared_fd);
    open_and_use();
    *(int *)shared_fd = -1;
    return 0;
}

static void clone_and_use(int flags)
{
    char *stack = new_pages(16);
    int fd = tee_open(), shared = fd;
    pid_t child = clone(cloned, stack + 16 * PAGE, flags | SIGCHLD, &shared);

    CHECK(child > 0);
    must_succeed(child);
    CHECK_EQ(shared, flags & CLONE_VM ? -1 : fd);
    use(fd);
}

CASE(clone_without_anything_shared)
{
    clone_and_use(0);
}

CASE(clone_with_shared_descriptors)
{
    clone_and_use(CLONE_FILES);
}

CASE(clone_with_shared_memory)
{
    clone_and_use(CLONE_VM);
}

CASE(clone_with_shared_memory_and_descriptors)
{
    clone_and_use(CLONE_VM | CLONE_FILES);
}

static int cloned_exec(void *unused)
{
    (void)unused;
    open_and_use();
    exec_helper("client");
}

HELPER(clone_exec)
{
    char *stack = new_pages(64);
    pid_t child = clone(cloned_exec, stack + 64 * PAGE, CLONE_VM | SIGCHLD, NULL);

    CHECK(child > 0);
    must_succeed(child);
    open_and_use();
}

CASE(clone_with_shared_memory_that_execs)
{
    same_addresses();
    exec_helper("clone_exec");
}

/* Filters of the client's own */

static int install_filter(unsigned int flags)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = 1, .filter = &allow};

    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

CASE(a_client_with_a_filter_of_its_own)
{
    CHECK_EQ(install_filter(0), 0);
    open_and_use();
}

CASE(a_client_cannot_listen_too)
{
    CHECK_ERRNO(install_filter(SECCOMP_FILTER_FLAG_NEW_LISTENER), EBUSY);
    open_and_use();
}

/* Namespaces of the client's own: numbers of processes and users mean others there. */

static void in_namespaces(int flags)
{
    int fd = tee_open();
    pid_t child;

    use(fd);
    if (unshare(flags))
        SKIP("no namespaces: %s", strerror(errno));
    child = must_fork();
    if (!child) {
        if (flags & CLONE_NEWPID)
            CHECK_EQ(getpid(), 1);
        use(fd);
        open_and_use();
        _exit(0);
    }
    must_succeed(child);
    use(fd);
    open_and_use();
}

CASE(a_client_in_a_user_namespace)
{
    in_namespaces(CLONE_NEWUSER);
}

CASE(a_client_in_a_pid_namespace)
{
    in_namespaces(CLONE_NEWUSER | CLONE_NEWPID);
}

CASE(a_client_in_namespaces_of_all_kinds)
{
    in_namespaces(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS |
                  CLONE_NEWNET);
}

/* Memory that may not be read */

CASE(a_client_that_is_not_dumpable)
{
    struct tee_ioctl_version_data version;
    int fd = tee_open();

    use(fd);
    CHECK(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
    /* Only root may read it; for anybody else the ioctls of a new process fail, and do not hang. */
    pid_t child = must_fork();
    if (!child) {
        int error = ioctl(fd, TEE_IOC_VERSION, &version) ? errno : 0;

        CHECK(!error || error == EFAULT);
        _exit(0);
    }
    must_succeed(child);
    CHECK(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
    child = must_fork();
    if (!child) {
        use(fd);
        _exit(0);
    }
    must_succeed(child);
}
