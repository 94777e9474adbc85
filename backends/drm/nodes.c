/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which DRM devices there are, and how one is opened. They are looked up in sysfs:
 * libdrm leaves out devices on buses that are newer than it.
 */
#include "base/error.h"
#include "drm/drm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xf86drm.h>

#define CLASS "/sys/class/drm"
#define NODES "/dev/dri"

/* The first that fits the driver's name is taken. */
static const struct drm_method *const methods[] = {
#ifdef GDS_HAVE_AMDGPU
	&drm_amdgpu,
#endif
#ifdef GDS_HAVE_I915
	&drm_i915,
#endif
#ifdef GDS_HAVE_XE
	&drm_xe,
#endif
	&drm_dumb,
};

/* ---- Finding ------------------------------------------------------------------ */

/* card0 and renderD128, but not the connectors of cards: card0-HDMI-A-1. */
static int is_node(const struct dirent *entry)
{
	const char *name = entry->d_name;
	size_t prefix = strncmp(name, "card", 4) == 0      ? 4
			: strncmp(name, "renderD", 7) == 0 ? 7
							   : 0;

	return prefix && name[prefix] &&
	       strspn(name + prefix, "0123456789") == strlen(name + prefix);
}

static struct drm_nodes *nodes_of(struct drm_nodes *nodes, int *count, const char *parent)
{
	for (int i = 0; i < *count; i++)
		if (strcmp(nodes[i].parent, parent) == 0)
			return &nodes[i];
	gds_text_set(nodes[*count].parent, sizeof(nodes[*count].parent), "%s", parent);
	return &nodes[(*count)++];
}

static void add_node(struct drm_nodes *nodes, int *count, const char *name)
{
	char link[sizeof(CLASS) + NAME_MAX + sizeof("//device")];
	char parent[PATH_MAX];
	struct drm_nodes *owner;

	gds_text_set(link, sizeof(link), CLASS "/%s/device", name);
	/* A device without a parent stands for itself. */
	if (!realpath(link, parent))
		gds_text_set(parent, sizeof(parent), "%s", name);
	owner = nodes_of(nodes, count, parent);
	if (name[0] == 'c')
		gds_text_set(owner->card, sizeof(owner->card), "%s", name);
	else
		gds_text_set(owner->render, sizeof(owner->render), "%s", name);
}

static int no_nodes(void)
{
	return gds_fail(ENODEV, "no DRM device: there is nothing in " CLASS "; a GPU's driver, or "
				"the module vgem, makes one");
}

int drm_nodes_find(struct drm_nodes **nodes)
{
	struct dirent **entries;
	int entry_count = scandir(CLASS, &entries, is_node, versionsort);
	int count = 0;

	if (entry_count < 0)
		return no_nodes();
	*nodes = calloc((size_t)entry_count + 1, sizeof(**nodes));
	for (int i = 0; i < entry_count; i++) {
		if (*nodes)
			add_node(*nodes, &count, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	if (!*nodes)
		return gds_fail_errno(ENOMEM, "cannot list the DRM devices");
	if (count > 0)
		return count;
	free(*nodes);
	return no_nodes();
}

/* ---- Opening ------------------------------------------------------------------ */

static int open_node(const char *node)
{
	char path[sizeof(NODES) + DRM_NODE_BYTES];
	int fd;

	gds_text_set(path, sizeof(path), NODES "/%s", node);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 && (errno == EACCES || errno == EPERM))
		return gds_fail(EACCES,
				"no right to open %s: join the groups video and render, or run as "
				"root",
				path);
	if (fd < 0)
		return gds_fail_errno(errno, "cannot open %s", path);
	/*
	 * Whoever opens a card first becomes its master without asking, and would keep
	 * a display server from starting. A render node has none: the call then fails.
	 */
	drmDropMaster(fd);
	return fd;
}

static int ask_driver(struct drm_device *device)
{
	drmVersion *version = drmGetVersion(device->fd);

	if (!version)
		return gds_fail_errno(errno, "device %s: asking for its driver", device->base.name);
	gds_text_set(device->driver, sizeof(device->driver), "%.*s", version->name_len,
		     version->name);
	gds_text_set(device->description, sizeof(device->description), "%.*s", version->desc_len,
		     version->desc);
	gds_text_set(device->version, sizeof(device->version), "%d.%d.%d", version->version_major,
		     version->version_minor, version->version_patchlevel);
	drmFreeVersion(version);
	return 0;
}

static const struct drm_method *find_method(const char *driver)
{
	const size_t last = sizeof(methods) / sizeof(methods[0]) - 1;

	for (size_t i = 0; i < last; i++)
		if (strcmp(methods[i]->driver, driver) == 0)
			return methods[i];
	return methods[last]; /* takes any driver */
}

/* Opens what is there, asks for the driver, then opens what that needs. */
static int open_for_driver(struct drm_device *device, const struct drm_nodes *nodes)
{
	bool render = nodes->render[0] != '\0';
	int err;

	device->fd = open_node(render ? nodes->render : nodes->card);
	if (device->fd < 0)
		return device->fd;
	err = ask_driver(device);
	if (err)
		return err;
	device->method = find_method(device->driver);
	if (!render || device->method->render)
		return 0;
	if (!nodes->card[0])
		return gds_fail(ENODEV, "device %s: driver %s has no node for dumb buffers",
				device->base.name, device->driver);
	close(device->fd);
	device->fd = open_node(nodes->card);
	return device->fd < 0 ? device->fd : 0;
}

static int check_prime(struct drm_device *device)
{
	uint64_t capability = 0;

	if (drmGetCap(device->fd, DRM_CAP_PRIME, &capability) == 0 &&
	    (capability & DRM_PRIME_CAP_EXPORT))
		return 0;
	return gds_fail(ENODEV, "device %s: driver %s exports no dma-bufs", device->base.name,
			device->driver);
}

/* ---- Memory ------------------------------------------------------------------- */

int drm_no_memory(const struct drm_device *device, uint64_t bytes)
{
	return gds_fail_errno(errno ? errno : ENOMEM, "device %s: driver %s has no %llu bytes",
			      device->base.name, device->driver, (unsigned long long)bytes);
}

int drm_no_mapping(const struct drm_device *device)
{
	return gds_fail(EOPNOTSUPP,
			"device %s: driver %s has no mapping of this memory for the CPU: switch on "
			"resizable BAR in the firmware, or ask for memory of the host",
			device->base.name, device->driver);
}

void drm_close_handle(struct drm_device *device, uint32_t handle)
{
	struct drm_gem_close request = { .handle = handle };

	drmIoctl(device->fd, DRM_IOCTL_GEM_CLOSE, &request);
}

static void drm_release(struct dmabuf_device *base, struct dmabuf_slice *slice)
{
	struct drm_device *device = (struct drm_device *)base;

	if (device->method->release)
		device->method->release(device, slice);
	else
		drm_close_handle(device, (uint32_t)slice->handle);
}

static int drm_make(struct dmabuf_device *base, uint32_t flags, struct dmabuf_slice *slice)
{
	struct drm_device *device = (struct drm_device *)base;
	int err;

	slice->map_fd = device->fd;
	err = device->method->make(device, flags, slice);
	if (err || slice->fd >= 0)
		return err;
	if (drmPrimeHandleToFD(device->fd, (uint32_t)slice->handle, DRM_CLOEXEC | DRM_RDWR,
			       &slice->fd) == 0)
		return 0;
	err = gds_fail_errno(errno, "device %s: driver %s exports no dma-buf of this memory",
			     device->base.name, device->driver);
	slice->fd = -1;
	drm_release(base, slice);
	return err;
}

void drm_device_close(struct drm_device *device)
{
	if (device->driver_handle)
		device->method->close(device);
	if (device->fd >= 0)
		close(device->fd);
	free(device);
}

int drm_nodes_open(const struct drm_nodes *nodes, struct drm_device **opened)
{
	struct drm_device *device = calloc(1, sizeof(*device));
	int err;

	if (!device)
		return gds_fail_errno(ENOMEM, "cannot open a DRM device");
	dmabuf_device_init(&device->base, &backend_drm, "drm");
	gds_text_set(device->base.name, sizeof(device->base.name), "drm:%s",
		     nodes->render[0] ? nodes->render : nodes->card);
	device->base.make = drm_make;
	device->base.release = drm_release;
	err = open_for_driver(device, nodes);
	if (!err)
		err = check_prime(device);
	if (!err && device->method->open)
		err = device->method->open(device);
	if (err) {
		drm_device_close(device);
		return err;
	}
	*opened = device;
	return 0;
}
