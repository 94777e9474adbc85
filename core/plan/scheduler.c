/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/scheduler.h"

#include <assert.h>

void scheduler_init(struct scheduler *scheduler, uint32_t depth)
{
	*scheduler = (struct scheduler){ .depth = depth };
	scheduler->last = &scheduler->first;
}

void scheduler_add(struct scheduler *scheduler, struct schedule_run *run)
{
	run->next = NULL;
	run->current = 0;
	run->queued = true;
	*scheduler->last = run;
	scheduler->last = &run->next;
}

static void drop_first(struct scheduler *scheduler)
{
	scheduler->first->queued = false;
	scheduler->first = scheduler->first->next;
	if (!scheduler->first)
		scheduler->last = &scheduler->first;
}

bool scheduler_next(struct scheduler *scheduler, struct read **read_out, struct plan_op *op)
{
	struct schedule_run *run;
	struct read *read;

	if (scheduler->in_flight >= scheduler->depth)
		return false;
	while ((run = scheduler->first) != NULL) {
		if (run->current == run->count) {
			drop_first(scheduler);
			continue;
		}
		read = &run->reads[run->current];
		if (read->error || !plan_next(&read->plan, read->limits, op)) {
			run->current++;
			continue;
		}
		read->operations++;
		scheduler->in_flight++;
		*read_out = read;
		return true;
	}
	return false;
}

void scheduler_landed(struct scheduler *scheduler)
{
	assert(scheduler->in_flight > 0);
	scheduler->in_flight--;
}

bool scheduler_again(struct scheduler *scheduler)
{
	if (scheduler->in_flight >= scheduler->depth)
		return false;
	scheduler->in_flight++;
	return true;
}

void scheduler_remove(struct scheduler *scheduler, struct schedule_run *run)
{
	struct schedule_run **link = &scheduler->first;

	if (!run->queued)
		return;
	run->queued = false;
	while (*link != run)
		link = &(*link)->next;
	*link = run->next;
	if (!*link)
		scheduler->last = link;
}
