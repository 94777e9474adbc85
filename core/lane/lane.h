/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lane issues reads to the storage: io_uring (uring.c) or a pool of threads
 * with preadv2 (threads.c). It knows file descriptors, host memory and nothing
 * else; which bytes go where is decided above it.
 *
 * All calls but lane->ops->wake come from one thread at a time: the reader's
 * driver. For a lane opened with LANE_SINGLE_THREAD it is always the same one,
 * the thread that first called enter() or an add call.
 */
#ifndef GDS_LANE_LANE_H
#define GDS_LANE_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LANE_WAIT_FOREVER UINT64_MAX
#define LANE_NO_BUFFER    UINT32_MAX
#define LANE_TOKEN_MAX    (UINT64_MAX - 2) /* the last two are the lane's own */
/* For how long enter() waits for more completions than one, when it is asked to. */
#define LANE_GATHER_NS (50 * UINT64_C(1000))

enum lane_flag {
	LANE_SINGLE_THREAD = 1u << 0,
};

struct lane_options {
	uint32_t flags;        /* of enum lane_flag */
	uint32_t depth;        /* most reads queued and in flight */
	uint32_t threads;      /* of the thread lane */
	uint32_t dmabuf_shape; /* to register dma-bufs in: of enum dmabuf_shape */
};

/*
 * One read. The address lies in the registered buffer, if one is named; of a
 * dma-buf it is the offset in that.
 */
struct lane_read {
	uint64_t token;  /* handed back in the completion; at most LANE_TOKEN_MAX */
	uint64_t offset; /* in the file */
	void *address;
	uint32_t length;
	uint32_t file;   /* from file_add */
	uint32_t buffer; /* from buffer_add, or LANE_NO_BUFFER */
};

/*
 * The kernel ties a read to the thread that handed it over. If that thread has
 * ended meanwhile, a read through the page cache fails with -EFAULT, and one that
 * could be given up with -ECANCELED: issue it again. Neither happens with
 * LANE_SINGLE_THREAD or in the thread lane.
 */
struct lane_completion {
	uint64_t token;
	int32_t result;  /* bytes, or a negative errno */
	uint32_t unused; /* so that io_uring's can be looked at where they are */
};

struct lane {
	const struct lane_ops *ops;
	/*
	 * What this lane lacks on this kernel, in words; "" if nothing. Set by open.
	 */
	char reason[256];
	struct lane_ring *ring; /* that reads are queued in; NULL: ask the lane */
};

struct lane_ops {
	const char *name;

	int (*open)(struct lane **lane, const struct lane_options *options);
	/* Nothing is in flight by then. */
	void (*close)(struct lane *lane);

	/* Makes a descriptor known. It stays open until file_remove. */
	int (*file_add)(struct lane *lane, int fd, uint32_t *file);
	void (*file_remove)(struct lane *lane, uint32_t file);

	/*
	 * Registers host memory, at most 1 GiB, so that the kernel pins it once
	 * instead of at each read. -EFAULT: the kernel cannot pin this kind of
	 * mapping, and reads into it will fail too. -ENOMEM: the locked-memory limit
	 * forbids it; reads that name no buffer still work. -EOPNOTSUPP: this lane
	 * registers nothing; the same.
	 */
	int (*buffer_add)(struct lane *lane, void *address, size_t bytes, uint32_t *buffer);
	void (*buffer_remove)(struct lane *lane, uint32_t buffer);

	/*
	 * Registers a dma-buf for reads of one file, by the descriptor that
	 * file_add was given. Both descriptors may be closed afterwards. Errors are
	 * the kernel's, without a message of their own; -ENOSPC where all slots are
	 * taken; -EOPNOTSUPP where the kernel or the lane has no such thing. NULL
	 * where the lane never has. Removed like a buffer.
	 */
	int (*dmabuf_add)(struct lane *lane, int fd, int dmabuf, uint32_t *buffer);

	/*
	 * Queues a read without a system call. There is room for `depth` in flight.
	 * See lane_queue() of lane/ring.h.
	 */
	void (*queue)(struct lane *lane, const struct lane_read *read);

	/*
	 * Hands over what is queued, and waits until a completion can be reaped, for
	 * at most `wait_ns` (0: not at all), or until wake(). Where `gather` is more
	 * than 1 it may wait for that many, no longer than LANE_GATHER_NS, and be as
	 * late in seeing wake(). Returns 0, also when the time is over; -EINTR when a
	 * signal came. After any other error no read will complete any more.
	 */
	int (*enter)(struct lane *lane, uint64_t wait_ns, uint32_t gather);

	/*
	 * Takes some completions, fewer than there are where they do not lie in a row.
	 * They can be looked at until the next enter() or reap(). Returns how many; 0
	 * where there is none.
	 */
	size_t (*reap)(struct lane *lane, const struct lane_completion **completions);

	/* Asks for a read in flight to be given up. It still completes, either way. */
	void (*cancel)(struct lane *lane, uint64_t token);

	/* Ends the wait of enter(), present or next. From any thread, also a signal handler. */
	void (*wake)(struct lane *lane);

	/* From now on, adds 1 to the eventfd whenever completions have arrived. */
	int (*notify)(struct lane *lane, int eventfd);
};

extern const struct lane_ops lane_uring;
extern const struct lane_ops lane_threads;

#endif
