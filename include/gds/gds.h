/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * gds - reads files into GPU memory by the shortest path the machine allows.
 *
 * The objects, and what owns what:
 *
 *     reader   one engine: an I/O lane, a scheduler and staging memory
 *     device   a GPU (or another owner of memory), opened by name
 *     buffer   a range of a device's memory, allocated here or imported
 *     file     a regular file or a block device to read from
 *     batch    reads that are submitted together to one reader
 *
 * Readers, devices and files do not depend on each other; a buffer belongs to
 * its device and a batch to its reader, and each is destroyed before its owner.
 *
 * **Errors.** A call that returns int, int64_t or ssize_t gives 0 or a count on success and
 * a negative errno on failure. After a failure gds_last_error() tells, for the
 * calling thread, what failed, on what, and what to do about it. -EINVAL is also for a NULL
 * where none is allowed, and -EPERM for a reader or a batch that was inherited over fork():
 * what is listed at each call leaves these out. Calls that close, free or destroy take NULL
 * and do nothing with it.
 *
 * **Threads.** Every call may be made from any thread, except on a reader opened
 * with GDS_READER_SINGLE_THREAD. One batch is used by one thread at a time.
 * After fork() the child must not use objects that it inherited: calls on readers,
 * batches, devices and buffers of its parent give -EPERM there, and calls that end
 * such objects leave them alone.
 *
 * **Units.** Sizes and offsets are in bytes, times in nanoseconds of CLOCK_MONOTONIC.
 */
#ifndef GDS_H
#define GDS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Marks what the library exports. */
#if defined(__GNUC__)
#define GDS_API __attribute__((visibility("default")))
#else
#define GDS_API
#endif

/**
 * @defgroup library The library
 * Its version, errors and log, and the words for paths, lanes and classes.
 * @{
 */

/** The version of this header: that of the library that is loaded is gds_version()'s. */
#define GDS_VERSION_MAJOR 0
#define GDS_VERSION_MINOR 1 /**< see GDS_VERSION_MAJOR */
#define GDS_VERSION_PATCH 0 /**< see GDS_VERSION_MAJOR */

struct gds_reader;
struct gds_device;
struct gds_buffer;
struct gds_file;
struct gds_batch;

/**
 * The version of the library that is loaded, such as "0.1.0".
 *
 * @return a string in static storage; never NULL
 */
GDS_API const char *gds_version(void);

/**
 * What the calling thread's last failed call had to say.
 *
 * It is one line, without a newline, which names what failed, on what, and what to do.
 * It belongs to the library, and is valid until the next call of this library on this thread.
 *
 * @return the line; never NULL, and empty if nothing has failed on this thread yet
 *
 * @par Example
 * @code
 * if (gds_reader_open(&reader, NULL) < 0)
 *	fprintf(stderr, "%s\n", gds_last_error());
 * @endcode
 */
GDS_API const char *gds_last_error(void);

/** How much goes to the log: each level has those above it, too. */
enum gds_log_level {
	GDS_LOG_ERROR = 0,   /**< what goes wrong, and no call is there to return it */
	GDS_LOG_WARNING = 1, /**< a fall back to a slower way: the default level */
	GDS_LOG_INFO = 2,    /**< what was chosen, and why */
	GDS_LOG_DEBUG = 3,   /**< the story of each read */
};

/**
 * Sends log lines up to `level` to `log`, or to standard error where `log` is NULL.
 *
 * The environment variable GDS_LOG (error, warning, info, debug) sets the level at the start;
 * without it that is GDS_LOG_WARNING. `log` is called with the line, without a newline, that is
 * valid during the call, and with `user`. It may be called from any thread that is in the
 * library, by one thread at a time, and must not call the library.
 */
GDS_API void gds_log_set(enum gds_log_level level,
			 void (*log)(enum gds_log_level level, const char *line, void *user),
			 void *user);

/** How the bytes of a read travel. */
enum gds_path {
	GDS_PATH_AUTO = 0,   /**< the best that works: dmabuf, then mapped, then bounce */
	GDS_PATH_DMABUF = 1, /**< the drive writes into the device's memory */
	GDS_PATH_MAPPED = 2, /**< the storage writes into host pages that the device addresses */
	GDS_PATH_BOUNCE = 3, /**< into staging memory, and from there by a device copy */
};
#define GDS_PATH_COUNT 4 /**< of enum gds_path */

/** What issues the I/O. */
enum gds_lane {
	GDS_LANE_AUTO = 0,    /**< io_uring, or threads where it is refused */
	GDS_LANE_URING = 1,   /**< io_uring */
	GDS_LANE_THREADS = 2, /**< a pool of threads with preadv2(2) */
};

/**
 * The name of a path: "auto", "dmabuf", "mapped" or "bounce".
 *
 * @return a string in static storage; "unknown" for what is no path
 */
GDS_API const char *gds_path_name(enum gds_path path);

/**
 * The name of a lane: "auto", "uring" or "threads".
 *
 * @return a string in static storage; "unknown" for what is no lane
 */
GDS_API const char *gds_lane_name(enum gds_lane lane);

/**
 * Whose reads go first where several wait for one device of storage. Each class gets
 * its share, 16 to 4 to 1, so that none starves. Operations of the later two are kept
 * small and few, so that a foreground read finds little in its way.
 */
enum gds_class {
	GDS_CLASS_FOREGROUND = 0, /**< someone waits for it */
	GDS_CLASS_PREFETCH = 1,   /**< will be wanted soon */
	GDS_CLASS_BACKGROUND = 2, /**< when there is nothing better to do */
};
#define GDS_CLASS_COUNT 3 /**< of enum gds_class */

/**
 * The name of a class: "foreground", "prefetch" or "background".
 *
 * @return a string in static storage; "unknown" for what is no class
 */
GDS_API const char *gds_class_name(enum gds_class read_class);

/** @} */

/**
 * @defgroup readers Readers
 * An engine each: its options, what it counted, and its eventfd.
 * @{
 */

/** Flags of a reader. */
enum gds_reader_flag {
	/**
	 * All calls on the reader and its batches come from one thread, which also
	 * closes the files and frees the buffers that it read. io_uring then needs
	 * no locking inside the kernel (IORING_SETUP_SINGLE_ISSUER, DEFER_TASKRUN).
	 */
	GDS_READER_SINGLE_THREAD = 1u << 0,
	/**
	 * The reader makes progress by a thread of its own. Without it progress is
	 * made by the callers' threads, in submit, poll and wait.
	 */
	GDS_READER_PROGRESS_THREAD = 1u << 1,
	/**
	 * The direct path is taken without proof that it delivers. Reads have been
	 * seen to complete without an error and to move nothing: leave the proof on.
	 */
	GDS_READER_NO_CANARY = 1u << 2,
};

/** In which of its shapes the kernel's dma-buf interface is spoken. */
enum gds_dmabuf_shape {
	GDS_DMABUF_NEWEST = 0,      /**< the newest that the kernel knows */
	GDS_DMABUF_PAIRS = 2,       /**< of the second public version: 16-byte entries */
	GDS_DMABUF_DESCRIPTORS = 3, /**< since the third: 80-byte descriptors */
};

/** Options of a reader. Zero stands for the default in every field but `size`. */
struct gds_reader_options {
	size_t size;    /**< sizeof(struct gds_reader_options) */
	uint32_t flags; /**< of enum gds_reader_flag */
	uint32_t lane;  /**< of enum gds_lane */
	/**
	 * Operations in flight on each device of storage, 1 to 4096. 0, the default: as
	 * many as saturate the device, found by measuring, and at most 128.
	 */
	uint32_t queue_depth;
	uint32_t threads; /**< of the thread lane, 1 to 256; default 8 */
	/** Most bytes of one operation: 4 KiB to 64 MiB, a multiple of 4 KiB; default 1 MiB. */
	uint64_t transfer_bytes;
	/**
	 * Host memory for the bounce path and for unaligned edges, allocated at the
	 * first use: at least 4 times transfer_bytes and 1 MiB, at most 1 GiB;
	 * default 64 MiB.
	 */
	uint64_t staging_bytes;
	uint32_t dmabuf_shape; /**< of enum gds_dmabuf_shape */
	/**
	 * The direct path is proven once for each device, target and placement of
	 * memory, and again when the proof is older than this; 0: once is enough.
	 */
	uint64_t canary_interval_ns;
	/**
	 * Most bytes in flight on each device of storage, at least one transfer. Default:
	 * 64 MiB where the depth is found by measuring, else as many as that depth takes.
	 */
	uint64_t in_flight_bytes;
};

/**
 * Opens a reader.
 *
 * `*reader` gets it; the caller closes it with gds_reader_close(). `options` may be NULL for the
 * defaults, and need not outlive the call.
 *
 * @return 0, or a negative errno
 * @retval -EINVAL an option is out of range, or two of them exclude each other
 * @retval -EPERM GDS_LANE_URING was asked for, and the system refuses io_uring
 * @retval -ENOSYS GDS_LANE_URING was asked for, and the kernel's io_uring lacks what is needed
 * @retval -EMFILE the process may not open more descriptors
 * @retval -EAGAIN a thread cannot be started
 * @retval -ENOMEM there is no memory, or too little may be locked for the io_uring asked for
 *
 * @par Example
 * @code
 * const struct gds_reader_options options = {
 *	.size = sizeof(options),
 *	.flags = GDS_READER_PROGRESS_THREAD,
 * };
 *
 * if (gds_reader_open(&reader, &options) < 0)
 *	fprintf(stderr, "%s\n", gds_last_error());
 * @endcode
 */
GDS_API int gds_reader_open(struct gds_reader **reader, const struct gds_reader_options *options);

/**
 * Closes a reader.
 *
 * Batches of it that are still in flight are cancelled, and it waits until the storage has
 * finished with their buffers. Batches are destroyed by their owner, before or after. NULL is
 * ignored, and so is a reader that was inherited over fork().
 */
GDS_API void gds_reader_close(struct gds_reader *reader);

/**
 * A descriptor that polls readable when a batch of this reader may have completed, for event loops.
 *
 * Read its 8-byte counter, then call gds_batch_poll() on the batches in flight. It is an eventfd
 * that does not block. It belongs to the reader, and is closed with it. The kernel may interrupt
 * a wait for it with EINTR, also without a signal: wait again.
 *
 * @return the descriptor, or a negative errno
 *
 * @par Example
 * @code
 * struct pollfd wanted = { .fd = gds_reader_eventfd(reader), .events = POLLIN };
 * uint64_t counter;
 *
 * while (wanted.fd >= 0 && gds_batch_poll(batch) > 0)
 *	if (poll(&wanted, 1, -1) > 0 && read(wanted.fd, &counter, sizeof(counter)) < 0)
 *		break;
 * @endcode
 */
GDS_API int gds_reader_eventfd(struct gds_reader *reader);

/** What a reader has counted since it was opened. */
struct gds_stats {
	size_t size;                         /**< sizeof(struct gds_stats), set by the caller */
	uint64_t reads;                      /**< completed, failed ones included */
	uint64_t reads_failed;               /**< of these: ended with an error */
	uint64_t reads_cancelled;            /**< of these: were given up */
	uint64_t path_bytes[GDS_PATH_COUNT]; /**< delivered, by the path that carried them */
	uint64_t operations;                 /**< issued to the lane */
	uint64_t retries;                    /**< operations issued again: short, or -EAGAIN */
	uint64_t fallbacks;       /**< operations that changed their path or way of opening */
	uint64_t device_copies;   /**< pieces copied by a device from staging memory */
	uint64_t in_flight;       /**< operations, now */
	uint64_t in_flight_peak;  /**< the most that were in flight at once */
	uint64_t staging_bytes;   /**< staging memory allocated, now */
	uint32_t lane;            /**< of enum gds_lane: the one in use */
	uint64_t canaries;        /**< proofs of the direct path that were made */
	uint64_t canaries_failed; /**< of these, how many found that bytes had not arrived */
	uint64_t reads_merged;    /**< read by the same operation as the one before */
	uint64_t reads_expired;   /**< of those that failed: past the deadline of their batch */
	uint64_t storage_devices; /**< that it has met: see gds_reader_storage() */
	uint64_t class_reads[GDS_CLASS_COUNT]; /**< by enum gds_class: reads that are done */
	uint64_t class_bytes[GDS_CLASS_COUNT]; /**< likewise: the bytes of these */
	/** Likewise: the time that these took, summed, from the first operation's issue on. */
	uint64_t class_ns[GDS_CLASS_COUNT];
};

/**
 * Fills in what a reader has counted since it was opened.
 *
 * The caller sets `stats->size`; only so many bytes are written, so that programs which were
 * built against an older header go on. The counts are taken one by one while the reader goes
 * on, and need not fit each other to the last read.
 *
 * @return 0, or a negative errno
 * @retval -EINVAL `stats` is NULL, or its size was not set
 *
 * @par Example
 * @code
 * struct gds_stats stats = { .size = sizeof(stats) };
 *
 * if (gds_reader_stats(reader, &stats) == 0)
 *	printf("%llu bytes went from the drive into the device\n",
 *	       (unsigned long long)stats.path_bytes[GDS_PATH_DMABUF]);
 * @endcode
 */
GDS_API int gds_reader_stats(struct gds_reader *reader, struct gds_stats *stats);

/** A device of storage, as one reader uses it. */
struct gds_storage_stats {
	size_t size;    /**< sizeof(struct gds_storage_stats), set by the caller */
	char name[32];  /**< "nvme0n1"; the device number where the kernel has no such name */
	uint64_t reads; /**< completed, failed ones included */
	uint64_t reads_failed;   /**< of these: ended with an error, or were given up */
	uint64_t reads_merged;   /**< read by the same operation as the one before */
	uint64_t operations;     /**< issued to the lane */
	uint64_t bytes;          /**< delivered */
	uint64_t in_flight;      /**< operations, now */
	uint64_t depth;          /**< operations in flight that are allowed, as found by now */
	uint64_t transfer_bytes; /**< of one operation, at most */
	uint64_t rotational;     /**< 1 where its heads seek */
};

/**
 * Fills in what a reader knows of one device of storage.
 *
 * `index` counts the devices that it has met, from 0 on, the latest first. The caller sets
 * `stats->size`; only so many bytes are written.
 *
 * @return 0, or a negative errno
 * @retval -ENOENT there are not so many devices
 * @retval -EINVAL `stats` is NULL, or its size was not set
 *
 * @par Example
 * @code
 * struct gds_storage_stats stats = { .size = sizeof(stats) };
 *
 * for (size_t i = 0; gds_reader_storage(reader, i, &stats) == 0; i++)
 *	printf("%s: %llu bytes\n", stats.name, (unsigned long long)stats.bytes);
 * @endcode
 */
GDS_API int gds_reader_storage(struct gds_reader *reader, size_t index,
			       struct gds_storage_stats *stats);

/**
 * In words: why the reader's lane is not io_uring, or what of io_uring this kernel lacks.
 *
 * @return the words, which are valid while the reader is open; empty if there is nothing to say
 */
GDS_API const char *gds_reader_lane_reason(struct gds_reader *reader);

/** @} */

/**
 * @defgroup devices Devices
 * Owners of memory: GPUs and others.
 * @{
 */

/** What is known of a device. */
struct gds_device_info {
	size_t size;           /**< sizeof(struct gds_device_info), set by the caller */
	char name[64];         /**< what gds_device_open() takes: "vulkan:0" */
	char description[256]; /**< as its driver calls it */
	char driver[128];      /**< the driver and its version */
	uint64_t memory_bytes; /**< of its own memory, 0 where unknown */
	uint32_t unified;      /**< 1 where host memory is the device's memory */
	char pci[24];          /**< its PCI address, "0000:04:00.0"; empty where it has none */
};

/**
 * Calls `visit` for each device that can be opened.
 *
 * It is called once, too, for each backend that has none, with `info` NULL and the reason.
 * `backend` is a name such as "vulkan"; `user` is what was passed here. What is passed is valid
 * during the call. `visit` returns 0 to go on; anything else ends the walk.
 *
 * @return 0, or what `visit` returned, or a negative errno
 * @retval -EINVAL `visit` is NULL
 */
GDS_API int gds_device_list(int (*visit)(const char *backend, const struct gds_device_info *info,
					 const char *reason, void *user),
			    void *user);

/**
 * Opens a device by its name.
 *
 * That is "BACKEND", "BACKEND:INDEX" or "BACKEND:TEXT", where TEXT is a part of the device's
 * description, whatever its case: "vulkan:0", "vulkan:llvmpipe", "cuda:0", "host". `*device`
 * gets it; the caller closes it with gds_device_close().
 *
 * With GDS_VULKAN_VALIDATE=1 in the environment, Vulkan devices are opened with the
 * Khronos validation layer, if it is installed; its messages go to the log.
 *
 * @return 0, or a negative errno
 * @retval -EINVAL there is no such backend
 * @retval -ENODEV there is no such device, or no driver for it
 * @retval -ENOTSUP the device or its driver lacks what is needed, or this build has no such backend
 * @retval -EACCES the process may not open the device; errors of open(2) are passed on
 * @retval -EBUSY one program alone can have the device, and another has it
 * @retval -ENOMEM there is no memory
 */
GDS_API int gds_device_open(struct gds_device **device, const char *name);

/**
 * Closes a device, whose buffers must have been freed.
 *
 * One that has buffers left is kept open, and the log says so. NULL is ignored.
 */
GDS_API void gds_device_close(struct gds_device *device);

/**
 * Fills in what is known of a device.
 *
 * The caller sets `info->size`; only so many bytes are written.
 *
 * @return 0, or a negative errno
 * @retval -EINVAL an argument is NULL, or the size was not set
 */
GDS_API int gds_device_get_info(struct gds_device *device, struct gds_device_info *info);

/**
 * A Vulkan device that the caller made, for buffers of its own. Handles are
 * passed as they are: dispatchable ones as pointers, others as integers. The
 * caller keeps everything alive until gds_device_close().
 *
 * The device needs timelineSemaphore enabled. gds submits copies to `queue`
 * when a read travels by the bounce path, so that queue must not be blocked by
 * work that itself waits for the read: give gds a queue of its own where the
 * device has one. `lock` and `unlock` are called around each use of the queue;
 * they may be NULL where no one else uses it.
 */
struct gds_vulkan_device {
	size_t size;                  /**< sizeof(struct gds_vulkan_device) */
	void *get_instance_proc_addr; /**< PFN_vkGetInstanceProcAddr; NULL: of libvulkan.so.1 */
	void *instance;               /**< VkInstance */
	void *physical_device;        /**< VkPhysicalDevice */
	void *device;                 /**< VkDevice */
	void *queue;                  /**< VkQueue, with transfer, better with compute too */
	uint32_t queue_family;        /**< that of `queue` */
	/** VK_EXT_external_memory_host is enabled on the device */
	uint32_t has_external_memory_host;
	/** VK_KHR_external_memory_fd and VK_EXT_external_memory_dma_buf are enabled */
	uint32_t has_external_memory_dma_buf;
	/** VK_EXT_queue_family_foreign is enabled */
	uint32_t has_queue_family_foreign;
	void (*lock)(void *user);   /**< called before each use of `queue`, or NULL */
	void (*unlock)(void *user); /**< called after it; NULL where `lock` is */
	void *user;                 /**< handed to both */
};

/**
 * Takes a Vulkan device of the caller's as a device of gds.
 *
 * `*device` gets it; gds_device_close() lets go of it. The caller keeps everything that
 * `vulkan` names alive until then; the structure itself need not outlive the call.
 *
 * @return 0, or a negative errno
 * @retval -EINVAL a handle is missing, there is no such queue family, only one of `lock` and
 *	`unlock` is there, or the size was not set
 * @retval -ENOTSUP timelineSemaphore is not enabled, or this build has no Vulkan backend
 * @retval -ENODEV there is no Vulkan loader
 * @retval -ENOMEM there is no memory
 */
GDS_API int gds_device_import_vulkan(struct gds_device **device,
				     const struct gds_vulkan_device *vulkan);

/** @} */

/**
 * @defgroup buffers Buffers
 * Ranges of a device's memory, to read into.
 * @{
 */

/** Flags of gds_buffer_alloc(). */
enum gds_buffer_flag {
	/** Host pages that the device addresses, also where it has memory of its own. */
	GDS_BUFFER_HOST = 1u << 0,
};

/**
 * Allocates `bytes` of a device's memory.
 *
 * `flags` are of enum gds_buffer_flag. `*buffer` gets it; the caller frees it with
 * gds_buffer_free(), before the device is closed. The contents are undefined.
 *
 * @return 0, or a negative errno
 * @retval -ENOMEM the device has no room
 * @retval -EINVAL zero bytes, or unknown flags
 * @retval -ENOTSUP the device has no such memory
 */
GDS_API int gds_buffer_alloc(struct gds_buffer **buffer, struct gds_device *device, uint64_t bytes,
			     uint32_t flags);

/**
 * Takes `bytes` at `address` of this process as a buffer of a "host" device.
 *
 * The caller keeps the memory, unmoved, until gds_buffer_free(). Memory of any alignment does;
 * what begins on a page is read into without a copy.
 *
 * @return 0, or a negative errno
 * @retval -EINVAL zero bytes, no address, or a range beyond any memory
 * @retval -ENOTSUP the device is not "host"
 * @retval -ENOMEM there is no memory
 */
GDS_API int gds_buffer_import_host(struct gds_buffer **buffer, struct gds_device *device,
				   void *address, uint64_t bytes);

/**
 * A VkBuffer of the caller's device, and the memory that is bound to it. The queue
 * family of the device's `queue` must own it, or it is made with
 * VK_SHARING_MODE_CONCURRENT.
 */
struct gds_vulkan_buffer {
	size_t size; /**< sizeof(struct gds_vulkan_buffer) */
	/**
	 * VkBuffer, with VK_BUFFER_USAGE_TRANSFER_DST_BIT; with TRANSFER_SRC too for
	 * gds_buffer_copy_out(), and with STORAGE_BUFFER for gds_buffer_checksum().
	 */
	uint64_t buffer;
	uint64_t memory;        /**< VkDeviceMemory */
	uint64_t memory_offset; /**< where in the memory the buffer is bound */
	uint64_t bytes;         /**< of the buffer that may be used */
	uint32_t memory_type;   /**< index of the memory's type */
	/**
	 * Where the caller has mapped the buffer's first byte. NULL where the memory
	 * is not mapped: gds maps it where its type is host visible. Vulkan lets a
	 * memory be mapped only once, so a caller that has mapped it must say where,
	 * and must have mapped all of it where its type is not host coherent.
	 */
	void *mapping;
	/**
	 * The memory was allocated with VkExportMemoryAllocateInfo, and the buffer made
	 * with VkExternalMemoryBufferCreateInfo, both with
	 * VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT: drives may read into it. Work on
	 * it must be complete before a read into it is submitted; what is submitted after
	 * the read was reported complete sees the bytes, on every queue.
	 */
	uint32_t exportable;
	uint32_t concurrent; /**< the buffer is of VK_SHARING_MODE_CONCURRENT */
};

/**
 * Takes a VkBuffer of the caller's as a buffer.
 *
 * `device` is one that gds_device_import_vulkan() gave. The caller keeps the VkBuffer and its
 * memory until gds_buffer_free().
 *
 * @return 0, or a negative errno
 * @retval -EINVAL a handle is missing, there is no such memory type, the VkBuffer has not so
 *	many bytes, or the size was not set
 * @retval -ENOTSUP the device is not Vulkan's
 * @retval -ENOMEM there is no memory
 */
GDS_API int gds_buffer_import_vulkan(struct gds_buffer **buffer, struct gds_device *device,
				     const struct gds_vulkan_buffer *vulkan);

/**
 * Takes `bytes` at `device_pointer` of a CUDA device as a buffer.
 *
 * The pointer is a CUdeviceptr, or what cudaMalloc() gave. Its context is found out from the
 * pointer; memory that belongs to none, such as that of cuMemMap(), is used in the primary
 * context. The caller keeps memory and context until gds_buffer_free().
 *
 * gds copies in streams of its own, which do not wait for the caller's: earlier work
 * on a range must be done before a read into it is submitted.
 *
 * @return 0, or a negative errno
 * @retval -EINVAL the range is not allocated, or is another device's
 * @retval -ENOTSUP host memory, managed memory, or a device that is not CUDA's
 * @retval -ENOMEM there is no memory
 */
GDS_API int gds_buffer_import_cuda(struct gds_buffer **buffer, struct gds_device *device,
				   uint64_t device_pointer, uint64_t bytes);

/**
 * Takes `bytes` at `offset` of the dma-buf `fd` as a buffer of a Vulkan device.
 *
 * That may be memory of another device, or of another API on the same one. `fd` is duplicated
 * and stays the caller's. Multiples of 4096 do for `offset`; drivers may take others, or
 * none but 0. The buffer can be the destination of the direct path itself.
 *
 * @return 0, or a negative errno
 * @retval -EINVAL the range is outside of the dma-buf, or `fd` is no dma-buf
 * @retval -ENOTSUP the device does not import dma-bufs, or not this one
 * @retval -ENOMEM there is no memory
 */
GDS_API int gds_buffer_import_dmabuf(struct gds_buffer **buffer, struct gds_device *device, int fd,
				     uint64_t offset, uint64_t bytes);

/**
 * Frees a buffer, or lets go of what was imported.
 *
 * Waits for reads into it that are in flight. NULL is ignored.
 */
GDS_API void gds_buffer_free(struct gds_buffer *buffer);

/**
 * The size of a buffer in bytes, as it was asked for.
 *
 * @return the bytes; 0 for NULL
 */
GDS_API uint64_t gds_buffer_bytes(const struct gds_buffer *buffer);

/**
 * Where the CPU can address the buffer's first byte.
 *
 * @return the address, which is valid until gds_buffer_free(); NULL where the CPU cannot address
 *	the memory, or where the buffer is not contiguous for it
 */
GDS_API void *gds_buffer_host(const struct gds_buffer *buffer);

/**
 * The VkBuffer that holds byte `offset` of a buffer of a Vulkan device, to bind in a shader.
 *
 * Large buffers are made of several (at most 1 GiB each), with the usages STORAGE_BUFFER,
 * TRANSFER_SRC and TRANSFER_DST, for all queue families. `*vk_buffer` gets the handle, which
 * stays the buffer's; `*vk_offset` the byte's place in it, `*vk_bytes` how many follow there.
 *
 * @return 0, or a negative errno
 * @retval -ENOTSUP the buffer is another kind of device's
 * @retval -EINVAL the offset is beyond the end
 */
GDS_API int gds_buffer_get_vulkan(struct gds_buffer *buffer, uint64_t offset, uint64_t *vk_buffer,
				  uint64_t *vk_offset, uint64_t *vk_bytes);

/**
 * Where a buffer of a CUDA device lies for its kernels.
 *
 * `*device_pointer` gets a CUdeviceptr, which is also what the CUDA runtime calls a device
 * pointer. The whole buffer follows there, until gds_buffer_free().
 *
 * @return 0, or a negative errno
 * @retval -ENOTSUP the buffer is another kind of device's
 */
GDS_API int gds_buffer_get_cuda(struct gds_buffer *buffer, uint64_t *device_pointer);

/**
 * Copies `bytes` at `offset` of the buffer to `data`, and waits for it.
 *
 * The copy is done by the device: what it gives is what the device sees.
 *
 * @return 0, or a negative errno
 * @retval -EINVAL the range is outside of the buffer
 * @retval -ENOTSUP the memory cannot be read by the CPU in any way
 * @retval -EIO the device failed
 */
GDS_API int gds_buffer_copy_out(struct gds_buffer *buffer, uint64_t offset, void *data,
				size_t bytes);
/**
 * Copies `bytes` from `data` to `offset` of the buffer, and waits for it.
 *
 * The copy is done by the device. No read into the range may be in flight.
 *
 * @return 0, or a negative errno
 * @retval -EINVAL the range is outside of the buffer
 * @retval -ENOTSUP the memory cannot be written by the CPU in any way
 * @retval -EIO the device failed
 */
GDS_API int gds_buffer_copy_in(struct gds_buffer *buffer, uint64_t offset, const void *data,
			       size_t bytes);

/**
 * The CRC-32 (that of zlib and gzip) of a range of the buffer, computed by the device.
 *
 * So the bytes are those that the device sees. Of no bytes it is 0.
 *
 * @return 0, and `*crc32` is set; or a negative errno
 * @retval -EINVAL the range is outside of the buffer
 * @retval -ENOTSUP the device cannot compute it
 * @retval -EIO the device failed
 */
GDS_API int gds_buffer_checksum(struct gds_buffer *buffer, uint64_t offset, uint64_t bytes,
				uint32_t *crc32);

/** @} */

/**
 * @defgroup files Files
 * What is read from.
 * @{
 */

/**
 * Opens a regular file or a block device for reading, with O_DIRECT where the file system takes it.
 *
 * `*file` gets it; the caller closes it with gds_file_close(). `path` need not outlive the call.
 *
 * By the path dmabuf a file is read from the drives below its file system, if the
 * process may open those. A file that changes meanwhile gives bytes of some version of
 * it. Where the kernel grants a read lease it is held while a thread of the reader
 * waits for reads of the file: whoever opens the file for writing waits until what is
 * in flight has landed.
 *
 * @return 0, or a negative errno
 * @retval -ENOENT there is no such file; all errors of open(2) are passed on
 * @retval -EACCES the process may not read it
 * @retval -EISDIR it is a directory
 * @retval -EINVAL it is neither a regular file nor a block device
 */
GDS_API int gds_file_open(struct gds_file **file, const char *path);

/**
 * Closes a file.
 *
 * Waits for reads of it that are in flight. NULL is ignored.
 */
GDS_API void gds_file_close(struct gds_file *file);

/**
 * The size of a file in bytes, as it is now: it is asked, not remembered.
 *
 * @return the bytes, or a negative errno
 * @retval -ENODEV the drive was unplugged
 */
GDS_API int64_t gds_file_bytes(struct gds_file *file);

/** @} */

/**
 * @defgroup reads Reads
 * Batches of reads, and single ones.
 * @{
 */

/**
 * One read: `length` bytes at `offset` of `file` to `buffer_offset` of `buffer`.
 *
 * As the results, requests come in arrays: these structures do not grow.
 */
struct gds_request {
	struct gds_file *file;     /**< to read from */
	struct gds_buffer *buffer; /**< to read into */
	uint64_t offset;           /**< in the file, of the first byte */
	uint64_t length;           /**< bytes to read */
	uint64_t buffer_offset;    /**< in the buffer, where the first byte goes */
	uint64_t user_data;        /**< handed back in the result */
};

/** How one read fared. */
struct gds_result {
	/**
	 * Bytes that arrived, fewer than asked for only where the file ends; or a
	 * negative errno, and then the range asked for has undefined contents.
	 * -ESTALE: the file changed again and again while it was read directly from
	 * the drives below it, and the read may not take another path.
	 */
	int64_t bytes;
	uint64_t user_data;                  /**< of the request */
	uint64_t path_bytes[GDS_PATH_COUNT]; /**< by the path that carried them */
	uint64_t error_offset; /**< where in the file the first failed operation began */
	uint64_t issued_ns;    /**< first operation handed to the lane */
	uint64_t completed_ns; /**< last byte in place */
};

/** Flags of a batch. */
enum gds_batch_flag {
	/** Fail a read rather than let it change to another path than its first. */
	GDS_BATCH_NO_FALLBACK = 1u << 0,
};

/** How the reads of a batch go. Zero stands for the default in every field but `size`. */
struct gds_batch_options {
	size_t size; /**< sizeof(struct gds_batch_options) */
	/**
	 * Of enum gds_path. Anything but AUTO pins the path: a read that cannot take
	 * it fails with -EOPNOTSUPP and the reason.
	 */
	uint32_t path;
	uint32_t flags;  /**< of enum gds_batch_flag */
	size_t capacity; /**< reads to make room for at once; grows as needed */
	/**
	 * From submit on; 0: none. Reads that are not done by then end with -ETIMEDOUT.
	 * Those that the storage works on are reported, and the batch is complete, only
	 * when it has let go of their memory, which is not written after that; a warning
	 * in the log says so. As all progress, this is made by whoever drives the reader.
	 */
	uint64_t deadline_ns;
	uint32_t read_class; /**< of enum gds_class */
	uint32_t reserved;   /**< 0 */
};

/**
 * Makes an empty batch of a reader.
 *
 * `*batch` gets it; the caller destroys it with gds_batch_destroy(). `options` may be NULL for
 * the defaults, and need not outlive the call.
 *
 * @return 0, or a negative errno
 * @retval -EINVAL an option is out of range
 * @retval -ENOMEM there is no memory
 */
GDS_API int gds_batch_create(struct gds_batch **batch, struct gds_reader *reader,
			     const struct gds_batch_options *options);

/**
 * Adds `count` reads to a batch that is not in flight, all of them or none.
 *
 * The requests are copied. Files and buffers stay the caller's, and are kept until the batch is
 * complete. A read that begins at or beyond the end of the file gives 0 bytes.
 *
 * @return the index of the first, or a negative errno
 * @retval -EINVAL a range is outside of its buffer, or beyond what files can have
 * @retval -EOPNOTSUPP the pinned path cannot be taken
 * @retval -EBUSY the batch was submitted, and not reset
 * @retval -ESHUTDOWN the batch's reader was closed
 * @retval -ENOMEM there is no memory
 *
 * @par Example
 * @code
 * const struct gds_request pieces[] = {
 *	{ .file = file, .buffer = buffer, .offset = 0, .length = 4096 },
 *	{ .file = file, .buffer = buffer, .offset = 1 << 20, .length = 4096,
 *	  .buffer_offset = 4096 },
 * };
 *
 * if (gds_batch_add(batch, pieces, 2) < 0)
 *	fprintf(stderr, "%s\n", gds_last_error());
 * @endcode
 */
GDS_API ssize_t gds_batch_add(struct gds_batch *batch, const struct gds_request *requests,
			      size_t count);

/**
 * Starts a batch's reads.
 *
 * While many others are in flight, some may be handed to the kernel only with the reader's next
 * call. The caller leaves the destination ranges alone until the batch is complete. A file's size
 * is looked up here where a read goes beyond what it was last known to be. A file that has become
 * shorter since then is read up to its new end, and the rest of the range may be overwritten,
 * unless gds_file_bytes() has looked the size up in between. An empty batch is complete at once.
 *
 * @return 0, or a negative errno; how each read fared is told by gds_batch_result()
 * @retval -EBUSY the batch was submitted, and not reset
 * @retval -ESHUTDOWN the batch's reader was closed
 * @retval -ENOMEM there is no memory
 *
 * @par Example
 * @code
 * size_t first;
 *
 * if (gds_batch_submit(batch) < 0 || gds_batch_wait(batch, -1) < 0) {
 *	fprintf(stderr, "%s\n", gds_last_error());
 * } else if (gds_batch_failures(batch, &first) > 0) {
 *	struct gds_result result;
 *
 *	gds_batch_result(batch, first, &result);
 *	fprintf(stderr, "read %zu: %s\n", first, gds_last_error());
 * }
 * @endcode
 */
GDS_API int gds_batch_submit(struct gds_batch *batch);

/**
 * Waits until a batch is complete, at most `timeout_ns` nanoseconds (negative: for ever).
 *
 * -ETIMEDOUT and -EINTR leave the batch in flight. Only a thread that makes progress itself is
 * interrupted by a signal, not one that waits for another thread.
 *
 * @return 0 when the batch is complete, whatever the results of its reads; or a negative errno
 * @retval -ETIMEDOUT the time is over
 * @retval -EINTR a signal was caught
 * @retval -EINVAL the batch was not submitted
 */
GDS_API int gds_batch_wait(struct gds_batch *batch, int64_t timeout_ns);

/**
 * Makes progress without blocking.
 *
 * @return how many reads of the batch are not done yet, 0 where it is complete; or a negative errno
 */
GDS_API ssize_t gds_batch_poll(struct gds_batch *batch);

/**
 * Gives up the batch's reads that are not done: each ends with -ECANCELED.
 *
 * The batch is complete when the storage has let go of the buffers: wait for it. A batch that is
 * not in flight is left as it is.
 *
 * @return 0, or a negative errno
 */
GDS_API int gds_batch_cancel(struct gds_batch *batch);

/**
 * How many reads are in a batch.
 *
 * @return the number; 0 for NULL
 */
GDS_API size_t gds_batch_count(const struct gds_batch *batch);

/**
 * The result of read `index` of a batch, counted from 0 in the order of gds_batch_add().
 *
 * Where the read itself failed, the call gives 0 all the same: then `result->bytes` is negative,
 * and gds_last_error() says why.
 *
 * @return 0, or a negative errno
 * @retval -EINPROGRESS the read is not done
 * @retval -EINVAL there is no such read
 */
GDS_API int gds_batch_result(struct gds_batch *batch, size_t index, struct gds_result *result);

/**
 * Of the reads of a complete batch, how many failed or were cancelled.
 *
 * `*first` gets the index of the first of them, and is left alone where there is none; `first`
 * may be NULL.
 *
 * @return the number, or a negative errno
 */
GDS_API ssize_t gds_batch_failures(const struct gds_batch *batch, size_t *first);

/**
 * Empties a batch that is not in flight, to use it again.
 *
 * What was asked for with gds_batch_signal_vulkan() and gds_batch_stream_wait_cuda() is dropped,
 * too; the options stay.
 *
 * @return 0, or a negative errno
 * @retval -EBUSY the batch is in flight
 */
GDS_API int gds_batch_reset(struct gds_batch *batch);

/**
 * Destroys a batch.
 *
 * One that is in flight is cancelled and waited for. NULL is ignored.
 */
GDS_API void gds_batch_destroy(struct gds_batch *batch);

/**
 * Has a timeline semaphore of a Vulkan device signalled when a batch is complete.
 *
 * `semaphore` is a VkSemaphore, which gets `value` when all the batch's reads have succeeded, so
 * that work on the GPU waits for the data without the CPU. Called before submit; a batch may have
 * several. The caller keeps the semaphore until the batch is complete. Progress
 * must be made meanwhile: by a progress thread, or by poll or wait. `value` is
 * above what the semaphore has then, and below what else is to signal it.
 *
 * The signal comes from the CPU (vkSignalSemaphore), after the work that waits for
 * it was submitted. What the CPU and the storage wrote up to a submission is seen by
 * its work without more; what they wrote later is not. So that work waits for the
 * semaphore at some stage S (pWaitDstStageMask), and then begins with a barrier from
 * the stages S | VK_PIPELINE_STAGE_HOST_BIT and VK_ACCESS_HOST_WRITE_BIT to where it
 * reads. S is named twice so that the barrier comes after the wait.
 *
 * Where a read failed the semaphore is not signalled: the caller learns that
 * from the batch, and signals or drops its work itself.
 *
 * @return 0, or a negative errno
 * @retval -ENOTSUP the device is not Vulkan's
 * @retval -EBUSY the batch was submitted, and not reset
 * @retval -ENOMEM there is no memory
 */
GDS_API int gds_batch_signal_vulkan(struct gds_batch *batch, struct gds_device *device,
				    uint64_t semaphore, uint64_t value);

/**
 * Has work of a CUDA stream wait until a batch is complete, without the CPU.
 *
 * That is the work which is put into `stream` of the device from now on (CUstream, or
 * cudaStream_t; NULL: the default stream). Called before submit. Progress must be made meanwhile:
 * by a progress thread, or by poll or wait; a call that waits for the stream makes none.
 *
 * The stream goes on when the batch is complete, whatever became of its reads, and
 * also when a batch that was not submitted is reset or destroyed: it cannot be told
 * of an error. The caller learns from the batch whether the data is there, and must
 * not use results of work that ran without it.
 *
 * The driver does not know what the wait is for, and with more streams than
 * CUDA_DEVICE_MAX_CONNECTIONS it may put other work behind it: streams whose work the
 * reads themselves depend on must not share that fate. The work before the wait must
 * be able to finish until the device is closed, and the batch must be complete then.
 *
 * @return 0, or a negative errno
 * @retval -ENOTSUP the device is not CUDA's, or its driver has no such wait
 * @retval -EINVAL the stream is another device's
 * @retval -EAGAIN 1024 streams wait already
 * @retval -EBUSY the batch was submitted, and not reset
 * @retval -ENOMEM there is no memory
 */
GDS_API int gds_batch_stream_wait_cuda(struct gds_batch *batch, struct gds_device *device,
				       void *stream);

/**
 * One blocking read.
 *
 * It is a batch of one, and is not cut short by a signal. `result` may be NULL.
 *
 * @return the bytes read, fewer than `length` only at the end of the file; or a negative errno,
 *	and then the range asked for has undefined contents
 * @retval -EINVAL the range is outside of the buffer, or beyond what files can have
 * @retval -EIO the storage failed; what else it reports is passed on
 * @retval -ENOMEM there is no memory
 *
 * @par Example
 * @code
 * const struct gds_request request = { .file = file, .buffer = buffer, .length = 4096 };
 * struct gds_result result;
 *
 * if (gds_read(reader, &request, &result) < 0)
 *	fprintf(stderr, "%s\n", gds_last_error());
 * else
 *	printf("%llu bytes by the path mapped\n",
 *	       (unsigned long long)result.path_bytes[GDS_PATH_MAPPED]);
 * @endcode
 */
GDS_API ssize_t gds_read(struct gds_reader *reader, const struct gds_request *request,
			 struct gds_result *result);

/** @} */

/**
 * @defgroup explanations Explanations
 * Which path a read takes, and why.
 * @{
 */

/** Whether one path can be taken. */
struct gds_path_verdict {
	uint32_t usable;  /**< 1 where it can */
	char reason[256]; /**< why not; or, of a usable path, what slows it down */
	char remedy[256]; /**< what the user can do about it */
};

/** Which path a read takes, and why. Texts end with a null byte, and may be empty. */
struct gds_explanation {
	size_t size;               /**< sizeof(struct gds_explanation), set by the caller */
	uint32_t path;             /**< of enum gds_path: what auto takes for aligned reads */
	uint32_t lane;             /**< of enum gds_lane */
	uint32_t direct;           /**< 1 where the file is read with O_DIRECT */
	uint32_t offset_alignment; /**< of file offsets and lengths that need no edges */
	uint32_t memory_alignment; /**< of addresses that take O_DIRECT */
	char direct_reason[256];   /**< why the file is read through the page cache */
	char lane_reason[256];     /**< why the lane is not io_uring, if it is not */
	struct gds_path_verdict paths[GDS_PATH_COUNT]; /**< by enum gds_path; AUTO unused */
	char kernel[128]; /**< "dma-buf reads, descriptor shape v3" or what is lacking */
	/**
	 * Of a file whose bytes are known on the drives below: "on md0 (raid0: nvme0n1,
	 * nvme1n1), 3 runs of 12582912 bytes, 0 bytes of zeros". Else empty.
	 */
	char layout[512];
	/**
	 * A line on each drive that is read directly: its model, blocks and transfers, where
	 * it is, and how far from the buffer's device, in hops from one PCI port to the next.
	 */
	char drives[1024];
};

/**
 * Tells which path a read of `file` into `buffer` takes, and why not the others.
 *
 * The caller sets `explanation->size`; only so many bytes are written. The buffer may be
 * registered with the kernel. Where the direct path has not been
 * proven yet, it is now: with one small read into the start of the buffer, whose
 * contents are put back afterwards, so nothing else may use the buffer meanwhile.
 *
 * @return 0, or a negative errno
 * @retval -EINVAL an argument is NULL, or the size was not set
 * @retval -ENOMEM there is no memory
 *
 * @par Example
 * @code
 * struct gds_explanation why = { .size = sizeof(why) };
 *
 * if (gds_explain(reader, file, buffer, &why) == 0)
 *	printf("%s; not dmabuf: %s\n", gds_path_name((enum gds_path)why.path),
 *	       why.paths[GDS_PATH_DMABUF].reason);
 * @endcode
 */
GDS_API int gds_explain(struct gds_reader *reader, struct gds_file *file, struct gds_buffer *buffer,
			struct gds_explanation *explanation);

/** @} */

#ifdef __cplusplus
}
#endif

#endif /* GDS_H */
