# SPDX-License-Identifier: Apache-2.0
"""The C library: where it is found, its structures and the types of its calls.

The structures mirror include/gds/gds.h, which says what each field means. ctypes
releases the interpreter's lock for the time of each call.
"""

from __future__ import annotations

import ctypes
import operator
import os
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_int,
    c_int64,
    c_size_t,
    c_ssize_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, Dict, List, Optional, Tuple, Union

VERSION = (0, 1)  # what of the library this package was written for
PATHS = ("auto", "dmabuf", "mapped", "bounce")
LANES = ("auto", "uring", "threads")
CLASSES = ("foreground", "prefetch", "background")
PATH_COUNT = len(PATHS)
CLASS_COUNT = len(CLASSES)
DMABUF_SHAPES = {"newest": 0, "pairs": 2, "descriptors": 3}

READER_SINGLE_THREAD = 1 << 0
READER_PROGRESS_THREAD = 1 << 1
READER_NO_CANARY = 1 << 2
BUFFER_HOST = 1 << 0
BATCH_NO_FALLBACK = 1 << 0


class ReaderOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("flags", c_uint32),
        ("lane", c_uint32),
        ("queue_depth", c_uint32),
        ("threads", c_uint32),
        ("transfer_bytes", c_uint64),
        ("staging_bytes", c_uint64),
        ("dmabuf_shape", c_uint32),
        ("canary_interval_ns", c_uint64),
        ("in_flight_bytes", c_uint64),
    ]


class Stats(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("reads", c_uint64),
        ("reads_failed", c_uint64),
        ("reads_cancelled", c_uint64),
        ("path_bytes", c_uint64 * PATH_COUNT),
        ("operations", c_uint64),
        ("retries", c_uint64),
        ("fallbacks", c_uint64),
        ("device_copies", c_uint64),
        ("in_flight", c_uint64),
        ("in_flight_peak", c_uint64),
        ("staging_bytes", c_uint64),
        ("lane", c_uint32),
        ("canaries", c_uint64),
        ("canaries_failed", c_uint64),
        ("reads_merged", c_uint64),
        ("reads_expired", c_uint64),
        ("storage_devices", c_uint64),
        ("class_reads", c_uint64 * CLASS_COUNT),
        ("class_bytes", c_uint64 * CLASS_COUNT),
        ("class_ns", c_uint64 * CLASS_COUNT),
    ]


class StorageStats(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char * 32),
        ("reads", c_uint64),
        ("reads_failed", c_uint64),
        ("reads_merged", c_uint64),
        ("operations", c_uint64),
        ("bytes", c_uint64),
        ("in_flight", c_uint64),
        ("depth", c_uint64),
        ("transfer_bytes", c_uint64),
        ("rotational", c_uint64),
    ]


class DeviceInfo(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char * 64),
        ("description", c_char * 256),
        ("driver", c_char * 128),
        ("memory_bytes", c_uint64),
        ("unified", c_uint32),
        ("pci", c_char * 24),
    ]


class Request(Structure):
    _fields_ = [
        ("file", c_void_p),
        ("buffer", c_void_p),
        ("offset", c_uint64),
        ("length", c_uint64),
        ("buffer_offset", c_uint64),
        ("user_data", c_uint64),
    ]


class Result(Structure):
    _fields_ = [
        ("bytes", c_int64),
        ("user_data", c_uint64),
        ("path_bytes", c_uint64 * PATH_COUNT),
        ("error_offset", c_uint64),
        ("issued_ns", c_uint64),
        ("completed_ns", c_uint64),
    ]


class BatchOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("path", c_uint32),
        ("flags", c_uint32),
        ("capacity", c_size_t),
        ("deadline_ns", c_uint64),
        ("read_class", c_uint32),
        ("reserved", c_uint32),
    ]


class PathVerdict(Structure):
    _fields_ = [("usable", c_uint32), ("reason", c_char * 256), ("remedy", c_char * 256)]


class Explanation(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("path", c_uint32),
        ("lane", c_uint32),
        ("direct", c_uint32),
        ("offset_alignment", c_uint32),
        ("memory_alignment", c_uint32),
        ("direct_reason", c_char * 256),
        ("lane_reason", c_char * 256),
        ("paths", PathVerdict * PATH_COUNT),
        ("kernel", c_char * 128),
        ("layout", c_char * 512),
        ("drives", c_char * 1024),
    ]


class VulkanDevice(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("get_instance_proc_addr", c_void_p),
        ("instance", c_void_p),
        ("physical_device", c_void_p),
        ("device", c_void_p),
        ("queue", c_void_p),
        ("queue_family", c_uint32),
        ("has_external_memory_host", c_uint32),
        ("has_external_memory_dma_buf", c_uint32),
        ("has_queue_family_foreign", c_uint32),
        ("lock", c_void_p),
        ("unlock", c_void_p),
        ("user", c_void_p),
    ]


class VulkanBuffer(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("buffer", c_uint64),
        ("memory", c_uint64),
        ("memory_offset", c_uint64),
        ("bytes", c_uint64),
        ("memory_type", c_uint32),
        ("mapping", c_void_p),
        ("exportable", c_uint32),
        ("concurrent", c_uint32),
    ]


VISIT = CFUNCTYPE(c_int, c_char_p, POINTER(DeviceInfo), c_char_p, c_void_p)
LOG = CFUNCTYPE(None, c_int, c_char_p, c_void_p)
QUEUE_LOCK = CFUNCTYPE(None, c_void_p)

# Name, result, arguments. A result of c_int, c_int64 or c_ssize_t below zero is an errno.
_CALLS: List[Tuple[str, Any, List[Any]]] = [
    ("gds_version", c_char_p, []),
    ("gds_last_error", c_char_p, []),
    ("gds_log_set", None, [c_int, c_void_p, c_void_p]),
    ("gds_reader_open", c_int, [POINTER(c_void_p), POINTER(ReaderOptions)]),
    ("gds_reader_close", None, [c_void_p]),
    ("gds_reader_eventfd", c_int, [c_void_p]),
    ("gds_reader_stats", c_int, [c_void_p, POINTER(Stats)]),
    ("gds_reader_storage", c_int, [c_void_p, c_size_t, POINTER(StorageStats)]),
    ("gds_reader_lane_reason", c_char_p, [c_void_p]),
    ("gds_device_list", c_int, [VISIT, c_void_p]),
    ("gds_device_open", c_int, [POINTER(c_void_p), c_char_p]),
    ("gds_device_close", None, [c_void_p]),
    ("gds_device_get_info", c_int, [c_void_p, POINTER(DeviceInfo)]),
    ("gds_device_import_vulkan", c_int, [POINTER(c_void_p), POINTER(VulkanDevice)]),
    ("gds_buffer_alloc", c_int, [POINTER(c_void_p), c_void_p, c_uint64, c_uint32]),
    ("gds_buffer_import_host", c_int, [POINTER(c_void_p), c_void_p, c_void_p, c_uint64]),
    (
        "gds_buffer_import_vulkan",
        c_int,
        [POINTER(c_void_p), c_void_p, POINTER(VulkanBuffer)],
    ),
    ("gds_buffer_import_cuda", c_int, [POINTER(c_void_p), c_void_p, c_uint64, c_uint64]),
    (
        "gds_buffer_import_dmabuf",
        c_int,
        [POINTER(c_void_p), c_void_p, c_int, c_uint64, c_uint64],
    ),
    ("gds_buffer_free", None, [c_void_p]),
    ("gds_buffer_host", c_void_p, [c_void_p]),
    (
        "gds_buffer_get_vulkan",
        c_int,
        [c_void_p, c_uint64, POINTER(c_uint64), POINTER(c_uint64), POINTER(c_uint64)],
    ),
    ("gds_buffer_get_cuda", c_int, [c_void_p, POINTER(c_uint64)]),
    ("gds_buffer_copy_out", c_int, [c_void_p, c_uint64, c_void_p, c_size_t]),
    ("gds_buffer_copy_in", c_int, [c_void_p, c_uint64, c_void_p, c_size_t]),
    ("gds_buffer_checksum", c_int, [c_void_p, c_uint64, c_uint64, POINTER(c_uint32)]),
    ("gds_file_open", c_int, [POINTER(c_void_p), c_char_p]),
    ("gds_file_close", None, [c_void_p]),
    ("gds_file_bytes", c_int64, [c_void_p]),
    ("gds_batch_create", c_int, [POINTER(c_void_p), c_void_p, POINTER(BatchOptions)]),
    ("gds_batch_add", c_ssize_t, [c_void_p, POINTER(Request), c_size_t]),
    ("gds_batch_submit", c_int, [c_void_p]),
    ("gds_batch_wait", c_int, [c_void_p, c_int64]),
    ("gds_batch_poll", c_ssize_t, [c_void_p]),
    ("gds_batch_cancel", c_int, [c_void_p]),
    ("gds_batch_count", c_size_t, [c_void_p]),
    ("gds_batch_result", c_int, [c_void_p, c_size_t, POINTER(Result)]),
    ("gds_batch_failures", c_ssize_t, [c_void_p, POINTER(c_size_t)]),
    ("gds_batch_reset", c_int, [c_void_p]),
    ("gds_batch_destroy", None, [c_void_p]),
    ("gds_batch_signal_vulkan", c_int, [c_void_p, c_void_p, c_uint64, c_uint64]),
    ("gds_batch_stream_wait_cuda", c_int, [c_void_p, c_void_p, c_void_p]),
    ("gds_explain", c_int, [c_void_p, c_void_p, c_void_p, POINTER(Explanation)]),
]

# What the library exports and this package has no use for, and why.
UNUSED = {
    "gds_read": "Reader.read() makes a batch, which Ctrl-C gets through and which can be cancelled",
    "gds_buffer_bytes": "a Buffer knows its size since it was made",
    "gds_path_name": "the names are PATHS",
    "gds_lane_name": "the names are LANES",
    "gds_class_name": "the names are CLASSES",
    "gds_backend_register": "a backend's calls come from any thread, at any time: it is for C",
    "gds_backend_buffer_memory": "for backends",
    "gds_backend_fail": "for backends",
}


def _candidates() -> List[str]:
    """Where the library may be: named by the user, in this package, or of the system."""
    named = os.environ.get("GDS_LIBRARY")
    if named:
        return [named]
    own = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libgds.so.0")
    return ([own] if os.path.exists(own) else []) + ["libgds.so.0"]


def _load() -> ctypes.CDLL:
    failures = []
    for candidate in _candidates():
        try:
            library = ctypes.CDLL(candidate)
        except OSError as error:
            failures.append(f"{candidate}: {error}")
            continue
        return _declare(library, candidate)
    raise ImportError(
        "cannot load libgds.so.0 (" + "; ".join(failures) + "): install gds, "
        "or name the library in the environment variable GDS_LIBRARY"
    )


def _declare(library: ctypes.CDLL, name: str) -> ctypes.CDLL:
    for call, result, arguments in _CALLS:
        try:
            function = getattr(library, call)
        except AttributeError:
            raise ImportError(f"{name} has no {call}: it is older than this package") from None
        function.restype = result
        function.argtypes = arguments
    version = tuple(int(part) for part in library.gds_version().decode().split(".")[:2])
    if version != VERSION:
        raise ImportError(
            f"{name} is gds {version[0]}.{version[1]}, "
            f"and this package is for {VERSION[0]}.{VERSION[1]}"
        )
    return library


lib = _load()


def last_error() -> str:
    """What this thread's last failed call had to say."""
    text: bytes = lib.gds_last_error()
    return text.decode(errors="replace")


def whole(value: Any, what: str, limit: int = 1 << 64) -> int:
    """A whole number from 0 on and below `limit`, as C has them, or what is wrong with it."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} is a whole number, not {type(value).__name__}") from None
    if not 0 <= number < limit:
        raise ValueError(f"{what} of {number} is not between 0 and {limit - 1}")
    return number


def c_text(value: Union[str, bytes], what: str) -> bytes:
    """Text as C has it. Raises ValueError where it would end it early."""
    raw = os.fsencode(value)
    if b"\0" in raw:
        raise ValueError(f"{what} has a zero byte in it: {value!r}")
    return raw


def nanoseconds(seconds: Any, what: str) -> int:
    """Seconds as C has them, or what is wrong with them."""
    try:
        return whole(round(seconds * 10**9), what)
    except (OverflowError, ValueError):
        raise ValueError(f"{what} of {seconds} seconds") from None
    except TypeError:
        raise TypeError(f"{what} is a number of seconds, not {type(seconds).__name__}") from None


def path_bytes(array: Any) -> Dict[str, int]:
    """Path to bytes, of the paths that carried any."""
    return {name: int(array[i]) for i, name in enumerate(PATHS) if array[i]}


def text(value: Optional[bytes]) -> str:
    return value.decode(errors="replace") if value else ""
