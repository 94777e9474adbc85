/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registering dma-bufs with io_uring, in the two shapes that the kernel interface
 * has had. No released kernel has either yet: docs/kernel.md tells how to get one.
 */
#ifndef GDS_LANE_DMABUF_H
#define GDS_LANE_DMABUF_H

#include <stdbool.h>
#include <stdint.h>

enum dmabuf_shape {
	DMABUF_NONE = 0,
	DMABUF_PAIRS = 2,       /* of the series' second version: 16-byte entries */
	DMABUF_DESCRIPTORS = 3, /* since its third version: 80-byte descriptors */
};

/*
 * The newest shape that the running kernel speaks: found out once per process, by
 * emptying a slot of a small ring in each shape. DMABUF_NONE also where io_uring
 * itself is refused, or what the ring takes is short: then it is tried again next time.
 */
enum dmabuf_shape dmabuf_kernel_shape(void);
bool dmabuf_kernel_speaks(enum dmabuf_shape shape);

/* "descriptor shape v3"; "pair shape v2"; "none". Static storage. */
const char *dmabuf_shape_name(enum dmabuf_shape shape);

/*
 * Puts a dma-buf into the slot of a ring, for fixed reads from the open file
 * `target` alone. Returns 0 or a negative errno, -ENOSYS for a shape that the kernel
 * does not speak.
 */
int dmabuf_register(int ring_fd, enum dmabuf_shape shape, uint32_t slot, int target, int dmabuf);

#endif
