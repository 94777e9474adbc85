/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a reader keeps for the devices of storage that its files are on, and when its
 * batches expire.
 */
#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "reader.h"

#include <errno.h>
#include <stdlib.h>

/* ---- Devices of storage ---- */

static struct reader_queue *find_queue(struct gds_reader *reader, dev_t number)
{
	struct reader_queue *queue = reader->queues;

	while (queue && queue->disk.number != number)
		queue = queue->next;
	return queue;
}

int queue_get(struct gds_reader *reader, dev_t device, struct reader_queue **queue_out)
{
	const struct gds_reader_options *options = &reader->options;
	struct schedule_bounds bounds = {
		.operations = options->queue_depth,
		.fixed = reader->depth_is_fixed,
		.bytes = options->in_flight_bytes,
		.transfer_bytes = (uint32_t)options->transfer_bytes,
	};
	struct reader_queue *queue;
	struct disk disk;

	/* Thousands of files are on one device: looking at it costs several system calls. */
	for (queue = reader->queues; queue; queue = queue->next)
		if (queue->latest == device)
			break;
	if (!queue) {
		disk_look(device, &disk);
		queue = find_queue(reader, disk.number);
	}
	*queue_out = queue;
	if (queue) {
		queue->latest = device;
		return 0;
	}
	queue = calloc(1, sizeof(*queue));
	if (!queue)
		return gds_fail_errno(ENOMEM, "cannot read from a device");
	queue->disk = disk;
	queue->latest = device;
	queue->transfer_bytes = disk_transfer_bytes(&disk, (uint32_t)options->transfer_bytes);
	queue->starved_last = &queue->starved_first;
	scheduler_add_device(&reader->scheduler, &queue->schedule, &bounds, disk.rotational);
	queue->counters.depth = queue->schedule.depth.now;
	reader_lock(reader);
	queue->next = reader->queues;
	reader->queues = queue;
	reader_unlock(reader);
	gds_debug("reads from %s: at most %u operations of %u bytes in flight%s", disk.name,
		  bounds.operations, queue->transfer_bytes,
		  bounds.fixed ? "" : ", as many as are found to pay");
	*queue_out = queue;
	return 0;
}

void queues_close(struct gds_reader *reader)
{
	struct reader_queue *queue;

	while ((queue = reader->queues) != NULL) {
		reader->queues = queue->next;
		free(queue);
	}
}

/* ---- Deadlines ---- */

void deadline_add(struct gds_reader *reader, struct gds_batch *batch)
{
	batch->timed_next = reader->timed;
	batch->timed_link = &reader->timed;
	if (reader->timed)
		reader->timed->timed_link = &batch->timed_next;
	reader->timed = batch;
	reader->next_deadline_ns = min_u64(reader->next_deadline_ns, batch->expires_ns);
}

void deadline_remove(struct gds_batch *batch)
{
	if (!batch->timed_link)
		return;
	*batch->timed_link = batch->timed_next;
	if (batch->timed_next)
		batch->timed_next->timed_link = batch->timed_link;
	batch->timed_link = NULL;
}

static void expire(struct gds_reader *reader, struct gds_batch *batch)
{
	size_t held;

	deadline_remove(batch);
	held = operations_end(reader, batch, -ETIMEDOUT);
	if (held)
		gds_warn("%zu reads are past the deadline of their batch; their memory is held "
			 "until the storage is done with it",
			 held);
}

void deadlines_check(struct gds_reader *reader)
{
	struct gds_batch *batch;
	struct gds_batch *next;

	if (reader->now_ns < reader->next_deadline_ns)
		return;
	reader->next_deadline_ns = UINT64_MAX;
	for (batch = reader->timed; batch; batch = next) {
		next = batch->timed_next;
		if (batch->expires_ns <= reader->now_ns)
			expire(reader, batch);
		else
			reader->next_deadline_ns =
				min_u64(reader->next_deadline_ns, batch->expires_ns);
	}
}
