/* SPDX-License-Identifier: Apache-2.0 */
/* One measurement: keeps a queue of reads full, and counts what comes back. */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include "bench_report.h"
#include "series.h"
#include "setup.h"
#include "work.h"

#define MOST_BENCH_DEVICES 16

/* What measurements have in common, opened once. */
struct bench {
	const struct options *options;
	struct setup setup; /* the first device, and the reader */
	struct gds_device *devices[MOST_BENCH_DEVICES];
	size_t device_count;
	struct work work;
	char name[256]; /* of what is read, for people */
};

enum status bench_open(struct bench *bench, const struct options *options);
void bench_close(struct bench *bench);

/* Measures reads by `path`. `series` may be NULL. */
enum status bench_measure(struct bench *bench, enum gds_path path, struct measurement *result,
			  struct series *series);

/* gds-bench bench --compare: paths against each other, round by round. */
enum status bench_compare(struct bench *bench);

#endif
