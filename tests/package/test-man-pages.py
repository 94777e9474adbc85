#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the man pages that are made of the headers against the library and the headers.

Each exported call has a page; the pages have no mistake that man or mandoc would tell of, lead
to pages that are there, and their examples compile.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.environ["GDS_SOURCE_DIR"]
BUILD = os.environ["GDS_BUILD_DIR"]
PAGES = os.path.join(BUILD, "docs/man")
XML = os.path.join(BUILD, "docs/doxyfile-xml.d/xml")
MAKE_PAGES = os.path.join(SOURCE, "docs/man/make-pages.py")
HEADERS = [os.path.join(SOURCE, "include/gds", name) for name in ("gds.h", "backend.h")]
# What the fragments of the comments take as given.
AROUND = """
#include <errno.h>
#include <gds/backend.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>
int example(struct gds_reader *reader, struct gds_file *file, struct gds_buffer *buffer,
            struct gds_batch *batch);
int example(struct gds_reader *reader, struct gds_file *file, struct gds_buffer *buffer,
            struct gds_batch *batch)
{
%s
return 0;
}
"""


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def exported():
    lines = subprocess.run(["nm", "-D", "--defined-only", os.path.join(BUILD, "core/libgds.so")],
                           check=True, capture_output=True, text=True).stdout.splitlines()
    return {name.partition("@")[0] for _, kind, name in map(str.split, lines) if kind != "A"}


def pages():
    return sorted(os.path.join(PAGES, name) for name in os.listdir(PAGES))


def section(page, name):
    """The lines of a section, or None."""
    found = re.search(rf"^\.SH {name}\n(.*?)(?=^\.SH |\Z)", page, re.M | re.S)
    return found[1] if found else None


class ManPagesTest(unittest.TestCase):
    def test_every_exported_call_has_a_page(self):
        names = {os.path.basename(page)[:-2] for page in pages()}
        self.assertIn("gds_read", exported())
        self.assertEqual(exported() - names, set())

    def test_every_structure_and_enumeration_has_a_page(self):
        names = {os.path.basename(page)[:-2] for page in pages()}
        types = set(re.findall(r"^(?:struct|enum) (gds_\w+) \{", "".join(map(read, HEADERS)),
                               re.M))
        self.assertIn("gds_request", types)
        self.assertEqual(types - names, set())

    def test_pages_of_calls_have_the_sections_of_a_page(self):
        for name in sorted(exported()):
            page = read(os.path.join(PAGES, name + ".3"))
            sections = ["NAME", "LIBRARY", "SYNOPSIS", "DESCRIPTION", "SEE ALSO"]
            if not re.search(rf"^void {name}\(", page, re.M):
                sections.append("RETURN VALUE")
            for wanted in sections:
                self.assertTrue(section(page, wanted), f"{name}: no {wanted}")
            self.assertIn(name + "(", section(page, "SYNOPSIS"))

    def test_errors_of_the_header_are_those_of_the_page(self):
        for header in HEADERS:
            for comment, name in re.findall(r"/\*\*((?:(?!\*/).)*)\*/\nGDS_API\b[^;(]*?(gds_\w+)\(",
                                            read(header), re.S):
                page = read(os.path.join(PAGES, name + ".3"))
                wanted = [error.replace("-", "\\-")
                          for error in re.findall(r"@retval (\S+)", comment)]
                self.assertEqual(re.findall(r"^\.B (\S+)", section(page, "ERRORS") or "", re.M),
                                 wanted, name)

    def test_pages_lead_to_pages_that_are_there(self):
        there = {os.path.basename(page) for page in pages()} | {"gds-bench.1"}
        for page in pages():
            for name, number in re.findall(r"^\.BR \"?(?:struct |enum )?(\S+?)\"? \((\d)\)",
                                           read(page), re.M):
                self.assertIn(f"{name}.{number}".replace("\\", ""), there, page)

    def check_silent(self, *command):
        if not shutil.which(command[0]):
            self.skipTest(f"{command[0]} is not installed")
        done = subprocess.run([*command, *pages()], capture_output=True, text=True)
        self.assertEqual(done.stdout + done.stderr, "")
        self.assertEqual(done.returncode, 0)

    def test_groff_warns_of_nothing(self):
        self.check_silent("groff", "-man", "-ww", "-z", "-rCHECKSTYLE=3")

    def test_mandoc_finds_nothing(self):
        self.check_silent("mandoc", "-T", "lint")

    def test_examples_compile(self):
        fragments = [(header, fragment) for header in HEADERS for fragment in
                     re.findall(r"@code\n(.*?)@endcode", read(header), re.S)]
        self.assertTrue(fragments)
        for header, fragment in fragments:
            code = re.sub(r"^ \* ?", "", fragment, flags=re.M)
            with self.subTest(code=code):
                done = subprocess.run(
                    ["gcc", "-x", "c", "-std=gnu11", "-Wall", "-Wextra", "-Werror",
                     "-Wno-unused-parameter", "-fsyntax-only", "-I",
                     os.path.join(SOURCE, "include"), "-"],
                    input=AROUND % code, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_call_that_does_not_tell_its_return_value_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            xml = shutil.copytree(XML, os.path.join(folder, "xml"))
            path = os.path.join(xml, "group__explanations.xml")
            text, count = re.subn(r'<simplesect kind="return">.*?</simplesect>', "", read(path),
                                  flags=re.S)
            self.assertEqual(count, 1)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            done = subprocess.run([sys.executable, MAKE_PAGES, xml, os.path.join(folder, "man"),
                                   "0", *HEADERS], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr),
                         (1, "make-pages.py: gds_explain: its comment has no @return\n"))


if __name__ == "__main__":
    if not os.path.isdir(PAGES):
        print("skipped: there are no man pages in this build: cmake said what they need")
        sys.exit(77)
    unittest.main()
