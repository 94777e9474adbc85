#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the trace points of libgds.so against what docs/tracing.md says of them."""
import os
import re
import subprocess
import sys
import unittest

SOURCE = os.environ["GDS_SOURCE_DIR"]
BUILD = os.environ["GDS_BUILD_DIR"]
LIBRARY = os.path.join(BUILD, "core/libgds.so")


def built_in():
    with open(os.path.join(BUILD, "CMakeCache.txt"), encoding="utf-8") as cache:
        text = cache.read()
    return re.search(r"^GDS_HEADER_SDT:INTERNAL=1$", text, re.MULTILINE) and \
        re.search(r"^GDS_PROBES:BOOL=ON$", text, re.MULTILINE)


def probes():
    """Name to the set of its numbers of arguments."""
    notes = subprocess.run(["readelf", "-n", LIBRARY], check=True, capture_output=True,
                           text=True).stdout
    found = {}
    for name, arguments in re.findall(r"Provider: gds\n\s+Name: (\w+)\n.*\n\s+Arguments: (.*)",
                                      notes):
        # -4@%eax 8@8(%rbx) 8@$0
        count = len(re.findall(r"-?\d+@", arguments))
        found.setdefault(name, set()).add(count)
    return found


def documented():
    with open(os.path.join(SOURCE, "docs/tracing.md"), encoding="utf-8") as file:
        rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", file.read(), re.MULTILINE)
    return {name: {len(re.sub(r"\([^)]*\)", "", text).split(";"))} for name, text in rows}


class ProbesTest(unittest.TestCase):
    def test_each_is_documented_with_all_its_arguments(self):
        self.assertEqual(probes(), documented())


if __name__ == "__main__":
    if not built_in():
        print("skipped: built without trace points (systemtap-sdt-dev)")
        sys.exit(77)
    unittest.main()
