/* SPDX-License-Identifier: Apache-2.0 */
/* What is made of FIEMAP's answers: which bytes are where, are zeros, or are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the three above, and stdint.h. */
#include <cmocka.h>

#include "storage/extent.h"
#include "support/random.h"

#include <inttypes.h>
#include <stdlib.h>

#define BLOCK UINT64_C(4096)

static void only_what_lies_plainly_on_the_device_is_read_from_it(void **state)
{
	static const uint32_t refused[] = {
		FIEMAP_EXTENT_UNKNOWN,
		FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC,
		FIEMAP_EXTENT_ENCODED,
		FIEMAP_EXTENT_ENCODED | FIEMAP_EXTENT_DATA_ENCRYPTED,
		FIEMAP_EXTENT_NOT_ALIGNED,
		FIEMAP_EXTENT_NOT_ALIGNED | FIEMAP_EXTENT_DATA_INLINE,
		FIEMAP_EXTENT_NOT_ALIGNED | FIEMAP_EXTENT_DATA_TAIL,
		/* Zeros that are not surely zeros. */
		FIEMAP_EXTENT_UNWRITTEN | FIEMAP_EXTENT_DELALLOC,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		assert_int_equal(extent_kind_of(refused[i]), EXTENT_REFUSED);
		assert_non_null(extent_refusal(refused[i]));
	}
	assert_int_equal(extent_kind_of(0), EXTENT_DATA);
	assert_int_equal(
		extent_kind_of(FIEMAP_EXTENT_LAST | FIEMAP_EXTENT_SHARED | FIEMAP_EXTENT_MERGED),
		EXTENT_DATA);
	assert_int_equal(extent_kind_of(FIEMAP_EXTENT_UNWRITTEN | FIEMAP_EXTENT_LAST),
			 EXTENT_ZEROS);
	assert_string_equal(extent_refusal(FIEMAP_EXTENT_NOT_ALIGNED | FIEMAP_EXTENT_DATA_INLINE),
			    "it is stored inline, among the file system's own data");
}

static struct fiemap_extent found_at(uint64_t block, uint64_t blocks, uint64_t physical,
				     uint32_t flags)
{
	return (struct fiemap_extent){
		.fe_logical = block * BLOCK,
		.fe_length = blocks * BLOCK,
		.fe_physical = physical * BLOCK,
		.fe_flags = flags,
	};
}

static void expect(const struct extent_window *window, uint64_t offset, enum extent_kind kind,
		   uint64_t physical, uint64_t bytes)
{
	struct extent extent = window_at(window, offset);

	assert_int_equal(extent.kind, kind);
	assert_int_equal(extent.offset, offset);
	assert_int_equal(extent.physical, physical);
	assert_int_equal(extent.bytes, bytes);
}

static void holes_before_between_and_behind_extents_are_zeros(void **state)
{
	const struct fiemap_extent found[] = {
		found_at(2, 1, 100, 0),
		found_at(5, 2, 50, FIEMAP_EXTENT_LAST),
	};
	struct extent_window *window = window_make(found, 2, WINDOW_EXTENTS, 0);

	(void)state;
	assert_non_null(window);
	assert_int_equal(window->end, UINT64_MAX);
	expect(window, 0, EXTENT_ZEROS, 0, 2 * BLOCK);
	expect(window, 2 * BLOCK + 5, EXTENT_DATA, 100 * BLOCK + 5, BLOCK - 5);
	expect(window, 3 * BLOCK, EXTENT_ZEROS, 0, 2 * BLOCK);
	expect(window, 6 * BLOCK, EXTENT_DATA, 51 * BLOCK, BLOCK);
	expect(window, 7 * BLOCK, EXTENT_ZEROS, 0, UINT64_MAX - 7 * BLOCK);
	free(window);
}

static void a_file_without_extents_is_one_hole(void **state)
{
	struct extent_window *window = window_make(NULL, 0, WINDOW_EXTENTS, 3 * BLOCK);

	(void)state;
	assert_non_null(window);
	expect(window, 4 * BLOCK, EXTENT_ZEROS, 0, UINT64_MAX - 4 * BLOCK);
	free(window);
}

static void a_full_answer_tells_nothing_of_what_comes_behind_it(void **state)
{
	const struct fiemap_extent found[] = { found_at(1, 1, 9, 0), found_at(4, 1, 20, 0) };
	struct extent_window *window = window_make(found, 2, 2, BLOCK);

	(void)state;
	assert_non_null(window);
	assert_int_equal(window->start, BLOCK);
	assert_int_equal(window->end, 5 * BLOCK);
	free(window);
}

static void runs_that_follow_each_other_are_joined_and_others_are_not(void **state)
{
	const struct fiemap_extent found[] = {
		found_at(0, 4, 100, 0),
		found_at(4, 4, 104, FIEMAP_EXTENT_SHARED),
		found_at(8, 1, 200, 0),
		found_at(9, 1, 201, FIEMAP_EXTENT_UNWRITTEN),
		found_at(10, 1, 7, FIEMAP_EXTENT_UNWRITTEN),
		found_at(11, 1, 8, 0),
		found_at(13, 1, 9, FIEMAP_EXTENT_LAST),
	};
	struct extent_window *window = window_make(found, 7, WINDOW_EXTENTS, 0);

	(void)state;
	assert_non_null(window);
	assert_int_equal(window->count, 5);
	expect(window, 0, EXTENT_DATA, 100 * BLOCK, 8 * BLOCK);
	expect(window, 8 * BLOCK, EXTENT_DATA, 200 * BLOCK, BLOCK);
	expect(window, 9 * BLOCK, EXTENT_ZEROS, 0, 2 * BLOCK);
	expect(window, 11 * BLOCK, EXTENT_DATA, 8 * BLOCK, BLOCK);
	expect(window, 13 * BLOCK, EXTENT_DATA, 9 * BLOCK, BLOCK);
	free(window);
}

/* Against a table of blocks: what window_at() tells of each is what FIEMAP told. */
static void random_files_are_told_block_by_block(void **state)
{
	enum { BLOCKS = 400 };
	uint64_t seed = test_number("GDS_TEST_SEED", (uint64_t)time(NULL));
	struct random random = { .state = seed };

	(void)state;
	print_message("GDS_TEST_SEED=%" PRIu64 "\n", seed);
	for (unsigned round = 0; round < 300; round++) {
		struct fiemap_extent found[WINDOW_EXTENTS];
		uint64_t places[BLOCKS] = { 0 }; /* physical block, 0 for zeros */
		struct extent_window *window;
		size_t count = 0;
		uint64_t block = random_below(&random, 3);

		while (count < WINDOW_EXTENTS && block < BLOCKS) {
			uint64_t most = BLOCKS - block < 9 ? BLOCKS - block : 9;
			uint64_t blocks = random_between(&random, 1, most);
			bool unwritten = random_chance(&random, 300);
			uint64_t physical = random_between(&random, 1, 1000);

			if (block && random_chance(&random, 300) && places[block - 1])
				physical = places[block - 1] + 1;
			found[count++] = found_at(block, blocks, physical,
						  unwritten ? FIEMAP_EXTENT_UNWRITTEN : 0);
			for (uint64_t i = 0; i < blocks && !unwritten; i++)
				places[block + i] = physical + i;
			block += blocks + random_below(&random, 3);
		}
		window = window_make(found, count, WINDOW_EXTENTS, 0);
		assert_non_null(window);
		for (uint64_t i = 0; i < BLOCKS && i * BLOCK < window->end; i++) {
			struct extent extent = window_at(window, i * BLOCK);

			assert_true(extent.bytes >= BLOCK);
			assert_int_equal(extent.kind, places[i] ? EXTENT_DATA : EXTENT_ZEROS);
			assert_int_equal(extent.physical, places[i] * BLOCK);
		}
		free(window);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_what_lies_plainly_on_the_device_is_read_from_it),
		cmocka_unit_test(holes_before_between_and_behind_extents_are_zeros),
		cmocka_unit_test(a_file_without_extents_is_one_hole),
		cmocka_unit_test(a_full_answer_tells_nothing_of_what_comes_behind_it),
		cmocka_unit_test(runs_that_follow_each_other_are_joined_and_others_are_not),
		cmocka_unit_test(random_files_are_told_block_by_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
