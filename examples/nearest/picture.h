/* SPDX-License-Identifier: Apache-2.0 */
/* A PNG of words as points in a plane, drawn by cairo. */
#ifndef NEAREST_PICTURE_H
#define NEAREST_PICTURE_H

#include "vectors.h"

struct picture {
	const char *title;
	const char *subtitle;
	const struct point *points;
	const char *const *labels;
	const float *cosines; /* of each point to point 0, by which it is coloured */
	size_t count;
	double shares[2]; /* of the variance, along each axis */
};

void picture_draw(const struct picture *picture, const char *path);

#endif
