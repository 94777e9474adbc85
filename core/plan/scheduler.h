/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides which operation is issued next, and bounds how many are in flight.
 * Runs of reads are served in the order they came. Pure, like plan.h: the
 * reader drives it with real lanes, the simulation with imagined ones.
 */
#ifndef GDS_PLAN_SCHEDULER_H
#define GDS_PLAN_SCHEDULER_H

#include "plan/read.h"

#include <stddef.h>

/* Reads that were submitted together. Embedded in its owner, the batch. */
struct schedule_run {
	struct schedule_run *next;
	struct read *reads;
	size_t count;
	size_t current; /* the first read that is not cut up completely */
	bool queued;    /* in the scheduler's queue, whether or not anything is left to cut */
};

struct scheduler {
	uint32_t depth; /* most operations in flight */
	uint32_t in_flight;
	struct schedule_run *first;
	struct schedule_run **last;
};

void scheduler_init(struct scheduler *scheduler, uint32_t depth);

/* Queues a run. Reads of it that have an error or nothing to read are passed over. */
void scheduler_add(struct scheduler *scheduler, struct schedule_run *run);

/*
 * Cuts the next operation off the next read, and counts it as in flight and as
 * one of its read. False where nothing is queued or as many as allowed are in
 * flight.
 */
bool scheduler_next(struct scheduler *scheduler, struct read **read, struct plan_op *op);

/* An operation that was in flight no longer is. Its read is the caller's to account. */
void scheduler_landed(struct scheduler *scheduler);

/*
 * Counts one more operation outside of the order as in flight: the rest of one that
 * landed. False where as many as allowed are.
 */
bool scheduler_again(struct scheduler *scheduler);

/*
 * Takes a run out of the queue, if it is there: nothing more is issued for it. A
 * run that is cut up may still be queued, as long as there was no room to find
 * that out: it is removed before its owner may use it again.
 */
void scheduler_remove(struct scheduler *scheduler, struct schedule_run *run);

#endif
