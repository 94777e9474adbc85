/* SPDX-License-Identifier: Apache-2.0 */
#include "support/gated-lane.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define MOST_HELD 16384

static const struct lane_ops *behind;
static atomic_bool closed;

/* The driver's alone. */
static struct lane_read held[MOST_HELD];
static size_t held_count;
static struct lane_completion cancelled[MOST_HELD];
static size_t cancelled_count;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct lane *opened; /* under the lock */

void gate_set(const struct lane_ops *ops)
{
	behind = ops;
	closed = false;
}

void gate_close(void)
{
	closed = true;
}

void gate_open(void)
{
	closed = false;
	pthread_mutex_lock(&lock);
	if (opened)
		behind->wake(opened);
	pthread_mutex_unlock(&lock);
}

static int gated_open(struct lane **lane, const struct lane_options *options)
{
	int err = behind->open(lane, options);

	if (err)
		return err;
	(*lane)->ops = &lane_gated;
	(*lane)->ring = NULL; /* reads come by the gate */
	held_count = 0;
	cancelled_count = 0;
	pthread_mutex_lock(&lock);
	opened = *lane;
	pthread_mutex_unlock(&lock);
	return 0;
}

static void gated_close(struct lane *lane)
{
	pthread_mutex_lock(&lock);
	opened = NULL;
	pthread_mutex_unlock(&lock);
	behind->close(lane);
}

static int gated_file_add(struct lane *lane, int fd, uint32_t *file)
{
	return behind->file_add(lane, fd, file);
}

static void gated_file_remove(struct lane *lane, uint32_t file)
{
	behind->file_remove(lane, file);
}

static int gated_buffer_add(struct lane *lane, void *address, size_t bytes, uint32_t *buffer)
{
	return behind->buffer_add(lane, address, bytes, buffer);
}

static void gated_buffer_remove(struct lane *lane, uint32_t buffer)
{
	behind->buffer_remove(lane, buffer);
}

static void gated_queue(struct lane *lane, const struct lane_read *read)
{
	if (closed && held_count < MOST_HELD)
		held[held_count++] = *read;
	else
		behind->queue(lane, read);
}

static int gated_enter(struct lane *lane, uint64_t wait_ns, uint32_t gather)
{
	if (!closed) {
		for (size_t i = 0; i < held_count; i++)
			behind->queue(lane, &held[i]);
		held_count = 0;
	}
	return behind->enter(lane, cancelled_count ? 0 : wait_ns, gather);
}

static size_t gated_reap(struct lane *lane, const struct lane_completion **completions)
{
	size_t count = cancelled_count;

	if (count == 0)
		return behind->reap(lane, completions);
	*completions = cancelled;
	cancelled_count = 0;
	return count;
}

static void gated_cancel(struct lane *lane, uint64_t token)
{
	for (size_t i = 0; i < held_count; i++) {
		if (held[i].token != token)
			continue;
		held[i] = held[--held_count];
		cancelled[cancelled_count++] = (struct lane_completion){ token, -ECANCELED, 0 };
		return;
	}
	behind->cancel(lane, token);
}

static void gated_wake(struct lane *lane)
{
	behind->wake(lane);
}

static int gated_notify(struct lane *lane, int eventfd)
{
	return behind->notify(lane, eventfd);
}

const struct lane_ops lane_gated = {
	.name = "gated",
	.open = gated_open,
	.close = gated_close,
	.file_add = gated_file_add,
	.file_remove = gated_file_remove,
	.buffer_add = gated_buffer_add,
	.buffer_remove = gated_buffer_remove,
	.queue = gated_queue,
	.enter = gated_enter,
	.reap = gated_reap,
	.cancel = gated_cancel,
	.wake = gated_wake,
	.notify = gated_notify,
};
