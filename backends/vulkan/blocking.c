/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocking copies between device memory and memory of the caller. They go through
 * scratch memory in two parts, so that the device copies into one while the CPU
 * works on the other; and always by the device, so that what they show is what the
 * device sees, not what a CPU mapping shows.
 */
#include "vulkan.h"

#include "base/bits.h"
#include "base/error.h"

#include <errno.h>
#include <string.h>

/* Either way: one of `out` and `in` is set. */
struct transfer {
	struct vulkan_device *device;
	struct vulkan_memory *memory;
	uint64_t offset;
	char *out;
	const char *in;
	size_t bytes;
};

int vulkan_scratch_need(struct vulkan_device *device)
{
	static const VkMemoryPropertyFlags wanted[] = {
		VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT |
			VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
		VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
		0,
	};
	struct vulkan_block *block = &device->scratch.block;
	uint32_t type;
	int err;

	if (block->mapping)
		return 0;
	err = vulkan_block_alloc(device, VULKAN_SCRATCH_PARTS * VULKAN_SCRATCH_PART_BYTES, 0,
				 wanted, false, block, &type);
	if (err)
		return err;
	if (!block->mapping) {
		vulkan_block_destroy(device, block);
		return gds_fail(ENOTSUP, "%s: it has no memory that the CPU can read",
				device->label);
	}
	return 0;
}

static size_t chunk_bytes(const struct transfer *transfer, size_t chunk)
{
	return min_u64(VULKAN_SCRATCH_PART_BYTES,
		       transfer->bytes - chunk * VULKAN_SCRATCH_PART_BYTES);
}

static uint64_t scratch_offset(size_t chunk)
{
	return chunk % VULKAN_SCRATCH_PARTS * VULKAN_SCRATCH_PART_BYTES;
}

static void record_chunk(const struct transfer *transfer, VkCommandBuffer commands, size_t chunk)
{
	struct vulkan_device *device = transfer->device;
	VkBuffer buffer = device->scratch.block.buffer;
	uint64_t scratch = scratch_offset(chunk);
	uint64_t at = transfer->offset + chunk * VULKAN_SCRATCH_PART_BYTES;
	uint64_t left = chunk_bytes(transfer, chunk);

	for (struct vulkan_range range; left; left -= range.bytes) {
		range = vulkan_range(transfer->memory, at, left);
		const VkBufferCopy out = { range.offset, scratch, range.bytes };
		const VkBufferCopy in = { scratch, range.offset, range.bytes };

		if (transfer->out)
			device->calls.vkCmdCopyBuffer(commands, range.block->buffer, buffer, 1,
						      &out);
		else
			device->calls.vkCmdCopyBuffer(commands, buffer, range.block->buffer, 1,
						      &in);
		at += range.bytes;
		scratch += range.bytes;
	}
}

static int start_chunk(const struct transfer *transfer, size_t chunk)
{
	struct vulkan_device *device = transfer->device;
	struct vulkan_frame *frame;
	int err;

	if (transfer->in)
		memcpy((char *)device->scratch.block.mapping + scratch_offset(chunk),
		       transfer->in + chunk * VULKAN_SCRATCH_PART_BYTES,
		       chunk_bytes(transfer, chunk));
	err = vulkan_begin(device, &frame);
	if (err)
		return err;
	vulkan_acquire_range(device, frame->commands, transfer->memory,
			     transfer->offset + chunk * VULKAN_SCRATCH_PART_BYTES,
			     chunk_bytes(transfer, chunk));
	vulkan_barrier_from_all(device, frame->commands, VK_PIPELINE_STAGE_TRANSFER_BIT);
	record_chunk(transfer, frame->commands, chunk);
	vulkan_barrier_to_all(device, frame->commands, VK_PIPELINE_STAGE_TRANSFER_BIT);
	transfer->memory->last_ticket = device->submitted + 1;
	return vulkan_submit(device, frame, &device->scratch.tickets[chunk % VULKAN_SCRATCH_PARTS]);
}

static int finish_chunk(const struct transfer *transfer, size_t chunk)
{
	struct vulkan_device *device = transfer->device;
	int err = vulkan_wait(device, device->scratch.tickets[chunk % VULKAN_SCRATCH_PARTS]);

	if (!err && transfer->out)
		memcpy(transfer->out + chunk * VULKAN_SCRATCH_PART_BYTES,
		       (char *)device->scratch.block.mapping + scratch_offset(chunk),
		       chunk_bytes(transfer, chunk));
	return err;
}

static int run(const struct transfer *transfer)
{
	struct vulkan_device *device = transfer->device;
	size_t chunks =
		(transfer->bytes + VULKAN_SCRATCH_PART_BYTES - 1) / VULKAN_SCRATCH_PART_BYTES;
	int err = vulkan_scratch_need(device);

	if (err)
		return err;
	/* Finishing a chunk frees its part for the one that comes PARTS later. */
	for (size_t i = 0; i < chunks + VULKAN_SCRATCH_PARTS && !err; i++) {
		if (i >= VULKAN_SCRATCH_PARTS)
			err = finish_chunk(transfer, i - VULKAN_SCRATCH_PARTS);
		if (!err && i < chunks)
			err = start_chunk(transfer, i);
	}
	if (err)
		vulkan_scratch_settle(device);
	return err;
}

/* After an error: the next user of the scratch memory must not find it in use. */
void vulkan_scratch_settle(struct vulkan_device *device)
{
	char message[GDS_ERROR_BYTES];

	gds_text_set(message, sizeof(message), "%s", gds_last_error());
	for (unsigned part = 0; part < VULKAN_SCRATCH_PARTS; part++)
		vulkan_wait(device, device->scratch.tickets[part]);
	gds_fail(0, "%s", message);
}

int vulkan_copy_out_locked(struct vulkan_memory *memory, uint64_t offset, void *data, size_t bytes)
{
	const struct transfer transfer = {
		.device = to_vulkan_device(memory->base.device),
		.memory = memory,
		.offset = offset,
		.out = data,
		.bytes = bytes,
	};

	return run(&transfer);
}

int vulkan_copy_out(struct backend_memory *base, uint64_t offset, void *data, size_t bytes)
{
	struct vulkan_device *device = to_vulkan_device(base->device);
	int err;

	pthread_mutex_lock(&device->blocking_lock);
	err = vulkan_copy_out_locked(to_vulkan_memory(base), offset, data, bytes);
	pthread_mutex_unlock(&device->blocking_lock);
	return err;
}

int vulkan_copy_in(struct backend_memory *base, uint64_t offset, const void *data, size_t bytes)
{
	struct vulkan_device *device = to_vulkan_device(base->device);
	const struct transfer transfer = {
		.device = device,
		.memory = to_vulkan_memory(base),
		.offset = offset,
		.in = data,
		.bytes = bytes,
	};
	int err;

	pthread_mutex_lock(&device->blocking_lock);
	err = run(&transfer);
	pthread_mutex_unlock(&device->blocking_lock);
	return err;
}
