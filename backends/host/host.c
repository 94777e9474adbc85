/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backend for memory of this process: a "device" whose memory is the host's.
 * It has no driver and no limits of its own, so it serves callers without a GPU,
 * and the tests as what every other backend is compared with.
 */
#include "base/error.h"
#include "memory/backend.h"
#include "memory/pages.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <zlib.h>

struct host_memory {
	struct backend_memory base;
	bool owned;
};

static uint64_t physical_bytes(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void host_info(struct backend_device *device, struct gds_device_info *info)
{
	struct utsname system;

	gds_text_set(info->name, sizeof(info->name), "host");
	gds_text_set(info->description, sizeof(info->description), "memory of this process");
	if (uname(&system) == 0)
		gds_text_set(info->driver, sizeof(info->driver), "%s %s", system.sysname,
			     system.release);
	info->memory_bytes = physical_bytes();
	info->unified = 1;
}

static int host_list(int (*visit)(const char *backend, const struct gds_device_info *info,
				  const char *reason, void *user),
		     void *user)
{
	struct gds_device_info info = { .size = sizeof(info) };

	host_info(NULL, &info);
	return visit("host", &info, NULL, user);
}

static int host_open(struct backend_device **device, const char *selector)
{
	/* "host:0" for those who number every device. */
	if (selector[0] && strcmp(selector, "0") != 0)
		return gds_fail(ENODEV, "no device 'host:%s': there is one, \"host\"", selector);
	*device = calloc(1, sizeof(**device));
	if (!*device)
		return gds_fail_errno(ENOMEM, "cannot open device host");
	(*device)->ops = &backend_host;
	return 0;
}

static void host_close(struct backend_device *device)
{
	free(device);
}

static int wrap(struct backend_device *device, void *address, uint64_t bytes, bool owned,
		struct backend_memory **memory)
{
	struct host_memory *host = calloc(1, sizeof(*host));

	if (!host)
		return gds_fail_errno(ENOMEM, "cannot make a buffer of device host");
	host->base.device = device;
	host->base.placement = "host";
	host->base.bytes = bytes;
	host->base.host = address;
	host->owned = owned;
	*memory = &host->base;
	return 0;
}

static int host_alloc(struct backend_device *device, uint64_t bytes, uint32_t flags,
		      struct backend_memory **memory)
{
	void *pages = pages_map(bytes);
	int err;

	if (!pages)
		return gds_fail_errno(errno,
				      "cannot map %" PRIu64 " bytes for a buffer of device host, "
				      "with %" PRIu64 " in the machine",
				      bytes, physical_bytes());
	err = wrap(device, pages, bytes, true, memory);
	if (err)
		pages_unmap(pages, bytes);
	return err;
}

int backend_host_import(struct backend_device *device, void *address, uint64_t bytes,
			struct backend_memory **memory)
{
	if (bytes > UINTPTR_MAX - (uintptr_t)address)
		return gds_fail(EINVAL, "%" PRIu64 " bytes at %p are beyond any memory", bytes,
				address);
	return wrap(device, address, bytes, false, memory);
}

static void host_free(struct backend_memory *memory)
{
	struct host_memory *host = (struct host_memory *)memory;

	if (host->owned)
		pages_unmap(memory->host, memory->bytes);
	free(host);
}

static int host_staging_attach(struct backend_device *device, void *host, size_t bytes,
			       struct backend_staging **staging)
{
	*staging = calloc(1, sizeof(**staging));
	if (!*staging)
		return gds_fail_errno(ENOMEM, "cannot attach staging memory to device host");
	**staging = (struct backend_staging){ .device = device, .host = host, .bytes = bytes };
	return 0;
}

static void host_staging_detach(struct backend_staging *staging)
{
	free(staging);
}

static unsigned char *at(const struct backend_memory *memory, uint64_t offset)
{
	return (unsigned char *)memory->host + offset;
}

static int host_copy(struct backend_device *device, const struct backend_copy *copies, size_t count,
		     uint64_t *ticket)
{
	for (size_t i = 0; i < count; i++) {
		const struct backend_copy *copy = &copies[i];
		void *host = copy->staging ? copy->staging->host : copy->source->host;

		memcpy(at(copy->memory, copy->offset), (unsigned char *)host + copy->source_offset,
		       copy->bytes);
	}
	*ticket = 0;
	return 0;
}

static int host_copy_out(struct backend_memory *memory, uint64_t offset, void *data, size_t bytes)
{
	memcpy(data, at(memory, offset), bytes);
	return 0;
}

static int host_copy_in(struct backend_memory *memory, uint64_t offset, const void *data,
			size_t bytes)
{
	memcpy(at(memory, offset), data, bytes);
	return 0;
}

static int host_checksum(struct backend_memory *memory, uint64_t offset, uint64_t bytes,
			 uint32_t *crc)
{
	*crc = (uint32_t)crc32_z(0, at(memory, offset), bytes);
	return 0;
}

const struct backend_ops backend_host = {
	.name = "host",
	.summary = "memory of this process, without a GPU",
	.list = host_list,
	.open = host_open,
	.close = host_close,
	.info = host_info,
	.alloc = host_alloc,
	.free = host_free,
	.staging_attach = host_staging_attach,
	.staging_detach = host_staging_detach,
	.copy = host_copy,
	.copy_out = host_copy_out,
	.copy_in = host_copy_in,
	.checksum = host_checksum,
};
