/* SPDX-License-Identifier: Apache-2.0 */
#include "vectors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SWEEPS = 60 }; /* of Jacobi's method, which converges within about ten */

static double dot(const float *a, const float *b, size_t count)
{
	double sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += (double)a[i] * (double)b[i];
	return sum;
}

void vectors_cosines(const struct matrix *matrix, const float *values, uint32_t row,
		     double *cosines)
{
	const size_t columns = matrix->columns;
	const float *to = values + row * columns;
	const double square = dot(to, to, columns);

	for (size_t i = 0; i < matrix->rows; i++) {
		const float *from = values + i * columns;
		const double squares = square * dot(from, from, columns);

		cosines[i] = squares > 0 ? dot(from, to, columns) / sqrt(squares) : 0;
	}
}

size_t vectors_nearest(const struct words *words, const float *cosines, uint32_t row,
		       struct match *matches, size_t most)
{
	size_t count = 0;

	for (uint32_t i = 0; i < words->count; i++) {
		const struct match match = { i, cosines[i] };
		size_t at = count;

		if (i == row || !word_is_whole(words->list[i]))
			continue;
		while (at > 0 && matches[at - 1].cosine < match.cosine)
			at--;
		if (at == most)
			continue;
		if (count < most)
			count++;
		memmove(matches + at + 1, matches + at, (count - at - 1) * sizeof(match));
		matches[at] = match;
	}
	return count;
}

/* ---- Principal components ---- */

/*
 * The inner products of the vectors after their mean was taken away: its eigenvectors are,
 * but for a factor, the coordinates along the principal components.
 */
static void gram(const float *vectors, size_t count, size_t columns, double *products)
{
	double *means = calloc(count, sizeof(*means));
	double mean = 0;

	if (!means)
		fail("no memory for %zu numbers", count);
	for (size_t i = 0; i < count; i++) {
		for (size_t j = 0; j < count; j++) {
			const float *a = vectors + i * columns, *b = vectors + j * columns;
			const double squares = dot(a, a, columns) * dot(b, b, columns);

			products[i * count + j] =
				squares > 0 ? dot(a, b, columns) / sqrt(squares) : 0;
			means[i] += products[i * count + j] / (double)count;
		}
		mean += means[i] / (double)count;
	}
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < count; j++)
			products[i * count + j] += mean - means[i] - means[j];
	free(means);
}

/* Turns the plane of axes p and q so that the matrix has no product of the two. */
static void rotate(double *a, double *axes, size_t n, size_t p, size_t q)
{
	const double theta = (a[q * n + q] - a[p * n + p]) / (2 * a[p * n + q]);
	const double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
	const double c = 1 / sqrt(t * t + 1), s = t * c;

	for (size_t k = 0; k < n; k++) {
		const double kp = a[k * n + p], kq = a[k * n + q];

		a[k * n + p] = c * kp - s * kq;
		a[k * n + q] = s * kp + c * kq;
	}
	for (size_t k = 0; k < n; k++) {
		const double pk = a[p * n + k], qk = a[q * n + k];
		const double axis_p = axes[k * n + p], axis_q = axes[k * n + q];

		a[p * n + k] = c * pk - s * qk;
		a[q * n + k] = s * pk + c * qk;
		axes[k * n + p] = c * axis_p - s * axis_q;
		axes[k * n + q] = s * axis_p + c * axis_q;
	}
}

/* Jacobi's method: the matrix becomes diagonal, and the columns of `axes` its eigenvectors. */
static void diagonalise(double *a, double *axes, size_t n)
{
	for (size_t i = 0; i < n * n; i++)
		axes[i] = i % (n + 1) == 0;
	for (int sweep = 0; sweep < SWEEPS; sweep++) {
		for (size_t p = 0; p < n; p++)
			for (size_t q = p + 1; q < n; q++)
				if (fabs(a[p * n + q]) > 1e-14)
					rotate(a, axes, n, p, q);
	}
}

/* The axis with the greatest eigenvalue, other than `but`. */
static size_t greatest(const double *a, size_t n, size_t but)
{
	size_t best = but == 0 ? 1 : 0;

	for (size_t i = 0; i < n; i++)
		if (i != but && a[i * n + i] > a[best * n + best])
			best = i;
	return best;
}

void vectors_project(const float *vectors, size_t count, size_t columns, struct point *points,
		     double shares[2])
{
	double *products = calloc(count * count, sizeof(*products));
	double *axes = calloc(count * count, sizeof(*axes));
	double total = 0;
	size_t x, y;

	if (!products || !axes || count < 2)
		fail("two principal components need at least two vectors");
	gram(vectors, count, columns, products);
	for (size_t i = 0; i < count; i++)
		total += products[i * count + i];
	diagonalise(products, axes, count);
	x = greatest(products, count, count);
	y = greatest(products, count, x);
	shares[0] = total > 0 ? products[x * count + x] / total : 0;
	shares[1] = total > 0 ? products[y * count + y] / total : 0;
	for (size_t i = 0; i < count; i++) {
		points[i].x = axes[i * count + x] * sqrt(fmax(products[x * count + x], 0));
		points[i].y = axes[i * count + y] * sqrt(fmax(products[y * count + y], 0));
	}
	free(axes);
	free(products);
}
