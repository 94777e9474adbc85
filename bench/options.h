/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line. Two tables, of commands and of options, drive the parsing,
 * --help and the man page, so that they cannot disagree.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "status.h"

#include <gds/gds.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GDS_BENCH_TEXT(number)  #number
#define GDS_BENCH_QUOTE(number) GDS_BENCH_TEXT(number)
#define GDS_BENCH_VERSION                  \
	GDS_BENCH_QUOTE(GDS_VERSION_MAJOR) \
	"." GDS_BENCH_QUOTE(GDS_VERSION_MINOR) "." GDS_BENCH_QUOTE(GDS_VERSION_PATCH)

enum command {
	COMMAND_CHECK,
	COMMAND_READ,
	COMMAND_BENCH,
	COMMAND_COUNT,
};

#define COMMAND_BIT(command) (1u << (command))

enum direction {
	DIRECTION_READ,
	DIRECTION_RANDREAD,
};

#define OPTION_UNSET UINT64_MAX

/* Filled from the table; what was not given has the table's default. */
struct options {
	enum command command;
	const char *const *files;
	size_t file_count;

	const char *device; /* NULL where it was not given */
	const char *output;
	uint64_t path; /* of enum gds_path */
	uint64_t lane; /* of enum gds_lane */
	uint64_t direction;
	uint64_t offset;
	uint64_t length;        /* OPTION_UNSET: to the end */
	uint64_t buffer_bytes;  /* OPTION_UNSET: chosen */
	uint64_t buffer_offset; /* OPTION_UNSET: chosen */
	uint64_t block_bytes;
	uint64_t queue_depth;
	uint64_t staging_bytes;
	uint64_t threads;
	uint64_t size;    /* OPTION_UNSET: the whole file */
	uint64_t count;   /* OPTION_UNSET: no limit */
	uint64_t runtime; /* nanoseconds; OPTION_UNSET: one pass */
	uint64_t warmup;  /* nanoseconds */
	uint64_t seed;
	uint64_t json;
	uint64_t verify;
	uint64_t no_checksum;
	uint64_t no_fallback;
	uint64_t host_memory;
	const char *trace;
	const char *sample; /* as given: a size, or two */
	const char *plot;
	const char *compare;
	uint64_t align;
	uint64_t batch; /* OPTION_UNSET: chosen */
	uint64_t rounds;
	uint64_t read_class; /* of enum gds_class */
	uint64_t no_proof;
	uint64_t shape;     /* index among the choices: auto, v2, v3 */
	uint64_t no_canary; /* no option: the direct path is taken unproven */
};

enum option_type {
	OPTION_FLAG,     /* no value */
	OPTION_TEXT,     /* a const char * */
	OPTION_NUMBER,   /* the rest are uint64_t */
	OPTION_SIZE,     /* bytes */
	OPTION_DURATION, /* nanoseconds */
	OPTION_CHOICE,   /* the index in `choices` */
};

struct option_spec {
	const char *name;      /* without the dashes */
	const char *value;     /* what stands for the value in the help; NULL for a flag */
	unsigned int commands; /* bits of the commands that take it */
	enum option_type type;
	size_t field; /* where in struct options */
	uint64_t low; /* numbers and sizes: the range that is taken */
	uint64_t high;
	const char *const *choices; /* NULL at the end */
	uint64_t initial;           /* the default */
	const char *help;
};

struct command_spec {
	const char *name;
	const char *operands; /* "FILE..." */
	size_t operands_low;
	size_t operands_high;
	const char *summary;
	const char *description;
};

extern const struct option_spec option_specs[];
extern const size_t option_spec_count;
extern const struct command_spec command_specs[COMMAND_COUNT];

/*
 * Reads `arguments` that follow the command's name, up to a NULL. The operands are
 * gathered at its front. Returns STATUS_OK or, with the line said, STATUS_USAGE.
 */
enum status options_parse(struct options *options, enum command command, char **arguments);

/* The command of that name, or COMMAND_COUNT. */
enum command command_find(const char *name);

/* "--qd N" */
void option_usage(const struct option_spec *spec, char *text, size_t bytes);

/* The help, with the default where the table has a plain one. */
void option_help(const struct option_spec *spec, char *text, size_t bytes);

void help_print(void);
void help_print_command(enum command command);

#endif
