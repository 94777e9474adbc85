/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_MAN_H
#define BENCH_MAN_H

/* Prints the page gds-bench(1) in troff; docs/man/gds-bench.1 is its output. */
void man_print(void);

#endif
