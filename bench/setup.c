/* SPDX-License-Identifier: Apache-2.0 */
/* What read and bench both need: a reader and a device, as the options say. */
#include "setup.h"

#include "signals.h"
#include "sizes.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define TICK_NS              100000000
#define STANDARD_STAGING     ((uint64_t)64 << 20)
#define STAGING_LEAST_PIECES 4

static enum status choose_staging(const struct options *options, uint64_t transfer_bytes,
				  uint64_t *staging_bytes)
{
	uint64_t need = STAGING_LEAST_PIECES * transfer_bytes;
	char size[SIZE_TEXT_BYTES];

	*staging_bytes = options->staging_bytes;
	if (options->staging_bytes == 0)
		*staging_bytes = need > STANDARD_STAGING ? need : STANDARD_STAGING;
	if (*staging_bytes % PAGE_BYTES)
		return fail(STATUS_USAGE, "bad value: --staging %" PRIu64 ": give a multiple of 4k",
			    *staging_bytes);
	if (*staging_bytes < need)
		return fail(STATUS_USAGE,
			    "staging too small: --staging %s: give at least 4 times "
			    "the --bs of one operation",
			    size_format(size, (double)options->staging_bytes));
	return STATUS_OK;
}

enum status reader_open(struct gds_reader **reader, const struct options *options)
{
	static const uint32_t shapes[] = { GDS_DMABUF_NEWEST, GDS_DMABUF_PAIRS,
					   GDS_DMABUF_DESCRIPTORS };
	struct gds_reader_options settings = {
		.size = sizeof(settings),
		.flags = GDS_READER_SINGLE_THREAD | (options->no_canary ? GDS_READER_NO_CANARY : 0),
		.dmabuf_shape = shapes[options->shape],
		.lane = (uint32_t)options->lane,
		.queue_depth = (uint32_t)options->queue_depth,
		.threads = (uint32_t)options->threads,
		.transfer_bytes = round_up(options->block_bytes, PAGE_BYTES),
	};
	enum status status;
	int error;

	status = choose_staging(options, settings.transfer_bytes, &settings.staging_bytes);
	if (status != STATUS_OK)
		return status;
	error = gds_reader_open(reader, &settings);
	if (error == -EINVAL)
		return fail(STATUS_USAGE, "%s", gds_last_error());
	if (error && options->lane != GDS_LANE_AUTO)
		return fail_unavailable(error);
	return error ? fail_library(error) : STATUS_OK;
}

enum status device_open(struct gds_device **device, const char *name)
{
	int error = gds_device_open(device, name);

	return error ? fail_unavailable(error) : STATUS_OK;
}

enum status setup_open(struct setup *setup, const struct options *options)
{
	enum status status;
	int error;

	memset(setup, 0, sizeof(*setup));
	status = device_open(&setup->device, options->device ? options->device : DEFAULT_DEVICE);
	if (status != STATUS_OK)
		return status;
	setup->info.size = sizeof(setup->info);
	error = gds_device_get_info(setup->device, &setup->info);
	status = error ? fail_library(error) : reader_open(&setup->reader, options);
	if (status != STATUS_OK)
		setup_close(setup);
	return status;
}

void setup_close(struct setup *setup)
{
	gds_reader_close(setup->reader);
	gds_device_close(setup->device);
	memset(setup, 0, sizeof(*setup));
}

struct gds_batch_options batch_options(const struct options *options, size_t capacity)
{
	return (struct gds_batch_options){
		.size = sizeof(struct gds_batch_options),
		.path = (uint32_t)options->path,
		.flags = options->no_fallback ? GDS_BATCH_NO_FALLBACK : 0,
		.capacity = capacity,
		.read_class = (uint32_t)options->read_class,
	};
}

enum status fail_signal(const char *file)
{
	return fail(STATUS_FAILED, "interrupted by %s: %s: run it again for a result",
		    signals_name(), file);
}

static void cancel_and_wait(struct gds_batch *batch)
{
	gds_batch_cancel(batch);
	while (gds_batch_wait(batch, -1) == -EINTR)
		;
}

enum status batch_abandon(struct gds_batch *batch, const char *file)
{
	cancel_and_wait(batch);
	return fail_signal(file);
}

enum status batch_finish(struct gds_batch *batch, const char *file, wait_tick *tick, void *user)
{
	enum status status;
	int error;

	for (;;) {
		/* A signal just before the wait does not end it: hence a wait of bounded length. */
		error = gds_batch_wait(batch, TICK_NS);
		if (error == 0)
			return STATUS_OK;
		if (signals_pending())
			return batch_abandon(batch, file);
		if (error != -ETIMEDOUT && error != -EINTR)
			break;
		if (tick)
			tick(user);
	}
	status = fail_library(error);
	cancel_and_wait(batch);
	return status;
}
