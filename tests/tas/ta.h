/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a trusted application needs, and no more: types, its header, the entry function and the
 * system calls. Written from the contract of OP-TEE's user TAs; there is no library behind it.
 *
 * A TA has TA_HEADER(...) once, and defines ta_main(), which gets what the entry function gets.
 */

#ifndef TA_H
#define TA_H

#include <stddef.h>
#include <stdint.h>

typedef uint32_t TEE_Result;

#define TEE_SUCCESS 0x00000000
#define TEE_ERROR_GENERIC 0xFFFF0000
#define TEE_ERROR_BAD_PARAMETERS 0xFFFF0006
#define TEE_ERROR_NOT_SUPPORTED 0xFFFF000A

#define TA_FLAG_SINGLE_INSTANCE (1 << 2)
#define TA_FLAG_MULTI_SESSION (1 << 3)
#define TA_FLAG_INSTANCE_KEEP_ALIVE (1 << 4)

enum { OPEN_SESSION, CLOSE_SESSION, INVOKE_COMMAND };

struct uuid {
	uint32_t low;
	uint16_t mid, high;
	uint8_t node[8];
};

struct ta_head {
	struct uuid uuid;
	uint32_t stack_size;
	uint32_t flags;
	uint64_t depr_entry;
};

struct params {
	uint64_t types;
	uint64_t vals[8];
};

#define TA_HEADER(stack, ta_flags, ...)                                                           \
	const struct ta_head ta_head __attribute__((section(".ta_head"), used)) = {               \
		.uuid = __VA_ARGS__,                                                              \
		.stack_size = (stack),                                                            \
		.flags = (ta_flags),                                                              \
		.depr_entry = UINT64_MAX,                                                         \
	}

/* What the loader tells of the files in memory: OP-TEE's user_ta_header.h, <link.h>. */
struct dl_phdr_info {
	uintptr_t addr;
	const char *name;
	const void *phdr;
	uint16_t phnum;
	uint64_t adds, subs;
	size_t tls_modid;
	void *tls_data;
};

struct elf_phdr_info {
	uint32_t reserved;
	uint16_t count;
	uint8_t reserved2;
	char zero;
	struct dl_phdr_info *dlpi;
};

TEE_Result ta_main(unsigned long func, unsigned long session, struct params *params,
		   unsigned long cmd);

/*
 * System calls. number in x8 or r7; up to eight arguments in x0 to x7, or r0 to r3 and then on the
 * stack, with their address in r5 and their number in r6.
 */
#if defined(__aarch64__)
#define SYSCALL(name, number, on_stack)                                                           \
	__asm__(".text\n.balign 4\n.global " #name "\n.hidden " #name                             \
		"\n.type " #name ", %function\n" #name ":\n"                                      \
		"	mov x8, #" #number "\n	svc #0\n	ret\n")
#else
#define SYSCALL(name, number, on_stack)                                                           \
	__asm__(".text\n.balign 4\n.arm\n.global " #name "\n.hidden " #name                       \
		"\n.type " #name ", %function\n" #name ":\n"                                      \
		"	push {r5-r7, lr}\n	mov r7, #" #number "\n	mov r6, #" #on_stack "\n" \
		"	add r5, sp, #16\n	svc #0\n	pop {r5-r7, pc}\n")
#endif

_Noreturn void utee_return(unsigned long result);
void utee_log(const void *text, size_t size);
_Noreturn void utee_panic(unsigned long code, const void *registers);
TEE_Result utee_get_time(unsigned long category, uint32_t time[2]);
TEE_Result utee_random(void *buffer, size_t size);
TEE_Result utee_storage_obj_create(unsigned long storage, const void *id, size_t id_size,
				   unsigned long flags, unsigned long attributes, const void *data,
				   size_t size, uint32_t *object);

#ifdef TA_MAIN
SYSCALL(utee_return, 0, 0);
SYSCALL(utee_log, 1, 0);
SYSCALL(utee_panic, 2, 0);
SYSCALL(utee_get_time, 13, 0);
SYSCALL(utee_random, 33, 0);
SYSCALL(utee_storage_obj_create, 42, 4);

#if defined(__arm__)
/* OP-TEE's entry point is Arm code; the rest of a TA is Thumb. */
__attribute__((target("arm")))
#endif
_Noreturn void __ta_entry(unsigned long func, unsigned long session, struct params *params,
			  unsigned long cmd)
{
	utee_return(ta_main(func, session, params, cmd));
}
#endif

#endif
