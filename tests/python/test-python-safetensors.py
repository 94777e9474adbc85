#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""safetensors files: the same tensors as the reference package, and no file that it refuses."""

import json
import os
import random
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
    "metadata with a number": pack({"__metadata__": {"x": 1}, "a": entry()}),
    "metadata is a list": pack({"__metadata__": ["x"], "a": entry()}),
    "metadata is a tensor": pack({"__metadata__": entry(), "a": entry()}),
}
STRICTER = {"a space first", "duplicate tensor", "duplicate key by an escape",
            "duplicate metadata", "tensor is a list"}

# What is unusual and valid.
VALID = {
    "nothing": pack({}, b""),
    "padding behind the JSON": pack(json.dumps({"a": entry()}).encode() + b"     "),
    "metadata": pack({"__metadata__": {"format": "pt", "\u00e9": ""}, "a": entry()}),
    "null metadata": pack({"__metadata__": None, "a": entry()}),
    "unknown field": pack({"a": entry(extra=[1, {"x": 2}])}),
    "empty tensors": pack({"a": entry(), "b": entry(shape=[0], data_offsets=[0, 0]),
                           "c": entry(shape=[3, 0], data_offsets=[64, 64])}),
    "no dimensions": pack({"a": entry(shape=[], data_offsets=[0, 4])}, b"1234"),
    "empty name": pack({"": entry()}),
}


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

    def test_nothing_is_taken_that_the_reference_refuses(self):
        reference = optional("safetensors")
        optional("numpy")
        seed = int(os.environ.get("GDS_TEST_SEED", "0")) or random.randrange(1 << 32)
        print(f"GDS_TEST_SEED={seed}")
        chance = random.Random(seed)
        good = json.dumps({"__metadata__": {"k": "v"}, "a": entry(),
                           "b": entry(dtype="I8", shape=[2, 8], data_offsets=[64, 80])}).encode()
        taken = 0
        for _ in range(2000):
            raw = bytearray(good)
            for _ in range(chance.randrange(1, 3)):
                at = chance.randrange(len(raw))
                raw[at : at + chance.randrange(2)] = chance.choice(
                    [b"", bytes([chance.randrange(256)]), b"0", b"9", b"-", b"[", b'"', b" "])
            path = self.write(pack(bytes(raw), bytes(80)))
            try:
                safetensors.read_header(path)
            except SafetensorError:
                continue
            taken += 1
            reference.safe_open(path, "np")  # raises where it refuses
        self.assertGreater(taken, 0)

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
