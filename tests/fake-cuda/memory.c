/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Part of a FAKE libcuda.so.1, see fake-cuda.h: memory. Whatever a device can address
 * is in one list of ranges; memory of devices lies in memfds, of which udmabuf makes
 * dma-bufs that drives can write to. Where there is no udmabuf, a memfd's descriptor
 * stands for a dma-buf.
 */
#include "fake.h"

#include <fcntl.h>
#include <linux/udmabuf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Plain allocations begin in mid-page, as small ones of drivers do. */
#define PLAIN_SHIFT   512
#define PLAIN_GRANULE ((size_t)2 << 20)

#define EXPORTS_MAX 64

/* A memfd, and how many mappings and handles it has. */
struct backing {
	int fd;
	size_t bytes;
	unsigned references;
};

enum range_kind {
	RANGE_PLAIN,
	RANGE_ADDRESSES, /* reserved, of which others map a part */
	RANGE_MAPPED,
	RANGE_HOST,
	RANGE_REGISTERED,
};

struct range {
	struct range *next;
	enum range_kind kind;
	CUdeviceptr start; /* as the device sees it */
	size_t bytes;
	char *host;        /* as the CPU sees it */
	CUcontext context; /* NULL: of none */
	int ordinal;       /* -1: of the host */
	bool accessible;
	struct backing *backing;
};

/* What was exported by which descriptor, the last one first. */
struct export
{
	int fd;
	char *host; /* as the CPU sees it */
	size_t bytes;
};

static struct range *ranges; /* fake_lock */
static struct export exports[EXPORTS_MAX];
static unsigned export_next;
static unsigned flagged_exports;
static CUmemAllocationProp last_properties;

/* ---- Ranges ---- */

static struct range *add_range(enum range_kind kind, CUdeviceptr start, size_t bytes, char *host)
{
	struct range *range = calloc(1, sizeof(*range));

	if (!range)
		abort();
	range->kind = kind;
	range->start = start;
	range->bytes = bytes;
	range->host = host;
	range->ordinal = -1;
	range->next = ranges;
	ranges = range;
	return range;
}

static void remove_range(struct range *range)
{
	struct range **link = &ranges;

	while (*link != range)
		link = &(*link)->next;
	*link = range->next;
	free(range);
}

/* The memory at an address, and not what is only reserved. */
static struct range *find_range(CUdeviceptr address)
{
	for (struct range *range = ranges; range; range = range->next)
		if (range->kind != RANGE_ADDRESSES && address >= range->start &&
		    address - range->start < range->bytes)
			return range;
	return NULL;
}

static struct range *find_start(enum range_kind kind, CUdeviceptr start)
{
	for (struct range *range = ranges; range; range = range->next)
		if (range->kind == kind && range->start == start)
			return range;
	return NULL;
}

static bool may_touch(const struct range *range, CUcontext context)
{
	if (range->kind == RANGE_MAPPED)
		return range->accessible && context && context->ordinal == range->ordinal;
	return !range->context || range->context == context;
}

static void *translate(CUdeviceptr address, size_t bytes, CUcontext context, bool any)
{
	struct range *first = find_range(address);
	struct range *range = first;
	CUdeviceptr at = address;

	while (range && (any || may_touch(range, context))) {
		if (range->start + range->bytes - address >= bytes)
			return first->host + (address - first->start);
		at = range->start + range->bytes;
		range = find_range(at);
	}
	return NULL;
}

void *fake_translate(CUdeviceptr address, size_t bytes, CUcontext context)
{
	return translate(address, bytes, context, false);
}

void *fake_translate_any(CUdeviceptr address, size_t bytes)
{
	return translate(address, bytes, NULL, true);
}

/* ---- Backings ---- */

static struct backing *new_backing(size_t bytes)
{
	struct backing *backing = calloc(1, sizeof(*backing));

	if (!backing)
		abort();
	backing->bytes = bytes;
	backing->references = 1;
	backing->fd = memfd_create("fake-cuda", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (backing->fd < 0 || ftruncate(backing->fd, (off_t)bytes) ||
	    fcntl(backing->fd, F_ADD_SEALS, F_SEAL_SHRINK)) /* as udmabuf wants it */
		abort();
	return backing;
}

static void put_backing(struct backing *backing)
{
	if (--backing->references)
		return;
	close(backing->fd);
	free(backing);
}

static char *map(void *where, size_t bytes, const struct backing *backing)
{
	void *mapping = mmap(where, bytes, backing ? PROT_READ | PROT_WRITE : PROT_NONE,
			     (backing ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE) |
				     (where ? MAP_FIXED : 0),
			     backing ? backing->fd : -1, 0);

	if (mapping == MAP_FAILED)
		abort();
	return mapping;
}

static CUdeviceptr bias(const void *host, uint64_t by)
{
	return (CUdeviceptr)(uintptr_t)host | by;
}

/* ---- Plain memory ---- */

static CUresult check_room(size_t bytes)
{
	if (bytes == 0)
		return CUDA_ERROR_INVALID_VALUE;
	return bytes > (size_t)16 << 30 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

CUresult fake_cuMemGetInfo(size_t *left, size_t *total)
{
	FAKE_BEGIN("cuMemGetInfo_v2");
	if (!fake_current())
		return fake_end(CUDA_ERROR_INVALID_CONTEXT);
	*left = (size_t)15 << 30;
	*total = (size_t)16 << 30;
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuMemAlloc(CUdeviceptr *address, size_t bytes)
{
	size_t whole = (bytes + PLAIN_SHIFT + PLAIN_GRANULE - 1) / PLAIN_GRANULE * PLAIN_GRANULE;
	struct backing *backing;
	struct range *range;
	char *host;

	FAKE_BEGIN("cuMemAlloc_v2");
	if (!fake_current())
		return fake_end(CUDA_ERROR_INVALID_CONTEXT);
	if (check_room(bytes) != CUDA_SUCCESS)
		return fake_end(check_room(bytes));
	backing = new_backing(whole);
	host = map(NULL, whole, backing) + PLAIN_SHIFT;
	range = add_range(RANGE_PLAIN, bias(host, DEVICE_BIAS), bytes, host);
	range->context = fake_current();
	range->ordinal = fake_current()->ordinal;
	range->backing = backing;
	fake_count(FAKE_MEMORY, 1);
	*address = range->start;
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuMemFree(CUdeviceptr address)
{
	CUresult fault = fake_fault("cuMemFree_v2");
	struct range *range;

	pthread_mutex_lock(&fake_lock);
	range = find_start(RANGE_PLAIN, address);
	if (!range)
		return fake_end(CUDA_ERROR_INVALID_VALUE);
	munmap(range->host - PLAIN_SHIFT, range->backing->bytes);
	put_backing(range->backing);
	remove_range(range);
	fake_count(FAKE_MEMORY, -1);
	return fake_end(fault);
}

CUresult fake_cuMemGetAddressRange(CUdeviceptr *base, size_t *bytes, CUdeviceptr address)
{
	struct range *range;

	FAKE_BEGIN("cuMemGetAddressRange_v2");
	range = find_range(address);
	if (!range)
		return fake_end(CUDA_ERROR_NOT_FOUND);
	*base = range->start;
	*bytes = range->bytes;
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr address)
{
	struct range *range;

	FAKE_BEGIN("cuPointerGetAttribute");
	range = find_range(address);
	if (!range)
		return fake_end(CUDA_ERROR_INVALID_VALUE);
	switch (attribute) {
	case CU_POINTER_ATTRIBUTE_CONTEXT:
		*(CUcontext *)data = range->context;
		break;
	case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
		*(unsigned *)data = range->ordinal < 0 ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
		break;
	case CU_POINTER_ATTRIBUTE_IS_MANAGED:
		*(unsigned char *)data = 0;
		break;
	case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
		*(int *)data = range->ordinal;
		break;
	default:
		return fake_end(CUDA_ERROR_INVALID_VALUE);
	}
	return fake_end(CUDA_SUCCESS);
}

/* ---- Host memory ---- */

CUresult fake_cuMemHostAlloc(void **host, size_t bytes, unsigned int flags)
{
	FAKE_BEGIN("cuMemHostAlloc");
	if (!fake_current())
		return fake_end(CUDA_ERROR_INVALID_CONTEXT);
	if (check_room(bytes) != CUDA_SUCCESS)
		return fake_end(check_room(bytes));
	*host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (*host == MAP_FAILED)
		abort();
	memset(*host, 0x5a, bytes < 4096 ? bytes : 4096); /* nothing promises zeros */
	madvise(*host, bytes, MADV_DONTFORK);
	add_range(RANGE_HOST, bias(*host, REGISTERED_BIAS), bytes, *host);
	fake_count(FAKE_HOST_MEMORY, 1);
	return fake_end(CUDA_SUCCESS);
}

static struct range *find_host(enum range_kind kind, const void *host)
{
	for (struct range *range = ranges; range; range = range->next)
		if (range->kind == kind && range->host == host)
			return range;
	return NULL;
}

CUresult fake_cuMemFreeHost(void *host)
{
	CUresult fault = fake_fault("cuMemFreeHost");
	struct range *range;

	pthread_mutex_lock(&fake_lock);
	range = find_host(RANGE_HOST, host);
	if (!range)
		return fake_end(CUDA_ERROR_INVALID_VALUE);
	munmap(host, range->bytes);
	remove_range(range);
	fake_count(FAKE_HOST_MEMORY, -1);
	return fake_end(fault);
}

CUresult fake_cuMemHostRegister(void *host, size_t bytes, unsigned int flags)
{
	const char *start = host;

	FAKE_BEGIN("cuMemHostRegister_v2");
	if (!fake_current())
		return fake_end(CUDA_ERROR_INVALID_CONTEXT);
	for (struct range *range = ranges; range; range = range->next)
		if (range->kind == RANGE_REGISTERED && start < range->host + range->bytes &&
		    range->host < start + bytes)
			return fake_end(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
	add_range(RANGE_REGISTERED, bias(host, REGISTERED_BIAS), bytes, host);
	fake_count(FAKE_REGISTRATIONS, 1);
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuMemHostUnregister(void *host)
{
	CUresult fault = fake_fault("cuMemHostUnregister");
	struct range *range;

	pthread_mutex_lock(&fake_lock);
	range = find_host(RANGE_REGISTERED, host);
	if (!range)
		return fake_end(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	remove_range(range);
	fake_count(FAKE_REGISTRATIONS, -1);
	return fake_end(fault);
}

CUresult fake_cuMemHostGetDevicePointer(CUdeviceptr *address, void *host, unsigned int flags)
{
	FAKE_BEGIN("cuMemHostGetDevicePointer_v2");
	*address = bias(host, REGISTERED_BIAS);
	return fake_end(find_range(*address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

/* ---- Virtual memory ---- */

static CUresult check_properties(const CUmemAllocationProp *properties)
{
	if (properties->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
	    properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
	    properties->location.id >= fake_device_count())
		return CUDA_ERROR_INVALID_VALUE;
	if (properties->requestedHandleTypes != CU_MEM_HANDLE_TYPE_NONE &&
	    fake_attribute(CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED) <= 0)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (properties->allocFlags.gpuDirectRDMACapable &&
	    fake_attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED) <= 0)
		return CUDA_ERROR_NOT_SUPPORTED;
	return CUDA_SUCCESS;
}

CUresult fake_cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *properties,
					    CUmemAllocationGranularity_flags option)
{
	FAKE_BEGIN("cuMemGetAllocationGranularity");
	*bytes = FAKE_GRANULARITY;
	return fake_end(check_properties(properties));
}

CUresult fake_cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t alignment,
				  CUdeviceptr wanted, unsigned long long flags)
{
	char *mapping;
	char *host;

	FAKE_BEGIN("cuMemAddressReserve");
	if (!bytes || bytes % FAKE_GRANULARITY || flags)
		return fake_end(CUDA_ERROR_INVALID_VALUE);
	if (bytes > (size_t)1 << 40)
		return fake_end(CUDA_ERROR_OUT_OF_MEMORY);
	/* Granules of the device are aligned for the device. */
	mapping = map(NULL, bytes + FAKE_GRANULARITY, NULL);
	host = (char *)(((uintptr_t)mapping + FAKE_GRANULARITY - 1) & ~(FAKE_GRANULARITY - 1));
	if (host > mapping)
		munmap(mapping, (size_t)(host - mapping));
	munmap(host + bytes, FAKE_GRANULARITY - (size_t)(host - mapping));
	add_range(RANGE_ADDRESSES, bias(host, DEVICE_BIAS), bytes, host);
	fake_count(FAKE_ADDRESSES, 1);
	*address = bias(host, DEVICE_BIAS);
	return fake_end(CUDA_SUCCESS);
}

/* A mapping within the range, or NULL. */
static struct range *find_mapping(CUdeviceptr address, size_t bytes)
{
	for (struct range *range = ranges; range; range = range->next)
		if (range->kind == RANGE_MAPPED && range->start < address + bytes &&
		    address < range->start + range->bytes)
			return range;
	return NULL;
}

CUresult fake_cuMemAddressFree(CUdeviceptr address, size_t bytes)
{
	CUresult fault = fake_fault("cuMemAddressFree");
	struct range *range;

	pthread_mutex_lock(&fake_lock);
	range = find_start(RANGE_ADDRESSES, address);
	if (!range || range->bytes != bytes || find_mapping(address, bytes))
		return fake_end(CUDA_ERROR_INVALID_VALUE);
	munmap(range->host, bytes);
	remove_range(range);
	fake_count(FAKE_ADDRESSES, -1);
	return fake_end(fault);
}

CUresult fake_cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes,
			  const CUmemAllocationProp *properties, unsigned long long flags)
{
	CUresult result;

	FAKE_BEGIN("cuMemCreate");
	result = check_properties(properties);
	if (result == CUDA_SUCCESS)
		result = check_room(bytes);
	if (result == CUDA_SUCCESS && (bytes % FAKE_GRANULARITY || flags))
		result = CUDA_ERROR_INVALID_VALUE;
	if (result == CUDA_SUCCESS) {
		last_properties = *properties;
		*handle = (CUmemGenericAllocationHandle)(uintptr_t)new_backing(bytes);
		fake_count(FAKE_HANDLES, 1);
	}
	return fake_end(result);
}

CUresult fake_cuMemRelease(CUmemGenericAllocationHandle handle)
{
	CUresult fault = fake_fault("cuMemRelease");

	pthread_mutex_lock(&fake_lock);
	put_backing((struct backing *)(uintptr_t)handle);
	fake_count(FAKE_HANDLES, -1);
	return fake_end(fault);
}

CUresult fake_cuMemMap(CUdeviceptr address, size_t bytes, size_t offset,
		       CUmemGenericAllocationHandle handle, unsigned long long flags)
{
	struct backing *backing = (struct backing *)(uintptr_t)handle;
	char *host = (char *)(uintptr_t)(address & ~DEVICE_BIAS);
	struct range *range;

	FAKE_BEGIN("cuMemMap");
	if (offset || flags || bytes != backing->bytes || find_mapping(address, bytes))
		return fake_end(CUDA_ERROR_INVALID_VALUE);
	range = add_range(RANGE_MAPPED, address, bytes, map(host, bytes, backing));
	range->ordinal = last_properties.location.id;
	range->backing = backing;
	backing->references++;
	fake_count(FAKE_MAPPINGS, 1);
	return fake_end(CUDA_SUCCESS);
}

/* Only of whole mappings. */
CUresult fake_cuMemUnmap(CUdeviceptr address, size_t bytes)
{
	CUresult fault = fake_fault("cuMemUnmap");
	struct range *range;

	pthread_mutex_lock(&fake_lock);
	while ((range = find_mapping(address, bytes)) != NULL) {
		if (range->start < address || range->start + range->bytes > address + bytes)
			return fake_end(CUDA_ERROR_INVALID_VALUE);
		map(range->host, range->bytes, NULL);
		put_backing(range->backing);
		remove_range(range);
		fake_count(FAKE_MAPPINGS, -1);
	}
	return fake_end(fault);
}

CUresult fake_cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *access,
			     size_t count)
{
	struct range *range;

	FAKE_BEGIN("cuMemSetAccess");
	if (count != 1 || access->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE ||
	    !translate(address, bytes, NULL, true))
		return fake_end(CUDA_ERROR_INVALID_VALUE);
	for (CUdeviceptr at = address; at < address + bytes; at = range->start + range->bytes) {
		range = find_range(at);
		range->accessible = access->location.id == range->ordinal;
	}
	return fake_end(CUDA_SUCCESS);
}

/* ---- Exports ---- */

static int make_dma_buf(const struct backing *backing, size_t offset, size_t bytes)
{
	struct udmabuf_create create = {
		.memfd = (uint32_t)backing->fd,
		.flags = UDMABUF_FLAGS_CLOEXEC,
		.offset = offset,
		.size = bytes,
	};
	int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	int fd;

	if (device < 0)
		return fcntl(backing->fd, F_DUPFD_CLOEXEC, 0);
	fd = ioctl(device, UDMABUF_CREATE, &create);
	close(device);
	return fd;
}

CUresult fake_cuMemGetHandleForAddressRange(void *handle, CUdeviceptr address, size_t bytes,
					    CUmemRangeHandleType type, unsigned long long flags)
{
	struct range *range;
	CUdeviceptr start;
	int fd;

	FAKE_BEGIN("cuMemGetHandleForAddressRange");
	/* The first page of a plain allocation begins before it. */
	range = find_range(address);
	if (!range)
		range = find_range(address + PLAIN_SHIFT);
	if (!range || !range->backing || type != CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD ||
	    (flags & ~CU_MEM_RANGE_FLAG_DMA_BUF_MAPPING_TYPE_PCIE) ||
	    (flags && !fake_export_knows_flags()) || address % fake_export_page() ||
	    bytes % fake_export_page())
		return fake_end(CUDA_ERROR_INVALID_VALUE);
	start = range->kind == RANGE_PLAIN ? range->start - PLAIN_SHIFT : range->start;
	if (address < start || address + bytes > start + range->backing->bytes)
		return fake_end(CUDA_ERROR_INVALID_VALUE);
	fd = make_dma_buf(range->backing, address - start, bytes);
	if (fd < 0)
		return fake_end(CUDA_ERROR_UNKNOWN);
	exports[export_next++ % EXPORTS_MAX] =
		(struct export){ fd, (char *)(uintptr_t)(address & ~DEVICE_BIAS), bytes };
	flagged_exports += flags != 0;
	*(int *)handle = fd;
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuFlushGPUDirectRDMAWrites(CUflushGPUDirectRDMAWritesTarget target,
					 CUflushGPUDirectRDMAWritesScope scope)
{
	FAKE_BEGIN("cuFlushGPUDirectRDMAWrites");
	if (!fake_current())
		return fake_end(CUDA_ERROR_INVALID_CONTEXT);
	if (target != CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX ||
	    scope != CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER)
		return fake_end(CUDA_ERROR_INVALID_VALUE);
	return fake_end(CUDA_SUCCESS);
}

bool fake_cuda_drive_writes(int fd, size_t offset, const void *data, size_t bytes)
{
	const struct export *found = NULL;
	bool fits;

	pthread_mutex_lock(&fake_lock);
	for (unsigned i = 1; i <= EXPORTS_MAX && i <= export_next && !found; i++)
		if (exports[(export_next - i) % EXPORTS_MAX].fd == fd)
			found = &exports[(export_next - i) % EXPORTS_MAX];
	fits = found && offset <= found->bytes && bytes <= found->bytes - offset;
	if (fits)
		memcpy(found->host + offset, data, bytes);
	pthread_mutex_unlock(&fake_lock);
	return fits;
}

unsigned fake_cuda_flagged_exports(void)
{
	unsigned count;

	pthread_mutex_lock(&fake_lock);
	count = flagged_exports;
	pthread_mutex_unlock(&fake_lock);
	return count;
}

CUmemAllocationProp fake_cuda_last_properties(void)
{
	return last_properties;
}
