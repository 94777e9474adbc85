/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines, to standard error or to where gds_log_set() sends them. */
#ifndef GDS_BASE_LOG_H
#define GDS_BASE_LOG_H

#include <gds/gds.h>
#include <stdbool.h>

void gds_log(enum gds_log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Whether lines of this level are taken at all: for what is not worth composing otherwise. */
bool gds_log_takes(enum gds_log_level level);

#define gds_warn(...)  gds_log(GDS_LOG_WARNING, __VA_ARGS__)
#define gds_info(...)  gds_log(GDS_LOG_INFO, __VA_ARGS__)
#define gds_debug(...) gds_log(GDS_LOG_DEBUG, __VA_ARGS__)

#endif
