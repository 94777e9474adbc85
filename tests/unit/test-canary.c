/* SPDX-License-Identifier: Apache-2.0 */
/* The proof of the direct path, by itself: what it says of what it finds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "base/error.h"
#include "path/canary.h"
#include "reader.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BYTES 4096

static unsigned char memory_bytes[BYTES];
static char line[256];

static int copy_out(struct backend_memory *memory, uint64_t offset, void *data, size_t bytes)
{
	memcpy(data, memory_bytes + offset, bytes);
	return 0;
}

static int copy_in(struct backend_memory *memory, uint64_t offset, const void *data, size_t bytes)
{
	memcpy(memory_bytes + offset, data, bytes);
	return 0;
}

static void note_line(enum gds_log_level level, const char *text, void *user)
{
	gds_text_set(line, sizeof(line), "%s", text);
}

/* Drives are many: their numbers have more than eight bits. */
static void a_proof_names_the_device_by_its_whole_number(void **state)
{
	static const struct backend_ops ops = { .copy_out = copy_out, .copy_in = copy_in };
	static struct gds_reader reader;
	struct backend_device device = { .ops = &ops };
	struct backend_memory memory = { .device = &device, .bytes = BYTES };
	struct reader_target target = { .name = "a drive", .fd = memfd_create("drive", 0) };
	struct proof *proof = proof_get(&reader, NULL, makedev(259, 300), "vram");
	unsigned char wanted[BYTES];

	memset(wanted, 7, sizeof(wanted));
	assert_int_equal(write(target.fd, wanted, sizeof(wanted)), sizeof(wanted));
	assert_int_equal(canary_begin(&reader, proof, &target, 0, &memory, 0, BYTES), 0);
	memcpy(memory_bytes, wanted, sizeof(wanted));
	gds_log_set(GDS_LOG_INFO, note_line, NULL);
	canary_finish(&reader, proof, &memory, 0, BYTES);
	assert_int_equal(proof->state, PROOF_PASSED);
	if (!strstr(line, "from device 259:300 into vram"))
		fail_msg("it says: %s", line);
	proofs_forget(&reader, NULL);
	close(target.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_proof_names_the_device_by_its_whole_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
