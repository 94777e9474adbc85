#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goes through token files for an epoch, as a training does, and counts the tokens.

    epoch.py [OPTION...] FILE...

The files hold numbers of 16 bits, one behind the other. Batches of windows come in a shuffled
order, and are read into the memory of a device while the last batch is worked on; here the
work is to count how often each token comes. Prints the most frequent ones, how long the work
had to wait for its data, and the way that the bytes took.

Interrupt it, and call it again with the same --state FILE: it goes on where it was. Under
torchrun each process takes its share.
"""

import argparse
import json
import os
import time

import numpy

import gds
import gds.datasets


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--window", type=int, default=1024, help="tokens of one sample")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, vulkan:0, or another of gds")
    parser.add_argument("--state", help="where to save how far it is")
    parser.add_argument("--stop-after", type=int, help="end after so many batches")
    arguments = parser.parse_args()

    tokens = gds.datasets.records(arguments.files, "uint16", (arguments.window,))
    loader = gds.datasets.Loader(tokens, arguments.batch_size, device=arguments.device,
                                 shuffle=True, seed=arguments.seed, framework="np")
    counts = numpy.zeros(1 << 16, dtype=numpy.int64)
    if arguments.state and os.path.exists(arguments.state):
        with open(arguments.state, encoding="utf-8") as file:
            saved = json.load(file)
        loader.load_state_dict(saved["loader"])
        counts[:] = saved["counts"]

    waited, batches, started = 0.0, 0, time.monotonic()
    coming = iter(loader)
    while batches != arguments.stop_after:
        before = time.monotonic()
        batch = next(coming, None)
        waited += time.monotonic() - before
        if batch is None:
            break
        counts += numpy.bincount(batch.ravel(), minlength=len(counts))
        batches += 1
    seconds = time.monotonic() - started

    if arguments.state:
        with open(arguments.state, "w", encoding="utf-8") as file:
            json.dump({"loader": loader.state_dict(), "counts": counts.tolist()}, file)
    for token in counts.argsort(kind="stable")[::-1][:5]:
        print(f"token {token:5}: {counts[token]} times")
    print(f"{counts.sum()} tokens, {batches} of {len(loader)} batches, {seconds:.3f} s, "
          f"of which {waited:.3f} s for data")
    print(gds.default_reader())


if __name__ == "__main__":
    main()
