/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory registered as dma-bufs. A slot of the lane holds one slice of one memory
 * for one target; slots are filled when a read first needs them, and idle ones
 * are given up when the lane has none left.
 */
#ifndef GDS_PATH_DMABUF_H
#define GDS_PATH_DMABUF_H

#include "memory/backend.h"

#include <gds/gds.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct gds_file;
struct reader_file;

/*
 * A block device that is read directly: a file of the caller's, or one below files.
 * The latter's are the reader's, shared by all files. Those that memory is registered
 * for stay until it is closed, others only as long as there are files on them.
 */
struct reader_target {
	struct reader_target *next; /* of the reader's */
	dev_t device;
	int fd;
	uint32_t slot; /* in the lane: the file that dma-bufs are registered for */
	char *name;
};

struct dmabuf_slot {
	uint32_t slot;      /* in the lane, or LANE_NO_BUFFER */
	uint32_t in_flight; /* operations that use it */
	uint64_t offset;    /* in the dma-buf, of the slice's first byte */
	uint64_t used;      /* when last, by reader->dmabuf_clock */
};

/* A memory's slices, as far as they are registered for one target. */
struct dmabuf_map {
	struct dmabuf_map *next; /* of the reader's */
	const struct reader_target *target;
	struct backend_memory *memory;
	size_t count;
	struct dmabuf_slot slots[];
};

/* The targets that a file may lead to, by number; NULL behind the last. */
const struct reader_target *reader_target_of(const struct reader_file *file, size_t number);

/* The map of this memory for this target, made if there is none yet. */
int dmabuf_map_get(struct gds_reader *reader, const struct reader_target *target,
		   struct backend_memory *memory, struct dmabuf_map **map);

/* Gives up the maps of a target, or of a memory, that is closed; NULL matches none. */
void dmabuf_maps_close(struct gds_reader *reader, const struct reader_target *target,
		       const struct backend_memory *memory);

/* Whether any memory is registered for the target. */
bool dmabuf_target_used(const struct gds_reader *reader, const struct reader_target *target);

/*
 * The slot that holds byte `place` of the memory, registered if it is not yet.
 * On failure a negative errno, with the reason and a remedy in `verdict`.
 */
int dmabuf_slot_get(struct gds_reader *reader, struct dmabuf_map *map, uint64_t place,
		    struct dmabuf_slot **slot, struct gds_path_verdict *verdict);

/* Whether the path can be thought of at all for the two, with the verdict filled. */
int dmabuf_judge(struct gds_reader *reader, struct reader_file *file, struct backend_memory *memory,
		 struct gds_path_verdict *verdict);

#endif
