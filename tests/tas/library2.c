/* SPDX-License-Identifier: BSD-2-Clause */
/* What the library needs. */

#include <stdint.h>

__attribute__((visibility("default"))) uint32_t second_value(void);
__attribute__((visibility("default"))) uint32_t second_value(void) { return 1000; }
