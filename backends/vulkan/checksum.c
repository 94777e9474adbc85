/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC-32 of device memory. checksum.comp folds each chunk to a 32nd of it that has the
 * same CRC register; here the range is cut into windows that a shader can be bound
 * to, and the registers of the folded chunks are put together with zlib.
 *
 * A register without zlib's inversions before and after it is called raw: it is
 * linear, and zeros before a message do not change it. Zeros behind it do, by a
 * factor that can be divided out again.
 */
#include "vulkan.h"

#include "base/bits.h"
#include "base/error.h"
#include "checksum-code.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

/* As in checksum.comp. */
#define WORD_BYTES 4
#define ROWS_LEFT  32
#define ROWS_CHUNK 1024

/* Work for a large GPU, of which the scratch memory takes the 32nd that is left. */
#define WINDOW_BYTES (UINT64_C(64) << 20)

/* The push constants of checksum.comp. */
struct shader_range {
	uint32_t first;
	uint32_t count;
	uint32_t first_mask;
	uint32_t last_mask;
	uint32_t folded_at;
};

/* Part of the range that is folded by one dispatch. */
struct window {
	struct vulkan_range range;
	uint64_t binding; /* offset of the bound range in the buffer */
	uint64_t head;    /* bytes of the first word before the range */
	uint32_t chunks;
	unsigned part; /* of the scratch memory */
};

static uint64_t chunk_bytes(const struct vulkan_device *device)
{
	return (uint64_t)ROWS_CHUNK * WORD_BYTES * device->checksum.lanes;
}

static uint64_t folded_bytes(const struct vulkan_device *device)
{
	return (uint64_t)ROWS_LEFT * WORD_BYTES * device->checksum.lanes;
}

/*
 * A group is as wide as what the device runs in step: a GPU then reads whole lines,
 * and a CPU, which runs one after the other, goes straight through its memory.
 */
static uint32_t pick_lanes(const struct vulkan_device *device)
{
	uint32_t lanes = device->physical.subgroup_size;

	return lanes >= 4 && lanes <= 64 && (lanes & (lanes - 1)) == 0 ? lanes : 32;
}

static int create_layouts(struct vulkan_device *device)
{
	struct vulkan_checksum *checksum = &device->checksum;
	const VkDescriptorSetLayoutBinding bindings[] = {
		{ 0, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, NULL },
		{ 1, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, NULL },
	};
	const VkDescriptorSetLayoutCreateInfo set_info = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
		.bindingCount = 2,
		.pBindings = bindings,
	};
	const VkPushConstantRange constants = { VK_SHADER_STAGE_COMPUTE_BIT, 0,
						sizeof(struct shader_range) };
	const VkPipelineLayoutCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
		.setLayoutCount = 1,
		.pSetLayouts = &checksum->set_layout,
		.pushConstantRangeCount = 1,
		.pPushConstantRanges = &constants,
	};
	VkResult result = device->calls.vkCreateDescriptorSetLayout(device->handle, &set_info, NULL,
								    &checksum->set_layout);

	if (result == VK_SUCCESS)
		result = device->calls.vkCreatePipelineLayout(device->handle, &info, NULL,
							      &checksum->layout);
	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot lay out the checksum shader", device->label);
	return 0;
}

static int create_pipeline(struct vulkan_device *device)
{
	const VkShaderModuleCreateInfo module_info = {
		.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
		.codeSize = sizeof(checksum_code),
		.pCode = checksum_code,
	};
	const VkSpecializationMapEntry entry = { 0, 0, sizeof(device->checksum.lanes) };
	const VkSpecializationInfo specialization = {
		.mapEntryCount = 1,
		.pMapEntries = &entry,
		.dataSize = sizeof(device->checksum.lanes),
		.pData = &device->checksum.lanes,
	};
	VkComputePipelineCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
		.stage = {
			.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
			.stage = VK_SHADER_STAGE_COMPUTE_BIT,
			.pName = "main",
			.pSpecializationInfo = &specialization,
		},
		.layout = device->checksum.layout,
	};
	VkResult result = device->calls.vkCreateShaderModule(device->handle, &module_info, NULL,
							     &info.stage.module);

	if (result == VK_SUCCESS)
		result = device->calls.vkCreateComputePipelines(
			device->handle, VK_NULL_HANDLE, 1, &info, NULL, &device->checksum.pipeline);
	device->calls.vkDestroyShaderModule(device->handle, info.stage.module, NULL);
	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot compile the checksum shader", device->label);
	return 0;
}

static int create_sets(struct vulkan_device *device)
{
	struct vulkan_checksum *checksum = &device->checksum;
	const VkDescriptorPoolSize size = { VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
					    2 * VULKAN_SCRATCH_PARTS };
	const VkDescriptorPoolCreateInfo pool_info = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
		.maxSets = VULKAN_SCRATCH_PARTS,
		.poolSizeCount = 1,
		.pPoolSizes = &size,
	};
	VkDescriptorSetLayout layouts[VULKAN_SCRATCH_PARTS];
	VkDescriptorSetAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
		.descriptorSetCount = VULKAN_SCRATCH_PARTS,
		.pSetLayouts = layouts,
	};
	VkResult result = device->calls.vkCreateDescriptorPool(device->handle, &pool_info, NULL,
							       &checksum->pool);

	for (unsigned i = 0; i < VULKAN_SCRATCH_PARTS; i++)
		layouts[i] = checksum->set_layout;
	info.descriptorPool = checksum->pool;
	if (result == VK_SUCCESS)
		result = device->calls.vkAllocateDescriptorSets(device->handle, &info,
								checksum->sets);
	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot make descriptors for the checksum",
				   device->label);
	return 0;
}

void vulkan_checksum_stop(struct vulkan_device *device)
{
	struct vulkan_checksum *checksum = &device->checksum;

	device->calls.vkDestroyDescriptorPool(device->handle, checksum->pool, NULL);
	device->calls.vkDestroyPipeline(device->handle, checksum->pipeline, NULL);
	device->calls.vkDestroyPipelineLayout(device->handle, checksum->layout, NULL);
	device->calls.vkDestroyDescriptorSetLayout(device->handle, checksum->set_layout, NULL);
	*checksum = (struct vulkan_checksum){ 0 };
}

static int need_pipeline(struct vulkan_device *device)
{
	int err;

	if (device->checksum.pipeline)
		return 0;
	if (!device->queue_has_compute)
		return gds_fail(ENOTSUP,
				"%s: it cannot compute a checksum, for queue family %u has no "
				"compute: import the device with a queue that has",
				device->label, device->queue_family);
	device->checksum.lanes = pick_lanes(device);
	err = create_layouts(device);
	if (!err)
		err = create_sets(device);
	if (!err)
		err = create_pipeline(device);
	if (err)
		vulkan_checksum_stop(device);
	return err;
}

static struct window make_window(struct vulkan_device *device, struct vulkan_memory *memory,
				 uint64_t offset, uint64_t bytes)
{
	const VkPhysicalDeviceLimits *limits = &device->physical.properties.limits;
	uint64_t alignment = max_u64(limits->minStorageBufferOffsetAlignment, WORD_BYTES);
	/* The binding begins before the range and ends behind it, by less than these. */
	uint64_t most = limits->maxStorageBufferRange - alignment - WORD_BYTES;
	struct window window = {
		.range = vulkan_range(memory, offset, min_u64(bytes, min_u64(most, WINDOW_BYTES))),
	};

	window.binding = align_down(window.range.offset, alignment);
	window.head = window.range.offset % WORD_BYTES;
	window.chunks =
		(window.head + window.range.bytes + chunk_bytes(device) - 1) / chunk_bytes(device);
	return window;
}

/* The words of the window: where the first lies in the binding, and how many there are. */
static void place_words(const struct window *window, struct shader_range *range)
{
	uint64_t start = window->range.offset - window->head;

	range->first = (start - window->binding) / WORD_BYTES;
	range->count = (window->head + window->range.bytes + WORD_BYTES - 1) / WORD_BYTES;
}

/* As bytes, since that is what the message is made of, whatever the CPU's order. */
static void fill_masks(const struct window *window, struct shader_range *range)
{
	unsigned tail = (window->head + window->range.bytes) % WORD_BYTES;

	memset(&range->first_mask, 0xff, WORD_BYTES);
	memset(&range->first_mask, 0, window->head);
	memset(&range->last_mask, 0xff, WORD_BYTES);
	if (tail)
		memset((uint8_t *)&range->last_mask + tail, 0, WORD_BYTES - tail);
}

static void update_set(struct vulkan_device *device, const struct window *window,
		       const struct shader_range *range)
{
	const VkDescriptorBufferInfo buffers[] = {
		{ window->range.block->buffer, window->binding,
		  (uint64_t)(range->first + range->count) * WORD_BYTES },
		{ device->scratch.block.buffer, 0,
		  VULKAN_SCRATCH_PARTS * VULKAN_SCRATCH_PART_BYTES },
	};
	const VkWriteDescriptorSet write = {
		.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
		.dstSet = device->checksum.sets[window->part],
		.descriptorCount = 2,
		.descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
		.pBufferInfo = buffers,
	};

	device->calls.vkUpdateDescriptorSets(device->handle, 1, &write, 0, NULL);
}

static void record_window(struct vulkan_device *device, VkCommandBuffer commands,
			  const struct window *window, const struct shader_range *range)
{
	struct vulkan_checksum *checksum = &device->checksum;

	vulkan_barrier_from_foreign(device, commands, window->range.block);
	vulkan_barrier_from_all(device, commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT);
	device->calls.vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE,
					checksum->pipeline);
	device->calls.vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE,
					      checksum->layout, 0, 1, &checksum->sets[window->part],
					      0, NULL);
	device->calls.vkCmdPushConstants(commands, checksum->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
					 sizeof(*range), range);
	device->calls.vkCmdDispatch(commands, window->chunks, 1, 1);
	vulkan_barrier_to_all(device, commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT);
}

static int start_window(struct vulkan_device *device, const struct window *window)
{
	struct shader_range range = {
		.folded_at = window->part * VULKAN_SCRATCH_PART_BYTES / WORD_BYTES,
	};
	struct vulkan_frame *frame;
	int err;

	place_words(window, &range);
	fill_masks(window, &range);
	update_set(device, window, &range);
	err = vulkan_begin(device, &frame);
	if (err)
		return err;
	record_window(device, frame->commands, window, &range);
	return vulkan_submit(device, frame, &device->scratch.tickets[window->part]);
}

static uint32_t raw_crc(const uint8_t *data, size_t bytes)
{
	return ~(uint32_t)crc32_z(0xffffffff, data, bytes);
}

/* Takes back that a raw register went over `bytes` zeros: x^(2^32 - 1) is 1. */
static uint32_t without_zeros(uint32_t raw, uint64_t bytes)
{
	return bytes ? (uint32_t)crc32_combine(raw, 0, (z_off_t)(UINT32_MAX - bytes)) : raw;
}

/* The raw register of what a window was folded to, zeros at its end included. */
static uint32_t folded_crc(struct vulkan_device *device, const struct window *window)
{
	const uint8_t *folded =
		(uint8_t *)device->scratch.block.mapping + window->part * VULKAN_SCRATCH_PART_BYTES;
	const uLong over_chunk = crc32_combine_gen((z_off_t)chunk_bytes(device));
	const size_t bytes = folded_bytes(device);
	uint32_t raw = 0;

	for (uint32_t i = 0; i < window->chunks; i++)
		raw = (uint32_t)crc32_combine_op(raw, raw_crc(folded + i * bytes, bytes),
						 over_chunk);
	return raw;
}

/* Waits for a window and lets the register go over it. */
static int finish_window(struct vulkan_device *device, const struct window *window,
			 uint32_t *crc_register)
{
	uint64_t zeros = window->chunks * chunk_bytes(device) - window->head - window->range.bytes;
	uint32_t raw;
	int err = vulkan_wait(device, device->scratch.tickets[window->part]);

	if (err)
		return err;
	raw = without_zeros(folded_crc(device, window), zeros);
	*crc_register = (uint32_t)crc32_combine(*crc_register, raw, (z_off_t)window->range.bytes);
	return 0;
}

/* Two windows in turn: while the device folds one, the CPU finishes the other. */
static int run_windows(struct vulkan_device *device, struct vulkan_memory *memory, uint64_t offset,
		       uint64_t bytes, uint32_t *crc_register)
{
	struct window windows[VULKAN_SCRATCH_PARTS];
	unsigned started = 0, finished = 0;
	int err = 0;

	while ((bytes || finished < started) && !err) {
		struct window *window = &windows[started % VULKAN_SCRATCH_PARTS];

		if (!bytes || started - finished == VULKAN_SCRATCH_PARTS) {
			window = &windows[finished++ % VULKAN_SCRATCH_PARTS];
			err = finish_window(device, window, crc_register);
			continue;
		}
		*window = make_window(device, memory, offset, bytes);
		window->part = started++ % VULKAN_SCRATCH_PARTS;
		err = start_window(device, window);
		offset += window->range.bytes;
		bytes -= window->range.bytes;
	}
	if (err)
		vulkan_scratch_settle(device);
	return err;
}

/* How much of the range lies beyond the last whole word of a caller's buffer. */
static uint64_t ragged_bytes(const struct vulkan_memory *memory, uint64_t offset, uint64_t bytes)
{
	uint64_t readable;

	if (!memory->imported)
		return 0;
	readable = align_down(memory->base.bytes, WORD_BYTES);
	if (offset + bytes <= readable)
		return 0;
	return min_u64(bytes, offset + bytes - readable);
}

static int run(struct vulkan_device *device, struct vulkan_memory *memory, uint64_t offset,
	       uint64_t bytes, uint32_t *crc)
{
	const uint64_t ragged = ragged_bytes(memory, offset, bytes);
	uint32_t crc_register = UINT32_MAX;
	uint8_t rest[WORD_BYTES];
	int err = need_pipeline(device);

	if (!err)
		err = vulkan_scratch_need(device);
	if (!err)
		err = run_windows(device, memory, offset, bytes - ragged, &crc_register);
	if (!err && ragged)
		err = vulkan_copy_out_locked(memory, offset + bytes - ragged, rest, ragged);
	if (!err)
		*crc = (uint32_t)crc32_z(~crc_register, rest, ragged);
	return err;
}

int vulkan_checksum(struct backend_memory *base, uint64_t offset, uint64_t bytes, uint32_t *crc)
{
	struct vulkan_device *device = to_vulkan_device(base->device);
	int err;

	pthread_mutex_lock(&device->blocking_lock);
	err = run(device, to_vulkan_memory(base), offset, bytes, crc);
	pthread_mutex_unlock(&device->blocking_lock);
	return err;
}
