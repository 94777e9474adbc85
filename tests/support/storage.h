/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Things to read from for tests on the real kernel: folders that go away with the
 * test, files of known bytes, and loop devices.
 */
#ifndef GDS_TESTS_STORAGE_H
#define GDS_TESTS_STORAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

/* A new folder on the disk, or on tmpfs. `path` has room for 64 bytes. */
bool folder_make(char path[64], bool tmpfs);
/* With the files in it. NULL-like "" is fine. */
void folder_remove(const char *path);

/* The byte that made files hold at this offset: no two blocks are alike. */
static inline unsigned char pattern_byte(uint64_t offset)
{
	uint64_t word = (offset / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15);

	return (unsigned char)((word ^ word >> 29) >> 8 * (offset % 8));
}

void pattern_fill(void *bytes, uint64_t offset, uint64_t count);
/* Whether the bytes are those of the pattern from `offset` on. */
bool pattern_matches(const void *bytes, uint64_t offset, uint64_t count);

/* Makes the file, or writes the pattern to a range of it. */
void file_write_pattern(const char *path, uint64_t offset, uint64_t count);
void file_resize(const char *path, uint64_t bytes);

/*
 * A loop device over the file, with direct I/O and the given block size, that ends
 * when its descriptor is closed. The descriptor, or -1 with the reason.
 */
int loop_open(const char *file, uint32_t block_bytes, char path[64], const char **reason);

#endif
