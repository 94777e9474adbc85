/* SPDX-License-Identifier: Apache-2.0 */
/* VRAM of AMD's GPUs, from the part of it that the CPU can see. */
#include "base/error.h"
#include "drm/drm.h"

#include <amdgpu.h>
#include <amdgpu_drm.h>
#include <errno.h>
#include <xf86drm.h>

static int amdgpu_open(struct drm_device *device)
{
	struct amdgpu_heap_info vram = { 0 };
	amdgpu_device_handle handle;
	uint32_t major, minor;
	int err = amdgpu_device_initialize(device->fd, &major, &minor, &handle);

	if (err)
		return gds_fail_errno(-err, "device %s: libdrm_amdgpu cannot take it",
				      device->base.name);
	device->driver_handle = handle;
	if (amdgpu_query_heap_info(handle, AMDGPU_GEM_DOMAIN_VRAM,
				   AMDGPU_GEM_CREATE_CPU_ACCESS_REQUIRED, &vram) == 0)
		device->memory_bytes = vram.heap_size;
	device->base.placement = "visible vram";
	return 0;
}

static void amdgpu_close(struct drm_device *device)
{
	amdgpu_device_deinitialize(device->driver_handle);
}

/*
 * The library hands out one device to all who use this GPU in the process, on a
 * descriptor of its own: handles belong to that.
 */
static int map_offset(struct drm_device *device, amdgpu_bo_handle bo, struct dmabuf_slice *slice)
{
	int fd = amdgpu_device_get_fd(device->driver_handle);
	union drm_amdgpu_gem_mmap map = { 0 };
	uint32_t handle;

	if (amdgpu_bo_export(bo, amdgpu_bo_handle_type_kms, &handle))
		return drm_no_mapping(device);
	map.in.handle = handle;
	if (drmCommandWriteRead(fd, DRM_AMDGPU_GEM_MMAP, &map, sizeof(map)))
		return drm_no_mapping(device);
	slice->map_fd = fd;
	slice->map_offset = map.out.addr_ptr;
	return 0;
}

static int export_bo(struct drm_device *device, amdgpu_bo_handle bo, struct dmabuf_slice *slice)
{
	uint32_t fd;
	int err = amdgpu_bo_export(bo, amdgpu_bo_handle_type_dma_buf_fd, &fd);

	if (err)
		return gds_fail_errno(-err, "device %s: amdgpu exports no dma-buf of this memory",
				      device->base.name);
	slice->fd = (int)fd;
	return 0;
}

static int amdgpu_make(struct drm_device *device, uint32_t flags, struct dmabuf_slice *slice)
{
	bool host = flags & GDS_BUFFER_HOST;
	struct amdgpu_bo_alloc_request request = {
		.alloc_size = slice->bytes,
		.phys_alignment = device->base.page_bytes,
		.preferred_heap = host ? AMDGPU_GEM_DOMAIN_GTT : AMDGPU_GEM_DOMAIN_VRAM,
		.flags = AMDGPU_GEM_CREATE_CPU_ACCESS_REQUIRED,
	};
	amdgpu_bo_handle bo;
	int err = amdgpu_bo_alloc(device->driver_handle, &request, &bo);

	if (err) {
		errno = -err;
		return drm_no_memory(device, slice->bytes);
	}
	err = map_offset(device, bo, slice);
	if (!err)
		err = export_bo(device, bo, slice);
	if (err) {
		amdgpu_bo_free(bo);
		return err;
	}
	slice->handle = (uintptr_t)bo;
	if (host)
		slice->placement = "host";
	return 0;
}

static void amdgpu_release(struct drm_device *device, struct dmabuf_slice *slice)
{
	amdgpu_bo_free((amdgpu_bo_handle)(uintptr_t)slice->handle);
}

const struct drm_method drm_amdgpu = {
	.driver = "amdgpu",
	.render = true,
	.open = amdgpu_open,
	.close = amdgpu_close,
	.make = amdgpu_make,
	.release = amdgpu_release,
};
