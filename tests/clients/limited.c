/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the generic driver makes of the description of tests/services/limited.py: operations that it
 * lacks, and its limits. All numbers are those of that file.
 */
#include "tee_client.h"

#define TEEC_ERROR_OUT_OF_MEMORY 0xFFFF000Cu

CASE(it_is_found_by_its_entry_point)
{
    struct tee_ioctl_version_data version;

    CHECK_EQ(ioctl(tee_open(), TEE_IOC_VERSION, &version), 0);
    CHECK_EQ(version.impl_id, 0x4C494D49);
    CHECK_EQ(version.gen_caps, TEE_GEN_CAP_GP);
}

CASE(operations_that_it_lacks_are_EINVAL)
{
    int fd = tee_open();

    CHECK_ERRNO(ioctl(fd, TEE_IOC_CANCEL, NULL), EINVAL);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_OBJECT_INVOKE, NULL), EINVAL);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_SUPPL_RECV, NULL), EINVAL);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_SUPPL_SEND, NULL), EINVAL);
    CHECK_ERRNO(cancel(fd, must_open_session(fd, ANY), 0), EINVAL);
}

CASE(registering_memory_is_ENOTSUPP)
{
    int fd = tee_open(), memory = memfd_create("client", 0);

    CHECK_ERRNO(shm_register(fd, new_pages(1), PAGE, NULL), ENOTSUPP);
    CHECK_ERRNO(shm_register(fd, new_pages(1), 0, NULL), ENOTSUPP);
    CHECK_ERRNO(shm_register(fd, (void *)-4096l, PAGE, NULL), EFAULT);
    /* Any failure of this one is EINVAL. */
    CHECK(ftruncate(memory, PAGE) == 0);
    CHECK_ERRNO(shm_register_fd(fd, memory, NULL), EINVAL);
}

CASE(a_NULL_memref_is_EINVAL)
{
    int fd = tee_open();
    __u32 session = must_open_session(fd, ANY);
    param_t params[1] = {memref_in(-1, 0, 0)};

    CHECK_EQ(invoke(fd, session, NOP, 1, params).error, EINVAL);
    params[0] = param(TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INPUT, 0, 0, 0);
    CHECK_EQ(invoke(fd, session, NOP, 1, params).error, EINVAL);
    params[0] = param(TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INPUT, 0, 0, 0);
    CHECK_EQ(invoke(fd, session, NOP, 1, params).error, EINVAL);
}

CASE(memory_is_as_the_driver_needs_it)
{
    int fd = tee_open(), other = tee_open();
    struct memory first = must_alloc(fd, 1), second, third;

    CHECK_EQ(first.size, 8192);
    second = must_alloc(fd, 8193);
    CHECK_EQ(second.size, 16384);
    CHECK_ERRNO(shm_alloc(fd, 65537, NULL, NULL), ENOMEM);
    /* 24 KiB of the context's 64 are in use, and of the device's 96. */
    CHECK_ERRNO(shm_alloc(fd, 49152, NULL, NULL), ENOMEM);
    third = must_alloc(fd, 40960);
    CHECK_ERRNO(shm_alloc(fd, 1, NULL, NULL), ENOMEM);
    CHECK_ERRNO(shm_alloc(other, 40960, NULL, NULL), ENOMEM);
    CHECK_EQ(must_alloc(other, 32768).size, 32768);
    CHECK_ERRNO(shm_alloc(other, 1, NULL, NULL), ENOMEM);
    /* What is given back can be had at once. */
    munmap(third.bytes, third.size);
    close(third.fd);
    CHECK_EQ(must_alloc(other, 32768).size, 32768);
}

CASE(contexts_are_limited)
{
    struct tee_ioctl_version_data version;
    int fds[3];

    for (int i = 0; i < 3; i++) {
        fds[i] = tee_open();
        CHECK_EQ(ioctl(fds[i], TEE_IOC_VERSION, &version), 0);
    }
    for (int i = 0; i < 3; i++) {
        int more = open(TEE0, O_RDWR);

        /* In the namespace way the open succeeds, and the first ioctl does not. */
        if (more >= 0)
            CHECK_ERRNO(ioctl(more, TEE_IOC_VERSION, &version), ENOMEM);
        else
            CHECK_EQ(errno, ENOMEM);
        close(more);
        close(fds[i]);
        fds[i] = tee_open();
        CHECK_EQ(ioctl(fds[i], TEE_IOC_VERSION, &version), 0);
    }
}

CASE(sessions_are_limited)
{
    int fd = tee_open();
    __u32 first = must_open_session(fd, ANY);

    must_open_session(fd, ANY);
    CHECK_ANSWER(open_session(fd, ANY, 0, NULL), TEEC_ERROR_OUT_OF_MEMORY);
    must_open_session(tee_open(), ANY);
    CHECK_EQ(close_session(fd, first), 0);
    must_open_session(fd, ANY);
}
