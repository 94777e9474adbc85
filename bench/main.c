/* SPDX-License-Identifier: Apache-2.0 */
/* gds-bench: finds the command and runs it. */
#include "commands.h"
#include "man.h"
#include "options.h"
#include "progress.h"
#include "signals.h"
#include "status.h"

#include <errno.h>
#include <gds/gds.h>
#include <stdio.h>
#include <string.h>

static enum status (*const command_runs[COMMAND_COUNT])(const struct options *options) = {
	[COMMAND_CHECK] = command_check,
	[COMMAND_READ] = command_read,
	[COMMAND_BENCH] = command_bench,
};

static bool wants_help(char **arguments)
{
	for (; *arguments && strcmp(*arguments, "--") != 0; arguments++)
		if (strcmp(*arguments, "--help") == 0)
			return true;
	return false;
}

static enum status run_command(const char *name, char **arguments)
{
	enum command command = command_find(name);
	struct options options;
	enum status status;

	if (command == COMMAND_COUNT)
		return fail(STATUS_USAGE, "unknown command: %s: see gds-bench --help", name);
	if (wants_help(arguments)) {
		help_print_command(command);
		return STATUS_OK;
	}
	status = options_parse(&options, command, arguments);
	if (status != STATUS_OK)
		return status;
	signals_install();
	progress_setup();
	return command_runs[command](&options);
}

static enum status run(char **arguments)
{
	const char *first = arguments[0];

	if (!first)
		return fail(STATUS_USAGE, "no command: gds-bench: see gds-bench --help");
	if (strcmp(first, "--help") == 0) {
		help_print();
		return STATUS_OK;
	}
	if (strcmp(first, "--version") == 0) {
		printf("gds-bench %s (libgds %s)\n", GDS_BENCH_VERSION, gds_version());
		return STATUS_OK;
	}
	/* Not in --help: it is for whoever builds the page. */
	if (strcmp(first, "--man") == 0) {
		man_print();
		return STATUS_OK;
	}
	return run_command(first, arguments + 1);
}

int main(int argc, char **argv)
{
	enum status status = run(argv + (argc > 0));

	progress_clear();
	if (fflush(stdout) != 0 || ferror(stdout))
		status = fail(STATUS_FAILED, "cannot write: standard output: %s", strerror(errno));
	return status;
}
