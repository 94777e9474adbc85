/* SPDX-License-Identifier: GPL-2.0-only */
/* Requests to kernel/vm, over the port gds.ctl. They end the test when refused. */
#ifndef KERNEL_TESTS_VMCTL_H
#define KERNEL_TESTS_VMCTL_H

/* Skips the test where there is no kernel/vm to ask. */
void vm_request(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Lets `operations_per_s` through; 0 lifts the limit. */
void vm_throttle(const char *disk, unsigned operations_per_s);

#endif
