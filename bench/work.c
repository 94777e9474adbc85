/* SPDX-License-Identifier: Apache-2.0 */
#include "work.h"

#include "setup.h"
#include "sizes.h"

#include <errno.h>
#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* ---- Files ---- */

static enum status open_file(struct work_file *file, const char *name)
{
	int error = gds_file_open(&file->file, name);
	int64_t bytes;

	if (error)
		return fail(STATUS_FAILED, "%s", gds_last_error());
	bytes = gds_file_bytes(file->file);
	if (bytes < 0)
		return fail_library((int)bytes);
	file->name = name;
	file->bytes = (uint64_t)bytes;
	return STATUS_OK;
}

/* The usual limit of 1024 descriptors is meant to be raised by those who need more. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static enum status open_files(struct work *work)
{
	enum status status = STATUS_OK;

	if (work->names.count > 100)
		raise_file_limit();
	work->files = calloc(work->names.count ? work->names.count : 1, sizeof(*work->files));
	if (!work->files)
		return fail(STATUS_FAILED, "out of memory: gds-bench bench: name fewer files");
	for (size_t i = 0; i < work->names.count && status == STATUS_OK; i++) {
		status = open_file(&work->files[work->file_count], work->names.list[i]);
		work->file_count++;
	}
	return status;
}

/* ---- Blocks ---- */

/* Cuts the working set, which begins with the first file, to --size. */
static enum status lay_blocks(struct work *work, const struct options *options)
{
	uint64_t left = options->size;
	uint64_t blocks = 0;

	for (size_t i = 0; i < work->file_count; i++) {
		struct work_file *file = &work->files[i];
		uint64_t bytes = least(file->bytes, left);

		file->before = blocks;
		blocks += bytes / options->block_bytes;
		work->bytes += bytes;
		if (options->size != OPTION_UNSET)
			left -= bytes;
	}
	if (options->size != OPTION_UNSET && left > 0)
		return fail(STATUS_FAILED,
			    "working set beyond the end: %s: there are %" PRIu64
			    " bytes: give a smaller --size",
			    work->files[0].name, work->bytes);
	if (blocks == 0)
		return fail(STATUS_FAILED,
			    "nothing to read: %s: the working set of %" PRIu64
			    " bytes holds no block of %" PRIu64 ": give a smaller --bs",
			    work->files[0].name, work->bytes, options->block_bytes);
	work->reads = blocks;
	work->files_per_place = (double)work->file_count / (double)blocks;
	work->most_bytes = options->block_bytes;
	offsets_begin(&work->offsets, options->direction == DIRECTION_RANDREAD, blocks,
		      options->block_bytes, options->seed);
	return STATUS_OK;
}

static bool file_holds(const struct work *work, size_t file, uint64_t place)
{
	return place >= work->files[file].before &&
	       (file + 1 == work->file_count || place < work->files[file + 1].before);
}

/*
 * The file that holds a place of the working set. In order it is mostly the last one, and
 * where files are of about one size it is near where it would be if they all were.
 */
static size_t find_file(struct work *work, uint64_t place)
{
	size_t low = 0;
	size_t high = work->file_count;
	size_t guess;

	if (file_holds(work, work->current, place))
		return work->current;
	guess = (size_t)((double)place * work->files_per_place);
	for (size_t tries = 0; tries < 2 && guess < work->file_count; tries++, guess++)
		if (file_holds(work, guess, place))
			return work->current = guess;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (work->files[middle].before <= place)
			low = middle;
		else
			high = middle;
	}
	work->current = low;
	return low;
}

static void next_block(struct work *work, struct gds_request *request)
{
	uint64_t block = offsets_next(&work->offsets) / work->offsets.block_bytes;
	const struct work_file *file = &work->files[find_file(work, block)];

	request->file = file->file;
	request->offset = (block - file->before) * work->offsets.block_bytes;
}

/* ---- Pieces ---- */

/* "100k", or "2k-200k". */
static const char *parse_range(const char *text, uint64_t *least_bytes, uint64_t *most_bytes)
{
	const char *dash = strchr(text, '-');
	char low[SIZE_TEXT_BYTES];
	const char *wrong;

	if (!dash) {
		wrong = size_parse(text, most_bytes);
		*least_bytes = *most_bytes;
	} else if ((size_t)(dash - text) >= sizeof(low)) {
		return "not a size";
	} else {
		snprintf(low, sizeof(low), "%.*s", (int)(dash - text), text);
		wrong = size_parse(low, least_bytes);
		if (!wrong)
			wrong = size_parse(dash + 1, most_bytes);
	}
	if (!wrong && (*least_bytes == 0 || *least_bytes > *most_bytes))
		wrong = "give a size above 0, or the smaller one first";
	return wrong;
}

static enum status lay_pieces(struct work *work, const struct options *options)
{
	const char *wrong = parse_range(options->sample, &work->least_piece, &work->most_piece);

	if (wrong)
		return fail(STATUS_USAGE, "bad value: --sample %s: %s", options->sample, wrong);
	if (options->align > work->least_piece)
		return fail(STATUS_USAGE,
			    "bad value: --align %" PRIu64 ": pieces of --sample %s can be smaller: "
			    "align them to less",
			    options->align, options->sample);
	for (size_t i = 0; i < work->file_count; i++) {
		work->files[i].before = work->bytes;
		work->bytes += work->files[i].bytes;
	}
	work->files_per_place = (double)work->file_count / (double)work->bytes;
	work->piece_unit = options->align;
	work->most_bytes = work->most_piece;
	work->reads = work->bytes / ((work->least_piece + work->most_piece) / 2 + 1);
	if (work->bytes < work->most_piece || work->reads == 0)
		return fail(STATUS_FAILED,
			    "nothing to read: %s: %" PRIu64 " bytes hold no piece of %" PRIu64
			    ": give a smaller --sample",
			    work->files[0].name, work->bytes, work->most_piece);
	offsets_begin(&work->offsets, true, work->bytes, 1, options->seed);
	return STATUS_OK;
}

static uint64_t down(uint64_t value, uint64_t unit)
{
	return value / unit * unit;
}

/* Each byte of the files is as likely as any other to have a piece begin at it. */
static void next_piece(struct work *work, struct gds_request *request)
{
	uint64_t place = offsets_next(&work->offsets);
	const struct work_file *file = &work->files[find_file(work, place)];
	uint64_t spread = work->most_piece - work->least_piece + 1;
	uint64_t bytes = work->least_piece;
	uint64_t offset = place - file->before;

	if (spread > 1)
		bytes += (uint64_t)(((unsigned __int128)offsets_random(&work->offsets) * spread) >>
				    64);
	if (bytes > work->piece_unit)
		bytes = down(bytes, work->piece_unit);
	bytes = least(bytes, file->bytes);
	request->file = file->file;
	request->length = bytes;
	request->offset = down(least(offset, file->bytes - bytes), work->piece_unit);
}

/* ---- Traces ---- */

struct trace {
	struct work *work;
	const char *path;
	FILE *stream;
	void *tree; /* of struct known: names that have come before */
	size_t number;
};

struct known {
	const char *name;
	size_t file;
};

static int compare_known(const void *a, const void *b)
{
	return strcmp(((const struct known *)a)->name, ((const struct known *)b)->name);
}

static enum status fail_line(const struct trace *trace, const char *wrong)
{
	return fail(STATUS_FAILED, "bad line: %s:%zu: %s: a line is: path offset length",
		    trace->path, trace->number, wrong);
}

static enum status out_of_memory(const struct trace *trace)
{
	return fail(STATUS_FAILED, "out of memory: %s:%zu: give a shorter trace", trace->path,
		    trace->number);
}

/* The number of the file in names, which it is added to if it is new. */
static enum status know_name(struct trace *trace, const char *name, size_t *file)
{
	struct names *names = &trace->work->names;
	struct known wanted = { .name = name };
	struct known **found = tfind(&wanted, &trace->tree, compare_known);
	struct known *known;
	enum status status;
	struct names one;

	if (found) {
		*file = (*found)->file;
		return STATUS_OK;
	}
	status = names_expand(&one, &name, 1);
	if (status == STATUS_OK && one.count != 1)
		status = fail_line(trace, "it names a directory");
	if (status == STATUS_OK)
		status = names_join(names, &one);
	names_free(&one);
	if (status != STATUS_OK)
		return status;
	known = malloc(sizeof(*known));
	if (!known)
		return out_of_memory(trace);
	*file = names->count - 1;
	*known = (struct known){ names->list[*file], *file };
	if (!tsearch(known, &trace->tree, compare_known)) {
		free(known);
		return out_of_memory(trace);
	}
	return STATUS_OK;
}

static enum status add_line(struct trace *trace, const struct work_line *line)
{
	struct work *work = trace->work;
	size_t room = work->line_room ? 2 * work->line_room : 1024;
	struct work_line *lines;

	if (work->reads == work->line_room) {
		lines = reallocarray(work->lines, room, sizeof(*lines));
		if (!lines)
			return out_of_memory(trace);
		work->lines = lines;
		work->line_room = room;
	}
	work->lines[work->reads++] = *line;
	work->bytes += line->length;
	if (line->length > work->most_bytes)
		work->most_bytes = line->length;
	return STATUS_OK;
}

/* Cuts the last word off the text; NULL where there is none. */
static char *last_word(char *text)
{
	size_t length = strlen(text);

	while (length > 0 && strchr(" \t\r\n", text[length - 1]))
		text[--length] = '\0';
	while (length > 0 && !strchr(" \t", text[length - 1]))
		length--;
	if (length == 0)
		return NULL;
	text[length - 1] = '\0';
	return &text[length];
}

/* A path may have spaces: offset and length are the last two words. */
static enum status read_line(struct trace *trace, char *text)
{
	struct work_line line;
	const char *length;
	const char *offset;
	const char *wrong;
	enum status status;

	text += strspn(text, " \t\r\n");
	if (*text == '\0' || *text == '#')
		return STATUS_OK;
	length = last_word(text);
	offset = length ? last_word(text) : NULL;
	if (!offset)
		return fail_line(trace, "it has fewer than three words");
	wrong = size_parse(offset, &line.offset);
	if (!wrong)
		wrong = size_parse(length, &line.length);
	if (wrong)
		return fail_line(trace, wrong);
	if (line.length == 0 || line.length > INT64_MAX || line.offset > INT64_MAX)
		return fail_line(trace, "the length is 0, or a number is too large");
	status = know_name(trace, text, &line.file);
	return status == STATUS_OK ? add_line(trace, &line) : status;
}

static void free_known(void *node)
{
	free(node);
}

static enum status read_trace(struct work *work, const char *path)
{
	struct trace trace = { .work = work, .path = path };
	enum status status = STATUS_OK;
	char *text = NULL;
	size_t room = 0;

	trace.stream = fopen(path, "re");
	if (!trace.stream)
		return fail(STATUS_FAILED, "cannot open the trace: %s: %s: check the name", path,
			    strerror(errno));
	for (trace.number = 1; status == STATUS_OK && getline(&text, &room, trace.stream) >= 0;
	     trace.number++)
		status = read_line(&trace, text);
	if (status == STATUS_OK && ferror(trace.stream))
		status = fail(STATUS_FAILED, "cannot read the trace: %s: %s: check the name", path,
			      strerror(errno));
	if (status == STATUS_OK && work->reads == 0)
		status =
			fail(STATUS_FAILED, "empty trace: %s: a line is: path offset length", path);
	free(text);
	fclose(trace.stream);
	tdestroy(trace.tree, free_known);
	return status;
}

/* Every line must lie within its file: a short read would not be told from a wrong one. */
static enum status check_lines(const struct work *work, const char *path)
{
	for (uint64_t i = 0; i < work->reads; i++) {
		const struct work_line *line = &work->lines[i];
		const struct work_file *file = &work->files[line->file];

		if (line->length > file->bytes || line->offset > file->bytes - line->length)
			return fail(STATUS_FAILED,
				    "read beyond the end: %s: %" PRIu64 " bytes at %" PRIu64
				    " of %s, which has %" PRIu64 ": mend the trace",
				    path, line->length, line->offset, file->name, file->bytes);
	}
	return STATUS_OK;
}

static void next_line(struct work *work, struct gds_request *request)
{
	const struct work_line *line = &work->lines[work->next_line];

	work->next_line = (work->next_line + 1) % work->reads;
	request->file = work->files[line->file].file;
	request->offset = line->offset;
	request->length = line->length;
}

/* ---- All ---- */

static void next(struct work *work, struct gds_request *request)
{
	switch (work->kind) {
	case WORK_BLOCKS:
		next_block(work, request);
		break;
	case WORK_PIECES:
		next_piece(work, request);
		break;
	case WORK_TRACE:
		next_line(work, request);
		break;
	}
}

void work_fill(struct work *work, struct gds_request *requests, size_t count)
{
	struct offsets offsets = work->offsets;

	if (work_varies(work)) {
		for (size_t i = 0; i < count; i++)
			next(work, &requests[i]);
		return;
	}
	for (size_t i = 0; i < count; i++)
		requests[i].offset = offsets_next(&offsets);
	work->offsets = offsets;
}

static enum status check_operands(const struct options *options)
{
	if (options->trace && (options->file_count || options->sample))
		return fail(STATUS_USAGE, "too much to read: --trace %s: leave out %s",
			    options->trace,
			    options->sample ? "--sample" : "the files, which the trace names");
	if (options->size != OPTION_UNSET && (options->trace || options->sample))
		return fail(STATUS_USAGE,
			    "too much to read: --size: it cuts a working set of blocks: leave it "
			    "out with --%s",
			    options->trace ? "trace" : "sample");
	if (!options->trace && options->file_count == 0)
		return fail(STATUS_USAGE, "no file: gds-bench bench: give it FILE... or --trace "
					  "FILE");
	return STATUS_OK;
}

enum status work_open(struct work *work, const struct options *options)
{
	enum status status = check_operands(options);

	*work = (struct work){ 0 };
	if (status != STATUS_OK)
		return status;
	if (options->trace) {
		work->kind = WORK_TRACE;
		status = read_trace(work, options->trace);
	} else {
		work->kind = options->sample ? WORK_PIECES : WORK_BLOCKS;
		status = names_expand(&work->names, options->files, options->file_count);
	}
	if (status == STATUS_OK)
		status = open_files(work);
	if (status != STATUS_OK)
		return status;
	if (work->kind == WORK_TRACE)
		return check_lines(work, options->trace);
	return options->sample ? lay_pieces(work, options) : lay_blocks(work, options);
}

void work_close(struct work *work)
{
	for (size_t i = 0; i < work->file_count; i++)
		gds_file_close(work->files[i].file);
	free(work->files);
	free(work->lines);
	names_free(&work->names);
	*work = (struct work){ 0 };
}

const char *work_name(const struct work *work, char *text, size_t bytes)
{
	if (work->file_count == 1)
		return work->files[0].name;
	snprintf(text, bytes, "%s and %zu more", work->files[0].name, work->file_count - 1);
	return text;
}
