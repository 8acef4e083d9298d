/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * login [-e EUID] [-g EGID] LOGIN[:GID]...: opens a session with each login on a loopback device and
 * prints what it became: the errno of the ioctl, or the identity as the service sees it.
 */
#define TEE_CLIENT_NO_CASES
#include "tee_client.h"

static void print_login(int fd, const char *text)
{
    struct open_options options = {.login = (__u32)strtoul(text, NULL, 0)};
    const char *colon = strchr(text, ':');
    param_t params[1] = {value_out()};
    struct answer answer;

    if (colon) {
        __u32 gid = (__u32)strtoul(colon + 1, NULL, 0);

        memcpy(options.clnt_uuid, &gid, sizeof(gid));
    }
    answer = open_session_with(fd, ANY, &options, 0, NULL);
    if (answer.error) {
        printf("%s errno %d\n", text, answer.error);
        return;
    }
    CHECK_ANSWER(answer, TEEC_SUCCESS);
    CHECK_ANSWER(invoke(fd, answer.session, CLIENT, 1, params), TEEC_SUCCESS);
    CHECK_EQ(params[0].c, options.login);
    printf("%s ", text);
    for (int i = 0; i < 16; i++) {
        __u64 word = i < 8 ? params[0].a : params[0].b;

        printf("%02x", (unsigned int)(word >> 8 * (i % 8)) & 0xff);
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    int fd = tee_open(), option;

    while ((option = getopt(argc, argv, "e:g:")) > 0) {
        uid_t id = (uid_t)strtoul(optarg, NULL, 0);

        CHECK(option == 'e' ? seteuid(id) == 0 : setegid(id) == 0);
    }
    for (int i = optind; i < argc; i++)
        print_login(fd, argv[i]);
    return 0;
}
