/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folds a range of memory for its CRC-32, to a 32nd of its size, by nothing but XOR.
 *
 * A CRC is the remainder of the message, taken as a polynomial over GF(2), divided by
 *
 *   P(x) = x^32 + x^26 + x^23 + x^22 + x^16 + x^12 + x^11 + x^10 + x^8 + x^7 + x^5 + x^4
 *          + x^2 + x + 1.
 *
 * It does not change when a multiple of P is added. Over GF(2) squaring a polynomial
 * squares each of its terms, so P(x^n) is a multiple of P for every power of two n:
 * with rows of n bits, a row may be taken out of the message if it is added to those
 * that lie 32 - 26, 32 - 23, ... 32 - 0 rows further on. Each work group does that to
 * all but the last 32 rows of a chunk; the 32 that are left have the CRC register of
 * the whole chunk, and the CPU does the rest.
 *
 * No tables, which software rasterizers would read lane by lane, and no bit is
 * touched on its own; neighbouring lanes read neighbouring words.
 */
#version 450

/* A row is one word for each lane, of which there must be a power of two. */
#define LANES  gl_WorkGroupSize.x
#define LEFT   32 /* rows that are left of a chunk, the degree of P */
#define BLOCKS 32 /* of 32 rows, in a chunk */

layout(local_size_x_id = 0) in;

layout(std430, set = 0, binding = 0) readonly buffer Message {
	uint message[];
};

layout(std430, set = 0, binding = 1) writeonly buffer Folded {
	uint folded[];
};

layout(push_constant) uniform Range {
	uint first;      /* where in the binding the message begins, in words */
	uint count;      /* of words; zeros follow up to a whole chunk */
	uint first_mask; /* of the bytes of the first word that belong to the message */
	uint last_mask;  /* of the last word */
	uint folded_at;  /* where the first chunk's result goes */
} range;

uint load(uint at)
{
	uint last = range.count - 1;
	uint word = message[range.first + min(at, last)];

	word &= at == 0 ? range.first_mask : ~0u;
	return at < last ? word : at == last ? word & range.last_mask : 0;
}

/* The row that lies `n` rows before row `i`: of this block, or of the one before. */
#define THIS_BLOCK(i, n) ((n) <= (i) ? rows[((i) + LEFT - (n)) % LEFT] : 0)
#define EARLIER_BLOCK(i, n) ((n) > (i) ? rows[((i) + LEFT - (n)) % LEFT] : 0)

/* All that is added to row `i`, but for the row 32 before it: that is where it goes. */
#define SUM(from, i)                                                                               \
	(from(i, 6) ^ from(i, 9) ^ from(i, 10) ^ from(i, 16) ^ from(i, 20) ^ from(i, 21) ^         \
	 from(i, 22) ^ from(i, 24) ^ from(i, 25) ^ from(i, 27) ^ from(i, 28) ^ from(i, 30) ^       \
	 from(i, 31))

/* The rows of the last block stay in the message: they are not added to each other. */
#define FOLD(i)                                                                                    \
	rows[(i)] ^= load(at + (i) * LANES) ^ SUM(EARLIER_BLOCK, i) ^                              \
		     (SUM(THIS_BLOCK, i) & taken_out)

/* Spelled out, since an array that is indexed by a variable lives in memory. */
#define FOLD8(i)										   \
	FOLD(i);										   \
	FOLD((i) + 1);										   \
	FOLD((i) + 2);										   \
	FOLD((i) + 3);										   \
	FOLD((i) + 4);										   \
	FOLD((i) + 5);										   \
	FOLD((i) + 6);										   \
	FOLD((i) + 7)

void main()
{
	uint lane = gl_LocalInvocationID.x;
	uint at = gl_WorkGroupID.x * BLOCKS * LEFT * LANES + lane;
	uint result = range.folded_at + gl_WorkGroupID.x * LEFT * LANES + lane;
	uint rows[LEFT];

	for (uint i = 0; i < LEFT; i++)
		rows[i] = 0;
	for (uint block = 0; block < BLOCKS; block++) {
		uint taken_out = block == BLOCKS - 1 ? 0 : ~0u;

		FOLD8(0);
		FOLD8(8);
		FOLD8(16);
		FOLD8(24);
		at += LEFT * LANES;
	}
	for (uint i = 0; i < LEFT; i++)
		folded[result + i * LANES] = rows[i];
}
