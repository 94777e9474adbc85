/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other way to the bytes of a file: plain reads of this program's own, past
 * the library and, where the file system allows, past the page cache.
 */
#ifndef BENCH_SOURCE_H
#define BENCH_SOURCE_H

#include "status.h"

#include <stddef.h>
#include <stdint.h>

#define SOURCE_MOST_BYTES ((size_t)4 << 20)

struct source {
	const char *name;
	int fd;
	bool direct;
	unsigned char *memory; /* page aligned, with room for the pages at both ends */
};

enum status source_open(struct source *source, const char *name);

/*
 * Points `data` to `bytes` (at most SOURCE_MOST_BYTES) of the file, good until
 * the next call. A file that ends before is a failure.
 */
enum status source_read(struct source *source, uint64_t offset, size_t bytes, unsigned char **data);

void source_close(struct source *source);

#endif
