/* SPDX-License-Identifier: BSD-2-Clause */
/* A TA with constructors, which it finds and calls itself, as libutee does at the first open. */

#define TA_MAIN
#include "ta.h"

TA_HEADER(8192, 0, TA_UUID(NUMBER));

__attribute__((visibility("default"))) struct elf_phdr_info __elf_phdr_info;

#define PT_DYNAMIC 2
#define DT_INIT_ARRAY 25
#define DT_INIT_ARRAYSZ 27

struct phdr {
#if defined(__aarch64__)
	uint32_t type, flags;
	uint64_t offset, vaddr, paddr, filesz, memsz, align;
#else
	uint32_t type, offset, vaddr, paddr, filesz, memsz, flags, align;
#endif
};

struct dyn {
	uintptr_t tag, value;
};

static volatile uint32_t order; /* else the compiler runs the constructors */

__attribute__((constructor(101))) static void first(void) { order = order * 10 + 1; }
__attribute__((constructor(102))) static void second(void) { order = order * 10 + 2; }
__attribute__((constructor)) static void last(void) { order = order * 10 + 3; }

static unsigned construct(const struct dl_phdr_info *info)
{
	const struct phdr *phdr = info->phdr;
	uintptr_t array = 0, size = 0;

	for (unsigned i = 0; i < info->phnum; i++) {
		if (phdr[i].type != PT_DYNAMIC)
			continue;
		const struct dyn *dyn = (const struct dyn *)(uintptr_t)(info->addr + phdr[i].vaddr);

		for (; dyn->tag; dyn++) {
			if (dyn->tag == DT_INIT_ARRAY)
				array = dyn->value;
			else if (dyn->tag == DT_INIT_ARRAYSZ)
				size = dyn->value;
		}
	}
	for (unsigned i = 0; i < size / sizeof(uintptr_t); i++)
		((void (*const *)(void))(info->addr + array))[i]();
	return size / sizeof(uintptr_t);
}

TEE_Result ta_main(unsigned long func, unsigned long session, struct params *params,
		   unsigned long cmd)
{
	(void)session;
	(void)cmd;
	if (func == OPEN_SESSION) {
		params->vals[0] = construct(__elf_phdr_info.dlpi);
		params->vals[1] = order;
	}
	return TEE_SUCCESS;
}
