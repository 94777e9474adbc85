/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other way to the bytes of a file: plain reads of this program's own, past
 * the library and, where the file system allows, past the page cache.
 */
#include "source.h"

#include "setup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum status fail_read(const struct source *source, int error)
{
	return fail(STATUS_FAILED,
		    "cannot read the file to verify: %s: %s: see that it can be read", source->name,
		    strerror(error));
}

static enum status open_buffered(struct source *source)
{
	if (source->fd >= 0)
		close(source->fd);
	source->direct = false;
	source->fd = open(source->name, O_RDONLY | O_CLOEXEC);
	return source->fd < 0 ? fail_read(source, errno) : STATUS_OK;
}

enum status source_open(struct source *source, const char *name)
{
	void *memory;
	int error;

	memset(source, 0, sizeof(*source));
	source->name = name;
	source->fd = open(name, O_RDONLY | O_DIRECT | O_CLOEXEC);
	source->direct = source->fd >= 0;
	if (source->fd < 0 && open_buffered(source) != STATUS_OK)
		return STATUS_FAILED;
	error = posix_memalign(&memory, PAGE_BYTES, SOURCE_MOST_BYTES + 2 * PAGE_BYTES);
	if (error) {
		close(source->fd);
		source->fd = -1;
		return fail(STATUS_FAILED, "out of memory: verifying %s: free some memory", name);
	}
	source->memory = memory;
	return STATUS_OK;
}

void source_close(struct source *source)
{
	if (source->memory)
		close(source->fd);
	free(source->memory);
	source->memory = NULL;
}

enum status source_read(struct source *source, uint64_t offset, size_t bytes, unsigned char **data)
{
	uint64_t begin = offset / PAGE_BYTES * PAGE_BYTES;
	uint64_t end = round_up(offset + bytes, PAGE_BYTES);
	size_t need = (size_t)(offset + bytes - begin);
	size_t got = 0;

	while (got < need) {
		ssize_t count = pread(source->fd, source->memory + got, (size_t)(end - begin) - got,
				      (off_t)(begin + got));

		if (count > 0) {
			got += (size_t)count;
			continue;
		}
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && errno == EINVAL && source->direct) {
			/* Some file systems open with O_DIRECT and refuse the read. */
			if (open_buffered(source) != STATUS_OK)
				return STATUS_FAILED;
			continue;
		}
		if (count < 0)
			return fail_read(source, errno);
		return fail(STATUS_FAILED,
			    "file shrank while it was read: %s: it ends at byte %" PRIu64
			    " now: read it while nobody writes it",
			    source->name, begin + got);
	}
	*data = source->memory + (offset - begin);
	return STATUS_OK;
}
