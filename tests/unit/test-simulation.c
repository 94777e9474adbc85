/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader over simulated storage and simulated devices, thousands of seeds: each
 * seed makes files, devices, buffers and a reader of its own, and then submits,
 * polls, waits, cancels, resets, destroys, frees and closes at random, while the
 * storage is late, short, refuses and fails. Some files are drives that take dma-bufs,
 * and some devices export them: with few slots, refusals, moves, revocations, and lies
 * about what arrived.
 *
 * Whatever happens, every read that is reported good has its bytes in place and no
 * other byte touched; a read fails only for a fault that was injected and always for
 * a lasting one; everything ends; and the counters add up. The simulations
 * themselves (simulated-lane.h, simulated-device.h) judge what the reader asks of
 * the storage and the device.
 */
#include "base/bits.h"
#include "memory/buffer.h"
#include "reader.h"
#include "simulated-device.h"
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
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#define ROUNDS       (SANITIZED ? 400 : 3000)
#define MOST_FILES   3
#define MOST_DEVICES 2
#define MOST_BUFFERS 4
#define MOST_BATCHES 8
#define MOST_READS   40
#define FILE_BYTES   (400u << 10)
#define BUFFER_BYTES (600u << 10)
#define MOST_TURNS   200000

struct test_file {
	struct gds_file *file; /* NULL once closed */
	struct simulated_file *storage;
	bool drive; /* takes dma-bufs */
	bool was_shrunk;
};

struct test_buffer {
	struct gds_buffer *buffer; /* NULL once freed */
	struct gds_device *device;
	struct simulated_memory *memory;
	uint64_t bytes;
	uint64_t next; /* from here on nothing is claimed by a read */
	bool *claimed; /* of each byte */
	bool spoiled;  /* a failed explanation did not put back what was there */
};

struct test_read {
	struct gds_request request;
	struct test_file *file;
	struct test_buffer *buffer;
	uint64_t file_bytes; /* when submitted */
	bool lost_ends;      /* its file or buffer was closed before it was submitted */
};

struct test_batch {
	struct gds_batch *batch; /* NULL: this place is free */
	struct test_read reads[MOST_READS];
	size_t count;
	uint32_t path;
	uint32_t flags;
	bool submitted;
	bool cancelled;
	bool expires;
	bool shrunk; /* a file was cut while it was in flight */
};

struct world {
	struct simulation simulation;
	struct random random;
	struct gds_reader *reader;
	struct gds_reader_options options;
	struct simulated_file *storage;
	struct test_file files[MOST_FILES];
	size_t file_count;
	struct gds_device *devices[MOST_DEVICES];
	size_t device_count;
	struct test_buffer buffers[MOST_BUFFERS];
	size_t buffer_count;
	struct test_batch batches[MOST_BATCHES];
	struct gds_stats sums; /* of the results that were seen */
	uint64_t direct_reads; /* of them those that went by dma-bufs, in part at least */
	bool results_unseen;   /* a batch was destroyed in flight */
	bool device_may_fail;
	bool direct_path; /* some file and some device can take it */
	bool lies;        /* such a device lies */
};

/* Of all worlds together: what the test has seen at work. */
static struct {
	uint64_t direct_bytes;
	uint64_t registered;
	uint64_t refused;
	uint64_t canaries;
	uint64_t liars;
	uint64_t direct_reads; /* in worlds whose results were all seen */
	uint64_t acquires;     /* by which the devices came to see them */
} seen;

/*
 * In place of ioctl(), by ld's --wrap: the drives of this test are files. What else is
 * asked, of files, is not known here: they are not read from a device below.
 */
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	struct stat status;
	uint64_t *bytes;
	va_list arguments;

	if (request != BLKGETSIZE64) {
		errno = ENOTTY;
		return -1;
	}
	va_start(arguments, request);
	bytes = va_arg(arguments, uint64_t *);
	va_end(arguments);
	if (fstat(fd, &status))
		return -1;
	*bytes = (uint64_t)status.st_size;
	return 0;
}

static char folder[] = "/tmp/gds-simulation-XXXXXX";

#define CHECK(world, condition)                                                            \
	do {                                                                               \
		if (!(condition))                                                          \
			simulation_fail(&(world)->simulation, "line %d: %s does not hold", \
					__LINE__, #condition);                             \
	} while (0)

/* ---- Making a world ------------------------------------------------------------------ */

static void make_faults(struct world *world)
{
	static const int refusals[] = { -ENOMEM, -EOPNOTSUPP, -EFAULT, -ENOSPC };
	static const int revocations[] = { -ENODEV, -EREMOTEIO, -EOPNOTSUPP, -EFAULT, -EINVAL };
	struct simulated_faults *faults = &world->simulation.faults;
	struct random *random = &world->random;

	faults->longest_read_ns = random_skewed(random, 1000000);
	if (random_chance(random, 400))
		faults->short_reads = (uint32_t)random_below(random, 300);
	if (random_chance(random, 400))
		faults->try_again = (uint32_t)random_below(random, 200);
	if (random_chance(random, 300))
		faults->interrupted_enters = (uint32_t)random_below(random, 200);
	faults->ignored_cancels = (uint32_t)random_below(random, 1000);
	if (random_chance(random, 300)) {
		faults->refused_buffers = (uint32_t)random_between(random, 1, 1000);
		faults->refusal = refusals[random_below(random, 4)];
	}
	if (random_chance(random, 200))
		faults->refused_dmabufs = (uint32_t)random_between(random, 1, 300);
	if (random_chance(random, 300))
		faults->moved_dmabufs = (uint32_t)random_between(random, 1, 300);
	if (random_chance(random, 150)) {
		faults->revoked_from = random_below(random, 60);
		faults->revocation = revocations[random_below(random, 5)];
	}
	world->simulation.dmabuf_slots = (uint32_t)random_between(random, 1, 12);
	if (random_chance(random, 150))
		faults->direct_refused_from = random_below(random, 60);
	if (random_chance(random, 150))
		faults->address_refused_from = random_below(random, 60);
}

static void make_storage(struct world *world, struct simulated_file *storage, bool drive)
{
	static const uint32_t aligns[][2] = { { 1, 1 },     { 512, 4 },    { 512, 512 },
					      { 4096, 4 },  { 4096, 512 }, { 4096, 4096 },
					      { 512, 4096 } };
	struct random *random = &world->random;
	uint64_t blocks = FILE_BYTES / SIMULATED_BAD_BYTES + 1;
	size_t pick = random_between(random, drive, sizeof(aligns) / sizeof(aligns[0]) - 1);

	storage->offset_align = aligns[pick][0];
	storage->memory_align = aligns[pick][1];
	storage->bytes = random_chance(random, 50) ? 0 : random_between(random, 1, FILE_BYTES);
	if (drive)
		storage->bytes = align_down(storage->bytes, 4096);
	storage->image = malloc(FILE_BYTES);
	storage->bad = calloc(blocks, sizeof(*storage->bad));
	assert_non_null(storage->image);
	assert_non_null(storage->bad);
	for (uint64_t i = 0; i < FILE_BYTES / 8; i++)
		((uint64_t *)storage->image)[i] = random_u64(random);
	if (random_chance(random, 250))
		for (uint64_t left = random_between(random, 1, 3); left > 0; left--)
			storage->bad[random_below(random, blocks)] = true;
}

/*
 * The file is a drive that takes dma-bufs. The proof of the direct path reads it by
 * itself, so its real bytes matter, and O_DIRECT of the file system's own must not.
 */
static void make_drive(struct world *world, size_t index)
{
	struct test_file *file = &world->files[index];
	int fd = file->file->fd;

	file->file->block_device = true;
	file->file->device = makedev(259, (unsigned)index);
	CHECK(world, fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_DIRECT) == 0);
}

static void write_image(const struct test_file *file, int fd)
{
	ssize_t bytes = (ssize_t)file->storage->bytes;

	assert_int_equal(pwrite(fd, file->storage->image, (size_t)bytes, 0), bytes);
}

/* A real file gives the size and the descriptor; its bytes come from the image. */
static void make_file(struct world *world, size_t index)
{
	struct test_file *file = &world->files[index];
	struct stat status;
	char path[sizeof(folder) + 24];
	int fd;

	file->storage = &world->simulation.files[world->simulation.file_count++];
	file->drive = random_chance(&world->random, 500);
	make_storage(world, file->storage, file->drive);
	snprintf(path, sizeof(path), "%s/%zu", folder, index);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)file->storage->bytes), 0);
	if (file->drive)
		write_image(file, fd);
	close(fd);

	assert_int_equal(gds_file_open(&file->file, path), 0);
	assert_int_equal(fstat(file->file->fd, &status), 0);
	file->storage->inode = status.st_ino;
	file->file->direct = file->storage->offset_align > 1;
	file->file->offset_align = file->storage->offset_align;
	file->file->memory_align = file->storage->memory_align;
	file->storage->direct_fd = file->file->direct ? file->file->fd : -1;
	/* On disks of their own, or on one together. Of no number that a real one has. */
	file->file->storage = makedev(4000, (unsigned)random_below(&world->random, MOST_FILES));
	if (file->drive)
		make_drive(world, index);
}

static void make_exporter(struct world *world, struct simulated_device_options *options)
{
	struct random *random = &world->random;

	options->slice_bytes = UINT64_C(4096) << random_below(random, 12);
	options->needs_acquire = random_chance(random, 500);
	if (random_chance(random, 100))
		options->failing_exports = (uint32_t)random_between(random, 1, 300);
	if (random_chance(random, 250))
		options->lie = (enum simulated_lie)random_below(random, SIMULATED_LIES);
	world->direct_path = true;
	world->lies |= options->lie != SIMULATED_HONEST;
}

static void make_device(struct world *world, size_t index)
{
	struct random *random = &world->random;
	struct simulated_device_options options = {
		.host = random_chance(random, 700),
		.asynchronous = random_chance(random, 700),
	};

	if (random_chance(random, 500))
		make_exporter(world, &options);
	options.needs_publish = options.host && random_chance(random, 400);
	if (random_chance(random, 100))
		options.failing_calls = (uint32_t)random_below(random, 300);
	if (random_chance(random, 50))
		options.loss = (uint32_t)random_below(random, 100);
	world->device_may_fail |= options.failing_calls || options.loss;
	world->devices[index] = simulated_device_open(&world->simulation, &options);
}

static void make_buffer(struct world *world, size_t index)
{
	struct test_buffer *buffer = &world->buffers[index];

	buffer->device = world->devices[random_below(&world->random, world->device_count)];
	buffer->bytes = random_between(&world->random, 1, BUFFER_BYTES);
	buffer->claimed = calloc(buffer->bytes, sizeof(*buffer->claimed));
	assert_non_null(buffer->claimed);
	assert_int_equal(gds_buffer_alloc(&buffer->buffer, buffer->device, buffer->bytes, 0), 0);
	buffer->memory = simulated_memory_of(buffer->buffer);
}

static void make_reader(struct world *world)
{
	struct random *random = &world->random;
	struct gds_reader_options *options = &world->options;

	options->size = sizeof(*options);
	options->queue_depth = (uint32_t)random_between(random, 1, 1 + random_skewed(random, 64));
	options->transfer_bytes = 4096 * random_between(random, 1, 1 + random_skewed(random, 64));
	options->staging_bytes = align_up(max_u64(4 * options->transfer_bytes, 1 << 20), 4096);
	world->simulation.most_bytes = (uint32_t)options->transfer_bytes;
	options->flags = random_chance(random, 500) ? GDS_READER_SINGLE_THREAD : 0;
	if (random_chance(random, 300))
		options->in_flight_bytes = options->transfer_bytes * random_between(random, 1, 8);
	options->dmabuf_shape = GDS_DMABUF_DESCRIPTORS;
	if (!world->lies && random_chance(random, 100))
		options->flags |= GDS_READER_NO_CANARY;
	if (random_chance(random, 100))
		options->canary_interval_ns = 1; /* with nearly every turn: time is real here */
	CHECK(world, reader_open(&world->reader, options, &lane_simulated) == 0);
}

static void make_world(struct world *world, uint64_t seed)
{
	*world = (struct world){ .random = { ~seed } };
	simulation_open(&world->simulation, seed);
	make_faults(world);
	world->file_count = random_between(&world->random, 1, MOST_FILES);
	world->device_count = random_between(&world->random, 1, MOST_DEVICES);
	world->buffer_count = random_between(&world->random, 1, MOST_BUFFERS);
	for (size_t i = 0; i < world->file_count; i++)
		make_file(world, i);
	for (size_t i = 0; i < world->device_count; i++)
		make_device(world, i);
	for (size_t i = 0; i < world->buffer_count; i++)
		make_buffer(world, i);
	for (size_t i = 0; i < world->device_count; i++)
		if (random_chance(&world->random, 100))
			simulated_device_fill(world->devices[i]);
	make_reader(world);
}

/* ---- Making reads --------------------------------------------------------------------- */

/* One that lies right behind the read before, in the file and in memory. */
static bool make_neighbour(struct world *world, struct test_read *read)
{
	const struct gds_request *before = &read[-1].request;
	struct gds_request *request = &read->request;

	*read = read[-1];
	request->offset = before->offset + before->length;
	request->buffer_offset = before->buffer_offset + before->length;
	request->length = random_skewed(&world->random, 20000);
	request->user_data = random_u64(&world->random);
	if (read->buffer->next != request->buffer_offset || !read->file->file ||
	    !read->buffer->buffer ||
	    !range_fits(request->buffer_offset, request->length, read->buffer->bytes))
		return false;
	read->buffer->next += request->length;
	return true;
}

static bool make_read(struct world *world, struct test_read *read, bool first)
{
	struct random *random = &world->random;
	struct test_file *file = &world->files[random_below(random, world->file_count)];
	struct test_buffer *buffer = &world->buffers[random_below(random, world->buffer_count)];
	uint64_t align = file->storage->offset_align;
	struct gds_request *request = &read->request;

	if (!first && random_chance(random, 400) && make_neighbour(world, read))
		return true;
	*read = (struct test_read){ 0 };
	if (!file->file || !buffer->buffer)
		return false;
	request->offset = random_below(random, file->storage->bytes + 5000);
	request->length = random_skewed(random, 200000);
	if (random_chance(random, 300))
		request->offset &= ~(align - 1);
	if (random_chance(random, 300))
		request->length &= ~(align - 1);
	request->buffer_offset = buffer->next + random_below(random, 3) * random_below(random, 100);
	/* Congruent in the buffer, as dma-bufs want it, or in memory. */
	if (random_chance(random, 300))
		request->buffer_offset = align_up(buffer->next, 4096) + request->offset % 4096;
	else if (random_chance(random, 600))
		request->buffer_offset = align_up(buffer->next, 4096) + request->offset % 4096 +
					 4096 - ((uintptr_t)buffer->memory->host & 4095);
	if (!range_fits(request->buffer_offset, request->length, buffer->bytes))
		return false;
	request->file = file->file;
	request->buffer = buffer->buffer;
	request->user_data = random_u64(random);
	read->file = file;
	read->buffer = buffer;
	buffer->next = request->buffer_offset + request->length;
	return true;
}

static void claim(const struct test_read *read)
{
	memset(read->buffer->claimed + read->request.buffer_offset, true, read->request.length);
}

static bool may_refuse_path(const struct test_batch *batch)
{
	return batch->path == GDS_PATH_DMABUF || batch->path == GDS_PATH_MAPPED;
}

static void add_reads(struct world *world, struct test_batch *batch)
{
	struct gds_request requests[MOST_READS];
	size_t wanted = random_between(&world->random, 0, MOST_READS - batch->count);
	size_t count = 0;
	ssize_t first;

	while (count < wanted &&
	       make_read(world, &batch->reads[batch->count + count], batch->count + count == 0)) {
		requests[count] = batch->reads[batch->count + count].request;
		count++;
	}
	first = gds_batch_add(batch->batch, requests, count);
	CHECK(world,
	      first == (ssize_t)batch->count || (first == -EOPNOTSUPP && may_refuse_path(batch)));
	if (first < 0)
		return;
	batch->count += count;
	CHECK(world, gds_batch_count(batch->batch) == batch->count);
}

static void create_batch(struct world *world, struct test_batch *batch)
{
	static const uint32_t paths[] = { GDS_PATH_AUTO,   GDS_PATH_AUTO,   GDS_PATH_AUTO,
					  GDS_PATH_MAPPED, GDS_PATH_BOUNCE, GDS_PATH_DMABUF };
	struct gds_batch_options options = { .size = sizeof(options) };

	*batch = (struct test_batch){ 0 };
	options.path = paths[random_below(&world->random, 6)];
	options.flags = random_chance(&world->random, 200) ? GDS_BATCH_NO_FALLBACK : 0;
	options.capacity = random_below(&world->random, 100);
	options.read_class = (uint32_t)random_below(&world->random, GDS_CLASS_COUNT);
	/* By the real clock: it is over at once, or never. */
	options.deadline_ns = random_chance(&world->random, 100) ? 1 : 0;
	if (random_chance(&world->random, 100))
		options.deadline_ns = UINT64_MAX - random_below(&world->random, 1000);
	batch->expires = options.deadline_ns == 1;
	batch->path = options.path;
	batch->flags = options.flags;
	CHECK(world, gds_batch_create(&batch->batch, world->reader, &options) == 0);
	add_reads(world, batch);
}

static void submit(struct world *world, struct test_batch *batch)
{
	for (size_t i = 0; i < batch->count; i++) {
		struct test_read *read = &batch->reads[i];

		read->lost_ends = !read->file->file || !read->buffer->buffer;
		read->file_bytes = read->file->storage->bytes;
		claim(read);
	}
	CHECK(world, gds_batch_submit(batch->batch) == 0);
	batch->submitted = true;
}

/* ---- Judging results ------------------------------------------------------------------ */

static uint64_t expected_bytes(const struct test_read *read)
{
	if (read->request.offset >= read->file_bytes)
		return 0;
	return min_u64(read->request.length, read->file_bytes - read->request.offset);
}

/* Whether the blocks that the read lies in are good, as the file was when submitted. */
static bool blocks_are_good(const struct test_read *read)
{
	const struct simulated_file *storage = read->file->storage;
	uint64_t first = align_down(read->request.offset, storage->offset_align);
	uint64_t end = align_up(read->request.offset + expected_bytes(read), storage->offset_align);

	for (uint64_t at = first; at < min_u64(end, read->file_bytes);
	     at = align_down(at, SIMULATED_BAD_BYTES) + SIMULATED_BAD_BYTES)
		if (storage->bad[at / SIMULATED_BAD_BYTES])
			return false;
	return true;
}

static bool error_is_deserved(const struct world *world, const struct test_batch *batch,
			      const struct test_read *read, int64_t error)
{
	const struct simulated_device_counts *device =
		simulated_device_counts(read->buffer->device);

	switch (-error) {
	case ECANCELED:
		return batch->cancelled;
	case ETIMEDOUT:
		return batch->expires;
	case EBADF:
		return read->lost_ends;
	case EIO:
		return !blocks_are_good(read) || device->lost;
	case ENOMEM:
		return device->faults > 0;
	case EOPNOTSUPP:
		/* Others may have changed the path that it shares with them. */
		if (batch->flags & GDS_BATCH_NO_FALLBACK &&
		    world->simulation.faults.address_refused_from != UINT64_MAX)
			return true;
		/* fall through */
	case ENODEV:
	case EREMOTEIO:
	case EINVAL:
		return world->direct_path &&
		       (batch->path == GDS_PATH_DMABUF || batch->flags & GDS_BATCH_NO_FALLBACK);
	case EFAULT:
		if (world->direct_path && world->simulation.faults.revocation == -EFAULT &&
		    (batch->path == GDS_PATH_DMABUF || batch->flags & GDS_BATCH_NO_FALLBACK))
			return true;
		return world->simulation.faults.address_refused_from != UINT64_MAX &&
		       (batch->path == GDS_PATH_MAPPED || batch->flags & GDS_BATCH_NO_FALLBACK);
	default:
		return false;
	}
}

static void check_failed_read(struct world *world, const struct test_batch *batch,
			      const struct test_read *read, const struct gds_result *result)
{
	uint64_t end = read->request.offset + read->request.length;

	if (!error_is_deserved(world, batch, read, result->bytes))
		simulation_fail(&world->simulation, "nothing deserved: %s", gds_last_error());
	CHECK(world, gds_last_error()[0]);
	CHECK(world, result->error_offset >= read->request.offset && result->error_offset <= end);
	if (result->bytes == -ECANCELED)
		world->sums.reads_cancelled++;
	else
		world->sums.reads_failed++;
	/* An I/O error lies in the operation that begins where it says. */
	if (result->bytes == -EIO && !world->device_may_fail && !batch->shrunk &&
	    simulated_file_is_good(
		    read->file->storage,
		    align_down(result->error_offset, read->file->storage->offset_align),
		    world->options.transfer_bytes))
		simulation_fail(&world->simulation, "no bad place there: %s", gds_last_error());
}

static void check_good_read(struct world *world, const struct test_batch *batch,
			    const struct test_read *read, const struct gds_result *result)
{
	const struct gds_request *request = &read->request;
	const struct simulated_file *storage = read->file->storage;
	const unsigned char *view =
		simulated_memory_view(read->buffer->memory) + request->buffer_offset;
	uint64_t bytes = (uint64_t)result->bytes;
	uint64_t sum = 0;

	if (batch->shrunk) {
		CHECK(world, bytes <= expected_bytes(read));
		CHECK(world,
		      bytes >= min_u64(expected_bytes(read),
				       storage->bytes - min_u64(storage->bytes, request->offset)));
	} else {
		CHECK(world, bytes == expected_bytes(read));
		CHECK(world, simulated_file_is_good(storage, request->offset, bytes));
		/* Of a file that has become shorter the size may not have been looked up since. */
		for (uint64_t i = bytes;
		     i < request->length && !read->buffer->spoiled && !read->file->was_shrunk; i++)
			CHECK(world, view[i] == SIMULATED_POISON);
	}
	CHECK(world, !read->lost_ends);
	/* An explanation may have spoiled what had been read before it. */
	CHECK(world,
	      read->buffer->spoiled || memcmp(view, storage->image + request->offset, bytes) == 0);
	for (int path = 0; path < GDS_PATH_COUNT; path++)
		sum += result->path_bytes[path];
	CHECK(world, batch->shrunk ? sum >= bytes : sum == bytes);
	CHECK(world, batch->path != GDS_PATH_BOUNCE || sum == result->path_bytes[GDS_PATH_BOUNCE]);
	CHECK(world, result->path_bytes[GDS_PATH_DMABUF] == 0 || read->file->drive);
	CHECK(world, !(batch->flags & GDS_BATCH_NO_FALLBACK) ||
			     !result->path_bytes[GDS_PATH_DMABUF] ||
			     !result->path_bytes[GDS_PATH_MAPPED]);
	CHECK(world, result->issued_ns > 0 && result->completed_ns >= result->issued_ns);
}

static void check_read(struct world *world, const struct test_batch *batch, size_t index)
{
	const struct test_read *read = &batch->reads[index];
	struct gds_result result;

	CHECK(world, gds_batch_result(batch->batch, index, &result) == 0);
	CHECK(world, result.user_data == read->request.user_data);
	if (result.bytes < 0)
		check_failed_read(world, batch, read, &result);
	else
		check_good_read(world, batch, read, &result);
	world->sums.reads++;
	world->direct_reads += result.bytes >= 0 && result.path_bytes[GDS_PATH_DMABUF];
	seen.direct_bytes += result.path_bytes[GDS_PATH_DMABUF];
	for (int path = 0; path < GDS_PATH_COUNT; path++)
		world->sums.path_bytes[path] += result.path_bytes[path];
}

static void check_batch(struct world *world, struct test_batch *batch)
{
	uint64_t failed = world->sums.reads_failed + world->sums.reads_cancelled;
	size_t first = SIZE_MAX;
	ssize_t failures;
	struct gds_result result;

	for (size_t i = 0; i < batch->count; i++)
		check_read(world, batch, i);
	failures = gds_batch_failures(batch->batch, &first);
	failed = world->sums.reads_failed + world->sums.reads_cancelled - failed;
	CHECK(world, failures == (ssize_t)failed);
	for (size_t i = 0; failures && i <= first; i++) {
		CHECK(world, gds_batch_result(batch->batch, i, &result) == 0);
		CHECK(world, (result.bytes < 0) == (i == first));
	}
}

/* ---- What may happen ------------------------------------------------------------------ */

static void wait_for(struct world *world, struct test_batch *batch)
{
	int turns = 0;
	int err;

	while ((err = gds_batch_wait(batch->batch, -1)) != 0) {
		CHECK(world, err == -EINTR);
		CHECK(world, ++turns < MOST_TURNS);
	}
	CHECK(world, gds_batch_poll(batch->batch) == 0);
}

static void finish(struct world *world, struct test_batch *batch)
{
	wait_for(world, batch);
	check_batch(world, batch);
}

/* Looks at the batch without waiting for it. Whether it is complete. */
static bool look_at(struct world *world, struct test_batch *batch)
{
	struct gds_result result;
	ssize_t left = gds_batch_poll(batch->batch);
	size_t index;
	int err;

	CHECK(world, left >= 0 && left <= (ssize_t)batch->count);
	if (batch->count) {
		index = random_below(&world->random, batch->count);
		err = gds_batch_result(batch->batch, index, &result);
		CHECK(world, err == 0 || (err == -EINPROGRESS && left > 0));
		/* Its bytes are there, whatever others of the batch still wait for. */
		if (err == 0 && result.bytes >= 0)
			check_good_read(world, batch, &batch->reads[index], &result);
	}
	err = gds_batch_wait(batch->batch, 0);
	CHECK(world, err == 0 || err == -ETIMEDOUT || err == -EINTR);
	return err == 0;
}

static void cancel(struct world *world, struct test_batch *batch)
{
	CHECK(world, gds_batch_cancel(batch->batch) == 0);
	batch->cancelled = true;
}

static void destroy(struct world *world, struct test_batch *batch)
{
	if (!batch->batch)
		return;
	if (batch->submitted)
		world->results_unseen = true;
	gds_batch_destroy(batch->batch);
	batch->batch = NULL;
}

static void use_again(struct world *world, struct test_batch *batch)
{
	finish(world, batch);
	CHECK(world, gds_batch_submit(batch->batch) == -EBUSY);
	CHECK(world, gds_batch_reset(batch->batch) == 0);
	batch->count = 0;
	batch->submitted = batch->cancelled = batch->shrunk = false;
	add_reads(world, batch);
}

static void close_file(struct test_file *file)
{
	gds_file_close(file->file);
	file->file = NULL;
}

static void free_buffer(struct test_buffer *buffer)
{
	gds_buffer_free(buffer->buffer);
	buffer->buffer = NULL;
}

static void shrink(struct world *world, size_t index)
{
	struct test_file *file = &world->files[index];
	char path[sizeof(folder) + 24];
	uint64_t bytes = random_below(&world->random, file->storage->bytes + 1);

	if (file->drive) /* drives do not shrink */
		return;

	snprintf(path, sizeof(path), "%s/%zu", folder, index);
	CHECK(world, truncate(path, (off_t)bytes) == 0);
	file->storage->bytes = bytes;
	file->was_shrunk = true;
	for (size_t i = 0; i < MOST_BATCHES; i++)
		world->batches[i].shrunk |= world->batches[i].submitted;
}

static void explain(struct world *world)
{
	struct gds_explanation explanation = { .size = sizeof(explanation) };
	struct gds_file *file = world->files[0].file;
	struct gds_buffer *buffer = world->buffers[0].buffer;

	if (!file || !buffer)
		return;
	/* It may prove the direct path, by a read into a buffer that must be left alone. */
	for (size_t i = 0; world->direct_path && i < MOST_BATCHES; i++)
		if (world->batches[i].batch && world->batches[i].submitted)
			wait_for(world, &world->batches[i]);
	world->results_unseen |= world->direct_path;
	if (gds_explain(world->reader, file, buffer, &explanation)) {
		CHECK(world, world->device_may_fail && world->direct_path);
		/* A device that fails may not have let it put back what was there. */
		world->buffers[0].spoiled = true;
		memset(world->buffers[0].claimed, true,
		       min_u64(world->buffers[0].bytes, CANARY_BYTES));
		return;
	}
	CHECK(world, explanation.paths[explanation.path].usable);
	for (int path = GDS_PATH_DMABUF; path < GDS_PATH_COUNT; path++)
		CHECK(world, explanation.paths[path].usable || explanation.paths[path].reason[0]);
}

static void act_on_batch(struct world *world, struct test_batch *batch)
{
	if (!batch->batch) {
		create_batch(world, batch);
		return;
	}
	if (!batch->submitted) {
		if (random_chance(&world->random, 900))
			submit(world, batch);
		else
			add_reads(world, batch);
		return;
	}
	switch (random_below(&world->random, 12)) {
	case 0:
		cancel(world, batch);
		break;
	case 1:
		destroy(world, batch);
		break;
	case 2:
	case 3:
		use_again(world, batch);
		break;
	case 4:
		wait_for(world, batch);
		break;
	default:
		look_at(world, batch);
	}
}

static void act(struct world *world)
{
	struct random *random = &world->random;

	switch (random_below(random, 60)) {
	case 0:
		close_file(&world->files[random_below(random, world->file_count)]);
		break;
	case 1:
		free_buffer(&world->buffers[random_below(random, world->buffer_count)]);
		break;
	case 2:
		shrink(world, random_below(random, world->file_count));
		break;
	case 3:
		explain(world);
		break;
	default:
		act_on_batch(world, &world->batches[random_below(random, MOST_BATCHES)]);
	}
}

/* ---- The end of a world --------------------------------------------------------------- */

/* Of a world whose results were all seen. */
static void count_acquires(struct world *world)
{
	uint64_t acquires = 0;

	for (size_t i = 0; i < world->device_count; i++)
		acquires += simulated_device_counts(world->devices[i])->acquires;
	CHECK(world, acquires <= world->direct_reads);
	seen.direct_reads += world->direct_reads;
	seen.acquires += acquires;
}

static void check_counters(struct world *world)
{
	struct gds_stats stats = { .size = sizeof(stats) };
	uint64_t copies = 0;

	CHECK(world, gds_reader_stats(world->reader, &stats) == 0);
	seen.canaries += stats.canaries;
	seen.liars += stats.canaries_failed;
	CHECK(world, stats.in_flight == 0);
	CHECK(world, stats.storage_devices <= world->file_count);
	CHECK(world, stats.in_flight_peak <= stats.storage_devices * world->options.queue_depth);
	CHECK(world, world->simulation.most_in_flight <=
			     stats.storage_devices * world->options.queue_depth);
	CHECK(world, stats.operations == world->simulation.operations);
	CHECK(world, stats.staging_bytes <= world->options.staging_bytes);
	for (size_t i = 0; i < world->device_count; i++)
		copies += simulated_device_counts(world->devices[i])->copies;
	CHECK(world, stats.device_copies == copies);
	if (world->results_unseen)
		return;
	count_acquires(world);
	CHECK(world, stats.reads == world->sums.reads);
	CHECK(world, stats.reads_failed == world->sums.reads_failed);
	CHECK(world, stats.reads_cancelled == world->sums.reads_cancelled);
	for (int path = 0; path < GDS_PATH_COUNT; path++)
		CHECK(world, stats.path_bytes[path] == world->sums.path_bytes[path]);
}

static void check_untouched(struct world *world)
{
	for (size_t i = 0; i < world->buffer_count; i++) {
		const struct test_buffer *buffer = &world->buffers[i];

		CHECK(world, simulated_memory_is_clean_around(buffer->memory));
		for (uint64_t at = 0; at < buffer->bytes; at++)
			if (!buffer->claimed[at])
				CHECK(world, buffer->memory->host[at] == SIMULATED_POISON &&
						     buffer->memory->seen[at] == SIMULATED_POISON);
	}
}

static void end_batches(struct world *world)
{
	for (size_t i = 0; i < MOST_BATCHES; i++) {
		struct test_batch *batch = &world->batches[i];

		if (batch->batch && batch->submitted)
			finish(world, batch);
	}
}

static void close_reader_under_batches(struct world *world)
{
	gds_reader_close(world->reader);
	for (size_t i = 0; i < MOST_BATCHES; i++)
		world->batches[i].cancelled |= world->batches[i].submitted;
}

/* They know that they are complete, and nothing else can be had from them. */
static void check_batches_without_reader(struct world *world)
{
	struct gds_request request = { 0 };

	for (size_t i = 0; i < MOST_BATCHES; i++) {
		struct gds_batch *batch = world->batches[i].batch;

		if (!batch)
			continue;
		CHECK(world, gds_batch_cancel(batch) == 0);
		CHECK(world, gds_batch_poll(batch) == 0);
		if (world->batches[i].submitted)
			CHECK(world, gds_batch_wait(batch, -1) == 0);
		CHECK(world, gds_batch_reset(batch) == 0);
		request.file = world->files[0].file;
		request.buffer = world->buffers[0].buffer;
		if (request.file && request.buffer && !may_refuse_path(&world->batches[i]))
			CHECK(world, gds_batch_add(batch, &request, 1) == -ESHUTDOWN);
	}
}

/* Files, buffers and batches go in any order, before or after their reader. */
static void close_everything(struct world *world)
{
	size_t from = random_below(&world->random, 100);

	for (size_t step = 0; step < 100; step++) {
		size_t i = (from + step * 37) % 100;

		if (i < world->file_count)
			close_file(&world->files[i]);
		else if (i >= 10 && i < 10 + world->buffer_count)
			free_buffer(&world->buffers[i - 10]);
		else if (i >= 20 && i < 20 + MOST_BATCHES && world->batches[i - 20].batch)
			gds_batch_destroy(world->batches[i - 20].batch);
		else if (i == 30) {
			gds_reader_close(world->reader);
			world->reader = NULL;
		}
	}
	for (size_t i = 0; i < world->device_count; i++)
		gds_device_close(world->devices[i]);
}

static void free_world(struct world *world)
{
	seen.registered += world->simulation.dmabufs_registered;
	seen.refused += world->simulation.dmabufs_refused;
	check_untouched(world);
	simulated_memories_free(&world->simulation);
	for (size_t i = 0; i < world->buffer_count; i++)
		free(world->buffers[i].claimed);
	for (size_t i = 0; i < world->file_count; i++) {
		free(world->files[i].storage->image);
		free(world->files[i].storage->bad);
	}
	simulation_close(&world->simulation);
}

static void run_world(uint64_t seed)
{
	static struct world world;

	make_world(&world, seed);
	for (uint64_t steps = random_below(&world.random, 120); steps > 0; steps--)
		act(&world);
	if (random_chance(&world.random, 250)) {
		close_reader_under_batches(&world);
		world.reader = NULL;
		end_batches(&world);
		check_batches_without_reader(&world);
	} else {
		end_batches(&world);
		check_counters(&world);
	}
	close_everything(&world);
	free_world(&world);
}

static void every_read_is_right_or_has_failed_for_a_reason_whatever_the_storage_does(void **state)
{
	uint64_t rounds = test_number("GDS_TEST_ROUNDS", ROUNDS);
	uint64_t seed = test_seed();

	print_message("GDS_TEST_SEED=%" PRIu64 ", %" PRIu64 " rounds\n", seed, rounds);
	memset(&seen, 0, sizeof(seen));
	for (uint64_t round = 0; round < (test_seed_given() ? 1 : rounds); round++)
		run_world(seed + round);
	print_message("%" PRIu64 " MiB by dma-bufs, %" PRIu64 " registered, %" PRIu64
		      " refused; %" PRIu64 " canaries, %" PRIu64 " of them for liars; %" PRIu64
		      " reads made visible by %" PRIu64 " calls\n",
		      seen.direct_bytes >> 20, seen.registered, seen.refused, seen.canaries,
		      seen.liars, seen.direct_reads, seen.acquires);
	if (test_seed_given() || rounds < 400)
		return;
	assert_true(seen.direct_bytes && seen.registered && seen.refused);
	assert_true(seen.canaries > seen.liars && seen.liars);
	/* Those that land in one turn are made visible together, a few in a hundred worlds. */
	if (rounds >= 3000)
		assert_true(seen.acquires && seen.acquires < seen.direct_reads);
}

/* ---- Event loops ---------------------------------------------------------------------- */

/*
 * As an event loop does it: nothing is called before the descriptor is readable. The
 * world stands still for ever where it is not, and nothing is under way.
 */
static void loop_until_complete(struct world *world, int descriptor)
{
	uint64_t events;
	size_t left;
	int turns = 0;

	for (;;) {
		left = 0;
		if (read(descriptor, &events, sizeof(events)) == sizeof(events)) {
			for (size_t i = 0; i < MOST_BATCHES; i++)
				if (world->batches[i].batch)
					left += gds_batch_poll(world->batches[i].batch) > 0;
			if (left == 0)
				return;
		} else if (!simulation_pass_time(&world->simulation)) {
			simulation_fail(&world->simulation,
					"an event loop would wait for ever: the descriptor is not "
					"readable, and nothing is in flight");
		}
		CHECK(world, ++turns < MOST_TURNS);
	}
}

static void run_event_loop(uint64_t seed)
{
	static struct world world;
	size_t submitted = 0;
	int descriptor;

	make_world(&world, seed);
	descriptor = gds_reader_eventfd(world.reader);
	CHECK(&world, descriptor >= 0);
	for (size_t i = 0; i < MOST_BATCHES; i++) {
		create_batch(&world, &world.batches[i]);
		submit(&world, &world.batches[i]);
		submitted++;
	}
	if (random_chance(&world.random, 200))
		cancel(&world, &world.batches[random_below(&world.random, submitted)]);
	loop_until_complete(&world, descriptor);
	end_batches(&world);
	check_counters(&world);
	close_everything(&world);
	free_world(&world);
}

static void an_event_loop_is_told_of_all_that_it_has_to_poll_for(void **state)
{
	uint64_t rounds = test_number("GDS_TEST_ROUNDS", ROUNDS) / 3 + 1;
	uint64_t seed = test_seed();

	print_message("GDS_TEST_SEED=%" PRIu64 ", %" PRIu64 " rounds\n", seed, rounds);
	for (uint64_t round = 0; round < (test_seed_given() ? 1 : rounds); round++)
		run_event_loop(seed + round);
}

/* ---- Setting up ----------------------------------------------------------------------- */

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

	for (int i = 0; i < MOST_FILES; i++) {
		snprintf(path, sizeof(path), "%s/%d", folder, i);
		unlink(path);
	}
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			every_read_is_right_or_has_failed_for_a_reason_whatever_the_storage_does),
		cmocka_unit_test(an_event_loop_is_told_of_all_that_it_has_to_poll_for),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
