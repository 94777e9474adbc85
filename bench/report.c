/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results for people (tables) and for programs (JSON). A JSON key can be written
 * only by its name in enum key, whose table is what the man page prints.
 */
#include "report.h"

#include "sizes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK COMMAND_BIT(COMMAND_CHECK)
#define READ  COMMAND_BIT(COMMAND_READ)
#define BENCH COMMAND_BIT(COMMAND_BENCH)
#define ALL   (CHECK | READ | BENCH)

const struct key_spec key_specs[KEY_COUNT] = {
	[KEY_VERSION] = { "version", ALL, "of the library" },
	[KEY_COMMAND] = { "command", ALL, "check, read or bench" },
	[KEY_OK] = { "ok", ALL, "whether the exit status is 0" },
	[KEY_ERROR] = { "error", CHECK | READ,
			"in the object of a file: the line that was said of it; absent if it went "
			"well" },
	[KEY_KERNEL] = { "kernel", CHECK, "release of the running kernel" },
	[KEY_LOCKED_MEMORY_BYTES] = { "locked_memory_bytes", CHECK,
				      "how much memory may be pinned (ulimit -l); null: no limit" },
	[KEY_LANES] = { "lanes", CHECK, "array of objects with lane, usable and reason" },
	[KEY_DEVICES] = { "devices", CHECK | BENCH,
			  "array of devices, and of backends that have none, with the reason" },
	[KEY_BACKEND] = { "backend", CHECK, "what the device was found by, such as vulkan" },
	[KEY_USABLE] = { "usable", CHECK, "whether the lane or path can be used" },
	[KEY_REASON] = { "reason", CHECK,
			 "why the device, lane or path cannot be used, or what slows it down; may "
			 "be empty" },
	[KEY_REMEDY] = { "remedy", CHECK, "what can be done about the reason; may be empty" },
	[KEY_PATH] = { "path", CHECK | BENCH,
		       "in the object of a file: the path that a read takes; in paths and proof: "
		       "which one" },
	[KEY_PATHS] = { "paths", CHECK, "array of objects with path, usable, reason and remedy" },
	[KEY_DIRECT] = { "direct", CHECK, "whether the file is read with O_DIRECT" },
	[KEY_DIRECT_REASON] = { "direct_reason", CHECK, "why it is not; may be empty" },
	[KEY_LAYOUT] = { "layout", CHECK,
			 "how a file lies on the devices below its file system; empty where it is "
			 "not read from there" },
	[KEY_DRIVES] = { "drives", CHECK, "array of texts on the drives that are read directly" },
	[KEY_OFFSET_ALIGNMENT] = { "offset_alignment", CHECK,
				   "of file offsets and lengths that need no edges" },
	[KEY_MEMORY_ALIGNMENT] = { "memory_alignment", CHECK, "of addresses that take O_DIRECT" },
	[KEY_DMABUF_READS] = { "dmabuf_reads", CHECK,
			       "what the kernel has of reads into dma-bufs, and in which shape" },
	[KEY_PROOF] = { "proof", CHECK,
			"in the object of a file: what the thorough proof found, with path, "
			"proven, conclusion, buffer_bytes and probes; absent where none was made" },
	[KEY_PROVEN] = { "proven", CHECK, "whether every byte of every probe was right" },
	[KEY_CONCLUSION] = { "conclusion", CHECK, "the same in words, with the first finding" },
	[KEY_BUFFER_BYTES] = { "buffer_bytes", CHECK, "memory of the device that was used" },
	[KEY_PROBES] = { "probes", CHECK,
			 "array of objects, one for each read: probe, offset, bytes, "
			 "buffer_offset, finding, path_bytes and counts of bytes" },
	[KEY_PROBE] = { "probe", CHECK, "what kind of read it is" },
	[KEY_BUFFER_OFFSET] = { "buffer_offset", CHECK, "where in the buffer it went" },
	[KEY_FINDING] = { "finding", CHECK,
			  "ok, untouched, stale, partial, elsewhere, around (bytes beside it "
			  "changed), checksum, error or not tried" },
	[KEY_RIGHT_BYTES] = { "right_bytes", CHECK, "that are the file's" },
	[KEY_UNTOUCHED_BYTES] = { "untouched_bytes", CHECK, "that are what was there before" },
	[KEY_STALE_BYTES] = { "stale_bytes", CHECK, "that are what was there before that" },
	[KEY_OTHER_BYTES] = { "other_bytes", CHECK, "that are anything else" },
	[KEY_AROUND_BYTES] = { "around_bytes", CHECK, "that were changed beside it" },
	[KEY_DEVICE] = { "device", ALL, "name of the device: what --device takes" },
	[KEY_DESCRIPTION] = { "description", ALL, "what its driver calls the device" },
	[KEY_DRIVER] = { "driver", ALL, "the driver and its version" },
	[KEY_MEMORY_BYTES] = { "memory_bytes", ALL, "memory of the device; 0 where unknown" },
	[KEY_UNIFIED] = { "unified", ALL, "whether host memory is the device's memory" },
	[KEY_PCI] = { "pci", ALL, "the device's PCI address; empty where it has none" },
	[KEY_LANE] = { "lane", ALL, "uring or threads" },
	[KEY_LANE_REASON] = { "lane_reason", ALL,
			      "why the lane is not io_uring, or what the kernel's io_uring lacks; "
			      "may be empty" },
	[KEY_FILES] = { "files", CHECK | READ, "array of objects, one for each file" },
	[KEY_FILE] = { "file", ALL, "the file's name" },
	[KEY_OFFSET] = { "offset", CHECK | READ, "where in the file the read began" },
	[KEY_BYTES] = { "bytes", ALL,
			"bytes that were read; in check's object of a file: its size" },
	[KEY_SECONDS] = { "seconds", READ | BENCH, "time that the reads took" },
	[KEY_BYTES_PER_SECOND] = { "bytes_per_second", READ | BENCH, "bytes over seconds" },
	[KEY_CPU_USER_SECONDS] = { "cpu_user_seconds", READ | BENCH,
				   "CPU time of the process during the reads, in user space" },
	[KEY_CPU_SYSTEM_SECONDS] = { "cpu_system_seconds", READ | BENCH, "the same in the kernel" },
	[KEY_CPU_SECONDS_PER_GIB] = { "cpu_seconds_per_gib", READ | BENCH,
				      "CPU time, user and system, for each GiB read" },
	[KEY_PATH_BYTES] = { "path_bytes", ALL,
			     "object with the bytes that each path carried: dmabuf, mapped, "
			     "bounce" },
	[KEY_OPERATIONS] = { "operations", READ | BENCH,
			     "operations that the reader gave to its lane, in the whole run" },
	[KEY_RETRIES] = { "retries", READ | BENCH, "operations that were issued again" },
	[KEY_FALLBACKS] = { "fallbacks", READ | BENCH,
			    "operations that changed their path or way of opening" },
	[KEY_DEVICE_CRC32] = { "device_crc32", READ,
			       "CRC-32 that the device computed, 8 hexadecimal digits, or null" },
	[KEY_CPU_CRC32] = { "cpu_crc32", READ,
			    "CRC-32 of a separate read of the file; null without --verify" },
	[KEY_VERIFIED] = { "verified", READ, "true: every byte was compared; null: not asked for" },
	[KEY_OUTPUT] = { "output", READ, "the file that was written; null without --output" },
	[KEY_FILE_COUNT] = { "file_count", BENCH, "files that are read; file is the first" },
	[KEY_RW] = { "rw", BENCH, "read, randread, sample or trace" },
	[KEY_CLASS] = { "class", BENCH, "foreground, prefetch or background" },
	[KEY_BS] = { "bs", BENCH, "most bytes of one read" },
	[KEY_QD] = { "qd", BENCH,
		     "operations in flight on each device of storage; 0: as many as were found to "
		     "pay" },
	[KEY_SIZE] = { "size", BENCH, "bytes of the working set" },
	[KEY_SEED] = { "seed", BENCH, "of the random offsets" },
	[KEY_READS] = { "reads", BENCH, "reads that were measured" },
	[KEY_IOPS] = { "iops", BENCH, "reads over seconds" },
	[KEY_CPU_USER_US_PER_READ] = { "cpu_user_us_per_read", BENCH,
				       "microseconds of CPU time in user space for each read" },
	[KEY_CPU_SYSTEM_US_PER_READ] = { "cpu_system_us_per_read", BENCH,
					 "the same in the kernel" },
	[KEY_LATENCY_NS] = { "latency_ns", BENCH,
			     "object of nanoseconds from a read's issue to its last byte, known to "
			     "1.6 per cent" },
	[KEY_MIN] = { "min", BENCH, "in latency_ns: the least" },
	[KEY_MEAN] = { "mean", BENCH, "in latency_ns: the mean" },
	[KEY_P50] = { "p50", BENCH, "in latency_ns: what half of the reads do not exceed" },
	[KEY_P90] = { "p90", BENCH, "in latency_ns: the same of 90 per cent" },
	[KEY_P99] = { "p99", BENCH, "in latency_ns: the same of 99 per cent" },
	[KEY_P99_9] = { "p99_9", BENCH, "in latency_ns: the same of 99.9 per cent" },
	[KEY_MAX] = { "max", BENCH, "in latency_ns: the most" },
	[KEY_STORAGE] = { "storage", BENCH,
			  "array of objects, one for each device of storage that was read from, "
			  "with name, bytes, operations, merged and depth, of the whole run" },
	[KEY_NAME] = { "name", BENCH, "in storage: what the kernel calls it" },
	[KEY_MERGED] = { "merged", BENCH,
			 "in storage: reads that the operation of the read before brought along" },
	[KEY_DEPTH] = { "depth", BENCH, "in storage: operations in flight that were allowed" },
	[KEY_ROUNDS] = { "rounds", BENCH, "with --compare: how often each path was measured" },
	[KEY_COMPARE] = { "compare", BENCH,
			  "with --compare, in the place of the figures: array of objects with "
			  "path, "
			  "the medians of bytes_per_second, iops, cpu_seconds_per_gib, p50 and p99 "
			  "(in nanoseconds), and ratio" },
	[KEY_RATIO] = { "ratio", BENCH, "in compare: of bytes_per_second to the first path's" },
};

void json_put(json_t *object, enum key key, json_t *value)
{
	json_object_set_new(object, key_specs[key].name, value);
}

json_t *json_text(const char *text)
{
	json_t *value = json_string(text);
	char *copy;

	if (value)
		return value;
	copy = strdup(text);
	for (char *byte = copy; byte && *byte; byte++)
		if ((unsigned char)*byte >= 0x80)
			*byte = '?';
	value = json_string(copy ? copy : "?");
	free(copy);
	return value;
}

json_t *json_report(enum command command)
{
	json_t *report = json_object();

	json_put(report, KEY_VERSION, json_text(gds_version()));
	json_put(report, KEY_COMMAND, json_text(command_specs[command].name));
	return report;
}

void json_print(json_t *report)
{
	json_dumpf(report, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	putchar('\n');
	json_decref(report);
}

void json_put_device(json_t *object, const struct gds_device_info *info)
{
	json_put(object, KEY_DEVICE, json_text(info->name));
	json_put(object, KEY_DESCRIPTION, json_text(info->description));
	json_put(object, KEY_DRIVER, json_text(info->driver));
	json_put(object, KEY_MEMORY_BYTES, json_integer((json_int_t)info->memory_bytes));
	json_put(object, KEY_UNIFIED, json_boolean(info->unified));
	json_put(object, KEY_PCI, json_text(info->pci));
}

void json_put_cpu(json_t *object, const struct cpu_time *cpu, uint64_t bytes)
{
	json_put(object, KEY_CPU_USER_SECONDS, json_real(cpu->user_seconds));
	json_put(object, KEY_CPU_SYSTEM_SECONDS, json_real(cpu->system_seconds));
	json_put(object, KEY_CPU_SECONDS_PER_GIB, json_real(cpu_seconds_per_gib(cpu, bytes)));
}

void json_put_path_bytes(json_t *object, const uint64_t path_bytes[GDS_PATH_COUNT])
{
	json_t *paths = json_object();

	for (int path = GDS_PATH_DMABUF; path < GDS_PATH_COUNT; path++)
		json_object_set_new(paths, gds_path_name((enum gds_path)path),
				    json_integer((json_int_t)path_bytes[path]));
	json_put(object, KEY_PATH_BYTES, paths);
}

void path_bytes_format(const uint64_t path_bytes[GDS_PATH_COUNT], char *text, size_t bytes)
{
	char size[SIZE_TEXT_BYTES];
	size_t used = 0;
	int carriers = 0;

	for (int path = GDS_PATH_DMABUF; path < GDS_PATH_COUNT; path++)
		carriers += path_bytes[path] != 0;
	snprintf(text, bytes, "-");
	for (int path = GDS_PATH_DMABUF; path < GDS_PATH_COUNT; path++) {
		if (!path_bytes[path] || used >= bytes)
			continue;
		used += (size_t)snprintf(text + used, bytes - used, "%s%s", used ? ", " : "",
					 gds_path_name((enum gds_path)path));
		if (carriers > 1 && used < bytes)
			used += (size_t)snprintf(text + used, bytes - used, " %s",
						 size_format(size, (double)path_bytes[path]));
	}
}

void table_begin(struct table *table, size_t columns)
{
	memset(table, 0, sizeof(*table));
	table->columns = columns;
}

void table_add(struct table *table, const char *format, ...)
{
	va_list args;
	char *text;
	int *width;

	if (table->used == table->room) {
		size_t room = table->room ? 2 * table->room : 64;
		char **cells = realloc(table->cells, room * sizeof(*cells));

		if (!cells)
			return;
		table->cells = cells;
		table->room = room;
	}
	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	if (!text)
		return;
	make_one_line(text);
	width = &table->widths[table->used % table->columns];
	if ((int)strlen(text) > *width)
		*width = (int)strlen(text);
	table->cells[table->used++] = text;
}

void table_print(struct table *table)
{
	for (size_t i = 0; i < table->used; i++) {
		bool last = i % table->columns == table->columns - 1;

		/* No blanks at the end of a line. */
		if (last)
			printf("%s\n", table->cells[i]);
		else
			printf("%-*s  ", table->widths[i % table->columns], table->cells[i]);
	}
	for (size_t i = 0; i < table->used; i++)
		free(table->cells[i]);
	free(table->cells);
	table_begin(table, table->columns);
}
