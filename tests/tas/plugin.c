/* SPDX-License-Identifier: BSD-2-Clause */
/* A TA that loads a library while it runs, by the system pseudo TA, as libdl does. */

#define FLAGS 0
#include "ta_entry_points.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT struct elf_phdr_info __elf_phdr_info;
EXPORT uint32_t main_value = 100; /* the library adds it */

enum { LOAD, ADD, VALUE, COUNT };

static const struct uuid system_pta = PTA_SYSTEM_UUID;
static uint32_t pta;

static TEE_Result create(void)
{
	struct params none = { 0 };
	uint32_t origin;

	return utee_open_ta_session(&system_pta, TEE_TIMEOUT_INFINITE, &none, &pta, &origin);
}

static void destroy(void) { utee_close_ta_session(pta); }
static void close_session(unsigned long session) { (void)session; }

static TEE_Result open_session(unsigned long session, struct params *p)
{
	(void)session;
	(void)p;
	return TEE_SUCCESS;
}

static TEE_Result ask(unsigned long cmd, struct params *p)
{
	uint32_t origin;

	return utee_invoke_ta_command(pta, TEE_TIMEOUT_INFINITE, cmd, p, &origin);
}

static TEE_Result symbol(const struct params *p, const char *name, size_t size, void **address)
{
	struct params dlsym = {
		.types = TYPES(MEMREF_INPUT, MEMREF_INPUT, VALUE_OUTPUT, NONE),
		.vals = { p->vals[0], p->vals[1], (uintptr_t)name, size },
	};
	TEE_Result result = ask(PTA_SYSTEM_DLSYM, &dlsym);

	*address = (void *)(uintptr_t)(dlsym.vals[4] << 32 | dlsym.vals[5]);
	return result;
}

#define SYMBOL(p, name, address) symbol(p, name, sizeof(name), address)

/* The first parameter is the UUID of the library, as a TEE_UUID; results are in the second one. */
static TEE_Result invoke(unsigned long session, struct params *p, unsigned long cmd)
{
	struct params dlopen = {
		.types = TYPES(MEMREF_INPUT, VALUE_INPUT, NONE, NONE),
		.vals = { p->vals[0], p->vals[1], 0x1102 /* NOW, GLOBAL and NODELETE */ },
	};
	void *address = 0;
	TEE_Result result;

	(void)session;
	switch (cmd) {
	case LOAD:
		return ask(PTA_SYSTEM_DLOPEN, &dlopen);
	case ADD:
		result = SYMBOL(p, "lib_add", &address);
		if (!result)
			p->vals[2] = ((uint32_t(*)(uint32_t, uint32_t))address)(
				(uint32_t)p->vals[2], (uint32_t)p->vals[3]);
		return result;
	case VALUE:
		result = SYMBOL(p, "lib_value", &address);
		if (!result)
			p->vals[2] = (*(uint32_t *)address)++;
		return result;
	case COUNT:
		p->vals[2] = __elf_phdr_info.count;
		return SYMBOL(p, "lib_nothing", &address);
	default:
		return TEE_ERROR_NOT_SUPPORTED;
	}
}
