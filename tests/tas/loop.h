/* SPDX-License-Identifier: BSD-2-Clause */
/* Plain computation: what a TA and a bare engine do alike. */

#include <stdint.h>

__attribute__((noinline)) static uint32_t loop(unsigned long count)
{
	uint32_t x = 2463534242u;

	while (count--) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
	}
	return x;
}
