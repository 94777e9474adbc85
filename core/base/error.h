/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one way to fail: a negative errno, and a line for gds_last_error() that
 * says what failed, on what, and what to do.
 */
#ifndef GDS_BASE_ERROR_H
#define GDS_BASE_ERROR_H

#include <limits.h>
#include <stdarg.h>
#include <stddef.h>

/* A message names a file, by a path of whatever length, and then says what is wrong with it. */
#define GDS_ERROR_BYTES (PATH_MAX + 512)

/* Keeps the thread's message and returns -error, for `return gds_fail(EINVAL, ...)`. */
int gds_fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * As gds_fail(), with ": " and the text of the errno appended, and for the common
 * ones of them "; " and what to do.
 */
int gds_fail_errno(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* How often this thread has failed: whether a call into foreign code left a message. */
unsigned gds_failures(void);

/*
 * An analyzer looks into one file at a time: tell it that these never return 0, or it
 * follows paths on which a call failed and yet succeeded.
 */
#ifdef __clang_analyzer__
#define gds_fail(error, ...)       (gds_fail(error, __VA_ARGS__), -(error))
#define gds_fail_errno(error, ...) (gds_fail_errno(error, __VA_ARGS__), -(error))
#endif

/* The text of an errno, from static storage: thread safe, unlike strerror(3). */
const char *gds_errno_text(int error);

/* Copies to a field of fixed size, cut short if need be, always terminated. */
void gds_text_set(char *field, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
