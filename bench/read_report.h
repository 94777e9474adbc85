/* SPDX-License-Identifier: Apache-2.0 */
/* What gds-bench read tells of the files it read. */
#ifndef BENCH_READ_REPORT_H
#define BENCH_READ_REPORT_H

#include "options.h"
#include "setup.h"
#include "stats.h"

#include <gds/gds.h>

/* What is told of one file. */
struct file_report {
	const char *name;
	char *error; /* the line that was said of it, or NULL */
	uint64_t bytes;
	uint64_t nanoseconds;
	struct cpu_time cpu;
	uint64_t path_bytes[GDS_PATH_COUNT];
	bool has_device_crc;
	bool verified;
	bool written;
	uint32_t device_crc;
	uint32_t cpu_crc;
};

/* Print `count` of them: as a table, or as JSON. */
void read_report_table(const struct options *options, const struct setup *setup,
		       const struct file_report *reports, size_t count);
void read_report_json(const struct options *options, const struct setup *setup,
		      const struct file_report *reports, size_t count);

#endif
