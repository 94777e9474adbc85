/* SPDX-License-Identifier: Apache-2.0 */
/* What gds-bench bench tells of its measurement. */
#include "bench_report.h"

#include "report.h"
#include "sizes.h"

#include <inttypes.h>

static double us_per_read(const struct measurement *result, double seconds)
{
	return result->reads ? seconds * 1e6 / (double)result->reads : 0;
}

static const struct {
	const char *name;
	enum key key;
	double percent;
} percentiles[] = {
	{ "50%", KEY_P50, 50 },
	{ "90%", KEY_P90, 90 },
	{ "99%", KEY_P99, 99 },
	{ "99.9%", KEY_P99_9, 99.9 },
};
#define PERCENTILE_COUNT (sizeof(percentiles) / sizeof(percentiles[0]))

static void print_latency(const struct histogram *latency)
{
	char text[SIZE_TEXT_BYTES];

	printf("latency      ");
	for (size_t i = 0; i < PERCENTILE_COUNT; i++)
		printf(" %s %s,", percentiles[i].name,
		       duration_format(text, (double)histogram_percentile(latency,
									  percentiles[i].percent)));
	printf(" mean %s", duration_format(text, histogram_mean(latency)));
	printf(", max %s\n", duration_format(text, (double)latency->high));
}

void bench_report_text(const struct options *options, const struct setup *setup,
		       const struct measurement *result)
{
	uint64_t bytes = result->reads * options->block_bytes;
	char text[128], size[SIZE_TEXT_BYTES];

	path_bytes_format(result->path_bytes, text, sizeof(text));
	printf("file          %s, %s of it\n", options->files[0],
	       size_format(size, (double)result->working_set));
	printf("device        %s (%s)\n", setup->info.name, setup->info.description);
	printf("reads         %" PRIu64 " x %s, %s, queue depth %" PRIu64 ", lane %s, path %s\n",
	       result->reads, size_format(size, (double)options->block_bytes),
	       options->direction == DIRECTION_RANDREAD ? "randread" : "read", options->queue_depth,
	       gds_lane_name((enum gds_lane)result->after.lane), text);
	printf("bandwidth     %s/s\n",
	       size_format(size, per_second((double)bytes, result->nanoseconds)));
	printf("IOPS          %.0f\n", per_second((double)result->reads, result->nanoseconds));
	print_latency(&result->latency);
	printf("CPU           %.3f s/GiB, user %.3f s, system %.3f s; per read: user %.2f us, "
	       "system %.2f us\n",
	       cpu_seconds_per_gib(&result->cpu, bytes), result->cpu.user_seconds,
	       result->cpu.system_seconds, us_per_read(result, result->cpu.user_seconds),
	       us_per_read(result, result->cpu.system_seconds));
}

static json_t *latency_json(const struct histogram *latency)
{
	json_t *object = json_object();

	json_put(object, KEY_MIN, json_integer((json_int_t)(latency->count ? latency->low : 0)));
	json_put(object, KEY_MEAN, json_real(histogram_mean(latency)));
	for (size_t i = 0; i < PERCENTILE_COUNT; i++)
		json_put(object, percentiles[i].key,
			 json_integer((json_int_t)histogram_percentile(latency,
								       percentiles[i].percent)));
	json_put(object, KEY_MAX, json_integer((json_int_t)latency->high));
	return object;
}

static void put_settings(json_t *report, const struct options *options, const struct setup *setup,
			 const struct measurement *result)
{
	json_put_device(report, &setup->info);
	json_put(report, KEY_LANE, json_text(gds_lane_name((enum gds_lane)result->after.lane)));
	json_put(report, KEY_LANE_REASON, json_text(gds_reader_lane_reason(setup->reader)));
	json_put(report, KEY_FILE, json_text(options->files[0]));
	json_put(report, KEY_RW,
		 json_text(options->direction == DIRECTION_RANDREAD ? "randread" : "read"));
	json_put(report, KEY_BS, json_integer((json_int_t)options->block_bytes));
	json_put(report, KEY_QD, json_integer((json_int_t)options->queue_depth));
	json_put(report, KEY_SIZE, json_integer((json_int_t)result->working_set));
	json_put(report, KEY_SEED, json_integer((json_int_t)options->seed));
}

void bench_report_json(const struct options *options, const struct setup *setup,
		       const struct measurement *result)
{
	const struct gds_stats *before = &result->before, *after = &result->after;
	uint64_t bytes = result->reads * options->block_bytes;
	json_t *report = json_report(COMMAND_BENCH);

	put_settings(report, options, setup, result);
	json_put(report, KEY_READS, json_integer((json_int_t)result->reads));
	json_put(report, KEY_BYTES, json_integer((json_int_t)bytes));
	json_put(report, KEY_SECONDS, json_real((double)result->nanoseconds / 1e9));
	json_put(report, KEY_BYTES_PER_SECOND,
		 json_real(per_second((double)bytes, result->nanoseconds)));
	json_put(report, KEY_IOPS,
		 json_real(per_second((double)result->reads, result->nanoseconds)));
	json_put_cpu(report, &result->cpu, bytes);
	json_put(report, KEY_CPU_USER_US_PER_READ,
		 json_real(us_per_read(result, result->cpu.user_seconds)));
	json_put(report, KEY_CPU_SYSTEM_US_PER_READ,
		 json_real(us_per_read(result, result->cpu.system_seconds)));
	json_put(report, KEY_LATENCY_NS, latency_json(&result->latency));
	json_put_path_bytes(report, result->path_bytes);
	json_put(report, KEY_OPERATIONS,
		 json_integer((json_int_t)(after->operations - before->operations)));
	json_put(report, KEY_RETRIES, json_integer((json_int_t)(after->retries - before->retries)));
	json_put(report, KEY_FALLBACKS,
		 json_integer((json_int_t)(after->fallbacks - before->fallbacks)));
	json_put(report, KEY_OK, json_true());
	json_print(report);
}
