/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of a Vulkan device, in slices.
 *
 * Where the device works in the host's memory anyway, the slices lie over one
 * contiguous range of host pages, which the storage can write into like into any
 * other memory. Else they are what the driver allocates.
 */
#include "vulkan.h"

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "memory/pages.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define VISIBLE  (VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT)
#define COHERENT (VISIBLE | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)
#define CACHED   (COHERENT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT)
#define LOCAL    (VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT)

/* A PiB: not even a list of the slices is made of what no machine has. */
#define SLICES_MAX (1u << 20)

/* Lists of what is wanted of memory, best first, as vulkan_block_alloc() takes them. */
static const VkMemoryPropertyFlags in_host[] = { CACHED, COHERENT, 0 };
static const VkMemoryPropertyFlags in_unified[] = { LOCAL | CACHED,  LOCAL | COHERENT,
						    LOCAL | VISIBLE, CACHED,
						    COHERENT,        0 };
static const VkMemoryPropertyFlags in_device[] = { LOCAL, 0 };
static const VkMemoryPropertyFlags in_visible_device[] = { LOCAL | COHERENT, LOCAL | VISIBLE, LOCAL,
							   0 };

static const char pages_not_exported[] =
	"the buffer lies in host pages, so that the storage can write into them: the mapping of "
	"memory that this driver exports cannot be pinned";

struct vulkan_range vulkan_range(struct vulkan_memory *memory, uint64_t offset, uint64_t bytes)
{
	uint64_t slice = offset / memory->slice_bytes;
	struct vulkan_range range = {
		.block = &memory->slices[slice],
		.offset = offset - slice * memory->slice_bytes,
	};

	range.bytes = min_u64(bytes, range.block->bytes - range.offset);
	return range;
}

struct vulkan_memory *vulkan_memory_new(struct vulkan_device *device, uint64_t bytes,
					uint64_t slice_bytes)
{
	size_t slices = (bytes - 1) / slice_bytes + 1;
	struct vulkan_memory *memory;

	if (slices > SLICES_MAX)
		return NULL;
	memory = calloc(1, sizeof(*memory) + slices * sizeof(memory->slices[0]));
	if (!memory)
		return NULL;
	memory->base.device = &device->base;
	memory->base.placement = "host";
	memory->base.bytes = bytes;
	memory->base.slice_bytes = device->slice_bytes;
	memory->dmabuf = -1;
	memory->slice_bytes = slice_bytes;
	memory->slice_count = slices;
	return memory;
}

static void destroy_slices(struct vulkan_device *device, struct vulkan_memory *memory)
{
	for (size_t i = 0; i < memory->slice_count; i++)
		vulkan_block_destroy(device, &memory->slices[i]);
}

static uint64_t bytes_of_slice(const struct vulkan_memory *memory, size_t slice)
{
	return min_u64(memory->slice_bytes, memory->base.bytes - slice * memory->slice_bytes);
}

static int import_slices(struct vulkan_device *device, struct vulkan_memory *memory)
{
	int err = 0;

	for (size_t i = 0; i < memory->slice_count && !err; i++)
		err = vulkan_block_import(device, (char *)memory->pages + i * memory->slice_bytes,
					  bytes_of_slice(memory, i), &memory->slices[i],
					  &memory->memory_type);
	return err;
}

static int alloc_in_pages(struct vulkan_device *device, struct vulkan_memory *memory)
{
	int err;

	memory->pages = pages_map(memory->base.bytes);
	if (!memory->pages)
		return gds_fail_errno(errno, "%s: cannot map %" PRIu64 " bytes of host memory",
				      device->label, memory->base.bytes);
	err = import_slices(device, memory);
	if (!err) {
		memory->base.host = memory->pages;
		return 0;
	}
	destroy_slices(device, memory);
	pages_unmap(memory->pages, memory->base.bytes);
	memory->pages = NULL;
	return err;
}

static VkMemoryPropertyFlags type_flags(const struct vulkan_device *device, uint32_t type)
{
	return device->physical.memory.memoryTypes[type].propertyFlags;
}

static const char *placement(const struct vulkan_device *device, VkMemoryPropertyFlags flags)
{
	if (!(flags & LOCAL) ||
	    device->physical.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU)
		return "host";
	return flags & VISIBLE ? "visible device" : "device";
}

void vulkan_memory_describe(struct vulkan_device *device, struct vulkan_memory *memory)
{
	VkMemoryPropertyFlags flags = type_flags(device, memory->memory_type);

	memory->base.placement = placement(device, flags);
	memory->base.needs_publish = !(flags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT);
	if (memory->pages)
		memory->base.host = memory->pages;
	else if (memory->slice_count == 1)
		memory->base.host = memory->slices[0].mapping;
	if (memory->base.host || memory->base.no_host_reason)
		return;
	if (!(flags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT)) {
		memory->base.no_host_reason = "the device's memory is not visible to the CPU";
		memory->base.no_host_remedy = "switch on Resizable BAR in the firmware, or "
					      "allocate with GDS_BUFFER_HOST";
	} else {
		memory->base.no_host_reason = "the buffer is made of several allocations, "
					      "which the driver maps apart";
		memory->base.no_host_remedy = "use buffers of at most 1 GiB, or allocate with "
					      "GDS_BUFFER_HOST";
	}
}

/*
 * The storage wants one range of addresses, and the driver maps each slice for itself:
 * so they are mapped once more, side by side. That can be done where the mappings are
 * shared ones of ordinary pages, which are also those that the kernel can pin.
 */
static int join_slices(struct vulkan_device *device, struct vulkan_memory *memory)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	const uint64_t bytes = align_up(memory->base.bytes, page);
	char *joined =
		mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (joined == MAP_FAILED)
		return gds_fail_errno(errno, "%s: no room for a mapping of %" PRIu64 " bytes",
				      device->label, bytes);
	for (size_t i = 0; i < memory->slice_count; i++) {
		if (mremap(memory->slices[i].mapping, 0, align_up(bytes_of_slice(memory, i), page),
			   MREMAP_MAYMOVE | MREMAP_FIXED,
			   joined + i * memory->slice_bytes) == MAP_FAILED) {
			int err = gds_fail_errno(errno, "%s: cannot map its memory side by side",
						 device->label);
			munmap(joined, bytes);
			return err;
		}
	}
	memory->pages = joined;
	return 0;
}

static int alloc_in_heap(struct vulkan_device *device, struct vulkan_memory *memory,
			 const VkMemoryPropertyFlags *wanted, bool exportable)
{
	int err = 0;

	for (size_t i = 0; i < memory->slice_count && !err; i++)
		err = vulkan_block_alloc(device, bytes_of_slice(memory, i), memory->base.bytes,
					 wanted, exportable, &memory->slices[i],
					 &memory->memory_type);
	if (!err && exportable && device->exports_pinnable && memory->slice_count > 1)
		err = join_slices(device, memory);
	if (err)
		destroy_slices(device, memory);
	else
		vulkan_memory_describe(device, memory);
	return err;
}

/* Notes why it cannot be done, for those who ask for an export later. */
static int alloc_exportable(struct vulkan_device *device, struct vulkan_memory *memory,
			    const VkMemoryPropertyFlags *wanted)
{
	int err;

	gds_text_set(memory->no_export, sizeof(memory->no_export), "%s", device->no_export);
	if (memory->no_export[0])
		return -ENOTSUP;
	err = alloc_in_heap(device, memory, wanted, true);
	if (!err)
		return 0;
	gds_text_set(memory->no_export, sizeof(memory->no_export),
		     "the driver gave no memory that can be exported, of %" PRIu64 " bytes%s",
		     bytes_of_slice(memory, 0),
		     device->unified
			     ? ": /sys/module/udmabuf/parameters/size_limit_mb may be too low"
			     : "");
	gds_info("%s: %s: %s", device->label, memory->no_export, gds_last_error());
	return err;
}

/*
 * Whether the CPU sees all of the device's own memory, and not just a window of it
 * that is too small to be used up by buffers.
 */
static bool all_memory_visible(const struct vulkan_device *device)
{
	const VkPhysicalDeviceMemoryProperties *memory = &device->physical.memory;
	uint64_t local = 0, visible = 0;

	for (uint32_t i = 0; i < memory->memoryTypeCount; i++) {
		VkMemoryPropertyFlags flags = memory->memoryTypes[i].propertyFlags;
		uint64_t bytes = memory->memoryHeaps[memory->memoryTypes[i].heapIndex].size;

		if (flags & LOCAL)
			local = max_u64(local, bytes);
		if ((flags & (LOCAL | VISIBLE)) == (LOCAL | VISIBLE))
			visible = max_u64(visible, bytes);
	}
	return visible > 0 && visible == local;
}

const VkMemoryPropertyFlags *vulkan_wanted_memory(const struct vulkan_device *device,
						  uint32_t flags)
{
	if (device->unified)
		return in_unified;
	if (flags & GDS_BUFFER_HOST)
		return in_host;
	return all_memory_visible(device) ? in_visible_device : in_device;
}

/*
 * Where memory can be exported and the kernel can pin its mapping too, every path is open
 * to it. Where it can only be one of both, host pages serve a unified device best: the
 * storage then writes right into its memory on any kernel.
 */
int vulkan_alloc(struct backend_device *base, uint64_t bytes, uint32_t flags,
		 struct backend_memory **result)
{
	struct vulkan_device *device = to_vulkan_device(base);
	const VkMemoryPropertyFlags *wanted = vulkan_wanted_memory(device, flags);
	const bool in_pages = (device->unified || (flags & GDS_BUFFER_HOST)) &&
			      device->physical.external_memory_host;
	struct vulkan_memory *memory = vulkan_memory_new(device, bytes, device->slice_bytes);
	int err = -ENOTSUP;

	if (!memory)
		return gds_fail_errno(ENOMEM, "%s: no room for %" PRIu64 " bytes", device->label,
				      bytes);
	if (!in_pages || device->exports_pinnable)
		err = alloc_exportable(device, memory, wanted);
	else
		gds_text_set(memory->no_export, sizeof(memory->no_export), "%s",
			     device->no_export[0] ? device->no_export : pages_not_exported);
	if (err && in_pages) {
		err = alloc_in_pages(device, memory);
		if (err && err != -ENOMEM)
			gds_info("host pages are no memory of this device: %s", gds_last_error());
	}
	if (err && (err != -ENOMEM || !in_pages))
		err = alloc_in_heap(device, memory, wanted, false);
	if (err)
		free(memory);
	else
		*result = &memory->base;
	return err;
}

static void unmap_import(struct vulkan_device *device, struct vulkan_memory *memory)
{
	if (memory->unmap)
		device->calls.vkUnmapMemory(device->handle, memory->slices[0].memory);
}

void vulkan_free(struct backend_memory *base)
{
	struct vulkan_memory *memory = to_vulkan_memory(base);
	struct vulkan_device *device = to_vulkan_device(base->device);

	/* A lost device is an end too: it writes no more. */
	vulkan_wait_last(device, &memory->last_ticket);
	if (memory->imported)
		unmap_import(device, memory);
	else
		destroy_slices(device, memory);
	pages_unmap(memory->pages, base->bytes);
	if (memory->dmabuf >= 0)
		close(memory->dmabuf);
	free(memory);
}

static int flush(struct vulkan_device *device, struct vulkan_memory *memory,
		 const struct vulkan_range *range)
{
	const uint64_t atom = device->physical.properties.limits.nonCoherentAtomSize;
	const uint64_t start = align_down(memory->memory_offset + range->offset, atom);
	const uint64_t end = align_up(memory->memory_offset + range->offset + range->bytes, atom);
	const VkMappedMemoryRange mapped = {
		.sType = VK_STRUCTURE_TYPE_MAPPED_MEMORY_RANGE,
		.memory = range->block->memory,
		.offset = start,
		.size = end > range->block->allocated_bytes ? VK_WHOLE_SIZE : end - start,
	};
	VkResult result = device->calls.vkFlushMappedMemoryRanges(device->handle, 1, &mapped);

	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot flush a range of its memory", device->label);
	return 0;
}

int vulkan_publish(struct backend_memory *base, uint64_t offset, uint64_t bytes)
{
	struct vulkan_memory *memory = to_vulkan_memory(base);
	struct vulkan_range range;
	int err = 0;

	if (!base->needs_publish)
		return 0;
	for (; bytes && !err; offset += range.bytes, bytes -= range.bytes) {
		range = vulkan_range(memory, offset, bytes);
		err = flush(to_vulkan_device(base->device), memory, &range);
	}
	return err;
}

int backend_vulkan_locate(struct backend_memory *base, uint64_t offset, uint64_t *vk_buffer,
			  uint64_t *vk_offset, uint64_t *vk_bytes)
{
	struct vulkan_range range;

	if (base->device->ops != &backend_vulkan)
		return gds_fail(ENOTSUP, "a buffer of a %s device has no VkBuffer",
				base->device->ops->name);
	range = vulkan_range(to_vulkan_memory(base), offset, base->bytes - offset);
	*vk_buffer = (uint64_t)(uintptr_t)range.block->buffer;
	*vk_offset = range.offset;
	*vk_bytes = range.bytes;
	return 0;
}

/* Maps all of it, since only then flushed ranges may be widened to whole atoms. */
static void map_import(struct vulkan_device *device, struct vulkan_memory *memory)
{
	struct vulkan_block *block = &memory->slices[0];
	void *start;
	VkResult result = device->calls.vkMapMemory(device->handle, block->memory, 0, VK_WHOLE_SIZE,
						    0, &start);

	if (result != VK_SUCCESS) {
		vulkan_fail(result, "%s: cannot map a caller's memory", device->label);
		gds_info("%s", gds_last_error());
		memory->base.no_host_reason = "the driver could not map the caller's memory";
		memory->base.no_host_remedy = "map the memory and pass `mapping`";
		return;
	}
	block->mapping = (char *)start + memory->memory_offset;
	memory->unmap = true;
}

static const char not_said_exportable[] =
	"it is a caller's buffer, of which it was not said that it can be exported: allocate its "
	"memory with VkExportMemoryAllocateInfo for dma-bufs, and set `exportable`";

static int check_import(struct vulkan_device *device, const struct gds_vulkan_buffer *vulkan,
			VkMemoryRequirements *needs)
{
	if (!vulkan->buffer || !vulkan->memory || !vulkan->bytes)
		return gds_fail(EINVAL,
				"%s: an imported buffer needs a VkBuffer, its "
				"VkDeviceMemory and its bytes",
				device->label);
	if (vulkan->memory_type >= device->physical.memory.memoryTypeCount)
		return gds_fail(EINVAL, "%s: there is no memory type %u: the device has %u",
				device->label, vulkan->memory_type,
				device->physical.memory.memoryTypeCount);
	device->calls.vkGetBufferMemoryRequirements(device->handle,
						    (VkBuffer)(uintptr_t)vulkan->buffer, needs);
	if (vulkan->bytes > needs->size)
		return gds_fail(EINVAL, "%s: the VkBuffer has %" PRIu64 " bytes, not %" PRIu64,
				device->label, (uint64_t)needs->size, vulkan->bytes);
	return 0;
}

int backend_vulkan_import_buffer(struct backend_device *base,
				 const struct gds_vulkan_buffer *vulkan,
				 struct backend_memory **result)
{
	struct vulkan_device *device = to_vulkan_device(base);
	VkMemoryRequirements needs;
	struct vulkan_memory *memory;
	int err;

	if (base->ops != &backend_vulkan)
		return gds_fail(ENOTSUP, "a %s device does not take Vulkan buffers",
				base->ops->name);
	err = check_import(device, vulkan, &needs);
	if (err)
		return err;
	memory = vulkan_memory_new(device, vulkan->bytes, vulkan->bytes);
	if (!memory)
		return gds_fail_errno(ENOMEM, "%s: cannot import a buffer", device->label);
	memory->imported = true;
	memory->memory_type = vulkan->memory_type;
	memory->memory_offset = vulkan->memory_offset;
	memory->slices[0] = (struct vulkan_block){
		.buffer = (VkBuffer)(uintptr_t)vulkan->buffer,
		.memory = (VkDeviceMemory)(uintptr_t)vulkan->memory,
		.bytes = vulkan->bytes,
		.allocated_bytes = vulkan->memory_offset + needs.size,
		.mapping = vulkan->mapping,
		.concurrent = vulkan->concurrent,
	};
	gds_text_set(memory->no_export, sizeof(memory->no_export), "%s",
		     vulkan->exportable ? device->no_export : not_said_exportable);
	if (!vulkan->mapping && (type_flags(device, vulkan->memory_type) & VISIBLE))
		map_import(device, memory);
	vulkan_memory_describe(device, memory);
	*result = &memory->base;
	return 0;
}
