/* SPDX-License-Identifier: BSD-2-Clause */
/* A TA that looks at the memory that its clients pass. tests/ta_clients.py has its commands. */

#ifndef FLAGS
#define FLAGS (TA_FLAG_SINGLE_INSTANCE | TA_FLAG_MULTI_SESSION)
#endif

#include "ta_entry_points.h"

enum {
	NOTHING, LOOK, TURN, SET_SIZE, KEEP, READ_KEPT, WRITE_KEPT, PEEK, RIGHTS, RENDEZVOUS, SUM,
	STACK_OF, GROWN, POKE, CACHE,
};

enum { PARAMETER, ON_STACK, IN_DATA, IN_BSS, CONSTANT, CODE, AT_NULL, KEPT, BELOW_STACK };

static unsigned char *kept;
static unsigned char in_data[64] = { 1 };
static unsigned char in_bss[64];
static const unsigned char constant[64] = { 1 };

#ifndef BSS
#define BSS 4096
#endif
static unsigned char grown[BSS];

static TEE_Result create(void) { return TEE_SUCCESS; }
static void destroy(void) { }
static void close_session(unsigned long session) { (void)session; }

static TEE_Result open_session(unsigned long session, struct params *p)
{
	(void)session;
	if ((p->types & 0xf) == MEMREF_INOUT)
		kept = BUFFER(p, 0);
	return TEE_SUCCESS;
}

/* Of the first two references: how far apart they are, whether they are NULL, their sizes. */
static TEE_Result look(struct params *p)
{
	p->vals[4] = (uint32_t)(p->vals[2] - p->vals[0]);
	p->vals[5] = (p->vals[0] == 0) | (p->vals[2] == 0) << 1 | (p->vals[0] & 0xfff) << 4 |
		     (p->vals[2] & 0xfff) << 16;
	p->vals[6] = p->vals[1];
	p->vals[7] = p->vals[3];
	return TEE_SUCCESS;
}

static TEE_Result turn(struct params *p)
{
	for (unsigned n = 0; n < 4; n++) {
		if ((p->types >> 4 * n & 0xf) < MEMREF_INPUT)
			continue;
		for (size_t i = 0; i < SIZE(p, n); i++)
			BUFFER(p, n)[i] ^= 0xff;
	}
	return TEE_SUCCESS;
}

/* Copy what is at an offset from the first reference, inside of it or not, into the third. */
static TEE_Result peek(struct params *p)
{
	const unsigned char *from = BUFFER(p, 0) + (int32_t)p->vals[2];

	for (size_t i = 0; i < SIZE(p, 2); i++)
		BUFFER(p, 2)[i] = from[i];
	return TEE_SUCCESS;
}

static TEE_Result rights(struct params *p)
{
	unsigned char on_stack[64];
	const unsigned char *places[] = {
		BUFFER(p, 0), on_stack, in_data, in_bss, constant,
		(const unsigned char *)((uintptr_t)rights & ~(uintptr_t)1), 0, kept,
		on_stack - 65536,
	};

	on_stack[0] = 0;
	__asm__ volatile("" ::"r"(on_stack) : "memory");
	p->vals[2] = utee_check_access_rights((uint32_t)p->vals[2],
					      places[p->vals[4]] + (int32_t)p->vals[5],
					      (size_t)p->vals[3]);
	return TEE_SUCCESS;
}

/* Two that are called at once: each says that it is here and waits for the other. */
static TEE_Result rendezvous(struct params *p)
{
	volatile uint32_t *here = (volatile uint32_t *)BUFFER(p, 0);
	uint32_t me = (uint32_t)p->vals[2];

	here[me] = 1;
	while (!here[1 - me])
		;
	return TEE_SUCCESS;
}

static TEE_Result sum(struct params *p)
{
	uint32_t total = 0;

	for (unsigned n = 0; n < 3; n++) {
		if ((p->types >> 4 * n & 0xf) < MEMREF_INPUT)
			continue;
		for (size_t i = 0; i < SIZE(p, n); i++)
			total = total * 31 + BUFFER(p, n)[i];
	}
	p->vals[6] = total;
	return TEE_SUCCESS;
}

__attribute__((noinline)) static uint32_t stack_of(size_t size)
{
	volatile unsigned char block[1024];

	for (unsigned i = 0; i < sizeof(block); i += 64)
		block[i] = 1;
	return size < sizeof(block) ? 1 : stack_of(size - sizeof(block)) + block[0];
}

static TEE_Result invoke(unsigned long session, struct params *p, unsigned long cmd)
{
	(void)session;
	switch (cmd) {
	case NOTHING:
		return TEE_SUCCESS;
	case LOOK:
		return look(p);
	case TURN:
		return turn(p);
	case SET_SIZE:
		p->vals[1] = p->vals[2];
		return (TEE_Result)p->vals[3];
	case KEEP:
		kept = BUFFER(p, 0);
		return TEE_SUCCESS;
	case READ_KEPT:
		p->vals[6] = kept[0];
		return TEE_SUCCESS;
	case WRITE_KEPT:
		kept[0] = 1;
		return TEE_SUCCESS;
	case PEEK:
		return peek(p);
	case POKE:
		BUFFER(p, 0)[(int32_t)p->vals[2]] = (unsigned char)p->vals[3];
		return TEE_SUCCESS;
	case RIGHTS:
		return rights(p);
	case RENDEZVOUS:
		return rendezvous(p);
	case SUM:
		return sum(p);
	case STACK_OF:
		p->vals[0] = stack_of((size_t)p->vals[0]);
		return TEE_SUCCESS;
	case GROWN:
		p->vals[0] = 0;
		for (size_t i = 0; i < sizeof(grown); i += 4096)
			p->vals[0] += ++grown[i];
		return TEE_SUCCESS;
	case CACHE:
		return utee_cache_operation(BUFFER(p, 0), SIZE(p, 0), (unsigned long)p->vals[2]);
	default:
		return TEE_ERROR_NOT_SUPPORTED;
	}
}
