/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cuts a read of any offset and length into operations that the storage takes.
 *
 * A direct operation goes straight to its place in the buffer: file offset and
 * length are multiples of the offset alignment, and the address is a multiple of
 * the memory alignment. A staged one reads whole blocks into staging memory, from
 * where the wanted bytes are copied. So a read whose place is congruent to its
 * offset has a direct body and at most two staged edges; any other is staged.
 *
 * Pure: no system call, no clock, no allocation.
 */
#ifndef GDS_PLAN_PLAN_H
#define GDS_PLAN_PLAN_H

#include "base/bits.h"
#include "memory/slice.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * How a file lies on devices. Of the `bytes` at `offset`, which are aligned, tells how
 * many one operation can have: at least one, and fewer than asked for only to end where
 * a run ends.
 */
struct plan_map {
	uint64_t (*together)(struct plan_map *map, uint64_t offset, uint64_t bytes);
};

/* What one file allows, when read into one buffer. Alignments and slices: powers of two. */
struct plan_limits {
	uint32_t offset_align;   /* of file offsets and lengths; 1 for buffered reads */
	uint32_t memory_align;   /* of addresses; 1 for buffered reads */
	uint32_t base;           /* the buffer's address, modulo 4096 */
	uint32_t transfer_bytes; /* most of a direct operation, multiple of both alignments */
	uint32_t staged_bytes;   /* most of a staged operation, multiple of offset_align */
	uint64_t slice_bytes;    /* no direct operation crosses a multiple; 0: all may */
	bool direct;             /* whether direct operations are possible at all */
	struct plan_map *map;    /* NULL where the file is one device, or read as a file */
	/*
	 * Up to this length offset, place and length alone tell whether a read is one
	 * direct operation, and it needs nothing but the lane. 0 is always right, and
	 * costs those that are some instructions.
	 */
	uint32_t whole_bytes;
	/* Where the file lies on its device, as far as that is known: an order, no address. */
	uint64_t position;
};

/* What of a read is not cut yet. */
struct plan {
	uint64_t offset; /* in the file, of the next wanted byte */
	uint64_t place;  /* in the buffer, where it goes */
	uint64_t left;   /* bytes wanted from there on */
};

struct plan_op {
	uint64_t offset; /* in the file, aligned */
	uint64_t place;  /* in the buffer, of the first wanted byte */
	uint32_t length; /* bytes that the storage moves, aligned */
	uint32_t skip;   /* of these, how many come before the first wanted one */
	uint32_t wanted; /* bytes that go to the buffer */
	bool staged;
};

/* What of the limits tells whether reads are one operation: at hand, for many of them. */
struct plan_whole {
	const struct plan_limits *limits;
	uint64_t bytes;
	uint64_t offset_mask;
	uint64_t memory_mask;
	uint64_t base;
};

static inline struct plan_whole plan_whole_of(const struct plan_limits *limits)
{
	return (struct plan_whole){
		.limits = limits,
		.bytes = limits->whole_bytes,
		.offset_mask = limits->offset_align - 1,
		.memory_mask = limits->memory_align - 1,
		.base = limits->base,
	};
}

/* Whether a read is one direct operation by itself, for all that can be told cheaply. */
static inline bool plan_is_whole(uint64_t offset, uint64_t place, uint64_t length,
				 const struct plan_whole *whole)
{
	uint64_t unaligned = ((offset | length) & whole->offset_mask) |
			     ((place + whole->base) & whole->memory_mask);

	return length <= whole->bytes && unaligned == 0 &&
	       (place ^ (place + length - 1)) < SLICE_BYTES;
}

/* Cuts the next operation off the plan. False where nothing is left. */
bool plan_next(struct plan *plan, const struct plan_limits *limits, struct plan_op *op);

#endif
