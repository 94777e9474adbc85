/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA backend on a GPU, with NVIDIA's own driver: what a fake cannot show. Skipped
 * where there is none.
 */
#include "device.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#define BYTES        ((uint64_t)40 << 20 | 4321)
#define STAGED_BYTES ((size_t)8 << 20)

static const struct backend_ops *const ops = &backend_cuda;
static struct backend_device *device; /* of the first GPU, or NULL */
static char no_device[512];

/* Cases that need the GPU begin with this. */
static void need_device(void)
{
	if (device)
		return;
	print_message("%s\n", no_device);
	skip();
}

static int open_device(void **state)
{
	if (ops->open(&device, "") == 0)
		return 0;
	device = NULL;
	snprintf(no_device, sizeof(no_device), "%s", gds_last_error());
	return 0;
}

static int close_device(void **state)
{
	if (device)
		ops->close(device);
	return 0;
}

static unsigned char *filled(size_t count, unsigned seed)
{
	unsigned char *bytes = malloc(count);

	assert_non_null(bytes);
	for (size_t i = 0; i < count; i++)
		bytes[i] = (unsigned char)((seed = seed * 1103515245 + 12345) >> 16);
	return bytes;
}

static struct backend_memory *alloc(uint32_t flags)
{
	struct backend_memory *memory = NULL;

	if (ops->alloc(device, BYTES, flags, &memory))
		fail_msg("cannot allocate: %s", gds_last_error());
	return memory;
}

static void memory_holds_what_was_copied_in(void **state)
{
	need_device();
	for (uint32_t flags = 0; flags <= GDS_BUFFER_HOST; flags += GDS_BUFFER_HOST) {
		struct backend_memory *memory = alloc(flags);
		unsigned char *wanted = filled(BYTES, 1), *found = malloc(BYTES);

		assert_int_equal(ops->copy_in(memory, 0, wanted, BYTES), 0);
		assert_int_equal(ops->copy_out(memory, 0, found, BYTES), 0);
		assert_memory_equal(found, wanted, BYTES);
		if (memory->host)
			assert_memory_equal(memory->host, wanted, BYTES);
		print_message("memory is '%s'\n", memory->placement);
		free(wanted);
		free(found);
		ops->free(memory);
	}
}

static void the_kernel_gives_the_checksum_of_zlib(void **state)
{
	struct backend_memory *memory;
	unsigned char *bytes;
	uint32_t crc = 0;

	need_device();
	memory = alloc(0);
	bytes = filled(BYTES, 2);
	assert_int_equal(ops->copy_in(memory, 0, bytes, BYTES), 0);
	for (uint64_t offset = 0; offset < 40; offset += 13) {
		assert_int_equal(ops->checksum(memory, offset, BYTES - 2 * offset, &crc), 0);
		assert_int_equal(crc, crc32_z(0, bytes + offset, BYTES - 2 * offset));
	}
	/* By the GPU, and not by the CPU from copies. */
	assert_false(to_cuda_device(device)->primary->checksum.refused);
	free(bytes);
	ops->free(memory);
}

static void staged_copies_arrive_by_their_ticket(void **state)
{
	struct backend_memory *memory, *second;
	struct backend_staging *staging = NULL;
	unsigned char *bytes, *found;
	struct backend_copy copy;
	uint64_t ticket = 0, done = 0;
	void *host;

	need_device();
	memory = alloc(0);
	second = alloc(0);
	host = mmap(NULL, STAGED_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(host, MAP_FAILED);
	assert_int_equal(ops->staging_attach(device, host, STAGED_BYTES, &staging), 0);
	bytes = filled(STAGED_BYTES, 3);
	memcpy(host, bytes, STAGED_BYTES);
	copy = (struct backend_copy){
		.memory = memory, .staging = staging, .offset = 5, .bytes = STAGED_BYTES
	};
	assert_int_equal(ops->copy(device, &copy, 1, &ticket), 0);
	copy = (struct backend_copy){ .memory = second,
				      .source = memory,
				      .offset = 77,
				      .source_offset = 5,
				      .bytes = STAGED_BYTES };
	assert_int_equal(ops->copy(device, &copy, 1, &ticket), 0);
	while (done < ticket)
		assert_int_equal(ops->copied(device, ticket, 1000000, &done), 0);
	found = malloc(STAGED_BYTES);
	assert_int_equal(ops->copy_out(second, 77, found, STAGED_BYTES), 0);
	assert_memory_equal(found, bytes, STAGED_BYTES);
	free(found);
	free(bytes);
	ops->staging_detach(staging);
	munmap(host, STAGED_BYTES);
	ops->free(second);
	ops->free(memory);
}

static void a_slice_is_exported_or_the_reason_is_told(void **state)
{
	struct backend_export exported = { .fd = -1 };
	struct backend_memory *memory;

	need_device();
	memory = alloc(0);
	if (ops->export_slice(memory, 0, &exported)) {
		print_message("not exported: %s\n", gds_last_error());
		assert_true(gds_last_error()[0]);
		ops->free(memory);
		skip();
	}
	assert_true(exported.bytes >= BYTES && exported.bytes % 4096 == 0);
	assert_int_equal(lseek(exported.fd, 0, SEEK_END), exported.bytes);
	close(exported.fd);
	assert_int_equal(ops->acquire(memory, 0, BYTES), 0);
	ops->free(memory);
}

static void a_stream_waits_until_it_is_released(void **state)
{
	CUcontext before;
	CUstream stream;
	CUevent event;
	struct cuda_wait *wait = NULL;

	need_device();
	assert_int_equal(cuda.cuCtxPushCurrent(to_cuda_device(device)->primary->context),
			 CUDA_SUCCESS);
	assert_int_equal(cuda.cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0),
			 CUDA_SUCCESS);
	assert_int_equal(cuda.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
	if (backend_cuda_stream_wait(device, stream, &wait))
		fail_msg("%s", gds_last_error());
	assert_int_equal(cuda.cuEventRecord(event, stream), CUDA_SUCCESS);
	usleep(20000); /* for a stream that would not wait */
	assert_int_equal(cuda.cuEventQuery(event), CUDA_ERROR_NOT_READY);
	backend_cuda_release(wait);
	assert_int_equal(cuda.cuEventSynchronize(event), CUDA_SUCCESS);
	cuda.cuEventDestroy(event);
	cuda.cuStreamDestroy(stream);
	cuda.cuCtxPopCurrent(&before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_holds_what_was_copied_in),
		cmocka_unit_test(the_kernel_gives_the_checksum_of_zlib),
		cmocka_unit_test(staged_copies_arrive_by_their_ticket),
		cmocka_unit_test(a_slice_is_exported_or_the_reason_is_told),
		cmocka_unit_test(a_stream_waits_until_it_is_released),
	};

	return cmocka_run_group_tests(tests, open_device, close_device);
}
