/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thorough proof of a path: reads of many shapes into poisoned memory, with every
 * byte of them, and those around, compared through the device's own eyes.
 */
#ifndef BENCH_PROOF_H
#define BENCH_PROOF_H

#include "options.h"
#include "status.h"

#include <gds/gds.h>
#include <jansson.h>

struct proof {
	const char *name; /* of the file */
	struct gds_file *file;
	uint64_t file_bytes;
	struct gds_device *device;
	const struct gds_device_info *info;
	/* What a reader that is careful says of the file and the device. */
	const struct gds_explanation *explanation;
};

/*
 * Proves the path that the options name; else dmabuf where it can be tried at all, also
 * where the reader's own proof has refused it; else the one that is taken. Prints what
 * was found, or puts it into `object` where that is not NULL. A path that a read would
 * take and that did not deliver gives STATUS_FAILED.
 */
enum status proof_run(const struct proof *proof, const struct options *options, json_t *object);

#endif
