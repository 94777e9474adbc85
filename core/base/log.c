/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/error.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

static const char *const level_names[] = {
	[GDS_LOG_ERROR] = "error",
	[GDS_LOG_WARNING] = "warning",
	[GDS_LOG_INFO] = "info",
	[GDS_LOG_DEBUG] = "debug",
};

static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static void (*sink)(enum gds_log_level level, const char *line, void *user);
static void *sink_user;
static atomic_int threshold = -1; /* not looked up yet */

static int level_from_environment(void)
{
	const char *text = getenv("GDS_LOG");

	for (int level = GDS_LOG_ERROR; text && level <= GDS_LOG_DEBUG; level++)
		if (strcasecmp(text, level_names[level]) == 0)
			return level;
	return GDS_LOG_WARNING;
}

static int current_threshold(void)
{
	int unset = -1;

	if (atomic_load_explicit(&threshold, memory_order_relaxed) < 0)
		atomic_compare_exchange_strong(&threshold, &unset, level_from_environment());
	return atomic_load_explicit(&threshold, memory_order_relaxed);
}

void gds_log_set(enum gds_log_level level,
		 void (*log)(enum gds_log_level level, const char *line, void *user), void *user)
{
	pthread_mutex_lock(&sink_lock);
	sink = log;
	sink_user = user;
	atomic_store(&threshold, (int)level);
	pthread_mutex_unlock(&sink_lock);
}

bool gds_log_takes(enum gds_log_level level)
{
	return (int)level <= current_threshold();
}

void gds_log(enum gds_log_level level, const char *format, ...)
{
	char line[GDS_ERROR_BYTES];
	va_list args;

	if ((int)level > current_threshold())
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);

	pthread_mutex_lock(&sink_lock);
	if (sink)
		sink(level, line, sink_user);
	else
		fprintf(stderr, "gds: %s: %s\n", level_names[level], line);
	pthread_mutex_unlock(&sink_lock);
}
