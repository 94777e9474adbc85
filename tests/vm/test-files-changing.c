/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that change while they are read by the direct path, in kernel/vm: what a read
 * that is reported good gives are bytes that the file had, and never another file's.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "vm/files.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

/* ---- Writers ---- */

/*
 * Each 8-byte word of these files tells whose it is: the file's number, the version,
 * and its offset. So a byte of another file, of a version that never was, or of another
 * place gives itself away.
 */
#define RACE_BYTES (4 * MIB)
#define RACE_FILE  7

enum {
	RACE_ROUNDS = 50, /* of the reader */
	PAUSE_US = 30000, /* at most between two changes, so that reads begin in peace */
	TAKERS = 3,       /* other files that take over blocks */
};

struct race {
	atomic_bool stop;
	atomic_uint version; /* the last one that the writer has begun */
	unsigned seed;
	bool by_rename; /* else it writes, cuts and punches the file in place */
};

static uint64_t word_of(uint64_t file, uint64_t version, uint64_t offset)
{
	return file << 56 | version << 28 | offset / 8;
}

static void write_words(int fd, uint64_t file, uint64_t version, uint64_t offset, uint64_t length,
			uint64_t *words)
{
	for (uint64_t i = 0; i < length / 8; i++)
		words[i] = word_of(file, version, offset + i * 8);
	need(pwrite(fd, words, length, (off_t)offset) == (ssize_t)length, "pwrite");
}

static void replace(struct race *race, struct random *random, uint64_t *words)
{
	unsigned version = atomic_load(&race->version) + 1;
	int fd = open(MOUNT "/next", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	need(fd >= 0, "next");
	atomic_store(&race->version, version);
	write_words(fd, RACE_FILE, version, 0, RACE_BYTES, words);
	if (random_chance(random, 500))
		fsync(fd);
	close(fd);
	need(rename(MOUNT "/next", MOUNT "/raced") == 0, "rename");
}

static void rewrite(struct race *race, struct random *random, uint64_t *words)
{
	unsigned version = atomic_load(&race->version) + 1;
	uint64_t offset = random_below(random, RACE_BYTES / BLOCK) * BLOCK;
	uint64_t length = random_between(random, 1, (RACE_BYTES - offset) / BLOCK) * BLOCK;
	int fd = open(MOUNT "/raced", O_RDWR | O_CLOEXEC);

	need(fd >= 0, "raced");
	atomic_store(&race->version, version);
	switch (random_below(random, 3)) {
	case 0:
		write_words(fd, RACE_FILE, version, offset, length, words);
		break;
	case 1:
		need(ftruncate(fd, (off_t)offset) == 0, "ftruncate");
		write_words(fd, RACE_FILE, version, offset, RACE_BYTES - offset, words);
		break;
	default:
		need(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			       (off_t)length) == 0,
		     "fallocate");
		write_words(fd, RACE_FILE, version, offset, length, words);
	}
	if (random_chance(random, 500))
		fsync(fd);
	close(fd);
}

static void *writer_main(void *argument)
{
	struct race *race = argument;
	struct random random = { .state = race->seed };
	uint64_t *words = malloc(RACE_BYTES);

	need(words != NULL, "malloc");
	while (!atomic_load(&race->stop)) {
		if (race->by_rename)
			replace(race, &random, words);
		else
			rewrite(race, &random, words);
		usleep((useconds_t)random_below(&random, PAUSE_US));
	}
	free(words);
	return NULL;
}

/* Other files, made and removed: blocks that the raced one gives up are theirs soon. */
static void *taker_main(void *argument)
{
	struct race *race = argument;
	struct random random = { .state = race->seed + 1 };
	uint64_t *words = malloc(RACE_BYTES);
	char path[64];
	int fd;

	need(words != NULL, "malloc");
	for (unsigned version = 1; !atomic_load(&race->stop); version++) {
		snprintf(path, sizeof(path), MOUNT "/taker-%u", version % TAKERS);
		unlink(path);
		fd = create(path);
		write_words(fd, 9, version, 0,
			    random_between(&random, 1, RACE_BYTES / BLOCK) * BLOCK, words);
		fsync(fd);
		close(fd);
	}
	free(words);
	return NULL;
}

static void check_words(const struct race *race, uint64_t bytes)
{
	const uint64_t *words = (const uint64_t *)found;
	uint64_t last = atomic_load(&race->version);
	uint64_t version;

	must(gds_buffer_copy_out(buffer, 0, found, BUFFER_BYTES));
	for (uint64_t i = 0; i < bytes / 8; i++) {
		version = words[i] >> 28 & 0xfffffff;
		if (words[i] == 0 && !race->by_rename)
			continue; /* punched */
		if (words[i] >> 56 != RACE_FILE || (words[i] & 0xfffffff) != i || version == 0 ||
		    version > last)
			fail_msg("offset %" PRIu64 " holds file %" PRIu64 ", version %" PRIu64
				 ", offset %" PRIu64 "; the last version is %" PRIu64,
				 i * 8, words[i] >> 56, version, (words[i] & 0xfffffff) * 8, last);
		if (race->by_rename && version != (words[0] >> 28 & 0xfffffff))
			fail_msg("of versions %" PRIu64 " and %" PRIu64, version,
				 words[0] >> 28 & 0xfffffff);
	}
}

static void read_raced(const struct race *race, const char *file_system, unsigned rounds)
{
	struct gds_stats before = { .size = sizeof(before) };
	struct gds_stats after = { .size = sizeof(after) };
	uint64_t direct = 0;
	unsigned stale = 0;

	must(gds_reader_stats(reader, &before));
	memset(expected, 0xee, BUFFER_BYTES);
	for (unsigned i = 0; i < rounds; i++) {
		enum gds_path path = i % 4 ? GDS_PATH_AUTO : GDS_PATH_DMABUF;
		struct gds_result result;
		struct gds_file *file;
		int64_t bytes;

		must(gds_file_open(&file, MOUNT "/raced"));
		must(gds_buffer_copy_in(buffer, 0, expected, RACE_BYTES));
		bytes = read_by(path, file, 0, RACE_BYTES, 0, &result);
		if (bytes >= 0)
			check_words(race, (uint64_t)bytes & ~UINT64_C(7));
		else if (path == GDS_PATH_DMABUF && bytes == -ESTALE)
			stale++;
		else
			fail_msg("%" PRId64 " by path %d: %s", bytes, path, gds_last_error());
		direct += result.path_bytes[GDS_PATH_DMABUF];
		gds_file_close(file);
	}
	must(gds_reader_stats(reader, &after));
	print_message("%s: %u versions; %u reads, of which %u failed with ESTALE; %" PRIu64
		      " MiB direct, %" PRIu64 " tries again, %" PRIu64 " fall backs\n",
		      file_system, atomic_load(&race->version), rounds, stale, direct / MIB,
		      after.retries - before.retries, after.fallbacks - before.fallbacks);
}

/* Slow enough that files change while they are read: in small pieces, few at once. */
static struct gds_reader *use_slow_reader(void)
{
	struct gds_reader_options options = { .size = sizeof(options),
					      .queue_depth = 2,
					      .transfer_bytes = 32 << 10 };
	struct gds_reader *before = reader;

	must(gds_reader_open(&reader, &options));
	return before;
}

static void race(const char *file_system, const char *disk, bool by_rename)
{
	struct gds_reader *usual;
	struct race race = { .by_rename = by_rename,
			     .seed = (unsigned)random_u64(&random_numbers) };
	uint64_t *words = malloc(RACE_BYTES);
	struct random random = { 0 };
	pthread_t writer;
	pthread_t taker;

	assert_non_null(words);
	/* Small, so that freed blocks are soon taken by others. */
	make_file_system(file_system, disk, "");
	replace(&race, &random, words);
	assert_int_equal(pthread_create(&writer, NULL, writer_main, &race), 0);
	assert_int_equal(pthread_create(&taker, NULL, taker_main, &race), 0);
	usual = use_slow_reader();
	read_raced(&race, file_system, (unsigned)test_number("GDS_TEST_ROUNDS", RACE_ROUNDS));
	atomic_store(&race.stop, true);
	pthread_join(writer, NULL);
	pthread_join(taker, NULL);
	gds_reader_close(reader);
	reader = usual;
	need(umount(MOUNT) == 0, MOUNT);
	free(words);
}

static void a_file_that_is_rewritten_while_it_is_read_never_gives_another_files_bytes(void **state)
{
	(void)state;
	need_vm();
	make_partitions();
	race("ext4", "/dev/nvme0n1p2", false);
	race("xfs", "/dev/nvme0n1p1", false);
	race("btrfs", "/dev/nvme2n1p1", false);
}

static void a_file_that_is_replaced_while_it_is_read_is_one_version_whole(void **state)
{
	(void)state;
	need_vm();
	make_partitions();
	race("ext4", "/dev/nvme0n1p2", true);
	race("xfs", "/dev/nvme0n1p1", true);
	race("btrfs", "/dev/nvme2n1p1", true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_file_that_is_rewritten_while_it_is_read_never_gives_another_files_bytes),
		CASE(a_file_that_is_replaced_while_it_is_read_is_one_version_whole),
	};

	/* GDS_TEST_ONLY=TEXT runs the cases whose name contains it. */
	if (getenv("GDS_TEST_ONLY"))
		cmocka_set_test_filter(getenv("GDS_TEST_ONLY"));
	return cmocka_run_group_tests(tests, files_set_up, files_tear_down);
}
