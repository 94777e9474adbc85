/* SPDX-License-Identifier: Apache-2.0 */
/* What there is of physical devices, which of them gds can use, and picking one. */
#include "loader.h"

#include "base/error.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct extensions {
	VkExtensionProperties *list;
	uint32_t count;
};

static void extensions_load(struct vulkan_instance *instance, VkPhysicalDevice device,
			    struct extensions *extensions)
{
	extensions->count = 0;
	extensions->list = NULL;
	if (instance->EnumerateDeviceExtensionProperties(device, NULL, &extensions->count, NULL) !=
	    VK_SUCCESS)
		extensions->count = 0;
	if (extensions->count)
		extensions->list = calloc(extensions->count, sizeof(*extensions->list));
	if (!extensions->list ||
	    instance->EnumerateDeviceExtensionProperties(device, NULL, &extensions->count,
							 extensions->list) < VK_SUCCESS)
		extensions->count = 0;
}

static bool extensions_have(const struct extensions *extensions, const char *name)
{
	for (uint32_t i = 0; i < extensions->count; i++)
		if (strcmp(extensions->list[i].extensionName, name) == 0)
			return true;
	return false;
}

static void describe_properties(struct vulkan_instance *instance,
				const struct extensions *extensions,
				struct vulkan_physical *physical)
{
	VkPhysicalDeviceExternalMemoryHostPropertiesEXT host = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT,
	};
	VkPhysicalDeviceDriverProperties driver = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES,
	};
	VkPhysicalDeviceSubgroupProperties subgroup = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES,
	};
	VkPhysicalDevicePCIBusInfoPropertiesEXT pci = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PCI_BUS_INFO_PROPERTIES_EXT,
	};
	bool on_pci = extensions_have(extensions, VK_EXT_PCI_BUS_INFO_EXTENSION_NAME);
	VkPhysicalDeviceProperties2 properties = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
	};

	if (!instance->GetPhysicalDeviceProperties2)
		return;
	if (physical->properties.apiVersion >= VK_API_VERSION_1_1)
		properties.pNext = &subgroup;
	if (physical->external_memory_host) {
		host.pNext = properties.pNext;
		properties.pNext = &host;
	}
	if (physical->properties.apiVersion >= VK_API_VERSION_1_2 ||
	    extensions_have(extensions, VK_KHR_DRIVER_PROPERTIES_EXTENSION_NAME)) {
		driver.pNext = properties.pNext;
		properties.pNext = &driver;
	}
	if (on_pci) {
		pci.pNext = properties.pNext;
		properties.pNext = &pci;
	}
	instance->GetPhysicalDeviceProperties2(physical->handle, &properties);
	if (on_pci)
		gds_text_set(physical->pci, sizeof(physical->pci), "%04x:%02x:%02x.%x",
			     pci.pciDomain, pci.pciBus, pci.pciDevice, pci.pciFunction);
	physical->subgroup_size = subgroup.subgroupSize;
	physical->host_pointer_alignment = host.minImportedHostPointerAlignment;
	gds_text_set(physical->driver, sizeof(physical->driver), "%s%s%.60s", driver.driverName,
		     driver.driverInfo[0] ? " " : "", driver.driverInfo);
}

static bool has_timeline(struct vulkan_instance *instance, const struct extensions *extensions,
			 struct vulkan_physical *physical)
{
	VkPhysicalDeviceTimelineSemaphoreFeatures timeline = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES,
	};
	VkPhysicalDeviceFeatures2 features = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
		.pNext = &timeline,
	};

	physical->timeline_core = instance->api_version >= VK_API_VERSION_1_2 &&
				  physical->properties.apiVersion >= VK_API_VERSION_1_2;
	if (!instance->GetPhysicalDeviceFeatures2 ||
	    (!physical->timeline_core &&
	     !extensions_have(extensions, VK_KHR_TIMELINE_SEMAPHORE_EXTENSION_NAME)))
		return false;
	instance->GetPhysicalDeviceFeatures2(physical->handle, &features);
	return timeline.timelineSemaphore;
}

/* A family with compute can transfer too, says the standard. */
static bool find_queue_family(struct vulkan_instance *instance, struct vulkan_physical *physical)
{
	VkQueueFamilyProperties *families;
	bool found = false;

	instance->GetPhysicalDeviceQueueFamilyProperties(physical->handle, &physical->family_count,
							 NULL);
	families = calloc(physical->family_count, sizeof(*families));
	if (!families)
		return false;
	instance->GetPhysicalDeviceQueueFamilyProperties(physical->handle, &physical->family_count,
							 families);
	for (uint32_t i = 0; i < physical->family_count && !found; i++) {
		found = families[i].queueFlags & VK_QUEUE_COMPUTE_BIT;
		physical->queue_family = i;
	}
	free(families);
	return found;
}

static void describe_dma_bufs(struct vulkan_instance *instance, const struct extensions *extensions,
			      struct vulkan_physical *physical)
{
	const VkPhysicalDeviceExternalBufferInfo buffer = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_BUFFER_INFO,
		.usage = VULKAN_BUFFER_USAGE,
		.handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT,
	};
	VkExternalBufferProperties properties = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_BUFFER_PROPERTIES,
	};

	physical->queue_family_foreign =
		extensions_have(extensions, VK_EXT_QUEUE_FAMILY_FOREIGN_EXTENSION_NAME);
	physical->external_memory_dma_buf =
		extensions_have(extensions, VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME) &&
		extensions_have(extensions, VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME);
	if (!physical->external_memory_dma_buf ||
	    !instance->GetPhysicalDeviceExternalBufferProperties)
		return;
	instance->GetPhysicalDeviceExternalBufferProperties(physical->handle, &buffer, &properties);
	physical->dma_buf_features = properties.externalMemoryProperties.externalMemoryFeatures;
}

void vulkan_physical_describe(struct vulkan_instance *instance, VkPhysicalDevice handle,
			      struct vulkan_physical *physical)
{
	struct extensions extensions;

	memset(physical, 0, sizeof(*physical));
	physical->handle = handle;
	instance->GetPhysicalDeviceProperties(handle, &physical->properties);
	instance->GetPhysicalDeviceMemoryProperties(handle, &physical->memory);
	extensions_load(instance, handle, &extensions);
	physical->external_memory_host =
		extensions_have(&extensions, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
	physical->memory_budget = extensions_have(&extensions, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
	describe_properties(instance, &extensions, physical);
	describe_dma_bufs(instance, &extensions, physical);
	if (!find_queue_family(instance, physical))
		physical->unfit = "it has no queue with compute";
	if (!has_timeline(instance, &extensions, physical))
		physical->unfit = "its driver has no timeline semaphores: a newer one is needed";
	if (physical->properties.apiVersion < VK_API_VERSION_1_1)
		physical->unfit = "its driver is older than Vulkan 1.1";
	free(extensions.list);
}

int vulkan_physical_list(struct vulkan_instance *instance, struct vulkan_physical **list,
			 uint32_t *count)
{
	VkPhysicalDevice *handles = NULL;
	VkResult result;
	int err = 0;

	*list = NULL;
	*count = 0;
	result = instance->EnumeratePhysicalDevices(instance->handle, count, NULL);
	if (result == VK_SUCCESS && *count == 0)
		return gds_fail(ENODEV, "the Vulkan drivers find no device on this machine: "
					"install mesa-vulkan-drivers for one on the CPU");
	if (result != VK_SUCCESS)
		return vulkan_fail(result, "cannot list the Vulkan devices");
	handles = calloc(*count, sizeof(*handles));
	*list = calloc(*count, sizeof(**list));
	if (!handles || !*list) {
		err = gds_fail_errno(ENOMEM, "cannot list the Vulkan devices");
		goto out;
	}
	result = instance->EnumeratePhysicalDevices(instance->handle, count, handles);
	if (result < VK_SUCCESS) {
		err = vulkan_fail(result, "cannot list the Vulkan devices");
		goto out;
	}
	for (uint32_t i = 0; i < *count; i++) {
		vulkan_physical_describe(instance, handles[i], &(*list)[i]);
		(*list)[i].index = i;
	}
out:
	free(handles);
	if (err) {
		free(*list);
		*list = NULL;
	}
	return err;
}

static int no_match(const struct vulkan_physical *list, uint32_t count, const char *selector)
{
	char known[320] = "";
	size_t used = 0;

	for (uint32_t i = 0; i < count && used < sizeof(known); i++) {
		gds_text_set(known + used, sizeof(known) - used, "%s%u: %s", i ? ", " : "", i,
			     list[i].properties.deviceName);
		used = strlen(known);
	}
	return gds_fail(ENODEV, "no Vulkan device '%.64s': there is %s", selector, known);
}

static bool is_index(const char *selector)
{
	return selector[0] && strspn(selector, "0123456789") == strlen(selector);
}

static const struct vulkan_physical *find(const struct vulkan_physical *list, uint32_t count,
					  const char *selector)
{
	unsigned long index;

	if (is_index(selector)) {
		index = strtoul(selector, NULL, 10);
		return index < count ? &list[index] : NULL;
	}
	for (uint32_t i = 0; i < count; i++)
		if (strcasestr(list[i].properties.deviceName, selector))
			return &list[i];
	return NULL;
}

static int rank(const struct vulkan_physical *physical)
{
	if (physical->unfit)
		return 0;
	switch (physical->properties.deviceType) {
	case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
		return 5;
	case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
		return 4;
	case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
		return 3;
	case VK_PHYSICAL_DEVICE_TYPE_CPU:
		return 2;
	default:
		return 1;
	}
}

int vulkan_physical_pick(const struct vulkan_physical *list, uint32_t count, const char *selector,
			 const struct vulkan_physical **picked)
{
	const struct vulkan_physical *best = &list[0];

	if (selector[0]) {
		best = find(list, count, selector);
	} else {
		for (uint32_t i = 1; i < count; i++)
			if (rank(&list[i]) > rank(best))
				best = &list[i];
	}
	if (!best)
		return no_match(list, count, selector);
	if (best->unfit)
		return gds_fail(ENODEV, "cannot use Vulkan device %u (%s): %s", best->index,
				best->properties.deviceName, best->unfit);
	*picked = best;
	return 0;
}
