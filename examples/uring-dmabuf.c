/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's interface by itself, without gds: a drive reads into a dma-buf through io_uring.
 * The dma-buf is memory of the host here (udmabuf), so that the program can look at what came;
 * with that of a GPU nothing else changes. It needs a kernel with the series of kernel/.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/dma-buf.h>
#include <linux/udmabuf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BYTES 65536 /* a multiple of 4096, as the size of a dma-buf has to be */

/* What IORING_REGISTER_BUFFERS_UPDATE takes with this flag; no header has it yet. */
#define UPDATE_DESCRIPTORS 2

struct buffer_descriptor {
	uint32_t type; /* 2: a dma-buf */
	uint32_t flags;
	uint64_t size;
	uint64_t address;
	int32_t dmabuf_fd;
	int32_t target_fd;
	uint64_t reserved[6];
};

static void die(const char *what, int error, const char *hint)
{
	fprintf(stderr, "uring-dmabuf: %s: %s%s\n", what, strerror(error), hint);
	exit(1);
}

static int check(int result, const char *what)
{
	if (result < 0)
		die(what, errno, "");
	return result;
}

/* Memory of this process at `*memory`, and a dma-buf of the same pages. */
static int make_dmabuf(unsigned char **memory)
{
	struct udmabuf_create create = { .flags = UDMABUF_FLAGS_CLOEXEC, .size = BYTES };
	const int memfd = check(memfd_create("bytes", MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd");
	const int maker = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	int dmabuf;

	if (maker < 0)
		die("/dev/udmabuf", errno, "; load the module udmabuf");
	check(ftruncate(memfd, BYTES), "ftruncate");
	check(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK), "F_ADD_SEALS");
	*memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (*memory == MAP_FAILED)
		die("mmap", errno, "");
	create.memfd = (uint32_t)memfd;
	dmabuf = check(ioctl(maker, UDMABUF_CREATE, &create), "UDMABUF_CREATE");
	close(maker);
	close(memfd);
	return dmabuf;
}

/* Installs the dma-buf in slot 0 of the ring, for this open disk and no other. */
static void install(struct io_uring *ring, int dmabuf, int disk)
{
	const struct buffer_descriptor descriptor = { .type = 2,
						      .dmabuf_fd = dmabuf,
						      .target_fd = disk };
	/* Newer kernels call the second word `flags`. */
	struct io_uring_rsrc_update2 update = { .resv = UPDATE_DESCRIPTORS,
						.data = (uintptr_t)&descriptor,
						.nr = 1 };

	check(io_uring_register_buffers_sparse(ring, 1) < 0 ? -1 : 0, "a table of buffers");
	if (syscall(__NR_io_uring_register, ring->ring_fd, IORING_REGISTER_BUFFERS_UPDATE, &update,
		    sizeof(update)) != 1)
		die("installing the dma-buf", errno,
		    errno == EINVAL ? "; this kernel lacks the series of gds" : "");
}

/* Reads the first bytes of the disk. The "address" is an offset into the dma-buf. */
static int read_disk(struct io_uring *ring, int disk)
{
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	int result;

	do {
		sqe = io_uring_get_sqe(ring);
		io_uring_prep_read_fixed(sqe, disk, NULL, BYTES, 0, 0);
		io_uring_submit(ring);
		if (io_uring_wait_cqe(ring, &cqe) < 0)
			return -EINTR;
		result = cqe->res;
		io_uring_cqe_seen(ring, cqe);
	} while (result == -EAGAIN); /* whoever owns the memory was moving it */
	return result;
}

/* A read that reports success proves nothing: look at the bytes. */
static int is_right(int dmabuf, int disk, const unsigned char *memory)
{
	struct dma_buf_sync sync = { DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ };
	unsigned char *ordinary = aligned_alloc(4096, BYTES);
	int right;

	if (!ordinary || pread(disk, ordinary, BYTES, 0) != BYTES)
		die("an ordinary read", errno, "");
	check(ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync), "DMA_BUF_IOCTL_SYNC");
	right = memcmp(memory, ordinary, BYTES) == 0;
	sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ;
	check(ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync), "DMA_BUF_IOCTL_SYNC");
	free(ordinary);
	return right;
}

int main(int argc, char **argv)
{
	unsigned char *memory;
	struct io_uring ring;
	int disk, dmabuf, result, right;

	if (argc != 2)
		return fputs("Usage: uring-dmabuf DISK (such as /dev/nvme0n1)\n", stderr), 2;
	disk = check(open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC), argv[1]);
	dmabuf = make_dmabuf(&memory);
	result = io_uring_queue_init(8, &ring, 0);
	if (result < 0)
		die("io_uring", -result, "");
	install(&ring, dmabuf, disk);

	memset(memory, 0xa5, BYTES);
	result = read_disk(&ring, disk);
	if (result < 0)
		die("the read", -result, "");
	right = is_right(dmabuf, disk, memory);
	printf("%d bytes of %s: %s\n", result, argv[1],
	       right ? "all as an ordinary read gives them" : "WRONG, though the read succeeded");

	io_uring_queue_exit(&ring);
	close(dmabuf);
	close(disk);
	munmap(memory, BYTES);
	return right ? 0 : 1;
}
