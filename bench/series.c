/* SPDX-License-Identifier: Apache-2.0 */
#include "series.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Points are this far apart; when there are too many, twice as far, and so on. */
#define FIRST_INTERVAL_NS 20000000
#define MOST_POINTS       600

static bool is_program(const char *directory, size_t length, const char *name)
{
	char path[4096];

	snprintf(path, sizeof(path), "%.*s/%s", (int)length, directory, name);
	return access(path, X_OK) == 0;
}

enum status series_check(const char *output)
{
	const char *path = getenv("PATH");
	size_t length;

	for (; path && *path; path += length + (path[length] == ':')) {
		length = strcspn(path, ":");
		if (is_program(path, length, "gnuplot"))
			return STATUS_OK;
	}
	return fail(STATUS_UNAVAILABLE,
		    "no gnuplot: --plot %s: install it (gnuplot-nox), or leave the plot out",
		    output);
}

void series_begin(struct series *series, uint64_t now_ns)
{
	free(series->points);
	*series = (struct series){
		.begin_ns = now_ns,
		.last_ns = now_ns,
		.interval_ns = FIRST_INTERVAL_NS,
	};
	histogram_clear(&series->latency);
}

/* Two neighbours become one: a long run is drawn with no more points than a short one. */
static void thin_out(struct series *series)
{
	size_t kept = 0;

	for (size_t i = 0; i + 1 < series->count; i += 2) {
		const struct series_point *a = &series->points[i];
		const struct series_point *b = &series->points[i + 1];

		series->points[kept++] = (struct series_point){
			.ns = b->ns,
			.span_ns = a->span_ns + b->span_ns,
			.bytes = a->bytes + b->bytes,
			.p50_ns = (a->p50_ns + b->p50_ns) / 2,
			.p99_ns = a->p99_ns > b->p99_ns ? a->p99_ns : b->p99_ns,
		};
	}
	series->count = kept;
	series->interval_ns *= 2;
}

void series_tick(struct series *series, uint64_t now_ns)
{
	if (now_ns - series->last_ns < series->interval_ns || series->latency.count == 0)
		return;
	if (!series->points)
		series->points = calloc(MOST_POINTS, sizeof(*series->points));
	if (!series->points)
		return;
	series->points[series->count++] = (struct series_point){
		.ns = now_ns - series->begin_ns,
		.span_ns = now_ns - series->last_ns,
		.bytes = series->bytes,
		.p50_ns = histogram_percentile(&series->latency, 50),
		.p99_ns = histogram_percentile(&series->latency, 99),
	};
	series->last_ns = now_ns;
	series->bytes = 0;
	histogram_clear(&series->latency);
	if (series->count == MOST_POINTS)
		thin_out(series);
}

/* Text in gnuplot's single quotes, where only the quote itself means anything. */
static void print_quoted(FILE *stream, const char *text)
{
	fputc('\'', stream);
	for (; *text; text++) {
		if (*text == '\'')
			fputc('\'', stream);
		fputc(*text == '\n' ? ' ' : *text, stream);
	}
	fputc('\'', stream);
}

static void print_script(FILE *stream, const struct series *series, const char *output,
			 const char *title)
{
	fprintf(stream, "set terminal svg size 900,640 dynamic background rgb 'white'\n"
			"set output ");
	print_quoted(stream, output);
	fprintf(stream, "\n$points << end_of_points\n");
	for (size_t i = 0; i < series->count; i++) {
		const struct series_point *point = &series->points[i];

		fprintf(stream, "%.4f %.3f %.3f %.3f\n", (double)point->ns / 1e9,
			per_second((double)point->bytes, point->span_ns) / (1 << 20),
			(double)point->p50_ns / 1e3, (double)point->p99_ns / 1e3);
	}
	fprintf(stream, "end_of_points\nset multiplot layout 2,1 title ");
	print_quoted(stream, title);
	fprintf(stream, " noenhanced\n"
			"set grid\nset xlabel 'seconds'\n"
			"set ylabel 'MiB/s'\nset yrange [0:*]\n"
			"plot $points using 1:2 with lines title 'throughput'\n"
			"set ylabel 'microseconds'\nset logscale y\nset yrange [*:*]\n"
			"plot $points using 1:3 with lines title 'latency, 50%%', "
			"$points using 1:4 with lines title '99%%'\n"
			"unset multiplot\n");
}

enum status series_plot(const struct series *series, const char *output, const char *title)
{
	FILE *stream;
	int result;

	if (series->count == 0)
		return fail(STATUS_FAILED,
			    "nothing to plot: --plot %s: the run was over at once: measure for "
			    "longer, with --runtime",
			    output);
	stream = popen("gnuplot", "we");
	if (!stream)
		return fail(STATUS_FAILED, "cannot run gnuplot: --plot %s: %s: try again", output,
			    strerror(errno));
	print_script(stream, series, output, title);
	result = pclose(stream);
	if (result < 0 || !WIFEXITED(result) || WEXITSTATUS(result) != 0)
		return fail(STATUS_FAILED,
			    "gnuplot failed: --plot %s: what it said is above: check that the "
			    "folder can be written to",
			    output);
	return STATUS_OK;
}

void series_free(struct series *series)
{
	free(series->points);
	series->points = NULL;
}
