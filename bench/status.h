/* SPDX-License-Identifier: Apache-2.0 */
/* How the tool ends, and the one line it says when it does not end well. */
#ifndef BENCH_STATUS_H
#define BENCH_STATUS_H

#include <stdbool.h>

/* Exit statuses; status_specs documents them for --help and the man page. */
enum status {
	STATUS_OK = 0,
	STATUS_FAILED = 1,
	STATUS_USAGE = 2,
	STATUS_UNAVAILABLE = 3,
};

struct status_spec {
	enum status status;
	const char *meaning;
};

extern const struct status_spec status_specs[];
extern const unsigned int status_spec_count;

/*
 * Prints "gds-bench: WHAT: WHERE: WHAT TO DO" to standard error, as one line
 * whatever is in the names it is made of, and returns `status`.
 */
enum status fail(enum status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same with the library's message for `error`, a negative errno it returned. */
enum status fail_library(int error);

/* As above, for a call where every failure means that what was required is not there. */
enum status fail_unavailable(int error);

/* Names of files may hold anything: makes '?' of what would end the line or move the cursor. */
void make_one_line(char *text);

/* The last line that fail() printed, without the tool's name. */
const char *fail_message(void);

#endif
