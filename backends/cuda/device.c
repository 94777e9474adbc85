/* SPDX-License-Identifier: Apache-2.0 */
/* What CUDA devices there are, and opening one. */
#include "device.h"

#include "base/error.h"
#include "base/log.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRIVER_VERSION_FILE "/sys/module/nvidia/version"

int cuda_attribute(CUdevice device, CUdevice_attribute attribute)
{
	int value = 0;

	return cuda.cuDeviceGetAttribute(&value, attribute, device) == CUDA_SUCCESS ? value : 0;
}

/* "580.65.06", or "" where no file tells: the driver API has only its own version. */
static void read_driver_version(char *version, int size)
{
	FILE *file = fopen(DRIVER_VERSION_FILE, "re");

	version[0] = '\0';
	if (!file)
		return;
	if (fgets(version, size, file))
		version[strcspn(version, "\n")] = '\0';
	fclose(file);
}

/* As in sysfs, where hexadecimal digits are small; empty where the driver does not tell. */
static void read_pci_address(CUdevice handle, char *address, int size)
{
	if (cuda.cuDeviceGetPCIBusId(address, size, handle) != CUDA_SUCCESS)
		address[0] = '\0';
	for (; *address; address++)
		*address = (char)tolower((unsigned char)*address);
}

static void fill_info(CUdevice handle, int ordinal, struct gds_device_info *info)
{
	char driver[64];
	int version = 0;
	size_t bytes = 0;

	gds_text_set(info->name, sizeof(info->name), "cuda:%d", ordinal);
	if (cuda.cuDeviceGetName(info->description, sizeof(info->description), handle) !=
	    CUDA_SUCCESS)
		gds_text_set(info->description, sizeof(info->description), "a GPU without a name");
	if (cuda.cuDriverGetVersion(&version) != CUDA_SUCCESS)
		version = 0;
	read_driver_version(driver, sizeof(driver));
	gds_text_set(info->driver, sizeof(info->driver), "NVIDIA %s%sCUDA %d.%d", driver,
		     driver[0] ? ", " : "", version / 1000, version % 1000 / 10);
	if (cuda.cuDeviceTotalMem(&bytes, handle) != CUDA_SUCCESS)
		bytes = 0;
	info->memory_bytes = bytes;
	read_pci_address(handle, info->pci, sizeof(info->pci));
	info->unified = cuda_attribute(handle, CU_DEVICE_ATTRIBUTE_INTEGRATED) > 0;
}

void cuda_info(struct backend_device *base, struct gds_device_info *info)
{
	struct cuda_device *device = to_cuda_device(base);

	fill_info(device->handle, device->ordinal, info);
}

/* ---- Which devices there are ---- */

static int count_devices(int *count)
{
	CUresult result;
	int err = cuda_load();

	if (err)
		return err;
	result = cuda.cuDeviceGetCount(count);
	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "cannot count the CUDA devices");
	if (*count <= 0)
		return gds_fail(ENODEV, "the CUDA driver is there, but finds no GPU");
	return 0;
}

static int list_one(int ordinal,
		    int (*visit)(const char *backend, const struct gds_device_info *info,
				 const char *reason, void *user),
		    void *user)
{
	struct gds_device_info info = { .size = sizeof(info) };
	char reason[GDS_ERROR_BYTES];
	CUdevice handle;
	CUresult result = cuda.cuDeviceGet(&handle, ordinal);

	if (result != CUDA_SUCCESS) {
		cuda_fail(result, "device %d cannot be used", ordinal);
		gds_text_set(reason, sizeof(reason), "%s", gds_last_error());
		return visit("cuda", NULL, reason, user);
	}
	fill_info(handle, ordinal, &info);
	return visit("cuda", &info, NULL, user);
}

int cuda_list(int (*visit)(const char *backend, const struct gds_device_info *info,
			   const char *reason, void *user),
	      void *user)
{
	char reason[GDS_ERROR_BYTES];
	int result = 0;
	int count;

	if (count_devices(&count)) {
		gds_text_set(reason, sizeof(reason), "%s", gds_last_error());
		return visit("cuda", NULL, reason, user);
	}
	for (int i = 0; i < count && !result; i++)
		result = list_one(i, visit, user);
	return result;
}

static bool name_matches(int ordinal, const char *selector)
{
	char name[256] = "";
	CUdevice handle;

	return cuda.cuDeviceGet(&handle, ordinal) == CUDA_SUCCESS &&
	       cuda.cuDeviceGetName(name, sizeof(name), handle) == CUDA_SUCCESS &&
	       strcasestr(name, selector);
}

static bool is_number(const char *text)
{
	return text[0] && text[strspn(text, "0123456789")] == '\0';
}

/* The selector is an ordinal, a part of a name, or empty for the first device. */
static int pick(const char *selector, int *ordinal)
{
	int count;
	int err = count_devices(&count);

	if (err)
		return err;
	*ordinal = 0;
	if (is_number(selector)) {
		unsigned long number = strtoul(selector, NULL, 10);

		if (number < (unsigned long)count) {
			*ordinal = (int)number;
			return 0;
		}
	} else {
		for (int i = 0; i < count; i++) {
			if (selector[0] && !name_matches(i, selector))
				continue;
			*ordinal = i;
			return 0;
		}
	}
	return gds_fail(ENODEV,
			"no device 'cuda:%s': there are %d, \"cuda:0\" to \"cuda:%d\"; `gds-bench "
			"check` lists them",
			selector, count, count - 1);
}

/* ---- Opening and closing ---- */

static void read_attributes(struct cuda_device *device)
{
	CUdevice handle = device->handle;
	int flushes =
		cuda_attribute(handle, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS);
	int ordering = cuda_attribute(handle, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING);

	device->unified = cuda_attribute(handle, CU_DEVICE_ATTRIBUTE_INTEGRATED) > 0;
	device->has_vmm =
		cuda_attribute(handle, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
	device->host_register = cuda_attribute(handle, CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED);
	device->wait_flushes = cuda_attribute(handle, CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES);
	device->needs_flush = ordering < CU_GPU_DIRECT_RDMA_WRITES_ORDERING_OWNER;
	device->can_flush = (flushes & CU_FLUSH_GPU_DIRECT_RDMA_WRITES_OPTION_HOST) &&
			    cuda.cuFlushGPUDirectRDMAWrites;
}

static struct cuda_device *new_device(int ordinal)
{
	struct cuda_device *device = calloc(1, sizeof(*device));

	if (!device) {
		gds_fail_errno(ENOMEM, "cannot open a CUDA device");
		return NULL;
	}
	device->base.ops = &backend_cuda;
	device->ordinal = ordinal;
	device->slice_bytes = SLICE_BYTES;
	pthread_mutex_init(&device->lock, NULL);
	pthread_mutex_init(&device->checksum_lock, NULL);
	return device;
}

static void delete_device(struct cuda_device *device)
{
	pthread_mutex_destroy(&device->checksum_lock);
	pthread_mutex_destroy(&device->lock);
	free(device);
}

static int start(struct cuda_device *device)
{
	struct gds_device_info info;
	CUcontext context;
	CUresult result = cuda.cuDeviceGet(&device->handle, device->ordinal);
	int err;

	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "cannot open device cuda:%d", device->ordinal);
	fill_info(device->handle, device->ordinal, &info);
	gds_text_set(device->name, sizeof(device->name), "%.20s", info.name);
	gds_text_set(device->label, sizeof(device->label), "%s (%.80s)", device->name,
		     info.description);
	read_attributes(device);
	result = cuda.cuDevicePrimaryCtxRetain(&context, device->handle);
	if (result != CUDA_SUCCESS)
		return cuda_fail(result, "%s: cannot make its primary context", device->label);
	err = cuda_queue_get(device, context, &device->primary);
	if (err)
		cuda.cuDevicePrimaryCtxRelease(device->handle);
	return err;
}

int cuda_open(struct backend_device **result, const char *selector)
{
	struct cuda_device *device;
	int ordinal;
	int err = pick(selector, &ordinal);

	if (err)
		return err;
	device = new_device(ordinal);
	if (!device)
		return -ENOMEM;
	err = start(device);
	if (err) {
		delete_device(device);
		return err;
	}
	*result = &device->base;
	return 0;
}

void cuda_close(struct backend_device *base)
{
	struct cuda_device *device = to_cuda_device(base);

	if (cuda_waits_pending(device)) {
		gds_log(GDS_LOG_ERROR,
			"%s was closed while a stream waits for a batch that is not complete: it "
			"is kept open",
			device->label);
		return;
	}
	cuda_waits_stop(device);
	cuda_checksum_stop(device);
	cuda_queue_put(device, device->primary);
	cuda_check_end(device, cuda.cuDevicePrimaryCtxRelease(device->handle),
		       "release its primary context");
	delete_device(device);
}
