/* SPDX-License-Identifier: Apache-2.0 */
/* Part of a FAKE libcuda.so.1, see fake-cuda.h: streams, what they do, and events. */
#include "fake.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAP_NS 50000

enum work_kind { WORK_COPY, WORK_LAUNCH, WORK_WAIT, WORK_EVENT };

struct work {
	struct work *next;
	enum work_kind kind;
	unsigned lag;
	void *to;
	const void *from;
	size_t bytes;
	struct fake_launch *launch;
	uint32_t *word;
	uint32_t value;
	CUevent event; /* or NULL where it was destroyed meanwhile */
	unsigned recording;
};

struct CUstream_st {
	struct CUstream_st *next;
	CUcontext context;
	struct work *first;
	struct work **last;
};

struct CUevent_st {
	CUcontext context;
	unsigned recording; /* rises with each */
	unsigned done;      /* the last that was reached */
};

static struct CUstream_st *streams;

/* ---- Doing ---- */

static void end_work(CUstream stream)
{
	struct work *work = stream->first;

	stream->first = work->next;
	if (!stream->first)
		stream->last = &stream->first;
	free(work);
}

static bool do_work(struct work *work)
{
	if (work->lag > 0) {
		work->lag--;
		return false;
	}
	switch (work->kind) {
	case WORK_COPY:
		memmove(work->to, work->from, work->bytes);
		break;
	case WORK_LAUNCH:
		fake_run_launch(work->launch);
		break;
	case WORK_WAIT:
		return (int32_t)(__atomic_load_n(work->word, __ATOMIC_ACQUIRE) - work->value) >= 0;
	case WORK_EVENT:
		if (work->event)
			work->event->done = work->recording;
		break;
	}
	return true;
}

void fake_pump(void)
{
	for (CUstream stream = streams; stream; stream = stream->next)
		while (stream->first && do_work(stream->first))
			end_work(stream);
}

static struct work *put_work(CUstream stream, enum work_kind kind)
{
	struct work *work = calloc(1, sizeof(*work));

	if (!work)
		abort();
	work->kind = kind;
	work->lag = fake_lag();
	*stream->last = work;
	stream->last = &work->next;
	return work;
}

/* The lock is let go of while there is nothing to be done. */
static void nap(void)
{
	const struct timespec time = { .tv_nsec = NAP_NS };

	pthread_mutex_unlock(&fake_lock);
	nanosleep(&time, NULL);
	pthread_mutex_lock(&fake_lock);
}

/* ---- Streams ---- */

static CUstream new_stream(CUcontext context)
{
	CUstream stream = calloc(1, sizeof(*stream));

	if (!stream)
		abort();
	stream->context = context;
	stream->last = &stream->first;
	stream->next = streams;
	streams = stream;
	return stream;
}

/* NULL, and the handles 1 and 2, are the default streams of the current context. */
static bool is_default_stream(CUstream stream)
{
	return (uintptr_t)stream <= 2;
}

static CUresult check_stream(CUstream *stream)
{
	CUcontext current = fake_current();

	if (!current)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (is_default_stream(*stream) && !current->default_stream)
		current->default_stream = new_stream(current);
	if (is_default_stream(*stream))
		*stream = current->default_stream;
	return (*stream)->context == current ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult fake_cuStreamCreateWithPriority(CUstream *result, unsigned int flags, int priority)
{
	FAKE_BEGIN("cuStreamCreateWithPriority");
	if (!fake_current())
		return fake_end(CUDA_ERROR_INVALID_CONTEXT);
	if ((flags & ~CU_STREAM_NON_BLOCKING) || priority > 0 || priority < -5)
		return fake_end(CUDA_ERROR_INVALID_VALUE);
	*result = new_stream(fake_current());
	fake_count(FAKE_STREAMS, 1);
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuStreamDestroy(CUstream stream)
{
	CUresult fault = fake_fault("cuStreamDestroy_v2");
	CUstream *link = &streams;

	pthread_mutex_lock(&fake_lock);
	/* A driver would finish it later. */
	while (stream->first) {
		fake_pump();
		if (stream->first)
			nap();
	}
	while (*link != stream)
		link = &(*link)->next;
	*link = stream->next;
	free(stream);
	fake_count(FAKE_STREAMS, -1);
	return fake_end(fault);
}

CUresult fake_cuStreamSynchronize(CUstream stream)
{
	CUresult fault = fake_fault("cuStreamSynchronize");

	pthread_mutex_lock(&fake_lock);
	if (is_default_stream(stream)) {
		CUresult result = check_stream(&stream);

		if (result != CUDA_SUCCESS)
			return fake_end(result);
	}
	/* What fails is told when it is waited for: it is over in any case. */
	while (stream->first) {
		fake_pump();
		if (stream->first && stream->first->lag == 0)
			nap();
	}
	return fake_end(fault);
}

CUresult fake_cuStreamGetCtx(CUstream stream, CUcontext *context)
{
	FAKE_BEGIN("cuStreamGetCtx");
	if (!stream)
		return fake_end(CUDA_ERROR_INVALID_HANDLE);
	*context = stream->context;
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuStreamWaitValue32(CUstream stream, CUdeviceptr address, cuuint32_t value,
				  unsigned int flags)
{
	CUresult result;
	uint32_t *word;

	FAKE_BEGIN("cuStreamWaitValue32_v2");
	result = check_stream(&stream);
	word = fake_translate(address, sizeof(*word), fake_current());
	if ((flags & CU_STREAM_WAIT_VALUE_FLUSH) &&
	    fake_attribute(CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES) <= 0)
		result = CUDA_ERROR_NOT_SUPPORTED;
	if (result == CUDA_SUCCESS && (!word || (flags & ~CU_STREAM_WAIT_VALUE_FLUSH)))
		result = CUDA_ERROR_INVALID_VALUE;
	if (result == CUDA_SUCCESS) {
		struct work *work = put_work(stream, WORK_WAIT);

		work->word = word;
		work->value = value;
		fake_pump();
	}
	return fake_end(result);
}

/* ---- Copies and launches ---- */

static CUresult put_copy(CUstream stream, void *to, const void *from, size_t bytes)
{
	CUresult result = check_stream(&stream);
	struct work *work;

	if (result == CUDA_SUCCESS && (!to || !from))
		result = CUDA_ERROR_INVALID_VALUE;
	if (result != CUDA_SUCCESS)
		return result;
	work = put_work(stream, WORK_COPY);
	work->to = to;
	work->from = from;
	work->bytes = bytes;
	fake_pump();
	return CUDA_SUCCESS;
}

CUresult fake_cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
	FAKE_BEGIN("cuMemcpyHtoDAsync_v2");
	return fake_end(put_copy(stream, fake_translate(to, bytes, fake_current()), from, bytes));
}

CUresult fake_cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	FAKE_BEGIN("cuMemcpyDtoHAsync_v2");
	return fake_end(put_copy(stream, to, fake_translate(from, bytes, fake_current()), bytes));
}

CUresult fake_cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	FAKE_BEGIN("cuMemcpyDtoDAsync_v2");
	return fake_end(put_copy(stream, fake_translate(to, bytes, fake_current()),
				 fake_translate(from, bytes, fake_current()), bytes));
}

CUresult fake_cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
				CUcontext from_context, size_t bytes, CUstream stream)
{
	FAKE_BEGIN("cuMemcpyPeerAsync");
	return fake_end(put_copy(stream, fake_translate(to, bytes, to_context),
				 fake_translate(from, bytes, from_context), bytes));
}

CUresult fake_put_launch(CUstream stream, struct fake_launch *launch)
{
	CUresult result = check_stream(&stream);

	if (result != CUDA_SUCCESS)
		return result;
	put_work(stream, WORK_LAUNCH)->launch = launch;
	fake_pump();
	return CUDA_SUCCESS;
}

/* ---- Events ---- */

CUresult fake_cuEventCreate(CUevent *result, unsigned int flags)
{
	FAKE_BEGIN("cuEventCreate");
	if (!fake_current())
		return fake_end(CUDA_ERROR_INVALID_CONTEXT);
	if (flags & ~CU_EVENT_DISABLE_TIMING)
		return fake_end(CUDA_ERROR_INVALID_VALUE);
	*result = calloc(1, sizeof(**result));
	if (!*result)
		abort();
	(*result)->context = fake_current();
	fake_count(FAKE_EVENTS, 1);
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuEventDestroy(CUevent event)
{
	CUresult fault = fake_fault("cuEventDestroy_v2");

	pthread_mutex_lock(&fake_lock);
	for (CUstream stream = streams; stream; stream = stream->next)
		for (struct work *work = stream->first; work; work = work->next)
			if (work->event == event)
				work->event = NULL;
	free(event);
	fake_count(FAKE_EVENTS, -1);
	return fake_end(fault);
}

CUresult fake_cuEventRecord(CUevent event, CUstream stream)
{
	CUresult result;

	FAKE_BEGIN("cuEventRecord");
	result = check_stream(&stream);
	if (result == CUDA_SUCCESS && event->context != stream->context)
		result = CUDA_ERROR_INVALID_HANDLE;
	if (result == CUDA_SUCCESS) {
		struct work *work = put_work(stream, WORK_EVENT);

		work->event = event;
		work->recording = ++event->recording;
		fake_pump();
	}
	return fake_end(result);
}

CUresult fake_cuEventQuery(CUevent event)
{
	FAKE_BEGIN("cuEventQuery");
	fake_pump();
	return fake_end(event->done == event->recording ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY);
}

CUresult fake_cuEventSynchronize(CUevent event)
{
	CUresult fault = fake_fault("cuEventSynchronize");

	pthread_mutex_lock(&fake_lock);
	while (event->done != event->recording) {
		fake_pump();
		if (event->done != event->recording)
			nap();
	}
	return fake_end(fault);
}
