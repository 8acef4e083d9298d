/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SHM_ALLOC, SHM_REGISTER and SHM_REGISTER_FD on a loopback device: checks, sizes, and whose pages
 * the service sees.
 */
#include "tee_client.h"

#include <sys/resource.h>

static const void *const nowhere = (void *)16; /* never mapped */

/* What the service sees in the first ``size`` bytes: it copies them to a buffer of our own. */
static void check_seen(int fd, int id, const void *expected, size_t size)
{
    static struct memory seen;
    static int seen_fd = -1;
    static __u32 session;

    if (seen_fd != fd) {
        seen = must_alloc(fd, 2 * PAGE);
        session = must_open_session(fd, ANY);
        seen_fd = fd;
    }
    memset(seen.bytes, 0x11, seen.size);
    param_t params[2] = {memref_in(id, 0, size), memref_out(seen.id, 0, seen.size)};
    CHECK_ANSWER(invoke(fd, session, COPY, 2, params), TEEC_SUCCESS);
    CHECK_EQ(params[1].b, size);
    CHECK(memcmp(seen.bytes, expected, size) == 0);
    CHECK_EQ(seen.bytes[size], 0x11);
}

/* The service writes ``byte`` to ``size`` bytes at ``offset``. */
static int fill(int fd, int id, size_t offset, size_t size, int byte)
{
    __u32 session = must_open_session(fd, ANY);
    param_t params[2] = {value_in((__u64)byte, 0), memref_out(id, offset, size)};
    struct answer answer = invoke(fd, session, FILL, 2, params);

    close_session(fd, session);
    if (!answer.error)
        CHECK_EQ(answer.ret, TEEC_SUCCESS);
    return answer.error;
}

static bool all_bytes(const unsigned char *bytes, size_t size, int byte)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != byte)
            return false;
    return true;
}

static int sealed_memfd(size_t size, int more_seals)
{
    int memory = memfd_create("client", MFD_ALLOW_SEALING);

    CHECK(memory >= 0);
    CHECK(ftruncate(memory, (off_t)size) == 0);
    CHECK(fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | more_seals) == 0);
    return memory;
}

static unsigned char *map(int memory, size_t size)
{
    void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);

    CHECK(bytes != MAP_FAILED);
    return bytes;
}

/* SHM_ALLOC */

CASE(alloc_rounds_up_to_pages)
{
    const struct {
        __u64 asked, got;
    } sizes[] = {{1, PAGE}, {PAGE, PAGE}, {PAGE + 1, 2 * PAGE}, {100000, 102400}};
    int fd = tee_open();

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct tee_ioctl_shm_alloc_data data = {.size = sizes[i].asked, .id = -1};

        CHECK(ioctl(fd, TEE_IOC_SHM_ALLOC, &data) >= 0);
        CHECK_EQ(data.size, sizes[i].got);
        CHECK_EQ(data.flags, 0);
        CHECK(data.id >= 1);
    }
}

CASE(alloc_takes_no_flags)
{
    int fd = tee_open();

    for (int bit = 0; bit < 32; bit++) {
        struct tee_ioctl_shm_alloc_data data = {.size = 0, .flags = 1u << bit};

        CHECK_ERRNO(ioctl(fd, TEE_IOC_SHM_ALLOC, &data), EINVAL);
    }
}

CASE(alloc_of_nothing_and_of_too_much_is_ENOMEM)
{
    const __u64 sizes[] = {0, 1ull << 40, 1ull << 62, 1ull << 63, ~0ull - 4095, ~0ull};
    int fd = tee_open();

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        CHECK_ERRNO(shm_alloc(fd, sizes[i], NULL, NULL), ENOMEM);
}

CASE(alloc_needs_its_argument)
{
    int fd = tee_open(), next = dup(fd);
    struct tee_ioctl_shm_alloc_data *data = new_pages(1);

    close(next);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_SHM_ALLOC, nowhere), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_SHM_ALLOC, at_the_edge(15)), EFAULT);
    /* It can be read but not written: no descriptor is left behind. */
    data->size = PAGE;
    make_readonly(data, 1);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_SHM_ALLOC, data), EFAULT);
    CHECK_EQ(dup(fd), next);
}

CASE(alloc_gives_zeros)
{
    int fd = tee_open();

    for (int i = 0; i < 4; i++) {
        struct memory memory = must_alloc(fd, 16 * PAGE);

        CHECK(all_bytes(memory.bytes, memory.size, 0));
        memset(memory.bytes, 0xff, memory.size);
        munmap(memory.bytes, memory.size);
        close(memory.fd);
    }
}

CASE(alloc_gives_pages_that_both_see)
{
    int fd = tee_open();
    struct memory memory = must_alloc(fd, PAGE);

    strcpy((char *)memory.bytes, "written by the client");
    check_seen(fd, memory.id, memory.bytes, 32);
    CHECK_EQ(fill(fd, memory.id, 100, 50, 'x'), 0);
    CHECK(all_bytes(memory.bytes + 100, 50, 'x'));
    CHECK_EQ(memory.bytes[99], 0);
    CHECK_EQ(memory.bytes[150], 0);
}

CASE(alloc_can_be_mapped_in_part_and_more_than_once)
{
    int fd = tee_open();
    struct memory memory = must_alloc(fd, 4 * PAGE);
    unsigned char *last = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, memory.fd, 3 * PAGE);

    CHECK(last != MAP_FAILED);
    memory.bytes[3 * PAGE] = 42;
    CHECK_EQ(last[0], 42);
    CHECK_EQ(fill(fd, memory.id, 3 * PAGE, PAGE, 43), 0);
    CHECK_EQ(last[0], 43);
}

CASE(the_size_of_allocated_memory_stays)
{
    int fd = tee_open();
    struct memory memory = must_alloc(fd, PAGE);

    CHECK(ftruncate(memory.fd, 0) == -1);
    CHECK(ftruncate(memory.fd, 2 * PAGE) == -1);
    CHECK(fallocate(memory.fd, 0, PAGE, PAGE) == -1);
    CHECK_EQ(fill(fd, memory.id, 0, PAGE, 1), 0);
    CHECK(all_bytes(memory.bytes, PAGE, 1));
}

CASE(alloc_at_the_limit_of_descriptors_is_EMFILE_and_keeps_nothing)
{
    int fd = tee_open(), next = dup(fd);
    struct rlimit old, none_left;

    close(next);
    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
    none_left = old;
    none_left.rlim_cur = (rlim_t)next;
    CHECK(setrlimit(RLIMIT_NOFILE, &none_left) == 0);
    /* Far more in all than the device has. */
    for (int i = 0; i < 40; i++)
        CHECK_ERRNO(shm_alloc(fd, GIB, NULL, NULL), EMFILE);
    CHECK_ERRNO(shm_register(fd, new_pages(1), PAGE, NULL), EMFILE);
    CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
    WAIT_UNTIL(shm_alloc(fd, GIB, NULL, NULL) == next);
}

CASE(descriptors_are_the_lowest_free_and_stay_open_over_exec)
{
    int fd = tee_open(), next = dup(fd), id;

    close(next);
    CHECK_EQ(shm_alloc(fd, PAGE, &id, NULL), next);
    CHECK_EQ(fcntl(next, F_GETFD), 0);
    CHECK_EQ(shm_register(fd, new_pages(1), PAGE, &id), next + 1);
    CHECK_EQ(fcntl(next + 1, F_GETFD), 0);
}

/* SHM_REGISTER */

CASE(register_answers_the_length_as_given)
{
    int fd = tee_open();
    char *pages = new_pages(3);
    struct tee_ioctl_shm_register_data data = {
        .addr = (uintptr_t)pages + 5, .length = 5000, .id = -1};
    int shm = ioctl(fd, TEE_IOC_SHM_REGISTER, &data);

    CHECK(shm >= 0);
    CHECK_EQ(data.addr, (uintptr_t)pages + 5);
    CHECK_EQ(data.length, 5000);
    CHECK_EQ(data.flags, 0);
    CHECK(data.id >= 1);
    strcpy(pages + 5, "registered");
    check_seen(fd, data.id, pages + 5, 11);
    CHECK_EQ(fill(fd, data.id, 10, 20, 'y'), 0);
    CHECK(all_bytes((unsigned char *)pages + 15, 20, 'y'));
    CHECK_EQ(pages[14], 'd');
    CHECK_EQ(pages[35], 0);
}

CASE(register_takes_no_flags)
{
    int fd = tee_open();
    struct tee_ioctl_shm_register_data data = {.addr = (uintptr_t)nowhere, .length = 1, .flags = 1};

    CHECK_ERRNO(ioctl(fd, TEE_IOC_SHM_REGISTER, &data), EINVAL);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_SHM_REGISTER, nowhere), EFAULT);
}

CASE(register_of_nothing_is_ENOMEM)
{
    int fd = tee_open();

    CHECK_ERRNO(shm_register(fd, new_pages(1), 0, NULL), ENOMEM);
    CHECK_ERRNO(shm_register(fd, nowhere, 0, NULL), ENOMEM);
}

CASE(register_of_memory_that_is_not_there_is_EFAULT)
{
    int fd = tee_open();

    CHECK_ERRNO(shm_register(fd, nowhere, 16, NULL), EFAULT);
    CHECK_ERRNO(shm_register(fd, NULL, PAGE, NULL), EFAULT);
    CHECK_ERRNO(shm_register(fd, (void *)-4096l, PAGE, NULL), EFAULT);
    CHECK_ERRNO(shm_register(fd, (void *)(1l << 47), PAGE, NULL), EFAULT);
    CHECK_ERRNO(shm_register(fd, new_pages(1), ~0ull, NULL), EFAULT);
    CHECK_ERRNO(shm_register(fd, new_pages(1), ~0ull - PAGE, NULL), EFAULT);
}

CASE(register_of_memory_that_ends_early_is_ENOMEM)
{
    int fd = tee_open();
    char *last = (char *)at_the_edge(PAGE), *pages = new_pages(3);

    CHECK_ERRNO(shm_register(fd, last, PAGE + 1, NULL), ENOMEM);
    CHECK(mprotect(pages + PAGE, PAGE, PROT_NONE) == 0);
    CHECK_ERRNO(shm_register(fd, pages, 3 * PAGE, NULL), ENOMEM);
    CHECK(shm_register(fd, pages, PAGE, NULL) >= 0);
    CHECK(shm_register(fd, last, PAGE, NULL) >= 0);
}

CASE(register_of_too_much_is_ENOMEM)
{
    int fd = tee_open();

    CHECK_ERRNO(shm_register(fd, nowhere, 1ull << 40, NULL), ENOMEM);
}

CASE(register_of_readonly_memory_is_EFAULT)
{
    int fd = tee_open();
    char *pages = new_pages(2);
    static const char literal[64] = "in the program's constants";

    make_readonly(pages + PAGE, 1);
    CHECK_ERRNO(shm_register(fd, pages + PAGE, PAGE, NULL), EFAULT);
    CHECK_ERRNO(shm_register(fd, pages, 2 * PAGE, NULL), ENOMEM);
    CHECK_ERRNO(shm_register(fd, literal, sizeof(literal), NULL), EFAULT);
    CHECK(mprotect(pages, PAGE, PROT_NONE) == 0);
    CHECK_ERRNO(shm_register(fd, pages, PAGE, NULL), EFAULT);
}

CASE(register_spans_mappings_of_different_kinds)
{
    int fd = tee_open(), file = memfd_create("file", 0), id;
    char *pages = new_pages(3);

    CHECK(ftruncate(file, PAGE) == 0);
    CHECK(mmap(pages + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) !=
          MAP_FAILED);
    CHECK(shm_register(fd, pages, 3 * PAGE, &id) >= 0);
    CHECK_EQ(fill(fd, id, 0, 3 * PAGE, 'z'), 0);
    CHECK(all_bytes((unsigned char *)pages, 3 * PAGE, 'z'));
}

CASE(register_of_pages_never_touched)
{
    int fd = tee_open(), id;
    unsigned char *pages = new_pages(8);

    CHECK(shm_register(fd, pages, 8 * PAGE, &id) >= 0);
    check_seen(fd, id, pages, 2 * PAGE - 1);
}

CASE(a_registered_descriptor_cannot_be_mapped)
{
    int fd = tee_open(), id;
    char *pages = new_pages(1);
    int shm = shm_register(fd, pages, PAGE, &id);

    CHECK(shm >= 0);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, shm, 0) == MAP_FAILED);
    CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, shm, 0) == MAP_FAILED);
    CHECK(write(shm, pages, 1) == -1);
    CHECK(read(shm, pages, 1) == -1);
    check_seen(fd, id, pages, 8);
}

CASE(no_device_is_to_be_mapped)
{
    int fd = tee_open();

    must_open_session(fd, ANY);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED);
}

/* SHM_REGISTER_FD */

CASE(register_fd_of_a_sealed_memfd_shares_its_pages)
{
    int fd = tee_open(), memory = sealed_memfd(2 * PAGE, F_SEAL_SEAL);
    unsigned char *bytes = map(memory, 2 * PAGE);
    struct tee_ioctl_shm_register_fd_data data = {.fd = memory, .id = -1};
    int shm = ioctl(fd, TEE_IOC_SHM_REGISTER_FD, &data);

    CHECK(shm >= 0);
    CHECK_EQ(data.size, 2 * PAGE);
    CHECK(data.flags != 0); /* Linux tells its own flags here */
    CHECK(data.id >= 1);
    strcpy((char *)bytes, "a file of the client");
    check_seen(fd, data.id, bytes, 32);
    strcpy((char *)bytes, "changed later");
    check_seen(fd, data.id, bytes, 32);
    CHECK_EQ(fill(fd, data.id, PAGE, PAGE, 's'), 0);
    CHECK(all_bytes(bytes + PAGE, PAGE, 's'));
    CHECK_EQ(bytes[PAGE - 1], 0);
    /* The memory is registered, the descriptor was only for that. */
    close(memory);
    CHECK_EQ(fill(fd, data.id, PAGE, PAGE, 't'), 0);
    CHECK(all_bytes(bytes + PAGE, PAGE, 't'));
}

CASE(register_fd_of_memory_of_the_TEE_shares_its_pages)
{
    int fd = tee_open(), other = tee_open(), id;
    struct memory memory = must_alloc(fd, PAGE);

    /* So memory of one context reaches another one. */
    CHECK(shm_register_fd(other, memory.fd, &id) >= 0);
    CHECK_EQ(fill(other, id, 0, PAGE, 'o'), 0);
    CHECK(all_bytes(memory.bytes, PAGE, 'o'));
}

CASE(register_fd_of_a_file_that_can_shrink_is_copied)
{
    int fd = tee_open(), memory = memfd_create("client", MFD_ALLOW_SEALING), id;
    unsigned char *bytes;

    CHECK(ftruncate(memory, 5000) == 0);
    bytes = map(memory, 5000);
    CHECK(shm_register_fd(fd, memory, &id) >= 0);
    strcpy((char *)bytes, "each call sees the file as it is");
    check_seen(fd, id, bytes, 64);
    strcpy((char *)bytes, "now so");
    check_seen(fd, id, bytes, 64);
    CHECK_EQ(fill(fd, id, 4990, 10, 'u'), 0);
    CHECK(all_bytes(bytes + 4990, 10, 'u'));
    CHECK_EQ(bytes[4989], 0);
    /* Shorter than it was registered: nothing there to read or write, and it must not grow. */
    CHECK(ftruncate(memory, 4096) == 0);
    CHECK_EQ(fill(fd, id, 4990, 10, 'u'), EFAULT);
    CHECK_EQ(fill(fd, id, 4090, 10, 'u'), EFAULT);
    CHECK_EQ(lseek(memory, 0, SEEK_END), 4096);
    CHECK_EQ(fill(fd, id, 0, 4096, 'v'), 0);
    CHECK(all_bytes(bytes, 4096, 'v'));
}

CASE(register_fd_takes_memory_only)
{
    struct tee_ioctl_shm_register_fd_data data = {.fd = 0, .flags = 1};
    int fd = tee_open(), pipes[2], memory = sealed_memfd(PAGE, 0), next;
    const char *files[] = {"/dev/null", "/dev", "/proc/self/maps", TEE0};

    CHECK(pipe(pipes) == 0);
    next = dup(fd);
    close(next);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_SHM_REGISTER_FD, &data), EINVAL);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_SHM_REGISTER_FD, nowhere), EFAULT);
    CHECK_ERRNO(shm_register_fd(fd, pipes[0], NULL), EINVAL);
    CHECK_ERRNO(shm_register_fd(fd, pipes[1], NULL), EINVAL);
    CHECK_ERRNO(shm_register_fd(fd, -1, NULL), EINVAL);
    CHECK_ERRNO(shm_register_fd(fd, 12345, NULL), EINVAL);
    CHECK_ERRNO(shm_register_fd(fd, fd, NULL), EINVAL);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        int file = must_open(files[i], O_RDONLY);

        CHECK_ERRNO(shm_register_fd(fd, file, NULL), EINVAL);
        close(file);
    }
    data = (struct tee_ioctl_shm_register_fd_data){.fd = memory + (1ll << 32)};
    CHECK_ERRNO(ioctl(fd, TEE_IOC_SHM_REGISTER_FD, &data), EINVAL);
    CHECK_ERRNO(shm_register_fd(fd, memfd_create("empty", 0), NULL), EINVAL);
}

CASE(register_fd_needs_a_file_that_can_be_written)
{
    int fd = tee_open(), memory = sealed_memfd(PAGE, 0), readonly;
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
    readonly = must_open(path, O_RDONLY);
    CHECK_ERRNO(shm_register_fd(fd, readonly, NULL), EINVAL);
    CHECK_ERRNO(shm_register_fd(fd, must_open(path, O_WRONLY), NULL), EINVAL);
    CHECK_ERRNO(shm_register_fd(fd, must_open(path, O_PATH), NULL), EINVAL);
    CHECK_ERRNO(shm_register_fd(fd, must_open("/proc/self/exe", O_RDONLY), NULL), EINVAL);
    CHECK_ERRNO(shm_register_fd(fd, sealed_memfd(PAGE, F_SEAL_WRITE), NULL), EINVAL);
    CHECK(shm_register_fd(fd, memory, NULL) >= 0);
}

CASE(register_fd_needs_its_argument_back)
{
    int fd = tee_open(), memory = sealed_memfd(PAGE, 0), next = dup(fd);
    struct tee_ioctl_shm_register_fd_data *data = new_pages(1);

    close(next);
    data->fd = memory;
    make_readonly(data, 1);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_SHM_REGISTER_FD, data), EFAULT);
    CHECK_EQ(dup(fd), next);
}

CASE(a_window_may_lie_anywhere_in_the_memory)
{
    int fd = tee_open(), id;
    unsigned char *pages = new_pages(4);

    memset(pages, '.', 4 * PAGE);
    CHECK(shm_register(fd, pages + 1, 3 * PAGE, &id) >= 0);
    CHECK_EQ(fill(fd, id, PAGE - 2, 4, 'w'), 0);
    CHECK(all_bytes(pages, PAGE - 1, '.'));
    CHECK(all_bytes(pages + PAGE - 1, 4, 'w'));
    CHECK(all_bytes(pages + PAGE + 3, 3 * PAGE - 3, '.'));
}
