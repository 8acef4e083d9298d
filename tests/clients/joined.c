/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A client of a TEE that others use too. Its first argument says what it does:
 *
 * count N  invokes the counter N times and prints the total of all clients each time
 * hold     counts once, prints "open", waits for its standard input to end, and prints the errno of
 *          another call; files can be opened all the same
 * wait     has a service wait for ever and prints "waiting", then the errno that ended it
 */
#define TEE_CLIENT_NO_CASES
#include "tee_client.h"

static int count(int fd, __u32 session, bool print)
{
    param_t params[1] = {value_out()};
    struct answer answer = invoke(fd, session, 0, 1, params);

    if (answer.error)
        return answer.error;
    CHECK_EQ(answer.ret, TEEC_SUCCESS);
    if (print)
        printf("%llu\n", (unsigned long long)params[0].b);
    return 0;
}

static void hold(int fd)
{
    __u32 session = must_open_session(fd, COUNTER);
    char byte;

    CHECK_EQ(count(fd, session, false), 0);
    puts("open");
    fflush(stdout);
    while (read(0, &byte, 1) > 0)
        ;
    printf("errno %d\n", count(fd, session, false));
    must_open("/dev/null", O_RDWR);
    puts("files open");
}

static void wait_for_ever(int fd)
{
    __u32 session = must_open_session(fd, WAITER);
    struct memory memory = must_alloc(fd, PAGE);
    param_t params[1] = {memref_inout(memory.id, 0, 16)};

    if (!must_fork()) {
        WAIT_UNTIL(((volatile unsigned char *)memory.bytes)[0]);
        puts("waiting");
        fflush(stdout);
        _exit(0);
    }
    printf("errno %d\n", invoke(fd, session, 0, 1, params).error);
}

int main(int argc, char **argv)
{
    int fd = tee_open();

    CHECK(argc > 1);
    if (!strcmp(argv[1], "count")) {
        __u32 session = must_open_session(fd, COUNTER);

        for (int left = atoi(argv[2]); left > 0; left--)
            CHECK_EQ(count(fd, session, true), 0);
    } else if (!strcmp(argv[1], "hold")) {
        hold(fd);
    } else {
        wait_for_ever(fd);
    }
    return 0;
}
