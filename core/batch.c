/* SPDX-License-Identifier: Apache-2.0 */
/* Batches: reads that are submitted together, and their results. */
#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "memory/buffer.h"
#include "path/hint.h"
#include "reader.h"
#include "storage/file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define FIRST_CAPACITY 16

#define likely(condition)   __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* Rises with each submission; see file_bytes_since(). */
static atomic_uint_fast64_t submissions;

/* ---- Making ---- */

static int reserve(struct gds_batch *batch, size_t capacity)
{
	struct read *reads;

	if (capacity <= batch->capacity)
		return 0;
	if (capacity >= SCHEDULE_NONE)
		return gds_fail(EINVAL, "a batch has room for %u reads at most", SCHEDULE_NONE - 1);
	capacity = max_u64(capacity, max_u64(2 * batch->capacity, FIRST_CAPACITY));
	reads = reallocarray(batch->reads, capacity, sizeof(*reads));
	if (!reads)
		return gds_fail_errno(ENOMEM, "cannot make room for %zu reads in a batch",
				      capacity);
	batch->reads = reads;
	batch->capacity = capacity;
	return 0;
}

int gds_batch_create(struct gds_batch **batch_out, struct gds_reader *reader,
		     const struct gds_batch_options *options)
{
	struct gds_batch_options full = { .size = sizeof(full) };
	struct gds_batch *batch;
	int err = reader_check(reader, "gds_batch_create");

	if (err)
		return err;
	if (!batch_out || (options && options->size < sizeof(options->size)))
		return gds_fail(EINVAL, "gds_batch_create: batch must not be NULL, and the "
					"options' size must be set");
	if (options)
		memcpy(&full, options, min_u64(options->size, sizeof(full)));
	if (full.path >= GDS_PATH_COUNT)
		return gds_fail(EINVAL, "gds_batch_create: there is no path %u", full.path);
	if (full.read_class >= GDS_CLASS_COUNT || full.reserved)
		return gds_fail(EINVAL,
				"gds_batch_create: there is no class %u, or a reserved "
				"field is not 0",
				full.read_class);
	if (full.flags & ~(uint32_t)GDS_BATCH_NO_FALLBACK)
		return gds_fail(EINVAL, "gds_batch_create: unknown flags 0x%x", full.flags);
	batch = calloc(1, sizeof(*batch));
	if (!batch)
		return gds_fail_errno(ENOMEM, "cannot make a batch");
	err = reserve(batch, full.capacity);
	if (err) {
		free(batch);
		return err;
	}
	batch->path = full.path;
	batch->flags = full.flags;
	batch->class = (enum schedule_class)full.read_class;
	batch->deadline_ns = full.deadline_ns;
	batch->runs = &batch->only;
	batch->run_capacity = 1;
	batch->reader = reader;
	reader_get(reader);
	*batch_out = batch;
	return 0;
}

/* A batch in flight is completed by whoever drives. */
static enum batch_state state_of(struct gds_batch *batch)
{
	enum batch_state state;

	reader_lock(batch->reader);
	state = batch->state;
	reader_unlock(batch->reader);
	return state;
}

/* ---- Filling ---- */

static int check_request(const struct gds_request *request, size_t index)
{
	uint64_t bytes;

	if (!request->file || !request->buffer)
		return gds_fail(EINVAL, "gds_batch_add: request %zu names no file or no buffer",
				index);
	bytes = request->buffer->memory->bytes;
	if (!range_fits(request->buffer_offset, request->length, bytes))
		return gds_fail(EINVAL,
				"gds_batch_add: request %zu: %" PRIu64 " bytes at %" PRIu64
				" lie outside the buffer's %" PRIu64 " bytes; make it larger",
				index, request->length, request->buffer_offset, bytes);
	if (!range_fits(request->offset, request->length, INT64_MAX))
		return gds_fail(EINVAL,
				"gds_batch_add: request %zu: offset %" PRIu64
				" with length %" PRIu64 " is beyond what files can have",
				index, request->offset, request->length);
	return 0;
}

/* For now it is all there, and the next one follows it: see prepare_hold(). */
static inline void fill_read(struct read *read, struct gds_batch *batch, struct route *route,
			     const struct gds_request *request, uint32_t next)
{
	read->route = route;
	read->batch = batch;
	read->limits = &route->limits;
	read->offset = request->offset;
	read->length = request->length;
	read->buffer_offset = request->buffer_offset;
	read->short_at = request->length;
	read->user_data = request->user_data;
	memset(&read->outcome, 0, sizeof(*read) - offsetof(struct read, outcome));
	read->next = next;
}

/* Gives back the routes of the reads from `first` on. */
static void put_routes(struct gds_batch *batch, size_t first)
{
	struct batch_hold *hold;

	for (; batch->hold_count > 0; batch->hold_count--) {
		hold = &batch->holds[batch->hold_count - 1];
		if (hold->first < first) {
			hold->count = min_u64(hold->count, first - hold->first);
			return;
		}
		route_put(hold->route);
	}
}

/* Room to note one more streak of reads with the same route. */
static int reserve_hold(struct gds_batch *batch)
{
	size_t capacity = batch->hold_capacity ? 2 * batch->hold_capacity : 4;
	struct batch_hold *holds;

	if (batch->hold_count < batch->hold_capacity)
		return 0;
	holds = reallocarray(batch->holds, capacity, sizeof(*holds));
	if (!holds)
		return gds_fail_errno(ENOMEM, "cannot make room in a batch");
	batch->holds = holds;
	batch->hold_capacity = capacity;
	return 0;
}

/*
 * What requests in a row have in common, at hand while they become reads: see
 * begin_hold(). The hold is the batch's last.
 */
struct filling {
	const struct gds_file *file;
	const struct gds_buffer *buffer;
	uint64_t bytes; /* of the buffer */
	struct route *route;
	struct batch_hold *hold;
};

/* The reads up to `index` belong to the hold. */
static void end_hold(const struct filling *filling, size_t index)
{
	if (filling->hold)
		filling->hold->count = index - filling->hold->first;
}

/* The batch's hold of the route from `index` on, for which there is room. */
static struct batch_hold *hold_route(struct gds_batch *batch, struct route *route, size_t index)
{
	struct batch_hold *hold = &batch->holds[batch->hold_count];

	/* Reads may come one by one. */
	if (batch->hold_count > 0 && hold[-1].route == route)
		return hold - 1;
	route_hold(route);
	*hold = (struct batch_hold){ .route = route, .first = index };
	batch->hold_count++;
	return hold;
}

/* Finds the route of a request, whose file or buffer are others than before. */
static int begin_hold(struct gds_batch *batch, struct filling *filling,
		      const struct gds_request *request, size_t index)
{
	struct gds_reader *reader = batch->reader;
	struct batch_hold *hold;
	struct route *route;
	int err;

	end_hold(filling, index);
	if (unlikely(batch->hold_count == batch->hold_capacity)) {
		err = reserve_hold(batch);
		if (err)
			return err;
	}
	route = route_hinted(reader, request->file, request->buffer, batch->path);
	if (likely(route != NULL)) {
		hold = hold_route(batch, route, index);
	} else {
		err = route_get(reader, request->file, request->buffer, batch->path, &route);
		if (err)
			return err;
		hold = hold_route(batch, route, index);
		route_put(route);
	}
	*filling = (struct filling){
		.file = request->file,
		.buffer = request->buffer,
		.bytes = request->buffer->memory->bytes,
		.route = route,
		.hold = hold,
	};
	return 0;
}

/* Makes reads of the requests. Those in a row that name the same file and buffer share a hold. */
static int fill_reads(struct gds_batch *batch, const struct gds_request *requests, size_t count)
{
	const struct gds_request *requests_end = requests + count;
	const struct gds_request *request = requests;
	struct filling filling = { 0 };
	uint32_t next = (uint32_t)batch->count;
	struct read *read = &batch->reads[batch->count];
	uint64_t end;
	int err = 0;

	for (; request < requests_end; request++, read++) {
		if (unlikely(request->file != filling.file || request->buffer != filling.buffer)) {
			err = request->file && request->buffer
				      ? begin_hold(batch, &filling, request, next)
				      : -EINVAL;
			if (err)
				break;
		}
		end = request->offset + request->length;
		if (!range_fits(request->buffer_offset, request->length, filling.bytes) ||
		    (int64_t)(request->offset | end) < 0)
			break;
		fill_read(read, batch, filling.route, request, ++next);
		if (end > filling.hold->end)
			filling.hold->end = end;
		if (request->length == 0)
			filling.hold->empties = true;
	}
	end_hold(&filling, next);
	batch->count = next;
	if (request < requests_end && (!err || err == -EINVAL))
		return check_request(request, (size_t)(request - requests)) ?: err;
	return err;
}

ssize_t gds_batch_add(struct gds_batch *batch, const struct gds_request *requests, size_t count)
{
	size_t before;
	int err;

	if (!batch || (!requests && count))
		return gds_fail(EINVAL, "gds_batch_add: batch and requests must not be NULL");
	err = reader_check(batch->reader, "gds_batch_add");
	if (err)
		return err;
	if (state_of(batch) != BATCH_IDLE)
		return gds_fail(EBUSY, "gds_batch_add: the batch was submitted; wait for it and "
				       "reset it first");
	before = batch->count;
	err = reserve(batch, before + count);
	if (!err)
		err = fill_reads(batch, requests, count);
	if (err) {
		put_routes(batch, before);
		batch->count = before;
		return err;
	}
	return (ssize_t)before;
}

/* ---- Submitting ---- */

/* The batch's run on the device of storage, made if it has none there yet. */
static struct schedule_run *run_on(struct gds_batch *batch, struct reader_queue *queue)
{
	size_t capacity = 2 * batch->run_capacity;
	struct schedule_run *runs;

	for (size_t i = 0; i < batch->run_count; i++)
		if (batch->runs[i].device == &queue->schedule)
			return &batch->runs[i];
	if (batch->run_count == batch->run_capacity) {
		runs = calloc(capacity, sizeof(*runs));
		if (!runs)
			return NULL;
		memcpy(runs, batch->runs, batch->run_count * sizeof(*runs));
		if (batch->runs != &batch->only)
			free(batch->runs);
		batch->runs = runs;
		batch->run_capacity = capacity;
	}
	runs = &batch->runs[batch->run_count++];
	schedule_run_init(runs, &queue->schedule, batch->reads, batch->class);
	return runs;
}

/* A read that is complete as it is submitted. */
static void end_at_once(struct gds_batch *batch, struct read *read, uint64_t now_ns)
{
	read->outcome.issued_ns = now_ns;
	read->outcome.completed_ns = now_ns;
	atomic_store_explicit(&read->done, true, memory_order_relaxed);
	if (read->error && batch->failures++ == 0)
		batch->first_failure = (size_t)(read - batch->reads);
}

/* The reads in a row that name a file which cannot be read. Returns how many there are to do. */
static ssize_t fail_hold(struct gds_batch *batch, const struct batch_hold *hold, int error)
{
	const uint64_t now_ns = clock_now_ns();

	for (size_t i = 0; i < hold->count; i++) {
		struct read *read = &batch->reads[hold->first + i];

		read->error = (int16_t)error;
		read->outcome.error_offset = read->offset;
		end_at_once(batch, read, now_ns);
	}
	return 0;
}

/* Cuts reads of one file to its size, and puts those that are not empty into the run. */
static ssize_t cut_hold(struct gds_batch *batch, const struct batch_hold *hold,
			struct schedule_run *run, uint64_t file_bytes)
{
	const uint64_t now_ns = clock_now_ns();
	struct schedule_list list = schedule_list_of(run);
	struct read *read = &batch->reads[hold->first];
	struct read *end = read + hold->count;
	uint32_t index = (uint32_t)hold->first;
	ssize_t open = 0;

	for (; read < end; read++, index++) {
		if (read->offset >= file_bytes)
			read->length = 0;
		else
			read->length = min_u64(read->length, file_bytes - read->offset);
		read->short_at = read->length;
		if (read->length == 0) {
			end_at_once(batch, read, now_ns);
			continue;
		}
		schedule_list_append(&list, index, read);
		open++;
	}
	schedule_list_keep(&list, run, (uint32_t)open);
	return open;
}

/*
 * Puts the reads of one file into the run of its device. Those that lie within the file
 * are in order as they are, however many. A size that is known serves for them: had the
 * file become shorter since, the storage would say so. Returns how many there are to do.
 */
static ssize_t prepare_hold(struct gds_batch *batch, const struct batch_hold *hold, uint64_t stamp)
{
	const struct reader_file *file = hold->route->file;
	struct schedule_run *run;
	int64_t file_bytes;

	if (!file)
		return fail_hold(batch, hold, -EBADF);
	file_bytes = (int64_t)file_bytes_known(file->file);
	if (hold->end > (uint64_t)file_bytes)
		file_bytes = file_bytes_since(file->file, stamp);
	if (file_bytes < 0)
		return fail_hold(batch, hold, (int)file_bytes);
	run = run_on(batch, file->queue);
	if (!run)
		return gds_fail_errno(ENOMEM, "cannot submit a batch");
	if (hold->empties || hold->end > (uint64_t)file_bytes)
		return cut_hold(batch, hold, run, (uint64_t)file_bytes);
	schedule_run_append(run, (uint32_t)hold->first, (uint32_t)hold->count);
	return (ssize_t)hold->count;
}

/* Sorts the reads by the devices that they are on. Returns how many there are to do. */
static ssize_t prepare_reads(struct gds_batch *batch)
{
	const uint64_t stamp = atomic_fetch_add(&submissions, 1) + 1;
	struct counters *counters = &batch->reader->counters;
	size_t open = 0;
	uint64_t now_ns;
	ssize_t added;

	batch->failures = 0;
	batch->run_count = 0;
	if (batch->deadline_ns) {
		now_ns = clock_now_ns();
		batch->expires_ns = batch->deadline_ns > UINT64_MAX - now_ns
					    ? UINT64_MAX
					    : now_ns + batch->deadline_ns;
	}
	for (size_t i = 0; i < batch->hold_count; i++) {
		added = prepare_hold(batch, &batch->holds[i], stamp);
		if (added < 0)
			return added;
		open += (size_t)added;
	}
	if (batch->count > open) {
		atomic_fetch_add(&counters->reads_at_once, batch->count - open);
		atomic_fetch_add(&counters->reads_failed_at_once, batch->failures);
	}
	return (ssize_t)open;
}

/* Runs without a read are not queued. */
static void drop_empty_runs(struct gds_batch *batch)
{
	size_t count = 0;

	for (size_t i = 0; i < batch->run_count; i++)
		if (batch->runs[i].last != SCHEDULE_NONE)
			batch->runs[count++] = batch->runs[i];
	batch->run_count = count;
}

int gds_batch_submit(struct gds_batch *batch)
{
	ssize_t open;
	int err;

	if (!batch)
		return gds_fail(EINVAL, "gds_batch_submit: batch must not be NULL");
	err = reader_check(batch->reader, "gds_batch_submit");
	if (err)
		return err;
	if (state_of(batch) != BATCH_IDLE)
		return gds_fail(EBUSY, "gds_batch_submit: the batch was submitted before; reset "
				       "it to use it again");
	if (reader_closed(batch->reader))
		return gds_fail(ESHUTDOWN, "gds_batch_submit: the batch's reader was closed");
	open = prepare_reads(batch);
	if (open < 0)
		return (int)open;
	drop_empty_runs(batch);
	atomic_store_explicit(&batch->open, (size_t)open, memory_order_relaxed);
	if (open > 0)
		return reader_submit(batch->reader, batch);
	batch_signal(batch);
	batch->state = BATCH_COMPLETE;
	if (batch->reader->notify)
		eventfd_write(batch->reader->eventfd, 1);
	return 0;
}

void batch_enter(struct gds_batch *batch)
{
	struct gds_reader *reader = batch->reader;

	batch->state = BATCH_IN_FLIGHT;
	batch->cancel = false;
	batch->in_flight_next = reader->in_flight;
	if (reader->in_flight)
		reader->in_flight->in_flight_link = &batch->in_flight_next;
	batch->in_flight_link = &reader->in_flight;
	reader->in_flight = batch;
}

void batch_leave(struct gds_batch *batch)
{
	*batch->in_flight_link = batch->in_flight_next;
	if (batch->in_flight_next)
		batch->in_flight_next->in_flight_link = batch->in_flight_link;
	batch->state = BATCH_COMPLETE;
}

/* Streams cannot be told of an error: they go on in any case. */
static void release_streams(struct gds_batch *batch)
{
	struct batch_stream *stream;

	while ((stream = batch->streams) != NULL) {
		batch->streams = stream->next;
		backend_cuda_release(stream->wait);
		free(stream);
	}
}

void batch_signal(struct gds_batch *batch)
{
	release_streams(batch);
	if (batch->failures)
		return;
	for (struct batch_signal *signal = batch->signals; signal; signal = signal->next)
		if (backend_vulkan_signal(signal->device->backend, signal->semaphore,
					  signal->value))
			gds_log(GDS_LOG_ERROR, "a batch's semaphore was not signalled: %s",
				gds_last_error());
}

bool batch_uses(const struct gds_batch *batch, const struct attachment *attachment)
{
	const struct route *route;

	if (!attachment)
		return true;
	for (size_t i = 0; i < batch->hold_count; i++) {
		route = batch->holds[i].route;
		if (route->file && (&route->file->attachment == attachment ||
				    &route->buffer->attachment == attachment))
			return true;
	}
	return false;
}

int gds_batch_signal_vulkan(struct gds_batch *batch, struct gds_device *device, uint64_t semaphore,
			    uint64_t value)
{
	struct batch_signal *signal;

	if (!batch || !device || !semaphore)
		return gds_fail(EINVAL, "gds_batch_signal_vulkan: pass a batch, a device and a "
					"semaphore");
	if (strcmp(device->backend->ops->name, "vulkan") != 0)
		return gds_fail(ENOTSUP,
				"gds_batch_signal_vulkan: a %s device has no Vulkan semaphores",
				device->backend->ops->name);
	if (state_of(batch) != BATCH_IDLE)
		return gds_fail(EBUSY, "gds_batch_signal_vulkan: the batch was submitted; ask "
				       "for the signal before that");
	signal = calloc(1, sizeof(*signal));
	if (!signal)
		return gds_fail_errno(ENOMEM, "cannot keep a batch's semaphore");
	*signal = (struct batch_signal){ batch->signals, device, semaphore, value };
	batch->signals = signal;
	return 0;
}

int gds_batch_stream_wait_cuda(struct gds_batch *batch, struct gds_device *device, void *stream)
{
	struct batch_stream *waiting;
	int err;

	if (!batch || !device)
		return gds_fail(EINVAL, "gds_batch_stream_wait_cuda: pass a batch and a device");
	if (batch->state != BATCH_IDLE)
		return gds_fail(EBUSY, "gds_batch_stream_wait_cuda: the batch was submitted; ask "
				       "for the wait before that");
	waiting = calloc(1, sizeof(*waiting));
	if (!waiting)
		return gds_fail_errno(ENOMEM, "cannot keep a batch's stream");
	err = backend_cuda_stream_wait(device->backend, stream, &waiting->wait);
	if (err) {
		free(waiting);
		return err;
	}
	waiting->next = batch->streams;
	batch->streams = waiting;
	return 0;
}

/* ---- Waiting ---- */

int gds_batch_wait(struct gds_batch *batch, int64_t timeout_ns)
{
	uint64_t deadline_ns = UINT64_MAX;
	int err;

	if (!batch)
		return gds_fail(EINVAL, "gds_batch_wait: batch must not be NULL");
	err = reader_check(batch->reader, "gds_batch_wait");
	if (err)
		return err;
	if (state_of(batch) == BATCH_IDLE)
		return gds_fail(EINVAL, "gds_batch_wait: the batch was not submitted");
	if (timeout_ns >= 0)
		deadline_ns = clock_now_ns() + (uint64_t)timeout_ns;
	err = reader_wait(batch->reader, batch, deadline_ns);
	if (err)
		gds_fail_errno(-err, "waiting for a batch of %zu reads, of which %zu are not done",
			       batch->count, atomic_load(&batch->open));
	return err;
}

ssize_t gds_batch_poll(struct gds_batch *batch)
{
	int err;

	if (!batch)
		return gds_fail(EINVAL, "gds_batch_poll: batch must not be NULL");
	err = reader_check(batch->reader, "gds_batch_poll");
	if (err)
		return err;
	if (state_of(batch) == BATCH_IN_FLIGHT)
		reader_poll(batch->reader);
	/* The last read may be done a moment before its batch is. */
	if (state_of(batch) == BATCH_IN_FLIGHT)
		return (ssize_t)max_u64(atomic_load(&batch->open), 1);
	return 0;
}

int gds_batch_cancel(struct gds_batch *batch)
{
	int err;

	if (!batch)
		return gds_fail(EINVAL, "gds_batch_cancel: batch must not be NULL");
	err = reader_check(batch->reader, "gds_batch_cancel");
	if (err)
		return err;
	reader_cancel(batch->reader, batch);
	return 0;
}

/* ---- Results ---- */

size_t gds_batch_count(const struct gds_batch *batch)
{
	return batch ? batch->count : 0;
}

_Static_assert(READ_PATHS == GDS_PATH_COUNT - 1, "a read counts the bytes of each path");
_Static_assert(offsetof(struct gds_result, completed_ns) -
			       offsetof(struct gds_result, path_bytes[1]) ==
		       offsetof(struct read_outcome, completed_ns),
	       "a read's outcome is laid out like the end of a result");

static void say_failure(const struct read *read)
{
	const struct route *route = read->route;

	if (!route->file)
		gds_fail(EBADF,
			 "the file or the buffer of a read at offset %" PRIu64
			 " was closed before the read",
			 read->offset);
	else if (read->error == -EOPNOTSUPP && route->path == GDS_PATH_DMABUF)
		gds_fail(EOPNOTSUPP, "path dmabuf from %s cannot be taken: %s; %s",
			 route->file->file->path, route->dmabuf.reason, route->dmabuf.remedy);
	else if (read->error == -ESTALE)
		gds_fail(ESTALE,
			 "%s changed while it was read from the drives below it, at offset %" PRIu64
			 ": read it while nobody writes it, or let it take another path",
			 route->file->file->path, read->outcome.error_offset);
	else
		gds_fail_errno(-read->error,
			       "reading %s on %s failed at offset %" PRIu64 " (in %" PRIu32
			       " bytes from there, of %" PRIu64 " at %" PRIu64 ")",
			       route->file->file->path, route->file->queue->disk.name,
			       read->outcome.error_offset, read->error_length, read->length,
			       read->offset);
}

int gds_batch_result(struct gds_batch *batch, size_t index, struct gds_result *result)
{
	const struct read *read;

	if (!batch || !result)
		return gds_fail(EINVAL, "gds_batch_result: batch and result must not be NULL");
	if (index >= batch->count)
		return gds_fail(EINVAL, "gds_batch_result: there is no read %zu in a batch of %zu",
				index, batch->count);
	read = &batch->reads[index];
	if (!atomic_load_explicit(&read->done, memory_order_acquire))
		return gds_fail(EINPROGRESS, "gds_batch_result: read %zu is not done", index);
	result->bytes = (int64_t)read->short_at;
	result->user_data = read->user_data;
	result->path_bytes[GDS_PATH_AUTO] = 0;
	memcpy(&result->path_bytes[1], &read->outcome, sizeof(read->outcome));
	if (read->error) {
		result->bytes = read->error;
		say_failure(read);
	}
	return 0;
}

ssize_t gds_batch_failures(const struct gds_batch *batch, size_t *first)
{
	if (!batch)
		return gds_fail(EINVAL, "gds_batch_failures: batch must not be NULL");
	if (first && batch->failures)
		*first = batch->first_failure;
	return (ssize_t)batch->failures;
}

/* ---- Using again, and destroying ---- */

static void empty(struct gds_batch *batch)
{
	struct batch_signal *signal;

	put_routes(batch, 0);
	batch->count = 0;
	batch->failures = 0;
	batch->state = BATCH_IDLE;
	release_streams(batch);
	while ((signal = batch->signals) != NULL) {
		batch->signals = signal->next;
		free(signal);
	}
}

int gds_batch_reset(struct gds_batch *batch)
{
	int err;

	if (!batch)
		return gds_fail(EINVAL, "gds_batch_reset: batch must not be NULL");
	err = reader_check(batch->reader, "gds_batch_reset");
	if (err)
		return err;
	if (state_of(batch) == BATCH_IN_FLIGHT)
		return gds_fail(EBUSY, "gds_batch_reset: the batch is in flight; wait for it");
	empty(batch);
	return 0;
}

static int cancel_and_wait(struct gds_batch *batch)
{
	int err;

	if (state_of(batch) != BATCH_IN_FLIGHT)
		return 0;
	reader_cancel(batch->reader, batch);
	do
		err = reader_wait(batch->reader, batch, UINT64_MAX);
	while (err == -EINTR);
	return err;
}

void gds_batch_destroy(struct gds_batch *batch)
{
	if (!batch)
		return;
	/* In a child of fork() the parent's reads and streams are not ours to see to. */
	if (reader_check(batch->reader, "gds_batch_destroy")) {
		batch->streams = NULL;
	} else if (cancel_and_wait(batch)) {
		gds_log(GDS_LOG_ERROR, "a batch is kept, since its reads cannot be waited for: %s",
			gds_last_error());
		return;
	}
	empty(batch);
	reader_put(batch->reader);
	free(batch->reads);
	free(batch->holds);
	if (batch->runs != &batch->only)
		free(batch->runs);
	free(batch);
}

/* ---- One blocking read ---- */

ssize_t gds_read(struct gds_reader *reader, const struct gds_request *request,
		 struct gds_result *result_out)
{
	struct gds_result result;
	struct gds_batch *batch;
	ssize_t count;

	if (!request)
		return gds_fail(EINVAL, "gds_read: request must not be NULL");
	count = gds_batch_create(&batch, reader, NULL);
	if (count)
		return count;
	count = gds_batch_add(batch, request, 1);
	if (count == 0)
		count = gds_batch_submit(batch);
	/* Like a read of a file, it is not cut short by a signal. */
	if (count == 0)
		do
			count = gds_batch_wait(batch, -1);
		while (count == -EINTR);
	if (count == 0)
		count = gds_batch_result(batch, 0, &result);
	if (count == 0) {
		if (result_out)
			*result_out = result;
		count = result.bytes;
	}
	gds_batch_destroy(batch);
	return count;
}
