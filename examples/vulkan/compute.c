/* SPDX-License-Identifier: Apache-2.0 */
#include "compute.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BINDINGS = 4, MOST_DEVICES = 16, MOST_FAMILIES = 16 };

void compute_check(VkResult result, const char *what)
{
	if (result == VK_SUCCESS)
		return;
	fprintf(stderr, "Vulkan gave error %d for %.*s\n", (int)result, (int)strcspn(what, "("),
		what);
	exit(1);
}

static void create_instance(struct compute *compute)
{
	const VkApplicationInfo application = { .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
						.pApplicationName = "gds example",
						.apiVersion = VK_API_VERSION_1_2 };
	const VkInstanceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
					    .pApplicationInfo = &application };
	const VkResult result = vkCreateInstance(&info, NULL, &compute->instance);

	if (result == VK_ERROR_INCOMPATIBLE_DRIVER) {
		fputs("no Vulkan driver here: install one, such as mesa-vulkan-drivers\n", stderr);
		exit(1);
	}
	VK(result);
}

/* A device that can do what is wanted of it. */
static bool is_able(VkPhysicalDevice physical)
{
	VkPhysicalDeviceVulkan12Features features = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES
	};
	VkPhysicalDeviceFeatures2 all = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
					  .pNext = &features };
	VkPhysicalDeviceProperties properties;

	vkGetPhysicalDeviceProperties(physical, &properties);
	if (properties.apiVersion < VK_API_VERSION_1_2)
		return false;
	vkGetPhysicalDeviceFeatures2(physical, &all);
	return features.timelineSemaphore;
}

static _Noreturn void fail_to_pick(const char *name, const VkPhysicalDevice *devices,
				   uint32_t count)
{
	VkPhysicalDeviceProperties properties;

	fprintf(stderr, "no Vulkan 1.2 device with timeline semaphores%s%s\n",
		name ? " has a name with " : " here", name ? name : "");
	for (uint32_t i = 0; i < count; i++) {
		vkGetPhysicalDeviceProperties(devices[i], &properties);
		fprintf(stderr, "there is: %s\n", properties.deviceName);
	}
	exit(1);
}

static void pick_device(struct compute *compute, const char *name)
{
	VkPhysicalDevice devices[MOST_DEVICES];
	uint32_t count = MOST_DEVICES;

	if (vkEnumeratePhysicalDevices(compute->instance, &count, devices) < 0)
		count = 0;
	for (uint32_t i = 0; i < count; i++) {
		compute->physical = devices[i];
		vkGetPhysicalDeviceProperties(devices[i], &compute->properties);
		if (is_able(devices[i]) &&
		    (!name || strcasestr(compute->properties.deviceName, name)))
			break;
		compute->physical = NULL;
	}
	if (!compute->physical)
		fail_to_pick(name, devices, count);
	vkGetPhysicalDeviceMemoryProperties(compute->physical, &compute->memory);
}

/* The family with compute that has the most queues: gds gets one of its own. */
static void pick_family(struct compute *compute)
{
	VkQueueFamilyProperties families[MOST_FAMILIES];
	uint32_t count = MOST_FAMILIES;

	vkGetPhysicalDeviceQueueFamilyProperties(compute->physical, &count, families);
	for (uint32_t i = 0; i < count; i++) {
		if (!(families[i].queueFlags & VK_QUEUE_COMPUTE_BIT) ||
		    families[i].queueCount <= compute->queue_count)
			continue;
		compute->family = i;
		compute->queue_count = families[i].queueCount;
	}
	if (compute->queue_count > 2)
		compute->queue_count = 2;
}

static void create_device(struct compute *compute)
{
	/* In the order in which they may be left out, the last one first. */
	static const char *const extensions[] = { VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME,
						  VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME,
						  VK_EXT_QUEUE_FAMILY_FOREIGN_EXTENSION_NAME };
	static const float priorities[] = { 1, 1 };
	const VkDeviceQueueCreateInfo queues = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
		.queueFamilyIndex = compute->family,
		.queueCount = compute->queue_count,
		.pQueuePriorities = priorities,
	};
	const VkPhysicalDeviceVulkan12Features features = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
		.timelineSemaphore = VK_TRUE,
	};
	VkDeviceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
		.pNext = &features,
		.queueCreateInfoCount = 1,
		.pQueueCreateInfos = &queues,
		.enabledExtensionCount = 3,
		.ppEnabledExtensionNames = extensions,
	};
	VkResult result;

	while ((result = vkCreateDevice(compute->physical, &info, NULL, &compute->device)) ==
		       VK_ERROR_EXTENSION_NOT_PRESENT &&
	       info.enabledExtensionCount > 0)
		info.enabledExtensionCount--;
	VK(result);
	compute->dma_buf = info.enabledExtensionCount >= 2;
	compute->foreign = info.enabledExtensionCount == 3;
	vkGetDeviceQueue(compute->device, compute->family, 0, &compute->queue);
	vkGetDeviceQueue(compute->device, compute->family, compute->queue_count - 1,
			 &compute->gds_queue);
}

static void create_objects(struct compute *compute)
{
	const VkSemaphoreTypeCreateInfo type = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
		.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE
	};
	const VkSemaphoreCreateInfo semaphore = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
						  .pNext = &type };
	const VkCommandPoolCreateInfo pool = { .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
					       .queueFamilyIndex = compute->family };
	VkCommandBufferAllocateInfo commands = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
		.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
		.commandBufferCount = 1,
	};

	VK(vkCreateSemaphore(compute->device, &semaphore, NULL, &compute->timeline));
	VK(vkCreateCommandPool(compute->device, &pool, NULL, &compute->pool));
	commands.commandPool = compute->pool;
	VK(vkAllocateCommandBuffers(compute->device, &commands, &compute->commands));
}

void compute_open(struct compute *compute, const char *name)
{
	memset(compute, 0, sizeof(*compute));
	create_instance(compute);
	pick_device(compute, name);
	pick_family(compute);
	create_device(compute);
	create_objects(compute);
}

void compute_close(struct compute *compute)
{
	vkDestroyCommandPool(compute->device, compute->pool, NULL);
	vkDestroySemaphore(compute->device, compute->timeline, NULL);
	vkDestroyDevice(compute->device, NULL);
	vkDestroyInstance(compute->instance, NULL);
}

struct gds_vulkan_device compute_describe(const struct compute *compute)
{
	return (struct gds_vulkan_device){
		.size = sizeof(struct gds_vulkan_device),
		.get_instance_proc_addr = (void *)vkGetInstanceProcAddr,
		.instance = compute->instance,
		.physical_device = compute->physical,
		.device = compute->device,
		.queue = compute->gds_queue,
		.queue_family = compute->family,
		.has_external_memory_dma_buf = compute->dma_buf,
		.has_queue_family_foreign = compute->foreign,
	};
}

static void create_layouts(const struct compute *compute, struct compute_shader *shader,
			   uint32_t count, uint32_t constant_bytes)
{
	VkDescriptorSetLayoutBinding bindings[MOST_BINDINGS];
	const VkDescriptorSetLayoutCreateInfo set_info = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
		.bindingCount = count,
		.pBindings = bindings,
	};
	const VkPushConstantRange constants = { VK_SHADER_STAGE_COMPUTE_BIT, 0, constant_bytes };
	VkPipelineLayoutCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
		.setLayoutCount = 1,
		.pushConstantRangeCount = constant_bytes > 0,
		.pPushConstantRanges = &constants,
	};

	for (uint32_t i = 0; i < count; i++)
		bindings[i] =
			(VkDescriptorSetLayoutBinding){ i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1,
							VK_SHADER_STAGE_COMPUTE_BIT, NULL };
	VK(vkCreateDescriptorSetLayout(compute->device, &set_info, NULL, &shader->set_layout));
	info.pSetLayouts = &shader->set_layout;
	VK(vkCreatePipelineLayout(compute->device, &info, NULL, &shader->layout));
}

static void create_pipeline(const struct compute *compute, struct compute_shader *shader,
			    const uint32_t *code, size_t code_bytes)
{
	const VkShaderModuleCreateInfo module = {
		.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
		.codeSize = code_bytes,
		.pCode = code,
	};
	VkComputePipelineCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
		.stage = { .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
			   .stage = VK_SHADER_STAGE_COMPUTE_BIT,
			   .pName = "main" },
		.layout = shader->layout,
	};

	VK(vkCreateShaderModule(compute->device, &module, NULL, &info.stage.module));
	VK(vkCreateComputePipelines(compute->device, VK_NULL_HANDLE, 1, &info, NULL,
				    &shader->pipeline));
	vkDestroyShaderModule(compute->device, info.stage.module, NULL);
}

static void bind(const struct compute *compute, struct compute_shader *shader,
		 const struct compute_binding *bindings, uint32_t count)
{
	const VkDescriptorPoolSize size = { VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, count };
	const VkDescriptorPoolCreateInfo pool = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
		.maxSets = 1,
		.poolSizeCount = 1,
		.pPoolSizes = &size,
	};
	VkDescriptorSetAllocateInfo set = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
		.descriptorSetCount = 1,
		.pSetLayouts = &shader->set_layout,
	};

	VK(vkCreateDescriptorPool(compute->device, &pool, NULL, &shader->pool));
	set.descriptorPool = shader->pool;
	VK(vkAllocateDescriptorSets(compute->device, &set, &shader->set));
	for (uint32_t i = 0; i < count; i++) {
		const VkDescriptorBufferInfo buffer = { bindings[i].buffer, bindings[i].offset,
							bindings[i].bytes };
		const VkWriteDescriptorSet write = {
			.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
			.dstSet = shader->set,
			.dstBinding = i,
			.descriptorCount = 1,
			.descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
			.pBufferInfo = &buffer,
		};

		vkUpdateDescriptorSets(compute->device, 1, &write, 0, NULL);
	}
}

void compute_shader_create(const struct compute *compute, struct compute_shader *shader,
			   const uint32_t *code, size_t code_bytes,
			   const struct compute_binding *bindings, uint32_t count,
			   uint32_t constant_bytes)
{
	create_layouts(compute, shader, count, constant_bytes);
	create_pipeline(compute, shader, code, code_bytes);
	bind(compute, shader, bindings, count);
}

void compute_shader_destroy(const struct compute *compute, struct compute_shader *shader)
{
	vkDestroyDescriptorPool(compute->device, shader->pool, NULL);
	vkDestroyPipeline(compute->device, shader->pipeline, NULL);
	vkDestroyPipelineLayout(compute->device, shader->layout, NULL);
	vkDestroyDescriptorSetLayout(compute->device, shader->set_layout, NULL);
}

void compute_begin(const struct compute *compute, const struct compute_shader *shader)
{
	const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
		.flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
	};

	VK(vkBeginCommandBuffer(compute->commands, &begin));
	vkCmdBindPipeline(compute->commands, VK_PIPELINE_BIND_POINT_COMPUTE, shader->pipeline);
	vkCmdBindDescriptorSets(compute->commands, VK_PIPELINE_BIND_POINT_COMPUTE, shader->layout,
				0, 1, &shader->set, 0, NULL);
}

void compute_submit(const struct compute *compute, VkPipelineStageFlags stage, uint64_t wait,
		    uint64_t signal)
{
	const VkTimelineSemaphoreSubmitInfo values = {
		.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
		.waitSemaphoreValueCount = 1,
		.pWaitSemaphoreValues = &wait,
		.signalSemaphoreValueCount = 1,
		.pSignalSemaphoreValues = &signal,
	};
	const VkSubmitInfo submit = {
		.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
		.pNext = &values,
		.waitSemaphoreCount = 1,
		.pWaitSemaphores = &compute->timeline,
		.pWaitDstStageMask = &stage,
		.commandBufferCount = 1,
		.pCommandBuffers = &compute->commands,
		.signalSemaphoreCount = 1,
		.pSignalSemaphores = &compute->timeline,
	};

	VK(vkEndCommandBuffer(compute->commands));
	VK(vkQueueSubmit(compute->queue, 1, &submit, VK_NULL_HANDLE));
}

void compute_wait(const struct compute *compute, uint64_t value)
{
	const VkSemaphoreWaitInfo info = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
					   .semaphoreCount = 1,
					   .pSemaphores = &compute->timeline,
					   .pValues = &value };

	VK(vkWaitSemaphores(compute->device, &info, UINT64_MAX));
}
