/* SPDX-License-Identifier: Apache-2.0 */
#include "dmabuf/sync.h"

#include <errno.h>
#include <linux/dma-buf.h>
#include <sys/ioctl.h>

int dmabuf_sync(int fd, uint64_t flags)
{
	struct dma_buf_sync sync = { .flags = flags };
	int result;

	/* Both mean that it was interrupted and changed nothing. */
	do {
		result = ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
	} while (result < 0 && (errno == EINTR || errno == EAGAIN));
	return result < 0 ? -errno : 0;
}
