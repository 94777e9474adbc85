/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "support/random.h"
#include "vm/rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const disks[2] = { "/dev/nvme0n1", "/dev/nvme1n1" };
unsigned char *contents;

void must(int err)
{
	if (err < 0)
		fail_msg("%s", gds_last_error());
}

void need_vm(void)
{
	if (getenv("GDS_VM"))
		return;
	print_message("needs the disks of kernel/vm\n");
	skip();
}

static int write_disk(const char *disk)
{
	int fd = open(disk, O_WRONLY | O_DIRECT | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return -1;
	for (uint64_t at = 0; at < DISK_BYTES && !err; at += MIB)
		err = pwrite(fd, contents + at, MIB, (off_t)at) != (ssize_t)MIB;
	close(fd);
	return err;
}

int disks_write(void **state)
{
	struct random random = { .state = 1 };

	(void)state;
	if (!getenv("GDS_VM"))
		return 0;
	contents = aligned_alloc(4096, DISK_BYTES);
	if (!contents)
		return -1;
	for (uint64_t i = 0; i < DISK_BYTES / sizeof(uint64_t); i++)
		((uint64_t *)contents)[i] = random_u64(&random);
	return write_disk(disks[0]) || write_disk(disks[1]);
}

int disks_forget(void **state)
{
	(void)state;
	free(contents);
	return 0;
}

void open_rig(struct rig *rig, struct gds_device *device, uint64_t bytes, uint32_t shape,
	      uint32_t flags)
{
	struct gds_reader_options options = { .size = sizeof(options),
					      .dmabuf_shape = shape,
					      .flags = flags };

	*rig = (struct rig){ .device = device };
	must(gds_reader_open(&rig->reader, &options));
	must(gds_buffer_alloc(&rig->buffer, device, bytes, 0));
	must(gds_file_open(&rig->files[0], disks[0]));
	must(gds_file_open(&rig->files[1], disks[1]));
}

void open_rig_of(struct rig *rig, const char *device, uint64_t bytes)
{
	struct gds_device *opened;

	must(gds_device_open(&opened, device));
	open_rig(rig, opened, bytes, 0, 0);
}

void close_rig(struct rig *rig)
{
	gds_file_close(rig->files[0]);
	gds_file_close(rig->files[1]);
	gds_buffer_free(rig->buffer);
	gds_device_close(rig->device);
	gds_reader_close(rig->reader);
}

struct gds_result rig_read(struct rig *rig, unsigned drive, uint32_t path, uint64_t offset,
			   uint64_t bytes, uint64_t place)
{
	struct gds_batch_options options = { .size = sizeof(options), .path = path };
	struct gds_request request = { .file = rig->files[drive],
				       .buffer = rig->buffer,
				       .offset = offset,
				       .length = bytes,
				       .buffer_offset = place };
	struct gds_result result;
	struct gds_batch *batch;

	must(gds_batch_create(&batch, rig->reader, &options));
	must((int)gds_batch_add(batch, &request, 1));
	must(gds_batch_submit(batch));
	must(gds_batch_wait(batch, -1));
	must(gds_batch_result(batch, 0, &result));
	gds_batch_destroy(batch);
	return result;
}

void rig_check(struct rig *rig, uint64_t offset, uint64_t bytes, uint64_t place)
{
	unsigned char *found = malloc(bytes);

	assert_non_null(found);
	must(gds_buffer_copy_out(rig->buffer, place, found, bytes));
	assert_memory_equal(found, contents + offset, bytes);
	free(found);
}
