/* SPDX-License-Identifier: Apache-2.0 */
#include "support/fixture.h"

#include "reader.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define MOST_CASES 100

const struct variant variants[VARIANT_COUNT] = {
	{ "uring", &lane_uring, GDS_LANE_URING, 0 },
	{ "uring, single thread", &lane_uring, GDS_LANE_URING, GDS_READER_SINGLE_THREAD },
	{ "uring, progress thread", &lane_uring, GDS_LANE_URING, GDS_READER_PROGRESS_THREAD },
	{ "threads", &lane_threads, GDS_LANE_THREADS, 0 },
	{ "threads, progress thread", &lane_threads, GDS_LANE_THREADS, GDS_READER_PROGRESS_THREAD },
};

bool has_no_progress_thread(const struct variant *variant)
{
	return !(variant->flags & GDS_READER_PROGRESS_THREAD);
}

bool is_for_many_threads(const struct variant *variant)
{
	return !(variant->flags & GDS_READER_SINGLE_THREAD);
}

bool is_plain_uring(const struct variant *variant)
{
	return variant == &variants[0];
}

static void swallow(enum gds_log_level level, const char *line, void *user)
{
}

/* The gated lane takes io_uring's place, whatever is behind it. */
static int set_up(void **state)
{
	struct gds_reader_options options = { .size = sizeof(options), .lane = GDS_LANE_URING };
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	fixture->variant = *state;
	options.flags = fixture->variant->flags;
	gds_log_set(GDS_LOG_ERROR, swallow, NULL);
	gate_set(fixture->variant->lane);
	assert_true(folder_make(fixture->folder, false));
	assert_int_equal(chmod(fixture->folder, 0755), 0);
	snprintf(fixture->path, sizeof(fixture->path), "%s/file", fixture->folder);
	file_write_pattern(fixture->path, 0, FILE_BYTES);
	*state = fixture;
	if (reader_open(&fixture->reader, &options, &lane_gated) != 0) {
		print_message("skipped: %s\n", gds_last_error());
		skip();
	}
	assert_int_equal(gds_device_open(&fixture->device, "host"), 0);
	assert_int_equal(gds_buffer_alloc(&fixture->buffer, fixture->device, BUFFER_BYTES, 0), 0);
	assert_int_equal(gds_file_open(&fixture->file, fixture->path), 0);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	gate_open();
	gds_file_close(fixture->file);
	gds_buffer_free(fixture->buffer);
	gds_device_close(fixture->device);
	gds_reader_close(fixture->reader);
	folder_remove(fixture->folder);
	free(fixture);
	return 0;
}

int run_cases(const char *group, const struct test_case *cases, size_t count)
{
	static struct CMUnitTest tests[MOST_CASES * VARIANT_COUNT];
	static char names[MOST_CASES * VARIANT_COUNT][200];
	size_t made = 0;

	if (count > MOST_CASES)
		return 1;
	for (size_t i = 0; i < count; i++)
		for (size_t v = 0; v < VARIANT_COUNT; v++) {
			if (cases[i].suits && !cases[i].suits(&variants[v]))
				continue;
			snprintf(names[made], sizeof(*names), "%s (%s)", cases[i].name,
				 variants[v].name);
			tests[made] = (struct CMUnitTest){ names[made], cases[i].function, set_up,
							   tear_down, (void *)&variants[v] };
			made++;
		}
	/* What cmocka_run_group_tests() calls, for a table whose length is not known to it. */
	return _cmocka_run_group_tests(group, tests, made, NULL, NULL);
}

struct gds_batch *batch_of(struct fixture *fixture, size_t count, uint64_t length)
{
	struct gds_request *requests = calloc(count, sizeof(*requests));
	struct gds_batch *batch = NULL;

	assert_non_null(requests);
	memset(gds_buffer_host(fixture->buffer), 0, BUFFER_BYTES);
	for (size_t i = 0; i < count; i++)
		requests[i] = (struct gds_request){
			.file = fixture->file,
			.buffer = fixture->buffer,
			.offset = i * length % (FILE_BYTES - length),
			.length = length,
			.buffer_offset = i * length % (BUFFER_BYTES - length),
			.user_data = i,
		};
	assert_int_equal(gds_batch_create(&batch, fixture->reader, NULL), 0);
	assert_int_equal(gds_batch_add(batch, requests, count), 0);
	free(requests);
	return batch;
}

struct gds_result result_of(struct gds_batch *batch, size_t index)
{
	struct gds_result result;

	assert_int_equal(gds_batch_result(batch, index, &result), 0);
	return result;
}

void check_batch_of(struct fixture *fixture, struct gds_batch *batch, uint64_t length)
{
	const unsigned char *host = fixture->buffer ? gds_buffer_host(fixture->buffer) : NULL;

	assert_int_equal(gds_batch_failures(batch, NULL), 0);
	for (size_t i = 0; i < gds_batch_count(batch); i++) {
		assert_int_equal(result_of(batch, i).bytes, length);
		assert_int_equal(result_of(batch, i).user_data, i);
		if (host && (i + 1) * length <= FILE_BYTES - length)
			assert_true(pattern_matches(host + i * length, i * length, length));
	}
}

static void *open_later(void *argument)
{
	const struct timespec moment = { .tv_nsec = 5000000 };

	nanosleep(&moment, NULL);
	gate_open();
	return NULL;
}

/* Signals are for the thread that the test is about. */
void open_gate_soon(void)
{
	pthread_t thread;
	sigset_t all;
	sigset_t before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	assert_int_equal(pthread_create(&thread, NULL, open_later, NULL), 0);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_detach(thread);
}
