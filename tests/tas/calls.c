/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A TA that makes the system calls that its client says, with private memory that the client has
 * filled: the road of cryptography through a real process. tests/calling_ta.py speaks with it.
 */

#define TA_MAIN
#include "ta.h"

TA_HEADER(8192, 0, TA_UUID(NUMBER));

#define WHERE 0x100 /* the command that says where the memory is; others are numbers of calls */

static uint8_t scratch[1 << 16] = { 1 };

TEE_Result ta_main(unsigned long func, unsigned long session, struct params *params,
		   unsigned long cmd)
{
	unsigned long arguments[8];
	uint64_t *given = (uint64_t *)(void *)BUFFER(params, 0);
	size_t size = SIZE(params, 0);

	(void)session;
	if (func != INVOKE_COMMAND)
		return TEE_SUCCESS;
	if (cmd == WHERE) {
		params->vals[0] = (uintptr_t)scratch;
		params->vals[1] = sizeof(scratch);
		return TEE_SUCCESS;
	}
	if (params->types != TYPES(MEMREF_INOUT, NONE, NONE, NONE) || size < 64 ||
	    size > 64 + sizeof(scratch))
		return TEE_ERROR_BAD_PARAMETERS;
	memcpy(scratch, given + 8, size - 64);
	for (unsigned n = 0; n < 8; n++)
		arguments[n] = given[n];
	/* A result that is no success would keep the client from its memory. */
	given[0] = utee_call(cmd, arguments);
	memcpy(given + 8, scratch, size - 64);
	return TEE_SUCCESS;
}
