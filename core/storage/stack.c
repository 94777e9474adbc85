/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/stack.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "path/verdict.h"
#include "storage/btrfs.h"
#include "storage/dm.h"
#include "storage/md.h"
#include "storage/stack-private.h"
#include "storage/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define SECTOR UINT64_C(512)
/* Volumes on volumes: more than anyone stacks. */
#define DEPTH_MAX 8
/* How often a btrfs is looked at for new chunks. */
#define OUTGROWN_NS (NS_PER_S / 10)

/* ---- What a stack is built with ---- */

int stack_refuse(struct stack_builder *builder, const char *reason, const char *remedy)
{
	verdict_refuse(builder->verdict, reason, remedy);
	return gds_fail(EOPNOTSUPP, "%s", builder->verdict->reason);
}

int stack_no_memory(void)
{
	return gds_fail_errno(ENOMEM, "cannot keep what a block device stands on");
}

int stack_add(struct stack_builder *builder, enum volume_kind kind, size_t count,
	      struct volume **volume)
{
	*volume = volume_new(kind, count);
	if (!*volume)
		return stack_no_memory();
	(*volume)->next = builder->stack->volumes;
	builder->stack->volumes = *volume;
	return 0;
}

void stack_say(struct stack_builder *builder, const char *text)
{
	size_t used = strlen(builder->stack->text);

	gds_text_set(builder->stack->text + used, sizeof(builder->stack->text) - used, "%s", text);
}

/* What is watched: an attribute of sysfs, or the table of a device of device-mapper. */
struct stack_watch {
	struct stack_watch *next;
	char *path; /* of the attribute */
	char *value;
	dev_t device;
	struct dm_table *table;
};

static void free_watches(struct stack *stack)
{
	struct stack_watch *watch;

	while ((watch = stack->watches) != NULL) {
		stack->watches = watch->next;
		dm_table_free(watch->table);
		free(watch->path);
		free(watch->value);
		free(watch);
	}
}

int stack_watch_path(struct stack_builder *builder, const char *path, const char *value)
{
	struct stack_watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return stack_no_memory();
	watch->next = builder->stack->watches;
	builder->stack->watches = watch;
	watch->path = strdup(path);
	watch->value = strdup(value);
	return watch->path && watch->value ? 0 : stack_no_memory();
}

int stack_watch_attribute(struct stack_builder *builder, dev_t device, const char *name,
			  const char *value)
{
	char path[SYSFS_PATH_BYTES];

	sysfs_path(path, sizeof(path), device, name);
	return stack_watch_path(builder, path, value);
}

/* Takes the table over, also where it fails. */
static int watch_table(struct stack_builder *builder, dev_t device, struct dm_table *table)
{
	struct stack_watch *watch = calloc(1, sizeof(*watch));

	if (!watch) {
		dm_table_free(table);
		return stack_no_memory();
	}
	watch->device = device;
	watch->table = table;
	watch->next = builder->stack->watches;
	builder->stack->watches = watch;
	return 0;
}

/* ---- Disks ---- */

static int refuse_opening(struct stack_builder *builder, const char *name, int error)
{
	char reason[sizeof(builder->verdict->reason)];
	char remedy[sizeof(builder->verdict->remedy)];

	gds_text_set(reason, sizeof(reason), "the disk below, /dev/%s, cannot be opened: %s", name,
		     gds_errno_text(error));
	switch (error) {
	case EACCES:
		gds_text_set(remedy, sizeof(remedy),
			     "let the process read the device (setfacl -m u:USER:r /dev/%s, or the "
			     "group that owns it): who may do that may read every file on it",
			     name);
		break;
	case EPERM:
		gds_text_set(remedy, sizeof(remedy),
			     "let the container have the device (--device=/dev/%s:/dev/%s:r)", name,
			     name);
		break;
	case ENOENT:
		gds_text_set(remedy, sizeof(remedy),
			     "make the device known in this /dev (in a container: "
			     "--device=/dev/%s:/dev/%s:r)",
			     name, name);
		break;
	default:
		remedy[0] = '\0';
	}
	builder->not_opened = true;
	return stack_refuse(builder, reason, remedy);
}

/* The node in /dev may be anything: it is taken only if it is this device. */
static int open_disk(struct stack_builder *builder, struct stack_disk *disk)
{
	char path[SYSFS_PATH_BYTES];
	struct stat status;
	int block = 0;

	snprintf(path, sizeof(path), "/dev/%s", disk->name);
	disk->fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (disk->fd < 0)
		return refuse_opening(builder, disk->name, errno);
	if (fstat(disk->fd, &status) == 0 && S_ISBLK(status.st_mode) &&
	    status.st_rdev == disk->device && ioctl(disk->fd, BLKSSZGET, &block) == 0 &&
	    block > 0) {
		disk->block_bytes = (uint32_t)block;
		return 0;
	}
	close(disk->fd);
	return refuse_opening(builder, disk->name, ENOENT);
}

static int find_disk(struct stack_builder *builder, dev_t device, const char *name,
		     uint32_t *number)
{
	struct stack *stack = builder->stack;
	struct stack_disk *disk = &stack->disks[stack->disk_count];
	int err;

	for (size_t i = 0; i < stack->disk_count; i++) {
		if (stack->disks[i].device == device) {
			*number = (uint32_t)i;
			return 0;
		}
	}
	if (stack->disk_count == STACK_DISKS_MAX)
		return stack_refuse(builder, "the file system stands on more than 64 disks",
				    "use mapped or bounce");
	disk->device = device;
	gds_text_set(disk->name, sizeof(disk->name), "%s", name);
	err = open_disk(builder, disk);
	if (!err)
		*number = (uint32_t)stack->disk_count++;
	return err;
}

static int build_disk(struct stack_builder *builder, dev_t device, const char *name,
		      struct volume **volume)
{
	uint32_t number = 0;
	int err = find_disk(builder, device, name, &number);

	if (err)
		return err;
	err = stack_add(builder, VOLUME_DISK, 0, volume);
	if (err)
		return err;
	(*volume)->disk = number;
	stack_say(builder, name);
	return 0;
}

/* ---- Partitions ---- */

static int build_partition(struct stack_builder *builder, dev_t device, const char *name,
			   struct volume **volume)
{
	size_t said = strlen(builder->stack->text);
	uint64_t start;
	uint64_t sectors;
	dev_t disk;
	int err = sysfs_number(device, "start", &start);

	if (!err)
		err = sysfs_number(device, "size", &sectors);
	if (!err)
		err = sysfs_device(device, "../dev", &disk);
	if (err)
		return stack_refuse(builder, "sysfs does not tell where the partition lies", "");
	err = stack_add(builder, VOLUME_LINEAR, 1, volume);
	if (err)
		return err;
	(*volume)->parts[0] = (struct volume_part){
		.offset = start * SECTOR,
		.bytes = sectors * SECTOR,
	};
	stack_say(builder, name);
	stack_say(builder, " of ");
	err = stack_build(builder, disk, &(*volume)->parts[0].below);
	if (!err || !builder->not_opened)
		return err;
	/* The process may have the partition alone: that serves as well. */
	builder->not_opened = false;
	builder->stack->text[said] = '\0';
	return build_disk(builder, device, name, volume);
}

/* ---- Device-mapper ---- */

static int refuse_line(struct stack_builder *builder, const char *name, const struct dm_line *line)
{
	char reason[sizeof(builder->verdict->reason)];

	if (strcmp(line->type, "crypt") == 0)
		gds_text_set(reason, sizeof(reason),
			     "%s is encrypted (dm-crypt): the disk holds other bytes than the file",
			     name);
	else
		gds_text_set(reason, sizeof(reason),
			     "%s is a device-mapper device of the type %s: gds sees through linear "
			     "and striped ones",
			     name, line->type);
	return stack_refuse(builder, reason, "use mapped or bounce");
}

/* "MAJOR:MINOR OFFSET", the latter in sectors. */
static bool parse_target(const char **at, dev_t *device, uint64_t *offset)
{
	uint64_t sectors;

	*at += strspn(*at, " ");
	if (!text_device(at, device) || !text_number(at, &sectors))
		return false;
	*offset = sectors * SECTOR;
	return true;
}

static int refuse_syntax(struct stack_builder *builder)
{
	return stack_refuse(builder, "a table of device-mapper is not understood", "");
}

static int build_linear_line(struct stack_builder *builder, const struct dm_line *line,
			     struct volume_part *part)
{
	const char *at = line->params;
	dev_t device;

	if (!parse_target(&at, &device, &part->offset))
		return refuse_syntax(builder);
	return stack_build(builder, device, &part->below);
}

/* "STRIPES CHUNK" and a target for each stripe. */
static int build_striped_line(struct stack_builder *builder, const struct dm_line *line,
			      struct volume_part *part)
{
	const char *at = line->params;
	struct volume *volume;
	uint64_t count;
	uint64_t chunk;
	dev_t device;
	int err;

	if (!text_number(&at, &count) || !text_number(&at, &chunk) || count == 0 || chunk == 0 ||
	    count > STACK_DISKS_MAX || line->bytes % (chunk * SECTOR * count))
		return refuse_syntax(builder);
	err = stack_add(builder, VOLUME_STRIPED, count, &volume);
	if (err)
		return err;
	volume->bytes = line->bytes;
	part->below = volume;
	volume->chunk_bytes = chunk * SECTOR;
	for (size_t i = 0; i < count && !err; i++) {
		if (!parse_target(&at, &device, &volume->parts[i].offset))
			return refuse_syntax(builder);
		volume->parts[i].bytes = line->bytes / count;
		err = stack_build(builder, device, &volume->parts[i].below);
	}
	if (!err && volume_make_zones(volume))
		err = stack_no_memory();
	return err;
}

static int build_line(struct stack_builder *builder, const char *name, const struct dm_line *line,
		      struct volume_part *part)
{
	part->start = line->start;
	part->bytes = line->bytes;
	if (strcmp(line->type, "linear") == 0)
		return build_linear_line(builder, line, part);
	if (strcmp(line->type, "striped") == 0)
		return build_striped_line(builder, line, part);
	return refuse_line(builder, name, line);
}

static int refuse_table(struct stack_builder *builder, const char *name, int error)
{
	char reason[sizeof(builder->verdict->reason)];

	gds_text_set(reason, sizeof(reason), "the table of %s cannot be read: %s", name,
		     gds_errno_text(error));
	return stack_refuse(builder, reason,
			    error == EACCES || error == EPERM || error == ENOENT
				    ? "device-mapper tells it to processes with CAP_SYS_ADMIN "
				      "and /dev/mapper/control"
				    : "");
}

static int build_dm(struct stack_builder *builder, dev_t device, const char *name,
		    struct volume **volume)
{
	struct dm_table *table;
	char title[SYSFS_VALUE_BYTES] = "";
	int err = dm_table_get(device, &table);

	if (err)
		return refuse_table(builder, name, -err);
	err = watch_table(builder, device, table);
	if (!err)
		err = stack_add(builder, VOLUME_LINEAR, table->count, volume);
	if (err)
		return err;
	sysfs_get(device, "dm/name", title, sizeof(title));
	stack_say(builder, name);
	stack_say(builder, " (");
	stack_say(builder, title);
	stack_say(builder, ": ");
	for (size_t i = 0; i < table->count && !err; i++) {
		if (i)
			stack_say(builder, ", ");
		err = build_line(builder, title[0] ? title : name, &table->lines[i],
				 &(*volume)->parts[i]);
	}
	stack_say(builder, ")");
	return err;
}

/* ---- Whatever it is ---- */

bool stack_is_volume(dev_t device)
{
	return sysfs_has(device, "dm") || sysfs_has(device, "md") || sysfs_has(device, "../dm") ||
	       sysfs_has(device, "../md"); /* a partition of one */
}

static int build_any(struct stack_builder *builder, dev_t device, const char *name,
		     struct volume **volume)
{
	char reason[sizeof(builder->verdict->reason)];

	if (sysfs_has(device, "partition"))
		return build_partition(builder, device, name, volume);
	if (sysfs_has(device, "dm"))
		return build_dm(builder, device, name, volume);
	if (sysfs_has(device, "md"))
		return md_build(builder, device, name, volume);
	if (!sysfs_has(device, "bcache"))
		return build_disk(builder, device, name, volume);
	gds_text_set(reason, sizeof(reason), "%s is of bcache, through which gds does not see",
		     name);
	return stack_refuse(builder, reason, "use mapped or bounce");
}

static struct volume *find_volume(const struct stack *stack, dev_t device)
{
	struct volume *volume = stack->volumes;

	while (volume && volume->device != device)
		volume = volume->next;
	return volume;
}

int stack_build(struct stack_builder *builder, dev_t device, struct volume **volume)
{
	char reason[sizeof(builder->verdict->reason)];
	uint64_t sectors;
	char name[64];
	int err;

	*volume = find_volume(builder->stack, device);
	if (*volume)
		return 0;
	if (sysfs_name(device, name, sizeof(name)) || sysfs_number(device, "size", &sectors)) {
		gds_text_set(reason, sizeof(reason),
			     "sysfs does not know the block device %u:%u below the file system",
			     major(device), minor(device));
		return stack_refuse(builder, reason, "");
	}
	if (builder->depth == DEPTH_MAX)
		return stack_refuse(builder, "too many volumes stand on each other", "");
	builder->depth++;
	err = build_any(builder, device, name, volume);
	builder->depth--;
	if (err)
		return err;
	(*volume)->device = device;
	(*volume)->bytes = sectors * SECTOR;
	return 0;
}

/* ---- Opening, and looking again ---- */

static int build(struct stack *stack, struct gds_path_verdict *verdict)
{
	struct stack_builder builder = { .stack = stack, .verdict = verdict };
	int err;

	stack->text[0] = '\0';
	if (stack->btrfs_fd >= 0)
		err = btrfs_build(&builder, stack->btrfs_fd, &stack->volume);
	else
		err = stack_build(&builder, stack->device, &stack->volume);
	if (err)
		stack->volume = NULL;
	return err;
}

int stack_open(dev_t device, int fd, struct stack **stack_out, struct gds_path_verdict *verdict)
{
	struct stack *stack = calloc(1, sizeof(*stack));
	int err = 0;

	if (!stack)
		return stack_no_memory();
	stack->device = device;
	stack->btrfs_fd = -1;
	if (btrfs_is(fd)) {
		stack->btrfs_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (stack->btrfs_fd < 0)
			err = gds_fail_errno(errno, "cannot keep a file system open");
	}
	if (!err)
		err = build(stack, verdict);
	if (err) {
		stack_close(stack);
		return err;
	}
	*stack_out = stack;
	return 0;
}

void stack_close(struct stack *stack)
{
	if (!stack)
		return;
	volumes_free(stack->volumes);
	free_watches(stack);
	for (size_t i = 0; i < stack->disk_count; i++)
		close(stack->disks[i].fd);
	if (stack->btrfs_fd >= 0)
		close(stack->btrfs_fd);
	free(stack);
}

static bool table_holds(const struct stack_watch *watch)
{
	struct dm_table *now;
	bool same;

	if (dm_table_get(watch->device, &now))
		return false;
	same = dm_table_same(watch->table, now);
	dm_table_free(now);
	return same;
}

static bool holds(const struct stack *stack)
{
	char value[SYSFS_VALUE_BYTES];

	for (const struct stack_watch *watch = stack->watches; watch; watch = watch->next) {
		if (watch->table) {
			if (!table_holds(watch))
				return false;
		} else if (sysfs_text(watch->path, value, sizeof(value)) ||
			   strcmp(value, watch->value) != 0) {
			return false;
		}
	}
	return true;
}

static int build_anew(struct stack *stack, struct gds_path_verdict *verdict)
{
	volumes_free(stack->volumes);
	stack->volumes = NULL;
	stack->volume = NULL;
	free_watches(stack);
	return build(stack, verdict);
}

bool stack_outgrown(struct stack *stack)
{
	struct gds_path_verdict verdict;
	uint64_t now_ns = clock_now_ns();

	if (stack->btrfs_fd < 0 || now_ns - stack->outgrown_ns < OUTGROWN_NS)
		return false;
	stack->outgrown_ns = now_ns;
	/* What was known of chunks stays true: their addresses are never used again. */
	return build_anew(stack, &verdict) == 0;
}

bool stack_confirm(struct stack *stack, uint64_t check)
{
	struct gds_path_verdict verdict;

	if (stack->checked == check)
		return true; /* whoever asks second sees the generation */
	stack->checked = check;
	if (stack->volume && holds(stack))
		return true;
	stack->generation++;
	if (build_anew(stack, &verdict))
		gds_warn("the volumes below a file system have changed: %s", verdict.reason);
	else
		gds_info("the volumes below a file system have changed: now %s", stack->text);
	return false;
}
