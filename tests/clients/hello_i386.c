/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hello.c for i386 without a C library, which few 64-bit systems have for it: its system calls have
 * other numbers, its pointers and longs 32 bits. Prints "ok hello", or the line that failed.
 */
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/tee.h>

static long call(long number, long a, long b, long c)
{
    long ret;

    __asm__ volatile("int $0x80" : "=a"(ret) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return ret;
}

/* mmap2 has six arguments, the last in a register that the compiler keeps for itself. */
static long map_shared(int fd, unsigned long size)
{
    long ret;

    __asm__ volatile("push %%ebp\n\txor %%ebp, %%ebp\n\tint $0x80\n\tpop %%ebp"
                     : "=a"(ret)
                     : "a"(192), "b"(0), "c"(size), "d"(PROT_READ | PROT_WRITE), "S"(MAP_SHARED),
                       "D"(fd)
                     : "memory");
    return ret;
}

/* What the compiler may call by itself. */
void *memset(void *to, int byte, unsigned int size);
void *memset(void *to, int byte, unsigned int size)
{
    for (volatile char *c = to; size--; c++)
        *c = (char)byte;
    return to;
}

void *memcpy(void *to, const void *from, unsigned int size);
void *memcpy(void *to, const void *from, unsigned int size)
{
    for (volatile char *c = to; size--; c++, from = (const char *)from + 1)
        *c = *(const char *)from;
    return to;
}

__attribute__((noreturn)) static void finish(int line)
{
    char text[] = "not ok hello: line 000\n";

    if (!line) {
        call(4 /* write */, 1, (long)"ok hello\n", 9);
    } else {
        for (int i = 21; line; i--, line /= 10)
            text[i] = (char)('0' + line % 10);
        call(4, 1, (long)text, sizeof(text) - 1);
    }
    call(252 /* exit_group */, line != 0, 0, 0);
    for (;;)
        ;
}

#define CHECK(condition) ((condition) ? (void)0 : finish(__LINE__))

static long tee_ioctl(long fd, unsigned long command, void *arg)
{
    return call(54, fd, (long)command, (long)arg);
}

static long buf_ioctl(long fd, unsigned long command, void *arg, unsigned int size)
{
    struct tee_ioctl_buf_data data = {.buf_ptr = (unsigned long)arg, .buf_len = size};

    return tee_ioctl(fd, command, &data);
}

__attribute__((force_align_arg_pointer, used)) static void client(void)
{
    static const unsigned char echo[16] = {0x3f, 0x1b, 0x8f, 0x5e, 0x6a, 0x3d, 0x4c, 0x0e,
                                           0x8f, 0x0b, 0x2d, 0x9c, 0x1a, 0x7e, 0x5b, 0x10};
    struct tee_ioctl_version_data version = {0};
    struct tee_ioctl_open_session_arg open = {.clnt_login = TEE_IOCTL_LOGIN_PUBLIC};
    struct tee_ioctl_shm_alloc_data alloc = {.size = 100};
    struct tee_ioctl_shm_register_data registered = {.length = 16};
    struct {
        struct tee_ioctl_invoke_arg arg;
        struct tee_ioctl_param params[2];
    } invoke = {.arg = {.func = 1, .num_params = 1}};
    static char own[16] = "registered";
    volatile char *bytes;
    long fd, shm;

    fd = call(5 /* open */, (long)"/dev/tee0", O_RDWR, 0);
    CHECK(fd >= 0);
    CHECK(tee_ioctl(fd, TEE_IOC_VERSION, &version) == 0);
    CHECK(version.impl_id == TEE_IMPL_ID_OPTEE);
    CHECK(tee_ioctl(fd, _IO(TEE_IOC_MAGIC, 99), 0) == -22 /* EINVAL */);
    memcpy(open.uuid, echo, sizeof(echo));
    CHECK(buf_ioctl(fd, TEE_IOC_OPEN_SESSION, &open, sizeof(open)) == 0);
    CHECK(open.ret == 0);
    shm = tee_ioctl(fd, TEE_IOC_SHM_ALLOC, &alloc);
    CHECK(shm >= 0);
    CHECK(alloc.size == 4096);
    bytes = (volatile char *)map_shared((int)shm, 4096);
    CHECK((unsigned long)bytes < -4096ul);
    bytes[0] = 'h';
    bytes[1] = 'i';
    invoke.arg.session = open.session;
    invoke.params[0].attr = TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT;
    invoke.params[0].b = 2;
    invoke.params[0].c = (unsigned int)alloc.id;
    CHECK(buf_ioctl(fd, TEE_IOC_INVOKE, &invoke, sizeof(invoke.arg) + 32) == 0);
    CHECK(invoke.arg.ret == 0 && bytes[0] == 'H' && bytes[1] == 'I' && bytes[2] == 0);
    registered.addr = (unsigned long)own;
    CHECK(tee_ioctl(fd, TEE_IOC_SHM_REGISTER, &registered) >= 0);
    invoke.params[0].b = 16;
    invoke.params[0].c = (unsigned int)registered.id;
    CHECK(buf_ioctl(fd, TEE_IOC_INVOKE, &invoke, sizeof(invoke.arg) + 32) == 0);
    CHECK(invoke.arg.ret == 0 && own[0] == 'R' && own[9] == 'D');
    finish(0);
}

__attribute__((used)) void _start(void);
void _start(void)
{
    client();
}
