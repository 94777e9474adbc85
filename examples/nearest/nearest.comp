#version 450
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cosine of the angle between one row of a matrix and each of its rows. An invocation
 * has a row to itself: simple, and fast enough for a vocabulary.
 */

layout(local_size_x = 64) in;

layout(push_constant) uniform Shape
{
	uint first; /* where in `values` the matrix begins */
	uint rows;
	uint columns;
	uint row; /* the one that all are compared with */
};

layout(std430, set = 0, binding = 0) readonly buffer Matrix { float values[]; };
layout(std430, set = 0, binding = 1) writeonly buffer Cosines { float cosines[]; };

void main()
{
	const uint own = gl_GlobalInvocationID.x;
	const uint a = first + own * columns;
	const uint b = first + row * columns;
	float product = 0, a_square = 0, b_square = 0;

	if (own >= rows)
		return;
	for (uint i = 0; i < columns; i++) {
		product += values[a + i] * values[b + i];
		a_square += values[a + i] * values[a + i];
		b_square += values[b + i] * values[b + i];
	}
	/* A row of zeros has no direction: it is like no other. */
	cosines[own] = a_square * b_square > 0 ? product * inversesqrt(a_square * b_square) : 0;
}
