/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The interface under test, written down here once more on purpose: a test that
 * took these layouts from the library or from the series would follow its errors.
 */
#ifndef KERNEL_TESTS_UAPI_H
#define KERNEL_TESTS_UAPI_H

#include <linux/types.h>

/* struct io_uring_rsrc_update2: its second word carries flags. */
struct rsrc_update {
	__u32 offset;
	__u32 flags;
	__u64 data;
	__u64 tags;
	__u32 nr;
	__u32 resv2;
};

#define UPDATE_FLAG_PAIR 1u       /* entries are struct pair_entry */
#define UPDATE_FLAG_DESCRIPTOR 2u /* entries are struct buffer_descriptor */

struct pair_entry {
	__u64 iov_uaddr;
	__s32 target_fd;
	__s32 dmabuf_fd;
};

enum descriptor_type {
	DESCRIPTOR_EMPTY = 0,
	DESCRIPTOR_USER = 1,
	DESCRIPTOR_DMABUF = 2,
};

struct buffer_descriptor {
	__u32 type;
	__u32 flags;
	__u64 size;
	__u64 uaddr;
	__s32 dmabuf_fd;
	__s32 target_fd;
	__u64 reserved[6];
};

_Static_assert(sizeof(struct rsrc_update) == 32, "layout of the kernel");
_Static_assert(sizeof(struct pair_entry) == 16, "layout of the kernel");
_Static_assert(sizeof(struct buffer_descriptor) == 80, "layout of the kernel");

/* Newer than the headers of Debian 12. */
#ifndef IORING_REGISTER_CLONE_BUFFERS
#define IORING_REGISTER_CLONE_BUFFERS 30
#endif
#define OP_READV_FIXED 60
#define OP_WRITEV_FIXED 61
#define OP_SEND_ZC 47

struct clone_buffers {
	__u32 src_fd;
	__u32 flags;
	__u32 src_off;
	__u32 dst_off;
	__u32 nr;
	__u32 pad[3];
};

#define VFIO_FEATURE_DMA_BUF 11

struct vfio_dma_range {
	__u64 offset;
	__u64 length;
};

struct vfio_dma_buf_request {
	__u32 region_index;
	__u32 open_flags;
	__u32 flags;
	__u32 nr_ranges;
	struct vfio_dma_range ranges[];
};

#endif
