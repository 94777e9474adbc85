/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/md.h"

#include "base/bits.h"
#include "base/error.h"
#include "storage/sysfs.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR UINT64_C(512)
#define KIB    UINT64_C(1024)

/* The layout of RAID 0 arrays as kernels before 3.14 made them; 2 is that of later ones. */
#define LAYOUT_BY_WHOLE_NUMBER 1

struct md_member {
	char name[72]; /* of its folder: "dev-nvme0n1" */
	dev_t device;
	uint64_t offset; /* where the array's bytes begin on it */
	uint64_t bytes;
	unsigned slot;
	bool good; /* of RAID 1: in sync, and not set aside */
};

struct md_array {
	struct stack_builder *builder;
	dev_t device;
	const char *name;
	char level[32];
	uint64_t chunk_bytes;
	size_t count;
	struct md_member members[STACK_DISKS_MAX];
};

static int refuse(const struct md_array *array, const char *what)
{
	char reason[sizeof(array->builder->verdict->reason)];

	gds_text_set(reason, sizeof(reason), "the array %s %s", array->name, what);
	return stack_refuse(array->builder, reason, "use mapped or bounce");
}

/* ---- Members ---- */

static int member_attribute(const struct md_array *array, const struct md_member *member,
			    const char *attribute, char *value, size_t size)
{
	char path[SYSFS_PATH_BYTES];

	snprintf(path, sizeof(path), "md/%s/%s", member->name, attribute);
	return sysfs_get(array->device, path, value, size);
}

static bool member_number(const struct md_array *array, const struct md_member *member,
			  const char *attribute, uint64_t *number)
{
	char value[SYSFS_VALUE_BYTES];
	const char *at = value;

	return member_attribute(array, member, attribute, value, sizeof(value)) == 0 &&
	       text_number(&at, number);
}

/* An attribute of a member; the stack holds as long as it stays so. */
static int watched_attribute(const struct md_array *array, const struct md_member *member,
			     const char *attribute, char *value, size_t size)
{
	char path[SYSFS_PATH_BYTES];
	int err = member_attribute(array, member, attribute, value, size);

	if (err)
		return err;
	snprintf(path, sizeof(path), "md/%s/%s", member->name, attribute);
	return stack_watch_attribute(array->builder, array->device, path, value);
}

/* Whether the comma-separated list has the word. */
static bool has_word(const char *list, const char *word)
{
	size_t length = strlen(word);
	const char *at = list;

	while ((at = strstr(at, word)) != NULL) {
		if ((at == list || at[-1] == ',') && (at[length] == '\0' || at[length] == ','))
			return true;
		at += length;
	}
	return false;
}

static int read_state(const struct md_array *array, struct md_member *member)
{
	static const char *const aside[] = { "faulty", "write_mostly", "blocked", "replacement",
					     "want_replacement" };
	char state[SYSFS_VALUE_BYTES];
	char bad[SYSFS_VALUE_BYTES] = "";
	int err = watched_attribute(array, member, "state", state, sizeof(state));

	if (err)
		return err;
	member->good = has_word(state, "in_sync");
	for (size_t i = 0; i < sizeof(aside) / sizeof(aside[0]); i++)
		if (has_word(state, aside[i]))
			member->good = false;
	/* Older arrays have no list of blocks that could not be written. */
	if (watched_attribute(array, member, "bad_blocks", bad, sizeof(bad)) == 0 && bad[0])
		member->good = false;
	return 0;
}

/* A member of the array proper; not a spare. */
static int read_member(struct md_array *array, const char *folder)
{
	struct md_member *member = &array->members[array->count];
	char path[SYSFS_PATH_BYTES];
	uint64_t slot;

	gds_text_set(member->name, sizeof(member->name), "%s", folder);
	if (!member_number(array, member, "slot", &slot))
		return 0;
	if (!member_number(array, member, "offset", &member->offset) ||
	    !member_number(array, member, "size", &member->bytes))
		return -EINVAL;
	member->slot = (unsigned)slot;
	member->offset *= SECTOR;
	member->bytes *= KIB;
	snprintf(path, sizeof(path), "md/%s/block/dev", folder);
	if (sysfs_device(array->device, path, &member->device))
		return -EINVAL;
	/* Of the others no member can go without the array. */
	if (strcmp(array->level, "raid1") == 0 && read_state(array, member))
		return -EINVAL;
	array->count++;
	return 0;
}

static int by_slot(const void *a, const void *b)
{
	const struct md_member *one = a;
	const struct md_member *other = b;

	return (one->slot > other->slot) - (one->slot < other->slot);
}

static int read_members(struct md_array *array)
{
	char path[SYSFS_PATH_BYTES];
	struct dirent *entry;
	int err = 0;
	DIR *folder;

	sysfs_path(path, sizeof(path), array->device, "md");
	folder = opendir(path);
	if (!folder)
		return refuse(array, "does not show its members in sysfs");
	while (!err && (entry = readdir(folder)) != NULL) {
		if (strncmp(entry->d_name, "dev-", 4) != 0)
			continue;
		if (array->count == STACK_DISKS_MAX)
			err = refuse(array, "has more than 64 members");
		else if (read_member(array, entry->d_name))
			err = refuse(array, "does not tell where its members' bytes are");
	}
	closedir(folder);
	qsort(array->members, array->count, sizeof(array->members[0]), by_slot);
	return err;
}

/* ---- Levels ---- */

static int build_part(struct md_array *array, const struct md_member *member,
		      struct volume_part *part, bool first)
{
	part->offset = member->offset;
	part->bytes = member->bytes;
	if (!first)
		stack_say(array->builder, ", ");
	return stack_build(array->builder, member->device, &part->below);
}

/* All members, in their order. */
static int build_parts(struct md_array *array, struct volume *volume)
{
	uint64_t start = 0;
	int err = 0;

	for (size_t i = 0; i < array->count && !err; i++) {
		err = build_part(array, &array->members[i], &volume->parts[i], i == 0);
		if (array->chunk_bytes)
			volume->parts[i].bytes -= volume->parts[i].bytes % array->chunk_bytes;
		volume->parts[i].start = start;
		start += volume->parts[i].bytes;
	}
	volume->bytes = start;
	return err;
}

static int build_linear(struct md_array *array, struct volume **volume)
{
	int err = stack_add(array->builder, VOLUME_LINEAR, array->count, volume);

	return err ? err : build_parts(array, *volume);
}

static int build_raid0(struct md_array *array, struct volume **volume)
{
	uint64_t layout = 0;
	int err;

	if (array->chunk_bytes == 0)
		return refuse(array, "does not tell its chunk size");
	err = stack_add(array->builder, VOLUME_STRIPED, array->count, volume);
	if (!err)
		err = build_parts(array, *volume);
	if (err)
		return err;
	(*volume)->chunk_bytes = array->chunk_bytes;
	if (volume_make_zones(*volume))
		return stack_no_memory();
	sysfs_number(array->device, "md/layout", &layout);
	(*volume)->by_whole_number = layout == LAYOUT_BY_WHOLE_NUMBER;
	return 0;
}

/*
 * While members are brought in line with the first, the kernel reads the first alone.
 * One that is rebuilt is not in sync, so the others do.
 */
static bool first_alone(struct md_array *array, int *err)
{
	char action[SYSFS_VALUE_BYTES] = "idle";

	if (sysfs_get(array->device, "md/sync_action", action, sizeof(action)) == 0)
		*err = stack_watch_attribute(array->builder, array->device, "md/sync_action",
					     action);
	return strcmp(action, "idle") != 0 && strcmp(action, "recover") != 0 &&
	       strcmp(action, "frozen") != 0;
}

static int build_raid1(struct md_array *array, struct volume **volume)
{
	size_t count = 0;
	int err = 0;
	bool alone = first_alone(array, &err);

	if (!err)
		err = stack_add(array->builder, VOLUME_MIRRORED, array->count, volume);
	for (size_t i = 0; i < array->count && !err && !(alone && count); i++) {
		if (!array->members[i].good)
			continue;
		err = build_part(array, &array->members[i], &(*volume)->parts[count], count == 0);
		if (!err)
			count++;
	}
	if (err)
		return err;
	if (count == 0)
		return refuse(array, "has no member that is in sync and unblemished");
	(*volume)->count = count;
	(*volume)->bytes = (*volume)->parts[0].bytes;
	return 0;
}

static int build_level(struct md_array *array, struct volume **volume)
{
	char what[96];

	if (strcmp(array->level, "linear") == 0)
		return build_linear(array, volume);
	if (strcmp(array->level, "raid0") == 0)
		return build_raid0(array, volume);
	if (strcmp(array->level, "raid1") == 0)
		return build_raid1(array, volume);
	gds_text_set(what, sizeof(what),
		     "is of the level %s: gds sees through raid0, raid1 and linear", array->level);
	return refuse(array, what);
}

/* Whether what was worked out is as large as the array, which it must be. */
static int check_size(struct md_array *array, const struct volume *volume)
{
	uint64_t sectors;

	if (sysfs_number(array->device, "size", &sectors))
		return refuse(array, "does not tell its size");
	if (volume->kind == VOLUME_MIRRORED ? volume->bytes < sectors * SECTOR
					    : volume->bytes != sectors * SECTOR)
		return refuse(array, "is not as large as its members make it");
	return 0;
}

/* What must stay as it is for all that is read here to hold. */
static int watch_array(struct md_array *array)
{
	static const char *const names[] = { "md/level", "md/raid_disks", "md/reshape_position" };
	char value[SYSFS_VALUE_BYTES];
	int err = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !err; i++)
		if (sysfs_get(array->device, names[i], value, sizeof(value)) == 0)
			err = stack_watch_attribute(array->builder, array->device, names[i], value);
	if (!err && sysfs_get(array->device, "md/reshape_position", value, sizeof(value)) == 0 &&
	    strcmp(value, "none") != 0)
		err = refuse(array, "is being reshaped");
	return err;
}

int md_build(struct stack_builder *builder, dev_t device, const char *name, struct volume **volume)
{
	struct md_array *array = calloc(1, sizeof(*array));
	int err;

	if (!array)
		return stack_no_memory();
	array->builder = builder;
	array->device = device;
	array->name = name;
	sysfs_number(device, "md/chunk_size", &array->chunk_bytes);
	err = sysfs_get(device, "md/level", array->level, sizeof(array->level))
		      ? refuse(array, "does not tell its level")
		      : watch_array(array);
	if (!err)
		err = read_members(array);
	stack_say(builder, name);
	stack_say(builder, " (");
	stack_say(builder, array->level);
	stack_say(builder, ": ");
	if (!err)
		err = build_level(array, volume);
	stack_say(builder, ")");
	if (!err)
		err = check_size(array, *volume);
	free(array);
	return err;
}
