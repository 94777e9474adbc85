/* SPDX-License-Identifier: Apache-2.0 */
/* What gds-bench bench tells of its measurement. */
#include "bench_report.h"

#include "measure.h"
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

static const char *pattern(const struct bench *bench)
{
	switch (bench->work.kind) {
	case WORK_PIECES:
		return "sample";
	case WORK_TRACE:
		return "trace";
	default:
		return bench->options->direction == DIRECTION_RANDREAD ? "randread" : "read";
	}
}

static void print_storage(const struct measurement *result)
{
	for (size_t i = 0; i < result->storage_count; i++) {
		const struct gds_storage_stats *storage = &result->storage[i];

		printf("storage       %s: %" PRIu64 " operations, %" PRIu64 " reads merged, depth "
		       "%" PRIu64 "\n",
		       storage->name, storage->operations, storage->reads_merged, storage->depth);
	}
}

static void print_devices(const struct bench *bench)
{
	struct gds_device_info info = { .size = sizeof(info) };

	for (size_t i = 0; i < bench->device_count; i++)
		if (gds_device_get_info(bench->devices[i], &info) == 0)
			printf("device        %s (%s)\n", info.name, info.description);
}

void bench_report_text(const struct bench *bench, const struct measurement *result)
{
	const struct options *options = bench->options;
	char text[128], size[SIZE_TEXT_BYTES], depth[32] = "found";

	path_bytes_format(result->path_bytes, text, sizeof(text));
	if (options->queue_depth)
		snprintf(depth, sizeof(depth), "%" PRIu64, options->queue_depth);
	printf("file          %s, %s of %s\n", bench->name,
	       size_format(size, (double)result->working_set),
	       bench->work.file_count > 1 ? "them" : "it");
	print_devices(bench);
	printf("reads         %" PRIu64 " x %s%s, %s, %s, queue depth %s, lane %s, path %s\n",
	       result->reads, work_varies(&bench->work) && bench->work.kind ? "up to " : "",
	       size_format(size, (double)bench->work.most_bytes), pattern(bench),
	       gds_class_name((enum gds_class)options->read_class), depth,
	       gds_lane_name((enum gds_lane)result->after.lane), text);
	printf("bandwidth     %s/s\n",
	       size_format(size, per_second((double)result->bytes, result->nanoseconds)));
	printf("IOPS          %.0f\n", per_second((double)result->reads, result->nanoseconds));
	print_latency(&result->latency);
	printf("CPU           %.3f s/GiB, user %.3f s, system %.3f s; per read: user %.2f us, "
	       "system %.2f us\n",
	       cpu_seconds_per_gib(&result->cpu, result->bytes), result->cpu.user_seconds,
	       result->cpu.system_seconds, us_per_read(result, result->cpu.user_seconds),
	       us_per_read(result, result->cpu.system_seconds));
	print_storage(result);
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

static json_t *devices_json(const struct bench *bench)
{
	struct gds_device_info info = { .size = sizeof(info) };
	json_t *devices = json_array();

	for (size_t i = 0; i < bench->device_count; i++) {
		json_t *object = json_object();

		if (gds_device_get_info(bench->devices[i], &info) == 0)
			json_put_device(object, &info);
		json_array_append_new(devices, object);
	}
	return devices;
}

void bench_put_settings(json_t *report, const struct bench *bench)
{
	const struct options *options = bench->options;
	struct gds_stats stats = { .size = sizeof(stats) };

	gds_reader_stats(bench->setup.reader, &stats);
	json_put_device(report, &bench->setup.info);
	json_put(report, KEY_DEVICES, devices_json(bench));
	json_put(report, KEY_LANE, json_text(gds_lane_name((enum gds_lane)stats.lane)));
	json_put(report, KEY_LANE_REASON, json_text(gds_reader_lane_reason(bench->setup.reader)));
	json_put(report, KEY_FILE, json_text(bench->work.files[0].name));
	json_put(report, KEY_FILE_COUNT, json_integer((json_int_t)bench->work.file_count));
	json_put(report, KEY_RW, json_text(pattern(bench)));
	json_put(report, KEY_CLASS, json_text(gds_class_name((enum gds_class)options->read_class)));
	json_put(report, KEY_BS, json_integer((json_int_t)bench->work.most_bytes));
	json_put(report, KEY_QD, json_integer((json_int_t)options->queue_depth));
	json_put(report, KEY_SIZE, json_integer((json_int_t)bench->work.bytes));
	json_put(report, KEY_SEED, json_integer((json_int_t)options->seed));
}

static json_t *storage_json(const struct measurement *result)
{
	json_t *array = json_array();

	for (size_t i = 0; i < result->storage_count; i++) {
		const struct gds_storage_stats *storage = &result->storage[i];
		json_t *object = json_object();

		json_put(object, KEY_NAME, json_text(storage->name));
		json_put(object, KEY_BYTES, json_integer((json_int_t)storage->bytes));
		json_put(object, KEY_OPERATIONS, json_integer((json_int_t)storage->operations));
		json_put(object, KEY_MERGED, json_integer((json_int_t)storage->reads_merged));
		json_put(object, KEY_DEPTH, json_integer((json_int_t)storage->depth));
		json_array_append_new(array, object);
	}
	return array;
}

void bench_report_json(const struct bench *bench, const struct measurement *result)
{
	const struct gds_stats *before = &result->before, *after = &result->after;
	uint64_t bytes = result->bytes;
	json_t *report = json_report(COMMAND_BENCH);

	bench_put_settings(report, bench);
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
	json_put(report, KEY_STORAGE, storage_json(result));
	json_put(report, KEY_OK, json_true());
	json_print(report);
}
