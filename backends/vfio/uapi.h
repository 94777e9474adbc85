/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the backend uses of Linux's include/uapi/linux/vfio.h that headers of older
 * systems lack. The names differ from the kernel's, so that both can be included.
 */
#ifndef GDS_BACKENDS_VFIO_UAPI_H
#define GDS_BACKENDS_VFIO_UAPI_H

#include <linux/types.h>
#include <linux/vfio.h>

/* Since Linux 6.6: the device's own node is opened, and bound to /dev/iommu. */
#define UAPI_VFIO_BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)

struct uapi_vfio_bind_iommufd {
	__u32 argsz;
	__u32 flags;
	__s32 iommufd;
	__u32 out_devid;
};

/* Since Linux 6.19: a feature whose GET returns a new dma-buf of parts of a BAR. */
#define UAPI_VFIO_FEATURE_DMA_BUF 11

struct uapi_vfio_dma_range {
	__u64 offset; /* in the region; both are whole pages */
	__u64 length;
};

struct uapi_vfio_dma_buf {
	__u32 region_index;
	__u32 open_flags; /* as of open(2) */
	__u32 flags;      /* 0 */
	__u32 range_count;
	struct uapi_vfio_dma_range ranges[1];
};

_Static_assert(sizeof(struct uapi_vfio_bind_iommufd) == 16, "layout of the kernel");
_Static_assert(sizeof(struct uapi_vfio_dma_buf) == 32, "layout of the kernel");

#endif
