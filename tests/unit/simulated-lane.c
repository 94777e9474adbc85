/* SPDX-License-Identifier: Apache-2.0 */
#include "simulated-lane.h"

#include "base/bits.h"
#include "simulated-device.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include <cmocka.h>

struct simulation *simulation_current;

struct simulated_lane {
	struct lane base;
	struct simulation *simulation;
};

static struct simulation *of(struct lane *lane)
{
	return ((struct simulated_lane *)lane)->simulation;
}

_Noreturn void simulation_fail(const struct simulation *simulation, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	print_error("GDS_TEST_SEED=%" PRIu64 ": %s\n", simulation->seed, text);
	fail();
	abort();
}

void simulation_open(struct simulation *simulation, uint64_t seed)
{
	*simulation = (struct simulation){
		.seed = seed,
		.random = { seed },
		.notify_fd = -1,
		.faults = { .direct_refused_from = UINT64_MAX,
			    .address_refused_from = UINT64_MAX,
			    .revoked_from = UINT64_MAX },
	};
	simulation->reads = calloc(SIMULATED_MOST_READS, sizeof(*simulation->reads));
	assert_non_null(simulation->reads);
	simulation_current = simulation;
}

void simulation_close(struct simulation *simulation)
{
	if (simulation->lane_open)
		simulation_fail(simulation, "the lane was never closed");
	free(simulation->reads);
	simulation_current = NULL;
}

/* ---- The lane's table: opening, files and buffers -------------------------------- */

static int simulated_open(struct lane **out, const struct lane_options *options)
{
	struct simulated_lane *lane = calloc(1, sizeof(*lane));

	assert_non_null(lane);
	lane->base.ops = &lane_simulated;
	lane->simulation = simulation_current;
	lane->simulation->depth = options->depth;
	lane->simulation->lane_open = true;
	*out = &lane->base;
	return 0;
}

static void simulated_close(struct lane *lane)
{
	struct simulation *simulation = of(lane);

	if (simulation->read_count)
		simulation_fail(simulation, "the lane was closed with %zu reads in flight",
				simulation->read_count);
	simulation->lane_open = false;
	free(lane);
}

static int simulated_file_add(struct lane *lane, int fd, uint32_t *file)
{
	struct simulation *simulation = of(lane);
	struct stat status;
	uint32_t slot = 0;
	size_t i = 0;

	assert_int_equal(fstat(fd, &status), 0);
	while (i < simulation->file_count && simulation->files[i].inode != status.st_ino)
		i++;
	if (i == simulation->file_count)
		simulation_fail(simulation, "descriptor %d is of no file of the simulation", fd);
	while (simulation->slots[slot].file)
		assert_true(++slot < SIMULATED_SLOTS);
	simulation->slots[slot].file = &simulation->files[i];
	simulation->slots[slot].direct = fd == simulation->files[i].direct_fd;
	*file = slot;
	return 0;
}

static void simulated_file_remove(struct lane *lane, uint32_t file)
{
	struct simulation *simulation = of(lane);

	if (file >= SIMULATED_SLOTS || !simulation->slots[file].file)
		simulation_fail(simulation, "file %u was removed, and is none", file);
	for (size_t i = 0; i < simulation->read_count; i++)
		if (simulation->reads[i].read.file == file)
			simulation_fail(simulation, "file %u was removed with reads of it %s", file,
					simulation->reads[i].handed_over ? "in flight" : "queued");
	for (size_t i = 0; i < SIMULATED_SLOTS && simulation->slots[file].direct; i++)
		if (simulation->buffers[i].memory &&
		    simulation->buffers[i].target == simulation->slots[file].file)
			simulation_fail(simulation, "file %u was removed with a dma-buf for it",
					file);
	simulation->slots[file].file = NULL;
}

static int simulated_buffer_add(struct lane *lane, void *address, size_t bytes, uint32_t *buffer)
{
	struct simulation *simulation = of(lane);
	uint32_t slot = 0;

	if (random_chance(&simulation->random, simulation->faults.refused_buffers))
		return simulation->faults.refusal;
	while (simulation->buffers[slot].address)
		assert_true(++slot < SIMULATED_SLOTS);
	simulation->buffers[slot] = (struct simulated_range){ .address = address, .bytes = bytes };
	*buffer = slot;
	return 0;
}

static const struct simulated_file *file_of(const struct simulation *simulation, int fd)
{
	for (size_t i = 0; i < simulation->file_count; i++)
		if (simulation->files[i].direct_fd == fd)
			return &simulation->files[i];
	simulation_fail(simulation, "a dma-buf for descriptor %d, which has no O_DIRECT", fd);
}

static int simulated_dmabuf_add(struct lane *lane, int fd, int dmabuf, uint32_t *buffer)
{
	static const int refusals[] = { ENOMEM, EBADF, EINVAL, EOPNOTSUPP, ENXIO };
	struct simulation *simulation = of(lane);
	const struct simulated_file *target = file_of(simulation, fd);
	struct stat status;
	uint32_t slot = 0;

	assert_int_equal(fstat(dmabuf, &status), 0);
	if (status.st_ino != simulation->exported.inode)
		simulation_fail(simulation, "descriptor %d is not the last dma-buf", dmabuf);
	if (random_chance(&simulation->random, simulation->faults.refused_dmabufs)) {
		simulation->dmabufs_refused++;
		return -refusals[random_below(&simulation->random, 5)];
	}
	if (simulation->dmabufs == simulation->dmabuf_slots)
		return -ENOSPC;
	while (simulation->buffers[slot].address)
		assert_true(++slot < SIMULATED_SLOTS);
	simulation->buffers[slot] = simulation->exported.range;
	simulation->buffers[slot].target = target;
	simulation->dmabufs++;
	simulation->dmabufs_registered++;
	*buffer = slot;
	return 0;
}

size_t simulation_registrations(const struct simulation *simulation,
				const struct simulated_memory *memory)
{
	size_t count = 0;

	for (size_t i = 0; i < SIMULATED_SLOTS; i++)
		count += simulation->buffers[i].address && simulation->buffers[i].memory == memory;
	return count;
}

static void simulated_buffer_remove(struct lane *lane, uint32_t buffer)
{
	struct simulation *simulation = of(lane);

	if (buffer >= SIMULATED_SLOTS || !simulation->buffers[buffer].address)
		simulation_fail(simulation, "buffer %u was removed, and is none", buffer);
	for (size_t i = 0; i < simulation->read_count; i++)
		if (simulation->reads[i].read.buffer == buffer)
			simulation_fail(simulation, "buffer %u was removed with reads in flight",
					buffer);
	simulation->dmabufs -= simulation->buffers[buffer].memory != NULL;
	simulation->buffers[buffer] = (struct simulated_range){ 0 };
}

/* ---- Judging a read --------------------------------------------------------------- */

static bool ranges_meet(const unsigned char *a, uint64_t a_bytes, const unsigned char *b,
			uint64_t b_bytes)
{
	return a < b + b_bytes && b < a + a_bytes;
}

/* Where the bytes of a read go, which may name a dma-buf. */
static unsigned char *place_of(struct simulation *simulation, const struct lane_read *read)
{
	const struct simulated_range *range;
	uint64_t offset = (uintptr_t)read->address;

	if (read->buffer == LANE_NO_BUFFER)
		return read->address;
	if (read->buffer >= SIMULATED_SLOTS || !simulation->buffers[read->buffer].address)
		simulation_fail(simulation, "a read names buffer %u, which is none", read->buffer);
	range = &simulation->buffers[read->buffer];
	if (!range->memory)
		return read->address;
	if (range->target != simulation->slots[read->file].file ||
	    !simulation->slots[read->file].direct)
		simulation_fail(simulation, "a read into another file's dma-buf");
	if (offset < range->offset)
		simulation_fail(simulation, "a read before the slice of its dma-buf");
	return (unsigned char *)range->address + (offset - range->offset);
}

static bool is_dma(const struct simulation *simulation, const struct lane_read *read)
{
	return read->buffer != LANE_NO_BUFFER && simulation->buffers[read->buffer].memory;
}

static void judge_alignment(struct simulation *simulation, const struct lane_read *read)
{
	const struct simulated_file *file = simulation->slots[read->file].file;
	uint32_t memory_align = file->memory_align;

	if (!simulation->slots[read->file].direct)
		return;
	/* A dma-buf takes whole blocks at such places. */
	if (is_dma(simulation, read))
		memory_align = file->offset_align;
	if (read->offset % file->offset_align || read->length % file->offset_align ||
	    (uintptr_t)read->address % memory_align)
		simulation_fail(simulation,
				"O_DIRECT: %u bytes at %" PRIu64
				" to %p are not aligned to %u in the file, %u in memory",
				read->length, read->offset, read->address, file->offset_align,
				memory_align);
}

static void judge_memory(struct simulation *simulation, const struct lane_read *read,
			 const unsigned char *address)
{
	const struct simulated_range *buffer;

	for (size_t i = 0; i < simulation->read_count; i++) {
		const struct lane_read *other = &simulation->reads[i].read;

		if (other->token == read->token)
			simulation_fail(simulation, "token %" PRIu64 " is in use", read->token);
		if (ranges_meet(address, read->length, simulation->reads[i].place, other->length))
			simulation_fail(simulation, "two reads in flight share memory");
	}
	if (simulated_copies_use(simulation, address, read->length))
		simulation_fail(simulation, "a read goes to staging memory that a device still "
					    "copies from");
	if (read->buffer == LANE_NO_BUFFER)
		return;
	buffer = &simulation->buffers[read->buffer];
	if (address < buffer->address || address + read->length > buffer->address + buffer->bytes)
		simulation_fail(simulation, "a read lies outside of the buffer that it names");
}

static void simulated_queue(struct lane *lane, const struct lane_read *read)
{
	struct simulation *simulation = of(lane);
	struct simulated_read *queued = &simulation->reads[simulation->read_count];
	unsigned char *place;

	if (simulation->read_count >= simulation->depth)
		simulation_fail(simulation, "more than %u reads were queued", simulation->depth);
	if (read->file >= SIMULATED_SLOTS || !simulation->slots[read->file].file)
		simulation_fail(simulation, "a read names file %u, which is none", read->file);
	if (read->length == 0)
		simulation_fail(simulation, "a read of nothing was queued");
	if (read->length > simulation->most_bytes)
		simulation_fail(simulation, "a read of %u bytes, of %u at most", read->length,
				simulation->most_bytes);
	place = place_of(simulation, read);
	judge_alignment(simulation, read);
	judge_memory(simulation, read, place);
	*queued = (struct simulated_read){ .read = *read, .place = place };
	simulation->read_count++;
	simulation->operations++;
	if (simulation->read_count > simulation->most_in_flight)
		simulation->most_in_flight = (uint32_t)simulation->read_count;
}

/* ---- Time ------------------------------------------------------------------------- */

static void hand_over(struct simulation *simulation)
{
	for (size_t i = 0; i < simulation->read_count; i++) {
		struct simulated_read *read = &simulation->reads[i];

		if (read->handed_over)
			continue;
		read->handed_over = true;
		read->due_ns =
			simulation->clock_ns +
			random_below(&simulation->random, simulation->faults.longest_read_ns + 1);
	}
}

/* When the next read in flight ends. UINT64_MAX where there is none. */
static uint64_t next_due_ns(const struct simulation *simulation)
{
	uint64_t due_ns = UINT64_MAX;

	for (size_t i = 0; i < simulation->read_count; i++)
		if (simulation->reads[i].handed_over)
			due_ns = min_u64(due_ns, simulation->reads[i].due_ns);
	return due_ns;
}

static void tell(struct simulation *simulation)
{
	if (simulation->notify_fd >= 0 && next_due_ns(simulation) <= simulation->clock_ns)
		eventfd_write(simulation->notify_fd, 1);
}

bool simulation_pass_time(struct simulation *simulation)
{
	uint64_t due_ns = next_due_ns(simulation);

	if (due_ns == UINT64_MAX)
		return false;
	simulation->clock_ns = max_u64(simulation->clock_ns, due_ns);
	tell(simulation);
	return true;
}

static int simulated_enter(struct lane *lane, uint64_t wait_ns, uint32_t gather)
{
	struct simulation *simulation = of(lane);
	uint64_t due_ns;

	hand_over(simulation);
	simulation->clock_ns += random_below(&simulation->random, 1000);
	if (random_chance(&simulation->random, simulation->faults.interrupted_enters))
		return -EINTR;
	due_ns = next_due_ns(simulation);
	/* Without threads no wake-up can come: with nothing in flight it is for ever. */
	if (wait_ns && due_ns == UINT64_MAX)
		simulation_fail(simulation, "the reader waits, and nothing is in flight");
	if (wait_ns && due_ns > simulation->clock_ns)
		simulation->clock_ns = wait_ns < due_ns - simulation->clock_ns
					       ? simulation->clock_ns + wait_ns
					       : due_ns;
	/* It may, or may not. */
	if (wait_ns > LANE_GATHER_NS && gather > 1)
		simulation->clock_ns += random_below(&simulation->random, LANE_GATHER_NS);
	tell(simulation);
	return 0;
}

/* ---- The end of a read -------------------------------------------------------------- */

/* Bytes from `offset` on that come before a bad place or the end of the file. */
static uint64_t good_bytes(const struct simulated_file *file, uint64_t offset, uint64_t length)
{
	uint64_t end;

	if (offset >= file->bytes)
		return 0;
	end = min_u64(offset + length, file->bytes);
	for (uint64_t at = offset; at < end;
	     at = align_down(at, SIMULATED_BAD_BYTES) + SIMULATED_BAD_BYTES)
		if (file->bad[at / SIMULATED_BAD_BYTES])
			return at - offset;
	return end - offset;
}

bool simulated_file_is_good(const struct simulated_file *file, uint64_t offset, uint64_t length)
{
	uint64_t end = min_u64(offset + length, file->bytes);

	return offset >= end || good_bytes(file, offset, length) == end - offset;
}

/* What the storage answers. Bytes that do not arrive may hold anything. */
static int32_t serve(struct simulation *simulation, const struct simulated_read *in_flight,
		     struct simulated_memory *memory)
{
	const struct lane_read *read = &in_flight->read;
	const struct simulated_file *file = simulation->slots[read->file].file;
	uint64_t bytes = good_bytes(file, read->offset, read->length);

	if (bytes == 0 && read->offset < file->bytes)
		return -EIO;
	if (bytes > file->offset_align &&
	    random_chance(&simulation->random, simulation->faults.short_reads)) {
		simulation->transient_faults++;
		bytes = align_down(
			random_between(&simulation->random, file->offset_align, bytes - 1),
			file->offset_align);
	}
	if (is_dma(simulation, read)) {
		simulated_memory_dma(memory, in_flight->place, file->image + read->offset, bytes);
		return (int32_t)bytes;
	}
	/* A drive writes whole blocks, across the end of the file too. */
	memset(read->address, 0xdb,
	       simulation->slots[read->file].direct ? read->length : (size_t)bytes);
	memcpy(read->address, file->image + read->offset, bytes);
	if (memory)
		simulated_memory_written(memory, read->address, read->length);
	return (int32_t)bytes;
}

static int32_t result_of(struct simulation *simulation, const struct simulated_read *read,
			 uint64_t number)
{
	static const int again[] = { EAGAIN, EINTR, ECANCELED };
	struct simulated_memory *memory =
		simulated_memory_at(simulation, read->place, read->read.length);
	bool dma = is_dma(simulation, &read->read);

	if (memory && simulated_memory_is_freed(memory))
		simulation_fail(simulation, "the storage writes into memory that was freed");
	if (read->cancelled)
		return -ECANCELED;
	if (simulation->slots[read->read.file].direct &&
	    number >= simulation->faults.direct_refused_from)
		return -EINVAL;
	if (dma && number >= simulation->faults.revoked_from)
		return simulation->faults.revocation;
	if (dma && random_chance(&simulation->random, simulation->faults.moved_dmabufs))
		return -EAGAIN;
	simulation->dmabuf_reads += dma;
	if (memory && !dma && number >= simulation->faults.address_refused_from)
		return -EFAULT;
	if (random_chance(&simulation->random, simulation->faults.try_again)) {
		simulation->transient_faults++;
		return -again[random_below(&simulation->random, 3)];
	}
	return serve(simulation, read, memory);
}

/* Any read that is due may be the next to end. */
static bool take_due(struct simulation *simulation, struct simulated_read *taken)
{
	size_t due = 0;
	size_t pick;

	for (size_t i = 0; i < simulation->read_count; i++)
		due += simulation->reads[i].handed_over &&
		       simulation->reads[i].due_ns <= simulation->clock_ns;
	if (due == 0)
		return false;
	pick = random_below(&simulation->random, due);
	for (size_t i = 0; i < simulation->read_count; i++) {
		if (!simulation->reads[i].handed_over ||
		    simulation->reads[i].due_ns > simulation->clock_ns || pick-- > 0)
			continue;
		*taken = simulation->reads[i];
		simulation->reads[i] = simulation->reads[--simulation->read_count];
		break;
	}
	return true;
}

static size_t simulated_reap(struct lane *lane, const struct lane_completion **completions)
{
	struct simulation *simulation = of(lane);
	struct lane_completion *reaped = simulation->reaped;
	struct simulated_read read = { 0 };
	size_t count = 0;

	while (count < SIMULATED_REAP && take_due(simulation, &read)) {
		reaped[count].token = read.read.token;
		reaped[count].result = result_of(simulation, &read, simulation->operations);
		count++;
	}
	*completions = reaped;
	return count;
}

static void simulated_cancel(struct lane *lane, uint64_t token)
{
	struct simulation *simulation = of(lane);

	for (size_t i = 0; i < simulation->read_count; i++) {
		if (simulation->reads[i].read.token != token)
			continue;
		if (!random_chance(&simulation->random, simulation->faults.ignored_cancels)) {
			simulation->reads[i].cancelled = true;
			simulation->reads[i].due_ns = simulation->clock_ns;
		}
		return;
	}
	simulation_fail(simulation, "cancel of token %" PRIu64 ", which is not in flight", token);
}

static void simulated_wake(struct lane *lane)
{
	if (!of(lane)->lane_open)
		simulation_fail(of(lane), "wake() of a closed lane");
}

static int simulated_notify(struct lane *lane, int eventfd)
{
	of(lane)->notify_fd = eventfd;
	return 0;
}

const struct lane_ops lane_simulated = {
	.name = "simulated",
	.open = simulated_open,
	.close = simulated_close,
	.file_add = simulated_file_add,
	.file_remove = simulated_file_remove,
	.buffer_add = simulated_buffer_add,
	.buffer_remove = simulated_buffer_remove,
	.dmabuf_add = simulated_dmabuf_add,
	.queue = simulated_queue,
	.enter = simulated_enter,
	.reap = simulated_reap,
	.cancel = simulated_cancel,
	.wake = simulated_wake,
	.notify = simulated_notify,
};
