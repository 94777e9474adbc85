/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One read while it is planned, scheduled and accounted for. Its batch holds it
 * in an array; nothing is allocated per read. Two cache lines: batches of millions
 * are walked from end to end.
 */
#ifndef GDS_PLAN_READ_H
#define GDS_PLAN_READ_H

#include "plan/plan.h"

#include <stdatomic.h>
#include <stdint.h>

struct route;     /* path/route.h: the file, the buffer and the way between them */
struct gds_batch; /* reader.h */

#define READ_PATHS 3

struct read {
	struct route *route;
	struct gds_batch *batch;
	const struct plan_limits *limits; /* those of the route */
	uint64_t short_at;                /* bytes before the first one that the file lacks */

	/* As in struct gds_request, so that they are copied together. */
	uint64_t offset; /* asked for, in the file */
	uint64_t length; /* asked for, then cut to the end of the file */
	uint64_t buffer_offset;
	uint64_t user_data;

	/* From here on all is 0 at the start. First, what a result is a copy of. */
	struct read_outcome {
		uint64_t path_bytes[READ_PATHS]; /* delivered, by enum gds_path less one */
		uint64_t error_offset;           /* in the file, of the first failed operation */
		uint64_t issued_ns;              /* 0 until its first operation is issued */
		uint64_t completed_ns;
	} outcome;
	uint32_t error_length; /* of the operation that failed, in bytes */
	uint32_t next;         /* the read that follows it in its run */
	uint32_t operations;   /* it waits for; and 1 while it is being cut */
	int16_t error;         /* 0 or a negative errno */
	uint8_t first_path;    /* of enum gds_path, as its first operation found it; 0 before */
	atomic_bool done;      /* set last, with release */
};

static inline uint64_t read_place_end(const struct read *read)
{
	return read->buffer_offset + read->length;
}

#endif
