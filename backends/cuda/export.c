/* SPDX-License-Identifier: Apache-2.0 */
/* Slices as dma-bufs, and what drives wrote to them made visible. */
#include "device.h"

#include "base/bits.h"
#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

/* What of memory has to be exported so that a slice is in it. */
struct range {
	CUdeviceptr start;
	uint64_t bytes;
};

static int check_export(const struct cuda_device *device, const struct cuda_memory *memory)
{
	if (memory->base.host)
		return gds_fail(EOPNOTSUPP,
				"%s: host memory is not exported: the path mapped reads into it",
				device->label);
	if (!cuda.cuMemGetHandleForAddressRange)
		return gds_fail(
			EOPNOTSUPP,
			"%s: its driver exports no dma-bufs: that came with CUDA 11.7 (515)",
			device->label);
	if (!cuda_attribute(device->handle, CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED))
		return gds_fail(EOPNOTSUPP,
				"%s: the driver exports no dma-bufs of it: that needs the open "
				"kernel modules, and a GPU of Turing or newer",
				device->label);
	if (device->needs_flush && !device->can_flush)
		return gds_fail(EOPNOTSUPP,
				"%s: it has no way to make visible what a drive writes to it",
				device->label);
	return 0;
}

static CUresult try_export(const struct range *range, int *fd)
{
	CUresult result;

	*fd = -1;
	/* Through the PCI BAR also where the GPU has another link to the CPU: drives have none. */
	result = cuda.cuMemGetHandleForAddressRange(fd, range->start, range->bytes,
						    CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD,
						    CU_MEM_RANGE_FLAG_DMA_BUF_MAPPING_TYPE_PCIE);
	/* Drivers before CUDA 12.8 know no flags. */
	if (result == CUDA_ERROR_INVALID_VALUE || result == CUDA_ERROR_NOT_SUPPORTED)
		result = cuda.cuMemGetHandleForAddressRange(fd, range->start, range->bytes,
							    CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0);
	return result;
}

/*
 * The driver wants whole pages: the host's, as it is documented, but some want
 * those of the GPU.
 */
static int export_range(const struct cuda_device *device, CUdeviceptr start, uint64_t bytes,
			struct backend_export *exported)
{
	const uint64_t alignments[] = { (uint64_t)sysconf(_SC_PAGESIZE), 64 << 10, 2 << 20 };
	CUresult result = CUDA_ERROR_INVALID_VALUE;
	struct range range;

	for (size_t i = 0; i < sizeof(alignments) / sizeof(alignments[0]); i++) {
		range.start = align_down(start, alignments[i]);
		range.bytes = align_up(start + bytes, alignments[i]) - range.start;
		result = try_export(&range, &exported->fd);
		if (result != CUDA_ERROR_INVALID_VALUE)
			break;
	}
	if (result != CUDA_SUCCESS) {
		cuda_fail(result, "%s: cannot export %" PRIu64 " bytes at 0x%llx as a dma-buf",
			  device->label, bytes, start);
		return -EOPNOTSUPP;
	}
	exported->bytes = range.bytes;
	exported->offset = start - range.start;
	return 0;
}

int cuda_export_slice(struct backend_memory *base, size_t slice, struct backend_export *exported)
{
	struct cuda_memory *memory = to_cuda_memory(base);
	struct cuda_device *device = to_cuda_device(base->device);
	const uint64_t offset = slice * device->slice_bytes;
	const uint64_t bytes = min_u64(device->slice_bytes, base->bytes - offset);
	int err = check_export(device, memory);

	if (err)
		return err;
	err = cuda_enter(device, memory->queue->context);
	if (err)
		return err;
	err = export_range(device, memory->address + offset, bytes, exported);
	cuda_leave();
	return err;
}

/* Work that is submitted after this call sees what was written before it. */
int cuda_acquire(struct backend_memory *base, uint64_t offset, uint64_t bytes)
{
	struct cuda_memory *memory = to_cuda_memory(base);
	struct cuda_device *device = to_cuda_device(base->device);
	CUresult result;
	int err;

	if (!device->needs_flush || !device->can_flush)
		return 0;
	err = cuda_enter(device, memory->queue->context);
	if (err)
		return err;
	result = cuda.cuFlushGPUDirectRDMAWrites(CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX,
						 CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER);
	cuda_leave();
	if (result == CUDA_SUCCESS)
		return 0;
	cuda_fail(result, "%s: cannot flush what a drive wrote", device->label);
	return -EIO;
}
