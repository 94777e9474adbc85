/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the first MiB of a file into the memory of the first Vulkan device. */
#include <gds/gds.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	struct gds_reader *reader = NULL;
	struct gds_device *device = NULL;
	struct gds_request read = { .length = 1 << 20 };
	struct gds_result result;
	int failed = argc != 2 || gds_reader_open(&reader, NULL) ||
		     gds_device_open(&device, "vulkan:0") ||
		     gds_buffer_alloc(&read.buffer, device, read.length, 0) ||
		     gds_file_open(&read.file, argv[1]) || gds_read(reader, &read, &result) < 0;

	if (failed)
		fprintf(stderr, "minimal: %s\n", argc == 2 ? gds_last_error() : "name a file");
	else
		printf("%lld bytes arrived\n", (long long)result.bytes);
	for (int path = 1; path < GDS_PATH_COUNT && !failed; path++)
		printf("%llu by the path %s\n", (unsigned long long)result.path_bytes[path],
		       gds_path_name((enum gds_path)path));
	gds_file_close(read.file);
	gds_buffer_free(read.buffer);
	gds_device_close(device);
	gds_reader_close(reader);
	return failed;
}
