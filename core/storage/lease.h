/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read leases on files, fcntl(2)'s F_SETLEASE: while one is held, whoever opens the file
 * for writing, or cuts it, waits until it is given back. It is what keeps a file as it
 * is, not what proves that: leases can be broken, and some changes break none.
 *
 * The kernel tells the holder of a broken lease by a signal, but signals are the
 * program's own: none is sent, and the holder asks.
 */
#ifndef GDS_STORAGE_LEASE_H
#define GDS_STORAGE_LEASE_H

#include <stdbool.h>

struct gds_file;

/*
 * Takes part in the file's lease. False where the kernel grants none: the file is open
 * for writing, or is another user's.
 */
bool lease_take(struct gds_file *file);
/* Whether no one waits for it to be given back. */
bool lease_stands(struct gds_file *file);
void lease_give(struct gds_file *file);

#endif
