/* SPDX-License-Identifier: Apache-2.0 */
/* Whether this process is still the one that made an object, or a child of it. */
#ifndef GDS_BASE_FORK_H
#define GDS_BASE_FORK_H

/* How many forks lie between the first process that asked and this one. */
unsigned fork_count(void);

#endif
