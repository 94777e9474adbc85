/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Constants of the kernel's io_uring interface that are younger than the oldest
 * liburing this builds with (2.3). Each names the release that brought it; the
 * numbers are those of include/uapi/linux/io_uring.h and never change.
 */
#ifndef GDS_LANE_UAPI_H
#define GDS_LANE_UAPI_H

#include <liburing.h>

/* Linux 6.6: the submission ring has no array of indices; entries go in order. */
#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif

#endif
