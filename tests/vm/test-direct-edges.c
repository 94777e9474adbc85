/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The direct path at its edges, in kernel/vm: the ends of drives, buffers of odd sizes,
 * requests that make no sense, cancels, two readers over one buffer, proofs that are
 * repeated, and a process that may lock no memory.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "vm/rig.h"

#include <fcntl.h>
#include <gds/gds.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READS = 64, CANCELS = 20 };

#define PIECE (64 << 10)

static void fill_buffer(struct rig *rig, unsigned char value)
{
	uint64_t bytes = gds_buffer_bytes(rig->buffer);
	unsigned char *fill = malloc(bytes);

	assert_non_null(fill);
	memset(fill, value, bytes);
	must(gds_buffer_copy_in(rig->buffer, 0, fill, bytes));
	free(fill);
}

/* ---- The end of a drive -------------------------------------------------------------- */

#define TAIL MIB

/* The last bytes of the drive, which no other test writes. */
static void write_tail(unsigned drive, uint64_t drive_bytes)
{
	int fd = open(disks[drive], O_WRONLY | O_DIRECT | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, contents, TAIL, (off_t)(drive_bytes - TAIL)), TAIL);
	close(fd);
}

/* Reads `asked` bytes that begin `before` the drive's end, and compares all of the buffer. */
static void read_at_the_end(struct rig *rig, unsigned drive, uint64_t before, uint64_t asked,
			    uint64_t place)
{
	uint64_t bytes = gds_buffer_bytes(rig->buffer), there = before < asked ? before : asked;
	uint64_t end = (uint64_t)gds_file_bytes(rig->files[drive]);
	unsigned char *expected = malloc(bytes), *found = malloc(bytes);
	struct gds_result result;

	assert_true(expected && found);
	memset(expected, 0x3e, bytes);
	memcpy(expected + place, contents + TAIL - before, there);
	fill_buffer(rig, 0x3e);
	result = rig_read(rig, drive, GDS_PATH_DMABUF, end - before, asked, place);
	assert_int_equal(result.bytes, there);
	assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], there);
	must(gds_buffer_copy_out(rig->buffer, 0, found, bytes));
	assert_memory_equal(found, expected, bytes);
	free(expected);
	free(found);
}

static void reads_at_the_end_of_a_drive_are_short_and_right(void **state)
{
	static const struct {
		uint64_t before, asked, place;
	} reads[] = {
		{ 4096, 4096, 0 },
		{ 4096, 8192, 4096 },
		{ 512, 512, 512 },
		{ 1, 1, 0 },
		{ 1, 70000, 13 },
		{ 777, 777, 4095 },
		{ 70001, 140000, 255 },
		{ 500000, 1000000, 0 },
		{ 500000, 499999, 96 },
		{ 0, 0, 0 },
		{ 0, 1, 7 },
		{ 0, 1 << 20, 0 },
	};
	struct rig rig;

	(void)state;
	need_vm();
	open_rig_of(&rig, "udmabuf", 3 * MIB / 2 + 1);
	for (unsigned drive = 0; drive < 2; drive++) {
		write_tail(drive, (uint64_t)gds_file_bytes(rig.files[drive]));
		for (size_t i = 0; i < sizeof(reads) / sizeof(reads[0]); i++)
			read_at_the_end(&rig, drive, reads[i].before, reads[i].asked,
					reads[i].place);
	}
	close_rig(&rig);
}

/* ---- Sizes --------------------------------------------------------------------------- */

static void buffers_of_any_size_are_filled_from_anywhere(void **state)
{
	static const uint64_t sizes[] = { 1, 3, 511, 512, 513, 4095, 4096, 4097, 65537, 1000003 };
	static const uint64_t offsets[] = { 0, 1, 511, 512, 4096, 123457 };
	static const char *const devices[] = { "udmabuf", "drm:vgem", "vulkan:0" };
	struct rig rig;

	(void)state;
	need_vm();
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		open_rig_of(&rig, devices[i % 3], sizes[i]);
		for (size_t j = 0; j < sizeof(offsets) / sizeof(offsets[0]); j++) {
			struct gds_result result =
				rig_read(&rig, j % 2, GDS_PATH_DMABUF, offsets[j], sizes[i], 0);

			assert_int_equal(result.path_bytes[GDS_PATH_DMABUF], sizes[i]);
			rig_check(&rig, offsets[j], sizes[i], 0);
		}
		close_rig(&rig);
	}
}

static void refused(struct rig *rig, const struct gds_request *request, const char *why)
{
	struct gds_batch_options options = { .size = sizeof(options), .path = GDS_PATH_DMABUF };
	struct gds_batch *batch;

	must(gds_batch_create(&batch, rig->reader, &options));
	assert_int_equal(gds_batch_add(batch, request, 1), -EINVAL);
	if (!strstr(gds_last_error(), why))
		fail_msg("says nothing of \"%s\": %s", why, gds_last_error());
	gds_batch_destroy(batch);
}

static void requests_beyond_a_buffer_or_a_file_are_refused(void **state)
{
	struct gds_request request;
	struct rig rig;

	(void)state;
	need_vm();
	open_rig_of(&rig, "udmabuf", 5000);
	/* Its pages go on beyond the buffer, and are not the caller's. */
	request =
		(struct gds_request){ .file = rig.files[0], .buffer = rig.buffer, .length = 8192 };
	refused(&rig, &request, "lie outside the buffer's 5000 bytes");
	request.length = 1;
	request.buffer_offset = 5000;
	refused(&rig, &request, "lie outside the buffer's 5000 bytes");
	request.buffer_offset = UINT64_MAX;
	refused(&rig, &request, "lie outside the buffer's 5000 bytes");
	request.buffer_offset = 0;
	request.offset = INT64_MAX;
	refused(&rig, &request, "beyond what files can have");
	request.offset = 0;
	request.file = NULL;
	refused(&rig, &request, "names no file");
	close_rig(&rig);
}

/* ---- Cancels ------------------------------------------------------------------------- */

static struct gds_batch *submit_load(struct gds_reader *reader, struct rig *rig, unsigned first,
				     unsigned count)
{
	struct gds_batch_options options = { .size = sizeof(options), .path = GDS_PATH_DMABUF };
	struct gds_request requests[READS];
	struct gds_batch *batch;

	for (unsigned i = 0; i < count; i++)
		requests[i] =
			(struct gds_request){ .file = rig->files[i % 2],
					      .buffer = rig->buffer,
					      .offset = (uint64_t)(first + i) * PIECE,
					      .length = PIECE,
					      .buffer_offset = (uint64_t)(first + i) * PIECE };
	must(gds_batch_create(&batch, reader, &options));
	must((int)gds_batch_add(batch, requests, count));
	must(gds_batch_submit(batch));
	return batch;
}

/* What is good is right, and what is not was cancelled. Returns how many were. */
static unsigned judge(struct rig *rig, struct gds_batch *batch, unsigned first, unsigned count)
{
	struct gds_result result;
	unsigned cancelled = 0;

	for (unsigned i = 0; i < count; i++) {
		must(gds_batch_result(batch, i, &result));
		if (result.bytes == PIECE) {
			rig_check(rig, (uint64_t)(first + i) * PIECE, PIECE,
				  (uint64_t)(first + i) * PIECE);
			continue;
		}
		assert_int_equal(result.bytes, -ECANCELED);
		cancelled++;
	}
	return cancelled;
}

static void a_cancelled_batch_is_let_go_of_by_the_drives(void **state)
{
	unsigned char *first, *second;
	unsigned cancelled = 0;
	struct rig rig;

	(void)state;
	need_vm();
	first = malloc(READS * PIECE);
	second = malloc(READS * PIECE);
	assert_true(first && second);
	open_rig_of(&rig, "udmabuf", READS * PIECE);
	for (unsigned i = 0; i < CANCELS; i++) {
		struct gds_batch *batch;

		fill_buffer(&rig, 0x6d);
		batch = submit_load(rig.reader, &rig, 0, READS);
		must(gds_batch_cancel(batch));
		must(gds_batch_wait(batch, -1));
		must(gds_buffer_copy_out(rig.buffer, 0, first, READS * PIECE));
		cancelled += judge(&rig, batch, 0, READS);
		gds_batch_destroy(batch);
		usleep(20 * 1000);
		must(gds_buffer_copy_out(rig.buffer, 0, second, READS * PIECE));
		assert_memory_equal(first, second, READS * PIECE);
	}
	print_message("%u of %u reads were cancelled\n", cancelled, CANCELS * READS);
	assert_true(cancelled > 0);
	close_rig(&rig);
	free(first);
	free(second);
}

/* ---- Two readers --------------------------------------------------------------------- */

struct half {
	struct rig *rig;
	struct gds_reader *reader;
	unsigned first;
	unsigned rounds;
	unsigned failed; /* reads; a thread of its own may assert nothing */
};

static unsigned count_failed(struct gds_batch *batch, unsigned count)
{
	struct gds_result result;
	unsigned failed = 0;

	for (unsigned i = 0; i < count; i++)
		failed += gds_batch_result(batch, i, &result) || result.bytes != PIECE ||
			  result.path_bytes[GDS_PATH_DMABUF] != PIECE;
	return failed;
}

static void *read_half(void *argument)
{
	struct half *half = argument;

	for (unsigned i = 0; i < half->rounds; i++) {
		struct gds_batch *batch =
			submit_load(half->reader, half->rig, half->first, READS / 2);

		half->failed += gds_batch_wait(batch, -1) != 0;
		half->failed += count_failed(batch, READS / 2);
		gds_batch_destroy(batch);
	}
	return NULL;
}

/* One is closed while the other reads on, and comes to know nothing of it. */
static void two_readers_share_a_buffer_and_one_may_go(void **state)
{
	struct gds_reader *other;
	struct half halves[2];
	struct rig rig;
	pthread_t thread;

	(void)state;
	need_vm();
	open_rig_of(&rig, "udmabuf", READS * PIECE);
	fill_buffer(&rig, 0x6d);
	must(gds_reader_open(&other, NULL));
	halves[0] = (struct half){ &rig, rig.reader, 0, 60, 0 };
	halves[1] = (struct half){ &rig, other, READS / 2, 20, 0 };
	assert_int_equal(pthread_create(&thread, NULL, read_half, &halves[0]), 0);
	read_half(&halves[1]);
	gds_reader_close(other);
	pthread_join(thread, NULL);
	assert_int_equal(halves[0].failed + halves[1].failed, 0);
	for (unsigned i = 0; i < READS; i++)
		rig_check(&rig, (uint64_t)i * PIECE, PIECE, (uint64_t)i * PIECE);
	close_rig(&rig);
}

/* ---- Limits -------------------------------------------------------------------------- */

/* The numbers, not libcap's calls: they have been the same since Linux 2.6.26. */
static int drop_lock_right(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return -1;
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	data[0].permitted &= ~(1u << CAP_IPC_LOCK);
	return (int)syscall(SYS_capset, &header, data);
}

/* Exits with 0, or with the number of what went wrong; what was said goes to stdout. */
static _Noreturn void read_within_limit(void)
{
	struct rlimit limit = { 64 << 10, 64 << 10 };
	struct gds_result result;
	struct rig rig;

	if (setrlimit(RLIMIT_MEMLOCK, &limit) || drop_lock_right())
		_exit(1);
	open_rig_of(&rig, "udmabuf", 8 * MIB);
	result = rig_read(&rig, 1, GDS_PATH_DMABUF, 4096, 4 * MIB, 4096);
	if (result.path_bytes[GDS_PATH_DMABUF] != 4 * MIB) {
		printf("%s\n", gds_last_error());
		fflush(stdout);
		_exit(2);
	}
	rig_check(&rig, 4096, 4 * MIB, 4096);
	/* Edges go through scratch. */
	result = rig_read(&rig, 1, GDS_PATH_DMABUF, 12345, 100001, 77);
	if (result.path_bytes[GDS_PATH_DMABUF] != 100001)
		_exit(3);
	rig_check(&rig, 12345, 100001, 77);
	close_rig(&rig);
	_exit(0);
}

static void little_locked_memory_is_enough_for_the_direct_path(void **state)
{
	pid_t child;
	int status;

	(void)state;
	need_vm();
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		read_within_limit();
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- Proofs that are repeated -------------------------------------------------------- */

static void a_proof_is_repeated_at_the_interval_and_harms_no_byte(void **state)
{
	struct gds_reader_options options = { .size = sizeof(options), .canary_interval_ns = 1 };
	struct gds_stats stats = { .size = sizeof(stats) };
	struct rig rig;

	(void)state;
	need_vm();
	open_rig_of(&rig, "udmabuf", READS * PIECE);
	gds_reader_close(rig.reader);
	must(gds_reader_open(&rig.reader, &options));
	for (unsigned i = 0; i < 10; i++) {
		struct gds_batch *batch;

		fill_buffer(&rig, (unsigned char)i);
		batch = submit_load(rig.reader, &rig, 0, READS);
		must(gds_batch_wait(batch, -1));
		assert_int_equal(judge(&rig, batch, 0, READS), 0);
		gds_batch_destroy(batch);
	}
	must(gds_reader_stats(rig.reader, &stats));
	print_message("%" PRIu64 " proofs\n", stats.canaries);
	/* Of two drives, in each of ten batches. */
	assert_true(stats.canaries >= 20);
	assert_int_equal(stats.canaries_failed, 0);
	close_rig(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_at_the_end_of_a_drive_are_short_and_right),
		cmocka_unit_test(buffers_of_any_size_are_filled_from_anywhere),
		cmocka_unit_test(requests_beyond_a_buffer_or_a_file_are_refused),
		cmocka_unit_test(a_cancelled_batch_is_let_go_of_by_the_drives),
		cmocka_unit_test(two_readers_share_a_buffer_and_one_may_go),
		cmocka_unit_test(little_locked_memory_is_enough_for_the_direct_path),
		cmocka_unit_test(a_proof_is_repeated_at_the_interval_and_harms_no_byte),
	};

	return cmocka_run_group_tests(tests, disks_write, disks_forget);
}
