/* SPDX-License-Identifier: GPL-2.0-only */
/* io_uring on the raw system calls. Functions named *_or_fail end the test. */
#ifndef KERNEL_TESTS_RING_H
#define KERNEL_TESTS_RING_H

#include <linux/io_uring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uapi.h"

struct ring {
	int fd;
	unsigned entries;
	unsigned queued; /* filled, not yet submitted */
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	unsigned *sq_tail, *sq_mask, *sq_array;
	unsigned *cq_head, *cq_tail, *cq_mask;
	void *rings;
	size_t rings_bytes;
};

struct completion {
	uint64_t user_data;
	int res;
};

enum { SLOTS = 8 };

/* With a sparse table of SLOTS buffers. */
void ring_open(struct ring *ring, unsigned entries, unsigned flags);
/* Without a table. */
void ring_open_bare(struct ring *ring, unsigned entries, unsigned flags);
void ring_close(struct ring *ring);

/* A zeroed entry that the next submit takes along. */
struct io_uring_sqe *ring_next(struct ring *ring);
void ring_submit(struct ring *ring);
/* One system call that returns when so many completions are there. */
void ring_submit_and_wait(struct ring *ring, unsigned count);
/* Ends the test when none comes: a lost completion is a failure, not a wait. */
struct completion ring_wait(struct ring *ring);
bool ring_peek(struct ring *ring, struct completion *completion);

struct fixed_io {
	uint8_t opcode; /* 0 stands for IORING_OP_READ_FIXED */
	int fd;
	unsigned slot;
	uint64_t buffer_offset;
	uint32_t length;
	uint64_t file_offset;
	uint64_t user_data;
};
void ring_queue(struct ring *ring, const struct fixed_io *io);
/* Submits one and waits for it; its result. */
int ring_do(struct ring *ring, const struct fixed_io *io);
/* The same, issued again for as long as it answers -EAGAIN. */
int ring_do_again(struct ring *ring, const struct fixed_io *io);

/* How a registration is spelled. */
enum shape { SHAPE_PAIR, SHAPE_DESCRIPTOR, SHAPES };
extern const char *const shape_names[SHAPES];

/* These return what the system call returned, or the negative errno. */
int ring_update(struct ring *ring, const struct rsrc_update *update);
int ring_register(struct ring *ring, enum shape shape, unsigned slot, int target_fd, int dmabuf_fd);
int ring_empty(struct ring *ring, enum shape shape, unsigned slot);
int ring_register_user(struct ring *ring, unsigned slot, void *address, size_t bytes);

void register_or_fail(struct ring *ring, enum shape shape, unsigned slot, int target_fd,
		      int dmabuf_fd);
/* A shape that this kernel takes, whichever: for tests that are not about shapes. */
enum shape some_shape(void);

#endif
