/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backend of one's own, registered from outside of the library: its "device" is memory that
 * other processes share, memfds. "memfd" is memory that the CPU addresses; "memfd:card" does
 * as if it were that of a card, so that reads get there by copies of the device, or directly
 * where the kernel makes a dma-buf of it (/dev/udmabuf).
 *
 * The program reads a file into it, and then looks at what came as another process would, by
 * the memfd's descriptor alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <gds/backend.h>
#include <inttypes.h>
#include <linux/udmabuf.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#define PAGE UINT64_C(4096)

/* ---- The backend ---- */

struct memfd_device {
	bool card; /* its memory is hidden from the CPU */
};

struct memfd_memory {
	int fd;
	uint64_t bytes; /* whole pages */
	char *mapping;  /* how the device reaches it */
};

static int memfd_open(void *user, const char *selector, void **result)
{
	struct memfd_device *device;

	if (selector[0] && strcmp(selector, "card") != 0)
		return gds_backend_fail(
			ENODEV, "no device memfd:%s: there are \"memfd\" and \"memfd:card\"",
			selector);
	device = calloc(1, sizeof(*device));
	if (!device)
		return -ENOMEM;
	device->card = selector[0] != '\0';
	*result = device;
	return 0;
}

static void memfd_close(void *device)
{
	free(device);
}

static void memfd_info(void *device, struct gds_device_info *info)
{
	const struct memfd_device *self = device;

	snprintf(info->name, sizeof(info->name), "memfd%s", self->card ? ":card" : "");
	info->unified = !self->card;
}

static int make(struct memfd_memory *memory)
{
	memory->fd = memfd_create("gds-example", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memory->fd < 0)
		return gds_backend_fail(errno, "cannot make a memfd: %s", strerror(errno));
	/* What shrinks under a device cannot be exported. */
	if (ftruncate(memory->fd, (off_t)memory->bytes) ||
	    fcntl(memory->fd, F_ADD_SEALS, F_SEAL_SHRINK))
		return gds_backend_fail(errno, "cannot size a memfd to %" PRIu64 " bytes: %s",
					memory->bytes, strerror(errno));
	memory->mapping =
		mmap(NULL, memory->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);
	if (memory->mapping == MAP_FAILED)
		return gds_backend_fail(errno, "cannot map a memfd of %" PRIu64 " bytes: %s",
					memory->bytes, strerror(errno));
	return 0;
}

static void memfd_free(void *device, void *memory)
{
	struct memfd_memory *self = memory;

	if (self->mapping != MAP_FAILED)
		munmap(self->mapping, self->bytes);
	if (self->fd >= 0)
		close(self->fd);
	free(self);
}

static int memfd_alloc(void *device, uint64_t bytes, uint32_t flags,
		       struct gds_backend_memory *described)
{
	const bool card = ((struct memfd_device *)device)->card && !(flags & GDS_BUFFER_HOST);
	struct memfd_memory *memory = calloc(1, sizeof(*memory));
	int err;

	if (!memory)
		return -ENOMEM;
	memory->bytes = (bytes + PAGE - 1) & ~(PAGE - 1);
	memory->mapping = MAP_FAILED;
	err = make(memory);
	if (err) {
		memfd_free(device, memory);
		return err;
	}
	described->memory = memory;
	described->host = card ? NULL : memory->mapping;
	described->no_host_reason = "the memory is that of a card, or plays it";
	described->no_host_remedy = "open \"memfd\"";
	described->placement = card ? "card" : "host";
	return 0;
}

/* This device copies at once, so it gives no tickets. */
static int memfd_copy(void *device, const struct gds_backend_copy *copies, size_t count,
		      uint64_t *ticket)
{
	for (size_t i = 0; i < count; i++) {
		const struct gds_backend_copy *copy = &copies[i];
		const char *from = copy->host;

		if (!from)
			from = ((struct memfd_memory *)copy->source)->mapping + copy->source_offset;
		memcpy(((struct memfd_memory *)copy->memory)->mapping + copy->offset, from,
		       copy->bytes);
	}
	*ticket = 0;
	return 0;
}

static int memfd_copy_out(void *device, void *memory, uint64_t offset, void *data, size_t bytes)
{
	memcpy(data, ((struct memfd_memory *)memory)->mapping + offset, bytes);
	return 0;
}

static int memfd_export(void *device, void *memory, uint64_t offset, uint64_t bytes,
			struct gds_backend_dmabuf *dmabuf)
{
	struct memfd_memory *self = memory;
	struct udmabuf_create create = { .memfd = (uint32_t)self->fd,
					 .flags = UDMABUF_FLAGS_CLOEXEC,
					 .offset = offset,
					 .size = (bytes + PAGE - 1) & ~(PAGE - 1) };
	const int node = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);

	if (node < 0)
		return gds_backend_fail(EOPNOTSUPP, "no dma-buf of a memfd: /dev/udmabuf: %s",
					strerror(errno));
	dmabuf->fd = ioctl(node, UDMABUF_CREATE, &create);
	dmabuf->bytes = create.size;
	close(node);
	if (dmabuf->fd < 0)
		return gds_backend_fail(EOPNOTSUPP,
					"no dma-buf of a memfd of %" PRIu64 " bytes: %s", bytes,
					strerror(errno));
	return 0;
}

static const struct gds_backend memfd_backend = {
	.size = sizeof(memfd_backend),
	.version = GDS_BACKEND_VERSION,
	.name = "memfd",
	.summary = "memory shared between processes, an example",
	.open = memfd_open,
	.close = memfd_close,
	.info = memfd_info,
	.alloc = memfd_alloc,
	.free = memfd_free,
	.copy = memfd_copy,
	.copy_out = memfd_copy_out,
	.export_dmabuf = memfd_export,
};

/* ---- A program that uses it ---- */

static int check(int64_t result)
{
	if (result >= 0)
		return 0;
	fprintf(stderr, "custom-backend: %s\n", gds_last_error());
	return -1;
}

static int say_device(const char *backend, const struct gds_device_info *info, const char *reason,
		      void *user)
{
	if (strcmp(backend, "memfd") == 0)
		printf("%s: %s\n", info ? info->name : backend, info ? info->description : reason);
	return 0;
}

/* The CRC-32 of what whoever holds the descriptor sees. */
static int look(int fd, uint64_t bytes, unsigned long *crc)
{
	static unsigned char chunk[1 << 16];
	uint64_t at = 0;
	ssize_t got;

	*crc = crc32(0, NULL, 0);
	for (; at < bytes; at += (uint64_t)got) {
		got = pread(fd, chunk, bytes - at < sizeof(chunk) ? bytes - at : sizeof(chunk),
			    (off_t)at);
		if (got <= 0)
			return -1;
		*crc = crc32(*crc, chunk, (unsigned)got);
	}
	return 0;
}

static int report(struct gds_buffer *buffer, const struct gds_result *result)
{
	void *memory;
	unsigned long seen;
	uint32_t crc;

	if (check(gds_backend_buffer_memory(buffer, "memfd", &memory)) ||
	    check(gds_buffer_checksum(buffer, 0, (uint64_t)result->bytes, &crc)))
		return -1;
	for (int path = 1; path < GDS_PATH_COUNT; path++)
		if (result->path_bytes[path])
			printf("%" PRIu64 " bytes by the path %s\n", result->path_bytes[path],
			       gds_path_name((enum gds_path)path));
	if (look(((struct memfd_memory *)memory)->fd, (uint64_t)result->bytes, &seen) ||
	    seen != crc) {
		fputs("custom-backend: the memfd has other bytes than the buffer\n", stderr);
		return -1;
	}
	printf("CRC-32 %08lx, of the buffer and of its memfd\n", seen);
	return 0;
}

static int run(struct gds_reader *reader, struct gds_device *device, const char *path,
	       uint64_t most)
{
	struct gds_request read = { 0 };
	struct gds_result result;
	int64_t bytes;
	int err = -1;

	if (check(gds_file_open(&read.file, path)))
		return -1;
	bytes = gds_file_bytes(read.file);
	if (check(bytes))
		goto out;
	read.length = (uint64_t)bytes < most ? (uint64_t)bytes : most;
	if (read.length == 0) {
		fprintf(stderr, "custom-backend: %s is empty: there is nothing to read\n", path);
		goto out;
	}
	if (check(gds_buffer_alloc(&read.buffer, device, read.length, 0)) ||
	    check(gds_read(reader, &read, &result)))
		goto out;
	err = report(read.buffer, &result);
out:
	gds_buffer_free(read.buffer);
	gds_file_close(read.file);
	return err;
}

/* A number of bytes, at least one; 0 where the text is none. */
static uint64_t parse_bytes(const char *text)
{
	char *end;
	const unsigned long long bytes = strtoull(text, &end, 10);

	return text[0] >= '0' && text[0] <= '9' && *end == '\0' ? bytes : 0;
}

int main(int argc, char **argv)
{
	const uint64_t most = argc == 4 ? parse_bytes(argv[3]) : UINT64_MAX;
	struct gds_reader *reader = NULL;
	struct gds_device *device = NULL;
	int err;

	if (argc < 3 || argc > 4 || most == 0) {
		fputs("Usage: custom-backend memfd|memfd:card FILE [MOST BYTES]\n", stderr);
		return 2;
	}
	err = check(gds_backend_register(&memfd_backend)) ||
	      check(gds_device_list(say_device, NULL)) || check(gds_reader_open(&reader, NULL)) ||
	      check(gds_device_open(&device, argv[1])) || run(reader, device, argv[2], most);
	gds_device_close(device);
	gds_reader_close(reader);
	return err ? 1 : 0;
}
