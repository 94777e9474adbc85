/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an operation: taken from the scheduler, queued in the lane, landed,
 * copied by the device if it was staged, and accounted to its read.
 *
 * What a landed operation did not bring - the storage gave fewer bytes, asked to
 * be tried again, or refused the way of reading - becomes its `rest`, which the
 * same operation then works off, cut anew within the route's limits of then.
 *
 * An operation may serve several reads, neighbours in the file and in memory. It
 * lets go of each when that one's bytes are there. Where it fails, it goes on with
 * one read after the other, so that a bad one does not take its neighbours along.
 */
#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/probe.h"
#include "lane/ring.h"
#include "memory/buffer.h"
#include "reader.h"
#include "storage/file.h"
#include "tell.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* Reads that are taken from the scheduler at once. */
#define STREAK_MOST 32

#define likely(condition)   __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* Operations for one device before the next one has its turn. */
#define TURN_OPERATIONS 16

/* Times that an operation is issued again without a byte of progress. */
#define ATTEMPTS_MAX 64
/* How long -EAGAIN is answered by issuing the operation again. */
#define AGAIN_LIMIT_NS (10 * NS_PER_S)
/* Times that -EFAULT is not yet taken for memory that cannot be pinned. */
#define FAULTS_FORGIVEN 2

int operations_open(struct gds_reader *reader)
{
	size_t count = (size_t)reader->scheduler.most + reader->staging[STAGING_SMALL].count +
		       reader->staging[STAGING_LARGE].count;

	reader->ops = calloc(count, sizeof(*reader->ops));
	if (!reader->ops)
		return gds_fail_errno(ENOMEM, "cannot open a reader");
	reader->op_count = count;
	for (size_t i = count; i-- > 0;) {
		reader->ops[i].next = reader->free_ops;
		reader->free_ops = &reader->ops[i];
	}
	reader->free_count = (uint32_t)count;
	reader->held_last = &reader->held_first;
	return 0;
}

void operations_close(struct gds_reader *reader)
{
	free(reader->ops);
}

/* ---- The end of reads and operations ---- */

static struct reader_queue *queue_of(const struct op *op)
{
	return (struct reader_queue *)op->run->device;
}

/* Reads of the batch are done. The driver alone counts them. */
static void close_reads(struct gds_reader *reader, struct gds_batch *batch, size_t count)
{
	size_t open = atomic_load_explicit(&batch->open, memory_order_relaxed) - count;

	atomic_store_explicit(&batch->open, open, memory_order_release);
	if (open > 0)
		return;
	deadline_remove(batch);
	batch->next = reader->completed;
	reader->completed = batch;
}

static void count_failure(struct gds_reader *reader, const struct read *read)
{
	struct counters *counters = &reader->counters;
	struct gds_batch *batch = read->batch;
	size_t index = (size_t)(read - batch->reads);

	counter_add(read->error == -ECANCELED ? &counters->reads_cancelled
					      : &counters->reads_failed,
		    1);
	if (read->error == -ETIMEDOUT && batch->deadline_ns)
		counter_add(&counters->reads_expired, 1);
	counter_add(&read->route->file->queue->counters.reads_failed, 1);
	if (batch->failures++ == 0 || index < batch->first_failure)
		batch->first_failure = index;
}

static inline void count_read(struct gds_reader *reader, const struct read *read,
			      struct reader_queue *queue)
{
	enum schedule_class class = read->batch->class;

	counter_add(&reader->counters.class_reads[class], 1);
	if (!read->error)
		counter_add(&reader->counters.class_bytes[class], read->short_at);
	counter_add(&queue->counters.reads, 1);
	if (read->outcome.issued_ns)
		counter_add(&reader->counters.class_ns[class],
			    reader->now_ns - read->outcome.issued_ns);
}

/* Only when this is over may anyone be told that the read is done. */
static void end_read(struct gds_reader *reader, struct read *read)
{
	count_read(reader, read, read->route->file->queue);
	if (read->error)
		count_failure(reader, read);
	read->outcome.completed_ns = reader->now_ns;
	GDS_PROBE3(read_end, read, read->error ? read->error : (int64_t)read->short_at,
		   reader->now_ns - read->outcome.issued_ns);
	if (unlikely(reader->tells))
		tell_done(read);
	atomic_store_explicit(&read->done, true, memory_order_release);
	close_reads(reader, read->batch, 1);
}

static void fail_read(struct read *read, int error, uint64_t offset, uint32_t length)
{
	if (read->error && read->outcome.error_offset <= offset)
		return;
	read->error = (int16_t)error;
	read->outcome.error_offset = offset;
	read->error_length = length;
}

/* A buffer that was closed was drained before: reads end with it open. */
static struct backend_memory *memory_of(const struct read *read)
{
	return read->route->buffer->buffer->memory;
}

/* What came through the memory's mapping by the CPU. */
static int publish(const struct read *read)
{
	struct backend_memory *memory = memory_of(read);

	if (!read->outcome.path_bytes[GDS_PATH_MAPPED - 1] || !memory->needs_publish)
		return 0;
	return memory->device->ops->publish(memory, read->buffer_offset, read->length);
}

/* A drive wrote it, past the CPU. */
static bool needs_acquire(const struct read *read)
{
	return read->outcome.path_bytes[GDS_PATH_DMABUF - 1] &&
	       memory_of(read)->device->ops->acquire;
}

static bool same_slice(const struct read *a, const struct read *b)
{
	uint64_t slice_bytes = memory_of(a)->slice_bytes;

	return memory_of(a) == memory_of(b) &&
	       a->buffer_offset / slice_bytes == b->buffer_offset / slice_bytes;
}

/*
 * Ends the first of the reads that have arrived, and with it those that begin in the
 * same slice: drivers do whole slices, or more, at once.
 */
static void end_slice(struct gds_reader *reader)
{
	struct read *together[ARRIVALS_AT_ONCE];
	struct read *first = reader->arrived[0];
	struct backend_memory *memory = memory_of(first);
	size_t count = 0, left = 0;
	uint64_t begin = UINT64_MAX, end = 0;
	int err;

	for (size_t i = 0; i < reader->arrived_count; i++) {
		struct read *read = reader->arrived[i];

		if (!same_slice(first, read)) {
			reader->arrived[left++] = read;
			continue;
		}
		together[count++] = read;
		begin = min_u64(begin, read->buffer_offset);
		end = max_u64(end, read_place_end(read));
	}
	reader->arrived_count = left;
	err = memory->device->ops->acquire(memory, begin, end - begin);
	for (size_t i = 0; i < count; i++) {
		if (err)
			fail_read(together[i], err, together[i]->offset, 0);
		end_read(reader, together[i]);
	}
}

void operations_show(struct gds_reader *reader)
{
	while (reader->arrived_count)
		end_slice(reader);
}

/* Sees to it that GPU work which is submitted from the read's end on sees its bytes. */
static void finish_read(struct gds_reader *reader, struct read *read)
{
	int err = read->error ? 0 : publish(read);

	if (err)
		fail_read(read, err, read->offset, 0);
	if (read->error || !needs_acquire(read)) {
		end_read(reader, read);
		return;
	}
	reader->arrived[reader->arrived_count++] = read;
	if (reader->arrived_count == ARRIVALS_AT_ONCE)
		operations_show(reader);
}

/* The operation has nothing left to do for the read. */
static void let_go(struct gds_reader *reader, struct read *read)
{
	if (--read->operations == 0)
		finish_read(reader, read);
}

/* Goes over to the next of the reads that the operation serves. */
static void leave_read(struct gds_reader *reader, struct op *op)
{
	struct read *read = op->read;

	op->read = &op->run->reads[read->next];
	op->reads--;
	let_go(reader, read);
}

/* The operation has nothing left to do. */
static void release_op(struct gds_reader *reader, struct op *op)
{
	if (op->chunk != STAGING_NONE)
		aim_give_chunk(op);
	while (op->reads > 1)
		leave_read(reader, op);
	op->next = reader->free_ops;
	reader->free_ops = op;
	reader->free_count++;
	let_go(reader, op->read);
}

/* ---- Into the lane ---- */

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
	counter_add(&queue_of(op)->counters.operations, 1);
	GDS_PROBE5(op_issue, op, op->read, op->io.offset, op->io.length, op->path);
	if (unlikely(reader->tells))
		tell_queued(reader, op);
	reader->queued++;
	lane_queue(reader->lane, lane_read);
}

/* Puts what of the operation is not there after `got` wanted bytes back to its rest. */
static void return_to_rest(struct op *op, uint32_t got)
{
	op->rest = (struct plan){
		.offset = op->io.offset + op->io.skip + got,
		.place = op->io.place + got,
		.left = op->io.wanted - got + op->rest.left,
	};
}

/* Cuts the next piece off the rest: of all its reads, or of one where it goes apart. */
static void cut_rest(struct op *op)
{
	uint64_t end = op->rest.place + op->rest.left;
	struct plan piece = op->rest;

	if (op->apart && op->reads > 1)
		piece.left = read_place_end(op->read) - piece.place;
	plan_next(&piece, op->read->limits, &op->io);
	op->rest = (struct plan){
		.offset = piece.offset,
		.place = piece.place,
		.left = end - piece.place,
	};
}

/* Cuts the operation anew, within what its route takes by now. It holds no chunk. */
static void recut(struct op *op)
{
	return_to_rest(op, 0);
	cut_rest(op);
}

/*
 * Passes over reads of the operation that have failed, from the beginning of its rest
 * on. False where there is no other: then it is released.
 */
static bool skip_failed(struct gds_reader *reader, struct op *op)
{
	uint64_t left;

	for (; op->read->error; leave_read(reader, op)) {
		if (op->reads == 1) {
			release_op(reader, op);
			return false;
		}
		left = read_place_end(op->read) - op->rest.place;
		op->rest.offset += left;
		op->rest.place += left;
		op->rest.left -= left;
	}
	return true;
}

static void continue_op(struct gds_reader *reader, struct op *op);

/* Fails all that the operation serves: there is no way at all for it. */
static void fail_reads(struct gds_reader *reader, struct op *op, int error)
{
	struct read *read = op->read;

	for (uint32_t i = 0; i < op->reads; i++, read = &op->run->reads[read->next])
		fail_read(read, error, max_u64(op->io.offset + op->io.skip, read->offset),
			  op->io.length);
	release_op(reader, op);
}

static void fail_op(struct gds_reader *reader, struct op *op, int error)
{
	if (op->reads == 1) {
		fail_reads(reader, op, error);
		return;
	}
	if (op->apart)
		fail_read(op->read, error, op->io.offset + op->io.skip, op->io.length);
	op->apart = true;
	op->attempts = 0;
	return_to_rest(op, 0);
	continue_op(reader, op);
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
 * Keeps an operation that went by what is below a file, until the file is seen to be
 * unchanged. What is laid out as zeros waits with them: it has only seemed to be a hole.
 */
static void hold(struct gds_reader *reader, struct op *op, int result)
{
	if (reader->held_count++ == 0)
		reader->held_since_ns = reader->now_ns;
	op->result = result;
	op->next = NULL;
	*reader->held_last = op;
	reader->held_last = &op->next;
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
			hold(reader, op, (int)op->io.length);
			return true;
		}
		if (err == -EAGAIN && !failed)
			return false;
		if (!failed)
			fail_read(op->read, err, op->io.offset + op->io.skip, op->io.length);
		aim_give_chunk(op);
		return_to_rest(op, 0);
		if (!skip_failed(reader, op))
			return true;
		cut_rest(op);
		if (!scheduler_again(&reader->scheduler, &op->scheduled))
			return false;
	}
	queue_op(reader, op, &lane_read);
	return true;
}

static void starve(struct op *op)
{
	struct reader_queue *queue = queue_of(op);

	op->next = NULL;
	*queue->starved_last = op;
	queue->starved_last = &op->next;
}

/* Goes on with the operation's rest, which is not empty. */
static void continue_op(struct gds_reader *reader, struct op *op)
{
	aim_give_chunk(op);
	if (!skip_failed(reader, op))
		return;
	cut_rest(op);
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

/* What most operations never need. */
static void fill_op(struct op *op)
{
	op->plain = false;
	op->chunk = STAGING_NONE;
	op->rest.left = 0;
	op->attempts = 0;
	op->changes = 0;
	op->again_ns = 0;
	op->apart = false;
}

/* An operation of which no more is set than goes well with it. */
static void fill_plain_op(struct op *op)
{
	const struct read *read = op->read;

	op->io = (struct plan_op){
		.offset = read->offset,
		.place = read->buffer_offset,
		.length = (uint32_t)read->length,
		.wanted = (uint32_t)read->length,
	};
	op->reads = 1;
	op->charged = op->io.length;
	op->path = GDS_PATH_MAPPED;
	fill_op(op);
}

/*
 * Starts a read as an operation straight into host pages. No more of that is set than
 * goes well with it: see fill_plain_op().
 */
static inline void start_plain(struct gds_reader *reader, struct lane *lane, struct op *op,
			       struct read *read)
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

	read->outcome.issued_ns = reader->now_ns;
	read->first_path = GDS_PATH_MAPPED;
	op->io.length = lane_read.length;
	op->read = read;
	op->plain = true;
	op->in_lane = true;
	op->file_slot = lane_read.file;
	lane_queue(lane, &lane_read);
}

/*
 * Starts a streak of whole reads straight into host pages. Does for each of them no
 * more than has to be done. Returns how many there were.
 */
static uint32_t issue_streak(struct gds_reader *reader, struct reader_queue *queue, uint32_t most)
{
	struct read *reads[STREAK_MOST];
	struct lane *lane = reader->lane;
	struct op *op = reader->free_ops;
	struct schedule_run *run;
	uint32_t count;

	most = (uint32_t)min_u64(min_u64(most, reader->free_count), STREAK_MOST);
	count = scheduler_take(&reader->scheduler, &queue->schedule, most, reads, &run);
	if (count == 0)
		return 0;
	for (uint32_t i = 0; i < count; i++, op = op->next) {
		op->run = run;
		start_plain(reader, lane, op, reads[i]);
	}
	reader->free_ops = op;
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
		fill_op(op);
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

/* ---- Out of the lane ---- */

/* Wanted bytes among those that arrived. */
static uint32_t wanted_of(const struct plan_op *io, uint32_t arrived)
{
	if (arrived <= io->skip)
		return 0;
	return (uint32_t)min_u64(arrived - io->skip, io->wanted);
}

static void count_bytes(struct gds_reader *reader, const struct op *op, uint64_t bytes)
{
	counter_add(&reader->counters.path_bytes[op->path], bytes);
	counter_add(&queue_of(op)->counters.bytes, bytes);
}

/* Shares out the bytes that are in their place among the reads, and leaves those that are done. */
static void credit(struct gds_reader *reader, struct op *op, uint32_t got)
{
	uint64_t place = op->io.place;
	uint64_t end = place + got;
	uint64_t read_end;

	count_bytes(reader, op, got);
	for (;;) {
		read_end = read_place_end(op->read);
		if (read_end > end || op->reads == 1)
			break;
		op->read->outcome.path_bytes[op->path - 1] += read_end - place;
		place = read_end;
		leave_read(reader, op);
	}
	op->read->outcome.path_bytes[op->path - 1] += end - place;
}

/*
 * The file ends at this place of the buffer: what follows will not come. Its size is
 * not what it was known to be, and is looked up for the reads that come; what is left
 * of a drive that was unplugged has none.
 */
static void end_short(struct gds_reader *reader, struct op *op, uint64_t place)
{
	int64_t file_bytes = gds_file_bytes(op->read->route->file->file);
	struct read *read = op->read;
	uint64_t there;

	if (file_bytes < 0) {
		fail_reads(reader, op, (int)file_bytes);
		return;
	}
	for (uint32_t i = 0; i < op->reads; i++, read = &op->run->reads[read->next]) {
		there = place > read->buffer_offset ? place - read->buffer_offset : 0;
		read->short_at = min_u64(read->short_at, there);
	}
	release_op(reader, op);
}

/* The bytes that arrived are in their place. */
static void account_op(struct gds_reader *reader, struct op *op)
{
	uint32_t got = wanted_of(&op->io, op->arrived);

	credit(reader, op, got);
	if (got < op->io.wanted) {
		/* Only the end of the file gives nothing, or a part of a block. */
		if (op->arrived == 0 || !is_aligned(op->arrived, op->read->limits->offset_align)) {
			end_short(reader, op, op->io.place + got);
			return;
		}
		counter_add(&reader->counters.retries, 1);
		return_to_rest(op, got);
		op->attempts = got ? 0 : op->attempts + 1;
		if (op->attempts > ATTEMPTS_MAX)
			fail_read(op->read, -EIO, op->rest.offset, op->io.length);
	}
	if (op->rest.left)
		continue_op(reader, op);
	else
		release_op(reader, op);
}

static bool is_passing(const struct op *op, int error)
{
	if (op->path == GDS_PATH_DMABUF && (error == ENODEV || error == EREMOTEIO))
		return true; /* its memory was revoked */
	return error == EAGAIN || error == EINTR || error == ECANCELED || error == EINVAL ||
	       error == EFAULT || error == EOPNOTSUPP || error == ENOMEM || error == EBUSY;
}

/*
 * The exporter of a dma-buf is moving its memory, or the kernel is short of
 * something: whether to issue the operation once more. The kernel waits for the
 * exporter before it asks for that again, so this is no busy loop.
 */
static bool try_again(struct gds_reader *reader, struct op *op)
{
	counter_add(&reader->counters.retries, 1);
	if (!op->again_ns)
		op->again_ns = reader->now_ns;
	return reader->now_ns - op->again_ns <= AGAIN_LIMIT_NS;
}

/* The way of the operation does not work: whether its route has another one. */
static bool change_way(struct gds_reader *reader, struct op *op, int error)
{
	struct route *route = op->read->route;
	char reason[160];

	if (error == EINVAL && op->path != GDS_PATH_DMABUF) {
		/* Others that were in flight may have found that out before. */
		if (op->file_slot != route->file->slot) {
			counter_add(&reader->counters.retries, 1);
			return true;
		}
		if (route_use_page_cache(reader, route))
			return false;
	} else if (op->path != GDS_PATH_BOUNCE && op->path == route->path) {
		if (op->read->batch->flags & GDS_BATCH_NO_FALLBACK)
			return false;
		gds_text_set(reason, sizeof(reason), "a read by %s failed: %s",
			     gds_path_name(op->path), gds_errno_text(error));
		if (op->path == GDS_PATH_MAPPED ? route_refuse_pinning(reader, route)
						: route_refuse_path(reader, route, reason, ""))
			return false;
	} else if (op->path == GDS_PATH_BOUNCE) {
		return false;
	}
	counter_add(&reader->counters.fallbacks, 1);
	return true;
}

/*
 * Whether the operation can be tried again, maybe by another way than before.
 * What the way of reading is found to lack is remembered by its route.
 */
static bool can_go_on(struct gds_reader *reader, struct op *op, int error)
{
	op->attempts++;
	switch (error) {
	case EAGAIN:
		return try_again(reader, op);
	/* The kernel is short of memory, or the device of commands. */
	case ENOMEM:
	case EBUSY:
		return op->attempts <= ATTEMPTS_MAX && try_again(reader, op);
	case EINTR:
	/* No cancel of ours, or the read had an error: its submitting thread ended. */
	case ECANCELED:
		counter_add(&reader->counters.retries, 1);
		return op->attempts <= ATTEMPTS_MAX;
	case EFAULT:
		/* That, too, may be the end of the thread: see lane.h. */
		if (op->attempts <= FAULTS_FORGIVEN && op->path != GDS_PATH_DMABUF) {
			counter_add(&reader->counters.retries, 1);
			return true;
		}
		return change_way(reader, op, error);
	case EINVAL:
		return op->attempts <= ATTEMPTS_MAX && change_way(reader, op, error);
	case EOPNOTSUPP:
	case ENODEV:
	case EREMOTEIO:
		return op->path == GDS_PATH_DMABUF && change_way(reader, op, error);
	default:
		/* A mirror may have the bytes elsewhere: the file system knows how to ask. */
		if (!aim_is_below(op) || !aim_may_fall_back(op))
			return false;
		op->changes = AIM_CHANGES_MAX + 1;
		return true;
	}
}

static void handle_error(struct gds_reader *reader, struct op *op, int error)
{
	/* Another operation has failed the read: what could go on is no failure of its own. */
	if (!(op->read->error && is_passing(op, error)) &&
	    (op->read->error || !can_go_on(reader, op, error))) {
		fail_op(reader, op, -error);
		return;
	}
	return_to_rest(op, 0);
	continue_op(reader, op);
}

/* ---- Copies by the device ---- */

static void start_copies(struct gds_reader *reader, struct reader_device *device)
{
	const struct backend_ops *ops = device->device->backend->ops;
	uint64_t ticket = 0;
	size_t count = device->waiting_count;
	int err;

	device->waiting_count = 0;
	if (count == 0)
		return;
	err = ops->copy(device->device->backend, device->copies, count, &ticket);
	counter_add(&reader->counters.device_copies, count);
	for (size_t i = 0; i < count; i++) {
		struct op *op = device->waiting[i];

		if (err) {
			fail_op(reader, op, err);
		} else if (ticket == 0) {
			account_op(reader, op);
		} else {
			op->ticket = ticket;
			op->next = NULL;
			*device->copying_last = op;
			device->copying_last = &op->next;
		}
	}
}

static void add_copy(struct gds_reader *reader, struct op *op, uint32_t bytes)
{
	struct reader_buffer *buffer = op->read->route->buffer;
	struct reader_device *device = buffer->device;
	size_t i = device->waiting_count;

	device->copies[i] = (struct backend_copy){
		.memory = buffer->buffer->memory,
		.offset = op->io.place,
		.bytes = bytes,
	};
	aim_copy_source(op, &device->copies[i]);
	if (unlikely(reader->tells))
		tell_copying(reader, op, bytes);
	device->waiting[i] = op;
	device->waiting_count = i + 1;
	if (device->waiting_count == COPIES_AT_ONCE)
		start_copies(reader, device);
}

static bool is_filled(const struct op *op)
{
	return op->path == GDS_PATH_DMABUF && op->spot.kind == SPOT_ZEROS;
}

static void finish_landing(struct gds_reader *reader, struct op *op, int result)
{
	const struct proof *proof = op->proof;
	uint32_t bytes;

	if (proof)
		aim_prove(reader, op, result);
	if (result < 0) {
		handle_error(reader, op, -result);
		return;
	}
	if (op->read->error) {
		return_to_rest(op, 0);
		continue_op(reader, op); /* with those of its reads that have not failed */
		return;
	}
	if (proof && proof->state != PROOF_PASSED) {
		return_to_rest(op, 0);
		continue_op(reader, op); /* by another path, or to be proven again */
		return;
	}
	op->arrived = (uint32_t)result;
	bytes = op->io.staged || is_filled(op) ? wanted_of(&op->io, op->arrived) : 0;
	if (bytes)
		add_copy(reader, op, bytes);
	else
		account_op(reader, op);
}

static void land(struct gds_reader *reader, const struct lane_completion *completion)
{
	struct op *op = (struct op *)(uintptr_t)completion->token;

	if (op->plain)
		fill_plain_op(op);
	scheduler_landed(&reader->scheduler, &op->scheduled);
	op->in_lane = false;
	GDS_PROBE2(op_land, op, completion->result);
	if (unlikely(reader->tells))
		tell_landed(reader, op, completion->result);
	if (op->path != GDS_PATH_DMABUF) {
		finish_landing(reader, op, completion->result);
		return;
	}
	aim_landed(op);
	if (aim_is_below(op))
		hold(reader, op, completion->result);
	else
		finish_landing(reader, op, completion->result);
}

/* The file was changed meanwhile: what has arrived may be another file's by now. */
static void start_over(struct gds_reader *reader, struct op *op)
{
	int err = 0;

	if (op->proof)
		aim_prove(reader, op, -ESTALE);
	if (!op->io.staged && !is_filled(op))
		err = aim_scrub(op);
	if (err) {
		fail_op(reader, op, err);
		return;
	}
	counter_add(&reader->counters.retries, 1);
	op->changes++;
	return_to_rest(op, 0);
	continue_op(reader, op);
}

/*
 * One look at a file serves all of its operations that have landed, so a few are waited
 * for while many more are in flight; not long, for the sake of their reads' latency.
 */
#define HELD_SHARE 4
#define HELD_NS    (50 * UINT64_C(1000))

static bool held_enough(const struct gds_reader *reader)
{
	return (uint64_t)reader->held_count * HELD_SHARE >= reader->scheduler.in_flight ||
	       reader->now_ns - reader->held_since_ns >= HELD_NS;
}

uint64_t operations_patience(const struct gds_reader *reader, uint64_t wait_ns)
{
	if (!reader->held_first)
		return wait_ns;
	return held_enough(reader) ? 0 : min_u64(wait_ns, HELD_NS);
}

/*
 * Looks whether the files of operations that have landed are what they were when the
 * operations set out. Those that come to be held meanwhile wait for the next time.
 */
static void settle_held(struct gds_reader *reader)
{
	struct op *op = reader->held_first;
	struct op *next;

	if (!op || !held_enough(reader))
		return;
	reader->held_first = NULL;
	reader->held_count = 0;
	reader->held_last = &reader->held_first;
	reader->checks++;
	for (; op; op = next) {
		next = op->next;
		if (file_map_confirm(op->read->route->file->map, reader->checks, op->io.offset,
				     &op->spot))
			finish_landing(reader, op, op->result);
		else
			start_over(reader, op);
	}
}

/* What landed of one run in a row, not counted yet. */
struct landed {
	struct schedule_run *run; /* NULL: nothing */
	struct gds_batch *batch;
	uint32_t reads;
	uint64_t bytes;
	uint64_t ns;
};

static void count_landed(struct gds_reader *reader, struct landed *landed)
{
	struct schedule_run *run = landed->run;
	struct counters *counters = &reader->counters;
	struct reader_queue *queue;

	if (!run)
		return;
	queue = (struct reader_queue *)run->device;
	schedule_run_landed(&reader->scheduler, run, landed->reads, landed->bytes);
	reader->free_count += landed->reads;
	counter_add(&counters->path_bytes[GDS_PATH_MAPPED], landed->bytes);
	counter_add(&counters->class_reads[run->class], landed->reads);
	counter_add(&counters->class_bytes[run->class], landed->bytes);
	counter_add(&counters->class_ns[run->class], landed->ns);
	counter_add(&queue->counters.reads, landed->reads);
	counter_add(&queue->counters.bytes, landed->bytes);
	close_reads(reader, landed->batch, landed->reads);
	*landed = (struct landed){ 0 };
}

/*
 * A read that came as a whole, straight into host pages that the device sees: does all
 * that land() would. False where the operation is another.
 */
static inline bool land_plain(struct gds_reader *reader, const struct lane_completion *completion,
			      struct landed *landed)
{
	struct op *op = (struct op *)(uintptr_t)completion->token;
	struct read *read = op->read;

	if (unlikely(!op->plain || completion->result != (int32_t)op->io.length || read->error))
		return false;
	if (unlikely(op->run != landed->run)) {
		count_landed(reader, landed);
		landed->run = op->run;
		landed->batch = read->batch;
	}
	landed->reads++;
	landed->bytes += op->io.length;
	landed->ns += reader->now_ns - read->outcome.issued_ns;
	op->in_lane = false;
	op->next = reader->free_ops;
	reader->free_ops = op;
	read->outcome.path_bytes[GDS_PATH_MAPPED - 1] = op->io.length;
	read->operations = 0;
	read->outcome.completed_ns = reader->now_ns;
	atomic_store_explicit(&read->done, true, memory_order_release);
	return true;
}

static void land_all(struct gds_reader *reader, const struct lane_completion *completions,
		     size_t count)
{
	struct landed landed = { 0 };

	for (size_t i = 0; i < count; i++) {
		if (likely(land_plain(reader, &completions[i], &landed)))
			continue;
		count_landed(reader, &landed);
		land(reader, &completions[i]);
	}
	count_landed(reader, &landed);
}

size_t operations_reap(struct gds_reader *reader)
{
	const struct lane_completion *completions;
	size_t total = 0;
	size_t count;

	while ((count = reader->lane->ops->reap(reader->lane, &completions)) > 0) {
		if (total == 0)
			reader->now_ns = clock_now_ns();
		land_all(reader, completions, count);
		total += count;
	}
	settle_held(reader);

	if (total)
		scheduler_tick(&reader->scheduler, reader->now_ns);
	for (struct reader_device *device = reader->devices; device; device = device->next)
		start_copies(reader, device);
	return total;
}

bool operations_copying(const struct gds_reader *reader)
{
	for (struct reader_device *device = reader->devices; device; device = device->next)
		if (device->copying_first)
			return true;
	return false;
}

static void device_copied(struct gds_reader *reader, struct reader_device *device, uint64_t wait_ns)
{
	struct backend_device *backend = device->device->backend;
	uint64_t done = 0;
	int err = backend->ops->copied(backend, device->copying_first->ticket, wait_ns, &done);
	struct op *op;

	while ((op = device->copying_first) != NULL && (err || op->ticket <= done)) {
		device->copying_first = op->next;
		if (!op->next)
			device->copying_last = &device->copying_first;
		if (err) {
			fail_op(reader, op, err);
		} else {
			account_op(reader, op);
		}
	}
}

void operations_copied(struct gds_reader *reader, uint64_t wait_ns)
{
	for (struct reader_device *device = reader->devices; device; device = device->next) {
		if (!device->copying_first)
			continue;
		device_copied(reader, device, wait_ns);
		reader->now_ns = clock_now_ns();
		wait_ns = 0;
	}
}

/* ---- Giving up ---- */

static void give_up_read(struct gds_reader *reader, struct read *read, int error, size_t *held)
{
	if (atomic_load_explicit(&read->done, memory_order_relaxed))
		return;
	fail_read(read, error, read->offset, 0);
	if (read->operations == 0)
		finish_read(reader, read);
	else
		++*held;
}

size_t operations_end(struct gds_reader *reader, struct gds_batch *batch, int error)
{
	size_t held = 0;

	for (size_t i = 0; i < batch->run_count; i++)
		scheduler_remove(&batch->runs[i]);
	for (size_t i = 0; i < batch->count; i++)
		give_up_read(reader, &batch->reads[i], error, &held);
	for (size_t i = 0; held && i < reader->op_count; i++)
		if (reader->ops[i].in_lane && reader->ops[i].read->batch == batch)
			reader->lane->ops->cancel(reader->lane, (uintptr_t)&reader->ops[i]);
	return held;
}
