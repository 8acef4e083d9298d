/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that changes while a call runs: a second thread flips words of the argument. Each call ends
 * with an errno that Linux has for it, or works on one of the two values.
 */
#include "tee_client.h"

#include <pthread.h>
#include <stdatomic.h>

#define ROUNDS 3000

/* A flipped word: it is ``values[i]`` for some i, at any time. */
struct flip {
    volatile __u32 *word;
    const __u32 *values;
    size_t count;
};

struct flipper {
    struct flip flips[8];
    size_t count;
    atomic_bool stop;
    pthread_t thread;
};

static void *flip_on(void *context)
{
    struct flipper *flipper = context;

    for (size_t turn = 0; !atomic_load_explicit(&flipper->stop, memory_order_relaxed); turn++)
        for (size_t i = 0; i < flipper->count; i++) {
            const struct flip *flip = &flipper->flips[i];

            *flip->word = flip->values[(turn >> i) % flip->count];
        }
    return NULL;
}

static void flip_word(struct flipper *flipper, void *word, const __u32 *values, size_t count)
{
    flipper->flips[flipper->count++] = (struct flip){word, values, count};
}

#define FLIP(flipper, word, ...)                                                                  \
    do {                                                                                          \
        static const __u32 values_[] = {__VA_ARGS__};                                             \
        flip_word(flipper, &(word), values_, sizeof(values_) / sizeof(values_[0]));               \
    } while (0)

static void start(struct flipper *flipper)
{
    CHECK(pthread_create(&flipper->thread, NULL, flip_on, flipper) == 0);
}

static void stop(struct flipper *flipper)
{
    atomic_store(&flipper->stop, true);
    CHECK(pthread_join(flipper->thread, NULL) == 0);
}

static bool is_one_of(int error, const int *errors)
{
    for (; *errors; errors++)
        if (*errors == error)
            return true;
    return false;
}

/* 0 or one of these. */
#define CHECK_ONE_OF(ret, ...)                                                                    \
    do {                                                                                          \
        int ret_ = (ret);                                                                         \
        if (ret_ < 0 && !is_one_of(errno, (const int[]){__VA_ARGS__, 0}))                         \
            FAIL("%s: %s", #ret, strerror(errno));                                                \
    } while (0)

struct invoke_4 {
    struct tee_ioctl_buf_data data;
    __u32 func, session, cancel_id, ret, ret_origin, num_params;
    param_t params[4];
};

CASE(length_and_number)
{
    int fd = tee_open();
    struct invoke_4 *call = new_pages(1);
    struct flipper flipper = {0};

    call->session = must_open_session(fd, ANY);
    call->func = NOP;
    call->data.buf_ptr = (uintptr_t)&call->func;
    FLIP(&flipper, call->data.buf_len, 24, 24 + 128, 4096, 0xffffffff, 0, 23);
    FLIP(&flipper, call->num_params, 0, 4, 127, 0x7ffffff, 0xffffffff, 1);
    start(&flipper);
    for (int i = 0; i < ROUNDS; i++)
        CHECK_ONE_OF(ioctl(fd, TEE_IOC_INVOKE, &call->data), EINVAL, EFAULT);
    stop(&flipper);
}

CASE(pointer)
{
    int fd = tee_open();
    char *pages = at_the_edge(2 * PAGE);
    struct invoke_4 *call = (void *)pages;
    struct tee_ioctl_invoke_arg *far = (void *)(pages + 2 * PAGE - sizeof(*far));
    struct flipper flipper = {0};
    __u32 values[4];

    call->session = far->session = must_open_session(fd, ANY);
    far->func = call->func = NOP;
    call->data.buf_ptr = (uintptr_t)&call->func;
    call->data.buf_len = sizeof(*far);
    /* The near one, the far one, one whose end is not there, one that is not there at all. */
    values[0] = (__u32)(uintptr_t)&call->func;
    values[1] = (__u32)(uintptr_t)far;
    values[2] = (__u32)(uintptr_t)far + 1;
    values[3] = (__u32)(uintptr_t)pages + 2 * PAGE;
    flip_word(&flipper, &call->data.buf_ptr, values, 4);
    start(&flipper);
    for (int i = 0; i < ROUNDS; i++)
        CHECK_ONE_OF(ioctl(fd, TEE_IOC_INVOKE, &call->data), EINVAL, EFAULT);
    stop(&flipper);
}

CASE(sessions)
{
    int fd = tee_open(), other = tee_open();
    struct invoke_4 *call = new_pages(1);
    struct flipper flipper = {0};
    __u32 values[3];
    int worked = 0;

    values[0] = must_open_session(fd, ANY);
    values[1] = must_open_session(other, ANY); /* of another context */
    values[2] = 0xffffffff;
    call->func = INCREMENT;
    call->data.buf_ptr = (uintptr_t)&call->func;
    call->data.buf_len = 24 + 128;
    call->num_params = 4;
    flip_word(&flipper, &call->session, values, 3);
    start(&flipper);
    for (int i = 0; i < ROUNDS || !worked; i++) {
        for (int k = 0; k < 4; k++)
            call->params[k] = value_inout(i, k);
        int ret = ioctl(fd, TEE_IOC_INVOKE, &call->data);
        CHECK_ONE_OF(ret, EINVAL);
        if (ret)
            continue;
        worked++;
        for (int k = 0; k < 4; k++)
            if (call->params[k].a != (__u64)i + 1 || call->params[k].b != (__u64)k + 1)
                FAIL("round %d: %llu %llu", i, call->params[k].a, call->params[k].b);
    }
    stop(&flipper);
}

/* Kinds, offsets, sizes and ids of parameters. Nothing outside the buffer may be written. */
CASE(parameters)
{
    int fd = tee_open();
    struct memory memory = must_alloc(fd, PAGE), guard = must_alloc(fd, PAGE);
    struct invoke_4 *call = new_pages(1);
    struct flipper flipper = {0};
    __u32 ids[3];

    memset(memory.bytes, 0x11, PAGE);
    call->session = must_open_session(fd, ANY);
    call->func = FILL;
    call->data.buf_ptr = (uintptr_t)&call->func;
    call->data.buf_len = 24 + 128;
    call->num_params = 4;
    call->params[0] = value_in(0x22, 0);
    for (int k = 1; k < 4; k++)
        call->params[k] = memref_out(memory.id, 1024, 1024);
    ids[0] = (__u32)memory.id;
    ids[1] = 0x7fffffff;
    ids[2] = 0xffffffff;
    FLIP(&flipper, call->params[1].attr, 5, 6, 7, 0, 1, 3, 8, 9, 10, 11, 12, 13, 14, 15, 4);
    FLIP(&flipper, call->params[2].attr, 6, 0x100, 0x106, 0x10000, 0x206);
    FLIP(&flipper, call->params[2].a, 1024, 2048, 0xffffffff, 4096);
    FLIP(&flipper, call->params[2].b, 1024, 0, 2048, 0xffffffff, 4096);
    flip_word(&flipper, &call->params[3].c, ids, 3);
    start(&flipper);
    for (int i = 0; i < ROUNDS; i++)
        CHECK_ONE_OF(ioctl(fd, TEE_IOC_INVOKE, &call->data), EINVAL, EFAULT);
    stop(&flipper);
    for (unsigned i = 0; i < 1024; i++)
        CHECK_EQ(memory.bytes[i], 0x11);
    for (unsigned i = 0; i < PAGE; i++)
        CHECK_EQ(guard.bytes[i], 0);
}

CASE(open_session)
{
    int fd = tee_open();
    struct {
        struct tee_ioctl_buf_data data;
        struct tee_ioctl_open_session_arg arg;
        param_t params[4];
    } *call = new_pages(1);
    struct flipper flipper = {0};
    __u32 first = must_open_session(fd, ANY);

    parse_uuid(ANY, call->arg.uuid);
    call->data.buf_ptr = (uintptr_t)&call->arg;
    call->data.buf_len = sizeof(call->arg) + sizeof(call->params);
    call->arg.num_params = 4;
    FLIP(&flipper, call->arg.clnt_login, 0, 1, 2, 4, 0x80000000, 0xbfffffff, 5, 0xffffffff);
    FLIP(&flipper, call->arg.num_params, 4, 3, 0, 0xffffffff);
    FLIP(&flipper, call->params[0].attr, 0, 1, 5, 0x100, 0xffff);
    FLIP(&flipper, call->arg.session, 0, 1, 2, 0xffffffff);
    start(&flipper);
    for (int i = 0; i < ROUNDS; i++)
        CHECK_ONE_OF(ioctl(fd, TEE_IOC_OPEN_SESSION, &call->data), EINVAL, EFAULT, EPERM);
    stop(&flipper);
    /* Which session it got, the client may have overwritten. It knows the range. */
    for (__u32 session = first + 1; session <= first + ROUNDS; session++)
        close_session(fd, session);
    CHECK(must_open_session(fd, ANY) <= first + 1);
}

CASE(shared_memory)
{
    int fd = tee_open();
    struct tee_ioctl_shm_alloc_data *data = new_pages(1);
    struct tee_ioctl_shm_register_data *registered = (void *)(data + 8);
    char *pages = new_pages(4);
    struct flipper flipper = {0};

    registered->addr = (uintptr_t)pages;
    FLIP(&flipper, data->size, 1, 4096, 0, 0xffffffff, 8193);
    FLIP(&flipper, data->flags, 0, 1, 0, 0);
    FLIP(&flipper, data->id, 1, 2, 0xffffffff);
    FLIP(&flipper, registered->length, 1, 4096, 16384, 16385, 0, 0xffffffff);
    FLIP(&flipper, registered->flags, 0, 1, 0, 0);
    start(&flipper);
    for (int i = 0; i < ROUNDS; i++) {
        int shm = ioctl(fd, TEE_IOC_SHM_ALLOC, data);
        CHECK_ONE_OF(shm, EINVAL, ENOMEM);
        if (shm >= 0) {
            off_t size = lseek(shm, 0, SEEK_END);

            if (size != 4096 && size != 12288)
                FAIL("size %lld", (long long)size);
            close(shm);
        }
        shm = ioctl(fd, TEE_IOC_SHM_REGISTER, registered);
        CHECK_ONE_OF(shm, EINVAL, ENOMEM, EFAULT);
        if (shm >= 0)
            close(shm);
    }
    stop(&flipper);
}

/* Pages come and go under the argument. */
static void *map_and_unmap(void *context)
{
    struct flipper *flipper = context;
    char *page = (char *)(uintptr_t)flipper->flips[0].word;

    while (!atomic_load(&flipper->stop)) {
        mprotect(page, PAGE, PROT_READ);
        mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        munmap(page, PAGE);
        mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    }
    return NULL;
}

CASE(pages)
{
    int fd = tee_open();
    char *pages = new_pages(3);
    struct flipper flipper = {.flips[0].word = (void *)(pages + PAGE)};
    struct memory memory = must_register(fd, pages, 3 * PAGE);
    __u32 session = must_open_session(fd, ANY);

    CHECK(pthread_create(&flipper.thread, NULL, map_and_unmap, &flipper) == 0);
    for (int i = 0; i < ROUNDS; i++) {
        /* The argument is on a page that is never there for long; the copy of it is. */
        struct tee_ioctl_buf_data data = {(uintptr_t)pages + PAGE + 64, 24};
        param_t params[] = {value_in(0x5a, 0), memref_out(memory.id, 0, 3 * PAGE)};
        struct answer answer;

        CHECK_ONE_OF(ioctl(fd, TEE_IOC_INVOKE, &data), EINVAL, EFAULT);
        CHECK_ONE_OF(ioctl(fd, TEE_IOC_VERSION, pages + PAGE + 8), EFAULT);
        answer = invoke(fd, session, FILL, 2, params);
        if (answer.error && answer.error != EFAULT)
            FAIL("errno %d", answer.error);
        int id, shm = shm_register(fd, pages + 10, 2 * PAGE, &id);
        CHECK_ONE_OF(shm, EFAULT, ENOMEM);
        if (shm >= 0)
            close(shm);
    }
    stop(&flipper);
}
