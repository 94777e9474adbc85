// SPDX-License-Identifier: GPL-2.0-only
/* The exporter moves, revokes or refuses its memory: on purpose, and under load. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cases.h"
#include "exporter_test.h"
#include "test.h"
#include "transfer.h"
#include "vmctl.h"

enum {
	MIB = 1 << 20,
	LIMIT_S = 60,
	/* Each lane is read into by one request at a time. */
	LANES = 8,
	LANE_BYTES = 32 << 10,
	MOVES = 10000,
};

static void open_default(struct setup *setup)
{
	setup_open(setup, some_shape(), "nvme0", &exporter_test, LANES * LANE_BYTES);
}

static int read_block(struct setup *setup)
{
	return ring_do(&setup->ring, &(struct fixed_io){.fd = setup->disk.fd, .length = 4096});
}

/* --- moves under load */

struct mover {
	pthread_t thread;
	int dmabuf_fd;
	enum gds_exporter_action action;
	unsigned left;		  /* atomic */
	const unsigned *progress; /* atomic; NULL: moves without a look at the reads */
};

/* A move that follows another with no read between them meets no mapping, and
 * proves nothing. */
static void wait_for_progress(const struct mover *mover, unsigned *seen)
{
	unsigned now;

	while (mover->progress && (now = __atomic_load_n(mover->progress, __ATOMIC_RELAXED)) == *seen)
		sched_yield();
	*seen = mover->progress ? now : 0;
}

static void *move(void *argument)
{
	struct mover *mover = argument;
	unsigned seen = 0;

	while (__atomic_load_n(&mover->left, __ATOMIC_RELAXED)) {
		wait_for_progress(mover, &seen);
		exporter_test_act(mover->dmabuf_fd, mover->action, 0);
		__atomic_sub_fetch(&mover->left, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static uint64_t lane_offset(uint64_t round, unsigned lane)
{
	return (round * LANES + lane) * LANE_BYTES % DISK_PATTERN_BYTES;
}

static struct fixed_io lane_read(const struct setup *setup, uint64_t round, unsigned lane)
{
	return (struct fixed_io){.fd = setup->disk.fd,
				 .buffer_offset = (uint64_t)lane * LANE_BYTES,
				 .length = LANE_BYTES,
				 .file_offset = lane_offset(round, lane),
				 .user_data = lane};
}

/* Fills every lane once; a request that says -EAGAIN is issued again unchanged. */
static unsigned read_lanes_counting(struct setup *setup, uint64_t round, unsigned *progress)
{
	unsigned lane, again = 0, done = 0;

	for (lane = 0; lane < LANES; lane++) {
		struct fixed_io io = lane_read(setup, round, lane);

		ring_queue(&setup->ring, &io);
	}
	ring_submit(&setup->ring);
	while (done < LANES) {
		struct completion completion = ring_wait(&setup->ring);
		struct fixed_io io = lane_read(setup, round, (unsigned)completion.user_data);

		if (completion.res == -EAGAIN) {
			ring_queue(&setup->ring, &io);
			ring_submit(&setup->ring);
			again++;
			continue;
		}
		CHECK_EQ(completion.res, LANE_BYTES, "a read under moves");
		__atomic_add_fetch(progress, 1, __ATOMIC_RELAXED);
		done++;
	}
	return again;
}

static unsigned read_lanes(struct setup *setup, uint64_t round)
{
	unsigned progress = 0;

	return read_lanes_counting(setup, round, &progress);
}

static void check_lanes(const struct setup *setup, uint64_t round)
{
	unsigned lane;

	for (lane = 0; lane < LANES; lane++) {
		int64_t wrong = pattern_check(setup->memory.map + lane * LANE_BYTES, LANE_BYTES,
					      setup->disk.seed, lane_offset(round, lane));

		CHECK(wrong < 0, "round %llu, lane %u: wrong byte at %lld",
		      (unsigned long long)round, lane, (long long)wrong);
	}
}

static void under_load(enum gds_exporter_action action)
{
	struct setup setup;
	unsigned progress = 0;
	struct mover mover = {.action = action, .left = MOVES, .progress = &progress};
	struct gds_exporter_state state;
	uint64_t round = 0;
	unsigned again = 0;

	open_default(&setup);
	mover.dmabuf_fd = setup.memory.dmabuf_fd;
	CHECK(pthread_create(&mover.thread, NULL, move, &mover) == 0, "pthread_create");
	do {
		memset(setup.memory.map, POISON, LANES * LANE_BYTES);
		again += read_lanes_counting(&setup, round, &progress);
		check_lanes(&setup, round);
		round++;
	} while (__atomic_load_n(&mover.left, __ATOMIC_RELAXED));
	pthread_join(mover.thread, NULL);
	state = exporter_test_state(setup.memory.dmabuf_fd);
	printf("    %llu rounds of reads, %llu mappings, %u issued again\n",
	       (unsigned long long)round, (unsigned long long)state.mapped, again);
	CHECK(state.mapped > MOVES / 4, "most moves met no mapping");
}

static void moved_under_load(const void *argument)
{
	(void)argument;
	under_load(GDS_EXPORTER_MOVE);
}

static void invalidated_under_load(const void *argument)
{
	(void)argument;
	under_load(GDS_EXPORTER_INVALIDATE);
}

/* The move must wait for the reads that the disk holds, and no longer. */
static void moved_with_reads_in_flight(const void *argument)
{
	struct setup setup;
	struct mover mover = {.action = GDS_EXPORTER_MOVE, .left = 1};

	(void)argument;
	open_default(&setup);
	mover.dmabuf_fd = setup.memory.dmabuf_fd;
	vm_throttle("nvme0", 40);
	CHECK(pthread_create(&mover.thread, NULL, move, &mover) == 0, "pthread_create");
	read_lanes(&setup, 0);
	pthread_join(mover.thread, NULL);
	vm_throttle("nvme0", 0);
	check_lanes(&setup, 0);
}

/* --- one thing at a time */

static void revoked_and_restored(const void *argument)
{
	struct setup setup;
	unsigned round;

	(void)argument;
	open_default(&setup);
	for (round = 0; round < 3; round++) {
		exporter_test_act(setup.memory.dmabuf_fd, GDS_EXPORTER_REVOKE, 0);
		memset(setup.memory.map, POISON, 4096);
		CHECK_EQ(read_block(&setup), -ENODEV, "a read into revoked memory");
		CHECK(poison_check(setup.memory.map, 4096) < 0, "revoked memory was written");
		exporter_test_act(setup.memory.dmabuf_fd, GDS_EXPORTER_RESTORE, 0);
		read_and_compare(&setup, 0, &(struct span){.length = LANE_BYTES});
	}
}

static void mapped_once(const void *argument)
{
	struct setup setup;
	struct gds_exporter_state state;
	uint64_t round;

	(void)argument;
	open_default(&setup);
	for (round = 0; round < 50; round++)
		read_lanes(&setup, round);
	state = exporter_test_state(setup.memory.dmabuf_fd);
	CHECK_EQ(state.attached, 1, "attachments");
	CHECK_EQ(state.mapped, 1, "mappings for 400 reads");
	CHECK_EQ(state.peer2peer, 1, "peer-to-peer allowed");
}

static void expect_nothing_left(int dmabuf_fd, const char *after)
{
	struct gds_exporter_state state = exporter_test_state(dmabuf_fd);

	CHECK_EQ(state.mappings, 0, "mappings left after %s", after);
	CHECK_EQ(state.attachments, 0, "attachments left after %s", after);
}

/* A slot's memory is let go once the last request is done, by deferred work. */
static void wait_until_nothing_left(int dmabuf_fd)
{
	while (exporter_test_state(dmabuf_fd).attachments)
		usleep(1000);
}

static void detached_when_emptied(const void *argument)
{
	struct setup setup;

	(void)argument;
	open_default(&setup);
	read_and_compare(&setup, 0, &(struct span){.length = LANE_BYTES});
	CHECK_EQ(ring_empty(&setup.ring, setup.shape, 0), 1, "emptying");
	wait_until_nothing_left(setup.memory.dmabuf_fd);
	register_or_fail(&setup.ring, setup.shape, 0, setup.disk.fd, setup.memory.dmabuf_fd);
	ring_close(&setup.ring);
	wait_until_nothing_left(setup.memory.dmabuf_fd);
	expect_nothing_left(setup.memory.dmabuf_fd, "the ring's end");
}

struct failure {
	const char *name;
	struct gds_exporter_fault fault;
	int expected;
};

static const struct failure failures[] = {
	{"attach with ENOMEM", {.attach_errno = ENOMEM}, -ENOMEM},
	{"attach with EBUSY", {.attach_errno = EBUSY}, -EBUSY},
	{"map with ENOMEM", {.map_errno = ENOMEM}, -ENOMEM},
	{"map with EIO", {.map_errno = EIO}, -EIO},
	{"map with EBUSY", {.map_errno = EBUSY}, -EBUSY},
};

/* The registration fails with the exporter's error, leaves nothing, works later. */
static void exporter_fails(const void *argument)
{
	const struct failure *failure = argument;
	struct gds_exporter_fault fault = failure->fault;
	struct disk disk;
	struct ring ring;
	unsigned shape;
	int dmabuf = exporter_test_create(MIB, 0);

	disk_open(&disk, "nvme0");
	ring_open(&ring, 4, 0);
	fault.dmabuf_fd = dmabuf;
	for (shape = 0; shape < SHAPES; shape++) {
		exporter_test_fault(fault);
		CHECK_EQ(ring_register(&ring, shape, 0, disk.fd, dmabuf), failure->expected, "shape %s",
			 shape_names[shape]);
		expect_nothing_left(dmabuf, "a failed registration");
		exporter_test_fault((struct gds_exporter_fault){.dmabuf_fd = dmabuf});
		register_or_fail(&ring, shape, 0, disk.fd, dmabuf);
		CHECK_EQ(ring_empty(&ring, shape, 0), 1, "emptying");
		wait_until_nothing_left(dmabuf);
	}
}

/* Mapping again after a move may fail as well; the slot outlives it. */
static void remap_fails(const void *argument)
{
	struct setup setup;

	(void)argument;
	open_default(&setup);
	exporter_test_fault(
		(struct gds_exporter_fault){.dmabuf_fd = setup.memory.dmabuf_fd, .map_errno = ENOSPC});
	exporter_test_act(setup.memory.dmabuf_fd, GDS_EXPORTER_MOVE, 0);
	CHECK_EQ(read_block(&setup), -ENOSPC, "a read that cannot map again");
	exporter_test_fault((struct gds_exporter_fault){.dmabuf_fd = setup.memory.dmabuf_fd});
	read_and_compare(&setup, 0, &(struct span){.length = LANE_BYTES});
}

static void odd_layouts(const void *argument)
{
	struct disk disk;
	struct ring ring;
	int odd_size = exporter_test_create(MIB + 512, GDS_EXPORTER_CREATE_ODD_SIZE);
	int odd_segments = exporter_test_create(MIB, GDS_EXPORTER_CREATE_ODD_SEGMENTS);
	int even = exporter_test_create(MIB, 0);

	(void)argument;
	disk_open(&disk, "nvme0");
	ring_open(&ring, 4, 0);
	CHECK_EQ(ring_register(&ring, some_shape(), 0, disk.fd, odd_size), -EINVAL,
		 "a size that is no multiple of 4096");
	CHECK_EQ(ring_register(&ring, some_shape(), 0, disk.fd, odd_segments), -EINVAL,
		 "segments that are not aligned to pages");
	expect_nothing_left(odd_size, "a refusal");
	expect_nothing_left(odd_segments, "a refusal");
	register_or_fail(&ring, some_shape(), 0, disk.fd, even);
}

static void static_exporter(const void *argument)
{
	struct disk disk;
	struct ring ring;
	int dmabuf = exporter_test_create(MIB, GDS_EXPORTER_CREATE_STATIC);

	(void)argument;
	disk_open(&disk, "nvme0");
	ring_open(&ring, 4, 0);
	register_or_fail(&ring, some_shape(), 0, disk.fd, dmabuf);
	CHECK_EQ(ring_do(&ring, &(struct fixed_io){.fd = disk.fd, .length = MIB}), MIB, "reading");
}

/* The new place is not ready before the exporter's fence has signalled. */
static void fence_is_waited_for(const void *argument)
{
	struct setup setup;

	(void)argument;
	open_default(&setup);
	exporter_test_fault(
		(struct gds_exporter_fault){.dmabuf_fd = setup.memory.dmabuf_fd, .fence_us = 100000});
	exporter_test_act(setup.memory.dmabuf_fd, GDS_EXPORTER_MOVE, 0);
	read_and_compare(&setup, 0, &(struct span){.length = LANE_BYTES});
}

struct lock_holder {
	pthread_t thread;
	int dmabuf_fd;
};

static void *hold_lock(void *argument)
{
	struct lock_holder *holder = argument;
	unsigned round;

	for (round = 0; round < 10; round++)
		exporter_test_act(holder->dmabuf_fd, GDS_EXPORTER_INVALIDATE, 20000);
	return NULL;
}

/* Everything that needs the exporter's lock, while the exporter sits on it. */
static void lock_held(const void *argument)
{
	struct setup setup;
	struct lock_holder holder;
	uint64_t round;

	(void)argument;
	open_default(&setup);
	holder.dmabuf_fd = setup.memory.dmabuf_fd;
	CHECK(pthread_create(&holder.thread, NULL, hold_lock, &holder) == 0, "pthread_create");
	for (round = 0; round < 5; round++) {
		read_lanes(&setup, round);
		check_lanes(&setup, round);
		register_or_fail(&setup.ring, round & 1, 0, setup.disk.fd, setup.memory.dmabuf_fd);
	}
	ring_close(&setup.ring);
	pthread_join(holder.thread, NULL);
	wait_until_nothing_left(setup.memory.dmabuf_fd);
}

static void moved_between_two_disks(const void *argument)
{
	struct setup setup;
	struct disk other;
	unsigned round;

	(void)argument;
	open_default(&setup);
	disk_open(&other, "nvme1");
	register_or_fail(&setup.ring, setup.shape, 1, other.fd, setup.memory.dmabuf_fd);
	for (round = 0; round < 20; round++) {
		struct fixed_io io = {.fd = other.fd, .slot = 1, .length = LANE_BYTES};

		exporter_test_act(setup.memory.dmabuf_fd, GDS_EXPORTER_MOVE, 0);
		read_and_compare(&setup, 0, &(struct span){.length = LANE_BYTES});
		CHECK_EQ(ring_do_again(&setup.ring, &io), LANE_BYTES, "the other disk");
		CHECK(pattern_check(setup.memory.map, LANE_BYTES, other.seed, 0) < 0, "wrong bytes");
	}
}

void add_move_cases(void)
{
	static const struct {
		test_function *function;
		unsigned limit_s;
		const char *name;
	} cases[] = {
		{mapped_once, LIMIT_S, "mapping: made once for all reads"},
		{detached_when_emptied, LIMIT_S, "mapping: let go with its slot and its ring"},
		{odd_layouts, LIMIT_S, "mapping: odd sizes and segments are refused"},
		{static_exporter, LIMIT_S, "mapping: an exporter that never moves"},
		{remap_fails, LIMIT_S, "move: the exporter refuses to map again"},
		{revoked_and_restored, LIMIT_S, "move: revoked and restored"},
		{fence_is_waited_for, LIMIT_S, "move: the exporter's fence is waited for"},
		{moved_between_two_disks, LIMIT_S, "move: two disks follow"},
		{moved_with_reads_in_flight, LIMIT_S, "move: with reads in flight"},
		{lock_held, LIMIT_S, "move: the exporter holds its lock for long"},
		{moved_under_load, 4 * LIMIT_S, "move: 10,000 moves under load"},
		{invalidated_under_load, 4 * LIMIT_S, "move: 10,000 invalidations under load"},
	};
	size_t i;

	for (i = 0; i < sizeof(failures) / sizeof(*failures); i++)
		test_add(exporter_fails, &failures[i], LIMIT_S, "mapping: exporter fails to %s",
			 failures[i].name);
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		test_add(cases[i].function, NULL, cases[i].limit_s, "%s", cases[i].name);
}
