/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Registered memory is copied to the service and back, but looks as if its pages were shared. The
 * service is tests/services/memory.py, in a process of its own.
 */
#include "tee_client.h"

#include <sched.h>

enum { MEMORY_FILL, MEMORY_FILL_AND_FAIL, MEMORY_ASK, MEMORY_LOOK, MEMORY_THROUGH };

static bool all_bytes(const unsigned char *bytes, size_t size, int byte)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != byte)
            return false;
    return true;
}

struct client {
    int fd;
    __u32 session;
};

static struct client new_client(void)
{
    struct client client = {.fd = tee_open()};

    client.session = must_open_session(client.fd, MEMORY);
    return client;
}

static struct answer call(const struct client *client, __u32 func, size_t n, param_t *params)
{
    return invoke(client->fd, client->session, func, n, params);
}

CASE(an_output_starts_with_the_clients_bytes)
{
    struct client c = new_client();
    struct memory memory = must_register(c.fd, new_pages(1), PAGE);
    param_t params[2] = {value_out(), memref_out(memory.id, 10, 20)};

    memory.bytes[10] = 7;
    memory.bytes[29] = 8;
    CHECK_ANSWER(call(&c, MEMORY_LOOK, 2, params), TEEC_SUCCESS);
    CHECK_EQ(params[0].a, 7);
    CHECK_EQ(params[0].b, 8);
    CHECK_EQ(params[1].b, 20);
    /* Each time anew. */
    memory.bytes[10] = 9;
    CHECK_ANSWER(call(&c, MEMORY_LOOK, 2, params), TEEC_SUCCESS);
    CHECK_EQ(params[0].a, 9);
}

CASE(all_that_was_passed_comes_back_even_if_the_size_is_less)
{
    struct client c = new_client();
    struct memory memory = must_register(c.fd, new_pages(1), PAGE);
    param_t params[2] = {value_in('f', 3), memref_out(memory.id, 100, 50)};

    memset(memory.bytes, '.', PAGE);
    CHECK_ANSWER(call(&c, MEMORY_FILL, 2, params), TEEC_SUCCESS);
    CHECK_EQ(params[1].b, 3);
    CHECK(all_bytes(memory.bytes, 100, '.'));
    CHECK(all_bytes(memory.bytes + 100, 50, 'f'));
    CHECK(all_bytes(memory.bytes + 150, PAGE - 150, '.'));
}

CASE(what_was_written_comes_back_with_an_error_too)
{
    struct client c = new_client();
    struct memory memory = must_register(c.fd, new_pages(1), PAGE);
    param_t params[2] = {value_in('e', 5), memref_out(memory.id, 0, 50)};

    CHECK_ANSWER(call(&c, MEMORY_FILL_AND_FAIL, 2, params), TEEC_ERROR_BAD_PARAMETERS);
    CHECK_EQ(params[1].b, 5);
    CHECK(all_bytes(memory.bytes, 50, 'e'));
    CHECK_EQ(memory.bytes[50], 0);
}

CASE(a_size_larger_than_the_buffer_comes_back)
{
    struct client c = new_client();
    struct memory memory = must_register(c.fd, new_pages(1), PAGE);
    const __u32 sizes[] = {51, PAGE, PAGE + 1, 1u << 31, ~0u};

    memset(memory.bytes, '.', PAGE);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        param_t params[2] = {value_in(sizes[i], 0), memref_out(memory.id, 0, 50)};

        CHECK_ANSWER(call(&c, MEMORY_ASK, 2, params), TEEC_ERROR_SHORT_BUFFER);
        CHECK_EQ(params[1].b, sizes[i]);
    }
    CHECK(all_bytes(memory.bytes, PAGE, '.'));
}

CASE(a_NULL_reference_asks_for_the_size)
{
    struct client c = new_client();
    param_t params[2] = {value_in(1234, 0), memref_out(-1, 0, 0)};

    CHECK_ANSWER(call(&c, MEMORY_ASK, 2, params), TEEC_ERROR_SHORT_BUFFER);
    CHECK_EQ(params[1].b, 1234);
}

CASE(an_empty_reference_is_none)
{
    struct client c = new_client();
    struct memory memory = must_register(c.fd, new_pages(1), PAGE);
    param_t params[2] = {value_in('x', 0), memref_out(memory.id, PAGE, 0)};

    CHECK_ANSWER(call(&c, MEMORY_FILL, 2, params), TEEC_SUCCESS);
    CHECK(all_bytes(memory.bytes, PAGE, 0));
}

CASE(an_input_is_not_written_back)
{
    struct client c = new_client();
    struct memory memory = must_register(c.fd, new_pages(1), PAGE);
    param_t params[2] = {value_out(), memref_in(memory.id, 0, PAGE)};

    memory.bytes[0] = 3;
    /* Or it would fail: the page is not to be written when the call ends. */
    make_readonly(memory.bytes, 1);
    CHECK_ANSWER(call(&c, MEMORY_LOOK, 2, params), TEEC_SUCCESS);
    CHECK_EQ(params[0].a, 3);
}

CASE(two_references_to_the_same_bytes_share_them)
{
    struct client c = new_client();
    struct memory memory = must_register(c.fd, new_pages(1), PAGE);
    const param_t others[] = {
        memref_in(memory.id, 0, 16),
        memref_out(memory.id, 0, 16),
        memref_inout(memory.id, 8, 4),
        memref_in(memory.id, 15, 1),
    };

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        param_t params[3] = {value_inout('a' + i, 0), memref_inout(memory.id, 0, 16), others[i]};

        CHECK_ANSWER(call(&c, MEMORY_THROUGH, 3, params), TEEC_SUCCESS);
        CHECK_EQ(params[0].b, 'a' + i);
        CHECK(all_bytes(memory.bytes, 16, 'a' + (int)i));
    }
}

CASE(overlapping_registrations_share_their_bytes)
{
    struct client c = new_client();
    unsigned char *pages = new_pages(4);
    struct memory low = must_register(c.fd, pages, 2 * PAGE + 100);
    struct memory high = must_register(c.fd, pages + 2 * PAGE, 2 * PAGE);
    param_t params[3] = {value_inout('o', 0), memref_inout(low.id, 2 * PAGE - 8, 16),
                         memref_in(high.id, 7, 64)};

    CHECK_ANSWER(call(&c, MEMORY_THROUGH, 3, params), TEEC_SUCCESS);
    CHECK_EQ(params[0].b, 'o');
    CHECK(all_bytes(pages + 2 * PAGE - 8, 16, 'o'));
    CHECK(all_bytes(pages + 2 * PAGE + 8, PAGE, 0));
    /* And where they only touch, they do not. */
    params[0] = value_inout('p', 0);
    params[1] = memref_inout(low.id, 2 * PAGE - 8, 16);
    params[2] = memref_inout(high.id, 8, 64);
    CHECK_ANSWER(call(&c, MEMORY_THROUGH, 3, params), TEEC_SUCCESS);
    CHECK_EQ(params[0].b, 0);
}

CASE(of_overlapping_outputs_all_bytes_come_back)
{
    struct client c = new_client();
    struct memory memory = must_register(c.fd, new_pages(1), PAGE);
    param_t params[3] = {value_inout('q', 0), memref_inout(memory.id, 0, 32),
                         memref_inout(memory.id, 16, 32)};

    memset(memory.bytes, '.', PAGE);
    CHECK_ANSWER(call(&c, MEMORY_THROUGH, 3, params), TEEC_SUCCESS);
    CHECK(all_bytes(memory.bytes, 32, 'q'));
    CHECK(all_bytes(memory.bytes + 32, 16, '.'));
}

CASE(memory_of_all_kinds_goes_into_one_call)
{
    struct client c = new_client();
    struct memory allocated = must_alloc(c.fd, PAGE);
    struct memory registered = must_register(c.fd, new_pages(1), PAGE);
    int file = memfd_create("client", 0), id;
    unsigned char byte = 0;

    CHECK(ftruncate(file, 100) == 0);
    CHECK(shm_register_fd(c.fd, file, &id) >= 0);
    const int ids[][2] = {{allocated.id, registered.id}, {registered.id, allocated.id},
                          {id, registered.id}, {registered.id, id}, {id, allocated.id}};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        param_t params[3] = {value_inout('A' + i, 0), memref_inout(ids[i][0], 0, 100),
                             memref_inout(ids[i][1], 0, 100)};

        allocated.bytes[0] = registered.bytes[0] = '1';
        CHECK(pwrite(file, "1", 1, 0) == 1);
        CHECK_ANSWER(call(&c, MEMORY_THROUGH, 3, params), TEEC_SUCCESS);
        CHECK_EQ(params[0].b, '1');
        CHECK(pread(file, &byte, 1, 99) == 1);
        byte = ids[i][0] == allocated.id    ? allocated.bytes[99]
               : ids[i][0] == registered.id ? registered.bytes[99]
                                            : byte;
        CHECK_EQ(byte, 'A' + i);
    }
}

CASE(pages_made_readonly_afterwards_are_EFAULT_and_stay_as_they_are)
{
    struct client c = new_client();
    unsigned char *pages = new_pages(2);
    struct memory memory = must_register(c.fd, pages, 2 * PAGE);
    param_t params[2] = {value_in('w', 0), memref_out(memory.id, 0, PAGE)};

    memset(pages, '.', 2 * PAGE);
    make_readonly(pages, 1);
    CHECK_EQ(call(&c, MEMORY_FILL, 2, params).error, EFAULT);
    CHECK(all_bytes(pages, PAGE, '.'));
    /* Across both pages: the one that must not be written is not. */
    params[1] = memref_out(memory.id, 0, 2 * PAGE);
    CHECK_EQ(call(&c, MEMORY_FILL, 2, params).error, EFAULT);
    CHECK(all_bytes(pages, PAGE, '.'));
    /* The second alone is as good as before, and so is the session. */
    params[1] = memref_out(memory.id, PAGE, PAGE);
    CHECK_ANSWER(call(&c, MEMORY_FILL, 2, params), TEEC_SUCCESS);
    CHECK(all_bytes(pages + PAGE, PAGE, 'w'));
}

CASE(pages_that_are_gone_are_EFAULT)
{
    struct client c = new_client();
    unsigned char *pages = new_pages(2);
    struct memory memory = must_register(c.fd, pages, 2 * PAGE);
    param_t params[2] = {value_in('w', 0), memref_out(memory.id, 0, 2 * PAGE)};

    CHECK(munmap(pages, PAGE) == 0);
    CHECK_EQ(call(&c, MEMORY_FILL, 2, params).error, EFAULT);
    params[1] = memref_in(memory.id, 0, 8);
    CHECK_EQ(call(&c, MEMORY_LOOK, 2, params).error, EFAULT);
    params[1] = memref_out(memory.id, PAGE, PAGE);
    CHECK_ANSWER(call(&c, MEMORY_FILL, 2, params), TEEC_SUCCESS);
}

CASE(a_large_buffer_comes_back_whole)
{
    const size_t size = 24 << 20;
    struct client c = new_client();
    unsigned char *bytes = new_pages(size / PAGE + 1);
    struct memory memory = must_register(c.fd, bytes + 1, size);
    param_t params[2] = {value_in('L', 0), memref_out(memory.id, 0, size)};

    CHECK_ANSWER(call(&c, MEMORY_FILL, 2, params), TEEC_SUCCESS);
    CHECK_EQ(bytes[0], 0);
    CHECK(all_bytes(bytes + 1, size, 'L'));
    CHECK_EQ(bytes[size + 1], 0);
    /* And a small one afterwards has nothing of it. */
    memory = must_register(c.fd, new_pages(1), PAGE);
    params[0] = value_out();
    params[1] = memref_out(memory.id, 0, PAGE);
    CHECK_ANSWER(call(&c, MEMORY_LOOK, 2, params), TEEC_SUCCESS);
    CHECK_EQ(params[0].a, 0);
    CHECK_EQ(params[0].b, 0);
}

/* Whose memory it is: that of the process that registered it. */

CASE(a_child_that_passes_it_means_its_parents_bytes)
{
    struct client c = new_client();
    struct memory memory = must_register(c.fd, new_pages(1), PAGE);
    pid_t child = must_fork();

    if (!child) {
        param_t params[2] = {value_in('c', 0), memref_out(memory.id, 0, PAGE)};

        CHECK_ANSWER(call(&c, MEMORY_FILL, 2, params), TEEC_SUCCESS);
        CHECK(all_bytes(memory.bytes, PAGE, 0));
        _exit(0);
    }
    must_succeed(child);
    CHECK(all_bytes(memory.bytes, PAGE, 'c'));
}

CASE(of_a_process_that_ended_it_is_EFAULT)
{
    struct client c = new_client();
    struct gate gate = new_gate();
    param_t params[2] = {value_in('d', 0)};
    pid_t child = must_fork();

    if (!child) {
        struct memory memory = must_register(c.fd, new_pages(1), PAGE);

        gate_send(&gate, (__u32)memory.id);
        /* Its descriptor lives on in a message that nobody reads yet. */
        int sockets[2];
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
        send_fd(sockets[0], memory.fd);
        CHECK(dup2(sockets[1], 150) == 150);
        if (!must_fork()) {
            close(sockets[0]);
            for (;;)
                pause();
        }
        _exit(0);
    }
    params[1] = memref_out((int)gate_receive(&gate), 0, PAGE);
    must_succeed(child);
    CHECK_EQ(call(&c, MEMORY_FILL, 2, params).error, EFAULT);
}

static unsigned char static_bytes[2 * PAGE] __attribute__((aligned(4096)));

HELPER(after_exec) /* FD SESSION ID: the address means other bytes now */
{
    struct client c = {.fd = atoi(argv[1]), .session = (__u32)atoi(argv[2])};
    param_t params[2] = {value_in('E', 0), memref_out(atoi(argv[3]), 0, PAGE)};

    CHECK_EQ(call(&c, MEMORY_FILL, 2, params).error, EFAULT);
    CHECK(all_bytes(static_bytes, sizeof(static_bytes), 0));
    params[1].attr = TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT;
    params[0] = value_out();
    CHECK_EQ(call(&c, MEMORY_LOOK, 2, params).error, EFAULT);
    /* What this program registers is its own again. */
    struct memory memory = must_register(c.fd, static_bytes, PAGE);
    params[0] = value_in('F', 0);
    params[1] = memref_out(memory.id, 0, PAGE);
    CHECK_ANSWER(call(&c, MEMORY_FILL, 2, params), TEEC_SUCCESS);
    CHECK(all_bytes(static_bytes, PAGE, 'F'));
}

HELPER(before_exec)
{
    struct client c = new_client();
    struct memory memory = must_register(c.fd, static_bytes, PAGE);
    char fd[16], session[16], id[16];

    snprintf(fd, sizeof(fd), "%d", c.fd);
    snprintf(session, sizeof(session), "%u", c.session);
    snprintf(id, sizeof(id), "%d", memory.id);
    exec_helper("after_exec", fd, session, id);
}

CASE(of_a_program_that_execed_it_is_EFAULT)
{
    /* From here on each program finds its bytes where the one before had them. */
    CHECK(syscall(SYS_personality, 0x0040000 /* ADDR_NO_RANDOMIZE */) >= 0);
    exec_helper("before_exec");
}

/* <linux/sched.h>, for the one thing that needs it: a process of a given number. */
struct clone3_args {
    __u64 flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        set_tid_size, cgroup;
};

CASE(of_a_process_whose_number_is_anothers_it_is_EFAULT)
{
    struct client c = new_client();
    struct gate gate = new_gate(), done = new_gate();
    int sockets[2];
    pid_t child, again;

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    child = must_fork();
    if (!child) {
        struct memory memory = must_register(c.fd, static_bytes, PAGE);

        send_fd(sockets[0], memory.fd);
        gate_send(&gate, (__u32)memory.id);
        _exit(0);
    }
    int id = (int)gate_receive(&gate);
    must_succeed(child);
    struct clone3_args args = {
        .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&child, .set_tid_size = 1};
    again = (pid_t)syscall(435 /* clone3 */, &args, sizeof(args));
    if (again < 0)
        SKIP("no process of a given number: %s", strerror(errno));
    if (!again) {
        gate_receive(&done);
        CHECK(all_bytes(static_bytes, PAGE, 0));
        _exit(0);
    }
    CHECK_EQ(again, child);
    param_t params[2] = {value_in('R', 0), memref_out(id, 0, PAGE)};
    CHECK_EQ(call(&c, MEMORY_FILL, 2, params).error, EFAULT);
    gate_send(&done, 1);
    must_succeed(again);
}
