# SPDX-License-Identifier: Apache-2.0
"""Builds the C library into the wheel.

The library is built from the tree that this folder is in, by CMake. GDS_WHEEL_LIBRARY names
one that is built already. The wheel is of one platform, and of any Python: there is no
compiled extension. `auditwheel repair` gives it a manylinux tag, and puts the libraries
in that libgds.so needs.
"""

import os
import re
import shutil
import subprocess
import sysconfig
import tempfile

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SONAME = "libgds.so.0"


def version() -> str:
    """Of the C project, of which there is but one version."""
    with open(os.path.join(ROOT, "CMakeLists.txt"), encoding="utf-8") as file:
        found = re.search(r"project\(gds VERSION ([\d.]+)", file.read())
    if not found:
        raise SystemExit(f"no version of gds in {ROOT}/CMakeLists.txt")
    return found[1]


def build_library(destination: str) -> None:
    with tempfile.TemporaryDirectory(prefix="gds-wheel-") as folder:
        configure = ["cmake", "-S", ROOT, "-B", folder, "-DCMAKE_BUILD_TYPE=Release",
                     "-DBUILD_TESTING=OFF",
                     # manylinux leaves zlib to the system, and promises but an old one.
                     "-DZLIB_USE_STATIC_LIBS=ON"]
        if shutil.which("ninja"):
            configure += ["-G", "Ninja"]
        try:
            subprocess.run(configure, check=True)
            subprocess.run(["cmake", "--build", folder, "--target", "gds", "--parallel"],
                           check=True)
        except FileNotFoundError:
            raise SystemExit("building gds needs CMake and a C compiler: "
                             "scripts/install-packages build installs what is missing") from None
        shutil.copyfile(os.path.realpath(os.path.join(folder, "core", SONAME)), destination)


class BuildWithLibrary(build_py):
    def run(self) -> None:
        # What an earlier build left there would go into the wheel, too.
        shutil.rmtree(os.path.join(self.build_lib, "gds"), ignore_errors=True)
        super().run()
        if self.editable_mode:
            return  # the library is the system's, or GDS_LIBRARY's
        destination = os.path.join(self.build_lib, "gds", SONAME)
        os.makedirs(os.path.dirname(destination), exist_ok=True)
        built = os.environ.get("GDS_WHEEL_LIBRARY")
        if built:
            shutil.copyfile(os.path.realpath(built), destination)
        else:
            build_library(destination)


class PlatformWheel(bdist_wheel):
    def get_tag(self) -> "tuple[str, str, str]":
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        return "py3", "none", platform


class BinaryDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return True


setup(
    version=version(),
    cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": PlatformWheel},
    distclass=BinaryDistribution,
)
