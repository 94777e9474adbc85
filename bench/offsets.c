/* SPDX-License-Identifier: Apache-2.0 */
/* Where the reads of a benchmark go: in order, or at random by a seeded generator. */
#include "offsets.h"

void offsets_begin(struct offsets *offsets, bool random, uint64_t blocks, uint64_t block_bytes,
		   uint64_t seed)
{
	*offsets = (struct offsets){
		.state = seed,
		.blocks = blocks,
		.block_bytes = block_bytes,
		.random = random,
	};
}
