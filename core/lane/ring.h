/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a read is queued. With io_uring that is to write an entry of its submission ring,
 * for each of millions of reads: it is done in line, straight from what is at hand.
 */
#ifndef GDS_LANE_RING_H
#define GDS_LANE_RING_H

#include "lane/lane.h"
#include "lane/uapi.h"

/* The kernel sees the tail when the lane is entered. */
struct lane_ring {
	struct io_uring_sqe *entries;
	uint32_t mask;
	uint32_t tail;
};

/* In the number of a file: a slot, not a descriptor. It becomes the entry's flag. */
#define FILE_IN_SLOT     (1u << FILE_IN_SLOT_BIT)
#define FILE_IN_SLOT_BIT 31
_Static_assert(IOSQE_FIXED_FILE == 1, "the flag is the lowest bit");

/*
 * Fields that no operation sets (ioprio, personality, and those behind it) are zero
 * from the start and stay so.
 */
static inline void lane_ring_put(struct lane_ring *ring, const struct lane_read *read)
{
	struct io_uring_sqe *sqe = &ring->entries[ring->tail++ & ring->mask];

	if (__builtin_expect(read->buffer != LANE_NO_BUFFER, 1)) {
		sqe->opcode = IORING_OP_READ_FIXED;
		sqe->buf_index = (uint16_t)read->buffer;
	} else {
		sqe->opcode = IORING_OP_READ;
		sqe->buf_index = 0;
	}
	sqe->flags = (uint8_t)(read->file >> FILE_IN_SLOT_BIT);
	sqe->fd = (int32_t)(read->file & ~FILE_IN_SLOT);
	sqe->off = read->offset;
	sqe->addr = (uintptr_t)read->address;
	sqe->len = read->length;
	sqe->rw_flags = 0;
	sqe->user_data = read->token;
}

/* lane->ops->queue(), as fast as it gets. */
static inline void lane_queue(struct lane *lane, const struct lane_read *read)
{
	if (lane->ring)
		lane_ring_put(lane->ring, read);
	else
		lane->ops->queue(lane, read);
}

#endif
