/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A child that lives on when the program that gentee ran has ended, and gentee with it. What its
 * descriptor still answers is an error: ENOSYS where nobody listens any more, ENOTTY where somebody
 * stays to let calls go on to the kernel. All else works.
 */
#define TEE_CLIENT_NO_CASES
#include "tee_client.h"

static bool is_gone(int error)
{
    return error == ENOSYS || error == ENOTTY;
}

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
    CHECK(is_gone(ioctl(fd, TEE_IOC_VERSION, &version) ? errno : 0));
    CHECK(is_gone(invoke(fd, session, 2, 0, NULL).error));
    must_open("/dev/null", O_RDWR);
    printf("ok outlives\n");
    return 0;
}
