#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Readers, files, batches and futures from Python: what arrives, how one waits, what fails."""

import asyncio
import errno
import logging
import os
import subprocess
import sys
import threading
import time
import unittest
import zlib

import gds

from common import MIB, TIMEOUT, TestCase, collect, device_names, vulkan_device


class Reads(TestCase):
    def setUp(self):
        super().setUp()
        self.data, name = self.random_file(3 * MIB + 4097)
        self.reader = self.enter(gds.Reader())
        self.device = self.enter(gds.Device("host"))
        self.file = self.enter(gds.File(name))
        self.buffer = self.enter(self.device.alloc(4 * MIB))

    def test_a_whole_file_arrives_and_the_result_tells_by_which_path(self):
        result = self.reader.read(self.file, self.buffer)
        self.assertEqual(result.nbytes, len(self.data))
        self.assertEqual(sum(result.paths.values()), len(self.data))
        self.assertEqual(result.path, "mapped")
        self.assertGreaterEqual(result.seconds, 0)
        self.assertEqual(self.buffer.copy_out(0, len(self.data)), self.data)
        self.assertEqual(self.buffer.checksum(0, len(self.data)), zlib.crc32(self.data))

    def test_any_range_to_any_place_is_exact_and_its_neighbours_untouched(self):
        self.buffer.copy_in(bytes(len(self.buffer)))
        result = self.reader.read(self.file, self.buffer, 4099, 77777, 13)
        self.assertEqual(result.nbytes, 77777)
        wanted = bytes(13) + self.data[4099 : 4099 + 77777]
        self.assertEqual(bytes(self.buffer.memoryview()), wanted.ljust(4 * MIB, b"\0"))

    def test_a_read_into_a_tensor_stays_within_it(self):
        self.buffer.copy_in(bytes(len(self.buffer)))
        tensor = self.buffer.tensor("int32", (10, 100), offset=4096)
        result = self.reader.read(self.file, tensor, 1)
        self.assertEqual(result.nbytes, 4000)
        self.assertEqual(tensor.tobytes(), self.data[1:4001])
        self.assertEqual(self.buffer.copy_out(8096, 4), bytes(4))
        with self.assertRaises(ValueError):
            self.reader.read(self.file, tensor, 0, 4001)

    def test_the_end_of_the_file_ends_a_read_short(self):
        self.assertEqual(self.reader.read(self.file, self.buffer, len(self.data) - 5).nbytes, 5)
        result = self.reader.read(self.file, self.buffer, len(self.data) + 5, 100)
        self.assertEqual((result.nbytes, result.paths, result.path), (0, {}, ""))

    def test_every_device_here_gets_the_same_bytes(self):
        for name in device_names():
            with self.subTest(device=name), gds.Device(name) as device:
                with device.alloc(len(self.data)) as buffer:
                    result = self.reader.read(self.file, buffer)
                    self.assertEqual(result.nbytes, len(self.data))
                    self.assertEqual(buffer.copy_out(), self.data)
                    self.assertEqual(buffer.checksum(), zlib.crc32(self.data))

    def test_a_pinned_path_carries_all_bytes(self):
        result = self.reader.read(self.file, self.buffer, path="bounce", fallback=False)
        self.assertEqual(result.paths, {"bounce": len(self.data)})

    def test_a_path_that_cannot_be_taken_says_why(self):
        with self.assertRaises(gds.Error) as caught:
            self.reader.read(self.file, self.buffer, path="dmabuf")
        self.assertEqual(caught.exception.errno, errno.EOPNOTSUPP)
        self.assertIn("dmabuf", caught.exception.strerror)
        verdict = self.reader.explain(self.file, self.buffer).paths["dmabuf"]
        self.assertFalse(verdict.usable)
        self.assertTrue(verdict.reason)
        with self.assertRaisesRegex(ValueError, "no path 'direct'"):
            self.reader.read(self.file, self.buffer, path="direct")

    def test_a_batch_of_many_reads_gives_each_its_result(self):
        with self.reader.batch(capacity=300) as batch:
            first = batch.add_many(
                (self.file, self.buffer, i * 1001, 1001, i * 1001) for i in range(300)
            )
            self.assertEqual((first, len(batch)), (0, 300))
            self.assertIn("not submitted", repr(batch))
            results = batch.submit().results(TIMEOUT)
            self.assertEqual([result.nbytes for result in results], [1001] * 300)
            self.assertIn("complete", repr(batch))
            self.assertEqual(self.buffer.copy_out(0, 300300), self.data[:300300])
            batch.reset()
            batch.add(self.file, self.buffer, 7, 1)
            self.assertEqual(batch.submit().results(TIMEOUT)[0].nbytes, 1)
            with self.assertRaises(gds.Error) as caught:
                batch.add(self.file, self.buffer, 7, 1)
            self.assertEqual(caught.exception.errno, errno.EBUSY)
            with self.assertRaises(gds.Error) as caught:
                batch.result(1)
            self.assertEqual(caught.exception.errno, errno.EINVAL)

    def test_without_a_progress_thread_the_waiting_calls_make_progress(self):
        for options in ({"progress_thread": False}, {"single_thread": True}, {"lane": "threads"}):
            with self.subTest(**options), gds.Reader(**options) as reader:
                futures = [
                    reader.submit(self.file, self.buffer, i * 9000, 9000, i * 9000)
                    for i in range(200)
                ]
                self.assertEqual([f.result(TIMEOUT).nbytes for f in futures], [9000] * 200)
                self.assertEqual(self.buffer.copy_out(0, 1800000), self.data[:1800000])

    def test_stats_and_repr_name_the_path_that_ran(self):
        self.assertIn("no bytes yet", repr(self.reader))
        self.reader.read(self.file, self.buffer)
        stats = self.reader.stats()
        self.assertEqual((stats.reads, stats.path), (1, "mapped"))
        self.assertEqual(sum(stats.paths.values()), len(self.data))
        self.assertRegex(repr(self.reader), r"lane \w+: 1 reads, \d+ bytes by mapped")

    def test_each_class_of_reads_is_counted_for_itself(self):
        for count, name in enumerate(("foreground", "prefetch", "background"), 1):
            for _ in range(count):
                self.reader.read(self.file, self.buffer, 0, 1000, read_class=name)
        classes = self.reader.stats().classes
        self.assertEqual([(name, one.reads, one.nbytes) for name, one in classes.items()],
                         [("foreground", 1, 1000), ("prefetch", 2, 2000), ("background", 3, 3000)])
        self.assertTrue(all(one.seconds > 0 for one in classes.values()))
        with self.assertRaisesRegex(ValueError, "no read_class 'urgent'"):
            self.reader.batch(read_class="urgent")

    def test_each_device_of_storage_is_told_of(self):
        self.assertEqual(self.reader.storage(), [])
        self.reader.read(self.file, self.buffer)
        (storage,) = self.reader.storage()
        self.assertEqual(self.reader.stats().storage_devices, 1)
        self.assertTrue(storage.name)
        self.assertEqual((storage.reads, storage.nbytes), (1, len(self.data)))
        self.assertGreater(storage.depth, 0)

    def test_every_option_reaches_the_library(self):
        with gds.Reader(in_flight_bytes=MIB, transfer_bytes=MIB, dmabuf_shape="pairs",
                        canary_interval=0.5, staging_bytes=8 * MIB) as reader:
            self.assertEqual(reader.read(self.file, self.buffer).nbytes, len(self.data))
            self.assertLessEqual(reader.stats().in_flight_peak, 1)
        for bad in ({"in_flight_bytes": 1}, {"transfer_bytes": 5}, {"staging_bytes": 1}):
            with self.subTest(**bad), self.assertRaises(gds.Error):
                gds.Reader(**bad)
        with self.assertRaisesRegex(ValueError, "no dmabuf_shape 'v9'"):
            gds.Reader(dmabuf_shape="v9")


class Waiting(TestCase):
    def setUp(self):
        super().setUp()
        self.data, self.name = self.random_file(8 * MIB)
        self.reader = self.enter(gds.Reader(queue_depth=1, transfer_bytes=4096))
        self.file = self.enter(gds.File(self.name))
        self.buffer = self.enter(gds.Device("host").alloc(8 * MIB))

    def test_a_result_that_is_waited_for_too_short_raises_a_timeout_and_goes_on(self):
        # 2048 operations, one after another, are not done in no time at all.
        future = self.reader.submit(self.file, self.buffer)
        with self.assertRaises(TimeoutError) as caught:
            future.result(0)
        self.assertEqual(caught.exception.errno, errno.ETIMEDOUT)
        self.assertIsNone(future.exception(TIMEOUT))
        self.assertTrue(future.done())
        self.assertFalse(future.cancelled())
        self.assertEqual(self.buffer.copy_out(), self.data)

    def test_a_read_past_its_deadline_is_over_with_an_error_of_its_own(self):
        future = self.reader.submit(self.file, self.buffer, deadline=0)
        with self.assertRaises(gds.DeadlineError) as caught:
            future.result(TIMEOUT)
        self.assertIsInstance(caught.exception, TimeoutError)
        self.assertTrue(future.done())
        self.assertEqual(self.reader.stats().reads_expired, 1)
        self.assertEqual(self.reader.stats().in_flight, 0)
        batch = self.reader.batch(deadline=1e6)
        batch.add(self.file, self.buffer)
        self.assertEqual(batch.submit().results(TIMEOUT)[0].nbytes, len(self.data))
        for bad in (-1, float("nan"), float("inf"), 1e30):
            with self.subTest(deadline=bad), self.assertRaisesRegex(ValueError, "deadline of"):
                self.reader.batch(deadline=bad)

    def test_a_cancelled_read_ends_with_ecanceled(self):
        future = self.reader.submit(self.file, self.buffer)
        self.assertTrue(future.cancel())
        with self.assertRaises(gds.CancelledError) as caught:
            future.result(TIMEOUT)
        self.assertEqual(caught.exception.errno, errno.ECANCELED)
        self.assertTrue(future.cancelled())
        self.assertFalse(future.cancel())

    def test_another_thread_can_cancel_what_one_waits_for(self):
        batch = self.reader.batch()
        for _ in range(8):
            batch.add(self.file, self.buffer)
        batch.submit()
        seen = []
        waiter = threading.Thread(target=lambda: seen.append(batch.wait(TIMEOUT).errors()))
        waiter.start()
        batch.cancel()
        waiter.join(TIMEOUT)
        self.assertEqual({error.errno for error in seen[0].values()}, {errno.ECANCELED})

    def test_a_future_that_is_dropped_leaves_the_memory_in_order(self):
        for _ in range(5):
            buffer = gds.Device("host").alloc(8 * MIB)
            self.reader.submit(self.file, buffer)
            del buffer
        collect()
        self.assertEqual(self.reader.stats().in_flight, 0)

    def test_waiting_does_not_hold_the_interpreter(self):
        future = self.reader.submit(self.file, self.buffer)
        turns = 0
        waiter = threading.Thread(target=future.result)
        waiter.start()
        while waiter.is_alive():
            turns += 1
            time.sleep(0)
        self.assertGreater(turns, 1)
        self.assertEqual(self.buffer.copy_out(), self.data)

    def test_a_closed_reader_cancels_and_refuses(self):
        future = self.reader.submit(self.file, self.buffer)
        self.reader.close()
        self.assertIn(getattr(future.exception(TIMEOUT), "errno", 0), (0, errno.ECANCELED))
        with self.assertRaisesRegex(ValueError, "closed"):
            self.reader.read(self.file, self.buffer)
        self.assertEqual(repr(self.reader), "<gds.Reader, closed>")

    def test_ctrl_c_interrupts_a_wait(self):
        program = (
            "import gds, sys\n"
            "r = gds.Reader(queue_depth=1, transfer_bytes=4096)\n"
            "f, b = gds.File(sys.argv[1]), gds.Device('host').alloc(8 << 20)\n"
            "try:\n"
            "    print('waiting', flush=True)\n"
            "    while True: r.read(f, b)\n"
            "except KeyboardInterrupt:\n"
            "    print('interrupted', flush=True)\n"
        )
        child = subprocess.Popen([sys.executable, "-c", program, self.name],
                                 stdout=subprocess.PIPE, text=True)
        self.assertEqual(child.stdout.readline(), "waiting\n")
        child.send_signal(2)
        self.assertEqual(child.communicate(timeout=TIMEOUT)[0], "interrupted\n")
        self.assertEqual(child.returncode, 0)


class Asyncio(TestCase):
    def setUp(self):
        super().setUp()
        self.data, name = self.random_file(4 * MIB)
        self.file = self.enter(gds.File(name))
        self.buffer = self.enter(gds.Device("host").alloc(4 * MIB))

    def check_many(self, reader):
        async def one(i):
            return (await reader.submit(self.file, self.buffer, i * 4001, 4001, i * 4001)).nbytes

        async def main():
            return await asyncio.wait_for(asyncio.gather(*map(one, range(1000))), TIMEOUT)

        self.assertEqual(asyncio.run(main()), [4001] * 1000)
        self.assertEqual(self.buffer.copy_out(0, 4001000), self.data[:4001000])

    def test_a_thousand_coroutines_get_their_bytes(self):
        for options in ({}, {"progress_thread": False}, {"lane": "threads"}):
            with self.subTest(**options), gds.Reader(**options) as reader:
                self.buffer.copy_in(bytes(4 * MIB))
                self.check_many(reader)

    def test_event_loops_in_two_threads_share_a_reader(self):
        with gds.Reader() as reader:
            failed = []

            def run():
                try:
                    self.check_many(reader)
                except BaseException as error:
                    failed.append(error)

            threads = [threading.Thread(target=run) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(2 * TIMEOUT)
            self.assertEqual(failed, [])

    def test_a_batch_can_be_awaited_and_raises_what_failed(self):
        async def main():
            with gds.Reader() as reader, reader.batch() as batch:
                batch.add(self.file, self.buffer, 0, 100)
                self.assertEqual([r.nbytes for r in await batch.submit()], [100])
                other = gds.File(self.write(b"x" * 10000, "other"))
                batch.reset()
                batch.add(other, self.buffer)
                other.close()
                self.assertEqual([r.nbytes for r in await batch.submit()], [10000])

        asyncio.run(main())

    def test_a_thread_and_a_coroutine_wait_for_the_same_batch(self):
        async def main():
            with gds.Reader(queue_depth=1, transfer_bytes=4096) as reader:
                for _ in range(20):
                    batch = reader.batch()
                    batch.add(self.file, self.buffer, 0, MIB)
                    batch.submit()
                    loop = asyncio.get_running_loop()
                    thread = loop.run_in_executor(None, batch.wait)
                    await asyncio.wait_for(batch, TIMEOUT)
                    await thread

        asyncio.run(main())

    def test_a_reader_that_is_closed_wakes_who_waits_for_it(self):
        def close_here(reader):
            asyncio.get_running_loop().call_soon(reader.close)

        def close_in_a_thread(reader):
            threading.Thread(target=reader.close).start()

        async def main(close):
            reader = gds.Reader(queue_depth=1, transfer_bytes=4096)
            batch = reader.batch()
            for _ in range(20):
                batch.add(self.file, self.buffer)
            batch.submit()
            close(reader)
            with self.assertRaises(gds.CancelledError):
                await asyncio.wait_for(batch, TIMEOUT)

        for close in (close_here, close_in_a_thread):
            with self.subTest(close=close.__name__):
                asyncio.run(main(close))

    def test_a_cancelled_task_leaves_no_read_behind(self):
        async def main():
            with gds.Reader(queue_depth=1, transfer_bytes=4096) as reader:
                async def read():
                    await reader.submit(self.file, self.buffer)

                task = asyncio.ensure_future(read())
                await asyncio.sleep(0)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.assertEqual(reader.stats().in_flight, 0)

        asyncio.run(main())


class Errors(TestCase):
    def test_a_missing_file_is_a_file_not_found_error_with_the_librarys_message(self):
        with self.assertRaises(FileNotFoundError) as caught:
            gds.File(self.path("missing"))
        self.assertIsInstance(caught.exception, gds.Error)
        self.assertEqual(caught.exception.errno, errno.ENOENT)
        self.assertIn(self.path("missing"), caught.exception.strerror)

    def test_a_folder_is_refused_as_such(self):
        with self.assertRaises(IsADirectoryError):
            gds.File(self.folder)

    def test_an_unknown_device_says_what_is_known(self):
        with self.assertRaises(gds.Error) as caught:
            gds.Device("nonsense")
        self.assertEqual(caught.exception.errno, errno.EINVAL)
        self.assertIn("nonsense", str(caught.exception))

    def test_options_out_of_range_are_refused(self):
        with self.assertRaises(gds.Error) as caught:
            gds.Reader(queue_depth=100000)
        self.assertEqual(caught.exception.errno, errno.EINVAL)
        with self.assertRaisesRegex(ValueError, "no lane 'fast'"):
            gds.Reader(lane="fast")

    def test_closed_objects_are_refused_and_may_be_closed_again(self):
        file = gds.File(self.write(b"data"))
        buffer = gds.Device("host").alloc(4096)
        with gds.Reader() as reader:
            file.close()
            file.close()
            with self.assertRaisesRegex(ValueError, "is closed"):
                reader.read(file, buffer)
            buffer.close()
            with self.assertRaisesRegex(ValueError, "is closed"):
                buffer.copy_out()
        reader.close()

    def test_nonsense_sizes_are_refused(self):
        device = gds.Device("host")
        with self.assertRaises(gds.Error):
            device.alloc(0)
        with self.assertRaises(ValueError):
            device.alloc(-1)
        with self.assertRaises(ValueError):
            device.alloc(10).copy_out(5, 6)
        with self.assertRaises(ValueError):
            device.alloc(10).tensor("int32", (3,))
        with self.assertRaisesRegex(TypeError, "no element type"):
            device.alloc(10).tensor("float7")

    def test_log_lines_come_through_logging(self):
        # Files of procfs do not take O_DIRECT, which is said at the level "info".
        with self.assertLogs("gds", logging.INFO) as logs:
            gds.set_log_level(logging.INFO)
            try:
                gds.File("/proc/version").close()
            finally:
                gds.set_log_level(logging.WARNING)
        self.assertEqual(logs.records[0].levelno, logging.INFO)
        self.assertIn("/proc/version", logs.records[0].getMessage())

    def test_a_child_after_fork_opens_its_own(self):
        reader = gds.default_reader()
        data, name = self.random_file(5000)
        child = os.fork()
        if child == 0:
            try:
                mine = bytearray(5000)
                same = gds.default_reader() is reader
                gds.read_into(mine, name)
                os._exit(0 if bytes(mine) == data and not same else 1)
            except BaseException:
                os._exit(2)
        self.assertEqual(os.waitpid(child, 0)[1], 0)


class Exit(TestCase):
    """A program may end in any state."""

    def check_program(self, text):
        name = self.write(b"x" * (8 * MIB))
        # Of errors alone: a user's limit of locked memory makes it warn.
        done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", text, name],
                              capture_output=True, text=True, timeout=TIMEOUT,
                              env={**os.environ, "GDS_LOG": "error"})
        self.assertEqual((done.returncode, done.stderr), (0, ""), text)

    def test_with_reads_in_flight_and_nothing_closed(self):
        self.check_program(
            "import gds, sys\n"
            "r = gds.Reader(queue_depth=1, transfer_bytes=4096)\n"
            "b = gds.Device('host').alloc(8 << 20)\n"
            "f = r.submit(gds.File(sys.argv[1]), b)\n")

    def test_with_tensors_handed_out(self):
        self.check_program(
            "import gds\n"
            "b = gds.Device('host').alloc(1 << 20)\n"
            "capsules = [b.__dlpack__(), b.__dlpack__(max_version=(1, 0))]\n"
            "try:\n"
            "    import torch, builtins\n"
            "    builtins.kept = b.tensor('float32').torch()\n"
            "except ImportError: pass\n")

    def test_with_a_vulkan_device_open(self):
        vulkan_device().close()
        self.check_program(
            "import gds, sys\n"
            "b = gds.Device('vulkan').alloc(1 << 20)\n"
            "gds.default_reader().read(gds.File(sys.argv[1]), b)\n")


if __name__ == "__main__":
    unittest.main()
