/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of volumes: which byte of a disk is which byte of an array. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "storage/drive.h"
#include "storage/volume.h"
#include "support/random.h"

#include <inttypes.h>
#include <string.h>

#define KIB UINT64_C(1024)

static struct volume *new_disk(uint32_t number, uint64_t bytes, struct volume **list)
{
	struct volume *volume = volume_new(VOLUME_DISK, 0);

	assert_non_null(volume);
	volume->disk = number;
	volume->bytes = bytes;
	volume->next = *list;
	*list = volume;
	return volume;
}

static struct volume *new_volume(enum volume_kind kind, size_t count, struct volume **list)
{
	struct volume *volume = volume_new(kind, count);

	assert_non_null(volume);
	volume->next = *list;
	*list = volume;
	return volume;
}

static void expect(const struct volume *volume, uint64_t offset, uint64_t bytes, uint32_t disk,
		   uint64_t disk_offset, uint64_t together)
{
	struct volume_place place;

	assert_true(volume_locate(volume, offset, bytes, &place));
	assert_int_equal(place.disk, disk);
	assert_int_equal(place.offset, disk_offset);
	assert_int_equal(place.bytes, together);
}

static void a_partition_adds_its_start_and_ends_where_it_ends(void **state)
{
	struct volume *list = NULL;
	struct volume *partition = new_volume(VOLUME_LINEAR, 1, &list);
	struct volume_place place;

	(void)state;
	partition->bytes = 100 * KIB;
	partition->parts[0] = (struct volume_part){
		.below = new_disk(3, 1000 * KIB, &list),
		.offset = 64 * KIB,
		.bytes = 100 * KIB,
	};
	expect(partition, 0, 1, 3, 64 * KIB, 1);
	expect(partition, 99 * KIB, 50 * KIB, 3, 163 * KIB, KIB);
	assert_false(volume_locate(partition, 100 * KIB, 1, &place));
	volumes_free(list);
}

static void parts_of_a_linear_volume_follow_each_other_and_may_leave_gaps(void **state)
{
	struct volume *list = NULL;
	struct volume *linear = new_volume(VOLUME_LINEAR, 3, &list);
	struct volume_place place;

	(void)state;
	linear->bytes = 400 * KIB;
	for (uint32_t i = 0; i < 3; i++)
		linear->parts[i] = (struct volume_part){
			.below = new_disk(i, 1000 * KIB, &list),
			.start = (i == 2 ? 300 : i * 100) * KIB,
			.offset = (10 + i) * KIB,
			.bytes = 100 * KIB,
		};
	expect(linear, 99 * KIB, 10 * KIB, 0, 109 * KIB, KIB);
	expect(linear, 100 * KIB, 10 * KIB, 1, 11 * KIB, 10 * KIB);
	assert_false(volume_locate(linear, 200 * KIB, 1, &place));
	assert_false(volume_locate(linear, 299 * KIB, 1, &place));
	expect(linear, 300 * KIB, 200 * KIB, 2, 12 * KIB, 100 * KIB);
	volumes_free(list);
}

/* A RAID 0 of three members of 4, 2 and 3 chunks of 64 KiB (and a bit, which is unused). */
static struct volume *new_uneven(struct volume **list, bool by_whole_number)
{
	static const uint64_t chunks[] = { 4, 2, 3 };
	struct volume *array = new_volume(VOLUME_STRIPED, 3, list);

	array->chunk_bytes = 64 * KIB;
	array->by_whole_number = by_whole_number;
	for (uint32_t i = 0; i < 3; i++)
		array->parts[i] = (struct volume_part){
			.below = new_disk(i, 10000 * KIB, list),
			.offset = KIB,
			.bytes = chunks[i] * 64 * KIB + 5 * KIB,
		};
	assert_int_equal(volume_make_zones(array), 0);
	return array;
}

/*
 * Worked out by hand from the kernel's layout: rows of the first zone go over all
 * members, then over those that are left.
 */
static void chunks_of_raid_0_go_round_and_then_over_the_longer_members(void **state)
{
	static const struct {
		uint32_t disk;
		uint64_t chunk;
	} places[] = { { 0, 0 }, { 1, 0 }, { 2, 0 }, { 0, 1 }, { 1, 1 },
		       { 2, 1 }, { 0, 2 }, { 2, 2 }, { 0, 3 } };
	struct volume *list = NULL;
	struct volume *array = new_uneven(&list, false);
	struct volume_place place;

	(void)state;
	assert_int_equal(array->bytes, 9 * 64 * KIB);
	assert_int_equal(array->zone_count, 3);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		expect(array, i * 64 * KIB, KIB * KIB, places[i].disk,
		       places[i].chunk * 64 * KIB + KIB, 64 * KIB);
		expect(array, i * 64 * KIB + 4096, 4096, places[i].disk,
		       places[i].chunk * 64 * KIB + KIB + 4096, 4096);
	}
	assert_false(volume_locate(array, array->bytes, 1, &place));
	volumes_free(list);
}

/* Before 3.14 the kernel counted chunks from the array's start, not from the zone's. */
static void arrays_of_old_kernels_begin_later_zones_with_another_member(void **state)
{
	struct volume *list = NULL;
	struct volume *array = new_uneven(&list, true);

	(void)state;
	expect(array, 5 * 64 * KIB, 1, 2, 64 * KIB + KIB, 1);
	/* Chunk 6 of two members 0 and 2 is on the first of them, 7 on the other. */
	expect(array, 6 * 64 * KIB, 1, 0, 2 * 64 * KIB + KIB, 1);
	expect(array, 7 * 64 * KIB, 1, 2, 2 * 64 * KIB + KIB, 1);
	expect(array, 8 * 64 * KIB, 1, 0, 3 * 64 * KIB + KIB, 1);
	/* An odd number of chunks before the zone tells the two layouts apart. */
	array->parts[1].bytes = 64 * KIB;
	free(array->zones);
	assert_int_equal(volume_make_zones(array), 0);
	expect(array, 3 * 64 * KIB, 1, 2, 64 * KIB + KIB, 1);
	array->by_whole_number = false;
	expect(array, 3 * 64 * KIB, 1, 0, 64 * KIB + KIB, 1);
	volumes_free(list);
}

/* Whatever the sizes: each chunk of each member is used once, and none beyond its end. */
static void every_chunk_of_random_arrays_is_used_once(void **state)
{
	enum { CHUNKS = 40, MEMBERS = 6 };
	uint64_t seed = test_number("GDS_TEST_SEED", (uint64_t)time(NULL));
	struct random random = { .state = seed };

	(void)state;
	print_message("GDS_TEST_SEED=%" PRIu64 "\n", seed);
	for (unsigned round = 0; round < 300; round++) {
		bool used[MEMBERS][CHUNKS] = { { false } };
		struct volume *list = NULL;
		size_t count = random_between(&random, 1, MEMBERS);
		struct volume *array = new_volume(VOLUME_STRIPED, count, &list);
		uint64_t total = 0;
		struct volume_place place;

		array->chunk_bytes = random_between(&random, 1, 9) * 4 * KIB;
		for (uint32_t i = 0; i < count; i++) {
			uint64_t chunks = random_between(&random, 1, CHUNKS);

			array->parts[i].below = new_disk(i, UINT64_MAX, &list);
			array->parts[i].bytes = chunks * array->chunk_bytes;
			total += chunks;
		}
		assert_int_equal(volume_make_zones(array), 0);
		assert_int_equal(array->bytes, total * array->chunk_bytes);
		for (uint64_t at = 0; at < array->bytes; at += array->chunk_bytes) {
			assert_true(volume_locate(array, at, array->bytes, &place));
			assert_int_equal(place.bytes, array->chunk_bytes);
			assert_int_equal(place.offset % array->chunk_bytes, 0);
			assert_true(place.offset < array->parts[place.disk].bytes);
			assert_false(used[place.disk][place.offset / array->chunk_bytes]);
			used[place.disk][place.offset / array->chunk_bytes] = true;
		}
		volumes_free(list);
	}
}

static void an_array_without_a_chunk_size_is_refused(void **state)
{
	struct volume *list = NULL;
	struct volume *array = new_volume(VOLUME_STRIPED, 1, &list);

	(void)state;
	assert_int_equal(volume_make_zones(array), -EINVAL);
	volumes_free(list);
}

static void reads_of_a_mirror_are_spread_over_its_members(void **state)
{
	struct volume *list = NULL;
	struct volume *mirror = new_volume(VOLUME_MIRRORED, 2, &list);
	const uint64_t turn = VOLUME_MIRROR_TURN;

	(void)state;
	mirror->bytes = 10 * turn;
	for (uint32_t i = 0; i < 2; i++)
		mirror->parts[i] = (struct volume_part){
			.below = new_disk(i, 20 * turn, &list),
			.offset = (i + 1) * KIB,
			.bytes = 10 * turn,
		};
	expect(mirror, 0, 4 * turn, 0, KIB, turn);
	expect(mirror, turn, 4 * turn, 1, turn + 2 * KIB, turn);
	expect(mirror, 3 * turn - 1, 4 * turn, 0, 3 * turn - 1 + KIB, 1);
	volumes_free(list);
}

/* A logical volume on a RAID 0 of a partition and a disk. */
static void volumes_on_volumes_add_up(void **state)
{
	struct volume *list = NULL;
	struct volume *logical = new_volume(VOLUME_LINEAR, 1, &list);
	struct volume *array = new_volume(VOLUME_STRIPED, 2, &list);
	struct volume *partition = new_volume(VOLUME_LINEAR, 1, &list);

	(void)state;
	partition->bytes = 1024 * KIB;
	partition->parts[0] = (struct volume_part){ .below = new_disk(0, 4096 * KIB, &list),
						    .offset = 2048 * KIB,
						    .bytes = 1024 * KIB };
	array->chunk_bytes = 32 * KIB;
	array->parts[0] =
		(struct volume_part){ .below = partition, .offset = 128 * KIB, .bytes = 512 * KIB };
	array->parts[1] = (struct volume_part){ .below = new_disk(1, 4096 * KIB, &list),
						.offset = 256 * KIB,
						.bytes = 512 * KIB };
	assert_int_equal(volume_make_zones(array), 0);
	logical->bytes = 512 * KIB;
	logical->parts[0] =
		(struct volume_part){ .below = array, .offset = 64 * KIB, .bytes = 512 * KIB };
	expect(logical, 0, KIB * KIB, 0, (2048 + 128 + 32) * KIB, 32 * KIB);
	expect(logical, 40 * KIB, KIB * KIB, 1, (256 + 32 + 8) * KIB, 24 * KIB);
	volumes_free(list);
}

/* ---- Distances of drives and devices --------------------------------------------- */

#define HOST "/sys/devices/pci0000:00"

static void expect_hops(const char *one, const char *other, int hops, bool common)
{
	bool bridge = !common;

	assert_int_equal(drive_hops(one, other, &bridge), hops);
	if (hops >= 0)
		assert_int_equal(bridge, common);
}

static void hops_are_counted_to_the_bridge_that_two_devices_have_in_common(void **state)
{
	(void)state;
	/* Two ports of one switch. */
	expect_hops(HOST "/0000:00:03.0/0000:01:00.0/0000:02:00.0/0000:03:00.0",
		    HOST "/0000:00:03.0/0000:01:00.0/0000:02:01.0/0000:04:00.0", 4, true);
	/* Names that only begin alike. */
	expect_hops(HOST "/0000:00:03.0/0000:01:00.0", HOST "/0000:00:03.1/0000:01:00.0", 4, false);
	expect_hops(HOST "/0000:00:03.0", HOST "/0000:00:03.0/0000:01:00.0", 1, true);
	expect_hops(HOST "/0000:00:03.0", "/sys/devices/pci0000:80/0000:80:01.0", -1, false);
	expect_hops("/sys/devices/virtual/block/loop0", HOST "/0000:00:03.0", -1, false);
}

/* The namespaces of QEMU have the first three; the fourth is a format that is none. */
static void the_formats_of_a_namespace_are_told(void **state)
{
	static const unsigned char formats[] = { 0, 0, 9, 0, 8, 0, 9, 0, 0x40, 1, 12, 0,
						 0, 0, 0, 0, 0, 0, 8, 0, 0,    0, 12, 2 };
	unsigned char identity[DRIVE_IDENTITY_BYTES] = { 0 };
	char text[64] = "blocks of 512 bytes";
	char small[24] = "";

	(void)state;
	memcpy(identity + 128, formats, sizeof(formats));
	identity[25] = 5;
	drive_describe_formats(identity, text, sizeof(text));
	assert_string_equal(text, "blocks of 512 bytes (formats 512, 512+8, 4096+320, 4096)");
	drive_describe_formats(identity, small, sizeof(small));
	assert_string_equal(small, " (formats 512, 512+8, 4");
	/* An answer of nothing adds nothing. */
	memset(identity, 0, sizeof(identity));
	identity[25] = 255;
	small[0] = '\0';
	drive_describe_formats(identity, small, sizeof(small));
	assert_string_equal(small, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_partition_adds_its_start_and_ends_where_it_ends),
		cmocka_unit_test(parts_of_a_linear_volume_follow_each_other_and_may_leave_gaps),
		cmocka_unit_test(chunks_of_raid_0_go_round_and_then_over_the_longer_members),
		cmocka_unit_test(arrays_of_old_kernels_begin_later_zones_with_another_member),
		cmocka_unit_test(every_chunk_of_random_arrays_is_used_once),
		cmocka_unit_test(an_array_without_a_chunk_size_is_refused),
		cmocka_unit_test(reads_of_a_mirror_are_spread_over_its_members),
		cmocka_unit_test(volumes_on_volumes_add_up),
		cmocka_unit_test(the_formats_of_a_namespace_are_told),
		cmocka_unit_test(hops_are_counted_to_the_bridge_that_two_devices_have_in_common),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
