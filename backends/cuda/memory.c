/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of a CUDA device: its own, or host pages that it addresses; or a caller's.
 *
 * Host pages are mapped here and registered with the driver, since the kernel can
 * then pin them for the storage like any others. Where a device cannot register
 * memory they come from the driver, and the kernel may refuse them.
 */
#include "device.h"

#include "base/error.h"
#include "base/log.h"
#include "memory/pages.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

void cuda_check_end(const struct cuda_device *device, CUresult result, const char *what)
{
	/* It may be the late error of some earlier work, which has been told of before. */
	if (result != CUDA_SUCCESS)
		gds_debug("%s: the driver answers to: %s, by %s", device->label, what,
			  cuda_result_name(result));
}

static void describe(struct cuda_memory *memory)
{
	struct backend_memory *base = &memory->base;

	if (memory->kind == CUDA_MEMORY_PAGES || memory->kind == CUDA_MEMORY_HOST_ALLOC) {
		base->placement = "host";
		return;
	}
	/* A caller's may be of another allocator, and is proven apart. */
	base->placement = memory->kind == CUDA_MEMORY_IMPORTED ? "imported vram" : "vram";
	if (memory->kind == CUDA_MEMORY_PLAIN)
		base->placement = "plain vram";
	base->no_host_reason = "the memory is the GPU's own, which the CPU cannot address";
	base->no_host_remedy = "allocate with GDS_BUFFER_HOST, or use the path dmabuf";
}

struct cuda_memory *cuda_memory_new(struct cuda_device *device, uint64_t bytes,
				    enum cuda_memory_kind kind)
{
	struct cuda_memory *memory = calloc(1, sizeof(*memory));

	if (!memory) {
		gds_fail_errno(ENOMEM, "%s: cannot make a buffer", device->label);
		return NULL;
	}
	memory->base.device = &device->base;
	memory->base.bytes = bytes;
	memory->base.slice_bytes = device->slice_bytes;
	memory->kind = kind;
	return memory;
}

/* ---- Host memory that the device addresses ---- */

static int register_pages(struct cuda_device *device, struct cuda_memory *memory)
{
	void *pages = memory->base.host;
	CUresult result =
		cuda.cuMemHostRegister(pages, memory->base.bytes,
				       CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP);

	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: cannot register %" PRIu64 " bytes of host memory",
				 device->label, memory->base.bytes);
	result = cuda.cuMemHostGetDevicePointer(&memory->address, pages, 0);
	if (result == CUDA_SUCCESS)
		return 0;
	cuda_fail(result, "%s: cannot address registered host memory", device->label);
	cuda_check_end(device, cuda.cuMemHostUnregister(pages), "unregister host memory");
	return -ENOTSUP;
}

static int alloc_pages(struct cuda_device *device, struct cuda_memory *memory)
{
	int err;

	memory->base.host = pages_map(memory->base.bytes);
	if (!memory->base.host)
		return gds_fail_errno(errno, "%s: cannot map %" PRIu64 " bytes of host memory",
				      device->label, memory->base.bytes);
	err = register_pages(device, memory);
	if (err)
		pages_unmap(memory->base.host, memory->base.bytes);
	return err;
}

static int alloc_by_driver(struct cuda_device *device, struct cuda_memory *memory)
{
	CUresult result = cuda.cuMemHostAlloc(&memory->base.host, memory->base.bytes,
					      CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);

	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: cannot allocate %" PRIu64 " bytes of host memory",
				 device->label, memory->base.bytes);
	result = cuda.cuMemHostGetDevicePointer(&memory->address, memory->base.host, 0);
	if (result == CUDA_SUCCESS)
		return 0;
	cuda_check_end(device, cuda.cuMemFreeHost(memory->base.host), "free host memory");
	return cuda_fail(result, "%s: cannot address host memory", device->label);
}

static int alloc_host(struct cuda_device *device, struct cuda_memory *memory)
{
	int err = -ENOTSUP;

	memory->kind = CUDA_MEMORY_PAGES;
	if (device->host_register) {
		err = alloc_pages(device, memory);
		if (err && err != -ENOMEM)
			gds_info("the driver's host memory is used instead: %s", gds_last_error());
	}
	if (!err || err == -ENOMEM)
		return err;
	memory->kind = CUDA_MEMORY_HOST_ALLOC;
	return alloc_by_driver(device, memory);
}

/* ---- Memory of the device ---- */

static int no_room(const struct cuda_device *device, uint64_t bytes, CUresult result)
{
	size_t left = 0, total = 0;

	if (result != CUDA_ERROR_OUT_OF_MEMORY || cuda.cuMemGetInfo(&left, &total) != CUDA_SUCCESS)
		return cuda_fail(result, "%s: cannot allocate %" PRIu64 " bytes", device->label,
				 bytes);
	return gds_fail(ENOMEM, "%s: no room for %" PRIu64 " bytes: %zu of its %zu are free",
			device->label, bytes, left, total);
}

static int alloc_plain(struct cuda_device *device, struct cuda_memory *memory)
{
	CUresult result = cuda.cuMemAlloc(&memory->address, memory->base.bytes);

	memory->kind = CUDA_MEMORY_PLAIN;
	return result == CUDA_SUCCESS ? 0 : no_room(device, memory->base.bytes, result);
}

static int alloc_device(struct cuda_device *device, struct cuda_memory *memory)
{
	int err = -ENOTSUP;

	if (device->has_vmm) {
		err = cuda_vmm_alloc(device, memory);
		if (err && err != -ENOMEM)
			gds_info("memory is allocated the plain way, then: %s", gds_last_error());
	}
	if (err == -ENOMEM)
		return no_room(device, memory->base.bytes, CUDA_ERROR_OUT_OF_MEMORY);
	return err ? alloc_plain(device, memory) : 0;
}

int cuda_alloc(struct backend_device *base, uint64_t bytes, uint32_t flags,
	       struct backend_memory **result)
{
	struct cuda_device *device = to_cuda_device(base);
	struct cuda_memory *memory = cuda_memory_new(device, bytes, CUDA_MEMORY_MAPPED);
	int err;

	if (!memory)
		return -ENOMEM;
	memory->queue = device->primary;
	err = cuda_enter(device, device->primary->context);
	if (!err) {
		/* What works in the host's memory anyway can have it where drives write. */
		if (device->unified || (flags & GDS_BUFFER_HOST))
			err = alloc_host(device, memory);
		else
			err = alloc_device(device, memory);
		cuda_leave();
	}
	if (err) {
		free(memory);
		return err;
	}
	describe(memory);
	*result = &memory->base;
	return 0;
}

static void end_memory(struct cuda_device *device, struct cuda_memory *memory)
{
	void *host = memory->base.host;

	switch (memory->kind) {
	case CUDA_MEMORY_MAPPED:
		cuda_vmm_free(device, memory);
		break;
	case CUDA_MEMORY_PLAIN:
		cuda_check_end(device, cuda.cuMemFree(memory->address), "free memory");
		break;
	case CUDA_MEMORY_PAGES:
		cuda_check_end(device, cuda.cuMemHostUnregister(host), "unregister host memory");
		pages_unmap(host, memory->base.bytes);
		break;
	case CUDA_MEMORY_HOST_ALLOC:
		cuda_check_end(device, cuda.cuMemFreeHost(host), "free host memory");
		break;
	case CUDA_MEMORY_IMPORTED:
		break;
	}
}

void cuda_free(struct backend_memory *base)
{
	struct cuda_memory *memory = to_cuda_memory(base);
	struct cuda_device *device = to_cuda_device(base->device);
	bool entered = cuda_enter(device, memory->queue->context) == 0;

	/* Copies that failed may be under way; a device that is lost writes no more. */
	cuda_queue_drain(device, memory->queue);
	end_memory(device, memory);
	if (entered)
		cuda_leave();
	if (memory->kind == CUDA_MEMORY_IMPORTED)
		cuda_queue_put(device, memory->queue);
	free(memory);
}

/* ---- A caller's memory ---- */

/* Whether the address is of this device's own memory. */
static int check_place(const struct cuda_device *device, CUdeviceptr address)
{
	unsigned int type = 0, managed = 0;
	int ordinal = -1;
	CUresult result =
		cuda.cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address);

	if (result == CUDA_SUCCESS)
		result = cuda.cuPointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED,
						    address);
	if (result == CUDA_SUCCESS)
		result = cuda.cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
						    address);
	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: 0x%llx is no address of CUDA memory", device->label,
				 address);
	if (managed & 0xff)
		return gds_fail(ENOTSUP,
				"%s: 0x%llx is managed memory, which the driver moves about: use "
				"memory of cudaMalloc",
				device->label, address);
	if (type != CU_MEMORYTYPE_DEVICE)
		return gds_fail(ENOTSUP,
				"%s: 0x%llx is no device memory: open device \"host\" for it, or "
				"allocate here with GDS_BUFFER_HOST",
				device->label, address);
	if (ordinal != device->ordinal)
		return gds_fail(EINVAL, "%s: 0x%llx is memory of cuda:%d", device->label, address,
				ordinal);
	return 0;
}

/* The range may be made of several mappings, but without a gap. */
static int check_range(const struct cuda_device *device, CUdeviceptr address, uint64_t bytes)
{
	const CUdeviceptr end = address + bytes;
	CUdeviceptr base;
	size_t size;
	CUresult result;
	int err;

	if (end < address)
		return gds_fail(EINVAL, "%s: %" PRIu64 " bytes at 0x%llx are beyond any memory",
				device->label, bytes, address);
	for (CUdeviceptr at = address; at < end; at = base + size) {
		err = check_place(device, at);
		if (err)
			return err;
		result = cuda.cuMemGetAddressRange(&base, &size, at);
		if (result != CUDA_SUCCESS)
			return cuda_fail(result, "%s: nothing is allocated at 0x%llx",
					 device->label, at);
		if (base > at || base + size <= at)
			return gds_fail(EINVAL, "%s: the allocation at 0x%llx cannot be found",
					device->label, at);
	}
	return 0;
}

/* What is mapped by the VMM calls belongs to no context: it is used in the primary one. */
static CUcontext context_of(const struct cuda_device *device, CUdeviceptr address)
{
	CUcontext context = NULL;

	if (cuda.cuPointerGetAttribute(&context, CU_POINTER_ATTRIBUTE_CONTEXT, address) !=
		    CUDA_SUCCESS ||
	    !context)
		return device->primary->context;
	return context;
}

static int import(struct cuda_device *device, struct cuda_memory *memory)
{
	CUcontext context = NULL;
	int err = cuda_enter(device, device->primary->context);

	if (err)
		return err;
	err = check_range(device, memory->address, memory->base.bytes);
	if (!err)
		context = context_of(device, memory->address);
	cuda_leave();
	return err ? err : cuda_queue_get(device, context, &memory->queue);
}

int backend_cuda_import(struct backend_device *base, uint64_t address, uint64_t bytes,
			struct backend_memory **result)
{
	struct cuda_device *device = to_cuda_device(base);
	struct cuda_memory *memory;
	int err;

	if (base->ops != &backend_cuda)
		return gds_fail(ENOTSUP, "a %s device does not take CUDA memory", base->ops->name);
	memory = cuda_memory_new(device, bytes, CUDA_MEMORY_IMPORTED);
	if (!memory)
		return -ENOMEM;
	memory->address = address;
	err = import(device, memory);
	if (err) {
		free(memory);
		return err;
	}
	describe(memory);
	*result = &memory->base;
	return 0;
}

int backend_cuda_locate(struct backend_memory *base, uint64_t *address)
{
	if (base->device->ops != &backend_cuda)
		return gds_fail(ENOTSUP, "a buffer of a %s device has no CUDA address",
				base->device->ops->name);
	*address = to_cuda_memory(base)->address;
	return 0;
}
