/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER_LIMIT UINT64_C(100000000) /* of the format */

void fail(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fputs("nearest: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static int open_file(const char *path)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fail("cannot open %s: %s", path, strerror(errno));
	return fd;
}

static void *read_range(int fd, const char *path, uint64_t offset, uint64_t bytes)
{
	char *data = malloc(bytes);
	ssize_t got;

	if (!data)
		fail("no memory for %" PRIu64 " bytes", bytes);
	for (uint64_t have = 0; have < bytes; have += (uint64_t)got) {
		got = pread(fd, data + have, bytes - have, (off_t)(offset + have));
		if (got < 0)
			fail("cannot read %s: %s", path, strerror(errno));
		if (got == 0)
			fail("%s ends at %" PRIu64 ", before byte %" PRIu64, path, offset + have,
			     offset + bytes);
	}
	return data;
}

/* ---- The safetensors file: 8 bytes of length, a header in JSON, the tensors ---- */

static uint64_t number_at(const json_t *tensor, const char *key, size_t index)
{
	const json_t *value = json_array_get(json_object_get(tensor, key), index);

	if (!json_is_integer(value) || json_integer_value(value) < 0)
		fail("the tensor's \"%s\" has no number %zu", key, index);
	return (uint64_t)json_integer_value(value);
}

static void describe(struct matrix *matrix, const char *name, const json_t *tensor)
{
	const char *type = json_string_value(json_object_get(tensor, "dtype"));
	const size_t dimensions = json_array_size(json_object_get(tensor, "shape"));
	uint64_t begin, end, rows, columns;

	if (!type || strcmp(type, "F32") != 0)
		fail("%s is of type %s: this example takes F32 alone", name, type ? type : "?");
	if (dimensions != 2)
		fail("%s is no matrix: its shape has %zu dimensions, and not 2", name, dimensions);
	begin = number_at(tensor, "data_offsets", 0);
	end = number_at(tensor, "data_offsets", 1);
	rows = number_at(tensor, "shape", 0);
	columns = number_at(tensor, "shape", 1);
	if (rows == 0 || columns == 0 || rows > UINT32_MAX / sizeof(float) / columns ||
	    end < begin || end - begin != rows * columns * sizeof(float))
		fail("%s: its shape, %" PRIu64 " x %" PRIu64 ", and its %" PRIu64
		     " bytes do not go together, or are more than 4 GiB",
		     name, rows, columns, end - begin);
	matrix->offset = begin;
	matrix->bytes = end - begin;
	matrix->rows = (uint32_t)rows;
	matrix->columns = (uint32_t)columns;
}

void matrix_find(struct matrix *matrix, const char *path, uint64_t at, const char *name)
{
	const int fd = open_file(path);
	unsigned char *prefix = read_range(fd, path, at, 8);
	uint64_t header_bytes = 0;
	json_error_t error;
	json_t *header;
	char *text;

	for (int i = 7; i >= 0; i--)
		header_bytes = header_bytes << 8 | prefix[i];
	free(prefix);
	if (header_bytes > HEADER_LIMIT)
		fail("%s has no safetensors file at byte %" PRIu64, path, at);
	text = read_range(fd, path, at + 8, header_bytes);
	header = json_loadb(text, header_bytes, JSON_REJECT_DUPLICATES, &error);
	if (!header)
		fail("%s has no safetensors file at byte %" PRIu64 ": its header: %s", path, at,
		     error.text);
	if (!json_is_object(json_object_get(header, name)))
		fail("%s has no tensor %s", path, name);
	describe(matrix, name, json_object_get(header, name));
	matrix->offset += at + 8 + header_bytes;
	json_decref(header);
	free(text);
	close(fd);
}

float *matrix_load(const struct matrix *matrix, const char *path)
{
	const int fd = open_file(path);
	float *values = read_range(fd, path, matrix->offset, matrix->bytes);

	close(fd);
	return values;
}

/* ---- The vocabulary ---- */

void words_load(struct words *words, const char *path, uint32_t rows)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	ssize_t length;

	if (!file)
		fail("cannot open the vocabulary %s: %s", path, strerror(errno));
	words->list = calloc(rows, sizeof(*words->list));
	words->count = 0;
	if (!words->list)
		fail("no memory for %u words", rows);
	while ((length = getline(&line, &room, file)) > 0) {
		if (words->count == rows)
			fail("%s has more words than the matrix has rows (%u)", path, rows);
		if (line[length - 1] == '\n')
			line[length - 1] = '\0';
		words->list[words->count] = strdup(line);
		if (!words->list[words->count++])
			fail("no memory for %u words", rows);
	}
	free(line);
	fclose(file);
	if (words->count != rows)
		fail("%s has %zu words, and the matrix %u rows", path, words->count, rows);
}

void words_free(struct words *words)
{
	for (size_t i = 0; i < words->count; i++)
		free(words->list[i]);
	free((void *)words->list);
}

int64_t words_find(const struct words *words, const char *word)
{
	for (size_t i = 0; i < words->count; i++)
		if (strcmp(words->list[i], word) == 0)
			return (int64_t)i;
	return -1;
}

bool word_is_whole(const char *word)
{
	return word[0] != '[' && strncmp(word, "##", 2) != 0 && word[0] && word[1];
}
