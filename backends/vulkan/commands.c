/* SPDX-License-Identifier: Apache-2.0 */
/* Command buffers, the queue, and the timeline semaphore that counts submissions. */
#include "vulkan.h"

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>

/* Long enough for any copy: beyond it a user wants to know what is waited for. */
#define PATIENCE_NS UINT64_C(10000000000)

static int create_timeline(struct vulkan_device *device)
{
	const VkSemaphoreTypeCreateInfo type = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
		.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE,
	};
	const VkSemaphoreCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
		.pNext = &type,
	};
	VkResult result =
		device->calls.vkCreateSemaphore(device->handle, &info, NULL, &device->timeline);

	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot make a timeline semaphore", device->label);
	return 0;
}

int vulkan_commands_start(struct vulkan_device *device)
{
	const VkCommandPoolCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
		.flags = VK_COMMAND_POOL_CREATE_TRANSIENT_BIT |
			 VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
		.queueFamilyIndex = device->queue_family,
	};
	VkResult result;
	int err = create_timeline(device);

	if (err)
		return err;
	result = device->calls.vkCreateCommandPool(device->handle, &info, NULL, &device->pool);
	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot make a command pool", device->label);
	return 0;
}

/* Takes a device whose start failed half-way: destroying null handles is allowed. */
void vulkan_commands_stop(struct vulkan_device *device)
{
	if (device->submitted)
		vulkan_wait(device, device->submitted);
	device->calls.vkDestroyCommandPool(device->handle, device->pool, NULL);
	device->calls.vkDestroySemaphore(device->handle, device->timeline, NULL);
}

static int add_frame(struct vulkan_device *device, struct vulkan_frame **frame)
{
	struct vulkan_frame *added = &device->frames[device->frame_count];
	const VkCommandBufferAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
		.commandPool = device->pool,
		.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
		.commandBufferCount = 1,
	};
	VkResult result =
		device->calls.vkAllocateCommandBuffers(device->handle, &info, &added->commands);

	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot make a command buffer", device->label);
	device->frame_count++;
	*frame = added;
	return 0;
}

static struct vulkan_frame *oldest_frame(struct vulkan_device *device)
{
	struct vulkan_frame *oldest = &device->frames[0];

	for (size_t i = 1; i < device->frame_count; i++)
		if (device->frames[i].ticket < oldest->ticket)
			oldest = &device->frames[i];
	return oldest;
}

/* A frame that the device is done with: an old one, a new one, or by waiting. */
static int next_frame(struct vulkan_device *device, struct vulkan_frame **frame)
{
	uint64_t done;
	int err;

	if (device->frame_count > 0) {
		*frame = oldest_frame(device);
		err = vulkan_copied(&device->base, (*frame)->ticket, 0, &done);
		if (err || (*frame)->ticket <= done)
			return err;
	}
	if (device->frame_count < VULKAN_FRAMES_MAX)
		return add_frame(device, frame);
	return vulkan_wait(device, (*frame)->ticket);
}

int vulkan_begin(struct vulkan_device *device, struct vulkan_frame **frame)
{
	const VkCommandBufferBeginInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
		.flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
	};
	VkResult result;
	int err;

	pthread_mutex_lock(&device->lock);
	device->recording++;
	err = next_frame(device, frame);
	if (!err) {
		result = device->calls.vkBeginCommandBuffer((*frame)->commands, &info);
		if (result != VK_SUCCESS)
			err = vulkan_fail(result, "%s: cannot record commands", device->label);
	}
	if (err)
		pthread_mutex_unlock(&device->lock);
	return err;
}

static VkResult queue_submit(struct vulkan_device *device, VkCommandBuffer commands,
			     uint64_t ticket)
{
	const VkTimelineSemaphoreSubmitInfo timeline = {
		.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
		.signalSemaphoreValueCount = 1,
		.pSignalSemaphoreValues = &ticket,
	};
	const VkSubmitInfo submit = {
		.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
		.pNext = &timeline,
		.commandBufferCount = 1,
		.pCommandBuffers = &commands,
		.signalSemaphoreCount = 1,
		.pSignalSemaphores = &device->timeline,
	};
	VkResult result;

	if (device->queue_lock)
		device->queue_lock(device->queue_user);
	result = device->calls.vkQueueSubmit(device->queue, 1, &submit, VK_NULL_HANDLE);
	if (device->queue_unlock)
		device->queue_unlock(device->queue_user);
	return result;
}

int vulkan_submit(struct vulkan_device *device, struct vulkan_frame *frame, uint64_t *ticket)
{
	VkResult result = device->calls.vkEndCommandBuffer(frame->commands);
	int err = 0;

	if (result == VK_SUCCESS)
		result = queue_submit(device, frame->commands, device->submitted + 1);
	if (result == VK_SUCCESS)
		*ticket = frame->ticket = ++device->submitted;
	else
		err = vulkan_fail(result, "%s: cannot submit commands", device->label);
	pthread_mutex_unlock(&device->lock);
	return err;
}

void vulkan_abandon(struct vulkan_device *device, struct vulkan_frame *frame)
{
	/* The next use of the frame begins it anew. */
	device->calls.vkEndCommandBuffer(frame->commands);
	pthread_mutex_unlock(&device->lock);
}

static void barrier(struct vulkan_device *device, VkCommandBuffer commands,
		    VkPipelineStageFlags from_stage, VkAccessFlags from,
		    VkPipelineStageFlags to_stage, VkAccessFlags to)
{
	const VkMemoryBarrier memory = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
		.srcAccessMask = from,
		.dstAccessMask = to,
	};

	device->calls.vkCmdPipelineBarrier(commands, from_stage, to_stage, 0, 1, &memory, 0, NULL,
					   0, NULL);
}

void vulkan_barrier_from_host(struct vulkan_device *device, VkCommandBuffer commands,
			      VkPipelineStageFlags stage)
{
	barrier(device, commands, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_WRITE_BIT, stage,
		VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT);
}

void vulkan_barrier_from_all(struct vulkan_device *device, VkCommandBuffer commands,
			     VkPipelineStageFlags stage)
{
	barrier(device, commands, VK_PIPELINE_STAGE_ALL_COMMANDS_BIT | VK_PIPELINE_STAGE_HOST_BIT,
		VK_ACCESS_MEMORY_WRITE_BIT | VK_ACCESS_HOST_WRITE_BIT, stage,
		VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT);
}

void vulkan_barrier_to_all(struct vulkan_device *device, VkCommandBuffer commands,
			   VkPipelineStageFlags stage)
{
	barrier(device, commands, stage, VK_ACCESS_MEMORY_WRITE_BIT,
		VK_PIPELINE_STAGE_ALL_COMMANDS_BIT | VK_PIPELINE_STAGE_HOST_BIT,
		VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT | VK_ACCESS_HOST_READ_BIT);
}

/*
 * Ownership comes from the other device and goes to our queue, as the standard has it
 * for memory that is shared. It is not handed over before: what the GPU wrote was made
 * available to everyone by the barrier at the end of each submission.
 */
void vulkan_barrier_from_foreign(struct vulkan_device *device, VkCommandBuffer commands,
				 struct vulkan_block *block)
{
	const VkBufferMemoryBarrier memory = {
		.sType = VK_STRUCTURE_TYPE_BUFFER_MEMORY_BARRIER,
		.dstAccessMask = VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT,
		.srcQueueFamilyIndex = device->foreign_family,
		.dstQueueFamilyIndex =
			block->concurrent ? VK_QUEUE_FAMILY_IGNORED : device->queue_family,
		.buffer = block->buffer,
		.size = VK_WHOLE_SIZE,
	};

	if (!atomic_load(&block->foreign) || block->acquired == device->recording)
		return;
	block->acquired = device->recording;
	device->calls.vkCmdPipelineBarrier(commands, VK_PIPELINE_STAGE_ALL_COMMANDS_BIT,
					   VK_PIPELINE_STAGE_ALL_COMMANDS_BIT, 0, 0, NULL, 1,
					   &memory, 0, NULL);
}

void vulkan_acquire_range(struct vulkan_device *device, VkCommandBuffer commands,
			  struct vulkan_memory *memory, uint64_t offset, uint64_t bytes)
{
	struct vulkan_range range;

	for (; bytes; offset += range.bytes, bytes -= range.bytes) {
		range = vulkan_range(memory, offset, bytes);
		vulkan_barrier_from_foreign(device, commands, range.block);
	}
}

int vulkan_copied(struct backend_device *base, uint64_t ticket, uint64_t timeout_ns, uint64_t *done)
{
	struct vulkan_device *device = to_vulkan_device(base);
	const VkSemaphoreWaitInfo wait = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
		.semaphoreCount = 1,
		.pSemaphores = &device->timeline,
		.pValues = &ticket,
	};
	VkResult result = device->get_counter(device->handle, device->timeline, done);

	if (result == VK_SUCCESS && *done < ticket && timeout_ns > 0) {
		result = device->wait_semaphores(device->handle, &wait, timeout_ns);
		if (result == VK_SUCCESS || result == VK_TIMEOUT)
			result = device->get_counter(device->handle, device->timeline, done);
	}
	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot wait for its copies", device->label);
	return 0;
}

int vulkan_wait(struct vulkan_device *device, uint64_t ticket)
{
	uint64_t done = 0;
	int err;

	for (;;) {
		err = vulkan_copied(&device->base, ticket, PATIENCE_NS, &done);
		if (err || done >= ticket)
			return err;
		gds_warn("%s: still waiting for copy %" PRIu64
			 ": its queue may be blocked by other work",
			 device->label, ticket);
	}
}

void vulkan_wait_last(struct vulkan_device *device, const uint64_t *ticket)
{
	uint64_t last;

	pthread_mutex_lock(&device->lock);
	last = min_u64(*ticket, device->submitted);
	pthread_mutex_unlock(&device->lock);
	vulkan_wait(device, last);
}
