/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

#include "nearest-code.h"

#include <inttypes.h>
#include <string.h>

#define BLOCK_BYTES UINT64_C(4096) /* drives read whole ones; dma-bufs are made of such */
#define LOCAL       VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT
#define VISIBLE     (VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)
#define GDS(call)   ((call) < 0 ? fail("%s", gds_last_error()) : (void)0)

enum { GROUP_ROWS = 64 };                 /* local_size_x of the shader */
enum { READ_DONE = 1, COSINES_DONE = 2 }; /* values of the timeline semaphore */

/* The push constants of the shader. */
struct shape {
	uint32_t first;
	uint32_t rows;
	uint32_t columns;
	uint32_t row;
};

static uint64_t block_start(uint64_t offset)
{
	return offset & ~(BLOCK_BYTES - 1);
}

static uint64_t block_end(uint64_t offset)
{
	return block_start(offset + BLOCK_BYTES - 1);
}

/* ---- Buffers ---- */

/* The first type that has the flags, of those in `types`; -1 if there is none. */
static int find_type(const struct gpu *gpu, uint32_t types, VkMemoryPropertyFlags flags)
{
	const VkPhysicalDeviceMemoryProperties *memory = &gpu->compute.memory;

	for (uint32_t i = 0; i < memory->memoryTypeCount; i++)
		if (types & 1u << i && (memory->memoryTypes[i].propertyFlags & flags) == flags)
			return (int)i;
	return -1;
}

/* Whether memory of such buffers can be exported as a dma-buf; else 0. */
static VkExternalMemoryFeatureFlags export_features(const struct gpu *gpu, VkBufferUsageFlags usage)
{
	const VkPhysicalDeviceExternalBufferInfo info = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_BUFFER_INFO,
		.usage = usage,
		.handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT,
	};
	VkExternalBufferProperties properties = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_BUFFER_PROPERTIES
	};

	if (!gpu->compute.dma_buf)
		return 0;
	vkGetPhysicalDeviceExternalBufferProperties(gpu->compute.physical, &info, &properties);
	if (!(properties.externalMemoryProperties.externalMemoryFeatures &
	      VK_EXTERNAL_MEMORY_FEATURE_EXPORTABLE_BIT))
		return 0;
	return properties.externalMemoryProperties.externalMemoryFeatures;
}

/* Memory for the buffer, with what the first of the two sets of flags asks for that it can. */
static VkResult allocate(const struct gpu *gpu, struct gpu_buffer *buffer,
			 VkExternalMemoryFeatureFlags features,
			 const VkMemoryPropertyFlags flags[2])
{
	const VkMemoryDedicatedAllocateInfo dedicated = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO, .buffer = buffer->buffer
	};
	const VkExportMemoryAllocateInfo exported = {
		.sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO,
		.pNext = features & VK_EXTERNAL_MEMORY_FEATURE_DEDICATED_ONLY_BIT ? &dedicated
										  : NULL,
		.handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT,
	};
	VkMemoryAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
				      .pNext = buffer->exportable ? &exported : NULL };
	VkMemoryRequirements needs;
	int type;

	vkGetBufferMemoryRequirements(gpu->compute.device, buffer->buffer, &needs);
	type = find_type(gpu, needs.memoryTypeBits, flags[0]);
	if (type < 0)
		type = find_type(gpu, needs.memoryTypeBits, flags[1]);
	if (type < 0)
		fail("%s has no memory of the kind that is needed",
		     gpu->compute.properties.deviceName);
	/* What is not exported may have to be moved within it: see place(). */
	info.allocationSize = buffer->exportable ? needs.size : needs.size + BLOCK_BYTES;
	info.memoryTypeIndex = buffer->type = (uint32_t)type;
	return vkAllocateMemory(gpu->compute.device, &info, NULL, &buffer->memory);
}

/*
 * Binds the buffer, and maps it where the CPU can address it. It begins where a block of
 * the page cache or of a drive could: O_DIRECT asks that of memory that is read into.
 */
static void place(const struct gpu *gpu, struct gpu_buffer *buffer)
{
	const VkMemoryType *type = &gpu->compute.memory.memoryTypes[buffer->type];
	void *start = NULL;

	if ((type->propertyFlags & VISIBLE) == VISIBLE) {
		VK(vkMapMemory(gpu->compute.device, buffer->memory, 0, VK_WHOLE_SIZE, 0, &start));
		if (!buffer->exportable)
			buffer->offset = block_end((uintptr_t)start) - (uintptr_t)start;
		buffer->mapping = (char *)start + buffer->offset;
	}
	VK(vkBindBufferMemory(gpu->compute.device, buffer->buffer, buffer->memory, buffer->offset));
}

static void destroy_buffer(const struct gpu *gpu, struct gpu_buffer *buffer)
{
	vkDestroyBuffer(gpu->compute.device, buffer->buffer, NULL);
	vkFreeMemory(gpu->compute.device, buffer->memory, NULL);
	*buffer = (struct gpu_buffer){ 0 };
}

/* Some drivers promise exports that they cannot make: then the buffer goes without. */
static void create_buffer(const struct gpu *gpu, struct gpu_buffer *buffer, VkDeviceSize bytes,
			  bool exportable, const VkMemoryPropertyFlags flags[2])
{
	static const VkExternalMemoryBufferCreateInfo external = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
		.handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT,
	};
	VkBufferCreateInfo info = { .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
				    .size = bytes,
				    .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
					     VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
					     VK_BUFFER_USAGE_TRANSFER_DST_BIT };
	const VkExternalMemoryFeatureFlags features =
		exportable ? export_features(gpu, info.usage) : 0;
	VkResult result;

	info.pNext = features ? &external : NULL;
	VK(vkCreateBuffer(gpu->compute.device, &info, NULL, &buffer->buffer));
	buffer->bytes = bytes;
	buffer->exportable = features != 0;
	result = allocate(gpu, buffer, features, flags);
	if (result != VK_SUCCESS && buffer->exportable) {
		destroy_buffer(gpu, buffer);
		create_buffer(gpu, buffer, bytes, false, flags);
		return;
	}
	compute_check(result, "vkAllocateMemory");
	place(gpu, buffer);
}

/* ---- The device, known to gds ---- */

static void import(struct gpu *gpu)
{
	const struct gds_reader_options options = { .size = sizeof(options),
						    .flags = GDS_READER_PROGRESS_THREAD };
	const struct gds_vulkan_device device = compute_describe(&gpu->compute);
	const struct gds_vulkan_buffer buffer = {
		.size = sizeof(buffer),
		.buffer = (uint64_t)(uintptr_t)gpu->values.buffer,
		.memory = (uint64_t)(uintptr_t)gpu->values.memory,
		.memory_offset = gpu->values.offset,
		.bytes = gpu->values.bytes,
		.memory_type = gpu->values.type,
		.mapping = gpu->values.mapping,
		.exportable = gpu->values.exportable,
	};

	GDS(gds_reader_open(&gpu->reader, &options));
	GDS(gds_device_import_vulkan(&gpu->device, &device));
	GDS(gds_buffer_import_vulkan(&gpu->buffer, gpu->device, &buffer));
}

void gpu_open(struct gpu *gpu, const char *name, const struct matrix *matrix)
{
	static const VkMemoryPropertyFlags local[] = { LOCAL | VISIBLE, LOCAL };
	static const VkMemoryPropertyFlags visible[] = {
		VISIBLE | VK_MEMORY_PROPERTY_HOST_CACHED_BIT, VISIBLE
	};
	const uint64_t start = block_start(matrix->offset);
	const uint64_t bytes = block_end(matrix->offset + matrix->bytes) - start;
	struct compute_binding bindings[2];

	memset(gpu, 0, sizeof(*gpu));
	compute_open(&gpu->compute, name);
	if (bytes > gpu->compute.properties.limits.maxStorageBufferRange)
		fail("%s binds at most %u bytes to a shader, and the matrix has %" PRIu64,
		     gpu->compute.properties.deviceName,
		     gpu->compute.properties.limits.maxStorageBufferRange, bytes);
	gpu->first_byte = matrix->offset - start;
	create_buffer(gpu, &gpu->values, bytes, true, local);
	create_buffer(gpu, &gpu->cosines, matrix->rows * sizeof(float), false, visible);
	import(gpu);
	bindings[0] = (struct compute_binding){ gpu->values.buffer, 0, bytes };
	bindings[1] = (struct compute_binding){ gpu->cosines.buffer, 0, gpu->cosines.bytes };
	compute_shader_create(&gpu->compute, &gpu->shader, nearest_code, sizeof(nearest_code),
			      bindings, 2, sizeof(struct shape));
}

void gpu_close(struct gpu *gpu)
{
	gds_buffer_free(gpu->buffer);
	gds_device_close(gpu->device);
	gds_reader_close(gpu->reader);
	compute_shader_destroy(&gpu->compute, &gpu->shader);
	destroy_buffer(gpu, &gpu->cosines);
	destroy_buffer(gpu, &gpu->values);
	compute_close(&gpu->compute);
}

/* ---- Read and compute ---- */

/*
 * gds copies by its queue, and may hand memory over by it. Where that is the one that waits
 * for the read, the read must need neither: whole blocks that the storage itself writes into
 * memory of the host, which is the device's too, and no other way if that fails. Otherwise
 * the CPU waits for the read before it submits the work.
 */
static const char *must_wait_on_cpu(struct gpu *gpu, const struct gds_request *read,
				    struct gds_batch_options *options)
{
	struct gds_explanation why = { .size = sizeof(why) };
	struct gds_device_info info = { .size = sizeof(info) };

	if (gpu->compute.queue_count > 1)
		return NULL;
	GDS(gds_device_get_info(gpu->device, &info));
	if (!info.unified)
		return "the device has one queue, which gds needs for memory of a card";
	if (read->offset + read->length > (uint64_t)gds_file_bytes(read->file))
		return "the device has one queue, which gds needs for the last, partial block";
	GDS(gds_explain(gpu->reader, read->file, read->buffer, &why));
	if (options->path == GDS_PATH_AUTO)
		options->path = why.path;
	if (options->path == GDS_PATH_BOUNCE)
		return "the device has one queue, which gds needs for the copies of this path";
	options->flags = GDS_BATCH_NO_FALLBACK;
	return NULL;
}

/*
 * The work that was submitted before the bytes arrived makes them visible to itself when it
 * begins: gds_batch_signal_vulkan() in gds.h tells of the first barrier. The second one lets
 * the CPU see the result.
 */
static void dispatch(const struct gpu *gpu, const struct matrix *matrix, uint32_t row)
{
	const VkPipelineStageFlags stage = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
	VkCommandBuffer commands = gpu->compute.commands;
	const VkMemoryBarrier before = { VK_STRUCTURE_TYPE_MEMORY_BARRIER, NULL,
					 VK_ACCESS_HOST_WRITE_BIT, VK_ACCESS_SHADER_READ_BIT };
	const VkMemoryBarrier after = { VK_STRUCTURE_TYPE_MEMORY_BARRIER, NULL,
					VK_ACCESS_SHADER_WRITE_BIT, VK_ACCESS_HOST_READ_BIT };
	const struct shape shape = { (uint32_t)(gpu->first_byte / sizeof(float)), matrix->rows,
				     matrix->columns, row };

	compute_begin(&gpu->compute, &gpu->shader);
	vkCmdPipelineBarrier(commands, stage | VK_PIPELINE_STAGE_HOST_BIT, stage, 0, 1, &before, 0,
			     NULL, 0, NULL);
	vkCmdPushConstants(commands, gpu->shader.layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
			   sizeof(shape), &shape);
	vkCmdDispatch(commands, (matrix->rows + GROUP_ROWS - 1) / GROUP_ROWS, 1, 1);
	vkCmdPipelineBarrier(commands, stage, VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &after, 0, NULL, 0,
			     NULL);
	compute_submit(&gpu->compute, stage, READ_DONE, COSINES_DONE);
}

static void signal_read_done(const struct gpu *gpu)
{
	const VkSemaphoreSignalInfo info = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
					     .semaphore = gpu->compute.timeline,
					     .value = READ_DONE };

	VK(vkSignalSemaphore(gpu->compute.device, &info));
}

/* A failed read signals nothing: the queue is let go, and what it computed is dropped. */
static void finish_read(struct gpu *gpu, struct gds_batch *batch, uint64_t needed)
{
	GDS(gds_batch_wait(batch, -1));
	GDS(gds_batch_result(batch, 0, &gpu->result));
	if (gpu->result.bytes < 0 || !gpu->queue_waits)
		signal_read_done(gpu);
	if (gpu->result.bytes >= (int64_t)needed)
		return;
	vkDeviceWaitIdle(gpu->compute.device);
	if (gpu->result.bytes < 0)
		fail("%s", gds_last_error());
	fail("the file became shorter while it was read");
}

void gpu_run(struct gpu *gpu, const char *file, enum gds_path path, const struct matrix *matrix,
	     uint32_t row, float *cosines)
{
	struct gds_batch_options options = { .size = sizeof(options), .path = path };
	struct gds_request read = { .buffer = gpu->buffer,
				    .offset = block_start(matrix->offset),
				    .length = gpu->values.bytes };
	const uint64_t needed = gpu->first_byte + matrix->bytes;
	struct gds_batch *batch;

	GDS(gds_file_open(&read.file, file));
	gpu->cpu_waits_because = must_wait_on_cpu(gpu, &read, &options);
	gpu->queue_waits = !gpu->cpu_waits_because;
	GDS(gds_batch_create(&batch, gpu->reader, &options));
	GDS(gds_batch_add(batch, &read, 1));
	if (gpu->queue_waits)
		GDS(gds_batch_signal_vulkan(batch, gpu->device,
					    (uint64_t)(uintptr_t)gpu->compute.timeline, READ_DONE));
	GDS(gds_batch_submit(batch));
	if (gpu->queue_waits) {
		dispatch(gpu, matrix, row);
		finish_read(gpu, batch, needed);
	} else {
		finish_read(gpu, batch, needed);
		dispatch(gpu, matrix, row);
	}
	compute_wait(&gpu->compute, COSINES_DONE);
	memcpy(cosines, gpu->cosines.mapping, matrix->rows * sizeof(float));
	gds_batch_destroy(batch);
	gds_file_close(read.file);
}

void gpu_row(struct gpu *gpu, const struct matrix *matrix, uint32_t row, float *values)
{
	const uint64_t row_bytes = matrix->columns * sizeof(float);

	GDS(gds_buffer_copy_out(gpu->buffer, gpu->first_byte + row * row_bytes, values, row_bytes));
}
