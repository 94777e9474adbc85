/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader and its batches, as the files of the core see them.
 *
 * The driver. One thread at a time drives a reader: it alone touches the lane,
 * the scheduler, the staging memory, operations and the reads of batches in
 * flight, and needs no lock for that. Whoever waits for a batch drives until it
 * is complete, if no other thread does; a reader with a progress thread is always
 * driven by that one. The lock covers what passes between threads: the inbox,
 * the state of batches, and who drives. It is held across no system call.
 */
#ifndef GDS_READER_H
#define GDS_READER_H

#include "attach.h"
#include "lane/lane.h"
#include "path/below.h"
#include "path/canary.h"
#include "path/dmabuf.h"
#include "path/route.h"
#include "path/staging.h"
#include "plan/scheduler.h"
#include "storage/disk.h"

#include <gds/gds.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* One aligned I/O on its way, and the copy that follows a staged one. */
struct op {
	union {
		struct schedule_op scheduled;
		struct {
			SCHEDULE_OP_FIELDS;
		};
	};
	struct plan rest; /* of this piece, still to be read after io: see operation.c */
	struct op *next;  /* in the free, starved or copying list */

	/* Where its bytes land: see aim.c. */
	enum gds_path path;                 /* that carries them */
	struct staging_pool *pool;          /* of staging or scratch memory that `chunk` is of */
	uint32_t chunk;                     /* or STAGING_NONE */
	struct dmabuf_slot *slot;           /* for the path dmabuf */
	struct proof *proof;                /* that this operation is the canary of, or NULL */
	const struct reader_target *target; /* that it reads from, for the path dmabuf */
	struct spot spot;                   /* and where there; of a file: what it went by */

	uint64_t ticket;    /* of the device's copy */
	uint64_t again_ns;  /* when it was first asked to be tried again, or 0 */
	uint32_t arrived;   /* bytes of io that the storage has delivered */
	uint32_t attempts;  /* that brought nothing */
	uint32_t changes;   /* times that its file was found changed */
	uint32_t file_slot; /* in the lane, that it reads from */
	int32_t result;     /* of a held one: see hold() */
	bool in_lane;
	bool plain; /* one whole read into host pages: of the rest of this nothing is set yet */
	bool apart; /* it has failed for several reads together: now each is tried alone */
};

/* Reads that are made visible to a device's work together, at most. */
#define ARRIVALS_AT_ONCE 64

/* What a reader keeps for a device of storage, as long as it is open. */
struct reader_queue {
	struct schedule_device schedule; /* first: the scheduler hands it back */
	struct reader_queue *next;
	struct disk disk;
	dev_t latest; /* device number of the latest file on it: a partition's, or its own */
	uint32_t transfer_bytes;  /* most of an operation: what suits the device */
	struct op *starved_first; /* ready, but for staging memory or depth; in order */
	struct op **starved_last;
	uint32_t chunks; /* of staging memory that its operations hold */
	struct queue_counters {
		atomic_uint_fast64_t reads;
		atomic_uint_fast64_t reads_failed;
		atomic_uint_fast64_t operations;
		atomic_uint_fast64_t bytes;
		/* As the scheduler has them, copied once for each turn. */
		atomic_uint_fast64_t in_flight;
		atomic_uint_fast64_t depth;
		atomic_uint_fast64_t merged;
	} counters;
};

struct gds_batch {
	struct gds_reader *reader;
	struct read *reads;
	size_t count;
	size_t capacity;
	struct schedule_run *runs; /* one for each device of storage that it reads from */
	size_t run_count;
	size_t run_capacity;
	struct schedule_run only; /* where one is enough */
	struct batch_hold {
		struct route *route;
		size_t first; /* of the reads in a row that have this route */
		size_t count;
		uint64_t end; /* in the file, of the read that reaches the furthest */
		bool empties; /* there are reads of nothing */
	} * holds;
	size_t hold_count;
	size_t hold_capacity;
	enum gds_path path;
	uint32_t flags;
	enum schedule_class class;
	uint64_t deadline_ns;         /* from its submission on; 0: none */
	uint64_t expires_ns;          /* when that is, of CLOCK_MONOTONIC */
	struct gds_batch *timed_next; /* in the driver's list of those that expire */
	struct gds_batch **timed_link;
	enum batch_state { BATCH_IDLE, BATCH_IN_FLIGHT, BATCH_COMPLETE } state; /* lock */
	bool cancel;                   /* lock: asked for, and not yet seen to by the driver */
	struct gds_batch *cancel_next; /* the driver's list of those it cancels */
	atomic_size_t open; /* reads that are not done; written by the driver in flight */
	size_t failures;
	size_t first_failure;
	struct gds_batch *next;           /* lock: in the reader's inbox */
	struct gds_batch *in_flight_next; /* lock: in the reader's list */
	struct gds_batch **in_flight_link;
	struct batch_signal *signals;
	struct batch_stream *streams;
};

struct batch_signal {
	struct batch_signal *next;
	struct gds_device *device;
	uint64_t semaphore;
	uint64_t value;
};

/* A CUDA stream that waits for the batch. */
struct batch_stream {
	struct batch_stream *next;
	struct cuda_wait *wait;
};

/*
 * Written by the driver alone, read by anyone: no more than relaxed is needed. But
 * for the first two, of reads that were complete when they were submitted: those any
 * thread adds to.
 */
struct counters {
	atomic_uint_fast64_t reads_at_once;
	atomic_uint_fast64_t reads_failed_at_once;
	atomic_uint_fast64_t reads_failed;
	atomic_uint_fast64_t reads_cancelled;
	atomic_uint_fast64_t path_bytes[GDS_PATH_COUNT];
	atomic_uint_fast64_t retries;
	atomic_uint_fast64_t fallbacks;
	atomic_uint_fast64_t device_copies;
	atomic_uint_fast64_t in_flight;
	atomic_uint_fast64_t in_flight_peak;
	/* Reads that are done, their bytes, and the time from issue to completion. */
	atomic_uint_fast64_t class_reads[SCHEDULE_CLASSES];
	atomic_uint_fast64_t class_bytes[SCHEDULE_CLASSES];
	atomic_uint_fast64_t class_ns[SCHEDULE_CLASSES];
	atomic_uint_fast64_t reads_expired;
	atomic_uint_fast64_t staging_bytes;
	atomic_uint_fast64_t canaries;
	atomic_uint_fast64_t canaries_failed;
};

/* Something to be done by the driver. */
struct command {
	struct command *next;
	int (*run)(struct gds_reader *reader, void *argument);
	void *argument;
	char *message; /* of GDS_ERROR_BYTES: what the driver's thread had to say */
	int result;
	bool done;
};

struct gds_reader {
	atomic_uint references;
	struct gds_reader_options options;
	bool depth_is_fixed; /* the caller has asked for one */
	unsigned fork_generation;
	struct lane *lane;
	enum gds_lane lane_kind;
	int eventfd;
	atomic_bool notify; /* someone has asked for the eventfd */

	/* The driver's alone. */
	struct scheduler scheduler;
	struct staging_pool staging[STAGING_SIZES];
	uint32_t staging_slots[STAGING_SIZES]; /* in the lane, or LANE_NO_BUFFER */
	struct op *ops;
	size_t op_count; /* as many as may be in the lane, or have a chunk that is copied from */
	struct op *free_ops;
	uint32_t free_count;
	struct reader_queue *queues; /* others read the list, under the lock */
	struct gds_batch *timed;     /* batches in flight that have a deadline */
	uint64_t next_deadline_ns;   /* no later than the first of them; UINT64_MAX: none */
	struct reader_device *devices;
	struct op *held_first; /* landed, until their files are seen to be unchanged */
	struct op **held_last;
	uint32_t held_count;
	uint64_t held_since_ns; /* the first of them */
	uint64_t checks;        /* times that this was looked at */
	/* Complete, but that the device's work is to see what they brought: see operation.c. */
	struct read *arrived[ARRIVALS_AT_ONCE];
	size_t arrived_count; /* 0 between turns */
	bool staying;         /* the thread that drives will go on until something is complete */
	bool alone;           /* no other thread waits for what it drives */
	const struct gds_batch *awaited; /* what it waits for, or NULL */
	uint32_t queued;                 /* operations that the lane has, and the kernel has not */
	uint32_t put_off;                /* submissions since the lane was entered */
	struct reader_file *active;      /* files that are read from below */
	struct reader_volumes *volumes;
	struct reader_target *targets; /* below files */
	struct dmabuf_map *maps;
	struct proof *proofs;
	struct canary *canary;
	bool canary_in_flight;
	uint64_t dmabuf_clock;       /* counts uses of slots */
	struct gds_batch *completed; /* within one turn, linked by next */
	uint64_t now_ns;
	bool tells;   /* the log takes the story of each read */
	bool watched; /* or someone looks at the trace points: no short ways */
	struct counters counters;

	/* Under lists_lock of attach.c. */
	struct attachment *attachments;

	/* Under the lock. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned sleepers; /* threads that wait for `changed` */
	unsigned claims;   /* threads that want to drive, ahead of those who wait */
	unsigned wakers;   /* threads that wake the driver, without the lock */
	bool driving;
	bool asleep; /* the driver waits in the lane, and may need wake() */
	bool closed;
	bool stop;    /* the progress thread ends */
	bool cancels; /* a batch's cancel was asked for */
	struct gds_batch *inbox;
	struct gds_batch **inbox_last;
	struct gds_batch *in_flight;
	struct command *commands;
	pthread_t progress;
	bool has_progress;
};

static inline void counter_add(atomic_uint_fast64_t *counter, uint64_t amount)
{
	uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, value + amount, memory_order_relaxed);
}

/* A reader that promises to stay on one thread needs no lock. */
static inline void reader_lock(struct gds_reader *reader)
{
	if (!(reader->options.flags & GDS_READER_SINGLE_THREAD))
		pthread_mutex_lock(&reader->lock);
}

static inline void reader_unlock(struct gds_reader *reader)
{
	if (!(reader->options.flags & GDS_READER_SINGLE_THREAD))
		pthread_mutex_unlock(&reader->lock);
}

/* gds_reader_open(), with another lane in the place of io_uring's: for simulations. */
int reader_open(struct gds_reader **reader, const struct gds_reader_options *options,
		const struct lane_ops *uring);

void reader_get(struct gds_reader *reader);
void reader_put(struct gds_reader *reader);

/* Whether gds_reader_close() has begun: batches may outlive their reader. */
bool reader_closed(struct gds_reader *reader);

/* Runs something as the driver, at the next opportunity, and waits for it. */
int reader_run(struct gds_reader *reader, int (*run)(struct gds_reader *reader, void *argument),
	       void *argument);

/* Refuses a call in a child of fork(), or on a closed reader, with a reason. */
int reader_check(struct gds_reader *reader, const char *call);

/*
 * One turn of the driver: issues, waits for at most `wait_ns` (not past a wake),
 * and sees to what completed. -EINTR where a signal ended the wait.
 */
int reader_drive(struct gds_reader *reader, uint64_t wait_ns);

/* Drives until no batch in flight touches the object: from within the driver. */
void reader_drain(struct gds_reader *reader, const struct attachment *attachment);

/*
 * Waits until the batch is complete, driving if no one else does. `deadline_ns`
 * is of CLOCK_MONOTONIC, UINT64_MAX for none.
 */
int reader_wait(struct gds_reader *reader, struct gds_batch *batch, uint64_t deadline_ns);

/* Puts the batch into the inbox, and has it begun. -ESHUTDOWN on a closed reader. */
int reader_submit(struct gds_reader *reader, struct gds_batch *batch);
void reader_poll(struct gds_reader *reader);
void reader_cancel(struct gds_reader *reader, struct gds_batch *batch);

/*
 * aim.c: where an operation's bytes land. Returns 0 when the operation can be
 * queued; -EAGAIN when it must wait, for staging memory or a canary;
 * AIM_RECUT when its route has changed, so that it must be cut anew; AIM_FILLED when
 * its bytes are zeros, to be copied from where the device keeps some; any other
 * negative errno when it has failed. Called by the driver.
 */
#define AIM_RECUT  1
#define AIM_FILLED 2

int aim_op(struct gds_reader *reader, struct op *op);
/* What the lane is to do for an operation that was aimed, not straight into host pages. */
struct lane_read aim_lane_read(const struct gds_reader *reader, const struct op *op);
/* An operation by dmabuf is out of the lane: lets go of its slot. */
void aim_landed(const struct op *op);
/* Settles its proof, if it is a canary. */
void aim_prove(struct gds_reader *reader, struct op *op, int result);
/* Whether the operation goes by the devices below its file, which may have changed. */
static inline bool aim_is_below(const struct op *op)
{
	return op->path == GDS_PATH_DMABUF && op->read->route->file->map;
}
/* Times that an operation goes by what is below a changed file, before it reads the file. */
#define AIM_CHANGES_MAX 2
static inline bool aim_may_fall_back(const struct op *op)
{
	return op->read->route->pinned == GDS_PATH_AUTO &&
	       !(op->read->batch->flags & GDS_BATCH_NO_FALLBACK);
}
/* Overwrites what has arrived, where it may be another file's. */
int aim_scrub(struct op *op);
void aim_give_chunk(struct op *op);
/* Where the chunk's bytes are for the device: completes a copy from it. */
void aim_copy_source(const struct op *op, struct backend_copy *copy);

/* operation.c: the life of operations. Called by the driver. */
int operations_open(struct gds_reader *reader);
void operations_close(struct gds_reader *reader);
void operations_issue(struct gds_reader *reader);
/* Has the statistics tell how many are in flight now. */
void operations_count(struct gds_reader *reader);
/* Reaps the lane and starts copies. Returns how many completions there were. */
size_t operations_reap(struct gds_reader *reader);
/*
 * How long a turn may sleep, at most `wait_ns`, in view of operations that have landed
 * and are held until their files were looked at.
 */
uint64_t operations_patience(const struct gds_reader *reader, uint64_t wait_ns);
/* Sees to finished copies, waiting for the next one for at most `wait_ns`. */
void operations_copied(struct gds_reader *reader, uint64_t wait_ns);
bool operations_copying(const struct gds_reader *reader);
/*
 * Makes what arrived in this turn visible to the devices' work, once for each slice of a
 * buffer, and ends the reads that waited for that.
 */
void operations_show(struct gds_reader *reader);
/*
 * Gives up the batch's reads that are not done: they end with `error` when the storage
 * has let go of their memory. Returns how many of them wait for that.
 */
size_t operations_end(struct gds_reader *reader, struct gds_batch *batch, int error);

/* queue.c: devices of storage. Called by the driver. */
int queue_get(struct gds_reader *reader, dev_t device, struct reader_queue **queue);
void queues_close(struct gds_reader *reader);
/* Ends the batches whose deadline has passed. */
void deadlines_check(struct gds_reader *reader);
void deadline_add(struct gds_reader *reader, struct gds_batch *batch);
void deadline_remove(struct gds_batch *batch);

/* batch.c. Enter and leave move it to and from the reader's list: lock held. */
void batch_enter(struct gds_batch *batch);
void batch_leave(struct gds_batch *batch);
/* Tells the devices' work that waits for the batch, which is about to be complete. */
void batch_signal(struct gds_batch *batch);
/* Whether a read of the batch names the attachment; any batch does where it is NULL. */
bool batch_uses(const struct gds_batch *batch, const struct attachment *attachment);

#endif
