/* SPDX-License-Identifier: BSD-2-Clause */
/* Rounds without end: open the device and a session, invoke over shared memory, close all of it. */
#include "tee_client.h"

CASE(rounds)
{
    const char *service = getenv("TEE_CLIENT_SERVICE");
    unsigned long count = strtoul(getenv("TEE_CLIENT_COUNT"), NULL, 10);
    __u32 func = (__u32)strtoul(getenv("TEE_CLIENT_FUNC"), NULL, 10);

    for (unsigned long i = 0; i < count; i++) {
        int fd = must_open(TEE0, O_RDWR), id;
        int shm = shm_alloc(fd, PAGE, &id, NULL);
        param_t value[] = {value_out()}, memory[] = {memref_inout(id, 0, PAGE)};
        __u32 session = must_open_session(fd, service);

        CHECK(shm >= 0);
        CHECK_ANSWER(invoke(fd, session, func, 1, func ? memory : value), TEEC_SUCCESS);
        CHECK(!close_session(fd, session));
        close(shm);
        close(fd);
    }
}
