/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds backends/dmabuf to its contract on memfds, which stand in for dma-bufs.
 *
 * The linker puts this file in the place of the sync ioctl. Outside of brackets
 * the memory is made inaccessible here, so that an access that is not announced, or
 * announced as another, ends the test with a signal.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "base/bits.h"
#include "dmabuf/memory.h"
#include "dmabuf/move.h"
#include "dmabuf/sync.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { SLICE = 64 << 10, PAGE = 4096, SLICES = 16, ROUNDS = 2000 };

/* What the stand-in knows of each slice that was made. */
struct watched {
	ino_t inode;
	int reads, writes; /* brackets that are open */
	int starts, ends;
	bool released;
};

static struct {
	struct watched slices[SLICES];
	size_t count;
	struct backend_memory *guarded; /* made inaccessible outside of brackets */
	int fail_sync_at;               /* this many calls from now, the sync fails */
	int fail_make_at;
	bool without_fd;
} world;

int __wrap_dmabuf_sync(int fd, uint64_t flags);

static struct watched *find_watched(int fd)
{
	struct stat status;

	assert_int_equal(fstat(fd, &status), 0);
	for (size_t i = 0; i < world.count; i++)
		if (world.slices[i].inode == status.st_ino)
			return &world.slices[i];
	fail_msg("a descriptor of no slice was synchronised");
	return NULL;
}

static void protect(const struct watched *slice)
{
	uint64_t offset = (uint64_t)(slice - world.slices) * SLICE;
	int access = slice->writes ? PROT_READ | PROT_WRITE : slice->reads ? PROT_READ : PROT_NONE;
	uint64_t end;

	if (!world.guarded)
		return;
	end = min_u64(offset + SLICE, align_up(world.guarded->bytes, PAGE));
	assert_int_equal(mprotect((char *)world.guarded->host + offset, end - offset, access), 0);
}

int __wrap_dmabuf_sync(int fd, uint64_t flags)
{
	struct watched *slice = find_watched(fd);
	bool is_end = flags & DMA_BUF_SYNC_END;
	int change = is_end ? -1 : 1;

	if (world.fail_sync_at > 0 && --world.fail_sync_at == 0)
		return -EIO;
	slice->starts += !is_end;
	slice->ends += is_end;
	if (flags & DMA_BUF_SYNC_WRITE)
		slice->writes += change;
	else
		slice->reads += change;
	protect(slice);
	return 0;
}

static int double_make(struct dmabuf_device *device, uint32_t flags, struct dmabuf_slice *slice)
{
	int fd = memfd_create("slice", MFD_CLOEXEC);
	struct stat status;

	if (world.fail_make_at > 0 && --world.fail_make_at == 0) {
		close(fd);
		return -ENOSPC;
	}
	assert_int_equal(ftruncate(fd, (off_t)slice->bytes), 0);
	assert_int_equal(fstat(fd, &status), 0);
	assert_true(world.count < SLICES);
	slice->handle = world.count;
	world.slices[world.count++] = (struct watched){ .inode = status.st_ino };
	slice->map_fd = fd;
	slice->fd = world.without_fd ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (flags & GDS_BUFFER_HOST)
		slice->placement = "elsewhere";
	return 0;
}

static void double_release(struct dmabuf_device *device, struct dmabuf_slice *slice)
{
	assert_false(world.slices[slice->handle].released);
	world.slices[slice->handle].released = true;
	close(slice->map_fd);
}

static const struct backend_ops double_ops = { .name = "double", DMABUF_MEMORY_OPS };

static struct dmabuf_device open_double(void)
{
	struct dmabuf_device device = { .make = double_make, .release = double_release };

	memset(&world, 0, sizeof(world));
	dmabuf_device_init(&device, &double_ops, "double");
	device.slice_bytes = SLICE;
	device.page_bytes = PAGE;
	device.no_export_reason = "it is only pretence";
	return device;
}

static struct backend_memory *alloc_ok(struct dmabuf_device *device, uint64_t bytes)
{
	struct backend_memory *memory;

	assert_int_equal(dmabuf_memory_alloc(&device->base, bytes, 0, &memory), 0);
	return memory;
}

/* From here on, every access needs its bracket. */
static void guard(struct backend_memory *memory)
{
	world.guarded = memory;
	for (size_t i = 0; i < world.count; i++) {
		world.slices[i].reads = 0;
		world.slices[i].writes = 0;
		protect(&world.slices[i]);
	}
}

static void assert_brackets_closed(void)
{
	for (size_t i = 0; i < world.count; i++) {
		assert_int_equal(world.slices[i].reads, 0);
		assert_int_equal(world.slices[i].writes, 0);
	}
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

static uint64_t random_below(uint64_t limit)
{
	return (uint64_t)random() % limit;
}

static void fill_random(unsigned char *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		bytes[i] = (unsigned char)random();
}

/* ---- Allocation --------------------------------------------------------------- */

static void a_buffer_is_cut_into_slices_of_whole_pages(void **state)
{
	static const struct {
		uint64_t bytes, slices, last;
	} cases[] = {
		{ 1, 1, PAGE },
		{ PAGE, 1, PAGE },
		{ SLICE, 1, SLICE },
		{ SLICE + 1, 2, PAGE },
		{ 3 * SLICE - PAGE, 3, SLICE - PAGE },
		{ 5 * SLICE, 5, SLICE },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dmabuf_device device = open_double();
		struct backend_memory *memory = alloc_ok(&device, cases[i].bytes);
		struct stat status;

		assert_int_equal(world.count, cases[i].slices);
		for (size_t slice = 0; slice < world.count; slice++) {
			struct backend_export exported;

			assert_int_equal(dmabuf_memory_export_slice(memory, slice, &exported), 0);
			assert_int_equal(fstat(exported.fd, &status), 0);
			assert_int_equal(status.st_size, exported.bytes);
			assert_int_equal(exported.bytes,
					 slice + 1 == world.count ? cases[i].last : SLICE);
			close(exported.fd);
		}
		assert_int_equal(memory->bytes, cases[i].bytes);
		dmabuf_memory_free(memory);
	}
}

static void the_mapping_is_contiguous_over_all_slices(void **state)
{
	struct dmabuf_device device = open_double();
	struct backend_memory *memory = alloc_ok(&device, 3 * SLICE);
	unsigned char *host = memory->host;

	for (size_t slice = 0; slice < 3; slice++) {
		struct backend_export exported;
		unsigned char first, last;

		host[slice * SLICE] = (unsigned char)(slice + 1);
		host[slice * SLICE + SLICE - 1] = (unsigned char)(slice + 101);
		assert_int_equal(dmabuf_memory_export_slice(memory, slice, &exported), 0);
		assert_int_equal(pread(exported.fd, &first, 1, 0), 1);
		assert_int_equal(pread(exported.fd, &last, 1, SLICE - 1), 1);
		assert_int_equal(first, slice + 1);
		assert_int_equal(last, slice + 101);
		close(exported.fd);
	}
	assert_string_equal(memory->placement, "host");
	dmabuf_memory_free(memory);
}

static void the_placement_is_that_of_the_slices(void **state)
{
	struct dmabuf_device device = open_double();
	struct backend_memory *memory;

	assert_int_equal(dmabuf_memory_alloc(&device.base, 1, GDS_BUFFER_HOST, &memory), 0);
	assert_string_equal(memory->placement, "elsewhere");
	dmabuf_memory_free(memory);
}

static void freeing_leaves_nothing_open(void **state)
{
	struct dmabuf_device device = open_double();
	int before = open_descriptors();
	struct backend_memory *memory = alloc_ok(&device, 4 * SLICE);

	assert_true(open_descriptors() > before);
	dmabuf_memory_free(memory);
	assert_int_equal(open_descriptors(), before);
	for (size_t i = 0; i < world.count; i++)
		assert_true(world.slices[i].released);
}

static void a_slice_that_cannot_be_made_takes_the_others_along(void **state)
{
	struct dmabuf_device device = open_double();
	struct backend_memory *memory;
	int before = open_descriptors();

	world.fail_make_at = 3;
	assert_int_equal(dmabuf_memory_alloc(&device.base, 4 * SLICE, 0, &memory), -ENOSPC);
	assert_int_equal(world.count, 2);
	assert_true(world.slices[0].released && world.slices[1].released);
	assert_int_equal(open_descriptors(), before);

	/* The first sync of the second slice. */
	device = open_double();
	world.fail_sync_at = 2;
	assert_int_equal(dmabuf_memory_alloc(&device.base, 4 * SLICE, 0, &memory), -EIO);
	assert_non_null(strstr(gds_last_error(), "double"));
	assert_true(world.slices[0].released && world.slices[1].released);
	assert_int_equal(open_descriptors(), before);
}

static int double_admit(struct dmabuf_device *device, uint64_t bytes)
{
	return bytes > 2 * SLICE ? -ENOMEM : 0;
}

static void what_is_not_admitted_is_not_begun(void **state)
{
	struct dmabuf_device device = open_double();
	struct backend_memory *memory;

	device.admit = double_admit;
	assert_int_equal(dmabuf_memory_alloc(&device.base, 2 * SLICE + 1, 0, &memory), -ENOMEM);
	assert_int_equal(world.count, 0);
	dmabuf_memory_free(alloc_ok(&device, 2 * SLICE));
}

static void sizes_beyond_all_addresses_are_refused(void **state)
{
	static const uint64_t sizes[] = { UINT64_MAX, UINT64_MAX - PAGE, UINT64_C(1) << 62,
					  UINT64_C(1) << 52 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct dmabuf_device device = open_double();
		struct backend_memory *memory;

		assert_int_equal(dmabuf_memory_alloc(&device.base, sizes[i], 0, &memory), -ENOMEM);
		assert_int_equal(world.count, 0);
	}
}

/* ---- Export ------------------------------------------------------------------- */

static void an_export_is_the_callers_to_close(void **state)
{
	struct dmabuf_device device = open_double();
	struct backend_memory *memory = alloc_ok(&device, SLICE);
	struct backend_export first, second;

	assert_int_equal(dmabuf_memory_export_slice(memory, 0, &first), 0);
	assert_true(fcntl(first.fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(first.offset, 0);
	close(first.fd);
	assert_int_equal(dmabuf_memory_export_slice(memory, 0, &second), 0);
	dmabuf_memory_free(memory);
	assert_int_equal(fcntl(second.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	close(second.fd);
}

static void what_cannot_be_exported_says_why(void **state)
{
	struct dmabuf_device device = open_double();
	struct backend_memory *memory = alloc_ok(&device, SLICE);
	struct backend_export exported;
	unsigned char byte = 7;

	assert_int_equal(dmabuf_memory_export_slice(memory, 1, &exported), -EINVAL);
	dmabuf_memory_free(memory);

	device = open_double();
	world.without_fd = true;
	memory = alloc_ok(&device, SLICE);
	assert_int_equal(dmabuf_memory_export_slice(memory, 0, &exported), -EOPNOTSUPP);
	assert_non_null(strstr(gds_last_error(), "it is only pretence"));
	/* It is memory all the same. */
	assert_int_equal(dmabuf_memory_copy_in(memory, 5, &byte, 1), 0);
	assert_int_equal(((unsigned char *)memory->host)[5], 7);
	assert_int_equal(dmabuf_memory_publish(memory, 5, 1), 0);
	dmabuf_memory_free(memory);
}

static int double_make_short(struct dmabuf_device *device, uint32_t flags,
			     struct dmabuf_slice *slice)
{
	int err = double_make(device, flags, slice);

	assert_int_equal(ftruncate(slice->fd, (off_t)(slice->bytes - PAGE)), 0);
	return err;
}

static void a_dmabuf_that_is_too_small_is_not_exported(void **state)
{
	struct dmabuf_device device = open_double();
	struct backend_export exported;
	struct backend_memory *memory;

	device.make = double_make_short;
	memory = alloc_ok(&device, SLICE);
	assert_int_equal(dmabuf_memory_export_slice(memory, 0, &exported), -EIO);
	dmabuf_memory_free(memory);
}

/* ---- Access ------------------------------------------------------------------- */

struct model {
	struct dmabuf_device device;
	struct backend_memory *memory;
	unsigned char expected[3 * SLICE];
	unsigned char data[3 * SLICE];
};

static void check_all(struct model *model)
{
	uint32_t crc;

	assert_int_equal(
		dmabuf_memory_copy_out(model->memory, 0, model->data, sizeof(model->expected)), 0);
	assert_memory_equal(model->data, model->expected, sizeof(model->expected));
	assert_int_equal(dmabuf_memory_checksum(model->memory, 0, sizeof(model->expected), &crc),
			 0);
	assert_int_equal(crc, crc32_z(0, model->expected, sizeof(model->expected)));
}

static void copy_from_staging(struct model *model, uint64_t offset, uint64_t bytes)
{
	struct backend_staging *staging;
	struct backend_copy copy = { .memory = model->memory, .offset = offset, .bytes = bytes };
	uint64_t ticket = 1;

	copy.source_offset = random_below(sizeof(model->data) - bytes + 1);
	assert_int_equal(dmabuf_memory_staging_attach(&model->device.base, model->data,
						      sizeof(model->data), &staging),
			 0);
	copy.staging = staging;
	assert_int_equal(dmabuf_memory_copy(&model->device.base, &copy, 1, &ticket), 0);
	assert_int_equal(ticket, 0);
	dmabuf_memory_staging_detach(staging);
	memcpy(model->expected + offset, model->data + copy.source_offset, bytes);
}

/* To and from ranges that do not overlap. */
static void copy_within(struct model *model, uint64_t bytes)
{
	uint64_t half = sizeof(model->expected) / 2;
	struct backend_copy copy = { .memory = model->memory, .source = model->memory };
	uint64_t ticket = 1;

	copy.bytes = bytes % half;
	copy.offset = random_below(half - copy.bytes);
	copy.source_offset = half + random_below(half - copy.bytes);
	assert_int_equal(dmabuf_memory_copy(&model->device.base, &copy, 1, &ticket), 0);
	assert_int_equal(ticket, 0);
	memcpy(model->expected + copy.offset, model->expected + copy.source_offset, copy.bytes);
}

static void check_range(struct model *model, uint64_t offset, uint64_t bytes)
{
	uint32_t crc = 1;

	assert_int_equal(dmabuf_memory_copy_out(model->memory, offset, model->data, bytes), 0);
	assert_memory_equal(model->data, model->expected + offset, bytes);
	assert_int_equal(dmabuf_memory_checksum(model->memory, offset, bytes, &crc), 0);
	assert_int_equal(crc, crc32_z(0, model->expected + offset, bytes));
}

static void one_random_access(struct model *model)
{
	uint64_t offset = random_below(sizeof(model->expected));
	uint64_t bytes = random_below(sizeof(model->expected) - offset + 1);

	/* Small ones are the ones that go wrong. */
	if (random_below(2))
		bytes %= 64;
	fill_random(model->data, 64);
	switch (random_below(4)) {
	case 0:
		assert_int_equal(dmabuf_memory_copy_in(model->memory, offset, model->data, bytes),
				 0);
		memcpy(model->expected + offset, model->data, bytes);
		break;
	case 1:
		copy_from_staging(model, offset, bytes);
		break;
	case 2:
		copy_within(model, bytes);
		break;
	default:
		check_range(model, offset, bytes);
	}
	assert_brackets_closed();
}

static void run_model(bool io_memory)
{
	struct model *model = calloc(1, sizeof(*model));

	assert_non_null(model);
	model->device = open_double();
	model->device.io_memory = io_memory;
	model->memory = alloc_ok(&model->device, sizeof(model->expected));
	guard(model->memory);
	fill_random(model->data, sizeof(model->data));
	for (int i = 0; i < ROUNDS; i++)
		one_random_access(model);
	check_all(model);
	dmabuf_memory_free(model->memory);
	free(model);
}

static void random_accesses_move_the_right_bytes_inside_brackets(void **state)
{
	run_model(false);
}

static void so_do_those_of_io_memory(void **state)
{
	run_model(true);
}

static void only_slices_that_are_touched_are_synchronised(void **state)
{
	struct dmabuf_device device = open_double();
	struct backend_memory *memory = alloc_ok(&device, 4 * SLICE);
	unsigned char bytes[2] = { 1, 2 };

	guard(memory);
	for (size_t i = 0; i < 4; i++)
		world.slices[i].starts = 0;
	assert_int_equal(dmabuf_memory_copy_in(memory, 2 * SLICE - 1, bytes, 2), 0);
	assert_int_equal(world.slices[0].starts, 0);
	assert_int_equal(world.slices[1].starts, 1);
	assert_int_equal(world.slices[2].starts, 1);
	assert_int_equal(world.slices[3].starts, 0);
	dmabuf_memory_free(memory);
}

static void publishing_ends_an_access_and_acquiring_starts_one(void **state)
{
	struct dmabuf_device device = open_double();
	struct backend_memory *memory = alloc_ok(&device, 3 * SLICE);

	assert_int_equal(world.slices[1].starts, 1);
	assert_int_equal(dmabuf_memory_publish(memory, SLICE, SLICE), 0);
	assert_int_equal(world.slices[1].ends, 1);
	assert_int_equal(world.slices[0].ends + world.slices[2].ends, 0);
	assert_int_equal(dmabuf_memory_acquire(memory, SLICE, 1), 0);
	assert_int_equal(world.slices[1].starts, 2);
	assert_int_equal(dmabuf_memory_publish(memory, SLICE, 0), 0);
	assert_int_equal(world.slices[1].ends, 1);
	dmabuf_memory_free(memory);
}

static void a_sync_that_fails_is_told_and_leaves_no_bracket_open(void **state)
{
	struct dmabuf_device device = open_double();
	struct backend_memory *memory = alloc_ok(&device, 3 * SLICE);
	unsigned char data[2 * SLICE] = { 0 };
	struct backend_copy copy = { .memory = memory, .source = memory };
	uint64_t ticket;
	uint32_t crc;

	guard(memory);
	/* The start of the second of three slices. */
	world.fail_sync_at = 2;
	assert_int_equal(dmabuf_memory_copy_in(memory, SLICE / 2, data, sizeof(data)), -EIO);
	assert_brackets_closed();
	world.fail_sync_at = 3;
	assert_int_equal(dmabuf_memory_checksum(memory, 0, 3 * SLICE, &crc), -EIO);
	assert_brackets_closed();
	/* The start of the destination's, after that of the source. */
	world.fail_sync_at = 2;
	copy.offset = SLICE;
	copy.bytes = PAGE;
	assert_int_equal(dmabuf_memory_copy(&device.base, &copy, 1, &ticket), -EIO);
	assert_brackets_closed();
	/* An end that fails is told as well: the device may not see the bytes. */
	world.fail_sync_at = 2;
	assert_int_equal(dmabuf_memory_copy_in(memory, 0, data, 1), -EIO);
	dmabuf_memory_free(memory);
}

/* ---- Moving words ------------------------------------------------------------- */

static void io_copies_are_right_at_every_alignment(void **state)
{
	_Alignas(8) unsigned char from[64], to[64], expected[64];

	fill_random(from, sizeof(from));
	for (size_t a = 0; a < 8; a++)
		for (size_t b = 0; b < 8; b++)
			for (size_t bytes = 0; bytes <= 40; bytes++) {
				memset(to, 0xee, sizeof(to));
				memset(expected, 0xee, sizeof(expected));
				memcpy(expected + b, from + a, bytes);
				move_to_io(to + b, from + a, bytes);
				assert_memory_equal(to, expected, sizeof(to));
				memset(to, 0xee, sizeof(to));
				move_from_io(to + b, from + a, bytes);
				assert_memory_equal(to, expected, sizeof(to));
				memset(to, 0xee, sizeof(to));
				move_within_io(to + b, from + a, bytes);
				assert_memory_equal(to, expected, sizeof(to));
			}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_buffer_is_cut_into_slices_of_whole_pages),
		cmocka_unit_test(the_mapping_is_contiguous_over_all_slices),
		cmocka_unit_test(the_placement_is_that_of_the_slices),
		cmocka_unit_test(freeing_leaves_nothing_open),
		cmocka_unit_test(a_slice_that_cannot_be_made_takes_the_others_along),
		cmocka_unit_test(what_is_not_admitted_is_not_begun),
		cmocka_unit_test(sizes_beyond_all_addresses_are_refused),
		cmocka_unit_test(an_export_is_the_callers_to_close),
		cmocka_unit_test(what_cannot_be_exported_says_why),
		cmocka_unit_test(a_dmabuf_that_is_too_small_is_not_exported),
		cmocka_unit_test(random_accesses_move_the_right_bytes_inside_brackets),
		cmocka_unit_test(so_do_those_of_io_memory),
		cmocka_unit_test(only_slices_that_are_touched_are_synchronised),
		cmocka_unit_test(publishing_ends_an_access_and_acquiring_starts_one),
		cmocka_unit_test(a_sync_that_fails_is_told_and_leaves_no_bracket_open),
		cmocka_unit_test(io_copies_are_right_at_every_alignment),
	};

	srandom(20261124);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
