/* SPDX-License-Identifier: BSD-2-Clause */
/* <gentee/tee.h> against clients that race with themselves: each thing ends once, and is read once. */
#include "extension.h"

#include <pthread.h>

#define THREADS 4
#define ROUNDS 200

struct race {
    pthread_barrier_t *barrier;
    int fd;
    int id;
    int (*call)(int fd, int id);
    unsigned successes;
};

static void *run_race(void *context)
{
    struct race *race = context;

    pthread_barrier_wait(race->barrier);
    if (race->call(race->fd, race->id) == 0)
        race->successes = 1;
    else if (errno != EINVAL)
        FAIL("%s", strerror(errno));
    return NULL;
}

/* Of calls that end the same thing at the same time one succeeds. */
static void end_together(int fd, int id, int (*call)(int fd, int id))
{
    pthread_barrier_t barrier;
    pthread_t threads[THREADS];
    struct race races[THREADS];
    unsigned successes = 0;

    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        races[i] = (struct race){&barrier, fd, id, call, 0};
        CHECK(pthread_create(&threads[i], NULL, run_race, &races[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        successes += races[i].successes;
    }
    pthread_barrier_destroy(&barrier);
    CHECK_EQ(successes, 1);
}

CASE(memory_is_freed_once)
{
    int fd = tee_open();
    char *pages = new_pages(1);

    for (int round = 0; round < ROUNDS; round++) {
        struct memory memory = round % 2 ? must_register(fd, pages, PAGE) : must_alloc(fd, PAGE);

        end_together(fd, memory.id, shm_free);
        close(memory.fd);
        if (memory.bytes != (unsigned char *)pages)
            munmap(memory.bytes, PAGE);
    }
    CHECK_EQ(must_alloc(fd, PAGE).id, 1);
}

CASE(a_mapping_is_ended_once)
{
    int fd = tee_open(), id;
    char *pages = new_pages(1);

    for (int round = 0; round < ROUNDS; round++) {
        CHECK_EQ(mem_map(fd, pages, PAGE, TEE_MEM_MAP_READ, &id), 0);
        end_together(fd, id, mem_unmap);
    }
    CHECK_EQ(must_alloc(fd, PAGE).id, 1);
}

static volatile bool stop;

static void *flip(void *word)
{
    volatile __u32 *flipping = word;

    while (!stop)
        *flipping ^= 0xFFFFFFFF;
    return NULL;
}

CASE(a_task_is_read_once)
{
    int fd = tee_open();
    struct {
        struct tee_ioctl_task_arg arg;
        param_t params[2];
    } task_arg;
    struct tee_ioctl_task_arg *arg = &task_arg.arg;
    pthread_t thread;

    memset(&task_arg, 0, sizeof(task_arg));
    parse_uuid(ANY, arg->uuid);
    CHECK(pthread_create(&thread, NULL, flip, &arg->num_params) == 0);
    for (int round = 0; round < 10 * ROUNDS; round++) {
        struct tee_ioctl_buf_data data = {(__u64)(uintptr_t)arg, sizeof(*arg)};

        if (ioctl(fd, TEE_IOC_TASK, &data))
            CHECK_EQ(errno, EINVAL);
        else
            CHECK_EQ(arg->ret, TEEC_SUCCESS);
    }
    stop = true;
    pthread_join(thread, NULL);
    CHECK_EQ(must_open_session(fd, ANY), 1);
}

CASE(an_image_that_changes_is_refused_or_taken_whole)
{
    int fd = tee_open();
    struct tee_ioctl_load_ts_data data;
    __u32 *image = new_pages(16);
    pthread_t thread;

    memcpy(image, "LOOP", 4);
    CHECK(pthread_create(&thread, NULL, flip, image + 100) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        CHECK_EQ(load_ts(fd, image, 16 * PAGE, &data), 0);
        CHECK_EQ(data.ret, TEEC_ERROR_SECURITY);
    }
    stop = true;
    pthread_join(thread, NULL);
}

CASE(others_mappings_are_unknown)
{
    int fd = tee_open(), other = tee_open(), id;
    struct memory memory = must_alloc(fd, PAGE);

    CHECK_EQ(mem_map(fd, new_pages(1), PAGE, TEE_MEM_MAP_READ, &id), 0);
    for (int any = -2; any < 20; any++) {
        CHECK_ERRNO(shm_free(other, any), EINVAL);
        CHECK_ERRNO(mem_unmap(other, any), EINVAL);
    }
    CHECK_ANSWER(task(fd, ANY, NOP, 2,
                      (param_t[]){memref_in(id, 0, 1), memref_in(memory.id, 0, 1)}),
                 TEEC_SUCCESS);
}

CASE(loads_whose_caller_is_killed)
{
    char *image = mmap(NULL, TEE_MAX_TS_IMAGE_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = tee_open();
    struct tee_ioctl_load_ts_data data;

    CHECK(image != MAP_FAILED);
    memcpy(image, "LOOP", 4);
    for (int round = 0; round < 8; round++) {
        struct gate gate = new_gate();
        pid_t child = must_fork();

        if (child == 0) {
            gate_send(&gate, 1);
            for (;;)
                load_ts(fd, image, TEE_MAX_TS_IMAGE_SIZE, &data);
        }
        gate_receive(&gate);
        must_kill(child);
    }
    CHECK_EQ(load_ts(fd, image, PAGE, &data), 0);
    CHECK_EQ(data.ret, TEEC_ERROR_SECURITY);
}
