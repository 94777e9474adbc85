/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bar with the rate and the time left, drawn on standard error where that is a
 * terminal, and nothing at all otherwise.
 */
#include "progress.h"

#include "sizes.h"
#include "stats.h"

#include <gds/gds.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define REDRAW_NS     100000000ull
#define DEFAULT_WIDTH 80
#define BAR_MOST      40
#define LABEL_MOST    24 /* of a file's name, so that the line never wraps */

static struct {
	bool terminal;
	bool drawn;
	char label[LABEL_MOST + 1];
	uint64_t work;
	uint64_t begin_ns;
	uint64_t drawn_ns;
} bar;

/* The library looks at GDS_LOG only as long as nobody sets a sink of his own. */
static enum gds_log_level log_level(void)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };
	const char *text = getenv("GDS_LOG");

	for (int level = GDS_LOG_ERROR; text && level <= GDS_LOG_DEBUG; level++)
		if (strcasecmp(text, names[level]) == 0)
			return (enum gds_log_level)level;
	return GDS_LOG_WARNING;
}

static void log_around_bar(enum gds_log_level level, const char *line, void *user)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };

	(void)user;
	progress_clear();
	fprintf(stderr, "gds: %s: %s\n", names[level], line);
}

void progress_setup(void)
{
	bar.terminal = isatty(STDERR_FILENO);
	if (bar.terminal)
		gds_log_set(log_level(), log_around_bar, NULL);
}

void progress_begin(const char *file, uint64_t work)
{
	const char *slash = strrchr(file, '/');

	snprintf(bar.label, sizeof(bar.label), "%s", slash ? slash + 1 : file);
	for (char *byte = bar.label; *byte; byte++)
		if ((unsigned char)*byte < 0x20 || *byte == 0x7f)
			*byte = '?';
	bar.work = work ? work : 1;
	bar.begin_ns = clock_ns();
	bar.drawn_ns = 0;
}

static int terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		return size.ws_col;
	return DEFAULT_WIDTH;
}

static void format_left(char *text, size_t bytes, uint64_t done, uint64_t now)
{
	double seconds;

	if (done == 0) {
		snprintf(text, bytes, "--:-- left");
		return;
	}
	seconds = (double)(now - bar.begin_ns) / 1e9 * (double)(bar.work - done) / (double)done;
	snprintf(text, bytes, "%d:%02d left", (int)seconds / 60, (int)seconds % 60);
}

static void draw(uint64_t done, double rate, uint64_t now)
{
	char figures[96], left[32], speed[SIZE_TEXT_BYTES], cells[BAR_MOST + 1];
	int room, filled;

	format_left(left, sizeof(left), done, now);
	snprintf(figures, sizeof(figures), "%3d%%  %s/s  %s", (int)(done * 100.0 / bar.work),
		 size_format(speed, rate), left);
	/* One column stays free: some terminals wrap when the last one is written. */
	room = terminal_width() - (int)strlen(bar.label) - (int)strlen(figures) - 6;
	room = room > BAR_MOST ? BAR_MOST : room < 0 ? 0 : room;
	filled = (int)((double)done / (double)bar.work * room);
	memset(cells, '-', (size_t)room);
	memset(cells, '#', (size_t)filled);
	cells[room] = '\0';
	fprintf(stderr, "\r%s [%s] %s\033[K", bar.label, cells, figures);
	fflush(stderr);
	bar.drawn = true;
}

void progress_update(uint64_t done, double rate)
{
	uint64_t now;

	if (!bar.terminal)
		return;
	now = clock_ns();
	if (bar.drawn_ns && now - bar.drawn_ns < REDRAW_NS)
		return;
	bar.drawn_ns = now;
	draw(done < bar.work ? done : bar.work, rate, now);
}

void progress_clear(void)
{
	if (!bar.drawn)
		return;
	fputs("\r\033[K", stderr);
	fflush(stderr);
	bar.drawn = false;
}
