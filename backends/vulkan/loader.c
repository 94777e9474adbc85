/* SPDX-License-Identifier: Apache-2.0 */
/* Opening the Vulkan loader, making instances, and the validation layers. */
#include "loader.h"

#include "base/error.h"
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALIDATION_LAYER "VK_LAYER_KHRONOS_validation"

static atomic_uint_fast64_t validation_messages;
static pthread_once_t loader_once = PTHREAD_ONCE_INIT;
static bool loader_found;

static const char *result_name(VkResult result)
{
	switch (result) {
	case VK_ERROR_OUT_OF_HOST_MEMORY:
		return "out of host memory";
	case VK_ERROR_OUT_OF_DEVICE_MEMORY:
		return "out of device memory";
	case VK_ERROR_DEVICE_LOST:
		return "the device was lost";
	case VK_ERROR_MEMORY_MAP_FAILED:
		return "the memory cannot be mapped";
	case VK_ERROR_INITIALIZATION_FAILED:
		return "the driver could not start";
	case VK_ERROR_LAYER_NOT_PRESENT:
		return "a layer is not installed";
	case VK_ERROR_EXTENSION_NOT_PRESENT:
		return "an extension is missing";
	case VK_ERROR_FEATURE_NOT_PRESENT:
		return "a feature is missing";
	case VK_ERROR_INCOMPATIBLE_DRIVER:
		return "no usable driver";
	case VK_ERROR_TOO_MANY_OBJECTS:
		return "too many objects";
	case VK_ERROR_INVALID_EXTERNAL_HANDLE:
		return "the driver refuses the memory that it was given";
	default:
		return "the driver failed";
	}
}

static int result_errno(VkResult result)
{
	switch (result) {
	case VK_ERROR_OUT_OF_HOST_MEMORY:
	case VK_ERROR_OUT_OF_DEVICE_MEMORY:
	case VK_ERROR_MEMORY_MAP_FAILED:
	case VK_ERROR_TOO_MANY_OBJECTS:
		return ENOMEM;
	case VK_ERROR_INITIALIZATION_FAILED:
	case VK_ERROR_INCOMPATIBLE_DRIVER:
		return ENODEV;
	case VK_ERROR_LAYER_NOT_PRESENT:
	case VK_ERROR_EXTENSION_NOT_PRESENT:
	case VK_ERROR_FEATURE_NOT_PRESENT:
	case VK_ERROR_INVALID_EXTERNAL_HANDLE:
		return ENOTSUP;
	default:
		return EIO;
	}
}

int vulkan_fail(VkResult result, const char *format, ...)
{
	char what[GDS_ERROR_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	return gds_fail(result_errno(result), "%.400s: %s (VkResult %d)", what, result_name(result),
			(int)result);
}

uint64_t vulkan_validation_messages(void)
{
	return atomic_load(&validation_messages);
}

static void load(void)
{
	loader_found = volkInitialize() == VK_SUCCESS && vkGetInstanceProcAddr && vkCreateInstance;
}

static int need_loader(void)
{
	pthread_once(&loader_once, load);
	if (!loader_found)
		return gds_fail(ENODEV, "no Vulkan loader: install libvulkan1 and a driver such as "
					"mesa-vulkan-drivers");
	return 0;
}

static VkBool32 VKAPI_PTR on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
				     VkDebugUtilsMessageTypeFlagsEXT type,
				     const VkDebugUtilsMessengerCallbackDataEXT *data, void *user)
{
	bool error = severity & VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;

	atomic_fetch_add(&validation_messages, 1);
	gds_log(error ? GDS_LOG_ERROR : GDS_LOG_WARNING, "Vulkan validation: %s", data->pMessage);
	return VK_FALSE;
}

static bool validation_wanted(void)
{
	const char *text = getenv("GDS_VULKAN_VALIDATE");

	return text && strcmp(text, "1") == 0;
}

static bool validation_installed(void)
{
	VkLayerProperties *layers;
	uint32_t count = 0;
	bool found = false;

	if (vkEnumerateInstanceLayerProperties(&count, NULL) != VK_SUCCESS || count == 0)
		return false;
	layers = calloc(count, sizeof(*layers));
	if (!layers)
		return false;
	vkEnumerateInstanceLayerProperties(&count, layers);
	for (uint32_t i = 0; i < count; i++)
		found |= strcmp(layers[i].layerName, VALIDATION_LAYER) == 0;
	free(layers);
	return found;
}

static bool validation_usable(void)
{
	if (!validation_wanted())
		return false;
	if (validation_installed())
		return true;
	gds_warn("GDS_VULKAN_VALIDATE=1 has no effect: the layer " VALIDATION_LAYER
		 " is not installed (Debian: vulkan-validationlayers)");
	return false;
}

static const VkDebugUtilsMessengerCreateInfoEXT messenger_info = {
	.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
	.messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT |
			   VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
	.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
	.pfnUserCallback = on_message,
};

/* The highest version that gds makes use of, or what the loader has. */
static uint32_t usable_api_version(void)
{
	uint32_t version = VK_API_VERSION_1_0;

	if (vkEnumerateInstanceVersion)
		vkEnumerateInstanceVersion(&version);
	return version < VK_API_VERSION_1_2 ? version : VK_API_VERSION_1_2;
}

static VkResult create_instance(struct vulkan_instance *instance, bool validate)
{
	static const char *const layers[] = { VALIDATION_LAYER };
	static const char *const extensions[] = { VK_EXT_DEBUG_UTILS_EXTENSION_NAME,
						  VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME };
	static const VkValidationFeatureEnableEXT checks[] = {
		VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT
	};
	const VkValidationFeaturesEXT features = {
		.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
		.pNext = &messenger_info, /* for vkCreateInstance itself */
		.enabledValidationFeatureCount = 1,
		.pEnabledValidationFeatures = checks,
	};
	const VkApplicationInfo application = {
		.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
		.pEngineName = "gds",
		.apiVersion = instance->api_version,
	};
	const VkInstanceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
		.pNext = validate ? &features : NULL,
		.pApplicationInfo = &application,
		.enabledLayerCount = validate ? 1 : 0,
		.ppEnabledLayerNames = layers,
		.enabledExtensionCount = validate ? 2 : 0,
		.ppEnabledExtensionNames = extensions,
	};

	return vkCreateInstance(&info, NULL, &instance->handle);
}

static PFN_vkVoidFunction instance_call(const struct vulkan_instance *instance, const char *name)
{
	return instance->get_proc(instance->handle, name);
}

/* Before Vulkan 1.1 the calls that end in 2 are an extension's. */
static void load_older_names(struct vulkan_instance *instance)
{
	if (!instance->GetPhysicalDeviceProperties2)
		instance->GetPhysicalDeviceProperties2 =
			(PFN_vkGetPhysicalDeviceProperties2)instance_call(
				instance, "vkGetPhysicalDeviceProperties2KHR");
	if (!instance->GetPhysicalDeviceFeatures2)
		instance->GetPhysicalDeviceFeatures2 =
			(PFN_vkGetPhysicalDeviceFeatures2)instance_call(
				instance, "vkGetPhysicalDeviceFeatures2KHR");
	if (!instance->GetPhysicalDeviceMemoryProperties2)
		instance->GetPhysicalDeviceMemoryProperties2 =
			(PFN_vkGetPhysicalDeviceMemoryProperties2)instance_call(
				instance, "vkGetPhysicalDeviceMemoryProperties2KHR");
	if (!instance->GetPhysicalDeviceExternalBufferProperties)
		instance->GetPhysicalDeviceExternalBufferProperties =
			(PFN_vkGetPhysicalDeviceExternalBufferProperties)instance_call(
				instance, "vkGetPhysicalDeviceExternalBufferPropertiesKHR");
}

static int load_calls(struct vulkan_instance *instance)
{
#define LOAD(name) instance->name = (PFN_vk##name)instance_call(instance, "vk" #name)
	VULKAN_INSTANCE_CALLS(LOAD);
#undef LOAD
	load_older_names(instance);
	if (!instance->GetDeviceProcAddr || !instance->GetPhysicalDeviceProperties ||
	    !instance->EnumerateDeviceExtensionProperties)
		return gds_fail(EINVAL, "the Vulkan instance lacks calls of Vulkan 1.0: does "
					"get_instance_proc_addr belong to it?");
	return 0;
}

static void start_messenger(struct vulkan_instance *instance)
{
	PFN_vkCreateDebugUtilsMessengerEXT create =
		(PFN_vkCreateDebugUtilsMessengerEXT)instance_call(instance,
								  "vkCreateDebugUtilsMessengerEXT");

	if (create)
		create(instance->handle, &messenger_info, NULL, &instance->messenger);
}

static void stop_messenger(struct vulkan_instance *instance)
{
	PFN_vkDestroyDebugUtilsMessengerEXT destroy =
		(PFN_vkDestroyDebugUtilsMessengerEXT)instance_call(
			instance, "vkDestroyDebugUtilsMessengerEXT");

	if (instance->messenger && destroy)
		destroy(instance->handle, instance->messenger, NULL);
}

int vulkan_instance_open(struct vulkan_instance *instance)
{
	bool validate;
	VkResult result;
	int err = need_loader();

	if (err)
		return err;
	memset(instance, 0, sizeof(*instance));
	instance->get_proc = vkGetInstanceProcAddr;
	instance->api_version = usable_api_version();
	validate = validation_usable();
	result = create_instance(instance, validate);
	if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
		return gds_fail(ENODEV, "the Vulkan loader finds no driver: install one, such as "
					"mesa-vulkan-drivers, and look at VK_DRIVER_FILES and "
					"VK_ICD_FILENAMES if they are set");
	if (result != VK_SUCCESS)
		return vulkan_fail(result, "cannot make a Vulkan instance");
	err = load_calls(instance);
	if (err && instance->DestroyInstance)
		instance->DestroyInstance(instance->handle, NULL);
	if (!err && validate)
		start_messenger(instance);
	return err;
}

int vulkan_instance_adopt(struct vulkan_instance *instance, VkInstance handle,
			  PFN_vkGetInstanceProcAddr get_proc)
{
	int err;

	memset(instance, 0, sizeof(*instance));
	if (!get_proc) {
		err = need_loader();
		if (err)
			return err;
		get_proc = vkGetInstanceProcAddr;
	}
	instance->handle = handle;
	instance->get_proc = get_proc;
	return load_calls(instance);
}

void vulkan_instance_close(struct vulkan_instance *instance)
{
	stop_messenger(instance);
	instance->DestroyInstance(instance->handle, NULL);
}
