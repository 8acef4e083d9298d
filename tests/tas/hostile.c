/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A TA that works against the TEE: it makes any system call with any registers, touches and runs
 * any memory, and never ends. Parameter 0 is a value, parameter 1 memory of the client.
 */

#define TA_MAIN
#include "ta.h"

#ifndef FLAGS
#define FLAGS 0
#endif

TA_HEADER(16384, FLAGS, TA_UUID(NUMBER));

#define PAGE 4096
#define MAP_ZI 2
#define UNMAP 3
#define KEEP_FIRST 2
#define KEEP_SECOND 4

enum {
	PING, WHERE, CALLS, LOOP, DEEPER, PEEK, POKE, JUMP, RUN_STACK, WRITE_CODE, KEEP, USE_KEPT,
	CALL_FOR_EVER, LOG_FOR_EVER, FILL, MAP_ALL, MODIFY,
};

/* A system call: the registers before it, and after it. */
struct call {
	uint64_t number;
	uint64_t args[8]; /* x0 to x7; r0 to r3 and what is on the stack */
	uint64_t on_stack, stack; /* r6, and r5 where it is not 0 */
	uint64_t times; /* at most, as long as they succeed */
	uint64_t done; /* how often it came back */
	uint64_t result, result_high;
	uint64_t kept; /* the other argument registers are as they were */
};

static const uint32_t constant[4] = { 1, 2, 3, 4 };
static uint32_t data[4] = { 1 };
static uint8_t scratch[4 * PAGE] __attribute__((aligned(PAGE)));
static volatile unsigned depth;
static struct params *kept;
static uint64_t kept_address;

/* registers: those of a system call, with the number last. They are what they are afterwards. */
void raw_call(unsigned long *registers);

#if defined(__aarch64__)
#define REGISTERS 9
__asm__(".text\n.balign 4\n.global raw_call\n.hidden raw_call\n.type raw_call, %function\n"
	"raw_call:\n"
	"	stp x19, x30, [sp, #-16]!\n"
	"	mov x19, x0\n"
	"	ldp x0, x1, [x19]\n	ldp x2, x3, [x19, #16]\n"
	"	ldp x4, x5, [x19, #32]\n	ldp x6, x7, [x19, #48]\n"
	"	ldr x8, [x19, #64]\n"
	"	svc #0\n"
	"	stp x0, x1, [x19]\n	stp x2, x3, [x19, #16]\n"
	"	stp x4, x5, [x19, #32]\n	stp x6, x7, [x19, #48]\n"
	"	str x8, [x19, #64]\n"
	"	ldp x19, x30, [sp], #16\n	ret\n");
#else
#define REGISTERS 8
__asm__(".text\n.balign 4\n.arm\n.global raw_call\n.hidden raw_call\n.type raw_call, %function\n"
	"raw_call:\n"
	"	push {r4-r8, lr}\n"
	"	mov r8, r0\n"
	"	ldm r8, {r0-r7}\n"
	"	svc #0\n"
	"	stm r8, {r0-r7}\n"
	"	pop {r4-r8, pc}\n");
#endif

static void make(struct call *call)
{
	unsigned long before[REGISTERS], registers[REGISTERS];
#if defined(__arm__)
	uint32_t stack[16];
#endif

	call->done = 0;
	do {
		for (unsigned n = 0; n < 8; n++)
			before[n] = (unsigned long)call->args[n];
#if defined(__aarch64__)
		before[8] = call->number;
#else
		for (unsigned n = 0; n < 16; n++)
			stack[n] = n < 4 ? (uint32_t)call->args[4 + n] : 0;
		before[5] = call->stack ? (uint32_t)call->stack : (uintptr_t)stack;
		before[6] = (uint32_t)call->on_stack;
		before[7] = (uint32_t)call->number;
#endif
		for (unsigned n = 0; n < REGISTERS; n++)
			registers[n] = before[n];
		raw_call(registers);
		call->kept = 1;
		for (unsigned n = 1; n < REGISTERS; n++)
			call->kept &= registers[n] == before[n];
		call->result = (uint32_t)registers[0];
		call->result_high = (uint64_t)registers[0] >> 32;
		call->done++;
	} while (!call->result && call->done < call->times);
}

__attribute__((noinline)) static unsigned deeper(unsigned n)
{
	volatile char block[512];

	block[n & 511] = (char)n;
	depth = n;
	return n == 0xffffffff ? 0 : deeper(n + 1) + block[n & 511];
}

static void where(struct params *params)
{
	uint64_t *found = (uint64_t *)(uintptr_t)params->vals[2];

	found[0] = (uintptr_t)&ta_main & ~(uintptr_t)1;
	found[1] = (uintptr_t)constant;
	found[2] = (uintptr_t)data;
	found[3] = (uintptr_t)scratch;
	found[4] = (uintptr_t)&found;
	found[5] = (uintptr_t)params;
	found[6] = params->vals[2];
	found[7] = (uintptr_t)&ta_head;
}

/* bx lr, as data of the TA or of its client: what must not be run. */
static uintptr_t put_code(void *at)
{
#if defined(__aarch64__)
	*(volatile uint32_t *)at = 0xd65f03c0;
#else
	*(volatile uint32_t *)at = 0xe12fff1e;
#endif
	return (uintptr_t)at;
}

static TEE_Result system_pta(uint32_t session, unsigned long cmd, struct params *params,
			     uint32_t *origin)
{
	unsigned long registers[REGISTERS] = { session, 0xffffffff, cmd, (uintptr_t)params,
					       (uintptr_t)origin };
#if defined(__aarch64__)
	registers[8] = 7;
#else
	uint32_t stack[1] = { (uintptr_t)origin };

	registers[5] = (uintptr_t)stack;
	registers[6] = 1;
	registers[7] = 7;
#endif
	raw_call(registers);
	return (TEE_Result)registers[0];
}

static TEE_Result unmap(uint32_t session, uintptr_t address, uint32_t size)
{
	struct params params = { 0x11, { size, 0, 0, address, 0, 0, 0, 0 } };
	uint32_t origin = 0;

	return system_pta(session, UNMAP, &params, &origin);
}

/*
 * Memory of the system pseudo TA, until there is no more: its bytes, how often, the last result
 * and its origin, and where the last mapping is. Of each mapping only the first page may be kept, or every second one.
 */
static TEE_Result map_all(uint32_t session, struct params *params)
{
	uint32_t size = (uint32_t)params->vals[0], flags = (uint32_t)params->vals[1];
	uint64_t *got = (uint64_t *)(uintptr_t)params->vals[2];
	uint32_t origin = 0;
	TEE_Result res;

	got[0] = got[1] = 0;
	for (;;) {
		struct params map = { 0x131, { size, flags & 1, 0, 0, 0, 0, 0, 0 } };

		res = system_pta(session, MAP_ZI, &map, &origin);
		if (res)
			break;
		uintptr_t address = (uintptr_t)map.vals[3];

		for (uint32_t at = 0; at < size; at += PAGE)
			*(volatile uint8_t *)(address + at) = 1;
		got[0] += size;
		got[1]++;
		got[4] = address;
		if (flags & KEEP_FIRST)
			res = unmap(session, address + PAGE, size - PAGE);
		for (uint32_t at = PAGE; flags & KEEP_SECOND && !res && at < size; at += 2 * PAGE)
			res = unmap(session, address + at, PAGE);
		if (res)
			break;
	}
	got[2] = res;
	got[3] = origin;
	return TEE_SUCCESS;
}

static TEE_Result invoke(struct params *params, unsigned long cmd)
{
	uintptr_t address = (uintptr_t)params->vals[0];
	struct call *calls = (struct call *)(uintptr_t)params->vals[2];
	uint8_t code[16] __attribute__((aligned(16)));
	uint32_t now[2];

	switch (cmd) {
	case PING:
		params->vals[0]++;
		break;
	case WHERE:
		where(params);
		break;
	case CALLS:
		for (unsigned n = 0; n < params->vals[0]; n++)
			make(&calls[n]);
		break;
	case LOOP:
		for (;;)
			__asm__ volatile("" ::: "memory");
	case DEEPER:
		params->vals[0] = deeper(0);
		break;
	case PEEK:
		params->vals[0] = *(volatile uint8_t *)address;
		break;
	case POKE:
		*(volatile uint8_t *)address = 1;
		break;
	case JUMP:
		if (params->vals[1])
			put_code((void *)address);
		((void (*)(void))address)();
		break;
	case RUN_STACK:
		((void (*)(void))put_code(code))();
		break;
	case WRITE_CODE:
		put_code((void *)((uintptr_t)&deeper & ~(uintptr_t)3));
		break;
	case KEEP: /* the memory of a call, for the next one */
		kept = params;
		kept_address = params->vals[2];
		*(volatile uint32_t *)(uintptr_t)kept_address = 0x6b657074;
		break;
	case USE_KEPT:
		params->vals[0] = *(volatile uint32_t *)(uintptr_t)kept_address;
		break;
	case CALL_FOR_EVER:
		for (;;)
			utee_get_time(0, now);
	case LOG_FOR_EVER:
		for (;;)
			utee_log(scratch, sizeof(scratch));
	case FILL: /* scratch with the client's bytes */
		for (unsigned n = 0; n < params->vals[0] && n < sizeof(scratch); n++)
			scratch[n] = ((volatile uint8_t *)(uintptr_t)params->vals[2])[n];
		break;
	case MAP_ALL:
		return map_all((uint32_t)params->vals[4], params);
	case MODIFY: /* what was run a moment ago is overwritten */
		((void (*)(void))address)();
		put_code((void *)address);
		break;
	default:
		return TEE_ERROR_NOT_SUPPORTED;
	}
	return TEE_SUCCESS;
}

TEE_Result ta_main(unsigned long func, unsigned long session, struct params *params,
		   unsigned long cmd)
{
	(void)session;
	return func == INVOKE_COMMAND ? invoke(params, cmd) : TEE_SUCCESS;
}
