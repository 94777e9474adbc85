/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds how many operations in flight saturate a device: with fewer it idles, with
 * more it only makes each one wait longer.
 *
 * Found by measuring. While there is always something to issue, the rate at which
 * operations come back is taken over epochs of a few rounds of the depth. At the
 * start the depth is doubled for as long as that brings a tenth more. Then, ever more
 * rarely while nothing changes, an epoch is spent on a trial: a quarter less, kept if
 * it costs at most 3 per cent, and leaves no less than 93 per cent of the best rate that
 * was seen; or a third more, kept if it brings 5 per cent. The gap between the two is
 * the hysteresis.
 *
 * Pure: the caller brings the clock.
 */
#ifndef GDS_PLAN_DEPTH_H
#define GDS_PLAN_DEPTH_H

#include <stdbool.h>
#include <stdint.h>

struct depth {
	uint32_t now;  /* operations in flight that are allowed */
	uint32_t most; /* that may ever be */
	bool idle;     /* there was less to issue than the depth allows: the epoch is void */

	enum depth_phase {
		DEPTH_START,
		DEPTH_STEADY,
		DEPTH_TRIAL,
	} phase;
	uint32_t before;  /* the depth that a trial goes back to */
	uint32_t trials;  /* without a change since the last one that was kept */
	uint32_t rest;    /* epochs until the next trial */
	uint32_t slow;    /* epochs in a row that fell far behind the best */
	bool upwards;     /* the direction of the trial, or of the next one */
	double best;      /* rate: the most that was measured */
	double rate;      /* at the depth before the trial */
	double piece;     /* bytes of an operation, on average, when `best` was measured */
	bool measuring;   /* an epoch has begun */
	uint64_t from_ns; /* its beginning, and what had come back by then */
	uint64_t from_operations;
	uint64_t from_bytes;
	uint64_t settled; /* operations that must have come back before the next one */
};

/* `most` at once and no fewer than 1. Begins at 16, so that short reads fare well too. */
void depth_init(struct depth *depth, uint32_t most);

/*
 * Tells the time, and how many operations and bytes have come back from the device
 * so far. Returns whether the depth has changed.
 */
bool depth_tick(struct depth *depth, uint64_t now_ns, uint64_t operations, uint64_t bytes);

#endif
