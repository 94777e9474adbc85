/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Vulkan device as gds uses it, its memory, and its commands.
 *
 * All work goes to one queue and is counted by one timeline semaphore, whose
 * value after a submission is that submission's ticket. The copies of reads do
 * not wait; everything else is blocking and rare, and shares one piece of
 * scratch memory under `blocking_lock`, which is taken before `lock`.
 */
#ifndef GDS_VULKAN_VULKAN_H
#define GDS_VULKAN_VULKAN_H

#include "loader.h"
#include "memory/backend.h"

#include <pthread.h>
#include <stdatomic.h>

/* Command buffers that may be in flight at once; the next one waits. */
#define VULKAN_FRAMES_MAX 64

#define VULKAN_SCRATCH_PARTS      2
#define VULKAN_SCRATCH_PART_BYTES ((size_t)8 << 20)

/* A command buffer and the ticket that frees it for the next use. */
struct vulkan_frame {
	VkCommandBuffer commands;
	uint64_t ticket;
};

/* A buffer and the memory that it alone is bound to. */
struct vulkan_block {
	VkBuffer buffer;
	VkDeviceMemory memory;
	uint64_t bytes;           /* that may be used of the buffer */
	uint64_t allocated_bytes; /* of the memory */
	void *mapping;            /* of the buffer's first byte, or NULL */
	bool concurrent;          /* of VK_SHARING_MODE_CONCURRENT */
	atomic_bool foreign;      /* other devices write it: acquired before each use */
	uint64_t acquired;        /* in which recording, under device->lock */
};

/* Host-visible memory of two parts, used in turn by blocking calls. */
struct vulkan_scratch {
	struct vulkan_block block;
	uint64_t tickets[VULKAN_SCRATCH_PARTS];
};

/* One region of a copy between two buffers. */
struct vulkan_piece {
	VkBuffer from;
	VkBuffer to;
	VkBufferCopy region;
};

/* Room for the regions of one call to copy(), kept between calls. */
struct vulkan_pieces {
	struct vulkan_piece *list;
	VkBufferCopy *regions;
	size_t count;
	size_t room;
};

/* What computes checksums; made at the first use. */
struct vulkan_checksum {
	uint32_t lanes; /* of a work group */
	VkDescriptorSetLayout set_layout;
	VkPipelineLayout layout;
	VkPipeline pipeline;
	VkDescriptorPool pool;
	VkDescriptorSet sets[VULKAN_SCRATCH_PARTS];
};

struct vulkan_device {
	struct backend_device base;
	struct vulkan_instance instance;
	struct vulkan_physical physical;
	bool owned; /* the instance and the device are ours to destroy */
	bool unified;
	char name[16];        /* "vulkan:0" */
	char label[96];       /* "vulkan:0 (llvmpipe ...)", for messages */
	uint64_t slice_bytes; /* SLICE_BYTES; tests make it smaller */

	VkDevice handle;
	struct VolkDeviceTable calls;
	PFN_vkGetSemaphoreCounterValue get_counter; /* of Vulkan 1.2, or the extension's */
	PFN_vkWaitSemaphores wait_semaphores;
	PFN_vkSignalSemaphore signal_semaphore;

	VkQueue queue;
	uint32_t queue_family;
	bool queue_has_compute;
	uint32_t foreign_family;        /* what owns memory that another device writes */
	void (*queue_lock)(void *user); /* a caller's, or NULL */
	void (*queue_unlock)(void *user);
	void *queue_user;

	char no_export[256];   /* why no memory of the device can be exported, or "" */
	bool exports_pinnable; /* the kernel can pin mappings of exportable memory */

	pthread_mutex_t lock; /* of the frames, pieces and the queue */
	VkSemaphore timeline;
	uint64_t submitted; /* the last ticket */
	uint64_t recording; /* counts what was begun, whether it was submitted or not */
	VkCommandPool pool;
	struct vulkan_frame frames[VULKAN_FRAMES_MAX];
	size_t frame_count;
	struct vulkan_pieces pieces;

	pthread_mutex_t blocking_lock;
	struct vulkan_scratch scratch;
	struct vulkan_checksum checksum;
};

struct vulkan_memory {
	struct backend_memory base;
	uint64_t slice_bytes; /* of every slice but the last */
	uint32_t memory_type;
	bool imported;          /* a caller's buffer: one slice, not ours to destroy */
	bool unmap;             /* a caller's memory that was mapped here */
	uint64_t memory_offset; /* where an imported buffer is bound in its memory */
	/*
	 * Addresses that go over all slices: host pages that were imported, or the
	 * slices' mappings once more, side by side. Or NULL.
	 */
	void *pages;
	int dmabuf;           /* that was imported, or -1 */
	char no_export[256];  /* why it cannot be exported, or "" */
	uint64_t last_ticket; /* of the last copy to it, under device->lock */
	size_t slice_count;
	struct vulkan_block slices[];
};

struct vulkan_staging {
	struct backend_staging base;
	/*
	 * The host memory itself where the driver imports it; else memory of the
	 * driver that copies go through.
	 */
	struct vulkan_block block;
	bool imported;
	uint64_t last_ticket;
};

/* The range of a memory that lies in one slice, from `offset` on. */
struct vulkan_range {
	struct vulkan_block *block;
	uint64_t offset; /* in the block's buffer */
	uint64_t bytes;
};

static inline struct vulkan_device *to_vulkan_device(struct backend_device *device)
{
	return (struct vulkan_device *)device;
}

static inline struct vulkan_memory *to_vulkan_memory(struct backend_memory *memory)
{
	return (struct vulkan_memory *)memory;
}

/* At most `bytes` from `offset` on, cut where the slice ends. */
struct vulkan_range vulkan_range(struct vulkan_memory *memory, uint64_t offset, uint64_t bytes);

/* device.c */
int vulkan_list(int (*visit)(const char *backend, const struct gds_device_info *info,
			     const char *reason, void *user),
		void *user);
int vulkan_open(struct backend_device **device, const char *selector);
void vulkan_close(struct backend_device *device);
void vulkan_info(struct backend_device *device, struct gds_device_info *info);

/*
 * commands.c. begin takes device->lock and gives a command buffer to record
 * into; submit sends it off, abandon does not, and both give the lock back.
 */
int vulkan_commands_start(struct vulkan_device *device);
void vulkan_commands_stop(struct vulkan_device *device);
int vulkan_begin(struct vulkan_device *device, struct vulkan_frame **frame);
int vulkan_submit(struct vulkan_device *device, struct vulkan_frame *frame, uint64_t *ticket);
void vulkan_abandon(struct vulkan_device *device, struct vulkan_frame *frame);
/* What the CPU wrote is seen by `stage`. */
void vulkan_barrier_from_host(struct vulkan_device *device, VkCommandBuffer commands,
			      VkPipelineStageFlags stage);
/* And so is what all earlier work of the queue wrote, a caller's included. */
void vulkan_barrier_from_all(struct vulkan_device *device, VkCommandBuffer commands,
			     VkPipelineStageFlags stage);
/* What `stage` wrote is seen by all later work and by the CPU. */
void vulkan_barrier_to_all(struct vulkan_device *device, VkCommandBuffer commands,
			   VkPipelineStageFlags stage);
/* What other devices wrote to a block is seen by all that follows; nothing if they do not. */
void vulkan_barrier_from_foreign(struct vulkan_device *device, VkCommandBuffer commands,
				 struct vulkan_block *block);
/* The same for all slices that a range touches. */
void vulkan_acquire_range(struct vulkan_device *device, VkCommandBuffer commands,
			  struct vulkan_memory *memory, uint64_t offset, uint64_t bytes);
int vulkan_copied(struct backend_device *device, uint64_t ticket, uint64_t timeout_ns,
		  uint64_t *done);
/* Waits for as long as it takes; a device that is lost gives -EIO. */
int vulkan_wait(struct vulkan_device *device, uint64_t ticket);
/* The same for a ticket that device->lock guards and that may not have been submitted. */
void vulkan_wait_last(struct vulkan_device *device, const uint64_t *ticket);

/* blocks.c: buffers with memory, `exportable` as a dma-buf or not. destroy takes a block that is all zero. */
int vulkan_block_import(struct vulkan_device *device, void *pages, uint64_t bytes,
			struct vulkan_block *block, uint32_t *memory_type);
/*
 * In memory of the first kind of `wanted` that there is; the list ends with 0, which
 * takes any kind. Mapped where it can be. `total` is what the caller will take of
 * the heap in all, so that what cannot succeed is refused before it starts.
 */
int vulkan_block_alloc(struct vulkan_device *device, uint64_t bytes, uint64_t total,
		       const VkMemoryPropertyFlags *wanted, bool exportable,
		       struct vulkan_block *block, uint32_t *memory_type);
/* `bytes` from `offset` on, of a dma-buf of `dmabuf_bytes`. */
int vulkan_block_import_dmabuf(struct vulkan_device *device, int dmabuf, uint64_t dmabuf_bytes,
			       uint64_t offset, uint64_t bytes, const VkMemoryPropertyFlags *wanted,
			       struct vulkan_block *block, uint32_t *memory_type);
void vulkan_block_destroy(struct vulkan_device *device, struct vulkan_block *block);

/* memory.c. new takes room for the slices alone; describe says what was put there. */
struct vulkan_memory *vulkan_memory_new(struct vulkan_device *device, uint64_t bytes,
					uint64_t slice_bytes);
void vulkan_memory_describe(struct vulkan_device *device, struct vulkan_memory *memory);
/* The lists of memory that is wanted for `flags` of enum gds_buffer_flag. */
const VkMemoryPropertyFlags *vulkan_wanted_memory(const struct vulkan_device *device,
						  uint32_t flags);
int vulkan_alloc(struct backend_device *device, uint64_t bytes, uint32_t flags,
		 struct backend_memory **memory);
void vulkan_free(struct backend_memory *memory);
int vulkan_publish(struct backend_memory *memory, uint64_t offset, uint64_t bytes);

/* dmabuf.c. start finds out what the device can do, which is no error in any case. */
void vulkan_dmabuf_start(struct vulkan_device *device);
int vulkan_export_slice(struct backend_memory *memory, size_t slice,
			struct backend_export *exported);
int vulkan_import_dmabuf(struct backend_device *device, int fd, uint64_t offset, uint64_t bytes,
			 struct backend_memory **memory);
int vulkan_acquire(struct backend_memory *memory, uint64_t offset, uint64_t bytes);

/* copy.c */
int vulkan_staging_attach(struct backend_device *device, void *host, size_t bytes,
			  struct backend_staging **staging);
void vulkan_staging_detach(struct backend_staging *staging);
int vulkan_copy(struct backend_device *device, const struct backend_copy *copies, size_t count,
		uint64_t *ticket);

/*
 * blocking.c: the scratch memory, under blocking_lock. settle waits, after an error,
 * until the device has left it, and keeps the thread's message.
 */
int vulkan_scratch_need(struct vulkan_device *device);
void vulkan_scratch_settle(struct vulkan_device *device);
int vulkan_copy_out_locked(struct vulkan_memory *memory, uint64_t offset, void *data, size_t bytes);
int vulkan_copy_out(struct backend_memory *memory, uint64_t offset, void *data, size_t bytes);
int vulkan_copy_in(struct backend_memory *memory, uint64_t offset, const void *data, size_t bytes);

/* checksum.c */
int vulkan_checksum(struct backend_memory *memory, uint64_t offset, uint64_t bytes,
		    uint32_t *crc32);
void vulkan_checksum_stop(struct vulkan_device *device);

#endif
