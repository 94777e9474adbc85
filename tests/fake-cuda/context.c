/* SPDX-License-Identifier: Apache-2.0 */
/* Part of a FAKE libcuda.so.1, see fake-cuda.h: errors, devices and contexts. */
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACK_MAX 16

static bool initialized; /* fake_lock */
static struct CUctx_st primaries[FAKE_DEVICES_MAX];
static _Thread_local CUcontext stack[STACK_MAX];
static _Thread_local unsigned depth;

CUcontext fake_current(void)
{
	return depth ? stack[depth - 1] : NULL;
}

CUresult fake_cuInit(unsigned int flags)
{
	FAKE_BEGIN("cuInit");
	if (fake_device_count() == 0)
		return fake_end(CUDA_ERROR_NO_DEVICE);
	initialized = true;
	return fake_end(flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS);
}

CUresult fake_cuDriverGetVersion(int *version)
{
	FAKE_BEGIN("cuDriverGetVersion");
	*version = 12080;
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuGetErrorName(CUresult error, const char **name)
{
#define AS_NAME(result, value) { result, #result },
	static const struct {
		CUresult result;
		const char *name;
	} names[] = { CUDA_RESULTS(AS_NAME) };

	FAKE_BEGIN("cuGetErrorName");
	*name = NULL;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].result == error)
			*name = names[i].name;
	return fake_end(*name ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

CUresult fake_cuGetErrorString(CUresult error, const char **text)
{
	FAKE_BEGIN("cuGetErrorString");
	*text = "as the test wished";
	return fake_end(CUDA_SUCCESS);
}

static bool device_exists(CUdevice device)
{
	return initialized && device >= 0 && device < fake_device_count() &&
	       device < FAKE_DEVICES_MAX;
}

CUresult fake_cuDeviceGetCount(int *count)
{
	FAKE_BEGIN("cuDeviceGetCount");
	if (!initialized)
		return fake_end(CUDA_ERROR_NOT_INITIALIZED);
	*count = fake_device_count();
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuDeviceGet(CUdevice *device, int ordinal)
{
	FAKE_BEGIN("cuDeviceGet");
	if (!device_exists(ordinal))
		return fake_end(CUDA_ERROR_INVALID_DEVICE);
	*device = ordinal;
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuDeviceGetName(char *name, int length, CUdevice device)
{
	FAKE_BEGIN("cuDeviceGetName");
	if (!device_exists(device))
		return fake_end(CUDA_ERROR_INVALID_DEVICE);
	snprintf(name, (size_t)length, "Fake GPU %c", 'A' + device);
	return fake_end(CUDA_SUCCESS);
}

/* Nothing is at these addresses. */
CUresult fake_cuDeviceGetPCIBusId(char *id, int length, CUdevice device)
{
	FAKE_BEGIN("cuDeviceGetPCIBusId");
	if (!device_exists(device))
		return fake_end(CUDA_ERROR_INVALID_DEVICE);
	snprintf(id, (size_t)length, "FFFF:%02X:00.0", 0xf0 + device);
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuDeviceTotalMem(size_t *bytes, CUdevice device)
{
	FAKE_BEGIN("cuDeviceTotalMem_v2");
	if (!device_exists(device))
		return fake_end(CUDA_ERROR_INVALID_DEVICE);
	*bytes = (size_t)16 << 30;
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
	FAKE_BEGIN("cuDeviceGetAttribute");
	if (!device_exists(device) || fake_attribute(attribute) < 0)
		return fake_end(CUDA_ERROR_INVALID_VALUE);
	*value = fake_attribute(attribute);
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
	FAKE_BEGIN("cuDevicePrimaryCtxRetain");
	if (!device_exists(device))
		return fake_end(CUDA_ERROR_INVALID_DEVICE);
	*context = &primaries[device];
	(*context)->ordinal = device;
	(*context)->primary = true;
	(*context)->retained++;
	fake_count(FAKE_CONTEXTS, 1);
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuDevicePrimaryCtxRelease(CUdevice device)
{
	CUresult fault = fake_fault("cuDevicePrimaryCtxRelease_v2");

	pthread_mutex_lock(&fake_lock);
	if (!device_exists(device) || primaries[device].retained == 0)
		return fake_end(CUDA_ERROR_INVALID_CONTEXT);
	primaries[device].retained--;
	fake_count(FAKE_CONTEXTS, -1);
	return fake_end(fault);
}

CUresult fake_cuCtxPushCurrent(CUcontext context)
{
	FAKE_BEGIN("cuCtxPushCurrent_v2");
	if (!context || depth == STACK_MAX || (context->primary && !context->retained))
		return fake_end(CUDA_ERROR_INVALID_CONTEXT);
	stack[depth++] = context;
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuCtxPopCurrent(CUcontext *context)
{
	CUresult fault = fake_fault("cuCtxPopCurrent_v2");

	pthread_mutex_lock(&fake_lock);
	if (depth == 0)
		return fake_end(CUDA_ERROR_INVALID_CONTEXT);
	*context = stack[--depth];
	return fake_end(fault);
}

CUresult fake_cuCtxGetCurrent(CUcontext *context)
{
	FAKE_BEGIN("cuCtxGetCurrent");
	*context = fake_current();
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuCtxGetDevice(CUdevice *device)
{
	FAKE_BEGIN("cuCtxGetDevice");
	if (!fake_current())
		return fake_end(CUDA_ERROR_INVALID_CONTEXT);
	*device = fake_current()->ordinal;
	return fake_end(CUDA_SUCCESS);
}

CUresult fake_cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
	FAKE_BEGIN("cuCtxGetStreamPriorityRange");
	if (!fake_current())
		return fake_end(CUDA_ERROR_INVALID_CONTEXT);
	*least = 0;
	*greatest = -5;
	return fake_end(CUDA_SUCCESS);
}

CUcontext fake_cuda_context(int ordinal)
{
	CUcontext context = calloc(1, sizeof(*context));

	if (!context)
		abort();
	context->ordinal = ordinal;
	fake_count(FAKE_CONTEXTS, 1);
	return context;
}

void fake_cuda_context_end(CUcontext context)
{
	fake_count(FAKE_CONTEXTS, -1);
	free(context);
}
