/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/buffer.h"

#include "base/bits.h"
#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

static int wrap_memory(struct gds_buffer **buffer, struct gds_device *device,
		       struct backend_memory *memory)
{
	*buffer = calloc(1, sizeof(**buffer));
	if (!*buffer) {
		device->backend->ops->free(memory);
		return gds_fail_errno(ENOMEM, "cannot make a buffer");
	}
	(*buffer)->device = device;
	(*buffer)->memory = memory;
	atomic_fetch_add(&device->buffers, 1);
	return 0;
}

int gds_buffer_alloc(struct gds_buffer **buffer, struct gds_device *device, uint64_t bytes,
		     uint32_t flags)
{
	struct backend_memory *memory;
	int err;

	if (!buffer || !device)
		return gds_fail(EINVAL, "gds_buffer_alloc: buffer and device must not be NULL");
	if (bytes == 0)
		return gds_fail(EINVAL, "gds_buffer_alloc: a buffer needs at least 1 byte");
	if (flags & ~(uint32_t)GDS_BUFFER_HOST)
		return gds_fail(EINVAL, "gds_buffer_alloc: unknown flags 0x%x", flags);
	err = device_check(device, "gds_buffer_alloc");
	if (err)
		return err;
	err = device->backend->ops->alloc(device->backend, bytes, flags, &memory);
	if (err)
		return err;
	return wrap_memory(buffer, device, memory);
}

int gds_buffer_import_host(struct gds_buffer **buffer, struct gds_device *device, void *address,
			   uint64_t bytes)
{
	struct backend_memory *memory;
	int err;

	if (!buffer || !device || !address || bytes == 0)
		return gds_fail(EINVAL, "gds_buffer_import_host: pass a buffer, a device, an "
					"address and at least 1 byte");
	if (device->backend->ops != &backend_host)
		return gds_fail(ENOTSUP,
				"gds_buffer_import_host: a %s device does not take host memory; "
				"open device \"host\"",
				device->backend->ops->name);
	err = device_check(device, "gds_buffer_import_host");
	if (err)
		return err;
	err = backend_host_import(device->backend, address, bytes, &memory);
	if (err)
		return err;
	return wrap_memory(buffer, device, memory);
}

int gds_buffer_import_vulkan(struct gds_buffer **buffer, struct gds_device *device,
			     const struct gds_vulkan_buffer *vulkan)
{
	struct backend_memory *memory;
	int err;

	if (!buffer || !device || !vulkan || vulkan->size < sizeof(*vulkan))
		return gds_fail(EINVAL, "gds_buffer_import_vulkan: pass a buffer, a device, and a "
					"structure whose size is set");
	err = device_check(device, "gds_buffer_import_vulkan");
	if (err)
		return err;
	err = backend_vulkan_import_buffer(device->backend, vulkan, &memory);
	if (err)
		return err;
	return wrap_memory(buffer, device, memory);
}

int gds_buffer_import_cuda(struct gds_buffer **buffer, struct gds_device *device,
			   uint64_t device_pointer, uint64_t bytes)
{
	struct backend_memory *memory;
	int err;

	if (!buffer || !device || !device_pointer || bytes == 0)
		return gds_fail(EINVAL, "gds_buffer_import_cuda: pass a buffer, a device, a device "
					"pointer and at least 1 byte");
	err = device_check(device, "gds_buffer_import_cuda");
	if (err)
		return err;
	err = backend_cuda_import(device->backend, device_pointer, bytes, &memory);
	if (err)
		return err;
	return wrap_memory(buffer, device, memory);
}

int gds_buffer_import_dmabuf(struct gds_buffer **buffer, struct gds_device *device, int fd,
			     uint64_t offset, uint64_t bytes)
{
	struct backend_memory *memory;
	int err;

	if (!buffer || !device || fd < 0 || bytes == 0)
		return gds_fail(EINVAL, "gds_buffer_import_dmabuf: pass a buffer, a device, a file "
					"descriptor and at least 1 byte");
	if (!device->backend->ops->import_dmabuf)
		return gds_fail(ENOTSUP,
				"gds_buffer_import_dmabuf: a %s device does not take dma-bufs; "
				"Vulkan devices do",
				device->backend->ops->name);
	err = device_check(device, "gds_buffer_import_dmabuf");
	if (err)
		return err;
	err = device->backend->ops->import_dmabuf(device->backend, fd, offset, bytes, &memory);
	if (err)
		return err;
	return wrap_memory(buffer, device, memory);
}

void gds_buffer_free(struct gds_buffer *buffer)
{
	if (!buffer || device_check(buffer->device, "gds_buffer_free"))
		return;
	object_detach_all(&buffer->object);
	buffer->device->backend->ops->free(buffer->memory);
	atomic_fetch_sub(&buffer->device->buffers, 1);
	free(buffer);
}

uint64_t gds_buffer_bytes(const struct gds_buffer *buffer)
{
	return buffer ? buffer->memory->bytes : 0;
}

void *gds_buffer_host(const struct gds_buffer *buffer)
{
	return buffer ? buffer->memory->host : NULL;
}

int gds_buffer_get_vulkan(struct gds_buffer *buffer, uint64_t offset, uint64_t *vk_buffer,
			  uint64_t *vk_offset, uint64_t *vk_bytes)
{
	if (!buffer || !vk_buffer || !vk_offset || !vk_bytes)
		return gds_fail(EINVAL, "gds_buffer_get_vulkan: no argument may be NULL");
	if (offset >= buffer->memory->bytes)
		return gds_fail(EINVAL,
				"gds_buffer_get_vulkan: offset %" PRIu64
				" is beyond the buffer's %" PRIu64 " bytes",
				offset, buffer->memory->bytes);
	return backend_vulkan_locate(buffer->memory, offset, vk_buffer, vk_offset, vk_bytes);
}

int gds_buffer_get_cuda(struct gds_buffer *buffer, uint64_t *device_pointer)
{
	if (!buffer || !device_pointer)
		return gds_fail(EINVAL, "gds_buffer_get_cuda: no argument may be NULL");
	return backend_cuda_locate(buffer->memory, device_pointer);
}

static int check_range(const char *call, const struct gds_buffer *buffer, const void *data,
		       uint64_t offset, uint64_t bytes)
{
	if (!buffer || !data)
		return gds_fail(EINVAL, "%s: no argument may be NULL", call);
	if (!range_fits(offset, bytes, buffer->memory->bytes))
		return gds_fail(EINVAL,
				"%s: %" PRIu64 " bytes at %" PRIu64
				" lie outside the buffer's %" PRIu64 " bytes",
				call, bytes, offset, buffer->memory->bytes);
	return device_check(buffer->device, call);
}

int gds_buffer_copy_out(struct gds_buffer *buffer, uint64_t offset, void *data, size_t bytes)
{
	int err = check_range("gds_buffer_copy_out", buffer, data, offset, bytes);

	if (err || bytes == 0)
		return err;
	return buffer->memory->device->ops->copy_out(buffer->memory, offset, data, bytes);
}

int gds_buffer_copy_in(struct gds_buffer *buffer, uint64_t offset, const void *data, size_t bytes)
{
	int err = check_range("gds_buffer_copy_in", buffer, data, offset, bytes);

	if (err || bytes == 0)
		return err;
	return buffer->memory->device->ops->copy_in(buffer->memory, offset, data, bytes);
}

int gds_buffer_checksum(struct gds_buffer *buffer, uint64_t offset, uint64_t bytes, uint32_t *crc32)
{
	int err = check_range("gds_buffer_checksum", buffer, crc32, offset, bytes);

	if (err)
		return err;
	return buffer->memory->device->ops->checksum(buffer->memory, offset, bytes, crc32);
}
