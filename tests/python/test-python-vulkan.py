#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program's own Vulkan device, buffers and semaphores, handed over to gds from Python."""

import ctypes
import errno
import threading
import unittest
import weakref

import gds

from common import MIB, TestCase, collect, vulkan_device
from vulkan import Program


class Lock:
    """A lock that counts how often it was taken."""

    def __init__(self):
        self.lock, self.taken = threading.Lock(), 0

    def __enter__(self):
        self.lock.acquire()
        self.taken += 1

    def __exit__(self, *_):
        self.lock.release()


class OwnDevice(TestCase):
    def setUp(self):
        super().setUp()
        vulkan_device().close()
        self.program = Program()
        # What gds has made of it goes first: the program's objects are last to go.
        self.stack.callback(self.program.close)
        self.stack.callback(collect)
        self.lock = Lock()
        self.data, name = self.random_file(MIB + 4096)
        self.file = self.enter(gds.File(name))
        self.reader = self.enter(gds.Reader())

    def device(self, **options):
        program = self.program
        return gds.Device.from_vulkan(
            program.instance.value, program.physical.value, program.device.value,
            program.queue.value, 0, queue_lock=self.lock, **options)

    def buffer(self, device, nbytes=None, **options):
        """A VkBuffer as a buffer of gds, and where it is mapped."""
        nbytes = nbytes or len(self.data)
        buffer, memory, kind, mapping = self.program.buffer(nbytes)
        return device.import_vulkan(buffer.value, memory.value, nbytes, memory_type=kind,
                                    mapping=mapping.value, **options), mapping.value

    def test_a_read_lands_in_the_programs_own_buffer(self):
        with self.device() as device:
            self.assertRegex(device.name, "^vulkan")
            buffer, mapping = self.buffer(device)
            for path in ("mapped", "bounce"):
                with self.subTest(path=path):
                    ctypes.memset(mapping, 0, len(self.data))
                    result = self.reader.read(self.file, buffer, path=path)
                    self.assertEqual(result.paths, {path: len(self.data)})
                    self.assertEqual(ctypes.string_at(mapping, len(self.data)), self.data)
            del buffer

    def test_the_lock_is_held_around_uses_of_the_queue(self):
        with self.device() as device:
            buffer, _ = self.buffer(device)
            before = self.lock.taken
            self.reader.read(self.file, buffer, path="bounce")
            self.assertGreater(self.lock.taken, before)
            self.assertTrue(self.lock.lock.acquire(blocking=False))
            self.lock.lock.release()
            del buffer

    def test_a_semaphore_is_signalled_when_the_bytes_are_there(self):
        with self.device() as device, self.reader.batch() as batch:
            buffer, mapping = self.buffer(device)
            semaphore = self.program.semaphore()
            batch.add(self.file, buffer)
            batch.signal_vulkan(device, semaphore.value, 7)
            self.assertEqual(self.program.value(semaphore), 0)
            batch.submit()
            self.program.wait(semaphore, 7)
            self.assertEqual(ctypes.string_at(mapping, len(self.data)), self.data)
            batch.results(60)
            with self.assertRaises(gds.Error) as caught:
                batch.signal_vulkan(device, semaphore.value, 8)
            self.assertEqual(caught.exception.errno, errno.EBUSY)
            del buffer

    def test_a_semaphore_is_not_signalled_where_a_read_failed(self):
        with self.device() as device, self.reader.batch() as batch:
            buffer, _ = self.buffer(device)
            semaphore = self.program.semaphore()
            for _ in range(100):
                batch.add(self.file, buffer)
            batch.signal_vulkan(device, semaphore.value, 1)
            batch.submit()
            batch.cancel()
            batch.wait(60)
            self.assertEqual(self.program.value(semaphore), 0 if batch.errors() else 1)
            del buffer

    def test_what_was_handed_over_is_kept_and_let_go_of(self):
        class Owner:
            pass

        owners = [Owner(), Owner()]
        seen = [weakref.ref(owner) for owner in owners]
        device = self.device(owner=owners[0])
        buffer, _ = self.buffer(device, owner=owners[1])
        owners.clear()
        device.close()
        collect()
        self.assertTrue(all(one() for one in seen))
        del buffer, device
        collect()
        self.assertFalse(any(one() for one in seen))

    def test_gds_tells_where_its_own_buffers_are(self):
        with self.device() as device, device.alloc(MIB) as buffer:
            first, later = buffer.vulkan(), buffer.vulkan(4096)
            self.assertNotEqual(first.buffer, 0)
            self.assertEqual(first.nbytes, MIB)
            self.assertEqual(later, (first.buffer, first.offset + 4096, MIB - 4096))
            with self.assertRaises(gds.Error):
                buffer.vulkan(MIB + 1)
            with self.assertRaises(ValueError):
                buffer.vulkan(-1)
        with gds.Device("host").alloc(10) as other, self.assertRaises(gds.Error) as caught:
            other.vulkan()
        self.assertEqual(caught.exception.errno, errno.ENOTSUP)

    def test_handles_that_are_none_are_refused(self):
        program = self.program
        for bad in (program.instance, "x", None, 1.5):
            with self.assertRaisesRegex(TypeError, "instance is a whole number"):
                gds.Device.from_vulkan(bad, 1, 1, 1, 0)
        with self.assertRaises(gds.Error):
            gds.Device.from_vulkan(program.instance.value, program.physical.value, 0, 0, 0)
        with self.assertRaises(gds.Error):
            gds.Device("host").import_vulkan(1, 1, 4096, memory_type=0)
        with self.reader.batch() as batch, self.assertRaises(gds.Error):
            batch.signal_vulkan(gds.Device("host"), 1, 1)


if __name__ == "__main__":
    unittest.main()
