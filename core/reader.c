/* SPDX-License-Identifier: Apache-2.0 */
/* Readers: opening and closing, who drives, and one turn of driving. */
#include "reader.h"

#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/log.h"
#include "base/probe.h"
#include "lane/dmabuf.h"
#include "memory/buffer.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DEFAULT_QUEUE_DEPTH    128 /* of which as many are used as pay */
#define DEFAULT_FLIGHT_BYTES   (UINT64_C(64) << 20)
#define DEFAULT_THREADS        8
#define DEFAULT_TRANSFER_BYTES (UINT64_C(1) << 20)
#define DEFAULT_STAGING_BYTES  (UINT64_C(64) << 20)
#define MAX_QUEUE_DEPTH        4096
#define MAX_LANE_DEPTH         8192
#define LEAST_LANE_DEPTH       32
#define DEVICES_AT_ONCE        4 /* that may all have their full depth in flight */
#define MAX_THREADS            256
#define MIN_TRANSFER_BYTES     (UINT64_C(4) << 10)
#define MAX_TRANSFER_BYTES     (UINT64_C(64) << 20)
#define MIN_STAGING_BYTES      (UINT64_C(1) << 20)
#define MAX_STAGING_BYTES      (UINT64_C(1) << 30) /* what io_uring registers at once */

/* How long a turn waits for a device's copies before it looks at the lane again. */
#define COPY_WAIT_NS (1000 * UINT64_C(1000))
/* How long a turn of draining waits. */
#define DRAIN_WAIT_NS (100 * UINT64_C(1000) * 1000)

/* ---- Options ---- */

static bool in_range(uint64_t value, uint64_t low, uint64_t high)
{
	return value >= low && value <= high;
}

static int check_options(const struct gds_reader_options *options)
{
	const uint32_t threads = GDS_READER_SINGLE_THREAD | GDS_READER_PROGRESS_THREAD;

	if (options->flags & ~(threads | GDS_READER_NO_CANARY) ||
	    (options->flags & threads) == threads)
		return gds_fail(EINVAL,
				"gds_reader_open: flags 0x%x: some are unknown, or both "
				"SINGLE_THREAD and PROGRESS_THREAD are there: take one",
				options->flags);
	if (options->lane > GDS_LANE_THREADS)
		return gds_fail(EINVAL, "gds_reader_open: there is no lane %u", options->lane);
	if (!in_range(options->queue_depth, 1, MAX_QUEUE_DEPTH))
		return gds_fail(EINVAL, "gds_reader_open: queue_depth %u is not in 1 to %d",
				options->queue_depth, MAX_QUEUE_DEPTH);
	if (!in_range(options->threads, 1, MAX_THREADS))
		return gds_fail(EINVAL, "gds_reader_open: threads %u is not in 1 to %d",
				options->threads, MAX_THREADS);
	if (!in_range(options->transfer_bytes, MIN_TRANSFER_BYTES, MAX_TRANSFER_BYTES) ||
	    !is_aligned(options->transfer_bytes, MIN_TRANSFER_BYTES))
		return gds_fail(EINVAL,
				"gds_reader_open: transfer_bytes %llu is not a multiple of 4096 "
				"in 4 KiB to 64 MiB",
				(unsigned long long)options->transfer_bytes);
	if (!in_range(options->staging_bytes,
		      max_u64(4 * options->transfer_bytes, MIN_STAGING_BYTES), MAX_STAGING_BYTES) ||
	    !is_aligned(options->staging_bytes, MIN_TRANSFER_BYTES))
		return gds_fail(EINVAL,
				"gds_reader_open: staging_bytes %llu is not a multiple of 4096 "
				"from 4 times transfer_bytes (at least 1 MiB) to 1 GiB",
				(unsigned long long)options->staging_bytes);
	if (options->in_flight_bytes < options->transfer_bytes)
		return gds_fail(EINVAL,
				"gds_reader_open: in_flight_bytes %llu is less than one transfer "
				"of %llu bytes",
				(unsigned long long)options->in_flight_bytes,
				(unsigned long long)options->transfer_bytes);
	if (options->dmabuf_shape != GDS_DMABUF_NEWEST &&
	    options->dmabuf_shape != GDS_DMABUF_PAIRS &&
	    options->dmabuf_shape != GDS_DMABUF_DESCRIPTORS)
		return gds_fail(EINVAL, "gds_reader_open: there is no dma-buf shape %u",
				options->dmabuf_shape);
	return 0;
}

static int fill_options(struct gds_reader_options *full, const struct gds_reader_options *given)
{
	int err;

	*full = (struct gds_reader_options){ .size = sizeof(*full) };
	if (given) {
		if (given->size < sizeof(given->size))
			return gds_fail(EINVAL, "gds_reader_open: set the options' size");
		memcpy(full, given, min_u64(given->size, sizeof(*full)));
	}
	if (!full->in_flight_bytes && !full->queue_depth)
		full->in_flight_bytes = max_u64(DEFAULT_FLIGHT_BYTES, 2 * full->transfer_bytes);
	if (!full->in_flight_bytes)
		full->in_flight_bytes = UINT64_MAX;
	if (!full->queue_depth)
		full->queue_depth = DEFAULT_QUEUE_DEPTH;
	if (!full->threads)
		full->threads = DEFAULT_THREADS;
	if (!full->transfer_bytes)
		full->transfer_bytes = DEFAULT_TRANSFER_BYTES;
	if (!full->staging_bytes)
		full->staging_bytes = max_u64(DEFAULT_STAGING_BYTES, 4 * full->transfer_bytes);
	err = check_options(full);
	if (!err && full->dmabuf_shape == GDS_DMABUF_NEWEST)
		full->dmabuf_shape = dmabuf_kernel_shape();
	return err;
}

/* ---- Fork ---- */

int reader_check(struct gds_reader *reader, const char *call)
{
	if (!reader)
		return gds_fail(EINVAL, "%s: reader must not be NULL", call);
	if (reader->fork_generation != fork_count())
		return gds_fail(EPERM,
				"%s: this reader was opened before fork(); open another one in "
				"the child",
				call);
	return 0;
}

/* ---- Who drives ---- */

/* Waits for `changed`, at most until `deadline_ns`. Lock held. */
static int sleep_until(struct gds_reader *reader, uint64_t deadline_ns)
{
	struct timespec deadline;
	int err = 0;

	reader->sleepers++;
	if (deadline_ns == UINT64_MAX) {
		pthread_cond_wait(&reader->changed, &reader->lock);
	} else {
		deadline = clock_timespec(deadline_ns);
		err = pthread_cond_timedwait(&reader->changed, &reader->lock, &deadline);
	}
	reader->sleepers--;
	return -err;
}

static void tell_sleepers(struct gds_reader *reader)
{
	if (reader->sleepers)
		pthread_cond_broadcast(&reader->changed);
}

/*
 * Lock held, but not meanwhile: what the caller knew may have changed. The lane stays
 * until the last waker is through with it.
 */
static void wake_driver(struct gds_reader *reader)
{
	if (!reader->asleep)
		return;
	reader->asleep = false;
	reader->wakers++;
	reader_unlock(reader);
	reader->lane->ops->wake(reader->lane);
	reader_lock(reader);
	if (--reader->wakers == 0 && reader->closed)
		tell_sleepers(reader);
}

/* Becomes the driver, ahead of threads that drive while they wait. Lock held. */
static void claim(struct gds_reader *reader)
{
	reader->claims++;
	while (reader->driving) {
		if (reader->asleep)
			wake_driver(reader);
		else
			sleep_until(reader, UINT64_MAX);
	}
	reader->claims--;
	reader->driving = true;
}

static void stop_driving(struct gds_reader *reader)
{
	reader->driving = false;
	tell_sleepers(reader);
}

int reader_run(struct gds_reader *reader, int (*run)(struct gds_reader *reader, void *argument),
	       void *argument)
{
	struct command command = { .run = run, .argument = argument };
	char message[GDS_ERROR_BYTES];

	reader_lock(reader);
	if (!reader->has_progress) {
		claim(reader);
		reader_unlock(reader);
		command.result = run(reader, argument);
		reader_lock(reader);
		stop_driving(reader);
		reader_unlock(reader);
		return command.result;
	}
	command.message = message;
	command.next = reader->commands;
	reader->commands = &command;
	wake_driver(reader);
	while (!command.done)
		sleep_until(reader, UINT64_MAX);
	reader_unlock(reader);
	if (command.result < 0)
		gds_fail(-command.result, "%s", message);
	return command.result;
}

/* ---- Driving ---- */

/* The batches whose cancel was asked for since the last turn. Lock held. */
static struct gds_batch *list_cancels(struct gds_reader *reader)
{
	struct gds_batch *list = NULL;

	if (!reader->cancels)
		return NULL;
	reader->cancels = false;
	for (struct gds_batch *batch = reader->in_flight; batch; batch = batch->in_flight_next) {
		if (!batch->cancel)
			continue;
		batch->cancel = false;
		batch->cancel_next = list;
		list = batch;
	}
	return list;
}

/*
 * Takes over from the callers what they submitted and cancelled. Returns whether
 * the turn may go to sleep: then what comes later finds the driver asleep, and
 * wakes it.
 */
static bool take_inbox(struct gds_reader *reader, bool sleep)
{
	struct gds_batch *batch;
	struct gds_batch *next;
	struct gds_batch *cancels;

	reader_lock(reader);
	batch = reader->inbox;
	reader->inbox = NULL;
	reader->inbox_last = &reader->inbox;
	cancels = list_cancels(reader);
	sleep = sleep && !reader->commands && !reader->claims;
	reader->asleep = sleep;
	reader->alone = !reader->sleepers;
	reader_unlock(reader);

	for (; batch; batch = next) {
		next = batch->next;
		for (size_t i = 0; i < batch->run_count; i++)
			scheduler_add(&batch->runs[i]);
		if (batch->deadline_ns)
			deadline_add(reader, batch);
	}
	for (batch = cancels; batch; batch = batch->cancel_next)
		operations_end(reader, batch, -ECANCELED);
	return sleep;
}

static void complete_batches(struct gds_reader *reader)
{
	struct gds_batch *batch = reader->completed;
	struct gds_batch *next;

	if (!batch)
		return;
	reader->completed = NULL;
	for (next = batch; next; next = next->next)
		batch_signal(next);

	reader_lock(reader);
	for (; batch; batch = next) {
		next = batch->next; /* once complete, the batch is its owner's again */
		batch_leave(batch);
	}
	tell_sleepers(reader);
	reader_unlock(reader);
	if (reader->notify)
		eventfd_write(reader->eventfd, 1);
}

static bool serves_event_loop(const struct gds_reader *reader)
{
	return reader->notify && !(reader->options.flags & GDS_READER_PROGRESS_THREAD);
}

static int enter_lane(struct gds_reader *reader, uint64_t wait_ns, uint32_t gather)
{
	reader->queued = 0;
	reader->put_off = 0;
	return reader->lane->ops->enter(reader->lane, wait_ns, gather);
}

/*
 * An event loop comes again when the lane tells of completions. So what this turn
 * made room for must be in the lane before it ends; and since no descriptor tells
 * when a device has copied, it is told to come again at once.
 */
static void hand_over_rest(struct gds_reader *reader)
{
	operations_issue(reader);
	enter_lane(reader, 0, 1);
	if (operations_copying(reader) || reader->held_first)
		eventfd_write(reader->eventfd, 1);
}

/*
 * How many completions are worth waiting for at once: no more than a batch that is
 * waited for lacks, and one where other threads wait for others.
 */
static uint32_t completions_to_gather(const struct gds_reader *reader)
{
	const struct gds_batch *batch = reader->awaited;
	uint32_t gather;

	if (!reader->alone)
		return 1;
	gather = scheduler_gather(&reader->scheduler);
	if (batch)
		gather = (uint32_t)min_u64(
			gather, atomic_load_explicit(&batch->open, memory_order_relaxed));
	return gather;
}

/* The first half of a turn. Returns how long it may sleep: at most `wait_ns`. */
static uint64_t begin_turn(struct gds_reader *reader, uint64_t wait_ns)
{
	if (!take_inbox(reader, wait_ns > 0))
		wait_ns = 0;
	reader->now_ns = clock_now_ns();
	reader->tells = gds_log_takes(GDS_LOG_DEBUG);
	reader->watched = reader->tells || probes_watch_reads();
	deadlines_check(reader);
	operations_issue(reader);
	if (reader->completed)
		return 0;
	if (wait_ns && reader->next_deadline_ns != UINT64_MAX)
		wait_ns = min_u64(wait_ns, reader->next_deadline_ns - reader->now_ns);
	return operations_patience(reader, wait_ns);
}

static int finish_turn(struct gds_reader *reader, uint64_t wait_ns)
{
	bool copying;
	size_t landed;
	int err;

	if (reader->active && reader->staying)
		below_take_leases(reader);
	/* Copies are short, and the lane goes on meanwhile: wait for them first. */
	copying = operations_copying(reader);
	if (copying)
		err = enter_lane(reader, 0, 1);
	else
		err = enter_lane(reader, wait_ns, wait_ns ? completions_to_gather(reader) : 1);
	landed = operations_reap(reader);
	if (copying || operations_copying(reader))
		operations_copied(reader, landed ? 0 : min_u64(wait_ns, COPY_WAIT_NS));
	operations_show(reader);
	if (serves_event_loop(reader))
		hand_over_rest(reader);
	if (landed)
		operations_count(reader);
	if (reader->active)
		below_give_leases(reader, !reader->staying);
	complete_batches(reader);
	return err;
}

int reader_drive(struct gds_reader *reader, uint64_t wait_ns)
{
	return finish_turn(reader, begin_turn(reader, wait_ns));
}

/*
 * Whether the lane need not be entered for what was just submitted. While many more
 * operations are in flight a few may wait for one another, and for a later call: a
 * system call for each of many small batches would cost more than their reads.
 */
static bool can_put_off(struct gds_reader *reader)
{
	uint32_t gather;

	if (reader->completed || reader->notify || reader->active)
		return false;
	gather = scheduler_gather(&reader->scheduler);
	return reader->queued < gather && ++reader->put_off < gather;
}

/* A turn for what was submitted, or the first half of one. */
static void drive_submitted(struct gds_reader *reader)
{
	uint64_t wait_ns = begin_turn(reader, 0);

	if (!can_put_off(reader))
		finish_turn(reader, wait_ns);
}

static bool run_commands(struct gds_reader *reader)
{
	struct command *command;

	reader_lock(reader);
	while ((command = reader->commands) != NULL) {
		reader->commands = command->next;
		reader_unlock(reader);
		command->result = command->run(reader, command->argument);
		gds_text_set(command->message, GDS_ERROR_BYTES, "%s", gds_last_error());
		reader_lock(reader);
		command->done = true;
		tell_sleepers(reader);
	}
	reader_unlock(reader);
	return !reader->stop;
}

static void *progress_main(void *argument)
{
	struct gds_reader *reader = argument;

	reader->staying = true;
	while (run_commands(reader))
		reader_drive(reader, LANE_WAIT_FOREVER);
	return NULL;
}

int reader_wait(struct gds_reader *reader, struct gds_batch *batch, uint64_t deadline_ns)
{
	uint64_t now_ns;
	int err = 0;

	reader_lock(reader);
	while (batch->state == BATCH_IN_FLIGHT && !err) {
		if (reader->has_progress || reader->driving || reader->claims) {
			err = sleep_until(reader, deadline_ns);
			continue;
		}
		reader->driving = true;
		reader_unlock(reader);
		now_ns = deadline_ns == UINT64_MAX ? 0 : clock_now_ns();
		if (now_ns >= deadline_ns)
			err = -ETIMEDOUT;
		reader->staying = true;
		reader->awaited = batch;
		err = reader_drive(reader, err ? 0 : deadline_ns - now_ns) ?: err;
		reader->awaited = NULL;
		reader->staying = false;
		if (reader->active && (err || atomic_load(&batch->open) == 0))
			below_give_leases(reader, true);
		reader_lock(reader);
		stop_driving(reader);
	}
	if (batch->state != BATCH_IN_FLIGHT)
		err = 0;
	reader_unlock(reader);
	return err;
}

/* Drives one turn, if no one else does; no more of one than there is need for. */
static void nudge(struct gds_reader *reader, bool submitted)
{
	reader_lock(reader);
	/* A batch may outlive its reader, whose lane is gone by then. */
	if (reader->closed) {
		reader_unlock(reader);
		return;
	}
	if (reader->has_progress || reader->driving) {
		wake_driver(reader);
		reader_unlock(reader);
		return;
	}
	reader->driving = true;
	reader_unlock(reader);
	if (submitted)
		drive_submitted(reader);
	else
		reader_drive(reader, 0);
	reader_lock(reader);
	stop_driving(reader);
	reader_unlock(reader);
}

void reader_poll(struct gds_reader *reader)
{
	nudge(reader, false);
}

bool reader_closed(struct gds_reader *reader)
{
	bool closed;

	reader_lock(reader);
	closed = reader->closed;
	reader_unlock(reader);
	return closed;
}

int reader_submit(struct gds_reader *reader, struct gds_batch *batch)
{
	bool closed;

	reader_lock(reader);
	closed = reader->closed;
	if (!closed) {
		batch_enter(batch);
		batch->next = NULL;
		*reader->inbox_last = batch;
		reader->inbox_last = &batch->next;
	}
	reader_unlock(reader);
	if (closed)
		return gds_fail(ESHUTDOWN, "gds_batch_submit: the batch's reader was closed");
	nudge(reader, true);
	return 0;
}

void reader_cancel(struct gds_reader *reader, struct gds_batch *batch)
{
	reader_lock(reader);
	if (batch->state == BATCH_IN_FLIGHT) {
		batch->cancel = true;
		reader->cancels = true;
	}
	reader_unlock(reader);
	nudge(reader, false);
}

static bool any_in_flight_uses(struct gds_reader *reader, const struct attachment *attachment)
{
	bool found = false;

	reader_lock(reader);
	for (struct gds_batch *batch = reader->in_flight; batch && !found;
	     batch = batch->in_flight_next)
		found = batch_uses(batch, attachment);
	reader_unlock(reader);
	return found;
}

void reader_drain(struct gds_reader *reader, const struct attachment *attachment)
{
	int err = 0;

	while ((!err || err == -EINTR) && any_in_flight_uses(reader, attachment))
		err = reader_drive(reader, DRAIN_WAIT_NS);
	if (err && err != -EINTR)
		gds_log(GDS_LOG_ERROR, "the lane failed with reads in flight: %s",
			gds_errno_text(-err));
}

/* ---- Opening and closing ---- */

/* Why the reader has the thread lane, ahead of what that one lacks itself. */
static void prefix_reason(struct lane *lane, const char *why)
{
	char own[sizeof(lane->reason)];

	memcpy(own, lane->reason, sizeof(own));
	gds_text_set(lane->reason, sizeof(lane->reason), "%s%s%s", why, own[0] ? "; " : "", own);
}

/*
 * The kernel counts a ring as locked memory, of which a user may have as little as
 * 64 KiB: a smaller ring serves as well, with less in flight.
 */
static int open_ring(struct gds_reader *reader, const struct lane_ops *uring,
		     struct lane_options *options)
{
	int err = uring->open(&reader->lane, options);

	while (err == -ENOMEM && options->depth > LEAST_LANE_DEPTH) {
		options->depth = (uint32_t)max_u64(options->depth / 2, LEAST_LANE_DEPTH);
		err = uring->open(&reader->lane, options);
	}
	if (!err && options->depth < reader->scheduler.most) {
		gds_info("locked memory is short: at most %u operations in flight instead of %u "
			 "(ulimit -l)",
			 options->depth, reader->scheduler.most);
		reader->scheduler.most = options->depth;
	}
	return err;
}

static int open_lane(struct gds_reader *reader, const struct lane_ops *uring)
{
	const struct gds_reader_options *options = &reader->options;
	struct lane_options lane_options = {
		.depth = reader->scheduler.most,
		.threads = options->threads,
		.dmabuf_shape = options->dmabuf_shape,
	};
	char why[GDS_ERROR_BYTES] = "the thread lane was asked for";
	int err = -ENOSYS;

	if (options->flags & (GDS_READER_SINGLE_THREAD | GDS_READER_PROGRESS_THREAD))
		lane_options.flags = LANE_SINGLE_THREAD;
	if (options->lane != GDS_LANE_THREADS)
		err = open_ring(reader, uring, &lane_options);
	reader->lane_kind = GDS_LANE_URING;
	if (!err || options->lane == GDS_LANE_URING)
		return err;

	if (options->lane == GDS_LANE_AUTO) {
		gds_text_set(why, sizeof(why), "%s", gds_last_error());
		gds_warn("reading with threads: %s", why);
	}
	reader->lane_kind = GDS_LANE_THREADS;
	lane_options.depth = reader->scheduler.most;
	err = lane_threads.open(&reader->lane, &lane_options);
	if (!err)
		prefix_reason(reader->lane, why);
	return err;
}

static int start_progress(struct gds_reader *reader)
{
	sigset_t all;
	sigset_t before;
	int err;

	if (!(reader->options.flags & GDS_READER_PROGRESS_THREAD))
		return 0;
	/* Signals are for the caller's threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&reader->progress, NULL, progress_main, reader);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err)
		return gds_fail_errno(err, "cannot start a reader's progress thread");
	reader->has_progress = true;
	return 0;
}

static void init_sync(struct gds_reader *reader)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&reader->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	pthread_mutex_init(&reader->lock, NULL);
	reader->inbox_last = &reader->inbox;
}

/* Several devices are kept busy side by side. */
static uint32_t lane_depth(uint32_t queue_depth)
{
	return (uint32_t)min_u64((uint64_t)queue_depth * DEVICES_AT_ONCE, MAX_LANE_DEPTH);
}

int reader_open(struct gds_reader **reader_out, const struct gds_reader_options *options,
		const struct lane_ops *uring)
{
	struct gds_reader_options full;
	struct gds_reader *reader;
	int err;

	if (!reader_out)
		return gds_fail(EINVAL, "gds_reader_open: reader must not be NULL");
	err = fill_options(&full, options);
	if (err)
		return err;
	reader = calloc(1, sizeof(*reader));
	if (!reader)
		return gds_fail_errno(ENOMEM, "cannot open a reader");
	reader->references = 1;
	reader->options = full;
	reader->fork_generation = fork_count();
	for (int size = 0; size < STAGING_SIZES; size++)
		reader->staging_slots[size] = LANE_NO_BUFFER;
	init_sync(reader);
	reader->depth_is_fixed = options &&
				 options->size > offsetof(struct gds_reader_options, queue_depth) &&
				 options->queue_depth;
	reader->next_deadline_ns = UINT64_MAX;
	scheduler_init(&reader->scheduler, lane_depth(full.queue_depth));
	staging_layout(reader->staging, full.staging_bytes, (uint32_t)full.transfer_bytes);
	reader->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (reader->eventfd < 0) {
		err = gds_fail_errno(errno, "cannot open a reader's eventfd");
		goto out;
	}
	err = operations_open(reader);
	if (!err)
		err = open_lane(reader, uring);
	if (!err)
		err = start_progress(reader);
	if (err)
		goto out;
	*reader_out = reader;
	return 0;
out:
	gds_reader_close(reader);
	return err;
}

int gds_reader_open(struct gds_reader **reader, const struct gds_reader_options *options)
{
	return reader_open(reader, options, &lane_uring);
}

/* Cancels what is in flight, and lets go of everything the reader has met. */
static int wind_up(struct gds_reader *reader, void *argument)
{
	struct attachment *attachment;

	reader_lock(reader);
	reader->closed = true;
	for (struct gds_batch *batch = reader->in_flight; batch; batch = batch->in_flight_next) {
		batch->cancel = true;
		reader->cancels = true;
	}
	reader_unlock(reader);
	reader_drain(reader, NULL);
	while ((attachment = reader->attachments) != NULL)
		attachment->detach(attachment);
	below_close_targets(reader);
	proofs_forget(reader, NULL);
	for (int size = 0; size < STAGING_SIZES; size++) {
		if (reader->staging_slots[size] != LANE_NO_BUFFER)
			reader->lane->ops->buffer_remove(reader->lane, reader->staging_slots[size]);
		staging_close(&reader->staging[size]);
	}
	reader->stop = true;
	return 0;
}

static void wait_for_wakers(struct gds_reader *reader)
{
	reader_lock(reader);
	while (reader->wakers)
		sleep_until(reader, UINT64_MAX);
	reader_unlock(reader);
}

/* Whoever came too late for the progress thread finds nothing left to detach. */
static void end_progress(struct gds_reader *reader)
{
	if (!reader->has_progress)
		return;
	pthread_join(reader->progress, NULL);
	reader_lock(reader);
	reader->has_progress = false;
	reader_unlock(reader);
	run_commands(reader);
}

void gds_reader_close(struct gds_reader *reader)
{
	if (!reader)
		return;
	/* A child of fork() shares the ring with its parent: leave it alone. */
	if (reader_check(reader, "gds_reader_close"))
		return;
	if (reader->lane) {
		reader_run(reader, wind_up, NULL);
		end_progress(reader);
		wait_for_wakers(reader);
		reader->lane->ops->close(reader->lane);
	}
	operations_close(reader);
	queues_close(reader);
	if (reader->eventfd >= 0)
		close(reader->eventfd);
	reader_put(reader);
}

void reader_get(struct gds_reader *reader)
{
	atomic_fetch_add(&reader->references, 1);
}

void reader_put(struct gds_reader *reader)
{
	if (atomic_fetch_sub(&reader->references, 1) != 1)
		return;
	pthread_cond_destroy(&reader->changed);
	pthread_mutex_destroy(&reader->lock);
	free(reader);
}

/* ---- Looking at it ---- */

static int start_notifying(struct gds_reader *reader, void *argument)
{
	/* With a progress thread only complete batches are news. */
	if (!reader->notify && !reader->has_progress)
		reader->lane->ops->notify(reader->lane, reader->eventfd);
	reader->notify = true;
	return 0;
}

int gds_reader_eventfd(struct gds_reader *reader)
{
	int err = reader_check(reader, "gds_reader_eventfd");

	if (!err)
		err = reader_run(reader, start_notifying, NULL);
	return err ? err : reader->eventfd;
}

const char *gds_reader_lane_reason(struct gds_reader *reader)
{
	return reader ? reader->lane->reason : "";
}

/* What is counted for each device of storage, summed up. */
static void sum_queues(struct gds_reader *reader, struct gds_stats *full)
{
	reader_lock(reader);
	for (struct reader_queue *queue = reader->queues; queue; queue = queue->next) {
		full->operations += queue->counters.operations;
		full->reads_merged += queue->counters.merged;
		full->storage_devices++;
	}
	reader_unlock(reader);
}

int gds_reader_storage(struct gds_reader *reader, size_t index, struct gds_storage_stats *stats)
{
	const struct reader_queue *queue;
	struct gds_storage_stats full;
	size_t size;
	int err = reader_check(reader, "gds_reader_storage");

	if (err)
		return err;
	if (!stats || stats->size < sizeof(stats->size))
		return gds_fail(EINVAL, "gds_reader_storage: pass a structure whose size is set");
	reader_lock(reader);
	queue = reader->queues;
	for (size_t i = index; queue && i > 0; i--)
		queue = queue->next;
	reader_unlock(reader);
	if (!queue)
		return gds_fail(ENOENT, "gds_reader_storage: the reader has met no device %zu",
				index);
	size = min_u64(stats->size, sizeof(full));
	full = (struct gds_storage_stats){
		.size = size,
		.reads = queue->counters.reads,
		.reads_failed = queue->counters.reads_failed,
		.reads_merged = queue->counters.merged,
		.operations = queue->counters.operations,
		.bytes = queue->counters.bytes,
		.in_flight = queue->counters.in_flight,
		.depth = reader->depth_is_fixed ? reader->options.queue_depth
						: queue->counters.depth,
		.transfer_bytes = queue->transfer_bytes,
		.rotational = queue->disk.rotational,
	};
	memcpy(full.name, queue->disk.name, sizeof(full.name));
	memcpy(stats, &full, size);
	return 0;
}

int gds_reader_stats(struct gds_reader *reader, struct gds_stats *stats)
{
	const struct counters *counters;
	struct gds_stats full;
	size_t size;
	int err = reader_check(reader, "gds_reader_stats");

	if (err)
		return err;
	if (!stats || stats->size < sizeof(stats->size))
		return gds_fail(EINVAL, "gds_reader_stats: pass a structure whose size is set");
	counters = &reader->counters;
	size = min_u64(stats->size, sizeof(full));
	full = (struct gds_stats){
		.size = size,
		.reads = counters->reads_at_once,
		.reads_failed = counters->reads_failed + counters->reads_failed_at_once,
		.reads_cancelled = counters->reads_cancelled,
		.retries = counters->retries,
		.fallbacks = counters->fallbacks,
		.device_copies = counters->device_copies,
		.in_flight = counters->in_flight,
		.in_flight_peak = counters->in_flight_peak,
		.staging_bytes = counters->staging_bytes,
		.lane = reader->lane_kind,
		.canaries = counters->canaries,
		.canaries_failed = counters->canaries_failed,
		.reads_expired = counters->reads_expired,
	};
	for (int path = 0; path < GDS_PATH_COUNT; path++)
		full.path_bytes[path] = counters->path_bytes[path];
	for (int rank = 0; rank < GDS_CLASS_COUNT; rank++) {
		full.reads += counters->class_reads[rank];
		full.class_reads[rank] = counters->class_reads[rank];
		full.class_bytes[rank] = counters->class_bytes[rank];
		full.class_ns[rank] = counters->class_ns[rank];
	}
	sum_queues(reader, &full);
	memcpy(stats, &full, size);
	return 0;
}
