/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the bytes of an operation land: in the buffer itself, through host pages
 * or a dma-buf; or in a chunk of staging memory, which is the host's, or scratch
 * of the device for the path dmabuf. And the gate before that path: an operation
 * passes only when it is proven, or as the canary that proves it.
 */
#include "base/bits.h"
#include "base/error.h"
#include "memory/buffer.h"
#include "path/verdict.h"
#include "reader.h"
#include "storage/file.h"

#include <errno.h>

/* ---- Chunks ---- */

void aim_give_chunk(struct op *op)
{
	if (op->chunk == STAGING_NONE)
		return;
	staging_give(op->pool, op->chunk);
	op->chunk = STAGING_NONE;
	((struct reader_queue *)op->run->device)->chunks--;
}

static struct reader_device *device_of(const struct op *op)
{
	return op->read->route->buffer->device;
}

/* The scratch memory that the operation's chunk is of, or NULL. */
static struct scratch *scratch_of(const struct op *op)
{
	struct scratch *scratch = device_of(op)->scratch;

	for (int size = 0; size < STAGING_SIZES; size++)
		if (op->pool == &scratch[size].pool)
			return &scratch[size];
	return NULL;
}

static int take_chunk(struct gds_reader *reader, struct op *op)
{
	struct reader_queue *queue = (struct reader_queue *)op->run->device;
	enum staging_size size = staging_size_for(op->io.length);
	struct reader_device *device = device_of(op);
	int err;

	if (op->read->route->path == GDS_PATH_DMABUF && !device_scratch(reader, device, size)) {
		op->pool = &device->scratch[size].pool;
		op->path = GDS_PATH_DMABUF;
	} else {
		err = device_stage(reader, device, size);
		if (err)
			return err;
		op->pool = &reader->staging[size];
		op->path = GDS_PATH_BOUNCE;
	}
	/* A slow device must not come to hold all chunks. */
	if (queue->chunks && queue->chunks >= op->pool->count / reader->scheduler.busy)
		return -EAGAIN;
	op->chunk = staging_take(op->pool);
	if (op->chunk == STAGING_NONE)
		return -EAGAIN;
	queue->chunks++;
	return 0;
}

/* ---- The path dmabuf ---- */

/* The memory that the drive is to write to, and where in it. */
static struct backend_memory *dma_memory(const struct op *op, uint64_t *place)
{
	if (!op->io.staged) {
		*place = op->io.place;
		return op->read->route->buffer->buffer->memory;
	}
	*place = staging_offset(op->pool, op->chunk);
	return scratch_of(op)->memory;
}

static int leave_dmabuf(struct gds_reader *reader, struct op *op, const char *reason,
			const char *remedy)
{
	struct route *route = op->read->route;

	aim_give_chunk(op);
	if (route->path != GDS_PATH_DMABUF) /* another operation has seen to it */
		return AIM_RECUT;
	if (op->read->batch->flags & GDS_BATCH_NO_FALLBACK)
		return gds_fail(EOPNOTSUPP, "%s", reason);
	counter_add(&reader->counters.fallbacks, 1);
	return route_refuse_path(reader, route, reason, remedy) ?: AIM_RECUT;
}

/* Makes the operation no longer than a canary; what is cut off goes to its rest. */
static void shorten(struct op *op)
{
	struct plan_op *io = &op->io;
	uint32_t wanted;

	if (io->length <= CANARY_BYTES)
		return;
	wanted = (uint32_t)min_u64(CANARY_BYTES - io->skip, io->wanted);
	op->rest = (struct plan){
		.offset = io->offset + io->skip + wanted,
		.place = io->place + wanted,
		.left = io->wanted - wanted + op->rest.left,
	};
	io->length = CANARY_BYTES;
	io->wanted = wanted;
}

static int send_canary(struct gds_reader *reader, struct op *op, struct proof *proof)
{
	struct backend_memory *memory;
	uint64_t place;
	int err;

	shorten(op);
	memory = dma_memory(op, &place);
	err = canary_begin(reader, proof, op->read->route->file->file, op->io.offset, memory, place,
			   op->io.length);
	if (err) {
		aim_give_chunk(op);
		return err;
	}
	op->proof = proof;
	return 0;
}

static int pass_gate(struct gds_reader *reader, struct op *op, const struct backend_memory *memory)
{
	const struct gds_file *file = op->read->route->file->file;
	struct proof *proof =
		proof_get(reader, device_of(op)->device, file->device, memory->placement);

	if (!proof)
		return gds_fail_errno(ENOMEM, "cannot prove the direct path");
	switch (proof_check(reader, proof)) {
	case PROOF_PASSED:
		return 0;
	case PROOF_NONE:
		if (!reader->canary_in_flight)
			return send_canary(reader, op, proof);
		break;
	case PROOF_PENDING:
		break;
	case PROOF_FAILED:
		return leave_dmabuf(reader, op, proof->finding, PROOF_REMEDY);
	}
	aim_give_chunk(op);
	return -EAGAIN;
}

static int aim_dmabuf(struct gds_reader *reader, struct op *op)
{
	struct route *route = op->read->route;
	struct gds_path_verdict verdict;
	struct dmabuf_map *map;
	uint64_t place;
	struct backend_memory *memory = dma_memory(op, &place);
	int err;

	/* A dma-buf belongs to the descriptor with O_DIRECT, which may be given up by now. */
	if (!route->file->direct)
		return leave_dmabuf(reader, op, route->file->reason, "use mapped or bounce");
	err = dmabuf_map_get(reader, route->file, memory, &map);
	if (err)
		return err;
	if (dmabuf_slot_get(reader, map, place, &op->slot, &verdict))
		return leave_dmabuf(reader, op, verdict.reason, verdict.remedy);
	return pass_gate(reader, op, memory);
}

/* ---- All paths ---- */

int aim_op(struct gds_reader *reader, struct op *op)
{
	const struct route *route = op->read->route;
	int err;

	op->path = route->path;
	if (op->io.staged) {
		err = take_chunk(reader, op);
		if (err)
			return err;
	}
	if (op->path == GDS_PATH_DMABUF) {
		err = aim_dmabuf(reader, op);
		if (err)
			return err;
		op->slot->in_flight++;
	}
	return 0;
}

struct lane_read aim_lane_read(const struct gds_reader *reader, const struct op *op)
{
	const struct route *route = op->read->route;
	struct lane_read lane_read = {
		.token = (uintptr_t)op,
		.offset = op->io.offset,
		.length = op->io.length,
		.file = route->file->slot,
	};
	const struct backend_memory *memory;
	uint64_t place;

	if (op->path == GDS_PATH_DMABUF) {
		memory = dma_memory(op, &place);
		lane_read.address =
			(void *)(uintptr_t)(op->slot->offset + place % memory->slice_bytes);
		lane_read.buffer = op->slot->slot;
	} else {
		lane_read.address = op->pool->memory + staging_offset(op->pool, op->chunk);
		lane_read.buffer = reader->staging_slots[op->pool - reader->staging];
	}
	return lane_read;
}

void aim_landed(struct gds_reader *reader, struct op *op, int result)
{
	struct proof *proof = op->proof;
	struct backend_memory *memory;
	uint64_t place;

	op->slot->in_flight--;
	if (!proof)
		return;
	op->proof = NULL;
	if (result <= 0) {
		canary_void(reader, proof);
		return;
	}
	/* Also of a short read: what is said to have arrived is not taken unseen. */
	memory = dma_memory(op, &place);
	canary_finish(reader, proof, memory, place, (uint32_t)result);
}

void aim_copy_source(const struct op *op, struct backend_copy *copy)
{
	const struct gds_reader *reader = op->read->batch->reader;
	uint64_t offset = staging_offset(op->pool, op->chunk) + op->io.skip;

	copy->source_offset = offset;
	if (op->path == GDS_PATH_DMABUF)
		copy->source = scratch_of(op)->memory;
	else
		copy->staging = device_of(op)->staging[op->pool - reader->staging];
}
