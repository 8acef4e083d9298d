/* SPDX-License-Identifier: BSD-2-Clause */
/* A library that uses its TA's symbols and another library's. */

#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT extern uint32_t main_value;
EXPORT uint32_t second_value(void);
EXPORT uint32_t both(void) { return 2; }
#ifndef LIB_VALUE
#define LIB_VALUE 77
#endif
EXPORT uint32_t lib_value = LIB_VALUE;
EXPORT uint32_t lib_both(void) { return both(); }
EXPORT uint32_t lib_add(uint32_t a, uint32_t b) { return a + b + main_value + second_value(); }
