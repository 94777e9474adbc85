/* SPDX-License-Identifier: Apache-2.0 */
/* The names of things that are numbers in the interface, and the version. */
#include <gds/gds.h>

#define STRING_OF(number) #number
#define STRING(number)    STRING_OF(number)

const char *gds_version(void)
{
	return STRING(GDS_VERSION_MAJOR) "." STRING(GDS_VERSION_MINOR) "." STRING(
		GDS_VERSION_PATCH);
}

const char *gds_path_name(enum gds_path path)
{
	static const char *const names[GDS_PATH_COUNT] = {
		[GDS_PATH_AUTO] = "auto",
		[GDS_PATH_DMABUF] = "dmabuf",
		[GDS_PATH_MAPPED] = "mapped",
		[GDS_PATH_BOUNCE] = "bounce",
	};

	return (unsigned)path < GDS_PATH_COUNT ? names[path] : "unknown";
}

const char *gds_class_name(enum gds_class read_class)
{
	static const char *const names[GDS_CLASS_COUNT] = {
		[GDS_CLASS_FOREGROUND] = "foreground",
		[GDS_CLASS_PREFETCH] = "prefetch",
		[GDS_CLASS_BACKGROUND] = "background",
	};

	return (unsigned)read_class < GDS_CLASS_COUNT ? names[read_class] : "unknown";
}

const char *gds_lane_name(enum gds_lane lane)
{
	static const char *const names[] = {
		[GDS_LANE_AUTO] = "auto",
		[GDS_LANE_URING] = "uring",
		[GDS_LANE_THREADS] = "threads",
	};

	return (unsigned)lane < sizeof(names) / sizeof(names[0]) ? names[lane] : "unknown";
}
