/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA backend, called through its table, against a fake driver. */
#include "cuda-test.h"

#include "base/clock.h"
#include "base/log.h"

#include <pthread.h>

/* ---- Devices ---- */

struct listing {
	unsigned devices;
	unsigned reasons;
	char text[512];
};

static int note_device(const char *backend, const struct gds_device_info *info, const char *reason,
		       void *user)
{
	struct listing *listing = user;

	assert_string_equal(backend, "cuda");
	if (info) {
		listing->devices++;
		snprintf(listing->text, sizeof(listing->text), "%s %s", info->name,
			 info->description);
		assert_int_equal(info->memory_bytes, UINT64_C(16) << 30);
		assert_non_null(strstr(info->driver, "CUDA 12.8"));
	} else {
		listing->reasons++;
		snprintf(listing->text, sizeof(listing->text), "%s", reason);
	}
	return listing->devices == 3 ? 7 : 0;
}

static void every_device_is_listed_until_the_visitor_has_enough(void **state)
{
	struct listing listing = { 0 };

	fake_cuda_devices(2);
	assert_int_equal(ops->list(note_device, &listing), 0);
	assert_int_equal(listing.devices, 2);
	assert_string_equal(listing.text, "cuda:1 Fake GPU B");
	fake_cuda_devices(4);
	memset(&listing, 0, sizeof(listing));
	assert_int_equal(ops->list(note_device, &listing), 7);
	assert_int_equal(listing.devices, 3);
}

static void a_device_that_cannot_be_used_is_listed_with_the_reason(void **state)
{
	struct listing listing = { 0 };

	fake_cuda_devices(2);
	fake_cuda_fail("cuDeviceGet", 1, CUDA_ERROR_UNKNOWN);
	assert_int_equal(ops->list(note_device, &listing), 0);
	assert_int_equal(listing.devices, 1);
	assert_int_equal(listing.reasons, 1);
	fake_cuda_devices(0);
	memset(&listing, 0, sizeof(listing));
	assert_int_equal(ops->list(note_device, &listing), 0);
	assert_int_equal(listing.reasons, 1);
	assert_non_null(strstr(listing.text, "no GPU"));
}

static void a_device_tells_its_pci_address_as_sysfs_does(void **state)
{
	struct gds_device_info info = { .size = sizeof(info) };
	struct backend_device *device = NULL;

	fake_cuda_devices(2);
	assert_int_equal(ops->open(&device, "1"), 0);
	ops->info(device, &info);
	assert_string_equal(info.pci, "ffff:f1:00.0");
	fake_cuda_fail("cuDeviceGetPCIBusId", 1, CUDA_ERROR_INVALID_VALUE);
	ops->info(device, &info);
	assert_string_equal(info.pci, "");
	ops->close(device);
}

static void devices_are_picked_by_number_and_by_name(void **state)
{
	static const struct {
		const char *selector;
		const char *name; /* NULL: there is none */
	} cases[] = {
		{ "", "cuda:0" },     { "1", "cuda:1" }, { "gpu b", "cuda:1" },
		{ "Fake", "cuda:0" }, { "2", NULL },     { "99999999999999999999", NULL },
		{ "GPU C", NULL },    { "-1", NULL },
	};
	struct gds_device_info info = { .size = sizeof(info) };
	struct backend_device *device;

	fake_cuda_devices(2);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (!cases[i].name) {
			assert_int_equal(ops->open(&device, cases[i].selector), -ENODEV);
			assert_non_null(strstr(gds_last_error(), cases[i].selector));
			continue;
		}
		device = open_device(cases[i].selector);
		ops->info(device, &info);
		assert_string_equal(info.name, cases[i].name);
		ops->close(device);
	}
}

/* ---- Memory ---- */

static void round_trip(struct backend_device *device, uint64_t bytes, uint32_t flags)
{
	struct backend_memory *memory = alloc(device, bytes, flags);
	const size_t some = bytes < 140000 ? (bytes + 1) / 2 : 70000;
	unsigned char first;

	put(memory, bytes - some, some, 2);
	put(memory, 0, some, 1);
	expect(memory, 0, some, 1);
	if (bytes >= 2 * some)
		expect(memory, bytes - some, some, 2);
	fill(&first, 1, 1);
	if (memory->host)
		assert_int_equal(*(unsigned char *)memory->host, first);
	ops->free(memory);
}

static void memory_of_every_kind_holds_what_was_copied_in(void **state)
{
	static const uint64_t sizes[] = { 1, 4095, 4097, TEST_SLICE, 2 * TEST_SLICE + 12345 };
	struct backend_device *device = open_device("");

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		round_trip(device, sizes[i], 0);
		round_trip(device, sizes[i], GDS_BUFFER_HOST);
	}
	ops->close(device);
	fake_cuda_attribute(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0);
	fake_cuda_attribute(CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 0);
	device = open_device("");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		round_trip(device, sizes[i], 0);
		round_trip(device, sizes[i], GDS_BUFFER_HOST);
	}
	ops->close(device);
}

static void memory_lies_where_it_was_asked_for(void **state)
{
	struct backend_device *device = open_device("");
	struct backend_memory *own = alloc(device, 10000, 0);
	struct backend_memory *host = alloc(device, 10000, GDS_BUFFER_HOST);

	assert_null(own->host);
	assert_string_equal(own->placement, "vram");
	assert_non_null(host->host);
	assert_string_equal(host->placement, "host");
	assert_false(host->needs_publish);
	ops->free(own);
	ops->free(host);
	ops->close(device);
	/* What works in the host's memory anyway has it where drives write. */
	fake_cuda_attribute(CU_DEVICE_ATTRIBUTE_INTEGRATED, 1);
	device = open_device("");
	own = alloc(device, 10000, 0);
	assert_non_null(own->host);
	ops->free(own);
	ops->close(device);
}

static void large_memory_is_one_range_of_a_mapping_per_slice(void **state)
{
	struct backend_device *device = open_device("");
	unsigned before = fake_cuda_calls("cuMemCreate");
	struct backend_memory *memory = alloc(device, 3 * TEST_SLICE + 1, 0);

	assert_int_equal(fake_cuda_calls("cuMemCreate") - before, 4);
	assert_int_equal(to_cuda_memory(memory)->mapped_bytes, 4 * TEST_SLICE);
	put(memory, TEST_SLICE - 1000, 2000, 3); /* over the border */
	expect(memory, TEST_SLICE - 1000, 2000, 3);
	ops->free(memory);
	ops->close(device);
}

static void memory_is_asked_to_be_writable_by_drives_where_it_can_be(void **state)
{
	CUmemAllocationProp properties;
	struct backend_device *device = open_device("");
	struct backend_memory *memory = alloc(device, 1, 0);

	properties = fake_cuda_last_properties();
	assert_int_equal(properties.allocFlags.gpuDirectRDMACapable, 1);
	assert_int_equal(properties.requestedHandleTypes, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
	ops->free(memory);

	fake_cuda_attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, 0);
	memory = alloc(device, 1, 0);
	properties = fake_cuda_last_properties();
	assert_int_equal(properties.allocFlags.gpuDirectRDMACapable, 0);
	ops->free(memory);

	/* The driver refuses what it said it could. */
	fake_cuda_attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, 1);
	fake_cuda_fail("cuMemCreate", 1, CUDA_ERROR_NOT_SUPPORTED);
	memory = alloc(device, 1, 0);
	properties = fake_cuda_last_properties();
	assert_int_equal(properties.allocFlags.gpuDirectRDMACapable, 1);
	assert_int_equal(properties.requestedHandleTypes, CU_MEM_HANDLE_TYPE_NONE);
	ops->free(memory);
	for (unsigned i = 1; i <= 3; i++)
		fake_cuda_fail("cuMemCreate", i, CUDA_ERROR_INVALID_VALUE);
	memory = alloc(device, 1, 0);
	assert_string_equal(memory->placement, "plain vram");
	ops->free(memory);
	ops->close(device);
}

static void no_room_is_told_with_the_figures(void **state)
{
	struct backend_device *device = open_device("");
	struct backend_memory *memory = NULL;

	assert_int_equal(ops->alloc(device, UINT64_C(17) << 40, 0, &memory), -ENOMEM);
	assert_non_null(strstr(gds_last_error(), "16106127360 of its 17179869184 are free"));
	assert_int_equal(ops->alloc(device, UINT64_MAX, 0, &memory), -ENOMEM);
	assert_int_equal(ops->alloc(device, UINT64_C(1) << 50, GDS_BUFFER_HOST, &memory), -ENOMEM);
	fake_cuda_fail("cuMemCreate", 2, CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(ops->alloc(device, 2 * TEST_SLICE, 0, &memory), -ENOMEM);
	assert_null(memory);
	ops->close(device);
}

static void freeing_waits_for_copies_that_are_under_way(void **state)
{
	struct backend_device *device = open_device("");
	struct backend_memory *memory = alloc(device, 100000, 0);
	struct backend_staging *staging = NULL;
	void *host = pages(100 << 10);
	struct backend_copy copy = { .memory = memory, .bytes = 100000 };
	uint64_t ticket;

	assert_int_equal(ops->staging_attach(device, host, 100 << 10, &staging), 0);
	copy.staging = staging;
	fake_cuda_lag(20);
	assert_int_equal(ops->copy(device, &copy, 1, &ticket), 0);
	ops->free(memory); /* the fake would write to what is unmapped */
	ops->staging_detach(staging);
	munmap(host, 100 << 10);
	ops->close(device);
}

/* ---- Copies ---- */

#define HOST_BYTES ((size_t)1 << 20)

static void copies_are_done_when_their_ticket_says_so(void **state)
{
	struct backend_device *device = open_device("");
	struct backend_memory *memory = alloc(device, 2 * TEST_SLICE, 0);
	struct backend_staging *staging = NULL;
	void *host = pages(HOST_BYTES);
	struct backend_copy copies[2] = {
		{ .memory = memory,
		  .offset = TEST_SLICE - 777,
		  .source_offset = 13,
		  .bytes = 5000 },
		{ .memory = memory, .offset = 1, .source_offset = 20001, .bytes = 30000 },
	};
	uint64_t ticket = 0, done = 1, before_ns;

	assert_int_equal(ops->staging_attach(device, host, HOST_BYTES, &staging), 0);
	fill(host, HOST_BYTES, 9);
	copies[0].staging = copies[1].staging = staging;
	fake_cuda_lag(3);
	assert_int_equal(ops->copy(device, copies, 2, &ticket), 0);
	assert_true(ticket > 0);
	assert_int_equal(ops->copied(device, ticket, 0, &done), 0);
	assert_true(done < ticket);
	/* A time that is too short is no error. */
	fake_cuda_lag(300);
	assert_int_equal(ops->copy(device, copies, 1, &ticket), 0);
	before_ns = clock_now_ns();
	assert_int_equal(ops->copied(device, ticket, 3000000, &done), 0);
	assert_true(clock_now_ns() - before_ns >= 3000000);
	assert_true(done < ticket);
	assert_int_equal(ops->copied(device, ticket, UINT64_MAX, &done), 0);
	assert_int_equal(done, ticket);
	fake_cuda_lag(0);
	for (size_t i = 0; i < 2; i++) {
		unsigned char *found = malloc(copies[i].bytes);

		assert_int_equal(ops->copy_out(memory, copies[i].offset, found, copies[i].bytes),
				 0);
		assert_memory_equal(found, (char *)host + copies[i].source_offset, copies[i].bytes);
		free(found);
	}
	ops->free(memory);
	ops->staging_detach(staging);
	munmap(host, HOST_BYTES);
	ops->close(device);
}

static void more_copies_than_there_are_frames_wait_for_the_first(void **state)
{
	struct backend_device *device = open_device("");
	struct backend_memory *memory = alloc(device, HOST_BYTES, 0);
	struct backend_staging *staging = NULL;
	void *host = pages(HOST_BYTES);
	uint64_t last = 0, ticket = 0, done = 0;

	assert_int_equal(ops->staging_attach(device, host, HOST_BYTES, &staging), 0);
	fill(host, HOST_BYTES, 4);
	fake_cuda_lag(1);
	for (unsigned i = 0; i < 3 * CUDA_FRAMES_MAX; i++) {
		struct backend_copy copy = { .memory = memory,
					     .staging = staging,
					     .offset = i * 1000,
					     .source_offset = i * 1000,
					     .bytes = 1000 };

		assert_int_equal(ops->copy(device, &copy, 1, &ticket), 0);
		assert_true(ticket > last);
		last = ticket;
	}
	while (done < ticket)
		assert_int_equal(ops->copied(device, ticket, 1000000, &done), 0);
	assert_int_equal(done, ticket);
	expect(memory, 0, 3 * CUDA_FRAMES_MAX * 1000, 4);
	ops->free(memory);
	ops->staging_detach(staging);
	munmap(host, HOST_BYTES);
	ops->close(device);
}

static void memory_is_copied_within_the_device(void **state)
{
	struct backend_device *device = open_device("");
	struct backend_memory *from = alloc(device, HOST_BYTES, 0);
	struct backend_memory *to = alloc(device, HOST_BYTES, GDS_BUFFER_HOST);
	struct backend_copy copy = {
		.memory = to, .source = from, .offset = 7, .source_offset = 4097, .bytes = 100001
	};
	uint64_t ticket = 0, done = 0;

	put(from, 4097, 100001, 5);
	assert_int_equal(ops->copy(device, &copy, 1, &ticket), 0);
	while (done < ticket)
		assert_int_equal(ops->copied(device, ticket, 1000000, &done), 0);
	expect(to, 7, 100001, 5);
	ops->free(from);
	ops->free(to);
	ops->close(device);
}

static void a_copy_that_fails_leaves_staging_memory_alone_when_it_returns(void **state)
{
	struct backend_device *device = open_device("");
	struct backend_memory *memory = alloc(device, HOST_BYTES, 0);
	struct backend_staging *staging = NULL;
	void *host = pages(HOST_BYTES);
	struct backend_copy copies[2] = { { .memory = memory, .bytes = 1000 },
					  { .memory = memory, .offset = 5000, .bytes = 1000 } };
	uint64_t ticket, done;

	assert_int_equal(ops->staging_attach(device, host, HOST_BYTES, &staging), 0);
	copies[0].staging = copies[1].staging = staging;
	fake_cuda_lag(5);
	for (unsigned step = 0; step < 3; step++) {
		fill(host, 1000, 20 + step);
		fake_cuda_fail(step < 1 ? "cuMemcpyHtoDAsync_v2" : "cuEventRecord",
			       step < 1 ? 2 : 1, CUDA_ERROR_UNKNOWN);
		assert_int_equal(ops->copy(device, copies, 2, &ticket), -EIO);
		assert_non_null(strstr(gds_last_error(), "CUDA_ERROR_UNKNOWN"));
		memset(host, 0, 1000);
		fake_cuda_lag(0);
		expect(memory, 0, 1000, 20 + step);
		fake_cuda_lag(5);
	}
	/* And what is only found out when it is asked for. */
	fill(host, 1000, 30);
	assert_int_equal(ops->copy(device, copies, 1, &ticket), 0);
	fake_cuda_fail("cuEventQuery", 1, CUDA_ERROR_ILLEGAL_ADDRESS);
	assert_int_equal(ops->copied(device, ticket, 0, &done), -EIO);
	memset(host, 0, 1000);
	expect(memory, 0, 1000, 30);
	ops->free(memory);
	ops->staging_detach(staging);
	munmap(host, HOST_BYTES);
	ops->close(device);
}

static void staging_memory_is_pinned_once_for_all_devices(void **state)
{
	struct backend_device *devices[2];
	struct backend_staging *staging[2];
	void *host = pages(HOST_BYTES);
	char text[256];

	fake_cuda_devices(2);
	devices[0] = open_device("0");
	devices[1] = open_device("1");
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(ops->staging_attach(devices[i], host, HOST_BYTES, &staging[i]), 0);
	fake_cuda_alive(text, sizeof(text));
	assert_non_null(strstr(text, "1 registrations"));
	/* It outlives the device that it was registered with. */
	ops->staging_detach(staging[0]);
	ops->close(devices[0]);
	fake_cuda_alive(text, sizeof(text));
	assert_non_null(strstr(text, "1 registrations"));
	ops->staging_detach(staging[1]);
	fake_cuda_alive(text, sizeof(text));
	assert_null(strstr(text, "registrations"));
	ops->close(devices[1]);
	munmap(host, HOST_BYTES);
}

static void staging_memory_that_cannot_be_pinned_is_copied_all_the_same(void **state)
{
	struct backend_device *device = open_device("");
	struct backend_memory *memory = alloc(device, HOST_BYTES, 0);
	struct backend_staging *staging = NULL;
	void *host = pages(HOST_BYTES);
	struct backend_copy copy = { .memory = memory, .bytes = HOST_BYTES };
	uint64_t ticket, done = 0;

	fake_cuda_fail("cuMemHostRegister_v2", 1, CUDA_ERROR_NOT_PERMITTED);
	assert_int_equal(ops->staging_attach(device, host, HOST_BYTES, &staging), 0);
	assert_null(((struct cuda_staging *)staging)->pin);
	copy.staging = staging;
	fill(host, HOST_BYTES, 6);
	assert_int_equal(ops->copy(device, &copy, 1, &ticket), 0);
	while (done < ticket)
		assert_int_equal(ops->copied(device, ticket, 1000000, &done), 0);
	expect(memory, 0, HOST_BYTES, 6);
	ops->free(memory);
	ops->staging_detach(staging);
	munmap(host, HOST_BYTES);
	ops->close(device);
}

/* ---- Exports ---- */

/* A drive writes to both ends of the slice, and the device sees it. */
static void check_export(struct backend_memory *memory, size_t slice)
{
	const uint64_t start = slice * TEST_SLICE;
	const uint64_t bytes =
		memory->bytes - start < TEST_SLICE ? memory->bytes - start : TEST_SLICE;
	const size_t some = bytes < 6000 ? bytes / 2 : 3000;
	struct backend_export exported = { .fd = -1 };
	unsigned char data[3000];

	if (ops->export_slice(memory, slice, &exported))
		fail_msg("slice %zu: %s", slice, gds_last_error());
	assert_true(exported.fd >= 0);
	assert_int_equal(exported.bytes % 4096, 0);
	assert_true(exported.offset + bytes <= exported.bytes);
	fill(data, some, 40 + (unsigned)slice);
	assert_true(fake_cuda_drive_writes(exported.fd, exported.offset, data, some));
	assert_true(
		fake_cuda_drive_writes(exported.fd, exported.offset + bytes - some, data, some));
	assert_int_equal(ops->acquire(memory, start, bytes), 0);
	expect(memory, start, some, 40 + (unsigned)slice);
	expect(memory, start + bytes - some, some, 40 + (unsigned)slice);
	close(exported.fd);
}

static void every_slice_is_exported_for_drives_to_write_to(void **state)
{
	struct backend_device *device = open_device("");
	struct backend_memory *memory = alloc(device, 2 * TEST_SLICE + 5000, 0);
	unsigned before = fake_cuda_flagged_exports();

	for (size_t slice = 0; slice < 3; slice++)
		check_export(memory, slice);
	assert_int_equal(fake_cuda_flagged_exports() - before, 3);
	/* Drivers before CUDA 12.8 know no flags. */
	fake_cuda_export_flags(false);
	for (size_t slice = 0; slice < 3; slice++)
		check_export(memory, slice);
	ops->free(memory);
	ops->close(device);
}

static void memory_that_begins_in_mid_page_is_exported_with_an_offset(void **state)
{
	struct backend_device *device;
	struct backend_memory *memory;
	struct backend_export exported;

	fake_cuda_attribute(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0);
	device = open_device("");
	memory = alloc(device, TEST_SLICE + 5000, 0);
	check_export(memory, 0);
	check_export(memory, 1);
	assert_int_equal(ops->export_slice(memory, 0, &exported), 0);
	assert_int_equal(exported.offset, to_cuda_memory(memory)->address % 4096);
	assert_true(exported.offset > 0);
	close(exported.fd);
	/* A driver that wants more than the host's page. */
	fake_cuda_export_page(64 << 10);
	check_export(memory, 1);
	assert_int_equal(ops->export_slice(memory, 1, &exported), 0);
	assert_int_equal(exported.bytes % (64 << 10), 0);
	close(exported.fd);
	/* And one that cannot be pleased. */
	fake_cuda_export_page(8 << 20);
	assert_int_equal(ops->export_slice(memory, 1, &exported), -EOPNOTSUPP);
	ops->free(memory);
	ops->close(device);
}

static void refuse_export(struct backend_memory *memory, const char *reason)
{
	struct backend_export exported = { .fd = -1 };

	assert_int_equal(ops->export_slice(memory, 0, &exported), -EOPNOTSUPP);
	if (!strstr(gds_last_error(), reason))
		fail_msg("'%s' does not say '%s'", gds_last_error(), reason);
}

static void memory_that_cannot_be_exported_says_why(void **state)
{
	struct backend_device *device = open_device("");
	struct backend_memory *memory = alloc(device, 5000, 0);
	struct backend_memory *host = alloc(device, 5000, GDS_BUFFER_HOST);
	CUresult (*call)(void *, CUdeviceptr, size_t, CUmemRangeHandleType, unsigned long long) =
		cuda.cuMemGetHandleForAddressRange;

	refuse_export(host, "path mapped");
	fake_cuda_attribute(CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED, 0);
	refuse_export(memory, "open kernel modules");
	fake_cuda_attribute(CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED, 1);
	cuda.cuMemGetHandleForAddressRange = NULL; /* as with an old driver */
	refuse_export(memory, "CUDA 11.7");
	cuda.cuMemGetHandleForAddressRange = call;
	fake_cuda_fail("cuMemGetHandleForAddressRange", 1, CUDA_ERROR_NOT_PERMITTED);
	refuse_export(memory, "CUDA_ERROR_NOT_PERMITTED");
	to_cuda_device(device)->needs_flush = true;
	to_cuda_device(device)->can_flush = false;
	refuse_export(memory, "no way to make visible");
	ops->free(memory);
	ops->free(host);
	ops->close(device);
}

static void what_a_drive_wrote_is_flushed_where_the_device_needs_it(void **state)
{
	struct backend_device *device = open_device("");
	struct backend_memory *memory = alloc(device, 5000, 0);
	unsigned before = fake_cuda_calls("cuFlushGPUDirectRDMAWrites");

	assert_int_equal(ops->acquire(memory, 0, 5000), 0);
	assert_int_equal(fake_cuda_calls("cuFlushGPUDirectRDMAWrites"), before);
	ops->free(memory);
	ops->close(device);

	fake_cuda_attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING, 0);
	device = open_device("");
	memory = alloc(device, 5000, 0);
	check_export(memory, 0);
	assert_int_equal(fake_cuda_calls("cuFlushGPUDirectRDMAWrites"), before + 1);
	fake_cuda_fail("cuFlushGPUDirectRDMAWrites", 1, CUDA_ERROR_UNKNOWN);
	assert_int_equal(ops->acquire(memory, 0, 5000), -EIO);
	ops->free(memory);
	ops->close(device);
}

/* ---- Checksums ---- */

static void expect_checksum(struct backend_memory *memory, uint64_t offset, uint64_t bytes)
{
	unsigned char *copy = malloc(bytes + 1);
	uint32_t crc = 1;

	assert_non_null(copy);
	assert_int_equal(ops->copy_out(memory, offset, copy, bytes), 0);
	assert_int_equal(ops->checksum(memory, offset, bytes, &crc), 0);
	assert_int_equal(crc, crc32_z(0, copy, bytes));
	free(copy);
}

static void checksums_by_the_kernel_are_those_of_zlib(void **state)
{
	static const struct {
		uint64_t offset;
		uint64_t bytes;
	} cases[] = {
		{ 0, 0 },     { 0, 1 },     { 5, 3 },        { 0, 16 },     { 1, 15 },
		{ 1, 31 },    { 0, 4096 },  { 16, 4096 },    { 0, 4112 },   { 3, 8192 },
		{ 0, 12288 }, { 4095, 13 }, { 1, 4096 * 9 }, { 7, 150000 }, { 0, 4096 * 130 },
	};
	struct backend_device *device = open_device("");
	struct backend_memory *memory = alloc(device, 600000, 0);
	unsigned launches = fake_cuda_calls("cuLaunchKernel");

	put(memory, 0, 600000, 77);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		expect_checksum(memory, cases[i].offset, cases[i].bytes);
	assert_true(fake_cuda_calls("cuLaunchKernel") > launches);
	assert_false(to_cuda_device(device)->primary->checksum.refused);
	ops->free(memory);
	/* Host memory is at another address for the device. */
	memory = alloc(device, 20000, GDS_BUFFER_HOST);
	put(memory, 0, 20000, 78);
	expect_checksum(memory, 3, 19000);
	ops->free(memory);
	ops->close(device);
}

static char last_line[512];

static void note_line(enum gds_log_level level, const char *line, void *user)
{
	snprintf(last_line, sizeof(last_line), "%s", line);
}

static void a_driver_that_refuses_the_kernel_is_named_and_done_without(void **state)
{
	static const char *const calls[] = { "cuModuleLoadData", "cuModuleGetFunction",
					     "cuLaunchKernel" };

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		struct backend_device *device = open_device("");
		struct backend_memory *memory = alloc(device, 3000000, 0);
		unsigned launches;

		put(memory, 0, 3000000, 79);
		gds_log_set(GDS_LOG_WARNING, note_line, NULL);
		fake_cuda_fail(calls[i], 1, CUDA_ERROR_INVALID_PTX);
		expect_checksum(memory, 1, 2999990);
		gds_log_set(GDS_LOG_WARNING, NULL, NULL);
		assert_non_null(strstr(last_line, "by the CPU"));
		assert_non_null(strstr(last_line, "CUDA_ERROR_INVALID_PTX"));
		launches = fake_cuda_calls("cuLaunchKernel");
		expect_checksum(memory, 0, 20000);
		assert_int_equal(fake_cuda_calls("cuLaunchKernel"), launches);
		ops->free(memory);
		ops->close(device);
	}
}

/* ---- A caller's memory ---- */

static CUdeviceptr callers_memory(CUcontext context, size_t bytes)
{
	CUdeviceptr address = 0;
	CUcontext before;

	assert_int_equal(cuda.cuCtxPushCurrent(context), CUDA_SUCCESS);
	assert_int_equal(cuda.cuMemAlloc(&address, bytes), CUDA_SUCCESS);
	assert_int_equal(cuda.cuCtxPopCurrent(&before), CUDA_SUCCESS);
	return address;
}

static void wait_for(struct backend_device *device, uint64_t ticket)
{
	uint64_t done = 0;

	while (done < ticket)
		assert_int_equal(ops->copied(device, ticket, 1000000, &done), 0);
}

static void a_callers_memory_is_used_in_its_own_context(void **state)
{
	struct backend_device *device = open_device("");
	CUcontext contexts[2] = { fake_cuda_context(0), fake_cuda_context(0) };
	struct backend_memory *own = alloc(device, HOST_BYTES, 0);
	struct backend_memory *memories[2];
	struct backend_staging *staging = NULL;
	struct backend_copy copies[4];
	void *host = pages(HOST_BYTES);
	CUdeviceptr addresses[2];
	uint64_t ticket = 0;
	uint64_t address = 0;

	assert_int_equal(ops->staging_attach(device, host, HOST_BYTES, &staging), 0);
	fill(host, HOST_BYTES, 50);
	put(own, 0, 50000, 51);
	for (size_t i = 0; i < 2; i++) {
		addresses[i] = callers_memory(contexts[i], HOST_BYTES);
		assert_int_equal(
			backend_cuda_import(device, addresses[i] + 100, 200000, &memories[i]), 0);
		assert_int_equal(backend_cuda_locate(memories[i], &address), 0);
		assert_int_equal(address, addresses[i] + 100);
		copies[2 * i] = (struct backend_copy){ .memory = memories[i],
						       .staging = staging,
						       .bytes = 40000 };
		copies[2 * i + 1] = (struct backend_copy){
			.memory = memories[i], .source = own, .offset = 60000, .bytes = 50000
		};
	}
	assert_string_equal(memories[0]->placement, "imported vram");
	fake_cuda_lag(2);
	assert_int_equal(ops->copy(device, copies, 4, &ticket), 0);
	wait_for(device, ticket);
	for (size_t i = 0; i < 2; i++) {
		expect(memories[i], 0, 40000, 50);
		expect(memories[i], 60000, 50000, 51);
		expect_checksum(memories[i], 3, 100000);
	}
	/* A copy that fails in one context waits for those in the others. */
	fake_cuda_fail("cuMemcpyHtoDAsync_v2", 2, CUDA_ERROR_UNKNOWN);
	assert_int_equal(ops->copy(device, copies, 4, &ticket), -EIO);
	for (size_t i = 0; i < 2; i++) {
		ops->free(memories[i]);
		assert_int_equal(cuda.cuMemFree(addresses[i]), CUDA_SUCCESS);
		fake_cuda_context_end(contexts[i]);
	}
	ops->free(own);
	ops->staging_detach(staging);
	munmap(host, HOST_BYTES);
	ops->close(device);
}

/* After an error of copied() the staging memory is used again. */
static void a_wait_that_fails_in_one_context_waits_for_the_others(void **state)
{
	struct backend_device *device = open_device("");
	CUcontext context = fake_cuda_context(0);
	CUdeviceptr address = callers_memory(context, HOST_BYTES);
	struct backend_memory *own = alloc(device, HOST_BYTES, 0), *theirs = NULL;
	struct backend_staging *staging = NULL;
	struct backend_copy copies[2];
	void *host = pages(HOST_BYTES);
	uint64_t ticket = 0, done = 0;

	assert_int_equal(ops->staging_attach(device, host, HOST_BYTES, &staging), 0);
	assert_int_equal(backend_cuda_import(device, address, HOST_BYTES, &theirs), 0);
	copies[0] = (struct backend_copy){ .memory = own, .staging = staging, .bytes = 40000 };
	copies[1] = (struct backend_copy){ .memory = theirs, .staging = staging, .bytes = 40000 };
	fill(host, HOST_BYTES, 52);
	assert_int_equal(ops->copy(device, &copies[0], 1, &ticket), 0);
	fake_cuda_lag(100);
	assert_int_equal(ops->copy(device, &copies[1], 1, &ticket), 0);
	fake_cuda_fail("cuEventQuery", 1, CUDA_ERROR_ILLEGAL_ADDRESS);
	assert_int_equal(ops->copied(device, ticket, 0, &done), -EIO);
	assert_non_null(strstr(gds_last_error(), "its copies failed"));
	fill(host, HOST_BYTES, 53);
	expect(own, 0, 40000, 52);
	expect(theirs, 0, 40000, 52);
	ops->free(theirs);
	ops->free(own);
	ops->staging_detach(staging);
	munmap(host, HOST_BYTES);
	assert_int_equal(cuda.cuMemFree(address), CUDA_SUCCESS);
	fake_cuda_context_end(context);
	ops->close(device);
}

static void tickets_of_two_contexts_are_done_in_order(void **state)
{
	struct backend_device *device = open_device("");
	CUcontext context = fake_cuda_context(0);
	CUdeviceptr address = callers_memory(context, HOST_BYTES);
	struct backend_memory *own = alloc(device, HOST_BYTES, 0), *theirs;
	struct backend_copy first, second;
	uint64_t early, late, done;

	assert_int_equal(backend_cuda_import(device, address, HOST_BYTES, &theirs), 0);
	first = (struct backend_copy){ .memory = own, .source = own, .offset = 5000, .bytes = 10 };
	second = (struct backend_copy){ .memory = theirs, .source = own, .bytes = 10 };
	fake_cuda_lag(10);
	assert_int_equal(ops->copy(device, &first, 1, &early), 0);
	fake_cuda_lag(0);
	assert_int_equal(ops->copy(device, &second, 1, &late), 0);
	/* The second is done, but not all before it. */
	assert_int_equal(ops->copied(device, early, 0, &done), 0);
	assert_int_equal(done, early - 1);
	wait_for(device, late);
	ops->free(theirs);
	ops->free(own);
	assert_int_equal(cuda.cuMemFree(address), CUDA_SUCCESS);
	fake_cuda_context_end(context);
	ops->close(device);
}

static void mapped_memory_of_a_caller_is_imported_over_several_mappings(void **state)
{
	struct backend_device *device = open_device("");
	struct backend_memory *memory = alloc(device, 2 * TEST_SLICE, 0), *imported;
	CUdeviceptr address = to_cuda_memory(memory)->address;

	assert_int_equal(backend_cuda_import(device, address + TEST_SLICE - 5000, 10000, &imported),
			 0);
	put(imported, 0, 10000, 60);
	expect(memory, TEST_SLICE - 5000, 10000, 60);
	ops->free(imported);
	assert_int_equal(
		backend_cuda_import(device, address + TEST_SLICE, TEST_SLICE + 1, &imported),
		-EINVAL);
	ops->free(memory);
	ops->close(device);
}

static void memory_that_is_not_the_devices_is_not_imported(void **state)
{
	struct backend_device *device, *other;
	struct backend_memory *memory, *host, *imported = NULL;
	char here[10];

	fake_cuda_devices(2);
	device = open_device("0");
	other = open_device("1");
	memory = alloc(other, 10000, 0);
	host = alloc(device, 10000, GDS_BUFFER_HOST);
	assert_int_equal(
		backend_cuda_import(device, to_cuda_memory(memory)->address, 100, &imported),
		-EINVAL);
	assert_non_null(strstr(gds_last_error(), "memory of cuda:1"));
	assert_int_equal(backend_cuda_import(device, to_cuda_memory(host)->address, 100, &imported),
			 -ENOTSUP);
	assert_non_null(strstr(gds_last_error(), "no device memory"));
	assert_int_equal(backend_cuda_import(device, (uintptr_t)here, sizeof(here), &imported),
			 -EINVAL);
	assert_int_equal(backend_cuda_import(device, UINT64_MAX - 5, 100, &imported), -EINVAL);
	assert_null(imported);
	ops->free(memory);
	ops->free(host);
	ops->close(device);
	ops->close(other);
}

/* ---- Streams that wait ---- */

struct caller {
	CUcontext context;
	CUstream stream;
	CUdeviceptr word;
};

static struct caller make_caller(CUcontext context)
{
	struct caller caller = { .context = context };
	CUcontext before;

	assert_int_equal(cuda.cuCtxPushCurrent(context), CUDA_SUCCESS);
	assert_int_equal(cuda.cuStreamCreateWithPriority(&caller.stream, 0, 0), CUDA_SUCCESS);
	assert_int_equal(cuda.cuMemAlloc(&caller.word, sizeof(uint32_t)), CUDA_SUCCESS);
	assert_int_equal(cuda.cuCtxPopCurrent(&before), CUDA_SUCCESS);
	return caller;
}

static void end_caller(struct caller *caller)
{
	assert_int_equal(cuda.cuStreamDestroy(caller->stream), CUDA_SUCCESS);
	assert_int_equal(cuda.cuMemFree(caller->word), CUDA_SUCCESS);
}

/* Work behind the wait, and whether it is done. */
static CUevent put_work(struct caller *caller)
{
	static const uint32_t seven = 7;
	CUevent event;
	CUcontext before;

	assert_int_equal(cuda.cuCtxPushCurrent(caller->context), CUDA_SUCCESS);
	assert_int_equal(cuda.cuEventCreate(&event, 0), CUDA_SUCCESS);
	assert_int_equal(
		cuda.cuMemcpyHtoDAsync(caller->word, &seven, sizeof(seven), caller->stream),
		CUDA_SUCCESS);
	assert_int_equal(cuda.cuEventRecord(event, caller->stream), CUDA_SUCCESS);
	assert_int_equal(cuda.cuCtxPopCurrent(&before), CUDA_SUCCESS);
	return event;
}

static void a_stream_waits_until_it_is_released(void **state)
{
	struct backend_device *device = open_device("");
	CUcontext contexts[2] = { to_cuda_device(device)->primary->context, fake_cuda_context(0) };

	for (size_t i = 0; i < 2; i++) {
		struct caller caller = make_caller(contexts[i]);
		struct cuda_wait *first = NULL, *second = NULL;
		CUevent event;

		assert_int_equal(backend_cuda_stream_wait(device, caller.stream, &first), 0);
		assert_int_equal(backend_cuda_stream_wait(device, caller.stream, &second), 0);
		event = put_work(&caller);
		assert_int_equal(cuda.cuEventQuery(event), CUDA_ERROR_NOT_READY);
		backend_cuda_release(second);
		assert_int_equal(cuda.cuEventQuery(event), CUDA_ERROR_NOT_READY);
		backend_cuda_release(first);
		assert_int_equal(cuda.cuEventQuery(event), CUDA_SUCCESS);
		cuda.cuEventDestroy(event);
		end_caller(&caller);
	}
	ops->close(device);
	fake_cuda_context_end(contexts[1]);
}

static void the_default_stream_waits_too(void **state)
{
	struct backend_device *device = open_device("");
	struct caller caller = { .context = to_cuda_device(device)->primary->context };
	struct cuda_wait *wait = NULL;
	CUcontext before;
	CUevent event;

	assert_int_equal(cuda.cuCtxPushCurrent(caller.context), CUDA_SUCCESS);
	assert_int_equal(cuda.cuMemAlloc(&caller.word, sizeof(uint32_t)), CUDA_SUCCESS);
	assert_int_equal(cuda.cuCtxPopCurrent(&before), CUDA_SUCCESS);
	assert_int_equal(backend_cuda_stream_wait(device, NULL, &wait), 0);
	event = put_work(&caller);
	assert_int_equal(cuda.cuEventQuery(event), CUDA_ERROR_NOT_READY);
	backend_cuda_release(wait);
	assert_int_equal(cuda.cuEventQuery(event), CUDA_SUCCESS);
	cuda.cuEventDestroy(event);
	cuda.cuMemFree(caller.word);
	ops->close(device);
}

static void words_are_used_again_and_run_out_with_an_error(void **state)
{
	static struct cuda_wait *waits[CUDA_WAITS_MAX];
	struct backend_device *device = open_device("");
	struct caller caller = make_caller(to_cuda_device(device)->primary->context);
	struct cuda_wait *one_more = NULL;

	for (unsigned round = 0; round < 2; round++) {
		for (size_t i = 0; i < CUDA_WAITS_MAX; i++)
			assert_int_equal(backend_cuda_stream_wait(device, caller.stream, &waits[i]),
					 0);
		assert_int_equal(backend_cuda_stream_wait(device, caller.stream, &one_more),
				 -EAGAIN);
		for (size_t i = CUDA_WAITS_MAX; i-- > 0;)
			backend_cuda_release(waits[i]);
	}
	end_caller(&caller);
	ops->close(device);
}

static void a_wait_that_cannot_be_had_says_why(void **state)
{
	struct backend_device *device, *other;
	struct caller caller;
	struct cuda_wait *wait = NULL;
	CUresult (*call)(CUstream, CUdeviceptr, cuuint32_t, unsigned) = cuda.cuStreamWaitValue32;

	fake_cuda_devices(2);
	device = open_device("0");
	other = open_device("1");
	caller = make_caller(to_cuda_device(other)->primary->context);
	assert_int_equal(backend_cuda_stream_wait(device, caller.stream, &wait), -EINVAL);
	assert_non_null(strstr(gds_last_error(), "stream is of cuda:1"));
	cuda.cuStreamWaitValue32 = NULL; /* as with an old driver */
	assert_int_equal(backend_cuda_stream_wait(other, caller.stream, &wait), -ENOTSUP);
	cuda.cuStreamWaitValue32 = call;
	end_caller(&caller);
	ops->close(device);
	ops->close(other);
}

static void a_device_without_flushes_waits_without_them(void **state)
{
	struct backend_device *device;
	struct caller caller;
	struct cuda_wait *wait = NULL;

	fake_cuda_attribute(CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES, 0);
	device = open_device("");
	caller = make_caller(to_cuda_device(device)->primary->context);
	assert_int_equal(backend_cuda_stream_wait(device, caller.stream, &wait), 0);
	backend_cuda_release(wait);
	end_caller(&caller);
	ops->close(device);
}

static void a_device_is_kept_open_for_a_stream_that_waits(void **state)
{
	struct backend_device *device = open_device("");
	struct caller caller = make_caller(to_cuda_device(device)->primary->context);
	struct cuda_wait *wait = NULL;
	CUevent event;

	assert_int_equal(backend_cuda_stream_wait(device, caller.stream, &wait), 0);
	event = put_work(&caller);
	gds_log_set(GDS_LOG_ERROR, note_line, NULL);
	ops->close(device);
	gds_log_set(GDS_LOG_WARNING, NULL, NULL);
	assert_non_null(strstr(last_line, "kept open"));
	backend_cuda_release(wait);
	assert_int_equal(cuda.cuEventQuery(event), CUDA_SUCCESS);
	cuda.cuEventDestroy(event);
	end_caller(&caller);
	ops->close(device);
}

/* Its words are looked at by a stream that is slow to get there. */
static void closing_waits_until_streams_have_passed(void **state)
{
	struct backend_device *device = open_device("");
	struct caller caller = make_caller(to_cuda_device(device)->primary->context);
	struct cuda_wait *wait = NULL;

	fake_cuda_lag(30);
	assert_int_equal(backend_cuda_stream_wait(device, caller.stream, &wait), 0);
	backend_cuda_release(wait);
	assert_int_equal(cuda.cuMemFree(caller.word), CUDA_SUCCESS);
	ops->close(device);
	assert_int_equal(cuda.cuStreamDestroy(caller.stream), CUDA_SUCCESS);
}

/* ---- Threads ---- */

#define ROUNDS 30

struct worker {
	pthread_t thread;
	struct backend_device *device;
	unsigned seed;
	const char *failure; /* cmocka's assertions are for the main thread */
};

#define CHECK(worker, condition)                        \
	do {                                            \
		if (!(condition)) {                     \
			(worker)->failure = #condition; \
			return;                         \
		}                                       \
	} while (0)

static void work_with(struct worker *worker, struct backend_memory *memory,
		      struct backend_staging *staging)
{
	struct backend_device *device = worker->device;
	struct backend_copy copy = { .memory = memory, .staging = staging, .bytes = 20000 };
	unsigned char found[20000];
	struct backend_export exported;
	uint64_t ticket, done = 0;
	struct cuda_wait *wait;
	uint32_t crc;

	fill(staging->host, 20000, worker->seed);
	CHECK(worker, ops->copy(device, &copy, 1, &ticket) == 0);
	CHECK(worker, backend_cuda_stream_wait(device, NULL, &wait) == 0);
	while (done < ticket)
		CHECK(worker, ops->copied(device, ticket, 1000000, &done) == 0);
	backend_cuda_release(wait);
	CHECK(worker, ops->copy_out(memory, 0, found, sizeof(found)) == 0);
	CHECK(worker, memcmp(found, staging->host, sizeof(found)) == 0);
	CHECK(worker, ops->checksum(memory, 0, 20000, &crc) == 0);
	CHECK(worker, crc == crc32_z(0, found, sizeof(found)));
	CHECK(worker, ops->export_slice(memory, 0, &exported) == 0);
	close(exported.fd);
}

static void *run_worker(void *argument)
{
	struct worker *worker = argument;
	void *host =
		mmap(NULL, HOST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (unsigned round = 0; round < ROUNDS && !worker->failure; round++) {
		struct backend_memory *memory = NULL;
		struct backend_staging *staging = NULL;

		if (ops->alloc(worker->device, 30000, 0, &memory) ||
		    ops->staging_attach(worker->device, host, HOST_BYTES, &staging)) {
			worker->failure = "no memory";
			break;
		}
		worker->seed += 2;
		work_with(worker, memory, staging);
		ops->staging_detach(staging);
		ops->free(memory);
	}
	munmap(host, HOST_BYTES);
	return NULL;
}

static void two_threads_use_one_device(void **state)
{
	struct backend_device *device = open_device("");
	struct worker workers[2] = { { .device = device, .seed = 1 },
				     { .device = device, .seed = 2 } };

	fake_cuda_lag(1);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]),
				 0);
	for (size_t i = 0; i < 2; i++)
		pthread_join(workers[i].thread, NULL);
	for (size_t i = 0; i < 2; i++)
		if (workers[i].failure)
			fail_msg("%s: %s", workers[i].failure, gds_last_error());
	ops->close(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CUDA_TEST(every_device_is_listed_until_the_visitor_has_enough),
		CUDA_TEST(a_device_that_cannot_be_used_is_listed_with_the_reason),
		CUDA_TEST(a_device_tells_its_pci_address_as_sysfs_does),
		CUDA_TEST(devices_are_picked_by_number_and_by_name),
		CUDA_TEST(memory_of_every_kind_holds_what_was_copied_in),
		CUDA_TEST(memory_lies_where_it_was_asked_for),
		CUDA_TEST(large_memory_is_one_range_of_a_mapping_per_slice),
		CUDA_TEST(memory_is_asked_to_be_writable_by_drives_where_it_can_be),
		CUDA_TEST(no_room_is_told_with_the_figures),
		CUDA_TEST(freeing_waits_for_copies_that_are_under_way),
		CUDA_TEST(copies_are_done_when_their_ticket_says_so),
		CUDA_TEST(more_copies_than_there_are_frames_wait_for_the_first),
		CUDA_TEST(memory_is_copied_within_the_device),
		CUDA_TEST(a_copy_that_fails_leaves_staging_memory_alone_when_it_returns),
		CUDA_TEST(staging_memory_is_pinned_once_for_all_devices),
		CUDA_TEST(staging_memory_that_cannot_be_pinned_is_copied_all_the_same),
		CUDA_TEST(every_slice_is_exported_for_drives_to_write_to),
		CUDA_TEST(memory_that_begins_in_mid_page_is_exported_with_an_offset),
		CUDA_TEST(memory_that_cannot_be_exported_says_why),
		CUDA_TEST(what_a_drive_wrote_is_flushed_where_the_device_needs_it),
		CUDA_TEST(checksums_by_the_kernel_are_those_of_zlib),
		CUDA_TEST(a_driver_that_refuses_the_kernel_is_named_and_done_without),
		CUDA_TEST(a_callers_memory_is_used_in_its_own_context),
		CUDA_TEST(a_wait_that_fails_in_one_context_waits_for_the_others),
		CUDA_TEST(tickets_of_two_contexts_are_done_in_order),
		CUDA_TEST(mapped_memory_of_a_caller_is_imported_over_several_mappings),
		CUDA_TEST(memory_that_is_not_the_devices_is_not_imported),
		CUDA_TEST(a_stream_waits_until_it_is_released),
		CUDA_TEST(the_default_stream_waits_too),
		CUDA_TEST(words_are_used_again_and_run_out_with_an_error),
		CUDA_TEST(a_wait_that_cannot_be_had_says_why),
		CUDA_TEST(a_device_without_flushes_waits_without_them),
		CUDA_TEST(a_device_is_kept_open_for_a_stream_that_waits),
		CUDA_TEST(closing_waits_until_streams_have_passed),
		CUDA_TEST(two_threads_use_one_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
