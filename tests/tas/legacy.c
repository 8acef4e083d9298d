/* SPDX-License-Identifier: BSD-2-Clause */
/* A TA of before OP-TEE 3.x: its entry point is in its header; and 3.9's way of constructors. */

#define TA_MAIN
#include "ta.h"

_Noreturn void __ta_entry(unsigned long, unsigned long, struct params *, unsigned long);

struct legacy_head {
	struct uuid uuid;
	uint32_t stack_size;
	uint32_t flags;
	void (*entry)(unsigned long, unsigned long, struct params *, unsigned long);
#if defined(__arm__)
	uint32_t high;
#endif
};

const struct legacy_head ta_head __attribute__((section(".ta_head"), used)) = {
	.uuid = { 1, 2, 3, { 4 } },
	.stack_size = 4096,
	.flags = TA_FLAG_MULTI_SESSION,
	.entry = __ta_entry,
};

__attribute__((visibility("default"))) struct {
	uint32_t reserved;
	uint16_t size, pad;
	struct {
		uint32_t flags;
		uint16_t init_size, fini_size;
		void (**init)(void);
		void (**fini)(void);
	} *ifs;
} __init_fini_info;

static volatile unsigned constructed; /* else the compiler runs the constructor */

__attribute__((constructor)) static void construct(void) { constructed = 5; }

TEE_Result ta_main(unsigned long func, unsigned long session, struct params *params,
		   unsigned long cmd)
{
	(void)session;
	(void)cmd;
	if (func == OPEN_SESSION)
		for (unsigned i = 0; i < __init_fini_info.ifs[0].init_size; i++)
			__init_fini_info.ifs[0].init[i]();
	params->vals[0] = constructed;
	params->vals[1] = __init_fini_info.size;
	params->vals[2] = __init_fini_info.ifs[0].flags;
	return TEE_SUCCESS;
}
