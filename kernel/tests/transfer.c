// SPDX-License-Identifier: GPL-2.0-only
#include "transfer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test.h"

enum { RING_ENTRIES = 64, SCRATCH_SEED = 0x5c };

static bool variable_is(const char *name, const char *value)
{
	const char *set = getenv(name);

	return set && strcmp(set, value) == 0;
}

void skip_unless_reachable(const struct exporter *exporter, const char *serial)
{
	bool below_one_switch = exporter == &exporter_vfio_near && strcmp(serial, "nvme0") == 0 &&
				variable_is("GDS_VM_TOPOLOGY", "switch");
	bool translated = variable_is("GDS_VM_IOMMU", "strict") || variable_is("GDS_VM_IOMMU", "lazy");

	if (below_one_switch && translated)
		test_skip("QEMU sends bus addresses below a switch through the IOMMU");
}

void setup_open(struct setup *setup, enum shape shape, const char *serial,
		const struct exporter *exporter, size_t bytes)
{
	skip_unless_reachable(exporter, serial);
	setup->shape = shape;
	disk_open(&setup->disk, serial);
	memory_open(&setup->memory, exporter, bytes);
	ring_open(&setup->ring, RING_ENTRIES, 0);
	register_or_fail(&setup->ring, shape, 0, setup->disk.fd, setup->memory.dmabuf_fd);
}

void setup_close(struct setup *setup)
{
	ring_close(&setup->ring);
	memory_close(&setup->memory);
	disk_close(&setup->disk);
}

static void check_poison(const struct memory *memory, size_t start, size_t end, const char *where)
{
	int64_t wrong = poison_check(memory->map + start, end - start);

	CHECK(wrong < 0, "byte %zu, %s the read, was written", start + (size_t)wrong, where);
}

void compare_span(const struct memory *memory, const struct disk *disk, const struct span *span,
		  size_t margin)
{
	size_t start = span->buffer_offset;
	size_t end = start + span->length;
	size_t before = start > margin ? start - margin : 0;
	size_t after = end + margin < memory->bytes ? end + margin : memory->bytes;
	int64_t wrong;

	memory_begin(memory);
	wrong = pattern_check(memory->map + start, span->length, disk->seed, span->file_offset);
	CHECK(wrong < 0, "wrong byte at %lld of a read of %u bytes at %llu into offset %zu",
	      (long long)wrong, span->length, (unsigned long long)span->file_offset, start);
	check_poison(memory, before, start, "before");
	check_poison(memory, end, after, "behind");
	memory_end(memory);
}

void read_and_compare(struct setup *setup, unsigned slot, const struct span *span)
{
	struct fixed_io io = {.fd = setup->disk.fd,
			      .slot = slot,
			      .buffer_offset = span->buffer_offset,
			      .length = span->length,
			      .file_offset = span->file_offset};

	memory_poison(&setup->memory);
	CHECK_EQ(ring_do_again(&setup->ring, &io), span->length,
		 "reading %u bytes at %llu into offset %llu", span->length,
		 (unsigned long long)span->file_offset, (unsigned long long)span->buffer_offset);
	compare_span(&setup->memory, &setup->disk, span, setup->memory.bytes);
}

static void read_back(const struct disk *disk, const struct span *span)
{
	void *buffer = mmap(NULL, span->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	int64_t wrong;

	CHECK(buffer != MAP_FAILED, "mmap: %s", strerror(errno));
	CHECK_EQ(pread(disk->fd, buffer, span->length, (off_t)span->file_offset), span->length,
		 "reading back");
	wrong = pattern_check(buffer, span->length, SCRATCH_SEED, span->buffer_offset);
	CHECK(wrong < 0, "wrong byte at %lld of a write of %u bytes from offset %llu",
	      (long long)wrong, span->length, (unsigned long long)span->buffer_offset);
	munmap(buffer, span->length);
}

void write_and_compare(struct setup *setup, unsigned slot, const struct span *span)
{
	struct fixed_io io = {.opcode = IORING_OP_WRITE_FIXED,
			      .fd = setup->disk.fd,
			      .slot = slot,
			      .buffer_offset = span->buffer_offset,
			      .length = span->length,
			      .file_offset = span->file_offset};

	memory_begin(&setup->memory);
	pattern_fill(setup->memory.map + span->buffer_offset, span->length, SCRATCH_SEED,
		     span->buffer_offset);
	memory_end(&setup->memory);
	CHECK_EQ(ring_do_again(&setup->ring, &io), span->length, "writing %u bytes", span->length);
	read_back(&setup->disk, span);
}
