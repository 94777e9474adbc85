// SPDX-License-Identifier: GPL-2.0-only
/*
 * Everything at once, in an order that a seed decides. Memory, slots and disks
 * change while reads and writes run; every byte of every read that succeeds is
 * compared.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cases.h"
#include "exporter_test.h"
#include "test.h"
#include "transfer.h"
#include "vmctl.h"

enum {
	MIB = 1 << 20,
	LIMIT_S = 240,
	STEPS = 4000,
	/* Where a request's bytes go: each lane belongs to one request at a time. */
	LANES = 16,
	LANE_BYTES = 256 << 10,
	MEMORY_BYTES = LANES * LANE_BYTES,
	DISKS = 2,
	LAST_STEPS = 12,
};

struct request {
	bool busy;
	bool is_write;
	unsigned slot;
	struct fixed_io io;
};

struct world {
	uint64_t random;
	struct disk disks[DISKS];
	/* Slot i holds memory i, registered for disk i % DISKS, or nothing. */
	struct memory memories[SLOTS];
	bool registered[SLOTS];
	struct ring ring;
	struct request requests[LANES];
	unsigned busy, good, refused, again;
	const char *last[LAST_STEPS];
	unsigned step;
};

static uint64_t next_random(struct world *world)
{
	/* xorshift64*; its constant and shifts are those of its author */
	world->random ^= world->random >> 12;
	world->random ^= world->random << 25;
	world->random ^= world->random >> 27;
	return world->random * 0x2545f4914f6cdd1dull;
}

static unsigned below(struct world *world, unsigned limit)
{
	return (unsigned)(next_random(world) >> 33) % limit;
}

static void tell_history(const struct world *world)
{
	unsigned i;

	for (i = 0; i < LAST_STEPS; i++) {
		const char *name = world->last[(world->step + i) % LAST_STEPS];

		if (name)
			printf("    ... %s\n", name);
	}
}

#define CHECK_WORLD(world, condition, ...)                                                         \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			tell_history(world);                                                       \
			FAIL(__VA_ARGS__);                                                         \
		}                                                                                  \
	} while (0)

static struct disk *disk_of_slot(struct world *world, unsigned slot)
{
	return &world->disks[slot % DISKS];
}

/* --- requests */

static void queue_request(struct world *world, unsigned lane, bool is_write)
{
	struct request *request = &world->requests[lane];
	unsigned slot = below(world, SLOTS);
	struct disk *disk = disk_of_slot(world, slot);
	unsigned blocks = LANE_BYTES / disk->block;
	unsigned first = below(world, blocks);
	uint64_t area = is_write ? DISK_SCRATCH : below(world, 2) ? DISK_HIGH : DISK_LOW;

	if (request->busy)
		return;
	*request = (struct request){.busy = true, .is_write = is_write, .slot = slot};
	request->io = (struct fixed_io){
		.opcode = is_write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED,
		.fd = disk->fd,
		.slot = slot,
		.buffer_offset = (uint64_t)lane * LANE_BYTES + first * disk->block,
		.length = (1 + below(world, blocks - first)) * disk->block,
		.file_offset = area + (uint64_t)below(world, 64) * LANE_BYTES,
		.user_data = lane};
	if (!is_write)
		memset(world->memories[slot].map + request->io.buffer_offset, POISON,
		       request->io.length);
	ring_queue(&world->ring, &request->io);
	ring_submit(&world->ring);
	world->busy++;
}

static void check_read(struct world *world, const struct request *request)
{
	const uint8_t *bytes = world->memories[request->slot].map + request->io.buffer_offset;
	int64_t wrong = pattern_check(bytes, request->io.length, disk_of_slot(world, request->slot)->seed,
				      request->io.file_offset);

	CHECK_WORLD(world, wrong < 0, "slot %u (%s), %u bytes at %llu into %llu: wrong byte at %lld",
		    request->slot, world->memories[request->slot].exporter->name, request->io.length,
		    (unsigned long long)request->io.file_offset,
		    (unsigned long long)request->io.buffer_offset, (long long)wrong);
}

static void finish_request(struct world *world, struct completion completion)
{
	struct request *request = &world->requests[completion.user_data];

	if (completion.res == -EAGAIN) {
		world->again++;
		ring_queue(&world->ring, &request->io);
		ring_submit(&world->ring);
		return;
	}
	request->busy = false;
	world->busy--;
	if (completion.res < 0) {
		/* The slot was empty, its memory revoked. */
		CHECK_WORLD(world, completion.res == -EFAULT || completion.res == -ENODEV ||
				    completion.res == -EBADF,
			    "a request ended with %d (%s)", completion.res, strerror(-completion.res));
		world->refused++;
		return;
	}
	CHECK_WORLD(world, (uint32_t)completion.res == request->io.length, "short: %d of %u",
		    completion.res, request->io.length);
	world->good++;
	if (!request->is_write)
		check_read(world, request);
}

static void reap(struct world *world, unsigned at_most)
{
	while (world->busy && at_most--)
		finish_request(world, ring_wait(&world->ring));
}

/* --- steps */

static void step_read(struct world *world)
{
	queue_request(world, below(world, LANES), false);
}

static void step_write(struct world *world)
{
	queue_request(world, below(world, LANES), true);
}

static void step_reap(struct world *world)
{
	reap(world, 1 + below(world, LANES));
}

static void step_register(struct world *world)
{
	unsigned slot = below(world, SLOTS);
	int result = ring_register(&world->ring, (enum shape)below(world, SHAPES), slot,
				   disk_of_slot(world, slot)->fd, world->memories[slot].dmabuf_fd);

	/* Revoked memory cannot be registered. */
	CHECK_WORLD(world, result == 1 || result == -ENODEV, "registering slot %u: %d", slot, result);
	if (result == 1)
		world->registered[slot] = true;
}

static void step_empty(struct world *world)
{
	unsigned slot = below(world, SLOTS);

	CHECK_WORLD(world, ring_empty(&world->ring, (enum shape)below(world, SHAPES), slot) == 1,
		    "emptying slot %u", slot);
	world->registered[slot] = false;
}

/* A slot of the test exporter, or one where the action is the bus's. */
static void act_on(struct world *world, enum gds_exporter_action action)
{
	unsigned slot = below(world, SLOTS);

	if (world->memories[slot].exporter == &exporter_test)
		exporter_test_act(world->memories[slot].dmabuf_fd, action, below(world, 2) * 500);
}

static void step_move(struct world *world)
{
	act_on(world, GDS_EXPORTER_MOVE);
}

static void step_revoke(struct world *world)
{
	act_on(world, GDS_EXPORTER_REVOKE);
}

static void step_restore(struct world *world)
{
	act_on(world, GDS_EXPORTER_RESTORE);
}

static void step_invalidate(struct world *world)
{
	act_on(world, GDS_EXPORTER_INVALIDATE);
}

static void step_reset(struct world *world)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/class/nvme/%s/reset_controller",
		 world->disks[below(world, DISKS)].controller);
	write_file(path, "1");
}

static void step_throttle(struct world *world)
{
	vm_throttle(below(world, DISKS) ? "nvme1" : "nvme0", below(world, 2) ? 200 : 0);
}

static void step_sgl(struct world *world)
{
	static const char *const thresholds[] = {"0", "1", "32768"};

	write_file("/sys/module/nvme/parameters/sgl_threshold", thresholds[below(world, 3)]);
}

/* The ring ends with whatever is in flight, and a new one takes its place. */
static void step_new_ring(struct world *world)
{
	unsigned lane;

	ring_close(&world->ring);
	ring_open(&world->ring, 4 * LANES, 0);
	memset(world->registered, 0, sizeof(world->registered));
	/* Nothing says when the old ring's reads are done: take fresh memory. */
	for (lane = 0; lane < SLOTS; lane++) {
		const struct exporter *exporter = world->memories[lane].exporter;

		memory_close(&world->memories[lane]);
		memory_open(&world->memories[lane], exporter, MEMORY_BYTES);
	}
	memset(world->requests, 0, sizeof(world->requests));
	world->busy = 0;
}

struct step {
	const char *name;
	void (*take)(struct world *world);
	unsigned weight; /* of 1000 */
};

static const struct step steps[] = {
	{"read", step_read, 470},
	{"write", step_write, 100},
	{"reap", step_reap, 200},
	{"register", step_register, 120},
	{"empty", step_empty, 25},
	{"move", step_move, 35},
	{"invalidate", step_invalidate, 20},
	{"revoke", step_revoke, 6},
	{"restore", step_restore, 10},
	{"sgl threshold", step_sgl, 4},
	{"reset", step_reset, 4},
	{"throttle", step_throttle, 4},
	{"new ring", step_new_ring, 2},
};

static const struct step *choose_step(struct world *world)
{
	unsigned point = below(world, 1000);
	size_t i;

	for (i = 0; i < sizeof(steps) / sizeof(*steps) - 1; i++) {
		if (point < steps[i].weight)
			break;
		point -= steps[i].weight;
	}
	return &steps[i];
}

static void open_world(struct world *world)
{
	const struct exporter *const kinds[SLOTS] = {
		&exporter_udmabuf, &exporter_test, &exporter_test, &exporter_test,
		exporters[1],	   exporters[2],   exporters[3],   &exporter_test};
	unsigned i;

	*world = (struct world){.random = test_seed | 1};
	disk_open(&world->disks[0], "nvme0");
	disk_open(&world->disks[1], "nvme1");
	for (i = 0; i < SLOTS; i++)
		memory_open(&world->memories[i], kinds[i], MEMORY_BYTES);
	ring_open(&world->ring, 4 * LANES, 0);
}

static void random_mix(const void *argument)
{
	static struct world world;

	(void)argument;
	open_world(&world);
	for (world.step = 0; world.step < STEPS; world.step++) {
		const struct step *step = choose_step(&world);

		world.last[world.step % LAST_STEPS] = step->name;
		step->take(&world);
	}
	vm_throttle("nvme0", 0);
	vm_throttle("nvme1", 0);
	write_file("/sys/module/nvme/parameters/sgl_threshold", "32768");
	reap(&world, UINT32_MAX);
	printf("    %u requests good, %u refused, %u issued again\n", world.good, world.refused,
	       world.again);
	CHECK(world.good > world.refused, "hardly a request succeeded");
}

/* --- at the very end */

/* How many dma-bufs there are, or -1 where nothing tells. */
static long count_dmabufs(void)
{
	FILE *file = fopen("/sys/kernel/debug/dma_buf/bufinfo", "r");
	char line[256];
	unsigned long total;
	long objects = -1;

	if (!file)
		return -1;
	/* Each object has a line "Total N devices attached"; this one is the last. */
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Total %lu objects", &total) == 1 && strstr(line, "objects"))
			objects = (long)total;
	}
	fclose(file);
	return objects;
}

/* Every test's process is gone: so must be every dma-buf that it made. */
static void no_dmabuf_left(const void *argument)
{
	unsigned tries;
	long objects = 0;

	(void)argument;
	for (tries = 0; tries < 100; tries++) {
		objects = count_dmabufs();
		if (objects < 0)
			test_skip("no /sys/kernel/debug/dma_buf/bufinfo");
		if (!objects)
			return;
		usleep(20000);
	}
	FAIL("%ld dma-bufs are left", objects);
}

void add_random_cases(void)
{
	test_add(random_mix, NULL, LIMIT_S, "random: everything at once, by seed");
}

void add_leak_cases(void)
{
	test_add(no_dmabuf_left, NULL, 30, "leak: no dma-buf outlives the tests");
}
