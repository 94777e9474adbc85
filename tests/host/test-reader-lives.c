/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lives of readers, files, buffers and batches: whatever is closed, freed or
 * destroyed first, also with reads in flight, by many threads, or across fork().
 * The sanitizers are half of these tests.
 */
#include "support/fixture.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SMALL   5000
#define THREADS 16
#define TURNS   30

static void close_file(struct fixture *fixture)
{
	gds_file_close(fixture->file);
	fixture->file = NULL;
}

static void free_buffer(struct fixture *fixture)
{
	gds_buffer_free(fixture->buffer);
	fixture->buffer = NULL;
}

static void close_reader(struct fixture *fixture)
{
	gds_reader_close(fixture->reader);
	fixture->reader = NULL;
}

/* ---- With reads in flight ------------------------------------------------------------- */

static void closing_a_file_waits_for_its_reads_which_are_good(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch = batch_of(fixture, 100, SMALL);

	gate_close();
	assert_int_equal(gds_batch_submit(batch), 0);
	open_gate_soon();
	close_file(fixture);
	assert_int_equal(gds_batch_wait(batch, 0), 0);
	check_batch_of(fixture, batch, SMALL);
	gds_batch_destroy(batch);
}

static void freeing_a_buffer_waits_for_reads_into_it(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch = batch_of(fixture, 100, SMALL);

	gate_close();
	assert_int_equal(gds_batch_submit(batch), 0);
	open_gate_soon();
	free_buffer(fixture);
	assert_int_equal(gds_batch_wait(batch, 0), 0);
	check_batch_of(fixture, batch, SMALL);
	gds_batch_destroy(batch);
}

static void closing_a_reader_cancels_its_batches(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batches[5];

	gate_close();
	for (int i = 0; i < 5; i++) {
		batches[i] = batch_of(fixture, 100, SMALL);
		assert_int_equal(gds_batch_submit(batches[i]), 0);
	}
	close_reader(fixture);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(gds_batch_wait(batches[i], -1), 0);
		assert_int_equal(gds_batch_poll(batches[i]), 0);
		assert_int_equal(gds_batch_cancel(batches[i]), 0);
		assert_int_equal(gds_batch_failures(batches[i], NULL), 100);
		assert_int_equal(result_of(batches[i], 99).bytes, -ECANCELED);
		gds_batch_destroy(batches[i]);
	}
}

static void destroying_a_batch_in_flight_leaves_the_reader_in_order(void **state)
{
	struct fixture *fixture = *state;
	struct gds_stats stats = { .size = sizeof(stats) };
	struct gds_batch *batch;

	for (int i = 0; i < 20; i++) {
		batch = batch_of(fixture, 100, SMALL);
		if (i % 2)
			gate_close();
		assert_int_equal(gds_batch_submit(batch), 0);
		gds_batch_destroy(batch);
		gate_open();
	}
	batch = batch_of(fixture, 100, SMALL);
	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	check_batch_of(fixture, batch, SMALL);
	assert_int_equal(gds_reader_stats(fixture->reader, &stats), 0);
	assert_int_equal(stats.in_flight, 0);
	assert_int_equal(stats.reads, 2100);
	gds_batch_destroy(batch);
}

/* ---- Before the reads ------------------------------------------------------------------ */

static void expect_bad_descriptors(struct gds_batch *batch)
{
	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	assert_int_equal(gds_batch_failures(batch, NULL), gds_batch_count(batch));
	assert_int_equal(result_of(batch, 0).bytes, -EBADF);
	assert_non_null(strstr(gds_last_error(), "closed"));
	gds_batch_destroy(batch);
}

static void a_file_closed_before_submit_fails_its_reads(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch = batch_of(fixture, 10, SMALL);

	close_file(fixture);
	expect_bad_descriptors(batch);
}

static void a_buffer_freed_before_submit_fails_its_reads(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch = batch_of(fixture, 10, SMALL);

	free_buffer(fixture);
	expect_bad_descriptors(batch);
}

static void a_closed_reader_takes_no_more_reads(void **state)
{
	struct fixture *fixture = *state;
	struct gds_request request = { .file = fixture->file,
				       .buffer = fixture->buffer,
				       .length = SMALL };
	struct gds_batch *batch = batch_of(fixture, 10, SMALL);
	struct gds_batch *empty = batch_of(fixture, 0, SMALL);

	close_reader(fixture);
	assert_int_equal(gds_batch_add(empty, &request, 1), -ESHUTDOWN);
	assert_int_equal(gds_batch_submit(batch), -ESHUTDOWN);
	assert_int_equal(gds_batch_submit(empty), -ESHUTDOWN);
	gds_batch_destroy(batch);
	gds_batch_destroy(empty);
}

static void a_device_is_kept_while_it_has_buffers(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch = batch_of(fixture, 10, SMALL);

	gds_device_close(fixture->device);
	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	check_batch_of(fixture, batch, SMALL);
	gds_batch_destroy(batch);
}

/* ---- In every order ---------------------------------------------------------------------- */

enum { FILE_ENDS, BUFFER_ENDS, READER_ENDS, BATCH_ENDS, ENDS };

static void end(struct fixture *fixture, struct gds_batch *batch, int what)
{
	if (what == FILE_ENDS)
		close_file(fixture);
	else if (what == BUFFER_ENDS)
		free_buffer(fixture);
	else if (what == READER_ENDS)
		close_reader(fixture);
	else
		gds_batch_destroy(batch);
}

static void start_again(struct fixture *fixture)
{
	struct gds_reader_options options = {
		.size = sizeof(options),
		.lane = fixture->variant->kind,
		.flags = fixture->variant->flags,
	};

	assert_int_equal(gds_reader_open(&fixture->reader, &options), 0);
	assert_int_equal(gds_file_open(&fixture->file, fixture->path), 0);
	assert_int_equal(gds_buffer_alloc(&fixture->buffer, fixture->device, BUFFER_BYTES, 0), 0);
}

static void objects_end_in_any_order_with_reads_in_flight(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch;
	bool ended[ENDS];

	for (int order = 0; order < ENDS * ENDS * ENDS * ENDS; order++) {
		int digits = order;

		close_reader(fixture);
		close_file(fixture);
		free_buffer(fixture);
		start_again(fixture);
		batch = batch_of(fixture, 100, 7777);
		assert_int_equal(gds_batch_submit(batch), 0);
		memset(ended, 0, sizeof(ended));
		for (int step = 0; step < ENDS; step++, digits /= ENDS) {
			if (!ended[digits % ENDS])
				end(fixture, batch, digits % ENDS);
			ended[digits % ENDS] = true;
		}
		/* Not every number names all four. */
		if (!ended[BATCH_ENDS])
			gds_batch_destroy(batch);
	}
}

/* ---- Many threads -------------------------------------------------------------------------- */

struct worker {
	struct fixture *fixture;
	unsigned number;
	const char *failure;
};

static const char *read_own_buffer(struct worker *worker, struct gds_file *file)
{
	struct fixture *fixture = worker->fixture;
	const uint64_t offset = worker->number * 31337;
	struct gds_request requests[20];
	struct gds_buffer *buffer = NULL;
	struct gds_batch *batch = NULL;
	const char *failure = NULL;

	if (gds_buffer_alloc(&buffer, fixture->device, 20 * SMALL, 0) != 0 ||
	    gds_batch_create(&batch, fixture->reader, NULL) != 0)
		return "cannot make a buffer or a batch";
	for (uint64_t i = 0; i < 20; i++)
		requests[i] = (struct gds_request){ .file = file,
						    .buffer = buffer,
						    .offset = offset + i * SMALL,
						    .length = SMALL,
						    .buffer_offset = i * SMALL };
	if (gds_batch_add(batch, requests, 20) != 0 || gds_batch_submit(batch) != 0)
		failure = "cannot submit";
	else if (gds_batch_wait(batch, -1) != 0 || gds_batch_failures(batch, NULL) != 0)
		failure = "a read failed";
	else if (!pattern_matches(gds_buffer_host(buffer), offset, 20 * SMALL))
		failure = "wrong bytes";
	gds_batch_destroy(batch);
	gds_buffer_free(buffer);
	return failure;
}

/* On the file that all share, and now and then on one of its own. */
static void *work(void *argument)
{
	struct worker *worker = argument;
	struct gds_file *own = NULL;

	for (int turn = 0; turn < TURNS && !worker->failure; turn++) {
		if (turn % 5 == 0) {
			gds_file_close(own);
			if (gds_file_open(&own, worker->fixture->path) != 0)
				worker->failure = "cannot open a file";
		}
		if (!worker->failure)
			worker->failure =
				read_own_buffer(worker, turn % 2 ? own : worker->fixture->file);
	}
	gds_file_close(own);
	return NULL;
}

static void sixteen_threads_share_one_reader(void **state)
{
	struct fixture *fixture = *state;
	struct worker workers[THREADS];
	pthread_t threads[THREADS];
	struct gds_stats stats = { .size = sizeof(stats) };

	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ fixture, i, NULL };
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < THREADS; i++)
		assert_null(workers[i].failure);
	assert_int_equal(gds_reader_stats(fixture->reader, &stats), 0);
	assert_int_equal(stats.reads, THREADS * TURNS * 20);
	assert_int_equal(stats.in_flight, 0);
}

static void *wait_in_thread(void *batch)
{
	return (void *)(intptr_t)gds_batch_wait(batch, -1);
}

static void a_waiting_thread_sees_a_batch_cancelled_by_another(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch = batch_of(fixture, 100, SMALL);
	struct gds_batch *other = batch_of(fixture, 100, SMALL);
	pthread_t thread;
	void *waited;

	gate_close();
	assert_int_equal(gds_batch_submit(batch), 0);
	assert_int_equal(gds_batch_submit(other), 0);
	assert_int_equal(pthread_create(&thread, NULL, wait_in_thread, batch), 0);
	/* The other thread drives; what is done here must reach it in its sleep. */
	assert_int_equal(gds_batch_cancel(other), 0);
	assert_int_equal(gds_batch_wait(other, -1), 0);
	assert_int_equal(gds_batch_failures(other, NULL), 100);
	gate_open();
	pthread_join(thread, &waited);
	assert_int_equal((intptr_t)waited, 0);
	check_batch_of(fixture, batch, SMALL);
	gds_batch_destroy(batch);
	gds_batch_destroy(other);
}

/* ---- fork ----------------------------------------------------------------------------------- */

static int child_of_fork(struct fixture *fixture, struct gds_batch *batch)
{
	struct gds_request request = { .file = fixture->file,
				       .buffer = fixture->buffer,
				       .length = SMALL };
	struct gds_stats stats = { .size = sizeof(stats) };
	struct gds_batch *fresh;

	if (gds_read(fixture->reader, &request, NULL) != -EPERM)
		return 1;
	if (!strstr(gds_last_error(), "fork"))
		return 2;
	if (gds_batch_create(&fresh, fixture->reader, NULL) != -EPERM ||
	    gds_batch_add(batch, &request, 1) != -EPERM || gds_batch_submit(batch) != -EPERM ||
	    gds_batch_wait(batch, 0) != -EPERM || gds_batch_poll(batch) != -EPERM ||
	    gds_batch_cancel(batch) != -EPERM)
		return 3;
	if (gds_reader_stats(fixture->reader, &stats) != -EPERM ||
	    gds_reader_eventfd(fixture->reader) != -EPERM)
		return 4;
	gds_batch_destroy(batch);
	gds_reader_close(fixture->reader);
	return 0;
}

static void a_child_of_fork_is_told_to_open_its_own_reader(void **state)
{
	struct fixture *fixture = *state;
	struct gds_batch *batch = batch_of(fixture, 100, SMALL);
	int status;
	pid_t child;

	gate_close();
	assert_int_equal(gds_batch_submit(batch), 0);
	child = fork();
	if (child == 0)
		_exit(child_of_fork(fixture, batch));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	/* The parent's reads were none of the child's business. */
	gate_open();
	assert_int_equal(gds_batch_wait(batch, -1), 0);
	check_batch_of(fixture, batch, SMALL);
	gds_batch_destroy(batch);
}

/* Some memory is not there, and a driver waits for threads that are not. */
static int child_with_a_buffer(struct fixture *fixture)
{
	struct gds_device_info info = { .size = sizeof(info) };
	struct gds_buffer *fresh = NULL;
	uint32_t crc;
	char bytes[8];

	alarm(60);
	if (gds_buffer_copy_out(fixture->buffer, 0, bytes, sizeof(bytes)) != -EPERM)
		return 1;
	if (!strstr(gds_last_error(), "fork"))
		return 2;
	if (gds_buffer_copy_in(fixture->buffer, 0, bytes, sizeof(bytes)) != -EPERM ||
	    gds_buffer_checksum(fixture->buffer, 0, sizeof(bytes), &crc) != -EPERM)
		return 3;
	if (gds_buffer_alloc(&fresh, fixture->device, SMALL, 0) != -EPERM || fresh ||
	    gds_device_get_info(fixture->device, &info) != -EPERM)
		return 4;
	gds_buffer_free(fixture->buffer);
	gds_device_close(fixture->device);
	return 0;
}

static void a_child_of_fork_leaves_devices_and_buffers_alone(void **state)
{
	struct fixture *fixture = *state;
	int status;
	pid_t child = fork();

	if (child == 0)
		_exit(child_with_a_buffer(fixture));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct test_case cases[] = {
		TEST_CASE(closing_a_file_waits_for_its_reads_which_are_good),
		TEST_CASE(freeing_a_buffer_waits_for_reads_into_it),
		TEST_CASE(closing_a_reader_cancels_its_batches),
		TEST_CASE(destroying_a_batch_in_flight_leaves_the_reader_in_order),
		TEST_CASE(a_file_closed_before_submit_fails_its_reads),
		TEST_CASE(a_buffer_freed_before_submit_fails_its_reads),
		TEST_CASE(a_closed_reader_takes_no_more_reads),
		TEST_CASE(a_device_is_kept_while_it_has_buffers),
		TEST_CASE(objects_end_in_any_order_with_reads_in_flight),
		TEST_CASE_FOR(sixteen_threads_share_one_reader, is_for_many_threads),
		TEST_CASE_FOR(a_waiting_thread_sees_a_batch_cancelled_by_another,
			      is_for_many_threads),
		TEST_CASE(a_child_of_fork_is_told_to_open_its_own_reader),
		TEST_CASE(a_child_of_fork_leaves_devices_and_buffers_alone),
	};

	return run_cases("reader-lives", cases, sizeof(cases) / sizeof(cases[0]));
}
