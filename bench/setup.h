/* SPDX-License-Identifier: Apache-2.0 */
/* What read and bench both need: a reader and a device, as the options say. */
#ifndef BENCH_SETUP_H
#define BENCH_SETUP_H

#include "options.h"
#include "status.h"

#include <gds/gds.h>

#define DEFAULT_DEVICE "vulkan:0"

#define PAGE_BYTES          4096u
#define MOST_TRANSFER_BYTES ((uint64_t)64 << 20)

struct setup {
	struct gds_reader *reader;
	struct gds_device *device;
	struct gds_device_info info;
};

/* Says what went wrong and leaves nothing open on failure. */
enum status setup_open(struct setup *setup, const struct options *options);

void setup_close(struct setup *setup);

enum status reader_open(struct gds_reader **reader, const struct options *options);
enum status device_open(struct gds_device **device, const char *name);

struct gds_batch_options batch_options(const struct options *options, size_t capacity);

static inline uint64_t round_up(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit * unit;
}

static inline uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/*
 * Called some times a second while waiting. Nothing of the library's may be called
 * that changes the batch.
 */
typedef void wait_tick(void *user);

/*
 * Waits for a batch. A signal cancels it; then, as with any failure, the batch is
 * complete when this returns, and the line has been said.
 */
enum status batch_finish(struct gds_batch *batch, const char *file, wait_tick *tick, void *user);

/* Cancels and waits until the storage has let go of the buffers. Says that a signal came. */
enum status batch_abandon(struct gds_batch *batch, const char *file);

/* Says what a signal interrupted. */
enum status fail_signal(const char *file);

#endif
