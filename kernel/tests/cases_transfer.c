// SPDX-License-Identifier: GPL-2.0-only
/* Bytes arrive, all of them, and nowhere else. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cases.h"
#include "test.h"
#include "transfer.h"

enum { MIB = 1 << 20, MEMORY_BYTES = 4 * MIB, LIMIT_S = 60 };

struct variant {
	enum shape shape;
	const struct exporter *exporter;
};

/* In units that depend on the disk, so that every case is about its limits. */
struct size_case {
	unsigned blocks;
	unsigned transfers; /* of the controller's largest */
	unsigned offset_blocks;
	uint64_t file_offset;
};

static const struct size_case size_cases[] = {
	{.blocks = 1},
	{.blocks = 1, .offset_blocks = 1},
	{.blocks = 3, .offset_blocks = 7},
	{.blocks = 8, .offset_blocks = 8, .file_offset = DISK_HIGH},
	{.blocks = 9, .offset_blocks = 5, .file_offset = DISK_HIGH},
	{.blocks = 17, .offset_blocks = 3},
	{.transfers = 1},
	{.transfers = 1, .offset_blocks = 1},
	{.transfers = 1, .blocks = 1},
	{.transfers = 1, .blocks = 1, .offset_blocks = 3, .file_offset = DISK_HIGH},
	{.transfers = 3, .blocks = 5, .offset_blocks = 9, .file_offset = DISK_HIGH},
};

static struct span span_of(const struct size_case *size, const struct disk *disk)
{
	return (struct span){
		.buffer_offset = (uint64_t)size->offset_blocks * disk->block,
		.length = size->blocks * disk->block + size->transfers * disk->max_transfer_bytes,
		.file_offset = size->file_offset};
}

static void check_sizes(struct setup *setup)
{
	size_t i;

	for (i = 0; i < sizeof(size_cases) / sizeof(*size_cases); i++) {
		struct span span = span_of(&size_cases[i], &setup->disk);

		if (span.buffer_offset + span.length > setup->memory.bytes)
			FAIL("the test's memory is too small");
		read_and_compare(setup, 0, &span);
		span.file_offset += DISK_SCRATCH;
		write_and_compare(setup, 0, &span);
	}
}

static void sizes_on(const struct variant *variant, const char *serial)
{
	struct setup setup;

	setup_open(&setup, variant->shape, serial, variant->exporter, MEMORY_BYTES);
	check_sizes(&setup);
	setup_close(&setup);
}

static void sizes_on_nvme0(const void *argument)
{
	sizes_on(argument, "nvme0");
}

static void sizes_on_nvme1(const void *argument)
{
	sizes_on(argument, "nvme1");
}

/* SGLs for all, then for none: the data pointer of a command is one or the other. */
static void with_sgl_threshold(const char *threshold)
{
	struct setup setup;
	const char *path = "/sys/module/nvme/parameters/sgl_threshold";
	char before[32];

	CHECK_EQ(read_file(path, before, sizeof(before)), 0, "reading %s", path);
	CHECK_EQ(write_file(path, threshold), 0, "writing %s", path);
	setup_open(&setup, some_shape(), "nvme0", &exporter_udmabuf, MEMORY_BYTES);
	check_sizes(&setup);
	setup_close(&setup);
	CHECK_EQ(write_file(path, before), 0, "writing %s", path);
}

static void only_sgls(const void *argument)
{
	(void)argument;
	with_sgl_threshold("1");
}

static void only_prps(const void *argument)
{
	(void)argument;
	with_sgl_threshold("0");
}

static void two_disks_one_buffer(const void *argument)
{
	static const struct span at[2] = {
		{.buffer_offset = 0, .length = MIB, .file_offset = DISK_LOW},
		{.buffer_offset = 2 * MIB, .length = MIB, .file_offset = DISK_HIGH},
	};
	struct setup setup;
	struct disk other;
	struct fixed_io io[2];
	unsigned i;

	(void)argument;
	setup_open(&setup, some_shape(), "nvme0", &exporter_udmabuf, MEMORY_BYTES);
	disk_open(&other, "nvme1");
	register_or_fail(&setup.ring, setup.shape, 1, other.fd, setup.memory.dmabuf_fd);
	for (i = 0; i < 2; i++) {
		io[i] = (struct fixed_io){.fd = i ? other.fd : setup.disk.fd,
					  .slot = i,
					  .buffer_offset = at[i].buffer_offset,
					  .length = at[i].length,
					  .file_offset = at[i].file_offset};
		ring_queue(&setup.ring, &io[i]);
	}
	ring_submit(&setup.ring);
	for (i = 0; i < 2; i++)
		CHECK_EQ(ring_wait(&setup.ring).res, MIB, "one of two reads");
	compare_span(&setup.memory, &setup.disk, &at[0], MIB);
	compare_span(&setup.memory, &other, &at[1], MIB);
}

/* Many at once, each to its own place, some of them split by the block layer. */
static void many_in_flight(const void *argument)
{
	enum { READS = 64, LENGTH = 192 << 10 };
	struct setup setup;
	unsigned i;

	(void)argument;
	setup_open(&setup, some_shape(), "nvme0", &exporter_udmabuf, READS * LENGTH);
	for (i = 0; i < READS; i++) {
		struct fixed_io io = {.fd = setup.disk.fd,
				      .buffer_offset = (uint64_t)i * LENGTH,
				      .length = LENGTH,
				      .file_offset = (uint64_t)(READS - 1 - i) * LENGTH};

		ring_queue(&setup.ring, &io);
	}
	ring_submit(&setup.ring);
	for (i = 0; i < READS; i++)
		CHECK_EQ(ring_wait(&setup.ring).res, LENGTH, "one of many reads");
	for (i = 0; i < READS; i++) {
		struct span span = {.buffer_offset = (uint64_t)i * LENGTH,
				    .length = LENGTH,
				    .file_offset = (uint64_t)(READS - 1 - i) * LENGTH};

		compare_span(&setup.memory, &setup.disk, &span, 0);
	}
}

static void one_gibibyte(const void *argument)
{
	static const struct span spans[] = {
		{.buffer_offset = 0, .length = MIB, .file_offset = DISK_HIGH},
		{.buffer_offset = (512 << 20) - 4096, .length = 2 * MIB, .file_offset = DISK_LOW},
		{.buffer_offset = (1u << 30) - MIB, .length = MIB, .file_offset = DISK_HIGH},
		{.buffer_offset = (1u << 30) - 4096, .length = 4096, .file_offset = DISK_LOW},
	};
	struct setup setup;
	size_t i;

	(void)argument;
	setup_open(&setup, some_shape(), "nvme0", &exporter_udmabuf, 1ul << 30);
	for (i = 0; i < sizeof(spans) / sizeof(*spans); i++) {
		struct fixed_io io = {.fd = setup.disk.fd,
				      .buffer_offset = spans[i].buffer_offset,
				      .length = spans[i].length,
				      .file_offset = spans[i].file_offset};

		memset(setup.memory.map + spans[i].buffer_offset, POISON, spans[i].length);
		CHECK_EQ(ring_do(&setup.ring, &io), spans[i].length, "reading at offset %llu",
			 (unsigned long long)spans[i].buffer_offset);
		compare_span(&setup.memory, &setup.disk, &spans[i], 0);
	}
}

/* A truncation to 32 bits of an offset into the dma-buf shows as the wrong MiB or
 * as a refusal. The same MiB of memory repeats, so the right place is offset % MiB. */
static void offset_beyond_4gib(const void *argument)
{
	const uint64_t offset = (5ull << 30) + 3 * 4096;
	struct disk disk;
	struct ring ring;
	uint8_t *map;
	int dmabuf;
	struct fixed_io io = {.buffer_offset = offset, .length = 256 << 10};

	(void)argument;
	if (access("/sys/kernel/debug/dma-api", F_OK) == 0)
		test_skip("DMA-API debugging takes the repeated pages for leaked mappings");
	dmabuf = udmabuf_repeated(6 << 10, &map);
	disk_open(&disk, "nvme0");
	ring_open(&ring, 4, 0);
	register_or_fail(&ring, some_shape(), 0, disk.fd, dmabuf);
	memset(map, POISON, MIB);
	io.fd = disk.fd;
	CHECK_EQ(ring_do(&ring, &io), io.length, "reading at offset %llu", (unsigned long long)offset);
	CHECK(pattern_check(map + offset % MIB, io.length, disk.seed, 0) < 0, "wrong bytes");
	CHECK(poison_check(map, offset % MIB) < 0, "bytes before the read were written");
}

static void ordinary_buffer_beside(const void *argument)
{
	struct setup setup;
	struct span span = {.length = MIB};
	struct fixed_io io;
	uint8_t *buffer = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)argument;
	CHECK(buffer != MAP_FAILED, "mmap: %s", strerror(errno));
	setup_open(&setup, some_shape(), "nvme1", &exporter_udmabuf, MEMORY_BYTES);
	CHECK_EQ(ring_register_user(&setup.ring, 1, buffer, MIB), 1, "an ordinary buffer");
	read_and_compare(&setup, 0, &span);
	io = (struct fixed_io){.fd = setup.disk.fd,
			       .slot = 1,
			       .buffer_offset = (uintptr_t)buffer,
			       .length = MIB};
	CHECK_EQ(ring_do(&setup.ring, &io), MIB, "reading into the ordinary buffer");
	CHECK(pattern_check(buffer, MIB, setup.disk.seed, 0) < 0, "wrong bytes");
}

void add_transfer_cases(void)
{
	static struct variant variants[SHAPES * 16];
	struct variant *variant = variants;
	unsigned shape;
	size_t i;

	for (i = 0; exporters[i]; i++) {
		for (shape = 0; shape < SHAPES; shape++, variant++) {
			*variant = (struct variant){.shape = shape, .exporter = exporters[i]};
			test_add(sizes_on_nvme0, variant, LIMIT_S, "bytes: %s, 512-byte blocks, %s",
				 exporters[i]->name, shape_names[shape]);
			test_add(sizes_on_nvme1, variant, LIMIT_S, "bytes: %s, 4096-byte blocks, %s",
				 exporters[i]->name, shape_names[shape]);
		}
	}
	test_add(only_sgls, NULL, LIMIT_S, "bytes: every command with SGLs");
	test_add(only_prps, NULL, LIMIT_S, "bytes: every command with PRPs");
	test_add(two_disks_one_buffer, NULL, LIMIT_S, "bytes: two disks share one dma-buf");
	test_add(many_in_flight, NULL, LIMIT_S, "bytes: many reads in flight, split ones among them");
	test_add(one_gibibyte, NULL, LIMIT_S, "bytes: all of a 1 GiB dma-buf can be reached");
	test_add(offset_beyond_4gib, NULL, LIMIT_S, "bytes: offset beyond 4 GiB into a dma-buf");
	test_add(ordinary_buffer_beside, NULL, LIMIT_S, "bytes: an ordinary buffer in the next slot");
}
