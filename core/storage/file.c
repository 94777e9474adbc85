/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/file.h"

#include "base/error.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <gds/gds.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

/*
 * Where the kernel does not tell its alignment (before 6.1, or file systems that
 * do not answer): a page is enough for every drive in use.
 */
#define FALLBACK_ALIGN 4096

/* include/uapi/linux/stat.h of Linux 6.1, which older headers lack. */
#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x00002000U
#endif

/*
 * The fields that STATX_DIOALIGN fills lie behind stx_mnt_id, in what glibc
 * before 2.37 calls spare: see struct statx in include/uapi/linux/stat.h.
 */
#define STATX_DIO_MEM_ALIGN_OFFSET    152
#define STATX_DIO_OFFSET_ALIGN_OFFSET 156

struct dio_alignment {
	bool known;
	uint32_t memory; /* 0 where O_DIRECT is not supported on this file */
	uint32_t offset;
};

static struct dio_alignment ask_dio_alignment(int fd)
{
	struct dio_alignment alignment = { 0 };
	struct statx status;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) != 0 ||
	    !(status.stx_mask & STATX_DIOALIGN))
		return alignment;
	alignment.known = true;
	memcpy(&alignment.memory, (const char *)&status + STATX_DIO_MEM_ALIGN_OFFSET,
	       sizeof(alignment.memory));
	memcpy(&alignment.offset, (const char *)&status + STATX_DIO_OFFSET_ALIGN_OFFSET,
	       sizeof(alignment.offset));
	return alignment;
}

const char *file_system_name(int fd)
{
	static const struct {
		long magic;
		const char *name;
	} names[] = {
		{ TMPFS_MAGIC, "tmpfs" },       { OVERLAYFS_SUPER_MAGIC, "overlayfs" },
		{ EXT4_SUPER_MAGIC, "ext4" },   { XFS_SUPER_MAGIC, "xfs" },
		{ BTRFS_SUPER_MAGIC, "btrfs" }, { NFS_SUPER_MAGIC, "nfs" },
		{ FUSE_SUPER_MAGIC, "fuse" },   { PROC_SUPER_MAGIC, "proc" },
		{ SYSFS_MAGIC, "sysfs" },       { V9FS_MAGIC, "9p" },
		{ SQUASHFS_MAGIC, "squashfs" }, { EROFS_SUPER_MAGIC_V1, "erofs" },
		{ F2FS_SUPER_MAGIC, "f2fs" },   { RAMFS_MAGIC, "ramfs" },
	};
	struct statfs status;

	if (fstatfs(fd, &status) != 0)
		return "unknown";
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].magic == (long)status.f_type)
			return names[i].name;
	return "unknown";
}

static void use_page_cache(struct gds_file *file)
{
	file->direct = false;
	file->offset_align = 1;
	file->memory_align = 1;
	gds_text_set(file->direct_reason, sizeof(file->direct_reason),
		     "the file system (%s) does not take O_DIRECT", file_system_name(file->fd));
	gds_info("%s is read through the page cache: %s", file->path, file->direct_reason);
}

static int set_alignment(struct gds_file *file)
{
	struct dio_alignment alignment = ask_dio_alignment(file->fd);
	int block = 0;

	if (alignment.known && alignment.offset != 0) {
		file->offset_align = alignment.offset;
		file->memory_align = alignment.memory;
		return 0;
	}
	if (alignment.known)
		return -EOPNOTSUPP;
	if (file->block_device && ioctl(file->fd, BLKSSZGET, &block) == 0 && block > 0) {
		file->offset_align = (uint32_t)block;
		file->memory_align = (uint32_t)block;
		return 0;
	}
	file->offset_align = FALLBACK_ALIGN;
	file->memory_align = FALLBACK_ALIGN;
	return 0;
}

/* Opens with O_DIRECT, or without it where that is refused. */
static int open_descriptor(struct gds_file *file)
{
	const int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;

	file->fd = open(file->path, flags | O_DIRECT);
	if (file->fd >= 0) {
		if (set_alignment(file) == 0) {
			file->direct = true;
			return 0;
		}
		close(file->fd);
	} else if (errno != EINVAL && errno != EOPNOTSUPP) {
		return gds_fail_errno(errno, "cannot open %s", file->path);
	}
	file->fd = open(file->path, flags);
	if (file->fd < 0)
		return gds_fail_errno(errno, "cannot open %s", file->path);
	use_page_cache(file);
	return 0;
}

/* Refuses what cannot be read at an offset, before open(2) could block on it. */
static int check_type(const char *path, const struct stat *status)
{
	const char *type;

	if (S_ISREG(status->st_mode) || S_ISBLK(status->st_mode))
		return 0;
	if (S_ISDIR(status->st_mode))
		return gds_fail(EISDIR, "cannot read %s: it is a directory; name a file in it",
				path);
	type = S_ISFIFO(status->st_mode)   ? "a FIFO"
	       : S_ISSOCK(status->st_mode) ? "a socket"
	       : S_ISCHR(status->st_mode)  ? "a character device"
					   : "of an unknown type";
	return gds_fail(EINVAL, "cannot read %s: it is %s; name a regular file or a block device",
			path, type);
}

int gds_file_open(struct gds_file **file_out, const char *path)
{
	struct stat status;
	struct gds_file *file;
	int err;

	if (!file_out || !path)
		return gds_fail(EINVAL, "gds_file_open: file and path must not be NULL");
	if (stat(path, &status) != 0)
		return gds_fail_errno(errno, "cannot open %s", path);
	err = check_type(path, &status);
	if (err)
		return err;

	file = calloc(1, sizeof(*file));
	if (!file)
		return gds_fail_errno(ENOMEM, "cannot open %s", path);
	file->fd = -1;
	file->buffered_fd = -1;
	pthread_mutex_init(&file->lease_lock, NULL);
	file->path = strdup(path);
	file->block_device = S_ISBLK(status.st_mode);
	file->device = status.st_rdev;
	if (!file->path) {
		err = gds_fail_errno(ENOMEM, "cannot open %s", path);
		goto out;
	}
	err = open_descriptor(file);
	if (err)
		goto out;
	/* The name may have come to mean something else since stat(). */
	if (fstat(file->fd, &status) != 0)
		err = gds_fail_errno(errno, "cannot open %s", path);
	else
		err = check_type(path, &status);
	file->storage = file->block_device ? status.st_rdev : status.st_dev;
	file->order = file->block_device ? 0 : status.st_ino;
	if (err)
		goto out;
	file->on = file->block_device ? status.st_rdev : status.st_dev;
	atomic_init(&file->bytes, file->block_device ? 0 : (uint64_t)status.st_size);
	*file_out = file;
	return 0;
out:
	gds_file_close(file);
	return err;
}

void gds_file_close(struct gds_file *file)
{
	if (!file)
		return;
	object_detach_all(&file->object);
	if (file->buffered_fd >= 0)
		close(file->buffered_fd);
	if (file->fd >= 0)
		close(file->fd);
	pthread_mutex_destroy(&file->lease_lock);
	free(file->path);
	free(file);
}

uint64_t file_fingerprint(const struct stat *status)
{
	const uint64_t parts[] = {
		(uint64_t)status->st_size,         (uint64_t)status->st_mtim.tv_sec,
		(uint64_t)status->st_mtim.tv_nsec, (uint64_t)status->st_ctim.tv_sec,
		(uint64_t)status->st_ctim.tv_nsec,
	};
	uint64_t sum = 0;

	/* The finalizer of splitmix64, over each part. */
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		sum = (sum ^ parts[i]) + UINT64_C(0x9e3779b97f4a7c15);
		sum = (sum ^ (sum >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		sum = (sum ^ (sum >> 27)) * UINT64_C(0x94d049bb133111eb);
		sum ^= sum >> 31;
	}
	return sum;
}

static int64_t device_bytes(struct gds_file *file)
{
	uint64_t bytes;

	if (ioctl(file->fd, BLKGETSIZE64, &bytes) != 0)
		return gds_fail_errno(errno, "cannot get the size of %s", file->path);
	/* What is left of a drive that was unplugged has no bytes: no end of a file. */
	if (bytes == 0 && atomic_load(&file->had_bytes))
		return gds_fail(ENODEV, "%s has no bytes any more: the device is gone", file->path);
	atomic_store(&file->had_bytes, bytes != 0);
	/* It has no times: it may have changed. */
	atomic_fetch_add_explicit(&file->fingerprint, 1, memory_order_relaxed);
	return (int64_t)bytes;
}

int64_t gds_file_bytes(struct gds_file *file)
{
	struct stat status;
	int64_t bytes;

	if (!file)
		return gds_fail(EINVAL, "gds_file_bytes: file must not be NULL");
	if (file->block_device) {
		bytes = device_bytes(file);
	} else if (fstat(file->fd, &status) != 0) {
		bytes = gds_fail_errno(errno, "cannot get the size of %s", file->path);
	} else {
		atomic_store_explicit(&file->fingerprint, file_fingerprint(&status),
				      memory_order_relaxed);
		bytes = status.st_size;
	}
	atomic_store_explicit(&file->bytes, bytes < 0 ? 0 : (uint64_t)bytes, memory_order_relaxed);
	return bytes;
}

int64_t file_bytes_since(struct gds_file *file, uint64_t stamp)
{
	int64_t bytes;

	if (atomic_load_explicit(&file->stamp, memory_order_acquire) >= stamp)
		return (int64_t)atomic_load_explicit(&file->bytes, memory_order_relaxed);
	bytes = gds_file_bytes(file);
	if (bytes >= 0)
		atomic_store_explicit(&file->stamp, stamp, memory_order_release);
	return bytes;
}

int file_buffered_fd(struct gds_file *file)
{
	/* Several readers may come upon the need at once; it is too rare for more. */
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	char name[64];
	int fd;

	pthread_mutex_lock(&lock);
	if (file->buffered_fd < 0) {
		/* By descriptor, not by path: the path may name another file by now. */
		snprintf(name, sizeof(name), "/proc/self/fd/%d", file->fd);
		file->buffered_fd = open(name, O_RDONLY | O_CLOEXEC);
	}
	fd = file->buffered_fd;
	if (fd < 0)
		fd = gds_fail_errno(errno, "cannot open %s through the page cache", file->path);
	pthread_mutex_unlock(&lock);
	return fd;
}
