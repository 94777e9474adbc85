/* SPDX-License-Identifier: GPL-2.0-only */
/* What the exporters share among themselves. */
#ifndef KERNEL_TESTS_EXPORTERS_H
#define KERNEL_TESTS_EXPORTERS_H

#include "memory.h"

extern const struct exporter exporter_vgem, exporter_virtio_gpu, exporter_vulkan;

void *map_shared(int fd, size_t bytes, uint64_t offset);
int sealed_memfd(size_t bytes);

#endif
