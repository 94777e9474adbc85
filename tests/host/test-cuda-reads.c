/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads into CUDA memory through the public calls, against a fake driver: the paths
 * that a kernel without dma-buf reads has, and streams that wait for batches.
 */
#include "device.h"
#include "fake-cuda/fake-cuda.h"

#include <errno.h>
#include <gds/gds.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#define FILE_BYTES ((size_t)300 << 10 | 123)

struct scene {
	struct gds_reader *reader;
	struct gds_device *device;
	struct gds_file *file;
	struct gds_buffer *buffer;
	struct gds_batch *batch;
	char path[256];
	unsigned char *bytes;
	CUstream stream; /* a caller's */
	CUevent event;   /* behind what the caller has put in it */
};

#define OK(call)                                                     \
	do {                                                         \
		if ((call) < 0)                                      \
			fail_msg("%s: %s", #call, gds_last_error()); \
	} while (0)

static void make_file(struct scene *scene)
{
	const char *folder = getenv("TMPDIR");
	unsigned seed = 5;
	int fd;

	snprintf(scene->path, sizeof(scene->path), "%s/gds-test-cuda-XXXXXX",
		 folder ? folder : "/tmp");
	fd = mkstemp(scene->path);
	assert_true(fd >= 0);
	scene->bytes = malloc(FILE_BYTES);
	assert_non_null(scene->bytes);
	for (size_t i = 0; i < FILE_BYTES; i++)
		scene->bytes[i] = (unsigned char)((seed = seed * 1103515245 + 12345) >> 16);
	assert_int_equal(write(fd, scene->bytes, FILE_BYTES), FILE_BYTES);
	close(fd);
}

static CUcontext primary_context(void)
{
	CUcontext context;

	/* A program of CUDA's runtime works in the primary context, too. */
	assert_int_equal(cuda.cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
	return context;
}

static int open_scene(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	CUcontext before;

	fake_cuda_reset();
	make_file(scene);
	OK(gds_reader_open(&scene->reader, NULL));
	OK(gds_device_open(&scene->device, "cuda:0"));
	OK(gds_file_open(&scene->file, scene->path));
	OK(gds_buffer_alloc(&scene->buffer, scene->device, FILE_BYTES, 0));
	OK(gds_batch_create(&scene->batch, scene->reader, NULL));
	assert_int_equal(cuda.cuCtxPushCurrent(primary_context()), CUDA_SUCCESS);
	assert_int_equal(cuda.cuStreamCreateWithPriority(&scene->stream, 0, 0), CUDA_SUCCESS);
	assert_int_equal(cuda.cuEventCreate(&scene->event, 0), CUDA_SUCCESS);
	assert_int_equal(cuda.cuCtxPopCurrent(&before), CUDA_SUCCESS);
	*state = scene;
	return 0;
}

static int close_scene(void **state)
{
	struct scene *scene = *state;
	char text[256];

	fake_cuda_fail("*", 0, 0);
	gds_batch_destroy(scene->batch);
	gds_buffer_free(scene->buffer);
	gds_file_close(scene->file);
	gds_reader_close(scene->reader);
	cuda.cuEventDestroy(scene->event);
	cuda.cuStreamDestroy(scene->stream);
	cuda.cuDevicePrimaryCtxRelease(0);
	gds_device_close(scene->device);
	unlink(scene->path);
	free(scene->bytes);
	free(scene);
	if (fake_cuda_alive(text, sizeof(text))) {
		print_message("left behind: %s\n", text);
		return -1;
	}
	return 0;
}

static void add_all(struct scene *scene)
{
	struct gds_request request = {
		.file = scene->file,
		.buffer = scene->buffer,
		.length = FILE_BYTES,
	};

	OK(gds_batch_add(scene->batch, &request, 1));
}

static void wait_in_stream(struct scene *scene)
{
	CUcontext before;

	OK(gds_batch_stream_wait_cuda(scene->batch, scene->device, scene->stream));
	assert_int_equal(cuda.cuCtxPushCurrent(primary_context()), CUDA_SUCCESS);
	assert_int_equal(cuda.cuEventRecord(scene->event, scene->stream), CUDA_SUCCESS);
	assert_int_equal(cuda.cuCtxPopCurrent(&before), CUDA_SUCCESS);
	cuda.cuDevicePrimaryCtxRelease(0);
}

static bool stream_waits(struct scene *scene)
{
	return cuda.cuEventQuery(scene->event) == CUDA_ERROR_NOT_READY;
}

/* ---- Paths ---- */

/* From `skip` on in the file, to `place` in the buffer: where both are 0 they are aligned. */
static void expect_read(struct scene *scene, uint32_t path, size_t skip, size_t place)
{
	const size_t bytes = FILE_BYTES - skip - place;
	struct gds_request request = {
		.file = scene->file,
		.buffer = scene->buffer,
		.offset = skip,
		.length = bytes,
		.buffer_offset = place,
	};
	struct gds_result result;
	uint32_t crc = 0;

	assert_int_equal(gds_read(scene->reader, &request, &result), bytes);
	assert_true(result.path_bytes[path] > bytes / 2);
	OK(gds_buffer_checksum(scene->buffer, place, bytes, &crc));
	assert_int_equal(crc, crc32_z(0, scene->bytes + skip, bytes));
}

static void device_memory_is_read_into_by_copies(void **state)
{
	expect_read(*state, GDS_PATH_BOUNCE, 0, 0);
	fake_cuda_lag(3);
	expect_read(*state, GDS_PATH_BOUNCE, 777, 5);
}

static void host_memory_of_the_device_is_read_into_in_place(void **state)
{
	struct scene *scene = *state;
	struct gds_explanation explanation = { .size = sizeof(explanation) };

	gds_buffer_free(scene->buffer);
	OK(gds_buffer_alloc(&scene->buffer, scene->device, FILE_BYTES, GDS_BUFFER_HOST));
	assert_non_null(gds_buffer_host(scene->buffer));
	OK(gds_explain(scene->reader, scene->file, scene->buffer, &explanation));
	assert_int_equal(explanation.paths[GDS_PATH_MAPPED].usable, 1);
	expect_read(scene, GDS_PATH_MAPPED, 0, 0);
}

static void a_callers_memory_is_read_into_where_it_lies(void **state)
{
	struct scene *scene = *state;
	struct gds_buffer *own = scene->buffer;
	uint64_t address = 0, same = 0;

	OK(gds_buffer_get_cuda(own, &address));
	OK(gds_buffer_import_cuda(&scene->buffer, scene->device, address, FILE_BYTES));
	OK(gds_buffer_get_cuda(scene->buffer, &same));
	assert_int_equal(address, same);
	expect_read(scene, GDS_PATH_BOUNCE, 1, 3);
	gds_buffer_free(scene->buffer);
	scene->buffer = own;
}

static void other_devices_have_nothing_to_do_with_cuda(void **state)
{
	struct scene *scene = *state;
	struct gds_device *host;
	struct gds_buffer *buffer = NULL, *imported = NULL;
	uint64_t address;

	OK(gds_device_open(&host, "host"));
	OK(gds_buffer_alloc(&buffer, host, 4096, 0));
	assert_int_equal(gds_buffer_get_cuda(buffer, &address), -ENOTSUP);
	assert_int_equal(gds_buffer_get_cuda(NULL, &address), -EINVAL);
	assert_int_equal(gds_buffer_import_cuda(&imported, host, 4096, 4096), -ENOTSUP);
	assert_int_equal(gds_buffer_import_cuda(&imported, scene->device, 4096, 0), -EINVAL);
	assert_int_equal(gds_batch_stream_wait_cuda(scene->batch, host, NULL), -ENOTSUP);
	assert_int_equal(gds_batch_stream_wait_cuda(scene->batch, NULL, NULL), -EINVAL);
	gds_buffer_free(buffer);
	gds_device_close(host);
}

/* ---- Streams that wait ---- */

static void a_stream_goes_on_when_its_batch_is_complete(void **state)
{
	struct scene *scene = *state;

	for (unsigned round = 0; round < 3; round++) {
		add_all(scene);
		wait_in_stream(scene);
		assert_true(stream_waits(scene));
		OK(gds_batch_submit(scene->batch));
		assert_int_equal(gds_batch_stream_wait_cuda(scene->batch, scene->device, NULL),
				 -EBUSY);
		OK(gds_batch_wait(scene->batch, -1));
		assert_false(stream_waits(scene));
		assert_int_equal(gds_batch_failures(scene->batch, NULL), 0);
		OK(gds_batch_reset(scene->batch));
	}
}

static void an_empty_batch_lets_its_stream_go_on_at_once(void **state)
{
	struct scene *scene = *state;

	wait_in_stream(scene);
	assert_true(stream_waits(scene));
	OK(gds_batch_submit(scene->batch));
	assert_false(stream_waits(scene));
}

static void a_stream_goes_on_when_its_batch_has_failed(void **state)
{
	struct scene *scene = *state;
	struct gds_result result;

	add_all(scene);
	wait_in_stream(scene);
	fake_cuda_fail("cuMemcpyHtoDAsync_v2", 1, CUDA_ERROR_UNKNOWN);
	OK(gds_batch_submit(scene->batch));
	OK(gds_batch_wait(scene->batch, -1));
	assert_false(stream_waits(scene));
	assert_int_equal(gds_batch_failures(scene->batch, NULL), 1);
	OK(gds_batch_result(scene->batch, 0, &result));
	assert_int_equal(result.bytes, -EIO);
}

static void a_stream_goes_on_when_its_batch_is_given_up(void **state)
{
	struct scene *scene = *state;

	add_all(scene);
	wait_in_stream(scene);
	OK(gds_batch_reset(scene->batch));
	assert_false(stream_waits(scene));
	add_all(scene);
	wait_in_stream(scene);
	assert_true(stream_waits(scene));
	gds_batch_destroy(scene->batch);
	scene->batch = NULL;
	assert_false(stream_waits(scene));
}

static void a_child_of_fork_leaves_the_parents_streams_alone(void **state)
{
	struct scene *scene = *state;
	int status = 0;
	pid_t child;

	add_all(scene);
	wait_in_stream(scene);
	child = fork();
	if (child == 0) {
		int err = gds_batch_reset(scene->batch);

		gds_batch_destroy(scene->batch);
		_exit(err == -EPERM ? 7 : 8);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
	assert_true(stream_waits(scene));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scene, close_scene)
	const struct CMUnitTest tests[] = {
		TEST(device_memory_is_read_into_by_copies),
		TEST(host_memory_of_the_device_is_read_into_in_place),
		TEST(a_callers_memory_is_read_into_where_it_lies),
		TEST(other_devices_have_nothing_to_do_with_cuda),
		TEST(a_stream_goes_on_when_its_batch_is_complete),
		TEST(an_empty_batch_lets_its_stream_go_on_at_once),
		TEST(a_stream_goes_on_when_its_batch_has_failed),
		TEST(a_stream_goes_on_when_its_batch_is_given_up),
		TEST(a_child_of_fork_leaves_the_parents_streams_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
