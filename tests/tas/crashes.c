/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A TA that dies inside of several functions, for reports of where it was. Each is built so that it
 * keeps its frame: no tail calls. vals[0] is an address or a depth.
 */

#define FLAGS 0
#include "ta_entry_points.h"

enum {
	PANIC, PANIC_BARE, LEAF, RECURSE, OVERFLOW, CLIMB, LOOP, WILD, INLINED, JUMP, CXX, MIXED,
	AFTER_CALL,
};

#define NOINLINE __attribute__((noinline))

static volatile uintptr_t sink;
static volatile uint32_t *volatile target;

/* What libutee does: registers are saved for whoever unwinds, and their place is passed on. */
_Noreturn void panic_saved(unsigned long code);
#if defined(__aarch64__)
__asm__(".text\n.balign 4\n.global panic_saved\n.hidden panic_saved\n"
	".type panic_saved, %function\npanic_saved:\n"
	"	stp x29, x30, [sp, #-16]!\n	mov x1, sp\n	mov x8, #2\n	svc #0\n"
	".size panic_saved, . - panic_saved\n");
#else
__asm__(".text\n.balign 4\n.arm\n.global panic_saved\n.hidden panic_saved\n"
	".type panic_saved, %function\npanic_saved:\n.fnstart\n"
	"	push {r0-r11, lr}\n.save {r0-r11, lr}\n	mov lr, pc\n	push {lr}\n.save {lr}\n"
	"	mov r1, sp\n	mov r6, #0\n	mov r7, #2\n	svc #0\n.fnend\n"
	".size panic_saved, . - panic_saved\n");
#endif

NOINLINE static void inner(uintptr_t how)
{
	if (how)
		panic_saved(TEE_ERROR_BAD_PARAMETERS);
	utee_panic(0x1234, NULL);
}

NOINLINE static void middle(uintptr_t how)
{
	inner(how);
	sink++;
}

/* No frame of its own: it calls nothing. */
NOINLINE static uintptr_t leaf(volatile uint32_t *address)
{
	return *address;
}

NOINLINE static uintptr_t leaf_caller(volatile uint32_t *address)
{
	return leaf(address) + 1;
}

NOINLINE static uintptr_t recurse(uintptr_t depth)
{
	volatile uintptr_t here = depth;

	if (!depth)
		return leaf_caller((volatile uint32_t *)here) + 1;
	return recurse(depth - 1) + here;
}

NOINLINE static uintptr_t overflow(uintptr_t depth)
{
	volatile char block[128];

	block[depth & 127] = (char)depth;
	if (depth == UINTPTR_MAX)
		return 0;
	return overflow(depth + 1) + (uintptr_t)block[depth & 127];
}

/* All that it needs of the stack is pushed by its first instruction, so that faults. */
NOINLINE static uintptr_t climb(uintptr_t depth)
{
	return depth == UINTPTR_MAX ? 0 : climb(depth + 1) + sink;
}

/* A frame that leads to itself, or to wherever vals[0] says. */
NOINLINE static uintptr_t broken_frame(uintptr_t link)
{
	uintptr_t *frame = __builtin_frame_address(0);

	frame[0] = link ? link : (uintptr_t)frame;
#if defined(__arm__)
	for (int i = 1; i < 8; i++)
		frame[i] = link ? link : (uintptr_t)&broken_frame;
#endif
	return leaf_caller(NULL) + sink;
}

__attribute__((always_inline)) static inline uintptr_t inlined(volatile uint32_t *address)
{
	return *address + 1;
}

NOINLINE static uintptr_t has_inlined(volatile uint32_t *address)
{
	sink++;
	return inlined(address);
}

/* What a C++ compiler would call vault::Store::open(unsigned int const*, char). */
NOINLINE static uintptr_t cxx(volatile uint32_t *address, char c)
	__asm__("_ZN5vault5Store4openEPKjc");

static uintptr_t cxx(volatile uint32_t *address, char c)
{
	return leaf_caller(address) + (uintptr_t)c;
}

#if defined(__arm__)
__attribute__((target("arm")))
#endif
NOINLINE static uintptr_t other_state(volatile uint32_t *address)
{
	return leaf_caller(address) + sink;
}

/* The link register still has the return of a call that is over. */
NOINLINE static uintptr_t after_call(void)
{
	sink = leaf((volatile uint32_t *)&sink);
	sink += *target;
	return leaf((volatile uint32_t *)&sink);
}

static TEE_Result create(void) { return TEE_SUCCESS; }
static void destroy(void) {}
static void close_session(unsigned long session) { (void)session; }

static TEE_Result open_session(unsigned long session, struct params *params)
{
	(void)session;
	(void)params;
	return TEE_SUCCESS;
}

static TEE_Result invoke(unsigned long session, struct params *params, unsigned long cmd)
{
	uintptr_t value = (uintptr_t)params->vals[0];

	(void)session;
	switch (cmd) {
	case PANIC:
	case PANIC_BARE:
		middle(cmd == PANIC);
		break;
	case LEAF:
		sink = leaf_caller((volatile uint32_t *)value);
		break;
	case RECURSE:
		sink = recurse(value);
		break;
	case OVERFLOW:
		sink = overflow(0);
		break;
	case CLIMB:
		sink = climb(0);
		break;
	case LOOP:
		sink = broken_frame(0);
		break;
	case WILD:
		sink = broken_frame(value);
		break;
	case INLINED:
		sink = has_inlined((volatile uint32_t *)value);
		break;
	case JUMP:
		((void (*)(void))value)();
		sink++;
		break;
	case CXX:
		sink = cxx((volatile uint32_t *)value, 'c');
		break;
	case MIXED:
		sink = other_state((volatile uint32_t *)value);
		break;
	case AFTER_CALL:
		target = (volatile uint32_t *)value;
		sink = after_call();
		break;
	default:
		return TEE_ERROR_BAD_PARAMETERS;
	}
	return TEE_SUCCESS;
}
