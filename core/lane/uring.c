/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The io_uring lane.
 *
 * liburing sets the ring up. What runs once for each read is in line: entries are
 * written by lane/ring.h, and completions are looked at where the kernel puts them.
 *
 * With LANE_SINGLE_THREAD the ring has one issuer, which spares the kernel its
 * locking and lets completions wait until that thread asks for them. The ring
 * starts disabled, so that the thread which first uses the lane becomes the
 * issuer, whichever thread opened it.
 *
 * Without it completions are finished in the thread that submitted the read, and
 * another thread may be waiting for them. IORING_SETUP_COOP_TASKRUN, which lets them
 * wait until the submitter enters the kernel by itself, would hold the second thread
 * up while the first one computes, until its next timer tick if it has one: it is
 * left out there.
 *
 * wake() writes to an eventfd that the ring polls. A poll and not a read: it
 * leaves nothing in our memory, whenever the kernel drops it after close.
 */
#include "base/bits.h"
#include "base/error.h"
#include "lane/deadline.h"
#include "lane/dmabuf.h"
#include "lane/lane.h"
#include "lane/ring.h"
#include "lane/uapi.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

/*
 * The tables of registered files and buffers cannot grow while they are in use,
 * so they are made large at once; the kernel takes 8 to 16 bytes for each slot. A
 * file that finds no slot goes by its descriptor; a buffer is refused.
 */
#define FILE_SLOTS   1024
#define BUFFER_SLOTS 4096

/* Entries beside the reads': the poll of the wake eventfd, and cancels. */
#define SPARE_CANCELS 7
#define SPARE_ENTRIES (1 + SPARE_CANCELS)

/* How long to wait for resources before submitting again, when nothing else wakes us. */
#define RETRY_NS UINT64_C(1000000)

#define TOKEN_CANCEL (LANE_TOKEN_MAX + 1)
#define TOKEN_WAKE   (LANE_TOKEN_MAX + 2)

#define likely(condition)   __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* A stack of the numbers that are free. */
struct slots {
	uint32_t *free;
	uint32_t count;
};

struct uring_lane {
	struct lane base;

	struct lane_ring sq;
	struct io_uring_cqe *cqes;
	uint32_t cq_mask;
	uint32_t cq_head;
	uint32_t *sq_khead;
	uint32_t *sq_ktail;
	uint32_t *sq_kflags;
	uint32_t *cq_khead;
	uint32_t *cq_ktail;

	int enter_fd;         /* the ring's, or its number among the thread's own */
	uint32_t enter_flags; /* IORING_ENTER_REGISTERED_RING for the latter */
	bool adopted;         /* an issuer is set, or none is needed */
	bool wake_armed;
	uint32_t cancels; /* queued since the submission ring was last empty */
	atomic_bool woken;
	int wake_fd;

	struct io_uring ring;
	uint32_t setup_flags;
	enum dmabuf_shape dmabuf_shape;
	pthread_t issuer;
	struct slots files;
	struct slots buffers;
	bool notifying;
};

static struct uring_lane *to_uring(struct lane *lane)
{
	return (struct uring_lane *)lane;
}

/* ---- Slots ------------------------------------------------------------------ */

static int slots_create(struct slots *slots, uint32_t size)
{
	slots->free = malloc(size * sizeof(*slots->free));
	if (!slots->free)
		return gds_fail(ENOMEM, "no memory for a table of %u slots", size);
	while (slots->count < size) {
		slots->free[slots->count] = size - 1 - slots->count;
		slots->count++;
	}
	return 0;
}

static bool slots_take(struct slots *slots, uint32_t *slot)
{
	if (!slots->count)
		return false;
	*slot = slots->free[--slots->count];
	return true;
}

static void slots_give(struct slots *slots, uint32_t slot)
{
	slots->free[slots->count++] = slot;
}

/* ---- Opening ---------------------------------------------------------------- */

/* What a kernel may lack. Dropped one after another, from the top. */
static const struct {
	uint32_t flags;
	const char *name;
	const char *since;
} optional_flags[] = {
	{ IORING_SETUP_NO_SQARRAY, "NO_SQARRAY", "6.6" },
	{ IORING_SETUP_DEFER_TASKRUN, "DEFER_TASKRUN", "6.1" },
	{ IORING_SETUP_SINGLE_ISSUER, "SINGLE_ISSUER", "6.0" },
	{ IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, "COOP_TASKRUN", "5.19" },
	{ IORING_SETUP_SUBMIT_ALL, "SUBMIT_ALL", "5.18" },
};

static uint32_t wanted_flags(const struct lane_options *options)
{
	uint32_t flags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_NO_SQARRAY;

	if (options->flags & LANE_SINGLE_THREAD)
		flags |= IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
			 IORING_SETUP_TASKRUN_FLAG;
	return flags;
}

static void note_lack(struct uring_lane *lane, const char *name, const char *since)
{
	char *reason = lane->base.reason;
	size_t used = strlen(reason);

	gds_text_set(reason + used, sizeof(lane->base.reason) - used,
		     "%sIORING_SETUP_%s (Linux %s)", used ? ", " : "this kernel's io_uring lacks ",
		     name, since);
}

/* The value of sysctl kernel.io_uring_disabled; 0 too where there is no such switch. */
static int io_uring_disabled(void)
{
	FILE *file = fopen("/proc/sys/kernel/io_uring_disabled", "re");
	char line[16] = "";
	int value = 0;

	if (!file)
		return 0;
	if (fgets(line, sizeof(line), file))
		value = (int)strtol(line, NULL, 10);
	fclose(file);
	return value;
}

static int too_old(void)
{
	struct utsname system;

	uname(&system);
	return gds_fail(ENOSYS,
			"the io_uring of this kernel (%s) is too old: Linux 5.19 is needed; "
			"use the thread lane",
			system.release);
}

static int refused(int error)
{
	if (error == ENOSYS)
		return gds_fail(error, "this kernel has no io_uring (5.19 is needed), or a "
				       "container's seccomp profile hides it: allow it there, or "
				       "use the thread lane");
	if (error == ENOMEM)
		return gds_fail(error, "no memory for io_uring, or the limit on locked memory "
				       "forbids it: raise it (ulimit -l), or use the thread lane");
	if (error != EPERM)
		return gds_fail_errno(error, "cannot set up io_uring");
	if (io_uring_disabled())
		return gds_fail(
			error,
			"io_uring is refused: sysctl kernel.io_uring_disabled is %d; set it "
			"to 0, or use the thread lane",
			io_uring_disabled());
	return gds_fail(error,
			"io_uring is refused by a seccomp profile (sysctl kernel.io_uring_disabled "
			"is 0): run the container with one that allows io_uring, or use the thread "
			"lane");
}

/* Returns the ring's descriptor, with as many of the flags as the kernel knows. */
static int setup(struct uring_lane *lane, uint32_t entries, uint32_t flags,
		 struct io_uring_params *params)
{
	size_t next = 0;
	int fd;

	for (;;) {
		*params = (struct io_uring_params){ .flags = flags };
		fd = io_uring_setup(entries, params);
		if (fd != -EINVAL || next == sizeof(optional_flags) / sizeof(optional_flags[0]))
			return fd;
		if (flags & optional_flags[next].flags)
			note_lack(lane, optional_flags[next].name, optional_flags[next].since);
		flags &= ~optional_flags[next++].flags;
	}
}

/* Without NO_SQARRAY: entries go in order all the same, so the array never changes. */
static void fill_array(struct io_uring *ring)
{
	for (uint32_t i = 0; i <= ring->sq.ring_mask; i++)
		ring->sq.array[i] = i;
}

/*
 * The completion ring gets twice the entries of the submission ring, which is more
 * than the depth: only needless cancels could fill it, and then the kernel keeps
 * what does not fit (IORING_FEAT_NODROP).
 */
static int open_ring(struct uring_lane *lane, const struct lane_options *options)
{
	struct io_uring_params params;
	struct io_uring *ring = &lane->ring;
	int fd;
	int ret;

	fd = setup(lane, options->depth + SPARE_ENTRIES, wanted_flags(options), &params);
	if (fd < 0)
		return refused(-fd);
	ret = io_uring_queue_mmap(fd, &params, ring);
	if (ret) {
		close(fd);
		ring->ring_fd = -1;
		return gds_fail_errno(-ret, "cannot map the rings of io_uring");
	}
	/* Newer versions of liburing leave these to the caller. */
	ring->ring_fd = fd;
	ring->enter_ring_fd = fd;
	if (!(params.features & IORING_FEAT_EXT_ARG) || !(params.features & IORING_FEAT_NODROP))
		return too_old();
	if (!(params.flags & IORING_SETUP_NO_SQARRAY))
		fill_array(ring);

	lane->setup_flags = params.flags;
	lane->adopted = !(options->flags & LANE_SINGLE_THREAD);
	lane->enter_fd = fd;
	lane->base.ring = &lane->sq;
	lane->sq.entries = ring->sq.sqes;
	lane->sq.mask = params.sq_entries - 1;
	lane->sq_khead = ring->sq.khead;
	lane->sq_ktail = ring->sq.ktail;
	lane->sq_kflags = ring->sq.kflags;
	lane->cqes = ring->cq.cqes;
	lane->cq_mask = params.cq_entries - 1;
	lane->cq_khead = ring->cq.khead;
	lane->cq_ktail = ring->cq.ktail;
	return 0;
}

/*
 * A filter may refuse this call alone, which would show at the first read only. Any
 * other error is the ring's own: one that is not enabled yet says -EBADFD.
 */
static int probe_enter(struct uring_lane *lane)
{
	int ret = io_uring_enter2((unsigned int)lane->ring.ring_fd, 0, 0, 0, NULL, 0);

	return ret == -EPERM || ret == -ENOSYS ? refused(-ret) : 0;
}

static int register_sparse(struct uring_lane *lane, unsigned int opcode, uint32_t size)
{
	struct io_uring_rsrc_register table = { .nr = size, .flags = IORING_RSRC_REGISTER_SPARSE };
	int ret =
		io_uring_register((unsigned int)lane->ring.ring_fd, opcode, &table, sizeof(table));

	if (ret == -EINVAL)
		return too_old();
	return ret < 0 ? refused(-ret) : 0;
}

/* The kernel takes no more slots for files than descriptors may be open. */
static uint32_t file_slots(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < FILE_SLOTS)
		return (uint32_t)limit.rlim_cur;
	return FILE_SLOTS;
}

/*
 * Sparse tables came with Linux 5.19. A kernel that has them has every operation
 * that is used here.
 */
static int open_tables(struct uring_lane *lane)
{
	uint32_t files = file_slots();
	int ret;

	ret = register_sparse(lane, IORING_REGISTER_FILES2, files);
	if (ret)
		return ret;
	ret = register_sparse(lane, IORING_REGISTER_BUFFERS2, BUFFER_SLOTS);
	if (ret)
		return ret;
	ret = slots_create(&lane->files, files);
	if (ret)
		return ret;
	return slots_create(&lane->buffers, BUFFER_SLOTS);
}

/*
 * Lets go of the tables at once: the kernel frees a closed ring some time later,
 * and until then pinned memory would count against the limit, and files keep their
 * disks busy. In a thread that is not the issuer it is left to the kernel.
 */
static void close_tables(struct uring_lane *lane)
{
	struct io_uring_rsrc_update registered = { .offset = (uint32_t)lane->enter_fd };

	io_uring_unregister_buffers(&lane->ring);
	io_uring_unregister_files(&lane->ring);
	if (lane->enter_flags && pthread_equal(lane->issuer, pthread_self()))
		io_uring_register((unsigned int)lane->ring.ring_fd, IORING_UNREGISTER_RING_FDS,
				  &registered, 1);
}

static void uring_close(struct lane *base)
{
	struct uring_lane *lane = to_uring(base);

	if (lane->ring.ring_fd >= 0) {
		close_tables(lane);
		io_uring_queue_exit(&lane->ring);
	}
	if (lane->wake_fd >= 0)
		close(lane->wake_fd);
	free(lane->files.free);
	free(lane->buffers.free);
	free(lane);
}

static int uring_open(struct lane **out, const struct lane_options *options)
{
	struct uring_lane *lane = calloc(1, sizeof(*lane));
	int ret;

	if (!lane)
		return gds_fail(ENOMEM, "no memory for an io_uring lane");
	lane->base.ops = &lane_uring;
	lane->dmabuf_shape = options->dmabuf_shape;
	lane->ring.ring_fd = -1;
	lane->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = lane->wake_fd < 0 ? gds_fail_errno(errno, "cannot make an eventfd") : 0;
	if (!ret)
		ret = open_ring(lane, options);
	if (!ret)
		ret = probe_enter(lane);
	if (!ret)
		ret = open_tables(lane);
	if (ret) {
		uring_close(&lane->base);
		return ret;
	}
	*out = &lane->base;
	return 0;
}

/*
 * Makes the calling thread the issuer. The ring is registered with the thread, so
 * that the kernel need not look its descriptor up at each enter; older kernels and
 * a thread with many rings do without.
 */
static int adopt(struct uring_lane *lane)
{
	struct io_uring_rsrc_update self = { .offset = UINT32_MAX,
					     .data = (uint64_t)lane->ring.ring_fd };
	int ret = io_uring_register((unsigned int)lane->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS,
				    NULL, 0);

	if (ret < 0)
		return gds_fail_errno(-ret, "cannot enable the io_uring of this thread");
	lane->adopted = true;
	lane->issuer = pthread_self();
	if (io_uring_register((unsigned int)lane->ring.ring_fd, IORING_REGISTER_RING_FDS, &self,
			      1) == 1) {
		lane->enter_fd = (int)self.offset;
		lane->enter_flags = IORING_ENTER_REGISTERED_RING;
	}
	return 0;
}

/* ---- Files and buffers ------------------------------------------------------- */

static int uring_file_add(struct lane *base, int fd, uint32_t *file)
{
	struct uring_lane *lane = to_uring(base);
	uint32_t slot;
	int ret;

	ret = lane->adopted ? 0 : adopt(lane);
	if (ret)
		return ret;
	if (!slots_take(&lane->files, &slot)) {
		*file = (uint32_t)fd;
		return 0;
	}
	ret = io_uring_register_files_update(&lane->ring, slot, &fd, 1);
	if (ret < 0) {
		slots_give(&lane->files, slot);
		return gds_fail_errno(-ret, "cannot register descriptor %d with io_uring", fd);
	}
	*file = FILE_IN_SLOT | slot;
	return 0;
}

static void uring_file_remove(struct lane *base, uint32_t file)
{
	struct uring_lane *lane = to_uring(base);
	int none = -1;

	if (!(file & FILE_IN_SLOT))
		return;
	io_uring_register_files_update(&lane->ring, file & ~FILE_IN_SLOT, &none, 1);
	slots_give(&lane->files, file & ~FILE_IN_SLOT);
}

static int buffer_refused(int error, const void *address, size_t bytes)
{
	if (error == EFAULT)
		return gds_fail(error,
				"the kernel cannot pin the %zu bytes at %p: not memory that "
				"storage can write to",
				bytes, address);
	if (error == ENOMEM)
		return gds_fail(error,
				"the limit on locked memory forbids to pin %zu bytes; raise "
				"it (ulimit -l)",
				bytes);
	return gds_fail_errno(error, "cannot register %zu bytes at %p with io_uring", bytes,
			      address);
}

static int uring_buffer_add(struct lane *base, void *address, size_t bytes, uint32_t *buffer)
{
	struct uring_lane *lane = to_uring(base);
	struct iovec vector = { .iov_base = address, .iov_len = bytes };
	uint32_t slot;
	int ret;

	ret = lane->adopted ? 0 : adopt(lane);
	if (ret)
		return ret;
	if (!slots_take(&lane->buffers, &slot))
		return gds_fail(ENOSPC, "all %u slots for registered memory are taken",
				BUFFER_SLOTS);
	ret = io_uring_register_buffers_update_tag(&lane->ring, slot, &vector, NULL, 1);
	if (ret < 0) {
		slots_give(&lane->buffers, slot);
		return buffer_refused(-ret, address, bytes);
	}
	*buffer = slot;
	return 0;
}

static int uring_dmabuf_add(struct lane *base, int fd, int dmabuf, uint32_t *buffer)
{
	struct uring_lane *lane = to_uring(base);
	uint32_t slot;
	int ret;

	ret = lane->adopted ? 0 : adopt(lane);
	if (ret)
		return ret;
	if (!slots_take(&lane->buffers, &slot))
		return -ENOSPC;
	ret = dmabuf_register(lane->ring.ring_fd, lane->dmabuf_shape, slot, fd, dmabuf);
	if (ret)
		slots_give(&lane->buffers, slot);
	else
		*buffer = slot;
	return ret;
}

static void uring_buffer_remove(struct lane *base, uint32_t buffer)
{
	struct uring_lane *lane = to_uring(base);
	struct iovec none = { 0 };

	io_uring_register_buffers_update_tag(&lane->ring, buffer, &none, NULL, 1);
	slots_give(&lane->buffers, buffer);
}

/* ---- Submission --------------------------------------------------------------- */

/* Entries that the kernel has not taken yet. Its head moves only inside enter. */
static uint32_t pending(const struct uring_lane *lane)
{
	return lane->sq.tail - *lane->sq_khead;
}

static struct io_uring_sqe *next_sqe(struct uring_lane *lane)
{
	assert(pending(lane) <= lane->sq.mask);
	return &lane->sq.entries[lane->sq.tail++ & lane->sq.mask];
}

static void uring_queue(struct lane *base, const struct lane_read *read)
{
	struct uring_lane *lane = to_uring(base);

	assert(pending(lane) <= lane->sq.mask);
	lane_ring_put(&lane->sq, read);
}

/* Gives the kernel back the room of what was reaped: nobody looks at that any more. */
static void return_reaped(struct uring_lane *lane)
{
	io_uring_smp_store_release(lane->cq_khead, lane->cq_head);
}

/* One system call. Returns what it returns: entries taken, or a negative errno. */
static int kernel_enter(struct uring_lane *lane, uint32_t submit, uint32_t wait_for,
			uint64_t wait_ns)
{
	uint32_t flags = lane->enter_flags | IORING_ENTER_GETEVENTS;
	unsigned int fd = (unsigned int)lane->enter_fd;
	struct io_uring_getevents_arg argument = { 0 };
	struct __kernel_timespec timeout;

	io_uring_smp_store_release(lane->sq_ktail, lane->sq.tail);
	if (!wait_for || wait_ns == LANE_WAIT_FOREVER)
		return io_uring_enter2(fd, submit, wait_for, flags, NULL, 0);

	timeout.tv_sec = (int64_t)(wait_ns / NS_PER_S);
	timeout.tv_nsec = (int64_t)(wait_ns % NS_PER_S);
	argument.ts = (uintptr_t)&timeout;
	return io_uring_enter2(fd, submit, wait_for, flags | IORING_ENTER_EXT_ARG,
			       (sigset_t *)&argument, sizeof(argument));
}

/*
 * -EAGAIN and -EBUSY: the kernel has no memory for requests, or wants its
 * completions taken first. The entries stay in the ring for the next time.
 */
static bool starved(int ret)
{
	return ret == -EAGAIN || ret == -EBUSY;
}

/* Completions wait for this thread to enter the kernel. */
static bool kernel_has_work(const struct uring_lane *lane)
{
	return IO_URING_READ_ONCE(*lane->sq_kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static int hand_over(struct uring_lane *lane)
{
	int ret = 0;

	if (!pending(lane) && !kernel_has_work(lane))
		return 0;
	do
		ret = kernel_enter(lane, pending(lane), 0, 0);
	while (ret > 0 && pending(lane));
	if (starved(ret))
		ret = kernel_enter(lane, 0, 0, 0);
	return ret < 0 ? ret : 0;
}

/* ---- Completion ---------------------------------------------------------------- */

static void finish_internal(struct uring_lane *lane, uint64_t token)
{
	uint64_t wakes;

	if (token != TOKEN_WAKE)
		return;
	lane->wake_armed = false;
	/* Down to zero, so that the next poll waits. It is only ever empty already. */
	if (read(lane->wake_fd, &wakes, sizeof(wakes)) < 0)
		assert(errno == EAGAIN);
}

/* Takes the lane's own completions up to the first of a read. */
static __attribute__((noinline)) void skip_internal(struct uring_lane *lane, uint32_t tail)
{
	uint64_t token;

	for (; lane->cq_head != tail; lane->cq_head++) {
		token = lane->cqes[lane->cq_head & lane->cq_mask].user_data;
		if (token <= LANE_TOKEN_MAX)
			break;
		finish_internal(lane, token);
	}
	return_reaped(lane);
}

/* Whether a read can be reaped. Sets `had_internal` if completions of our own came first. */
static inline bool can_reap(struct uring_lane *lane, bool *had_internal)
{
	uint32_t tail = io_uring_smp_load_acquire(lane->cq_ktail);

	if (lane->cq_head == tail)
		return false;
	if (likely(lane->cqes[lane->cq_head & lane->cq_mask].user_data <= LANE_TOKEN_MAX))
		return true;
	skip_internal(lane, tail);
	*had_internal = true;
	return lane->cq_head != tail;
}

_Static_assert(sizeof(struct lane_completion) == sizeof(struct io_uring_cqe) &&
		       offsetof(struct lane_completion, token) ==
			       offsetof(struct io_uring_cqe, user_data) &&
		       offsetof(struct lane_completion, result) ==
			       offsetof(struct io_uring_cqe, res),
	       "completions are looked at where the kernel puts them");

/* Up to the next one of our own, or to the end of the ring's memory. */
static size_t uring_reap(struct lane *base, const struct lane_completion **completions)
{
	struct uring_lane *lane = to_uring(base);
	bool had_internal = false;
	const struct lane_completion *first;
	uint32_t tail;
	uint32_t most;
	uint32_t count = 0;

	return_reaped(lane);
	if (!can_reap(lane, &had_internal))
		return 0;
	tail = io_uring_smp_load_acquire(lane->cq_ktail);
	first = (const struct lane_completion *)&lane->cqes[lane->cq_head & lane->cq_mask];
	most = (uint32_t)min_u64(tail - lane->cq_head,
				 lane->cq_mask + 1 - (lane->cq_head & lane->cq_mask));
	while (count < most && likely(first[count].token <= LANE_TOKEN_MAX))
		count++;
	lane->cq_head += count;
	*completions = first;
	return count;
}

/* ---- Waiting ------------------------------------------------------------------- */

static void arm_wake(struct uring_lane *lane)
{
	struct io_uring_sqe *sqe;

	if (lane->wake_armed)
		return;
	sqe = next_sqe(lane);
	io_uring_prep_poll_add(sqe, lane->wake_fd, POLLIN);
	sqe->user_data = TOKEN_WAKE;
	lane->wake_armed = true;
}

/* Submits and waits. Returns what the kernel does, but 0 where it will take more later. */
static int submit_and_wait(struct uring_lane *lane, uint64_t wait_ns, uint32_t gather)
{
	uint32_t submit = pending(lane);
	int ret = kernel_enter(lane, submit, gather, wait_ns);

	if (starved(ret) || (ret >= 0 && (uint32_t)ret < submit)) {
		ret = kernel_enter(lane, 0, 1, wait_ns < RETRY_NS ? wait_ns : RETRY_NS);
		return ret == -ETIME ? 0 : ret;
	}
	return ret;
}

static int wait_for_completion(struct uring_lane *lane, uint64_t wait_ns)
{
	uint64_t deadline = deadline_after(wait_ns);
	bool had_internal;
	int ret;

	for (;;) {
		arm_wake(lane);
		ret = submit_and_wait(lane, wait_ns, 1);
		had_internal = false;
		if (can_reap(lane, &had_internal) || atomic_load(&lane->woken))
			return 0;
		if (ret < 0)
			return ret == -ETIME ? 0 : ret;
		wait_ns = deadline_left(deadline);
		if (!wait_ns)
			return 0;
		/*
		 * Where the kernel has submitted something it does not say how the wait
		 * ended. Nothing came, and there is time left: it was a signal.
		 */
		if (ret > 0 && !had_internal)
			return -EINTR;
	}
}

static bool has_news(struct uring_lane *lane)
{
	bool had_internal = false;

	return can_reap(lane, &had_internal) || atomic_load(&lane->woken);
}

/*
 * Waits for several completions, but not long. The kernel does not wake the thread for
 * each of them then, which spares both sides more than the wait costs.
 */
static int gather_completions(struct uring_lane *lane, uint32_t gather)
{
	uint64_t deadline = deadline_after(LANE_GATHER_NS);
	int ret;

	arm_wake(lane);
	ret = submit_and_wait(lane, LANE_GATHER_NS, gather);
	if (has_news(lane) || ret == -ETIME)
		return 0;
	/* As below: the wait ended early, and with nothing to show. */
	return ret > 0 && deadline_left(deadline) ? -EINTR : ret;
}

static int wait_for_news(struct uring_lane *lane, uint64_t wait_ns, uint32_t gather)
{
	int ret = 0;

	if (gather > 1 && wait_ns > LANE_GATHER_NS) {
		ret = gather_completions(lane, gather);
		if (has_news(lane))
			return 0;
		wait_ns = wait_ns == LANE_WAIT_FOREVER ? wait_ns : wait_ns - LANE_GATHER_NS;
	}
	return ret < 0 ? ret : wait_for_completion(lane, wait_ns);
}

static int uring_enter(struct lane *base, uint64_t wait_ns, uint32_t gather)
{
	struct uring_lane *lane = to_uring(base);
	int ret = 0;

	return_reaped(lane);
	if (unlikely(!lane->adopted))
		ret = adopt(lane);
	if (ret)
		return ret;
	if (!wait_ns || has_news(lane))
		ret = hand_over(lane);
	else
		ret = wait_for_news(lane, wait_ns, gather);
	if (unlikely(atomic_load_explicit(&lane->woken, memory_order_relaxed)))
		atomic_store(&lane->woken, false);
	return ret;
}

/* ---- From outside ---------------------------------------------------------------- */

/*
 * Handed over with the next enter, or after a few of them: the room for reads has
 * to stay free.
 */
static void uring_cancel(struct lane *base, uint64_t token)
{
	struct uring_lane *lane = to_uring(base);
	struct io_uring_sqe *sqe;

	if (lane->cancels == SPARE_CANCELS) {
		hand_over(lane);
		if (pending(lane))
			return; /* the kernel takes nothing now: the read ends by itself */
		lane->cancels = 0;
	}
	lane->cancels++;
	sqe = next_sqe(lane);
	io_uring_prep_cancel64(sqe, token, 0);
	sqe->user_data = TOKEN_CANCEL;
}

static void uring_wake(struct lane *base)
{
	struct uring_lane *lane = to_uring(base);
	const uint64_t one = 1;
	int saved = errno;

	if (!atomic_exchange(&lane->woken, true) && write(lane->wake_fd, &one, sizeof(one)) < 0)
		errno = saved; /* full: it polls readable as it is */
}

/* The kernel also adds 1 for completions of the lane's own: a wake-up for nothing. */
static int uring_notify(struct lane *base, int eventfd)
{
	struct uring_lane *lane = to_uring(base);
	int ret;

	if (lane->notifying)
		io_uring_unregister_eventfd(&lane->ring);
	ret = io_uring_register_eventfd(&lane->ring, eventfd);
	lane->notifying = ret >= 0;
	return ret < 0 ? gds_fail_errno(-ret, "cannot have io_uring signal descriptor %d", eventfd)
		       : 0;
}

const struct lane_ops lane_uring = {
	.name = "uring",
	.open = uring_open,
	.close = uring_close,
	.file_add = uring_file_add,
	.file_remove = uring_file_remove,
	.buffer_add = uring_buffer_add,
	.buffer_remove = uring_buffer_remove,
	.dmabuf_add = uring_dmabuf_add,
	.queue = uring_queue,
	.enter = uring_enter,
	.reap = uring_reap,
	.cancel = uring_cancel,
	.wake = uring_wake,
	.notify = uring_notify,
};
