/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <gds/gds.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char last_error[GDS_ERROR_BYTES];

const char *gds_last_error(void)
{
	return last_error;
}

const char *gds_errno_text(int error)
{
	const char *text = strerrordesc_np(error);

	return text ? text : "unknown error";
}

int gds_fail(int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(last_error, sizeof(last_error), format, args);
	va_end(args);
	return -error;
}

int gds_fail_errno(int error, const char *format, ...)
{
	va_list args;
	size_t used;

	va_start(args, format);
	vsnprintf(last_error, sizeof(last_error), format, args);
	va_end(args);
	used = strlen(last_error);
	snprintf(last_error + used, sizeof(last_error) - used, ": %s", gds_errno_text(error));
	return -error;
}

void gds_text_set(char *field, size_t size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(field, size, format, args);
	va_end(args);
}
