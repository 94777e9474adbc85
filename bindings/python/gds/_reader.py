# SPDX-License-Identifier: Apache-2.0
"""Readers, files and batches: what is read, and how one waits for it."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import functools
import os
import threading
import time
from typing import (
    Any,
    Callable,
    Dict,
    Generator,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Tuple,
    Union,
)

from . import _library
from ._errors import DeadlineError, Error, TimedOutError, check, make_error
from ._handle import Handle, after_fork
from ._library import (
    CLASSES,
    LANES,
    PATHS,
    c_text,
    last_error,
    lib,
    nanoseconds,
    path_bytes,
    text,
    whole,
)
from ._memory import Buffer, Device
from ._tensor import Tensor

Path = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
Destination = Union[Buffer, Tensor]

# How long one wait inside the library lasts at most, so that Ctrl-C and cancel() get through.
_SLICE_S = 0.05


def _number(name: str, names: Tuple[str, ...], what: str) -> int:
    try:
        return names.index(name)
    except ValueError:
        raise ValueError(f"no {what} {name!r}: there are {', '.join(names)}") from None


class Result(NamedTuple):
    """What became of a read that succeeded."""

    nbytes: int
    """Bytes that arrived; fewer than asked for only where the file ends."""
    paths: Dict[str, int]
    """Bytes by the path that carried them: "dmabuf", "mapped", "bounce"."""
    issued_ns: int
    """When its first operation was handed to the lane, of time.monotonic_ns()."""
    completed_ns: int
    """When its last byte was in place, likewise."""

    @property
    def path(self) -> str:
        """The path that carried most of the bytes; empty where there were none."""
        return max(self.paths, key=self.paths.__getitem__) if self.paths else ""

    @property
    def seconds(self) -> float:
        """From the first operation to the last byte."""
        return (self.completed_ns - self.issued_ns) / 1e9


class Verdict(NamedTuple):
    """Whether a path can be used, and what there is to say about it."""

    usable: bool
    reason: str
    """Why not; or, of a usable path, what slows it down."""
    remedy: str
    """What the user can do about it."""


class Explanation(NamedTuple):
    """Which way reads of a file into a buffer go, and why not another."""

    path: str
    lane: str
    direct: bool
    """The file is read with O_DIRECT."""
    offset_alignment: int
    """Of file offsets and lengths that need no edges, in bytes."""
    memory_alignment: int
    """Of addresses that take O_DIRECT, in bytes."""
    direct_reason: str
    """Why the file is read through the page cache, if it is."""
    lane_reason: str
    """Why the lane is not io_uring, if it is not."""
    paths: Dict[str, Verdict]
    kernel: str
    """What the kernel has of the interface for dma-bufs."""
    layout: str
    """How a file lies on the drives below, where that is known."""
    drives: str
    """A line on each drive that is read directly."""


class ClassStats(NamedTuple):
    """What a reader has done for one class of reads."""

    reads: int
    nbytes: int
    seconds: float
    """Summed, from the issue of a read's first operation on."""


class StorageStats(NamedTuple):
    """A device of storage, as one reader uses it."""

    name: str
    """Such as "nvme0n1"; the device number where the kernel has no such name."""
    reads: int
    """Reads that completed, failed ones included."""
    reads_failed: int
    reads_merged: int
    """Read by the same operation as the one before."""
    operations: int
    nbytes: int
    """Delivered."""
    in_flight: int
    """Operations, now."""
    depth: int
    """Operations in flight that are allowed, as found by now."""
    transfer_bytes: int
    rotational: bool
    """Its heads seek."""


class Stats(NamedTuple):
    """What a reader has done since it was opened."""

    reads: int
    """Reads that completed, failed ones included."""
    reads_failed: int
    reads_cancelled: int
    paths: Dict[str, int]
    """Bytes delivered, by path."""
    operations: int
    retries: int
    fallbacks: int
    """Operations that changed their path or way of opening."""
    device_copies: int
    in_flight: int
    in_flight_peak: int
    staging_bytes: int
    lane: str
    canaries: int
    """Proofs of the direct path that were made."""
    canaries_failed: int
    """How many of these found that bytes had not arrived."""
    reads_merged: int
    """Read by the same operation as the one before."""
    reads_expired: int
    """Of those that failed: past the deadline of their batch."""
    storage_devices: int
    """That it has met: `Reader.storage()` tells of each."""
    classes: Dict[str, ClassStats]
    """By class: "foreground", "prefetch", "background"."""

    @property
    def path(self) -> str:
        """The path that carried most of the bytes; empty where there were none."""
        return max(self.paths, key=self.paths.__getitem__) if self.paths else ""


class File:
    """A regular file or a block device to read from, with O_DIRECT where it takes it.

    Raises gds.Error with the errno of open(2); EINVAL for what is neither.
    """

    def __init__(self, path: Path) -> None:
        self._handle: Optional[Handle] = None
        self.path = os.fspath(path)
        """As it was given."""
        pointer = ctypes.c_void_p()
        check(lib.gds_file_open(ctypes.byref(pointer), c_text(self.path, "a path")))
        self._handle = Handle(pointer.value or 0, lib.gds_file_close)

    def _open(self) -> Handle:
        if self._handle is None:
            raise ValueError(f"{os.fsdecode(self.path)} is closed")
        return self._handle

    @property
    def nbytes(self) -> int:
        """Size in bytes now: the file is asked each time."""
        return check(lib.gds_file_bytes(self._open().pointer))

    def close(self) -> None:
        """Closes the file; one with reads in flight closes when they are done."""
        self._handle = None

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<gds.File {self.path!r}{'' if self._handle else ', closed'}>"


class Batch:
    """Reads that are submitted together.

    Filled with `add()`, started with `submit()`, and waited for with `wait()` or `await`.
    It keeps the files and the memory that its reads use. A batch may be submitted again
    after `reset()`. It may be used by several threads.
    """

    def __init__(
        self,
        reader: Reader,
        path: str = "auto",
        fallback: bool = True,
        capacity: int = 0,
        read_class: str = "foreground",
        deadline: Optional[float] = None,
    ) -> None:
        self._handle: Optional[Handle] = None
        self._reader = reader
        self._keeps: List[Any] = []
        self._mutex = threading.RLock()
        self._cancel_wanted = False
        self._submitted = False
        self._complete = False
        self._waiters: List[asyncio.Future[None]] = []
        options = _library.BatchOptions(
            size=ctypes.sizeof(_library.BatchOptions),
            path=_number(path, PATHS, "path"),
            flags=0 if fallback else _library.BATCH_NO_FALLBACK,
            capacity=whole(capacity, "capacity"),
            # 0 is none to the library: what has no time at all gets the least there is.
            deadline_ns=0 if deadline is None else max(nanoseconds(deadline, "deadline"), 1),
            read_class=_number(read_class, CLASSES, "read_class"),
        )
        pointer = ctypes.c_void_p()
        with reader._lock:
            check(
                lib.gds_batch_create(
                    ctypes.byref(pointer), reader._open().pointer, ctypes.byref(options)
                )
            )
        # Destroying it cancels what is in flight, while what it keeps is still there.
        self._handle = Handle(
            pointer.value or 0, lib.gds_batch_destroy, (self._keeps, reader)
        )

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError("the batch is closed")
        return self._handle.pointer

    @property
    def _lock(self) -> Any:
        # In a child of fork() a thread of the parent may hold it for ever.
        if self._handle is not None:
            self._handle.check_process()
        return self._mutex

    def __len__(self) -> int:
        """Reads in the batch."""
        return int(lib.gds_batch_count(self._open()))

    def __repr__(self) -> str:
        if self._handle is None:
            return "<gds.Batch, closed>"
        if self._handle.inherited:
            return "<gds.Batch, of a parent of this process>"
        state = "complete" if self._complete else "in flight" if self._submitted else "not submitted"
        return f"<gds.Batch of {len(self)} reads, {state}>"

    # ---- Filling ----

    def add(
        self,
        file: File,
        into: Destination,
        offset: int = 0,
        length: Optional[int] = None,
        at: int = 0,
    ) -> int:
        """Adds a read of `length` bytes at `offset` of `file` to byte `at` of `into`.

        `length` is all that `into` has room for where it is not given. Where the file ends
        before, the read is short. Returns the index of its result. Raises gds.Error: EINVAL
        for a range outside of the buffer; EOPNOTSUPP where the path that was asked for
        cannot be taken; EBUSY for a batch that was submitted.
        """
        return self.add_many([(file, into, offset, length, at)])

    def add_many(
        self, reads: Iterable[Tuple[File, Destination, int, Optional[int], int]]
    ) -> int:
        """Adds many reads at once, all of them or none: the arguments of `add()`, each.

        Returns the index of the first.
        """
        requests: List[_library.Request] = []
        keeps: List[Any] = []
        for file, into, offset, length, at in reads:
            handle, base, room = _place(into)
            offset, at = whole(offset, "offset"), whole(at, "at")
            length = max(room - at, 0) if length is None else whole(length, "length")
            if at + length > room:
                raise ValueError(f"{length} bytes at {at} do not fit into {room} bytes")
            file_handle = _file_handle(file)
            requests.append(
                _library.Request(
                    file_handle.pointer, handle.pointer, offset, length, base + at, 0
                )
            )
            keeps += (file_handle, handle)
        array = (_library.Request * len(requests))(*requests)
        with self._lock:
            first = check(lib.gds_batch_add(self._open(), array, len(requests)))
            self._keeps += keeps
        return first

    # ---- Running ----

    def submit(self) -> Batch:
        """Starts the reads. Leave their destinations alone until the batch is complete."""
        with self._lock:
            check(lib.gds_batch_submit(self._open()))
            self._submitted = True
        return self

    def done(self) -> bool:
        """Whether every read is done, after a step of progress without waiting."""
        if self._complete:
            return True
        if not self._submitted:
            return False
        # Another thread that waits for the batch makes the progress.
        if not self._lock.acquire(blocking=False):
            return self._complete
        try:
            self._cancel_now()
            if not self._complete and check(lib.gds_batch_poll(self._open())) == 0:
                self._finish()
            return self._complete
        finally:
            self._lock.release()

    def wait(self, timeout: Optional[float] = None) -> Batch:
        """Waits until every read is done, at most `timeout` seconds.

        Raises gds.TimedOutError, a TimeoutError, when the time is up; the reads go on then.
        What became of them is told by `results()`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._wait_slice(deadline):
            if deadline is not None and time.monotonic() >= deadline:
                raise TimedOutError(errno.ETIMEDOUT, f"not done after {timeout} s: {self!r}")
        return self

    def _wait_slice(self, deadline: Optional[float]) -> bool:
        seconds = _SLICE_S
        if deadline is not None:
            seconds = min(seconds, max(deadline - time.monotonic(), 0))
        if not self._lock.acquire(timeout=seconds):
            return False
        try:
            if self._complete:
                return True
            self._cancel_now()
            left = _SLICE_S
            if deadline is not None:
                left = min(left, max(deadline - time.monotonic(), 0))
            result = lib.gds_batch_wait(self._open(), int(left * 1e9))
            if result not in (-errno.ETIMEDOUT, -errno.EINTR):
                check(result)
                self._finish()
            return self._complete
        finally:
            self._lock.release()

    def _finish(self) -> None:
        self._complete = True
        # The files and the memory are the caller's again.
        self._keeps.clear()
        # Also those who looked while this thread held the batch, and saw nothing.
        while self._waiters:
            _tell(self._waiters.pop(), None)

    def cancel(self) -> None:
        """Gives up the reads that are not done: each of them ends with ECANCELED.

        They are over when the storage has let go of the memory: wait for it.
        """
        self._cancel_wanted = self._submitted and not self._complete
        while self._cancel_wanted:
            # Whoever waits for the batch cancels it, at the latest after one slice.
            if self._lock.acquire(timeout=_SLICE_S / 5):
                try:
                    self._cancel_now()
                finally:
                    self._lock.release()

    def _cancel_now(self) -> None:
        if self._cancel_wanted:
            self._cancel_wanted = False
            if not self._complete:
                check(lib.gds_batch_cancel(self._open()))

    def reset(self) -> None:
        """Empties the batch, to use it again. EBUSY for one in flight."""
        with self._lock:
            check(lib.gds_batch_reset(self._open()))
            self._keeps.clear()
            self._submitted = self._complete = False

    def close(self) -> None:
        """Ends the batch. One in flight is cancelled, and waited for."""
        if self._handle and self._handle.inherited:
            self._handle = None
        if self._handle and self._submitted and not self._complete:
            self.cancel()
            self.wait()
        with self._lock:
            handle, self._handle = self._handle, None
            if handle:
                handle.close()

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- Results ----

    def result(self, index: int) -> Result:
        """What became of one read. Raises the gds.Error that it failed with.

        EINPROGRESS for one that is not done, EINVAL where there is no such read.
        """
        raw = _library.Result()
        index = whole(index, "index")
        with self._lock:
            check(lib.gds_batch_result(self._open(), index, ctypes.byref(raw)))
            if raw.bytes == -errno.ETIMEDOUT:
                raise DeadlineError(errno.ETIMEDOUT, last_error())
            if raw.bytes < 0:
                raise make_error(-raw.bytes, last_error())
        return Result(
            int(raw.bytes), path_bytes(raw.path_bytes), int(raw.issued_ns), int(raw.completed_ns)
        )

    def errors(self) -> Dict[int, Error]:
        """Of a complete batch, the reads that failed and why; empty if none did."""
        failed: Dict[int, Error] = {}
        with self._lock:
            left = check(lib.gds_batch_failures(self._open(), None))
            for index in range(len(self)):
                if len(failed) == left:
                    break
                try:
                    self.result(index)
                except Error as error:
                    failed[index] = error
        return failed

    def check(self) -> Batch:
        """Raises the error of the first read that failed, if one did."""
        first = ctypes.c_size_t()
        with self._lock:
            if check(lib.gds_batch_failures(self._open(), ctypes.byref(first))):
                self.result(first.value)
        return self

    def results(self, timeout: Optional[float] = None) -> List[Result]:
        """Waits, and gives the results of all reads. Raises what the first failure was."""
        self.wait(timeout)
        self.check()
        return [self.result(index) for index in range(len(self))]

    def __await__(self) -> Generator[Any, None, List[Result]]:
        yield from self._reader._watch.wait(self).__await__()
        return self.results()

    # ---- The GPU's side ----

    def signal_vulkan(self, device: Device, semaphore: int, value: int) -> None:
        """Has a timeline semaphore signalled with `value` when all reads have succeeded.

        So work in a queue of the GPU waits for the data, and the CPU does not. Called before
        `submit()`; `semaphore` is a VkSemaphore of a Vulkan device, as a number, and `value`
        is above what it has then. Progress must be made meanwhile: by the reader's thread, or
        by `wait()` or `done()`.

        The signal comes from the CPU after the waiting work was submitted, so that begins with
        a barrier from the host's writes: see gds_batch_signal_vulkan() in gds.h. Where a read
        failed the semaphore is not signalled: look at the results.
        """
        number = whole(semaphore, "semaphore"), whole(value, "value")
        handle = _device_handle(device)
        with self._lock:
            check(lib.gds_batch_signal_vulkan(self._open(), handle.pointer, *number))
            self._keeps.append(handle)

    def stream_wait(self, device: Device, stream: int = 0) -> None:
        """Has work that is put into a CUDA stream from now on wait for this batch.

        Called before `submit()`. `stream` is a cudaStream_t as an integer, 0 the default
        stream. The stream goes on also when a read failed: look at the results.
        """
        pointer = ctypes.c_void_p(whole(stream, "stream"))
        handle = _device_handle(device)
        with self._lock:
            check(lib.gds_batch_stream_wait_cuda(self._open(), handle.pointer, pointer))
            self._keeps.append(handle)


def _device_handle(device: Device) -> Handle:
    if not isinstance(device, Device):
        raise TypeError(f"a gds.Device is wanted, not {type(device).__name__}")
    return device._open()


def _file_handle(file: File) -> Handle:
    if not isinstance(file, File):
        raise TypeError(f"a gds.File is read from, not {type(file).__name__}")
    return file._open()


def _place(into: Destination) -> Tuple[Handle, int, int]:
    """The buffer's handle, where in it the destination begins, and its bytes."""
    if isinstance(into, Buffer):
        return into._open(), 0, into.nbytes
    if not isinstance(into, Tensor):
        raise TypeError(
            f"a read goes into a gds.Buffer or gds.Tensor, not {type(into).__name__}: "
            "gds.read_into() takes tensors of frameworks"
        )
    if not into.contiguous:
        raise ValueError(f"cannot read into a tensor with gaps: {into!r}")
    return into._handle, into.offset, into.nbytes


class Future:
    """One read in flight: `result()`, `await`, `cancel()`.

    It keeps the file and the memory until the read is done, also if the future is dropped:
    then the read is cancelled first.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def result(self, timeout: Optional[float] = None) -> Result:
        """Waits at most `timeout` seconds for the read, and gives its result.

        Raises the gds.Error that it failed with: gds.CancelledError where it was cancelled.
        gds.TimedOutError leaves it in flight.
        """
        return self._batch.wait(timeout).result(0)

    def exception(self, timeout: Optional[float] = None) -> Optional[Error]:
        """Waits like `result()`, and gives the error of the read, or None."""
        return self._batch.wait(timeout).errors().get(0)

    def done(self) -> bool:
        """Whether the read is over, after a step of progress without waiting."""
        return self._batch.done()

    def cancelled(self) -> bool:
        """Whether it is over because it was cancelled."""
        return self.done() and getattr(self.exception(), "errno", 0) == errno.ECANCELED

    def cancel(self) -> bool:
        """Gives the read up. False if it was done before.

        It is over when the storage has let go of the memory, which `result()` waits for.
        """
        if self.done():
            return False
        self._batch.cancel()
        return True

    def __await__(self) -> Generator[Any, None, Result]:
        yield from self._batch._reader._watch.wait(self._batch).__await__()
        return self.result()

    def __repr__(self) -> str:
        return f"<gds.Future{', done' if self._batch._complete else ''}>"


class _Watch:
    """Wakes coroutines, of any event loop, when their batches are complete.

    The reader's eventfd says that some batch may be complete; each event loop with someone
    waiting looks at it, and whichever sees it first wakes the others.
    """

    def __init__(self, reader: Reader) -> None:
        self._eventfd: Callable[[], int] = reader.eventfd
        self._fd = -1
        self._closed = False
        self._lock = threading.Lock()
        self._waiting: Dict[asyncio.Future[None], Batch] = {}
        self._loops: Dict[asyncio.AbstractEventLoop, int] = {}

    async def wait(self, batch: Batch) -> None:
        """Until the batch is complete. If the task is cancelled, so are the reads."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._enter(loop, future, batch)
        try:
            # It may have been complete before anyone looked at the eventfd.
            if not batch.done():
                await future
        except asyncio.CancelledError:
            batch.cancel()
            # The memory is not the caller's again before this.
            await loop.run_in_executor(None, batch.wait)
            raise
        finally:
            self._leave(loop, future)

    def _enter(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None], batch: Batch
    ) -> None:
        with self._lock:
            # Where the reader was closed, its batches are complete or are about to be.
            if self._fd < 0 and not self._closed:
                self._fd = self._eventfd()
            self._waiting[future] = batch
            batch._waiters.append(future)
            self._loops[loop] = self._loops.get(loop, 0) + 1
            if self._loops[loop] == 1 and not self._closed:
                loop.add_reader(self._fd, self._look)

    def _leave(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
        with self._lock:
            self._waiting.pop(future, None)
            self._loops[loop] -= 1
            if self._loops[loop] == 0:
                del self._loops[loop]
                if not self._closed:
                    loop.remove_reader(self._fd)

    def close(self) -> None:
        """Has the event loops let go of the eventfd, before it is closed."""
        with self._lock:
            self._closed = True
            loops = list(self._loops)
        for loop in loops:
            if loop is _running_loop():
                loop.remove_reader(self._fd)
            else:
                _call_in(loop, functools.partial(loop.remove_reader, self._fd))

    def _look(self) -> None:
        """Takes the eventfd's count, then wakes whose batch is complete."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            pass
        self.wake()

    def wake(self) -> None:
        """Wakes whose batch is complete."""
        with self._lock:
            waiting = list(self._waiting.items())
        for future, batch in waiting:
            try:
                done = batch.done()
            except (Error, ValueError) as error:
                _tell(future, error)
                continue
            if done:
                _tell(future, None)


def _running_loop() -> Optional[asyncio.AbstractEventLoop]:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:  # that loop was closed meanwhile
        pass


def _tell(future: asyncio.Future[None], error: Optional[Exception]) -> None:
    def tell() -> None:
        if not future.done():
            if error:
                future.set_exception(error)
            else:
                future.set_result(None)

    _call_in(future.get_loop(), tell)


class Reader:
    """One engine that reads: an I/O lane, a scheduler and staging memory.

    lane             "auto", "uring" or "threads"
    queue_depth      operations in flight on each device of storage, 1 to 4096; default: as
                     many as saturate it, found by measuring
    in_flight_bytes  most bytes in flight on each device of storage; default 64 MiB
    threads          of the thread lane, 1 to 256; default 8
    transfer_bytes   most bytes of one operation, 4 KiB to 64 MiB; default 1 MiB
    staging_bytes    host memory for the bounce path and edges; default 64 MiB
    progress_thread  a thread of the library makes progress, so that reads go on while the
                     program does something else; without it they do so in the calls that
                     wait and poll
    single_thread    every call on the reader and its batches comes from one thread
    canary           prove the direct path before it is used; leave it on
    canary_interval  prove it again when the proof is older than so many seconds; 0: never
    dmabuf_shape     how the kernel's dma-buf interface is spoken: "pairs" of the second public
                     version, "descriptors" since the third, "newest" of those it knows

    Raises gds.Error: EINVAL for an option out of range, EPERM or ENOSYS where io_uring was
    asked for and the system refuses it.
    """

    def __init__(
        self,
        *,
        lane: str = "auto",
        queue_depth: int = 0,
        threads: int = 0,
        transfer_bytes: int = 0,
        staging_bytes: int = 0,
        progress_thread: bool = True,
        single_thread: bool = False,
        canary: bool = True,
        canary_interval: float = 0,
        in_flight_bytes: int = 0,
        dmabuf_shape: str = "newest",
    ) -> None:
        self._handle: Optional[Handle] = None
        self._mutex = threading.RLock()
        if dmabuf_shape not in _library.DMABUF_SHAPES:
            raise ValueError(
                f"no dmabuf_shape {dmabuf_shape!r}: there are {', '.join(_library.DMABUF_SHAPES)}"
            )
        if single_thread and progress_thread:
            progress_thread = False
        flags = _library.READER_SINGLE_THREAD if single_thread else 0
        flags |= _library.READER_PROGRESS_THREAD if progress_thread else 0
        flags |= 0 if canary else _library.READER_NO_CANARY
        options = _library.ReaderOptions(
            size=ctypes.sizeof(_library.ReaderOptions),
            flags=flags,
            lane=_number(lane, LANES, "lane"),
            queue_depth=whole(queue_depth, "queue_depth", 1 << 32),
            threads=whole(threads, "threads", 1 << 32),
            transfer_bytes=whole(transfer_bytes, "transfer_bytes"),
            staging_bytes=whole(staging_bytes, "staging_bytes"),
            dmabuf_shape=_library.DMABUF_SHAPES[dmabuf_shape],
            canary_interval_ns=nanoseconds(canary_interval, "canary_interval"),
            in_flight_bytes=whole(in_flight_bytes, "in_flight_bytes"),
        )
        pointer = ctypes.c_void_p()
        check(lib.gds_reader_open(ctypes.byref(pointer), ctypes.byref(options)))
        # Closed also at the end of the program: its storage is to let go of all memory.
        self._handle = Handle(pointer.value or 0, lib.gds_reader_close, at_exit=True)
        self._watch = _Watch(self)

    def _open(self) -> Handle:
        if self._handle is None:
            raise ValueError("the reader is closed")
        return self._handle

    @property
    def _lock(self) -> Any:
        # As a batch's.
        if self._handle is not None:
            self._handle.check_process()
        return self._mutex

    def close(self) -> None:
        """Closes the reader. Reads in flight are cancelled, and waited for."""
        if self._handle is None or self._handle.inherited:
            self._handle = None
            return
        self._watch.close()
        with self._lock:
            handle, self._handle = self._handle, None
        if handle:
            handle.close()
        self._watch.wake()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._handle is None:
            return "<gds.Reader, closed>"
        if self._handle.inherited:
            return "<gds.Reader, of a parent of this process>"
        stats = self.stats()
        said = ", ".join(f"{count} bytes by {path}" for path, count in stats.paths.items())
        return f"<gds.Reader, lane {stats.lane}: {stats.reads} reads, {said or 'no bytes yet'}>"

    # ---- Reading ----

    def read(
        self,
        file: File,
        into: Destination,
        offset: int = 0,
        length: Optional[int] = None,
        at: int = 0,
        *,
        path: str = "auto",
        fallback: bool = True,
        read_class: str = "foreground",
        deadline: Optional[float] = None,
    ) -> Result:
        """Reads `length` bytes at `offset` of `file` to byte `at` of `into`, and waits.

        `length` is all that `into` has room for where it is not given; the read is short
        where the file ends before. `path` "dmabuf", "mapped" or "bounce" pins the path, and
        `fallback` False forbids to change it on the way. `read_class` says whose reads go
        first, and `deadline`, in seconds, when one is given up: see `batch()`. Raises
        gds.Error with what failed.
        """
        with Batch(self, path, fallback, 1, read_class, deadline) as batch:
            batch.add(file, into, offset, length, at)
            return batch.submit().wait().result(0)

    def submit(
        self,
        file: File,
        into: Destination,
        offset: int = 0,
        length: Optional[int] = None,
        at: int = 0,
        *,
        path: str = "auto",
        fallback: bool = True,
        read_class: str = "foreground",
        deadline: Optional[float] = None,
    ) -> Future:
        """Starts a read, as `read()` makes it, and returns without waiting."""
        batch = Batch(self, path, fallback, 1, read_class, deadline)
        batch.add(file, into, offset, length, at)
        return Future(batch.submit())

    def batch(
        self,
        *,
        path: str = "auto",
        fallback: bool = True,
        capacity: int = 0,
        read_class: str = "foreground",
        deadline: Optional[float] = None,
    ) -> Batch:
        """An empty batch, with room for `capacity` reads; it grows as needed.

        path, fallback  as for `read()`
        read_class      whose reads go first where several wait for one device of storage:
                        "foreground" (someone waits), "prefetch" (wanted soon), "background".
                        Each class gets its share, 16 to 4 to 1, so that none starves
        deadline        seconds from `submit()` on, after which reads that are not done end
                        with DeadlineError; they are over when the storage has let go of the
                        memory
        """
        return Batch(self, path, fallback, capacity, read_class, deadline)

    # ---- What it tells ----

    def eventfd(self) -> int:
        """A descriptor that polls readable when a batch may be complete; the reader's own."""
        with self._lock:
            return check(lib.gds_reader_eventfd(self._open().pointer))

    def stats(self) -> Stats:
        """What it has done so far, and by which paths."""
        raw = _library.Stats(size=ctypes.sizeof(_library.Stats))
        with self._lock:
            check(lib.gds_reader_stats(self._open().pointer, ctypes.byref(raw)))
        made: Dict[str, Any] = {"lane": LANES[raw.lane], "paths": path_bytes(raw.path_bytes)}
        made["classes"] = {
            name: ClassStats(reads, nbytes, ns / 1e9)
            for name, reads, nbytes, ns in zip(
                CLASSES, raw.class_reads, raw.class_bytes, raw.class_ns
            )
        }
        plain = {name: getattr(raw, name) for name in Stats._fields if name not in made}
        return Stats(**plain, **made)

    def storage(self) -> List[StorageStats]:
        """The devices of storage that it has met, the latest first, and its use of each."""
        found: List[StorageStats] = []
        raw = _library.StorageStats(size=ctypes.sizeof(_library.StorageStats))
        with self._lock:
            while True:
                result = lib.gds_reader_storage(
                    self._open().pointer, len(found), ctypes.byref(raw)
                )
                if result == -errno.ENOENT:
                    return found
                check(result)
                found.append(_storage_stats(raw))

    def lane_reason(self) -> str:
        """Why the lane is not io_uring, or what this kernel's lacks; empty if nothing."""
        with self._lock:
            return text(lib.gds_reader_lane_reason(self._open().pointer))

    def explain(self, file: File, buffer: Destination) -> Explanation:
        """Which path reads of `file` into `buffer` take, and why not another.

        Where the direct path is not proven yet, it is now, with a read into the start of the
        buffer, whose contents are put back: nothing else may use the buffer meanwhile.
        """
        raw = _library.Explanation(size=ctypes.sizeof(_library.Explanation))
        with self._lock:
            check(
                lib.gds_explain(
                    self._open().pointer,
                    _file_handle(file).pointer,
                    _place(buffer)[0].pointer,
                    ctypes.byref(raw),
                )
            )
        verdicts = {
            name: Verdict(bool(v.usable), text(v.reason), text(v.remedy))
            for name, v in list(zip(PATHS, raw.paths))[1:]
        }
        return Explanation(
            PATHS[raw.path],
            LANES[raw.lane],
            bool(raw.direct),
            int(raw.offset_alignment),
            int(raw.memory_alignment),
            text(raw.direct_reason),
            text(raw.lane_reason),
            verdicts,
            text(raw.kernel),
            text(raw.layout),
            text(raw.drives),
        )


def _storage_stats(raw: _library.StorageStats) -> StorageStats:
    return StorageStats(
        text(raw.name),
        int(raw.reads),
        int(raw.reads_failed),
        int(raw.reads_merged),
        int(raw.operations),
        int(raw.bytes),
        int(raw.in_flight),
        int(raw.depth),
        int(raw.transfer_bytes),
        bool(raw.rotational),
    )


_default_lock = threading.Lock()
_default: Optional[Reader] = None


@after_fork
def _forget_default() -> None:
    global _default, _default_lock
    _default_lock, _default = threading.Lock(), None


def default_reader() -> Reader:
    """A reader of this process, opened when it is first needed, with the default options."""
    global _default
    with _default_lock:
        if _default is None or _default._handle is None:
            _default = Reader()
        return _default
