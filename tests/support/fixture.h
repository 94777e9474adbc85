/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the reader on the real kernel start from: a reader of one of the
 * variants, with a gate in front of its lane; a file of known bytes; a device of
 * host memory with a buffer.
 */
#ifndef GDS_TESTS_FIXTURE_H
#define GDS_TESTS_FIXTURE_H

#include "lane/lane.h"
#include "support/gated-lane.h"
#include "support/storage.h"

#include <gds/gds.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MIB          (UINT64_C(1) << 20)
#define FILE_BYTES   (4 * MIB + 123)
#define BUFFER_BYTES (8 * MIB)

struct variant {
	const char *name;
	const struct lane_ops *lane;
	enum gds_lane kind;
	uint32_t flags; /* of the reader */
};

#define VARIANT_COUNT 5
extern const struct variant variants[VARIANT_COUNT];

struct fixture {
	const struct variant *variant;
	char folder[64];
	char path[80];
	struct gds_reader *reader;
	struct gds_device *device;
	struct gds_buffer *buffer;
	struct gds_file *file;
};

struct test_case {
	const char *name;
	CMUnitTestFunction function;
	bool (*suits)(const struct variant *variant); /* NULL: every one */
};

#define TEST_CASE(function)               \
	{                                 \
#function, function, NULL \
	}
#define TEST_CASE_FOR(function, suits)     \
	{                                  \
#function, function, suits \
	}

/* Runs each case with each variant that suits it. */
int run_cases(const char *group, const struct test_case *cases, size_t count);

bool has_no_progress_thread(const struct variant *variant);
bool is_for_many_threads(const struct variant *variant);
bool is_plain_uring(const struct variant *variant);

/* A batch with `count` reads of `length` bytes, one behind the other, not submitted. */
struct gds_batch *batch_of(struct fixture *fixture, size_t count, uint64_t length);
/* That the batch is complete and all its reads good, and what the buffer holds. */
void check_batch_of(struct fixture *fixture, struct gds_batch *batch, uint64_t length);
struct gds_result result_of(struct gds_batch *batch, size_t index);

/* Opens the gate from another thread, a moment later. */
void open_gate_soon(void);

#endif
