/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What gds.h promises of reads, batches and waiting, on the real kernel, for both
 * lanes and each kind of reader. Lives of objects are test-reader-lives.c's, what
 * the system forbids or lacks test-reader-limits.c's.
 */
#include "support/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define SMALL           512
#define FOREVER_MS      60000 /* a hang, in an event loop that must be told */
#define NOT_LONG_NS     1000000
#define HARD_TO_MISS_US 2000

static ssize_t read_at(struct fixture *fixture, uint64_t offset, uint64_t length,
		       uint64_t buffer_offset)
{
	struct gds_request request = {
		.file = fixture->file,
		.buffer = fixture->buffer,
		.offset = offset,
		.length = length,
		.buffer_offset = buffer_offset,
	};

	return gds_read(fixture->reader, &request, NULL);
}

static unsigned char *host(struct fixture *fixture)
{
	return gds_buffer_host(fixture->buffer);
}

/* Another file in the place of the fixture's. */
static void use_file(struct fixture *fixture, const char *name)
{
	gds_file_close(fixture->file);
	fixture->file = NULL;
	snprintf(fixture->path, sizeof(fixture->path), "%s/%s", fixture->folder, name);
}

/* ---- Reads ------------------------------------------------------------------------- */

static void a_read_across_the_end_of_the_file_is_short(void **state)
{
	struct fixture *fixture = *state;

	memset(host(fixture), 0xee, BUFFER_BYTES);
	assert_int_equal(read_at(fixture, FILE_BYTES - 5000, 20000, 7), 5000);
	assert_true(pattern_matches(host(fixture) + 7, FILE_BYTES - 5000, 5000));
	for (uint64_t i = 5007; i < 30000; i++)
		assert_int_equal(host(fixture)[i], 0xee);
	assert_int_equal(read_at(fixture, FILE_BYTES - 1, 4096, 0), 1);
}

static void a_read_that_begins_at_or_beyond_the_end_gives_nothing(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(read_at(fixture, FILE_BYTES, 100, 0), 0);
	assert_int_equal(read_at(fixture, FILE_BYTES + 1, 100, 0), 0);
	assert_int_equal(read_at(fixture, UINT64_C(1) << 62, 4096, 0), 0);
}

static void an_empty_file_gives_nothing(void **state)
{
	struct fixture *fixture = *state;

	use_file(fixture, "empty");
	file_resize(fixture->path, 0);
	assert_int_equal(gds_file_open(&fixture->file, fixture->path), 0);
	assert_int_equal(gds_file_bytes(fixture->file), 0);
	assert_int_equal(read_at(fixture, 0, 4096, 0), 0);
	assert_int_equal(read_at(fixture, 0, 0, 0), 0);
}

static void holes_read_as_zeros(void **state)
{
	struct fixture *fixture = *state;

	use_file(fixture, "holes");
	file_resize(fixture->path, 3 * MIB);
	file_write_pattern(fixture->path, MIB + 10, 100);
	assert_int_equal(gds_file_open(&fixture->file, fixture->path), 0);
	memset(host(fixture), 0xee, BUFFER_BYTES);
	assert_int_equal(read_at(fixture, 0, 3 * MIB, 0), 3 * MIB);
	for (uint64_t i = 0; i < 3 * MIB; i++)
		assert_int_equal(host(fixture)[i],
				 i >= MIB + 10 && i < MIB + 110 ? pattern_byte(i) : 0);
	assert_int_equal(host(fixture)[3 * MIB], 0xee);
}

static void offsets_over_4_gib_reach_the_right_bytes(void **state)
{
	struct fixture *fixture = *state;
	const uint64_t far = (UINT64_C(5) << 30) + 12345;

	use_file(fixture, "far");
	file_resize(fixture->path, far + 9000);
	file_write_pattern(fixture->path, far, 9000);
	assert_int_equal(gds_file_open(&fixture->file, fixture->path), 0);
	assert_int_equal(gds_file_bytes(fixture->file), far + 9000);
	assert_int_equal(read_at(fixture, far, 100000, 3), 9000);
	assert_true(pattern_matches(host(fixture) + 3, far, 9000));
	/* The same place 4 GiB before is a hole. */
	assert_int_equal(read_at(fixture, far - (UINT64_C(4) << 30), 100, 0), 100);
	for (int i = 0; i < 100; i++)
		assert_int_equal(host(fixture)[i], 0);
}

static void a_read_of_nothing_is_good_and_touches_nothing(void **state)
{
	struct fixture *fixture = *state;

	memset(host(fixture), 0xee, BUFFER_BYTES);
	assert_int_equal(read_at(fixture, 100, 0, 50), 0);
	assert_int_equal(read_at(fixture, 100, 0, BUFFER_BYTES), 0);
	for (uint64_t i = 0; i < 8192; i++)
		assert_int_equal(host(fixture)[i], 0xee);
}

static void a_file_that_grew_is_read_to_its_new_end(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(read_at(fixture, FILE_BYTES, 1000, 0), 0);
	file_write_pattern(fixture->path, FILE_BYTES, 777);
	assert_int_equal(gds_file_bytes(fixture->file), FILE_BYTES + 777);
	assert_int_equal(read_at(fixture, FILE_BYTES, 1000, 0), 777);
	assert_true(pattern_matches(host(fixture), FILE_BYTES, 777));
}

static void a_file_that_grew_unasked_is_read_to_its_new_end(void **state)
{
	struct fixture *fixture = *state;

	file_write_pattern(fixture->path, FILE_BYTES, 777);
	assert_int_equal(read_at(fixture, FILE_BYTES - 100, 1000, 0), 877);
	assert_true(pattern_matches(host(fixture), FILE_BYTES - 100, 877));
}

/* Its size is known from before, and learned by the read that comes short. */
static void a_file_that_shrank_unasked_is_read_to_its_new_end(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(read_at(fixture, MIB, 4096, 0), 4096);
	file_resize(fixture->path, 70000);
	assert_int_equal(read_at(fixture, MIB, 4096, 0), 0);
	memset(host(fixture), 0xee, BUFFER_BYTES);
	assert_int_equal(read_at(fixture, 0, 2 * MIB, 0), 70000);
	assert_true(pattern_matches(host(fixture), 0, 70000));
	for (uint64_t i = 70000; i < 2 * MIB; i++)
		assert_int_equal(host(fixture)[i], 0xee);
}

/* Files take turns, and reads are added in one call or one by one. */
static void reads_of_files_in_turn_are_right(void **state)
{
	enum { READS = 64, BYTES = 4096 };
	struct fixture *fixture = *state;
	struct gds_request requests[READS];
	struct gds_file *files[2] = { fixture->file, NULL };
	struct gds_batch *batch = batch_of(fixture, 0, 0);

	assert_int_equal(gds_file_open(&files[1], fixture->path), 0);
	for (size_t i = 0; i < READS; i++)
		requests[i] = (struct gds_request){ .file = files[i / 3 % 2],
						    .buffer = fixture->buffer,
						    .offset = (READS - i) * BYTES,
						    .length = BYTES,
						    .buffer_offset = i * BYTES };
	for (int round = 0; round < 2; round++) {
		memset(host(fixture), 0, READS * BYTES);
		for (size_t i = 0; round == 1 && i < READS; i++)
			assert_int_equal(gds_batch_add(batch, &requests[i], 1), i);
		if (round == 0)
			assert_int_equal(gds_batch_add(batch, requests, READS), 0);
		assert_int_equal(gds_batch_submit(batch), 0);
		assert_int_equal(gds_batch_wait(batch, -1), 0);
		for (size_t i = 0; i < READS; i++) {
			assert_int_equal(result_of(batch, i).bytes, BYTES);
			assert_true(pattern_matches(host(fixture) + i * BYTES, (READS - i) * BYTES,
						    BYTES));
		}
		assert_int_equal(gds_batch_reset(batch), 0);
	}
	gds_batch_destroy(batch);
	gds_file_close(files[1]);
}

static void a_file_that_shrinks_while_it_is_read_gives_a_short_read(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch = batch_of(fixture, 1, MIB + 1000);

	gate_close();
	assert_int_equal(gds_batch_submit(batch), 0);
	file_resize(fixture->path, 70000);
	gate_open();
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	assert_int_equal(result_of(batch, 0).bytes, 70000);
	assert_true(pattern_matches(host(fixture), 0, 70000));
	gds_batch_destroy(batch);
}

static void a_hundred_thousand_small_reads_in_a_batch_are_all_right(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch = batch_of(fixture, 100000, 40);

	assert_int_equal(gds_batch_count(batch), 100000);
	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	check_batch_of(fixture, batch, 40);
	gds_batch_destroy(batch);
}

static void a_million_reads_in_a_batch_are_all_right(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch = batch_of(fixture, 1000000, 4);
	struct gds_stats stats = { .size = sizeof(stats) };

	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	check_batch_of(fixture, batch, 4);
	assert_int_equal(gds_reader_stats(fixture->reader, &stats), 0);
	assert_int_equal(stats.reads, 1000000);
	assert_true(stats.operations < 1000);
	gds_batch_destroy(batch);
}

/* ---- What is refused ----------------------------------------------------------------- */

static void reads_outside_of_the_buffer_are_refused_and_none_is_added(void **state)
{
	struct fixture *fixture = *state;
	struct gds_request requests[3] = { 0 };
	struct gds_batch *batch = batch_of(fixture, 2, SMALL);
	const struct gds_request nothing = { 0 };
	static const uint64_t bad[][2] = { { BUFFER_BYTES - 99, 100 },
					   { BUFFER_BYTES + 1, 0 },
					   { UINT64_MAX - 10, 100 },
					   { 0, UINT64_MAX },
					   { 0, BUFFER_BYTES + 1 } };

	for (int i = 0; i < 3; i++)
		requests[i] = (struct gds_request){ .file = fixture->file,
						    .buffer = fixture->buffer,
						    .length = 100 };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		requests[2].buffer_offset = bad[i][0];
		requests[2].length = bad[i][1];
		assert_int_equal(gds_batch_add(batch, requests, 3), -EINVAL);
		assert_non_null(strstr(gds_last_error(), "request 2"));
		assert_int_equal(gds_batch_count(batch), 2);
	}
	assert_int_equal(gds_batch_add(batch, &nothing, 1), -EINVAL);
	/* The sum with what the batch has is a small number again. */
	assert_int_equal(gds_batch_add(batch, requests, SIZE_MAX), -EINVAL);
	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	check_batch_of(fixture, batch, SMALL);
	gds_batch_destroy(batch);
}

static void offsets_that_no_file_has_are_refused(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(read_at(fixture, UINT64_MAX, 1, 0), -EINVAL);
	assert_int_equal(read_at(fixture, INT64_MAX, 1, 0), -EINVAL);
}

static void null_arguments_are_refused_with_a_message_and_no_crash(void **state)
{
	struct fixture *fixture = *state;
	struct gds_request request = { .file = fixture->file, .buffer = fixture->buffer };
	struct gds_stats stats = { .size = sizeof(stats) };
	struct gds_explanation explanation = { .size = sizeof(explanation) };
	struct gds_result result;
	struct gds_batch *batch = batch_of(fixture, 1, SMALL);
	struct gds_reader *reader;
	uint32_t crc;

	assert_int_equal(gds_reader_open(NULL, NULL), -EINVAL);
	assert_int_equal(gds_reader_eventfd(NULL), -EINVAL);
	assert_int_equal(gds_reader_stats(NULL, &stats), -EINVAL);
	assert_int_equal(gds_reader_stats(fixture->reader, NULL), -EINVAL);
	assert_string_equal(gds_reader_lane_reason(NULL), "");
	assert_int_equal(gds_device_list(NULL, NULL), -EINVAL);
	assert_int_equal(gds_device_open(NULL, "host"), -EINVAL);
	assert_int_equal(gds_device_open(&fixture->device, NULL), -EINVAL);
	assert_int_equal(gds_device_get_info(NULL, NULL), -EINVAL);
	assert_int_equal(gds_device_import_vulkan(NULL, NULL), -EINVAL);
	assert_int_equal(gds_buffer_alloc(NULL, fixture->device, 1, 0), -EINVAL);
	assert_int_equal(gds_buffer_alloc(&fixture->buffer, NULL, 1, 0), -EINVAL);
	assert_int_equal(gds_buffer_import_host(NULL, NULL, NULL, 0), -EINVAL);
	assert_int_equal(gds_buffer_import_vulkan(NULL, NULL, NULL), -EINVAL);
	assert_int_equal(gds_buffer_get_vulkan(NULL, 0, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(gds_buffer_copy_out(NULL, 0, NULL, 1), -EINVAL);
	assert_int_equal(gds_buffer_copy_in(fixture->buffer, 0, NULL, 1), -EINVAL);
	assert_int_equal(gds_buffer_checksum(NULL, 0, 1, &crc), -EINVAL);
	assert_int_equal(gds_buffer_bytes(NULL), 0);
	assert_null(gds_buffer_host(NULL));
	assert_int_equal(gds_file_open(NULL, fixture->path), -EINVAL);
	assert_int_equal(gds_file_open(&fixture->file, NULL), -EINVAL);
	assert_int_equal(gds_file_bytes(NULL), -EINVAL);
	assert_int_equal(gds_batch_create(NULL, fixture->reader, NULL), -EINVAL);
	assert_int_equal(gds_batch_create(&batch, NULL, NULL), -EINVAL);
	assert_int_equal(gds_batch_add(NULL, &request, 1), -EINVAL);
	assert_int_equal(gds_batch_add(batch, NULL, 1), -EINVAL);
	request.file = NULL;
	assert_int_equal(gds_batch_add(batch, &request, 1), -EINVAL);
	assert_int_equal(gds_batch_submit(NULL), -EINVAL);
	assert_int_equal(gds_batch_wait(NULL, 0), -EINVAL);
	assert_int_equal(gds_batch_poll(NULL), -EINVAL);
	assert_int_equal(gds_batch_cancel(NULL), -EINVAL);
	assert_int_equal(gds_batch_count(NULL), 0);
	assert_int_equal(gds_batch_result(NULL, 0, &result), -EINVAL);
	assert_int_equal(gds_batch_result(batch, 0, NULL), -EINVAL);
	assert_int_equal(gds_batch_failures(NULL, NULL), -EINVAL);
	assert_int_equal(gds_batch_reset(NULL), -EINVAL);
	assert_int_equal(gds_batch_signal_vulkan(NULL, NULL, 0, 0), -EINVAL);
	assert_int_equal(gds_read(NULL, &request, NULL), -EINVAL);
	assert_int_equal(gds_read(fixture->reader, NULL, NULL), -EINVAL);
	assert_int_equal(gds_explain(NULL, fixture->file, fixture->buffer, &explanation), -EINVAL);
	assert_int_equal(gds_explain(fixture->reader, NULL, fixture->buffer, &explanation),
			 -EINVAL);
	assert_int_equal(gds_explain(fixture->reader, fixture->file, fixture->buffer, NULL),
			 -EINVAL);
	assert_true(strlen(gds_last_error()) > 0);
	/* Structures whose size was not set. */
	stats.size = 0;
	assert_int_equal(gds_reader_stats(fixture->reader, &stats), -EINVAL);
	assert_int_equal(gds_reader_open(&reader, &(struct gds_reader_options){ 0 }), -EINVAL);
	/* What ends things takes NULL. */
	gds_reader_close(NULL);
	gds_device_close(NULL);
	gds_buffer_free(NULL);
	gds_file_close(NULL);
	gds_batch_destroy(NULL);
	gds_batch_destroy(batch);
}

static void options_out_of_range_are_refused(void **state)
{
	static const struct gds_reader_options bad[] = {
		{ .flags = 1u << 7 },
		{ .flags = GDS_READER_SINGLE_THREAD | GDS_READER_PROGRESS_THREAD },
		{ .lane = 3 },
		{ .queue_depth = 4097 },
		{ .threads = 257 },
		{ .transfer_bytes = 2048 },
		{ .transfer_bytes = 4096 + 512 },
		{ .transfer_bytes = 65 * MIB },
		{ .staging_bytes = 3 * MIB },
		{ .transfer_bytes = 32 * MIB, .staging_bytes = 64 * MIB },
		{ .staging_bytes = 64 * MIB + 1 },
	};
	struct gds_reader *reader;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct gds_reader_options options = bad[i];

		options.size = sizeof(options);
		assert_int_equal(gds_reader_open(&reader, &options), -EINVAL);
		assert_non_null(strstr(gds_last_error(), "gds_reader_open"));
	}
}

static void readers_with_extreme_options_open_and_read(void **state)
{
	static const struct gds_reader_options extremes[] = {
		{ .queue_depth = 1, .transfer_bytes = 4096, .threads = 1 },
		{ .queue_depth = 4096, .transfer_bytes = 4096, .staging_bytes = 1024 * MIB },
		{ .queue_depth = 4096, .transfer_bytes = 64 * MIB, .staging_bytes = 256 * MIB },
	};
	struct fixture *fixture = *state;
	struct gds_reader *reader;

	for (size_t i = 0; i < sizeof(extremes) / sizeof(extremes[0]); i++) {
		struct gds_reader_options options = extremes[i];
		struct gds_request request = { .file = fixture->file,
					       .buffer = fixture->buffer,
					       .offset = 11,
					       .length = MIB };

		options.size = sizeof(options);
		options.lane = fixture->variant->kind;
		options.flags = fixture->variant->flags;
		assert_int_equal(gds_reader_open(&reader, &options), 0);
		assert_int_equal(gds_read(reader, &request, NULL), MIB);
		assert_true(pattern_matches(host(fixture), 11, MIB));
		gds_reader_close(reader);
	}
}

static void a_path_that_cannot_be_taken_is_refused_with_the_reason(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch_options options = { .size = sizeof(options), .path = GDS_PATH_DMABUF };
	struct gds_request request = { .file = fixture->file,
				       .buffer = fixture->buffer,
				       .length = SMALL };
	struct gds_batch *batch;

	assert_int_equal(gds_batch_create(&batch, fixture->reader, &options), 0);
	assert_int_equal(gds_batch_add(batch, &request, 1), -EOPNOTSUPP);
	assert_non_null(strstr(gds_last_error(), "dmabuf"));
	assert_int_equal(gds_batch_count(batch), 0);
	gds_batch_destroy(batch);
	options.path = GDS_PATH_COUNT;
	assert_int_equal(gds_batch_create(&batch, fixture->reader, &options), -EINVAL);
	options.path = GDS_PATH_AUTO;
	options.flags = 1u << 9;
	assert_int_equal(gds_batch_create(&batch, fixture->reader, &options), -EINVAL);
}

/* ---- Batches ------------------------------------------------------------------------- */

static void a_batch_goes_through_its_states_in_order_only(void **state)
{
	struct fixture *fixture = *state;
	struct gds_request request = { .file = fixture->file, .buffer = fixture->buffer };
	struct gds_batch *batch = batch_of(fixture, 3, SMALL);
	struct gds_result result;

	assert_int_equal(gds_batch_wait(batch, 0), -EINVAL);
	assert_int_equal(gds_batch_poll(batch), 0);
	assert_int_equal(gds_batch_result(batch, 0, &result), -EINPROGRESS);
	gate_close();
	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_submit(batch), -EBUSY);
	assert_int_equal(gds_batch_add(batch, &request, 1), -EBUSY);
	assert_int_equal(gds_batch_reset(batch), -EBUSY);
	assert_int_equal(gds_batch_result(batch, 0, &result), -EINPROGRESS);
	assert_int_equal(gds_batch_result(batch, 3, &result), -EINVAL);
	gate_open();
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	check_batch_of(fixture, batch, SMALL);
	assert_int_equal(gds_batch_submit(batch), -EBUSY);
	assert_int_equal(gds_batch_add(batch, &request, 1), -EBUSY);
	assert_int_equal(gds_batch_reset(batch), 0);
	assert_int_equal(gds_batch_count(batch), 0);
	request.length = 300;
	assert_int_equal(gds_batch_add(batch, &request, 1), 0);
	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	assert_int_equal(result_of(batch, 0).bytes, 300);
	gds_batch_destroy(batch);
}

static void an_empty_batch_is_complete_at_once(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch = NULL;

	assert_int_equal(gds_batch_create(&batch, fixture->reader, NULL), 0);
	assert_int_equal(gds_batch_add(batch, NULL, 0), 0);
	gate_close();
	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_poll(batch), 0);
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	assert_int_equal(gds_batch_failures(batch, NULL), 0);
	gds_batch_destroy(batch);
}

static void results_tell_times_paths_and_the_callers_own_number(void **state)
{
	struct fixture *fixture = *state;
	struct gds_request request = { .file = fixture->file,
				       .buffer = fixture->buffer,
				       .offset = 4096 + 100,
				       .length = 3 * 4096,
				       .buffer_offset = 4096 + 100,
				       .user_data = UINT64_C(0xfedcba9876543210) };
	struct gds_result result = { 0 };

	assert_int_equal(gds_read(fixture->reader, &request, &result), 3 * 4096);
	assert_int_equal(result.user_data, request.user_data);
	assert_int_equal(result.path_bytes[GDS_PATH_MAPPED] + result.path_bytes[GDS_PATH_BOUNCE],
			 3 * 4096);
	assert_true(result.path_bytes[GDS_PATH_MAPPED] >= 2 * 4096);
	assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], 0);
	assert_true(result.issued_ns > 0 && result.completed_ns >= result.issued_ns);
}

static void statistics_add_up(void **state)
{
	struct fixture *fixture = *state;
	struct gds_stats stats = { .size = sizeof(stats) };
	struct gds_stats before = { .size = sizeof(before) };
	struct gds_batch *batch = batch_of(fixture, 1000, 1111);

	assert_int_equal(gds_reader_stats(fixture->reader, &before), 0);
	assert_int_equal(before.reads, 0);
	gate_close();
	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_cancel(batch), 0);
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	gds_batch_destroy(batch);
	gate_open();
	batch = batch_of(fixture, 1000, 1111);
	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	assert_int_equal(read_at(fixture, FILE_BYTES, 10, 0), 0);
	assert_int_equal(gds_reader_stats(fixture->reader, &stats), 0);
	assert_int_equal(stats.reads, 2001);
	assert_int_equal(stats.reads_cancelled, 1000);
	assert_int_equal(stats.reads_failed, 0);
	assert_int_equal(stats.path_bytes[GDS_PATH_MAPPED] + stats.path_bytes[GDS_PATH_BOUNCE],
			 1000 * 1111);
	assert_int_equal(stats.in_flight, 0);
	assert_true(stats.in_flight_peak >= 1 && stats.in_flight_peak <= 128);
	/* Neighbours in the file and in memory are read together. */
	assert_true(stats.operations + stats.reads_merged >= 1000);
	assert_true(stats.reads_merged > 900);
	assert_int_equal(stats.class_reads[GDS_CLASS_FOREGROUND], 2000);
	assert_int_equal(stats.class_bytes[GDS_CLASS_FOREGROUND], 1000 * 1111);
	assert_int_equal(stats.storage_devices, 1);
	assert_true(stats.staging_bytes > 0 && stats.staging_bytes <= 64 * MIB);
	gds_batch_destroy(batch);

	/* A caller that was built when the structure was shorter. */
	memset(&stats, 0xee, sizeof(stats));
	stats.size = offsetof(struct gds_stats, reads_failed);
	assert_int_equal(gds_reader_stats(fixture->reader, &stats), 0);
	assert_int_equal(stats.reads, 2001);
	assert_int_equal(stats.reads_failed, UINT64_C(0xeeeeeeeeeeeeeeee));
}

static void explanations_name_the_path_and_the_reasons_against_the_others(void **state)
{
	struct fixture *fixture = *state;
	struct gds_explanation explanation = { .size = sizeof(explanation) };

	assert_int_equal(gds_explain(fixture->reader, fixture->file, fixture->buffer, &explanation),
			 0);
	assert_int_equal(explanation.path, GDS_PATH_MAPPED);
	assert_true(explanation.paths[GDS_PATH_MAPPED].usable);
	assert_true(explanation.paths[GDS_PATH_BOUNCE].usable);
	assert_false(explanation.paths[GDS_PATH_DMABUF].usable);
	assert_true(strlen(explanation.paths[GDS_PATH_DMABUF].reason) > 10);
	assert_true(strlen(explanation.paths[GDS_PATH_DMABUF].remedy) > 3);
	if (explanation.direct) {
		assert_true(explanation.offset_alignment >= 512);
		assert_string_equal(explanation.direct_reason, "");
	} else {
		assert_int_equal(explanation.offset_alignment, 1);
		assert_true(strlen(explanation.direct_reason) > 10);
	}
}

/* ---- Waiting ------------------------------------------------------------------------- */

static void a_wait_that_times_out_leaves_the_batch_in_flight(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch = batch_of(fixture, 10, SMALL);

	gate_close();
	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_wait(batch, 0), -ETIMEDOUT);
	assert_int_equal(gds_batch_wait(batch, NOT_LONG_NS), -ETIMEDOUT);
	assert_non_null(strstr(gds_last_error(), "10 reads"));
	assert_int_equal(gds_batch_poll(batch), 10);
	gate_open();
	assert_int_equal(gds_batch_wait(batch, INT64_MAX), 0);
	check_batch_of(fixture, batch, SMALL);
	gds_batch_destroy(batch);
}

static void polling_alone_completes_a_batch(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch = batch_of(fixture, 500, 10000);
	ssize_t before = 500;
	ssize_t left;

	gate_close();
	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_poll(batch), 500);
	gate_open();
	while ((left = gds_batch_poll(batch)) > 0) {
		assert_true(left <= before);
		before = left;
	}
	assert_int_equal(left, 0);
	check_batch_of(fixture, batch, 10000);
	gds_batch_destroy(batch);
}

static volatile sig_atomic_t signals_seen;

static void count_signal(int number)
{
	signals_seen++;
}

static void start_signals(void)
{
	struct sigaction action = { .sa_handler = count_signal };
	struct itimerval often = { { 0, HARD_TO_MISS_US }, { 0, HARD_TO_MISS_US } };

	signals_seen = 0;
	assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
}

static void stop_signals(void)
{
	const struct itimerval never = { 0 };

	setitimer(ITIMER_REAL, &never, NULL);
	signal(SIGALRM, SIG_IGN);
}

static void a_signal_ends_a_wait_and_leaves_the_batch_in_flight(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch = batch_of(fixture, 10, SMALL);
	int err;

	gate_close();
	assert_int_equal(gds_batch_submit(batch), 0);
	start_signals();
	err = gds_batch_wait(batch, -1);
	stop_signals();
	assert_int_equal(err, -EINTR);
	assert_true(signals_seen > 0);
	assert_int_equal(gds_batch_poll(batch), 10);
	gate_open();
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	check_batch_of(fixture, batch, SMALL);
	gds_batch_destroy(batch);
}

static void a_blocking_read_goes_on_after_signals(void **state)
{
	struct fixture *fixture = *state;
	ssize_t got;

	start_signals();
	for (int i = 0; i < 20; i++) {
		gate_close();
		open_gate_soon();
		got = read_at(fixture, 123, 50000, 0);
		if (got != 50000)
			break;
	}
	stop_signals();
	assert_int_equal(got, 50000);
	assert_true(pattern_matches(host(fixture), 123, 50000));
}

static void a_cancelled_batch_completes_and_says_so_of_each_read(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch = batch_of(fixture, 200, SMALL);
	size_t first = SIZE_MAX;

	gate_close();
	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_cancel(batch), 0);
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	assert_int_equal(gds_batch_failures(batch, &first), 200);
	assert_int_equal(first, 0);
	for (size_t i = 0; i < 200; i++)
		assert_int_equal(result_of(batch, i).bytes, -ECANCELED);
	/* Nothing is left to cancel. */
	assert_int_equal(gds_batch_cancel(batch), 0);
	assert_int_equal(gds_batch_wait(batch, 0), 0);
	gds_batch_destroy(batch);
}

static void cancelling_one_batch_leaves_the_others_alone(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *kept = batch_of(fixture, 100, SMALL);
	struct gds_batch *dropped = batch_of(fixture, 100, SMALL);

	gate_close();
	assert_int_equal(gds_batch_submit(kept), 0);
	assert_int_equal(gds_batch_submit(dropped), 0);
	assert_int_equal(gds_batch_cancel(dropped), 0);
	assert_int_equal(gds_batch_wait(dropped, -1), 0);
	assert_int_equal(gds_batch_failures(dropped, NULL), 100);
	gate_open();
	assert_int_equal(gds_batch_wait(kept, -1), 0);
	check_batch_of(fixture, kept, SMALL);
	gds_batch_destroy(kept);
	gds_batch_destroy(dropped);
}

/* ---- Event loops ---------------------------------------------------------------------- */

static void wait_for_event(int loop, int descriptor)
{
	struct epoll_event event;
	uint64_t count;
	int ready;

	/* The kernel's work for io_uring interrupts other calls of its thread. */
	do
		ready = epoll_wait(loop, &event, 1, FOREVER_MS);
	while (ready < 0 && errno == EINTR);
	assert_int_equal(ready, 1);
	assert_int_equal(read(descriptor, &count, sizeof(count)), sizeof(count));
	assert_true(count > 0);
}

static struct gds_batch *timed_batch_of(struct fixture *fixture, size_t count, uint64_t deadline_ns)
{
	const struct gds_batch_options options = {
		.size = sizeof(options),
		.deadline_ns = deadline_ns,
		.read_class = GDS_CLASS_PREFETCH,
	};
	struct gds_batch *batch;

	assert_int_equal(gds_batch_create(&batch, fixture->reader, &options), 0);
	for (size_t i = 0; i < count; i++) {
		struct gds_request request = {
			.file = fixture->file,
			.buffer = fixture->buffer,
			.offset = 8192 * i,
			.length = 4096,
			.buffer_offset = 8192 * i,
		};

		assert_int_equal(gds_batch_add(batch, &request, 1), i);
	}
	return batch;
}

static void a_batch_past_its_deadline_ends_and_its_buffer_is_not_written_after_that(void **state)
{
	struct fixture *fixture = *state;
	unsigned char *host = gds_buffer_host(fixture->buffer);
	struct gds_stats stats = { .size = sizeof(stats) };
	struct gds_batch *batch = timed_batch_of(fixture, 200, 20 * UINT64_C(1000000));

	gate_close();
	memset(host, 0xee, BUFFER_BYTES);
	assert_int_equal(gds_batch_submit(batch), 0);
	/* Nothing else wakes the driver. */
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	assert_int_equal(gds_batch_failures(batch, NULL), 200);
	for (size_t i = 0; i < 200; i++)
		assert_int_equal(result_of(batch, i).bytes, -ETIMEDOUT);
	gate_open();
	assert_int_equal(read_at(fixture, 2 * MIB, 4096, 4 * MIB), 4096);
	for (size_t i = 0; i < 2 * MIB; i++)
		assert_int_equal(host[i], 0xee);
	assert_int_equal(gds_reader_stats(fixture->reader, &stats), 0);
	assert_int_equal(stats.reads_expired, 200);
	assert_int_equal(stats.reads_failed, 200);
	gds_batch_destroy(batch);
}

static void a_batch_within_its_deadline_is_good(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch = timed_batch_of(fixture, 200, UINT64_C(3600) * 1000000000);
	struct gds_stats stats = { .size = sizeof(stats) };
	struct gds_storage_stats storage = { .size = sizeof(storage) };

	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	assert_int_equal(gds_batch_failures(batch, NULL), 0);
	gds_batch_destroy(batch);
	assert_int_equal(gds_reader_stats(fixture->reader, &stats), 0);
	assert_int_equal(stats.reads_expired, 0);
	assert_int_equal(stats.class_reads[GDS_CLASS_PREFETCH], 200);
	assert_int_equal(stats.class_bytes[GDS_CLASS_PREFETCH], 200 * 4096);
	assert_int_equal(gds_reader_storage(fixture->reader, 0, &storage), 0);
	assert_true(storage.name[0] && storage.depth > 0 && storage.transfer_bytes > 0);
	assert_int_equal(storage.reads, 200);
	assert_int_equal(storage.bytes, 200 * 4096);
	assert_int_equal(gds_reader_storage(fixture->reader, 1, &storage), -ENOENT);
}

static void an_event_loop_sees_every_batch_complete(void **state)
{
	struct fixture *fixture = *state;
	int descriptor = gds_reader_eventfd(fixture->reader);
	int loop = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN };
	struct gds_batch *batches[20];
	size_t left = 20;

	assert_true(descriptor >= 0 && loop >= 0);
	assert_int_equal(gds_reader_eventfd(fixture->reader), descriptor);
	assert_int_equal(epoll_ctl(loop, EPOLL_CTL_ADD, descriptor, &event), 0);
	/* More than fit in flight at once, with edges that bounce. */
	for (size_t i = 0; i < 20; i++)
		batches[i] = batch_of(fixture, 50, 30011);
	for (size_t i = 0; i < 20; i++)
		assert_int_equal(gds_batch_submit(batches[i]), 0);
	while (left > 0) {
		wait_for_event(loop, descriptor);
		for (size_t i = 0; i < 20; i++) {
			if (!batches[i] || gds_batch_poll(batches[i]) != 0)
				continue;
			assert_int_equal(gds_batch_failures(batches[i], NULL), 0);
			gds_batch_destroy(batches[i]);
			batches[i] = NULL;
			left--;
		}
	}
	close(loop);
}

static void a_cancel_and_an_empty_batch_wake_an_event_loop(void **state)
{
	struct fixture *fixture = *state;
	int descriptor = gds_reader_eventfd(fixture->reader);
	int loop = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN };
	struct gds_batch *batch = batch_of(fixture, 30, SMALL);
	struct gds_batch *empty = batch_of(fixture, 0, SMALL);

	assert_int_equal(epoll_ctl(loop, EPOLL_CTL_ADD, descriptor, &event), 0);
	assert_int_equal(gds_batch_submit(empty), 0);
	wait_for_event(loop, descriptor);
	gate_close();
	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_cancel(batch), 0);
	while (gds_batch_poll(batch) > 0)
		wait_for_event(loop, descriptor);
	assert_int_equal(gds_batch_failures(batch, NULL), 30);
	gds_batch_destroy(batch);
	gds_batch_destroy(empty);
	close(loop);
}

int main(void)
{
	const struct test_case cases[] = {
		TEST_CASE(a_read_across_the_end_of_the_file_is_short),
		TEST_CASE(a_read_that_begins_at_or_beyond_the_end_gives_nothing),
		TEST_CASE(an_empty_file_gives_nothing),
		TEST_CASE(holes_read_as_zeros),
		TEST_CASE(offsets_over_4_gib_reach_the_right_bytes),
		TEST_CASE(a_read_of_nothing_is_good_and_touches_nothing),
		TEST_CASE(a_file_that_grew_is_read_to_its_new_end),
		TEST_CASE(a_file_that_grew_unasked_is_read_to_its_new_end),
		TEST_CASE(a_file_that_shrank_unasked_is_read_to_its_new_end),
		TEST_CASE(reads_of_files_in_turn_are_right),
		TEST_CASE(a_file_that_shrinks_while_it_is_read_gives_a_short_read),
		TEST_CASE(a_hundred_thousand_small_reads_in_a_batch_are_all_right),
		TEST_CASE_FOR(a_million_reads_in_a_batch_are_all_right, is_plain_uring),
		TEST_CASE(reads_outside_of_the_buffer_are_refused_and_none_is_added),
		TEST_CASE(offsets_that_no_file_has_are_refused),
		TEST_CASE(null_arguments_are_refused_with_a_message_and_no_crash),
		TEST_CASE_FOR(options_out_of_range_are_refused, is_plain_uring),
		TEST_CASE(readers_with_extreme_options_open_and_read),
		TEST_CASE(a_path_that_cannot_be_taken_is_refused_with_the_reason),
		TEST_CASE(a_batch_goes_through_its_states_in_order_only),
		TEST_CASE(an_empty_batch_is_complete_at_once),
		TEST_CASE(results_tell_times_paths_and_the_callers_own_number),
		TEST_CASE(statistics_add_up),
		TEST_CASE(explanations_name_the_path_and_the_reasons_against_the_others),
		TEST_CASE(a_wait_that_times_out_leaves_the_batch_in_flight),
		TEST_CASE(polling_alone_completes_a_batch),
		/* Others wait for their progress thread, and see no signal. */
		TEST_CASE_FOR(a_signal_ends_a_wait_and_leaves_the_batch_in_flight,
			      has_no_progress_thread),
		TEST_CASE(a_blocking_read_goes_on_after_signals),
		TEST_CASE(a_cancelled_batch_completes_and_says_so_of_each_read),
		TEST_CASE(cancelling_one_batch_leaves_the_others_alone),
		TEST_CASE(a_batch_past_its_deadline_ends_and_its_buffer_is_not_written_after_that),
		TEST_CASE(a_batch_within_its_deadline_is_good),
		TEST_CASE(an_event_loop_sees_every_batch_complete),
		TEST_CASE(a_cancel_and_an_empty_batch_wake_an_event_loop),
	};

	return run_cases("reader", cases, sizeof(cases) / sizeof(cases[0]));
}
