/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays of the kernel's md: RAID 0, RAID 1 and linear ones, through sysfs. */
#ifndef GDS_STORAGE_MD_H
#define GDS_STORAGE_MD_H

#include "storage/stack-private.h"

int md_build(struct stack_builder *builder, dev_t device, const char *name, struct volume **volume);

#endif
