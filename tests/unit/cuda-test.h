/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the CUDA backend against the fake driver share. */
#ifndef CUDA_TEST_H
#define CUDA_TEST_H

#include "device.h"
#include "fake-cuda/fake-cuda.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

static const struct backend_ops *const ops = &backend_cuda;

/* Slices of the tests: the least that the fake maps. */
#define TEST_SLICE ((uint64_t)2 << 20)

static inline struct backend_device *open_device(const char *selector)
{
	struct backend_device *device = NULL;

	if (ops->open(&device, selector))
		fail_msg("cannot open cuda:%s: %s", selector, gds_last_error());
	to_cuda_device(device)->slice_bytes = TEST_SLICE;
	return device;
}

static inline struct backend_memory *alloc(struct backend_device *device, uint64_t bytes,
					   uint32_t flags)
{
	struct backend_memory *memory = NULL;

	if (ops->alloc(device, bytes, flags, &memory))
		fail_msg("cannot allocate: %s", gds_last_error());
	assert_int_equal(memory->bytes, bytes);
	assert_ptr_equal(memory->device, device);
	assert_non_null(memory->placement);
	if (!memory->host) {
		assert_non_null(memory->no_host_reason);
		assert_non_null(memory->no_host_remedy);
	}
	return memory;
}

static inline void *pages(size_t bytes)
{
	void *memory =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

static inline void fill(void *bytes, size_t count, unsigned seed)
{
	unsigned char *at = bytes;

	for (size_t i = 0; i < count; i++)
		at[i] = (unsigned char)((seed = seed * 1103515245 + 12345) >> 16);
}

/* Whether the device sees what fill() gave, at an offset of the memory. */
static inline void expect(struct backend_memory *memory, uint64_t offset, size_t count,
			  unsigned seed)
{
	unsigned char *wanted = malloc(count), *found = malloc(count);

	assert_non_null(wanted);
	assert_non_null(found);
	fill(wanted, count, seed);
	assert_int_equal(ops->copy_out(memory, offset, found, count), 0);
	assert_memory_equal(found, wanted, count);
	free(wanted);
	free(found);
}

static inline void put(struct backend_memory *memory, uint64_t offset, size_t count, unsigned seed)
{
	unsigned char *bytes = malloc(count);

	assert_non_null(bytes);
	fill(bytes, count, seed);
	assert_int_equal(ops->copy_in(memory, offset, bytes, count), 0);
	free(bytes);
}

/* As the setup and the teardown of each test. What a failed one left is not counted twice. */
static int alive_before;

static inline int fresh_fake(void **state)
{
	char text[256];

	fake_cuda_reset();
	alive_before = fake_cuda_alive(text, sizeof(text));
	return 0;
}

static inline int nothing_is_alive(void **state)
{
	char text[256];
	CUcontext context = NULL;

	fake_cuda_fail("*", 0, 0);
	if (fake_cuda_alive(text, sizeof(text)) != alive_before) {
		print_message("left behind: %s\n", text);
		return -1;
	}
	/* What was entered was left. */
	cuda.cuCtxGetCurrent(&context);
	return context ? -1 : 0;
}

#define CUDA_TEST(name) cmocka_unit_test_setup_teardown(name, fresh_fake, nothing_is_alive)

#endif
