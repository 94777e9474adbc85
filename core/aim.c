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
	enum staging_size size = staging_size_for(op->io.length);
	struct reader_device *device = device_of(op);
	int err;

	if (op->path == GDS_PATH_DMABUF && !device_scratch(reader, device, size)) {
		op->pool = &device->scratch[size].pool;
		op->path = GDS_PATH_DMABUF;
	} else {
		err = device_stage(reader, device, size);
		if (err)
			return err;
		op->pool = &reader->staging[size];
		op->path = GDS_PATH_BOUNCE;
	}
	op->chunk = staging_take(op->pool);
	return op->chunk == STAGING_NONE ? -EAGAIN : 0;
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

/* Makes the operation no longer than that; what is cut off goes to its rest. */
static void shorten(struct op *op, uint32_t length)
{
	struct plan_op *io = &op->io;
	uint32_t wanted;

	if (io->length <= length)
		return;
	wanted = (uint32_t)min_u64(length - io->skip, io->wanted);
	op->rest = (struct plan){
		.offset = io->offset + io->skip + wanted,
		.place = io->place + wanted,
		.left = io->wanted - wanted + op->rest.left,
	};
	io->length = length;
	io->wanted = wanted;
	op->spot.bytes = min_u64(op->spot.bytes, length);
}

static int send_canary(struct gds_reader *reader, struct op *op, struct proof *proof)
{
	struct backend_memory *memory;
	uint64_t place;
	int err;

	shorten(op, CANARY_BYTES);
	memory = dma_memory(op, &place);
	err = canary_begin(reader, proof, op->target, op->spot.offset, memory, place,
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
	struct proof *proof =
		proof_get(reader, device_of(op)->device, op->target->device, memory->placement);

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
	const struct reader_file *file = op->read->route->file;
	struct gds_path_verdict verdict;
	struct dmabuf_map *map;
	uint64_t place;
	struct backend_memory *memory = dma_memory(op, &place);
	int err;

	/* A dma-buf belongs to the descriptor with O_DIRECT, which may be given up by now. */
	if (!file->map && !file->direct)
		return leave_dmabuf(reader, op, file->reason, "use mapped or bounce");
	err = dmabuf_map_get(reader, op->target, memory, &map);
	if (err)
		return err;
	if (dmabuf_slot_get(reader, map, place, &op->slot, &verdict))
		return leave_dmabuf(reader, op, verdict.reason, verdict.remedy);
	return pass_gate(reader, op, memory);
}

/* ---- Below a file ---- */

static void find_spot(struct op *op)
{
	struct file_map *map = op->read->route->file->map;
	struct spot *spot = &op->spot;
	uint64_t bytes;

	if (op->changes > AIM_CHANGES_MAX) {
		*spot = (struct spot){ .kind = SPOT_CHANGING };
		return;
	}
	file_map_locate(map, op->io.offset, op->io.length, spot);
	/* It may have become shorter than when the read was submitted. */
	if (op->io.offset + op->io.skip + op->io.wanted > map->stamp.bytes)
		spot->kind = SPOT_CHANGING;
	if (spot->kind == SPOT_ZEROS)
		spot->bytes = min_u64(spot->bytes, ZEROS_BYTES);
	bytes = align_down(spot->bytes, op->read->limits->offset_align);
	if (bytes)
		shorten(op, (uint32_t)bytes);
	else if (spot->kind != SPOT_CHANGING)
		*spot = (struct spot){ .kind = SPOT_REFUSED,
				       .reason = "it ends within a block of the disk" };
}

/* The operation reads the file itself, through host memory. */
static int read_as_file(struct gds_reader *reader, struct op *op)
{
	const struct spot *spot = &op->spot;
	struct route *route = op->read->route;
	int err;

	if (spot->kind == SPOT_REFUSED)
		gds_text_set(route->dmabuf.reason, sizeof(route->dmabuf.reason),
			     "a part of %s cannot be read from the device below: %s",
			     route->file->file->path, spot->reason);
	if (!aim_may_fall_back(op))
		return spot->kind == SPOT_REFUSED ? -EOPNOTSUPP : -ESTALE;
	op->io.staged = true;
	op->path = GDS_PATH_BOUNCE;
	err = take_chunk(reader, op);
	if (!err)
		counter_add(&reader->counters.fallbacks, 1);
	return err;
}

static int aim_below(struct gds_reader *reader, struct op *op)
{
	struct reader_file *file = op->read->route->file;
	struct reader_target *target;
	int err;

	find_spot(op);
	if (op->spot.kind == SPOT_ZEROS && !device_zeros(device_of(op)))
		return AIM_FILLED;
	if (op->spot.kind != SPOT_DATA)
		return read_as_file(reader, op);
	err = below_target(reader, file->volumes, op->spot.disk, &target);
	op->target = target;
	return err;
}

int aim_scrub(struct op *op)
{
	static const char zeros[64 << 10];
	struct backend_memory *memory = op->read->route->buffer->buffer->memory;
	uint32_t bytes;
	int err = 0;

	for (uint32_t done = 0; done < op->io.length && !err; done += bytes) {
		bytes = (uint32_t)min_u64(op->io.length - done, sizeof(zeros));
		err = memory->device->ops->copy_in(memory, op->io.place + done, zeros, bytes);
	}
	return err;
}

/* ---- All paths ---- */

static int aim_at_target(struct gds_reader *reader, struct op *op)
{
	struct reader_file *file = op->read->route->file;

	if (file->map)
		return aim_below(reader, op);
	op->target = &file->own;
	op->spot = (struct spot){ .kind = SPOT_DATA, .offset = op->io.offset };
	return 0;
}

int aim_op(struct gds_reader *reader, struct op *op)
{
	int err = 0;

	op->path = op->read->route->path;
	if (op->path == GDS_PATH_DMABUF)
		err = aim_at_target(reader, op);
	if (err)
		return err;
	if (op->io.staged && op->chunk == STAGING_NONE)
		err = take_chunk(reader, op);
	if (err || op->path != GDS_PATH_DMABUF)
		return err;
	err = aim_dmabuf(reader, op);
	if (err)
		return err;
	op->slot->in_flight++;
	if (aim_is_below(op))
		below_enter(reader, op->read->route->file);
	return 0;
}

struct lane_read aim_lane_read(const struct gds_reader *reader, const struct op *op)
{
	struct lane_read lane_read = {
		.token = (uint64_t)(op - reader->ops),
		.length = op->io.length,
	};
	const struct backend_memory *memory;
	uint64_t place;

	if (op->path == GDS_PATH_DMABUF) {
		memory = dma_memory(op, &place);
		lane_read.offset = op->spot.offset;
		lane_read.file = op->target->slot;
		lane_read.address =
			(void *)(uintptr_t)(op->slot->offset + place % memory->slice_bytes);
		lane_read.buffer = op->slot->slot;
	} else {
		lane_read.offset = op->io.offset;
		lane_read.file = op->read->route->file->slot;
		lane_read.address = op->pool->memory + staging_offset(op->pool, op->chunk);
		lane_read.buffer = reader->staging_slots[op->pool - reader->staging];
	}
	return lane_read;
}

void aim_landed(const struct op *op)
{
	op->slot->in_flight--;
	if (aim_is_below(op))
		below_leave(op->read->route->file);
}

void aim_prove(struct gds_reader *reader, struct op *op, int result)
{
	struct proof *proof = op->proof;
	struct backend_memory *memory;
	uint64_t place;

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
	uint64_t offset;

	if (op->path == GDS_PATH_DMABUF && op->spot.kind == SPOT_ZEROS) {
		copy->source = device_of(op)->zeros;
		return;
	}
	offset = staging_offset(op->pool, op->chunk) + op->io.skip;
	copy->source_offset = offset;
	if (op->path == GDS_PATH_DMABUF)
		copy->source = scratch_of(op)->memory;
	else
		copy->staging = device_of(op)->staging[op->pool - reader->staging];
}
