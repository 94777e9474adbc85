/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lane for where io_uring is refused: a pool of threads that call preadv2(2).
 *
 * Reads wait in a ring that the driver fills without a lock; enter() publishes
 * them to the workers. Completions wait in a second ring. Both hold `depth`
 * entries, and a read counts against the depth until it is reaped, so neither
 * can run over.
 *
 * The driver waits in ppoll(2) on an eventfd, the doorbell, and not on a
 * condition variable: a signal has to end the wait, and wake() has to be legal in
 * a signal handler.
 */
#include "base/bits.h"
#include "base/error.h"
#include "lane/deadline.h"
#include "lane/lane.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define DEFAULT_THREADS 8

struct threads_lane {
	struct lane base;

	uint32_t mask;   /* of both rings, whose size is a power of two */
	uint32_t queued; /* jobs ever queued: the driver's alone */
	int doorbell;
	atomic_bool woken;

	pthread_mutex_t lock;
	pthread_cond_t work;
	/* From here on under the lock. The counters run free and are masked at use. */
	struct lane_read *jobs;
	uint32_t published;
	uint32_t taken;
	struct lane_completion *done;
	uint32_t finished;
	uint32_t reaped;
	uint32_t idle; /* workers that wait for work */
	int notify_fd;
	bool waiting; /* the driver sleeps, or is about to */
	bool stopping;

	uint32_t worker_count;
	pthread_t workers[];
};

static struct threads_lane *to_threads(struct lane *lane)
{
	return (struct threads_lane *)lane;
}

/* Legal in a signal handler. A full counter means that the reader is awake anyway. */
static void ring(int eventfd)
{
	const uint64_t one = 1;
	int saved = errno;

	if (write(eventfd, &one, sizeof(one)) < 0)
		errno = saved;
}

static int32_t run(const struct lane_read *job)
{
	struct iovec vector = { .iov_base = job->address, .iov_len = job->length };
	ssize_t got;

	do
		got = preadv2((int)job->file, &vector, 1, (off_t)job->offset, 0);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : (int32_t)got;
}

static void finish(struct threads_lane *lane, uint64_t token, int32_t result)
{
	bool wake_driver;
	int notify_fd;

	pthread_mutex_lock(&lane->lock);
	assert(lane->finished - lane->reaped <= lane->mask);
	lane->done[lane->finished++ & lane->mask] = (struct lane_completion){ token, result, 0 };
	wake_driver = lane->waiting;
	lane->waiting = false;
	notify_fd = lane->notify_fd;
	pthread_mutex_unlock(&lane->lock);

	if (wake_driver)
		ring(lane->doorbell);
	if (notify_fd >= 0)
		ring(notify_fd);
}

/* Waits for a job. False when the lane closes. */
static bool take(struct threads_lane *lane, struct lane_read *job)
{
	bool got;

	pthread_mutex_lock(&lane->lock);
	lane->idle++;
	while (lane->taken == lane->published && !lane->stopping)
		pthread_cond_wait(&lane->work, &lane->lock);
	lane->idle--;
	got = !lane->stopping;
	if (got)
		*job = lane->jobs[lane->taken++ & lane->mask];
	pthread_mutex_unlock(&lane->lock);
	return got;
}

static void *worker(void *argument)
{
	struct threads_lane *lane = argument;
	struct lane_read job;

	while (take(lane, &job))
		finish(lane, job.token, run(&job));
	return NULL;
}

/* Signals are the application's business: none may land on a worker. */
static int start_workers(struct threads_lane *lane, uint32_t count)
{
	sigset_t all;
	sigset_t before;
	int error = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (lane->worker_count < count && !error) {
		error = pthread_create(&lane->workers[lane->worker_count], NULL, worker, lane);
		if (!error)
			pthread_setname_np(lane->workers[lane->worker_count++], "gds-lane");
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);

	if (!lane->worker_count)
		return gds_fail_errno(error, "cannot start a thread to read with; raise the limit "
					     "on processes (ulimit -u)");
	if (error)
		gds_text_set(lane->base.reason, sizeof(lane->base.reason),
			     "only %u of %u threads could be started: %s", lane->worker_count,
			     count, gds_errno_text(error));
	return 0;
}

static void threads_close(struct lane *base)
{
	struct threads_lane *lane = to_threads(base);

	pthread_mutex_lock(&lane->lock);
	lane->stopping = true;
	pthread_cond_broadcast(&lane->work);
	pthread_mutex_unlock(&lane->lock);
	for (uint32_t i = 0; i < lane->worker_count; i++)
		pthread_join(lane->workers[i], NULL);

	pthread_cond_destroy(&lane->work);
	pthread_mutex_destroy(&lane->lock);
	if (lane->doorbell >= 0)
		close(lane->doorbell);
	free(lane->jobs);
	free(lane->done);
	free(lane);
}

static int allocate(struct threads_lane *lane, uint32_t depth)
{
	uint32_t size = 1;

	while (size < depth)
		size *= 2;
	lane->mask = size - 1;
	lane->jobs = calloc(size, sizeof(*lane->jobs));
	lane->done = calloc(size, sizeof(*lane->done));
	if (!lane->jobs || !lane->done)
		return gds_fail(ENOMEM, "no memory for a queue of %u reads", depth);
	lane->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (lane->doorbell < 0)
		return gds_fail_errno(errno, "cannot make an eventfd");
	return 0;
}

static int threads_open(struct lane **out, const struct lane_options *options)
{
	uint32_t count = options->threads ? options->threads : DEFAULT_THREADS;
	struct threads_lane *lane = calloc(1, sizeof(*lane) + count * sizeof(lane->workers[0]));
	int ret;

	if (!lane)
		return gds_fail(ENOMEM, "no memory for a lane of %u threads", count);
	lane->base.ops = &lane_threads;
	lane->doorbell = -1;
	lane->notify_fd = -1;
	pthread_mutex_init(&lane->lock, NULL);
	pthread_cond_init(&lane->work, NULL);

	ret = allocate(lane, options->depth);
	if (!ret)
		ret = start_workers(lane, count);
	if (ret) {
		threads_close(&lane->base);
		return ret;
	}
	*out = &lane->base;
	return 0;
}

/* Nothing to look up later: a file goes by the number of its descriptor. */
static int threads_file_add(struct lane *base, int fd, uint32_t *file)
{
	if (fcntl(fd, F_GETFD) < 0)
		return gds_fail_errno(errno, "cannot use descriptor %d", fd);
	*file = (uint32_t)fd;
	return 0;
}

static void threads_file_remove(struct lane *base, uint32_t file)
{
}

/* preadv2 has no registered memory. The kernel pins, or copies, at each read. */
static int threads_buffer_add(struct lane *base, void *address, size_t bytes, uint32_t *buffer)
{
	return gds_fail(EOPNOTSUPP, "the thread lane registers no memory");
}

static void threads_buffer_remove(struct lane *base, uint32_t buffer)
{
}

/* The slot is the driver's until it is published: its last job has been reaped. */
static void threads_queue(struct lane *base, const struct lane_read *read)
{
	struct threads_lane *lane = to_threads(base);

	lane->jobs[lane->queued++ & lane->mask] = *read;
}

static void publish(struct threads_lane *lane)
{
	uint32_t wanted;

	pthread_mutex_lock(&lane->lock);
	wanted = lane->queued - lane->published;
	lane->published = lane->queued;
	for (uint32_t i = 0; i < wanted && i < lane->idle; i++)
		pthread_cond_signal(&lane->work);
	pthread_mutex_unlock(&lane->lock);
}

/* Whether the driver has to sleep; the workers then know that they must ring. */
static bool prepare_to_wait(struct threads_lane *lane)
{
	bool wait;

	pthread_mutex_lock(&lane->lock);
	wait = lane->finished == lane->reaped && !atomic_load(&lane->woken);
	lane->waiting = wait;
	pthread_mutex_unlock(&lane->lock);
	return wait;
}

/* Sleeps until the doorbell rings. -ETIME when the time is over. */
static int wait_for_doorbell(struct threads_lane *lane, uint64_t wait_ns)
{
	struct pollfd poll_fd = { .fd = lane->doorbell, .events = POLLIN };
	struct timespec timeout = clock_timespec(wait_ns);
	uint64_t rings;
	int ret;

	ret = ppoll(&poll_fd, 1, wait_ns == LANE_WAIT_FOREVER ? NULL : &timeout, NULL);
	if (ret < 0)
		return -errno;
	if (!ret)
		return -ETIME;
	/* Whatever it says: what has happened is looked up under the lock. */
	if (read(lane->doorbell, &rings, sizeof(rings)) < 0 && errno != EAGAIN)
		return -errno;
	return 0;
}

static int threads_enter(struct lane *base, uint64_t wait_ns, uint32_t gather)
{
	struct threads_lane *lane = to_threads(base);
	uint64_t deadline;
	int ret = 0;

	if (lane->queued != lane->published)
		publish(lane);
	if (wait_ns) {
		deadline = deadline_after(wait_ns);
		while (!ret && prepare_to_wait(lane))
			ret = wait_for_doorbell(lane, deadline_left(deadline));
	}
	atomic_store(&lane->woken, false);
	return ret == -ETIME ? 0 : ret;
}

/* What is reaped is not overwritten before as many reads more have been handed over. */
static size_t threads_reap(struct lane *base, const struct lane_completion **completions)
{
	struct threads_lane *lane = to_threads(base);
	uint32_t first = lane->reaped & lane->mask;
	uint32_t count;

	*completions = &lane->done[first];
	pthread_mutex_lock(&lane->lock);
	count = (uint32_t)min_u64(lane->finished - lane->reaped, lane->mask + 1 - first);
	lane->reaped += count;
	pthread_mutex_unlock(&lane->lock);
	return count;
}

/* Takes a job that no worker has begun out of the ring; the later ones move up. */
static bool withdraw(struct threads_lane *lane, uint64_t token)
{
	uint32_t at = lane->taken;

	while (at != lane->queued && lane->jobs[at & lane->mask].token != token)
		at++;
	if (at == lane->queued)
		return false;
	if (at - lane->taken < lane->published - lane->taken)
		lane->published--;
	lane->queued--;
	for (; at != lane->queued; at++)
		lane->jobs[at & lane->mask] = lane->jobs[(at + 1) & lane->mask];
	return true;
}

/* A read that a worker has begun cannot be interrupted: it runs to its end. */
static void threads_cancel(struct lane *base, uint64_t token)
{
	struct threads_lane *lane = to_threads(base);
	bool withdrawn;

	pthread_mutex_lock(&lane->lock);
	withdrawn = withdraw(lane, token);
	pthread_mutex_unlock(&lane->lock);
	if (withdrawn)
		finish(lane, token, -ECANCELED);
}

static void threads_wake(struct lane *base)
{
	struct threads_lane *lane = to_threads(base);

	if (!atomic_exchange(&lane->woken, true))
		ring(lane->doorbell);
}

static int threads_notify(struct lane *base, int eventfd)
{
	struct threads_lane *lane = to_threads(base);

	pthread_mutex_lock(&lane->lock);
	lane->notify_fd = eventfd;
	pthread_mutex_unlock(&lane->lock);
	return 0;
}

const struct lane_ops lane_threads = {
	.name = "threads",
	.open = threads_open,
	.close = threads_close,
	.file_add = threads_file_add,
	.file_remove = threads_file_remove,
	.buffer_add = threads_buffer_add,
	.buffer_remove = threads_buffer_remove,
	.queue = threads_queue,
	.enter = threads_enter,
	.reap = threads_reap,
	.cancel = threads_cancel,
	.wake = threads_wake,
	.notify = threads_notify,
};
