/* SPDX-License-Identifier: BSD-2-Clause */
/* The loop alone, for an engine without a TEE around it. */

#include "loop.h"

__attribute__((visibility("default"))) uint32_t measured_loop(unsigned long count)
{
	return loop(count);
}
