/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What reads cost in memory: nothing is allocated for a read once its batch has been
 * through, and a batch of a million reads takes what its reads and the reader's options
 * say. The library's own allocations are counted, by functions that the linker puts
 * before those of the C library.
 */
#include "support/random.h"
#include "support/storage.h"

#include <gds/gds.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FILE_BYTES   (4u << 20)
#define BUFFER_BYTES (8u << 20)
#define READS        300
#define WARM_UP      5
#define ROUNDS       20
#define MANY         1000000
#define MANY_ADDED   1000 /* at a time */
/* A read with its place, its progress and its result. */
#define READ_BYTES_MOST 200

/* ---- What is allocated ---- */

static atomic_size_t allocations;
static atomic_size_t live_bytes;
static atomic_size_t most_bytes;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_reallocarray(void *memory, size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_reallocarray(void *memory, size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *memory);

static void count_down(size_t bytes)
{
	size_t live = atomic_load(&live_bytes);

	/* What the C library allocated for the library was not counted: of no weight here. */
	while (!atomic_compare_exchange_weak(&live_bytes, &live, live > bytes ? live - bytes : 0))
		;
}

static void *count_up(void *memory)
{
	size_t bytes = malloc_usable_size(memory);
	size_t live = atomic_fetch_add(&live_bytes, bytes) + bytes;
	size_t most = atomic_load(&most_bytes);

	atomic_fetch_add(&allocations, 1);
	while (live > most && !atomic_compare_exchange_weak(&most_bytes, &most, live))
		;
	return memory;
}

void *__wrap_malloc(size_t size)
{
	return count_up(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
	return count_up(__real_calloc(count, size));
}

void *__wrap_realloc(void *memory, size_t size)
{
	return __wrap_reallocarray(memory, 1, size);
}

void *__wrap_reallocarray(void *memory, size_t count, size_t size)
{
	size_t before = malloc_usable_size(memory);
	void *moved = count_up(__real_reallocarray(memory, count, size));

	/* Where it moved, both were there for a moment. */
	count_down(before);
	return moved;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return count_up(__real_aligned_alloc(alignment, size));
}

void __wrap_free(void *memory)
{
	count_down(malloc_usable_size(memory));
	__real_free(memory);
}

/* ---- What is read ---- */

struct rig {
	char folder[64];
	struct gds_reader *reader;
	struct gds_device *device;
	struct gds_buffer *buffer;
	struct gds_file *file;
	struct gds_batch *batch;
};

static void swallow(enum gds_log_level level, const char *line, void *user)
{
}

static void rig_open(struct rig *rig, enum gds_lane lane, uint32_t flags)
{
	struct gds_reader_options options = { .size = sizeof(options), .lane = lane };
	char path[80];

	*rig = (struct rig){ 0 };
	options.flags = flags;
	gds_log_set(GDS_LOG_ERROR, swallow, NULL);
	assert_true(folder_make(rig->folder, false));
	snprintf(path, sizeof(path), "%s/file", rig->folder);
	file_write_pattern(path, 0, FILE_BYTES);
	if (gds_reader_open(&rig->reader, &options) != 0) {
		folder_remove(rig->folder);
		print_message("%s\n", gds_last_error());
		skip();
	}
	assert_int_equal(gds_device_open(&rig->device, "host"), 0);
	assert_int_equal(gds_buffer_alloc(&rig->buffer, rig->device, BUFFER_BYTES, 0), 0);
	assert_int_equal(gds_file_open(&rig->file, path), 0);
}

static void rig_close(struct rig *rig)
{
	gds_batch_destroy(rig->batch);
	gds_file_close(rig->file);
	gds_buffer_free(rig->buffer);
	gds_device_close(rig->device);
	gds_reader_close(rig->reader);
	folder_remove(rig->folder);
}

static void make_batch(struct rig *rig, enum gds_path path, size_t capacity)
{
	struct gds_batch_options options = { .size = sizeof(options), .capacity = capacity };

	options.path = path;
	assert_int_equal(gds_batch_create(&rig->batch, rig->reader, &options), 0);
}

/* Any offset, any length, any place: also what must go by way of staging memory. */
static void draw_requests(const struct rig *rig, struct gds_request *requests, size_t count)
{
	struct random random = { 1 };

	for (size_t i = 0; i < count; i++)
		requests[i] = (struct gds_request){
			.file = rig->file,
			.buffer = rig->buffer,
			.offset = random_below(&random, FILE_BYTES),
			.length = random_below(&random, 100000),
			.buffer_offset = random_below(&random, BUFFER_BYTES - 100000),
		};
}

static void read_once(struct rig *rig, const struct gds_request *requests)
{
	assert_int_equal(gds_batch_reset(rig->batch), 0);
	assert_int_equal(gds_batch_add(rig->batch, requests, READS), 0);
	assert_int_equal(gds_batch_submit(rig->batch), 0);
	assert_int_equal(gds_batch_wait(rig->batch, -1), 0);
	assert_int_equal(gds_batch_failures(rig->batch, NULL), 0);
}

static void check_steady(enum gds_lane lane, enum gds_path path, uint32_t flags)
{
	struct gds_request requests[READS];
	struct rig rig;
	size_t before;

	rig_open(&rig, lane, flags);
	draw_requests(&rig, requests, READS);
	make_batch(&rig, path, 0);
	for (int round = 0; round < WARM_UP; round++)
		read_once(&rig, requests);
	assert_true(atomic_load(&allocations) > 0); /* they are seen */
	before = atomic_load(&allocations);
	for (int round = 0; round < ROUNDS; round++)
		read_once(&rig, requests);
	assert_int_equal(atomic_load(&allocations) - before, 0);
	rig_close(&rig);
}

static void reads_in_a_used_batch_allocate_nothing(void **state)
{
	static const uint32_t flags[] = { 0, GDS_READER_SINGLE_THREAD, GDS_READER_PROGRESS_THREAD };

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		check_steady(GDS_LANE_URING, GDS_PATH_AUTO, flags[i]);
		check_steady(GDS_LANE_URING, GDS_PATH_BOUNCE, flags[i]);
	}
}

static void nor_do_they_in_the_lane_of_threads(void **state)
{
	check_steady(GDS_LANE_THREADS, GDS_PATH_AUTO, 0);
	check_steady(GDS_LANE_THREADS, GDS_PATH_BOUNCE, GDS_READER_PROGRESS_THREAD);
}

static void a_batch_of_a_million_reads_is_bounded(void **state)
{
	struct gds_request requests[MANY_ADDED];
	struct rig rig;
	size_t before;

	rig_open(&rig, GDS_LANE_AUTO, 0);
	draw_requests(&rig, requests, MANY_ADDED);
	for (size_t i = 0; i < MANY_ADDED; i++)
		requests[i].length %= 600;
	before = atomic_load(&live_bytes);
	atomic_store(&most_bytes, before);
	make_batch(&rig, GDS_PATH_AUTO, MANY);
	for (size_t added = 0; added < MANY; added += MANY_ADDED)
		assert_int_equal(gds_batch_add(rig.batch, requests, MANY_ADDED), added);
	assert_int_equal(gds_batch_submit(rig.batch), 0);
	assert_int_equal(gds_batch_wait(rig.batch, -1), 0);
	assert_int_equal(gds_batch_failures(rig.batch, NULL), 0);
	print_message("%zu bytes for each of %d reads\n",
		      (atomic_load(&most_bytes) - before) / MANY, MANY);
	assert_in_range((atomic_load(&most_bytes) - before) / MANY, 1, READ_BYTES_MOST);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_in_a_used_batch_allocate_nothing),
		cmocka_unit_test(nor_do_they_in_the_lane_of_threads),
		cmocka_unit_test(a_batch_of_a_million_reads_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
