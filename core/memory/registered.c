/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backends that were registered from outside, by gds/backend.h: they are wrapped into the
 * core's own table of calls, so that nothing else knows of the difference. What comes back
 * from them is checked here, since it was written by others.
 */
#include "base/bits.h"
#include "base/error.h"
#include "memory/backend.h"
#include "memory/buffer.h"

#include <errno.h>
#include <gds/backend.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define NAME_BYTES     32
#define CHECKSUM_BYTES (UINT64_C(1) << 20) /* copied out at once */
#define DMABUF_GRAIN   4096
#define WAIT_NS        UINT64_C(1000000000) /* between two looks at a ticket */

enum { COPIES_AT_ONCE = 64 };

struct registered {
	struct backend_ops ops;
	struct gds_backend calls;
	char name[NAME_BYTES];
	char summary[128];
};

struct registered_device {
	struct backend_device base;
	const struct gds_backend *calls;
	void *device;
};

struct registered_memory {
	struct backend_memory base;
	void *memory;
};

struct registered_staging {
	struct backend_staging base;
	void *attached;
};

static struct registered_device *to_device(struct backend_device *base)
{
	return (struct registered_device *)base;
}

static struct registered_device *device_of(struct backend_memory *memory)
{
	return to_device(memory->device);
}

static void *own(struct backend_memory *base)
{
	return ((struct registered_memory *)base)->memory;
}

/* ---- Errors ---- */

int gds_backend_fail(int error, const char *format, ...)
{
	char line[GDS_ERROR_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	return gds_fail(error > 0 ? error : EIO, "%s", line);
}

/*
 * What a call returned, as the core wants it: an error has a message. `before` is how many
 * failures the thread had before the call.
 */
static int judge(const struct gds_backend *calls, int result, unsigned before, const char *what)
{
	if (result == 0)
		return 0;
	if (result > 0 || result < -4095)
		return gds_fail(EIO,
				"backend %s: %s gave %d, where 0 or a negative errno is wanted; "
				"report that to its author",
				calls->name, what, result);
	if (gds_failures() == before)
		return gds_fail_errno(-result, "backend %s: %s", calls->name, what);
	return result;
}

/* ---- Devices ---- */

static int registered_open(const struct backend_ops *ops, struct backend_device **result,
			   const char *selector)
{
	const struct gds_backend *calls = &((const struct registered *)ops)->calls;
	struct registered_device *device = calloc(1, sizeof(*device));
	const unsigned before = gds_failures();
	int err;

	if (!device)
		return gds_fail_errno(ENOMEM, "backend %s: cannot open a device", calls->name);
	device->base.ops = ops;
	device->calls = calls;
	err = judge(calls, calls->open(calls->user, selector, &device->device), before,
		    "opening a device");
	if (err)
		free(device);
	else
		*result = &device->base;
	return err;
}

static void registered_close(struct backend_device *base)
{
	struct registered_device *device = to_device(base);

	device->calls->close(device->device);
	free(device);
}

static void registered_info(struct backend_device *base, struct gds_device_info *info)
{
	struct registered_device *device = to_device(base);

	gds_text_set(info->name, sizeof(info->name), "%s", device->calls->name);
	gds_text_set(info->description, sizeof(info->description), "%s", device->calls->summary);
	if (device->calls->info)
		device->calls->info(device->device, info);
}

/* The one device of a backend that lists none itself. */
static int list_default(const struct backend_ops *ops,
			int (*visit)(const char *backend, const struct gds_device_info *info,
				     const char *reason, void *user),
			void *user)
{
	struct gds_device_info info = { .size = sizeof(info) };
	struct backend_device *device;

	if (registered_open(ops, &device, ""))
		return visit(ops->name, NULL, gds_last_error(), user);
	registered_info(device, &info);
	registered_close(device);
	return visit(ops->name, &info, NULL, user);
}

static int registered_list(const struct backend_ops *ops,
			   int (*visit)(const char *backend, const struct gds_device_info *info,
					const char *reason, void *user),
			   void *user)
{
	const struct gds_backend *calls = &((const struct registered *)ops)->calls;

	if (!calls->list)
		return list_default(ops, visit, user);
	return calls->list(calls->user, visit, user);
}

/* ---- Memory ---- */

/* Fills in what the backend said of its memory, unless that cannot be. */
static int describe(struct backend_memory *memory, const struct gds_backend *calls,
		    const struct gds_backend_memory *given)
{
	const uint64_t most = given->export_bytes ? given->export_bytes : SLICE_BYTES;

	if (most & (most - 1) || most < DMABUF_GRAIN)
		return gds_fail(EIO,
				"backend %s: it exports %" PRIu64 " bytes at once, which is no "
				"power of two from %d on; report that to its author",
				calls->name, most, DMABUF_GRAIN);
	memory->host = given->host;
	memory->no_host_reason = given->no_host_reason;
	memory->no_host_remedy = given->no_host_remedy;
	memory->placement = given->placement ? given->placement : calls->name;
	memory->slice_bytes = min_u64(most, SLICE_BYTES);
	memory->needs_publish = given->needs_publish && calls->publish;
	return 0;
}

static int registered_alloc(struct backend_device *base, uint64_t bytes, uint32_t flags,
			    struct backend_memory **result)
{
	struct registered_device *device = to_device(base);
	struct gds_backend_memory given = { .size = sizeof(given) };
	struct registered_memory *memory = calloc(1, sizeof(*memory));
	const unsigned before = gds_failures();
	int err;

	if (!memory)
		return gds_fail_errno(ENOMEM, "backend %s: cannot make a buffer",
				      device->calls->name);
	err = judge(device->calls, device->calls->alloc(device->device, bytes, flags, &given),
		    before, "allocating memory");
	if (err) {
		free(memory);
		return err;
	}
	memory->memory = given.memory;
	memory->base.device = base;
	memory->base.bytes = bytes;
	memory->base.slice_bytes = SLICE_BYTES;
	err = describe(&memory->base, device->calls, &given);
	if (err) {
		device->calls->free(device->device, given.memory);
		free(memory);
		return err;
	}
	*result = &memory->base;
	return 0;
}

static void registered_free(struct backend_memory *base)
{
	struct registered_device *device = device_of(base);

	device->calls->free(device->device, own(base));
	free(base);
}

/* Whether a dma-buf is what it must be. */
static int check_dmabuf(const struct gds_backend *calls, const struct gds_backend_dmabuf *dmabuf,
			uint64_t needed)
{
	if (dmabuf->fd >= 0 && dmabuf->bytes && is_aligned(dmabuf->bytes, DMABUF_GRAIN) &&
	    range_fits(dmabuf->offset, needed, dmabuf->bytes))
		return 0;
	if (dmabuf->fd >= 0)
		close(dmabuf->fd);
	return gds_fail(EOPNOTSUPP,
			"backend %s: it gave file descriptor %d as a dma-buf of %" PRIu64
			" bytes for %" PRIu64 " at %" PRIu64 ", which cannot be; report that to "
			"its author",
			calls->name, dmabuf->fd, dmabuf->bytes, needed, dmabuf->offset);
}

static int registered_export(struct backend_memory *base, size_t slice,
			     struct backend_export *exported)
{
	struct registered_device *device = device_of(base);
	struct gds_backend_dmabuf dmabuf = { .size = sizeof(dmabuf), .fd = -1 };
	const uint64_t offset = slice * base->slice_bytes;
	const unsigned before = gds_failures();
	uint64_t bytes;
	int err;

	if (offset >= base->bytes)
		return gds_fail(EINVAL, "backend %s: the memory has no slice %zu",
				device->calls->name, slice);
	bytes = min_u64(base->bytes - offset, base->slice_bytes);
	err = judge(device->calls,
		    device->calls->export_dmabuf(device->device, own(base), offset, bytes, &dmabuf),
		    before, "exporting memory as a dma-buf");
	if (!err)
		err = check_dmabuf(device->calls, &dmabuf, bytes);
	if (!err)
		*exported = (struct backend_export){ dmabuf.fd, dmabuf.bytes, dmabuf.offset };
	return err;
}

static int registered_publish(struct backend_memory *base, uint64_t offset, uint64_t bytes)
{
	struct registered_device *device = device_of(base);
	const unsigned before = gds_failures();

	return judge(device->calls,
		     device->calls->publish(device->device, own(base), offset, bytes), before,
		     "publishing what was written");
}

static int registered_acquire(struct backend_memory *base, uint64_t offset, uint64_t bytes)
{
	struct registered_device *device = device_of(base);
	const unsigned before = gds_failures();

	return judge(device->calls,
		     device->calls->acquire(device->device, own(base), offset, bytes), before,
		     "acquiring what a drive wrote");
}

/* ---- Copies ---- */

static int registered_attach(struct backend_device *base, void *host, size_t bytes,
			     struct backend_staging **result)
{
	struct registered_device *device = to_device(base);
	struct registered_staging *staging = calloc(1, sizeof(*staging));
	const unsigned before = gds_failures();
	int err = 0;

	if (!staging)
		return gds_fail_errno(ENOMEM, "backend %s: cannot attach staging memory",
				      device->calls->name);
	staging->base = (struct backend_staging){ .device = base, .host = host, .bytes = bytes };
	if (device->calls->host_attach)
		err = judge(
			device->calls,
			device->calls->host_attach(device->device, host, bytes, &staging->attached),
			before, "attaching staging memory");
	if (err)
		free(staging);
	else
		*result = &staging->base;
	return err;
}

static void registered_detach(struct backend_staging *base)
{
	struct registered_device *device = to_device(base->device);

	if (device->calls->host_detach)
		device->calls->host_detach(device->device,
					   ((struct registered_staging *)base)->attached);
	free(base);
}

static int registered_copied(struct backend_device *base, uint64_t ticket, uint64_t timeout_ns,
			     uint64_t *done)
{
	struct registered_device *device = to_device(base);
	const unsigned before = gds_failures();

	return judge(device->calls, device->calls->copied(device->device, ticket, timeout_ns, done),
		     before, "waiting for copies");
}

/* Waits until copies are done, or the device has failed. */
static int wait_for(struct registered_device *device, uint64_t ticket)
{
	uint64_t done = 0;
	int err = 0;

	while (ticket > done && !err)
		err = registered_copied(&device->base, ticket, WAIT_NS, &done);
	return err;
}

static struct gds_backend_copy translate(const struct backend_copy *copy)
{
	struct gds_backend_copy out = { .memory = own(copy->memory),
					.offset = copy->offset,
					.bytes = copy->bytes };

	if (copy->staging) {
		out.host = (const char *)copy->staging->host + copy->source_offset;
	} else {
		out.source = own(copy->source);
		out.source_offset = copy->source_offset;
	}
	return out;
}

/* Starts some copies; `*ticket` rises to that of the last of them. */
static int start(struct registered_device *device, const struct gds_backend_copy *copies,
		 size_t count, uint64_t *ticket)
{
	const struct gds_backend *calls = device->calls;
	const unsigned before = gds_failures();
	uint64_t given = 0;
	int err = judge(calls, calls->copy(device->device, copies, count, &given), before,
			"copying into memory");

	if (err)
		return err;
	if (given && !calls->copied)
		return gds_fail(EIO,
				"backend %s: copy gave a ticket, and there is no call to ask for "
				"it; report that to its author",
				calls->name);
	*ticket = given > *ticket ? given : *ticket;
	return 0;
}

static int registered_copy(struct backend_device *base, const struct backend_copy *copies,
			   size_t count, uint64_t *ticket)
{
	struct registered_device *device = to_device(base);
	struct gds_backend_copy some[COPIES_AT_ONCE];
	int err = 0;

	*ticket = 0;
	for (size_t at = 0; at < count && !err; at += COPIES_AT_ONCE) {
		const size_t now = count - at < COPIES_AT_ONCE ? count - at : COPIES_AT_ONCE;

		for (size_t i = 0; i < now; i++)
			some[i] = translate(&copies[at + i]);
		err = start(device, some, now, ticket);
	}
	/* The core takes all back after an error: what was started must be over. */
	if (err && *ticket)
		wait_for(device, *ticket);
	return err;
}

static int registered_copy_in(struct backend_memory *base, uint64_t offset, const void *data,
			      size_t bytes)
{
	const struct gds_backend_copy copy = {
		.memory = own(base), .offset = offset, .host = data, .bytes = bytes
	};
	uint64_t ticket = 0;
	int err = start(device_of(base), &copy, 1, &ticket);

	return err ? err : wait_for(device_of(base), ticket);
}

static int registered_copy_out(struct backend_memory *base, uint64_t offset, void *data,
			       size_t bytes)
{
	struct registered_device *device = device_of(base);
	const unsigned before = gds_failures();

	return judge(device->calls,
		     device->calls->copy_out(device->device, own(base), offset, data, bytes),
		     before, "copying out of memory");
}

static int checksum_by_cpu(struct backend_memory *base, uint64_t offset, uint64_t bytes,
			   uint32_t *crc)
{
	unsigned char *chunk = malloc(CHECKSUM_BYTES);
	uint64_t now;
	int err = 0;

	if (!chunk)
		return gds_fail_errno(ENOMEM, "backend %s: cannot compute a checksum",
				      base->device->ops->name);
	*crc = 0;
	for (; bytes && !err; offset += now, bytes -= now) {
		now = min_u64(bytes, CHECKSUM_BYTES);
		err = registered_copy_out(base, offset, chunk, now);
		if (!err)
			*crc = (uint32_t)crc32_z(*crc, chunk, now);
	}
	free(chunk);
	return err;
}

static int registered_checksum(struct backend_memory *base, uint64_t offset, uint64_t bytes,
			       uint32_t *crc)
{
	struct registered_device *device = device_of(base);
	const unsigned before = gds_failures();

	if (!device->calls->checksum)
		return checksum_by_cpu(base, offset, bytes, crc);
	return judge(device->calls,
		     device->calls->checksum(device->device, own(base), offset, bytes, crc), before,
		     "computing a checksum");
}

/* ---- Registering ---- */

static int check_name(const char *name)
{
	const size_t length = name ? strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") : 0;

	if (length > 0 && length < NAME_BYTES && !name[length])
		return 0;
	return gds_fail(EINVAL,
			"gds_backend_register: the name '%.40s' is not made of 1 to %d lower-case "
			"letters, digits and hyphens",
			name ? name : "", NAME_BYTES - 1);
}

/* A later version's structure will do, as long as it asks for nothing that is not known. */
static int check_shape(const struct gds_backend *backend)
{
	const unsigned char *bytes = (const unsigned char *)backend;

	if (!backend || backend->size < sizeof(*backend))
		return gds_fail(EINVAL, "gds_backend_register: pass a structure whose size is "
					"set to that of struct gds_backend");
	if (backend->version != GDS_BACKEND_VERSION)
		return gds_fail(EINVAL,
				"gds_backend_register: the backend is of version %u, and this "
				"library knows version %d: build it against this library's header",
				backend->version, GDS_BACKEND_VERSION);
	for (size_t i = sizeof(*backend); i < backend->size; i++)
		if (bytes[i])
			return gds_fail(ENOTSUP,
					"gds_backend_register: the backend has calls that this "
					"version of gds does not know: a newer one will");
	return 0;
}

static int check_calls(const struct gds_backend *backend)
{
	const char *missing = NULL;

	if (!backend->open || !backend->close)
		missing = "open and close";
	else if (!backend->alloc || !backend->free)
		missing = "alloc and free";
	else if (!backend->copy || !backend->copy_out)
		missing = "copy and copy_out";
	else if (!backend->host_attach != !backend->host_detach)
		missing = "host_attach and host_detach, or neither of them";
	else if (!backend->summary)
		missing = "a summary";
	if (!missing)
		return 0;
	return gds_fail(EINVAL, "gds_backend_register: backend %s needs %s", backend->name,
			missing);
}

static void fill_ops(struct backend_ops *ops, const struct gds_backend *calls)
{
	*ops = (struct backend_ops){
		.name = calls->name,
		.summary = calls->summary,
		.list_registered = registered_list,
		.open_registered = registered_open,
		.close = registered_close,
		.info = registered_info,
		.alloc = registered_alloc,
		.free = registered_free,
		.export_slice = calls->export_dmabuf ? registered_export : NULL,
		.staging_attach = registered_attach,
		.staging_detach = registered_detach,
		.copy = registered_copy,
		.copied = calls->copied ? registered_copied : NULL,
		.publish = calls->publish ? registered_publish : NULL,
		.acquire = calls->acquire ? registered_acquire : NULL,
		.copy_out = registered_copy_out,
		.copy_in = registered_copy_in,
		.checksum = registered_checksum,
	};
}

int gds_backend_register(const struct gds_backend *backend)
{
	struct registered *new;
	int err = check_shape(backend);

	if (!err)
		err = check_name(backend->name);
	if (!err)
		err = check_calls(backend);
	if (err)
		return err;
	new = calloc(1, sizeof(*new));
	if (!new)
		return gds_fail_errno(ENOMEM, "cannot register backend %s", backend->name);
	new->calls = *backend;
	gds_text_set(new->name, sizeof(new->name), "%s", backend->name);
	gds_text_set(new->summary, sizeof(new->summary), "%s", backend->summary);
	new->calls.name = new->name;
	new->calls.summary = new->summary;
	fill_ops(&new->ops, &new->calls);
	err = backend_registry_add(&new->ops);
	if (err)
		free(new);
	return err;
}

int gds_backend_buffer_memory(const struct gds_buffer *buffer, const char *backend, void **memory)
{
	const struct backend_ops *ops;

	if (!buffer || !backend || !memory)
		return gds_fail(EINVAL, "gds_backend_buffer_memory: no argument may be NULL");
	ops = buffer->memory->device->ops;
	if (!ops->open_registered || strcmp(ops->name, backend) != 0)
		return gds_fail(ENOTSUP,
				"gds_backend_buffer_memory: the buffer is of a %s device, and not "
				"of a registered backend %s",
				ops->name, backend);
	*memory = own(buffer->memory);
	return 0;
}
