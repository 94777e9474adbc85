/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The extents of a file, as FIEMAP tells them: which of its bytes lie where on the
 * block device below, which are zeros, and which cannot be had from there. They are
 * looked at through windows of a bounded number of extents, so that a file with a
 * million of them costs no more memory than one with hundreds.
 */
#ifndef GDS_STORAGE_EXTENT_H
#define GDS_STORAGE_EXTENT_H

#include <linux/fiemap.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum extent_kind {
	EXTENT_DATA,    /* at `physical` */
	EXTENT_ZEROS,   /* a hole, or allocated and never written */
	EXTENT_REFUSED, /* not to be read from the device: extent_refusal() */
};

/* A run of a file's bytes. */
struct extent {
	uint64_t offset; /* in the file */
	uint64_t bytes;
	uint64_t physical; /* on the file system's device; of EXTENT_DATA */
	uint32_t flags;    /* of FIEMAP; of EXTENT_REFUSED */
	enum extent_kind kind;
};

/* Most extents of a window, before runs that follow each other are joined. */
#define WINDOW_EXTENTS 128

/*
 * All of the file from `start` to `end`; what no extent covers is a hole. `end` is
 * UINT64_MAX where the last extent is among them.
 */
struct extent_window {
	uint64_t start;
	uint64_t end;
	size_t count;
	struct extent extents[];
};

/* What FIEMAP's flags make of an extent. */
enum extent_kind extent_kind_of(uint32_t flags);

/* Why bytes with such flags cannot be read from the device, in words. Static storage. */
const char *extent_refusal(uint32_t flags);

/* What a window tells of the byte at `offset`, which it covers, up to the next change. */
struct extent window_at(const struct extent_window *window, uint64_t offset);

/*
 * Makes a window of what FIEMAP gave for the file from `start` on, in an array of
 * `room` extents. NULL without memory.
 */
struct extent_window *window_make(const struct fiemap_extent *found, size_t count, size_t room,
				  uint64_t start);

/*
 * Asks the file system. With `sync` it writes dirty pages of the file first, all of
 * them. A negative errno on failure, without a message.
 */
int window_fetch(int fd, uint64_t start, bool sync, struct extent_window **window);

#endif
