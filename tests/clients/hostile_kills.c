/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Clients that are killed at any moment: in the middle of opens, allocations, registrations, sessions
 * and calls. How far a victim gets before it is killed is drawn from a fixed seed.
 */
#include "tee_client.h"

#include <pthread.h>
#include <stdatomic.h>

static uint64_t random_state;

static uint32_t draw(uint32_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 20) % below;
}

static unsigned long number_from(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 10) : otherwise;
}

/* Shared by a victim and its killer: how many steps the victim has taken. */
static atomic_uint *steps;

#define STEP atomic_fetch_add(steps, 1)

static void *victim_on(void *unused)
{
    const char *service = getenv("TEE_CLIENT_SERVICE");
    static char page[2 * PAGE];

    (void)unused;
    for (;;) {
        int fd = open(TEE0, O_RDWR), id, registered, fd_of_one;
        struct answer answer;

        STEP;
        answer = open_session(fd, service ? service : ANY, 0, NULL);
        STEP;
        int shm = shm_alloc(fd, PAGE, &id, NULL);
        void *bytes = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, shm, 0);
        STEP;
        fd_of_one = shm_register(fd, page, sizeof(page), &registered);
        STEP;
        for (int i = 0; i < 3; i++) {
            param_t params[] = {value_in(0x42, PAGE), memref_inout(i & 1 ? id : registered, 0, PAGE)};

            invoke(fd, answer.session, service ? 0 : FILL, 2, params);
            STEP;
        }
        close_session(fd, answer.session);
        STEP;
        if (bytes != MAP_FAILED)
            munmap(bytes, PAGE);
        close(shm);
        close(fd_of_one);
        close(fd);
        STEP;
    }
    return NULL;
}

CASE(kills)
{
    unsigned long count = number_from("TEE_CLIENT_COUNT", 60);
    unsigned long most_threads = number_from("TEE_CLIENT_THREADS", 3);

    random_state = number_from("TEE_CLIENT_SEED", 1) * 0x9E3779B97F4A7C15ull;
    steps = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (unsigned long i = 0; i < count; i++) {
        uint32_t wanted = draw(40), more = draw(3000);
        unsigned threads = 1 + draw((uint32_t)most_threads);
        pid_t child;

        atomic_store(steps, 0);
        child = must_fork();
        if (child == 0) {
            for (unsigned k = 1; k < threads; k++) {
                pthread_t thread;

                pthread_create(&thread, NULL, victim_on, NULL);
            }
            victim_on(NULL);
        }
        /* So many steps, and then a little further: into the next one. */
        WAIT_UNTIL(atomic_load(steps) >= wanted);
        for (volatile uint32_t spin = 0; spin < more; spin = spin + 1)
            ;
        must_kill(child);
    }
}
