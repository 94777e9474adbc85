/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gds-bench bench: keeps the device's queue full and measures what comes back.
 *
 * Several batches are in flight at any time, with more reads among them than the
 * queue holds. While the oldest is looked at and filled again the others keep the
 * queue full. Nothing is allocated and no system call is made for a single read.
 */
#include "bench_report.h"
#include "commands.h"
#include "offsets.h"
#include "progress.h"
#include "setup.h"
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

#define PROGRESS_STEPS 1000

enum phase {
	PHASE_WARMUP,
	PHASE_MEASURE,
	PHASE_DRAIN, /* nothing new is submitted, and nothing counted any more */
};

struct slot {
	struct gds_batch *batch;
	struct gds_request *requests; /* batch_reads of them; only the offsets change */
	size_t count;                 /* submitted, 0 where it is idle */
};

struct run {
	const struct options *options;
	struct setup setup;
	struct gds_file *file;
	struct gds_buffer *buffer;
	struct offsets offsets;
	struct slot slots[BATCHES];
	size_t batch_reads;

	enum phase phase;
	uint64_t left;   /* reads to submit until the phase ends, where it ends by count */
	uint64_t end_ns; /* when it ends, where it ends by time */
	uint64_t begin_ns;
	struct cpu_time begin_cpu;
	struct measurement result;
};

static const char *file_name(const struct run *run)
{
	return run->options->files[0];
}

static enum status open_file(struct run *run)
{
	const struct options *options = run->options;
	int error = gds_file_open(&run->file, file_name(run));
	int64_t size;

	if (error)
		return fail(STATUS_FAILED, "%s", gds_last_error());
	size = gds_file_bytes(run->file);
	if (size < 0)
		return fail_library((int)size);
	if (options->size != OPTION_UNSET && options->size > (uint64_t)size)
		return fail(STATUS_FAILED,
			    "working set beyond the end: %s: the file has %" PRId64
			    " bytes: give a smaller --size",
			    file_name(run), size);
	run->result.working_set = options->size == OPTION_UNSET ? (uint64_t)size : options->size;
	if (run->result.working_set < options->block_bytes)
		return fail(STATUS_FAILED,
			    "nothing to read: %s: the working set of %" PRIu64
			    " bytes holds no block of %" PRIu64 ": give a smaller --bs",
			    file_name(run), run->result.working_set, options->block_bytes);
	return STATUS_OK;
}

/* Bytes from one read's destination to the next: no two reads in flight share a page. */
static uint64_t stride(const struct run *run)
{
	return round_up(run->options->block_bytes, PAGE_BYTES);
}

static enum status prepare_slot(struct run *run, size_t index)
{
	struct gds_batch_options settings = batch_options(run->options, run->batch_reads);
	struct slot *slot = &run->slots[index];
	int error;

	slot->requests = calloc(run->batch_reads, sizeof(*slot->requests));
	if (!slot->requests)
		return fail(STATUS_FAILED, "out of memory: %s: give a smaller --qd",
			    file_name(run));
	for (size_t i = 0; i < run->batch_reads; i++)
		slot->requests[i] = (struct gds_request){
			.file = run->file,
			.buffer = run->buffer,
			.length = run->options->block_bytes,
			.buffer_offset = (index * run->batch_reads + i) * stride(run),
		};
	error = gds_batch_create(&slot->batch, run->setup.reader, &settings);
	return error ? fail_library(error) : STATUS_OK;
}

static enum status prepare(struct run *run)
{
	const struct options *options = run->options;
	uint64_t reads = round_up(DEPTH_FACTOR * options->queue_depth, BATCHES) / BATCHES;
	enum status status = open_file(run);
	int error;

	if (status != STATUS_OK)
		return status;
	run->batch_reads = reads > BATCH_LEAST ? reads : BATCH_LEAST;
	offsets_begin(&run->offsets, options->direction == DIRECTION_RANDREAD,
		      run->result.working_set / options->block_bytes, options->block_bytes,
		      options->seed);
	error = gds_buffer_alloc(&run->buffer, run->setup.device,
				 BATCHES * run->batch_reads * stride(run),
				 options->host_memory ? GDS_BUFFER_HOST : 0);
	if (error)
		return fail_library(error);
	for (size_t i = 0; i < BATCHES && status == STATUS_OK; i++)
		status = prepare_slot(run, i);
	return status;
}

static void read_stats(struct run *run, struct gds_stats *stats)
{
	stats->size = sizeof(*stats);
	gds_reader_stats(run->setup.reader, stats);
}

/* Reads to start for the measurement, less those that the warm-up left in flight. */
static uint64_t reads_to_start(const struct run *run)
{
	const struct options *options = run->options;
	uint64_t left = options->count;

	if (options->count == OPTION_UNSET && options->runtime == OPTION_UNSET)
		left = run->offsets.blocks;
	for (size_t i = 0; i < BATCHES && left != OPTION_UNSET; i++)
		left -= least(left, run->slots[i].count);
	return left;
}

static void begin_measuring(struct run *run)
{
	const struct options *options = run->options;

	run->phase = PHASE_MEASURE;
	run->left = reads_to_start(run);
	run->result.reads = 0;
	memset(run->result.path_bytes, 0, sizeof(run->result.path_bytes));
	histogram_clear(&run->result.latency);
	read_stats(run, &run->result.before);
	run->begin_cpu = cpu_time_now();
	run->begin_ns = clock_ns();
	run->end_ns =
		options->runtime == OPTION_UNSET ? UINT64_MAX : run->begin_ns + options->runtime;
}

static void end_measuring(struct run *run, uint64_t now)
{
	run->result.cpu = cpu_time_since(&run->begin_cpu);
	run->result.nanoseconds = now - run->begin_ns;
	read_stats(run, &run->result.after);
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
	for (size_t i = 0; i < count; i++)
		slot->requests[i].offset = offsets_next(&run->offsets);
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

static enum status collect(struct run *run, const struct slot *slot)
{
	const uint64_t wanted = run->options->block_bytes;
	struct gds_result result;

	for (size_t i = 0; i < slot->count; i++) {
		int error = gds_batch_result(slot->batch, i, &result);

		if (error)
			return fail_library(error);
		if ((uint64_t)result.bytes != wanted)
			return fail_read(run, &slot->requests[i], &result);
		for (int path = GDS_PATH_DMABUF; path < GDS_PATH_COUNT; path++)
			run->result.path_bytes[path] += result.path_bytes[path];
		histogram_add(&run->result.latency, result.completed_ns - result.issued_ns);
	}
	run->result.reads += slot->count;
	return STATUS_OK;
}

static void show(const struct run *run, uint64_t now)
{
	const struct options *options = run->options;
	double elapsed = (double)(now - run->begin_ns) + 1;
	double part = (double)run->result.reads / (double)run->offsets.blocks;

	if (run->phase != PHASE_MEASURE)
		return;
	if (options->runtime != OPTION_UNSET)
		part = elapsed / (double)options->runtime;
	else if (options->count != OPTION_UNSET)
		part = (double)run->result.reads / (double)options->count;
	progress_update((uint64_t)(part * PROGRESS_STEPS),
			(double)run->result.reads * (double)options->block_bytes * 1e9 / elapsed);
}

/* Moves from phase to phase as time or reads run out. */
static void advance(struct run *run, bool idle)
{
	uint64_t now = clock_ns();

	show(run, now);
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
	if (status == STATUS_OK && signals_pending())
		status = fail_signal(file_name(run));
	if (status == STATUS_OK)
		advance(run, last && run->left == 0);
	return status == STATUS_OK ? start(run, slot) : status;
}

/* Whether no other slot than this has reads in flight. */
static bool is_last(const struct run *run, const struct slot *slot)
{
	for (size_t i = 0; i < BATCHES; i++)
		if (&run->slots[i] != slot && run->slots[i].count)
			return false;
	return true;
}

static enum status measure(struct run *run)
{
	enum status status = STATUS_OK;
	bool busy = true;

	begin(run);
	progress_begin(file_name(run), PROGRESS_STEPS);
	for (size_t i = 0; i < BATCHES && status == STATUS_OK; i++)
		status = start(run, &run->slots[i]);
	while (busy && status == STATUS_OK) {
		busy = false;
		for (size_t i = 0; i < BATCHES && status == STATUS_OK; i++) {
			struct slot *slot = &run->slots[i];

			if (!slot->count)
				continue;
			busy = true;
			status = turn(run, slot, is_last(run, slot));
		}
	}
	progress_clear();
	return status;
}

static void clean_up(struct run *run)
{
	for (size_t i = 0; i < BATCHES; i++) {
		gds_batch_destroy(run->slots[i].batch);
		free(run->slots[i].requests);
	}
	gds_buffer_free(run->buffer);
	gds_file_close(run->file);
	setup_close(&run->setup);
}

enum status command_bench(const struct options *options)
{
	struct run run = { .options = options };
	enum status status = setup_open(&run.setup, options);

	if (status != STATUS_OK)
		return status;
	status = prepare(&run);
	if (status == STATUS_OK)
		status = measure(&run);
	if (status == STATUS_OK && options->json)
		bench_report_json(options, &run.setup, &run.result);
	else if (status == STATUS_OK)
		bench_report_text(options, &run.setup, &run.result);
	clean_up(&run);
	return status;
}
