/* SPDX-License-Identifier: Apache-2.0 */
/* What stack.c and the kinds of volumes that have files of their own share. */
#ifndef GDS_STORAGE_STACK_PRIVATE_H
#define GDS_STORAGE_STACK_PRIVATE_H

#include "storage/stack.h"

struct stack_builder {
	struct stack *stack;
	struct gds_path_verdict *verdict;
	unsigned depth;
	bool not_opened; /* the failure is that a disk could not be opened */
};

/* The volume of a device, whatever it is. The stack owns it. */
int stack_build(struct stack_builder *builder, dev_t device, struct volume **volume);

/* -EOPNOTSUPP, with the verdict filled and a message. */
int stack_refuse(struct stack_builder *builder, const char *reason, const char *remedy);
int stack_no_memory(void);

/* A volume that the stack owns. -ENOMEM with a message. */
int stack_add(struct stack_builder *builder, enum volume_kind kind, size_t count,
	      struct volume **volume);

/* Adds to the text that describes the stack. */
void stack_say(struct stack_builder *builder, const char *text);

/* The stack holds as long as the attribute in sysfs, of the device, has this value. */
int stack_watch_path(struct stack_builder *builder, const char *path, const char *value);
int stack_watch_attribute(struct stack_builder *builder, dev_t device, const char *name,
			  const char *value);

#endif
