/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The entry points of GlobalPlatform's Internal Core API, on top of ta.h. As libutee does, an
 * instance is created at its first open and destroyed in its last close.
 *
 * A TA defines FLAGS, its flags, before it includes this, and after it the five functions.
 */

#ifndef TA_ENTRY_POINTS_H
#define TA_ENTRY_POINTS_H

#define TA_MAIN
#include "ta.h"

#ifndef STACK
#define STACK 8192
#endif

TA_HEADER(STACK, FLAGS, TA_UUID(NUMBER));

static TEE_Result create(void);
static void destroy(void);
static TEE_Result open_session(unsigned long session, struct params *params);
static void close_session(unsigned long session);
static TEE_Result invoke(unsigned long session, struct params *params, unsigned long cmd);

static unsigned sessions; /* that are open */
static _Bool created;

static void session_gone(void)
{
	const unsigned kept = TA_FLAG_SINGLE_INSTANCE | TA_FLAG_INSTANCE_KEEP_ALIVE;

	if (sessions || (ta_head.flags & kept) == kept)
		return;
	destroy();
	created = 0;
}

TEE_Result ta_main(unsigned long func, unsigned long session, struct params *params,
		   unsigned long cmd)
{
	TEE_Result result = TEE_SUCCESS;

	switch (func) {
	case OPEN_SESSION:
		if (!created)
			result = create();
		if (result)
			return result;
		created = 1;
		result = open_session(session, params);
		if (result)
			session_gone();
		else
			sessions++;
		return result;
	case CLOSE_SESSION:
		close_session(session);
		sessions--;
		session_gone();
		return TEE_SUCCESS;
	case INVOKE_COMMAND:
		return invoke(session, params, cmd);
	default:
		return TEE_ERROR_NOT_SUPPORTED;
	}
}

#endif
