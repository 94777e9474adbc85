/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/volume.h"

#include "base/bits.h"

#include <errno.h>
#include <stdlib.h>

struct volume *volume_new(enum volume_kind kind, size_t count)
{
	struct volume *volume = calloc(1, sizeof(*volume) + count * sizeof(volume->parts[0]));

	if (!volume)
		return NULL;
	volume->kind = kind;
	volume->count = count;
	return volume;
}

void volumes_free(struct volume *volume)
{
	struct volume *next;

	for (; volume; volume = next) {
		next = volume->next;
		free(volume->zones);
		free(volume);
	}
}

/* ---- Striping ---- */

/* The length of the shortest part that is longer than `bytes`, and how many are. */
static uint64_t shortest_over(const struct volume *volume, uint64_t bytes, size_t *count)
{
	uint64_t shortest = UINT64_MAX;

	*count = 0;
	for (size_t i = 0; i < volume->count; i++) {
		if (volume->parts[i].bytes <= bytes)
			continue;
		shortest = min_u64(shortest, volume->parts[i].bytes);
		++*count;
	}
	return shortest;
}

int volume_make_zones(struct volume *volume)
{
	uint64_t reached = 0; /* in the parts */
	uint64_t end = 0;     /* in the volume */
	uint64_t shortest;
	size_t count;

	if (volume->chunk_bytes == 0)
		return -EINVAL;
	/* As many as parts of different lengths: no more than parts. */
	volume->zones = calloc(volume->count, sizeof(*volume->zones));
	if (!volume->zones)
		return -ENOMEM;
	for (size_t i = 0; i < volume->count; i++)
		volume->parts[i].bytes -= volume->parts[i].bytes % volume->chunk_bytes;
	volume->zone_count = 0;
	while ((shortest = shortest_over(volume, reached, &count)) != UINT64_MAX) {
		end += (shortest - reached) * count;
		volume->zones[volume->zone_count++] = (struct volume_zone){
			.end = end,
			.part_start = reached,
			.count = count,
		};
		reached = shortest;
	}
	volume->bytes = end;
	return 0;
}

/* Of the parts that are longer than `bytes`, number `index`. */
static const struct volume_part *longer_part(const struct volume *volume, uint64_t bytes,
					     uint64_t index)
{
	const struct volume_part *part = volume->parts;

	for (;; part++)
		if (part->bytes > bytes && index-- == 0)
			return part;
}

static const struct volume_part *locate_striped(const struct volume *volume, uint64_t *offset,
						uint64_t *bytes)
{
	const struct volume_zone *zone = volume->zones;
	const struct volume_part *part;
	uint64_t zone_start = 0;
	uint64_t in_chunk = *offset % volume->chunk_bytes;
	uint64_t chunk; /* its number in the zone */
	uint64_t turn;

	for (; *offset >= zone->end; zone++)
		zone_start = zone->end;
	chunk = (*offset - zone_start) / volume->chunk_bytes;
	turn = volume->by_whole_number ? *offset / volume->chunk_bytes : chunk;
	part = longer_part(volume, zone->part_start, turn % zone->count);
	*offset = zone->part_start + chunk / zone->count * volume->chunk_bytes + in_chunk;
	*bytes = min_u64(*bytes, volume->chunk_bytes - in_chunk);
	return part;
}

/* ---- The others ---- */

/* NULL where the byte lies between two parts. */
static const struct volume_part *locate_linear(const struct volume *volume, uint64_t *offset,
					       uint64_t *bytes)
{
	size_t low = 0;
	size_t high = volume->count;
	size_t middle;

	/* The last part that begins at the byte or before. */
	while (high - low > 1) {
		middle = low + (high - low) / 2;
		if (volume->parts[middle].start <= *offset)
			low = middle;
		else
			high = middle;
	}
	if (volume->count == 0 || *offset - volume->parts[low].start >= volume->parts[low].bytes)
		return NULL;
	*offset -= volume->parts[low].start;
	*bytes = min_u64(*bytes, volume->parts[low].bytes - *offset);
	return &volume->parts[low];
}

static const struct volume_part *locate_mirrored(const struct volume *volume,
						 const uint64_t *offset, uint64_t *bytes)
{
	*bytes = min_u64(*bytes, VOLUME_MIRROR_TURN - *offset % VOLUME_MIRROR_TURN);
	return &volume->parts[*offset / VOLUME_MIRROR_TURN % volume->count];
}

bool volume_locate(const struct volume *volume, uint64_t offset, uint64_t bytes,
		   struct volume_place *place)
{
	const struct volume_part *part;

	/* A loop, not a recursion: every step goes one volume down. */
	for (;; volume = part->below, offset += part->offset) {
		if (offset >= volume->bytes)
			return false;
		bytes = min_u64(bytes, volume->bytes - offset);
		if (volume->kind == VOLUME_DISK)
			break;
		part = volume->kind == VOLUME_LINEAR    ? locate_linear(volume, &offset, &bytes)
		       : volume->kind == VOLUME_STRIPED ? locate_striped(volume, &offset, &bytes)
							: locate_mirrored(volume, &offset, &bytes);
		if (!part)
			return false;
	}
	*place = (struct volume_place){ .disk = volume->disk, .offset = offset, .bytes = bytes };
	return true;
}
