/* SPDX-License-Identifier: BSD-2-Clause */
/* Thread-local storage of a library, used by the TA and by itself. */

#include <stdint.h>

__attribute__((visibility("default"))) _Thread_local uint32_t lib_counter = 1000;

__attribute__((visibility("default"))) uint32_t *lib_next(void)
{
	return &lib_counter;
}
