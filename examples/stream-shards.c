/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams files, such as the shards of a checkpoint or of a data set, through two buffers in
 * turn: while the device works on one, the next pieces are read into the other. A piece is
 * what fits, so small shards share a buffer and large ones go through several. The work here
 * is a checksum computed by the device, printed for each file as cksum-like tools do.
 */
#include <errno.h>
#include <gds/gds.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zlib.h>

#define BUFFER_BYTES (UINT64_C(8) << 20)

enum { BUFFERS = 2 };

struct shard {
	const char *path;
	struct gds_file *file;
	uint64_t bytes;
	uint32_t crc;
};

/* Where the reading is: at byte `offset` of a shard. */
struct stream {
	struct shard *shards;
	size_t count;
	size_t next;
	uint64_t offset;
};

/* A buffer, and the batch that fills it with pieces of shards. */
struct stage {
	struct gds_buffer *buffer;
	struct gds_batch *batch;
	struct gds_request *pieces;
	size_t piece_count;
};

static double waited_s; /* for reads that the work was faster than */
static uint64_t path_bytes[GDS_PATH_COUNT];

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* 0, or -1 after saying what failed. */
static int check(int64_t result)
{
	if (result >= 0)
		return 0;
	fprintf(stderr, "stream-shards: %s\n", gds_last_error());
	return -1;
}

/* ---- Filling a buffer ---- */

/* The next piece of the stream, at most `room` bytes of it; false at its end. */
static bool next_piece(struct stream *stream, uint64_t room, struct gds_request *piece)
{
	const struct shard *shard;

	while (stream->next < stream->count &&
	       stream->offset == stream->shards[stream->next].bytes) {
		stream->next++;
		stream->offset = 0;
	}
	if (stream->next == stream->count || room == 0)
		return false;
	shard = &stream->shards[stream->next];
	*piece = (struct gds_request){
		.file = shard->file,
		.offset = stream->offset,
		.length =
			shard->bytes - stream->offset < room ? shard->bytes - stream->offset : room,
		.user_data = stream->next,
	};
	stream->offset += piece->length;
	return true;
}

/* Begins to fill the stage's buffer. It is left without pieces where the stream has ended. */
static int start(struct stage *stage, struct stream *stream)
{
	uint64_t used = 0;

	stage->piece_count = 0;
	while (stage->piece_count < stream->count &&
	       next_piece(stream, BUFFER_BYTES - used, &stage->pieces[stage->piece_count])) {
		struct gds_request *piece = &stage->pieces[stage->piece_count++];

		piece->buffer = stage->buffer;
		piece->buffer_offset = used;
		/* The next piece begins where storage can write it directly. */
		used += (piece->length + 4095) & ~UINT64_C(4095);
	}
	if (check(gds_batch_reset(stage->batch)) ||
	    check(gds_batch_add(stage->batch, stage->pieces, stage->piece_count)))
		return -1;
	return check(gds_batch_submit(stage->batch));
}

/* ---- Working on one ---- */

static int work(struct stage *stage, struct stream *stream)
{
	for (size_t i = 0; i < stage->piece_count; i++) {
		const struct gds_request *piece = &stage->pieces[i];
		struct shard *shard = &stream->shards[piece->user_data];
		struct gds_result result;
		uint32_t crc;

		if (check(gds_batch_result(stage->batch, i, &result)) || check(result.bytes))
			return -1;
		if ((uint64_t)result.bytes != piece->length) {
			fprintf(stderr, "stream-shards: %s became shorter meanwhile\n",
				shard->path);
			return -1;
		}
		for (int path = 0; path < GDS_PATH_COUNT; path++)
			path_bytes[path] += result.path_bytes[path];
		if (check(gds_buffer_checksum(stage->buffer, piece->buffer_offset, piece->length,
					      &crc)))
			return -1;
		shard->crc = (uint32_t)crc32_combine(shard->crc, crc, (z_off_t)piece->length);
		if (piece->offset + piece->length == shard->bytes)
			printf("%08" PRIx32 " %12" PRIu64 "  %s\n", shard->crc, shard->bytes,
			       shard->path);
	}
	return 0;
}

static int run(struct stage stages[BUFFERS], struct stream *stream)
{
	double before;
	size_t turn;

	for (turn = 0; turn < BUFFERS; turn++)
		if (start(&stages[turn], stream))
			return -1;
	for (turn = 0; stages[turn % BUFFERS].piece_count > 0; turn++) {
		struct stage *stage = &stages[turn % BUFFERS];

		before = now_s();
		if (check(gds_batch_wait(stage->batch, -1)))
			return -1;
		waited_s += now_s() - before;
		/* The read into the other buffer goes on meanwhile. */
		if (work(stage, stream) || start(stage, stream))
			return -1;
	}
	return 0;
}

/* ---- Opening and closing ---- */

static int open_shards(struct stream *stream)
{
	for (size_t i = 0; i < stream->count; i++) {
		struct shard *shard = &stream->shards[i];
		int64_t bytes;

		if (check(gds_file_open(&shard->file, shard->path)))
			return -1;
		bytes = gds_file_bytes(shard->file);
		if (check(bytes))
			return -1;
		shard->bytes = (uint64_t)bytes;
		if (bytes == 0)
			printf("%08x %12d  %s\n", 0, 0, shard->path);
	}
	return 0;
}

static int open_stages(struct stage stages[BUFFERS], struct gds_reader *reader,
		       struct gds_device *device, size_t most_pieces)
{
	for (size_t i = 0; i < BUFFERS; i++) {
		stages[i].pieces = calloc(most_pieces, sizeof(*stages[i].pieces));
		if (!stages[i].pieces) {
			fprintf(stderr, "stream-shards: %s\n", strerror(ENOMEM));
			return -1;
		}
		if (check(gds_buffer_alloc(&stages[i].buffer, device, BUFFER_BYTES, 0)) ||
		    check(gds_batch_create(&stages[i].batch, reader, NULL)))
			return -1;
	}
	return 0;
}

static void close_stages(struct stage stages[BUFFERS])
{
	for (size_t i = 0; i < BUFFERS; i++) {
		gds_batch_destroy(stages[i].batch);
		gds_buffer_free(stages[i].buffer);
		free(stages[i].pieces);
	}
}

int main(int argc, char **argv)
{
	const bool has_device = argc > 1 && strcmp(argv[1], "--device") == 0;
	const int first = has_device ? 3 : 1;
	/* Reads go on while this thread is busy with the device. */
	const struct gds_reader_options options = { .size = sizeof(options),
						    .flags = GDS_READER_PROGRESS_THREAD };
	struct gds_reader *reader = NULL;
	struct gds_device *device = NULL;
	struct stage stages[BUFFERS] = { 0 };
	struct stream stream = { .count = argc > first ? (size_t)(argc - first) : 0 };
	int err = -1;

	if (stream.count == 0) {
		fputs("Usage: stream-shards [--device NAME] FILE...\n", stderr);
		return 2;
	}
	stream.shards = calloc(stream.count, sizeof(*stream.shards));
	if (!stream.shards)
		return 1;
	for (size_t i = 0; i < stream.count; i++)
		stream.shards[i].path = argv[first + (int)i];
	if (check(gds_reader_open(&reader, &options)) ||
	    check(gds_device_open(&device, has_device ? argv[2] : "vulkan")) ||
	    open_shards(&stream) || open_stages(stages, reader, device, stream.count))
		goto out;
	err = run(stages, &stream);
	for (int path = 1; path < GDS_PATH_COUNT && !err; path++)
		if (path_bytes[path])
			printf("%" PRIu64 " bytes by the path %s\n", path_bytes[path],
			       gds_path_name((enum gds_path)path));
	if (!err)
		printf("%.3f s spent waiting for reads\n", waited_s);
out:
	close_stages(stages);
	for (size_t i = 0; i < stream.count; i++)
		gds_file_close(stream.shards[i].file);
	gds_device_close(device);
	gds_reader_close(reader);
	free(stream.shards);
	return err ? 1 : 0;
}
