/* SPDX-License-Identifier: Apache-2.0 */
/* What gds-bench bench tells of its measurement. */
#ifndef BENCH_BENCH_REPORT_H
#define BENCH_BENCH_REPORT_H

#include "options.h"
#include "setup.h"
#include "stats.h"

#include <gds/gds.h>
#include <jansson.h>

#define MOST_STORAGE 16

struct bench;

struct measurement {
	uint64_t working_set; /* bytes */
	uint64_t reads;
	uint64_t bytes;
	uint64_t nanoseconds;
	struct cpu_time cpu;
	struct gds_stats before;
	struct gds_stats after;
	uint64_t path_bytes[GDS_PATH_COUNT];
	struct histogram latency;
	struct gds_storage_stats storage[MOST_STORAGE]; /* that the reader has met */
	size_t storage_count;
};

void bench_report_text(const struct bench *bench, const struct measurement *result);
void bench_report_json(const struct bench *bench, const struct measurement *result);

/* What every report of a benchmark begins with: device, lane, files and options. */
void bench_put_settings(json_t *report, const struct bench *bench);

#endif
