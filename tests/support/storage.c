/* SPDX-License-Identifier: Apache-2.0 */
#include "support/storage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define WRITE_BYTES (1u << 20)

bool folder_make(char path[64], bool tmpfs)
{
	const char *temporary = getenv("TMPDIR");

	snprintf(path, 64, "%s/gds-test-XXXXXX",
		 tmpfs       ? "/dev/shm"
		 : temporary ? temporary
			     : "/tmp");
	if (mkdtemp(path))
		return true;
	path[0] = '\0';
	return false;
}

void folder_remove(const char *path)
{
	DIR *folder = path[0] ? opendir(path) : NULL;
	struct dirent *entry;

	if (!folder)
		return;
	while ((entry = readdir(folder)) != NULL)
		unlinkat(dirfd(folder), entry->d_name, 0);
	closedir(folder);
	rmdir(path);
}

void pattern_fill(void *bytes, uint64_t offset, uint64_t count)
{
	unsigned char *at = bytes;
	uint64_t word;

	while (count > 0 && offset % 8) {
		*at++ = pattern_byte(offset++);
		count--;
	}
	for (; count >= 8; count -= 8, offset += 8, at += 8) {
		word = (offset / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15);
		word ^= word >> 29;
		memcpy(at, &word, 8);
	}
	while (count-- > 0)
		*at++ = pattern_byte(offset++);
}

bool pattern_matches(const void *bytes, uint64_t offset, uint64_t count)
{
	static _Thread_local unsigned char wanted[65536];
	const unsigned char *at = bytes;
	uint64_t piece;

	for (; count > 0; count -= piece, at += piece, offset += piece) {
		piece = count < sizeof(wanted) ? count : sizeof(wanted);
		pattern_fill(wanted, offset, piece);
		if (memcmp(at, wanted, piece) != 0)
			return false;
	}
	return true;
}

void file_write_pattern(const char *path, uint64_t offset, uint64_t count)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	unsigned char *bytes = malloc(WRITE_BYTES);
	uint64_t piece;

	assert_true(fd >= 0);
	assert_non_null(bytes);
	for (; count > 0; count -= piece, offset += piece) {
		piece = count < WRITE_BYTES ? count : WRITE_BYTES;
		pattern_fill(bytes, offset, piece);
		assert_int_equal(pwrite(fd, bytes, piece, (off_t)offset), piece);
	}
	/* On the disk before a read with O_DIRECT asks it. */
	assert_int_equal(fsync(fd), 0);
	close(fd);
	free(bytes);
}

void file_resize(const char *path, uint64_t bytes)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	close(fd);
}

static int configure(int control, const struct loop_config *config, char path[64])
{
	int number = ioctl(control, LOOP_CTL_GET_FREE);
	int fd;

	if (number < 0)
		return -1;
	snprintf(path, 64, "/dev/loop%d", number);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, config) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

int loop_open(const char *file, uint32_t block_bytes, char path[64], const char **reason)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int backing = open(file, O_RDWR | O_CLOEXEC);
	struct loop_config config = {
		.fd = (uint32_t)backing,
		.block_size = block_bytes,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
	};
	int fd = -1;

	*reason = control < 0   ? "/dev/loop-control cannot be opened (root is needed)"
		  : backing < 0 ? "the file for a loop device cannot be opened"
				: "no loop device with direct I/O can be set up";
	/* Someone else may take the free one first. */
	for (int tries = 0; control >= 0 && backing >= 0 && fd < 0 && tries < 20; tries++)
		fd = configure(control, &config, path);
	if (control >= 0)
		close(control);
	if (backing >= 0)
		close(backing);
	return fd;
}
