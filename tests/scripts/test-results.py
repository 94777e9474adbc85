#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/results.py: no crash, hang or silent skip may be counted as passed."""
import contextlib
import io
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["GDS_SOURCE_DIR"], "scripts"))
import results  # noqa: E402

CMOCKA = """[==========] Running 3 test(s).
[ RUN      ] reads_exactly
[       OK ] reads_exactly
[ RUN      ] reads_holes
some line[  ERROR   ] --- 0x1 != 0x2
[  ERROR   ] --- hole.c:7: error: Failure!
[  FAILED  ] reads_holes
[ RUN      ] reads_loop_device
no loop device here
hole.c:9: Skipped!
[  SKIPPED ] reads_loop_device
[==========] 3 test(s) run.
[  PASSED  ] 1 test(s).
[  SKIPPED ] 1 test(s), listed below:
[  SKIPPED ] reads_loop_device
[  FAILED  ] 1 test(s), listed below:
[  FAILED  ] reads_holes
"""

UNITTEST = """test_good (__main__.T.test_good) ... ok
test_bad (__main__.T.test_bad)
What it is for ... FAIL
test_not_here (__main__.T.test_not_here) ... skipped 'no device'

----------------------------------------------------------------------
Ran 3 tests in 0.001s
"""

KERNEL = """    under load: 24 reads good
ok       fault: 42 reads
    ring.c:1: Timer expired
FAILED   fault: disk dies
    skipped: injects no faults
skipped  fault: out of memory
    the kernel holds it
HUNG     fault: stuck
seed 7
1 passed, 2 failed, 1 skipped
"""


def statuses(cases):
    return [(case.status, case.name.rpartition(": ")[2]) for case in cases]


class ResultsTest(unittest.TestCase):
    def test_cmocka_cases_are_counted_once_each(self):
        cases = results.cases_of("test-x", "failed", CMOCKA)
        self.assertEqual(statuses(cases), [("passed", "reads_exactly"),
                                           ("failed", "reads_holes"),
                                           ("skipped", "reads_loop_device")])
        self.assertEqual(cases[2].reason, "no loop device here")

    def test_unittest_cases_are_counted_once_each(self):
        cases = results.cases_of("test-x", "failed", UNITTEST)
        self.assertEqual(statuses(cases), [("passed", "test_good"), ("failed", "test_bad"),
                                           ("skipped", "test_not_here")])
        self.assertEqual(cases[2].reason, "no device")

    def test_programs_of_both_kinds_are_counted_together(self):
        cases = results.cases_of("run", "failed", CMOCKA + UNITTEST)
        self.assertEqual([case.status for case in cases], ["passed", "failed", "skipped"] * 2)
        cases = results.cases_of("run", "failed", CMOCKA + "copy (of.them)\n")
        self.assertEqual(len(cases), 3)

    def test_a_script_may_run_programs_of_both_kinds(self):
        cases = results.cases_of("run", "failed", CMOCKA + UNITTEST)
        self.assertEqual([case.status for case in cases],
                         ["passed", "failed", "skipped", "passed", "failed", "skipped"])

    def test_cases_of_the_kernel_have_names_and_reasons(self):
        cases = results.cases_of("kernel-tests", "failed", KERNEL)
        self.assertEqual(statuses(cases), [("passed", "42 reads"), ("failed", "disk dies"),
                                           ("skipped", "out of memory"), ("failed", "stuck")])
        self.assertEqual([case.reason for case in cases],
                         ["", "ring.c:1: Timer expired", "injects no faults",
                          "the kernel holds it"])

    def test_plain_line_is_counted(self):
        cases = results.cases_of("kernel", "failed", "log\n2 passed, 1 failed, 1 skipped\n")
        self.assertEqual([case.status for case in cases],
                         ["passed", "passed", "failed", "skipped"])

    def test_crash_in_a_case_fails_that_case(self):
        cases = results.cases_of("test-x", "failed", "[ RUN      ] a\n[       OK ] a\n"
                                 "[ RUN      ] b\n", "SEGFAULT")
        self.assertEqual(statuses(cases), [("passed", "a"), ("failed", "b")])
        self.assertIn("SEGFAULT", cases[1].reason)

    def test_hang_fails_the_case_that_hung(self):
        cases = results.cases_of("test-x", "failed", "[ RUN      ] b\n", "Timeout")
        self.assertEqual(statuses(cases), [("failed", "b")])
        self.assertIn("Timeout", cases[0].reason)

    def test_clean_exit_in_the_middle_of_a_case_fails_it(self):
        cases = results.cases_of("test-x", "passed", "[ RUN      ] b\n")
        self.assertEqual(statuses(cases), [("failed", "b")])

    def test_bad_exit_after_good_cases_fails_the_program(self):
        output = "[ RUN      ] a\n[       OK ] a\n==1==ERROR: LeakSanitizer: leaks\n"
        cases = results.cases_of("test-x", "failed", output)
        self.assertEqual(statuses(cases)[0], ("passed", "a"))
        self.assertEqual(cases[1].status, "failed")
        self.assertIn("LeakSanitizer", cases[1].reason)

    def test_skip_without_a_reason_fails(self):
        output = "[ RUN      ] a\nx.c:9: Skipped!\n[  SKIPPED ] a\n"
        self.assertEqual(statuses(results.cases_of("test-x", "passed", output)),
                         [("failed", "a")])
        self.assertEqual(results.cases_of("test-x", "skipped", "")[0].status, "failed")

    def test_script_is_one_case_by_its_exit(self):
        self.assertEqual(results.cases_of("t", "passed", "hello\n")[0].status, "passed")
        self.assertEqual(results.cases_of("t", "failed", "hello\n")[0].status, "failed")
        self.assertEqual(results.cases_of("t", "skipped", "why\n")[0],
                         results.Case("skipped", "t", "why"))

    def test_program_that_was_not_built_fails(self):
        junit = ('<testsuite><testcase name="t" status="notrun">'
                 '<skipped message="Unable to find executable"/></testcase></testsuite>')
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(junit)
            file.flush()
            self.assertEqual([test[:2] for test in results.read_ctest(file.name, {})],
                             [("t", "failed")])

    def test_reason_is_taken_from_the_log_of_ctest(self):
        junit = ('<testsuite><testcase name="t" status="fail"><failure message=""/>'
                 '<system-out>[ RUN      ] a</system-out></testcase></testsuite>')
        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, name) for name in ("junit", "log", "results")]
            for path, text in zip(paths, (junit, "\t  2 - t (Timeout)\n")):
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
            with contextlib.redirect_stdout(io.StringIO()):
                results.add_ctest("dev", *paths)
            (_, case), = results.read_results(paths[2])
        self.assertEqual(case.status, "failed")
        self.assertIn("Timeout", case.reason)

    def check_summary(self, lines, last, good):
        with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
            file.write(lines)
            file.flush()
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                self.assertEqual(results.summary(file.name), good)
        self.assertEqual(output.getvalue().splitlines()[-1], last)
        return output.getvalue()

    def test_summary_names_failures_and_reasons_of_skips(self):
        text = self.check_summary("passed\tdev\ta\t\nfailed\tdev\tb\tboom\n"
                                  "skipped\tasan\tc\tno device\n",
                                  "1 passed, 1 failed, 1 skipped", False)
        self.assertIn("dev: b: boom", text)
        self.assertIn("no device\n    asan: c", text)

    def test_run_without_a_test_fails(self):
        self.check_summary("", "0 passed, 0 failed, 0 skipped", False)
        self.check_summary("skipped\tdev\ta\tno device\n", "0 passed, 0 failed, 1 skipped",
                           False)

    def test_good_run_passes(self):
        self.check_summary("passed\tdev\ta\t\n", "1 passed, 0 failed, 0 skipped", True)


if __name__ == "__main__":
    unittest.main()
