/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thorough proof of a path: reads of many shapes into poisoned memory, with every
 * byte of them, and those around, compared through the device's own eyes.
 *
 * It is made by a reader of its own that does not look for itself: what the short proof
 * of a careful reader would stop at is what is to be seen here.
 */
#include "proof.h"

#include "report.h"
#include "setup.h"
#include "signals.h"
#include "sizes.h"
#include "source.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MOST_PROBES 16
/* Of the buffer, before and after what is read: these must stay as they were. */
#define GUARD_BYTES ((uint64_t)64 << 10)
/* The library has at most so much of a buffer registered at once. */
#define SLICE_BYTES    ((uint64_t)1 << 30)
#define TRANSFER_BYTES ((uint64_t)1 << 20)
#define LEAST_BUFFER   (4 * TRANSFER_BYTES)

/*
 * What the device's memory holds before a read, as differences from the bytes to come:
 * first OLD, then over it POISON. A byte that is neither, nor right, came from elsewhere.
 */
#define OLD    0x55
#define POISON 0xff

enum finding {
	FOUND_OK,
	FOUND_UNTOUCHED,
	FOUND_STALE,
	FOUND_PARTIAL,
	FOUND_ELSEWHERE,
	FOUND_AROUND,
	FOUND_CHECKSUM,
	FOUND_ERROR,
	FOUND_NOTHING, /* it was not tried */
};

static const char *const finding_names[] = {
	[FOUND_OK] = "ok",
	[FOUND_UNTOUCHED] = "untouched",
	[FOUND_STALE] = "stale",
	[FOUND_PARTIAL] = "partial",
	[FOUND_ELSEWHERE] = "elsewhere",
	[FOUND_AROUND] = "around",
	[FOUND_CHECKSUM] = "checksum",
	[FOUND_ERROR] = "error",
	[FOUND_NOTHING] = "not tried",
};

static const char *const finding_words[] = {
	[FOUND_OK] = "every byte is right",
	[FOUND_UNTOUCHED] = "reads were reported complete, and the memory was left untouched",
	[FOUND_STALE] = "the device sees what its memory held long before (stale)",
	[FOUND_PARTIAL] = "reads were reported complete, and only a part has arrived",
	[FOUND_ELSEWHERE] = "other bytes than the file's are there: they went elsewhere",
	[FOUND_AROUND] = "bytes around what was read were changed",
	[FOUND_CHECKSUM] = "every byte is right, yet the device's checksum is wrong",
	[FOUND_ERROR] = "a read failed",
	[FOUND_NOTHING] = "nothing was tried",
};

struct probe {
	const char *name;
	uint64_t offset; /* in the file */
	uint64_t bytes;
	uint64_t place; /* in the buffer */
	enum finding finding;
	uint64_t right, untouched, stale, other; /* of the bytes */
	uint64_t around;                         /* changed outside of them */
	uint64_t path_bytes[GDS_PATH_COUNT];
	char error[256];
};

/* One run of the proof. */
struct run {
	const struct proof *proof;
	const struct options *options;
	struct gds_reader *reader;
	struct gds_buffer *buffer;
	uint64_t buffer_bytes;
	struct source source;
	unsigned char *seen; /* SOURCE_MOST_BYTES of the device's memory */
	enum gds_path path;
	struct probe probes[MOST_PROBES];
	size_t count;
	/* A file of one value looks the same everywhere. */
	int first_value;
	bool varied;
};

/* ---- What is tried ---------------------------------------------------------------- */

static void add(struct run *run, const char *name, uint64_t offset, uint64_t bytes, uint64_t place)
{
	if (offset >= run->proof->file_bytes || place >= run->buffer_bytes)
		return;
	bytes = least(bytes, run->proof->file_bytes - offset);
	bytes = least(bytes, run->buffer_bytes - place);
	run->probes[run->count++] =
		(struct probe){ .name = name, .offset = offset, .bytes = bytes, .place = place };
}

static uint64_t round_down(uint64_t value, uint64_t unit)
{
	return value / unit * unit;
}

/* Small ones first: what does not deliver is not asked for much. */
static void plan(struct run *run, uint64_t block)
{
	uint64_t bytes = run->proof->file_bytes;
	uint64_t room = run->buffer_bytes;
	uint64_t middle = round_down(bytes / 2, block);

	add(run, "first block", 0, block, 0);
	if (bytes >= block)
		add(run, "last block", round_down(bytes, block) - block, block,
		    round_down(room, PAGE_BYTES) - block);
	add(run, "block in the middle", middle, block, round_down(room / 2, PAGE_BYTES) + block);
	add(run, "part of a block", middle + block / 2 - 3, 7, room / 3);
	add(run, "end of the file", bytes - least(bytes, 5000), 5000, GUARD_BYTES);
	add(run, "one transfer", round_down(bytes / 3, block), TRANSFER_BYTES, GUARD_BYTES);
	add(run, "unaligned ends", block / 2 + 1, TRANSFER_BYTES / 2 + 77,
	    GUARD_BYTES + block / 2 + 1);
	add(run, "unaligned, moved", block + 3, TRANSFER_BYTES / 4 + 1234, GUARD_BYTES + 7);
	add(run, "several transfers", 0, 3 * TRANSFER_BYTES + block,
	    room - round_up(3 * TRANSFER_BYTES + block + GUARD_BYTES, PAGE_BYTES));
	if (room >= SLICE_BYTES + TRANSFER_BYTES)
		add(run, "across slices", 0, 2 * TRANSFER_BYTES, SLICE_BYTES - TRANSFER_BYTES);
	add(run, "whole", 0, room - GUARD_BYTES, 0);
}

/* ---- The memory around ------------------------------------------------------------- */

static unsigned char guard_byte(uint64_t place)
{
	return (unsigned char)((place + 1) * UINT64_C(0x9e3779b97f4a7c15) >> 56);
}

struct guard {
	uint64_t place;
	size_t bytes;
};

static void guards_of(const struct run *run, const struct probe *probe, struct guard guards[2])
{
	uint64_t end = probe->place + probe->bytes;

	guards[0].bytes = (size_t)least(GUARD_BYTES, probe->place);
	guards[0].place = probe->place - guards[0].bytes;
	guards[1].bytes = (size_t)least(GUARD_BYTES, run->buffer_bytes - end);
	guards[1].place = end;
}

static int paint_guards(struct run *run, const struct probe *probe)
{
	struct guard guards[2];
	int error = 0;

	guards_of(run, probe, guards);
	for (size_t i = 0; i < 2 && !error; i++) {
		for (size_t j = 0; j < guards[i].bytes; j++)
			run->seen[j] = guard_byte(guards[i].place + j);
		if (guards[i].bytes)
			error = gds_buffer_copy_in(run->buffer, guards[i].place, run->seen,
						   guards[i].bytes);
	}
	return error;
}

static int look_at_guards(struct run *run, struct probe *probe)
{
	struct guard guards[2];
	int error = 0;

	guards_of(run, probe, guards);
	for (size_t i = 0; i < 2 && !error; i++) {
		if (guards[i].bytes)
			error = gds_buffer_copy_out(run->buffer, guards[i].place, run->seen,
						    guards[i].bytes);
		for (size_t j = 0; j < guards[i].bytes && !error; j++)
			probe->around += run->seen[j] != guard_byte(guards[i].place + j);
	}
	return error;
}

/* ---- A probe ------------------------------------------------------------------------ */

static int copy_differing(struct run *run, const unsigned char *data, size_t bytes, uint64_t place,
			  unsigned char difference)
{
	for (size_t i = 0; i < bytes; i++)
		run->seen[i] = data[i] ^ difference;
	return gds_buffer_copy_in(run->buffer, place, run->seen, bytes);
}

static enum status poison(struct run *run, const struct probe *probe, uint32_t *crc)
{
	enum status status = STATUS_OK;
	unsigned char *data;
	int error = paint_guards(run, probe);

	for (uint64_t at = 0; at < probe->bytes && !error; at += SOURCE_MOST_BYTES) {
		size_t bytes = (size_t)least(SOURCE_MOST_BYTES, probe->bytes - at);

		status = source_read(&run->source, probe->offset + at, bytes, &data);
		if (status != STATUS_OK)
			return status;
		*crc = (uint32_t)crc32(*crc, data, (uInt)bytes);
		error = copy_differing(run, data, bytes, probe->place + at, OLD);
		if (!error)
			error = copy_differing(run, data, bytes, probe->place + at, POISON);
		if (signals_pending())
			return fail_signal(run->proof->name);
	}
	return error ? fail_library(error) : STATUS_OK;
}

static enum status read_probe(struct run *run, struct probe *probe)
{
	struct gds_batch_options options = { .size = sizeof(options),
					     .path = (uint32_t)run->path,
					     .flags = GDS_BATCH_NO_FALLBACK };
	struct gds_request request = { .file = run->proof->file,
				       .buffer = run->buffer,
				       .offset = probe->offset,
				       .length = probe->bytes,
				       .buffer_offset = probe->place };
	struct gds_result result = { 0 };
	struct gds_batch *batch;
	enum status status = STATUS_OK;
	int error = gds_batch_create(&batch, run->reader, &options);

	if (error)
		return fail_library(error);
	error = (int)gds_batch_add(batch, &request, 1);
	if (error >= 0)
		error = gds_batch_submit(batch);
	if (error >= 0)
		status = batch_finish(batch, run->proof->name, NULL, NULL);
	if (error >= 0 && status == STATUS_OK)
		error = gds_batch_result(batch, 0, &result);
	if (error >= 0 && result.bytes < 0)
		error = (int)result.bytes;
	if (error < 0) {
		probe->finding = FOUND_ERROR;
		snprintf(probe->error, sizeof(probe->error), "%s", gds_last_error());
	} else if (status == STATUS_OK && (uint64_t)result.bytes != probe->bytes) {
		probe->finding = FOUND_ERROR;
		snprintf(probe->error, sizeof(probe->error), "%" PRId64 " bytes of %" PRIu64,
			 result.bytes, probe->bytes);
	}
	memcpy(probe->path_bytes, result.path_bytes, sizeof(probe->path_bytes));
	gds_batch_destroy(batch);
	return status;
}

static void classify(struct run *run, struct probe *probe, const unsigned char *wanted,
		     size_t bytes)
{
	if (run->first_value < 0)
		run->first_value = wanted[0];
	for (size_t i = 0; i < bytes; i++) {
		unsigned char difference = run->seen[i] ^ wanted[i];

		probe->right += difference == 0;
		probe->untouched += difference == POISON;
		probe->stale += difference == OLD;
		run->varied |= wanted[i] != run->first_value;
	}
}

static enum finding judge(struct probe *probe)
{
	probe->other = probe->bytes - probe->right - probe->untouched - probe->stale;
	if (probe->other)
		return FOUND_ELSEWHERE;
	if (probe->untouched == probe->bytes)
		return FOUND_UNTOUCHED;
	if (probe->stale == probe->bytes)
		return FOUND_STALE;
	if (probe->right != probe->bytes)
		return FOUND_PARTIAL;
	return probe->around ? FOUND_AROUND : FOUND_OK;
}

static enum status look(struct run *run, struct probe *probe, uint32_t *crc)
{
	enum status status;
	unsigned char *data;
	int error = 0;

	for (uint64_t at = 0; at < probe->bytes; at += SOURCE_MOST_BYTES) {
		size_t bytes = (size_t)least(SOURCE_MOST_BYTES, probe->bytes - at);

		status = source_read(&run->source, probe->offset + at, bytes, &data);
		if (status != STATUS_OK)
			return status;
		*crc = (uint32_t)crc32(*crc, data, (uInt)bytes);
		error = gds_buffer_copy_out(run->buffer, probe->place + at, run->seen, bytes);
		if (error)
			return fail_library(error);
		classify(run, probe, data, bytes);
		if (signals_pending())
			return fail_signal(run->proof->name);
	}
	error = look_at_guards(run, probe);
	if (error)
		return fail_library(error);
	probe->finding = judge(probe);
	return STATUS_OK;
}

/* The device sums what it sees; not every device can. */
static enum status sum(struct run *run, struct probe *probe, uint32_t crc)
{
	uint32_t device_crc = 0;
	int error;

	if (run->options->no_checksum)
		return STATUS_OK;
	error = gds_buffer_checksum(run->buffer, probe->place, probe->bytes, &device_crc);
	if (error == -ENOTSUP)
		return STATUS_OK;
	if (error)
		return fail_library(error);
	if (probe->finding == FOUND_OK && device_crc != crc)
		probe->finding = FOUND_CHECKSUM;
	return STATUS_OK;
}

static enum status try(struct run *run, struct probe *probe)
{
	uint32_t before = 0, after = 0;
	enum status status = poison(run, probe, &before);

	if (status == STATUS_OK)
		status = read_probe(run, probe);
	if (status != STATUS_OK || probe->finding == FOUND_ERROR)
		return status;
	status = look(run, probe, &after);
	if (status == STATUS_OK && before != after)
		return fail(STATUS_FAILED,
			    "file changed while it was read: %s: its checksum went from %08x to "
			    "%08x: prove a path while nobody writes it",
			    run->proof->name, before, after);
	return status == STATUS_OK ? sum(run, probe, after) : status;
}

static enum status try_all(struct run *run)
{
	bool failed = false;
	enum status status;

	for (size_t i = 0; i < run->count; i++) {
		struct probe *probe = &run->probes[i];

		/* What goes elsewhere may hit anything: little of it tells enough. */
		if (failed && probe->bytes > TRANSFER_BYTES) {
			probe->finding = FOUND_NOTHING;
			continue;
		}
		status = try(run, probe);
		if (status != STATUS_OK)
			return status;
		failed |= probe->finding != FOUND_OK;
	}
	return STATUS_OK;
}

/* ---- What was found ------------------------------------------------------------------ */

/* The first probe that was not right, or NULL. */
static const struct probe *first_wrong(const struct run *run)
{
	for (size_t i = 0; i < run->count; i++)
		if (run->probes[i].finding != FOUND_OK)
			return &run->probes[i];
	return NULL;
}

static uint64_t bytes_proven(const struct run *run)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < run->count; i++)
		bytes += run->probes[i].right;
	return bytes;
}

static void conclusion(const struct run *run, char *text, size_t bytes)
{
	const struct probe *wrong = first_wrong(run);
	char size[SIZE_TEXT_BYTES];

	if (run->count == 0)
		snprintf(text, bytes, "the file is empty: there was nothing to read");
	else if (!wrong)
		snprintf(text, bytes, "%zu reads of %s in all: %s%s", run->count,
			 size_format(size, (double)bytes_proven(run)), finding_words[FOUND_OK],
			 run->varied ? ""
				     : ", but all of the same value, so that bytes of a wrong "
				       "place would look right");
	else
		snprintf(text, bytes, "%s: %s%s%s", wrong->name, finding_words[wrong->finding],
			 wrong->error[0] ? ": " : "", wrong->error);
}

static void add_details(const struct probe *probe, struct table *table)
{
	char carriers[128];

	path_bytes_format(probe->path_bytes, carriers, sizeof(carriers));
	if (probe->finding == FOUND_ERROR)
		table_add(table, "%s", probe->error);
	else if (probe->finding == FOUND_OK || probe->finding == FOUND_NOTHING)
		table_add(table, "%s", carriers);
	else
		table_add(table,
			  "%s; %" PRIu64 " right, %" PRIu64 " untouched, %" PRIu64
			  " stale, %" PRIu64 " others, %" PRIu64 " changed around",
			  carriers, probe->right, probe->untouched, probe->stale, probe->other,
			  probe->around);
}

static void print_run(const struct run *run, const char *text)
{
	char size[SIZE_TEXT_BYTES];
	struct table table;

	printf("  proof of path %s, in %s of the device's memory\n", gds_path_name(run->path),
	       size_format(size, (double)run->buffer_bytes));
	table_begin(&table, 6);
	for (size_t i = 0; i < run->count; i++) {
		const struct probe *probe = &run->probes[i];

		table_add(&table, "    %s", probe->name);
		table_add(&table, "%s", size_format(size, (double)probe->bytes));
		table_add(&table, "from %" PRIu64, probe->offset);
		table_add(&table, "to %" PRIu64, probe->place);
		table_add(&table, "%s", finding_names[probe->finding]);
		add_details(probe, &table);
	}
	table_print(&table);
	printf("  %s: %s\n", first_wrong(run) || !run->count ? "not proven" : "proven", text);
}

static json_t *probe_json(const struct probe *probe)
{
	json_t *object = json_object();

	json_put(object, KEY_PROBE, json_text(probe->name));
	json_put(object, KEY_OFFSET, json_integer((json_int_t)probe->offset));
	json_put(object, KEY_BYTES, json_integer((json_int_t)probe->bytes));
	json_put(object, KEY_BUFFER_OFFSET, json_integer((json_int_t)probe->place));
	json_put(object, KEY_FINDING, json_text(finding_names[probe->finding]));
	json_put(object, KEY_RIGHT_BYTES, json_integer((json_int_t)probe->right));
	json_put(object, KEY_UNTOUCHED_BYTES, json_integer((json_int_t)probe->untouched));
	json_put(object, KEY_STALE_BYTES, json_integer((json_int_t)probe->stale));
	json_put(object, KEY_OTHER_BYTES, json_integer((json_int_t)probe->other));
	json_put(object, KEY_AROUND_BYTES, json_integer((json_int_t)probe->around));
	json_put_path_bytes(object, probe->path_bytes);
	json_put(object, KEY_REASON, json_text(probe->error));
	return object;
}

static void put_run(const struct run *run, const char *text, json_t *object)
{
	json_t *proof = json_object();
	json_t *probes = json_array();

	for (size_t i = 0; i < run->count; i++)
		json_array_append_new(probes, probe_json(&run->probes[i]));
	json_put(proof, KEY_PATH, json_text(gds_path_name(run->path)));
	json_put(proof, KEY_PROVEN, json_boolean(run->count && !first_wrong(run)));
	json_put(proof, KEY_CONCLUSION, json_text(text));
	json_put(proof, KEY_BUFFER_BYTES, json_integer((json_int_t)run->buffer_bytes));
	json_put(proof, KEY_PROBES, probes);
	json_put(object, KEY_PROOF, proof);
}

static enum status tell(const struct run *run, json_t *object)
{
	const struct proof *proof = run->proof;
	char text[640];

	conclusion(run, text, sizeof(text));
	if (object)
		put_run(run, text, object);
	else
		print_run(run, text);
	/* What a reader refuses by itself does no harm. */
	if (!first_wrong(run) || !proof->explanation->paths[run->path].usable)
		return STATUS_OK;
	return fail(STATUS_FAILED, "path %s: %s into %s: %s: do not trust this path, take another",
		    gds_path_name(run->path), proof->name, proof->info->name, text);
}

/* ---- A run --------------------------------------------------------------------------- */

/* The most that the device gives of what is wanted. */
static int take_buffer(struct run *run)
{
	const struct options *options = run->options;
	uint64_t memory_bytes = run->proof->info->memory_bytes;
	uint64_t want = least(run->proof->file_bytes, SLICE_BYTES + LEAST_BUFFER);
	uint32_t flags = options->host_memory ? GDS_BUFFER_HOST : 0;
	int error;

	if (options->length != OPTION_UNSET)
		want = least(run->proof->file_bytes, options->length);
	else if (memory_bytes)
		want = least(want, memory_bytes / 2);
	want = round_up(want, PAGE_BYTES) + GUARD_BYTES;
	if (want < LEAST_BUFFER)
		want = LEAST_BUFFER;
	while ((error = gds_buffer_alloc(&run->buffer, run->proof->device, want, flags)) ==
		       -ENOMEM &&
	       want / 2 >= LEAST_BUFFER)
		want = round_up(want / 2, PAGE_BYTES);
	run->buffer_bytes = want;
	return error;
}

static enum gds_path choose(const struct run *run, const struct gds_explanation *explanation)
{
	if (run->options->path != GDS_PATH_AUTO)
		return (enum gds_path)run->options->path;
	if (explanation->paths[GDS_PATH_DMABUF].usable)
		return GDS_PATH_DMABUF;
	return (enum gds_path)explanation->path;
}

static enum status open_run(struct run *run, uint64_t *block)
{
	struct options settings = *run->options;
	struct gds_explanation explanation = { .size = sizeof(explanation) };
	enum status status;
	int error;

	settings.no_canary = true;
	settings.queue_depth = 64;
	settings.block_bytes = TRANSFER_BYTES;
	status = reader_open(&run->reader, &settings);
	if (status != STATUS_OK)
		return status;
	error = take_buffer(run);
	if (!error)
		error = gds_explain(run->reader, run->proof->file, run->buffer, &explanation);
	if (error)
		return fail_library(error);
	run->path = choose(run, &explanation);
	*block = explanation.offset_alignment > 512 ? explanation.offset_alignment : 512;
	run->seen = malloc(SOURCE_MOST_BYTES);
	if (!run->seen)
		return fail(STATUS_FAILED, "out of memory: proving %s: free some memory",
			    run->proof->name);
	return source_open(&run->source, run->proof->name);
}

static void close_run(struct run *run)
{
	source_close(&run->source);
	free(run->seen);
	gds_buffer_free(run->buffer);
	gds_reader_close(run->reader);
}

enum status proof_run(const struct proof *proof, const struct options *options, json_t *object)
{
	struct run run = { .proof = proof, .options = options, .first_value = -1 };
	uint64_t block = 512;
	enum status status = open_run(&run, &block);

	if (status == STATUS_OK) {
		plan(&run, block);
		status = try_all(&run);
	}
	if (status == STATUS_OK)
		status = tell(&run, object);
	close_run(&run);
	return status;
}
