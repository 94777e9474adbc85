/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of a Vulkan device as dma-bufs that drives write to, and dma-bufs of others
 * as memory of a Vulkan device.
 */
#include "vulkan.h"

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define DMABUF_GRAIN 4096

/* ---- What the device can do --------------------------------------------------- */

/*
 * Whether the storage could write there. Putting a page into a pipe takes hold of it as
 * I/O does, and is refused for the same mappings: those that have no page structures.
 */
static bool can_be_pinned(void *address)
{
	struct iovec page = { address, DMABUF_GRAIN };
	int ends[2];
	bool pinned;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		return false;
	pinned = vmsplice(ends[1], &page, 1, SPLICE_F_NONBLOCK) == DMABUF_GRAIN;
	close(ends[0]);
	close(ends[1]);
	return pinned;
}

static const char *missing(const struct vulkan_device *device)
{
	const struct vulkan_physical *physical = &device->physical;

	if (!physical->external_memory_dma_buf && !device->owned)
		return "the caller's device was not said to have "
		       "VK_EXT_external_memory_dma_buf enabled";
	if (!physical->external_memory_dma_buf)
		return "its driver has no VK_EXT_external_memory_dma_buf: a newer one may";
	if (!(physical->dma_buf_features & VK_EXTERNAL_MEMORY_FEATURE_EXPORTABLE_BIT))
		return "its driver does not export memory of buffers as dma-bufs";
	return NULL;
}

/* Some drivers promise what they cannot do without help of the kernel. */
static void try_export(struct vulkan_device *device)
{
	struct vulkan_block block = { 0 };
	uint32_t type;

	if (vulkan_block_alloc(device, DMABUF_GRAIN, 0, vulkan_wanted_memory(device, 0), true,
			       &block, &type)) {
		gds_text_set(device->no_export, sizeof(device->no_export),
			     "its driver gave no memory that can be exported%s: %.120s",
			     device->physical.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU
				     ? " (is there a /dev/udmabuf that this user may open?)"
				     : "",
			     gds_last_error());
		return;
	}
	device->exports_pinnable = device->unified && block.mapping && can_be_pinned(block.mapping);
	vulkan_block_destroy(device, &block);
}

void vulkan_dmabuf_start(struct vulkan_device *device)
{
	const char *lack = missing(device);

	device->foreign_family = device->physical.queue_family_foreign ? VK_QUEUE_FAMILY_FOREIGN_EXT
								       : VK_QUEUE_FAMILY_EXTERNAL;
	if (lack)
		gds_text_set(device->no_export, sizeof(device->no_export), "%s", lack);
	else
		try_export(device);
	if (device->no_export[0])
		gds_info("%s: no dma-bufs: %s", device->label, device->no_export);
}

/* ---- Export ------------------------------------------------------------------- */

/*
 * Memory of the host that the device sees coherently is written by a drive like by the
 * CPU, and a submission makes such writes visible. Anything else is acquired.
 */
static bool needs_acquire(const struct vulkan_device *device, const struct vulkan_memory *memory)
{
	const VkMemoryType *type = &device->physical.memory.memoryTypes[memory->memory_type];

	return !device->unified || !(type->propertyFlags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT);
}

static int get_fd(struct vulkan_device *device, const struct vulkan_memory *memory,
		  const struct vulkan_block *block, int *fd)
{
	const VkMemoryGetFdInfoKHR info = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_GET_FD_INFO_KHR,
		.memory = block->memory,
		.handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT,
	};
	VkResult result;

	if (memory->dmabuf >= 0) {
		*fd = fcntl(memory->dmabuf, F_DUPFD_CLOEXEC, 0);
		return *fd < 0 ? gds_fail_errno(errno, "%s: cannot export a dma-buf again",
						device->label)
			       : 0;
	}
	result = device->calls.vkGetMemoryFdKHR(device->handle, &info, fd);
	if (result == VK_SUCCESS)
		return 0;
	vulkan_fail(result, "%s: cannot export its memory as a dma-buf", device->label);
	return result == VK_ERROR_TOO_MANY_OBJECTS ? -EMFILE : -EOPNOTSUPP;
}

/* Whether the dma-buf is of use: at least as long as it must be, and of whole pages. */
static int measure(struct vulkan_device *device, uint64_t needed, struct backend_export *exported)
{
	const off_t bytes = lseek(exported->fd, 0, SEEK_END);

	if (bytes < 0)
		return gds_fail_errno(errno, "%s: cannot tell the size of a dma-buf",
				      device->label);
	exported->bytes = (uint64_t)bytes;
	if (!is_aligned(exported->bytes, DMABUF_GRAIN))
		return gds_fail(EOPNOTSUPP,
				"%s: a dma-buf of %" PRIu64 " bytes, which is no multiple of %d",
				device->label, exported->bytes, DMABUF_GRAIN);
	if (!range_fits(exported->offset, needed, exported->bytes))
		return gds_fail(EOPNOTSUPP,
				"%s: the dma-buf has %" PRIu64 " bytes, too few for %" PRIu64
				" at %" PRIu64,
				device->label, exported->bytes, needed, exported->offset);
	return 0;
}

int vulkan_export_slice(struct backend_memory *base, size_t slice, struct backend_export *exported)
{
	struct vulkan_memory *memory = to_vulkan_memory(base);
	struct vulkan_device *device = to_vulkan_device(base->device);
	const uint64_t at = slice * device->slice_bytes;
	struct vulkan_range range;
	int err;

	if (at >= base->bytes)
		return gds_fail(EINVAL, "%s: the memory has no slice %zu", device->label, slice);
	if (memory->no_export[0])
		return gds_fail(EOPNOTSUPP, "%s: no dma-buf: %s", device->label, memory->no_export);
	range = vulkan_range(memory, at, device->slice_bytes);
	err = get_fd(device, memory, range.block, &exported->fd);
	if (err)
		return err;
	exported->offset = memory->memory_offset + range.offset;
	err = measure(device, range.bytes, exported);
	if (err)
		close(exported->fd);
	else if (needs_acquire(device, memory))
		atomic_store(&range.block->foreign, true);
	return err;
}

static bool any_foreign(struct vulkan_memory *memory)
{
	for (size_t i = 0; i < memory->slice_count; i++)
		if (atomic_load(&memory->slices[i].foreign))
			return true;
	return false;
}

/*
 * A device of our own has no work but ours, and each piece of that acquires what it
 * uses when it begins. A caller's other queues see what our queue is done with.
 */
int vulkan_acquire(struct backend_memory *base, uint64_t offset, uint64_t bytes)
{
	struct vulkan_memory *memory = to_vulkan_memory(base);
	struct vulkan_device *device = to_vulkan_device(base->device);
	struct vulkan_frame *frame;
	uint64_t ticket;
	int err;

	if (device->owned || !any_foreign(memory))
		return 0;
	err = vulkan_begin(device, &frame);
	if (err)
		return err;
	vulkan_acquire_range(device, frame->commands, memory, offset, bytes);
	memory->last_ticket = device->submitted + 1;
	err = vulkan_submit(device, frame, &ticket);
	return err ? err : vulkan_wait(device, ticket);
}

/* ---- Import ------------------------------------------------------------------- */

/* Names that placements are told apart by. There are as many as there are exporters. */
struct exporter {
	struct exporter *next;
	char placement[64];
};

static pthread_mutex_t exporters_lock = PTHREAD_MUTEX_INITIALIZER;
static struct exporter *exporters;

/* What is proven of one exporter's memory says nothing of another's. */
static const char *placement_of(const char *name)
{
	struct exporter *exporter;
	char placement[sizeof(exporter->placement)];

	gds_text_set(placement, sizeof(placement), "dma-buf of %s", name);
	pthread_mutex_lock(&exporters_lock);
	for (exporter = exporters; exporter; exporter = exporter->next)
		if (strcmp(exporter->placement, placement) == 0)
			break;
	if (!exporter) {
		exporter = calloc(1, sizeof(*exporter));
		if (exporter) {
			memcpy(exporter->placement, placement, sizeof(placement));
			exporter->next = exporters;
			exporters = exporter;
		}
	}
	pthread_mutex_unlock(&exporters_lock);
	return exporter ? exporter->placement : "dma-buf";
}

/* 0, or -EINVAL where the descriptor is none of a dma-buf. */
static int find_exporter(int fd, char *name, size_t size)
{
	char path[48], line[128];
	FILE *info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = fopen(path, "re");
	if (!info) {
		/* Without /proc the driver alone tells what is no dma-buf. */
		gds_text_set(name, size, "unknown exporter");
		return 0;
	}
	name[0] = '\0';
	while (!name[0] && fgets(line, sizeof(line), info))
		if (strncmp(line, "exp_name:", 9) == 0)
			gds_text_set(name, size, "%.*s", (int)strcspn(line + 10, "\n"), line + 10);
	fclose(info);
	return name[0] ? 0 : -EINVAL;
}

static int check_device(const struct vulkan_device *device)
{
	const struct vulkan_physical *physical = &device->physical;

	if (!physical->external_memory_dma_buf)
		return gds_fail(ENOTSUP, "%s: no dma-buf can be imported: %s", device->label,
				missing(device));
	if (!(physical->dma_buf_features & VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT))
		return gds_fail(ENOTSUP, "%s: its driver does not import dma-bufs as buffers",
				device->label);
	return 0;
}

static int check_range(struct vulkan_device *device, int fd, uint64_t offset, uint64_t bytes,
		       uint64_t *dmabuf_bytes)
{
	const off_t end = lseek(fd, 0, SEEK_END);

	if (end < 0)
		return gds_fail_errno(errno, "%s: cannot tell the size of the dma-buf",
				      device->label);
	*dmabuf_bytes = (uint64_t)end;
	if (!range_fits(offset, bytes, *dmabuf_bytes))
		return gds_fail(EINVAL,
				"%s: %" PRIu64 " bytes at %" PRIu64
				" lie outside the dma-buf's %" PRIu64,
				device->label, bytes, offset, *dmabuf_bytes);
	return 0;
}

static int import(struct vulkan_device *device, struct vulkan_memory *memory, int fd,
		  uint64_t dmabuf_bytes)
{
	struct vulkan_block *block = &memory->slices[0];
	int err;

	memory->dmabuf = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (memory->dmabuf < 0)
		return gds_fail_errno(errno, "%s: cannot keep a dma-buf", device->label);
	err = vulkan_block_import_dmabuf(device, fd, dmabuf_bytes, memory->memory_offset,
					 memory->base.bytes, vulkan_wanted_memory(device, 0), block,
					 &memory->memory_type);
	if (err) {
		close(memory->dmabuf);
		return err;
	}
	if (!block->mapping) {
		memory->base.no_host_reason = "the driver does not map the dma-buf for the CPU";
		memory->base.no_host_remedy = "map it by its exporter";
	}
	vulkan_memory_describe(device, memory);
	/* Whoever exported it may write it at any time. */
	atomic_store(&block->foreign, needs_acquire(device, memory));
	return 0;
}

int vulkan_import_dmabuf(struct backend_device *base, int fd, uint64_t offset, uint64_t bytes,
			 struct backend_memory **result)
{
	struct vulkan_device *device = to_vulkan_device(base);
	struct vulkan_memory *memory;
	uint64_t dmabuf_bytes = 0;
	char exporter[40];
	int err = check_device(device);

	if (err)
		return err;
	if (find_exporter(fd, exporter, sizeof(exporter)))
		return gds_fail(EINVAL, "%s: file descriptor %d is no dma-buf", device->label, fd);
	err = check_range(device, fd, offset, bytes, &dmabuf_bytes);
	if (err)
		return err;
	memory = vulkan_memory_new(device, bytes, bytes);
	if (!memory)
		return gds_fail_errno(ENOMEM, "%s: cannot import a dma-buf", device->label);
	memory->memory_offset = offset;
	err = import(device, memory, fd, dmabuf_bytes);
	if (err) {
		free(memory);
		return err;
	}
	memory->base.placement = placement_of(exporter);
	*result = &memory->base;
	return 0;
}
