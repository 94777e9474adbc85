/* SPDX-License-Identifier: Apache-2.0 */
/* Where the reads of a benchmark go: in order, or at random by a seeded generator. */
#ifndef BENCH_OFFSETS_H
#define BENCH_OFFSETS_H

#include <stdbool.h>
#include <stdint.h>

struct offsets {
	uint64_t state; /* of the generator */
	uint64_t blocks;
	uint64_t block_bytes;
	uint64_t next; /* block, in order */
	bool random;
};

void offsets_begin(struct offsets *offsets, bool random, uint64_t blocks, uint64_t block_bytes,
		   uint64_t seed);

/*
 * SplitMix64: a counter and a mix of its bits. It is as fast as a read must not
 * notice, and any seed will do, zero too.
 */
static inline uint64_t offsets_random(struct offsets *offsets)
{
	uint64_t mix = offsets->state += 0x9e3779b97f4a7c15ull;

	mix = (mix ^ (mix >> 30)) * 0xbf58476d1ce4e5b9ull;
	mix = (mix ^ (mix >> 27)) * 0x94d049bb133111ebull;
	return mix ^ (mix >> 31);
}

/* The offset of the next read, a multiple of the block's size. */
static inline uint64_t offsets_next(struct offsets *offsets)
{
	uint64_t block = offsets->next;

	if (offsets->random) {
		/* The high half of the product: a multiplication where % would divide. */
		block = (uint64_t)(((unsigned __int128)offsets_random(offsets) * offsets->blocks) >>
				   64);
		return block * offsets->block_bytes;
	}
	offsets->next = block + 1 == offsets->blocks ? 0 : block + 1;
	return block * offsets->block_bytes;
}

#endif
