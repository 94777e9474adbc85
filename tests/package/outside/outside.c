/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program from outside: it reads a file into host memory through the library,
 * and compares with what the C library reads. Valid as C11 and as C++11, since
 * the header must serve both.
 */
#include <gds/gds.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *call)
{
	fprintf(stderr, "%s: %s\n", call, gds_last_error());
	return 1;
}

/* Compares the buffer's first `bytes` with the file. */
static int compare(const char *path, const struct gds_buffer *buffer, size_t bytes)
{
	unsigned char *expected = (unsigned char *)malloc(bytes + 1);
	const void *found = gds_buffer_host(buffer);
	FILE *stream = fopen(path, "rb");
	size_t count = 0;
	int differs = 1;

	if (stream && expected)
		count = fread(expected, 1, bytes + 1, stream);
	if (found && count == bytes)
		differs = memcmp(expected, found, bytes);
	if (stream)
		fclose(stream);
	free(expected);
	return differs;
}

static int read_file(struct gds_reader *reader, struct gds_device *device, const char *path)
{
	struct gds_request request;
	struct gds_buffer *buffer = NULL;
	struct gds_file *file = NULL;
	ssize_t bytes = -1;
	int failed = 1;

	if (gds_file_open(&file, path) < 0)
		return fail("gds_file_open");
	memset(&request, 0, sizeof(request));
	request.file = file;
	request.length = (uint64_t)gds_file_bytes(file);
	if (gds_buffer_alloc(&buffer, device, request.length, 0) < 0) {
		fail("gds_buffer_alloc");
		goto out;
	}
	request.buffer = buffer;
	bytes = gds_read(reader, &request, NULL);
	if (bytes < 0) {
		fail("gds_read");
		goto out;
	}
	failed = compare(path, buffer, (size_t)bytes) != 0;
	if (failed)
		fprintf(stderr, "the bytes differ from the file's\n");
	else
		printf("gds %s: %zd bytes, all as in the file\n", gds_version(), bytes);
out:
	gds_buffer_free(buffer);
	gds_file_close(file);
	return failed;
}

int main(int argc, char **argv)
{
	struct gds_reader *reader = NULL;
	struct gds_device *device = NULL;
	int failed;

	if (argc != 2)
		return 2;
	if (gds_reader_open(&reader, NULL) < 0)
		return fail("gds_reader_open");
	if (gds_device_open(&device, "host") < 0) {
		gds_reader_close(reader);
		return fail("gds_device_open");
	}
	failed = read_file(reader, device, argv[1]);
	gds_device_close(device);
	gds_reader_close(reader);
	return failed;
}
