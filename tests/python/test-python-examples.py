#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The examples in Python do what they show, and so do the programs of the package's README."""

import asyncio
import collections
import os
import random
import re
import struct
import subprocess
import sys
import unittest

from common import SOURCE, TIMEOUT, TestCase, optional, real_model

EXAMPLES = os.path.join(SOURCE, "bindings", "python", "examples")
README = os.path.join(SOURCE, "bindings", "python", "README.md")


def example(name, *arguments, status=0):
    done = subprocess.run([sys.executable, os.path.join(EXAMPLES, name), *map(str, arguments)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=2 * TIMEOUT, env={**os.environ, "OMP_NUM_THREADS": "2"})
    if done.returncode != status:
        raise AssertionError(f"{name}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


class Embed(unittest.TestCase):
    def setUp(self):
        optional("torch")
        self.model = real_model()
        self.vocabulary = self.model.replace(".safetensors", ".vocabulary.txt")
        if not os.path.exists(self.vocabulary):
            self.skipTest("no vocabulary in the cache: scripts/fetch-model gets it")

    def test_a_real_model_embeds_sentences_equal_to_the_bit_to_the_reference(self):
        optional("safetensors")
        output = example("embed.py", "--compare", self.model, self.vocabulary,
                         "A drive writes into memory.", "The disk fills the RAM.",
                         "We had soup for lunch.")
        self.assertIn("equal to the bit", output)
        self.assertRegex(output, r"\d+ bytes by mapped")
        rows = [[float(number) for number in line.split()[:3]]
                for line in output.splitlines()[:3]]
        for i in range(3):
            self.assertAlmostEqual(rows[i][i], 1, places=3)
        # What the sentences mean: the first two are alike, the third is about something else.
        self.assertGreater(rows[0][1], 0.5)
        self.assertLess(max(rows[0][2], rows[1][2]), 0.2)


class Epoch(TestCase):
    WINDOW = 100

    def setUp(self):
        super().setUp()
        optional("numpy")
        chance = random.Random(4)
        self.files, self.counts = [], collections.Counter()
        for name, count in (("a", 7000), ("b", 12050)):
            # Squares, so that no two tokens are equally frequent.
            tokens = [int(chance.random() ** 2 * 300) for _ in range(count)]
            self.files.append(self.write(struct.pack(f"<{count}H", *tokens), name))
            # What is left at the end is no whole window.
            self.counts.update(tokens[: count // self.WINDOW * self.WINDOW])

    def check(self, output):
        found = {int(token): int(count)
                 for token, count in re.findall(r"^token +(\d+): (\d+) times", output, re.M)}
        self.assertEqual(sorted(found.values(), reverse=True),
                         [count for _, count in self.counts.most_common(5)])
        self.assertTrue(all(self.counts[token] == count for token, count in found.items()))
        self.assertIn(f"{sum(self.counts.values())} tokens", output)

    def test_an_epoch_counts_every_token_once(self):
        output = example("epoch.py", "--window", self.WINDOW, "--seed", 9, *self.files)
        self.check(output)
        self.assertRegex(output, r"\d+ bytes by")

    def test_an_epoch_that_was_interrupted_goes_on(self):
        options = ["--window", self.WINDOW, "--state", self.path("state"), *self.files]
        output = example("epoch.py", "--stop-after", 7, *options)
        self.assertIn(f"{7 * 8 * self.WINDOW} tokens, 7 of 24 batches", output)
        self.check(example("epoch.py", *options))


class Serve(TestCase):
    def test_many_clients_get_their_bytes_from_one_thread(self):
        one, first = self.random_file(3_000_000, "one")
        two, second = self.random_file(10_000, "two")
        socket = self.path("socket")
        server = subprocess.Popen([sys.executable, os.path.join(EXAMPLES, "serve.py"), socket,
                                   first, second], stdout=subprocess.PIPE, text=True)
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        self.assertEqual(server.stdout.readline(), "listening\n")

        async def client(seed):
            chance = random.Random(seed)
            lines, stream = await asyncio.open_unix_connection(socket)
            for _ in range(50):
                number, data = chance.choice([(0, one), (1, two)])
                offset, length = chance.randrange(len(data) + 10), chance.randrange(9000)
                stream.write(f"{number} {offset} {length}\n".encode())
                wanted = data[offset : offset + length]
                self.assertEqual(int(await lines.readline()), len(wanted))
                self.assertEqual(await lines.readexactly(len(wanted)), wanted)
            for bad in (b"7 0 1\n", b"nonsense\n", b"0 0 1000000\n", b"0 -1 5\n"):
                stream.write(bad)
                self.assertRegex(await lines.readline(), b"^error ")
            stream.close()

        async def main():
            await asyncio.wait_for(asyncio.gather(*map(client, range(40))), TIMEOUT)

        asyncio.run(main())
        server.terminate()
        self.assertRegex(server.communicate(timeout=TIMEOUT)[0], r"\d+ reads, \d+ bytes by")
        self.assertEqual(server.returncode, 0)


class Readme(TestCase):
    def test_every_program_of_the_readme_runs(self):
        """Each as it stands, in a folder with the files that it names."""
        optional("numpy")
        optional("torch")
        with open(README, encoding="utf-8") as file:
            programs = re.findall(r"```python\n(.*?)```", file.read(), re.S)
        self.assertGreaterEqual(len(programs), 4)
        os.symlink(real_model(), self.path("model.safetensors"))
        self.random_file(4 << 20, "tokens.bin")
        self.random_file(1 << 20, "data")
        with open(os.path.join(SOURCE, "README.md"), encoding="utf-8") as file:
            programs += re.findall(r"```python\n(.*?)```", file.read(), re.S)
        for program in programs:
            done = subprocess.run([sys.executable, "-c", program, "model.safetensors"], cwd=self.folder,
                                  text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=TIMEOUT)
            if "no device" in done.stdout or "no driver" in done.stdout:
                continue
            self.assertEqual(done.returncode, 0, f"{program}\n{done.stdout}")


if __name__ == "__main__":
    unittest.main()
