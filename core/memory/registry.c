/* SPDX-License-Identifier: Apache-2.0 */
/* The only list of backends. */
#include "memory/backend.h"

static const struct backend_ops *const backends[] = {
#ifdef GDS_HAVE_VULKAN
	&backend_vulkan,
#endif
#ifdef GDS_HAVE_CUDA
	&backend_cuda,
#endif
#ifdef GDS_HAVE_DRM
	&backend_drm,
#endif
#ifdef GDS_HAVE_UDMABUF
	&backend_udmabuf,
#endif
#ifdef GDS_HAVE_DMA_HEAP
	&backend_dmaheap,
#endif
#ifdef GDS_HAVE_VFIO
	&backend_vfio,
#endif
	&backend_host,
};

const struct backend_ops *const *backend_registry(size_t *count)
{
	*count = sizeof(backends) / sizeof(backends[0]);
	return backends;
}

#ifndef GDS_HAVE_VULKAN
#include "base/error.h"

#include <errno.h>

static int no_vulkan(void)
{
	return gds_fail(ENOTSUP,
			"this build of gds has no Vulkan backend: build with GDS_VULKAN=ON");
}

int backend_vulkan_import_device(const struct gds_vulkan_device *vulkan,
				 struct backend_device **device)
{
	(void)vulkan;
	(void)device;
	return no_vulkan();
}

int backend_vulkan_import_buffer(struct backend_device *device,
				 const struct gds_vulkan_buffer *vulkan,
				 struct backend_memory **memory)
{
	(void)device;
	(void)vulkan;
	(void)memory;
	return no_vulkan();
}

int backend_vulkan_locate(struct backend_memory *memory, uint64_t offset, uint64_t *vk_buffer,
			  uint64_t *vk_offset, uint64_t *vk_bytes)
{
	(void)memory;
	(void)offset;
	(void)vk_buffer;
	(void)vk_offset;
	(void)vk_bytes;
	return no_vulkan();
}

int backend_vulkan_signal(struct backend_device *device, uint64_t semaphore, uint64_t value)
{
	(void)device;
	(void)semaphore;
	(void)value;
	return no_vulkan();
}
#endif

#ifndef GDS_HAVE_CUDA
#include "base/error.h"

#include <errno.h>

static int no_cuda(void)
{
	return gds_fail(ENOTSUP, "this build of gds has no CUDA backend: build with GDS_CUDA=ON");
}

int backend_cuda_import(struct backend_device *device, uint64_t address, uint64_t bytes,
			struct backend_memory **memory)
{
	(void)device;
	(void)address;
	(void)bytes;
	(void)memory;
	return no_cuda();
}

int backend_cuda_locate(struct backend_memory *memory, uint64_t *address)
{
	(void)memory;
	(void)address;
	return no_cuda();
}

int backend_cuda_stream_wait(struct backend_device *device, void *stream, struct cuda_wait **wait)
{
	(void)device;
	(void)stream;
	(void)wait;
	return no_cuda();
}

/* There is no wait to be released. */
void backend_cuda_release(struct cuda_wait *wait)
{
	(void)wait;
}
#endif
