/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "vm/files.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

struct gds_reader *reader;
struct gds_device *device;
struct gds_buffer *buffer;
unsigned char *expected;
unsigned char *found;
struct random random_numbers;

void must(int64_t err)
{
	if (err < 0)
		fail_msg("%s", gds_last_error());
}

void need(bool done, const char *what)
{
	if (!done)
		fail_msg("%s: %s", what, strerror(errno));
}

void need_vm(void)
{
	if (getenv("GDS_VM"))
		return;
	print_message("needs the disks of kernel/vm\n");
	skip();
}

void run(const char *format, ...)
{
	char command[1024] = "exec >/tmp/run.log 2>&1 </dev/null; ";
	size_t used = strlen(command);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(command + used, sizeof(command) - used, format, arguments);
	va_end(arguments);
	if (system(command) != 0) {         /* NOLINT(cert-env33-c): the guest is the test's own */
		system("cat /tmp/run.log"); /* NOLINT(cert-env33-c) */
		fail_msg("%s", command);
	}
}

int files_set_up(void **state)
{
	uint64_t seed = test_number("GDS_TEST_SEED", (uint64_t)time(NULL));
	struct gds_reader_options options = { .size = sizeof(options) };

	(void)state;
	if (!getenv("GDS_VM"))
		return 0;
	print_message("GDS_TEST_SEED=%" PRIu64 "\n", seed);
	random_numbers.state = seed;
	mkdir(MOUNT, 0755);
	expected = malloc(BUFFER_BYTES);
	found = malloc(BUFFER_BYTES);
	return !expected || !found || gds_device_open(&device, "udmabuf") ||
	       gds_reader_open(&reader, &options) ||
	       gds_buffer_alloc(&buffer, device, BUFFER_BYTES, 0);
}

int files_clean(void **state)
{
	(void)state;
	if (!getenv("GDS_VM"))
		return 0;
	umount2(MOUNT "/over", MNT_DETACH);
	umount2(MOUNT, MNT_DETACH);
	/* NOLINTNEXTLINE(cert-env33-c): the guest is the test's own */
	system("exec >/dev/null 2>&1 </dev/null; cd /; dmsetup remove_all; rm -rf /dev/files; "
	       "mdadm --stop /dev/md0; "
	       "chmod 660 /dev/nvme0n1; for disk in /dev/nvme0n1 /dev/nvme2n1; do "
	       "wipefs -aq $disk?*; sfdisk -q --delete $disk; wipefs -aq $disk; done");
	return 0;
}

int files_tear_down(void **state)
{
	(void)state;
	gds_buffer_free(buffer);
	gds_reader_close(reader);
	gds_device_close(device);
	free(expected);
	free(found);
	return 0;
}

/* ---- Reading, and comparing every byte ---- */

const char *at(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), MOUNT "/%s", name);
	return path;
}

uint64_t ask_file_system(const char *path, uint64_t offset, uint64_t length, unsigned char *bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t done = 0;
	ssize_t got = 1;

	need(fd >= 0, path);
	while (done < length && got > 0) {
		got = pread(fd, bytes + done, length - done, (off_t)(offset + done));
		need(got >= 0, path);
		done += (uint64_t)got;
	}
	close(fd);
	return done;
}

int64_t read_by(enum gds_path path, struct gds_file *file, uint64_t offset, uint64_t length,
		uint64_t place, struct gds_result *result)
{
	struct gds_batch_options options = { .size = sizeof(options), .path = path };
	struct gds_request request = { .file = file,
				       .buffer = buffer,
				       .offset = offset,
				       .length = length,
				       .buffer_offset = place };
	struct gds_batch *batch;

	must(gds_batch_create(&batch, reader, &options));
	must(gds_batch_add(batch, &request, 1));
	must(gds_batch_submit(batch));
	must(gds_batch_wait(batch, -1));
	must(gds_batch_result(batch, 0, result));
	gds_batch_destroy(batch);
	return result->bytes;
}

void compare(const char *path, uint64_t offset)
{
	must(gds_buffer_copy_out(buffer, 0, found, BUFFER_BYTES));
	if (memcmp(found, expected, BUFFER_BYTES) == 0)
		return;
	for (uint64_t i = 0; i < BUFFER_BYTES; i++)
		if (found[i] != expected[i])
			fail_msg("%s, read from %" PRIu64 ": byte %" PRIu64
				 " of the buffer is %02x and not %02x",
				 path, offset, i, found[i], expected[i]);
}

void check_range(struct gds_file *file, const char *path, uint64_t offset, uint64_t length,
		 uint64_t place)
{
	struct gds_result result;
	uint64_t there;
	int64_t bytes;

	memset(expected, 0x5a, BUFFER_BYTES);
	must(gds_buffer_copy_in(buffer, 0, expected, BUFFER_BYTES));
	there = ask_file_system(path, offset, length, expected + place);
	bytes = read_by(GDS_PATH_DMABUF, file, offset, length, place, &result);
	if (bytes < 0)
		fail_msg("%s at %" PRIu64 ": %s", path, offset, gds_last_error());
	assert_int_equal(bytes, there);
	assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], there);
	compare(path, offset);
}

enum { RANDOM_READS = 6 };

void check_file(struct gds_file *file, const char *path)
{
	int64_t bytes = gds_file_bytes(file);
	uint64_t length;

	must(bytes);
	for (uint64_t offset = 0; offset < (uint64_t)bytes && offset < 4 * BUFFER_BYTES;
	     offset += BUFFER_BYTES)
		check_range(file, path, offset, BUFFER_BYTES, 0);
	for (int i = 0; i < RANDOM_READS; i++) {
		length = random_skewed(&random_numbers, BUFFER_BYTES) + 1;
		check_range(file, path, random_below(&random_numbers, (uint64_t)bytes + 1), length,
			    random_below(&random_numbers, BUFFER_BYTES - length + 1));
	}
}

void check_path(const char *path)
{
	struct gds_file *file;

	must(gds_file_open(&file, path));
	check_file(file, path);
	gds_file_close(file);
}

/* ---- Making files ---- */

void fill(unsigned char *bytes, uint64_t count)
{
	for (uint64_t i = 0; i + 8 <= count; i += 8) {
		uint64_t word = random_u64(&random_numbers);

		memcpy(bytes + i, &word, 8);
	}
}

int create(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	need(fd >= 0, path);
	return fd;
}

void write_at(int fd, uint64_t offset, uint64_t length)
{
	fill(expected, length);
	need(pwrite(fd, expected, length, (off_t)offset) == (ssize_t)length, "pwrite");
}

void make_plain(const char *path, uint64_t bytes)
{
	int fd = create(path);

	for (uint64_t done = 0; done < bytes; done += BUFFER_BYTES)
		write_at(fd, done, bytes - done < BUFFER_BYTES ? bytes - done : BUFFER_BYTES);
	close(fd);
}

unsigned count_extents(const char *path)
{
	struct fiemap ask = { .fm_length = FIEMAP_MAX_OFFSET, .fm_flags = FIEMAP_FLAG_SYNC };
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	need(fd >= 0 && ioctl(fd, FS_IOC_FIEMAP, &ask) == 0, path);
	close(fd);
	return ask.fm_mapped_extents;
}

void make_file_system(const char *file_system, const char *disk, const char *options)
{
	run("wipefs -aq %s", disk);
	if (strcmp(file_system, "ext4") == 0)
		run("mkfs.ext4 -q -F %s %s", options, disk);
	else
		run("mkfs.%s -q -f %s %s", file_system, options, disk);
	need(mount(disk, MOUNT, file_system, 0, NULL) == 0, disk);
}

void make_partitions(void)
{
	run("wipefs -aq /dev/nvme0n1 /dev/nvme2n1");
	run("printf 'label: gpt\nstart=1MiB,size=300MiB\nsize=120MiB\nsize=2000MiB\n' "
	    ">/tmp/table && sfdisk -q /dev/nvme0n1 </tmp/table");
	run("printf 'label: gpt\nstart=3MiB,size=300MiB\nsize=80MiB\nsize=2000MiB\n' "
	    ">/tmp/table && sfdisk -q /dev/nvme2n1 </tmp/table");
	run("wipefs -aq /dev/nvme0n1p1 /dev/nvme0n1p2 /dev/nvme0n1p3 /dev/nvme2n1p1 "
	    "/dev/nvme2n1p2 /dev/nvme2n1p3");
}

const char *small_blocks_partition(void)
{
	char size[16] = "";
	int fd = open("/sys/block/nvme0n1/queue/logical_block_size", O_RDONLY | O_CLOEXEC);

	need(fd >= 0 && read(fd, size, sizeof(size) - 1) > 0, "logical_block_size");
	close(fd);
	return atoi(size) == 512 ? "/dev/nvme0n1p3" : "/dev/nvme2n1p3";
}

void make_array(const char *level, int partition)
{
	run("mdadm --create /dev/md0 --run --force --level=%s --raid-devices=2 /dev/nvme0n1p%d "
	    "/dev/nvme2n1p%d",
	    level, partition, partition);
}

void remove_array(int partition)
{
	run("mdadm --stop /dev/md0");
	run("mdadm --zero-superblock /dev/nvme0n1p%d /dev/nvme2n1p%d", partition, partition);
}

void check_refused(const char *path, const char *reason)
{
	struct gds_explanation explanation = { .size = sizeof(explanation) };
	const struct gds_path_verdict *verdict = &explanation.paths[GDS_PATH_DMABUF];
	struct gds_result result;
	struct gds_file *file;
	uint64_t there;

	must(gds_file_open(&file, path));
	must(gds_explain(reader, file, buffer, &explanation));
	if (verdict->usable || !strstr(verdict->reason, reason))
		fail_msg("%s: usable %u, because \"%s\", where \"%s\" was expected", path,
			 verdict->usable, verdict->reason, reason);
	memset(expected, 0x5a, BUFFER_BYTES);
	must(gds_buffer_copy_in(buffer, 0, expected, BUFFER_BYTES));
	there = ask_file_system(path, 0, BUFFER_BYTES, expected);
	assert_int_equal(read_by(GDS_PATH_AUTO, file, 0, BUFFER_BYTES, 0, &result), there);
	assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], 0);
	compare(path, 0);
	gds_file_close(file);
}
