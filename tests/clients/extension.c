/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ioctls of <gentee/tee.h> on the loopback driver, whose services are all the same and whose
 * list has those that it starts with and those that were loaded.
 */
#include "extension.h"

/* Tasks. */

CASE(a_task_opens_invokes_and_closes)
{
    int fd = tee_open();
    param_t params[] = {value_inout(41, 1)};
    struct answer answer = task(fd, ANY, INCREMENT, 1, params);

    CHECK_EQ(answer.error, 0);
    CHECK_EQ(answer.ret, TEEC_SUCCESS);
    CHECK_EQ(answer.origin, TEEC_ORIGIN_TRUSTED_APP);
    CHECK_EQ(params[0].a, 42);
    /* No session is left: the lowest number is free. */
    CHECK_EQ(must_open_session(fd, ANY), 1);
}

CASE(a_task_that_cannot_open_says_so)
{
    int fd = tee_open();
    param_t params[] = {value_inout(41, 1)};
    struct answer answer = task(fd, "00000000-0000-0000-0000-000000000000", INCREMENT, 1, params);

    CHECK_EQ(answer.error, 0);
    CHECK_EQ(answer.ret, TEEC_ERROR_ITEM_NOT_FOUND);
    CHECK_EQ(answer.origin, TEEC_ORIGIN_TEE);
    CHECK_EQ(params[0].a, 41);
}

CASE(a_task_brings_result_and_origin_of_its_function)
{
    int fd = tee_open();
    param_t params[] = {value_in(0xFFFF0123, 7)};
    struct answer answer = task(fd, ANY, RETURN, 1, params);

    CHECK_EQ(answer.error, 0);
    CHECK_EQ(answer.ret, 0xFFFF0123);
    CHECK_EQ(answer.origin, 7);
    answer = task(fd, ANY, ERRNO, 1, (param_t[]){value_in(EBUSY, 0)});
    CHECK_EQ(answer.error, EBUSY);
    /* The sessions of both were closed. */
    CHECK_EQ(must_open_session(fd, ANY), 1);
}

CASE(a_task_has_shared_memory_and_a_login)
{
    int fd = tee_open();
    struct memory memory = must_alloc(fd, PAGE);
    struct task_options user = {.login = TEE_IOCTL_LOGIN_USER};
    param_t params[] = {value_in('x', 0), memref_out(memory.id, 8, 16)};
    param_t client[] = {value_out()};
    struct answer answer = task(fd, ANY, FILL, 2, params);

    CHECK_EQ(answer.error | (int)answer.ret, 0);
    CHECK_EQ(memory.bytes[7], 0);
    CHECK_EQ(memory.bytes[8], 'x');
    CHECK_EQ(memory.bytes[23], 'x');
    CHECK_EQ(memory.bytes[24], 0);
    answer = task_with(fd, ANY, CLIENT, &user, 1, client);
    CHECK_EQ(answer.error | (int)answer.ret, 0);
    CHECK_EQ(client[0].c, TEE_IOCTL_LOGIN_USER);
    CHECK(client[0].a != 0 && client[0].b != 0);
}

CASE(arguments_of_a_task_are_checked_in_order)
{
    int fd = tee_open();
    struct {
        struct tee_ioctl_task_arg arg;
        param_t params[1];
    } task_arg = {.arg = {.num_params = 1}};
    struct tee_ioctl_task_arg *arg = &task_arg.arg;
    struct tee_ioctl_buf_data data = {.buf_ptr = (__u64)(uintptr_t)arg, .buf_len = 96};

    parse_uuid(ANY, arg->uuid);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_TASK, NULL), EFAULT);
    CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_TASK, NULL, 63), EINVAL);
    CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_TASK, NULL, MAX_ARG_SIZE + 1), EINVAL);
    CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_TASK, NULL, 64), EFAULT);
    CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_TASK, arg, 64), EINVAL);
    CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_TASK, arg, 128), EINVAL);
    arg->flags = 1;
    CHECK_ERRNO(ioctl(fd, TEE_IOC_TASK, &data), EINVAL);
    arg->flags = 0;
    arg->reserved = 1;
    CHECK_ERRNO(ioctl(fd, TEE_IOC_TASK, &data), EINVAL);
    arg->reserved = 0;
    task_arg.params[0] = memref_in(77, 0, 0);
    arg->clnt_login = TEE_IOCTL_LOGIN_REE_KERNEL;
    CHECK_ERRNO(ioctl(fd, TEE_IOC_TASK, &data), EINVAL);
    task_arg.params[0] = none();
    CHECK_ERRNO(ioctl(fd, TEE_IOC_TASK, &data), EPERM);
    arg->clnt_login = 0;
    CHECK_EQ(ioctl(fd, TEE_IOC_TASK, &data), 0);
    CHECK_EQ(arg->ret, TEEC_SUCCESS);
}

CASE(a_task_whose_answer_cannot_be_written_leaves_no_session)
{
    int fd = tee_open();
    struct tee_ioctl_task_arg *arg = new_pages(1);

    parse_uuid(ANY, arg->uuid);
    make_readonly(arg, 1);
    CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_TASK, arg, sizeof(*arg)), EFAULT);
    CHECK_EQ(must_open_session(fd, ANY), 1);
}

/* A child runs a task that waits; it says so by ending. */
static pid_t start_waiting_task(int fd, __u32 cancel_id, __u32 expected)
{
    pid_t child = must_fork();

    if (child == 0) {
        struct task_options options = {.cancel_id = cancel_id};
        struct answer answer = task_with(fd, ANY, WAIT, &options, 0, NULL);

        CHECK_EQ(answer.error, 0);
        CHECK_EQ(answer.ret, expected);
        CHECK_EQ(answer.origin, TEEC_ORIGIN_TRUSTED_APP);
        _exit(0);
    }
    return child;
}

static bool has_ended(pid_t child)
{
    siginfo_t info = {0};

    CHECK(waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) == 0);
    return info.si_pid != 0;
}

/*
 * Whether somebody else has a session: new ones are not the first then. Each look opens one more
 * than the look before, so that a session that began during that one is among the first now.
 */
static bool has_session(int fd)
{
    static unsigned count = 1;
    __u32 sessions[64];
    bool found = false;

    if (count < 64)
        count++;
    for (unsigned i = 0; i < count; i++) {
        sessions[i] = must_open_session(fd, ANY);
        found |= sessions[i] != i + 1;
    }
    for (unsigned i = 0; i < count; i++)
        CHECK_EQ(close_session(fd, sessions[i]), 0);
    return found;
}

CASE(a_task_is_cancelled_by_its_id)
{
    int fd = tee_open();
    pid_t other = start_waiting_task(fd, 6, TEEC_SUCCESS);
    pid_t child = start_waiting_task(fd, 5, TEEC_ERROR_CANCEL);
    param_t released[] = {value_out()};
    unsigned count = 0;

    WAIT_UNTIL(cancel(fd, 0, 5) == 0 && has_ended(child));
    must_succeed(child);
    CHECK(!has_ended(other));
    WAIT_UNTIL((task(fd, ANY, RELEASE, 1, released), count += (unsigned)released[0].a) > 0);
    must_succeed(other);
    CHECK_EQ(count, 1);
    CHECK_EQ(must_open_session(fd, ANY), 1);
}

CASE(a_killed_caller_takes_its_task_along)
{
    int fd = tee_open();
    pid_t child = start_waiting_task(fd, 5, TEEC_SUCCESS);

    WAIT_UNTIL(has_session(fd));
    must_kill(child);
    WAIT_UNTIL(!has_session(fd));
}

/* Memory that is freed. */

CASE(freed_memory_is_unknown_but_stays_the_clients)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    struct memory memory = must_alloc(fd, PAGE);
    param_t fill[] = {value_in('x', 0), memref_out(memory.id, 0, PAGE)};

    CHECK_ANSWER(invoke(fd, session, FILL, 2, fill), TEEC_SUCCESS);
    CHECK_EQ(shm_free(fd, memory.id), 0);
    CHECK_EQ(invoke(fd, session, FILL, 2, fill).error, EINVAL);
    CHECK_ERRNO(shm_free(fd, memory.id), EINVAL);
    CHECK_EQ(memory.bytes[PAGE - 1], 'x');
    memory.bytes[0] = 'y';
    CHECK_EQ(close(memory.fd), 0);
    CHECK_EQ(memory.bytes[0], 'y');
    CHECK_EQ(munmap(memory.bytes, PAGE), 0);
    /* The number is free, and the end of the mapping did not take its new holder along. */
    memory = must_alloc(fd, PAGE);
    CHECK_EQ(memory.id, 1);
    fill[1] = memref_out(memory.id, 0, PAGE);
    CHECK_ANSWER(invoke(fd, session, FILL, 2, fill), TEEC_SUCCESS);
    CHECK_EQ(memory.bytes[0], 'x');
}

CASE(freed_pages_count_until_they_are_unmapped)
{
    int fd = tee_open();
    struct memory memories[4];
    int last;

    for (int i = 0; i < 4; i++) { /* 4 GiB is what a context may have */
        memories[i] = must_alloc(fd, GIB);
        CHECK_EQ(shm_free(fd, memories[i].id), 0);
    }
    CHECK_ERRNO(shm_alloc(fd, PAGE, NULL, NULL), ENOMEM);
    CHECK_EQ(close(memories[0].fd), 0);
    CHECK_ERRNO(shm_alloc(fd, PAGE, NULL, NULL), ENOMEM);
    CHECK_EQ(munmap(memories[0].bytes, GIB), 0);
    WAIT_UNTIL((last = shm_alloc(fd, PAGE, NULL, NULL)) >= 0);
}

CASE(freed_registered_memory_is_given_back_at_once)
{
    int fd = tee_open();
    char *pages = new_pages(1);
    struct memory memory = must_register(fd, pages, PAGE);
    struct memory second;

    CHECK_EQ(shm_free(fd, memory.id), 0);
    CHECK_ERRNO(shm_free(fd, memory.id), EINVAL);
    second = must_register(fd, pages, PAGE);
    CHECK_EQ(second.id, memory.id);
    CHECK_EQ(close(memory.fd), 0); /* which ends nothing any more */
    for (int i = 0; i < 100; i++)
        CHECK_ANSWER(task(fd, ANY, NOP, 1, (param_t[]){memref_in(second.id, 0, PAGE)}),
                     TEEC_SUCCESS);
}

CASE(a_call_keeps_memory_that_is_freed)
{
    int fd = tee_open();
    struct memory memory = must_alloc(fd, PAGE);
    pid_t child = must_fork();
    param_t released[] = {value_out()};

    if (child == 0) {
        param_t params[] = {memref_inout(memory.id, 0, PAGE)};
        struct answer answer = task(fd, ANY, WAIT, 1, params);

        CHECK_EQ(answer.error | (int)answer.ret, 0);
        _exit(0);
    }
    WAIT_UNTIL(has_session(fd));
    CHECK_EQ(shm_free(fd, memory.id), 0);
    CHECK(!has_ended(child));
    WAIT_UNTIL((task(fd, ANY, RELEASE, 1, released), released[0].a) == 1);
    must_succeed(child);
    memory.bytes[0] = 1;
}

CASE(arguments_of_free_and_unmap_are_checked)
{
    int fd = tee_open();
    struct memory memory = must_alloc(fd, PAGE);
    struct tee_ioctl_shm_free_data data = {.id = memory.id, .flags = 1};
    int id;

    CHECK_ERRNO(ioctl(fd, TEE_IOC_SHM_FREE, NULL), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_SHM_FREE, &data), EINVAL);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_MEM_UNMAP, NULL), EFAULT);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_MEM_UNMAP, &data), EINVAL);
    CHECK_ERRNO(mem_unmap(fd, memory.id), EINVAL); /* it is no mapping */
    CHECK_ERRNO(shm_free(fd, -1), EINVAL);
    CHECK_ERRNO(shm_free(fd, 0), EINVAL);
    CHECK_EQ(mem_map(fd, new_pages(1), PAGE, TEE_MEM_MAP_READ, &id), 0);
    CHECK_ERRNO(shm_free(fd, id), EINVAL); /* it is one */
    CHECK_ERRNO(shm_free(tee_open(), memory.id), EINVAL);
    CHECK_ERRNO(mem_unmap(tee_open(), id), EINVAL);
    CHECK_EQ(shm_free(fd, memory.id), 0);
    CHECK_EQ(mem_unmap(fd, id), 0);
    CHECK_ERRNO(mem_unmap(fd, id), EINVAL);
}

/* Memory that is mapped. */

CASE(mapped_memory_is_used_like_registered)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    char *pages = new_pages(2);
    int id;

    CHECK_EQ(mem_map(fd, pages + 1, PAGE, TEE_MEM_MAP_READ | TEE_MEM_MAP_WRITE, &id), 0);
    memcpy(pages + 1, "hello", 5);
    CHECK_ANSWER(invoke(fd, session, COPY, 2,
                        (param_t[]){memref_in(id, 0, 5), memref_inout(id, 100, 5)}),
                 TEEC_SUCCESS);
    CHECK(!memcmp(pages + 101, "hello", 5));
    CHECK_EQ(invoke(fd, session, NOP, 1, (param_t[]){memref_in(id, 0, PAGE + 1)}).error, EINVAL);
    CHECK_EQ(mem_unmap(fd, id), 0);
    CHECK_EQ(invoke(fd, session, NOP, 1, (param_t[]){memref_in(id, 0, 5)}).error, EINVAL);
}

CASE(directions_of_a_mapping_are_kept)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    char *pages = new_pages(1), *target = new_pages(1);
    int readable, writable;

    memcpy(pages, "hello", 5);
    memset(target, 'z', 8);
    make_readonly(pages, 1); /* is enough to be read */
    CHECK_ERRNO(mem_map(fd, pages, PAGE, TEE_MEM_MAP_WRITE, NULL), EFAULT);
    CHECK_EQ(mem_map(fd, pages, PAGE, TEE_MEM_MAP_READ, &readable), 0);
    CHECK_EQ(mem_map(fd, target, PAGE, TEE_MEM_MAP_WRITE, &writable), 0);
    CHECK_EQ(invoke(fd, session, NOP, 1, (param_t[]){memref_out(readable, 0, 5)}).error, EACCES);
    CHECK_EQ(invoke(fd, session, NOP, 1, (param_t[]){memref_inout(readable, 0, 5)}).error, EACCES);
    CHECK_EQ(invoke(fd, session, NOP, 1, (param_t[]){memref_in(writable, 0, 5)}).error, EACCES);
    CHECK_EQ(invoke(fd, session, NOP, 1, (param_t[]){memref_inout(writable, 0, 5)}).error, EACCES);
    CHECK_EQ(task(fd, ANY, NOP, 1, (param_t[]){memref_in(writable, 0, 5)}).error, EACCES);
    CHECK_ANSWER(invoke(fd, session, COPY, 2,
                        (param_t[]){memref_in(readable, 0, 5), memref_out(writable, 0, 7)}),
                 TEEC_SUCCESS);
    /* What the service did not write was never shown to it: zeros, as long as the reference. */
    CHECK(!memcmp(target, "hello\0\0z", 8));
}

CASE(arguments_of_map_are_checked_in_order)
{
    int fd = tee_open();
    char *pages = new_pages(1);
    struct tee_ioctl_mem_map_data *data = new_pages(1);
    __u32 both = TEE_MEM_MAP_READ | TEE_MEM_MAP_WRITE;

    CHECK_ERRNO(ioctl(fd, TEE_IOC_MEM_MAP, NULL), EFAULT);
    CHECK_ERRNO(mem_map(fd, NULL, PAGE, 0, NULL), EINVAL);
    CHECK_ERRNO(mem_map(fd, NULL, PAGE, both | 4, NULL), EINVAL);
    CHECK_ERRNO(mem_map(fd, NULL, PAGE, both, NULL), EFAULT);
    CHECK_ERRNO(mem_map(fd, (void *)~0ull, PAGE, both, NULL), EFAULT);
    CHECK_ERRNO(mem_map(fd, pages, 0, both, NULL), ENOMEM);
    CHECK_ERRNO(mem_map(fd, pages, ~0ull, both, NULL), EFAULT);
    CHECK_ERRNO(mem_map(fd, at_the_edge(8), 16, both, NULL), ENOMEM);
    /* What cannot be told to the client is undone. */
    *data = (struct tee_ioctl_mem_map_data){(__u64)(uintptr_t)pages, PAGE, both, 0};
    make_readonly(data, 1);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_MEM_MAP, data), EFAULT);
    CHECK_EQ(must_alloc(fd, PAGE).id, 1);
}

CASE(a_mapping_ends_with_its_context)
{
    char *pages = new_pages(16);

    /* More than a device may have in all, were they not given back. */
    for (int i = 0; i < 64; i++) {
        int fd = tee_open(), id;
        char *area = mmap(NULL, GIB, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        CHECK(area != MAP_FAILED);
        for (int part = 0; part < 4; part++)
            WAIT_UNTIL(mem_map(fd, area, GIB, TEE_MEM_MAP_READ | TEE_MEM_MAP_WRITE, &id) == 0);
        CHECK_ERRNO(mem_map(fd, pages, PAGE, TEE_MEM_MAP_READ, &id), ENOMEM);
        close(fd);
        munmap(area, GIB);
    }
}

/* Services. */

CASE(services_are_listed_and_found)
{
    int fd = tee_open();
    struct tee_ts_info entries[4];
    struct tee_ioctl_get_ts_list_data data;
    unsigned char uuid[16];

    parse_uuid(ANY, uuid);
    CHECK_EQ(get_ts_list(fd, NULL, 0, "loopback", NULL, &data), 0);
    CHECK_EQ(data.ret, TEEC_ERROR_SHORT_BUFFER);
    CHECK_EQ(data.ret_origin, TEEC_ORIGIN_TEE);
    CHECK_EQ(data.count, 1);
    CHECK_EQ(data.buf_len, sizeof(entries[0]));
    memset(entries, 0x55, sizeof(entries));
    CHECK_EQ(get_ts_list(fd, entries, 4, "loopback", NULL, &data), 0);
    CHECK_EQ(data.ret, TEEC_SUCCESS);
    CHECK_EQ(data.count, 1);
    CHECK_EQ(data.buf_len, sizeof(entries[0]));
    CHECK(!memcmp(entries[0].uuid, uuid, 16));
    CHECK(!strcmp(entries[0].name, "loopback"));
    CHECK_EQ(entries[0].state, TEE_TS_STATE_READY);
    CHECK_EQ(entries[0].num_apis, 2);
    CHECK(!strcmp(entries[0].apis[0], "GP_TEEv1.3"));
    CHECK(!strcmp(entries[0].apis[1], "org.gentee.loopback"));
    CHECK_EQ(entries[1].version, 0x55555555);
    CHECK_EQ(get_ts_list(fd, entries, 4, NULL, "org.gentee.loopback", &data), 0);
    CHECK_EQ(data.count, 1);
    CHECK_EQ(get_ts_list(fd, entries, 4, "loopback", "GP_TEEv9", &data), 0);
    CHECK_EQ(data.ret, TEEC_SUCCESS);
    CHECK_EQ(data.count, 0);
    CHECK_EQ(data.buf_len, 0);
    /* A part of a name is none. */
    CHECK_EQ(get_ts_list(fd, entries, 4, "loop", NULL, &data), 0);
    CHECK_EQ(data.count, 0);
}

CASE(a_short_buffer_is_left_alone)
{
    int fd = tee_open();
    struct tee_ts_info *entries = at_the_edge(sizeof(*entries));
    struct tee_ioctl_get_ts_list_data data;

    memset(entries, 0x55, sizeof(*entries));
    data = (struct tee_ioctl_get_ts_list_data){
        .buf_ptr = (__u64)(uintptr_t)entries, .buf_len = sizeof(*entries) - 1, .entry_size = 360};
    CHECK_EQ(ioctl(fd, TEE_IOC_GET_TS_LIST, &data), 0);
    CHECK_EQ(data.ret, TEEC_ERROR_SHORT_BUFFER);
    for (size_t i = 0; i < sizeof(*entries); i++)
        CHECK_EQ(((unsigned char *)entries)[i], 0x55);
}

CASE(entries_may_be_larger)
{
    int fd = tee_open();
    struct {
        struct tee_ts_info info;
        __u64 later;
    } entries[1] = {{.later = 1}};
    struct tee_ioctl_get_ts_list_data data = {
        .buf_ptr = (__u64)(uintptr_t)entries,
        .buf_len = sizeof(entries),
        .entry_size = sizeof(entries[0]),
        .name = "loopback",
    };

    CHECK_EQ(ioctl(fd, TEE_IOC_GET_TS_LIST, &data), 0);
    CHECK_EQ(data.count, 1);
    CHECK_EQ(data.buf_len, sizeof(entries));
    CHECK_EQ(entries[0].later, 0);
}

CASE(arguments_of_the_list_are_checked)
{
    int fd = tee_open();
    struct tee_ioctl_get_ts_list_data good = {.entry_size = sizeof(struct tee_ts_info)}, data;
    static const __u32 sizes[] = {0, 8, 352, 359, 361, 4104, 0xFFFFFFFF};

    CHECK_ERRNO(ioctl(fd, TEE_IOC_GET_TS_LIST, NULL), EFAULT);
    data = good;
    data.flags = 1;
    CHECK_ERRNO(ioctl(fd, TEE_IOC_GET_TS_LIST, &data), EINVAL);
    data = good;
    data.reserved = 1;
    CHECK_ERRNO(ioctl(fd, TEE_IOC_GET_TS_LIST, &data), EINVAL);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        data = good;
        data.entry_size = sizes[i];
        CHECK_ERRNO(ioctl(fd, TEE_IOC_GET_TS_LIST, &data), EINVAL);
    }
    data = good;
    memset(data.name, 'x', sizeof(data.name));
    CHECK_ERRNO(ioctl(fd, TEE_IOC_GET_TS_LIST, &data), EINVAL);
    data = good;
    memset(data.api, 'x', sizeof(data.api));
    CHECK_ERRNO(ioctl(fd, TEE_IOC_GET_TS_LIST, &data), EINVAL);
    data = good;
    data.buf_len = ~0ull;
    CHECK_ERRNO(ioctl(fd, TEE_IOC_GET_TS_LIST, &data), EFAULT);
    data.buf_ptr = ~0ull - 7;
    CHECK_ERRNO(ioctl(fd, TEE_IOC_GET_TS_LIST, &data), EFAULT);
}

CASE(what_is_no_image_is_refused)
{
    int fd = tee_open();
    struct tee_ioctl_load_ts_data data;
    static char bytes[100] = "no image";

    CHECK_EQ(load_ts(fd, bytes, sizeof(bytes), &data), 0);
    CHECK_EQ(data.ret, TEEC_ERROR_BAD_FORMAT);
    CHECK_EQ(data.ret_origin, TEEC_ORIGIN_TEE);
    memcpy(bytes, "LOOP", 4);
    data.uuid[0] = 1;
    CHECK_EQ(load_ts(fd, bytes, sizeof(bytes), &data), 0);
    CHECK_EQ(data.ret, TEEC_ERROR_SECURITY);
    CHECK_EQ(data.uuid[0], 0);
}

CASE(arguments_of_load_are_checked_in_order)
{
    int fd = tee_open();
    struct tee_ioctl_load_ts_data data;

    CHECK_ERRNO(ioctl(fd, TEE_IOC_LOAD_TS, NULL), EFAULT);
    CHECK_ERRNO(load_ts(fd, NULL, 0, &data), EINVAL);
    CHECK_ERRNO(load_ts(fd, NULL, TEE_MAX_TS_IMAGE_SIZE + 1, &data), EINVAL);
    CHECK_ERRNO(load_ts(fd, NULL, ~0ull, &data), EINVAL);
    CHECK_ERRNO(load_ts(fd, NULL, 100, &data), EFAULT);
    CHECK_ERRNO(load_ts(fd, (void *)~0ull, 100, &data), EFAULT);
    CHECK_ERRNO(load_ts(fd, at_the_edge(99), 100, &data), EFAULT);
    data = (struct tee_ioctl_load_ts_data){.image_len = 100, .flags = 1};
    CHECK_ERRNO(ioctl(fd, TEE_IOC_LOAD_TS, &data), EINVAL);
}

/* A device without these operations. */

CASE(a_driver_without_them_answers_einval)
{
    int fd = must_open("/dev/teepriv0", O_RDWR);
    struct tee_ioctl_load_ts_data load;
    struct tee_ioctl_get_ts_list_data list;

    CHECK_EQ(task(fd, ANY, NOP, 0, NULL).error, EINVAL);
    CHECK_ERRNO(load_ts(fd, NULL, 0, &load), EINVAL);
    CHECK_ERRNO(get_ts_list(fd, NULL, 0, NULL, NULL, &list), EINVAL);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_TASK, NULL), EINVAL);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_LOAD_TS, NULL), EINVAL);
    CHECK_ERRNO(ioctl(fd, _IOC(_IOC_READ, TEE_IOC_MAGIC, 0x46, 16), NULL), EINVAL);
}
