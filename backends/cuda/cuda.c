/* SPDX-License-Identifier: Apache-2.0 */
/* The table of calls that makes this a backend. */
#include "device.h"

const struct backend_ops backend_cuda = {
	.name = "cuda",
	.summary = "GPUs of NVIDIA, through the CUDA driver",
	.list = cuda_list,
	.open = cuda_open,
	.close = cuda_close,
	.info = cuda_info,
	.alloc = cuda_alloc,
	.free = cuda_free,
	.export_slice = cuda_export_slice,
	.staging_attach = cuda_staging_attach,
	.staging_detach = cuda_staging_detach,
	.copy = cuda_copy,
	.copied = cuda_copied,
	.acquire = cuda_acquire,
	.copy_out = cuda_copy_out,
	.copy_in = cuda_copy_in,
	.checksum = cuda_checksum,
};
