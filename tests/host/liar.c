/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes wrong rarely or never on a good day, made to happen: linked into a
 * gds-bench of the tests in place of some calls of the library (ld's --wrap).
 * GDS_LIAR names the lie:
 *
 *   untouched   reads complete with success, and the buffer is as it was before
 *   half        the same of the second half of each read
 *   spill       the byte behind the last one of a batch is changed
 *   flip        one bit of the last byte that a batch read is wrong
 *   checksum    the device's checksum is wrong
 *   truncate    GDS_LIAR_FILE loses its second half just before the read
 *   change      GDS_LIAR_FILE has its first byte changed just before the read
 *   signal      SIGTERM comes while the batch is in flight
 *   early       SIGTERM comes before anything is read
 *   late        SIGTERM comes after a checksum
 */
#include <errno.h>
#include <fcntl.h>
#include <gds/gds.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_REQUESTS 1024

ssize_t __real_gds_batch_add(struct gds_batch *batch, const struct gds_request *requests,
			     size_t count);
int __real_gds_batch_submit(struct gds_batch *batch);
int __real_gds_batch_wait(struct gds_batch *batch, int64_t timeout_ns);
int __real_gds_buffer_checksum(struct gds_buffer *buffer, uint64_t offset, uint64_t bytes,
			       uint32_t *crc32);
int __real_gds_reader_open(struct gds_reader **reader, const struct gds_reader_options *options);

ssize_t __wrap_gds_batch_add(struct gds_batch *batch, const struct gds_request *requests,
			     size_t count);
int __wrap_gds_batch_submit(struct gds_batch *batch);
int __wrap_gds_batch_wait(struct gds_batch *batch, int64_t timeout_ns);
int __wrap_gds_buffer_checksum(struct gds_buffer *buffer, uint64_t offset, uint64_t bytes,
			       uint32_t *crc32);
int __wrap_gds_reader_open(struct gds_reader **reader, const struct gds_reader_options *options);

/* Of the batch that was filled last: read has one at a time. */
static struct gds_request added[MOST_REQUESTS];
static void *saved[MOST_REQUESTS];
static size_t added_count;

static int lie_is(const char *lie)
{
	const char *wanted = getenv("GDS_LIAR");

	return wanted && strcmp(wanted, lie) == 0;
}

static void must(int ok)
{
	if (!ok)
		abort();
}

static void truncate_file(void)
{
	struct stat status;
	const char *name = getenv("GDS_LIAR_FILE");

	must(name && stat(name, &status) == 0);
	must(truncate(name, status.st_size / 2) == 0);
}

static void change_file(void)
{
	unsigned char byte = 0;
	const char *name = getenv("GDS_LIAR_FILE");
	int fd = name ? open(name, O_RDWR | O_CLOEXEC) : -1;

	must(fd >= 0 && pread(fd, &byte, 1, 0) == 1);
	byte ^= 1;
	must(pwrite(fd, &byte, 1, 0) == 1 && fsync(fd) == 0);
	close(fd);
}

static void save_buffers(void)
{
	for (size_t i = 0; i < added_count; i++) {
		const struct gds_request *request = &added[i];

		free(saved[i]);
		saved[i] = malloc(request->length);
		must(saved[i] && gds_buffer_copy_out(request->buffer, request->buffer_offset,
						     saved[i], request->length) == 0);
	}
}

/* All of them from the byte on that is this part of each read. */
static void restore_buffers(uint64_t numerator, uint64_t denominator)
{
	for (size_t i = 0; i < added_count; i++) {
		uint64_t from = added[i].length * numerator / denominator;

		must(gds_buffer_copy_in(added[i].buffer, added[i].buffer_offset + from,
					(char *)saved[i] + from, added[i].length - from) == 0);
	}
}

/* Of the byte that lies `behind` the last one. */
static void flip_bit(uint64_t behind)
{
	const struct gds_request *request = &added[added_count - 1];
	uint64_t offset = request->buffer_offset + request->length - 1 + behind;
	unsigned char byte = 0;

	if (offset >= gds_buffer_bytes(request->buffer))
		return;

	must(gds_buffer_copy_out(request->buffer, offset, &byte, 1) == 0);
	byte ^= 0x10;
	must(gds_buffer_copy_in(request->buffer, offset, &byte, 1) == 0);
}

ssize_t __wrap_gds_batch_add(struct gds_batch *batch, const struct gds_request *requests,
			     size_t count)
{
	must(count <= MOST_REQUESTS);
	memcpy(added, requests, count * sizeof(*requests));
	added_count = count;
	return __real_gds_batch_add(batch, requests, count);
}

int __wrap_gds_batch_submit(struct gds_batch *batch)
{
	if (lie_is("untouched") || lie_is("half"))
		save_buffers();
	if (lie_is("truncate"))
		truncate_file();
	if (lie_is("change"))
		change_file();
	return __real_gds_batch_submit(batch);
}

/* Once: the second one would kill. */
static int signal_for(const char *lie)
{
	static int signalled;

	if (!lie_is(lie) || signalled)
		return 0;
	signalled = 1;
	raise(SIGTERM);
	return 1;
}

int __wrap_gds_reader_open(struct gds_reader **reader, const struct gds_reader_options *options)
{
	signal_for("early");
	return __real_gds_reader_open(reader, options);
}

int __wrap_gds_batch_wait(struct gds_batch *batch, int64_t timeout_ns)
{
	int error;

	if (signal_for("signal"))
		return -EINTR;
	error = __real_gds_batch_wait(batch, timeout_ns);
	if (error == 0 && lie_is("untouched"))
		restore_buffers(0, 2);
	if (error == 0 && lie_is("half"))
		restore_buffers(1, 2);
	if (error == 0 && lie_is("flip"))
		flip_bit(0);
	if (error == 0 && lie_is("spill"))
		flip_bit(1);
	return error;
}

int __wrap_gds_buffer_checksum(struct gds_buffer *buffer, uint64_t offset, uint64_t bytes,
			       uint32_t *crc32)
{
	int error = __real_gds_buffer_checksum(buffer, offset, bytes, crc32);

	if (error == 0 && lie_is("checksum"))
		*crc32 ^= 1;
	signal_for("late");
	return error;
}
