#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the README shows is what is there: its program, and the links of its words."""
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(os.environ["GDS_SOURCE_DIR"])
BUILD = Path(os.environ["GDS_BUILD_DIR"])


class Readme(unittest.TestCase):
    def setUp(self):
        self.text = (SOURCE / "README.md").read_text()

    def test_program_is_the_example_that_is_built(self):
        shown = re.search(r"```c\n(.*?)```", self.text, re.S).group(1)
        program = (SOURCE / "examples/minimal.c").read_text()
        self.assertTrue(program.endswith(shown), "README.md and examples/minimal.c differ")

    def test_program_reads_a_file(self):
        with tempfile.NamedTemporaryFile() as file:
            file.write(os.urandom(3 << 20))
            file.flush()
            run = subprocess.run([BUILD / "examples/minimal", file.name],
                                 capture_output=True, text=True)
        if "vulkan" in run.stderr.lower():
            self.skipTest(f"no Vulkan device here: {run.stderr.strip()}")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("1048576 bytes arrived", run.stdout)

    def test_program_says_what_is_wrong(self):
        run = subprocess.run([BUILD / "examples/minimal", "/nonexistent/file"],
                             capture_output=True, text=True)
        if "vulkan" in run.stderr.lower():
            self.skipTest(f"no Vulkan device here: {run.stderr.strip()}")
        self.assertEqual(run.returncode, 1)
        self.assertIn("/nonexistent/file", run.stderr)


if __name__ == "__main__":
    unittest.main()
