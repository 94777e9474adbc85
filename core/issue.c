/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on their way into the lane: which is next, what the lane is to do for it,
 * and those that wait for staging memory or their turn. The short way for streaks of
 * reads that need nothing but the lane.
 */
#include "base/bits.h"
#include "base/error.h"
#include "base/probe.h"
#include "lane/ring.h"
#include "memory/buffer.h"
#include "operation.h"
#include "storage/file.h"
#include "tell.h"

#include <errno.h>

/* Reads that are taken from the scheduler at once. */
#define STREAK_MOST 32

/* Operations for one device before the next one has its turn. */
#define TURN_OPERATIONS 16

/* ---- One operation ---- */

/* The read of an operation straight into host pages. */
static struct lane_read mapped_read(const struct op *op)
{
	const struct route *route = op->read->route;

	return (struct lane_read){
		.token = (uintptr_t)op,
		.offset = op->io.offset,
		.address = route->host + op->io.place,
		.length = op->io.length,
		.file = route->file->slot,
		.buffer = route->buffer->slots[op->io.place / SLICE_BYTES],
	};
}

static void queue_op(struct gds_reader *reader, struct op *op, const struct lane_read *lane_read)
{
	op->file_slot = lane_read->file;
	op->in_lane = true;
	counter_add(&op_queue(op)->counters.operations, 1);
	GDS_PROBE5(op_issue, op, op->read, op->io.offset, op->io.length, op->path);
	if (unlikely(reader->tells))
		tell_queued(reader, op);
	reader->queued++;
	lane_queue(reader->lane, lane_read);
}

/* Cuts the operation anew, within what its route takes by now. It holds no chunk. */
static void recut(struct op *op)
{
	op_return_to_rest(op, 0);
	op_cut_rest(op);
}

/*
 * Whether a read that may not change its path has kept it: reads of other batches
 * share the route, and may have changed it.
 */
static int keep_path(struct op *op)
{
	const struct route *route = op->read->route;
	struct read *read = op->read;

	for (uint32_t i = 0; i < op->reads; i++, read = &op->run->reads[read->next])
		if (!read->first_path)
			read->first_path = (uint8_t)route->path;
	if (op->read->first_path == route->path)
		return 0;
	return gds_fail(EOPNOTSUPP,
			"path %s from %s was given up meanwhile, and the read may not "
			"take another",
			gds_path_name((enum gds_path)op->read->first_path),
			route->file->file->path);
}

/* Finds out what the lane is to do. As aim_op(), but that it cuts anew what must be. */
static int aim(struct gds_reader *reader, struct op *op, struct lane_read *lane_read)
{
	int err;

	for (;;) {
		err = op->read->batch->flags & GDS_BATCH_NO_FALLBACK ? keep_path(op) : 0;
		if (err)
			return err;
		if (!op->io.staged && op->read->route->path == GDS_PATH_MAPPED) {
			op->path = GDS_PATH_MAPPED;
			*lane_read = mapped_read(op);
			return 0;
		}
		err = aim_op(reader, op);
		if (err != AIM_RECUT)
			break;
		recut(op); /* which may make it one straight into host pages */
	}
	if (!err)
		*lane_read = aim_lane_read(reader, op);
	return err;
}

/*
 * Queues the operation, which counts as in flight, or fails its read. False where
 * it must wait; then, and where it failed, it no longer is in flight.
 */
static bool start_op(struct gds_reader *reader, struct op *op)
{
	struct lane_read lane_read;
	bool failed;
	int err;

	for (;;) {
		/* Another operation failed it meanwhile, or a cancel. */
		failed = unlikely(op->read->error);
		err = failed ? op->read->error : aim(reader, op, &lane_read);
		if (!err)
			break;
		scheduler_landed(&reader->scheduler, &op->scheduled);
		if (err == AIM_FILLED && !failed) {
			op_hold(reader, op, (int)op->io.length);
			return true;
		}
		if (err == -EAGAIN && !failed)
			return false;
		if (!failed)
			read_fail(op->read, err, op->io.offset + op->io.skip, op->io.length);
		aim_give_chunk(op);
		op_return_to_rest(op, 0);
		if (!op_skip_failed(reader, op))
			return true;
		op_cut_rest(op);
		if (!scheduler_again(&reader->scheduler, &op->scheduled))
			return false;
	}
	queue_op(reader, op, &lane_read);
	return true;
}

static void starve(struct op *op)
{
	struct reader_queue *queue = op_queue(op);

	op->next = NULL;
	*queue->starved_last = op;
	queue->starved_last = &op->next;
}

void op_continue(struct gds_reader *reader, struct op *op)
{
	aim_give_chunk(op);
	if (!op_skip_failed(reader, op))
		return;
	op_cut_rest(op);
	/* One that was copied for a while may find its place in flight taken. */
	if (!scheduler_again(&reader->scheduler, &op->scheduled) || !start_op(reader, op))
		starve(op);
}

static void feed_starved(struct gds_reader *reader, struct reader_queue *queue)
{
	struct op *op;

	while ((op = queue->starved_first) != NULL &&
	       scheduler_again(&reader->scheduler, &op->scheduled)) {
		/* A started operation may be in another list by then, or in this one again. */
		queue->starved_first = op->next;
		if (!op->next)
			queue->starved_last = &queue->starved_first;
		/* While it waited, its route may have come to take another path. */
		recut(op);
		if (start_op(reader, op))
			continue;
		op->next = queue->starved_first;
		if (!op->next)
			queue->starved_last = &op->next;
		queue->starved_first = op;
		break;
	}
}

/* ---- Many ---- */

static void begin_read(const struct gds_reader *reader, struct read *read)
{
	read->outcome.issued_ns = reader->now_ns;
	GDS_PROBE4(read_begin, read, read->offset, read->length, read->batch->class);
	if (unlikely(reader->tells))
		tell_begun(read);
}

/* For each of the reads that the operation serves it may be the first one. */
static void note_issued(const struct gds_reader *reader, const struct op *op)
{
	struct read *read = op->read;

	for (uint32_t i = 0; i < op->reads; i++, read = &op->run->reads[read->next])
		if (read->outcome.issued_ns == 0)
			begin_read(reader, read);
}

/*
 * Makes an operation straight into host pages of a read. No more of it is set than
 * goes well with it: see op_fill_plain(). Returns what the lane is to do.
 */
static inline struct lane_read start_plain(struct op *op, struct schedule_run *run,
					   struct read *read, uint64_t now_ns)
{
	const struct route *route = read->route;
	const struct lane_read lane_read = {
		.token = (uintptr_t)op,
		.offset = read->offset,
		.address = route->host + read->buffer_offset,
		.length = (uint32_t)read->length,
		.file = route->file->slot,
		.buffer = route->buffer->slots[read->buffer_offset / SLICE_BYTES],
	};

	read->outcome.issued_ns = now_ns;
	read->first_path = GDS_PATH_MAPPED;
	op->run = run;
	op->io.length = lane_read.length;
	op->read = read;
	op->plain = true;
	op->in_lane = true;
	op->file_slot = lane_read.file;
	return lane_read;
}

/* Starts the reads, for which there are free operations. Returns the next free one. */
static struct op *start_streak(struct gds_reader *reader, struct schedule_run *run,
			       struct read **reads, uint32_t count)
{
	const uint64_t now_ns = reader->now_ns;
	struct lane *lane = reader->lane;
	struct op *op = reader->free_ops;
	struct lane_read lane_read;
	struct lane_ring ring;

	if (lane->ring) {
		ring = *lane->ring; /* which no write can be suspected to change */
		for (uint32_t i = 0; i < count; i++, op = op->next) {
			lane_read = start_plain(op, run, reads[i], now_ns);
			lane_ring_put(&ring, &lane_read);
		}
		*lane->ring = ring;
		return op;
	}
	for (uint32_t i = 0; i < count; i++, op = op->next) {
		struct lane_read queued = start_plain(op, run, reads[i], now_ns);

		lane->ops->queue(lane, &queued);
	}
	return op;
}

/*
 * Starts a streak of whole reads straight into host pages. Does for each of them no
 * more than has to be done. Returns how many there were.
 */
static uint32_t issue_streak(struct gds_reader *reader, struct reader_queue *queue, uint32_t most)
{
	struct read *reads[STREAK_MOST];
	struct schedule_run *run;
	uint32_t count;

	most = (uint32_t)min_u64(min_u64(most, reader->free_count), STREAK_MOST);
	count = scheduler_take(&reader->scheduler, &queue->schedule, most, reads, &run);
	if (count == 0)
		return 0;
	reader->free_ops = start_streak(reader, run, reads, count);
	reader->free_count -= count;
	reader->queued += count;
	counter_add(&queue->counters.operations, count);
	return count;
}

/* Starts operations for one device. Whether there may be more to start. */
static bool issue_for(struct gds_reader *reader, struct reader_queue *queue, uint32_t most)
{
	uint32_t taken;
	struct op *op;

	for (; most > 0; most -= taken) {
		op = reader->free_ops;
		if (!schedule_may_issue(&reader->scheduler, &queue->schedule) ||
		    queue->starved_first || !op)
			return false;
		taken = reader->watched ? 0 : issue_streak(reader, queue, most);
		if (taken > 0)
			continue;
		taken = 1;
		if (!scheduler_next(&reader->scheduler, &queue->schedule, &op->scheduled))
			return false;
		reader->free_ops = op->next;
		reader->free_count--;
		op_fill(op);
		note_issued(reader, op);
		if (unlikely(!start_op(reader, op)))
			starve(op);
	}
	return true;
}

void operations_issue(struct gds_reader *reader)
{
	struct reader_queue *queue = reader->queues;
	uint32_t most = queue && queue->next ? TURN_OPERATIONS : UINT32_MAX;
	uint32_t before = reader->queued;
	bool more;

	scheduler_share(&reader->scheduler);
	for (; queue; queue = queue->next)
		feed_starved(reader, queue);
	do {
		more = false;
		for (queue = reader->queues; queue; queue = queue->next)
			more |= issue_for(reader, queue, most);
	} while (more);
	if (reader->queued == before)
		return;
	if (reader->scheduler.in_flight >
	    atomic_load_explicit(&reader->counters.in_flight_peak, memory_order_relaxed))
		atomic_store_explicit(&reader->counters.in_flight_peak, reader->scheduler.in_flight,
				      memory_order_relaxed);
	operations_count(reader);
}

void operations_count(struct gds_reader *reader)
{
	atomic_store_explicit(&reader->counters.in_flight, reader->scheduler.in_flight,
			      memory_order_relaxed);
	for (struct reader_queue *queue = reader->queues; queue; queue = queue->next) {
		struct queue_counters *counters = &queue->counters;
		const struct schedule_device *schedule = &queue->schedule;

		atomic_store_explicit(&counters->in_flight, schedule->in_flight,
				      memory_order_relaxed);
		atomic_store_explicit(&counters->depth, schedule->depth.now, memory_order_relaxed);
		atomic_store_explicit(&counters->merged, schedule->merged, memory_order_relaxed);
	}
}
