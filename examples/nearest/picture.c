/* SPDX-License-Identifier: Apache-2.0 */
#include "picture.h"

#include <cairo.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 1400, HEIGHT = 1000 };
enum { LEFT = 90, RIGHT = 150, TOP = 110, BOTTOM = 80 }; /* around the plane, in pixels */

#define LABEL_SIZE 17.0
#define DOT_RADIUS 5.5
#define GAP        4.0 /* pixels kept free between a label and its neighbours */

struct box {
	double x;
	double y;
	double width;
	double height;
};

struct canvas {
	const struct picture *picture;
	cairo_t *cairo;
	/* A pixel is (x - middle_x) * scale: the same on both axes, so that distances are true. */
	double middle_x;
	double middle_y;
	double scale;
	float least;       /* cosine */
	float most;        /* of the neighbours: point 0 has 1 */
	struct box *taken; /* by dots, and then by labels */
	size_t taken_count;
	const struct box *labels; /* of these, in the order of the points */
};

/* ---- Where things go ---- */

static double pixel_x(const struct canvas *canvas, double x)
{
	return LEFT + (WIDTH - LEFT - RIGHT) / 2.0 + (x - canvas->middle_x) * canvas->scale;
}

static double pixel_y(const struct canvas *canvas, double y)
{
	return TOP + (HEIGHT - TOP - BOTTOM) / 2.0 - (y - canvas->middle_y) * canvas->scale;
}

static void fit(struct canvas *canvas)
{
	const struct picture *picture = canvas->picture;
	struct point low = picture->points[0], high = low;

	canvas->least = canvas->most = picture->count > 1 ? picture->cosines[1] : 1;
	for (size_t i = 1; i < picture->count; i++) {
		low.x = fmin(low.x, picture->points[i].x);
		low.y = fmin(low.y, picture->points[i].y);
		high.x = fmax(high.x, picture->points[i].x);
		high.y = fmax(high.y, picture->points[i].y);
		canvas->least = fminf(canvas->least, picture->cosines[i]);
		canvas->most = fmaxf(canvas->most, picture->cosines[i]);
	}
	canvas->middle_x = (low.x + high.x) / 2;
	canvas->middle_y = (low.y + high.y) / 2;
	/* Labels stick out of the points' range: leave room for them. */
	canvas->scale = fmin((WIDTH - LEFT - RIGHT - 160) / fmax(high.x - low.x, 1e-9),
			     (HEIGHT - TOP - BOTTOM - 70) / fmax(high.y - low.y, 1e-9));
}

static bool overlap(const struct box *a, const struct box *b)
{
	return a->x < b->x + b->width + GAP && b->x < a->x + a->width + GAP &&
	       a->y < b->y + b->height + GAP && b->y < a->y + a->height + GAP;
}

static bool is_free(const struct canvas *canvas, const struct box *box)
{
	if (box->x < LEFT + GAP || box->x + box->width > WIDTH - RIGHT - GAP ||
	    box->y < TOP + GAP || box->y + box->height > HEIGHT - BOTTOM - GAP)
		return false;
	for (size_t i = 0; i < canvas->taken_count; i++)
		if (overlap(&canvas->taken[i], box))
			return false;
	return true;
}

/*
 * A free place for a label, as near to its point as there is one: first to the right and to
 * the left, then round about, farther and farther out.
 */
static struct box find_place(const struct canvas *canvas, double x, double y, double width)
{
	static const double turns[] = { 0,    0.5,  0.25, 0.75, 0.125,  0.375, 0.625, 0.875,
					0.06, 0.44, 0.56, 0.94, 0.1875, 0.31,  0.69,  0.81 };
	struct box box = { 0, 0, width, LABEL_SIZE };

	for (int ring = 0; ring < 36; ring++) {
		const double away = DOT_RADIUS + GAP + 1 + 6 * ring;

		for (size_t i = 0; i < sizeof(turns) / sizeof(turns[0]); i++) {
			const double angle = turns[i] * 2 * M_PI;

			/* The side of the box that faces the point is `away` from it. */
			box.x = x + cos(angle) * (away + width / 2) - width / 2;
			box.y = y - sin(angle) * (away + LABEL_SIZE / 2) - LABEL_SIZE / 2;
			if (is_free(canvas, &box))
				return box;
		}
	}
	box.x = x;
	box.y = y;
	return box;
}

/* ---- What is drawn ---- */

static void ink(cairo_t *cairo, double shade, double alpha)
{
	cairo_set_source_rgba(cairo, shade, shade, shade, alpha);
}

/* From a pale to a dark blue-green, as a share from 0 to 1. */
static void colour(cairo_t *cairo, double share)
{
	static const double stops[][3] = { { 0.70, 0.86, 0.77 },
					   { 0.30, 0.68, 0.68 },
					   { 0.13, 0.43, 0.60 },
					   { 0.15, 0.17, 0.42 } };
	const double place = fmin(fmax(share, 0), 1) * 3;
	const int i = place < 3 ? (int)place : 2;
	const double part = place - i;

	cairo_set_source_rgb(cairo, stops[i][0] + part * (stops[i + 1][0] - stops[i][0]),
			     stops[i][1] + part * (stops[i + 1][1] - stops[i][1]),
			     stops[i][2] + part * (stops[i + 1][2] - stops[i][2]));
}

static double share_of(const struct canvas *canvas, float cosine)
{
	return canvas->most > canvas->least
		       ? (double)((cosine - canvas->least) / (canvas->most - canvas->least))
		       : 1;
}

static void font(cairo_t *cairo, double size, bool bold)
{
	cairo_select_font_face(cairo, "sans-serif", CAIRO_FONT_SLANT_NORMAL,
			       bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
	cairo_set_font_size(cairo, size);
}

static double text_width(cairo_t *cairo, const char *text)
{
	cairo_text_extents_t extents;

	cairo_text_extents(cairo, text, &extents);
	return extents.x_advance;
}

/* The text begins `part` of its width to the left of x. */
static void write_text(cairo_t *cairo, double x, double y, double part, const char *text)
{
	cairo_move_to(cairo, x - part * text_width(cairo, text), y);
	cairo_show_text(cairo, text);
}

static void draw_line(cairo_t *cairo, double x1, double y1, double x2, double y2)
{
	cairo_move_to(cairo, x1, y1);
	cairo_line_to(cairo, x2, y2);
	cairo_stroke(cairo);
}

/* A step of 1, 2 or 5 times a power of ten, so that lines are about 130 pixels apart. */
static double grid_step(const struct canvas *canvas)
{
	const double wanted = 130 / canvas->scale;
	const double power = pow(10, floor(log10(wanted)));

	return wanted / power < 2 ? power : wanted / power < 5 ? 2 * power : 5 * power;
}

static void draw_upright(const struct canvas *canvas, double x, const char *text)
{
	const double pixel = round(pixel_x(canvas, x)) + 0.5;

	ink(canvas->cairo, x == 0 ? 0.75 : 0.92, 1);
	draw_line(canvas->cairo, pixel, TOP, pixel, HEIGHT - BOTTOM);
	ink(canvas->cairo, 0.45, 1);
	write_text(canvas->cairo, pixel, HEIGHT - BOTTOM + 20, 0.5, text);
}

static void draw_level(const struct canvas *canvas, double y, const char *text)
{
	const double pixel = round(pixel_y(canvas, y)) + 0.5;

	ink(canvas->cairo, y == 0 ? 0.75 : 0.92, 1);
	draw_line(canvas->cairo, LEFT, pixel, WIDTH - RIGHT, pixel);
	ink(canvas->cairo, 0.45, 1);
	write_text(canvas->cairo, LEFT - 8, pixel + 4.5, 1, text);
}

/* The lines at multiples of `step` within `half` of the middle, each with its number. */
static void draw_lines(const struct canvas *canvas, double middle, double half, double step,
		       void (*draw)(const struct canvas *canvas, double at, const char *text))
{
	const int decimals = step < 1 ? (int)ceil(-log10(step) - 1e-9) : 0;
	const long last = lrint(floor((middle + half) / step));
	char text[32];

	for (long i = lrint(ceil((middle - half) / step)); i <= last; i++) {
		snprintf(text, sizeof(text), "%.*f", decimals, (double)i * step);
		draw(canvas, (double)i * step, text);
	}
}

static void draw_grid(const struct canvas *canvas)
{
	const double half_x = (WIDTH - LEFT - RIGHT) / 2.0 / canvas->scale;
	const double half_y = (HEIGHT - TOP - BOTTOM) / 2.0 / canvas->scale;
	const double step = grid_step(canvas);

	font(canvas->cairo, 13, false);
	cairo_set_line_width(canvas->cairo, 1);
	draw_lines(canvas, canvas->middle_x, half_x, step, draw_upright);
	draw_lines(canvas, canvas->middle_y, half_y, step, draw_level);
	ink(canvas->cairo, 0.6, 1);
	cairo_rectangle(canvas->cairo, LEFT + 0.5, TOP + 0.5, WIDTH - LEFT - RIGHT,
			HEIGHT - TOP - BOTTOM);
	cairo_stroke(canvas->cairo);
}

static void draw_titles(const struct canvas *canvas)
{
	cairo_t *cairo = canvas->cairo;
	char text[96];

	ink(cairo, 0.1, 1);
	font(cairo, 27, true);
	write_text(cairo, LEFT, 52, 0, canvas->picture->title);
	ink(cairo, 0.35, 1);
	font(cairo, 16, false);
	write_text(cairo, LEFT, 84, 0, canvas->picture->subtitle);
	snprintf(text, sizeof(text), "first principal component (%.0f %% of the variance)",
		 100 * canvas->picture->shares[0]);
	write_text(cairo, LEFT + (WIDTH - LEFT - RIGHT) / 2.0, HEIGHT - 22, 0.5, text);
	snprintf(text, sizeof(text), "second principal component (%.0f %% of the variance)",
		 100 * canvas->picture->shares[1]);
	cairo_save(cairo);
	cairo_translate(cairo, 32, TOP + (HEIGHT - TOP - BOTTOM) / 2.0);
	cairo_rotate(cairo, -M_PI / 2);
	write_text(cairo, 0, 0, 0.5, text);
	cairo_restore(cairo);
}

static void draw_scale(const struct canvas *canvas)
{
	enum { X = WIDTH - RIGHT + 40, Y = TOP + 60, LONG = 260, WIDE = 22 };
	cairo_t *cairo = canvas->cairo;
	char text[32];

	for (int i = 0; i < LONG; i++) {
		colour(cairo, 1 - (double)i / LONG);
		cairo_rectangle(cairo, X, Y + i, WIDE, 1.5);
		cairo_fill(cairo);
	}
	ink(cairo, 0.35, 1);
	font(cairo, 15, false);
	write_text(cairo, X, Y - 34, 0, "cosine to");
	write_text(cairo, X, Y - 14, 0, "the word");
	font(cairo, 13, false);
	for (int i = 0; i <= 4; i++) {
		snprintf(text, sizeof(text), "%.2f",
			 (double)canvas->most - i * (double)(canvas->most - canvas->least) / 4);
		write_text(cairo, X + WIDE + 8, Y + i * LONG / 4.0 + 5, 0, text);
	}
}

static void draw_dots(struct canvas *canvas)
{
	const struct picture *picture = canvas->picture;
	const double x0 = pixel_x(canvas, picture->points[0].x);
	const double y0 = pixel_y(canvas, picture->points[0].y);
	cairo_t *cairo = canvas->cairo;

	cairo_set_line_width(cairo, 1);
	ink(cairo, 0.5, 0.25);
	for (size_t i = 1; i < picture->count; i++)
		draw_line(cairo, x0, y0, pixel_x(canvas, picture->points[i].x),
			  pixel_y(canvas, picture->points[i].y));
	for (size_t i = picture->count; i-- > 0;) {
		const double x = pixel_x(canvas, picture->points[i].x);
		const double y = pixel_y(canvas, picture->points[i].y);
		const double radius = i == 0 ? DOT_RADIUS + 2.5 : DOT_RADIUS;

		cairo_arc(cairo, x, y, radius, 0, 2 * M_PI);
		if (i == 0)
			cairo_set_source_rgb(cairo, 0.85, 0.33, 0.10);
		else
			colour(cairo, share_of(canvas, picture->cosines[i]));
		cairo_fill_preserve(cairo);
		ink(cairo, 1, 1);
		cairo_stroke(cairo);
		canvas->taken[canvas->taken_count++] =
			(struct box){ x - radius, y - radius, 2 * radius, 2 * radius };
	}
}

/* Labels find their places one after the other, point 0's first, behind the dots. */
static void place_labels(struct canvas *canvas)
{
	const struct picture *picture = canvas->picture;

	canvas->labels = canvas->taken + canvas->taken_count;
	for (size_t i = 0; i < picture->count; i++) {
		font(canvas->cairo, LABEL_SIZE, i == 0);
		canvas->taken[canvas->taken_count] =
			find_place(canvas, pixel_x(canvas, picture->points[i].x),
				   pixel_y(canvas, picture->points[i].y),
				   text_width(canvas->cairo, picture->labels[i]));
		canvas->taken_count++;
	}
}

/* A line to a label that is not beside its point. */
static void draw_leader(const struct canvas *canvas, size_t i)
{
	const struct box *box = &canvas->labels[i];
	const double x = pixel_x(canvas, canvas->picture->points[i].x);
	const double y = pixel_y(canvas, canvas->picture->points[i].y);
	const double near_x = fmin(fmax(x, box->x), box->x + box->width);
	const double near_y = fmin(fmax(y, box->y), box->y + box->height);

	if (hypot(near_x - x, near_y - y) <= DOT_RADIUS + 16)
		return;
	ink(canvas->cairo, 0.35, 1);
	cairo_set_line_width(canvas->cairo, 1);
	draw_line(canvas->cairo, x, y, near_x, near_y);
}

/* With a pale rim, so that a line behind a label does not disturb it. */
static void draw_label(const struct canvas *canvas, size_t i)
{
	const struct box *box = &canvas->labels[i];
	cairo_t *cairo = canvas->cairo;

	font(cairo, LABEL_SIZE, i == 0);
	cairo_move_to(cairo, box->x, box->y + LABEL_SIZE * 0.8);
	cairo_text_path(cairo, canvas->picture->labels[i]);
	ink(cairo, 1, 0.9);
	cairo_set_line_width(cairo, 4);
	cairo_stroke_preserve(cairo);
	if (i == 0)
		cairo_set_source_rgb(cairo, 0.72, 0.25, 0.05);
	else
		ink(cairo, 0.12, 1);
	cairo_fill(cairo);
}

void picture_draw(const struct picture *picture, const char *path)
{
	cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, WIDTH, HEIGHT);
	struct canvas canvas = { .picture = picture, .cairo = cairo_create(surface) };
	cairo_status_t status;

	canvas.taken = calloc(2 * picture->count, sizeof(*canvas.taken));
	if (!canvas.taken)
		fail("no memory for a picture of %zu points", picture->count);
	cairo_set_line_join(canvas.cairo, CAIRO_LINE_JOIN_ROUND);
	ink(canvas.cairo, 1, 1);
	cairo_paint(canvas.cairo);
	fit(&canvas);
	draw_grid(&canvas);
	draw_titles(&canvas);
	draw_scale(&canvas);
	draw_dots(&canvas);
	place_labels(&canvas);
	for (size_t i = 0; i < picture->count; i++)
		draw_leader(&canvas, i);
	for (size_t i = 0; i < picture->count; i++)
		draw_label(&canvas, i);
	status = cairo_status(canvas.cairo);
	errno = 0;
	if (status == CAIRO_STATUS_SUCCESS)
		status = cairo_surface_write_to_png(surface, path);
	if (status == CAIRO_STATUS_WRITE_ERROR && errno)
		fail("cannot write %s: %s", path, strerror(errno));
	if (status != CAIRO_STATUS_SUCCESS)
		fail("cannot draw %s: %s", path, cairo_status_to_string(status));
	free(canvas.taken);
	cairo_destroy(canvas.cairo);
	cairo_surface_destroy(surface);
}
