/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GDS_MEMORY_BUFFER_H
#define GDS_MEMORY_BUFFER_H

#include "attach.h"
#include "memory/backend.h"
#include "memory/device.h"

struct gds_buffer {
	struct object object;
	struct gds_device *device;
	struct backend_memory *memory;
};

#endif
