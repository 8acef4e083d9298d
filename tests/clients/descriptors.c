/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Opening a device: names that lead there, flags, numbers, and the close-on-exec flag.
 */
#include "tee_client.h"

#include <linux/openat2.h>
#include <pthread.h>
#include <sys/resource.h>

static int version_of(int fd)
{
    struct tee_ioctl_version_data version = {0};

    if (ioctl(fd, TEE_IOC_VERSION, &version))
        return -errno;
    return (int)version.impl_id;
}

static void check_device(int fd)
{
    CHECK(fd >= 0);
    CHECK_EQ(version_of(fd), TEE_IMPL_ID_OPTEE);
    close(fd);
}

static int next_number(void)
{
    int next = dup(0);

    close(next);
    return next;
}

CASE(the_number_is_the_lowest_free)
{
    int next = next_number();

    for (int i = 0; i < 5; i++) {
        int fd = tee_open();

        CHECK_EQ(fd, next);
        CHECK_EQ(version_of(fd), TEE_IMPL_ID_OPTEE);
        CHECK_EQ(next_number(), next + 1); /* and nothing else was opened */
        close(fd);
    }
    close(0);
    CHECK_EQ(tee_open(), 0);
    CHECK_EQ(version_of(0), TEE_IMPL_ID_OPTEE);
}

CASE(close_on_exec_is_as_it_was_asked_for)
{
    int plain = must_open(TEE0, O_RDWR), cloexec = must_open(TEE0, O_RDWR | O_CLOEXEC);

    for (int i = 0; i < 3; i++) {
        CHECK_EQ(fcntl(plain, F_GETFD), 0);
        CHECK_EQ(fcntl(cloexec, F_GETFD), FD_CLOEXEC);
        version_of(plain);
        version_of(cloexec);
    }
}

CASE(close_on_exec_set_before_the_first_ioctl_is_kept)
{
    int set = must_open(TEE0, O_RDWR), cleared = must_open(TEE0, O_RDWR | O_CLOEXEC);
    int by_dup = fcntl(set, F_DUPFD_CLOEXEC, 50);

    CHECK_EQ(fcntl(set, F_SETFD, FD_CLOEXEC), 0);
    CHECK_EQ(fcntl(cleared, F_SETFD, 0), 0);
    version_of(set);
    version_of(cleared);
    version_of(by_dup);
    CHECK_EQ(fcntl(set, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(cleared, F_GETFD), 0);
    CHECK_EQ(fcntl(by_dup, F_GETFD), FD_CLOEXEC);
}

CASE(of_duplicates_each_has_a_flag_of_its_own)
{
    int fd = tee_open();
    int early = fcntl(fd, F_DUPFD_CLOEXEC, 50), late;

    version_of(fd);
    late = fcntl(fd, F_DUPFD_CLOEXEC, 60);
    CHECK_EQ(fcntl(fd, F_GETFD), 0);
    CHECK_EQ(fcntl(early, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(version_of(early), TEE_IMPL_ID_OPTEE);
    CHECK_EQ(fcntl(early, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(late, F_GETFD), FD_CLOEXEC);
}

CASE(every_call_that_opens)
{
    struct open_how how = {.flags = O_RDWR | O_CLOEXEC};
    int dev = must_open("/dev", O_RDONLY | O_DIRECTORY), fd;

    check_device((int)syscall(SYS_openat, AT_FDCWD, TEE0, O_RDWR));
    check_device((int)syscall(SYS_openat, 12345, TEE0, O_RDWR)); /* not looked at */
    check_device((int)syscall(SYS_openat, dev, "tee0", O_RDWR));
    check_device((int)syscall(SYS_openat, dev, "./tee0", O_RDWR));
    fd = (int)syscall(SYS_openat2, AT_FDCWD, TEE0, &how, sizeof(how));
    CHECK(fd >= 0);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    check_device(fd);
    check_device((int)syscall(SYS_openat2, dev, "tee0", &how, sizeof(how)));
#ifdef SYS_open
    check_device((int)syscall(SYS_open, TEE0, O_RDWR));
    check_device((int)syscall(SYS_creat, TEE0, 0600));
#endif
    CHECK(fopen(TEE0, "r+") != NULL);
}

CASE(names_that_lead_there)
{
    const char *names[] = {"/dev//tee0", "//dev/tee0", "/dev/./tee0", "/dev/../dev/tee0",
                           "/proc/self/root/dev/tee0"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        check_device(open(names[i], O_RDWR));
    CHECK(chdir("/dev") == 0);
    check_device(open("tee0", O_RDWR));
    check_device(open("./tee0", O_RDWR));
    CHECK(chdir("/") == 0);
    check_device(open("dev/tee0", O_RDWR));
}

CASE(names_that_do_not)
{
    const char *names[] = {"/dev/tee1", "/dev/tee15", "/dev/tee", "/dev/tee00", "/dev/tee0x",
                           "/dev/teepriv", "/dev/teepriv1", "/tee0", "/tmp/tee0", "tee0", ""};

    CHECK(chdir("/proc/self") == 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        CHECK_ERRNO(open(names[i], O_RDWR), ENOENT);
    CHECK_ERRNO(openat(12345, "tee0", O_RDWR), EBADF);
}

CASE(a_file_of_that_name_elsewhere_is_that_file)
{
    char folder[] = "/tmp/gentee-test-XXXXXX", byte;
    struct tee_ioctl_version_data version;
    int fd;

    CHECK(mkdtemp(folder) != NULL);
    CHECK(chdir(folder) == 0);
    fd = open("tee0", O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0);
    CHECK(write(fd, "x", 1) == 1);
    close(fd);
    fd = open("tee0", O_RDONLY);
    CHECK(read(fd, &byte, 1) == 1 && byte == 'x');
    CHECK_ERRNO(ioctl(fd, TEE_IOC_VERSION, &version), ENOTTY);
    CHECK(unlink("tee0") == 0);
    CHECK(chdir("/") == 0);
    CHECK(rmdir(folder) == 0);
}

CASE(a_path_anywhere_in_memory)
{
    char *path = at_the_edge(sizeof(TEE0)), *unterminated = at_the_edge(sizeof(TEE0) - 1);
    char *across = (char *)new_pages(2) + PAGE - 4, longer[5000] = "/dev/";

    strcpy(path, TEE0);
    check_device(open(path, O_RDWR));
    strcpy(across, TEE0);
    check_device(open(across, O_RDWR));
    memcpy(unterminated, TEE0, sizeof(TEE0) - 1);
    CHECK_ERRNO(open(unterminated, O_RDWR), EFAULT);
    CHECK_ERRNO(syscall(SYS_openat, AT_FDCWD, NULL, O_RDWR), EFAULT);
    CHECK_ERRNO(syscall(SYS_openat, AT_FDCWD, 16, O_RDWR), EFAULT);
    for (int i = 0; i < 2000; i++)
        memcpy(longer + 5 + 2 * i, "./", 2);
    strcpy(longer + 4005, "tee0");
    check_device(open(longer, O_RDWR));
    memset(longer + 5, '/', 4200);
    strcpy(longer + 4205, "tee0");
    CHECK_ERRNO(open(longer, O_RDWR), ENAMETOOLONG);
}

CASE(any_access_mode_is_good_for_ioctls)
{
    check_device(must_open(TEE0, O_RDONLY));
    check_device(must_open(TEE0, O_WRONLY));
    check_device(must_open(TEE0, O_RDWR | O_NONBLOCK));
    check_device(must_open(TEE0, O_RDWR | O_APPEND | O_NOCTTY | O_NOFOLLOW));
    check_device(must_open(TEE0, O_RDWR | O_CREAT));
    check_device(must_open(TEE0, O_RDWR | O_CREAT | O_TRUNC));
}

CASE(flags_that_do_not_go_with_a_device)
{
    CHECK_ERRNO(open(TEE0, O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
    CHECK_ERRNO(open(TEE0, O_RDONLY | O_DIRECTORY), ENOTDIR);
}

CASE(a_descriptor_that_is_only_a_path)
{
    int fd = open(TEE0, O_PATH);

    if (fd < 0) /* in the open way there is no file to be found */
        CHECK_EQ(errno, ENOENT);
    else
        CHECK_EQ(version_of(fd), -EBADF);
}

CASE(no_number_left_is_EMFILE)
{
    struct rlimit old, none_left;
    int next = next_number();

    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
    none_left = old;
    none_left.rlim_cur = (rlim_t)next;
    CHECK(setrlimit(RLIMIT_NOFILE, &none_left) == 0);
    CHECK_ERRNO(open(TEE0, O_RDWR), EMFILE);
    CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
    CHECK_EQ(tee_open(), next);
}

CASE(the_first_ioctl_needs_no_number)
{
    struct rlimit none_left;
    int fd = tee_open();

    CHECK(getrlimit(RLIMIT_NOFILE, &none_left) == 0);
    none_left.rlim_cur = (rlim_t)fd; /* even this one is beyond */
    CHECK(setrlimit(RLIMIT_NOFILE, &none_left) == 0);
    CHECK_EQ(version_of(fd), TEE_IMPL_ID_OPTEE);
}

CASE(reading_writing_and_mapping_fail)
{
    char byte = 0;
    int fd = tee_open();

    CHECK_EQ(version_of(fd), TEE_IMPL_ID_OPTEE);
    CHECK(read(fd, &byte, 1) == -1);
    CHECK(write(fd, &byte, 1) == -1);
    CHECK_ERRNO(lseek(fd, 0, SEEK_SET), ESPIPE);
    CHECK_ERRNO(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0, ENODEV);
    CHECK_EQ(version_of(fd), TEE_IMPL_ID_OPTEE);
}

CASE(opened_again_through_proc)
{
    char path[64];
    int fd = tee_open(), again;

    CHECK_EQ(version_of(fd), TEE_IMPL_ID_OPTEE);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    again = open(path, O_RDONLY);
    CHECK(again >= 0);
    CHECK_EQ(version_of(again), TEE_IMPL_ID_OPTEE);
}

static void *open_many(void *unused)
{
    for (int i = 0; i < 50; i++)
        check_device(tee_open());
    return unused;
}

CASE(threads_that_open_at_the_same_time)
{
    pthread_t threads[6];

    for (int i = 0; i < 6; i++)
        CHECK(pthread_create(&threads[i], NULL, open_many, NULL) == 0);
    for (int i = 0; i < 6; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

CASE(other_files_are_opened_as_ever)
{
    char text[64] = "";
    int fd = must_open("/proc/self/comm", O_RDONLY);

    CHECK(read(fd, text, sizeof(text)) > 0);
    check_device(tee_open());
    CHECK(must_open("/dev/null", O_RDWR) >= 0);
    CHECK(must_open("/dev/zero", O_RDONLY) >= 0);
    fd = must_open("/dev/urandom", O_RDONLY);
    CHECK(read(fd, text, 16) == 16);
    CHECK_ERRNO(open("/nowhere/at/all", O_RDONLY), ENOENT);
}
