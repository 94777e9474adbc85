/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Part of a FAKE libcuda.so.1, see fake-cuda.h: an interpreter of as much of PTX as
 * the backend's kernel is made of, so that its text is tested and not only its idea.
 */
#ifndef FAKE_PTX_H
#define FAKE_PTX_H

#include <stddef.h>
#include <stdint.h>

#define PTX_PARAMETERS_MAX 8

struct ptx;

/* NULL, with a line on standard error, where the text is not understood. */
struct ptx *ptx_parse(const char *text);
void ptx_free(struct ptx *ptx);
const char *ptx_entry(const struct ptx *ptx);
size_t ptx_parameters(const struct ptx *ptx);
size_t ptx_parameter_bytes(const struct ptx *ptx, size_t index);
/* Runs one thread. `translate` gives the CPU's address of memory that it touches. */
void ptx_run(const struct ptx *ptx, const uint64_t *parameters, uint32_t block, uint32_t threads,
	     uint32_t thread, void *(*translate)(uint64_t address, size_t bytes));

#endif
