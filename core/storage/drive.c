/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/drive.h"

#include "base/error.h"
#include "storage/sysfs.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
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

void drive_describe(dev_t device, char *text, size_t size)
{
	char value[SYSFS_VALUE_BYTES];
	uint64_t number;
	dev_t disk;

	if (sysfs_has(device, "partition") && sysfs_device(device, "../dev", &disk) == 0)
		device = disk;
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
