/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scheduler by itself, over imagined disks and a clock of their own, thousands of
 * seeds: its bounds must hold whatever is asked of it.
 *
 * A disk has so many channels, each of which takes its latency for an operation, and
 * behind them one link, over which bytes go one after another. So it has a depth at
 * which it is saturated, which the test can tell and the scheduler must find.
 */
#include "base/bits.h"
#include "plan/scheduler.h"
#include "support/random.h"
#include "support/sanitized.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MOST_DISKS    4
#define MOST_CHANNELS 64
#define MOST_OPS      1024
#define MOST_RUNS     64
#define TRANSFER      (UINT32_C(1) << 20)
#define US            UINT64_C(1000)
#define MS            (1000 * US)

struct disk {
	struct schedule_device queue;
	struct schedule_bounds bounds;
	uint32_t channels;
	uint64_t latency_ns; /* of a channel, for one operation */
	double link_ns;      /* for one byte */
	uint32_t jitter;     /* per mille of the latency, up or down */
	uint64_t free_ns[MOST_CHANNELS];
	double link_free_ns;
	uint64_t longest_ns; /* that an operation took */
	uint64_t last_done_ns;
};

struct test_op {
	struct schedule_op op;
	struct disk *disk;
	uint64_t done_ns;
	uint64_t issued_ns;
	bool used;
};

/* What the test knows of a read, beside what the scheduler does. */
struct test_read {
	uint64_t arrived_ns;
	uint64_t done_ns;
	uint64_t begun;   /* the number of its first operation on the disk, from 1 */
	uint64_t brought; /* bytes */
	uint64_t ahead;   /* operations of the same class that must go before */
	bool finished;
};

struct test_run {
	struct schedule_run run;
	struct read *reads;
	struct test_read *looks;
	uint32_t count;
	uint64_t arrives_ns;
	bool arrived;
};

struct world {
	uint64_t seed;
	struct random random;
	struct scheduler scheduler;
	struct disk disks[MOST_DISKS];
	size_t disk_count;
	struct plan_limits limits[MOST_DISKS];
	struct test_op ops[MOST_OPS];
	size_t op_count;
	struct test_run runs[MOST_RUNS];
	size_t run_count;
	uint64_t now_ns;
	uint64_t issued; /* operations */
	uint64_t open;   /* reads that are not finished */
};

static struct world world;

_Noreturn static void fail_world(const char *format, ...) __attribute__((format(printf, 1, 2)));

_Noreturn static void fail_world(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	print_error("GDS_TEST_SEED=%" PRIu64 ": at %" PRIu64 " us: %s\n", world.seed,
		    world.now_ns / US, text);
	fail();
	abort();
}

#define CHECK(condition)                                                               \
	do {                                                                           \
		if (!(condition))                                                      \
			fail_world("line %d: %s does not hold", __LINE__, #condition); \
	} while (0)

/* ---- Disks ---------------------------------------------------------------------- */

static uint64_t serve(struct disk *disk, uint32_t bytes)
{
	uint32_t channel = 0;
	uint64_t latency = disk->latency_ns;
	double done;

	for (uint32_t i = 1; i < disk->channels; i++)
		if (disk->free_ns[i] < disk->free_ns[channel])
			channel = i;
	if (disk->jitter)
		latency =
			latency *
			(1000 - disk->jitter + random_below(&world.random, 2 * disk->jitter + 1)) /
			1000;
	disk->free_ns[channel] = max_u64(world.now_ns, disk->free_ns[channel]) + latency;
	done = (double)disk->free_ns[channel];
	if (done < disk->link_free_ns)
		done = disk->link_free_ns;
	done += (double)bytes * disk->link_ns;
	disk->link_free_ns = done;
	return (uint64_t)done + 1;
}

/* How long one operation takes that is alone. */
static uint64_t unloaded_ns(const struct disk *disk, uint64_t bytes)
{
	return disk->latency_ns + (uint64_t)((double)bytes * disk->link_ns) + 1;
}

/* Nanoseconds between two operations of these bytes when the disk is saturated. */
static double busy_interval_ns(const struct disk *disk, uint64_t bytes)
{
	double channels = (double)disk->latency_ns / disk->channels;
	double link = (double)bytes * disk->link_ns;

	return channels > link ? channels : link;
}

/* Operations in flight that saturate it. */
static double knee(const struct disk *disk, uint64_t bytes)
{
	return (double)unloaded_ns(disk, bytes) / busy_interval_ns(disk, bytes);
}

static struct disk *add_disk(uint32_t operations, bool fixed, uint64_t bytes)
{
	struct disk *disk = &world.disks[world.disk_count];

	*disk = (struct disk){ .channels = 1, .latency_ns = 100 * US, .link_ns = 0.25 };
	disk->bounds = (struct schedule_bounds){
		.operations = operations,
		.fixed = fixed,
		.bytes = bytes,
		.transfer_bytes = TRANSFER,
	};
	world.limits[world.disk_count] = (struct plan_limits){
		.offset_align = 512,
		.memory_align = 512,
		.transfer_bytes = TRANSFER,
		.staged_bytes = TRANSFER,
		.direct = true,
		.whole_bytes = TRANSFER,
	};
	scheduler_add_device(&world.scheduler, &disk->queue, &disk->bounds, false);
	world.disk_count++;
	return disk;
}

static void begin_world(uint64_t seed, uint32_t most)
{
	for (size_t i = 0; i < world.run_count; i++) {
		free(world.runs[i].reads);
		free(world.runs[i].looks);
	}
	memset(&world, 0, sizeof(world));
	world.seed = seed;
	world.random.state = seed;
	world.now_ns = MS;
	scheduler_init(&world.scheduler, most);
}

/* ---- Reads ------------------------------------------------------------------------ */

static struct test_run *add_run(struct disk *disk, enum schedule_class class, uint32_t count,
				uint64_t arrives_ns)
{
	struct test_run *run = &world.runs[world.run_count++];

	assert_true(world.run_count <= MOST_RUNS);
	run->reads = calloc(count, sizeof(*run->reads));
	run->looks = calloc(count, sizeof(*run->looks));
	assert_non_null(run->reads);
	assert_non_null(run->looks);
	run->count = count;
	run->arrives_ns = arrives_ns;
	schedule_run_init(&run->run, &disk->queue, run->reads, class);
	return run;
}

static void set_read(struct test_run *run, uint32_t index, uint64_t offset, uint64_t place,
		     uint64_t length)
{
	struct disk *disk = (struct disk *)run->run.device;
	struct schedule_list list;

	run->reads[index] = (struct read){
		.limits = &world.limits[disk - world.disks],
		.offset = offset,
		.buffer_offset = place,
		.length = length,
	};
	list = schedule_list_of(&run->run);
	schedule_list_append(&list, index, &run->reads[index]);
	schedule_list_keep(&list, &run->run, 1);
	world.open++;
}

/* `count` reads of the same length at random places, none of them neighbours. */
static struct test_run *add_scattered(struct disk *disk, enum schedule_class class, uint32_t count,
				      uint64_t length, uint64_t arrives_ns)
{
	struct test_run *run = add_run(disk, class, count, arrives_ns);

	for (uint32_t i = 0; i < count; i++)
		set_read(run, i, 512 * random_below(&world.random, UINT64_C(1) << 30),
			 i * align_up(length + 512, 4096), length);
	return run;
}

/* ---- One step of time --------------------------------------------------------------- */

static struct test_run *run_of(const struct schedule_op *op)
{
	return (struct test_run *)op->run;
}

static void check_bounds(void)
{
	uint32_t total = 0;

	for (size_t i = 0; i < world.disk_count; i++) {
		const struct disk *disk = &world.disks[i];
		const struct schedule_device *queue = &disk->queue;
		uint32_t others = queue->in_flight - queue->in_flight_of[SCHEDULE_FOREGROUND];

		CHECK(queue->in_flight <= disk->bounds.operations);
		CHECK(queue->in_flight_bytes <= disk->bounds.bytes);
		CHECK(queue->depth.now >= 1 && queue->depth.now <= disk->bounds.operations);
		CHECK(others <= disk->bounds.operations);
		total += queue->in_flight;
	}
	CHECK(total == world.scheduler.in_flight);
	CHECK(total <= world.scheduler.most);
}

/* The bytes of an operation are those of its reads, each once and in order. */
static void note_issue(struct test_op *op)
{
	const struct schedule_op *cut = &op->op;
	struct test_run *run = run_of(cut);
	struct read *read = cut->read;
	uint64_t place = cut->io.place;
	uint64_t left = cut->io.wanted;

	CHECK(cut->reads >= 1);
	CHECK(cut->io.length <= TRANSFER);
	for (uint32_t i = 0; i < cut->reads; i++) {
		struct test_read *look = &run->looks[read - run->reads];
		uint64_t part = min_u64(left, read_place_end(read) - place);

		CHECK(place == read->buffer_offset + look->brought);
		CHECK(cut->io.offset + cut->io.skip + (place - cut->io.place) ==
		      read->offset + look->brought);
		CHECK(read->operations >= 1 || read->error);
		if (!look->begun)
			look->begun = world.issued;
		look->brought += part;
		place += part;
		left -= part;
		if (i + 1 < cut->reads)
			read = &run->reads[read->next];
	}
	CHECK(left == 0);
}

static void issue_one(struct disk *disk, const struct schedule_op *cut)
{
	size_t i = 0;

	while (world.ops[i].used)
		assert_true(++i < MOST_OPS);
	world.ops[i] = (struct test_op){
		.op = *cut,
		.disk = disk,
		.issued_ns = world.now_ns,
		.done_ns = cut->io.length ? serve(disk, cut->io.length) : world.now_ns,
		.used = true,
	};
	world.op_count = max_u64(world.op_count, i + 1);
	world.issued++;
	note_issue(&world.ops[i]);
}

/* Nothing waits that could go: whatever holds it back is a bound of its own disk. */
static void check_busy(const struct disk *disk)
{
	const struct schedule_device *queue = &disk->queue;
	uint32_t foreground = queue->in_flight_of[SCHEDULE_FOREGROUND];
	uint32_t depth = queue->fixed ? queue->fixed : queue->depth.now;

	if (!queue->waiting || queue->in_flight >= min_u64(queue->most, queue->share) ||
	    queue->in_flight_bytes + TRANSFER > disk->bounds.bytes ||
	    world.scheduler.in_flight == world.scheduler.most)
		return;
	if (queue->waiting & (1u << SCHEDULE_FOREGROUND))
		CHECK(foreground >= depth);
	else if (foreground == 0)
		CHECK(queue->in_flight >= queue->depth.now);
	else
		CHECK(queue->in_flight - foreground >= 1);
}

/* As a reader does it: streaks of whole reads first, then one by one. */
static bool issue_streak(struct disk *disk)
{
	struct schedule_run *run;
	struct read *reads[64];
	uint32_t count =
		scheduler_take(&world.scheduler, &disk->queue,
			       (uint32_t)random_between(&world.random, 1, 64), reads, &run);

	for (uint32_t i = 0; i < count; i++) {
		struct schedule_op op = {
			.io = { .offset = reads[i]->offset,
				.place = reads[i]->buffer_offset,
				.length = (uint32_t)reads[i]->length,
				.wanted = (uint32_t)reads[i]->length },
			.run = run,
			.read = reads[i],
			.reads = 1,
			.charged = (uint32_t)reads[i]->length,
		};

		issue_one(disk, &op);
	}
	check_bounds();
	return count > 0;
}

static void issue(void)
{
	struct schedule_op op;
	bool any;

	scheduler_share(&world.scheduler);
	do {
		any = false;
		for (size_t i = 0; i < world.disk_count; i++) {
			any |= issue_streak(&world.disks[i]);
			if (scheduler_next(&world.scheduler, &world.disks[i].queue, &op)) {
				issue_one(&world.disks[i], &op);
				check_bounds();
				any = true;
			}
		}
	} while (any);
	for (size_t i = 0; i < world.disk_count; i++)
		check_busy(&world.disks[i]);
}

static void finish_read(struct test_run *run, struct read *read)
{
	struct test_read *look = &run->looks[read - run->reads];

	CHECK(!look->finished);
	CHECK(look->brought == read->length || read->error);
	look->finished = true;
	look->done_ns = world.now_ns;
	world.open--;
}

static void land(struct test_op *op)
{
	struct read *read = op->op.read;
	struct read *next;
	struct disk *disk = op->disk;

	op->used = false;
	scheduler_landed(&world.scheduler, &op->op);
	disk->longest_ns = max_u64(disk->longest_ns, op->done_ns - op->issued_ns);
	disk->last_done_ns = world.now_ns;
	for (uint32_t i = 0; i < op->op.reads; i++) {
		/* The last one of a run has no next; what stands there is not looked at. */
		next = i + 1 < op->op.reads ? &op->op.run->reads[read->next] : read;
		CHECK(read->operations > 0);
		if (--read->operations == 0)
			finish_read(run_of(&op->op), read);
		read = next;
	}
}

/* Moves the clock to what happens next. False where nothing ever will. */
static bool pass_time(void)
{
	uint64_t next_ns = UINT64_MAX;

	for (size_t i = 0; i < world.op_count; i++)
		if (world.ops[i].used)
			next_ns = min_u64(next_ns, world.ops[i].done_ns);
	for (size_t i = 0; i < world.run_count; i++)
		if (!world.runs[i].arrived)
			next_ns = min_u64(next_ns, world.runs[i].arrives_ns);
	if (next_ns == UINT64_MAX)
		return false;
	world.now_ns = max_u64(world.now_ns, next_ns);
	return true;
}

static void step(void)
{
	for (size_t i = 0; i < world.run_count; i++) {
		struct test_run *run = &world.runs[i];

		if (run->arrived || run->arrives_ns > world.now_ns)
			continue;
		run->arrived = true;
		for (uint32_t read = 0; read < run->count; read++)
			run->looks[read].arrived_ns = world.now_ns;
		scheduler_add(&run->run);
	}
	for (size_t i = 0; i < world.op_count; i++)
		if (world.ops[i].used && world.ops[i].done_ns <= world.now_ns)
			land(&world.ops[i]);
	scheduler_tick(&world.scheduler, world.now_ns);
	issue();
}

static void run_to_end(void)
{
	while (pass_time())
		step();
	CHECK(world.open == 0);
	CHECK(world.scheduler.in_flight == 0);
}

/* ---- Anything at all ------------------------------------------------------------------ */

static void make_disk(void)
{
	struct random *random = &world.random;
	struct disk *disk =
		add_disk((uint32_t)random_between(random, 1, 128), random_chance(random, 400),
			 TRANSFER * random_between(random, 1, 64));

	disk->channels = (uint32_t)random_between(random, 1, 1 + random_skewed(random, 63));
	disk->latency_ns = random_between(random, 1, 500) * US;
	disk->link_ns = (double)random_between(random, 50, 5000) / 1000;
	disk->jitter = (uint32_t)random_below(random, 900);
	disk->queue.seeks = random_chance(random, 300);
	world.limits[disk - world.disks].direct = random_chance(random, 900);
	if (!world.limits[disk - world.disks].direct || random_chance(random, 100))
		world.limits[disk - world.disks].whole_bytes = 0;
}

/* Some are neighbours of the one before, or of one further back. */
static void make_run(void)
{
	struct random *random = &world.random;
	struct disk *disk = &world.disks[random_below(random, world.disk_count)];
	uint32_t count = (uint32_t)random_between(random, 1, 1 + random_skewed(random, 400));
	struct test_run *run = add_run(disk, (enum schedule_class)random_below(random, 3), count,
				       world.now_ns + random_below(random, 20) * MS);
	uint64_t align = random_chance(random, 600) ? 512 : 1;
	uint64_t offset = 0;
	uint64_t place = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t length =
			align *
			random_between(random, 1, 1 + random_skewed(random, 3000000) / align);

		if (random_chance(random, 400)) {
			offset = align * random_below(random, UINT64_C(1) << 40);
			place += align * random_below(random, 10000);
		}
		set_read(run, i, offset, place, length);
		offset += length;
		place += length;
	}
}

/* A read was passed over by no more than its window's other reads. */
static void check_order(const struct test_run *run)
{
	uint64_t latest = 0;

	for (uint32_t i = 0; i < run->count; i++) {
		latest = max_u64(latest, run->looks[i].begun);
		if (i >= SCHEDULE_WINDOW) {
			const struct test_read *old = &run->looks[i - SCHEDULE_WINDOW];

			CHECK(old->begun <= run->looks[i].begun);
		}
	}
	CHECK(run->run.current == SCHEDULE_NONE && !run->run.queued);
}

/* What an operation counts for beside its bytes, when classes are weighed. */
#define OPERATION_BYTES 16384

/*
 * How many operations a disk may serve at most until the last read of a class is done,
 * counted generously: those of the class, and of the others as many as their weights
 * allow them, were they as small as can be.
 */
static uint64_t turns_of(const struct disk *disk, enum schedule_class class)
{
	static const uint64_t others[SCHEDULE_CLASSES] = { 1, 5, 20 };
	uint64_t own = 2;
	uint64_t cost = TRANSFER;

	for (size_t i = 0; i < world.run_count; i++) {
		const struct test_run *run = &world.runs[i];

		if (run->run.device != &disk->queue || run->run.class != class)
			continue;
		for (uint32_t read = 0; read < run->count; read++) {
			own += run->reads[read].length / (TRANSFER / 4) + 3;
			cost += run->reads[read].length + 3 * OPERATION_BYTES;
		}
	}
	return own + others[class] * cost / OPERATION_BYTES;
}

/* No read starves: each operation before its own is as slow as the slowest, and no more. */
static void check_age(const struct test_run *run)
{
	const struct disk *disk = (const struct disk *)run->run.device;
	uint64_t turns = turns_of(disk, run->run.class);

	for (uint32_t i = 0; i < run->count; i++) {
		uint64_t age = run->looks[i].done_ns - run->looks[i].arrived_ns;

		if (age > turns * disk->longest_ns)
			fail_world("a read of class %d waited %" PRIu64 " us, of %" PRIu64
				   " turns of at most %" PRIu64 " us",
				   run->run.class, age / US, turns, disk->longest_ns / US);
	}
}

static void run_anything(uint64_t seed)
{
	begin_world(seed, 0);
	world.scheduler.most = (uint32_t)random_between(&world.random, 4, 512);
	for (size_t disks = random_between(&world.random, 1, MOST_DISKS); disks > 0; disks--)
		make_disk();
	for (size_t runs = random_between(&world.random, 1, 8); runs > 0; runs--)
		make_run();
	run_to_end();
	for (size_t i = 0; i < world.run_count; i++) {
		check_order(&world.runs[i]);
		check_age(&world.runs[i]);
	}
}

static void for_seeds(uint64_t rounds, void (*run)(uint64_t seed))
{
	uint64_t seed = test_seed();

	rounds = test_number("GDS_TEST_ROUNDS", SANITIZED ? rounds / 8 + 1 : rounds);
	print_message("GDS_TEST_SEED=%" PRIu64 ", %" PRIu64 " rounds\n", seed, rounds);
	for (uint64_t i = 0; i < (test_seed_given() ? 1 : rounds); i++)
		run(seed + i);
}

static void bounds_hold_and_no_read_starves_whatever_is_asked(void **state)
{
	for_seeds(3000, run_anything);
}

/* ---- Depth ---------------------------------------------------------------------------- */

static struct disk *make_tunable_disk(uint64_t bytes)
{
	struct random *random = &world.random;
	struct disk *disk = add_disk(128, false, UINT64_C(128) << 20);

	do {
		disk->channels = (uint32_t)random_between(random, 1, 48);
		disk->latency_ns = random_between(random, 10, 2000) * US;
		disk->link_ns = (double)random_between(random, 50, 4000) / 1000;
	} while (knee(disk, bytes) > 100);
	disk->jitter = (uint32_t)random_below(random, 100);
	return disk;
}

static void run_settling(uint64_t seed)
{
	uint64_t sizes[] = { 4096, 65536, 1 << 20 };
	const uint32_t count = 12000;
	struct disk *disk;
	uint64_t bytes;
	uint32_t changes = 0;
	uint32_t before = 0;
	uint64_t half_operations;
	uint64_t half_ns;
	double ideal;
	double rate;
	double sum = 0;
	uint64_t looks = 0;

	begin_world(seed, 512);
	bytes = sizes[random_below(&world.random, 3)];
	disk = make_tunable_disk(bytes);
	add_scattered(disk, SCHEDULE_FOREGROUND, count, bytes, world.now_ns);
	while (world.open > count / 2 && pass_time())
		step();
	half_operations = disk->queue.landed_operations;
	half_ns = world.now_ns;
	while (world.open > 200 && pass_time()) {
		step();
		changes += disk->queue.depth.now != before;
		before = disk->queue.depth.now;
		sum += before;
		looks++;
	}
	rate = (double)(disk->queue.landed_operations - half_operations) /
	       (double)(world.now_ns - half_ns);
	ideal = 1 / busy_interval_ns(disk, bytes);
	if (rate < 0.90 * ideal)
		fail_world("%.0f%% of the disk's rate at depth %u, whose knee is %.1f",
			   100 * rate / ideal, disk->queue.depth.now, knee(disk, bytes));
	if (sum / (double)looks > 2 * knee(disk, bytes) + 2)
		fail_world("depth %.1f on average, where %.1f saturate the disk",
			   sum / (double)looks, knee(disk, bytes));
	if (changes > 40)
		fail_world("the depth changed %u times", changes);
	run_to_end();
}

static void depth_settles_where_the_device_is_saturated_and_no_higher(void **state)
{
	for_seeds(600, run_settling);
}

/* ---- Classes -------------------------------------------------------------------------- */

static void run_foreground_under_prefetch(uint64_t seed)
{
	uint64_t sizes[] = { 4096, 65536, 1 << 20 };
	struct test_run *runs[20];
	struct disk *disk;
	uint64_t bytes;
	uint64_t own;
	uint64_t bound;

	begin_world(seed, 512);
	bytes = sizes[random_below(&world.random, 3)];
	disk = make_tunable_disk(bytes);
	disk->jitter = 0;
	add_scattered(disk,
		      random_chance(&world.random, 500) ? SCHEDULE_PREFETCH : SCHEDULE_BACKGROUND,
		      8000, bytes, world.now_ns);
	while (world.open > 3000 && pass_time())
		step();
	own = 512 * random_between(&world.random, 1, bytes / 512);
	for (int i = 0; i < 20; i++)
		runs[i] = add_scattered(disk, SCHEDULE_FOREGROUND, 1, own,
					world.now_ns + (uint64_t)i * 20 * unloaded_ns(disk, bytes));
	run_to_end();
	/* A transfer: or two operations of the prefetch, where these are smaller. */
	bound = 2 * unloaded_ns(disk, own) +
		max_u64(unloaded_ns(disk, bytes),
			2 * unloaded_ns(disk, min_u64(bytes, TRANSFER / 4)));
	for (int i = 0; i < 20; i++) {
		uint64_t took = runs[i]->looks[0].done_ns - runs[i]->looks[0].arrived_ns;

		if (took > bound)
			fail_world("a foreground read of %" PRIu64 " took %" PRIu64
				   " us, and %" PRIu64 " unloaded; a transfer takes %" PRIu64
				   "; depth %u, knee %.1f",
				   own, took / US, unloaded_ns(disk, own) / US,
				   unloaded_ns(disk, bytes) / US, disk->queue.depth.now,
				   knee(disk, bytes));
	}
}

static void a_foreground_read_is_not_held_up_by_a_prefetch(void **state)
{
	for_seeds(600, run_foreground_under_prefetch);
}

/* All the time there is something of each class. */
static void run_weights(uint64_t seed)
{
	struct disk *disk;
	uint64_t done[SCHEDULE_CLASSES];
	struct test_run *runs[SCHEDULE_CLASSES];

	begin_world(seed, 512);
	disk = add_disk(64, true, UINT64_C(64) << 20);
	disk->latency_ns = random_between(&world.random, 10, 200) * US;
	disk->channels = (uint32_t)random_between(&world.random, 1, 32);
	for (enum schedule_class rank = 0; rank < SCHEDULE_CLASSES; rank++)
		runs[rank] = add_scattered(disk, rank, 6000, 65536, world.now_ns);
	while (world.open > 13000 && pass_time())
		step();
	for (int rank = 0; rank < SCHEDULE_CLASSES; rank++) {
		done[rank] = 0;
		for (uint32_t i = 0; i < runs[rank]->count; i++)
			done[rank] += runs[rank]->looks[i].finished;
	}
	/* Each class gets something, and in the order of the weights. */
	CHECK(done[SCHEDULE_FOREGROUND] > 2 * done[SCHEDULE_PREFETCH]);
	CHECK(done[SCHEDULE_PREFETCH] > 2 * done[SCHEDULE_BACKGROUND]);
	CHECK(done[SCHEDULE_BACKGROUND] > 50);
	run_to_end();
}

static void each_class_gets_its_share(void **state)
{
	for_seeds(50, run_weights);
}

/* ---- Devices -------------------------------------------------------------------------- */

/* One disk is far slower: the others end as if they were alone. */
static void run_slow_disk(uint64_t seed)
{
	const uint32_t count = 1500;
	struct disk *slow;

	begin_world(seed, 64); /* the slow one alone could fill the lane */
	for (int i = 0; i < MOST_DISKS; i++) {
		struct disk *disk = add_disk(64, true, UINT64_C(64) << 20);

		disk->channels = (uint32_t)random_between(&world.random, 2, 8);
		disk->latency_ns = random_between(&world.random, 20, 100) * US;
		disk->link_ns = 0.1;
	}
	slow = &world.disks[random_below(&world.random, MOST_DISKS)];
	slow->latency_ns *= 100;
	for (int i = 0; i < MOST_DISKS; i++)
		add_scattered(&world.disks[i], SCHEDULE_FOREGROUND, count, 65536, world.now_ns);
	run_to_end();
	for (int i = 0; i < MOST_DISKS; i++) {
		struct disk *disk = &world.disks[i];
		double alone = count * busy_interval_ns(disk, 65536);

		if ((double)(disk->last_done_ns - MS) > 1.1 * alone + 2 * (double)disk->longest_ns)
			fail_world("disk %d took %" PRIu64 " us for what takes %.0f us alone", i,
				   (disk->last_done_ns - MS) / US, alone / US);
	}
}

static void a_slow_device_does_not_hold_the_others_back(void **state)
{
	for_seeds(100, run_slow_disk);
}

/* ---- Neighbours ------------------------------------------------------------------------- */

static uint64_t operations_for(bool seeks, bool shuffled, uint32_t count, uint64_t length)
{
	struct disk *disk;
	struct test_run *run;
	uint32_t order[SCHEDULE_WINDOW];

	begin_world(1, 512);
	disk = add_disk(64, true, UINT64_C(64) << 20);
	disk->queue.seeks = seeks;
	run = add_run(disk, SCHEDULE_FOREGROUND, count, world.now_ns);
	for (uint32_t i = 0; i < SCHEDULE_WINDOW; i++)
		order[i] = i;
	for (uint32_t i = SCHEDULE_WINDOW - 1; shuffled && i > 0; i--) {
		uint32_t other = (uint32_t)random_below(&world.random, i + 1);
		uint32_t kept = order[i];

		order[i] = order[other];
		order[other] = kept;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint64_t at = align_down(i, SCHEDULE_WINDOW) + order[i % SCHEDULE_WINDOW];

		set_read(run, i, at * length, at * length, length);
	}
	run_to_end();
	return world.issued;
}

static void neighbours_are_read_by_one_operation(void **state)
{
	assert_int_equal(operations_for(false, false, 1024, 4096), 4);
	/* Across a transfer's end, too: not one read more than the bytes need. */
	assert_int_equal(operations_for(false, false, 1024, 12288), 12);
	/* Unaligned ones have edges of their own only at both ends of the stretch. */
	assert_int_equal(operations_for(false, false, 1024, 1000), 1);
	assert_int_equal(operations_for(false, false, 1024, 1500), 2);
}

static void neighbours_are_found_where_they_come_out_of_order(void **state)
{
	assert_int_equal(operations_for(true, true, 1024, 4096), 4);
	/* The first window is a trial, which pays: so it goes on. */
	assert_int_equal(operations_for(false, true, 1024, 4096), 4);
}

/* ---- Failing ------------------------------------------------------------------------------ */

/* Reads fail, and runs are removed, while others are cut: nothing is left over. */
static void run_removing(uint64_t seed)
{
	struct test_run *run;
	uint64_t left;
	size_t i;

	begin_world(seed, 64);
	make_disk();
	for (i = 0; i < 4; i++)
		make_run();
	for (left = random_below(&world.random, 100); left > 0 && pass_time(); left--) {
		step();
		run = &world.runs[random_below(&world.random, world.run_count)];
		i = random_below(&world.random, run->count);
		if (run->reads[i].operations > 0)
			run->reads[i].error = -5;
	}
	run = &world.runs[random_below(&world.random, world.run_count)];
	if (run->arrived) {
		scheduler_remove(&run->run);
		CHECK(!run->run.queued);
		for (i = 0; i < run->count; i++) {
			run->reads[i].error = -5;
			if (!run->looks[i].finished && run->reads[i].operations == 0)
				finish_read(run, &run->reads[i]);
		}
	}
	run_to_end();
}

static void failed_and_removed_reads_leave_nothing_behind(void **state)
{
	for_seeds(2000, run_removing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bounds_hold_and_no_read_starves_whatever_is_asked),
		cmocka_unit_test(depth_settles_where_the_device_is_saturated_and_no_higher),
		cmocka_unit_test(a_foreground_read_is_not_held_up_by_a_prefetch),
		cmocka_unit_test(each_class_gets_its_share),
		cmocka_unit_test(a_slow_device_does_not_hold_the_others_back),
		cmocka_unit_test(neighbours_are_read_by_one_operation),
		cmocka_unit_test(neighbours_are_found_where_they_come_out_of_order),
		cmocka_unit_test(failed_and_removed_reads_leave_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
