/* SPDX-License-Identifier: Apache-2.0 */
#include "path/dmabuf.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/verdict.h"
#include "lane/dmabuf.h"
#include "path/below.h"
#include "reader.h"
#include "storage/file.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define NO_READS        "this kernel's io_uring does not read into dma-bufs"
#define NO_READS_REMEDY "boot a kernel with the series of gds (docs/kernel.md)"

int dmabuf_map_get(struct gds_reader *reader, const struct reader_target *target,
		   struct backend_memory *memory, struct dmabuf_map **map)
{
	size_t count = (size_t)((memory->bytes + memory->slice_bytes - 1) / memory->slice_bytes);
	struct dmabuf_map *new;

	for (new = reader->maps; new; new = new->next) {
		if (new->target == target &&new->memory == memory) {
			*map = new;
			return 0;
		}
	}
	new = calloc(1, sizeof(*new) + count * sizeof(new->slots[0]));
	if (!new)
		return gds_fail_errno(ENOMEM, "cannot keep a buffer's dma-bufs");
	new->target = target;
	new->memory = memory;
	new->count = count;
	for (size_t i = 0; i < count; i++)
		new->slots[i].slot = LANE_NO_BUFFER;
	new->next = reader->maps;
	reader->maps = new;
	*map = new;
	return 0;
}

static void empty_slot(struct gds_reader *reader, struct dmabuf_slot *slot)
{
	if (slot->slot == LANE_NO_BUFFER)
		return;
	reader->lane->ops->buffer_remove(reader->lane, slot->slot);
	slot->slot = LANE_NO_BUFFER;
}

void dmabuf_maps_close(struct gds_reader *reader, const struct reader_target *target,
		       const struct backend_memory *memory)
{
	struct dmabuf_map **link = &reader->maps;
	struct dmabuf_map *map;

	while ((map = *link) != NULL) {
		if (map->target != target && map->memory != memory) {
			link = &map->next;
			continue;
		}
		*link = map->next;
		for (size_t i = 0; i < map->count; i++)
			empty_slot(reader, &map->slots[i]);
		free(map);
	}
}

bool dmabuf_target_used(const struct gds_reader *reader, const struct reader_target *target)
{
	for (const struct dmabuf_map *map = reader->maps; map; map = map->next)
		for (size_t i = 0; map->target == target && i < map->count; i++)
			if (map->slots[i].slot != LANE_NO_BUFFER)
				return true;
	return false;
}

/* Gives up the slot that was used the longest ago and is idle. */
static int evict(struct gds_reader *reader)
{
	struct dmabuf_slot *oldest = NULL;

	for (struct dmabuf_map *map = reader->maps; map; map = map->next) {
		for (size_t i = 0; i < map->count; i++) {
			struct dmabuf_slot *slot = &map->slots[i];

			if (slot->slot != LANE_NO_BUFFER && !slot->in_flight &&
			    (!oldest || slot->used < oldest->used))
				oldest = slot;
		}
	}
	if (!oldest)
		return -ENOSPC;
	empty_slot(reader, oldest);
	return 0;
}

static void explain_refusal(struct gds_path_verdict *verdict, const char *name,
			    const struct backend_export *exported, int error)
{
	char reason[sizeof(verdict->reason)];
	const char *remedy = "use mapped or bounce";

	switch (error) {
	case EOPNOTSUPP:
		gds_text_set(reason, sizeof(reason),
			     "%s is not a device whose driver takes dma-bufs (nvme-pci does; "
			     "device-mapper, md and multipath heads do not)",
			     name);
		remedy = "read the NVMe device below it";
		break;
	case EINVAL:
		gds_text_set(
			reason, sizeof(reason),
			"the kernel refused a dma-buf of %llu bytes for %s (EINVAL): it must "
			"be a multiple of 4096, at most 1 GiB, and the file open with O_DIRECT",
			(unsigned long long)exported->bytes, name);
		break;
	case ENOMEM:
		gds_text_set(reason, sizeof(reason),
			     "the kernel has no memory, or no room in the IOMMU, for a dma-buf of "
			     "%llu bytes (ENOMEM)",
			     (unsigned long long)exported->bytes);
		remedy = "raise the locked-memory limit (ulimit -l), or read into smaller buffers";
		break;
	case EBADF:
		gds_text_set(reason, sizeof(reason),
			     "the kernel does not take this dma-buf for %s (EBADF)", name);
		break;
	case ENODEV:
		gds_text_set(reason, sizeof(reason),
			     "%s is gone, or the memory's driver has revoked it (ENODEV)", name);
		remedy = "see the kernel log; open the file and the buffer anew";
		break;
	case ENOSYS:
		gds_text_set(reason, sizeof(reason), "%s in the shape that was asked for",
			     NO_READS);
		remedy = dmabuf_kernel_shape() == DMABUF_NONE
				 ? NO_READS_REMEDY
				 : "leave the shape to gds, which takes the newest that there is";
		break;
	case ENOSPC:
		gds_text_set(reason, sizeof(reason),
			     "all slots for registered memory are in use at once");
		remedy = "read into fewer buffers at once";
		break;
	default:
		gds_text_set(reason, sizeof(reason), "the memory could not be mapped for %s: %s",
			     name, gds_errno_text(error));
		remedy = "check that the drive can reach the device peer to peer "
			 "(CONFIG_PCI_P2PDMA, a common PCIe switch, or a host bridge that the "
			 "kernel lists), and the kernel log";
	}
	verdict_refuse(verdict, reason, remedy);
}

static int fill_slot(struct gds_reader *reader, struct dmabuf_map *map, size_t slice,
		     struct gds_path_verdict *verdict)
{
	struct dmabuf_slot *slot = &map->slots[slice];
	struct backend_export exported;
	uint64_t begun_ns;
	int err;

	err = map->memory->device->ops->export_slice(map->memory, slice, &exported);
	if (err) {
		verdict_refuse(verdict, gds_last_error(), "use mapped or bounce");
		return err;
	}
	begun_ns = clock_now_ns();
	do
		err = reader->lane->ops->dmabuf_add(reader->lane, map->target->fd, exported.fd,
						    &slot->slot);
	while (err == -ENOSPC && evict(reader) == 0);
	close(exported.fd);
	if (err) {
		slot->slot = LANE_NO_BUFFER;
		explain_refusal(verdict, map->target->name, &exported, -err);
		return gds_fail(-err, "%s", verdict->reason);
	}
	gds_info("registered a dma-buf of %llu bytes for %s, in %llu us",
		 (unsigned long long)exported.bytes, map->target->name,
		 (unsigned long long)(clock_now_ns() - begun_ns) / 1000);
	slot->offset = exported.offset;
	return 0;
}

int dmabuf_slot_get(struct gds_reader *reader, struct dmabuf_map *map, uint64_t place,
		    struct dmabuf_slot **slot, struct gds_path_verdict *verdict)
{
	size_t slice = (size_t)(place / map->memory->slice_bytes);
	int err = 0;

	*slot = &map->slots[slice];
	if ((*slot)->slot == LANE_NO_BUFFER)
		err = fill_slot(reader, map, slice, verdict);
	(*slot)->used = ++reader->dmabuf_clock;
	return err;
}

const struct reader_target *reader_target_of(const struct reader_file *file, size_t number)
{
	if (!file->map)
		return number == 0 ? &file->own : NULL;
	return number < file->volumes->stack->disk_count ? file->volumes->targets[number] : NULL;
}

/* Whether the memory can be registered for all that the file may be read from. */
static int judge_targets(struct gds_reader *reader, struct reader_file *file,
			 struct backend_memory *memory, struct gds_path_verdict *verdict)
{
	const struct reader_target *target;
	struct dmabuf_map *map = NULL;
	struct dmabuf_slot *slot;
	int err = 0;

	for (size_t i = 0; !err && (target = reader_target_of(file, i)) != NULL; i++) {
		if (dmabuf_map_get(reader, target, memory, &map))
			return verdict_refuse(verdict, gds_last_error(), "");
		err = dmabuf_slot_get(reader, map, 0, &slot, verdict);
	}
	return err;
}

int dmabuf_judge(struct gds_reader *reader, struct reader_file *file, struct backend_memory *memory,
		 struct gds_path_verdict *verdict)
{
	char reason[sizeof(verdict->reason)];

	if (!reader->lane->ops->dmabuf_add)
		return verdict_refuse(verdict, "the thread lane cannot read into dma-bufs",
				      "use the io_uring lane");
	if (reader->options.dmabuf_shape == DMABUF_NONE)
		return verdict_refuse(verdict, NO_READS, NO_READS_REMEDY);
	if (!memory->device->ops->export_slice) {
		gds_text_set(reason, sizeof(reason),
			     "memory of a %s device cannot be exported as a dma-buf",
			     memory->device->ops->name);
		return verdict_refuse(verdict, reason, "use mapped or bounce");
	}
	if (!below_is(file->file) && !file->direct)
		return verdict_refuse(verdict, file->reason, "use mapped or bounce");
	verdict_allow(verdict, "", "");
	if (below_is(file->file) &&
	    (below_open(reader, file, verdict) || below_judge(file, verdict)))
		return -EOPNOTSUPP;
	return judge_targets(reader, file, memory, verdict);
}
