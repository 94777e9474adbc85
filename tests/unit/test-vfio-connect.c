/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a device is got from VFIO, against a stand-in for the kernel: a folder that
 * plays /dev and /sys, and ioctls that keep the order that VFIO asks for. The real
 * kernel is in tests/vm; this one has every kernel's ways, and fails on request.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "base/error.h"
#include "vfio/uapi.h"
#include "vfio/vfio.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ADDRESS "0000:04:00.0"
#define SYSFS   "/sys/bus/pci/devices/" ADDRESS
#define NODE    "/dev/vfio/devices/vfio3"

enum { CONFIG_PLACE = 0x1000, BAR0_PLACE = 0x10000, BAR2_PLACE = 0x20000, BAR2_BYTES = 65536 };

static char root[] = "/tmp/gds-vfio-XXXXXX";

static struct {
	bool bound, viable, in_container, has_iommu; /* how far it has come */
	int bind_error, group_error, node_error;
	int iommu_kind; /* the only one that is taken */
} vfio;

static const char *inside(const char *path, char *place, size_t size)
{
	bool ours = strncmp(path, "/dev/", 5) == 0 || strncmp(path, "/sys/", 5) == 0;

	gds_text_set(place, size, "%s%s", ours ? root : "", path);
	return place;
}

int __wrap_open(const char *path, int flags, ...);
int __real_open(const char *path, int flags, ...);
int __wrap_access(const char *path, int mode);
int __real_access(const char *path, int mode);
DIR *__wrap_opendir(const char *path);
DIR *__real_opendir(const char *path);
ssize_t __wrap_readlink(const char *path, char *link, size_t size);
ssize_t __real_readlink(const char *path, char *link, size_t size);
int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_open(const char *path, int flags, ...)
{
	char place[PATH_MAX];

	if (vfio.group_error && strcmp(path, "/dev/vfio/7") == 0) {
		errno = vfio.group_error;
		return -1;
	}
	if (vfio.node_error && strcmp(path, NODE) == 0 && !vfio.has_iommu) {
		errno = vfio.node_error;
		return -1;
	}
	return __real_open(inside(path, place, sizeof(place)), flags, 0600);
}

int __wrap_access(const char *path, int mode)
{
	char place[PATH_MAX];

	return __real_access(inside(path, place, sizeof(place)), mode);
}

DIR *__wrap_opendir(const char *path)
{
	char place[PATH_MAX];

	return __real_opendir(inside(path, place, sizeof(place)));
}

ssize_t __wrap_readlink(const char *path, char *link, size_t size)
{
	char place[PATH_MAX];

	return __real_readlink(inside(path, place, sizeof(place)), link, size);
}

/* ---- The kernel --------------------------------------------------------------- */

static void assert_is(int fd, const char *path)
{
	char place[PATH_MAX];
	struct stat wanted, status;

	assert_int_equal(stat(inside(path, place, sizeof(place)), &wanted), 0);
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_ino, wanted.st_ino);
}

static int fail_with(int error)
{
	errno = error;
	return -1;
}

static int bind_iommufd(int fd, const struct uapi_vfio_bind_iommufd *bind)
{
	assert_is(fd, NODE);
	assert_is(bind->iommufd, "/dev/iommu");
	assert_int_equal(bind->argsz, sizeof(*bind));
	assert_int_equal(bind->flags, 0);
	if (vfio.bind_error)
		return fail_with(vfio.bind_error);
	vfio.bound = true;
	return 0;
}

static int set_iommu(int fd, int kind)
{
	assert_is(fd, "/dev/vfio/vfio");
	assert_true(vfio.in_container);
	if (kind != vfio.iommu_kind)
		return fail_with(kind == VFIO_NOIOMMU_IOMMU ? EPERM : ENODEV);
	vfio.has_iommu = true;
	return 0;
}

static int region(struct vfio_region_info *info)
{
	const uint32_t memory = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
				VFIO_REGION_INFO_FLAG_MMAP;

	assert_true(vfio.bound || vfio.has_iommu);
	switch (info->index) {
	case VFIO_PCI_CONFIG_REGION_INDEX:
		info->offset = CONFIG_PLACE;
		return 0;
	case 0:
		info->offset = BAR0_PLACE;
		info->size = 4096;
		info->flags = memory;
		return 0;
	case 2:
		info->offset = BAR2_PLACE;
		info->size = BAR2_BYTES;
		info->flags = memory;
		return 0;
	case 4: /* larger, but it cannot be mapped */
		info->size = 2 * BAR2_BYTES;
		info->flags = memory & ~VFIO_REGION_INFO_FLAG_MMAP;
		return 0;
	default:
		info->size = 0;
		info->flags = 0;
		return 0;
	}
}

static int group_ioctl(int fd, unsigned long request, void *argument)
{
	switch (request) {
	case VFIO_GROUP_GET_STATUS:
		((struct vfio_group_status *)argument)->flags =
			vfio.viable ? VFIO_GROUP_FLAGS_VIABLE : 0;
		return 0;
	case VFIO_GROUP_SET_CONTAINER:
		assert_is(*(int *)argument, "/dev/vfio/vfio");
		vfio.in_container = true;
		return 0;
	case VFIO_SET_IOMMU:
		return set_iommu(fd, (int)(intptr_t)argument);
	default:
		assert_int_equal(request, VFIO_GROUP_GET_DEVICE_FD);
		assert_string_equal(argument, ADDRESS);
		assert_true(vfio.has_iommu);
		return open(NODE, O_RDWR | O_CLOEXEC);
	}
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list list;
	void *argument;

	va_start(list, request);
	argument = va_arg(list, void *);
	va_end(list);
	if (request == UAPI_VFIO_BIND_IOMMUFD)
		return bind_iommufd(fd, argument);
	if (request == VFIO_DEVICE_GET_REGION_INFO)
		return region(argument);
	return group_ioctl(fd, request, argument);
}

/* ---- The folder --------------------------------------------------------------- */

static void add_folder(const char *path)
{
	char place[PATH_MAX];

	inside(path, place, sizeof(place));
	for (char *slash = place + sizeof(root); (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(place, 0700);
		*slash = '/';
	}
}

static void add_file(const char *path)
{
	add_folder(path);
	close(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
}

static void remove_path(const char *path)
{
	char place[PATH_MAX];

	unlink(inside(path, place, sizeof(place)));
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
	return remove(path);
}

/* A kernel with both ways, and a device that is bound to vfio-pci. */
static int set_up(void **state)
{
	char place[PATH_MAX];

	memset(&vfio, 0, sizeof(vfio));
	vfio.viable = true;
	vfio.iommu_kind = VFIO_TYPE1v2_IOMMU;
	gds_text_set(root, sizeof(root), "/tmp/gds-vfio-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	add_file(SYSFS "/vfio-dev/vfio3");
	add_file("/dev/vfio/vfio");
	add_file("/dev/vfio/7");
	add_file(NODE);
	add_file("/dev/iommu");
	/* Whose config space can be read. */
	if (truncate(inside(NODE, place, sizeof(place)), BAR2_PLACE + BAR2_BYTES))
		return -1;
	return symlink("../../kernel/iommu_groups/7",
		       inside(SYSFS "/iommu_group", place, sizeof(place)));
}

static int tear_down(void **state)
{
	return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static struct vfio_device named(int bar)
{
	struct vfio_device device = { .name = { .address = ADDRESS, .region = bar } };

	dmabuf_device_init(&device.base, &backend_vfio, "vfio:" ADDRESS);
	return device;
}

static void connect_ok(struct vfio_device *device)
{
	uint16_t command = 0;

	if (vfio_device_connect(device))
		fail_msg("%s", gds_last_error());
	assert_is(device->fd, NODE);
	assert_int_equal(pread(device->fd, &command, 2, CONFIG_PLACE + PCI_COMMAND), 2);
	assert_true(command & PCI_COMMAND_MEMORY);
	assert_false(command & PCI_COMMAND_MASTER);
}

/* ---- Tests -------------------------------------------------------------------- */

static void the_devices_own_node_is_preferred(void **state)
{
	struct vfio_device device = named(VFIO_ANY_REGION);

	connect_ok(&device);
	assert_true(vfio.bound);
	assert_false(vfio.in_container);
	assert_int_equal(device.container_fd, -1);
	vfio_device_disconnect(&device);
	assert_int_equal(device.fd, -1);
	assert_int_equal(device.parent_fd, -1);
}

static void without_iommufd_the_group_is_used(void **state)
{
	static const int kinds[] = { VFIO_TYPE1v2_IOMMU, VFIO_TYPE1_IOMMU, VFIO_NOIOMMU_IOMMU };
	struct vfio_device device = named(VFIO_ANY_REGION);

	remove_path("/dev/iommu");
	for (size_t i = 0; i < 3; i++) {
		vfio.in_container = vfio.has_iommu = false;
		vfio.iommu_kind = kinds[i];
		connect_ok(&device);
		assert_true(vfio.has_iommu && !vfio.bound);
		assert_is(device.parent_fd, "/dev/vfio/7");
		vfio_device_disconnect(&device);
	}
}

static int open_descriptors(void)
{
	DIR *listing = __real_opendir("/proc/self/fd");
	int count = 0;

	while (readdir(listing))
		count++;
	closedir(listing);
	return count;
}

static void so_it_is_without_the_right_to_the_node(void **state)
{
	struct vfio_device device = named(VFIO_ANY_REGION);
	int before = open_descriptors();

	vfio.node_error = EACCES;
	connect_ok(&device);
	assert_true(vfio.has_iommu && !vfio.bound);
	vfio_device_disconnect(&device);
	assert_int_equal(open_descriptors(), before);
}

static void a_group_without_iommu_has_a_name_of_its_own(void **state)
{
	struct vfio_device device = named(VFIO_ANY_REGION);

	remove_path("/dev/iommu");
	remove_path("/dev/vfio/7");
	add_file("/dev/vfio/noiommu-7");
	vfio.iommu_kind = VFIO_NOIOMMU_IOMMU;
	connect_ok(&device);
	assert_is(device.parent_fd, "/dev/vfio/noiommu-7");
	vfio_device_disconnect(&device);
}

static void refused(int expected, const char *word)
{
	struct vfio_device device = named(VFIO_ANY_REGION);

	assert_int_equal(vfio_device_connect(&device), expected);
	assert_non_null(strstr(gds_last_error(), word));
	assert_non_null(strstr(gds_last_error(), "vfio:" ADDRESS));
	assert_true(device.fd == -1 && device.parent_fd == -1 && device.container_fd == -1);
}

static void what_refuses_a_device_is_told(void **state)
{
	char place[PATH_MAX];

	vfio.bind_error = EINVAL;
	refused(-EBUSY, "in use");
	vfio.bind_error = EBUSY;
	refused(-EBUSY, "in use");
	vfio.bind_error = ENOMEM;
	refused(-ENOMEM, "/dev/iommu");
	/* The kernel says no more of a group that is not free; the group does. */
	vfio.bind_error = EPERM;
	vfio.viable = false;
	refused(-EBUSY, "shares its IOMMU group");
	vfio.viable = true;

	remove_path("/dev/iommu");
	vfio.group_error = EBUSY;
	refused(-EBUSY, "in use");
	vfio.group_error = EACCES;
	refused(-EACCES, "no right to open /dev/vfio/7");
	vfio.group_error = 0;
	vfio.viable = false;
	refused(-EBUSY, "shares its IOMMU group");
	vfio.viable = true;
	vfio.iommu_kind = 0;
	refused(-EPERM, "allow_unsafe_interrupts");
	unlink(inside(SYSFS "/iommu_group", place, sizeof(place)));
	refused(-ENODEV, "enable_unsafe_noiommu_mode");
}

static void the_largest_bar_that_can_be_mapped_is_chosen(void **state)
{
	struct vfio_device device = named(VFIO_ANY_REGION);

	connect_ok(&device);
	assert_int_equal(vfio_device_choose_region(&device), 0);
	assert_int_equal(device.region, 2);
	assert_int_equal(device.region_bytes, BAR2_BYTES);
	assert_int_equal(device.region_offset, BAR2_PLACE);
	device.name.region = 0;
	assert_int_equal(vfio_device_choose_region(&device), 0);
	assert_int_equal(device.region, 0);
	assert_int_equal(device.region_bytes, 4096);
	device.name.region = 4;
	assert_int_equal(vfio_device_choose_region(&device), -ENODEV);
	assert_non_null(strstr(gds_last_error(), "no BAR 4"));
	vfio_device_disconnect(&device);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_devices_own_node_is_preferred),
		TEST(without_iommufd_the_group_is_used),
		TEST(so_it_is_without_the_right_to_the_node),
		TEST(a_group_without_iommu_has_a_name_of_its_own),
		TEST(what_refuses_a_device_is_told),
		TEST(the_largest_bar_that_can_be_mapped_is_chosen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
