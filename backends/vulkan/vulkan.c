/* SPDX-License-Identifier: Apache-2.0 */
/* The Vulkan backend: any GPU with a driver of Vulkan 1.1 and timeline semaphores. */
#include "vulkan.h"

const struct backend_ops backend_vulkan = {
	.name = "vulkan",
	.summary = "any GPU with a Vulkan driver",
	.list = vulkan_list,
	.open = vulkan_open,
	.close = vulkan_close,
	.info = vulkan_info,
	.alloc = vulkan_alloc,
	.free = vulkan_free,
	.export_slice = vulkan_export_slice,
	.import_dmabuf = vulkan_import_dmabuf,
	.staging_attach = vulkan_staging_attach,
	.staging_detach = vulkan_staging_detach,
	.copy = vulkan_copy,
	.copied = vulkan_copied,
	.publish = vulkan_publish,
	.acquire = vulkan_acquire,
	.copy_out = vulkan_copy_out,
	.copy_in = vulkan_copy_in,
	.checksum = vulkan_checksum,
};
