/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files that a client brings and then changes, and shared memory that it tries to change: whoever
 * maps a file that gets shorter is killed by SIGBUS, so nobody else may map one that can.
 */
#include "tee_client.h"

#include <pthread.h>
#include <stdatomic.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define PAGES 16

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4u
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif

static int new_memfd(int seals)
{
    int memory = memfd_create("client", MFD_ALLOW_SEALING);

    CHECK(memory >= 0);
    CHECK(ftruncate(memory, PAGES * PAGE) == 0);
    if (seals)
        CHECK(fcntl(memory, F_ADD_SEALS, seals) == 0);
    return memory;
}

/* The services: loopback's any one, and a service in a process of its own that others use too. */
static const char *service(void)
{
    return getenv("TEE_CLIENT_SERVICE");
}

static struct answer fill(int fd, __u32 session, int id, __u64 offset, __u64 size, __u8 byte)
{
    param_t params[] = {value_in(byte, size), memref_inout(id, offset, size)};

    /* Function 0 of the memory service, 3 of loopback's. */
    return invoke(fd, session, service() ? 0 : FILL, 2, params);
}

static __u32 must_open_service(int fd)
{
    return must_open_session(fd, service() ? service() : ANY);
}

static void must_work(int fd, __u32 session)
{
    struct memory memory = must_alloc(fd, PAGE);

    CHECK_ANSWER(fill(fd, session, memory.id, 0, PAGE, 0x77), TEEC_SUCCESS);
    CHECK_EQ(memory.bytes[PAGE - 1], 0x77);
    CHECK(close(memory.fd) == 0);
    CHECK(munmap(memory.bytes, PAGE) == 0);
}

/* Refused, or done; never the end of the service. */
static void check_survives(struct answer answer)
{
    if (answer.error && answer.error != EFAULT && answer.error != EINVAL)
        FAIL("errno %d", answer.error);
    if (!answer.error && answer.ret == TEEC_ERROR_TARGET_DEAD)
        FAIL("the service is dead");
}

CASE(sealed)
{
    int fd = tee_open(), id, memory = new_memfd(SEALS);
    __u32 session = must_open_service(fd);
    char *bytes = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);

    CHECK(shm_register_fd(fd, memory, &id) >= 0);
    CHECK_ANSWER(fill(fd, session, id, PAGE, PAGE, 0x11), TEEC_SUCCESS);
    CHECK_EQ(bytes[PAGE], 0x11);
    CHECK_EQ(bytes[2 * PAGE], 0);
    CHECK_ERRNO(ftruncate(memory, 0), EPERM);
    /* A hole is not an end. */
    CHECK(fallocate(memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGES * PAGE) == 0);
    CHECK_ANSWER(fill(fd, session, id, 0, PAGES * PAGE, 0x22), TEEC_SUCCESS);
    CHECK_EQ(bytes[PAGES * PAGE - 1], 0x22);
}

CASE(truncated_before)
{
    int fd = tee_open(), id, memory = new_memfd(0);
    __u32 session = must_open_service(fd);

    CHECK(shm_register_fd(fd, memory, &id) >= 0);
    CHECK(ftruncate(memory, PAGE) == 0);
    struct answer answer = fill(fd, session, id, 0, PAGES * PAGE, 0x11);
    CHECK_EQ(answer.error, EFAULT);
    CHECK_EQ(lseek(memory, 0, SEEK_END), PAGE); /* it did not grow again */
    CHECK_ANSWER(fill(fd, session, id, 0, PAGE, 0x22), TEEC_SUCCESS);
    CHECK(ftruncate(memory, 0) == 0);
    answer = fill(fd, session, id, 0, PAGE, 0x33);
    CHECK_EQ(answer.error, EFAULT);
    must_work(fd, session);
}

static atomic_bool stopped;

static void *truncate_on(void *context)
{
    int memory = *(int *)context;

    while (!atomic_load(&stopped)) {
        if (ftruncate(memory, 0) || ftruncate(memory, PAGES * PAGE) || ftruncate(memory, 100) ||
            ftruncate(memory, PAGES * PAGE))
            break;
    }
    return NULL;
}

CASE(truncated_while_used)
{
    int fd = tee_open(), id, memory = new_memfd(0);
    __u32 session = must_open_service(fd);
    pthread_t thread;

    CHECK(shm_register_fd(fd, memory, &id) >= 0);
    CHECK(pthread_create(&thread, NULL, truncate_on, &memory) == 0);
    for (int i = 0; i < 1000; i++) {
        int again, shm = shm_register_fd(fd, memory, &again);

        if (shm < 0)
            CHECK_EQ(errno, EINVAL);
        check_survives(fill(fd, session, id, 0, PAGES * PAGE, (__u8)i));
        if (shm >= 0) {
            check_survives(fill(fd, session, again, 0, PAGE, (__u8)i));
            close(shm);
        }
    }
    atomic_store(&stopped, true);
    pthread_join(thread, NULL);
    must_work(fd, session);
}

/* Each set of seals, by itself and added later. */
CASE(other_seals)
{
    int fd = tee_open();
    __u32 session = must_open_service(fd);
    static const int all[] = {F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE,
                              F_SEAL_FUTURE_WRITE};

    for (unsigned set = 0; set < 32; set++)
        for (int later = 0; later < 2; later++) {
            int memory = new_memfd(0), seals = 0, id;

            for (unsigned i = 0; i < 5; i++)
                if (set & 1u << i)
                    seals |= all[i];
            if (!later && fcntl(memory, F_ADD_SEALS, seals))
                continue;
            int shm = shm_register_fd(fd, memory, &id);
            if (later)
                fcntl(memory, F_ADD_SEALS, seals);
            if (shm < 0) {
                CHECK_EQ(errno, EINVAL);
                continue;
            }
            check_survives(fill(fd, session, id, 0, PAGES * PAGE, 0x44));
            if (ftruncate(memory, 0))
                errno = 0;
            check_survives(fill(fd, session, id, 0, PAGES * PAGE, 0x55));
            close(shm);
            close(memory);
        }
    must_work(fd, session);
}

/* A descriptor that only can be read gives nobody the right to write. */
CASE(read_only)
{
    int fd = tee_open(), id;
    __u32 session = must_open_service(fd);
    static const int seals[] = {0, SEALS};

    for (int i = 0; i < 2; i++) {
        int memory = new_memfd(seals[i]);
        char path[64], byte = 0;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
        int readonly = must_open(path, O_RDONLY);
        int shm = shm_register_fd(fd, readonly, &id);
        if (shm < 0) {
            CHECK_EQ(errno, EINVAL);
            continue;
        }
        check_survives(fill(fd, session, id, 0, PAGE, 0x66));
        CHECK_EQ(pread(memory, &byte, 1, 0), 1);
        CHECK_EQ(byte, 0);
    }
    must_work(fd, session);
}

/* Descriptors that are no memory, or memory of another kind. */
CASE(strange_files)
{
    int fd = tee_open(), id, ends[2], sockets[2];
    __u32 session = must_open_service(fd);
    int files[40], count = 0;

    CHECK(pipe(ends) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    files[count++] = ends[0];
    files[count++] = ends[1];
    files[count++] = sockets[0];
    files[count++] = fd;
    files[count++] = open("/dev/zero", O_RDWR);
    files[count++] = open("/dev/null", O_RDWR);
    files[count++] = open("/", O_RDONLY | O_DIRECTORY);
    files[count++] = open("/proc/self/mem", O_RDWR);
    files[count++] = open("/proc/self/exe", O_RDONLY);
    files[count++] = open("/proc/self/maps", O_RDONLY);
    files[count++] = open("/tmp", O_RDWR | O_TMPFILE, 0600);
    files[count++] = open("/dev/shm", O_RDWR | O_TMPFILE, 0600);
    files[count++] = open("/dev/shm", O_PATH);
    files[count++] = (int)syscall(434 /* pidfd_open */, getpid(), 0);
    files[count++] = memfd_create("huge", MFD_HUGETLB | MFD_ALLOW_SEALING);
    files[count++] = memfd_create("append", MFD_ALLOW_SEALING);
    if (fcntl(files[count - 1], F_SETFL, O_APPEND))
        FAIL("%s", strerror(errno));
    files[count++] = must_alloc(fd, PAGE).fd;
    files[count++] = shm_register(fd, new_pages(1), PAGE, &id);
    for (int i = 0; i < count; i++) {
        if (files[i] < 0)
            continue;
        if (ftruncate(files[i], 4 << 20) == 0)
            fcntl(files[i], F_ADD_SEALS, SEALS);
        int shm = shm_register_fd(fd, files[i], &id);
        if (shm < 0) {
            CHECK_EQ(errno, EINVAL);
            continue;
        }
        check_survives(fill(fd, session, id, 0, PAGE, 0x12));
        close(shm);
    }
    must_work(fd, session);
}

CASE(strange_numbers)
{
    int fd = tee_open();
    static const __s64 numbers[] = {-1, -100, INT32_MIN, INT32_MAX, 1ll << 32, INT64_MAX, INT64_MIN,
                                    1000};

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct tee_ioctl_shm_register_fd_data data = {.fd = numbers[i]};

        CHECK_ERRNO(ioctl(fd, TEE_IOC_SHM_REGISTER_FD, &data), EINVAL);
    }
    struct tee_ioctl_shm_register_fd_data data = {.fd = new_memfd(0), .flags = 1};
    CHECK_ERRNO(ioctl(fd, TEE_IOC_SHM_REGISTER_FD, &data), EINVAL);
}

/* What SHM_ALLOC gives has its size for good. */
CASE(allocated)
{
    int fd = tee_open();
    struct memory memory = must_alloc(fd, PAGES * PAGE);
    __u32 session = must_open_service(fd);
    char path[64];

    CHECK_ERRNO(ftruncate(memory.fd, 0), EPERM);
    CHECK_ERRNO(ftruncate(memory.fd, PAGE), EPERM);
    CHECK_ERRNO(ftruncate(memory.fd, 2 * PAGES * PAGE), EPERM);
    CHECK_ERRNO(fallocate(memory.fd, 0, 0, 2 * PAGES * PAGE), EPERM);
    CHECK_ERRNO(pwrite(memory.fd, "x", 1, PAGES * PAGE), EPERM);
    CHECK_ERRNO(fcntl(memory.fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
    CHECK_ERRNO(fcntl(memory.fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), EPERM);
    CHECK_ERRNO(fcntl(memory.fd, F_ADD_SEALS, F_SEAL_SEAL), EPERM);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", memory.fd);
    CHECK_ERRNO(truncate(path, 0), EPERM);
    CHECK_ERRNO(open(path, O_RDWR | O_TRUNC), EPERM);
    CHECK(fallocate(memory.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGES * PAGE) == 0);
    CHECK_ANSWER(fill(fd, session, memory.id, 0, PAGES * PAGE, 0x33), TEEC_SUCCESS);
    CHECK_EQ(memory.bytes[PAGES * PAGE - 1], 0x33);
    CHECK_EQ(lseek(memory.fd, 0, SEEK_END), PAGES * PAGE);
}

/*
 * A descriptor that is no open file (O_PATH) keeps nothing in use, but can be opened again at any
 * time: also in the moment in which gentee looks whether somebody still has the memory.
 */
static void *open_again(void *context)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", *(int *)context);
    while (!atomic_load(&stopped)) {
        int again = open(path, O_RDWR | O_NONBLOCK);

        if (again >= 0)
            close(again);
    }
    return NULL;
}

CASE(opened_again_at_its_end)
{
    int fd = tee_open();

    for (int i = 0; i < 300; i++) {
        struct memory memory = {.fd = shm_alloc(fd, PAGE, &memory.id, NULL)};
        char path[64];
        int handle;
        pthread_t threads[2];

        CHECK(memory.fd >= 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", memory.fd);
        handle = must_open(path, O_PATH);
        atomic_store(&stopped, false);
        for (int k = 0; k < 2; k++)
            CHECK(pthread_create(&threads[k], NULL, open_again, &handle) == 0);
        close(memory.fd);
        for (int k = 0; k < 20; k++) {
            struct tee_ioctl_version_data version;

            CHECK(ioctl(fd, TEE_IOC_VERSION, &version) == 0);
        }
        atomic_store(&stopped, true);
        for (int k = 0; k < 2; k++)
            pthread_join(threads[k], NULL);
        close(handle);
    }
}
