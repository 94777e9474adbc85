/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that are read from the devices below their file system: what a reader keeps
 * for the volumes and disks that they share, and the way from a file to them.
 */
#ifndef GDS_PATH_BELOW_H
#define GDS_PATH_BELOW_H

#include "path/dmabuf.h"
#include "path/route.h"
#include "storage/filemap.h"

/* What a file system, or a volume itself, stands on. Kept as long as files of it are. */
struct reader_volumes {
	struct reader_volumes *next; /* of the reader's */
	bool of_files;               /* of a file system, which was judged */
	struct stack *stack;
	unsigned files;
	struct reader_target *targets[STACK_DISKS_MAX]; /* by the disk's number */
};

/* Most bytes of zeros that are laid out at once. */
#define ZEROS_BYTES (UINT32_C(1) << 20)

/* Whether the file is read from devices below it, if directly at all, and not by itself. */
bool below_is(const struct gds_file *file);

/*
 * Readies the file for being read from below: its map and its targets. A negative
 * errno, with the verdict filled, where that cannot be. Called by the driver.
 */
int below_open(struct gds_reader *reader, struct reader_file *file,
	       struct gds_path_verdict *verdict);
/*
 * Whether any of the file can be read from below: -EOPNOTSUPP with the verdict filled
 * where nothing can; with a drawback in it where a part cannot.
 */
int below_judge(struct reader_file *file, struct gds_path_verdict *verdict);
/* In words: how the file lies below, and what drives it is read from, a line on each. */
void below_describe(struct reader_file *file, char *layout, size_t size);
void below_describe_drives(const struct reader_file *file, const struct gds_device *device,
			   char *drives, size_t size);
void below_close(struct gds_reader *reader, struct reader_file *file);

/* The target for a disk of the volumes: they may have come to stand on another one. */
int below_target(struct gds_reader *reader, struct reader_volumes *volumes, uint32_t disk,
		 struct reader_target **target);

/* An operation by the devices below sets out, and is back. */
void below_enter(struct gds_reader *reader, struct reader_file *file);
static inline void below_leave(struct reader_file *file)
{
	file->in_flight--;
}

/*
 * Leases keep writers from files that are read, where the kernel grants them, but only
 * as long as a thread stays to drive: one that has left would keep them waiting for no
 * good. Given back are those that someone waits for, or that no operation needs; or all.
 */
void below_take_leases(struct gds_reader *reader);
void below_give_leases(struct gds_reader *reader, bool all);

/* When the reader is closed: the targets, whose maps are closed with them. */
void below_close_targets(struct gds_reader *reader);

#endif
