/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backend of udmabuf: pages of a memfd, exported as dma-bufs by the kernel.
 * Host memory, for tests, for machines whose GPU works in it, and for reading
 * through the direct path without a mapping for each read.
 *
 * "udmabuf:huge" takes its pages from the pool of huge pages, so that devices
 * see few, long segments.
 *
 * Each slice has a memfd of its own, so the module's limit on lists of ranges
 * (list_limit) never counts; its limit on the size of one (size_limit_mb) makes
 * slices smaller.
 */
#include "base/bits.h"
#include "base/error.h"
#include "dmabuf/memory.h"
#include "dmabuf/system.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/udmabuf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#define NODE       "/dev/udmabuf"
#define PARAMETERS "/sys/module/udmabuf/parameters/"
#define HUGE_POOL  "/proc/sys/vm/nr_hugepages"

#define MIB_SHIFT 20

struct udmabuf_device {
	struct dmabuf_device base;
	int fd;
	bool huge;
};

static struct udmabuf_device *udmabuf_device(struct dmabuf_device *device)
{
	return (struct udmabuf_device *)device;
}

static int open_node(void)
{
	int fd = open(NODE, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == ENOENT)
		return gds_fail(ENODEV, "no " NODE ": load the module udmabuf, or use a kernel "
					"with CONFIG_UDMABUF");
	if (errno == EACCES || errno == EPERM)
		return gds_fail(EACCES, "no right to open " NODE ": join the group that owns it "
					"(often kvm), or run as root");
	return gds_fail_errno(errno, "cannot open " NODE);
}

static uint64_t huge_page_bytes(void)
{
	return system_meminfo("Hugepagesize") * 1024;
}

/* Those that may be made beyond the pool when they are asked for. */
static uint64_t spare_huge_pages(void)
{
	uint64_t pages = 0;

	system_number("/proc/sys/vm/nr_overcommit_hugepages", &pages);
	return pages;
}

static uint64_t huge_pages(void)
{
	return system_meminfo("HugePages_Total") + spare_huge_pages();
}

/* ---- Making slices ------------------------------------------------------------ */

/* The module's limit can be changed at any time. UINT64_MAX where there is none. */
static uint64_t size_limit(void)
{
	uint64_t limit_mib;

	if (system_number(PARAMETERS "size_limit_mb", &limit_mib) || limit_mib > SLICE_BYTES)
		return UINT64_MAX;
	return limit_mib << MIB_SHIFT;
}

/* Larger buffers are made of more slices. */
static uint64_t udmabuf_limit(struct dmabuf_device *device)
{
	uint64_t limit = size_limit();
	uint64_t slice_bytes = SLICE_BYTES;

	while (slice_bytes > limit && slice_bytes > device->page_bytes)
		slice_bytes /= 2;
	return slice_bytes;
}

/* The kernel says no more than EINVAL to a dma-buf over its limit. */
static int check_limit(const struct dmabuf_device *device)
{
	if (device->page_bytes <= size_limit())
		return 0;
	return gds_fail(ENOMEM,
			"device %s: udmabuf is limited to %" PRIu64
			" MiB, and a page of this buffer has more: echo %" PRIu64 " > " PARAMETERS
			"size_limit_mb",
			device->name, size_limit() >> MIB_SHIFT, SLICE_BYTES >> MIB_SHIFT);
}

static int no_huge_pages(const struct dmabuf_device *device, uint64_t bytes)
{
	uint64_t page = device->page_bytes;

	return gds_fail(ENOMEM,
			"device %s: %" PRIu64 " huge pages of %" PRIu64
			" KiB are needed, and %" PRIu64
			" are free: write a larger number to " HUGE_POOL,
			device->name, bytes / page, page / 1024, system_meminfo("HugePages_Free"));
}

static int udmabuf_admit(struct dmabuf_device *base, uint64_t bytes)
{
	int err = check_limit(base);

	if (err)
		return err;
	if (!udmabuf_device(base)->huge)
		return system_check_room(base->name, bytes);
	if (bytes / base->page_bytes > system_meminfo("HugePages_Free") + spare_huge_pages())
		return no_huge_pages(base, bytes);
	return 0;
}

/*
 * Huge pages are taken from their pool now: a pool that runs dry later would end
 * the process with SIGBUS. To clear many takes long, and a signal interrupts it.
 */
static int take_huge_pages(const struct udmabuf_device *device, int memfd, uint64_t bytes)
{
	int failed;

	do
		failed = fallocate(memfd, 0, 0, (off_t)bytes);
	while (failed && errno == EINTR);
	if (!failed)
		return 0;
	if (errno == ENOSPC || errno == ENOMEM)
		return no_huge_pages(&device->base, bytes);
	return gds_fail_errno(errno, "device %s: cannot take %" PRIu64 " bytes of huge pages",
			      device->base.name, bytes);
}

static int fill_memfd(struct udmabuf_device *device, int memfd, uint64_t bytes)
{
	if (ftruncate(memfd, (off_t)bytes) || fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		return gds_fail_errno(errno, "device %s: cannot size a memfd to %" PRIu64 " bytes",
				      device->base.name, bytes);
	return device->huge ? take_huge_pages(device, memfd, bytes) : 0;
}

static int make_memfd(struct udmabuf_device *device, uint64_t bytes)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (device->huge ? MFD_HUGETLB : 0);
	int memfd = memfd_create("gds-udmabuf", flags);
	int err;

	if (memfd < 0)
		return gds_fail_errno(errno, "device %s: cannot make a memfd", device->base.name);
	err = fill_memfd(device, memfd, bytes);
	if (!err)
		return memfd;
	close(memfd);
	return err;
}

static int udmabuf_make(struct dmabuf_device *base, uint32_t flags, struct dmabuf_slice *slice)
{
	struct udmabuf_device *device = udmabuf_device(base);
	struct udmabuf_create create = { .flags = UDMABUF_FLAGS_CLOEXEC, .size = slice->bytes };
	int memfd = make_memfd(device, slice->bytes);
	int err;

	if (memfd < 0)
		return memfd;
	create.memfd = (uint32_t)memfd;
	slice->fd = ioctl(device->fd, UDMABUF_CREATE, &create);
	if (slice->fd < 0) {
		err = gds_fail_errno(errno, "device %s: making a dma-buf of %" PRIu64 " bytes",
				     base->name, slice->bytes);
		close(memfd);
		return err;
	}
	/* Through the memfd the CPU sees ordinary pages, which the kernel can pin. */
	slice->map_fd = memfd;
	return 0;
}

static void udmabuf_release(struct dmabuf_device *device, struct dmabuf_slice *slice)
{
	close(slice->map_fd);
}

/* ---- The device --------------------------------------------------------------- */

static void fill_info(struct gds_device_info *info, bool huge)
{
	struct utsname system;

	gds_text_set(info->name, sizeof(info->name), huge ? "udmabuf:huge" : "udmabuf");
	gds_text_set(info->description, sizeof(info->description),
		     huge ? "huge pages of the host as dma-bufs" : "pages of the host as dma-bufs");
	if (uname(&system) == 0)
		gds_text_set(info->driver, sizeof(info->driver), "udmabuf of %s %s", system.sysname,
			     system.release);
	info->memory_bytes = huge ? system_meminfo("HugePages_Total") * huge_page_bytes()
				  : system_memory_bytes();
	info->unified = 1;
}

static void udmabuf_info(struct backend_device *device, struct gds_device_info *info)
{
	fill_info(info, ((struct udmabuf_device *)device)->huge);
}

static int udmabuf_list(int (*visit)(const char *backend, const struct gds_device_info *info,
				     const char *reason, void *user),
			void *user)
{
	struct gds_device_info info = { .size = sizeof(info) };
	int fd = open_node();
	int result;

	if (fd < 0)
		return visit("udmabuf", NULL, gds_last_error(), user);
	close(fd);
	fill_info(&info, false);
	result = visit("udmabuf", &info, NULL, user);
	if (result || huge_pages() == 0)
		return result;
	fill_info(&info, true);
	return visit("udmabuf", &info, NULL, user);
}

static int choose_pages(struct udmabuf_device *device)
{
	if (!device->huge)
		return 0;
	if (huge_page_bytes() == 0)
		return gds_fail(ENODEV, "no device 'udmabuf:huge': this kernel has no huge pages "
					"(CONFIG_HUGETLBFS)");
	if (huge_pages() == 0)
		return gds_fail(ENODEV, "no device 'udmabuf:huge': the pool of huge pages is "
					"empty: write how many there shall be to " HUGE_POOL);
	device->base.page_bytes = huge_page_bytes();
	device->base.placement = "huge pages";
	return 0;
}

static void udmabuf_close(struct backend_device *base)
{
	struct udmabuf_device *device = (struct udmabuf_device *)base;

	if (device->fd >= 0)
		close(device->fd);
	free(device);
}

static int udmabuf_open(struct backend_device **opened, const char *selector)
{
	bool huge = strcmp(selector, "huge") == 0;
	struct udmabuf_device *device;
	int err;

	if (selector[0] && strcmp(selector, "0") != 0 && !huge)
		return gds_fail(
			ENODEV,
			"no device 'udmabuf:%s': there are \"udmabuf\" and \"udmabuf:huge\"",
			selector);
	device = calloc(1, sizeof(*device));
	if (!device)
		return gds_fail_errno(ENOMEM, "cannot open device udmabuf");
	dmabuf_device_init(&device->base, &backend_udmabuf, huge ? "udmabuf:huge" : "udmabuf");
	device->base.limit = udmabuf_limit;
	device->base.admit = udmabuf_admit;
	device->base.make = udmabuf_make;
	device->base.release = udmabuf_release;
	device->huge = huge;
	device->fd = open_node();
	err = device->fd < 0 ? device->fd : choose_pages(device);
	if (err) {
		udmabuf_close(&device->base.base);
		return err;
	}
	*opened = &device->base.base;
	return 0;
}

const struct backend_ops backend_udmabuf = {
	.name = "udmabuf",
	.summary = "host memory as dma-bufs",
	.list = udmabuf_list,
	.open = udmabuf_open,
	.close = udmabuf_close,
	.info = udmabuf_info,
	DMABUF_MEMORY_OPS,
};
