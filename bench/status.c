/* SPDX-License-Identifier: Apache-2.0 */
/* How the tool ends, and the one line it says when it does not end well. */
#include "status.h"

#include "progress.h"

#include <errno.h>
#include <gds/gds.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const struct status_spec status_specs[] = {
	{ STATUS_OK, "everything that was asked for was done, and verified where asked" },
	{ STATUS_FAILED, "a read, a write of the output or the verification failed, or a signal "
			 "ended the run" },
	{ STATUS_USAGE, "the command line makes no sense" },
	{ STATUS_UNAVAILABLE, "the required path, lane or device is not available here" },
};
const unsigned int status_spec_count = sizeof(status_specs) / sizeof(status_specs[0]);

static char message[2 * PATH_MAX]; /* two names at most, and what is wrong with them */

const char *fail_message(void)
{
	return message;
}

void make_one_line(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
}

enum status fail(enum status status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	make_one_line(message);
	progress_clear();
	fprintf(stderr, "gds-bench: %s\n", message);
	return status;
}

static enum status fail_as(enum status status, int error)
{
	const char *text = gds_last_error();

	if (!text[0])
		text = strerror(-error);
	return fail(status, "%s", text);
}

enum status fail_library(int error)
{
	bool unavailable = error == -ENODEV || error == -EOPNOTSUPP;

	return fail_as(unavailable ? STATUS_UNAVAILABLE : STATUS_FAILED, error);
}

enum status fail_unavailable(int error)
{
	return fail_as(error == -ENOMEM ? STATUS_FAILED : STATUS_UNAVAILABLE, error);
}
