/* SPDX-License-Identifier: Apache-2.0 */
/* A regular file or a block device, and what O_DIRECT asks of reads from it. */
#ifndef GDS_STORAGE_FILE_H
#define GDS_STORAGE_FILE_H

#include "attach.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct gds_file {
	struct object object;
	char *path;
	int fd;          /* with O_DIRECT if `direct` */
	int buffered_fd; /* through the page cache; -1 until file_buffered_fd() */
	bool block_device;
	dev_t device;          /* of a block device: its number */
	atomic_bool had_bytes; /* a block device was found not to be empty */
	dev_t storage;         /* that its bytes are on, as far as the file system tells */
	uint64_t order;        /* among the files there, about as they lie */
	bool direct;
	char direct_reason[256]; /* why not direct */
	uint32_t offset_align;   /* 1 where reads are buffered, as is memory_align */
	uint32_t memory_align;
	atomic_uint_fast64_t bytes; /* as of `stamp` */
	atomic_uint_fast64_t stamp;
};

/*
 * The file's size, looked up unless it was since `stamp`: a number that rises
 * with each submission. Negative errno on failure.
 */
int64_t file_bytes_since(struct gds_file *file, uint64_t stamp);

/* A descriptor that reads through the page cache, opened once. -errno on failure. */
int file_buffered_fd(struct gds_file *file);

#endif
