/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/disk.h"

#include "base/bits.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define PAGE_BYTES 4096

static bool read_line(const char *folder, const char *name, char *line, size_t size)
{
	char path[128];
	FILE *file;
	bool got;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "re");
	if (!file)
		return false;
	got = fgets(line, (int)size, file) != NULL;
	fclose(file);
	if (got)
		line[strcspn(line, "\n")] = '\0';
	return got;
}

static uint64_t read_number(const char *folder, const char *name)
{
	char line[32];

	return read_line(folder, name, line, sizeof(line)) ? strtoull(line, NULL, 10) : 0;
}

/* The kernel's name: the last part of where the entry leads. */
static void read_name(const char *folder, struct disk *disk)
{
	char target[256];
	ssize_t length = readlink(folder, target, sizeof(target) - 1);
	const char *last;

	if (length <= 0)
		return;
	target[length] = '\0';
	last = strrchr(target, '/');
	gds_text_set(disk->name, sizeof(disk->name), "%s", last ? last + 1 : target);
}

/* A partition has no queue of its own. */
static dev_t whole_disk(dev_t device)
{
	char folder[64];
	char line[32];
	char *colon;

	snprintf(folder, sizeof(folder), "/sys/dev/block/%u:%u", major(device), minor(device));
	if (!read_line(folder, "partition", line, sizeof(line)) ||
	    !read_line(folder, "../dev", line, sizeof(line)))
		return device;
	colon = strchr(line, ':');
	if (!colon)
		return device;
	return makedev((unsigned)strtoul(line, NULL, 10), (unsigned)strtoul(colon + 1, NULL, 10));
}

void disk_look(dev_t device, struct disk *disk)
{
	char folder[64];

	*disk = (struct disk){ .number = whole_disk(device) };
	gds_text_set(disk->name, sizeof(disk->name), "%u:%u", major(disk->number),
		     minor(disk->number));
	snprintf(folder, sizeof(folder), "/sys/dev/block/%s", disk->name);
	disk->rotational = read_number(folder, "queue/rotational") != 0;
	disk->optimal_bytes =
		(uint32_t)min_u64(read_number(folder, "queue/optimal_io_size"), UINT32_MAX);
	read_name(folder, disk);
}

uint32_t disk_transfer_bytes(const struct disk *disk, uint32_t bytes)
{
	uint32_t best = disk->optimal_bytes;

	if (best == 0 || best > bytes || best % PAGE_BYTES)
		return bytes;
	return bytes - bytes % best;
}
