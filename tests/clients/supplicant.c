/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The supplicant's protocol on a loopback device: /dev/teepriv0 serves what a command of /dev/tee0
 * asks of the normal world. Client and supplicant are processes of their own.
 */
#include "tee_client.h"

#define TEEPRIV0 "/dev/teepriv0"
#define META_VALUE (TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT | TEE_IOCTL_PARAM_ATTR_META)
#define MOST 8

struct request {
    __u32 func;
    __u32 num_params;
    param_t params[MOST]; /* the first is META: a is the request's id */
};

/* 0, or the errno of SUPPL_RECV with room for ``room`` parameters. */
static int receive_into(int fd, struct tee_iocl_supp_recv_arg *arg, unsigned int room)
{
    memset(arg, 0, sizeof(*arg) + room * sizeof(param_t));
    arg->num_params = room;
    if (room)
        arg->params[0].attr = TEE_IOCTL_PARAM_ATTR_META;
    return buf_ioctl(fd, TEE_IOC_SUPPL_RECV, arg, sizeof(*arg) + room * sizeof(param_t)) ? errno : 0;
}

static int receive(int fd, unsigned int room, struct request *request)
{
    struct tee_iocl_supp_recv_arg *arg = calloc(1, sizeof(*arg) + MOST * sizeof(param_t));
    int error = receive_into(fd, arg, room);

    request->func = arg->func;
    request->num_params = arg->num_params;
    memcpy(request->params, arg->params, sizeof(request->params));
    free(arg);
    return error;
}

static int answer_with(int fd, __u32 ret, const struct request *request)
{
    struct tee_iocl_supp_send_arg *arg = calloc(1, sizeof(*arg) + MOST * sizeof(param_t));
    int error;

    arg->ret = ret;
    arg->num_params = request->num_params;
    memcpy(arg->params, request->params, sizeof(request->params));
    error = buf_ioctl(fd, TEE_IOC_SUPPL_SEND, arg, sizeof(*arg) + MOST * sizeof(param_t)) ? errno : 0;
    free(arg);
    return error;
}

static void must_receive(int fd, struct request *request)
{
    CHECK_EQ(receive(fd, MOST, request), 0);
    CHECK_EQ(request->params[0].attr, META_VALUE);
}

/* A client in a child: one command that asks the supplicant. */
static pid_t ask(__u32 func, __u64 value, __u32 expected, __u64 answered)
{
    pid_t child = must_fork();

    if (!child) {
        int fd = tee_open();
        __u32 session = must_open_session(fd, ANY);
        param_t params[3] = {value_in(func, 0), value_inout(value, 0), value_out()};

        CHECK_ANSWER(invoke(fd, session, SUPPLICANT, 3, params), expected);
        CHECK_EQ(params[1].a, expected ? value : answered);
        CHECK_EQ(params[2].b, expected ? 0 : answered);
        _exit(0);
    }
    return child;
}

/* Open it and be the supplicant: in the namespace way that begins with the first ioctl. */
static int supplicant(void)
{
    struct tee_ioctl_version_data version;
    int fd = must_open(TEEPRIV0, O_RDWR);

    CHECK_EQ(ioctl(fd, TEE_IOC_VERSION, &version), 0);
    return fd;
}

CASE(a_request_goes_round)
{
    int fd = supplicant();
    pid_t client = ask(42, 7, TEEC_SUCCESS, 1007);
    struct request request;

    must_receive(fd, &request);
    CHECK_EQ(request.func, 42);
    CHECK_EQ(request.num_params, 3);
    CHECK_EQ(request.params[1].attr, TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT);
    CHECK_EQ(request.params[1].a, 7);
    CHECK_EQ(request.params[2].attr, TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT);
    request.params[1].a += 1000;
    request.params[2].b = request.params[1].a;
    CHECK_EQ(answer_with(fd, TEEC_SUCCESS, &request), 0);
    must_succeed(client);
}

CASE(many_requests_go_round)
{
    int fd = supplicant();

    for (__u64 i = 0; i < 100; i++) {
        pid_t client = ask(1, i, TEEC_SUCCESS, i + 1);
        struct request request;

        must_receive(fd, &request);
        request.params[1].a += 1;
        request.params[2].b = request.params[1].a;
        CHECK_EQ(answer_with(fd, TEEC_SUCCESS, &request), 0);
        must_succeed(client);
    }
}

CASE(the_supplicants_result_is_the_clients)
{
    int fd = supplicant();
    pid_t client = ask(1, 7, TEEC_ERROR_ITEM_NOT_FOUND, 0);
    struct request request;

    must_receive(fd, &request);
    CHECK_EQ(answer_with(fd, TEEC_ERROR_ITEM_NOT_FOUND, &request), 0);
    must_succeed(client);
}

CASE(requests_are_answered_in_any_order)
{
    int fd = supplicant();
    pid_t clients[3];
    struct request requests[3];

    for (int i = 0; i < 3; i++)
        clients[i] = ask((__u32)i, 100 + (__u64)i, TEEC_SUCCESS, 200 + (__u64)i);
    for (int i = 0; i < 3; i++)
        must_receive(fd, &requests[i]);
    for (int i = 2; i >= 0; i--) {
        requests[i].params[1].a += 100;
        requests[i].params[2].b = requests[i].params[1].a;
        CHECK_EQ(answer_with(fd, TEEC_SUCCESS, &requests[i]), 0);
    }
    for (int i = 0; i < 3; i++)
        must_succeed(clients[i]);
}

CASE(a_request_waits_for_a_supplicant)
{
    pid_t client = ask(1, 7, TEEC_SUCCESS, 8);
    int fd = supplicant();
    struct request request;

    must_receive(fd, &request);
    request.params[1].a = request.params[2].b = 8;
    CHECK_EQ(answer_with(fd, TEEC_SUCCESS, &request), 0);
    must_succeed(client);
}

CASE(the_supplicant_waits_for_a_request)
{
    struct gate gate = new_gate();
    pid_t child = must_fork(), client;

    if (!child) {
        int fd = supplicant();
        struct request request;

        gate_send(&gate, 1);
        must_receive(fd, &request);
        request.params[1].a = request.params[2].b = 9;
        CHECK_EQ(answer_with(fd, TEEC_SUCCESS, &request), 0);
        _exit(0);
    }
    gate_receive(&gate);
    client = ask(1, 7, TEEC_SUCCESS, 9);
    must_succeed(client);
    must_succeed(child);
}

CASE(a_second_supplicant_is_EBUSY)
{
    struct tee_ioctl_version_data version;
    int fd = supplicant();
    int second = open(TEEPRIV0, O_RDWR);

    /* In the namespace way the open succeeds, and the first ioctl does not. */
    if (second >= 0)
        CHECK_ERRNO(ioctl(second, TEE_IOC_VERSION, &version), EBUSY);
    else
        CHECK_EQ(errno, EBUSY);
    close(second);
    CHECK_EQ(ioctl(fd, TEE_IOC_VERSION, &version), 0);
    /* With the end of the first the place is free, at once. */
    for (int i = 0; i < 20; i++) {
        close(fd);
        fd = supplicant();
    }
}

CASE(the_place_is_free_after_the_supplicants_end)
{
    for (int i = 0; i < 20; i++) {
        pid_t child = must_fork();

        if (!child) {
            supplicant();
            raise(SIGKILL);
        }
        CHECK_EQ(wait_for(child), SIGKILL);
    }
    supplicant();
}

CASE(two_devices_have_a_supplicant_each)
{
    struct tee_ioctl_version_data version;
    int first = supplicant(), second = must_open("/dev/teepriv1", O_RDWR);

    CHECK_EQ(ioctl(second, TEE_IOC_VERSION, &version), 0);
    CHECK_EQ(version.impl_id, TEE_IMPL_ID_OPTEE);
    CHECK_EQ(version.gen_caps & TEE_GEN_CAP_PRIVILEGED, TEE_GEN_CAP_PRIVILEGED);
    CHECK_EQ(ioctl(first, TEE_IOC_VERSION, &version), 0);
}

CASE(room_must_be_offered_with_META_first)
{
    int fd = supplicant();
    const size_t size = sizeof(struct tee_iocl_supp_recv_arg) + 2 * sizeof(param_t);
    struct tee_iocl_supp_recv_arg *arg = calloc(1, size);
    struct request request;

    CHECK_EQ(receive(fd, 0, &request), EINVAL);
    arg->num_params = 2;
    CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_SUPPL_RECV, arg, size), EINVAL);
    arg->params[0].attr = TEE_IOCTL_PARAM_ATTR_META;
    arg->params[1].attr = TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT;
    CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_SUPPL_RECV, arg, size), EINVAL);
}

CASE(too_little_room_leaves_the_request)
{
    int fd = supplicant();
    pid_t client = ask(1, 7, TEEC_SUCCESS, 8);
    struct request request;

    WAIT_UNTIL(receive(fd, 2, &request) == EINVAL);
    CHECK_EQ(receive(fd, 1, &request), EINVAL);
    CHECK_EQ(receive(fd, 3, &request), 0);
    request.params[1].a = request.params[2].b = 8;
    CHECK_EQ(answer_with(fd, TEEC_SUCCESS, &request), 0);
    must_succeed(client);
}

CASE(a_request_that_could_not_be_received_is_not_lost)
{
    int fd = supplicant();
    struct tee_iocl_supp_recv_arg *arg = new_pages(1);
    pid_t client = ask(1, 7, TEEC_SUCCESS, 8);
    struct request request;

    arg->num_params = MOST;
    arg->params[0].attr = TEE_IOCTL_PARAM_ATTR_META;
    make_readonly(arg, 1);
    CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_SUPPL_RECV, arg, sizeof(*arg) + MOST * sizeof(param_t)),
                EFAULT);
    must_receive(fd, &request);
    CHECK_EQ(request.params[1].a, 7);
    request.params[1].a = request.params[2].b = 8;
    CHECK_EQ(answer_with(fd, TEEC_SUCCESS, &request), 0);
    must_succeed(client);
}

CASE(answers_are_checked)
{
    int fd = supplicant();
    pid_t client = ask(1, 7, TEEC_SUCCESS, 8);
    struct request request, wrong;

    must_receive(fd, &request);
    wrong = request;
    wrong.params[0].a = request.params[0].a + 1;
    CHECK_EQ(answer_with(fd, 0, &wrong), ENOENT);
    wrong = request;
    wrong.params[0].attr = TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT;
    CHECK_EQ(answer_with(fd, 0, &wrong), EINVAL);
    wrong = request;
    wrong.num_params = 2;
    CHECK_EQ(answer_with(fd, 0, &wrong), EINVAL);
    wrong = request;
    wrong.num_params = 0;
    CHECK_EQ(answer_with(fd, 0, &wrong), EINVAL);
    wrong = request;
    wrong.params[1].attr = 1ull << 20;
    CHECK_EQ(answer_with(fd, 0, &wrong), EINVAL);
    request.params[1].a = request.params[2].b = 8;
    CHECK_EQ(answer_with(fd, 0, &request), 0);
    CHECK_EQ(answer_with(fd, 0, &request), ENOENT); /* once */
    must_succeed(client);
}

CASE(when_the_supplicant_dies_clients_are_told)
{
    struct gate gate = new_gate();
    pid_t child = must_fork(), seen, unseen;

    if (!child) {
        int fd = supplicant();
        struct request request;

        gate_send(&gate, 1);
        must_receive(fd, &request);
        gate_send(&gate, 1);
        for (;;)
            pause();
    }
    gate_receive(&gate);
    seen = ask(1, 7, TEEC_ERROR_COMMUNICATION, 0);
    gate_receive(&gate);
    must_kill(child);
    must_succeed(seen);
    /* The next one has a supplicant again. */
    int fd = supplicant();
    struct request request;
    unseen = ask(2, 7, TEEC_SUCCESS, 8);
    must_receive(fd, &request);
    CHECK_EQ(request.func, 2);
    request.params[1].a = request.params[2].b = 8;
    CHECK_EQ(answer_with(fd, 0, &request), 0);
    must_succeed(unseen);
}

CASE(when_the_client_dies_its_answer_is_ENOENT)
{
    int fd = supplicant();
    pid_t client = ask(1, 7, TEEC_SUCCESS, 8), next;
    struct request request, other;

    must_receive(fd, &request);
    must_kill(client);
    /* Its end is noticed in its own time; until then the answer is taken. */
    next = ask(2, 7, TEEC_SUCCESS, 8);
    must_receive(fd, &other);
    CHECK_EQ(other.func, 2);
    int error = answer_with(fd, 0, &request);
    CHECK(error == 0 || error == ENOENT);
    CHECK_EQ(answer_with(fd, 0, &request), ENOENT);
    other.params[1].a = other.params[2].b = 8;
    CHECK_EQ(answer_with(fd, 0, &other), 0);
    must_succeed(next);
}

CASE(a_client_killed_before_it_was_seen_is_not_seen)
{
    int fd = supplicant();
    char path[64], text[128] = "";
    pid_t client = ask(1, 7, TEEC_SUCCESS, 8);
    struct request request;

    snprintf(path, sizeof(path), "/proc/%d/syscall", client);
    WAIT_UNTIL(({
        int file = open(path, O_RDONLY);
        ssize_t got = file >= 0 ? read(file, text, sizeof(text) - 1) : 0;

        close(file);
        text[got > 0 ? got : 0] = 0;
        strstr(text, " 0x8010a403 ") != NULL;
    }));
    must_kill(client);
    client = ask(2, 7, TEEC_SUCCESS, 8);
    do
        must_receive(fd, &request);
    while (request.func == 1); /* its end had not been noticed yet */
    CHECK_EQ(request.func, 2);
    request.params[1].a = request.params[2].b = 8;
    CHECK_EQ(answer_with(fd, 0, &request), 0);
    must_succeed(client);
}

CASE(a_supplicant_killed_while_it_waits_leaves_its_place)
{
    for (int i = 0; i < 10; i++) {
        struct gate gate = new_gate();
        pid_t child = must_fork();

        if (!child) {
            int fd = supplicant();
            struct request request;

            gate_send(&gate, 1);
            receive(fd, MOST, &request);
            FAIL("it returned");
        }
        gate_receive(&gate);
        must_kill(child);
        close(gate.fds[0]);
        close(gate.fds[1]);
    }
    supplicant();
}

CASE(the_supplicant_has_shared_memory)
{
    int fd = supplicant(), id;
    struct memory memory = must_alloc(fd, PAGE + 1);

    CHECK_EQ(memory.size, 2 * PAGE);
    memory.bytes[0] = 1;
    CHECK(shm_register(fd, new_pages(1), 100, &id) >= 0);
    CHECK_ERRNO(shm_alloc(fd, 0, NULL, NULL), ENOMEM);
}
