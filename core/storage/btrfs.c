/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/btrfs.h"

#include "base/bits.h"
#include "base/error.h"
#include "storage/sysfs.h"

#include <endian.h>
#include <errno.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

/* For one answer: thousands of chunks. */
#define ANSWER_BYTES (256u << 10)

bool btrfs_is(int fd)
{
	struct statfs status;

	return fstatfs(fd, &status) == 0 && status.f_type == BTRFS_SUPER_MAGIC;
}

/* What the chunks are gathered in. */
struct chunks {
	struct stack_builder *builder;
	int fd;
	char id[40];      /* of the file system, as sysfs writes it */
	uint64_t skipped; /* kinds of the data chunks that were left out */
	size_t count;
	size_t room;
	struct volume_part *parts; /* by their address, which is `start` */
};

static int refuse(struct chunks *chunks, const char *reason, const char *remedy)
{
	return stack_refuse(chunks->builder, reason, remedy);
}

static int read_id(struct chunks *chunks)
{
	struct btrfs_ioctl_fs_info_args info = { 0 };
	char *at = chunks->id;

	if (ioctl(chunks->fd, BTRFS_IOC_FS_INFO, &info) != 0)
		return refuse(chunks, "btrfs does not tell its devices", "use mapped or bounce");
	for (size_t i = 0; i < sizeof(info.fsid); i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		at += snprintf(at, 3, "%02x", info.fsid[i]);
	}
	return 0;
}

/*
 * A device of the file system. The path that btrfs knows may by now name another
 * device, so sysfs must know that one as the file system's, too.
 */
static int find_device(struct chunks *chunks, uint64_t id, dev_t *device)
{
	struct btrfs_ioctl_dev_info_args info = { .devid = id };
	char path[SYSFS_PATH_BYTES];
	char number[32];
	char expected[32];
	struct stat status;
	char name[64];

	if (ioctl(chunks->fd, BTRFS_IOC_DEV_INFO, &info) != 0 ||
	    stat((const char *)info.path, &status) != 0 || !S_ISBLK(status.st_mode) ||
	    sysfs_name(status.st_rdev, name, sizeof(name)))
		return refuse(chunks, "a device of the btrfs cannot be found", "");
	*device = status.st_rdev;
	snprintf(expected, sizeof(expected), "%u:%u", major(*device), minor(*device));
	snprintf(path, sizeof(path), "/sys/fs/btrfs/%s/devices/%s/dev", chunks->id, name);
	if (sysfs_text(path, number, sizeof(number)) || strcmp(number, expected) != 0)
		return refuse(chunks, "a device of the btrfs is not what its path names", "");
	return stack_watch_path(chunks->builder, path, number);
}

/* ---- Chunks ---- */

static int build_stripe(struct chunks *chunks, const struct btrfs_stripe *stripe,
			struct volume_part *part)
{
	dev_t device = 0;
	int err = find_device(chunks, le64toh(stripe->devid), &device);

	part->offset = le64toh(stripe->offset);
	return err ? err : stack_build(chunks->builder, device, &part->below);
}

static int build_stripes(struct chunks *chunks, const struct btrfs_chunk *chunk,
			 const struct btrfs_stripe *stripes, struct volume_part *part)
{
	size_t count = le16toh(chunk->num_stripes);
	struct volume *volume;
	int err = stack_add(chunks->builder, VOLUME_STRIPED, count, &volume);

	for (size_t i = 0; i < count && !err; i++) {
		err = build_stripe(chunks, &stripes[i], &volume->parts[i]);
		volume->parts[i].bytes = part->bytes / count;
	}
	if (err)
		return err;
	volume->chunk_bytes = le64toh(chunk->stripe_len);
	part->below = volume;
	return volume_make_zones(volume) ? stack_no_memory() : 0;
}

static struct volume_part *add_part(struct chunks *chunks)
{
	struct volume_part *parts;

	if (!chunks->parts || chunks->count == chunks->room) {
		chunks->room = 2 * chunks->room + 16;
		parts = reallocarray(chunks->parts, chunks->room, sizeof(*parts));
		if (!parts)
			return NULL;
		chunks->parts = parts;
	}
	chunks->parts[chunks->count] = (struct volume_part){ 0 };
	return &chunks->parts[chunks->count++];
}

/*
 * Chunks of one copy, plain or striped, are seen through. Of those with several, btrfs
 * itself decides by its checksums which is good.
 */
static int add_chunk(struct chunks *chunks, uint64_t address, const char *item, size_t bytes)
{
	struct btrfs_stripe stripes[STACK_DISKS_MAX];
	struct btrfs_chunk chunk;
	struct volume_part *part;
	uint64_t kind;
	size_t count;

	memcpy(&chunk, item, min_u64(bytes, sizeof(chunk)));
	kind = le64toh(chunk.type);
	count = le16toh(chunk.num_stripes);
	if (!(kind & BTRFS_BLOCK_GROUP_DATA))
		return 0;
	kind &= BTRFS_BLOCK_GROUP_PROFILE_MASK;
	if (bytes < sizeof(chunk) || count == 0 || count > STACK_DISKS_MAX ||
	    offsetof(struct btrfs_chunk, stripe) + count * sizeof(stripes[0]) > bytes ||
	    (kind != 0 && kind != BTRFS_BLOCK_GROUP_RAID0)) {
		chunks->skipped |= kind;
		return 0;
	}
	memcpy(stripes, item + offsetof(struct btrfs_chunk, stripe), count * sizeof(stripes[0]));
	part = add_part(chunks);
	if (!part)
		return stack_no_memory();
	part->start = address;
	part->bytes = le64toh(chunk.length);
	return kind ? build_stripes(chunks, &chunk, stripes, part)
		    : build_stripe(chunks, &stripes[0], part);
}

/* ---- The chunk tree ---- */

static int refuse_search(struct chunks *chunks, int error)
{
	char reason[128];

	gds_text_set(reason, sizeof(reason), "the chunks of the btrfs cannot be read: %s",
		     gds_errno_text(error));
	return refuse(chunks, reason,
		      error == EPERM ? "btrfs tells them to processes with CAP_SYS_ADMIN"
				     : "use mapped or bounce");
}

/* The items of one answer. `*next` becomes the address to go on from. */
static int add_items(struct chunks *chunks, const struct btrfs_ioctl_search_args_v2 *ask,
		     uint64_t *next)
{
	const char *at = (const char *)ask->buf;
	struct btrfs_ioctl_search_header header;
	int err = 0;

	for (uint32_t i = 0; i < ask->key.nr_items && !err; i++) {
		memcpy(&header, at, sizeof(header));
		at += sizeof(header);
		if (header.type == BTRFS_CHUNK_ITEM_KEY)
			err = add_chunk(chunks, header.offset, at, header.len);
		at += header.len;
		*next = header.offset + 1;
	}
	return err;
}

static int search(struct chunks *chunks)
{
	struct btrfs_ioctl_search_args_v2 *ask = malloc(sizeof(*ask) + ANSWER_BYTES);
	uint64_t next = 0;
	int err = 0;

	if (!ask)
		return stack_no_memory();
	do {
		*ask = (struct btrfs_ioctl_search_args_v2){
			.key = {
				.tree_id = BTRFS_CHUNK_TREE_OBJECTID,
				.min_objectid = BTRFS_FIRST_CHUNK_TREE_OBJECTID,
				.max_objectid = BTRFS_FIRST_CHUNK_TREE_OBJECTID,
				.min_type = BTRFS_CHUNK_ITEM_KEY,
				.max_type = BTRFS_CHUNK_ITEM_KEY,
				.min_offset = next,
				.max_offset = UINT64_MAX,
				.max_transid = UINT64_MAX,
				.nr_items = UINT32_MAX,
			},
			.buf_size = ANSWER_BYTES,
		};
		if (ioctl(chunks->fd, BTRFS_IOC_TREE_SEARCH_V2, ask) != 0)
			err = refuse_search(chunks, errno);
		else
			err = add_items(chunks, ask, &next);
	} while (!err && ask->key.nr_items);
	free(ask);
	return err;
}

/*
 * Where stripes have a tree of their own, it tells where the bytes of a chunk are, and
 * the chunk does not.
 */
static int refuse_stripe_tree(struct chunks *chunks)
{
	char path[SYSFS_PATH_BYTES];

	snprintf(path, sizeof(path), "/sys/fs/btrfs/%s/features/raid_stripe_tree", chunks->id);
	if (access(path, F_OK) != 0)
		return 0;
	return refuse(chunks, "the btrfs has a tree of stripes, through which gds does not see",
		      "use mapped or bounce");
}

static int make_volume(struct chunks *chunks, struct volume **volume)
{
	const struct volume_part *last = &chunks->parts[chunks->count - 1];
	int err;

	if (chunks->count == 0)
		return refuse(
			chunks,
			chunks->skipped
				? "the btrfs keeps its data in several copies or with parity: "
				  "gds sees through the profiles single and raid0"
				: "the btrfs has no data yet",
			"use mapped or bounce");
	err = stack_add(chunks->builder, VOLUME_LINEAR, chunks->count, volume);
	if (err)
		return err;
	memcpy((*volume)->parts, chunks->parts, chunks->count * sizeof(*chunks->parts));
	(*volume)->bytes = last->start + last->bytes;
	return 0;
}

int btrfs_build(struct stack_builder *builder, int fd, struct volume **volume)
{
	struct chunks chunks = { .builder = builder, .fd = fd };
	int err = read_id(&chunks);

	stack_say(builder, "btrfs: ");
	if (!err)
		err = refuse_stripe_tree(&chunks);
	if (!err)
		err = search(&chunks);
	if (!err)
		err = make_volume(&chunks, volume);
	free(chunks.parts);
	return err;
}
