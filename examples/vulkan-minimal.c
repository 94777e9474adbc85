/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least that an application with a Vulkan device of its own does: it allocates memory,
 * has a file read into it, and submits work that waits on the GPU's queue for the bytes. The
 * CPU waits for nothing in between, only for the result: the sum of the file's 32-bit words.
 */
#include "vulkan/compute.h"

#include "minimal-code.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCK_BYTES UINT64_C(4096)
#define MOST_BYTES  (UINT64_C(16) << 20)

enum { READ_DONE = 1, SUM_DONE = 2 }; /* values of the timeline semaphore */

static void die(const char *message)
{
	fprintf(stderr, "vulkan-minimal: %s\n", message);
	exit(1);
}

#define GDS(call) ((call) < 0 ? die(gds_last_error()) : (void)0)

static struct compute_binding binding_of(struct gds_buffer *buffer)
{
	struct compute_binding binding;
	uint64_t handle;

	GDS(gds_buffer_get_vulkan(buffer, 0, &handle, &binding.offset, &binding.bytes));
	binding.buffer = (VkBuffer)(uintptr_t)handle;
	return binding;
}

/*
 * One queue that waits for the read cannot serve it too: then the storage itself must write
 * where the device reads, and not by a detour when that turns out to fail.
 */
static void choose_path(const struct compute *compute, struct gds_reader *reader,
			struct gds_device *device, const struct gds_request *read,
			struct gds_batch_options *options)
{
	struct gds_explanation why = { .size = sizeof(why) };
	struct gds_device_info info = { .size = sizeof(info) };

	if (compute->queue_count > 1)
		return;
	GDS(gds_explain(reader, read->file, read->buffer, &why));
	GDS(gds_device_get_info(device, &info));
	if (!info.unified || why.path == GDS_PATH_BOUNCE)
		die("this device has a single queue, which gds needs during the read");
	options->path = why.path;
	options->flags = GDS_BATCH_NO_FALLBACK;
}

/*
 * The read's bytes come after the submission, so the work makes them visible to itself when
 * it begins: gds_batch_signal_vulkan() in gds.h tells of this barrier.
 */
static void dispatch(const struct compute *compute, const struct compute_shader *shader)
{
	const VkPipelineStageFlags stage = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
	const VkMemoryBarrier barrier = { VK_STRUCTURE_TYPE_MEMORY_BARRIER, NULL,
					  VK_ACCESS_HOST_WRITE_BIT, VK_ACCESS_SHADER_READ_BIT };

	compute_begin(compute, shader);
	vkCmdPipelineBarrier(compute->commands, stage | VK_PIPELINE_STAGE_HOST_BIT, stage, 0, 1,
			     &barrier, 0, NULL, 0, NULL);
	vkCmdDispatch(compute->commands, 64, 1, 1);
	compute_submit(compute, stage, READ_DONE, SUM_DONE);
}

int main(int argc, char **argv)
{
	const struct gds_reader_options options = { .size = sizeof(options),
						    .flags = GDS_READER_PROGRESS_THREAD };
	struct gds_batch_options batch_options = { .size = sizeof(batch_options) };
	struct gds_request read = { 0 };
	struct gds_result result;
	struct gds_vulkan_device description;
	struct gds_reader *reader;
	struct gds_device *device;
	struct gds_buffer *sum;
	struct gds_batch *batch;
	struct compute compute;
	struct compute_shader shader;
	uint32_t value = 0;

	if (argc != 2)
		die("name a file or a block device");
	compute_open(&compute, NULL);
	description = compute_describe(&compute);

	/* Allocate. */
	GDS(gds_reader_open(&reader, &options));
	GDS(gds_device_import_vulkan(&device, &description));
	GDS(gds_file_open(&read.file, argv[1]));
	read.length = (uint64_t)gds_file_bytes(read.file) & ~(BLOCK_BYTES - 1);
	if (read.length == 0)
		die("the file has less than a block of 4096 bytes");
	read.length = read.length < MOST_BYTES ? read.length : MOST_BYTES;
	GDS(gds_buffer_alloc(&read.buffer, device, read.length, 0));
	GDS(gds_buffer_alloc(&sum, device, sizeof(value), 0));
	GDS(gds_buffer_copy_in(sum, 0, &value, sizeof(value)));

	/* Read. */
	choose_path(&compute, reader, device, &read, &batch_options);
	GDS(gds_batch_create(&batch, reader, &batch_options));
	GDS(gds_batch_add(batch, &read, 1));
	GDS(gds_batch_signal_vulkan(batch, device, (uint64_t)(uintptr_t)compute.timeline,
				    READ_DONE));
	GDS(gds_batch_submit(batch));

	/* Wait, on the queue, and dispatch. */
	compute_shader_create(
		&compute, &shader, minimal_code, sizeof(minimal_code),
		(struct compute_binding[]){ binding_of(read.buffer), binding_of(sum) }, 2, 0);
	dispatch(&compute, &shader);

	/* The result. A read that failed signals nothing: then there is none. */
	GDS(gds_batch_wait(batch, -1));
	GDS(gds_batch_result(batch, 0, &result));
	GDS(result.bytes);
	compute_wait(&compute, SUM_DONE);
	GDS(gds_buffer_copy_out(sum, 0, &value, sizeof(value)));
	printf("0x%08" PRIx32 " is the sum of %" PRId64 " bytes, %" PRIu64
	       " of them by the path dmabuf\n",
	       value, result.bytes, result.path_bytes[GDS_PATH_DMABUF]);

	gds_batch_destroy(batch);
	gds_file_close(read.file);
	gds_buffer_free(sum);
	gds_buffer_free(read.buffer);
	gds_device_close(device);
	gds_reader_close(reader);
	compute_shader_destroy(&compute, &shader);
	compute_close(&compute);
	return 0;
}
