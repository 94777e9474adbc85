/* SPDX-License-Identifier: Apache-2.0 */
/* --help, from the tables of options.c and status.c. */
#include "options.h"

#include "sizes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HELP_COLUMN 26
#define HELP_WIDTH  88

void option_usage(const struct option_spec *spec, char *text, size_t bytes)
{
	snprintf(text, bytes, "--%s%s%s", spec->name, spec->value ? " " : "",
		 spec->value ? spec->value : "");
}

void option_help(const struct option_spec *spec, char *text, size_t bytes)
{
	char size[SIZE_TEXT_BYTES];
	bool plain = spec->initial != OPTION_UNSET && !strstr(spec->help, "(default:");

	if (plain && spec->type == OPTION_NUMBER)
		snprintf(text, bytes, "%s (default: %" PRIu64 ")", spec->help, spec->initial);
	else if (plain && spec->type == OPTION_SIZE)
		snprintf(text, bytes, "%s (default: %s)", spec->help,
			 size_format(size, (double)spec->initial));
	else if (plain && spec->type == OPTION_CHOICE)
		snprintf(text, bytes, "%s (default: %s)", spec->help, spec->choices[spec->initial]);
	else
		snprintf(text, bytes, "%s", spec->help);
}

/* Prints words from `column` on, as many to a line as fit. */
static void print_wrapped(const char *text, int column)
{
	int used = column;

	while (*text) {
		int word = (int)strcspn(text, " ");

		if (used > column && used + 1 + word > HELP_WIDTH) {
			printf("\n%*s", column, "");
			used = column;
		}
		used += printf("%s%.*s", used > column ? " " : "", word, text);
		text += word;
		text += *text == ' ';
	}
	printf("\n");
}

static void print_entry(const char *term, const char *text)
{
	printf("  %-*s", HELP_COLUMN - 2, term);
	if (strlen(term) > HELP_COLUMN - 4)
		printf("\n%*s", HELP_COLUMN, "");
	print_wrapped(text, HELP_COLUMN);
}

static void print_statuses(void)
{
	printf("\nExit status:\n");
	for (unsigned int i = 0; i < status_spec_count; i++) {
		char term[16];

		snprintf(term, sizeof(term), "%d", status_specs[i].status);
		print_entry(term, status_specs[i].meaning);
	}
}

void help_print(void)
{
	printf("gds-bench reads files into GPU memory, checks what the machine can do, and "
	       "measures "
	       "it.\n\nUsage:\n");
	for (int i = 0; i < COMMAND_COUNT; i++)
		printf("  gds-bench %s [OPTION...] %s\n", command_specs[i].name,
		       command_specs[i].operands);
	printf("\nCommands:\n");
	for (int i = 0; i < COMMAND_COUNT; i++)
		print_entry(command_specs[i].name, command_specs[i].summary);
	printf("\nOptions:\n");
	print_entry("--help", "this text; gds-bench COMMAND --help lists a command's options");
	print_entry("--version", "the version of the tool and of the library");
	print_statuses();
}

void help_print_command(enum command command)
{
	const struct command_spec *spec = &command_specs[command];
	char term[64], text[1024];

	printf("Usage: gds-bench %s [OPTION...] %s\n\n", spec->name, spec->operands);
	print_wrapped(spec->description, 0);
	printf("\nSizes are written 4096, 4k, 1M or 2GiB. Options:\n");
	for (size_t i = 0; i < option_spec_count; i++)
		if (option_specs[i].commands & COMMAND_BIT(command)) {
			option_usage(&option_specs[i], term, sizeof(term));
			option_help(&option_specs[i], text, sizeof(text));
			print_entry(term, text);
		}
	print_statuses();
}
