// SPDX-License-Identifier: GPL-2.0-only
#include "exporter_test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "exporters.h"
#include "test.h"

/* What a move leaves where the memory was: neither poison nor pattern. */
enum { LEFT_BEHIND = 0x5e };

static int device(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = open(GDS_EXPORTER_PATH, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		test_skip("%s: %s", GDS_EXPORTER_PATH, strerror(errno));
	return fd;
}

int exporter_test_create(size_t bytes, uint32_t flags)
{
	struct gds_exporter_create create = {.size = bytes, .chunk = 64 << 10, .flags = flags};
	int fd = ioctl(device(), GDS_EXPORTER_CREATE, &create);

	CHECK(fd >= 0, "GDS_EXPORTER_CREATE: %s", strerror(errno));
	return fd;
}

void exporter_test_act(int dmabuf_fd, enum gds_exporter_action action, uint32_t hold_us)
{
	struct gds_exporter_act act = {
		.dmabuf_fd = dmabuf_fd, .action = action, .hold_us = hold_us, .poison = LEFT_BEHIND};

	CHECK(ioctl(device(), GDS_EXPORTER_ACT, &act) == 0, "GDS_EXPORTER_ACT: %s", strerror(errno));
}

void exporter_test_fault(struct gds_exporter_fault fault)
{
	CHECK(ioctl(device(), GDS_EXPORTER_FAULT, &fault) == 0, "GDS_EXPORTER_FAULT: %s",
	      strerror(errno));
}

struct gds_exporter_state exporter_test_state(int dmabuf_fd)
{
	struct gds_exporter_state state = {.dmabuf_fd = dmabuf_fd};

	CHECK(ioctl(device(), GDS_EXPORTER_STATE, &state) == 0, "GDS_EXPORTER_STATE: %s",
	      strerror(errno));
	return state;
}

static void exporter_test_open(struct memory *memory)
{
	memory->dmabuf_fd = exporter_test_create(memory->bytes, 0);
	memory->map = map_shared(memory->dmabuf_fd, memory->bytes, 0);
}

const struct exporter exporter_test = {.name = "test-exporter", .open = exporter_test_open};
