/* SPDX-License-Identifier: Apache-2.0 */
#include "path/canary.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/probe.h"
#include "memory/pages.h"
#include "reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define CANARY_WORDS (CANARY_BYTES / sizeof(uint64_t))

/* Times in a row that what is compared with may be found changed. */
#define CHANGES_MAX 8

/* What a canary compares. A reader has one in flight at a time. */
struct canary {
	uint64_t wanted[CANARY_WORDS]; /* what the target holds */
	uint64_t before[CANARY_WORDS]; /* what the memory held */
	uint64_t poison[CANARY_WORDS]; /* differs from both in every byte */
	uint64_t found[CANARY_WORDS];
	uint64_t again[CANARY_WORDS]; /* what the target holds after that */
	const struct reader_target *target;
	uint64_t offset; /* there */
};

struct proof *proof_get(struct gds_reader *reader, const struct gds_device *device, dev_t target,
			const char *placement)
{
	struct proof *proof;

	for (proof = reader->proofs; proof; proof = proof->next)
		if (proof->device == device && proof->target == target &&
		    strcmp(proof->placement, placement) == 0)
			return proof;
	proof = calloc(1, sizeof(*proof));
	if (!proof)
		return NULL;
	proof->device = device;
	proof->target = target;
	proof->placement = placement;
	proof->next = reader->proofs;
	reader->proofs = proof;
	return proof;
}

void proofs_forget(struct gds_reader *reader, const struct gds_device *device)
{
	struct proof **link = &reader->proofs;
	struct proof *proof;

	while ((proof = *link) != NULL) {
		if (device && proof->device != device) {
			link = &proof->next;
			continue;
		}
		*link = proof->next;
		free(proof);
	}
	if (!device) {
		pages_unmap(reader->canary, sizeof(*reader->canary));
		reader->canary = NULL;
	}
}

enum proof_state proof_check(struct gds_reader *reader, struct proof *proof)
{
	uint64_t interval_ns = reader->options.canary_interval_ns;

	if (reader->options.flags & GDS_READER_NO_CANARY)
		return PROOF_PASSED;
	/* The reader's time is that of its turn, and may be before the proof. */
	if (proof->state == PROOF_PASSED && interval_ns && reader->now_ns > proof->passed_ns &&
	    reader->now_ns - proof->passed_ns > interval_ns)
		proof->state = PROOF_NONE;
	return proof->state;
}

#define EACH_BYTE UINT64_C(0x0101010101010101)

/*
 * Differs from both in every byte: in its lowest bit from what is wanted, in the next from
 * what was there before. The others tell places apart.
 */
static uint64_t poison_for(uint64_t word, uint64_t wanted, uint64_t before)
{
	uint64_t pattern = (word + 1) * UINT64_C(0x9e3779b97f4a7c15);

	return (pattern & ~(EACH_BYTE * 3)) | (~wanted & EACH_BYTE) | (~before & EACH_BYTE * 2);
}

/* By an ordinary read, for which whole blocks are asked. */
static int read_target(const struct canary *canary, void *bytes, uint32_t count)
{
	ssize_t got = pread(canary->target->fd, bytes, count, (off_t)canary->offset);

	if (got == (ssize_t)count)
		return 0;
	return gds_fail_errno(got < 0 ? errno : EIO,
			      "cannot read %s at %" PRIu64 " to prove the direct path",
			      canary->target->name, canary->offset);
}

int canary_begin(struct gds_reader *reader, struct proof *proof, const struct reader_target *target,
		 uint64_t offset, struct backend_memory *memory, uint64_t place, uint32_t bytes)
{
	const struct backend_ops *ops = memory->device->ops;
	struct canary *canary;
	int err;

	if (!reader->canary)
		reader->canary = pages_map(sizeof(*reader->canary));
	canary = reader->canary;
	if (!canary)
		return gds_fail_errno(ENOMEM, "cannot prove the direct path");
	proof->begun_ns = clock_now_ns();
	canary->target = target;
	canary->offset = offset;
	err = read_target(canary, canary->wanted, bytes);
	if (err)
		return err;
	err = ops->copy_out(memory, place, canary->before, bytes);
	if (err)
		return err;
	for (uint32_t i = 0; i * sizeof(uint64_t) < bytes; i++)
		canary->poison[i] = poison_for(i, canary->wanted[i], canary->before[i]);
	err = ops->copy_in(memory, place, canary->poison, bytes);
	if (err)
		return err;
	proof->state = PROOF_PENDING;
	reader->canary_in_flight = true;
	return 0;
}

#define say(proof, ...) gds_text_set((proof)->finding, sizeof((proof)->finding), __VA_ARGS__)

/* What kind of lie it is, from how many bytes are which. */
static void say_finding(struct proof *proof, const struct canary *canary, uint32_t bytes)
{
	const unsigned char *found = (const unsigned char *)canary->found;
	const unsigned char *wanted = (const unsigned char *)canary->wanted;
	const unsigned char *before = (const unsigned char *)canary->before;
	const unsigned char *poison = (const unsigned char *)canary->poison;
	uint32_t right = 0;
	uint32_t untouched = 0;
	uint32_t stale = 0;
	const char *kind;

	for (uint32_t i = 0; i < bytes; i++) {
		right += found[i] == wanted[i];
		untouched += found[i] == poison[i];
		stale += found[i] == before[i] && found[i] != wanted[i];
	}
	if (untouched == bytes)
		kind = "the memory was left untouched";
	else if (stale == bytes)
		kind = "the memory holds what it held before (stale)";
	else if (right + untouched == bytes)
		kind = "only a part arrived";
	else
		kind = "other bytes than the drive's are there: they went elsewhere";
	say(proof,
	    "a read of %u bytes was reported complete, but %s (%u right, %u untouched, %u stale)",
	    bytes, kind, right, untouched, stale);
}

/* Someone wrote there meanwhile: what arrived shows nothing. */
static bool target_changed(struct canary *canary, uint32_t bytes)
{
	return !read_target(canary, canary->again, bytes) &&
	       memcmp(canary->again, canary->wanted, bytes) != 0;
}

static void pass(struct proof *proof)
{
	proof->state = PROOF_PASSED;
	proof->changes = 0;
	proof->passed_ns = clock_now_ns();
	gds_info("the direct path is proven from device %u:%u into %s memory, in %" PRIu64 " us",
		 major(proof->target), minor(proof->target), proof->placement,
		 (proof->passed_ns - proof->begun_ns) / 1000);
}

static void refuse(struct gds_reader *reader, struct proof *proof)
{
	proof->state = PROOF_FAILED;
	counter_add(&reader->counters.canaries_failed, 1);
	gds_warn("the direct path is refused: %s", proof->finding);
}

void canary_finish(struct gds_reader *reader, struct proof *proof, struct backend_memory *memory,
		   uint64_t place, uint32_t bytes)
{
	struct canary *canary = reader->canary;
	int err = memory->device->ops->copy_out(memory, place, canary->found, bytes);
	bool right = !err && memcmp(canary->found, canary->wanted, bytes) == 0;

	reader->canary_in_flight = false;
	counter_add(&reader->counters.canaries, 1);
	GDS_PROBE4(canary, proof->placement, bytes, err, right);
	if (right) {
		pass(proof);
	} else if (err) {
		say(proof, "what arrived could not be looked at: %s", gds_last_error());
		refuse(reader, proof);
	} else if (!target_changed(canary, bytes)) {
		say_finding(proof, canary, bytes);
		refuse(reader, proof);
	} else if (proof->changes < CHANGES_MAX) {
		proof->changes++;
		proof->state = PROOF_NONE;
	} else {
		say(proof, "%s is written all the time at the place that was to prove it",
		    canary->target->name);
		refuse(reader, proof);
	}
}

void canary_void(struct gds_reader *reader, struct proof *proof)
{
	reader->canary_in_flight = false;
	proof->state = PROOF_NONE;
}
