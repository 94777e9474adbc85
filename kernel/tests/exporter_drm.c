// SPDX-License-Identifier: GPL-2.0-only
/* Dumb buffers, exported with PRIME. The few layouts are written down here, so
 * that the tests need no more headers than a C compiler's. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "exporters.h"
#include "test.h"

struct drm_version {
	int major, minor, patch;
	size_t name_len;
	char *name;
	size_t date_len;
	char *date;
	size_t desc_len;
	char *desc;
};

struct drm_create_dumb {
	uint32_t height, width, bits_per_pixel, flags;
	uint32_t handle, pitch;
	uint64_t size;
};

struct drm_prime_handle {
	uint32_t handle, flags;
	int32_t fd;
};

#define DRM_IOCTL_VERSION _IOWR('d', 0x00, struct drm_version)
#define DRM_IOCTL_CREATE_DUMB _IOWR('d', 0xb2, struct drm_create_dumb)
#define DRM_IOCTL_PRIME_HANDLE_TO_FD _IOWR('d', 0x2d, struct drm_prime_handle)

enum { PIXELS_IN_A_ROW = 1024, BYTES_IN_A_PIXEL = 4, CARDS = 16 };

static int open_card(const char *driver)
{
	int card;

	for (card = 0; card < CARDS; card++) {
		char path[32], name[32] = "";
		struct drm_version version = {.name = name, .name_len = sizeof(name) - 1};
		int fd;

		snprintf(path, sizeof(path), "/dev/dri/card%d", card);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (ioctl(fd, DRM_IOCTL_VERSION, &version) == 0 && strcmp(name, driver) == 0)
			return fd;
		close(fd);
	}
	test_skip("no DRM card of driver %s", driver);
}

static void dumb_open(struct memory *memory, const char *driver)
{
	struct drm_create_dumb dumb = {
		.width = PIXELS_IN_A_ROW,
		.height = (uint32_t)(memory->bytes / (PIXELS_IN_A_ROW * BYTES_IN_A_PIXEL)),
		.bits_per_pixel = BYTES_IN_A_PIXEL * 8};
	struct drm_prime_handle prime = {.flags = O_RDWR | O_CLOEXEC};
	int card = open_card(driver);

	CHECK(ioctl(card, DRM_IOCTL_CREATE_DUMB, &dumb) == 0, "creating a dumb buffer: %s",
	      strerror(errno));
	CHECK(dumb.size == memory->bytes, "a dumb buffer of %llu bytes, not %zu",
	      (unsigned long long)dumb.size, memory->bytes);
	prime.handle = dumb.handle;
	CHECK(ioctl(card, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime) == 0, "PRIME export: %s",
	      strerror(errno));
	memory->dmabuf_fd = prime.fd;
	memory->map = map_shared(prime.fd, memory->bytes, 0);
	memory->fds[0] = card;
}

static void dumb_close(struct memory *memory)
{
	close(memory->fds[0]);
}

static void vgem_open(struct memory *memory)
{
	dumb_open(memory, "vgem");
}

static void virtio_gpu_open(struct memory *memory)
{
	dumb_open(memory, "virtio_gpu");
}

const struct exporter exporter_vgem = {.name = "vgem", .open = vgem_open, .close = dumb_close};
const struct exporter exporter_virtio_gpu = {
	.name = "virtio-gpu", .open = virtio_gpu_open, .close = dumb_close};
