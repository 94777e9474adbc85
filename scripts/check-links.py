#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Names each relative link of the Markdown files given that leads nowhere."""
import os
import re
import sys

LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)(?:#[^)]*)?\)")


def broken_links(path):
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"```.*?```", "", file.read(), flags=re.S)
    for target in LINK.findall(text):
        if "://" not in target and not target.startswith("mailto:"):
            if not os.path.exists(os.path.join(os.path.dirname(path), target)):
                yield target


def main(paths):
    found = [(path, target) for path in paths for target in broken_links(path)]
    for path, target in found:
        print(f"{path}: link to {target}, which is not there")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
