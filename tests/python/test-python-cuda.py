#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CUDA memory from Python, with the fake driver of tests/fake-cuda: pointers, interfaces, order.

What it shows is who is given which pointer, and who waits for which stream. It proves nothing
about GPUs; test-python-memory reads into those of torch and cupy where there is one.
"""

import ctypes
import os
import sys
import unittest

from common import BUILD, TestCase, optional

FAKE = os.path.join(BUILD, "tests", "fake-cuda", "libcuda.so.1")
if os.path.exists(FAKE):
    # Whoever asks for libcuda.so.1 from now on is given this one.
    fake = ctypes.CDLL(FAKE)
else:
    fake = None

import gds  # noqa: E402
import gds.datasets  # noqa: E402
import gds.safetensors  # noqa: E402
from gds import _dlpack  # noqa: E402


def calls(name):
    return fake.fake_cuda_calls(name.encode())


class Array:
    """What knows the CUDA array interface and nothing else."""

    def __init__(self, tensor, **changes):
        self.tensor = tensor
        self.changes = changes

    @property
    def __cuda_array_interface__(self):
        return {**self.tensor.__cuda_array_interface__, **self.changes}


class Cuda(TestCase):
    def setUp(self):
        if fake is None:
            self.skipTest("the fake driver was not built")
        if "torch" in sys.modules:
            self.skipTest("torch has loaded another driver")
        super().setUp()
        self.data, self.name = self.random_file(100_000)
        self.device = self.enter(gds.Device("cuda:0"))

    def tensor(self, nbytes=4096, dtype="float32"):
        buffer = self.device.alloc(nbytes)
        buffer.copy_in(bytes(nbytes))
        return buffer.tensor(dtype)

    def test_memory_has_a_device_pointer_and_no_address(self):
        with self.device.alloc(4096) as buffer:
            self.assertIsNone(buffer.address)
            self.assertGreater(buffer.cuda_pointer, 0)
            self.assertEqual(buffer.tensor(offset=64).cuda_pointer, buffer.cuda_pointer + 64)
            with self.assertRaises(BufferError):
                buffer.memoryview()
            self.assertFalse(hasattr(buffer, "__array_interface__"))
            result = gds.default_reader().read(gds.File(self.name), buffer)
            self.assertEqual((result.nbytes, result.path), (4096, "bounce"))
            self.assertEqual(buffer.copy_out(), self.data[:4096])

    def test_numpy_is_told_that_the_cpu_cannot_address_it(self):
        numpy = optional("numpy")
        tensor = self.tensor()
        with self.assertRaisesRegex(BufferError, "cannot address memory of cuda:0"):
            tensor.numpy()
        with self.assertRaisesRegex(BufferError, "cannot address"):
            numpy.asarray(tensor)

    def test_the_cuda_array_interface_tells_all_there_is(self):
        tensor = self.tensor().reshape(32, 32)
        self.assertEqual(tensor.__cuda_array_interface__, {
            "shape": (32, 32), "typestr": "<f4", "data": (tensor.cuda_pointer, False),
            "strides": None, "version": 3, "stream": None})
        self.assertEqual(tensor[3].__cuda_array_interface__["data"][0],
                         tensor.cuda_pointer + 3 * 128)

    def test_dlpack_is_of_the_device_and_takes_streams(self):
        tensor = self.tensor()
        self.assertEqual(tensor.__dlpack_device__(), (_dlpack.CUDA, 0))
        for stream in (None, 1, 2, -1, 1234):
            taken = _dlpack.take_capsule(tensor.__dlpack__(stream=stream, max_version=(1, 0)))
            self.assertEqual((taken.device, taken.data), ((_dlpack.CUDA, 0), tensor.cuda_pointer))

    def test_read_into_by_the_cuda_array_interface(self):
        tensor = self.tensor()
        self.assertEqual(gds.read_into(Array(tensor), self.name, 5).nbytes, 4096)
        self.assertEqual(tensor.tobytes(), self.data[5:4101])
        for bad in ({"data": (tensor.cuda_pointer, True)}, {"strides": (8,), "shape": (512,)}):
            with self.assertRaises(ValueError):
                gds.read_into(Array(tensor, **bad), self.name)

    def test_the_stream_that_the_interface_names_is_waited_for(self):
        tensor = self.tensor()
        gds.read_into(Array(tensor), self.name)
        before = calls("cuStreamSynchronize")
        gds.read_into(Array(tensor), self.name)
        plain = calls("cuStreamSynchronize") - before
        gds.read_into(Array(tensor, stream=1), self.name)
        self.assertEqual(calls("cuStreamSynchronize") - before, 2 * plain + 1)

    def test_read_into_by_dlpack_asks_for_the_stream_that_it_waits_for(self):
        tensor, streams = self.tensor(), []

        class Producer:
            def __dlpack_device__(self):
                return tensor.__dlpack_device__()

            def __dlpack__(self, stream=None):
                streams.append(stream)
                return tensor.__dlpack__(stream=stream)

        before = calls("cuStreamSynchronize")
        self.assertEqual(gds.read_into(Producer(), self.name, 7).nbytes, 4096)
        self.assertEqual(streams, [1])
        self.assertGreater(calls("cuStreamSynchronize"), before)
        self.assertEqual(tensor.tobytes(), self.data[7:4103])

    def test_a_stream_waits_for_a_batch(self):
        tensor = self.tensor()
        with gds.Reader() as reader, reader.batch() as batch:
            batch.stream_wait(self.device)
            batch.add(gds.File(self.name), tensor)
            self.assertEqual(batch.submit().results(60)[0].nbytes, 4096)
            with self.assertRaises(gds.Error):
                batch.stream_wait(self.device)
            with self.assertRaises(gds.Error):
                reader.batch().stream_wait(gds.Device("host"))

    def test_batches_of_a_loader_are_never_in_memory_that_was_used_before(self):
        data = gds.datasets.records(self.name, "uint8", (1000,))
        loader = gds.datasets.Loader(data, 10, device=self.device, rank=0, world_size=1)
        before = calls("cuMemCreate")
        got = b"".join(batch.tobytes() for batch in loader)
        self.assertEqual(got, self.data)
        self.assertGreaterEqual(calls("cuMemCreate") - before, 10)

    def test_safetensors_into_cuda_memory(self):
        import json
        import struct

        header = json.dumps({"a": {"dtype": "F32", "shape": [25000],
                                   "data_offsets": [0, 100_000]}}).encode()
        path = self.write(struct.pack("<Q", len(header)) + header + self.data, "model")
        for device in ("cuda:0", "cuda", 0):
            tensors = gds.safetensors.load_file(path, device, framework="gds")
            self.assertEqual(tensors["a"].tobytes(), self.data)
            self.assertEqual(tensors["a"].__dlpack_device__(), (_dlpack.CUDA, 0))


if __name__ == "__main__":
    unittest.main()
