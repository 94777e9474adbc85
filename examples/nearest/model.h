/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of a model: where its matrix of words lies, and which words they are. */
#ifndef NEAREST_MODEL_H
#define NEAREST_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A matrix of 32-bit floats, a row for each word. */
struct matrix {
	uint64_t offset; /* in the file or block device, of its first byte */
	uint64_t bytes;
	uint32_t rows;
	uint32_t columns;
};

struct words {
	char **list;
	size_t count;
};

/* Prints a line and ends the program. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Finds the tensor `name` of the safetensors file that begins at byte `at` of `path`,
 * which may be a block device.
 */
void matrix_find(struct matrix *matrix, const char *path, uint64_t at, const char *name);

/* The matrix by ordinary reads, to be freed. */
float *matrix_load(const struct matrix *matrix, const char *path);

/* Reads a vocabulary: a word a line, in the order of the rows. */
void words_load(struct words *words, const char *path, uint32_t rows);
void words_free(struct words *words);

/* The row of the word, or -1. */
int64_t words_find(const struct words *words, const char *word);

/*
 * Not a piece that only continues a word ("##ing"), nor a mark of the model's ("[CLS]"), nor
 * a single character.
 */
bool word_is_whole(const char *word);

#endif
