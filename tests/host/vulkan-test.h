/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the Vulkan backend share. Every case runs with the validation
 * layers, where they are installed, and fails by any message of theirs.
 */
#ifndef GDS_TESTS_VULKAN_TEST_H
#define GDS_TESTS_VULKAN_TEST_H

#include "vulkan.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

static const struct backend_ops *const ops = &backend_vulkan;
static uint64_t messages_before;

static uint64_t random_state = 88172645463325252;

static inline uint64_t random_u64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* A number below `limit`. */
static inline uint64_t below(uint64_t limit)
{
	return random_u64() % limit;
}

static inline void fill_random(void *data, size_t bytes)
{
	unsigned char *at = data;

	for (; bytes >= 8; bytes -= 8, at += 8) {
		const uint64_t value = random_u64();

		memcpy(at, &value, 8);
	}
	for (; bytes; bytes--)
		*at++ = (unsigned char)random_u64();
}

/* Host pages as the core would pass them, or memory for what is expected. */
static inline void *map_pages(size_t bytes)
{
	void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(pages, MAP_FAILED);
	return pages;
}

/* The device that "vulkan" stands for. Skips the case where there is none. */
static inline struct vulkan_device *open_device(void)
{
	struct backend_device *device = NULL;
	int err = ops->open(&device, "");

	if (err == -ENODEV) {
		print_message("skipped: %s\n", gds_last_error());
		skip();
	}
	assert_int_equal(err, 0);
	return to_vulkan_device(device);
}

static inline struct backend_memory *alloc(struct vulkan_device *device, uint64_t bytes,
					   uint32_t flags)
{
	struct backend_memory *memory = NULL;

	if (ops->alloc(&device->base, bytes, flags, &memory))
		fail_msg("alloc: %s", gds_last_error());
	assert_int_equal(memory->bytes, bytes);
	assert_true(memory->host || (memory->no_host_reason && memory->no_host_remedy));
	return memory;
}

static inline void wait_for(struct vulkan_device *device, uint64_t ticket)
{
	uint64_t done = 0;

	assert_int_equal(ops->copied(&device->base, ticket, UINT64_C(60000000000), &done), 0);
	assert_true(done >= ticket);
}

static inline int note_messages(void **state)
{
	messages_before = vulkan_validation_messages();
	return 0;
}

static inline int no_new_messages(void **state)
{
	uint64_t messages = vulkan_validation_messages() - messages_before;

	if (messages)
		print_error("%llu messages of the Vulkan validation layers, see above\n",
			    (unsigned long long)messages);
	return messages ? -1 : 0;
}

/* As cmocka_unit_test(), with the validation layers' word on it. */
#define vulkan_test(name) cmocka_unit_test_setup_teardown(name, note_messages, no_new_messages)

#endif
