/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/pages.h"

#include "base/bits.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* Of x86-64 and of arm64 with 4 KiB pages; elsewhere a harmless alignment. */
#define HUGE_BYTES (UINT64_C(2) << 20)

static uint64_t page_bytes(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

static void *map(uint64_t bytes)
{
	void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return pages == MAP_FAILED ? NULL : pages;
}

/* Cuts a mapping that is HUGE_BYTES too long down to an aligned place inside. */
static void *trim(void *mapping, uint64_t bytes)
{
	uintptr_t from = (uintptr_t)mapping;
	uintptr_t start = align_up(from, HUGE_BYTES);
	uintptr_t end = from + bytes + HUGE_BYTES;

	if (start > from)
		munmap(mapping, start - from);
	if (end > start + bytes)
		munmap((void *)(start + bytes), end - start - bytes);
	return (void *)start;
}

void *pages_map(uint64_t bytes)
{
	void *pages;

	if (bytes > SIZE_MAX / 2) {
		errno = ENOMEM;
		return NULL;
	}
	bytes = align_up(bytes, page_bytes());
	if (bytes < HUGE_BYTES)
		return map(bytes);
	pages = map(bytes + HUGE_BYTES);
	if (!pages)
		return NULL;
	pages = trim(pages, bytes);
	madvise(pages, bytes, MADV_HUGEPAGE);
	/* Pages that are pinned for I/O would be copied into every child, one by one. */
	madvise(pages, bytes, MADV_DONTFORK);
	return pages;
}

void pages_unmap(void *pages, uint64_t bytes)
{
	if (pages)
		munmap(pages, align_up(bytes, page_bytes()));
}
