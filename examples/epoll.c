/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An event loop that takes requests as lines on standard input, "OFFSET LENGTH FILE", and
 * answers each when its bytes have arrived in device memory, in whatever order that is: with
 * the checksum that the device computed of them. One thread does it all and never blocks but
 * in epoll_wait(): the reader's eventfd tells when to look at the reads in flight.
 */
#include <errno.h>
#include <fcntl.h>
#include <gds/gds.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define MOST_BYTES (UINT64_C(4) << 20) /* of one request */

enum { SLOTS = 8, LINE_BYTES = 8192 };

/* A read in flight, and what it needs: made once, used again and again. */
struct slot {
	struct gds_buffer *buffer;
	struct gds_batch *batch;
	struct gds_file *file; /* NULL: the slot is free */
	char request[LINE_BYTES];
};

struct loop {
	struct gds_reader *reader;
	struct gds_device *device;
	struct slot slots[SLOTS];
	int epoll;
	int eventfd;
	bool input_ended;
	bool input_watched; /* not while all slots are taken */
	char input[LINE_BYTES];
	size_t input_bytes;
};

/* 0, or -1 after saying what failed. */
static int check(int64_t result)
{
	if (result >= 0)
		return 0;
	fprintf(stderr, "epoll: %s\n", gds_last_error());
	return -1;
}

static int check_system(int result, const char *call)
{
	if (result >= 0)
		return 0;
	fprintf(stderr, "epoll: %s: %s\n", call, strerror(errno));
	return -1;
}

static struct slot *free_slot(struct loop *loop)
{
	for (size_t i = 0; i < SLOTS; i++)
		if (!loop->slots[i].file)
			return &loop->slots[i];
	return NULL;
}

static bool is_idle(const struct loop *loop)
{
	for (size_t i = 0; i < SLOTS; i++)
		if (loop->slots[i].file)
			return false;
	return true;
}

/* ---- Requests ---- */

static void refuse(const char *request, const char *reason)
{
	printf("%s: %s\n", request, reason);
}

/* Starts what a line asks for. A request that cannot be served is answered, and no failure. */
static void start(struct slot *slot, const char *line)
{
	struct gds_request read = { .buffer = slot->buffer };
	int path_at = 0;

	snprintf(slot->request, sizeof(slot->request), "%s", line);
	/* NOLINTNEXTLINE(cert-err34-c): what is out of range is refused just below */
	if (sscanf(line, "%" SCNu64 " %" SCNu64 " %n", &read.offset, &read.length, &path_at) != 2 ||
	    !line[path_at] || read.length > MOST_BYTES) {
		refuse(line, "no OFFSET LENGTH FILE with a LENGTH of at most 4194304");
		return;
	}
	if (gds_file_open(&slot->file, line + path_at) < 0) {
		slot->file = NULL;
		refuse(line, gds_last_error());
		return;
	}
	read.file = slot->file;
	if (gds_batch_reset(slot->batch) < 0 || gds_batch_add(slot->batch, &read, 1) < 0 ||
	    gds_batch_submit(slot->batch) < 0) {
		refuse(line, gds_last_error());
		gds_file_close(slot->file);
		slot->file = NULL;
	}
}

static void finish(struct slot *slot)
{
	struct gds_result result;
	uint32_t crc = 0;

	if (gds_batch_result(slot->batch, 0, &result) < 0 || result.bytes < 0 ||
	    gds_buffer_checksum(slot->buffer, 0, (uint64_t)result.bytes, &crc) < 0)
		refuse(slot->request, gds_last_error());
	else
		printf("%s: %" PRId64 " bytes, CRC-32 %08" PRIx32 "\n", slot->request, result.bytes,
		       crc);
	gds_file_close(slot->file);
	slot->file = NULL;
}

/* ---- Events ---- */

/* Starts the whole lines that have come, as far as there are free slots. */
static void take_lines(struct loop *loop)
{
	struct slot *slot;
	char *end;

	while ((slot = free_slot(loop)) != NULL &&
	       (end = memchr(loop->input, '\n', loop->input_bytes)) != NULL) {
		const size_t used = (size_t)(end - loop->input) + 1;

		*end = '\0';
		if (loop->input[0])
			start(slot, loop->input);
		loop->input_bytes -= used;
		memmove(loop->input, loop->input + used, loop->input_bytes);
	}
}

static int on_input(struct loop *loop)
{
	const size_t room = sizeof(loop->input) - loop->input_bytes;
	ssize_t got = read(STDIN_FILENO, loop->input + loop->input_bytes, room);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : check_system(-1, "read");
	if (got == 0) {
		loop->input_ended = true;
		/* The last line may lack its end; there is room, or the line was too long. */
		if (loop->input_bytes && loop->input_bytes < sizeof(loop->input))
			loop->input[loop->input_bytes++] = '\n';
	}
	loop->input_bytes += (size_t)got;
	if (loop->input_bytes == sizeof(loop->input) &&
	    !memchr(loop->input, '\n', loop->input_bytes)) {
		fprintf(stderr, "epoll: a line of more than %d bytes\n", LINE_BYTES);
		return -1;
	}
	return 0;
}

/*
 * The counter first, the batches then: what completes in between makes the descriptor
 * readable again. The order of poll and result is what makes progress.
 */
static int on_reader(struct loop *loop)
{
	uint64_t counter;
	ssize_t left;

	if (read(loop->eventfd, &counter, sizeof(counter)) < 0 && errno != EAGAIN)
		return check_system(-1, "read of the eventfd");
	for (size_t i = 0; i < SLOTS; i++) {
		if (!loop->slots[i].file)
			continue;
		left = gds_batch_poll(loop->slots[i].batch);
		if (check(left))
			return -1;
		if (left == 0)
			finish(&loop->slots[i]);
	}
	return 0;
}

/* Input waits in its pipe while every slot is taken, and whoever writes it waits too. */
static int watch_input(struct loop *loop)
{
	const bool wanted = !loop->input_ended && loop->input_bytes < sizeof(loop->input) &&
			    free_slot(loop) != NULL;
	struct epoll_event event = { .events = EPOLLIN, .data.fd = STDIN_FILENO };

	if (wanted == loop->input_watched)
		return 0;
	loop->input_watched = wanted;
	if (epoll_ctl(loop->epoll, wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, STDIN_FILENO, &event) &&
	    errno == EPERM) {
		fputs("epoll: standard input must be a pipe or a terminal: cat FILE | epoll\n",
		      stderr);
		return -1;
	}
	return 0;
}

static int run(struct loop *loop)
{
	struct epoll_event events[2];
	int count;

	while (!loop->input_ended || loop->input_bytes || !is_idle(loop)) {
		if (watch_input(loop))
			return -1;
		count = epoll_wait(loop->epoll, events, 2, -1);
		if (count < 0 && errno != EINTR)
			return check_system(-1, "epoll_wait");
		for (int i = 0; i < count; i++)
			if (events[i].data.fd == STDIN_FILENO ? on_input(loop) : on_reader(loop))
				return -1;
		take_lines(loop);
		fflush(stdout);
	}
	return 0;
}

/* ---- Opening and closing ---- */

static int open_loop(struct loop *loop, const char *device)
{
	const struct gds_reader_options options = { .size = sizeof(options),
						    .flags = GDS_READER_SINGLE_THREAD };
	struct epoll_event event = { .events = EPOLLIN };

	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (check_system(loop->epoll, "epoll_create1") ||
	    check(gds_reader_open(&loop->reader, &options)) ||
	    check(gds_device_open(&loop->device, device)))
		return -1;
	loop->eventfd = gds_reader_eventfd(loop->reader);
	event.data.fd = loop->eventfd;
	if (check(loop->eventfd) ||
	    check_system(epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->eventfd, &event),
			 "epoll_ctl") ||
	    check_system(fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK), "fcntl"))
		return -1;
	for (size_t i = 0; i < SLOTS; i++)
		if (check(gds_buffer_alloc(&loop->slots[i].buffer, loop->device, MOST_BYTES, 0)) ||
		    check(gds_batch_create(&loop->slots[i].batch, loop->reader, NULL)))
			return -1;
	return 0;
}

static void close_loop(struct loop *loop)
{
	for (size_t i = 0; i < SLOTS; i++) {
		gds_batch_destroy(loop->slots[i].batch);
		gds_file_close(loop->slots[i].file);
		gds_buffer_free(loop->slots[i].buffer);
	}
	gds_device_close(loop->device);
	gds_reader_close(loop->reader);
	if (loop->epoll >= 0)
		close(loop->epoll);
}

int main(int argc, char **argv)
{
	static struct loop loop = { .epoll = -1 };
	int err;

	if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
		fputs("Usage: epoll [DEVICE] <requests: OFFSET LENGTH FILE, a line each>\n",
		      stderr);
		return 2;
	}
	err = open_loop(&loop, argc == 2 ? argv[1] : "vulkan");
	if (!err)
		err = run(&loop);
	close_loop(&loop);
	return err ? 1 : 0;
}
