# SPDX-License-Identifier: Apache-2.0
"""What the tests of the package have in common."""
import os
import subprocess


def run(*command, **options):
    """The output of a command; its errors are part of the test's failure."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n"
                             f"{done.stdout}{done.stderr}")
    return done.stdout


def files_below(folder):
    return {os.path.relpath(os.path.join(place, name), folder)
            for place, _, names in os.walk(folder) for name in names}
