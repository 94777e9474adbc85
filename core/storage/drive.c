/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/drive.h"

#include "base/error.h"
#include "storage/sysfs.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void __attribute__((format(printf, 3, 4)))
add(char *text, size_t size, const char *format, ...)
{
	size_t used = strlen(text);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text + used, size - used, format, arguments);
	va_end(arguments);
}

/* Text of fixed width comes with blanks at its end. */
static void trim(char *value)
{
	size_t length = strlen(value);

	while (length && value[length - 1] == ' ')
		value[--length] = '\0';
}

static dev_t disk_of(dev_t device)
{
	dev_t disk;

	return sysfs_has(device, "partition") && sysfs_device(device, "../dev", &disk) == 0
		       ? disk
		       : device;
}

void drive_describe(dev_t device, char *text, size_t size)
{
	char value[SYSFS_VALUE_BYTES];
	uint64_t number;

	device = disk_of(device);
	text[0] = '\0';
	if (sysfs_name(device, value, sizeof(value)) == 0)
		add(text, size, "%s", value);
	if (sysfs_get(device, "device/model", value, sizeof(value)) == 0) {
		trim(value);
		add(text, size, ": %s", value);
	}
	if (sysfs_number(device, "queue/logical_block_size", &number) == 0)
		add(text, size, ", blocks of %" PRIu64 " bytes", number);
	/* Of NVMe this is MDTS, what the controller moves by one command. */
	if (sysfs_number(device, "queue/max_hw_sectors_kb", &number) == 0)
		add(text, size, ", transfers of at most %" PRIu64 " KiB", number);
	if (sysfs_get(device, "device/address", value, sizeof(value)) == 0)
		add(text, size, ", PCI %s", value);
	if (sysfs_get(device, "device/numa_node", value, sizeof(value)) == 0 && value[0] != '-')
		add(text, size, ", NUMA node %s", value);
}

/* ---- Distances ---- */

static size_t count_parts(const char *path)
{
	size_t count = 0;

	for (; *path; path++)
		count += path[0] == '/' && path[1] != '/' && path[1] != '\0';
	return count;
}

int drive_hops(const char *one, const char *other, bool *bridge)
{
	static const char root[] = "/sys/devices/pci";
	size_t same = 0; /* characters of the path that they have in common */
	size_t i = 0;

	for (; one[i] && one[i] == other[i]; i++)
		if (one[i] == '/')
			same = i;
	if ((one[i] == '\0' || one[i] == '/') && (other[i] == '\0' || other[i] == '/'))
		same = i;
	if (strncmp(one, root, sizeof(root) - 1) != 0 || same < sizeof(root))
		return -1;
	*bridge = memchr(one + sizeof(root), '/', same - sizeof(root)) != NULL;
	return (int)(count_parts(one + same) + count_parts(other + same));
}

void drive_describe_distance(dev_t device, const char *address, char *text, size_t size)
{
	char value[SYSFS_VALUE_BYTES];
	char path[SYSFS_VALUE_BYTES + 32];
	char *drive;
	char *other;
	bool bridge;
	int hops;

	if (!address[0] || sysfs_get(disk_of(device), "device/address", value, sizeof(value)) != 0)
		return;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", value);
	drive = realpath(path, NULL);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", address);
	other = realpath(path, NULL);
	if (drive && other) {
		hops = drive_hops(drive, other, &bridge);
		if (hops < 0)
			add(text, size, ", below another host bridge than the device");
		else
			add(text, size, ", %d hops from the device, %s", hops,
			    bridge ? "below a common bridge" : "through the host bridge");
	}
	free(drive);
	free(other);
}
