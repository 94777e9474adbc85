/* SPDX-License-Identifier: GPL-2.0-only */
/* One read or write, and the proof of what it did. */
#ifndef KERNEL_TESTS_TRANSFER_H
#define KERNEL_TESTS_TRANSFER_H

#include "disk.h"
#include "memory.h"
#include "ring.h"

/* A disk, an exporter's memory and a ring in which the one is registered for the
 * other in slot 0. */
struct setup {
	struct disk disk;
	struct memory memory;
	struct ring ring;
	enum shape shape;
};

void setup_open(struct setup *setup, enum shape shape, const char *serial,
		const struct exporter *exporter, size_t bytes);
void setup_close(struct setup *setup);

/* Whether bytes can reach the memory at all; skips with the reason if not. */
void skip_unless_reachable(const struct exporter *exporter, const char *serial);

struct span {
	uint64_t buffer_offset;
	uint32_t length;
	uint64_t file_offset;
};

/* Poisons the memory, reads, and compares every byte of it: the pattern where the
 * read went, poison everywhere else. */
void read_and_compare(struct setup *setup, unsigned slot, const struct span *span);
/* Writes the pattern of a seed from the memory, reads it back the ordinary way. */
void write_and_compare(struct setup *setup, unsigned slot, const struct span *span);

/* Compares a span that was read, and poison for `margin` bytes on each side. */
void compare_span(const struct memory *memory, const struct disk *disk, const struct span *span,
		  size_t margin);

#endif
