/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rounds without end: open the device and a session, invoke over shared memory, close all of it. Now
 * and then memory is registered, a session or a process is just left to its end.
 */
#include "tee_client.h"

static void round_in_a_process(const char *service)
{
    pid_t child = must_fork();

    if (child == 0) {
        int fd = tee_open();

        open_session(fd, service, 0, NULL);
        must_alloc(fd, PAGE);
        _exit(0);
    }
    must_succeed(child);
}

CASE(rounds)
{
    const char *service = getenv("TEE_CLIENT_SERVICE");
    unsigned long count = strtoul(getenv("TEE_CLIENT_COUNT"), NULL, 10);
    __u32 func = (__u32)strtoul(getenv("TEE_CLIENT_FUNC"), NULL, 10);
    static char bytes[PAGE];

    for (unsigned long i = 0; i < count; i++) {
        int fd = must_open(TEE0, O_RDWR), id;
        int shm = shm_alloc(fd, PAGE, &id, NULL);
        param_t value[] = {value_out()}, memory[] = {memref_inout(id, 0, PAGE)};
        __u32 session = must_open_session(fd, service);

        CHECK(shm >= 0);
        CHECK_ANSWER(invoke(fd, session, func, 1, func ? memory : value), TEEC_SUCCESS);
        if (i % 4 == 0 && func) {
            int registered = shm_register(fd, bytes, sizeof(bytes), &id);

            memory[0] = memref_inout(id, 0, PAGE);
            CHECK(registered >= 0);
            CHECK_ANSWER(invoke(fd, session, func, 1, memory), TEEC_SUCCESS);
            close(registered);
        }
        if (i % 3)
            CHECK(!close_session(fd, session));
        close(shm);
        close(fd);
        if (i % 50 == 49)
            round_in_a_process(service);
    }
}
