// SPDX-License-Identifier: GPL-2.0-only
#include "disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "test.h"

static const char *const serials[] = {"nvme0", "nvme1", "nvme2"};

int read_file(const char *path, char *text, size_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -errno;
	got = read(fd, text, bytes - 1);
	close(fd);
	if (got < 0)
		return -EIO;
	text[got] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return 0;
}

int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int result = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		result = -errno;
	close(fd);
	return result;
}

static bool has_serial(const char *controller, const char *serial)
{
	char path[300], text[64];

	snprintf(path, sizeof(path), "/sys/class/nvme/%s/serial", controller);
	if (read_file(path, text, sizeof(text)))
		return false;
	text[strcspn(text, " ")] = '\0';
	return strcmp(text, serial) == 0;
}

/* Name of the first namespace's block device. */
static bool find_namespace(const char *controller, char *name, size_t bytes)
{
	char path[300];
	struct dirent *entry;
	DIR *directory;
	bool found = false;

	snprintf(path, sizeof(path), "/sys/class/nvme/%s", controller);
	directory = opendir(path);
	while (directory && !found && (entry = readdir(directory))) {
		found = strncmp(entry->d_name, "nvme", 4) == 0 && strchr(entry->d_name, 'n') &&
			strrchr(entry->d_name, 'n') > entry->d_name;
		if (found)
			snprintf(name, bytes, "%s", entry->d_name);
	}
	if (directory)
		closedir(directory);
	return found;
}

static bool find_controller(const char *serial, char *name, size_t bytes)
{
	DIR *directory = opendir("/sys/class/nvme");
	struct dirent *entry;
	bool found = false;

	while (directory && !found && (entry = readdir(directory))) {
		found = entry->d_name[0] != '.' && has_serial(entry->d_name, serial);
		if (found)
			snprintf(name, bytes, "%s", entry->d_name);
	}
	if (directory)
		closedir(directory);
	return found;
}

static unsigned queue_value(const char *name, const char *attribute)
{
	char path[200], text[32];

	snprintf(path, sizeof(path), "/sys/block/%s/queue/%s", name, attribute);
	CHECK_EQ(read_file(path, text, sizeof(text)), 0, "reading %s", path);
	return (unsigned)strtoul(text, NULL, 10);
}

int disk_find(struct disk *disk, const char *serial)
{
	char name[32];
	int block;

	*disk = (struct disk){.seed = (uint64_t)serial[4] << 56};
	if (!find_controller(serial, disk->controller, sizeof(disk->controller)) ||
	    !find_namespace(disk->controller, name, sizeof(name)))
		return -ENOENT;
	snprintf(disk->path, sizeof(disk->path), "/dev/%s", name);
	disk->fd = open(disk->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (disk->fd < 0)
		return -errno;
	if (ioctl(disk->fd, BLKSSZGET, &block))
		return -errno;
	disk->block = (unsigned)block;
	disk->max_transfer_bytes = queue_value(name, "max_hw_sectors_kb") * 1024;
	return 0;
}

void disk_open(struct disk *disk, const char *serial)
{
	int result = disk_find(disk, serial);

	CHECK(result == 0, "disk %s: %s", serial, strerror(-result));
}

void disk_wait(const char *serial)
{
	struct timespec pause = {.tv_nsec = 20000000};
	struct disk disk;

	while (disk_find(&disk, serial))
		nanosleep(&pause, NULL);
	disk_close(&disk);
}

void disk_close(struct disk *disk)
{
	close(disk->fd);
	disk->fd = -1;
}

/* A bijection that spreads every bit; the constants are those of splitmix64. */
static inline uint64_t mix(uint64_t value)
{
	value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
	value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
	return value ^ (value >> 31);
}

static inline uint64_t pattern_word(uint64_t seed, uint64_t index)
{
	return mix(seed ^ index);
}

void pattern_fill(void *memory, size_t bytes, uint64_t seed, uint64_t offset)
{
	uint64_t *words = memory;
	size_t i;

	for (i = 0; i < bytes / 8; i++)
		words[i] = pattern_word(seed, offset / 8 + i);
}

static int64_t first_difference(const void *memory, uint64_t expected, size_t offset)
{
	size_t i = 0;

	while (((const uint8_t *)memory)[i] == ((const uint8_t *)&expected)[i])
		i++;
	return (int64_t)(offset + i);
}

int64_t pattern_check(const void *memory, size_t bytes, uint64_t seed, uint64_t offset)
{
	const uint64_t *words = memory;
	size_t i;

	for (i = 0; i < bytes / 8; i++) {
		uint64_t expected = pattern_word(seed, offset / 8 + i);

		if (words[i] != expected)
			return first_difference(&words[i], expected, i * 8);
	}
	return -1;
}

int64_t poison_check(const void *memory, size_t bytes)
{
	const uint64_t poison = 0x0101010101010101ull * POISON;
	const uint64_t *words = memory;
	size_t i;

	for (i = 0; i < bytes / 8; i++) {
		if (words[i] != poison)
			return first_difference(&words[i], poison, i * 8);
	}
	return -1;
}

static void write_area(const struct disk *disk, uint8_t *chunk, size_t chunk_bytes, uint64_t start)
{
	uint64_t offset;

	for (offset = start; offset < start + DISK_PATTERN_BYTES; offset += chunk_bytes) {
		pattern_fill(chunk, chunk_bytes, disk->seed, offset);
		CHECK_EQ(pwrite(disk->fd, chunk, chunk_bytes, (off_t)offset), (ssize_t)chunk_bytes,
			 "writing the pattern to %s", disk->path);
	}
}

void disk_prepare(void)
{
	const size_t chunk_bytes = 1 << 20;
	uint8_t *chunk = mmap(NULL, chunk_bytes, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct disk disk;
	size_t i;

	CHECK(chunk != MAP_FAILED, "mmap: %s", strerror(errno));
	for (i = 0; i < sizeof(serials) / sizeof(*serials); i++) {
		disk_open(&disk, serials[i]);
		write_area(&disk, chunk, chunk_bytes, DISK_LOW);
		write_area(&disk, chunk, chunk_bytes, DISK_HIGH);
		disk_close(&disk);
	}
	munmap(chunk, chunk_bytes);
}
