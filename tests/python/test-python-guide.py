#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The guide for Python does what it shows."""

import os
import sys
import unittest

from common import SOURCE, optional

sys.path.insert(0, os.path.join(SOURCE, "tests/support"))

from guides import follow  # noqa: E402


def prepare(folder):
    """`python` is the interpreter of the tests: by a script, since a link would lose its packages."""
    script = os.path.join(folder, "python")
    with open(script, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    os.chmod(script, 0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


class Guide(unittest.TestCase):
    maxDiff = None

    def test_python(self):
        optional("numpy")
        optional("safetensors")
        follow(self, "docs/guide-python.md", prepare)


if __name__ == "__main__":
    unittest.main()
