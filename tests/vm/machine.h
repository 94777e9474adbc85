/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests do to the virtual machine that they run in, kernel/vm. */
#ifndef GDS_TESTS_MACHINE_H
#define GDS_TESTS_MACHINE_H

#include <stdbool.h>

#define BARS_MOST      4
#define BAR_NAME_BYTES 48

/* Writes to a file of sysfs or procfs that may be missing; says what is refused. */
void write_text(const char *path, const char *text);

/*
 * Binds the BARs that stand for GPUs to vfio-pci, if they are not yet. Their devices'
 * names, in the order of their addresses: the first is below one switch with the first
 * drive, the second below a port of its own. Returns how many there are.
 */
unsigned bars_bind(char names[BARS_MOST][BAR_NAME_BYTES]);

/* Asks kernel/vm for something, such as "unplug nvme1". Whether it was done; any thread. */
bool vm_ask(const char *request);

#endif
