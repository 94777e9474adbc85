/* SPDX-License-Identifier: Apache-2.0 */
/* How it is found out in which shape the kernel reads into dma-bufs, if it does. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "lane/dmabuf.h"
#include "lane/uapi.h"

#include <string.h>

enum { RING = 77 };

/* The next calls fail with these, if they are not 0. */
static struct {
	int ring_error;
	int table_error;
	int update_error;
	unsigned rings; /* that are open */
	unsigned calls;
} kernel;

int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
void __wrap_io_uring_queue_exit(struct io_uring *ring);
int __wrap_io_uring_register(unsigned fd, unsigned opcode, const void *argument, unsigned count);

int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
	kernel.calls++;
	if (kernel.ring_error)
		return -kernel.ring_error;
	memset(ring, 0, sizeof(*ring));
	ring->ring_fd = RING;
	kernel.rings++;
	return 0;
}

void __wrap_io_uring_queue_exit(struct io_uring *ring)
{
	assert_int_equal(ring->ring_fd, RING);
	kernel.rings--;
}

int __wrap_io_uring_register(unsigned fd, unsigned opcode, const void *argument, unsigned count)
{
	assert_int_equal(fd, RING);
	if (opcode == IORING_REGISTER_BUFFERS2)
		return -kernel.table_error;
	assert_int_equal(opcode, IORING_REGISTER_BUFFERS_UPDATE);
	return kernel.update_error ? -kernel.update_error : 1;
}

static void what_is_short_for_now_is_no_answer(void **state)
{
	kernel.ring_error = EMFILE;
	assert_int_equal(dmabuf_kernel_shape(), DMABUF_NONE);
	kernel.ring_error = 0;
	kernel.table_error = ENOMEM;
	assert_int_equal(dmabuf_kernel_shape(), DMABUF_NONE);
	kernel.table_error = 0;
	kernel.update_error = ENOMEM;
	assert_int_equal(dmabuf_kernel_shape(), DMABUF_NONE);
	assert_int_equal(kernel.rings, 0);
	kernel.update_error = 0;
	assert_int_equal(dmabuf_kernel_shape(), DMABUF_DESCRIPTORS);
}

static void an_answer_is_kept(void **state)
{
	const unsigned calls = kernel.calls;

	kernel.ring_error = EMFILE;
	assert_int_equal(dmabuf_kernel_shape(), DMABUF_DESCRIPTORS);
	assert_int_equal(kernel.calls, calls);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_short_for_now_is_no_answer),
		cmocka_unit_test(an_answer_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
