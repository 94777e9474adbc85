/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/extent.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>

/* Each of them makes bytes of the device something else than the file's. */
static const struct {
	uint32_t flag;
	const char *reason;
} refusals[] = {
	{ FIEMAP_EXTENT_DATA_ENCRYPTED, "the file system encrypts it" },
	{ FIEMAP_EXTENT_DATA_INLINE, "it is stored inline, among the file system's own data" },
	{ FIEMAP_EXTENT_DATA_TAIL, "it shares a block with other files' ends" },
	{ FIEMAP_EXTENT_ENCODED, "it is stored compressed or otherwise encoded" },
	{ FIEMAP_EXTENT_DELALLOC, "it has no place on the device yet" },
	{ FIEMAP_EXTENT_NOT_ALIGNED, "it does not begin at a block of the file system" },
	{ FIEMAP_EXTENT_UNKNOWN, "the file system does not tell where it is" },
};

enum extent_kind extent_kind_of(uint32_t flags)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if (flags & refusals[i].flag)
			return EXTENT_REFUSED;
	return flags & FIEMAP_EXTENT_UNWRITTEN ? EXTENT_ZEROS : EXTENT_DATA;
}

const char *extent_refusal(uint32_t flags)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if (flags & refusals[i].flag)
			return refusals[i].reason;
	return "it cannot be read from the device";
}

/* ---- Windows ---- */

/* The first extent of the window that ends beyond `offset`, or its count. */
static size_t first_beyond(const struct extent_window *window, uint64_t offset)
{
	size_t low = 0;
	size_t high = window->count;
	size_t middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (window->extents[middle].offset + window->extents[middle].bytes > offset)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

struct extent window_at(const struct extent_window *window, uint64_t offset)
{
	size_t i = first_beyond(window, offset);
	struct extent extent = { .offset = offset, .kind = EXTENT_ZEROS };
	uint64_t skip;

	if (i == window->count) {
		extent.bytes = window->end - offset;
	} else if (window->extents[i].offset > offset) {
		extent.bytes = window->extents[i].offset - offset;
	} else {
		extent = window->extents[i];
		skip = offset - extent.offset;
		extent.offset = offset;
		extent.bytes -= skip;
		if (extent.kind == EXTENT_DATA)
			extent.physical += skip;
	}
	return extent;
}

static bool goes_on(const struct extent *before, const struct extent *next)
{
	return before->kind == next->kind && before->flags == next->flags &&
	       before->offset + before->bytes == next->offset &&
	       (before->kind != EXTENT_DATA || before->physical + before->bytes == next->physical);
}

static void add(struct extent_window *window, const struct fiemap_extent *found)
{
	struct extent extent = {
		.offset = found->fe_logical,
		.bytes = found->fe_length,
		.kind = extent_kind_of(found->fe_flags),
	};

	if (extent.kind == EXTENT_DATA)
		extent.physical = found->fe_physical;
	if (extent.kind == EXTENT_REFUSED)
		extent.flags = found->fe_flags;
	if (window->count && goes_on(&window->extents[window->count - 1], &extent))
		window->extents[window->count - 1].bytes += extent.bytes;
	else
		window->extents[window->count++] = extent;
}

struct extent_window *window_make(const struct fiemap_extent *found, size_t count, size_t room,
				  uint64_t start)
{
	struct extent_window *window = malloc(sizeof(*window) + count * sizeof(window->extents[0]));
	struct extent_window *fitting;

	if (!window)
		return NULL;
	window->start = start;
	window->end = UINT64_MAX;
	window->count = 0;
	for (size_t i = 0; i < count; i++)
		add(window, &found[i]);
	if (count == room && !(found[count - 1].fe_flags & FIEMAP_EXTENT_LAST))
		window->end = found[count - 1].fe_logical + found[count - 1].fe_length;
	/* Of ten thousand small files, each has few. */
	fitting = realloc(window, sizeof(*window) + window->count * sizeof(window->extents[0]));
	return fitting ? fitting : window;
}

int window_fetch(int fd, uint64_t start, bool sync, struct extent_window **window)
{
	union {
		struct fiemap request;
		char room[sizeof(struct fiemap) + WINDOW_EXTENTS * sizeof(struct fiemap_extent)];
	} ask;

	ask.request = (struct fiemap){
		.fm_start = start,
		.fm_length = FIEMAP_MAX_OFFSET - start,
		.fm_flags = sync ? FIEMAP_FLAG_SYNC : 0,
		.fm_extent_count = WINDOW_EXTENTS,
	};
	if (ioctl(fd, FS_IOC_FIEMAP, &ask.request) != 0)
		return -errno;
	*window = window_make(ask.request.fm_extents, ask.request.fm_mapped_extents, WINDOW_EXTENTS,
			      start);
	return *window ? 0 : -ENOMEM;
}
