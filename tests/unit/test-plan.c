/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Properties of the plan, over seeded random reads: whatever the limits, the offset,
 * the place and the length, the operations fit the storage's rules, and together
 * bring every wanted byte once and in order, as many of them directly as can be.
 *
 * How many can be is counted by an oracle that knows nothing of how the plan cuts:
 * it looks at each block of the file by itself.
 */
#include "memory/slice.h"
#include "plan/plan.h"
#include "support/random.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define ROUNDS      300000
#define MOST_BLOCKS 150 /* of a read: the oracle counts them one by one */

struct sample {
	uint64_t round; /* what to set GDS_TEST_SEED to */
	struct plan_limits limits;
	struct plan plan;
};

#define CHECK(condition)                                               \
	do {                                                           \
		if (!(condition))                                      \
			fail_sample(sample, op, #condition, __LINE__); \
	} while (0)

static void fail_sample(const struct sample *sample, const struct plan_op *op, const char *what,
			int line)
{
	const struct plan_limits *limits = &sample->limits;

	print_error("line %d: %s does not hold\n"
		    "GDS_TEST_SEED=%" PRIu64 ": %" PRIu64 " bytes at %" PRIu64 " to %" PRIu64
		    "; offset_align %u memory_align %u base %u transfer %u staged %u direct %d\n",
		    line, what, sample->round, sample->plan.left, sample->plan.offset,
		    sample->plan.place, limits->offset_align, limits->memory_align, limits->base,
		    limits->transfer_bytes, limits->staged_bytes, limits->direct);
	if (op)
		print_error("operation: offset %" PRIu64 " place %" PRIu64
			    " length %u skip %u wanted %u staged %d\n",
			    op->offset, op->place, op->length, op->skip, op->wanted, op->staged);
	fail();
}

/* ---- Samples ------------------------------------------------------------------- */

static void make_limits(struct random *random, struct plan_limits *limits)
{
	static const uint32_t offset_aligns[] = { 1, 512, 4096, 16384 };
	static const uint32_t memory_aligns[] = { 1, 4, 512, 4096 };
	uint32_t align = offset_aligns[random_below(random, 4)];

	limits->offset_align = align;
	limits->memory_align = align == 1 ? 1 : memory_aligns[random_below(random, 4)];
	limits->base = random_chance(random, 700) ? 0 : (uint32_t)random_below(random, 4096);
	/* A reader's transfers are multiples of 4 KiB, the largest alignment of memory. */
	limits->transfer_bytes = (align > limits->memory_align ? align : limits->memory_align) *
				 (uint32_t)random_between(random, 1, 40);
	limits->staged_bytes = align * (uint32_t)random_between(random, 1, 40);
	limits->slice_bytes = SLICE_BYTES;
	limits->direct = random_chance(random, 850);
}

/* Half of the samples end up near a boundary of slices, where plans are hardest. */
static void make_read(struct random *random, const struct plan_limits *limits, struct plan *plan)
{
	uint64_t align = limits->offset_align;

	plan->left = random_skewed(random, MOST_BLOCKS * align + 1);
	plan->offset = random_skewed(random, UINT64_C(1) << 61);
	plan->place = random_skewed(random, UINT64_C(1) << 40);
	if (random_chance(random, 500))
		plan->place = SLICE_BYTES * random_between(random, 1, 5) -
			      random_below(random, plan->left + align + 1);
	if (random_chance(random, 300))
		plan->offset &= ~(align - 1);
	/* Congruent, so that direct operations are possible where limits allow any. */
	if (random_chance(random, 700))
		plan->place = (plan->place & ~UINT64_C(16383)) + (plan->offset & 16383) +
			      (random_chance(random, 300) ? 4096 - limits->base : 0) +
			      (random_chance(random, 100) ? 4 : 0);
}

static struct sample make_sample(uint64_t round)
{
	struct random random = { round };
	struct sample sample = { .round = round };

	make_limits(&random, &sample.limits);
	make_read(&random, &sample.limits, &sample.plan);
	return sample;
}

/* ---- The oracle ---------------------------------------------------------------- */

static uint64_t place_of(const struct sample *sample, uint64_t offset)
{
	return sample->plan.place + (offset - sample->plan.offset);
}

/*
 * A whole block can be direct where it lies in one slice and a direct operation can
 * have begun at it, or at one before it in the same slice.
 */
static uint64_t most_direct_bytes(const struct sample *sample)
{
	const struct plan_limits *limits = &sample->limits;
	const uint64_t align = limits->offset_align;
	const uint64_t end = sample->plan.offset + sample->plan.left;
	uint64_t block = (sample->plan.offset + align - 1) / align * align;
	uint64_t slice = UINT64_MAX;
	uint64_t bytes = 0;
	bool begun = false;

	for (; limits->direct && block + align <= end; block += align) {
		uint64_t first = place_of(sample, block);
		uint64_t last = first + align - 1;

		if (first / SLICE_BYTES != slice || first / SLICE_BYTES != last / SLICE_BYTES)
			begun = false;
		slice = first / SLICE_BYTES;
		if ((first + limits->base) % limits->memory_align == 0)
			begun = slice == last / SLICE_BYTES;
		bytes += begun ? align : 0;
	}
	return bytes;
}

/* ---- The checks ---------------------------------------------------------------- */

static void check_op(const struct sample *sample, const struct plan_op *op)
{
	const struct plan_limits *limits = &sample->limits;
	uint64_t last = op->place + op->wanted - 1;

	CHECK(op->wanted > 0);
	CHECK(op->offset % limits->offset_align == 0);
	CHECK(op->length % limits->offset_align == 0);
	CHECK((uint64_t)op->skip + op->wanted <= op->length);
	if (op->staged) {
		CHECK(op->length <= limits->staged_bytes);
		CHECK(op->skip < limits->offset_align);
		/* No block is read of which nothing is wanted. */
		CHECK(op->length - op->skip - op->wanted < limits->offset_align);
		return;
	}
	CHECK(limits->direct);
	CHECK(op->skip == 0 && op->wanted == op->length);
	CHECK(op->length <= limits->transfer_bytes);
	CHECK((op->place + limits->base) % limits->memory_align == 0);
	CHECK(op->place / SLICE_BYTES == last / SLICE_BYTES);
}

/* A plan that cuts too fine would be right and slow. */
static uint64_t most_operations(const struct sample *sample)
{
	const struct plan_limits *limits = &sample->limits;
	uint64_t step = limits->transfer_bytes < limits->staged_bytes ? limits->transfer_bytes
								      : limits->staged_bytes;
	uint64_t blocks_before_direct = 2 * (1 + limits->memory_align / limits->offset_align);

	/* Four places where a cut may be short: both edges, and around a slice's end. */
	return sample->plan.left / step + 4 * (1 + blocks_before_direct);
}

static void check_plan(const struct sample *sample)
{
	struct plan plan = sample->plan;
	struct plan_op latest;
	struct plan_op *op = NULL;
	uint64_t brought = 0;
	uint64_t direct = 0;
	uint64_t operations = 0;

	while (plan_next(&plan, &sample->limits, &latest)) {
		op = &latest;
		CHECK(++operations <= most_operations(sample));
		check_op(sample, op);
		CHECK(op->offset + op->skip == sample->plan.offset + brought);
		CHECK(op->place == sample->plan.place + brought);
		brought += op->wanted;
		direct += op->staged ? 0 : op->wanted;
		CHECK(plan.left == sample->plan.left - brought);
	}
	CHECK(brought == sample->plan.left);
	CHECK(direct == most_direct_bytes(sample));
	CHECK(!plan_next(&plan, &sample->limits, &latest));
}

static void random_reads_are_cut_into_operations_that_bring_each_byte_once(void **state)
{
	uint64_t rounds = test_number("GDS_TEST_ROUNDS", ROUNDS);
	uint64_t seed = test_seed();
	struct sample sample;

	print_message("GDS_TEST_SEED=%" PRIu64 ", %" PRIu64 " rounds\n", seed, rounds);
	for (uint64_t i = 0; i < (test_seed_given() ? 1 : rounds); i++) {
		sample = make_sample(seed + i);
		check_plan(&sample);
	}
}

/* ---- By hand: what the random ones must not lose sight of ------------------------ */

static const struct plan_limits usual = {
	.offset_align = 512,
	.memory_align = 512,
	.transfer_bytes = 1 << 20,
	.staged_bytes = 1 << 20,
	.direct = true,
};

static struct plan_op next(struct plan *plan)
{
	struct plan_op op;

	assert_true(plan_next(plan, &usual, &op));
	return op;
}

/* A file whose runs end at random, at multiples of the alignment. */
struct runs {
	struct plan_map map;
	uint64_t align;
	uint64_t seed;
};

static bool run_ends_at(const struct runs *runs, uint64_t offset)
{
	struct random random = { runs->seed ^ offset };

	return random_chance(&random, 200);
}

static uint64_t bytes_together(struct plan_map *map, uint64_t offset, uint64_t bytes)
{
	const struct runs *runs = (const struct runs *)map;
	uint64_t together = runs->align;

	while (together < bytes && !run_ends_at(runs, offset + together))
		together += runs->align;
	return together < bytes ? together : bytes;
}

static void operations_end_where_runs_of_the_file_do_and_bring_each_byte_once(void **state)
{
	uint64_t first = test_number("GDS_TEST_SEED", (uint64_t)time(NULL));
	const uint64_t rounds = test_number("GDS_TEST_ROUNDS", 20000);

	(void)state;
	print_message("GDS_TEST_SEED=%" PRIu64 "\n", first);
	for (uint64_t round = first; round < first + rounds; round++) {
		struct sample taken = make_sample(round);
		const struct sample *sample = &taken;
		struct runs runs = { { bytes_together }, taken.limits.offset_align, round };
		struct plan_op made;
		const struct plan_op *op = &made;
		struct plan plan = taken.plan;
		uint64_t offset = plan.offset;

		taken.limits.map = &runs.map;
		while (plan_next(&plan, &taken.limits, &made)) {
			check_op(sample, op);
			CHECK(op->offset + op->skip == offset);
			CHECK(op->place == place_of(sample, offset));
			for (uint64_t at = runs.align; at < op->length; at += runs.align)
				CHECK(!run_ends_at(&runs, op->offset + at));
			offset += op->wanted;
		}
		op = NULL;
		CHECK(offset == taken.plan.offset + taken.plan.left);
	}
}

static void an_aligned_read_is_one_direct_operation(void **state)
{
	struct plan plan = { .offset = 4096, .place = 512, .left = 8192 };
	struct plan_op op = next(&plan);

	assert_false(op.staged);
	assert_int_equal(op.length, 8192);
	assert_false(plan_next(&plan, &usual, &op));
}

static void only_the_edges_of_an_unaligned_read_are_staged(void **state)
{
	struct plan plan = { .offset = 1000, .place = 1000, .left = 10000 };
	struct plan_op head = next(&plan);
	struct plan_op body = next(&plan);
	struct plan_op tail = next(&plan);

	assert_true(head.staged && !body.staged && tail.staged);
	assert_int_equal(head.offset, 512);
	assert_int_equal(head.skip, 488);
	assert_int_equal(head.wanted, 24);
	assert_int_equal(body.offset, 1024);
	assert_int_equal(body.length, 9728);
	assert_int_equal(tail.wanted, 10000 - 24 - 9728);
	assert_false(plan_next(&plan, &usual, &head));
}

static void a_read_of_nothing_has_no_operation(void **state)
{
	struct plan plan = { .offset = 1000, .place = 1000 };
	struct plan_op op;

	assert_false(plan_next(&plan, &usual, &op));
}

static void a_read_over_4_gib_of_a_far_offset_keeps_all_64_bits(void **state)
{
	struct plan plan = { .offset = UINT64_C(5) << 40, .left = (UINT64_C(5) << 30) + 512 };
	struct plan_op op;
	uint64_t bytes = 0;

	while (plan_next(&plan, &usual, &op)) {
		assert_int_equal(op.offset, (UINT64_C(5) << 40) + bytes);
		assert_int_equal(op.place, bytes);
		bytes += op.wanted;
	}
	assert_int_equal(bytes, (UINT64_C(5) << 30) + 512);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_reads_are_cut_into_operations_that_bring_each_byte_once),
		cmocka_unit_test(operations_end_where_runs_of_the_file_do_and_bring_each_byte_once),
		cmocka_unit_test(an_aligned_read_is_one_direct_operation),
		cmocka_unit_test(only_the_edges_of_an_unaligned_read_are_staged),
		cmocka_unit_test(a_read_of_nothing_has_no_operation),
		cmocka_unit_test(a_read_over_4_gib_of_a_far_offset_keeps_all_64_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
