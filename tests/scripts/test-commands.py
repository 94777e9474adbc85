#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The project's commands answer bad arguments at once, and say what they would do.

Nothing here installs, builds or downloads: these are the answers that must come first.
"""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

SOURCE = os.environ["GDS_SOURCE_DIR"]
COMMANDS = ["demo.sh", "test.sh", "scripts/check", "scripts/install-packages"]


def run(command, *arguments, folder="/"):
    return subprocess.run([os.path.join(SOURCE, command), *arguments], cwd=folder,
                          capture_output=True, text=True, timeout=30)


class CommandsTest(unittest.TestCase):
    def test_help_goes_to_standard_output(self):
        for command in COMMANDS:
            with self.subTest(command):
                done = run(command, "--help")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertIn("Usage: ", done.stdout)

    def test_unknown_option_is_a_usage_error(self):
        for command in COMMANDS:
            with self.subTest(command):
                done = run(command, "--no-such-option")
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertTrue(done.stderr)

    def test_unknown_stage_is_a_usage_error(self):
        done = run("test.sh", "--stage", "nosuch")
        self.assertEqual(done.returncode, 2)
        self.assertIn("nosuch", done.stderr)

    def test_every_listed_stage_has_its_function(self):
        with open(os.path.join(SOURCE, "test.sh"), encoding="utf-8") as file:
            functions = set(re.findall(r"^stage_(\w+)\(\)", file.read(), flags=re.M))
        listed = [line.split()[0] for line in run("test.sh", "--list").stdout.splitlines()]
        self.assertIn("dev", listed)
        self.assertLessEqual({name.replace("-", "_") for name in listed}, functions)

    def test_every_package_says_what_it_is_for(self):
        with open(os.path.join(SOURCE, "scripts/packages.txt"), encoding="utf-8") as file:
            lines = [line.split() for line in file if line.strip() and line[0] != "#"]
        self.assertTrue(lines)
        self.assertEqual([line for line in lines if len(line) < 3], [])


class DemoFileTest(unittest.TestCase):
    """A FILE that cannot be read is refused in one line, before anything else is done."""

    def check_refused(self, path, reason, folder="/", options=()):
        done = run("demo.sh", *options, path, folder=folder)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn(path, done.stderr)
        self.assertIn(reason, done.stderr)

    def test_missing_file(self):
        self.check_refused("no/such/file", "no such file")

    def test_directory(self):
        self.check_refused("/", "directory")

    def test_character_device(self):
        self.check_refused("/dev/null", "neither a regular file nor a block device")

    def test_fifo_does_not_block(self):
        with tempfile.TemporaryDirectory() as folder:
            os.mkfifo(os.path.join(folder, "fifo"))
            self.check_refused("fifo", "neither a regular file nor a block device", folder)

    def test_empty_file(self):
        with tempfile.TemporaryDirectory() as folder:
            open(os.path.join(folder, "empty"), "wb").close()
            self.check_refused("empty", "empty", folder)

    def test_file_that_the_virtual_drive_cannot_hold(self):
        with tempfile.NamedTemporaryFile() as file:
            file.truncate((7 << 30) + 1)
            self.check_refused(file.name, "over 7 GiB", options=["--direct"])

    def test_unreadable_file(self):
        # Root may read everything, so that it runs a copy as nobody, who may read nothing.
        nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            path, command = os.path.join(folder, "secret"), os.path.join(folder, "demo.sh")
            with open(path, "wb") as file:
                file.write(b"x")
            os.chmod(path, 0)
            shutil.copy(os.path.join(SOURCE, "demo.sh"), command)
            # What sanitizer builds preload may lie where nobody cannot read it either.
            environment = {name: value for name, value in os.environ.items()
                           if name != "LD_PRELOAD"}
            done = subprocess.run([command, path], cwd="/", capture_output=True, text=True,
                                  env=environment, timeout=30, **nobody)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(done.stderr, f"demo.sh: {path}: no permission to read it\n")


if __name__ == "__main__":
    unittest.main()
