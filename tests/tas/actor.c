/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A TA that lives, waits, calls and dies as its clients say. tests/ta_clients.py has its commands
 * and the layout of struct request. Build it with -DFLAGS= and -DNUMBER=.
 */

#ifndef FLAGS
#define FLAGS 0
#endif

#ifndef BUILD
#define BUILD 0
#endif

#include "ta_entry_points.h"

enum { WHO, RETURN, PANIC, FAULT, CLIENT, WAIT, POLL, CALL, DEEPER, SHAREABLE, TWICE, LOG_LINES };

/* What open_session() is told in the first value: what to return; and when to die. */
enum { LIVE, DIE_NOW, DIE_AT_CLOSE, DIE_AT_DESTROY, FAULT_NOW };

enum { AT_ADDRESS, IN_PARAMETER, IN_PRIVATE };

#define UNMASKED 0x100u

struct request {
	struct uuid uuid;
	uint32_t what; /* OPEN_SESSION, CLOSE_SESSION or INVOKE_COMMAND, perhaps UNMASKED */
	uint32_t session, timeout, cmd;
	uint32_t result, origin;
	uint32_t where[4]; /* what vals[2 * n] of a memory reference counts from */
	struct params params;
};

static uint32_t instance, created_count, close_of_death;
static uint32_t death_at_destroy;
static unsigned char private[8192];

static TEE_Result create(void)
{
#ifdef CREATE_FAILS
	LOG("no create");
	return TEE_ERROR_ACCESS_DENIED;
#else
	if (!instance)
		utee_random(&instance, sizeof(instance));
	created_count++;
	for (size_t i = 0; i < sizeof(private); i++)
		private[i] = (unsigned char)i;
	LOG("create");
	return TEE_SUCCESS;
#endif
}

static void destroy(void)
{
	LOG("destroy");
	if (death_at_destroy)
		utee_panic(0xdead0003, 0);
}

static uint32_t fault(uintptr_t address)
{
	return *(volatile uint32_t *)address;
}

static TEE_Result open_session(unsigned long session, struct params *p)
{
	LOG("open");
	if ((p->types & 0xf) != VALUE_INPUT)
		return TEE_SUCCESS;
	switch (p->vals[1]) {
	case DIE_NOW:
		utee_panic(0xdead0001, 0);
	case DIE_AT_CLOSE:
		close_of_death = (uint32_t)session;
		break;
	case DIE_AT_DESTROY:
		death_at_destroy = 1;
		break;
	case FAULT_NOW:
		return fault(0);
	}
	return (TEE_Result)p->vals[0];
}

static void close_session(unsigned long session)
{
	LOG("close");
	if (close_of_death && close_of_death == session)
		utee_panic(0xdead0002, 0);
}

/* a and b: the identity's login, and whose UUID it is if it is one of TA_UUID(); then the UUID. */
static TEE_Result client(struct params *p)
{
	struct {
		uint32_t login;
		struct uuid uuid;
	} identity;
	uint32_t size = sizeof(identity), type = 0;
	TEE_Result result = utee_get_property(TEE_PROPSET_CURRENT_CLIENT, 0, 0, 0, &identity,
					      &size, &type);

	if (result)
		return result;
	if (size != sizeof(identity))
		return TEE_ERROR_GENERIC;
	p->vals[0] = identity.login;
	p->vals[1] = type;
	if (SIZE(p, 1) < sizeof(identity.uuid))
		return TEE_ERROR_SHORT_BUFFER;
	memcpy(BUFFER(p, 1), &identity.uuid, sizeof(identity.uuid));
	p->vals[3] = sizeof(identity.uuid);
	return TEE_SUCCESS;
}

/*
 * Value: milliseconds, and whether to unmask. Memory, if there is some: [0] is set at the start,
 * [1] is the flag at the end, and [2] what a wait is held up for.
 */
static TEE_Result wait(struct params *p, _Bool poll)
{
	uint32_t before = 0, cancelled = 0;
	TEE_Result result = TEE_SUCCESS;
	volatile unsigned char *state = (p->types >> 4 & 0xf) == MEMREF_INOUT ? BUFFER(p, 1) : 0;

	if (p->vals[1])
		utee_unmask_cancellation(&before);
	if (state)
		state[0] = 1;
	if (poll) {
		do
			utee_get_cancellation_flag(&cancelled);
		while (!cancelled && !(state && state[2]));
	} else {
		result = utee_wait((unsigned long)p->vals[0]);
	}
	utee_get_cancellation_flag(&cancelled);
	if (state)
		state[1] = (unsigned char)(cancelled | before << 1);
	return result;
}

/* Make the call that the first reference describes; memory for it may be in the second one. */
static TEE_Result call(struct params *p)
{
	struct request request;
	TEE_Result result = TEE_ERROR_BAD_PARAMETERS;

	if ((p->types & 0xf) != MEMREF_INOUT || SIZE(p, 0) < sizeof(request))
		return result;
	memcpy(&request, BUFFER(p, 0), sizeof(request));
	for (unsigned i = 0; i < 4; i++) {
		if (request.where[i] == IN_PARAMETER)
			request.params.vals[2 * i] += p->vals[2];
		else if (request.where[i] == IN_PRIVATE)
			request.params.vals[2 * i] += (uintptr_t)private;
	}
	if (request.what & UNMASKED)
		utee_unmask_cancellation(&request.origin);
	switch (request.what & ~UNMASKED) {
	case OPEN_SESSION:
		result = utee_open_ta_session(&request.uuid, request.timeout, &request.params,
					      &request.session, &request.origin);
		break;
	case INVOKE_COMMAND:
		result = utee_invoke_ta_command(request.session, request.timeout, request.cmd,
						&request.params, &request.origin);
		break;
	case CLOSE_SESSION:
		result = utee_close_ta_session(request.session);
		break;
	}
	request.result = result;
	memcpy(BUFFER(p, 0), &request, sizeof(request));
	return TEE_SUCCESS;
}

/* Value: how many of these are inside each other from here on, and why no more. */
static TEE_Result deeper(struct params *p)
{
	struct params below = { .types = VALUE_OUTPUT };
	uint32_t session = 0, origin = 0;
	TEE_Result result = utee_open_ta_session(&ta_head.uuid, TEE_TIMEOUT_INFINITE, &(struct params){ 0 },
						 &session, &origin);

	if (!result) {
		result = utee_invoke_ta_command(session, TEE_TIMEOUT_INFINITE, DEEPER, &below,
						&origin);
		if (result)
			below.vals[1] = result;
		utee_close_ta_session(session);
	} else {
		below.vals[1] = result;
	}
	p->vals[0] = below.vals[0] + 1;
	p->vals[1] = below.vals[1];
	return TEE_SUCCESS;
}

/* Map p[0].a bytes that other TAs may see, from the system PTA; their address in p[1]. */
static TEE_Result shareable(struct params *p)
{
	static const struct uuid system = PTA_SYSTEM_UUID;
	struct params map = {
		.types = TYPES(VALUE_INPUT, VALUE_INOUT, VALUE_INPUT, NONE),
		.vals = { p->vals[0], PTA_SYSTEM_MAP_FLAG_SHAREABLE },
	};
	uint32_t session = 0, origin = 0;
	TEE_Result result = utee_open_ta_session(&system, TEE_TIMEOUT_INFINITE, &(struct params){ 0 },
						 &session, &origin);

	if (result)
		return result;
	result = utee_invoke_ta_command(session, TEE_TIMEOUT_INFINITE, PTA_SYSTEM_MAP_ZI, &map,
					&origin);
	p->vals[2] = map.vals[2];
	p->vals[3] = map.vals[3];
	return result;
}

/* Turn each byte of the first reference, and double the second parameter, a value. */
static TEE_Result twice(struct params *p)
{
	unsigned char *bytes = BUFFER(p, 0);

	for (size_t i = 0; i < SIZE(p, 0); i++)
		bytes[i] ^= 0xff;
	p->vals[2] *= 2;
	p->vals[3] *= 2;
	return TEE_SUCCESS;
}

static TEE_Result invoke(unsigned long session, struct params *p, unsigned long cmd)
{
	(void)session;
	switch (cmd) {
	case WHO:
		p->vals[0] = instance;
		p->vals[1] = sessions;
		p->vals[2] = created_count;
		p->vals[3] = BUILD;
		return TEE_SUCCESS;
	case RETURN:
		return (TEE_Result)p->vals[0];
	case PANIC:
		utee_panic((unsigned long)p->vals[0], 0);
	case FAULT:
		return fault((uintptr_t)p->vals[0]);
	case CLIENT:
		return client(p);
	case WAIT:
	case POLL:
		return wait(p, cmd == POLL);
	case CALL:
		return call(p);
	case DEEPER:
		return deeper(p);
	case SHAREABLE:
		return shareable(p);
	case TWICE:
		return twice(p);
	case LOG_LINES:
		utee_log("I/TA: one\nE/TA: two\nthr", sizeof("I/TA: one\nE/TA: two\nthr"));
		utee_log("ee", 2);
		return TEE_SUCCESS;
	default:
		return TEE_ERROR_NOT_SUPPORTED;
	}
}
