// SPDX-License-Identifier: GPL-2.0-only
/* Memory of a Vulkan device on the CPU (lavapipe), allocated for export. */
#include "exporters.h"
#include "test.h"

#ifndef HAVE_VULKAN

static void vulkan_open(struct memory *memory)
{
	(void)memory;
	test_skip("built without the Vulkan headers (libvulkan-dev)");
}

#else

#define VK_NO_PROTOTYPES
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>
#include <vulkan/vulkan.h>

static PFN_vkGetInstanceProcAddr get_instance_function;

#define INSTANCE_FUNCTION(instance, name) ((PFN_##name)get_instance_function(instance, #name))

static VkInstance create_instance(void)
{
	const VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
					       .apiVersion = VK_API_VERSION_1_1};
	const VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
					   .pApplicationInfo = &application};
	void *loader = dlopen("libvulkan.so.1", RTLD_NOW);
	VkInstance instance;
	void *symbol;

	if (!loader)
		test_skip("no Vulkan loader: %s", dlerror());
	symbol = dlsym(loader, "vkGetInstanceProcAddr");
	memcpy(&get_instance_function, &symbol, sizeof(symbol));
	if (INSTANCE_FUNCTION(NULL, vkCreateInstance)(&info, NULL, &instance) != VK_SUCCESS)
		test_skip("no Vulkan driver");
	return instance;
}

static bool exports_dmabufs(VkInstance instance, VkPhysicalDevice device)
{
	VkExtensionProperties extensions[512];
	uint32_t count = sizeof(extensions) / sizeof(*extensions);
	uint32_t i;

	INSTANCE_FUNCTION(instance, vkEnumerateDeviceExtensionProperties)(device, NULL, &count, extensions);
	for (i = 0; i < count; i++) {
		if (strcmp(extensions[i].extensionName,
			   VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME) == 0)
			return true;
	}
	return false;
}

static VkPhysicalDevice choose_device(VkInstance instance)
{
	VkPhysicalDevice devices[8];
	uint32_t count = sizeof(devices) / sizeof(*devices);
	uint32_t i;

	INSTANCE_FUNCTION(instance, vkEnumeratePhysicalDevices)(instance, &count, devices);
	for (i = 0; i < count; i++) {
		if (exports_dmabufs(instance, devices[i]))
			return devices[i];
	}
	test_skip("no Vulkan device with VK_EXT_external_memory_dma_buf");
}

static VkDevice create_device(VkInstance instance, VkPhysicalDevice physical)
{
	const char *const extensions[] = {VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME,
					  VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME};
	const float priority = 1;
	const VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
					       .queueCount = 1,
					       .pQueuePriorities = &priority};
	const VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
					 .queueCreateInfoCount = 1,
					 .pQueueCreateInfos = &queue,
					 .enabledExtensionCount = 2,
					 .ppEnabledExtensionNames = extensions};
	VkDevice device;

	CHECK(INSTANCE_FUNCTION(instance, vkCreateDevice)(physical, &info, NULL, &device) ==
		      VK_SUCCESS,
	      "vkCreateDevice failed");
	return device;
}

static uint32_t visible_type(VkInstance instance, VkPhysicalDevice physical)
{
	VkPhysicalDeviceMemoryProperties properties;
	uint32_t i;

	INSTANCE_FUNCTION(instance, vkGetPhysicalDeviceMemoryProperties)(physical, &properties);
	for (i = 0; i < properties.memoryTypeCount; i++) {
		if (properties.memoryTypes[i].propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT)
			return i;
	}
	test_skip("no host-visible Vulkan memory");
}

/* Device and instance stay alive until the process ends: so does the memory. */
static void vulkan_open(struct memory *memory)
{
	const VkExportMemoryAllocateInfo export = {
		.sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO,
		.handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT};
	VkMemoryAllocateInfo allocation = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
					   .pNext = &export,
					   .allocationSize = memory->bytes};
	VkMemoryGetFdInfoKHR request = {.sType = VK_STRUCTURE_TYPE_MEMORY_GET_FD_INFO_KHR,
					.handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT};
	VkInstance instance = create_instance();
	VkPhysicalDevice physical = choose_device(instance);
	VkDevice device = create_device(instance, physical);
	PFN_vkGetDeviceProcAddr device_function = INSTANCE_FUNCTION(instance, vkGetDeviceProcAddr);
	void *map;

	allocation.memoryTypeIndex = visible_type(instance, physical);
	CHECK(((PFN_vkAllocateMemory)device_function(device, "vkAllocateMemory"))(
		      device, &allocation, NULL, &request.memory) == VK_SUCCESS,
	      "vkAllocateMemory failed");
	CHECK(((PFN_vkGetMemoryFdKHR)device_function(device, "vkGetMemoryFdKHR"))(
		      device, &request, &memory->dmabuf_fd) == VK_SUCCESS,
	      "vkGetMemoryFdKHR failed");
	CHECK(((PFN_vkMapMemory)device_function(device, "vkMapMemory"))(
		      device, request.memory, 0, memory->bytes, 0, &map) == VK_SUCCESS,
	      "vkMapMemory failed");
	memory->map = map;
}

#endif

const struct exporter exporter_vulkan = {
	.name = "vulkan-lavapipe", .owns_map = true, .open = vulkan_open};
