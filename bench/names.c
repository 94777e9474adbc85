/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"

#include <errno.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static enum status add(struct names *names, const char *name)
{
	size_t room = names->room ? 2 * names->room : 64;
	char **list;

	if (names->count == names->room) {
		list = reallocarray(names->list, room, sizeof(*list));
		if (!list)
			return fail(STATUS_FAILED, "out of memory: %s: name fewer files", name);
		names->list = list;
		names->room = room;
	}
	names->list[names->count] = strdup(name);
	if (!names->list[names->count])
		return fail(STATUS_FAILED, "out of memory: %s: name fewer files", name);
	names->count++;
	return STATUS_OK;
}

static int compare(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static enum status visit(struct names *names, const FTSENT *entry)
{
	switch (entry->fts_info) {
	case FTS_F:
		return add(names, entry->fts_path);
	case FTS_DNR:
	case FTS_ERR:
	case FTS_NS:
		return fail(STATUS_FAILED, "cannot look into: %s: %s: check its permissions",
			    entry->fts_path, strerror(entry->fts_errno));
	default:
		return STATUS_OK;
	}
}

static enum status add_directory(struct names *names, const char *directory)
{
	char *paths[] = { strdup(directory), NULL };
	size_t before = names->count;
	enum status status = STATUS_OK;
	const FTSENT *entry;
	FTS *walk;

	walk = paths[0] ? fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, compare)
			: NULL;
	if (!walk)
		status = fail(STATUS_FAILED, "cannot look into: %s: %s: try again", directory,
			      strerror(errno));
	while (status == STATUS_OK && (entry = fts_read(walk)) != NULL)
		status = visit(names, entry);
	if (walk)
		fts_close(walk);
	free(paths[0]);
	if (status == STATUS_OK && names->count == before)
		return fail(STATUS_FAILED,
			    "empty directory: %s: no regular file is in it, links aside: "
			    "name another one, or the files",
			    directory);
	return status;
}

enum status names_expand(struct names *names, const char *const *operands, size_t count)
{
	enum status status = STATUS_OK;
	struct stat info;

	*names = (struct names){ 0 };
	for (size_t i = 0; i < count && status == STATUS_OK; i++) {
		if (stat(operands[i], &info) == 0 && S_ISDIR(info.st_mode))
			status = add_directory(names, operands[i]);
		else
			status = add(names, operands[i]);
	}
	return status;
}

enum status names_join(struct names *names, const struct names *more)
{
	enum status status = STATUS_OK;

	for (size_t i = 0; i < more->count && status == STATUS_OK; i++)
		status = add(names, more->list[i]);
	return status;
}

void names_free(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->list[i]);
	free(names->list);
	*names = (struct names){ 0 };
}
