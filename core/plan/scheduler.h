/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides which operation is issued next, and bounds how many are in flight. Pure,
 * like plan.h: the reader drives it with real lanes, the simulation with imagined
 * ones.
 *
 * Each device of storage has queues of its own, one for each class, and bounds of
 * its own, so that a slow one holds back nothing but itself. A queue holds runs: the
 * reads of one batch on one device. Runs of a class are served in the order they
 * came, and classes by their weights.
 *
 * Within a run, reads are taken by windows of SCHEDULE_WINDOW. Where it pays, a
 * window is put in the order of positions on the device; so a read is passed over by
 * no more than a window's other reads. Neighbours - reads whose bytes lie next to
 * each other both in the file and in memory - are cut as one stretch: an operation
 * may serve several reads, or a part of one.
 */
#ifndef GDS_PLAN_SCHEDULER_H
#define GDS_PLAN_SCHEDULER_H

#include "plan/depth.h"
#include "plan/read.h"

#include <stddef.h>

#define SCHEDULE_WINDOW 128
#define SCHEDULE_NONE   UINT32_MAX /* no read */

/* In the order of enum gds_class. The later ones yield to the first. */
enum schedule_class {
	SCHEDULE_FOREGROUND,
	SCHEDULE_PREFETCH,
	SCHEDULE_BACKGROUND,
	SCHEDULE_CLASSES,
};

/* The share of a class is SCHEDULE_WEIGHT >> (shift * class): 16, 4 and 1. */
#define SCHEDULE_SHIFT 2

/* The reads of a batch on one device. Embedded in its owner. */
struct schedule_run {
	struct schedule_run *next;
	struct schedule_device *device;
	struct read *reads; /* of the batch; linked by their field next */
	enum schedule_class class;
	uint32_t current; /* the first read that was not begun, or SCHEDULE_NONE */
	uint32_t last;
	uint32_t window; /* reads from `current` on that belong to the present window */
	uint32_t left;   /* reads behind that window */
	bool queued;

	/* The neighbours that are being cut, as one plan. */
	struct plan plan;
	struct read *cutting; /* the first of which something is in the plan */
	struct read *tail;    /* the last one */
	uint32_t stretch;     /* how many there are, from `cutting` to `tail` */
};

/*
 * What the scheduler says of an operation. Its owner keeps more of one, and has the
 * fields as its own, so that they are filled in place.
 */
#define SCHEDULE_OP_FIELDS                                                                  \
	struct plan_op io;                                                                  \
	struct schedule_run *run;                                                           \
	struct read *read; /* the one that the next wanted byte is of */                    \
	uint32_t reads;    /* that it serves yet, from `read` on in the order of the run */ \
	uint32_t charged   /* bytes that it counts for while it is in flight */

struct schedule_op {
	SCHEDULE_OP_FIELDS;
};

struct schedule_device {
	struct schedule_device *next;
	bool seeks;     /* its heads move, as far as is known */
	bool seeks_now; /* and that shows: the order of positions pays in any case */
	uint64_t seek_ns;
	uint64_t seek_operations;

	/* Bounds: operations, bytes less one transfer, and foreground ones if fixed. */
	uint32_t most;
	uint32_t share; /* of the lane, when many devices are busy */
	uint32_t fixed; /* 0: found by measuring */
	uint64_t most_bytes;
	uint32_t transfer_bytes;
	uint32_t yielding_bytes; /* most of an operation that is not foreground */
	struct depth depth;

	uint32_t in_flight;
	uint32_t in_flight_of[SCHEDULE_CLASSES];
	uint64_t in_flight_bytes;
	uint64_t landed_operations;
	uint64_t landed_bytes;
	uint64_t merged; /* reads that were joined to the one before */

	uint32_t waiting;                /* bits of the classes that have runs */
	uint64_t pass[SCHEDULE_CLASSES]; /* what each class was given, by its weight */
	struct schedule_run *first[SCHEDULE_CLASSES];
	struct schedule_run **last[SCHEDULE_CLASSES];

	/* Whether ordering pays is tried out on one window in SCHEDULE_TRIAL. */
	uint32_t windows;
	bool order_pays;
	bool was_ordered; /* the window before */
	uint64_t merged_before;
};

#define SCHEDULE_TRIAL 64

struct scheduler {
	uint32_t most; /* operations in flight, of all devices */
	uint32_t in_flight;
	uint32_t busy; /* devices, when the lane was last shared out */
	struct schedule_device *devices;
};

struct schedule_bounds {
	uint32_t operations; /* on one device */
	uint32_t fixed;      /* 1: that many, and not fewer where fewer do */
	uint64_t bytes;      /* on one device, no less than one transfer */
	uint32_t transfer_bytes;
};

void scheduler_init(struct scheduler *scheduler, uint32_t most);

/* Adds a device. It stays until the scheduler goes. */
void scheduler_add_device(struct scheduler *scheduler, struct schedule_device *device,
			  const struct schedule_bounds *bounds, bool seeks);

/* Empties the run, to be filled. */
static inline void schedule_run_init(struct schedule_run *run, struct schedule_device *device,
				     struct read *reads, enum schedule_class class)
{
	run->device = device;
	run->reads = reads;
	run->class = class;
	run->current = SCHEDULE_NONE;
	run->last = SCHEDULE_NONE;
	run->window = 0;
	run->left = 0;
	run->queued = false;
	run->plan.left = 0;
	run->stretch = 0;
}

/*
 * Appends reads, which are not empty, to a run that is not queued: a list at hand,
 * kept afterwards.
 */
struct schedule_list {
	uint32_t *link;
	uint32_t last;
};

static inline struct schedule_list schedule_list_of(struct schedule_run *run)
{
	return (struct schedule_list){
		.link = run->last == SCHEDULE_NONE ? &run->current : &run->reads[run->last].next,
		.last = run->last,
	};
}

static inline void schedule_list_append(struct schedule_list *list, uint32_t index,
					struct read *read)
{
	*list->link = index;
	list->link = &read->next;
	list->last = index;
}

static inline void schedule_list_keep(const struct schedule_list *list, struct schedule_run *run,
				      uint32_t appended)
{
	run->last = list->last;
	run->left += appended;
}

/* Appends reads that are linked in a row already, and lie in a row. */
static inline void schedule_run_append(struct schedule_run *run, uint32_t first, uint32_t count)
{
	if (run->last == SCHEDULE_NONE)
		run->current = first;
	else
		run->reads[run->last].next = first;
	run->last = first + count - 1;
	run->left += count;
}

/* Ends the list of a run's reads, and queues it with its device. */
void scheduler_add(struct schedule_run *run);

/* Once for each turn: shares the lane out among the devices that are busy. */
void scheduler_share(struct scheduler *scheduler);

/* Whether one more operation may be in flight on the device, whatever its class. */
static inline bool schedule_has_room(const struct scheduler *scheduler,
				     const struct schedule_device *device)
{
	return device->in_flight < device->most && device->in_flight < device->share &&
	       device->in_flight_bytes <= device->most_bytes &&
	       scheduler->in_flight < scheduler->most;
}

/*
 * Whether there may be something to issue for the device. Where nothing is queued it is
 * noted that the device idles: a rate is measured only while depth is what holds reads back.
 */
static inline bool schedule_may_issue(const struct scheduler *scheduler,
				      struct schedule_device *device)
{
	if (device->waiting)
		return schedule_has_room(scheduler, device);
	if (device->in_flight < device->depth.now)
		device->depth.idle = true;
	return false;
}

/*
 * Cuts the next operation for the device, and counts it as in flight and as one of
 * its reads. False where nothing is queued or as many as allowed are in flight. Of a
 * read that has failed meanwhile the rest is given as an operation of no bytes, so
 * that its owner can let go of it.
 */
bool scheduler_next(struct scheduler *scheduler, struct schedule_device *device,
		    struct schedule_op *op);

/*
 * By far the most reads are foreground ones that are one operation by themselves. Takes
 * a streak of these, at most `most`, from the run whose turn it is, and counts them as
 * in flight. What ends a streak is for scheduler_next(). Returns how many there are.
 */
uint32_t scheduler_take(struct scheduler *scheduler, struct schedule_device *device, uint32_t most,
			struct read **taken, struct schedule_run **run);

/* Operations of the run that were in flight no longer are. */
static inline void schedule_run_landed(struct scheduler *scheduler, struct schedule_run *run,
				       uint32_t operations, uint64_t bytes)
{
	struct schedule_device *device = run->device;

	scheduler->in_flight -= operations;
	device->in_flight -= operations;
	device->in_flight_of[run->class] -= operations;
	device->in_flight_bytes -= bytes;
	device->landed_operations += operations;
	device->landed_bytes += bytes;
}

/* An operation that was in flight no longer is. Its reads are the caller's to account. */
static inline void scheduler_landed(struct scheduler *scheduler, const struct schedule_op *op)
{
	schedule_run_landed(scheduler, op->run, 1, op->charged);
}

/*
 * Counts the operation as in flight once more, outside of the order: it goes on with
 * a rest. False where as many as allowed are.
 */
bool scheduler_again(struct scheduler *scheduler, struct schedule_op *op);

/* Tells the time, after operations have landed, so that depths can be found. */
void scheduler_tick(struct scheduler *scheduler, uint64_t now_ns);

/*
 * How many operations may wait for one another, to be handed over or taken back
 * together: few of those in flight, so that no device runs dry by it and none waits
 * for another. 1 where each is to go by itself.
 */
uint32_t scheduler_gather(const struct scheduler *scheduler);

/*
 * Takes a run out of the queue, if it is there: nothing more is issued for it, and
 * reads that were being cut wait for no more than what is in flight.
 */
void scheduler_remove(struct schedule_run *run);

#endif
