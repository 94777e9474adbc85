/* SPDX-License-Identifier: Apache-2.0 */
#include "lane/dmabuf.h"

#include "lane/uapi.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* struct io_uring_rsrc_update2, whose second word released headers reserve. */
struct update {
	uint32_t offset; /* the slot */
	uint32_t flags;
	uint64_t data;
	uint64_t tags;
	uint32_t nr;
	uint32_t resv;
};

#define UPDATE_PAIRS       1u
#define UPDATE_DESCRIPTORS 2u

struct pair {
	uint64_t iovec;
	int32_t target_fd;
	int32_t dmabuf_fd;
};

enum descriptor_type {
	TYPE_EMPTY = 0,
	TYPE_DMABUF = 2,
};

struct descriptor {
	uint32_t type;
	uint32_t flags;
	uint64_t size;
	uint64_t address;
	int32_t dmabuf_fd;
	int32_t target_fd;
	uint64_t reserved[6];
};

_Static_assert(sizeof(struct update) == 32, "the kernel's layout");
_Static_assert(sizeof(struct pair) == 16, "the kernel's layout");
_Static_assert(sizeof(struct descriptor) == 80, "the kernel's layout");

static int update_slot(int ring_fd, uint32_t slot, uint32_t flags, const void *entry)
{
	struct update update = {
		.offset = slot,
		.flags = flags,
		.data = (uintptr_t)entry,
		.nr = 1,
	};
	int ret = io_uring_register((unsigned int)ring_fd, IORING_REGISTER_BUFFERS_UPDATE, &update,
				    sizeof(update));

	if (ret < 0)
		return ret;
	return ret == 1 ? 0 : -EIO;
}

static int update_pair(int ring_fd, uint32_t slot, int target, int dmabuf)
{
	struct iovec none = { 0 };
	struct pair pair = {
		.iovec = (uintptr_t)&none,
		.target_fd = target,
		.dmabuf_fd = dmabuf,
	};

	return update_slot(ring_fd, slot, UPDATE_PAIRS, &pair);
}

static int empty_descriptor(int ring_fd, uint32_t slot)
{
	struct descriptor descriptor = { .type = TYPE_EMPTY };

	return update_slot(ring_fd, slot, UPDATE_DESCRIPTORS, &descriptor);
}

int dmabuf_register(int ring_fd, enum dmabuf_shape shape, uint32_t slot, int target, int dmabuf)
{
	struct descriptor descriptor = {
		.type = TYPE_DMABUF,
		.dmabuf_fd = dmabuf,
		.target_fd = target,
	};

	if (!dmabuf_kernel_speaks(shape))
		return -ENOSYS;
	switch (shape) {
	case DMABUF_DESCRIPTORS:
		return update_slot(ring_fd, slot, UPDATE_DESCRIPTORS, &descriptor);
	case DMABUF_PAIRS:
		return update_pair(ring_fd, slot, target, dmabuf);
	default:
		return -EOPNOTSUPP;
	}
}

/* What the running kernel speaks. */
struct spoken {
	bool descriptors;
	bool pairs;
};

/* A kernel answers -EINVAL to a shape that it does not know. */
static int judge_answer(int err, bool *speaks)
{
	*speaks = err == 0;
	return err == -EINVAL ? 0 : err;
}

static int probe(struct spoken *spoken)
{
	struct io_uring_rsrc_register table = { .nr = 1, .flags = IORING_RSRC_REGISTER_SPARSE };
	struct io_uring ring;
	int err = io_uring_queue_init(1, &ring, 0);

	if (err)
		return err;
	err = io_uring_register((unsigned int)ring.ring_fd, IORING_REGISTER_BUFFERS2, &table,
				sizeof(table));
	if (!err)
		err = judge_answer(empty_descriptor(ring.ring_fd, 0), &spoken->descriptors);
	if (!err)
		err = judge_answer(update_pair(ring.ring_fd, 0, -1, -1), &spoken->pairs);
	io_uring_queue_exit(&ring);
	return err;
}

/* Only an answer is kept: that descriptors or memory are short now says nothing of later. */
static struct spoken ask_kernel(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct spoken answer;
	static bool answered;
	struct spoken spoken = { false, false };

	pthread_mutex_lock(&lock);
	if (!answered && probe(&spoken) == 0) {
		answer = spoken;
		answered = true;
	}
	spoken = answer;
	pthread_mutex_unlock(&lock);
	return spoken;
}

enum dmabuf_shape dmabuf_kernel_shape(void)
{
	struct spoken spoken = ask_kernel();

	if (spoken.descriptors)
		return DMABUF_DESCRIPTORS;
	return spoken.pairs ? DMABUF_PAIRS : DMABUF_NONE;
}

bool dmabuf_kernel_speaks(enum dmabuf_shape shape)
{
	struct spoken spoken = ask_kernel();

	return shape == DMABUF_DESCRIPTORS ? spoken.descriptors
					   : shape == DMABUF_PAIRS && spoken.pairs;
}

const char *dmabuf_shape_name(enum dmabuf_shape shape)
{
	switch (shape) {
	case DMABUF_DESCRIPTORS:
		return "descriptor shape v3";
	case DMABUF_PAIRS:
		return "pair shape v2";
	default:
		return "none";
	}
}
