// SPDX-License-Identifier: GPL-2.0-only
#include "vmctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "test.h"

static const char port_path[] = "/dev/virtio-ports/gds.ctl";

static void read_answer(int port, char *answer, size_t bytes)
{
	size_t used = 0;

	while (used + 1 < bytes) {
		ssize_t got = read(port, answer + used, 1);

		CHECK(got > 0, "%s: %s", port_path, got ? strerror(errno) : "closed");
		if (answer[used] == '\n')
			break;
		used++;
	}
	answer[used] = '\0';
}

/* One opener at a time: a process that was killed may not have let go of it yet. */
static int open_port(void)
{
	int port;

	for (int tries = 0; tries < 100; tries++) {
		port = open(port_path, O_RDWR | O_CLOEXEC);
		if (port >= 0 || errno != EBUSY)
			break;
		usleep(100 * 1000);
	}
	return port;
}

void vm_request(const char *format, ...)
{
	char request[128], answer[256];
	va_list arguments;
	int port = open_port();

	if (port < 0)
		test_skip("%s: %s (run with kernel/vm)", port_path, strerror(errno));
	va_start(arguments, format);
	vsnprintf(request, sizeof(request), format, arguments);
	va_end(arguments);
	dprintf(port, "%s\n", request);
	read_answer(port, answer, sizeof(answer));
	close(port);
	CHECK(strncmp(answer, "ok", 2) == 0, "%s: %s", request, answer);
}

void vm_throttle(const char *disk, unsigned operations_per_s)
{
	vm_request("throttle %s %u", disk, operations_per_s);
}
