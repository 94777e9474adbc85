/* SPDX-License-Identifier: Apache-2.0 */
/* What is measured: time, CPU time, and how latencies are spread. */
#include "stats.h"

#include <string.h>
#include <sys/resource.h>
#include <time.h>

uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

double per_second(double amount, uint64_t nanoseconds)
{
	return nanoseconds ? amount * 1e9 / (double)nanoseconds : 0;
}

static double seconds_of(const struct timeval *time)
{
	return (double)time->tv_sec + (double)time->tv_usec / 1e6;
}

struct cpu_time cpu_time_now(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (struct cpu_time){ seconds_of(&usage.ru_utime), seconds_of(&usage.ru_stime) };
}

struct cpu_time cpu_time_since(const struct cpu_time *begin)
{
	struct cpu_time now = cpu_time_now();

	now.user_seconds -= begin->user_seconds;
	now.system_seconds -= begin->system_seconds;
	return now;
}

void cpu_time_add(struct cpu_time *sum, const struct cpu_time *part)
{
	sum->user_seconds += part->user_seconds;
	sum->system_seconds += part->system_seconds;
}

double cpu_seconds_per_gib(const struct cpu_time *cpu, uint64_t bytes)
{
	if (bytes == 0)
		return 0;
	return (cpu->user_seconds + cpu->system_seconds) / ((double)bytes / (1ull << 30));
}

void histogram_clear(struct histogram *histogram)
{
	memset(histogram, 0, sizeof(*histogram));
	histogram->low = UINT64_MAX;
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_high(unsigned int bucket)
{
	unsigned int shift;

	if (bucket < 2 * HISTOGRAM_STEPS)
		return bucket;
	shift = bucket / HISTOGRAM_STEPS - 1;
	return ((uint64_t)(bucket - shift * HISTOGRAM_STEPS + 1) << shift) - 1;
}

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
	return value < low ? low : value > high ? high : value;
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
	double below = (double)histogram->count * percent / 100;
	uint64_t seen = 0;

	if (histogram->count == 0)
		return 0;
	if (percent <= 0)
		return histogram->low;
	for (unsigned int i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
		seen += histogram->buckets[i];
		if ((double)seen >= below)
			return clamp(bucket_high(i), histogram->low, histogram->high);
	}
	return histogram->high;
}

double histogram_mean(const struct histogram *histogram)
{
	return histogram->count ? (double)histogram->sum / (double)histogram->count : 0;
}
