/* SPDX-License-Identifier: Apache-2.0 */
#include "tell.h"

#include "base/error.h"
#include "base/log.h"
#include "storage/file.h"

#include <inttypes.h>

/* Which read of its batch it is, from 0 on, and which batch: enough to tell them apart. */
static size_t number_of(const struct read *read)
{
	return (size_t)(read - read->batch->reads);
}

static size_t number_of_op(const struct gds_reader *reader, const struct op *op)
{
	return (size_t)(op - reader->ops);
}

void tell_begun(const struct read *read)
{
	const struct route *route = read->route;

	gds_debug("read %zu of batch %p begins: %" PRIu64 " bytes at %" PRIu64 " of %s to %" PRIu64
		  " of its buffer; %s, path %s, device %s",
		  number_of(read), (const void *)read->batch, read->length, read->offset,
		  route->file->file->path, read->buffer_offset,
		  gds_class_name((enum gds_class)read->batch->class), gds_path_name(route->path),
		  route->file->queue->disk.name);
}

void tell_queued(const struct gds_reader *reader, const struct op *op)
{
	gds_debug("operation %zu: %u bytes at %" PRIu64 " by %s%s, of which %u are for read %zu of "
		  "batch %p%s; %u in flight on %s",
		  number_of_op(reader, op), op->io.length, op->io.offset, gds_path_name(op->path),
		  op->io.staged ? ", staged" : "", op->io.wanted, number_of(op->read),
		  (const void *)op->read->batch, op->reads > 1 ? " and the reads behind it" : "",
		  op->run->device->in_flight, op->read->route->file->queue->disk.name);
}

void tell_landed(const struct gds_reader *reader, const struct op *op, int result)
{
	if (result < 0)
		gds_debug("operation %zu failed: %s", number_of_op(reader, op),
			  gds_errno_text(-result));
	else
		gds_debug("operation %zu brought %d of %u bytes", number_of_op(reader, op), result,
			  op->io.length);
}

void tell_copying(const struct gds_reader *reader, const struct op *op, uint32_t bytes)
{
	gds_debug("operation %zu: the device copies %u bytes to %" PRIu64 " of the buffer",
		  number_of_op(reader, op), bytes, op->io.place);
}

void tell_done(const struct read *read)
{
	const struct read_outcome *outcome = &read->outcome;

	if (read->error)
		gds_debug("read %zu of batch %p failed at %" PRIu64 ": %s", number_of(read),
			  (const void *)read->batch, outcome->error_offset,
			  gds_errno_text(-read->error));
	else
		gds_debug("read %zu of batch %p is done in %" PRIu64 " us: %" PRIu64
			  " bytes, of them dmabuf %" PRIu64 ", mapped %" PRIu64 ", bounce %" PRIu64,
			  number_of(read), (const void *)read->batch,
			  (outcome->completed_ns - outcome->issued_ns) / 1000, read->short_at,
			  outcome->path_bytes[GDS_PATH_DMABUF - 1],
			  outcome->path_bytes[GDS_PATH_MAPPED - 1],
			  outcome->path_bytes[GDS_PATH_BOUNCE - 1]);
}
