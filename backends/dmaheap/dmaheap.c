/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backend of dma-heaps: memory that the kernel allocates as dma-bufs, from the
 * heaps in /dev/dma_heap. "system" is ordinary host memory; others are regions that
 * the machine sets aside, contiguous or for one device.
 */
#include "base/error.h"
#include "dmabuf/memory.h"
#include "dmabuf/system.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/dma-heap.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#define HEAPS       "/dev/dma_heap"
#define SYSTEM_HEAP "system"

struct heap_device {
	struct dmabuf_device base;
	int fd;
	char heap[48];
};

static struct heap_device *heap_device(struct dmabuf_device *device)
{
	return (struct heap_device *)device;
}

static bool is_system_heap(const char *heap)
{
	return strcmp(heap, SYSTEM_HEAP) == 0;
}

/* The other heaps have their own memory, and say no in time. */
static int heap_admit(struct dmabuf_device *base, uint64_t bytes)
{
	return is_system_heap(heap_device(base)->heap) ? system_check_room(base->name, bytes) : 0;
}

static int heap_make(struct dmabuf_device *base, uint32_t flags, struct dmabuf_slice *slice)
{
	struct heap_device *device = heap_device(base);
	struct dma_heap_allocation_data request = { .len = slice->bytes,
						    .fd_flags = O_RDWR | O_CLOEXEC };

	if (ioctl(device->fd, DMA_HEAP_IOCTL_ALLOC, &request))
		return gds_fail_errno(
			errno, "device %s: the heap has no dma-buf of %" PRIu64 " bytes to give",
			base->name, slice->bytes);
	slice->fd = (int)request.fd;
	slice->map_fd = slice->fd;
	return 0;
}

/* ---- Which heaps there are ---------------------------------------------------- */

static int is_heap(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* The system heap first, since it is what "dma-heap" alone means. */
static int system_first(const struct dirent **a, const struct dirent **b)
{
	int is_system =
		(strcmp((*b)->d_name, SYSTEM_HEAP) == 0) - (strcmp((*a)->d_name, SYSTEM_HEAP) == 0);

	return is_system ? is_system : strcmp((*a)->d_name, (*b)->d_name);
}

/* Returns how many there are, or an error if there is none. */
static int find_heaps(struct dirent ***heaps)
{
	int count = scandir(HEAPS, heaps, is_heap, system_first);

	if (count > 0)
		return count;
	if (count == 0)
		free(*heaps);
	if (count == 0 || errno == ENOENT)
		return gds_fail(ENODEV, "no dma-heap in " HEAPS ": a kernel with "
					"CONFIG_DMABUF_HEAPS_SYSTEM has one");
	return gds_fail_errno(errno, "cannot look into " HEAPS);
}

static void free_heaps(struct dirent **heaps, int count)
{
	for (int i = 0; i < count; i++)
		free(heaps[i]);
	free(heaps);
}

/* By name, by number, or by a part of the name; -1 if none is meant. */
static int choose_heap(struct dirent **heaps, int count, const char *selector)
{
	char *rest;
	unsigned long number = strtoul(selector, &rest, 10);

	if (selector[0] == '\0')
		return 0;
	for (int i = 0; i < count; i++)
		if (strcmp(heaps[i]->d_name, selector) == 0)
			return i;
	if (*rest == '\0')
		return number < (unsigned long)count ? (int)number : -1;
	for (int i = 0; i < count; i++)
		if (strcasestr(heaps[i]->d_name, selector))
			return i;
	return -1;
}

static int no_heap(struct dirent **heaps, int count, const char *selector)
{
	char known[256] = "";

	for (int i = 0; i < count; i++) {
		size_t length = strlen(known);

		gds_text_set(known + length, sizeof(known) - length, "%s%s", i ? ", " : "",
			     heaps[i]->d_name);
	}
	return gds_fail(ENODEV, "no device 'dma-heap:%s': the heaps are %s", selector, known);
}

static int find_heap(const char *selector, char *name, size_t size)
{
	struct dirent **heaps;
	int count = find_heaps(&heaps);
	int chosen;
	int err = 0;

	if (count < 0)
		return count;
	chosen = choose_heap(heaps, count, selector);
	if (chosen < 0)
		err = no_heap(heaps, count, selector);
	else
		gds_text_set(name, size, "%s", heaps[chosen]->d_name);
	free_heaps(heaps, count);
	return err;
}

/* ---- The device --------------------------------------------------------------- */

static void fill_info(const char *heap, struct gds_device_info *info)
{
	bool is_system = is_system_heap(heap);
	struct utsname system;

	gds_text_set(info->name, sizeof(info->name), "dma-heap:%.40s", heap);
	gds_text_set(info->description, sizeof(info->description), "the kernel's heap %s of %s",
		     heap, is_system ? "host memory" : "memory set aside");
	if (uname(&system) == 0)
		gds_text_set(info->driver, sizeof(info->driver), "dma-heap of %s %s",
			     system.sysname, system.release);
	info->memory_bytes = is_system ? system_memory_bytes() : 0;
	info->unified = 1;
}

static void heap_info(struct backend_device *device, struct gds_device_info *info)
{
	fill_info(((struct heap_device *)device)->heap, info);
}

static int open_heap(const char *heap)
{
	char path[sizeof(HEAPS) + 64];
	int fd;

	gds_text_set(path, sizeof(path), HEAPS "/%s", heap);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	if (errno == EACCES || errno == EPERM)
		return gds_fail(EACCES,
				"no right to open %s: give yourself access to it, by a rule of "
				"udev or its group, or run as root",
				path);
	return gds_fail_errno(errno, "cannot open %s", path);
}

static int heap_list(int (*visit)(const char *backend, const struct gds_device_info *info,
				  const char *reason, void *user),
		     void *user)
{
	struct dirent **heaps;
	int count = find_heaps(&heaps);
	int shown = 0;
	int result = 0;

	for (int i = 0; i < count && !result; i++) {
		struct gds_device_info info = { .size = sizeof(info) };
		int fd = open_heap(heaps[i]->d_name);

		if (fd < 0)
			continue;
		close(fd);
		shown++;
		fill_info(heaps[i]->d_name, &info);
		result = visit("dma-heap", &info, NULL, user);
	}
	if (count >= 0)
		free_heaps(heaps, count);
	/* The last failure is still the thread's message. */
	return result || shown ? result : visit("dma-heap", NULL, gds_last_error(), user);
}

static void heap_close(struct backend_device *base)
{
	struct heap_device *device = (struct heap_device *)base;

	if (device->fd >= 0)
		close(device->fd);
	free(device);
}

static int heap_open(struct backend_device **opened, const char *selector)
{
	struct heap_device *device = calloc(1, sizeof(*device));
	int err;

	if (!device)
		return gds_fail_errno(ENOMEM, "cannot open device dma-heap");
	device->fd = -1;
	err = find_heap(selector, device->heap, sizeof(device->heap));
	if (!err) {
		device->fd = open_heap(device->heap);
		err = device->fd < 0 ? device->fd : 0;
	}
	if (err) {
		heap_close(&device->base.base);
		return err;
	}
	dmabuf_device_init(&device->base, &backend_dmaheap, "dma-heap");
	gds_text_set(device->base.name, sizeof(device->base.name), "dma-heap:%s", device->heap);
	device->base.placement = is_system_heap(device->heap) ? "host" : "heap";
	device->base.admit = heap_admit;
	device->base.make = heap_make;
	*opened = &device->base.base;
	return 0;
}

const struct backend_ops backend_dmaheap = {
	.name = "dma-heap",
	.summary = "memory of the kernel's heaps as dma-bufs",
	.list = heap_list,
	.open = heap_open,
	.close = heap_close,
	.info = heap_info,
	DMABUF_MEMORY_OPS,
};
