/* SPDX-License-Identifier: Apache-2.0 */
/* Batches: reads that are submitted together, and their results. */
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
#include <string.h>
#include <sys/eventfd.h>

#define FIRST_CAPACITY 16

/* Rises with each submission; see file_bytes_since(). */
static atomic_uint_fast64_t submissions;

/* ---- Making ---- */

static int reserve(struct gds_batch *batch, size_t capacity)
{
	struct read *reads;

	if (capacity <= batch->capacity)
		return 0;
	capacity = max_u64(capacity, max_u64(2 * batch->capacity, FIRST_CAPACITY));
	reads = reallocarray(batch->run.reads, capacity, sizeof(*reads));
	if (!reads)
		return gds_fail_errno(ENOMEM, "cannot make room for %zu reads in a batch",
				      capacity);
	batch->run.reads = reads;
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
	batch->reader = reader;
	reader_get(reader);
	*batch_out = batch;
	return 0;
}

/* A batch in flight is completed by whoever drives. */
static enum batch_state state_of(struct gds_batch *batch)
{
	enum batch_state state;

	pthread_mutex_lock(&batch->reader->lock);
	state = batch->state;
	pthread_mutex_unlock(&batch->reader->lock);
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

static void fill_read(struct read *read, struct gds_batch *batch, struct route *route,
		      const struct gds_request *request)
{
	*read = (struct read){
		.limits = &route->limits,
		.route = route,
		.batch = batch,
		.offset = request->offset,
		.length = request->length,
		.buffer_offset = request->buffer_offset,
		.user_data = request->user_data,
	};
}

/* Gives back what reads [first, end) hold of their routes. */
static void put_routes(struct gds_batch *batch, size_t first, size_t end)
{
	struct read *reads = batch->run.reads;
	size_t streak = first;

	for (size_t i = first; i < end; i++) {
		if (reads[i].route == reads[streak].route)
			continue;
		route_put(reads[streak].route, i - streak);
		streak = i;
	}
	if (streak < end)
		route_put(reads[streak].route, end - streak);
}

/*
 * The requests from `*index` on that name the same file and buffer: they share
 * one look-up of their route.
 */
static int add_streak(struct gds_batch *batch, const struct gds_request *requests, size_t count,
		      size_t *index)
{
	const struct gds_request *first = &requests[*index];
	struct read *reads = batch->run.reads + batch->run.count;
	struct route *route;
	size_t i = 0;
	int err = check_request(first, *index);

	if (err)
		return err;
	err = route_get(batch->reader, first->file, first->buffer, batch->path, &route);
	if (err)
		return err;
	do {
		fill_read(&reads[i], batch, route, &first[i]);
		i++;
	} while (*index + i < count && first[i].file == first->file &&
		 first[i].buffer == first->buffer &&
		 (err = check_request(&first[i], *index + i)) == 0);
	route_hold(route, i - 1); /* route_get() gave the first */
	batch->run.count += i;
	*index += i;
	return err;
}

ssize_t gds_batch_add(struct gds_batch *batch, const struct gds_request *requests, size_t count)
{
	size_t before;
	size_t index = 0;
	int err;

	if (!batch || (!requests && count))
		return gds_fail(EINVAL, "gds_batch_add: batch and requests must not be NULL");
	err = reader_check(batch->reader, "gds_batch_add");
	if (err)
		return err;
	if (state_of(batch) != BATCH_IDLE)
		return gds_fail(EBUSY, "gds_batch_add: the batch was submitted; wait for it and "
				       "reset it first");
	before = batch->run.count;
	err = reserve(batch, before + count);
	while (!err && index < count)
		err = add_streak(batch, requests, count, &index);
	if (err) {
		put_routes(batch, before, batch->run.count);
		batch->run.count = before;
		return err;
	}
	return (ssize_t)before;
}

/* ---- Submitting ---- */

/* Cuts the read to the file's size, and readies it to be planned. */
static bool prepare_read(struct read *read, int64_t file_bytes)
{
	uint64_t bytes = (uint64_t)file_bytes;

	if (file_bytes < 0) {
		read->error = (int32_t)file_bytes;
		read->error_offset = read->offset;
		return false;
	}
	if (read->offset >= bytes)
		read->length = 0;
	else
		read->length = min_u64(read->length, bytes - read->offset);
	read->short_at = read->length;
	read->plan = (struct plan){
		.offset = read->offset,
		.place = read->buffer_offset,
		.left = read->length,
	};
	return read->length > 0;
}

/* Returns how many reads there are to do. */
static size_t prepare_reads(struct gds_batch *batch)
{
	const uint64_t stamp = atomic_fetch_add(&submissions, 1) + 1;
	const uint64_t now_ns = clock_now_ns();
	struct counters *counters = &batch->reader->counters;
	const struct route *route = NULL;
	int64_t file_bytes = 0;
	size_t open = 0;

	batch->failures = 0;
	for (size_t i = 0; i < batch->run.count; i++) {
		struct read *read = &batch->run.reads[i];

		if (read->route != route) {
			route = read->route;
			file_bytes =
				route->file ? file_bytes_since(route->file->file, stamp) : -EBADF;
		}
		if (prepare_read(read, file_bytes)) {
			open++;
			continue;
		}
		read->issued_ns = now_ns;
		read->completed_ns = now_ns;
		atomic_store_explicit(&read->done, true, memory_order_relaxed);
		if (read->error && batch->failures++ == 0)
			batch->first_failure = i;
	}
	atomic_fetch_add(&counters->reads_at_once, batch->run.count - open);
	atomic_fetch_add(&counters->reads_failed_at_once, batch->failures);
	return open;
}

int gds_batch_submit(struct gds_batch *batch)
{
	size_t open;
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
	atomic_store(&batch->open, open);
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
	const struct route *route = NULL;

	if (!attachment)
		return true;
	for (size_t i = 0; i < batch->run.count; i++) {
		if (batch->run.reads[i].route == route)
			continue;
		route = batch->run.reads[i].route;
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
			       batch->run.count, atomic_load(&batch->open));
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
	return batch ? batch->run.count : 0;
}

_Static_assert(READ_PATHS == GDS_PATH_COUNT - 1, "a read counts the bytes of each path");

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
			 route->file->file->path, read->error_offset);
	else
		gds_fail_errno(-read->error,
			       "reading %s failed at offset %" PRIu64 " (of %" PRIu64
			       " bytes at %" PRIu64 ")",
			       route->file->file->path, read->error_offset, read->length,
			       read->offset);
}

int gds_batch_result(struct gds_batch *batch, size_t index, struct gds_result *result)
{
	const struct read *read;

	if (!batch || !result)
		return gds_fail(EINVAL, "gds_batch_result: batch and result must not be NULL");
	if (index >= batch->run.count)
		return gds_fail(EINVAL, "gds_batch_result: there is no read %zu in a batch of %zu",
				index, batch->run.count);
	read = &batch->run.reads[index];
	if (!atomic_load_explicit(&read->done, memory_order_acquire))
		return gds_fail(EINPROGRESS, "gds_batch_result: read %zu is not done", index);
	*result = (struct gds_result){
		.bytes = read->error ? read->error : (int64_t)read->short_at,
		.user_data = read->user_data,
		.error_offset = read->error_offset,
		.issued_ns = read->issued_ns,
		.completed_ns = read->completed_ns,
	};
	memcpy(&result->path_bytes[1], read->path_bytes, sizeof(read->path_bytes));
	if (read->error)
		say_failure(read);
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

	put_routes(batch, 0, batch->run.count);
	batch->run.count = 0;
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
	free(batch->run.reads);
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
