/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For test programs against <linux/tee.h>: what an older header lacks, short names for the ioctls,
 * and a frame for collections of cases.
 *
 * A collection is a source with one CASE(name) { ... } for each case. Each case runs in a process of
 * its own, with a process group of its own, which is killed when the case is over. The program
 * prints one line for each case: "ok NAME", "not ok NAME: reason" or "ok NAME # SKIP reason". Its
 * arguments are the names of the cases to run; without any it runs all.
 *
 * HELPER(name) { ... } is what the program does when it was started by exec_helper().
 *
 * A program with a main() of its own defines TEE_CLIENT_NO_CASES first; what fails there is printed
 * to its standard error.
 */
#ifndef TEE_CLIENT_H
#define TEE_CLIENT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <linux/tee.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What came to <linux/tee.h> with Linux 6.18. */

#ifndef TEE_IOC_SHM_REGISTER_FD
struct tee_ioctl_shm_register_fd_data {
    __s64 fd;
    __u64 size;
    __u32 flags;
    __s32 id;
};
#define TEE_IOC_SHM_REGISTER_FD \
    _IOWR(TEE_IOC_MAGIC, TEE_IOC_BASE + 8, struct tee_ioctl_shm_register_fd_data)
#endif

#ifndef TEE_IOC_OBJECT_INVOKE
struct tee_ioctl_object_invoke_arg {
    __u64 id;
    __u32 op;
    __u32 ret;
    __u32 num_params;
    __u32 : 32;
    struct tee_ioctl_param params[];
};
#define TEE_IOC_OBJECT_INVOKE _IOR(TEE_IOC_MAGIC, TEE_IOC_BASE + 10, struct tee_ioctl_buf_data)
#endif

#ifndef TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INPUT
#define TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INPUT 8
#define TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_OUTPUT 9
#define TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INOUT 10
#endif
#ifndef TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INPUT
#define TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INPUT 11
#define TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_OUTPUT 12
#define TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INOUT 13
#endif
#ifndef TEE_GEN_CAP_OBJREF
#define TEE_GEN_CAP_OBJREF (1 << 4)
#endif

#define MAX_ARG_SIZE 4096 /* TEE_MAX_ARG_SIZE, 1024 before Linux 6.18 */

/* From the GlobalPlatform specifications. */
#define TEEC_SUCCESS 0
#define TEEC_ERROR_GENERIC 0xFFFF0000u
#define TEEC_ERROR_CANCEL 0xFFFF0002u
#define TEEC_ERROR_BAD_PARAMETERS 0xFFFF0006u
#define TEEC_ERROR_ITEM_NOT_FOUND 0xFFFF0008u
#define TEEC_ERROR_NOT_SUPPORTED 0xFFFF000Au
#define TEEC_ERROR_BUSY 0xFFFF000Du
#define TEEC_ERROR_COMMUNICATION 0xFFFF000Eu
#define TEEC_ERROR_SHORT_BUFFER 0xFFFF0010u
#define TEEC_ERROR_TARGET_DEAD 0xFFFF3024u
#define TEEC_ORIGIN_TEE 3
#define TEEC_ORIGIN_TRUSTED_APP 4

#define ENOTSUPP 524 /* the kernel's own, and so without a name in <errno.h> */

/* The services of gentee/examples and tests/services, and any one of the loopback driver. */
#define ECHO "3f1b8f5e-6a3d-4c0e-8f0b-2d9c1a7e5b10"
#define COUNTER "b5c6c8f4-8c5f-4b7e-9d35-61b7a3d6f2a4"
#define SESSIONS "5e55104e-0c0a-4d5b-9c61-7e0f5b1d2a01"
#define MEMORY "3e304217-6a0d-4f6b-8f6a-1b2c3d4e5f02"
#define WAITER "aa17e500-3c1d-4b52-a5f0-90c1d2e3f403"
#define SINGLE "51261e00-7d3b-4e0f-9a5c-3c2b1a0f9e04"
#define ANY "00010203-0405-0607-0809-0a0b0c0d0e0f"

/* Functions of the loopback driver's services. */
enum { NOP, COPY, INCREMENT, FILL, RETURN, WAIT, RELEASE, SUPPLICANT, ERRNO, CLIENT };

#define GIB (1ull << 30)
#define PAGE 4096u

/* Reporting. */

#define EXIT_SKIP 77
#define PATIENCE_MS 30000 /* a case that takes so long has failed */

struct report {
    char text[512];
};
static struct report *report; /* shared by all processes of a case */

__attribute__((format(printf, 2, 3), noreturn, unused)) static void end_case(int status,
                                                                             const char *format, ...)
{
    va_list list;

    va_start(list, format);
    if (!report) {
        vfprintf(stderr, format, list);
        fputc('\n', stderr);
    } else if (!report->text[0]) {
        vsnprintf(report->text, sizeof(report->text), format, list);
        for (char *c = report->text; *c; c++)
            if (*c == '\n')
                *c = ' ';
    }
    va_end(list);
    _exit(status);
}

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define FAIL(...) end_case(1, "line " TEXT(__LINE__) ": " __VA_ARGS__)
#define SKIP(...) end_case(EXIT_SKIP, __VA_ARGS__)

#define CHECK(condition)                                                                          \
    do {                                                                                          \
        errno = 0;                                                                                \
        if (!(condition))                                                                         \
            FAIL("%s (%s)", #condition, strerror(errno));                                         \
    } while (0)

#define CHECK_EQ(value, expected)                                                                 \
    do {                                                                                          \
        long long value_ = (long long)(value), expected_ = (long long)(expected);                 \
        if (value_ != expected_)                                                                  \
            FAIL("%s is %lld (%#llx), expected %s", #value, value_, value_, #expected);           \
    } while (0)

/* A call that fails: -1, and that error. */
#define CHECK_ERRNO(call, number)                                                                 \
    do {                                                                                          \
        errno = 0;                                                                                \
        long ret_ = (long)(call);                                                                 \
        if (ret_ != -1 || errno != (number))                                                      \
            FAIL("%s: %ld %s, expected %s", #call, ret_, strerror(errno), #number);               \
    } while (0)

static inline long long now_ms(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000ll + time.tv_nsec / 1000000;
}

/* What another process brings about in its own time. */
#define WAIT_UNTIL(condition)                                                                     \
    do {                                                                                          \
        long long deadline_ = now_ms() + PATIENCE_MS * 2 / 3;                                     \
        while (!(condition)) {                                                                    \
            if (now_ms() > deadline_)                                                             \
                FAIL("it never came: %s", #condition);                                            \
            poll(NULL, 0, 1);                                                                     \
        }                                                                                         \
    } while (0)

/* Parameters. */

typedef struct tee_ioctl_param param_t;

static inline param_t param(__u64 attr, __u64 a, __u64 b, __u64 c)
{
    return (param_t){.attr = attr, .a = a, .b = b, .c = c};
}

static inline param_t none(void)
{
    return param(TEE_IOCTL_PARAM_ATTR_TYPE_NONE, 0, 0, 0);
}

static inline param_t value_in(__u64 a, __u64 b)
{
    return param(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INPUT, a, b, 0);
}

static inline param_t value_out(void)
{
    return param(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT, 0, 0, 0);
}

static inline param_t value_inout(__u64 a, __u64 b)
{
    return param(TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT, a, b, 0);
}

static inline param_t memref_in(int id, __u64 offset, __u64 size)
{
    return param(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INPUT, offset, size, (__u64)id);
}

static inline param_t memref_out(int id, __u64 offset, __u64 size)
{
    return param(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_OUTPUT, offset, size, (__u64)id);
}

static inline param_t memref_inout(int id, __u64 offset, __u64 size)
{
    return param(TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT, offset, size, (__u64)id);
}

/* The ioctls. ``error`` is the errno of an ioctl that failed, else 0. */

struct answer {
    int error;
    __u32 ret;
    __u32 origin;
    __u32 session;
};

static inline int buf_ioctl(int fd, unsigned long command, void *arg, __u64 size)
{
    struct tee_ioctl_buf_data data = {.buf_ptr = (__u64)(uintptr_t)arg, .buf_len = size};

    return ioctl(fd, command, &data);
}

static inline void parse_uuid(const char *text, unsigned char uuid[16])
{
    for (int i = 0; i < 16; i++) {
        unsigned int byte = 0;

        if (*text == '-')
            text++;
        sscanf(text, "%2x", &byte);
        uuid[i] = (unsigned char)byte;
        text += 2;
    }
}

struct open_options {
    __u32 login;
    __u32 cancel_id;
    unsigned char clnt_uuid[16];
};

static inline struct answer open_session_with(int fd, const char *uuid,
                                              const struct open_options *options, size_t n,
                                              param_t *params)
{
    size_t size = sizeof(struct tee_ioctl_open_session_arg) + n * sizeof(*params);
    struct tee_ioctl_open_session_arg *arg = calloc(1, size);
    struct answer answer = {0};

    parse_uuid(uuid, arg->uuid);
    if (options) {
        arg->clnt_login = options->login;
        arg->cancel_id = options->cancel_id;
        memcpy(arg->clnt_uuid, options->clnt_uuid, sizeof(arg->clnt_uuid));
    }
    arg->num_params = (__u32)n;
    for (size_t i = 0; i < n; i++)
        arg->params[i] = params[i];
    if (buf_ioctl(fd, TEE_IOC_OPEN_SESSION, arg, size))
        answer.error = errno;
    answer.ret = arg->ret;
    answer.origin = arg->ret_origin;
    answer.session = arg->session;
    for (size_t i = 0; i < n; i++)
        params[i] = arg->params[i];
    free(arg);
    return answer;
}

static inline struct answer open_session(int fd, const char *uuid, size_t n, param_t *params)
{
    return open_session_with(fd, uuid, NULL, n, params);
}

static inline struct answer invoke_id(int fd, __u32 session, __u32 func, __u32 cancel_id, size_t n,
                                      param_t *params)
{
    size_t size = sizeof(struct tee_ioctl_invoke_arg) + n * sizeof(*params);
    struct tee_ioctl_invoke_arg *arg = calloc(1, size);
    struct answer answer = {.session = session};

    arg->func = func;
    arg->session = session;
    arg->cancel_id = cancel_id;
    arg->num_params = (__u32)n;
    for (size_t i = 0; i < n; i++)
        arg->params[i] = params[i];
    if (buf_ioctl(fd, TEE_IOC_INVOKE, arg, size))
        answer.error = errno;
    answer.ret = arg->ret;
    answer.origin = arg->ret_origin;
    for (size_t i = 0; i < n; i++)
        params[i] = arg->params[i];
    free(arg);
    return answer;
}

static inline struct answer invoke(int fd, __u32 session, __u32 func, size_t n, param_t *params)
{
    return invoke_id(fd, session, func, 0, n, params);
}

static inline int close_session(int fd, __u32 session)
{
    struct tee_ioctl_close_session_arg arg = {.session = session};

    return ioctl(fd, TEE_IOC_CLOSE_SESSION, &arg);
}

static inline int cancel(int fd, __u32 session, __u32 cancel_id)
{
    struct tee_ioctl_cancel_arg arg = {.cancel_id = cancel_id, .session = session};

    return ioctl(fd, TEE_IOC_CANCEL, &arg);
}

/* The descriptor, or -1 and errno; its id in *id, its size in *size if that is wanted. */
static inline int shm_alloc(int fd, __u64 bytes, int *id, __u64 *size)
{
    struct tee_ioctl_shm_alloc_data data = {.size = bytes};
    int shm = ioctl(fd, TEE_IOC_SHM_ALLOC, &data);

    if (id)
        *id = data.id;
    if (size)
        *size = data.size;
    return shm;
}

static inline int shm_register(int fd, const void *address, __u64 bytes, int *id)
{
    struct tee_ioctl_shm_register_data data = {
        .addr = (__u64)(uintptr_t)address,
        .length = bytes,
    };
    int shm = ioctl(fd, TEE_IOC_SHM_REGISTER, &data);

    if (id)
        *id = data.id;
    return shm;
}

static inline int shm_register_fd(int fd, int memory, int *id)
{
    struct tee_ioctl_shm_register_fd_data data = {.fd = memory};
    int shm = ioctl(fd, TEE_IOC_SHM_REGISTER_FD, &data);

    if (id)
        *id = data.id;
    return shm;
}

/* The same, where failing is not what the case is about. */

#define TEE0 "/dev/tee0"

static inline int must_open(const char *path, int flags)
{
    int fd = open(path, flags);

    if (fd < 0)
        FAIL("open %s: %s", path, strerror(errno));
    return fd;
}

static inline int tee_open(void)
{
    return must_open(TEE0, O_RDWR);
}

#define CHECK_ANSWER(call, expected)                                                            \
    do {                                                                                          \
        struct answer answer_ = (call);                                                           \
        if (answer_.error || answer_.ret != (expected))                                           \
            FAIL("%s: errno %d, result %#x, origin %u", #call, answer_.error, answer_.ret,      \
                 answer_.origin);                                                                 \
    } while (0)

static inline __u32 must_open_session(int fd, const char *uuid)
{
    struct answer answer = open_session(fd, uuid, 0, NULL);

    CHECK_ANSWER(answer, TEEC_SUCCESS);
    return answer.session;
}

struct memory {
    int fd; /* of the shared memory */
    int id;
    __u64 size;
    unsigned char *bytes;
};

static inline struct memory must_alloc(int fd, __u64 bytes)
{
    struct memory memory = {0};

    memory.fd = shm_alloc(fd, bytes, &memory.id, &memory.size);
    if (memory.fd < 0)
        FAIL("SHM_ALLOC of %llu bytes: %s", (unsigned long long)bytes, strerror(errno));
    memory.bytes = mmap(NULL, memory.size, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd, 0);
    if (memory.bytes == MAP_FAILED)
        FAIL("mmap of shared memory: %s", strerror(errno));
    return memory;
}

static inline struct memory must_register(int fd, void *address, __u64 bytes)
{
    struct memory memory = {.size = bytes, .bytes = address};

    memory.fd = shm_register(fd, address, bytes, &memory.id);
    if (memory.fd < 0)
        FAIL("SHM_REGISTER of %llu bytes: %s", (unsigned long long)bytes, strerror(errno));
    return memory;
}

/* Pages. */

static inline void *new_pages(size_t count)
{
    void *pages = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (pages == MAP_FAILED)
        FAIL("mmap: %s", strerror(errno));
    return pages;
}

/* size bytes, after which nothing is mapped. */
static inline void *at_the_edge(size_t size)
{
    size_t count = (size + PAGE - 1) / PAGE;
    char *pages = new_pages(count + 1);

    munmap(pages + count * PAGE, PAGE);
    return pages + count * PAGE - size;
}

static inline void make_readonly(void *pages, size_t count)
{
    CHECK(mprotect(pages, count * PAGE, PROT_READ) == 0);
}

/* Processes. */

static inline pid_t must_fork(void)
{
    pid_t child = fork();

    if (child < 0)
        FAIL("fork: %s", strerror(errno));
    return child;
}

static inline int wait_for(pid_t child)
{
    int status;
    pid_t got;

    do
        got = waitpid(child, &status, 0);
    while (got < 0 && errno == EINTR);
    if (got != child)
        FAIL("waitpid: %s", strerror(errno));
    return status;
}

/* Wait for a child that ends with exit(0); one that failed has said why. */
static inline void must_succeed(pid_t child)
{
    int status = wait_for(child);

    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP)
        _exit(EXIT_SKIP);
    if (status)
        FAIL("a child ended with wait status %#x", status);
}

static inline void must_kill(pid_t child)
{
    CHECK(kill(child, SIGKILL) == 0);
    CHECK_EQ(wait_for(child), SIGKILL);
}

/* A gate between processes: one passes as many bytes as the other waits for. */

struct gate {
    int fds[2];
};

static inline struct gate new_gate(void)
{
    struct gate gate;

    CHECK(pipe2(gate.fds, O_CLOEXEC) == 0);
    return gate;
}

static inline void gate_send(const struct gate *gate, __u32 value)
{
    CHECK(write(gate->fds[1], &value, sizeof(value)) == sizeof(value));
}

static inline __u32 gate_receive(const struct gate *gate)
{
    __u32 value = 0;

    CHECK(read(gate->fds[0], &value, sizeof(value)) == sizeof(value));
    return value;
}

/* Descriptors in messages. */

static inline void send_fd(int sock, int fd)
{
    char byte = 0;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    CHECK(sendmsg(sock, &message, 0) == 1);
}

static inline int receive_fd(int sock)
{
    char byte;
    int fd;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };

    CHECK(recvmsg(sock, &message, 0) == 1);
    CHECK(CMSG_FIRSTHDR(&message) != NULL);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    return fd;
}

#ifndef TEE_CLIENT_NO_CASES

/* Cases and helpers, in the order of the source. */

struct entry {
    const char *name;
    void (*run)(int argc, char **argv);
    struct entry *next;
};

static struct entry *cases, *helpers;
__attribute__((unused)) static struct entry **last_case = &cases, **last_helper = &helpers;

#define ENTRY(list, last, name)                                                                   \
    static void list##_##name(int argc, char **argv);                                             \
    __attribute__((constructor)) static void add_##list##_##name(void)                            \
    {                                                                                             \
        static struct entry entry = {#name, list##_##name, NULL};                                 \
        *last = &entry;                                                                           \
        last = &entry.next;                                                                       \
    }                                                                                             \
    static void list##_##name(int argc __attribute__((unused)),                                   \
                              char **argv __attribute__((unused)))

#define CASE(name) ENTRY(cases, last_case, name)
#define HELPER(name) ENTRY(helpers, last_helper, name)

/* Become a fresh program that runs HELPER(name) with the rest of the arguments as argv. */
#define exec_helper(...) exec_helper_((const char *[]){__VA_ARGS__, NULL})

__attribute__((noreturn, unused)) static void exec_helper_(const char **names)
{
    char report_fd[16];
    const char *argv[16] = {"client", "--helper", report_fd};
    int i = 3;

    snprintf(report_fd, sizeof(report_fd), "%s", getenv("TEE_CLIENT_REPORT"));
    for (; *names && i < 15; names++)
        argv[i++] = *names;
    argv[i] = NULL;
    execv("/proc/self/exe", (char **)argv);
    FAIL("exec: %s", strerror(errno));
}

static inline void open_report(int fd)
{
    report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (report == MAP_FAILED) {
        perror("report");
        _exit(1);
    }
}

static inline bool run_case(const struct entry *entry)
{
    pid_t child;
    int status, ready;
    struct pollfd pollfd = {.events = POLLIN};

    memset(report, 0, sizeof(*report));
    child = fork();
    if (child == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        entry->run(0, NULL);
        _exit(0);
    }
    setpgid(child, child);
    pollfd.fd = (int)syscall(434 /* pidfd_open */, child, 0);
    ready = poll(&pollfd, 1, PATIENCE_MS);
    close(pollfd.fd);
    kill(-child, SIGKILL);
    waitpid(child, &status, 0);
    report->text[sizeof(report->text) - 1] = 0;
    if (!ready)
        printf("not ok %s: not done after %d ms %s\n", entry->name, PATIENCE_MS, report->text);
    else if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP)
        printf("ok %s # SKIP %s\n", entry->name, report->text);
    else if (status)
        printf("not ok %s: %s (wait status %#x)\n", entry->name, report->text, status);
    else
        printf("ok %s\n", entry->name);
    fflush(stdout);
    return ready && WIFEXITED(status) && (!WEXITSTATUS(status) || WEXITSTATUS(status) == EXIT_SKIP);
}

#define REPORT_FD 99 /* out of the way: cases look at the numbers that they get */

int main(int argc, char **argv)
{
    if (argc > 3 && !strcmp(argv[1], "--helper")) {
        open_report(atoi(argv[2]));
        for (struct entry *entry = helpers; entry; entry = entry->next)
            if (!strcmp(entry->name, argv[3]))
                entry->run(argc - 3, argv + 3);
        _exit(0);
    }
    int memory = memfd_create("report", 0);
    bool failed = false;

    if (memory < 0 || ftruncate(memory, sizeof(*report)) || dup2(memory, REPORT_FD) < 0) {
        perror("report");
        return 1;
    }
    close(memory);
    setenv("TEE_CLIENT_REPORT", TEXT(REPORT_FD), 1);
    open_report(REPORT_FD);
    for (struct entry *entry = cases; entry; entry = entry->next) {
        bool wanted = argc == 1;

        for (int i = 1; i < argc; i++)
            wanted |= !strcmp(argv[i], entry->name);
        if (wanted && !run_case(entry))
            failed = true;
    }
    return failed;
}

#endif
#endif
