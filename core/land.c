/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations out of the lane: what arrived is accounted to their reads, copied by the
 * device if it was staged, and held until its file is seen to be unchanged if it was read
 * from below. What did not arrive is judged, and goes on by the same way, another, or none.
 */
#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/probe.h"
#include "memory/buffer.h"
#include "operation.h"
#include "storage/file.h"
#include "tell.h"

#include <errno.h>

/* Times that an operation is issued again without a byte of progress. */
#define ATTEMPTS_MAX 64
/* How long -EAGAIN is answered by issuing the operation again. */
#define AGAIN_LIMIT_NS (10 * NS_PER_S)
/* Times that -EFAULT is not yet taken for memory that cannot be pinned. */
#define FAULTS_FORGIVEN 2

/* ---- What has arrived ---- */

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
	counter_add(&op_queue(op)->counters.bytes, bytes);
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
		op_leave_read(reader, op);
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
		op_fail_reads(reader, op, (int)file_bytes);
		return;
	}
	for (uint32_t i = 0; i < op->reads; i++, read = &op->run->reads[read->next]) {
		there = place > read->buffer_offset ? place - read->buffer_offset : 0;
		read->short_at = min_u64(read->short_at, there);
	}
	op_release(reader, op);
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
		op_return_to_rest(op, got);
		op->attempts = got ? 0 : op->attempts + 1;
		if (op->attempts > ATTEMPTS_MAX)
			read_fail(op->read, -EIO, op->rest.offset, op->io.length);
	}
	if (op->rest.left)
		op_continue(reader, op);
	else
		op_release(reader, op);
}

/* ---- What has not ---- */

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
		op_fail(reader, op, -error);
		return;
	}
	op_return_to_rest(op, 0);
	op_continue(reader, op);
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
			op_fail(reader, op, err);
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
			op_fail(reader, op, err);
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

/* ---- Landing ---- */

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
		op_return_to_rest(op, 0);
		op_continue(reader, op); /* with those of its reads that have not failed */
		return;
	}
	if (proof && proof->state != PROOF_PASSED) {
		op_return_to_rest(op, 0);
		op_continue(reader, op); /* by another path, or to be proven again */
		return;
	}
	op->arrived = (uint32_t)result;
	bytes = op->io.staged || is_filled(op) ? wanted_of(&op->io, op->arrived) : 0;
	if (bytes)
		add_copy(reader, op, bytes);
	else
		account_op(reader, op);
}

/* ---- Held until their files were looked at ---- */

void op_hold(struct gds_reader *reader, struct op *op, int result)
{
	if (reader->held_count++ == 0)
		reader->held_since_ns = reader->now_ns;
	op->result = result;
	op->next = NULL;
	*reader->held_last = op;
	reader->held_last = &op->next;
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
		op_fail(reader, op, err);
		return;
	}
	counter_add(&reader->counters.retries, 1);
	op->changes++;
	op_return_to_rest(op, 0);
	op_continue(reader, op);
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

/* ---- Out of the lane ---- */

static struct op *op_of(const struct lane_completion *completion)
{
	return (struct op *)(uintptr_t)completion->token;
}

static void land(struct gds_reader *reader, const struct lane_completion *completion)
{
	struct op *op = op_of(completion);

	if (op->plain)
		op_fill_plain(op);
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
		op_hold(reader, op, completion->result);
	else
		finish_landing(reader, op, completion->result);
}

/* Counts reads of the run that have landed, all of them whole and good. */
static void count_landed(struct gds_reader *reader, struct schedule_run *run,
			 struct gds_batch *batch, uint32_t reads, uint64_t bytes, uint64_t ns)
{
	struct reader_queue *queue = (struct reader_queue *)run->device;
	struct counters *counters = &reader->counters;

	schedule_run_landed(&reader->scheduler, run, reads, bytes);
	reader->free_count += reads;
	counter_add(&counters->path_bytes[GDS_PATH_MAPPED], bytes);
	counter_add(&counters->class_reads[run->class], reads);
	counter_add(&counters->class_bytes[run->class], bytes);
	counter_add(&counters->class_ns[run->class], ns);
	counter_add(&queue->counters.reads, reads);
	counter_add(&queue->counters.bytes, bytes);
	batch_close_reads(reader, batch, reads);
}

/*
 * Lands reads of one run that came as a whole, straight into host pages that the device
 * sees: does all that land() would. Returns how many there were before another.
 */
static uint32_t land_streak(struct gds_reader *reader, const struct lane_completion *first,
			    const struct lane_completion *end)
{
	const struct lane_completion *completion = first;
	struct schedule_run *run = op_of(first)->run;
	struct gds_batch *batch = op_of(first)->read->batch;
	const uint64_t now_ns = reader->now_ns;
	struct op *free_ops = reader->free_ops;
	uint64_t bytes = 0;
	uint64_t ns = 0;
	uint32_t landed;

	for (; completion < end; completion++) {
		struct op *op = op_of(completion);
		struct read *read = op->read;

		if (unlikely(!op->plain || completion->result != (int32_t)op->io.length ||
			     read->error || op->run != run))
			break;
		bytes += op->io.length;
		ns += now_ns - read->outcome.issued_ns;
		op->in_lane = false;
		op->next = free_ops;
		free_ops = op;
		read->outcome.path_bytes[GDS_PATH_MAPPED - 1] = op->io.length;
		read->operations = 0;
		read->outcome.completed_ns = now_ns;
		atomic_store_explicit(&read->done, true, memory_order_release);
	}
	landed = (uint32_t)(completion - first);
	if (landed == 0)
		return 0;
	reader->free_ops = free_ops;
	count_landed(reader, run, batch, landed, bytes, ns);
	return landed;
}

static void land_all(struct gds_reader *reader, const struct lane_completion *completion,
		     size_t count)
{
	const struct lane_completion *end = completion + count;
	uint32_t landed;

	for (; completion < end; completion += landed) {
		landed = land_streak(reader, completion, end);
		if (landed > 0)
			continue;
		land(reader, completion);
		landed = 1;
	}
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
