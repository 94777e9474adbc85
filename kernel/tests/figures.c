// SPDX-License-Identifier: GPL-2.0-only
/*
 * The reads that kernel/figures counts instructions of. Each line printed names
 * a measurement; the counter plugin writes a pair of lines for each, in order.
 *
 * How many completions share an interrupt depends on how fast the emulated disk
 * happens to be, and an interrupt costs more than what is compared here. So the
 * disk is throttled: each command completes alone, with an interrupt and a way
 * out of idle of its own, whatever the buffer and whatever the IOMMU.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory.h"
#include "test.h"
#include "transfer.h"
#include "vmctl.h"

enum {
	MIB = 1 << 20,
	MEMORY_BYTES = 16 * MIB,
	RING_ENTRIES = 32,
	WARM_UP_ROUNDS = 2,
	COMMANDS_PER_S = 250,
};

struct size {
	const char *name;
	uint32_t bytes;
	unsigned depth;
	unsigned rounds;
};

static const struct size sizes[] = {
	{"4 KiB", 4096, 32, 16},
	{"1 MiB", MIB, 8, 8},
};

struct buffer {
	const char *name;
	unsigned slot;
	uint64_t address; /* of offset 0, in a request */
};

/* Does nothing; the plugin knows it by its bytes. */
static inline void mark(void)
{
	__asm__ volatile(".byte 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x47, 0x64, 0x6d" ::: "memory");
}

static void read_round(struct ring *ring, int fd, const struct buffer *buffer,
		       const struct size *size)
{
	unsigned i;

	for (i = 0; i < size->depth; i++)
		ring_queue(ring, &(struct fixed_io){.fd = fd,
						    .slot = buffer->slot,
						    .buffer_offset = buffer->address + i * size->bytes,
						    .length = size->bytes,
						    /* Not adjacent: the block layer would merge. */
						    .file_offset = 2ull * i * size->bytes});
	ring_submit_and_wait(ring, size->depth);
	for (i = 0; i < size->depth; i++) {
		int result = ring_wait(ring).res;

		if (result != (int)size->bytes)
			FAIL("a read ended with %d", result);
	}
}

static void measure(struct ring *ring, const struct disk *disk, const struct buffer *buffer,
		    const struct size *size)
{
	unsigned round;

	for (round = 0; round < WARM_UP_ROUNDS; round++)
		read_round(ring, disk->fd, buffer, size);
	mark();
	for (round = 0; round < size->rounds; round++)
		read_round(ring, disk->fd, buffer, size);
	mark();
	printf("%s|%s|%s|%u\n", disk->controller, size->name, buffer->name, size->depth * size->rounds);
}

static uint64_t ordinary(struct ring *ring, unsigned slot, int advice)
{
	/* Twice the size, so that a huge page fits in whatever the alignment. */
	uint8_t *map = mmap(NULL, 2 * MEMORY_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const uintptr_t huge = 2 * MIB;
	uint8_t *start = (uint8_t *)(((uintptr_t)map + huge - 1) & ~(huge - 1));

	CHECK(map != MAP_FAILED, "mmap: %s", strerror(errno));
	CHECK(madvise(map, 2 * MEMORY_BYTES, advice) == 0, "madvise: %s", strerror(errno));
	memset(start, POISON, MEMORY_BYTES);
	CHECK_EQ(ring_register_user(ring, slot, start, MEMORY_BYTES), 1, "an ordinary buffer");
	return (uintptr_t)start;
}

int main(void)
{
	struct disk disk;
	struct ring ring;
	struct memory udmabuf, heap;
	struct buffer buffers[4] = {{.name = "ordinary, 4 KiB pages", .slot = 0},
				    {.name = "ordinary, huge pages", .slot = 1},
				    {.name = "dma-buf, udmabuf", .slot = 2},
				    {.name = "dma-buf, system heap", .slot = 3}};
	size_t i, j;

	disk_prepare();
	disk_open(&disk, "nvme1");
	ring_open(&ring, RING_ENTRIES, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	buffers[0].address = ordinary(&ring, 0, MADV_NOHUGEPAGE);
	buffers[1].address = ordinary(&ring, 1, MADV_HUGEPAGE);
	memory_open(&udmabuf, exporters[0], MEMORY_BYTES);
	memory_open(&heap, exporters[1], MEMORY_BYTES);
	register_or_fail(&ring, some_shape(), 2, disk.fd, udmabuf.dmabuf_fd);
	register_or_fail(&ring, some_shape(), 3, disk.fd, heap.dmabuf_fd);
	vm_throttle("nvme1", COMMANDS_PER_S);
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		for (j = 0; j < sizeof(buffers) / sizeof(*buffers); j++)
			measure(&ring, &disk, &buffers[j], &sizes[i]);
	}
	return 0;
}
