/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mapping is one reserved range of addresses, over which the slices are mapped
 * one after the other: callers, and the core, see contiguous memory.
 */
#include "dmabuf/memory.h"

#include "base/bits.h"
#include "base/error.h"
#include "dmabuf/move.h"
#include "dmabuf/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/dma-buf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

/* Where the kernel can map large pages, it needs addresses that are aligned alike. */
#define MAP_ALIGNMENT (UINT64_C(2) << 20)

struct dmabuf_memory {
	struct backend_memory base;
	uint64_t mapped_bytes; /* of all slices together */
	size_t slice_count;    /* made so far */
	struct dmabuf_slice slices[];
};

static struct dmabuf_memory *dmabuf_memory(struct backend_memory *memory)
{
	return (struct dmabuf_memory *)memory;
}

static struct dmabuf_device *dmabuf_device(struct backend_device *device)
{
	return (struct dmabuf_device *)device;
}

static unsigned char *at(const struct backend_memory *memory, uint64_t offset)
{
	return (unsigned char *)memory->host + offset;
}

void dmabuf_device_init(struct dmabuf_device *device, const struct backend_ops *ops,
			const char *name)
{
	device->base.ops = ops;
	gds_text_set(device->name, sizeof(device->name), "%s", name);
	device->slice_bytes = SLICE_BYTES;
	device->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	device->placement = "host";
}

/* ---- Allocation --------------------------------------------------------------- */

/* Addresses that nothing else will be mapped at, aligned. NULL with errno set. */
static void *reserve(uint64_t bytes, uint64_t alignment)
{
	uintptr_t from, start;
	void *range = mmap(NULL, bytes + alignment, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (range == MAP_FAILED)
		return NULL;
	from = (uintptr_t)range;
	start = align_up(from, alignment);
	if (start > from)
		munmap(range, start - from);
	/* Not empty: an aligned start is less than `alignment` away. */
	munmap((void *)(start + bytes), from + alignment - start);
	return (void *)start;
}

static int map_slice(struct dmabuf_device *device, const struct dmabuf_slice *slice, void *address)
{
	void *mapping = mmap(address, slice->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			     slice->map_fd, (off_t)slice->map_offset);

	if (mapping == MAP_FAILED)
		return gds_fail_errno(errno, "device %s: cannot map %" PRIu64 " bytes of it",
				      device->name, slice->bytes);
	return 0;
}

/*
 * Some exporters make ready for the CPU at the first bracket, and refuse the end of
 * one before: publish() only ends.
 */
static int prepare_slice(struct dmabuf_device *device, const struct dmabuf_slice *slice)
{
	int err = slice->fd < 0 ? 0 : dmabuf_sync(slice->fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW);

	if (err)
		return gds_fail_errno(-err, "device %s: the CPU may not use its dma-buf",
				      device->name);
	return 0;
}

static void release_slice(struct dmabuf_device *device, struct dmabuf_slice *slice)
{
	if (slice->fd >= 0)
		close(slice->fd);
	if (device->release)
		device->release(device, slice);
}

static int make_slice(struct dmabuf_device *device, uint32_t flags, struct dmabuf_slice *slice,
		      void *address)
{
	int err;

	slice->fd = -1;
	slice->map_fd = -1;
	slice->placement = device->placement;
	err = device->make(device, flags, slice);
	if (err)
		return err;
	err = map_slice(device, slice, address);
	if (!err)
		err = prepare_slice(device, slice);
	if (err)
		release_slice(device, slice);
	return err;
}

static int make_slices(struct dmabuf_device *device, uint32_t flags, struct dmabuf_memory *memory)
{
	const uint64_t slice_bytes = memory->base.slice_bytes;

	for (uint64_t offset = 0; offset < memory->mapped_bytes; offset += slice_bytes) {
		struct dmabuf_slice *slice = &memory->slices[memory->slice_count];
		int err;

		slice->bytes = min_u64(slice_bytes, memory->mapped_bytes - offset);
		err = make_slice(device, flags, slice, at(&memory->base, offset));
		if (err)
			return err;
		memory->slice_count++;
	}
	return 0;
}

static int admit(struct dmabuf_device *device, const struct dmabuf_memory *memory)
{
	return device->admit ? device->admit(device, memory->mapped_bytes) : 0;
}

/* A limit below a page makes nothing work; the backend's admit() has said so. */
static uint64_t slice_bytes_of(struct dmabuf_device *device)
{
	uint64_t slice_bytes = device->slice_bytes;

	if (device->limit)
		slice_bytes = min_u64(slice_bytes, device->limit(device));
	return max_u64(slice_bytes, device->page_bytes);
}

/* Addresses come first: what they suffice for needs but a small list. */
static struct dmabuf_memory *new_memory(struct dmabuf_device *device, uint64_t bytes)
{
	struct dmabuf_memory *memory;
	uint64_t mapped_bytes = align_up(bytes, device->page_bytes);
	uint64_t slice_bytes = slice_bytes_of(device);
	uint64_t slices = (mapped_bytes - 1) / slice_bytes + 1;
	void *host;

	if (bytes > SIZE_MAX / 4)
		return NULL;
	host = reserve(mapped_bytes, max_u64(MAP_ALIGNMENT, device->page_bytes));
	if (!host)
		return NULL;
	memory = calloc(1, sizeof(*memory) + slices * sizeof(memory->slices[0]));
	if (!memory) {
		munmap(host, mapped_bytes);
		return NULL;
	}
	memory->base.device = &device->base;
	memory->base.bytes = bytes;
	memory->base.slice_bytes = slice_bytes;
	memory->base.host = host;
	memory->base.needs_publish = true;
	memory->mapped_bytes = mapped_bytes;
	return memory;
}

int dmabuf_memory_alloc(struct backend_device *device, uint64_t bytes, uint32_t flags,
			struct backend_memory **memory)
{
	struct dmabuf_memory *new = new_memory(dmabuf_device(device), bytes);
	int err;

	if (!new)
		return gds_fail(ENOMEM, "device %s: no addresses for a buffer of %" PRIu64 " bytes",
				dmabuf_device(device)->name, bytes);
	err = admit(dmabuf_device(device), new);
	if (!err)
		err = make_slices(dmabuf_device(device), flags, new);
	if (err) {
		dmabuf_memory_free(&new->base);
		return err;
	}
	new->base.placement = new->slices[0].placement;
	*memory = &new->base;
	return 0;
}

void dmabuf_memory_free(struct backend_memory *memory)
{
	struct dmabuf_memory *freed = dmabuf_memory(memory);

	munmap(memory->host, freed->mapped_bytes);
	for (size_t i = 0; i < freed->slice_count; i++)
		release_slice(dmabuf_device(memory->device), &freed->slices[i]);
	free(freed);
}

/* Drivers round sizes up; a dma-buf that is too small would be written beyond. */
static int export_bytes(struct dmabuf_device *device, const struct dmabuf_slice *slice,
			uint64_t *bytes)
{
	off_t size = lseek(slice->fd, 0, SEEK_END);

	if (size < 0)
		return gds_fail_errno(errno, "device %s: asking for a dma-buf's size",
				      device->name);
	*bytes = (uint64_t)size;
	if (*bytes < slice->bytes)
		return gds_fail(EIO,
				"device %s: its driver made a dma-buf of %" PRIu64
				" bytes where %" PRIu64 " were asked for",
				device->name, *bytes, slice->bytes);
	return 0;
}

int dmabuf_memory_export_slice(struct backend_memory *memory, size_t slice,
			       struct backend_export *exported)
{
	struct dmabuf_device *device = dmabuf_device(memory->device);
	struct dmabuf_memory *owner = dmabuf_memory(memory);
	uint64_t bytes = 0;
	int fd, err;

	if (slice >= owner->slice_count)
		return gds_fail(EINVAL, "device %s: no slice %zu in a buffer of %zu", device->name,
				slice, owner->slice_count);
	if (owner->slices[slice].fd < 0)
		return gds_fail(EOPNOTSUPP, "device %s: %s", device->name,
				device->no_export_reason);
	err = export_bytes(device, &owner->slices[slice], &bytes);
	if (err)
		return err;
	fd = fcntl(owner->slices[slice].fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return gds_fail_errno(errno, "device %s: cannot duplicate a dma-buf", device->name);
	*exported = (struct backend_export){ .fd = fd, .bytes = bytes };
	return 0;
}

/* ---- Access by the CPU -------------------------------------------------------- */

static int sync_slices(struct dmabuf_memory *memory, size_t first, size_t end, uint64_t flags)
{
	int result = 0;

	for (size_t i = first; i < end; i++) {
		int err = memory->slices[i].fd < 0 ? 0 : dmabuf_sync(memory->slices[i].fd, flags);

		/* A start that fails has begun nothing here, but before it. */
		if (err && (flags & DMA_BUF_SYNC_END) == 0) {
			sync_slices(memory, first, i, flags | DMA_BUF_SYNC_END);
			return err;
		}
		if (err)
			result = err;
	}
	return result;
}

/* Starts or ends an access to a range that is not empty. */
static int sync_range(struct backend_memory *memory, uint64_t offset, uint64_t bytes,
		      uint64_t flags)
{
	struct dmabuf_device *device = dmabuf_device(memory->device);
	size_t first = (size_t)(offset / memory->slice_bytes);
	size_t last = (size_t)((offset + bytes - 1) / memory->slice_bytes);
	int err = sync_slices(dmabuf_memory(memory), first, last + 1, flags);

	if (err)
		return gds_fail_errno(-err, "device %s: synchronising a dma-buf with the CPU",
				      device->name);
	return 0;
}

static int begin(struct backend_memory *memory, uint64_t offset, uint64_t bytes, uint64_t access)
{
	return sync_range(memory, offset, bytes, DMA_BUF_SYNC_START | access);
}

static int end(struct backend_memory *memory, uint64_t offset, uint64_t bytes, uint64_t access)
{
	return sync_range(memory, offset, bytes, DMA_BUF_SYNC_END | access);
}

int dmabuf_memory_publish(struct backend_memory *memory, uint64_t offset, uint64_t bytes)
{
	return bytes == 0 ? 0 : end(memory, offset, bytes, DMA_BUF_SYNC_WRITE);
}

/* The CPU then keeps the memory: the next publish() is the end of this access, too. */
int dmabuf_memory_acquire(struct backend_memory *memory, uint64_t offset, uint64_t bytes)
{
	return bytes == 0 ? 0 : begin(memory, offset, bytes, DMA_BUF_SYNC_READ);
}

int dmabuf_memory_copy_in(struct backend_memory *memory, uint64_t offset, const void *data,
			  size_t bytes)
{
	int err;

	if (bytes == 0)
		return 0;
	err = begin(memory, offset, bytes, DMA_BUF_SYNC_WRITE);
	if (err)
		return err;
	if (dmabuf_device(memory->device)->io_memory)
		move_to_io(at(memory, offset), data, bytes);
	else
		memcpy(at(memory, offset), data, bytes);
	return end(memory, offset, bytes, DMA_BUF_SYNC_WRITE);
}

int dmabuf_memory_copy_out(struct backend_memory *memory, uint64_t offset, void *data, size_t bytes)
{
	int err;

	if (bytes == 0)
		return 0;
	err = begin(memory, offset, bytes, DMA_BUF_SYNC_READ);
	if (err)
		return err;
	if (dmabuf_device(memory->device)->io_memory)
		move_from_io(data, at(memory, offset), bytes);
	else
		memcpy(data, at(memory, offset), bytes);
	return end(memory, offset, bytes, DMA_BUF_SYNC_READ);
}

int dmabuf_memory_checksum(struct backend_memory *memory, uint64_t offset, uint64_t bytes,
			   uint32_t *crc)
{
	int err;

	*crc = 0;
	if (bytes == 0)
		return 0;
	err = begin(memory, offset, bytes, DMA_BUF_SYNC_READ);
	if (err)
		return err;
	if (dmabuf_device(memory->device)->io_memory)
		*crc = checksum_of_io(at(memory, offset), bytes);
	else
		*crc = (uint32_t)crc32_z(0, at(memory, offset), bytes);
	return end(memory, offset, bytes, DMA_BUF_SYNC_READ);
}

/* Within a device; the ranges do not overlap. */
static int copy_across(const struct backend_copy *copy)
{
	void *to = at(copy->memory, copy->offset);
	const void *from = at(copy->source, copy->source_offset);
	int err = begin(copy->source, copy->source_offset, copy->bytes, DMA_BUF_SYNC_READ);
	int end_err;

	if (err)
		return err;
	err = begin(copy->memory, copy->offset, copy->bytes, DMA_BUF_SYNC_WRITE);
	if (!err) {
		if (dmabuf_device(copy->memory->device)->io_memory)
			move_within_io(to, from, copy->bytes);
		else
			memcpy(to, from, copy->bytes);
		err = end(copy->memory, copy->offset, copy->bytes, DMA_BUF_SYNC_WRITE);
	}
	end_err = end(copy->source, copy->source_offset, copy->bytes, DMA_BUF_SYNC_READ);
	return err ? err : end_err;
}

int dmabuf_memory_copy(struct backend_device *device, const struct backend_copy *copies,
		       size_t count, uint64_t *ticket)
{
	int err = 0;

	*ticket = 0;
	for (size_t i = 0; i < count && !err; i++) {
		const struct backend_copy *copy = &copies[i];

		if (copy->bytes == 0)
			continue;
		if (copy->staging)
			err = dmabuf_memory_copy_in(copy->memory, copy->offset,
						    (unsigned char *)copy->staging->host +
							    copy->source_offset,
						    copy->bytes);
		else
			err = copy_across(copy);
	}
	return err;
}

int dmabuf_memory_staging_attach(struct backend_device *device, void *host, size_t bytes,
				 struct backend_staging **staging)
{
	*staging = calloc(1, sizeof(**staging));
	if (!*staging)
		return gds_fail_errno(ENOMEM, "cannot attach staging memory to device %s",
				      dmabuf_device(device)->name);
	**staging = (struct backend_staging){ .device = device, .host = host, .bytes = bytes };
	return 0;
}

void dmabuf_memory_staging_detach(struct backend_staging *staging)
{
	free(staging);
}
