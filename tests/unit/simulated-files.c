/* SPDX-License-Identifier: Apache-2.0 */
#include "simulated-files.h"

#include "base/bits.h"
#include "base/clock.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#define CELLS_IN_BLOCK (FS_BLOCK_BYTES / CELL_BYTES)
/* After so long gds looks at a file again that was found changing. */
#define CALM_NS (120 * UINT64_C(1000000))

/* ---- What cells hold ------------------------------------------------------------------ */

/* Eight words, the first of which tells all: the file, the change, and the cell. */
static void write_cell(unsigned char *bytes, unsigned file, uint32_t serial, uint32_t cell)
{
	struct random words = { .state = (uint64_t)(file + 1) << 56 | (uint64_t)serial << 24 |
					 cell };
	uint64_t word = words.state;

	for (unsigned i = 0; i < CELL_BYTES / 8; i++) {
		memcpy(bytes + (size_t)i * 8, &word, 8);
		word = random_u64(&words);
	}
}

static bool is_zeros(const unsigned char *bytes)
{
	for (unsigned i = 0; i < CELL_BYTES; i++)
		if (bytes[i])
			return false;
	return true;
}

void fs_watch(struct fs_file *file, struct fs_moment *moment)
{
	memcpy(moment->serial, file->serial, sizeof(moment->serial));
	moment->bytes = file->storage->bytes;
}

/*
 * Numbers of changes rise. So the bytes are too old if their number is below that of the
 * moment, and of another file, or never written there, if they do not come from it.
 */
bool fs_held_since(const struct fs_file *file, const struct fs_moment *moment, uint32_t cell,
		   const unsigned char *bytes)
{
	unsigned char wanted[CELL_BYTES];
	uint64_t word;
	uint32_t serial;

	if (is_zeros(bytes))
		return file->zeroed[cell] >= moment->serial[cell];
	memcpy(&word, bytes, sizeof(word));
	serial = (uint32_t)(word >> 24);
	write_cell(wanted, file->number, serial, cell);
	return memcmp(bytes, wanted, CELL_BYTES) == 0 && serial >= moment->serial[cell];
}

/* ---- Drives and places ---------------------------------------------------------------- */

/* A drive whose image is a file, which the proof of the direct path reads by itself. */
static void open_disk(struct fs *fs, unsigned number, uint32_t align)
{
	struct simulation *simulation = fs->simulation;
	struct simulated_file *disk = &simulation->files[simulation->file_count++];
	const size_t bytes = (size_t)FS_BLOCKS * FS_BLOCK_BYTES;
	struct stat status;
	int fd = memfd_create("gds-simulated-drive", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_int_equal(fstat(fd, &status), 0);
	disk->inode = status.st_ino;
	disk->direct_fd = -1;
	disk->drive = true;
	disk->offset_align = disk->memory_align = align;
	disk->bytes = bytes;
	disk->image = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(disk->image != MAP_FAILED);
	disk->bad = calloc(bytes / SIMULATED_BAD_BYTES + 1, sizeof(*disk->bad));
	assert_non_null(disk->bad);
	for (size_t i = 0; i < bytes; i += 8)
		memset(disk->image + i, (int)random_between(&fs->random, 1, 255), 8);
	fs->disks[number] = disk;
	fs->disk_fds[number] = fd;
}

static struct volume *add_volume(struct fs *fs, enum volume_kind kind, size_t count)
{
	struct volume *volume = volume_new(kind, count);

	assert_non_null(volume);
	volume->next = fs->volumes;
	fs->volumes = volume;
	return volume;
}

/* Over all drives: one after the other, or in chunks. */
static void make_volume(struct fs *fs)
{
	const uint64_t share = FS_BLOCKS / fs->disk_count * (uint64_t)FS_BLOCK_BYTES;
	bool striped = random_chance(&fs->random, 500);
	struct volume *disk;

	fs->volume = add_volume(fs, striped ? VOLUME_STRIPED : VOLUME_LINEAR, fs->disk_count);
	for (unsigned i = 0; i < fs->disk_count; i++) {
		disk = add_volume(fs, VOLUME_DISK, 0);
		disk->disk = i;
		disk->bytes = fs->disks[i]->bytes;
		fs->volume->parts[i] =
			(struct volume_part){ .below = disk, .start = i * share, .bytes = share };
	}
	fs->volume->bytes = share * fs->disk_count;
	if (!striped)
		return;
	fs->volume->chunk_bytes = (uint64_t)FS_BLOCK_BYTES << random_below(&fs->random, 3);
	assert_int_equal(volume_make_zones(fs->volume), 0);
}

static unsigned char *at_place(const struct fs *fs, uint32_t place)
{
	struct volume_place found;

	assert_true(volume_locate(fs->volume, (uint64_t)(place - 1) * FS_BLOCK_BYTES,
				  FS_BLOCK_BYTES, &found));
	assert_int_equal(found.bytes, FS_BLOCK_BYTES);
	return fs->disks[found.disk]->image + found.offset;
}

static uint32_t blocks_there(const struct fs *fs)
{
	return (uint32_t)(fs->volume->bytes / FS_BLOCK_BYTES);
}

/* The one that was given back last, one behind `after`, or any. 0 where none is free. */
static uint32_t take_place(struct fs *fs, uint32_t after)
{
	uint32_t count = blocks_there(fs);
	uint32_t start = (uint32_t)random_below(&fs->random, count);

	if (fs->freed && random_chance(&fs->random, 500))
		start = fs->freed - 1;
	else if (after && after < count)
		start = after;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t block = (start + i) % count;

		if (fs->taken[block])
			continue;
		fs->taken[block] = true;
		return block + 1;
	}
	return 0;
}

static void give_place(struct fs *fs, struct fs_block *block)
{
	if (!block->place)
		return;
	fs->taken[block->place - 1] = false;
	fs->freed = block->place;
	if (fs->wipes)
		memset(at_place(fs, block->place), (int)random_between(&fs->random, 1, 255),
		       FS_BLOCK_BYTES);
	block->place = 0;
	block->written = block->encoded = false;
}

/* ---- The page cache ------------------------------------------------------------------- */

static unsigned char *cached(const struct fs_file *file, uint32_t block)
{
	return file->storage->image + (size_t)block * FS_BLOCK_BYTES;
}

static void write_place(struct fs *fs, struct fs_file *file, uint32_t number)
{
	struct fs_block *block = &file->blocks[number];
	unsigned char *place = at_place(fs, block->place);

	block->written = true;
	block->dirty = false;
	block->encoded = random_chance(&fs->random, fs->encodes);
	memcpy(place, cached(file, number), FS_BLOCK_BYTES);
	for (unsigned i = 0; block->encoded && i < FS_BLOCK_BYTES; i++)
		place[i] ^= 0x5a;
}

/* Where the disk is full it stays dirty, and has no place yet. */
static void write_down(struct fs *fs, struct fs_file *file)
{
	for (uint32_t i = 0; i < FS_FILE_BLOCKS; i++) {
		struct fs_block *block = &file->blocks[i];
		uint32_t place;

		if (!block->dirty)
			continue;
		if (!block->place || (fs->copies_on_write && block->written)) {
			place = take_place(fs, i ? file->blocks[i - 1].place : 0);
			if (!place)
				continue;
			give_place(fs, block);
			block->place = place;
		}
		write_place(fs, file, i);
	}
}

/* ---- What can happen to a file -------------------------------------------------------- */

struct timespec fs_coarse_time(const struct fs *fs)
{
	return clock_timespec(fs->now_ns - fs->now_ns % FS_TICK_NS);
}

static void touch(struct fs *fs, struct fs_file *file)
{
	file->changed = fs_coarse_time(fs);
}

static uint32_t block_of_cell(uint32_t cell)
{
	return cell / CELLS_IN_BLOCK;
}

static void write_cells(struct fs *fs, struct fs_file *file, uint32_t first, uint32_t count)
{
	fs->serial++;
	for (uint32_t cell = first; cell < first + count; cell++) {
		write_cell(file->storage->image + (size_t)cell * CELL_BYTES, file->number,
			   fs->serial, cell);
		file->serial[cell] = fs->serial;
	}
}

static void overwrite(struct fs *fs, struct fs_file *file)
{
	uint32_t first = (uint32_t)random_below(&fs->random, FS_FILE_CELLS);
	uint32_t count = 1 + (uint32_t)random_skewed(&fs->random, FS_FILE_CELLS - first);
	uint64_t end = (uint64_t)(first + count) * CELL_BYTES;

	touch(fs, file);
	write_cells(fs, file, first, count);
	for (uint32_t i = block_of_cell(first); i <= block_of_cell(first + count - 1); i++)
		file->blocks[i].dirty = true;
	file->storage->bytes = max_u64(file->storage->bytes, end);
}

static void make_zeros(struct fs *fs, struct fs_file *file, uint32_t first, uint32_t end)
{
	fs->serial++;
	for (uint32_t cell = first; cell < end; cell++) {
		memset(file->storage->image + (size_t)cell * CELL_BYTES, 0, CELL_BYTES);
		file->serial[cell] = file->zeroed[cell] = fs->serial;
	}
}

static void drop_blocks(struct fs *fs, struct fs_file *file, uint32_t first, uint32_t end)
{
	for (uint32_t i = first; i < end; i++) {
		give_place(fs, &file->blocks[i]);
		file->blocks[i] = (struct fs_block){ 0 };
	}
}

static void resize(struct fs *fs, struct fs_file *file)
{
	uint32_t cells = (uint32_t)random_below(&fs->random, FS_FILE_CELLS + 1);
	uint64_t bytes = (uint64_t)cells * CELL_BYTES;

	touch(fs, file);
	if (bytes < file->storage->bytes) {
		make_zeros(fs, file, cells, FS_FILE_CELLS);
		drop_blocks(fs, file, (cells + CELLS_IN_BLOCK - 1) / CELLS_IN_BLOCK,
			    FS_FILE_BLOCKS);
		/* What is left of the last block behind the end is zeros from now on. */
		if (cells % CELLS_IN_BLOCK && file->blocks[block_of_cell(cells)].place)
			file->blocks[block_of_cell(cells)].dirty = true;
	}
	file->storage->bytes = bytes;
	file->least_bytes = min_u64(file->least_bytes, bytes);
}

static void pick_blocks(struct fs *fs, uint32_t *first, uint32_t *count)
{
	*first = (uint32_t)random_below(&fs->random, FS_FILE_BLOCKS);
	*count = 1 + (uint32_t)random_skewed(&fs->random, FS_FILE_BLOCKS - *first);
}

static void punch(struct fs *fs, struct fs_file *file)
{
	struct fs_writing anew = { .file = file, .anew = true };

	pick_blocks(fs, &anew.first, &anew.count);
	touch(fs, file);
	make_zeros(fs, file, anew.first * CELLS_IN_BLOCK,
		   (anew.first + anew.count) * CELLS_IN_BLOCK);
	drop_blocks(fs, file, anew.first, anew.first + anew.count);
	/* Before long it may have the same places again, with something else in them. */
	if (random_chance(&fs->random, 500))
		fs->writing = anew;
}

static void preallocate(struct fs *fs, struct fs_file *file)
{
	uint32_t first;
	uint32_t count;

	pick_blocks(fs, &first, &count);
	touch(fs, file);
	for (uint32_t i = first; i < first + count; i++)
		if (!file->blocks[i].place && !file->blocks[i].dirty)
			file->blocks[i].place = take_place(fs, i ? file->blocks[i - 1].place : 0);
}

/* As defragmentation does: nothing of the file tells. */
static void move(struct fs *fs, struct fs_file *file)
{
	if (file->moved)
		return;
	file->moved = true;
	write_down(fs, file);
	for (uint32_t i = 0; i < FS_FILE_BLOCKS; i++) {
		struct fs_block *block = &file->blocks[i];
		struct fs_block before = *block;
		uint32_t place;

		if (!block->place || block->dirty || random_chance(&fs->random, 500))
			continue;
		place = take_place(fs, 0);
		if (!place)
			return;
		block->place = place;
		memcpy(at_place(fs, place), at_place(fs, before.place), FS_BLOCK_BYTES);
		give_place(fs, &before);
	}
}

/* Begins, where all of it is on the disk already. */
static void begin_writing(struct fs *fs, struct fs_file *file)
{
	struct fs_writing writing = { .file = file };

	pick_blocks(fs, &writing.first, &writing.count);
	for (uint32_t i = writing.first; i < writing.first + writing.count; i++)
		if (!file->blocks[i].written || file->blocks[i].dirty || file->blocks[i].encoded ||
		    (i + 1) * (uint64_t)FS_BLOCK_BYTES > file->storage->bytes)
			return;
	touch(fs, file);
	fs->writing = writing;
}

static void finish_writing(struct fs *fs)
{
	struct fs_writing *writing = &fs->writing;
	struct fs_file *file = writing->file;
	uint32_t end = writing->first + writing->count;

	if (!file)
		return;
	writing->file = NULL;
	write_cells(fs, file, writing->first * CELLS_IN_BLOCK, writing->count * CELLS_IN_BLOCK);
	for (uint32_t i = writing->first; i < end; i++) {
		if (writing->anew)
			file->blocks[i].dirty = true;
		else
			memcpy(at_place(fs, file->blocks[i].place), cached(file, i),
			       FS_BLOCK_BYTES);
	}
	if (!writing->anew)
		return;
	touch(fs, file);
	file->storage->bytes = max_u64(file->storage->bytes, (uint64_t)end * FS_BLOCK_BYTES);
	write_down(fs, file);
}

void fs_change(struct fs *fs)
{
	struct fs_file *file = &fs->files[random_below(&fs->random, fs->file_count)];

	fs->changes++;
	/* The file is locked against changes until what is being written is. */
	finish_writing(fs);
	switch (random_below(&fs->random, 11)) {
	case 0:
	case 1:
	case 2:
		overwrite(fs, file);
		break;
	case 3:
		resize(fs, file);
		break;
	case 4:
	case 5:
		punch(fs, file);
		break;
	case 6:
		preallocate(fs, file);
		break;
	case 7:
		move(fs, file);
		break;
	case 8:
		begin_writing(fs, file);
		break;
	default:
		write_down(fs, file);
	}
}

void fs_pass(struct fs *fs)
{
	fs->now_ns += random_below(&fs->random, 20000);
	if (random_chance(&fs->random, fs->unrest))
		fs_change(fs);
}

void fs_settle(struct fs *fs)
{
	finish_writing(fs);
	for (unsigned i = 0; i < fs->file_count; i++)
		write_down(fs, &fs->files[i]);
	fs->unrest = fs->restacks = 0;
	fs->now_ns += CALM_NS;
}

/* ---- What it tells -------------------------------------------------------------------- */

struct fs_file *fs_file_of(struct fs *fs, ino_t inode)
{
	for (unsigned i = 0; i < fs->file_count; i++)
		if (fs->files[i].inode == inode)
			return &fs->files[i];
	return NULL;
}

void fs_stat(const struct fs *fs, const struct fs_file *file, struct stat *status)
{
	(void)fs;
	status->st_dev = FS_DEVICE;
	status->st_size = (off_t)file->storage->bytes;
	status->st_mtim = status->st_ctim = file->changed;
}

static uint32_t flags_of(const struct fs_block *block)
{
	if (!block->place)
		return FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN;
	if (!block->written)
		return FIEMAP_EXTENT_UNWRITTEN;
	return block->encoded ? FIEMAP_EXTENT_ENCODED : 0;
}

static bool is_joined(const struct fiemap_extent *before, const struct fs_block *block,
		      uint64_t offset)
{
	return before->fe_logical + before->fe_length == offset && block->place &&
	       before->fe_flags == flags_of(block) &&
	       before->fe_physical + before->fe_length ==
		       (uint64_t)(block->place - 1) * FS_BLOCK_BYTES;
}

void fs_fiemap(struct fs *fs, struct fs_file *file, struct fiemap *ask)
{
	struct fiemap_extent *extent = NULL;

	if (ask->fm_flags & FIEMAP_FLAG_SYNC)
		write_down(fs, file);
	ask->fm_mapped_extents = 0;
	for (uint32_t i = (uint32_t)(ask->fm_start / FS_BLOCK_BYTES); i < FS_FILE_BLOCKS; i++) {
		const struct fs_block *block = &file->blocks[i];
		uint64_t offset = (uint64_t)i * FS_BLOCK_BYTES;

		if (!block->place && !block->dirty)
			continue;
		if (extent && is_joined(extent, block, offset)) {
			extent->fe_length += FS_BLOCK_BYTES;
			continue;
		}
		if (ask->fm_mapped_extents == ask->fm_extent_count)
			return;
		extent = &ask->fm_extents[ask->fm_mapped_extents++];
		*extent = (struct fiemap_extent){
			.fe_logical = offset,
			.fe_length = FS_BLOCK_BYTES,
			.fe_flags = flags_of(block),
			.fe_physical =
				block->place ? (uint64_t)(block->place - 1) * FS_BLOCK_BYTES : 0,
		};
	}
	if (extent)
		extent->fe_flags |= FIEMAP_EXTENT_LAST;
}

struct stack *fs_stack_open(const struct fs *fs)
{
	struct stack *stack = calloc(1, sizeof(*stack));

	assert_non_null(stack);
	stack->device = FS_DEVICE;
	stack->btrfs_fd = -1;
	stack->volume = fs->volume;
	stack->disk_count = fs->disk_count;
	for (unsigned i = 0; i < fs->disk_count; i++) {
		stack->disks[i].device = makedev(259, i);
		stack->disks[i].fd = fs->disk_fds[i];
		stack->disks[i].block_bytes = fs->disks[i]->offset_align;
		snprintf(stack->disks[i].name, sizeof(stack->disks[i].name), "drive%u", i);
	}
	return stack;
}

void fs_stack_close(struct stack *stack)
{
	free(stack);
}

/* ---- Making it ------------------------------------------------------------------------ */

static void make_file(struct fs *fs, const char *folder)
{
	struct simulation *simulation = fs->simulation;
	struct fs_file *file = &fs->files[fs->file_count];
	struct stat status;
	char path[128];
	int fd;

	*file = (struct fs_file){ .number = fs->file_count++ };
	file->storage = &simulation->files[simulation->file_count++];
	file->storage->offset_align = file->storage->memory_align = 512;
	file->storage->image = calloc(1, FS_FILE_BYTES);
	file->storage->bad = calloc(FS_FILE_BYTES / SIMULATED_BAD_BYTES + 1, sizeof(bool));
	assert_non_null(file->storage->image);
	assert_non_null(file->storage->bad);
	snprintf(path, sizeof(path), "%s/%u", folder, file->number);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &status), 0);
	close(fd);
	file->inode = file->storage->inode = status.st_ino;
	file->storage->direct_fd = -1;
	touch(fs, file);
	overwrite(fs, file);
}

void fs_open(struct fs *fs, struct simulation *simulation, const char *folder)
{
	uint32_t align;

	*fs = (struct fs){
		.simulation = simulation,
		.random = { ~simulation->seed * 3 },
		.now_ns = UINT64_C(1000) * NS_PER_S,
	};
	align = random_chance(&fs->random, 500) ? 512 : 4096;
	fs->disk_count = (unsigned)random_between(&fs->random, 1, FS_DISKS);
	for (unsigned i = 0; i < fs->disk_count; i++)
		open_disk(fs, i, align);
	make_volume(fs);
	fs->copies_on_write = random_chance(&fs->random, 400);
	fs->wipes = random_chance(&fs->random, 500);
	fs->leases = random_chance(&fs->random, 500);
	if (random_chance(&fs->random, 200))
		fs->encodes = (uint32_t)random_between(&fs->random, 1, 300);
	for (uint64_t count = random_between(&fs->random, 1, FS_FILES); count > 0; count--)
		make_file(fs, folder);
	for (uint64_t count = random_below(&fs->random, 60); count > 0; count--)
		fs_change(fs);
	if (random_chance(&fs->random, 600)) {
		fs->unrest = (uint32_t)random_below(&fs->random, 600);
		fs->breaks = (uint32_t)random_below(&fs->random, 300);
		fs->restacks = (uint32_t)random_skewed(&fs->random, 200);
	}
}

void fs_close(struct fs *fs)
{
	for (unsigned i = 0; i < fs->file_count; i++) {
		free(fs->files[i].storage->image);
		free(fs->files[i].storage->bad);
	}
	for (unsigned i = 0; i < fs->disk_count; i++) {
		munmap(fs->disks[i]->image, fs->disks[i]->bytes);
		free(fs->disks[i]->bad);
		close(fs->disk_fds[i]);
	}
	volumes_free(fs->volumes);
}
