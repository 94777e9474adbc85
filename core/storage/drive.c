/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/drive.h"

#include "base/error.h"
#include "storage/sysfs.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/nvme_ioctl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* ---- What an NVMe namespace tells ---- */

/*
 * The fields of Identify Namespace (NVM Express, NVM command set) that tell the formats.
 * One structure is all that is needed of it: no reason for a library to depend on.
 */
#define IDENTIFY          0x06
#define IDENTITY_NLBAF    25  /* how many formats there are, less one */
#define IDENTITY_FORMATS  128 /* four bytes each: metadata (16 bits), log2 of the block's bytes */
#define FORMATS_MAX       64
#define BLOCK_SHIFT_LEAST 9 /* the standard's; 0 where the format is none */
#define BLOCK_SHIFT_MOST  24

void drive_describe_formats(const unsigned char *identity, char *text, size_t size)
{
	const unsigned char *format = identity + IDENTITY_FORMATS;
	unsigned count = 1u + identity[IDENTITY_NLBAF];
	const char *between = " (formats ";

	for (unsigned i = 0; i < count && i < FORMATS_MAX; i++, format += 4) {
		unsigned metadata = format[0] | (unsigned)format[1] << 8;

		if (format[2] < BLOCK_SHIFT_LEAST || format[2] > BLOCK_SHIFT_MOST)
			continue;
		add(text, size, "%s%u", between, 1u << format[2]);
		if (metadata)
			add(text, size, "+%u", metadata);
		between = ", ";
	}
	if (between[0] == ',')
		add(text, size, ")");
}

struct identity {
	unsigned char bytes[DRIVE_IDENTITY_BYTES];
};

/* False for drives that are not NVMe, and where this process may not ask. */
static bool identify(dev_t device, const char *name, struct identity *identity)
{
	struct nvme_admin_cmd command = {
		.opcode = IDENTIFY,
		.addr = (uintptr_t)identity->bytes,
		.data_len = sizeof(identity->bytes),
	};
	char path[SYSFS_PATH_BYTES];
	struct stat status;
	bool told = false;
	int number = -1;
	int fd;

	snprintf(path, sizeof(path), "/dev/%s", name);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (fstat(fd, &status) == 0 && S_ISBLK(status.st_mode) && status.st_rdev == device)
		number = ioctl(fd, NVME_IOCTL_ID);
	if (number > 0) {
		command.nsid = (uint32_t)number;
		told = ioctl(fd, NVME_IOCTL_ADMIN_CMD, &command) == 0;
	}
	close(fd);
	return told;
}

static void add_formats(dev_t device, const char *name, char *text, size_t size)
{
	struct identity identity = { 0 };

	if (strncmp(name, "nvme", 4) == 0 && identify(device, name, &identity))
		drive_describe_formats(identity.bytes, text, size);
}

void drive_describe(dev_t device, char *text, size_t size)
{
	char value[SYSFS_VALUE_BYTES];
	char name[64] = "";
	uint64_t number;

	device = sysfs_disk(device);
	text[0] = '\0';
	if (sysfs_name(device, name, sizeof(name)) == 0)
		add(text, size, "%s", name);
	if (sysfs_get(device, "device/model", value, sizeof(value)) == 0) {
		trim(value);
		add(text, size, ": %s", value);
	}
	if (sysfs_number(device, "queue/logical_block_size", &number) == 0)
		add(text, size, ", blocks of %" PRIu64 " bytes", number);
	add_formats(device, name, text, size);
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

	if (!address[0] ||
	    sysfs_get(sysfs_disk(device), "device/address", value, sizeof(value)) != 0)
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
