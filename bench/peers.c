/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What programs do without gds, for bench/figures to measure: reads the pieces of a
 * list, one "offset length" a line, by preadv2(2) in threads or through mmap(2), into
 * memory of its own, and prints seconds and CPU seconds as JSON.
 *
 *	gds-peers pread|direct|mmap FILE LIST THREADS
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MOST_BYTES   ((size_t)64 << 20)
#define MOST_THREADS 256

struct piece {
	uint64_t offset;
	uint64_t length;
};

static struct piece *pieces;
static size_t piece_count;
static atomic_size_t next_piece;
static const char *map; /* of the file; NULL: read it */
static int fd;

static void die(const char *what)
{
	fprintf(stderr, "gds-peers: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* A line with offset and length. */
static bool parse_piece(const char *line, struct piece *piece)
{
	char *end;
	const char *second;

	errno = 0;
	piece->offset = strtoul(line, &end, 10);
	second = end;
	piece->length = strtoul(second, &end, 10);
	return second != line && end != second && *end == '\n' && errno == 0;
}

static void read_list(const char *path)
{
	FILE *list = fopen(path, "re");
	struct piece piece;
	char *line = NULL;
	size_t bytes = 0;
	size_t room = 0;

	if (!list)
		die(path);
	while (getline(&line, &bytes, list) > 0) {
		if (!parse_piece(line, &piece)) {
			errno = EINVAL;
			die(path);
		}
		if (piece_count == room) {
			room = room ? 2 * room : 1024;
			pieces = reallocarray(pieces, room, sizeof(*pieces));
		}
		if (!pieces || piece.length > MOST_BYTES)
			die(path);
		pieces[piece_count++] = piece;
	}
	free(line);
	fclose(list);
}

static void read_piece(const struct piece *piece, char *memory)
{
	struct iovec vector = { memory, piece->length };

	if (map)
		memcpy(memory, map + piece->offset, piece->length);
	else if (preadv2(fd, &vector, 1, (off_t)piece->offset, 0) != (ssize_t)piece->length)
		die("read");
}

static void *work(void *argument)
{
	char *memory = aligned_alloc(4096, MOST_BYTES);
	size_t i;

	(void)argument;
	if (!memory)
		die("memory");
	while ((i = atomic_fetch_add(&next_piece, 1)) < piece_count)
		read_piece(&pieces[i], memory);
	free(memory);
	return NULL;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double seconds_of(struct timeval time)
{
	return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static void open_file(const char *mode, const char *path)
{
	struct stat status;

	fd = open(path, O_RDONLY | O_CLOEXEC | (strcmp(mode, "direct") == 0 ? O_DIRECT : 0));
	if (fd < 0 || fstat(fd, &status) != 0)
		die(path);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	if (strcmp(mode, "mmap") != 0)
		return;
	map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die(path);
}

int main(int argc, char **argv)
{
	pthread_t threads[MOST_THREADS];
	struct rusage usage;
	uint64_t bytes = 0;
	long count = argc == 5 ? strtol(argv[4], NULL, 10) : 0;
	double begin;

	if (count < 1 || count > MOST_THREADS) {
		fprintf(stderr, "usage: gds-peers pread|direct|mmap FILE LIST THREADS\n");
		return 2;
	}
	read_list(argv[3]);
	open_file(argv[1], argv[2]);
	for (size_t i = 0; i < piece_count; i++)
		bytes += pieces[i].length;
	begin = now();
	for (long i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, work, NULL) != 0)
			die("thread");
	for (long i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	begin = now() - begin;
	getrusage(RUSAGE_SELF, &usage);
	printf("{\"reads\": %zu, \"bytes\": %lu, \"seconds\": %.6f, \"user\": %.6f, \"system\": "
	       "%.6f}\n",
	       piece_count, bytes, begin, seconds_of(usage.ru_utime), seconds_of(usage.ru_stime));
	free(pieces);
	return 0;
}
