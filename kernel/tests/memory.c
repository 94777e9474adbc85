// SPDX-License-Identifier: GPL-2.0-only
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "disk.h"
#include "exporter_test.h"
#include "exporters.h"
#include "test.h"

void *map_shared(int fd, size_t bytes, uint64_t offset)
{
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);

	CHECK(map != MAP_FAILED, "mmap: %s", strerror(errno));
	return map;
}

int sealed_memfd(size_t bytes)
{
	int fd = memfd_create("kernel-tests", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	CHECK(fd >= 0, "memfd_create: %s", strerror(errno));
	CHECK(ftruncate(fd, (off_t)bytes) == 0, "ftruncate: %s", strerror(errno));
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0, "F_SEAL_SHRINK: %s", strerror(errno));
	return fd;
}

static int open_udmabuf_device(void)
{
	int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);

	if (device < 0)
		test_skip("/dev/udmabuf: %s", strerror(errno));
	return device;
}

static void udmabuf_open(struct memory *memory)
{
	int device = open_udmabuf_device();
	int memfd = sealed_memfd(memory->bytes);
	struct udmabuf_create create = {
		.memfd = (uint32_t)memfd, .flags = UDMABUF_FLAGS_CLOEXEC, .size = memory->bytes};

	memory->dmabuf_fd = ioctl(device, UDMABUF_CREATE, &create);
	CHECK(memory->dmabuf_fd >= 0, "UDMABUF_CREATE: %s", strerror(errno));
	memory->map = map_shared(memfd, memory->bytes, 0);
	close(memfd);
	close(device);
}

int udmabuf_repeated(size_t mebibytes, uint8_t **map)
{
	const size_t item_bytes = 1 << 20;
	int device = open_udmabuf_device();
	int memfd = sealed_memfd(item_bytes);
	struct udmabuf_create_list *list;
	size_t i;
	int fd;

	write_file("/sys/module/udmabuf/parameters/list_limit", "16384");
	list = calloc(1, sizeof(*list) + mebibytes * sizeof(list->list[0]));
	CHECK(list, "no memory for the list");
	list->flags = UDMABUF_FLAGS_CLOEXEC;
	list->count = (uint32_t)mebibytes;
	for (i = 0; i < mebibytes; i++)
		list->list[i] = (struct udmabuf_create_item){.memfd = (uint32_t)memfd, .size = item_bytes};
	fd = ioctl(device, UDMABUF_CREATE_LIST, list);
	CHECK(fd >= 0, "UDMABUF_CREATE_LIST: %s", strerror(errno));
	*map = map_shared(memfd, item_bytes, 0);
	free(list);
	close(device);
	close(memfd);
	return fd;
}

static void heap_open(struct memory *memory)
{
	struct dma_heap_allocation_data request = {.len = memory->bytes,
						   .fd_flags = O_RDWR | O_CLOEXEC};
	int heap = open("/dev/dma_heap/system", O_RDWR | O_CLOEXEC);

	if (heap < 0)
		test_skip("/dev/dma_heap/system: %s", strerror(errno));
	CHECK(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &request) == 0, "DMA_HEAP_IOCTL_ALLOC: %s",
	      strerror(errno));
	memory->dmabuf_fd = (int)request.fd;
	memory->map = map_shared(memory->dmabuf_fd, memory->bytes, 0);
	close(heap);
}

/* udmabuf maps itself for its misc device to sync, with segments longer than that
 * device claims to take: DMA-API debugging reports that and then reports no more. */
const struct exporter exporter_udmabuf = {
	.name = "udmabuf", .needs_no_sync = true, .open = udmabuf_open};
static const struct exporter exporter_heap = {.name = "dma-heap", .open = heap_open};

const struct exporter *const exporters[] = {
	&exporter_udmabuf,	&exporter_heap,	    &exporter_vgem,	&exporter_virtio_gpu,
	&exporter_vulkan, &exporter_vfio_near, &exporter_vfio_far, &exporter_test,
	NULL,
};

void memory_open(struct memory *memory, const struct exporter *exporter, size_t bytes)
{
	*memory = (struct memory){.exporter = exporter, .bytes = bytes, .fds = {-1, -1, -1}};
	if (exporter->max_bytes && bytes > exporter->max_bytes)
		memory->bytes = exporter->max_bytes;
	exporter->open(memory);
	memory_poison(memory);
}

static void sync_cpu(const struct memory *memory, uint64_t flags)
{
	struct dma_buf_sync sync = {.flags = flags};

	if (memory->exporter->needs_no_sync)
		return;
	CHECK(ioctl(memory->dmabuf_fd, DMA_BUF_IOCTL_SYNC, &sync) == 0, "DMA_BUF_IOCTL_SYNC: %s",
	      strerror(errno));
}

void memory_begin(const struct memory *memory)
{
	sync_cpu(memory, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW);
}

void memory_end(const struct memory *memory)
{
	sync_cpu(memory, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW);
}

void memory_poison(struct memory *memory)
{
	memory_begin(memory);
	memset(memory->map, POISON, memory->bytes);
	memory_end(memory);
}

void memory_close(struct memory *memory)
{
	if (!memory->exporter->owns_map)
		munmap(memory->map, memory->bytes);
	close(memory->dmabuf_fd);
	if (memory->exporter->close)
		memory->exporter->close(memory);
}
