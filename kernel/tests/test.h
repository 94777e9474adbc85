/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A test is a function run in a process of its own: it passes by returning, fails
 * or skips by exiting, and what it holds is released by its end. A process that
 * outlives its time limit, even when killed, counts as a hang of the kernel.
 */
#ifndef KERNEL_TESTS_TEST_H
#define KERNEL_TESTS_TEST_H

#include <stdbool.h>
#include <stdint.h>

typedef void test_function(const void *argument);

/* `argument` must live until test_run_all returns. */
void test_add(test_function *function, const void *argument, unsigned limit_s,
	      const char *name_format, ...) __attribute__((format(printf, 4, 5)));

struct test_options {
	const char *only; /* runs tests whose name contains it, all if NULL */
	bool list;
};

/* Called after each test that failed, to undo what it may have left. */
extern void (*test_clean_up)(void);

/* Prints a line for each test and the counts; the program's exit status. */
int test_run_all(const struct test_options *options);

_Noreturn void test_fail(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
_Noreturn void test_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(condition, ...)                                                                      \
	do {                                                                                       \
		if (!(condition))                                                                  \
			FAIL(__VA_ARGS__);                                                         \
	} while (0)

/* Compares two integers and prints both. */
#define CHECK_EQ(got, expected, ...) test_check_eq(__FILE__, __LINE__, (got), (expected), __VA_ARGS__)
void test_check_eq(const char *file, int line, int64_t got, int64_t expected, const char *format,
		   ...) __attribute__((format(printf, 5, 6)));

/* The seed of this run; printed with the counts. */
extern uint64_t test_seed;

/* How much longer things take: 1, or more with the debug kernel. */
unsigned test_slowness(void);

#endif
