#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The guides do what they show, against the library of the build; so does the examples' README."""
import os
import sys
import unittest

SOURCE = os.environ["GDS_SOURCE_DIR"]
BUILD = os.environ["GDS_BUILD_DIR"]
sys.path.insert(0, os.path.join(SOURCE, "tests/support"))
sys.dont_write_bytecode = True

from guides import blocks, follow, read_guide  # noqa: E402

PC_FILE = f"""Name: gds
Description: of the build
Version: 0
Libs: -L{BUILD}/core -lgds -Wl,-rpath,{BUILD}/core
Cflags: -I{SOURCE}/include -Wall -Wextra -Werror
"""


def prepare(folder):
    """What pkg-config finds there is the build's library, with warnings as errors."""
    os.symlink(BUILD, os.path.join(folder, "build"))
    with open(os.path.join(folder, "gds.pc"), "w", encoding="utf-8") as file:
        file.write(PC_FILE)
    return {"PKG_CONFIG_PATH": folder}


class Guides(unittest.TestCase):
    maxDiff = None

    def test_c(self):
        follow(self, "docs/guide-c.md", prepare)

    def test_vulkan(self):
        if not os.path.exists("/usr/include/vulkan/vulkan.h"):
            self.skipTest("no Vulkan headers here (Debian: libvulkan-dev)")
        follow(self, "docs/guide-vulkan.md", prepare)

    def test_examples(self):
        if not os.path.exists(os.path.join(BUILD, "examples/nearest")):
            self.skipTest("nearest was not built: cmake said what it lacks")
        follow(self, "examples/README.md", prepare)

    def test_kernel_shows_the_example_that_is_built(self):
        ((_, shown),) = [block for block in blocks(read_guide("docs/guide-kernel.md")) if block[0] == "c"]
        with open(os.path.join(SOURCE, "examples/uring-dmabuf.c"), encoding="utf-8") as file:
            self.assertTrue(file.read().endswith(shown),
                            "docs/guide-kernel.md and examples/uring-dmabuf.c differ")


if __name__ == "__main__":
    unittest.main()
