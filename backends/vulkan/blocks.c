/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers with memory of their own: allocated from a heap, or over host pages. */
#include "vulkan.h"

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

/* The checksum reads whole words of this size, also at the end of a buffer. */
#define BUFFER_GRAIN 4
/* Dma-bufs are made of whole pages. */
#define DMABUF_GRAIN 4096

/* Memory that ordinary buffers must not or cannot be put into. */
#define ODD_MEMORY                                                                    \
	(VK_MEMORY_PROPERTY_PROTECTED_BIT | VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT | \
	 VK_MEMORY_PROPERTY_DEVICE_COHERENT_BIT_AMD | VK_MEMORY_PROPERTY_RDMA_CAPABLE_BIT_NV)

/* The first type among `allowed` that has `wanted`, or UINT32_MAX. */
static uint32_t find_type(const struct vulkan_device *device, uint32_t allowed,
			  VkMemoryPropertyFlags wanted)
{
	const VkPhysicalDeviceMemoryProperties *memory = &device->physical.memory;

	for (uint32_t i = 0; i < memory->memoryTypeCount; i++) {
		VkMemoryPropertyFlags has = memory->memoryTypes[i].propertyFlags;

		if ((allowed & (1u << i)) && (has & wanted) == wanted && !(has & ODD_MEMORY))
			return i;
	}
	return UINT32_MAX;
}

/* Of a size that is a multiple of `grain`; of which the block counts `bytes`. */
static int create_buffer(struct vulkan_device *device, uint64_t bytes, uint64_t grain,
			 VkExternalMemoryHandleTypeFlags external, struct vulkan_block *block)
{
	uint32_t families[32];
	const uint32_t family_count = min_u64(device->physical.family_count, 32);
	/* Without it the caller would have to hand each buffer from queue to queue. */
	const bool shared = !device->owned && family_count > 1;
	const VkExternalMemoryBufferCreateInfo handles = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
		.handleTypes = external,
	};
	const VkBufferCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
		.pNext = external ? &handles : NULL,
		.size = align_up(bytes, grain),
		.usage = VULKAN_BUFFER_USAGE,
		.sharingMode = shared ? VK_SHARING_MODE_CONCURRENT : VK_SHARING_MODE_EXCLUSIVE,
		.queueFamilyIndexCount = shared ? family_count : 0,
		.pQueueFamilyIndices = families,
	};
	VkResult result;

	for (uint32_t i = 0; i < family_count; i++)
		families[i] = i;
	result = device->calls.vkCreateBuffer(device->handle, &info, NULL, &block->buffer);
	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot make a buffer of %" PRIu64 " bytes",
				   device->label, bytes);
	block->bytes = bytes;
	block->concurrent = shared;
	return 0;
}

static int bind(struct vulkan_device *device, struct vulkan_block *block, uint64_t offset)
{
	VkResult result = device->calls.vkBindBufferMemory(device->handle, block->buffer,
							   block->memory, offset);

	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot bind memory to a buffer", device->label);
	return 0;
}

static int import_pages(struct vulkan_device *device, void *pages, uint64_t bytes,
			struct vulkan_block *block, uint32_t *type)
{
	const VkImportMemoryHostPointerInfoEXT import = {
		.sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
		.handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT,
		.pHostPointer = pages,
	};
	VkMemoryHostPointerPropertiesEXT host = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT,
	};
	VkMemoryAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
		.pNext = &import,
		.allocationSize = align_up(bytes, device->physical.host_pointer_alignment),
	};
	VkMemoryRequirements needs;
	VkResult result = device->calls.vkGetMemoryHostPointerPropertiesEXT(
		device->handle, import.handleType, pages, &host);

	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot import host memory", device->label);
	device->calls.vkGetBufferMemoryRequirements(device->handle, block->buffer, &needs);
	/* Coherent, since memory that is not mapped cannot be flushed. */
	*type = find_type(device, needs.memoryTypeBits & host.memoryTypeBits,
			  VK_MEMORY_PROPERTY_HOST_COHERENT_BIT);
	if (*type == UINT32_MAX || needs.size > info.allocationSize)
		return gds_fail(ENOTSUP, "%s: no coherent memory type takes host memory",
				device->label);
	info.memoryTypeIndex = *type;
	result = device->calls.vkAllocateMemory(device->handle, &info, NULL, &block->memory);
	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot import %" PRIu64 " bytes of host memory",
				   device->label, bytes);
	block->allocated_bytes = info.allocationSize;
	return 0;
}

int vulkan_block_import(struct vulkan_device *device, void *pages, uint64_t bytes,
			struct vulkan_block *block, uint32_t *memory_type)
{
	int err;

	if (!is_aligned((uintptr_t)pages, device->physical.host_pointer_alignment))
		return gds_fail(
			ENOTSUP, "%s: host memory at %p is not aligned to %" PRIu64 " bytes",
			device->label, pages, (uint64_t)device->physical.host_pointer_alignment);
	err = create_buffer(device, bytes, BUFFER_GRAIN,
			    VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT, block);
	if (!err)
		err = import_pages(device, pages, bytes, block, memory_type);
	if (!err)
		err = bind(device, block, 0);
	if (err)
		vulkan_block_destroy(device, block);
	else
		block->mapping = NULL;
	return err;
}

/* What the driver would still give of a heap, or all of it where it does not say. */
static uint64_t heap_room(struct vulkan_device *device, uint32_t heap)
{
	VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT,
	};
	VkPhysicalDeviceMemoryProperties2 memory = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
		.pNext = &budget,
	};

	if (!device->physical.memory_budget || !device->instance.GetPhysicalDeviceMemoryProperties2)
		return device->physical.memory.memoryHeaps[heap].size;
	device->instance.GetPhysicalDeviceMemoryProperties2(device->physical.handle, &memory);
	if (budget.heapUsage[heap] >= budget.heapBudget[heap])
		return 0;
	return budget.heapBudget[heap] - budget.heapUsage[heap];
}

static int no_room(struct vulkan_device *device, uint64_t bytes, uint32_t heap)
{
	return gds_fail(ENOMEM,
			"%s: no room for %" PRIu64 " bytes: memory heap %u has %" PRIu64
			" bytes, of which at most %" PRIu64 " are free",
			device->label, bytes, heap,
			(uint64_t)device->physical.memory.memoryHeaps[heap].size,
			heap_room(device, heap));
}

/* What a block needs of its memory, and whether it wants one to itself. */
static VkMemoryDedicatedRequirements requirements(struct vulkan_device *device,
						  const struct vulkan_block *block,
						  VkMemoryRequirements *needs)
{
	const VkBufferMemoryRequirementsInfo2 info = {
		.sType = VK_STRUCTURE_TYPE_BUFFER_MEMORY_REQUIREMENTS_INFO_2,
		.buffer = block->buffer,
	};
	VkMemoryDedicatedRequirements dedicated = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_DEDICATED_REQUIREMENTS,
	};
	VkMemoryRequirements2 all = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_REQUIREMENTS_2,
		.pNext = &dedicated,
	};

	if (!device->calls.vkGetBufferMemoryRequirements2) {
		device->calls.vkGetBufferMemoryRequirements(device->handle, block->buffer, needs);
		return dedicated;
	}
	device->calls.vkGetBufferMemoryRequirements2(device->handle, &info, &all);
	*needs = all.memoryRequirements;
	return dedicated;
}

/* The type that comes first in the list of what is wanted, or UINT32_MAX. */
static uint32_t find_wanted_type(const struct vulkan_device *device, uint32_t allowed,
				 const VkMemoryPropertyFlags *wanted)
{
	uint32_t type;

	do {
		type = find_type(device, allowed, *wanted);
	} while (type == UINT32_MAX && *wanted++);
	return type;
}

static bool dedicated_only(const struct vulkan_device *device)
{
	return device->physical.dma_buf_features & VK_EXTERNAL_MEMORY_FEATURE_DEDICATED_ONLY_BIT;
}

static int alloc_memory(struct vulkan_device *device, uint64_t total,
			const VkMemoryPropertyFlags *wanted, bool exportable,
			struct vulkan_block *block, uint32_t *type)
{
	VkMemoryDedicatedAllocateInfo alone = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO,
		.buffer = block->buffer,
	};
	VkMemoryDedicatedRequirements dedicated;
	const VkExportMemoryAllocateInfo export = {
		.sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO,
		.handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT,
	};
	VkMemoryAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO };
	VkMemoryRequirements needs;
	VkResult result;
	uint32_t heap;

	if (exportable)
		info.pNext = &export;
	dedicated = requirements(device, block, &needs);
	if (dedicated.prefersDedicatedAllocation || dedicated.requiresDedicatedAllocation ||
	    (exportable && dedicated_only(device))) {
		alone.pNext = info.pNext;
		info.pNext = &alone;
	}
	*type = find_wanted_type(device, needs.memoryTypeBits, wanted);
	if (*type == UINT32_MAX)
		return gds_fail(ENOTSUP, "%s: no memory type takes buffers", device->label);
	heap = device->physical.memory.memoryTypes[*type].heapIndex;
	/* Some drivers take more than they have and fail, or die, at the first use. */
	total = max_u64(total, needs.size);
	if (total > device->physical.memory.memoryHeaps[heap].size)
		return no_room(device, total, heap);
	info.allocationSize = needs.size;
	info.memoryTypeIndex = *type;
	result = device->calls.vkAllocateMemory(device->handle, &info, NULL, &block->memory);
	if (result == VK_ERROR_OUT_OF_DEVICE_MEMORY || result == VK_ERROR_OUT_OF_HOST_MEMORY)
		return no_room(device, total, heap);
	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot allocate %" PRIu64 " bytes", device->label,
				   block->bytes);
	block->allocated_bytes = needs.size;
	return 0;
}

static int map(struct vulkan_device *device, struct vulkan_block *block, uint32_t type)
{
	const VkMemoryType *has = &device->physical.memory.memoryTypes[type];
	VkResult result;

	if (!(has->propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT))
		return 0;
	result = device->calls.vkMapMemory(device->handle, block->memory, 0, VK_WHOLE_SIZE, 0,
					   &block->mapping);
	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot map %" PRIu64 " bytes", device->label,
				   block->bytes);
	return 0;
}

int vulkan_block_alloc(struct vulkan_device *device, uint64_t bytes, uint64_t total,
		       const VkMemoryPropertyFlags *wanted, bool exportable,
		       struct vulkan_block *block, uint32_t *memory_type)
{
	const VkExternalMemoryHandleTypeFlags dma_buf =
		VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT;
	int err = create_buffer(device, bytes, exportable ? DMABUF_GRAIN : BUFFER_GRAIN,
				exportable ? dma_buf : 0, block);

	if (!err)
		err = alloc_memory(device, total, wanted, exportable, block, memory_type);
	if (!err)
		err = bind(device, block, 0);
	if (!err)
		err = map(device, block, *memory_type);
	if (err)
		vulkan_block_destroy(device, block);
	return err;
}

static uint32_t find_dmabuf_type(struct vulkan_device *device, int dmabuf, uint32_t allowed,
				 const VkMemoryPropertyFlags *wanted)
{
	VkMemoryFdPropertiesKHR properties = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_FD_PROPERTIES_KHR,
	};

	if (device->calls.vkGetMemoryFdPropertiesKHR(device->handle,
						     VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT,
						     dmabuf, &properties) != VK_SUCCESS)
		return UINT32_MAX;
	return find_wanted_type(device, allowed & properties.memoryTypeBits, wanted);
}

/* The driver owns the descriptor that it imports, if it does: it gets one of its own. */
static VkResult import_fd(struct vulkan_device *device, int dmabuf, bool dedicated,
			  VkMemoryAllocateInfo *info, struct vulkan_block *block)
{
	const VkMemoryDedicatedAllocateInfo alone = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO,
		.buffer = block->buffer,
	};
	const VkImportMemoryFdInfoKHR import = {
		.sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR,
		.pNext = dedicated ? &alone : NULL,
		.handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT,
		.fd = fcntl(dmabuf, F_DUPFD_CLOEXEC, 0),
	};
	VkResult result;

	if (import.fd < 0)
		return VK_ERROR_TOO_MANY_OBJECTS;
	info->pNext = &import;
	result = device->calls.vkAllocateMemory(device->handle, info, NULL, &block->memory);
	if (result != VK_SUCCESS)
		close(import.fd);
	return result;
}

static int import_memory(struct vulkan_device *device, int dmabuf, uint64_t dmabuf_bytes,
			 uint64_t offset, const VkMemoryPropertyFlags *wanted,
			 struct vulkan_block *block, uint32_t *type)
{
	VkMemoryAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
		.allocationSize = dmabuf_bytes,
	};
	VkMemoryRequirements needs;
	const VkMemoryDedicatedRequirements dedicated = requirements(device, block, &needs);
	const bool must_be_alone = dedicated.requiresDedicatedAllocation || dedicated_only(device);
	const bool alone = must_be_alone || (dedicated.prefersDedicatedAllocation && !offset);
	VkResult result;

	if (!is_aligned(offset, needs.alignment))
		return gds_fail(EINVAL,
				"%s: offset %" PRIu64
				" of a dma-buf must be a multiple of %" PRIu64,
				device->label, offset, (uint64_t)needs.alignment);
	if (!range_fits(offset, needs.size, dmabuf_bytes))
		return gds_fail(EINVAL,
				"%s: a buffer of %" PRIu64 " bytes takes %" PRIu64 " at %" PRIu64
				", and the dma-buf has %" PRIu64,
				device->label, block->bytes, (uint64_t)needs.size, offset,
				dmabuf_bytes);
	if (must_be_alone && offset)
		return gds_fail(ENOTSUP, "%s: its driver imports dma-bufs from their start only",
				device->label);
	*type = find_dmabuf_type(device, dmabuf, needs.memoryTypeBits, wanted);
	if (*type == UINT32_MAX)
		return gds_fail(ENOTSUP, "%s: no memory type takes this dma-buf", device->label);
	if (alone)
		info.allocationSize = needs.size;
	info.memoryTypeIndex = *type;
	result = import_fd(device, dmabuf, alone, &info, block);
	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot import a dma-buf of %" PRIu64 " bytes",
				   device->label, dmabuf_bytes);
	block->allocated_bytes = info.allocationSize;
	return 0;
}

int vulkan_block_import_dmabuf(struct vulkan_device *device, int dmabuf, uint64_t dmabuf_bytes,
			       uint64_t offset, uint64_t bytes, const VkMemoryPropertyFlags *wanted,
			       struct vulkan_block *block, uint32_t *memory_type)
{
	int err = create_buffer(device, bytes, BUFFER_GRAIN,
				VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT, block);

	if (!err)
		err = import_memory(device, dmabuf, dmabuf_bytes, offset, wanted, block,
				    memory_type);
	if (!err)
		err = bind(device, block, offset);
	if (err) {
		vulkan_block_destroy(device, block);
		return err;
	}
	/* A driver may map only what it allocated: then the memory has no address. */
	if (map(device, block, *memory_type))
		gds_info("%s", gds_last_error());
	else if (block->mapping)
		block->mapping = (char *)block->mapping + offset;
	return 0;
}

void vulkan_block_destroy(struct vulkan_device *device, struct vulkan_block *block)
{
	/* Null handles are allowed, and freeing memory ends its mapping. */
	device->calls.vkDestroyBuffer(device->handle, block->buffer, NULL);
	device->calls.vkFreeMemory(device->handle, block->memory, NULL);
	*block = (struct vulkan_block){ 0 };
}
