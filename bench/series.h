/* SPDX-License-Identifier: Apache-2.0 */
/* How throughput and latency went over time, and the picture of it, drawn by gnuplot. */
#ifndef BENCH_SERIES_H
#define BENCH_SERIES_H

#include "stats.h"
#include "status.h"

#include <stddef.h>
#include <stdint.h>

struct series_point {
	uint64_t ns; /* since the beginning, at its end */
	uint64_t span_ns;
	uint64_t bytes;
	uint64_t p50_ns;
	uint64_t p99_ns;
};

struct series {
	struct series_point *points;
	size_t count;
	size_t room;
	uint64_t begin_ns;
	uint64_t interval_ns;
	uint64_t last_ns;
	uint64_t bytes; /* since then */
	struct histogram latency;
};

/* Whether gnuplot is there: asked before anything is measured. */
enum status series_check(const char *output);

void series_begin(struct series *series, uint64_t now_ns);

static inline void series_add(struct series *series, uint64_t bytes, uint64_t latency_ns)
{
	series->bytes += bytes;
	histogram_add(&series->latency, latency_ns);
}

/* Ends a point where its time is over. */
void series_tick(struct series *series, uint64_t now_ns);

/* Draws it into an SVG file. */
enum status series_plot(const struct series *series, const char *output, const char *title);

void series_free(struct series *series);

#endif
