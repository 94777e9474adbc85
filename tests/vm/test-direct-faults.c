/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ends under the direct path, in kernel/vm: drives that are unplugged, processes
 * that are killed, exit or fork, objects that are closed while their reads are in
 * flight, and a table of slots that is full.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "dmabuf/memory.h"
#include "memory/device.h"
#include "support/random.h"
#include "vm/machine.h"
#include "vm/rig.h"

#include <dirent.h>
#include <gds/gds.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READS = 64, KILLS = 6 };

#define PIECE (64 << 10)

/* ---- Batches over the whole buffer ---- */

/* Read i is of drive i % drives, or of `first` where `drives` is 1. */
static struct gds_batch *submit_load(struct rig *rig, unsigned first, unsigned drives,
				     uint32_t path)
{
	struct gds_batch_options options = { .size = sizeof(options), .path = path };
	struct gds_request requests[READS];
	struct gds_batch *batch;

	for (unsigned i = 0; i < READS; i++)
		requests[i] = (struct gds_request){ .file = rig->files[first + i % drives],
						    .buffer = rig->buffer,
						    .offset = (uint64_t)i * PIECE,
						    .length = PIECE,
						    .buffer_offset = (uint64_t)i * PIECE };
	must(gds_batch_create(&batch, rig->reader, &options));
	must((int)gds_batch_add(batch, requests, READS));
	must(gds_batch_submit(batch));
	return batch;
}

static void poison(struct rig *rig)
{
	unsigned char *bytes = malloc(READS * PIECE);

	assert_non_null(bytes);
	memset(bytes, 0x6d, READS * PIECE);
	must(gds_buffer_copy_in(rig->buffer, 0, bytes, READS * PIECE));
	free(bytes);
}

/* Every read that is reported good is compared. Returns how many failed, of `drive` only. */
static unsigned judge_load(struct rig *rig, struct gds_batch *batch, unsigned drives,
			   unsigned may_fail)
{
	struct gds_result result;
	unsigned failed = 0;

	for (unsigned i = 0; i < READS; i++) {
		must(gds_batch_result(batch, i, &result));
		if (result.bytes == PIECE) {
			rig_check(rig, (uint64_t)i * PIECE, PIECE, (uint64_t)i * PIECE);
			continue;
		}
		if (i % drives != may_fail)
			fail_msg("read %u: %" PRId64 ": %s", i, result.bytes, gds_last_error());
		assert_true(result.bytes < 0);
		failed++;
	}
	return failed;
}

/* ---- A drive that goes away ---- */

static atomic_bool unplugged;

/* QEMU's name of the second drive is its serial number: the kernel may count otherwise. */
static char second_drive[64];

static bool read_serial(const char *disk, char text[64])
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/block/%s/device/serial", disk);
	text[0] = '\0';
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fgets(text, 64, file))
		text[strcspn(text, " \n")] = '\0';
	fclose(file);
	return text[0] != '\0';
}

static void *unplug(void *argument)
{
	char request[80];
	bool *done = argument;

	snprintf(request, sizeof(request), "unplug %s", second_drive);
	*done = vm_ask(request);
	atomic_store(&unplugged, true);
	return NULL;
}

/* The node of the drive with this serial number, once it is there. */
static bool find_drive(const char *serial, char node[64])
{
	char disk[16], text[64];

	for (int tries = 0; tries < 600; tries++) {
		for (unsigned i = 0; i < 10; i++) {
			snprintf(disk, sizeof(disk), "nvme%un1", i);
			snprintf(node, 64, "/dev/%s", disk);
			if (read_serial(disk, text) && strcmp(text, serial) == 0 &&
			    access(node, R_OK) == 0)
				return true;
		}
		usleep(100 * 1000);
	}
	return false;
}

static void plug_again(struct rig *rig)
{
	char node[64], request[80];

	gds_file_close(rig->files[1]);
	rig->files[1] = NULL;
	snprintf(request, sizeof(request), "plug %s", second_drive);
	assert_true(vm_ask(request));
	assert_true(find_drive(second_drive, node));
	must(gds_file_open(&rig->files[1], node));
}

static void an_unplugged_drive_fails_its_reads_and_no_others(void **state)
{
	struct gds_batch *batch;
	unsigned rounds = 0, failed = 0;
	bool done = false;
	pthread_t thread;
	struct rig rig;

	(void)state;
	need_vm();
	assert_true(read_serial("nvme1n1", second_drive));
	open_rig_of(&rig, "udmabuf", READS * PIECE);
	atomic_store(&unplugged, false);
	assert_int_equal(pthread_create(&thread, NULL, unplug, &done), 0);
	while (!failed || !atomic_load(&unplugged)) {
		poison(&rig);
		batch = submit_load(&rig, 0, 2, GDS_PATH_DMABUF);
		must(gds_batch_wait(batch, -1));
		failed += judge_load(&rig, batch, 2, 1);
		gds_batch_destroy(batch);
		rounds++;
	}
	pthread_join(thread, NULL);
	assert_true(done);
	print_message("%u batches, %u reads of the drive failed: %s\n", rounds, failed,
		      gds_last_error());
	plug_again(&rig);
	poison(&rig);
	batch = submit_load(&rig, 0, 2, GDS_PATH_DMABUF);
	must(gds_batch_wait(batch, -1));
	assert_int_equal(judge_load(&rig, batch, 2, 2), 0);
	gds_batch_destroy(batch);
	close_rig(&rig);
}

/* ---- Processes that end ---- */

/* In the child: says so, and reads for ever, or `times` batches, the last one left. */
static _Noreturn void read_in_child(const char *device, int told, unsigned times)
{
	struct gds_batch *batch = NULL;
	struct rig rig;

	open_rig_of(&rig, device, READS * PIECE);
	for (unsigned i = 0; times == 0 || i < times; i++) {
		batch = submit_load(&rig, 0, 2, GDS_PATH_DMABUF);
		if (i == 0 && write(told, "r", 1) != 1)
			_exit(3);
		if (i + 1 == times)
			break;
		must(gds_batch_wait(batch, -1));
		gds_batch_destroy(batch);
	}
	exit(0); /* with reads in flight */
}

static pid_t start_child(const char *device, unsigned times)
{
	int ends[2];
	char byte;
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		close(ends[0]);
		read_in_child(device, ends[1], times);
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	return child;
}

/* The drives, the device and this process's memory are as good as before. */
static void check_usable(struct rig *rig, const char *device)
{
	unsigned char *bytes = malloc(READS * PIECE);
	struct rig other;

	assert_non_null(bytes);
	must(gds_buffer_copy_out(rig->buffer, 0, bytes, READS * PIECE));
	for (uint64_t i = 0; i < READS * PIECE; i++)
		assert_int_equal(bytes[i], 0x6d);
	free(bytes);
	open_rig_of(&other, device, READS * PIECE);
	for (unsigned drive = 0; drive < 2; drive++) {
		struct gds_result result =
			rig_read(&other, drive, GDS_PATH_DMABUF, 0, READS * PIECE, 0);

		assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], READS * PIECE);
		rig_check(&other, 0, READS * PIECE, 0);
	}
	close_rig(&other);
}

static void after_children(const char *device, bool killed)
{
	struct random random = { .state = test_seed() };
	int status;
	struct rig rig;

	need_vm();
	print_message("GDS_TEST_SEED=%" PRIu64 "\n", random.state);
	open_rig_of(&rig, device, READS * PIECE);
	poison(&rig);
	for (unsigned i = 0; i < KILLS; i++) {
		pid_t child = start_child(device, killed ? 0 : 1 + i);

		if (killed) {
			usleep((useconds_t)random_below(&random, 100 * 1000));
			kill(child, SIGKILL);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(killed ? WIFSIGNALED(status)
				   : WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	check_usable(&rig, device);
	close_rig(&rig);
}

static void a_process_killed_under_load_leaves_everything_usable(void **state)
{
	(void)state;
	after_children("udmabuf", true);
}

static void a_process_killed_while_it_reads_into_a_gpu_leaves_everything_usable(void **state)
{
	(void)state;
	after_children("drm:virtio_gpu", true);
}

static void a_process_that_exits_with_reads_in_flight_leaves_everything_usable(void **state)
{
	(void)state;
	after_children("udmabuf", false);
}

/* Its exit status is the number of the first call that did not fail as it should. */
static _Noreturn void call_in_child(struct rig *rig, struct gds_batch *batch)
{
	struct gds_explanation explanation = { .size = sizeof(explanation) };
	struct gds_request request = { .file = rig->files[0],
				       .buffer = rig->buffer,
				       .length = 4096 };
	struct gds_batch *other;

	if (gds_read(rig->reader, &request, NULL) >= 0 || !strstr(gds_last_error(), "fork"))
		_exit(1);
	if (gds_explain(rig->reader, rig->files[0], rig->buffer, &explanation) >= 0)
		_exit(2);
	if (gds_batch_create(&other, rig->reader, NULL) >= 0 &&
	    gds_batch_add(other, &request, 1) >= 0)
		_exit(3);
	if (gds_batch_wait(batch, 1000000000) == 0)
		_exit(4);
	_exit(0);
}

static void a_forked_child_gets_errors_and_the_parent_its_bytes(void **state)
{
	struct gds_batch *batch;
	struct rig rig;
	pid_t child;
	int status;

	(void)state;
	need_vm();
	open_rig_of(&rig, "udmabuf", READS * PIECE);
	poison(&rig);
	batch = submit_load(&rig, 0, 2, GDS_PATH_DMABUF);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		call_in_child(&rig, batch);
	must(gds_batch_wait(batch, -1));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(judge_load(&rig, batch, 2, 2), 0);
	gds_batch_destroy(batch);
	close_rig(&rig);
}

/* ---- Closing under load ---- */

static void a_file_closed_under_load_gets_all_its_reads(void **state)
{
	struct gds_batch *batch;
	struct rig rig;

	(void)state;
	need_vm();
	open_rig_of(&rig, "udmabuf", READS * PIECE);
	poison(&rig);
	batch = submit_load(&rig, 0, 1, GDS_PATH_DMABUF);
	gds_file_close(rig.files[0]);
	rig.files[0] = NULL;
	assert_int_equal(gds_batch_poll(batch), 0);
	assert_int_equal(judge_load(&rig, batch, 1, 2), 0);
	gds_batch_destroy(batch);
	close_rig(&rig);
}

static void a_buffer_freed_under_load_is_kept_until_its_reads_are_done(void **state)
{
	struct gds_batch *batch;
	struct gds_result result;
	struct rig rig;

	(void)state;
	need_vm();
	open_rig_of(&rig, "udmabuf", READS * PIECE);
	batch = submit_load(&rig, 0, 2, GDS_PATH_DMABUF);
	gds_buffer_free(rig.buffer);
	rig.buffer = NULL;
	assert_int_equal(gds_batch_poll(batch), 0);
	for (unsigned i = 0; i < READS; i++) {
		must(gds_batch_result(batch, i, &result));
		assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], PIECE);
	}
	gds_batch_destroy(batch);
	close_rig(&rig);
}

static void a_reader_closed_under_load_leaves_no_drive_writing(void **state)
{
	unsigned char *first, *second;
	struct gds_batch *batch;
	struct gds_result result;
	struct rig rig;

	(void)state;
	need_vm();
	first = malloc(READS * PIECE);
	second = malloc(READS * PIECE);
	assert_true(first && second);
	open_rig_of(&rig, "udmabuf", READS * PIECE);
	poison(&rig);
	batch = submit_load(&rig, 0, 2, GDS_PATH_DMABUF);
	gds_reader_close(rig.reader);
	rig.reader = NULL;
	must(gds_buffer_copy_out(rig.buffer, 0, first, READS * PIECE));
	for (unsigned i = 0; i < READS; i++) {
		must(gds_batch_result(batch, i, &result));
		assert_true(result.bytes == PIECE || result.bytes == -ECANCELED);
		if (result.bytes == PIECE)
			rig_check(&rig, (uint64_t)i * PIECE, PIECE, (uint64_t)i * PIECE);
	}
	usleep(100 * 1000);
	must(gds_buffer_copy_out(rig.buffer, 0, second, READS * PIECE));
	assert_memory_equal(first, second, READS * PIECE);
	gds_batch_destroy(batch);
	close_rig(&rig);
	free(first);
	free(second);
}

/* ---- A full table ---- */

#define SMALL_SLICE (32 << 10)

/* The lane has 4096 slots; each small slice takes one for each drive. */
static void more_slices_than_there_are_slots_are_read_by_giving_up_idle_ones(void **state)
{
	const unsigned slices = 2200;
	struct rlimit files = { 3 * slices, 3 * slices };
	struct gds_device *device;
	struct gds_result result;
	struct rig rig;

	(void)state;
	need_vm();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	must(gds_device_open(&device, "udmabuf"));
	((struct dmabuf_device *)device->backend)->slice_bytes = SMALL_SLICE;
	open_rig(&rig, device, (uint64_t)slices * SMALL_SLICE, 0, 0);
	for (unsigned round = 0; round < 2; round++)
		for (unsigned drive = 0; drive < 2; drive++)
			for (unsigned slice = 0; slice < slices; slice += 1 + round * 200) {
				uint64_t offset = (uint64_t)slice % 500 * 4096 + drive * 4096;
				uint64_t place = (uint64_t)slice * SMALL_SLICE + 8192;

				result =
					rig_read(&rig, drive, GDS_PATH_DMABUF, offset, 4096, place);
				assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], 4096);
				rig_check(&rig, offset, 4096, place);
			}
	close_rig(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_process_killed_under_load_leaves_everything_usable),
		cmocka_unit_test(
			a_process_killed_while_it_reads_into_a_gpu_leaves_everything_usable),
		cmocka_unit_test(
			a_process_that_exits_with_reads_in_flight_leaves_everything_usable),
		cmocka_unit_test(a_forked_child_gets_errors_and_the_parent_its_bytes),
		cmocka_unit_test(a_file_closed_under_load_gets_all_its_reads),
		cmocka_unit_test(a_buffer_freed_under_load_is_kept_until_its_reads_are_done),
		cmocka_unit_test(a_reader_closed_under_load_leaves_no_drive_writing),
		cmocka_unit_test(more_slices_than_there_are_slots_are_read_by_giving_up_idle_ones),
		cmocka_unit_test(an_unplugged_drive_fails_its_reads_and_no_others),
	};

	return cmocka_run_group_tests(tests, disks_write, disks_forget);
}
