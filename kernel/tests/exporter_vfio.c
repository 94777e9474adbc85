// SPDX-License-Identifier: GPL-2.0-only
/* The BAR of an ivshmem device, exported by vfio-pci: memory of a PCI device that
 * takes true peer-to-peer DMA. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "disk.h"
#include "exporters.h"
#include "test.h"
#include "uapi.h"

enum { FD_CONTAINER, FD_GROUP, FD_DEVICE };
enum { BAR = VFIO_PCI_BAR2_REGION_INDEX, BAR_BYTES = 64 << 20 };

/* kernel/vm's numbers of the slots that a BAR may be plugged into. */
static const unsigned near_slots[] = {21, 14, 0};
static const unsigned far_slots[] = {12, 0};

static bool slot_address(const unsigned *slots, char *address, size_t bytes)
{
	for (; *slots; slots++) {
		char path[64], text[32];

		snprintf(path, sizeof(path), "/sys/bus/pci/slots/%u/address", *slots);
		if (read_file(path, text, sizeof(text)))
			continue;
		snprintf(address, bytes, "%s.0", text);
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", address);
		if (access(path, F_OK) == 0)
			return true;
	}
	return false;
}

static void bind_to_vfio(const char *address)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override", address);
	CHECK_EQ(write_file(path, "vfio-pci"), 0, "writing %s", path);
	write_file("/sys/bus/pci/drivers_probe", address);
}

static int open_group(const char *address)
{
	char path[128], link[256];
	ssize_t length;
	const char *number;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", address);
	length = readlink(path, link, sizeof(link) - 1);
	CHECK(length > 0, "%s: %s", path, strerror(errno));
	link[length] = '\0';
	number = strrchr(link, '/') + 1;
	snprintf(path, sizeof(path), "/dev/vfio/noiommu-%s", number);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	snprintf(path, sizeof(path), "/dev/vfio/%s", number);
	fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

static void set_container(int container, int group)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};

	CHECK(ioctl(group, VFIO_GROUP_GET_STATUS, &status) == 0, "VFIO_GROUP_GET_STATUS: %s",
	      strerror(errno));
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		test_skip("the BAR shares its IOMMU group with a device in use");
	CHECK(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) == 0,
	      "VFIO_GROUP_SET_CONTAINER: %s", strerror(errno));
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU) != 0)
		CHECK(ioctl(container, VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU) == 0,
		      "VFIO_SET_IOMMU: %s", strerror(errno));
}

static struct vfio_region_info region(int device, unsigned index)
{
	struct vfio_region_info info = {.argsz = sizeof(info), .index = index};

	CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) == 0,
	      "VFIO_DEVICE_GET_REGION_INFO: %s", strerror(errno));
	return info;
}

/* A BAR whose memory is not decoded cannot be mapped. */
static void set_memory(int device, bool enabled)
{
	struct vfio_region_info config = region(device, VFIO_PCI_CONFIG_REGION_INDEX);
	off_t offset = (off_t)config.offset + PCI_COMMAND;
	uint16_t command;

	CHECK_EQ(pread(device, &command, 2, offset), 2, "reading the PCI command");
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (!enabled)
		command &= (uint16_t)~PCI_COMMAND_MEMORY;
	CHECK_EQ(pwrite(device, &command, 2, offset), 2, "writing the PCI command");
}

static int export_bar(int device, size_t bytes)
{
	const size_t request_bytes = sizeof(struct vfio_device_feature) +
				     sizeof(struct vfio_dma_buf_request) +
				     sizeof(struct vfio_dma_range);
	struct vfio_device_feature *feature = calloc(1, request_bytes);
	struct vfio_dma_buf_request *request;
	int fd;

	CHECK(feature, "no memory");
	feature->argsz = (uint32_t)request_bytes;
	feature->flags = VFIO_DEVICE_FEATURE_GET | VFIO_FEATURE_DMA_BUF;
	request = (struct vfio_dma_buf_request *)feature->data;
	request->region_index = BAR;
	request->open_flags = O_RDWR | O_CLOEXEC;
	request->nr_ranges = 1;
	request->ranges[0].length = bytes;
	fd = ioctl(device, VFIO_DEVICE_FEATURE, feature);
	CHECK(fd >= 0, "VFIO_DEVICE_FEATURE_DMA_BUF: %s", strerror(errno));
	free(feature);
	return fd;
}

static void bar_open(struct memory *memory, const unsigned *slots)
{
	char address[32];
	int device;

	if (!slot_address(slots, address, sizeof(address)))
		test_skip("no ivshmem device in slot %u", slots[0]);
	bind_to_vfio(address);
	memory->fds[FD_CONTAINER] = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	CHECK(memory->fds[FD_CONTAINER] >= 0, "/dev/vfio/vfio: %s", strerror(errno));
	memory->fds[FD_GROUP] = open_group(address);
	set_container(memory->fds[FD_CONTAINER], memory->fds[FD_GROUP]);
	device = ioctl(memory->fds[FD_GROUP], VFIO_GROUP_GET_DEVICE_FD, address);
	CHECK(device >= 0, "VFIO_GROUP_GET_DEVICE_FD: %s", strerror(errno));
	memory->fds[FD_DEVICE] = device;
	set_memory(device, true);
	memory->dmabuf_fd = export_bar(device, memory->bytes);
	memory->map = map_shared(device, memory->bytes, region(device, BAR).offset);
}

static void near_open(struct memory *memory)
{
	bar_open(memory, near_slots);
}

static void far_open(struct memory *memory)
{
	bar_open(memory, far_slots);
}

void vfio_close_device(struct memory *memory)
{
	int i;

	for (i = FD_DEVICE; i >= FD_CONTAINER; i--) {
		if (memory->fds[i] >= 0)
			close(memory->fds[i]);
		memory->fds[i] = -1;
	}
}

void vfio_reset_device(struct memory *memory)
{
	struct vfio_device_info info = {.argsz = sizeof(info)};
	int device = memory->fds[FD_DEVICE];

	CHECK(ioctl(device, VFIO_DEVICE_GET_INFO, &info) == 0, "VFIO_DEVICE_GET_INFO: %s",
	      strerror(errno));
	if (!(info.flags & VFIO_DEVICE_FLAGS_RESET))
		test_skip("this device has no reset");
	CHECK(ioctl(device, VFIO_DEVICE_RESET) == 0, "VFIO_DEVICE_RESET: %s", strerror(errno));
}

void vfio_set_memory(struct memory *memory, bool enabled)
{
	set_memory(memory->fds[FD_DEVICE], enabled);
}

const struct exporter exporter_vfio_near = {.name = "vfio-bar-near",
					    .max_bytes = BAR_BYTES,
					    .open = near_open,
					    .close = vfio_close_device};
const struct exporter exporter_vfio_far = {.name = "vfio-bar-far",
					   .max_bytes = BAR_BYTES,
					   .open = far_open,
					   .close = vfio_close_device};
