/* SPDX-License-Identifier: Apache-2.0 */
/* SIGINT, SIGTERM and SIGHUP ask the run to stop in good order; a second one kills. */
#ifndef BENCH_SIGNALS_H
#define BENCH_SIGNALS_H

/* From here on the signals are noted instead of ending the process, unless they are ignored. */
void signals_install(void);

/* The signal that asked to stop, or 0. */
int signals_pending(void);

/* Its name: "SIGINT". */
const char *signals_name(void);

#endif
