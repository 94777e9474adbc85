/* SPDX-License-Identifier: Apache-2.0 */
/* gds-bench bench: what is opened for it, and what it does with its measurements. */
#include "commands.h"
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_TRANSFER_BYTES ((uint64_t)1 << 20)

/* The devices behind the first one of --device A,B,C. */
static enum status open_more_devices(struct bench *bench, char *names)
{
	enum status status = STATUS_OK;
	char *rest = NULL;

	for (char *name = strtok_r(names, ",", &rest); name && status == STATUS_OK;
	     name = strtok_r(NULL, ",", &rest)) {
		if (bench->device_count == MOST_BENCH_DEVICES)
			return fail(STATUS_USAGE, "too many devices: --device: give at most %d",
				    MOST_BENCH_DEVICES);
		status = device_open(&bench->devices[bench->device_count], name);
		if (status == STATUS_OK)
			bench->device_count++;
	}
	return status;
}

static enum status open_devices(struct bench *bench)
{
	struct options first = *bench->options;
	char *names = strdup(first.device ? first.device : DEFAULT_DEVICE);
	char *comma = names ? strchr(names, ',') : NULL;
	enum status status;

	if (!names)
		return fail(STATUS_FAILED, "out of memory: --device: free some memory");
	if (comma)
		*comma = '\0';
	first.device = names;
	/* One operation for each read; neighbours among pieces may be joined to longer ones. */
	first.block_bytes = bench->work.most_bytes;
	if (bench->work.kind != WORK_BLOCKS && first.block_bytes < PIECE_TRANSFER_BYTES)
		first.block_bytes = PIECE_TRANSFER_BYTES;
	first.block_bytes = least(first.block_bytes, MOST_TRANSFER_BYTES);
	status = setup_open(&bench->setup, &first);
	if (status == STATUS_OK) {
		bench->devices[0] = bench->setup.device;
		bench->device_count = 1;
		if (comma)
			status = open_more_devices(bench, comma + 1);
	}
	free(names);
	return status;
}

enum status bench_open(struct bench *bench, const struct options *options)
{
	enum status status;
	char text[sizeof(bench->name)];

	*bench = (struct bench){ .options = options };
	status = options->plot ? series_check(options->plot) : STATUS_OK;
	if (status == STATUS_OK)
		status = work_open(&bench->work, options);
	if (status == STATUS_OK) {
		snprintf(bench->name, sizeof(bench->name), "%s",
			 work_name(&bench->work, text, sizeof(text)));
		make_one_line(bench->name);
		status = open_devices(bench);
	}
	return status;
}

void bench_close(struct bench *bench)
{
	work_close(&bench->work);
	for (size_t i = 1; i < bench->device_count; i++)
		gds_device_close(bench->devices[i]);
	setup_close(&bench->setup);
}

static enum status measure_once(struct bench *bench)
{
	const struct options *options = bench->options;
	struct series series = { 0 };
	struct measurement *result = calloc(1, sizeof(*result));
	enum status status;

	if (!result)
		return fail(STATUS_FAILED, "out of memory: gds-bench bench: free some memory");
	status = bench_measure(bench, (enum gds_path)options->path, result,
			       options->plot ? &series : NULL);
	if (status == STATUS_OK && options->json)
		bench_report_json(bench, result);
	else if (status == STATUS_OK)
		bench_report_text(bench, result);
	if (status == STATUS_OK && options->plot)
		status = series_plot(&series, options->plot, bench->name);
	series_free(&series);
	free(result);
	return status;
}

enum status command_bench(const struct options *options)
{
	struct bench bench;
	enum status status = bench_open(&bench, options);

	if (status == STATUS_OK)
		status = options->compare ? bench_compare(&bench) : measure_once(&bench);
	bench_close(&bench);
	return status;
}
