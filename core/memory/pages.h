/* SPDX-License-Identifier: Apache-2.0 */
/* Large, page-aligned memory of this process, for storage and devices to write into. */
#ifndef GDS_MEMORY_PAGES_H
#define GDS_MEMORY_PAGES_H

#include <stddef.h>
#include <stdint.h>

/*
 * Maps zeroed pages: at least `bytes`, a multiple of the page size, on huge pages
 * where the kernel has them to give. NULL with errno set where there is no room.
 */
void *pages_map(uint64_t bytes);
/* `bytes` as they were asked for. NULL is fine. */
void pages_unmap(void *pages, uint64_t bytes);

#endif
