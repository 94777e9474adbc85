#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""safetensors files: the same tensors as the reference package, and no file that it refuses."""

import collections
import importlib.util
import json
import math
import os
import random
import re
import struct
import unittest

import gds
from gds import safetensors
from gds.safetensors import SafetensorError, load_file, safe_open

from common import MIB, TestCase, collect, optional, real_model, vulkan_device

FLOATS = {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}


def entry(**changes):
    return {**FLOATS, **changes}


def pack(header, data=bytes(range(64))):
    """A file; the header is an object, or its bytes."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


# What must be refused, by name. Where the reference takes a file that the format's text
# forbids, STRICTER names it.
ATTACKS = {
    "empty file": b"",
    "no whole length": b"1234567",
    "length over the cap": struct.pack("<Q", 100_000_001) + b"{}",
    "length of 2^63": struct.pack("<Q", 1 << 63) + b"{}",
    "length beyond the end": struct.pack("<Q", 1000) + b"{}",
    "empty header": pack(b""),
    "no JSON": pack(b"{nonsense"),
    "bytes behind the JSON": pack(json.dumps({"a": entry()}).encode() + b"\0\0"),
    "a list": pack([]),
    "a space first": pack(b" " + json.dumps({"a": entry()}).encode()),
    "bad UTF-8": pack(json.dumps({"a": entry()}).encode().replace(b'"a"', b'"a\xff"')),
    "half a character": pack(json.dumps({"a\ud800": entry()}).encode()),
    "a byte order mark": pack(b"\xef\xbb\xbf" + json.dumps({"a": entry()}).encode()),
    "duplicate tensor": pack(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2)),
    "duplicate field": pack(json.dumps({"a": entry()}).encode().replace(b'"shape"', b'"dtype"')),
    "duplicate key by an escape": pack(
        b'{"a":%s,"\\u0061":%s}' % ((json.dumps(entry()).encode(),) * 2)),
    "duplicate metadata": pack(
        b'{"__metadata__":{"x":"1","x":"2"},"a":%s}' % json.dumps(entry()).encode()),
    "deep nesting": pack(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "tensor is a list": pack({"a": ["F32", [16], [0, 64]]}),
    "tensor is null": pack({"a": None}),
    "no dtype": pack({"a": {"shape": [16], "data_offsets": [0, 64]}}),
    "no shape": pack({"a": {"dtype": "F32", "data_offsets": [0, 64]}}),
    "no offsets": pack({"a": {"dtype": "F32", "shape": [16]}}),
    "unknown dtype": pack({"a": entry(dtype="F31")}),
    "dtype is no string": pack({"a": entry(dtype=32)}),
    "negative extent": pack({"a": entry(shape=[-16])}),
    "two negative extents": pack({"a": entry(shape=[-4, -4])}),
    "fraction": pack({"a": entry(shape=[16.0])}),
    "boolean extent": pack({"a": entry(dtype="U8", shape=[True, 64])}),
    "extent is a string": pack({"a": entry(shape=["16"])}),
    "shape is no list": pack({"a": entry(shape=16)}),
    "extent over 64 bits": pack({"a": entry(shape=[1 << 64])}),
    "product over 64 bits": pack({"a": entry(shape=[1 << 63, 1 << 63])}),
    "product that wraps round": pack({"a": entry(shape=[1 << 62, 4, 16])}),
    "number of 5000 digits": pack(
        json.dumps({"a": entry()}).encode().replace(b"16", b"1" * 5000)),
    "NaN": pack(json.dumps({"a": entry()}).encode().replace(b"16", b"NaN")),
    "three offsets": pack({"a": entry(data_offsets=[0, 64, 64])}),
    "one offset": pack({"a": entry(data_offsets=[64])}),
    "negative offset": pack({"a": entry(data_offsets=[-64, 0])}),
    "offsets the wrong way": pack({"a": entry(data_offsets=[64, 0])}),
    "offset out of range": pack({"a": entry(data_offsets=[0, 1 << 40], shape=[1 << 38])}),
    "size smaller than shape": pack({"a": entry(data_offsets=[0, 60])}, bytes(60)),
    "size larger than shape": pack({"a": entry(data_offsets=[0, 68])}, bytes(68)),
    "size of another type": pack({"a": entry(dtype="F64")}),
    "overlap": pack({"a": entry(), "b": entry(data_offsets=[32, 96])}, bytes(96)),
    "the same bytes twice": pack({"a": entry(), "b": entry()}),
    "a gap": pack({"a": entry(), "b": entry(data_offsets=[68, 132])}, bytes(132)),
    "a gap at the start": pack({"a": entry(data_offsets=[4, 68])}, bytes(68)),
    "bytes behind the tensors": pack({"a": entry()}, bytes(65)),
    "a byte less": pack({"a": entry()}, bytes(63)),
    "half a byte": pack({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}}, b"1"),
    "unknown field that is nested too deep": pack(
        json.dumps({"a": entry(extra=0)}).encode().replace(b": 0}", b": " + b"[" * 126
                                                          + b"]" * 126 + b"}")),
    "half a character in an unknown field": pack({"a": entry(extra={"x": "\ud800"})}),
    "half a character as an unknown field": pack({"a": {**entry(), "\udc00": 1}}),
    "a number beyond all": pack(
        json.dumps({"a": entry(extra=0)}).encode().replace(b": 0}", b": 1e999}")),
    "metadata with a number": pack({"__metadata__": {"x": 1}, "a": entry()}),
    "metadata is a list": pack({"__metadata__": ["x"], "a": entry()}),
    "metadata is a tensor": pack({"__metadata__": entry(), "a": entry()}),
}
STRICTER = {"a space first", "duplicate tensor", "duplicate key by an escape",
            "duplicate metadata", "tensor is a list"}
STRICTER_REASONS = r"does not begin with '\{'$|is there twice$|tensor '.*': no object$"

# What is unusual and valid.
VALID = {
    "nothing": pack({}, b""),
    "padding behind the JSON": pack(json.dumps({"a": entry()}).encode() + b"     "),
    "metadata": pack({"__metadata__": {"format": "pt", "\u00e9": ""}, "a": entry()}),
    "null metadata": pack({"__metadata__": None, "a": entry()}),
    "unknown field": pack({"a": entry(extra=[1, {"x": 2}])}),
    "any number in an unknown field": pack({"a": entry(extra=[1.5, -3, 1 << 70, 1e-300])}),
    "unknown field that is nested": pack(
        json.dumps({"a": entry(extra=0)}).encode().replace(b": 0}", b": " + b"[" * 125
                                                          + b"]" * 125 + b"}")),
    "empty tensors": pack({"a": entry(), "b": entry(shape=[0], data_offsets=[0, 0]),
                           "c": entry(shape=[3, 0], data_offsets=[64, 64])}),
    "no dimensions": pack({"a": entry(shape=[], data_offsets=[0, 4])}, b"1234"),
    "empty name": pack({"": entry()}),
}

# What may stand for a value, in JSON or not quite.
VALUES = (
    "-0", "0.0", "1e2", "-1", "1.5", "1e-999", "1e999", "NaN", "Infinity", "01", "+1", "1.",
    "0x10", "1_0", "18446744073709551615", "18446744073709551616", "9" * 400, "null", "true",
    '""', '"a"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\1"', '"\\x"', "'a'", "{}", "[]",
    '{"x":1.5}', '{"x":"\\ud800"}', '{"x":1,"x":2}', "/**/1",
    *("[" * depth + "]" * depth for depth in (100, 124, 125, 126, 127, 200)),
)
PIECES = (b"", b"0", b"9", b"-", b"[", b"]", b'"', b" ", b"\n", b"\t", b"\0", b"\v", b"{", b"}", b",",
          b":", b"\\", b"\\u0061", b"\xc3\xa9", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff")


def to_json(value):
    """JSON, in which a tuple of one string is what is to stand there as it is."""
    if isinstance(value, tuple):
        return value[0]
    if isinstance(value, dict):
        return "{%s}" % ",".join(f"{json.dumps(k)}:{to_json(v)}" for k, v in value.items())
    if isinstance(value, list):
        return "[%s]" % ",".join(map(to_json, value))
    return json.dumps(value)


def random_header(chance):
    """A valid header, in any order, and how many bytes its tensors have."""
    header, at = {}, 0
    for name in chance.sample(["a", "b", "", "\u00e9", "a.b", '"'], chance.randrange(4)):
        dtype = chance.choice(list(safetensors._DTYPES))
        shape = [chance.choice([0, 1, 2, 3, 4, 8, 16]) for _ in range(chance.randrange(4))]
        # Half a byte at the end is what some take for a whole one, and others for none.
        bits = math.prod(shape) * safetensors._DTYPES[dtype].bits
        nbytes = (bits + chance.choice([0, 7])) // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + nbytes]}
        at += nbytes
    if chance.random() < 0.4:
        header["__metadata__"] = chance.choice([{}, {"k": "v", "": "\u00e9"}, None,
                                                (chance.choice(VALUES),)])
    items = list(header.items())
    chance.shuffle(items)
    return dict(items), at


def spoil(chance, header):
    """Changes something about a tensor."""
    name = chance.choice([name for name in header if name != "__metadata__"])
    tensor, value = header[name], (chance.choice(VALUES),)
    if not isinstance(tensor, dict) or len(tensor) < 3:
        return
    field = chance.choice(list(tensor))
    kind = chance.randrange(6)
    if kind == 0:
        tensor[chance.choice(["extra", ""])] = value
    elif kind == 1:
        del tensor[field]
    elif kind == 2:
        tensor[field] = value
    elif kind == 3:
        header[name] = value
    elif isinstance(tensor[field], list):
        new = chance.choice([value, 0, 1, 8, 1 << 32, 1 << 63])
        tensor[field][len(tensor[field]) - (kind == 4) :] = [new]


def random_file(chance):
    """A file that is, or is nearly, one of safetensors."""
    header, nbytes = random_header(chance)
    if header.keys() - {"__metadata__"}:
        for _ in range(chance.choice([0, 1, 1, 1, 2])):
            spoil(chance, header)
    raw = bytearray(to_json(header), "utf-8")
    for _ in range(chance.choice([0, 0, 0, 1, 2, 3])):
        at = chance.randrange(len(raw) + 1)
        piece = chance.choice([*PIECES, bytes([chance.randrange(256)])])
        raw[at : at + chance.randrange(3)] = piece
    raw += chance.choice([b""] * 6 + [b" ", b"\n", b"\0", b"{}"])
    length = len(raw)
    if chance.random() < 0.05:
        length = chance.choice([0, length - 1, length + 1, 1 << 63, (1 << 64) - 1, 100_000_001])
    nbytes = max(nbytes + chance.choice([0] * 12 + [-1, 1, 8]), 0)
    return struct.pack("<Q", max(length, 0)) + bytes(raw) + bytes(nbytes)


class Headers(TestCase):
    def test_every_attack_is_refused(self):
        for name, content in ATTACKS.items():
            with self.subTest(name):
                with self.assertRaises(SafetensorError) as caught:
                    safetensors.read_header(self.write(content))
                self.assertIn(self.path("data"), str(caught.exception))

    def test_the_reference_refuses_the_same(self):
        reference = optional("safetensors")
        optional("numpy")
        for name, content in ATTACKS.items():
            with self.subTest(name):
                try:
                    reference.safe_open(self.write(content), "np")
                    refused = False
                except reference.SafetensorError:
                    refused = True
                self.assertEqual(refused, name not in STRICTER)

    def test_what_is_unusual_and_valid_is_taken_as_the_reference_does(self):
        reference = optional("safetensors")
        optional("numpy")
        for name, content in VALID.items():
            with self.subTest(name):
                path = self.write(content)
                with safe_open(path, "np") as ours, reference.safe_open(path, "np") as theirs:
                    self.assertEqual(ours.keys(), theirs.keys())
                    self.assertEqual(ours.metadata(), theirs.metadata())
                    for key in theirs.keys():
                        mine, its = ours.get_tensor(key), theirs.get_tensor(key)
                        self.assertEqual((mine.shape, mine.dtype), (its.shape, its.dtype))
                        self.assertEqual(mine.tobytes(), its.tobytes())

    def test_the_types_are_those_of_the_reference(self):
        """Which lists them when it is given one that it does not know."""
        reference = optional("safetensors")
        optional("numpy")
        with self.assertRaisesRegex(reference.SafetensorError, "F31") as caught:
            reference.safe_open(self.write(pack({"a": entry(dtype="F31")})), "np")
        known = re.findall(r"`(\w+)`", str(caught.exception))
        self.assertEqual(known[0], "F31")
        self.assertGreater(len(known), 10)
        # A release before the newest has fewer.
        self.assertLessEqual(set(known[1:]), set(safetensors._DTYPES))
        if tuple(map(int, reference.__version__.split(".")[:2])) >= (0, 8):
            self.assertEqual(set(known[1:]), set(safetensors._DTYPES))

    def test_any_header_is_judged_as_the_reference_judges_it(self):
        """Random ones, nearly right: taken by both, with the same in it, or refused by both."""
        reference = optional("safetensors")
        optional("numpy")
        if tuple(map(int, reference.__version__.split(".")[:2])) < (0, 8):
            self.skipTest(f"safetensors {reference.__version__} knows fewer types")
        seed = int(os.environ.get("GDS_TEST_SEED", "0")) or random.randrange(1 << 32)
        print(f"GDS_TEST_SEED={seed}")
        chance = random.Random(seed)
        seen = collections.Counter()
        for number in range(4000):
            path = self.write(random_file(chance))
            ours, why = self.judge(safetensors, path)
            theirs, _ = self.judge(reference, path)
            seen[ours is not None] += 1
            if ours is None and theirs is not None:
                self.assertRegex(why, STRICTER_REASONS, f"case {number} of seed {seed}")
            else:
                self.assertEqual(ours, theirs, f"case {number} of seed {seed}: {why}")
        self.assertGreater(min(seen[True], seen[False]), 200, seen)

    def judge(self, module, path):
        """What it makes of a file: names, types and shapes, or None and why it refuses."""
        try:
            with module.safe_open(path, "np") as file:
                parts = {name: file.get_slice(name) for name in file.keys()}
                return ({name: (part.get_dtype(), tuple(part.get_shape()))
                         for name, part in parts.items()}, file.metadata()), ""
        except module.SafetensorError as error:
            return None, str(error)

    def test_a_file_that_becomes_shorter_is_found_out(self):
        path = self.write(pack({"a": entry()}))
        with safe_open(path) as file:
            os.truncate(path, os.path.getsize(path) - 10)
            for read in (lambda: file.get_tensor("a"), lambda: file.get_slice("a")[8:]):
                with self.assertRaisesRegex(SafetensorError, "shorter"):
                    read()


class Reading(TestCase):
    """Without any framework."""

    def setUp(self):
        super().setUp()
        header = json.dumps(
            {"__metadata__": {"made": "here"},
             "words": entry(shape=[4, 4]),
             "odd": {"dtype": "U8", "shape": [3], "data_offsets": [64, 67]},
             "behind": {"dtype": "I32", "shape": [2], "data_offsets": [67, 75]},
             "packed": {"dtype": "F4", "shape": [2, 4], "data_offsets": [75, 79]}}).encode()
        # The data begins at a multiple of 8, so that "behind" is at an odd place.
        self.file = self.write(pack(header + b" " * (-len(header) % 8), bytes(range(79))))

    def test_every_tensor_of_a_file_arrives_aligned_and_in_one_batch(self):
        with gds.Reader() as reader:
            tensors = load_file(self.file, framework="gds", reader=reader)
            # All that is contiguous and aligned in one read, what is not in others.
            self.assertLessEqual(reader.stats().reads, 3)
        self.assertEqual(list(tensors), ["words", "odd", "behind", "packed"])
        self.assertEqual(b"".join(t.tobytes() for t in tensors.values()), bytes(range(79)))
        self.assertEqual(tensors["behind"].address % 4, 0)
        self.assertEqual((tensors["packed"].shape, tensors["packed"].dtype.bits), ((2, 4), 4))

    def test_only_the_tensors_asked_for_are_read(self):
        with gds.Reader() as reader:
            tensors = load_file(self.file, framework="gds", names=["odd"], reader=reader)
            self.assertEqual({name: t.tobytes() for name, t in tensors.items()},
                             {"odd": bytes(range(64, 67))})
            self.assertEqual(sum(reader.stats().paths.values()), 3)
        with self.assertRaisesRegex(SafetensorError, "no tensor 'missing'"):
            load_file(self.file, framework="gds", names=["odd", "missing"])

    def test_safe_open_tells_what_is_there(self):
        with safe_open(self.file) as file:
            self.assertEqual(file.keys(), ["behind", "odd", "packed", "words"])
            self.assertEqual(file.offset_keys(), ["words", "odd", "behind", "packed"])
            self.assertEqual(file.metadata(), {"made": "here"})
            part = file.get_slice("words")
            self.assertEqual((part.get_shape(), part.get_dtype()), ([4, 4], "F32"))
            with self.assertRaisesRegex(SafetensorError, "no tensor 'missing'"):
                file.get_tensor("missing")

    def test_a_slice_reads_no_more_than_it_needs(self):
        with gds.Reader() as reader, safe_open(self.file, reader=reader) as file:
            self.assertEqual(file.get_slice("words")[1:3].tobytes(), bytes(range(16, 48)))
            self.assertEqual(sum(reader.stats().paths.values()), 32)
            column = file.get_slice("words")[:, 2]
            self.assertEqual(sum(reader.stats().paths.values()), 48)
            self.assertEqual((column.shape, column.contiguous), ((4,), True))
            self.assertEqual(file.get_slice("packed")[1].tobytes(), bytes([77, 78]))
            with self.assertRaisesRegex(SafetensorError, "within a byte"):
                file.get_slice("packed")[:, 1]

    def test_indices_that_do_not_fit_are_refused(self):
        with safe_open(self.file) as file:
            part = file.get_slice("words")
            for index in (4, -5, (0, 0, 0), None, slice(None, None, -1), slice(0, 4, 0), "x",
                          (..., ...), [0, 1]):
                with self.subTest(index=index), self.assertRaises(SafetensorError):
                    part[index]

    def test_a_tensor_stays_when_the_file_is_closed(self):
        with safe_open(self.file) as file:
            tensor = file.get_tensor("odd")
        collect()
        self.assertEqual(tensor.tobytes(), bytes(range(64, 67)))

    def test_unknown_frameworks_and_devices_are_refused(self):
        with self.assertRaisesRegex(ValueError, "no framework 'tf'"):
            load_file(self.file, framework="tf")
        with self.assertRaises(gds.Error):
            load_file(self.file, "nonsense:0", framework="gds")

    def test_into_the_memory_of_a_vulkan_device(self):
        with vulkan_device() as device:
            tensors = load_file(self.file, device, framework="gds")
            self.assertEqual(b"".join(t.tobytes() for t in tensors.values()), bytes(range(79)))
            self.assertEqual(tensors["odd"].device_name, device.name)

    def test_a_progress_bar_where_tqdm_is_installed(self):
        optional("tqdm")
        large = self.write(pack({"a": {"dtype": "U8", "shape": [MIB], "data_offsets": [0, MIB]}},
                                bytes(MIB)), "large")
        tensors = load_file(large, framework="gds", progress=True)
        self.assertEqual(tensors["a"].nbytes, MIB)


class Sharded(TestCase):
    def setUp(self):
        super().setUp()
        self.write(pack({"a": entry(), "b": entry(data_offsets=[64, 128])}, bytes(range(128))),
                   "one.safetensors")
        self.write(pack({"c": entry()}), "two.safetensors")

    def index(self, weight_map):
        raw = weight_map if isinstance(weight_map, bytes) else json.dumps(
            {"metadata": {"total_size": 192}, "weight_map": weight_map}).encode()
        return self.write(raw, "model.safetensors.index.json")

    def test_an_index_loads_all_its_shards_in_one_batch(self):
        path = self.index({"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"})
        tensors = load_file(path, framework="gds")
        self.assertEqual(sorted(tensors), ["a", "b", "c"])
        self.assertEqual(tensors["b"].tobytes(), bytes(range(64, 128)))
        with gds.Reader() as reader:
            only = load_file(path, framework="gds", names=["b", "c"], reader=reader)
            self.assertEqual(sorted(only), ["b", "c"])
            self.assertEqual(sum(reader.stats().paths.values()), 128)
        with self.assertRaisesRegex(SafetensorError, "no tensor 'd'"):
            load_file(path, framework="gds", names=["d"])

    def test_a_list_of_files_loads_them_all(self):
        files = [self.path("one.safetensors"), self.path("two.safetensors")]
        self.assertEqual(sorted(load_file(files, framework="gds")), ["a", "b", "c"])
        self.assertEqual(sorted(load_file(files, framework="gds", names=["c"])), ["c"])
        with self.assertRaisesRegex(SafetensorError, "tensor 'a' is in"):
            load_file([files[0], files[0]], framework="gds")

    def test_an_index_that_is_wrong_is_refused(self):
        for name, content in {
            "outside": {"a": "../one.safetensors"},
            "absolute": {"a": self.path("one.safetensors")},
            "a folder": {"a": "folder/"},
            "no such tensor": {"missing": "one.safetensors"},
            "no string": {"a": 1},
            "no map": b"{}",
            "no JSON": b"nonsense",
            "twice": b'{"weight_map":{"a":"one.safetensors","a":"two.safetensors"}}',
        }.items():
            with self.subTest(name), self.assertRaises(SafetensorError):
                load_file(self.index(content), framework="gds")
        with self.assertRaises(FileNotFoundError):
            load_file(self.index({"a": "three.safetensors"}), framework="gds")


class AgainstTheReference(TestCase):
    def setUp(self):
        super().setUp()
        self.numpy = optional("numpy")
        optional("safetensors")

    def test_slices_are_those_of_numpy(self):
        import safetensors.numpy as reference

        array = self.numpy.arange(120, dtype="float32").reshape(2, 3, 4, 5)
        path = self.path("array")
        reference.save_file({"array": array}, path)
        seed = int(os.environ.get("GDS_TEST_SEED", "0")) or random.randrange(1 << 32)
        print(f"GDS_TEST_SEED={seed}")
        chance = random.Random(seed)

        def one(size):
            if chance.random() < 0.3:
                return chance.randrange(-size, size)
            ends = [chance.choice([None, *range(-size, size + 1)]) for _ in range(2)]
            return slice(*ends, chance.choice([None, 1, 2, 3]))

        limit = safetensors._SLICE_READS
        self.addCleanup(setattr, safetensors, "_SLICE_READS", limit)
        with safe_open(path, "np") as file:
            part = file.get_slice("array")
            for _ in range(500):
                # A small limit has parts read along with what lies between.
                safetensors._SLICE_READS = chance.choice([limit, 1, 3])
                count = chance.randrange(5)
                index = tuple(one(size) for size in array.shape[:count])
                if chance.random() < 0.3:
                    index = (..., *(one(size) for size in array.shape[4 - count :]))
                ours, wanted = part[index], array[index]
                self.assertEqual(ours.shape, wanted.shape, index)
                self.assertTrue(self.numpy.array_equal(ours, wanted), index)

    def test_every_type_of_torch_is_equal_to_the_bit(self):
        torch = optional("torch")
        import safetensors.torch as reference

        names = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8",
                 "uint8", "bool", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
                 "float8_e5m2fnuz", "float8_e8m0fnu", "complex64", "uint16", "uint32", "uint64")
        types = [getattr(torch, name) for name in names if hasattr(torch, name)]
        path = self.path("types")
        tensors = {}
        for kind in types:
            size = torch.empty((), dtype=kind).element_size()
            raw = torch.randint(0, 2 if kind is torch.bool else 256, (7, 3 * size)).to(torch.uint8)
            tensors[str(kind)] = raw.view(kind)
        try:
            reference.save_file(tensors, path)
        except (KeyError, AttributeError):
            # Of an older torch the reference writes fewer types.
            tensors = {name: t for name, t in tensors.items() if t.dtype in (
                torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64,
                torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)}
            reference.save_file(tensors, path)
        ours, theirs = load_file(path), reference.load_file(path)
        self.assertEqual(sorted(ours), sorted(theirs))
        for name, tensor in theirs.items():
            self.assertEqual(ours[name].dtype, tensor.dtype)
            self.assertTrue(torch.equal(ours[name].view(torch.uint8), tensor.view(torch.uint8)))

    def test_packed_types_are_told_from_others_by_name(self):
        """Which frameworks lack: what to do is said, and gds itself has them."""
        path = self.write(pack({"six": {"dtype": "F6_E2M3", "shape": [2, 4],
                                        "data_offsets": [0, 6]}}, bytes(range(6))))
        for framework in ("np", "pt", "jax"):
            if framework == "pt" and not importlib.util.find_spec("torch"):
                continue
            if framework == "jax" and not importlib.util.find_spec("jax"):
                continue
            with safe_open(path, framework) as file:
                for read in (lambda: load_file(path, framework=framework),
                             lambda: file.get_tensor("six"), lambda: file.get_slice("six")[1]):
                    with self.assertRaisesRegex(SafetensorError, "tensor 'six'.*framework=\"gds\""):
                        read()
        with safe_open(path) as file:
            self.assertEqual(file.get_tensor("six").view("uint8").tobytes(), bytes(range(6)))
            self.assertEqual(file.get_slice("six")[1:].tobytes(), bytes([3, 4, 5]))

    def test_four_bit_floats_are_pairs_in_torch(self):
        torch = optional("torch")
        if not hasattr(torch, "float4_e2m1fn_x2"):
            self.skipTest(f"torch {torch.__version__} has no floats of four bits")
        import safetensors as reference

        data = bytes(range(1, 33))
        path = self.write(pack({"even": {"dtype": "F4", "shape": [4, 8], "data_offsets": [0, 16]},
                                "odd": {"dtype": "F4", "shape": [32, 1],
                                        "data_offsets": [16, 32]}}, data))

        def flat(tensor):
            self.assertEqual(tensor.dtype, torch.float4_e2m1fn_x2)
            return tensor.view(torch.uint8).contiguous().numpy()

        with safe_open(path, "pt") as ours, reference.safe_open(path, "pt") as theirs:
            wanted = flat(theirs.get_tensor("even"))
            self.assertTrue((flat(ours.get_tensor("even")) == wanted).all())
            part = ours.get_slice("even")
            limit = safetensors._SLICE_READS
            self.addCleanup(setattr, safetensors, "_SLICE_READS", limit)
            for safetensors._SLICE_READS in (limit, 1):
                for mine, its in ((part[1:3], wanted[1:3]), (part[::2], wanted[::2]),
                                  (part[:, 2:6], wanted[:, 1:3]), (part[-1], wanted[-1]),
                                  (part[2, 4:], wanted[2, 2:]), (part[1:1], wanted[1:1])):
                    self.assertEqual(flat(mine).tolist(), its.tolist())
            for refused in (lambda: part[:, 1:3], lambda: part[:, ::2], lambda: part[0, 0],
                            lambda: ours.get_tensor("odd")):
                with self.assertRaises(SafetensorError):
                    refused()
            with self.assertRaises(reference.SafetensorError):
                theirs.get_tensor("odd")

    def test_a_real_model_is_equal_to_the_bit(self):
        torch = optional("torch")
        import safetensors.torch as reference

        path = real_model()
        with gds.Reader() as reader:
            ours = load_file(path, reader=reader)
            self.assertEqual(reader.stats().path, "mapped")
        theirs = reference.load_file(path)
        self.assertEqual(sorted(ours), sorted(theirs))
        self.assertTrue(all(torch.equal(ours[name], theirs[name]) for name in theirs))


if __name__ == "__main__":
    unittest.main()
