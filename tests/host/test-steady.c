/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What reads cost beside the I/O: nothing is allocated for a read once its batch has been
 * through, a batch of a million reads takes what its reads and the reader's options say, and
 * no lock is held across a system call. The library's own calls are counted, by functions
 * that the linker puts before those of the C library.
 */
#include "support/random.h"
#include "support/storage.h"

#include <gds/gds.h>
#include <liburing.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#define FILE_BYTES   (4u << 20)
#define BUFFER_BYTES (8u << 20)
#define READS        300
#define THREADS      16
#define WARM_UP      5
#define ROUNDS       10
#define TURNS        3 /* of each thread */
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

/* ---- What is called under a lock ---- */

static _Thread_local int locks_held;
static atomic_size_t system_calls;
static atomic_size_t system_calls_under_lock;

static void count_system_call(void)
{
	atomic_fetch_add(&system_calls, 1);
	if (locks_held)
		atomic_fetch_add(&system_calls_under_lock, 1);
}

#define WRAP(result, name, parameters, arguments) \
	result __real_##name parameters;          \
	result __wrap_##name parameters;          \
	result __wrap_##name parameters           \
	{                                         \
		count_system_call();              \
		return __real_##name arguments;   \
	}

WRAP(int, io_uring_enter2,
     (unsigned int fd, unsigned int submit, unsigned int wait_for, unsigned int flags,
      sigset_t *argument, size_t size),
     (fd, submit, wait_for, flags, argument, size))
WRAP(ssize_t, preadv2, (int fd, const struct iovec *vectors, int count, off64_t offset, int flags),
     (fd, vectors, count, offset, flags))
WRAP(ssize_t, read, (int fd, void *bytes, size_t count), (fd, bytes, count))
WRAP(ssize_t, write, (int fd, const void *bytes, size_t count), (fd, bytes, count))
WRAP(int, eventfd_write, (int fd, eventfd_t value), (fd, value))
WRAP(int, fstat, (int fd, struct stat *status), (fd, status))
WRAP(int, ppoll,
     (struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask),
     (fds, count, timeout, mask))

int __real_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock);
int __real_pthread_mutex_unlock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock);

int __wrap_pthread_mutex_lock(pthread_mutex_t *lock)
{
	locks_held++;
	return __real_pthread_mutex_lock(lock);
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock)
{
	locks_held--;
	return __real_pthread_mutex_unlock(lock);
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

struct worker {
	pthread_t thread;
	struct rig rig; /* what is shared, and a batch of its own */
	bool failed;
};

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct gds_request requests[READS];
	struct gds_batch *batch = worker->rig.batch;

	draw_requests(&worker->rig, requests, READS);
	for (int turn = 0; turn < TURNS && !worker->failed; turn++)
		worker->failed = gds_batch_reset(batch) ||
				 gds_batch_add(batch, requests, READS) != 0 ||
				 gds_batch_submit(batch) || gds_batch_wait(batch, -1) ||
				 gds_batch_failures(batch, NULL) != 0;
	return NULL;
}

static void check_locks(enum gds_lane lane, uint32_t flags)
{
	struct worker workers[THREADS];
	struct rig rig;
	size_t before;

	rig_open(&rig, lane, flags);
	for (size_t i = 0; i < THREADS; i++) {
		make_batch(&rig, GDS_PATH_AUTO, READS);
		workers[i] = (struct worker){ .rig = rig };
	}
	rig.batch = NULL;
	/* Routes and memory are made known by the first reads, and files come to their end. */
	work(&workers[0]);
	before = atomic_load(&system_calls);
	atomic_store(&system_calls_under_lock, 0);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	assert_true(atomic_load(&system_calls) > before); /* they are seen */
	assert_int_equal(atomic_load(&system_calls_under_lock), 0);
	for (size_t i = 0; i < THREADS; i++) {
		assert_false(workers[i].failed);
		gds_batch_destroy(workers[i].rig.batch);
	}
	rig_close(&rig);
}

static void no_lock_is_held_across_a_system_call(void **state)
{
	check_locks(GDS_LANE_URING, 0);
	check_locks(GDS_LANE_URING, GDS_READER_PROGRESS_THREAD);
	check_locks(GDS_LANE_THREADS, 0);
	check_locks(GDS_LANE_THREADS, GDS_READER_PROGRESS_THREAD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_in_a_used_batch_allocate_nothing),
		cmocka_unit_test(nor_do_they_in_the_lane_of_threads),
		cmocka_unit_test(a_batch_of_a_million_reads_is_bounded),
		cmocka_unit_test(no_lock_is_held_across_a_system_call),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
