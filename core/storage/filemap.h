/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file as bytes of the disks below its file system: its extents, and the stack of
 * volumes under them. What it tells holds only as long as the file does not change,
 * so it is told when bytes were read by it, and says then whether they are the
 * file's: see "Files through the device below" in docs/architecture.md.
 *
 * It belongs to a reader's driver, like all that a reader keeps for a file.
 */
#ifndef GDS_STORAGE_FILEMAP_H
#define GDS_STORAGE_FILEMAP_H

#include "storage/extent.h"
#include "storage/stack.h"

#include <time.h>

struct gds_file;

/* Windows on a file's extents that are kept at a time. */
#define FILE_WINDOWS 32

enum spot_kind {
	SPOT_DATA,     /* on a disk */
	SPOT_ZEROS,    /* nowhere: the bytes are zeros */
	SPOT_REFUSED,  /* not to be had from a disk, for the reason given */
	SPOT_CHANGING, /* the file, or a volume below it, is changing */
};

/* Where a range of the file is, as far as it is together. */
struct spot {
	enum spot_kind kind;
	uint32_t disk; /* number in the stack */
	uint32_t epoch;
	uint64_t offset; /* on the disk */
	uint64_t bytes;
	const char *reason; /* static storage */
};

/* What tells that a file has changed. */
struct file_stamp {
	uint64_t bytes;
	struct timespec modified;
	struct timespec changed;
};

/* Why a file is not read from below, and what to do. Static storage. */
struct file_refusal {
	const char *reason; /* "it is encrypted ..." */
	const char *remedy;
};

struct file_map {
	struct gds_file *file;
	struct stack *stack; /* outlives the map */
	uint64_t stack_generation;
	uint32_t block_bytes; /* the largest of the disks' blocks */
	/*
	 * All that was found out under one stamp is one epoch. 0 in no epoch: the map
	 * must be made anew.
	 */
	uint32_t epoch;
	uint32_t last_epoch;
	struct file_stamp stamp;
	const struct file_refusal *refusal; /* why no epoch could begin */
	uint64_t fingerprint; /* of the stamp: what the file shows at its next look-up */
	uint64_t busy_ns;     /* until then the file counts as changing */
	uint64_t checked;     /* the last check's number, and what it found */
	bool check_good;
	struct {
		struct extent_window *extents;
		uint64_t used;    /* when last */
		uint64_t checked; /* the check for which they were asked for */
	} windows[FILE_WINDOWS];
	uint64_t uses;
};

/*
 * Whether files of this file system can be read from the device below; -EOPNOTSUPP with
 * the verdict filled.
 */
int file_map_judge_file_system(const struct gds_file *file, struct gds_path_verdict *verdict);
/* The properties of this one that forbid it, or NULL. They may change with the file. */
const struct file_refusal *file_map_refuse_file(const struct gds_file *file);

int file_map_open(struct file_map **map, struct gds_file *file, struct stack *stack);
void file_map_close(struct file_map *map);

/* Where the `bytes` at `offset` are, as far as they are together. */
void file_map_locate(struct file_map *map, uint64_t offset, uint64_t bytes, struct spot *spot);

/*
 * Whether a range that was read by `spot`, and has arrived, was the file's all the
 * time. Ranges that are asked about under one number, which is never 0 and rises,
 * share what has to be looked up; all of them had arrived before the first was
 * asked about.
 */
bool file_map_confirm(struct file_map *map, uint64_t check, uint64_t offset,
		      const struct spot *spot);

/* What the file is made of, from its beginning to the end of the first window. */
struct file_survey {
	size_t runs; /* on the device */
	uint64_t data_bytes;
	uint64_t zero_bytes;
	uint64_t refused_bytes;
	const char *reason; /* of the first refused run; static storage */
	bool whole;         /* that is all of the file */
	bool changing;      /* nothing can be told now */
};

void file_map_survey(struct file_map *map, struct file_survey *survey);

#endif
