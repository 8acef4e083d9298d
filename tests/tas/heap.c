/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A TA that says what its heap has, as libutee does with CFG_TA_STATS. Command 0 sets how much is
 * allocated; command 1 says what heap statistics are answered from then on.
 */

#define TA_MAIN
#include "ta.h"

#ifndef FLAGS
#define FLAGS (TA_FLAG_SINGLE_INSTANCE | TA_FLAG_MULTI_SESSION)
#endif

TA_HEADER(8192, FLAGS, TA_UUID(NUMBER));

enum { ANSWER, REFUSE, DIE, HANG };

static uint32_t allocated = 100, most = 100, how;

static TEE_Result dump(struct params *params)
{
	const uint32_t stats[6] = { allocated, most, 4096, 1, 5000, 50 };

	if (params->types != TYPES(VALUE_OUTPUT, VALUE_OUTPUT, VALUE_OUTPUT, NONE))
		return TEE_ERROR_BAD_PARAMETERS;
	if (how == REFUSE)
		return TEE_ERROR_NOT_SUPPORTED;
	if (how == DIE)
		utee_panic(0xdead, 0);
	while (how == HANG)
		utee_wait(1000000);
	for (unsigned i = 0; i < 6; i++)
		params->vals[i] = stats[i];
	return TEE_SUCCESS;
}

TEE_Result ta_main(unsigned long func, unsigned long session, struct params *params,
		   unsigned long cmd)
{
	(void)session;
	if (func == DUMP_MEMSTATS)
		return dump(params);
	if (func == INVOKE_COMMAND && cmd == 0) {
		allocated = (uint32_t)params->vals[0];
		most = allocated > most ? allocated : most;
	} else if (func == INVOKE_COMMAND) {
		how = (uint32_t)params->vals[0];
	}
	return TEE_SUCCESS;
}
