/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving bytes to and from a mapping that may be a device's BAR. There a copy must
 * consist of single, aligned words: wider or unaligned accesses are refused by some
 * processors and virtual machines. The ranges never overlap.
 */
#ifndef GDS_BACKENDS_DMABUF_MOVE_H
#define GDS_BACKENDS_DMABUF_MOVE_H

#include <stddef.h>
#include <stdint.h>

void move_from_io(void *to, const volatile void *from, size_t bytes);
void move_to_io(volatile void *to, const void *from, size_t bytes);
void move_within_io(volatile void *to, const volatile void *from, size_t bytes);
/* zlib's CRC-32. */
uint32_t checksum_of_io(const volatile void *from, size_t bytes);

#endif
