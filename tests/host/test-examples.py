#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The programs of examples/, as users would run them, on this machine's first Vulkan device.

The model of `nearest` comes from the cache that scripts/fetch-model fills; nothing is
downloaded here. What needs no real model is shown with one of a few words.
"""
import json
import math
import os
import random
import re
import struct
import subprocess
import tempfile
import unittest
import zlib

BUILD = os.environ["GDS_BUILD_DIR"]
CACHE = os.environ.get("GDS_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "gds")
MODEL = os.path.join(CACHE, "models/all-MiniLM-L6-v2.safetensors")
VOCABULARY = os.path.join(CACHE, "models/all-MiniLM-L6-v2.vocabulary.txt")
LAYER = "VK_LAYER_KHRONOS_validation"
LAYER_FILE = "/usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json"
TENSOR = "embeddings.word_embeddings.weight"
NO_VULKAN = re.compile(r"no Vulkan (loader|driver|1\.2 device)|Vulkan (loader finds|drivers find) no")


class ExampleTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="gds-examples-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name, data=None):
        path = os.path.join(self.folder, name)
        if data is not None:
            with open(path, "wb") as file:
                file.write(data)
        return path

    def run_example(self, name, *arguments, status=0, input=None, stdin=None, **environment):
        """Its output, of which an unexpected exit status is a failure."""
        program = os.path.join(BUILD, "examples", name)
        if not os.path.exists(program):
            self.skipTest(f"{name} was not built: cmake said what it lacks")
        source = {"input": input} if input is not None else {"stdin": stdin}
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True,
                              env={**os.environ, **environment}, timeout=120, **source)
        if done.returncode == 1 and NO_VULKAN.search(done.stderr):
            self.skipTest(done.stderr.strip())
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout if status == 0 else done.stderr

    def assert_valid(self, *command):
        """The validation layers have nothing to say of the program."""
        if not os.path.exists(LAYER_FILE):
            self.skipTest(f"{LAYER} is not installed")
        output = self.run_example(
            *command, VK_INSTANCE_LAYERS=LAYER,
            VK_LAYER_ENABLES="VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT")
        self.assertNotRegex(output, "(?i)validation|VUID|SYNC-HAZARD")


class VulkanMinimal(ExampleTest):
    def test_adds_up_what_was_read(self):
        data = random.Random(1).randbytes((3 << 20) + 77)
        words = memoryview(data)[:3 << 20].cast("I")
        output = self.run_example("vulkan-minimal", self.path("data", data))
        self.assertIn(f"0x{sum(words) & 0xffffffff:08x} is the sum of {3 << 20} bytes", output)

    def test_validation_layers_find_nothing(self):
        self.assert_valid("vulkan-minimal", self.path("data", bytes(1 << 20)))

    def test_says_what_is_wrong(self):
        self.assertIn("name a file", self.run_example("vulkan-minimal", status=1))
        self.assertIn("/nonexistent/file",
                      self.run_example("vulkan-minimal", "/nonexistent/file", status=1))
        self.assertIn("less than a block",
                      self.run_example("vulkan-minimal", self.path("small", b"?"), status=1))


DEVICES = ("host", "vulkan")


class StreamShards(ExampleTest):
    def shards(self):
        numbers = random.Random(3)
        sizes = [0, 1, 4095, 4096, (20 << 20) + 3, 8 << 20, 0] + [numbers.randrange(9000)
                                                                  for _ in range(60)]
        for i, size in enumerate(sizes):
            yield self.path(f"shard{i}", numbers.randbytes(size))

    def test_checksums_are_those_of_the_files(self):
        shards = {}
        for path in self.shards():
            with open(path, "rb") as file:
                data = file.read()
            shards[path] = (f"{zlib.crc32(data):08x}", len(data))
        for device in DEVICES:
            with self.subTest(device):
                output = self.run_example("stream-shards", "--device", device, *shards)
                found = re.findall(r"^([0-9a-f]{8}) +(\d+)  (.*)$", output, re.M)
                self.assertEqual({path: (crc, int(size)) for crc, size, path in found}, shards)
                self.assertEqual(len(found), len(shards))
                carried = sum(map(int, re.findall(r"^(\d+) bytes by the path", output, re.M)))
                self.assertEqual(carried, sum(size for _, size in shards.values()))

    def test_says_what_is_wrong(self):
        for arguments in ([], ["--device"], ["--device", "host"]):
            self.assertIn("Usage", self.run_example("stream-shards", *arguments, status=2))
        self.assertIn("/nonexistent/shard", self.run_example(
            "stream-shards", "--device", "host", "/nonexistent/shard", status=1))
        self.assertIn("no backend", self.run_example(
            "stream-shards", "--device", "nosuch", self.path("shard", b"?"), status=1))


class CustomBackend(ExampleTest):
    def test_reads_into_memory_of_its_own(self):
        data = random.Random(5).randbytes((2 << 20) + 9)
        path = self.path("data", data)
        for device, carrier in (("memfd", "mapped"), ("memfd:card", "bounce")):
            with self.subTest(device):
                output = self.run_example("custom-backend", device, path)
                self.assertIn("memfd: memory shared between processes", output)
                self.assertIn(f"CRC-32 {zlib.crc32(data):08x}, of the buffer and of its memfd",
                              output)
                self.assertRegex(output, f"\\d{{7}} bytes by the path {carrier}")

    def test_says_what_is_wrong(self):
        path = self.path("data", b"data")
        self.assertIn("no device memfd:x",
                      self.run_example("custom-backend", "memfd:x", path, status=1))
        self.assertIn("there is nothing to read",
                      self.run_example("custom-backend", "memfd", self.path("empty", b""), status=1))
        for most in ("0", "12x", "-1", ""):
            self.assertIn("Usage", self.run_example("custom-backend", "memfd", path, most, status=2))
        self.assertIn("not of a registered backend",
                      self.run_example("custom-backend", "host", path, status=1))


class Epoll(ExampleTest):
    def serve(self, requests, device):
        return self.run_example("epoll", device, input=requests)

    def test_answers_every_request(self):
        numbers = random.Random(4)
        data = numbers.randbytes(3_000_001)
        path = self.path("a file", data)
        expected = {f"0 1 {self.path('absent')}": "cannot open", f"0 4194305 {path}": "at most",
                    "not a request": "no OFFSET", f"0 9 {self.folder}": "directory",
                    f"{len(data)} 10 {path}": "0 bytes, CRC-32 00000000"}
        for _ in range(60):
            offset, length = numbers.randrange(len(data)), numbers.randrange(900_000)
            piece = data[offset:offset + length]
            expected[f"{offset} {length} {path}"] = \
                f"{len(piece)} bytes, CRC-32 {zlib.crc32(piece):08x}"
        for device in DEVICES:
            with self.subTest(device):
                # The last line lacks its end.
                answers = self.serve("\n".join(expected), device).splitlines()
                self.assertEqual(len(answers), len(expected))
                for request, answer in expected.items():
                    (line,) = [line for line in answers if line.startswith(request + ": ")]
                    self.assertIn(answer, line)

    def test_answers_while_more_requests_may_come(self):
        path = self.path("data", b"abc" * 1000)
        program = os.path.join(BUILD, "examples/epoll")
        with subprocess.Popen([program, "host"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True) as process:
            for length in (3, 300, 3000):
                process.stdin.write(f"0 {length} {path}\n")
                process.stdin.flush()
                self.assertIn(f"{length} bytes", process.stdout.readline())
            process.stdin.close()
            self.assertEqual(process.wait(timeout=60), 0)

    def test_says_what_is_wrong(self):
        with open(self.path("requests", b"0 1 x\n"), "rb") as requests:
            self.assertIn("must be a pipe", self.run_example("epoll", "host", stdin=requests,
                                                             status=1))
        self.assertIn("a line of more", self.run_example("epoll", "host", input="x" * 9000,
                                                         status=1))


class UringDmabuf(ExampleTest):
    """Without the series of kernel/ it can only refuse; in the VM it reads."""

    def test_says_what_is_wrong(self):
        self.assertIn("Usage", self.run_example("uring-dmabuf", status=2))
        self.assertIn("/nonexistent/disk: No such file",
                      self.run_example("uring-dmabuf", "/nonexistent/disk", status=1))
        if os.path.exists("/sys/block/nvme0n1/queue/dma_buf"):
            self.skipTest("this kernel has the series")
        error = self.run_example("uring-dmabuf", os.path.join(BUILD, "examples/epoll"), status=1)
        self.assertRegex(error, "load the module udmabuf|lacks the series|O_DIRECT|Invalid")


def safetensors(rows, before=0, dtype="F32"):
    """A file with the rows as its matrix, behind `before` bytes of another tensor."""
    data = b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)
    header = json.dumps({
        "before": {"dtype": "U8", "shape": [before], "data_offsets": [0, before]},
        "list": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]},
        "cube": {"dtype": "F32", "shape": [0, 2, 2], "data_offsets": [0, 0]},
        TENSOR: {"dtype": dtype, "shape": [len(rows), len(rows[0])],
                 "data_offsets": [before, before + len(data)]},
    }).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + bytes(before) + data


def cosine(a, b):
    return math.sumprod(a, b) / math.hypot(*a) / math.hypot(*b) if hasattr(math, "sumprod") \
        else sum(x * y for x, y in zip(a, b)) / math.hypot(*a) / math.hypot(*b)


def listed(output):
    """The words of the answer with their cosines, in its order."""
    return [(word, float(value))
            for value, word in re.findall(r"^ +\d+  (-?\d\.\d{4})  (.*)$", output, re.M)]


def read_png(path):
    """Width, height and rows of an RGB PNG, whose filters are left as they are."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("no PNG")
    width, height = struct.unpack(">II", data[16:24])
    at, packed = 8, b""
    while at < len(data):
        (length,) = struct.unpack(">I", data[at:at + 4])
        if data[at + 4:at + 8] == b"IDAT":
            packed += data[at + 8:at + 8 + length]
        at += 12 + length
    return width, height, zlib.decompress(packed)


def run_tool(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class FailingDevice:
    """A block device that holds the data, and fails reads from byte `good` on."""

    def __init__(self, path, good):
        self.name = f"gds-examples-{os.getpid()}"
        self.loop = run_tool("losetup", "--find", "--show", path)
        sectors = os.path.getsize(path) // 512
        table = (f"0 {good // 512} linear {self.loop} 0\n"
                 f"{good // 512} {sectors - good // 512} error\n")
        try:
            run_tool("dmsetup", "create", self.name, "--table", table)
        except subprocess.CalledProcessError:
            run_tool("losetup", "--detach", self.loop)
            raise
        # The kernel's own node: that in /dev/mapper is udev's, which need not be there.
        self.path = "/dev/" + run_tool("dmsetup", "info", "--columns", "--noheadings",
                                       "--options", "blkdevname", self.name)

    def close(self):
        run_tool("dmsetup", "remove", "--retry", self.name)
        run_tool("losetup", "--detach", self.loop)


class NearestInSmall(ExampleTest):
    """A model of a few words, whose answers are computed here, too."""

    def setUp(self):
        super().setUp()
        numbers = random.Random(2)
        self.words = [f"word{i}" for i in range(500)] + ["##piece", "[MARK]", "x"]
        self.rows = [[numbers.uniform(-1, 1) for _ in range(17)] for _ in self.words]
        self.vocabulary = self.path("vocabulary", "\n".join(self.words).encode() + b"\n")

    def run_nearest(self, model, *arguments, **options):
        return self.run_example("nearest", "--model", model, "--vocabulary", self.vocabulary,
                                *arguments, **options)

    def expected(self, word, count):
        at = self.words.index(word)
        all_words = [(cosine(row, self.rows[at]), other)
                     for other, row in zip(self.words[:500], self.rows) if other != word]
        return sorted(all_words, reverse=True)[:count]

    def check(self, output, word, count):
        answer, expected = listed(output), self.expected(word, count)
        self.assertEqual([word for word, _ in answer], [word for _, word in expected])
        for (_, given), (wanted, _) in zip(answer, expected):
            self.assertAlmostEqual(given, wanted, delta=1e-4)
        self.assertIn("Checked against the CPU", output)

    def test_finds_the_nearest_wherever_the_matrix_lies(self):
        for before in (0, 4, 4092, 100_004):
            with self.subTest(before):
                # More behind it, so that its last block is a whole one.
                model = self.path("model", safetensors(self.rows, before) + bytes(5000))
                self.check(self.run_nearest(model, "--count", 7, "word17"), "word17", 7)

    def test_finds_a_model_inside_a_larger_file(self):
        model = self.path("model", bytes(8192) + safetensors(self.rows) + bytes(5000))
        self.check(self.run_nearest(model, "--at", 8192, "word3"), "word3", 12)

    def test_every_path_gives_the_same(self):
        model = self.path("model", safetensors(self.rows) + bytes(5000))
        for path in ("mapped", "bounce"):
            with self.subTest(path):
                output = self.run_nearest(model, "--path", path, "word8")
                self.check(output, "word8", 12)
                self.assertRegex(output, f"by the path {path}, [0-9]+ bytes, in")

    def test_a_read_that_fails_ends_the_program_and_not_its_queue(self):
        # The header in the good part, the matrix in the other: the work on it is submitted
        # already when the read fails, and must not be waited for in vain.
        data = safetensors(self.rows, 1 << 20)
        path = self.path("model", data + bytes(-len(data) % (1 << 20)))
        try:
            device = FailingDevice(path, 1 << 20)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or str(error)
            self.skipTest(f"no device-mapper device here: {reason.strip().splitlines()[0]}")
        self.addCleanup(device.close)
        for choice in ("mapped", "bounce"):
            with self.subTest(choice):
                error = self.run_nearest(device.path, "--path", choice, "word1", status=1)
                self.assertIn(device.path, error)
                self.assertIn("nput/output error", error)

    def test_reads_up_to_the_last_byte_of_a_file(self):
        model = self.path("model", safetensors(self.rows))
        self.check(self.run_nearest(model, "word8"), "word8", 12)

    def test_says_what_is_wrong(self):
        good = safetensors(self.rows) + bytes(5000)
        cases = [
            ("no safetensors file", os.urandom(7) + b"\xff" + bytes(100), ["word1"]),
            ("no safetensors file", struct.pack("<Q", 8) + b"{'a': 1}", ["word1"]),
            ("ends at", good[:50], ["word1"]),
            ("is of type F64", safetensors(self.rows, dtype="F64"), ["word1"]),
            ("no tensor absent", good, ["--tensor", "absent", "word1"]),
            ("has 503 words, and the matrix 600 rows", safetensors(self.rows + self.rows[:97]),
             ["word1"]),
            ("has more words than", safetensors(self.rows[:9]), ["word1"]),
            ('"nothing" is none of the 503 words', good, ["nothing"]),
            ("a number from 0 to", good, ["--at", "-1", "word1"]),
            ("a number from 1 to 1000", good, ["--count", "0", "word1"]),
            ("no matrix: its shape has 1 dimensions", good, ["--tensor", "list", "word1"]),
            ("no matrix: its shape has 3 dimensions", good, ["--tensor", "cube", "word1"]),
            ("auto, dmabuf, mapped or bounce", good, ["--path", "nosuch", "word1"]),
        ]
        for message, data, arguments in cases:
            with self.subTest(message):
                error = self.run_nearest(self.path("model", data), *arguments, status=1)
                self.assertIn(message, error)
        error = self.run_device("no such device")
        if "no Vulkan driver" not in error:
            self.assertRegex(error, "no Vulkan 1.2 device.*\nthere is: .")
        for words, count in (([], 0), (["word1", "word2"], 2)):
            error = self.run_nearest(self.path("model", good), *words, status=2)
            self.assertIn(f"one word is wanted, and there are {count}\n\nUsage: nearest", error)

    def run_device(self, name):
        program = os.path.join(BUILD, "examples/nearest")
        model = self.path("model", safetensors(self.rows))
        return subprocess.run([program, "--model", model, "--vocabulary", self.vocabulary,
                               "--device", name, "word1"], capture_output=True, text=True).stderr

    def test_validation_layers_find_nothing(self):
        model = self.path("model", safetensors(self.rows) + bytes(5000))
        self.assert_valid("nearest", "--model", model, "--vocabulary", self.vocabulary, "word1")


class NearestInTheModel(ExampleTest):
    def setUp(self):
        super().setUp()
        for path in (MODEL, VOCABULARY):
            if not os.path.exists(path):
                self.skipTest(f"no {os.path.basename(path)} in the cache: run scripts/fetch-model")

    def test_knows_who_is_near_a_king_and_draws_them(self):
        png = self.path("king.png")
        output = self.run_example("nearest", "--png", png, "king", GDS_CACHE=CACHE)
        self.assertRegex(output, r"by the path \w+, 46886912 bytes, in [0-9.]+ ms; the ")
        self.assertIn("Checked against the CPU: 30522 cosines", output)
        self.assertLessEqual({"kings", "queen", "monarch", "prince"},
                             {word for word, _ in listed(output)[:5]})
        width, height, rows = read_png(png)
        self.assertEqual((width, height), (1400, 1000))
        # A drawing, not a blank: paper, text in many shades, coloured dots.
        self.assertGreater(len(set(rows)), 200)

    def test_a_picture_that_cannot_be_written_is_an_error(self):
        error = self.run_example("nearest", "--png", "/nonexistent/king.png", "king", status=1,
                                 GDS_CACHE=CACHE)
        self.assertIn("cannot write /nonexistent/king.png: No such file or directory", error)


if __name__ == "__main__":
    unittest.main()
