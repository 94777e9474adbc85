/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/filemap.h"

#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/verdict.h"
#include "storage/file.h"
#include "storage/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

/* How long a file that was found changing is left alone. */
#define BUSY_NS (50 * UINT64_C(1000) * 1000)
/* Times that a file which was written a moment ago is waited for. */
#define SETTLE_TRIES 3

/* ---- Which files ---- */

static int refuse_file(struct gds_path_verdict *verdict, const char *path, const char *what,
		       const char *remedy)
{
	char reason[sizeof(verdict->reason)];

	gds_text_set(reason, sizeof(reason), "%s %s", path, what);
	return verdict_refuse(verdict, reason, remedy);
}

/* How the file system of a device is mounted; "" where this process does not see that. */
struct mount_entry {
	char type[32];
	char options[256]; /* those of the file system itself */
};

/* A line of mountinfo: "36 25 259:0 / /mnt rw,relatime - ext4 /dev/nvme0n1 rw". */
static bool parse_mount(const char *line, dev_t device, struct mount_entry *entry)
{
	const char *separator = strstr(line, " - ");
	const char *at = line;
	uint64_t number;
	dev_t of;

	if (!separator || !text_number(&at, &number) || !text_number(&at, &number))
		return false;
	at += strspn(at, " ");
	return text_device(&at, &of) && of == device &&
	       sscanf(separator, " - %31s %*s %255s", entry->type, entry->options) >= 1;
}

static void find_mount(dev_t device, struct mount_entry *entry)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t size = 0;
	bool found = false;

	*entry = (struct mount_entry){ 0 };
	while (mounts && !found && getline(&line, &size, mounts) > 0)
		found = parse_mount(line, device, entry);
	free(line);
	if (mounts)
		fclose(mounts);
}

/*
 * What a mount shows are the options that differ from the file system's own defaults,
 * which tune2fs(8) sets; ext4 has all of them in a place of its own.
 */
static bool ext4_journals_data(dev_t device)
{
	char path[SYSFS_PATH_BYTES];
	bool journals = false;
	char line[256];
	char name[64];
	FILE *options;

	if (sysfs_name(device, name, sizeof(name)))
		return false;
	snprintf(path, sizeof(path), "/proc/fs/ext4/%s/options", name);
	options = fopen(path, "re");
	while (options && !journals && fgets(line, sizeof(line), options))
		journals = strstr(line, "data=journal") != NULL;
	if (options)
		fclose(options);
	return journals;
}

/*
 * statfs(2) alone may not be believed: 9p hands on what the file system of its server
 * says. One without a block device is none of those meant here, but for btrfs, whose
 * subvolumes have device numbers that no mount has.
 */
int file_map_judge_file_system(const struct gds_file *file, struct gds_path_verdict *verdict)
{
	static const char *const known[] = { "ext4", "xfs", "btrfs" };
	const char *name = file_system_name(file->fd);
	bool btrfs = strcmp(name, "btrfs") == 0;
	struct mount_entry entry;
	bool is_known = false;
	char what[128];

	find_mount(file->on, &entry);
	if (major(file->on) == 0 && (entry.type[0] || !btrfs))
		name = entry.type[0] ? entry.type : "a file system without a block device";
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		is_known = is_known || strcmp(name, known[i]) == 0;
	/* The newest data may be in the journal alone, and not in its place yet. */
	if (is_known && (strstr(entry.options, "data=journal") || ext4_journals_data(file->on)))
		return refuse_file(verdict, file->path, "is on a file system with data=journal",
				   "mount it with data=ordered");
	if (is_known)
		return 0;
	gds_text_set(what, sizeof(what),
		     "is on %s: the device below is known for files on ext4, xfs and btrfs", name);
	return refuse_file(verdict, file->path, what, "use mapped or bounce");
}

/* Properties that make the bytes on the device others than the file's. */
static const struct {
	uint64_t attribute; /* of statx(2) */
	struct file_refusal refusal;
} attributes[] = {
	{ STATX_ATTR_ENCRYPTED, { "it is encrypted by its file system", "use mapped or bounce" } },
	{ STATX_ATTR_VERITY,
	  { "it is sealed with fs-verity, which reads of the device would not check",
	    "use mapped or bounce" } },
	{ STATX_ATTR_DAX,
	  { "it is on persistent memory (DAX), not on a drive", "use mapped or bounce" } },
};

static const struct file_refusal *refuse_by_attributes(int fd)
{
	static const struct file_refusal unknown = { "statx(2) does not tell what it is",
						     "use mapped or bounce" };
	struct statx status;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &status) != 0)
		return &unknown;
	for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++)
		if (status.stx_attributes & attributes[i].attribute)
			return &attributes[i].refusal;
	return NULL;
}

const struct file_refusal *file_map_refuse_file(const struct gds_file *file)
{
	/* As with data=journal. */
	static const struct file_refusal journalled = { "its data is journalled",
							"take the attribute j away (chattr -j)" };
	static const struct file_refusal realtime = {
		"it is on the realtime device of its file system", "use mapped or bounce"
	};
	struct fsxattr extended;
	int flags = 0;

	if (ioctl(file->fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & FS_JOURNAL_DATA_FL))
		return &journalled;
	if (ioctl(file->fd, FS_IOC_FSGETXATTR, &extended) == 0 &&
	    (extended.fsx_xflags & FS_XFLAG_REALTIME))
		return &realtime;
	return refuse_by_attributes(file->fd);
}

/* ---- Epochs ---- */

static void drop_windows(struct file_map *map)
{
	for (size_t i = 0; i < FILE_WINDOWS; i++) {
		free(map->windows[i].extents);
		map->windows[i].extents = NULL;
	}
}

static void end_epoch(struct file_map *map)
{
	map->epoch = 0;
	drop_windows(map);
}

static int take_stamp(const struct file_map *map, struct file_stamp *stamp, uint64_t *fingerprint)
{
	struct stat status;

	if (map->file->block_device) {
		*stamp = (struct file_stamp){ 0 };
		*fingerprint = atomic_load_explicit(&map->file->fingerprint, memory_order_relaxed);
		return ioctl(map->file->fd, BLKGETSIZE64, &stamp->bytes) ? -errno : 0;
	}
	if (fstat(map->file->fd, &status) != 0)
		return -errno;
	*stamp = (struct file_stamp){
		.bytes = (uint64_t)status.st_size,
		.modified = status.st_mtim,
		.changed = status.st_ctim,
	};
	*fingerprint = file_fingerprint(&status);
	return 0;
}

static bool same_time(const struct timespec *one, const struct timespec *other)
{
	return one->tv_sec == other->tv_sec && one->tv_nsec == other->tv_nsec;
}

static bool same_stamp(const struct file_stamp *one, const struct file_stamp *other)
{
	return one->bytes == other->bytes && same_time(&one->modified, &other->modified) &&
	       same_time(&one->changed, &other->changed);
}

/*
 * Whether a change that comes now could leave the stamp as it is: file systems take
 * their times from a clock that ticks every few milliseconds, and some keep whole
 * seconds only. `now` is of that clock, from before the stamp was taken.
 */
static bool too_young(const struct file_stamp *stamp, const struct timespec *now)
{
	if (stamp->changed.tv_sec != now->tv_sec)
		return stamp->changed.tv_sec > now->tv_sec;
	return stamp->changed.tv_nsec == 0 || stamp->changed.tv_nsec >= now->tv_nsec;
}

static void wait_a_tick(void)
{
	struct timespec tick = { .tv_nsec = 10 * 1000 * 1000 };

	clock_getres(CLOCK_REALTIME_COARSE, &tick);
	nanosleep(&tick, NULL);
}

/*
 * Takes a stamp that any later change will differ from. -EBUSY where the file is
 * written all the time.
 */
static int settle(struct file_map *map)
{
	struct timespec now;
	int err;

	for (int i = 0; i < SETTLE_TRIES; i++) {
		if (i)
			wait_a_tick();
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
		err = take_stamp(map, &map->stamp, &map->fingerprint);
		if (err || map->file->block_device || !too_young(&map->stamp, &now))
			return err;
	}
	return -EBUSY;
}

static size_t oldest_window(const struct file_map *map)
{
	size_t oldest = 0;

	for (size_t i = 0; i < FILE_WINDOWS; i++) {
		if (!map->windows[i].extents)
			return i;
		if (map->windows[i].used < map->windows[oldest].used)
			oldest = i;
	}
	return oldest;
}

/* A block device is one run on itself. */
static int whole_device(const struct file_map *map, bool sync, struct extent_window **window)
{
	const struct fiemap_extent all = { .fe_length = map->stamp.bytes,
					   .fe_flags = FIEMAP_EXTENT_LAST };

	if (sync && fsync(map->file->fd) != 0)
		return -errno;
	*window = window_make(&all, 1, WINDOW_EXTENTS, 0);
	return *window ? 0 : -ENOMEM;
}

/* Fills window number `i`, for what lies at `offset`. */
static int fill_window(struct file_map *map, size_t i, uint64_t offset, bool sync, uint64_t check)
{
	struct extent_window *extents = NULL;
	int err = map->file->block_device ? whole_device(map, sync, &extents)
					  : window_fetch(map->file->fd, offset, sync, &extents);

	if (err)
		return err;
	free(map->windows[i].extents);
	map->windows[i].extents = extents;
	map->windows[i].checked = check;
	return 0;
}

/*
 * A new epoch: first the stamp, then the flush and the extents, so that whatever
 * comes in between shows in the stamp when the bytes have arrived.
 */
static int begin_epoch(struct file_map *map, uint64_t offset)
{
	uint64_t now_ns = clock_now_ns();
	int err;

	if (now_ns < map->busy_ns)
		return map->refusal ? -EOPNOTSUPP : -EBUSY;
	end_epoch(map);
	map->refusal = NULL;
	err = settle(map);
	if (!err && !map->file->block_device) {
		map->refusal = file_map_refuse_file(map->file);
		err = map->refusal ? -EOPNOTSUPP : 0;
	}
	if (!err)
		err = fill_window(map, 0, offset, true, 0);
	if (err) {
		map->busy_ns = now_ns + BUSY_NS;
		return err;
	}
	map->windows[0].used = ++map->uses;
	if (!map->file->block_device)
		atomic_store_explicit(&map->file->fingerprint, map->fingerprint,
				      memory_order_relaxed);
	map->stack_generation = map->stack->generation;
	map->epoch = ++map->last_epoch;
	if (map->epoch == 0)
		map->epoch = ++map->last_epoch;
	return 0;
}

/*
 * A block device stays what it is, but what others wrote to its page cache must come
 * down, since it is not this device that is read.
 */
static void flush_device(struct file_map *map, uint64_t fingerprint)
{
	if (fsync(map->file->fd) == 0)
		map->fingerprint = fingerprint;
}

static bool epoch_stands(struct file_map *map)
{
	uint64_t fingerprint = atomic_load_explicit(&map->file->fingerprint, memory_order_relaxed);

	if (!map->epoch || map->stack_generation != map->stack->generation)
		return false;
	if (map->file->block_device && fingerprint != map->fingerprint)
		flush_device(map, fingerprint);
	return fingerprint == map->fingerprint;
}

/* ---- Looking up ---- */

static bool covers(const struct extent_window *window, uint64_t offset)
{
	return window && window->start <= offset && offset < window->end;
}

/* The window that covers the offset, asked for within this check if that is not 0. */
static int find_window(struct file_map *map, uint64_t offset, uint64_t check,
		       const struct extent_window **window)
{
	size_t i = 0;
	int err;

	while (i < FILE_WINDOWS && !covers(map->windows[i].extents, offset))
		i++;
	if (i == FILE_WINDOWS) {
		i = oldest_window(map);
		err = fill_window(map, i, offset, false, check);
		if (err)
			return err;
	} else if (check && map->windows[i].checked != check) {
		err = fill_window(map, i, map->windows[i].extents->start, false, check);
		if (err)
			return err;
		/* It may reach less far than before. */
		if (!covers(map->windows[i].extents, offset))
			return find_window(map, offset, check, window);
	}
	map->windows[i].used = ++map->uses;
	*window = map->windows[i].extents;
	return 0;
}

static bool on_volume(const struct stack *stack, uint64_t offset, uint64_t bytes,
		      struct volume_place *place)
{
	return stack->volume && volume_locate(stack->volume, offset, bytes, place);
}

static void place_data(struct file_map *map, const struct extent *extent, uint64_t bytes,
		       struct spot *spot)
{
	struct volume_place place;

	if (!on_volume(map->stack, extent->physical, bytes, &place) &&
	    (!stack_outgrown(map->stack) ||
	     !on_volume(map->stack, extent->physical, bytes, &place))) {
		spot->kind = SPOT_REFUSED;
		spot->reason = "the volumes below the file system do not hold it";
		return;
	}
	spot->kind = SPOT_DATA;
	spot->disk = place.disk;
	spot->offset = place.offset;
	spot->bytes = place.bytes;
	if (!is_aligned(place.offset, map->stack->disks[place.disk].block_bytes)) {
		spot->kind = SPOT_REFUSED;
		spot->reason = "it does not begin at a block of the disk";
	}
}

static const char *map_failure(const struct file_map *map, int err)
{
	if (map->refusal)
		return map->refusal->reason;
	return err == -EOPNOTSUPP || err == -ENOTTY ? "its file system does not tell where it is"
						    : gds_errno_text(-err);
}

static void locate(struct file_map *map, uint64_t offset, uint64_t bytes, uint64_t check,
		   struct spot *spot)
{
	const struct extent_window *window;
	struct extent extent;
	int err = find_window(map, offset, check, &window);

	*spot = (struct spot){ .bytes = bytes, .epoch = map->epoch };
	if (err) {
		spot->kind = SPOT_REFUSED;
		spot->reason = map_failure(map, err);
		return;
	}
	extent = window_at(window, offset);
	spot->bytes = min_u64(extent.bytes, bytes);
	switch (extent.kind) {
	case EXTENT_DATA:
		place_data(map, &extent, spot->bytes, spot);
		break;
	case EXTENT_ZEROS:
		spot->kind = SPOT_ZEROS;
		break;
	case EXTENT_REFUSED:
		/* What has no place yet was written after the epoch's flush. */
		spot->kind = extent.flags & FIEMAP_EXTENT_DELALLOC ? SPOT_CHANGING : SPOT_REFUSED;
		spot->reason = extent_refusal(extent.flags);
		break;
	}
}

/* The epoch that holds, or a new one. */
static int need_epoch(struct file_map *map, uint64_t offset)
{
	return epoch_stands(map) ? 0 : begin_epoch(map, offset);
}

void file_map_locate(struct file_map *map, uint64_t offset, uint64_t bytes, struct spot *spot)
{
	int err = need_epoch(map, offset);

	*spot = (struct spot){ .kind = SPOT_CHANGING, .bytes = bytes };
	if (err && err != -EBUSY) {
		spot->kind = SPOT_REFUSED;
		spot->reason = map_failure(map, err);
	}
	if (err)
		return;
	/* A block that the file has no byte of any more is nowhere at all. */
	if (offset >= map->stamp.bytes) {
		spot->epoch = map->epoch;
		return;
	}
	locate(map, offset, bytes, 0, spot);
	if (spot->kind != SPOT_CHANGING)
		return;
	end_epoch(map);
	if (need_epoch(map, offset) == 0 && offset < map->stamp.bytes)
		locate(map, offset, bytes, 0, spot);
}

static void survey_run(struct file_map *map, const struct extent *extent, uint64_t bytes,
		       struct file_survey *survey)
{
	struct spot spot = { .reason = extent_refusal(extent->flags) };

	if (extent->kind == EXTENT_DATA)
		place_data(map, extent, bytes, &spot);
	if (extent->kind == EXTENT_ZEROS) {
		survey->zero_bytes += bytes;
	} else if (extent->kind == EXTENT_DATA && spot.kind == SPOT_DATA) {
		survey->data_bytes += bytes;
		survey->runs++;
	} else {
		survey->refused_bytes += bytes;
		survey->reason = survey->reason ? survey->reason : spot.reason;
	}
}

void file_map_survey(struct file_map *map, struct file_survey *survey)
{
	const struct extent_window *window;
	struct extent extent;
	uint64_t bytes;
	int err = need_epoch(map, 0);

	*survey = (struct file_survey){ 0 };
	if (!err)
		err = find_window(map, 0, 0, &window);
	survey->changing = err == -EBUSY;
	if (err && err != -EBUSY) {
		survey->refused_bytes = map->stamp.bytes;
		survey->reason = map_failure(map, err);
	}
	if (err)
		return;
	survey->whole = window->end >= map->stamp.bytes;
	for (uint64_t offset = 0; offset < min_u64(window->end, map->stamp.bytes);
	     offset += bytes) {
		extent = window_at(window, offset);
		bytes = min_u64(extent.bytes, map->stamp.bytes - offset);
		survey_run(map, &extent, bytes, survey);
	}
}

/* ---- Afterwards ---- */

static bool unchanged(struct file_map *map, uint64_t check)
{
	struct file_stamp now = { 0 };
	uint64_t fingerprint;

	if (!stack_confirm(map->stack, check) || map->stack_generation != map->stack->generation)
		return false;
	return take_stamp(map, &now, &fingerprint) == 0 && same_stamp(&map->stamp, &now);
}

bool file_map_confirm(struct file_map *map, uint64_t check, uint64_t offset,
		      const struct spot *spot)
{
	struct spot now;

	if (map->checked != check) {
		map->checked = check;
		map->check_good = map->epoch && unchanged(map, check);
		if (!map->check_good)
			end_epoch(map);
	}
	if (!map->check_good || spot->epoch != map->epoch)
		return false;
	locate(map, offset, spot->bytes, check, &now);
	if (now.kind == spot->kind && now.bytes == spot->bytes && now.disk == spot->disk &&
	    now.offset == spot->offset)
		return true;
	map->check_good = false;
	end_epoch(map);
	return false;
}

/* ---- Opening and closing ---- */

int file_map_open(struct file_map **map_out, struct gds_file *file, struct stack *stack)
{
	struct file_map *map = calloc(1, sizeof(*map));

	if (!map)
		return gds_fail_errno(ENOMEM, "cannot keep the extents of %s", file->path);
	map->file = file;
	map->stack = stack;
	for (size_t i = 0; i < stack->disk_count; i++)
		map->block_bytes = (uint32_t)max_u64(map->block_bytes, stack->disks[i].block_bytes);
	*map_out = map;
	return 0;
}

void file_map_close(struct file_map *map)
{
	if (!map)
		return;
	drop_windows(map);
	free(map);
}
