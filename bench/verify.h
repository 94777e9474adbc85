/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The proof that a read delivered: before it, every byte of the destination is
 * made to differ from the file's; after it, every byte is compared.
 */
#ifndef BENCH_VERIFY_H
#define BENCH_VERIFY_H

#include "source.h"
#include "status.h"

#include <gds/gds.h>

struct verify {
	struct source source;
	uint32_t crc_before; /* of the file, while it was made poison */
	uint32_t crc_after;  /* of the file, while it was compared */
};

enum status verify_open(struct verify *verify, const char *name);
void verify_close(struct verify *verify);

/*
 * Fills `bytes` (at most SOURCE_MOST_BYTES) of the buffer with the complement of
 * what the file holds, so that no byte can be right without having been written.
 */
enum status verify_poison(struct verify *verify, struct gds_buffer *buffer, uint64_t offset,
			  uint64_t buffer_offset, size_t bytes);

/* Compares what the device held at the file's `offset`, as copied out to `device_bytes`. */
enum status verify_compare(struct verify *verify, uint64_t offset,
			   const unsigned char *device_bytes, size_t bytes);

/* The file must not have changed meanwhile, and the device must have summed what it held. */
enum status verify_finish(const struct verify *verify, const uint32_t *device_crc);

#endif
