// SPDX-License-Identifier: GPL-2.0-only
/* A kernel without the series: it refuses, and nothing else changes. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "cases.h"
#include "test.h"
#include "transfer.h"

enum { MIB = 1 << 20, LIMIT_S = 30 };

static void refuses_both_shapes(const void *argument)
{
	struct disk disk;
	struct memory memory;
	struct ring ring;
	unsigned shape;

	(void)argument;
	disk_open(&disk, "nvme0");
	memory_open(&memory, &exporter_udmabuf, MIB);
	ring_open(&ring, 4, 0);
	for (shape = 0; shape < SHAPES; shape++)
		CHECK_EQ(ring_register(&ring, shape, 0, disk.fd, memory.dmabuf_fd), -EINVAL, "shape %s",
			 shape_names[shape]);
}

static void nothing_in_sysfs(const void *argument)
{
	struct disk disk;
	char path[128], text[16];

	(void)argument;
	disk_open(&disk, "nvme0");
	snprintf(path, sizeof(path), "/sys/block/%s/queue/dma_buf", disk.path + strlen("/dev/"));
	CHECK_EQ(read_file(path, text, sizeof(text)), -ENOENT, "reading %s", path);
}

static void ordinary_buffer_works(const void *argument)
{
	struct disk disk;
	struct ring ring;
	uint8_t *buffer = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct fixed_io io = {.buffer_offset = (uintptr_t)buffer, .length = MIB};

	(void)argument;
	disk_open(&disk, "nvme0");
	ring_open(&ring, 4, 0);
	CHECK_EQ(ring_register_user(&ring, 0, buffer, MIB), 1, "an ordinary buffer");
	io.fd = disk.fd;
	CHECK_EQ(ring_do(&ring, &io), MIB, "reading");
	CHECK(pattern_check(buffer, MIB, disk.seed, 0) < 0, "wrong bytes");
}

void add_stock_cases(void)
{
	test_add(refuses_both_shapes, NULL, LIMIT_S, "stock kernel: both shapes are refused with EINVAL");
	test_add(nothing_in_sysfs, NULL, LIMIT_S, "stock kernel: sysfs promises nothing");
	test_add(ordinary_buffer_works, NULL, LIMIT_S, "stock kernel: ordinary buffers work");
}
