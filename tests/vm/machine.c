/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "base/error.h"
#include "dmabuf/system.h"
#include "vm/machine.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		print_message("%s: %s\n", path, strerror(errno));
	close(fd);
}

static int is_ivshmem(const struct dirent *entry)
{
	char path[512];
	uint64_t vendor = 0, model = 0;

	gds_text_set(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor", entry->d_name);
	system_number(path, &vendor);
	gds_text_set(path, sizeof(path), "/sys/bus/pci/devices/%s/device", entry->d_name);
	system_number(path, &model);
	return vendor == 0x1af4 && model == 0x1110;
}

static void bind_to_vfio(const char *address)
{
	char path[512], driver[64] = "";

	gds_text_set(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", address);
	system_link_name(path, driver, sizeof(driver));
	if (strcmp(driver, "vfio-pci") == 0)
		return;
	gds_text_set(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override", address);
	write_text(path, "vfio-pci");
	write_text("/sys/bus/pci/drivers_probe", address);
}

unsigned bars_bind(char names[BARS_MOST][BAR_NAME_BYTES])
{
	struct dirent **entries;
	int count = scandir("/sys/bus/pci/devices", &entries, is_ivshmem, alphasort);
	unsigned bound = 0;

	if (count < 0)
		return 0;
	for (int i = 0; i < count; i++) {
		if (bound < BARS_MOST) {
			bind_to_vfio(entries[i]->d_name);
			gds_text_set(names[bound++], BAR_NAME_BYTES, "vfio:%.40s",
				     entries[i]->d_name);
		}
		free(entries[i]);
	}
	free(entries);
	return bound;
}

/* One opener at a time: a process that was killed may not have let go of it yet. */
static int open_port(void)
{
	int port = -1;

	for (int tries = 0; port < 0 && tries < 100; tries++) {
		port = open("/dev/virtio-ports/gds.ctl", O_RDWR | O_CLOEXEC);
		if (port < 0)
			usleep(100 * 1000);
	}
	return port;
}

bool vm_ask(const char *request)
{
	char answer[256] = "";
	size_t used = 0;
	int port = open_port();

	if (port < 0)
		return false;
	dprintf(port, "%s\n", request);
	while (used + 1 < sizeof(answer) && read(port, answer + used, 1) == 1 &&
	       answer[used] != '\n')
		used++;
	close(port);
	answer[used] = '\0';
	if (strncmp(answer, "ok", 2) == 0)
		return true;
	print_message("%s: %s\n", request, answer);
	return false;
}
