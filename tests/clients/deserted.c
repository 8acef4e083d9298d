/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A client whose gentee is killed while it waits in a command: it gets an error, and goes on.
 */
#define TEE_CLIENT_NO_CASES
#include "tee_client.h"

#include <pthread.h>

static void *kill_gentee(void *task)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/syscall", *(pid_t *)task);
    WAIT_UNTIL(({
        char text[128] = "";
        int file = must_open(path, O_RDONLY);
        ssize_t got = read(file, text, sizeof(text) - 1);

        close(file);
        got > 0 && strstr(text, " 0x8010a403 ") != NULL;
    }));
    CHECK_EQ(kill(getppid(), SIGKILL), 0);
    return NULL;
}

int main(void)
{
    struct tee_ioctl_version_data version;
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    pid_t task = getpid();
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, kill_gentee, &task) == 0);
    CHECK_EQ(invoke(fd, session, WAIT, 0, NULL).error, ENOSYS);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_VERSION, &version), ENOSYS);
    printf("ok deserted\n");
    return 0;
}
