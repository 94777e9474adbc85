/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers which words are the nearest to one, by the word embeddings of a real model: gds
 * reads the matrix out of the model's file into a VkBuffer of this program, a compute
 * shader that waits for it on the queue computes the cosines, and the CPU checks them.
 */
#include "gpu.h"
#include "picture.h"
#include "vectors.h"

#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LISTED = 12, DRAWN = 40, MOST_LISTED = 1000 };

#define MODEL     "all-MiniLM-L6-v2"
#define TENSOR    "embeddings.word_embeddings.weight"
#define TOLERANCE 1e-5 /* of a cosine in single precision */

struct options {
	const char *word;
	const char *model;
	const char *vocabulary;
	const char *tensor;
	const char *device;
	const char *png;
	uint64_t at;
	size_t count;
	enum gds_path path;
	char cached_model[PATH_MAX];
	char cached_vocabulary[PATH_MAX];
};

static void usage(FILE *to)
{
	fputs("Usage: nearest [OPTION]... WORD\n\n"
	      "Prints the words nearest to WORD by the cosine of their embeddings.\n\n"
	      "  --model FILE       a safetensors file, or a block device that holds one\n"
	      "                     (default: " MODEL " in the cache of scripts/fetch-model)\n"
	      "  --at BYTES         where in FILE it begins (default 0)\n"
	      "  --vocabulary FILE  a word a line, in the order of the matrix's rows\n"
	      "                     (default: as for the model)\n"
	      "  --tensor NAME      the matrix (default: " TENSOR ")\n"
	      "  --device TEXT      a Vulkan device by a part of its name (default: the first)\n"
	      "  --path PATH        auto, dmabuf, mapped or bounce (default auto)\n"
	      "  --count N          words to print, 1 to 1000 (default 12)\n"
	      "  --png FILE         draw the neighbourhood\n"
	      "  --help             this text\n",
	      to);
}

static uint64_t parse_number(const char *option, const char *text, uint64_t least, uint64_t most)
{
	char *end;
	const unsigned long long number = strtoull(text, &end, 0);

	if (text[0] < '0' || text[0] > '9' || *end || number < least || number > most)
		fail("--%s %s: a number from %" PRIu64 " to %" PRIu64 " is wanted", option, text,
		     least, most);
	return number;
}

static enum gds_path parse_path(const char *text)
{
	for (int path = GDS_PATH_AUTO; path < GDS_PATH_COUNT; path++)
		if (strcmp(text, gds_path_name((enum gds_path)path)) == 0)
			return (enum gds_path)path;
	fail("--path %s: auto, dmabuf, mapped or bounce is wanted", text);
}

/* Finds a file of the model in the cache, where scripts/fetch-model leaves it. */
static const char *cached(char *path, const char *suffix)
{
	const char *gds = getenv("GDS_CACHE"), *xdg = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	const char *below = "/.cache/gds";
	const char *folder = home ? home : "";
	int length;

	if (xdg && xdg[0]) {
		below = "/gds";
		folder = xdg;
	}
	if (gds && gds[0]) {
		below = "";
		folder = gds;
	}
	length = snprintf(path, PATH_MAX, "%s%s/models/" MODEL "%s", folder, below, suffix);
	if (length < 0 || length >= PATH_MAX)
		fail("%s: too long a name", folder);
	if (access(path, R_OK))
		fail("there is no %s: run scripts/fetch-model, which prints where it leaves the "
		     "model, or name other files (--help)",
		     path);
	return path;
}

static void parse_option(struct options *options, int option)
{
	switch (option) {
	case 'm':
		options->model = optarg;
		return;
	case 'a':
		options->at = parse_number("at", optarg, 0, INT64_MAX);
		return;
	case 'v':
		options->vocabulary = optarg;
		return;
	case 't':
		options->tensor = optarg;
		return;
	case 'd':
		options->device = optarg;
		return;
	case 'p':
		options->path = parse_path(optarg);
		return;
	case 'c':
		options->count = parse_number("count", optarg, 1, MOST_LISTED);
		return;
	case 'o':
		options->png = optarg;
		return;
	case 'h':
		usage(stdout);
		exit(0);
	default:
		usage(stderr);
		exit(2);
	}
}

static void parse(struct options *options, int argc, char **argv)
{
	static const struct option known[] = {
		{ "model", required_argument, NULL, 'm' },
		{ "at", required_argument, NULL, 'a' },
		{ "vocabulary", required_argument, NULL, 'v' },
		{ "tensor", required_argument, NULL, 't' },
		{ "device", required_argument, NULL, 'd' },
		{ "path", required_argument, NULL, 'p' },
		{ "count", required_argument, NULL, 'c' },
		{ "png", required_argument, NULL, 'o' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int option;

	*options = (struct options){ .tensor = TENSOR, .count = LISTED };
	while ((option = getopt_long(argc, argv, "h", known, NULL)) != -1)
		parse_option(options, option);
	if (optind + 1 != argc) {
		fprintf(stderr, "nearest: one word is wanted, and there are %d\n\n", argc - optind);
		usage(stderr);
		exit(2);
	}
	options->word = argv[optind];
	if (!options->model)
		options->model = cached(options->cached_model, ".safetensors");
	if (!options->vocabulary)
		options->vocabulary = cached(options->cached_vocabulary, ".vocabulary.txt");
}

/* ---- What is said ---- */

static void say_how(const struct gpu *gpu)
{
	printf("  by the path");
	for (int path = GDS_PATH_AUTO + 1; path < GDS_PATH_COUNT; path++)
		if (gpu->result.path_bytes[path])
			printf(" %s, %" PRIu64 " bytes", gds_path_name((enum gds_path)path),
			       gpu->result.path_bytes[path]);
	printf(", in %.1f ms; ", (double)(gpu->result.completed_ns - gpu->result.issued_ns) / 1e6);
	if (gpu->queue_waits)
		puts("the GPU's queue waited for it, not the CPU");
	else
		printf("the CPU waited for it: %s\n", gpu->cpu_waits_because);
}

/*
 * Holds the GPU's cosines against those of the CPU, which read the matrix by itself. Words
 * that are equally near but for rounding may change places: what must agree is how near the
 * word of each place is.
 */
static void check(const struct options *options, const struct matrix *matrix,
		  const struct words *words, uint32_t row, const float *cosines)
{
	float *values = matrix_load(matrix, options->model);
	double *exact = calloc(matrix->rows, sizeof(*exact));
	float *rounded = calloc(matrix->rows, sizeof(*rounded));
	struct match ours[DRAWN], theirs[DRAWN];
	double worst = 0;
	size_t count;

	if (!exact || !rounded)
		fail("no memory for %u cosines", matrix->rows);
	vectors_cosines(matrix, values, row, exact);
	for (uint32_t i = 0; i < matrix->rows; i++) {
		/* Written so that a NaN is found, too. */
		if (!(fabs((double)cosines[i] - exact[i]) <= TOLERANCE))
			fail("the GPU gave %g for \"%s\" and the CPU %g", (double)cosines[i],
			     words->list[i], exact[i]);
		worst = fmax(worst, fabs((double)cosines[i] - exact[i]));
		rounded[i] = (float)exact[i];
	}
	count = vectors_nearest(words, rounded, row, ours, DRAWN);
	if (vectors_nearest(words, cosines, row, theirs, DRAWN) != count)
		fail("the GPU found another number of words than the CPU");
	for (size_t i = 0; i < count; i++)
		if (fabs(exact[theirs[i].row] - exact[ours[i].row]) > TOLERANCE)
			fail("the GPU has \"%s\" in place %zu and the CPU \"%s\"",
			     words->list[theirs[i].row], i + 1, words->list[ours[i].row]);
	printf("Checked against the CPU: %u cosines differ by %.1e at most\n", matrix->rows, worst);
	free(rounded);
	free(exact);
	free(values);
}

static void draw(const struct options *options, struct gpu *gpu, const struct matrix *matrix,
		 const struct words *words, uint32_t row, const float *cosines)
{
	struct match matches[DRAWN + 1] = { { row, 1 } };
	const size_t count = 1 + vectors_nearest(words, cosines, row, matches + 1, DRAWN);
	float *vectors = calloc(count * matrix->columns, sizeof(*vectors));
	struct point points[DRAWN + 1];
	const char *labels[DRAWN + 1];
	float nearness[DRAWN + 1];
	char title[128], subtitle[192];
	struct picture picture = { title, subtitle, points, labels, nearness, count, { 0 } };

	if (!vectors)
		fail("no memory for %zu vectors", count);
	for (size_t i = 0; i < count; i++) {
		gpu_row(gpu, matrix, matches[i].row, vectors + i * matrix->columns);
		labels[i] = words->list[matches[i].row];
		nearness[i] = matches[i].cosine;
	}
	vectors_project(vectors, count, matrix->columns, points, picture.shares);
	snprintf(title, sizeof(title), "The %zu words nearest to \xe2\x80\x9c%.60s\xe2\x80\x9d",
		 count - 1, options->word);
	snprintf(subtitle, sizeof(subtitle),
		 "Word embeddings of %u numbers, brought to length 1 and projected on their first "
		 "two principal components",
		 matrix->columns);
	picture_draw(&picture, options->png);
	printf("Drawn: %s\n", options->png);
	free(vectors);
}

int main(int argc, char **argv)
{
	struct options options;
	struct match matches[MOST_LISTED];
	struct matrix matrix;
	struct words words;
	struct gpu gpu;
	float *cosines;
	int64_t row;
	size_t count;

	parse(&options, argc, argv);
	matrix_find(&matrix, options.model, options.at, options.tensor);
	words_load(&words, options.vocabulary, matrix.rows);
	row = words_find(&words, options.word);
	if (row < 0)
		fail("\"%s\" is none of the %zu words of %s; most are common English words in "
		     "lower case",
		     options.word, words.count, options.vocabulary);
	cosines = calloc(matrix.rows, sizeof(*cosines));
	if (!cosines)
		fail("no memory for %u cosines", matrix.rows);

	gpu_open(&gpu, options.device, &matrix);
	printf("%s, %u x %u, %.1f MB of %s\n  into %s%s\n", options.tensor, matrix.rows,
	       matrix.columns, (double)matrix.bytes / 1e6, options.model,
	       gpu.compute.properties.deviceName,
	       gpu.values.exportable ? ", memory that a drive can write to" : "");
	gpu_run(&gpu, options.model, options.path, &matrix, (uint32_t)row, cosines);
	say_how(&gpu);

	count = vectors_nearest(&words, cosines, (uint32_t)row, matches, options.count);
	for (size_t i = 0; i < count; i++)
		printf("%4zu  %.4f  %s\n", i + 1, (double)matches[i].cosine,
		       words.list[matches[i].row]);
	check(&options, &matrix, &words, (uint32_t)row, cosines);
	if (options.png)
		draw(&options, &gpu, &matrix, &words, (uint32_t)row, cosines);
	gpu_close(&gpu);
	free(cosines);
	words_free(&words);
	return 0;
}
