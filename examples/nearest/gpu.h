/* SPDX-License-Identifier: Apache-2.0 */
/* The part on the GPU: the matrix in a VkBuffer, filled by gds, and the shader. */
#ifndef NEAREST_GPU_H
#define NEAREST_GPU_H

#include "model.h"
#include "vulkan/compute.h"

/* A VkBuffer and the memory that it has to itself. */
struct gpu_buffer {
	VkBuffer buffer;
	VkDeviceMemory memory;
	VkDeviceSize offset; /* in the memory */
	VkDeviceSize bytes;
	uint32_t type;
	char *mapping;   /* of the buffer's first byte, or NULL */
	bool exportable; /* as a dma-buf, for a drive to write to */
};

struct gpu {
	struct compute compute;
	struct gds_reader *reader;
	struct gds_device *device;
	struct gds_buffer *buffer; /* gds' view of `values` */
	struct gpu_buffer values;  /* whole blocks of the file with the matrix in them */
	struct gpu_buffer cosines;
	uint64_t first_byte; /* of the matrix, in `values` */
	struct compute_shader shader;
	/* The queue waits for the read, and the CPU does not; or else, why it has to. */
	bool queue_waits;
	const char *cpu_waits_because;
	struct gds_result result; /* of the read */
};

/* Opens the device whose name has `name` in it, or the first; makes room for the matrix. */
void gpu_open(struct gpu *gpu, const char *name, const struct matrix *matrix);
void gpu_close(struct gpu *gpu);

/*
 * Has the matrix read from `file` by `path`, and the cosines of its rows to `row` computed
 * from it; `cosines` gets one for each row.
 */
void gpu_run(struct gpu *gpu, const char *file, enum gds_path path, const struct matrix *matrix,
	     uint32_t row, float *cosines);

/* A row of the matrix as it is on the GPU. */
void gpu_row(struct gpu *gpu, const struct matrix *matrix, uint32_t row, float *values);

#endif
