/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Constants of the kernel's io_uring interface that are younger than the oldest
 * liburing this builds with (2.3). Each names the release that brought it; the
 * numbers are those of include/uapi/linux/io_uring.h and never change.
 */
#ifndef GDS_LANE_UAPI_H
#define GDS_LANE_UAPI_H

#include <liburing.h>
#include <stdint.h>

/* Linux 6.6: the submission ring has no array of indices; entries go in order. */
#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif

/*
 * Linux 6.12: a wait for several completions can be content with one after some time.
 * It is given in what headers before that call padding.
 */
#ifndef IORING_FEAT_MIN_TIMEOUT
#define IORING_FEAT_MIN_TIMEOUT (1U << 15)
#endif

/* struct io_uring_getevents_arg */
struct uapi_getevents {
	uint64_t sigmask;
	uint32_t sigmask_sz;
	uint32_t min_wait_usec;
	uint64_t ts;
};

#endif
