/* SPDX-License-Identifier: Apache-2.0 */
/* The allocator over a BAR, against a map of single pages. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "vfio/space.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096, PAGES = 64, ROUNDS = 20000 };

static void a_space_can_be_filled_to_the_last_page(void **state)
{
	struct space space;
	uint64_t offset;

	space_init(&space, 3 * PAGE);
	assert_int_equal(space_take(&space, 4 * PAGE, &offset), -ENOSPC);
	assert_int_equal(space_take(&space, 2 * PAGE, &offset), 0);
	assert_int_equal(offset, 0);
	assert_int_equal(space_take(&space, 2 * PAGE, &offset), -ENOSPC);
	assert_int_equal(space_take(&space, PAGE, &offset), 0);
	assert_int_equal(offset, 2 * PAGE);
	assert_int_equal(space_free_bytes(&space), 0);
	assert_int_equal(space_take(&space, PAGE, &offset), -ENOSPC);
	space_give(&space, 0);
	assert_int_equal(space_take(&space, PAGE, &offset), 0);
	assert_int_equal(offset, 0);
	space_destroy(&space);
}

static void sizes_that_would_overflow_are_refused(void **state)
{
	struct space space;
	uint64_t offset;

	space_init(&space, 3 * PAGE);
	assert_int_equal(space_take(&space, PAGE, &offset), 0);
	assert_int_equal(space_take(&space, UINT64_MAX, &offset), -ENOSPC);
	assert_int_equal(space_take(&space, UINT64_MAX - PAGE + 1, &offset), -ENOSPC);
	space_destroy(&space);
}

/* Where the first gap of so many pages is, or PAGES. */
static size_t first_gap(const size_t *owner, size_t pages)
{
	size_t run = 0;

	for (size_t i = 0; i < PAGES; i++) {
		run = owner[i] ? 0 : run + 1;
		if (run == pages)
			return i + 1 - pages;
	}
	return PAGES;
}

static void pages_are_given_out_once_and_by_first_fit(void **state)
{
	size_t owner[PAGES] = { 0 }; /* pages of the range that begins here or before */
	struct space space;
	uint64_t offset;

	space_init(&space, PAGES * PAGE);
	for (int round = 0; round < ROUNDS; round++) {
		size_t at = (size_t)random() % PAGES, pages = (size_t)random() % 12 + 1;
		size_t gap = first_gap(owner, pages);

		if (owner[at] && (at == 0 || owner[at] != owner[at - 1])) {
			size_t id = owner[at];

			space_give(&space, at * PAGE);
			for (size_t i = at; i < PAGES && owner[i] == id; i++)
				owner[i] = 0;
		} else if (gap == PAGES) {
			assert_int_equal(space_take(&space, pages * PAGE, &offset), -ENOSPC);
		} else {
			assert_int_equal(space_take(&space, pages * PAGE, &offset), 0);
			assert_int_equal(offset, gap * PAGE);
			for (size_t i = gap; i < gap + pages; i++)
				owner[i] = (size_t)round + 1;
		}
	}
	space_destroy(&space);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_space_can_be_filled_to_the_last_page),
		cmocka_unit_test(sizes_that_would_overflow_are_refused),
		cmocka_unit_test(pages_are_given_out_once_and_by_first_fit),
	};

	srandom(20261124);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
