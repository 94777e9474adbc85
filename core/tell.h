/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The story of each read, at the log level "debug": when it began, which operations
 * it took by which paths, and how it ended. Called where reader->tells alone.
 */
#ifndef GDS_TELL_H
#define GDS_TELL_H

#include "reader.h"

void tell_begun(const struct read *read);
void tell_queued(const struct gds_reader *reader, const struct op *op);
void tell_landed(const struct gds_reader *reader, const struct op *op, int result);
void tell_copying(const struct gds_reader *reader, const struct op *op, uint32_t bytes);
void tell_done(const struct read *read);

#endif
