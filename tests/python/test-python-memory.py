#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory between gds and others, without a copy: buffers, arrays, DLPack both ways."""

import array
import ctypes
import mmap
import struct
import unittest
import weakref

import gds
from gds import _dlpack

from common import MIB, TestCase, collect, optional, vulkan_device


def tensor_of(data, dtype="uint8", shape=None):
    buffer = gds.Device("host").alloc(len(data))
    buffer.copy_in(data)
    return buffer.tensor(dtype, shape)


class Alive:
    """Whether the memory of a tensor is still there."""

    def __init__(self, tensor):
        self.handle = weakref.ref(tensor._handle)

    def __bool__(self):
        collect()
        return self.handle() is not None


class Tensors(TestCase):
    def test_shapes_views_and_parts_are_of_the_same_memory(self):
        data = bytes(range(240))
        tensor = tensor_of(data, "uint16", (2, 3, 20))
        self.assertEqual((tensor.shape, tensor.strides), ((2, 3, 20), (60, 20, 1)))
        self.assertEqual((tensor.nbytes, tensor.ndim, len(tensor)), (240, 3, 2))
        self.assertEqual(tensor[1][2].tobytes(), data[200:])
        self.assertEqual(tensor[-1].offset, 120)
        self.assertEqual(tensor.view("uint8").shape, (2, 3, 40))
        self.assertEqual(tensor.view("float16").dtype.name, "float16")
        self.assertEqual(tensor.reshape(6, 20).shape, (6, 20))
        for bad in (lambda: tensor.reshape(7), lambda: tensor[2], lambda: tensor_of(b"abc").view("int32")):
            with self.assertRaises((ValueError, IndexError)):
                bad()
        tensor.memoryview()[0:2] = b"\xff\xfe"
        self.assertEqual(tensor.tobytes()[:3], b"\xff\xfe\x02")

    def test_packed_types_count_their_bits(self):
        self.assertEqual(tensor_of(bytes(6), "float4_e2m1fn").shape, (12,))
        self.assertEqual(tensor_of(bytes(6), "float6_e2m3fn").shape, (8,))
        with self.assertRaisesRegex(ValueError, "within a byte"):
            gds.DType.of("int4").nbytes((3,))

    def test_an_empty_tensor_is_one(self):
        tensor = gds.Device("host").empty((0, 5), "float32")
        self.assertEqual((tensor.nbytes, tensor.tobytes(), len(tensor)), (0, b"", 0))
        self.assertEqual(tensor.memoryview().nbytes, 0)

    def test_a_memoryview_keeps_the_memory_and_nothing_else_does(self):
        tensor = tensor_of(b"x" * 100)
        alive, view = Alive(tensor), tensor.memoryview()
        del tensor
        self.assertTrue(alive)
        self.assertEqual(bytes(view), b"x" * 100)
        del view
        self.assertFalse(alive)

    def test_memory_outlives_its_buffer_and_device(self):
        device = gds.Device("host")
        buffer = device.alloc(8)
        buffer.copy_in(b"12345678")
        tensor = buffer.tensor()
        buffer.close()
        device.close()
        del buffer, device
        collect()
        self.assertEqual(bytes(tensor.memoryview()), b"12345678")

    def test_memory_of_a_vulkan_device_is_seen_by_both_sides(self):
        with vulkan_device() as device, device.alloc(MIB) as buffer:
            if buffer.address is None:
                self.skipTest("this Vulkan device's memory is not mapped")
            buffer.memoryview()[:5] = b"hello"
            self.assertEqual(buffer.copy_out(0, 5), b"hello")
            self.assertEqual(buffer.__dlpack_device__(), (_dlpack.CPU, 0))


class Capsules(TestCase):
    """DLPack with itself, so without any framework."""

    def round_trip(self, **options):
        tensor = tensor_of(struct.pack("<6i", *range(6)), "int32", (2, 3))
        alive = Alive(tensor)
        taken = _dlpack.take_capsule(tensor.__dlpack__(**options))
        self.assertEqual(taken.data, tensor.address)
        del tensor
        self.assertTrue(alive)
        self.assertEqual((taken.shape, taken.strides, taken.bits), ((2, 3), (3, 1), 32))
        self.assertEqual((taken.device, taken.nbytes, taken.contiguous), ((1, 0), 24, True))
        self.assertEqual(ctypes.string_at(taken.data + 20, 4), struct.pack("<i", 5))
        del taken
        self.assertFalse(alive)

    def test_the_older_kind_goes_round(self):
        self.round_trip()
        self.round_trip(stream=None, max_version=(0, 8))

    def test_the_versioned_kind_goes_round(self):
        self.round_trip(max_version=(1, 0))
        self.round_trip(max_version=(2, 3), dl_device=(1, 0), copy=False)

    def test_a_capsule_that_nobody_takes_lets_go_of_the_memory(self):
        for options in ({}, {"max_version": (1, 1)}):
            tensor = tensor_of(b"1234")
            alive, capsule = Alive(tensor), tensor.__dlpack__(**options)
            del tensor
            self.assertTrue(alive)
            del capsule
            self.assertFalse(alive)

    def test_a_capsule_is_used_once(self):
        capsule = tensor_of(b"1234").__dlpack__()
        _dlpack.take_capsule(capsule)
        with self.assertRaisesRegex(BufferError, "used before"):
            _dlpack.take_capsule(capsule)

    def test_what_cannot_be_handed_over_is_refused(self):
        tensor = tensor_of(b"1234")
        for options in ({"copy": True}, {"dl_device": (2, 0)}, {"stream": 1}):
            with self.subTest(**options), self.assertRaises(BufferError):
                tensor.__dlpack__(**options)

    def test_other_element_types_have_their_codes(self):
        for name, code in (("bool", 6), ("bfloat16", 4), ("float8_e5m2", 12), ("complex64", 5)):
            kind = gds.DType.of(name)
            self.assertEqual(kind.code, code)


class IntoMemory(TestCase):
    def setUp(self):
        super().setUp()
        self.data, self.name = self.random_file(MIB + 5)

    def test_a_bytearray_an_mmap_an_array_and_a_buffer(self):
        places = [bytearray(5000), mmap.mmap(-1, 5000), array.array("i", bytes(5000)),
                  memoryview(bytearray(6000))[500:5500], gds.Device("host").alloc(5000)]
        for place in places:
            with self.subTest(type=type(place).__name__):
                result = gds.read_into(place, self.name, 4096)
                self.assertEqual(result.nbytes, 5000)
                self.assertEqual(bytes(memoryview(getattr(place, "memoryview", lambda p=place: p)())
                                       .cast("B")), self.data[4096:9096])

    def test_the_end_of_the_file_is_told(self):
        place = bytearray(100)
        with gds.File(self.name) as file:
            self.assertEqual(gds.read_into(place, file, len(self.data) - 7).nbytes, 7)
            self.assertEqual(place[:7], self.data[-7:])
            self.assertGreater(file.nbytes, 0)  # still open
        self.assertEqual(gds.read_into(bytearray(), self.name).nbytes, 0)

    def test_memory_that_cannot_be_read_into_is_refused(self):
        for bad, error in ((b"read-only", ValueError), (memoryview(bytearray(10))[::2], ValueError),
                           ("text", TypeError), (object(), TypeError), (None, TypeError)):
            with self.subTest(bad=bad), self.assertRaises(error):
                gds.read_into(bad, self.name)

    def test_memory_of_any_dlpack_producer(self):
        class Producer:
            """Knows DLPack and nothing else."""

            def __init__(self, tensor, versioned):
                self.tensor, self.versioned = tensor, versioned
                if versioned:
                    self.__class__ = Versioned

            def __dlpack_device__(self):
                return self.tensor.__dlpack_device__()

            def __dlpack__(self, stream=None):
                return self.tensor.__dlpack__(stream=stream)

        class Versioned(Producer):
            def __dlpack__(self, stream=None, max_version=None):
                return self.tensor.__dlpack__(stream=stream, max_version=max_version)

        for versioned in (False, True):
            tensor = tensor_of(bytes(1000), "float32", (10, 25))
            result = gds.read_into(Producer(tensor, versioned), self.name, 3)
            self.assertEqual(result.nbytes, 1000)
            self.assertEqual(tensor.tobytes(), self.data[3:1003])

    def test_the_memory_is_let_go_of_afterwards(self):
        place = bytearray(5000)
        gds.read_into(place, self.name)
        collect()
        place.extend(b"x")  # BufferError while anyone holds its buffer


class Numpy(TestCase):
    def setUp(self):
        super().setUp()
        self.numpy = optional("numpy")

    def test_an_array_is_the_same_memory_and_keeps_it(self):
        tensor = tensor_of(struct.pack("<6f", *range(6)), "float32", (2, 3))
        alive, made = Alive(tensor), self.numpy.asarray(tensor)
        self.assertEqual(made.dtype, self.numpy.float32)
        made[1, 2] = 42
        self.assertEqual(tensor.tobytes()[-4:], struct.pack("<f", 42))
        part = made[1:]
        del tensor, made
        self.assertTrue(alive)
        self.assertEqual(part.tolist(), [[3, 4, 42]])
        del part
        self.assertFalse(alive)

    def test_dlpack_to_numpy(self):
        if not hasattr(self.numpy, "from_dlpack"):
            self.skipTest(f"numpy {self.numpy.__version__} has no from_dlpack")
        tensor = tensor_of(struct.pack("<4h", 1, 2, 3, 4), "int16", (2, 2))
        alive, made = Alive(tensor), self.numpy.from_dlpack(tensor)
        self.assertEqual(made.tolist(), [[1, 2], [3, 4]])
        del tensor
        self.assertTrue(alive)
        del made
        self.assertFalse(alive)

    def test_dlpack_from_numpy(self):
        made = self.numpy.arange(12, dtype=self.numpy.int64).reshape(3, 4)
        taken = _dlpack.take(made)
        self.assertEqual((taken.data, taken.shape), (made.ctypes.data, (3, 4)))
        self.assertFalse(_dlpack.take(made.T).contiguous)

    def test_every_type_that_numpy_has(self):
        for name in ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64",
                     "int64", "float16", "float32", "float64", "complex64", "complex128"):
            made = tensor_of(bytes(32), name).numpy()
            self.assertEqual(made.dtype.name, name)
            self.assertEqual(self.numpy.asarray(tensor_of(bytes(32), name)).dtype.name, name)

    def test_other_types_come_from_ml_dtypes(self):
        ml_dtypes = optional("ml_dtypes")
        made = tensor_of(struct.pack("<3H", 0x3F80, 0x4000, 0xC040), "bfloat16").numpy()
        self.assertEqual(made.astype("float32").tolist(), [1, 2, -3])
        made = self.numpy.asarray(tensor_of(b"\0" * 8, "bfloat16", (2, 2)))
        converted = self.numpy.asarray(tensor_of(struct.pack("<H", 0x4000), "bfloat16"), "float64")
        self.assertEqual((converted.dtype, converted.tolist()), (self.numpy.float64, [2]))
        self.assertEqual((made.dtype, made.shape), (ml_dtypes.bfloat16, (2, 2)))
        for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"):
            self.assertEqual(tensor_of(b"\0\0", name).numpy().dtype, getattr(ml_dtypes, name))
        with self.assertRaisesRegex(TypeError, "packed"):
            tensor_of(b"\0\0", "float4_e2m1fn").numpy()

    def test_read_into_an_array(self):
        data, name = self.random_file(100000)
        made = self.numpy.zeros((50, 250), dtype="float64")
        self.assertEqual(gds.read_into(made, name).nbytes, 100000)
        self.assertEqual(made.tobytes(), data)
        self.assertEqual(gds.read_into(made[3:5], name, 1000).nbytes, 4000)
        self.assertEqual(made[3:5].tobytes(), data[1000:5000])
        for bad in (made.T, made[:, 3]):
            with self.assertRaises(ValueError):
                gds.read_into(bad, name)
        special = self.numpy.zeros(100, dtype=optional("ml_dtypes").bfloat16)
        self.assertEqual(gds.read_into(special, name, 3).nbytes, 200)
        self.assertEqual(special.tobytes(), data[3:203])
        made.flags.writeable = False
        with self.assertRaisesRegex(ValueError, "read-only"):
            gds.read_into(made, name)


class Torch(TestCase):
    def setUp(self):
        super().setUp()
        self.torch = optional("torch")

    def test_a_tensor_is_the_same_memory_and_keeps_it(self):
        tensor = tensor_of(struct.pack("<6f", *range(6)), "float32", (2, 3))
        for make in (lambda: tensor.torch(), lambda: self.torch.from_dlpack(tensor)):
            made = make()
            self.assertEqual(made.dtype, self.torch.float32)
            self.assertEqual(made.data_ptr(), tensor.address)
            self.assertEqual(tuple(made.shape), (2, 3))
        alive, part = Alive(tensor), made[1, 1:]
        del tensor, made, make
        self.assertTrue(alive)
        self.assertEqual(part.tolist(), [4, 5])
        del part
        self.assertFalse(alive)

    def test_every_type_that_torch_has(self):
        for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16",
                     "float32", "float64", "complex64", "complex128"):
            made = tensor_of(bytes(32), name).torch()
            self.assertEqual(made.dtype, getattr(self.torch, name))

    def test_types_of_newer_versions(self):
        for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e8m0fnu"):
            tensor = tensor_of(bytes(32), name)
            if hasattr(self.torch, name):
                self.assertEqual(tensor.torch().dtype, getattr(self.torch, name))
            else:
                with self.assertRaisesRegex(TypeError, name):
                    tensor.torch()

    def test_a_scalar_and_an_empty_tensor(self):
        self.assertEqual(tensor_of(struct.pack("<f", 7), "float32", ()).torch().item(), 7)
        empty = gds.Device("host").empty((3, 0), "float32").torch()
        self.assertEqual((tuple(empty.shape), empty.dtype), ((3, 0), self.torch.float32))

    def test_read_into_a_tensor_in_place(self):
        data, name = self.random_file(100000)
        for dtype in (self.torch.float32, self.torch.bfloat16, self.torch.bool):
            made = self.torch.zeros(10000, dtype=dtype)
            where = made.data_ptr()
            result = gds.read_into(made, name, 1)
            self.assertEqual(result.nbytes, made.numel() * made.element_size())
            self.assertEqual(made.data_ptr(), where)
            self.assertEqual(made.view(self.torch.uint8).numpy().tobytes(),
                             data[1 : 1 + result.nbytes])
        weight = self.torch.nn.Parameter(self.torch.zeros(5, 5))
        self.assertEqual(gds.read_into(weight, name).nbytes, 100)
        self.assertEqual(weight.detach().numpy().tobytes(), data[:100])
        with self.assertRaisesRegex(ValueError, "not contiguous"):
            gds.read_into(self.torch.zeros(5, 5).t(), name)

    def test_read_into_pinned_memory(self):
        if not self.torch.cuda.is_available():
            self.skipTest("torch pins memory only where it has a CUDA device")
        data, name = self.random_file(100000)
        made = self.torch.zeros(100000, dtype=self.torch.uint8).pin_memory()
        gds.read_into(made, name)
        self.assertEqual(made.numpy().tobytes(), data)

    def test_read_into_cuda_memory(self):
        if not self.torch.cuda.is_available():
            self.skipTest("torch has no CUDA device here")
        data, name = self.random_file(100000)
        made = self.torch.ones(100000, dtype=self.torch.uint8, device="cuda")
        gds.read_into(made.mul_(2), name)
        self.assertEqual(made.cpu().numpy().tobytes(), data)


class Jax(TestCase):
    def setUp(self):
        super().setUp()
        self.jax = optional("jax")

    def test_an_array_is_the_same_memory_and_keeps_it(self):
        tensor = tensor_of(struct.pack("<16f", *range(16)), "float32", (4, 4))
        for make in (tensor.jax, lambda: self.jax.dlpack.from_dlpack(tensor)):
            made = make()
            self.assertEqual((made.shape, str(made.dtype)), ((4, 4), "float32"))
            self.assertEqual(float(made.sum()), 120)
            self.assertEqual(made.unsafe_buffer_pointer(), tensor.address)
        alive = Alive(tensor)
        del tensor, make
        self.assertTrue(alive)
        self.assertEqual(made[3].tolist(), [12, 13, 14, 15])
        del made
        self.assertFalse(alive)

    def test_what_is_not_aligned_or_has_gaps_is_copied(self):
        tensor = tensor_of(struct.pack("<17f", *range(17)), "float32")
        part = tensor._derive(tensor.dtype, (4, 4), 4)
        self.assertEqual(part.jax().tolist(), [[4 * i + j + 1 for j in range(4)] for i in range(4)])
        gaps = tensor._derive(tensor.dtype, (4, 2), 0, (4, 1))
        self.assertEqual(gaps.jax().tolist(), [[4 * i + j for j in range(2)] for i in range(4)])

    def test_every_type_that_jax_has(self):
        for name in ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "float16",
                     "float32", "complex64", "bfloat16", "float8_e4m3fn", "float8_e5m2"):
            self.assertEqual(str(tensor_of(bytes(64), name).jax().dtype), name)
        for name in ("float4_e2m1fn", "int4", "float6_e2m3fn"):
            with self.assertRaisesRegex(TypeError, f"no packed {name}"):
                tensor_of(bytes(3), name).jax()

    def test_its_arrays_never_change(self):
        name = self.write(b"x" * 4096)
        for dtype in ("float32", "bfloat16", "bool"):
            made = self.jax.numpy.zeros((64,), dtype)
            with self.subTest(dtype), self.assertRaisesRegex(ValueError, "arrays of jax"):
                gds.read_into(made, name)
            self.assertEqual(float(made.sum()), 0)


class Others(TestCase):
    def test_cupy_takes_a_cuda_tensor(self):
        cupy = optional("cupy")
        data, name = self.random_file(4096)
        with gds.Device("cuda:0") as device:
            buffer = device.alloc(4096)
            gds.default_reader().read(gds.File(name), buffer)
            self.assertEqual(cupy.asnumpy(cupy.asarray(buffer)).tobytes(), data)


if __name__ == "__main__":
    unittest.main()
