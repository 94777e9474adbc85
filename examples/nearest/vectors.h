/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic with vectors on the CPU. */
#ifndef NEAREST_VECTORS_H
#define NEAREST_VECTORS_H

#include "model.h"

struct match {
	uint32_t row;
	float cosine;
};

/* What the shader computes, in double precision. */
void vectors_cosines(const struct matrix *matrix, const float *values, uint32_t row,
		     double *cosines);

/*
 * The rows with the greatest cosines, the greatest first, but for `row` itself and for what
 * is no whole word. At most `most`; returns how many.
 */
size_t vectors_nearest(const struct words *words, const float *cosines, uint32_t row,
		       struct match *matches, size_t most);

struct point {
	double x;
	double y;
};

/*
 * The vectors, each brought to length 1, projected on their two principal components.
 * `shares` gets how much of the variance each of the two holds, from 0 to 1.
 */
void vectors_project(const float *vectors, size_t count, size_t columns, struct point *points,
		     double shares[2]);

#endif
