/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/disk.h"

#include "base/bits.h"
#include "base/error.h"
#include "storage/sysfs.h"

#include <sys/sysmacros.h>

#define PAGE_BYTES 4096

void disk_look(dev_t device, struct disk *disk)
{
	const dev_t number = sysfs_disk(device);
	uint64_t value;

	*disk = (struct disk){ .number = number };
	if (sysfs_name(number, disk->name, sizeof(disk->name)))
		gds_text_set(disk->name, sizeof(disk->name), "%u:%u", major(number), minor(number));
	if (sysfs_number(number, "queue/rotational", &value) == 0)
		disk->rotational = value != 0;
	if (sysfs_number(number, "queue/optimal_io_size", &value) == 0)
		disk->optimal_bytes = (uint32_t)min_u64(value, UINT32_MAX);
}

uint32_t disk_transfer_bytes(const struct disk *disk, uint32_t bytes)
{
	uint32_t best = disk->optimal_bytes;

	if (best == 0 || best > bytes || best % PAGE_BYTES)
		return bytes;
	return bytes - bytes % best;
}
