/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * More of everything than a client needs: contexts, sessions, shared memory, threads. A test looks at
 * gentee from outside while a case waits on descriptor 9, which the test holds at its other end.
 */
#include "tee_client.h"

#include <pthread.h>
#include <sys/resource.h>

static void wait_for_test(const char *word, unsigned long number)
{
    char byte;

    printf("%s %lu\n", word, number);
    fflush(stdout);
    CHECK(read(9, &byte, 1) >= 0); /* a byte for this wait, the end for all */
}

static unsigned long number_from(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 10) : otherwise;
}

static void raise_limit(rlim_t wanted)
{
    struct rlimit limit;

    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (limit.rlim_max < wanted)
        SKIP("only %lu descriptors here", (unsigned long)limit.rlim_max);
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

CASE(contexts)
{
    unsigned long count = number_from("TEE_CLIENT_COUNT", 5000);
    struct tee_ioctl_version_data version;
    int *fds = calloc(count, sizeof(*fds));

    raise_limit(count + 100);
    for (unsigned long i = 0; i < count; i++) {
        fds[i] = tee_open();
        CHECK(ioctl(fds[i], TEE_IOC_VERSION, &version) == 0);
    }
    wait_for_test("contexts", count);
    /* They are what they were, the last and the first. */
    for (unsigned long i = 0; i < count; i += 499) {
        __u32 session = must_open_session(fds[i], ANY);

        CHECK_ANSWER(invoke(fds[i], session, NOP, 0, NULL), TEEC_SUCCESS);
        for (unsigned long k = 0; k < count; k += 1237)
            if (k != i)
                CHECK_EQ(invoke(fds[k], session, NOP, 0, NULL).error, EINVAL);
    }
}

/* As many sessions as there can be: the limit is an answer, and nothing else. */
CASE(sessions)
{
    const char *service = getenv("TEE_CLIENT_SERVICE");
    int fd = tee_open();
    unsigned long count = 0;
    struct answer answer;

    /* What earlier clients had may still be ending, and make room for some more. */
    for (int refused = 0; refused < 20;) {
        answer = open_session(fd, service ? service : ANY, 0, NULL);
        CHECK_EQ(answer.error, 0);
        if (answer.ret) {
            CHECK_EQ(answer.ret, 0xFFFF000Cu /* TEEC_ERROR_OUT_OF_MEMORY */);
            refused++;
        } else {
            count++;
            refused = 0;
        }
    }
    wait_for_test("sessions", count);
    CHECK_ANSWER(open_session(fd, service ? service : ANY, 0, NULL), 0xFFFF000Cu);
}

/* Shared memory up to the totals, and descriptors of it. */
CASE(memory)
{
    unsigned long count = 0, buffers = 0;
    int fd = tee_open(), id, shm;

    raise_limit(4000);
    while ((shm = shm_alloc(fd, GIB, &id, NULL)) >= 0)
        count++;
    CHECK_EQ(errno, ENOMEM);
    CHECK_ERRNO(shm_alloc(fd, PAGE, &id, NULL), ENOMEM);
    fd = tee_open();
    while (buffers < 3000 && (shm = shm_alloc(fd, PAGE, &id, NULL)) >= 0)
        buffers++;
    CHECK(buffers == 3000 || errno == ENOMEM || errno == EMFILE);
    wait_for_test("buffers", count + buffers);
}

/* All that is there is given back, one by one, and can be had again. */
CASE(memory_again)
{
    int fd = tee_open(), id;

    for (int i = 0; i < 300; i++) {
        int shm = -1;

        /* What was closed ends in its own time. */
        WAIT_UNTIL((shm = shm_alloc(fd, GIB, &id, NULL)) >= 0);
        CHECK(close(shm) == 0);
    }
}

static void *one_call(void *context)
{
    struct tee_ioctl_version_data version;

    return (void *)(intptr_t)ioctl(*(int *)context, TEE_IOC_VERSION, &version);
}

/* Threads that live for one call. */
CASE(threads)
{
    unsigned long count = number_from("TEE_CLIENT_COUNT", 10000);
    int fd = tee_open();
    enum { AT_ONCE = 20 };

    one_call(&fd);
    wait_for_test("before", 0);
    for (unsigned long i = 0; i < count; i += AT_ONCE) {
        pthread_t threads[AT_ONCE];

        for (int k = 0; k < AT_ONCE; k++)
            CHECK(pthread_create(&threads[k], NULL, one_call, &fd) == 0);
        for (int k = 0; k < AT_ONCE; k++) {
            void *result;

            CHECK(pthread_join(threads[k], &result) == 0);
            CHECK_EQ((intptr_t)result, 0);
        }
    }
    wait_for_test("threads", count);
}

/* The same with processes. */
CASE(processes)
{
    unsigned long count = number_from("TEE_CLIENT_COUNT", 1000);
    int fd = tee_open();

    one_call(&fd);
    wait_for_test("before", 0);
    for (unsigned long i = 0; i < count; i++) {
        pid_t child = must_fork();

        if (child == 0) {
            int mine = tee_open();

            CHECK_EQ((intptr_t)one_call(&fd), 0);
            CHECK_EQ((intptr_t)one_call(&mine), 0);
            _exit(0);
        }
        must_succeed(child);
    }
    wait_for_test("processes", count);
}

/* More threads alive than gentee remembers, each with many calls. */
static void *many_calls(void *context)
{
    for (int i = 0; i < 20; i++)
        if (one_call(context))
            return (void *)1;
    return NULL;
}

CASE(threads_at_once)
{
    enum { COUNT = 1500 };
    static pthread_t threads[COUNT];
    pthread_attr_t attr;
    int fd = tee_open(), made = 0;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 65536);
    for (; made < COUNT; made++)
        if (pthread_create(&threads[made], &attr, many_calls, &fd))
            break;
    for (int i = 0; i < made; i++) {
        void *result;

        CHECK(pthread_join(threads[i], &result) == 0);
        CHECK(result == NULL);
    }
    wait_for_test("threads", (unsigned long)made);
}

/* A client that wants nothing but its answers: until descriptor 9 is closed. */
CASE(healthy)
{
    const char *service = getenv("TEE_CLIENT_SERVICE");
    struct pollfd done = {.fd = 9, .events = POLLIN};
    int fd = tee_open();
    __u32 session = must_open_session(fd, service ? service : ANY);
    unsigned long count = 0;

    do {
        struct memory memory = must_alloc(fd, PAGE);
        struct tee_ioctl_version_data version;
        param_t params[] = {value_in(0x42, PAGE), memref_out(memory.id, 0, PAGE)};

        CHECK(ioctl(fd, TEE_IOC_VERSION, &version) == 0);
        /* Function 0 of the memory service, 3 of loopback's. */
        CHECK_ANSWER(invoke(fd, session, service ? 0 : FILL, 2, params), TEEC_SUCCESS);
        CHECK_EQ(memory.bytes[PAGE - 1], 0x42);
        CHECK(munmap(memory.bytes, PAGE) == 0);
        CHECK(close(memory.fd) == 0);
        if (!count++) {
            printf("healthy\n");
            fflush(stdout);
        }
    } while (!poll(&done, 1, 0));
}
