/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of callers that wait for batches: each for a word of host memory that the
 * CPU writes when the batch is complete.
 *
 * A word only ever rises, and a stream waits until it has reached a value, so a word
 * that is used again lets earlier waits pass. But the words must stay for as long as a
 * stream may look at them: an event behind each wait tells when it has.
 */
#include "device.h"

#include "base/error.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t *word_of(const struct cuda_wait *wait)
{
	return &wait->device->waits.words[wait - wait->device->waits.list];
}

/* In a context of the device. */
static int need_words(struct cuda_device *device)
{
	struct cuda_waits *waits = &device->waits;
	const size_t bytes = CUDA_WAITS_MAX * sizeof(*waits->words);
	void *words = NULL;
	CUresult result;

	if (waits->list)
		return 0;
	result = cuda.cuMemHostAlloc(&words, bytes,
				     CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: no host memory for streams to wait on",
				 device->label);
	waits->list = calloc(CUDA_WAITS_MAX, sizeof(*waits->list));
	if (!waits->list) {
		cuda_check_end(device, cuda.cuMemFreeHost(words), "free host memory");
		return gds_fail_errno(ENOMEM, "%s: cannot keep waits", device->label);
	}
	memset(words, 0, bytes);
	waits->words = words;
	for (size_t i = 0; i < CUDA_WAITS_MAX; i++)
		waits->list[i].device = device;
	return 0;
}

/* Whether the stream has passed its wait, and the word can be used anew. */
static bool has_passed(struct cuda_wait *wait)
{
	if (wait->state != CUDA_WAIT_RELEASED || !wait->event ||
	    cuda.cuEventQuery(wait->event) != CUDA_SUCCESS)
		return false;
	cuda_check_end(wait->device, cuda.cuEventDestroy(wait->event), "destroy an event");
	wait->event = NULL;
	wait->state = CUDA_WAIT_FREE;
	return true;
}

static struct cuda_wait *find_free(struct cuda_device *device)
{
	struct cuda_wait *list = device->waits.list;

	for (size_t i = 0; i < CUDA_WAITS_MAX; i++)
		if (list[i].state == CUDA_WAIT_FREE || has_passed(&list[i]))
			return &list[i];
	gds_fail(EAGAIN, "%s: %d streams wait for batches already: complete some first",
		 device->label, CUDA_WAITS_MAX);
	return NULL;
}

static void set_word(const struct cuda_wait *wait)
{
	__atomic_store_n(word_of(wait), wait->value, __ATOMIC_RELEASE);
}

/* Puts the wait into the stream, and the event behind it. */
static int enqueue(struct cuda_device *device, struct cuda_wait *wait, CUstream stream)
{
	const unsigned flags =
		CU_STREAM_WAIT_VALUE_GEQ | (device->wait_flushes ? CU_STREAM_WAIT_VALUE_FLUSH : 0);
	CUdeviceptr address;
	CUresult result = cuda.cuMemHostGetDevicePointer(&address, word_of(wait), 0);

	if (result == CUDA_SUCCESS)
		result = cuda.cuEventCreate(&wait->event, CU_EVENT_DISABLE_TIMING);
	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: cannot prepare a stream's wait", device->label);
	result = cuda.cuStreamWaitValue32(stream, address, wait->value, flags);
	if (result != CUDA_SUCCESS) {
		cuda_check_end(device, cuda.cuEventDestroy(wait->event), "destroy an event");
		wait->event = NULL;
		return cuda_fail(result, "%s: the stream does not take a wait", device->label);
	}
	wait->state = CUDA_WAIT_PENDING;
	result = cuda.cuEventRecord(wait->event, stream);
	if (result == CUDA_SUCCESS)
		return 0;
	cuda_fail(result, "%s: cannot record an event in the stream", device->label);
	/* The wait is in the stream: it is let pass, and its word is never used again. */
	set_word(wait);
	cuda_check_end(device, cuda.cuEventDestroy(wait->event), "destroy an event");
	wait->event = NULL;
	wait->state = CUDA_WAIT_RELEASED;
	device->waits.keep = true;
	return -EIO;
}

/* In the stream's context, under device->lock. */
static int start_wait(struct cuda_device *device, CUstream stream, struct cuda_wait **result)
{
	struct cuda_wait *wait;
	int err = need_words(device);

	if (err)
		return err;
	wait = find_free(device);
	if (!wait)
		return -EAGAIN;
	wait->value++;
	err = enqueue(device, wait, stream);
	if (!err)
		*result = wait;
	return err;
}

/*
 * The stream's context. The default stream is the current context's; a thread
 * without one means the primary context, as the CUDA runtime does.
 */
static int context_of(const struct cuda_device *device, CUstream stream, CUcontext *context)
{
	CUresult result;

	*context = NULL;
	if (stream)
		result = cuda.cuStreamGetCtx(stream, context);
	else
		result = cuda.cuCtxGetCurrent(context);
	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: no stream of CUDA", device->label);
	if (!*context)
		*context = device->primary->context;
	return 0;
}

static int check_device(const struct cuda_device *device)
{
	CUdevice handle = -1;
	CUresult result = cuda.cuCtxGetDevice(&handle);

	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: the stream's device is unknown", device->label);
	if (handle != device->handle)
		return gds_fail(EINVAL, "%s: the stream is of cuda:%d", device->label, handle);
	return 0;
}

int backend_cuda_stream_wait(struct backend_device *base, void *stream, struct cuda_wait **wait)
{
	struct cuda_device *device = to_cuda_device(base);
	CUcontext context;
	int err;

	if (base->ops != &backend_cuda)
		return gds_fail(ENOTSUP, "a %s device has no CUDA streams", base->ops->name);
	if (!cuda.cuStreamWaitValue32)
		return gds_fail(ENOTSUP,
				"%s: streams cannot wait for memory with a driver before CUDA 11.7 "
				"(515): wait for the batch on the CPU",
				device->label);
	err = context_of(device, stream, &context);
	if (!err)
		err = cuda_enter(device, context);
	if (err)
		return err;
	err = check_device(device);
	if (!err) {
		pthread_mutex_lock(&device->lock);
		err = start_wait(device, stream, wait);
		pthread_mutex_unlock(&device->lock);
	}
	cuda_leave();
	return err;
}

void backend_cuda_release(struct cuda_wait *wait)
{
	struct cuda_device *device = wait->device;

	pthread_mutex_lock(&device->lock);
	set_word(wait);
	wait->state = CUDA_WAIT_RELEASED;
	pthread_mutex_unlock(&device->lock);
}

/* ---- The end ---- */

bool cuda_waits_pending(struct cuda_device *device)
{
	bool pending = false;

	pthread_mutex_lock(&device->lock);
	for (size_t i = 0; device->waits.list && i < CUDA_WAITS_MAX && !pending; i++)
		pending = device->waits.list[i].state == CUDA_WAIT_PENDING;
	pthread_mutex_unlock(&device->lock);
	return pending;
}

/* All have been released: waits until their streams have got so far. */
void cuda_waits_stop(struct cuda_device *device)
{
	struct cuda_waits *waits = &device->waits;
	bool entered;

	if (!waits->list)
		return;
	entered = cuda_enter(device, device->primary->context) == 0;
	for (size_t i = 0; i < CUDA_WAITS_MAX; i++) {
		if (!waits->list[i].event)
			continue;
		cuda_check_end(device, cuda.cuEventSynchronize(waits->list[i].event),
			       "wait for a stream");
		cuda_check_end(device, cuda.cuEventDestroy(waits->list[i].event),
			       "destroy an event");
	}
	if (waits->keep)
		gds_debug("%s: a page is kept, which a stream may still look at", device->label);
	else
		cuda_check_end(device, cuda.cuMemFreeHost(waits->words), "free host memory");
	if (entered)
		cuda_leave();
	free(waits->list);
	*waits = (struct cuda_waits){ 0 };
}
