/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps the device's queue full and measures what comes back.
 *
 * Several batches are in flight at any time, with more reads among them than the
 * queue holds. While the oldest is looked at and filled again the others keep the
 * queue full. Nothing is allocated and no system call is made for a single read.
 */
#include "measure.h"

#include "progress.h"
#include "signals.h"
#include "sizes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/*
 * Reads of all batches together, as a multiple of the queue's depth, and batches
 * they are spread over: when one batch is done, the rest still overfill the queue.
 */
#define DEPTH_FACTOR 2u
#define BATCHES      4u
#define BATCH_LEAST  4u /* reads of a batch, so that a shallow queue costs no more per read */

/* The depth that is assumed where the reader finds it by itself. */
#define ASSUMED_DEPTH 128u

/* Most memory of a device to take, so that long reads do not ask for more than there is. */
#define BUFFER_MOST ((uint64_t)1 << 30)

#define PROGRESS_STEPS 1000

enum phase {
	PHASE_WARMUP,
	PHASE_MEASURE,
	PHASE_DRAIN, /* nothing new is submitted, and nothing counted any more */
};

struct slot {
	struct gds_batch *batch;
	struct gds_request *requests; /* batch_reads of them; only the offsets change */
	size_t first;                 /* the number of its first place in the buffers */
	size_t count;                 /* submitted, 0 where it is idle */
};

struct run {
	struct bench *bench;
	const struct options *options;
	struct work *work;
	struct series *series; /* or NULL */
	enum gds_path path;
	struct gds_buffer *buffers[MOST_BENCH_DEVICES];
	struct slot *slots;
	size_t slot_count;
	size_t busy; /* slots with reads in flight */
	size_t batch_reads;
	uint64_t places; /* for reads in the buffers; more reads than that take turns */
	uint64_t stride; /* bytes from one read's destination to the next */

	enum phase phase;
	uint64_t left;   /* reads to submit until the phase ends, where it ends by count */
	uint64_t end_ns; /* when it ends, where it ends by time */
	uint64_t begin_ns;
	struct cpu_time begin_cpu;
	struct measurement *result;
};

static const char *file_name(const struct run *run)
{
	return run->bench->name;
}

/*
 * Where the read of this number goes: reads take turns among the devices. One of any
 * offset goes where it needs no moving for its alignment.
 */
static void set_place(const struct run *run, struct gds_request *request, size_t number)
{
	size_t devices = run->bench->device_count;

	number %= run->places;
	request->buffer = run->buffers[number % devices];
	request->buffer_offset = number / devices * run->stride;
	if (run->work->kind != WORK_BLOCKS)
		request->buffer_offset += request->offset % PAGE_BYTES;
}

static enum status prepare_slot(struct run *run, size_t index)
{
	struct gds_batch_options settings = batch_options(run->options, run->batch_reads);
	struct slot *slot = &run->slots[index];
	int error;

	settings.path = (uint32_t)run->path;
	slot->requests = calloc(run->batch_reads, sizeof(*slot->requests));
	if (!slot->requests)
		return fail(STATUS_FAILED, "out of memory: %s: give a smaller --qd",
			    file_name(run));
	slot->first = index * run->batch_reads;
	for (size_t i = 0; i < run->batch_reads; i++) {
		slot->requests[i] = (struct gds_request){
			.file = run->work->files[0].file,
			.length = run->work->most_bytes,
		};
		set_place(run, &slot->requests[i], slot->first + i);
	}
	error = gds_batch_create(&slot->batch, run->bench->setup.reader, &settings);
	return error ? fail_library(error) : STATUS_OK;
}

/* Reads of a batch: enough to overfill the queue, and no more than memory is taken for. */
static void choose_sizes(struct run *run)
{
	uint64_t depth = run->options->queue_depth ? run->options->queue_depth : ASSUMED_DEPTH;
	uint64_t wanted = DEPTH_FACTOR * depth;
	uint64_t reads = round_up(wanted, BATCHES) / BATCHES;

	/* Any two reads in flight are pages apart, wherever in a page they begin. */
	run->stride = round_up(run->work->most_bytes, PAGE_BYTES);
	if (run->work->kind != WORK_BLOCKS)
		run->stride += PAGE_BYTES;
	reads = reads > BATCH_LEAST ? reads : BATCH_LEAST;
	if (work_varies(run->work))
		reads = least(reads, BUFFER_MOST / BATCHES / run->stride + 1);
	run->slot_count = BATCHES;
	run->batch_reads = reads;
	run->places = BATCHES * reads;
	if (run->options->batch == OPTION_UNSET)
		return;
	run->batch_reads = run->options->batch;
	if (run->batch_reads * BATCHES < wanted)
		run->slot_count = round_up(wanted, run->batch_reads) / run->batch_reads;
	/* Many more than are in flight at a time, so that no two of those share one. */
	run->places =
		least(run->slot_count * run->batch_reads, BUFFER_MOST / run->stride + 2 * wanted);
}

/*
 * Has the reader meet the buffer before the clock runs: registering memory touches and
 * clears all of it, which would be charged to the first reads.
 */
static enum status meet_buffer(const struct run *run, struct gds_buffer *buffer)
{
	struct gds_explanation explanation = { .size = sizeof(explanation) };
	int error = gds_explain(run->bench->setup.reader, run->work->files[0].file, buffer,
				&explanation);

	return error ? fail_library(error) : STATUS_OK;
}

static enum status prepare(struct run *run)
{
	struct bench *bench = run->bench;
	enum status status = STATUS_OK;
	uint64_t places;
	int error;

	choose_sizes(run);
	places = round_up(run->places, bench->device_count) / bench->device_count;
	for (size_t i = 0; i < bench->device_count; i++) {
		error = gds_buffer_alloc(&run->buffers[i], bench->devices[i], places * run->stride,
					 run->options->host_memory ? GDS_BUFFER_HOST : 0);
		if (error)
			return fail_library(error);
		status = meet_buffer(run, run->buffers[i]);
		if (status != STATUS_OK)
			return status;
	}
	run->slots = calloc(run->slot_count, sizeof(*run->slots));
	if (!run->slots)
		return fail(STATUS_FAILED, "out of memory: %s: give a smaller --qd",
			    file_name(run));
	for (size_t i = 0; i < run->slot_count && status == STATUS_OK; i++)
		status = prepare_slot(run, i);
	return status;
}

static void read_stats(struct run *run, struct gds_stats *stats)
{
	stats->size = sizeof(*stats);
	gds_reader_stats(run->bench->setup.reader, stats);
}

/* Reads to start for the measurement, less those that the warm-up left in flight. */
static uint64_t reads_to_start(const struct run *run)
{
	const struct options *options = run->options;
	uint64_t left = options->count;

	if (options->count == OPTION_UNSET && options->runtime == OPTION_UNSET)
		left = run->work->reads;
	for (size_t i = 0; i < run->slot_count && left != OPTION_UNSET; i++)
		left -= least(left, run->slots[i].count);
	return left;
}

static void begin_measuring(struct run *run)
{
	const struct options *options = run->options;

	run->phase = PHASE_MEASURE;
	run->left = reads_to_start(run);
	run->result->reads = 0;
	run->result->bytes = 0;
	memset(run->result->path_bytes, 0, sizeof(run->result->path_bytes));
	histogram_clear(&run->result->latency);
	read_stats(run, &run->result->before);
	run->begin_cpu = cpu_time_now();
	run->begin_ns = clock_ns();
	if (run->series)
		series_begin(run->series, run->begin_ns);
	run->end_ns =
		options->runtime == OPTION_UNSET ? UINT64_MAX : run->begin_ns + options->runtime;
}

static void end_measuring(struct run *run, uint64_t now)
{
	run->result->cpu = cpu_time_since(&run->begin_cpu);
	run->result->nanoseconds = now - run->begin_ns;
	read_stats(run, &run->result->after);
	run->phase = PHASE_DRAIN;
}

static void begin(struct run *run)
{
	begin_measuring(run);
	if (run->options->warmup == 0)
		return;
	run->phase = PHASE_WARMUP;
	run->left = UINT64_MAX;
	run->end_ns = run->begin_ns + run->options->warmup;
}

/* Fills an idle slot and starts it, as far as there are reads left to start. */
static enum status start(struct run *run, struct slot *slot)
{
	size_t count = least(run->batch_reads, run->left);
	ssize_t first;
	int error;

	slot->count = 0;
	if (run->phase == PHASE_DRAIN || count == 0)
		return STATUS_OK;
	work_fill(run->work, slot->requests, count);
	if (run->work->kind != WORK_BLOCKS)
		for (size_t i = 0; i < count; i++)
			set_place(run, &slot->requests[i], slot->first + i);
	error = gds_batch_reset(slot->batch);
	if (error)
		return fail_library(error);
	first = gds_batch_add(slot->batch, slot->requests, count);
	if (first < 0)
		return fail_library((int)first);
	error = gds_batch_submit(slot->batch);
	if (error)
		return fail_library(error);
	slot->count = count;
	run->busy++;
	if (run->left != UINT64_MAX)
		run->left -= count;
	return STATUS_OK;
}

static enum status fail_read(const struct run *run, const struct gds_request *request,
			     const struct gds_result *result)
{
	if (result->bytes < 0)
		return fail_library((int)result->bytes);
	return fail(STATUS_FAILED,
		    "file shrank while it was read: %s: it ends at byte %" PRIu64
		    " now: read it while nobody writes it",
		    file_name(run), request->offset + (uint64_t)result->bytes);
}

static void collect_series(const struct run *run, const struct slot *slot)
{
	struct gds_result result;

	for (size_t i = 0; i < slot->count; i++)
		if (gds_batch_result(slot->batch, i, &result) == 0)
			series_add(run->series, slot->requests[i].length,
				   result.completed_ns - result.issued_ns);
}

static enum status collect(const struct run *run, const struct slot *slot)
{
	struct measurement *measured = run->result;
	const struct gds_request *request = slot->requests;
	struct gds_result result;
	uint64_t path_bytes[GDS_PATH_COUNT] = { 0 };
	uint64_t bytes = 0;

	for (size_t i = 0; i < slot->count; i++, request++) {
		int error = gds_batch_result(slot->batch, i, &result);

		if (error)
			return fail_library(error);
		if ((uint64_t)result.bytes != request->length)
			return fail_read(run, request, &result);
		for (int path = GDS_PATH_DMABUF; path < GDS_PATH_COUNT; path++)
			path_bytes[path] += result.path_bytes[path];
		bytes += request->length;
		histogram_add(&measured->latency, result.completed_ns - result.issued_ns);
	}
	for (int path = GDS_PATH_DMABUF; path < GDS_PATH_COUNT; path++)
		measured->path_bytes[path] += path_bytes[path];
	measured->bytes += bytes;
	measured->reads += slot->count;
	if (run->series)
		collect_series(run, slot);
	return STATUS_OK;
}

static void show(const struct run *run, uint64_t now)
{
	const struct options *options = run->options;
	double elapsed = (double)(now - run->begin_ns) + 1;
	double part = (double)run->result->reads / (double)run->work->reads;

	if (run->phase != PHASE_MEASURE)
		return;
	if (options->runtime != OPTION_UNSET)
		part = elapsed / (double)options->runtime;
	else if (options->count != OPTION_UNSET)
		part = (double)run->result->reads / (double)options->count;
	progress_update((uint64_t)(part * PROGRESS_STEPS),
			(double)run->result->bytes * 1e9 / elapsed);
}

/* Moves from phase to phase as time or reads run out. */
static void advance(struct run *run, bool idle)
{
	uint64_t now = clock_ns();

	show(run, now);
	if (run->series && run->phase == PHASE_MEASURE)
		series_tick(run->series, now);
	if (run->phase == PHASE_WARMUP && now >= run->end_ns) {
		begin_measuring(run);
		progress_begin(file_name(run), PROGRESS_STEPS);
	} else if (run->phase == PHASE_MEASURE && (now >= run->end_ns || idle)) {
		end_measuring(run, now);
	}
}

/*
 * Takes the oldest batch, and starts it anew, round after round. Batches finish in
 * about the order they were started in, so that the oldest is the one to wait for.
 */
static enum status turn(struct run *run, struct slot *slot, bool last)
{
	enum status status = batch_finish(slot->batch, file_name(run), NULL, NULL);

	if (status == STATUS_OK && run->phase != PHASE_DRAIN)
		status = collect(run, slot);
	slot->count = 0;
	run->busy--;
	if (status == STATUS_OK && signals_pending())
		status = fail_signal(file_name(run));
	if (status == STATUS_OK)
		advance(run, last && run->left == 0);
	return status == STATUS_OK ? start(run, slot) : status;
}

static enum status measure(struct run *run)
{
	enum status status = STATUS_OK;
	bool busy = true;

	begin(run);
	progress_begin(file_name(run), PROGRESS_STEPS);
	for (size_t i = 0; i < run->slot_count && status == STATUS_OK; i++)
		status = start(run, &run->slots[i]);
	while (busy && status == STATUS_OK) {
		busy = false;
		for (size_t i = 0; i < run->slot_count && status == STATUS_OK; i++) {
			struct slot *slot = &run->slots[i];

			if (!slot->count)
				continue;
			busy = true;
			status = turn(run, slot, run->busy == 1);
		}
	}
	progress_clear();
	return status;
}

static void read_storage(struct run *run)
{
	struct measurement *result = run->result;
	size_t count = 0;

	while (count < MOST_STORAGE) {
		result->storage[count].size = sizeof(result->storage[count]);
		if (gds_reader_storage(run->bench->setup.reader, count, &result->storage[count]))
			break;
		count++;
	}
	result->storage_count = count;
}

static void clean_up(struct run *run)
{
	for (size_t i = 0; run->slots && i < run->slot_count; i++) {
		gds_batch_destroy(run->slots[i].batch);
		free(run->slots[i].requests);
	}
	free(run->slots);
	for (size_t i = 0; i < run->bench->device_count; i++)
		gds_buffer_free(run->buffers[i]);
}

enum status bench_measure(struct bench *bench, enum gds_path path, struct measurement *result,
			  struct series *series)
{
	struct run run = {
		.bench = bench,
		.options = bench->options,
		.work = &bench->work,
		.series = series,
		.path = path,
		.result = result,
	};
	enum status status;

	memset(result, 0, sizeof(*result));
	result->working_set = bench->work.bytes;
	status = prepare(&run);
	if (status == STATUS_OK)
		status = measure(&run);
	if (status == STATUS_OK)
		read_storage(&run);
	clean_up(&run);
	return status;
}
