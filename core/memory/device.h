/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GDS_MEMORY_DEVICE_H
#define GDS_MEMORY_DEVICE_H

#include "attach.h"
#include "memory/backend.h"

#include <stdatomic.h>

struct gds_device {
	struct object object;
	struct backend_device *backend;
	atomic_uint buffers; /* that are not freed */
	unsigned fork_generation;
};

/*
 * -EPERM in a child of the process that opened the device: its driver's threads and some
 * of its memory are not there, and the rest is the parent's.
 */
int device_check(const struct gds_device *device, const char *call);

#endif
