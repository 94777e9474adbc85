/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dumb buffers: what any driver with a display offers for pictures drawn by the
 * CPU. They lie where the driver puts them, and can always be mapped.
 */
#include "base/error.h"
#include "drm/drm.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xf86drm.h>

/* A row of pixels is a page, so that no driver finds its length odd. */
#define PIXEL_BYTES 4
#define ROW_PIXELS  1024
#define ROW_BYTES   (ROW_PIXELS * PIXEL_BYTES)

/* Drivers without memory of their own: their buffers are pages of the host. */
static const char *const host_drivers[] = { "vgem", "vkms", "virtio_gpu" };

static int create(struct drm_device *device, uint64_t bytes, struct drm_mode_create_dumb *dumb)
{
	*dumb = (struct drm_mode_create_dumb){ .width = ROW_PIXELS,
					       .height = (uint32_t)(bytes / ROW_BYTES),
					       .bpp = PIXEL_BYTES * 8 };
	return drmIoctl(device->fd, DRM_IOCTL_MODE_CREATE_DUMB, dumb) ? -errno : 0;
}

static int dumb_make(struct drm_device *device, uint32_t flags, struct dmabuf_slice *slice)
{
	struct drm_mode_create_dumb dumb;
	struct drm_mode_map_dumb map = { 0 };

	if ((flags & GDS_BUFFER_HOST) && !device->unified)
		return gds_fail(EOPNOTSUPP,
				"device %s: where dumb buffers lie is up to driver %s: use udmabuf "
				"or dma-heap for memory of the host",
				device->base.name, device->driver);
	if (create(device, slice->bytes, &dumb))
		return drm_no_memory(device, slice->bytes);
	slice->handle = dumb.handle;
	map.handle = dumb.handle;
	if (dumb.size >= slice->bytes && drmIoctl(device->fd, DRM_IOCTL_MODE_MAP_DUMB, &map) == 0) {
		slice->map_offset = map.offset;
		return 0;
	}
	drm_close_handle(device, dumb.handle);
	return drm_no_mapping(device);
}

/* The capability is hidden for drivers without a display, such as vgem: so try one. */
static int dumb_open(struct drm_device *device)
{
	struct drm_mode_create_dumb dumb;

	if (create(device, ROW_BYTES, &dumb))
		return gds_fail_errno(errno, "device %s: driver %s has no dumb buffers",
				      device->base.name, device->driver);
	drm_close_handle(device, dumb.handle);
	for (size_t i = 0; i < sizeof(host_drivers) / sizeof(host_drivers[0]); i++)
		if (strcmp(device->driver, host_drivers[i]) == 0)
			device->unified = true;
	device->base.placement = device->unified ? "host" : "dumb buffer";
	return 0;
}

const struct drm_method drm_dumb = {
	.open = dumb_open,
	.make = dumb_make,
};
