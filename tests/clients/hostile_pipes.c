/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A context is the reading end of a pipe. What a client can do to that pipe concerns itself alone, and
 * its end is noticed all the same.
 */
#include "tee_client.h"

static int open_again(int fd, int flags)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, flags);
}

static int context(void)
{
    int fd = tee_open();
    struct tee_ioctl_version_data version;

    CHECK(ioctl(fd, TEE_IOC_VERSION, &version) == 0);
    return fd;
}

static void wait_for_test(const char *word)
{
    char byte;

    printf("%s\n", word);
    fflush(stdout);
    CHECK(read(9, &byte, 1) >= 0);
}

CASE(flooded)
{
    static char bytes[65536];
    int fd = context(), writer = open_again(fd, O_WRONLY | O_NONBLOCK);
    __u32 session = must_open_session(fd, ANY);
    ssize_t count, all = 0;

    if (writer < 0)
        SKIP("it cannot be written: %s", strerror(errno));
    fcntl(writer, F_SETPIPE_SZ, 1 << 20);
    while ((count = write(writer, bytes, sizeof(bytes))) > 0)
        all += count;
    CHECK(all > 0);
    CHECK_ANSWER(invoke(fd, session, NOP, 0, NULL), TEEC_SUCCESS);
    /* Read it, too. */
    CHECK(read(fd, bytes, sizeof(bytes)) > 0);
    CHECK_ANSWER(invoke(fd, session, NOP, 0, NULL), TEEC_SUCCESS);
    /* The writing end is the same pipe, and so the same context. */
    CHECK_ANSWER(invoke(writer, session, NOP, 0, NULL), TEEC_SUCCESS);
}

/* Only writing ends are left: nobody has the device open any more. */
CASE(writers_left)
{
    int writers[50], count = 0;

    for (int i = 0; i < 50; i++) {
        int fd = context();

        writers[i] = open_again(fd, O_WRONLY | O_NONBLOCK);
        count += writers[i] >= 0;
        if (writers[i] >= 0)
            CHECK(write(writers[i], "x", 1) == 1);
        close(fd);
    }
    if (!count)
        SKIP("they cannot be written");
    wait_for_test("closed");
    /* What is left is an ordinary pipe. */
    for (int i = 0; i < 50; i++) {
        struct tee_ioctl_version_data version;
        int reader = open_again(writers[i], O_RDONLY | O_NONBLOCK);

        CHECK_ERRNO(ioctl(writers[i], TEE_IOC_VERSION, &version), ENOTTY);
        CHECK_ERRNO(ioctl(reader, TEE_IOC_VERSION, &version), ENOTTY);
    }
}

/* More readers, of every kind: the context lives as long as the last. */
CASE(readers_left)
{
    int fd = context(), readers[3], sockets[2];
    __u32 session = must_open_session(fd, ANY);

    readers[0] = open_again(fd, O_RDONLY | O_NONBLOCK);
    readers[1] = open_again(fd, O_RDWR | O_NONBLOCK);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    send_fd(sockets[0], fd);
    close(fd);
    for (int i = 0; i < 2; i++)
        if (readers[i] >= 0)
            CHECK_ANSWER(invoke(readers[i], session, NOP, 0, NULL), TEEC_SUCCESS);
    close(readers[0]);
    close(readers[1]);
    wait_for_test("in a message");
    fd = receive_fd(sockets[1]);
    CHECK_ANSWER(invoke(fd, session, NOP, 0, NULL), TEEC_SUCCESS);
}

/* A pipe of the client's own, and other ends of contexts, are no contexts. */
CASE(other_pipes)
{
    int ends[2], fd = context(), handle;
    struct tee_ioctl_version_data version;

    CHECK(pipe(ends) == 0);
    CHECK_ERRNO(ioctl(ends[0], TEE_IOC_VERSION, &version), ENOTTY);
    CHECK_ERRNO(ioctl(ends[1], TEE_IOC_VERSION, &version), ENOTTY);
    handle = open_again(fd, O_PATH);
    int ret = ioctl(handle, TEE_IOC_VERSION, &version);
    if (ret && errno != EBADF)
        FAIL("%s", strerror(errno));
}

/* Whatever can be set on a descriptor. */
CASE(settings)
{
    int fd = context();
    __u32 session = must_open_session(fd, ANY);

    fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK | O_DIRECT);
    fcntl(fd, F_SETOWN, getppid());
    fcntl(fd, F_SETSIG, SIGIO);
    fcntl(fd, F_SETPIPE_SZ, 1 << 20);
    fcntl(fd, F_SETLEASE, F_RDLCK);
    fcntl(fd, F_NOTIFY, DN_MULTISHOT);
    CHECK_ANSWER(invoke(fd, session, NOP, 0, NULL), TEEC_SUCCESS);
    CHECK_ANSWER(invoke(dup(fd), session, NOP, 0, NULL), TEEC_SUCCESS);
}
