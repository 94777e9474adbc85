/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of a Vulkan device as dma-bufs, and dma-bufs as its memory. The VM of
 * kernel/vm has a driver that exports (lavapipe, over udmabuf); elsewhere most cases
 * are skipped with the reason that the driver gives.
 */
#include "host/vulkan-test.h"

#include <dirent.h>
#include <liburing.h>
#include <linux/dma-buf.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <zlib.h>

#define PAGE 4096u

static bool in_vm(void)
{
	return getenv("GDS_VM") != NULL;
}

static void skip_because(struct vulkan_device *device, const char *reason)
{
	if (in_vm())
		fail_msg("%s: %s", device->label, reason);
	print_message("skipped: %s: %s\n", device->label, reason);
	ops->close(&device->base);
	skip();
}

static struct vulkan_device *open_exporting(void)
{
	struct vulkan_device *device = open_device();

	if (device->no_export[0])
		skip_because(device, device->no_export);
	return device;
}

static void must(int err)
{
	if (err)
		fail_msg("%s", gds_last_error());
}

static void expect_error(int err, int wanted, const char *text)
{
	assert_int_equal(err, wanted);
	if (!strstr(gds_last_error(), text))
		fail_msg("'%s' does not say '%s'", gds_last_error(), text);
}

/* A dma-buf as the CPU sees it. */
struct view {
	struct backend_export export;
	unsigned char *bytes; /* of the slice */
};

static void access_view(const struct view *view, uint64_t flags)
{
	const struct dma_buf_sync sync = { .flags = flags | DMA_BUF_SYNC_RW };

	assert_int_equal(ioctl(view->export.fd, DMA_BUF_IOCTL_SYNC, &sync), 0);
}

static struct view open_view(struct backend_memory *memory, size_t slice, uint64_t bytes)
{
	struct view view;
	void *start;

	must(ops->export_slice(memory, slice, &view.export));
	assert_int_equal(view.export.bytes % PAGE, 0);
	assert_int_equal(view.export.bytes, lseek(view.export.fd, 0, SEEK_END));
	assert_true(view.export.offset + bytes <= view.export.bytes);
	start = mmap(NULL, view.export.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, view.export.fd,
		     0);
	assert_ptr_not_equal(start, MAP_FAILED);
	view.bytes = (unsigned char *)start + view.export.offset;
	access_view(&view, DMA_BUF_SYNC_START);
	return view;
}

static void close_view(struct view *view)
{
	access_view(view, DMA_BUF_SYNC_END);
	munmap(view->bytes - view->export.offset, view->export.bytes);
	close(view->export.fd);
}

static void assert_device_sees(struct backend_memory *memory, const unsigned char *expected)
{
	unsigned char *seen = map_pages(memory->bytes);

	must(ops->copy_out(memory, 0, seen, memory->bytes));
	assert_memory_equal(seen, expected, memory->bytes);
	munmap(seen, memory->bytes);
}

/* What the device wrote is in the slices' dma-bufs, and what is written there it sees. */
static void check_slices(struct vulkan_device *device, struct backend_memory *memory)
{
	unsigned char *expected = map_pages(memory->bytes);
	const uint64_t most = device->slice_bytes;

	fill_random(expected, memory->bytes);
	must(ops->copy_in(memory, 0, expected, memory->bytes));
	for (size_t i = 0; i * most < memory->bytes; i++) {
		const uint64_t at = i * most;
		const uint64_t bytes = memory->bytes - at < most ? memory->bytes - at : most;
		struct view view = open_view(memory, i, bytes);

		assert_memory_equal(view.bytes, expected + at, bytes);
		if (memory->host)
			assert_memory_equal((char *)memory->host + at, expected + at, bytes);
		fill_random(view.bytes, bytes);
		memcpy(expected + at, view.bytes, bytes);
		close_view(&view);
	}
	must(ops->acquire(memory, 0, memory->bytes));
	assert_device_sees(memory, expected);
	if (memory->host)
		assert_memory_equal(memory->host, expected, memory->bytes);
	munmap(expected, memory->bytes);
}

/* ---- Export --------------------------------------------------------------------- */

static void dma_bufs_are_the_memory_that_the_device_sees(void **state)
{
	static const uint64_t sizes[] = { 1, PAGE - 1, PAGE, PAGE + 1, (3 << 20) + 5 };
	struct vulkan_device *device = open_exporting();

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct backend_memory *memory = alloc(device, sizes[i], 0);

		check_slices(device, memory);
		ops->free(memory);
	}
	ops->close(&device->base);
}

static void every_slice_is_a_dma_buf_of_its_own(void **state)
{
	struct vulkan_device *device = open_exporting();
	struct backend_memory *memory;

	device->slice_bytes = 64 << 10;
	memory = alloc(device, (5 << 16) + 7, 0);
	check_slices(device, memory);
	ops->free(memory);
	ops->close(&device->base);
}

/* So that the path through host pages is as good as where nothing is exported. */
static void memory_of_the_host_is_contiguous_and_can_be_pinned_too(void **state)
{
	struct vulkan_device *device = open_exporting();
	struct io_uring ring;

	if (!device->exports_pinnable)
		skip_because(device, "mappings of what it exports cannot be pinned");
	device->slice_bytes = 64 << 10;
	assert_int_equal(io_uring_queue_init(1, &ring, 0), 0);
	for (uint64_t bytes = 1; bytes < 1 << 20; bytes = bytes * 9 + 1) {
		struct backend_memory *memory = alloc(device, bytes, 0);
		const struct iovec range = { memory->host, bytes };

		assert_non_null(memory->host);
		assert_int_equal(io_uring_register_buffers(&ring, &range, 1), 0);
		assert_int_equal(io_uring_unregister_buffers(&ring), 0);
		check_slices(device, memory);
		ops->free(memory);
	}
	io_uring_queue_exit(&ring);
	ops->close(&device->base);
}

static void the_placement_is_said_in_words(void **state)
{
	struct vulkan_device *device = open_device();
	const VkPhysicalDeviceType type = device->physical.properties.deviceType;
	VkMemoryType *types = device->physical.memory.memoryTypes;
	struct backend_memory *memory = alloc(device, PAGE, 0);

	if (type != VK_PHYSICAL_DEVICE_TYPE_CPU) {
		print_message("skipped: only of a device on the CPU is the answer known\n");
		ops->free(memory);
		ops->close(&device->base);
		skip();
	}
	assert_string_equal(memory->placement, "host");
	ops->free(memory);

	device->physical.properties.deviceType = VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
	device->unified = false;
	memory = alloc(device, PAGE, 0);
	assert_string_equal(memory->placement, "visible device");
	ops->free(memory);
	for (uint32_t i = 0; i < device->physical.memory.memoryTypeCount; i++)
		types[i].propertyFlags = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
	memory = alloc(device, PAGE, 0);
	assert_string_equal(memory->placement, "device");
	ops->free(memory);
	ops->close(&device->base);
}

/* ---- Allocations that a buffer has to itself -------------------------------------- */

static PFN_vkAllocateMemory real_allocate;
static unsigned allocations, dedicated_allocations, ragged_exports, failing_exports;

static VkResult VKAPI_PTR count_allocations(VkDevice device, const VkMemoryAllocateInfo *info,
					    const VkAllocationCallbacks *callbacks,
					    VkDeviceMemory *memory)
{
	bool exports = false;

	allocations++;
	for (const VkBaseInStructure *next = info->pNext; next; next = next->pNext) {
		dedicated_allocations +=
			next->sType == VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO;
		exports |= next->sType == VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO;
	}
	ragged_exports += exports && info->allocationSize % PAGE;
	if (exports && failing_exports)
		return failing_exports--, VK_ERROR_OUT_OF_DEVICE_MEMORY;
	return real_allocate(device, info, callbacks, memory);
}

static void watch_allocations(struct vulkan_device *device)
{
	real_allocate = device->calls.vkAllocateMemory;
	device->calls.vkAllocateMemory = count_allocations;
	allocations = dedicated_allocations = ragged_exports = failing_exports = 0;
}

static void drivers_that_want_it_get_dedicated_allocations(void **state)
{
	struct vulkan_device *device = open_exporting();
	struct backend_memory *memory, *imported = NULL;
	struct backend_export export;

	watch_allocations(device);
	device->physical.dma_buf_features |= VK_EXTERNAL_MEMORY_FEATURE_DEDICATED_ONLY_BIT;
	device->slice_bytes = 64 << 10;
	memory = alloc(device, (3 << 16) + 1, 0);
	assert_int_equal(allocations, 4);
	assert_int_equal(dedicated_allocations, 4);
	/* Dma-bufs are made of whole pages, and the driver need not know. */
	assert_int_equal(ragged_exports, 0);
	check_slices(device, memory);

	must(ops->export_slice(memory, 0, &export));
	expect_error(ops->import_dmabuf(&device->base, export.fd, PAGE, 100, &imported), -ENOTSUP,
		     "from their start only");
	must(ops->import_dmabuf(&device->base, export.fd, 0, 100, &imported));
	ops->free(imported);
	close(export.fd);
	ops->free(memory);
	ops->close(&device->base);
}

/* ---- Import ----------------------------------------------------------------------- */

static void an_imported_dma_buf_is_the_same_memory_to_a_second_device(void **state)
{
	static const uint64_t ranges[][2] = {
		{ 0, 1 << 20 }, { 0, 77 }, { PAGE, 100001 }, { (1 << 20) - PAGE, PAGE }
	};
	struct vulkan_device *first = open_exporting(), *second = open_exporting();
	struct backend_memory *memory = alloc(first, 1 << 20, 0), *imported = NULL;
	unsigned char *expected = map_pages(1 << 20);
	struct backend_export export;

	fill_random(expected, 1 << 20);
	must(ops->copy_in(memory, 0, expected, 1 << 20));
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		const uint64_t offset = ranges[i][0], bytes = ranges[i][1];

		must(ops->export_slice(memory, 0, &export));
		must(ops->import_dmabuf(&second->base, export.fd, offset, bytes, &imported));
		assert_int_equal(imported->bytes, bytes);
		/* What was imported does not need the caller's descriptor any more. */
		close(export.fd);
		assert_device_sees(imported, expected + offset);
		if (imported->host)
			assert_memory_equal(imported->host, expected + offset, bytes);
		fill_random(expected + offset, bytes);
		must(ops->copy_in(imported, 0, expected + offset, bytes));
		assert_device_sees(memory, expected);
		if (i == 0)
			assert_non_null(strstr(imported->placement, "dma-buf of "));
		ops->free(imported);
	}
	/* Nor the memory that it came from. */
	must(ops->export_slice(memory, 0, &export));
	must(ops->import_dmabuf(&second->base, export.fd, 0, 1 << 20, &imported));
	close(export.fd);
	ops->free(memory);
	ops->close(&first->base);
	assert_device_sees(imported, expected);
	ops->free(imported);
	ops->close(&second->base);
	munmap(expected, 1 << 20);
}

static void imported_dma_bufs_are_exported_again_slice_by_slice(void **state)
{
	const uint64_t bytes = (3 << 16) + 5;
	struct vulkan_device *device = open_exporting();
	struct backend_memory *memory = alloc(device, 1 << 20, 0), *imported = NULL;
	struct backend_export export, again;

	must(ops->export_slice(memory, 0, &export));
	must(ops->import_dmabuf(&device->base, export.fd, 2 * PAGE, bytes, &imported));
	device->slice_bytes = 64 << 10;
	must(ops->export_slice(imported, 2, &again));
	assert_int_equal(again.bytes, export.bytes);
	assert_int_equal(again.offset, 2 * PAGE + (2 << 16));
	close(again.fd);
	check_slices(device, imported);
	expect_error(ops->export_slice(imported, 4, &again), -EINVAL, "no slice 4");
	close(export.fd);
	ops->free(imported);
	ops->free(memory);
	ops->close(&device->base);
}

static void what_cannot_be_imported_is_refused(void **state)
{
	struct vulkan_device *device = open_exporting();
	struct backend_memory *memory = alloc(device, 1 << 20, 0), *imported = NULL;
	const int file = memfd_create("no dma-buf", 0);
	struct backend_export export;
	int ends[2];

	must(ops->export_slice(memory, 0, &export));
	expect_error(ops->import_dmabuf(&device->base, export.fd, PAGE, 1 << 20, &imported),
		     -EINVAL, "lie outside");
	expect_error(ops->import_dmabuf(&device->base, export.fd, UINT64_MAX, 2, &imported),
		     -EINVAL, "lie outside");
	expect_error(ops->import_dmabuf(&device->base, export.fd, 1, 100, &imported), -EINVAL,
		     "must be a multiple of");
	assert_int_equal(ftruncate(file, 1 << 20), 0);
	expect_error(ops->import_dmabuf(&device->base, file, 0, 100, &imported), -EINVAL,
		     "is no dma-buf");
	assert_int_equal(pipe(ends), 0);
	expect_error(ops->import_dmabuf(&device->base, ends[0], 0, 100, &imported), -EINVAL,
		     "is no dma-buf");
	close(ends[0]);
	close(ends[1]);
	expect_error(ops->import_dmabuf(&device->base, ends[0], 0, 100, &imported), -EBADF,
		     "the dma-buf");
	device->physical.dma_buf_features &=
		~(VkExternalMemoryFeatureFlags)VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT;
	expect_error(ops->import_dmabuf(&device->base, export.fd, 0, 100, &imported), -ENOTSUP,
		     "does not import");
	assert_null(imported);
	close(file);
	close(export.fd);
	ops->free(memory);
	ops->close(&device->base);
}

static void the_public_call_imports_on_vulkan_devices_only(void **state)
{
	struct vulkan_device *device = open_exporting();
	struct backend_memory *memory = alloc(device, 12345, 0);
	struct gds_device *vulkan = NULL, *host = NULL;
	struct gds_buffer *buffer = NULL;
	unsigned char expected[12345], seen[sizeof(expected)];
	struct backend_export export;

	fill_random(expected, sizeof(expected));
	must(ops->copy_in(memory, 0, expected, sizeof(expected)));
	must(ops->export_slice(memory, 0, &export));
	must(gds_device_open(&vulkan, "vulkan"));
	must(gds_device_open(&host, "host"));
	expect_error(gds_buffer_import_dmabuf(&buffer, host, export.fd, 0, 100), -ENOTSUP,
		     "does not take dma-bufs");
	expect_error(gds_buffer_import_dmabuf(&buffer, vulkan, export.fd, 0, 0), -EINVAL, "pass");
	expect_error(gds_buffer_import_dmabuf(&buffer, vulkan, -1, 0, 100), -EINVAL, "pass");
	must(gds_buffer_import_dmabuf(&buffer, vulkan, export.fd, 0, sizeof(expected)));
	must(gds_buffer_copy_out(buffer, 0, seen, sizeof(seen)));
	assert_memory_equal(seen, expected, sizeof(expected));
	gds_buffer_free(buffer);
	gds_device_close(host);
	gds_device_close(vulkan);
	close(export.fd);
	ops->free(memory);
	ops->close(&device->base);
}

/* ---- Refusals to export ------------------------------------------------------------- */

static void drivers_without_dma_bufs_are_named_as_the_reason(void **state)
{
	struct vulkan_device *device = open_device();
	struct backend_memory *memory, *imported = NULL;
	struct backend_export export;

	if (!device->no_export[0]) {
		print_message("skipped: %s exports dma-bufs\n", device->label);
		ops->close(&device->base);
		skip();
	}
	for (unsigned from_driver = 0; from_driver < 2; from_driver++) {
		device->physical.external_memory_host &= !from_driver;
		memory = alloc(device, PAGE, 0);
		expect_error(ops->export_slice(memory, 0, &export), -EOPNOTSUPP, device->no_export);
		must(ops->acquire(memory, 0, PAGE));
		ops->free(memory);
	}
	if (!device->physical.external_memory_dma_buf)
		expect_error(ops->import_dmabuf(&device->base, 0, 0, PAGE, &imported), -ENOTSUP,
			     "VK_EXT_external_memory_dma_buf");
	print_message("%s\n", gds_last_error());
	ops->close(&device->base);
}

static VkResult VKAPI_PTR refuse_fd(VkDevice device, const VkMemoryGetFdInfoKHR *info, int *fd)
{
	return VK_ERROR_OUT_OF_HOST_MEMORY;
}

static void memory_that_cannot_be_exported_says_why(void **state)
{
	struct vulkan_device *device = open_exporting();
	struct backend_memory *memory;
	struct backend_export export;

	memory = alloc(device, PAGE, 0);
	expect_error(ops->export_slice(memory, 1, &export), -EINVAL, "no slice 1");
	device->calls.vkGetMemoryFdKHR = refuse_fd;
	expect_error(ops->export_slice(memory, 0, &export), -EOPNOTSUPP, "cannot export");
	ops->free(memory);

	/* Where its mapping cannot be pinned, host pages are the better memory. */
	device->exports_pinnable = false;
	memory = alloc(device, PAGE, 0);
	assert_non_null(to_vulkan_memory(memory)->pages);
	expect_error(ops->export_slice(memory, 0, &export), -EOPNOTSUPP, "lies in host pages");
	ops->free(memory);
	ops->close(&device->base);
}

static void host_pages_serve_where_exportable_memory_runs_out(void **state)
{
	struct vulkan_device *device = open_exporting();
	struct backend_memory *memory;
	struct backend_export export;

	if (!device->exports_pinnable)
		skip_because(device, "mappings of what it exports cannot be pinned");
	device->slice_bytes = 64 << 10;
	for (unsigned when = 1; when <= 2; when++) {
		watch_allocations(device);
		failing_exports = 1;
		device->physical.external_memory_host = when == 1;
		memory = alloc(device, 2 << 16, 0);
		assert_int_equal(!!memory->host, when == 1);
		expect_error(ops->export_slice(memory, 0, &export), -EOPNOTSUPP,
			     "gave no memory that can be exported, of 65536 bytes");
		assert_int_equal(failing_exports, 0);
		device->calls.vkAllocateMemory = real_allocate;
		ops->free(memory);
	}
	ops->close(&device->base);
}

/* ---- A caller's device and memory --------------------------------------------------- */

/* A second view of a device of ours, as if it were a caller's. */
static struct vulkan_device *adopt(struct vulkan_device *caller, bool dma_bufs)
{
	const struct gds_vulkan_device vulkan = {
		.size = sizeof(vulkan),
		.get_instance_proc_addr = caller->instance.get_proc,
		.instance = caller->instance.handle,
		.physical_device = caller->physical.handle,
		.device = caller->handle,
		.queue = caller->queue,
		.queue_family = caller->queue_family,
		.has_external_memory_dma_buf = dma_bufs,
		.has_queue_family_foreign = caller->physical.queue_family_foreign,
	};
	struct backend_device *device = NULL;

	must(backend_vulkan_import_device(&vulkan, &device));
	return to_vulkan_device(device);
}

/* Memory for export, and a buffer that is bound at `offset` in it. */
static struct gds_vulkan_buffer make_buffer(struct vulkan_device *caller, uint64_t offset,
					    uint64_t bytes)
{
	const VkExternalMemoryHandleTypeFlags type = VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT;
	const VkExternalMemoryBufferCreateInfo external = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
		.handleTypes = type,
	};
	const VkBufferCreateInfo create = {
		.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
		.pNext = &external,
		.size = bytes,
		.usage = VULKAN_BUFFER_USAGE,
	};
	const VkExportMemoryAllocateInfo export = {
		.sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO,
		.handleTypes = type,
	};
	VkMemoryAllocateInfo allocate = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
		.pNext = &export,
	};
	VkMemoryRequirements needs;
	VkBuffer buffer;
	VkDeviceMemory memory;

	assert_int_equal(caller->calls.vkCreateBuffer(caller->handle, &create, NULL, &buffer), 0);
	caller->calls.vkGetBufferMemoryRequirements(caller->handle, buffer, &needs);
	while (!(needs.memoryTypeBits & (1u << allocate.memoryTypeIndex)))
		allocate.memoryTypeIndex++;
	allocate.allocationSize = (offset + needs.size + PAGE - 1) / PAGE * PAGE;
	assert_int_equal(caller->calls.vkAllocateMemory(caller->handle, &allocate, NULL, &memory),
			 0);
	assert_int_equal(caller->calls.vkBindBufferMemory(caller->handle, buffer, memory, offset),
			 0);
	return (struct gds_vulkan_buffer){
		.size = sizeof(struct gds_vulkan_buffer),
		.buffer = (uint64_t)(uintptr_t)buffer,
		.memory = (uint64_t)(uintptr_t)memory,
		.memory_offset = offset,
		.bytes = bytes,
		.memory_type = allocate.memoryTypeIndex,
		.exportable = 1,
	};
}

static void destroy_buffer(struct vulkan_device *caller, const struct gds_vulkan_buffer *buffer)
{
	caller->calls.vkDestroyBuffer(caller->handle, (VkBuffer)(uintptr_t)buffer->buffer, NULL);
	caller->calls.vkFreeMemory(caller->handle, (VkDeviceMemory)(uintptr_t)buffer->memory, NULL);
}

static void a_callers_exportable_buffer_is_exported_where_it_is_bound(void **state)
{
	struct vulkan_device *caller = open_exporting(), *device = adopt(caller, true);
	struct gds_vulkan_buffer buffer = make_buffer(caller, 3 * PAGE, (2 << 16) + PAGE);
	struct backend_memory *memory = NULL;
	struct backend_export export;

	must(backend_vulkan_import_buffer(&device->base, &buffer, &memory));
	must(ops->export_slice(memory, 0, &export));
	assert_int_equal(export.offset, 3 * PAGE);
	close(export.fd);
	device->slice_bytes = 64 << 10;
	check_slices(device, memory);
	ops->free(memory);

	buffer.exportable = 0;
	must(backend_vulkan_import_buffer(&device->base, &buffer, &memory));
	expect_error(ops->export_slice(memory, 0, &export), -EOPNOTSUPP, "exportable");
	ops->free(memory);
	ops->close(&device->base);

	buffer.exportable = 1;
	device = adopt(caller, false);
	must(backend_vulkan_import_buffer(&device->base, &buffer, &memory));
	expect_error(ops->export_slice(memory, 0, &export), -EOPNOTSUPP, "not said");
	ops->free(memory);
	ops->close(&device->base);
	destroy_buffer(caller, &buffer);
	ops->close(&caller->base);
}

/* ---- What a drive wrote is acquired -------------------------------------------------- */

static PFN_vkCmdPipelineBarrier real_barrier;
static unsigned acquisitions;
static struct vulkan_device *watched;

/* NOLINTNEXTLINE(readability-function-size): the parameters are those of Vulkan */
static void VKAPI_PTR count_barriers(VkCommandBuffer commands, VkPipelineStageFlags from,
				     VkPipelineStageFlags to, VkDependencyFlags flags,
				     uint32_t memory_count, const VkMemoryBarrier *memory,
				     uint32_t buffer_count, const VkBufferMemoryBarrier *buffers,
				     uint32_t image_count, const VkImageMemoryBarrier *images)
{
	for (uint32_t i = 0; i < buffer_count; i++) {
		assert_int_equal(buffers[i].srcQueueFamilyIndex, watched->foreign_family);
		assert_int_equal(buffers[i].dstQueueFamilyIndex, watched->queue_family);
		acquisitions++;
	}
	real_barrier(commands, from, to, flags, memory_count, memory, buffer_count, buffers,
		     image_count, images);
}

static void watch_barriers(struct vulkan_device *device)
{
	watched = device;
	real_barrier = device->calls.vkCmdPipelineBarrier;
	device->calls.vkCmdPipelineBarrier = count_barriers;
	acquisitions = 0;
}

static void copy_between(struct vulkan_device *device, struct backend_memory *to,
			 struct backend_memory *from)
{
	const struct backend_copy copies[] = { { .memory = to, .source = from, .bytes = 100 },
					       { .memory = to,
						 .source = from,
						 .offset = 200,
						 .source_offset = 200,
						 .bytes = 70000 } };
	uint64_t ticket;

	must(ops->copy(&device->base, copies, 2, &ticket));
	wait_for(device, ticket);
}

static void work_of_our_own_acquires_what_was_exported(void **state)
{
	struct vulkan_device *device = open_exporting();
	struct backend_memory *memory, *other;
	struct backend_export export;
	static unsigned char bytes[(1 << 16) + 100];
	unsigned char byte;
	uint64_t before;
	uint32_t crc = 0;

	device->slice_bytes = 64 << 10;
	watch_barriers(device);
	memory = alloc(device, 2 << 16, 0);
	other = alloc(device, 2 << 16, 0);
	/* Coherent memory of the host: a submission is all that it takes. */
	must(ops->export_slice(memory, 0, &export));
	close(export.fd);
	must(ops->copy_out(memory, 0, &byte, 1));
	assert_int_equal(acquisitions, device->unified ? 0 : 1);

	device->unified = false;
	for (size_t slice = 0; slice < 2; slice++) {
		must(ops->export_slice(memory, slice, &export));
		close(export.fd);
	}
	acquisitions = 0;
	copy_between(device, other, memory);
	assert_int_equal(acquisitions, 2);
	must(ops->copy_out(memory, 1 << 16, &byte, 1));
	assert_int_equal(acquisitions, 3);
	must(ops->copy_out(other, 1 << 16, &byte, 1));
	assert_int_equal(acquisitions, 3);
	check_slices(device, memory);

	/* The one checksum here: where the device is emulated, it takes half a minute. */
	must(ops->copy_out(memory, 0, bytes, sizeof(bytes)));
	acquisitions = 0;
	must(ops->checksum(memory, 0, sizeof(bytes), &crc));
	assert_int_equal(crc, crc32_z(0, bytes, sizeof(bytes)));
	assert_int_equal(acquisitions, 2);

	before = device->submitted;
	must(ops->acquire(memory, 0, 1 << 17));
	assert_int_equal(device->submitted, before);
	ops->free(other);
	ops->free(memory);
	ops->close(&device->base);
}

static void on_a_callers_device_it_is_acquired_when_the_read_ends(void **state)
{
	struct vulkan_device *caller = open_exporting(), *device = adopt(caller, true);
	struct gds_vulkan_buffer buffer = make_buffer(caller, 0, 2 << 16);
	struct backend_memory *memory = NULL;
	struct backend_export export;
	uint64_t before, done = 0;

	device->unified = false;
	watch_barriers(device);
	must(backend_vulkan_import_buffer(&device->base, &buffer, &memory));
	before = device->submitted;
	must(ops->acquire(memory, 0, memory->bytes));
	assert_int_equal(device->submitted, before);
	must(ops->export_slice(memory, 0, &export));
	close(export.fd);
	must(ops->acquire(memory, 5, 100));
	assert_int_equal(acquisitions, 1);
	assert_int_equal(device->submitted, before + 1);
	must(ops->copied(&device->base, device->submitted, 0, &done));
	assert_int_equal(done, device->submitted);
	check_slices(device, memory);
	ops->free(memory);
	ops->close(&device->base);
	destroy_buffer(caller, &buffer);
	ops->close(&caller->base);
}

/* ---- Descriptors --------------------------------------------------------------------- */

static int open_descriptors(void)
{
	DIR *listing = opendir("/proc/self/fd");
	int count = 0;

	assert_non_null(listing);
	while (readdir(listing))
		count++;
	closedir(listing);
	return count;
}

static VkResult VKAPI_PTR refuse_memory(VkDevice device, const VkMemoryAllocateInfo *info,
					const VkAllocationCallbacks *callbacks,
					VkDeviceMemory *memory)
{
	return VK_ERROR_INVALID_EXTERNAL_HANDLE;
}

static void no_descriptor_is_left_open(void **state)
{
	struct vulkan_device *device = open_exporting();
	PFN_vkAllocateMemory allocate = device->calls.vkAllocateMemory;
	struct backend_memory *memory, *imported = NULL;
	struct backend_export export;
	int before;

	must(ops->copy_in(memory = alloc(device, PAGE, 0), 0, "", 1));
	ops->free(memory);
	before = open_descriptors();
	for (unsigned i = 0; i < 20; i++) {
		memory = alloc(device, 1 << 20, 0);
		must(ops->export_slice(memory, 0, &export));
		device->calls.vkAllocateMemory = refuse_memory;
		expect_error(ops->import_dmabuf(&device->base, export.fd, 0, PAGE, &imported),
			     -ENOTSUP, "refuses");
		device->calls.vkAllocateMemory = allocate;
		must(ops->import_dmabuf(&device->base, export.fd, 0, PAGE, &imported));
		close(export.fd);
		must(ops->export_slice(imported, 0, &export));
		close(export.fd);
		ops->free(imported);
		ops->free(memory);
	}
	assert_int_equal(open_descriptors(), before);
	ops->close(&device->base);
}

static uint64_t mapped_bytes(void)
{
	FILE *statm = fopen("/proc/self/statm", "r");
	char line[128];

	assert_non_null(statm);
	assert_non_null(fgets(line, sizeof(line), statm));
	fclose(statm);
	return strtoull(line, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void no_mapping_is_left_behind(void **state)
{
	const uint64_t bytes = 32 << 20;
	struct vulkan_device *device = open_exporting();
	uint64_t before;

	device->slice_bytes = 8 << 20;
	ops->free(alloc(device, bytes, 0));
	before = mapped_bytes();
	for (unsigned i = 0; i < 10; i++)
		ops->free(alloc(device, bytes, 0));
	assert_true(mapped_bytes() < before + 5 * bytes);
	ops->close(&device->base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		vulkan_test(dma_bufs_are_the_memory_that_the_device_sees),
		vulkan_test(every_slice_is_a_dma_buf_of_its_own),
		vulkan_test(memory_of_the_host_is_contiguous_and_can_be_pinned_too),
		vulkan_test(the_placement_is_said_in_words),
		vulkan_test(drivers_that_want_it_get_dedicated_allocations),
		vulkan_test(an_imported_dma_buf_is_the_same_memory_to_a_second_device),
		vulkan_test(imported_dma_bufs_are_exported_again_slice_by_slice),
		vulkan_test(what_cannot_be_imported_is_refused),
		vulkan_test(the_public_call_imports_on_vulkan_devices_only),
		vulkan_test(drivers_without_dma_bufs_are_named_as_the_reason),
		vulkan_test(memory_that_cannot_be_exported_says_why),
		vulkan_test(host_pages_serve_where_exportable_memory_runs_out),
		vulkan_test(a_callers_exportable_buffer_is_exported_where_it_is_bound),
		vulkan_test(work_of_our_own_acquires_what_was_exported),
		vulkan_test(on_a_callers_device_it_is_acquired_when_the_read_ends),
		vulkan_test(no_descriptor_is_left_open),
		vulkan_test(no_mapping_is_left_behind),
	};

	setenv("GDS_VULKAN_VALIDATE", "1", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
