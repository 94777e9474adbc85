/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC-32 of device memory: a kernel computes the register of each chunk, and zlib
 * puts them together. What does not fill whole quads at both ends is copied out.
 * Where the driver does not take the kernel, all of it is.
 */
#include "device.h"

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

/* As in checksum-ptx.c. */
#define QUAD_BYTES  16
#define CHUNK_QUADS 256
#define CHUNK_BYTES (QUAD_BYTES * CHUNK_QUADS)

/* Of one launch: chunks enough to fill a large GPU. */
#define WINDOW_BYTES  (UINT64_C(256) << 20)
#define WINDOW_CHUNKS (WINDOW_BYTES / CHUNK_BYTES)
#define BLOCK_THREADS 128

#define COPY_BYTES ((size_t)1 << 20)

/* Whole quads of the range, between two ends that are copied out. */
struct parts {
	uint64_t head;
	uint64_t middle;
	uint64_t tail;
};

/* ---- By the CPU ---- */

static int add_copied(struct cuda_memory *memory, uint64_t offset, uint64_t bytes, uint32_t *crc)
{
	size_t room = min_u64(bytes, COPY_BYTES);
	unsigned char *copy;
	int err = 0;

	if (bytes == 0)
		return 0;
	copy = malloc(room);
	if (!copy)
		return gds_fail_errno(ENOMEM, "cannot compute a checksum");
	for (uint64_t at = 0; at < bytes && !err; at += room) {
		room = min_u64(room, bytes - at);
		err = cuda_copy_out(&memory->base, offset + at, copy, room);
		if (!err)
			*crc = (uint32_t)crc32_z(*crc, copy, room);
	}
	free(copy);
	return err;
}

/* ---- By the device ---- */

static int need_registers(struct cuda_device *device)
{
	void *host = NULL;
	CUresult result;

	if (device->registers)
		return 0;
	result = cuda.cuMemHostAlloc(&host, WINDOW_CHUNKS * sizeof(*device->registers),
				     CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: no host memory for checksums", device->label);
	result = cuda.cuMemHostGetDevicePointer(&device->registers_address, host, 0);
	if (result != CUDA_SUCCESS) {
		cuda_check_end(device, cuda.cuMemFreeHost(host), "free host memory");
		return cuda_fail(result, "%s: cannot address host memory", device->label);
	}
	device->registers = host;
	return 0;
}

void cuda_checksum_stop(struct cuda_device *device)
{
	bool entered;

	if (!device->registers)
		return;
	entered = cuda_enter(device, device->primary->context) == 0;
	cuda_check_end(device, cuda.cuMemFreeHost(device->registers), "free host memory");
	if (entered)
		cuda_leave();
	device->registers = NULL;
}

void cuda_checksum_stop_queue(struct cuda_device *device, struct cuda_queue *queue)
{
	struct cuda_checksum *checksum = &queue->checksum;

	if (checksum->module)
		cuda_check_end(device, cuda.cuModuleUnload(checksum->module), "unload a module");
	*checksum = (struct cuda_checksum){ 0 };
}

static CUresult load_kernel(struct cuda_checksum *checksum)
{
	CUresult result = CUDA_SUCCESS;

	if (checksum->function)
		return CUDA_SUCCESS;
	if (!checksum->module)
		result = cuda.cuModuleLoadData(&checksum->module, cuda_checksum_ptx);
	if (result == CUDA_SUCCESS)
		result = cuda.cuModuleGetFunction(&checksum->function, checksum->module,
						  "crc32_registers");
	return result;
}

/* Drivers compile as late as at the first launch. */
static CUresult launch(struct cuda_device *device, struct cuda_queue *queue, CUdeviceptr message,
		       uint32_t quads)
{
	const uint32_t chunks = (quads + CHUNK_QUADS - 1) / CHUNK_QUADS;
	const uint32_t blocks = (chunks + BLOCK_THREADS - 1) / BLOCK_THREADS;
	void *parameters[] = { &message, &device->registers_address, &quads };
	CUresult result = load_kernel(&queue->checksum);

	if (result != CUDA_SUCCESS)
		return result;
	return cuda.cuLaunchKernel(queue->checksum.function, blocks, 1, 1, BLOCK_THREADS, 1, 1, 0,
				   queue->stream, parameters, NULL);
}

/* Lets the register go over the chunks whose registers the kernel has left. */
static void combine(const struct cuda_device *device, uint64_t bytes, uint32_t *crc)
{
	const uLong over_chunk = crc32_combine_gen(CHUNK_BYTES);
	const uint32_t *registers = device->registers;
	uint32_t whole = ~*crc;

	for (; bytes >= CHUNK_BYTES; bytes -= CHUNK_BYTES)
		whole = (uint32_t)crc32_combine_op(whole, *registers++, over_chunk);
	if (bytes)
		whole = (uint32_t)crc32_combine(whole, *registers, (z_off_t)bytes);
	*crc = ~whole;
}

/* In the queue's context. `*by_device` becomes false where the driver refuses the kernel. */
static int add_windows(struct cuda_device *device, struct cuda_memory *memory, uint64_t offset,
		       uint64_t bytes, uint32_t *crc, bool *by_device)
{
	struct cuda_queue *queue = memory->queue;
	uint64_t window;
	CUresult result;
	int err = 0;

	for (uint64_t at = 0; at < bytes && !err; at += window) {
		window = min_u64(bytes - at, WINDOW_BYTES);
		result = launch(device, queue, memory->address + offset + at,
				(uint32_t)(window / QUAD_BYTES));
		if (result != CUDA_SUCCESS) {
			queue->checksum.refused = true;
			gds_warn("%s: checksums are computed by the CPU, from copies, since the "
				 "driver refuses the kernel for it: %s",
				 device->label, cuda_result_name(result));
			*by_device = false;
			return 0;
		}
		err = cuda_queue_drain(device, queue);
		if (!err)
			combine(device, window, crc);
	}
	return err;
}

static int add_by_device(struct cuda_device *device, struct cuda_memory *memory, uint64_t offset,
			 uint64_t bytes, uint32_t *crc, bool *by_device)
{
	int err;

	*by_device = !memory->queue->checksum.refused && bytes > 0;
	if (!*by_device)
		return 0;
	err = cuda_enter(device, memory->queue->context);
	if (err)
		return err;
	err = need_registers(device);
	if (!err)
		err = add_windows(device, memory, offset, bytes, crc, by_device);
	cuda_leave();
	return err;
}

static struct parts cut(const struct cuda_memory *memory, uint64_t offset, uint64_t bytes)
{
	const CUdeviceptr start = memory->address + offset;
	struct parts parts = {
		.head = min_u64(align_up(start, QUAD_BYTES) - start, bytes),
	};

	parts.middle = align_down(bytes - parts.head, QUAD_BYTES);
	parts.tail = bytes - parts.head - parts.middle;
	return parts;
}

static int compute(struct cuda_device *device, struct cuda_memory *memory, uint64_t offset,
		   uint64_t bytes, uint32_t *crc)
{
	const struct parts parts = cut(memory, offset, bytes);
	uint32_t so_far = 0;
	bool by_device;
	int err = add_copied(memory, offset, parts.head, &so_far);

	*crc = so_far;
	if (!err)
		err = add_by_device(device, memory, offset + parts.head, parts.middle, crc,
				    &by_device);
	if (!err && !by_device) {
		*crc = so_far;
		err = add_copied(memory, offset + parts.head, parts.middle, crc);
	}
	if (!err)
		err = add_copied(memory, offset + parts.head + parts.middle, parts.tail, crc);
	return err;
}

int cuda_checksum(struct backend_memory *base, uint64_t offset, uint64_t bytes, uint32_t *crc)
{
	struct cuda_device *device = to_cuda_device(base->device);
	int err;

	pthread_mutex_lock(&device->checksum_lock);
	err = compute(device, to_cuda_memory(base), offset, bytes, crc);
	pthread_mutex_unlock(&device->checksum_lock);
	return err;
}
