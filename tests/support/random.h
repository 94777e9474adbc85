/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers for seeded tests: the same seed gives the same numbers everywhere. A run
 * prints its seed; GDS_TEST_SEED=N runs that one again, and GDS_TEST_ROUNDS=N says
 * how many rounds to make.
 */
#ifndef GDS_TESTS_RANDOM_H
#define GDS_TESTS_RANDOM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

struct random {
	uint64_t state;
};

/* splitmix64: every seed is a good one, 0 too. */
static inline uint64_t random_u64(struct random *random)
{
	uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* In 0 to limit - 1; 0 where the limit is 0. */
static inline uint64_t random_below(struct random *random, uint64_t limit)
{
	return limit ? random_u64(random) % limit : 0;
}

/* In low to high, both included. */
static inline uint64_t random_between(struct random *random, uint64_t low, uint64_t high)
{
	return low + random_below(random, high - low + 1);
}

static inline bool random_chance(struct random *random, uint32_t per_mille)
{
	return random_below(random, 1000) < per_mille;
}

/* Small numbers as often as large ones: of a random number of bits. */
static inline uint64_t random_skewed(struct random *random, uint64_t limit)
{
	uint64_t ceiling = UINT64_C(1) << random_below(random, 63);

	return random_below(random, ceiling < limit ? ceiling : limit);
}

static inline uint64_t test_number(const char *variable, uint64_t fallback)
{
	const char *text = getenv(variable);

	return text && *text ? strtoull(text, NULL, 0) : fallback;
}

/* Of GDS_TEST_SEED, else a new one with each run. */
static inline uint64_t test_seed(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return test_number("GDS_TEST_SEED",
			   ((uint64_t)now.tv_sec * 1000003u + (uint64_t)now.tv_nsec) % 1000000000u);
}

static inline bool test_seed_given(void)
{
	const char *text = getenv("GDS_TEST_SEED");

	return text && *text;
}

#endif
