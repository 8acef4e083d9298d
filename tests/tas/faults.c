/* SPDX-License-Identifier: BSD-2-Clause */
/* A TA that does what no TA may, one command for each. vals[0] is an address to use. */

#define TA_MAIN
#include "ta.h"

TA_HEADER(8192, 0, { 1, 2, 3, { 4 } });

static uint32_t data[1024] = { 1 };
static volatile unsigned depth;

__attribute__((noinline)) static unsigned deeper(unsigned n)
{
	volatile char block[256];

	block[n & 255] = (char)n;
	depth = n;
	return n == 1000000 ? 0 : deeper(n + 1) + block[n & 255];
}

enum {
	READ, WRITE, JUMP, READ_NULL, WRITE_CODE, RUN_DATA, OVERFLOW, UNDEFINED, BREAKPOINT,
	EXCLUSIVE, PRIVILEGED, SUPERVISOR, WAIT, UNALIGNED,
};

TEE_Result ta_main(unsigned long func, unsigned long session, struct params *params,
		   unsigned long cmd)
{
	uintptr_t address = (uintptr_t)params->vals[0];
	uint32_t value = 0;

	(void)func;
	(void)session;
	switch (cmd) {
	case READ:
		return *(volatile uint32_t *)address;
	case WRITE:
		*(volatile uint32_t *)address = 1;
		break;
	case JUMP:
		((void (*)(void))address)();
		break;
	case READ_NULL:
		return *(volatile uint32_t *)address;
	case WRITE_CODE:
		*(volatile uint32_t *)((uintptr_t)&ta_main & ~(uintptr_t)3) = 0;
		break;
	case RUN_DATA:
		((void (*)(void))(uintptr_t)data)();
		break;
	case OVERFLOW:
		return deeper(0);
	case UNDEFINED:
		__asm__ volatile("udf #0");
		break;
	case BREAKPOINT:
#if defined(__aarch64__)
		__asm__ volatile("brk #0x800");
#else
		__asm__ volatile("bkpt #0");
#endif
		break;
	case EXCLUSIVE:
		address = (uintptr_t)data + 1;
#if defined(__aarch64__)
		__asm__ volatile("ldaxr %w0, [%1]" : "=r"(value) : "r"(address) : "memory");
#else
		__asm__ volatile("ldrex %0, [%1]" : "=r"(value) : "r"(address) : "memory");
#endif
		return value;
	case PRIVILEGED:
#if defined(__aarch64__)
		__asm__ volatile("mrs %0, sctlr_el1" : "=r"(address));
#else
		__asm__ volatile("mrc p15, 0, %0, c1, c0, 0" : "=r"(address));
#endif
		break;
	case SUPERVISOR:
#if defined(__aarch64__)
		__asm__ volatile(".inst 0xd4000003"); /* smc #0 */
#else
		__asm__ volatile(".inst.w 0xf7f08000"); /* smc #0 */
#endif
		break;
	case WAIT:
		__asm__ volatile("yield\n	wfe\n	wfi\n	yield" ::: "memory");
		break;
	case UNALIGNED:
		return *(volatile uint32_t *)((uintptr_t)data + 1);
	default:
		return TEE_ERROR_BAD_PARAMETERS;
	}
	return TEE_SUCCESS;
}
