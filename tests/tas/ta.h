/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a trusted application needs, and no more: types, its header, the entry function and the
 * system calls. Written from the contract of OP-TEE's user TAs; there is no library behind it.
 *
 * A TA has TA_HEADER(...) once, and defines ta_main(), which gets what the entry function gets. One
 * that is to have the five entry points of GlobalPlatform includes "ta_entry_points.h" instead.
 */

#ifndef TA_H
#define TA_H

#include <stddef.h>
#include <stdint.h>

typedef uint32_t TEE_Result;

#define TEE_SUCCESS 0x00000000
#define TEE_ERROR_GENERIC 0xFFFF0000
#define TEE_ERROR_ACCESS_DENIED 0xFFFF0001
#define TEE_ERROR_CANCEL 0xFFFF0002
#define TEE_ERROR_BAD_PARAMETERS 0xFFFF0006
#define TEE_ERROR_BAD_STATE 0xFFFF0007
#define TEE_ERROR_ITEM_NOT_FOUND 0xFFFF0008
#define TEE_ERROR_NOT_SUPPORTED 0xFFFF000A
#define TEE_ERROR_OUT_OF_MEMORY 0xFFFF000C
#define TEE_ERROR_BUSY 0xFFFF000D
#define TEE_ERROR_SHORT_BUFFER 0xFFFF0010
#define TEE_ERROR_TARGET_DEAD 0xFFFF3024

#define TA_FLAG_SINGLE_INSTANCE (1 << 2)
#define TA_FLAG_MULTI_SESSION (1 << 3)
#define TA_FLAG_INSTANCE_KEEP_ALIVE (1 << 4)
#define TA_FLAG_CACHE_MAINTENANCE (1 << 7)
#define TA_FLAG_DEVICE_ENUM (1 << 9)
#define TA_FLAG_DEVICE_ENUM_SUPP (1 << 10)
#define TA_FLAG_INSTANCE_KEEP_CRASHED (1 << 13)

enum { OPEN_SESSION, CLOSE_SESSION, INVOKE_COMMAND, DUMP_MEMSTATS };

/* Kinds of parameters, four bits for each in params.types. */
enum {
	NONE,
	VALUE_INPUT,
	VALUE_OUTPUT,
	VALUE_INOUT,
	MEMREF_INPUT = 5,
	MEMREF_OUTPUT,
	MEMREF_INOUT,
};

#define TYPES(a, b, c, d) ((a) | (b) << 4 | (c) << 8 | (d) << 12)

#define TEE_TIMEOUT_INFINITE 0xFFFFFFFFul

#define TEE_MEMORY_ACCESS_READ 0x1
#define TEE_MEMORY_ACCESS_WRITE 0x2
#define TEE_MEMORY_ACCESS_ANY_OWNER 0x4
#define TEE_MEMORY_ACCESS_NONSECURE 0x10000000
#define TEE_MEMORY_ACCESS_SECURE 0x20000000

#define TEE_PROPSET_TEE_IMPLEMENTATION 0xFFFFFFFD
#define TEE_PROPSET_CURRENT_CLIENT 0xFFFFFFFE
#define TEE_PROPSET_CURRENT_TA 0xFFFFFFFF

/* <pta_system.h> */
#define PTA_SYSTEM_UUID                                                                           \
	{ 0x3a2f8978, 0x5dc0, 0x11e8, { 0x9c, 0x2d, 0xfa, 0x7a, 0xe0, 0x1b, 0xbe, 0xbc } }
#define PTA_SYSTEM_MAP_ZI 2
#define PTA_SYSTEM_UNMAP 3
#define PTA_SYSTEM_DLOPEN 10
#define PTA_SYSTEM_DLSYM 11
#define PTA_SYSTEM_MAP_FLAG_SHAREABLE 1

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

/* vals[2 * n] is a value's a, or a buffer; vals[2 * n + 1] a value's b, or a size. */
struct params {
	uint64_t types;
	uint64_t vals[8];
};

struct attribute {
	uint64_t a, b;
	uint32_t id;
};

/* The UUIDs of the TAs here: tests/arm_tas.py has uuid_of(n). */
#define TA_UUID(n) { (n), 0x7461, 0x7461, { 0x74, 0x61, 0x74, 0x61, 0x74, 0x61, 0x74, 0x61 } }

#ifndef NUMBER
#define NUMBER 0 /* which one this is */
#endif

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
#define UTEE_CALL                                                                                 \
	__asm__(".text\n.balign 4\n.global utee_call\n.hidden utee_call\n"                        \
		".type utee_call, %function\nutee_call:\n"                                        \
		"	mov x8, x0\n	mov x9, x1\n	ldp x0, x1, [x9]\n"                        \
		"	ldp x2, x3, [x9, #16]\n	ldp x4, x5, [x9, #32]\n"                   \
		"	ldp x6, x7, [x9, #48]\n	svc #0\n	ret\n")
#define SYSCALL(name, number, on_stack)                                                           \
	__asm__(".text\n.balign 4\n.global " #name "\n.hidden " #name                             \
		"\n.type " #name ", %function\n" #name ":\n"                                      \
		"	mov x8, #" #number "\n	svc #0\n	ret\n")
#else
#define UTEE_CALL                                                                                 \
	__asm__(".text\n.balign 4\n.arm\n.global utee_call\n.hidden utee_call\n"                  \
		".type utee_call, %function\nutee_call:\n"                                        \
		"	push {r4-r7, lr}\n	mov r7, r0\n	mov r4, r1\n"                      \
		"	add r5, r4, #16\n	mov r6, #4\n	ldm r4, {r0-r3}\n"                 \
		"	svc #0\n	pop {r4-r7, pc}\n")
#define SYSCALL(name, number, on_stack)                                                           \
	__asm__(".text\n.balign 4\n.arm\n.global " #name "\n.hidden " #name                       \
		"\n.type " #name ", %function\n" #name ":\n"                                      \
		"	push {r5-r7, lr}\n	mov r7, #" #number "\n	mov r6, #" #on_stack "\n" \
		"	add r5, sp, #16\n	svc #0\n	pop {r5-r7, pc}\n")
#endif

_Noreturn void utee_return(unsigned long result);
void utee_log(const void *text, size_t size);
_Noreturn void utee_panic(unsigned long code, const void *registers);
TEE_Result utee_get_property(unsigned long set, unsigned long index, void *name,
			     uint32_t *name_size, void *buffer, uint32_t *size, uint32_t *type);
TEE_Result utee_get_property_name_to_index(unsigned long set, const void *name,
					   unsigned long name_size, uint32_t *index);
TEE_Result utee_open_ta_session(const struct uuid *uuid, unsigned long timeout,
				struct params *params, uint32_t *session, uint32_t *origin);
TEE_Result utee_close_ta_session(unsigned long session);
TEE_Result utee_invoke_ta_command(unsigned long session, unsigned long timeout,
				  unsigned long cmd, struct params *params, uint32_t *origin);
TEE_Result utee_check_access_rights(uint32_t flags, const void *buffer, size_t size);
TEE_Result utee_get_cancellation_flag(uint32_t *cancelled);
TEE_Result utee_unmask_cancellation(uint32_t *before);
TEE_Result utee_mask_cancellation(uint32_t *before);
TEE_Result utee_wait(unsigned long milliseconds);
TEE_Result utee_get_time(unsigned long category, uint32_t time[2]);
TEE_Result utee_set_ta_time(const uint32_t time[2]);
TEE_Result utee_cryp_state_alloc(unsigned long algorithm, unsigned long mode, unsigned long key1,
				 unsigned long key2, uint32_t *state);
TEE_Result utee_cryp_state_copy(unsigned long target, unsigned long source);
TEE_Result utee_cryp_state_free(unsigned long state);
TEE_Result utee_hash_init(unsigned long state, const void *iv, size_t iv_size);
TEE_Result utee_hash_update(unsigned long state, const void *chunk, size_t size);
TEE_Result utee_hash_final(unsigned long state, const void *chunk, size_t size, void *hash,
			   uint64_t *hash_size);
TEE_Result utee_cipher_init(unsigned long state, const void *iv, size_t iv_size);
TEE_Result utee_cipher_update(unsigned long state, const void *source, size_t size, void *target,
			      uint64_t *target_size);
TEE_Result utee_cipher_final(unsigned long state, const void *source, size_t size, void *target,
			     uint64_t *target_size);
TEE_Result utee_cryp_obj_get_info(unsigned long object, uint32_t info[7]);
TEE_Result utee_cryp_obj_restrict_usage(unsigned long object, unsigned long usage);
TEE_Result utee_cryp_obj_get_attr(unsigned long object, unsigned long attribute, void *buffer,
				  uint64_t *size);
TEE_Result utee_cryp_obj_alloc(unsigned long type, unsigned long max_size, uint32_t *object);
TEE_Result utee_cryp_obj_close(unsigned long object);
TEE_Result utee_cryp_obj_reset(unsigned long object);
TEE_Result utee_cryp_obj_populate(unsigned long object, struct attribute *attributes,
				  unsigned long count);
TEE_Result utee_cryp_obj_copy(unsigned long target, unsigned long source);
TEE_Result utee_cryp_derive_key(unsigned long state, const struct attribute *attributes,
				unsigned long count, unsigned long key);
TEE_Result utee_random(void *buffer, size_t size);
TEE_Result utee_authenc_init(unsigned long state, const void *nonce, size_t nonce_size,
			     size_t tag_size, size_t aad_size, size_t payload_size);
TEE_Result utee_authenc_update_aad(unsigned long state, const void *aad, size_t size);
TEE_Result utee_authenc_update_payload(unsigned long state, const void *source, size_t size,
				       void *target, uint64_t *target_size);
TEE_Result utee_authenc_enc_final(unsigned long state, const void *source, size_t size,
				  void *target, uint64_t *target_size, void *tag,
				  uint64_t *tag_size);
TEE_Result utee_authenc_dec_final(unsigned long state, const void *source, size_t size,
				  void *target, uint64_t *target_size, const void *tag,
				  size_t tag_size);
TEE_Result utee_asymm_operate(unsigned long state, const struct attribute *attributes,
			      unsigned long count, const void *source, size_t size, void *target,
			      uint64_t *target_size);
TEE_Result utee_asymm_verify(unsigned long state, const struct attribute *attributes,
			     unsigned long count, const void *data, size_t size,
			     const void *signature, size_t signature_size);
TEE_Result utee_storage_obj_open(unsigned long storage, const void *id, size_t id_size,
				 unsigned long flags, uint32_t *object);
TEE_Result utee_storage_obj_create(unsigned long storage, const void *id, size_t id_size,
				   unsigned long flags, unsigned long attributes, const void *data,
				   size_t size, uint32_t *object);
TEE_Result utee_storage_obj_del(unsigned long object);
TEE_Result utee_storage_obj_rename(unsigned long object, const void *id, size_t id_size);
TEE_Result utee_storage_alloc_enum(uint32_t *enumerator);
TEE_Result utee_storage_free_enum(unsigned long enumerator);
TEE_Result utee_storage_reset_enum(unsigned long enumerator);
TEE_Result utee_storage_start_enum(unsigned long enumerator, unsigned long storage);
TEE_Result utee_storage_next_enum(unsigned long enumerator, uint32_t info[7], void *id,
				  uint64_t *id_size);
TEE_Result utee_storage_obj_read(unsigned long object, void *buffer, size_t size, uint64_t *count);
TEE_Result utee_storage_obj_write(unsigned long object, const void *buffer, size_t size);
TEE_Result utee_storage_obj_trunc(unsigned long object, size_t size);
TEE_Result utee_storage_obj_seek(unsigned long object, int32_t offset, unsigned long whence);
TEE_Result utee_cryp_obj_generate_key(unsigned long object, unsigned long key_size,
				      const struct attribute *attributes, unsigned long count);
TEE_Result utee_cache_operation(void *address, size_t size, unsigned long operation);

/* Any number, with eight arguments: 55 to 69 have no use, and above 70 there are none. */
TEE_Result utee_call(unsigned long number, const unsigned long arguments[8]);

/* A line of the log. */
#define LOG(text) utee_log(text "\n", sizeof(text))

/* The buffer and the size of a parameter. */
#define BUFFER(params, n) ((unsigned char *)(uintptr_t)(params)->vals[2 * (n)])
#define SIZE(params, n) ((size_t)(params)->vals[2 * (n) + 1])

#ifdef TA_MAIN
SYSCALL(utee_return, 0, 0);
SYSCALL(utee_log, 1, 0);
SYSCALL(utee_panic, 2, 0);
SYSCALL(utee_get_property, 3, 3);
SYSCALL(utee_get_property_name_to_index, 4, 0);
SYSCALL(utee_open_ta_session, 5, 1);
SYSCALL(utee_close_ta_session, 6, 0);
SYSCALL(utee_invoke_ta_command, 7, 1);
SYSCALL(utee_check_access_rights, 8, 0);
SYSCALL(utee_get_cancellation_flag, 9, 0);
SYSCALL(utee_unmask_cancellation, 10, 0);
SYSCALL(utee_mask_cancellation, 11, 0);
SYSCALL(utee_wait, 12, 0);
SYSCALL(utee_get_time, 13, 0);
SYSCALL(utee_set_ta_time, 14, 0);
SYSCALL(utee_cryp_state_alloc, 15, 1);
SYSCALL(utee_cryp_state_copy, 16, 0);
SYSCALL(utee_cryp_state_free, 17, 0);
SYSCALL(utee_hash_init, 18, 0);
SYSCALL(utee_hash_update, 19, 0);
SYSCALL(utee_hash_final, 20, 1);
SYSCALL(utee_cipher_init, 21, 0);
SYSCALL(utee_cipher_update, 22, 1);
SYSCALL(utee_cipher_final, 23, 1);
SYSCALL(utee_cryp_obj_get_info, 24, 0);
SYSCALL(utee_cryp_obj_restrict_usage, 25, 0);
SYSCALL(utee_cryp_obj_get_attr, 26, 0);
SYSCALL(utee_cryp_obj_alloc, 27, 0);
SYSCALL(utee_cryp_obj_close, 28, 0);
SYSCALL(utee_cryp_obj_reset, 29, 0);
SYSCALL(utee_cryp_obj_populate, 30, 0);
SYSCALL(utee_cryp_obj_copy, 31, 0);
SYSCALL(utee_cryp_derive_key, 32, 0);
SYSCALL(utee_random, 33, 0);
SYSCALL(utee_authenc_init, 34, 2);
SYSCALL(utee_authenc_update_aad, 35, 0);
SYSCALL(utee_authenc_update_payload, 36, 1);
SYSCALL(utee_authenc_enc_final, 37, 3);
SYSCALL(utee_authenc_dec_final, 38, 3);
SYSCALL(utee_asymm_operate, 39, 3);
SYSCALL(utee_asymm_verify, 40, 3);
SYSCALL(utee_storage_obj_open, 41, 1);
SYSCALL(utee_storage_obj_create, 42, 4);
SYSCALL(utee_storage_obj_del, 43, 0);
SYSCALL(utee_storage_obj_rename, 44, 0);
SYSCALL(utee_storage_alloc_enum, 45, 0);
SYSCALL(utee_storage_free_enum, 46, 0);
SYSCALL(utee_storage_reset_enum, 47, 0);
SYSCALL(utee_storage_start_enum, 48, 0);
SYSCALL(utee_storage_next_enum, 49, 0);
SYSCALL(utee_storage_obj_read, 50, 0);
SYSCALL(utee_storage_obj_write, 51, 0);
SYSCALL(utee_storage_obj_trunc, 52, 0);
SYSCALL(utee_storage_obj_seek, 53, 0);
SYSCALL(utee_cryp_obj_generate_key, 54, 0);
SYSCALL(utee_cache_operation, 70, 0);

UTEE_CALL;

/* What compilers call for structures and loops, whatever the flags. */
void *memcpy(void *target, const void *source, size_t size);
void *memcpy(void *target, const void *source, size_t size)
{
	for (volatile unsigned char *t = target; size--; t++)
		*t = ((const unsigned char *)source)[t - (volatile unsigned char *)target];
	return target;
}

void *memset(void *target, int byte, size_t size);
void *memset(void *target, int byte, size_t size)
{
	for (volatile unsigned char *t = target; size--; t++)
		*t = (unsigned char)byte;
	return target;
}

#if defined(__arm__)
void __aeabi_memcpy(void *target, const void *source, size_t size);
void __aeabi_memcpy(void *target, const void *source, size_t size)
{
	memcpy(target, source, size);
}

void __aeabi_memcpy4(void *, const void *, size_t) __attribute__((alias("__aeabi_memcpy")));
void __aeabi_memcpy8(void *, const void *, size_t) __attribute__((alias("__aeabi_memcpy")));

void __aeabi_memclr(void *target, size_t size);
void __aeabi_memclr(void *target, size_t size)
{
	memset(target, 0, size);
}

void __aeabi_memclr4(void *, size_t) __attribute__((alias("__aeabi_memclr")));
void __aeabi_memclr8(void *, size_t) __attribute__((alias("__aeabi_memclr")));
#endif

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
