/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/plan.h"

#include "base/bits.h"

/*
 * Bytes of a direct operation that begins at the plan's next byte, 0 where none
 * can begin there. It ends with its slice, since each is registered by itself.
 */
static uint64_t direct_bytes(const struct plan *plan, const struct plan_limits *limits)
{
	uint64_t bytes;

	if (!limits->direct || !is_aligned(plan->offset, limits->offset_align) ||
	    !is_aligned(plan->place + limits->base, limits->memory_align))
		return 0;
	bytes = min_u64(plan->left, limits->transfer_bytes);
	if (limits->slice_bytes)
		bytes = min_u64(bytes,
				limits->slice_bytes - (plan->place & (limits->slice_bytes - 1)));
	return align_down(bytes, limits->offset_align);
}

/* Whether a direct operation can begin `edge` bytes further on. */
static bool direct_follows(const struct plan *plan, const struct plan_limits *limits, uint64_t edge)
{
	struct plan rest = { plan->offset + edge, plan->place + edge, plan->left - edge };

	return plan->left > edge && direct_bytes(&rest, limits) > 0;
}

/*
 * Blocks up to the next direct operation, so that only they need staging; 0 where
 * none follows. It may take some blocks for the address to be aligned as well, and
 * the one where that happens may lie across the end of a slice.
 */
static uint32_t blocks_of_edge(const struct plan *plan, const struct plan_limits *limits,
			       uint32_t skip)
{
	uint32_t most = 2 * (1 + limits->memory_align / limits->offset_align);

	for (uint32_t blocks = 1; limits->direct && blocks <= most; blocks++)
		if (direct_follows(plan, limits, (uint64_t)blocks * limits->offset_align - skip))
			return blocks;
	return 0;
}

static void cut_direct(struct plan *plan, uint64_t bytes, struct plan_op *op)
{
	*op = (struct plan_op){
		.offset = plan->offset,
		.place = plan->place,
		.length = (uint32_t)bytes,
		.wanted = (uint32_t)bytes,
	};
}

static void cut_staged(struct plan *plan, const struct plan_limits *limits, struct plan_op *op)
{
	uint32_t skip = (uint32_t)(plan->offset & (limits->offset_align - 1));
	uint64_t length = (uint64_t)blocks_of_edge(plan, limits, skip) * limits->offset_align;

	if (length == 0)
		length = align_up(min_u64(plan->left, limits->staged_bytes) + skip,
				  limits->offset_align);
	length = min_u64(length, limits->staged_bytes);
	*op = (struct plan_op){
		.offset = plan->offset - skip,
		.place = plan->place,
		.length = (uint32_t)length,
		.skip = skip,
		.wanted = (uint32_t)min_u64(length - skip, plan->left),
		.staged = true,
	};
}

/* Ends the operation where a run of the file on its device does. */
static void end_with_run(const struct plan_limits *limits, struct plan_op *op)
{
	uint64_t bytes = limits->map->together(limits->map, op->offset, op->length);

	/* A run that ends within a block is none to read by: let the block say so. */
	bytes = max_u64(align_down(bytes, limits->offset_align), limits->offset_align);
	if (bytes >= op->length)
		return;
	op->length = (uint32_t)bytes;
	op->wanted = (uint32_t)min_u64(op->wanted, bytes - op->skip);
}

bool plan_next(struct plan *plan, const struct plan_limits *limits, struct plan_op *op)
{
	uint64_t bytes;

	if (plan->left == 0)
		return false;
	bytes = direct_bytes(plan, limits);
	if (bytes > 0)
		cut_direct(plan, bytes, op);
	else
		cut_staged(plan, limits, op);
	if (limits->map)
		end_with_run(limits, op);
	plan->offset += op->wanted;
	plan->place += op->wanted;
	plan->left -= op->wanted;
	return true;
}
