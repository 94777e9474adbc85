/* SPDX-License-Identifier: GPL-2.0-only */
/* The test exporter of kernel/exporter: memory that moves, vanishes and fails. */
#ifndef KERNEL_TESTS_EXPORTER_TEST_H
#define KERNEL_TESTS_EXPORTER_TEST_H

#include "../exporter/gds_exporter.h"
#include "memory.h"

extern const struct exporter exporter_test;

/* An unmapped dma-buf with these GDS_EXPORTER_CREATE_ flags; skips without the module. */
int exporter_test_create(size_t bytes, uint32_t flags);
void exporter_test_act(int dmabuf_fd, enum gds_exporter_action action, uint32_t hold_us);
void exporter_test_fault(struct gds_exporter_fault fault);
struct gds_exporter_state exporter_test_state(int dmabuf_fd);

#endif
