#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds what libgds.so exports against the public headers and the version map.

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
HEADERS = [os.path.join(SOURCE, "include/gds", name) for name in ("gds.h", "backend.h")]
MAP = os.path.join(SOURCE, "core/gds.map")
LIBRARY = os.path.join(BUILD, "core/libgds.so")


def read_code(path):
    """The text of a C-like file without its comments."""
    with open(path, encoding="utf-8") as file:
        return re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)


def declared():
    return {name for header in HEADERS
            for name in re.findall(r"^GDS_API\b[^;(]*?(\w+)\(", read_code(header), flags=re.M)}


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
    def test_headers_declare_something(self):
        self.assertLessEqual({"gds_reader_open", "gds_backend_register"}, declared())

    def test_no_header_is_forgotten_here(self):
        self.assertEqual(sorted(os.listdir(os.path.join(SOURCE, "include/gds"))),
                         sorted(map(os.path.basename, HEADERS)))

    def test_every_declared_call_is_in_the_map(self):
        self.assertEqual(declared() - set(mapped()), set())

    def test_the_map_names_nothing_that_is_not_declared(self):
        self.assertEqual(set(mapped()) - declared(), set())

    def test_the_library_exports_what_the_map_names_and_no_more(self):
        self.assertEqual(exported(), mapped())

    def test_each_header_stands_alone_in_c11_and_cpp(self):
        for header in map(os.path.basename, HEADERS):
            for language, standard in (("c", "c11"), ("c++", "c++11")):
                with self.subTest(f"{header} {language}"):
                    self.check_alone(header, language, standard)

    def check_alone(self, header, language, standard):
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "alone")
            with open(source, "w", encoding="utf-8") as file:
                file.write(f"#include <gds/{header}>\n")
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
