/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intel's GPUs under xe: VRAM where there is some, and only there, so that no
 * attachment moves it to the host unseen; else memory of the host.
 */
#include "base/bits.h"
#include "base/error.h"
#include "drm/drm.h"

#include <errno.h>
#include <stdlib.h>
#include <xe_drm.h>
#include <xf86drm.h>

#define NO_REGION UINT32_MAX

/* Asks for the memory regions; NULL with errno set where that fails. */
static struct drm_xe_query_mem_regions *query_regions(struct drm_device *device)
{
	struct drm_xe_device_query query = { .query = DRM_XE_DEVICE_QUERY_MEM_REGIONS };
	struct drm_xe_query_mem_regions *regions;

	/* The first call tells the size, the second fills it. */
	if (drmIoctl(device->fd, DRM_IOCTL_XE_DEVICE_QUERY, &query))
		return NULL;
	regions = calloc(1, query.size);
	if (!regions)
		return NULL;
	query.data = (uintptr_t)regions;
	if (drmIoctl(device->fd, DRM_IOCTL_XE_DEVICE_QUERY, &query) == 0)
		return regions;
	free(regions);
	return NULL;
}

static void take_region(struct drm_device *device, const struct drm_xe_mem_region *region)
{
	if (region->mem_class == DRM_XE_MEM_REGION_CLASS_SYSMEM) {
		device->host = region->instance;
		return;
	}
	if (device->vram != NO_REGION || region->cpu_visible_size == 0)
		return;
	device->vram = region->instance;
	device->memory_bytes = region->cpu_visible_size;
	device->unified = false;
	device->base.placement = "visible vram";
	device->base.page_bytes = max_u64(device->base.page_bytes, region->min_page_size);
}

static int xe_open(struct drm_device *device)
{
	struct drm_xe_query_mem_regions *answer = query_regions(device);

	if (!answer)
		return gds_fail_errno(errno, "device %s: asking xe for its memory",
				      device->base.name);
	device->vram = NO_REGION;
	device->unified = true;
	for (uint32_t i = 0; i < answer->num_mem_regions; i++)
		take_region(device, &answer->mem_regions[i]);
	free(answer);
	return 0;
}

static int xe_make(struct drm_device *device, uint32_t flags, struct dmabuf_slice *slice)
{
	bool vram = device->vram != NO_REGION && !(flags & GDS_BUFFER_HOST);
	struct drm_xe_gem_create create = {
		.size = slice->bytes,
		.placement = 1u << (vram ? device->vram : device->host),
		.flags = vram ? DRM_XE_GEM_CREATE_FLAG_NEEDS_VISIBLE_VRAM : 0,
		.cpu_caching = vram ? DRM_XE_GEM_CPU_CACHING_WC : DRM_XE_GEM_CPU_CACHING_WB,
	};
	struct drm_xe_gem_mmap_offset map = { 0 };

	if (drmIoctl(device->fd, DRM_IOCTL_XE_GEM_CREATE, &create))
		return drm_no_memory(device, slice->bytes);
	slice->handle = create.handle;
	if (!vram)
		slice->placement = "host";
	map.handle = create.handle;
	if (drmIoctl(device->fd, DRM_IOCTL_XE_GEM_MMAP_OFFSET, &map) == 0) {
		slice->map_offset = map.offset;
		return 0;
	}
	drm_close_handle(device, create.handle);
	return drm_no_mapping(device);
}

const struct drm_method drm_xe = {
	.driver = "xe",
	.render = true,
	.open = xe_open,
	.make = xe_make,
};
