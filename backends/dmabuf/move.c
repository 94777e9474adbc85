/* SPDX-License-Identifier: Apache-2.0 */
#include "dmabuf/move.h"

#include <string.h>
#include <zlib.h>

#define WORD_BYTES  sizeof(uint64_t)
#define CHUNK_BYTES 4096

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Bytes up to the next word of a mapping. */
static size_t head_bytes(const volatile void *at, size_t bytes)
{
	return min_size(-(uintptr_t)at % WORD_BYTES, bytes);
}

static void read_bytes(unsigned char *to, const volatile unsigned char *from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		to[i] = from[i];
}

static void write_bytes(volatile unsigned char *to, const unsigned char *from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		to[i] = from[i];
}

void move_from_io(void *to, const volatile void *from, size_t bytes)
{
	const volatile unsigned char *source = from;
	unsigned char *target = to;
	size_t head = head_bytes(from, bytes);
	size_t words = (bytes - head) / WORD_BYTES;

	read_bytes(target, source, head);
	source += head;
	target += head;
	for (size_t i = 0; i < words; i++) {
		uint64_t word = ((const volatile uint64_t *)source)[i];

		memcpy(target + i * WORD_BYTES, &word, WORD_BYTES);
	}
	read_bytes(target + words * WORD_BYTES, source + words * WORD_BYTES,
		   bytes - head - words * WORD_BYTES);
}

void move_to_io(volatile void *to, const void *from, size_t bytes)
{
	volatile unsigned char *target = to;
	const unsigned char *source = from;
	size_t head = head_bytes(to, bytes);
	size_t words = (bytes - head) / WORD_BYTES;

	write_bytes(target, source, head);
	source += head;
	target += head;
	for (size_t i = 0; i < words; i++) {
		uint64_t word;

		memcpy(&word, source + i * WORD_BYTES, WORD_BYTES);
		((volatile uint64_t *)target)[i] = word;
	}
	write_bytes(target + words * WORD_BYTES, source + words * WORD_BYTES,
		    bytes - head - words * WORD_BYTES);
}

/* Source and target may lie differently in their words: a piece on the stack serves both. */
void move_within_io(volatile void *to, const volatile void *from, size_t bytes)
{
	unsigned char chunk[CHUNK_BYTES];

	for (size_t done = 0; done < bytes; done += CHUNK_BYTES) {
		size_t part = min_size(bytes - done, CHUNK_BYTES);

		move_from_io(chunk, (const volatile unsigned char *)from + done, part);
		move_to_io((volatile unsigned char *)to + done, chunk, part);
	}
}

uint32_t checksum_of_io(const volatile void *from, size_t bytes)
{
	unsigned char chunk[CHUNK_BYTES];
	uLong crc = crc32_z(0, NULL, 0);

	for (size_t done = 0; done < bytes; done += CHUNK_BYTES) {
		size_t part = min_size(bytes - done, CHUNK_BYTES);

		move_from_io(chunk, (const volatile unsigned char *)from + done, part);
		crc = crc32_z(crc, chunk, part);
	}
	return (uint32_t)crc;
}
