/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backend of DRM: memory of a GPU's kernel driver, exported with PRIME. VRAM
 * where the driver is one that this backend knows how to ask for it (amdgpu, xe,
 * i915), else dumb buffers, which every driver with a display has, and vgem.
 *
 * A device is named by either of its nodes ("drm:renderD128", "drm:card0"), by its
 * number in the list, or by a part of its driver's name. Copies are by the CPU.
 */
#include "drm/drm.h"

#include "base/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Whether a device can be told from its nodes alone to be the one that is meant. */
static bool is_named(const struct drm_nodes *nodes, int index, const char *selector)
{
	char *rest;
	unsigned long number = strtoul(selector, &rest, 10);

	if (selector[0] == '\0')
		return false;
	if (*rest == '\0')
		return number == (unsigned long)index;
	return strcmp(selector, nodes->card) == 0 || strcmp(selector, nodes->render) == 0;
}

static bool is_described(const struct drm_device *device, const char *selector)
{
	return strcasestr(device->driver, selector) || strcasestr(device->description, selector);
}

static int no_such_device(const char *selector, int count, const char *refused)
{
	return gds_fail(ENODEV,
			"no device 'drm:%s' among the %d in /dev/dri: name a node (card0, "
			"renderD128), a number or a part of the driver's name%s%s",
			selector, count, refused[0] ? "; of these " : "", refused);
}

/*
 * By the driver's name, or any at all: the first that can be opened. Drivers are
 * known only then, so why others could not be is told if none fits.
 */
static int open_described(const struct drm_nodes *nodes, int count, const char *selector,
			  struct drm_device **device)
{
	char refused[256] = "";
	int refusals = 0;
	int err = 0;

	for (int i = 0; i < count; i++) {
		err = drm_nodes_open(&nodes[i], device);
		if (err) {
			refusals++;
			gds_text_set(refused, sizeof(refused), "%s", gds_last_error());
			continue;
		}
		if (is_described(*device, selector))
			return 0;
		drm_device_close(*device);
	}
	return refusals == count ? err : no_such_device(selector, count, refused);
}

static int drm_open(struct backend_device **opened, const char *selector)
{
	struct drm_device *device = NULL;
	struct drm_nodes *nodes;
	int count = drm_nodes_find(&nodes);
	int named = 0;
	int err;

	if (count < 0)
		return count;
	while (named < count && !is_named(&nodes[named], named, selector))
		named++;
	if (named < count)
		err = drm_nodes_open(&nodes[named], &device);
	else
		err = open_described(nodes, count, selector, &device);
	free(nodes);
	if (err)
		return err;
	*opened = &device->base.base;
	return 0;
}

static void drm_close(struct backend_device *device)
{
	drm_device_close((struct drm_device *)device);
}

/* The address of the PCI device that the node is of, if it is of one. */
static void find_pci(int fd, char *address, size_t size)
{
	char path[96];
	char target[256];
	struct stat status;
	ssize_t length;

	if (fstat(fd, &status) != 0)
		return;
	gds_text_set(path, sizeof(path), "/sys/dev/char/%u:%u/device/subsystem",
		     major(status.st_rdev), minor(status.st_rdev));
	length = readlink(path, target, sizeof(target) - 1);
	target[length > 0 ? length : 0] = '\0';
	if (!strrchr(target, '/') || strcmp(strrchr(target, '/'), "/pci") != 0)
		return;
	gds_text_set(path, sizeof(path), "/sys/dev/char/%u:%u/device", major(status.st_rdev),
		     minor(status.st_rdev));
	length = readlink(path, target, sizeof(target) - 1);
	target[length > 0 ? length : 0] = '\0';
	if (strrchr(target, '/'))
		gds_text_set(address, size, "%s", strrchr(target, '/') + 1);
}

static void drm_info(struct backend_device *base, struct gds_device_info *info)
{
	struct drm_device *device = (struct drm_device *)base;

	gds_text_set(info->name, sizeof(info->name), "%s", device->base.name);
	gds_text_set(info->description, sizeof(info->description), "%s, %s", device->driver,
		     device->description);
	gds_text_set(info->driver, sizeof(info->driver), "%s %s", device->driver, device->version);
	info->memory_bytes = device->memory_bytes;
	info->unified = device->unified;
	find_pci(device->fd, info->pci, sizeof(info->pci));
}

static int drm_list(int (*visit)(const char *backend, const struct gds_device_info *info,
				 const char *reason, void *user),
		    void *user)
{
	struct drm_nodes *nodes;
	int count = drm_nodes_find(&nodes);
	int shown = 0;
	int result = 0;

	for (int i = 0; i < count && !result; i++) {
		struct gds_device_info info = { .size = sizeof(info) };
		struct drm_device *device;

		if (drm_nodes_open(&nodes[i], &device))
			continue;
		drm_info(&device->base.base, &info);
		drm_device_close(device);
		result = visit("drm", &info, NULL, user);
		shown++;
	}
	if (count >= 0)
		free(nodes);
	/* The last failure is still the thread's message. */
	return result || shown ? result : visit("drm", NULL, gds_last_error(), user);
}

const struct backend_ops backend_drm = {
	.name = "drm",
	.summary = "memory of a GPU's kernel driver",
	.list = drm_list,
	.open = drm_open,
	.close = drm_close,
	.info = drm_info,
	DMABUF_MEMORY_OPS,
};
