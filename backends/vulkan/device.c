/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a device of our own, or taking a caller's, and saying what it is. */
#include "vulkan.h"

#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* volk fills tables through one global pointer. */
static pthread_mutex_t volk_lock = PTHREAD_MUTEX_INITIALIZER;

static void load_calls(struct vulkan_device *device)
{
	struct VolkDeviceTable *calls = &device->calls;

	pthread_mutex_lock(&volk_lock);
	vkGetDeviceProcAddr = device->instance.GetDeviceProcAddr;
	volkLoadDeviceTable(calls, device->handle);
	pthread_mutex_unlock(&volk_lock);
	device->get_counter = calls->vkGetSemaphoreCounterValue
				      ? calls->vkGetSemaphoreCounterValue
				      : calls->vkGetSemaphoreCounterValueKHR;
	device->wait_semaphores =
		calls->vkWaitSemaphores ? calls->vkWaitSemaphores : calls->vkWaitSemaphoresKHR;
	device->signal_semaphore =
		calls->vkSignalSemaphore ? calls->vkSignalSemaphore : calls->vkSignalSemaphoreKHR;
}

static int check_calls(struct vulkan_device *device)
{
	if (!device->get_counter || !device->wait_semaphores || !device->signal_semaphore)
		return gds_fail(ENOTSUP, "%s: timelineSemaphore is not enabled on it",
				device->label);
	if (device->physical.external_memory_host &&
	    (!device->calls.vkGetMemoryHostPointerPropertiesEXT ||
	     !device->physical.host_pointer_alignment))
		device->physical.external_memory_host = false;
	if (!device->calls.vkGetMemoryFdKHR || !device->calls.vkGetMemoryFdPropertiesKHR)
		device->physical.external_memory_dma_buf = false;
	return 0;
}

static struct vulkan_device *new_device(void)
{
	struct vulkan_device *device = calloc(1, sizeof(*device));

	if (!device) {
		gds_fail_errno(ENOMEM, "cannot open a Vulkan device");
		return NULL;
	}
	device->base.ops = &backend_vulkan;
	device->slice_bytes = SLICE_BYTES;
	pthread_mutex_init(&device->lock, NULL);
	pthread_mutex_init(&device->blocking_lock, NULL);
	return device;
}

static void delete_device(struct vulkan_device *device)
{
	pthread_mutex_destroy(&device->blocking_lock);
	pthread_mutex_destroy(&device->lock);
	free(device->pieces.list);
	free(device->pieces.regions);
	free(device);
}

static void set_names(struct vulkan_device *device, const char *which)
{
	VkPhysicalDeviceType type = device->physical.properties.deviceType;

	device->unified = type == VK_PHYSICAL_DEVICE_TYPE_CPU ||
			  type == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
	gds_text_set(device->name, sizeof(device->name), "vulkan:%.8s", which);
	gds_text_set(device->label, sizeof(device->label), "%s (%.70s)", device->name,
		     device->physical.properties.deviceName);
}

static int create_device(struct vulkan_device *device)
{
	const struct vulkan_physical *physical = &device->physical;
	const float priority = 1;
	const VkDeviceQueueCreateInfo queue = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
		.queueFamilyIndex = physical->queue_family,
		.queueCount = 1,
		.pQueuePriorities = &priority,
	};
	const VkPhysicalDeviceTimelineSemaphoreFeatures timeline = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES,
		.timelineSemaphore = VK_TRUE,
	};
	const char *extensions[5];
	VkDeviceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
		.pNext = &timeline,
		.queueCreateInfoCount = 1,
		.pQueueCreateInfos = &queue,
		.ppEnabledExtensionNames = extensions,
	};
	VkResult result;

	if (!physical->timeline_core)
		extensions[info.enabledExtensionCount++] = VK_KHR_TIMELINE_SEMAPHORE_EXTENSION_NAME;
	if (physical->external_memory_host)
		extensions[info.enabledExtensionCount++] =
			VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME;
	if (physical->external_memory_dma_buf) {
		extensions[info.enabledExtensionCount++] = VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME;
		extensions[info.enabledExtensionCount++] =
			VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME;
	}
	if (physical->queue_family_foreign)
		extensions[info.enabledExtensionCount++] =
			VK_EXT_QUEUE_FAMILY_FOREIGN_EXTENSION_NAME;
	result = device->instance.CreateDevice(physical->handle, &info, NULL, &device->handle);
	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot make a Vulkan device", device->label);
	return 0;
}

static int pick(struct vulkan_device *device, const char *selector)
{
	const struct vulkan_physical *picked;
	struct vulkan_physical *list;
	char index[16];
	uint32_t count;
	int err = vulkan_physical_list(&device->instance, &list, &count);

	if (err)
		return err;
	err = vulkan_physical_pick(list, count, selector, &picked);
	if (!err) {
		device->physical = *picked;
		snprintf(index, sizeof(index), "%u", picked->index);
		set_names(device, index);
	}
	free(list);
	return err;
}

/* Everything above the VkDevice, whoever made that. */
static int start(struct vulkan_device *device)
{
	int err = check_calls(device);

	if (err)
		return err;
	vulkan_dmabuf_start(device);
	return vulkan_commands_start(device);
}

static int start_owned(struct vulkan_device *device, const char *selector)
{
	int err;

	err = pick(device, selector);
	if (err)
		return err;
	err = create_device(device);
	if (err)
		return err;
	load_calls(device);
	device->queue_family = device->physical.queue_family;
	device->queue_has_compute = true;
	device->calls.vkGetDeviceQueue(device->handle, device->queue_family, 0, &device->queue);
	return start(device);
}

/* Also of a device whose start failed at any point. */
static void stop(struct vulkan_device *device)
{
	if (device->handle) {
		vulkan_commands_stop(device);
		vulkan_checksum_stop(device);
		vulkan_block_destroy(device, &device->scratch.block);
	}
	if (!device->owned)
		return;
	if (device->handle)
		device->calls.vkDestroyDevice(device->handle, NULL);
	vulkan_instance_close(&device->instance);
}

int vulkan_open(struct backend_device **result, const char *selector)
{
	struct vulkan_device *device = new_device();
	int err;

	if (!device)
		return -ENOMEM;
	err = vulkan_instance_open(&device->instance);
	if (err) {
		delete_device(device);
		return err;
	}
	device->owned = true;
	err = start_owned(device, selector);
	if (err) {
		stop(device);
		delete_device(device);
		return err;
	}
	*result = &device->base;
	return 0;
}

void vulkan_close(struct backend_device *base)
{
	struct vulkan_device *device = to_vulkan_device(base);

	stop(device);
	delete_device(device);
}

static bool family_has_compute(struct vulkan_device *device, uint32_t family)
{
	VkQueueFamilyProperties families[32];
	uint32_t count = 32;

	device->instance.GetPhysicalDeviceQueueFamilyProperties(device->physical.handle, &count,
								families);
	return family < count && (families[family].queueFlags & VK_QUEUE_COMPUTE_BIT);
}

static int adopt(struct vulkan_device *device, const struct gds_vulkan_device *vulkan)
{
	int err = vulkan_instance_adopt(&device->instance, vulkan->instance,
					(PFN_vkGetInstanceProcAddr)vulkan->get_instance_proc_addr);

	if (err)
		return err;
	vulkan_physical_describe(&device->instance, vulkan->physical_device, &device->physical);
	if (!vulkan->has_external_memory_host)
		device->physical.external_memory_host = false;
	if (!vulkan->has_external_memory_dma_buf)
		device->physical.external_memory_dma_buf = false;
	if (!vulkan->has_queue_family_foreign)
		device->physical.queue_family_foreign = false;
	set_names(device, "import");
	if (vulkan->queue_family >= device->physical.family_count)
		return gds_fail(EINVAL, "%s: there is no queue family %u: the device has %u",
				device->label, vulkan->queue_family, device->physical.family_count);
	device->handle = vulkan->device;
	device->queue = vulkan->queue;
	device->queue_family = vulkan->queue_family;
	device->queue_has_compute = family_has_compute(device, vulkan->queue_family);
	device->queue_lock = vulkan->lock;
	device->queue_unlock = vulkan->unlock;
	device->queue_user = vulkan->user;
	load_calls(device);
	return start(device);
}

int backend_vulkan_import_device(const struct gds_vulkan_device *vulkan,
				 struct backend_device **result)
{
	struct vulkan_device *device;
	int err;

	if (!vulkan->instance || !vulkan->physical_device || !vulkan->device || !vulkan->queue)
		return gds_fail(EINVAL, "an imported Vulkan device needs its instance, physical "
					"device, device and queue");
	if (!vulkan->lock != !vulkan->unlock)
		return gds_fail(EINVAL, "an imported Vulkan device needs lock and unlock, or "
					"neither of them");
	device = new_device();
	if (!device)
		return -ENOMEM;
	err = adopt(device, vulkan);
	if (err) {
		stop(device);
		delete_device(device);
		return err;
	}
	*result = &device->base;
	return 0;
}

int backend_vulkan_signal(struct backend_device *base, uint64_t semaphore, uint64_t value)
{
	struct vulkan_device *device = to_vulkan_device(base);
	const VkSemaphoreSignalInfo info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
		.semaphore = (VkSemaphore)(uintptr_t)semaphore,
		.value = value,
	};
	VkResult result;

	if (base->ops != &backend_vulkan)
		return gds_fail(ENOTSUP, "a %s device has no semaphores to signal",
				base->ops->name);
	result = device->signal_semaphore(device->handle, &info);
	if (result != VK_SUCCESS)
		return vulkan_fail(result, "%s: cannot signal a semaphore", device->label);
	return 0;
}

static uint64_t local_bytes(const VkPhysicalDeviceMemoryProperties *memory)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < memory->memoryHeapCount; i++)
		if (memory->memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)
			bytes += memory->memoryHeaps[i].size;
	return bytes;
}

static void fill_info(const struct vulkan_physical *physical, struct gds_device_info *info)
{
	VkPhysicalDeviceType type = physical->properties.deviceType;

	gds_text_set(info->description, sizeof(info->description), "%s",
		     physical->properties.deviceName);
	gds_text_set(info->driver, sizeof(info->driver), "%s", physical->driver);
	gds_text_set(info->pci, sizeof(info->pci), "%s", physical->pci);
	info->memory_bytes = local_bytes(&physical->memory);
	info->unified = type == VK_PHYSICAL_DEVICE_TYPE_CPU ||
			type == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
}

void vulkan_info(struct backend_device *base, struct gds_device_info *info)
{
	struct vulkan_device *device = to_vulkan_device(base);

	gds_text_set(info->name, sizeof(info->name), "%s", device->name);
	fill_info(&device->physical, info);
}

static int list_one(const struct vulkan_physical *physical,
		    int (*visit)(const char *backend, const struct gds_device_info *info,
				 const char *reason, void *user),
		    void *user)
{
	struct gds_device_info info = { .size = sizeof(info) };
	char reason[GDS_ERROR_BYTES];

	if (physical->unfit) {
		gds_text_set(reason, sizeof(reason), "device %u (%s) cannot be used: %s",
			     physical->index, physical->properties.deviceName, physical->unfit);
		return visit("vulkan", NULL, reason, user);
	}
	gds_text_set(info.name, sizeof(info.name), "vulkan:%u", physical->index);
	fill_info(physical, &info);
	return visit("vulkan", &info, NULL, user);
}

int vulkan_list(int (*visit)(const char *backend, const struct gds_device_info *info,
			     const char *reason, void *user),
		void *user)
{
	struct vulkan_instance instance;
	struct vulkan_physical *list;
	char reason[GDS_ERROR_BYTES];
	uint32_t count;
	int result = vulkan_instance_open(&instance);

	if (result) {
		gds_text_set(reason, sizeof(reason), "%s", gds_last_error());
		return visit("vulkan", NULL, reason, user);
	}
	result = vulkan_physical_list(&instance, &list, &count);
	if (result) {
		gds_text_set(reason, sizeof(reason), "%s", gds_last_error());
		result = visit("vulkan", NULL, reason, user);
	}
	for (uint32_t i = 0; list && i < count && !result; i++)
		result = list_one(&list[i], visit, user);
	free(list);
	vulkan_instance_close(&instance);
	return result;
}
