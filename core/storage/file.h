/* SPDX-License-Identifier: Apache-2.0 */
/* A regular file or a block device, and what O_DIRECT asks of reads from it. */
#ifndef GDS_STORAGE_FILE_H
#define GDS_STORAGE_FILE_H

#include "attach.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct gds_buffer;
struct gds_reader;
struct route;

/*
 * The route that was looked up last: see path/hint.h. Kept by path/route.c. The version
 * is odd while it is being changed, and has changed since where a look at it was torn.
 */
struct route_hint {
	atomic_uint version;
	atomic_uint pinned;
	_Atomic(struct gds_reader *) reader;
	_Atomic(struct gds_buffer *) buffer;
	_Atomic(struct route *) route;
};

struct gds_file {
	struct object object;
	struct route_hint hint;
	char *path;
	int fd;          /* with O_DIRECT if `direct` */
	int buffered_fd; /* through the page cache; -1 until file_buffered_fd() */
	bool block_device;
	dev_t device;          /* of a block device: its number */
	dev_t on;              /* the same; of a regular file its file system's, as of stat(2) */
	atomic_bool had_bytes; /* a block device was found not to be empty */
	dev_t storage;         /* that its bytes are on, as far as the file system tells */
	uint64_t order;        /* among the files there, about as they lie */
	bool direct;
	char direct_reason[256]; /* why not direct */
	uint32_t offset_align;   /* 1 where reads are buffered, as is memory_align */
	uint32_t memory_align;
	atomic_uint_fast64_t bytes; /* as they were last looked up */
	atomic_uint_fast64_t stamp; /* of the last submission that looked */
	atomic_bool read_below;     /* it has been, or may be, by the devices below it */
	/*
	 * Of a regular file: a number that differs when its size or one of its times
	 * does, as it was last looked up by anyone; of a block device, one that differs
	 * after each look-up. A hint: see storage/filemap.h.
	 */
	atomic_uint_fast64_t fingerprint;
	pthread_mutex_t lease_lock;
	unsigned lease_holders;
};

struct stat;

/* The name of the file system that the descriptor's file is on: "ext4", or "unknown". */
const char *file_system_name(int fd);

uint64_t file_fingerprint(const struct stat *status);

/*
 * The file's size when it was last looked up, 0 where that must be done anew: a file that
 * is read by the devices below it may have changed since.
 */
static inline uint64_t file_bytes_known(const struct gds_file *file)
{
	if (atomic_load_explicit(&file->read_below, memory_order_relaxed))
		return 0;
	return atomic_load_explicit(&file->bytes, memory_order_relaxed);
}

/*
 * The file's size, looked up unless it was since `stamp`: a number that rises
 * with each submission. Negative errno on failure.
 */
int64_t file_bytes_since(struct gds_file *file, uint64_t stamp);

/* A descriptor that reads through the page cache, opened once. -errno on failure. */
int file_buffered_fd(struct gds_file *file);

#endif
