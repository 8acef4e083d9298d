/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Descriptors that are closed, replaced and duplicated while calls run on them, by other threads and
 * other processes; device files that the client does strange things with.
 */
#include "tee_client.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/file.h>

#define ROUNDS 1500

static atomic_bool stopped;

/* A descriptor that is a device, another device's context, something else, or nothing. */
static void *change_descriptor(void *context)
{
    int fd = *(int *)context;
    int null = open("/dev/null", O_RDWR);

    while (!atomic_load(&stopped)) {
        int other = open(TEE0, O_RDWR | O_CLOEXEC);

        dup2(other, fd);
        close(other);
        dup2(null, fd);
        close(fd);
    }
    return NULL;
}

static void check_error(int ret, const char *what)
{
    static const int errors[] = {EBADF, ENOTTY, EINVAL, EFAULT, ENOMEM};

    if (ret >= 0)
        return;
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        if (errno == errors[i])
            return;
    FAIL("%s: %s", what, strerror(errno));
}

CASE(replaced_under_calls)
{
    int fd = fcntl(tee_open(), F_DUPFD, 50);
    pthread_t threads[2];

    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, change_descriptor, &fd) == 0);
    for (int i = 0; i < ROUNDS; i++) {
        struct tee_ioctl_version_data version;
        struct answer answer;
        int id;

        check_error(ioctl(fd, TEE_IOC_VERSION, &version), "VERSION");
        answer = open_session(fd, ANY, 0, NULL);
        errno = answer.error;
        check_error(-!!answer.error, "OPEN_SESSION");
        if (!answer.error) {
            answer = invoke(fd, answer.session, NOP, 0, NULL);
            errno = answer.error;
            check_error(-!!answer.error, "INVOKE");
        }
        int shm = shm_alloc(fd, PAGE, &id, NULL);
        check_error(shm, "SHM_ALLOC");
        if (shm >= 0 && shm != fd)
            close(shm);
    }
    atomic_store(&stopped, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

static void *wait_in_call(void *context)
{
    int *fds = context;
    struct answer answer = invoke(fds[0], (__u32)fds[1], WAIT, 0, NULL);

    /* The context ends under it, or it is released. */
    if (answer.error && answer.error != EBADF)
        FAIL("errno %d", answer.error);
    if (!answer.error && answer.ret != TEEC_SUCCESS && answer.ret != TEEC_ERROR_CANCEL &&
        answer.ret != TEEC_ERROR_TARGET_DEAD)
        FAIL("result %#x", answer.ret);
    return NULL;
}

CASE(closed_under_waiting_calls)
{
    int other = tee_open();
    __u32 mine = must_open_session(other, ANY);
    pthread_t threads[20];
    int fds[20][2];
    param_t released = value_out();
    unsigned waiting = 0;

    for (int i = 0; i < 20; i++) {
        fds[i][0] = tee_open();
        fds[i][1] = (int)must_open_session(fds[i][0], ANY);
        CHECK(pthread_create(&threads[i], NULL, wait_in_call, fds[i]) == 0);
    }
    for (int i = 0; i < 20; i++)
        close(fds[i][0]);
    /* In Linux a call holds its file: they may still be there, and then can be released. */
    for (int i = 0; i < 20; i++) {
        while (pthread_tryjoin_np(threads[i], NULL)) {
            CHECK_ANSWER(invoke(other, mine, RELEASE, 1, &released), TEEC_SUCCESS);
            waiting += released.a;
        }
    }
    CHECK(waiting <= 20);
}

static void *open_and_close(void *context)
{
    (void)context;
    while (!atomic_load(&stopped)) {
        int fd = open(TEE0, O_RDWR);
        struct tee_ioctl_version_data version;

        ioctl(fd, TEE_IOC_VERSION, &version);
        close(fd);
    }
    return NULL;
}

/* Duplicates of every age, in several processes that end in any order. */
CASE(duplicates)
{
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, open_and_close, NULL) == 0);
    for (int i = 0; i < 60; i++) {
        int plain = tee_open(), before = dup(plain);
        __u32 session = must_open_session(plain, ANY);
        int after = dup(plain);
        pid_t child = must_fork();

        if (child == 0) {
            close(plain);
            close(after);
            /* The oldest duplicate, in another process, is the same context. */
            CHECK_ANSWER(invoke(before, session, NOP, 0, NULL), TEEC_SUCCESS);
            _exit(0);
        }
        close(plain);
        if (i & 1)
            close(before);
        CHECK_ANSWER(invoke(after, session, NOP, 0, NULL), TEEC_SUCCESS);
        close(after);
        must_succeed(child);
        if (!(i & 1)) {
            CHECK_ANSWER(invoke(before, session, NOP, 0, NULL), TEEC_SUCCESS);
            close(before);
        }
    }
    atomic_store(&stopped, true);
    pthread_join(thread, NULL);
}

static const struct flock all_bytes = {.l_whence = SEEK_SET};

/* Locks of the whole device file keep nobody out. */
CASE(locked_device_file)
{
    static const short kinds[] = {F_WRLCK, F_RDLCK};

    for (int k = 0; k < 2; k++) {
        int attacker = tee_open();
        struct flock lock = all_bytes;

        lock.l_type = kinds[k];
        fcntl(attacker, F_OFD_SETLK, &lock);
        pid_t child = must_fork();
        if (child == 0) {
            fcntl(attacker, F_SETLK, &lock);
            flock(attacker, LOCK_EX);
            for (int i = 0; i < 3; i++) {
                static const int modes[] = {O_RDWR, O_RDONLY, O_WRONLY};
                int fd = must_open(TEE0, modes[i]), plain = dup(fd);
                __u32 session = must_open_session(fd, ANY);

                CHECK_ANSWER(invoke(plain, session, NOP, 0, NULL), TEEC_SUCCESS);
            }
            _exit(0);
        }
        must_succeed(child);
        close(attacker);
    }
}

/*
 * Where an open gives a plain file, gentee has to know duplicates of it again. Nothing that a stranger
 * does to its own open file may make it somebody else's context.
 */
CASE(claimed_by_locks)
{
    static const struct {
        int flags;
        short kind;
    } tries[] = {{O_RDONLY, F_RDLCK}, {O_RDWR, F_RDLCK}, {O_RDWR, F_WRLCK}};

    for (int i = 0; i < 3; i++) {
        struct gate gate = new_gate(), never = new_gate();
        int claimant = tee_open();
        struct flock lock = all_bytes;

        /* All bytes, before the victim comes and while it is there. */
        lock.l_type = tries[i].kind;
        fcntl(claimant, F_OFD_SETLK, &lock);
        pid_t victim = must_fork();
        if (victim == 0) {
            close(claimant);
            int fd = must_open(TEE0, tries[i].flags);

            gate_send(&gate, must_open_session(fd, ANY));
            gate_receive(&never);
        }
        struct answer answer = invoke(claimant, gate_receive(&gate), NOP, 0, NULL);
        CHECK_EQ(answer.error, EINVAL);
        close(claimant);
        must_kill(victim);
    }
}

/* The same, by a stranger that waits for the very moment. */
static volatile int racing_fd;

static void *wait_for_lock(void *context)
{
    struct flock lock = {
        .l_type = F_WRLCK,
        .l_whence = SEEK_SET,
        .l_start = (off_t)(intptr_t)context,
        .l_len = 1,
    };

    fcntl(racing_fd, F_OFD_SETLKW, &lock);
    return NULL;
}

CASE(claimed_by_waiting)
{
    for (int i = 0; i < 30; i++) {
        pthread_t threads[8];

        racing_fd = tee_open();
        for (int k = 0; k < 8; k++)
            CHECK(pthread_create(&threads[k], NULL, wait_for_lock, (void *)(intptr_t)(i + k)) == 0);
        int victim = tee_open();
        struct answer answer = open_session(victim, ANY, 0, NULL);
        CHECK_ANSWER(answer, TEEC_SUCCESS);
        for (int k = 0; k < 8; k++)
            pthread_join(threads[k], NULL);
        answer = invoke(racing_fd, answer.session, NOP, 0, NULL);
        CHECK_EQ(answer.error, EINVAL);
        close(racing_fd);
        close(victim);
    }
}

/* The device file of a mount namespace is a file: what can be done to it. */
CASE(abused_device_file)
{
    int fd = tee_open();
    char bytes[64] = {0};

    if (write(fd, bytes, sizeof(bytes)) < 0)
        errno = 0;
    if (ftruncate(fd, 1 << 20) < 0)
        errno = 0;
    mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK);
    fcntl(fd, F_SETLEASE, F_RDLCK);
    fcntl(fd, F_NOTIFY, DN_MULTISHOT | DN_MODIFY);
    lseek(fd, 1 << 30, SEEK_SET);
    int other = tee_open();
    CHECK_ANSWER(open_session(fd, ANY, 0, NULL), TEEC_SUCCESS);
    CHECK_ANSWER(open_session(other, ANY, 0, NULL), TEEC_SUCCESS);
    CHECK_ANSWER(open_session(tee_open(), ANY, 0, NULL), TEEC_SUCCESS);
}

/* A limit so low that the descriptor's own number is over it. */
CASE(number_over_the_limit)
{
    int fd = tee_open();
    int high = fcntl(fd, F_DUPFD, 600);
    pid_t child;

    if (high < 0)
        SKIP("no such descriptors here");
    child = must_fork();
    if (child == 0) {
        struct rlimit {
            unsigned long soft, hard;
        } limit = {300, 300};
        struct tee_ioctl_version_data version;

        CHECK(syscall(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, &limit, NULL) == 0);
        int ret = ioctl(high, TEE_IOC_VERSION, &version);
        if (ret && errno != EBADF && errno != EMFILE)
            FAIL("%s", strerror(errno));
        CHECK(ioctl(fd, TEE_IOC_VERSION, &version) == 0);
        _exit(0);
    }
    must_succeed(child);
}

/* No more descriptors: shared memory and contexts that find no number are not left over. */
CASE(no_descriptor_left)
{
    int fd = tee_open();
    struct memory before = must_alloc(fd, PAGE);
    struct rlimit {
        unsigned long soft, hard;
    } limit = {(unsigned long)before.fd + 1, 4096}, old;
    char page[64] = {0};
    int id;

    CHECK(syscall(SYS_prlimit64, 0, 7, NULL, &old) == 0);
    limit.hard = old.hard;
    CHECK(syscall(SYS_prlimit64, 0, 7, &limit, NULL) == 0);
    for (int i = 0; i < 50; i++) {
        CHECK_ERRNO(shm_alloc(fd, PAGE, &id, NULL), EMFILE);
        CHECK_ERRNO(shm_register(fd, page, sizeof(page), &id), EMFILE);
        CHECK_ERRNO(open(TEE0, O_RDWR), EMFILE);
    }
    CHECK(syscall(SYS_prlimit64, 0, 7, &old, NULL) == 0);
    CHECK(must_alloc(fd, PAGE).id <= before.id + 1);
}
