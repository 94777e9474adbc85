/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls of the CUDA driver API that gds uses: X(name, symbol, parameters), with
 * the name and the types as in the API's documentation, and the symbol that stands
 * for that name in libcuda.so.1. Where a call was revised the symbol ends in the
 * revision, and the one without is an older call of other parameters, kept for old
 * programs: cuda.h of 13.0 maps the names as it is done here.
 */
#ifndef GDS_CUDA_CALLS_H
#define GDS_CUDA_CALLS_H

/* Of every driver since CUDA 11.0: the backend does not start without them. */
#define CUDA_CALLS(X)                                                                              \
	X(cuInit, "cuInit", (unsigned int flags))                                                  \
	X(cuDriverGetVersion, "cuDriverGetVersion", (int *version))                                \
	X(cuGetErrorName, "cuGetErrorName", (CUresult error, const char **name))                   \
	X(cuGetErrorString, "cuGetErrorString", (CUresult error, const char **text))               \
	X(cuDeviceGetCount, "cuDeviceGetCount", (int *count))                                      \
	X(cuDeviceGet, "cuDeviceGet", (CUdevice * device, int ordinal))                            \
	X(cuDeviceGetName, "cuDeviceGetName", (char *name, int length, CUdevice device))           \
	X(cuDeviceGetPCIBusId, "cuDeviceGetPCIBusId", (char *id, int length, CUdevice device))     \
	X(cuDeviceTotalMem, "cuDeviceTotalMem_v2", (size_t * bytes, CUdevice device))              \
	X(cuDeviceGetAttribute, "cuDeviceGetAttribute",                                            \
	  (int *value, CUdevice_attribute attribute, CUdevice device))                             \
	X(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain",                                    \
	  (CUcontext * context, CUdevice device))                                                  \
	X(cuCtxPushCurrent, "cuCtxPushCurrent_v2", (CUcontext context))                            \
	X(cuCtxPopCurrent, "cuCtxPopCurrent_v2", (CUcontext * context))                            \
	X(cuCtxGetCurrent, "cuCtxGetCurrent", (CUcontext * context))                               \
	X(cuCtxGetDevice, "cuCtxGetDevice", (CUdevice * device))                                   \
	X(cuCtxGetStreamPriorityRange, "cuCtxGetStreamPriorityRange", (int *least, int *greatest)) \
	X(cuStreamCreateWithPriority, "cuStreamCreateWithPriority",                                \
	  (CUstream * stream, unsigned int flags, int priority))                                   \
	X(cuStreamDestroy, "cuStreamDestroy_v2", (CUstream stream))                                \
	X(cuStreamSynchronize, "cuStreamSynchronize", (CUstream stream))                           \
	X(cuEventCreate, "cuEventCreate", (CUevent * event, unsigned int flags))                   \
	X(cuEventDestroy, "cuEventDestroy_v2", (CUevent event))                                    \
	X(cuEventRecord, "cuEventRecord", (CUevent event, CUstream stream))                        \
	X(cuEventQuery, "cuEventQuery", (CUevent event))                                           \
	X(cuEventSynchronize, "cuEventSynchronize", (CUevent event))                               \
	X(cuMemGetInfo, "cuMemGetInfo_v2", (size_t * free, size_t * total))                        \
	X(cuMemAlloc, "cuMemAlloc_v2", (CUdeviceptr * address, size_t bytes))                      \
	X(cuMemFree, "cuMemFree_v2", (CUdeviceptr address))                                        \
	X(cuMemGetAddressRange, "cuMemGetAddressRange_v2",                                         \
	  (CUdeviceptr * base, size_t * bytes, CUdeviceptr address))                               \
	X(cuPointerGetAttribute, "cuPointerGetAttribute",                                          \
	  (void *data, CUpointer_attribute attribute, CUdeviceptr address))                        \
	X(cuMemHostAlloc, "cuMemHostAlloc", (void **host, size_t bytes, unsigned int flags))       \
	X(cuMemFreeHost, "cuMemFreeHost", (void *host))                                            \
	X(cuMemHostRegister, "cuMemHostRegister_v2",                                               \
	  (void *host, size_t bytes, unsigned int flags))                                          \
	X(cuMemHostUnregister, "cuMemHostUnregister", (void *host))                                \
	X(cuMemHostGetDevicePointer, "cuMemHostGetDevicePointer_v2",                               \
	  (CUdeviceptr * address, void *host, unsigned int flags))                                 \
	X(cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2",                                               \
	  (CUdeviceptr to, const void *from, size_t bytes, CUstream stream))                       \
	X(cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2",                                               \
	  (void *to, CUdeviceptr from, size_t bytes, CUstream stream))                             \
	X(cuMemcpyDtoDAsync, "cuMemcpyDtoDAsync_v2",                                               \
	  (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))                       \
	X(cuMemcpyPeerAsync, "cuMemcpyPeerAsync",                                                  \
	  (CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,         \
	   size_t bytes, CUstream stream))                                                         \
	X(cuModuleLoadData, "cuModuleLoadData", (CUmodule * module, const void *image))            \
	X(cuModuleUnload, "cuModuleUnload", (CUmodule module))                                     \
	X(cuModuleGetFunction, "cuModuleGetFunction",                                              \
	  (CUfunction * function, CUmodule module, const char *name))                              \
	X(cuLaunchKernel, "cuLaunchKernel",                                                        \
	  (CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,     \
	   unsigned int block_x, unsigned int block_y, unsigned int block_z,                       \
	   unsigned int shared_bytes, CUstream stream, void **parameters, void **extra))           \
	X(cuStreamGetCtx, "cuStreamGetCtx", (CUstream stream, CUcontext * context))                \
	X(cuMemGetAllocationGranularity, "cuMemGetAllocationGranularity",                          \
	  (size_t * bytes, const CUmemAllocationProp *properties,                                  \
	   CUmemAllocationGranularity_flags option))                                               \
	X(cuMemAddressReserve, "cuMemAddressReserve",                                              \
	  (CUdeviceptr * address, size_t bytes, size_t alignment, CUdeviceptr wanted,              \
	   unsigned long long flags))                                                              \
	X(cuMemAddressFree, "cuMemAddressFree", (CUdeviceptr address, size_t bytes))               \
	X(cuMemCreate, "cuMemCreate",                                                              \
	  (CUmemGenericAllocationHandle * handle, size_t bytes,                                    \
	   const CUmemAllocationProp *properties, unsigned long long flags))                       \
	X(cuMemRelease, "cuMemRelease", (CUmemGenericAllocationHandle handle))                     \
	X(cuMemMap, "cuMemMap",                                                                    \
	  (CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,  \
	   unsigned long long flags))                                                              \
	X(cuMemUnmap, "cuMemUnmap", (CUdeviceptr address, size_t bytes))                           \
	X(cuMemSetAccess, "cuMemSetAccess",                                                        \
	  (CUdeviceptr address, size_t bytes, const CUmemAccessDesc *access, size_t count))        \
	X(cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", (CUdevice device))

/* Of newer drivers, NULL in the table where the driver lacks them. Since CUDA ... */
#define CUDA_NEWER_CALLS(X)                                                                 \
	/* 11.3 */                                                                          \
	X(cuFlushGPUDirectRDMAWrites, "cuFlushGPUDirectRDMAWrites",                         \
	  (CUflushGPUDirectRDMAWritesTarget target, CUflushGPUDirectRDMAWritesScope scope)) \
	/* 11.7 */                                                                          \
	X(cuStreamWaitValue32, "cuStreamWaitValue32_v2",                                    \
	  (CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned int flags))     \
	X(cuMemGetHandleForAddressRange, "cuMemGetHandleForAddressRange",                   \
	  (void *handle, CUdeviceptr address, size_t bytes, CUmemRangeHandleType type,      \
	   unsigned long long flags))

#endif
