// SPDX-License-Identifier: GPL-2.0-only
/* What ends while something else still uses it: slots, rings, files, processes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cases.h"
#include "test.h"
#include "transfer.h"
#include "vmctl.h"

enum {
	MIB = 1 << 20,
	MEMORY_BYTES = 4 * MIB,
	LIMIT_S = 60,
	/* Reads in flight, and how fast the throttled disk lets them go. */
	READS = 16,
	READ_BYTES = 64 << 10,
	OPERATIONS_PER_S = 40,
};

static struct fixed_io read_number(const struct setup *setup, unsigned number)
{
	return (struct fixed_io){.fd = setup->disk.fd,
				 .buffer_offset = (uint64_t)number * READ_BYTES,
				 .length = READ_BYTES,
				 .file_offset = (uint64_t)number * READ_BYTES,
				 .user_data = number};
}

/* Leaves READS reads in flight on a disk that is in no hurry. */
static void start_reads(struct setup *setup)
{
	unsigned i;

	vm_throttle("nvme0", OPERATIONS_PER_S);
	for (i = 0; i < READS; i++) {
		struct fixed_io io = read_number(setup, i);

		ring_queue(&setup->ring, &io);
	}
	ring_submit(&setup->ring);
}

/* The premise of these tests: something is still in flight. */
static void expect_in_flight(struct setup *setup)
{
	CHECK(*setup->ring.cq_tail - *setup->ring.cq_head < READS, "nothing was left in flight");
}

static void expect_reads_done(struct setup *setup)
{
	unsigned i;

	for (i = 0; i < READS; i++) {
		struct completion completion = ring_wait(&setup->ring);

		CHECK_EQ(completion.res, READ_BYTES, "read %llu",
			 (unsigned long long)completion.user_data);
	}
	CHECK(pattern_check(setup->memory.map, READS * READ_BYTES, setup->disk.seed, 0) < 0,
	      "wrong bytes");
}

static void throttle_off(void)
{
	vm_throttle("nvme0", 0);
}

static void open_default(struct setup *setup)
{
	setup_open(setup, some_shape(), "nvme0", &exporter_udmabuf, MEMORY_BYTES);
}

/* --- slots */

static void slot_emptied(const void *argument)
{
	struct setup setup;

	(void)argument;
	open_default(&setup);
	start_reads(&setup);
	CHECK_EQ(ring_empty(&setup.ring, setup.shape, 0), 1, "emptying the slot");
	expect_in_flight(&setup);
	throttle_off();
	expect_reads_done(&setup);
	CHECK_EQ(ring_do(&setup.ring, &(struct fixed_io){.fd = setup.disk.fd, .length = 4096}), -EFAULT,
		 "a read through the empty slot");
}

/* Old requests finish in the old memory, new ones go to the new. */
static void slot_replaced(const void *argument)
{
	struct setup setup;
	struct memory second;
	struct fixed_io io = {.length = MIB, .file_offset = DISK_HIGH};

	(void)argument;
	open_default(&setup);
	memory_open(&second, exporters[1], MEMORY_BYTES);
	start_reads(&setup);
	register_or_fail(&setup.ring, setup.shape, 0, setup.disk.fd, second.dmabuf_fd);
	expect_in_flight(&setup);
	throttle_off();
	expect_reads_done(&setup);
	io.fd = setup.disk.fd;
	CHECK_EQ(ring_do(&setup.ring, &io), MIB, "a read into the new memory");
	CHECK(pattern_check(second.map, MIB, setup.disk.seed, DISK_HIGH) < 0, "wrong bytes");
}

static void table_unregistered(const void *argument)
{
	struct setup setup;

	(void)argument;
	open_default(&setup);
	start_reads(&setup);
	CHECK_EQ(syscall(__NR_io_uring_register, setup.ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0,
		 "unregistering all buffers");
	expect_in_flight(&setup);
	throttle_off();
	expect_reads_done(&setup);
}

/* --- ends */

static void ring_closed(const void *argument)
{
	struct setup setup;
	struct span span = {.length = MIB};
	struct setup after;

	(void)argument;
	open_default(&setup);
	start_reads(&setup);
	expect_in_flight(&setup);
	ring_close(&setup.ring);
	throttle_off();
	open_default(&after);
	read_and_compare(&after, 0, &span);
}

/* A child that does something for ever, to be killed. */
static pid_t start_child(void (*body)(void))
{
	pid_t child = fork();

	CHECK(child >= 0, "fork: %s", strerror(errno));
	if (child == 0) {
		body();
		_exit(1);
	}
	return child;
}

static void kill_child(pid_t child)
{
	int status;

	CHECK(kill(child, SIGKILL) == 0, "kill: %s", strerror(errno));
	CHECK(waitpid(child, &status, 0) == child, "waitpid: %s", strerror(errno));
	CHECK(WIFSIGNALED(status), "the child ended by itself");
}

static void read_for_ever(void)
{
	struct setup setup;

	open_default(&setup);
	for (;;)
		read_and_compare(&setup, 0, &(struct span){.length = MIB});
}

static void register_for_ever(void)
{
	struct setup setup;

	open_default(&setup);
	for (;;) {
		register_or_fail(&setup.ring, SHAPE_PAIR, 0, setup.disk.fd, setup.memory.dmabuf_fd);
		ring_do(&setup.ring, &(struct fixed_io){.fd = setup.disk.fd, .length = MIB});
		register_or_fail(&setup.ring, SHAPE_DESCRIPTOR, 0, setup.disk.fd,
				 setup.memory.dmabuf_fd);
	}
}

static void stand_still_in_flight(void)
{
	struct setup setup;

	open_default(&setup);
	start_reads(&setup);
	pause();
}

static void pause_ms(unsigned ms)
{
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l};

	nanosleep(&time, NULL);
}

/* Wherever the child is when it dies: the moments spread over a run of it. */
static void killed_at_any_point(const void *argument)
{
	void (*const bodies[])(void) = {read_for_ever, register_for_ever};
	unsigned i;
	struct setup after;

	(void)argument;
	for (i = 0; i < 24; i++) {
		pid_t child = start_child(bodies[i % 2]);

		pause_ms(10 + 13 * i);
		kill_child(child);
	}
	open_default(&after);
	read_and_compare(&after, 0, &(struct span){.length = MIB});
}

static void killed_in_flight(const void *argument)
{
	struct setup after;
	pid_t child;

	(void)argument;
	child = start_child(stand_still_in_flight);
	pause_ms(300 * test_slowness());
	CHECK(kill(child, SIGKILL) == 0, "kill: %s", strerror(errno));
	pause_ms(20);
	throttle_off();
	CHECK(waitpid(child, NULL, 0) == child, "waitpid: %s", strerror(errno));
	open_default(&after);
	read_and_compare(&after, 0, &(struct span){.length = MIB});
}

/* --- every order of closing */

enum part { PART_RING, PART_TARGET, PART_DMABUF, PART_DEVICE, PARTS };

struct closing {
	const struct exporter *exporter;
	const char *serial;
	bool in_flight;
};

static void close_part(struct setup *setup, enum part part)
{
	switch (part) {
	case PART_RING:
		ring_close(&setup->ring);
		break;
	case PART_TARGET:
		disk_close(&setup->disk);
		break;
	case PART_DMABUF:
		close(setup->memory.dmabuf_fd);
		break;
	case PART_DEVICE:
		/* The map keeps the device open as well. */
		if (!setup->memory.exporter->owns_map)
			munmap(setup->memory.map, setup->memory.bytes);
		if (setup->memory.exporter->close)
			setup->memory.exporter->close(&setup->memory);
		break;
	case PARTS:
		break;
	}
}

static void close_in_order(const struct closing *closing, const enum part *order)
{
	struct setup setup;
	unsigned i;

	setup_open(&setup, some_shape(), closing->serial, closing->exporter, MEMORY_BYTES);
	if (closing->in_flight) {
		start_reads(&setup);
		expect_in_flight(&setup);
	}
	for (i = 0; i < PARTS; i++)
		close_part(&setup, order[i]);
	if (closing->in_flight)
		throttle_off();
}

/* Calls `visit` with every order of the parts. */
static void permute(enum part *order, unsigned fixed, const struct closing *closing)
{
	unsigned i;

	if (fixed == PARTS) {
		close_in_order(closing, order);
		return;
	}
	for (i = fixed; i < PARTS; i++) {
		enum part first = order[fixed];

		order[fixed] = order[i];
		order[i] = first;
		permute(order, fixed + 1, closing);
		order[i] = order[fixed];
		order[fixed] = first;
	}
}

static void closed_in_every_order(const void *argument)
{
	const struct closing *closing = argument;
	enum part order[PARTS] = {PART_RING, PART_TARGET, PART_DMABUF, PART_DEVICE};
	struct setup after;

	permute(order, 0, closing);
	setup_open(&after, some_shape(), closing->serial, closing->exporter, MEMORY_BYTES);
	read_and_compare(&after, 0, &(struct span){.length = MIB});
}

/* Memory that went away for good: an error, at once, and nothing written. */
static void device_closed_then_read(const void *argument)
{
	struct setup setup;
	int result;

	(void)argument;
	setup_open(&setup, some_shape(), "nvme1", &exporter_vfio_far, MEMORY_BYTES);
	munmap(setup.memory.map, setup.memory.bytes);
	vfio_close_device(&setup.memory);
	result = ring_do(&setup.ring, &(struct fixed_io){.fd = setup.disk.fd, .length = 4096});
	CHECK(result < 0 && result != -EAGAIN, "a read into revoked memory: %d", result);
}

static void device_reset_then_read(const void *argument)
{
	struct setup setup;
	unsigned round;

	(void)argument;
	setup_open(&setup, some_shape(), "nvme1", &exporter_vfio_far, MEMORY_BYTES);
	for (round = 0; round < 4; round++) {
		vfio_reset_device(&setup.memory);
		read_and_compare(&setup, 0, &(struct span){.length = MIB, .file_offset = DISK_HIGH});
	}
}

/* The memory bit of the PCI command takes the BAR away and gives it back. */
static void memory_disabled_then_read(const void *argument)
{
	struct setup setup;
	int result;

	(void)argument;
	setup_open(&setup, some_shape(), "nvme1", &exporter_vfio_far, MEMORY_BYTES);
	vfio_set_memory(&setup.memory, false);
	result = ring_do(&setup.ring, &(struct fixed_io){.fd = setup.disk.fd, .length = 4096});
	CHECK(result < 0, "a read into a BAR that is not decoded: %d", result);
	vfio_set_memory(&setup.memory, true);
	read_and_compare(&setup, 0, &(struct span){.length = MIB});
}

static void add_closings(void)
{
	static const struct closing closings[] = {
		{&exporter_udmabuf, "nvme0", false},
		{&exporter_udmabuf, "nvme0", true},
		{&exporter_vfio_near, "nvme0", false},
		{&exporter_vfio_near, "nvme0", true},
		{&exporter_vfio_far, "nvme0", false},
		{&exporter_vfio_far, "nvme0", true},
	};
	size_t i;

	for (i = 0; i < sizeof(closings) / sizeof(*closings); i++)
		test_add(closed_in_every_order, &closings[i], 2 * LIMIT_S,
			 "lifetime: %s closed in every order%s", closings[i].exporter->name,
			 closings[i].in_flight ? ", reads in flight" : "");
}

void add_lifetime_cases(void)
{
	test_add(slot_emptied, NULL, LIMIT_S, "lifetime: slot emptied with reads in flight");
	test_add(slot_replaced, NULL, LIMIT_S, "lifetime: slot replaced with reads in flight");
	test_add(table_unregistered, NULL, LIMIT_S, "lifetime: table unregistered with reads in flight");
	test_add(ring_closed, NULL, LIMIT_S, "lifetime: ring closed with reads in flight");
	test_add(killed_in_flight, NULL, LIMIT_S, "lifetime: process killed with reads in flight");
	test_add(killed_at_any_point, NULL, LIMIT_S, "lifetime: process killed at any point");
	add_closings();
	test_add(device_closed_then_read, NULL, LIMIT_S, "lifetime: VFIO device closed, then a read");
	test_add(device_reset_then_read, NULL, LIMIT_S, "lifetime: VFIO device reset, then a read");
	test_add(memory_disabled_then_read, NULL, LIMIT_S, "lifetime: BAR disabled and enabled again");
}
