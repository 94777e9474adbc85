/* SPDX-License-Identifier: GPL-2.0-only */
/* The NVMe disks of kernel/vm, found by serial number, and what is on them. */
#ifndef KERNEL_TESTS_DISK_H
#define KERNEL_TESTS_DISK_H

#include <stddef.h>
#include <stdint.h>

struct disk {
	int fd; /* O_DIRECT, read and write */
	unsigned block;
	unsigned max_transfer_bytes; /* what the controller takes in one command */
	uint64_t seed;		     /* of the pattern on it */
	char path[64];
	char controller[32]; /* as in /sys/class/nvme */
};

enum {
	DISK_PATTERN_BYTES = 32 << 20, /* of each area that holds the pattern */
};
/* Areas that hold the pattern: one low, one beyond 32 bits. */
#define DISK_LOW 0ull
#define DISK_HIGH (5ull << 30)
/* For tests that write. */
#define DISK_SCRATCH (1ull << 30)
/* kernel/vm fails every read that touches this byte. */
#define DISK_BAD (7ull << 30)

/* Serial numbers: "nvme0" has 512-byte blocks, "nvme1" 4096-byte ones; the
 * namespace of "nvme2" can be detached. */
void disk_open(struct disk *disk, const char *serial);
/* Waits for it to come back after a reset or plugging. */
void disk_wait(const char *serial);
/* Whether the namespace's block device is there now. */
int disk_find(struct disk *disk, const char *serial);
void disk_close(struct disk *disk);

/* Writes the pattern to both areas of every disk. */
void disk_prepare(void);

/* The pattern is a function of the disk and the offset, different in each word. */
void pattern_fill(void *memory, size_t bytes, uint64_t seed, uint64_t offset);
/* Offset of the first wrong byte, or -1. `offset` is a multiple of 8. */
int64_t pattern_check(const void *memory, size_t bytes, uint64_t seed, uint64_t offset);

/* What memory holds before a read: never what a disk holds. */
enum { POISON = 0xa5 };
int64_t poison_check(const void *memory, size_t bytes);

/* Writes one word to a file below /sys or /proc; 0 or a negative errno. */
int write_file(const char *path, const char *text);
/* Reads the first line; 0 or a negative errno. */
int read_file(const char *path, char *text, size_t bytes);

#endif
