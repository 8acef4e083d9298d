/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The smallest whole client: a session with the echo service, and text that it changes in shared
 * memory. For all the ways in which a program can be built and started.
 */
#include "tee_client.h"

CASE(hello)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ECHO);
    struct memory memory = must_alloc(fd, PAGE);
    param_t params[1] = {memref_inout(memory.id, 0, 32)};

    strcpy((char *)memory.bytes, "hello");
    CHECK_ANSWER(invoke(fd, session, 1, 1, params), TEEC_SUCCESS);
    CHECK(!strcmp((char *)memory.bytes, "HELLO"));
    CHECK_EQ(close_session(fd, session), 0);
}
