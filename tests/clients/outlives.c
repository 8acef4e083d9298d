/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A child that lives on when the program that gentee ran has ended, and gentee with it. It prints
 * what its descriptor still answers: an error, but an answer.
 */
#define TEE_CLIENT_NO_CASES
#include "tee_client.h"

int main(void)
{
    struct tee_ioctl_version_data version;
    struct pollfd gentee = {.events = POLLIN};
    int fd = tee_open();
    __u32 session = must_open_session(fd, ECHO);
    pid_t program = getpid();

    if (must_fork())
        return 3;
    WAIT_UNTIL(getppid() != program);
    gentee.fd = (int)syscall(434 /* pidfd_open */, getppid(), 0);
    CHECK(gentee.fd >= 0);
    CHECK_EQ(poll(&gentee, 1, PATIENCE_MS), 1);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_VERSION, &version), ENOSYS);
    CHECK_EQ(invoke(fd, session, 2, 0, NULL).error, ENOSYS);
    printf("ok outlives\n");
    return 0;
}
