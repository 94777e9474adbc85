/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts with a stream of gds's own in each, and the tickets of what is put there. */
#include "device.h"

#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <stdlib.h>

/* The driver has no wait with a time limit: events are asked, at first often. */
#define FIRST_NAP_NS (10 * UINT64_C(1000))
#define LAST_NAP_NS  (200 * UINT64_C(1000))

int cuda_enter(const struct cuda_device *device, CUcontext context)
{
	CUresult result = cuda.cuCtxPushCurrent(context);

	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: cannot enter its context", device->label);
	return 0;
}

void cuda_leave(void)
{
	CUcontext context;

	cuda.cuCtxPopCurrent(&context);
}

/* ---- Making and ending ---- */

/*
 * Streams of different priorities have different channels of the hardware. A
 * caller's stream that waits for a batch must not stand in the same one before the
 * copies that the batch needs.
 */
static int create_stream(const struct cuda_device *device, struct cuda_queue *queue)
{
	int least = 0, greatest = 0;
	CUresult result = cuda.cuCtxGetStreamPriorityRange(&least, &greatest);

	if (result == CUDA_SUCCESS)
		result = cuda.cuStreamCreateWithPriority(&queue->stream, CU_STREAM_NON_BLOCKING,
							 greatest);
	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: cannot make a stream", device->label);
	return 0;
}

static int new_queue(const struct cuda_device *device, CUcontext context,
		     struct cuda_queue **result)
{
	struct cuda_queue *queue = calloc(1, sizeof(*queue));
	int err;

	if (!queue)
		return gds_fail_errno(ENOMEM, "%s: cannot use a context", device->label);
	queue->context = context;
	err = cuda_enter(device, context);
	if (!err) {
		err = create_stream(device, queue);
		cuda_leave();
	}
	if (err)
		free(queue);
	else
		*result = queue;
	return err;
}

static struct cuda_queue **find_queue(struct cuda_device *device, CUcontext context)
{
	struct cuda_queue **link = &device->queues;

	while (*link && (*link)->context != context)
		link = &(*link)->next;
	return link;
}

int cuda_queue_get(struct cuda_device *device, CUcontext context, struct cuda_queue **result)
{
	struct cuda_queue **link;
	int err = 0;

	pthread_mutex_lock(&device->lock);
	link = find_queue(device, context);
	if (!*link)
		err = new_queue(device, context, link);
	if (!err) {
		(*link)->references++;
		*result = *link;
	}
	pthread_mutex_unlock(&device->lock);
	return err;
}

/* Most ends need no context to be current: what cannot be entered is ended all the same. */
static void end_queue(struct cuda_device *device, struct cuda_queue *queue)
{
	bool entered = cuda_enter(device, queue->context) == 0;

	cuda_queue_drain(device, queue);
	cuda_checksum_stop_queue(device, queue);
	for (unsigned i = 0; i < CUDA_FRAMES_MAX; i++)
		if (queue->frames[i].event)
			cuda_check_end(device, cuda.cuEventDestroy(queue->frames[i].event),
				       "destroy an event");
	cuda_check_end(device, cuda.cuStreamDestroy(queue->stream), "destroy a stream");
	if (entered)
		cuda_leave();
	free(queue);
}

void cuda_queue_put(struct cuda_device *device, struct cuda_queue *queue)
{
	pthread_mutex_lock(&device->lock);
	if (--queue->references == 0)
		*find_queue(device, queue->context) = queue->next;
	else
		queue = NULL;
	pthread_mutex_unlock(&device->lock);
	if (queue)
		end_queue(device, queue);
}

int cuda_queue_drain(const struct cuda_device *device, const struct cuda_queue *queue)
{
	CUresult result = cuda.cuStreamSynchronize(queue->stream);

	if (result == CUDA_SUCCESS)
		return 0;
	cuda_fail(result, "%s: its work failed", device->label);
	return -EIO;
}

void cuda_settle(struct cuda_device *device)
{
	char message[GDS_ERROR_BYTES];

	gds_text_set(message, sizeof(message), "%s", gds_last_error());
	for (struct cuda_queue *queue = device->queues; queue; queue = queue->next) {
		const bool entered = cuda_enter(device, queue->context) == 0;

		cuda_queue_drain(device, queue);
		if (entered)
			cuda_leave();
	}
	gds_fail(0, "%s", message);
}

/* ---- Tickets ---- */

/* Waits for the oldest frame and takes it out of the ring. */
static int retire_frame(const struct cuda_device *device, struct cuda_queue *queue)
{
	CUresult result = cuda.cuEventSynchronize(queue->frames[queue->first].event);

	if (result != CUDA_SUCCESS) {
		cuda_fail(result, "%s: its copies failed", device->label);
		return -EIO;
	}
	queue->first = (queue->first + 1) % CUDA_FRAMES_MAX;
	queue->count--;
	return 0;
}

static int record_frame(struct cuda_device *device, struct cuda_queue *queue,
			struct cuda_frame *frame)
{
	CUresult result = CUDA_SUCCESS;

	if (!frame->event)
		result = cuda.cuEventCreate(&frame->event, CU_EVENT_DISABLE_TIMING);
	if (result == CUDA_SUCCESS)
		result = cuda.cuEventRecord(frame->event, queue->stream);
	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: cannot record an event behind copies", device->label);
	frame->ticket = ++device->submitted;
	queue->count++;
	return 0;
}

int cuda_queue_mark(struct cuda_device *device, struct cuda_queue *queue, uint64_t *ticket)
{
	struct cuda_frame *frame;
	int err = 0;

	if (queue->count == CUDA_FRAMES_MAX)
		err = retire_frame(device, queue);
	frame = &queue->frames[(queue->first + queue->count) % CUDA_FRAMES_MAX];
	if (!err)
		err = record_frame(device, queue, frame);
	if (!err)
		*ticket = frame->ticket;
	return err;
}

/* Takes the frames that are done out of the ring. */
static int poll_queue(const struct cuda_device *device, struct cuda_queue *queue)
{
	CUresult result = CUDA_SUCCESS;

	while (queue->count && result == CUDA_SUCCESS) {
		result = cuda.cuEventQuery(queue->frames[queue->first].event);
		if (result != CUDA_SUCCESS)
			break;
		queue->first = (queue->first + 1) % CUDA_FRAMES_MAX;
		queue->count--;
	}
	if (result == CUDA_SUCCESS || result == CUDA_ERROR_NOT_READY)
		return 0;
	queue->count = 0;
	cuda_fail(result, "%s: its copies failed", device->label);
	return -EIO;
}

/* The last ticket before the first that is not done, over all queues. */
static int poll_queues(struct cuda_device *device, uint64_t *done)
{
	int err = 0;

	pthread_mutex_lock(&device->lock);
	*done = device->submitted;
	for (struct cuda_queue *queue = device->queues; queue && !err; queue = queue->next) {
		if (!queue->count)
			continue;
		err = cuda_enter(device, queue->context);
		if (err)
			break;
		err = poll_queue(device, queue);
		cuda_leave();
		if (queue->count)
			*done = min_u64(*done, queue->frames[queue->first].ticket - 1);
	}
	/* The staging memory of all copies, in whatever queue, is used again from now on. */
	if (err)
		cuda_settle(device);
	pthread_mutex_unlock(&device->lock);
	return err ? -EIO : 0;
}

int cuda_copied(struct backend_device *base, uint64_t ticket, uint64_t timeout_ns, uint64_t *done)
{
	struct cuda_device *device = to_cuda_device(base);
	const uint64_t start_ns = clock_now_ns();
	uint64_t nap_ns = FIRST_NAP_NS;
	uint64_t waited_ns = 0;
	int err;

	while ((err = poll_queues(device, done)) == 0 && *done < ticket) {
		waited_ns = clock_now_ns() - start_ns;
		if (waited_ns >= timeout_ns)
			break;
		struct timespec nap = clock_timespec(min_u64(nap_ns, timeout_ns - waited_ns));

		nanosleep(&nap, NULL);
		nap_ns = min_u64(2 * nap_ns, LAST_NAP_NS);
	}
	return err;
}
