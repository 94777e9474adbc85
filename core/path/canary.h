/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The proof that the direct path delivers. Reads into a dma-buf have been seen to
 * complete without an error and to move nothing: behind a translating IOMMU, for
 * memory that lies elsewhere than its driver says. So the first operation from a
 * target into a placement of a device's memory is watched: its destination is
 * poisoned, and when the operation has succeeded, what the device sees there is
 * compared with an ordinary read, byte for byte. Until then others wait.
 *
 * The operation's own destination serves, so nothing of the caller's is touched
 * that the read would not have overwritten.
 */
#ifndef GDS_PATH_CANARY_H
#define GDS_PATH_CANARY_H

#include "memory/backend.h"

#include <gds/gds.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Most bytes of one proof. */
#define CANARY_BYTES (UINT32_C(64) << 10)

struct gds_device;
struct reader_target;

enum proof_state {
	PROOF_NONE,    /* nothing is known yet, or too long ago */
	PROOF_PENDING, /* the canary is in flight */
	PROOF_PASSED,
	PROOF_FAILED,
};

/* What is known of reads from one target into one kind of place on one device. */
struct proof {
	struct proof *next; /* of the reader's */
	const struct gds_device *device;
	dev_t target;
	const char *placement;
	enum proof_state state;
	uint32_t changes; /* times in a row that the target was written meanwhile */
	uint64_t begun_ns;
	uint64_t passed_ns;
	char finding[256]; /* how it failed */
};

/* The proof for the three, made if there is none yet. NULL without memory. */
struct proof *proof_get(struct gds_reader *reader, const struct gds_device *device, dev_t target,
			const char *placement);
/* Forgets what is known of a device that is closed; of all where it is NULL. */
void proofs_forget(struct gds_reader *reader, const struct gds_device *device);

/* The state, in view of the interval at which the caller wants proofs repeated. */
enum proof_state proof_check(struct gds_reader *reader, struct proof *proof);

/*
 * Poisons `bytes` at `place` of the memory, for a read of the target at `offset`.
 * Blocking. A negative errno where the ordinary read or a copy failed.
 */
int canary_begin(struct gds_reader *reader, struct proof *proof, const struct reader_target *target,
		 uint64_t offset, struct backend_memory *memory, uint64_t place, uint32_t bytes);

/*
 * Compares the `bytes` that are said to have arrived, and settles the proof; but where
 * others wrote to the target meanwhile, so that nothing is known, the read is to be done
 * again.
 */
void canary_finish(struct gds_reader *reader, struct proof *proof, struct backend_memory *memory,
		   uint64_t place, uint32_t bytes);

/* The read failed: nothing is known. */
void canary_void(struct gds_reader *reader, struct proof *proof);

#endif
