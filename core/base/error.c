/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>
#include <gds/gds.h>
#include <stdio.h>
#include <string.h>

/* The header's hints to the analyzer, which are not for the definitions. */
#undef gds_fail
#undef gds_fail_errno

static _Thread_local char last_error[GDS_ERROR_BYTES];
static _Thread_local unsigned failures;

const char *gds_last_error(void)
{
	return last_error;
}

const char *gds_errno_text(int error)
{
	const char *text = strerrordesc_np(error);

	return text ? text : "unknown error";
}

/* What a user can do about an errno whose cause lies outside of the program, or "". */
static const char *advice(int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
	case ELOOP:
	case ENAMETOOLONG:
		return "; check the name";
	case EACCES:
	case EPERM:
		return "; ask for the right to it";
	case ENOMEM:
		return "; ask for less or free some memory";
	case EMFILE:
		return "; raise the limit on open files (ulimit -n)";
	case EIO:
		return "; the device failed, see the kernel's log (dmesg)";
	case ENODATA: /* what the kernel makes of a medium error */
		return "; a block of the medium cannot be read, see the kernel's log (dmesg)";
	case ENXIO:
	case ENODEV:
		return "; the device is gone, see that it is connected";
	default:
		return "";
	}
}

int gds_fail(int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(last_error, sizeof(last_error), format, args);
	va_end(args);
	failures++;
	return -error;
}

unsigned gds_failures(void)
{
	return failures;
}

int gds_fail_errno(int error, const char *format, ...)
{
	va_list args;
	size_t used;

	va_start(args, format);
	vsnprintf(last_error, sizeof(last_error), format, args);
	va_end(args);
	failures++;
	used = strlen(last_error);
	snprintf(last_error + used, sizeof(last_error) - used, ": %s%s", gds_errno_text(error),
		 advice(error));
	return -error;
}

void gds_text_set(char *field, size_t size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(field, size, format, args);
	va_end(args);
}
