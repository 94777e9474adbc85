/* SPDX-License-Identifier: Apache-2.0 */
/* Loading libcuda.so.1, and turning its results into errors. */
#include "api.h"

#include "base/error.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#define LIBRARY "libcuda.so.1"

struct cuda_api cuda;

struct entry {
	const char *symbol;
	size_t offset; /* in struct cuda_api */
	bool required;
};

#define AS_REQUIRED(name, symbol, parameters) { symbol, offsetof(struct cuda_api, name), true },
#define AS_OPTIONAL(name, symbol, parameters) { symbol, offsetof(struct cuda_api, name), false },
static const struct entry entries[] = { CUDA_CALLS(AS_REQUIRED) CUDA_NEWER_CALLS(AS_OPTIONAL) };

/* dlsym(3) gives a pointer to data for what is a function: POSIX lets it be copied so. */
static int fill_table(void *library, struct cuda_api *api)
{
	void *call;

	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		call = dlsym(library, entries[i].symbol);
		if (!call && entries[i].required)
			return gds_fail(ENODEV,
					LIBRARY " lacks %s: gds needs the driver of CUDA 11.0 "
						"(450) or a newer one",
					entries[i].symbol);
		*(void **)((char *)api + entries[i].offset) = call;
	}
	return 0;
}

static int initialize(const struct cuda_api *api)
{
	CUresult result = api->cuInit(0);

	switch (result) {
	case CUDA_SUCCESS:
		return 0;
	case CUDA_ERROR_NO_DEVICE:
		return gds_fail(ENODEV, "the CUDA driver is there, but finds no GPU");
	case CUDA_ERROR_STUB_LIBRARY:
		return gds_fail(ENODEV, LIBRARY " is the stub that programs are linked with: "
						"install the driver itself");
	case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
		return gds_fail(ENODEV, LIBRARY " does not fit the kernel's driver: restart the "
						"machine after an update of the driver");
	default:
		return gds_fail(ENODEV, "the CUDA driver does not start: cuInit gives %u", result);
	}
}

/* The library stays, even if it is of no use: it may have threads, and handlers for exit(3). */
static int load(void)
{
	static struct cuda_api api;
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	int err;

	if (!library)
		return gds_fail(ENODEV, "there is no CUDA driver here: %s", dlerror());
	err = fill_table(library, &api);
	if (!err)
		err = initialize(&api);
	if (!err)
		cuda = api;
	return err;
}

int cuda_load(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static bool loaded;
	int err = 0;

	pthread_mutex_lock(&lock);
	if (!loaded)
		err = load();
	loaded = !err;
	pthread_mutex_unlock(&lock);
	return err;
}

const char *cuda_result_name(CUresult result)
{
	const char *name = NULL;

	if (cuda.cuGetErrorName(result, &name) != CUDA_SUCCESS || !name)
		return "an unknown error";
	return name;
}

static int errno_of(CUresult result)
{
	switch (result) {
	case CUDA_ERROR_INVALID_VALUE:
		return EINVAL;
	case CUDA_ERROR_OUT_OF_MEMORY:
		return ENOMEM;
	case CUDA_ERROR_NO_DEVICE:
	case CUDA_ERROR_INVALID_DEVICE:
		return ENODEV;
	case CUDA_ERROR_NOT_PERMITTED:
		return EPERM;
	case CUDA_ERROR_NOT_SUPPORTED:
		return ENOTSUP;
	default:
		return EIO;
	}
}

int cuda_fail(CUresult result, const char *format, ...)
{
	char what[GDS_ERROR_BYTES];
	const char *text = NULL;
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (cuda.cuGetErrorString(result, &text) != CUDA_SUCCESS || !text)
		text = "no words for it";
	return gds_fail(errno_of(result), "%s: %s (%s)", what, cuda_result_name(result), text);
}
