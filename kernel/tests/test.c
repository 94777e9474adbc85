// SPDX-License-Identifier: GPL-2.0-only
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_PASSED = 0, EXIT_FAILED = 1, EXIT_SKIPPED = 77 };

/* A killed process goes away at once, unless the kernel holds it. */
#define KILL_GRACE_S 30

struct test {
	char name[120];
	test_function *function;
	const void *argument;
	unsigned limit_s;
};

struct counts {
	unsigned passed, failed, skipped;
};

enum outcome { PASSED, FAILED, SKIPPED, HUNG };

uint64_t test_seed;
void (*test_clean_up)(void);

static struct test *tests;
static size_t test_count;

void test_add(test_function *function, const void *argument, unsigned limit_s,
	      const char *name_format, ...)
{
	va_list arguments;
	struct test *test;

	tests = realloc(tests, (test_count + 1) * sizeof(*tests));
	if (!tests)
		abort();
	test = &tests[test_count++];
	*test = (struct test){
		.function = function, .argument = argument, .limit_s = limit_s * test_slowness()};
	va_start(arguments, name_format);
	vsnprintf(test->name, sizeof(test->name), name_format, arguments);
	va_end(arguments);
}

unsigned test_slowness(void)
{
	/* Only the debug kernel has it, whatever boots that kernel. */
	return access("/sys/kernel/debug/kmemleak", F_OK) == 0 ? 6 : 1;
}

void test_fail(const char *file, int line, const char *format, ...)
{
	va_list arguments;

	printf("    %s:%d: ", strrchr(file, '/') ? strrchr(file, '/') + 1 : file, line);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
	_exit(EXIT_FAILED);
}

void test_skip(const char *format, ...)
{
	va_list arguments;

	printf("    skipped: ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
	_exit(EXIT_SKIPPED);
}

void test_check_eq(const char *file, int line, int64_t got, int64_t expected, const char *format,
		   ...)
{
	char what[256];
	va_list arguments;

	if (got == expected)
		return;
	va_start(arguments, format);
	vsnprintf(what, sizeof(what), format, arguments);
	va_end(arguments);
	test_fail(file, line, "%s: got %lld (%s), expected %lld (%s)", what, (long long)got,
		  got < 0 ? strerror((int)-got) : "", (long long)expected,
		  expected < 0 ? strerror((int)-expected) : "");
}

/* Marks the kernel log, so that a report in it can be traced to a test. */
static void log_to_kernel(const char *name)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	dprintf(fd, "kernel-tests: %s\n", name);
	close(fd);
}

static pid_t start(const struct test *test)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child != 0)
		return child;
	setpgid(0, 0);
	test->function(test->argument);
	fflush(stdout);
	_exit(EXIT_PASSED);
}

/* Waits up to `limit_s`; false when the child still runs then. */
static bool wait_for(pid_t child, unsigned limit_s, int *status)
{
	struct timespec pause = {.tv_nsec = 2000000};
	struct timespec now, end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += limit_s;
	for (;;) {
		if (waitpid(child, status, WNOHANG) == child)
			return true;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec > end.tv_sec)
			return false;
		nanosleep(&pause, NULL);
	}
}

static enum outcome judge(int status)
{
	if (WIFSIGNALED(status)) {
		printf("    ended by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
		return FAILED;
	}
	switch (WEXITSTATUS(status)) {
	case EXIT_PASSED:
		return PASSED;
	case EXIT_SKIPPED:
		return SKIPPED;
	default:
		return FAILED;
	}
}

static enum outcome run(const struct test *test)
{
	enum outcome outcome;
	pid_t child;
	int status;

	log_to_kernel(test->name);
	child = start(test);
	if (child < 0) {
		printf("    fork: %s\n", strerror(errno));
		return FAILED;
	}
	if (wait_for(child, test->limit_s, &status)) {
		outcome = judge(status);
	} else {
		printf("    no end after %u s\n", test->limit_s);
		outcome = FAILED;
		kill(child, SIGKILL);
		if (!wait_for(child, KILL_GRACE_S, &status)) {
			printf("    cannot be killed: the kernel holds it\n");
			return HUNG;
		}
	}
	kill(-child, SIGKILL);
	return outcome;
}

/* In a process of its own as well: it may end as a test does. */
static void clean_up(void)
{
	pid_t child = fork();

	if (child == 0) {
		test_clean_up();
		_exit(EXIT_PASSED);
	}
	waitpid(child, NULL, 0);
}

static void count(struct counts *counts, enum outcome outcome)
{
	counts->passed += outcome == PASSED;
	counts->failed += outcome == FAILED || outcome == HUNG;
	counts->skipped += outcome == SKIPPED;
}

int test_run_all(const struct test_options *options)
{
	static const char *const words[] = {"ok", "FAILED", "skipped", "HUNG"};
	struct counts counts = {0};
	size_t i;

	for (i = 0; i < test_count; i++) {
		enum outcome outcome;

		if (options->only && !strstr(tests[i].name, options->only))
			continue;
		if (options->list) {
			printf("%s\n", tests[i].name);
			continue;
		}
		outcome = run(&tests[i]);
		printf("%-8s %s\n", words[outcome], tests[i].name);
		fflush(stdout);
		count(&counts, outcome);
		if (outcome == FAILED && test_clean_up)
			clean_up();
		if (outcome == HUNG)
			break;
	}
	if (options->list)
		return 0;
	printf("seed %llu\n%u passed, %u failed, %u skipped\n", (unsigned long long)test_seed,
	       counts.passed, counts.failed, counts.skipped);
	return counts.failed || !counts.passed;
}
