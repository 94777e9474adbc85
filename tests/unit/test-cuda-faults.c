/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA backend while its driver fails: a use of all of it is made again and again,
 * and each time another one of its calls of the driver fails, with each kind of error.
 * Whatever fails, there is a clean error or a right result, and nothing is left behind.
 */
#include "cuda-test.h"

#include "base/log.h"

#include <pthread.h>

#define HOST_BYTES ((size_t)64 << 10)
#define BYTES      (TEST_SLICE + 9000)

/* What a use has and has to give back, however far it got. */
struct use {
	struct backend_device *device;
	struct backend_memory *own;
	struct backend_memory *host;
	struct backend_memory *imported;
	struct backend_staging *staging;
	CUcontext context;
	CUdeviceptr theirs;
	CUstream stream;
	CUevent event;
	struct cuda_wait *wait;
	void *pages;
	unsigned errors;
	char message[512]; /* of the first error */
};

/* Notes an error; true where there is none. */
static bool fine(struct use *use, const char *what, int err)
{
	if (!err)
		return true;
	if (err > 0 || !gds_last_error()[0])
		fail_msg("%s gives %d, and '%s'", what, err, gds_last_error());
	if (use->errors++ == 0)
		snprintf(use->message, sizeof(use->message), "%s: %s", what, gds_last_error());
	return false;
}

static int no_more(const char *backend, const struct gds_device_info *info, const char *reason,
		   void *user)
{
	return 0;
}

/* ---- What is not the backend's: a caller's memory and stream, made while nothing fails ---- */

static void make_caller(struct use *use)
{
	CUcontext before;

	use->context = fake_cuda_context(0);
	cuda.cuCtxPushCurrent(use->context);
	cuda.cuMemAlloc(&use->theirs, HOST_BYTES);
	cuda.cuStreamCreateWithPriority(&use->stream, 0, 0);
	cuda.cuEventCreate(&use->event, 0);
	cuda.cuCtxPopCurrent(&before);
	assert_non_null(use->event);
}

static void end_caller(struct use *use)
{
	cuda.cuEventDestroy(use->event);
	cuda.cuStreamDestroy(use->stream);
	cuda.cuMemFree(use->theirs);
	fake_cuda_context_end(use->context);
}

/* ---- What is ---- */

static bool use_copy(struct use *use, const struct backend_copy *copies, size_t count)
{
	uint64_t ticket = 0, done = 0;

	if (!fine(use, "copy", ops->copy(use->device, copies, count, &ticket)))
		return false;
	while (done < ticket)
		if (!fine(use, "copied", ops->copied(use->device, ticket, 1000000, &done)))
			return false;
	return true;
}

static void use_copies(struct use *use)
{
	struct backend_copy copies[] = {
		{ .memory = use->own, .staging = use->staging, .offset = 3, .bytes = 20000 },
		{ .memory = use->imported, .staging = use->staging, .bytes = 10000 },
		{ .memory = use->host, .staging = use->staging, .bytes = 5000 },
	};
	struct backend_copy within = { .memory = use->imported,
				       .source = use->own,
				       .offset = 20000,
				       .source_offset = 3,
				       .bytes = 7000 };
	struct backend_copy beside = {
		.memory = use->own, .source = use->host, .offset = 30000, .bytes = 5000
	};
	unsigned char found[20000];

	fill(use->pages, HOST_BYTES, 1);
	if (!use->staging || !use->own || !use->imported || !use->host)
		return;
	if (!use_copy(use, copies, 3) || !use_copy(use, &within, 1) || !use_copy(use, &beside, 1))
		return;
	if (fine(use, "copy_out", ops->copy_out(use->own, 3, found, 20000)))
		assert_memory_equal(found, use->pages, 20000);
	if (fine(use, "copy_out", ops->copy_out(use->imported, 20000, found, 7000)))
		assert_memory_equal(found, use->pages, 7000);
	if (fine(use, "copy_out", ops->copy_out(use->own, 30000, found, 5000)))
		assert_memory_equal(found, use->pages, 5000);
}

static void use_checksum(struct use *use, struct backend_memory *memory)
{
	unsigned char bytes[600];
	uint32_t crc;

	fill(bytes, sizeof(bytes), 2);
	if (memory && fine(use, "copy_in", ops->copy_in(memory, 5, bytes, sizeof(bytes))) &&
	    fine(use, "checksum", ops->checksum(memory, 5, sizeof(bytes), &crc)))
		assert_int_equal(crc, crc32_z(0, bytes, sizeof(bytes)));
}

static void use_export(struct use *use, struct backend_memory *memory, size_t slice)
{
	struct backend_export exported = { .fd = -1 };
	unsigned char written[500], found[500];

	if (!memory || !fine(use, "export", ops->export_slice(memory, slice, &exported)))
		return;
	fill(written, sizeof(written), 3);
	assert_true(fake_cuda_drive_writes(exported.fd, exported.offset, written, sizeof(written)));
	close(exported.fd);
	if (fine(use, "acquire", ops->acquire(memory, slice * TEST_SLICE, 500)) &&
	    fine(use, "copy_out", ops->copy_out(memory, slice * TEST_SLICE, found, sizeof(found))))
		assert_memory_equal(found, written, sizeof(found));
}

/* The stream goes on in any case: where the wait failed, and where it was released. */
static void use_wait(struct use *use)
{
	if (fine(use, "wait", backend_cuda_stream_wait(use->device, use->stream, &use->wait)))
		backend_cuda_release(use->wait);
}

static void open_all(struct use *use)
{
	ops->list(no_more, NULL);
	if (!fine(use, "open", ops->open(&use->device, "")))
		return;
	to_cuda_device(use->device)->slice_bytes = TEST_SLICE;
	if (!fine(use, "alloc", ops->alloc(use->device, BYTES, 0, &use->own)))
		use->own = NULL;
	if (!fine(use, "alloc", ops->alloc(use->device, HOST_BYTES, GDS_BUFFER_HOST, &use->host)))
		use->host = NULL;
	if (!fine(use, "import",
		  backend_cuda_import(use->device, use->theirs, HOST_BYTES, &use->imported)))
		use->imported = NULL;
	if (!fine(use, "attach",
		  ops->staging_attach(use->device, use->pages, HOST_BYTES, &use->staging)))
		use->staging = NULL;
}

static void close_all(struct use *use)
{
	if (use->staging)
		ops->staging_detach(use->staging);
	if (use->imported)
		ops->free(use->imported);
	if (use->host)
		ops->free(use->host);
	if (use->own)
		ops->free(use->own);
	if (use->device)
		ops->close(use->device);
}

static void use_all(struct use *use)
{
	open_all(use);
	if (use->device) {
		struct gds_device_info info = { .size = sizeof(info) };

		ops->info(use->device, &info);
		use_copies(use);
		use_checksum(use, use->own);
		use_checksum(use, use->imported);
		use_export(use, use->own, 0);
		use_export(use, use->own, 1);
		use_export(use, use->imported, 0);
		use_wait(use);
	}
	close_all(use);
}

/*
 * Where the event behind a stream's wait cannot be recorded, nothing tells when the
 * stream has passed: the page that it may look at is kept. Returns what is left else.
 */
static int without_kept_page(const struct use *use, int left)
{
	if (left && strstr(use->message, "cannot record an event in the stream")) {
		alive_before++;
		left--;
	}
	return left;
}

/* Once, with the nth call failing. Returns how many calls were made. */
static unsigned use_once(unsigned nth, unsigned code)
{
	struct use use = { .pages = pages(HOST_BYTES) };
	char text[256];
	unsigned calls;
	CUcontext context;
	int alive;

	make_caller(&use);
	alive = fake_cuda_alive(text, sizeof(text));
	calls = fake_cuda_calls("*");
	if (nth)
		fake_cuda_fail("*", nth, code);
	use_all(&use);
	calls = fake_cuda_calls("*") - calls;
	fake_cuda_fail("*", 0, 0);
	if (without_kept_page(&use, fake_cuda_alive(text, sizeof(text)) - alive))
		fail_msg("call %u, %s, failed with %u (%s) and left behind: %s", nth,
			 fake_cuda_failed(), code, use.message, text);
	cuda.cuCtxGetCurrent(&context);
	assert_null(context);
	end_caller(&use);
	assert_int_equal(fake_cuda_alive(text, sizeof(text)), alive_before);
	munmap(use.pages, HOST_BYTES);
	if (!nth && use.errors)
		fail_msg("nothing was made to fail, but: %s", use.message);
	return calls;
}

/* What goes wrong is not printed: it is all wished for. */
static void ignore_line(enum gds_log_level level, const char *line, void *user)
{
}

static void fail_each_call(unsigned code)
{
	unsigned calls;

	gds_log_set(GDS_LOG_DEBUG, ignore_line, NULL);
	calls = use_once(0, 0);
	assert_true(calls > 100);
	for (unsigned nth = 1; nth <= calls; nth++)
		use_once(nth, code);
	gds_log_set(GDS_LOG_WARNING, NULL, NULL);
}

static void any_call_may_fail_for_lack_of_memory(void **state)
{
	fail_each_call(CUDA_ERROR_OUT_OF_MEMORY);
}

static void any_call_may_fail_as_not_supported(void **state)
{
	fail_each_call(CUDA_ERROR_NOT_SUPPORTED);
}

static void any_call_may_fail_as_invalid(void **state)
{
	fail_each_call(CUDA_ERROR_INVALID_VALUE);
}

static void any_call_may_fail_for_an_unknown_reason(void **state)
{
	fail_each_call(CUDA_ERROR_UNKNOWN);
}

static void any_call_may_fail_while_copies_are_under_way(void **state)
{
	fake_cuda_lag(2);
	fail_each_call(CUDA_ERROR_ILLEGAL_ADDRESS);
}

static void any_call_may_fail_with_plain_memory_and_flushes(void **state)
{
	fake_cuda_attribute(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0);
	fake_cuda_attribute(CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 0);
	fake_cuda_attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING, 0);
	fail_each_call(CUDA_ERROR_UNKNOWN);
}

static void a_driver_that_fails_for_good_gives_errors_and_no_more(void **state)
{
	unsigned errors = 0;

	gds_log_set(GDS_LOG_DEBUG, ignore_line, NULL);
	for (unsigned first = 1; first < 200; first += 9) {
		struct use use = { .pages = pages(HOST_BYTES) };
		char text[256];

		make_caller(&use);
		for (unsigned i = 0; i < 16; i++)
			fake_cuda_fail("*", first + i, CUDA_ERROR_UNKNOWN);
		use_all(&use);
		fake_cuda_fail("*", 0, 0);
		end_caller(&use);
		munmap(use.pages, HOST_BYTES);
		errors += use.errors;
		if (without_kept_page(&use, fake_cuda_alive(text, sizeof(text)) - alive_before))
			fail_msg("from call %u on: %s", first, text);
	}
	assert_true(errors > 20);
	gds_log_set(GDS_LOG_WARNING, NULL, NULL);
}

/* The calls that a caller's memory and streams are made by, before the backend's. */
static int load(void **state)
{
	return cuda_load();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CUDA_TEST(any_call_may_fail_for_lack_of_memory),
		CUDA_TEST(any_call_may_fail_as_not_supported),
		CUDA_TEST(any_call_may_fail_as_invalid),
		CUDA_TEST(any_call_may_fail_for_an_unknown_reason),
		CUDA_TEST(any_call_may_fail_while_copies_are_under_way),
		CUDA_TEST(any_call_may_fail_with_plain_memory_and_flushes),
		CUDA_TEST(a_driver_that_fails_for_good_gives_errors_and_no_more),
	};

	return cmocka_run_group_tests(tests, load, NULL);
}
