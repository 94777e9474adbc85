/* SPDX-License-Identifier: Apache-2.0 */
#include "simulated-device.h"

#include "base/bits.h"
#include "base/error.h"
#include "memory/buffer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct simulated_device {
	struct backend_device base;
	struct simulation *simulation;
	struct simulated_device_options options;
	struct simulated_device_counts counts;
	uint64_t tickets; /* given */
	uint64_t done;
	size_t stagings;
	bool full;
};

static const struct backend_ops simulated_ops;
static const struct backend_ops exporting_ops;

static struct simulated_device *of(struct backend_device *device)
{
	return (struct simulated_device *)device;
}

struct gds_device *simulated_device_open(struct simulation *simulation,
					 const struct simulated_device_options *options)
{
	struct gds_device *device = calloc(1, sizeof(*device));
	struct simulated_device *simulated = calloc(1, sizeof(*simulated));

	assert_non_null(device);
	assert_non_null(simulated);
	if (!simulation->copies)
		simulation->copies = calloc(SIMULATED_MOST_COPIES, sizeof(*simulation->copies));
	assert_non_null(simulation->copies);
	simulated->base.ops = options->slice_bytes ? &exporting_ops : &simulated_ops;
	simulated->simulation = simulation;
	simulated->options = *options;
	device->backend = &simulated->base;
	return device;
}

const struct simulated_device_counts *simulated_device_counts(const struct gds_device *device)
{
	return &of(device->backend)->counts;
}

void simulated_device_fill(struct gds_device *device)
{
	of(device->backend)->full = true;
}

static void simulated_close(struct backend_device *device)
{
	if (of(device)->stagings)
		simulation_fail(of(device)->simulation, "a device was closed with staging memory "
							"attached");
	free(device);
}

/* ---- Memory ------------------------------------------------------------------------ */

/* The address is random within its page, as an import's may be. */
static int simulated_alloc(struct backend_device *device, uint64_t bytes, uint32_t flags,
			   struct backend_memory **out)
{
	static const uint32_t steps[] = { 4096, 512, 4, 1 };
	struct simulated_device *simulated = of(device);
	struct random *random = &simulated->simulation->random;
	struct simulated_memory *memory;
	uint64_t base = random_below(random, 4096) / steps[random_below(random, 4)];

	if (simulated->full)
		return gds_fail(ENOMEM, "the simulated device is full");
	memory = calloc(1, sizeof(*memory));
	assert_non_null(memory);
	memory->allocation = aligned_alloc(4096, align_up(bytes, 4096) + 8192);
	memory->seen = malloc(bytes);
	assert_non_null(memory->allocation);
	assert_non_null(memory->seen);
	memset(memory->allocation, SIMULATED_POISON, align_up(bytes, 4096) + 8192);
	memset(memory->seen, SIMULATED_POISON, bytes);
	memory->host = memory->allocation;
	if (base < 4096 && !simulated->options.slice_bytes)
		memory->host += base;
	if (simulated->options.lie == SIMULATED_STALE) {
		memory->old = malloc(bytes);
		assert_non_null(memory->old);
		memset(memory->old, SIMULATED_POISON, bytes);
	}
	memory->simulation = simulated->simulation;
	memory->base = (struct backend_memory){
		.device = device,
		.bytes = bytes,
		.slice_bytes = simulated->options.slice_bytes,
		.host = simulated->options.host ? memory->host : NULL,
		.needs_publish = simulated->options.needs_publish,
		.placement = "simulated",
	};
	memory->next = simulated->simulation->memories;
	simulated->simulation->memories = memory;
	*out = &memory->base;
	return 0;
}

static void simulated_free(struct backend_memory *base)
{
	struct simulated_memory *memory = (struct simulated_memory *)base;
	struct simulation *simulation = memory->simulation;

	for (size_t i = 0; i < simulation->copy_count; i++)
		if (simulation->copies[i].copy.memory == base ||
		    simulation->copies[i].copy.source == base)
			simulation_fail(simulation, "memory was freed with copies in flight");
	for (size_t i = 0; i < simulation->read_count; i++)
		if (simulated_memory_at(simulation, simulation->reads[i].place,
					simulation->reads[i].read.length) == memory)
			simulation_fail(simulation, "memory was freed with reads into it");
	if (simulation_registrations(simulation, memory))
		simulation_fail(simulation, "memory was freed while a dma-buf of it is registered");
	memory->freed = true;
}

const unsigned char *simulated_memory_view(const struct simulated_memory *memory)
{
	return memory->seen;
}

bool simulated_memory_is_clean_around(const struct simulated_memory *memory)
{
	const unsigned char *end = memory->allocation + align_up(memory->base.bytes, 4096) + 8192;

	for (const unsigned char *byte = memory->allocation; byte < end; byte++)
		if ((byte < memory->host || byte >= memory->host + memory->base.bytes) &&
		    *byte != SIMULATED_POISON)
			return false;
	return true;
}

void simulated_memories_free(struct simulation *simulation)
{
	struct simulated_memory *memory;

	while ((memory = simulation->memories) != NULL) {
		simulation->memories = memory->next;
		free(memory->allocation);
		free(memory->seen);
		free(memory->old);
		free(memory);
	}
	free(simulation->copies);
	simulation->copies = NULL;
}

struct simulated_memory *simulated_memory_of(const struct gds_buffer *buffer)
{
	return (struct simulated_memory *)buffer->memory;
}

bool simulated_memory_is_freed(const struct simulated_memory *memory)
{
	return memory->freed;
}

struct simulated_memory *simulated_memory_at(struct simulation *simulation, const void *address,
					     uint64_t bytes)
{
	const unsigned char *first = address;
	struct simulated_memory *memory = simulation->memories;

	for (; memory; memory = memory->next) {
		if (first >= memory->host + memory->base.bytes || first + bytes <= memory->host)
			continue;
		if (first < memory->host || first + bytes > memory->host + memory->base.bytes)
			simulation_fail(simulation, "a read goes beyond a buffer's memory");
		return memory;
	}
	return NULL;
}

static int simulated_publish(struct backend_memory *base, uint64_t offset, uint64_t bytes)
{
	struct simulated_memory *memory = (struct simulated_memory *)base;

	if (memory->freed || !range_fits(offset, bytes, base->bytes))
		simulation_fail(memory->simulation, "publish beyond memory, or after its end");
	memcpy(memory->seen + offset, memory->host + offset, bytes);
	return 0;
}

static struct simulated_device *owner(const struct simulated_memory *memory)
{
	return of(memory->base.device);
}

void simulated_memory_written(struct simulated_memory *memory, const void *address, uint64_t count)
{
	uint64_t offset = (uint64_t)((const unsigned char *)address - memory->host);

	if (!memory->base.needs_publish)
		memcpy(memory->seen + offset, memory->host + offset, count);
}

/* ---- The direct path ----------------------------------------------------------------- */

void simulated_memory_dma(struct simulated_memory *memory, unsigned char *place,
			  const unsigned char *bytes, uint64_t count)
{
	const struct simulated_device *device = owner(memory);
	uint64_t offset = (uint64_t)(place - memory->host);

	switch (device->options.lie) {
	case SIMULATED_UNTOUCHED:
		return;
	case SIMULATED_PARTIAL:
		count /= 2;
		break;
	case SIMULATED_STALE:
		bytes = memory->old + offset;
		break;
	default:
		break;
	}
	memcpy(place, bytes, count);
	for (uint64_t i = 0; device->options.lie == SIMULATED_ELSEWHERE && i < count; i++)
		place[i] = (unsigned char)~bytes[i];
	if (!device->options.needs_acquire)
		memcpy(memory->seen + offset, place, count);
}

static int simulated_acquire(struct backend_memory *base, uint64_t offset, uint64_t bytes)
{
	struct simulated_memory *memory = (struct simulated_memory *)base;

	if (memory->freed || !range_fits(offset, bytes, base->bytes))
		simulation_fail(memory->simulation, "acquire beyond memory, or after its end");
	owner(memory)->counts.acquires++;
	memcpy(memory->seen + offset, memory->host + offset, bytes);
	return 0;
}

/* The slice, somewhere in a dma-buf that is whole pages. */
static int simulated_export(struct backend_memory *base, size_t slice,
			    struct backend_export *exported)
{
	struct simulated_memory *memory = (struct simulated_memory *)base;
	struct simulated_device *device = owner(memory);
	struct simulation *simulation = memory->simulation;
	uint64_t first = slice * base->slice_bytes;
	uint64_t bytes = min_u64(base->slice_bytes, base->bytes - first);
	struct stat status;

	if (memory->freed || first >= base->bytes)
		simulation_fail(simulation, "slice %zu of memory that has none such", slice);
	if (random_chance(&simulation->random, device->options.failing_exports))
		return gds_fail(EOPNOTSUPP, "the simulated device makes no dma-buf of this");
	exported->fd = memfd_create("gds-simulated-dmabuf", MFD_CLOEXEC);
	assert_int_equal(fstat(exported->fd, &status), 0);
	exported->offset = 4096 * random_below(&simulation->random, 3);
	exported->bytes = align_up(exported->offset + bytes, 4096);
	simulation->exported = (struct simulated_export){
		.inode = status.st_ino,
		.range = { .address = memory->host + first,
			   .bytes = bytes,
			   .memory = memory,
			   .offset = exported->offset },
	};
	device->counts.exports++;
	return 0;
}

static int judge_access(struct simulated_memory *memory, uint64_t offset, uint64_t bytes)
{
	struct simulated_device *device = owner(memory);

	if (memory->freed || !range_fits(offset, bytes, memory->base.bytes))
		simulation_fail(memory->simulation, "a blocking copy beyond memory");
	if (device->counts.lost)
		return gds_fail(EIO, "the simulated device is lost");
	if (random_chance(&memory->simulation->random, device->options.failing_calls)) {
		device->counts.faults++;
		return gds_fail(ENOMEM, "the simulation has no memory for copies");
	}
	return 0;
}

/* A submission of the device's own begins with what acquire() does. */
static int simulated_copy_out(struct backend_memory *base, uint64_t offset, void *data,
			      size_t bytes)
{
	struct simulated_memory *memory = (struct simulated_memory *)base;
	int err = judge_access(memory, offset, bytes);

	if (err)
		return err;
	memcpy(data, (owner(memory)->options.needs_acquire ? memory->host : memory->seen) + offset,
	       bytes);
	return 0;
}

static int simulated_copy_in(struct backend_memory *base, uint64_t offset, const void *data,
			     size_t bytes)
{
	struct simulated_memory *memory = (struct simulated_memory *)base;
	int err = judge_access(memory, offset, bytes);

	if (err)
		return err;
	if (memory->old)
		memcpy(memory->old + offset, memory->seen + offset, bytes);
	memcpy(memory->host + offset, data, bytes);
	memcpy(memory->seen + offset, data, bytes);
	return 0;
}

/* ---- Copies -------------------------------------------------------------------------- */

static int simulated_staging_attach(struct backend_device *device, void *host, size_t bytes,
				    struct backend_staging **staging)
{
	struct simulated_device *simulated = of(device);

	if (random_chance(&simulated->simulation->random, simulated->options.failing_calls)) {
		simulated->counts.faults++;
		return gds_fail(ENOMEM, "the simulation has no memory for staging");
	}
	*staging = calloc(1, sizeof(**staging));
	assert_non_null(*staging);
	**staging = (struct backend_staging){ .device = device, .host = host, .bytes = bytes };
	simulated->stagings++;
	return 0;
}

static void simulated_staging_detach(struct backend_staging *staging)
{
	struct simulated_device *simulated = of(staging->device);

	for (size_t i = 0; i < simulated->simulation->copy_count; i++)
		if (simulated->simulation->copies[i].copy.staging == staging)
			simulation_fail(simulated->simulation, "staging memory was detached with "
							       "copies from it");
	simulated->stagings--;
	free(staging);
}

/* Staging memory, or other memory of the device's. */
static const unsigned char *source_of(const struct backend_copy *copy)
{
	const unsigned char *host = copy->staging
					    ? copy->staging->host
					    : ((const struct simulated_memory *)copy->source)->host;

	return host + copy->source_offset;
}

bool simulated_copies_use(const struct simulation *simulation, const unsigned char *address,
			  uint64_t bytes)
{
	for (size_t i = 0; i < simulation->copy_count; i++) {
		const struct backend_copy *copy = &simulation->copies[i].copy;
		const unsigned char *from = source_of(copy);

		if (address < from + copy->bytes && from < address + bytes)
			return true;
	}
	return false;
}

static void perform(const struct backend_copy *copy)
{
	struct simulated_memory *memory = (struct simulated_memory *)copy->memory;
	const unsigned char *from = source_of(copy);

	memcpy(memory->host + copy->offset, from, copy->bytes);
	memcpy(memory->seen + copy->offset, from, copy->bytes);
}

static void judge_copy(struct simulated_device *simulated, const struct backend_copy *copy)
{
	struct simulated_memory *memory = (struct simulated_memory *)copy->memory;
	uint64_t source_bytes = copy->staging ? copy->staging->bytes : copy->source->bytes;
	const struct backend_device *source =
		copy->staging ? copy->staging->device : copy->source->device;

	if (memory->freed || copy->bytes == 0 ||
	    !range_fits(copy->offset, copy->bytes, memory->base.bytes) ||
	    !range_fits(copy->source_offset, copy->bytes, source_bytes))
		simulation_fail(simulated->simulation, "a copy of %llu bytes is out of bounds",
				(unsigned long long)copy->bytes);
	if (copy->memory->device != &simulated->base || source != &simulated->base)
		simulation_fail(simulated->simulation, "a copy names another device's memory");
}

static int simulated_copy(struct backend_device *device, const struct backend_copy *copies,
			  size_t count, uint64_t *ticket)
{
	struct simulated_device *simulated = of(device);
	struct simulation *simulation = simulated->simulation;

	simulated->counts.copies += count;
	for (size_t i = 0; i < count; i++)
		judge_copy(simulated, &copies[i]);
	if (simulated->counts.lost)
		return gds_fail(EIO, "the simulated device is lost");
	if (random_chance(&simulation->random, simulated->options.failing_calls)) {
		simulated->counts.faults++;
		return gds_fail(ENOMEM, "the simulation has no memory for copies");
	}
	*ticket = 0;
	if (!simulated->options.asynchronous || random_chance(&simulation->random, 100)) {
		for (size_t i = 0; i < count; i++)
			perform(&copies[i]);
		return 0;
	}
	*ticket = ++simulated->tickets;
	for (size_t i = 0; i < count; i++) {
		assert_true(simulation->copy_count < SIMULATED_MOST_COPIES);
		simulation->copies[simulation->copy_count++] =
			(struct simulated_copy){ copies[i], device, *ticket };
	}
	return 0;
}

/* Does the copies of tickets up to `last`, or drops them where the device is lost. */
static void finish_copies(struct simulated_device *simulated, uint64_t last, bool drop)
{
	struct simulation *simulation = simulated->simulation;
	size_t kept = 0;

	for (size_t i = 0; i < simulation->copy_count; i++) {
		struct simulated_copy *copy = &simulation->copies[i];

		if (copy->device != &simulated->base || copy->ticket > last)
			simulation->copies[kept++] = *copy;
		else if (!drop)
			perform(&copy->copy);
	}
	simulation->copy_count = kept;
	simulated->done = last;
}

static int simulated_copied(struct backend_device *device, uint64_t ticket, uint64_t timeout_ns,
			    uint64_t *done)
{
	struct simulated_device *simulated = of(device);
	struct random *random = &simulated->simulation->random;
	uint64_t behind = simulated->tickets - simulated->done;

	if (ticket == 0 || ticket > simulated->tickets)
		simulation_fail(simulated->simulation, "the device never gave ticket %llu",
				(unsigned long long)ticket);
	if (random_chance(random, simulated->options.loss))
		simulated->counts.lost = true;
	if (simulated->counts.lost) {
		finish_copies(simulated, simulated->tickets, true);
		return gds_fail(EIO, "the simulated device is lost");
	}
	/* A wait mostly gets what it waits for; looking by the way, now and then. */
	if (timeout_ns && random_chance(random, 800) && ticket > simulated->done)
		finish_copies(simulated, ticket, false);
	else if (random_chance(random, 300))
		finish_copies(simulated, simulated->done + random_between(random, 0, behind),
			      false);
	*done = simulated->done;
	return 0;
}

static const struct backend_ops simulated_ops = {
	.name = "simulated",
	.summary = "a device of the tests",
	.close = simulated_close,
	.alloc = simulated_alloc,
	.free = simulated_free,
	.staging_attach = simulated_staging_attach,
	.staging_detach = simulated_staging_detach,
	.copy = simulated_copy,
	.copied = simulated_copied,
	.publish = simulated_publish,
};

static const struct backend_ops exporting_ops = {
	.name = "simulated",
	.summary = "a device of the tests that exports dma-bufs",
	.close = simulated_close,
	.alloc = simulated_alloc,
	.free = simulated_free,
	.export_slice = simulated_export,
	.staging_attach = simulated_staging_attach,
	.staging_detach = simulated_staging_detach,
	.copy = simulated_copy,
	.copied = simulated_copied,
	.publish = simulated_publish,
	.acquire = simulated_acquire,
	.copy_out = simulated_copy_out,
	.copy_in = simulated_copy_in,
};
