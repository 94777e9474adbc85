/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and times as people write them, in and out. */
#include "sizes.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char size_letters[] = "kmgt";

/* The power of 1024 that a unit stands for; negative where it is none. */
static int unit_power(const char *unit)
{
	const char *letter;

	if (unit[0] == '\0' || strcasecmp(unit, "b") == 0)
		return 0;
	letter = strchr(size_letters, tolower((unsigned char)unit[0]));
	if (!letter)
		return -1;
	if (unit[1] != '\0' && strcasecmp(unit + 1, "i") != 0 && strcasecmp(unit + 1, "ib") != 0)
		return -1;
	return (int)(letter - size_letters) + 1;
}

const char *size_parse(const char *text, uint64_t *bytes)
{
	unsigned long long number;
	char *end;
	int power;

	if (!isdigit((unsigned char)text[0]))
		return "not a size: write 4096, 4k, 1M or 2GiB";
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno == ERANGE)
		return "larger than 64 bits can hold";
	if (*end == '.')
		return "not a whole number: write 1536M rather than 1.5G";
	if (isalpha((unsigned char)end[0]) && strcasecmp(end + 1, "b") == 0)
		return "that unit may mean 1000 or 1024: write k, M, G, T or KiB, MiB, GiB, TiB";
	power = unit_power(end);
	if (power < 0)
		return "unknown unit: write k, M, G, T or KiB, MiB, GiB, TiB";
	if (power && number > UINT64_MAX >> (10 * power))
		return "larger than 64 bits can hold";
	*bytes = (uint64_t)number << (10 * power);
	return NULL;
}

const char *duration_parse(const char *text, uint64_t *nanoseconds)
{
	double number, scale;
	char *end;

	/* strtod() would take hexadecimal numbers, and words. */
	if (!isdigit((unsigned char)text[0]) || tolower((unsigned char)text[1]) == 'x')
		return "not a time: write 10, 10s, 500ms or 2m";
	number = strtod(text, &end);
	if (strcmp(end, "") == 0 || strcmp(end, "s") == 0)
		scale = 1e9;
	else if (strcmp(end, "ms") == 0)
		scale = 1e6;
	else if (strcmp(end, "m") == 0)
		scale = 60e9;
	else
		return "not a time: write 10, 10s, 500ms or 2m";
	if (number * scale > 1e18)
		return "longer than 30 years";
	*nanoseconds = (uint64_t)(number * scale);
	return NULL;
}

const char *size_format(char text[SIZE_TEXT_BYTES], double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	size_t unit = 0;
	int digits;

	while (bytes >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		bytes /= 1024;
		unit++;
	}
	digits = bytes == floor(bytes) ? 0 : bytes < 10 ? 2 : 1;
	snprintf(text, SIZE_TEXT_BYTES, "%.*f %s", digits, bytes, units[unit]);
	return text;
}

const char *duration_format(char text[SIZE_TEXT_BYTES], double nanoseconds)
{
	static const char *const units[] = { "ns", "us", "ms", "s" };
	size_t unit = 0;

	while (nanoseconds >= 1000 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		nanoseconds /= 1000;
		unit++;
	}
	snprintf(text, SIZE_TEXT_BYTES, "%.*f %s",
		 unit && nanoseconds < 10 ? 2
		 : unit                   ? 1
					  : 0,
		 nanoseconds, units[unit]);
	return text;
}
