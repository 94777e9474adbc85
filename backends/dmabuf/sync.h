/* SPDX-License-Identifier: Apache-2.0 */
/* The ioctl that brackets what the CPU does with a dma-buf. */
#ifndef GDS_BACKENDS_DMABUF_SYNC_H
#define GDS_BACKENDS_DMABUF_SYNC_H

#include <stdint.h>

/*
 * `flags` are those of linux/dma-buf.h, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ for
 * one. Waits for what a device still does with the memory. Returns 0 or a negative
 * errno. A file of its own, so that tests can stand in for the kernel.
 */
int dmabuf_sync(int fd, uint64_t flags);

#endif
