/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the fake share. */
#ifndef FAKE_H
#define FAKE_H

#include "fake-cuda.h"

#include <pthread.h>

#define FAKE_DEVICES_MAX 4
#define FAKE_GRANULARITY ((size_t)2 << 20)

/* Addresses of devices are apart from those of the CPU, which faults on them. */
#define DEVICE_BIAS     (UINT64_C(1) << 56)
#define REGISTERED_BIAS (UINT64_C(2) << 56)

enum fake_kind {
	FAKE_CONTEXTS,
	FAKE_STREAMS,
	FAKE_EVENTS,
	FAKE_MODULES,
	FAKE_MEMORY,
	FAKE_HANDLES,
	FAKE_ADDRESSES,
	FAKE_MAPPINGS,
	FAKE_HOST_MEMORY,
	FAKE_REGISTRATIONS,
	FAKE_KINDS,
};

/* Guards all of the fake's state. */
extern pthread_mutex_t fake_lock;

struct CUctx_st {
	int ordinal;
	bool primary;
	unsigned retained; /* of a primary context */
	CUstream default_stream;
};

/* Counts the call, and gives the error that it is to fail with, or CUDA_SUCCESS. */
CUresult fake_fault(const char *symbol);
void fake_count(enum fake_kind kind, int change);
int fake_attribute(unsigned attribute);
unsigned fake_lag(void);
size_t fake_export_page(void);
bool fake_export_knows_flags(void);
int fake_device_count(void);

/* Of the thread, or NULL. */
CUcontext fake_current(void);

/* Where the CPU finds the range, or NULL where the context may not touch all of it. */
void *fake_translate(CUdeviceptr address, size_t bytes, CUcontext context);
/* The same for any context. */
void *fake_translate_any(CUdeviceptr address, size_t bytes);

/* stream.c: does what streams have to do, as far as they can. Lock held. */
void fake_pump(void);
struct fake_launch;
CUresult fake_put_launch(CUstream stream, struct fake_launch *launch);
/* module.c */
void fake_run_launch(struct fake_launch *launch);

/* A call of the API: fails on request, or goes on with the lock held. */
#define FAKE_BEGIN(symbol)                            \
	do {                                          \
		CUresult fault_ = fake_fault(symbol); \
                                                      \
		if (fault_ != CUDA_SUCCESS)           \
			return fault_;                \
		pthread_mutex_lock(&fake_lock);       \
	} while (0)

static inline CUresult fake_end(CUresult result)
{
	pthread_mutex_unlock(&fake_lock);
	return result;
}

/* Exported, with the prototype that the backend takes them by. */
#define FAKE_CALL                                FAKE_EXPORT CUresult
#define FAKE_PROTOTYPE(name, symbol, parameters) FAKE_CALL fake_##name parameters __asm__(symbol);
CUDA_CALLS(FAKE_PROTOTYPE)
CUDA_NEWER_CALLS(FAKE_PROTOTYPE)

#endif
