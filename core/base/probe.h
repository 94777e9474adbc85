/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trace points of the provider "gds", for bpftrace, perf and the like (USDT), where
 * sys/sdt.h was found. docs/tracing.md lists them and what their arguments are.
 *
 * Each has a semaphore, which whoever looks at it raises: so reads go the short way,
 * where there are no trace points, until someone looks.
 */
#ifndef GDS_BASE_PROBE_H
#define GDS_BASE_PROBE_H

#include <stdbool.h>

#ifdef GDS_HAVE_SDT
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

#define GDS_SEMAPHORE(name) \
	extern unsigned short gds_##name##_semaphore __attribute__((visibility("hidden")))

GDS_SEMAPHORE(read_begin);
GDS_SEMAPHORE(read_end);
GDS_SEMAPHORE(op_issue);
GDS_SEMAPHORE(op_land);
GDS_SEMAPHORE(path);
GDS_SEMAPHORE(canary);

#define GDS_PROBE2(name, a, b)          DTRACE_PROBE2(gds, name, a, b)
#define GDS_PROBE3(name, a, b, c)       DTRACE_PROBE3(gds, name, a, b, c)
#define GDS_PROBE4(name, a, b, c, d)    DTRACE_PROBE4(gds, name, a, b, c, d)
#define GDS_PROBE5(name, a, b, c, d, e) DTRACE_PROBE5(gds, name, a, b, c, d, e)

/* Whether someone looks at reads and operations. It changes under our hands. */
static inline bool probes_watch_reads(void)
{
	return *(volatile unsigned short *)&gds_read_begin_semaphore ||
	       *(volatile unsigned short *)&gds_read_end_semaphore ||
	       *(volatile unsigned short *)&gds_op_issue_semaphore ||
	       *(volatile unsigned short *)&gds_op_land_semaphore;
}
#else
#define GDS_PROBE2(name, a, b) \
	do {                   \
	} while (0)
#define GDS_PROBE3(name, a, b, c)       GDS_PROBE2(name, a, b)
#define GDS_PROBE4(name, a, b, c, d)    GDS_PROBE2(name, a, b)
#define GDS_PROBE5(name, a, b, c, d, e) GDS_PROBE2(name, a, b)

static inline bool probes_watch_reads(void)
{
	return false;
}
#endif

#endif
