/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Vulkan backend where something is missing, full or broken: what it says, and
 * that it leaves nothing behind (the validation layers see objects that are left).
 */
#include "vulkan-test.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static VkResult failing_result;
static unsigned calls_before_failure;

static VkResult VKAPI_PTR fail_submit(VkQueue queue, uint32_t count, const VkSubmitInfo *submits,
				      VkFence fence)
{
	return failing_result;
}

static VkResult VKAPI_PTR fail_counter(VkDevice device, VkSemaphore semaphore, uint64_t *value)
{
	return failing_result;
}

static PFN_vkAllocateMemory real_allocate;

static VkResult VKAPI_PTR fail_allocate(VkDevice device, const VkMemoryAllocateInfo *info,
					const VkAllocationCallbacks *callbacks,
					VkDeviceMemory *memory)
{
	if (calls_before_failure == 0)
		return failing_result;
	calls_before_failure--;
	return real_allocate(device, info, callbacks, memory);
}

static void assert_says(const char *words)
{
	if (!strstr(gds_last_error(), words))
		fail_msg("\"%s\" does not say \"%s\"", gds_last_error(), words);
}

static void a_device_that_is_not_there_is_refused_with_those_that_are(void **state)
{
	struct vulkan_device *device = open_device();
	struct backend_device *other = NULL;

	assert_int_equal(ops->open(&other, "no such card"), -ENODEV);
	assert_says("no Vulkan device 'no such card'");
	assert_says(device->physical.properties.deviceName);
	assert_int_equal(ops->open(&other, "99"), -ENODEV);
	assert_says("'99'");
	assert_int_equal(ops->open(&other, "99999999999999999999999"), -ENODEV);
	ops->close(&device->base);
}

/* A machine with four devices, one of which gds cannot use. */
static void the_most_capable_usable_device_is_the_default(void **state)
{
	struct vulkan_physical list[4] = { 0 };
	const struct vulkan_physical *picked = NULL;
	static const struct {
		VkPhysicalDeviceType type;
		const char *name;
	} machine[] = {
		{ VK_PHYSICAL_DEVICE_TYPE_CPU, "llvmpipe" },
		{ VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU, "Graphics on Board" },
		{ VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU, "Old Card" },
		{ VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU, "New Card" },
	};

	for (uint32_t i = 0; i < 4; i++) {
		list[i].index = i;
		list[i].properties.deviceType = machine[i].type;
		snprintf(list[i].properties.deviceName, sizeof(list[i].properties.deviceName), "%s",
			 machine[i].name);
	}
	list[2].unfit = "it is too old";
	assert_int_equal(vulkan_physical_pick(list, 4, "", &picked), 0);
	assert_ptr_equal(picked, &list[3]);
	assert_int_equal(vulkan_physical_pick(list, 3, "", &picked), 0);
	assert_ptr_equal(picked, &list[1]);
	assert_int_equal(vulkan_physical_pick(list, 4, "new card", &picked), 0);
	assert_ptr_equal(picked, &list[3]);
	assert_int_equal(vulkan_physical_pick(list, 4, "2", &picked), -ENODEV);
	assert_says("Vulkan device 2 (Old Card): it is too old");
	assert_int_equal(vulkan_physical_pick(list, 4, "4", &picked), -ENODEV);
	assert_says("there is 0: llvmpipe, 1: Graphics on Board, 2: Old Card, 3: New Card");
}

/* What this program prints with --probe, in an environment of its own. */
static void probe(const char *environment, char *output, size_t bytes)
{
	char command[512], self[256];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	size_t used;
	FILE *pipe;

	assert_true(length > 0);
	self[length] = '\0';
	snprintf(command, sizeof(command), "%s '%s' --probe 2>&1", environment, self);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	used = fread(output, 1, bytes - 1, pipe);
	output[used] = '\0';
	if (pclose(pipe) != 0)
		fail_msg("'%s' failed: %s", command, output);
}

static int print_device(const char *backend, const struct gds_device_info *info, const char *reason,
			void *user)
{
	printf("list %s: %s\n", backend, info ? info->name : reason);
	return 0;
}

static int run_probe(void)
{
	struct backend_device *device = NULL;
	const struct gds_vulkan_device vulkan = { sizeof(vulkan), NULL, &device, &device, &device,
						  &device,        0,    0,       0,       0,
						  NULL,           NULL, NULL };
	int err = ops->list(print_device, NULL);

	if (err)
		return 1;
	err = ops->open(&device, "");
	printf("open %s: %s\n", err == -ENODEV ? "ENODEV" : "something else", gds_last_error());
	if (!err)
		ops->close(device);
	if (getenv("NO_LOADER")) {
		err = backend_vulkan_import_device(&vulkan, &device);
		printf("import %s: %s\n", err == -ENODEV ? "ENODEV" : "something else",
		       gds_last_error());
	}
	return 0;
}

static void without_a_driver_list_and_open_say_what_to_install(void **state)
{
	char output[2048];

	probe("VK_DRIVER_FILES=/nonexistent VK_ICD_FILENAMES=/nonexistent", output, sizeof(output));
	assert_non_null(strstr(output, "list vulkan: the Vulkan"));
	assert_non_null(strstr(output, "open ENODEV: the Vulkan"));
	assert_non_null(strstr(output, "mesa-vulkan-drivers"));
	assert_non_null(strstr(output, "VK_DRIVER_FILES"));
}

/* Files that are no libraries, found before the real ones, are as good as none. */
static void without_a_loader_list_and_open_say_what_to_install(void **state)
{
	char folder[] = "/tmp/test-vulkan-XXXXXX", command[400], output[2048];

	assert_non_null(mkdtemp(folder));
	snprintf(command, sizeof(command),
		 "touch %s/libvulkan.so.1 %s/libvulkan.so; NO_LOADER=1 LD_LIBRARY_PATH=%s", folder,
		 folder, folder);
	probe(command, output, sizeof(output));
	snprintf(command, sizeof(command), "rm -r %s", folder);
	assert_int_equal(system(command), 0);
	assert_non_null(strstr(output, "list vulkan: no Vulkan loader: install libvulkan1"));
	assert_non_null(strstr(output, "open ENODEV: no Vulkan loader"));
	assert_non_null(strstr(output, "import ENODEV: no Vulkan loader"));
}

static void more_than_there_is_is_refused_with_the_figures(void **state)
{
	struct vulkan_device *device = open_device();
	struct backend_memory *memory = NULL;

	assert_int_equal(ops->alloc(&device->base, UINT64_C(1) << 50, 0, &memory), -ENOMEM);
	assert_says("1125899906842624 bytes");
	assert_int_equal(ops->alloc(&device->base, UINT64_MAX, 0, &memory), -ENOMEM);
	device->physical.external_memory_host = false;
	assert_int_equal(ops->alloc(&device->base, UINT64_C(1) << 50, 0, &memory), -ENOMEM);
	assert_says("1125899906842624 bytes: memory heap");
	assert_int_equal(ops->alloc(&device->base, UINT64_MAX, 0, &memory), -ENOMEM);
	/* Also where each slice alone would fit. */
	device->slice_bytes = 1 << 20;
	for (uint32_t i = 0; i < device->physical.memory.memoryHeapCount; i++)
		device->physical.memory.memoryHeaps[i].size = (4 << 20) - 1;
	assert_int_equal(ops->alloc(&device->base, 4 << 20, 0, &memory), -ENOMEM);
	assert_says("4194304 bytes: memory heap");
	assert_says("4194303 bytes");
	ops->close(&device->base);
}

static void an_allocation_that_fails_half_way_leaves_nothing(void **state)
{
	struct vulkan_device *device = open_device();
	const bool imports = device->physical.external_memory_host;
	struct backend_memory *memory = NULL;
	struct backend_staging *staging = NULL;
	void *pages = map_pages(1 << 20);
	uint32_t crc;

	device->slice_bytes = 1 << 20;
	real_allocate = device->calls.vkAllocateMemory;
	device->calls.vkAllocateMemory = fail_allocate;
	failing_result = VK_ERROR_OUT_OF_DEVICE_MEMORY;
	for (unsigned import = 0; import < 2; import++) {
		device->physical.external_memory_host = imports && import;
		calls_before_failure = 2;
		assert_int_equal(ops->alloc(&device->base, 4 << 20, 0, &memory), -ENOMEM);
		assert_says(device->label);
		calls_before_failure = 0;
		assert_int_equal(ops->staging_attach(&device->base, pages, 1 << 20, &staging),
				 -ENOMEM);
		/* Scratch memory: for the next try there must be no trace of this one. */
		calls_before_failure = 1;
		assert_int_equal(ops->alloc(&device->base, 100, 0, &memory), 0);
		assert_int_equal(ops->checksum(memory, 0, 100, &crc), -ENOMEM);
		assert_int_equal(ops->copy_out(memory, 0, pages, 100), -ENOMEM);
		calls_before_failure = 1;
		assert_int_equal(ops->checksum(memory, 0, 100, &crc), 0);
		assert_int_equal(ops->copy_out(memory, 0, pages, 100), 0);
		ops->free(memory);
		vulkan_block_destroy(device, &device->scratch.block);
	}
	ops->close(&device->base);
	munmap(pages, 1 << 20);
}

/* Host pages that the driver will not take: the buffer comes from its heap instead. */
static void refused_host_pages_fall_back_to_the_drivers_memory(void **state)
{
	struct vulkan_device *device = open_device();
	struct backend_memory *memory = NULL;

	if (!device->physical.external_memory_host) {
		print_message("skipped: no VK_EXT_external_memory_host\n");
		ops->close(&device->base);
		skip();
	}
	device->physical.host_pointer_alignment = UINT64_C(1) << 40;
	memory = alloc(device, 12345, 0);
	assert_null(to_vulkan_memory(memory)->pages);
	assert_non_null(memory->host);
	ops->free(memory);
	ops->close(&device->base);
}

static void a_lost_device_gives_eio_from_every_call(void **state)
{
	struct vulkan_device *device = open_device();
	struct backend_memory *memory = alloc(device, 4096, 0);
	void *pages = map_pages(4096);
	struct backend_staging *staging = NULL;
	struct backend_copy copy = { memory, NULL, NULL, 0, 0, 4096 };
	PFN_vkQueueSubmit submit = device->calls.vkQueueSubmit;
	PFN_vkGetSemaphoreCounterValue counter = device->get_counter;
	uint64_t ticket = 0, last, done = 0;
	uint32_t crc;

	assert_int_equal(ops->staging_attach(&device->base, pages, 4096, &staging), 0);
	copy.staging = staging;
	assert_int_equal(ops->copy(&device->base, &copy, 1, &last), 0);
	failing_result = VK_ERROR_DEVICE_LOST;
	device->calls.vkQueueSubmit = fail_submit;
	assert_int_equal(ops->copy(&device->base, &copy, 1, &ticket), -EIO);
	assert_says("the device was lost");
	assert_int_equal(ops->copy_in(memory, 0, pages, 4096), -EIO);
	assert_int_equal(ops->copy_out(memory, 0, pages, 4096), -EIO);
	assert_int_equal(ops->checksum(memory, 0, 4096, &crc), -EIO);
	device->get_counter = fail_counter;
	assert_int_equal(ops->copied(&device->base, last, 1000, &done), -EIO);
	assert_says(device->label);
	device->get_counter = counter;
	device->calls.vkQueueSubmit = submit;

	/* A submission that failed is no ticket to wait for, and the next one works. */
	assert_int_equal(ops->copy(&device->base, &copy, 1, &ticket), 0);
	assert_int_equal(ticket, last + 1);
	wait_for(device, ticket);
	device->calls.vkQueueSubmit = fail_submit;
	assert_int_equal(ops->copy(&device->base, &copy, 1, &ticket), -EIO);
	device->calls.vkQueueSubmit = submit;
	ops->staging_detach(staging);
	ops->free(memory);
	ops->close(&device->base);
	munmap(pages, 4096);
}

static void waiting_with_a_timeout_is_no_error(void **state)
{
	struct vulkan_device *device = open_device();
	uint64_t done = 99;

	/* Nobody will submit this: the wait ends by its time. */
	assert_int_equal(ops->copied(&device->base, 1000, 1000000, &done), 0);
	assert_int_equal(done, 0);
	assert_int_equal(ops->copied(&device->base, 1000, 0, &done), 0);
	ops->close(&device->base);
}

static void keep_line(enum gds_log_level level, const char *line, void *user)
{
	if (level <= GDS_LOG_WARNING)
		snprintf(user, 2048, "%.2000s", line);
}

/* If this fails, the silence of the layers in all other cases says nothing. */
static void validation_sees_errors_and_hazards(void **state)
{
	struct vulkan_device *device = open_device();
	struct backend_memory *memory = alloc(device, 4096, 0);
	const VkBufferCopy empty = { 0, 0, 0 }, first = { 0, 1024, 512 }, second = { 0, 1280, 512 };
	VkBuffer buffer = to_vulkan_memory(memory)->slices[0].buffer;
	struct vulkan_frame *frame;
	char line[2048] = "";
	bool active = device->instance.messenger;
	uint64_t before = vulkan_validation_messages();

	gds_log_set(GDS_LOG_WARNING, keep_line, line);
	assert_int_equal(vulkan_begin(device, &frame), 0);
	if (active) {
		device->calls.vkCmdCopyBuffer(frame->commands, buffer, buffer, 1, &empty);
		assert_true(vulkan_validation_messages() > before);
		assert_non_null(strstr(line, "Vulkan validation: "));
		before = vulkan_validation_messages();
		device->calls.vkCmdCopyBuffer(frame->commands, buffer, buffer, 1, &first);
		device->calls.vkCmdCopyBuffer(frame->commands, buffer, buffer, 1, &second);
		assert_true(vulkan_validation_messages() > before);
		assert_non_null(strstr(line, "SYNC-HAZARD-WRITE"));
	}
	vulkan_abandon(device, frame);
	gds_log_set(GDS_LOG_WARNING, NULL, NULL);
	ops->free(memory);
	ops->close(&device->base);
	if (!active) {
		print_message("skipped: the validation layers are not installed "
			      "(Debian: vulkan-validationlayers)\n");
		skip();
	}
}

static void validation_that_is_not_installed_is_warned_about(void **state)
{
	char output[2048];

	probe("VK_LAYER_PATH=/nonexistent", output, sizeof(output));
	assert_non_null(strstr(output, "GDS_VULKAN_VALIDATE=1 has no effect"));
	assert_non_null(strstr(output, "vulkan-validationlayers"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		vulkan_test(a_device_that_is_not_there_is_refused_with_those_that_are),
		vulkan_test(the_most_capable_usable_device_is_the_default),
		vulkan_test(without_a_driver_list_and_open_say_what_to_install),
		vulkan_test(without_a_loader_list_and_open_say_what_to_install),
		vulkan_test(more_than_there_is_is_refused_with_the_figures),
		vulkan_test(an_allocation_that_fails_half_way_leaves_nothing),
		vulkan_test(refused_host_pages_fall_back_to_the_drivers_memory),
		vulkan_test(a_lost_device_gives_eio_from_every_call),
		vulkan_test(waiting_with_a_timeout_is_no_error),
		cmocka_unit_test(validation_sees_errors_and_hazards),
		vulkan_test(validation_that_is_not_installed_is_warned_about),
	};

	setenv("GDS_VULKAN_VALIDATE", "1", 1);
	if (argc > 1 && strcmp(argv[1], "--probe") == 0)
		return run_probe();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
