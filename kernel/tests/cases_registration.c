// SPDX-License-Identifier: GPL-2.0-only
/* What the interface takes and what it refuses, with which errno. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <linux/blkpg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cases.h"
#include "test.h"
#include "transfer.h"

enum { MIB = 1 << 20, LIMIT_S = 30 };

/* --- file descriptors that make no registration */

enum fd_kind {
	FD_GOOD,
	FD_NONE, /* -1 */
	FD_CLOSED,
	FD_REGULAR,
	FD_BUFFERED, /* the disk without O_DIRECT */
	FD_NULL_BLK,
	FD_LOOP,
	FD_DM, /* device mapper */
	FD_MD, /* software RAID */
	FD_NVME_CHARACTER,
	FD_PIPE,
	FD_MEMFD,
	FD_DMABUF,
};

struct fd_case {
	const char *name;
	enum fd_kind target, dmabuf;
	int expected;
};

static const struct fd_case fd_cases[] = {
	{"target is not open", FD_CLOSED, FD_GOOD, -EBADF},
	{"target is -1", FD_NONE, FD_GOOD, -EBADF},
	{"dma-buf is not open", FD_GOOD, FD_CLOSED, -EBADF},
	{"dma-buf is -1", FD_GOOD, FD_NONE, -EBADF},
	{"dma-buf is a memfd", FD_GOOD, FD_MEMFD, -EINVAL},
	{"dma-buf is a disk", FD_GOOD, FD_BUFFERED, -EINVAL},
	{"target is a regular file", FD_REGULAR, FD_GOOD, -EOPNOTSUPP},
	{"target is a pipe", FD_PIPE, FD_GOOD, -EOPNOTSUPP},
	{"target is the dma-buf", FD_DMABUF, FD_GOOD, -EOPNOTSUPP},
	{"target is the NVMe character device", FD_NVME_CHARACTER, FD_GOOD, -EOPNOTSUPP},
	{"target is null_blk", FD_NULL_BLK, FD_GOOD, -EOPNOTSUPP},
	{"target is a loop device", FD_LOOP, FD_GOOD, -EOPNOTSUPP},
	{"target is a device mapper's disk", FD_DM, FD_GOOD, -EOPNOTSUPP},
	{"target is an md array", FD_MD, FD_GOOD, -EOPNOTSUPP},
	{"target is not O_DIRECT", FD_BUFFERED, FD_GOOD, -EINVAL},
};

static int open_or_skip(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		test_skip("%s: %s", path, strerror(errno));
	return fd;
}

/* A linear mapping of the disk under test: below it the feature is there. */
static int open_device_mapper(const struct disk *disk)
{
	char command[256];
	int fd;

	snprintf(command, sizeof(command),
		 "dmsetup create kernel-tests --noudevsync --table '0 2048 linear %s 0' && "
		 "dmsetup mknodes kernel-tests",
		 disk->path);
	if (access("/dev/mapper/kernel-tests", F_OK) && system(command))
		test_skip("dmsetup failed");
	fd = open_or_skip("/dev/mapper/kernel-tests", O_RDWR | O_DIRECT);
	system("dmsetup remove --deferred --noudevsync kernel-tests");
	return fd;
}

/* An array of nothing but the disk under test. */
static int open_array(const struct disk *disk)
{
	char command[256];

	snprintf(command, sizeof(command),
		 "mdadm --quiet --build /dev/md9 --force --level=linear --raid-devices=1 %s",
		 disk->path);
	if (system(command))
		test_skip("mdadm --build failed");
	return open_or_skip("/dev/md9", O_RDWR | O_DIRECT);
}

static void close_array(int fd)
{
	close(fd);
	CHECK_EQ(system("mdadm --quiet --stop /dev/md9"), 0, "stopping the array");
}

static int make_fd(enum fd_kind kind, int good, const struct disk *disk, int dmabuf)
{
	char path[80];
	int ends[2];

	switch (kind) {
	case FD_GOOD:
		return good;
	case FD_NONE:
		return -1;
	case FD_CLOSED:
		return 1000;
	case FD_REGULAR:
		return open_or_skip("/tmp", O_TMPFILE | O_RDWR);
	case FD_BUFFERED:
		return open_or_skip(disk->path, O_RDWR);
	case FD_NULL_BLK:
		return open_or_skip("/dev/nullb0", O_RDWR | O_DIRECT);
	case FD_LOOP:
		return open_or_skip("/dev/loop0", O_RDWR | O_DIRECT);
	case FD_DM:
		return open_device_mapper(disk);
	case FD_MD:
		return open_array(disk);
	case FD_NVME_CHARACTER:
		snprintf(path, sizeof(path), "/dev/ng%s", strstr(disk->path, "nvme") + 4);
		return open_or_skip(path, O_RDWR);
	case FD_PIPE:
		CHECK(pipe(ends) == 0, "pipe: %s", strerror(errno));
		return ends[0];
	case FD_MEMFD:
		return memfd_create("not a dma-buf", MFD_CLOEXEC);
	case FD_DMABUF:
		return dmabuf;
	}
	return -1;
}

struct registration {
	struct disk disk;
	struct memory memory;
	struct ring ring;
};

/* Everything a registration takes, and no registration. */
static void prepare(struct registration *registration)
{
	disk_open(&registration->disk, "nvme0");
	memory_open(&registration->memory, &exporter_udmabuf, MIB);
	ring_open(&registration->ring, 8, 0);
}

static void refuses_fds(const void *argument)
{
	const struct fd_case *wrong = argument;
	struct registration with;
	unsigned shape;

	prepare(&with);
	for (shape = 0; shape < SHAPES; shape++) {
		int target = make_fd(wrong->target, with.disk.fd, &with.disk, with.memory.dmabuf_fd);
		int dmabuf = make_fd(wrong->dmabuf, with.memory.dmabuf_fd, &with.disk,
				     with.memory.dmabuf_fd);

		CHECK_EQ(ring_register(&with.ring, shape, 0, target, dmabuf), wrong->expected,
			 "shape %s", shape_names[shape]);
		if (wrong->target == FD_MD)
			close_array(target);
	}
	/* A refusal must leave nothing behind: the same slot still works. */
	register_or_fail(&with.ring, SHAPE_PAIR, 0, with.disk.fd, with.memory.dmabuf_fd);
}

/* --- fields of the call and of its entries */

struct field_case {
	const char *name;
	size_t offset;
	size_t bytes;
	uint64_t value;
	int expected;
};

#define FIELD(type, field) offsetof(type, field), sizeof(((type *)0)->field)

static const struct field_case update_cases[] = {
	{"both flags", FIELD(struct rsrc_update, flags), 3, -EINVAL},
	{"an unknown flag", FIELD(struct rsrc_update, flags), 4, -EINVAL},
	{"the highest flag beside a known one", FIELD(struct rsrc_update, flags), 0x80000002, -EINVAL},
	{"resv2", FIELD(struct rsrc_update, resv2), 1, -EINVAL},
	{"resv2, highest bit", FIELD(struct rsrc_update, resv2), 1u << 31, -EINVAL},
	{"no entries", FIELD(struct rsrc_update, nr), 0, -EINVAL},
	{"a slot beyond the table", FIELD(struct rsrc_update, offset), SLOTS, -EINVAL},
	{"a slot that overflows", FIELD(struct rsrc_update, offset), UINT32_MAX, -EOVERFLOW},
	{"more entries than slots", FIELD(struct rsrc_update, nr), SLOTS + 1, -EINVAL},
	{"entries at address 0", FIELD(struct rsrc_update, data), 0, -EFAULT},
	{"tags at a bad address", FIELD(struct rsrc_update, tags), 8, -EFAULT},
};

static const struct field_case descriptor_cases[] = {
	{"an unknown type", FIELD(struct buffer_descriptor, type), 3, -EINVAL},
	{"the highest type", FIELD(struct buffer_descriptor, type), UINT32_MAX, -EINVAL},
	{"flags", FIELD(struct buffer_descriptor, flags), 1, -EINVAL},
	{"flags, highest bit", FIELD(struct buffer_descriptor, flags), 1u << 31, -EINVAL},
	{"size", FIELD(struct buffer_descriptor, size), MIB, -EINVAL},
	{"uaddr", FIELD(struct buffer_descriptor, uaddr), 4096, -EINVAL},
	{"reserved[0]", offsetof(struct buffer_descriptor, reserved) + 0, 8, 1, -EINVAL},
	{"reserved[1]", offsetof(struct buffer_descriptor, reserved) + 8, 8, 1, -EINVAL},
	{"reserved[2]", offsetof(struct buffer_descriptor, reserved) + 16, 8, 1, -EINVAL},
	{"reserved[3]", offsetof(struct buffer_descriptor, reserved) + 24, 8, 1, -EINVAL},
	{"reserved[4]", offsetof(struct buffer_descriptor, reserved) + 32, 8, 1, -EINVAL},
	{"reserved[5]", offsetof(struct buffer_descriptor, reserved) + 40, 8, 1ull << 63, -EINVAL},
};

static void set_field(void *record, const struct field_case *field)
{
	memcpy((char *)record + field->offset, &field->value, field->bytes);
}

static struct buffer_descriptor good_descriptor(const struct registration *with)
{
	return (struct buffer_descriptor){.type = DESCRIPTOR_DMABUF,
					  .dmabuf_fd = with->memory.dmabuf_fd,
					  .target_fd = with->disk.fd};
}

static struct rsrc_update update_of(const struct buffer_descriptor *descriptor)
{
	return (struct rsrc_update){
		.flags = UPDATE_FLAG_DESCRIPTOR, .data = (uintptr_t)descriptor, .nr = 1};
}

/* What was refused is refused for that one field: without it, it is taken. */
static void expect_taken(struct registration *with, struct buffer_descriptor *descriptor)
{
	struct rsrc_update update;

	*descriptor = good_descriptor(with);
	update = update_of(descriptor);
	CHECK_EQ(ring_update(&with->ring, &update), 1, "the same without the wrong field");
}

static void refuses_update_field(const void *argument)
{
	const struct field_case *field = argument;
	struct buffer_descriptor descriptor[SLOTS + 1];
	struct registration with;
	struct rsrc_update update;

	prepare(&with);
	memset(descriptor, 0, sizeof(descriptor));
	descriptor[0] = good_descriptor(&with);
	update = update_of(descriptor);
	set_field(&update, field);
	CHECK_EQ(ring_update(&with.ring, &update), field->expected, "%s", field->name);
	expect_taken(&with, descriptor);
}

static void refuses_descriptor_field(const void *argument)
{
	const struct field_case *field = argument;
	struct registration with;
	struct buffer_descriptor descriptor;
	struct rsrc_update update;

	prepare(&with);
	descriptor = good_descriptor(&with);
	update = update_of(&descriptor);
	set_field(&descriptor, field);
	CHECK_EQ(ring_update(&with.ring, &update), field->expected, "%s", field->name);
	expect_taken(&with, &descriptor);
}

/* The other types have reserved fields as well. */
static void refuses_fields_of_other_types(const void *argument)
{
	static const struct buffer_descriptor wrong[] = {
		{.type = DESCRIPTOR_EMPTY, .flags = 1},
		{.type = DESCRIPTOR_EMPTY, .size = 1},
		{.type = DESCRIPTOR_EMPTY, .uaddr = 1},
		{.type = DESCRIPTOR_EMPTY, .dmabuf_fd = 1},
		{.type = DESCRIPTOR_EMPTY, .target_fd = 1},
		{.type = DESCRIPTOR_EMPTY, .reserved = {[5] = 1}},
		{.type = DESCRIPTOR_USER, .uaddr = 4096, .size = 4096, .flags = 1},
		{.type = DESCRIPTOR_USER, .uaddr = 4096, .size = 4096, .dmabuf_fd = 1},
		{.type = DESCRIPTOR_USER, .uaddr = 4096, .size = 4096, .target_fd = 1},
		{.type = DESCRIPTOR_USER, .uaddr = 4096, .size = 4096, .reserved = {1}},
	};
	struct registration with;
	struct buffer_descriptor good;
	size_t i;

	(void)argument;
	prepare(&with);
	for (i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		struct rsrc_update update = update_of(&wrong[i]);

		CHECK_EQ(ring_update(&with.ring, &update), -EINVAL, "entry %zu of the test", i);
	}
	expect_taken(&with, &good);
}

static void refuses_iovec(const void *argument)
{
	const struct iovec *vector = argument;
	struct registration with;
	struct pair_entry entry = {.iov_uaddr = (uintptr_t)vector};
	struct rsrc_update update = {.flags = UPDATE_FLAG_PAIR, .data = (uintptr_t)&entry, .nr = 1};

	prepare(&with);
	entry.target_fd = with.disk.fd;
	entry.dmabuf_fd = with.memory.dmabuf_fd;
	CHECK_EQ(ring_update(&with.ring, &update), -EFAULT, "the iovec of a dma-buf");
}

static void ring_without_table(const void *argument)
{
	struct registration with;
	struct ring bare;
	unsigned shape;

	(void)argument;
	prepare(&with);
	ring_open_bare(&bare, 4, 0);
	for (shape = 0; shape < SHAPES; shape++)
		CHECK_EQ(ring_register(&bare, shape, 0, with.disk.fd, with.memory.dmabuf_fd), -ENXIO,
			 "shape %s", shape_names[shape]);
}

/* The second of two entries is bad: one is done, and it stays. */
static void counts_entries_done(const void *argument)
{
	struct registration with;
	struct buffer_descriptor descriptors[2];
	struct rsrc_update update;
	struct fixed_io io = {.length = 4096};

	(void)argument;
	prepare(&with);
	descriptors[0] = descriptors[1] = good_descriptor(&with);
	descriptors[1].dmabuf_fd = 1000;
	update = update_of(descriptors);
	update.nr = 2;
	CHECK_EQ(ring_update(&with.ring, &update), 1, "one good entry and one bad");
	io.fd = with.disk.fd;
	CHECK_EQ(ring_do(&with.ring, &io), 4096, "reading through the good one");
	io.slot = 1;
	CHECK_EQ(ring_do(&with.ring, &io), -EFAULT, "reading through the bad one");
}

/* Both shapes also take ordinary buffers and empty slots. */
static void ordinary_buffers(const void *argument)
{
	struct registration with;
	uint8_t *buffer = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec vector = {.iov_base = buffer, .iov_len = MIB};
	struct pair_entry pair = {.iov_uaddr = (uintptr_t)&vector, .target_fd = -1, .dmabuf_fd = -1};
	struct rsrc_update pair_update = {.flags = UPDATE_FLAG_PAIR, .data = (uintptr_t)&pair, .nr = 1};
	struct buffer_descriptor descriptor = {
		.type = DESCRIPTOR_USER, .uaddr = (uintptr_t)buffer, .size = MIB};
	struct rsrc_update descriptor_update = update_of(&descriptor);
	struct fixed_io io = {.buffer_offset = (uintptr_t)buffer, .length = 4096};
	unsigned shape;

	(void)argument;
	prepare(&with);
	io.fd = with.disk.fd;
	for (shape = 0; shape < SHAPES; shape++) {
		CHECK_EQ(ring_update(&with.ring, shape == SHAPE_PAIR ? &pair_update : &descriptor_update),
			 1, "shape %s", shape_names[shape]);
		memset(buffer, POISON, 4096);
		CHECK_EQ(ring_do(&with.ring, &io), 4096, "reading");
		CHECK(pattern_check(buffer, 4096, with.disk.seed, 0) < 0, "wrong bytes");
		CHECK_EQ(ring_empty(&with.ring, shape, 0), 1, "emptying");
		CHECK_EQ(ring_do(&with.ring, &io), -EFAULT, "reading through an empty slot");
	}
}

/* --- requests */

static void open_default(struct setup *setup)
{
	setup_open(setup, some_shape(), "nvme0", &exporter_udmabuf, MIB);
}

struct io_case {
	const char *name;
	struct fixed_io io;
	int expected;
};

static const struct io_case io_cases[] = {
	{"a length of 0", {.length = 0}, -EFAULT},
	{"one block past the end", {.buffer_offset = MIB, .length = 512}, -EFAULT},
	{"a length over the end", {.buffer_offset = MIB - 512, .length = 1024}, -EFAULT},
	{"an offset near 2^64", {.buffer_offset = UINT64_MAX - 511, .length = 512}, -EFAULT},
	{"an offset that wraps", {.buffer_offset = UINT64_MAX - 511, .length = 1024}, -EFAULT},
	{"the largest length", {.length = UINT32_MAX & ~511u}, -EFAULT},
	{"an empty slot", {.slot = 1, .length = 512}, -EFAULT},
	{"a slot beyond the table", {.slot = SLOTS, .length = 512}, -EFAULT},
	{"a length of part of a block", {.length = 100}, -EINVAL},
	{"a file offset inside a block", {.length = 512, .file_offset = 100}, -EINVAL},
	{"an odd buffer offset", {.buffer_offset = 1, .length = 512}, -EINVAL},
};

static void refuses_io(const void *argument)
{
	const struct io_case *wrong = argument;
	struct fixed_io io = wrong->io;
	struct setup setup;

	open_default(&setup);
	io.fd = setup.disk.fd;
	CHECK_EQ(ring_do(&setup.ring, &io), wrong->expected, "reading");
	io.opcode = IORING_OP_WRITE_FIXED;
	CHECK_EQ(ring_do(&setup.ring, &io), wrong->expected, "writing");
	CHECK(poison_check(setup.memory.map, MIB) < 0, "a refused read wrote");
}

static void read_past_the_disk(const void *argument)
{
	struct setup setup;
	struct fixed_io io = {.length = 4096, .file_offset = 8ull << 30};

	(void)argument;
	open_default(&setup);
	io.fd = setup.disk.fd;
	CHECK_EQ(ring_do(&setup.ring, &io), 0, "reading at the end of the disk");
	io.file_offset -= 512;
	CHECK_EQ(ring_do(&setup.ring, &io), 512, "reading over the end of the disk");
	io.opcode = IORING_OP_WRITE_FIXED;
	io.file_offset = 8ull << 30;
	CHECK_EQ(ring_do(&setup.ring, &io), -ENOSPC, "writing at the end of the disk");
}

static void other_file(const void *argument)
{
	struct setup setup;
	struct disk again, other;
	struct fixed_io io = {.length = 4096};

	(void)argument;
	open_default(&setup);
	disk_open(&again, "nvme0");
	disk_open(&other, "nvme1");
	io.fd = again.fd;
	CHECK_EQ(ring_do(&setup.ring, &io), -EBADF, "the same disk, opened once more");
	io.fd = other.fd;
	CHECK_EQ(ring_do(&setup.ring, &io), -EBADF, "another disk");
	io.fd = dup(setup.disk.fd);
	CHECK_EQ(ring_do(&setup.ring, &io), 4096, "a duplicate of the target's descriptor");
}

static void registered_file(const void *argument)
{
	struct setup setup;
	struct io_uring_sqe *sqe;

	(void)argument;
	open_default(&setup);
	CHECK_EQ(syscall(__NR_io_uring_register, setup.ring.fd, IORING_REGISTER_FILES,
			 &setup.disk.fd, 1),
		 0, "registering the file");
	ring_queue(&setup.ring, &(struct fixed_io){.fd = 0, .length = 4096});
	sqe = &setup.ring.sqes[0];
	sqe->flags = IOSQE_FIXED_FILE;
	ring_submit(&setup.ring);
	CHECK_EQ(ring_wait(&setup.ring).res, 4096, "reading through the registered file");
	CHECK(pattern_check(setup.memory.map, 4096, setup.disk.seed, 0) < 0, "wrong bytes");
}

/* O_DIRECT dropped after the registration: buffered I/O cannot use the memory. */
static void direct_flag_dropped(const void *argument)
{
	struct setup setup;
	struct fixed_io io = {.length = 4096};

	(void)argument;
	open_default(&setup);
	CHECK(fcntl(setup.disk.fd, F_SETFL, 0) == 0, "F_SETFL: %s", strerror(errno));
	io.fd = setup.disk.fd;
	CHECK_EQ(ring_do(&setup.ring, &io), -EINVAL, "a buffered read");
	io.opcode = IORING_OP_WRITE_FIXED;
	CHECK_EQ(ring_do(&setup.ring, &io), -EINVAL, "a buffered write");
	CHECK(poison_check(setup.memory.map, MIB) < 0, "a refused read wrote");
}

static void vectored(const void *argument)
{
	static const uint8_t opcodes[] = {OP_READV_FIXED, OP_WRITEV_FIXED};
	struct iovec vector = {.iov_base = NULL, .iov_len = 4096};
	struct setup setup;
	size_t i;

	(void)argument;
	open_default(&setup);
	for (i = 0; i < sizeof(opcodes); i++) {
		struct fixed_io io = {.opcode = opcodes[i],
				      .fd = setup.disk.fd,
				      .buffer_offset = (uintptr_t)&vector,
				      .length = 1};

		CHECK_EQ(ring_do(&setup.ring, &io), -EOPNOTSUPP, "opcode %u", opcodes[i]);
	}
	CHECK(poison_check(setup.memory.map, MIB) < 0, "a refused read wrote");
}

static void other_opcodes(const void *argument)
{
	struct setup setup;
	struct io_uring_sqe *sqe;
	int ends[2];

	(void)argument;
	open_default(&setup);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "socketpair: %s", strerror(errno));
	sqe = ring_next(&setup.ring);
	sqe->opcode = OP_SEND_ZC;
	sqe->fd = ends[0];
	sqe->len = 4096;
	sqe->ioprio = 4; /* IORING_RECVSEND_FIXED_BUF */
	ring_submit(&setup.ring);
	CHECK_EQ(ring_wait(&setup.ring).res, -EOPNOTSUPP, "a send from the slot");
}

static void polled_ring(const void *argument)
{
	struct registration with;
	struct ring polled;
	unsigned shape;

	(void)argument;
	prepare(&with);
	ring_open(&polled, 4, IORING_SETUP_IOPOLL);
	for (shape = 0; shape < SHAPES; shape++)
		CHECK_EQ(ring_register(&polled, shape, 0, with.disk.fd, with.memory.dmabuf_fd),
			 -EOPNOTSUPP, "shape %s", shape_names[shape]);
}

static void clone_refused(const void *argument)
{
	struct setup setup;
	struct ring copy;
	struct clone_buffers clone = {0};

	(void)argument;
	open_default(&setup);
	ring_open_bare(&copy, 4, 0);
	clone.src_fd = (uint32_t)setup.ring.fd;
	CHECK_EQ(syscall(__NR_io_uring_register, copy.fd, IORING_REGISTER_CLONE_BUFFERS, &clone, 1) < 0
			 ? -errno
			 : 0,
		 -EOPNOTSUPP, "cloning");
	CHECK_EQ(ring_do(&setup.ring, &(struct fixed_io){.fd = setup.disk.fd, .length = 4096}), 4096,
		 "reading through the slot that was not cloned");
}

/* Code that walks a slot's pages must know that this one has none. */
static void shown_in_fdinfo(const void *argument)
{
	struct setup setup;
	char path[64], text[4096];

	(void)argument;
	open_default(&setup);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", setup.ring.fd);
	CHECK_EQ(read_file(path, text, sizeof(text)), 0, "reading %s", path);
}

/* A slot's old buffer is accounted page by page with the other slots: a dma-buf
 * among them must be passed over. */
static void accounted_beside(const void *argument)
{
	struct setup setup;
	uint8_t *buffer = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned round;

	(void)argument;
	open_default(&setup);
	for (round = 0; round < 4; round++) {
		CHECK_EQ(ring_register_user(&setup.ring, 1, buffer, MIB), 1, "an ordinary buffer");
		register_or_fail(&setup.ring, round & 1, 0, setup.disk.fd, setup.memory.dmabuf_fd);
		CHECK_EQ(ring_empty(&setup.ring, round & 1, 1), 1, "emptying the ordinary slot");
	}
}

/* User space can tell without trying. */
static void told_by_sysfs(const void *argument)
{
	struct disk disk;
	char path[128], text[16];

	(void)argument;
	disk_open(&disk, "nvme0");
	snprintf(path, sizeof(path), "/sys/block/%s/queue/dma_buf", disk.path + strlen("/dev/"));
	CHECK_EQ(read_file(path, text, sizeof(text)), 0, "reading %s", path);
	CHECK(strcmp(text, "1") == 0, "%s says %s", path, text);
	CHECK_EQ(read_file("/sys/block/nullb0/queue/dma_buf", text, sizeof(text)), 0, "null_blk's");
	CHECK(strcmp(text, "0") == 0, "null_blk's says %s", text);
}

/* A partition's blocks are the disk's, further on. */
static void partition(const void *argument)
{
	enum { NUMBER = 7 };
	struct registration with;
	struct blkpg_partition range = {.start = 3 * MIB, .length = 8 * MIB, .pno = NUMBER};
	struct blkpg_ioctl_arg change = {
		.op = BLKPG_ADD_PARTITION, .datalen = sizeof(range), .data = &range};
	struct fixed_io io = {.length = 256 << 10, .file_offset = MIB};
	char path[80];
	int target;

	(void)argument;
	prepare(&with);
	snprintf(path, sizeof(path), "%sp%d", with.disk.path, NUMBER);
	CHECK(ioctl(with.disk.fd, BLKPG, &change) == 0, "adding a partition: %s", strerror(errno));
	target = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	CHECK(target >= 0, "%s: %s", path, strerror(errno));
	register_or_fail(&with.ring, some_shape(), 0, target, with.memory.dmabuf_fd);
	io.fd = target;
	CHECK_EQ(ring_do(&with.ring, &io), io.length, "reading");
	CHECK(pattern_check(with.memory.map, io.length, with.disk.seed, 4 * MIB) < 0, "wrong bytes");
	io.file_offset = 8 * MIB - 4096;
	CHECK_EQ(ring_do(&with.ring, &io), 4096, "reading over the end of the partition");
	ring_close(&with.ring);
	close(target);
	change.op = BLKPG_DEL_PARTITION;
	while (ioctl(with.disk.fd, BLKPG, &change) && errno == EBUSY)
		usleep(1000);
}

static void read_only_target(const void *argument)
{
	struct registration with;
	int target;
	struct fixed_io io = {.length = 4096};

	(void)argument;
	prepare(&with);
	target = open(with.disk.path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	register_or_fail(&with.ring, some_shape(), 0, target, with.memory.dmabuf_fd);
	io.fd = target;
	CHECK_EQ(ring_do(&with.ring, &io), 4096, "reading");
	io.opcode = IORING_OP_WRITE_FIXED;
	CHECK_EQ(ring_do(&with.ring, &io), -EBADF, "writing");
}

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static void add_tables(void)
{
	static const struct iovec with_base = {.iov_base = (void *)4096};
	static const struct iovec with_length = {.iov_len = 4096};
	size_t i;

	for (i = 0; i < COUNT(fd_cases); i++)
		test_add(refuses_fds, &fd_cases[i], LIMIT_S, "registration refused: %s", fd_cases[i].name);
	for (i = 0; i < COUNT(update_cases); i++)
		test_add(refuses_update_field, &update_cases[i], LIMIT_S,
			 "registration refused: update with %s", update_cases[i].name);
	for (i = 0; i < COUNT(descriptor_cases); i++)
		test_add(refuses_descriptor_field, &descriptor_cases[i], LIMIT_S,
			 "registration refused: descriptor with %s", descriptor_cases[i].name);
	test_add(refuses_iovec, NULL, LIMIT_S, "registration refused: pair without an iovec");
	test_add(refuses_iovec, &with_base, LIMIT_S, "registration refused: pair with an address");
	test_add(refuses_iovec, &with_length, LIMIT_S, "registration refused: pair with a length");
	for (i = 0; i < COUNT(io_cases); i++)
		test_add(refuses_io, &io_cases[i], LIMIT_S, "request refused: %s", io_cases[i].name);
}

void add_registration_cases(void)
{
	static const struct {
		test_function *function;
		const char *name;
	} cases[] = {
		{refuses_fields_of_other_types, "registration refused: fields a type has no use for"},
		{ring_without_table, "registration refused: a ring without a table"},
		{counts_entries_done, "registration: the first of two entries is done"},
		{ordinary_buffers, "registration: ordinary buffers in both shapes"},
		{accounted_beside, "registration: accounting passes dma-buf slots over"},
		{told_by_sysfs, "registration: sysfs tells which disks can"},
		{partition, "registration: a partition"},
		{read_only_target, "registration: a target opened for reading only"},
		{shown_in_fdinfo, "registration: fdinfo of a ring with a dma-buf"},
		{polled_ring, "registration refused: a polled ring"},
		{clone_refused, "registration refused: cloning a dma-buf slot"},
		{read_past_the_disk, "request: over the end of the disk"},
		{other_file, "request refused: another file than the target"},
		{registered_file, "request: the target as a registered file"},
		{direct_flag_dropped, "request refused: O_DIRECT dropped"},
		{vectored, "request refused: vectored"},
		{other_opcodes, "request refused: another opcode"},
	};
	size_t i;

	add_tables();
	for (i = 0; i < COUNT(cases); i++)
		test_add(cases[i].function, NULL, LIMIT_S, "%s", cases[i].name);
}
