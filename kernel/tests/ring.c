// SPDX-License-Identifier: GPL-2.0-only
#include "ring.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "test.h"

/*
 * A request that the tests wait for takes milliseconds; throttled ones seconds; one to
 * a controller that the driver gives up, as long as its admin commands may: 60 s.
 */
#define WAIT_LIMIT_S 150

const char *const shape_names[SHAPES] = {"pair", "descriptor"};

static int register_call(int fd, unsigned opcode, const void *argument, unsigned count)
{
	long result = syscall(__NR_io_uring_register, fd, opcode, argument, count);

	return result < 0 ? -errno : (int)result;
}

static void map_rings(struct ring *ring, const struct io_uring_params *params)
{
	size_t sq_bytes = params->sq_off.array + params->sq_entries * sizeof(unsigned);
	size_t cq_bytes = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
	char *base;

	ring->rings_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
	base = mmap(NULL, ring->rings_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		    ring->fd, IORING_OFF_SQ_RING);
	CHECK(base != MAP_FAILED, "mmap of the rings: %s", strerror(errno));
	ring->sqes = mmap(NULL, params->sq_entries * sizeof(struct io_uring_sqe),
			  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
			  IORING_OFF_SQES);
	CHECK(ring->sqes != MAP_FAILED, "mmap of the entries: %s", strerror(errno));
	ring->rings = base;
	ring->sq_tail = (unsigned *)(base + params->sq_off.tail);
	ring->sq_mask = (unsigned *)(base + params->sq_off.ring_mask);
	ring->sq_array = (unsigned *)(base + params->sq_off.array);
	ring->cq_head = (unsigned *)(base + params->cq_off.head);
	ring->cq_tail = (unsigned *)(base + params->cq_off.tail);
	ring->cq_mask = (unsigned *)(base + params->cq_off.ring_mask);
	ring->cqes = (struct io_uring_cqe *)(base + params->cq_off.cqes);
}

void ring_open_bare(struct ring *ring, unsigned entries, unsigned flags)
{
	struct io_uring_params params = {.flags = flags};

	*ring = (struct ring){.entries = entries};
	ring->fd = (int)syscall(__NR_io_uring_setup, entries, &params);
	CHECK(ring->fd >= 0, "io_uring_setup: %s", strerror(errno));
	CHECK(params.features & IORING_FEAT_SINGLE_MMAP, "a kernel without single mmap");
	map_rings(ring, &params);
}

void ring_open(struct ring *ring, unsigned entries, unsigned flags)
{
	struct io_uring_rsrc_register table = {.nr = SLOTS, .flags = IORING_RSRC_REGISTER_SPARSE};

	ring_open_bare(ring, entries, flags);
	CHECK_EQ(register_call(ring->fd, IORING_REGISTER_BUFFERS2, &table, sizeof(table)), 0,
		 "registering a sparse table");
}

void ring_close(struct ring *ring)
{
	munmap(ring->sqes, ring->entries * sizeof(struct io_uring_sqe));
	munmap(ring->rings, ring->rings_bytes);
	close(ring->fd);
}

struct io_uring_sqe *ring_next(struct ring *ring)
{
	unsigned tail = *ring->sq_tail;
	unsigned index = tail & *ring->sq_mask;
	struct io_uring_sqe *sqe = &ring->sqes[index];

	CHECK(ring->queued < ring->entries, "the test filled its ring");
	memset(sqe, 0, sizeof(*sqe));
	ring->sq_array[index] = index;
	__atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
	ring->queued++;
	return sqe;
}

static int enter(struct ring *ring, unsigned to_submit, unsigned wait_for, unsigned flags)
{
	struct __kernel_timespec limit = {.tv_sec = (long long)WAIT_LIMIT_S * test_slowness()};
	struct io_uring_getevents_arg argument = {.ts = (uintptr_t)&limit};
	long result = syscall(__NR_io_uring_enter, ring->fd, to_submit, wait_for,
			      flags | IORING_ENTER_EXT_ARG, &argument, sizeof(argument));

	return result < 0 ? -errno : (int)result;
}

void ring_submit(struct ring *ring)
{
	while (ring->queued) {
		int done = enter(ring, ring->queued, 0, IORING_ENTER_GETEVENTS);

		if (done == -EINTR || done == -EAGAIN || done == -EBUSY)
			continue;
		CHECK(done > 0, "io_uring_enter: %s", strerror(-done));
		ring->queued -= (unsigned)done;
	}
}

void ring_submit_and_wait(struct ring *ring, unsigned count)
{
	int done = enter(ring, ring->queued, count, IORING_ENTER_GETEVENTS);

	CHECK(done == (int)ring->queued, "io_uring_enter: %d", done);
	ring->queued = 0;
}

bool ring_peek(struct ring *ring, struct completion *completion)
{
	unsigned head = *ring->cq_head;
	const struct io_uring_cqe *cqe;

	if (head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE))
		return false;
	cqe = &ring->cqes[head & *ring->cq_mask];
	*completion = (struct completion){.user_data = cqe->user_data, .res = cqe->res};
	__atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
	return true;
}

struct completion ring_wait(struct ring *ring)
{
	struct completion completion;
	int result;

	while (!ring_peek(ring, &completion)) {
		result = enter(ring, 0, 1, IORING_ENTER_GETEVENTS);
		CHECK(result >= 0 || result == -EINTR, "waiting for a completion: %s",
		      strerror(-result));
	}
	return completion;
}

void ring_queue(struct ring *ring, const struct fixed_io *io)
{
	struct io_uring_sqe *sqe = ring_next(ring);

	sqe->opcode = io->opcode ? io->opcode : IORING_OP_READ_FIXED;
	sqe->fd = io->fd;
	sqe->off = io->file_offset;
	sqe->addr = io->buffer_offset;
	sqe->len = io->length;
	sqe->buf_index = (uint16_t)io->slot;
	sqe->user_data = io->user_data;
}

int ring_do(struct ring *ring, const struct fixed_io *io)
{
	ring_queue(ring, io);
	ring_submit(ring);
	return ring_wait(ring).res;
}

int ring_do_again(struct ring *ring, const struct fixed_io *io)
{
	int result;

	do
		result = ring_do(ring, io);
	while (result == -EAGAIN);
	return result;
}

int ring_update(struct ring *ring, const struct rsrc_update *update)
{
	return register_call(ring->fd, IORING_REGISTER_BUFFERS_UPDATE, update, sizeof(*update));
}

static int register_pair(struct ring *ring, unsigned slot, int target_fd, int dmabuf_fd)
{
	struct iovec empty = {0};
	struct pair_entry entry = {.iov_uaddr = (uintptr_t)&empty,
				   .target_fd = target_fd,
				   .dmabuf_fd = dmabuf_fd};
	struct rsrc_update update = {.offset = slot,
				     .flags = UPDATE_FLAG_PAIR,
				     .data = (uintptr_t)&entry,
				     .nr = 1};

	return ring_update(ring, &update);
}

static int register_descriptor(struct ring *ring, unsigned slot,
			       const struct buffer_descriptor *descriptor)
{
	struct rsrc_update update = {.offset = slot,
				     .flags = UPDATE_FLAG_DESCRIPTOR,
				     .data = (uintptr_t)descriptor,
				     .nr = 1};

	return ring_update(ring, &update);
}

int ring_register(struct ring *ring, enum shape shape, unsigned slot, int target_fd, int dmabuf_fd)
{
	struct buffer_descriptor descriptor = {
		.type = DESCRIPTOR_DMABUF, .dmabuf_fd = dmabuf_fd, .target_fd = target_fd};

	if (shape == SHAPE_PAIR)
		return register_pair(ring, slot, target_fd, dmabuf_fd);
	return register_descriptor(ring, slot, &descriptor);
}

int ring_empty(struct ring *ring, enum shape shape, unsigned slot)
{
	struct buffer_descriptor descriptor = {.type = DESCRIPTOR_EMPTY};

	if (shape == SHAPE_PAIR)
		return register_pair(ring, slot, -1, -1);
	return register_descriptor(ring, slot, &descriptor);
}

int ring_register_user(struct ring *ring, unsigned slot, void *address, size_t bytes)
{
	struct iovec vector = {.iov_base = address, .iov_len = bytes};
	struct rsrc_update update = {.offset = slot, .data = (uintptr_t)&vector, .nr = 1};

	return ring_update(ring, &update);
}

void register_or_fail(struct ring *ring, enum shape shape, unsigned slot, int target_fd,
		      int dmabuf_fd)
{
	CHECK_EQ(ring_register(ring, shape, slot, target_fd, dmabuf_fd), 1,
		 "registering a dma-buf, shape %s, slot %u", shape_names[shape], slot);
}

enum shape some_shape(void)
{
	return test_seed & 1 ? SHAPE_PAIR : SHAPE_DESCRIPTOR;
}
