/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA backend's own declarations of the driver API, against the toolkit's cuda.h
 * where that is installed: values, layouts, symbols and prototypes. And its kernel,
 * against the toolkit's assembler.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__has_include)
#if __has_include(<cuda.h>)
#include <cuda.h>
#endif
#endif

#include "calls.h"
#include "constants.h"

/* The newest of the names that are compared. */
#if defined(CUDA_VERSION)
#if CUDA_VERSION >= 12080
#define HAVE_HEADER 1
#endif
#endif

#ifdef HAVE_HEADER

#define COMPARE(name, value) assert_int_equal(name, value);
static void constants_have_the_values_of_the_header(void **state)
{
	CUDA_RESULTS(COMPARE)
	CUDA_DEVICE_ATTRIBUTES(COMPARE)
	CUDA_POINTER_ATTRIBUTES(COMPARE)
	CUDA_FLAGS(COMPARE)
}

#define COMPARE_SIZE(structure, bytes) assert_int_equal(sizeof(structure), bytes);
#define COMPARE_OFFSET(structure, member, offset) \
	assert_int_equal(offsetof(structure, member), offset);
static void structures_are_laid_out_as_in_the_header(void **state)
{
	CUDA_LAYOUTS(COMPARE_SIZE, COMPARE_OFFSET)
}

#define TEXT(name)                               #name
#define VALUE(name)                              TEXT(name) /* of what the header maps the name to */
#define COMPARE_SYMBOL(name, symbol, parameters) assert_string_equal(VALUE(name), symbol);
static void calls_are_looked_up_by_the_symbols_of_the_header(void **state)
{
	CUDA_CALLS(COMPARE_SYMBOL)
	CUDA_NEWER_CALLS(COMPARE_SYMBOL)
}

/* NOLINTBEGIN(bugprone-macro-parentheses): a list of parameters takes no more of them */
#define COMPARE_TYPE(name, symbol, parameters) \
	assert_true(                           \
		__builtin_types_compatible_p(__typeof__(&name), CUresult(CUDAAPI *) parameters));
/* NOLINTEND(bugprone-macro-parentheses) */
static void calls_have_the_prototypes_of_the_header(void **state){
	CUDA_CALLS(COMPARE_TYPE) CUDA_NEWER_CALLS(COMPARE_TYPE)
}

#else

#define NEED_HEADER(test)                                                         \
	static void test(void **state)                                            \
	{                                                                         \
		print_message("there is no cuda.h of CUDA 12.8 or newer here\n"); \
		skip();                                                           \
	}
NEED_HEADER(constants_have_the_values_of_the_header)
NEED_HEADER(structures_are_laid_out_as_in_the_header)
NEED_HEADER(calls_are_looked_up_by_the_symbols_of_the_header)
NEED_HEADER(calls_have_the_prototypes_of_the_header)

#endif

extern const char cuda_checksum_ptx[]; /* backends/cuda/checksum-ptx.c */

#define ASSEMBLER "PATH=$PATH:/usr/local/cuda/bin ptxas"

/* Of the toolkit. The driver's own, which takes it in the end, is there only with a GPU. */
static void the_kernel_is_taken_by_the_assembler(void **state)
{
	char path[] = "/tmp/gds-test-cuda-XXXXXX";
	char command[256];
	int fd;

	/* NOLINTNEXTLINE(cert-env33-c): a test may run a program */
	if (system(ASSEMBLER " --version >/dev/null 2>&1")) {
		print_message("there is no ptxas here\n");
		skip();
	}
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, cuda_checksum_ptx, strlen(cuda_checksum_ptx)),
			 strlen(cuda_checksum_ptx));
	close(fd);
	snprintf(command, sizeof(command), ASSEMBLER " -arch=sm_75 -Werror -o /dev/null %s", path);
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(constants_have_the_values_of_the_header),
		cmocka_unit_test(structures_are_laid_out_as_in_the_header),
		cmocka_unit_test(calls_are_looked_up_by_the_symbols_of_the_header),
		cmocka_unit_test(calls_have_the_prototypes_of_the_header),
		cmocka_unit_test(the_kernel_is_taken_by_the_assembler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
