/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The eleven ioctls on a loopback device: what Linux's drivers/tee/tee_core.c checks, in its order,
 * with its errno values, and which fields it writes.
 */
#include "tee_client.h"

#define LOOPBACK_IMPL_ID 0x4C4F4F50u
#define TEEPRIV0 "/dev/teepriv0"

/* The commands that take a struct tee_ioctl_buf_data, and how long their argument is at least. */
static const struct {
    const char *device;
    unsigned long command;
    size_t fixed;
    size_t num_params; /* where in it */
} buf_commands[] = {
    {TEE0, TEE_IOC_OPEN_SESSION, sizeof(struct tee_ioctl_open_session_arg),
     offsetof(struct tee_ioctl_open_session_arg, num_params)},
    {TEE0, TEE_IOC_INVOKE, sizeof(struct tee_ioctl_invoke_arg),
     offsetof(struct tee_ioctl_invoke_arg, num_params)},
    {TEE0, TEE_IOC_OBJECT_INVOKE, sizeof(struct tee_ioctl_object_invoke_arg),
     offsetof(struct tee_ioctl_object_invoke_arg, num_params)},
    {TEEPRIV0, TEE_IOC_SUPPL_RECV, sizeof(struct tee_iocl_supp_recv_arg),
     offsetof(struct tee_iocl_supp_recv_arg, num_params)},
    {TEEPRIV0, TEE_IOC_SUPPL_SEND, sizeof(struct tee_iocl_supp_send_arg),
     offsetof(struct tee_iocl_supp_send_arg, num_params)},
};
#define N_BUF_COMMANDS (sizeof(buf_commands) / sizeof(buf_commands[0]))

#define FOR_EACH_BUF_COMMAND(i, fd)                                                               \
    for (size_t i = 0; i < N_BUF_COMMANDS; i++)                                                   \
        for (int fd = must_open(buf_commands[i].device, O_RDWR); fd >= 0; close(fd), fd = -1)

static const void *const nowhere = (void *)16; /* never mapped */

static void put_u32(void *arg, size_t offset, __u32 value)
{
    memcpy((char *)arg + offset, &value, sizeof(value));
}

CASE(version_writes_three_words)
{
    union {
        struct tee_ioctl_version_data data;
        unsigned char bytes[32];
    } version;
    int fd = tee_open();

    memset(&version, 0xa5, sizeof(version));
    CHECK_EQ(ioctl(fd, TEE_IOC_VERSION, &version), 0);
    CHECK_EQ(version.data.impl_id, LOOPBACK_IMPL_ID);
    CHECK_EQ(version.data.impl_caps, 0);
    CHECK_EQ(version.data.gen_caps,
             TEE_GEN_CAP_GP | TEE_GEN_CAP_MEMREF_NULL | TEE_GEN_CAP_OBJREF);
    for (size_t i = 12; i < sizeof(version.bytes); i++)
        CHECK_EQ(version.bytes[i], 0xa5);
}

CASE(version_of_the_privileged_device_says_so)
{
    struct tee_ioctl_version_data data;
    int fd = must_open(TEEPRIV0, O_RDWR);

    CHECK_EQ(ioctl(fd, TEE_IOC_VERSION, &data), 0);
    CHECK_EQ(data.gen_caps & TEE_GEN_CAP_PRIVILEGED, TEE_GEN_CAP_PRIVILEGED);
}

CASE(version_needs_memory_to_write_to)
{
    int fd = tee_open();
    unsigned char *page = new_pages(1);

    CHECK_ERRNO(ioctl(fd, TEE_IOC_VERSION, nowhere), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_VERSION, NULL), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_VERSION, at_the_edge(11)), EFAULT);
    CHECK_EQ(ioctl(fd, TEE_IOC_VERSION, at_the_edge(12)), 0);
    make_readonly(page, 1);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_VERSION, page), EFAULT);
    CHECK_EQ(page[0], 0);
}

CASE(unknown_commands_are_EINVAL)
{
    int fd = tee_open();
    char arg[64] = {0};

    /* Unknown numbers, among them those that gentee's own services use. */
    for (unsigned int nr = 11; nr < 256; nr++) {
        if (nr >= 0x80 && nr < 0xf0)
            continue; /* room for extensions */
        CHECK_ERRNO(ioctl(fd, _IO(TEE_IOC_MAGIC, nr), arg), EINVAL);
        CHECK_ERRNO(ioctl(fd, _IOWR(TEE_IOC_MAGIC, nr, char[16]), arg), EINVAL);
    }
    /* Known numbers with another size or direction: the whole command counts. */
    CHECK_ERRNO(ioctl(fd, _IOR(TEE_IOC_MAGIC, 0, char[8]), arg), EINVAL);
    CHECK_ERRNO(ioctl(fd, _IOW(TEE_IOC_MAGIC, 0, struct tee_ioctl_version_data), arg), EINVAL);
    CHECK_ERRNO(ioctl(fd, _IOR(TEE_IOC_MAGIC, 1, struct tee_ioctl_shm_alloc_data), arg), EINVAL);
    CHECK_ERRNO(ioctl(fd, _IOWR(TEE_IOC_MAGIC, 3, struct tee_ioctl_buf_data), arg), EINVAL);
    CHECK_ERRNO(ioctl(fd, _IOR(TEE_IOC_MAGIC, 5, char[8]), arg), EINVAL);
}

CASE(commands_have_32_bits)
{
    int fd = tee_open();
    struct tee_ioctl_version_data data = {0};
    /* glibc takes an unsigned long; a program may have gone through an int, with its sign. */
    unsigned long command = TEE_IOC_VERSION | 0xffffffff00000000ul;

    CHECK_EQ(syscall(SYS_ioctl, fd, command, &data), 0);
    CHECK_EQ(data.impl_id, LOOPBACK_IMPL_ID);
}

CASE(other_descriptors_answer_for_themselves)
{
    struct tee_ioctl_version_data data;
    int null = must_open("/dev/null", O_RDWR), fds[2];

    CHECK_ERRNO(ioctl(null, TEE_IOC_VERSION, &data), ENOTTY);
    CHECK(pipe(fds) == 0);
    CHECK_ERRNO(ioctl(fds[0], TEE_IOC_VERSION, &data), ENOTTY);
    CHECK_ERRNO(ioctl(fds[1], TEE_IOC_SHM_ALLOC, &data), ENOTTY);
    close(fds[0]);
    CHECK_ERRNO(ioctl(fds[0], TEE_IOC_VERSION, &data), EBADF);
    CHECK_ERRNO(ioctl(-1, TEE_IOC_VERSION, &data), EBADF);
    CHECK_ERRNO(ioctl(1 << 20, TEE_IOC_VERSION, &data), EBADF);
}

CASE(commands_of_the_other_kind_of_device_are_EINVAL)
{
    int client = tee_open(), supplicant = must_open(TEEPRIV0, O_RDWR);

    /* Before anything is looked at: the specific driver has no such operation. */
    CHECK_ERRNO(ioctl(client, TEE_IOC_SUPPL_RECV, nowhere), EINVAL);
    CHECK_ERRNO(ioctl(client, TEE_IOC_SUPPL_SEND, nowhere), EINVAL);
    CHECK_ERRNO(ioctl(supplicant, TEE_IOC_OPEN_SESSION, nowhere), EINVAL);
    CHECK_ERRNO(ioctl(supplicant, TEE_IOC_INVOKE, nowhere), EINVAL);
    CHECK_ERRNO(ioctl(supplicant, TEE_IOC_CANCEL, nowhere), EINVAL);
    CHECK_ERRNO(ioctl(supplicant, TEE_IOC_CLOSE_SESSION, nowhere), EINVAL);
    CHECK_ERRNO(ioctl(supplicant, TEE_IOC_OBJECT_INVOKE, nowhere), EINVAL);
}

CASE(buf_data_that_cannot_be_read_is_EFAULT)
{
    FOR_EACH_BUF_COMMAND(i, fd) {
        CHECK_ERRNO(ioctl(fd, buf_commands[i].command, NULL), EFAULT);
        CHECK_ERRNO(ioctl(fd, buf_commands[i].command, nowhere), EFAULT);
        CHECK_ERRNO(ioctl(fd, buf_commands[i].command, at_the_edge(15)), EFAULT);
        CHECK_ERRNO(ioctl(fd, buf_commands[i].command, (void *)-16l), EFAULT);
    }
}

CASE(buf_len_out_of_range_is_EINVAL_before_buf_ptr_is_used)
{
    FOR_EACH_BUF_COMMAND(i, fd) {
        const size_t fixed = buf_commands[i].fixed;
        const __u64 lengths[] = {0, 1, fixed - 1, MAX_ARG_SIZE + 1, 1ull << 32, ~0ull};

        for (size_t j = 0; j < sizeof(lengths) / sizeof(lengths[0]); j++)
            CHECK_ERRNO(buf_ioctl(fd, buf_commands[i].command, (void *)16, lengths[j]), EINVAL);
    }
}

CASE(an_argument_that_cannot_be_read_is_EFAULT)
{
    FOR_EACH_BUF_COMMAND(i, fd) {
        const unsigned long command = buf_commands[i].command;
        const size_t fixed = buf_commands[i].fixed;

        CHECK_ERRNO(buf_ioctl(fd, command, (void *)16, fixed), EFAULT);
        CHECK_ERRNO(buf_ioctl(fd, command, NULL, fixed), EFAULT);
        CHECK_ERRNO(buf_ioctl(fd, command, at_the_edge(fixed - 1), fixed), EFAULT);
        CHECK_ERRNO(buf_ioctl(fd, command, (void *)(-1ul - 4096), fixed), EFAULT);
    }
}

CASE(num_params_must_fill_buf_len)
{
    FOR_EACH_BUF_COMMAND(i, fd) {
        const unsigned long command = buf_commands[i].command;
        const size_t fixed = buf_commands[i].fixed, where = buf_commands[i].num_params;
        const bool may_be_longer = command == TEE_IOC_SUPPL_SEND;
        char *arg = new_pages(2);

        put_u32(arg, where, 1);
        CHECK_ERRNO(buf_ioctl(fd, command, arg, fixed), EINVAL);
        CHECK_ERRNO(buf_ioctl(fd, command, arg, fixed + 31), EINVAL);
        if (!may_be_longer) {
            CHECK_ERRNO(buf_ioctl(fd, command, arg, fixed + 33), EINVAL);
            CHECK_ERRNO(buf_ioctl(fd, command, arg, fixed + 64), EINVAL);
            put_u32(arg, where, 0);
            CHECK_ERRNO(buf_ioctl(fd, command, arg, fixed + 32), EINVAL);
        }
        /* 32 times this is 0 or 32 in 32 bits. */
        put_u32(arg, where, 1u << 27);
        CHECK_ERRNO(buf_ioctl(fd, command, arg, fixed), EINVAL);
        put_u32(arg, where, (1u << 27) + 1);
        CHECK_ERRNO(buf_ioctl(fd, command, arg, fixed + 32), EINVAL);
        put_u32(arg, where, ~0u);
        CHECK_ERRNO(buf_ioctl(fd, command, arg, MAX_ARG_SIZE), EINVAL);
    }
}

CASE(num_params_is_checked_before_parameters_are_read)
{
    FOR_EACH_BUF_COMMAND(i, fd) {
        const unsigned long command = buf_commands[i].command;
        const size_t fixed = buf_commands[i].fixed, where = buf_commands[i].num_params;
        char *arg = at_the_edge(fixed);

        put_u32(arg, where, 3);
        CHECK_ERRNO(buf_ioctl(fd, command, arg, fixed + 64), EINVAL);
        put_u32(arg, where, 2);
        CHECK_ERRNO(buf_ioctl(fd, command, arg, fixed + 64), EFAULT);
    }
}

CASE(parameters_are_checked_one_after_the_other)
{
    /* The first is wrong, the second cannot be read: Linux has not come that far. */
    for (size_t i = 0; i < 3; i++) {
        int fd = tee_open();
        const size_t fixed = buf_commands[i].fixed;
        char *arg = at_the_edge(fixed + sizeof(param_t));
        param_t first = param(0x200, 0, 0, 0);

        put_u32(arg, buf_commands[i].num_params, 2);
        memcpy(arg + fixed, &first, sizeof(first));
        CHECK_ERRNO(buf_ioctl(fd, buf_commands[i].command, arg, fixed + 64), EINVAL);
        first.attr = TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT;
        memcpy(arg + fixed, &first, sizeof(first));
        CHECK_ERRNO(buf_ioctl(fd, buf_commands[i].command, arg, fixed + 64), EFAULT);
        close(fd);
    }
}

CASE(supp_send_may_be_longer_than_its_parameters)
{
    int fd = must_open(TEEPRIV0, O_RDWR);
    const size_t fixed = sizeof(struct tee_iocl_supp_send_arg);
    struct tee_iocl_supp_send_arg *arg = new_pages(1);

    arg->num_params = 1;
    arg->params[0] = value_inout(7, 0);
    arg->params[0].attr |= TEE_IOCTL_PARAM_ATTR_META;
    /* ENOENT is the driver's: no request has this id. So the frame was accepted. */
    CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_SUPPL_SEND, arg, fixed + 32), ENOENT);
    CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_SUPPL_SEND, arg, fixed + 33), ENOENT);
    CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_SUPPL_SEND, arg, MAX_ARG_SIZE), ENOENT);
    CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_SUPPL_SEND, arg, fixed + 31), EINVAL);
}

CASE(the_longest_argument_has_4096_bytes)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    param_t params[127];

    for (int i = 0; i < 127; i++)
        params[i] = none();
    CHECK_ANSWER(invoke(fd, session, NOP, 127, params), TEEC_SUCCESS);
    CHECK_ANSWER(open_session(fd, ANY, 126, params), TEEC_SUCCESS);
}

CASE(many_outputs_all_come_back)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    param_t params[127];

    params[0] = value_in(0x123456789abcdef0, 0x0fedcba987654321);
    params[0].c = 77;
    for (int i = 1; i < 127; i++)
        params[i] = value_out();
    CHECK_ANSWER(invoke(fd, session, COPY, 127, params), TEEC_SUCCESS);
    for (int i = 1; i < 127; i++) {
        CHECK_EQ(params[i].a, 0x123456789abcdef0);
        CHECK_EQ(params[i].b, 0x0fedcba987654321);
        CHECK_EQ(params[i].c, 77);
    }
}

CASE(attribute_bits_beyond_META_are_EINVAL)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);

    for (int bit = 9; bit < 64; bit++) {
        param_t params[1] = {value_in(0, 0)};

        params[0].attr |= 1ull << bit;
        CHECK_EQ(invoke(fd, session, NOP, 1, params).error, EINVAL);
        CHECK_EQ(open_session(fd, ANY, 1, params).error, EINVAL);
    }
}

CASE(a_META_parameter_is_passed_on)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    param_t params[2] = {value_inout(5, 6), value_inout(7, 8)};

    params[0].attr |= TEE_IOCTL_PARAM_ATTR_META;
    CHECK_ANSWER(invoke(fd, session, NOP, 2, params), TEEC_SUCCESS);
    CHECK_EQ(params[0].a, 5);
}

CASE(unknown_attribute_types_are_EINVAL)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);

    for (__u64 type = 0; type < 256; type++) {
        param_t params[1] = {param(type, 0, 0, 0)};

        if (type != 4 && type < 14)
            continue;
        CHECK_EQ(invoke(fd, session, NOP, 1, params).error, EINVAL);
        CHECK_EQ(open_session(fd, ANY, 1, params).error, EINVAL);
    }
}

CASE(a_memref_needs_an_id_of_this_context)
{
    int fd = tee_open(), other = tee_open();
    __u32 session = must_open_session(fd, ANY);
    struct memory mine = must_alloc(fd, PAGE), theirs = must_alloc(other, PAGE);
    const int ids[] = {0, -2, 12345, theirs.id, 1 << 30};

    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        param_t params[2] = {memref_in(mine.id, 0, 8), memref_out(ids[i], 0, 8)};

        CHECK_EQ(invoke(fd, session, COPY, 2, params).error, EINVAL);
        CHECK_EQ(open_session(fd, ANY, 2, params).error, EINVAL);
    }
    /* Linux looks at 32 bits of it. */
    param_t params[1] = {memref_in(mine.id, 0, 8)};
    params[0].c |= 1ull << 40;
    CHECK_ANSWER(invoke(fd, session, NOP, 1, params), TEEC_SUCCESS);
}

CASE(a_memref_must_lie_in_its_memory)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    struct memory memory = must_alloc(fd, PAGE);
    const struct {
        __u64 offset, size;
        int error;
    } spans[] = {
        {0, 0, 0},
        {0, PAGE, 0},
        {PAGE, 0, 0},
        {PAGE - 1, 1, 0},
        {0, PAGE + 1, EINVAL},
        {1, PAGE, EINVAL},
        {PAGE, 1, EINVAL},
        {PAGE + 1, 0, EINVAL},
        {~0ull, 1, EINVAL},
        {1, ~0ull, EINVAL},
        {~0ull, ~0ull, EINVAL},
        {1ull << 63, 1ull << 63, EINVAL},
        {PAGE, ~0ull - PAGE + 1, EINVAL},
        {1ull << 32, 1, EINVAL},
    };

    for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
        param_t params[1] = {memref_inout(memory.id, spans[i].offset, spans[i].size)};

        CHECK_EQ(invoke(fd, session, NOP, 1, params).error, spans[i].error);
    }
}

CASE(a_NULL_memref_is_taken_where_the_device_says_so)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    struct memory memory = must_alloc(fd, PAGE);
    param_t params[2] = {memref_in(-1, 0, 0), memref_out(memory.id, 0, 16)};

    CHECK_ANSWER(invoke(fd, session, COPY, 2, params), TEEC_SUCCESS);
    CHECK_EQ(params[1].b, 0);
    /* A NULL output is how the size of an answer is asked for. */
    params[0] = memref_in(memory.id, 0, 100);
    params[1] = memref_out(-1, 0, 0);
    CHECK_ANSWER(invoke(fd, session, COPY, 2, params), TEEC_ERROR_SHORT_BUFFER);
    CHECK_EQ(params[1].b, 100);
}

CASE(an_ubuf_must_lie_in_user_space)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    param_t params[1] = {param(TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INPUT, (uintptr_t)&session, 4, 0)};

    CHECK_ANSWER(invoke(fd, session, NOP, 1, params), TEEC_SUCCESS);
    params[0].a = 1ull << 63;
    CHECK_EQ(invoke(fd, session, NOP, 1, params).error, EFAULT);
    params[0].a = ~0ull;
    CHECK_EQ(invoke(fd, session, NOP, 1, params).error, EFAULT);
    params[0].a = (uintptr_t)&session;
    params[0].b = ~0ull;
    CHECK_EQ(invoke(fd, session, NOP, 1, params).error, EFAULT);
}

static struct answer object_invoke(int fd, __u64 id, __u32 op, size_t n, param_t *params)
{
    size_t size = sizeof(struct tee_ioctl_object_invoke_arg) + n * sizeof(*params);
    struct tee_ioctl_object_invoke_arg *arg = calloc(1, size);
    struct answer answer = {0};

    arg->id = id;
    arg->op = op;
    arg->num_params = (__u32)n;
    for (size_t i = 0; i < n; i++)
        arg->params[i] = params[i];
    if (buf_ioctl(fd, TEE_IOC_OBJECT_INVOKE, arg, size))
        answer.error = errno;
    answer.ret = arg->ret;
    for (size_t i = 0; i < n; i++)
        params[i] = arg->params[i];
    CHECK_EQ(arg->id, id);
    CHECK_EQ(arg->op, op);
    free(arg);
    return answer;
}

CASE(object_invoke_passes_objrefs_and_ubufs)
{
    int fd = tee_open();
    char buffer[40];
    param_t params[4] = {
        param(TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INPUT, 0x1234, 0x5, 0),
        param(TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_OUTPUT, 0, 0, 99),
        param(TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INPUT, (uintptr_t)buffer, sizeof(buffer), 0),
        param(TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_OUTPUT, (uintptr_t)buffer, 3, 0),
    };

    CHECK_ANSWER(object_invoke(fd, 1, 0, 4, params), TEEC_SUCCESS);
    CHECK_EQ(params[0].a, 0x1234);
    CHECK_EQ(params[1].a, 0x1234);
    CHECK_EQ(params[1].b, 0x5);
    CHECK_EQ(params[1].c, 99); /* not one that Linux writes */
    CHECK_EQ(params[2].b, sizeof(buffer));
    CHECK_EQ(params[3].a, (uintptr_t)buffer);
    CHECK_EQ(params[3].b, sizeof(buffer));
    CHECK_ANSWER(object_invoke(fd, 0xffffffff, 0, 0, NULL), TEEC_SUCCESS);
    CHECK_ANSWER(object_invoke(fd, 1, 9, 0, NULL), TEEC_ERROR_NOT_SUPPORTED);
}

CASE(object_ids_have_32_bits)
{
    int fd = tee_open();
    param_t params[1] = {param(99, 0, 0, 0)};

    CHECK_EQ(object_invoke(fd, 1ull << 32, 0, 0, NULL).error, EINVAL);
    CHECK_EQ(object_invoke(fd, ~0ull, 0, 0, NULL).error, EINVAL);
    CHECK_EQ(object_invoke(fd, 1, 0, 1, params).error, EINVAL);
}

CASE(sessions_belong_to_their_context)
{
    int fd = tee_open(), other = tee_open();
    __u32 session = must_open_session(fd, ANY);

    CHECK_EQ(invoke(other, session, NOP, 0, NULL).error, EINVAL);
    CHECK_ERRNO(close_session(other, session), EINVAL);
    CHECK_ERRNO(cancel(other, session, 0), EINVAL);
    CHECK_ANSWER(invoke(fd, session, NOP, 0, NULL), TEEC_SUCCESS);
    CHECK_EQ(close_session(fd, session), 0);
    CHECK_EQ(invoke(fd, session, NOP, 0, NULL).error, EINVAL);
    CHECK_ERRNO(close_session(fd, session), EINVAL);
    CHECK_ERRNO(close_session(fd, 0), EINVAL);
    CHECK_ERRNO(close_session(fd, ~0u), EINVAL);
    CHECK_ERRNO(cancel(fd, session, 0), EINVAL);
}

CASE(close_and_cancel_read_their_argument)
{
    int fd = tee_open();

    CHECK_ERRNO(ioctl(fd, TEE_IOC_CLOSE_SESSION, NULL), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_CLOSE_SESSION, at_the_edge(3)), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_CLOSE_SESSION, at_the_edge(4)), EINVAL);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_CANCEL, nowhere), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_CANCEL, at_the_edge(7)), EFAULT);
}

CASE(a_cancellation_that_finds_nothing_is_no_error)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);

    CHECK_EQ(cancel(fd, session, 0), 0);
    CHECK_EQ(cancel(fd, session, 12345), 0);
}

CASE(an_unknown_service_is_a_result_not_an_errno)
{
    int fd = tee_open();
    struct answer answer = open_session(fd, "00000000-0000-0000-0000-000000000000", 0, NULL);

    CHECK_EQ(answer.error, 0);
    CHECK_EQ(answer.ret, TEEC_ERROR_ITEM_NOT_FOUND);
    CHECK_EQ(answer.origin, TEEC_ORIGIN_TEE);
}

CASE(result_and_origin_come_back)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    param_t params[1] = {value_in(0x87654321, 0xf0000001)};
    struct answer answer = invoke(fd, session, RETURN, 1, params);

    CHECK_EQ(answer.error, 0);
    CHECK_EQ(answer.ret, 0x87654321);
    CHECK_EQ(answer.origin, 0xf0000001);
    CHECK_EQ(invoke(fd, session, 99, 0, NULL).ret, TEEC_ERROR_NOT_SUPPORTED);
}

CASE(an_errno_of_the_specific_driver_comes_back)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    const int errors[] = {EPERM, EINTR, EIO, EBUSY, ENOTSUPP, 4095};

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        param_t params[1] = {value_in((__u64)errors[i], 0)};

        CHECK_EQ(invoke(fd, session, ERRNO, 1, params).error, errors[i]);
    }
}

CASE(invoke_writes_only_what_linux_writes)
{
    const size_t size = sizeof(struct tee_ioctl_invoke_arg) + 5 * sizeof(param_t);
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    struct memory memory = must_alloc(fd, PAGE);
    struct tee_ioctl_invoke_arg *arg = calloc(1, size + 8), *before = calloc(1, size + 8);

    memset(arg, 0x5a, size + 8);
    arg->func = COPY;
    arg->session = session;
    arg->num_params = 5;
    arg->params[0] = param(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT, 1, 2, 3);
    arg->params[1] = param(TEE_IOCTL_PARAM_ATTR_TYPE_NONE, 4, 5, 6);
    arg->params[2] = param(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT, 7, 8, 9);
    arg->params[3] = param(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT, 10, 11, 12);
    arg->params[4] = memref_in(memory.id, 16, 32);
    memcpy(before, arg, size + 8);
    CHECK_EQ(buf_ioctl(fd, TEE_IOC_INVOKE, arg, size), 0);
    before->ret = TEEC_SUCCESS;
    before->ret_origin = TEEC_ORIGIN_TRUSTED_APP;
    before->params[2] = param(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT, 1, 2, 3);
    before->params[3] = param(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT, 1, 2, 3);
    CHECK(memcmp(arg, before, size + 8) == 0);
    /* Of an output that is a memref only the size. */
    arg->num_params = 2;
    arg->params[0] = memref_in(memory.id, 0, 8);
    arg->params[1] = memref_out(memory.id, 100, 50);
    memcpy(before, arg, size + 8);
    CHECK_EQ(buf_ioctl(fd, TEE_IOC_INVOKE, arg, sizeof(*arg) + 2 * sizeof(param_t)), 0);
    before->params[1].b = 8;
    CHECK(memcmp(arg, before, size + 8) == 0);
}

CASE(open_session_writes_only_what_linux_writes)
{
    const size_t size = sizeof(struct tee_ioctl_open_session_arg) + sizeof(param_t);
    int fd = tee_open();
    struct tee_ioctl_open_session_arg *arg = calloc(1, size + 8), *before = calloc(1, size + 8);

    memset(arg, 0x5a, size + 8);
    arg->clnt_login = TEE_IOCTL_LOGIN_PUBLIC;
    arg->num_params = 1;
    arg->params[0] = value_in(1, 2);
    memcpy(before, arg, size + 8);
    CHECK_EQ(buf_ioctl(fd, TEE_IOC_OPEN_SESSION, arg, size), 0);
    CHECK(arg->session != 0x5a5a5a5a && arg->session != 0);
    before->session = arg->session;
    before->ret = TEEC_SUCCESS;
    before->ret_origin = TEEC_ORIGIN_TRUSTED_APP;
    CHECK(memcmp(arg, before, size + 8) == 0);
}

CASE(nothing_is_written_where_the_ioctl_fails)
{
    const size_t size = sizeof(struct tee_ioctl_invoke_arg) + 2 * sizeof(param_t);
    int fd = tee_open();
    struct tee_ioctl_invoke_arg *arg = calloc(1, size), *before = calloc(1, size);

    memset(arg, 0x5a, size);
    arg->func = ERRNO;
    arg->session = must_open_session(fd, ANY);
    arg->num_params = 2;
    arg->params[0] = value_in(EBUSY, 0);
    arg->params[1] = value_inout(1, 1);
    memcpy(before, arg, size);
    CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_INVOKE, arg, size), EBUSY);
    CHECK(memcmp(arg, before, size) == 0);
}

CASE(an_invoke_whose_result_cannot_be_written_is_EFAULT)
{
    int fd = tee_open();
    struct tee_ioctl_invoke_arg *arg = new_pages(1);

    arg->func = NOP;
    arg->session = must_open_session(fd, ANY);
    make_readonly(arg, 1);
    CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_INVOKE, arg, sizeof(*arg)), EFAULT);
}

CASE(a_NULL_or_misaligned_argument_is_not_special)
{
    char space[sizeof(struct tee_ioctl_invoke_arg) + 64];
    int fd = tee_open();
    struct tee_ioctl_invoke_arg invoke_arg = {.func = NOP, .session = must_open_session(fd, ANY)};

    for (int shift = 0; shift < 9; shift++) {
        struct tee_ioctl_buf_data data = {
            .buf_ptr = (uintptr_t)space + (unsigned int)shift + 32,
            .buf_len = sizeof(invoke_arg),
        };

        memcpy(space + shift + 32, &invoke_arg, sizeof(invoke_arg));
        memcpy(space + shift, &data, sizeof(data));
        CHECK_EQ(ioctl(fd, TEE_IOC_INVOKE, space + shift), 0);
    }
}
