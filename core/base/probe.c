/* SPDX-License-Identifier: Apache-2.0 */
#include "base/probe.h"

#ifdef GDS_HAVE_SDT
#define DEFINE_SEMAPHORE(name) \
	unsigned short gds_##name##_semaphore __attribute__((section(".probes")))

DEFINE_SEMAPHORE(read_begin);
DEFINE_SEMAPHORE(read_end);
DEFINE_SEMAPHORE(op_issue);
DEFINE_SEMAPHORE(op_land);
DEFINE_SEMAPHORE(path);
DEFINE_SEMAPHORE(canary);
#endif
