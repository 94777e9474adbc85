/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is made of dma-bufs which the CPU can map: what udmabuf, dma-heap,
 * drm and vfio have in common. Each of them makes single slices; this room maps
 * them one after the other, brackets every access by the CPU with the sync ioctl
 * that the dma-buf interface asks for, and fills in most of a backend's table.
 *
 * The device of such a backend begins with struct dmabuf_device, and its table
 * holds the functions below.
 */
#ifndef GDS_BACKENDS_DMABUF_MEMORY_H
#define GDS_BACKENDS_DMABUF_MEMORY_H

#include "memory/backend.h"

/* What a backend makes for one slice. */
struct dmabuf_slice {
	uint64_t bytes; /* wanted, set by the caller of make(): whole pages */
	int fd;         /* the dma-buf, closed by this room; -1: see no_export_reason */
	int map_fd;     /* what the CPU maps, at map_offset. The backend's, as is handle. */
	uint64_t map_offset;
	uint64_t handle;
	const char *placement; /* the device's, unless make() says another */
};

struct dmabuf_device {
	struct backend_device base;
	char name[64];        /* for messages: "udmabuf:huge" */
	uint64_t slice_bytes; /* most of a slice: SLICE_BYTES; tests make it smaller */
	uint64_t page_bytes;  /* slices are multiples of it: a power of two, 4096 at least */
	const char *placement;
	/* Registers of a device, as it were: only aligned words may be moved. */
	bool io_memory;
	/* Why slices may lack a dma-buf, and what to do about it. */
	const char *no_export_reason;

	/*
	 * The most that a slice may have now, where the kernel's limit can change: a
	 * power of two. NULL: slice_bytes.
	 */
	uint64_t (*limit)(struct dmabuf_device *device);
	/*
	 * Whether a buffer of so many bytes can be had, before parts of it are made.
	 * NULL where making it tells soon enough.
	 */
	int (*admit)(struct dmabuf_device *device, uint64_t bytes);
	/* Makes a slice. `flags` are of enum gds_buffer_flag. */
	int (*make)(struct dmabuf_device *device, uint32_t flags, struct dmabuf_slice *slice);
	/* Releases what make() left in the slice, but for `fd`. */
	void (*release)(struct dmabuf_device *device, struct dmabuf_slice *slice);
};

/* Sets everything but the calls, with what most backends want. */
void dmabuf_device_init(struct dmabuf_device *device, const struct backend_ops *ops,
			const char *name);

/* For the backend's table. */
int dmabuf_memory_alloc(struct backend_device *device, uint64_t bytes, uint32_t flags,
			struct backend_memory **memory);
void dmabuf_memory_free(struct backend_memory *memory);
int dmabuf_memory_export_slice(struct backend_memory *memory, size_t slice,
			       struct backend_export *exported);
int dmabuf_memory_staging_attach(struct backend_device *device, void *host, size_t bytes,
				 struct backend_staging **staging);
void dmabuf_memory_staging_detach(struct backend_staging *staging);
int dmabuf_memory_copy(struct backend_device *device, const struct backend_copy *copies,
		       size_t count, uint64_t *ticket);
int dmabuf_memory_publish(struct backend_memory *memory, uint64_t offset, uint64_t bytes);
int dmabuf_memory_acquire(struct backend_memory *memory, uint64_t offset, uint64_t bytes);
int dmabuf_memory_copy_out(struct backend_memory *memory, uint64_t offset, void *data,
			   size_t bytes);
int dmabuf_memory_copy_in(struct backend_memory *memory, uint64_t offset, const void *data,
			  size_t bytes);
int dmabuf_memory_checksum(struct backend_memory *memory, uint64_t offset, uint64_t bytes,
			   uint32_t *crc32);

#define DMABUF_MEMORY_OPS                                                           \
	.alloc = dmabuf_memory_alloc, .free = dmabuf_memory_free,                   \
	.export_slice = dmabuf_memory_export_slice,                                 \
	.staging_attach = dmabuf_memory_staging_attach,                             \
	.staging_detach = dmabuf_memory_staging_detach, .copy = dmabuf_memory_copy, \
	.publish = dmabuf_memory_publish, .acquire = dmabuf_memory_acquire,         \
	.copy_out = dmabuf_memory_copy_out, .copy_in = dmabuf_memory_copy_in,       \
	.checksum = dmabuf_memory_checksum

#endif
