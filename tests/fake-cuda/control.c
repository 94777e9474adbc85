/* SPDX-License-Identifier: Apache-2.0 */
/* Part of a FAKE libcuda.so.1, see fake-cuda.h: how tests steer it, and what they ask. */
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WISHES_MAX     16
#define SYMBOLS_MAX    128
#define ATTRIBUTES_MAX 160

struct wish {
	char symbol[64];
	unsigned nth; /* calls from now; 0: none */
	unsigned code;
};

struct tally {
	const char *symbol;
	unsigned calls;
};

pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;

/* Apart from fake_lock, which is taken after it was decided whether a call fails. */
static pthread_mutex_t control_lock = PTHREAD_MUTEX_INITIALIZER;
static struct wish wishes[WISHES_MAX];
static struct tally tallies[SYMBOLS_MAX];
static const char *last_failed = "";
static int attributes[ATTRIBUTES_MAX];
static int alive[FAKE_KINDS];
static int device_count = 1;
static unsigned stream_lag;
static size_t export_page = 4096;
static bool export_flags = true;

static const char *const kind_names[] = {
	[FAKE_CONTEXTS] = "contexts retained",
	[FAKE_STREAMS] = "streams",
	[FAKE_EVENTS] = "events",
	[FAKE_MODULES] = "modules",
	[FAKE_MEMORY] = "allocations",
	[FAKE_HANDLES] = "memory handles",
	[FAKE_ADDRESSES] = "address ranges",
	[FAKE_MAPPINGS] = "mappings",
	[FAKE_HOST_MEMORY] = "host allocations",
	[FAKE_REGISTRATIONS] = "registrations",
};

static void set_defaults(void)
{
	memset(attributes, 0, sizeof(attributes));
	attributes[CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES] = 1;
	attributes[CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED] = 1;
	attributes[CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED] = 1;
	attributes[CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED] = 1;
	attributes[CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED] = 1;
	attributes[CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS] =
		CU_FLUSH_GPU_DIRECT_RDMA_WRITES_OPTION_HOST;
	attributes[CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING] =
		CU_GPU_DIRECT_RDMA_WRITES_ORDERING_OWNER;
	attributes[CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED] = 1;
	device_count = 1;
	stream_lag = 0;
	export_page = 4096;
	export_flags = true;
	memset(wishes, 0, sizeof(wishes));
	last_failed = "";
}

static void add_wish(const char *symbol, unsigned nth, unsigned code)
{
	for (size_t i = 0; i < WISHES_MAX; i++) {
		if (wishes[i].nth)
			continue;
		snprintf(wishes[i].symbol, sizeof(wishes[i].symbol), "%s", symbol);
		wishes[i].nth = nth;
		wishes[i].code = code;
		return;
	}
	fprintf(stderr, "fake libcuda: more than %d wishes at once\n", WISHES_MAX);
	abort();
}

static unsigned number(const char *text)
{
	return text ? (unsigned)strtoul(text, NULL, 10) : 0;
}

/* "SYMBOL:NTH:CODE", with commas between. */
static void wishes_from_environment(const char *text)
{
	char *copy = strdup(text);
	char *rest = NULL;

	for (char *one = strtok_r(copy, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
		char *part = NULL;
		const char *symbol = strtok_r(one, ":", &part);
		unsigned nth = number(strtok_r(NULL, ":", &part));
		unsigned code = number(strtok_r(NULL, ":", &part));

		if (!symbol || !nth || !code) {
			fprintf(stderr, "fake libcuda: FAKE_CUDA_FAIL is not understood: %s\n",
				text);
			abort();
		}
		add_wish(symbol, nth, code);
	}
	free(copy);
}

__attribute__((constructor)) static void start(void)
{
	const char *fail = getenv("FAKE_CUDA_FAIL");
	const char *devices = getenv("FAKE_CUDA_DEVICES");
	const char *lag = getenv("FAKE_CUDA_LAG");

	set_defaults();
	if (fail)
		wishes_from_environment(fail);
	if (devices)
		device_count = (int)number(devices);
	if (lag)
		stream_lag = number(lag);
}

/* ---- For the fake ---- */

static struct tally *find_tally(const char *symbol)
{
	for (size_t i = 0; i < SYMBOLS_MAX; i++) {
		if (!tallies[i].symbol)
			tallies[i].symbol = symbol;
		if (strcmp(tallies[i].symbol, symbol) == 0)
			return &tallies[i];
	}
	abort();
}

CUresult fake_fault(const char *symbol)
{
	CUresult result = CUDA_SUCCESS;

	pthread_mutex_lock(&control_lock);
	find_tally(symbol)->calls++;
	for (size_t i = 0; i < WISHES_MAX; i++) {
		struct wish *wish = &wishes[i];

		if (wish->nth &&
		    (strcmp(wish->symbol, "*") == 0 || strcmp(wish->symbol, symbol) == 0) &&
		    --wish->nth == 0 && result == CUDA_SUCCESS) {
			result = wish->code;
			last_failed = symbol;
		}
	}
	pthread_mutex_unlock(&control_lock);
	return result;
}

void fake_count(enum fake_kind kind, int change)
{
	pthread_mutex_lock(&control_lock);
	alive[kind] += change;
	pthread_mutex_unlock(&control_lock);
}

int fake_attribute(unsigned attribute)
{
	int value;

	pthread_mutex_lock(&control_lock);
	value = attribute < ATTRIBUTES_MAX ? attributes[attribute] : -1;
	pthread_mutex_unlock(&control_lock);
	return value;
}

unsigned fake_lag(void)
{
	unsigned lag;

	pthread_mutex_lock(&control_lock);
	lag = stream_lag;
	pthread_mutex_unlock(&control_lock);
	return lag;
}

size_t fake_export_page(void)
{
	return export_page;
}

bool fake_export_knows_flags(void)
{
	return export_flags;
}

int fake_device_count(void)
{
	return device_count;
}

/* ---- For tests ---- */

void fake_cuda_fail(const char *name, unsigned nth, unsigned code)
{
	pthread_mutex_lock(&control_lock);
	if (nth)
		add_wish(name, nth, code);
	else
		memset(wishes, 0, sizeof(wishes));
	pthread_mutex_unlock(&control_lock);
}

unsigned fake_cuda_calls(const char *name)
{
	unsigned calls = 0;

	pthread_mutex_lock(&control_lock);
	for (size_t i = 0; i < SYMBOLS_MAX && tallies[i].symbol; i++)
		if (strcmp(name, "*") == 0 || strcmp(name, tallies[i].symbol) == 0)
			calls += tallies[i].calls;
	pthread_mutex_unlock(&control_lock);
	return calls;
}

const char *fake_cuda_failed(void)
{
	return last_failed;
}

void fake_cuda_lag(unsigned lag)
{
	pthread_mutex_lock(&control_lock);
	stream_lag = lag;
	pthread_mutex_unlock(&control_lock);
}

void fake_cuda_devices(int count)
{
	device_count = count;
}

void fake_cuda_attribute(unsigned attribute, int value)
{
	pthread_mutex_lock(&control_lock);
	attributes[attribute] = value;
	pthread_mutex_unlock(&control_lock);
}

void fake_cuda_export_page(size_t bytes)
{
	export_page = bytes;
}

void fake_cuda_export_flags(bool known)
{
	export_flags = known;
}

void fake_cuda_reset(void)
{
	pthread_mutex_lock(&control_lock);
	set_defaults();
	pthread_mutex_unlock(&control_lock);
}

int fake_cuda_alive(char *text, size_t bytes)
{
	int total = 0;
	size_t used = 0;

	pthread_mutex_lock(&control_lock);
	text[0] = '\0';
	for (size_t i = 0; i < FAKE_KINDS; i++) {
		if (!alive[i])
			continue;
		total += alive[i];
		if (used < bytes)
			used += (size_t)snprintf(text + used, bytes - used, "%s%d %s",
						 used ? ", " : "", alive[i], kind_names[i]);
	}
	pthread_mutex_unlock(&control_lock);
	return total;
}
