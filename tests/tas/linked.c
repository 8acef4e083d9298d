/* SPDX-License-Identifier: BSD-2-Clause */
/* A TA that needs a library, which needs another one and the TA itself. */

#define TA_MAIN
#include "ta.h"

TA_HEADER(8192, 0, { 1, 2, 3, { 4 } });

#define EXPORT __attribute__((visibility("default")))

EXPORT struct elf_phdr_info __elf_phdr_info;
EXPORT uint32_t main_value = 100;
EXPORT uint32_t both(void) { return 1; } /* the library has one, too: this one goes first */
EXPORT __attribute__((weak)) uint32_t missing(void);

extern uint32_t lib_value;
uint32_t lib_add(uint32_t a, uint32_t b);
uint32_t lib_both(void);

static uint32_t *volatile pointer = &lib_value;

TEE_Result ta_main(unsigned long func, unsigned long session, struct params *params,
		   unsigned long cmd)
{
	(void)func;
	(void)session;
	(void)cmd;
	params->vals[0] = lib_add(1, 2); /* 1 + 2 + main_value + 1000 of the second library */
	params->vals[1] = *pointer;
	params->vals[2] = lib_both();
	params->vals[3] = missing ? 1 : 0;
	params->vals[4] = __elf_phdr_info.count;
	params->vals[5] = (uint8_t)__elf_phdr_info.dlpi[1].name[0];
	return TEE_SUCCESS;
}
