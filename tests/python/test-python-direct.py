#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The package on NVMe drives whose reads go straight into a device's memory.

For kernel/vm, whose drives are scratch: elsewhere everything is skipped.
"""

import asyncio
import os
import random
import unittest
import zlib

import gds
from gds import datasets

from common import MIB, TestCase, device_names, optional

DRIVES = ("/dev/nvme0n1", "/dev/nvme1n1")
BYTES = 8 * MIB


def exporters():
    """Devices here whose memory drives can write into."""
    return [name for name in device_names() if name.startswith(("udmabuf", "vulkan:", "dma-heap"))]


class Direct(TestCase):
    @classmethod
    def setUpClass(cls):
        if os.environ.get("GDS_VM") != "1":
            raise unittest.SkipTest("not in kernel/vm, whose drives may be written to")
        cls.data = random.Random(1).randbytes(BYTES)
        for drive in DRIVES:
            with open(drive, "r+b") as file:
                file.write(cls.data)
                file.flush()
                os.fsync(file.fileno())

    def setUp(self):
        super().setUp()
        self.reader = self.enter(gds.Reader())

    def each(self):
        """Every drive and every kind of memory: the file, and a buffer on a device."""
        self.assertTrue(exporters(), gds.devices())
        for drive in DRIVES:
            for name in exporters():
                with self.subTest(drive=drive, device=name), gds.File(drive) as file:
                    with gds.Device(name) as device, device.alloc(BYTES) as buffer:
                        yield file, buffer

    def test_a_read_goes_by_the_path_dmabuf_and_says_so(self):
        for file, buffer in self.each():
            result = self.reader.read(file, buffer, path="dmabuf", fallback=False)
            self.assertEqual(result.path, "dmabuf")
            self.assertEqual(result.paths, {"dmabuf": BYTES})
            self.assertEqual(buffer.checksum(), zlib.crc32(self.data))
            self.assertEqual(self.reader.explain(file, buffer).path, "dmabuf")

    def test_auto_takes_the_path_dmabuf(self):
        for file, buffer in self.each():
            result = self.reader.read(file, buffer)
            self.assertEqual((result.path, result.nbytes), ("dmabuf", BYTES))
        self.assertEqual(self.reader.stats().path, "dmabuf")
        self.assertRegex(repr(self.reader), r"\d+ bytes by dmabuf")
        self.assertGreater(self.reader.stats().canaries, 0)

    def test_any_range_to_any_place_is_exact(self):
        chance = random.Random(2)
        for file, buffer in self.each():
            futures = []
            for i in range(20):
                length = chance.randrange(1, BYTES // 20)
                offset = chance.randrange(BYTES - length)
                at = i * (BYTES // 20)
                futures.append((self.reader.submit(file, buffer, offset, length, at), offset,
                                length, at))
            for future, offset, length, at in futures:
                result = future.result(60)
                self.assertEqual(result.nbytes, length)
                self.assertEqual(buffer.copy_out(at, length), self.data[offset : offset + length])

    def test_numpy_sees_what_the_drive_wrote_without_a_copy(self):
        numpy = optional("numpy")
        wanted = numpy.frombuffer(self.data, dtype="uint32")
        for file, buffer in self.each():
            result = self.reader.read(file, buffer)
            self.assertEqual(result.path, "dmabuf")
            if buffer.address is None:
                with self.assertRaises(BufferError):
                    buffer.__dlpack__()
                continue
            array = numpy.asarray(buffer.tensor("uint32"))
            self.assertEqual(array.ctypes.data, buffer.address)
            self.assertTrue(numpy.array_equal(array, wanted))

    def test_coroutines_await_direct_reads(self):
        async def main(file, buffer):
            step = BYTES // 64
            return await asyncio.gather(*(
                self.reader.submit(file, buffer, i * step, step, i * step) for i in range(64)))

        for file, buffer in self.each():
            results = asyncio.run(main(file, buffer))
            self.assertEqual({result.path for result in results}, {"dmabuf"})
            self.assertEqual(buffer.checksum(), zlib.crc32(self.data))

    def test_a_loader_feeds_from_a_drive(self):
        wanted = sorted(zlib.crc32(self.data[i : i + 65536]) for i in range(0, BYTES, 65536))
        for name in exporters():
            for drive in DRIVES:
                data = datasets.samples((drive, i, 65536) for i in range(0, BYTES, 65536))
                loader = datasets.Loader(data, 10, device=name, shuffle=True, reader=self.reader)
                seen = [zlib.crc32(sample.tobytes()) for batch in loader for sample in batch]
                self.assertEqual(sorted(seen), wanted)
        self.assertEqual(list(self.reader.stats().paths), ["dmabuf"])


if __name__ == "__main__":
    unittest.main()
