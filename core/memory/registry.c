/* SPDX-License-Identifier: Apache-2.0 */
/* The only list of backends: those of the library, and then those from outside. */
#include "base/error.h"
#include "memory/backend.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define MOST_BACKENDS 64

static const struct backend_ops *const built_in[] = {
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

#define BUILT_IN (sizeof(built_in) / sizeof(built_in[0]))

/*
 * Whoever walks the list takes the count first: entries before it stay as they are, so
 * that nobody needs a lock but those who add.
 */
static const struct backend_ops *backends[MOST_BACKENDS];
static atomic_size_t backend_count = BUILT_IN;
static pthread_mutex_t adding = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t filled = PTHREAD_ONCE_INIT;

static void fill(void)
{
	memcpy((void *)backends, (const void *)built_in, sizeof(built_in));
}

const struct backend_ops *const *backend_registry(size_t *count)
{
	pthread_once(&filled, fill);
	*count = atomic_load_explicit(&backend_count, memory_order_acquire);
	return backends;
}

static int add(const struct backend_ops *ops)
{
	size_t count;

	backend_registry(&count);
	for (size_t i = 0; i < count; i++)
		if (strcmp(backends[i]->name, ops->name) == 0)
			return gds_fail(EEXIST,
					"cannot register backend %s: there is one of that name, "
					"choose another",
					ops->name);
	if (count == MOST_BACKENDS)
		return gds_fail(ENOSPC, "cannot register backend %s: there are %d already",
				ops->name, MOST_BACKENDS);
	backends[count] = ops;
	atomic_store_explicit(&backend_count, count + 1, memory_order_release);
	return 0;
}

int backend_registry_add(const struct backend_ops *ops)
{
	int err;

	pthread_mutex_lock(&adding);
	err = add(ops);
	pthread_mutex_unlock(&adding);
	return err;
}

#ifndef GDS_HAVE_VULKAN
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
