// SPDX-License-Identifier: GPL-2.0-only
/* The disk fails, resets, times out, vanishes and comes back while reads run. */
#include <errno.h>
#include <fcntl.h>
#include <linux/nvme_ioctl.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cases.h"
#include "exporter_test.h"
#include "test.h"
#include "transfer.h"
#include "vmctl.h"

enum { MIB = 1 << 20, MEMORY_BYTES = 4 * MIB, LIMIT_S = 120 };

/* --- load: reads that may fail, but never end in silence or with wrong bytes */

enum { LANES = 8, LANE_BYTES = 192 << 10 };

struct load {
	struct setup setup;
	pthread_t thread;
	bool stop; /* atomic */
	unsigned good, failed; /* failed or short: a removed disk has no bytes */
	int last_result;
};

static void check_lane(struct load *load, unsigned lane, int result)
{
	int64_t wrong;

	if (result < LANE_BYTES) {
		__atomic_add_fetch(&load->failed, 1, __ATOMIC_RELAXED);
		load->last_result = result;
		return;
	}
	wrong = pattern_check(load->setup.memory.map + lane * LANE_BYTES, LANE_BYTES,
			      load->setup.disk.seed, lane * LANE_BYTES);
	CHECK(wrong < 0, "a read that succeeded under load: wrong byte at %lld", (long long)wrong);
	__atomic_add_fetch(&load->good, 1, __ATOMIC_RELAXED);
}

static void load_round(struct load *load)
{
	unsigned lane;

	memset(load->setup.memory.map, POISON, LANES * LANE_BYTES);
	for (lane = 0; lane < LANES; lane++)
		ring_queue(&load->setup.ring, &(struct fixed_io){.fd = load->setup.disk.fd,
								 .buffer_offset = lane * LANE_BYTES,
								 .length = LANE_BYTES,
								 .file_offset = lane * LANE_BYTES,
								 .user_data = lane});
	ring_submit(&load->setup.ring);
	for (lane = 0; lane < LANES; lane++) {
		struct completion completion = ring_wait(&load->setup.ring);

		check_lane(load, (unsigned)completion.user_data, completion.res);
	}
}

static void *load_body(void *argument)
{
	struct load *load = argument;

	while (!__atomic_load_n(&load->stop, __ATOMIC_RELAXED)) {
		load_round(load);
		/* A disk that is gone fails at once: leave a CPU for what brings it back. */
		if (load->failed)
			usleep(1000);
	}
	return NULL;
}

static void load_start(struct load *load, const char *serial, const struct exporter *exporter)
{
	*load = (struct load){0};
	setup_open(&load->setup, some_shape(), serial, exporter, MEMORY_BYTES);
	load_round(load);
	CHECK(load->good == LANES, "the load fails by itself: %d", load->last_result);
	CHECK(pthread_create(&load->thread, NULL, load_body, load) == 0, "pthread_create");
}

static void load_stop(struct load *load)
{
	__atomic_store_n(&load->stop, true, __ATOMIC_RELAXED);
	pthread_join(load->thread, NULL);
	printf("    under load: %u reads good, %u failed (last: %s)\n", load->good, load->failed,
	       !load->failed		? "none"
	       : load->last_result < 0 ? strerror(-load->last_result)
				       : "short");
}

/* --- the controller as a PCI device */

struct pci {
	char address[32];
};

static struct pci pci_of(const struct disk *disk)
{
	struct pci pci = {0};
	char path[96], target[512];
	ssize_t length;

	snprintf(path, sizeof(path), "/sys/class/nvme/%s/device", disk->controller);
	length = readlink(path, target, sizeof(target) - 1);
	CHECK(length > 0, "%s: %s", path, strerror(errno));
	target[length] = '\0';
	snprintf(pci.address, sizeof(pci.address), "%s", strrchr(target, '/') + 1);
	return pci;
}

static void pci_write(const struct pci *pci, const char *attribute, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", pci->address, attribute);
	CHECK_EQ(write_file(path, text), 0, "writing %s", path);
}

static void rescan(void)
{
	CHECK_EQ(write_file("/sys/bus/pci/rescan", "1"), 0, "rescanning the PCI buses");
}

static void set_io_timeout(const struct disk *disk, const char *milliseconds)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/block/%s/queue/io_timeout", disk->path + strlen("/dev/"));
	CHECK_EQ(write_file(path, milliseconds), 0, "writing %s", path);
}

/* The controller, or another at its place, is as good as new. */
static void expect_usable(const char *serial)
{
	struct setup after;

	disk_wait(serial);
	setup_open(&after, some_shape(), serial, &exporter_udmabuf, MEMORY_BYTES);
	read_and_compare(&after, 0, &(struct span){.length = 2 * MIB, .file_offset = DISK_HIGH});
	setup_close(&after);
}

/* A target without its disk must be refused, not hang or crash. */
static void expect_registration_fails(struct setup *setup)
{
	int result = ring_register(&setup->ring, setup->shape, 1, setup->disk.fd,
				   setup->memory.dmabuf_fd);

	CHECK(result < 0, "registered with a disk that is gone");
}

/* --- cases */

static void media_error(const void *argument)
{
	struct setup setup;
	struct fixed_io io = {.length = 256 << 10, .file_offset = DISK_BAD - (128 << 10)};
	int result;

	(void)argument;
	setup_open(&setup, some_shape(), "nvme0", &exporter_udmabuf, MEMORY_BYTES);
	io.fd = setup.disk.fd;
	result = ring_do(&setup.ring, &io);
	CHECK(result == -EIO || result == -ENODATA, "a read of a bad sector: %d", result);
	read_and_compare(&setup, 0, &(struct span){.length = MIB});
}

static void reset_controller(const struct disk *disk)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/class/nvme/%s/reset_controller", disk->controller);
	CHECK_EQ(write_file(path, "1"), 0, "writing %s", path);
}

static void reset_under_load(const void *argument)
{
	struct load load;
	unsigned i;

	load_start(&load, "nvme0", argument);
	for (i = 0; i < 10; i++) {
		reset_controller(&load.setup.disk);
		usleep(50000);
	}
	load_stop(&load);
	read_and_compare(&load.setup, 0, &(struct span){.length = 2 * MIB});
}

struct mover {
	pthread_t thread;
	const struct load *load;
};

static void *move_while_loaded(void *argument)
{
	struct mover *mover = argument;

	while (!__atomic_load_n(&mover->load->stop, __ATOMIC_RELAXED))
		exporter_test_act(mover->load->setup.memory.dmabuf_fd, GDS_EXPORTER_MOVE, 0);
	return NULL;
}

/* The exporter waits for commands that only the reset gives back. */
static void moved_while_resetting(const void *argument)
{
	struct load load;
	struct mover mover = {.load = &load};
	unsigned i;

	(void)argument;
	load_start(&load, "nvme0", &exporter_test);
	CHECK(pthread_create(&mover.thread, NULL, move_while_loaded, &mover) == 0, "pthread_create");
	for (i = 0; i < 10; i++) {
		reset_controller(&load.setup.disk);
		usleep(30000);
	}
	load_stop(&load);
	pthread_join(mover.thread, NULL);
	read_and_compare(&load.setup, 0, &(struct span){.length = 2 * MIB});
}

static void removed_under_load(const void *argument)
{
	struct load load;
	struct pci pci;

	load_start(&load, "nvme0", argument);
	pci = pci_of(&load.setup.disk);
	pci_write(&pci, "remove", "1");
	usleep(100000);
	load_stop(&load);
	CHECK(load.failed, "reads of a removed disk succeed");
	expect_registration_fails(&load.setup);
	/* The new disk appears while the old one's slot still stands. */
	rescan();
	expect_usable("nvme0");
	setup_close(&load.setup);
	expect_usable("nvme0");
}

static void removed_while_registered(const void *argument)
{
	struct setup setup;
	struct pci pci;

	(void)argument;
	setup_open(&setup, some_shape(), "nvme0", &exporter_test, MEMORY_BYTES);
	pci = pci_of(&setup.disk);
	pci_write(&pci, "remove", "1");
	CHECK_EQ(exporter_test_state(setup.memory.dmabuf_fd).attachments, 0,
		 "attachments of a device that is gone");
	exporter_test_act(setup.memory.dmabuf_fd, GDS_EXPORTER_MOVE, 0);
	setup_close(&setup);
	rescan();
	expect_usable("nvme0");
}

static void driver_unbound_under_load(const void *argument)
{
	struct load load;
	struct pci pci;

	(void)argument;
	load_start(&load, "nvme1", &exporter_udmabuf);
	pci = pci_of(&load.setup.disk);
	CHECK_EQ(write_file("/sys/bus/pci/drivers/nvme/unbind", pci.address), 0, "unbinding");
	load_stop(&load);
	expect_registration_fails(&load.setup);
	setup_close(&load.setup);
	CHECK_EQ(write_file("/sys/bus/pci/drivers/nvme/bind", pci.address), 0, "binding");
	expect_usable("nvme1");
}

static void unplugged_under_load(const void *argument)
{
	const char *serial = argument;
	struct load load;

	load_start(&load, serial, &exporter_udmabuf);
	vm_request("unplug %s", serial);
	load_stop(&load);
	CHECK(load.failed, "reads of an unplugged disk succeed");
	setup_close(&load.setup);
	vm_request("plug %s", serial);
	expect_usable(serial);
}

/* The namespace goes, its controller stays. */
static void namespace_command(const struct disk *disk, unsigned detach)
{
	static uint16_t controllers[2048];
	struct nvme_admin_cmd command = {.opcode = 0x15,
					 .nsid = 1,
					 .addr = (uintptr_t)controllers,
					 .data_len = sizeof(controllers),
					 .cdw10 = detach};
	char path[96], text[32];
	int fd;

	snprintf(path, sizeof(path), "/sys/class/nvme/%s/cntlid", disk->controller);
	CHECK_EQ(read_file(path, text, sizeof(text)), 0, "reading %s", path);
	controllers[0] = 1;
	controllers[1] = (uint16_t)strtoul(text, NULL, 10);
	snprintf(path, sizeof(path), "/dev/%s", disk->controller);
	fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	CHECK_EQ(ioctl(fd, NVME_IOCTL_ADMIN_CMD, &command), 0, "attaching or detaching a namespace");
	ioctl(fd, NVME_IOCTL_RESCAN);
	close(fd);
}

static void namespace_removed_under_load(const void *argument)
{
	struct load load;
	struct disk controller;

	(void)argument;
	load_start(&load, "nvme2", &exporter_udmabuf);
	controller = load.setup.disk;
	namespace_command(&controller, 1);
	usleep(200000);
	load_stop(&load);
	CHECK(load.failed, "reads of a removed namespace succeed");
	setup_close(&load.setup);
	namespace_command(&controller, 0);
	expect_usable("nvme2");
}

/* So slow that every command times out, is aborted, and resets the controller. */
static void timeouts_under_load(const void *argument)
{
	struct load load;

	(void)argument;
	load_start(&load, "nvme0", &exporter_udmabuf);
	set_io_timeout(&load.setup.disk, "1000");
	vm_throttle("nvme0", 1);
	sleep(5);
	vm_throttle("nvme0", 0);
	load_stop(&load);
	set_io_timeout(&load.setup.disk, "30000");
	read_and_compare(&load.setup, 0, &(struct span){.length = 2 * MIB});
}

static int open_pci_config(const struct pci *pci)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", pci->address);
	fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

/* The device answers nothing and reaches no memory any more. */
static void silence(int config)
{
	const uint16_t command = 0;

	CHECK_EQ(pwrite(config, &command, sizeof(command), PCI_COMMAND), (ssize_t)sizeof(command),
		 "silencing the device");
}

/* Commands are lost; the timeout resets the controller, which wakes it up. */
static void silent_under_load(const void *argument)
{
	struct load load;
	struct pci pci;
	unsigned good;
	int config;

	(void)argument;
	load_start(&load, "nvme0", &exporter_udmabuf);
	set_io_timeout(&load.setup.disk, "1000");
	pci = pci_of(&load.setup.disk);
	config = open_pci_config(&pci);
	silence(config);
	good = __atomic_load_n(&load.good, __ATOMIC_RELAXED);
	while (__atomic_load_n(&load.good, __ATOMIC_RELAXED) < good + 4 * LANES)
		usleep(10000);
	load_stop(&load);
	close(config);
	set_io_timeout(&load.setup.disk, "30000");
	read_and_compare(&load.setup, 0, &(struct span){.length = 2 * MIB});
}

/* It stays silent, as one does that was pulled: the driver must give it up. */
static void dead_under_load(const void *argument)
{
	struct load load;
	struct pci pci;
	int config;

	(void)argument;
	load_start(&load, "nvme0", &exporter_udmabuf);
	set_io_timeout(&load.setup.disk, "1000");
	pci = pci_of(&load.setup.disk);
	config = open_pci_config(&pci);
	while (!__atomic_load_n(&load.failed, __ATOMIC_RELAXED)) {
		silence(config);
		usleep(200);
	}
	close(config);
	load_stop(&load);
	setup_close(&load.setup);
	pci_write(&pci, "remove", "1");
	rescan();
	expect_usable("nvme0");
}

/* --- injected failures: the debug kernel only */

static void debug_set(const char *fault, const char *attribute, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s", fault, attribute);
	if (access(path, F_OK))
		test_skip("this kernel injects no faults (%s)", path);
	CHECK_EQ(write_file(path, value), 0, "writing %s", path);
}

/* Makes allocations that may sleep fail as well, and quietly. */
static void prepare_allocation_faults(void)
{
	debug_set("failslab", "ignore-gfp-wait", "N");
	debug_set("failslab", "verbose", "0");
	debug_set("fail_page_alloc", "ignore-gfp-wait", "N");
	debug_set("fail_page_alloc", "ignore-gfp-highmem", "N");
	debug_set("fail_page_alloc", "min-order", "0");
	debug_set("fail_page_alloc", "verbose", "0");
}

static int fail_nth_file(void)
{
	int fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		test_skip("/proc/thread-self/fail-nth: %s", strerror(errno));
	return fd;
}

/* Lets this thread's n-th allocation from here on fail. */
static void fail_nth(int file, unsigned nth)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%u", nth);

	CHECK_EQ(pwrite(file, text, (size_t)length, 0), length, "writing fail-nth");
}

/* Whether there was an n-th allocation; none fails from now on. */
static bool has_failed(int file)
{
	char text[16] = "";

	CHECK(pread(file, text, sizeof(text) - 1, 0) > 0, "reading fail-nth");
	fail_nth(file, 0);
	return strtoul(text, NULL, 10) == 0;
}

static void allocation_fails(const void *argument)
{
	const enum shape shape = *(const enum shape *)argument;
	struct disk disk;
	struct ring ring;
	int dmabuf, file = fail_nth_file();
	unsigned nth, refused = 0;
	int result;

	prepare_allocation_faults();
	dmabuf = exporter_test_create(MIB, 0);
	disk_open(&disk, "nvme0");
	ring_open(&ring, 4, 0);
	for (nth = 1;; nth++) {
		bool failed;

		fail_nth(file, nth);
		result = ring_register(&ring, shape, 0, disk.fd, dmabuf);
		failed = has_failed(file);
		CHECK(result == 1 || (failed && result == -ENOMEM), "allocation %u: %d", nth, result);
		refused += result < 0;
		if (!failed)
			break;
		if (result == 1)
			CHECK_EQ(ring_empty(&ring, shape, 0), 1, "emptying");
		while (exporter_test_state(dmabuf).attachments)
			usleep(1000);
	}
	printf("    %u allocations, %u of them vital\n", nth - 1, refused);
	CHECK(refused >= 3, "only %u allocations failed the registration", refused);
	CHECK_EQ(ring_do(&ring, &(struct fixed_io){.fd = disk.fd, .length = MIB}), MIB, "reading");
}

/* Mapping again happens in a worker, which fail-nth of this thread does not reach. */
static void allocation_fails_when_mapping_again(const void *argument)
{
	struct setup setup;
	unsigned round, failed = 0;

	(void)argument;
	prepare_allocation_faults();
	setup_open(&setup, some_shape(), "nvme0", &exporter_test, MIB);
	for (round = 0; round < 200; round++) {
		int result;

		exporter_test_act(setup.memory.dmabuf_fd, GDS_EXPORTER_INVALIDATE, 0);
		debug_set("failslab", "times", "1");
		debug_set("failslab", "space", round % 2 ? "2048" : "512");
		debug_set("failslab", "probability", "100");
		result = ring_do(&setup.ring, &(struct fixed_io){.fd = setup.disk.fd, .length = 4096});
		debug_set("failslab", "probability", "0");
		CHECK(result == 4096 || result == -ENOMEM || result == -EAGAIN, "round %u: %d", round,
		      result);
		failed += result < 0;
	}
	printf("    %u of 200 reads failed\n", failed);
	read_and_compare(&setup, 0, &(struct span){.length = MIB});
}

static void controller_reports_errors(const void *argument)
{
	struct setup setup;
	char fault[64];
	int result;

	(void)argument;
	setup_open(&setup, some_shape(), "nvme0", &exporter_udmabuf, MIB);
	snprintf(fault, sizeof(fault), "%s/fault_inject", setup.disk.path + strlen("/dev/"));
	debug_set(fault, "verbose", "0");
	debug_set(fault, "status", "0x281"); /* unrecovered read error */
	debug_set(fault, "times", "1");
	debug_set(fault, "probability", "100");
	result = ring_do(&setup.ring, &(struct fixed_io){.fd = setup.disk.fd, .length = 4096});
	debug_set(fault, "probability", "0");
	CHECK(result < 0, "an injected error was not reported: %d", result);
	read_and_compare(&setup, 0, &(struct span){.length = MIB});
}

/* The completion is lost: only the timeout ends the request. */
static void completion_lost(const void *argument)
{
	struct setup setup;
	char path[96];
	int result;

	(void)argument;
	setup_open(&setup, some_shape(), "nvme0", &exporter_test, MIB);
	snprintf(path, sizeof(path), "/sys/block/%s/io-timeout-fail",
		 setup.disk.path + strlen("/dev/"));
	debug_set("fail_io_timeout", "verbose", "0");
	debug_set("fail_io_timeout", "times", "1");
	debug_set("fail_io_timeout", "probability", "100");
	CHECK_EQ(write_file(path, "1"), 0, "writing %s", path);
	set_io_timeout(&setup.disk, "1000");
	result = ring_do(&setup.ring, &(struct fixed_io){.fd = setup.disk.fd, .length = 4096});
	CHECK_EQ(write_file(path, "0"), 0, "writing %s", path);
	debug_set("fail_io_timeout", "probability", "0");
	set_io_timeout(&setup.disk, "30000");
	printf("    ended with %d\n", result);
	exporter_test_act(setup.memory.dmabuf_fd, GDS_EXPORTER_MOVE, 0);
	read_and_compare(&setup, 0, &(struct span){.length = MIB});
}

/*
 * What puts the debug kernel's checkers out of action, see vmlib/known-log-lines:
 * lockdep reports pciehp, and the DMA debugging does not live without memory.
 */
static void add_blinding(void)
{
	static const enum shape shapes[SHAPES] = {SHAPE_PAIR, SHAPE_DESCRIPTOR};
	unsigned i;

	test_add(unplugged_under_load, "nvme0", LIMIT_S, "fault: nvme0 unplugged under load");
	for (i = 0; i < SHAPES; i++)
		test_add(allocation_fails, &shapes[i], LIMIT_S,
			 "fault: each allocation of a registration fails once, %s", shape_names[i]);
	test_add(allocation_fails_when_mapping_again, NULL, LIMIT_S,
		 "fault: allocations fail when a mapping is made again");
}

void add_fault_cases(void)
{
	static const struct {
		test_function *function;
		const void *argument;
		const char *name;
	} cases[] = {
		{media_error, NULL, "fault: a bad sector"},
		{reset_under_load, &exporter_udmabuf, "fault: controller reset under load"},
		{reset_under_load, &exporter_vfio_far, "fault: controller reset under load, BAR"},
		{moved_while_resetting, NULL, "fault: controller reset and moves under load"},
		{removed_while_registered, NULL, "fault: controller removed while registered"},
		{removed_under_load, &exporter_udmabuf, "fault: controller removed under load"},
		{removed_under_load, &exporter_vfio_far, "fault: controller removed under load, BAR"},
		{driver_unbound_under_load, NULL, "fault: driver unbound under load"},
		{namespace_removed_under_load, NULL, "fault: namespace removed under load"},
		{timeouts_under_load, NULL, "fault: every command times out"},
		{silent_under_load, NULL, "fault: the controller stops answering for a while"},
		{controller_reports_errors, NULL, "fault: the controller reports an error"},
		{completion_lost, NULL, "fault: a completion is lost"},
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		test_add(cases[i].function, cases[i].argument, LIMIT_S, "%s", cases[i].name);
	/* The driver's admin commands alone may take 60 s before it gives up. */
	test_add(dead_under_load, NULL, 2 * LIMIT_S,
		 "fault: the controller stops answering for good");
	add_blinding();
}
