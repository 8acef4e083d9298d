/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Clients whose memory an ordinary user may not read: their calls fail with EFAULT, and what else they
 * do is not disturbed. To be run by an ordinary user; root may read everybody.
 */
#include "tee_client.h"

static bool opens_are_answered(void)
{
    struct stat_of_linux {
        char bytes[256];
    } buffer;

    return syscall(SYS_stat, TEE0, &buffer) != 0; /* and stat sees nothing */
}

static void must_fail(int fd)
{
    struct tee_ioctl_version_data version;
    struct tee_ioctl_shm_alloc_data alloc = {.size = PAGE};

    CHECK_ERRNO(ioctl(fd, TEE_IOC_VERSION, &version), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_SHM_ALLOC, &alloc), EFAULT);
    CHECK_EQ(open_session(fd, ANY, 0, NULL).error, EFAULT);
    CHECK_EQ(invoke(fd, 1, NOP, 0, NULL).error, EFAULT);
}

static void other_files_work(int fd)
{
    char byte = 1;
    int ends[2], zero = must_open("/dev/zero", O_RDONLY);

    CHECK_EQ(read(zero, &byte, 1), 1);
    CHECK(pipe(ends) == 0);
    /* A command that is not ours, on a file that is not ours. */
    CHECK_ERRNO(ioctl(ends[0], _IO(TEE_IOC_MAGIC, 0x77), 0), ENOTTY);
    (void)fd;
}

/* Alone, so that nothing of it was known before. */
CASE(from_the_start)
{
    int fd;

    CHECK(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
    fd = open(TEE0, O_RDWR);
    if (opens_are_answered()) {
        CHECK_EQ(fd, -1); /* its path could not be read */
        CHECK_EQ(errno, ENOENT);
    } else {
        must_fail(fd);
    }
    other_files_work(fd);
}

CASE(for_a_while)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);

    CHECK(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
    /* In a user namespace of gentee's own it may be read all the same. */
    if (opens_are_answered())
        must_fail(fd);
    other_files_work(fd);
    CHECK(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
    CHECK_ANSWER(invoke(fd, session, NOP, 0, NULL), TEEC_SUCCESS);
}

/* The first case again, under a name of its own: a program that may be run but not read. */
CASE(not_readable)
{
    int fd = open(TEE0, O_RDWR);

    if (opens_are_answered()) {
        CHECK_EQ(fd, -1);
        CHECK_EQ(errno, ENOENT);
    } else {
        must_fail(fd);
    }
    other_files_work(fd);
}
