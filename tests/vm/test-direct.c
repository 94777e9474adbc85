/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The direct path, in kernel/vm: from real NVMe devices (QEMU's) into memory that
 * real exporters of the kernel hand out, in both shapes of the kernel interface.
 * Every byte of a buffer is compared, also those around what was read.
 *
 * The test exporter of the VM plays the misbehaving one: it moves its memory under
 * load, refuses, and lies - takes the attachment and lets the writes go elsewhere.
 * It is a double of a GPU's driver, and runs only there.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "../../kernel/exporter/gds_exporter.h"
#include "base/error.h"
#include "dmabuf/memory.h"
#include "memory/device.h"
#include "support/random.h"
#include "vm/machine.h"
#include "vm/rig.h"

#include <fcntl.h>
#include <gds/gds.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { ROUNDS = 60, BATCH = 32, MOVES = 200 };

/* ---- Random reads, every byte ---- */

static void choose_reads(struct random *random, const struct rig *rig, uint64_t buffer_bytes,
			 struct gds_request *requests, unsigned char *expected)
{
	uint64_t share = buffer_bytes / BATCH;

	for (size_t i = 0; i < BATCH; i++) {
		uint64_t length = random_skewed(random, share) + 1;
		uint64_t place = i * share + random_below(random, share - length + 1);
		uint64_t offset = random_below(random, DISK_BYTES - length);

		/* Half of them as a loader would ask: whole blocks, aligned alike. */
		if (random_chance(random, 500)) {
			offset &= ~UINT64_C(4095);
			place = (i * share + 4095) & ~UINT64_C(4095);
			if (place + length > (i + 1) * share)
				length = (i + 1) * share - place;
		}
		requests[i] = (struct gds_request){ .file = rig->files[random_below(random, 2)],
						    .buffer = rig->buffer,
						    .offset = offset,
						    .length = length,
						    .buffer_offset = place };
		memcpy(expected + place, contents + offset, length);
	}
}

static uint64_t read_batch(const struct rig *rig, const struct gds_request *requests)
{
	struct gds_batch_options options = { .size = sizeof(options), .path = GDS_PATH_DMABUF };
	struct gds_result result;
	struct gds_batch *batch;
	uint64_t direct = 0;

	must(gds_batch_create(&batch, rig->reader, &options));
	must((int)gds_batch_add(batch, requests, BATCH));
	must(gds_batch_submit(batch));
	must(gds_batch_wait(batch, -1));
	for (size_t i = 0; i < BATCH; i++) {
		must(gds_batch_result(batch, i, &result));
		if (result.bytes != (int64_t)requests[i].length)
			fail_msg("%" PRId64 " bytes: %s", result.bytes, gds_last_error());
		/* Pinned to the path, and no byte went through host memory. */
		assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], requests[i].length);
		direct += result.path_bytes[GDS_PATH_DMABUF];
	}
	gds_batch_destroy(batch);
	return direct;
}

static void compare(const struct rig *rig, const unsigned char *expected, unsigned char *found,
		    uint64_t bytes)
{
	must(gds_buffer_copy_out(rig->buffer, 0, found, bytes));
	for (uint64_t i = 0; i < bytes; i++)
		if (found[i] != expected[i])
			fail_msg("byte %" PRIu64 " is %02x and not %02x", i, found[i], expected[i]);
}

static void read_randomly(struct rig *rig, uint64_t seed)
{
	uint64_t bytes = gds_buffer_bytes(rig->buffer);
	unsigned char *expected = malloc(bytes);
	unsigned char *found = malloc(bytes);
	struct gds_request requests[BATCH];
	struct random random = { .state = seed };
	uint64_t direct = 0;

	assert_non_null(expected);
	assert_non_null(found);
	for (unsigned round = 0; round < ROUNDS; round++) {
		memset(expected, (int)round, bytes);
		must(gds_buffer_copy_in(rig->buffer, 0, expected, bytes));
		choose_reads(&random, rig, bytes, requests, expected);
		direct += read_batch(rig, requests);
		compare(rig, expected, found, bytes);
	}
	print_message("%" PRIu64 " MiB went direct\n", direct / MIB);
	free(expected);
	free(found);
}

static void random_reads(const char *name, uint32_t shape, bool may_lack)
{
	uint64_t seed = test_number("GDS_TEST_SEED", (uint64_t)time(NULL));
	struct gds_device *device;
	struct rig rig;

	need_vm();
	print_message("GDS_TEST_SEED=%" PRIu64 "\n", seed);
	if (gds_device_open(&device, name)) {
		if (!may_lack)
			fail_msg("%s", gds_last_error());
		print_message("%s\n", gds_last_error());
		skip();
	}
	open_rig(&rig, device, 4 * MIB + 12345, shape, 0);
	read_randomly(&rig, seed);
	close_rig(&rig);
}

static void random_reads_into_udmabuf_are_right(void **state)
{
	(void)state;
	random_reads("udmabuf", GDS_DMABUF_DESCRIPTORS, false);
}

static void random_reads_in_the_pair_shape_are_right(void **state)
{
	(void)state;
	random_reads("udmabuf", GDS_DMABUF_PAIRS, false);
}

#define UDMABUF_LIMIT "/sys/module/udmabuf/parameters/size_limit_mb"

/* Nearly every read crosses slices, and so would chunks of scratch memory. */
static void random_reads_into_slices_as_small_as_udmabuf_asks_for_are_right(void **state)
{
	char before[32] = "";
	int fd;

	(void)state;
	need_vm();
	fd = open(UDMABUF_LIMIT, O_RDWR | O_CLOEXEC);
	assert_true(read(fd, before, sizeof(before) - 1) > 0);
	assert_int_equal(pwrite(fd, "1", 1, 0), 1);
	random_reads("udmabuf", GDS_DMABUF_NEWEST, false);
	assert_int_equal(pwrite(fd, before, strlen(before), 0), strlen(before));
	close(fd);
}

static void random_reads_into_a_dma_heap_are_right(void **state)
{
	(void)state;
	random_reads("dma-heap:system", GDS_DMABUF_NEWEST, false);
}

static void random_reads_into_vgem_are_right(void **state)
{
	(void)state;
	random_reads("drm:vgem", GDS_DMABUF_NEWEST, false);
}

static void random_reads_into_virtio_gpu_are_right(void **state)
{
	(void)state;
	random_reads("drm:virtio_gpu", GDS_DMABUF_NEWEST, false);
}

static void random_reads_into_vulkan_memory_are_right(void **state)
{
	(void)state;
	random_reads("vulkan:0", GDS_DMABUF_NEWEST, false);
}

/* ---- Peer to peer ---- */

/*
 * Behind a translating IOMMU not every pair of a drive and a BAR can reach each other.
 * Where the proof says so the read is carried by another path, and no byte is wrong.
 */
static void carried_by_another_path(struct rig *rig, unsigned drive, const char *reason)
{
	struct gds_result result = rig_read(rig, drive, GDS_PATH_AUTO, 0, 4 * MIB, 0);

	print_message("%s: %s\n", disks[drive], reason);
	assert_int_equal(result.bytes, 4 * MIB);
	assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], 0);
	rig_check(rig, 0, 4 * MIB, 0);
}

static bool holds_open(const char *beginning)
{
	char path[64], target[256];
	ssize_t length;

	for (int fd = 0; fd < 256; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		length = readlink(path, target, sizeof(target) - 1);
		if (length >= (ssize_t)strlen(beginning) &&
		    memcmp(target, beginning, strlen(beginning)) == 0)
			return true;
	}
	return false;
}

#define IOMMUFD "/dev/iommu"
#define HIDDEN  "/dev/iommu-hidden"

/* By iommufd where the kernel has it, else by its group, with an IOMMU or without. */
static void check_connection(void)
{
	bool iommufd = holds_open(IOMMUFD);

	print_message("opened by %s\n", iommufd ? "iommufd" : "its group and a container");
	assert_int_equal(iommufd, access(IOMMUFD, F_OK) == 0);
	assert_int_equal(holds_open("/dev/vfio/devices/"), iommufd);
	assert_int_equal(holds_open("/dev/vfio/vfio"), !iommufd);
}

static void peer_to_peer(unsigned bar)
{
	const char *iommu = getenv("GDS_VM_IOMMU");
	bool translates = iommu && strcmp(iommu, "off") != 0;
	uint64_t seed = test_seed();
	char bars[BARS_MOST][BAR_NAME_BYTES];
	struct gds_device *device;
	bool all = true;
	struct rig rig;

	need_vm();
	assert_true(bar < bars_bind(bars));
	if (gds_device_open(&device, bars[bar])) {
		/* Below one switch a BAR is in one group with the drive, which is in use. */
		if (!translates || !strstr(gds_last_error(), "shares its IOMMU group"))
			fail_msg("%s", gds_last_error());
		print_message("%s\n", gds_last_error());
		skip();
	}
	check_connection();
	open_rig(&rig, device, 4 * MIB + 12345, 0, 0);
	for (unsigned drive = 0; drive < 2; drive++) {
		struct gds_explanation explanation = { .size = sizeof(explanation) };

		must(gds_explain(rig.reader, rig.files[drive], rig.buffer, &explanation));
		if (explanation.paths[GDS_PATH_DMABUF].usable)
			continue;
		assert_true(translates);
		carried_by_another_path(&rig, drive, explanation.paths[GDS_PATH_DMABUF].reason);
		all = false;
	}
	if (all) {
		print_message("GDS_TEST_SEED=%" PRIu64 "\n", seed);
		read_randomly(&rig, seed);
	}
	close_rig(&rig);
}

static void reads_into_a_bar_below_the_same_switch_are_right(void **state)
{
	(void)state;
	peer_to_peer(0);
}

static void reads_into_a_bar_below_another_port_are_right(void **state)
{
	(void)state;
	peer_to_peer(1);
}

static int hide_iommufd(void **state)
{
	(void)state;
	return getenv("GDS_VM") ? rename(IOMMUFD, HIDDEN) : 0;
}

static int show_iommufd(void **state)
{
	(void)state;
	return getenv("GDS_VM") ? rename(HIDDEN, IOMMUFD) : 0;
}

static void without_iommufd_reads_into_a_bar_are_right_too(void **state)
{
	(void)state;
	peer_to_peer(1);
}

/* ---- The test exporter as a device ---- */

static struct gds_exporter_fault fault; /* what the next dma-bufs do wrong */
static int exported_fd = -1;            /* the last one made */

static int exporter(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = open(GDS_EXPORTER_PATH, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		fail_msg("%s: %s", GDS_EXPORTER_PATH, strerror(errno));
	return fd;
}

static int make_exported(struct dmabuf_device *device, uint32_t flags, struct dmabuf_slice *slice)
{
	struct gds_exporter_create create = { .size = slice->bytes, .chunk = 64 << 10 };

	(void)device;
	(void)flags;
	slice->fd = ioctl(exporter(), GDS_EXPORTER_CREATE, &create);
	if (slice->fd < 0)
		return gds_fail_errno(errno, "GDS_EXPORTER_CREATE");
	slice->map_fd = slice->fd;
	exported_fd = slice->fd;
	fault.dmabuf_fd = slice->fd;
	if (ioctl(exporter(), GDS_EXPORTER_FAULT, &fault))
		return gds_fail_errno(errno, "GDS_EXPORTER_FAULT");
	return 0;
}

static void release_exported(struct dmabuf_device *device, struct dmabuf_slice *slice)
{
	(void)device;
	(void)slice;
}

static void close_exporter(struct backend_device *device)
{
	free(device);
}

static const struct backend_ops exporter_ops = { .name = "test-exporter",
						 .close = close_exporter,
						 DMABUF_MEMORY_OPS };

static struct gds_device *device_of(const struct backend_ops *ops, struct gds_exporter_fault wrong)
{
	struct dmabuf_device *backend = calloc(1, sizeof(*backend));
	struct gds_device *device = calloc(1, sizeof(*device));

	assert_non_null(backend);
	assert_non_null(device);
	fault = wrong;
	dmabuf_device_init(backend, ops, "test-exporter");
	backend->make = make_exported;
	backend->release = release_exported;
	device->backend = &backend->base;
	return device;
}

static struct gds_device *exporter_device(struct gds_exporter_fault wrong)
{
	return device_of(&exporter_ops, wrong);
}

static void act(enum gds_exporter_action action)
{
	struct gds_exporter_act request = { .dmabuf_fd = exported_fd,
					    .action = action,
					    .poison = 0x5e };

	if (ioctl(exporter(), GDS_EXPORTER_ACT, &request))
		fail_msg("GDS_EXPORTER_ACT: %s", strerror(errno));
}

static void read_all(struct rig *rig, uint32_t path, struct gds_result *result)
{
	struct gds_batch_options options = { .size = sizeof(options), .path = path };
	struct gds_request request = { .file = rig->files[0],
				       .buffer = rig->buffer,
				       .length = 4 * MIB };
	struct gds_batch *batch;

	must(gds_batch_create(&batch, rig->reader, &options));
	must((int)gds_batch_add(batch, &request, 1));
	must(gds_batch_submit(batch));
	must(gds_batch_wait(batch, -1));
	must(gds_batch_result(batch, 0, result));
	gds_batch_destroy(batch);
}

static void check_all(struct rig *rig)
{
	unsigned char *found = malloc(4 * MIB);

	assert_non_null(found);
	must(gds_buffer_copy_out(rig->buffer, 0, found, 4 * MIB));
	assert_memory_equal(found, contents, 4 * MIB);
	free(found);
}

static void a_lying_exporter_is_caught_and_the_read_carried_by_another_path(void **state)
{
	struct gds_explanation explanation = { .size = sizeof(explanation) };
	struct gds_stats stats = { .size = sizeof(stats) };
	struct gds_result result;
	struct rig rig;

	(void)state;
	need_vm();
	open_rig(&rig, exporter_device((struct gds_exporter_fault){ .lie = 1 }), 4 * MIB, 0, 0);
	read_all(&rig, GDS_PATH_AUTO, &result);
	assert_int_equal(result.bytes, 4 * MIB);
	assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], 0);
	check_all(&rig);
	must(gds_reader_stats(rig.reader, &stats));
	assert_int_equal(stats.canaries, 1);
	assert_int_equal(stats.canaries_failed, 1);
	must(gds_explain(rig.reader, rig.files[0], rig.buffer, &explanation));
	assert_int_equal(explanation.paths[GDS_PATH_DMABUF].usable, 0);
	assert_non_null(strstr(explanation.paths[GDS_PATH_DMABUF].reason, "untouched"));
	close_rig(&rig);
}

static void a_lying_exporter_fails_a_read_that_is_pinned_to_the_path(void **state)
{
	struct gds_result result;
	struct rig rig;

	(void)state;
	need_vm();
	open_rig(&rig, exporter_device((struct gds_exporter_fault){ .lie = 1 }), 4 * MIB, 0, 0);
	read_all(&rig, GDS_PATH_DMABUF, &result);
	assert_int_equal(result.bytes, -EOPNOTSUPP);
	assert_non_null(strstr(gds_last_error(), "untouched"));
	close_rig(&rig);
}

/* Shows that the canary is what catches the liar. */
static void without_the_canary_a_lying_exporter_goes_unnoticed(void **state)
{
	unsigned char found[4096];
	struct gds_result result;
	struct rig rig;

	(void)state;
	need_vm();
	open_rig(&rig, exporter_device((struct gds_exporter_fault){ .lie = 1 }), 4 * MIB, 0,
		 GDS_READER_NO_CANARY);
	read_all(&rig, GDS_PATH_AUTO, &result);
	assert_int_equal(result.bytes, 4 * MIB);
	must(gds_buffer_copy_out(rig.buffer, 0, found, sizeof(found)));
	assert_memory_not_equal(found, contents, sizeof(found));
	close_rig(&rig);
}

/* Its memory moves, and from then on what is mapped is another's. */
static void a_liar_that_begins_later_is_caught_by_a_proof_that_is_repeated(void **state)
{
	struct gds_reader_options options = { .size = sizeof(options), .canary_interval_ns = 1 };
	struct gds_result result;
	struct rig rig;

	(void)state;
	need_vm();
	open_rig(&rig, exporter_device((struct gds_exporter_fault){ 0 }), 4 * MIB, 0, 0);
	gds_reader_close(rig.reader);
	must(gds_reader_open(&rig.reader, &options));
	read_all(&rig, GDS_PATH_AUTO, &result);
	assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], 4 * MIB);
	fault.lie = 1;
	if (ioctl(exporter(), GDS_EXPORTER_FAULT, &fault))
		fail_msg("GDS_EXPORTER_FAULT: %s", strerror(errno));
	act(GDS_EXPORTER_INVALIDATE);
	read_all(&rig, GDS_PATH_AUTO, &result);
	assert_int_equal(result.bytes, 4 * MIB);
	assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], 0);
	check_all(&rig);
	close_rig(&rig);
}

/* ---- A drive that others write ---- */

static unsigned writes_left; /* of those that come between a canary's two reads */

static void write_first_block(unsigned char value)
{
	int fd = open(disks[0], O_WRONLY | O_DIRECT | O_CLOEXEC);
	unsigned char *block = aligned_alloc(4096, 4096);

	assert_true(fd >= 0 && block);
	memset(block, value, 4096);
	assert_int_equal(pwrite(fd, block, 4096, 0), 4096);
	memcpy(contents, block, 4096);
	free(block);
	close(fd);
}

/* The canary's poison comes this way, after the ordinary read and before the direct one. */
static int copy_in_and_write(struct backend_memory *memory, uint64_t offset, const void *data,
			     size_t bytes)
{
	if (writes_left) {
		writes_left--;
		write_first_block((unsigned char)writes_left);
	}
	return dmabuf_memory_copy_in(memory, offset, data, bytes);
}

static struct backend_ops writing_ops;

static void open_rig_beside_a_writer(struct rig *rig, unsigned writes)
{
	writing_ops = exporter_ops;
	writing_ops.copy_in = copy_in_and_write;
	writes_left = writes;
	open_rig(rig, device_of(&writing_ops, (struct gds_exporter_fault){ 0 }), 4 * MIB, 0, 0);
}

static void a_drive_that_is_written_meanwhile_is_not_called_a_liar(void **state)
{
	struct gds_stats stats = { .size = sizeof(stats) };
	struct gds_result result;
	struct rig rig;

	(void)state;
	need_vm();
	open_rig_beside_a_writer(&rig, 3);
	read_all(&rig, GDS_PATH_DMABUF, &result);
	assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], 4 * MIB);
	check_all(&rig);
	must(gds_reader_stats(rig.reader, &stats));
	assert_int_equal(stats.canaries, 4);
	assert_int_equal(stats.canaries_failed, 0);
	close_rig(&rig);
}

static void a_drive_that_is_written_without_end_is_read_by_another_path(void **state)
{
	struct gds_explanation explanation = { .size = sizeof(explanation) };
	struct gds_result result;
	struct rig rig;

	(void)state;
	need_vm();
	open_rig_beside_a_writer(&rig, 1000);
	read_all(&rig, GDS_PATH_AUTO, &result);
	writes_left = 0;
	assert_int_equal(result.bytes, 4 * MIB);
	assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], 0);
	check_all(&rig);
	must(gds_explain(rig.reader, rig.files[0], rig.buffer, &explanation));
	assert_non_null(strstr(explanation.paths[GDS_PATH_DMABUF].reason, "written all the time"));
	close_rig(&rig);
}

static void a_refused_attachment_is_a_reason_and_another_path(void **state)
{
	struct gds_explanation explanation = { .size = sizeof(explanation) };
	struct gds_result result;
	struct rig rig;

	(void)state;
	need_vm();
	open_rig(&rig, exporter_device((struct gds_exporter_fault){ .attach_errno = ENXIO }),
		 4 * MIB, 0, 0);
	must(gds_explain(rig.reader, rig.files[0], rig.buffer, &explanation));
	assert_int_not_equal(explanation.path, GDS_PATH_DMABUF);
	assert_true(explanation.paths[GDS_PATH_DMABUF].reason[0] != '\0');
	print_message("%s; %s\n", explanation.paths[GDS_PATH_DMABUF].reason,
		      explanation.paths[GDS_PATH_DMABUF].remedy);
	read_all(&rig, GDS_PATH_AUTO, &result);
	assert_int_equal(result.bytes, 4 * MIB);
	check_all(&rig);
	close_rig(&rig);
}

static atomic_bool moving;

static void *move_on(void *argument)
{
	(void)argument;
	for (unsigned i = 0; i < MOVES; i++)
		act(GDS_EXPORTER_MOVE);
	atomic_store(&moving, false);
	return NULL;
}

static void memory_that_moves_under_load_loses_no_byte(void **state)
{
	struct gds_result result;
	unsigned reads = 0;
	pthread_t mover;
	struct rig rig;

	(void)state;
	need_vm();
	open_rig(&rig, exporter_device((struct gds_exporter_fault){ 0 }), 4 * MIB, 0, 0);
	read_all(&rig, GDS_PATH_DMABUF, &result);
	atomic_store(&moving, true);
	assert_int_equal(pthread_create(&mover, NULL, move_on, NULL), 0);
	do {
		read_all(&rig, GDS_PATH_DMABUF, &result);
		assert_int_equal(result.bytes, 4 * MIB);
		assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], 4 * MIB);
		check_all(&rig);
		reads++;
	} while (atomic_load(&moving));
	pthread_join(mover, NULL);
	print_message("%u reads during %u moves\n", reads, MOVES);
	close_rig(&rig);
}

static void memory_that_is_revoked_fails_its_reads_or_takes_another_path(void **state)
{
	struct gds_result result;
	struct rig rig;

	(void)state;
	need_vm();
	open_rig(&rig, exporter_device((struct gds_exporter_fault){ 0 }), 4 * MIB, 0, 0);
	read_all(&rig, GDS_PATH_AUTO, &result);
	assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], 4 * MIB);
	act(GDS_EXPORTER_REVOKE);
	read_all(&rig, GDS_PATH_AUTO, &result);
	assert_int_equal(result.bytes, 4 * MIB);
	assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], 0);
	check_all(&rig);
	close_rig(&rig);
}

/* ---- Reasons ---- */

static void a_device_whose_driver_takes_no_dma_bufs_is_named(void **state)
{
	struct gds_explanation explanation = { .size = sizeof(explanation) };
	struct gds_device *device;
	struct gds_file *file;
	struct rig rig;

	(void)state;
	need_vm();
	must(gds_device_open(&device, "udmabuf"));
	open_rig(&rig, device, 4 * MIB, 0, 0);
	if (gds_file_open(&file, "/dev/nullb0")) {
		print_message("%s\n", gds_last_error());
		close_rig(&rig);
		skip();
	}
	must(gds_explain(rig.reader, file, rig.buffer, &explanation));
	assert_int_equal(explanation.paths[GDS_PATH_DMABUF].usable, 0);
	assert_non_null(strstr(explanation.paths[GDS_PATH_DMABUF].reason, "/dev/nullb0"));
	assert_non_null(strstr(explanation.kernel, "descriptor shape v3"));
	gds_file_close(file);
	close_rig(&rig);
}

static void explaining_leaves_the_buffer_as_it_was(void **state)
{
	struct gds_explanation explanation = { .size = sizeof(explanation) };
	unsigned char before[8192], after[8192];
	struct gds_device *device;
	struct rig rig;

	(void)state;
	need_vm();
	must(gds_device_open(&device, "udmabuf"));
	open_rig(&rig, device, 4 * MIB, 0, 0);
	memset(before, 0x77, sizeof(before));
	must(gds_buffer_copy_in(rig.buffer, 0, before, sizeof(before)));
	must(gds_explain(rig.reader, rig.files[0], rig.buffer, &explanation));
	assert_int_equal(explanation.path, GDS_PATH_DMABUF);
	must(gds_buffer_copy_out(rig.buffer, 0, after, sizeof(after)));
	assert_memory_equal(before, after, sizeof(before));
	close_rig(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_reads_into_udmabuf_are_right),
		cmocka_unit_test(random_reads_in_the_pair_shape_are_right),
		cmocka_unit_test(random_reads_into_slices_as_small_as_udmabuf_asks_for_are_right),
		cmocka_unit_test(random_reads_into_a_dma_heap_are_right),
		cmocka_unit_test(random_reads_into_vgem_are_right),
		cmocka_unit_test(random_reads_into_virtio_gpu_are_right),
		cmocka_unit_test(random_reads_into_vulkan_memory_are_right),
		cmocka_unit_test(reads_into_a_bar_below_the_same_switch_are_right),
		cmocka_unit_test(reads_into_a_bar_below_another_port_are_right),
		cmocka_unit_test_setup_teardown(without_iommufd_reads_into_a_bar_are_right_too,
						hide_iommufd, show_iommufd),
		cmocka_unit_test(a_lying_exporter_is_caught_and_the_read_carried_by_another_path),
		cmocka_unit_test(a_lying_exporter_fails_a_read_that_is_pinned_to_the_path),
		cmocka_unit_test(without_the_canary_a_lying_exporter_goes_unnoticed),
		cmocka_unit_test(a_liar_that_begins_later_is_caught_by_a_proof_that_is_repeated),
		cmocka_unit_test(a_drive_that_is_written_meanwhile_is_not_called_a_liar),
		cmocka_unit_test(a_drive_that_is_written_without_end_is_read_by_another_path),
		cmocka_unit_test(a_refused_attachment_is_a_reason_and_another_path),
		cmocka_unit_test(memory_that_moves_under_load_loses_no_byte),
		cmocka_unit_test(memory_that_is_revoked_fails_its_reads_or_takes_another_path),
		cmocka_unit_test(a_device_whose_driver_takes_no_dma_bufs_is_named),
		cmocka_unit_test(explaining_leaves_the_buffer_as_it_was),
	};

	return cmocka_run_group_tests(tests, disks_write, disks_forget);
}
