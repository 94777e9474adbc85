/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bar with the rate and the time left, drawn on standard error where that is a
 * terminal, and nothing at all otherwise.
 */
#ifndef BENCH_PROGRESS_H
#define BENCH_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* Finds out whether there is a terminal, and has log lines step around the bar. */
void progress_setup(void);

/* `work` is what there is to do in all, in whatever unit progress_update() counts. */
void progress_begin(const char *file, uint64_t work);

/*
 * Draws, ten times a second at most. `rate` in bytes a second is shown as it is
 * given: it is that of the reads alone, while the time left counts all work.
 */
void progress_update(uint64_t done, double rate);

/* Takes the bar off the terminal, so that a line can be printed. */
void progress_clear(void);

#endif
