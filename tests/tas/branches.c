/* SPDX-License-Identifier: BSD-2-Clause */
/* Pointer authentication and branch targets: built with -mbranch-protection=standard. */

#define TA_MAIN
#include "ta.h"

TA_HEADER(8192, 0, { 1, 2, 3, { 4 } });

enum { CALL, SIGN, CORRUPT, INTO_THE_MIDDLE, WILD };

__attribute__((noinline)) static uint32_t twice(uint32_t n)
{
	__asm__ volatile("" ::: "x19", "memory");
	return n * 2;
}

static uint32_t (*volatile function)(uint32_t) = twice;

TEE_Result ta_main(unsigned long func, unsigned long session, struct params *params,
		   unsigned long cmd)
{
	uintptr_t pointer = (uintptr_t)function;
	uintptr_t signed_pointer = pointer;

	(void)func;
	(void)session;
	switch (cmd) {
	case CALL:
		params->vals[0] = function((uint32_t)params->vals[0]);
		return TEE_SUCCESS;
	case SIGN:
		__asm__ volatile(".arch armv8.3-a\n	paciza %0" : "+r"(signed_pointer));
		params->vals[0] = signed_pointer != pointer;
		__asm__ volatile(".arch armv8.3-a\n	autiza %0" : "+r"(signed_pointer));
		params->vals[1] = signed_pointer == pointer;
		return TEE_SUCCESS;
	case CORRUPT:
		__asm__ volatile(".arch armv8.3-a\n	paciza %0" : "+r"(signed_pointer));
		signed_pointer ^= 1ULL << 52;
		__asm__ volatile(".arch armv8.3-a\n	autiza %0" : "+r"(signed_pointer));
		((uint32_t(*)(uint32_t))signed_pointer)(1);
		return TEE_SUCCESS;
	case INTO_THE_MIDDLE:
		((uint32_t(*)(uint32_t))(pointer + 4))(1);
		return TEE_SUCCESS;
	case WILD:
		return *(volatile uint32_t *)(uintptr_t)params->vals[0];
	default:
		return TEE_ERROR_BAD_PARAMETERS;
	}
}
