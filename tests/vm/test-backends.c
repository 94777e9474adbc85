/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backends of dma-bufs on the kernel's real exporters: kernel/vm has them all.
 * Elsewhere each device that is not there is skipped with its backend's reason.
 *
 * In the VM (GDS_VM=1) devices of QEMU's ivshmem are bound to vfio-pci here; on
 * other machines nothing is bound, and GDS_TEST_VFIO may name a device to use,
 * whose BAR is written to.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "base/error.h"
#include "dmabuf/sync.h"
#include "dmabuf/system.h"
#include "memory/backend.h"
#include "vm/machine.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#define MIB (UINT64_C(1) << 20)

enum { ROUNDS = 200, NAME_BYTES = 96, MAX_DEVICES = 16, MAX_TESTS = 256 };

/* The devices under test. */
struct subject {
	char name[NAME_BYTES];
	uint64_t bytes;      /* of the buffer that random copies go to */
	uint64_t many_bytes; /* of one that has more than one slice; 0: none fits */
};

static struct subject subjects[MAX_DEVICES] = {
	{ "udmabuf", 5 * MIB + 123, SLICE_BYTES + 3 * MIB + 1 },
	{ "udmabuf:huge", 5 * MIB + 123, 0 },
	{ "dma-heap", 5 * MIB + 123, 0 },
	{ "dma-heap:system", 5 * MIB + 123, SLICE_BYTES + 3 * MIB + 1 },
	{ "dma-heap:cma", 5 * MIB + 123, 0 },
	{ "drm:vgem", 5 * MIB + 123, SLICE_BYTES + 3 * MIB + 1 },
	{ "drm:vkms", 5 * MIB + 123, 0 },
	{ "drm:virtio_gpu", 5 * MIB + 123, 0 },
};
static size_t subject_count = 8;

/* The part of a name that chooses a backend. */
static const struct backend_ops *find_ops(const char *name, const char **selector)
{
	size_t count, length = strcspn(name, ":");
	const struct backend_ops *const *backends = backend_registry(&count);

	*selector = name[length] ? name + length + 1 : "";
	for (size_t i = 0; i < count; i++)
		if (strlen(backends[i]->name) == length &&
		    memcmp(backends[i]->name, name, length) == 0)
			return backends[i];
	return NULL;
}

static int try_open(const char *name, struct backend_device **device)
{
	const char *selector;
	const struct backend_ops *ops = find_ops(name, &selector);

	if (!ops) {
		print_message("this build has no backend for %s\n", name);
		skip();
		abort(); /* skip() does not return, but is not declared so */
	}
	return ops->open(device, selector);
}

static struct backend_device *open_or_skip(const char *name)
{
	struct backend_device *device = NULL;
	int err = try_open(name, &device);

	if (err) {
		assert_null(device);
		/* What the VM has must open there. */
		if (getenv("GDS_VM") && strcmp(name, "udmabuf:huge") != 0)
			fail_msg("%s: %s", name, gds_last_error());
		print_message("%s\n", gds_last_error());
		skip();
		abort();
	}
	return device;
}

static struct backend_memory *alloc_ok(struct backend_device *device, uint64_t bytes)
{
	struct backend_memory *memory = NULL;

	if (device->ops->alloc(device, bytes, 0, &memory))
		fail_msg("%s", gds_last_error());
	assert_int_equal(memory->bytes, bytes);
	assert_non_null(memory->host);
	assert_non_null(memory->placement);
	return memory;
}

static void must(int err)
{
	if (err)
		fail_msg("%s", gds_last_error());
}

static uint64_t random_below(uint64_t limit)
{
	return (((uint64_t)random() << 31) ^ (uint64_t)random()) % limit;
}

static void fill_random(unsigned char *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		bytes[i] = (unsigned char)random();
}

static int open_descriptors(void)
{
	DIR *listing = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(listing))
		count++;
	closedir(listing);
	return count;
}

/* ---- Every device ------------------------------------------------------------- */

static void the_name_it_gives_opens_it_again(void **state)
{
	const struct subject *subject = *state;
	struct gds_device_info first = { .size = sizeof(first) }, second = first;
	struct backend_device *device = open_or_skip(subject->name);

	device->ops->info(device, &first);
	device->ops->close(device);
	assert_true(first.description[0] && first.driver[0]);
	print_message("%s: %s, %s\n", first.name, first.description, first.driver);
	must(try_open(first.name, &device));
	device->ops->info(device, &second);
	assert_memory_equal(&first, &second, sizeof(first));
	device->ops->close(device);
}

struct model {
	struct backend_device *device;
	struct backend_memory *memory;
	unsigned char *expected, *data;
	uint64_t bytes;
};

static struct model open_model(const struct subject *subject)
{
	struct model model = { .device = open_or_skip(subject->name), .bytes = subject->bytes };

	model.memory = alloc_ok(model.device, model.bytes);
	model.expected = malloc(model.bytes);
	model.data = malloc(model.bytes);
	assert_true(model.expected && model.data);
	fill_random(model.expected, model.bytes);
	must(model.device->ops->copy_in(model.memory, 0, model.expected, model.bytes));
	return model;
}

static void close_model(struct model *model)
{
	model->device->ops->free(model->memory);
	model->device->ops->close(model->device);
	free(model->expected);
	free(model->data);
}

static void check_range(struct model *model, uint64_t offset, uint64_t bytes)
{
	const struct backend_ops *ops = model->device->ops;
	uint32_t crc;

	must(ops->copy_out(model->memory, offset, model->data, bytes));
	assert_memory_equal(model->data, model->expected + offset, bytes);
	must(ops->checksum(model->memory, offset, bytes, &crc));
	assert_int_equal(crc, crc32_z(0, model->expected + offset, bytes));
}

static void copy(struct model *model, struct backend_staging *staging, uint64_t offset,
		 uint64_t source_offset, uint64_t bytes)
{
	struct backend_copy piece = { .memory = model->memory,
				      .staging = staging,
				      .source = staging ? NULL : model->memory,
				      .offset = offset,
				      .source_offset = source_offset,
				      .bytes = bytes };
	const unsigned char *source = staging ? model->data : model->expected;
	uint64_t ticket = 1;

	must(model->device->ops->copy(model->device, &piece, 1, &ticket));
	assert_int_equal(ticket, 0);
	memcpy(model->expected + offset, source + source_offset, bytes);
}

static void random_copies_arrive_where_they_should(void **state)
{
	struct model model = open_model(*state);
	const struct backend_ops *ops = model.device->ops;
	struct backend_staging *staging;
	uint64_t half = model.bytes / 2;

	fill_random(model.data, model.bytes);
	must(ops->staging_attach(model.device, model.data, model.bytes, &staging));
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t bytes = random_below(random_below(2) ? 100 : half / 8);
		uint64_t low = random_below(half - bytes), high = half + random_below(half - bytes);

		switch (random_below(3)) {
		case 0:
			must(ops->copy_in(model.memory, low, model.data + high, bytes));
			memcpy(model.expected + low, model.data + high, bytes);
			break;
		case 1:
			copy(&model, staging, high, low, bytes);
			break;
		default:
			copy(&model, NULL, low, high, bytes);
		}
	}
	ops->staging_detach(staging);
	check_range(&model, 0, model.bytes);
	check_range(&model, half - 5, 11);
	close_model(&model);
}

static void what_is_written_through_the_mapping_is_seen(void **state)
{
	struct model model = open_model(*state);
	const struct backend_ops *ops = model.device->ops;
	volatile unsigned char *host = model.memory->host;

	for (uint64_t i = 0; i < 64; i++) {
		uint64_t at = random_below(model.bytes);

		host[at] = (unsigned char)i;
		model.expected[at] = (unsigned char)i;
	}
	must(ops->publish(model.memory, 0, model.bytes));
	check_range(&model, 0, model.bytes);
	must(ops->acquire(model.memory, 0, model.bytes));
	for (uint64_t i = 0; i < model.bytes; i += 4096)
		assert_int_equal(host[i], model.expected[i]);
	close_model(&model);
}

/* Through a mapping of the dma-buf alone. NULL where the exporter allows none. */
static unsigned char *map_export(const struct backend_export *exported)
{
	void *mapping =
		mmap(NULL, exported->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, exported->fd, 0);

	return mapping == MAP_FAILED ? NULL : mapping;
}

static void check_export(struct model *model, unsigned char *mapping, uint64_t offset)
{
	const struct backend_ops *ops = model->device->ops;
	unsigned char byte;

	assert_memory_equal(mapping, model->expected + offset, model->bytes - offset);
	/* And the other way round. */
	mapping[77] = (unsigned char)~mapping[77];
	must(ops->copy_out(model->memory, offset + 77, &byte, 1));
	assert_int_equal(byte, mapping[77]);
}

static void the_exported_dmabuf_is_the_same_memory(void **state)
{
	struct model model = open_model(*state);
	const struct backend_ops *ops = model.device->ops;
	struct backend_export exported;
	unsigned char *mapping;

	must(ops->export_slice(model.memory, 0, &exported));
	assert_int_equal(exported.bytes % 4096, 0);
	assert_true(exported.offset + model.bytes <= exported.bytes);
	assert_int_equal(lseek(exported.fd, 0, SEEK_END), exported.bytes);
	must(dmabuf_sync(exported.fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW));
	mapping = map_export(&exported);
	if (mapping) {
		check_export(&model, mapping + exported.offset, 0);
		munmap(mapping, exported.bytes);
	}
	must(dmabuf_sync(exported.fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW));
	close(exported.fd);
	assert_int_equal(ops->export_slice(model.memory, 1, &exported), -EINVAL);
	close_model(&model);
	if (!mapping) {
		print_message("its size is right, but this exporter lets no one map it\n");
		skip();
	}
}

static void an_export_outlives_the_buffer(void **state)
{
	struct model model = open_model(*state);
	struct backend_export exported;

	must(model.device->ops->export_slice(model.memory, 0, &exported));
	close_model(&model);
	assert_true(lseek(exported.fd, 0, SEEK_END) > 0);
	close(exported.fd);
}

static void a_buffer_of_two_slices_is_one(void **state)
{
	const struct subject *subject = *state;
	unsigned char bytes[4096], seen[4096];
	struct backend_device *device;
	struct backend_memory *memory;
	struct backend_export exported;
	unsigned char *mapping;
	uint64_t last = subject->many_bytes - SLICE_BYTES;

	if (system_meminfo("MemAvailable") * 1024 < subject->many_bytes + 256 * MIB) {
		print_message("no room for a buffer of two slices\n");
		skip();
	}
	device = open_or_skip(subject->name);
	memory = alloc_ok(device, subject->many_bytes);
	fill_random(bytes, sizeof(bytes));
	must(device->ops->copy_in(memory, SLICE_BYTES - 1000, bytes, sizeof(bytes)));
	must(device->ops->copy_out(memory, SLICE_BYTES - 1000, seen, sizeof(seen)));
	assert_memory_equal(bytes, seen, sizeof(bytes));
	must(device->ops->export_slice(memory, 0, &exported));
	assert_int_equal(exported.bytes, SLICE_BYTES);
	close(exported.fd);
	must(device->ops->export_slice(memory, 1, &exported));
	assert_true(exported.bytes >= last && exported.bytes < last + 4096);
	must(dmabuf_sync(exported.fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ));
	mapping = map_export(&exported);
	assert_non_null(mapping);
	assert_memory_equal(mapping, bytes + 1000, sizeof(bytes) - 1000);
	munmap(mapping, exported.bytes);
	must(dmabuf_sync(exported.fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ));
	close(exported.fd);
	device->ops->free(memory);
	device->ops->close(device);
}

static void two_buffers_do_not_share_bytes(void **state)
{
	const struct subject *subject = *state;
	struct backend_device *device = open_or_skip(subject->name);
	struct backend_memory *a = alloc_ok(device, 3 * MIB), *b = alloc_ok(device, 2 * MIB);
	unsigned char *data = malloc(3 * MIB);
	uint32_t before, after;

	assert_non_null(data);
	fill_random(data, 3 * MIB);
	must(device->ops->copy_in(a, 0, data, 3 * MIB));
	must(device->ops->checksum(b, 0, 2 * MIB, &before));
	device->ops->free(a);
	a = alloc_ok(device, 3 * MIB);
	must(device->ops->copy_in(a, 0, data, 3 * MIB));
	must(device->ops->checksum(b, 0, 2 * MIB, &after));
	assert_int_equal(before, after);
	device->ops->free(b);
	device->ops->free(a);
	device->ops->close(device);
	free(data);
}

/* Addresses for a buffer of this size can be had, memory cannot. */
static void more_than_there_is_is_refused_and_left_alone(void **state)
{
	const struct subject *subject = *state;
	struct backend_device *device;
	struct backend_memory *memory = NULL;
	int before;

	device = open_or_skip(subject->name);
	before = open_descriptors();
	assert_int_equal(device->ops->alloc(device, UINT64_C(1) << 40, 0, &memory), -ENOMEM);
	assert_null(memory);
	assert_non_null(strstr(gds_last_error(), device->ops->name));
	print_message("%s\n", gds_last_error());
	assert_int_equal(open_descriptors(), before);
	device->ops->free(alloc_ok(device, MIB));
	device->ops->close(device);
}

static void nothing_stays_open(void **state)
{
	const struct subject *subject = *state;
	struct backend_device *device = open_or_skip(subject->name);
	int before;

	device->ops->close(device);
	before = open_descriptors();
	device = open_or_skip(subject->name);
	for (int i = 0; i < 20; i++)
		device->ops->free(alloc_ok(device, MIB + (uint64_t)i));
	device->ops->close(device);
	assert_int_equal(open_descriptors(), before);
}

/* ---- What cannot be had ------------------------------------------------------- */

static void refused(const char *name, int expected, const char *word)
{
	struct backend_device *device = NULL;
	int err = try_open(name, &device);

	print_message("%s: %s\n", name, gds_last_error());
	assert_null(device);
	assert_int_equal(err, expected);
	assert_non_null(strstr(gds_last_error(), word));
}

static void devices_that_are_not_there_are_refused_with_a_reason(void **state)
{
	refused("udmabuf:nosuch", -ENODEV, "udmabuf:huge");
	refused("dma-heap:nosuch", -ENODEV, "dma");
	refused("dma-heap:77", -ENODEV, "dma");
	refused("drm:nosuch", -ENODEV, "no ");
	refused("drm:77", -ENODEV, "no ");
	refused("vfio:", -EINVAL, "PCI address");
	refused("vfio:nosuch", -EINVAL, "PCI address");
	refused("vfio:04", -EINVAL, "PCI address");
	refused("vfio:04:00", -EINVAL, "PCI address");
	refused("vfio:04:00.", -EINVAL, "PCI address");
	refused("vfio:0:0:04:00.0", -EINVAL, "PCI address");
	refused("vfio:04:00.00", -EINVAL, "PCI address");
	refused("vfio:0000:04:00.0:x", -EINVAL, "PCI address");
	refused("vfio:0000:ff:1f.7", -ENODEV, "no PCI device");
	refused("vfio:ff:1f.7:2", -ENODEV, "no PCI device 0000:ff:1f.7");
}

/* Any PCI device that a driver of the host uses will do. */
static void a_device_of_another_driver_is_refused_with_the_way_to_bind_it(void **state)
{
	struct dirent **entries;
	int count = scandir("/sys/bus/pci/devices", &entries, NULL, alphasort);
	char name[NAME_BYTES] = "", path[512], driver[64];

	for (int i = 0; i < count; i++) {
		gds_text_set(path, sizeof(path), "/sys/bus/pci/devices/%s/driver",
			     entries[i]->d_name);
		if (system_link_name(path, driver, sizeof(driver)) == 0 && !strstr(driver, "vfio"))
			gds_text_set(name, sizeof(name), "vfio:%.32s", entries[i]->d_name);
		free(entries[i]);
	}
	if (count > 0)
		free(entries);
	if (!name[0]) {
		print_message("no PCI device with a driver here\n");
		skip();
	}
	refused(name, -ENODEV, "driver_override");
}

static int count_visits(const char *backend, const struct gds_device_info *info, const char *reason,
			void *user)
{
	int *visits = user;

	assert_true((info && info->name[0]) != (reason && reason[0]));
	if (info)
		assert_int_equal(strncmp(info->name, backend, strlen(backend)), 0);
	++*visits;
	return 0;
}

static void each_backend_lists_devices_or_says_why_not(void **state)
{
	static const char *const backends[] = { "drm", "udmabuf", "dma-heap", "vfio" };

	for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
		const char *selector;
		const struct backend_ops *ops = find_ops(backends[i], &selector);
		int visits = 0;

		if (!ops)
			continue;
		assert_int_equal(ops->list(count_visits, &visits), 0);
		assert_true(visits > 0);
	}
}

static void a_buffer_over_the_limit_of_udmabuf_has_more_slices(void **state)
{
	const char *path = "/sys/module/udmabuf/parameters/size_limit_mb";
	struct backend_export exported;
	struct backend_device *device;
	struct backend_memory *memory;
	char before[32];
	int fd, err;

	if (!getenv("GDS_VM") || system_text(path, before, sizeof(before))) {
		print_message("the limit is changed only in the VM\n");
		skip();
	}
	device = open_or_skip("udmabuf");
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(write(fd, "3", 1), 1);
	memory = alloc_ok(device, 5 * MIB);
	assert_int_equal(write(fd, "0", 1), 1);
	err = device->ops->alloc(device, 1, 0, &memory);
	print_message("%s\n", gds_last_error());
	assert_int_equal(write(fd, before, strlen(before)), strlen(before));
	close(fd);
	assert_int_equal(err, -ENOMEM);
	assert_int_equal(memory->slice_bytes, 2 * MIB);
	must(device->ops->export_slice(memory, 2, &exported));
	assert_int_equal(exported.bytes, MIB);
	close(exported.fd);
	assert_int_equal(device->ops->export_slice(memory, 3, &exported), -EINVAL);
	device->ops->free(memory);
	device->ops->close(device);
}

/* ---- VFIO --------------------------------------------------------------------- */

static const char *vfio_name(void)
{
	for (size_t i = 0; i < subject_count; i++)
		if (strncmp(subjects[i].name, "vfio:", 5) == 0)
			return subjects[i].name;
	print_message("no device for VFIO: GDS_TEST_VFIO may name one\n");
	skip();
	return NULL;
}

static void a_device_in_use_is_refused(void **state)
{
	struct backend_device *device = open_or_skip(vfio_name());

	refused(vfio_name(), -EBUSY, "in use");
	device->ops->close(device);
	device = open_or_skip(vfio_name());
	device->ops->close(device);
}

static void a_bar_is_filled_and_used_again(void **state)
{
	struct backend_device *device = open_or_skip(vfio_name());
	struct gds_device_info info = { .size = sizeof(info) };
	struct backend_memory *first, *second, *third;

	device->ops->info(device, &info);
	first = alloc_ok(device, info.memory_bytes / 2);
	second = alloc_ok(device, info.memory_bytes / 2);
	assert_int_equal(device->ops->alloc(device, 1, 0, &third), -ENOMEM);
	print_message("%s\n", gds_last_error());
	device->ops->free(first);
	third = alloc_ok(device, info.memory_bytes / 2);
	device->ops->free(second);
	device->ops->free(third);
	device->ops->close(device);
}

static void host_memory_of_a_bar_is_refused(void **state)
{
	struct backend_device *device = open_or_skip(vfio_name());
	struct backend_memory *memory;

	assert_int_equal(device->ops->alloc(device, MIB, GDS_BUFFER_HOST, &memory), -EOPNOTSUPP);
	device->ops->close(device);
}

static void a_bar_that_is_not_there_is_refused(void **state)
{
	char name[NAME_BYTES];

	gds_text_set(name, sizeof(name), "%.64s:5", vfio_name());
	refused(name, -ENODEV, "no BAR 5");
	gds_text_set(name, sizeof(name), "%.64s:9", vfio_name());
	refused(name, -ENODEV, "no BAR 9");
}

/* ---- Devices and tests -------------------------------------------------------- */

/* Below one switch and an IOMMU the near BAR shares a group with a disk in use. */
static bool shares_its_group(const char *name)
{
	struct backend_device *device;
	const char *selector;
	const struct backend_ops *ops = find_ops(name, &selector);

	if (!ops)
		return false;
	if (ops->open(&device, selector) == 0) {
		ops->close(device);
		return false;
	}
	if (!strstr(gds_last_error(), "shares its IOMMU group"))
		return false;
	print_message("left out: %s\n", gds_last_error());
	return true;
}

static void add_vfio(const char *name)
{
	struct subject *subject = &subjects[subject_count];

	if (subject_count == MAX_DEVICES)
		return;
	gds_text_set(subject->name, sizeof(subject->name), "%s", name);
	subject->bytes = 5 * MIB + 123;
	if (!shares_its_group(subject->name))
		subject_count++;
}

static void add_bars(void)
{
	char bars[BARS_MOST][BAR_NAME_BYTES];
	unsigned count = bars_bind(bars);

	for (unsigned i = 0; i < count; i++)
		add_vfio(bars[i]);
}

/* A pool for "udmabuf:huge"; where there is none, its tests say so. */
static void make_huge_pages(void)
{
	write_text("/proc/sys/vm/nr_hugepages", "16");
}

static const struct CMUnitTest of_each_device[] = {
	cmocka_unit_test(the_name_it_gives_opens_it_again),
	cmocka_unit_test(random_copies_arrive_where_they_should),
	cmocka_unit_test(what_is_written_through_the_mapping_is_seen),
	cmocka_unit_test(the_exported_dmabuf_is_the_same_memory),
	cmocka_unit_test(an_export_outlives_the_buffer),
	cmocka_unit_test(a_buffer_of_two_slices_is_one),
	cmocka_unit_test(two_buffers_do_not_share_bytes),
	cmocka_unit_test(more_than_there_is_is_refused_and_left_alone),
	cmocka_unit_test(nothing_stays_open),
};

static const struct CMUnitTest once[] = {
	cmocka_unit_test(devices_that_are_not_there_are_refused_with_a_reason),
	cmocka_unit_test(a_device_of_another_driver_is_refused_with_the_way_to_bind_it),
	cmocka_unit_test(each_backend_lists_devices_or_says_why_not),
	cmocka_unit_test(a_buffer_over_the_limit_of_udmabuf_has_more_slices),
	cmocka_unit_test(a_device_in_use_is_refused),
	cmocka_unit_test(a_bar_is_filled_and_used_again),
	cmocka_unit_test(host_memory_of_a_bar_is_refused),
	cmocka_unit_test(a_bar_that_is_not_there_is_refused),
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct CMUnitTest tests[MAX_TESTS];
static char names[MAX_TESTS][NAME_BYTES * 2];

/* Dumb buffers get their pages only as they are used: too many cannot be refused. */
static bool applies(const struct subject *subject, const struct CMUnitTest *test)
{
	if (test->test_func == more_than_there_is_is_refused_and_left_alone)
		return strncmp(subject->name, "drm:", 4) != 0;
	return test->test_func != a_buffer_of_two_slices_is_one || subject->many_bytes != 0;
}

static size_t collect_tests(void)
{
	size_t count = 0;

	for (size_t i = 0; i < subject_count; i++)
		for (size_t j = 0; j < COUNT(of_each_device); j++) {
			if (!applies(&subjects[i], &of_each_device[j]))
				continue;
			gds_text_set(names[count], sizeof(names[count]), "%s: %s", subjects[i].name,
				     of_each_device[j].name);
			tests[count] = of_each_device[j];
			tests[count].name = names[count];
			tests[count++].initial_state = &subjects[i];
		}
	memcpy(&tests[count], once, sizeof(once));
	return count + COUNT(once);
}

int main(void)
{
	const char *vfio = getenv("GDS_TEST_VFIO");
	char name[80];

	srandom(20261124);
	if (getenv("GDS_VM")) {
		make_huge_pages();
		add_bars();
	} else if (vfio) {
		gds_text_set(name, sizeof(name), "vfio:%.64s", vfio);
		add_vfio(name);
	}
	return _cmocka_run_group_tests("backends", tests, collect_tests(), NULL, NULL);
}
