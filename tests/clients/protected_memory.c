/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The secure data path: protected memory from a DMA heap, which TAs with TA_FLAG_SECURE_DATA_PATH
 * see and nobody else, tests/tas/memory.c. The heap has one MiB.
 */
#include "tee_client.h"

#include <linux/dma-heap.h>

#define TA(number) "000000" #number "-7461-7461-7461-746174617461"
#define WITHOUT TA(20)
#define WITH TA(23)
#define HEAP "/dev/dma_heap/protected,secure-video"

enum { NOTHING, LOOK, TURN, SET_SIZE, KEEP, READ_KEPT, WRITE_KEPT, PEEK, RIGHTS, RENDEZVOUS, SUM };

#define READ_ANY 5u
#define NONSECURE 0x10000000u
#define SECURE 0x20000000u
#define TEEC_ERROR_BAD_PARAMETERS 0xFFFF0006u

static int allocate(int heap, __u64 size)
{
    struct dma_heap_allocation_data data = {.len = size, .fd_flags = O_RDWR | O_CLOEXEC};

    return ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) ? -1 : (int)data.fd;
}

static int must_allocate(__u64 size)
{
    int heap = must_open(HEAP, O_RDWR);
    int fd = allocate(heap, size);

    CHECK(fd >= 0);
    close(heap);
    return fd;
}

CASE(a_ta_with_the_flag_sees_it_and_what_it_writes_stays)
{
    int memory = must_allocate(3 * PAGE - 5), fd = tee_open(), id;

    CHECK(fcntl(memory, F_GETFD) & FD_CLOEXEC);
    CHECK(shm_register_fd(fd, memory, &id) >= 0);
    close(memory); /* what is registered stays */
    __u32 session = must_open_session(fd, WITH);
    param_t turn[4] = {memref_inout(id, 5, 1)};
    CHECK_ANSWER(invoke(fd, session, TURN, 4, turn), TEEC_SUCCESS);
    __u32 other = must_open_session(fd, WITH);
    param_t sum[4] = {memref_in(id, 0, 6), none(), none(), value_out()};
    CHECK_ANSWER(invoke(fd, other, SUM, 4, sum), TEEC_SUCCESS);
    CHECK_EQ(sum[3].a, 0xff);
}

CASE(it_is_secure_and_other_memory_is_not)
{
    int memory = must_allocate(PAGE), fd = tee_open(), id;

    CHECK(shm_register_fd(fd, memory, &id) >= 0);
    struct memory normal = must_alloc(fd, PAGE);
    __u32 session = must_open_session(fd, WITH);
    const struct { int id; __u32 flags, expected; } rows[] = {
        {id, SECURE, 0}, {id, NONSECURE, 1}, {normal.id, SECURE, 1}, {normal.id, NONSECURE, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        param_t params[4] = {memref_inout(rows[i].id, 0, PAGE),
                             value_inout(READ_ANY | rows[i].flags, PAGE), value_in(0, 0)};
        CHECK_ANSWER(invoke(fd, session, RIGHTS, 4, params), TEEC_SUCCESS);
        CHECK_EQ(params[1].a != 0, rows[i].expected);
    }
}

CASE(a_service_without_the_flag_does_not_get_it)
{
    static const char *const uuids[] = {WITHOUT, ECHO};
    int memory = must_allocate(PAGE), fd = tee_open(), id;

    CHECK(shm_register_fd(fd, memory, &id) >= 0);
    for (size_t i = 0; i < 2; i++) {
        __u32 session = must_open_session(fd, uuids[i]);
        param_t params[4] = {memref_inout(id, 0, PAGE)};
        struct answer answer = invoke(fd, session, TURN, 4, params);
        CHECK_EQ(answer.error, 0);
        CHECK_EQ(answer.ret, TEEC_ERROR_BAD_PARAMETERS);
        CHECK_EQ(answer.origin, TEEC_ORIGIN_TEE);
    }
}

CASE(no_way_leads_to_its_bytes)
{
    int memory = must_allocate(PAGE), fd = tee_open(), id, ends[2];
    char path[64], byte;

    int handle = shm_register_fd(fd, memory, &id);
    CHECK(handle >= 0);
    CHECK(pipe(ends) == 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
    int fds[] = {memory, handle, open(path, O_RDONLY | O_NONBLOCK), open(path, O_RDWR), -1};
    fds[4] = dup(memory);
    for (size_t i = 0; i < 5; i++) {
        if (fds[i] < 0)
            continue; /* another one could not be had at all */
        for (int prot = 0; prot < 4; prot++)
            CHECK(mmap(NULL, PAGE, prot, MAP_SHARED, fds[i], 0) == MAP_FAILED);
        CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fds[i], 0) == MAP_FAILED);
        CHECK(fcntl(fds[i], F_SETFL, O_NONBLOCK) == 0);
        CHECK(read(fds[i], &byte, 1) < 0);
        CHECK(pread(fds[i], &byte, 1, 0) < 0);
        CHECK(splice(fds[i], NULL, ends[1], NULL, 1, SPLICE_F_NONBLOCK) < 0);
    }
}

CASE(who_has_the_descriptor_can_pass_it_on)
{
    int memory = must_allocate(PAGE), fd = tee_open(), id;

    pid_t child = fork();
    if (!child) {
        int mine = tee_open();
        CHECK(shm_register_fd(mine, memory, &id) >= 0);
        __u32 session = must_open_session(mine, WITH);
        param_t turn[4] = {memref_inout(id, 0, 1)};
        CHECK_ANSWER(invoke(mine, session, TURN, 4, turn), TEEC_SUCCESS);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(shm_register_fd(fd, memory, &id) >= 0);
    __u32 session = must_open_session(fd, WITH);
    param_t sum[4] = {memref_in(id, 0, 1), none(), none(), value_out()};
    CHECK_ANSWER(invoke(fd, session, SUM, 4, sum), TEEC_SUCCESS);
    CHECK_EQ(sum[3].a, 0xff);
}

CASE(other_pipes_stand_for_nothing)
{
    int fd = tee_open(), ends[2], heap = must_open(HEAP, O_RDWR);

    CHECK(pipe(ends) == 0);
    CHECK_ERRNO(shm_register_fd(fd, ends[0], NULL), EINVAL);
    CHECK(allocate(heap, PAGE) >= 0); /* the first ioctl gives the device's file its pipe */
    CHECK_ERRNO(shm_register_fd(fd, heap, NULL), EINVAL);
    CHECK_ERRNO(shm_register_fd(fd, fd, NULL), EINVAL);
}

CASE(the_heap_has_so_much_and_gets_it_back)
{
    int heap = must_open(HEAP, O_RDWR);

    CHECK_ERRNO(allocate(heap, (1u << 20) + 1), ENOMEM);
    for (int i = 0; i < 20; i++) {
        int all;
        WAIT_UNTIL((all = allocate(heap, 1u << 20)) >= 0);
        CHECK_ERRNO(allocate(heap, 1), ENOMEM);
        close(all);
    }
}

CASE(arguments_are_those_of_linux)
{
    int heap = must_open(HEAP, O_RDWR), fd = tee_open();
    struct dma_heap_allocation_data good = {.len = PAGE, .fd_flags = O_RDWR}, bad;
    struct tee_ioctl_version_data version;
    struct tee_ioctl_shm_alloc_data shm = {.size = PAGE};

    bad = good, bad.fd = 3;
    CHECK_ERRNO(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &bad), EINVAL);
    bad = good, bad.fd_flags |= O_NONBLOCK;
    CHECK_ERRNO(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &bad), EINVAL);
    bad = good, bad.heap_flags = 1;
    CHECK_ERRNO(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &bad), EINVAL);
    bad = good, bad.len = 0;
    CHECK_ERRNO(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &bad), EINVAL);
    bad = good, bad.len = ~0ull;
    CHECK(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &bad) < 0);
    CHECK_ERRNO(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, 16), EFAULT);
    /* A heap is no TEE, nor a TEE a heap. */
    CHECK_ERRNO(ioctl(heap, TEE_IOC_VERSION, &version), ENOTTY);
    CHECK_ERRNO(ioctl(heap, TEE_IOC_SHM_ALLOC, &shm), ENOTTY);
    CHECK_EQ(open_session(heap, WITH, 0, NULL).error, EINVAL);
    CHECK_ERRNO(ioctl(fd, DMA_HEAP_IOCTL_ALLOC, &good), EINVAL);
}
