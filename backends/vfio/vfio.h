/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the VFIO backend share. */
#ifndef GDS_BACKENDS_VFIO_VFIO_H
#define GDS_BACKENDS_VFIO_VFIO_H

#include "dmabuf/memory.h"
#include "vfio/space.h"

#define VFIO_ADDRESS_BYTES 24 /* of a PCI address as text */
#define VFIO_ANY_REGION    (-1)

/* What the caller named. */
struct vfio_name {
	char address[VFIO_ADDRESS_BYTES]; /* "0000:04:00.0" */
	int region;                       /* of a BAR, or VFIO_ANY_REGION */
};

struct vfio_device {
	struct dmabuf_device base;
	struct vfio_name name;
	int fd;           /* the device */
	int parent_fd;    /* /dev/iommu, or the group */
	int container_fd; /* -1 with iommufd */
	uint32_t region;
	uint64_t region_offset; /* in the device's file */
	uint64_t region_bytes;
	struct space space;
};

/* Opens the device's files and makes its memory answer. On failure nothing is left open. */
int vfio_device_connect(struct vfio_device *device);
void vfio_device_disconnect(struct vfio_device *device);

/* Chooses the region that was named, or the largest BAR. */
int vfio_device_choose_region(struct vfio_device *device);

/*
 * A dma-buf of a range of the region. -ENOTTY where the kernel cannot make one;
 * leaves no message.
 */
int vfio_device_export(const struct vfio_device *device, uint64_t offset, uint64_t bytes);

#endif
