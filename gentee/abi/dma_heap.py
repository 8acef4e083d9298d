# SPDX-License-Identifier: BSD-2-Clause
"""DMA heaps (<linux/dma-heap.h>), as far as a heap of protected memory needs them."""

import os
from struct import Struct

# Of heaps, in /dev; and the name of protected memory for video (Linux drivers/tee/tee_heap.c).
FOLDER = "dma_heap/"
PROTECTED_HEAP = FOLDER + "protected,secure-video"

DMA_HEAP_IOCTL_ALLOC = 0xC0184800  # _IOWR('H', 0, struct dma_heap_allocation_data)
DMA_HEAP_ALLOCATION_DATA = Struct("<QIIQ")  # len fd fd_flags heap_flags
DMA_HEAP_VALID_FD_FLAGS = os.O_CLOEXEC | os.O_ACCMODE
