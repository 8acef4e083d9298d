/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two TEEs at once: a software TEE as tee0 and teepriv0, a loopback one as tee1 and teepriv1.
 */
#include "tee_client.h"

#define TEE1 "/dev/tee1"
#define LOOPBACK_IMPL_ID 0x4C4F4F50u

static struct tee_ioctl_version_data version_of(int fd)
{
    struct tee_ioctl_version_data version = {0};

    CHECK_EQ(ioctl(fd, TEE_IOC_VERSION, &version), 0);
    return version;
}

CASE(each_driver_has_its_number)
{
    CHECK_EQ(version_of(must_open(TEE0, O_RDWR)).impl_id, TEE_IMPL_ID_OPTEE);
    CHECK_EQ(version_of(must_open(TEE1, O_RDWR)).impl_id, LOOPBACK_IMPL_ID);
    CHECK_EQ(version_of(must_open("/dev/teepriv0", O_RDWR)).impl_id, TEE_IMPL_ID_OPTEE);
    CHECK_EQ(version_of(must_open("/dev/teepriv1", O_RDWR)).impl_id, LOOPBACK_IMPL_ID);
    CHECK_ERRNO(open("/dev/tee2", O_RDWR), ENOENT);
    CHECK_ERRNO(open("/dev/teepriv2", O_RDWR), ENOENT);
}

CASE(only_supplicants_devices_are_privileged)
{
    CHECK_EQ(version_of(must_open(TEE0, O_RDWR)).gen_caps & TEE_GEN_CAP_PRIVILEGED, 0);
    CHECK_EQ(version_of(must_open(TEE1, O_RDWR)).gen_caps & TEE_GEN_CAP_PRIVILEGED, 0);
    CHECK_EQ(version_of(must_open("/dev/teepriv0", O_RDWR)).gen_caps & TEE_GEN_CAP_PRIVILEGED,
             TEE_GEN_CAP_PRIVILEGED);
}

CASE(sessions_and_memory_are_each_devices_own)
{
    int soft = must_open(TEE0, O_RDWR), loopback = must_open(TEE1, O_RDWR);
    __u32 session = must_open_session(soft, ECHO), other = must_open_session(loopback, ECHO);
    struct memory memory = must_alloc(soft, PAGE);
    param_t params[1] = {memref_inout(memory.id, 0, 4)};

    memcpy(memory.bytes, "soft", 4);
    CHECK_ANSWER(invoke(soft, session, 1, 1, params), TEEC_SUCCESS);
    CHECK(!memcmp(memory.bytes, "SOFT", 4));
    /* The same numbers mean nothing to the other one, or something else. */
    CHECK_EQ(invoke(loopback, other, NOP, 1, params).error, EINVAL);
    CHECK_EQ(close_session(soft, session), 0);
    CHECK_ANSWER(invoke(loopback, other, NOP, 0, NULL), TEEC_SUCCESS);
}

CASE(memory_of_one_can_be_registered_with_the_other)
{
    int soft = must_open(TEE0, O_RDWR), loopback = must_open(TEE1, O_RDWR), id;
    struct memory memory = must_alloc(soft, PAGE);
    param_t params[2] = {value_in('b', 0)};

    CHECK(shm_register_fd(loopback, memory.fd, &id) >= 0);
    params[1] = memref_out(id, 0, 8);
    CHECK_ANSWER(invoke(loopback, must_open_session(loopback, ANY), FILL, 2, params),
                 TEEC_SUCCESS);
    CHECK(!memcmp(memory.bytes, "bbbbbbbb", 9));
}

CASE(the_software_TEE_has_no_objects)
{
    struct tee_ioctl_object_invoke_arg arg = {0};
    int fd = must_open(TEE0, O_RDWR);
    __u32 session = must_open_session(fd, ECHO);

    CHECK_EQ(version_of(fd).gen_caps & TEE_GEN_CAP_OBJREF, 0);
    CHECK_ERRNO(buf_ioctl(fd, TEE_IOC_OBJECT_INVOKE, &arg, sizeof(arg)), EINVAL);
    CHECK_ERRNO(ioctl(fd, TEE_IOC_OBJECT_INVOKE, NULL), EINVAL);
    for (__u64 type = TEE_IOCTL_PARAM_ATTR_TYPE_UBUF_INPUT;
         type <= TEE_IOCTL_PARAM_ATTR_TYPE_OBJREF_INOUT; type++) {
        param_t params[1] = {param(type, (uintptr_t)&arg, 8, 0)};

        CHECK_EQ(invoke(fd, session, 2, 1, params).error, EINVAL);
        CHECK_EQ(open_session(fd, ECHO, 1, params).error, EINVAL);
    }
}

CASE(the_software_TEE_takes_four_parameters)
{
    int fd = must_open(TEE0, O_RDWR);
    __u32 session = must_open_session(fd, ECHO);
    param_t params[6] = {none(), none(), none(), none(), none(), none()};

    CHECK_ANSWER(invoke(fd, session, 2, 4, params), TEEC_SUCCESS);
    CHECK_ANSWER(invoke(fd, session, 2, 6, params), TEEC_SUCCESS);
    params[4] = value_in(1, 1);
    CHECK_ANSWER(invoke(fd, session, 2, 6, params), TEEC_ERROR_BAD_PARAMETERS);
    params[4] = none();
    params[0].attr = TEE_IOCTL_PARAM_ATTR_META;
    CHECK_ANSWER(invoke(fd, session, 2, 1, params), TEEC_ERROR_BAD_PARAMETERS);
    CHECK_ANSWER(open_session(fd, ANY, 0, NULL), TEEC_ERROR_ITEM_NOT_FOUND);
}
