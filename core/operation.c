/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an operation: taken from the scheduler, queued in the lane, landed,
 * copied by the device if it was staged, and accounted to its read.
 *
 * What a landed operation did not bring - the storage gave fewer bytes, asked to
 * be tried again, or refused the way of reading - becomes its `rest`, which the
 * same operation then works off, cut anew within the route's limits of then.
 */
#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "memory/buffer.h"
#include "reader.h"
#include "storage/file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define REAP_AT_ONCE 64

/* Times that an operation is issued again without a byte of progress. */
#define ATTEMPTS_MAX 64
/* How long -EAGAIN is answered by issuing the operation again. */
#define AGAIN_LIMIT_NS (10 * NS_PER_S)
/* Times that -EFAULT is not yet taken for memory that cannot be pinned. */
#define FAULTS_FORGIVEN 2

size_t reader_operations(const struct gds_reader *reader)
{
	return (size_t)reader->options.queue_depth + reader->staging[STAGING_SMALL].count +
	       reader->staging[STAGING_LARGE].count;
}

int operations_open(struct gds_reader *reader)
{
	size_t count = reader_operations(reader);

	reader->ops = calloc(count, sizeof(*reader->ops));
	if (!reader->ops)
		return gds_fail_errno(ENOMEM, "cannot open a reader");
	for (size_t i = count; i-- > 0;) {
		reader->ops[i].next = reader->free_ops;
		reader->free_ops = &reader->ops[i];
	}
	reader->starved_last = &reader->starved_first;
	reader->held_last = &reader->held_first;
	return 0;
}

void operations_close(struct gds_reader *reader)
{
	free(reader->ops);
}

/* ---- The end of reads and operations ---- */

/* So that GPU work which is submitted from now on sees the bytes. */
static int make_visible(struct read *read)
{
	/* A buffer that was closed was drained before: reads end with it open. */
	struct backend_memory *memory = read->route->buffer->buffer->memory;
	const struct backend_ops *ops = memory->device->ops;
	int err = 0;

	if (read->path_bytes[GDS_PATH_MAPPED - 1] && memory->needs_publish)
		err = ops->publish(memory, read->buffer_offset, read->length);
	if (!err && read->path_bytes[GDS_PATH_DMABUF - 1] && ops->acquire)
		err = ops->acquire(memory, read->buffer_offset, read->length);
	return err;
}

static void finish_read(struct gds_reader *reader, struct read *read)
{
	struct gds_batch *batch = read->batch;
	size_t index = (size_t)(read - batch->run.reads);
	struct counters *counters = &reader->counters;

	if (!read->error)
		read->error = make_visible(read);
	counter_add(&counters->reads, 1);
	if (read->error) {
		counter_add(read->error == -ECANCELED ? &counters->reads_cancelled
						      : &counters->reads_failed,
			    1);
		if (batch->failures++ == 0 || index < batch->first_failure)
			batch->first_failure = index;
	}
	read->completed_ns = reader->now_ns;
	atomic_store_explicit(&read->done, true, memory_order_release);
	if (atomic_fetch_sub_explicit(&batch->open, 1, memory_order_release) == 1) {
		/* Its owner may free it, or submit it anew. */
		scheduler_remove(&reader->scheduler, &batch->run);
		batch->next = reader->completed;
		reader->completed = batch;
	}
}

static void fail_read(struct read *read, int error, uint64_t offset)
{
	if (read->error && read->error_offset <= offset)
		return;
	read->error = error;
	read->error_offset = offset;
}

/* The operation has nothing left to do. */
static void release_op(struct gds_reader *reader, struct op *op)
{
	struct read *read = op->read;

	if (op->chunk != STAGING_NONE)
		aim_give_chunk(op);
	op->next = reader->free_ops;
	reader->free_ops = op;
	if (--read->operations == 0 && (read->plan.left == 0 || read->error))
		finish_read(reader, read);
}

/* ---- Into the lane ---- */

/* The read of an operation straight into host pages: by far the most, so in line. */
static struct lane_read mapped_read(const struct gds_reader *reader, const struct op *op)
{
	const struct route *route = op->read->route;
	const struct reader_buffer *buffer = route->buffer;

	return (struct lane_read){
		.token = (uint64_t)(op - reader->ops),
		.offset = op->io.offset,
		.address = (char *)buffer->buffer->memory->host + op->io.place,
		.length = op->io.length,
		.file = route->file->slot,
		.buffer = buffer->slots[op->io.place / SLICE_BYTES],
	};
}

static void queue_op(struct gds_reader *reader, struct op *op, const struct lane_read *lane_read)
{
	op->file_slot = lane_read->file;
	op->in_lane = true;
	counter_add(&reader->counters.operations, 1);
	reader->lane->ops->queue(reader->lane, lane_read);
}

static void fail_op(struct gds_reader *reader, struct op *op, int error)
{
	fail_read(op->read, error, op->io.offset + op->io.skip);
	release_op(reader, op);
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

/* Cuts the operation anew, within what its route takes by now. It holds no chunk. */
static void recut(struct op *op)
{
	return_to_rest(op, 0);
	plan_next(&op->rest, op->read->limits, &op->io);
}

/*
 * Whether a read that may not change its path has kept it: reads of other batches
 * share the route, and may have changed it.
 */
static int keep_path(struct op *op)
{
	const struct route *route = op->read->route;

	if (!op->read->first_path)
		op->read->first_path = route->path;
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
			*lane_read = mapped_read(reader, op);
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
	int err;

	/* Another operation failed it meanwhile, or a cancel. */
	if (op->read->error) {
		scheduler_landed(&reader->scheduler);
		release_op(reader, op);
		return true;
	}
	err = aim(reader, op, &lane_read);
	if (err == -EAGAIN) {
		scheduler_landed(&reader->scheduler);
		return false;
	}
	if (err == AIM_FILLED) {
		scheduler_landed(&reader->scheduler);
		hold(reader, op, (int)op->io.length);
	} else if (err) {
		scheduler_landed(&reader->scheduler);
		fail_op(reader, op, err);
	} else {
		queue_op(reader, op, &lane_read);
	}
	return true;
}

static void starve(struct gds_reader *reader, struct op *op)
{
	op->next = NULL;
	*reader->starved_last = op;
	reader->starved_last = &op->next;
}

/* Goes on with the operation's rest, which is not empty. */
static void continue_op(struct gds_reader *reader, struct op *op)
{
	if (op->read->error) {
		release_op(reader, op);
		return;
	}
	aim_give_chunk(op);
	plan_next(&op->rest, op->read->limits, &op->io);
	/* One that was copied for a while may find its place in flight taken. */
	if (!scheduler_again(&reader->scheduler) || !start_op(reader, op))
		starve(reader, op);
}

static void feed_starved(struct gds_reader *reader)
{
	struct op *op;
	struct op *next;

	while ((op = reader->starved_first) != NULL && scheduler_again(&reader->scheduler)) {
		next = op->next; /* a started operation may be in another list by then */
		/* While it waited, its route may have come to take another path. */
		recut(op);
		if (!start_op(reader, op))
			break;
		reader->starved_first = next;
		if (!next)
			reader->starved_last = &reader->starved_first;
	}
}

void operations_issue(struct gds_reader *reader)
{
	struct op *op;

	feed_starved(reader);
	while (!reader->starved_first && (op = reader->free_ops) != NULL &&
	       scheduler_next(&reader->scheduler, &op->read, &op->io)) {
		reader->free_ops = op->next;
		op->chunk = STAGING_NONE;
		op->rest.left = 0;
		op->attempts = 0;
		op->changes = 0;
		op->again_ns = 0;
		if (op->read->issued_ns == 0)
			op->read->issued_ns = reader->now_ns;
		if (!start_op(reader, op))
			starve(reader, op);
	}
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
}

/* ---- Out of the lane ---- */

/* Wanted bytes among those that arrived. */
static uint32_t wanted_of(const struct plan_op *io, uint32_t arrived)
{
	if (arrived <= io->skip)
		return 0;
	return (uint32_t)min_u64(arrived - io->skip, io->wanted);
}

/* The bytes that arrived are in their place. */
static void account_op(struct gds_reader *reader, struct op *op)
{
	struct read *read = op->read;
	uint32_t got = wanted_of(&op->io, op->arrived);

	counter_add(&reader->counters.path_bytes[op->path], got);
	read->path_bytes[op->path - 1] += got;

	if (got < op->io.wanted) {
		/* Only the end of the file gives nothing, or a part of a block. */
		if (op->arrived == 0 || !is_aligned(op->arrived, read->limits->offset_align)) {
			read->short_at =
				min_u64(read->short_at, op->io.place + got - read->buffer_offset);
			release_op(reader, op);
			return;
		}
		counter_add(&reader->counters.retries, 1);
		return_to_rest(op, got);
		op->attempts = got ? 0 : op->attempts + 1;
		if (op->attempts > ATTEMPTS_MAX)
			fail_read(read, -EIO, op->rest.offset);
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
	       error == EFAULT || error == EOPNOTSUPP;
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
	if (op->read->error && is_passing(op, error)) {
		release_op(reader, op);
		return;
	}
	if (op->read->error || !can_go_on(reader, op, error)) {
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
		release_op(reader, op);
		return;
	}
	if (proof && proof->state == PROOF_FAILED) {
		return_to_rest(op, 0);
		continue_op(reader, op); /* by another path */
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
	struct op *op = &reader->ops[completion->token];

	scheduler_landed(&reader->scheduler);
	op->in_lane = false;
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

size_t operations_reap(struct gds_reader *reader)
{
	struct lane_completion completions[REAP_AT_ONCE];
	size_t total = 0;
	size_t count;

	do {
		count = reader->lane->ops->reap(reader->lane, completions, REAP_AT_ONCE);
		if (count && total == 0)
			reader->now_ns = clock_now_ns();
		for (size_t i = 0; i < count; i++)
			land(reader, &completions[i]);
		total += count;
	} while (count == REAP_AT_ONCE);
	settle_held(reader);

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

/* ---- Cancelling ---- */

void operations_cancel(struct gds_reader *reader, struct gds_batch *batch)
{
	struct schedule_run *run = &batch->run;
	size_t count = reader_operations(reader);
	struct read *read;

	scheduler_remove(&reader->scheduler, run);
	for (size_t i = 0; i < run->count; i++) {
		read = &run->reads[i];
		if (atomic_load_explicit(&read->done, memory_order_relaxed))
			continue;
		fail_read(read, -ECANCELED, read->offset);
		if (read->operations == 0)
			finish_read(reader, read);
	}
	for (size_t i = 0; i < count; i++)
		if (reader->ops[i].in_lane && reader->ops[i].read->batch == batch)
			reader->lane->ops->cancel(reader->lane, i);
}
