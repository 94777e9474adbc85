/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results for people (tables) and for programs (JSON). A JSON key can be written
 * only by its name in enum key, whose table is what the man page prints.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "options.h"
#include "stats.h"

#include <gds/gds.h>
#include <jansson.h>

enum key {
	KEY_VERSION,
	KEY_COMMAND,
	KEY_OK,
	KEY_ERROR,
	/* check */
	KEY_KERNEL,
	KEY_LOCKED_MEMORY_BYTES,
	KEY_LANES,
	KEY_DEVICES,
	KEY_BACKEND,
	KEY_USABLE,
	KEY_REASON,
	KEY_REMEDY,
	KEY_PATH,
	KEY_PATHS,
	KEY_DIRECT,
	KEY_DIRECT_REASON,
	KEY_LAYOUT,
	KEY_DRIVES,
	KEY_OFFSET_ALIGNMENT,
	KEY_MEMORY_ALIGNMENT,
	KEY_DMABUF_READS,
	KEY_PROOF,
	KEY_PROVEN,
	KEY_CONCLUSION,
	KEY_BUFFER_BYTES,
	KEY_PROBES,
	KEY_PROBE,
	KEY_BUFFER_OFFSET,
	KEY_FINDING,
	KEY_RIGHT_BYTES,
	KEY_UNTOUCHED_BYTES,
	KEY_STALE_BYTES,
	KEY_OTHER_BYTES,
	KEY_AROUND_BYTES,
	/* a device */
	KEY_DEVICE,
	KEY_DESCRIPTION,
	KEY_DRIVER,
	KEY_MEMORY_BYTES,
	KEY_UNIFIED,
	KEY_PCI,
	/* a lane */
	KEY_LANE,
	KEY_LANE_REASON,
	/* read and bench */
	KEY_FILES,
	KEY_FILE,
	KEY_OFFSET,
	KEY_BYTES,
	KEY_SECONDS,
	KEY_BYTES_PER_SECOND,
	KEY_CPU_USER_SECONDS,
	KEY_CPU_SYSTEM_SECONDS,
	KEY_CPU_SECONDS_PER_GIB,
	KEY_PATH_BYTES,
	KEY_OPERATIONS,
	KEY_RETRIES,
	KEY_FALLBACKS,
	/* read */
	KEY_DEVICE_CRC32,
	KEY_CPU_CRC32,
	KEY_VERIFIED,
	KEY_OUTPUT,
	/* bench */
	KEY_FILE_COUNT,
	KEY_RW,
	KEY_CLASS,
	KEY_BS,
	KEY_QD,
	KEY_SIZE,
	KEY_SEED,
	KEY_READS,
	KEY_IOPS,
	KEY_CPU_USER_US_PER_READ,
	KEY_CPU_SYSTEM_US_PER_READ,
	KEY_LATENCY_NS,
	KEY_MIN,
	KEY_MEAN,
	KEY_P50,
	KEY_P90,
	KEY_P99,
	KEY_P99_9,
	KEY_MAX,
	KEY_STORAGE,
	KEY_NAME,
	KEY_MERGED,
	KEY_DEPTH,
	KEY_ROUNDS,
	KEY_COMPARE,
	KEY_RATIO,
	KEY_COUNT,
};

struct key_spec {
	const char *name;
	unsigned int commands; /* bits of the commands that print it */
	const char *help;
};

extern const struct key_spec key_specs[KEY_COUNT];

/* Sets a key; takes over `value`. */
void json_put(json_t *object, enum key key, json_t *value);

/* A string of whatever bytes: those that are no UTF-8 become '?'. */
json_t *json_text(const char *text);

/* The object every command's output is: with its version and command. */
json_t *json_report(enum command command);

/* Prints the report on standard output and lets go of it. */
void json_print(json_t *report);

void json_put_device(json_t *object, const struct gds_device_info *info);
void json_put_cpu(json_t *object, const struct cpu_time *cpu, uint64_t bytes);
void json_put_path_bytes(json_t *object, const uint64_t path_bytes[GDS_PATH_COUNT]);

/* "mapped", or "mapped 1.00 GiB, bounce 4.00 KiB" where several carried bytes; "-" if none. */
void path_bytes_format(const uint64_t path_bytes[GDS_PATH_COUNT], char *text, size_t bytes);

/*
 * A table whose columns are as wide as they need to be. Cells are copied; a row
 * is full when TABLE's number of columns have been added.
 */
#define TABLE_MOST_COLUMNS 10

struct table {
	size_t columns; /* at most TABLE_MOST_COLUMNS */
	int widths[TABLE_MOST_COLUMNS];
	size_t used;
	size_t room;
	char **cells;
};

void table_begin(struct table *table, size_t columns);
void table_add(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_print(struct table *table); /* and empties it */

#endif
