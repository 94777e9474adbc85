/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory that can be exported as a dma-buf, from every exporter of the VM. */
#ifndef KERNEL_TESTS_MEMORY_H
#define KERNEL_TESTS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct memory {
	const struct exporter *exporter;
	int dmabuf_fd;
	size_t bytes;
	uint8_t *map; /* the CPU's view of it */
	int fds[3]; /* the exporter's own */
};

struct exporter {
	const char *name;
	size_t max_bytes; /* 0: no limit of its own */
	bool owns_map;	  /* the exporter unmaps it itself */
	bool needs_no_sync; /* of the CPU's view with devices */
	/* Fills in dmabuf_fd and map, or ends the test as skipped or failed. */
	void (*open)(struct memory *memory);
	/* Releases what only the exporter knows of; may be NULL. */
	void (*close)(struct memory *memory);
};

/* Every exporter, udmabuf first; ends with NULL. */
extern const struct exporter *const exporters[];
extern const struct exporter exporter_udmabuf;

void memory_open(struct memory *memory, const struct exporter *exporter, size_t bytes);
void memory_poison(struct memory *memory);
/* Around the CPU's use of the map. */
void memory_begin(const struct memory *memory);
void memory_end(const struct memory *memory);
void memory_close(struct memory *memory);

/* A dma-buf that shows the same memfd of one MiB again and again; *map shows that. */
int udmabuf_repeated(size_t mebibytes, uint8_t **map);

/* The VFIO device that owns a BAR's memory, to close it in every order. */
extern const struct exporter exporter_vfio_near, exporter_vfio_far;
void vfio_close_device(struct memory *memory);
/* Skips where the device has no reset. */
void vfio_reset_device(struct memory *memory);
/* The memory bit of its PCI command. */
void vfio_set_memory(struct memory *memory, bool enabled);

#endif
