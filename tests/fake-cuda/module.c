/* SPDX-License-Identifier: Apache-2.0 */
/* Part of a FAKE libcuda.so.1, see fake-cuda.h: modules, and launches of their kernels. */
#include "fake.h"
#include "ptx.h"

#include <stdlib.h>
#include <string.h>

struct CUmod_st {
	CUcontext context;
	struct ptx *ptx;
};

struct fake_launch {
	const struct ptx *ptx;
	unsigned blocks;
	unsigned threads;
	uint64_t parameters[PTX_PARAMETERS_MAX];
};

CUresult fake_cuModuleLoadData(CUmodule *module, const void *image)
{
	struct ptx *ptx;

	FAKE_BEGIN("cuModuleLoadData");
	if (!fake_current())
		return fake_end(CUDA_ERROR_INVALID_CONTEXT);
	ptx = ptx_parse(image);
	if (!ptx)
		return fake_end(CUDA_ERROR_INVALID_PTX);
	*module = calloc(1, sizeof(**module));
	if (!*module)
		abort();
	(*module)->ptx = ptx;
	(*module)->context = fake_current();
	fake_count(FAKE_MODULES, 1);
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuModuleUnload(CUmodule module)
{
	CUresult fault = fake_fault("cuModuleUnload");

	pthread_mutex_lock(&fake_lock);
	ptx_free(module->ptx);
	free(module);
	fake_count(FAKE_MODULES, -1);
	return fake_end(fault);
}

CUresult fake_cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
	FAKE_BEGIN("cuModuleGetFunction");
	if (strcmp(ptx_entry(module->ptx), name) != 0)
		return fake_end(CUDA_ERROR_NOT_FOUND);
	*function = (CUfunction)module;
	return fake_end(CUDA_SUCCESS);
}

/* NOLINTNEXTLINE(readability-function-size): it has the API's many parameters */
CUresult fake_cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y,
			     unsigned int grid_z, unsigned int block_x, unsigned int block_y,
			     unsigned int block_z, unsigned int shared_bytes, CUstream stream,
			     void **parameters, void **extra)
{
	CUmodule module = (CUmodule)function;
	struct fake_launch *launch;
	CUresult result;

	FAKE_BEGIN("cuLaunchKernel");
	if (module->context != fake_current())
		return fake_end(CUDA_ERROR_INVALID_HANDLE);
	if (!grid_x || grid_y != 1 || grid_z != 1 || !block_x || block_x > 1024 || block_y != 1 ||
	    block_z != 1 || shared_bytes || extra)
		return fake_end(CUDA_ERROR_INVALID_VALUE);
	launch = calloc(1, sizeof(*launch));
	if (!launch)
		abort();
	launch->ptx = module->ptx;
	launch->blocks = grid_x;
	launch->threads = block_x;
	/* They are taken at once: the caller's may be gone when the kernel runs. */
	for (size_t i = 0; i < ptx_parameters(module->ptx); i++)
		memcpy(&launch->parameters[i], parameters[i], ptx_parameter_bytes(module->ptx, i));
	result = fake_put_launch(stream, launch);
	if (result != CUDA_SUCCESS)
		free(launch);
	return fake_end(result);
}

static void *translate(uint64_t address, size_t bytes)
{
	return fake_translate_any(address, bytes);
}

void fake_run_launch(struct fake_launch *launch)
{
	for (unsigned block = 0; block < launch->blocks; block++)
		for (unsigned thread = 0; thread < launch->threads; thread++)
			ptx_run(launch->ptx, launch->parameters, block, launch->threads, thread,
				translate);
	free(launch);
}
