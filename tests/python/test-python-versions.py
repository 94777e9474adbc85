#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The package's tests, where no package is needed, with the oldest Python and with the newest.

An interpreter is looked for by its name in PATH, and among those of pyenv.
"""

import glob
import os
import subprocess
import unittest

from common import SOURCE

TIMEOUT = 240  # seconds; only a hang takes that long
TESTS = ("memory", "reads", "hostile", "safetensors", "datasets", "cuda", "vulkan")


def version_of(python):
    """(major, minor) of an interpreter that runs, or None."""
    try:
        done = subprocess.run([python, "-I", "-c", "import sys; print(*sys.version_info[:2])"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=TIMEOUT,
                              check=False)
    except OSError:
        return None
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else None


def interpreter(version):
    """The path of an interpreter, or the test is skipped."""
    name = ".".join(map(str, version))
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    for python in (f"python{name}", f"/usr/bin/python{name}",
                   *sorted(glob.glob(f"{pyenv}/versions/{name}.*/bin/python"))):
        if version_of(python) == version:
            return python
    raise unittest.SkipTest(f"there is no Python {name} here, neither in PATH nor of pyenv")


class Versions(unittest.TestCase):
    def run_with(self, version):
        python = interpreter(version)
        for test in TESTS:
            with self.subTest(test=test):
                done = subprocess.run(
                    [os.path.join(SOURCE, "tests/python/run"), f"test-python-{test}.py"],
                    env={**os.environ, "GDS_TEST_PYTHON": python}, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT, check=False)
                self.assertEqual(done.returncode, 0, done.stdout)
                self.assertRegex(done.stdout, r"Ran \d+ tests")

    def test_the_oldest_python(self):
        self.run_with((3, 9))

    def test_the_newest_python(self):
        self.run_with((3, 13))


if __name__ == "__main__":
    unittest.main()
