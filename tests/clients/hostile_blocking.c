/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls that gentee cannot finish by itself: their memory or their file is in the hands of a program
 * that does not answer. Whoever else calls must be served all the same.
 */
#include "tee_client.h"

#include <linux/fuse.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>

#define ATTACKERS 12

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

/* Others are served: a fresh process, and one that was there before. */
static void others_are_served(int fd)
{
    for (int i = 0; i < 20; i++) {
        struct tee_ioctl_version_data version;
        pid_t child;

        CHECK(ioctl(fd, TEE_IOC_VERSION, &version) == 0);
        child = must_fork();
        if (child == 0) {
            int other = tee_open();
            __u32 session = must_open_session(other, ANY);

            CHECK_ANSWER(invoke(other, session, NOP, 0, NULL), TEEC_SUCCESS);
            _exit(0);
        }
        must_succeed(child);
    }
}

/* A page that nobody fills. */
static char *page_that_never_comes(void)
{
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = {.api = UFFD_API};
    char *page = new_pages(1);
    struct uffdio_register range = {
        .range = {(uintptr_t)page, PAGE},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };

    if (uffd < 0)
        SKIP("no page faults of one's own: %s", strerror(errno));
    CHECK(ioctl(uffd, UFFDIO_API, &api) == 0);
    CHECK(ioctl(uffd, UFFDIO_REGISTER, &range) == 0);
    return page;
}

static void attack_by_page(int i, char *page, struct gate *gate)
{
    int fd = tee_open(), id;
    __u32 session = must_open_session(fd, ANY);
    struct tee_ioctl_buf_data data = {(uintptr_t)page, 24};
    param_t params[] = {value_in(1, 0), value_in(0, 0)};

    gate_send(gate, 1);
    switch (i % 5) {
    case 0:
        ioctl(fd, TEE_IOC_VERSION, page); /* writes there */
        break;
    case 1:
        ioctl(fd, TEE_IOC_SHM_ALLOC, page); /* reads */
        break;
    case 2:
        ioctl(fd, TEE_IOC_INVOKE, &data); /* reads by a pointer */
        break;
    case 3:
        if (shm_register(fd, page, PAGE, &id) >= 0) { /* reads and writes for a call */
            params[1] = memref_inout(id, 0, PAGE);
            invoke(fd, session, FILL, 2, params);
        }
        break;
    case 4:
        open(page, O_RDWR); /* reads a path, where opens are trapped */
        break;
    }
    pause();
}

CASE(pages_that_never_come)
{
    int fd = tee_open();
    struct gate gate = new_gate();

    page_that_never_comes(); /* or the case is skipped */
    for (int i = 0; i < ATTACKERS; i++) {
        pid_t child = must_fork();

        if (child == 0) {
            attack_by_page(i, page_that_never_comes(), &gate);
            _exit(0);
        }
        gate_receive(&gate);
        others_are_served(fd);
    }
}

/* The same from many threads of one process, which ends in the end. */
static void *never_returns(void *page)
{
    struct tee_ioctl_version_data *version = page;

    ioctl(tee_open(), TEE_IOC_VERSION, version);
    return NULL;
}

CASE(threads_that_wait_for_pages)
{
    int fd = tee_open();

    page_that_never_comes();
    for (int round = 0; round < 3; round++) {
        struct gate gate = new_gate();
        pid_t child = must_fork();

        if (child == 0) {
            for (int i = 0; i < 50; i++) {
                pthread_t thread;

                CHECK(pthread_create(&thread, NULL, never_returns, page_that_never_comes()) == 0);
            }
            gate_send(&gate, 1);
            pause();
        }
        gate_receive(&gate);
        others_are_served(fd);
        must_kill(child);
        others_are_served(fd);
    }
}

/* A file system of one's own, that answers until it is asked for what would be read. */

struct mounted {
    int device;
    char folder[64];
};

static void answer(int device, __u64 unique, const void *data, size_t size)
{
    struct fuse_out_header header = {.len = (__u32)(sizeof(header) + size), .unique = unique};
    char bytes[512];

    memcpy(bytes, &header, sizeof(header));
    memcpy(bytes + sizeof(header), data, size);
    if (write(device, bytes, header.len) < 0 && errno != ENOENT)
        _exit(1);
}

static struct fuse_attr attributes(__u64 node)
{
    struct fuse_attr attr = {.ino = node, .nlink = 1, .size = PAGE, .blksize = PAGE};

    attr.mode = node == 1 ? S_IFDIR | 0755 : S_IFREG | 0666;
    attr.uid = getuid();
    attr.gid = getgid();
    return attr;
}

static void serve_files(const struct mounted *mounted, pid_t client)
{
    static char bytes[FUSE_MIN_READ_BUFFER * 20];

    for (;;) {
        struct fuse_in_header *in = (void *)bytes;

        if (read(mounted->device, bytes, sizeof(bytes)) < 0)
            _exit(0);
        if (in->opcode == FUSE_INIT) {
            struct fuse_init_in *init = (void *)(in + 1);
            struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = init->minor};

            out.max_write = PAGE;
            out.max_readahead = PAGE;
            answer(mounted->device, in->unique, &out, sizeof(out));
        } else if (in->opcode == FUSE_LOOKUP) {
            struct fuse_entry_out out = {.nodeid = 2, .attr = attributes(2)};

            answer(mounted->device, in->unique, &out, sizeof(out));
        } else if (in->opcode == FUSE_OPEN) {
            struct fuse_open_out out = {.fh = 1};

            answer(mounted->device, in->unique, &out, sizeof(out));
        } else if (in->opcode == FUSE_GETATTR && in->pid == (__u32)client) {
            struct fuse_attr_out out = {.attr = attributes(in->nodeid)};

            answer(mounted->device, in->unique, &out, sizeof(out));
        }
        /* READ, and attributes for others: never. */
    }
}

static void map_to_itself(const char *name, unsigned id)
{
    char path[64], map[64];
    int deny = open("/proc/self/setgroups", O_WRONLY), file;

    snprintf(path, sizeof(path), "/proc/self/%s", name);
    snprintf(map, sizeof(map), "%u %u 1", id, id);
    file = open(path, O_WRONLY);
    if (write(deny, "deny", 4) < 0 || write(file, map, strlen(map)) < 0)
        SKIP("no user namespace: %s", strerror(errno));
    close(deny);
    close(file);
}

static void mount_files(struct mounted *mounted)
{
    char options[128], folder[] = "/tmp/tee-XXXXXX";
    uid_t uid = getuid();
    gid_t gid = getgid();
    pid_t client = getpid();

    if (unshare(uid ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS))
        SKIP("no mount namespace: %s", strerror(errno));
    if (uid) {
        map_to_itself("uid_map", uid);
        map_to_itself("gid_map", gid);
    }
    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
    CHECK(mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0);
    CHECK(mkdtemp(folder) != NULL);
    mounted->device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (mounted->device < 0)
        SKIP("/dev/fuse: %s", strerror(errno));
    snprintf(options, sizeof(options), "fd=%d,rootmode=40755,user_id=%u,group_id=%u",
             mounted->device, uid, gid);
    snprintf(mounted->folder, sizeof(mounted->folder), "%s", folder);
    if (mount("none", folder, "fuse", MS_NOSUID | MS_NODEV, options))
        SKIP("no file system of one's own: %s", strerror(errno));
    /* In a process of its own: with its end whoever waits for it gets an error. */
    if (must_fork() == 0)
        serve_files(mounted, client);
    close(mounted->device);
}

CASE(files_that_never_answer)
{
    int fd = tee_open();

    for (int i = 0; i < 4; i++) {
        struct gate gate = new_gate();
        pid_t child = must_fork();

        if (child == 0) {
            struct mounted mounted;
            char path[128];
            int file;
            struct tee_ioctl_version_data version;

            mount_files(&mounted);
            snprintf(path, sizeof(path), "%s/tee0", mounted.folder);
            int device = tee_open();
            CHECK(ioctl(device, TEE_IOC_VERSION, &version) == 0);
            file = must_open(path, O_RDWR);
            void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
            gate_send(&gate, 1);
            if (i == 0) {
                ioctl(file, TEE_IOC_VERSION, &version); /* on such a file */
            } else if (i == 1 && page != MAP_FAILED) {
                ioctl(device, TEE_IOC_SHM_ALLOC, page); /* memory of such a file */
            } else if (i == 2) {
                open(path, O_RDWR); /* a device's name there */
                chdir(mounted.folder);
                open("tee0", O_RDWR);
            } else {
                shm_register_fd(device, file, NULL);
            }
            pause();
        }
        struct pollfd ready[] = {{.fd = gate.fds[0], .events = POLLIN},
                                 {.fd = (int)syscall(434 /* pidfd_open */, child, 0), .events = POLLIN}};
        CHECK(poll(ready, 2, PATIENCE_MS / 2) > 0);
        if (ready[1].revents)
            must_succeed(child);
        gate_receive(&gate);
        others_are_served(fd);
        kill(child, SIGKILL);
    }
}
