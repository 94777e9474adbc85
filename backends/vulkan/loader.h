/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Vulkan loader, instances and what they say of physical devices.
 *
 * The loader is opened at run time, so that the library works where there is none.
 * volk's global function pointers are used for nothing but creating instances:
 * each instance and each device has a table of its own, since a caller may bring
 * an instance that comes from another loader than ours.
 */
#ifndef GDS_VULKAN_LOADER_H
#define GDS_VULKAN_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <volk.h>

/* The calls of an instance; those that end in 2 may be missing in a caller's. */
#define VULKAN_INSTANCE_CALLS(call)                   \
	call(DestroyInstance);                        \
	call(EnumeratePhysicalDevices);               \
	call(EnumerateDeviceExtensionProperties);     \
	call(GetPhysicalDeviceProperties);            \
	call(GetPhysicalDeviceMemoryProperties);      \
	call(GetPhysicalDeviceQueueFamilyProperties); \
	call(CreateDevice);                           \
	call(GetDeviceProcAddr);                      \
	call(GetPhysicalDeviceProperties2);           \
	call(GetPhysicalDeviceFeatures2);             \
	call(GetPhysicalDeviceMemoryProperties2);     \
	call(GetPhysicalDeviceExternalBufferProperties)

struct vulkan_instance {
	VkInstance handle;
	PFN_vkGetInstanceProcAddr get_proc;
	uint32_t api_version;               /* asked for; 0 for a caller's instance */
	VkDebugUtilsMessengerEXT messenger; /* with GDS_VULKAN_VALIDATE=1 */
#define VULKAN_MEMBER(name) PFN_vk##name name
	VULKAN_INSTANCE_CALLS(VULKAN_MEMBER);
#undef VULKAN_MEMBER
};

/* How the buffers that gds makes are used. */
#define VULKAN_BUFFER_USAGE                                                    \
	(VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT | \
	 VK_BUFFER_USAGE_STORAGE_BUFFER_BIT)

/* What gds needs to know of a physical device. */
struct vulkan_physical {
	VkPhysicalDevice handle;
	uint32_t index;
	VkPhysicalDeviceProperties properties;
	VkPhysicalDeviceMemoryProperties memory;
	char driver[128];
	char pci[24]; /* its address, where the driver tells */
	uint32_t family_count;
	uint32_t queue_family;     /* with compute, and so with transfer */
	bool timeline_core;        /* timeline semaphores without an extension */
	bool external_memory_host; /* VK_EXT_external_memory_host */
	bool memory_budget;        /* VK_EXT_memory_budget */
	/* VK_EXT_external_memory_dma_buf and VK_KHR_external_memory_fd */
	bool external_memory_dma_buf;
	bool queue_family_foreign; /* VK_EXT_queue_family_foreign */
	/* What can be done with such buffers and dma-bufs. */
	VkExternalMemoryFeatureFlags dma_buf_features;
	VkDeviceSize host_pointer_alignment;
	uint32_t subgroup_size; /* 0 where the driver does not say */
	const char *unfit;      /* why gds cannot use the device, or NULL */
};

/* Makes an instance of our own. -ENODEV where there is no loader or no driver. */
int vulkan_instance_open(struct vulkan_instance *instance);
/* Takes a caller's instance; `get_proc` may be NULL. Nothing is to be closed. */
int vulkan_instance_adopt(struct vulkan_instance *instance, VkInstance handle,
			  PFN_vkGetInstanceProcAddr get_proc);
void vulkan_instance_close(struct vulkan_instance *instance);

/* The physical devices of an instance, in the loader's order; for free(3). */
int vulkan_physical_list(struct vulkan_instance *instance, struct vulkan_physical **list,
			 uint32_t *count);
void vulkan_physical_describe(struct vulkan_instance *instance, VkPhysicalDevice handle,
			      struct vulkan_physical *physical);

/* Picks by index, by a part of the name, or, for "", the most capable kind. */
int vulkan_physical_pick(const struct vulkan_physical *list, uint32_t count, const char *selector,
			 const struct vulkan_physical **picked);

/* gds_fail(), with the result's name and the errno that is closest to it. */
int vulkan_fail(VkResult result, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Warnings and errors that validation layers gave to this process so far. */
uint64_t vulkan_validation_messages(void);

#endif
