/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the DRM backend share. */
#ifndef GDS_BACKENDS_DRM_DRM_H
#define GDS_BACKENDS_DRM_DRM_H

#include "dmabuf/memory.h"

#include <limits.h>

#define DRM_NODE_BYTES 24

/* The nodes of one device; empty where it has none of that kind. */
struct drm_nodes {
	char card[DRM_NODE_BYTES];   /* "card0", for modes and dumb buffers */
	char render[DRM_NODE_BYTES]; /* "renderD128" */
	char parent[PATH_MAX];       /* of both, in sysfs */
};

struct drm_device {
	struct dmabuf_device base;
	int fd;
	char driver[32];
	char description[128];
	char version[32];
	uint64_t memory_bytes; /* 0 where unknown */
	bool unified;
	const struct drm_method *method;
	void *driver_handle; /* the method's: has it closed */
	uint32_t vram, host; /* regions, as the method numbers them */
};

/* How buffers are made, by the driver's name. */
struct drm_method {
	const char *driver; /* NULL: any that has dumb buffers */
	bool render;        /* works on a render node, which needs fewer rights */

	/* Finds out what memory there is. What open() left is removed by close(). */
	int (*open)(struct drm_device *device);
	void (*close)(struct drm_device *device);
	/*
	 * Sets map_offset, and either fd or handle to a GEM handle, from which the
	 * caller makes fd. Memory that the CPU cannot map gives -EOPNOTSUPP.
	 */
	int (*make)(struct drm_device *device, uint32_t flags, struct dmabuf_slice *slice);
	/* NULL: the GEM handle is closed. */
	void (*release)(struct drm_device *device, struct dmabuf_slice *slice);
};

extern const struct drm_method drm_dumb;
extern const struct drm_method drm_amdgpu; /* with GDS_HAVE_AMDGPU */
extern const struct drm_method drm_i915;   /* with GDS_HAVE_I915 */
extern const struct drm_method drm_xe;     /* with GDS_HAVE_XE */

/* Fails because of errno, or with -EOPNOTSUPP, for memory of this device. */
int drm_no_memory(const struct drm_device *device, uint64_t bytes);
int drm_no_mapping(const struct drm_device *device);

void drm_close_handle(struct drm_device *device, uint32_t handle);

/* ---- nodes.c ------------------------------------------------------------------ */

/*
 * The devices of /dev/dri, in the order of their numbers. Returns how many, and an
 * array to be freed; -ENODEV with the reason where there is none.
 */
int drm_nodes_find(struct drm_nodes **nodes);

/* Opens the node that the device's driver needs. On failure nothing is left open. */
int drm_nodes_open(const struct drm_nodes *nodes, struct drm_device **device);
void drm_device_close(struct drm_device *device);

#endif
