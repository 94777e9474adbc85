/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and times as people write them, in and out. */
#ifndef BENCH_SIZES_H
#define BENCH_SIZES_H

#include <stddef.h>
#include <stdint.h>

/*
 * Reads "4096", "4k", "4KiB", "1M", "2GiB", "1T": powers of 1024. Returns NULL, or
 * what is wrong with the text, in words. "4kB" is refused: it may mean 4000.
 */
const char *size_parse(const char *text, uint64_t *bytes);

/* Reads "10", "10s", "0.5s", "500ms", "2m". As size_parse(). */
const char *duration_parse(const char *text, uint64_t *nanoseconds);

#define SIZE_TEXT_BYTES 32

/* "86.7 MiB", or "4 KiB" where it is exactly that. Returns `text`. */
const char *size_format(char text[SIZE_TEXT_BYTES], double bytes);

/* "12.3 us", "4.56 ms". */
const char *duration_format(char text[SIZE_TEXT_BYTES], double nanoseconds);

#endif
