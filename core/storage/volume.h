/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the bytes of a block device lie on the disks below it. Pure: which volume
 * there is was found out by stack.c; here an offset in it becomes an offset on a
 * disk. Volumes stand on volumes: a partition on a RAID on partitions.
 */
#ifndef GDS_STORAGE_VOLUME_H
#define GDS_STORAGE_VOLUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum volume_kind {
	VOLUME_DISK,     /* what is read itself */
	VOLUME_LINEAR,   /* one part after the other: a partition, dm-linear, md linear */
	VOLUME_STRIPED,  /* chunks in turn: md RAID 0, dm-stripe */
	VOLUME_MIRRORED, /* the same bytes on each part: md RAID 1 */
};

/* A range of the volume below. */
struct volume_part {
	struct volume *below;
	uint64_t start;  /* VOLUME_LINEAR: where in this volume the part begins */
	uint64_t offset; /* where in the volume below */
	uint64_t bytes;
};

/*
 * Striping over parts of different sizes: the first zone goes over all of them as
 * far as the smallest reaches, the next over those that are longer, and so on.
 */
struct volume_zone {
	uint64_t end;        /* in this volume */
	uint64_t part_start; /* where in its parts the zone begins */
	size_t count;        /* parts that are longer than that */
};

struct volume {
	enum volume_kind kind;
	uint32_t disk; /* VOLUME_DISK: its number in the stack */
	uint64_t bytes;

	/* VOLUME_STRIPED. */
	uint64_t chunk_bytes;
	/*
	 * The part of a chunk in a later zone is chosen by the chunk's number in the
	 * whole volume, as the kernel did before 3.14, not by that in its zone.
	 */
	bool by_whole_number;
	size_t zone_count;
	struct volume_zone *zones;

	dev_t device;        /* that the volume is */
	struct volume *next; /* of those that stand on each other, in no order */
	size_t count;
	struct volume_part parts[]; /* VOLUME_LINEAR: in the order of `start` */
};

/* Where a range of a volume lies, as far as it lies together. */
struct volume_place {
	uint32_t disk;
	uint64_t offset;
	uint64_t bytes;
};

/* Reads of a mirrored volume change from one part to the next at multiples of this. */
#define VOLUME_MIRROR_TURN (UINT64_C(1) << 20)

/* A volume with room for `count` parts. NULL without memory. */
struct volume *volume_new(enum volume_kind kind, size_t count);
/* Frees it, and all that it leads to by `next`; volumes may share what is below them. */
void volumes_free(struct volume *volume);

/*
 * Completes a striped volume whose parts and chunk are set: rounds the parts down
 * to whole chunks, and makes the zones. -EINVAL for a chunk of zero bytes.
 */
int volume_make_zones(struct volume *volume);

/*
 * Where `bytes` (at least 1) at `offset` are, as far as they are on one disk in one
 * run. False where the volume has no such byte.
 */
bool volume_locate(const struct volume *volume, uint64_t offset, uint64_t bytes,
		   struct volume_place *place);

#endif
