/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A FAKE of NVIDIA's libcuda.so.1, for tests: it moves bytes of host memory, and
 * proves nothing about GPUs. It implements the calls that the backend makes
 * (backends/cuda/calls.h), is stricter than a driver where that finds errors, and
 * fails calls on request. These are the calls by which tests steer it.
 *
 * What it models. Device memory is at addresses that the CPU cannot use. A call works
 * in the thread's current context, and refuses what belongs to another one. A stream
 * runs what it was given in order, when the fake is called: at once, or after it was
 * asked `lag` times. A stream that waits for a word holds back what follows. Kernels
 * are PTX, which is interpreted. A dma-buf is udmabuf's where there is that, and a drive can
 * write to it; else a descriptor of the memory's memfd stands for it.
 *
 * The environment variables FAKE_CUDA_FAIL ("cuMemCreate:1:2,...", as fake_cuda_fail()),
 * FAKE_CUDA_DEVICES and FAKE_CUDA_LAG do the same for programs that know nothing of it.
 */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include "api.h"

#include <stdbool.h>
#include <stddef.h>

#define FAKE_EXPORT __attribute__((visibility("default")))

/*
 * The nth call from now of the symbol `name` ("*": of any) fails with `code`. Calls
 * that end something do so all the same, as drivers do. `nth` 0 takes all such wishes
 * back. Several wishes may be open at once.
 */
FAKE_EXPORT void fake_cuda_fail(const char *name, unsigned nth, unsigned code);
/* Calls of the symbol so far ("*": of any). */
FAKE_EXPORT unsigned fake_cuda_calls(const char *name);
/* The symbol of the last call that was made to fail, or "". */
FAKE_EXPORT const char *fake_cuda_failed(void);

/* Times that the fake is asked before it does each thing that is put in a stream. */
FAKE_EXPORT void fake_cuda_lag(unsigned lag);
FAKE_EXPORT void fake_cuda_devices(int count);
FAKE_EXPORT void fake_cuda_attribute(unsigned attribute, int value);
/* What addresses and sizes of exports have to be multiples of. */
FAKE_EXPORT void fake_cuda_export_page(size_t bytes);
/* Whether cuMemGetHandleForAddressRange() knows of flags; and how many were set so far. */
FAKE_EXPORT void fake_cuda_export_flags(bool known);
FAKE_EXPORT unsigned fake_cuda_flagged_exports(void);
/* Everything as at the start, but for what is alive. */
FAKE_EXPORT void fake_cuda_reset(void);

/*
 * How many things were made and not ended, and which: contexts retained, streams,
 * events, modules, memory, addresses, mappings, registrations.
 */
FAKE_EXPORT int fake_cuda_alive(char *text, size_t bytes);

/* A context beside the primary one, and its end. */
FAKE_EXPORT CUcontext fake_cuda_context(int ordinal);
FAKE_EXPORT void fake_cuda_context_end(CUcontext context);

/* Writes to exported memory as a drive would: false outside of the dma-buf. */
FAKE_EXPORT bool fake_cuda_drive_writes(int fd, size_t offset, const void *data, size_t bytes);
/* Properties of the last cuMemCreate() that succeeded. */
FAKE_EXPORT CUmemAllocationProp fake_cuda_last_properties(void);

#endif
