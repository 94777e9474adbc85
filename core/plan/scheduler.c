/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/scheduler.h"

#include "base/bits.h"

#include <assert.h>

/* What an operation counts for beside its bytes, when classes are weighed. */
#define OPERATION_BYTES 16384

/* While foreground reads are under way, the others together have this part of their depth. */
#define YIELDING_PART 4

/*
 * An operation of a class that yields is this part of a transfer, so that one which a
 * foreground read finds on the device is soon over; but no smaller than that costs.
 */
#define YIELDING_TRANSFER 4
#define YIELDING_LEAST    (UINT32_C(128) << 10)

/* A device that is told to seek, and does more than one operation in this time, does not. */
#define SEEK_NS         (500 * UINT64_C(1000))
#define SEEK_OPERATIONS 64

/* One read in so many must be joined to another for ordering to go on. */
#define ORDER_PAYS 16

/* Operations that may wait for one another: of one class on one device, and at most. */
#define GATHER_PART 8
#define GATHER_MOST 16

#define FOREGROUND_BIT (1u << SCHEDULE_FOREGROUND)

void scheduler_init(struct scheduler *scheduler, uint32_t most)
{
	*scheduler = (struct scheduler){ .most = most };
}

void scheduler_add_device(struct scheduler *scheduler, struct schedule_device *device,
			  const struct schedule_bounds *bounds, bool seeks)
{
	*device = (struct schedule_device){
		.seeks = seeks,
		.seeks_now = seeks,
		.most = bounds->operations,
		.share = scheduler->most,
		.fixed = bounds->fixed ? bounds->operations : 0,
		.most_bytes = bounds->bytes - bounds->transfer_bytes,
		.transfer_bytes = bounds->transfer_bytes,
		.yielding_bytes = (uint32_t)max_u64(bounds->transfer_bytes / YIELDING_TRANSFER,
						    YIELDING_LEAST),
		.next = scheduler->devices,
	};
	depth_init(&device->depth, bounds->operations);
	for (int rank = 0; rank < SCHEDULE_CLASSES; rank++)
		device->last[rank] = &device->first[rank];
	scheduler->devices = device;
}

/*
 * Virtual disks are often called rotational and are not, and heads that read in order
 * do not seek: the order of positions is for those that are slow now.
 */
static void judge_seeks(struct schedule_device *device, uint64_t now_ns)
{
	uint64_t count = device->landed_operations - device->seek_operations;

	if (count < SEEK_OPERATIONS)
		return;
	device->seeks_now = (now_ns - device->seek_ns) / count >= SEEK_NS;
	device->seek_ns = now_ns;
	device->seek_operations = device->landed_operations;
}

void scheduler_tick(struct scheduler *scheduler, uint64_t now_ns)
{
	for (struct schedule_device *device = scheduler->devices; device; device = device->next) {
		uint32_t foreground = device->in_flight_of[SCHEDULE_FOREGROUND];

		/* Then it is not the depth alone that decides how many are in flight. */
		if (foreground && (device->fixed || foreground < device->in_flight))
			device->depth.idle = true;
		depth_tick(&device->depth, now_ns, device->landed_operations, device->landed_bytes);
		if (device->seeks)
			judge_seeks(device, now_ns);
	}
}

void scheduler_share(struct scheduler *scheduler)
{
	uint32_t busy = 0;

	scheduler->busy = 1;
	if (!scheduler->devices || !scheduler->devices->next)
		return;
	for (struct schedule_device *device = scheduler->devices; device; device = device->next)
		busy += device->waiting || device->in_flight;
	scheduler->busy = (uint32_t)max_u64(busy, 1);
	for (struct schedule_device *device = scheduler->devices; device; device = device->next)
		device->share = (uint32_t)max_u64(scheduler->most / scheduler->busy, 1);
}

uint32_t scheduler_gather(const struct scheduler *scheduler)
{
	uint32_t least = GATHER_MOST * GATHER_PART;

	for (const struct schedule_device *device = scheduler->devices; device;
	     device = device->next)
		for (int rank = 0; device->in_flight && rank < SCHEDULE_CLASSES; rank++)
			if (device->in_flight_of[rank] && device->in_flight_of[rank] < least)
				least = device->in_flight_of[rank];
	return (uint32_t)max_u64(least / GATHER_PART, 1);
}

/* ---- Queues ---- */

/* A class that was away does not make up for it: it begins level with the others. */
static void begin_class(struct schedule_device *device, enum schedule_class class)
{
	uint64_t least = UINT64_MAX;

	for (int other = 0; other < SCHEDULE_CLASSES; other++)
		if (device->waiting & (1u << other))
			least = min_u64(least, device->pass[other]);
	if (least != UINT64_MAX)
		device->pass[class] = max_u64(device->pass[class], least);
	device->waiting |= 1u << class;
}

void scheduler_add(struct schedule_run *run)
{
	struct schedule_device *device = run->device;

	assert(run->last != SCHEDULE_NONE);
	run->reads[run->last].next = SCHEDULE_NONE;
	run->next = NULL;
	run->queued = true;
	if (!device->first[run->class])
		begin_class(device, run->class);
	*device->last[run->class] = run;
	device->last[run->class] = &run->next;
}

static void dequeue(struct schedule_run *run)
{
	struct schedule_device *device = run->device;
	struct schedule_run **link = &device->first[run->class];

	while (*link != run)
		link = &(*link)->next;
	*link = run->next;
	if (!*link)
		device->last[run->class] = link;
	if (!device->first[run->class])
		device->waiting &= ~(1u << run->class);
	run->queued = false;
}

void scheduler_remove(struct schedule_run *run)
{
	if (!run->queued)
		return;
	dequeue(run);
	run->current = SCHEDULE_NONE;
	run->plan.left = 0;
	for (; run->stretch > 0; run->stretch--) {
		run->cutting->operations--;
		if (run->stretch > 1)
			run->cutting = &run->reads[run->cutting->next];
	}
}

/* ---- Bounds ---- */

static bool yields(const struct schedule_device *device)
{
	return device->waiting & FOREGROUND_BIT || device->in_flight_of[SCHEDULE_FOREGROUND];
}

/* Whether the class may have one more in flight, as far as classes and depths go. */
static bool class_has_room(const struct schedule_device *device, enum schedule_class class)
{
	uint32_t depth = device->depth.now;
	uint32_t others;

	if (class == SCHEDULE_FOREGROUND)
		return device->in_flight_of[class] < (device->fixed ? device->fixed : depth);
	others = device->in_flight - device->in_flight_of[SCHEDULE_FOREGROUND];
	if (yields(device))
		depth = (depth + YIELDING_PART - 1) / YIELDING_PART;
	return others < depth;
}

/* Counts operations of the run as in flight. */
static void charge_streak(struct scheduler *scheduler, const struct schedule_run *run,
			  uint32_t operations, uint64_t bytes)
{
	struct schedule_device *device = run->device;
	enum schedule_class class = run->class;

	scheduler->in_flight += operations;
	device->in_flight += operations;
	device->in_flight_of[class] += operations;
	device->in_flight_bytes += bytes;
	device->pass[class] += (bytes + (uint64_t)operations * OPERATION_BYTES)
			       << SCHEDULE_SHIFT * class;
}

static void charge(struct scheduler *scheduler, struct schedule_op *op)
{
	op->charged = op->io.length;
	charge_streak(scheduler, op->run, 1, op->charged);
}

bool scheduler_again(struct scheduler *scheduler, struct schedule_op *op)
{
	if (!schedule_has_room(scheduler, op->run->device))
		return false;
	charge(scheduler, op);
	return true;
}

/* ---- Order ---- */

struct position {
	const struct plan_limits *limits;
	uint64_t offset;
	uint32_t index;
};

static bool lies_before(const struct position *a, const struct position *b)
{
	uint64_t a_file = a->limits->position;
	uint64_t b_file = b->limits->position;

	if (a_file != b_file)
		return a_file < b_file;
	if (a->limits != b->limits)
		return (uintptr_t)a->limits < (uintptr_t)b->limits;
	return a->offset < b->offset;
}

/* Shell's sort: stable enough for reads of the same position, and small. */
static void sort(struct position *positions, uint32_t count)
{
	static const uint32_t gaps[] = { 57, 23, 10, 4, 1 };

	for (size_t g = 0; g < sizeof(gaps) / sizeof(gaps[0]); g++)
		for (uint32_t i = gaps[g]; i < count; i++) {
			struct position moving = positions[i];
			uint32_t at = i;

			for (; at >= gaps[g] && lies_before(&moving, &positions[at - gaps[g]]);
			     at -= gaps[g])
				positions[at] = positions[at - gaps[g]];
			positions[at] = moving;
		}
}

/* Puts the next reads of the run in the order of their positions. */
static void order_window(struct schedule_run *run)
{
	struct position positions[SCHEDULE_WINDOW];
	struct read *reads = run->reads;
	uint32_t index = run->current;
	uint32_t count = 0;
	bool ordered = true;

	for (; count < run->window && index != SCHEDULE_NONE; index = reads[index].next) {
		positions[count] =
			(struct position){ reads[index].limits, reads[index].offset, index };
		ordered = ordered &&
			  (count == 0 || !lies_before(&positions[count], &positions[count - 1]));
		count++;
	}
	if (ordered)
		return;
	sort(positions, count);
	run->current = positions[0].index;
	for (uint32_t i = 0; i + 1 < count; i++)
		reads[positions[i].index].next = positions[i + 1].index;
	reads[positions[count - 1].index].next = index;
}

/*
 * On a device without moving parts order is worth its price only for the neighbours
 * that it brings together: where the last ordered window had some, or to find out.
 */
static bool wants_order(struct schedule_device *device)
{
	if (device->was_ordered)
		device->order_pays =
			(device->merged - device->merged_before) * ORDER_PAYS >= SCHEDULE_WINDOW;
	device->merged_before = device->merged;
	device->was_ordered =
		device->seeks_now || device->order_pays || device->windows % SCHEDULE_TRIAL == 0;
	device->windows++;
	return device->was_ordered;
}

static void begin_window(struct schedule_run *run)
{
	run->window = (uint32_t)min_u64(run->left, SCHEDULE_WINDOW);
	run->left -= run->window;
	if (run->window > 1 && wants_order(run->device))
		order_window(run);
}

/* ---- Cutting ---- */

static struct read *peek(struct schedule_run *run)
{
	if (run->current == SCHEDULE_NONE)
		return NULL;
	if (run->window == 0)
		begin_window(run);
	return &run->reads[run->current];
}

static struct read *take(struct schedule_run *run, struct read *read)
{
	run->current = read->next;
	run->window--;
	read->operations = 1;
	return read;
}

static bool are_neighbours(const struct read *read, const struct read *next)
{
	return next->buffer_offset == read_place_end(read) &&
	       next->offset == read->offset + read->length && next->limits == read->limits;
}

/*
 * Joins the reads that follow, as long as the plan holds less than one operation
 * takes: so a stretch of any length is cut without its being known as a whole.
 */
static void extend_stretch(struct schedule_run *run)
{
	struct read *next;

	while (run->plan.left < run->tail->limits->transfer_bytes && (next = peek(run)) != NULL &&
	       are_neighbours(run->tail, next)) {
		run->tail->next = run->current; /* the window's order may have changed it */
		run->tail = take(run, next);
		run->plan.left += next->length;
		run->stretch++;
		run->device->merged++;
	}
}

static void begin_stretch(struct schedule_run *run, struct read *read)
{
	run->plan = (struct plan){
		.offset = read->offset,
		.place = read->buffer_offset,
		.left = read->length,
	};
	run->cutting = take(run, read);
	run->tail = read;
	run->stretch = 1;
}

/* Counts the operation with the reads that it serves, and leaves those that are cut up. */
static void serve_reads(struct schedule_run *run, struct schedule_op *op)
{
	uint64_t end = op->io.place + op->io.wanted;
	struct read *read = run->cutting;

	op->read = read;
	for (op->reads = 1;; op->reads++) {
		uint64_t read_end = read_place_end(read);

		if (read_end > end) {
			read->operations++;
			break;
		}
		/* The operation takes over the one that stood for the cutting. */
		if (--run->stretch == 0)
			break;
		read = &run->reads[read->next];
		if (read_end == end)
			break;
	}
	run->cutting = read;
}

/* What is left of a read that has failed, as an operation of nothing. */
static void pass_over_failed(struct schedule_run *run, struct schedule_op *op)
{
	struct plan *plan = &run->plan;
	uint64_t left = read_place_end(run->cutting) - plan->place;

	op->io = (struct plan_op){
		.offset = plan->offset,
		.place = plan->place,
	};
	plan->offset += left;
	plan->place += left;
	plan->left -= left;
	op->read = run->cutting;
	op->reads = 1;
	if (--run->stretch > 0)
		run->cutting = &run->reads[op->read->next];
}

/* The limits for operations of the run's class. */
static struct plan_limits limits_of(const struct schedule_run *run)
{
	struct plan_limits limits = *run->cutting->limits;
	uint32_t most = run->device->yielding_bytes;

	if (run->class == SCHEDULE_FOREGROUND || most < limits.offset_align)
		return limits;
	most = (uint32_t)align_down(most, limits.offset_align);
	limits.transfer_bytes = (uint32_t)min_u64(limits.transfer_bytes, most);
	limits.staged_bytes = (uint32_t)min_u64(limits.staged_bytes, most);
	return limits;
}

static void cut_stretch(struct schedule_run *run, struct schedule_op *op)
{
	struct plan_limits limits;

	extend_stretch(run);
	if (run->cutting->error) {
		pass_over_failed(run, op);
		return;
	}
	limits = limits_of(run);
	plan_next(&run->plan, &limits, &op->io);
	serve_reads(run, op);
}

static void cut(struct schedule_run *run, struct schedule_op *op)
{
	op->run = run;
	if (run->plan.left == 0)
		begin_stretch(run, peek(run));
	cut_stretch(run, op);
	if (run->current == SCHEDULE_NONE && run->plan.left == 0)
		dequeue(run);
}

/* ---- What is next ---- */

static bool pick_class(const struct schedule_device *device, enum schedule_class *picked)
{
	bool found = false;

	for (enum schedule_class rank = 0; rank < SCHEDULE_CLASSES; rank++) {
		if (!(device->waiting & (1u << rank)) || !class_has_room(device, rank))
			continue;
		if (!found || device->pass[rank] < device->pass[*picked])
			*picked = rank;
		found = true;
	}
	return found;
}

bool scheduler_next(struct scheduler *scheduler, struct schedule_device *device,
		    struct schedule_op *op)
{
	enum schedule_class class = SCHEDULE_FOREGROUND;

	if (!schedule_may_issue(scheduler, device) || !pick_class(device, &class))
		return false;
	cut(device->first[class], op);
	charge(scheduler, op);
	return true;
}

/* ---- Streaks ---- */

static uint32_t foreground_room(const struct scheduler *scheduler,
				const struct schedule_device *device, uint32_t most)
{
	uint32_t depth = device->fixed ? device->fixed : device->depth.now;
	uint32_t others = device->in_flight_of[SCHEDULE_FOREGROUND];
	uint64_t room;

	if (!schedule_has_room(scheduler, device) || others >= depth)
		return 0;
	room = min_u64(most, depth - others);
	room = min_u64(room, min_u64(device->most, device->share) - device->in_flight);
	room = min_u64(room, scheduler->most - scheduler->in_flight);
	room = min_u64(room,
		       (device->most_bytes - device->in_flight_bytes) / device->transfer_bytes + 1);
	return (uint32_t)room;
}

/* Whether the read is one operation by itself, and the next one does not join it. */
static inline bool stands_alone(const struct read *reads, const struct read *read,
				struct plan_whole *whole)
{
	if (read->limits != whole->limits)
		*whole = plan_whole_of(read->limits);
	return plan_is_whole(read->offset, read->buffer_offset, read->length, whole) &&
	       (read->next == SCHEDULE_NONE || !are_neighbours(read, &reads[read->next]));
}

uint32_t scheduler_take(struct scheduler *scheduler, struct schedule_device *device, uint32_t most,
			struct read **taken, struct schedule_run **run_out)
{
	struct schedule_run *run = device->first[SCHEDULE_FOREGROUND];
	struct plan_whole whole = { 0 };
	struct read *reads;
	uint64_t bytes = 0;
	uint32_t count = 0;
	struct read *read;

	if (device->waiting != FOREGROUND_BIT || run->plan.left > 0)
		return 0;
	most = foreground_room(scheduler, device, most);
	if (most == 0)
		return 0;
	read = peek(run); /* begins a window where the last one is over */
	most = (uint32_t)min_u64(most, run->window);
	reads = run->reads;
	for (; count < most && stands_alone(reads, read, &whole); read = &reads[read->next]) {
		read->operations = 1;
		bytes += read->length;
		taken[count++] = read;
	}
	if (count == 0)
		return 0;
	*run_out = run;
	run->current = taken[count - 1]->next;
	run->window -= count;
	charge_streak(scheduler, run, count, bytes);
	if (run->current == SCHEDULE_NONE)
		dequeue(run);
	return count;
}
