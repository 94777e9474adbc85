/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Staging memory and the copies of reads, which do not wait; and blocking copies.
 * All of a device's copies of one context go through one stream, in order.
 */
#include "device.h"

#include "base/error.h"

#include <errno.h>
#include <stdlib.h>

int cuda_staging_attach(struct backend_device *base, void *host, size_t bytes,
			struct backend_staging **result)
{
	struct cuda_device *device = to_cuda_device(base);
	struct cuda_staging *staging = calloc(1, sizeof(*staging));

	if (!staging)
		return gds_fail_errno(ENOMEM, "%s: cannot attach staging memory", device->label);
	staging->base = (struct backend_staging){ .device = base, .host = host, .bytes = bytes };
	staging->pin = cuda_pin_get(device, host, bytes);
	*result = &staging->base;
	return 0;
}

void cuda_staging_detach(struct backend_staging *base)
{
	struct cuda_staging *staging = (struct cuda_staging *)base;
	struct cuda_device *device = to_cuda_device(base->device);

	/* Only copies that failed may be under way. */
	pthread_mutex_lock(&device->lock);
	cuda_settle(device);
	pthread_mutex_unlock(&device->lock);
	cuda_pin_put(staging->pin);
	free(staging);
}

static CUresult put_copy(const struct cuda_queue *queue, const struct backend_copy *copy)
{
	const CUdeviceptr to = to_cuda_memory(copy->memory)->address + copy->offset;
	const struct cuda_memory *source;

	if (copy->staging)
		return cuda.cuMemcpyHtoDAsync(to, (char *)copy->staging->host + copy->source_offset,
					      copy->bytes, queue->stream);
	source = to_cuda_memory(copy->source);
	if (source->queue == queue)
		return cuda.cuMemcpyDtoDAsync(to, source->address + copy->source_offset,
					      copy->bytes, queue->stream);
	return cuda.cuMemcpyPeerAsync(to, queue->context, source->address + copy->source_offset,
				      source->queue->context, copy->bytes, queue->stream);
}

/* Those of the copies that go to memory of the queue, and a ticket if there are any. */
static int put_copies(struct cuda_device *device, struct cuda_queue *queue,
		      const struct backend_copy *copies, size_t count, uint64_t *ticket)
{
	CUresult result = CUDA_SUCCESS;
	size_t mine = 0;

	for (size_t i = 0; i < count && result == CUDA_SUCCESS; i++) {
		if (to_cuda_memory(copies[i].memory)->queue != queue)
			continue;
		mine++;
		result = put_copy(queue, &copies[i]);
	}
	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: cannot copy", device->label);
	return mine ? cuda_queue_mark(device, queue, ticket) : 0;
}

static bool has_copies(const struct cuda_queue *queue, const struct backend_copy *copies,
		       size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (to_cuda_memory(copies[i].memory)->queue == queue)
			return true;
	return false;
}

int cuda_copy(struct backend_device *base, const struct backend_copy *copies, size_t count,
	      uint64_t *ticket)
{
	struct cuda_device *device = to_cuda_device(base);
	int err = 0;

	*ticket = 0;
	pthread_mutex_lock(&device->lock);
	for (struct cuda_queue *queue = device->queues; queue && !err; queue = queue->next) {
		if (!has_copies(queue, copies, count))
			continue;
		err = cuda_enter(device, queue->context);
		if (err)
			break;
		err = put_copies(device, queue, copies, count, ticket);
		cuda_leave();
	}
	/* Some may have been started, whose staging memory is used again after an error. */
	if (err)
		cuda_settle(device);
	pthread_mutex_unlock(&device->lock);
	return err;
}

/* Either way: one of `out` and `in` is set. */
static int copy_now(struct cuda_memory *memory, uint64_t offset, void *out, const void *in,
		    size_t bytes)
{
	const struct cuda_device *device = to_cuda_device(memory->base.device);
	const struct cuda_queue *queue = memory->queue;
	const CUdeviceptr address = memory->address + offset;
	CUresult result;
	int err = cuda_enter(device, queue->context);

	if (err)
		return err;
	if (out)
		result = cuda.cuMemcpyDtoHAsync(out, address, bytes, queue->stream);
	else
		result = cuda.cuMemcpyHtoDAsync(address, in, bytes, queue->stream);
	err = cuda_queue_drain(device, queue);
	cuda_leave();
	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: cannot copy %zu bytes", device->label, bytes);
	return err;
}

int cuda_copy_out(struct backend_memory *memory, uint64_t offset, void *data, size_t bytes)
{
	return copy_now(to_cuda_memory(memory), offset, data, NULL, bytes);
}

int cuda_copy_in(struct backend_memory *memory, uint64_t offset, const void *data, size_t bytes)
{
	return copy_now(to_cuda_memory(memory), offset, NULL, data, bytes);
}
