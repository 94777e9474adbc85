#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Installs into an empty prefix, and builds and runs programs from outside against it.

The programs know of nothing but the prefix: one is C11 and finds the library through
pkg-config, the other is C++ and finds it through CMake.
"""
import os
import re
import shutil
import sys
import tempfile
import unittest

from common import files_below, run

SOURCE = os.environ["GDS_SOURCE_DIR"]
BUILD = os.environ["GDS_BUILD_DIR"]
OUTSIDE = os.path.join(SOURCE, "tests/package/outside")
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]

# All that may be installed, as patterns of the path below the prefix. What must be
# there has no question mark behind it.
EXPECTED = [
    (r"include/gds/gds\.h", True),
    # For backends from outside: apart, since it has a version of its own.
    (r"include/gds/backend\.h", True),
    (r"LIB/libgds\.so", True),
    (r"LIB/libgds\.so\.0", True),
    (r"LIB/libgds\.so\.0\.\d+\.\d+", True),
    (r"LIB/pkgconfig/gds\.pc", True),
    (r"LIB/cmake/gds/gds-(config|config-version|targets|targets-\w+)\.cmake", True),
    (r"bin/gds-bench", True),
    (r"share/man/man1/gds-bench\.1", True),
    # Made by doxygen: not where that is missing. test-man-pages looks at which there are.
    (r"share/man/man[37]/gds[\w-]*\.[37]", False),
    (r"share/doc/gds/LICENSE", True),
    (r"share/doc/gds/README\.md", True),
    (r"share/doc/gds/CHANGELOG\.md", True),
]


class InstallTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="gds-install-")
        staged = os.path.join(cls.folder, "staged")
        run("cmake", "--install", BUILD, "--prefix", staged)
        # Moved, so that a path which was baked in shows.
        cls.prefix = os.path.join(cls.folder, "prefix")
        os.rename(staged, cls.prefix)
        pc_file = next(path for path in files_below(cls.prefix) if path.endswith("gds.pc"))
        cls.lib = os.path.dirname(os.path.dirname(pc_file))
        cls.data = os.path.join(cls.folder, "data")
        with open(cls.data, "wb") as file:
            file.write(bytes(i * 7 % 251 for i in range(100_001)))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def test_installs_what_is_meant_to_be_and_no_more(self):
        files = files_below(self.prefix)
        for pattern, required in EXPECTED:
            pattern = pattern.replace("LIB", re.escape(self.lib))
            matching = {path for path in files if re.fullmatch(pattern, path)}
            if required:
                self.assertTrue(matching, f"nothing installed matches {pattern}")
            files -= matching
        self.assertEqual(files, set())

    def test_installs_the_man_pages_that_were_made(self):
        made = os.path.join(BUILD, "docs/man")
        if not os.path.isdir(made):
            self.skipTest("there are no man pages in this build: cmake said what they need")
        installed = {os.path.basename(path) for path in files_below(self.prefix)
                     if path.endswith((".3", ".7"))}
        self.assertEqual(installed, set(os.listdir(made)))

    def test_nothing_installed_names_the_build_or_source_folder(self):
        for path in files_below(self.prefix):
            if path.endswith((".pc", ".cmake", ".h", ".1", ".3", ".7")):
                with open(os.path.join(self.prefix, path), encoding="utf-8") as file:
                    text = file.read()
                self.assertNotIn(BUILD, text, path)
                self.assertNotIn(SOURCE, text, path)

    def test_c11_program_through_pkg_config(self):
        program = os.path.join(self.folder, "outside-c")
        environment = dict(os.environ, PKG_CONFIG_PATH=os.path.join(self.prefix, self.lib,
                                                                    "pkgconfig"))
        flags = run("pkg-config", "--cflags", "--libs", "gds", env=environment).split()
        run("gcc", "-std=c11", *STRICT, os.path.join(OUTSIDE, "outside.c"), "-o", program, *flags)
        self.check_program(program)

    def test_cpp_program_through_cmake(self):
        build = os.path.join(self.folder, "outside-cpp")
        run("cmake", "-G", "Ninja", "-S", OUTSIDE, "-B", build,
            f"-DCMAKE_PREFIX_PATH={self.prefix}",
            f"-DCMAKE_CXX_FLAGS={' '.join(STRICT)}")
        run("cmake", "--build", build)
        self.check_program(os.path.join(build, "outside"))

    def check_program(self, program):
        """Runs it: it reads the file through the library and says how many bytes came."""
        environment = dict(os.environ, LD_LIBRARY_PATH=os.path.join(self.prefix, self.lib))
        output = run(program, self.data, env=environment)
        version = re.search(r"^Version: (.*)$", self.read("pkgconfig/gds.pc"), flags=re.M)[1]
        self.assertEqual(output, f"gds {version}: 100001 bytes, all as in the file\n")

    def read(self, path):
        with open(os.path.join(self.prefix, self.lib, path), encoding="utf-8") as file:
            return file.read()


if __name__ == "__main__":
    sys.exit(unittest.main())
