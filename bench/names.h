/* SPDX-License-Identifier: Apache-2.0 */
/* The files that operands stand for: a directory stands for all that are below it. */
#ifndef BENCH_NAMES_H
#define BENCH_NAMES_H

#include "status.h"

#include <stddef.h>

struct names {
	char **list; /* in the order of the operands, those of a directory sorted */
	size_t count;
	size_t room;
};

/*
 * An operand may be a symbolic link; those below a directory are not followed. What is no
 * regular file is left out.
 */
enum status names_expand(struct names *names, const char *const *operands, size_t count);

/* Adds the names of `more` at the end. */
enum status names_join(struct names *names, const struct names *more);

void names_free(struct names *names);

#endif
