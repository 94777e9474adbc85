#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the Debian packages of this build, unpacks them, and runs what came out."""
import glob
import os
import shutil
import sys
import tempfile
import unittest

from common import files_below, run

BUILD = os.environ["GDS_BUILD_DIR"]
NAMES = {"libgds0", "libgds-dev", "gds-tools"}


class PackagesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for tool in ("cpack", "dpkg-deb", "dpkg-shlibdeps"):
            if not shutil.which(tool):
                raise unittest.SkipTest(f"no {tool} here (dpkg-dev)")
        cls.folder = tempfile.mkdtemp(prefix="gds-packages-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        made = os.path.join(cls.folder, "made")
        run("cpack", "--config", os.path.join(BUILD, "CPackConfig.cmake"), "-B", made)
        cls.packages = {os.path.basename(path).partition("_")[0]: path
                        for path in glob.glob(os.path.join(made, "*.deb"))}
        cls.roots = {}
        for name, path in cls.packages.items():
            cls.roots[name] = os.path.join(cls.folder, name)
            run("dpkg-deb", "-x", path, cls.roots[name])

    def field(self, name, field):
        return run("dpkg-deb", "-f", self.packages[name], field).strip()

    def test_there_is_one_for_each_kind_of_user(self):
        self.assertEqual(set(self.packages), NAMES)

    def test_what_cmake_installs_is_in_one_of_them_each(self):
        prefix = os.path.join(self.folder, "installed")
        run("cmake", "--install", BUILD, "--prefix", prefix)
        packed = []
        for name, root in self.roots.items():
            files = files_below(os.path.join(root, "usr"))
            self.assertIn(f"share/doc/{name}/copyright", files)
            packed += files - {f"share/doc/{name}/copyright"}
        self.assertEqual(sorted(packed), sorted(files_below(prefix)))

    def test_man_pages_of_calls_go_with_the_headers(self):
        made = os.path.join(BUILD, "docs/man")
        if not os.path.isdir(made):
            self.skipTest("there are no man pages in this build: cmake said what they need")
        packed = {os.path.basename(path) for path in files_below(self.roots["libgds-dev"])}
        self.assertEqual(set(os.listdir(made)) - packed, set())

    def test_they_depend_on_what_they_need(self):
        version = self.field("libgds0", "Version")
        for name in ("libgds-dev", "gds-tools"):
            self.assertIn(f"libgds0 (= {version})", self.field(name, "Depends"))
        self.assertIn("liburing2", self.field("libgds0", "Depends"))
        self.assertIn("libvulkan1", self.field("libgds0", "Recommends"))

    def test_the_tool_runs_with_the_library_of_the_other(self):
        library, = (os.path.join(self.roots["libgds0"], path)
                    for path in files_below(self.roots["libgds0"]) if path.endswith("libgds.so.0"))
        said = run(os.path.join(self.roots["gds-tools"], "usr/bin/gds-bench"), "--version",
                   env={"LD_LIBRARY_PATH": os.path.dirname(library)})
        self.assertIn(self.field("gds-tools", "Version").partition("-")[0], said)


if __name__ == "__main__":
    sys.exit(unittest.main())
