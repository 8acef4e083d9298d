/* SPDX-License-Identifier: BSD-2-Clause */
/* Thread-local storage, set up from what the loader tells, as libutee does it. */

#define TA_MAIN
#include "ta.h"

TA_HEADER(8192, 0, { 1, 2, 3, { 4 } });

__attribute__((visibility("default"))) struct elf_phdr_info __elf_phdr_info;

static _Thread_local uint32_t counter = 41;
static _Thread_local uint32_t zeros[4];
extern _Thread_local uint32_t lib_counter;
uint32_t *lib_next(void);

#define PT_TLS 7

struct phdr {
#if defined(__aarch64__)
	uint32_t type, flags;
	uint64_t offset, vaddr, paddr, filesz, memsz, align;
#else
	uint32_t type, offset, vaddr, paddr, filesz, memsz, flags, align;
#endif
};

static struct {
	void *dtv[2];
	uint8_t blocks[512];
} tcb __attribute__((aligned(16)));

static uint8_t *block[4]; /* by module id */

static void set_up(void)
{
	size_t at = 0;

	for (unsigned i = 0; i < __elf_phdr_info.count; i++) {
		const struct dl_phdr_info *info = __elf_phdr_info.dlpi + i;
		const struct phdr *phdr = info->phdr;

		for (unsigned j = 0; j < info->phnum; j++) {
			if (phdr[j].type != PT_TLS)
				continue;
			const uint8_t *from = (const uint8_t *)(info->addr + phdr[j].vaddr);

			block[info->tls_modid & 3] = tcb.blocks + at;
			for (size_t k = 0; k < phdr[j].memsz; k++)
				*(volatile uint8_t *)&tcb.blocks[at + k] =
					k < phdr[j].filesz ? from[k] : 0;
			at += phdr[j].memsz;
		}
	}
#if defined(__aarch64__)
	__asm__ volatile("msr tpidr_el0, %0" ::"r"(&tcb));
#endif
}

#if defined(__arm__)
__attribute__((visibility("default"))) void *__tls_get_addr(const unsigned long *index)
{
	return block[index[0] & 3] + index[1];
}
#endif

TEE_Result ta_main(unsigned long func, unsigned long session, struct params *params,
		   unsigned long cmd)
{
	(void)session;
	(void)cmd;
	if (func == OPEN_SESSION) {
		set_up();
		return TEE_SUCCESS;
	}
	params->vals[0] = ++counter;
	params->vals[1] = zeros[3]++;
#ifdef WITH_LIBRARY
	params->vals[2] = ++lib_counter;
	params->vals[3] = ++*lib_next();
#endif
	return TEE_SUCCESS;
}
