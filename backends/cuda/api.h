/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA driver API, declared here and loaded at run time, so that gds is built
 * without CUDA's headers and runs without its driver. Names of types, constants and
 * calls are those of the API; enumerations are passed as integers of their size.
 */
#ifndef GDS_CUDA_API_H
#define GDS_CUDA_API_H

#include "calls.h"
#include "constants.h"

#include <stddef.h>
#include <stdint.h>

typedef unsigned int CUresult;
typedef unsigned int CUdevice_attribute;
typedef unsigned int CUpointer_attribute;
typedef unsigned int CUmemAllocationGranularity_flags;
typedef unsigned int CUmemRangeHandleType;
typedef unsigned int CUflushGPUDirectRDMAWritesTarget;
typedef unsigned int CUflushGPUDirectRDMAWritesScope;
typedef int CUdevice;
typedef uint32_t cuuint32_t;
typedef unsigned long long CUdeviceptr;
typedef unsigned long long CUmemGenericAllocationHandle;
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;

/* These paste names and types of the lists: parentheses would not compile. */
/* NOLINTBEGIN(bugprone-macro-parentheses) */
#define CUDA_AS_ENUMERATOR(name, value) name = value,
enum cuda_constants {
	CUDA_RESULTS(CUDA_AS_ENUMERATOR) CUDA_DEVICE_ATTRIBUTES(CUDA_AS_ENUMERATOR)
		CUDA_POINTER_ATTRIBUTES(CUDA_AS_ENUMERATOR) CUDA_FLAGS(CUDA_AS_ENUMERATOR)
};

typedef struct {
	unsigned int type;
	int id;
} CUmemLocation;

typedef struct {
	unsigned int type;
	unsigned int requestedHandleTypes;
	CUmemLocation location;
	void *win32HandleMetaData;
	struct {
		unsigned char compressionType;
		unsigned char gpuDirectRDMACapable;
		unsigned short usage;
		unsigned char reserved[4];
	} allocFlags;
} CUmemAllocationProp;

typedef struct {
	CUmemLocation location;
	unsigned int flags;
} CUmemAccessDesc;

#define CUDA_CHECK_SIZE(structure, bytes) _Static_assert(sizeof(structure) == (bytes), #structure);
#define CUDA_CHECK_OFFSET(structure, member, offset) \
	_Static_assert(offsetof(structure, member) == (offset), #structure "." #member);
CUDA_LAYOUTS(CUDA_CHECK_SIZE, CUDA_CHECK_OFFSET)

#define CUDA_AS_MEMBER(name, symbol, parameters) CUresult(*name) parameters;
struct cuda_api {
	CUDA_CALLS(CUDA_AS_MEMBER)
	CUDA_NEWER_CALLS(CUDA_AS_MEMBER)
};
/* NOLINTEND(bugprone-macro-parentheses) */

/* Filled by the first cuda_load() that succeeds, and never changed again. */
extern struct cuda_api cuda;

/*
 * Loads the driver and initializes it. -ENODEV with the reason where there is no
 * driver, or none that can be used here.
 */
int cuda_load(void);

/* As gds_fail(), with the driver's word for the result appended. Returns -errno. */
int cuda_fail(CUresult result, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "CUDA_ERROR_OUT_OF_MEMORY". Static storage. */
const char *cuda_result_name(CUresult result);

#endif
