/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The constants of the CUDA driver API that gds uses, by the names and with the
 * values of the toolkit's cuda.h, which the build does not need. They are part of
 * the driver's binary interface and do not change: tests/unit/test-cuda-abi.c holds
 * them against that header where it is installed.
 */
#ifndef GDS_CUDA_CONSTANTS_H
#define GDS_CUDA_CONSTANTS_H

/* CUresult */
#define CUDA_RESULTS(X)                                   \
	X(CUDA_SUCCESS, 0)                                \
	X(CUDA_ERROR_INVALID_VALUE, 1)                    \
	X(CUDA_ERROR_OUT_OF_MEMORY, 2)                    \
	X(CUDA_ERROR_NOT_INITIALIZED, 3)                  \
	X(CUDA_ERROR_STUB_LIBRARY, 34)                    \
	X(CUDA_ERROR_NO_DEVICE, 100)                      \
	X(CUDA_ERROR_INVALID_DEVICE, 101)                 \
	X(CUDA_ERROR_INVALID_CONTEXT, 201)                \
	X(CUDA_ERROR_INVALID_PTX, 218)                    \
	X(CUDA_ERROR_INVALID_HANDLE, 400)                 \
	X(CUDA_ERROR_NOT_FOUND, 500)                      \
	X(CUDA_ERROR_NOT_READY, 600)                      \
	X(CUDA_ERROR_ILLEGAL_ADDRESS, 700)                \
	X(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, 712) \
	X(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, 713)     \
	X(CUDA_ERROR_NOT_PERMITTED, 800)                  \
	X(CUDA_ERROR_NOT_SUPPORTED, 801)                  \
	X(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, 803)         \
	X(CUDA_ERROR_UNKNOWN, 999)

/* CUdevice_attribute */
#define CUDA_DEVICE_ATTRIBUTES(X)                                               \
	X(CU_DEVICE_ATTRIBUTE_INTEGRATED, 18)                                   \
	X(CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES, 98)                      \
	X(CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 99)                      \
	X(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 102)         \
	X(CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, 103) \
	X(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, 110)     \
	X(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS, 117)        \
	X(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING, 118)             \
	X(CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED, 124)

/* CUpointer_attribute */
#define CUDA_POINTER_ATTRIBUTES(X)             \
	X(CU_POINTER_ATTRIBUTE_CONTEXT, 1)     \
	X(CU_POINTER_ATTRIBUTE_MEMORY_TYPE, 2) \
	X(CU_POINTER_ATTRIBUTE_IS_MANAGED, 8)  \
	X(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, 9)

/* The rest, each of an enumeration or a set of flags that its name tells. */
#define CUDA_FLAGS(X)                                            \
	X(CU_STREAM_NON_BLOCKING, 0x1)                           \
	X(CU_EVENT_DISABLE_TIMING, 0x2)                          \
	X(CU_STREAM_WAIT_VALUE_GEQ, 0x0)                         \
	X(CU_STREAM_WAIT_VALUE_FLUSH, 0x40000000)                \
	X(CU_MEMORYTYPE_HOST, 0x1)                               \
	X(CU_MEMORYTYPE_DEVICE, 0x2)                             \
	X(CU_MEMHOSTALLOC_PORTABLE, 0x1)                         \
	X(CU_MEMHOSTALLOC_DEVICEMAP, 0x2)                        \
	X(CU_MEMHOSTREGISTER_PORTABLE, 0x1)                      \
	X(CU_MEMHOSTREGISTER_DEVICEMAP, 0x2)                     \
	X(CU_MEM_HANDLE_TYPE_NONE, 0x0)                          \
	X(CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0x1)         \
	X(CU_MEM_ACCESS_FLAGS_PROT_READWRITE, 0x3)               \
	X(CU_MEM_LOCATION_TYPE_DEVICE, 0x1)                      \
	X(CU_MEM_ALLOCATION_TYPE_PINNED, 0x1)                    \
	X(CU_MEM_ALLOC_GRANULARITY_MINIMUM, 0x0)                 \
	X(CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0x1)              \
	X(CU_MEM_RANGE_FLAG_DMA_BUF_MAPPING_TYPE_PCIE, 0x1)      \
	X(CU_FLUSH_GPU_DIRECT_RDMA_WRITES_OPTION_HOST, 0x1)      \
	X(CU_FLUSH_GPU_DIRECT_RDMA_WRITES_OPTION_MEMOPS, 0x2)    \
	X(CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER, 100)         \
	X(CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX, 0) \
	X(CU_GPU_DIRECT_RDMA_WRITES_ORDERING_OWNER, 100)

/* Sizes of structures, and where their members lie: X(structure, bytes), Y(..., offset). */
#define CUDA_LAYOUTS(X, Y)                                          \
	X(CUmemLocation, 8)                                         \
	Y(CUmemLocation, id, 4)                                     \
	X(CUmemAllocationProp, 32)                                  \
	Y(CUmemAllocationProp, requestedHandleTypes, 4)             \
	Y(CUmemAllocationProp, location, 8)                         \
	Y(CUmemAllocationProp, win32HandleMetaData, 16)             \
	Y(CUmemAllocationProp, allocFlags.gpuDirectRDMACapable, 25) \
	X(CUmemAccessDesc, 12)                                      \
	Y(CUmemAccessDesc, flags, 8)

#endif
