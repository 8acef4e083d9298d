/* SPDX-License-Identifier: BSD-2-Clause */
/* Opens whose path changes, has no end, or is not there: the file that comes back is one that works. */
#include "tee_client.h"

#include <pthread.h>
#include <stdatomic.h>

#define ROUNDS 4000

static char *path; /* at the end of its page */
static const char *const names[] = {
    "/dev/tee0", "/dev/null", "/dev/teex", "/tmp/tee0x", "//dev//tee0", "/dev/tee9", "/dev/./tee0",
};
static atomic_bool stopped;

static void *change_path(void *context)
{
    size_t count = sizeof(names) / sizeof(names[0]);

    (void)context;
    for (size_t i = 0; !atomic_load(&stopped); i++) {
        const char *name = names[i % count];

        for (size_t k = 0; k <= strlen(name); k++)
            ((volatile char *)path)[k] = name[k];
    }
    return NULL;
}

static bool is_device(int fd)
{
    struct tee_ioctl_version_data version;

    if (!ioctl(fd, TEE_IOC_VERSION, &version))
        return true;
    if (errno != ENOTTY)
        FAIL("%s", strerror(errno));
    return false;
}

CASE(changing)
{
    pthread_t thread;
    int devices = 0;

    path = new_pages(1);
    strcpy(path, names[0]);
    CHECK(pthread_create(&thread, NULL, change_path, NULL) == 0);
    for (int i = 0; i < ROUNDS; i++) {
        int fd = open(path, O_RDWR | O_CLOEXEC);

        if (fd < 0) {
            if (errno != ENOENT && errno != EACCES && errno != EISDIR && errno != ENOTDIR)
                FAIL("%s", strerror(errno));
            continue;
        }
        devices += is_device(fd);
        close(fd);
    }
    atomic_store(&stopped, true);
    pthread_join(thread, NULL);
    CHECK(devices > 0);
}

CASE(without_an_end)
{
    char *name = at_the_edge(9);

    memcpy(name, "/dev/tee0", 9); /* and then nothing is mapped */
    CHECK_ERRNO(open(name, O_RDWR), EFAULT);
    name = at_the_edge(10);
    memcpy(name, "/dev/tee0", 10);
    CHECK(is_device(open(name, O_RDWR)));
    CHECK_ERRNO(open((char *)1, O_RDWR), EFAULT);
    CHECK_ERRNO(open((char *)-1, O_RDWR), EFAULT);
}

/* So long that it is no path any more, and as long as one can be. */
CASE(long_ones)
{
    char *name = new_pages(4);

    for (int length = 4080; length < 4110; length++) {
        /* ///...///dev/tee0 */
        memset(name, '/', (size_t)length - 8);
        strcpy(name + length - 8, "dev/tee0");
        CHECK_EQ(strlen(name), length);
        int fd = open(name, O_RDWR);
        if (length < 4096) {
            CHECK(is_device(fd));
            close(fd);
        } else {
            CHECK_EQ(fd, -1);
            CHECK_EQ(errno, ENAMETOOLONG);
        }
    }
}

CASE(strange_folders)
{
    static const int folders[] = {-1, -5, 1000, 0x7fffffff};
    int dev = must_open("/dev", O_RDONLY | O_DIRECTORY), null = must_open("/dev/null", O_RDWR);

    for (size_t i = 0; i < 4; i++)
        CHECK_ERRNO(openat(folders[i], "tee0", O_RDWR), EBADF);
    CHECK_ERRNO(openat(null, "tee0", O_RDWR), ENOTDIR);
    CHECK(is_device(openat(dev, "tee0", O_RDWR)));
    CHECK(is_device(openat(-1, "/dev/tee0", O_RDWR)));
    CHECK(chdir("/dev") == 0);
    CHECK(is_device(open("tee0", O_RDWR)));
    CHECK(is_device(open("./tee0", O_RDWR)));
    CHECK(is_device(openat(dev, "../dev/tee0", O_RDWR)));
    CHECK_ERRNO(openat(dev, "", O_RDWR), ENOENT);
    /* ENOENT where there is no such file, and only opens of it are answered. */
    CHECK(open("/dev/tee0/", O_RDWR) < 0 && (errno == ENOTDIR || errno == ENOENT));
    CHECK(open("/dev/tee0/x", O_RDWR) < 0 && (errno == ENOTDIR || errno == ENOENT));
}

CASE(strange_names)
{
    static const char *const strange[] = {
        "/dev/tee",   "/dev/tee16",  "/dev/tee00",  "/dev/tee-1", "/dev/tee0 ",          "/dev/tee\xb2",
        "/dev/TEE0",  "/dev/teepriv", "/dev/tee0\n", "/dev/tee99999999999999999999999", "/dev/teeteetee0",
        "/tmp/tee0",  "/tee0",       "tee0",        "",           "/dev/\xff\xfe/tee0",
    };

    CHECK(chdir("/") == 0);
    for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++)
        CHECK_ERRNO(open(strange[i], O_RDWR), ENOENT);
}
