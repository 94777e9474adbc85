/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines without a driver of CUDA, or with one that is old, broken or not the real
 * thing. In order: a driver that was loaded stays, so that comes last.
 */
#include "cuda-test.h"

#include <dlfcn.h>

static bool no_library;
static const char *missing_symbol = "";

void *__real_dlopen(const char *file, int mode);
void *__wrap_dlopen(const char *file, int mode);
void *__real_dlsym(void *library, const char *symbol);
void *__wrap_dlsym(void *library, const char *symbol);

void *__wrap_dlopen(const char *file, int mode)
{
	assert_string_equal(file, "libcuda.so.1");
	return __real_dlopen(no_library ? "libcuda-that-is-not-there.so.1" : file, mode);
}

void *__wrap_dlsym(void *library, const char *symbol)
{
	if (missing_symbol[0] && strcmp(symbol, missing_symbol) == 0)
		return NULL;
	return __real_dlsym(library, symbol);
}

static int keep_reason(const char *backend, const struct gds_device_info *info, const char *reason,
		       void *user)
{
	assert_string_equal(backend, "cuda");
	assert_null(info);
	snprintf(user, 512, "%s", reason);
	return 3;
}

/* Both the list and an attempt to open say it. */
static void expect_reason(const char *part)
{
	struct backend_device *device = NULL;
	char reason[512] = "";

	assert_int_equal(ops->list(keep_reason, reason), 3);
	if (!strstr(reason, part))
		fail_msg("'%s' does not say '%s'", reason, part);
	assert_int_equal(ops->open(&device, "0"), -ENODEV);
	assert_null(device);
}

static void a_machine_without_the_library_is_told_so(void **state)
{
	no_library = true;
	expect_reason("no CUDA driver here");
	no_library = false;
}

static void a_driver_that_is_too_old_is_told_by_what_it_lacks(void **state)
{
	missing_symbol = "cuMemCreate";
	expect_reason("lacks cuMemCreate");
	missing_symbol = "";
}

static void a_driver_that_does_not_start_says_why(void **state)
{
	static const struct {
		CUresult result;
		const char *reason;
	} cases[] = {
		{ CUDA_ERROR_NO_DEVICE, "finds no GPU" },
		{ CUDA_ERROR_STUB_LIBRARY, "stub" },
		{ CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "restart" },
		{ CUDA_ERROR_UNKNOWN, "cuInit gives 999" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake_cuda_fail("cuInit", 1, cases[i].result);
		fake_cuda_fail("cuInit", 2, cases[i].result);
		expect_reason(cases[i].reason);
	}
}

static void what_an_older_driver_lacks_is_left_out(void **state)
{
	struct backend_device *device;

	missing_symbol = "cuMemGetHandleForAddressRange";
	device = open_device("");
	assert_null(cuda.cuMemGetHandleForAddressRange);
	assert_non_null(cuda.cuMemCreate);
	ops->close(device);
	missing_symbol = "";
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_machine_without_the_library_is_told_so),
		cmocka_unit_test(a_driver_that_is_too_old_is_told_by_what_it_lacks),
		cmocka_unit_test(a_driver_that_does_not_start_says_why),
		CUDA_TEST(what_an_older_driver_lacks_is_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
