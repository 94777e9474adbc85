# SPDX-License-Identifier: GPL-2.0-only
"""Finds in the guest's kernel log what must fail a run."""

import pathlib
import re

KNOWN_LINES_FILE = pathlib.Path(__file__).parent / "known-log-lines"

# What a kernel prints when it is not well. Matched anywhere in a line.
BAD = re.compile(
    r"WARNING: |BUG: |BUG at |KASAN: |UBSAN: |KCSAN: |Oops|general protection fault"
    r"|Kernel panic|INFO: task .* blocked for more than|INFO: rcu|rcu:.*stall"
    r"|INFO: possible |INFO: suspicious |possible circular locking|inconsistent lock state"
    r"|INFO: trying to register non-static key|Bad page state|list_add corruption"
    r"|list_del corruption|refcount_t: |DMA-API: |DEBUG_LOCKS_WARN_ON|kmemleak: \d+ new"
    r"|unreferenced object|held lock freed|lock held when returning|soft lockup"
    r"|hard LOCKUP|DMAR: .*fault|double fault|stack-protector|scheduling while atomic"
    r"|sleeping function called|ODEBUG: |page dumped because|slab-use|\[Hardware Error\]"
    r"|Attempted to kill init|Unable to mount root"
)
CONTEXT_LINES = 60
EXPRESSION_LINES = 12  # that a known expression may span


def known_harmless():
    """The list of known reports: one regular expression a line, reasons in comments."""
    lines = KNOWN_LINES_FILE.read_text().splitlines()
    return [re.compile(line, re.MULTILINE) for line in lines if line and not line.startswith("#")]


def explains(known, lines, number):
    """Whether the expression is found from this line on: it begins within that line."""
    text = "\n".join(lines[number : number + EXPRESSION_LINES])
    found = known.search(text)
    return found is not None and found.start() <= len(lines[number])


def findings(log_text, allowed):
    """Numbers of the lines that neither the list nor the caller explains."""
    harmless = known_harmless() + [re.compile(text, re.MULTILINE) for text in allowed]
    lines = log_text.splitlines()
    return [
        number
        for number, line in enumerate(lines)
        if BAD.search(line) and not any(explains(known, lines, number) for known in harmless)
    ]


def report(log_text, numbers):
    """The lines found, each with what follows it, every line once."""
    lines = log_text.splitlines()
    shown = []
    next_line = 0
    for number in numbers:
        start = max(number - 3, next_line)
        end = min(number + CONTEXT_LINES, len(lines))
        if start < end:
            shown += lines[start:end]
            next_line = end
    return "\n".join(shown)
