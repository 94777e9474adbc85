/* SPDX-License-Identifier: Apache-2.0 */
#include "path/below.h"

#include "base/bits.h"
#include "base/error.h"
#include "base/log.h"
#include "base/verdict.h"
#include "memory/device.h"
#include "reader.h"
#include "storage/drive.h"
#include "storage/file.h"
#include "storage/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Targets ---- */

static int make_target(struct gds_reader *reader, const struct stack_disk *disk,
		       struct reader_target **target)
{
	struct reader_target *new = calloc(1, sizeof(*new));
	int err;

	if (!new)
		return gds_fail_errno(ENOMEM, "cannot keep the device %s", disk->name);
	new->device = disk->device;
	new->name = strdup(disk->name);
	/* The volumes may go before it does. */
	new->fd = fcntl(disk->fd, F_DUPFD_CLOEXEC, 0);
	err = !new->name ? -ENOMEM : new->fd < 0 ? -errno : 0;
	if (!err)
		err = reader->lane->ops->file_add(reader->lane, new->fd, &new->slot);
	if (err) {
		if (new->fd >= 0)
			close(new->fd);
		free(new->name);
		free(new);
		return gds_fail_errno(-err, "cannot hand %s to the lane", disk->name);
	}
	new->next = reader->targets;
	reader->targets = new;
	*target = new;
	return 0;
}

static int get_target(struct gds_reader *reader, const struct stack_disk *disk,
		      struct reader_target **target)
{
	for (*target = reader->targets; *target; *target = (*target)->next)
		if ((*target)->device == disk->device)
			return 0;
	return make_target(reader, disk, target);
}

static void close_target(struct gds_reader *reader, struct reader_target *target)
{
	struct reader_target **link = &reader->targets;

	while (*link != target)
		link = &(*link)->next;
	*link = target->next;
	dmabuf_maps_close(reader, target, NULL);
	reader->lane->ops->file_remove(reader->lane, target->slot);
	close(target->fd);
	free(target->name);
	free(target);
}

void below_close_targets(struct gds_reader *reader)
{
	while (reader->targets)
		close_target(reader, reader->targets);
}

static bool is_target_of_any(const struct gds_reader *reader, const struct reader_target *target)
{
	for (const struct reader_volumes *volumes = reader->volumes; volumes;
	     volumes = volumes->next)
		for (size_t i = 0; i < STACK_DISKS_MAX; i++)
			if (volumes->targets[i] == target)
				return true;
	return false;
}

/* A device that takes no dma-bufs is of no use any more, and may have to go: a loop device. */
static void close_useless_targets(struct gds_reader *reader)
{
	struct reader_target *next;

	for (struct reader_target *target = reader->targets; target; target = next) {
		next = target->next;
		if (!dmabuf_target_used(reader, target) && !is_target_of_any(reader, target))
			close_target(reader, target);
	}
}

int below_target(struct gds_reader *reader, struct reader_volumes *volumes, uint32_t disk,
		 struct reader_target **target)
{
	int err;

	*target = volumes->targets[disk];
	if (*target)
		return 0;
	err = get_target(reader, &volumes->stack->disks[disk], target);
	if (!err)
		volumes->targets[disk] = *target;
	return err;
}

/* ---- Volumes ---- */

static void close_volumes(struct gds_reader *reader, struct reader_volumes *volumes)
{
	struct reader_volumes **link = &reader->volumes;

	while (*link != volumes)
		link = &(*link)->next;
	*link = volumes->next;
	stack_close(volumes->stack);
	free(volumes);
	close_useless_targets(reader);
}

static int open_volumes(struct gds_reader *reader, dev_t device, int fd,
			struct reader_volumes **volumes, struct gds_path_verdict *verdict)
{
	struct reader_volumes *new = calloc(1, sizeof(*new));
	int err;

	if (!new)
		return gds_fail_errno(ENOMEM, "cannot keep what a file system stands on");
	err = stack_open(device, fd, &new->stack, verdict);
	if (err) {
		free(new);
		return err;
	}
	new->next = reader->volumes;
	reader->volumes = new;
	for (size_t i = 0; i < new->stack->disk_count && !err; i++)
		err = get_target(reader, &new->stack->disks[i], &new->targets[i]);
	if (err) {
		verdict_refuse(verdict, gds_last_error(), "");
		close_volumes(reader, new);
		return err;
	}
	gds_info("a file system is on %s", new->stack->text);
	*volumes = new;
	return 0;
}

static int get_volumes(struct gds_reader *reader, const struct gds_file *file,
		       struct reader_volumes **volumes, struct gds_path_verdict *verdict)
{
	int err;

	for (*volumes = reader->volumes; *volumes; *volumes = (*volumes)->next)
		if ((*volumes)->stack->device == file->on &&
		    (*volumes)->of_files == !file->block_device)
			return 0;
	err = file->block_device ? 0 : file_map_judge_file_system(file, verdict);
	if (!err)
		err = open_volumes(reader, file->on, file->fd, volumes, verdict);
	if (!err)
		(*volumes)->of_files = !file->block_device;
	return err;
}

/* ---- Leases ---- */

void below_enter(struct gds_reader *reader, struct reader_file *file)
{
	file->in_flight++;
	if (file->active)
		return;
	file->active = true;
	file->lease_tried = false;
	file->active_next = reader->active;
	reader->active = file;
}

void below_take_leases(struct gds_reader *reader)
{
	for (struct reader_file *file = reader->active; file; file = file->active_next) {
		if (file->lease_tried)
			continue;
		file->lease_tried = true;
		file->leased = lease_take(file->file);
	}
}

void below_give_leases(struct gds_reader *reader, bool all)
{
	struct reader_file **link = &reader->active;
	struct reader_file *file;

	while ((file = *link) != NULL) {
		if (file->leased && (all || !file->in_flight || !lease_stands(file->file))) {
			file->leased = false;
			lease_give(file->file);
		}
		if (file->in_flight) {
			link = &file->active_next;
		} else {
			*link = file->active_next;
			file->active = false;
		}
	}
}

/* ---- Files ---- */

static uint64_t together(struct plan_map *plan, uint64_t offset, uint64_t bytes)
{
	struct reader_file *file =
		(struct reader_file *)((char *)plan - offsetof(struct reader_file, plan));
	struct spot spot;

	file_map_locate(file->map, offset, bytes, &spot);
	return spot.kind == SPOT_ZEROS ? min_u64(spot.bytes, ZEROS_BYTES) : spot.bytes;
}

bool below_is(const struct gds_file *file)
{
	return !file->block_device || stack_is_volume(file->device);
}

static int judge_file(const struct gds_file *file, struct gds_path_verdict *verdict)
{
	const struct file_refusal *refusal = file_map_refuse_file(file);
	char reason[sizeof(verdict->reason)];

	if (!refusal)
		return 0;
	gds_text_set(reason, sizeof(reason), "%s cannot be read from the device below: %s",
		     file->path, refusal->reason);
	return verdict_refuse(verdict, reason, refusal->remedy);
}

int below_open(struct gds_reader *reader, struct reader_file *file,
	       struct gds_path_verdict *verdict)
{
	struct reader_volumes *volumes;
	int err;

	if (file->map)
		return 0;
	verdict_refuse(verdict, "", "");
	err = file->file->block_device ? 0 : judge_file(file->file, verdict);
	if (!err)
		err = get_volumes(reader, file->file, &volumes, verdict);
	if (!err) {
		err = file_map_open(&file->map, file->file, volumes->stack);
		if (!err) {
			file->volumes = volumes;
			volumes->files++;
			file->plan.together = together;
			atomic_store(&file->file->read_below, true);
		} else if (volumes->files == 0) {
			close_volumes(reader, volumes);
		}
	}
	if (err && !verdict->reason[0])
		verdict_refuse(verdict, gds_last_error(), "");
	return err;
}

int below_judge(struct reader_file *file, struct gds_path_verdict *verdict)
{
	const char *path = file->file->path;
	char text[sizeof(verdict->reason)];
	struct file_survey survey;

	verdict_allow(verdict, "", "");
	file_map_survey(file->map, &survey);
	if (survey.changing) {
		gds_text_set(text, sizeof(text),
			     "%s is being written, or its times lie in the future", path);
		return verdict_allow(verdict, text, "read it while nobody writes it");
	}
	if (!survey.refused_bytes)
		return 0;
	if (survey.data_bytes || survey.zero_bytes) {
		gds_text_set(text, sizeof(text),
			     "a part of %s cannot be read from the device below, and goes by "
			     "bounce: %s",
			     path, survey.reason);
		return verdict_allow(verdict, text, "");
	}
	gds_text_set(text, sizeof(text), "%s cannot be read from the device below: %s", path,
		     survey.reason);
	return verdict_refuse(verdict, text, "use mapped or bounce");
}

void below_describe(struct reader_file *file, char *layout, size_t size)
{
	struct file_survey survey;

	layout[0] = '\0';
	if (!file->map)
		return;
	file_map_survey(file->map, &survey);
	gds_text_set(
		layout, size, "on %s, %s%zu run%s of %" PRIu64 " bytes, %" PRIu64 " bytes of zeros",
		file->volumes->stack->text, survey.whole ? "" : "at its beginning ", survey.runs,
		survey.runs == 1 ? "" : "s", survey.data_bytes, survey.zero_bytes);
	if (survey.refused_bytes) {
		size_t used = strlen(layout);

		gds_text_set(layout + used, size - used,
			     ", %" PRIu64 " bytes not readable there: %s", survey.refused_bytes,
			     survey.reason);
	}
}

void below_describe_drives(const struct reader_file *file, const struct gds_device *device,
			   char *drives, size_t size)
{
	struct gds_device_info info = { .size = sizeof(info) };
	const struct reader_target *target;
	char line[256];
	size_t used = 0;

	drives[0] = '\0';
	if (device->backend->ops->info) /* doubles in tests have none */
		device->backend->ops->info(device->backend, &info);
	for (size_t i = 0; (target = reader_target_of(file, i)) != NULL && used < size; i++) {
		drive_describe(target->device, line, sizeof(line));
		drive_describe_distance(target->device, info.pci, line, sizeof(line));
		gds_text_set(drives + used, size - used, "%s%s", i ? "\n" : "", line);
		used = strlen(drives);
	}
}

void below_close(struct gds_reader *reader, struct reader_file *file)
{
	if (!file->map)
		return;
	below_give_leases(reader, false); /* it has nothing in flight */
	file_map_close(file->map);
	file->map = NULL;
	if (--file->volumes->files == 0)
		close_volumes(reader, file->volumes);
	file->volumes = NULL;
}
