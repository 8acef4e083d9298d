/* SPDX-License-Identifier: BSD-2-Clause */
/* A TA that makes the system call with the command's number, with the eight values of parameters. */

#define TA_MAIN
#include "ta.h"

TA_HEADER(8192, TA_FLAG_CACHE_MAINTENANCE, TA_UUID(NUMBER));

static uint32_t scratch[1024] = { 1 };

TEE_Result ta_main(unsigned long func, unsigned long session, struct params *params,
		   unsigned long cmd)
{
	unsigned long arguments[8];

	(void)session;
	if (func == OPEN_SESSION) {
		params->vals[0] = (uintptr_t)scratch;
		params->vals[1] = (uintptr_t)ta_main;
		params->vals[2] = (uintptr_t)params;
		return TEE_SUCCESS;
	}
	for (unsigned n = 0; n < 8; n++)
		arguments[n] = params->vals[n];
	return utee_call(cmd, arguments);
}
