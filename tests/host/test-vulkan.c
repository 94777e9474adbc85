/* SPDX-License-Identifier: Apache-2.0 */
/* The Vulkan backend, called through its table, on a device of its own. */
#include "vulkan-test.h"

#include <ctype.h>
#include <pthread.h>
#include <zlib.h>

#define SEEN_BY_DEVICE 0x5a

/* How the memory under test comes about: what lavapipe gives is made to look otherwise. */
enum kind {
	HOST_PAGES, /* imported, as on every unified device */
	MAPPED,     /* the driver's memory, since host pages cannot be imported */
	MAPPED_INCOHERENT,
	HIDDEN, /* of a card whose memory the CPU does not see */
	KIND_COUNT,
};

static struct backend_memory *alloc_kind(struct vulkan_device *device, uint64_t bytes,
					 enum kind kind)
{
	VkMemoryType *types = device->physical.memory.memoryTypes;
	const struct vulkan_physical physical = device->physical;
	const bool unified = device->unified;
	struct backend_memory *memory;

	if (kind != HOST_PAGES)
		device->physical.external_memory_host = false;
	if (kind == HIDDEN)
		device->unified = false;
	for (uint32_t i = 0; i < device->physical.memory.memoryTypeCount; i++) {
		if (kind == MAPPED_INCOHERENT)
			types[i].propertyFlags &=
				~(VkMemoryPropertyFlags)VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
		if (kind == HIDDEN)
			types[i].propertyFlags &= VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
	}
	memory = alloc(device, bytes, 0);
	device->physical = physical;
	device->unified = unified;
	return memory;
}

/* What the device sees is what is expected, and so is what the CPU sees, if it does. */
static void assert_contents(struct backend_memory *memory, const void *expected)
{
	char *seen = map_pages(memory->bytes);

	assert_int_equal(ops->copy_out(memory, 0, seen, memory->bytes), 0);
	assert_memory_equal(seen, expected, memory->bytes);
	if (memory->host)
		assert_memory_equal(memory->host, expected, memory->bytes);
	munmap(seen, memory->bytes);
}

static void assert_checksum(struct backend_memory *memory, const unsigned char *expected,
			    uint64_t offset, uint64_t bytes)
{
	uint32_t crc = 0;

	if (ops->checksum(memory, offset, bytes, &crc))
		fail_msg("checksum: %s", gds_last_error());
	if (crc != crc32_z(0, expected + offset, bytes))
		fail_msg("CRC of %llu bytes at %llu: 0x%08x, should be 0x%08lx",
			 (unsigned long long)bytes, (unsigned long long)offset, crc,
			 crc32_z(0, expected + offset, bytes));
}

static int keep_first(const char *backend, const struct gds_device_info *info, const char *reason,
		      void *user)
{
	assert_string_equal(backend, "vulkan");
	assert_true(info || reason);
	if (!info)
		return 0;
	*(struct gds_device_info *)user = *info;
	return 5;
}

static void listed_devices_open_by_number_and_by_part_of_their_name(void **state)
{
	struct vulkan_device *any = open_device();
	struct gds_device_info listed = { 0 }, info = { .size = sizeof(info) };
	struct backend_device *device = NULL;
	char part[16];
	size_t length;

	assert_int_equal(ops->list(keep_first, &listed), 5);
	assert_true(listed.memory_bytes > 0);
	assert_int_equal(ops->open(&device, listed.name + strlen("vulkan:")), 0);
	ops->info(device, &info);
	assert_string_equal(info.name, listed.name);
	assert_string_equal(info.description, listed.description);
	assert_true(info.driver[0]);
	ops->close(device);

	length = strlen(listed.description) < 8 ? strlen(listed.description) : 8;
	for (size_t i = 0; i < length; i++)
		part[i] = (char)toupper(listed.description[i]);
	part[length] = '\0';
	assert_int_equal(ops->open(&device, part), 0);
	ops->close(device);
	ops->close(&any->base);
}

static void odd_sizes_hold_what_is_copied_in_and_nothing_is_lost(void **state)
{
	static const uint64_t sizes[] = {
		1, 2, 3, 5, 4095, 4097, 65537, (8 << 20) + 1, (25 << 20) + 3
	};
	struct vulkan_device *device = open_device();

	for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			struct backend_memory *memory = alloc_kind(device, sizes[i], kind);
			unsigned char *expected = map_pages(sizes[i]);

			fill_random(expected, sizes[i]);
			assert_int_equal(ops->copy_in(memory, 0, expected, sizes[i]), 0);
			assert_contents(memory, expected);
			assert_checksum(memory, expected, 0, sizes[i]);
			munmap(expected, sizes[i]);
			ops->free(memory);
		}
	}
	ops->close(&device->base);
}

/* A batch of pieces that do not overlap: one in each part of the memory. */
static void copy_batch(struct vulkan_device *device, struct backend_memory *memory,
		       struct backend_staging *staging, unsigned char *expected, uint64_t *ticket)
{
	enum { MOST = 48 };
	struct backend_copy copies[MOST];
	size_t count = 1 + below(MOST);
	uint64_t part = memory->bytes / count;
	uint64_t before = *ticket;

	for (size_t i = 0; i < count; i++) {
		struct backend_copy *copy = &copies[i];

		copy->memory = memory;
		copy->staging = staging;
		copy->offset = part * (count - 1 - i) + below(part);
		copy->bytes = 1 + below(part * (count - i) - copy->offset);
		if (copy->bytes > staging->bytes)
			copy->bytes = staging->bytes;
		copy->source_offset = below(staging->bytes - copy->bytes + 1);
		memcpy(expected + copy->offset, (char *)staging->host + copy->source_offset,
		       copy->bytes);
	}
	assert_int_equal(ops->copy(&device->base, copies, count, ticket), 0);
	assert_true(*ticket > before);
}

static void random_pieces_land_in_place_and_nowhere_else(void **state)
{
	const uint64_t bytes = (5 << 20) + 7, staging_bytes = 1 << 20;
	struct vulkan_device *device = open_device();
	void *pages = map_pages(staging_bytes);
	unsigned char *expected = map_pages(bytes);
	const bool imports = device->physical.external_memory_host;

	fill_random(pages, staging_bytes);
	for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
		struct backend_memory *memory;
		struct backend_staging *staging = NULL;
		uint64_t ticket = 0;

		/* Small slices, so that most pieces span some. */
		device->slice_bytes = 64 << 10;
		memory = alloc_kind(device, bytes, kind);
		/* Once from the host's pages, once through memory of the driver. */
		device->physical.external_memory_host = imports && kind % 2 == 0;
		assert_int_equal(ops->staging_attach(&device->base, pages, staging_bytes, &staging),
				 0);
		device->physical.external_memory_host = imports;
		memset(expected, SEEN_BY_DEVICE, bytes);
		assert_int_equal(ops->copy_in(memory, 0, expected, bytes), 0);
		for (unsigned i = 0; i < 150; i++) {
			copy_batch(device, memory, staging, expected, &ticket);
			/* Without an import a batch writes what the one before still reads. */
			if (!((struct vulkan_staging *)staging)->imported)
				wait_for(device, ticket);
		}
		wait_for(device, ticket);
		assert_contents(memory, expected);
		assert_checksum(memory, expected, 0, bytes);
		ops->staging_detach(staging);
		ops->free(memory);
	}
	munmap(expected, bytes);
	munmap(pages, staging_bytes);
	ops->close(&device->base);
}

/* Neighbours on one side, on the other, on both: only the last may be merged. */
static void blocks_that_adjoin_go_where_each_belongs(void **state)
{
	enum { BLOCK = 4096, COUNT = 64, ROOM = 2 * COUNT };
	static const unsigned strides[][2] = { { 1, 1 }, { 1, 2 }, { 2, 1 },
					       { 2, 2 }, { 1, 5 }, { 127, 127 } };
	struct vulkan_device *device = open_device();
	struct backend_memory *memory = alloc(device, BLOCK * ROOM, 0);
	unsigned char *pages = map_pages(BLOCK * ROOM), *expected = map_pages(BLOCK * ROOM);
	struct backend_copy copies[COUNT];
	struct backend_staging *staging = NULL;
	uint64_t ticket = 0;

	fill_random(pages, BLOCK * ROOM);
	assert_int_equal(ops->copy_in(memory, 0, expected, BLOCK * ROOM), 0);
	assert_int_equal(ops->staging_attach(&device->base, pages, BLOCK * ROOM, &staging), 0);
	for (size_t s = 0; s < sizeof(strides) / sizeof(strides[0]); s++) {
		for (unsigned i = 0; i < COUNT; i++) {
			const uint64_t from = i * strides[s][0] % ROOM * BLOCK;
			const uint64_t to = i * strides[s][1] % ROOM * BLOCK;

			copies[i] = (struct backend_copy){ memory, staging, NULL, to, from, BLOCK };
			memcpy(expected + to, pages + from, BLOCK);
		}
		assert_int_equal(ops->copy(&device->base, copies, COUNT, &ticket), 0);
		wait_for(device, ticket);
		assert_contents(memory, expected);
	}
	ops->staging_detach(staging);
	ops->free(memory);
	ops->close(&device->base);
	munmap(pages, BLOCK * ROOM);
	munmap(expected, BLOCK * ROOM);
}

static void checksums_of_any_range_are_those_of_zlib(void **state)
{
	const uint64_t bytes = (6 << 20) + 5;
	struct vulkan_device *device = open_device();
	unsigned char *expected = map_pages(bytes);
	struct backend_memory *memory;

	device->slice_bytes = 2 << 20;
	memory = alloc(device, bytes, 0);
	fill_random(expected, bytes);
	assert_int_equal(ops->copy_in(memory, 0, expected, bytes), 0);
	assert_checksum(memory, expected, 0, 0);
	for (uint64_t head = 0; head < 9; head++)
		for (uint64_t length = 0; length < 9; length++)
			assert_checksum(memory, expected, head, length);
	for (unsigned i = 0; i < 400; i++) {
		const uint64_t offset = below(bytes);
		const uint64_t most = i % 2 ? 70000 : bytes;

		assert_checksum(memory, expected, offset,
				1 + below(most < bytes - offset ? most : bytes - offset));
	}
	/* What zeros before and behind a message do is worked out apart. */
	memset(expected, 0, bytes);
	assert_int_equal(ops->copy_in(memory, 0, expected, bytes), 0);
	assert_checksum(memory, expected, 1, bytes - 2);
	munmap(expected, bytes);
	ops->free(memory);
	ops->close(&device->base);
}

static void checksums_do_not_depend_on_the_size_of_a_work_group(void **state)
{
	static const uint32_t widths[] = { 4, 8, 16, 32, 64, 0, 7, 128 };
	const uint64_t bytes = (1 << 20) + 9;
	unsigned char *expected = map_pages(bytes);

	fill_random(expected, bytes);
	for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
		struct vulkan_device *device = open_device();
		struct backend_memory *memory = alloc(device, bytes, 0);

		device->physical.subgroup_size = widths[i];
		assert_int_equal(ops->copy_in(memory, 0, expected, bytes), 0);
		assert_checksum(memory, expected, 3, bytes - 3);
		ops->free(memory);
		ops->close(&device->base);
	}
	munmap(expected, bytes);
}

static PFN_vkUpdateDescriptorSets real_update;
static VkPhysicalDeviceLimits *update_limits;

static void VKAPI_PTR check_update(VkDevice device, uint32_t count,
				   const VkWriteDescriptorSet *writes, uint32_t copy_count,
				   const VkCopyDescriptorSet *copies)
{
	const VkDescriptorBufferInfo *message = &writes[0].pBufferInfo[0];

	assert_true(message->range <= update_limits->maxStorageBufferRange);
	assert_int_equal(message->offset % update_limits->minStorageBufferOffsetAlignment, 0);
	real_update(device, count, writes, copy_count, copies);
}

/* Those of a device that binds less, at coarser places, than lavapipe does. */
static void checksums_keep_to_the_limits_of_bindings(void **state)
{
	const uint64_t bytes = 3 << 20;
	struct vulkan_device *device = open_device();
	struct backend_memory *memory = alloc(device, bytes, 0);
	unsigned char *expected = map_pages(bytes);

	real_update = device->calls.vkUpdateDescriptorSets;
	update_limits = &device->physical.properties.limits;
	device->calls.vkUpdateDescriptorSets = check_update;
	update_limits->minStorageBufferOffsetAlignment = 256;
	update_limits->maxStorageBufferRange = 100000;
	fill_random(expected, bytes);
	assert_int_equal(ops->copy_in(memory, 0, expected, bytes), 0);
	for (unsigned i = 0; i < 50; i++) {
		const uint64_t offset = below(bytes);

		assert_checksum(memory, expected, offset, 1 + below(bytes - offset));
	}
	munmap(expected, bytes);
	ops->free(memory);
	ops->close(&device->base);
}

static void buffers_over_2_gib_are_whole_across_their_slices(void **state)
{
	const uint64_t gib = UINT64_C(1) << 30, bytes = 2 * gib + 12345;
	const size_t chunk = 3 << 20;
	struct vulkan_device *device = open_device();
	unsigned char *pages = map_pages(chunk);
	struct backend_staging *staging = NULL;
	struct backend_memory *memory = NULL;
	uint64_t ticket = 0, vk_buffer, vk_offset, vk_bytes;
	uint32_t crc = 0;

	fill_random(pages, chunk);
	assert_int_equal(ops->staging_attach(&device->base, pages, chunk, &staging), 0);
	if (ops->alloc(&device->base, bytes, 0, &memory)) {
		print_message("skipped: %s\n", gds_last_error());
		ops->staging_detach(staging);
		ops->close(&device->base);
		skip();
	}
	for (uint64_t at = gib - chunk / 2; at < bytes; at += gib) {
		const uint64_t part = bytes - at < chunk ? bytes - at : chunk;
		const struct backend_copy copy = { memory, staging, NULL, at, 0, part };

		assert_int_equal(ops->copy(&device->base, &copy, 1, &ticket), 0);
		wait_for(device, ticket);
		assert_int_equal(ops->checksum(memory, at, part, &crc), 0);
		assert_int_equal(crc, crc32_z(0, pages, part));
		if (memory->host)
			assert_memory_equal((char *)memory->host + at, pages, part);
	}
	assert_int_equal(backend_vulkan_locate(memory, gib + 5, &vk_buffer, &vk_offset, &vk_bytes),
			 0);
	assert_int_equal(vk_offset, 5);
	assert_int_equal(vk_bytes, gib - 5);
	ops->staging_detach(staging);
	ops->free(memory);
	ops->close(&device->base);
	munmap(pages, chunk);
}

static void host_writes_are_seen_by_the_device_after_publish(void **state)
{
	const uint64_t bytes = (1 << 20) + 3;
	struct vulkan_device *device = open_device();
	unsigned char *expected = map_pages(bytes);

	for (enum kind kind = 0; kind < HIDDEN; kind++) {
		struct backend_memory *memory = alloc_kind(device, bytes, kind);

		assert_non_null(memory->host);
		assert_int_equal(memory->needs_publish, kind == MAPPED_INCOHERENT);
		fill_random(expected, bytes);
		memcpy(memory->host, expected, bytes);
		assert_int_equal(ops->publish(memory, 0, bytes), 0);
		assert_checksum(memory, expected, 0, bytes);
		/* Ranges that must be widened, and one that ends with the memory. */
		for (unsigned i = 0; i < 30; i++) {
			const uint64_t offset = below(bytes);

			assert_int_equal(ops->publish(memory, offset, 1 + below(bytes - offset)),
					 0);
			assert_int_equal(ops->publish(memory, offset, bytes - offset), 0);
		}
		ops->free(memory);
	}
	munmap(expected, bytes);
	ops->close(&device->base);
}

static void memory_that_the_cpu_cannot_see_says_why(void **state)
{
	struct vulkan_device *device = open_device();
	struct backend_memory *memory;

	memory = alloc_kind(device, 100, HIDDEN);
	assert_null(memory->host);
	assert_non_null(strstr(memory->no_host_reason, "not visible"));
	assert_non_null(strstr(memory->no_host_remedy, "Resizable BAR"));
	ops->free(memory);
	device->slice_bytes = 1 << 20;
	memory = alloc_kind(device, 3 << 20, MAPPED);
	assert_null(memory->host);
	assert_non_null(strstr(memory->no_host_reason, "several allocations"));
	ops->free(memory);
	ops->close(&device->base);
}

/* GDS_BUFFER_HOST on a card, whose driver imports host pages or does not. */
static void host_buffers_of_a_card_are_seen_by_both(void **state)
{
	struct vulkan_device *device = open_device();
	unsigned char expected[5000];

	device->unified = false;
	for (unsigned round = 0; round < 2; round++) {
		struct backend_memory *memory;

		if (round == 1)
			device->physical.external_memory_host = false;
		memory = alloc(device, sizeof(expected), GDS_BUFFER_HOST);
		assert_non_null(memory->host);
		assert_int_equal(!to_vulkan_memory(memory)->pages,
				 !device->physical.external_memory_host);
		fill_random(expected, sizeof(expected));
		assert_int_equal(ops->copy_in(memory, 0, expected, sizeof(expected)), 0);
		assert_contents(memory, expected);
		ops->free(memory);
	}
	ops->close(&device->base);
}

static void more_copies_than_command_buffers_all_arrive(void **state)
{
	const size_t bytes = 1 << 20;
	const unsigned count = 5 * VULKAN_FRAMES_MAX;
	struct vulkan_device *device = open_device();
	struct backend_memory *memory = alloc(device, bytes, 0);
	unsigned char *pages = map_pages(bytes), *expected = map_pages(bytes);
	struct backend_staging *staging = NULL;
	uint64_t ticket = 0, last = 0;

	fill_random(pages, bytes);
	assert_int_equal(ops->staging_attach(&device->base, pages, bytes, &staging), 0);
	for (unsigned i = 0; i < count; i++) {
		const struct backend_copy copy = {
			memory,           staging,          NULL,
			below(bytes / 2), below(bytes / 2), 1 + below(bytes / 2)
		};

		memcpy(expected + copy.offset, pages + copy.source_offset, copy.bytes);
		if (i == 0)
			assert_int_equal(ops->copy_in(memory, 0, expected, bytes), 0);
		assert_int_equal(ops->copy(&device->base, &copy, 1, &ticket), 0);
		assert_true(ticket > last);
		last = ticket;
	}
	assert_true(device->frame_count <= VULKAN_FRAMES_MAX);
	wait_for(device, ticket);
	assert_contents(memory, expected);
	ops->staging_detach(staging);
	ops->free(memory);
	ops->close(&device->base);
	munmap(pages, bytes);
	munmap(expected, bytes);
}

static void freeing_waits_for_copies_in_flight(void **state)
{
	const size_t bytes = 16 << 20;
	struct vulkan_device *device = open_device();
	void *pages = map_pages(bytes);
	struct backend_staging *staging = NULL;
	uint64_t ticket = 0, done = 0;

	assert_int_equal(ops->staging_attach(&device->base, pages, bytes, &staging), 0);
	for (unsigned i = 0; i < 10; i++) {
		struct backend_memory *memory = alloc(device, bytes, 0);
		const struct backend_copy copy = { memory, staging, NULL, 0, 0, bytes };

		assert_int_equal(ops->copy(&device->base, &copy, 1, &ticket), 0);
		ops->free(memory);
		assert_int_equal(ops->copied(&device->base, ticket, 0, &done), 0);
		assert_true(done >= ticket);
	}
	ops->staging_detach(staging);
	ops->close(&device->base);
	munmap(pages, bytes);
}

struct worker {
	struct vulkan_device *device; /* NULL: opens its own */
	unsigned seed;
	int failed;
};

/* cmocka's assertions belong to the main thread: a worker tells what failed by line. */
#define WORKER_CHECK(worker, condition)              \
	do {                                         \
		if (!(condition)) {                  \
			(worker)->failed = __LINE__; \
			return;                      \
		}                                    \
	} while (0)

static void work(struct worker *worker, struct backend_device *device, unsigned char *pages,
		 size_t bytes)
{
	struct backend_staging *staging;
	struct backend_memory *memory;
	uint64_t ticket, done;
	uint32_t crc;

	WORKER_CHECK(worker, ops->staging_attach(device, pages, bytes, &staging) == 0);
	WORKER_CHECK(worker, ops->alloc(device, bytes, 0, &memory) == 0);
	for (unsigned i = 0; i < 100; i++) {
		size_t part = 1 + rand_r(&worker->seed) % bytes;
		const struct backend_copy copy = { memory, staging, NULL, bytes - part, 0, part };

		for (size_t j = 0; j < part; j += 97)
			pages[j] = (unsigned char)rand_r(&worker->seed);
		WORKER_CHECK(worker, ops->copy(device, &copy, 1, &ticket) == 0);
		WORKER_CHECK(worker, ops->copied(device, ticket, UINT64_MAX, &done) == 0);
		WORKER_CHECK(worker, ops->checksum(memory, bytes - part, part, &crc) == 0);
		WORKER_CHECK(worker, crc == crc32_z(0, pages, part));
	}
	ops->free(memory);
	ops->staging_detach(staging);
}

static void *run_worker(void *argument)
{
	enum { BYTES = 256 << 10 };
	struct worker *worker = argument;
	struct backend_device *device = worker->device ? &worker->device->base : NULL;
	unsigned char *pages =
		mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED || (!device && ops->open(&device, "") != 0)) {
		worker->failed = __LINE__;
		return NULL;
	}
	work(worker, device, pages, BYTES);
	if (!worker->device && !worker->failed)
		ops->close(device);
	munmap(pages, BYTES);
	return NULL;
}

static void run_workers(struct worker *workers, size_t count)
{
	pthread_t threads[8];

	for (size_t i = 0; i < count; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_worker, &workers[i]), 0);
	for (size_t i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < count; i++)
		if (workers[i].failed)
			fail_msg("thread %zu failed at line %d", i, workers[i].failed);
}

static void two_threads_open_and_use_a_device_each(void **state)
{
	struct vulkan_device *probe = open_device();
	struct worker workers[2] = { { NULL, 1, 0 }, { NULL, 2, 0 } };

	ops->close(&probe->base);
	run_workers(workers, 2);
}

static void four_threads_share_one_device(void **state)
{
	struct vulkan_device *device = open_device();
	struct worker workers[4];

	for (unsigned i = 0; i < 4; i++)
		workers[i] = (struct worker){ device, i + 1, 0 };
	run_workers(workers, 4);
	ops->close(&device->base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		vulkan_test(listed_devices_open_by_number_and_by_part_of_their_name),
		vulkan_test(odd_sizes_hold_what_is_copied_in_and_nothing_is_lost),
		vulkan_test(random_pieces_land_in_place_and_nowhere_else),
		vulkan_test(blocks_that_adjoin_go_where_each_belongs),
		vulkan_test(checksums_of_any_range_are_those_of_zlib),
		vulkan_test(checksums_do_not_depend_on_the_size_of_a_work_group),
		vulkan_test(checksums_keep_to_the_limits_of_bindings),
		vulkan_test(buffers_over_2_gib_are_whole_across_their_slices),
		vulkan_test(host_writes_are_seen_by_the_device_after_publish),
		vulkan_test(memory_that_the_cpu_cannot_see_says_why),
		vulkan_test(host_buffers_of_a_card_are_seen_by_both),
		vulkan_test(more_copies_than_command_buffers_all_arrive),
		vulkan_test(freeing_waits_for_copies_in_flight),
		vulkan_test(two_threads_open_and_use_a_device_each),
		vulkan_test(four_threads_share_one_device),
	};

	setenv("GDS_VULKAN_VALIDATE", "1", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
