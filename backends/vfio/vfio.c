/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backend of VFIO: a BAR of a PCI device that is bound to vfio-pci, used as
 * memory. For accelerators without a DRM driver of their own, and for the proof of
 * peer-to-peer DMA in tests.
 *
 * A device is opened only by its name, never because it was found: to write into a
 * BAR that is registers and not memory can upset its device.
 */
#include "vfio/vfio.h"

#include "base/error.h"
#include "dmabuf/system.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PCI_DEVICES "/sys/bus/pci/devices"
#define PATH_BYTES  320

static struct vfio_device *vfio_device(struct dmabuf_device *device)
{
	return (struct vfio_device *)device;
}

/* ---- Memory ------------------------------------------------------------------- */

static int no_space(struct vfio_device *device, uint64_t bytes)
{
	return gds_fail(ENOMEM,
			"device %s: no %" PRIu64 " bytes in one piece in its BAR %" PRIu32
			", which has %" PRIu64 " of %" PRIu64 " free",
			device->base.name, bytes, device->region, space_free_bytes(&device->space),
			device->region_bytes);
}

static int vfio_make(struct dmabuf_device *base, uint32_t flags, struct dmabuf_slice *slice)
{
	struct vfio_device *device = vfio_device(base);

	if (flags & GDS_BUFFER_HOST)
		return gds_fail(EOPNOTSUPP,
				"device %s has no host memory: its buffers lie in a BAR",
				base->name);
	if (space_take(&device->space, slice->bytes, &slice->handle))
		return no_space(device, slice->bytes);
	slice->fd = vfio_device_export(device, slice->handle, slice->bytes);
	if (slice->fd < 0 && slice->fd != -ENOTTY && slice->fd != -EOPNOTSUPP) {
		space_give(&device->space, slice->handle);
		return gds_fail_errno(-slice->fd,
				      "device %s: a dma-buf of %" PRIu64 " bytes of BAR %" PRIu32,
				      base->name, slice->bytes, device->region);
	}
	slice->map_fd = device->fd;
	slice->map_offset = device->region_offset + slice->handle;
	return 0;
}

static void vfio_release(struct dmabuf_device *device, struct dmabuf_slice *slice)
{
	space_give(&vfio_device(device)->space, slice->handle);
}

/* ---- Names -------------------------------------------------------------------- */

static int bad_name(const char *selector)
{
	return gds_fail(EINVAL,
			"no device 'vfio:%s': write the PCI address, and the number of the BAR if "
			"it is not the largest: \"vfio:0000:04:00.0\" or \"vfio:0000:04:00.0:2\"",
			selector);
}

/*
 * "0000:04:00.0", or without the domain, as lspci has it. Returns what follows, or
 * NULL where this is no address.
 */
static const char *parse_address(const char *text, struct vfio_name *name)
{
	unsigned long parts[3]; /* domain, bus, slot */
	size_t count = 0;
	char *end;

	do {
		if (count == 3 || !isxdigit((unsigned char)*text))
			return NULL;
		parts[count++] = strtoul(text, &end, 16);
		text = end + 1;
	} while (*end == ':');
	if (count < 2 || *end != '.' || !isxdigit((unsigned char)*text))
		return NULL;
	gds_text_set(name->address, sizeof(name->address), "%04lx:%02lx:%02lx.%c",
		     count == 3 ? parts[0] : 0, parts[count - 2], parts[count - 1], *text);
	return text + 1;
}

static int parse_name(const char *selector, struct vfio_name *name)
{
	const char *rest = parse_address(selector, name);

	if (!rest)
		return bad_name(selector);
	name->region = VFIO_ANY_REGION;
	if (rest[0] == '\0')
		return 0;
	if (rest[0] != ':' || !isdigit((unsigned char)rest[1]) || rest[2] != '\0')
		return bad_name(selector);
	name->region = rest[1] - '0';
	return 0;
}

static void driver_of(const char *address, char *driver, size_t size)
{
	char path[PATH_BYTES];

	gds_text_set(path, sizeof(path), PCI_DEVICES "/%s/driver", address);
	if (system_link_name(path, driver, size))
		driver[0] = '\0';
}

/* vfio-pci, or one of the drivers made from it for single devices. */
static bool is_vfio(const char *driver)
{
	return strstr(driver, "vfio") != NULL;
}

static int not_bound(const char *address, const char *driver)
{
	const char *load =
		access("/sys/bus/pci/drivers/vfio-pci", F_OK) ? "modprobe vfio-pci; " : "";
	char unbind[PATH_BYTES] = "";

	if (driver[0])
		gds_text_set(unbind, sizeof(unbind), "echo %s > " PCI_DEVICES "/%s/driver/unbind; ",
			     address, address);
	return gds_fail(ENODEV,
			"device vfio:%s is bound to %s, not to vfio-pci. To bind it: %secho "
			"vfio-pci > " PCI_DEVICES
			"/%s/driver_override; %secho %s > /sys/bus/pci/drivers_probe",
			address, driver[0] ? driver : "no driver", load, address, unbind, address);
}

static int check_bound(const char *address, const char *selector)
{
	char path[PATH_BYTES], driver[64];

	gds_text_set(path, sizeof(path), PCI_DEVICES "/%s", address);
	if (access(path, F_OK))
		return gds_fail(ENODEV, "no device 'vfio:%s': there is no PCI device %s", selector,
				address);
	driver_of(address, driver, sizeof(driver));
	return is_vfio(driver) ? 0 : not_bound(address, driver);
}

/* ---- The device --------------------------------------------------------------- */

static void vfio_close(struct backend_device *base)
{
	struct vfio_device *device = (struct vfio_device *)base;

	space_destroy(&device->space);
	vfio_device_disconnect(device);
	free(device);
}

static int open_named(const struct vfio_name *name, struct backend_device **opened)
{
	struct vfio_device *device = calloc(1, sizeof(*device));
	int err;

	if (!device)
		return gds_fail_errno(ENOMEM, "cannot open device vfio:%s", name->address);
	device->name = *name;
	dmabuf_device_init(&device->base, &backend_vfio, "vfio");
	if (name->region == VFIO_ANY_REGION)
		gds_text_set(device->base.name, sizeof(device->base.name), "vfio:%s",
			     name->address);
	else
		gds_text_set(device->base.name, sizeof(device->base.name), "vfio:%s:%d",
			     name->address, name->region);
	device->base.make = vfio_make;
	device->base.release = vfio_release;
	device->base.placement = "pci bar";
	device->base.io_memory = true;
	device->base.no_export_reason =
		"this kernel's vfio-pci makes no dma-bufs of BARs: use Linux 6.19 or later with "
		"CONFIG_VFIO_PCI_DMABUF";
	err = vfio_device_connect(device);
	if (!err)
		err = vfio_device_choose_region(device);
	if (err) {
		vfio_device_disconnect(device);
		free(device);
		return err;
	}
	space_init(&device->space, device->region_bytes & ~(device->base.page_bytes - 1));
	*opened = &device->base.base;
	return 0;
}

static int vfio_open(struct backend_device **device, const char *selector)
{
	struct vfio_name name;
	int err = parse_name(selector, &name);

	if (!err)
		err = check_bound(name.address, selector);
	return err ? err : open_named(&name, device);
}

static void vfio_info(struct backend_device *base, struct gds_device_info *info)
{
	struct vfio_device *device = (struct vfio_device *)base;
	char path[PATH_BYTES];
	uint64_t vendor = 0, model = 0;

	gds_text_set(info->name, sizeof(info->name), "%s", device->base.name);
	gds_text_set(path, sizeof(path), PCI_DEVICES "/%s/vendor", device->name.address);
	system_number(path, &vendor);
	gds_text_set(path, sizeof(path), PCI_DEVICES "/%s/device", device->name.address);
	system_number(path, &model);
	gds_text_set(info->description, sizeof(info->description),
		     "BAR %" PRIu32 " of PCI device %04" PRIx64 ":%04" PRIx64, device->region,
		     vendor, model);
	driver_of(device->name.address, info->driver, sizeof(info->driver));
	gds_text_set(info->pci, sizeof(info->pci), "%s", device->name.address);
	info->memory_bytes = device->region_bytes;
	info->unified = 0;
}

/* Adds to `text` the names of what is bound to VFIO; returns how many there are. */
static int name_bound(char *text, size_t size)
{
	DIR *listing = opendir(PCI_DEVICES);
	struct dirent *entry;
	int count = 0;

	if (!listing)
		return 0;
	while ((entry = readdir(listing))) {
		size_t length = strlen(text);
		char driver[64];

		driver_of(entry->d_name, driver, sizeof(driver));
		if (entry->d_name[0] == '.' || !is_vfio(driver))
			continue;
		gds_text_set(text + length, size - length, "%svfio:%s", count ? ", " : "",
			     entry->d_name);
		count++;
	}
	closedir(listing);
	return count;
}

static int vfio_list(int (*visit)(const char *backend, const struct gds_device_info *info,
				  const char *reason, void *user),
		     void *user)
{
	char bound[256] = "", reason[384];

	if (name_bound(bound, sizeof(bound)) == 0)
		return visit("vfio", NULL, "no PCI device is bound to vfio-pci", user);
	gds_text_set(reason, sizeof(reason),
		     "used only when named, since not every BAR is memory: %s", bound);
	return visit("vfio", NULL, reason, user);
}

const struct backend_ops backend_vfio = {
	.name = "vfio",
	.summary = "a BAR of a PCI device bound to vfio-pci",
	.list = vfio_list,
	.open = vfio_open,
	.close = vfio_close,
	.info = vfio_info,
	DMABUF_MEMORY_OPS,
};
