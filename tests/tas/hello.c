/* SPDX-License-Identifier: BSD-2-Clause */
/* A TA of a few commands: what the tests of the loader and the engine enter. */

#define TA_MAIN
#include "ta.h"

TA_HEADER(8192, TA_FLAG_SINGLE_INSTANCE | TA_FLAG_MULTI_SESSION,
	  { 0x11223344, 0x5566, 0x7788, { 1, 2, 3, 4, 5, 6, 7, 8 } });

__attribute__((visibility("default"))) struct elf_phdr_info __elf_phdr_info;

static unsigned sessions;
static TEE_Result add(struct params *p) { p->vals[0] += p->vals[1]; return TEE_SUCCESS; }
static TEE_Result swap(struct params *p)
{
	uint64_t a = p->vals[0];

	p->vals[0] = p->vals[1];
	p->vals[1] = a;
	return TEE_SUCCESS;
}

static TEE_Result log_it(struct params *p)
{
	(void)p;
	utee_log("hello", 5);
	return TEE_SUCCESS;
}

static TEE_Result eight(struct params *p)
{
	uint32_t object = 0;
	TEE_Result res = utee_storage_obj_create(1, p, 3, 4, 5, p + 1, 7, &object);

	p->vals[0] = object;
	return res;
}

static TEE_Result floats(struct params *p)
{
	double x = (uint32_t)p->vals[0];

	p->vals[0] = (uint32_t)(x * 1.5);
	return TEE_SUCCESS;
}

static TEE_Result count(struct params *p)
{
	p->vals[0] = sessions;
	return TEE_SUCCESS;
}

static TEE_Result headers(struct params *p)
{
	const struct dl_phdr_info *info = __elf_phdr_info.dlpi;

	p->vals[0] = __elf_phdr_info.count;
	p->vals[1] = info->phnum;
	p->vals[2] = *(const uint32_t *)info->phdr; /* p_type of the first: PT_LOAD */
	p->vals[3] = info->name[0];
	p->vals[4] = info->addr;
	return TEE_SUCCESS;
}

/* A table of pointers: relative relocations. */
static TEE_Result (*const commands[])(struct params *) = {
	add, swap, log_it, eight, floats, count, headers,
};

static TEE_Result (*const *volatile table)(struct params *) = commands;

TEE_Result ta_main(unsigned long func, unsigned long session, struct params *params,
		   unsigned long cmd)
{
	(void)session;
	switch (func) {
	case OPEN_SESSION:
		sessions++;
		return TEE_SUCCESS;
	case CLOSE_SESSION:
		sessions--;
		return TEE_SUCCESS;
	case INVOKE_COMMAND:
		if (cmd >= sizeof(commands) / sizeof(commands[0]))
			return TEE_ERROR_NOT_SUPPORTED;
		return table[cmd](params);
	default:
		return TEE_ERROR_NOT_SUPPORTED;
	}
}
