/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A TA that stores objects as its clients say. Parameters of all commands: a value (storage and
 * flags, or a handle and a number), a name, data, and a value with more and with what comes back.
 */

#ifndef FLAGS
#define FLAGS 0
#endif

#include "ta_entry_points.h"

enum { OPEN, CREATE, CLOSE, DELETE, RENAME, READ, WRITE, TRUNCATE, SEEK, START, NEXT, KEY, PANIC };

#define TEE_TYPE_AES 0xA0000010
#define TEE_ATTR_SECRET_VALUE 0xC0000000

static unsigned char name[64];
static unsigned char found[64];
static unsigned char data[1 << 20];
static uint32_t enumerator;

static TEE_Result create(void) { return TEE_SUCCESS; }
static void destroy(void) { }
static void close_session(unsigned long session) { (void)session; }

static TEE_Result open_session(unsigned long session, struct params *p)
{
	(void)session;
	(void)p;
	return TEE_SUCCESS;
}

/* A key of the bytes that are given, as an object or its bytes from one. */
static TEE_Result key(struct params *p, uint32_t *object)
{
	struct attribute secret = { (uintptr_t)data, 16, TEE_ATTR_SECRET_VALUE };
	uint64_t size = sizeof(data);
	TEE_Result result;

	if (!p->vals[1]) {
		result = utee_cryp_obj_get_attr((unsigned long)p->vals[0], TEE_ATTR_SECRET_VALUE,
						data, &size);
		if (result)
			return result;
		memcpy(BUFFER(p, 2), data, (size_t)size);
		p->vals[5] = size;
		return TEE_SUCCESS;
	}
	result = utee_cryp_obj_alloc(TEE_TYPE_AES, 256, object);
	if (!result)
		result = utee_cryp_obj_populate(*object, &secret, 1);
	return result;
}

static TEE_Result invoke(unsigned long session, struct params *p, unsigned long cmd)
{
	const unsigned long a = (unsigned long)p->vals[0], b = (unsigned long)p->vals[1];
	const unsigned long more = (unsigned long)p->vals[6];
	const size_t size = SIZE(p, 2);
	uint32_t object = 0, info[7];
	uint64_t count = 0;
	TEE_Result result = TEE_ERROR_NOT_SUPPORTED;

	(void)session;
	if (SIZE(p, 1) > sizeof(name) || size > sizeof(data))
		return TEE_ERROR_BAD_PARAMETERS;
	memcpy(name, BUFFER(p, 1), SIZE(p, 1));
	memcpy(data, BUFFER(p, 2), size);
	switch (cmd) {
	case OPEN:
		result = utee_storage_obj_open(a, name, SIZE(p, 1), b, &object);
		break;
	case CREATE:
		result = utee_storage_obj_create(a, name, SIZE(p, 1), b, more, data, size, &object);
		break;
	case CLOSE:
		return utee_cryp_obj_close(a);
	case DELETE:
		return utee_storage_obj_del(a);
	case RENAME:
		return utee_storage_obj_rename(a, name, SIZE(p, 1));
	case READ:
		result = utee_storage_obj_read(a, data, size, &count);
		memcpy(BUFFER(p, 2), data, (size_t)count);
		p->vals[5] = count;
		return result;
	case WRITE:
		return utee_storage_obj_write(a, data, size);
	case TRUNCATE:
		return utee_storage_obj_trunc(a, b);
	case SEEK:
		return utee_storage_obj_seek(a, (int32_t)b, more);
	case START:
		if (!enumerator)
			utee_storage_alloc_enum(&enumerator);
		return utee_storage_start_enum(enumerator, a);
	case NEXT:
		result = utee_storage_next_enum(enumerator, info, found, &count);
		if (result)
			return result;
		memcpy(BUFFER(p, 2), found, (size_t)count);
		p->vals[5] = count;
		return TEE_SUCCESS;
	case KEY:
		result = key(p, &object);
		break;
	case PANIC:
		utee_panic(a, 0);
	}
	p->vals[6] = object;
	return result;
}
