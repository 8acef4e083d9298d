/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A client that pretends to be a trusted service: the calls by which a service introduces itself,
 * waits for its next command and lets time pass. To a client they are unknown commands.
 */
#include "tee_client.h"

#include <pthread.h>
#include <stdatomic.h>

#define TA_IOC_HELLO _IO(TEE_IOC_MAGIC, 0xF0)
#define TA_IOC_NEXT _IO(TEE_IOC_MAGIC, 0xF1)
#define TA_IOC_WAIT _IO(TEE_IOC_MAGIC, 0xF2)

static uint64_t random_state = 0x9E3779B97F4A7C15ull;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static const char *service(void)
{
    return getenv("TEE_CLIENT_SERVICE") ? getenv("TEE_CLIENT_SERVICE") : ANY;
}

static void must_be_unknown(int fd, int error)
{
    static const unsigned long commands[] = {TA_IOC_HELLO, TA_IOC_NEXT, TA_IOC_WAIT};

    for (size_t i = 0; i < 3; i++) {
        uint64_t arguments[] = {0, 1, 1000, ~0ull, ~0ull >> 2, next_random(), next_random() >> 2};

        for (size_t k = 0; k < sizeof(arguments) / sizeof(arguments[0]); k++)
            CHECK_ERRNO(ioctl(fd, commands[i], arguments[k]), error);
        /* The kernel's command has 32 bits: with more it is the same one. */
        CHECK_ERRNO(syscall(SYS_ioctl, fd, commands[i] | 1ul << 40, 0), error);
    }
}

CASE(on_a_context)
{
    int fd = tee_open();

    must_be_unknown(fd, EINVAL);
    must_open_session(fd, service());
    must_be_unknown(fd, EINVAL);
}

CASE(on_other_descriptors)
{
    int ends[2];

    CHECK(pipe(ends) == 0);
    must_be_unknown(ends[0], ENOTTY);
    must_be_unknown(open("/dev/null", O_RDWR), ENOTTY);
    must_be_unknown(memfd_create("x", 0), ENOTTY);
    must_be_unknown(1000, EBADF);
    /* Where a service speaks. */
    CHECK(dup2(ends[0], 0) == 0);
    must_be_unknown(0, ENOTTY);
}

/* Many guesses, in the very moments in which services are born. */
static atomic_bool stopped;

static void *guess(void *context)
{
    int fd = *(int *)context;

    while (!atomic_load(&stopped)) {
        if (ioctl(fd, TA_IOC_HELLO, next_random() >> 2) != -1 || errno != EINVAL)
            FAIL("a guess: %s", strerror(errno));
        if (ioctl(fd, TA_IOC_NEXT, 0) != -1 || errno != EINVAL)
            FAIL("next: %s", strerror(errno));
    }
    return NULL;
}

CASE(guesses)
{
    int fd = tee_open(), other = tee_open();
    pthread_t threads[3];

    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, guess, &other) == 0);
    for (int i = 0; i < 30; i++) {
        __u32 session = must_open_session(fd, service());
        struct memory memory = must_alloc(fd, PAGE);
        param_t params[] = {value_in(0x42, PAGE), memref_out(memory.id, 0, PAGE)};

        CHECK_ANSWER(invoke(fd, session, getenv("TEE_CLIENT_SERVICE") ? 0 : FILL, 2, params),
                     TEEC_SUCCESS);
        CHECK_EQ(memory.bytes[PAGE - 1], 0x42);
        CHECK(close_session(fd, session) == 0);
    }
    atomic_store(&stopped, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

/* Every other command of the same magic. */
CASE(unknown_commands)
{
    int fd = tee_open(), ends[2];
    unsigned known = 0;

    CHECK(pipe(ends) == 0);
    for (unsigned direction = 0; direction < 4; direction++)
        for (unsigned nr = 0; nr < 256; nr++)
            for (unsigned size = 0; size <= 40; size++) {
                unsigned long command = _IOC(direction, TEE_IOC_MAGIC, nr, size);

                /* All known ones want memory there. */
                errno = 0;
                CHECK_EQ(ioctl(fd, command, 0), -1);
                known += errno == EFAULT;
                if (errno != EFAULT && errno != EINVAL)
                    FAIL("%#lx: %s", command, strerror(errno));
            }
    CHECK(known >= 6 && known <= 16);
    CHECK_ERRNO(ioctl(ends[0], TEE_IOC_VERSION, 0), ENOTTY);
}
