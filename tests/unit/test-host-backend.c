/* SPDX-License-Identifier: Apache-2.0 */
/* The backend of host memory, called through its table. */
#include "memory/backend.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

static const struct backend_ops *const ops = &backend_host;

static struct backend_device *open_host(void)
{
	struct backend_device *device = NULL;

	assert_int_equal(ops->open(&device, ""), 0);
	assert_ptr_equal(device->ops, ops);
	return device;
}

static struct backend_memory *alloc(struct backend_device *device, uint64_t bytes)
{
	struct backend_memory *memory = NULL;

	assert_int_equal(ops->alloc(device, bytes, 0, &memory), 0);
	assert_int_equal(memory->bytes, bytes);
	assert_ptr_equal(memory->device, device);
	return memory;
}

static void fill(unsigned char *bytes, size_t count, unsigned seed)
{
	for (size_t i = 0; i < count; i++)
		bytes[i] = (unsigned char)((seed = seed * 1103515245 + 12345) >> 16);
}

static int count_devices(const char *backend, const struct gds_device_info *info,
			 const char *reason, void *user)
{
	assert_string_equal(backend, "host");
	assert_non_null(info);
	assert_null(reason);
	assert_string_equal(info->name, "host");
	assert_true(info->memory_bytes > 0);
	assert_int_equal(info->unified, 1);
	++*(int *)user;
	return 7;
}

static void listing_gives_one_device_and_the_visitors_result(void **state)
{
	int count = 0;

	assert_int_equal(ops->list(count_devices, &count), 7);
	assert_int_equal(count, 1);
}

static void a_selector_that_is_not_there_is_refused(void **state)
{
	struct backend_device *device = NULL;

	assert_int_equal(ops->open(&device, "1"), -ENODEV);
	assert_non_null(strstr(gds_last_error(), "host:1"));
	assert_int_equal(ops->open(&device, "0"), 0);
	ops->close(device);
}

static void allocations_are_page_aligned_writable_and_freed(void **state)
{
	static const uint64_t sizes[] = {
		1, 4095, 4097, 65536, (2 << 20) - 1, (2 << 20) + 4097, UINT64_C(2) << 30 | 12345
	};
	struct backend_device *device = open_host();

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct backend_memory *memory = alloc(device, sizes[i]);
		unsigned char *first = memory->host, *last = first + sizes[i] - 1;
		unsigned char resident;

		assert_int_equal((uintptr_t)first % (uintptr_t)sysconf(_SC_PAGESIZE), 0);
		*first = 1;
		*last = 2;
		assert_false(memory->needs_publish);
		ops->free(memory);
		/* mincore(2) tells unmapped addresses by ENOMEM. */
		assert_int_equal(mincore(first, 4096, &resident), -1);
		assert_int_equal(errno, ENOMEM);
	}
	ops->close(device);
}

static void more_than_the_machine_has_is_refused_with_the_figures(void **state)
{
	struct backend_device *device = open_host();
	struct backend_memory *memory = NULL;

	assert_int_equal(ops->alloc(device, UINT64_C(1) << 50, 0, &memory), -ENOMEM);
	assert_non_null(strstr(gds_last_error(), "1125899906842624 bytes"));
	assert_int_equal(ops->alloc(device, UINT64_MAX, 0, &memory), -ENOMEM);
	ops->close(device);
}

static void imported_memory_is_used_in_place_and_not_freed(void **state)
{
	const size_t pages = 3 * (size_t)sysconf(_SC_PAGESIZE);
	struct backend_device *device = open_host();
	struct backend_memory *memory = NULL;
	char *bytes = mmap(NULL, pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(bytes, MAP_FAILED);
	for (size_t start = 0; start < 6; start += 5) {
		assert_int_equal(backend_host_import(device, bytes + start, pages - start, &memory),
				 0);
		assert_ptr_equal(memory->host, bytes + start);
		assert_int_equal(ops->copy_in(memory, 5, "seen", 4), 0);
		ops->free(memory);
		assert_memory_equal(bytes + start + 5, "seen", 4);
	}
	assert_int_equal(backend_host_import(device, bytes, UINT64_MAX, &memory), -EINVAL);
	munmap(bytes, pages);
	ops->close(device);
}

static void copies_from_staging_touch_only_what_was_asked(void **state)
{
	enum { BYTES = 1 << 16 };
	struct backend_device *device = open_host();
	struct backend_memory *memory = alloc(device, BYTES);
	unsigned char *expected = calloc(1, BYTES), *source = calloc(1, BYTES);
	struct backend_staging *staging = NULL;
	uint64_t ticket = 99;

	assert_non_null(expected);
	assert_non_null(source);
	fill(source, BYTES, 1);
	assert_int_equal(ops->staging_attach(device, source, BYTES, &staging), 0);
	for (unsigned i = 0; i < 1000; i++) {
		struct backend_copy copies[2] = {
			{ memory, staging, NULL, rand() % 30000, rand() % 30000, rand() % 2000 },
			{ memory, staging, NULL, rand() % 30000 + 32000, rand() % 30000,
			  rand() % 2000 },
		};

		assert_int_equal(ops->copy(device, copies, 2, &ticket), 0);
		assert_int_equal(ticket, 0);
		for (unsigned j = 0; j < 2; j++)
			memcpy(expected + copies[j].offset, source + copies[j].source_offset,
			       copies[j].bytes);
	}
	assert_memory_equal(memory->host, expected, BYTES);
	ops->staging_detach(staging);
	ops->free(memory);
	ops->close(device);
	free(source);
	free(expected);
}

static void checksum_and_copy_out_give_the_bytes_asked_for(void **state)
{
	enum { BYTES = 100000 };
	struct backend_device *device = open_host();
	struct backend_memory *memory = alloc(device, BYTES);
	unsigned char out[1000];
	uint32_t crc = 0;

	fill(memory->host, BYTES, 2);
	assert_int_equal(ops->copy_out(memory, 777, out, sizeof(out)), 0);
	assert_memory_equal(out, (unsigned char *)memory->host + 777, sizeof(out));
	assert_int_equal(ops->checksum(memory, 777, sizeof(out), &crc), 0);
	assert_int_equal(crc, crc32(0, out, sizeof(out)));
	assert_int_equal(ops->checksum(memory, BYTES, 0, &crc), 0);
	assert_int_equal(crc, 0);
	ops->free(memory);
	ops->close(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listing_gives_one_device_and_the_visitors_result),
		cmocka_unit_test(a_selector_that_is_not_there_is_refused),
		cmocka_unit_test(allocations_are_page_aligned_writable_and_freed),
		cmocka_unit_test(more_than_the_machine_has_is_refused_with_the_figures),
		cmocka_unit_test(imported_memory_is_used_in_place_and_not_freed),
		cmocka_unit_test(copies_from_staging_touch_only_what_was_asked),
		cmocka_unit_test(checksum_and_copy_out_give_the_bytes_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
