# SPDX-License-Identifier: Apache-2.0
"""Reads files into GPU memory by the shortest path the machine allows.

    import gds, numpy

    with gds.Reader() as reader, gds.Device("vulkan:0") as device, gds.File("data") as file:
        buffer = device.alloc(file.nbytes)
        result = reader.read(file, buffer)
        print(result.nbytes, "bytes by", result.paths)
        array = numpy.asarray(buffer)       # no copy; it keeps the memory

    gds.read_into(tensor, "data", offset=4096)  # a framework's own memory

gds.safetensors loads checkpoints, gds.datasets feeds training, gds.torch puts that into a
DataLoader. Sizes and offsets are in bytes, times in seconds or, with _ns, in nanoseconds of
time.monotonic_ns(). Errors are OSErrors with an errno and the library's message. After
fork() a child opens objects of its own: those of its parent raise RuntimeError there, but what
was read before is there to be used.
"""

from ._errors import CancelledError, DeadlineError, Error, TimedOutError
from ._into import as_destination, read_into
from ._library import lib as _lib
from ._log import set_log_level
from ._memory import Buffer, Device, DeviceInfo, VulkanRange, devices
from ._reader import (
    Batch,
    ClassStats,
    Explanation,
    File,
    Future,
    Reader,
    Result,
    Stats,
    StorageStats,
    Verdict,
    default_reader,
)
from ._tensor import DType, Tensor

__version__: str = _lib.gds_version().decode()

__all__ = [
    "Batch",
    "Buffer",
    "CancelledError",
    "ClassStats",
    "DType",
    "DeadlineError",
    "Device",
    "DeviceInfo",
    "Error",
    "Explanation",
    "File",
    "Future",
    "Reader",
    "Result",
    "Stats",
    "StorageStats",
    "Tensor",
    "TimedOutError",
    "Verdict",
    "VulkanRange",
    "as_destination",
    "default_reader",
    "devices",
    "read_into",
    "set_log_level",
]
