/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory as OP-TEE shows it to an Arm TA, tests/tas/memory.c: by whole pages, for the time of the
 * call, to read and write, and never as memory of its own.
 */
#include "tee_client.h"

/* tests/arm_tas.py */
#define TA(number) "000000" #number "-7461-7461-7461-746174617461"
#define MEMORY_TA TA(20)
#define MEMORY_TA2 TA(21)
#define OF_ONE_SESSION TA(22)
#define ACTOR TA(12) /* tests/tas/actor.c with sessions in one instance */
#define ACTOR_POLL 6
#define ACTOR_RETURN 1
#define BIG_TA TA(35)
#define DEEP_TA TA(36)

enum {
    NOTHING, LOOK, TURN, SET_SIZE, KEEP, READ_KEPT, WRITE_KEPT, PEEK, RIGHTS, RENDEZVOUS, SUM,
    STACK_OF, GROWN, POKE, CACHE,
};

enum { PARAMETER, ON_STACK, IN_DATA, IN_BSS, CONSTANT, CODE, AT_NULL, KEPT, BELOW_STACK };

enum { ACCESS_READ = 1, ACCESS_WRITE = 2, ANY_OWNER = 4, BOTH = 3 };
#define NONSECURE 0x10000000u
#define SECURE 0x20000000u

#define TEEC_ERROR_ACCESS_DENIED 0xFFFF0001u
#define NULL_ID (-1) /* TEE_MEMREF_NULL */

/* Memory that the TA shares with the client, and memory that is copied for it. */
enum { ALLOCATED, SEALED, REGISTERED, KINDS };

static struct memory new_memory(int fd, int kind, size_t pages)
{
    struct memory memory = {.size = pages * PAGE};
    int file;

    switch (kind) {
    case ALLOCATED:
        return must_alloc(fd, memory.size);
    case REGISTERED:
        return must_register(fd, new_pages(pages), memory.size);
    default:
        file = memfd_create("memory", MFD_ALLOW_SEALING);
        CHECK(ftruncate(file, (off_t)memory.size) == 0);
        CHECK(fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
        memory.bytes = mmap(NULL, memory.size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        CHECK(memory.bytes != MAP_FAILED);
        memory.fd = shm_register_fd(fd, file, &memory.id);
        CHECK(memory.fd >= 0);
        close(file);
        return memory;
    }
}

struct client {
    int fd;
    __u32 session;
};

static struct client client_of(const char *uuid)
{
    struct client client = {.fd = tee_open()};

    client.session = must_open_session(client.fd, uuid);
    return client;
}

static struct answer call(const struct client *client, __u32 func, size_t n, param_t *params)
{
    return invoke(client->fd, client->session, func, n, params);
}

static void must_call(const struct client *client, __u32 func, size_t n, param_t *params)
{
    struct answer answer = call(client, func, n, params);

    if (answer.error || answer.ret)
        FAIL("command %u: errno %d, result %#x, origin %u", func, answer.error, answer.ret,
             answer.origin);
}

/* It has panicked, and stays so. */
static void must_die(const struct client *client, __u32 func, size_t n, param_t *params)
{
    for (int i = 0; i < 2; i++) {
        struct answer answer = call(client, func, n, params);

        CHECK_EQ(answer.error, 0);
        CHECK_EQ(answer.ret, TEEC_ERROR_TARGET_DEAD);
        CHECK_EQ(answer.origin, TEEC_ORIGIN_TEE);
    }
}

/* References */

CASE(references_into_one_buffer_keep_their_distance)
{
    static const struct {
        unsigned a, a_size, b, b_size;
        bool touch; /* their pages do */
    } rows[] = {
        {0, 100, 100, 100, true},           {100, 100, 0, 100, true},
        {7, 5, 4000, 90, true},             {0, 3 * PAGE, PAGE + 5, 10, true},
        {PAGE + 5, 10, 0, 3 * PAGE, true},  {10, PAGE, PAGE + 10, PAGE, true},
        {0, PAGE, PAGE, PAGE, true},        {5, 10, PAGE + 9, 10, true},
        {123, 0, 124, 0, true},             {1, 1, 1, 1, true},
        {0, 10, 2 * PAGE, 10, false},       {3 * PAGE + 1, 1, PAGE + 1, 1, false},
    };

    for (int kind = 0; kind < KINDS; kind++) {
        struct client c = client_of(MEMORY_TA);
        struct memory memory = new_memory(c.fd, kind, 4);

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            param_t params[4] = {memref_in(memory.id, rows[i].a, rows[i].a_size),
                                 memref_inout(memory.id, rows[i].b, rows[i].b_size), value_out(),
                                 value_out()};

            must_call(&c, LOOK, 4, params);
            CHECK_EQ(params[2].b & 0xf, 0);
            CHECK_EQ(params[2].b >> 4 & 0xfff, rows[i].a % PAGE);
            CHECK_EQ(params[2].b >> 16 & 0xfff, rows[i].b % PAGE);
            CHECK_EQ(params[3].a, rows[i].a_size);
            CHECK_EQ(params[3].b, rows[i].b_size);
            if (rows[i].touch && params[2].a != (__u32)(rows[i].b - rows[i].a))
                FAIL("kind %d, row %zu: distance %lld", kind, i, (long long)(int)params[2].a);
        }
        close(c.fd);
    }
}

CASE(references_into_two_buffers)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct client c = client_of(MEMORY_TA);
        struct memory one = new_memory(c.fd, kind, 2), two = new_memory(c.fd, kind, 2);
        param_t params[4] = {memref_in(one.id, 10, PAGE), memref_in(two.id, 20, PAGE),
                             memref_in(one.id, PAGE, 7), value_out()};
        __u32 sum = 0;

        for (size_t i = 0; i < one.size; i++) {
            one.bytes[i] = (unsigned char)(i * 7);
            two.bytes[i] = (unsigned char)(i * 13 + 1);
        }
        for (size_t i = 0; i < PAGE; i++)
            sum = sum * 31 + one.bytes[10 + i];
        for (size_t i = 0; i < PAGE; i++)
            sum = sum * 31 + two.bytes[20 + i];
        for (size_t i = 0; i < 7; i++)
            sum = sum * 31 + one.bytes[PAGE + i];
        must_call(&c, SUM, 4, params);
        CHECK_EQ(params[3].a, sum);
        close(c.fd);
    }
}

CASE(null_is_null_and_no_bytes_are_somewhere)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct client c = client_of(MEMORY_TA);
        struct memory memory = new_memory(c.fd, kind, 2);
        param_t params[4] = {memref_in(NULL_ID, 0, 0), memref_inout(memory.id, 5, 0), value_out(),
                             value_out()};

        must_call(&c, LOOK, 4, params);
        CHECK_EQ(params[2].b & 0xf, 1);
        CHECK_EQ(params[2].b >> 16 & 0xfff, 5);
        CHECK_EQ(params[3].a, 0);
        CHECK_EQ(params[3].b, 0);
        /* Also alone, at the start and at the end. */
        for (__u64 offset = 0; offset <= memory.size; offset += memory.size / 2) {
            param_t alone[4] = {memref_out(memory.id, offset, 0), none(), value_out(), value_out()};

            must_call(&c, LOOK, 4, alone);
            CHECK_EQ(alone[2].b & 1, 0);
        }
        param_t nulls[4] = {memref_inout(NULL_ID, 0, 0), memref_out(NULL_ID, 0, 0), value_out(),
                            value_out()};
        must_call(&c, LOOK, 4, nulls);
        CHECK_EQ(nulls[2].b, 3);
        close(c.fd);
    }
}

CASE(the_size_that_the_ta_sets_comes_back)
{
    static const __u32 results[] = {TEEC_SUCCESS, TEEC_ERROR_SHORT_BUFFER, TEEC_ERROR_GENERIC};

    for (int kind = 0; kind < KINDS; kind++) {
        struct client c = client_of(MEMORY_TA);
        struct memory memory = new_memory(c.fd, kind, 1);

        for (size_t i = 0; i < 3; i++)
            for (__u32 size = 0; size < 400000; size = size * 7 + 1) {
                param_t params[2] = {memref_out(memory.id, 50, 300), value_in(size, results[i])};
                struct answer answer = call(&c, SET_SIZE, 2, params);

                CHECK_ANSWER(answer, results[i]);
                CHECK_EQ(answer.origin, TEEC_ORIGIN_TRUSTED_APP);
                CHECK_EQ(params[0].b, size);
                CHECK_EQ(params[0].a, 50);
            }
        /* That of an input is the client's. */
        param_t input[2] = {memref_in(memory.id, 0, 300), value_in(7, 0)};
        must_call(&c, SET_SIZE, 2, input);
        CHECK_EQ(input[0].b, 300);
        param_t null[2] = {memref_out(NULL_ID, 0, 0), value_in(77, TEEC_ERROR_SHORT_BUFFER)};
        CHECK_ANSWER(call(&c, SET_SIZE, 2, null), TEEC_ERROR_SHORT_BUFFER);
        CHECK_EQ(null[0].b, 77);
        close(c.fd);
    }
}

CASE(the_ta_can_write_whatever_the_direction)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct client c = client_of(MEMORY_TA);
        struct memory memory = new_memory(c.fd, kind, 3);
        param_t params[3] = {memref_in(memory.id, 100, 50), memref_out(memory.id, PAGE - 20, 40),
                             memref_inout(memory.id, 2 * PAGE, PAGE)};

        memset(memory.bytes, 0x0f, memory.size);
        must_call(&c, TURN, 3, params);
        for (size_t i = 0; i < memory.size; i++) {
            bool input = i >= 100 && i < 150;
            bool output = (i >= PAGE - 20 && i < PAGE + 20) || i >= 2 * PAGE;
            /* What is copied is copied back for outputs only. */
            int expected = output || (input && kind != REGISTERED) ? 0xf0 : 0x0f;

            if (memory.bytes[i] != expected)
                FAIL("kind %d: byte %zu is %#x", kind, i, memory.bytes[i]);
        }
        close(c.fd);
    }
}

CASE(large_memory_at_any_offset)
{
    static const unsigned sizes[] = {1, 65535, 65536, 65537, 300001, 1 << 20};

    for (int kind = 0; kind < KINDS; kind++) {
        struct client c = client_of(MEMORY_TA);
        struct memory memory = new_memory(c.fd, kind, 300);

        for (size_t i = 0; i < memory.size; i++)
            memory.bytes[i] = (unsigned char)(i * 31 + (i >> 8));
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            unsigned offset = (unsigned)(i * 1111 + 1);
            param_t params[4] = {memref_in(memory.id, offset, sizes[i]), none(), none(),
                                 value_out()};
            __u32 sum = 0;

            for (size_t j = 0; j < sizes[i]; j++)
                sum = sum * 31 + memory.bytes[offset + j];
            must_call(&c, SUM, 4, params);
            CHECK_EQ(params[3].a, sum);
            param_t turn = memref_inout(memory.id, offset, sizes[i]);
            unsigned char first = memory.bytes[offset];
            unsigned char before = memory.bytes[offset - 1];
            unsigned char last = memory.bytes[offset + sizes[i] - 1];
            unsigned char after = memory.bytes[offset + sizes[i]];

            must_call(&c, TURN, 1, &turn);
            CHECK_EQ(memory.bytes[offset - 1], before);
            CHECK_EQ(memory.bytes[offset], first ^ 0xff);
            CHECK_EQ(memory.bytes[offset + sizes[i] - 1], last ^ 0xff);
            CHECK_EQ(memory.bytes[offset + sizes[i]], after);
        }
        close(c.fd);
    }
}

/* What is mapped, and how long */

CASE(whole_pages_are_seen_and_no_more)
{
    for (int kind = 0; kind < KINDS; kind++) {
        static const int beyond[] = {PAGE, -PAGE, 2 * PAGE, -1, -2 * PAGE};
        struct memory memory;

        for (size_t i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++) {
            struct client c = client_of(OF_ONE_SESSION);
            param_t params[3];
            struct memory target = must_alloc(c.fd, PAGE);

            memory = new_memory(c.fd, kind, 3);
            memset(memory.bytes, 'x', memory.size);
            params[0] = memref_in(memory.id, PAGE, 20);
            params[1] = value_in((__u32)(PAGE - 1), 0);
            params[2] = memref_out(target.id, 0, 1);
            must_call(&c, PEEK, 3, params);
            CHECK_EQ(target.bytes[0], kind == REGISTERED ? 0 : 'x');
            params[1] = value_in((__u32)beyond[i], 0);
            params[2] = memref_out(target.id, 0, 1);
            must_die(&c, PEEK, 3, params);
            close(c.fd);
        }
    }
}

/* A way to make a TA forget what it had: what comes between the call that keeps and the next. */
enum { NO_MEMORY, NO_PARAMETERS, ANOTHER_BUFFER, ANOTHER_PAGE, NULL_REFERENCE, A_CLOSE, BETWEENS };

CASE(a_pointer_that_was_kept_faults)
{
    for (int kind = 0; kind < KINDS; kind++)
        for (int between = 0; between < BETWEENS; between++)
            for (int write = 0; write < 2; write++) {
                struct client c = client_of(MEMORY_TA);
                struct memory memory = new_memory(c.fd, kind, 8);
                struct memory another = must_alloc(c.fd, PAGE);
                __u32 second = must_open_session(c.fd, MEMORY_TA);
                param_t keep = memref_inout(memory.id, 10, 20);
                param_t params[4] = {none(), none(), none(), value_out()};

                memset(memory.bytes, 42, memory.size);
                must_call(&c, KEEP, 1, &keep);
                switch (between) {
                case NO_PARAMETERS:
                    CHECK_ANSWER(invoke(c.fd, second, NOTHING, 0, NULL), TEEC_SUCCESS);
                    break;
                case ANOTHER_BUFFER:
                    params[0] = memref_in(another.id, 0, 20);
                    break;
                case ANOTHER_PAGE:
                    /* In memory that is copied another page comes to the same place. */
                    if (kind == REGISTERED)
                        params[0] = memref_in(another.id, 10, 20);
                    else
                        params[0] = memref_in(memory.id, 5 * PAGE + 10, 20);
                    break;
                case NULL_REFERENCE:
                    params[0] = memref_in(NULL_ID, 0, 0);
                    break;
                case A_CLOSE:
                    CHECK(close_session(c.fd, second) == 0);
                    break;
                }
                must_die(&c, write ? WRITE_KEPT : READ_KEPT, 4, params);
                for (size_t i = 0; i < memory.size; i++)
                    CHECK_EQ(memory.bytes[i], 42);
                close(c.fd);
            }
}

CASE(a_pointer_that_was_kept_from_the_open_faults)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct client c = {.fd = tee_open()};
        struct memory memory = new_memory(c.fd, kind, 1);
        param_t keep = memref_inout(memory.id, 0, 20);
        param_t params[4] = {none(), none(), none(), value_out()};
        struct answer answer = open_session(c.fd, OF_ONE_SESSION, 1, &keep);

        CHECK_ANSWER(answer, TEEC_SUCCESS);
        c.session = answer.session;
        must_die(&c, READ_KEPT, 4, params);
        close(c.fd);
    }
}

/* As long as nothing else enters the TA. */
CASE(a_pointer_into_memory_that_is_passed_again_is_as_good_as_the_new_one)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct client c = client_of(OF_ONE_SESSION);
        struct memory memory = new_memory(c.fd, kind, 1);
        param_t params[4] = {memref_inout(memory.id, 10, 20), none(), none(), value_out()};

        must_call(&c, KEEP, 4, params);
        for (int i = 0; i < 3; i++) {
            memory.bytes[10] = (unsigned char)(i + 5);
            must_call(&c, READ_KEPT, 4, params);
            CHECK_EQ(params[3].a, i + 5);
        }
        close(c.fd);
    }
}

CASE(memory_that_was_freed_is_gone)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct client c = client_of(MEMORY_TA);
        struct memory memory = new_memory(c.fd, kind, 4);
        param_t keep = memref_inout(memory.id, 0, 20);
        param_t params[4] = {none(), none(), none(), value_out()};

        must_call(&c, KEEP, 1, &keep);
        close(memory.fd);
        must_die(&c, READ_KEPT, 4, params);
        close(c.fd);
    }
}

CASE(nobody_sees_what_another_client_passed)
{
    struct client c = client_of(MEMORY_TA); /* which keeps the one instance alive */
    static const char secret[] = "the first client's";
    struct gate ready = new_gate();
    pid_t child = must_fork();

    if (!child) {
        struct client first = client_of(MEMORY_TA);
        struct memory memory = new_memory(first.fd, REGISTERED, 16);
        param_t params[4] = {memref_inout(memory.id, 0, memory.size), none(), none(), value_out()};

        for (size_t i = 0; i + sizeof(secret) <= memory.size; i += sizeof(secret))
            memcpy(memory.bytes + i, secret, sizeof(secret));
        must_call(&first, SUM, 4, params);
        gate_send(&ready, 1);
        _exit(0);
    }
    CHECK_EQ(gate_receive(&ready), 1);
    must_succeed(child);
    for (unsigned offset = 0; offset < 3 * PAGE; offset += 1000) {
        struct memory memory = new_memory(c.fd, REGISTERED, 4);
        struct memory target = must_alloc(c.fd, PAGE);
        int start = -(int)(offset % PAGE);
        param_t params[3] = {memref_in(memory.id, offset, 30), value_in((__u32)start, 0),
                             memref_out(target.id, 0, PAGE)};

        memset(memory.bytes, 'm', memory.size);
        must_call(&c, PEEK, 3, params);
        for (unsigned i = 0; i < PAGE; i++) {
            unsigned at = offset / PAGE * PAGE + i;
            bool mine = at >= offset && at < offset + 30;

            /* OP-TEE shows the rest of the client's own page here; a copy has none. */
            if (target.bytes[i] != (mine ? 'm' : 0))
                FAIL("offset %u: byte %u is %#x", offset, i, target.bytes[i]);
        }
        close(memory.fd);
        close(target.fd);
    }
}

CASE(what_is_written_beside_a_copy_goes_nowhere)
{
    struct client c = client_of(MEMORY_TA);
    struct memory memory = new_memory(c.fd, REGISTERED, 2);
    param_t params[2] = {memref_inout(memory.id, 100, 20), value_in(500, 1)};

    must_call(&c, POKE, 2, params);
    for (size_t i = 0; i < memory.size; i++)
        CHECK_EQ(memory.bytes[i], 0);
    /* And is not there for the next one. */
    struct memory target = must_alloc(c.fd, PAGE);
    param_t peek[3] = {memref_inout(memory.id, 100, 20), value_in(500, 0),
                       memref_out(target.id, 0, 1)};
    must_call(&c, PEEK, 3, peek);
    CHECK_EQ(target.bytes[0], 0);
}

CASE(what_is_written_beside_a_reference_is_written)
{
    for (int kind = ALLOCATED; kind <= SEALED; kind++) {
        struct client c = client_of(MEMORY_TA);
        struct memory memory = new_memory(c.fd, kind, 2);
        param_t params[2] = {memref_in(memory.id, 100, 20), value_in(500, 7)};

        must_call(&c, POKE, 2, params);
        CHECK_EQ(memory.bytes[600], 7);
        close(c.fd);
    }
}

/* Rights */

static __u32 rights(const struct client *c, param_t memory, __u32 place, int offset, __u32 flags,
                    __u32 size)
{
    param_t params[3] = {memory, value_inout(flags, size), value_in(place, (__u32)offset)};

    must_call(c, RIGHTS, 3, params);
    return (__u32)params[1].a;
}

CASE(rights_of_what_was_passed)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct client c = client_of(OF_ONE_SESSION);
        struct memory memory = new_memory(c.fd, kind, 4);
        param_t passed = memref_in(memory.id, PAGE + 96, 100);
        const __u32 denied = TEEC_ERROR_ACCESS_DENIED;

        for (__u32 flags = ACCESS_READ; flags <= BOTH; flags++) {
            CHECK_EQ(rights(&c, passed, PARAMETER, 0, ANY_OWNER | flags, 100), TEEC_SUCCESS);
            CHECK_EQ(rights(&c, passed, PARAMETER, 0, flags, 100), denied);
            /* By pages. */
            CHECK_EQ(rights(&c, passed, PARAMETER, 0, ANY_OWNER | flags, 4000), TEEC_SUCCESS);
            CHECK_EQ(rights(&c, passed, PARAMETER, 0, ANY_OWNER | flags, 4001), denied);
            CHECK_EQ(rights(&c, passed, PARAMETER, -96, ANY_OWNER | flags, 4096), TEEC_SUCCESS);
            CHECK_EQ(rights(&c, passed, PARAMETER, -97, ANY_OWNER | flags, 1), denied);
            CHECK_EQ(rights(&c, passed, PARAMETER, 0, ANY_OWNER | NONSECURE | flags, 10), 0);
            CHECK_EQ(rights(&c, passed, PARAMETER, 0, ANY_OWNER | SECURE | flags, 10), denied);
        }
        CHECK_EQ(rights(&c, passed, PARAMETER, 0, ANY_OWNER | BOTH, 0xffffffff), denied);
        CHECK_EQ(rights(&c, passed, PARAMETER, 0, 0, 0), TEEC_SUCCESS);
        /* Of an earlier call: nothing. */
        must_call(&c, KEEP, 1, &passed);
        CHECK_EQ(rights(&c, passed, KEPT, 0, ANY_OWNER | BOTH, 100), TEEC_SUCCESS);
        CHECK_EQ(rights(&c, none(), KEPT, 0, ANY_OWNER | BOTH, 100), denied);
        CHECK_EQ(rights(&c, none(), KEPT, 0, ANY_OWNER | ACCESS_READ, 1), denied);
        close(c.fd);
    }
}

CASE(rights_of_the_tas_own_memory)
{
    struct client c = client_of(MEMORY_TA);
    static const __u32 writable[] = {ON_STACK, IN_DATA, IN_BSS};
    static const __u32 constant[] = {CONSTANT, CODE};
    static const __u32 nothing[] = {AT_NULL, BELOW_STACK};
    const __u32 denied = TEEC_ERROR_ACCESS_DENIED;

    for (__u32 owner = 0; owner <= ANY_OWNER; owner += ANY_OWNER) {
        for (size_t i = 0; i < 3; i++) {
            for (__u32 flags = 0; flags <= BOTH; flags++)
                CHECK_EQ(rights(&c, none(), writable[i], 0, owner | flags, 64), TEEC_SUCCESS);
            CHECK_EQ(rights(&c, none(), writable[i], 0, owner | SECURE | BOTH, 64), TEEC_SUCCESS);
            CHECK_EQ(rights(&c, none(), writable[i], 0, owner | NONSECURE | BOTH, 64), denied);
            CHECK_EQ(rights(&c, none(), writable[i], 0, owner | BOTH, 0x10000000), denied);
        }
        for (size_t i = 0; i < 2; i++) {
            CHECK_EQ(rights(&c, none(), constant[i], 0, owner | ACCESS_READ, 16), TEEC_SUCCESS);
            CHECK_EQ(rights(&c, none(), constant[i], 0, owner | ACCESS_WRITE, 16), denied);
            CHECK_EQ(rights(&c, none(), constant[i], 0, owner | BOTH, 16), denied);
        }
        for (size_t i = 0; i < 2; i++) {
            CHECK_EQ(rights(&c, none(), nothing[i], 0, owner | ACCESS_READ, 1), denied);
            CHECK_EQ(rights(&c, none(), nothing[i], 0, owner, 0), TEEC_SUCCESS);
        }
    }
}

CASE(caches_are_for_those_that_ask_for_them)
{
    struct client c = client_of(MEMORY_TA);
    struct memory memory = must_alloc(c.fd, PAGE);
    param_t params[2] = {memref_inout(memory.id, 0, PAGE), value_in(1, 0)};

    CHECK_ANSWER(call(&c, CACHE, 2, params), TEEC_ERROR_NOT_SUPPORTED);
}

/* Stack and image */

CASE(a_stack_of_the_size_that_the_ta_says)
{
    struct client c = client_of(DEEP_TA);
    param_t value = value_inout(900 << 10, 0);

    must_call(&c, STACK_OF, 1, &value);
    CHECK(value.a > 1);
    value = value_inout(1100 << 10, 0);
    must_die(&c, STACK_OF, 1, &value);
    /* One of 8 KiB. */
    struct client d = client_of(OF_ONE_SESSION);
    value = value_inout(4 << 10, 0);
    must_call(&d, STACK_OF, 1, &value);
    value = value_inout(9 << 10, 0);
    must_die(&d, STACK_OF, 1, &value);
}

CASE(a_big_image)
{
    struct client one = client_of(BIG_TA), two = client_of(BIG_TA);

    for (__u64 i = 1; i <= 3; i++) {
        param_t value = value_out();

        must_call(&one, GROWN, 1, &value);
        CHECK_EQ(value.a, i * (12 << 20) / PAGE);
    }
    param_t value = value_out();
    must_call(&two, GROWN, 1, &value);
    CHECK_EQ(value.a, (12 << 20) / PAGE);
}

/* Several clients */

CASE(two_clients_call_two_tas_at_once)
{
    /* Each TA waits for what the other one writes, so none can be the first to be done. */
    static const char *const uuids[] = {MEMORY_TA, MEMORY_TA2};
    int file = memfd_create("meeting", MFD_ALLOW_SEALING);
    pid_t children[2];

    CHECK(ftruncate(file, PAGE) == 0);
    CHECK(fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
    for (__u32 me = 0; me < 2; me++) {
        children[me] = must_fork();
        if (children[me])
            continue;
        struct client c = client_of(uuids[me]);
        int id;

        CHECK(shm_register_fd(c.fd, file, &id) >= 0);
        param_t params[2] = {memref_inout(id, 0, 8), value_in(me, 0)};
        must_call(&c, RENDEZVOUS, 2, params);
        _exit(0);
    }
    must_succeed(children[0]);
    must_succeed(children[1]);
}

CASE(a_client_that_dies_leaves_the_ta_to_others)
{
    struct client c = client_of(ACTOR);
    int file = memfd_create("state", MFD_ALLOW_SEALING);
    volatile unsigned char *state;
    pid_t child;

    CHECK(ftruncate(file, PAGE) == 0);
    CHECK(fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
    state = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(state != MAP_FAILED);
    child = must_fork();
    if (!child) {
        struct client dying = client_of(ACTOR);
        int id;

        CHECK(shm_register_fd(dying.fd, file, &id) >= 0);
        param_t params[2] = {value_in(0, 1), memref_inout(id, 0, PAGE)};
        call(&dying, ACTOR_POLL, 2, params);
        _exit(1);
    }
    WAIT_UNTIL(state[0]);
    must_kill(child);
    /* The command sees its cancellation flag, and the next one has its turn. */
    param_t value = value_in(0, 0);
    must_call(&c, ACTOR_RETURN, 1, &value);
    CHECK_EQ(state[1], 3);
}

CASE(two_instances_of_one_ta_run_at_once)
{
    int fd = tee_open();
    struct memory memory = must_alloc(fd, PAGE);
    __u32 sessions[2] = {must_open_session(fd, OF_ONE_SESSION), must_open_session(fd, OF_ONE_SESSION)};
    pid_t children[2];

    for (__u32 me = 0; me < 2; me++) {
        children[me] = must_fork();
        if (children[me])
            continue;
        param_t params[2] = {memref_inout(memory.id, 0, 8), value_in(me, 0)};
        CHECK_ANSWER(invoke(fd, sessions[me], RENDEZVOUS, 2, params), TEEC_SUCCESS);
        _exit(0);
    }
    must_succeed(children[0]);
    must_succeed(children[1]);
}
