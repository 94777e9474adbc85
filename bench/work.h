/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a benchmark reads: blocks of files in order or at random, random pieces of
 * them, or the lines of a trace.
 */
#ifndef BENCH_WORK_H
#define BENCH_WORK_H

#include "names.h"
#include "offsets.h"
#include "options.h"
#include "status.h"

#include <gds/gds.h>

struct work_file {
	struct gds_file *file;
	const char *name;
	uint64_t bytes;
	uint64_t before; /* of the working set, in the files before: blocks, or bytes */
};

struct work {
	enum work_kind {
		WORK_BLOCKS,
		WORK_PIECES,
		WORK_TRACE,
	} kind;
	struct names names;
	struct work_file *files;
	size_t file_count;
	struct offsets offsets; /* blocks, and the generator */
	size_t current;         /* the file of the last block */
	double files_per_place; /* places as in `before` of files */
	uint64_t bytes;         /* of the working set */
	uint64_t reads;         /* of one pass over it */
	uint64_t most_bytes;    /* of one read */

	uint64_t least_piece; /* of random pieces: lengths, and what they are multiples of */
	uint64_t most_piece;
	uint64_t piece_unit;

	struct work_line {
		size_t file;
		uint64_t offset;
		uint64_t length;
	} * lines;
	size_t line_room;
	uint64_t next_line;
};

/* Opens the files and lays the work out. What it has opened is closed by work_close(). */
enum status work_open(struct work *work, const struct options *options);
void work_close(struct work *work);

/* Whether a read can be of another file or length than the one before. */
static inline bool work_varies(const struct work *work)
{
	return work->kind != WORK_BLOCKS || work->file_count > 1;
}

/* Where the next reads are from: their files, offsets and lengths. */
void work_fill(struct work *work, struct gds_request *requests, size_t count);

/* "big.bin", or "big.bin and 3 more". */
const char *work_name(const struct work *work, char *text, size_t bytes);

#endif
