#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What programs do wrong: nonsense as arguments, objects used in the wrong process, ends in the
middle of reads. Each gets a clear error, and none hangs or crashes."""

import asyncio
import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import unittest

import gds
import gds.datasets
from gds.safetensors import load_file, read_header, safe_open

from common import MIB, TIMEOUT, TestCase, collect, optional

NONSENSE = (None, "x", b"x", 1.5, float("nan"), [], {}, object(), -1, 1 << 64, 1 << 100)


class Arguments(TestCase):
    def setUp(self):
        super().setUp()
        self.data, name = self.random_file(100_000)
        self.file = self.enter(gds.File(name))
        self.reader = self.enter(gds.Reader())
        self.buffer = self.enter(gds.Device("host").alloc(8192))

    def refused(self, call, values=NONSENSE):
        for value in values:
            with self.subTest(value=value), self.assertRaises((TypeError, ValueError)) as caught:
                call(value)
            # Not what Python or ctypes stumbled over somewhere inside.
            self.assertNotRegex(str(caught.exception), "not supported between|argument \\d|has no"
                                " attribute|cannot be interpreted|int expected|unsupported operand")

    def test_numbers_that_are_none_are_refused(self):
        file, buffer = self.file, self.buffer
        without_none = NONSENSE[1:]
        self.refused(lambda x: self.reader.read(file, buffer, x))
        self.refused(lambda x: self.reader.read(file, buffer, 0, x), without_none)
        self.refused(lambda x: self.reader.read(file, buffer, 0, 1, x))
        self.refused(lambda x: self.reader.batch(capacity=x))
        self.refused(lambda x: self.reader.batch().submit().wait().result(x))
        self.refused(lambda x: buffer.copy_out(x))
        self.refused(lambda x: buffer.copy_out(0, x), without_none)
        self.refused(lambda x: buffer.copy_in(b"", x))
        self.refused(lambda x: buffer.checksum(x))
        self.refused(lambda x: buffer.tensor(offset=x))
        self.refused(lambda x: buffer.vulkan(x))
        self.refused(lambda x: buffer.device.alloc(x))
        self.refused(lambda x: buffer.device.empty((x,)))
        self.refused(lambda x: buffer.device.import_address(x, 1))
        self.refused(lambda x: buffer.device.import_dmabuf(x, 0, 1))
        self.refused(lambda x: gds.read_into(bytearray(1), file, x))
        for option in ("queue_depth", "threads", "transfer_bytes", "staging_bytes",
                       "in_flight_bytes", "canary_interval", "lane", "dmabuf_shape"):
            values = [x for x in NONSENSE if (option, x) != ("canary_interval", 1.5)]
            self.refused(lambda x: gds.Reader(**{option: x}), values)

    def test_numbers_of_numpy_are_numbers(self):
        numpy = optional("numpy")
        for kind in (numpy.int64, numpy.uint8):
            result = self.reader.read(self.file, self.buffer, kind(100), kind(50), kind(3))
            self.assertEqual(result.nbytes, 50)
            self.assertEqual(self.buffer.copy_out(kind(3), kind(50)), self.data[100:150])

    def test_places_beyond_all_files_and_buffers_are_refused(self):
        for offset in (1 << 63, (1 << 64) - 1):
            with self.assertRaises(gds.Error):
                self.reader.read(self.file, self.buffer, offset)
        result = self.reader.read(self.file, self.buffer, (1 << 63) - 8192 - 1)
        self.assertEqual(result.nbytes, 0)
        self.refused(lambda x: self.reader.read(self.file, self.buffer, 0, 1, x),
                     [8192, 1 << 63, (1 << 64) - 1])

    def test_things_that_are_something_else_are_refused(self):
        things = (None, "x", 5, object(), self.reader)
        self.refused(lambda x: self.reader.read(x, self.buffer), things)
        self.refused(lambda x: self.reader.read(self.file, x), (*things, self.file, bytearray(5)))
        self.refused(lambda x: self.reader.explain(x, self.buffer), things)
        self.refused(lambda x: self.reader.explain(self.file, x), things)
        self.refused(lambda x: self.reader.batch().stream_wait(x), things)
        self.refused(lambda x: self.reader.batch().signal_vulkan(x, 1, 1), things)
        self.refused(lambda x: gds.Device(x), (None, 5, b"host", "host\0x"))
        self.refused(lambda x: gds.File(x), (None, 5, self.file, "a\0b"))
        self.refused(lambda x: gds.set_log_level(x), (None, "info"))
        self.refused(lambda x: self.buffer.tensor(x), (None, "x", 5, [], "float"))
        self.refused(lambda x: load_file(x), (None, 5, "a\0b"))
        self.refused(lambda x: safe_open(x), (None, 5, 0, "a\0b"))

    def test_shapes_are_whole_numbers(self):
        tensor = self.buffer.tensor("uint8", 8192)
        self.assertEqual(tensor.shape, (8192,))
        self.assertEqual(tensor.reshape(2, -1).shape, (2, 4096))
        self.assertEqual(tensor.reshape((4, 2048)).shape, (4, 2048))
        self.refused(lambda x: self.buffer.tensor("uint8", x), NONSENSE[1:5] + ((-1,), (1.5,)))
        self.refused(tensor.reshape, ((-1, -1), -2, (3, -1), (-1, 0), 8191, 1.5, "x", None))
        self.refused(lambda x: tensor[x], (None, "x", 1.5, slice(0, 1), (0, 0), ...))

    def test_names_of_files_may_be_of_any_kind(self):
        path = os.path.join(self.folder.encode(), b"not utf-8 \xff\xfe")
        with open(path, "wb") as file:
            file.write(b"0123456789")
        for name in (path, os.fsdecode(path)):
            into = bytearray(10)
            self.assertEqual(gds.read_into(into, name).nbytes, 10)
            self.assertEqual(into, b"0123456789")
            self.assertEqual(len(gds.datasets.records(name, "uint8", (5,))), 2)
            with self.assertRaisesRegex(ValueError, "not utf-8"):
                read_header(name)
            with gds.File(name) as file:
                repr(file)
        with self.assertRaisesRegex(FileNotFoundError, "nowhere"):
            gds.File(b"/nowhere/\xff")

    def test_a_pipe_without_a_writer_is_not_waited_for(self):
        os.mkfifo(self.path("pipe"))
        for read in (lambda: gds.File(self.path("pipe")), lambda: load_file(self.path("pipe")),
                     lambda: gds.datasets.tar(self.path("pipe")),
                     lambda: gds.datasets.records(self.path("pipe"), "uint8", (1,)),
                     lambda: gds.datasets.tfrecord(self.path("pipe")),
                     lambda: gds.datasets.npy(self.path("pipe"))):
            with self.assertRaises((ValueError, OSError)):
                read()


class Processes(TestCase):
    """Objects of gds belong to the process that opened them."""

    def setUp(self):
        super().setUp()
        self.data, self.name = self.random_file(8 * MIB)
        self.reader = self.enter(gds.Reader(queue_depth=1, transfer_bytes=4096))
        self.file = self.enter(gds.File(self.name))
        self.buffer = self.enter(gds.Device("host").alloc(8 * MIB))

    def in_child(self, call):
        """Whether `call` was true in a child made by fork()."""
        child = os.fork()
        if child == 0:
            signal.alarm(TIMEOUT)
            try:
                os._exit(0 if call() else 1)
            except BaseException as error:
                print(error, file=sys.stderr)
                os._exit(2)
        return os.waitpid(child, 0)[1] == 0

    def refuses(self, call):
        try:
            call()
        except RuntimeError as error:
            return "before fork" in str(error)
        return False

    def test_a_child_is_told_to_open_its_own(self):
        future = self.reader.submit(self.file, self.buffer)
        calls = (lambda: self.reader.read(self.file, self.buffer), self.reader.stats,
                 lambda: self.file.nbytes, lambda: self.buffer.copy_out(0, 1), future.result,
                 future.done, future.cancel, lambda: self.buffer.device.alloc(1))
        self.assertTrue(self.in_child(lambda: all(self.refuses(call) for call in calls)))
        self.assertTrue(self.in_child(lambda: "parent" in repr(self.reader) + repr(future._batch)))
        self.assertTrue(self.in_child(lambda: not self.reader.close() and not self.file.close()))
        self.assertEqual(future.result(TIMEOUT).nbytes, len(self.data))
        self.assertEqual(self.buffer.copy_out(), self.data)

    def test_a_child_does_not_wait_for_locks_that_no_one_holds_there(self):
        stop, futures = threading.Event(), [self.reader.submit(self.file, self.buffer)]

        def wait():
            while not stop.is_set():
                futures[0].result()
                gds.default_reader()
                futures[0] = self.reader.submit(self.file, self.buffer)

        thread = threading.Thread(target=wait)
        thread.start()
        try:
            for _ in range(10):
                self.assertTrue(self.in_child(lambda: self.refuses(futures[0].result)))
                self.assertTrue(self.in_child(
                    lambda: gds.read_into(bytearray(100), self.name).nbytes == 100))
        finally:
            stop.set()
            thread.join()

    def test_what_was_read_before_is_there_in_a_child(self):
        """Which the workers of a DataLoader are."""
        self.reader.read(self.file, self.buffer)
        view = self.buffer.memoryview()
        self.assertTrue(self.in_child(lambda: bytes(view) == self.data))
        self.reader.read(self.file, self.buffer, 1)
        self.assertEqual(bytes(view)[:-1], self.data[1:])

    def test_objects_cannot_be_pickled_or_copied(self):
        things = [self.reader, self.file, self.buffer, self.buffer.device, self.buffer.tensor(),
                  self.reader.batch(), self.reader.submit(self.file, self.buffer)]
        for thing in things:
            for travel in (pickle.dumps, copy.deepcopy):
                with self.subTest(type(thing).__name__), self.assertRaises(TypeError):
                    travel(thing)


class Ends(TestCase):
    """Programs that stop in the middle."""

    def setUp(self):
        super().setUp()
        self.data, self.name = self.random_file(8 * MIB)

    def run_program(self, text, expect=""):
        program = (
            "import asyncio, gc, gds, sys, threading\n"
            "reader = gds.Reader(queue_depth=1, transfer_bytes=4096)\n"
            "file, buffer = gds.File(sys.argv[1]), gds.Device('host').alloc(8 << 20)\n" + text)
        done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", program, self.name],
                              capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual((done.returncode, done.stderr, done.stdout), (0, "", expect), text)

    def test_a_reader_goes_with_reads_in_flight(self):
        self.run_program(
            "future = reader.submit(file, buffer)\n"
            "del reader; gc.collect()\n"
            "print(future.result().nbytes)\n"
            "reader = gds.Reader(queue_depth=1, transfer_bytes=4096)\n"
            "future = reader.submit(file, buffer)\n"
            "del reader, future, buffer, file; gc.collect()\n"
            "print('gone')\n", f"{8 * MIB}\ngone\n")

    def test_threads_still_wait_at_the_end(self):
        self.run_program(
            "def wait():\n"
            "    try:\n"
            "        while True: reader.read(file, buffer)\n"
            "    except (ValueError, gds.CancelledError): pass  # closed at the end\n"
            "for _ in range(3): threading.Thread(target=wait, daemon=True).start()\n"
            "reader.read(file, buffer)\n")

    def test_an_event_loop_ends_before_its_reads(self):
        self.run_program(
            "async def main():\n"
            "    async def read(): await reader.submit(file, buffer)\n"
            "    tasks = [asyncio.ensure_future(read()) for _ in range(5)]\n"
            "    await asyncio.sleep(0)\n"
            "asyncio.run(main())\n"
            "print(reader.stats().in_flight, reader.read(file, buffer).nbytes)\n",
            f"0 {8 * MIB}\n")

    def test_a_loop_that_is_closed_by_force_leaves_the_reader_alone(self):
        self.run_program(
            "async def read(): await reader.submit(file, buffer)\n"
            "loop = asyncio.new_event_loop()\n"
            "coroutine = read()\n"
            "task = loop.create_task(coroutine)\n"
            "loop.call_later(0.001, loop.stop)\n"
            "loop.run_forever()\n"
            "task._log_destroy_pending = False\n"
            "loop.close()\n"
            "print(reader.read(file, buffer).nbytes)\n"
            "print(asyncio.run(asyncio.wait_for(reader.submit(file, buffer), 60)).nbytes)\n",
            f"{8 * MIB}\n{8 * MIB}\n")

    def test_an_exception_in_the_log_or_an_owner_does_not_reach_the_library(self):
        import logging

        class Broken(logging.Handler):
            def emit(self, record):
                raise ZeroDivisionError

        handler = Broken()
        logger = logging.getLogger("gds")
        logger.addHandler(handler)
        seen, hook = [], sys.unraisablehook
        sys.unraisablehook = lambda what: seen.append(what.exc_type)
        try:
            gds.set_log_level(logging.INFO)
            logger.setLevel(logging.INFO)
            gds.File("/proc/version").close()
        finally:
            sys.unraisablehook = hook
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
            gds.set_log_level(logging.WARNING)
        self.assertIn(ZeroDivisionError, seen)
        self.assertEqual(gds.read_into(bytearray(5), self.name).nbytes, 5)

    def test_many_threads_use_one_batch(self):
        with gds.Reader() as reader, gds.File(self.name) as file:
            buffer = gds.Device("host").alloc(8 * MIB)
            batch = reader.batch()
            for i in range(64):
                batch.add(file, buffer, i * 100_000, 100_000, i * 100_000)
            batch.submit()
            failed = []

            def use():
                try:
                    for _ in range(20):
                        batch.done()
                        repr(batch)
                        batch.wait(TIMEOUT).results()
                except BaseException as error:
                    failed.append(error)

            threads = [threading.Thread(target=use) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(TIMEOUT)
            self.assertEqual(failed, [])
            self.assertEqual(buffer.copy_out(0, 6_400_000), self.data[:6_400_000])

    def test_cancelled_tasks_give_the_memory_back_when_they_end(self):
        async def main():
            with gds.Reader(queue_depth=1, transfer_bytes=4096) as reader:
                with gds.File(self.name) as file:
                    buffer = gds.Device("host").alloc(8 * MIB)

                    async def read():
                        await reader.submit(file, buffer)

                    tasks = [asyncio.ensure_future(read()) for _ in range(20)]
                    await asyncio.sleep(0)
                    for task in tasks:
                        task.cancel()
                    done = await asyncio.gather(*tasks, return_exceptions=True)
                    self.assertTrue(all(isinstance(one, asyncio.CancelledError) for one in done))
                    self.assertEqual(reader.stats().in_flight, 0)
                    with self.assertRaises(asyncio.TimeoutError):
                        await asyncio.wait_for(reader.submit(file, buffer), 0.001)
                    self.assertEqual((await reader.submit(file, buffer, 0, 10)).nbytes, 10)

        asyncio.run(main())
        gc.collect()
        collect()


if __name__ == "__main__":
    unittest.main()
