/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of gds-bench that need no device: sizes, options, histogram, offsets, tables. */
#include "offsets.h"
#include "options.h"
#include "report.h"
#include "sizes.h"
#include "stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void assert_size(const char *text, uint64_t bytes)
{
	uint64_t value = 0;

	assert_null(size_parse(text, &value));
	assert_int_equal(value, bytes);
}

static void sizes_are_powers_of_1024(void **state)
{
	(void)state;
	assert_size("0", 0);
	assert_size("512", 512);
	assert_size("512B", 512);
	assert_size("4k", 4096);
	assert_size("4K", 4096);
	assert_size("4KiB", 4096);
	assert_size("1M", 1 << 20);
	assert_size("2GiB", 2ull << 30);
	assert_size("2Gi", 2ull << 30);
	assert_size("1T", 1ull << 40);
	assert_size("16777215T", 16777215ull << 40);
	assert_size("18446744073709551615", UINT64_MAX);
}

static void sizes_that_mean_nothing_are_refused(void **state)
{
	static const char *const texts[] = { "",     "k",   "-1",        "+1",
					     " 1",   "1 k", "1.5G",      "4kB",
					     "4MB",  "4x",  "4kk",       "4kiBs",
					     "0x10", "1e3", "16777216T", "18446744073709551616" };
	uint64_t value;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (!size_parse(texts[i], &value))
			fail_msg("\"%s\" was taken for a size", texts[i]);
}

static void a_unit_that_may_be_decimal_is_called_so(void **state)
{
	uint64_t value;

	(void)state;
	assert_non_null(strstr(size_parse("4kB", &value), "1000 or 1024"));
}

static void times_have_units(void **state)
{
	uint64_t value;

	(void)state;
	assert_null(duration_parse("10", &value));
	assert_int_equal(value, 10000000000);
	assert_null(duration_parse("0.5s", &value));
	assert_int_equal(value, 500000000);
	assert_null(duration_parse("250ms", &value));
	assert_int_equal(value, 250000000);
	assert_null(duration_parse("2m", &value));
	assert_int_equal(value, 120000000000);
	assert_non_null(duration_parse("2h", &value));
	assert_non_null(duration_parse("-1", &value));
	assert_non_null(duration_parse("", &value));
	assert_non_null(duration_parse("1e300", &value));
	assert_non_null(duration_parse("0x10", &value));
}

static void sizes_print_as_they_are_read(void **state)
{
	char text[SIZE_TEXT_BYTES];

	(void)state;
	assert_string_equal(size_format(text, 0), "0 B");
	assert_string_equal(size_format(text, 1023), "1023 B");
	assert_string_equal(size_format(text, 4096), "4 KiB");
	assert_string_equal(size_format(text, 1.5 * 1024 * 1024), "1.50 MiB");
	assert_string_equal(size_format(text, 86.7 * 1024 * 1024), "86.7 MiB");
	assert_string_equal(duration_format(text, 12), "12 ns");
	assert_string_equal(duration_format(text, 1500), "1.50 us");
	assert_string_equal(duration_format(text, 12.3e6), "12.3 ms");
}

static int compare_values(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

#define VALUES 20000

static void fill_values(uint64_t values[VALUES], struct histogram *histogram)
{
	struct offsets random;

	offsets_begin(&random, true, 1, 1, 7);
	histogram_clear(histogram);
	for (size_t i = 0; i < VALUES; i++) {
		/* Magnitudes from one to four thousand million, alike often. */
		values[i] = offsets_random(&random) >> (32 + offsets_random(&random) % 32);
		histogram_add(histogram, values[i]);
	}
	qsort(values, VALUES, sizeof(values[0]), compare_values);
}

static void percentiles_are_within_two_per_cent(void **state)
{
	static const double percents[] = { 0, 1, 10, 50, 90, 99, 99.9, 100 };
	static uint64_t values[VALUES];
	static struct histogram histogram;

	(void)state;
	fill_values(values, &histogram);
	for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
		size_t rank = (size_t)(percents[i] / 100 * VALUES + 0.5);
		double exact = (double)values[rank ? rank - 1 : 0];
		double got = (double)histogram_percentile(&histogram, percents[i]);

		if (got < exact || got > exact * 1.02)
			fail_msg("%g%%: %g, and the values say %g", percents[i], got, exact);
	}
	assert_int_equal(histogram_percentile(&histogram, 0), values[0]);
	assert_int_equal(histogram_percentile(&histogram, 100), values[VALUES - 1]);
}

static void small_values_are_exact(void **state)
{
	static struct histogram histogram;

	(void)state;
	for (uint64_t value = 0; value < 2 * HISTOGRAM_STEPS; value++) {
		histogram_clear(&histogram);
		histogram_add(&histogram, value);
		histogram_add(&histogram, 1000000);
		assert_int_equal(histogram_percentile(&histogram, 50), value);
	}
}

static void a_value_beyond_the_histogram_is_kept(void **state)
{
	static struct histogram histogram;

	(void)state;
	histogram_clear(&histogram);
	assert_int_equal(histogram_percentile(&histogram, 50), 0);
	histogram_add(&histogram, UINT64_MAX / 2);
	assert_int_equal(histogram_percentile(&histogram, 50), UINT64_MAX / 2);
	assert_int_equal(histogram.high, UINT64_MAX / 2);
}

static void offsets_in_order_go_round(void **state)
{
	struct offsets offsets;

	(void)state;
	offsets_begin(&offsets, false, 3, 4096, 1);
	assert_int_equal(offsets_next(&offsets), 0);
	assert_int_equal(offsets_next(&offsets), 4096);
	assert_int_equal(offsets_next(&offsets), 8192);
	assert_int_equal(offsets_next(&offsets), 0);
}

#define BLOCKS 64
#define DRAWS  (BLOCKS * 1000)

static void random_offsets_reach_every_block_alike(void **state)
{
	unsigned int hits[BLOCKS] = { 0 };
	struct offsets offsets;

	(void)state;
	offsets_begin(&offsets, true, BLOCKS, 5000, 3);
	for (size_t i = 0; i < DRAWS; i++) {
		uint64_t offset = offsets_next(&offsets);

		assert_int_equal(offset % 5000, 0);
		assert_true(offset / 5000 < BLOCKS);
		hits[offset / 5000]++;
	}
	/* 1000 are expected of each; six standard deviations are 190. */
	for (size_t i = 0; i < BLOCKS; i++)
		assert_in_range(hits[i], 1000 - 190, 1000 + 190);
}

static void a_seed_gives_its_offsets_again(void **state)
{
	struct offsets one, same, other;
	unsigned int differ = 0;

	(void)state;
	offsets_begin(&one, true, 1 << 20, 512, 42);
	offsets_begin(&same, true, 1 << 20, 512, 42);
	offsets_begin(&other, true, 1 << 20, 512, 43);
	for (int i = 0; i < 100; i++) {
		uint64_t offset = offsets_next(&one);

		assert_int_equal(offset, offsets_next(&same));
		differ += offset != offsets_next(&other);
	}
	assert_true(differ > 90);
}

#define PARSE(options, command, ...) \
	options_parse(options, command, (char *[]){ __VA_ARGS__, NULL })

static void options_are_read_in_both_spellings(void **state)
{
	struct options options;

	(void)state;
	assert_int_equal(PARSE(&options, COMMAND_READ, "--path", "bounce", "a", "--qd=7", "b",
			       "--verify", "--offset=4k"),
			 STATUS_OK);
	assert_int_equal(options.path, GDS_PATH_BOUNCE);
	assert_int_equal(options.queue_depth, 7);
	assert_int_equal(options.offset, 4096);
	assert_true(options.verify);
	assert_int_equal(options.file_count, 2);
	assert_string_equal(options.files[0], "a");
	assert_string_equal(options.files[1], "b");
}

static void what_is_not_given_has_its_default(void **state)
{
	struct options options;

	(void)state;
	assert_int_equal(PARSE(&options, COMMAND_BENCH, "a"), STATUS_OK);
	assert_int_equal(options.path, GDS_PATH_AUTO);
	assert_int_equal(options.lane, GDS_LANE_AUTO);
	assert_int_equal(options.queue_depth, 32);
	assert_int_equal(options.block_bytes, 1 << 20);
	assert_int_equal(options.size, OPTION_UNSET);
	assert_int_equal(options.runtime, OPTION_UNSET);
	assert_null(options.device);
	assert_false(options.json);
}

static void files_may_look_like_options(void **state)
{
	struct options options;

	(void)state;
	assert_int_equal(PARSE(&options, COMMAND_READ, "--verify", "--", "--json", "-"), STATUS_OK);
	assert_int_equal(options.file_count, 2);
	assert_string_equal(options.files[0], "--json");
	assert_string_equal(options.files[1], "-");
	assert_false(options.json);
}

/* Every choice's place in the table is the value that the library knows it by. */
static void choices_are_the_librarys(void **state)
{
	(void)state;
	for (size_t i = 0; i < option_spec_count; i++) {
		const struct option_spec *spec = &option_specs[i];

		for (int value = 0; spec->choices && spec->choices[value]; value++) {
			if (strcmp(spec->name, "path") == 0)
				assert_string_equal(spec->choices[value],
						    gds_path_name((enum gds_path)value));
			if (strcmp(spec->name, "lane") == 0)
				assert_string_equal(spec->choices[value],
						    gds_lane_name((enum gds_lane)value));
		}
	}
}

static void a_bucket_of_a_long_run_does_not_overflow(void **state)
{
	struct histogram histogram;

	(void)state;
	histogram_clear(&histogram);
	histogram_add(&histogram, 10);
	histogram_add(&histogram, 20);
	histogram.buckets[histogram_bucket(10)] = UINT32_MAX;
	histogram.count = (uint64_t)UINT32_MAX + 1;
	histogram_add(&histogram, 10);
	assert_int_equal(histogram_percentile(&histogram, 50), 10);
}

static void an_option_is_in_the_table_once_for_a_command(void **state)
{
	(void)state;
	for (size_t i = 0; i < option_spec_count; i++)
		for (size_t j = 0; j < i; j++)
			if (strcmp(option_specs[i].name, option_specs[j].name) == 0)
				assert_false(option_specs[i].commands & option_specs[j].commands);
}

/* What tables print meanwhile. */
struct printed {
	int before; /* where it goes otherwise */
	FILE *file;
};

static void begin_printing(struct printed *printed)
{
	printed->file = tmpfile();
	assert_non_null(printed->file);
	fflush(stdout);
	printed->before = dup(STDOUT_FILENO);
	assert_true(printed->before >= 0);
	assert_true(dup2(fileno(printed->file), STDOUT_FILENO) >= 0);
}

static size_t end_printing(struct printed *printed, char *text, size_t bytes)
{
	size_t got;

	fflush(stdout);
	assert_true(dup2(printed->before, STDOUT_FILENO) >= 0);
	close(printed->before);
	rewind(printed->file);
	got = fread(text, 1, bytes - 1, printed->file);
	text[got] = '\0';
	fclose(printed->file);
	return got;
}

static void a_table_is_as_wide_as_its_widest_cells(void **state)
{
	struct printed printed;
	struct table table;
	char text[128];

	(void)state;
	begin_printing(&printed);
	table_begin(&table, 3);
	for (const char *const *cell =
		     (const char *const[]){ "a", "bcd", "e", "fghi", "j", "kl", NULL };
	     *cell; cell++)
		table_add(&table, "%s", *cell);
	table_print(&table);
	end_printing(&printed, text, sizeof(text));
	assert_string_equal(text, "a     bcd  e\n"
				  "fghi  j    kl\n");
}

/* A cost that grew by the square of the rows would keep this test from ending. */
static void a_table_of_many_rows_is_printed(void **state)
{
	const size_t rows = 300000;
	struct printed printed;
	struct table table;
	char text[16];

	(void)state;
	begin_printing(&printed);
	table_begin(&table, TABLE_MOST_COLUMNS);
	for (size_t i = 0; i < rows * TABLE_MOST_COLUMNS; i++)
		table_add(&table, "%zu", i % 10);
	table_print(&table);
	end_printing(&printed, text, sizeof(text));
	assert_memory_equal(text, "0  1  2  3  4", 13);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_powers_of_1024),
		cmocka_unit_test(sizes_that_mean_nothing_are_refused),
		cmocka_unit_test(a_unit_that_may_be_decimal_is_called_so),
		cmocka_unit_test(times_have_units),
		cmocka_unit_test(sizes_print_as_they_are_read),
		cmocka_unit_test(percentiles_are_within_two_per_cent),
		cmocka_unit_test(small_values_are_exact),
		cmocka_unit_test(a_value_beyond_the_histogram_is_kept),
		cmocka_unit_test(offsets_in_order_go_round),
		cmocka_unit_test(random_offsets_reach_every_block_alike),
		cmocka_unit_test(a_seed_gives_its_offsets_again),
		cmocka_unit_test(options_are_read_in_both_spellings),
		cmocka_unit_test(what_is_not_given_has_its_default),
		cmocka_unit_test(files_may_look_like_options),
		cmocka_unit_test(choices_are_the_librarys),
		cmocka_unit_test(a_bucket_of_a_long_run_does_not_overflow),
		cmocka_unit_test(an_option_is_in_the_table_once_for_a_command),
		cmocka_unit_test(a_table_is_as_wide_as_its_widest_cells),
		cmocka_unit_test(a_table_of_many_rows_is_printed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
