/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Getting at a device that is bound to vfio-pci: through its own node and
 * /dev/iommu where the kernel has them, else through its group and a container.
 * The device itself is never allowed to do DMA: no address space is attached.
 */
#include "base/error.h"
#include "dmabuf/system.h"
#include "vfio/uapi.h"
#include "vfio/vfio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PATH_BYTES 320

static int in_use(const struct vfio_device *device)
{
	return gds_fail(
		EBUSY,
		"device %s is in use: VFIO lets one program open it, once; close the other, "
		"or share one gds_device",
		device->base.name);
}

static int no_right(const struct vfio_device *device, const char *path)
{
	return gds_fail(EACCES,
			"device %s: no right to open %s: change its owner or its mode, or run as "
			"root",
			device->base.name, path);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vfio_device_disconnect(struct vfio_device *device)
{
	close_fd(&device->fd);
	close_fd(&device->parent_fd);
	close_fd(&device->container_fd);
}

/* ---- The device's own node ---------------------------------------------------- */

/* Where the device's own node is, if the kernel makes such nodes. */
static bool node_path(const struct vfio_device *device, char *path, size_t size)
{
	char folder[PATH_BYTES];
	struct dirent *entry;
	bool found = false;
	DIR *listing;

	gds_text_set(folder, sizeof(folder), "/sys/bus/pci/devices/%s/vfio-dev",
		     device->name.address);
	listing = opendir(folder);
	if (!listing)
		return false;
	while (!found && (entry = readdir(listing))) {
		if (entry->d_name[0] == '.')
			continue;
		gds_text_set(path, size, "/dev/vfio/devices/%s", entry->d_name);
		found = access(path, F_OK) == 0;
	}
	closedir(listing);
	return found;
}

static int bind_node(struct vfio_device *device)
{
	struct uapi_vfio_bind_iommufd bind = { .argsz = sizeof(bind),
					       .iommufd = device->parent_fd };

	if (ioctl(device->fd, UAPI_VFIO_BIND_IOMMUFD, &bind) == 0)
		return 0;
	/* A second opening is refused with EINVAL, one beside the group with EBUSY. */
	if (errno == EBUSY || errno == EINVAL)
		return in_use(device);
	/* The group is another driver's, too, or its interrupts are not remapped: it tells. */
	if (errno == EPERM)
		return -ENOENT;
	return gds_fail_errno(errno, "device %s: binding it to /dev/iommu", device->base.name);
}

/* Returns -ENOENT, without a message, where the kernel has no such way, or refuses it here. */
static int connect_node(struct vfio_device *device)
{
	char path[PATH_BYTES];

	if (!node_path(device, path, sizeof(path)))
		return -ENOENT;
	device->parent_fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (device->parent_fd < 0)
		return -ENOENT;
	device->fd = open(path, O_RDWR | O_CLOEXEC);
	if (device->fd < 0)
		return errno == EACCES ? -ENOENT
				       : gds_fail_errno(errno, "device %s: cannot open %s",
							device->base.name, path);
	return bind_node(device);
}

/* ---- Group and container ------------------------------------------------------ */

static int open_group(struct vfio_device *device)
{
	char path[PATH_BYTES], group[64];
	int err;

	gds_text_set(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group",
		     device->name.address);
	err = system_link_name(path, group, sizeof(group));
	if (err)
		return gds_fail(ENODEV,
				"device %s has no IOMMU group: switch the IOMMU on, or load vfio "
				"with enable_unsafe_noiommu_mode=1 and bind the device again",
				device->base.name);
	gds_text_set(path, sizeof(path), "/dev/vfio/%s", group);
	if (access(path, F_OK))
		gds_text_set(path, sizeof(path), "/dev/vfio/noiommu-%s", group);
	device->parent_fd = open(path, O_RDWR | O_CLOEXEC);
	if (device->parent_fd >= 0)
		return 0;
	if (errno == EBUSY)
		return in_use(device);
	if (errno == EACCES || errno == EPERM)
		return no_right(device, path);
	return gds_fail_errno(errno, "device %s: cannot open %s", device->base.name, path);
}

static int open_container(struct vfio_device *device)
{
	device->container_fd = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (device->container_fd >= 0)
		return 0;
	if (errno == EACCES || errno == EPERM)
		return no_right(device, "/dev/vfio/vfio");
	return gds_fail_errno(errno, "device %s: cannot open /dev/vfio/vfio: load the module vfio",
			      device->base.name);
}

/* A device can be had from its group only when that has an IOMMU, or none officially. */
static int set_container(struct vfio_device *device)
{
	static const int kinds[] = { VFIO_TYPE1v2_IOMMU, VFIO_TYPE1_IOMMU, VFIO_NOIOMMU_IOMMU };
	struct vfio_group_status status = { .argsz = sizeof(status) };

	if (ioctl(device->parent_fd, VFIO_GROUP_GET_STATUS, &status))
		return gds_fail_errno(errno, "device %s: asking for its group's status",
				      device->base.name);
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return gds_fail(
			EBUSY,
			"device %s shares its IOMMU group with a device that another driver "
			"uses: bind all of /sys/bus/pci/devices/%s/iommu_group/devices to "
			"vfio-pci",
			device->base.name, device->name.address);
	if (ioctl(device->parent_fd, VFIO_GROUP_SET_CONTAINER, &device->container_fd))
		return gds_fail_errno(errno, "device %s: joining its group to a container",
				      device->base.name);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (ioctl(device->container_fd, VFIO_SET_IOMMU, kinds[i]) == 0)
			return 0;
	if (errno == EPERM)
		return gds_fail(EPERM,
				"device %s: VFIO refuses it for want of interrupt remapping: load "
				"vfio_iommu_type1 with allow_unsafe_interrupts=1",
				device->base.name);
	return gds_fail_errno(errno, "device %s: no kind of IOMMU that VFIO takes it with",
			      device->base.name);
}

static int connect_group(struct vfio_device *device)
{
	int err = open_group(device);

	if (!err)
		err = open_container(device);
	if (!err)
		err = set_container(device);
	if (err)
		return err;
	device->fd = ioctl(device->parent_fd, VFIO_GROUP_GET_DEVICE_FD, device->name.address);
	if (device->fd < 0)
		return gds_fail_errno(errno, "device %s: opening it from its group",
				      device->base.name);
	return 0;
}

/* ---- The device --------------------------------------------------------------- */

static int region_info(const struct vfio_device *device, uint32_t index,
		       struct vfio_region_info *info)
{
	*info = (struct vfio_region_info){ .argsz = sizeof(*info), .index = index };
	if (ioctl(device->fd, VFIO_DEVICE_GET_REGION_INFO, info))
		return gds_fail_errno(errno, "device %s: asking for region %" PRIu32,
				      device->base.name, index);
	return 0;
}

/* A BAR answers only while the device's memory bit is set. */
static int enable_memory(struct vfio_device *device)
{
	struct vfio_region_info config;
	uint16_t command;
	off_t offset;
	int err = region_info(device, VFIO_PCI_CONFIG_REGION_INDEX, &config);

	if (err)
		return err;
	offset = (off_t)config.offset + PCI_COMMAND;
	if (pread(device->fd, &command, sizeof(command), offset) != sizeof(command))
		return gds_fail(EIO, "device %s: its PCI command cannot be read",
				device->base.name);
	command |= PCI_COMMAND_MEMORY;
	if (pwrite(device->fd, &command, sizeof(command), offset) != sizeof(command))
		return gds_fail(EIO, "device %s: its memory cannot be switched on",
				device->base.name);
	return 0;
}

int vfio_device_connect(struct vfio_device *device)
{
	int err;

	device->fd = -1;
	device->parent_fd = -1;
	device->container_fd = -1;
	err = connect_node(device);
	if (err == -ENOENT) {
		vfio_device_disconnect(device);
		err = connect_group(device);
	}
	if (!err)
		err = enable_memory(device);
	if (err)
		vfio_device_disconnect(device);
	return err;
}

static bool can_be_memory(const struct vfio_region_info *info, uint64_t page_bytes)
{
	const uint32_t wanted = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
				VFIO_REGION_INFO_FLAG_MMAP;

	return (info->flags & wanted) == wanted && info->size >= page_bytes;
}

static int no_region(const struct vfio_device *device)
{
	if (device->name.region == VFIO_ANY_REGION)
		return gds_fail(ENODEV, "device %s has no BAR that can be mapped",
				device->base.name);
	return gds_fail(ENODEV,
			"device %s has no BAR %d that can be mapped: leave the number out "
			"to have its largest",
			device->base.name, device->name.region);
}

int vfio_device_choose_region(struct vfio_device *device)
{
	struct vfio_region_info info;

	device->region_bytes = 0;
	for (uint32_t i = VFIO_PCI_BAR0_REGION_INDEX; i <= VFIO_PCI_BAR5_REGION_INDEX; i++) {
		bool named =
			device->name.region == VFIO_ANY_REGION || device->name.region == (int)i;

		if (!named || region_info(device, i, &info))
			continue;
		if (!can_be_memory(&info, device->base.page_bytes) ||
		    info.size <= device->region_bytes)
			continue;
		device->region = i;
		device->region_offset = info.offset;
		device->region_bytes = info.size;
	}
	return device->region_bytes ? 0 : no_region(device);
}

int vfio_device_export(const struct vfio_device *device, uint64_t offset, uint64_t bytes)
{
	union {
		struct vfio_device_feature header;
		unsigned char bytes[sizeof(struct vfio_device_feature) +
				    sizeof(struct uapi_vfio_dma_buf)];
	} request = { .header = { .argsz = sizeof(request.bytes),
				  .flags = VFIO_DEVICE_FEATURE_GET | UAPI_VFIO_FEATURE_DMA_BUF } };
	struct uapi_vfio_dma_buf wanted = { .region_index = device->region,
					    .open_flags = O_RDWR | O_CLOEXEC,
					    .range_count = 1,
					    .ranges = { { offset, bytes } } };
	int fd;

	memcpy(request.bytes + sizeof(struct vfio_device_feature), &wanted, sizeof(wanted));
	fd = ioctl(device->fd, VFIO_DEVICE_FEATURE, &request);
	return fd < 0 ? -errno : fd;
}
