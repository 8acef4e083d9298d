/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The TA that is measured. Command 0 does nothing; bits 0 to 27 of the others are a count.
 *
 * LIBUTEE_SIZE bytes of code, which nobody calls, and as many relocations as a TA with OP-TEE's
 * libraries has make it as large as those are.
 */

#define TA_MAIN
#include "ta.h"

#include "loop.h"

TA_HEADER(8192, 0, TA_UUID(NUMBER));

enum { NOTHING, CALLS = 1, LOOP = 2 };

static const char name[64] __attribute__((aligned(64))) =
	"org.example.a.name.that.no.property.has.of.sixty.four.bytes....";

#define R4(x) x, x, x, x
#define R64(x) R4(R4(R4(x)))
const void *volatile pointers[] = { R64(name), R64(name), R64(name), R64(name), R64(name),
				    R64(name), R64(name), R64(name), R64(name), R64(name) };

__attribute__((used, section(".text.filler"))) static const unsigned char filler[80 << 10] = { 1 };

TEE_Result ta_main(unsigned long func, unsigned long session, struct params *params,
		   unsigned long cmd)
{
	unsigned long count = cmd & 0xfffffff;
	uint32_t index;

	(void)session;
	(void)params;
	if (func != INVOKE_COMMAND)
		return pointers[3] == name ? TEE_SUCCESS : TEE_ERROR_GENERIC;
	switch (cmd >> 28) {
	case NOTHING:
		return TEE_SUCCESS;
	case CALLS:
		while (count--)
			utee_get_property_name_to_index(0xFFFFFFFD, name, sizeof(name), &index);
		return TEE_SUCCESS;
	case LOOP:
		return loop(count) ? TEE_SUCCESS : TEE_ERROR_GENERIC;
	default:
		return TEE_ERROR_NOT_SUPPORTED;
	}
}
