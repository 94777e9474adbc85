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
};

#endif
