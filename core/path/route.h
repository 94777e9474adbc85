/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way from a file to a buffer: which path its reads take, and within what
 * limits they are cut. Made when a reader meets the pair, and kept.
 */
#ifndef GDS_PATH_ROUTE_H
#define GDS_PATH_ROUTE_H

#include "attach.h"
#include "memory/backend.h"
#include "path/dmabuf.h"
#include "path/staging.h"
#include "plan/plan.h"

#include <gds/gds.h>
#include <stdatomic.h>
#include <stdbool.h>

struct gds_buffer;
struct gds_device;
struct file_map;
struct gds_file;
struct op;
struct reader_queue;
struct reader_volumes;

/* What to do when the direct path was found to deliver nothing. */
#define PROOF_REMEDY                                                                             \
	"an IOMMU that translates is the usual cause: try iommu=pt, and see the kernel log for " \
	"its faults"

/* What a reader keeps for a file. */
struct reader_file {
	struct attachment attachment;
	struct gds_file *file;
	struct reader_queue *queue; /* of the device that it is on */
	uint32_t slot;              /* in the lane: of the descriptor that reads now use */
	uint32_t first;             /* slot of the first one, which reads in flight may still use */
	bool direct;                /* that descriptor has O_DIRECT */
	char reason[256];           /* why not */
	struct route *routes;
	/* For the path dmabuf: of a block device itself, or of a file the devices below. */
	struct reader_target own;
	struct file_map *map; /* NULL of a block device, and where that cannot be */
	struct reader_volumes *volumes;
	struct plan_map plan;
	uint32_t in_flight; /* operations by the devices below */
	bool active;        /* in the reader's list of those that have any, or had a moment ago */
	bool leased;
	bool lease_tried;
	struct reader_file *active_next;
};

/* What a reader keeps for a buffer. */
struct reader_buffer {
	struct attachment attachment;
	struct gds_buffer *buffer;
	struct reader_device *device;
	struct gds_path_verdict verdicts[GDS_PATH_COUNT]; /* but dmabuf's: see route */
	size_t slot_count;
	uint32_t slots[]; /* in the lane, one a slice; LANE_NO_BUFFER where not registered */
};

/*
 * What a reader keeps for a device: its view of the staging memory, and copies.
 * Scratch is staging memory of the device's own, for reads by the path dmabuf
 * whose place is not aligned: those bytes never touch host memory either.
 */
#define COPIES_AT_ONCE 64

struct reader_device {
	struct attachment attachment;
	struct gds_device *device;
	struct backend_staging *staging[STAGING_SIZES];
	struct scratch {
		struct staging_pool pool;
		struct backend_memory *memory; /* NULL until needed */
	} scratch[STAGING_SIZES];
	bool scratch_refused;         /* the device cannot make it: host memory serves instead */
	struct backend_memory *zeros; /* of ZEROS_BYTES, for holes; NULL until needed */
	bool zeros_refused;
	struct reader_device *next; /* in the reader's list */
	/* Operations whose bytes are in staging memory, to be handed to the device. */
	struct backend_copy copies[COPIES_AT_ONCE];
	struct op *waiting[COPIES_AT_ONCE];
	size_t waiting_count;
	/* Operations that the device is copying, in the order of their tickets. */
	struct op *copying_first;
	struct op **copying_last;
};

struct route {
	struct plan_limits limits;
	struct reader_file *file;     /* NULL once the file or the buffer was closed */
	struct reader_buffer *buffer; /* NULL likewise */
	struct route *next;           /* of the same file */
	enum gds_path path;           /* of direct operations */
	enum gds_path pinned;         /* AUTO, or the one the caller asked for */
	struct gds_path_verdict dmabuf;
	char *host;               /* the buffer's memory, where the CPU can address it */
	atomic_size_t references; /* the reader's, and those of batches, in flight or not */
};

/*
 * The route between the two, made if the reader meets them for the first time.
 * Holds one reference for the caller. -EOPNOTSUPP where the pinned path cannot
 * be taken. Called by any thread, after route_hinted() of path/hint.h has not found it.
 */
int route_get(struct gds_reader *reader, struct gds_file *file, struct gds_buffer *buffer,
	      enum gds_path pinned, struct route **route);
static inline void route_hold(struct route *route)
{
	atomic_fetch_add(&route->references, 1);
}

void route_put(struct route *route);

/*
 * From now on the route's file is read through the page cache: a read with
 * O_DIRECT was refused with EINVAL. Called by the driver.
 */
int route_use_page_cache(struct gds_reader *reader, struct route *route);

/*
 * From now on the route takes another path than its present one, which has turned
 * out not to work for the reason given. -EOPNOTSUPP where the path is pinned.
 * Called by the driver.
 */
int route_refuse_path(struct gds_reader *reader, struct route *route, const char *reason,
		      const char *remedy);

/* As above, for mapped memory that the kernel cannot pin after all. */
int route_refuse_pinning(struct gds_reader *reader, struct route *route);

/*
 * Makes sure that the reader has staging memory of this size and that the device
 * can copy from it. Called by the driver.
 */
int device_stage(struct gds_reader *reader, struct reader_device *device, enum staging_size size);

/* The same for scratch memory: staging memory of the device's own. */
int device_scratch(struct gds_reader *reader, struct reader_device *device, enum staging_size size);

/* Makes sure that the device has memory full of zeros to copy from. Called by the driver. */
int device_zeros(struct reader_device *device);

#endif
