/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader over files of a simulated file system, read from the simulated drives below
 * it into a simulated device, thousands of seeds: files are written, cut, punched, moved
 * and given each other's blocks at any moment between the calls that the reader makes,
 * leases are broken, drives fail and volumes change.
 *
 * Every byte of a read that is reported good is one that the file held at that offset
 * between the submission and the end of the read. A read fails with ESTALE only where
 * something changed and no other path is allowed; a file that nobody touches is read
 * from below.
 */
#include "base/bits.h"
#include "base/clock.h"
#include "memory/buffer.h"
#include "path/below.h"
#include "reader.h"
#include "simulated-device.h"
#include "simulated-files.h"
#include "simulated-lane.h"
#include "storage/file.h"
#include "support/random.h"
#include "support/sanitized.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define ROUNDS       (SANITIZED ? 300 : 2000)
#define MOST_READS   12
#define MOST_BATCHES 10 /* of one world, one after the other, two at a time */
#define BUFFER_BYTES (512u << 10)

struct test_read {
	struct gds_request request;
	struct fs_file *file;
	struct fs_moment moment; /* of its file, when it was submitted */
};

struct test_batch {
	struct gds_batch *batch; /* NULL: none */
	struct test_read reads[MOST_READS];
	size_t count;
	bool pinned;
	bool cancelled;
	uint64_t changes; /* of the file system, when it was submitted */
	bool at_rest;     /* and whether more could have been expected */
};

struct world {
	struct simulation simulation;
	struct fs fs;
	struct random random;
	struct gds_reader *reader;
	struct gds_reader_options options;
	struct gds_file *files[FS_FILES];
	struct gds_device *device;
	struct gds_buffer *buffer;
	uint64_t next;   /* in the buffer, that no read has been given */
	bool used_again; /* the buffer was, from its beginning */
	bool bad_places;
	bool lease_held;
	struct test_batch batches[2];
};

static struct world *world;
static char folder[] = "/tmp/gds-below-XXXXXX";

/* Of all worlds together: what the test has seen at work. */
static struct {
	uint64_t direct_bytes;
	uint64_t other_bytes;
	uint64_t stale;
	uint64_t retries;
	uint64_t whole; /* reads by the direct path alone, of a file system at peace */
} seen;

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			simulation_fail(&world->simulation, "line %d: %s does not hold", __LINE__, \
					#condition);                                               \
	} while (0)

/* ---- In place of the kernel's calls, by ld's --wrap ------------------------------------ */

static struct fs_file *file_of(int fd, struct stat *status);

int __real_fstat(int fd, struct stat *status);
int __wrap_fstat(int fd, struct stat *status);
int __wrap_fstat(int fd, struct stat *status)
{
	const struct fs_file *file;

	if (!world)
		return __real_fstat(fd, status);
	file = file_of(fd, status);
	if (file) {
		fs_pass(&world->fs);
		fs_stat(&world->fs, file, status);
	}
	return 0;
}

static struct fs_file *file_of(int fd, struct stat *status)
{
	assert_int_equal(__real_fstat(fd, status), 0);
	return fs_file_of(&world->fs, status->st_ino);
}

int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	struct stat status;
	struct fiemap *ask;
	va_list arguments;

	if (request != FS_IOC_FIEMAP) {
		errno = ENOTTY;
		return -1;
	}
	va_start(arguments, request);
	ask = va_arg(arguments, struct fiemap *);
	va_end(arguments);
	fs_pass(&world->fs);
	fs_fiemap(&world->fs, file_of(fd, &status), ask);
	fs_pass(&world->fs);
	return 0;
}

int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	if (!world)
		return __real_clock_gettime(clock, now);
	world->fs.now_ns += 1000;
	*now = clock == CLOCK_REALTIME_COARSE ? fs_coarse_time(&world->fs)
					      : clock_timespec(world->fs.now_ns);
	return 0;
}

int __wrap_clock_getres(clockid_t clock, struct timespec *step);
int __wrap_clock_getres(clockid_t clock, struct timespec *step)
{
	*step = (struct timespec){ .tv_nsec = FS_TICK_NS };
	return 0;
}

int __wrap_nanosleep(const struct timespec *time, struct timespec *left);
int __wrap_nanosleep(const struct timespec *time, struct timespec *left)
{
	world->fs.now_ns += (uint64_t)time->tv_sec * NS_PER_S + (uint64_t)time->tv_nsec;
	fs_pass(&world->fs);
	return 0;
}

/* Leases, which are granted, and broken, as the seed has it. */
int __wrap_fcntl(int fd, int command, ...);
int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...)
{
	long argument;
	va_list arguments;

	va_start(arguments, command);
	argument = va_arg(arguments, long);
	va_end(arguments);
	switch (command) {
	case F_SETLEASE:
		fs_pass(&world->fs);
		errno = EAGAIN;
		return argument == F_UNLCK || world->fs.leases ? 0 : -1;
	case F_GETLEASE:
		return random_chance(&world->fs.random, world->fs.breaks) ? F_UNLCK : F_RDLCK;
	case F_SETSIG:
	case F_SETOWN:
		return 0;
	default:
		return __real_fcntl(fd, command, argument);
	}
}

/* ---- In place of what gds finds out from sysfs ---------------------------------------- */

int __wrap_file_map_judge_file_system(const struct gds_file *file,
				      struct gds_path_verdict *verdict);
int __wrap_file_map_judge_file_system(const struct gds_file *file, struct gds_path_verdict *verdict)
{
	return 0;
}

int __wrap_stack_open(dev_t device, int fd, struct stack **stack, struct gds_path_verdict *verdict);
int __wrap_stack_open(dev_t device, int fd, struct stack **stack, struct gds_path_verdict *verdict)
{
	CHECK(device == FS_DEVICE);
	*stack = fs_stack_open(&world->fs);
	return 0;
}

void __wrap_stack_close(struct stack *stack);
void __wrap_stack_close(struct stack *stack)
{
	fs_stack_close(stack);
}

bool __wrap_stack_confirm(struct stack *stack, uint64_t check);
bool __wrap_stack_confirm(struct stack *stack, uint64_t check)
{
	fs_pass(&world->fs);
	if (stack->checked == check || !random_chance(&world->fs.random, world->fs.restacks))
		return true;
	stack->checked = check;
	stack->generation++;
	world->fs.changes++;
	return false;
}

/* ---- Making a world -------------------------------------------------------------------- */

static void make_faults(void)
{
	struct simulated_faults *faults = &world->simulation.faults;
	struct random *random = &world->random;

	faults->longest_read_ns = random_skewed(random, 1000000);
	if (random_chance(random, 300))
		faults->short_reads = (uint32_t)random_below(random, 200);
	if (random_chance(random, 300))
		faults->try_again = (uint32_t)random_below(random, 100);
	if (random_chance(random, 200))
		faults->moved_dmabufs = (uint32_t)random_between(random, 1, 200);
	faults->ignored_cancels = (uint32_t)random_below(random, 1000);
	world->simulation.dmabuf_slots = 48; /* for all slices, and all drives */
	/* Of drives: the file system can do without such places. */
	world->bad_places = random_chance(random, 100);
	for (unsigned i = 0; world->bad_places && i < world->fs.disk_count; i++)
		world->fs.disks[i]->bad[random_below(random, FS_BLOCKS)] = true;
}

static void open_file(unsigned number)
{
	struct fs_file *file = &world->fs.files[number];
	char path[sizeof(folder) + 24];
	struct gds_file *opened;

	snprintf(path, sizeof(path), "%s/%u", folder, number);
	assert_int_equal(gds_file_open(&opened, path), 0);
	opened->direct = true;
	opened->offset_align = file->storage->offset_align;
	opened->memory_align = file->storage->memory_align;
	opened->storage = makedev(4000, number % 2);
	file->storage->direct_fd = opened->fd;
	world->files[number] = opened;
}

static void make_device(void)
{
	struct random *random = &world->random;
	struct simulated_device_options options = {
		.host = random_chance(random, 500),
		.asynchronous = random_chance(random, 700),
		.slice_bytes = UINT64_C(65536) << random_below(random, 6),
		.needs_acquire = random_chance(random, 300),
	};

	world->device = simulated_device_open(&world->simulation, &options);
	assert_int_equal(gds_buffer_alloc(&world->buffer, world->device, BUFFER_BYTES, 0), 0);
}

static void pass(void *user)
{
	fs_pass(user);
}

static void make_world(struct world *made, uint64_t seed)
{
	struct random *random = &made->random;
	struct gds_reader_options *options = &made->options;

	*made = (struct world){ .random = { ~seed } };
	simulation_open(&made->simulation, seed);
	fs_open(&made->fs, &made->simulation, folder);
	world = made;
	make_faults();
	for (unsigned i = 0; i < world->fs.file_count; i++)
		open_file(i);
	make_device();
	options->size = sizeof(*options);
	options->flags = GDS_READER_SINGLE_THREAD;
	options->queue_depth = (uint32_t)random_between(random, 1, 1 + random_skewed(random, 32));
	options->transfer_bytes = 4096 * random_between(random, 1, 1 + random_skewed(random, 16));
	options->staging_bytes = align_up(max_u64(4 * options->transfer_bytes, 1 << 20), 4096);
	options->dmabuf_shape = GDS_DMABUF_DESCRIPTORS;
	if (random_chance(random, 200))
		options->flags |= GDS_READER_NO_CANARY;
	world->simulation.most_bytes = (uint32_t)options->transfer_bytes;
	CHECK(reader_open(&world->reader, options, &lane_simulated) == 0);
	world->simulation.passing = pass;
	world->simulation.passing_user = &world->fs;
}

static void end_world(void)
{
	struct gds_stats stats = { .size = sizeof(stats) };

	CHECK(gds_reader_stats(world->reader, &stats) == 0);
	CHECK(stats.in_flight == 0);
	/* The device is honest, whatever the files do. */
	CHECK(stats.canaries_failed == 0);
	seen.retries += stats.retries;
	gds_buffer_free(world->buffer);
	for (unsigned i = 0; i < world->fs.file_count; i++)
		gds_file_close(world->files[i]);
	gds_reader_close(world->reader);
	gds_device_close(world->device);
	simulated_memories_free(&world->simulation);
	simulation_close(&world->simulation);
	fs_close(&world->fs);
	world = NULL;
}

/* ---- Reading --------------------------------------------------------------------------- */

static bool make_read(struct test_read *read)
{
	struct random *random = &world->random;
	unsigned number = (unsigned)random_below(random, world->fs.file_count);
	struct gds_request *request = &read->request;

	read->file = &world->fs.files[number];
	*request = (struct gds_request){ .file = world->files[number], .buffer = world->buffer };
	request->offset = random_below(random, FS_FILE_CELLS) * CELL_BYTES;
	request->length = (1 + random_skewed(random, FS_FILE_CELLS)) * CELL_BYTES;
	if (random_chance(random, 300))
		request->offset = align_down(request->offset, FS_BLOCK_BYTES);
	if (random_chance(random, 200)) {
		request->offset = 0;
		request->length = FS_FILE_BYTES;
	}
	request->buffer_offset = world->next + random_below(random, 100);
	if (random_chance(random, 700))
		request->buffer_offset =
			align_up(world->next, 4096) + request->offset % FS_BLOCK_BYTES;
	if (!range_fits(request->buffer_offset, request->length, BUFFER_BYTES))
		return false;
	world->next = request->buffer_offset + request->length;
	return true;
}

static void submit(struct test_batch *batch)
{
	struct gds_batch_options options = { .size = sizeof(options) };
	ssize_t added;

	*batch = (struct test_batch){ .pinned = random_chance(&world->random, 300) };
	options.path = batch->pinned ? GDS_PATH_DMABUF : GDS_PATH_AUTO;
	CHECK(gds_batch_create(&batch->batch, world->reader, &options) == 0);
	for (uint64_t wanted = random_between(&world->random, 1, MOST_READS); wanted > 0;
	     wanted--) {
		if (!make_read(&batch->reads[batch->count]))
			break;
		added = gds_batch_add(batch->batch, &batch->reads[batch->count].request, 1);
		if (added == -EOPNOTSUPP && batch->pinned)
			continue; /* nothing of that file can be read from below */
		CHECK(added == (ssize_t)batch->count);
		batch->count++;
	}
	for (size_t i = 0; i < batch->count; i++)
		fs_watch(batch->reads[i].file, &batch->reads[i].moment);
	batch->changes = world->fs.changes;
	batch->at_rest = world->fs.unrest == 0;
	CHECK(gds_batch_submit(batch->batch) == 0);
}

static void wait_for(struct test_batch *batch)
{
	unsigned turns = 0;
	int err;

	while ((err = gds_batch_wait(batch->batch, -1)) != 0)
		CHECK(err == -EINTR && ++turns < 100000);
}

/* ---- Judging --------------------------------------------------------------------------- */

static void check_bytes(const struct test_read *read, uint64_t bytes)
{
	const unsigned char *view = simulated_memory_view(simulated_memory_of(world->buffer)) +
				    read->request.buffer_offset;

	/* Files end where cells do. */
	CHECK(bytes % CELL_BYTES == 0);
	for (uint64_t done = 0; done < bytes; done += CELL_BYTES) {
		uint32_t cell = (uint32_t)((read->request.offset + done) / CELL_BYTES);
		uint64_t word;

		if (fs_held_since(read->file, &read->moment, cell, view + done))
			continue;
		memcpy(&word, view + done, sizeof(word));
		simulation_fail(&world->simulation,
				"cell %u of file %u (block %u) is what the file did not hold: "
				"word %016" PRIx64 ", change %u, file %d, cell %u; the last change "
				"before was %u, and is %u, of zeros %u",
				cell, read->file->number, cell / 64, word,
				(unsigned)(word >> 24 & 0xffffffff), (int)(word >> 56) - 1,
				(unsigned)(word & 0xffffff), read->moment.serial[cell],
				read->file->serial[cell], read->file->zeroed[cell]);
	}
}

static uint64_t within(const struct gds_request *request, uint64_t file_bytes)
{
	return min_u64(request->length, file_bytes - min_u64(file_bytes, request->offset));
}

static void check_good(const struct test_batch *batch, const struct test_read *read,
		       const struct gds_result *result)
{
	const struct gds_request *request = &read->request;
	const unsigned char *view =
		simulated_memory_view(simulated_memory_of(world->buffer)) + request->buffer_offset;
	uint64_t bytes = (uint64_t)result->bytes;
	uint64_t most = within(request, read->moment.bytes);
	uint64_t direct = result->path_bytes[GDS_PATH_DMABUF];

	check_bytes(read, bytes);
	seen.direct_bytes += direct;
	seen.other_bytes +=
		result->path_bytes[GDS_PATH_BOUNCE] + result->path_bytes[GDS_PATH_MAPPED];
	CHECK(!batch->pinned || direct == bytes);
	CHECK(bytes <= request->length && bytes >= within(request, read->file->least_bytes));
	if (world->fs.changes != batch->changes)
		return;
	/* At peace all of it is there, and nothing behind it. */
	CHECK(bytes == most);
	for (uint64_t i = bytes; i < request->length && !world->used_again; i++)
		CHECK(view[i] == SIMULATED_POISON);
	seen.whole += direct == bytes;
	/* Where there was no rest, the file may count as changing. */
	CHECK(direct == bytes || !batch->at_rest || world->fs.encodes || world->bad_places ||
	      world->simulation.faults.moved_dmabufs);
}

static void check_failed(const struct test_batch *batch, const struct gds_result *result)
{
	switch (-result->bytes) {
	case ESTALE:
		seen.stale++;
		if (batch->pinned && world->fs.changes)
			return;
		break;
	case EOPNOTSUPP:
		if (batch->pinned && world->fs.encodes)
			return;
		break;
	case EIO:
		if (batch->pinned && world->bad_places)
			return;
		break;
	case ECANCELED:
		if (batch->cancelled)
			return;
		break;
	default:
		break;
	}
	simulation_fail(&world->simulation, "nothing deserved: %s", gds_last_error());
}

static void finish(struct test_batch *batch)
{
	struct gds_result result;

	if (!batch->batch)
		return;
	wait_for(batch);
	for (size_t i = 0; i < batch->count; i++) {
		CHECK(gds_batch_result(batch->batch, i, &result) == 0);
		if (result.bytes < 0)
			check_failed(batch, &result);
		else
			check_good(batch, &batch->reads[i], &result);
	}
	gds_batch_destroy(batch->batch);
	batch->batch = NULL;
}

static void begin_anew(void)
{
	for (unsigned i = 0; i < world->fs.file_count; i++) {
		world->fs.files[i].least_bytes = world->fs.files[i].storage->bytes;
		world->fs.files[i].moved = false;
	}
}

static void use(struct test_batch *batch)
{
	finish(batch);
	/* Where no other is in flight, the buffer can be begun anew. */
	if (!world->batches[0].batch && !world->batches[1].batch && world->next) {
		world->next = 0;
		world->used_again = true;
	}
	if (!world->batches[0].batch && !world->batches[1].batch)
		begin_anew();
	submit(batch);
	if (random_chance(&world->random, 50)) {
		CHECK(gds_batch_cancel(batch->batch) == 0);
		batch->cancelled = true;
	}
}

static void run_world(uint64_t seed)
{
	static struct world made;
	uint64_t count;

	make_world(&made, seed);
	count = random_between(&world->random, 1, MOST_BATCHES);
	for (uint64_t i = 0; i < count; i++) {
		for (uint64_t changes = random_skewed(&world->random, 8); changes > 0; changes--)
			fs_change(&world->fs);
		if (random_chance(&world->random, 300))
			fs_settle(&world->fs);
		use(&world->batches[random_below(&world->random, 2)]);
	}
	finish(&world->batches[0]);
	finish(&world->batches[1]);
	end_world();
}

static void every_byte_read_from_below_is_one_that_the_file_held_meanwhile(void **state)
{
	uint64_t rounds = test_number("GDS_TEST_ROUNDS", ROUNDS);
	uint64_t seed = test_seed();

	print_message("GDS_TEST_SEED=%" PRIu64 ", %" PRIu64 " rounds\n", seed, rounds);
	for (uint64_t round = 0; round < (test_seed_given() ? 1 : rounds); round++)
		run_world(seed + round);
	print_message("%" PRIu64 " MiB from below, %" PRIu64 " MiB otherwise; %" PRIu64
		      " tries again, %" PRIu64 " reads stale, %" PRIu64 " wholly direct\n",
		      seen.direct_bytes >> 20, seen.other_bytes >> 20, seen.retries, seen.stale,
		      seen.whole);
	if (!test_seed_given() && rounds >= 300)
		assert_true(seen.direct_bytes && seen.other_bytes && seen.retries && seen.stale &&
			    seen.whole);
}

/* ---- Setting up ------------------------------------------------------------------------ */

/* Fall backs are the normal case here. */
static void swallow(enum gds_log_level level, const char *line, void *user)
{
}

static int make_folder(void **state)
{
	gds_log_set(GDS_LOG_WARNING, swallow, NULL);
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	char path[sizeof(folder) + 24];

	for (unsigned i = 0; i < FS_FILES; i++) {
		snprintf(path, sizeof(path), "%s/%u", folder, i);
		unlink(path);
	}
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_read_from_below_is_one_that_the_file_held_meanwhile),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
