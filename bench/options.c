/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line. Two tables, of commands and of options, drive the parsing,
 * --help and the man page, so that they cannot disagree.
 */
#include "options.h"

#include "sizes.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK COMMAND_BIT(COMMAND_CHECK)
#define READ  COMMAND_BIT(COMMAND_READ)
#define BENCH COMMAND_BIT(COMMAND_BENCH)
#define ALL   (CHECK | READ | BENCH)

#define FIELD(name) offsetof(struct options, name)
#define KIB(n)      ((uint64_t)(n) << 10)
#define MIB(n)      ((uint64_t)(n) << 20)
#define SECONDS(n)  ((uint64_t)(n)*1000000000)
#define ANY_SIZE    0, INT64_MAX

/* In the order of enum gds_path, enum gds_lane and enum direction; shapes as setup.c has them. */
static const char *const path_choices[] = { "auto", "dmabuf", "mapped", "bounce", NULL };
static const char *const lane_choices[] = { "auto", "uring", "threads", NULL };
static const char *const shape_choices[] = { "auto", "v2", "v3", NULL };
static const char *const class_choices[] = { "foreground", "prefetch", "background", NULL };
static const char *const direction_choices[] = { "read", "randread", NULL };

const struct command_spec command_specs[COMMAND_COUNT] = {
	[COMMAND_CHECK] = {
		"check", "[[DEVICE] FILE...]", 0, SIZE_MAX,
		"show devices, lanes and paths, and why one cannot be used; prove a path",
		"Lists the devices that can be opened and, for each backend that has none, the "
		"reason; the lanes, and what this kernel lacks; and, for each file and device, "
		"which path a read would take and, for each path that it cannot take, the reason "
		"and the remedy. Without a file the program's own executable is looked at. Where a "
		"device is named, before the files or by --device, the direct path into its memory "
		"is proven (or the path that --path names, or, where there is no direct path, the "
		"one that is taken): reads of many sizes and places, up to a whole slice of 1 GiB, "
		"go into poisoned memory, and every byte of them and around them is compared as "
		"the device sees it.",
	},
	[COMMAND_READ] = {
		"read", "FILE...", 1, SIZE_MAX,
		"read files into the memory of a device",
		"Reads each file, or a range of it, into the memory of a device and prints which "
		"path carried how many bytes, how fast, at what cost, and the checksum of what the "
		"device then holds. A directory stands for all files below it, symbolic links aside. A range that is larger than the buffer is streamed through it "
		"piece by piece. The time is that of the reads alone: allocating and registering "
		"the buffer, checksums and verification do not count.",
	},
	[COMMAND_BENCH] = {
		"bench", "FILE...", 0, SIZE_MAX,
		"measure bandwidth, latency and CPU time",
		"Keeps a queue of reads full and reports bandwidth, reads per second, latency "
		"percentiles and CPU time. A directory stands for all files below it, symbolic links aside. What is read "
		"is every block of the files, or random pieces of them (--sample), or what a trace "
		"names (--trace). Without --runtime or --count every block of the working set is "
		"read once; with --runtime it is gone round as often as fits.",
	},
};

const struct option_spec option_specs[] = {
	{ "device", "DEVICE", ALL, OPTION_TEXT, FIELD(device), 0, 0, NULL, 0,
	  "the device to read into: BACKEND, BACKEND:INDEX or BACKEND:TEXT, where TEXT is part "
	  "of its description, such as vulkan:0, vulkan:llvmpipe or host; bench takes several, "
	  "with commas between them, which reads take turns in (default: vulkan:0; "
	  "check: every device)" },
	{ "path", "PATH", ALL, OPTION_CHOICE, FIELD(path), 0, 0, path_choices, 0,
	  "how the bytes must travel: dmabuf (the drive writes into the device's memory), mapped "
	  "(the storage writes into host pages that the device addresses), bounce (into staging "
	  "memory, and from there by a device copy), or auto, the best that works. A path that "
	  "was asked for and cannot be taken gives exit status 3" },
	{ "lane", "LANE", ALL, OPTION_CHOICE, FIELD(lane), 0, 0, lane_choices, 0,
	  "what issues the reads: uring (io_uring), threads (a pool with preadv2), or auto, which "
	  "takes threads only where io_uring is refused" },
	{ "shape", "SHAPE", ALL, OPTION_CHOICE, FIELD(shape), 0, 0, shape_choices, 0,
	  "in which shape the kernel's dma-buf interface is spoken: v2 (pairs of descriptors), "
	  "v3 (80-byte descriptions), or auto, the newest that the kernel has" },
	{ "host-memory", NULL, ALL, OPTION_FLAG, FIELD(host_memory), 0, 0, NULL, 0,
	  "allocate host pages that the device addresses, also where it has memory of its own" },
	{ "qd", "N", READ | BENCH, OPTION_NUMBER, FIELD(queue_depth), 0, 4096, NULL, 32,
	  "operations in flight on each device of storage; 0: as many as saturate it, found by "
	  "measuring" },
	{ "class", "CLASS", READ | BENCH, OPTION_CHOICE, FIELD(read_class), 0, 0, class_choices, 0,
	  "whose reads these are: foreground ones go before prefetch, and that before background" },
	{ "bs", "SIZE", READ, OPTION_SIZE, FIELD(block_bytes), KIB(4), MIB(64), NULL, MIB(1),
	  "most bytes of one operation, a multiple of 4k" },
	{ "bs", "SIZE", BENCH, OPTION_SIZE, FIELD(block_bytes), 1, MIB(64), NULL, MIB(1),
	  "bytes of one read; random offsets are multiples of it" },
	{ "staging", "SIZE", ALL, OPTION_SIZE, FIELD(staging_bytes), MIB(1), MIB(1024), NULL, 0,
	  "host memory for the bounce path and for unaligned edges, at least 4 operations and a "
	  "multiple of 4k (default: 64M, or 4 operations if that is more)" },
	{ "threads", "N", ALL, OPTION_NUMBER, FIELD(threads), 1, 256, NULL, 8,
	  "threads of the thread lane" },
	{ "no-fallback", NULL, READ | BENCH, OPTION_FLAG, FIELD(no_fallback), 0, 0, NULL, 0,
	  "fail a read rather than let it change to another path than its first" },

	{ "offset", "SIZE", READ, OPTION_SIZE, FIELD(offset), ANY_SIZE, NULL, 0,
	  "where in each file to begin" },
	{ "length", "SIZE", READ, OPTION_SIZE, FIELD(length), ANY_SIZE, NULL, OPTION_UNSET,
	  "how much of each file to read; it is an error if a file ends before "
	  "(default: to its end)" },
	{ "length", "SIZE", CHECK, OPTION_SIZE, FIELD(length), KIB(4), INT64_MAX, NULL,
	  OPTION_UNSET,
	  "how much of each file the largest read of a proof takes (default: 1G and a bit, or "
	  "what the file and half of the device's memory allow)" },
	{ "no-proof", NULL, CHECK, OPTION_FLAG, FIELD(no_proof), 0, 0, NULL, 0,
	  "only say what can be used: read nothing but what finding that out takes" },
	{ "buffer-bytes", "SIZE", READ, OPTION_SIZE, FIELD(buffer_bytes), KIB(4), INT64_MAX, NULL,
	  OPTION_UNSET,
	  "most memory of the device to take (default: what the file needs, up to a quarter of "
	  "the device's memory, or 1G where that is not known)" },
	{ "buffer-offset", "SIZE", READ, OPTION_SIZE, FIELD(buffer_offset), ANY_SIZE, NULL,
	  OPTION_UNSET,
	  "where in the buffer the first byte goes (default: where no byte needs moving for its "
	  "alignment)" },
	{ "verify", NULL, READ, OPTION_FLAG, FIELD(verify), 0, 0, NULL, 0,
	  "fill the buffer with the complement of the file before the read; afterwards read the "
	  "file again by ordinary means, compare every byte with what the device holds, and "
	  "the device's checksum with the CPU's" },
	{ "no-checksum", NULL, CHECK | READ, OPTION_FLAG, FIELD(no_checksum), 0, 0, NULL, 0,
	  "do not have the device compute a checksum" },
	{ "output", "FILE", READ, OPTION_TEXT, FIELD(output), 0, 0, NULL, 0,
	  "write what the device's memory holds after the read; FILE appears, or is replaced, "
	  "only when it is complete" },

	{ "rw", "PATTERN", BENCH, OPTION_CHOICE, FIELD(direction), 0, 0, direction_choices, 0,
	  "read (in order) or randread (blocks at random)" },
	{ "sample", "SIZE", BENCH, OPTION_TEXT, FIELD(sample), 0, 0, NULL, 0,
	  "read random pieces of this size, or of sizes between two, such as 2k-200k; --count "
	  "tells how many" },
	{ "align", "SIZE", BENCH, OPTION_SIZE, FIELD(align), 1, MIB(64), NULL, 1,
	  "what offsets and lengths of the random pieces are multiples of" },
	{ "batch", "N", BENCH, OPTION_NUMBER, FIELD(batch), 1, 10000000, NULL, OPTION_UNSET,
	  "reads that are submitted together; with few there are as many batches in flight as keep "
	  "the queue full (default: half of --qd)" },
	{ "trace", "TRACE", BENCH, OPTION_TEXT, FIELD(trace), 0, 0, NULL, 0,
	  "read what the lines of this file say, one \"path offset length\" a line, in their "
	  "order; empty lines and those that begin with # are passed over" },
	{ "compare", "PATHS", BENCH, OPTION_TEXT, FIELD(compare), 0, 0, NULL, 0,
	  "measure these paths in turn, such as mapped,bounce, and print medians and ratios to the "
	  "first; --runtime is that of one measurement" },
	{ "rounds", "N", BENCH, OPTION_NUMBER, FIELD(rounds), 1, 1000, NULL, 5,
	  "how often --compare measures each path" },
	{ "plot", "FILE", BENCH, OPTION_TEXT, FIELD(plot), 0, 0, NULL, 0,
	  "draw throughput and latency over time into this SVG file, by gnuplot" },
	{ "size", "SIZE", BENCH, OPTION_SIZE, FIELD(size), 1, INT64_MAX, NULL, OPTION_UNSET,
	  "the working set, from the beginning of the files (default: all of them)" },
	{ "runtime", "TIME", BENCH, OPTION_DURATION, FIELD(runtime), 1, SECONDS(1000000000), NULL,
	  OPTION_UNSET,
	  "how long to measure, going round the working set as often as fits "
	  "(default: one pass)" },
	{ "warmup", "TIME", BENCH, OPTION_DURATION, FIELD(warmup), 0, SECONDS(1000000000), NULL, 0,
	  "how long to read before measuring (default: 0)" },
	{ "count", "N", BENCH, OPTION_NUMBER, FIELD(count), 1, INT64_MAX, NULL, OPTION_UNSET,
	  "measure this many reads (default: no limit)" },
	{ "seed", "N", BENCH, OPTION_NUMBER, FIELD(seed), 0, UINT64_MAX - 1, NULL, 1,
	  "of the random offsets; the same seed gives the same offsets" },

	{ "json", NULL, ALL, OPTION_FLAG, FIELD(json), 0, 0, NULL, 0,
	  "print the results as JSON on standard output; gds-bench(1) documents the keys" },
};
const size_t option_spec_count = sizeof(option_specs) / sizeof(option_specs[0]);

enum command command_find(const char *name)
{
	int command = 0;

	while (command < COMMAND_COUNT && strcmp(command_specs[command].name, name) != 0)
		command++;
	return (enum command)command;
}

static void set_number(struct options *options, const struct option_spec *spec, uint64_t value)
{
	memcpy((char *)options + spec->field, &value, sizeof(value));
}

static void set_text(struct options *options, const struct option_spec *spec, const char *text)
{
	memcpy((char *)options + spec->field, &text, sizeof(text));
}

static void set_defaults(struct options *options, enum command command)
{
	memset(options, 0, sizeof(*options));
	options->command = command;
	for (size_t i = 0; i < option_spec_count; i++)
		if (option_specs[i].type != OPTION_TEXT &&
		    option_specs[i].commands & COMMAND_BIT(command))
			set_number(options, &option_specs[i], option_specs[i].initial);
}

/* `name` ends at a '=' or at its end. */
static const struct option_spec *find_option(enum command command, const char *name, size_t length)
{
	for (size_t i = 0; i < option_spec_count; i++)
		if (option_specs[i].commands & COMMAND_BIT(command) &&
		    strlen(option_specs[i].name) == length &&
		    memcmp(option_specs[i].name, name, length) == 0)
			return &option_specs[i];
	return NULL;
}

static const char *parse_choice(const struct option_spec *spec, const char *text, uint64_t *value)
{
	static char wrong[128];
	size_t used;

	for (uint64_t i = 0; spec->choices[i]; i++)
		if (strcmp(spec->choices[i], text) == 0) {
			*value = i;
			return NULL;
		}
	used = (size_t)snprintf(wrong, sizeof(wrong), "not one of");
	for (size_t i = 0; spec->choices[i]; i++)
		used += (size_t)snprintf(wrong + used, sizeof(wrong) - used, "%s %s", i ? "," : "",
					 spec->choices[i]);
	return wrong;
}

static const char *parse_number(const char *text, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || *end != '\0')
		return "not a whole number";
	return errno ? "larger than 64 bits can hold" : NULL;
}

static const char *check_range(const struct option_spec *spec, uint64_t value)
{
	static char wrong[128];
	char low[SIZE_TEXT_BYTES], high[SIZE_TEXT_BYTES];

	if (value >= spec->low && value <= spec->high)
		return NULL;
	if (spec->type == OPTION_SIZE && value < spec->low)
		snprintf(wrong, sizeof(wrong), "too small: give at least %s",
			 size_format(low, (double)spec->low));
	else if (spec->type == OPTION_SIZE)
		snprintf(wrong, sizeof(wrong), "too large: give at most %s",
			 size_format(high, (double)spec->high));
	else if (spec->type == OPTION_DURATION)
		snprintf(wrong, sizeof(wrong), "%s", value ? "too long" : "must not be zero");
	else
		snprintf(wrong, sizeof(wrong), "give a number from %" PRIu64 " to %" PRIu64,
			 spec->low, spec->high);
	return wrong;
}

/* Returns NULL, or what is wrong with the value. */
static const char *parse_value(struct options *options, const struct option_spec *spec,
			       const char *text)
{
	const char *wrong = NULL;
	uint64_t value = 0;

	switch (spec->type) {
	case OPTION_TEXT:
		set_text(options, spec, text);
		return text[0] ? NULL : "must not be empty";
	case OPTION_CHOICE:
		wrong = parse_choice(spec, text, &value);
		break;
	case OPTION_SIZE:
		wrong = size_parse(text, &value);
		break;
	case OPTION_DURATION:
		wrong = duration_parse(text, &value);
		break;
	case OPTION_NUMBER:
		wrong = parse_number(text, &value);
		break;
	case OPTION_FLAG:
		value = 1;
		break;
	}
	if (!wrong && spec->type != OPTION_CHOICE && spec->type != OPTION_FLAG)
		wrong = check_range(spec, value);
	set_number(options, spec, value);
	return wrong;
}

/* Reads the option in `(*arguments)[0]` and leaves `*arguments` at its last word. */
static enum status parse_option(struct options *options, char ***arguments)
{
	const char *name = **arguments + 2;
	size_t length = strcspn(name, "=");
	const char *command = command_specs[options->command].name;
	const struct option_spec *spec = find_option(options->command, name, length);
	const char *value = name[length] ? name + length + 1 : NULL;
	const char *wrong;

	if (!spec)
		return fail(STATUS_USAGE, "unknown option: --%.*s: see gds-bench %s --help",
			    (int)length, name, command);
	if (spec->type == OPTION_FLAG && value)
		return fail(STATUS_USAGE, "option takes no value: --%s: leave out \"=%s\"",
			    spec->name, value);
	if (spec->type != OPTION_FLAG && !value)
		value = *++*arguments;
	if (spec->type != OPTION_FLAG && !value)
		return fail(STATUS_USAGE, "option without its value: --%s: give it a %s",
			    spec->name, spec->value);
	wrong = parse_value(options, spec, value);
	if (wrong)
		return fail(STATUS_USAGE, "bad value: --%s %s: %s", spec->name, value, wrong);
	return STATUS_OK;
}

static enum status check_operands(const struct options *options)
{
	const struct command_spec *spec = &command_specs[options->command];

	if (options->file_count < spec->operands_low)
		return fail(STATUS_USAGE, "no file: gds-bench %s: give it %s", spec->name,
			    spec->operands);
	if (options->file_count > spec->operands_high)
		return fail(STATUS_USAGE, "too many files: %s: %s takes %s", options->files[1],
			    spec->name, spec->operands);
	return STATUS_OK;
}

enum status options_parse(struct options *options, enum command command, char **arguments)
{
	char **files = arguments;
	bool only_files = false;
	size_t count = 0;
	enum status status;

	set_defaults(options, command);
	for (; *arguments; arguments++) {
		if (only_files || strncmp(*arguments, "-", 1) != 0) {
			files[count++] = *arguments;
			continue;
		}
		if (strcmp(*arguments, "--") == 0) {
			only_files = true;
			continue;
		}
		if ((*arguments)[1] != '-')
			return fail(STATUS_USAGE, "unknown option: %s: see gds-bench %s --help",
				    *arguments, command_specs[command].name);
		status = parse_option(options, &arguments);
		if (status != STATUS_OK)
			return status;
	}
	options->files = (const char *const *)files;
	options->file_count = count;
	return check_operands(options);
}
