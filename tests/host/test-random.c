/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random reads on the real kernel: pieces of random offset, length and place, one by
 * one and in batches of hundreds, from a file on the disk, on tmpfs and from loop
 * devices, by every path, on both lanes, into every device, with every kind of
 * reader. After each round the whole buffer is compared with what it must hold: the
 * bytes of the reads, and around them what was there before.
 */
#include "support/random.h"
#include "support/storage.h"

#include <gds/gds.h>

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB          (UINT64_C(1) << 20)
#define FILE_BYTES   (9 * MIB)
#define TAIL_BYTES   1717 /* so that files do not end on a block */
#define BUFFER_BYTES (3 * MIB + 789)
#define POISON       0x5a
#define MOST_READS   300
#define LONGEST_READ 100000
#define SINGLE_READS 12

struct source {
	const char *name;
	char folder[64];
	char path[80];
	int loop; /* the descriptor that keeps the loop device, or -1 */
	const char *missing;
	struct gds_file *file;
	uint64_t bytes;
};

enum { DISK, TMPFS, LOOP_512, LOOP_4096, SOURCES };

static struct source sources[SOURCES] = {
	[DISK] = { .name = "file on the disk", .loop = -1 },
	[TMPFS] = { .name = "file on tmpfs", .loop = -1 },
	[LOOP_512] = { .name = "loop device, 512-byte blocks", .loop = -1 },
	[LOOP_4096] = { .name = "loop device, 4096-byte blocks", .loop = -1 },
};

static struct target {
	const char *name;
	const char *device_name;
	struct gds_device *device;
	struct gds_buffer *buffer;
	void *memory; /* that was imported */
	uint32_t odd; /* bytes before it, from the start of a page */
	char missing[300];
} targets[] = {
	{ .name = "host", .device_name = "host" },
	{ .name = "imported memory at an odd address", .device_name = "host", .odd = 1 },
	{ .name = "imported memory at 512 bytes", .device_name = "host", .odd = 512 },
	{ .name = "vulkan:0", .device_name = "vulkan:0" },
};

static unsigned char *contents; /* of every source; the longest one's */
static unsigned char *wanted;   /* what the buffer must hold */
static unsigned char *seen;
static uint64_t seed;

/* ---- Sources and targets ------------------------------------------------------------ */

/* Every fourth quarter of a MiB is a hole. */
static bool is_hole(uint64_t offset)
{
	return offset / (MIB / 4) % 4 == 3;
}

static void make_contents(void)
{
	contents = calloc(1, FILE_BYTES + TAIL_BYTES);
	wanted = malloc(BUFFER_BYTES);
	seen = malloc(BUFFER_BYTES);
	assert_true(contents && wanted && seen);
	for (uint64_t at = 0; at < FILE_BYTES; at += MIB / 4)
		if (!is_hole(at))
			pattern_fill(contents + at, at, MIB / 4);
	pattern_fill(contents + FILE_BYTES, FILE_BYTES, TAIL_BYTES);
}

static void write_contents(const char *path, uint64_t bytes)
{
	file_resize(path, bytes);
	for (uint64_t at = 0; at < FILE_BYTES; at += MIB / 4)
		if (!is_hole(at))
			file_write_pattern(path, at, MIB / 4);
	if (bytes > FILE_BYTES)
		file_write_pattern(path, FILE_BYTES, bytes - FILE_BYTES);
}

static void make_source(struct source *source, bool tmpfs, uint32_t loop_block)
{
	char backing[80];

	source->bytes = loop_block ? FILE_BYTES : FILE_BYTES + TAIL_BYTES;
	if (!folder_make(source->folder, tmpfs)) {
		source->missing = tmpfs ? "there is no tmpfs on /dev/shm" : "no temporary folder";
		return;
	}
	snprintf(backing, sizeof(backing), "%s/data", source->folder);
	write_contents(backing, source->bytes);
	memcpy(source->path, backing, sizeof(backing));
	if (loop_block) {
		source->loop = loop_open(backing, loop_block, source->path, &source->missing);
		if (source->loop < 0)
			return;
		source->missing = NULL;
	}
	assert_int_equal(gds_file_open(&source->file, source->path), 0);
}

static void make_target(struct target *target)
{
	if (gds_device_open(&target->device, target->device_name) != 0) {
		snprintf(target->missing, sizeof(target->missing), "%s", gds_last_error());
		return;
	}
	if (target->odd) {
		target->memory = aligned_alloc(4096, BUFFER_BYTES / 4096 * 4096 + 8192);
		assert_non_null(target->memory);
		assert_int_equal(gds_buffer_import_host(&target->buffer, target->device,
							(char *)target->memory + target->odd,
							BUFFER_BYTES),
				 0);
		return;
	}
	assert_int_equal(gds_buffer_alloc(&target->buffer, target->device, BUFFER_BYTES, 0), 0);
}

/* Fall backs are the normal case here. */
static void swallow(enum gds_log_level level, const char *line, void *user)
{
}

static int set_up(void **state)
{
	gds_log_set(GDS_LOG_ERROR, swallow, NULL);
	seed = test_seed();
	print_message("GDS_TEST_SEED=%" PRIu64 "\n", seed);
	make_contents();
	make_source(&sources[DISK], false, 0);
	make_source(&sources[TMPFS], true, 0);
	make_source(&sources[LOOP_512], true, 512);
	make_source(&sources[LOOP_4096], true, 4096);
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
		make_target(&targets[i]);
	return 0;
}

static int tear_down(void **state)
{
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		gds_buffer_free(targets[i].buffer);
		gds_device_close(targets[i].device);
		free(targets[i].memory);
	}
	for (int i = 0; i < SOURCES; i++) {
		gds_file_close(sources[i].file);
		if (sources[i].loop >= 0)
			close(sources[i].loop);
		folder_remove(sources[i].folder);
	}
	free(contents);
	free(wanted);
	free(seen);
	return 0;
}

/* ---- One combination ------------------------------------------------------------------ */

struct combination {
	struct source *source;
	struct target *target;
	enum gds_lane lane;
	uint32_t flags; /* of the reader */
	enum gds_path path;
};

static void fail_combination(const struct combination *combination, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void fail_combination(const struct combination *combination, const char *format, ...)
{
	char text[400];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	print_error("GDS_TEST_SEED=%" PRIu64 ": %s to %s, lane %s, reader flags %u, path %s: %s\n",
		    seed, combination->source->name, combination->target->name,
		    gds_lane_name(combination->lane), combination->flags,
		    gds_path_name(combination->path), text);
	fail();
}

/* Small transfers, so that there are many operations, or the default. */
static struct gds_reader *open_reader(struct random *random, const struct combination *combination)
{
	struct gds_reader_options options = {
		.size = sizeof(options),
		.flags = combination->flags,
		.lane = combination->lane,
	};
	struct gds_reader *reader = NULL;

	if (random_chance(random, 700)) {
		options.queue_depth = (uint32_t)random_between(random, 1, 64);
		options.threads = (uint32_t)random_between(random, 1, 8);
		options.transfer_bytes = 4096 * random_between(random, 1, 64);
		options.staging_bytes =
			4 * options.transfer_bytes < MIB ? MIB : 4 * options.transfer_bytes;
	}
	if (gds_reader_open(&reader, &options) != 0) {
		if (combination->lane != GDS_LANE_URING)
			fail_combination(combination, "%s", gds_last_error());
		return NULL;
	}
	return reader;
}

static void poison_buffer(const struct combination *combination)
{
	memset(wanted, POISON, BUFFER_BYTES);
	if (gds_buffer_copy_in(combination->target->buffer, 0, wanted, BUFFER_BYTES) != 0)
		fail_combination(combination, "%s", gds_last_error());
}

static void compare_buffer(const struct combination *combination, const char *what)
{
	uint64_t at = 0;

	if (gds_buffer_copy_out(combination->target->buffer, 0, seen, BUFFER_BYTES) != 0)
		fail_combination(combination, "%s", gds_last_error());
	if (memcmp(seen, wanted, BUFFER_BYTES) == 0)
		return;
	while (seen[at] == wanted[at])
		at++;
	fail_combination(combination, "%s: byte %" PRIu64 " of the buffer is 0x%02x, not 0x%02x",
			 what, at, seen[at], wanted[at]);
}

/* A read behind `*next`, which moves on. False where the buffer is full. */
static bool make_request(struct random *random, const struct combination *combination,
			 uint64_t *next, struct gds_request *request)
{
	uint64_t length = random_skewed(random, LONGEST_READ);

	*request = (struct gds_request){
		.file = combination->source->file,
		.buffer = combination->target->buffer,
		.offset = random_below(random, combination->source->bytes + 3000),
		.user_data = random_u64(random),
	};
	if (random_chance(random, 200))
		length = (length | 1) << 12;
	if (random_chance(random, 300))
		request->offset &= ~UINT64_C(4095);
	request->buffer_offset = *next + random_below(random, 2) * random_below(random, 600);
	if (random_chance(random, 500))
		request->buffer_offset = (*next | 4095) + 1 + request->offset % 4096 +
					 (4096 - combination->target->odd) % 4096;
	if (length > LONGEST_READ)
		length = LONGEST_READ;
	if (request->buffer_offset + length > BUFFER_BYTES)
		return false;
	request->length = length;
	*next = request->buffer_offset + length;
	return true;
}

static uint64_t bytes_due(const struct combination *combination, const struct gds_request *request)
{
	uint64_t left;

	if (request->offset >= combination->source->bytes)
		return 0;
	left = combination->source->bytes - request->offset;
	return request->length < left ? request->length : left;
}

static void expect(const struct combination *combination, const struct gds_request *request,
		   const struct gds_result *result)
{
	uint64_t due = bytes_due(combination, request);
	uint64_t sum = 0;

	if (result->bytes != (int64_t)due)
		fail_combination(combination,
				 "%" PRIu64 " bytes at %" PRIu64 " to %" PRIu64 " gave %" PRId64
				 ", not %" PRIu64 ": %s",
				 request->length, request->offset, request->buffer_offset,
				 result->bytes, due, gds_last_error());
	for (int path = 0; path < GDS_PATH_COUNT; path++)
		sum += result->path_bytes[path];
	if (sum != due || result->user_data != request->user_data)
		fail_combination(combination, "the paths' bytes make %" PRIu64 ", not %" PRIu64,
				 sum, due);
	if (due)
		memcpy(wanted + request->buffer_offset, contents + request->offset, due);
}

static struct gds_batch *create_batch(struct gds_reader *reader,
				      const struct combination *combination)
{
	struct gds_batch_options options = { .size = sizeof(options), .path = combination->path };
	struct gds_batch *batch = NULL;

	if (gds_batch_create(&batch, reader, &options) != 0)
		fail_combination(combination, "%s", gds_last_error());
	return batch;
}

/* Whether the path can be taken; host memory has both. */
static bool path_is_usable(struct gds_reader *reader, const struct combination *combination)
{
	struct gds_explanation explanation = { .size = sizeof(explanation) };

	if (gds_explain(reader, combination->source->file, combination->target->buffer,
			&explanation) != 0)
		fail_combination(combination, "%s", gds_last_error());
	if (combination->path == GDS_PATH_AUTO || explanation.paths[combination->path].usable)
		return true;
	if (strcmp(combination->target->device_name, "host") == 0)
		fail_combination(combination, "host memory is refused: %s",
				 explanation.paths[combination->path].reason);
	return false;
}

static void read_batch(struct random *random, struct gds_reader *reader,
		       const struct combination *combination, size_t most)
{
	static struct gds_request requests[MOST_READS];
	struct gds_batch *batch = create_batch(reader, combination);
	struct gds_result result;
	uint64_t next = 0;
	size_t count = 0;

	poison_buffer(combination);
	while (count < most && make_request(random, combination, &next, &requests[count]))
		count++;
	/* Not in the order of their places. */
	for (size_t i = count; i > 1; i--) {
		size_t other = random_below(random, i);
		struct gds_request moved = requests[other];

		requests[other] = requests[i - 1];
		requests[i - 1] = moved;
	}
	if (gds_batch_add(batch, requests, count) != 0 || gds_batch_submit(batch) != 0 ||
	    gds_batch_wait(batch, -1) != 0)
		fail_combination(combination, "%s", gds_last_error());
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(gds_batch_result(batch, i, &result), 0);
		expect(combination, &requests[i], &result);
	}
	gds_batch_destroy(batch);
	compare_buffer(combination, "after a batch");
}

/* gds_read() takes the path it likes; a pinned one is a batch of one. */
static void read_singly(struct random *random, struct gds_reader *reader,
			const struct combination *combination)
{
	struct gds_request request;
	struct gds_result result;
	uint64_t next = 0;

	if (combination->path != GDS_PATH_AUTO) {
		for (int i = 0; i < 3; i++)
			read_batch(random, reader, combination, 1);
		return;
	}
	poison_buffer(combination);
	for (int i = 0; i < SINGLE_READS; i++) {
		if (!make_request(random, combination, &next, &request))
			break;
		if (gds_read(reader, &request, &result) != result.bytes)
			fail_combination(combination, "gds_read() and its result differ");
		expect(combination, &request, &result);
	}
	compare_buffer(combination, "after single reads");
}

static void run(const struct combination *combination, uint64_t number)
{
	struct random random = { seed + number };
	struct gds_reader *reader = open_reader(&random, combination);

	if (!reader)
		return;
	if (path_is_usable(reader, combination)) {
		read_singly(&random, reader, combination);
		read_batch(&random, reader, combination, MOST_READS);
	}
	gds_reader_close(reader);
}

static void run_all_ways(struct source *source, struct target *target)
{
	static const enum gds_lane lanes[] = { GDS_LANE_URING, GDS_LANE_THREADS };
	static const uint32_t flags[] = { 0, GDS_READER_SINGLE_THREAD, GDS_READER_PROGRESS_THREAD };
	static const enum gds_path paths[] = { GDS_PATH_AUTO, GDS_PATH_MAPPED, GDS_PATH_BOUNCE };
	uint64_t rounds = test_number("GDS_TEST_ROUNDS", 1);
	uint64_t number = 0;

	for (uint64_t i = 0; i < rounds * 18; i++) {
		struct combination combination = {
			.source = source,
			.target = target,
			.lane = lanes[i % 2],
			.flags = flags[i / 2 % 3],
			.path = paths[i / 6 % 3],
		};

		run(&combination, number++);
	}
}

static void reads_from(int source)
{
	bool any = false;

	if (sources[source].missing) {
		print_message("skipped: %s\n", sources[source].missing);
		skip();
	}
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		if (!targets[i].buffer) {
			print_message("not into %s: %s\n", targets[i].name, targets[i].missing);
			continue;
		}
		run_all_ways(&sources[source], &targets[i]);
		any = true;
	}
	assert_true(any);
}

static void random_reads_of_a_file_on_the_disk_are_exact(void **state)
{
	reads_from(DISK);
}

static void random_reads_of_a_file_on_tmpfs_are_exact(void **state)
{
	reads_from(TMPFS);
}

static void random_reads_of_a_block_device_with_512_byte_blocks_are_exact(void **state)
{
	reads_from(LOOP_512);
}

static void random_reads_of_a_block_device_with_4096_byte_blocks_are_exact(void **state)
{
	reads_from(LOOP_4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_reads_of_a_file_on_the_disk_are_exact),
		cmocka_unit_test(random_reads_of_a_file_on_tmpfs_are_exact),
		cmocka_unit_test(random_reads_of_a_block_device_with_512_byte_blocks_are_exact),
		cmocka_unit_test(random_reads_of_a_block_device_with_4096_byte_blocks_are_exact),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
