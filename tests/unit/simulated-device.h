/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulation of a GPU (core/memory/backend.h): its copies are done late and by
 * turns, it may fail them or be lost, and it sees what the storage wrote only after
 * it was published. Its dma-bufs are files in memory that only the simulated lane
 * knows, and it may lie about what arrives through them. It belongs to a simulation
 * of storage, which takes part in the same seed.
 */
#ifndef GDS_TESTS_SIMULATED_DEVICE_H
#define GDS_TESTS_SIMULATED_DEVICE_H

#include "memory/backend.h"
#include "memory/device.h"
#include "simulated-lane.h"

#define SIMULATED_MOST_COPIES 4096
/* What a device does with what drives write into its dma-bufs. Reads all succeed. */
enum simulated_lie {
	SIMULATED_HONEST,
	SIMULATED_UNTOUCHED, /* nothing arrives */
	SIMULATED_PARTIAL,   /* the first half of each read */
	SIMULATED_STALE,     /* it sees what it held before it was written last by the host */
	SIMULATED_ELSEWHERE, /* other bytes arrive */
	SIMULATED_LIES,
};

#define SIMULATED_POISON 0xc3 /* what memory holds before anything is read */

struct simulated_device_options {
	bool host;              /* the CPU can address its memory */
	bool needs_publish;     /* and what it writes there must be published */
	bool asynchronous;      /* copies give tickets */
	uint32_t failing_calls; /* in 1000: copy() and staging_attach() fail with -ENOMEM */
	uint32_t loss;          /* in 1000, of each copied(): the device is lost */
	/* It exports slices of so many bytes as dma-bufs; 0: none. */
	uint64_t slice_bytes;
	bool needs_acquire;       /* what drives write there must be acquired to be seen */
	uint32_t failing_exports; /* in 1000: export_slice() fails with -EOPNOTSUPP */
	enum simulated_lie lie;
};

struct simulated_memory {
	struct backend_memory base;
	struct simulation *simulation;
	struct simulated_memory *next;
	unsigned char *allocation;
	unsigned char *host; /* what the storage writes to */
	unsigned char *seen; /* what the device sees */
	unsigned char *old;  /* and saw before copy_in() last wrote there; for stale lies */
	bool freed;          /* it is kept, to be looked at, until the simulation ends */
};

struct simulated_copy {
	struct backend_copy copy;
	struct backend_device *device;
	uint64_t ticket;
};

struct simulated_device_counts {
	uint64_t copies;
	uint64_t faults; /* calls that failed */
	uint64_t exports;
	uint64_t acquires;
	bool lost;
};

/* A device as gds_device_open() gives it. Closed with gds_device_close(). */
struct gds_device *simulated_device_open(struct simulation *simulation,
					 const struct simulated_device_options *options);
const struct simulated_device_counts *simulated_device_counts(const struct gds_device *device);

/* From now on it has no memory to give. */
void simulated_device_fill(struct gds_device *device);

struct simulated_memory *simulated_memory_of(const struct gds_buffer *buffer);

/* The device's memory that the range lies in, or NULL. Fails where it lies half in it. */
struct simulated_memory *simulated_memory_at(struct simulation *simulation, const void *address,
					     uint64_t bytes);
bool simulated_memory_is_freed(const struct simulated_memory *memory);

/* A drive writes to the memory through a dma-buf, or wrote through the mapping. */
void simulated_memory_dma(struct simulated_memory *memory, unsigned char *place,
			  const unsigned char *bytes, uint64_t count);
void simulated_memory_written(struct simulated_memory *memory, const void *address, uint64_t count);

/* The memory as the device sees it. */
const unsigned char *simulated_memory_view(const struct simulated_memory *memory);

/* Whether the host's bytes before and behind the memory are what they were. */
bool simulated_memory_is_clean_around(const struct simulated_memory *memory);

/* Whether a copy that is not done reads of this range. */
bool simulated_copies_use(const struct simulation *simulation, const unsigned char *address,
			  uint64_t bytes);

/* Lets go of all memory that the devices gave. */
void simulated_memories_free(struct simulation *simulation);

#endif
