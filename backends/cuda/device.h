/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUDA device as gds uses it, its memory, and its copies.
 *
 * All of gds's own work is done in the device's primary context, which programs
 * that use the CUDA runtime share. A caller may bring memory of another context:
 * copies to it must be made there. So what belongs to a context - a stream, the
 * events in it, the checksum's module - is a queue, of which most devices have one.
 *
 * A ticket of copy() is an event in a queue. Events of one queue complete in order,
 * those of several in any, so the tickets that are done are those before the first
 * that is not, over all queues.
 */
#ifndef GDS_CUDA_DEVICE_H
#define GDS_CUDA_DEVICE_H

#include "api.h"
#include "memory/backend.h"

#include <pthread.h>

/* Calls to copy() whose copies may be under way in one queue; the next one waits. */
#define CUDA_FRAMES_MAX 64

/* Streams of callers that may wait at once for batches into one device's buffers. */
#define CUDA_WAITS_MAX 1024

struct cuda_frame {
	CUevent event; /* made at the first use */
	uint64_t ticket;
};

/* What computes checksums in a context; made at the first use. */
struct cuda_checksum {
	CUmodule module;
	CUfunction function;
	bool refused; /* by the driver: the CPU computes them */
};

struct cuda_queue {
	struct cuda_queue *next;
	unsigned references; /* device->lock */
	CUcontext context;
	CUstream stream;
	struct cuda_frame frames[CUDA_FRAMES_MAX]; /* a ring, under device->lock */
	unsigned first;
	unsigned count;
	struct cuda_checksum checksum; /* device->checksum_lock */
};

/* See wait.c. */
struct cuda_wait {
	enum cuda_wait_state {
		CUDA_WAIT_FREE,
		CUDA_WAIT_PENDING,  /* until it is released */
		CUDA_WAIT_RELEASED, /* and the stream may not have got there yet */
	} state;
	struct cuda_device *device;
	CUevent event; /* in the stream, behind the wait */
	CUcontext context;
	uint32_t value; /* that the stream waits for */
};

struct cuda_waits {
	struct cuda_wait *list; /* of CUDA_WAITS_MAX */
	uint32_t *words;        /* one each, which the device reads */
	bool keep;              /* a stream may look at the words for ever */
};

struct cuda_device {
	struct backend_device base;
	CUdevice handle;
	int ordinal;
	char name[24];   /* "cuda:0" */
	char label[128]; /* "cuda:0 (NVIDIA ...)", for messages */
	bool unified;
	bool has_vmm;
	bool host_register;
	bool wait_flushes;    /* a stream's wait can flush what drives wrote */
	bool needs_flush;     /* work does not see by itself what drives wrote */
	bool can_flush;       /* from the CPU */
	uint64_t slice_bytes; /* SLICE_BYTES; tests make it smaller */

	pthread_mutex_t lock; /* of the queues and the waits */
	struct cuda_queue *queues;
	struct cuda_queue *primary; /* one of them */
	uint64_t submitted;         /* the last ticket */
	struct cuda_waits waits;

	pthread_mutex_t checksum_lock;
	uint32_t *registers; /* where checksum kernels leave their results */
	CUdeviceptr registers_address;
};

enum cuda_memory_kind {
	CUDA_MEMORY_MAPPED,     /* of the VMM calls: exportable in slices */
	CUDA_MEMORY_PLAIN,      /* of cuMemAlloc() */
	CUDA_MEMORY_PAGES,      /* host pages of ours, registered */
	CUDA_MEMORY_HOST_ALLOC, /* host memory of the driver */
	CUDA_MEMORY_IMPORTED,   /* a caller's */
};

struct cuda_memory {
	struct backend_memory base;
	enum cuda_memory_kind kind;
	struct cuda_queue *queue;
	CUdeviceptr address;
	uint64_t mapped_bytes; /* of CUDA_MEMORY_MAPPED */
};

struct cuda_staging {
	struct backend_staging base;
	struct cuda_pin *pin; /* or NULL where the memory is not pinned */
};

static inline struct cuda_device *to_cuda_device(struct backend_device *device)
{
	return (struct cuda_device *)device;
}

static inline struct cuda_memory *to_cuda_memory(struct backend_memory *memory)
{
	return (struct cuda_memory *)memory;
}

/* device.c */
int cuda_list(int (*visit)(const char *backend, const struct gds_device_info *info,
			   const char *reason, void *user),
	      void *user);
int cuda_open(struct backend_device **device, const char *selector);
void cuda_close(struct backend_device *device);
void cuda_info(struct backend_device *device, struct gds_device_info *info);
/* An attribute's value; 0 where the driver does not know it. */
int cuda_attribute(CUdevice device, CUdevice_attribute attribute);

/*
 * queue.c. Calls of the API work in the thread's current context: enter makes the
 * queue's current, leave brings back the one before.
 */
int cuda_enter(const struct cuda_device *device, CUcontext context);
void cuda_leave(void);
/* The queue of a context, made if there is none. Each get needs a put. */
int cuda_queue_get(struct cuda_device *device, CUcontext context, struct cuda_queue **queue);
void cuda_queue_put(struct cuda_device *device, struct cuda_queue *queue);
/* Waits until all that was given to the queue is done, in the context. */
int cuda_queue_drain(const struct cuda_device *device, const struct cuda_queue *queue);
/*
 * Waits until all queues are done, under device->lock, and keeps the thread's message,
 * which says what came first.
 */
void cuda_settle(struct cuda_device *device);
/*
 * Gives what was put in the queue since the last one a ticket; in the context, under
 * device->lock.
 */
int cuda_queue_mark(struct cuda_device *device, struct cuda_queue *queue, uint64_t *ticket);
int cuda_copied(struct backend_device *device, uint64_t ticket, uint64_t timeout_ns,
		uint64_t *done);

/* memory.c */
struct cuda_memory *cuda_memory_new(struct cuda_device *device, uint64_t bytes,
				    enum cuda_memory_kind kind);
int cuda_alloc(struct backend_device *device, uint64_t bytes, uint32_t flags,
	       struct backend_memory **memory);
void cuda_free(struct backend_memory *memory);
/* Says that a driver's call of the end of something failed, where no one can act on it. */
void cuda_check_end(const struct cuda_device *device, CUresult result, const char *what);

/* vmm.c: device memory from the driver's calls for virtual memory. */
int cuda_vmm_alloc(struct cuda_device *device, struct cuda_memory *memory);
void cuda_vmm_free(struct cuda_device *device, struct cuda_memory *memory);

/* export.c */
int cuda_export_slice(struct backend_memory *memory, size_t slice, struct backend_export *exported);
int cuda_acquire(struct backend_memory *memory, uint64_t offset, uint64_t bytes);

/*
 * pin.c: host memory that is registered with the driver, so that devices reach it
 * without a copy of the driver's. It may be registered once in a process, for all
 * devices, and is let go of by its last user. NULL where the driver refuses.
 */
struct cuda_pin *cuda_pin_get(struct cuda_device *device, void *host, size_t bytes);
void cuda_pin_put(struct cuda_pin *pin);

/* copy.c */
int cuda_staging_attach(struct backend_device *device, void *host, size_t bytes,
			struct backend_staging **staging);
void cuda_staging_detach(struct backend_staging *staging);
int cuda_copy(struct backend_device *device, const struct backend_copy *copies, size_t count,
	      uint64_t *ticket);
int cuda_copy_out(struct backend_memory *memory, uint64_t offset, void *data, size_t bytes);
int cuda_copy_in(struct backend_memory *memory, uint64_t offset, const void *data, size_t bytes);

/* checksum.c, with the kernel in checksum-ptx.c. */
extern const char cuda_checksum_ptx[];
int cuda_checksum(struct backend_memory *memory, uint64_t offset, uint64_t bytes, uint32_t *crc32);
/* Of a queue, in its context; and of the device, in the primary one. */
void cuda_checksum_stop_queue(struct cuda_device *device, struct cuda_queue *queue);
void cuda_checksum_stop(struct cuda_device *device);

/* wait.c. Of a device that closes: false where a stream still waits. */
bool cuda_waits_pending(struct cuda_device *device);
void cuda_waits_stop(struct cuda_device *device);

#endif
