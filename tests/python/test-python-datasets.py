#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Datasets and loaders: every sample once, in a reproducible order, from any point on."""

import io
import os
import random
import struct
import subprocess
import sys
import tarfile
import unittest

import gds
from gds import datasets
from gds.datasets import FormatError, Loader

from common import TIMEOUT, TestCase, collect, optional, vulkan_device


def numbers(tensor):
    """The int32 of a tensor."""
    data = tensor.tobytes()
    return list(struct.unpack(f"<{len(data) // 4}i", data))


def firsts(loader):
    """Of each record of each batch, the first number."""
    return [[numbers(record)[0] for record in batch] for batch in loader]


class RecordFiles(TestCase):
    """Three files of records of 10 numbers each, which begin with the record's number."""

    COUNTS = (7, 1, 12)

    def setUp(self):
        super().setUp()
        self.files, number = [], 0
        for i, count in enumerate(self.COUNTS):
            data = b""
            for _ in range(count):
                data += struct.pack("<10i", number, *([i] * 9))
                number += 1
            self.files.append(self.write(data + b"xyz"[:i], f"{i}.bin"))
        self.data = datasets.records(self.files, "int32", (10,))
        self.total = number

    def loader(self, batch_size=4, **options):
        return Loader(self.data, batch_size, rank=options.pop("rank", 0),
                      world_size=options.pop("world_size", 1), **options)


class Records(RecordFiles):
    def test_every_record_comes_once_and_in_order(self):
        self.assertEqual(len(self.data), 20)
        loader = self.loader(6)
        self.assertEqual(len(loader), 4)
        self.assertEqual(firsts(loader), [list(range(n, min(n + 6, 20))) for n in (0, 6, 12, 18)])
        self.assertEqual(len(firsts(self.loader(6, drop_last=True))), 3)

    def test_a_batch_is_one_tensor_in_the_memory_of_the_device(self):
        with vulkan_device() as device:
            batch = next(iter(self.loader(6, device=device)))
            self.assertEqual((batch.shape, batch.dtype.name), ((6, 10), "int32"))
            self.assertEqual(batch.device_name, device.name)

    def test_records_that_follow_one_another_are_one_read(self):
        with gds.Reader() as reader:
            self.assertEqual(len(firsts(self.loader(20, reader=reader))), 1)
            self.assertEqual(reader.stats().reads, len(self.files))

    def test_a_loader_reads_in_the_class_that_it_is_given(self):
        with gds.Reader() as reader:
            firsts(self.loader(20, reader=reader, read_class="prefetch"))
            classes = reader.stats().classes
            self.assertEqual((classes["prefetch"].reads, classes["foreground"].reads), (3, 0))
        with self.assertRaises(ValueError):
            self.loader(read_class="urgent")

    def test_records_may_overlap_and_headers_are_passed_over(self):
        path = self.write(b"head" + struct.pack("<10i", *range(10)), "tokens")
        data = datasets.records(path, "int32", (4,), stride=3, header_bytes=4)
        self.assertEqual(len(data), 3)
        (batch,) = Loader(data, 3, rank=0, world_size=1)
        self.assertEqual([numbers(record) for record in batch],
                         [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]])

    def test_batches_stay_what_they_were_while_others_are_read(self):
        kept = list(self.loader(3, prefetch=3, epochs=4))
        self.assertEqual([numbers(batch[0])[0] for batch in kept], [0, 3, 6, 9, 12, 15, 18] * 4)

    def test_memory_is_used_again_when_batches_are_dropped(self):
        pages = {batch.address // 4096 for batch in self.loader(5, epochs=50, prefetch=1)}
        self.assertLess(len(pages), 8)

    def test_memory_goes_when_loader_and_batches_are_gone(self):
        import weakref

        loader = self.loader(5)
        batch = next(iter(loader))
        pool = weakref.ref(loader._pool)
        handle = weakref.ref(batch._handle)
        del loader, batch
        collect()
        self.assertIsNone(pool())
        self.assertIsNone(handle())

    def test_what_is_wrong_is_refused(self):
        for bad in (lambda: datasets.records(self.files[1], "int32", (20,)),
                    lambda: datasets.records([], "int32", (1,)),
                    lambda: datasets.records(self.files, "int32", (0,)),
                    lambda: self.loader(0), lambda: self.loader(rank=2, world_size=2),
                    lambda: self.loader(framework="tf")):
            with self.assertRaises(ValueError):
                bad()
        with self.assertRaises(FileNotFoundError):
            datasets.records(self.path("missing"), "int32", (1,))

    def test_a_file_that_becomes_shorter_is_found_out(self):
        loader = self.loader(20, prefetch=0)
        os.truncate(self.files[2], 100)
        with self.assertRaisesRegex(FormatError, "shorter"):
            list(loader)


class Order(RecordFiles):
    def test_a_shuffle_has_every_record_once_and_depends_on_seed_and_epoch(self):
        def order(**options):
            return sum(firsts(self.loader(**options)), [])

        first = order(shuffle=True, seed=1)
        self.assertEqual(sorted(first), list(range(20)))
        self.assertNotEqual(first, list(range(20)))
        self.assertEqual(first, order(shuffle=True, seed=1))
        self.assertNotEqual(first, order(shuffle=True, seed=2))
        both = order(shuffle=True, seed=1, epochs=2)
        self.assertEqual(both[:20], first)
        self.assertEqual(sorted(both[20:]), list(range(20)))
        self.assertNotEqual(both[20:], first)

    def test_a_permutation_of_any_size_is_one(self):
        for count in (1, 2, 3, 4, 5, 16, 17, 1000, 4097):
            shuffle = datasets._Shuffle(count, 7, 0)
            self.assertEqual(sorted(shuffle[i] for i in range(count)), list(range(count)))

    def test_a_shuffle_is_no_rotation(self):
        # Neighbours in the order are neighbours in the file no more often than by chance.
        count = 4096
        order = [datasets._Shuffle(count, 3, 0)[i] for i in range(count)]
        close = sum(abs(a - b) <= 8 for a, b in zip(order, order[1:]))
        self.assertLess(close, 60)  # 16 are expected

    def test_each_iteration_is_another_epoch(self):
        loader = self.loader(shuffle=True)
        one, two = firsts(loader), firsts(loader)
        self.assertNotEqual(one, two)
        self.assertEqual(loader.epoch, 2)
        loader.set_epoch(0)
        self.assertEqual(firsts(loader), one)

    def test_without_end_it_goes_on(self):
        loader = self.loader(7, epochs=None)
        batches = iter(loader)
        for _ in range(10):
            next(batches)
        self.assertEqual(loader.epoch, 3)


class Resume(RecordFiles):
    def test_a_saved_state_goes_on_with_the_next_batch(self):
        options = {"shuffle": True, "seed": 5, "epochs": 3, "prefetch": 3}
        whole = firsts(self.loader(3, **options))
        for stop in (0, 1, 6, 7, 8, 20):
            with self.subTest(stop=stop):
                loader = self.loader(3, **options)
                batches = iter(loader)
                for _ in range(stop):
                    next(batches)
                state = loader.state_dict()
                batches.close()
                other = self.loader(3, **options)
                other.load_state_dict(state)
                rest = firsts(other)
                # An iteration goes through so many epochs, the begun one included.
                self.assertEqual(rest[: len(whole) - stop], whole[stop:])

    def test_a_state_may_be_of_another_number_of_processes(self):
        def both(batch_size, world, state=None, steps=None):
            seen, states = [], []
            for rank in range(world):
                loader = self.loader(batch_size, rank=rank, world_size=world, shuffle=True)
                if state:
                    loader.load_state_dict(state)
                batches = iter(loader)
                for _ in range(len(loader) if steps is None else steps):
                    try:
                        seen += [numbers(record)[0] for record in next(batches)]
                    except StopIteration:
                        break
                states.append(loader.state_dict())
                batches.close()
            self.assertTrue(all(state == states[0] for state in states))
            return seen, states[0]

        first, state = both(4, 2, steps=1)
        rest, _ = both(2, 4, state)
        self.assertEqual(len(first), 8)
        self.assertEqual(sorted(set(first + rest)), list(range(20)))

    def test_a_state_that_does_not_fit_is_refused(self):
        loader = self.loader(4, shuffle=True)
        batches = iter(loader)
        next(batches)
        state = loader.state_dict()
        for other in (self.loader(4), self.loader(4, shuffle=True, seed=1),
                      self.loader(3, shuffle=True)):
            with self.assertRaises(ValueError):
                other.load_state_dict(state)


class Ranks(RecordFiles):
    def shares(self, world, **options):
        return [firsts(self.loader(rank=rank, world_size=world, **options))
                for rank in range(world)]

    def test_ranks_have_every_record_between_them_and_as_many_batches_each(self):
        for world in (1, 2, 3, 5, 7):
            for batch_size in (1, 2, 3, 8):
                for shuffle in (False, True):
                    shares = self.shares(world, batch_size=batch_size, shuffle=shuffle)
                    sizes = {tuple(map(len, share)) for share in shares}
                    self.assertEqual(len(sizes), 1, (world, batch_size))
                    seen = [n for share in shares for batch in share for n in batch]
                    self.assertEqual(sorted(set(seen)), list(range(20)))
                    # No more is dealt out twice than what evens the ranks out.
                    self.assertLess(len(seen) - 20, world)

    def test_drop_last_leaves_out_what_cannot_be_dealt_evenly(self):
        shares = self.shares(3, batch_size=2, drop_last=True)
        seen = [n for share in shares for batch in share for n in batch]
        self.assertEqual(sorted(seen), list(range(18)))

    def test_ranks_come_from_the_environment(self):
        old = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE")}
        os.environ.update(RANK="1", WORLD_SIZE="2")
        try:
            self.assertEqual(datasets.distributed_rank(), (1, 2))
            self.assertEqual(firsts(Loader(self.data, 10)), [list(range(10, 20))])
        finally:
            for name, value in old.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


class Formats(TestCase):
    def all_of(self, data, batch_size=3):
        return [sample for batch in Loader(data, batch_size, rank=0, world_size=1)
                for sample in batch]

    def test_samples_of_an_index_of_ones_own(self):
        one, first = self.random_file(100_000, "one")
        two, second = self.random_file(50_000, "two")
        seed = int(os.environ.get("GDS_TEST_SEED", "0")) or random.randrange(1 << 32)
        print(f"GDS_TEST_SEED={seed}")
        chance = random.Random(seed)
        index, wanted = [(first, 0, 0)], [b""]
        for _ in range(100):
            data, path = chance.choice([(one, first), (two, second)])
            offset = chance.randrange(len(data))
            length = chance.choice([chance.randrange(100), chance.randrange(len(data))])
            length = min(length, len(data) - offset)
            index.append((path, offset, length))
            wanted.append(data[offset : offset + length])
        got = [sample.tobytes() for sample in self.all_of(datasets.samples(index), 7)]
        self.assertEqual(got, wanted)
        with self.assertRaises(ValueError):
            datasets.samples([(first, -1, 3)])

    def make_tar(self, members, name="shard.tar", mode="w"):
        with tarfile.open(self.path(name), mode) as archive:
            for member, data in members:
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return self.path(name)

    def test_shards_of_webdataset(self):
        long = "long" * 60
        first = self.make_tar([("a/0.jpg", b"picture"), ("a/0.cls", b"7"), ("a/1.seg.png", b"x" * 70000),
                               (f"{long}.txt", b"")], "1.tar")
        second = self.make_tar([("b.txt", b"text"), ("b.json", b"{}")], "2.tar")
        got = [{name: value if name == "__key__" else value.tobytes()
                for name, value in sample.items()}
               for sample in self.all_of(datasets.tar([first, second]))]
        self.assertEqual(got, [
            {"__key__": "a/0", "jpg": b"picture", "cls": b"7"},
            {"__key__": "a/1", "seg.png": b"x" * 70000},
            {"__key__": long, "txt": b""},
            {"__key__": "b", "txt": b"text", "json": b"{}"}])

    def test_tar_files_that_are_none_or_odd_are_refused(self):
        for path in (self.write(b"nonsense" * 200), self.make_tar([("a.x", b"1")], "z.tar", "w:gz"),
                     self.make_tar([("a.x", b"1"), ("a.x", b"2")])):
            with self.assertRaisesRegex(FormatError, self.folder):
                datasets.tar(path)

    def test_tfrecords(self):
        def record(data):
            length = struct.pack("<Q", len(data))
            return length + struct.pack("<I", datasets._masked_crc32c(length)) + data + b"\0\0\0\0"

        wanted = [b"first", b"", b"z" * 30000]
        path = self.write(b"".join(map(record, wanted)), "records")
        got = [sample.tobytes() for sample in self.all_of(datasets.tfrecord(path))]
        self.assertEqual(got, wanted)
        for bad in (record(b"data")[:-1], b"\1" + record(b"data"), record(b"data") + b"xyz"):
            with self.assertRaises(FormatError):
                datasets.tfrecord(self.write(bad, "bad"))

    def test_the_checksum_of_tfrecord_is_the_known_one(self):
        # CRC-32C of "123456789" is E3069283, and of 32 zeros 8A9136AA (RFC 3720, B.4).
        for data, crc in ((b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA)):
            masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
            self.assertEqual(datasets._masked_crc32c(data), masked)

    def test_arrays_of_numpy(self):
        numpy = optional("numpy")
        arrays = [numpy.arange(60, dtype="int32").reshape(5, 3, 4),
                  numpy.arange(24, dtype="int32").reshape(2, 3, 4)]
        paths = [self.path("a.npy"), self.path("b.npy")]
        for path, array in zip(paths, arrays):
            numpy.save(path, array)
        data = datasets.npy(paths)
        self.assertEqual((len(data), data.shape, data.dtype.name), (7, (3, 4), "int32"))
        got = [batch.numpy() for batch in Loader(data, 4, rank=0, world_size=1)]
        self.assertTrue(numpy.array_equal(numpy.concatenate(got), numpy.concatenate(arrays)))

    def test_arrays_that_cannot_be_read_are_refused(self):
        numpy = optional("numpy")
        for array in (numpy.asfortranarray(numpy.zeros((3, 4))), numpy.zeros((), "int32"),
                      numpy.zeros((2, 2), ">i4"), numpy.array([{}], dtype=object),
                      numpy.zeros((0, 5)), numpy.zeros(3, [("x", "i4")])):
            path = self.path("odd.npy")
            numpy.save(path, array, allow_pickle=True)
            with self.subTest(dtype=array.dtype, shape=array.shape), self.assertRaises(FormatError):
                datasets.npy(path)
        numpy.save(path, numpy.zeros((3, 4)))
        os.truncate(path, os.path.getsize(path) - 1)
        for bad in (path, self.write(b"\x93NUMPY\x01\x00\xff\xff{}", "x.npy"), self.write(b"no", "y")):
            with self.assertRaises(FormatError):
                datasets.npy(bad)

    def test_types_that_numpy_has_no_name_for(self):
        numpy, ml_dtypes = optional("numpy"), optional("ml_dtypes")
        path = self.path("bf16.npy")
        numpy.save(path, numpy.arange(6, dtype="float32").reshape(3, 2).astype(ml_dtypes.bfloat16))
        with self.assertRaisesRegex(FormatError, "dtype="):
            datasets.npy(path)
        data = datasets.npy(path, "bfloat16")
        (batch,) = Loader(data, 3, rank=0, world_size=1, framework="np")
        self.assertEqual(batch.astype("float32").tolist(), [[0, 1], [2, 3], [4, 5]])


class Torch(RecordFiles):
    def setUp(self):
        self.torch = optional("torch")
        super().setUp()

    def test_a_loader_gives_torch_tensors(self):
        got = self.torch.cat(list(self.loader(6, framework="pt")))
        self.assertEqual(got[:, 0].tolist(), list(range(20)))

    def test_a_data_loader_takes_the_dataset_with_and_without_workers(self):
        import gds.torch

        for workers in (0, 2):
            with self.subTest(workers=workers):
                data = gds.torch.BatchDataset(self.data, 4, shuffle=True, seed=3)
                loader = self.torch.utils.data.DataLoader(data, batch_size=None,
                                                          num_workers=workers)
                seen = [int(n) for batch in loader for n in batch[:, 0]]
                self.assertEqual(sorted(set(seen)), list(range(20)))
                self.assertLess(len(seen) - 20, max(workers, 1))
                if not workers:
                    state = data.state_dict()
                    self.assertEqual((state["epoch"], state["samples_done"]), (1, 0))

    def test_a_dataset_goes_on_from_a_saved_state(self):
        import gds.torch

        data = gds.torch.BatchDataset(self.data, 4, shuffle=True)
        batches = iter(data)
        next(batches), next(batches)
        other = gds.torch.BatchDataset(self.data, 4, shuffle=True)
        other.load_state_dict(data.state_dict())
        for mine, its in zip(batches, other):
            self.assertTrue(self.torch.equal(mine, its))

    def test_two_processes_under_torchrun_share_an_epoch(self):
        distributed = self.torch.distributed
        if not distributed.is_available() or not distributed.is_gloo_available():
            self.skipTest("this torch has no gloo")
        program = self.path("train.py")
        with open(program, "w", encoding="utf-8") as file:
            file.write(PROGRAM)
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
             # Of these torch 1.13 knows no other values on Python 3.11, not even its defaults.
             "--redirects=1", "--tee=2", f"--log_dir={self.path('log')}", program, *self.files],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=2 * TIMEOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"})
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("all 20 records, 10 by each of 2", done.stdout)


# Each process sums up what it saw; together they have seen each record once.
PROGRAM = """
import sys
import torch, torch.distributed
import gds.datasets

torch.distributed.init_process_group("gloo")
data = gds.datasets.records(sys.argv[1:], "int32", (10,))
loader = gds.datasets.Loader(data, 5, shuffle=True, framework="pt")
seen = torch.zeros(20, dtype=torch.int64)
for batch in loader:
    for number in batch[:, 0]:
        seen[int(number)] += 1
mine = int(seen.sum())
torch.distributed.all_reduce(seen)
assert seen.tolist() == [1] * 20, seen
if torch.distributed.get_rank() == 0:
    print(f"all {len(data)} records, {mine} by each of {torch.distributed.get_world_size()}",
          file=sys.stderr)
torch.distributed.destroy_process_group()
"""


if __name__ == "__main__":
    unittest.main()
