/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

bool text_number(const char **at, uint64_t *number)
{
	char *end;

	*at += strspn(*at, " ");
	if (**at < '0' || **at > '9')
		return false;
	errno = 0;
	*number = strtoull(*at, &end, 10);
	*at = end;
	return errno == 0;
}

bool text_device(const char **at, dev_t *device)
{
	uint64_t major_number;
	uint64_t minor_number;

	if (!text_number(at, &major_number) || *(*at)++ != ':' || !text_number(at, &minor_number))
		return false;
	*device = makedev((unsigned int)major_number, (unsigned int)minor_number);
	return true;
}

void sysfs_path(char *path, size_t size, dev_t device, const char *name)
{
	snprintf(path, size, "/sys/dev/block/%u:%u/%s", major(device), minor(device), name);
}

int sysfs_text(const char *path, char *value, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -errno;
	got = read(fd, value, size - 1);
	if (got < 0)
		got = -errno;
	close(fd);
	if (got < 0)
		return (int)got;
	while (got > 0 && value[got - 1] == '\n')
		got--;
	value[got] = '\0';
	return 0;
}

int sysfs_get(dev_t device, const char *name, char *value, size_t size)
{
	char path[SYSFS_PATH_BYTES];

	sysfs_path(path, sizeof(path), device, name);
	return sysfs_text(path, value, size);
}

bool sysfs_has(dev_t device, const char *name)
{
	char path[SYSFS_PATH_BYTES];

	sysfs_path(path, sizeof(path), device, name);
	return access(path, F_OK) == 0;
}

int sysfs_number(dev_t device, const char *name, uint64_t *number)
{
	char value[32];
	const char *at = value;
	int err = sysfs_get(device, name, value, sizeof(value));

	if (err)
		return err;
	return text_number(&at, number) ? 0 : -EINVAL;
}

int sysfs_device(dev_t device, const char *name, dev_t *found)
{
	char value[32];
	const char *at = value;
	int err = sysfs_get(device, name, value, sizeof(value));

	if (err)
		return err;
	return text_device(&at, found) ? 0 : -EINVAL;
}

int sysfs_name(dev_t device, char *name, size_t size)
{
	static const char key[] = "DEVNAME=";
	char value[SYSFS_VALUE_BYTES];
	int err = sysfs_get(device, "uevent", value, sizeof(value));
	const char *at;

	if (err)
		return err;
	at = strstr(value, key);
	if (!at)
		return -ENOENT;
	at += sizeof(key) - 1;
	snprintf(name, size, "%.*s", (int)strcspn(at, "\n"), at);
	return 0;
}
