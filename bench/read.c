/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gds-bench read: files into a device's memory, a window of the buffer at a time,
 * each window poisoned, read, summed, compared and written out as asked.
 */
#include "commands.h"
#include "names.h"
#include "output.h"
#include "progress.h"
#include "read_report.h"
#include "setup.h"
#include "signals.h"
#include "sizes.h"
#include "verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define PIECE_BYTES    ((uint64_t)16 << 20) /* of one read: what progress is counted in */
#define SUM_BYTES      ((uint64_t)64 << 20) /* of one checksum: how soon a signal is seen */
#define STANDARD_LIMIT ((uint64_t)1 << 30)  /* of the buffer, where the memory is not known */

/* The whole run. */
struct job {
	const struct options *options;
	struct setup setup;
	struct names names;
	struct gds_buffer *buffer;
	unsigned char *chunk; /* SOURCE_MOST_BYTES, for what is copied out of the buffer */
	struct file_report *reports;
};

/* One file on its way. */
struct transfer {
	struct job *job;
	struct file_report *report;
	struct gds_file *file;
	struct gds_batch *batch;
	struct gds_request *requests; /* of one window */
	struct verify verify;
	struct output output;
	uint64_t begin;
	uint64_t end;
	uint64_t work_done; /* bytes, counted once for each pass over them */
	uint64_t begin_ns;  /* of the read that is under way */
	uint64_t before;    /* bytes the reader had delivered by then */
};

/* A part of the file that fits the buffer. */
struct window {
	uint64_t offset;
	uint64_t buffer_offset;
	uint64_t bytes;
};

static uint64_t delivered(struct gds_reader *reader)
{
	struct gds_stats stats = { .size = sizeof(stats) };
	uint64_t bytes = 0;

	gds_reader_stats(reader, &stats);
	for (int path = 0; path < GDS_PATH_COUNT; path++)
		bytes += stats.path_bytes[path];
	return bytes;
}

static void show_reading(void *user)
{
	struct transfer *transfer = user;
	const struct file_report *report = transfer->report;
	uint64_t now = delivered(transfer->job->setup.reader) - transfer->before;

	progress_update(transfer->work_done + now,
			per_second((double)(report->bytes + now),
				   report->nanoseconds + clock_ns() - transfer->begin_ns));
}

/* Counts a pass over `bytes` as done, and sees whether to go on. */
static enum status passed(struct transfer *transfer, uint64_t bytes)
{
	const struct file_report *report = transfer->report;

	transfer->work_done += bytes;
	progress_update(transfer->work_done,
			per_second((double)report->bytes, report->nanoseconds));
	return signals_pending() ? fail_signal(report->name) : STATUS_OK;
}

static uint64_t passes(const struct options *options)
{
	return 1 + (options->verify ? 1 : 0) + (options->verify || options->output ? 1 : 0) +
	       (options->no_checksum ? 0 : 1);
}

static enum status resolve_range(struct transfer *transfer)
{
	const struct options *options = transfer->job->options;
	const char *name = transfer->report->name;
	int64_t size = gds_file_bytes(transfer->file);
	uint64_t end = (uint64_t)size;

	if (size < 0)
		return fail_library((int)size);
	if (options->offset > 0 && options->offset >= end)
		return fail(STATUS_FAILED,
			    "offset beyond the end: %s: the file has %" PRIu64
			    " bytes: give an --offset below that",
			    name, end);
	if (options->length != OPTION_UNSET && options->length > end - options->offset)
		return fail(STATUS_FAILED,
			    "file ends too early: %s: it has %" PRIu64 " bytes, --length %" PRIu64
			    " asks for more: give a smaller one or get the whole file",
			    name, end, options->length);
	transfer->begin = options->offset;
	transfer->end = options->length == OPTION_UNSET ? end : options->offset + options->length;
	return STATUS_OK;
}

static uint64_t buffer_limit(const struct job *job)
{
	if (job->options->buffer_bytes != OPTION_UNSET)
		return job->options->buffer_bytes / PAGE_BYTES * PAGE_BYTES;
	if (job->setup.info.memory_bytes == 0)
		return STANDARD_LIMIT;
	return job->setup.info.memory_bytes / 4 / PAGE_BYTES * PAGE_BYTES;
}

/*
 * Where in the buffer the byte at `offset` goes: with the same remainder of a page
 * as in the file, so that whole pages can go where they belong without a copy.
 */
static uint64_t place(const struct options *options, uint64_t offset)
{
	if (options->buffer_offset != OPTION_UNSET)
		return options->buffer_offset;
	return offset % PAGE_BYTES;
}

/* Makes the buffer as large as the file needs and the limit allows. */
static enum status reserve_buffer(struct transfer *transfer)
{
	struct job *job = transfer->job;
	uint64_t first = place(job->options, transfer->begin);
	uint64_t limit = buffer_limit(job);
	uint64_t need = round_up(first + transfer->end - transfer->begin, PAGE_BYTES);
	char size[SIZE_TEXT_BYTES];
	int error;

	if (need == 0)
		need = PAGE_BYTES;
	if (need > limit && limit < round_up(first, PAGE_BYTES) + PAGE_BYTES)
		return fail(STATUS_USAGE, "buffer too small: --buffer-bytes: give at least %s",
			    size_format(size, (double)(round_up(first, PAGE_BYTES) + PAGE_BYTES)));
	need = least(need, limit);
	if (job->buffer && gds_buffer_bytes(job->buffer) >= need)
		return STATUS_OK;
	gds_buffer_free(job->buffer);
	job->buffer = NULL;
	error = gds_buffer_alloc(&job->buffer, job->setup.device, need,
				 job->options->host_memory ? GDS_BUFFER_HOST : 0);
	return error ? fail_library(error) : STATUS_OK;
}

static struct window next_window(const struct transfer *transfer, uint64_t offset)
{
	const struct job *job = transfer->job;
	struct window window = { offset, place(job->options, offset), transfer->end - offset };
	uint64_t room = gds_buffer_bytes(job->buffer) - window.buffer_offset;

	if (window.bytes > room) {
		/* The next window begins at a page, and so at the head of the buffer's. */
		uint64_t end = (offset + room) / PAGE_BYTES * PAGE_BYTES;

		window.bytes = (end > offset ? end : offset + room) - offset;
	}
	return window;
}

static enum status prepare_batch(struct transfer *transfer)
{
	const struct options *options = transfer->job->options;
	uint64_t pieces = gds_buffer_bytes(transfer->job->buffer) / PIECE_BYTES + 2;
	struct gds_batch_options settings = batch_options(options, pieces);
	int error;

	transfer->requests = calloc(pieces, sizeof(*transfer->requests));
	if (!transfer->requests)
		return fail(STATUS_FAILED, "out of memory: %s: give a smaller --buffer-bytes",
			    transfer->report->name);
	error = gds_batch_create(&transfer->batch, transfer->job->setup.reader, &settings);
	return error ? fail_library(error) : STATUS_OK;
}

/* Cuts the window into reads; progress and cancelling have their size as grain. */
static enum status add_reads(struct transfer *transfer, const struct window *window)
{
	size_t count = 0;
	uint64_t done = 0;
	ssize_t first;

	while (done < window->bytes) {
		uint64_t offset = window->offset + done;
		uint64_t end = least((offset / PIECE_BYTES + 1) * PIECE_BYTES,
				     window->offset + window->bytes);

		transfer->requests[count++] = (struct gds_request){
			.file = transfer->file,
			.buffer = transfer->job->buffer,
			.offset = offset,
			.length = end - offset,
			.buffer_offset = window->buffer_offset + done,
		};
		done += end - offset;
	}
	gds_batch_reset(transfer->batch);
	first = gds_batch_add(transfer->batch, transfer->requests, count);
	return first < 0 ? fail_library((int)first) : STATUS_OK;
}

static enum status collect(struct transfer *transfer)
{
	struct file_report *report = transfer->report;

	for (size_t i = 0; i < gds_batch_count(transfer->batch); i++) {
		const struct gds_request *request = &transfer->requests[i];
		struct gds_result result = { 0 };
		int error = gds_batch_result(transfer->batch, i, &result);

		if (error || result.bytes < 0)
			return fail_library(error ? error : (int)result.bytes);
		for (int path = 0; path < GDS_PATH_COUNT; path++)
			report->path_bytes[path] += result.path_bytes[path];
		report->bytes += (uint64_t)result.bytes;
		if ((uint64_t)result.bytes < request->length)
			return fail(STATUS_FAILED,
				    "file shrank while it was read: %s: it ends at byte %" PRIu64
				    " now: read it while nobody writes it",
				    report->name, request->offset + (uint64_t)result.bytes);
	}
	return STATUS_OK;
}

/* The part that is timed. */
static enum status read_window(struct transfer *transfer)
{
	struct file_report *report = transfer->report;
	struct cpu_time cpu = cpu_time_now(), spent;
	enum status status;
	int error;

	transfer->before = delivered(transfer->job->setup.reader);
	transfer->begin_ns = clock_ns();
	error = gds_batch_submit(transfer->batch);
	if (error)
		return fail_library(error);
	status = batch_finish(transfer->batch, report->name, show_reading, transfer);
	report->nanoseconds += clock_ns() - transfer->begin_ns;
	spent = cpu_time_since(&cpu);
	cpu_time_add(&report->cpu, &spent);
	return status == STATUS_OK ? collect(transfer) : status;
}

static enum status poison_window(struct transfer *transfer, const struct window *window)
{
	enum status status = STATUS_OK;

	for (uint64_t done = 0; done < window->bytes && status == STATUS_OK;) {
		size_t bytes = least(window->bytes - done, SOURCE_MOST_BYTES);

		status = verify_poison(&transfer->verify, transfer->job->buffer,
				       window->offset + done, window->buffer_offset + done, bytes);
		done += bytes;
		if (status == STATUS_OK)
			status = passed(transfer, bytes);
	}
	return status;
}

static enum status sum_window(struct transfer *transfer, const struct window *window)
{
	struct file_report *report = transfer->report;
	enum status status = STATUS_OK;

	for (uint64_t done = 0; done < window->bytes && status == STATUS_OK;) {
		uint64_t bytes = least(window->bytes - done, SUM_BYTES);
		uint32_t crc;
		int error = gds_buffer_checksum(transfer->job->buffer, window->buffer_offset + done,
						bytes, &crc);

		if (error)
			return fail_library(error);
		report->device_crc =
			(uint32_t)crc32_combine(report->device_crc, crc, (z_off_t)bytes);
		done += bytes;
		status = passed(transfer, bytes);
	}
	return status;
}

/* Looks at what the device holds: compares it, writes it out, or both. */
static enum status inspect_window(struct transfer *transfer, const struct window *window)
{
	unsigned char *chunk = transfer->job->chunk;
	enum status status = STATUS_OK;

	for (uint64_t done = 0; done < window->bytes && status == STATUS_OK;) {
		size_t bytes = least(window->bytes - done, SOURCE_MOST_BYTES);
		int error = gds_buffer_copy_out(transfer->job->buffer, window->buffer_offset + done,
						chunk, bytes);

		if (error)
			return fail_library(error);
		if (transfer->job->options->verify)
			status = verify_compare(&transfer->verify, window->offset + done, chunk,
						bytes);
		if (status == STATUS_OK && transfer->output.fd >= 0)
			status = output_write(&transfer->output, chunk, bytes);
		done += bytes;
		if (status == STATUS_OK)
			status = passed(transfer, bytes);
	}
	return status;
}

static enum status run_window(struct transfer *transfer, const struct window *window)
{
	const struct options *options = transfer->job->options;
	/* Added before the poison: a path that cannot be taken fails at once. */
	enum status status = add_reads(transfer, window);

	if (status == STATUS_OK && options->verify)
		status = poison_window(transfer, window);
	if (status == STATUS_OK)
		status = read_window(transfer);
	if (status == STATUS_OK)
		status = passed(transfer, window->bytes);
	if (status == STATUS_OK && !options->no_checksum)
		status = sum_window(transfer, window);
	if (status == STATUS_OK && (options->verify || options->output))
		status = inspect_window(transfer, window);
	return status;
}

static enum status run_windows(struct transfer *transfer)
{
	const struct options *options = transfer->job->options;
	enum status status = STATUS_OK;
	struct window window;

	progress_begin(transfer->report->name, (transfer->end - transfer->begin) * passes(options));
	for (uint64_t offset = transfer->begin; offset < transfer->end; offset += window.bytes) {
		window = next_window(transfer, offset);
		status = run_window(transfer, &window);
		if (status != STATUS_OK)
			break;
	}
	progress_clear();
	return status;
}

static enum status conclude(struct transfer *transfer)
{
	struct file_report *report = transfer->report;
	enum status status = STATUS_OK;

	report->has_device_crc = !transfer->job->options->no_checksum;
	if (transfer->job->options->verify) {
		report->cpu_crc = transfer->verify.crc_after;
		status = verify_finish(&transfer->verify,
				       report->has_device_crc ? &report->device_crc : NULL);
		report->verified = status == STATUS_OK;
	}
	if (status == STATUS_OK && transfer->output.fd >= 0) {
		status = output_commit(&transfer->output);
		report->written = status == STATUS_OK;
	}
	return status;
}

static enum status prepare(struct transfer *transfer)
{
	const struct options *options = transfer->job->options;
	const char *name = transfer->report->name;
	int error = gds_file_open(&transfer->file, name);
	enum status status = error ? fail(STATUS_FAILED, "%s", gds_last_error()) : STATUS_OK;

	if (status == STATUS_OK)
		status = resolve_range(transfer);
	if (status == STATUS_OK)
		status = reserve_buffer(transfer);
	if (status == STATUS_OK)
		status = prepare_batch(transfer);
	if (status == STATUS_OK && options->verify)
		status = verify_open(&transfer->verify, name);
	if (status == STATUS_OK && options->output)
		status = output_open(&transfer->output, options->output, name);
	return status;
}

static enum status read_file(struct job *job, struct file_report *report)
{
	struct transfer transfer = { .job = job, .report = report, .output.fd = -1 };
	enum status status;

	/* Not to read what was asked for is a failure, however early the signal came. */
	status = signals_pending() ? fail_signal(report->name) : prepare(&transfer);
	if (status == STATUS_OK)
		status = run_windows(&transfer);
	if (status == STATUS_OK)
		status = conclude(&transfer);
	if (status != STATUS_OK)
		report->error = strdup(fail_message());
	output_close(&transfer.output);
	verify_close(&transfer.verify);
	gds_batch_destroy(transfer.batch);
	gds_file_close(transfer.file);
	free(transfer.requests);
	return status;
}

/*
 * One file after the other. One that fails does not keep the next from being read,
 * unless it is a signal that it failed by.
 */
static enum status read_files(struct job *job)
{
	enum status worst = STATUS_OK, status = STATUS_OK;
	size_t count = 0;

	while (count < job->names.count && (status == STATUS_OK || !signals_pending())) {
		job->reports[count].name = job->names.list[count];
		status = read_file(job, &job->reports[count++]);
		if (worst == STATUS_OK)
			worst = status;
	}
	if (job->options->json)
		read_report_json(job->options, &job->setup, job->reports, count);
	else if (worst == STATUS_OK || count > 1)
		read_report_table(job->options, &job->setup, job->reports, count);
	return worst;
}

static enum status check_options(const struct options *options, size_t file_count)
{
	if (options->output && file_count > 1)
		return fail(STATUS_USAGE,
			    "several files for one output: --output %s: read one file "
			    "at a time",
			    options->output);
	if (options->block_bytes % PAGE_BYTES)
		return fail(STATUS_USAGE, "bad value: --bs %" PRIu64 ": give a multiple of 4k",
			    options->block_bytes);
	return STATUS_OK;
}

enum status command_read(const struct options *options)
{
	struct job job = { .options = options };
	enum status status = names_expand(&job.names, options->files, options->file_count);

	if (status == STATUS_OK)
		status = check_options(options, job.names.count);
	if (status == STATUS_OK)
		status = setup_open(&job.setup, options);
	if (status != STATUS_OK) {
		names_free(&job.names);
		return status;
	}
	job.chunk = malloc(SOURCE_MOST_BYTES);
	job.reports = calloc(job.names.count, sizeof(*job.reports));
	if (job.chunk && job.reports)
		status = read_files(&job);
	else
		status = fail(STATUS_FAILED, "out of memory: gds-bench read: free some memory");
	for (size_t i = 0; job.reports && i < job.names.count; i++)
		free(job.reports[i].error);
	free(job.reports);
	free(job.chunk);
	gds_buffer_free(job.buffer);
	setup_close(&job.setup);
	names_free(&job.names);
	return status;
}
