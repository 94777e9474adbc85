# SPDX-License-Identifier: Apache-2.0
"""Follows a guide, as its reader would.

A block of code that begins with a comment, "name.c: ...", is saved as that file, and one with
"name.c, continued: ..." is added to it; the commands of the blocks in between (```console) are run
in their order, in one folder. What they print must be what is shown, but for the names of paths,
which are the machine's: "…" stands for any text in a line, "..." for any lines.
"""

import os
import re
import subprocess
import tempfile

NAMED = re.compile(r"(?:/\*|#) (\w+\.(?:c|py))(, continued)?: ")
# What programs say where this machine lacks what they are about.
LACKING = re.compile(r"no Vulkan|Vulkan (loader|drivers) finds? no|run scripts/fetch-model")
TIMEOUT = 120  # seconds; only a hang takes that long


def read_guide(path):
    """The text of a guide, by its path in the tree."""
    with open(os.path.join(os.environ["GDS_SOURCE_DIR"], path), encoding="utf-8") as file:
        return file.read()


def blocks(text):
    """(language, contents) of each fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)


def steps(text):
    """What a guide has its reader do: (mode, name, text) and ("run", command, output)."""
    for language, body in blocks(text):
        named = NAMED.match(body)
        if named:
            yield "a" if named[2] else "w", named[1], body
        elif language == "console":
            for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", body, re.M):
                yield "run", command, output


def pattern(shown):
    """What output must match, for output as it is shown."""
    result = ""
    for line in shown.splitlines():
        if line == "...":
            result += r"(?:.*\n)*"
            continue
        line = re.escape(line).replace("…", ".*?")
        result += re.sub(r"\b(?:mapped|bounce|dmabuf)\b", "(?:mapped|bounce|dmabuf)", line) + r"\n"
    return rf"\A{result}\Z"


def follow(test, path, prepare):
    """Follows a guide. `prepare` is given the folder, and gives what it adds to the environment."""
    ran = 0
    with tempfile.TemporaryDirectory(prefix="gds-guide-") as folder:
        environment = {**os.environ, "LC_ALL": "C.UTF-8", **prepare(folder)}
        for step, what, text in steps(read_guide(path)):
            if step != "run":
                with open(os.path.join(folder, what), step, encoding="utf-8") as file:
                    file.write(text)
                continue
            done = subprocess.run(["sh", "-c", what], cwd=folder, env=environment, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT)
            if LACKING.search(done.stdout):
                test.skipTest(done.stdout.strip())
            test.assertRegex(done.stdout, pattern(text), f"$ {what}")
            ran += 1
    test.assertGreater(ran, 0)
