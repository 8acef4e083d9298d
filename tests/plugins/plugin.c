/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A plugin as OP-TEE's tee-supplicant takes them. Built with -DNUMBER= the last byte of its UUID,
 * and perhaps -DINIT= what its init does, -DNO_METHOD.
 */
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

typedef uint32_t TEEC_Result;

typedef struct {
    uint32_t low;
    uint16_t mid, high;
    uint8_t node[8];
} TEEC_UUID;

struct plugin_method {
    const char *name;
    TEEC_UUID uuid;
    TEEC_Result (*init)(void);
    TEEC_Result (*invoke)(unsigned int cmd, unsigned int sub_cmd, void *data, size_t in_len,
                          size_t *out_len);
};

enum { TURN, RETURN, CRASH, EXIT, LENGTH, COUNT, WAIT, ABOUT };

static unsigned int count;

#ifndef INIT
#define INIT return 0
#endif

static TEEC_Result init(void)
{
    count = 100;
    INIT;
}

static TEEC_Result invoke(unsigned int cmd, unsigned int sub_cmd, void *data, size_t in_len,
                          size_t *out_len)
{
    unsigned char *bytes = data, byte;

    switch (cmd) {
    case TURN: /* the bytes the other way round; sub_cmd of them count */
        for (size_t i = 0; i < in_len / 2; i++) {
            byte = bytes[i];
            bytes[i] = bytes[in_len - 1 - i];
            bytes[in_len - 1 - i] = byte;
        }
        *out_len = sub_cmd;
        return 0;
    case RETURN:
        return sub_cmd;
    case CRASH:
        *(volatile int *)0 = 1;
        return 0;
    case EXIT:
        _exit(3);
    case LENGTH:
        *out_len = (size_t)sub_cmd << 32 | in_len;
        return 0;
    case COUNT:
        *out_len = 1;
        bytes[0] = (unsigned char)++count;
        return 0;
    case WAIT:
        for (;;)
            pause();
    case ABOUT: /* no_new_privs, how many descriptors above 3, whether there is an environment */
        bytes[0] = (unsigned char)prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
        bytes[1] = 0;
        for (int fd = 4; fd < 1024; fd++)
            bytes[1] += lseek(fd, 0, SEEK_CUR) >= 0;
        bytes[2] = getenv("PATH") || getenv("HOME");
        *out_len = 3;
        return 0;
    }
    return 0xFFFF000A;
}

#ifndef NO_METHOD
__attribute__((visibility("default"))) struct plugin_method plugin_method = {
    "the test's",
    { 0x70c4e700, 0x5b6c, 0x4d7e, { 0x8f, 0x90, 0xa1, 0xb2, 0xc3, 0xd4, 0xe5, NUMBER } },
    init,
    invoke,
};
#endif
