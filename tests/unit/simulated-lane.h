/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulation of storage: a lane (core/lane/lane.h) that serves reads from images
 * of files in memory, by a clock of its own and with the faults that its seed
 * chooses. No kernel and no thread is behind it, so the same seed gives the same
 * run.
 *
 * It is also a strict judge of its caller: a read that breaks a rule of O_DIRECT or
 * of lane.h, that overlaps another one in memory, or a wait that nothing could ever
 * end, fails the test with the seed.
 */
#ifndef GDS_TESTS_SIMULATED_LANE_H
#define GDS_TESTS_SIMULATED_LANE_H

#include "lane/lane.h"
#include "support/random.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SIMULATED_FILES      4
#define SIMULATED_SLOTS      64
#define SIMULATED_BAD_BYTES  4096u /* a bad place of a file spoils one such block */
#define SIMULATED_MOST_READS 8192
#define SIMULATED_REAP       64    /* completions at once */
#define SIMULATED_DMA_OFFSET 8192u /* most bytes of a dma-buf before its slice */

/* A file as the storage holds it. The caller owns the arrays. */
struct simulated_file {
	ino_t inode;
	int direct_fd; /* the descriptor that has O_DIRECT, -1 for none */
	uint32_t offset_align;
	uint32_t memory_align;
	unsigned char *image;
	uint64_t bytes;
	bool *bad; /* of each SIMULATED_BAD_BYTES */
};

/* Chances in 1000, of each read or call, unless said. */
struct simulated_faults {
	uint32_t short_reads;
	uint32_t try_again;          /* -EAGAIN, -EINTR, -ECANCELED without a cancel */
	uint32_t interrupted_enters; /* enter() returns -EINTR */
	uint32_t ignored_cancels;
	uint32_t refused_buffers; /* buffer_add() fails with refusal */
	int refusal;
	uint32_t refused_dmabufs; /* dmabuf_add() fails with one of the kernel's errors */
	uint32_t moved_dmabufs;   /* -EAGAIN of reads into them */
	uint64_t longest_read_ns;
	/* From this read on, never where UINT64_MAX: */
	uint64_t revoked_from; /* dma-bufs give `revocation` */
	int revocation;
	uint64_t direct_refused_from;  /* O_DIRECT gives -EINVAL */
	uint64_t address_refused_from; /* device memory gives -EFAULT */
};

struct simulated_read {
	struct lane_read read;
	unsigned char *place; /* where its bytes go, also through a dma-buf */
	uint64_t due_ns;
	bool handed_over;
	bool cancelled;
};

/*
 * Memory that is registered: of the host, or a slice of a device's as a dma-buf. Of
 * that the first byte has an offset, and one file alone may read into it.
 */
struct simulated_range {
	const unsigned char *address;
	uint64_t bytes;
	struct simulated_memory *memory; /* of a dma-buf, else NULL */
	const struct simulated_file *target;
	uint64_t offset;
};

/* The dma-buf that a device handed out last, until it is registered. */
struct simulated_export {
	ino_t inode;
	struct simulated_range range;
};

struct simulation {
	uint64_t seed;
	struct random random;
	struct simulated_faults faults;
	struct simulated_file files[SIMULATED_FILES];
	size_t file_count;

	uint64_t clock_ns;
	uint64_t operations; /* ever queued */
	uint64_t transient_faults;
	uint32_t most_in_flight;
	int notify_fd;
	bool lane_open;
	uint32_t most_bytes; /* of one read; set by the test */

	/* What the lane knows. */
	uint32_t depth;
	struct simulated_read *reads;
	size_t read_count; /* queued or in flight */
	struct lane_completion reaped[SIMULATED_REAP];
	struct {
		struct simulated_file *file;
		bool direct;
	} slots[SIMULATED_SLOTS];
	struct simulated_range buffers[SIMULATED_SLOTS];
	uint32_t dmabuf_slots; /* so many of them may be dma-bufs; set by the test */
	uint32_t dmabufs;
	uint64_t dmabufs_registered; /* ever */
	uint64_t dmabufs_refused;
	uint64_t dmabuf_reads;
	struct simulated_export exported;

	/* What the devices add: memory of theirs, and copies that still read staging. */
	struct simulated_memory *memories;
	struct simulated_copy *copies;
	size_t copy_count;
};

/* The one that lane_simulated opens lanes of. */
extern struct simulation *simulation_current;
extern const struct lane_ops lane_simulated;

void simulation_open(struct simulation *simulation, uint64_t seed);
void simulation_close(struct simulation *simulation);

/* How many dma-bufs of the memory are registered: nothing may happen to it then. */
size_t simulation_registrations(const struct simulation *simulation,
				const struct simulated_memory *memory);

/* Lets time pass until the next read of the lane ends. False where none is to end. */
bool simulation_pass_time(struct simulation *simulation);

/* Fails the test, with the seed. */
_Noreturn void simulation_fail(const struct simulation *simulation, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Whether the file gives the bytes [offset, offset + length) without an error. */
bool simulated_file_is_good(const struct simulated_file *file, uint64_t offset, uint64_t length);

#endif
