/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers are made of slices of this size at most, the last one shorter: io_uring
 * registers at most 1 GiB at once, of host memory as of a dma-buf. Host memory is
 * cut at this size; dma-bufs may be smaller: see backend_memory.slice_bytes.
 */
#ifndef GDS_MEMORY_SLICE_H
#define GDS_MEMORY_SLICE_H

#include <stdint.h>

#define SLICE_BYTES (UINT64_C(1) << 30)

#endif
