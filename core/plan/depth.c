/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/depth.h"

#include "base/bits.h"

#define START_DEPTH 16

/* An epoch: this many rounds of the depth, operations and nanoseconds at least. */
#define EPOCH_ROUNDS     12
#define EPOCH_OPERATIONS 64
#define EPOCH_NS         (500 * UINT64_C(1000))

/* What an operation costs beside its bytes, in bytes: small ones do not come free. */
#define OPERATION_BYTES 16384

#define START_GAIN  1.10 /* that doubling must bring */
#define UP_GAIN     1.05
#define DOWN_LOSS   0.97
#define CLOSE_TO    0.93 /* the best rate, so that small losses do not add up */
#define FAR_BEHIND  0.85
#define SLOW_EPOCHS 4   /* far behind, until what was measured is forgotten */
#define MOST_REST   64  /* epochs between trials */
#define PIECE_RATIO 2.0 /* by which operations must differ to be another workload */

void depth_init(struct depth *depth, uint32_t most)
{
	*depth = (struct depth){
		.now = most < START_DEPTH ? most : START_DEPTH,
		.most = most,
		.phase = most <= 1 ? DEPTH_STEADY : DEPTH_START,
		.settled = START_DEPTH, /* the first of them found the device idle */
	};
}

static uint32_t lower(uint32_t depth)
{
	return depth - (depth + 3) / 4;
}

static uint32_t higher(const struct depth *depth)
{
	return (uint32_t)min_u64(depth->now + (depth->now + 2) / 3, depth->most);
}

static void start_over(struct depth *depth)
{
	depth->phase = DEPTH_START;
	depth->rate = 0;
	depth->best = 0;
	depth->trials = 0;
	depth->slow = 0;
}

static void begin_rest(struct depth *depth)
{
	depth->phase = DEPTH_STEADY;
	depth->rest = (uint32_t)min_u64(UINT64_C(1) << min_u64(depth->trials, 10), MOST_REST);
}

/* The first epochs: doubles until that brings nothing more. */
static void judge_start(struct depth *depth, double rate)
{
	bool gained = rate >= START_GAIN * depth->rate;

	if (gained && depth->now < depth->most) {
		depth->before = depth->now;
		depth->rate = rate;
		depth->now = (uint32_t)min_u64((uint64_t)depth->now * 2, depth->most);
		return;
	}
	if (!gained)
		depth->now = depth->before;
	depth->best = rate > depth->rate ? rate : depth->rate;
	depth->upwards = false;
	begin_rest(depth);
}

static void begin_trial(struct depth *depth, double rate)
{
	uint32_t next = depth->upwards ? higher(depth) : lower(depth->now);

	if (next == depth->now || next == 0) {
		depth->upwards = !depth->upwards;
		depth->trials++;
		begin_rest(depth);
		return;
	}
	depth->phase = DEPTH_TRIAL;
	depth->rate = rate;
	depth->before = depth->now;
	depth->now = next;
}

static void judge_trial(struct depth *depth, double rate)
{
	bool kept = depth->upwards
			    ? rate >= UP_GAIN * depth->rate
			    : rate >= DOWN_LOSS * depth->rate && rate >= CLOSE_TO * depth->best;

	if (kept) {
		depth->trials = 0;
	} else {
		depth->now = depth->before;
		depth->upwards = !depth->upwards;
		depth->trials++;
	}
	begin_rest(depth);
}

static void judge_steady(struct depth *depth, double rate)
{
	depth->slow = rate < FAR_BEHIND * depth->best ? depth->slow + 1 : 0;
	if (depth->slow >= SLOW_EPOCHS)
		start_over(depth);
	else if (depth->rest > 0)
		depth->rest--;
	else
		begin_trial(depth, rate);
}

static void judge(struct depth *depth, double rate, double piece)
{
	if (depth->best > 0 &&
	    (piece > PIECE_RATIO * depth->piece || piece * PIECE_RATIO < depth->piece))
		start_over(depth);
	depth->piece = piece;
	switch (depth->phase) {
	case DEPTH_START:
		judge_start(depth, rate);
		return; /* which keeps the best itself */
	case DEPTH_STEADY:
		judge_steady(depth, rate);
		break;
	case DEPTH_TRIAL:
		judge_trial(depth, rate);
		break;
	}
	if (depth->phase != DEPTH_START && rate > depth->best)
		depth->best = rate;
}

static void begin_epoch(struct depth *depth, uint64_t now_ns, uint64_t operations, uint64_t bytes)
{
	depth->measuring = true;
	depth->idle = false;
	depth->from_ns = now_ns;
	depth->from_operations = operations;
	depth->from_bytes = bytes;
}

bool depth_tick(struct depth *depth, uint64_t now_ns, uint64_t operations, uint64_t bytes)
{
	uint64_t count = operations - depth->from_operations;
	uint64_t ns = now_ns - depth->from_ns;
	uint32_t before = depth->now;
	double cost;

	if (operations < depth->settled)
		return false;
	if (depth->idle || !depth->measuring) {
		begin_epoch(depth, now_ns, operations, bytes);
		return false;
	}
	if (count < max_u64((uint64_t)EPOCH_ROUNDS * depth->now, EPOCH_OPERATIONS) || ns < EPOCH_NS)
		return false;
	cost = (double)(bytes - depth->from_bytes) + (double)count * OPERATION_BYTES;
	judge(depth, cost / (double)ns, (double)(bytes - depth->from_bytes) / (double)count);
	begin_epoch(depth, now_ns, operations, bytes);
	if (depth->now == before)
		return false;
	/* What is in flight was issued at the old depth: it is let pass. */
	depth->measuring = false;
	depth->settled = operations + max_u64(before, depth->now);
	return true;
}
