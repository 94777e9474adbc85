/* SPDX-License-Identifier: Apache-2.0 */
#include "dmabuf/system.h"

#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int system_text(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "re");
	int err = 0;

	if (!file)
		return -errno;
	if (!fgets(text, (int)size, file))
		err = ferror(file) ? -EIO : -ENODATA;
	else
		text[strcspn(text, "\n")] = '\0';
	fclose(file);
	return err;
}

int system_number(const char *path, uint64_t *value)
{
	char text[64];
	char *rest;
	int err = system_text(path, text, sizeof(text));

	if (err)
		return err;
	errno = 0;
	*value = strtoull(text, &rest, 0);
	if (errno || rest == text)
		return -EINVAL;
	return 0;
}

int system_link_name(const char *path, char *name, size_t size)
{
	char link[PATH_MAX];
	ssize_t length = readlink(path, link, sizeof(link) - 1);
	const char *last;

	if (length < 0)
		return -errno;
	link[length] = '\0';
	last = strrchr(link, '/');
	gds_text_set(name, size, "%s", last ? last + 1 : link);
	return 0;
}

uint64_t system_meminfo(const char *key)
{
	FILE *file = fopen("/proc/meminfo", "re");
	size_t length = strlen(key);
	uint64_t value = 0;
	char line[128];

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, key, length) != 0 || line[length] != ':')
			continue;
		value = strtoull(line + length + 1, NULL, 10);
		break;
	}
	fclose(file);
	return value;
}

uint64_t system_memory_bytes(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

int system_check_room(const char *device, uint64_t bytes)
{
	uint64_t available = system_meminfo("MemAvailable") * 1024;

	/* 0: a kernel that does not say. */
	if (available == 0 || bytes <= available)
		return 0;
	return gds_fail(ENOMEM,
			"device %s: no room for %" PRIu64 " more bytes, with %" PRIu64
			" available in the machine",
			device, bytes, available);
}
