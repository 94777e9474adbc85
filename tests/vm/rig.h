/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the direct path in kernel/vm start from: two drives of known
 * contents, and a reader, a device and a buffer to read them with.
 */
#ifndef GDS_TESTS_RIG_H
#define GDS_TESTS_RIG_H

#include <gds/gds.h>
#include <stdint.h>

#define MIB        (UINT64_C(1) << 20)
#define DISK_BYTES (24 * MIB)

extern const char *const disks[2];
extern unsigned char *contents; /* of the first DISK_BYTES of both */

/* For cmocka's groups. The disks of the VM are scratch; anywhere else nothing is written. */
int disks_write(void **state);
int disks_forget(void **state);

/* Skips the test outside of the VM. */
void need_vm(void);

/* Fails the test with the library's message. */
void must(int err);

struct rig {
	struct gds_reader *reader;
	struct gds_device *device;
	struct gds_buffer *buffer;
	struct gds_file *files[2];
};

/* Takes over the device. `shape` and `flags` are the reader's. */
void open_rig(struct rig *rig, struct gds_device *device, uint64_t bytes, uint32_t shape,
	      uint32_t flags);
/* With a device of this name. */
void open_rig_of(struct rig *rig, const char *device, uint64_t bytes);
void close_rig(struct rig *rig);

/* One read of a drive into the buffer, of as many bytes at as much of an offset. */
struct gds_result rig_read(struct rig *rig, unsigned drive, uint32_t path, uint64_t offset,
			   uint64_t bytes, uint64_t place);
/* That the device sees the drives' bytes there. */
void rig_check(struct rig *rig, uint64_t offset, uint64_t bytes, uint64_t place);

#endif
