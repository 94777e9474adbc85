/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulation of a file system on simulated drives (simulated-lane.h), of which files
 * are read from below: it has a page cache that is written down now and then, gives
 * files blocks, takes them away and gives them to others, moves them without a trace in
 * the file's times, and tells all that by FIEMAP and fstat(2) as far as a real one does.
 *
 * All of a file's bytes tell whose they are and when they were written, so that it can
 * be judged whether bytes are ones that the file held since a moment.
 */
#ifndef GDS_TESTS_SIMULATED_FILES_H
#define GDS_TESTS_SIMULATED_FILES_H

#include "simulated-lane.h"
#include "storage/stack.h"

#include <linux/fiemap.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define CELL_BYTES     64u   /* what is written as a whole */
#define FS_BLOCK_BYTES 4096u /* what has a place */
#define FS_BLOCKS      192u  /* of the volume */
#define FS_FILE_BLOCKS 40u
#define FS_FILE_BYTES  (FS_FILE_BLOCKS * FS_BLOCK_BYTES)
#define FS_FILE_CELLS  (FS_FILE_BYTES / CELL_BYTES)
#define FS_FILES       3u
#define FS_DISKS       3u

/* Of the clock that files get times from: never at a whole second, which gds distrusts. */
#define FS_TICK_NS 21000000

/* Of no block device that a machine has. */
#define FS_DEVICE makedev(4000, 77)

struct fs_block {
	uint32_t place; /* in the volume, and one more; 0 for none */
	bool written;   /* its place holds what was written down, else it counts as zeros */
	bool dirty;     /* what it holds is in the page cache alone */
	bool encoded;   /* its place holds other bytes than the file */
};

struct fs_file {
	struct simulated_file *storage; /* what reads of the file itself give */
	unsigned number;
	ino_t inode;
	struct timespec changed;
	struct fs_block blocks[FS_FILE_BLOCKS];
	/* Of each cell: the number of the last change, and of the last that made it zeros. */
	uint32_t serial[FS_FILE_CELLS];
	uint32_t zeroed[FS_FILE_CELLS];
	/* Since the test last set these: */
	uint64_t least_bytes; /* that it has had */
	bool moved;           /* once: to and fro within one read would show nowhere */
};

/*
 * What has begun and goes on with the next change: a write with O_DIRECT, whose file
 * shows that, and not yet its bytes; or the writing anew of what has just been cut out.
 */
struct fs_writing {
	struct fs_file *file; /* NULL for none */
	uint32_t first;
	uint32_t count; /* of blocks */
	bool anew;
};

struct fs {
	struct simulation *simulation;
	struct random random;
	struct simulated_file *disks[FS_DISKS];
	int disk_fds[FS_DISKS];
	unsigned disk_count;
	struct volume *volumes;
	struct volume *volume;
	struct fs_file files[FS_FILES];
	unsigned file_count;
	bool taken[FS_BLOCKS];
	uint32_t freed; /* the place that was given back last, and one more */
	uint32_t serial;
	struct fs_writing writing;
	uint64_t now_ns;

	/* How it behaves; chances in 1000. */
	uint32_t unrest;   /* that something changes whenever it is asked anything */
	uint32_t encodes;  /* blocks that are written down */
	uint32_t breaks;   /* leases, whenever they are looked at */
	uint32_t restacks; /* the volumes below count as changed */
	bool leases;       /* it grants them */
	bool copies_on_write;
	bool wipes; /* what a block held is overwritten as soon as it is free */

	uint64_t changes; /* what has happened, of anything */
};

/* Makes the drives, and files of random bytes in `folder`, named by their numbers. */
void fs_open(struct fs *fs, struct simulation *simulation, const char *folder);
void fs_close(struct fs *fs);

struct fs_file *fs_file_of(struct fs *fs, ino_t inode);

/* Anything happens to any file. */
void fs_change(struct fs *fs);
/* The same, sometimes: called wherever something else could come in between. */
void fs_pass(struct fs *fs);
/* Writes all down, and is at peace from now on. */
void fs_settle(struct fs *fs);

/* What fstat(2), FIEMAP and the clock of files tell. */
void fs_stat(const struct fs *fs, const struct fs_file *file, struct stat *status);
void fs_fiemap(struct fs *fs, struct fs_file *file, struct fiemap *ask);
struct timespec fs_coarse_time(const struct fs *fs);

/* A stack for gds, of its volume. Closed by fs_stack_close(). */
struct stack *fs_stack_open(const struct fs *fs);
void fs_stack_close(struct stack *stack);

/* What each cell holds now, to be given to fs_held_since(). */
struct fs_moment {
	uint32_t serial[FS_FILE_CELLS];
	uint64_t bytes;
};

void fs_watch(struct fs_file *file, struct fs_moment *moment);

/* Whether the file has held these bytes in cell number `cell` at some time since then. */
bool fs_held_since(const struct fs_file *file, const struct fs_moment *moment, uint32_t cell,
		   const unsigned char *bytes);

#endif
