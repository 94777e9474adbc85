/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gds-bench bench --compare: each round measures every path once, in an order that
 * turns from round to round, so that a slow moment of the machine falls on all alike.
 */
#include "measure.h"
#include "report.h"
#include "signals.h"
#include "sizes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_COMPARED 4

enum figure {
	FIGURE_BANDWIDTH,
	FIGURE_IOPS,
	FIGURE_CPU,
	FIGURE_P50,
	FIGURE_P99,
	FIGURE_COUNT,
};

static const enum key figure_keys[FIGURE_COUNT] = {
	KEY_BYTES_PER_SECOND, KEY_IOPS, KEY_CPU_SECONDS_PER_GIB, KEY_P50, KEY_P99,
};

struct contender {
	enum gds_path path;
	double *figures[FIGURE_COUNT]; /* one a round */
};

struct comparison {
	struct contender contenders[MOST_COMPARED];
	size_t count;
	size_t rounds;
};

static enum status parse_paths(struct comparison *comparison, const char *text)
{
	size_t length;

	for (; *text; text += length + (text[length] == ',')) {
		int path = 0;

		length = strcspn(text, ",");
		while (path < GDS_PATH_COUNT &&
		       (strlen(gds_path_name((enum gds_path)path)) != length ||
			strncmp(gds_path_name((enum gds_path)path), text, length) != 0))
			path++;
		if (path == GDS_PATH_COUNT)
			return fail(STATUS_USAGE,
				    "bad value: --compare: there is no path %.*s: give paths such "
				    "as mapped,bounce",
				    (int)length, text);
		if (comparison->count == MOST_COMPARED)
			return fail(STATUS_USAGE, "bad value: --compare: give at most %d paths",
				    MOST_COMPARED);
		comparison->contenders[comparison->count++].path = (enum gds_path)path;
	}
	if (comparison->count < 2)
		return fail(STATUS_USAGE, "bad value: --compare: give two paths, such as "
					  "mapped,bounce");
	return STATUS_OK;
}

static void note(struct contender *contender, size_t round, const struct measurement *result)
{
	contender->figures[FIGURE_BANDWIDTH][round] =
		per_second((double)result->bytes, result->nanoseconds);
	contender->figures[FIGURE_IOPS][round] =
		per_second((double)result->reads, result->nanoseconds);
	contender->figures[FIGURE_CPU][round] = cpu_seconds_per_gib(&result->cpu, result->bytes);
	contender->figures[FIGURE_P50][round] = (double)histogram_percentile(&result->latency, 50);
	contender->figures[FIGURE_P99][round] = (double)histogram_percentile(&result->latency, 99);
}

static enum status run_rounds(struct bench *bench, struct comparison *comparison,
			      struct measurement *result)
{
	enum status status;

	for (size_t round = 0; round < comparison->rounds; round++)
		for (size_t turn = 0; turn < comparison->count; turn++) {
			struct contender *contender =
				&comparison->contenders[(round + turn) % comparison->count];

			status = bench_measure(bench, contender->path, result, NULL);
			if (status != STATUS_OK)
				return status;
			note(contender, round, result);
		}
	return STATUS_OK;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), ascending);
	return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* Of the median to that of the first path, which is what the others are set against. */
static double ratio(const double (*medians)[FIGURE_COUNT], size_t contender, enum figure figure)
{
	double first = medians[0][figure];

	return first > 0 ? medians[contender][figure] / first : 0;
}

static void print_text(const struct bench *bench, const struct comparison *comparison,
		       const double (*medians)[FIGURE_COUNT])
{
	char size[SIZE_TEXT_BYTES], p50[SIZE_TEXT_BYTES], p99[SIZE_TEXT_BYTES];
	struct table table;

	printf("file          %s\n", bench->name);
	printf("rounds        %zu of each path, interleaved; medians, and ratios to %s\n\n",
	       comparison->rounds, gds_path_name(comparison->contenders[0].path));
	table_begin(&table, 9);
	for (const char *const *head =
		     (const char *const[]){ "path", "bandwidth", "ratio", "IOPS", "ratio",
					    "CPU s/GiB", "ratio", "50%", "99%", NULL };
	     *head; head++)
		table_add(&table, "%s", *head);
	for (size_t i = 0; i < comparison->count; i++) {
		const double *of = medians[i];

		table_add(&table, "%s", gds_path_name(comparison->contenders[i].path));
		table_add(&table, "%s/s", size_format(size, of[FIGURE_BANDWIDTH]));
		table_add(&table, "%.2f", ratio(medians, i, FIGURE_BANDWIDTH));
		table_add(&table, "%.0f", of[FIGURE_IOPS]);
		table_add(&table, "%.2f", ratio(medians, i, FIGURE_IOPS));
		table_add(&table, "%.3f", of[FIGURE_CPU]);
		table_add(&table, "%.2f", ratio(medians, i, FIGURE_CPU));
		table_add(&table, "%s", duration_format(p50, of[FIGURE_P50]));
		table_add(&table, "%s", duration_format(p99, of[FIGURE_P99]));
	}
	table_print(&table);
}

static void print_json(const struct bench *bench, const struct comparison *comparison,
		       const double (*medians)[FIGURE_COUNT])
{
	json_t *report = json_report(COMMAND_BENCH);
	json_t *paths = json_array();

	bench_put_settings(report, bench);
	json_put(report, KEY_ROUNDS, json_integer((json_int_t)comparison->rounds));
	for (size_t i = 0; i < comparison->count; i++) {
		json_t *object = json_object();

		json_put(object, KEY_PATH,
			 json_text(gds_path_name(comparison->contenders[i].path)));
		for (int figure = 0; figure < FIGURE_COUNT; figure++)
			json_put(object, figure_keys[figure], json_real(medians[i][figure]));
		json_put(object, KEY_RATIO, json_real(ratio(medians, i, FIGURE_BANDWIDTH)));
		json_array_append_new(paths, object);
	}
	json_put(report, KEY_COMPARE, paths);
	json_put(report, KEY_OK, json_true());
	json_print(report);
}

static void report(const struct bench *bench, const struct comparison *comparison)
{
	double medians[MOST_COMPARED][FIGURE_COUNT];

	for (size_t i = 0; i < comparison->count; i++)
		for (int figure = 0; figure < FIGURE_COUNT; figure++)
			medians[i][figure] = median(comparison->contenders[i].figures[figure],
						    comparison->rounds);
	if (bench->options->json)
		print_json(bench, comparison, (const double(*)[FIGURE_COUNT])medians);
	else
		print_text(bench, comparison, (const double(*)[FIGURE_COUNT])medians);
}

enum status bench_compare(struct bench *bench)
{
	struct comparison comparison = { .rounds = bench->options->rounds };
	struct measurement *result = calloc(1, sizeof(*result));
	size_t figures = MOST_COMPARED * FIGURE_COUNT;
	double *values = calloc(figures * comparison.rounds, sizeof(*values));
	enum status status = parse_paths(&comparison, bench->options->compare);

	if (status == STATUS_OK && bench->options->plot)
		status = fail(STATUS_USAGE, "too much at once: --compare and --plot: take one");
	if (status == STATUS_OK && (!values || !result))
		status = fail(STATUS_FAILED, "out of memory: --rounds: give fewer");
	for (size_t i = 0; values && i < figures; i++)
		comparison.contenders[i / FIGURE_COUNT].figures[i % FIGURE_COUNT] =
			values + i * comparison.rounds;
	if (status == STATUS_OK)
		status = run_rounds(bench, &comparison, result);
	if (status == STATUS_OK)
		report(bench, &comparison);
	free(values);
	free(result);
	return status;
}
