/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a backend is: a table of calls that gives the core devices, their memory
 * and copies into it. The core knows no vendor; a backend knows nothing of
 * files, lanes or plans. memory/registry.c holds the only list of backends.
 *
 * Every call that can fail returns a negative errno and leaves a message through
 * gds_fail(). Calls on one device may come from several threads at once, and the
 * backend does the locking that its driver asks for.
 */
#ifndef GDS_MEMORY_BACKEND_H
#define GDS_MEMORY_BACKEND_H

#include "memory/slice.h"

#include <gds/gds.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each backend embeds this at the start of its own structure. */
struct backend_device {
	const struct backend_ops *ops;
};

/*
 * Memory of a device. Embedded at the start of the backend's structure.
 */
struct backend_memory {
	struct backend_device *device;
	uint64_t bytes;
	/*
	 * Of each slice that is exported, but the last: slice i holds the bytes from
	 * i * slice_bytes on. A power of two, at most SLICE_BYTES, at least a page. Of
	 * no meaning where the backend exports nothing.
	 */
	uint64_t slice_bytes;
	/*
	 * Where the CPU can address the memory, or NULL. Contiguous over all slices.
	 * The storage may be asked to write there; whether the kernel can pin it is
	 * found out by trying.
	 */
	void *host;
	/* If host is NULL: why, in words, and what would help. Static storage. */
	const char *no_host_reason;
	const char *no_host_remedy;
	/* CPU or storage writes through `host` need ops->publish() to be seen. */
	bool needs_publish;
	/*
	 * What kind of place the memory lies in, in a word or two: "host", "vram",
	 * "visible vram". What is proven of the direct path into one buffer holds for
	 * others of the same device and placement. Static storage, not NULL.
	 */
	const char *placement;
};

/* A slice as a dma-buf. */
struct backend_export {
	int fd;          /* the caller's, who closes it */
	uint64_t bytes;  /* of the dma-buf: a multiple of 4096 */
	uint64_t offset; /* in the dma-buf, of the slice's first byte */
};

/* Host memory that a device copies from. Embedded likewise. */
struct backend_staging {
	struct backend_device *device;
	void *host;
	size_t bytes;
};

/*
 * A piece to be copied into a device's memory: from staging memory, or from other
 * memory of the same device where `staging` is NULL. Ranges may span slices.
 */
struct backend_copy {
	struct backend_memory *memory;
	struct backend_staging *staging;
	struct backend_memory *source;
	uint64_t offset;        /* in the memory */
	uint64_t source_offset; /* in the staging or source memory */
	uint64_t bytes;         /* any alignment */
};

struct backend_ops {
	const char *name;    /* "vulkan" */
	const char *summary; /* a line for gds-bench check */

	/* As gds_device_list(), for this backend alone. */
	int (*list)(int (*visit)(const char *backend, const struct gds_device_info *info,
				 const char *reason, void *user),
		    void *user);

	/* `selector` is what follows the colon of the device's name, or "". */
	int (*open)(struct backend_device **device, const char *selector);
	/*
	 * In place of the two above, for backends that were registered from outside: the
	 * same functions serve all of those, and are told which.
	 */
	int (*list_registered)(const struct backend_ops *ops,
			       int (*visit)(const char *backend, const struct gds_device_info *info,
					    const char *reason, void *user),
			       void *user);
	int (*open_registered)(const struct backend_ops *ops, struct backend_device **device,
			       const char *selector);
	/* All memory and staging of the device is gone by then. */
	void (*close)(struct backend_device *device);
	void (*info)(struct backend_device *device, struct gds_device_info *info);

	/* `flags` are of enum gds_buffer_flag. */
	int (*alloc)(struct backend_device *device, uint64_t bytes, uint32_t flags,
		     struct backend_memory **memory);
	/* Frees memory that was allocated, or lets go of what was imported. */
	void (*free)(struct backend_memory *memory);

	/*
	 * Exports slice number `slice` as a dma-buf that other devices can write to,
	 * peer to peer where the memory is the device's own. -EOPNOTSUPP where this
	 * memory cannot be exported, with the reason. NULL for a backend that has no
	 * dma-bufs.
	 */
	int (*export_slice)(struct backend_memory *memory, size_t slice,
			    struct backend_export *exported);
	/*
	 * Takes a range of a dma-buf as memory. `fd` stays the caller's. NULL for a
	 * backend that takes none.
	 */
	int (*import_dmabuf)(struct backend_device *device, int fd, uint64_t offset, uint64_t bytes,
			     struct backend_memory **memory);

	/*
	 * Makes page-aligned host memory, owned by the core, a source of copies. A
	 * driver that cannot import it copies it on through memory of its own.
	 */
	int (*staging_attach)(struct backend_device *device, void *host, size_t bytes,
			      struct backend_staging **staging);
	void (*staging_detach)(struct backend_staging *staging);

	/*
	 * Starts copies, in any order. `*ticket` rises with each call; 0 says that
	 * the copies are already done. Staging memory is left alone until then.
	 */
	int (*copy)(struct backend_device *device, const struct backend_copy *copies, size_t count,
		    uint64_t *ticket);
	/*
	 * The highest ticket whose copies, and all before, are done and seen by work
	 * that is submitted to the device from now on. Waits for `ticket` for at
	 * most `timeout_ns` (0: not at all), which is no error. A device that is
	 * lost gives -EIO. NULL where copy() never gives a ticket.
	 */
	int (*copied)(struct backend_device *device, uint64_t ticket, uint64_t timeout_ns,
		      uint64_t *done);

	/*
	 * Makes what the CPU or the storage wrote through memory->host visible to
	 * work that is submitted from now on. NULL where nothing is to be done.
	 */
	int (*publish)(struct backend_memory *memory, uint64_t offset, uint64_t bytes);

	/*
	 * Makes what a drive wrote through exported slices visible to work that is
	 * submitted from now on. The range spans several reads, and what lies between
	 * them, to which other reads may be under way. NULL where nothing is to be done.
	 */
	int (*acquire)(struct backend_memory *memory, uint64_t offset, uint64_t bytes);

	/* Blocking copies by the device, and the device's CRC-32 (zlib's). */
	int (*copy_out)(struct backend_memory *memory, uint64_t offset, void *data, size_t bytes);
	int (*copy_in)(struct backend_memory *memory, uint64_t offset, const void *data,
		       size_t bytes);
	int (*checksum)(struct backend_memory *memory, uint64_t offset, uint64_t bytes,
			uint32_t *crc32);
};

extern const struct backend_ops backend_vulkan;  /* backends/vulkan/ */
extern const struct backend_ops backend_cuda;    /* backends/cuda/ */
extern const struct backend_ops backend_drm;     /* backends/drm/ */
extern const struct backend_ops backend_udmabuf; /* backends/udmabuf/ */
extern const struct backend_ops backend_dmaheap; /* backends/dmaheap/ */
extern const struct backend_ops backend_vfio;    /* backends/vfio/ */
extern const struct backend_ops backend_host;    /* backends/host/ */

/*
 * The backends, in the order of preference, and after them those from outside; `*count` of
 * them, which stay where they are.
 */
const struct backend_ops *const *backend_registry(size_t *count);

/* Adds one, for the life of the process. -EEXIST where there is one of its name; -ENOSPC. */
int backend_registry_add(const struct backend_ops *ops);

/*
 * Entry points of single backends that have public calls of their own. They give
 * -ENOTSUP where the backend is not built in.
 */
int backend_host_import(struct backend_device *device, void *address, uint64_t bytes,
			struct backend_memory **memory);
int backend_vulkan_import_device(const struct gds_vulkan_device *vulkan,
				 struct backend_device **device);
int backend_vulkan_import_buffer(struct backend_device *device,
				 const struct gds_vulkan_buffer *vulkan,
				 struct backend_memory **memory);
int backend_vulkan_locate(struct backend_memory *memory, uint64_t offset, uint64_t *vk_buffer,
			  uint64_t *vk_offset, uint64_t *vk_bytes);
int backend_vulkan_signal(struct backend_device *device, uint64_t semaphore, uint64_t value);

int backend_cuda_import(struct backend_device *device, uint64_t address, uint64_t bytes,
			struct backend_memory **memory);
int backend_cuda_locate(struct backend_memory *memory, uint64_t *address);
/*
 * Has later work of a stream wait until the wait is released, which any thread may do,
 * once. The device is not closed before.
 */
struct cuda_wait;
int backend_cuda_stream_wait(struct backend_device *device, void *stream, struct cuda_wait **wait);
void backend_cuda_release(struct cuda_wait *wait);

#endif
