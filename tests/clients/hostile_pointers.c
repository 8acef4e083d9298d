/* SPDX-License-Identifier: BSD-2-Clause */
/* Addresses and lengths that cannot be: each is refused as Linux refuses it, and nothing is left. */
#include "tee_client.h"

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* Every ioctl, and how many bytes at its argument are read (and written) at least. */
static const struct {
    unsigned long command;
    size_t size;
    const char *name;
} ioctls[] = {
    {TEE_IOC_VERSION, 12, "VERSION"},
    {TEE_IOC_SHM_ALLOC, 16, "SHM_ALLOC"},
    {TEE_IOC_SHM_REGISTER, 24, "SHM_REGISTER"},
    {TEE_IOC_SHM_REGISTER_FD, 24, "SHM_REGISTER_FD"},
    {TEE_IOC_OPEN_SESSION, 16, "OPEN_SESSION"},
    {TEE_IOC_INVOKE, 16, "INVOKE"},
    {TEE_IOC_OBJECT_INVOKE, 16, "OBJECT_INVOKE"},
    {TEE_IOC_CANCEL, 8, "CANCEL"},
    {TEE_IOC_CLOSE_SESSION, 4, "CLOSE_SESSION"},
};

static const struct {
    unsigned long command;
    size_t fixed; /* bytes before the parameters */
    const char *name;
} buffers[] = {
    {TEE_IOC_OPEN_SESSION, sizeof(struct tee_ioctl_open_session_arg), "OPEN_SESSION"},
    {TEE_IOC_INVOKE, sizeof(struct tee_ioctl_invoke_arg), "INVOKE"},
    {TEE_IOC_OBJECT_INVOKE, sizeof(struct tee_ioctl_object_invoke_arg), "OBJECT_INVOKE"},
};

static const uint64_t nowhere[] = {
    0,
    1,
    4095,
    0x00007fffffffe000ull,
    0x00007ffffffff000ull,
    0x0000800000000000ull, /* not canonical on x86-64 */
    0x7fffffffffffffffull,
    0x8000000000000000ull,
    0xffff800000000000ull, /* the kernel's half */
    0xffffffff81000000ull,
    0xffffffffff600000ull, /* where x86-64 has its vsyscall page */
    0xfffffffffffff000ull,
    0xfffffffffffffff0ull,
    0xffffffffffffffffull,
};

static void must_fault(int fd, unsigned long command, const char *name, uint64_t address)
{
    errno = 0;
    int ret = ioctl(fd, command, address);

    if (ret != -1 || errno != EFAULT)
        FAIL("%s at %#llx: %d, %s", name, (unsigned long long)address, ret, strerror(errno));
}

static void still_works(int fd)
{
    struct tee_ioctl_version_data version;

    CHECK(ioctl(fd, TEE_IOC_VERSION, &version) == 0);
}

CASE(argument_nowhere)
{
    int fd = tee_open();

    for (size_t i = 0; i < ARRAY_SIZE(ioctls); i++)
        for (size_t k = 0; k < ARRAY_SIZE(nowhere); k++)
            must_fault(fd, ioctls[i].command, ioctls[i].name, nowhere[k]);
    still_works(fd);
}

CASE(argument_over_the_edge)
{
    int fd = tee_open();

    for (size_t i = 0; i < ARRAY_SIZE(ioctls); i++)
        for (size_t there = 1; there < ioctls[i].size; there++)
            must_fault(fd, ioctls[i].command, ioctls[i].name, (uintptr_t)at_the_edge(there));
    still_works(fd);
}

/* Of the ioctls that write to their argument before anything else can be wrong. */
CASE(argument_not_writable)
{
    int fd = tee_open();
    static const int protections[] = {PROT_NONE, PROT_READ, PROT_EXEC, PROT_READ | PROT_EXEC};

    for (size_t k = 0; k < ARRAY_SIZE(protections); k++) {
        struct tee_ioctl_shm_alloc_data *page = new_pages(1);

        page->size = 4096;
        CHECK(mprotect(page, PAGE, protections[k]) == 0);
        must_fault(fd, TEE_IOC_VERSION, "VERSION", (uintptr_t)page);
        must_fault(fd, TEE_IOC_SHM_ALLOC, "SHM_ALLOC", (uintptr_t)page);
    }
    still_works(fd);
}

/* A mapping beyond the end of its file: the program itself would get SIGBUS there. */
CASE(argument_beyond_a_file)
{
    int fd = tee_open(), file = memfd_create("short", 0);
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

    CHECK(page != MAP_FAILED);
    for (size_t i = 0; i < ARRAY_SIZE(ioctls); i++)
        must_fault(fd, ioctls[i].command, ioctls[i].name, (uintptr_t)page);
    still_works(fd);
}

CASE(buffer_nowhere)
{
    int fd = tee_open();

    for (size_t i = 0; i < ARRAY_SIZE(buffers); i++)
        for (size_t k = 0; k < ARRAY_SIZE(nowhere); k++) {
            struct tee_ioctl_buf_data data = {nowhere[k], buffers[i].fixed};

            must_fault(fd, buffers[i].command, buffers[i].name, (uintptr_t)&data);
        }
    still_works(fd);
}

CASE(buffer_over_the_edge)
{
    int fd = tee_open();

    for (size_t i = 0; i < ARRAY_SIZE(buffers); i++)
        for (size_t there = 1; there < buffers[i].fixed; there++) {
            struct tee_ioctl_buf_data data = {(uintptr_t)at_the_edge(there), buffers[i].fixed};

            must_fault(fd, buffers[i].command, buffers[i].name, (uintptr_t)&data);
            /* The same with its pointer right before it, so that one read could bring both. */
            if (there + sizeof(data) < PAGE) {
                char *bytes = at_the_edge(there + sizeof(data));

                data.buf_ptr = (uintptr_t)bytes + sizeof(data);
                memcpy(bytes, &data, sizeof(data));
                must_fault(fd, buffers[i].command, buffers[i].name, (uintptr_t)bytes);
            }
        }
    still_works(fd);
}

CASE(buffer_lengths)
{
    int fd = tee_open();
    char *bytes = new_pages(2);

    for (size_t i = 0; i < ARRAY_SIZE(buffers); i++) {
        const uint64_t fixed = buffers[i].fixed;
        const uint64_t lengths[] = {
            0, 1, fixed - 1, fixed + 1, fixed + 31, fixed + 32, fixed + 33, 4095, 4096, 4097, 8192,
            0x7fffffff, 0x80000000ull, 0xffffffffull, 0x100000000ull, 0x100000000ull + fixed,
            0x7fffffffffffffffull, 0x8000000000000000ull, UINT64_MAX - 4095, UINT64_MAX,
        };

        for (size_t k = 0; k < ARRAY_SIZE(lengths); k++) {
            struct tee_ioctl_buf_data data = {(uintptr_t)bytes, lengths[k]};

            memset(bytes, 0, 2 * PAGE);
            CHECK_ERRNO(ioctl(fd, buffers[i].command, &data), EINVAL);
        }
    }
    still_works(fd);
}

/* num_params is the last word but one of all three; 2^27 of them are 2^32 bytes. */
CASE(numbers_of_parameters)
{
    int fd = tee_open();
    static const uint32_t numbers[] = {1, 2, 127, 128, 129, 0x7ffffff, 0x8000000, 0x8000001,
                                       0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
    struct tee_ioctl_open_session_arg open = {.clnt_login = TEE_IOCTL_LOGIN_PUBLIC};
    struct tee_ioctl_invoke_arg invoke = {0};
    struct tee_ioctl_object_invoke_arg object = {0};

    for (size_t k = 0; k < ARRAY_SIZE(numbers); k++) {
        open.num_params = invoke.num_params = object.num_params = numbers[k];
        CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_OPEN_SESSION, &open, sizeof(open)), EINVAL);
        CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_INVOKE, &invoke, sizeof(invoke)), EINVAL);
        CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_OBJECT_INVOKE, &object, sizeof(object)), EINVAL);
    }
    still_works(fd);
}

/* As many parameters as fit, all to be written back. */
CASE(most_parameters)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    const size_t most = (MAX_ARG_SIZE - sizeof(struct tee_ioctl_invoke_arg)) / sizeof(param_t);
    param_t params[MAX_ARG_SIZE / sizeof(param_t)];

    for (size_t n = most - 1; n <= most; n++) {
        for (size_t i = 0; i < n; i++)
            params[i] = value_inout(i, 2 * i);
        CHECK_ANSWER(invoke(fd, session, INCREMENT, n, params), TEEC_SUCCESS);
        for (size_t i = 0; i < n; i++)
            if (params[i].a != i + 1 || params[i].b != 2 * i + 1)
                FAIL("parameter %zu of %zu: %llu %llu", i, n, params[i].a, params[i].b);
    }
    for (size_t i = 0; i < most; i++)
        params[i] = param(TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INOUT, i, i, 0);
    CHECK_ANSWER(invoke(fd, session, NOP, most, params), TEEC_SUCCESS);
    struct answer answer = invoke(fd, session, NOP, most + 1, params);
    CHECK_EQ(answer.error, EINVAL);
    still_works(fd);
}

/* The argument lies over the buf_data that points to it; what comes back comes to where it was. */
CASE(buffer_over_its_own_pointer)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);

    for (int shift = -16; shift <= 16; shift++) {
        char bytes[128] = {0};
        char *uarg = bytes + 48;
        struct tee_ioctl_buf_data data = {(uintptr_t)uarg + shift, 24};
        struct tee_ioctl_invoke_arg arg = {.func = NOP, .session = session};

        memcpy(uarg + shift, &arg, sizeof(arg));
        memcpy(uarg, &data, sizeof(data));
        errno = 0;
        int ret = ioctl(fd, TEE_IOC_INVOKE, uarg);
        if (ret && errno != EINVAL)
            FAIL("shift %d: %s", shift, strerror(errno));
    }
    still_works(fd);
}

CASE(misaligned)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    char *pages = new_pages(2);

    for (int shift = 1; shift < 32; shift++) {
        struct tee_ioctl_invoke_arg arg = {.func = NOP, .session = session, .ret = 7};
        char *where = pages + PAGE - shift; /* and over the border of two pages */
        struct tee_ioctl_buf_data data = {(uintptr_t)where, sizeof(arg)};

        memcpy(where, &arg, sizeof(arg));
        CHECK(ioctl(fd, TEE_IOC_INVOKE, &data) == 0);
        memcpy(&arg, where, sizeof(arg));
        CHECK_EQ(arg.ret, TEEC_SUCCESS);
    }
    still_works(fd);
}

/* The answer has no place: the call fails, and what it brought about is undone. */
CASE(answer_not_writable)
{
    int fd = tee_open();
    struct tee_ioctl_open_session_arg *arg = new_pages(1);
    struct tee_ioctl_buf_data data = {(uintptr_t)arg, sizeof(*arg)};
    __u32 first = must_open_session(fd, ANY);

    parse_uuid(ANY, arg->uuid);
    make_readonly(arg, 1);
    for (int i = 0; i < 100; i++)
        CHECK_ERRNO(ioctl(fd, TEE_IOC_OPEN_SESSION, &data), EFAULT);
    /* Numbers are the lowest that are free: none of these is taken. */
    CHECK(must_open_session(fd, ANY) <= first + 1);

    struct memory before = must_alloc(fd, PAGE);
    struct tee_ioctl_shm_alloc_data *alloc = new_pages(1);
    alloc->size = PAGE;
    make_readonly(alloc, 1);
    for (int i = 0; i < 100; i++)
        CHECK_ERRNO(ioctl(fd, TEE_IOC_SHM_ALLOC, alloc), EFAULT);
    CHECK(must_alloc(fd, PAGE).id <= before.id + 1);
}

CASE(ubuf_nowhere)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);

    for (size_t k = 0; k < ARRAY_SIZE(nowhere); k++) {
        static const uint64_t sizes[] = {0, 1, 4096, 1ull << 47, 1ull << 63, UINT64_MAX};

        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
            param_t ubuf = param(TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INOUT, nowhere[k], sizes[i], 0);
            struct answer answer = invoke(fd, session, NOP, 1, &ubuf);
            __uint128_t end = (__uint128_t)nowhere[k] + sizes[i];

            CHECK_EQ(answer.error, end > 0x7ffffffff000ull ? EFAULT : 0);
        }
    }
    still_works(fd);
}

CASE(memrefs_out_of_range)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    struct memory memory = must_alloc(fd, PAGE);
    static const uint64_t numbers[] = {0, 1, 4095, 4096, 4097, 1ull << 32, 1ull << 63,
                                       UINT64_MAX - 4095, UINT64_MAX};

    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        for (size_t k = 0; k < ARRAY_SIZE(numbers); k++) {
            param_t params[] = {value_in(0x5a, 0), memref_out(memory.id, numbers[i], numbers[k])};
            __uint128_t end = (__uint128_t)numbers[i] + numbers[k];
            struct answer answer = invoke(fd, session, FILL, 2, params);

            CHECK_EQ(answer.error, end > PAGE ? EINVAL : 0);
        }
    still_works(fd);
}

CASE(registered_nowhere)
{
    int fd = tee_open();
    char *pages = new_pages(3);
    int id;

    for (size_t k = 0; k < ARRAY_SIZE(nowhere); k++)
        CHECK_ERRNO(shm_register(fd, (void *)(uintptr_t)nowhere[k], PAGE, &id), EFAULT);
    CHECK(munmap(pages + PAGE, PAGE) == 0);
    /* Linux says ENOMEM where it could pin a part. */
    CHECK_ERRNO(shm_register(fd, pages, 3 * PAGE, &id), ENOMEM);
    CHECK_ERRNO(shm_register(fd, pages, PAGE + 1, &id), ENOMEM);
    CHECK_ERRNO(shm_register(fd, pages + PAGE, 1, &id), EFAULT);
    make_readonly(pages, 1);
    CHECK_ERRNO(shm_register(fd, pages, 1, &id), EFAULT);
    CHECK_ERRNO(shm_register(fd, pages + 2 * PAGE, UINT64_MAX, &id), EFAULT);
    CHECK_ERRNO(shm_register(fd, pages + 2 * PAGE, 1ull << 29, &id), ENOMEM);
    CHECK_ERRNO(shm_register(fd, pages + 2 * PAGE, 1ull << 31, &id), ENOMEM);
    CHECK_ERRNO(shm_register(fd, pages + 2 * PAGE, 0, &id), ENOMEM);
    still_works(fd);
}

/* Registered, and then taken away: calls fail with EFAULT, others go on. */
CASE(registered_then_gone)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    char *pages = new_pages(4);
    struct memory memory = must_register(fd, pages, 4 * PAGE);
    struct answer answer;

    param_t params[] = {value_in(0x5a, 0), memref_out(memory.id, 0, 4 * PAGE)};
    CHECK_ANSWER(invoke(fd, session, FILL, 2, params), TEEC_SUCCESS);
    CHECK_EQ(pages[4 * PAGE - 1], 0x5a);
    CHECK(munmap(pages + PAGE, PAGE) == 0);
    params[1] = memref_out(memory.id, 0, 4 * PAGE);
    answer = invoke(fd, session, FILL, 2, params);
    CHECK_EQ(answer.error, EFAULT);
    /* The rest of it still is what it was. */
    params[1] = memref_out(memory.id, 2 * PAGE, PAGE);
    CHECK_ANSWER(invoke(fd, session, FILL, 2, params), TEEC_SUCCESS);
    CHECK(munmap(pages, 4 * PAGE) == 0);
    params[1] = memref_out(memory.id, 2 * PAGE, PAGE);
    answer = invoke(fd, session, FILL, 2, params);
    CHECK_EQ(answer.error, EFAULT);
    still_works(fd);
}

/* A session is opened, and its outputs have no place: the session must not be left open. */
CASE(opened_without_a_place)
{
    const char *service = getenv("TEE_CLIENT_SERVICE");
    int fd = tee_open();
    char *page = new_pages(1);
    struct memory memory = must_register(fd, page, PAGE);
    __u32 session = must_open_session(fd, service ? service : ANY);

    make_readonly(page, 1);
    for (int i = 0; i < 30; i++) {
        param_t params[] = {memref_inout(memory.id, 0, PAGE)};
        struct answer answer = open_session(fd, service ? service : ANY, 1, params);

        if (service)
            CHECK_EQ(answer.error, EFAULT);
    }
    if (service)
        CHECK(must_open_session(fd, service) <= session + 1);
    if (getenv("TEE_CLIENT_WAITS")) {
        char byte;

        printf("open\n");
        fflush(stdout);
        CHECK(read(9, &byte, 1) >= 0);
    }
}
