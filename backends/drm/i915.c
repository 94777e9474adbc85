/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intel's GPUs under i915. The driver moves an exported buffer to the host's memory
 * as soon as another device attaches to it, and refuses the attachment where it may
 * not: so buffers may lie in both. Reads then arrive in host pages that the GPU
 * addresses; the xe driver is the one that gives others access to VRAM.
 */
#include "base/error.h"
#include "drm/drm.h"

#include <errno.h>
#include <i915_drm.h>
#include <stdlib.h>
#include <xf86drm.h>

/* Newer than some headers: the buffer must stay where the CPU reaches it. */
#ifndef I915_GEM_CREATE_EXT_FLAG_NEEDS_CPU_ACCESS
#define I915_GEM_CREATE_EXT_FLAG_NEEDS_CPU_ACCESS (1 << 0)
#endif

#define NO_REGION UINT32_MAX

/* Asks for the memory regions; NULL where the kernel does not tell. */
static struct drm_i915_query_memory_regions *query_regions(struct drm_device *device)
{
	struct drm_i915_query_item item = { .query_id = DRM_I915_QUERY_MEMORY_REGIONS };
	struct drm_i915_query query = { .num_items = 1, .items_ptr = (uintptr_t)&item };
	struct drm_i915_query_memory_regions *regions;

	/* The first call tells the size, the second fills it. */
	if (drmIoctl(device->fd, DRM_IOCTL_I915_QUERY, &query) || item.length <= 0)
		return NULL;
	regions = calloc(1, (size_t)item.length);
	if (!regions)
		return NULL;
	item.data_ptr = (uintptr_t)regions;
	if (drmIoctl(device->fd, DRM_IOCTL_I915_QUERY, &query) == 0 && item.length > 0)
		return regions;
	free(regions);
	return NULL;
}

static int i915_open(struct drm_device *device)
{
	struct drm_i915_query_memory_regions *regions = query_regions(device);

	device->vram = NO_REGION;
	device->unified = true;
	for (uint32_t i = 0; regions && i < regions->num_regions; i++) {
		const struct drm_i915_memory_region_info *region = &regions->regions[i];

		if (region->region.memory_class != I915_MEMORY_CLASS_DEVICE)
			continue;
		device->vram = region->region.memory_instance;
		device->memory_bytes = region->probed_size;
		device->unified = false;
		device->base.placement = "vram or host";
		break;
	}
	free(regions);
	return 0;
}

static int create_in_regions(struct drm_device *device, uint64_t bytes, uint64_t *handle)
{
	struct drm_i915_gem_memory_class_instance places[] = {
		{ I915_MEMORY_CLASS_DEVICE, (uint16_t)device->vram },
		{ I915_MEMORY_CLASS_SYSTEM, 0 },
	};
	struct drm_i915_gem_create_ext_memory_regions regions = {
		.base = { .name = I915_GEM_CREATE_EXT_MEMORY_REGIONS },
		.num_regions = sizeof(places) / sizeof(places[0]),
		.regions = (uintptr_t)places,
	};
	struct drm_i915_gem_create_ext create = {
		.size = bytes,
		.flags = I915_GEM_CREATE_EXT_FLAG_NEEDS_CPU_ACCESS,
		.extensions = (uintptr_t)&regions,
	};
	int result = drmIoctl(device->fd, DRM_IOCTL_I915_GEM_CREATE_EXT, &create);

	/* Kernels without the flag have no memory that the CPU cannot reach. */
	if (result && errno == EINVAL) {
		create.flags = 0;
		result = drmIoctl(device->fd, DRM_IOCTL_I915_GEM_CREATE_EXT, &create);
	}
	*handle = create.handle;
	return result;
}

static int create_in_host(struct drm_device *device, uint64_t bytes, uint64_t *handle)
{
	struct drm_i915_gem_create create = { .size = bytes };
	int result = drmIoctl(device->fd, DRM_IOCTL_I915_GEM_CREATE, &create);

	*handle = create.handle;
	return result;
}

static int i915_make(struct drm_device *device, uint32_t flags, struct dmabuf_slice *slice)
{
	bool discrete = device->vram != NO_REGION;
	struct drm_i915_gem_mmap_offset map = {
		/* On discrete GPUs the driver chooses how the CPU caches. */
		.flags = discrete ? I915_MMAP_OFFSET_FIXED : I915_MMAP_OFFSET_WB,
	};
	int failed;

	if (discrete && !(flags & GDS_BUFFER_HOST)) {
		failed = create_in_regions(device, slice->bytes, &slice->handle);
	} else {
		failed = create_in_host(device, slice->bytes, &slice->handle);
		slice->placement = "host";
	}
	if (failed)
		return drm_no_memory(device, slice->bytes);
	map.handle = (uint32_t)slice->handle;
	if (drmIoctl(device->fd, DRM_IOCTL_I915_GEM_MMAP_OFFSET, &map) == 0) {
		slice->map_offset = map.offset;
		return 0;
	}
	drm_close_handle(device, (uint32_t)slice->handle);
	return drm_no_mapping(device);
}

const struct drm_method drm_i915 = {
	.driver = "i915",
	.render = true,
	.open = i915_open,
	.make = i915_make,
};
