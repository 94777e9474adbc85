/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/dm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SECTOR      UINT64_C(512)
#define FIRST_BYTES (16u << 10)
#define MOST_BYTES  (16u << 20)

/* Asks with room for `bytes`. -ENOSPC where the table needs more. */
static int ask(int control, dev_t device, size_t bytes, struct dm_ioctl **answer)
{
	struct dm_ioctl *io = calloc(1, bytes);
	int err = 0;

	if (!io)
		return -ENOMEM;
	io->version[0] = DM_VERSION_MAJOR;
	io->data_size = (uint32_t)bytes;
	io->data_start = sizeof(*io);
	io->dev = device;
	io->flags = DM_STATUS_TABLE_FLAG;
	if (ioctl(control, DM_TABLE_STATUS, io) != 0)
		err = -errno;
	else if (io->flags & DM_BUFFER_FULL_FLAG)
		err = -ENOSPC;
	else if (!(io->flags & DM_ACTIVE_PRESENT_FLAG))
		err = -ENODEV;
	if (err)
		free(io);
	else
		*answer = io;
	return err;
}

static struct dm_table *parse(struct dm_ioctl *io)
{
	const char *data = (const char *)io + io->data_start;
	const struct dm_target_spec *spec = (const struct dm_target_spec *)data;
	struct dm_table *table =
		calloc(1, sizeof(*table) + io->target_count * sizeof(table->lines[0]));

	if (!table)
		return NULL;
	table->count = io->target_count;
	table->answer = io;
	for (size_t i = 0; i < table->count; i++) {
		struct dm_line *line = &table->lines[i];

		line->start = spec->sector_start * SECTOR;
		line->bytes = spec->length * SECTOR;
		memcpy(line->type, spec->target_type, sizeof(line->type));
		line->type[sizeof(line->type) - 1] = '\0';
		line->params = (const char *)(spec + 1);
		/* Of an answer `next` counts from the first. */
		spec = (const struct dm_target_spec *)(data + spec->next);
	}
	return table;
}

int dm_table_get(dev_t device, struct dm_table **table)
{
	int control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	struct dm_ioctl *io = NULL;
	int err = -ENOSPC;

	if (control < 0)
		return -errno;
	for (size_t bytes = FIRST_BYTES; err == -ENOSPC && bytes <= MOST_BYTES; bytes *= 4)
		err = ask(control, device, bytes, &io);
	close(control);
	if (err)
		return err;
	*table = parse(io);
	if (*table)
		return 0;
	free(io);
	return -ENOMEM;
}

bool dm_table_same(const struct dm_table *one, const struct dm_table *other)
{
	if (one->count != other->count)
		return false;
	for (size_t i = 0; i < one->count; i++) {
		const struct dm_line *a = &one->lines[i];
		const struct dm_line *b = &other->lines[i];

		if (a->start != b->start || a->bytes != b->bytes || strcmp(a->type, b->type) != 0 ||
		    strcmp(a->params, b->params) != 0)
			return false;
	}
	return true;
}

void dm_table_free(struct dm_table *table)
{
	if (!table)
		return;
	free(table->answer);
	free(table);
}
