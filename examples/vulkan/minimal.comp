#version 450
/* SPDX-License-Identifier: Apache-2.0 */
/* Adds up the 32-bit words of a buffer. */

layout(local_size_x = 64) in;

layout(std430, set = 0, binding = 0) readonly buffer Data { uint words[]; };
layout(std430, set = 0, binding = 1) buffer Sum { uint sum; };

void main()
{
	uint own = 0;

	for (uint i = gl_GlobalInvocationID.x; i < words.length();
	     i += gl_NumWorkGroups.x * gl_WorkGroupSize.x)
		own += words[i];
	atomicAdd(sum, own);
}
