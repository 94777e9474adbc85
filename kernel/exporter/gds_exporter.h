/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The test exporter: dma-bufs that misbehave on request. For the VM only.
 *
 * Opening /dev/gds_exporter makes no dma-buf yet; GDS_EXPORTER_CREATE does, and
 * returns its file descriptor. Every other call names a dma-buf by such a
 * descriptor and works on any open of the device. A buffer has two sets of pages,
 * A and B, both allocated at creation; the CPU (mmap of the dma-buf) always sees
 * the set that is the current one.
 */
#ifndef GDS_EXPORTER_H
#define GDS_EXPORTER_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define GDS_EXPORTER_PATH "/dev/gds_exporter"

/* Pages are grouped in chunks, physically contiguous, of this many bytes. */
#define GDS_EXPORTER_CHUNK_MIN 4096
#define GDS_EXPORTER_CHUNK_MAX (4u << 20)

struct gds_exporter_create {
	__u64 size;       /* in: bytes; any value above 0, see the flags */
	__u32 chunk;      /* in: a power of two, or 0 for 4096 */
	__u32 flags;      /* in: GDS_EXPORTER_CREATE_* */
};

/*
 * Export the size as given, not rounded up to pages. Without it a size that is
 * no multiple of 4096 gives EINVAL.
 */
#define GDS_EXPORTER_CREATE_ODD_SIZE (1u << 0)
/* The mapping's second segment starts, and its first one ends, 512 bytes early. */
#define GDS_EXPORTER_CREATE_ODD_SEGMENTS (1u << 1)
/* A static exporter: it has no pin callback, and can be neither moved nor revoked. */
#define GDS_EXPORTER_CREATE_STATIC (1u << 2)

/* What happens to a dma-buf. */
enum gds_exporter_action {
	/*
	 * Invalidate the mappings, copy the contents to the other set of pages and
	 * make that the current one; then overwrite the old set with `poison`, so
	 * that DMA which still goes there is lost and DMA from there is seen. All
	 * under the reservation lock, as a GPU driver does.
	 */
	GDS_EXPORTER_MOVE = 0,
	/* Invalidate the mappings; mapping fails with ENODEV from now on. */
	GDS_EXPORTER_REVOKE = 1,
	/* Mapping works again. */
	GDS_EXPORTER_RESTORE = 2,
	/* Invalidate the mappings and nothing else. */
	GDS_EXPORTER_INVALIDATE = 3,
};

struct gds_exporter_act {
	__s32 dmabuf_fd;  /* in */
	__u32 action;     /* in: enum gds_exporter_action */
	__u32 hold_us;    /* in: stay under the lock for this long before and after */
	__u32 poison;     /* in: byte value for MOVE */
	__u64 waited_ns;  /* out: how long the importers took to let go */
};

/* What a dma-buf is to do wrong. All zero, as at creation: nothing. */
struct gds_exporter_fault {
	__s32 dmabuf_fd;      /* in */
	__s32 attach_errno;   /* in: 0, or a positive errno for the next attachments */
	__s32 map_errno;      /* in: the same for mapping */
	__s32 pin_errno;      /* in: the same for pinning */
	__u32 map_skip;       /* in: let this many mappings pass before map_errno */
	__u32 lie;            /* in: 1: map the set of pages that is not current */
	__u32 fence_us;       /* in: after a move, a kernel fence signals so much later */
	__u32 resv;           /* in: 0 */
};

struct gds_exporter_state {
	__s32 dmabuf_fd;      /* in */
	__u32 attachments;    /* out: now */
	__u32 mappings;       /* out: now */
	__u32 peer2peer;      /* out: 1 if the last attachment allowed peer-to-peer */
	__u64 attached;       /* out: attachments ever made */
	__u64 mapped;         /* out: mappings ever made */
	__u64 moved;          /* out */
	__u64 map_failed;     /* out: mappings refused, for whatever reason */
};

#define GDS_EXPORTER_CREATE _IOW('G', 0x40, struct gds_exporter_create)
#define GDS_EXPORTER_ACT _IOWR('G', 0x41, struct gds_exporter_act)
#define GDS_EXPORTER_FAULT _IOW('G', 0x42, struct gds_exporter_fault)
#define GDS_EXPORTER_STATE _IOWR('G', 0x43, struct gds_exporter_state)

#endif
