/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lanes: one table of tests, run on io_uring with many threads and with one,
 * and on the pool of threads; then what io_uring alone has to show.
 *
 * The linker puts three functions of this file between the lanes and the system
 * (--wrap). They let a kernel look older, or short of memory, and a read block for
 * as long as a test wants: reads of `gate` end when a byte is written to it.
 */
#include "base/clock.h"
#include "lane/lane.h"
#include "lane/uapi.h"

#include <gds/gds.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DEPTH         56 /* with its 8 spare entries, what a ring of 64 just holds */
#define PAGE          4096u
#define PAGES         256u
#define TAIL          123u /* so that the file does not end on a block */
#define FILE_BYTES    (PAGES * PAGE + TAIL)
#define SHORT_WAIT_NS UINT64_C(20000000)

/* ---- Between the lanes and the system ------------------------------------------ */

static int gate[2];
static uint32_t unknown_flags;               /* of io_uring_setup, to an older kernel */
static uint32_t unknown_opcode = UINT32_MAX; /* of io_uring_register, likewise */
static int enter_faults;                     /* how many submissions fail from now on */
static int enter_error;                      /* with this, or with one entry taken where it is 0 */
static bool enter_unblocked;                 /* lets signals in for the length of each wait */
static int enter_calls;

int __real_io_uring_setup(unsigned int entries, struct io_uring_params *params);
int __wrap_io_uring_setup(unsigned int entries, struct io_uring_params *params);
int __real_io_uring_register(unsigned int fd, unsigned int opcode, const void *argument,
			     unsigned int count);
int __wrap_io_uring_register(unsigned int fd, unsigned int opcode, const void *argument,
			     unsigned int count);
int __real_io_uring_enter2(unsigned int fd, unsigned int submit, unsigned int wait_for,
			   unsigned int flags, sigset_t *argument, size_t size);
int __wrap_io_uring_enter2(unsigned int fd, unsigned int submit, unsigned int wait_for,
			   unsigned int flags, sigset_t *argument, size_t size);
ssize_t __real_preadv2(int fd, const struct iovec *vector, int count, off_t offset, int flags);
ssize_t __wrap_preadv2(int fd, const struct iovec *vector, int count, off_t offset, int flags);

int __wrap_io_uring_setup(unsigned int entries, struct io_uring_params *params)
{
	if (params->flags & unknown_flags)
		return -EINVAL;
	return __real_io_uring_setup(entries, params);
}

int __wrap_io_uring_register(unsigned int fd, unsigned int opcode, const void *argument,
			     unsigned int count)
{
	if (opcode == unknown_opcode)
		return -EINVAL;
	return __real_io_uring_register(fd, opcode, argument, count);
}

/* A short submission returns without waiting, as the kernel's does. */
int __wrap_io_uring_enter2(unsigned int fd, unsigned int submit, unsigned int wait_for,
			   unsigned int flags, sigset_t *argument, size_t size)
{
	static sigset_t none;

	enter_calls++;
	if (wait_for && !argument && enter_unblocked)
		return __real_io_uring_enter2(fd, submit, wait_for, flags, &none, _NSIG / 8);
	if (!submit || !enter_faults)
		return __real_io_uring_enter2(fd, submit, wait_for, flags, argument, size);
	enter_faults--;
	if (enter_error)
		return -enter_error;
	return __real_io_uring_enter2(fd, 1, 0, flags & IORING_ENTER_REGISTERED_RING, NULL, 0);
}

/* A pipe has no offsets, for preadv2; io_uring does not mind. */
ssize_t __wrap_preadv2(int fd, const struct iovec *vector, int count, off_t offset, int flags)
{
	if (fd == gate[0])
		return readv(fd, vector, count);
	return __real_preadv2(fd, vector, count, offset, flags);
}

static void open_gate(size_t reads)
{
	static const char bytes[DEPTH];

	assert_int_equal(write(gate[1], bytes, reads), reads);
}

/* ---- A lane with a file to read -------------------------------------------------- */

struct variant {
	const char *name;
	const struct lane_ops *ops;
	uint32_t flags;
	uint32_t threads;
};

static struct variant variants[] = {
	{ "uring", &lane_uring, 0, 0 },
	{ "uring, one thread", &lane_uring, LANE_SINGLE_THREAD, 0 },
	{ "threads", &lane_threads, 0, 4 },
	{ "threads, one", &lane_threads, 0, 1 },
};

struct rig {
	struct lane *lane;
	struct lane_completion reaped[2 * DEPTH];
	size_t reaped_count;
	size_t taken; /* of these */
	const struct lane_ops *ops;
	int fd;
	uint32_t file;
	uint8_t *contents; /* of the file */
	uint8_t *memory;   /* as large, rounded up to pages */
};

static uint64_t random_state;

static uint64_t random_below(uint64_t limit)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (random_state >> 33) % limit;
}

static int make_file(const void *contents, size_t bytes, int flags)
{
	char name[] = "test-lane-XXXXXX";
	int fd = mkstemp(name);
	int again;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, contents, bytes), bytes);
	again = open(name, flags);
	unlink(name);
	close(fd);
	return again;
}

static int lane_open(struct lane **lane, const struct variant *variant)
{
	const struct lane_options options = { .flags = variant->flags,
					      .depth = DEPTH,
					      .threads = variant->threads };

	return variant->ops->open(lane, &options);
}

static void *map_memory(void)
{
	void *memory = mmap(NULL, (PAGES + 1) * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

/* Without the file, which would make this thread the one that uses the lane. */
static void rig_open_empty(struct rig *rig, const struct variant *variant)
{
	int ret = lane_open(&rig->lane, variant);

	if (ret == -EPERM || ret == -ENOSYS) {
		print_message("%s\n", gds_last_error());
		skip();
	}
	assert_int_equal(ret, 0);
	rig->ops = variant->ops;
	rig->reaped_count = 0;
	rig->taken = 0;
	rig->contents = map_memory();
	rig->memory = map_memory();
	random_state = 1;
	for (size_t i = 0; i < FILE_BYTES; i++)
		rig->contents[i] = (uint8_t)random_below(256);
	rig->fd = make_file(rig->contents, FILE_BYTES, O_RDONLY);
	assert_true(rig->fd >= 0);
	assert_int_equal(pipe(gate), 0);
}

static void rig_open(struct rig *rig, const struct variant *variant)
{
	rig_open_empty(rig, variant);
	assert_int_equal(rig->ops->file_add(rig->lane, rig->fd, &rig->file), 0);
}

static void rig_close(struct rig *rig)
{
	rig->ops->close(rig->lane);
	munmap(rig->contents, (PAGES + 1) * PAGE);
	munmap(rig->memory, (PAGES + 1) * PAGE);
	close(rig->fd);
	close(gate[0]);
	close(gate[1]);
}

static void queue(struct rig *rig, struct lane_read read)
{
	rig->ops->queue(rig->lane, &read);
}

/* One completion at a time, of those that the lane gives in a row. */
static bool take(struct rig *rig, struct lane_completion *completion)
{
	const struct lane_completion *reaped;

	if (rig->taken == rig->reaped_count) {
		rig->taken = 0;
		rig->reaped_count = rig->ops->reap(rig->lane, &reaped);
		if (rig->reaped_count == 0)
			return false;
		assert_in_range(rig->reaped_count, 1, 2 * DEPTH);
		memcpy(rig->reaped, reaped, rig->reaped_count * sizeof(*reaped));
	}
	*completion = rig->reaped[rig->taken++];
	return true;
}

static void reap_one(struct rig *rig, struct lane_completion *completion)
{
	while (!take(rig, completion))
		assert_int_equal(rig->ops->enter(rig->lane, LANE_WAIT_FOREVER, 1), 0);
}

/* Waits for one completion, and checks whose it is. Returns its result. */
static int32_t finish(struct rig *rig, uint64_t token)
{
	struct lane_completion completion;

	reap_one(rig, &completion);
	assert_int_equal(completion.token, token);
	return completion.result;
}

static int32_t read_at(struct rig *rig, uint32_t file, uint64_t offset, void *address,
		       size_t length, uint32_t buffer)
{
	queue(rig, (struct lane_read){ 7, offset, address, (uint32_t)length, file, buffer });
	return finish(rig, 7);
}

static uint32_t add_gate(struct rig *rig)
{
	uint32_t file;

	assert_int_equal(rig->ops->file_add(rig->lane, gate[0], &file), 0);
	return file;
}

/* A read that ends when the gate is opened. */
static void queue_gated(struct rig *rig, uint32_t gate_file, uint64_t token)
{
	queue(rig, (struct lane_read){ token, 0, rig->memory + token % PAGE, 1, gate_file,
				       LANE_NO_BUFFER });
}

static void expect_nothing(struct rig *rig)
{
	struct lane_completion completion;

	assert_false(take(rig, &completion));
}

/* ---- What comes back -------------------------------------------------------------- */

/* Reads pieces side by side, so that all the memory has to equal all the file. */
static void check_pieces(struct rig *rig, uint32_t buffer)
{
	size_t done = 0;

	memset(rig->memory, 0xa5, FILE_BYTES + 1);
	while (done < FILE_BYTES) {
		size_t length = 1 + random_below(3 * PAGE);

		if (length > FILE_BYTES - done)
			length = FILE_BYTES - done;
		assert_int_equal(read_at(rig, rig->file, done, rig->memory + done, length, buffer),
				 length);
		done += length;
	}
	assert_memory_equal(rig->memory, rig->contents, FILE_BYTES);
	assert_int_equal(rig->memory[FILE_BYTES], 0xa5);
}

static void reads_are_exact(void **state)
{
	struct rig rig;

	rig_open(&rig, *state);
	check_pieces(&rig, LANE_NO_BUFFER);
	rig_close(&rig);
}

static void reads_into_registered_memory_are_exact(void **state)
{
	struct rig rig;
	uint32_t buffer;
	int ret;

	rig_open(&rig, *state);
	ret = rig.ops->buffer_add(rig.lane, rig.memory, (PAGES + 1) * PAGE, &buffer);
	if (rig.ops == &lane_threads) {
		assert_int_equal(ret, -EOPNOTSUPP);
	} else {
		assert_int_equal(ret, 0);
		check_pieces(&rig, buffer);
		rig.ops->buffer_remove(rig.lane, buffer);
	}
	rig_close(&rig);
}

static void direct_reads_are_exact(void **state)
{
	struct rig rig;
	uint32_t file;
	int fd;

	rig_open(&rig, *state);
	fd = make_file(rig.contents, FILE_BYTES, O_RDONLY | O_DIRECT);
	if (fd < 0) {
		print_message("no O_DIRECT on this file system\n");
		rig_close(&rig);
		skip();
	}
	assert_int_equal(rig.ops->file_add(rig.lane, fd, &file), 0);
	assert_int_equal(read_at(&rig, file, 0, rig.memory, (PAGES + 1) * PAGE, LANE_NO_BUFFER),
			 FILE_BYTES);
	assert_memory_equal(rig.memory, rig.contents, FILE_BYTES);
	close(fd);
	rig_close(&rig);
}

/* Each read's page of memory gets the page of the file that its token says. */
static void queue_random_page(struct rig *rig, uint32_t slot, uint32_t *page_of)
{
	page_of[slot] = (uint32_t)random_below(PAGES);
	queue(rig,
	      (struct lane_read){ slot, (uint64_t)page_of[slot] * PAGE, rig->memory + slot * PAGE,
				  PAGE, rig->file, LANE_NO_BUFFER });
}

/* Keeps `depth` reads in flight; each has to come back once, with its own bytes. */
static void keep_full(struct rig *rig, size_t total)
{
	struct lane_completion completion;
	uint32_t page_of[DEPTH];
	bool busy[DEPTH] = { false };
	size_t queued = 0;
	size_t done = 0;

	while (done < total) {
		for (uint32_t slot = 0; slot < DEPTH && queued < total; slot++) {
			if (busy[slot])
				continue;
			busy[slot] = true;
			queue_random_page(rig, slot, page_of);
			queued++;
		}
		assert_int_equal(rig->ops->enter(rig->lane, LANE_WAIT_FOREVER, 1), 0);
		while (take(rig, &completion)) {
			uint64_t slot = completion.token;

			assert_in_range(slot, 0, DEPTH - 1);
			assert_true(busy[slot]);
			busy[slot] = false;
			assert_int_equal(completion.result, PAGE);
			assert_memory_equal(rig->memory + slot * PAGE,
					    rig->contents + page_of[slot] * PAGE, PAGE);
			done++;
		}
	}
	expect_nothing(rig);
}

static void no_read_is_lost_at_full_depth(void **state)
{
	struct rig rig;

	rig_open(&rig, *state);
	keep_full(&rig, 5000);
	rig_close(&rig);
}

static void reads_end_with_the_file(void **state)
{
	struct rig rig;

	rig_open(&rig, *state);
	assert_int_equal(read_at(&rig, rig.file, FILE_BYTES - 10, rig.memory, 100, LANE_NO_BUFFER),
			 10);
	assert_int_equal(read_at(&rig, rig.file, FILE_BYTES, rig.memory, 100, LANE_NO_BUFFER), 0);
	assert_int_equal(
		read_at(&rig, rig.file, UINT64_C(1) << 40, rig.memory, 100, LANE_NO_BUFFER), 0);
	rig_close(&rig);
}

static void a_write_only_file_gives_ebadf(void **state)
{
	struct rig rig;
	uint32_t file;
	int fd;

	rig_open(&rig, *state);
	fd = make_file("x", 1, O_WRONLY);
	assert_int_equal(rig.ops->file_add(rig.lane, fd, &file), 0);
	assert_int_equal(read_at(&rig, file, 0, rig.memory, 1, LANE_NO_BUFFER), -EBADF);
	close(fd);
	rig_close(&rig);
}

static void memory_that_cannot_be_written_gives_efault(void **state)
{
	struct rig rig;
	uint32_t buffer;
	int ret;

	rig_open(&rig, *state);
	assert_int_equal(mprotect(rig.memory, PAGE, PROT_NONE), 0);
	assert_int_equal(read_at(&rig, rig.file, 0, rig.memory, PAGE, LANE_NO_BUFFER), -EFAULT);
	ret = rig.ops->buffer_add(rig.lane, rig.memory, PAGE, &buffer);
	if (rig.ops == &lane_uring) {
		assert_int_equal(ret, -EFAULT);
		assert_non_null(strstr(gds_last_error(), "pin"));
	}
	rig_close(&rig);
}

static void a_misaligned_direct_read_gives_einval(void **state)
{
	struct rig rig;
	uint32_t file;
	int32_t result;
	int fd;

	rig_open(&rig, *state);
	fd = make_file(rig.contents, FILE_BYTES, O_RDONLY | O_DIRECT);
	result = fd < 0 ? 0 : 1;
	if (result) {
		assert_int_equal(rig.ops->file_add(rig.lane, fd, &file), 0);
		result = read_at(&rig, file, 1, rig.memory, 100, LANE_NO_BUFFER);
		close(fd);
	}
	rig_close(&rig);
	if (result >= 0) {
		print_message("this file system has no O_DIRECT that minds alignment\n");
		skip();
	}
	assert_int_equal(result, -EINVAL);
}

static void a_closed_descriptor_is_not_added(void **state)
{
	struct rig rig;
	uint32_t file;
	int fd;

	rig_open(&rig, *state);
	fd = dup(rig.fd);
	close(fd);
	assert_int_equal(rig.ops->file_add(rig.lane, fd, &file), -EBADF);
	rig_close(&rig);
}

static void the_number_of_a_removed_file_is_used_again(void **state)
{
	struct rig rig;
	uint32_t first;
	uint32_t second;
	int fd;

	rig_open(&rig, *state);
	fd = make_file("AB", 2, O_RDONLY);
	assert_int_equal(rig.ops->file_add(rig.lane, fd, &first), 0);
	rig.ops->file_remove(rig.lane, first);
	close(fd);
	fd = make_file("CD", 2, O_RDONLY);
	assert_int_equal(rig.ops->file_add(rig.lane, fd, &second), 0);
	assert_int_equal(first, second);
	assert_int_equal(read_at(&rig, second, 0, rig.memory, 2, LANE_NO_BUFFER), 2);
	assert_memory_equal(rig.memory, "CD", 2);
	close(fd);
	rig_close(&rig);
}

/* More than the kernel's table has slots for. */
static void files_beyond_the_table_are_read(void **state)
{
	struct rig rig;
	uint32_t files[1100];

	rig_open(&rig, *state);
	for (size_t i = 0; i < 1100; i++)
		assert_int_equal(rig.ops->file_add(rig.lane, rig.fd, &files[i]), 0);
	rig.file = files[1099];
	check_pieces(&rig, LANE_NO_BUFFER);
	for (size_t i = 0; i < 1100; i++)
		rig.ops->file_remove(rig.lane, files[i]);
	rig_close(&rig);
}

/* ---- Waiting ------------------------------------------------------------------------ */

/* At least as long as asked for; that it is not for ever is up to the time limit. */
static void expect_full_wait(struct rig *rig)
{
	uint64_t start = clock_now_ns();

	assert_int_equal(rig->ops->enter(rig->lane, SHORT_WAIT_NS, 1), 0);
	assert_true(clock_now_ns() - start >= SHORT_WAIT_NS);
	expect_nothing(rig);
}

static void a_wait_ends_with_its_time(void **state)
{
	struct rig rig;
	uint32_t file;

	rig_open(&rig, *state);
	file = add_gate(&rig);
	queue_gated(&rig, file, 1);
	expect_full_wait(&rig); /* the read is handed over */
	expect_full_wait(&rig); /* nothing is */
	assert_int_equal(rig.ops->enter(rig.lane, 0, 1), 0);
	expect_nothing(&rig);
	open_gate(1);
	assert_int_equal(finish(&rig, 1), 1);
	rig_close(&rig);
}

static void completions_are_seen_without_waiting(void **state)
{
	struct lane_completion completion;
	struct rig rig;

	rig_open(&rig, *state);
	queue_gated(&rig, add_gate(&rig), 1);
	assert_int_equal(rig.ops->enter(rig.lane, 0, 1), 0);
	open_gate(1);
	while (!take(&rig, &completion)) {
		assert_int_equal(rig.ops->enter(rig.lane, 0, 1), 0);
		sched_yield();
	}
	assert_int_equal(completion.result, 1);
	rig_close(&rig);
}

static void *call_wake(void *argument)
{
	struct rig *rig = argument;

	rig->ops->wake(rig->lane);
	return NULL;
}

static void wake_ends_one_wait_of_another_thread(void **state)
{
	struct rig rig;
	pthread_t thread;

	rig_open(&rig, *state);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(pthread_create(&thread, NULL, call_wake, &rig), 0);
		assert_int_equal(rig.ops->enter(rig.lane, LANE_WAIT_FOREVER, 1), 0);
		pthread_join(thread, NULL);
	}
	expect_full_wait(&rig);
	rig_close(&rig);
}

static void wake_ends_the_next_wait(void **state)
{
	struct rig rig;

	rig_open(&rig, *state);
	for (int i = 0; i < 3; i++) {
		rig.ops->wake(rig.lane);
		rig.ops->wake(rig.lane);
		assert_int_equal(rig.ops->enter(rig.lane, LANE_WAIT_FOREVER, 1), 0);
		expect_full_wait(&rig);
	}
	rig_close(&rig);
}

static struct rig *handler_rig;

static void wake_in_handler(int signal)
{
	handler_rig->ops->wake(handler_rig->lane);
}

static void *raise_signal(void *unused)
{
	raise(SIGUSR1);
	return NULL;
}

/* The handler runs in a thread that does not wait: only wake() can end the wait. */
static void wake_works_in_a_signal_handler(void **state)
{
	struct sigaction action = { .sa_handler = wake_in_handler };
	struct rig rig;
	pthread_t thread;

	rig_open(&rig, *state);
	handler_rig = &rig;
	sigaction(SIGUSR1, &action, NULL);
	assert_int_equal(pthread_create(&thread, NULL, raise_signal, NULL), 0);
	assert_int_equal(rig.ops->enter(rig.lane, LANE_WAIT_FOREVER, 1), 0);
	pthread_join(thread, NULL);
	signal(SIGUSR1, SIG_DFL);
	rig_close(&rig);
}

static void ignore_in_handler(int signal)
{
}

/* The timer goes on until one of its signals finds the thread in its wait. */
static void expect_interrupted(struct rig *rig)
{
	const struct itimerval often = { { 0, 5000 }, { 0, 5000 } };
	const struct itimerval never = { 0 };

	setitimer(ITIMER_REAL, &often, NULL);
	assert_int_equal(rig->ops->enter(rig->lane, LANE_WAIT_FOREVER, 1), -EINTR);
	setitimer(ITIMER_REAL, &never, NULL);
}

static void a_signal_ends_the_wait_with_eintr(void **state)
{
	struct sigaction action = { .sa_handler = ignore_in_handler, .sa_flags = SA_RESTART };
	struct rig rig;
	uint32_t file;

	rig_open(&rig, *state);
	file = add_gate(&rig);
	sigaction(SIGALRM, &action, NULL);
	expect_interrupted(&rig);
	queue_gated(&rig, file, 1);
	expect_interrupted(&rig); /* the read is handed over */
	expect_interrupted(&rig); /* nothing is */
	signal(SIGALRM, SIG_DFL);
	open_gate(1);
	assert_int_equal(finish(&rig, 1), 1);
	rig_close(&rig);
}

static void expect_notification(int eventfd)
{
	struct pollfd poll_fd = { .fd = eventfd, .events = POLLIN };
	uint64_t count;

	assert_int_equal(poll(&poll_fd, 1, -1), 1);
	assert_int_equal(read(eventfd, &count, sizeof(count)), sizeof(count));
}

/* Without another enter: the caller sits in its event loop. */
static void completions_are_notified(void **state)
{
	int first = eventfd(0, EFD_NONBLOCK);
	int second = eventfd(0, EFD_NONBLOCK);
	struct rig rig;
	uint32_t file;
	uint64_t count;

	rig_open(&rig, *state);
	file = add_gate(&rig);
	assert_int_equal(rig.ops->notify(rig.lane, first), 0);
	queue_gated(&rig, file, 1);
	assert_int_equal(rig.ops->enter(rig.lane, 0, 1), 0);
	open_gate(1);
	expect_notification(first);
	assert_int_equal(finish(&rig, 1), 1);

	while (read(first, &count, sizeof(count)) > 0)
		;
	assert_int_equal(rig.ops->notify(rig.lane, second), 0);
	queue_gated(&rig, file, 2);
	assert_int_equal(rig.ops->enter(rig.lane, 0, 1), 0);
	open_gate(1);
	expect_notification(second);
	assert_int_equal(finish(&rig, 2), 1);
	assert_int_equal(read(first, &count, sizeof(count)), -1);
	rig_close(&rig);
	close(first);
	close(second);
}

/* ---- Giving up ------------------------------------------------------------------------ */

/*
 * Behind reads that keep all workers busy, or that io_uring polls for: the lanes
 * can give it up. It has to end while the others are still in flight.
 */
static void a_cancelled_read_ends(void **state)
{
	const struct variant *variant = *state;
	uint32_t before = variant->threads ? variant->threads : 1;
	struct lane_completion completion;
	struct rig rig;
	uint32_t file;

	rig_open(&rig, variant);
	file = add_gate(&rig);
	for (uint32_t token = 0; token < before; token++)
		queue_gated(&rig, file, token);
	queue_gated(&rig, file, 100);
	assert_int_equal(rig.ops->enter(rig.lane, 0, 1), 0);
	rig.ops->cancel(rig.lane, 100);
	assert_int_equal(finish(&rig, 100), -ECANCELED);

	queue_gated(&rig, file, 101);
	rig.ops->cancel(rig.lane, 101); /* not handed over yet */
	assert_int_equal(finish(&rig, 101), -ECANCELED);
	expect_nothing(&rig);

	open_gate(before);
	for (uint32_t left = before; left; left--) {
		reap_one(&rig, &completion);
		assert_in_range(completion.token, 0, before - 1);
		assert_int_equal(completion.result, 1);
	}
	keep_full(&rig, 500);
	rig_close(&rig);
}

/* A worker that gets free before the next enter finds nothing. */
static void a_cancelled_read_is_not_begun_later(void **state)
{
	const struct variant *variant = *state;
	struct pollfd poll_fd = { .events = POLLIN };
	struct lane_completion completion;
	struct rig rig;
	uint32_t file;

	rig_open(&rig, variant);
	file = add_gate(&rig);
	for (uint32_t token = 0; token <= variant->threads; token++)
		queue_gated(&rig, file, token);
	assert_int_equal(rig.ops->enter(rig.lane, 0, 1), 0);
	rig.ops->cancel(rig.lane, variant->threads);
	open_gate(variant->threads);
	for (uint32_t left = variant->threads + 1; left;)
		left -= take(&rig, &completion);
	open_gate(1);
	expect_full_wait(&rig);
	poll_fd.fd = gate[0];
	assert_int_equal(poll(&poll_fd, 1, 0), 1); /* the byte is still there */
	rig_close(&rig);
}

/* More cancels than there are spare entries for; then the lane is as good as before. */
static void a_full_lane_is_cancelled(void **state)
{
	struct lane_completion completion;
	struct rig rig;
	uint32_t file;

	rig_open(&rig, *state);
	file = add_gate(&rig);
	for (int round = 0; round < 3; round++) {
		bool seen[DEPTH] = { false };

		for (uint32_t token = 0; token < DEPTH; token++)
			queue_gated(&rig, file, token);
		for (uint32_t token = 0; token < DEPTH; token++)
			rig.ops->cancel(rig.lane, token);
		for (uint32_t done = 0; done < DEPTH; done++) {
			reap_one(&rig, &completion);
			assert_in_range(completion.token, 0, DEPTH - 1);
			assert_false(seen[completion.token]);
			assert_int_equal(completion.result, -ECANCELED);
			seen[completion.token] = true;
		}
	}
	keep_full(&rig, 500);
	rig_close(&rig);
}

/* Its own completion, which the caller must not see, does not end the wait either. */
static void a_cancel_that_finds_nothing_is_not_seen(void **state)
{
	struct rig rig;

	rig_open(&rig, *state);
	for (int i = 0; i < 1000; i++)
		rig.ops->cancel(rig.lane, 1234);
	expect_full_wait(&rig);
	keep_full(&rig, 500);
	rig_close(&rig);
}

/* ---- Threads --------------------------------------------------------------------------- */

static void *use_lane(void *argument)
{
	struct rig *rig = argument;
	uint32_t buffer = LANE_NO_BUFFER;

	assert_int_equal(rig->ops->file_add(rig->lane, rig->fd, &rig->file), 0);
	if (rig->ops == &lane_uring)
		assert_int_equal(
			rig->ops->buffer_add(rig->lane, rig->memory, (PAGES + 1) * PAGE, &buffer),
			0);
	check_pieces(rig, buffer);
	keep_full(rig, 500);
	rig->ops->file_remove(rig->lane, rig->file);
	return NULL;
}

static void the_thread_that_uses_a_lane_need_not_have_opened_it(void **state)
{
	struct rig rig;
	pthread_t thread;

	rig_open_empty(&rig, *state);
	assert_int_equal(pthread_create(&thread, NULL, use_lane, &rig), 0);
	pthread_join(thread, NULL);
	rig_close(&rig);
}

struct start {
	struct rig *rig;
	uint32_t gate_file;
};

static void *start_and_leave(void *argument)
{
	struct start *start = argument;

	queue_gated(start->rig, start->gate_file, 1);
	/* Arms the wake-up in this thread's name. */
	assert_int_equal(start->rig->ops->enter(start->rig->lane, 1000, 1), 0);
	return NULL;
}

/* The kernel may give a read up with the thread that submitted it, but says so. */
static void reads_and_wakes_outlive_the_thread_that_submitted(void **state)
{
	struct start start;
	struct rig rig;
	pthread_t thread;
	int32_t result;

	rig_open(&rig, *state);
	start = (struct start){ &rig, add_gate(&rig) };
	assert_int_equal(pthread_create(&thread, NULL, start_and_leave, &start), 0);
	pthread_join(thread, NULL);

	assert_int_equal(pthread_create(&thread, NULL, call_wake, &rig), 0);
	assert_int_equal(rig.ops->enter(rig.lane, LANE_WAIT_FOREVER, 1), 0);
	pthread_join(thread, NULL);

	open_gate(1);
	result = finish(&rig, 1);
	assert_true(result == 1 || result == -ECANCELED);
	rig_close(&rig);
}

/* Whether a thread of that directory in /proc blocks the signal. -1: no worker. */
static int worker_blocks(const char *task, int signal)
{
	unsigned long long blocked = 0;
	bool is_worker = false;
	char line[128];
	char path[300];
	FILE *status;

	snprintf(path, sizeof(path), "/proc/self/task/%s/status", task);
	status = fopen(path, "r");
	if (!status)
		return -1;
	while (fgets(line, sizeof(line), status)) {
		is_worker |= strcmp(line, "Name:\tgds-lane\n") == 0;
		if (strncmp(line, "SigBlk:", 7) == 0)
			blocked = strtoull(line + 7, NULL, 16);
	}
	fclose(status);
	return is_worker ? (int)(blocked >> (signal - 1) & 1) : -1;
}

static void signals_do_not_land_on_workers(void **state)
{
	const struct variant *variant = *state;
	struct dirent *entry;
	uint32_t workers = 0;
	struct rig rig;
	DIR *tasks;

	rig_open(&rig, variant);
	tasks = opendir("/proc/self/task");
	assert_non_null(tasks);
	while ((entry = readdir(tasks))) {
		int blocks = worker_blocks(entry->d_name, SIGTERM);

		assert_int_not_equal(blocks, 0);
		workers += blocks == 1;
	}
	closedir(tasks);
	assert_int_equal(workers, variant->threads);
	rig_close(&rig);
}

/* ---- io_uring alone --------------------------------------------------------------------- */

/*
 * The kernel does not say so where it has also submitted a read. The signal is
 * pending, and let in by the wait itself, so that it comes once and in time.
 */
static void a_signal_is_told_after_a_submission(void **state)
{
	struct sigaction action = { .sa_handler = ignore_in_handler };
	struct rig rig;
	sigset_t alarm_signal;

	rig_open(&rig, *state);
	sigemptyset(&alarm_signal);
	sigaddset(&alarm_signal, SIGALRM);
	sigprocmask(SIG_BLOCK, &alarm_signal, NULL);
	sigaction(SIGALRM, &action, NULL);
	raise(SIGALRM);
	queue_gated(&rig, add_gate(&rig), 1);
	enter_unblocked = true;
	assert_int_equal(rig.ops->enter(rig.lane, LANE_WAIT_FOREVER, 1), -EINTR);
	enter_unblocked = false;
	signal(SIGALRM, SIG_DFL);
	sigprocmask(SIG_UNBLOCK, &alarm_signal, NULL);
	open_gate(1);
	assert_int_equal(finish(&rig, 1), 1);
	rig_close(&rig);
}

/* An eventfd that is left readable would turn each later wait into a busy loop. */
static void a_wait_after_a_wake_sleeps(void **state)
{
	struct rig rig;

	rig_open(&rig, *state);
	rig.ops->wake(rig.lane);
	assert_int_equal(rig.ops->enter(rig.lane, LANE_WAIT_FOREVER, 1), 0);
	enter_calls = 0;
	expect_full_wait(&rig);
	assert_in_range(enter_calls, 1, 2); /* two: the wake's own completion comes first */
	rig_close(&rig);
}

static void removed_memory_is_out_of_reach(void **state)
{
	struct rig rig;
	uint32_t first;
	uint32_t second;

	rig_open(&rig, *state);
	assert_int_equal(rig.ops->buffer_add(rig.lane, rig.memory, PAGE, &first), 0);
	assert_int_equal(read_at(&rig, rig.file, 0, rig.memory, PAGE, first), PAGE);
	rig.ops->buffer_remove(rig.lane, first);
	assert_int_equal(read_at(&rig, rig.file, 0, rig.memory, PAGE, first), -EFAULT);

	assert_int_equal(rig.ops->buffer_add(rig.lane, rig.memory + PAGE, PAGE, &second), 0);
	assert_int_equal(first, second);
	assert_int_equal(read_at(&rig, rig.file, 0, rig.memory, PAGE, second), -EFAULT);
	assert_int_equal(read_at(&rig, rig.file, 0, rig.memory + PAGE, PAGE, second), PAGE);
	assert_memory_equal(rig.memory + PAGE, rig.contents, PAGE);
	rig_close(&rig);
}

static void a_full_table_of_buffers_is_said(void **state)
{
	struct rig rig;
	uint32_t buffer;
	size_t count = 0;
	int ret;

	rig_open(&rig, *state);
	do
		ret = rig.ops->buffer_add(rig.lane, rig.memory, PAGE, &buffer);
	while (!ret && ++count < 100000);
	if (ret == -ENOMEM) {
		print_message("%s\n", gds_last_error());
		rig_close(&rig);
		skip();
	}
	assert_int_equal(ret, -ENOSPC);
	assert_int_equal(count, 4096);
	rig.ops->buffer_remove(rig.lane, buffer);
	assert_int_equal(rig.ops->buffer_add(rig.lane, rig.memory, PAGE, &buffer), 0);
	rig_close(&rig);
}

/* Each kernel lacks what came later than the one before. */
static void older_kernels_lack_flags_and_work(void **state)
{
	static const struct {
		const char *reason;
		uint32_t flags;
		bool always; /* not only for one thread */
	} kernels[] = {
		{ "NO_SQARRAY (Linux 6.6)", IORING_SETUP_NO_SQARRAY, true },
		{ "DEFER_TASKRUN (Linux 6.1)", IORING_SETUP_DEFER_TASKRUN, false },
		{ "SINGLE_ISSUER (Linux 6.0)", IORING_SETUP_SINGLE_ISSUER, false },
		{ "COOP_TASKRUN (Linux 5.19)", IORING_SETUP_COOP_TASKRUN, false },
		{ "SUBMIT_ALL (Linux 5.18)", IORING_SETUP_SUBMIT_ALL, true },
	};
	const struct variant *variant = *state;
	struct rig rig;
	uint32_t buffer;

	rig_open(&rig, *state);
	rig_close(&rig);
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		unknown_flags |= kernels[i].flags;
		rig_open(&rig, *state);
		if (variant->flags & LANE_SINGLE_THREAD || kernels[i].always)
			assert_non_null(strstr(rig.lane->reason, kernels[i].reason));
		check_pieces(&rig, LANE_NO_BUFFER);
		assert_int_equal(
			rig.ops->buffer_add(rig.lane, rig.memory, (PAGES + 1) * PAGE, &buffer), 0);
		check_pieces(&rig, buffer);
		keep_full(&rig, 500);
		rig_close(&rig);
	}
	unknown_flags = 0;
}

static void a_kernel_without_sparse_tables_is_too_old(void **state)
{
	static const uint32_t opcodes[] = { IORING_REGISTER_FILES2, IORING_REGISTER_BUFFERS2 };
	struct lane *lane;
	struct rig rig;

	rig_open(&rig, *state);
	rig_close(&rig);
	for (size_t i = 0; i < 2; i++) {
		unknown_opcode = opcodes[i];
		assert_int_equal(lane_open(&lane, *state), -ENOSYS);
		assert_non_null(strstr(gds_last_error(), "5.19"));
	}
	unknown_opcode = UINT32_MAX;
}

static void check_faults(struct rig *rig, int error)
{
	struct lane_completion completion;
	uint32_t file = add_gate(rig);

	enter_error = error;
	enter_faults = 200;
	keep_full(rig, 3000);

	/* Nothing in flight that could end the wait before memory comes back. */
	enter_faults = 3;
	queue_gated(rig, file, 1);
	open_gate(1);
	assert_int_equal(finish(rig, 1), 1);

	/* No memory at all: the time is over, and the read still in the queue. */
	enter_faults = 1000000;
	enter_error = error ? error : EAGAIN;
	queue_gated(rig, file, 2);
	expect_full_wait(rig);
	assert_int_equal(rig->ops->enter(rig->lane, 0, 1), 0);
	assert_false(take(rig, &completion));
	enter_faults = 0;
	open_gate(1);
	assert_int_equal(finish(rig, 2), 1);
}

static void a_kernel_short_of_memory_loses_no_read(void **state)
{
	static const int errors[] = { 0, EAGAIN, EBUSY };
	struct rig rig;

	rig_open(&rig, *state);
	for (size_t i = 0; i < 3; i++)
		check_faults(&rig, errors[i]);
	rig_close(&rig);
}

static int refuse_system_call(uint32_t number, uint32_t error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(filter) / sizeof(filter[0]), .filter = filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) ? -errno : 0;
}

/* 0: as it should be; 77: no seccomp here; else a step that failed. */
static int open_refused(const struct variant *variant, uint32_t number, int error)
{
	struct lane *lane;

	if (refuse_system_call(number, (uint32_t)error))
		return 77;
	if (lane_open(&lane, variant) != -error)
		return 1;
	if (!strstr(gds_last_error(), "seccomp") && !strstr(gds_last_error(), "disabled is"))
		return 2;
	if (!strstr(gds_last_error(), "thread lane"))
		return 3;
	return strlen(gds_last_error()) < sizeof(lane->reason) ? 0 : 4;
}

static void expect_refusal(const struct variant *variant, uint32_t number, int error)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child)
		_exit(open_refused(variant, number, error));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		print_message("this system takes no seccomp filter\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_refused_io_uring_is_explained(void **state)
{
	expect_refusal(*state, SYS_io_uring_setup, EPERM);
	expect_refusal(*state, SYS_io_uring_setup, ENOSYS);
	expect_refusal(*state, SYS_io_uring_register, EPERM);
	expect_refusal(*state, SYS_io_uring_enter, EPERM);
}

/*
 * Runs `step` in a process without privileges, whose locked memory is limited; root's
 * is not. The kernel counts by user, so it gets one that nothing else runs as. 0: as
 * it should be; 77: the kernel does not limit this; else what failed.
 */
static int run_limited(int (*step)(const struct variant *variant), const struct variant *variant,
		       size_t locked_bytes)
{
	const struct rlimit limit = { locked_bytes, locked_bytes };
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		if (setrlimit(RLIMIT_MEMLOCK, &limit) ||
		    (!getuid() && setuid(1000000 + (uid_t)getpid())))
			_exit(99);
		_exit(step(variant));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int pin_too_much(const struct variant *variant)
{
	struct lane *lane;
	uint32_t buffer;
	void *memory = map_memory();

	if (lane_open(&lane, variant))
		return 1;
	if (variant->ops->buffer_add(lane, memory, (PAGES + 1) * PAGE, &buffer) != -ENOMEM)
		return 2;
	if (!strstr(gds_last_error(), "ulimit -l"))
		return 3;
	if (variant->ops->buffer_add(lane, memory, PAGE, &buffer))
		return 4;
	variant->ops->close(lane);
	return 0;
}

static int open_without_memory(const struct variant *variant)
{
	struct lane *lane;
	int ret = lane_open(&lane, variant);

	if (!ret)
		return 77;
	return ret == -ENOMEM && strstr(gds_last_error(), "ulimit -l") ? 0 : 1;
}

static void the_limit_on_locked_memory_is_told(void **state)
{
	struct rig rig;
	int opened;

	rig_open(&rig, *state);
	rig_close(&rig);
	assert_int_equal(run_limited(pin_too_much, *state, PAGES * PAGE / 2), 0);
	opened = run_limited(open_without_memory, *state, 0);
	if (opened == 77) {
		print_message("this kernel counts no rings against the limit\n");
		skip();
	}
	assert_int_equal(opened, 0);
}

/* ---- The table ---------------------------------------------------------------------------- */

struct test {
	const char *name;
	CMUnitTestFunction run;
	const struct lane_ops *only; /* on this lane, or NULL */
	uint32_t without;            /* not where one of these flags is set */
};

#define TEST(function) .name = #function, .run = function

static const struct test tests[] = {
	{ TEST(reads_are_exact) },
	{ TEST(reads_into_registered_memory_are_exact) },
	{ TEST(direct_reads_are_exact) },
	{ TEST(no_read_is_lost_at_full_depth) },
	{ TEST(reads_end_with_the_file) },
	{ TEST(a_write_only_file_gives_ebadf) },
	{ TEST(memory_that_cannot_be_written_gives_efault) },
	{ TEST(a_misaligned_direct_read_gives_einval) },
	{ TEST(a_closed_descriptor_is_not_added) },
	{ TEST(the_number_of_a_removed_file_is_used_again) },
	{ TEST(files_beyond_the_table_are_read) },
	{ TEST(a_wait_ends_with_its_time) },
	{ TEST(completions_are_seen_without_waiting) },
	{ TEST(wake_ends_one_wait_of_another_thread) },
	{ TEST(wake_ends_the_next_wait) },
	{ TEST(wake_works_in_a_signal_handler) },
	{ TEST(a_signal_ends_the_wait_with_eintr) },
	{ TEST(completions_are_notified) },
	{ TEST(a_cancelled_read_ends) },
	{ TEST(a_cancelled_read_is_not_begun_later), .only = &lane_threads },
	{ TEST(a_full_lane_is_cancelled) },
	{ TEST(a_cancel_that_finds_nothing_is_not_seen) },
	{ TEST(the_thread_that_uses_a_lane_need_not_have_opened_it) },
	{ TEST(reads_and_wakes_outlive_the_thread_that_submitted), .without = LANE_SINGLE_THREAD },
	{ TEST(signals_do_not_land_on_workers), .only = &lane_threads },
	{ TEST(a_signal_is_told_after_a_submission), .only = &lane_uring },
	{ TEST(a_wait_after_a_wake_sleeps), .only = &lane_uring },
	{ TEST(removed_memory_is_out_of_reach), .only = &lane_uring },
	{ TEST(a_full_table_of_buffers_is_said), .only = &lane_uring },
	{ TEST(older_kernels_lack_flags_and_work), .only = &lane_uring },
	{ TEST(a_kernel_without_sparse_tables_is_too_old), .only = &lane_uring },
	{ TEST(a_kernel_short_of_memory_loses_no_read), .only = &lane_uring },
	{ TEST(a_refused_io_uring_is_explained), .only = &lane_uring },
	{ TEST(the_limit_on_locked_memory_is_told), .only = &lane_uring },
};

#define TESTS    (sizeof(tests) / sizeof(tests[0]))
#define VARIANTS (sizeof(variants) / sizeof(variants[0]))

static bool applies(const struct test *test, const struct variant *variant)
{
	return (!test->only || test->only == variant->ops) && !(test->without & variant->flags);
}

int main(void)
{
	static struct CMUnitTest table[TESTS * VARIANTS];
	static char names[TESTS * VARIANTS][96];
	size_t count = 0;

	for (size_t v = 0; v < VARIANTS; v++) {
		for (size_t t = 0; t < TESTS; t++) {
			if (!applies(&tests[t], &variants[v]))
				continue;
			snprintf(names[count], sizeof(names[count]), "%s: %s", variants[v].name,
				 tests[t].name);
			table[count] = (struct CMUnitTest){ names[count], tests[t].run, NULL, NULL,
							    &variants[v] };
			count++;
		}
	}
	return _cmocka_run_group_tests("lane", table, count, NULL, NULL);
}
