/* SPDX-License-Identifier: Apache-2.0 */
/* Small facts about the machine, from sysfs and procfs. */
#ifndef GDS_BACKENDS_DMABUF_SYSTEM_H
#define GDS_BACKENDS_DMABUF_SYSTEM_H

#include <stddef.h>
#include <stdint.h>

/* The first line of a file, without its end. Returns 0 or a negative errno. */
int system_text(const char *path, char *text, size_t size);
/* A number that stands in a file, in decimal or with 0x. */
int system_number(const char *path, uint64_t *value);
/* The last part of what a symbolic link points to. */
int system_link_name(const char *path, char *name, size_t size);
/* A line of /proc/meminfo, as it stands there: mostly in KiB. 0 where there is none. */
uint64_t system_meminfo(const char *key);

uint64_t system_memory_bytes(void);

/*
 * Fails with -ENOMEM where `bytes` are more than the host has to give. The kernel
 * would take them from other programs' lives before it said no.
 */
int system_check_room(const char *device, uint64_t bytes);

#endif
