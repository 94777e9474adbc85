/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The proof that a read delivered: before it, every byte of the destination is
 * made to differ from the file's; after it, every byte is compared.
 */
#include "verify.h"

#include <inttypes.h>
#include <string.h>
#include <zlib.h>

enum status verify_open(struct verify *verify, const char *name)
{
	verify->crc_before = 0;
	verify->crc_after = 0;
	return source_open(&verify->source, name);
}

void verify_close(struct verify *verify)
{
	source_close(&verify->source);
}

enum status verify_poison(struct verify *verify, struct gds_buffer *buffer, uint64_t offset,
			  uint64_t buffer_offset, size_t bytes)
{
	unsigned char *data;
	enum status status = source_read(&verify->source, offset, bytes, &data);
	int error;

	if (status != STATUS_OK)
		return status;
	verify->crc_before = (uint32_t)crc32(verify->crc_before, data, (uInt)bytes);
	for (size_t i = 0; i < bytes; i++)
		data[i] = (unsigned char)~data[i];
	error = gds_buffer_copy_in(buffer, buffer_offset, data, bytes);
	return error ? fail_library(error) : STATUS_OK;
}

static enum status fail_difference(const struct verify *verify, uint64_t offset,
				   const unsigned char *device_bytes, const unsigned char *data,
				   size_t bytes)
{
	size_t first = bytes, wrong = 0, untouched = 0;

	for (size_t i = 0; i < bytes; i++) {
		if (device_bytes[i] == data[i])
			continue;
		if (wrong++ == 0)
			first = i;
		untouched += (device_bytes[i] ^ data[i]) == 0xff;
	}
	return fail(STATUS_FAILED,
		    "verification failed: %s: byte %" PRIu64
		    " is 0x%02x in the device's memory and "
		    "0x%02x in the file (of %zu bytes %zu differ, %zu were never written): do not "
		    "trust this path, try --path bounce",
		    verify->source.name, offset + first, device_bytes[first], data[first], bytes,
		    wrong, untouched);
}

enum status verify_compare(struct verify *verify, uint64_t offset,
			   const unsigned char *device_bytes, size_t bytes)
{
	unsigned char *data;
	enum status status = source_read(&verify->source, offset, bytes, &data);

	if (status != STATUS_OK)
		return status;
	verify->crc_after = (uint32_t)crc32(verify->crc_after, data, (uInt)bytes);
	if (memcmp(device_bytes, data, bytes) != 0)
		return fail_difference(verify, offset, device_bytes, data, bytes);
	return STATUS_OK;
}

enum status verify_finish(const struct verify *verify, const uint32_t *device_crc)
{
	if (verify->crc_before != verify->crc_after)
		return fail(STATUS_FAILED,
			    "file changed while it was read: %s: its checksum went from %08x to "
			    "%08x: verify it while nobody writes it",
			    verify->source.name, verify->crc_before, verify->crc_after);
	if (device_crc && *device_crc != verify->crc_after)
		return fail(STATUS_FAILED,
			    "verification failed: %s: the device's checksum is %08x, that of the "
			    "file %08x, yet every byte was right: the device's checksum cannot be "
			    "trusted, use --no-checksum",
			    verify->source.name, *device_crc, verify->crc_after);
	return STATUS_OK;
}
