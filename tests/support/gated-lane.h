/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real lane with a gate in front: while the gate is closed, reads are kept back
 * and their storage has not answered. So a test can have a batch in flight for as
 * long as it wants, and no clock decides anything.
 */
#ifndef GDS_TESTS_GATED_LANE_H
#define GDS_TESTS_GATED_LANE_H

#include "lane/lane.h"

extern const struct lane_ops lane_gated;

/* Which lane is behind the gate of those opened from now on. The gate is open. */
void gate_set(const struct lane_ops *behind);
void gate_close(void);
/* From any thread. */
void gate_open(void);

#endif
