/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/device.h"

#include "base/error.h"
#include "base/fork.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct visitor {
	int (*visit)(const char *backend, const struct gds_device_info *info, const char *reason,
		     void *user);
	void *user;
};

/* A reason may be the thread's last message, which any call of the visitor's can replace. */
static int pass_on(const char *backend, const struct gds_device_info *info, const char *reason,
		   void *user)
{
	const struct visitor *visitor = user;
	char kept[GDS_ERROR_BYTES];

	if (reason)
		gds_text_set(kept, sizeof(kept), "%s", reason);
	return visitor->visit(backend, info, reason ? kept : NULL, visitor->user);
}

int gds_device_list(int (*visit)(const char *backend, const struct gds_device_info *info,
				 const char *reason, void *user),
		    void *user)
{
	size_t count;
	const struct backend_ops *const *backends = backend_registry(&count);
	struct visitor visitor = { visit, user };
	int result;

	if (!visit)
		return gds_fail(EINVAL, "gds_device_list: visit must not be NULL");
	for (size_t i = 0; i < count; i++) {
		result = backends[i]->list_registered
				 ? backends[i]->list_registered(backends[i], pass_on, &visitor)
				 : backends[i]->list(pass_on, &visitor);
		if (result)
			return result;
	}
	return 0;
}

static int unknown_backend(const char *name)
{
	size_t count;
	const struct backend_ops *const *backends = backend_registry(&count);
	char known[256] = "";

	for (size_t i = 0; i < count; i++) {
		if (i)
			strncat(known, ", ", sizeof(known) - strlen(known) - 1);
		strncat(known, backends[i]->name, sizeof(known) - strlen(known) - 1);
	}
	return gds_fail(EINVAL, "no backend for device '%s': names begin with one of %s", name,
			known);
}

static const struct backend_ops *find_backend(const char *name, size_t length)
{
	size_t count;
	const struct backend_ops *const *backends = backend_registry(&count);

	for (size_t i = 0; i < count; i++)
		if (strlen(backends[i]->name) == length &&
		    memcmp(backends[i]->name, name, length) == 0)
			return backends[i];
	return NULL;
}

static int open_device(const struct backend_ops *ops, struct backend_device **device,
		       const char *selector)
{
	if (ops->open_registered)
		return ops->open_registered(ops, device, selector);
	return ops->open(device, selector);
}

static int wrap_device(struct gds_device **device, struct backend_device *backend)
{
	*device = calloc(1, sizeof(**device));
	if (!*device) {
		backend->ops->close(backend);
		return gds_fail_errno(ENOMEM, "cannot open a device");
	}
	(*device)->backend = backend;
	(*device)->fork_generation = fork_count();
	return 0;
}

int device_check(const struct gds_device *device, const char *call)
{
	if (device->fork_generation == fork_count())
		return 0;
	return gds_fail(EPERM,
			"%s: this device was opened before fork(); open another one in the child",
			call);
}

int gds_device_open(struct gds_device **device, const char *name)
{
	const struct backend_ops *ops;
	struct backend_device *backend;
	size_t length;
	int err;

	if (!device || !name)
		return gds_fail(EINVAL, "gds_device_open: device and name must not be NULL");
	length = strcspn(name, ":");
	ops = find_backend(name, length);
	if (!ops)
		return unknown_backend(name);
	err = open_device(ops, &backend, name[length] ? name + length + 1 : "");
	if (err)
		return err;
	return wrap_device(device, backend);
}

int gds_device_import_vulkan(struct gds_device **device, const struct gds_vulkan_device *vulkan)
{
	struct backend_device *backend;
	int err;

	if (!device || !vulkan || vulkan->size < sizeof(*vulkan))
		return gds_fail(EINVAL, "gds_device_import_vulkan: pass a device, and a "
					"structure whose size is set");
	err = backend_vulkan_import_device(vulkan, &backend);
	if (err)
		return err;
	return wrap_device(device, backend);
}

void gds_device_close(struct gds_device *device)
{
	unsigned buffers;

	if (!device || device_check(device, "gds_device_close"))
		return;
	buffers = atomic_load(&device->buffers);
	if (buffers > 0) {
		/* The buffers would be left pointing at nothing: keep what they need. */
		gds_log(GDS_LOG_ERROR,
			"a device was closed with %u buffers of it not freed: it is kept open",
			buffers);
		return;
	}
	object_detach_all(&device->object);
	device->backend->ops->close(device->backend);
	free(device);
}

int gds_device_get_info(struct gds_device *device, struct gds_device_info *info)
{
	struct gds_device_info full = { .size = sizeof(full) };
	size_t size;
	int err;

	if (!device || !info || info->size < sizeof(info->size))
		return gds_fail(EINVAL, "gds_device_get_info: pass a device, and a structure "
					"whose size is set");
	err = device_check(device, "gds_device_get_info");
	if (err)
		return err;
	device->backend->ops->info(device->backend, &full);
	size = info->size < sizeof(full) ? info->size : sizeof(full);
	full.size = size;
	memcpy(info, &full, size);
	return 0;
}
