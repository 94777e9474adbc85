/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device memory from the driver's calls for virtual memory: one range of addresses,
 * and behind it an allocation for each slice, so that each slice is exported on its
 * own. The driver is asked for memory that other devices may write to and that other
 * processes and APIs may import, and for less where it refuses that.
 */
#include "device.h"

#include "base/bits.h"
#include "base/error.h"

#include <errno.h>
#include <inttypes.h>

static CUmemAllocationProp make_properties(const struct cuda_device *device, bool rdma, bool fd)
{
	CUmemAllocationProp properties = {
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.requestedHandleTypes =
			fd ? CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR : CU_MEM_HANDLE_TYPE_NONE,
		.location = { CU_MEM_LOCATION_TYPE_DEVICE, device->ordinal },
		.allocFlags.gpuDirectRDMACapable = rdma,
	};

	return properties;
}

static int map_slice(struct cuda_device *device, struct cuda_memory *memory,
		     const CUmemAllocationProp *properties, uint64_t bytes)
{
	const CUdeviceptr address = memory->address + memory->mapped_bytes;
	CUmemGenericAllocationHandle handle;
	CUresult result = cuda.cuMemCreate(&handle, bytes, properties, 0);

	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: cannot create %" PRIu64 " bytes of mappable memory",
				 device->label, bytes);
	result = cuda.cuMemMap(address, bytes, 0, handle, 0);
	/* A mapping keeps what it maps. */
	cuda_check_end(device, cuda.cuMemRelease(handle), "release a handle of mapped memory");
	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: cannot map %" PRIu64 " bytes", device->label, bytes);
	memory->mapped_bytes += bytes;
	return 0;
}

static int map_slices(struct cuda_device *device, struct cuda_memory *memory,
		      const CUmemAllocationProp *properties, uint64_t bytes)
{
	const CUmemAccessDesc access = {
		.location = properties->location,
		.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
	};
	CUresult result;
	int err = 0;

	while (memory->mapped_bytes < bytes && !err)
		err = map_slice(device, memory, properties,
				min_u64(device->slice_bytes, bytes - memory->mapped_bytes));
	if (err)
		return err;
	result = cuda.cuMemSetAccess(memory->address, bytes, &access, 1);
	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: cannot make memory accessible", device->label);
	return 0;
}

static int alloc_with(struct cuda_device *device, struct cuda_memory *memory,
		      const CUmemAllocationProp *properties)
{
	size_t granularity = 0;
	uint64_t bytes;
	CUresult result = cuda.cuMemGetAllocationGranularity(&granularity, properties,
							     CU_MEM_ALLOC_GRANULARITY_MINIMUM);
	int err;

	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: it does not tell the granularity of its memory",
				 device->label);
	if (granularity == 0 || (granularity & (granularity - 1)) ||
	    !is_aligned(device->slice_bytes, granularity))
		return gds_fail(ENOTSUP, "%s: slices are no multiple of %zu bytes", device->label,
				granularity);
	if (memory->base.bytes > UINT64_MAX - granularity)
		return gds_fail(ENOMEM, "%s: no room", device->label);
	bytes = align_up(memory->base.bytes, granularity);
	result = cuda.cuMemAddressReserve(&memory->address, bytes, 0, 0, 0);
	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: cannot reserve %" PRIu64 " bytes of addresses",
				 device->label, bytes);
	err = map_slices(device, memory, properties, bytes);
	if (err) {
		if (memory->mapped_bytes)
			cuda_check_end(device,
				       cuda.cuMemUnmap(memory->address, memory->mapped_bytes),
				       "unmap memory");
		memory->mapped_bytes = 0;
		cuda_check_end(device, cuda.cuMemAddressFree(memory->address, bytes),
			       "free addresses");
	}
	return err;
}

int cuda_vmm_alloc(struct cuda_device *device, struct cuda_memory *memory)
{
	const bool can_rdma = cuda_attribute(
		device->handle, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED);
	const bool can_fd = cuda_attribute(
		device->handle, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED);
	const struct {
		bool rdma;
		bool fd;
	} wishes[] = { { can_rdma, can_fd }, { can_rdma, false }, { false, false } };
	CUmemAllocationProp properties;
	int err = -ENOTSUP;

	memory->kind = CUDA_MEMORY_MAPPED;
	for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++) {
		if (i > 0 && wishes[i].rdma == wishes[i - 1].rdma &&
		    wishes[i].fd == wishes[i - 1].fd)
			continue;
		properties = make_properties(device, wishes[i].rdma, wishes[i].fd);
		err = alloc_with(device, memory, &properties);
		if (!err || err == -ENOMEM)
			break;
	}
	return err;
}

void cuda_vmm_free(struct cuda_device *device, struct cuda_memory *memory)
{
	const uint64_t bytes = memory->mapped_bytes;

	cuda_check_end(device, cuda.cuMemUnmap(memory->address, bytes), "unmap memory");
	cuda_check_end(device, cuda.cuMemAddressFree(memory->address, bytes), "free addresses");
}
