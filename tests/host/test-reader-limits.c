/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader where the system forbids, lacks or breaks something: io_uring refused
 * by seccomp, little locked memory for an unprivileged user, O_DIRECT refused, a
 * block device that fails in the middle; and reads so large that memory would tell.
 *
 * What changes the process for good is done in a child, which tells by its exit
 * status and a line.
 */
#include "storage/file.h"
#include "support/sanitized.h"
#include "support/storage.h"

#include <gds/gds.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB          (UINT64_C(1) << 20)
#define GIB          (UINT64_C(1) << 30)
#define FILE_BYTES   (4 * MIB)
#define BUFFER_BYTES (8 * MIB)
#define NOBODY       65534
#define CANNOT_TELL  77

struct setting {
	char folder[64];
	char path[80];
	struct gds_reader *reader;
	struct gds_device *device;
	struct gds_buffer *buffer;
	struct gds_file *file;
};

static struct setting setting;

static void swallow(enum gds_log_level level, const char *line, void *user)
{
}

static int set_up(void **state)
{
	gds_log_set(GDS_LOG_ERROR, swallow, NULL);
	setting = (struct setting){ 0 };
	assert_true(folder_make(setting.folder, false));
	/* For nobody, too. */
	assert_int_equal(chmod(setting.folder, 0755), 0);
	snprintf(setting.path, sizeof(setting.path), "%s/file", setting.folder);
	file_write_pattern(setting.path, 0, FILE_BYTES);
	return 0;
}

static void end_setting(void)
{
	gds_reader_close(setting.reader);
	gds_file_close(setting.file);
	gds_buffer_free(setting.buffer);
	gds_device_close(setting.device);
	setting.reader = NULL;
	setting.file = NULL;
	setting.buffer = NULL;
	setting.device = NULL;
}

static int tear_down(void **state)
{
	end_setting();
	folder_remove(setting.folder);
	return 0;
}

/* 0, or what gds_last_error() then tells. */
static int open_setting(enum gds_lane lane, const char *path, uint64_t buffer_bytes)
{
	struct gds_reader_options options = { .size = sizeof(options), .lane = lane };
	int err = gds_reader_open(&setting.reader, &options);

	if (!err)
		err = gds_device_open(&setting.device, "host");
	if (!err)
		err = gds_buffer_alloc(&setting.buffer, setting.device, buffer_bytes, 0);
	if (!err)
		err = gds_file_open(&setting.file, path);
	return err;
}

static ssize_t read_all(uint64_t offset, uint64_t length, struct gds_result *result)
{
	struct gds_request request = {
		.file = setting.file, .buffer = setting.buffer, .offset = offset, .length = length
	};

	return gds_read(setting.reader, &request, result);
}

/* Runs it in a child, which may leave its privileges and limits behind. */
static void in_child(int (*run)(void))
{
	int status;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child == 0) {
		status = run();
		fflush(NULL); /* the reason why it cannot tell */
		_exit(status);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == CANNOT_TELL)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define MUST(condition)                                                                          \
	do {                                                                                     \
		if (!(condition)) {                                                              \
			fprintf(stderr, "line %d: %s does not hold; last error: %s\n", __LINE__, \
				#condition, gds_last_error());                                   \
			return 1;                                                                \
		}                                                                                \
	} while (0)

/* ---- io_uring is refused ------------------------------------------------------------- */

static int refuse_io_uring(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, 2, &program);
}

static int read_without_io_uring(void)
{
	struct gds_stats stats = { .size = sizeof(stats) };
	struct gds_explanation explanation = { .size = sizeof(explanation) };

	if (refuse_io_uring()) {
		printf("skipped: no seccomp filter can be set here\n");
		return CANNOT_TELL;
	}
	MUST(open_setting(GDS_LANE_URING, setting.path, BUFFER_BYTES) == -EPERM);
	MUST(strlen(gds_last_error()) > 20);
	MUST(open_setting(GDS_LANE_AUTO, setting.path, BUFFER_BYTES) == 0);
	MUST(gds_reader_stats(setting.reader, &stats) == 0);
	MUST(stats.lane == GDS_LANE_THREADS);
	MUST(strstr(gds_reader_lane_reason(setting.reader), "seccomp"));
	MUST(gds_explain(setting.reader, setting.file, setting.buffer, &explanation) == 0);
	MUST(explanation.lane == GDS_LANE_THREADS);
	MUST(strstr(explanation.lane_reason, "seccomp"));
	MUST(read_all(123, MIB, NULL) == (ssize_t)MIB);
	MUST(pattern_matches(gds_buffer_host(setting.buffer), 123, MIB));
	end_setting();
	return 0;
}

static void a_refused_io_uring_gives_threads_which_say_so(void **state)
{
	in_child(read_without_io_uring);
}

/* ---- Little locked memory -------------------------------------------------------------- */

static int read_as_nobody(void)
{
	struct rlimit little = { 64 << 10, 64 << 10 };
	struct gds_explanation explanation = { .size = sizeof(explanation) };
	const struct gds_path_verdict *mapped = &explanation.paths[GDS_PATH_MAPPED];

	if (geteuid() != 0 || setgroups(0, NULL) != 0 || setrlimit(RLIMIT_MEMLOCK, &little) != 0 ||
	    setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0) {
		printf("skipped: only root can become nobody\n");
		return CANNOT_TELL;
	}
	if (open_setting(GDS_LANE_URING, setting.path, BUFFER_BYTES) != 0) {
		printf("skipped: %s\n", gds_last_error());
		return CANNOT_TELL;
	}
	MUST(gds_explain(setting.reader, setting.file, setting.buffer, &explanation) == 0);
	MUST(explanation.path == GDS_PATH_MAPPED);
	MUST(mapped->usable);
	MUST(strstr(mapped->reason, "locked-memory limit"));
	MUST(strstr(mapped->reason, "64 KiB"));
	MUST(strstr(mapped->remedy, "ulimit -l"));
	MUST(read_all(4096, FILE_BYTES, NULL) == (ssize_t)(FILE_BYTES - 4096));
	MUST(pattern_matches(gds_buffer_host(setting.buffer), 4096, FILE_BYTES - 4096));
	MUST(read_all(5, MIB, NULL) == (ssize_t)MIB);
	MUST(pattern_matches(gds_buffer_host(setting.buffer), 5, MIB));
	end_setting();
	return 0;
}

static void a_small_limit_on_locked_memory_still_reads_and_says_what_to_raise(void **state)
{
	in_child(read_as_nobody);
}

/* ---- O_DIRECT is refused ---------------------------------------------------------------- */

/* Blocks of 4096 bytes that are taken for blocks of 512: the kernel gives EINVAL. */
static void a_refused_direct_read_goes_through_the_page_cache_and_is_explained(void **state)
{
	struct gds_explanation explanation = { .size = sizeof(explanation) };
	struct gds_stats stats = { .size = sizeof(stats) };
	const char *reason;
	char device[64];
	int loop = loop_open(setting.path, 4096, device, &reason);

	if (loop < 0) {
		print_message("skipped: %s\n", reason);
		skip();
	}
	for (enum gds_lane lane = GDS_LANE_URING; lane <= GDS_LANE_THREADS; lane++) {
		assert_int_equal(open_setting(lane, device, BUFFER_BYTES), 0);
		assert_true(setting.file->direct);
		setting.file->offset_align = 512;
		assert_int_equal(read_all(512, 3 * MIB + 512, NULL), 3 * MIB + 512);
		assert_true(pattern_matches(gds_buffer_host(setting.buffer), 512, 3 * MIB + 512));
		assert_int_equal(read_all(1000, 10000, NULL), 10000);
		assert_true(pattern_matches(gds_buffer_host(setting.buffer), 1000, 10000));
		assert_int_equal(gds_reader_stats(setting.reader, &stats), 0);
		assert_int_equal(stats.fallbacks, 1);
		assert_int_equal(
			gds_explain(setting.reader, setting.file, setting.buffer, &explanation), 0);
		assert_int_equal(explanation.direct, 0);
		assert_non_null(strstr(explanation.direct_reason, "O_DIRECT"));
		end_setting();
	}
	close(loop);
}

/* ---- A device that fails ---------------------------------------------------------------- */

static void a_device_that_fails_in_the_middle_gives_eio_and_the_place(void **state)
{
	const uint64_t cut = 2 * MIB;
	struct gds_result result;
	const char *reason;
	char device[64];
	int loop = loop_open(setting.path, 512, device, &reason);

	if (loop < 0) {
		print_message("skipped: %s\n", reason);
		skip();
	}
	/* The loop device keeps its size, and has nothing to read from there on. */
	file_resize(setting.path, cut);
	for (enum gds_lane lane = GDS_LANE_URING; lane <= GDS_LANE_THREADS; lane++) {
		assert_int_equal(open_setting(lane, device, BUFFER_BYTES), 0);
		assert_int_equal(gds_file_bytes(setting.file), FILE_BYTES);
		assert_int_equal(read_all(0, FILE_BYTES, &result), -EIO);
		assert_int_equal(result.bytes, -EIO);
		assert_int_equal(result.error_offset, cut);
		assert_int_equal(read_all(0, FILE_BYTES, NULL), -EIO);
		assert_non_null(strstr(gds_last_error(), device));
		assert_non_null(strstr(gds_last_error(), "2097152"));
		/* What is good still can be read. */
		assert_int_equal(read_all(0, cut, NULL), cut);
		assert_true(pattern_matches(gds_buffer_host(setting.buffer), 0, cut));
		end_setting();
	}
	close(loop);
}

/* ---- Large reads, little memory ---------------------------------------------------------- */

static uint64_t line_of_kib(const char *path, const char *name)
{
	FILE *file = fopen(path, "re");
	char line[200];
	uint64_t kib = 0;

	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, name, strlen(name)) == 0)
			kib = strtoull(line + strlen(name) + 1, NULL, 10);
	if (file)
		fclose(file);
	return kib << 10;
}

static int read_largely(enum gds_path path)
{
	const uint64_t bytes = 4 * GIB + 12345;
	struct gds_batch_options options = { .size = sizeof(options), .path = path };
	struct gds_request request = { .offset = 77, .length = bytes };
	const uint64_t before = line_of_kib("/proc/self/status", "VmRSS");
	struct gds_batch *batch;
	struct gds_result result;
	uint64_t peak;

	MUST(open_setting(GDS_LANE_AUTO, setting.path, bytes) == 0);
	request.file = setting.file;
	request.buffer = setting.buffer;
	MUST(gds_batch_create(&batch, setting.reader, &options) == 0);
	MUST(gds_batch_add(batch, &request, 1) == 0);
	MUST(gds_batch_submit(batch) == 0);
	MUST(gds_batch_wait(batch, -1) == 0);
	MUST(gds_batch_result(batch, 0, &result) == 0);
	MUST(result.bytes == (int64_t)bytes);
	for (uint64_t at = 0; at < bytes; at += GIB) {
		const unsigned char *host = gds_buffer_host(setting.buffer);
		uint64_t last = at + GIB < bytes ? at + GIB - 4096 : bytes - 4096;

		MUST(pattern_matches(host + last, 77 + last, 4096));
	}
	peak = line_of_kib("/proc/self/status", "VmHWM");
	MUST(peak > bytes);
	MUST(peak - before < bytes + 64 * MIB + 64 * MIB);
	gds_batch_destroy(batch);
	end_setting();
	return 0;
}

static int read_largely_mapped(void)
{
	return read_largely(GDS_PATH_MAPPED);
}

static int read_largely_bounced(void)
{
	return read_largely(GDS_PATH_BOUNCE);
}

/* Holes, but for what is looked at. */
static void make_large_file(void)
{
	const uint64_t end = 77 + 4 * GIB + 12345;

	if (SANITIZED) {
		print_message("skipped: the sanitizers take memory of their own\n");
		skip();
	}
	if (line_of_kib("/proc/meminfo", "MemAvailable") < 6 * GIB) {
		print_message("skipped: less than 6 GiB of memory are available\n");
		skip();
	}
	file_resize(setting.path, end);
	for (uint64_t at = GIB; at < end; at += GIB)
		file_write_pattern(setting.path, at - 8192, 16384);
	file_write_pattern(setting.path, end - 8192, 8192);
}

static void a_mapped_read_over_4_gib_takes_no_memory_beside_its_buffer(void **state)
{
	make_large_file();
	in_child(read_largely_mapped);
}

static void a_bounced_read_over_4_gib_takes_no_memory_beside_buffer_and_staging(void **state)
{
	make_large_file();
	in_child(read_largely_bounced);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_refused_io_uring_gives_threads_which_say_so),
		CASE(a_small_limit_on_locked_memory_still_reads_and_says_what_to_raise),
		CASE(a_refused_direct_read_goes_through_the_page_cache_and_is_explained),
		CASE(a_device_that_fails_in_the_middle_gives_eio_and_the_place),
		CASE(a_mapped_read_over_4_gib_takes_no_memory_beside_its_buffer),
		CASE(a_bounced_read_over_4_gib_takes_no_memory_beside_buffer_and_staging),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
