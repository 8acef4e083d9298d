/* SPDX-License-Identifier: BSD-2-Clause */
/* A service that is hostile itself: its own sessions may suffer, nobody else's. */
#include "tee_client.h"

#define HOSTILE "0b57111e-7a3c-4f0d-9b7e-5c2d1f3a4b60"

enum {
    EXIT_NOW, ABORT, STOP_AND_DIE, SCRIBBLE, SCRIBBLE_ON, WAITS, UNKNOWN, LOG, NEXT, CLOSE_ALL, SIZES,
    OTHER_THREADS, FORK_CHILDREN, COMMANDS
};

static void others_work(int fd)
{
    __u32 session = must_open_session(fd, MEMORY);
    struct memory memory = must_alloc(fd, PAGE);
    param_t params[] = {value_in(0x42, PAGE), memref_out(memory.id, 0, PAGE)};

    CHECK_ANSWER(invoke(fd, session, 0, 2, params), TEEC_SUCCESS);
    CHECK_EQ(memory.bytes[PAGE - 1], 0x42);
    CHECK(close_session(fd, session) == 0);
    CHECK(close(memory.fd) == 0);
    CHECK(munmap(memory.bytes, PAGE) == 0);
}

static struct answer ask(int fd, __u32 session, __u32 command)
{
    struct memory memory = must_alloc(fd, PAGE);
    param_t params[] = {value_inout(1, 2), memref_inout(memory.id, 0, PAGE)};
    struct answer answer = invoke(fd, session, command, 2, params);

    CHECK_EQ(answer.error, 0);
    return answer;
}

static void attack(__u32 command, bool is_its_end)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, HOSTILE), other = must_open_session(fd, HOSTILE);

    for (int i = 0; i < 3; i++) {
        struct answer answer = ask(fd, session, command);

        if (is_its_end)
            CHECK_EQ(answer.ret, TEEC_ERROR_TARGET_DEAD);
        others_work(fd);
    }
    /* Another session of it has a process of its own. */
    CHECK_ANSWER(invoke(fd, other, COMMANDS, 0, NULL), TEEC_SUCCESS);
    CHECK(close_session(fd, session) == 0);
    CHECK(close_session(fd, other) == 0);
    others_work(fd);
}

CASE(exits) { attack(EXIT_NOW, true); }
CASE(aborts) { attack(ABORT, true); }
CASE(stops_and_dies) { attack(STOP_AND_DIE, true); }
CASE(scribbles) { attack(SCRIBBLE, false); }
CASE(scribbles_on) { attack(SCRIBBLE_ON, false); }
CASE(waits) { attack(WAITS, false); }
CASE(unknown_commands) { attack(UNKNOWN, false); }
CASE(logs) { attack(LOG, false); }
CASE(takes_its_next_command) { attack(NEXT, false); }
CASE(closes_all) { attack(CLOSE_ALL, false); }
CASE(says_strange_sizes) { attack(SIZES, false); }
CASE(speaks_from_other_threads) { attack(OTHER_THREADS, false); }
CASE(speaks_from_children) { attack(FORK_CHILDREN, false); }

/* The size as the service says, also when no buffer could be so large; values have 32 bits. */
CASE(strange_sizes_arrive)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, HOSTILE);
    struct memory memory = must_alloc(fd, PAGE);
    param_t params[] = {value_inout(1, 2), memref_inout(memory.id, 0, PAGE)};

    CHECK_ANSWER(invoke(fd, session, SIZES, 2, params), TEEC_SUCCESS);
    CHECK_EQ(params[0].a, 0xffffffff);
    CHECK_EQ(params[1].b, UINT64_MAX);
    params[1] = memref_inout(memory.id, 0, PAGE);
    CHECK_ANSWER(invoke(fd, session, COMMANDS, 2, params), TEEC_SUCCESS);
}
