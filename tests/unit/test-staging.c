/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Staging memory: chunks are large enough for what they were asked for, lie inside
 * the pool's memory, never overlap another one in use, and run out instead of over.
 */
#include "path/staging.h"
#include "support/random.h"
#include "support/sanitized.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define KIB    1024u
#define MIB    (KIB * KIB)
#define ROUNDS (SANITIZED ? 40 : 300)

#define CHUNKS 60

struct stage {
	struct staging_pool pool;
	uint32_t held[CHUNKS];
	size_t count;
	bool owned[CHUNKS];
};

static void open_stage(struct stage *stage, uint32_t chunk_bytes, uint32_t count)
{
	*stage = (struct stage){ .pool = { .chunk_bytes = chunk_bytes, .count = count } };
	assert_in_range(count, 1, CHUNKS);
	assert_int_equal(staging_open(&stage->pool), 0);
	assert_non_null(stage->pool.memory);
	assert_int_equal((uintptr_t)stage->pool.memory % (4 * KIB), 0);
}

static char *chunk_at(const struct stage *stage, uint32_t chunk)
{
	return stage->pool.memory + staging_offset(&stage->pool, chunk);
}

/* Fills the chunk with its own number, so that an overlap is seen when it goes back. */
static bool take(struct stage *stage)
{
	uint32_t chunk = staging_take(&stage->pool);

	if (chunk == STAGING_NONE)
		return false;
	assert_true(chunk < stage->pool.count);
	assert_false(stage->owned[chunk]);
	assert_true(staging_offset(&stage->pool, chunk) + stage->pool.chunk_bytes <=
		    staging_bytes(&stage->pool));
	stage->owned[chunk] = true;
	stage->held[stage->count++] = chunk;
	memset(chunk_at(stage, chunk), (int)chunk + 1, stage->pool.chunk_bytes);
	return true;
}

static void give(struct stage *stage, size_t index)
{
	uint32_t chunk = stage->held[index];
	const char *bytes = chunk_at(stage, chunk);

	for (uint32_t i = 0; i < stage->pool.chunk_bytes; i++)
		if (bytes[i] != (char)(chunk + 1))
			fail_msg("another chunk overlaps chunk %u at %u", chunk, i);
	stage->owned[chunk] = false;
	stage->held[index] = stage->held[--stage->count];
	staging_give(&stage->pool, chunk);
}

static void check_take(struct stage *stage)
{
	bool any = stage->pool.free_count > 0;

	assert_int_equal(take(stage), any);
}

static void chunks_taken_and_given_at_random_never_overlap_and_all_come_back(void **state)
{
	uint64_t rounds = test_number("GDS_TEST_ROUNDS", ROUNDS);
	uint64_t seed = test_seed();

	print_message("GDS_TEST_SEED=%" PRIu64 "\n", seed);
	for (uint64_t round = 0; round < (test_seed_given() ? 1 : rounds); round++) {
		struct random random = { seed + round };
		struct stage stage;

		open_stage(&stage, 4 * KIB << random_below(&random, 5),
			   (uint32_t)random_between(&random, 1, CHUNKS));
		for (int step = 0; step < 300; step++) {
			if (random_chance(&random, 550))
				check_take(&stage);
			else if (stage.count)
				give(&stage, random_below(&random, stage.count));
			assert_int_equal(stage.count + stage.pool.free_count, stage.pool.count);
		}
		while (stage.count)
			give(&stage, stage.count - 1);
		assert_int_equal(stage.pool.free_count, stage.pool.count);
		staging_close(&stage.pool);
	}
}

static void an_exhausted_pool_gives_none_and_gives_again_what_came_back(void **state)
{
	struct stage stage;

	open_stage(&stage, 64 * KIB, 7);
	for (int i = 0; i < 7; i++)
		assert_true(take(&stage));
	assert_false(take(&stage));
	assert_false(take(&stage));
	give(&stage, 3);
	assert_true(take(&stage));
	assert_false(take(&stage));
	staging_close(&stage.pool);
}

static uint32_t step_from(uint32_t transfer)
{
	return transfer < 16 * KIB ? 4 * KIB : transfer / 4;
}

/* What the option promises is a bound; what makes progress possible is one chunk. */
static void the_pools_stay_within_the_option_and_hold_enough_for_overlap(void **state)
{
	struct staging_pool pools[STAGING_SIZES];
	const struct staging_pool *small = &pools[STAGING_SMALL];
	const struct staging_pool *large = &pools[STAGING_LARGE];

	for (uint32_t transfer = 4 * KIB; transfer <= 64 * MIB; transfer += step_from(transfer))
		for (size_t times = 4; times <= 16; times++) {
			size_t bytes = times * transfer > MIB ? times * transfer : MIB;

			staging_layout(pools, bytes, transfer);
			assert_null(small->memory);
			assert_null(large->memory);
			assert_true(staging_bytes(small) + staging_bytes(large) <= bytes);
			assert_true(small->chunk_bytes >= STAGING_SMALL_BYTES);
			assert_true(large->chunk_bytes >= transfer);
			assert_true(small->count >= 1);
			assert_true(large->count >= 3);
			assert_true(pools[staging_size_for(transfer)].chunk_bytes >= transfer);
			assert_true(pools[staging_size_for(1)].chunk_bytes >= 1);
		}
}

static void closing_a_pool_that_was_never_opened_is_nothing(void **state)
{
	struct staging_pool pools[STAGING_SIZES];

	staging_layout(pools, MIB, 64 * KIB);
	staging_close(&pools[STAGING_SMALL]);
	assert_int_equal(staging_open(&pools[STAGING_SMALL]), 0);
	staging_close(&pools[STAGING_SMALL]);
	assert_null(pools[STAGING_SMALL].memory);
	staging_close(&pools[STAGING_SMALL]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chunks_taken_and_given_at_random_never_overlap_and_all_come_back),
		cmocka_unit_test(an_exhausted_pool_gives_none_and_gives_again_what_came_back),
		cmocka_unit_test(the_pools_stay_within_the_option_and_hold_enough_for_overlap),
		cmocka_unit_test(closing_a_pool_that_was_never_opened_is_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
