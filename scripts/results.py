#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts test cases, not programs, from what the test programs printed.

    results.py ctest STAGE JUNIT LOG RESULTS
                                           adds the cases of a ctest run to RESULTS
    results.py lines STAGE NAME STATUS OUTPUT RESULTS
                                           adds those of one program: its exit status
                                           and a file with its output
    results.py summary RESULTS             prints what failed and what was skipped and
                                           why, then `N passed, N failed, N skipped`

RESULTS has a line for each case: status, stage, name and reason, with tabs between.

Understood are the outputs of cmocka, of Python's unittest with -v, of the kernel's tests
(`ok NAME`, `FAILED NAME`, `HUNG NAME`, `skipped NAME`, after indented lines that say
why), and the plain line `N passed, N failed, N skipped`; any other program is one case by
its exit status. No program may hide trouble: one that ends badly without a failed case to
show for it is a failed case itself, a case that began and never ended has failed, and so
has a case that was skipped without a reason.
"""
import collections
import re
import sys
import xml.etree.ElementTree

Case = collections.namedtuple("Case", "status name reason")

CMOCKA_BEGIN = re.compile(r"\[ RUN      \] (.+)$")
CMOCKA_END = re.compile(r"\[(       OK |  SKIPPED |  FAILED  |  ERROR   )\] (.+)$")
CMOCKA_STATUS = {"OK": "passed", "SKIPPED": "skipped", "FAILED": "failed", "ERROR": "failed"}
UNITTEST_BEGIN = re.compile(r"^(\w+) \(([\w.]+)\)")
UNITTEST_END = re.compile(r"(?:^|\.\.\. .*?)(ok|FAIL|ERROR|expected failure|"
                          r"unexpected success|skipped (['\"])(.*)\2)$")
UNITTEST_RAN = re.compile(r"^Ran \d+ tests? in ")
UNITTEST_STATUS = {"ok": "passed", "expected failure": "passed", "FAIL": "failed",
                   "ERROR": "failed", "unexpected success": "failed"}
KERNEL_END = re.compile(r"^(ok      |FAILED  |HUNG    |skipped ) (\S.*)$")
KERNEL_STATUS = {"ok": "passed", "skipped": "skipped"}
PLAIN = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$")
TROUBLE = re.compile(r"(ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|"
                     r"Assertion .* failed|terminated by signal).*")
NO_REASON = "skipped without a reason"


def parse_cmocka(lines):
    """Cases of a cmocka program; one that began and did not end has the status None."""
    cases = []
    current, said = None, []
    for line in lines:
        begin, end = CMOCKA_BEGIN.search(line), CMOCKA_END.search(line)
        if begin:
            if current:
                cases.append(Case(None, current, ""))
            current, said = begin[1], []
        elif end and end[2] == current:
            status = CMOCKA_STATUS[end[1].strip()]
            cases.append(Case(status, current, reason_of(status, said)))
            current = None
        elif current and line.strip():
            said.append(line.strip())
    if current:
        cases.append(Case(None, current, ""))
    return cases


def reason_of(status, said):
    """Why a case was skipped or failed, from the lines that it printed."""
    said = [line for line in said if not line.endswith("Skipped!")]
    if status == "skipped":
        return said[-1] if said else ""
    if status == "failed":
        return next((line for line in said if line.startswith("[  ERROR")), said[-1] if said
                    else "").replace("[  ERROR   ] --- ", "")
    return ""


def parse_unittest(lines):
    cases = []
    current = None
    for line in lines:
        begin = UNITTEST_BEGIN.match(line)
        if begin:
            current = begin[1]
        end = UNITTEST_END.search(line)
        if end and current:
            skipped = end[1].startswith("skipped")
            status = "skipped" if skipped else UNITTEST_STATUS[end[1]]
            cases.append(Case(status, current, end[3] if skipped else ""))
            current = None
    if current and not any(line.startswith("Ran ") for line in lines):
        cases.append(Case(None, current, ""))
    return cases


def parse_kernel(lines):
    """Cases of the kernel's tests; the last indented line before one says why."""
    cases = []
    why = ""
    for line in lines:
        end = KERNEL_END.match(line)
        if end:
            status = KERNEL_STATUS.get(end[1].strip(), "failed")
            why = why.removeprefix("skipped: ") if status != "passed" else ""
            cases.append(Case(status, end[2], why))
            why = ""
        elif line.startswith("    "):
            why = line.strip()
    return cases


def parse_plain(lines):
    """Cases without names, from a closing line that counts them."""
    for line in reversed(lines):
        counts = PLAIN.match(line.strip())
        if counts:
            numbers = zip(("passed", "failed", "skipped"), counts.groups("0"))
            return [Case(status, f"case {i + 1} that {status}", "see the log")
                    for status, count in numbers for i in range(int(count))]
    return []


def cases_of(program, status, output, why=""):
    """The cases of one program. `status` is passed, failed or skipped, by its exit."""
    lines = output.splitlines()
    # In a VM programs of both kinds run in turn. Only a run of unittest that came to its end
    # is told from other words in parentheses; one that did not shows by its exit status.
    cases = parse_cmocka(lines)
    if not cases or any(UNITTEST_RAN.match(line) for line in lines):
        cases += parse_unittest(lines)
    cases = cases or parse_kernel(lines) or parse_plain(lines)
    if not cases:
        reason = why
        if status == "skipped":
            reason = next((line.strip() for line in reversed(lines) if line.strip()), "")
        cases = [Case(status, "", reason)]
    cases = [judge(program, case, why) for case in cases]
    if status == "failed" and not any(case.status == "failed" for case in cases):
        trouble = next((found[0] for found in map(TROUBLE.search, lines) if found), why)
        cases.append(Case("failed", program, trouble or "ended badly after its cases"))
    return cases


def judge(program, case, why):
    name = f"{program}: {case.name}" if case.name else program
    if case.status is None:
        return Case("failed", name, f"began and never ended ({why or 'the program ended'})")
    if case.status == "skipped" and not case.reason:
        return Case("failed", name, NO_REASON)
    return Case(case.status, name, case.reason)


def read_reasons(log):
    """Program to reason, such as Timeout, from the list that ends ctest's own output."""
    with open(log, encoding="utf-8", errors="replace") as file:
        return dict(re.findall(r"^\s*\d+ - (\S+) \((.+)\)$", file.read(), flags=re.M))


def read_ctest(junit, reasons):
    """(program, status, output, why) of each test of a ctest run."""
    for test in xml.etree.ElementTree.parse(junit).getroot().iter("testcase"):
        output = test.findtext("system-out") or ""
        skipped, failure = test.find("skipped"), test.find("failure")
        status, why = "passed", ""
        if skipped is not None:
            # ctest also says "skipped" of a program that was never built.
            why = skipped.get("message", "")
            status = "skipped" if why.startswith("SKIP_") else "failed"
        elif failure is not None or test.get("status") != "run":
            status, why = "failed", reasons.get(test.get("name"), "Failed")
        yield test.get("name"), status, output, why


def add(stage, cases, path):
    with open(path, "a", encoding="utf-8") as file:
        for case in cases:
            fields = (case.status, stage, case.name, case.reason)
            file.write("\t".join(" ".join(field.split()) for field in fields) + "\n")


def add_ctest(stage, junit, log, path):
    for program, status, output, why in read_ctest(junit, read_reasons(log)):
        cases = cases_of(program, status, output, why)
        add(stage, cases, path)
        failed = [case for case in cases if case.status == "failed"]
        if failed:
            print(f"--- {failed[0].name} ({stage}): {failed[0].reason}")
            print("\n".join(output.splitlines()[-80:]))


def add_lines(stage, name, exit_status, output, path):
    with open(output, encoding="utf-8", errors="replace") as file:
        text = file.read()
    status = {0: "passed", 77: "skipped"}.get(int(exit_status), "failed")
    add(stage, cases_of(name, status, text, f"exit status {exit_status}"), path)


def read_results(path):
    with open(path, encoding="utf-8") as file:
        for line in file:
            status, stage, name, reason = line.rstrip("\n").split("\t")
            yield stage, Case(status, name, reason)


def summary(path):
    """Prints the closing lines. True if something ran and nothing failed."""
    results = list(read_results(path))
    counts = collections.Counter(case.status for _, case in results)
    skips = collections.defaultdict(list)
    for stage, case in results:
        if case.status == "skipped":
            skips[case.reason].append(f"{stage}: {case.name}")
    if skips:
        print("Skipped, and why:")
    for reason, names in skips.items():
        print(f"  {reason}")
        print("".join(f"    {name}\n" for name in names), end="")
    if counts["failed"]:
        print("Failed:")
    for stage, case in results:
        if case.status == "failed":
            print(f"  {stage}: {case.name}" + (f": {case.reason}" if case.reason else ""))
    if not counts["passed"] + counts["failed"]:
        print("No test ran.")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return counts["passed"] > 0 and counts["failed"] == 0


def main(arguments):
    commands = {"ctest": (add_ctest, 4), "lines": (add_lines, 5)}
    if len(arguments) == 2 and arguments[0] == "summary":
        return 0 if summary(arguments[1]) else 1
    if arguments and arguments[0] in commands:
        call, count = commands[arguments[0]]
        if len(arguments) == count + 1:
            call(*arguments[1:])
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
