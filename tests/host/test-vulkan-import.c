/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Vulkan backend on an instance, a device and buffers that the test made, as an
 * application would: by calls of its own, which know nothing of the library's.
 */
#include "vulkan-test.h"

#include <dlfcn.h>
#include <zlib.h>

/* Calls of the application's. */
#define APP_CALLS(call)                               \
	call(DestroyInstance);                        \
	call(EnumeratePhysicalDevices);               \
	call(GetPhysicalDeviceMemoryProperties);      \
	call(GetPhysicalDeviceQueueFamilyProperties); \
	call(CreateDevice);                           \
	call(DestroyDevice);                          \
	call(GetDeviceQueue);                         \
	call(CreateBuffer);                           \
	call(DestroyBuffer);                          \
	call(GetBufferMemoryRequirements);            \
	call(AllocateMemory);                         \
	call(FreeMemory);                             \
	call(BindBufferMemory);                       \
	call(MapMemory);                              \
	call(CreateCommandPool);                      \
	call(DestroyCommandPool);                     \
	call(AllocateCommandBuffers);                 \
	call(BeginCommandBuffer);                     \
	call(EndCommandBuffer);                       \
	call(CmdPipelineBarrier);                     \
	call(CmdCopyBuffer);                          \
	call(QueueSubmit);                            \
	call(QueueWaitIdle);                          \
	call(CreateFence);                            \
	call(DestroyFence);                           \
	call(GetFenceStatus);                         \
	call(WaitForFences);                          \
	call(CreateSemaphore);                        \
	call(DestroySemaphore);                       \
	call(GetSemaphoreCounterValue)

struct app {
	void *loader;
	PFN_vkGetInstanceProcAddr get_proc;
	VkInstance instance;
	VkPhysicalDevice physical;
	VkDevice device;
	VkQueue queue;
	uint32_t family;
	uint32_t memory_type; /* device local and host visible */
	unsigned locked;      /* by the library's use of the queue */
	unsigned uses;
	VkDebugUtilsMessengerEXT messenger;
	unsigned messages; /* of the validation layers */
#define APP_MEMBER(name) PFN_vk##name name
	APP_CALLS(APP_MEMBER);
#undef APP_MEMBER
};

/* A buffer of the application's, bound at an odd place of its memory. */
struct app_buffer {
	VkBuffer buffer;
	VkDeviceMemory memory;
	uint64_t offset;
	unsigned char *mapping; /* of the buffer's first byte, or NULL */
};

static void app_skip(struct app *app, const char *why)
{
	print_message("skipped: %s\n", why);
	dlclose(app->loader);
	skip();
}

static VkBool32 VKAPI_PTR count_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
					VkDebugUtilsMessageTypeFlagsEXT type,
					const VkDebugUtilsMessengerCallbackDataEXT *data,
					void *user)
{
	print_error("validation: %s\n", data->pMessage);
	++*(unsigned *)user;
	return VK_FALSE;
}

/* The layers check what the library does on the application's device too. */
static VkResult app_create_instance(struct app *app)
{
	static const char *const layers[] = { "VK_LAYER_KHRONOS_validation" };
	static const char *const extensions[] = { VK_EXT_DEBUG_UTILS_EXTENSION_NAME,
						  VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME };
	static const VkValidationFeatureEnableEXT checks[] = {
		VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT
	};
	const VkDebugUtilsMessengerCreateInfoEXT messenger = {
		.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
		.messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT |
				   VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
		.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
		.pfnUserCallback = count_message,
		.pUserData = &app->messages
	};
	const VkValidationFeaturesEXT features = {
		.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
		.pNext = &messenger,
		.enabledValidationFeatureCount = 1,
		.pEnabledValidationFeatures = checks
	};
	const VkApplicationInfo application = { .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
						.apiVersion = VK_API_VERSION_1_2 };
	VkInstanceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
				      .pNext = &features,
				      .pApplicationInfo = &application,
				      .enabledLayerCount = 1,
				      .ppEnabledLayerNames = layers,
				      .enabledExtensionCount = 2,
				      .ppEnabledExtensionNames = extensions };
	PFN_vkCreateInstance create = (PFN_vkCreateInstance)app->get_proc(NULL, "vkCreateInstance");
	PFN_vkCreateDebugUtilsMessengerEXT listen;
	VkResult result = create(&info, NULL, &app->instance);

	if (result == VK_SUCCESS) {
		listen = (PFN_vkCreateDebugUtilsMessengerEXT)app->get_proc(
			app->instance, "vkCreateDebugUtilsMessengerEXT");
		return listen(app->instance, &messenger, NULL, &app->messenger);
	}
	if (result != VK_ERROR_LAYER_NOT_PRESENT)
		return result;
	info.pNext = NULL;
	info.enabledLayerCount = 0;
	info.enabledExtensionCount = 0;
	return create(&info, NULL, &app->instance);
}

static void app_pick(struct app *app)
{
	VkPhysicalDeviceMemoryProperties memory;
	VkQueueFamilyProperties families[8];
	uint32_t count = 1;

	app->EnumeratePhysicalDevices(app->instance, &count, &app->physical);
	assert_int_equal(count, 1);
	count = 8;
	app->GetPhysicalDeviceQueueFamilyProperties(app->physical, &count, families);
	for (app->family = 0; !(families[app->family].queueFlags & VK_QUEUE_COMPUTE_BIT);)
		app->family++;
	app->GetPhysicalDeviceMemoryProperties(app->physical, &memory);
	for (app->memory_type = 0; app->memory_type < memory.memoryTypeCount; app->memory_type++)
		if (memory.memoryTypes[app->memory_type].propertyFlags &
		    VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)
			return;
	fail_msg("no memory type is host coherent");
}

static void app_create_device(struct app *app)
{
	const float priority = 1;
	const VkDeviceQueueCreateInfo queue = { .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
						.queueFamilyIndex = app->family,
						.queueCount = 1,
						.pQueuePriorities = &priority };
	const VkPhysicalDeviceTimelineSemaphoreFeatures timeline = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES,
		.timelineSemaphore = VK_TRUE
	};
	const VkDeviceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
					  .pNext = &timeline,
					  .queueCreateInfoCount = 1,
					  .pQueueCreateInfos = &queue };

	assert_int_equal(app->CreateDevice(app->physical, &info, NULL, &app->device), VK_SUCCESS);
	app->GetDeviceQueue(app->device, app->family, 0, &app->queue);
}

static void app_open(struct app *app)
{
	memset(app, 0, sizeof(*app));
	app->loader = dlopen("libvulkan.so.1", RTLD_NOW);
	if (!app->loader) {
		print_message("skipped: no Vulkan loader\n");
		skip();
	}
	app->get_proc = (PFN_vkGetInstanceProcAddr)dlsym(app->loader, "vkGetInstanceProcAddr");
	if (app_create_instance(app) != VK_SUCCESS)
		app_skip(app, "no Vulkan driver");
#define LOAD(name) app->name = (PFN_vk##name)app->get_proc(app->instance, "vk" #name)
	APP_CALLS(LOAD);
#undef LOAD
	app_pick(app);
	app_create_device(app);
}

static void app_close(struct app *app)
{
	PFN_vkDestroyDebugUtilsMessengerEXT silence =
		(PFN_vkDestroyDebugUtilsMessengerEXT)app->get_proc(
			app->instance, "vkDestroyDebugUtilsMessengerEXT");

	app->DestroyDevice(app->device, NULL);
	if (app->messenger)
		silence(app->instance, app->messenger, NULL);
	app->DestroyInstance(app->instance, NULL);
	dlclose(app->loader);
	assert_int_equal(app->messages, 0);
}

static struct app_buffer app_create_buffer(struct app *app, uint64_t bytes)
{
	const VkBufferCreateInfo info = { .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
					  .size = bytes,
					  .usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
						   VK_BUFFER_USAGE_TRANSFER_DST_BIT |
						   VK_BUFFER_USAGE_STORAGE_BUFFER_BIT };
	VkMemoryAllocateInfo allocate = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
					  .memoryTypeIndex = app->memory_type };
	VkMemoryRequirements needs;
	struct app_buffer buffer = { 0 };

	assert_int_equal(app->CreateBuffer(app->device, &info, NULL, &buffer.buffer), VK_SUCCESS);
	app->GetBufferMemoryRequirements(app->device, buffer.buffer, &needs);
	buffer.offset = 3 * needs.alignment;
	allocate.allocationSize = buffer.offset + needs.size;
	assert_int_equal(app->AllocateMemory(app->device, &allocate, NULL, &buffer.memory),
			 VK_SUCCESS);
	assert_int_equal(
		app->BindBufferMemory(app->device, buffer.buffer, buffer.memory, buffer.offset),
		VK_SUCCESS);
	return buffer;
}

static void app_map(struct app *app, struct app_buffer *buffer)
{
	void *start;

	assert_int_equal(app->MapMemory(app->device, buffer->memory, 0, VK_WHOLE_SIZE, 0, &start),
			 VK_SUCCESS);
	buffer->mapping = (unsigned char *)start + buffer->offset;
}

static void app_destroy_buffer(struct app *app, struct app_buffer *buffer)
{
	app->DestroyBuffer(app->device, buffer->buffer, NULL);
	app->FreeMemory(app->device, buffer->memory, NULL);
}

static void lock_queue(void *user)
{
	struct app *app = user;

	assert_int_equal(app->locked++, 0);
}

static void unlock_queue(void *user)
{
	struct app *app = user;

	assert_int_equal(app->locked--, 1);
	app->uses++;
}

static struct gds_vulkan_device describe(struct app *app)
{
	return (struct gds_vulkan_device){
		.size = sizeof(struct gds_vulkan_device),
		.get_instance_proc_addr = app->get_proc,
		.instance = app->instance,
		.physical_device = app->physical,
		.device = app->device,
		.queue = app->queue,
		.queue_family = app->family,
		.lock = lock_queue,
		.unlock = unlock_queue,
		.user = app,
	};
}

static struct vulkan_device *import_device(struct app *app)
{
	const struct gds_vulkan_device vulkan = describe(app);
	struct backend_device *device = NULL;

	if (backend_vulkan_import_device(&vulkan, &device))
		fail_msg("import: %s", gds_last_error());
	return to_vulkan_device(device);
}

static struct backend_memory *import_buffer(struct app *app, struct vulkan_device *device,
					    const struct app_buffer *buffer, uint64_t bytes)
{
	const struct gds_vulkan_buffer vulkan = {
		.size = sizeof(vulkan),
		.buffer = (uint64_t)(uintptr_t)buffer->buffer,
		.memory = (uint64_t)(uintptr_t)buffer->memory,
		.memory_offset = buffer->offset,
		.bytes = bytes,
		.memory_type = app->memory_type,
		.mapping = buffer->mapping,
	};
	struct backend_memory *memory = NULL;

	if (backend_vulkan_import_buffer(&device->base, &vulkan, &memory))
		fail_msg("import: %s", gds_last_error());
	return memory;
}

/* All that a reader does with a buffer, on one that is `bytes` long. */
static void use_buffer(struct vulkan_device *device, struct backend_memory *memory)
{
	const size_t bytes = memory->bytes;
	unsigned char *pages = map_pages(bytes), *out = map_pages(bytes);
	struct backend_staging *staging = NULL;
	uint64_t ticket = 0;
	uint32_t crc = 0;

	fill_random(pages, bytes);
	assert_int_equal(ops->staging_attach(&device->base, pages, bytes, &staging), 0);
	const struct backend_copy copies[] = { { memory, staging, NULL, 0, 0, bytes / 3 },
					       { memory, staging, NULL, bytes / 3, bytes / 3,
						 bytes - bytes / 3 } };

	assert_int_equal(ops->copy(&device->base, copies, 2, &ticket), 0);
	wait_for(device, ticket);
	assert_int_equal(ops->copy_out(memory, 0, out, bytes), 0);
	assert_memory_equal(out, pages, bytes);
	assert_memory_equal(memory->host, pages, bytes);
	/* To the last byte, though the buffer's last word is not whole. */
	for (size_t tail = 0; tail < 9; tail++) {
		assert_int_equal(ops->checksum(memory, 5, bytes - 5 - tail, &crc), 0);
		assert_int_equal(crc, crc32_z(0, pages + 5, bytes - 5 - tail));
		assert_int_equal(ops->checksum(memory, bytes - tail, tail, &crc), 0);
		assert_int_equal(crc, crc32_z(0, pages + bytes - tail, tail));
	}
	ops->staging_detach(staging);
	munmap(pages, bytes);
	munmap(out, bytes);
}

static void a_callers_buffer_is_used_mapped_or_not(void **state)
{
	const size_t bytes = (9 << 20) + 3;
	struct app app;
	struct app_buffer buffer;
	struct vulkan_device *device;
	struct backend_memory *memory;

	app_open(&app);
	device = import_device(&app);
	buffer = app_create_buffer(&app, bytes);
	memory = import_buffer(&app, device, &buffer, bytes);
	assert_non_null(memory->host);
	use_buffer(device, memory);
	ops->free(memory);
	/* The library's mapping must be gone, or this is an error. */
	app_map(&app, &buffer);
	memory = import_buffer(&app, device, &buffer, bytes);
	assert_ptr_equal(memory->host, buffer.mapping);
	use_buffer(device, memory);
	ops->free(memory);
	/* And the caller's must still be there. */
	memset(buffer.mapping, 0, bytes);
	ops->close(&device->base);
	assert_true(app.uses > 0);
	assert_int_equal(app.locked, 0);
	app_destroy_buffer(&app, &buffer);
	app_close(&app);
}

static void buffers_are_allocated_on_a_callers_device(void **state)
{
	struct app app;
	struct vulkan_device *device;
	struct backend_memory *memory;
	uint64_t vk_buffer = 0, vk_offset = 1, vk_bytes = 0;

	app_open(&app);
	device = import_device(&app);
	assert_false(device->physical.external_memory_host);
	memory = alloc(device, 1 << 20, 0);
	use_buffer(device, memory);
	assert_int_equal(backend_vulkan_locate(memory, 100, &vk_buffer, &vk_offset, &vk_bytes), 0);
	assert_true(vk_buffer != 0);
	assert_int_equal(vk_offset, 100);
	assert_int_equal(vk_bytes, (1 << 20) - 100);
	ops->free(memory);
	ops->close(&device->base);
	app_close(&app);
}

static void import_works_beside_devices_of_the_librarys_own(void **state)
{
	struct app app;
	struct vulkan_device *own = open_device(), *imported;
	struct backend_memory *own_memory, *imported_memory;

	app_open(&app);
	imported = import_device(&app);
	own_memory = alloc(own, 100000, 0);
	imported_memory = alloc(imported, 100000, 0);
	use_buffer(own, own_memory);
	use_buffer(imported, imported_memory);
	ops->free(imported_memory);
	ops->close(&imported->base);
	app_close(&app);
	use_buffer(own, own_memory);
	ops->free(own_memory);
	ops->close(&own->base);
}

static VkSemaphore app_create_timeline(struct app *app)
{
	const VkSemaphoreTypeCreateInfo type = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
		.semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE
	};
	const VkSemaphoreCreateInfo info = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
					     .pNext = &type };
	VkSemaphore semaphore;

	assert_int_equal(app->CreateSemaphore(app->device, &info, NULL, &semaphore), VK_SUCCESS);
	return semaphore;
}

/* The barrier that gds_batch_signal_vulkan() asks for, and a copy behind it. */
static void app_record(struct app *app, VkCommandBuffer commands, VkBuffer from, VkBuffer to,
		       size_t bytes)
{
	const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO
	};
	const VkMemoryBarrier arrived = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
					  .srcAccessMask = VK_ACCESS_HOST_WRITE_BIT,
					  .dstAccessMask = VK_ACCESS_TRANSFER_READ_BIT };
	const VkMemoryBarrier done = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
				       .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
				       .dstAccessMask = VK_ACCESS_HOST_READ_BIT };
	const VkBufferCopy region = { 0, 0, bytes };

	app->BeginCommandBuffer(commands, &begin);
	app->CmdPipelineBarrier(commands,
				VK_PIPELINE_STAGE_TRANSFER_BIT | VK_PIPELINE_STAGE_HOST_BIT,
				VK_PIPELINE_STAGE_TRANSFER_BIT, 0, 1, &arrived, 0, NULL, 0, NULL);
	app->CmdCopyBuffer(commands, from, to, 1, &region);
	app->CmdPipelineBarrier(commands, VK_PIPELINE_STAGE_TRANSFER_BIT,
				VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &done, 0, NULL, 0, NULL);
	assert_int_equal(app->EndCommandBuffer(commands), VK_SUCCESS);
}

static void app_submit(struct app *app, VkCommandBuffer commands, VkSemaphore semaphore,
		       uint64_t value, VkFence fence)
{
	const VkPipelineStageFlags stage = VK_PIPELINE_STAGE_TRANSFER_BIT;
	const VkTimelineSemaphoreSubmitInfo timeline = {
		.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
		.waitSemaphoreValueCount = 1,
		.pWaitSemaphoreValues = &value
	};
	const VkSubmitInfo submit = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
				      .pNext = &timeline,
				      .waitSemaphoreCount = 1,
				      .pWaitSemaphores = &semaphore,
				      .pWaitDstStageMask = &stage,
				      .commandBufferCount = 1,
				      .pCommandBuffers = &commands };

	assert_int_equal(app->QueueSubmit(app->queue, 1, &submit, fence), VK_SUCCESS);
}

static VkCommandPool app_create_commands(struct app *app, VkCommandBuffer *commands)
{
	const VkCommandPoolCreateInfo pool_info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .queueFamilyIndex = app->family
	};
	VkCommandBufferAllocateInfo info = { .sType =
						     VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
					     .commandBufferCount = 1 };
	VkCommandPool pool;

	assert_int_equal(app->CreateCommandPool(app->device, &pool_info, NULL, &pool), VK_SUCCESS);
	info.commandPool = pool;
	assert_int_equal(app->AllocateCommandBuffers(app->device, &info, commands), VK_SUCCESS);
	return pool;
}

static void work_that_waits_for_a_signal_sees_what_was_written_before_it(void **state)
{
	const size_t bytes = 1 << 20;
	const VkFenceCreateInfo fence_info = { .sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO };
	struct app app;
	struct app_buffer from, to;
	struct vulkan_device *device;
	struct backend_memory *memory;
	VkSemaphore semaphore;
	VkCommandBuffer commands;
	VkCommandPool pool;
	VkFence fence;
	uint64_t value = 0;

	app_open(&app);
	device = import_device(&app);
	from = app_create_buffer(&app, bytes);
	to = app_create_buffer(&app, bytes);
	app_map(&app, &to);
	memory = import_buffer(&app, device, &from, bytes);
	semaphore = app_create_timeline(&app);
	pool = app_create_commands(&app, &commands);
	assert_int_equal(app.CreateFence(app.device, &fence_info, NULL, &fence), VK_SUCCESS);

	memset(memory->host, 1, bytes);
	app_record(&app, commands, from.buffer, to.buffer, bytes);
	app_submit(&app, commands, semaphore, 7, fence);
	assert_int_equal(app.WaitForFences(app.device, 1, &fence, VK_TRUE, 20000000), VK_TIMEOUT);
	fill_random(memory->host, bytes);
	assert_int_equal(ops->publish(memory, 0, bytes), 0);
	assert_int_equal(app.GetFenceStatus(app.device, fence), VK_NOT_READY);
	assert_int_equal(backend_vulkan_signal(&device->base, (uint64_t)(uintptr_t)semaphore, 7),
			 0);
	assert_int_equal(app.WaitForFences(app.device, 1, &fence, VK_TRUE, UINT64_C(60000000000)),
			 VK_SUCCESS);
	assert_memory_equal(to.mapping, memory->host, bytes);
	assert_int_equal(app.GetSemaphoreCounterValue(app.device, semaphore, &value), VK_SUCCESS);
	assert_int_equal(value, 7);

	app.DestroyFence(app.device, fence, NULL);
	app.DestroyCommandPool(app.device, pool, NULL);
	app.DestroySemaphore(app.device, semaphore, NULL);
	ops->free(memory);
	ops->close(&device->base);
	app_destroy_buffer(&app, &from);
	app_destroy_buffer(&app, &to);
	app_close(&app);
}

static void assert_import_refused(struct gds_vulkan_device vulkan, const char *word)
{
	struct backend_device *device = NULL;

	assert_int_equal(backend_vulkan_import_device(&vulkan, &device), -EINVAL);
	assert_non_null(strstr(gds_last_error(), word));
}

static void imports_that_cannot_be_right_are_refused(void **state)
{
	struct app app;
	struct app_buffer buffer;
	struct gds_vulkan_device vulkan;
	struct gds_vulkan_buffer wrong;
	struct vulkan_device *device;
	struct backend_memory *memory = NULL;

	app_open(&app);
	vulkan = describe(&app);
	vulkan.queue = NULL;
	assert_import_refused(vulkan, "queue");
	vulkan = describe(&app);
	vulkan.unlock = NULL;
	assert_import_refused(vulkan, "unlock");
	vulkan = describe(&app);
	vulkan.queue_family = 99;
	assert_import_refused(vulkan, "no queue family 99");

	device = import_device(&app);
	buffer = app_create_buffer(&app, 1000);
	wrong = (struct gds_vulkan_buffer){ sizeof(wrong),
					    (uint64_t)(uintptr_t)buffer.buffer,
					    (uint64_t)(uintptr_t)buffer.memory,
					    buffer.offset,
					    1 << 20,
					    app.memory_type,
					    NULL,
					    0,
					    0 };
	assert_int_equal(backend_vulkan_import_buffer(&device->base, &wrong, &memory), -EINVAL);
	assert_non_null(strstr(gds_last_error(), "1048576"));
	wrong.bytes = 1000;
	wrong.memory_type = 77;
	assert_int_equal(backend_vulkan_import_buffer(&device->base, &wrong, &memory), -EINVAL);
	assert_non_null(strstr(gds_last_error(), "memory type 77"));
	wrong.memory = 0;
	assert_int_equal(backend_vulkan_import_buffer(&device->base, &wrong, &memory), -EINVAL);
	ops->close(&device->base);
	app_destroy_buffer(&app, &buffer);
	app_close(&app);
}

static void without_a_get_instance_proc_addr_the_system_loader_is_used(void **state)
{
	struct app app;
	struct gds_vulkan_device vulkan;
	struct backend_device *device = NULL;
	struct backend_memory *memory;

	app_open(&app);
	vulkan = describe(&app);
	vulkan.get_instance_proc_addr = NULL;
	vulkan.lock = vulkan.unlock = NULL;
	assert_int_equal(backend_vulkan_import_device(&vulkan, &device), 0);
	memory = alloc(to_vulkan_device(device), 5000, 0);
	use_buffer(to_vulkan_device(device), memory);
	ops->free(memory);
	ops->close(device);
	app_close(&app);
}

static void a_queue_without_compute_copies_but_does_not_checksum(void **state)
{
	struct app app;
	struct vulkan_device *device;
	struct backend_memory *memory;
	uint32_t crc;
	char byte = 0;

	app_open(&app);
	device = import_device(&app);
	device->queue_has_compute = false;
	memory = alloc(device, 5000, 0);
	assert_int_equal(ops->copy_in(memory, 4999, &byte, 1), 0);
	assert_int_equal(ops->checksum(memory, 0, 5000, &crc), -ENOTSUP);
	assert_non_null(strstr(gds_last_error(), "no compute"));
	ops->free(memory);
	ops->close(&device->base);
	app_close(&app);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		vulkan_test(a_callers_buffer_is_used_mapped_or_not),
		vulkan_test(buffers_are_allocated_on_a_callers_device),
		vulkan_test(import_works_beside_devices_of_the_librarys_own),
		vulkan_test(work_that_waits_for_a_signal_sees_what_was_written_before_it),
		vulkan_test(imports_that_cannot_be_right_are_refused),
		vulkan_test(without_a_get_instance_proc_addr_the_system_loader_is_used),
		vulkan_test(a_queue_without_compute_copies_but_does_not_checksum),
	};

	setenv("GDS_VULKAN_VALIDATE", "1", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
