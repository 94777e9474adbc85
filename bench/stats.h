/* SPDX-License-Identifier: Apache-2.0 */
/* What is measured: time, CPU time, and how latencies are spread. */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

#include <stdint.h>

/* Nanoseconds of CLOCK_MONOTONIC, the clock of the library's results. */
uint64_t clock_ns(void);

/* What an amount over a time makes a second; 0 where no time went by. */
double per_second(double amount, uint64_t nanoseconds);

/* CPU time of this process, with the threads the library and the driver made. */
struct cpu_time {
	double user_seconds;
	double system_seconds;
};

struct cpu_time cpu_time_now(void);
struct cpu_time cpu_time_since(const struct cpu_time *begin);
void cpu_time_add(struct cpu_time *sum, const struct cpu_time *part);

/* CPU seconds, user and system, for each GiB of `bytes`. */
double cpu_seconds_per_gib(const struct cpu_time *cpu, uint64_t bytes);

/*
 * A histogram of nanoseconds. A power of two is cut into HISTOGRAM_STEPS equal
 * buckets, so that a value is known to 1.6 per cent from 0 to 18 seconds and
 * recording is a shift and an add.
 */
#define HISTOGRAM_STEP_BITS 6
#define HISTOGRAM_STEPS     (1u << HISTOGRAM_STEP_BITS)
#define HISTOGRAM_TOP_BIT   34
#define HISTOGRAM_BUCKETS   ((HISTOGRAM_TOP_BIT - HISTOGRAM_STEP_BITS + 1) * HISTOGRAM_STEPS)

struct histogram {
	uint64_t count;
	uint64_t sum;
	uint64_t low;
	uint64_t high;
	uint64_t buckets[HISTOGRAM_BUCKETS]; /* a run of hours has more than 32 bits of reads */
};

void histogram_clear(struct histogram *histogram);

/*
 * Values below two rounds of steps have a bucket each. Above, the bits after the
 * leading one choose among HISTOGRAM_STEPS buckets of its power of two.
 */
static inline unsigned int histogram_bucket(uint64_t value)
{
	unsigned int shift;

	if (value < HISTOGRAM_STEPS)
		return (unsigned int)value;
	if (value >> HISTOGRAM_TOP_BIT)
		return HISTOGRAM_BUCKETS - 1;
	shift = 63 - (unsigned int)__builtin_clzll(value) - HISTOGRAM_STEP_BITS;
	return shift * HISTOGRAM_STEPS + (unsigned int)(value >> shift);
}

/* Inline: it is called for each read that is measured. */
static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
	histogram->buckets[histogram_bucket(value)]++;
	histogram->count++;
	histogram->sum += value;
	if (value < histogram->low)
		histogram->low = value;
	if (value > histogram->high)
		histogram->high = value;
}

/* A value that `percent` of the values do not exceed; exact at 0 and 100, 0 if empty. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

double histogram_mean(const struct histogram *histogram);

#endif
