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

#include <cmocka.h>

struct simulated_device {
	struct backend_device base;
	struct simulation *simulation;
	struct simulated_device_options options;
	struct simulated_device_counts counts;
	uint64_t tickets; /* given */
	uint64_t done;
	size_t stagings;
};

static const struct backend_ops simulated_ops;

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
	simulated->base.ops = &simulated_ops;
	simulated->simulation = simulation;
	simulated->options = *options;
	device->backend = &simulated->base;
	return device;
}

const struct simulated_device_counts *simulated_device_counts(const struct gds_device *device)
{
	return &of(device->backend)->counts;
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
	struct simulated_memory *memory = calloc(1, sizeof(*memory));
	uint64_t base = random_below(random, 4096) / steps[random_below(random, 4)];

	assert_non_null(memory);
	memory->allocation = aligned_alloc(4096, align_up(bytes, 4096) + 8192);
	memory->seen = malloc(bytes);
	assert_non_null(memory->allocation);
	assert_non_null(memory->seen);
	memset(memory->allocation, SIMULATED_POISON, align_up(bytes, 4096) + 8192);
	memset(memory->seen, SIMULATED_POISON, bytes);
	memory->host = memory->allocation + (base < 4096 ? base : 0);
	memory->simulation = simulated->simulation;
	memory->base = (struct backend_memory){
		.device = device,
		.bytes = bytes,
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
		if (simulation->copies[i].copy.memory == base)
			simulation_fail(simulation, "memory was freed with copies into it");
	memory->freed = true;
}

const unsigned char *simulated_memory_view(const struct simulated_memory *memory)
{
	return memory->base.host && !memory->base.needs_publish ? memory->host : memory->seen;
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

bool simulated_copies_use(const struct simulation *simulation, const unsigned char *address,
			  uint64_t bytes)
{
	for (size_t i = 0; i < simulation->copy_count; i++) {
		const struct backend_copy *copy = &simulation->copies[i].copy;
		const unsigned char *from =
			(const unsigned char *)copy->staging->host + copy->source_offset;

		if (address < from + copy->bytes && from < address + bytes)
			return true;
	}
	return false;
}

static void perform(const struct backend_copy *copy)
{
	struct simulated_memory *memory = (struct simulated_memory *)copy->memory;
	const unsigned char *from =
		(const unsigned char *)copy->staging->host + copy->source_offset;

	memcpy(memory->host + copy->offset, from, copy->bytes);
	memcpy(memory->seen + copy->offset, from, copy->bytes);
}

static void judge_copy(struct simulated_device *simulated, const struct backend_copy *copy)
{
	struct simulated_memory *memory = (struct simulated_memory *)copy->memory;

	if (memory->freed || copy->bytes == 0 ||
	    !range_fits(copy->offset, copy->bytes, memory->base.bytes) ||
	    !range_fits(copy->source_offset, copy->bytes, copy->staging->bytes))
		simulation_fail(simulated->simulation, "a copy of %llu bytes is out of bounds",
				(unsigned long long)copy->bytes);
	if (copy->memory->device != &simulated->base || copy->staging->device != &simulated->base)
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
