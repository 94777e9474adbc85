/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backends from outside of the library, by gds/backend.h: that one works like those inside,
 * that what cannot be is refused, and that a backend's mistakes end in an error which names
 * it. A backend is registered for the life of the process, so each case has names of its own.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "memory/backend.h"
#include "support/random.h"

#include <fcntl.h>
#include <gds/backend.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#define MIB (UINT64_C(1) << 20)

enum { THREADS = 8, LATER = 64 };

/* ---- A backend whose device copies late, and that errs on request ---- */

struct later {
	struct gds_backend_copy copy;
	uint64_t ticket;
};

struct fake {
	struct gds_backend calls;
	/* What its calls return, and what they say of it. */
	int open_result, alloc_result, copy_result, copied_result;
	const char *message;
	int copy_fails_at; /* the call of copy(), from 1, that fails */
	bool late;         /* copies are done when they are waited for */
	struct gds_backend_dmabuf dmabuf;
	uint64_t export_bytes;

	unsigned opened, allocated, attached, copy_calls, copied_calls;
	uint64_t asked_offset, asked_bytes; /* of an export */
	uint64_t tickets;
	struct later later[LATER];
	size_t later_count;
};

struct fake_memory {
	struct fake *fake;
	uint64_t bytes;
	unsigned char *data;
};

static int say(const struct fake *fake, int result)
{
	if (result < 0 && fake->message)
		return gds_backend_fail(-result, "%s", fake->message);
	return result;
}

static int fake_open(void *user, const char *selector, void **device)
{
	struct fake *fake = user;

	if (fake->open_result)
		return say(fake, fake->open_result);
	if (strcmp(selector, "") != 0 && strcmp(selector, "7") != 0)
		return gds_backend_fail(ENODEV, "no device %s", selector);
	fake->opened++;
	*device = fake;
	return 0;
}

static void fake_close(void *device)
{
	((struct fake *)device)->opened--;
}

static int fake_alloc(void *device, uint64_t bytes, uint32_t flags,
		      struct gds_backend_memory *memory)
{
	struct fake *fake = device;
	struct fake_memory *own;

	if (fake->alloc_result)
		return say(fake, fake->alloc_result);
	assert_int_equal(memory->size, sizeof(*memory));
	own = calloc(1, sizeof(*own));
	assert_non_null(own);
	*own = (struct fake_memory){ fake, bytes, calloc(1, bytes) };
	assert_non_null(own->data);
	fake->allocated++;
	memory->memory = own;
	memory->export_bytes = fake->export_bytes;
	return 0;
}

static void fake_free(void *device, void *memory)
{
	struct fake_memory *own = memory;

	assert_ptr_equal(own->fake, device);
	own->fake->allocated--;
	free(own->data);
	free(own);
}

static void do_copy(const struct gds_backend_copy *copy)
{
	struct fake_memory *to = copy->memory;
	const struct fake_memory *from = copy->source;

	assert_true(copy->offset + copy->bytes <= to->bytes);
	memcpy(to->data + copy->offset,
	       from ? from->data + copy->source_offset : (const unsigned char *)copy->host,
	       copy->bytes);
}

static int fake_copy(void *device, const struct gds_backend_copy *copies, size_t count,
		     uint64_t *ticket)
{
	struct fake *fake = device;

	if (++fake->copy_calls == (unsigned)fake->copy_fails_at || fake->copy_result)
		return say(fake, fake->copy_result ? fake->copy_result : -EIO);
	for (size_t i = 0; i < count; i++) {
		if (fake->late && fake->later_count < LATER)
			fake->later[fake->later_count++] =
				(struct later){ copies[i], fake->tickets + 1 };
		else
			do_copy(&copies[i]);
	}
	*ticket = fake->late ? ++fake->tickets : 0;
	return 0;
}

/* What is waited for is done by the time that a wait ends, and nothing is sooner. */
static int fake_copied(void *device, uint64_t ticket, uint64_t timeout_ns, uint64_t *done)
{
	struct fake *fake = device;

	fake->copied_calls++;
	if (fake->copied_result)
		return say(fake, fake->copied_result);
	if (timeout_ns == 0 && fake->copied_calls % 3) {
		*done = 0;
		return 0;
	}
	for (size_t i = 0; i < fake->later_count; i++)
		do_copy(&fake->later[i].copy);
	fake->later_count = 0;
	*done = fake->tickets;
	return 0;
}

static int fake_copy_out(void *device, void *memory, uint64_t offset, void *data, size_t bytes)
{
	const struct fake_memory *own = memory;

	assert_ptr_equal(own->fake, device);
	memcpy(data, own->data + offset, bytes);
	return 0;
}

static int fake_export(void *device, void *memory, uint64_t offset, uint64_t bytes,
		       struct gds_backend_dmabuf *dmabuf)
{
	struct fake *fake = device;

	assert_int_equal(dmabuf->size, sizeof(*dmabuf));
	fake->asked_offset = offset;
	fake->asked_bytes = bytes;
	dmabuf->fd = fake->dmabuf.fd;
	dmabuf->bytes = fake->dmabuf.bytes;
	dmabuf->offset = fake->dmabuf.offset;
	return 0;
}

static int fake_attach(void *device, void *host, size_t bytes, void **attached)
{
	assert_int_equal((uintptr_t)host % 4096, 0);
	((struct fake *)device)->attached++;
	*attached = host;
	return 0;
}

static void fake_detach(void *device, void *attached)
{
	assert_non_null(attached);
	((struct fake *)device)->attached--;
}

static struct gds_backend fake_calls(struct fake *fake, const char *name)
{
	return (struct gds_backend){
		.size = sizeof(struct gds_backend),
		.version = GDS_BACKEND_VERSION,
		.name = name,
		.summary = "a fake for the tests",
		.user = fake,
		.open = fake_open,
		.close = fake_close,
		.alloc = fake_alloc,
		.free = fake_free,
		.copy = fake_copy,
		.copied = fake_copied,
		.copy_out = fake_copy_out,
		.host_attach = fake_attach,
		.host_detach = fake_detach,
	};
}

/* ---- What the cases share ---- */

static void must(int err)
{
	if (err < 0)
		fail_msg("%s", gds_last_error());
}

static void expect_error(int err, int wanted, const char *text)
{
	assert_int_equal(err, wanted);
	if (!strstr(gds_last_error(), text))
		fail_msg("'%s' does not say '%s'", gds_last_error(), text);
}

static struct gds_device *register_and_open(struct fake *fake, const char *name)
{
	struct gds_device *device = NULL;

	fake->calls = fake_calls(fake, name);
	must(gds_backend_register(&fake->calls));
	must(gds_device_open(&device, name));
	return device;
}

/* A temporary file of random bytes, which the caller frees, and its name. */
static unsigned char *make_file(char *path, uint64_t bytes)
{
	struct random random = { .state = 99 };
	unsigned char *data = malloc(bytes);
	const int fd = mkstemp(path);

	assert_non_null(data);
	assert_true(fd >= 0);
	for (uint64_t i = 0; i < bytes; i++)
		data[i] = (unsigned char)random_u64(&random);
	assert_int_equal(write(fd, data, bytes), bytes);
	close(fd);
	return data;
}

static ssize_t read_into(struct gds_buffer *buffer, const char *path, uint64_t offset,
			 uint64_t length, uint64_t buffer_offset, struct gds_result *result)
{
	struct gds_request read = {
		.buffer = buffer, .offset = offset, .length = length, .buffer_offset = buffer_offset
	};
	struct gds_reader *reader = NULL;
	ssize_t got;

	must(gds_reader_open(&reader, NULL));
	must(gds_file_open(&read.file, path));
	got = gds_read(reader, &read, result);
	gds_file_close(read.file);
	gds_reader_close(reader);
	return got;
}

/* ---- Devices ---- */

struct seen {
	const char *backend;
	unsigned devices, reasons;
	char description[256];
	char reason[512];
};

static int note(const char *backend, const struct gds_device_info *info, const char *reason,
		void *user)
{
	struct seen *seen = user;

	if (strcmp(backend, seen->backend) != 0)
		return 0;
	if (info) {
		seen->devices++;
		snprintf(seen->description, sizeof(seen->description), "%s", info->description);
	} else {
		seen->reasons++;
		snprintf(seen->reason, sizeof(seen->reason), "%s", reason);
	}
	return 0;
}

static void a_registered_device_is_listed_and_opened_like_any(void **state)
{
	static struct fake fake;
	struct gds_device_info info = { .size = sizeof(info) };
	struct seen seen = { .backend = "listed" };
	struct gds_device *device = register_and_open(&fake, "listed"), *other = NULL;

	must(gds_device_list(note, &seen));
	assert_int_equal(seen.devices, 1);
	assert_int_equal(seen.reasons, 0);
	assert_string_equal(seen.description, "a fake for the tests");
	must(gds_device_get_info(device, &info));
	assert_string_equal(info.name, "listed");
	must(gds_device_open(&other, "listed:7"));
	gds_device_close(other);
	expect_error(gds_device_open(&other, "listed:8"), -ENODEV, "no device 8");
	expect_error(gds_device_open(&other, "no such"), -EINVAL, "listed");
	gds_device_close(device);
	assert_int_equal(fake.opened, 0);
}

static int list_two(void *user,
		    int (*visit)(const char *backend, const struct gds_device_info *info,
				 const char *reason, void *visitor),
		    void *visitor)
{
	const struct gds_device_info info = { .size = sizeof(info), .description = "one of two" };
	int result = visit("lists", &info, NULL, visitor);

	return result ? result : visit("lists", &info, NULL, visitor);
}

static void a_backend_may_list_its_devices_itself(void **state)
{
	static struct fake fake;
	struct seen seen = { .backend = "lists" };

	fake.calls = fake_calls(&fake, "lists");
	fake.calls.list = list_two;
	must(gds_backend_register(&fake.calls));
	must(gds_device_list(note, &seen));
	assert_int_equal(seen.devices, 2);
	assert_string_equal(seen.description, "one of two");
}

static void why_there_is_no_device_is_listed(void **state)
{
	static struct fake fake = { .open_result = -ENODEV, .message = "plug one in" };
	struct seen seen = { .backend = "unplugged" };

	fake.calls = fake_calls(&fake, "unplugged");
	must(gds_backend_register(&fake.calls));
	must(gds_device_list(note, &seen));
	assert_int_equal(seen.devices, 0);
	assert_int_equal(seen.reasons, 1);
	assert_string_equal(seen.reason, "plug one in");
}

static int fail_and_note(const char *backend, const struct gds_device_info *info,
			 const char *reason, void *user)
{
	assert_int_equal(gds_device_open(NULL, NULL), -EINVAL);
	return note(backend, info, reason, user);
}

static void a_reason_outlasts_what_fails_while_it_is_listed(void **state)
{
	static struct fake fake = { .open_result = -ENODEV, .message = "plug two in" };
	struct seen seen = { .backend = "unplugged-too" };

	fake.calls = fake_calls(&fake, "unplugged-too");
	must(gds_backend_register(&fake.calls));
	must(gds_device_list(fail_and_note, &seen));
	assert_string_equal(seen.reason, "plug two in");
}

static void the_structure_and_its_strings_need_not_stay(void **state)
{
	static struct fake fake;
	char name[] = "copied-name", summary[] = "a summary that goes";
	struct gds_backend calls = fake_calls(&fake, name);
	struct gds_device_info info = { .size = sizeof(info) };
	struct gds_device *device = NULL;

	calls.summary = summary;
	must(gds_backend_register(&calls));
	memset(name, 'x', sizeof(name) - 1);
	memset(summary, 'x', sizeof(summary) - 1);
	memset(&calls, 0xff, sizeof(calls));
	must(gds_device_open(&device, "copied-name"));
	must(gds_device_get_info(device, &info));
	assert_string_equal(info.description, "a summary that goes");
	gds_device_close(device);
}

/* ---- What is refused ---- */

static void names_that_are_taken_are_refused(void **state)
{
	static struct fake fake;
	static const char *const taken[] = { "host", "mine" };

	fake.calls = fake_calls(&fake, "mine");
	must(gds_backend_register(&fake.calls));
	for (size_t i = 0; i < 2; i++) {
		fake.calls.name = taken[i];
		expect_error(gds_backend_register(&fake.calls), -EEXIST, taken[i]);
	}
}

static void names_that_no_device_could_have_are_refused(void **state)
{
	static struct fake fake;
	static const char *const wrong[] = { "",
					     "a:b",
					     "Upper",
					     "white space",
					     "umläut",
					     NULL,
					     "a-name-of-more-than-31-characters" };

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		fake.calls = fake_calls(&fake, wrong[i]);
		expect_error(gds_backend_register(&fake.calls), -EINVAL, "name");
	}
}

static void structures_of_another_make_are_refused(void **state)
{
	static struct fake fake;
	struct {
		struct gds_backend calls;
		void *more;
	} newer = { .calls = fake_calls(&fake, "newer") };

	expect_error(gds_backend_register(NULL), -EINVAL, "size");
	fake.calls = fake_calls(&fake, "shapes");
	fake.calls.size--;
	expect_error(gds_backend_register(&fake.calls), -EINVAL, "size");
	fake.calls.size = 0;
	expect_error(gds_backend_register(&fake.calls), -EINVAL, "size");
	fake.calls = fake_calls(&fake, "shapes");
	fake.calls.version++;
	expect_error(gds_backend_register(&fake.calls), -EINVAL, "version 2");

	newer.calls.size = sizeof(newer);
	newer.more = &newer;
	expect_error(gds_backend_register(&newer.calls), -ENOTSUP, "newer");
	newer.more = NULL;
	must(gds_backend_register(&newer.calls));
}

static void backends_that_lack_a_call_are_refused(void **state)
{
	static struct fake fake;
	struct gds_backend good = fake_calls(&fake, "lacking"), calls;

#define LACKS(call, text)                                                  \
	do {                                                               \
		calls = good;                                              \
		calls.call = NULL;                                         \
		expect_error(gds_backend_register(&calls), -EINVAL, text); \
	} while (0)
	LACKS(open, "open");
	LACKS(close, "close");
	LACKS(alloc, "alloc");
	LACKS(free, "free");
	LACKS(copy, "copy");
	LACKS(copy_out, "copy_out");
	LACKS(host_attach, "host_attach");
	LACKS(host_detach, "host_detach");
	LACKS(summary, "summary");
#undef LACKS
	/* None of them left the name taken. */
	must(gds_backend_register(&good));
}

static atomic_uint winners, losers;
static atomic_bool go;

static void *race(void *argument)
{
	const size_t index = (size_t)argument;
	struct fake *fake = calloc(1, sizeof(*fake));
	struct gds_device *device;
	char name[32];

	snprintf(name, sizeof(name), "racer-%zu", index);
	fake->calls = fake_calls(fake, "raced-for");
	while (!atomic_load(&go))
		;
	atomic_fetch_add(gds_backend_register(&fake->calls) ? &losers : &winners, 1);
	fake->calls.name = name;
	if (gds_backend_register(&fake->calls) || gds_device_open(&device, name))
		return fake;
	gds_device_close(device);
	if (gds_device_open(&device, "host"))
		return fake;
	gds_device_close(device);
	return NULL; /* fake stays: it is registered */
}

static void of_threads_that_register_one_name_one_wins(void **state)
{
	pthread_t threads[THREADS];
	void *failed;

	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, race, (void *)i), 0);
	atomic_store(&go, true);
	for (size_t i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	assert_int_equal(atomic_load(&winners), 1);
	assert_int_equal(atomic_load(&losers), THREADS - 1);
}

/* ---- Reads ---- */

static void check_reads(struct fake *fake, const char *name)
{
	static const uint64_t reads[][3] = { /* offset, length, place */
					     { 0, 3 * MIB + 5, 0 }, { 1, 100, 3 },
					     { 4096, 8192, 4096 },  { 4095, 2 * MIB, 77 },
					     { 3 * MIB, 100, 0 },   { 3 * MIB + 4, 100, 9 }
	};
	char path[] = "/tmp/gds-registered-XXXXXX";
	unsigned char *data = make_file(path, 3 * MIB + 5);
	struct gds_device *device = register_and_open(fake, name);
	struct gds_buffer *buffer = NULL;
	struct gds_result result;
	unsigned char *seen = malloc(4 * MIB);
	uint32_t crc;
	ssize_t got;

	must(gds_buffer_alloc(&buffer, device, 4 * MIB, 0));
	assert_null(gds_buffer_host(buffer));
	for (size_t i = 0; i < sizeof(reads) / sizeof(reads[0]); i++) {
		got = read_into(buffer, path, reads[i][0], reads[i][1], reads[i][2], &result);
		must((int)got);
		assert_int_equal(result.path_bytes[GDS_PATH_BOUNCE], got);
		must(gds_buffer_copy_out(buffer, 0, seen, 4 * MIB));
		assert_memory_equal(seen + reads[i][2], data + reads[i][0], (size_t)got);
	}
	must(gds_buffer_copy_in(buffer, 5, data, 2 * MIB + 1));
	must(gds_buffer_checksum(buffer, 5, 2 * MIB + 1, &crc));
	assert_int_equal(crc, crc32_z(0, data, 2 * MIB + 1));
	gds_buffer_free(buffer);
	gds_device_close(device);
	assert_int_equal(fake->allocated, 0);
	assert_int_equal(fake->attached, 0);
	assert_int_equal(fake->opened, 0);
	unlink(path);
	free(data);
	free(seen);
}

static void reads_arrive_by_copies_that_are_done_at_once(void **state)
{
	static struct fake fake;

	check_reads(&fake, "at-once");
	assert_int_equal(fake.copied_calls, 0);
}

static void reads_arrive_by_copies_that_are_done_later(void **state)
{
	static struct fake fake = { .late = true };

	check_reads(&fake, "later");
	assert_int_not_equal(fake.copied_calls, 0);
}

static void a_buffer_gives_its_backend_the_memory_and_no_other(void **state)
{
	static struct fake fake;
	struct gds_device *device = register_and_open(&fake, "owner"), *host = NULL;
	struct gds_buffer *buffer = NULL, *plain = NULL;
	void *memory = NULL;

	must(gds_buffer_alloc(&buffer, device, 100, 0));
	must(gds_backend_buffer_memory(buffer, "owner", &memory));
	assert_ptr_equal(((struct fake_memory *)memory)->fake, &fake);
	expect_error(gds_backend_buffer_memory(buffer, "other", &memory), -ENOTSUP, "owner");
	expect_error(gds_backend_buffer_memory(NULL, "owner", &memory), -EINVAL, "NULL");
	must(gds_device_open(&host, "host"));
	must(gds_buffer_alloc(&plain, host, 100, 0));
	expect_error(gds_backend_buffer_memory(plain, "host", &memory), -ENOTSUP, "host");
	gds_buffer_free(plain);
	gds_device_close(host);
	gds_buffer_free(buffer);
	gds_device_close(device);
}

/* ---- Errors and mistakes of a backend ---- */

static void errors_say_what_the_backend_said_or_name_it(void **state)
{
	static struct fake fake;
	struct gds_device *device = register_and_open(&fake, "erring");
	struct gds_buffer *buffer = NULL;

	fake.alloc_result = -ENOMEM;
	fake.message = "the chip has 3 bytes left";
	expect_error(gds_buffer_alloc(&buffer, device, 100, 0), -ENOMEM,
		     "the chip has 3 bytes left");
	fake.message = NULL;
	expect_error(gds_buffer_alloc(&buffer, device, 100, 0), -ENOMEM,
		     "backend erring: allocating memory: Cannot allocate");
	fake.alloc_result = 5;
	expect_error(gds_buffer_alloc(&buffer, device, 100, 0), -EIO, "gave 5");
	fake.alloc_result = -100000;
	expect_error(gds_buffer_alloc(&buffer, device, 100, 0), -EIO, "gave -100000");
	assert_null(buffer);
	assert_int_equal(gds_backend_fail(0, "no error %d", 1), -EIO);
	gds_device_close(device);
}

static void check_failed_read(struct fake *fake, const char *name, int wanted, const char *text)
{
	char path[] = "/tmp/gds-registered-XXXXXX";
	unsigned char *data = make_file(path, 1000);
	struct gds_device *device = register_and_open(fake, name);
	struct gds_buffer *buffer = NULL;

	must(gds_buffer_alloc(&buffer, device, 4096, 0));
	expect_error((int)read_into(buffer, path, 0, 1000, 0, NULL), wanted, text);
	gds_buffer_free(buffer);
	gds_device_close(device);
	assert_int_equal(fake->attached, 0);
	unlink(path);
	free(data);
}

static void a_copy_that_fails_fails_the_read(void **state)
{
	static struct fake fake = { .copy_result = -ENODEV, .message = "the chip is gone" };

	check_failed_read(&fake, "gone", -ENODEV, "");
}

static void a_wait_that_fails_fails_the_read(void **state)
{
	static struct fake fake = { .late = true, .copied_result = -EIO };

	check_failed_read(&fake, "lost", -EIO, "");
}

/* Both of the core's copies and of copy_in: nothing may be asked of a call that is not there. */
static void a_ticket_that_cannot_be_asked_for_is_an_error(void **state)
{
	static struct fake fake = { .late = true };
	struct gds_device *device = NULL;
	struct gds_buffer *buffer = NULL;

	fake.calls = fake_calls(&fake, "ticketless");
	fake.calls.copied = NULL;
	must(gds_backend_register(&fake.calls));
	must(gds_device_open(&device, "ticketless"));
	must(gds_buffer_alloc(&buffer, device, 4096, 0));
	expect_error(gds_buffer_copy_in(buffer, 0, "abc", 3), -EIO, "ticket");
	gds_buffer_free(buffer);
	gds_device_close(device);
}

static const struct backend_ops *find(const char *name)
{
	size_t count;
	const struct backend_ops *const *backends = backend_registry(&count);

	for (size_t i = 0; i < count; i++)
		if (strcmp(backends[i]->name, name) == 0)
			return backends[i];
	fail_msg("%s is not registered", name);
	return NULL;
}

/* The core frees what it copies from after an error: the first part must be over by then. */
static void what_was_started_before_an_error_is_waited_for(void **state)
{
	static struct fake fake = { .late = true, .copy_fails_at = 2 };
	struct gds_device *unused = register_and_open(&fake, "half");
	const struct backend_ops *ops = find("half");
	struct backend_device *device = NULL;
	struct backend_memory *memory = NULL;
	struct backend_staging *staging = NULL;
	struct backend_copy copies[65];
	void *host = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t ticket;

	must(ops->open_registered(ops, &device, ""));
	must(ops->alloc(device, 4096, 0, &memory));
	must(ops->staging_attach(device, host, 4096, &staging));
	for (size_t i = 0; i < 65; i++)
		copies[i] = (struct backend_copy){ memory, staging, NULL, i, i, 1 };
	assert_int_equal(ops->copy(device, copies, 65, &ticket), -EIO);
	assert_int_equal(fake.copy_calls, 2);
	assert_int_equal(fake.later_count, 0);
	ops->staging_detach(staging);
	ops->free(memory);
	ops->close(device);
	munmap(host, 4096);
	gds_device_close(unused);
}

static void exports_are_checked(void **state)
{
	static struct fake fake;
	static const struct gds_backend_dmabuf wrong[] = {
		{ .fd = -1, .bytes = 8192 },
		{ .fd = 0, .bytes = 0 },
		{ .fd = 0, .bytes = 8191 },
		{ .fd = 0, .bytes = 4096 },
		{ .fd = 0, .bytes = 8192, .offset = 4096 },
		{ .fd = 0, .bytes = 8192, .offset = UINT64_MAX },
	};
	const struct backend_ops *ops;
	struct backend_device *device = NULL;
	struct backend_memory *memory = NULL;
	struct backend_export exported;

	fake.calls = fake_calls(&fake, "exporter");
	fake.calls.export_dmabuf = fake_export;
	must(gds_backend_register(&fake.calls));
	ops = find("exporter");
	must(ops->open_registered(ops, &device, ""));
	must(ops->alloc(device, 5000, 0, &memory));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		fake.dmabuf = wrong[i];
		if (wrong[i].fd == 0)
			fake.dmabuf.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		assert_int_equal(ops->export_slice(memory, 0, &exported), -EOPNOTSUPP);
		assert_non_null(strstr(gds_last_error(), "exporter"));
		/* What cannot be used is not left open. */
		if (wrong[i].fd == 0)
			assert_int_equal(fcntl(fake.dmabuf.fd, F_GETFD), -1);
	}
	fake.dmabuf = (struct gds_backend_dmabuf){ .fd = 77, .bytes = 8192, .offset = 96 };
	must(ops->export_slice(memory, 0, &exported));
	assert_int_equal(exported.fd, 77);
	assert_int_equal(exported.bytes, 8192);
	assert_int_equal(exported.offset, 96);
	assert_int_equal(fake.asked_offset, 0);
	assert_int_equal(fake.asked_bytes, 5000);
	expect_error(ops->export_slice(memory, 1, &exported), -EINVAL, "no slice 1");
	ops->free(memory);
	ops->close(device);
}

static void exports_are_asked_for_in_the_pieces_that_the_backend_wants(void **state)
{
	static struct fake fake = { .export_bytes = 4096 };
	static const uint64_t wrong[] = { 1, 2048, 4097, 12288 };
	struct gds_device *device = NULL;
	struct gds_buffer *buffer = NULL;
	struct backend_device *inner = NULL;
	struct backend_memory *memory = NULL;
	struct backend_export exported;
	const struct backend_ops *ops;

	fake.calls = fake_calls(&fake, "pieces");
	fake.calls.export_dmabuf = fake_export;
	must(gds_backend_register(&fake.calls));
	must(gds_device_open(&device, "pieces"));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		fake.export_bytes = wrong[i];
		expect_error(gds_buffer_alloc(&buffer, device, 100, 0), -EIO, "power of two");
		assert_int_equal(fake.allocated, 0);
	}
	gds_device_close(device);

	ops = find("pieces");
	fake.export_bytes = 4096;
	fake.dmabuf = (struct gds_backend_dmabuf){ .fd = 77, .bytes = 4096 };
	must(ops->open_registered(ops, &inner, ""));
	must(ops->alloc(inner, 9000, 0, &memory));
	assert_int_equal(memory->slice_bytes, 4096);
	must(ops->export_slice(memory, 2, &exported));
	assert_int_equal(fake.asked_offset, 8192);
	assert_int_equal(fake.asked_bytes, 808);
	expect_error(ops->export_slice(memory, 3, &exported), -EINVAL, "no slice 3");
	ops->free(memory);
	ops->close(inner);
}

/* The last case: it leaves no room. */
static void more_backends_than_there_is_room_for_are_refused(void **state)
{
	static struct fake fake;
	char name[32];
	int err = 0;

	for (int i = 0; i < 100 && !err; i++) {
		snprintf(name, sizeof(name), "many-%d", i);
		fake.calls = fake_calls(&fake, name);
		err = gds_backend_register(&fake.calls);
	}
	expect_error(err, -ENOSPC, "64 already");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_registered_device_is_listed_and_opened_like_any),
		cmocka_unit_test(a_backend_may_list_its_devices_itself),
		cmocka_unit_test(why_there_is_no_device_is_listed),
		cmocka_unit_test(a_reason_outlasts_what_fails_while_it_is_listed),
		cmocka_unit_test(the_structure_and_its_strings_need_not_stay),
		cmocka_unit_test(names_that_are_taken_are_refused),
		cmocka_unit_test(names_that_no_device_could_have_are_refused),
		cmocka_unit_test(structures_of_another_make_are_refused),
		cmocka_unit_test(backends_that_lack_a_call_are_refused),
		cmocka_unit_test(of_threads_that_register_one_name_one_wins),
		cmocka_unit_test(reads_arrive_by_copies_that_are_done_at_once),
		cmocka_unit_test(reads_arrive_by_copies_that_are_done_later),
		cmocka_unit_test(a_buffer_gives_its_backend_the_memory_and_no_other),
		cmocka_unit_test(errors_say_what_the_backend_said_or_name_it),
		cmocka_unit_test(a_copy_that_fails_fails_the_read),
		cmocka_unit_test(a_wait_that_fails_fails_the_read),
		cmocka_unit_test(a_ticket_that_cannot_be_asked_for_is_an_error),
		cmocka_unit_test(what_was_started_before_an_error_is_waited_for),
		cmocka_unit_test(exports_are_checked),
		cmocka_unit_test(exports_are_asked_for_in_the_pieces_that_the_backend_wants),
		cmocka_unit_test(more_backends_than_there_is_room_for_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
