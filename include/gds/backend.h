/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Backends from outside of the library: a table of calls that gives gds devices of a kind
 * it does not know, their memory, and copies into it. After gds_backend_register() such a
 * device is opened by gds_device_open(), and files are read into its buffers like into any.
 *
 * Programs that only read files need gds.h alone. This header is apart from it because its
 * promises are others: the calls here are made by the library, so what it knows of them is
 * told by a version of their own.
 *
 * **Errors.** A call that returns int gives 0, or a negative errno after gds_backend_fail() has
 * been told what failed, on what, and what to do; without that the library makes do with the
 * errno. Nothing is handed over by a call that failed.
 *
 * **Threads.** Calls may come from several threads at once, also for one device; the backend
 * does the locking that it needs. They may come from the thread that makes a reader's
 * progress, which does nothing else meanwhile: calls that need not wait should not.
 * The library holds no lock of its own that a call could need, but calls must not read
 * files through gds, nor open or close what belongs to it.
 */
#ifndef GDS_BACKEND_H
#define GDS_BACKEND_H

#include <gds/gds.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * @defgroup backends Backends from outside
 * Kinds of devices that gds does not know.
 * @{
 */

/** Rises when a call gets another meaning. New calls are added at the end instead. */
#define GDS_BACKEND_VERSION 1

/** Memory of a device, as its alloc call describes it. The library has zeroed it. */
struct gds_backend_memory {
	size_t size;  /**< set by the library: nothing is written beyond it */
	void *memory; /**< the backend's own, handed back in its calls */
	/**
	 * Where the CPU can address all of it, contiguously, until it is freed; or NULL. The
	 * storage is asked to write there; whether the kernel can pin it is found out by
	 * trying. Begin it on a page: reads with O_DIRECT want that.
	 */
	void *host;
	/** Where `host` is NULL: why, and what would help, in words. Static, may be NULL. */
	const char *no_host_reason;
	const char *no_host_remedy; /**< see no_host_reason */
	/**
	 * What kind of place it lies in: "vram", "visible vram". What was proven of the path
	 * dmabuf into one buffer holds for others of the same device and placement. Static;
	 * NULL where all memory of a device is alike.
	 */
	const char *placement;
	/**
	 * The most that is exported as one dma-buf: a power of two from 4096 on; 0, and
	 * anything beyond, stands for 1 GiB, the most that the kernel takes.
	 */
	uint64_t export_bytes;
	uint32_t needs_publish; /**< what is written through `host` needs the publish call */
};

/** A range of a device's memory as a dma-buf. */
struct gds_backend_dmabuf {
	size_t size;     /**< set by the library: nothing is written beyond it */
	int fd;          /**< the library's from now on */
	uint64_t bytes;  /**< of the dma-buf: a multiple of 4096 */
	uint64_t offset; /**< in the dma-buf, of the range's first byte */
};

/**
 * A piece to copy into a device's memory, of any alignment. It comes from host memory; or,
 * only for backends that export dma-bufs, from other memory of the device: then `host` is
 * NULL. The structure does not grow.
 */
struct gds_backend_copy {
	void *memory;           /**< to copy into */
	uint64_t offset;        /**< in `memory` */
	const void *host;       /**< to copy from, or NULL */
	void *source;           /**< where `host` is NULL: memory of the device to copy from */
	uint64_t source_offset; /**< in `source` */
	uint64_t bytes;         /**< to copy */
};

/** The calls of a backend. Those that may be NULL say so. */
struct gds_backend {
	size_t size;         /**< sizeof(struct gds_backend) */
	uint32_t version;    /**< GDS_BACKEND_VERSION */
	const char *name;    /**< 1 to 31 lower-case letters, digits and hyphens: "mychip" */
	const char *summary; /**< a line that says what the devices are */
	void *user;          /**< handed to list and open */

	/**
	 * As gds_device_list(), for the devices of this backend; `backend` is its name. NULL:
	 * the one device that open gives without a selector is listed, or why it does not.
	 */
	int (*list)(void *user,
		    int (*visit)(const char *backend, const struct gds_device_info *info,
				 const char *reason, void *visitor),
		    void *visitor);

	/** `selector` is what follows the colon of the name in gds_device_open(), or "". */
	int (*open)(void *user, const char *selector, void **device);
	/** All memory of the device has been freed by then. */
	void (*close)(void *device);
	/** Fills in what it knows; the name and the summary are there. May be NULL. */
	void (*info)(void *device, struct gds_device_info *info);

	/** `flags` are of enum gds_buffer_flag. */
	int (*alloc)(void *device, uint64_t bytes, uint32_t flags,
		     struct gds_backend_memory *memory);
	/** Nothing is in flight into the memory by then. */
	void (*free)(void *device, void *memory);

	/**
	 * Starts copies, in any order. `*ticket` is 0 where they are done on return;
	 * otherwise it is above that of each call before, and what they copy from is left
	 * alone until copied() has told that they are done. After an error none of them may
	 * go on.
	 */
	int (*copy)(void *device, const struct gds_backend_copy *copies, size_t count,
		    uint64_t *ticket);
	/**
	 * Sets `*done` to the highest ticket whose copies, and all before, are done and seen
	 * by the device's work. Waits for `ticket` for at most `timeout_ns` nanoseconds (0:
	 * not at all); that they are not done by then is no error. After an error the copies
	 * of the device that are not done are given up, and what they copy from is used
	 * again: nothing may go on copying. NULL where copy() gives no tickets.
	 */
	int (*copied)(void *device, uint64_t ticket, uint64_t timeout_ns, uint64_t *done);

	/** A blocking copy out of the memory: what it gives is what the device sees. */
	int (*copy_out)(void *device, void *memory, uint64_t offset, void *data, size_t bytes);
	/**
	 * CRC-32 (that of zlib) computed by the device. NULL: computed by the CPU, of what
	 * copy_out gives.
	 */
	int (*checksum)(void *device, void *memory, uint64_t offset, uint64_t bytes,
			uint32_t *crc32);

	/**
	 * Told of host memory, page-aligned, that many copies will come from, for drivers
	 * that make it known to their device. `*attached` is handed back when it goes. Both
	 * or neither may be NULL; an error refuses reads that need such copies.
	 */
	int (*host_attach)(void *device, void *host, size_t bytes, void **attached);
	/** The counterpart of host_attach(). */
	void (*host_detach)(void *device, void *attached);

	/**
	 * Exports a range, which begins at a multiple of the memory's export_bytes and has
	 * at most that, as a dma-buf that other devices can write to. -EOPNOTSUPP where this
	 * memory cannot be exported. NULL: the path dmabuf is not taken.
	 */
	int (*export_dmabuf)(void *device, void *memory, uint64_t offset, uint64_t bytes,
			     struct gds_backend_dmabuf *dmabuf);

	/**
	 * Makes what the CPU or the storage wrote through `host` visible to work of the device
	 * that is started from now on. NULL where nothing is to be done.
	 */
	int (*publish)(void *device, void *memory, uint64_t offset, uint64_t bytes);
	/**
	 * As publish(), for what a drive wrote through a dma-buf. The range may span several
	 * reads, and bytes between them that a drive still writes.
	 */
	int (*acquire)(void *device, void *memory, uint64_t offset, uint64_t bytes);
};

/**
 * Registers a backend for the life of the process.
 *
 * Its calls must stay, so a plugin that registers one is not unloaded. The structure and its two
 * strings are copied. May be called from any thread, at any time.
 *
 * @return 0, or a negative errno
 * @retval -EEXIST a backend has the name
 * @retval -EINVAL a name, a version or a size that cannot be, or a call that is missing
 * @retval -ENOTSUP calls that this version of the library does not know
 * @retval -ENOSPC there are 64 backends already
 * @retval -ENOMEM there is no memory
 */
GDS_API int gds_backend_register(const struct gds_backend *backend);

/**
 * The backend's own memory behind a buffer, to be used in work of the device.
 *
 * `backend` is the backend's name. `*memory` gets what its alloc call gave; it stays the buffer's.
 *
 * @return 0, or a negative errno
 * @retval -ENOTSUP the buffer is another backend's
 */
GDS_API int gds_backend_buffer_memory(const struct gds_buffer *buffer, const char *backend,
				      void **memory);

/**
 * Keeps a line for gds_last_error(), as a backend's call that fails does.
 *
 * `error` is a positive errno; `format` and what follows are those of printf(3), and give one
 * line without a newline.
 *
 * @return -error
 *
 * @par Example
 * @code
 * return gds_backend_fail(ENODEV, "no mychip here: load its driver");
 * @endcode
 */
GDS_API int gds_backend_fail(int error, const char *format, ...)
#if defined(__GNUC__)
	__attribute__((format(printf, 2, 3)))
#endif
	;

/** @} */

#ifdef __cplusplus
}
#endif

#endif /* GDS_BACKEND_H */
