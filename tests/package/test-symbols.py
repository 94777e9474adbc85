#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds what libgds.so exports against the public header and the version map.

A call that is declared but not exported cannot be linked; one that is exported but
not declared is an ABI that nobody meant to promise.
"""
import os
import re
import subprocess
import tempfile
import unittest

SOURCE = os.environ["GDS_SOURCE_DIR"]
BUILD = os.environ["GDS_BUILD_DIR"]
HEADER = os.path.join(SOURCE, "include/gds/gds.h")
MAP = os.path.join(SOURCE, "core/gds.map")
LIBRARY = os.path.join(BUILD, "core/libgds.so")


def read_code(path):
    """The text of a C-like file without its comments."""
    with open(path, encoding="utf-8") as file:
        return re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)


def declared():
    return set(re.findall(r"^GDS_API\b[^;(]*?(\w+)\(", read_code(HEADER), flags=re.M))


def mapped():
    """Symbol to version node."""
    symbols = {}
    for node, body in re.findall(r"(\w[\w.]*)\s*\{(.*?)\}", read_code(MAP), flags=re.S):
        names = body.split("global:")[1].split("local:")[0]
        for name in re.findall(r"[\w*]+", names):
            symbols[name] = node
    return symbols


def exported():
    """Symbol to version node, as the dynamic linker sees them."""
    lines = subprocess.run(
        ["nm", "-D", "--defined-only", "--with-symbol-versions", LIBRARY],
        check=True, capture_output=True, text=True).stdout.splitlines()
    symbols = {}
    for line in lines:
        address, kind, name = line.split()
        symbol, _, version = name.partition("@@")
        if kind != "A":  # the version nodes themselves
            symbols[symbol] = version
    return symbols


class SymbolsTest(unittest.TestCase):
    def test_header_declares_something(self):
        self.assertIn("gds_reader_open", declared())

    def test_every_declared_call_is_in_the_map(self):
        self.assertEqual(declared() - set(mapped()), set())

    def test_the_map_names_nothing_that_is_not_declared(self):
        self.assertEqual(set(mapped()) - declared(), set())

    def test_the_library_exports_what_the_map_names_and_no_more(self):
        self.assertEqual(exported(), mapped())

    def test_the_header_stands_alone_in_c11_and_cpp(self):
        for language, standard in (("c", "c11"), ("c++", "c++11")):
            with self.subTest(language), tempfile.TemporaryDirectory() as folder:
                source = os.path.join(folder, "alone")
                with open(source, "w", encoding="utf-8") as file:
                    file.write("#include <gds/gds.h>\n")
                subprocess.run(
                    ["gcc" if language == "c" else "g++", "-x", language, f"-std={standard}",
                     "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only",
                     "-I", os.path.join(SOURCE, "include"), source], check=True)

    def test_soname_is_that_of_the_abi(self):
        dynamic = subprocess.run(["readelf", "-d", LIBRARY], check=True, capture_output=True,
                                 text=True).stdout
        self.assertRegex(dynamic, r"SONAME.*\[libgds\.so\.0\]")


if __name__ == "__main__":
    unittest.main()
