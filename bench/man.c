/* SPDX-License-Identifier: Apache-2.0 */
/* The page gds-bench(1), from the tables of options.c, report.c and status.c. */
#include "man.h"

#include "options.h"
#include "report.h"

#include <stdio.h>

/* Prints text so that troff leaves its dashes, backslashes and dots alone. */
static void print_text(const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", stdout);
	for (; *text; text++) {
		if (*text == '-')
			fputs("\\-", stdout);
		else if (*text == '\\')
			fputs("\\e", stdout);
		else
			putchar(*text);
	}
	putchar('\n');
}

static void print_section(const char *title)
{
	printf(".SH %s\n", title);
}

static void print_entry(const char *term, const char *text)
{
	printf(".TP\n.B ");
	print_text(term);
	print_text(text);
}

static void print_paragraph(const char *text)
{
	printf(".PP\n");
	print_text(text);
}

static void print_synopsis(void)
{
	print_section("SYNOPSIS");
	for (int i = 0; i < COMMAND_COUNT; i++) {
		printf("%s.B gds\\-bench %s\n", i ? ".br\n" : "", command_specs[i].name);
		printf("[\\fIOPTION\\fR...] ");
		print_text(command_specs[i].operands);
	}
}

static void print_command(enum command command)
{
	char term[64], text[1024];

	printf(".SS %s\n", command_specs[command].name);
	print_text(command_specs[command].description);
	for (size_t i = 0; i < option_spec_count; i++)
		if (option_specs[i].commands & COMMAND_BIT(command)) {
			option_usage(&option_specs[i], term, sizeof(term));
			option_help(&option_specs[i], text, sizeof(text));
			print_entry(term, text);
		}
}

static void print_keys(enum command command)
{
	printf(".SS Keys of %s\n", command_specs[command].name);
	for (int key = 0; key < KEY_COUNT; key++)
		if (key_specs[key].commands & COMMAND_BIT(command))
			print_entry(key_specs[key].name, key_specs[key].help);
}

static void print_statuses(void)
{
	char term[16];

	print_section("EXIT STATUS");
	for (unsigned int i = 0; i < status_spec_count; i++) {
		snprintf(term, sizeof(term), "%d", status_specs[i].status);
		print_entry(term, status_specs[i].meaning);
	}
	print_paragraph("Whatever goes wrong is said in one line on standard error: what failed, "
			"on what, and what to do. SIGINT, SIGTERM and SIGHUP cancel the reads in "
			"flight, remove an unfinished output and give status 1; one that was "
			"ignored before, as under nohup(1), stays ignored.");
}

static void print_examples(void)
{
	static const char *const examples[][2] = {
		{ "gds-bench check model.safetensors",
		  "Which devices are there, and which path would a read of the file take?" },
		{ "gds-bench check vulkan:0 /dev/nvme0n1",
		  "Does the direct path from this drive into this GPU deliver every byte?" },
		{ "gds-bench read model.safetensors --device vulkan:0 --verify",
		  "Read a file into GPU memory and prove that every byte arrived." },
		{ "gds-bench read big.bin --path bounce --lane threads --offset 1M --length 2GiB",
		  "A range, by one path and one lane." },
		{ "gds-bench bench big.bin --rw randread --bs 4k --qd 128 --runtime 10s",
		  "Random reads of 4 KiB for ten seconds." },
	};

	print_section("EXAMPLES");
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++)
		print_entry(examples[i][0], examples[i][1]);
}

void man_print(void)
{
	printf(".\\\" SPDX-License-Identifier: Apache-2.0\n");
	printf(".\\\" Printed by gds-bench --man. Do not edit.\n");
	printf(".TH GDS\\-BENCH 1 \"\" \"gds %s\" \"User Commands\"\n", GDS_BENCH_VERSION);
	print_section("NAME");
	printf("gds\\-bench \\- read files into GPU memory, check and measure the paths\n");
	print_synopsis();
	print_section("DESCRIPTION");
	print_text("gds-bench reads files and block devices into the memory of a GPU, tells which "
		   "paths the machine allows and why not the others, and measures them.");
	print_section("COMMANDS");
	for (int i = 0; i < COMMAND_COUNT; i++)
		print_command((enum command)i);
	print_paragraph("Besides, --help describes the commands, COMMAND --help the options of "
			"one, and --version tells the version.");
	print_section("SIZES AND TIMES");
	print_text("A size is a number of bytes, or of the unit that follows: k, M, G, T or KiB, "
		   "MiB, GiB, TiB, all powers of 1024. kB, MB and so on are refused, since they "
		   "may mean powers of 1000. A time is a number of seconds, or of the unit that "
		   "follows: ms, s or m.");
	print_section("JSON");
	print_text("With --json one object is printed on standard output. Nothing is printed there "
		   "where the run failed before there was anything to tell.");
	for (int i = 0; i < COMMAND_COUNT; i++)
		print_keys((enum command)i);
	print_statuses();
	print_section("ENVIRONMENT");
	print_entry("GDS_LOG", "error, warning, info or debug: how much the library tells on "
			       "standard error. The default is warning: a fall back to a slower "
			       "way.");
	print_examples();
	print_section("SEE ALSO");
	printf(".BR fio (1),\n.BR gds (7)\n");
}
