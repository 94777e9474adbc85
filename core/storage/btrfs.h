/* SPDX-License-Identifier: Apache-2.0 */
/*
 * btrfs has addresses of its own, which its chunks map to places on its devices: what
 * FIEMAP tells there are such addresses. The chunks are a volume, then, on top of the
 * others.
 */
#ifndef GDS_STORAGE_BTRFS_H
#define GDS_STORAGE_BTRFS_H

#include "storage/stack-private.h"

/* Whether the descriptor's file is on btrfs. */
bool btrfs_is(int fd);

int btrfs_build(struct stack_builder *builder, int fd, struct volume **volume);

#endif
