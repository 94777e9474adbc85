/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an operation: taken from the scheduler and queued in the lane (issue.c),
 * landed, copied by the device if it was staged, and accounted to its read (land.c).
 * Here it is what both of these come to: the rest of an operation, and the end of
 * operations and reads.
 *
 * What a landed operation did not bring - the storage gave fewer bytes, asked to
 * be tried again, or refused the way of reading - becomes its `rest`, which the
 * same operation then works off, cut anew within the route's limits of then.
 *
 * An operation may serve several reads, neighbours in the file and in memory. It
 * lets go of each when that one's bytes are there. Where it fails, it goes on with
 * one read after the other, so that a bad one does not take its neighbours along.
 */
#include "operation.h"

#include "base/bits.h"
#include "base/error.h"
#include "base/probe.h"
#include "memory/buffer.h"
#include "tell.h"

#include <errno.h>
#include <stdlib.h>

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

/* ---- The end of reads ---- */

void batch_close_reads(struct gds_reader *reader, struct gds_batch *batch, size_t count)
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
	batch_close_reads(reader, read->batch, 1);
}

void read_fail(struct read *read, int error, uint64_t offset, uint32_t length)
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
			read_fail(together[i], err, together[i]->offset, 0);
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
		read_fail(read, err, read->offset, 0);
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

/* ---- The rest and the end of operations ---- */

void op_leave_read(struct gds_reader *reader, struct op *op)
{
	struct read *read = op->read;

	op->read = &op->run->reads[read->next];
	op->reads--;
	let_go(reader, read);
}

void op_release(struct gds_reader *reader, struct op *op)
{
	if (op->chunk != STAGING_NONE)
		aim_give_chunk(op);
	while (op->reads > 1)
		op_leave_read(reader, op);
	op->next = reader->free_ops;
	reader->free_ops = op;
	reader->free_count++;
	let_go(reader, op->read);
}

void op_return_to_rest(struct op *op, uint32_t got)
{
	op->rest = (struct plan){
		.offset = op->io.offset + op->io.skip + got,
		.place = op->io.place + got,
		.left = op->io.wanted - got + op->rest.left,
	};
}

void op_cut_rest(struct op *op)
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

bool op_skip_failed(struct gds_reader *reader, struct op *op)
{
	uint64_t left;

	for (; op->read->error; op_leave_read(reader, op)) {
		if (op->reads == 1) {
			op_release(reader, op);
			return false;
		}
		left = read_place_end(op->read) - op->rest.place;
		op->rest.offset += left;
		op->rest.place += left;
		op->rest.left -= left;
	}
	return true;
}

void op_fail_reads(struct gds_reader *reader, struct op *op, int error)
{
	struct read *read = op->read;

	for (uint32_t i = 0; i < op->reads; i++, read = &op->run->reads[read->next])
		read_fail(read, error, max_u64(op->io.offset + op->io.skip, read->offset),
			  op->io.length);
	op_release(reader, op);
}

void op_fail(struct gds_reader *reader, struct op *op, int error)
{
	if (op->reads == 1) {
		op_fail_reads(reader, op, error);
		return;
	}
	if (op->apart)
		read_fail(op->read, error, op->io.offset + op->io.skip, op->io.length);
	op->apart = true;
	op->attempts = 0;
	op_return_to_rest(op, 0);
	op_continue(reader, op);
}

/* ---- Giving up ---- */

static void give_up_read(struct gds_reader *reader, struct read *read, int error, size_t *held)
{
	if (atomic_load_explicit(&read->done, memory_order_relaxed))
		return;
	read_fail(read, error, read->offset, 0);
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
