/* SPDX-License-Identifier: Apache-2.0 */
/* What gds-bench read tells of the files it read. */
#include "read_report.h"

#include "report.h"
#include "sizes.h"

#include <inttypes.h>

static const char *outcome(const struct options *options, const struct file_report *report)
{
	if (report->error)
		return "FAILED";
	return options->verify ? "verified" : "not verified";
}

static void add_row(struct table *table, const struct options *options, const struct setup *setup,
		    const struct file_report *report)
{
	struct gds_stats stats = { .size = sizeof(stats) };
	char text[128], size[SIZE_TEXT_BYTES];

	gds_reader_stats(setup->reader, &stats);
	path_bytes_format(report->path_bytes, text, sizeof(text));
	table_add(table, "%s", report->name);
	table_add(table, "%s", setup->info.name);
	table_add(table, "%s", text);
	table_add(table, "%s", gds_lane_name((enum gds_lane)stats.lane));
	table_add(table, "%" PRIu64, report->bytes);
	table_add(table, "%s/s",
		  size_format(size, per_second((double)report->bytes, report->nanoseconds)));
	table_add(table, "%.3f", cpu_seconds_per_gib(&report->cpu, report->bytes));
	table_add(table, report->has_device_crc ? "%08x" : "-", report->device_crc);
	table_add(table, report->verified ? "%08x" : "-", report->cpu_crc);
	table_add(table, "%s", outcome(options, report));
}

void read_report_table(const struct options *options, const struct setup *setup,
		       const struct file_report *reports, size_t count)
{
	static const char *const heads[] = { "FILE",        "DEVICE", "PATH",      "LANE",
					     "BYTES",       "RATE",   "CPU s/GiB", "DEVICE CRC-32",
					     "FILE CRC-32", "RESULT" };
	const size_t columns = sizeof(heads) / sizeof(heads[0]);
	struct table table;

	table_begin(&table, columns);
	for (size_t i = 0; i < columns; i++)
		table_add(&table, "%s", heads[i]);
	for (size_t i = 0; i < count; i++)
		add_row(&table, options, setup, &reports[i]);
	table_print(&table);
}

static json_t *crc_json(bool known, uint32_t crc)
{
	return known ? json_sprintf("%08x", crc) : json_null();
}

static json_t *file_json(const struct options *options, const struct file_report *report)
{
	json_t *file = json_object();

	json_put(file, KEY_FILE, json_text(report->name));
	json_put(file, KEY_OFFSET, json_integer((json_int_t)options->offset));
	json_put(file, KEY_BYTES, json_integer((json_int_t)report->bytes));
	json_put(file, KEY_SECONDS, json_real((double)report->nanoseconds / 1e9));
	json_put(file, KEY_BYTES_PER_SECOND,
		 json_real(per_second((double)report->bytes, report->nanoseconds)));
	json_put_cpu(file, &report->cpu, report->bytes);
	json_put_path_bytes(file, report->path_bytes);
	json_put(file, KEY_DEVICE_CRC32, crc_json(report->has_device_crc, report->device_crc));
	json_put(file, KEY_CPU_CRC32, crc_json(report->verified, report->cpu_crc));
	json_put(file, KEY_VERIFIED,
		 options->verify ? json_boolean(report->verified) : json_null());
	json_put(file, KEY_OUTPUT, report->written ? json_text(options->output) : json_null());
	if (report->error)
		json_put(file, KEY_ERROR, json_text(report->error));
	return file;
}

void read_report_json(const struct options *options, const struct setup *setup,
		      const struct file_report *reports, size_t count)
{
	struct gds_stats stats = { .size = sizeof(stats) };
	json_t *report = json_report(COMMAND_READ);
	json_t *files = json_array();
	bool ok = true;

	gds_reader_stats(setup->reader, &stats);
	json_put_device(report, &setup->info);
	json_put(report, KEY_LANE, json_text(gds_lane_name((enum gds_lane)stats.lane)));
	json_put(report, KEY_LANE_REASON, json_text(gds_reader_lane_reason(setup->reader)));
	json_put(report, KEY_OPERATIONS, json_integer((json_int_t)stats.operations));
	json_put(report, KEY_RETRIES, json_integer((json_int_t)stats.retries));
	json_put(report, KEY_FALLBACKS, json_integer((json_int_t)stats.fallbacks));
	for (size_t i = 0; i < count; i++) {
		json_array_append_new(files, file_json(options, &reports[i]));
		ok = ok && !reports[i].error;
	}
	json_put(report, KEY_FILES, files);
	json_put(report, KEY_OK, json_boolean(ok));
	json_print(report);
}
