/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How buffers of udmabuf are made, against a stand-in for the kernel that fails on
 * request. What the real one makes of them is looked at in tests/vm.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "base/error.h"
#include "dmabuf/sync.h"
#include "dmabuf/system.h"
#include "memory/backend.h"

#include <fcntl.h>
#include <linux/udmabuf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_BYTES (UINT64_C(2) << 20)

static struct {
	int fallocate_errors[4]; /* of its next calls, up to a 0 */
	unsigned fallocate_calls;
	int create_error;
} kernel;

int __wrap_open(const char *path, int flags, ...);
int __real_open(const char *path, int flags, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_memfd_create(const char *name, unsigned flags);
int __real_memfd_create(const char *name, unsigned flags);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t bytes);
int __wrap_dmabuf_sync(int fd, uint64_t flags);
uint64_t __wrap_system_meminfo(const char *key);

int __wrap_open(const char *path, int flags, ...)
{
	return __real_open(strcmp(path, "/dev/udmabuf") == 0 ? "/dev/null" : path, flags, 0600);
}

/* A second descriptor of the pages serves for the dma-buf. */
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	const struct udmabuf_create *create;
	va_list args;

	va_start(args, request);
	create = va_arg(args, const struct udmabuf_create *);
	va_end(args);
	assert_int_equal(request, UDMABUF_CREATE);
	if (!kernel.create_error)
		return fcntl((int)create->memfd, F_DUPFD_CLOEXEC, 0);
	errno = kernel.create_error;
	return -1;
}

int __wrap_memfd_create(const char *name, unsigned flags)
{
	return __real_memfd_create(name, flags & ~MFD_HUGETLB);
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t bytes)
{
	const int error = kernel.fallocate_errors[kernel.fallocate_calls++];

	errno = error;
	return error ? -1 : 0;
}

int __wrap_dmabuf_sync(int fd, uint64_t flags)
{
	return 0;
}

uint64_t __wrap_system_meminfo(const char *key)
{
	if (strcmp(key, "Hugepagesize") == 0)
		return HUGE_BYTES >> 10;
	return strncmp(key, "HugePages", 9) == 0 ? 8 : UINT64_C(1) << 30;
}

static int setup(void **state)
{
	memset(&kernel, 0, sizeof(kernel));
	return backend_udmabuf.open((struct backend_device **)state, "huge");
}

static int teardown(void **state)
{
	backend_udmabuf.close(*state);
	return 0;
}

/* Which descriptor is the next tells whether all before were closed. */
static int next_fd(void)
{
	const int fd = dup(STDIN_FILENO);

	close(fd);
	return fd;
}

static void a_signal_while_huge_pages_are_taken_is_no_lack_of_them(void **state)
{
	struct backend_memory *memory = NULL;

	kernel.fallocate_errors[0] = EINTR;
	kernel.fallocate_errors[1] = EINTR;
	assert_int_equal(backend_udmabuf.alloc(*state, HUGE_BYTES, 0, &memory), 0);
	assert_int_equal(kernel.fallocate_calls, 3);
	backend_udmabuf.free(memory);
}

static void a_lack_of_huge_pages_is_told_with_what_to_do(void **state)
{
	struct backend_memory *memory = NULL;
	const int before = next_fd();

	kernel.fallocate_errors[0] = ENOSPC;
	assert_int_equal(backend_udmabuf.alloc(*state, HUGE_BYTES, 0, &memory), -ENOMEM);
	assert_non_null(strstr(gds_last_error(), "nr_hugepages"));
	assert_int_equal(next_fd(), before);
}

static void what_the_kernel_does_not_export_leaves_nothing_open(void **state)
{
	struct backend_memory *memory = NULL;
	const int before = next_fd();

	kernel.create_error = ENOMEM;
	assert_int_equal(backend_udmabuf.alloc(*state, HUGE_BYTES, 0, &memory), -ENOMEM);
	assert_non_null(strstr(gds_last_error(), "dma-buf of 2097152 bytes"));
	assert_int_equal(next_fd(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_signal_while_huge_pages_are_taken_is_no_lack_of_them, setup, teardown),
		cmocka_unit_test_setup_teardown(a_lack_of_huge_pages_is_told_with_what_to_do, setup,
						teardown),
		cmocka_unit_test_setup_teardown(what_the_kernel_does_not_export_leaves_nothing_open,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
