/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host memory that is registered with the driver.
 *
 * A reader's staging memory serves all devices, and the driver registers a range
 * once. The registration is a context's, and ends with it, so it holds that context
 * for as long as any device uses the memory.
 */
#include "device.h"

#include "base/error.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>

struct cuda_pin {
	struct cuda_pin *next;
	unsigned references;
	void *host;
	size_t bytes;
	CUdevice device;
	CUcontext context;
};

static pthread_mutex_t pins_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cuda_pin *pins;

static struct cuda_pin *find_pin(const void *host, size_t bytes)
{
	struct cuda_pin *pin = pins;

	while (pin && (pin->host != host || pin->bytes != bytes))
		pin = pin->next;
	return pin;
}

static int register_host(const struct cuda_device *device, struct cuda_pin *pin)
{
	CUresult result;
	int err = cuda_enter(device, pin->context);

	if (err)
		return err;
	result = cuda.cuMemHostRegister(pin->host, pin->bytes, CU_MEMHOSTREGISTER_PORTABLE);
	cuda_leave();
	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: cannot register %zu bytes of staging memory",
				 device->label, pin->bytes);
	return 0;
}

static struct cuda_pin *make_pin(struct cuda_device *device, void *host, size_t bytes)
{
	struct cuda_pin *pin = calloc(1, sizeof(*pin));
	CUresult result;
	int err;

	if (!pin) {
		gds_fail_errno(ENOMEM, "%s: cannot pin staging memory", device->label);
		return NULL;
	}
	*pin = (struct cuda_pin){ .host = host, .bytes = bytes, .device = device->handle };
	result = cuda.cuDevicePrimaryCtxRetain(&pin->context, pin->device);
	if (result != CUDA_SUCCESS) {
		cuda_fail(result, "%s: cannot hold its primary context", device->label);
		free(pin);
		return NULL;
	}
	err = register_host(device, pin);
	if (!err)
		return pin;
	cuda_check_end(device, cuda.cuDevicePrimaryCtxRelease(pin->device),
		       "release its primary context");
	free(pin);
	return NULL;
}

struct cuda_pin *cuda_pin_get(struct cuda_device *device, void *host, size_t bytes)
{
	struct cuda_pin *pin = NULL;

	if (!device->host_register)
		return NULL;
	pthread_mutex_lock(&pins_lock);
	pin = find_pin(host, bytes);
	if (!pin) {
		pin = make_pin(device, host, bytes);
		if (pin) {
			pin->next = pins;
			pins = pin;
		}
	}
	if (pin)
		pin->references++;
	pthread_mutex_unlock(&pins_lock);
	if (!pin)
		gds_info("copies go through memory of the driver: %s", gds_last_error());
	return pin;
}

static void unregister_host(struct cuda_pin *pin)
{
	CUcontext before;
	CUresult result;
	bool entered = cuda.cuCtxPushCurrent(pin->context) == CUDA_SUCCESS;

	result = cuda.cuMemHostUnregister(pin->host);
	if (result != CUDA_SUCCESS)
		gds_debug("staging memory of device %d is unregistered by %s", pin->device,
			  cuda_result_name(result));
	if (entered)
		cuda.cuCtxPopCurrent(&before);
	cuda.cuDevicePrimaryCtxRelease(pin->device);
}

void cuda_pin_put(struct cuda_pin *pin)
{
	struct cuda_pin **link = &pins;

	if (!pin)
		return;
	pthread_mutex_lock(&pins_lock);
	if (--pin->references == 0) {
		while (*link != pin)
			link = &(*link)->next;
		*link = pin->next;
		/* Under the lock, or the range could be registered again before. */
		unregister_host(pin);
		free(pin);
	}
	pthread_mutex_unlock(&pins_lock);
}
