/* SPDX-License-Identifier: Apache-2.0 */
/* What gds-bench bench tells of its measurement. */
#ifndef BENCH_BENCH_REPORT_H
#define BENCH_BENCH_REPORT_H

#include "options.h"
#include "setup.h"
#include "stats.h"

#include <gds/gds.h>

struct measurement {
	uint64_t working_set; /* bytes */
	uint64_t reads;
	uint64_t nanoseconds;
	struct cpu_time cpu;
	struct gds_stats before;
	struct gds_stats after;
	uint64_t path_bytes[GDS_PATH_COUNT];
	struct histogram latency;
};

void bench_report_text(const struct options *options, const struct setup *setup,
		       const struct measurement *result);
void bench_report_json(const struct options *options, const struct setup *setup,
		       const struct measurement *result);

#endif
