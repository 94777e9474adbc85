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
#include <unistd.h>

/* What a canary compares. A reader has one in flight at a time. */
struct canary {
	unsigned char wanted[CANARY_BYTES]; /* what the target holds */
	unsigned char before[CANARY_BYTES]; /* what the memory held */
	unsigned char poison[CANARY_BYTES]; /* differs from both in every byte */
	unsigned char found[CANARY_BYTES];
	unsigned char again[CANARY_BYTES]; /* what the target holds after all */
	int fd;                            /* the target's, and where on it */
	off_t offset;
};

/* Proofs in a row that are left open because someone writes to the target. */
#define UNSETTLED_MAX 8

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

static unsigned char poison_for(uint32_t i, unsigned char wanted, unsigned char before)
{
	unsigned char poison = (unsigned char)(0xa5 ^ i ^ (i >> 8));

	while (poison == wanted || poison == before)
		poison++;
	return poison;
}

int canary_begin(struct gds_reader *reader, struct proof *proof, const struct reader_target *target,
		 uint64_t offset, struct backend_memory *memory, uint64_t place, uint32_t bytes)
{
	const struct backend_ops *ops = memory->device->ops;
	struct canary *canary;
	ssize_t got;
	int err;

	if (!reader->canary)
		reader->canary = pages_map(sizeof(*reader->canary));
	canary = reader->canary;
	if (!canary)
		return gds_fail_errno(ENOMEM, "cannot prove the direct path");
	canary->fd = target->fd;
	canary->offset = (off_t)offset;
	proof->begun_ns = clock_now_ns();
	got = pread(target->fd, canary->wanted, bytes, (off_t)offset);
	if (got != (ssize_t)bytes)
		return gds_fail_errno(got < 0 ? errno : EIO,
				      "cannot read %s at %" PRIu64 " to prove the direct path",
				      target->name, offset);
	err = ops->copy_out(memory, place, canary->before, bytes);
	if (err)
		return err;
	for (uint32_t i = 0; i < bytes; i++)
		canary->poison[i] = poison_for(i, canary->wanted[i], canary->before[i]);
	err = ops->copy_in(memory, place, canary->poison, bytes);
	if (err)
		return err;
	proof->state = PROOF_PENDING;
	reader->canary_in_flight = true;
	return 0;
}

/* What kind of lie it is, from how many bytes are which. */
static void say_finding(struct proof *proof, const struct canary *canary, uint32_t bytes)
{
	uint32_t right = 0;
	uint32_t untouched = 0;
	uint32_t stale = 0;
	const char *kind;

	for (uint32_t i = 0; i < bytes; i++) {
		right += canary->found[i] == canary->wanted[i];
		untouched += canary->found[i] == canary->poison[i];
		stale += canary->found[i] == canary->before[i] &&
			 canary->found[i] != canary->wanted[i];
	}
	if (untouched == bytes)
		kind = "the memory was left untouched";
	else if (stale == bytes)
		kind = "the memory holds what it held before (stale)";
	else if (right + untouched == bytes)
		kind = "only a part arrived";
	else
		kind = "other bytes than the drive's are there: they went elsewhere";
	gds_text_set(proof->finding, sizeof(proof->finding),
		     "a read of %u bytes was reported complete, but %s (%u right, %u untouched, %u "
		     "stale)",
		     bytes, kind, right, untouched, stale);
}

/*
 * A write with O_DIRECT shows in the times of its file when it begins, and its bytes come
 * to the drive later; and a drive that is read by itself has no times at all.
 */
static bool was_overwritten(struct proof *proof, struct canary *canary, uint32_t bytes)
{
	return proof->unsettled < UNSETTLED_MAX &&
	       pread(canary->fd, canary->again, bytes, canary->offset) == (ssize_t)bytes &&
	       memcmp(canary->again, canary->wanted, bytes) != 0;
}

void canary_finish(struct gds_reader *reader, struct proof *proof, struct backend_memory *memory,
		   uint64_t place, uint32_t bytes)
{
	struct canary *canary = reader->canary;
	int err = memory->device->ops->copy_out(memory, place, canary->found, bytes);

	reader->canary_in_flight = false;
	counter_add(&reader->counters.canaries, 1);
	GDS_PROBE4(canary, proof->placement, bytes, err,
		   !err && memcmp(canary->found, canary->wanted, bytes) == 0);
	if (!err && memcmp(canary->found, canary->wanted, bytes) == 0) {
		proof->state = PROOF_PASSED;
		proof->unsettled = 0;
		proof->passed_ns = clock_now_ns();
		gds_info("the direct path is proven from device %u:%u into %s memory, in %" PRIu64
			 " us",
			 (unsigned)(proof->target >> 8), (unsigned)(proof->target & 0xff),
			 proof->placement, (proof->passed_ns - proof->begun_ns) / 1000);
		return;
	}
	if (!err && was_overwritten(proof, canary, bytes)) {
		proof->state = PROOF_NONE;
		proof->unsettled++;
		gds_debug("the target was written to where the direct path is being proven");
		return;
	}
	proof->state = PROOF_FAILED;
	counter_add(&reader->counters.canaries_failed, 1);
	if (err)
		gds_text_set(proof->finding, sizeof(proof->finding),
			     "what arrived could not be looked at: %s", gds_last_error());
	else
		say_finding(proof, canary, bytes);
	gds_warn("the direct path is refused: %s", proof->finding);
}

void canary_void(struct gds_reader *reader, struct proof *proof)
{
	reader->canary_in_flight = false;
	proof->state = PROOF_NONE;
}
