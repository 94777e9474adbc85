/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files by the direct path, in kernel/vm: on every file system and every volume that
 * gds sees through, and on those that it does not. Every byte of a buffer is
 * compared with what the file system says itself.
 *
 * The disks of the VM are scratch, and mkfs, mdadm, LVM and cryptsetup are in its
 * root; anywhere else nothing is touched.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "storage/file.h"
#include "storage/filemap.h"
#include "vm/files.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Data far apart, beyond 4 GiB, with holes between. */
static void make_sparse(const char *path)
{
	int fd = create(path);

	write_at(fd, 0, 3 * BLOCK + 77);
	write_at(fd, 2 * MIB + 5 * BLOCK + 1, 100000);
	write_at(fd, (UINT64_C(5) << 30) - 3 * BLOCK, MIB);
	need(ftruncate(fd, (off_t)(UINT64_C(5) << 30) + (off_t)(3 * MIB) + 11) == 0, "ftruncate");
	close(fd);
}

static void make_preallocated(const char *path)
{
	int fd = create(path);

	need(fallocate(fd, 0, 0, 12 << 20) == 0, "fallocate");
	write_at(fd, 100 * BLOCK, 50 * BLOCK);
	write_at(fd, 200 * BLOCK + 100, 300);
	close(fd);
}

enum { FRAGMENTS = 600 };

/* From the end to the beginning: no block follows the one before. */
static void write_backwards(const char *path)
{
	void *block = aligned_alloc(BLOCK, BLOCK);
	int fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);

	need(block && fd >= 0, path);
	for (int turn = 0; turn < 2; turn++) {
		for (int i = FRAGMENTS - 1; i >= 0; i--) {
			if (i % 2 != turn)
				continue;
			fill(block, BLOCK);
			need(pwrite(fd, block, BLOCK, (off_t)i * (off_t)BLOCK) == (ssize_t)BLOCK,
			     "pwrite");
		}
	}
	close(fd);
	free(block);
}

/* Blocks are put between those that are there. False where the file system cannot. */
static bool insert_blocks(const char *path)
{
	bool can = true;
	int fd;

	make_plain(path, FRAGMENTS / 2 * BLOCK);
	fd = open(path, O_RDWR | O_CLOEXEC);
	need(fd >= 0 && fsync(fd) == 0, path);
	for (off_t i = 1; can && i < FRAGMENTS - 1; i += 2) {
		can = fallocate(fd, FALLOC_FL_INSERT_RANGE, i * (off_t)BLOCK, (off_t)BLOCK) == 0;
		if (can)
			write_at(fd, (uint64_t)i * BLOCK, BLOCK);
	}
	close(fd);
	return can;
}

static void make_fragmented(const char *path)
{
	if (!insert_blocks(path)) {
		unlink(path);
		write_backwards(path);
	}
	/* More than a window of gds holds. */
	if (count_extents(path) < FRAGMENTS / 2)
		fail_msg("%s has only %u extents", path, count_extents(path));
}

static void make_punched(const char *path)
{
	int fd;

	make_plain(path, 6 * MIB + 1234);
	fd = open(path, O_RDWR | O_CLOEXEC);
	need(fd >= 0, path);
	for (uint64_t block = 1; block < 1400; block += 1 + random_below(&random_numbers, 8))
		need(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       (off_t)(block * BLOCK), (off_t)BLOCK) == 0,
		     "fallocate");
	close(fd);
}

/* The file of `source` once more, sharing its blocks; and then a part of it not any more. */
static void make_reflink(const char *source, const char *path)
{
	int from = open(source, O_RDONLY | O_CLOEXEC);
	int fd = create(path);

	need(from >= 0 && ioctl(fd, FICLONE, from) == 0, path);
	write_at(fd, 50 * BLOCK + 5, 20 * BLOCK);
	close(from);
	close(fd);
}

static void make_files(const char *file_system)
{
	char source[256];

	make_plain(at("plain"), 3 * MIB + 123);
	make_plain(at("large"), 20 * MIB);
	make_sparse(at("sparse"));
	make_preallocated(at("preallocated"));
	make_fragmented(at("fragmented"));
	make_punched(at("punched"));
	make_plain(at("one"), 1);
	make_plain(at("block"), BLOCK);
	if (strcmp(file_system, "ext4") == 0)
		return;
	snprintf(source, sizeof(source), "%s", at("large"));
	make_reflink(source, at("reflinked"));
}

/* Files that change between reads: what was known of them must be dropped. */
static void check_changes(void)
{
	const char *path = at("changing");
	struct gds_file *file;
	int fd;

	make_plain(path, 2 * MIB + 99);
	must(gds_file_open(&file, path));
	check_file(file, path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	need(fd >= 0, path);
	write_at(fd, 2 * MIB + 99, MIB); /* appended */
	check_file(file, path);
	write_at(fd, 333, MIB); /* overwritten */
	check_file(file, path);
	need(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8 * BLOCK, 64 * BLOCK) == 0,
	     "fallocate");
	check_file(file, path);
	need(ftruncate(fd, MIB + 7) == 0, "ftruncate");
	check_file(file, path);
	need(ftruncate(fd, 3 * MIB) == 0, "ftruncate");
	check_file(file, path);
	need(ftruncate(fd, 0) == 0, "ftruncate");
	check_file(file, path);
	close(fd);
	gds_file_close(file);
}

/*
 * Moves a file that was read before. Neither its times nor its size tell of that, and
 * its old blocks are overwritten by another file.
 */
static void check_moved(const char *file_system)
{
	const char *path = at("fragmented");
	unsigned before = count_extents(path);
	struct gds_file *file;

	must(gds_file_open(&file, path));
	check_file(file, path);
	if (strcmp(file_system, "ext4") == 0)
		run("e4defrag %s", path);
	else if (strcmp(file_system, "xfs") == 0)
		run("xfs_fsr %s", path);
	else
		run("btrfs filesystem defragment -f -t 64M %s", path);
	if (count_extents(path) >= before)
		fail_msg("%s was not defragmented: %u extents", path, count_extents(path));
	run("yes >%s/taker & sleep 0.5; kill $!; sync %s/taker; rm %s/taker", MOUNT, MOUNT, MOUNT);
	check_file(file, path);
	gds_file_close(file);
}

static void check_all(const char *file_system)
{
	static const char *const names[] = { "plain",      "large",   "sparse", "preallocated",
					     "fragmented", "punched", "block" };
	struct gds_file *file;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		check_path(at(names[i]));
	if (strcmp(file_system, "ext4") != 0)
		check_path(at("reflinked"));
	must(gds_file_open(&file, at("sparse")));
	check_range(file, at("sparse"), (UINT64_C(5) << 30) - 2 * MIB, BUFFER_BYTES, 0);
	check_range(file, at("sparse"), (UINT64_C(5) << 30) - 2 * MIB + 5, 3 * MIB, 77);
	gds_file_close(file);
	check_moved(file_system);
	check_changes();
}

static void check_file_system(const char *file_system, const char *disk)
{
	make_file_system(file_system, disk, "");
	make_files(file_system);
	check_all(file_system);
	need(umount(MOUNT) == 0, MOUNT);
}

/* ---- File systems on whole disks, with blocks of both sizes ---- */

static void files_on_ext4_are_right(void **state)
{
	(void)state;
	need_vm();
	check_file_system("ext4", "/dev/nvme0n1");
	check_file_system("ext4", "/dev/nvme1n1");
}

static void files_on_xfs_are_right(void **state)
{
	(void)state;
	need_vm();
	check_file_system("xfs", "/dev/nvme0n1");
	check_file_system("xfs", "/dev/nvme1n1");
}

static void files_on_btrfs_are_right(void **state)
{
	(void)state;
	need_vm();
	check_file_system("btrfs", "/dev/nvme0n1");
}

static void files_on_a_btrfs_of_two_disks_are_right(void **state)
{
	(void)state;
	need_vm();
	run("wipefs -aq /dev/nvme2n1");
	make_file_system("btrfs", "/dev/nvme0n1", "-d raid0 /dev/nvme2n1");
	make_files("btrfs");
	check_all("btrfs");
	need(umount(MOUNT) == 0, MOUNT);
}

/* Their offsets, in the file and on the disk, need more than 32 bits. */
static void check_beyond_4_gib(const char *file_system)
{
	const uint64_t edge = UINT64_C(4) << 30;
	const uint64_t bytes = (UINT64_C(5) << 30) - 1234;
	struct gds_file *file;
	int fd;

	make_file_system(file_system, "/dev/nvme0n1", "");
	fd = create(at("huge"));
	need(fallocate(fd, 0, 0, (off_t)bytes) == 0, "fallocate");
	write_at(fd, edge - MIB - 77, 2 * MIB + 100);
	write_at(fd, bytes - 100000, 100000);
	close(fd);
	must(gds_file_open(&file, at("huge")));
	check_range(file, at("huge"), edge - 2 * MIB, BUFFER_BYTES, 0);
	check_range(file, at("huge"), edge - 2 * MIB + 4321, 3 * MIB, 99);
	check_range(file, at("huge"), bytes - 3 * MIB, BUFFER_BYTES, 0);
	check_range(file, at("huge"), bytes - 50001, 100000, 1);
	gds_file_close(file);
	need(umount(MOUNT) == 0, MOUNT);
}

static void files_larger_than_4_gib_are_right(void **state)
{
	(void)state;
	need_vm();
	check_beyond_4_gib("ext4");
	check_beyond_4_gib("xfs");
	check_beyond_4_gib("btrfs");
}

static void files_in_blocks_of_1_kib_are_right(void **state)
{
	static const char *const file_systems[][2] = { { "ext4", "-b 1024" },
						       { "xfs", "-b size=1024" } };

	(void)state;
	need_vm();
	make_partitions();
	for (size_t i = 0; i < 2; i++) {
		make_file_system(file_systems[i][0], small_blocks_partition(), file_systems[i][1]);
		make_punched(at("punched"));
		make_preallocated(at("preallocated"));
		make_fragmented(at("fragmented"));
		make_plain(at("plain"), 3 * MIB + 1025);
		check_path(at("punched"));
		check_path(at("preallocated"));
		check_path(at("fragmented"));
		check_path(at("plain"));
		need(umount(MOUNT) == 0, MOUNT);
	}
}

/* ---- Other ways to a file ---- */

static void a_file_is_right_by_each_of_its_names_and_by_none(void **state)
{
	struct gds_file *file;
	char name[64];
	int fd;

	(void)state;
	need_vm();
	make_file_system("ext4", "/dev/nvme0n1", "");
	make_plain(at("plain"), 2 * MIB + 77);
	run("cd %s && ln -s plain symbolic && ln plain hard && mkdir over && "
	    "mount --bind %s %s/over",
	    MOUNT, MOUNT, MOUNT);
	check_path(at("symbolic"));
	check_path(at("hard"));
	check_path(at("over/plain"));
	need(umount(at("over")) == 0, "over");
	/* A descriptor that can be used for nothing but as a name. */
	fd = open(at("plain"), O_PATH | O_CLOEXEC);
	need(fd >= 0, "O_PATH");
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	check_path(name);
	/* All names gone, and its blocks still its own. */
	must(gds_file_open(&file, name));
	run("rm %s/plain %s/hard && head -c 40000000 /dev/urandom >%s/other && sync", MOUNT, MOUNT,
	    MOUNT);
	check_file(file, name);
	gds_file_close(file);
	close(fd);
	need(umount(MOUNT) == 0, MOUNT);
}

static void files_that_may_not_be_changed_are_right(void **state)
{
	(void)state;
	need_vm();
	make_file_system("ext4", "/dev/nvme0n1", "");
	make_plain(at("immutable"), MIB + 5);
	make_plain(at("append-only"), MIB + 5);
	run("chattr +i %s/immutable && chattr +a %s/append-only", MOUNT, MOUNT);
	check_path(at("immutable"));
	check_path(at("append-only"));
	run("mount -o remount,ro %s", MOUNT);
	check_path(at("immutable"));
	need(umount(MOUNT) == 0, MOUNT);
}

/* A snapshot has the old bytes, in blocks that it shares with its origin or not any more. */
static void files_in_subvolumes_and_snapshots_are_right(void **state)
{
	int fd;

	(void)state;
	need_vm();
	make_file_system("btrfs", "/dev/nvme0n1", "");
	run("btrfs subvolume create %s/sub", MOUNT);
	make_plain(at("sub/plain"), 3 * MIB + 9);
	run("btrfs subvolume snapshot -r %s/sub %s/snapshot", MOUNT, MOUNT);
	fd = open(at("sub/plain"), O_RDWR | O_CLOEXEC);
	need(fd >= 0, "sub/plain");
	write_at(fd, MIB, MIB / 2);
	close(fd);
	check_path(at("sub/plain"));
	check_path(at("snapshot/plain"));
	run("mkdir /tmp/sub && mount -o subvol=sub /dev/nvme0n1 /tmp/sub");
	check_path("/tmp/sub/plain");
	need(umount("/tmp/sub") == 0, "/tmp/sub");
	run("rmdir /tmp/sub");
	need(umount(MOUNT) == 0, MOUNT);
}

/* What a program has stored in a mapping of the file is the file's, written down or not. */
static void what_was_stored_through_a_mapping_is_read(void **state)
{
	const uint64_t bytes = 2 * MIB;
	const char *path = at("mapped");
	struct gds_file *file;
	unsigned char *mapping;
	int fd;

	(void)state;
	need_vm();
	make_file_system("xfs", "/dev/nvme0n1", "");
	make_plain(path, bytes);
	fd = open(path, O_RDWR | O_CLOEXEC);
	need(fd >= 0, path);
	mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	need(mapping != MAP_FAILED, "mmap");
	must(gds_file_open(&file, path));
	for (int i = 0; i < 3; i++) {
		fill(mapping + i * 1000, 20000);
		check_range(file, path, 0, bytes, 0);
		fill(mapping + i * 1000, 20000);
		check_range(file, path, 0, bytes, 0);
	}
	gds_file_close(file);
	munmap(mapping, bytes);
	close(fd);
	need(umount(MOUNT) == 0, MOUNT);
}

/* ---- Volumes ---- */

static void files_on_a_partition_are_right(void **state)
{
	(void)state;
	need_vm();
	make_partitions();
	check_file_system("ext4", "/dev/nvme2n1p2");
	check_file_system("xfs", "/dev/nvme2n1p3");
	check_file_system("btrfs", "/dev/nvme0n1p3");
}

/* A file that reaches nearly to the end of the volume, whole. */
static void check_filled(const char *disk, uint64_t bytes)
{
	struct gds_file *file;

	make_file_system("ext4", disk, "-m 0");
	make_plain(at("filling"), bytes);
	must(gds_file_open(&file, at("filling")));
	for (uint64_t offset = 0; offset < bytes; offset += BUFFER_BYTES)
		check_range(file, at("filling"), offset, BUFFER_BYTES, 0);
	gds_file_close(file);
	need(umount(MOUNT) == 0, MOUNT);
}

/* The volume itself, as a file; also what was written to it a moment ago. */
static void check_volume(const char *disk)
{
	struct gds_file *file;
	int fd = open(disk, O_WRONLY | O_CLOEXEC);

	need(fd >= 0, disk);
	must(gds_file_open(&file, disk));
	for (int i = 0; i < 3; i++) {
		write_at(fd, 100000 + (uint64_t)i * 1000, MIB);
		check_file(file, disk);
	}
	gds_file_close(file);
	close(fd);
}

static void files_on_raid_0_are_right(void **state)
{
	(void)state;
	need_vm();
	make_partitions();
	/* Its members differ in size, so that it ends with a zone of one member. */
	make_array("raid0", 2);
	check_filled("/dev/md0", 170 * MIB);
	check_file_system("ext4", "/dev/md0");
	remove_array(2);
	make_array("raid0", 3);
	check_file_system("xfs", "/dev/md0");
	check_volume("/dev/md0");
	remove_array(3);
}

static void files_on_raid_1_are_right_also_while_it_is_brought_in_sync(void **state)
{
	(void)state;
	need_vm();
	make_partitions();
	make_array("1 --bitmap=none --metadata=1.0", 3);
	check_file_system("ext4", "/dev/md0");
	run("echo idle >/sys/block/md0/md/sync_action; mdadm --wait /dev/md0 || true");
	check_file_system("xfs", "/dev/md0");
	remove_array(3);
}

/* A member fails and goes while the array's files are read on. */
static void files_on_raid_1_are_right_when_a_member_has_gone(void **state)
{
	struct gds_file *file;

	(void)state;
	need_vm();
	make_partitions();
	make_array("1 --bitmap=none --assume-clean", 2);
	make_file_system("ext4", "/dev/md0", "");
	make_plain(at("plain"), 6 * MIB + 5);
	must(gds_file_open(&file, at("plain")));
	check_file(file, at("plain"));
	run("mdadm /dev/md0 --fail /dev/nvme2n1p2 && mdadm /dev/md0 --remove /dev/nvme2n1p2");
	/* What it held is another's now. */
	run("dd if=/dev/urandom of=/dev/nvme2n1p2 bs=1M count=70 oflag=direct");
	check_file(file, at("plain"));
	gds_file_close(file);
	need(umount(MOUNT) == 0, MOUNT);
	run("mdadm --stop /dev/md0 && mdadm --zero-superblock /dev/nvme0n1p2");
}

static void files_on_a_linear_array_are_right(void **state)
{
	(void)state;
	need_vm();
	make_partitions();
	make_array("linear", 2);
	check_filled("/dev/md0", 170 * MIB);
	remove_array(2);
}

static void files_on_logical_volumes_are_right(void **state)
{
	(void)state;
	need_vm();
	make_partitions();
	run("vgcreate " LVM " files /dev/nvme0n1p1 /dev/nvme2n1p1 && "
	    "lvcreate " LVM " -i 2 -I 16k -L 80M -n striped files && "
	    "lvcreate " LVM " -L 400M -n linear files");
	check_filled("/dev/mapper/files-linear", 350 * MIB);
	check_file_system("xfs", "/dev/mapper/files-linear");
	check_filled("/dev/mapper/files-striped", 60 * MIB);
	check_volume("/dev/mapper/files-striped");
	run("vgremove " LVM " -f files && pvremove " LVM " /dev/nvme0n1p1 /dev/nvme2n1p1");
}

static void files_on_a_logical_volume_on_raid_0_on_partitions_are_right(void **state)
{
	(void)state;
	need_vm();
	make_partitions();
	make_array("raid0", 3);
	run("vgcreate " LVM " files /dev/md0 && lvcreate " LVM " -L 1000M -n linear files");
	check_file_system("ext4", "/dev/mapper/files-linear");
	run("vgremove " LVM " -f files && pvremove " LVM " /dev/md0");
	remove_array(3);
}

/* Linear volumes on each other, to this depth, on a partition. */
static void make_deep(int depth)
{
	run("size=$(blockdev --getsz /dev/nvme0n1p2); below=/dev/nvme0n1p2; "
	    "for i in $(seq %d); do "
	    "dmsetup create --noudevsync deep$i --table \"0 $((size - i * 8)) linear $below 8\" && "
	    "dmsetup mknodes deep$i && below=/dev/mapper/deep$i || exit; done",
	    depth);
}

static void files_on_volumes_that_stand_on_each_other_are_right_to_a_depth(void **state)
{
	(void)state;
	need_vm();
	make_partitions();
	make_deep(7);
	make_file_system("ext4", "/dev/mapper/deep7", "");
	make_plain(at("plain"), 3 * MIB + 9);
	check_refused(at("plain"), "too many volumes");
	need(umount(MOUNT) == 0, MOUNT);
	/* The disk and the partition count as well. */
	run("dmsetup remove --noudevsync deep7");
	make_file_system("ext4", "/dev/mapper/deep6", "");
	make_plain(at("plain"), 3 * MIB + 9);
	check_path(at("plain"));
	need(umount(MOUNT) == 0, MOUNT);
}

/* The volume below a file that is open goes elsewhere, as pvmove does it. */
static void files_are_right_when_their_volume_was_moved(void **state)
{
	struct gds_file *file;

	(void)state;
	need_vm();
	make_partitions();
	run("dmsetup create --noudevsync moving --table '0 160000 linear /dev/nvme0n1p2 0' && "
	    "dmsetup mknodes moving");
	make_file_system("ext4", "/dev/mapper/moving", "");
	make_plain(at("plain"), 6 * MIB + 9);
	must(gds_file_open(&file, at("plain")));
	check_file(file, at("plain"));
	run("dmsetup suspend --noudevsync moving && "
	    "dd if=/dev/nvme0n1p2 of=/dev/nvme2n1p2 bs=1M count=79 oflag=direct && "
	    "dmsetup load moving --table '0 160000 linear /dev/nvme2n1p2 0' && "
	    "dmsetup resume --noudevsync moving && "
	    "dd if=/dev/urandom of=/dev/nvme0n1p2 bs=1M count=79 oflag=direct");
	check_file(file, at("plain"));
	gds_file_close(file);
	need(umount(MOUNT) == 0, MOUNT);
}

/* ---- What is refused, and goes another path ---- */

static void an_encrypted_volume_is_refused(void **state)
{
	(void)state;
	need_vm();
	run("wipefs -aq /dev/nvme0n1");
	run("head -c 32 /dev/urandom >/tmp/key && cryptsetup open --type plain --cipher "
	    "aes-xts-plain64 --key-size 256 --key-file /tmp/key /dev/nvme0n1 secret");
	make_file_system("ext4", "/dev/mapper/secret", "");
	make_plain(at("plain"), MIB);
	check_refused(at("plain"), "dm-crypt");
	need(umount(MOUNT) == 0, MOUNT);
	run("cryptsetup close secret");
}

static void compressed_and_inline_files_are_refused(void **state)
{
	(void)state;
	need_vm();
	make_file_system("btrfs", "/dev/nvme0n1", "");
	run("mkdir %s/c && btrfs property set %s/c compression zstd", MOUNT, MOUNT);
	run("seq 1 400000 >%s/c/compressed && sync", MOUNT);
	check_refused(at("c/compressed"), "compressed");
	run("echo small >%s/inline && sync", MOUNT);
	check_refused(at("inline"), "inline");
	need(umount(MOUNT) == 0, MOUNT);
	make_file_system("ext4", "/dev/nvme0n1", "-O inline_data -I 256");
	run("echo small >%s/inline && sync", MOUNT);
	check_refused(at("inline"), "inline");
	run("head -c 100000 /dev/urandom >%s/journalled && chattr +j %s/journalled", MOUNT, MOUNT);
	check_refused(at("journalled"), "journalled");
	need(umount(MOUNT) == 0, MOUNT);
}

/* By an option of the mount, or as the file system's own default, which no mount shows. */
static void files_on_ext4_with_journalled_data_are_refused(void **state)
{
	(void)state;
	need_vm();
	make_file_system("ext4", "/dev/nvme0n1", "");
	need(umount(MOUNT) == 0, MOUNT);
	run("mount -o data=journal /dev/nvme0n1 %s", MOUNT);
	make_plain(at("plain"), MIB);
	check_refused(at("plain"), "data=journal");
	need(umount(MOUNT) == 0, MOUNT);
	run("tune2fs -o journal_data /dev/nvme0n1 && mount /dev/nvme0n1 %s", MOUNT);
	check_refused(at("plain"), "data=journal");
	need(umount(MOUNT) == 0, MOUNT);
}

/* It was read from below before: what was known of it then is not enough. */
static void a_file_whose_data_has_come_to_be_journalled_is_read_as_a_file(void **state)
{
	struct gds_result result;
	struct gds_file *file;

	(void)state;
	need_vm();
	make_file_system("ext4", "/dev/nvme0n1", "");
	make_plain(at("plain"), BUFFER_BYTES);
	must(gds_file_open(&file, at("plain")));
	check_file(file, at("plain"));
	run("chattr +j %s/plain", MOUNT);
	assert_int_equal(read_by(GDS_PATH_AUTO, file, 0, BUFFER_BYTES, 0, &result), BUFFER_BYTES);
	assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], 0);
	ask_file_system(at("plain"), 0, BUFFER_BYTES, expected);
	compare(at("plain"), 0);
	gds_file_close(file);
	need(umount(MOUNT) == 0, MOUNT);
}

static void other_file_systems_are_refused(void **state)
{
	char path[512];

	(void)state;
	need_vm();
	run("mkdir -p /dev/shm/files && head -c 3000000 /dev/urandom >/dev/shm/files/plain");
	check_refused("/dev/shm/files/plain", "tmpfs");
	make_file_system("ext4", "/dev/nvme0n1", "");
	run("mkdir %s/lower %s/upper %s/work %s/over && head -c 3000000 /dev/urandom "
	    ">%s/lower/plain",
	    MOUNT, MOUNT, MOUNT, MOUNT, MOUNT);
	run("mount -t overlay -o lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work overlay "
	    "%s/over",
	    MOUNT, MOUNT, MOUNT, MOUNT);
	check_refused(at("over/plain"), "overlay");
	need(umount(at("over")) == 0, "over");
	need(umount(MOUNT) == 0, MOUNT);
	run("mkdir /dev/shm/fuse && bindfs /dev/shm/files /dev/shm/fuse");
	check_refused("/dev/shm/fuse/plain", "fuse");
	run("umount /dev/shm/fuse && rmdir /dev/shm/fuse");
	/* The host's tree comes to the guest by 9p: a file system of a network's kind. */
	need(readlink("/proc/self/exe", path, sizeof(path) - 1) > 0, "readlink");
	check_refused("/proc/self/exe", "9p");
	run("rm -r /dev/shm/files");
}

/* What has ended, a process with its ring or a loop device, lets go of files a moment later. */
static void unmount_in_time(void)
{
	int err;

	for (int tries = 0; (err = umount(MOUNT)) != 0 && errno == EBUSY && tries < 500; tries++)
		usleep(20000);
	need(err == 0, MOUNT);
}

/* A loop device is no drive, though the file below it is on one. */
static void files_on_loop_devices_go_another_path(void **state)
{
	(void)state;
	need_vm();
	make_file_system("ext4", "/dev/nvme0n1", "");
	run("cd %s && truncate -s 100M image && mkfs.ext4 -q image && mkdir over && "
	    "mount -o loop,direct-io=on image over 2>/dev/null || mount -o loop image over",
	    MOUNT);
	make_plain(at("over/plain"), 2 * MIB + 9);
	check_refused(at("over/plain"), "loop");
	need(umount(at("over")) == 0, "over");
	/* The image itself is a file like another. */
	check_path(at("image"));
	unmount_in_time();
}

/* A file most of which is plain, with a part that cannot be read from below. */
static void a_file_that_is_compressed_in_parts_goes_two_paths(void **state)
{
	const char *path = at("mixed");
	struct gds_result result;
	struct gds_file *file;
	int fd;

	(void)state;
	need_vm();
	make_file_system("btrfs", "/dev/nvme0n1", "");
	make_plain(path, 2 * MIB);
	run("sync && btrfs property set %s compression zstd", path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	need(fd >= 0, path);
	memset(expected, 'x', MIB);
	need(pwrite(fd, expected, MIB / 2, MIB) == (ssize_t)(MIB / 2), "pwrite");
	need(fsync(fd) == 0, "fsync");
	close(fd);
	must(gds_file_open(&file, path));
	memset(expected, 0x5a, BUFFER_BYTES);
	must(gds_buffer_copy_in(buffer, 0, expected, BUFFER_BYTES));
	ask_file_system(path, 0, BUFFER_BYTES, expected);
	assert_int_equal(read_by(GDS_PATH_AUTO, file, 0, BUFFER_BYTES, 0, &result), 2 * MIB);
	compare(path, 0);
	assert_int_equal(result.path_bytes[GDS_PATH_BOUNCE], MIB / 2);
	assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], 3 * MIB / 2);
	/* Where no other path is allowed, the read fails, and says why. */
	assert_int_equal(read_by(GDS_PATH_DMABUF, file, 0, BUFFER_BYTES, 0, &result), -EOPNOTSUPP);
	gds_file_close(file);
	need(umount(MOUNT) == 0, MOUNT);
}

/* ---- Rights ---- */

/* As a user who may read the file and not the disk. */
static int read_as_nobody(const char *path)
{
	struct gds_explanation explanation = { .size = sizeof(explanation) };
	const struct gds_path_verdict *verdict = &explanation.paths[GDS_PATH_DMABUF];
	struct gds_request request = { .length = MIB };
	struct gds_device *host;

	if (setgid(65534) || setuid(65534))
		return 1;
	if (gds_reader_open(&reader, NULL) || gds_device_open(&host, "dma-heap:system"))
		return 2;
	if (gds_buffer_alloc(&buffer, host, MIB, 0) || gds_file_open(&request.file, path))
		return 3;
	if (gds_explain(reader, request.file, buffer, &explanation))
		return 4;
	fprintf(stderr, "%s -> %s\n", verdict->reason, verdict->remedy);
	if (verdict->usable || !strstr(verdict->reason, "/dev/nvme0n1") ||
	    !strstr(verdict->remedy, "setfacl"))
		return 5;
	request.buffer = buffer;
	return gds_read(reader, &request, NULL) == MIB ? 0 : 6;
}

static void a_user_who_may_not_open_the_disk_reads_by_another_path(void **state)
{
	const char *path = at("plain");
	int status;
	pid_t pid;

	(void)state;
	need_vm();
	make_file_system("ext4", "/dev/nvme0n1", "");
	make_plain(path, MIB);
	run("chmod 666 /dev/dma_heap/system && chmod 600 /dev/nvme0n1");
	pid = fork();
	if (pid == 0)
		_exit(read_as_nobody(path));
	need(waitpid(pid, &status, 0) == pid, "waitpid");
	assert_int_equal(status, 0);
	run("chmod 660 /dev/nvme0n1");
	unmount_in_time();
}

/* ---- Many extents, many files ---- */

/* Every other block of `block_bytes`, in an order that leaves holes between them. */
static void make_extents(const char *path, uint64_t count, uint64_t block_bytes)
{
	int fd = create(path);

	fill(expected, BUFFER_BYTES);
	for (uint64_t i = 0; i < count; i++)
		need(pwrite(fd, expected + i * 8 % (BUFFER_BYTES - block_bytes), block_bytes,
			    (off_t)(2 * i * block_bytes)) == (ssize_t)block_bytes,
		     "pwrite");
	need(fsync(fd) == 0, path);
	close(fd);
}

/* The most memory that the process has had, since it was last asked. */
static uint64_t most_memory_bytes(void)
{
	char line[256];
	uint64_t kib = 0;
	FILE *status = fopen("/proc/self/status", "re");
	int fd;

	need(status != NULL, "/proc/self/status");
	while (fgets(line, sizeof(line), status))
		if (sscanf(line, "VmHWM: %" SCNu64 " kB", &kib) == 1)
			break;
	fclose(status);
	fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
	need(fd >= 0 && write(fd, "5", 1) == 1, "/proc/self/clear_refs");
	close(fd);
	return kib << 10;
}

static double seconds_since(const struct timespec *began)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - began->tv_sec) + (double)(now.tv_nsec - began->tv_nsec) / 1e9;
}

/* Asks where each run of the file is. Returns how many are data. */
static uint64_t walk(struct gds_file *file)
{
	struct gds_path_verdict verdict;
	struct file_map *map;
	struct stack *stack;
	struct spot spot;
	uint64_t runs = 0;
	uint64_t bytes = (uint64_t)gds_file_bytes(file);

	must(stack_open(file->on, file->fd, &stack, &verdict));
	must(file_map_open(&map, file, stack));
	for (uint64_t offset = 0; offset < bytes; offset += spot.bytes) {
		file_map_locate(map, offset, MIB, &spot);
		assert_true(spot.kind == SPOT_DATA || spot.kind == SPOT_ZEROS);
		runs += spot.kind == SPOT_DATA;
	}
	file_map_close(map);
	stack_close(stack);
	return runs;
}

static void a_file_of_many_extents_is_found_in_a_bounded_memory(void **state)
{
	const uint64_t count = test_number("GDS_TEST_EXTENTS", 100000);
	const char *path = at("extents");
	struct timespec began;
	struct gds_file *file;
	uint64_t before;
	uint64_t most;
	double walk_s;

	(void)state;
	need_vm();
	make_partitions();
	make_file_system("ext4", small_blocks_partition(), "-b 1024 -m 0");
	make_extents(path, count, 1024);
	must(gds_file_open(&file, path));
	check_range(file, path, 0, MIB, 0); /* so that all else is there */
	most_memory_bytes();
	before = most_memory_bytes();
	clock_gettime(CLOCK_MONOTONIC, &began);
	assert_int_equal(walk(file), count);
	walk_s = seconds_since(&began);
	clock_gettime(CLOCK_MONOTONIC, &began);
	for (int i = 0; i < 20; i++)
		check_range(file, path, random_below(&random_numbers, count * 2048 - MIB), MIB, 0);
	most = most_memory_bytes() - before;
	print_message(
		"%u extents: all found in %.1f s, 20 MiB of them read in %.1f s, with %" PRIu64
		" KiB more than before\n",
		count_extents(path), walk_s, seconds_since(&began), most >> 10);
	assert_true(most < 2 * MIB);
	gds_file_close(file);
	need(umount(MOUNT) == 0, MOUNT);
}

static void many_small_files_are_right(void **state)
{
	const size_t count = test_number("GDS_TEST_FILES", 10000);
	const struct rlimit descriptors = { count + 1000, count + 1000 };
	const uint64_t share = 8 * BLOCK;
	struct gds_batch_options options = { .size = sizeof(options), .path = GDS_PATH_DMABUF };
	struct gds_file **files;
	unsigned char *all;
	struct gds_buffer *room;
	struct gds_batch *batch;
	char name[32];

	(void)state;
	need_vm();
	files = calloc(count, sizeof(struct gds_file *));
	all = calloc(count, share);
	assert_non_null(files);
	assert_non_null(all);
	need(setrlimit(RLIMIT_NOFILE, &descriptors) == 0, "setrlimit");
	make_file_system("xfs", "/dev/nvme0n1", "");
	must(gds_buffer_alloc(&room, device, count * share, 0));
	must(gds_batch_create(&batch, reader, &options));
	for (size_t i = 0; i < count; i++) {
		struct gds_request request = { .buffer = room, .buffer_offset = i * share };

		snprintf(name, sizeof(name), "small-%zu", i);
		request.length = 1 + random_below(&random_numbers, share);
		make_plain(at(name), request.length);
		ask_file_system(at(name), 0, share, all + i * share);
		must(gds_file_open(&files[i], at(name)));
		request.file = files[i];
		must(gds_batch_add(batch, &request, 1));
	}
	memset(expected, 0, BUFFER_BYTES);
	for (uint64_t done = 0; done < count * share; done += BUFFER_BYTES)
		must(gds_buffer_copy_in(room, done, expected,
					count * share - done < BUFFER_BYTES ? count * share - done
									    : BUFFER_BYTES));
	must(gds_batch_submit(batch));
	must(gds_batch_wait(batch, -1));
	if (gds_batch_failures(batch, NULL)) {
		struct gds_result result;
		size_t first;

		gds_batch_failures(batch, &first);
		must(gds_batch_result(batch, first, &result));
		fail_msg("%zd reads failed: %s", gds_batch_failures(batch, NULL), gds_last_error());
	}
	for (size_t i = 0; i < count; i++) {
		must(gds_buffer_copy_out(room, i * share, found, share));
		if (memcmp(found, all + i * share, share) != 0)
			fail_msg("small-%zu differs", i);
		gds_file_close(files[i]);
	}
	gds_batch_destroy(batch);
	gds_buffer_free(room);
	need(umount(MOUNT) == 0, MOUNT);
	free(files);
	free(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(files_on_ext4_are_right),
		CASE(files_on_xfs_are_right),
		CASE(files_on_btrfs_are_right),
		CASE(files_on_a_btrfs_of_two_disks_are_right),
		CASE(files_larger_than_4_gib_are_right),
		CASE(files_in_blocks_of_1_kib_are_right),
		CASE(a_file_is_right_by_each_of_its_names_and_by_none),
		CASE(files_that_may_not_be_changed_are_right),
		CASE(files_in_subvolumes_and_snapshots_are_right),
		CASE(what_was_stored_through_a_mapping_is_read),
		CASE(files_on_a_partition_are_right),
		CASE(files_on_raid_0_are_right),
		CASE(files_on_raid_1_are_right_also_while_it_is_brought_in_sync),
		CASE(files_on_raid_1_are_right_when_a_member_has_gone),
		CASE(files_on_a_linear_array_are_right),
		CASE(files_on_logical_volumes_are_right),
		CASE(files_on_a_logical_volume_on_raid_0_on_partitions_are_right),
		CASE(files_on_volumes_that_stand_on_each_other_are_right_to_a_depth),
		CASE(files_are_right_when_their_volume_was_moved),
		CASE(an_encrypted_volume_is_refused),
		CASE(compressed_and_inline_files_are_refused),
		CASE(files_on_ext4_with_journalled_data_are_refused),
		CASE(a_file_whose_data_has_come_to_be_journalled_is_read_as_a_file),
		CASE(other_file_systems_are_refused),
		CASE(files_on_loop_devices_go_another_path),
		CASE(a_file_that_is_compressed_in_parts_goes_two_paths),
		CASE(a_user_who_may_not_open_the_disk_reads_by_another_path),
		CASE(a_file_of_many_extents_is_found_in_a_bounded_memory),
		CASE(many_small_files_are_right),
	};

	/* GDS_TEST_ONLY=TEXT runs the cases whose name contains it. */
	if (getenv("GDS_TEST_ONLY"))
		cmocka_set_test_filter(getenv("GDS_TEST_ONLY"));
	return cmocka_run_group_tests(tests, files_set_up, files_tear_down);
}
