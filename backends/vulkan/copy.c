/* SPDX-License-Identifier: Apache-2.0 */
/* Staging memory, and the copies out of it that reads are made of. */
#include "vulkan.h"

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int alloc_block(struct vulkan_device *device, struct vulkan_staging *staging)
{
	static const VkMemoryPropertyFlags wanted[] = {
		VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT, 0
	};
	uint32_t type;
	int err = vulkan_block_alloc(device, staging->base.bytes, 0, wanted, false, &staging->block,
				     &type);

	if (err)
		return err;
	if (!staging->block.mapping) {
		vulkan_block_destroy(device, &staging->block);
		return gds_fail(ENOTSUP, "%s: it has no memory that the CPU can write",
				device->label);
	}
	return 0;
}

int vulkan_staging_attach(struct backend_device *base, void *host, size_t bytes,
			  struct backend_staging **result)
{
	struct vulkan_device *device = to_vulkan_device(base);
	struct vulkan_staging *staging = calloc(1, sizeof(*staging));
	uint32_t type;
	int err = -ENOTSUP;

	if (!staging)
		return gds_fail_errno(ENOMEM, "%s: cannot attach staging memory", device->label);
	staging->base = (struct backend_staging){ .device = base, .host = host, .bytes = bytes };
	if (device->physical.external_memory_host) {
		err = vulkan_block_import(device, host, bytes, &staging->block, &type);
		staging->imported = !err;
		if (err)
			gds_info("staging memory is copied once more: %s", gds_last_error());
	}
	if (err)
		err = alloc_block(device, staging);
	if (err)
		free(staging);
	else
		*result = &staging->base;
	return err;
}

void vulkan_staging_detach(struct backend_staging *base)
{
	struct vulkan_staging *staging = (struct vulkan_staging *)base;
	struct vulkan_device *device = to_vulkan_device(base->device);

	vulkan_wait_last(device, &staging->last_ticket);
	vulkan_block_destroy(device, &staging->block);
	free(staging);
}

static int grow(struct vulkan_pieces *pieces)
{
	size_t room = pieces->room ? pieces->room * 2 : 64;
	struct vulkan_piece *list = realloc(pieces->list, room * sizeof(*list));
	VkBufferCopy *regions;

	if (list)
		pieces->list = list;
	regions = realloc(pieces->regions, room * sizeof(*regions));
	if (regions)
		pieces->regions = regions;
	if (!list || !regions)
		return gds_fail_errno(ENOMEM, "cannot list the regions of a copy");
	pieces->room = room;
	return 0;
}

/* Where a copy reads from, at most `bytes` from `offset` on. */
static VkBuffer source_range(const struct backend_copy *copy, uint64_t offset, uint64_t *bytes,
			     uint64_t *place)
{
	struct vulkan_range range;

	*place = offset;
	if (copy->staging)
		return ((struct vulkan_staging *)copy->staging)->block.buffer;
	range = vulkan_range(to_vulkan_memory(copy->source), offset, *bytes);
	*place = range.offset;
	*bytes = range.bytes;
	return range.block->buffer;
}

/* One piece for each pair of slices that the copy touches. */
static int add_copy(struct vulkan_pieces *pieces, const struct backend_copy *copy)
{
	uint64_t from = copy->source_offset, to = copy->offset, left = copy->bytes;
	struct vulkan_range range;
	uint64_t bytes, place;
	VkBuffer source;
	int err;

	for (; left; from += bytes, to += bytes, left -= bytes) {
		if (pieces->count == pieces->room) {
			err = grow(pieces);
			if (err)
				return err;
		}
		range = vulkan_range(to_vulkan_memory(copy->memory), to, left);
		bytes = range.bytes;
		source = source_range(copy, from, &bytes, &place);
		pieces->list[pieces->count++] = (struct vulkan_piece){
			.from = source,
			.to = range.block->buffer,
			.region = { place, range.offset, bytes },
		};
	}
	return 0;
}

static int add_copies(struct vulkan_pieces *pieces, const struct backend_copy *copies, size_t count)
{
	int err = 0;

	pieces->count = 0;
	for (size_t i = 0; i < count && !err; i++)
		err = add_copy(pieces, &copies[i]);
	return err;
}

static int compare_u64(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int compare_pieces(const void *left, const void *right)
{
	const struct vulkan_piece *a = left, *b = right;
	int order = compare_u64((uintptr_t)a->from, (uintptr_t)b->from);

	if (!order)
		order = compare_u64((uintptr_t)a->to, (uintptr_t)b->to);
	if (!order)
		order = compare_u64(a->region.dstOffset, b->region.dstOffset);
	return order;
}

static bool continues(const VkBufferCopy *region, const VkBufferCopy *next)
{
	return next->srcOffset == region->srcOffset + region->size &&
	       next->dstOffset == region->dstOffset + region->size;
}

/* The regions of the run of pieces from `first` on that have the same two buffers. */
static size_t gather_run(struct vulkan_pieces *pieces, size_t first, uint32_t *region_count)
{
	const struct vulkan_piece *run = &pieces->list[first];
	uint32_t count = 0;
	size_t i;

	for (i = first; i < pieces->count; i++) {
		const struct vulkan_piece *piece = &pieces->list[i];

		if (piece->from != run->from || piece->to != run->to)
			break;
		if (count > 0 && continues(&pieces->regions[count - 1], &piece->region))
			pieces->regions[count - 1].size += piece->region.size;
		else
			pieces->regions[count++] = piece->region;
	}
	*region_count = count;
	return i;
}

static void record(struct vulkan_device *device, VkCommandBuffer commands)
{
	struct vulkan_pieces *pieces = &device->pieces;
	uint32_t count;

	qsort(pieces->list, pieces->count, sizeof(*pieces->list), compare_pieces);
	vulkan_barrier_from_host(device, commands, VK_PIPELINE_STAGE_TRANSFER_BIT);
	for (size_t first = 0, next; first < pieces->count; first = next) {
		next = gather_run(pieces, first, &count);
		device->calls.vkCmdCopyBuffer(commands, pieces->list[first].from,
					      pieces->list[first].to, count, pieces->regions);
	}
	vulkan_barrier_to_all(device, commands, VK_PIPELINE_STAGE_TRANSFER_BIT);
}

/* Where the staging memory is not the device's source, it is copied to what is. */
static void fill_blocks(const struct backend_copy *copies, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct vulkan_staging *staging = (struct vulkan_staging *)copies[i].staging;
		uint64_t offset = copies[i].source_offset;

		if (staging && !staging->imported)
			memcpy((char *)staging->block.mapping + offset,
			       (char *)staging->base.host + offset, copies[i].bytes);
	}
}

static void acquire(struct vulkan_device *device, VkCommandBuffer commands,
		    const struct backend_copy *copies, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		vulkan_acquire_range(device, commands, to_vulkan_memory(copies[i].memory),
				     copies[i].offset, copies[i].bytes);
		if (!copies[i].staging)
			vulkan_acquire_range(device, commands, to_vulkan_memory(copies[i].source),
					     copies[i].source_offset, copies[i].bytes);
	}
}

static void note_ticket(const struct backend_copy *copies, size_t count, uint64_t ticket)
{
	for (size_t i = 0; i < count; i++) {
		to_vulkan_memory(copies[i].memory)->last_ticket = ticket;
		if (copies[i].staging)
			((struct vulkan_staging *)copies[i].staging)->last_ticket = ticket;
		else
			to_vulkan_memory(copies[i].source)->last_ticket = ticket;
	}
}

int vulkan_copy(struct backend_device *base, const struct backend_copy *copies, size_t count,
		uint64_t *ticket)
{
	struct vulkan_device *device = to_vulkan_device(base);
	struct vulkan_frame *frame;
	int err;

	*ticket = 0;
	if (count == 0)
		return 0;
	fill_blocks(copies, count);
	err = vulkan_begin(device, &frame);
	if (err)
		return err;
	err = add_copies(&device->pieces, copies, count);
	if (err) {
		vulkan_abandon(device, frame);
		return err;
	}
	acquire(device, frame->commands, copies, count);
	record(device, frame->commands);
	/* Before the submission, so that the lock is still held. */
	note_ticket(copies, count, device->submitted + 1);
	return vulkan_submit(device, frame, ticket);
}
