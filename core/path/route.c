/* SPDX-License-Identifier: Apache-2.0 */
#include "path/route.h"

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "base/probe.h"
#include "base/verdict.h"
#include "lane/dmabuf.h"
#include "memory/buffer.h"
#include "memory/pages.h"
#include "path/below.h"
#include "reader.h"
#include "storage/file.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* O_DIRECT cares for addresses within a page at most. */
#define BASE_MODULUS 4096

/* ---- Verdicts ---- */

#define PINNING_REASON                                                                        \
	"the kernel cannot pin this mapping of the device's memory (EFAULT), as with memory " \
	"that lies on a card"
#define PINNING_REMEDY "allocate with GDS_BUFFER_HOST, or let the bytes bounce"

static void say_not_registered(struct gds_path_verdict *verdict, int error)
{
	struct rlimit limit;
	char reason[sizeof(verdict->reason)];

	if (error != ENOMEM || getrlimit(RLIMIT_MEMLOCK, &limit) != 0) {
		gds_text_set(reason, sizeof(reason),
			     "the buffer is not registered with io_uring (%s): its pages are "
			     "pinned at each read",
			     gds_errno_text(error));
		verdict_allow(verdict, reason, "");
		return;
	}
	gds_text_set(reason, sizeof(reason),
		     "the buffer is not registered with io_uring: the locked-memory limit is "
		     "%llu KiB, so its pages are pinned at each read",
		     (unsigned long long)limit.rlim_cur / 1024);
	verdict_allow(
		verdict, reason,
		"raise the limit above the buffer's size: ulimit -l, LimitMEMLOCK= of systemd, "
		"--ulimit memlock= of a container");
}

/* ---- The route that was looked up last ---- */

/* For those who change hints. */
static pthread_mutex_t hints_lock = PTHREAD_MUTEX_INITIALIZER;

/* NULL for a reader: none. Hints lock held. */
static void change_hint(struct route_hint *hint, struct gds_reader *reader,
			struct gds_buffer *buffer, enum gds_path pinned, struct route *route)
{
	unsigned version = atomic_load_explicit(&hint->version, memory_order_relaxed);

	atomic_store_explicit(&hint->version, version + 1, memory_order_relaxed);
	atomic_store_explicit(&hint->reader, reader, memory_order_release);
	atomic_store_explicit(&hint->buffer, buffer, memory_order_release);
	atomic_store_explicit(&hint->pinned, pinned, memory_order_release);
	atomic_store_explicit(&hint->route, route, memory_order_release);
	atomic_store_explicit(&hint->version, version + 2, memory_order_release);
}

static void set_hint(struct gds_reader *reader, struct gds_file *file, struct gds_buffer *buffer,
		     enum gds_path pinned, struct route *route)
{
	pthread_mutex_lock(&hints_lock);
	change_hint(&file->hint, reader, buffer, pinned, route);
	pthread_mutex_unlock(&hints_lock);
}

static void forget_hint(struct gds_file *file, const struct route *route)
{
	pthread_mutex_lock(&hints_lock);
	if (atomic_load_explicit(&file->hint.route, memory_order_relaxed) == route)
		change_hint(&file->hint, NULL, NULL, GDS_PATH_AUTO, NULL);
	pthread_mutex_unlock(&hints_lock);
}

/* ---- Attaching ---- */

/*
 * Takes the route at `link` out of use; the reads that still name it find it closed.
 * Other threads may be looking for another route of the same file.
 */
static void retire_route(struct gds_reader *reader, struct route **link)
{
	struct route *route;

	route = *link;
	forget_hint(route->file->file, route);
	reader_lock(reader);
	*link = route->next;
	route->file = NULL;
	route->buffer = NULL;
	reader_unlock(reader);
	route_put(route);
}

static void detach_file(struct attachment *attachment)
{
	struct reader_file *file = (struct reader_file *)attachment;
	struct gds_reader *reader = attachment->reader;

	reader_drain(reader, attachment);
	while (file->routes)
		retire_route(reader, &file->routes);
	dmabuf_maps_close(reader, &file->own, NULL);
	below_close(reader, file);
	if (file->first != file->slot)
		reader->lane->ops->file_remove(reader->lane, file->first);
	reader->lane->ops->file_remove(reader->lane, file->slot);
	attachment_unlink(attachment);
	free(file);
}

static void retire_routes_to(struct gds_reader *reader, struct reader_file *file,
			     const struct reader_buffer *buffer)
{
	struct route **link = &file->routes;

	while (*link) {
		if ((*link)->buffer == buffer)
			retire_route(reader, link);
		else
			link = &(*link)->next;
	}
}

static void unregister_buffer(struct gds_reader *reader, struct reader_buffer *buffer)
{
	for (size_t i = 0; i < buffer->slot_count; i++) {
		if (buffer->slots[i] != LANE_NO_BUFFER)
			reader->lane->ops->buffer_remove(reader->lane, buffer->slots[i]);
		buffer->slots[i] = LANE_NO_BUFFER;
	}
}

static void detach_buffer(struct attachment *attachment)
{
	struct reader_buffer *buffer = (struct reader_buffer *)attachment;
	struct gds_reader *reader = attachment->reader;
	struct attachment *other;

	reader_drain(reader, attachment);
	for (other = reader->attachments; other; other = other->reader_next)
		if (other->detach == detach_file)
			retire_routes_to(reader, (struct reader_file *)other, buffer);
	unregister_buffer(reader, buffer);
	dmabuf_maps_close(reader, NULL, buffer->buffer->memory);
	attachment_unlink(attachment);
	free(buffer);
}

static void close_scratch(struct gds_reader *reader, struct scratch *scratch)
{
	if (!scratch->memory)
		return;
	dmabuf_maps_close(reader, NULL, scratch->memory);
	scratch->memory->device->ops->free(scratch->memory);
	staging_close(&scratch->pool);
}

static void detach_device(struct attachment *attachment)
{
	struct reader_device *device = (struct reader_device *)attachment;
	struct gds_reader *reader = attachment->reader;
	struct reader_device **link = &reader->devices;

	while (*link != device)
		link = &(*link)->next;
	*link = device->next;
	for (int size = 0; size < STAGING_SIZES; size++) {
		if (device->staging[size])
			device->device->backend->ops->staging_detach(device->staging[size]);
		close_scratch(reader, &device->scratch[size]);
	}
	if (device->zeros)
		device->device->backend->ops->free(device->zeros);
	proofs_forget(reader, device->device);
	attachment_unlink(attachment);
	free(device);
}

static int attach_file(struct gds_reader *reader, struct gds_file *file,
		       struct reader_file **attached)
{
	struct reader_file *new;
	int err;

	*attached = (struct reader_file *)attachment_find(&file->object, reader);
	if (*attached)
		return 0;
	new = calloc(1, sizeof(*new));
	if (!new)
		return gds_fail_errno(ENOMEM, "cannot read %s", file->path);
	new->attachment.detach = detach_file;
	new->file = file;
	new->direct = file->direct;
	memcpy(new->reason, file->direct_reason, sizeof(new->reason));
	err = queue_get(reader, file->storage, &new->queue);
	if (err) {
		free(new);
		return err;
	}
	err = reader->lane->ops->file_add(reader->lane, file->fd, &new->slot);
	if (err) {
		free(new);
		return gds_fail_errno(-err, "cannot hand %s to the lane", file->path);
	}
	new->first = new->slot;
	new->own = (struct reader_target){
		.device = file->device,
		.fd = file->fd,
		.slot = new->slot,
		.name = file->path,
	};
	attachment_link(&new->attachment, reader, &file->object);
	*attached = new;
	return 0;
}

static int attach_device(struct gds_reader *reader, struct gds_device *device,
			 struct reader_device **attached)
{
	struct reader_device *new;

	*attached = (struct reader_device *)attachment_find(&device->object, reader);
	if (*attached)
		return 0;
	new = calloc(1, sizeof(*new));
	if (!new)
		return gds_fail_errno(ENOMEM, "cannot read into a device");
	new->attachment.detach = detach_device;
	new->device = device;
	new->copying_last = &new->copying_first;
	new->next = reader->devices;
	reader->devices = new;
	attachment_link(&new->attachment, reader, &device->object);
	*attached = new;
	return 0;
}

/* Registers the slices of host memory, as far as the kernel lets it. */
static void register_buffer(struct gds_reader *reader, struct reader_buffer *buffer)
{
	const struct backend_memory *memory = buffer->buffer->memory;
	struct gds_path_verdict *verdict = &buffer->verdicts[GDS_PATH_MAPPED];
	int err;

	verdict_allow(verdict, "", "");
	for (size_t i = 0; i < buffer->slot_count; i++) {
		err = reader->lane->ops->buffer_add(
			reader->lane, (char *)memory->host + i * SLICE_BYTES,
			min_u64(memory->bytes - i * SLICE_BYTES, SLICE_BYTES), &buffer->slots[i]);
		if (!err)
			continue;
		buffer->slots[i] = LANE_NO_BUFFER;
		if (err == -EFAULT) {
			unregister_buffer(reader, buffer);
			verdict_refuse(verdict, PINNING_REASON, PINNING_REMEDY);
			return;
		}
		if (err == -EOPNOTSUPP) /* the thread lane */
			continue;
		say_not_registered(verdict, -err);
		gds_warn("%s%s%s", verdict->reason, verdict->remedy[0] ? "; " : "",
			 verdict->remedy);
		return;
	}
}

static void judge_paths(struct gds_reader *reader, struct reader_buffer *buffer)
{
	const struct backend_memory *memory = buffer->buffer->memory;

	verdict_refuse(&buffer->verdicts[GDS_PATH_DMABUF],
		       "this version of gds does not read through "
		       "dma-bufs yet",
		       "use mapped or bounce");
	verdict_allow(&buffer->verdicts[GDS_PATH_BOUNCE], "", "");
	if (memory->host)
		register_buffer(reader, buffer);
	else
		verdict_refuse(&buffer->verdicts[GDS_PATH_MAPPED],
			       memory->no_host_reason ? memory->no_host_reason
						      : "the CPU cannot address the buffer",
			       memory->no_host_remedy ? memory->no_host_remedy
						      : "allocate with GDS_BUFFER_HOST");
}

static int attach_buffer(struct gds_reader *reader, struct gds_buffer *buffer,
			 struct reader_buffer **attached)
{
	size_t slices = (size_t)((buffer->memory->bytes + SLICE_BYTES - 1) / SLICE_BYTES);
	struct reader_buffer *new;
	int err;

	*attached = (struct reader_buffer *)attachment_find(&buffer->object, reader);
	if (*attached)
		return 0;
	new = calloc(1, sizeof(*new) + slices * sizeof(new->slots[0]));
	if (!new)
		return gds_fail_errno(ENOMEM, "cannot read into a buffer");
	err = attach_device(reader, buffer->device, &new->device);
	if (err) {
		free(new);
		return err;
	}
	new->attachment.detach = detach_buffer;
	new->buffer = buffer;
	new->slot_count = slices;
	for (size_t i = 0; i < slices; i++)
		new->slots[i] = LANE_NO_BUFFER;
	judge_paths(reader, new);
	attachment_link(&new->attachment, reader, &buffer->object);
	*attached = new;
	return 0;
}

static int open_staging(struct gds_reader *reader, enum staging_size size)
{
	struct staging_pool *pool = &reader->staging[size];
	int err = staging_open(pool);

	if (err)
		return err;
	counter_add(&reader->counters.staging_bytes, staging_bytes(pool));
	if (reader->lane->ops->buffer_add(reader->lane, pool->memory, staging_bytes(pool),
					  &reader->staging_slots[size]))
		reader->staging_slots[size] = LANE_NO_BUFFER; /* pinned at each read */
	return 0;
}

int device_stage(struct gds_reader *reader, struct reader_device *device, enum staging_size size)
{
	struct staging_pool *pool = &reader->staging[size];
	struct backend_device *backend = device->device->backend;
	int err = 0;

	if (device->staging[size])
		return 0;
	if (!pool->memory)
		err = open_staging(reader, size);
	if (err)
		return err;
	return backend->ops->staging_attach(backend, pool->memory, staging_bytes(pool),
					    &device->staging[size]);
}

/* Scratch memory is small: it waits for the device's copies alone, which are fast. */
#define SCRATCH_LARGE_CHUNKS 16
#define SCRATCH_SMALL_CHUNKS 64

/* No chunk crosses the end of a slice, which are smaller than usual on some devices. */
static int fit_into_slice(struct staging_pool *pool, const struct backend_memory *memory)
{
	pool->count = (uint32_t)min_u64(pool->count, memory->slice_bytes / pool->chunk_bytes);
	if (pool->count)
		return 0;
	return gds_fail(ENOMEM, "a transfer of %u bytes is larger than a slice of the device's",
			pool->chunk_bytes);
}

static int open_scratch(struct gds_reader *reader, struct reader_device *device,
			enum staging_size size)
{
	struct scratch *scratch = &device->scratch[size];
	struct backend_device *backend = device->device->backend;
	int err;

	scratch->pool = (struct staging_pool){
		.chunk_bytes = reader->staging[size].chunk_bytes,
		.count = size == STAGING_SMALL ? SCRATCH_SMALL_CHUNKS : SCRATCH_LARGE_CHUNKS,
	};
	err = backend->ops->alloc(backend, staging_bytes(&scratch->pool), 0, &scratch->memory);
	if (err) {
		scratch->memory = NULL;
		return err;
	}
	err = fit_into_slice(&scratch->pool, scratch->memory);
	if (!err)
		err = staging_open_chunks(&scratch->pool);
	if (err) {
		backend->ops->free(scratch->memory);
		scratch->memory = NULL;
	}
	return err;
}

int device_scratch(struct gds_reader *reader, struct reader_device *device, enum staging_size size)
{
	int err;

	if (device->scratch[size].memory)
		return 0;
	if (device->scratch_refused)
		return -ENOMEM;
	err = open_scratch(reader, device, size);
	if (err) {
		device->scratch_refused = true;
		gds_warn("unaligned pieces go by way of host memory: %s", gds_last_error());
	}
	return err;
}

static int make_zeros(struct reader_device *device)
{
	struct backend_device *backend = device->device->backend;
	void *zeros = pages_map(ZEROS_BYTES);
	int err;

	if (!zeros)
		return gds_fail_errno(ENOMEM, "cannot make zeros");
	err = backend->ops->alloc(backend, ZEROS_BYTES, 0, &device->zeros);
	if (err)
		device->zeros = NULL;
	else
		err = backend->ops->copy_in(device->zeros, 0, zeros, ZEROS_BYTES);
	if (err && device->zeros) {
		backend->ops->free(device->zeros);
		device->zeros = NULL;
	}
	pages_unmap(zeros, ZEROS_BYTES);
	return err;
}

int device_zeros(struct reader_device *device)
{
	int err;

	if (device->zeros)
		return 0;
	if (device->zeros_refused)
		return -ENOMEM;
	err = make_zeros(device);
	if (err) {
		device->zeros_refused = true;
		gds_warn("holes of files go by way of host memory: %s", gds_last_error());
	}
	return err;
}

/* ---- Choosing ---- */

/* The reader's files are read through the page cache from here on. */
static int open_page_cache(struct gds_reader *reader, struct reader_file *file)
{
	int fd = file_buffered_fd(file->file);
	int err;

	if (fd < 0)
		return fd;
	err = reader->lane->ops->file_add(reader->lane, fd, &file->slot);
	if (err)
		return err;
	file->direct = false;
	gds_warn("%s is read through the page cache: %s", file->file->path, file->reason);
	return 0;
}

int route_use_page_cache(struct gds_reader *reader, struct route *route)
{
	struct reader_file *file = route->file;

	if (!file->direct)
		return -EINVAL;
	gds_text_set(file->reason, sizeof(file->reason),
		     "a read with O_DIRECT was refused (EINVAL)");
	return open_page_cache(reader, file);
}

static struct gds_path_verdict *verdict_of(struct route *route, enum gds_path path)
{
	return path == GDS_PATH_DMABUF ? &route->dmabuf : &route->buffer->verdicts[path];
}

static int choose_path(struct route *route)
{
	static const enum gds_path preference[] = { GDS_PATH_DMABUF, GDS_PATH_MAPPED,
						    GDS_PATH_BOUNCE };
	const struct gds_path_verdict *verdict;

	if (route->pinned != GDS_PATH_AUTO) {
		route->path = route->pinned;
		verdict = verdict_of(route, route->pinned);
		if (verdict->usable)
			return 0;
		return gds_fail(EOPNOTSUPP, "path %s from %s cannot be taken: %s; %s",
				gds_path_name(route->path), route->file->file->path,
				verdict->reason, verdict->remedy);
	}
	for (size_t i = 0; i < sizeof(preference) / sizeof(preference[0]); i++) {
		route->path = preference[i];
		if (verdict_of(route, route->path)->usable)
			return 0;
	}
	return gds_fail(EOPNOTSUPP, "no path from %s to the buffer", route->file->file->path);
}

static int set_limits(struct gds_reader *reader, struct route *route)
{
	struct reader_file *file = route->file;
	uint32_t offset_align = file->file->offset_align;
	uint32_t transfer_bytes;
	int err;

	if (offset_align > reader->options.transfer_bytes && file->direct) {
		gds_text_set(file->reason, sizeof(file->reason),
			     "its blocks of %u bytes are larger than the reader's transfers",
			     offset_align);
		err = open_page_cache(reader, file);
		if (err)
			return err;
	}
	if (!file->direct)
		offset_align = 1;
	/* What is read from below may have to be read as a file after all. */
	if (route->path == GDS_PATH_DMABUF && file->map)
		offset_align = (uint32_t)max_u64(offset_align, file->map->block_bytes);
	transfer_bytes = (uint32_t)align_down(file->queue->transfer_bytes, offset_align);
	route->limits = (struct plan_limits){
		.offset_align = offset_align,
		.memory_align = file->direct ? file->file->memory_align : 1,
		.base = (uint32_t)((uintptr_t)route->buffer->buffer->memory->host % BASE_MODULUS),
		.transfer_bytes = transfer_bytes,
		.staged_bytes = transfer_bytes,
		.slice_bytes = SLICE_BYTES,
		.direct = route->path != GDS_PATH_BOUNCE,
		.position = file->file->order,
	};
	if (route->path == GDS_PATH_DMABUF) {
		/* Blocks go to places that are aligned like them, in the dma-buf. */
		route->limits.memory_align = offset_align;
		route->limits.slice_bytes = route->buffer->buffer->memory->slice_bytes;
		route->limits.base = 0;
		route->limits.map = file->map ? &file->plan : NULL;
	}
	/* What lands in host pages that the device sees needs nothing done before or after. */
	if (route->path == GDS_PATH_MAPPED && !route->buffer->buffer->memory->needs_publish)
		route->limits.whole_bytes = transfer_bytes;
	return 0;
}

/* One in this state of the proofs that reads from the file to the buffer need, or NULL. */
static const struct proof *find_proof(struct gds_reader *reader, const struct reader_file *file,
				      const struct gds_buffer *buffer, enum proof_state state)
{
	const struct reader_target *target;
	struct proof *proof;

	for (size_t i = 0; (target = reader_target_of(file, i)) != NULL; i++) {
		proof = proof_get(reader, buffer->device, target->device,
				  buffer->memory->placement);
		if (proof && proof_check(reader, proof) == state)
			return proof;
	}
	return NULL;
}

static int judge_and_choose(struct gds_reader *reader, struct route *route)
{
	struct gds_buffer *buffer = route->buffer->buffer;
	const struct proof *proof;
	int err;

	if (!dmabuf_judge(reader, route->file, buffer->memory, &route->dmabuf)) {
		proof = find_proof(reader, route->file, buffer, PROOF_FAILED);
		if (proof)
			verdict_refuse(&route->dmabuf, proof->finding, PROOF_REMEDY);
	}
	err = choose_path(route);
	if (!err)
		err = set_limits(reader, route);
	if (err)
		return err;
	GDS_PROBE3(path, route->file->file->path, route->path, "");
	return 0;
}

int route_refuse_path(struct gds_reader *reader, struct route *route, const char *reason,
		      const char *remedy)
{
	enum gds_path refused = route->path;
	int err;

	verdict_refuse(verdict_of(route, refused), reason, remedy);
	err = choose_path(route);
	if (!err)
		err = set_limits(reader, route);
	if (err)
		return err;
	GDS_PROBE3(path, route->file->file->path, route->path, reason);
	gds_warn("reads of %s change from %s to %s: %s", route->file->file->path,
		 gds_path_name(refused), gds_path_name(route->path), reason);
	return 0;
}

int route_refuse_pinning(struct gds_reader *reader, struct route *route)
{
	return route_refuse_path(reader, route, PINNING_REASON, PINNING_REMEDY);
}

struct route_request {
	struct gds_file *file;
	struct gds_buffer *buffer;
	enum gds_path pinned;
	struct route *route;
};

static struct route *find_route(struct gds_reader *reader, const struct route_request *request)
{
	struct reader_file *file =
		(struct reader_file *)attachment_find(&request->file->object, reader);
	struct route *route;

	if (!file)
		return NULL;
	reader_lock(reader);
	for (route = file->routes; route; route = route->next)
		if (route->buffer->buffer == request->buffer && route->pinned == request->pinned)
			break;
	if (route)
		atomic_fetch_add(&route->references, 1);
	reader_unlock(reader);
	return route;
}

static int make_route(struct gds_reader *reader, void *argument)
{
	struct route_request *request = argument;
	struct route *route;
	int err;

	if (reader->closed)
		return gds_fail(ESHUTDOWN, "cannot read %s: the batch's reader was closed",
				request->file->path);
	/* Another thread may have been first. */
	request->route = find_route(reader, request);
	if (request->route)
		return 0;
	route = calloc(1, sizeof(*route));
	if (!route)
		return gds_fail_errno(ENOMEM, "cannot read %s", request->file->path);
	route->pinned = request->pinned;
	err = attach_file(reader, request->file, &route->file);
	if (!err)
		err = attach_buffer(reader, request->buffer, &route->buffer);
	if (!err)
		err = judge_and_choose(reader, route);
	if (err) {
		free(route);
		return err;
	}
	route->host = route->buffer->buffer->memory->host;
	atomic_init(&route->references, 2); /* the list's and the caller's */
	reader_lock(reader);
	route->next = route->file->routes;
	route->file->routes = route;
	reader_unlock(reader);
	request->route = route;
	return 0;
}

int route_get(struct gds_reader *reader, struct gds_file *file, struct gds_buffer *buffer,
	      enum gds_path pinned, struct route **route)
{
	struct route_request request = { .file = file, .buffer = buffer, .pinned = pinned };
	int err = 0;

	request.route = find_route(reader, &request);
	if (!request.route)
		err = reader_run(reader, make_route, &request);
	if (!err)
		set_hint(reader, file, buffer, pinned, request.route);
	*route = request.route;
	return err;
}

void route_put(struct route *route)
{
	if (atomic_fetch_sub(&route->references, 1) == 1)
		free(route);
}

/* ---- Explaining ---- */

struct explain_request {
	struct gds_file *file;
	struct gds_buffer *buffer;
	struct gds_explanation explanation;
	bool unproven; /* the direct path would be taken, and is not proven */
};

static void explain_kernel(const struct gds_reader *reader, char *text, size_t size)
{
	if (dmabuf_kernel_shape() == DMABUF_NONE)
		gds_text_set(text, size, "no dma-buf reads");
	else
		gds_text_set(text, size, "dma-buf reads, %s",
			     dmabuf_shape_name(reader->options.dmabuf_shape));
}

static int explain(struct gds_reader *reader, void *argument)
{
	struct explain_request *request = argument;
	struct gds_explanation *explanation = &request->explanation;
	struct gds_path_verdict *mapped = &explanation->paths[GDS_PATH_MAPPED];
	struct route route = { 0 };
	int err;

	err = attach_file(reader, request->file, &route.file);
	if (!err)
		err = attach_buffer(reader, request->buffer, &route.buffer);
	if (!err)
		err = judge_and_choose(reader, &route);
	if (err)
		return err;
	explanation->path = route.path;
	explanation->lane = reader->lane_kind;
	explanation->direct = route.file->direct;
	explanation->offset_alignment = route.limits.offset_align;
	explanation->memory_alignment = route.limits.memory_align;
	memcpy(explanation->direct_reason, route.file->reason, sizeof(route.file->reason));
	memcpy(explanation->lane_reason, reader->lane->reason, sizeof(reader->lane->reason));
	memcpy(explanation->paths, route.buffer->verdicts, sizeof(explanation->paths));
	explanation->paths[GDS_PATH_DMABUF] = route.dmabuf;
	explain_kernel(reader, explanation->kernel, sizeof(explanation->kernel));
	below_describe(route.file, explanation->layout, sizeof(explanation->layout));
	if (request->file->block_device || route.file->map)
		below_describe_drives(route.file, request->buffer->device, explanation->drives,
				      sizeof(explanation->drives));
	if (mapped->usable && !route.file->direct && !mapped->reason[0])
		verdict_allow(mapped, "the kernel copies the bytes out of its page cache",
			      "keep the file on a file system that takes O_DIRECT");
	if (route.path == GDS_PATH_DMABUF)
		request->unproven =
			find_proof(reader, route.file, request->buffer, PROOF_NONE) != NULL;
	return 0;
}

/* Has the direct path proven by a read, and puts back what was in its place. */
static int prove(struct gds_reader *reader, struct gds_file *file, struct gds_buffer *buffer)
{
	struct gds_request read = { .file = file, .buffer = buffer };
	int64_t file_bytes = gds_file_bytes(file);
	void *before;
	int err;

	if (file_bytes < 0)
		return (int)file_bytes;
	read.length =
		min_u64(min_u64((uint64_t)file_bytes, gds_buffer_bytes(buffer)), CANARY_BYTES);
	before = malloc(read.length);
	if (!before)
		return gds_fail_errno(ENOMEM, "cannot prove the direct path");
	err = gds_buffer_copy_out(buffer, 0, before, read.length);
	if (!err) {
		gds_read(reader, &read, NULL); /* its outcome is in the proof */
		err = gds_buffer_copy_in(buffer, 0, before, read.length);
	}
	free(before);
	return err;
}

int gds_explain(struct gds_reader *reader, struct gds_file *file, struct gds_buffer *buffer,
		struct gds_explanation *explanation)
{
	struct explain_request request = { .file = file, .buffer = buffer };
	size_t size;
	int err = reader_check(reader, "gds_explain");

	if (err)
		return err;
	if (!file || !buffer || !explanation || explanation->size < sizeof(explanation->size))
		return gds_fail(EINVAL, "gds_explain: pass a file, a buffer, and a structure "
					"whose size is set");
	err = reader_run(reader, explain, &request);
	if (!err && request.unproven) {
		err = prove(reader, file, buffer);
		if (!err)
			err = reader_run(reader, explain, &request);
	}
	if (err)
		return err;
	size = min_u64(explanation->size, sizeof(request.explanation));
	request.explanation.size = size;
	memcpy(explanation, &request.explanation, size);
	return 0;
}
