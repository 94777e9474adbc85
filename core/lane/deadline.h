/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A relative wait, as enter() takes it, turned into a point in time, so that a
 * wait which has to begin again does not grow longer.
 */
#ifndef GDS_LANE_DEADLINE_H
#define GDS_LANE_DEADLINE_H

#include "base/clock.h"
#include "lane/lane.h"

static inline uint64_t deadline_after(uint64_t wait_ns)
{
	uint64_t now;

	if (wait_ns == LANE_WAIT_FOREVER)
		return LANE_WAIT_FOREVER;
	now = clock_now_ns();
	return wait_ns < LANE_WAIT_FOREVER - now ? now + wait_ns : LANE_WAIT_FOREVER;
}

/* What is left of it: 0 when it has passed. */
static inline uint64_t deadline_left(uint64_t deadline)
{
	uint64_t now;

	if (deadline == LANE_WAIT_FOREVER)
		return LANE_WAIT_FOREVER;
	now = clock_now_ns();
	return deadline > now ? deadline - now : 0;
}

#endif
