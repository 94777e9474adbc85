/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers with memory of their own: allocated from a heap, or over host pages. */
#include "vulkan.h"

#include "base/bits.h"
#include "base/error.h"

#include <errno.h>
#include <inttypes.h>

/* The checksum reads whole words of this size, also at the end of a buffer. */
#define BUFFER_GRAIN 4

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

static int create_buffer(struct vulkan_device *device, uint64_t bytes,
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
		.size = align_up(bytes, BUFFER_GRAIN),
		.usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT |
			 VK_BUFFER_USAGE_STORAGE_BUFFER_BIT,
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
	return 0;
}

static int bind(struct vulkan_device *device, struct vulkan_block *block)
{
	VkResult result =
		device->calls.vkBindBufferMemory(device->handle, block->buffer, block->memory, 0);

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
	err = create_buffer(device, bytes, VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT,
			    block);
	if (!err)
		err = import_pages(device, pages, bytes, block, memory_type);
	if (!err)
		err = bind(device, block);
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

static int alloc_memory(struct vulkan_device *device, uint64_t total,
			const VkMemoryPropertyFlags *wanted, struct vulkan_block *block,
			uint32_t *type)
{
	VkMemoryAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO };
	VkMemoryRequirements needs;
	VkResult result;
	uint32_t heap;

	device->calls.vkGetBufferMemoryRequirements(device->handle, block->buffer, &needs);
	do {
		*type = find_type(device, needs.memoryTypeBits, *wanted);
	} while (*type == UINT32_MAX && *wanted++);
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
		       const VkMemoryPropertyFlags *wanted, struct vulkan_block *block,
		       uint32_t *memory_type)
{
	int err = create_buffer(device, bytes, 0, block);

	if (!err)
		err = alloc_memory(device, total, wanted, block, memory_type);
	if (!err)
		err = bind(device, block);
	if (!err)
		err = map(device, block, *memory_type);
	if (err)
		vulkan_block_destroy(device, block);
	return err;
}

void vulkan_block_destroy(struct vulkan_device *device, struct vulkan_block *block)
{
	/* Null handles are allowed, and freeing memory ends its mapping. */
	device->calls.vkDestroyBuffer(device->handle, block->buffer, NULL);
	device->calls.vkFreeMemory(device->handle, block->memory, NULL);
	*block = (struct vulkan_block){ 0 };
}
