/* SPDX-License-Identifier: GPL-2.0-only */
/* Each adds its tests. */
#ifndef KERNEL_TESTS_CASES_H
#define KERNEL_TESTS_CASES_H

void add_stock_cases(void);
void add_registration_cases(void);
void add_transfer_cases(void);
void add_lifetime_cases(void);
void add_move_cases(void);
void add_random_cases(void);
void add_fault_cases(void);
void add_leak_cases(void);

#endif
