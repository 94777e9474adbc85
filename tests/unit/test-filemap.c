/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a file map finds a file of a million extents, which a stand-in for FIEMAP tells
 * of: each run in its place, and never more memory than a few windows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the three above, and stdint.h. */
#include <cmocka.h>

#include "base/bits.h"
#include "base/clock.h"
#include "storage/file.h"
#include "storage/filemap.h"
#include "support/random.h"
#include "support/sanitized.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK UINT64_C(4096)

enum { EXTENTS = 1000000 };

/* Every other block is data, which lies apart from that of its neighbours. */
static uint64_t place_of(uint64_t extent)
{
	return (extent * UINT64_C(7919) % EXTENTS * 2 + 1) * BLOCK;
}

static uint64_t asked; /* calls of FIEMAP */

static void tell(struct fiemap *ask)
{
	uint64_t extent = ask->fm_start / (2 * BLOCK) + (ask->fm_start % (2 * BLOCK) >= BLOCK);

	asked++;
	for (ask->fm_mapped_extents = 0;
	     ask->fm_mapped_extents < ask->fm_extent_count && extent < EXTENTS; extent++)
		ask->fm_extents[ask->fm_mapped_extents++] = (struct fiemap_extent){
			.fe_logical = 2 * extent * BLOCK,
			.fe_physical = place_of(extent),
			.fe_length = BLOCK,
			.fe_flags = extent == EXTENTS - 1 ? FIEMAP_EXTENT_LAST : 0,
		};
}

/* In place of ioctl(), by ld's --wrap. */
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;

	if (request != FS_IOC_FIEMAP) {
		errno = ENOTTY;
		return -1;
	}
	va_start(arguments, request);
	tell(va_arg(arguments, struct fiemap *));
	va_end(arguments);
	return 0;
}

/* ---- Memory ---- */

static size_t most_bytes;

static size_t bytes_in_use(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

static void note_memory(void)
{
	size_t bytes = bytes_in_use();

	if (bytes > most_bytes)
		most_bytes = bytes;
}

/* All windows full, and what malloc() adds to each. */
#define MOST_BYTES                                                                           \
	(sizeof(struct file_map) + (FILE_WINDOWS + 1) * (sizeof(struct extent_window) + 64 + \
							 WINDOW_EXTENTS * sizeof(struct extent)))

/* ---- The map ---- */

static struct volume disk = { .kind = VOLUME_DISK, .bytes = 2 * EXTENTS * BLOCK };
static struct stack stack = {
	.btrfs_fd = -1,
	.volume = &disk,
	.disk_count = 1,
	.disks = { { .block_bytes = 512 } },
};
static struct gds_file file = { .path = (char *)"a million extents" };

static int open_file(void **state)
{
	(void)state;
	file.fd = memfd_create("gds-filemap", MFD_CLOEXEC);
	return file.fd < 0 || ftruncate(file.fd, 2 * EXTENTS * (off_t)BLOCK);
}

static int close_file(void **state)
{
	(void)state;
	return close(file.fd);
}

static void check_run(struct file_map *map, uint64_t block, struct spot *spot)
{
	file_map_locate(map, block * BLOCK, 4 * BLOCK, spot);
	note_memory();
	assert_int_equal(spot->kind, block % 2 ? SPOT_ZEROS : SPOT_DATA);
	assert_int_equal(spot->bytes, BLOCK);
	if (block % 2 == 0)
		assert_int_equal(spot->offset, place_of(block / 2));
}

static void a_million_extents_are_found_in_a_bounded_memory(void **state)
{
	size_t before = bytes_in_use();
	uint64_t began_ns = clock_now_ns();
	struct file_map *map;
	struct spot spot;

	(void)state;
	if (SANITIZED) {
		print_message("a sanitizer's malloc() does not tell what is in use\n");
		skip();
	}
	most_bytes = asked = 0;
	assert_int_equal(file_map_open(&map, &file, &stack), 0);
	for (uint64_t block = 0; block < 2 * EXTENTS - 1; block++)
		check_run(map, block, &spot);
	print_message("%d extents: %zu bytes at most, %" PRIu64 " calls, %" PRIu64 " ms\n", EXTENTS,
		      most_bytes - before, asked, (clock_now_ns() - began_ns) / 1000000);
	assert_true(most_bytes - before <= MOST_BYTES);
	/* Each extent is told once, but for those at the edges of windows. */
	assert_true(asked <= EXTENTS / (WINDOW_EXTENTS - 1) + 1);
	file_map_close(map);
}

/* As operations do it that are in flight at once, all over the file. */
static void reads_all_over_a_million_extents_are_found_and_confirmed(void **state)
{
	enum { TURNS = 2000, AT_ONCE = 64 };
	uint64_t seed = test_number("GDS_TEST_SEED", (uint64_t)time(NULL));
	struct random random = { .state = seed };
	size_t before = bytes_in_use();
	uint64_t blocks[AT_ONCE];
	struct spot spots[AT_ONCE];
	struct file_map *map;

	(void)state;
	print_message("GDS_TEST_SEED=%" PRIu64 "\n", seed);
	most_bytes = 0;
	assert_int_equal(file_map_open(&map, &file, &stack), 0);
	for (uint64_t turn = 1; turn <= TURNS; turn++) {
		for (size_t i = 0; i < AT_ONCE; i++) {
			blocks[i] = random_below(&random, 2 * EXTENTS - 1);
			check_run(map, blocks[i], &spots[i]);
		}
		for (size_t i = 0; i < AT_ONCE; i++)
			assert_true(file_map_confirm(map, turn, blocks[i] * BLOCK, &spots[i]));
		note_memory();
	}
	if (!SANITIZED)
		assert_true(most_bytes - before <= MOST_BYTES);
	file_map_close(map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_million_extents_are_found_in_a_bounded_memory),
		cmocka_unit_test(reads_all_over_a_million_extents_are_found_and_confirmed),
	};

	return cmocka_run_group_tests(tests, open_file, close_file);
}
