/* SPDX-License-Identifier: Apache-2.0 */
/* The file of --output: it has no name, or one of its own, until it is complete. */
#ifndef BENCH_OUTPUT_H
#define BENCH_OUTPUT_H

#include "status.h"

#include <stddef.h>

struct output {
	const char *name;
	char *temporary; /* beside it; NULL while the file has no name at all */
	int fd;          /* -1 where there is no output */
};

/* Refuses to replace `input`, and whatever is no regular file. */
enum status output_open(struct output *output, const char *name, const char *input);

enum status output_write(struct output *output, const void *data, size_t bytes);

/* The file appears, in place of an older one of its name. */
enum status output_commit(struct output *output);

/* Leaves nothing of an output that was not committed. */
void output_close(struct output *output);

#endif
