/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of files in kernel/vm have in common: a reader and a buffer, commands
 * of the guest, file systems and volumes on its scratch disks, and reads of which every
 * byte of the buffer is compared with what the file system says itself.
 */
#ifndef GDS_TESTS_FILES_H
#define GDS_TESTS_FILES_H

#include "support/random.h"

#include <gds/gds.h>
#include <stdbool.h>
#include <stdint.h>

#define MIB   (UINT64_C(1) << 20)
#define BLOCK UINT64_C(4096)
#define MOUNT "/tmp/files"

/* A buffer for reads, and as much memory for what should be in it. */
#define BUFFER_BYTES (4 * MIB)

extern struct gds_reader *reader;
extern struct gds_device *device;
extern struct gds_buffer *buffer;
extern unsigned char *expected;
extern unsigned char *found;
extern struct random random_numbers;

/* For cmocka's groups; outside of the VM they do nothing. */
int files_set_up(void **state);
int files_tear_down(void **state);
/* What a failed case has left behind shall not make the next one fail. */
int files_clean(void **state);
/* A case that begins with clean disks. */
#define CASE(name) cmocka_unit_test_setup(name, files_clean)

/* Skips the test outside of the VM. */
void need_vm(void);
/* Fails the test with the library's message. */
void must(int64_t err);
/* Fails the test with errno's. */
void need(bool done, const char *what);
/* Runs a command of the guest, which must succeed. */
void run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- File systems and volumes ---- */

/* The path of a name below MOUNT, until the next call. */
const char *at(const char *name);

/* On a disk that is wiped, at MOUNT. */
void make_file_system(const char *file_system, const char *disk, const char *options);
/* Three partitions on each of two disks; the second ones differ in size. */
void make_partitions(void);
/*
 * A third one on a drive with blocks of 512 bytes: two of the VM's three have such, and
 * they do not come up in the same order each time.
 */
const char *small_blocks_partition(void);
/* /dev/md0 of the partitions with this number. */
void make_array(const char *level, int partition);
void remove_array(int partition);

/* For LVM's commands: there is no udev here. */
#define LVM "--config 'activation{udev_sync=0 udev_rules=0}' -q -y"

/* ---- Files of random bytes ---- */

/* All but the last, partial word. */
void fill(unsigned char *bytes, uint64_t count);
int create(const char *path);
/* At most BUFFER_BYTES; they are left in `expected`. */
void write_at(int fd, uint64_t offset, uint64_t length);
void make_plain(const char *path, uint64_t bytes);
unsigned count_extents(const char *path);

/* ---- Reading, and comparing every byte of the buffer ---- */

/* What the file system itself says; what of the range the file lacks stays as it is. */
uint64_t ask_file_system(const char *path, uint64_t offset, uint64_t length, unsigned char *bytes);
int64_t read_by(enum gds_path path, struct gds_file *file, uint64_t offset, uint64_t length,
		uint64_t place, struct gds_result *result);
/* The buffer with `expected`. */
void compare(const char *path, uint64_t offset);

/* A range by the direct path alone. */
void check_range(struct gds_file *file, const char *path, uint64_t offset, uint64_t length,
		 uint64_t place);
/* All of the file, and pieces of it at random. */
void check_file(struct gds_file *file, const char *path);
void check_path(const char *path);
/* The path auto takes is another one, for a reason with this text in it, and right. */
void check_refused(const char *path, const char *reason);

#endif
