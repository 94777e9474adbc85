/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files that see to operations share: operation.c, which ends them and their
 * reads; issue.c, into the lane; land.c, out of it. Called by the driver.
 */
#ifndef GDS_OPERATION_H
#define GDS_OPERATION_H

#include "base/bits.h"
#include "reader.h"

static inline struct reader_queue *op_queue(const struct op *op)
{
	return (struct reader_queue *)op->run->device;
}

/* What most operations never need. */
static inline void op_fill(struct op *op)
{
	op->plain = false;
	op->chunk = STAGING_NONE;
	op->rest.left = 0;
	op->attempts = 0;
	op->changes = 0;
	op->again_ns = 0;
	op->apart = false;
}

/* An operation of which no more is set than goes well with it. */
static inline void op_fill_plain(struct op *op)
{
	const struct read *read = op->read;

	op->io = (struct plan_op){
		.offset = read->offset,
		.place = read->buffer_offset,
		.length = (uint32_t)read->length,
		.wanted = (uint32_t)read->length,
	};
	op->reads = 1;
	op->charged = op->io.length;
	op->path = GDS_PATH_MAPPED;
	op_fill(op);
}

/* ---- operation.c ---- */

/* Reads of the batch are done. The driver alone counts them. */
void batch_close_reads(struct gds_reader *reader, struct gds_batch *batch, size_t count);

/* Notes the error, unless one is known that lies before it. */
void read_fail(struct read *read, int error, uint64_t offset, uint32_t length);

/* Goes over to the next of the reads that the operation serves. */
void op_leave_read(struct gds_reader *reader, struct op *op);

/* The operation has nothing left to do. */
void op_release(struct gds_reader *reader, struct op *op);

/* Puts what of the operation is not there after `got` wanted bytes back to its rest. */
void op_return_to_rest(struct op *op, uint32_t got);

/* Cuts the next piece off the rest: of all its reads, or of one where it goes apart. */
void op_cut_rest(struct op *op);

/*
 * Passes over reads of the operation that have failed, from the beginning of its rest
 * on. False where there is no other: then it is released.
 */
bool op_skip_failed(struct gds_reader *reader, struct op *op);

/* Fails all that the operation serves: there is no way at all for it. */
void op_fail_reads(struct gds_reader *reader, struct op *op, int error);

/* The operation has failed: its reads with it, or each by itself from now on. */
void op_fail(struct gds_reader *reader, struct op *op, int error);

/* ---- issue.c ---- */

/* Goes on with the operation's rest, which is not empty. */
void op_continue(struct gds_reader *reader, struct op *op);

/* ---- land.c ---- */

/*
 * Keeps an operation that went by what is below a file, until the file is seen to be
 * unchanged. What is laid out as zeros waits with them: it has only seemed to be a hole.
 */
void op_hold(struct gds_reader *reader, struct op *op, int result);

#endif
